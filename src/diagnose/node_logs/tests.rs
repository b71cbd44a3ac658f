//! Every recording says exactly what it was made to say; healthy ones say nothing.

use super::*;
use crate::facts::unix_seconds;
use std::io::Read as _;

/// `2026-11-23T17:11:01+00:00 k2 kubelet[2722]: text`.
fn parse(line: &str) -> Option<NodeLogEntry> {
    let (time, rest) = line.split_once(' ')?;
    let (_node, rest) = rest.split_once(' ')?;
    let (tag, message) = rest.split_once(": ")?;
    let (program, pid) = tag
        .split_once('[')
        .map_or((tag, None), |(program, pid)| (program, pid.trim_end_matches(']').parse().ok()));
    let unit = match program {
        "kernel" => None,
        "systemd" => message.split([' ', ':']).find(|word| word.ends_with(".service")),
        "kubelet" => Some("kubelet.service"),
        _ => Some("containerd.service"),
    };
    Some(NodeLogEntry {
        realtime_us: u64::try_from(unix_seconds(time)?).unwrap() * 1_000_000,
        unit: unit.map(Into::into),
        identifier: Some(program.into()),
        transport: Some(if program == "kernel" { "kernel" } else { "stdout" }.into()),
        pid,
        priority: None,
        message: message.to_owned(),
        boot_id: None,
        source: "/var/log/journal/x/system.journal".into(),
    })
}

fn log(text: &str) -> NodeLog {
    NodeLog {
        entries: text.lines().filter_map(parse).collect(),
        sources: vec!["x".into()],
        ..NodeLog::default()
    }
}

