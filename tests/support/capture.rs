//! What tests of captures share: two namespaces with a wire between them, and readers of what was captured.

use super::{Netns, Running, nsprobe, run, stderr, stdout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Two namespaces joined by a veth that is eth0, MTU 1450, on both sides: 10.9.0.1 and 10.9.0.2.
pub struct Pair {
    pub a: Netns,
    pub b: Netns,
}

impl Pair {
    pub fn new() -> Self {
        let (a, b) = (Netns::new(), Netns::new());
        a.ip(&format!("link add eth0 mtu 1450 type veth peer name eth0 mtu 1450 netns {}", b.name()));
        for (netns, address) in [(&a, "10.9.0.1/24"), (&b, "10.9.0.2/24")] {
            netns.ip(&format!("addr add {address} dev eth0"));
            netns.ip("link set eth0 up");
        }
        Self { a, b }
    }

    /// `ping` from the first to the second namespace, in the background.
    pub fn ping(&self, words: &str) -> Running {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.a.name(), "ping", "-q", "-n"]).args(words.split_whitespace());
        Running(command.arg("10.9.0.2").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

/// `nsprobe capture` in the background.
pub fn start(arguments: &[&str]) -> Child {
    let mut command = nsprobe();
    command.arg("capture").args(arguments).env_remove("SSH_CONNECTION");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// `nsprobe capture` to its end.
pub fn capture(arguments: &[&str]) -> Output {
    start(arguments).wait_with_output().unwrap()
}

/// Waits until `happened`, or fails.
#[track_caller]
pub fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !happened() {
        assert!(Instant::now() < end, "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How nsprobe names a namespace.
pub fn label(netns: &Netns) -> String {
    format!("netns:{}", netns.path().display())
}

pub fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |m| m.len())
}

pub fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// Fields of each packet by tshark, which fails on a file that is cut or damaged.
#[track_caller]
pub fn tshark(file: &Path, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    // It takes Linux's own port of VXLAN for nothing known.
    command.args(["-n", "-d", "udp.port==8472,vxlan", "-T", "fields", "-r"]).arg(file);
    fields.iter().for_each(|f| {
        command.args(["-e", f]);
    });
    let output = command.output().unwrap();
    assert!(output.status.success() && !stderr(&output).contains("cut short"), "{}", stderr(&output));
    stdout(&output).lines().map(str::to_owned).collect()
}

/// What capinfos says, one line a fact.
pub fn capinfos(file: &Path) -> String {
    run("capinfos", &["-M".as_ref(), file.as_os_str()])
}

#[track_caller]
pub fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", stdout(output), stderr(output));
}
