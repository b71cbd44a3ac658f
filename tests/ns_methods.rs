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
use support::namespace_path::{NamespacePath, mtu, seen};
use support::{Netns, Running, nsprobe, run, stderr, stdout};

/// A path of 1450 bytes behind the first router, which says so or does not; the target answers echo or not.
fn path(family: u8, ptb: &str, echo: bool) -> NamespacePath {
    let text = format!(
        "about = 'methods'\nfamily = {family}\ninterface_mtu = 1500\n\
         hop = [{{ mtu = 1500 }}, {{ mtu = 1450, ptb = '{ptb}' }}]\ntarget = {{ echo = {echo} }}\n\
         expect = {{ verdict = 'black_hole', path_mtu = 1450 }}"
    );
    NamespacePath::build(&toml::from_str(&text).unwrap())
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

/// Counts what leaves the source to any port; port 0 is none, no socket can have it.
fn count_ports(path: &NamespacePath) {
    let rules = "add table inet t; add chain inet t o { type filter hook output priority 0; }; \
                 add rule inet t o meta l4proto { tcp, udp } th dport != 0 counter";
    path.source_namespace().nft(rules);
}

fn assert_no_port_was_asked(path: &NamespacePath) {
    let source = path.source_namespace().name();
    let counted = support::run("ip", &["netns", "exec", source, "nft", "list", "table", "inet", "t"]);
    assert!(counted.contains("counter packets 0 "), "{counted}");
}

#[test]
fn no_port_is_asked_that_nobody_named() {
    let path = path(4, "silent", false);
    count_ports(&path);
    let target = path.target_namespace().name();
    let rules = "add table ip t; add chain ip t i { type filter hook input priority 0; }; \
                 add rule ip t i ip protocol 253 drop";
    support::run("ip", &["netns", "exec", target, "nft", rules]);
    let (_, document) = mtu(&path, &["--timeout", "200ms"]);
    assert_eq!(seen(&document), ("unreachable", None, "icmp"), "{document:#}");
    assert_no_port_was_asked(&path);
    let output = nsprobe().args(["mtu", &path.source(), &path.target(), "--method", "tcp"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

/// Linux gives a router's refusal the address that it has translated (nf_nat): it looks like the target's own.
#[test]
fn a_refusal_in_the_name_of_a_translated_address_does_not_say_that_a_packet_arrived() {
    let path = path(4, "honest", false);
    path.source_namespace().ip("route add 10.77.0.1 via 10.99.0.2");
    let rules = "add table ip n; add chain ip n p { type nat hook prerouting priority -100; }; \
                 add rule ip n p ip daddr 10.77.0.1 dnat to 10.99.2.2; \
                 add chain ip n f { type filter hook forward priority 0; }; \
                 add rule ip n f ct state established,related accept; add rule ip n f meta l4proto udp reject; \
                 add rule ip n f iifname left drop";
    path.router(1).nft(rules);
    let output = nsprobe()
        .args(["mtu", &path.source(), "10.77.0.1", "--timeout", "200ms", "-o", "json"])
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(seen(&document), ("unreachable", None, "icmp"), "{document:#}");
}

#[test]
fn where_echo_is_filtered_a_named_size_is_confirmed_without_a_port() {
    let path = path(4, "honest", false);
    count_ports(&path);
    let (_, document) = mtu(&path, &[]);
    assert_eq!(seen(&document), ("narrowed", Some(1450), "icmp"), "{document:#}");
    assert_eq!(document["signalled"], true);
    // A small answer says nothing of the way back, and what echo is not answered with no loss.
    assert_eq!(document["reverse"]["verdict"], "unknown");
    assert_eq!(document["loss_ratio"], Value::Null);
    let findings: Vec<_> = document["findings"].as_array().unwrap().iter().map(|f| &f["id"]).collect();
    assert!(findings.iter().all(|id| *id != "mtu.target_silent"), "{findings:?}");
    assert!(findings.iter().any(|id| *id == "mtu.echo_filtered"), "{findings:?}");
    assert_no_port_was_asked(&path);
}

#[test]
fn where_echo_answers_auto_connects_to_nobody() {
    let path = path(4, "honest", true);
    let (_, document) = mtu(&path, &["--port", "8080"]);
    assert_eq!(seen(&document), ("narrowed", Some(1450), "icmp"), "{document:#}");
}

#[test]
fn a_tcp_port_that_says_nothing_is_a_verdict_and_ends_no_other_search() {
    let path = path(4, "honest", true);
    let drop = "add table inet d; add chain inet d i { type filter hook input priority 0; }; \
                add rule inet d i tcp dport 8080 drop";
    path.target_namespace().nft(drop);
    let _server = serve(&path, "TCP4-LISTEN:8081,fork,reuseaddr /dev/null");
    let (code, document) = mtu(&path, &["--method", "tcp", "--port", "8080", "--deadline", "2s"]);
    assert_eq!(seen(&document), ("unreachable", None, "tcp"), "{document:#}");
    assert_eq!(code, Some(1));
    let said = document["findings"][0]["summary"].as_str().unwrap();
    assert!(said.starts_with("port 8080 of"), "{document:#}");
    // The router answers by RST: its result stays.
    let words = ["10.99.0.2", "--method", "tcp", "--port", "8080", "--deadline", "2s"];
    let (_, both) = mtu(&path, &words);
    assert_eq!(both["results"][0]["verdict"], "unreachable", "{both:#}");
    assert_eq!(both["results"][1]["verdict"], "clear", "{both:#}");
}

#[test]
fn a_watch_sees_that_the_interface_has_another_mtu() {
    let text = "about = 'clear'\ninterface_mtu = 1500\nexpect = { verdict = 'clear', path_mtu = 1500 }";
    let path = NamespacePath::build(&toml::from_str(text).unwrap());
    let child = nsprobe()
        .args(["mtu", &path.source(), &path.target(), "--watch=100ms", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for mtu in [1400, 1500] {
        std::thread::sleep(std::time::Duration::from_millis(600));
        path.source_namespace().ip(&format!("link set right mtu {mtu}"));
        path.target_namespace().ip(&format!("link set left mtu {mtu}"));
    }
    std::thread::sleep(std::time::Duration::from_millis(600));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::SIGINT)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut sizes: Vec<_> = lines.iter().filter_map(|document| document["path_mtu_bytes"].as_u64()).collect();
    sizes.dedup();
    assert_eq!(sizes, [1500, 1400, 1500]);
    let last = lines.last().unwrap();
    assert_eq!((&last["verdict"], &last["source"]["route_mtu_bytes"]), (&"clear".into(), &1500.into()));
}

/// A narrow link beside the path's own: 10.98.0.1 to 10.98.0.2, fd98::1 to fd98::2.
fn second_link(near: &Netns, far: &Netns) {
    near.ip(&format!("link add second mtu 1450 type veth peer name second mtu 1450 netns {}", far.name()));
    for (node, end) in [(near, 1), (far, 2)] {
        node.ip(&format!("addr add 10.98.0.{end}/24 dev second"));
        node.ip(&format!("addr add fd98::{end}/64 nodad dev second"));
        node.ip("link set second up");
    }
}

/// A rule by source sends elsewhere what an IPv4 connection of that source would send there.
#[test]
fn a_rule_by_source_decides_by_which_interface_packets_leave() {
    let text = "about = 'rule'\ninterface_mtu = 1500\nhop = [{ mtu = 1500 }]\n\
                expect = { verdict = 'clear', path_mtu = 1500 }";
    let path = NamespacePath::build(&toml::from_str(text).unwrap());
    let (source, router) = (path.source_namespace(), path.router(1));
    second_link(source, router);
    source.ip("route add default via 10.98.0.2 table 100");
    source.ip("rule add from 10.99.0.1 table 100");
    let _server = serve(&path, "TCP4-LISTEN:8081,fork,reuseaddr /dev/null");
    for words in [&[][..], &["--method", "tcp", "--port", "8081"], &["--method", "udp", "--port", "33434"]] {
        let (_, document) = mtu(&path, words);
        assert_eq!(document["source"]["interface"], "second", "{document:#}");
        assert_eq!(document["source"]["address"], "10.99.0.1", "{document:#}");
        assert_eq!((seen(&document).0, seen(&document).1), ("clear", Some(1450)), "{document:#}");
    }
}

/// An IPv6 connection begins by the way that is found without a source. Only where there is none does the kernel choose
/// a source and look again (net/ipv6/ip6_output.c `ip6_dst_lookup_tail`), and a rule by source decides.
#[test]
fn over_ipv6_a_rule_by_source_decides_where_there_is_no_way_without_it() {
    let text = "about = 'rule'\nfamily = 6\ninterface_mtu = 1500\nhop = [{ mtu = 1500 }]\n\
                expect = { verdict = 'clear', path_mtu = 1500 }";
    let path = NamespacePath::build(&toml::from_str(text).unwrap());
    let (source, router) = (path.source_namespace(), path.router(1));
    second_link(source, router);
    source.ip("-6 route add default via fd98::2 table 100");
    source.ip("-6 rule add from fd99:0::1 table 100");
    let _server = serve(&path, "TCP6-LISTEN:8081,fork,reuseaddr /dev/null");
    let leave_by = |interface: &str, size: u64| {
        for words in
            [&[][..], &["--method", "tcp", "--port", "8081"], &["--method", "udp", "--port", "33434"]]
        {
            let (_, document) = mtu(&path, words);
            assert_eq!(document["source"]["interface"], interface, "{document:#}");
            assert_eq!(document["source"]["address"], "fd99::1", "{document:#}");
            assert_eq!((seen(&document).0, seen(&document).1), ("clear", Some(size)), "{document:#}");
        }
    };
    leave_by("right", 1500);
    source.ip("-6 route del fd99:1::/64");
    leave_by("second", 1450);
    source.ip("-6 route add unreachable fd99:1::/64");
    leave_by("second", 1450);
    source.ip("-6 route add prohibit default table 99");
    source.ip("-6 rule add from fd99:0::1 table 99 pref 1");
    let output = nsprobe().args(["mtu", &path.source(), &path.target()]).output().unwrap();
    assert!(stderr(&output).contains("its route says prohibited"), "{}", stderr(&output));
}

#[test]
fn a_link_local_target_is_looked_up_on_its_own_link() {
    let text = "about = 'scope'\nfamily = 6\ninterface_mtu = 1500\n\
                expect = { verdict = 'clear', path_mtu = 1500 }";
    let path = NamespacePath::build(&toml::from_str(text).unwrap());
    let source = path.source_namespace();
    // Another link stands first in the table.
    source.ip("link add aaa mtu 1300 type veth peer name bbb");
    source.ip("link set bbb up");
    source.ip("link set aaa up");
    source.ip("-6 route add fe80::/64 dev aaa metric 1");
    let shown = path.target_namespace().ip("-6 -o addr show dev left scope link");
    let address = shown.split_whitespace().find(|word| word.starts_with("fe80")).unwrap();
    let target = format!("{}%right", address.split('/').next().unwrap());
    let output = nsprobe().args(["mtu", &path.source(), &target, "-o", "json"]).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["source"]["interface"], "right", "{document:#}");
    assert_eq!(seen(&document), ("clear", Some(1500), "icmp"), "{document:#}");
}

/// A router's advertisement may make an interface smaller for IPv6 alone.
#[test]
fn the_mtu_of_an_interface_is_the_one_that_ipv6_has_there() {
    let text = "about = 'own'\nfamily = 6\ninterface_mtu = 1500\n\
                expect = { verdict = 'clear', path_mtu = 1500 }";
    let path = NamespacePath::build(&toml::from_str(text).unwrap());
    let source = path.source_namespace().name();
    run("ip", &["netns", "exec", source, "sysctl", "-qw", "net.ipv6.conf.right.mtu=1400"]);
    let (_, document) = mtu(&path, &[]);
    assert_eq!(document["source"]["route_mtu_bytes"], 1400, "{document:#}");
    assert_eq!(seen(&document), ("clear", Some(1400), "icmp"), "{document:#}");
}

#[test]
fn flows_that_take_paths_of_different_mtu_are_told() {
    // Two links between router and target, one of them narrow, shared by a hash of the ports.
    let text = "about = 'ecmp'\ninterface_mtu = 1500\nhop = [{ mtu = 1500 }]\n\
                expect = { verdict = 'clear', path_mtu = 1500 }";
    let path = NamespacePath::build(&toml::from_str(text).unwrap());
    let (router, target) = (path.router(1), path.target_namespace());
    second_link(router, target);
    target.ip("addr add 10.97.0.1/32 dev lo");
    path.source_namespace().ip("route add 10.97.0.1/32 via 10.99.0.2");
    router.ip("route add 10.97.0.1/32 nexthop via 10.99.1.2 nexthop via 10.98.0.2");
    let policy = "echo 1 > /proc/sys/net/ipv4/fib_multipath_hash_policy";
    support::run("ip", &["netns", "exec", router.name(), "sh", "-c", policy]);
    let ask = |words: &[&str]| -> (Value, bool, bool) {
        let mut command = nsprobe();
        command.args(["mtu", &path.source(), "10.97.0.1", "--flows", "16", "-o", "json"]).args(words);
        let document: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        let findings = document["findings"].as_array().unwrap();
        let told = |id| findings.iter().any(|f| f["id"] == id);
        let (differ, by_address) = (told("mtu.flows_differ"), told("mtu.flows_by_address"));
        (document, differ, by_address)
    };
    let (document, differ, by_address) = ask(&["--method", "udp", "--port", "33434"]);
    assert!(differ && !by_address, "{document:#}");
    // The verdict is that of the narrowest flow, whichever is asked first.
    assert_eq!(seen(&document), ("narrowed", Some(1450), "udp"), "{document:#}");
    // Of echo requests this router looks at the addresses only: all take the same way, and that is said.
    let (document, differ, by_address) = ask(&[]);
    assert!(!differ && by_address, "{document:#}");
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
        path.target_namespace().nft(drop);
        let begin = std::time::Instant::now();
        let (code, document) = mtu(&path, &["--port", "8080", "--deadline", "2s"]);
        let took = begin.elapsed();
        assert!(took < std::time::Duration::from_millis(2600), "{took:?}\n{document:#}");
        assert_eq!((code, &document["path_mtu_bytes"]), (Some(1), &Value::Null), "{document:#}");
    }
}

/// What ICMP was sent and did not answer is the result, not a method that had no time left to send anything.
#[test]
fn a_short_deadline_is_shared_among_the_methods_and_silence_of_all_is_the_verdict() {
    let path = path(4, "silent", false);
    let drop = "add table inet d; add chain inet d i { type filter hook input priority 0; }; \
                add rule inet d i meta l4proto { tcp, udp, 253 } drop";
    path.target_namespace().nft(drop);
    // A sixth of a second is no time to be sure that nobody answers.
    let cases = [
        ("500ms", "inconclusive", "port 82 does not answer within"),
        ("3s", "unreachable", "port 82 does not answer within"),
    ];
    for (deadline, verdict, said) in cases {
        let words = ["--port", "82", "--deadline", deadline];
        let begin = std::time::Instant::now();
        let (code, document) = mtu(&path, &words);
        let took = begin.elapsed().as_secs_f64() * 1000.0;
        assert_eq!((&document["verdict"], code), (&verdict.into(), Some(1)), "{document:#}");
        assert!(document["probes"]["sent"].as_u64().unwrap() > 2, "{document:#}");
        // All methods together, not the one that is named.
        let elapsed = document["elapsed_ms"].as_f64().unwrap();
        assert!(elapsed < took && elapsed > took - 300.0, "{elapsed} of {took}: {document:#}");
        let output = nsprobe().args(["mtu", &path.source(), &path.target()]).args(words).output().unwrap();
        let text = stdout(&output);
        assert!(text.starts_with(&verdict.to_uppercase()) && text.contains(said), "{text}");
    }
}

/// Larger packets than the route lets out are asked for, and those do not arrive: no application sends any.
#[test]
fn what_is_lost_above_the_mtu_of_the_route_is_told_and_raises_no_alarm() {
    for (family, ptb) in
        [(4, "'honest'"), (4, "'silent'"), (4, "{ refuses = 13 }"), (6, "'honest'"), (6, "'silent'")]
    {
        let path = NamespacePath::build(&support::namespace_path::scenario(&format!(
            "about = 'above the route'\nfamily = {family}\ninterface_mtu = 1500\n\
             hop = [{{ mtu = 1500 }}, {{ mtu = 1400, ptb = {ptb} }}]\n\
             expect = {{ verdict = 'clear', path_mtu = 1400 }}"
        )));
        let (to, via) =
            if family == 4 { ("10.99.2.0/24", "10.99.0.2") } else { ("fd99:2::/64", "fd99:0::2") };
        path.source_namespace().ip(&format!("-{family} route change {to} via {via} mtu 1300"));
        let (code, document) = mtu(&path, &["--max", "1500"]);
        assert_eq!(seen(&document), ("clear", Some(1400), "icmp"), "{document:#}");
        assert_eq!((code, &document["source"]["route_mtu_bytes"]), (Some(0), &1300.into()), "{document:#}");
        let bounds = &document["bounds"];
        assert_eq!((&bounds["passes_bytes"], &bounds["fails_bytes"]), (&1400.into(), &1401.into()));
        assert_eq!(document["narrowing"], Value::Null);
        let findings = document["findings"].as_array().unwrap();
        let told: Vec<_> = findings.iter().filter(|f| f["id"] != "mtu.cache_left").collect();
        assert!(told.len() == 1 && told[0]["id"] == "mtu.narrow_above_route", "{document:#}");
        assert!(told[0]["summary"].as_str().unwrap().starts_with("packets of 1401 bytes"), "{document:#}");
        let output =
            nsprobe().args(["mtu", &path.source(), &path.target(), "--max", "1500"]).output().unwrap();
        assert!(stdout(&output).contains("packets of 1400 bytes arrive, more than the route's 1300"));
    }
}

/// Half of a second is enough for a port that answers at once.
#[test]
fn a_short_deadline_leaves_time_for_the_port_that_was_named() {
    let path = path(4, "silent", false);
    let drop = "add table inet d; add chain inet d i { type filter hook input priority 0; }; \
                add rule inet d i meta l4proto { udp, 253 } drop";
    path.target_namespace().nft(drop);
    let _server = serve(&path, "TCP4-LISTEN:8080,fork,reuseaddr /dev/null");
    let (_, document) = mtu(&path, &["--port", "8080", "--deadline", "500ms"]);
    assert_eq!(seen(&document), ("black_hole", Some(1450), "tcp"), "{document:#}");
}
