//! Paths that filter ICMP, asked by TCP and UDP, and the order in which `--method auto` asks.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;
use serde_json::Value;
use std::process::{Command, Stdio};
use support::namespace_path::NamespacePath;
use support::{Running, nsprobe, stderr, stdout};

/// A path of 1450 bytes behind the first router, which says so or does not; the target answers echo or not.
fn path(family: u8, ptb: &str, echo: bool) -> NamespacePath {
    let text = format!(
        "about = 'methods'\nfamily = {family}\ninterface_mtu = 1500\n\
         hop = [{{ mtu = 1500 }}, {{ mtu = 1450, ptb = '{ptb}' }}]\ntarget = {{ echo = {echo} }}\n\
         expect = {{ verdict = 'black_hole', path_mtu = 1450 }}"
    );
    NamespacePath::build(&toml::from_str(&text).unwrap())
}

fn mtu(path: &NamespacePath, words: &[&str]) -> (Option<i32>, Value) {
    let mut command = nsprobe();
    command.args(["mtu", &path.source(), &path.target(), "-o", "json"]).args(words);
    let output = command.output().unwrap();
    let document =
        serde_json::from_str(&stdout(&output)).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
    (output.status.code(), document)
}

fn serve(path: &NamespacePath, words: &str) -> Running {
    let arguments = ["netns", "exec", path.target_namespace().name(), "socat"];
    let child = Command::new("ip")
        .args(arguments)
        .args(words.split(' '))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    Running(child)
}

fn seen(document: &Value) -> (&str, Option<u64>, &str) {
    (
        document["verdict"].as_str().unwrap(),
        document["path_mtu_bytes"].as_u64(),
        document["method"].as_str().unwrap(),
    )
}

#[test]
fn where_only_a_tcp_port_answers_auto_says_what_tcp_found() {
    for family in [4, 6] {
        let path = path(family, "silent", false);
        let _server = serve(&path, &format!("TCP{family}-LISTEN:8080,fork,reuseaddr /dev/null"));
        let (code, document) = mtu(&path, &["--port", "8080"]);
        assert_eq!(seen(&document), ("black_hole", Some(1450), "tcp"), "{document:#}");
        assert_eq!(code, Some(1));
        let findings = document["findings"].as_array().unwrap();
        assert!(findings.iter().any(|f| f["id"] == "mtu.other_method"), "{document:#}");
    }
}

#[test]
fn a_closed_udp_port_answers_within_its_limit() {
    for (family, ptb, verdict) in [
        (4, "silent", "black_hole"),
        (4, "honest", "narrowed"),
        (6, "silent", "black_hole"),
        (6, "honest", "narrowed"),
    ] {
        let path = path(family, ptb, false);
        let (_, document) = mtu(&path, &["--method", "udp", "--port", "33434"]);
        assert_eq!(seen(&document), (verdict, Some(1450), "udp"), "IPv{family} {ptb}\n{document:#}");
        let flag = if family == 6 { "-6" } else { "-4" };
        let route = path.source_namespace().ip(&format!("{flag} route get {}", path.target()));
        assert!(!route.contains("mtu"), "IPv{family}: {route}");
    }
}

#[test]
fn where_echo_is_filtered_and_no_router_speaks_what_the_host_says_of_protocols_is_enough() {
    for family in [4, 6] {
        let path = path(family, "silent", false);
        let (code, document) = mtu(&path, &["--timeout", "200ms"]);
        assert_eq!(seen(&document), ("black_hole", Some(1450), "icmp"), "{document:#}");
        assert_eq!(code, Some(1));
        assert_eq!(document["reverse"]["verdict"], "unknown");
        let findings = document["findings"].as_array().unwrap();
        assert!(findings.iter().any(|f| f["id"] == "mtu.echo_filtered"), "{document:#}");
    }
}

/// The first has used up what the host gives at once: then there is one answer a second.
#[test]
fn where_only_errors_answer_the_next_search_finds_it_too() {
    for family in [4, 6] {
        let path = path(family, "silent", false);
        for time in 1..=3 {
            let (_, document) = mtu(&path, &[]);
            assert_eq!(seen(&document), ("black_hole", Some(1450), "icmp"), "time {time}: {document:#}");
        }
    }
}

