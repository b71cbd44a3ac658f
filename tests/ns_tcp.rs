//! The TCP transport in real namespaces: the right path MTU where only one port answers, and what the
//! application, the kernel and the firewalls on the way see of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails loudly and may say what it measured; clippy sees only #[test] functions as tests"
)]

mod support;

use nsprobe::facts::{PathNote, PathResult, Verdict, Word};
use nsprobe::netns::NetNs;
use nsprobe::probe::search::{Plan, Search};
use nsprobe::probe::wire::Family;
use nsprobe::probe::{Onlooker, ProbeError, Target, TcpProbe, TcpWay, drive};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::application::{Application, CONNECT_AND_CLOSE, Manner};
use support::namespace_path::NamespacePath;
use support::virtual_path::{Scenario, verdict_name};
use support::{Netns, Running, run};

/// A path of three routers whose middle carries 1450 bytes; nobody says a word of ICMP.
fn black_hole(family: u8) -> NamespacePath {
    let scenario: Scenario = toml::from_str(&format!(
        r#"about = "only one TCP port answers"
           family = {family}
           interface_mtu = 1500
           hop = [{{ mtu = 1450, ptb = "silent", expired = false }}, {{ mtu = 1500, ptb = "silent", expired = false }}]
           target = {{ echo = false }}
           expect = {{ verdict = "black_hole", path_mtu = 1450 }}"#
    ))
    .unwrap();
    let path = NamespacePath::build(&scenario);
    filter(
        path.router(1),
        "add chain inet f f { type filter hook forward priority 0; }; \
         add rule inet f f meta l4proto icmp drop; add rule inet f f icmpv6 type {1,2,3,128,129} drop",
    );
    path
}

fn narrow(family: u8) -> NamespacePath {
    let scenario: Scenario = toml::from_str(&format!(
        r#"about = "narrow, and said so"
           family = {family}
           interface_mtu = 1500
           hop = [{{ mtu = 1500 }}, {{ mtu = 1400 }}]
           expect = {{ verdict = "narrowed", path_mtu = 1400 }}"#
    ))
    .unwrap();
    NamespacePath::build(&scenario)
}

fn inside(namespace: &Netns, script: &str) -> String {
    run("ip", &["netns", "exec", namespace.name(), "sh", "-ec", script])
}

fn filter(namespace: &Netns, rules: &str) {
    inside(namespace, &format!("nft 'add table inet f; {rules}'"));
}

fn sysctl(namespace: &Netns, name: &str, value: &str) {
    inside(namespace, &format!("echo {value} > /proc/sys/net/ipv4/{name}"));
}

fn open(path: &NamespacePath, target: &str, port: u16) -> Result<TcpProbe, ProbeError> {
    let netns = NetNs::open(&path.source_namespace().path()).unwrap();
    let target = Target { address: target.parse().unwrap(), scope_id: 0 };
    TcpProbe::open(&netns, target, port, Duration::from_secs(1), Onlooker::default())
}

/// The whole search, from connect to close.
fn search(path: &NamespacePath, target: &str, port: u16) -> (PathResult, TcpWay) {
    let start = Instant::now();
    let mut probe = open(path, target, port).unwrap();
    let opened = start.elapsed();
    let family = Family::of(target.parse().unwrap());
    let mut search = Search::new(Plan::new(family.control(), 1500, family.floor));
    let result = drive(&mut search, &mut probe, Onlooker::default()).unwrap();
    let way = probe.way();
    let driven = start.elapsed();
    drop(probe);
    println!(
        "{target} port {port}: {way:?}, {} {:?}, {:?}; opened {opened:?}, searched {:?}, closed {:?}",
        verdict_name(result.verdict),
        result.path_mtu_bytes,
        result.probes,
        driven - opened,
        start.elapsed() - driven
    );
    (result, way)
}

