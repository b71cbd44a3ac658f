//! Captures in real namespaces, read by tshark and capinfos: right packets, right words, and a file that is
//! valid however the capture ended.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use support::capture::{
    Pair, assert_code, capinfos, capture, label, signal, size, start, tshark, wait_until,
};
use support::schema::valid;
use support::{Netns, nsprobe, run, stderr, stdout};

#[test]
fn a_file_size_limit_ends_it_as_a_full_disk_does() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pcapng");
    let _ping = pair.ping("-i 0.01 -s 1000");
    let words = format!(
        "ulimit -f 8; exec {} capture {} -w {} --duration 20s",
        env!("CARGO_BIN_EXE_nsprobe"),
        pair.b.source(),
        file.display()
    );
    let output = Command::new("bash").args(["-c", &words]).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{:?} {}", output.status, stderr(&output));
    assert!(stderr(&output).contains("File too large"), "{}", stderr(&output));
    run("capinfos", &["-c", file.to_str().unwrap()]);
}

#[test]
fn a_ping_is_read_by_tshark_and_capinfos() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ping.pcapng");
    let child =
        start(&[&pair.a.source(), "-w", file.to_str().unwrap(), "-c", "10", "-o", "json", "--", "icmp"]);
    wait_until("the file's header", || size(&file) > 0);
    let _ping = pair.ping("-c 8 -i 0.02 -s 1000");
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);

    let document = valid(&output.stdout);
    assert_eq!(document["schema"], "nsprobe.capture/v1");
    assert_eq!(document["packets"], 10);
    assert_eq!(document["files"][0], file.to_str().unwrap());
    assert_eq!(document["points"][0]["subject"], label(&pair.a));
    assert_eq!(document["points"][0]["interface"], "eth0");
    assert_eq!(document["points"][0]["dropped"], 0);

    let packets = tshark(&file, &["frame.interface_name", "icmp.type", "frame.len"]);
    let expected: Vec<_> =
        (0..10).map(|n| format!("eth0\t{}\t1042", if n % 2 == 0 { 8 } else { 0 })).collect();
    assert_eq!(packets, expected);
    let facts = capinfos(&file);
    for fact in [
        "Number of packets:   10",
        "Name = eth0",
        &format!("Description = {} eth0", label(&pair.a)),
        "Comment = MTU 1450 bytes",
        "Filter string = icmp",
        "Time precision = nanoseconds (9)",
        "Number of stat entries = 1",
        "Strict time order:   True",
        "filter: icmp",
        "Capture application: nsprobe",
    ] {
        assert!(facts.contains(fact), "{fact}: not in\n{facts}");
    }
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn each_signal_ends_it_in_order_and_nothing_sent_before_is_lost() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    for end in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let file = folder.path().join(end.as_str());
        let child = start(&[&pair.a.source(), "-w", file.to_str().unwrap(), "--", "icmp"]);
        wait_until("the file's header", || size(&file) > 0);
        // The last of these is still in the kernel's ring when the signal comes.
        let ping = pair.ping("-c 7 -i 0.002").0.wait().unwrap();
        assert!(ping.success());
        signal(&child, end);
        let output = child.wait_with_output().unwrap();
        assert_code(&output, 0);
        assert_eq!(tshark(&file, &["icmp.type"]).len(), 14, "{end}");
        let text = stderr(&output);
        assert!(text.contains("14 packets captured, 14 received by filter, 0 dropped by kernel"), "{text}");
        assert!(stdout(&output).is_empty());
    }
}

