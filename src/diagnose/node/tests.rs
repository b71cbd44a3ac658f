use super::prevent::{quantity, rule_of_thumb};
use super::*;
use crate::facts::{
    Blocked, CertificateLife, CniFile, CniNetwork, DegradedReason, DiskUse, KubeletConfig, Limit, LimitKind,
    NodeProcesses, PluginBinary, Pressure, RuntimeConfig, Stated,
};

const DAY: i64 = 86_400;
const GIB: u64 = 1 << 30;

fn well() -> NodeState {
    let mut processes =
        NodeProcesses { kubelet: Some(vec!["kubelet".into()]), problem_detector: true, ..Default::default() };
    processes.pod_cgroups.insert(CgroupDriver::Systemd, "/kubepods.slice/x".into());
    let stated = |value: &str| Stated { value: value.to_owned(), source: "config.yaml".into() };
    NodeState {
        processes: Ok(processes),
        kubelet: Ok(KubeletConfig {
            files: vec!["config.yaml".into()],
            cgroup_driver: Some(stated("systemd")),
            kube_reserved: [("memory".to_owned(), "2Gi".to_owned())].into(),
            ..KubeletConfig::default()
        }),
        runtime: Ok(RuntimeConfig {
            runtime: "containerd",
            driver: Stated { value: CgroupDriver::Systemd, source: "config.toml".into() },
            hands_driver: false,
            plugin_folders: vec![],
        }),
        pressure: ["cpu", "io", "memory"].map(|n| (n, Ok(Pressure { some: 1.0, full: 0.0 }))).into(),
        disks: vec![DiskUse {
            path: "/".into(),
            size_bytes: 100,
            free_bytes: 50,
            inodes: 100,
            free_inodes: 50,
        }],
        silent_folders: Vec::new(),
        limits: vec![Limit {
            kind: LimitKind::Tasks,
            what: "threads".into(),
            used: 1,
            at_least: false,
            limit: 10,
            source: "kernel.pid_max".into(),
            counted: "/proc/loadavg",
        }],
        certificates: vec![CertificateLife { path: "c.pem".into(), client: true, life: Ok((0, 100 * DAY)) }],
        clock_synchronised: Ok(true),
        plugins: vec![PluginBinary { kind: "bridge".into(), found: Ok("/opt/cni/bin/bridge".into()) }],
        memory_bytes: Some(4 * GIB),
        inhibit_delay_ms: Some(5000),
        kubelet_inhibits: Some(true),
    }
}

fn file(path: &str, content: Result<CniNetwork, String>) -> CniFile {
    CniFile { path: path.into(), modified: None, content }
}

struct Case {
    state: NodeState,
    cni: CniConfig,
    ms: f64,
    degraded: Option<Degraded>,
}

fn case(change: impl FnOnce(&mut Case)) -> (Vec<&'static str>, Health, Looked) {
    let files = vec![file("10-a.conflist", Ok(CniNetwork::default()))];
    let mut case =
        Case { state: well(), cni: CniConfig { files, ..CniConfig::default() }, ms: 2.0, degraded: None };
    change(&mut case);
    let calls = [CallTime { call: "ListPodSandbox", ms: case.ms }];
    let mut looked = check_node(NodeView {
        state: &case.state,
        cni: &case.cni,
        calls: if case.degraded.is_some() { &[] } else { &calls },
        degraded: case.degraded.as_ref(),
        endpoint: None,
        now: 50 * DAY,
    });
    looked.checks.push(Check::passed("net.forwarding", ""));
    let ids = looked.findings.iter().map(|f| f.id).collect();
    let verdict = node_verdict(&looked.findings, &looked.checks);
    (ids, verdict, looked)
}

fn ids(change: impl FnOnce(&mut Case)) -> (Vec<&'static str>, Health) {
    let (ids, verdict, _) = case(change);
    (ids, verdict)
}

#[test]
fn a_node_that_is_well_has_no_finding() {
    assert_eq!(ids(|_| {}), (vec![], Health::Healthy));
}

#[test]
fn a_machine_without_a_kubelet_is_never_healthy_and_one_that_lost_it_is_broken() {
    let without = |c: &mut Case| c.state.processes.as_mut().unwrap().kubelet = None;
    assert_eq!(ids(without), (vec!["node.kubelet_down"], Health::Broken));
    let none = |c: &mut Case| {
        without(c);
        c.state.kubelet = Err("config.yaml: not found".into());
    };
    assert_eq!(ids(none), (vec![], Health::Unknown));
    assert_eq!(ids(|c| c.state.processes = Err("no /proc".into())), (vec![], Health::Unknown));
}

#[test]
fn a_machine_that_is_no_node_lacks_nothing() {
    let bare = |c: &mut Case| {
        c.state.processes.as_mut().unwrap().kubelet = None;
        c.state.kubelet = Err("config.yaml: not found".into());
        c.cni.files.clear();
        c.degraded = Some(Degraded { reason: DegradedReason::NoRuntime, detail: "no socket".into() });
    };
    assert_eq!(ids(bare), (vec!["runtime.missing"], Health::Unknown));
}

#[test]
fn a_runtime_that_hangs_or_is_slow_is_told() {
    let hung = |c: &mut Case| {
        c.degraded = Some(Degraded { reason: DegradedReason::RuntimeHung, detail: "no answer".into() });
    };
    assert_eq!(ids(hung), (vec!["runtime.hung"], Health::Degraded));
    assert_eq!(ids(|c| c.ms = 900.0), (vec!["node.runtime_slow"], Health::Degraded));
}