/// Searches and expects this answer by this way.
#[track_caller]
fn expect(path: &NamespacePath, way: TcpWay, verdict: Verdict, path_mtu: u32) -> PathResult {
    let (result, taken) = search(path, &path.target(), 80);
    assert_eq!((taken, result.verdict, result.path_mtu_bytes), (way, verdict, Some(path_mtu)), "{result:#?}");
    result
}

#[track_caller]
fn nothing_is_cached(path: &NamespacePath) {
    let target = path.target();
    let family = if target.contains(':') { "-6" } else { "-4" };
    let route = path.source_namespace().ip(&format!("{family} route get {target}"));
    assert!(!route.contains("mtu") && !route.contains("expires"), "{route}");
}

#[track_caller]
fn no_socket_is_stuck(path: &NamespacePath) {
    let left = inside(path.source_namespace(), "ss -Htan");
    assert!(!left.contains("ESTAB") && !left.contains("CLOSE-WAIT"), "{left}");
    let left = inside(path.target_namespace(), "ss -Htan");
    assert!(!left.contains("ESTAB") && !left.contains("CLOSE-WAIT"), "{left}");
}

#[test]
fn a_black_hole_is_found_where_only_one_port_answers() {
    for family in [4, 6] {
        let path = black_hole(family);
        let application = Application::start(path.target_namespace(), Manner::Listens);
        let result = expect(&path, TcpWay::OldData, Verdict::BlackHole, 1450);
        assert_eq!(result.reverse.verdict, nsprobe::facts::ReverseVerdict::Unknown);
        assert_eq!(application.visits(), [CONNECT_AND_CLOSE]);
        nothing_is_cached(&path);
        no_socket_is_stuck(&path);
    }
}

#[test]
fn a_router_that_says_so_is_believed_and_its_word_is_not_cached() {
    for family in [4, 6] {
        let path = narrow(family);
        let application = Application::start(path.target_namespace(), Manner::Listens);
        let result = expect(&path, TcpWay::OldData, Verdict::Narrowed, 1400);
        assert!(result.signalled, "{result:#?}");
        assert_eq!(result.narrowing.and_then(|n| n.ttl), Some(3));
        assert_eq!(application.visits(), [CONNECT_AND_CLOSE]);
        nothing_is_cached(&path);
    }
}

#[test]
fn a_greeting_is_heard_out_so_that_the_goodbye_is_no_reset() {
    let path = black_hole(4);
    let application = Application::start(path.target_namespace(), Manner::Greets);
    expect(&path, TcpWay::OldData, Verdict::BlackHole, 1450);
    assert_eq!(application.visits(), [CONNECT_AND_CLOSE]);
    no_socket_is_stuck(&path);
}

/// Descriptor and inode of the TCP sockets of this process that are in repair mode.
fn in_repair() -> std::collections::HashSet<(i32, u64)> {
    use std::os::unix::fs::MetadataExt;
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        let fd: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let (mut on, mut length) = (0i32, 4);
        // SAFETY: the kernel writes at most four bytes, an i32; a descriptor that is no TCP socket is an error.
        let code = unsafe {
            libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, (&raw mut on).cast(), &raw mut length)
        };
        let inode = std::fs::metadata(format!("/proc/self/fd/{fd}")).ok()?.ino();
        (code == 0 && on != 0).then_some((fd, inode))
    });
    descriptors.collect()
}

#[test]
fn repair_mode_is_left_before_the_first_probe() {
    let path = black_hole(4);
    let _application = Application::start(path.target_namespace(), Manner::Listens);
    let _probe = open(&path, &path.target(), 80).unwrap();
    // Another test of this process may be in it for some microseconds.
    let before = in_repair();
    std::thread::sleep(Duration::from_millis(20));
    let still: Vec<_> = in_repair().intersection(&before).copied().collect();
    assert_eq!(still, []);
}

