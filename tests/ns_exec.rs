//! `nsprobe exec` and `nsprobe shell` against real namespaces. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use support::pty::Terminal;
use support::{Netns, Running, nsprobe, run, stderr, stdout};

fn exec(source: &str, command: &[&str]) -> std::process::Output {
    nsprobe().args(["exec", source, "--"]).args(command).stdin(Stdio::null()).output().unwrap()
}

/// A process with a network and a UTS namespace of its own, as a pod's first process has.
fn pod_like(hostname: &str) -> Running {
    let mut child = Command::new("unshare")
        .args(["--net", "--uts", "sh", "-c", &format!("hostname {hostname}; echo up; exec sleep 600")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
    Running(child)
}

#[test]
fn a_tool_sees_what_ip_netns_exec_and_nsenter_show() {
    let netns = Netns::new();
    netns.ip("link add va mtu 1234 type veth peer name vb");
    netns.ip("addr add 192.0.2.1/24 dev va");
    netns.ip("link set va up");
    let ours = exec(&netns.source(), &["ip", "addr"]);
    assert_eq!(ours.status.code(), Some(0), "{}", stderr(&ours));
    assert_eq!(stdout(&ours), run("ip", &["netns", "exec", netns.name(), "ip", "addr"]));
    let path = format!("--net={}", netns.path().display());
    assert_eq!(stdout(&ours), run("nsenter", &[path.as_str(), "ip", "addr"]));
    assert_eq!(stderr(&ours), "", "exec adds nothing of its own");
}

#[test]
fn sys_shows_the_links_of_the_namespace_and_still_the_cgroups() {
    let netns = Netns::new();
    netns.ip("link add va mtu 1234 type veth peer name vb");
    let links = exec(&netns.source(), &["ls", "/sys/class/net"]);
    assert_eq!(stdout(&links), "lo\nva\nvb\n", "{}", stderr(&links));
    assert_eq!(stdout(&exec(&netns.source(), &["cat", "/sys/class/net/va/mtu"])), "1234\n");
    let cgroups = ["sh", "-c", "ls /sys/fs/cgroup; cat /sys/fs/cgroup/*/cgroup.procs 2>/dev/null | wc -l"];
    let inside = exec(&netns.source(), &cgroups);
    let outside = Command::new("sh").args(&cgroups[1..]).output().unwrap();
    let names = |o: &std::process::Output| {
        let mut lines: Vec<_> = stdout(o).lines().map(ToOwned::to_owned).collect();
        lines.pop();
        lines
    };
    assert_eq!(names(&inside), names(&outside));
}

#[test]
fn the_mounts_of_the_host_stay_as_they_are() {
    let netns = Netns::new();
    let sys = || {
        let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        // Other tests make and remove namespaces at the same time.
        all.lines().filter(|l| !l.contains("/run/netns")).map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let before = sys();
    let during = exec(&netns.source(), &["cat", "/proc/self/mountinfo"]);
    assert_eq!(sys(), before);
    let count = |text: &str| text.lines().filter(|l| l.contains(" /sys ")).count();
    assert_eq!(count(&stdout(&during)), count(&before.join("\n")) + 1, "the tool has one sysfs more");
    // The host can let go of a mount while a shell is open: the tool hears of it.
    let inside = exec(&netns.source(), &["cat", "/proc/self/mountinfo"]);
    let shared = stdout(&inside).lines().filter(|l| l.contains(" shared:")).count();
    assert_eq!(shared, 0, "nothing that the tool mounts shows on the host");
}

#[test]
fn the_callers_own_namespace_is_left_as_it_is() {
    let source = format!("pid:{}", std::process::id());
    let ours =
        exec(&source, &["sh", "-c", "readlink /proc/self/ns/net /proc/self/ns/mnt; ls /sys/class/net"]);
    let script = "readlink /proc/self/ns/net /proc/self/ns/mnt; ls /sys/class/net";
    assert_eq!(stdout(&ours), run("sh", &["-c", script]));
    assert_eq!(stderr(&ours), "");
}

#[test]
fn the_hostname_is_the_pods() {
    let pod = pod_like("web-0");
    let source = format!("pid:{}", pod.0.id());
    assert_eq!(stdout(&exec(&source, &["hostname"])), "web-0\n");
    let own = run("hostname", &[] as &[&str]);
    assert_ne!(own, "web-0\n");
    let netns = Netns::new();
    assert_eq!(stdout(&exec(&netns.source(), &["hostname"])), own, "no process, no hostname");
}

#[test]
fn exit_codes_are_the_commands_own() {
    let netns = Netns::new();
    let source = netns.source();
    for code in [0, 1, 2, 7, 125, 255] {
        assert_eq!(exec(&source, &["sh", "-c", &format!("exit {code}")]).status.code(), Some(code));
    }
    let killed = exec(&source, &["sh", "-c", "kill -TERM $$"]);
    assert_eq!(killed.status.signal(), Some(15), "the caller sees the very signal");
    let seen = format!("{} exec {source} -- sh -c 'kill -KILL $$'; echo $?", env!("CARGO_BIN_EXE_nsprobe"));
    let shell = Command::new("sh").args(["-c", &seen]).output().unwrap();
    assert_eq!(stdout(&shell), "137\n", "a shell sees 128 + n");
}

#[test]
fn its_own_failures_have_codes_of_their_own() {
    let netns = Netns::new();
    let source = netns.source();
    let missing = exec(&source, &["no-such-command-here"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(
        stderr(&missing).starts_with("nsprobe: cannot run no-such-command-here: "),
        "{}",
        stderr(&missing)
    );
    assert_eq!(exec(&source, &["/no/such/file"]).status.code(), Some(127));
    assert_eq!(exec(&source, &["/etc"]).status.code(), Some(126));
    let text = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(exec(&source, &[text.path().to_str().unwrap()]).status.code(), Some(126));
    let wrong = exec("netns:no-such-namespace", &["true"]);
    assert_eq!(wrong.status.code(), Some(125));
    assert!(stderr(&wrong).contains("/run/netns/no-such-namespace"), "{}", stderr(&wrong));
    let ended = exec("pid:4194303", &["true"]);
    assert_eq!(ended.status.code(), Some(125), "{}", stderr(&ended));
}

#[test]
fn a_failure_is_a_document_where_documents_are_wanted() {
    let output =
        nsprobe().args(["exec", "-o", "json", "netns:no-such-namespace", "--", "true"]).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schema"], "nsprobe.error/v1");
    assert_eq!(document["code"], 125);
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn streams_signals_and_descriptors_are_passed_on_untouched() {
    let netns = Netns::new();
    let mut child = nsprobe()
        .args(["exec", &netns.source(), "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"\x00piped\xff").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"\x00piped\xff");
    // The program of a Rust process ignores SIGPIPE; the tool must not inherit that.
    let question = ["-E", "^Sig(Ign|Blk)", "/proc/self/status"];
    let masks = exec(&netns.source(), &[&["grep"], &question[..]].concat());
    assert_eq!(stdout(&masks), run("grep", &question));
    let descriptors =
        exec(&netns.source(), &["sh", "-c", "readlink /proc/$$/fd/* | grep -E 'net:|uts:|sysfs'"]);
    assert_eq!(stdout(&descriptors), "", "no namespace file leaks into the tool");
}

#[test]
fn it_has_the_very_pid_that_was_started() {
    let netns = Netns::new();
    let child = Running(nsprobe().args(["exec", &netns.source(), "--", "sleep", "600"]).spawn().unwrap());
    let name = || std::fs::read_to_string(format!("/proc/{}/comm", child.0.id())).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while name() != "sleep\n" {
        assert!(std::time::Instant::now() < end, "{}", name());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn ctrl_c_reaches_the_tool_and_its_terminal_is_a_terminal() {
    let netns = Netns::new();
    let program = env!("CARGO_BIN_EXE_nsprobe");
    let script = "tty; trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done";
    let mut terminal = Terminal::run(&format!("{program} exec {} -- sh -c \"{script}\"", netns.source()));
    terminal.wait_for("/dev/pts/");
    terminal.wait_for("ready");
    terminal.keys("\x03");
    terminal.wait_for("caught");
    assert_eq!(terminal.exit_code(), 9);
}

#[test]
fn a_shell_has_job_control_and_runs_in_the_namespace() {
    let netns = Netns::new();
    netns.ip("link add va type veth peer name vb");
    let program = env!("CARGO_BIN_EXE_nsprobe");
    let mut terminal = Terminal::run(&format!("{program} shell {}", netns.source()));
    terminal.wait_for(&format!("in the network namespace of netns:{}", netns.path().display()));
    terminal.keys("ls /sys/class/net/; echo in=$NSPROBE_SOURCE.\n");
    terminal.wait_for("va");
    terminal.wait_for(&format!("in=netns:{}.", netns.path().display()));
    terminal.keys("sh -c 'echo star\"\"ted; exec cat'\n");
    terminal.wait_for("started");
    terminal.keys("\x1a");
    terminal.wait_for("Stopped");
    terminal.keys("fg; exit 5\n");
    terminal.wait_for("exec cat");
    terminal.wait_for("exec cat");
    terminal.keys("typed\n");
    terminal.wait_for("typed\r\ntyped");
    terminal.keys("\x04");
    assert_eq!(terminal.exit_code(), 5);
}

#[test]
fn ctrl_z_stops_the_tool_and_fg_goes_on() {
    let netns = Netns::new();
    let program = env!("CARGO_BIN_EXE_nsprobe");
    let mut terminal = Terminal::run("bash --norc -i");
    terminal.keys(&format!("{program} exec {} -- sh -c 'echo star\"\"ted; exec cat'\n", netns.source()));
    terminal.wait_for("started");
    terminal.keys("\x1a");
    terminal.wait_for("Stopped");
    terminal.keys("fg; echo after=$?.\n");
    terminal.wait_for("exec cat");
    terminal.wait_for("exec cat");
    terminal.keys("two\n");
    terminal.wait_for("two\r\ntwo");
    terminal.keys("\x04");
    terminal.wait_for("after=0.");
    terminal.keys("exit 0\n");
    assert_eq!(terminal.exit_code(), 0);
}

#[test]
fn a_shell_reads_commands_from_a_pipe() {
    let netns = Netns::new();
    let mut child = nsprobe()
        .args(["-q", "shell", &netns.source()])
        .env("SHELL", "/no/such/shell")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"readlink /proc/self/ns/net\nexit 4\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let inode = run("stat", &["-L", "-c", "%i", netns.path().to_str().unwrap()]);
    assert_eq!(stdout(&output), format!("net:[{}]\n", inode.trim()));
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(stderr(&output), "", "-q is quiet");
}
