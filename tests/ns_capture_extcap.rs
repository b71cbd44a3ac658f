//! Wireshark's own programs list namespaces as interfaces and capture on them, through nsprobe as an extcap.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use support::capture::{Pair, assert_code, wait_until};
use support::{nsprobe, stderr, stdout};

/// tshark with nsprobe in a personal extcap folder, and with no other.
fn tshark(config: &Path) -> Command {
    let extcap = config.join("wireshark/extcap");
    if !extcap.exists() {
        std::fs::create_dir_all(&extcap).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_nsprobe"), extcap.join("nsprobe-extcap")).unwrap();
    }
    let mut command = Command::new("tshark");
    command.env("XDG_CONFIG_HOME", config).env_remove("SSH_CONNECTION").stdin(Stdio::null());
    command
}

#[test]
fn tshark_lists_the_node_and_its_namespaces_and_captures_on_one() {
    let pair = Pair::new();
    let config = tempfile::tempdir().unwrap();
    let interface = format!("netns:{}", pair.a.name());
    let list = stdout(&tshark(config.path()).arg("-D").output().unwrap());
    assert!(list.contains(" host (nsprobe: this node's uplink)\n"), "{list}");
    assert!(
        list.contains(&format!(" {interface} (nsprobe: network namespace {})\n", pair.a.name())),
        "{list}"
    );

    let links = stdout(&tshark(config.path()).args(["-L", "-i", &interface]).output().unwrap());
    assert!(links.contains("EN10MB"), "{links}");

    let file = config.path().join("x.pcapng");
    let child = tshark(config.path())
        .args(["-n", "-i", &interface, "-f", "icmp", "-c", "4", "-a", "duration:20", "-w"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ping = pair.ping("-i 0.1 -c 100");
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);
    let packets = support::capture::tshark(&file, &["icmp.type", "frame.interface_description"]);
    assert_eq!(packets.len(), 4, "{packets:?}");
    assert!(
        packets.iter().all(|p| p.contains("eth0")),
        "what nsprobe says of the interface is kept: {packets:?}"
    );
    wait_until("the end of the extcap", || {
        let here = format!("--extcap-interface\0{interface}\0");
        !std::fs::read_dir("/proc").unwrap().flatten().any(|e| {
            std::fs::read(e.path().join("cmdline")).is_ok_and(|c| String::from_utf8_lossy(&c).contains(&here))
        })
    });
}

#[test]
fn a_bad_filter_is_told_before_and_during_a_capture() {
    let pair = Pair::new();
    let config = tempfile::tempdir().unwrap();
    let interface = format!("netns:{}", pair.a.name());
    let words = ["--extcap-interface", &interface, "--extcap-capture-filter"];
    let good = nsprobe().args(words).arg("tcp port 80").output().unwrap();
    assert_code(&good, 0);
    assert!(good.stdout.is_empty(), "{}", stdout(&good));
    let bad = nsprobe().args(words).arg("tcp prot 80").output().unwrap();
    assert!(stdout(&bad).contains("syntax error at character 5 (prot)"), "{}", stdout(&bad));
    let output = tshark(config.path())
        .args(["-n", "-i", &interface, "-f", "tcp prot 80", "-a", "duration:20"])
        .output()
        .unwrap();
    assert!(stderr(&output).contains("syntax error at character 5 (prot)"), "{}", stderr(&output));
}

#[test]
fn each_step_answers_as_wireshark_reads_it_and_a_stream_goes_through_ssh() {
    let pair = Pair::new();
    let source = pair.a.source();
    let ask = |words: &[&str]| nsprobe().args(["--extcap-interface", &source]).args(words).output().unwrap();
    let config = stdout(&ask(&["--extcap-config"]));
    let calls: Vec<_> =
        config.lines().map(|l| l.split("{call=").nth(1).unwrap().split('}').next().unwrap()).collect();
    assert_eq!(calls, ["--interface", "--snaplen", "--buffer"]);
    assert_eq!(stdout(&ask(&["--extcap-dlts"])), "dlt {number=1}{name=EN10MB}{display=EN10MB}\n");
    // A pod that has gone since: Wireshark still gets an answer.
    let gone = nsprobe().args(["--extcap-interface", "pod:no/such", "--extcap-dlts"]).output().unwrap();
    assert_eq!(stdout(&gone), "dlt {number=1}{name=EN10MB}{display=EN10MB}\n");
    assert_code(&ask(&["--capture"]), 2);
    assert_code(&ask(&[]), 2);
    // As a wrapper runs it on the other side of ssh.
    let words = ["--capture", "--fifo", "-", "--snaplen", "100", "--buffer", "1M", "--interface", "eth0"];
    let mut child =
        nsprobe().args(["--extcap-interface", &source]).args(words).stdout(Stdio::piped()).spawn().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut stream = child.stdout.take().unwrap();
    let mut bytes = vec![0; 4];
    // Its header: from here on it listens.
    stream.read_exact(&mut bytes).unwrap();
    assert!(pair.ping("-c 3 -i 0.1 -s 500").0.wait().unwrap().success());
    support::capture::signal(&child, nix::sys::signal::Signal::SIGTERM);
    let file = folder.path().join("x.pcapng");
    stream.read_to_end(&mut bytes).unwrap();
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(support::capture::tshark(&file, &["frame.cap_len"]).contains(&"100".to_owned()));
}