#[test]
fn a_full_disk_leaves_a_file_that_is_valid_to_its_last_packet() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().to_str().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]);
    struct Unmount<'a>(&'a str);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }
    let _unmount = Unmount(disk);
    let file = folder.path().join("full.pcapng");
    let child = start(&[&pair.a.source(), "-w", file.to_str().unwrap(), "-o", "json", "--min-free", "0"]);
    wait_until("the file's header", || size(&file) > 0);
    let _ping = pair.ping("-c 2000 -i 0.002 -s 1300");
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 5);
    let document = valid(&output.stdout);
    assert_eq!(document["code"], 5);
    let message = document["message"].as_str().unwrap();
    assert!(message.contains("No space left on device"), "{message}");
    let packets = tshark(&file, &["frame.len"]).len();
    assert!(packets > 20, "{packets}");
    assert!(message.contains(&format!("; {packets} packets are in it and readable")), "{packets}: {message}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let pair = Pair::new();
    let _ping = pair.ping("-i 0.05");
    for arguments in [&["-w", "-"][..], &[]] {
        let mut child = start(&[&[pair.a.source().as_str()], arguments].concat());
        let mut first = [0; 20];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_code(&output, 0);
        let text = stderr(&output);
        assert_eq!(text.lines().count(), 1, "only what it listens on: {text}");
    }
}

#[test]
fn a_reader_that_goes_away_is_noticed_without_a_packet() {
    let pair = Pair::new();
    let mut child = start(&[&pair.a.source(), "-w", "-", "--duration", "5s", "--", "udp port 9"]);
    let mut header = [0; 4];
    let mut reader = child.stdout.take().unwrap();
    reader.read_exact(&mut header).unwrap();
    assert_eq!(header, [0x0a, 0x0d, 0x0d, 0x0a]);
    drop(reader);
    let begin = Instant::now();
    assert_code(&child.wait_with_output().unwrap(), 0);
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_stream_is_live_and_its_document_is_on_standard_error() {
    let pair = Pair::new();
    let mut child = start(&[&pair.a.source(), "-w", "-", "--duration", "5s", "-o", "json", "--", "icmp"]);
    let mut reader = child.stdout.take().unwrap();
    let mut bytes = Vec::new();
    let mut read_block = || {
        let start = bytes.len();
        bytes.resize(start + 8, 0);
        reader.read_exact(&mut bytes[start..]).unwrap();
        let length = u32::from_le_bytes(bytes[start + 4..].try_into().unwrap());
        bytes.resize(start + usize::try_from(length).unwrap(), 0);
        reader.read_exact(&mut bytes[start + 8..]).unwrap();
    };
    // Section and interface; then the ping, while the capture goes on.
    (0..2).for_each(|_| read_block());
    let begin = Instant::now();
    let _ping = pair.ping("-c 1");
    (0..2).for_each(|_| read_block());
    assert!(begin.elapsed() < Duration::from_secs(1), "a live reader waited {:?}", begin.elapsed());
    signal(&child, Signal::SIGTERM);
    reader.read_to_end(&mut bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);
    let document = valid(&output.stderr);
    assert_eq!(document["packets"], 2);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stream.pcapng");
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(tshark(&file, &["icmp.type"]), ["8", "0"]);
}

#[test]
fn lines_say_time_place_direction_and_packet() {
    let pair = Pair::new();
    let mut child = start(&[&pair.a.source(), &pair.b.source(), "-q", "-c", "4", "--", "icmp"]);
    let _ping = pair.ping("-i 0.1 -s 100");
    let lines: Vec<_> = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    assert_code(&child.wait_with_output().unwrap(), 0);
    assert_eq!(lines.len(), 4, "{lines:#?}");
    let (a, b) = (label(&pair.a), label(&pair.b));
    // The four sights of one echo, or of the end of one and the beginning of the next, in the order of time.
    let request = "IP 10.9.0.1 > 10.9.0.2: ICMP echo request, id ";
    assert!(lines.iter().any(|l| l.contains(&format!(" {a} eth0 Out {request}"))), "{lines:#?}");
    assert!(lines.iter().any(|l| l.contains(&format!(" {b} eth0 In {request}"))), "{lines:#?}");
    assert!(lines.iter().all(|l| l.ends_with(", length 108")), "{lines:#?}");
    assert!(lines.is_sorted_by_key(|l| &l[..15]), "by time: {lines:#?}");
}

#[test]
fn packets_of_two_namespaces_are_in_one_file_in_the_order_of_time() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.pcapng");
    let path = file.to_str().unwrap();
    let child =
        start(&[&pair.a.source(), &pair.b.source(), "-w", path, "--duration", "1500ms", "--", "icmp"]);
    wait_until("the file's header", || size(&file) > 0);
    assert!(pair.ping("-c 200 -i 0.002").0.wait().unwrap().success());
    assert_code(&child.wait_with_output().unwrap(), 0);
    let packets = tshark(&file, &["frame.interface_id"]);
    assert_eq!(packets.len(), 800);
    assert_eq!(packets.iter().filter(|p| *p == "0").count(), 400);
    let facts = capinfos(&file);
    assert!(facts.contains("Strict time order:   True"), "{facts}");
}

