//! `nsprobe logs` on recorded and made log folders under a root of their own; no runtime, no privilege.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::log_node::{Node, UID, out};
use support::pty::Terminal;
use support::{run, stderr, stdout};

const DOCKER: &str = "f687faf1239d5c7575712eec7e01accebd0e529ed80bbf1d2c3567e9a67cc1a3";

fn packed(text: &str) -> Vec<u8> {
    let mut child =
        Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn rotated_and_packed_files_are_read_in_the_order_in_which_they_were_written() {
    let node = Node::recorded("containerd-1.7");
    let shown = node.shows("shop/chatty --timestamps");
    let times: Vec<&str> = shown.lines().map(|l| l.split(' ').next().unwrap()).collect();
    let folder = node.at("var/log/pods/shop_chatty_7b27da50-f7d9-474b-ae88-860172d5d106/app");
    let script = format!("cd {} && (gzip -dc *.gz; cat *-171752 0.log) | wc -l", folder.display());
    let lines: usize = run("sh", &["-c", &script]).trim().parse().unwrap();
    assert_eq!(times.len(), lines);
    assert!(lines > 400 && times.is_sorted(), "{lines} lines");
    assert!(shown.lines().all(|l| l.contains(" padded ") && !l.contains("stdout")));
}

#[test]
fn the_parts_of_a_long_line_are_joined_whoever_cut_them() {
    for (name, pod) in [("containerd-1.7", "partial"), ("crio-1.37", "partial-k4")] {
        let shown = Node::recorded(name).shows(pod);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 4, "{name}: {:?}", lines.iter().map(|l| l.len()).collect::<Vec<_>>());
        assert!(lines.contains(&"x".repeat(40_000).as_str()) && lines.contains(&"err line"), "{name}");
        assert!(
            shown.ends_with("no newline at end"),
            "a pipe gets no newline that the container did not write"
        );
    }
}

#[test]
fn tail_counts_lines_of_the_container_across_files() {
    let node = Node::recorded("containerd-1.7");
    let all = node.shows("chatty --timestamps");
    let lines: Vec<&str> = all.lines().collect();
    for tail in [1, 10, 60, 200, 300, lines.len() - 1, lines.len(), lines.len() + 1] {
        let shown = node.shows(&format!("chatty --timestamps --tail {tail}"));
        let expected = &lines[lines.len().saturating_sub(tail)..];
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected, "--tail {tail}");
    }
    assert_eq!(node.shows("chatty --tail 0"), "");
    assert_eq!(
        node.shows("partial --tail 3").lines().next().unwrap().len(),
        40_000,
        "three parts are one line"
    );
}

