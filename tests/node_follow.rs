//! `nsprobe node --follow` on a tree of files: what comes is told, one event a line, until a signal or a closed pipe.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use support::{Running, nsprobe, schema};

struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(node.0.path().join("var/log")).unwrap();
        node.write("syslog", "");
        node
    }

    fn log(&self, name: &str) -> PathBuf {
        self.0.path().join("var/log").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(self.log(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = nsprobe();
        command.args(["--host-root", &self.0.path().to_string_lossy(), "node", "--follow"]).args(words);
        command
    }
}

fn line(program: &str, text: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    format!("{} node {program}: {text}\n", nsprobe::facts::rfc3339(i64::try_from(now).unwrap()))
}

/// The lines as they come.
fn lines(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

#[track_caller]
fn wait_for(lines: &Receiver<String>, text: &str) -> String {
    let end = Instant::now() + Duration::from_secs(20);
    let mut seen = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).unwrap_or_else(|_| panic!("{text:?} did not come: {seen:?}"));
        if line.contains(text) {
            return line;
        }
        seen.push(line);
    }
}

#[track_caller]
fn end(running: &mut Running) -> Option<i32> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = running.0.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < end, "it did not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(running: &Running, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(running.0.id()).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

#[test]
fn what_is_logged_meanwhile_is_told_across_rotation_until_a_signal() {
    let node = Node::new();
    node.write("syslog", &line("kubelet[1]", "running with swap on is not supported"));
    let mut command = node.command(&[]);
    let mut running = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let output = lines(running.0.stdout.take().unwrap());
    let notes = lines(running.0.stderr.take().unwrap());
    let note = wait_for(&notes, "note: follows");
    assert!(note.contains("/var/log/syslog") && note.contains("Ctrl-C"), "{note}");
    wait_for(&output, "[node.swap, host]");
    let fault = "E1125 22:00:00.000000 1 kubelet.go:1] \"Skipping pod synchronization\" err=\"PLEG is not healthy: pleg was last seen active 3m1s ago\"";
    node.write("syslog", &(line("kubelet[1]", "nothing of note") + &line("kubelet[1]", fault)));
    let event = wait_for(&output, "PLEG");
    let (time, rest) = event.split_once("  ").unwrap();
    assert!(nsprobe::facts::unix_seconds(time).is_some(), "{event}");
    assert_eq!(rest, format!("kubelet  node.pleg_unhealthy  {fault}"));
    std::fs::rename(node.log("syslog"), node.log("syslog.1")).unwrap();
    node.write("syslog.1", &line("kernel", "nf_conntrack: nf_conntrack: table full, dropping packet"));
    node.write("syslog", &line("containerd[7]", "invalid: cni plugin not initialized \x1b[31m"));
    assert!(wait_for(&output, "").contains("  kernel  node.conntrack_full  "));
    let event = wait_for(&output, "");
    assert!(event.contains("  containerd  node.cni_not_initialised  ") && !event.contains('\x1b'), "{event}");
    // Waiting costs nothing to speak of.
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = used();
    std::thread::sleep(Duration::from_secs(2));
    let ticks = used() - before;
    assert!(ticks < 20, "{ticks} hundredths of a second in 2 s");
    signal(&running, nix::sys::signal::Signal::SIGINT);
    assert_eq!(end(&mut running), Some(0));
    assert_eq!(output.iter().collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn documents_are_lines_and_a_closed_pipe_ends_it() {
    let node = Node::new();
    let mut command = node.command(&["-o", "json", "--quiet"]);
    let mut running = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut output = BufReader::new(running.0.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        schema::valid(line.as_bytes())
    };
    let document = next();
    assert_eq!(document["schema"], "nsprobe.node/v1");
    node.write("syslog", &line("kubelet[1]", "Eviction manager: attempting to reclaim resource=\"memory\""));
    let event = next();
    assert_eq!(event["schema"], "nsprobe.node_event/v1");
    assert_eq!(
        (&event["unit"], &event["cause"], &event["severity"], &event["source"]),
        (&"kubelet".into(), &"node.eviction".into(), &"warning".into(), &"/var/log/syslog".into())
    );
    drop(output);
    assert_eq!(end(&mut running), Some(0));
    let mut words = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!(words, "");
}

#[test]
fn a_node_without_any_log_is_waited_for_and_a_root_that_is_none_is_an_error() {
    let node = Node(tempfile::tempdir().unwrap());
    let mut running =
        Running(node.command(&[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    wait_for(&lines(running.0.stderr.take().unwrap()), "note: there is no journal");
    signal(&running, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(end(&mut running), Some(0));
    let output = nsprobe().args(["--host-root", "/nowhere/at/all", "node", "--follow"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", support::stderr(&output));
}
