//! `nsprobe logs -f`: on across rotation, truncation and restart, until the pod, its reader or the user ends it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use nix::sys::signal::Signal;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use support::capture::signal;
use support::log_node::{Node, UID, line, out};

/// A run with `-f`, and what it printed so far.
struct Following {
    child: Child,
    shown: std::sync::mpsc::Receiver<String>,
    text: String,
}

impl Following {
    fn start(node: &Node, words: &str) -> Self {
        let mut child = node.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let (sender, shown) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                let _ = sender.send(String::from_utf8_lossy(&buffer[..n]).into_owned());
            }
        });
        Self { child, shown, text: String::new() }
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.text.ends_with(text) {
            let left = end.saturating_duration_since(Instant::now());
            let more = self.shown.recv_timeout(left);
            self.text
                .push_str(&more.unwrap_or_else(|_| panic!("{text:?} did not come, only {:?}", self.text)));
        }
    }

    #[track_caller]
    fn end(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.text.extend(self.shown.iter());
                return (status.code(), self.text);
            }
            assert!(Instant::now() < end, "it did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn follow_goes_on_across_rotation_truncation_and_restart() {
    let node = Node::empty();
    node.log("app/0.log", out(1, "a"));
    let folder = node.at(&format!("var/log/pods/shop_web_{UID}/app"));
    let mut following = Following::start(&node, "web -f");
    following.wait_for("a\n");
    node.append("app/0.log", &(out(2, "b") + "2026-11-23T17:00:03Z stdout F in two"));
    following.wait_for("b\n");
    node.append("app/0.log", " writes\n");
    following.wait_for("in two writes\n");
    // The kubelet renames, the runtime opens a new file, and something comes into both.
    std::fs::rename(folder.join("0.log"), folder.join("0.log.20261123-170000")).unwrap();
    node.append("app/0.log.20261123-170000", &out(4, "into the old one"));
    node.log("app/0.log", out(5, "c"));
    following.wait_for("into the old one\nc\n");
    node.log("app/0.log", "");
    std::thread::sleep(Duration::from_millis(500));
    node.append("app/0.log", &out(6, "d"));
    following.wait_for("d\n");
    node.log("app/1.log", out(7, "restarted"));
    following.wait_for("restarted\n");
    node.log("side/0.log", out(8, "another"));
    following.wait_for("[pod/web/side] another\n");
    node.append("app/1.log", &line(9, "stdout", "P", "password: "));
    following.wait_for("[pod/web/app] password: ");
    signal(&following.child, Signal::SIGTERM);
    let (code, text) = following.end();
    let expected = "a\nb\nin two writes\ninto the old one\nc\nd\nrestarted\n[pod/web/side] another\n[pod/web/app] password: ";
    assert_eq!((code, text.as_str()), (Some(0), expected));
}

#[test]
fn names_that_no_kubelet_gives_are_no_attempts_and_a_huge_number_is_one_file() {
    let node = Node::empty();
    node.log("app/0.log", out(1, "a"));
    for name in ["+7.log", "007.log", "8.logs", "9.log.tmp", "99999999999.log"] {
        node.log(&format!("app/{name}"), out(1, "not an attempt's"));
    }
    assert_eq!(node.shows("web"), "a\n");
    let mut following = Following::start(&node, "web -f");
    following.wait_for("a\n");
    // Somebody who may write to /var/log: not one attempt after the other is looked for.
    node.log("app/4294967294.log", out(2, "b"));
    following.wait_for("b\n");
    signal(&following.child, Signal::SIGINT);
    assert_eq!(following.end(), (Some(0), "a\nb\n".into()));
}

#[test]
fn follow_ends_with_the_pod_and_with_its_reader() {
    let node = Node::empty();
    node.log("app/0.log", out(1, "a"));
    let mut following = Following::start(&node, "web -f --tail 1");
    following.wait_for("a\n");
    node.append("app/0.log", &out(2, "last words"));
    std::fs::remove_dir_all(node.at(&format!("var/log/pods/shop_web_{UID}"))).unwrap();
    assert_eq!(following.end(), (Some(0), "a\nlast words\n".to_owned()));
    node.log("app/0.log", out(1, "a"));
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = node.command("web -f").stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop(reader);
    let end = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "nobody reads it, and it went on");
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!((status.code(), words.as_str()), (Some(0), ""));
}