#[test]
fn an_interface_that_goes_away_ends_its_capture_and_the_file_is_whole() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gone.pcapng");
    let child = start(&[&pair.a.source(), "-w", file.to_str().unwrap(), "-o", "json", "--", "icmp"]);
    wait_until("the file's header", || size(&file) > 0);
    assert!(pair.ping("-c 5 -i 0.01").0.wait().unwrap().success());
    pair.b.ip("link del eth0");
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);
    let document = valid(&output.stdout);
    assert_eq!(document["findings"][0]["id"], "capture.interface_gone", "{document}");
    assert_eq!(document["packets"], 10);
    assert_eq!(tshark(&file, &["icmp.type"]).len(), 10);
}

#[test]
fn an_interface_that_was_down_for_a_while_is_captured_on_again() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("down.pcapng");
    let child = start(&[&pair.a.source(), "-w", file.to_str().unwrap(), "--", "icmp"]);
    wait_until("the file's header", || size(&file) > 0);
    pair.a.ip("link set eth0 down");
    std::thread::sleep(Duration::from_millis(300));
    pair.a.ip("link set eth0 up");
    assert!(pair.ping("-c 3 -i 0.3").0.wait().unwrap().success());
    signal(&child, Signal::SIGINT);
    assert_code(&child.wait_with_output().unwrap(), 0);
    assert_eq!(tshark(&file, &["icmp.type"]).len(), 6);
}

#[test]
fn privileges_are_gone_before_the_first_packet() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("caps.pcapng");
    let child = start(&[&pair.a.source(), "-w", file.to_str().unwrap()]);
    wait_until("the file's header", || size(&file) > 0);
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap().count();
    signal(&child, Signal::SIGTERM);
    assert_code(&child.wait_with_output().unwrap(), 0);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{set}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert_eq!(threads, 1, "a thread would have kept its own");
}

#[test]
fn a_missing_capability_is_named() {
    let pair = Pair::new();
    for (without, named) in [("net_raw", "CAP_NET_RAW"), ("sys_admin", "CAP_SYS_ADMIN")] {
        let mut command = Command::new("setpriv");
        command.args([&format!("--bounding-set=-{without}"), &format!("--inh-caps=-{without}")]);
        command.arg(env!("CARGO_BIN_EXE_nsprobe")).args(["capture", &pair.a.source(), "-o", "json"]);
        let output = command.output().unwrap();
        assert_code(&output, 4);
        let document = valid(&output.stdout);
        assert!(document.to_string().contains(named), "{document}");
    }
}