#[test]
fn without_sack_dsack_or_timestamps_the_answer_is_the_same() {
    for (sysctl_name, way) in
        [("tcp_sack", TcpWay::NoRanges), ("tcp_dsack", TcpWay::NoRanges), ("tcp_timestamps", TcpWay::OldData)]
    {
        for family in [4, 6] {
            let path = black_hole(family);
            sysctl(path.target_namespace(), sysctl_name, "0");
            let application = Application::start(path.target_namespace(), Manner::Listens);
            expect(&path, way, Verdict::BlackHole, 1450);
            assert_eq!(application.visits(), [CONNECT_AND_CLOSE], "{sysctl_name}");
            nothing_is_cached(&path);
        }
    }
}

#[test]
fn a_handshake_whose_last_ack_was_lost_is_completed() {
    let path = black_hole(4);
    filter(
        path.router(1),
        "add chain inet f l { type filter hook forward priority 1; }; \
         add rule inet f l tcp dport 80 tcp flags == ack limit rate over 1/hour burst 1 packets accept; \
         add rule inet f l tcp dport 80 tcp flags == ack drop",
    );
    let application = Application::start(path.target_namespace(), Manner::Listens);
    expect(&path, TcpWay::OldData, Verdict::BlackHole, 1450);
    assert_eq!(application.visits(), [CONNECT_AND_CLOSE]);
}

#[test]
fn a_closed_port_answers_too() {
    for family in [4, 6] {
        let path = black_hole(family);
        let result = expect(&path, TcpWay::Closed, Verdict::BlackHole, 1450);
        // A firewall may send resets in its name.
        assert!(result.notes.contains(&PathNote::OnlyResets), "{result:#?}");
        assert_eq!(result.confidence, Some(0.95));
        let path = narrow(family);
        expect(&path, TcpWay::Closed, Verdict::Narrowed, 1400);
        nothing_is_cached(&path);
    }
}

#[test]
fn a_peer_that_ends_the_connection_can_still_be_asked() {
    for family in [4, 6] {
        let path = black_hole(family);
        let _application = Application::start(path.target_namespace(), Manner::Leaves);
        let (result, way) = search(&path, &path.target(), 80);
        // How soon it leaves is its own affair.
        assert!(matches!(way, TcpWay::Ended | TcpWay::NoRanges), "{way:?}");
        assert_eq!((result.verdict, result.path_mtu_bytes), (Verdict::BlackHole, Some(1450)), "{result:#?}");
    }
}

/// Whether the reset comes before the socket is seen to be connected, or afterwards.
#[test]
fn a_peer_that_resets_the_connection_at_once_can_still_be_asked() {
    let path = black_hole(4);
    let _application = Application::start(path.target_namespace(), Manner::Resets);
    for _ in 0..20 {
        let (result, way) = search(&path, &path.target(), 80);
        assert!(matches!(way, TcpWay::Ended | TcpWay::NoRanges), "{way:?}");
        assert_eq!((result.verdict, result.path_mtu_bytes), (Verdict::BlackHole, Some(1450)), "{result:#?}");
        assert!(!result.notes.contains(&PathNote::OnlyResets), "{result:#?}");
    }
}

/// A path of two routers, the first of which resets large packets to port 80.
fn resets(family: u8) -> NamespacePath {
    let path = NamespacePath::build(
        &toml::from_str(&format!(
            "about = 'resets'\nfamily = {family}\ninterface_mtu = 1500\n\
             hop = [{{ mtu = 1500 }}, {{ mtu = 1500 }}]\nexpect = {{ verdict = 'clear', path_mtu = 1500 }}"
        ))
        .unwrap(),
    );
    filter(
        path.router(1),
        "add chain inet f f { type filter hook forward priority 0; }; \
         add rule inet f f tcp dport 80 meta length > 1400 reject with tcp reset",
    );
    path
}