#[test]
fn no_port_is_asked_that_nobody_named() {
    let path = path(4, "silent", false);
    support::run(
        "ip",
        &[
            "netns",
            "exec",
            path.target_namespace().name(),
            "nft",
            "add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i ip protocol 253 drop",
        ],
    );
    let (_, document) = mtu(&path, &["--timeout", "200ms"]);
    assert_eq!(seen(&document), ("unreachable", None, "icmp"), "{document:#}");
    let output = nsprobe().args(["mtu", &path.source(), &path.target(), "--method", "tcp"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn where_echo_is_filtered_a_named_size_is_confirmed_without_a_port() {
    let path = path(4, "honest", false);
    // Neither TCP nor UDP leaves the source.
    let rules = "add table inet t; add chain inet t o { type filter hook output priority 0; }; \
                 add rule inet t o meta l4proto { tcp, udp } counter";
    let source = path.source_namespace().name();
    support::run("ip", &["netns", "exec", source, "nft", rules]);
    let (_, document) = mtu(&path, &[]);
    assert_eq!(seen(&document), ("narrowed", Some(1450), "icmp"), "{document:#}");
    assert_eq!(document["signalled"], true);
    // A small answer says nothing of the way back, and what echo is not answered with no loss.
    assert_eq!(document["reverse"]["verdict"], "unknown");
    assert_eq!(document["loss_ratio"], Value::Null);
    let findings: Vec<_> = document["findings"].as_array().unwrap().iter().map(|f| &f["id"]).collect();
    assert!(findings.iter().all(|id| *id != "mtu.target_silent"), "{findings:?}");
    assert!(findings.iter().any(|id| *id == "mtu.echo_filtered"), "{findings:?}");
    let counted = support::run("ip", &["netns", "exec", source, "nft", "list", "table", "inet", "t"]);
    assert!(counted.contains("counter packets 0 "), "{counted}");
}

#[test]
fn where_echo_answers_auto_connects_to_nobody() {
    let path = path(4, "honest", true);
    let (_, document) = mtu(&path, &["--port", "8080"]);
    assert_eq!(seen(&document), ("narrowed", Some(1450), "icmp"), "{document:#}");
}

#[test]
fn over_ipv6_a_narrow_way_back_is_told_apart_from_a_narrow_way_there() {
    let text = "about = 'back'\nfamily = 6\ninterface_mtu = 1500\nhop = [{ mtu = 1500 }]\n\
                expect = { verdict = 'clear', path_mtu = 1500 }";
    let path = NamespacePath::build(&toml::from_str(text).unwrap());
    // Replies over 1400 bytes never leave the router towards the source.
    let rule = "add table inet back; add chain inet back f { type filter hook forward priority 0; }; \
                add rule inet back f icmpv6 type echo-reply meta length > 1400 drop";
    support::run("ip", &["netns", "exec", path.router_namespace().name(), "nft", rule]);
    let (code, document) = mtu(&path, &[]);
    assert_eq!(seen(&document), ("clear", Some(1500), "icmp"), "{document:#}");
    assert_eq!(document["reverse"]["verdict"], "black_hole");
    assert_eq!(document["reverse"]["limit_bytes"], 1400);
    assert_eq!(code, Some(1));
}

#[test]
fn flows_that_take_paths_of_different_mtu_are_told() {
    // Two links between router and target, one of them narrow, shared by a hash of the ports.
    let text = "about = 'ecmp'\ninterface_mtu = 1500\nhop = [{ mtu = 1500 }]\n\
                expect = { verdict = 'clear', path_mtu = 1500 }";
    let path = NamespacePath::build(&toml::from_str(text).unwrap());
    let (router, target) = (path.router_namespace(), path.target_namespace());
    router
        .ip(&format!("link add second mtu 1450 type veth peer name second mtu 1450 netns {}", target.name()));
    for (node, end) in [(router, 1), (target, 2)] {
        node.ip(&format!("addr add 10.98.0.{end}/24 dev second"));
        node.ip("link set second up");
    }
    target.ip("addr add 10.97.0.1/32 dev lo");
    path.source_namespace().ip("route add 10.97.0.1/32 via 10.99.0.2");
    router.ip("route add 10.97.0.1/32 nexthop via 10.99.1.2 nexthop via 10.98.0.2");
    let policy = "echo 1 > /proc/sys/net/ipv4/fib_multipath_hash_policy";
    support::run("ip", &["netns", "exec", router.name(), "sh", "-c", policy]);
    let output = nsprobe()
        .args([
            "mtu",
            &path.source(),
            "10.97.0.1",
            "--method",
            "udp",
            "--port",
            "33434",
            "--flows",
            "16",
            "-o",
            "json",
        ])
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = document["findings"].as_array().unwrap();
    assert!(findings.iter().any(|f| f["id"] == "mtu.flows_differ"), "{document:#}");
}

#[test]
fn a_watch_prints_a_document_a_line_and_ends_in_order() {
    let path = path(4, "honest", true);
    let child = nsprobe()
        .args(["mtu", &path.source(), &path.target(), "--watch=100ms", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(900));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::SIGINT)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 3, "{} documents", lines.len());
    assert!(lines.iter().all(|document| document["path_mtu_bytes"] == 1450));
}

/// A name server that reads 512 bytes of a question, as many do, and answers what it could read whole.
const SMALL_NAME_SERVER: &str = r"
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 53))
while True:
    data, _, flags, peer = s.recvmsg(512)
    if not flags & socket.MSG_TRUNC and len(data) >= 12:
        s.sendto(data[:2] + bytes([0x81, 0x05]) + data[4:6] + bytes(6) + data[12:17], peer)
";

#[test]
fn a_name_server_that_takes_no_large_question_is_no_narrow_path() {
    for family in [4, 6] {
        let path = path(family, "silent", false);
        let server = Command::new("ip")
            .args(["netns", "exec", path.target_namespace().name(), "python3", "-c", SMALL_NAME_SERVER])
            .arg(path.target())
            .spawn()
            .unwrap();
        let _server = Running(server);
        std::thread::sleep(std::time::Duration::from_millis(400));
        let (_, document) = mtu(&path, &["--method", "udp", "--port", "53"]);
        assert_eq!(seen(&document), ("black_hole", Some(1450), "udp"), "IPv{family}\n{document:#}");
    }
}

#[test]
fn a_target_that_nobody_can_ask_costs_the_deadline_and_no_more() {
    for family in [4, 6] {
        let path = path(family, "silent", false);
        let drop = "add table inet d; add chain inet d i { type filter hook input priority 0; }; \
                    add rule inet d i meta l4proto { tcp, udp } drop";
        support::run("ip", &["netns", "exec", path.target_namespace().name(), "nft", drop]);
        let begin = std::time::Instant::now();
        let (code, document) = mtu(&path, &["--port", "8080", "--deadline", "2s"]);
        let took = begin.elapsed();
        assert!(took < std::time::Duration::from_millis(2600), "{took:?}\n{document:#}");
        assert_eq!((code, &document["path_mtu_bytes"]), (Some(1), &Value::Null), "{document:#}");
    }
}
