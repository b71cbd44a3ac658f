//! What goes wrong while a capture runs: interfaces and containers that go, disks and limits at any byte, signals,
//! kill -9. The file is readable in every case.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use nix::sys::signal::Signal;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::capture::{Pair, assert_code, capinfos, signal, size, start, tshark, wait_until};
use support::schema::valid;
use support::{Netns, Running, nsprobe, run, stderr, stdout};

/// Makes the wire of a pair anew, as a runtime does for a pod: another interface with the same name.
fn wire(pair: &Pair) {
    pair.a.ip(&format!("link add eth0 mtu 1450 type veth peer name eth0 mtu 1450 netns {}", pair.b.name()));
    for (netns, address) in [(&pair.a, "10.9.0.1/24"), (&pair.b, "10.9.0.2/24")] {
        netns.ip(&format!("addr add {address} dev eth0"));
        netns.ip("link set eth0 up");
    }
}

fn ping(pair: &Pair, words: &str) {
    assert!(pair.ping(words).0.wait().unwrap().success());
}

#[test]
fn an_interface_that_was_removed_and_added_again_is_captured_on_again_without_a_privilege() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pcapng");
    let child = start(&[
        &pair.a.source(),
        "-w",
        file.to_str().unwrap(),
        "--when-gone",
        "wait",
        "-o",
        "json",
        "--",
        "icmp",
    ]);
    wait_until("the file's header", || size(&file) > 0);
    for _ in 0..3 {
        ping(&pair, "-c 3 -i 0.01");
        pair.b.ip("link del eth0");
        std::thread::sleep(Duration::from_millis(400));
        wire(&pair);
        std::thread::sleep(Duration::from_millis(400));
    }
    ping(&pair, "-c 3 -i 0.01");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert!(status.contains("CapPrm:\t0000000000000000"), "{status}");
    signal(&child, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);
    assert_eq!(tshark(&file, &["icmp.type"]).len(), 4 * 6);
    let document = valid(&output.stdout);
    assert_eq!(document["packets"], 24);
    assert_eq!(document["findings"][0]["id"], "capture.interface_returned", "{document}");
    assert_eq!(document["findings"][0]["evidence"][0]["value"], 3);
}

#[test]
fn an_interface_of_another_kind_with_the_same_name_is_not_mistaken_for_it() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pcapng");
    let child = start(&[
        &pair.a.source(),
        "-w",
        file.to_str().unwrap(),
        "--when-gone",
        "wait",
        "--duration",
        "2s",
        "-o",
        "json",
    ]);
    wait_until("the file's header", || size(&file) > 0);
    pair.b.ip("link del eth0");
    // A tun: raw IP, of which the file's one interface knows nothing.
    pair.a.ip("tuntap add eth0 mode tun");
    pair.a.ip("link set eth0 up");
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);
    assert_eq!(valid(&output.stdout)["findings"][0]["id"], "capture.interface_gone");
}

#[test]
fn a_container_that_dies_ends_its_capture_or_not_as_it_was_told_and_the_file_is_whole() {
    for (told, expect_end) in [("end", true), ("wait", false)] {
        // A namespace that lives only as long as its process: when it dies, its end of the wire goes.
        let mut sleeper = Running(
            Command::new("unshare").args(["-n", "sleep", "60"]).stdin(Stdio::null()).spawn().unwrap(),
        );
        let pid = sleeper.0.id();
        let node = Netns::new();
        wait_until("its namespace", || {
            let inode = |p: &str| std::fs::read_link(format!("/proc/{p}/ns/net")).unwrap();
            inode(&pid.to_string()) != inode("self")
        });
        node.ip(&format!("link add veth0 type veth peer name eth0 netns {pid}"));
        node.ip("addr add 10.9.0.2/24 dev veth0");
        node.ip("link set veth0 up");
        let inside = |words: &str| {
            let pid = pid.to_string();
            let mut all = vec!["-t", &pid, "-n"];
            all.extend(words.split(' '));
            run("nsenter", &all)
        };
        inside("ip addr add 10.9.0.1/24 dev eth0");
        inside("ip link set eth0 up");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.pcapng");
        let mut child =
            start(&[&format!("pid:{pid}"), "-w", file.to_str().unwrap(), "--when-gone", told, "--", "icmp"]);
        wait_until("the file's header", || size(&file) > 0);
        inside("ping -q -c 3 -i 0.01 10.9.0.2");
        sleeper.0.kill().unwrap();
        sleeper.0.wait().unwrap();
        // The wire goes as the runtime takes it away; the packet socket keeps the namespace itself.
        node.ip("link del veth0");
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(child.try_wait().unwrap().is_some(), expect_end, "{told}");
        if !expect_end {
            signal(&child, Signal::SIGTERM);
        }
        assert_code(&child.wait_with_output().unwrap(), 0);
        assert_eq!(tshark(&file, &["icmp.type"]).len(), 6, "{told}");
    }
}