#[test]
fn the_last_lines_of_a_huge_log_are_read_from_its_end() {
    let node = Node::empty();
    node.log("app/0.log", "");
    let path = node.at(&format!("var/log/pods/shop_web_{UID}/app/0.log"));
    // A hole of 8 GiB: reading it all would take many seconds.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(8 << 30).unwrap();
    node.append("app/0.log", &(0..200).map(|n| out(n, &n.to_string())).collect::<String>());
    let start = Instant::now();
    assert_eq!(node.shows("web --tail 2"), "198\n199\n");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn since_leaves_out_what_is_older_in_every_file() {
    let node = Node::empty();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let at = |ago: u64, text: &str| {
        let time = nsprobe::facts::rfc3339(i64::try_from(now - ago).unwrap());
        format!("{time} stdout F {text}\n")
    };
    node.log("app/0.log.20261123-170000.gz", packed(&(at(9000, "a") + &at(4000, "b"))));
    let many: String = (0..5000).map(|n| at(3000 - n / 5, &format!("c{n}"))).collect();
    node.log("app/0.log.20261123-180000", many);
    node.log("app/0.log", at(20, "d") + &at(10, "e"));
    assert_eq!(node.shows("web --since 1m"), "d\ne\n");
    assert_eq!(node.shows("web --since 3h").lines().count(), 5004);
    assert_eq!(node.shows("web --since 75m").lines().next(), Some("b"));
    let some = node.shows("web --since 2500s");
    assert!((2400..2510).contains(&(some.lines().count() - 2)), "{}", some.lines().count());
    assert_eq!(node.shows("web --since 1m --tail 1"), "e\n");
    assert_eq!(node.shows("web --since 15s --tail 5"), "e\n");
}

#[test]
fn several_containers_come_in_the_order_of_time_each_with_its_name() {
    let node = Node::empty();
    node.log("app/0.log", out(1, "one") + &out(3, "three"));
    node.log("side/0.log", out(2, "two") + &out(4, "four"));
    let expected = "[pod/web/app] one\n[pod/web/side] two\n[pod/web/app] three\n[pod/web/side] four\n";
    assert_eq!(node.shows("shop/web"), expected);
    assert_eq!(node.shows("web:side"), "two\nfour\n");
    assert_eq!(node.shows("web -c app --timestamps --tail 1"), "2026-11-23T17:00:03.000000001Z three\n");
    let error = node.fails("web:none", 3);
    assert!(error.contains("no log of a container none; it has: app, side"), "{error}");
}

#[test]
fn previous_is_the_newest_attempt_that_has_ended() {
    let node = Node::empty();
    node.log("app/3.log", out(1, "third"));
    assert!(node.fails("web --previous", 3).contains("no earlier attempt of shop/web"));
    node.log("app/4.log", out(2, "fourth"));
    assert_eq!((node.shows("web"), node.shows("web -p")), ("fourth\n".into(), "third\n".into()));
    // Between two attempts nothing of the newest runs: that is the one before the next.
    let target = format!("/var/log/pods/shop_web_{UID}/app/4.log");
    std::fs::create_dir_all(node.at("var/log/containers")).unwrap();
    symlink(&target, node.at(&format!("var/log/containers/web_shop_app-{DOCKER}.log"))).unwrap();
    node.put("proc/1/stat", "1 (systemd) S 0 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 5 9 9");
    node.put("proc/1/cgroup", "0::/init.scope\n");
    assert_eq!(node.shows("web -p"), "fourth\n");
    node.put("proc/9/stat", "9 (app) S 1 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 7 9 9");
    node.put("proc/9/cgroup", format!("0::/kubepods/pod{UID}/{DOCKER}\n"));
    assert_eq!(node.shows("web -p"), "third\n");
}

#[test]
fn dockers_own_files_are_read_through_their_link() {
    let node = Node::empty();
    let json = |n: u32, text: &str| {
        format!(r#"{{"log":"{text}","stream":"stdout","time":"2026-11-23T17:00:0{n}Z"}}"#) + "\n"
    };
    let log = format!("var/lib/docker/containers/{DOCKER}/{DOCKER}-json.log");
    node.put(&format!("{log}.2.gz"), packed(&json(1, "a\\n")));
    node.put(&format!("{log}.1"), json(2, "b\\n"));
    node.put(&log, json(3, "c, ") + &json(4, "d\\n"));
    std::fs::create_dir_all(node.at(&format!("var/log/pods/shop_web_{UID}/app"))).unwrap();
    symlink(format!("/{log}"), node.at(&format!("var/log/pods/shop_web_{UID}/app/0.log"))).unwrap();
    assert_eq!(node.shows("web"), "a\nb\nc, d\n");
    assert_eq!(node.shows("web --tail 2"), "b\nc, d\n");
    // What a link there points to in turn is not read.
    std::fs::remove_file(node.at(&log)).unwrap();
    node.put("etc/shadow", "secret\n");
    symlink("/etc/shadow", node.at(&log)).unwrap();
    assert!(node.fails("web", 5).contains("is a symbolic link to /etc/shadow"));
}

#[test]
fn a_link_out_of_the_log_folder_is_refused_wherever_it_is() {
    let node = Node::empty();
    node.put("etc/shadow", "secret\n");
    node.put("evil/0.log", "secret\n");
    node.put("evil/app/0.log", "secret\n");
    let folder = node.at(&format!("var/log/pods/shop_web_{UID}"));
    std::fs::create_dir_all(folder.join("app")).unwrap();
    for target in ["/etc/shadow", "../../../../../etc/shadow"] {
        symlink(target, folder.join("app/0.log")).unwrap();
        let output = node.run("web");
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(5), ""), "{target}");
        assert!(stderr(&output).contains("only links to Docker's own container logs"), "{}", stderr(&output));
        std::fs::remove_file(folder.join("app/0.log")).unwrap();
    }
    std::fs::remove_dir(folder.join("app")).unwrap();
    symlink("/evil", folder.join("app")).unwrap();
    for words in ["web", "web:app"] {
        let output = node.run(words);
        assert_eq!(
            (output.status.code(), stdout(&output).as_str()),
            (Some(3), ""),
            "{words}: no folder, no log"
        );
    }
    std::fs::remove_dir_all(&folder).unwrap();
    symlink("/evil", &folder).unwrap();
    let output = node.run("web");
    assert_ne!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "");
}

#[test]
fn silence_is_told_as_the_containers_or_the_filters() {
    let node = Node::empty();
    node.log("app/0.log", "");
    for (words, said) in
        [("web", "has written nothing\n"), ("web --tail 3", "nothing of what was asked for\n")]
    {
        let output = node.run(words);
        assert!(stderr(&output).ends_with(said), "{}", stderr(&output));
    }
}

#[test]
fn a_fifo_in_the_place_of_a_log_does_not_hang() {
    let node = Node::empty();
    node.log("app/1.log", "");
    let path = node.at(&format!("var/log/pods/shop_web_{UID}/app/2.log"));
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(node.fails("web", 5).contains("2.log: it is no regular file"));
}

