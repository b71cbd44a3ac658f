//! Captures into several files: each one whole, bounded, listed; ended by what was waited for or before the disk
//! is full.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use nix::sys::signal::Signal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::capture::{Pair, assert_code, capinfos, capture, signal, size, start, tshark, wait_until};
use support::schema::valid;
use support::{nsprobe, run, stderr, stdout};

/// Files of a folder whose names end so, sorted.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.to_str().unwrap().ends_with(end))
        .collect();
    found.sort();
    found
}

/// The process that a capture into a ring has beside it: the first is the one that keeps the files.
fn reader_of(keeper: u32) -> u32 {
    let path = format!("/proc/{keeper}/task/{keeper}/children");
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

fn status(pid: u32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn each_file_is_whole_bounded_and_listed_and_no_packet_is_between_two() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.pcapng");
    let child = start(&[
        &pair.a.source(),
        "-w",
        file.to_str().unwrap(),
        "--max-size",
        "64k",
        "-o",
        "json",
        "--",
        "icmp",
    ]);
    wait_until("the first file's header", || files(folder.path(), ".pcapng").iter().any(|f| size(f) > 0));
    assert!(pair.ping("-c 200 -i 0.002 -s 1000").0.wait().unwrap().success());
    signal(&child, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);
    let document = valid(&output.stdout);
    assert_eq!(document["packets"], 400);
    let there = files(folder.path(), ".pcapng");
    assert!(there.len() > 5, "{there:?}");
    let told: Vec<PathBuf> =
        document["files"].as_array().unwrap().iter().map(|f| f.as_str().unwrap().into()).collect();
    assert_eq!(told, there);
    assert!(there[0].to_str().unwrap().contains("/web_00001_20"), "{there:?}");

    let index = std::fs::read_to_string(folder.path().join("web.index.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = index.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!(rows[0], ["file", "first", "last", "packets", "bytes"]);
    let (mut sequence, mut last) = (Vec::new(), String::new());
    for (path, row) in there.iter().zip(&rows[1..]) {
        assert_eq!(path.file_name().unwrap().to_str().unwrap(), row[0]);
        assert!(size(path) <= 64 << 10 && size(path) == row[4].parse::<u64>().unwrap(), "{row:?}");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let packets = tshark(path, &["icmp.seq", "icmp.type"]);
        assert_eq!(packets.len().to_string(), row[3]);
        assert!(last.as_str() < row[1] && row[1] <= row[2], "{rows:?}");
        last = row[2].to_owned();
        sequence.extend(packets);
        let facts = capinfos(path);
        for fact in ["Name = eth0", "Filter string = icmp", "Number of stat entries = 1"] {
            assert!(facts.contains(fact), "{fact}: not in\n{facts}");
        }
    }
    let all: Vec<_> = (1..=200).flat_map(|n| [format!("{n}\t8"), format!("{n}\t0")]).collect();
    assert_eq!(sequence, all);
}

#[test]
fn only_the_last_files_are_kept_and_they_belong_to_whom_they_should() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ring.pcapng");
    let arguments =
        ["--max-size", "64k", "--files", "3", "-c", "500", "-o", "json", "-w", file.to_str().unwrap()];
    let child = nsprobe()
        .args(["capture", &pair.a.source()])
        .args(arguments)
        .args(["--owner", "12345:12346"])
        .env("SUDO_UID", "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the first file", || !files(folder.path(), ".pcapng").is_empty());
    let _ping = pair.ping("-i 0.002 -s 1000");
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);
    let there = files(folder.path(), ".pcapng");
    assert_eq!(there.len(), 3, "{there:?}");
    assert_eq!(valid(&output.stdout)["files"].as_array().unwrap().len(), 3);
    let packets: usize = there.iter().map(|f| tshark(f, &["frame.number"]).len()).sum();
    assert!((100..200).contains(&packets), "{packets}");
    for file in there.iter().chain(&files(folder.path(), ".tsv")) {
        let metadata = file.metadata().unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o777),
            (12345, 12346, 0o600),
            "{file:?}"
        );
    }
    // Another capture of that name would make the index wrong.
    let again = capture(&[&[pair.a.source().as_str()], &arguments[..]].concat());
    assert_code(&again, 5);
    assert!(stderr(&again).contains("ring.index.tsv exists"), "{}", stderr(&again));
    assert_eq!(files(folder.path(), ".pcapng"), there);
}

