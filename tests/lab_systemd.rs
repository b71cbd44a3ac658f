//! A node whose PID 1 is a real systemd: units over the real D-Bus, the journal of a real journald.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::lab::Lab;
use support::{Running, stderr, stdout};

const LAB: &str = "--nodes 1 --ipv6 off --pods none --systemd on";

fn sh(lab: &Lab, script: &str) -> String {
    let output = lab.exec(1, &["sh", "-ec", script]);
    assert!(output.status.success(), "{script}: {}", stderr(&output));
    stdout(&output).trim_end().to_owned()
}

/// A property of a unit, as systemctl tells it.
fn property(lab: &Lab, unit: &str, name: &str) -> String {
    sh(lab, &format!("systemctl show {unit} --property {name} --value"))
}

/// Waits until systemd says so.
#[track_caller]
fn until(lab: &Lab, condition: &str) {
    sh(lab, &format!("for i in $(seq 400); do {{ {condition}; }} && exit; sleep 0.02; done; exit 9"));
}

fn kubelet_folder(lab: &Lab) -> PathBuf {
    let pids: Value = serde_json::from_str(&lab.script(&["pids", "1"])).unwrap();
    PathBuf::from(pids["root"].as_str().unwrap()).join("var/lib/kubelet")
}

/// The kubelet's own words of a recording.
fn recorded(name: &str) -> String {
    let path = format!("{}/tests/fixtures/journal/lines/{name}.gz", env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let own = |line: &str| {
        let (tag, words) = line.split_once("]: ")?;
        tag.contains(" kubelet[").then(|| format!("{words}\n"))
    };
    text.lines().filter_map(own).collect()
}

/// Makes the kubelet say it, and waits until the last line stands in a journal.
fn say(lab: &Lab, words: &str) {
    let path = kubelet_folder(lab).join("says");
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
        .write_all(words.as_bytes())
        .unwrap();
    let last: String = words.lines().last().unwrap().chars().filter(|c| *c != '\'').collect();
    until(lab, &format!("journalctl -u kubelet -o cat | tr -d \"'\" | grep -qxF -- '{last}'"));
}

fn node(lab: &Lab) -> Value {
    lab.nsprobe(1, &["node", "--since", "1h"]).1
}

/// Ids of findings from units and log that are worse than worth knowing.
fn ids(document: &Value) -> Vec<&str> {
    const OTHERS: &[&str] = &["node.swap_on"];
    let findings = document["findings"].as_array().unwrap().iter();
    let worse = findings.filter(|f| f["severity"] != "info").map(|f| f["id"].as_str().unwrap());
    worse.filter(|id| !OTHERS.contains(id)).collect()
}

#[track_caller]
fn finding<'a>(document: &'a Value, id: &str) -> &'a Value {
    let found = document["findings"].as_array().unwrap().iter().find(|f| f["id"] == id);
    found.unwrap_or_else(|| panic!("no {id}: {document:#}"))
}

fn check<'a>(document: &'a Value, id: &str) -> (&'a str, &'a str) {
    let check = document["checks"].as_array().unwrap().iter().find(|c| c["id"] == id).unwrap();
    (check["outcome"].as_str().unwrap(), check["why"].as_str().unwrap())
}

/// `2026-11-25T22:06:52Z` of what systemctl shows with --timestamp=unix.
fn moment(lab: &Lab, unit: &str, name: &str) -> String {
    let text = sh(lab, &format!("systemctl show {unit} --timestamp=unix --property {name} --value"));
    nsprobe::facts::rfc3339(text.trim_start_matches('@').parse().unwrap())
}