#[test]
fn an_interface_with_so_many_names_that_its_message_is_larger_than_a_page_is_captured_on() {
    let pair = Pair::new();
    // As udev and cloud agents give them (ip-link(8), property add), but longer; ip takes so many at a time.
    let names = |first: u32| (first..first + 7).map(|n| format!(" altname {}{n:03}", "n".repeat(120)));
    for first in (0..49).step_by(7) {
        pair.a.ip(&format!("link property add dev eth0{}", names(first).collect::<String>()));
    }
    let told = pair.a.ip("link show dev eth0");
    assert_eq!(told.matches("altname").count(), 49, "{told}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pcapng");
    // With an address, for which getifaddrs(3) never ends, and without, where it leaves the interface out.
    for addressed in [true, false] {
        let mut child = Running(start(&[
            &pair.a.source(),
            "-w",
            file.to_str().unwrap(),
            "--force",
            "-o",
            "json",
            "--duration",
            "1s",
        ]));
        let mut code = None;
        // Running kills what is still there when this fails.
        wait_until("the end of the capture", || {
            code = child.0.try_wait().unwrap();
            code.is_some()
        });
        let mut said = String::new();
        std::io::Read::read_to_string(child.0.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(code.and_then(|c| c.code()), Some(0), "{addressed}: {said}");
        assert_eq!(valid(said.as_bytes())["points"][0]["interface"], "eth0", "{said}");
        assert!(capinfos(&file).contains("eth0"));
        pair.a.ip("addr flush dev eth0");
    }
}

/// A capture whose file may not grow beyond so many bytes, which is to a write what a full disk is.
fn limited(pair: &Pair, file: &Path, bytes: u64) -> std::process::Output {
    let limit = format!("--fsize={bytes}");
    let words = [
        "capture",
        &pair.a.source(),
        "-o",
        "json",
        "--min-free",
        "0",
        "-c",
        "40",
        "-w",
        file.to_str().unwrap(),
    ];
    let mut child = Command::new("prlimit")
        .arg(limit)
        .arg(env!("CARGO_BIN_EXE_nsprobe"))
        .args(words)
        .args(["--", "icmp"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the file or the end", || {
        file.metadata().is_ok_and(|m| m.len() > 0) || child.try_wait().unwrap().is_some()
    });
    let _ping = pair.ping("-c 20 -i 0.002 -s 100");
    child.wait_with_output().unwrap()
}

#[test]
fn a_file_that_can_grow_no_more_is_whole_whatever_the_byte_it_ended_at() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.pcapng");
    assert_code(&limited(&pair, &whole, 1 << 20), 0);
    let full = size(&whole);
    // In the header, in packets' blocks, in the statistics at the end; that a cut is right at each byte of a block
    // is shown without processes, in src/capture/sink.rs.
    let steps =
        [1, 27, 28].into_iter().chain((100..full).step_by(337)).chain([full - 40, full - 12, full - 1]);
    for (number, bytes) in steps.enumerate() {
        let file = folder.path().join(format!("{number}.pcapng"));
        let output = limited(&pair, &file, bytes);
        let document = valid(&output.stdout);
        assert_code(&output, 5);
        let length = size(&file);
        assert!(length <= bytes, "{bytes}: {length}");
        if length == 0 {
            continue;
        }
        let packets = tshark(&file, &["frame.number"]).len();
        let message = document["message"].as_str().unwrap();
        assert!(message.contains(&format!("; {packets} packets are in it")), "{bytes}: {packets}: {message}");
    }
}

#[test]
fn a_ring_whose_disk_is_full_ends_with_whole_files_and_a_word() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().to_str().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=400k", "tmpfs", disk]);
    let file = folder.path().join("x.pcapng");
    let child = start(&[
        &pair.a.source(),
        "-w",
        file.to_str().unwrap(),
        "--max-size",
        "64k",
        "--min-free",
        "0",
        "-o",
        "json",
    ]);
    let _ping = pair.ping("-c 5000 -i 0.002 -s 1300");
    let output = child.wait_with_output().unwrap();
    let there: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "pcapng") && size(p) > 0)
        .collect();
    let packets: usize = there.iter().map(|f| tshark(f, &["frame.number"]).len()).sum();
    drop(Command::new("umount").arg(disk).status());
    assert_code(&output, 5);
    let message = valid(&output.stdout)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("No space left on device"), "{message}");
    assert!(message.contains(&format!("; {packets} packets are in it")), "{packets}: {message}");
    assert!(there.len() > 4 && packets > 200, "{} {packets}", there.len());
}

#[test]
fn after_kill_9_everything_older_than_a_second_is_in_the_file() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pcapng");
    let mut child = start(&[&pair.a.source(), "-w", file.to_str().unwrap(), "--", "icmp"]);
    wait_until("the file's header", || size(&file) > 0);
    // So little that it would all wait for a full buffer.
    let _ping = pair.ping("-i 0.005 -s 8");
    let begin = Instant::now();
    std::thread::sleep(Duration::from_millis(3700));
    let listened = begin.elapsed().as_secs_f64();
    child.kill().unwrap();
    child.wait().unwrap();
    let times = tshark(&file, &["frame.time_relative"]);
    let last: f64 = times.last().unwrap().parse().unwrap();
    assert!(last > listened - 1.3, "{last} of {listened} s");
}

#[test]
fn a_closed_pipe_and_a_hangup_are_quiet_ends() {
    let pair = Pair::new();
    let _ping = pair.ping("-i 0.02");
    // SIGPIPE at its default, as a shell leaves it.
    let words = format!(
        "{} capture {} -n | head -n 3; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_nsprobe"),
        pair.a.source()
    );
    let output = Command::new("bash").args(["-c", &words]).output().unwrap();
    assert_code(&output, 0);
    assert_eq!(stdout(&output).lines().count(), 3);
    let child = nsprobe()
        .args(["capture", &pair.a.source(), "-n", "-q", "-t"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(600));
    signal(&child, Signal::SIGHUP);
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);
    assert!(stdout(&output).lines().count() > 5 && stdout(&output).ends_with('\n'), "{}", stderr(&output));
}