fn recorded(name: &str) -> NodeLog {
    let path = format!("{}/tests/fixtures/journal/lines/{name}.gz", env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    log(&text)
}

/// Ids as of the end of the log; those that are over in brackets.
fn ids(log: &NodeLog, later_us: u64) -> Vec<String> {
    let now = log.entries.last().unwrap().realtime_us + later_us;
    let name =
        |cause: LogCause| if cause.over { format!("({})", cause.rule.id) } else { cause.rule.id.to_owned() };
    let mut ids: Vec<String> = find_causes(log, now).into_iter().map(name).collect();
    ids.sort();
    ids
}

const TABLE: &[(&str, &[&str])] = &[
    ("healthy-start-and-steady", &[]),
    ("healthy-containerd-2", &[]),
    ("job-completed-not-a-fault", &[]),
    ("crashloop", &[]),
    ("bad-command", &[]),
    ("image-pull-failure", &[]),
    ("init-container-fails", &[]),
    ("liveness-probe-fails", &[]),
    ("container-oom", &[]),
    ("node-shutdown", &[]),
    ("containerd-oom-exit-lines", &[]),
    ("runtime-sigstop-pleg.containerd", &[]),
    ("runtime-sigstop-pleg", &["node.pleg_unhealthy"]),
    ("runtime-dead", &["(node.runtime_unreachable)", "node.api_unreachable"]),
    ("cri-plugin-disabled", &["node.cri_unimplemented"]),
    ("containerd-config-broken", &["node.runtime_unreachable"]),
    ("containerd-config-broken.containerd", &["node.runtime_config"]),
    ("cgroup-driver-kubelet-cgroupfs-runtime-systemd", &["node.cgroup_driver_logged"]),
    // containerd was restarted with the other driver.
    (
        "cgroup-driver-kubelet-systemd-runtime-cgroupfs",
        &["(node.runtime_unreachable)", "node.cgroup_driver_logged"],
    ),
    ("cni-config-removed", &["node.cni_not_initialised"]),
    ("ip-range-exhausted", &["node.ipam_exhausted"]),
    ("client-cert-expired-static-kubeconfig", &["node.api_unauthorized", "node.cni_not_initialised"]),
    (
        "client-cert-expired-bootstrap-missing",
        &[
            "(node.api_unauthorized)",
            "(node.cni_not_initialised)",
            "node.certificate_expired_logged",
            "node.kubelet_fails",
        ],
    ),
    ("config-unknown-field", &["node.cni_not_initialised", "node.kubelet_config_ignored"]),
    // The text has whole seconds: the restart is no later than the line before it.
    ("config-bad-yaml", &["node.cni_not_initialised", "node.kubelet_config"]),
    ("config-wrong-type", &["node.kubelet_config"]),
    ("config-invalid-values", &["node.kubelet_config"]),
    ("config-missing", &["node.kubelet_config"]),
    ("cgroup-v1-refused", &["node.cgroup_v1_refused"]),
    ("swap-on", &["(node.cgroup_driver_logged)", "node.swap"]),
    ("shutdown-grace-start", &["node.cni_not_initialised"]),
    ("container-oom.kmsg", &["node.oom_container"]),
    ("kubelet-oom-and-crash-lines", &[]),
];

#[test]
fn every_recording_says_what_it_was_made_to_say() {
    let told: Vec<(&str, Vec<String>)> =
        TABLE.iter().map(|(name, _)| (*name, ids(&recorded(name), 120_000_000))).collect();
    let wanted: Vec<(&str, Vec<String>)> =
        TABLE.iter().map(|(name, ids)| (*name, ids.iter().map(ToString::to_string).collect())).collect();
    assert_eq!(told, wanted);
}

#[test]
fn no_recording_is_left_out() {
    let folder =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/journal/lines")).unwrap();
    let mut names: Vec<String> =
        folder.map(|f| f.unwrap().file_name().to_str().unwrap().trim_end_matches(".gz").to_owned()).collect();
    let mut tested: Vec<String> = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    tested.sort();
    assert_eq!(names, tested);
}

#[test]
fn what_is_not_said_again_is_over() {
    let hour = 3_600_000_000;
    assert_eq!(ids(&recorded("runtime-sigstop-pleg"), hour), ["(node.pleg_unhealthy)"]);
    // An OOM kill is no state that ends.
    assert_eq!(ids(&recorded("container-oom.kmsg"), hour), ["node.oom_container"]);
    let cause = find_causes(&recorded("runtime-sigstop-pleg"), u64::MAX).remove(0);
    let finding = log_finding(&cause);
    assert_eq!(finding.severity, Severity::Info);
    assert!(finding.summary.ends_with("and not since: it seems to be over)"), "{}", finding.summary);
}

const T: &str = "2026-11-23T17:00:00+00:00 n";

#[test]
fn a_start_of_the_kubelet_ends_what_it_does_not_say_again() {
    let swap = format!("{T} kubelet[1]: \"command failed\" err=\"running with swap on is not supported\"");
    let start = "2026-11-23T17:00:10+00:00 n systemd[1]: Started kubelet.service - kubelet.";
    let text = format!("{swap}\n{start}");
    assert_eq!(ids(&log(&text), 10_000_000), ["node.swap"], "it may be about to fail again");
    assert_eq!(ids(&log(&text), 120_000_000), ["(node.swap)"]);
}

#[test]
fn lines_of_the_table_and_of_older_versions() {
    for (line, id) in [
        (
            r#"kubelet[1]: F1: misconfiguration: kubelet cgroup driver: "systemd" is different from docker cgroup driver: "cgroupfs""#,
            "node.cgroup_driver_logged",
        ),
        (
            "kubelet[1]: skipping pod synchronization - [PLEG is not healthy: pleg was last seen active 3m7s ago; threshold is 3m0s]",
            "node.pleg_unhealthy",
        ),
        (
            "kubelet[1]: Container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:docker: network plugin is not ready: cni config uninitialized",
            "node.cni_not_initialised",
        ),
        (
            "crio[1]: No CNI configuration file in /etc/cni/net.d/. Has your network provider started?",
            "node.cni_not_initialised",
        ),
        ("kubelet[1]: add cmd: failed to assign an IP address to container", "node.ipam_exhausted"),
        ("kubelet[1]: duplicate allocation is not allowed", "node.ipam_duplicate"),
        (
            r#"kubelet[1]: I1 eviction_manager.go:1] "Eviction manager: attempting to reclaim" resourceName="memory""#,
            "node.eviction",
        ),
        (
            r#"kubelet[1]: E1 "System OOM encountered" err="System OOM encountered, victim process: x, pid: 1""#,
            "node.oom_system",
        ),
        ("kubelet[1]: E1 unable to update logind InhibitDelayMaxSec to 60s", "node.inhibit_delay"),
        (
            "systemd[1]: kubelet.service: A process of this unit has been killed by the OOM killer.",
            "node.kubelet_oom_killed",
        ),
        ("systemd[1]: containerd.service: Failed with result 'oom-kill'.", "node.runtime_oom_killed"),
        ("kernel: nf_conntrack: nf_conntrack: table full, dropping packet", "node.conntrack_full"),
        ("kernel: neighbour: arp_cache: neighbor table overflow!", "node.neighbour_overflow_logged"),
        ("kernel: Out of memory: Killed process 9 (java) total-vm:1kB", "node.oom_system"),
        (
            "kernel: oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/system.slice/kubelet.service,task=kubelet,pid=9,uid=0",
            "node.kubelet_oom_killed",
        ),
        ("kernel: INFO: task nfsd:77 blocked for more than 120 seconds.", "node.hung_task"),
        ("kernel: EXT4-fs error (device sda1): ext4_find_entry:1", "node.disk_error"),
    ] {
        assert_eq!(ids(&log(&format!("{T} {line}")), 0), [id], "{line}");
    }
}

#[test]
fn what_a_pod_makes_others_write_is_no_cause() {
    for line in [
        r#"kubelet[1]: "Probe failed" pod="a/b" output="Skipping pod synchronization PLEG is not healthy: pleg was last seen active""#,
        r#"kubelet[1]: "Server rejected event" event="&Event{Message:no IP addresses available in range set""#,
        r#"kubelet[1]: "Unhandled Error" err="runc: exec: \"/bin/cni plugin not initialized\": no such file""#,
        r#"kubelet[1]: "Error syncing pod" err="failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error mounting \"/v\" to rootfs at \"/etc/passwd/no IP addresses available in range set\": not a directory""#,
        r#"containerd[1]: level=error msg="runc create failed: container_linux.go:380: starting container process caused: process_linux.go:545: mounting \"/v\" caused: cni plugin not initialized""#,
        r#"kubelet[1]: "Error syncing pod" err="crun: chdir to `/unknown service runtime.v1`: No such file or directory""#,
        r#"kubelet[1]: "MountVolume.SetUp failed" err="hostPath type check failed: /expected cgroupsPath to be of format is not a directory""#,
        r#"kubelet[1]: "Exec lifecycle hook for Container in Pod failed" execCommand=["sh","-c","cni plugin not initialized"]"#,
        "kernel: CPU: 0 PID: 1 Comm: nf_conntrack: table full, dropping packet",
        "kernel: [x] Out of memory: Killed process 9 (java)",
        "kubelet[1]: nf_conntrack: table full, dropping packet",
        "kubelet[1]: kubelet.service: killed by the OOM killer",
        r#"kubelet[1]: "Skipping pod synchronization" err="PLEG is not healthy: pleg has yet to be successful""#,
    ] {
        assert_eq!(ids(&log(&format!("{T} {line}")), 0), [] as [String; 0], "{line}");
    }
}

#[test]
fn a_cause_becomes_a_finding_with_its_last_line() {
    let log = recorded("runtime-sigstop-pleg");
    let findings = check_node_log(&log, log.entries.last().unwrap().realtime_us);
    assert_eq!(findings.len(), 1);
    let finding = &findings[0];
    assert_eq!(finding.severity, Severity::Critical);
    let last = finding.evidence[0].value.as_str().unwrap();
    assert!(last.contains("threshold is 3m0s"), "{last}");
    assert!(finding.evidence[0].source.ends_with("(kubelet.service)"));
    assert!(
        finding.summary.contains("logged ") && finding.summary.contains(" times from 2026-11-23T17:05:"),
        "{}",
        finding.summary
    );
    assert!(log.entries.iter().any(|entry| !concerns(entry)));
}

#[test]
fn a_log_that_could_not_be_read_is_not_checked() {
    let mut log = NodeLog::default();
    assert_eq!(log_check(&log, 0).outcome, crate::facts::Outcome::NotChecked);
    log.sources.push("/var/log/journal/x/system.journal".into());
    assert_eq!(log_check(&log, 0).outcome, crate::facts::Outcome::Passed);
    log.unread.push(("/x".into(), "in part: damaged".into()));
    assert_eq!(log_check(&log, 0).outcome, crate::facts::Outcome::NotChecked);
    assert_eq!(log_check(&log, 2).outcome, crate::facts::Outcome::Failed);
    assert_eq!(check_node_log(&log, 0)[0].id, "node.log_unreadable");
}