#[test]
fn a_healthy_node_and_each_state_of_its_units_are_seen_as_systemd_tells_them() {
    let lab = Lab::up(LAB);
    std::fs::write(kubelet_folder(&lab).join("config.yaml"), "cgroupDriver: cgroupfs\n").unwrap();
    say(&lab, &recorded("healthy-start-and-steady"));
    let well = node(&lab);
    assert_eq!(check(&well, "node.units"), ("passed", "active: kubelet.service, containerd.service"));
    assert_eq!(check(&well, "node.log").0, "passed", "{well:#}");
    let from_here = |id: &&str| {
        id.starts_with("node.unit")
            || finding(&well, id)["evidence"][0]["source"].as_str().unwrap().contains("journal")
    };
    assert_eq!(ids(&well).into_iter().filter(from_here).collect::<Vec<_>>(), [""; 0], "{well:#}");

    // It is killed and started again.
    for round in 1..=3 {
        sh(&lab, "systemctl kill --kill-who=main --signal=KILL kubelet");
        until(&lab, &format!("[ $(systemctl show kubelet -p NRestarts --value) = {round} ]"));
    }
    until(&lab, "systemctl is-active -q kubelet");
    let document = node(&lab);
    let restarts = finding(&document, "node.unit_restarts");
    // Of a process that runs again systemd has forgotten how the one before ended; its log has not.
    assert_eq!(property(&lab, "kubelet", "ExecMainExitTimestamp"), "");
    let summary = restarts["summary"].as_str().unwrap();
    let words =
        "kubelet.service was restarted 3 times by systemd, and runs now; it was killed by signal 9 at 20";
    assert!(summary.starts_with(words), "{summary}");

    // It ends again and again.
    sh(&lab, "echo 7 >/var/lib/kubelet/exit-code; systemctl restart kubelet");
    until(&lab, "[ $(systemctl show kubelet -p NRestarts --value) -ge 2 ]");
    until(&lab, "[ $(systemctl show kubelet -p SubState --value) = auto-restart ]");
    let document = node(&lab);
    let down = finding(&document, "node.unit_down");
    let summary = down["summary"].as_str().unwrap();
    assert!(summary.starts_with("kubelet.service is activating (auto-restart) since 20"), "{summary}");
    assert!(summary.contains("Z: it exited with 7 at 20"), "{summary}");
    assert_eq!(down["evidence"][0]["source"], "systemd over /run/systemd/private");
    let count = down["evidence"].as_array().unwrap().iter().find(|e| e["what"] == "NRestarts").unwrap();
    assert!(count["value"].as_u64().unwrap() >= 2, "{down:#}");

    // It was stopped, then forbidden, then taken away; and the bus instead of systemd's own socket.
    sh(&lab, "rm /var/lib/kubelet/exit-code; systemctl restart kubelet; systemctl stop kubelet");
    let since = moment(&lab, "kubelet", "StateChangeTimestamp");
    let document = node(&lab);
    let down = &finding(&document, "node.unit_down")["summary"];
    assert!(
        down.as_str().unwrap().starts_with(&format!("kubelet.service is inactive (dead) since {since}")),
        "{down}"
    );
    sh(&lab, "systemctl mask kubelet; rm /run/systemd/private");
    let document = node(&lab);
    let down = finding(&document, "node.unit_down");
    assert!(down["summary"].as_str().unwrap().contains("kubelet.service is masked"), "{down:#}");
    assert!(down["fix"].as_str().unwrap().contains("systemctl unmask kubelet.service"), "{down:#}");
    assert_eq!(down["evidence"][0]["source"], "systemd over /run/dbus/system_bus_socket");
    sh(
        &lab,
        "rm /etc/systemd/system/kubelet.service /lib/systemd/system/kubelet.service; systemctl daemon-reload",
    );
    assert_eq!(check(&node(&lab), "node.units"), ("passed", "active: containerd.service"));
    assert_eq!(property(&lab, "containerd", "NRestarts"), "0");
    sh(&lab, "rm /run/dbus/system_bus_socket");
    let document = node(&lab);
    let (outcome, why) = check(&document, "node.units");
    assert!(outcome == "not_checked" && why.contains("running: containerd (pid "), "{why}");
}

#[test]
fn drivers_that_differ_are_told_from_configuration_and_from_what_the_runtime_logs() {
    let lab = Lab::up(LAB);
    let config = kubelet_folder(&lab).join("config.yaml");
    std::fs::write(&config, "cgroupDriver: cgroupfs\n").unwrap();
    sh(
        &lab,
        "cat >>/etc/containerd/config.toml <<'T'
[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]
  runtime_type = \"io.containerd.runc.v2\"
[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]
  SystemdCgroup = true
T
systemctl restart containerd",
    );
    assert!(ids(&node(&lab)).contains(&"node.cgroup_driver_differs"), "{:#}", node(&lab));
    // A pod as such a kubelet makes it: the runtime refuses its cgroup, and the kubelet logs that.
    let refused = lab.script_fails(&["pod", "1", "default/web-0"]);
    assert!(refused.contains("expected cgroupsPath to be of format"), "{refused}");
    until(&lab, "journalctl -u containerd | grep -q 'expected cgroupsPath to be of format'");
    let document = node(&lab);
    let logged = finding(&document, "node.cgroup_driver_logged");
    let source = logged["evidence"][0]["source"].as_str().unwrap();
    assert!(
        source.starts_with("/run/log/journal/") && source.ends_with("/system.journal (containerd.service)"),
        "{logged:#}"
    );
    std::fs::write(&config, "cgroupDriver: systemd\n").unwrap();
    assert!(!ids(&node(&lab)).contains(&"node.cgroup_driver_differs"));
}