/// A firewall that resets large packets says so in the target's name: that is no answer of a port that listens.
#[test]
fn a_reset_that_only_large_packets_draw_does_not_say_that_they_arrived() {
    for family in [4, 6] {
        let path = resets(family);
        let application = Application::start(path.target_namespace(), Manner::Listens);
        let result = expect(&path, TcpWay::Ended, Verdict::BlackHole, 1400);
        let from = path.target().parse().unwrap();
        let note = PathNote::Refused { from, word: Word::Reset, size: 1401, passes: false, least: false };
        assert!(result.notes.contains(&note), "{result:#?}");
        assert!(result.narrowing.is_none_or(|n| n.reporter.is_none()), "who resets is not known");
        assert_eq!(application.visits().first().unwrap().bytes, 0);
    }
}

/// The target resets too, from farther away.
#[test]
fn a_closed_port_behind_a_firewall_that_resets_large_packets_is_told_by_its_ttl() {
    for family in [4, 6] {
        let result = expect(&resets(family), TcpWay::Closed, Verdict::BlackHole, 1400);
        assert!(
            result.notes.iter().any(|note| matches!(note, PathNote::Refused { size: 1401, .. })),
            "{result:#?}"
        );
        assert!(result.notes.contains(&PathNote::OnlyResets), "{result:#?}");
    }
}

#[test]
fn a_filtered_port_is_named() {
    let path = black_hole(4);
    filter(
        path.target_namespace(),
        "add chain inet f i { type filter hook input priority 0; }; add rule inet f i tcp dport 80 drop",
    );
    let error = open(&path, &path.target(), 80).unwrap_err();
    assert!(matches!(error, ProbeError::ConnectTimeout { port: 80, .. }), "{error:?}");
    assert_eq!(error.to_string(), "port 80 does not answer within 1.0 s: filtered, or nobody is there");
    filter(
        path.target_namespace(),
        "flush chain inet f i; add rule inet f i tcp dport 80 reject with icmpx admin-prohibited",
    );
    filter(path.router(1), "flush chain inet f f");
    let error = open(&path, &path.target(), 80).unwrap_err();
    assert!(matches!(error, ProbeError::Connect { port: 80, .. }), "{error:?}");
}

#[test]
fn a_firewall_that_drops_what_conntrack_calls_invalid_lets_the_probes_pass() {
    let rules = |hook: &str| {
        format!(
            "add chain inet f c {{ type filter hook {hook} priority 0; }}; \
             add rule inet f c ct state invalid counter drop"
        )
    };
    for family in [4, 6] {
        let path = black_hole(family);
        filter(path.source_namespace(), &rules("output"));
        filter(path.router(1), &rules("forward"));
        filter(path.target_namespace(), &rules("input"));
        let application = Application::start(path.target_namespace(), Manner::Listens);
        expect(&path, TcpWay::OldData, Verdict::BlackHole, 1450);
        assert_eq!(application.visits(), [CONNECT_AND_CLOSE]);
        let counters = inside(path.router(1), "nft list chain inet f c");
        assert!(counters.contains("packets 0 bytes 0 drop"), "{counters}");
        expect(&path, TcpWay::Closed, Verdict::BlackHole, 1450);
    }
}

#[test]
fn a_service_address_that_this_node_translates_itself_is_no_obstacle() {
    let path = black_hole(4);
    let service = "10.96.0.10";
    path.source_namespace().ip(&format!("route add {service}/32 via 10.99.0.2"));
    filter(
        path.source_namespace(),
        &format!(
            "add chain inet f n {{ type nat hook output priority -100; }}; \
             add rule inet f n ip daddr {service} tcp dport 8080 dnat ip to {}:80",
            path.target()
        ),
    );
    let application = Application::start(path.target_namespace(), Manner::Listens);
    let (result, way) = search(&path, service, 8080);
    assert_eq!(
        (way, result.verdict, result.path_mtu_bytes),
        (TcpWay::OldData, Verdict::BlackHole, Some(1450))
    );
    assert_eq!(application.visits(), [CONNECT_AND_CLOSE]);
}