#[test]
fn drivers_that_differ_are_told_unless_the_kubelet_gave_way() {
    let differ = |c: &mut Case| {
        c.state.runtime.as_mut().unwrap().driver.value = CgroupDriver::Cgroupfs;
    };
    assert_eq!(ids(differ), (vec!["node.cgroup_driver_differs"], Health::Degraded));
    let handed = |c: &mut Case| {
        differ(c);
        c.state.runtime.as_mut().unwrap().hands_driver = true;
    };
    assert_eq!(ids(handed), (vec![], Health::Healthy));
    let torn = |c: &mut Case| {
        differ(c);
        c.state.processes.as_mut().unwrap().torn_cgroup = Some("/a.slice:cri-containerd:1".into());
    };
    assert_eq!(ids(torn), (vec!["node.cgroup_driver_mismatch"], Health::Broken));
    let unknown = |c: &mut Case| c.state.runtime = Err("x has a version that is not known here".into());
    assert_eq!(ids(unknown), (vec!["node.config_unreadable"], Health::Degraded));
}

#[test]
fn cni_that_is_missing_broken_or_doubled() {
    assert_eq!(ids(|c| c.cni.files.clear()), (vec!["node.cni_missing"], Health::Broken));
    let invalid = |c: &mut Case| c.cni.files[0].content = Err("it is not JSON".into());
    assert_eq!(ids(invalid), (vec!["config.cni_unreadable"], Health::Degraded));
    let two = |c: &mut Case| c.cni.files.push(file("20-b.conflist", Ok(CniNetwork::default())));
    assert_eq!(ids(two), (vec!["node.cni_several"], Health::Healthy));
    let gone = |c: &mut Case| {
        c.state.plugins.push(PluginBinary { kind: "portmap".into(), found: Err("it is not there".into()) });
    };
    assert_eq!(ids(gone), (vec!["node.cni_plugin_missing"], Health::Broken));
}

#[test]
fn room_that_is_gone() {
    let still = |c: &mut Case| {
        c.state.pressure.insert("io", Ok(Pressure { some: 90.0, full: 60.0 }));
    };
    assert_eq!(ids(still), (vec!["node.pressure"], Health::Degraded));
    assert_eq!(ids(|c| c.state.disks[0].free_bytes = 9), (vec!["node.disk_full"], Health::Degraded));
    assert_eq!(ids(|c| c.state.disks[0].free_inodes = 4), (vec!["node.disk_full"], Health::Degraded));
    let silent = |c: &mut Case| c.state.silent_folders.push("/var/lib/kubelet".into());
    assert_eq!(
        ids(silent),
        (vec!["node.disk_silent"], Health::Broken),
        "others that answer do not make it well"
    );
    assert_eq!(ids(|c| c.state.disks[0].inodes = 0), (vec![], Health::Healthy), "btrfs has none");
    assert_eq!(ids(|c| c.state.limits[0].used = 9), (vec!["node.limit_near"], Health::Degraded));
    let inotify = |c: &mut Case| {
        c.state.limits[0].kind = LimitKind::Inotify;
        (c.state.limits[0].used, c.state.limits[0].at_least) = (9, true);
    };
    let (found, _, looked) = case(inotify);
    assert_eq!(found, ["node.inotify_near"]);
    assert_eq!(looked.findings[0].summary, "at least 9 of 10 threads (kernel.pid_max) are used");
    let blocked = Blocked { pid: 7, name: "runc".into(), wchan: Some("rpc_wait_bit_killable".into()) };
    let hang = |c: &mut Case| c.state.processes.as_mut().unwrap().blocked.push(blocked);
    let (found, _, looked) = case(hang);
    assert_eq!(found, ["node.blocked_process"]);
    assert_eq!(looked.findings[0].evidence[0].value, "rpc_wait_bit_killable: an NFS server");
}

#[test]
fn certificates_by_their_days() {
    let until = |days: i64| move |c: &mut Case| c.state.certificates[0].life = Ok((0, days * DAY));
    assert_eq!(ids(until(49)), (vec!["node.certificate_expired"], Health::Broken));
    assert_eq!(ids(until(54)), (vec!["node.certificate_ends"], Health::Degraded));
    assert_eq!(ids(until(60)), (vec![], Health::Healthy));
    let early = |c: &mut Case| c.state.certificates[0].life = Ok((51 * DAY, 99 * DAY));
    assert_eq!(ids(early), (vec!["node.certificate_expired"], Health::Broken));
    let (_, _, looked) = case(|c| c.state.certificates[0].life = Err("no certificate".into()));
    let check = looked.checks.iter().find(|c| c.id == "node.certificates").unwrap();
    assert_eq!(check.outcome, Outcome::NotChecked);
}

#[test]
fn what_prevents() {
    let grace = |c: &mut Case| c.state.kubelet.as_mut().unwrap().shutdown_grace_ms = Some(30_000);
    assert_eq!(ids(grace), (vec!["node.shutdown_cut_short"], Health::Degraded));
    let little = |c: &mut Case| c.state.kubelet.as_mut().unwrap().kube_reserved.clear();
    assert_eq!(ids(little), (vec!["node.reserved_too_little"], Health::Healthy));
    let off = |c: &mut Case| c.state.kubelet.as_mut().unwrap().eviction_hard = Some([].into());
    assert_eq!(ids(off), (vec!["node.eviction_off"], Health::Healthy));
    let unwatched = |c: &mut Case| c.state.processes.as_mut().unwrap().problem_detector = false;
    assert_eq!(ids(unwatched), (vec!["node.no_problem_detector"], Health::Healthy));
    assert_eq!(rule_of_thumb(8 * GIB) >> 20, 1843, "1 GiB and 0.8 GiB");
    assert_eq!((quantity("1Gi"), quantity("5M"), quantity("x")), (Some(GIB), Some(5_000_000), None));
}