/// `nsprobe node --follow` on the node.
struct Following {
    running: Running,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Following {
    fn start(lab: &Lab) -> Self {
        let script = "echo $$ >/run/nsprobe.pid; exec nsprobe node --follow --since 1us";
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab"))
            .args(["--name", lab.name(), "exec", "1", "--", "sh", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let notes = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, lines) = std::sync::mpsc::channel();
        let begun = notes.map_while(Result::ok).find(|note| note.contains("note: follows")).unwrap();
        assert!(begun.contains("/run/log/journal/") && begun.contains("/dev/kmsg"), "{begun}");
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The kernel's lines are those of the whole machine.
                if line.contains("  kubelet.service  ") {
                    let _ = sender.send(line);
                }
            }
        });
        Self { running: Running(child), lines }
    }

    #[track_caller]
    fn next(&self, mark: &str) {
        let line = self
            .lines
            .recv_timeout(Duration::from_secs(20))
            .unwrap_or_else(|_| panic!("{mark} did not come"));
        assert!(line.contains(mark), "{mark}: {line}");
    }
}

fn fault(mark: &str) -> String {
    format!(
        "E1125 22:00:00.000000       1 kubelet.go:2412] \"Skipping pod synchronization\" err=\"PLEG is not healthy: pleg was last seen active {mark} ago; threshold is 3m0s\"\n"
    )
}

#[test]
fn the_journal_is_read_and_followed_volatile_persistent_and_without_journald() {
    let lab = Lab::up(LAB);
    say(&lab, &recorded("runtime-sigstop-pleg"));
    let document = node(&lab);
    let source =
        finding(&document, "node.pleg_unhealthy")["evidence"][0]["source"].as_str().unwrap().to_owned();
    assert!(source.starts_with("/run/log/journal/") && source.ends_with("(kubelet.service)"), "{source}");
    let count = &finding(&document, "node.pleg_unhealthy")["evidence"][1]["value"];
    assert_eq!(
        count.to_string(),
        sh(&lab, "journalctl -u kubelet -o cat | grep -c 'PLEG is not healthy: pleg was last seen'")
    );

    let following = Following::start(&lab);
    say(&lab, &fault("1m"));
    following.next(" 1m ago");
    sh(&lab, "journalctl --rotate");
    say(&lab, &fault("2m"));
    following.next(" 2m ago");
    // Into /var: what is in /run is copied, the old files go away.
    sh(&lab, "mkdir -p /var/log/journal; systemctl restart systemd-journald; journalctl --flush");
    say(&lab, &fault("3m"));
    following.next(" 3m ago");
    assert_eq!(sh(&lab, "ls /run/log/journal/*/*.journal 2>/dev/null | wc -l"), "0");
    sh(&lab, "journalctl --rotate; journalctl --vacuum-files=1 -q");
    say(&lab, &fault("4m"));
    following.next(" 4m ago");
    sh(&lab, "systemctl restart systemd-journald");
    say(&lab, "nothing of note\n");
    say(&lab, &fault("5m"));
    following.next(" 5m ago");
    sh(&lab, "kill -INT $(cat /run/nsprobe.pid)");
    let mut running = following.running;
    let end = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = running.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "it did not end");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(0));
    assert_eq!(following.lines.iter().collect::<Vec<_>>(), [""; 0], "nothing twice");

    // Nobody writes; what was written is still read.
    sh(
        &lab,
        "systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service",
    );
    assert_eq!(property(&lab, "systemd-journald", "ActiveState"), "inactive");
    let document = node(&lab);
    let logged = finding(&document, "node.pleg_unhealthy");
    assert!(logged["evidence"][0]["source"].as_str().unwrap().starts_with("/var/log/journal/"), "{logged:#}");
    assert!(logged["evidence"][0]["value"].as_str().unwrap().contains(" 5m ago"), "{logged:#}");
}