#[test]
fn what_cannot_be_captured_is_said_with_code_reason_and_next_step() {
    let netns = Netns::new();
    let source = netns.source();
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there.pcapng");
    std::fs::write(&there, "precious").unwrap();
    let (there, missing) = (there.to_str().unwrap(), folder.path().join("no/x.pcapng"));
    let missing = missing.to_str().unwrap();
    let lo = ["-i", "lo"];
    let cases: [(&[&str], i32, &str); 8] = [
        (&["-i", "lo", "--", "tcp", "prot", "80"], 2, "syntax error at character 5 (prot)"),
        (&["--", "port", "nosuchname"], 2, "unknown port 'nosuchname'"),
        (&["-i", "lo", "-w", there], 5, "exists"),
        (&["-i", "lo", "-w", missing], 5, "does not exist"),
        (&["-i", "lo", "-w", folder.path().to_str().unwrap()], 5, "is a folder"),
        (&["-i", "eth7"], 5, "no interface eth7"),
        (&[], 5, "no interface that is up, but lo"),
        (&["tcp", "port", "80"], 3, "tcp"),
    ];
    for (arguments, code, words) in cases {
        let arguments = [&[source.as_str(), "-o", "json"], arguments].concat();
        let output = capture(&arguments);
        assert_code(&output, code);
        let document: Value = valid(&output.stdout);
        assert_eq!(document["code"], code, "{arguments:?}");
        assert!(document["message"].as_str().unwrap().contains(words), "{document}");
        assert!(document["hint"].as_str().is_some_and(|h| !h.is_empty()), "{document}");
        assert_eq!(stderr(&output).lines().count(), 2, "what and why, what next: {}", stderr(&output));
    }
    assert_eq!(std::fs::read_to_string(there).unwrap(), "precious");
    assert!(!Path::new(missing).exists());
    // While a stream is on standard output, errors are on the other.
    let output = capture(&[&[source.as_str(), "-o", "json", "-w", "-"], &lo[..], &["--", "("]].concat());
    assert_code(&output, 2);
    assert!(output.stdout.is_empty());
    assert_eq!(valid(stderr(&output).lines().next().unwrap().as_bytes())["code"], 2);
}

#[test]
fn the_file_belongs_to_the_user_behind_sudo_and_is_emptied_only_by_force() {
    let netns = Netns::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.pcapng");
    let arguments = ["-i", "lo", "--duration", "50ms", "-w", file.to_str().unwrap()];
    let run = |force: &[&str]| {
        let mut command = nsprobe();
        command.args(["capture", &netns.source()]).args(arguments).args(force);
        command.env("SUDO_UID", "12345").env("SUDO_GID", "12346").output().unwrap()
    };
    assert_code(&run(&[]), 0);
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (12345, 12346));
    assert_code(&run(&[]), 5);
    assert_code(&run(&["--force"]), 0);
    assert!(capinfos(&file).contains("Number of packets:   0"));
}

#[test]
fn on_the_node_the_uplink_is_captured_and_the_ssh_connection_that_carries_the_stream_left_out() {
    let pair = Pair::new();
    pair.a.ip("link add other type veth peer name another");
    pair.a.ip("link set another up");
    pair.a.ip("link set other up");
    pair.a.ip("route add default via 10.9.0.2");
    // A root whose PID 1 lives in the first namespace.
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("proc/1/ns");
    std::fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(pair.a.path(), folder.join("net")).unwrap();
    let mut command = nsprobe();
    command.args(["capture", "host", "-v", "-w", "-", "--duration", "50ms", "--host-root"]).arg(root.path());
    command.args(["--", "udp", "port", "9"]).env("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22");
    let output = command.output().unwrap();
    assert_code(&output, 0);
    assert!(stderr(&output).contains("192.0.2.1 port 50000"), "{}", stderr(&output));
    let file = root.path().join("host.pcapng");
    std::fs::write(&file, &output.stdout).unwrap();
    let facts = capinfos(&file);
    let filter = "(udp port 9) and not (host 192.0.2.1 and port 50000 and host 192.0.2.2 and port 22)";
    for fact in
        [&format!("Filter string = {filter}"), "Description = host eth0", "Number of interfaces in file: 1"]
    {
        assert!(facts.contains(fact), "{fact}: not in\n{facts}");
    }
}