#[test]
fn a_damaged_packed_file_is_said_and_the_rest_is_printed() {
    let node = Node::empty();
    let mut broken =
        packed(&(0..2000).map(|n| out(n % 60, &format!("a{}", n * 7919 % 10_007))).collect::<String>());
    broken.truncate(broken.len() / 2);
    node.log("app/0.log.20261123-170000.gz", broken);
    node.log("app/0.log.20261123-170100.gz", "no gzip at all");
    node.log("app/0.log", out(61, "last"));
    let output = node.run("web");
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(5));
    assert!(shown.starts_with("a0\n") && shown.ends_with("\nlast\n") && shown.lines().count() > 100);
    let error = stderr(&output);
    assert!(error.contains("170000.gz") && error.contains("170100.gz: invalid gzip header"), "{error}");
    assert_eq!(stdout(&node.run("web --tail 1")), "last\n");
}

#[test]
fn anything_may_stand_in_a_log() {
    let node = Node::empty();
    let long = "y".repeat(5 << 20);
    let mut text = b"\x00\xff\xfe no format\n".to_vec();
    text.extend_from_slice(out(1, &long).as_bytes());
    text.extend_from_slice(b"2026-11-23T17:00:02Z stdout F \x1b[31mred\x1b[0m \xff\n");
    text.extend_from_slice(b"2026-11-23T17:00:03Z stdout F cut of");
    node.log("app/0.log", &text);
    let output = node.run("web");
    let mut expected = b"\x00\xff\xfe no format\n".to_vec();
    expected.extend_from_slice(format!("{long}\n").as_bytes());
    expected.extend_from_slice(b"\x1b[31mred\x1b[0m \xff\ncut of\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(output.stdout == expected, "{} bytes of {}", output.stdout.len(), expected.len());
    node.log("app/0.log", "");
    let output = node.run("web");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), ""));
    assert!(stderr(&output).contains("has written nothing"), "{}", stderr(&output));
}

#[test]
fn a_terminal_gets_no_control_characters() {
    let node = Node::empty();
    node.log("app/0.log", out(1, "\u{1b}]0;owned\u{7}\tend"));
    let command = format!("{} --host-root {} logs web", env!("CARGO_BIN_EXE_nsprobe"), node.at("").display());
    let mut terminal = Terminal::run(&command);
    terminal.wait_for("\\u{1b}]0;owned\\u{7}\tend");
    assert_eq!(terminal.exit_code(), 0);
}

#[test]
fn a_pod_is_found_on_disk_while_the_runtime_hangs() {
    let node = Node::empty();
    node.log("app/0.log", out(1, "hello"));
    node.put(&format!("var/log/pods/other_web_{}/app/0.log", UID.replace('1', "2")), out(1, "other"));
    std::fs::create_dir_all(node.at("var/log/containers")).unwrap();
    let link = format!("var/log/containers/web_shop_app-{DOCKER}.log");
    symlink(format!("/var/log/pods/shop_web_{UID}/app/0.log"), node.at(&link)).unwrap();
    std::fs::create_dir_all(node.at("run/containerd")).unwrap();
    // It accepts connections and never answers.
    let _hung = std::os::unix::net::UnixListener::bind(node.at("run/containerd/containerd.sock")).unwrap();
    let start = Instant::now();
    for words in ["shop/web", "id:11111111", UID, &DOCKER[..13], "pod:shop/web:app"] {
        assert_eq!(node.shows(words), "hello\n", "{words}");
    }
    assert!(start.elapsed() < Duration::from_secs(2), "the runtime was waited for: {:?}", start.elapsed());
    let error = node.fails("web", 3);
    assert!(error.contains("web fits 2: other/web (UID ") && error.contains("shop/web (UID"), "{error}");
    let error = node.fails("shop/wep", 3);
    assert!(
        error.contains("no logs of a pod shop/wep") && error.contains("close: other/web, shop/web"),
        "{error}"
    );
    assert!(node.fails("host", 3).contains("names no pod"));
}

#[test]
fn of_pods_that_had_one_name_the_one_that_wrote_last_is_meant() {
    let node = Node::empty();
    let former = "aaaaaaaa-2222-3333-4444-555555555555";
    let old = format!("var/log/pods/shop_web_{former}/app/0.log");
    node.put(&old, out(1, "old"));
    let hour = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().append(true).open(node.at(&old)).unwrap().set_modified(hour).unwrap();
    node.log("app/0.log", out(2, "new"));
    let output = node.run("web");
    assert_eq!(stdout(&output), "new\n");
    assert!(
        stderr(&output).contains(&format!("former pods of that name: id:{former}")),
        "{}",
        stderr(&output)
    );
    assert_eq!(node.shows(&format!("id:{former}")), "old\n");
}

#[test]
fn two_containers_that_contradict_each_other_are_refused() {
    let node = Node::empty();
    node.log("app/0.log", out(1, "a"));
    node.log("side/0.log", out(1, "b"));
    assert_eq!((node.shows("web:app -c app"), node.shows("web -c side")), ("a\n".into(), "b\n".into()));
    assert!(node.fails("web:app -c side", 2).contains("web:app is container app, and -c asks for side"));
}
