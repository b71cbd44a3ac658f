//! Logs that a real containerd writes: long lines, restarts, and a runtime that hangs.

#![allow(clippy::unwrap_used, reason = "a test fails loudly; clippy sees only #[test] functions as tests")]

mod support;

use std::time::{Duration, Instant};
use support::lab::Lab;
use support::{stderr, stdout};

/// What `nsprobe logs …` prints on the node, once it contains `text`.
fn logs(lab: &Lab, words: &[&str], text: &str) -> String {
    let end = Instant::now() + Duration::from_secs(20);
    let command: Vec<&str> = ["nsprobe", "logs"].iter().chain(words).copied().collect();
    loop {
        let output = lab.exec(1, &command);
        let shown = stdout(&output);
        if output.status.success() && shown.contains(text) {
            return shown;
        }
        assert!(Instant::now() < end, "{words:?}: {shown}{}", stderr(&output));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_a_container_wrote_is_there_whatever_the_runtime_does() {
    let lab = Lab::up("--nodes 1 --pods none --ipv6 off");
    // 40,000 bytes: containerd cuts the line into three parts.
    let first = "echo first; head -c 40000 /dev/zero | tr '\\0' x; echo; echo oops >&2; exec sleep 1000";
    lab.script(&["pod", "1", "shop/web", "--command", first]);
    let shown = logs(&lab, &["shop/web"], "oops");
    let mut lines: Vec<&str> = shown.lines().collect();
    lines.sort_by_key(|line| line.len());
    assert_eq!((lines.len(), lines[0], lines[1], lines[2].len()), (3, "oops", "first", 40_000));
    lab.script(&["pod-restart", "1", "shop/web", "--command", "echo second; exec sleep 1000"]);
    assert_eq!(logs(&lab, &["shop/web"], "second"), "second\n");
    assert!(logs(&lab, &["-q", "shop/web", "--previous"], "oops").contains("first"));
    let id = lab.pod(1, "shop/web")["containers"][0]["id"].as_str().unwrap()[..12].to_owned();
    let ip = lab.pod(1, "shop/web")["ips"][0].as_str().unwrap().to_owned();
    lab.script(&["hang", "1"]);
    for selector in ["web", "shop/web:app"] {
        let start = Instant::now();
        assert_eq!(logs(&lab, &[selector], "second"), "second\n");
        assert!(start.elapsed() < Duration::from_secs(2), "{selector} waited for the runtime");
    }
    assert_eq!(
        logs(&lab, &["--runtime-timeout", "300ms", &ip], "second"),
        "second\n",
        "an address is looked up"
    );
    assert!(logs(&lab, &[&id], "oops").contains("first"), "the id of a container names its attempt");
    lab.script(&["resume", "1"]);
}