#[test]
fn without_cap_net_admin_the_error_names_it_and_the_connection_is_closed_all_the_same() {
    let path = black_hole(4);
    let application = Application::start(path.target_namespace(), Manner::Listens);
    let error = std::thread::scope(|scope| {
        let without = || {
            // Capabilities are a thread's own.
            caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).unwrap();
            open(&path, &path.target(), 80).unwrap_err()
        };
        scope.spawn(without).join().unwrap()
    });
    assert!(matches!(error, ProbeError::NoRepair(_)), "{error:?}");
    assert!(error.to_string().contains("CAP_NET_ADMIN"));
    assert_eq!(application.visits(), [CONNECT_AND_CLOSE]);
}

/// A program in a namespace, started by hand, whose words go to `folder`/said; waits until it listens on port 80.
fn serve(namespace: &Netns, folder: &Path, words: &[&str]) -> Running {
    let said = std::fs::File::create(folder.join("said")).unwrap();
    let child = Command::new("ip")
        .args(["netns", "exec", namespace.name()])
        .args(words)
        .stdin(Stdio::null())
        .stderr(said.try_clone().unwrap())
        .stdout(said)
        .spawn()
        .unwrap();
    let server = Running(child);
    let listens = || inside(namespace, "ss -Htln sport = :80").contains("LISTEN");
    let ready = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        listens()
    });
    let words = std::fs::read_to_string(folder.join("said")).unwrap();
    assert!(ready, "{} does not listen: {words}", words_of(&words));
    server
}

fn words_of(text: &str) -> &str {
    if text.is_empty() { "it says nothing" } else { text }
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_default()
}

#[test]
fn nginx_logs_no_request_and_no_error() {
    for (listen, family, way) in [
        ("[::]:80 ipv6only=off", 4, TcpWay::OldData),
        ("[::]:80 ipv6only=off", 6, TcpWay::OldData),
        // TCP_DEFER_ACCEPT: there is no connection before there is data, and there is none.
        ("80 deferred", 4, TcpWay::NoRanges),
    ] {
        let path = black_hole(family);
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        std::fs::write(
            home.join("nginx.conf"),
            format!(
                "daemon off; master_process off; user root; pid {0}/pid; error_log {0}/error info; \
                 events {{ worker_connections 64; }} \
                 http {{ access_log {0}/access; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; \
                 fastcgi_temp_path {0}/fastcgi; uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi; \
                 server {{ listen {listen}; return 204; }} }}",
                home.display()
            ),
        )
        .unwrap();
        let configuration = home.join("nginx.conf").display().to_string();
        let server = serve(path.target_namespace(), home, &["nginx", "-c", &configuration]);
        expect(&path, way, Verdict::BlackHole, 1450);
        std::thread::sleep(Duration::from_millis(100));
        drop(server);
        assert_eq!(read(home, "access"), "", "{listen}: a request");
        let log = read(home, "error");
        let wrong = |line: &&str| !line.contains("[notice]") && !line.contains("[info]");
        assert_eq!(log.lines().find(wrong), None, "{listen}: {log}");
        println!("{listen}: {:?}", log.lines().filter(|l| l.contains("[info]")).collect::<Vec<_>>());
    }
}

#[test]
fn a_python_server_reads_nothing_but_the_end() {
    let program = "import socket\n\
        listener = socket.create_server(('::', 80), family=socket.AF_INET6, dualstack_ipv6=True)\n\
        while True:\n    \
            peer, _ = listener.accept()\n    \
            print('accepted', flush=True)\n    \
            try:\n        \
                print('read', peer.recv(65536), flush=True)\n    \
            except OSError as error:\n        \
                print(error, flush=True)\n    \
            peer.close()\n";
    for family in [4, 6] {
        let path = black_hole(family);
        let folder = tempfile::tempdir().unwrap();
        let server = serve(path.target_namespace(), folder.path(), &["python3", "-c", program]);
        expect(&path, TcpWay::OldData, Verdict::BlackHole, 1450);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(read(folder.path(), "said"), "accepted\nread b''\n");
        no_socket_is_stuck(&path);
        drop(server);
    }
}