#[test]
fn who_reads_packets_may_do_nothing_and_who_keeps_the_files_has_no_packet() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pcapng");
    let child = start(&[&pair.a.source(), "-w", file.to_str().unwrap(), "--max-size", "64k"]);
    wait_until("the first file's header", || files(folder.path(), ".pcapng").iter().any(|f| size(f) > 0));
    let (keeper, reader) = (child.id(), reader_of(child.id()));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(reader, set), "0000000000000000", "{set} of the reader");
    }
    // CAP_CHOWN 0, CAP_DAC_OVERRIDE 1, CAP_FOWNER 3.
    assert_eq!(status(keeper, "CapEff"), "000000000000000b");
    assert_eq!(status(keeper, "CapPrm"), "000000000000000b");
    for pid in [keeper, reader] {
        assert_eq!(status(pid, "NoNewPrivs"), "1");
        assert_eq!(status(pid, "Threads"), "1");
    }
    let sockets = |pid: u32| {
        let inodes = std::fs::read_to_string(format!("/proc/{pid}/net/packet")).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", pair.a.name(), "cat", "/proc/net/packet"]);
        let there = inodes + &stdout(&command.output().unwrap());
        let open: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .filter_map(|e| std::fs::read_link(e.unwrap().path()).ok())
            .filter_map(|l| Some(l.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        there.lines().filter(|l| open.iter().any(|i| l.split_whitespace().last() == Some(i))).count()
    };
    assert_eq!((sockets(keeper), sockets(reader)), (0, 1), "packet sockets of keeper and reader");
    signal(&child, Signal::SIGTERM);
    assert_code(&child.wait_with_output().unwrap(), 0);
}

#[test]
fn the_end_of_either_process_is_the_end_of_both_and_the_files_are_whole() {
    for (victim, code) in [("keeper", None), ("reader", Some(5))] {
        let pair = Pair::new();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.pcapng");
        let mut child =
            start(&[&pair.a.source(), "-w", file.to_str().unwrap(), "--max-size", "64k", "--", "icmp"]);
        wait_until("the first file's header", || files(folder.path(), ".pcapng").iter().any(|f| size(f) > 0));
        let reader = reader_of(child.id());
        assert!(pair.ping("-c 5 -i 0.01").0.wait().unwrap().success());
        std::thread::sleep(std::time::Duration::from_millis(1300));
        let pid = if victim == "keeper" { child.id() } else { reader };
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
        assert_eq!(child.wait().unwrap().code(), code, "{victim}");
        wait_until("the reader's end", || {
            std::fs::read_to_string(format!("/proc/{reader}/stat")).map_or(true, |s| s.contains(") Z "))
        });
        let there = files(folder.path(), ".pcapng");
        assert_eq!(tshark(&there[0], &["icmp.seq"]).len(), 10, "{victim}");
    }
}

#[test]
fn it_ends_a_moment_after_what_it_waits_for_and_says_what_and_where() {
    let pair = Pair::new();
    // A narrow link behind the second namespace: it answers with fragmentation needed.
    run("ip", &["netns", "exec", pair.b.name(), "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    pair.b.ip("link add narrow mtu 1000 type veth peer name end");
    pair.b.ip("addr add 10.9.1.1/24 dev narrow");
    pair.b.ip("link set narrow up");
    pair.b.ip("link set end up");
    pair.a.ip("route add 10.9.1.0/24 via 10.9.0.2");
    let inside = |words: &str| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", pair.a.name()]).args(words.split_whitespace());
        command.output().unwrap()
    };
    let refused = "bash -c exec&3<>/dev/tcp/10.9.0.2/9";
    for (finding, act, words) in [
        ("ptb", "ping -c 1 -W 1 -M do -s 1200 10.9.1.2", "need to frag (mtu 1000)"),
        ("rst", refused, "Flags [R.]"),
        ("icmp[0] = 8 and ip[2:2] = 777", "ping -c 1 -s 749 10.9.0.2", "ICMP echo request"),
        ("retransmit", "timeout 3 bash -c exec&3<>/dev/tcp/10.9.0.77/9", "Flags [S]"),
    ] {
        if finding == "retransmit" {
            // Somebody who does not answer: the SYN comes again after a second.
            pair.a.ip("neigh replace 10.9.0.77 lladdr 02:00:00:00:00:77 dev eth0");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.pcapng");
        let child = start(&[
            &pair.a.source(),
            "-w",
            file.to_str().unwrap(),
            "--ring-until",
            finding,
            "--tail",
            "700ms",
            "-o",
            "json",
        ]);
        wait_until("the first file's header", || files(folder.path(), ".pcapng").iter().any(|f| size(f) > 0));
        // What is not waited for does not end it.
        inside("ping -c 2 -i 0.1 10.9.0.2");
        inside(act);
        let seen = std::time::Instant::now();
        // The tail, later than a packet may lie in the kernel.
        std::thread::sleep(std::time::Duration::from_millis(350));
        inside("ping -c 1 -s 33 10.9.0.2");
        let output = child.wait_with_output().unwrap();
        assert_code(&output, 0);
        assert!(seen.elapsed() < std::time::Duration::from_secs(4), "{finding}: {:?}", seen.elapsed());
        let document = valid(&output.stdout);
        let found = &document["findings"][0];
        assert_eq!(found["id"], "capture.seen", "{document}");
        assert!(found["evidence"][0]["value"].as_str().unwrap().contains(words), "{finding}: {found}");
        let there = files(folder.path(), ".pcapng");
        assert_eq!(found["evidence"][2]["value"], there[0].to_str().unwrap());
        let lengths = tshark(&there[0], &["frame.len"]);
        if finding != "retransmit" {
            assert!(lengths.contains(&"75".to_owned()), "{finding}: the tail is there: {lengths:?}");
        }
    }
}

#[test]
fn it_ends_before_the_disk_is_full_and_does_not_begin_on_a_full_one() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().to_str().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs", disk]);
    struct Unmount<'a>(&'a str);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }
    let _unmount = Unmount(disk);
    let file = folder.path().join("x.pcapng");
    let words = [&pair.a.source(), "-w", file.to_str().unwrap(), "--min-free", "50%", "-o", "json"];
    let child = start(&words);
    wait_until("the file's header", || size(&file) > 0);
    let _ping = pair.ping("-f -s 1400 -c 100000");
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 1);
    let document = valid(&output.stdout);
    assert_eq!(document["findings"][0]["id"], "capture.disk_low", "{document}");
    let packets = tshark(&file, &["frame.number"]).len();
    assert_eq!(document["packets"], packets);
    assert!((2 << 20..3 << 20).contains(&size(&file)), "{}", size(&file));
    let words = [&pair.a.source(), "-w", &format!("{disk}/y.pcapng"), "--min-free", "3M", "-o", "json"];
    let output = capture(&words);
    assert_code(&output, 5);
    assert!(valid(&output.stdout)["message"].as_str().unwrap().contains("3.0 MiB are to stay free"));
}

#[test]
fn what_makes_no_ring_is_refused() {
    let pair = Pair::new();
    let source = pair.a.source();
    for (arguments, words) in [
        (&["-w", "-", "--max-size", "1M"][..], "for files, not for a stream"),
        (&["-w", "/dev/null", "--max-size", "1M"], "no place for several files"),
        (&["--max-size", "1M"], "--write"),
        (&["-w", "x", "--ring-until", "tcp prot"], "syntax error"),
        (&["-w", "x", "--files", "1"], "2..=100000"),
        (&["-w", "x", "--owner", "nosuchuser"], "UID:GID"),
    ] {
        let output = capture(&[&[source.as_str()], arguments].concat());
        assert_code(&output, 2);
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
    }
}
