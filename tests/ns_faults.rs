//! What breaks while a path is measured: the interface, the process that the namespace belongs to.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::namespace_path::NamespacePath;
use support::{Running, nsprobe, stderr, stdout};

fn path(family: u8, target: &str) -> NamespacePath {
    let text = format!(
        "about = 'faults'\nfamily = {family}\ninterface_mtu = 1500\nhop = [{{ mtu = 1450, ptb = 'silent' }}]\n\
         target = {{ {target} }}\nexpect = {{ verdict = 'black_hole', path_mtu = 1450 }}"
    );
    NamespacePath::build(&toml::from_str(&text).unwrap())
}

fn start(source: &str, target: &str) -> Child {
    let mut command = nsprobe();
    command.args(["mtu", source, target, "-o", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn document(child: Child) -> (Option<i32>, serde_json::Value) {
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {text}")))
}

#[test]
fn an_interface_that_goes_down_in_the_middle_ends_the_search_without_a_number() {
    for family in [4, 6] {
        let path = path(family, "echo = false, unknown_protocol = false, no_port = false");
        let begin = Instant::now();
        let child = start(&path.source(), &path.target());
        std::thread::sleep(Duration::from_millis(400));
        path.source_namespace().ip("link set right down");
        let (code, document) = document(child);
        assert!(begin.elapsed() < Duration::from_secs(11), "{:?}", begin.elapsed());
        assert_eq!(code, Some(1), "{document:#}");
        let verdict = document["verdict"].as_str().unwrap();
        assert!(["unreachable", "inconclusive"].contains(&verdict), "{document:#}");
        assert!(document["path_mtu_bytes"].is_null() && document["confidence"].is_null(), "{document:#}");
        let first = &document["findings"][0];
        assert_eq!(first["id"], "mtu.interface_down", "{document:#}");
        assert!(first["summary"].as_str().unwrap().contains("right is down"), "{first}");
    }
}

/// Over and over, as its links go: what is there no more is no fault of the target.
#[test]
fn an_interface_without_carrier_and_one_that_is_gone_are_told() {
    let path = path(4, "echo = true");
    let source = path.source_namespace();
    let text = || {
        let output = nsprobe().args(["mtu", &path.source(), &path.target()]).output().unwrap();
        (output.status.code(), stdout(&output).split_whitespace().collect::<Vec<_>>().join(" "))
    };
    path.router(1).ip("link set left down");
    let (code, said) = text();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("UNREACHABLE") && said.contains("right has no carrier: nothing leaves by it"),
        "{said}"
    );
    assert!(!said.contains("Check the route and the policies"), "{said}");
    path.router(1).ip("link set left up");
    // A filter on the way makes the search last for a second.
    support::run(
        "ip",
        &[
            "netns",
            "exec",
            path.router(1).name(),
            "nft",
            "add table ip f; add chain ip f f { type filter hook forward priority 0; policy drop; }",
        ],
    );
    let child = start(&path.source(), &path.target());
    std::thread::sleep(Duration::from_millis(300));
    source.ip("link del right");
    let (code, document) = document(child);
    assert_eq!(
        (code, &document["findings"][0]["id"]),
        (Some(1), &"mtu.interface_down".into()),
        "{document:#}"
    );
    assert!(
        document["findings"][0]["summary"].as_str().unwrap().contains("right was removed"),
        "{document:#}"
    );
}

#[test]
fn the_death_of_the_last_process_of_a_namespace_does_not_end_a_search_in_it() {
    // A few answers a second: the search lasts long enough for the process to die in its middle.
    let path = path(4, "limit = [4.0, 2.0]");
    let name = path.source_namespace().name();
    let sleeper = Command::new("ip").args(["netns", "exec", name, "sleep", "60"]).spawn().unwrap();
    let mut sleeper = Running(sleeper);
    std::thread::sleep(Duration::from_millis(200));
    let target = path.target();
    let child = start(&format!("pid:{}", sleeper.0.id()), &target);
    std::thread::sleep(Duration::from_millis(300));
    // Nothing but the search holds the namespace now.
    support::run("ip", &["netns", "del", name]);
    sleeper.0.kill().unwrap();
    sleeper.0.wait().unwrap();
    let (_, document) = document(child);
    assert_eq!(
        (&document["verdict"], &document["path_mtu_bytes"]),
        (&"black_hole".into(), &1450.into()),
        "{document:#}"
    );
}

/// A target that says nothing to a connection.
fn silent_port() -> NamespacePath {
    let path = path(4, "");
    let drop = "add table inet d; add chain inet d i { type filter hook input priority 0; }; \
                add rule inet d i meta l4proto tcp drop";
    path.target_namespace().nft(drop);
    path
}

#[test]
fn who_waits_for_longer_than_a_second_is_told_for_whom() {
    let path = silent_port();
    let run = |more: &[&str]| {
        let arguments = ["mtu", &path.source(), &path.target(), "--method", "tcp", "--port", "80"];
        let output = nsprobe().args(arguments).args(more).output().unwrap();
        (output.status.code(), stderr(&output))
    };
    let (code, text) = run(&[]);
    assert_eq!(code, Some(1), "{text}");
    let waiting: Vec<_> = text.lines().filter(|line| line.starts_with("waiting for answers of ")).collect();
    // The SYN's patience is 3.5 s.
    assert_eq!(waiting.len(), 3, "{text}");
    assert!(waiting[0].contains(&path.target()) && waiting[0].contains("at most 8 s more"), "{text}");
    for quiet in [["-q"].as_slice(), &["-o", "json"]] {
        let (code, text) = run(quiet);
        assert_eq!((code, text.contains("waiting")), (Some(1), false), "{text}");
    }
}

#[test]
fn ctrl_c_ends_the_wait_for_a_connection_at_once() {
    let path = silent_port();
    let begin = Instant::now();
    let child = nsprobe()
        .args(["mtu", &path.source(), &path.target(), "--method", "tcp", "--port", "80"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    support::capture::signal(&child, nix::sys::signal::Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(output.status.code(), Some(130));
    assert!(stderr(&output).contains("interrupted before port 80 answered"), "{}", stderr(&output));
}
