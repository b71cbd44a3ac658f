//! The rules on sockets, on recorded dumps of connections that hang for every reason there is, and on changed
//! copies of them: each reason is told, and what is healthy is left in peace.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

use nsprobe::diagnose::sockets::{Trouble, check_sockets, suspects, trouble};
use nsprobe::facts::{
    Finding, MeasuredPath, Method, Protocol, Severity, Socket, SocketProcess, SocketState, SocketTimer,
    Verdict,
};
use nsprobe::observe::decode_sockets;

const V4: &[u8] = include_bytes!("fixtures/netlink/tcp-v4.bin");
const V6: &[u8] = include_bytes!("fixtures/netlink/tcp-v6.bin");
const FAR_V6: &[u8] = include_bytes!("fixtures/netlink/n2/tcp-v6.bin");

fn recorded() -> Vec<Socket> {
    [V4, V6].into_iter().flat_map(|dump| decode_sockets(dump, Protocol::Tcp)).collect()
}

/// The connection to a remote port, the first of them.
fn to(port: u16) -> Socket {
    recorded().into_iter().find(|s| s.remote.is_some_and(|r| r.port() == port)).unwrap()
}

fn measured(remote: &str, verdict: Verdict, mtu: Option<u32>) -> MeasuredPath {
    MeasuredPath {
        remote: remote.parse().unwrap(),
        method: Method::Icmp,
        verdict,
        path_mtu_bytes: mtu,
        passes_bytes: mtu,
        interface: Some("net1".into()),
    }
}

/// What a search to the peer of the hanging connections would have said.
fn narrow() -> MeasuredPath {
    measured("198.51.100.3", Verdict::BlackHole, Some(1400))
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|f| f.id).collect()
}

fn only(sockets: &[Socket], measured: &[MeasuredPath]) -> Finding {
    let mut found = check_sockets("shop/web-0", false, sockets, measured);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

#[test]
fn every_reason_of_the_recording_is_told_apart_once_the_path_is_measured() {
    let found = check_sockets("shop/web-0", false, &recorded(), &[narrow()]);
    assert_eq!(
        ids(&found),
        [
            "sockets.stuck_on_mtu",
            "sockets.backlog_full",
            "sockets.peer_silent",
            "sockets.syn_unanswered",
            "sockets.zero_window"
        ],
        "{found:#?}"
    );
    let stuck = &found[0];
    assert_eq!((stuck.severity, stuck.subject.as_str()), (Severity::Critical, "shop/web-0"));
    assert_eq!(
        stuck.summary,
        "1 connection to 198.51.100.3 hangs: full segments make packets of 1500 bytes, the path carries 1400"
    );
    for words in [
        "nsprobe exec shop/web-0 -- ip link set dev net1 mtu 1400",
        "mtu 1400",
        "maxseg size set 1360",
        "tcp_mtu_probing=1",
    ] {
        assert!(stuck.fix.contains(words), "{}", stuck.fix);
    }
    assert!(
        found[2].summary.contains("not because of the MTU: the path carries 1400 bytes, and packets of 1052")
    );
    assert!(found[1].summary.contains("0.0.0.0:8080: 2 connections wait"), "{}", found[1].summary);
}

#[test]
fn nothing_is_claimed_of_a_path_that_was_not_measured() {
    let found = check_sockets("shop/web-0", false, &recorded(), &[]);
    assert_eq!(
        ids(&found),
        [
            "sockets.backlog_full",
            "sockets.mtu_suspected",
            "sockets.peer_silent",
            "sockets.syn_unanswered",
            "sockets.zero_window"
        ]
    );
    assert!(found[1].fix.contains("nsprobe sockets shop/web-0 --measure"), "{}", found[1].fix);
    assert_eq!(suspects(&recorded()), ["198.51.100.3".parse::<std::net::IpAddr>().unwrap()]);
    // A search without a number proves nothing either, and asks for another way.
    for verdict in [Verdict::Unreachable, Verdict::Inconclusive] {
        let found =
            check_sockets("shop/web-0", false, &recorded(), &[measured("198.51.100.3", verdict, None)]);
        assert_eq!(found[1].id, "sockets.mtu_suspected");
        assert!(found[1].fix.contains("--port"), "{}", found[1].fix);
    }
}

#[test]
fn a_path_that_carries_the_segments_acquits_the_mtu() {
    for (verdict, mtu) in [(Verdict::Clear, 1500), (Verdict::Narrowed, 1500)] {
        let found = only(&[to(9005)], &[measured("198.51.100.3", verdict, Some(mtu))]);
        assert_eq!(found.id, "sockets.peer_silent");
        assert!(found.summary.contains("not because of the MTU"), "{}", found.summary);
    }
    // To the byte.
    let found = only(&[to(9005)], &[measured("198.51.100.3", Verdict::BlackHole, Some(1499))]);
    assert_eq!(found.id, "sockets.stuck_on_mtu");
}

#[test]
fn what_is_healthy_is_left_in_peace() {
    let healthy: Vec<Socket> = recorded()
        .into_iter()
        .filter(|s| s.local.port() != 8080 || s.state != SocketState::Listen)
        .filter(|s| !s.remote.is_some_and(|r| [9002, 9006, 9007].contains(&r.port())))
        .filter(|s| s.local.port() != 43936)
        .collect();
    assert_eq!(healthy.len(), 11);
    let paths = ["198.51.100.2", "198.51.100.3", "2001:db8:2::2"];
    let narrow = paths.map(|p| measured(p, Verdict::BlackHole, Some(1300)));
    for measured in [&narrow[..], &[]] {
        assert_eq!(check_sockets("shop/web-0", false, &healthy, measured), []);
    }
}

#[test]
fn a_connection_that_gets_on_is_not_stuck_though_its_segments_are_too_large() {
    // The kernel lowered its MSS, or nothing large is on the way, or it was sent just now.
    let mut lowered = to(9005);
    lowered.send_mss_bytes = Some(1348);
    assert_eq!(trouble(&lowered, &[narrow()]), Some(Trouble::PeerSilent));
    let mut idle = to(9005);
    (idle.unacked, idle.send_queue_bytes) = (Some(0), Some(0));
    assert_eq!(trouble(&idle, &[narrow()]), None);
    let mut fresh = to(9005);
    let tcp = fresh.detail.tcp.as_mut().unwrap();
    (tcp.timeouts, tcp.backoff) = (0, 0);
    assert_eq!(trouble(&fresh, &[narrow()]), None);
    // Eleven small ones: what was written in pieces is sent in pieces.
    let mut pieces = to(9005);
    pieces.send_queue_bytes = Some(14_072 + 11 * 100);
    assert_eq!(trouble(&pieces, &[narrow()]), Some(Trouble::PeerSilent));
    // A full one and a rest.
    let mut two = to(9005);
    (two.unacked, two.send_queue_bytes) = (Some(2), Some(14_072 + 1448 + 10));
    assert_eq!(trouble(&two, &[narrow()]), Some(Trouble::StuckOnMtu));
}

#[test]
fn ipv6_has_larger_headers() {
    let mut six = to(9008);
    six.send_mss_bytes = Some(1428);
    (six.unacked, six.send_queue_bytes) = (Some(2), Some(2856));
    let tcp = six.detail.tcp.as_mut().unwrap();
    (tcp.timeouts, tcp.backoff, tcp.unsent_bytes) = (3, 3, Some(0));
    assert_eq!(six.segment_bytes(), Some(1500));
    let found = only(&[six.clone()], &[measured("2001:db8:2::2", Verdict::BlackHole, Some(1499))]);
    assert!(found.fix.contains("mtu 1499") && found.fix.contains("size set 1439"), "{}", found.fix);
    let found = only(&[six], &[measured("2001:db8:2::2", Verdict::Clear, Some(1500))]);
    assert_eq!(found.id, "sockets.peer_silent");
}

#[test]
fn an_older_kernel_that_tells_less_is_read_with_care() {
    let mut old = to(9005);
    let tcp = old.detail.tcp.as_mut().unwrap();
    (tcp.unsent_bytes, tcp.sent_bytes, tcp.send_window, tcp.receive_window) = (None, None, None, None);
    assert_eq!(trouble(&old, &[narrow()]), Some(Trouble::StuckOnMtu));
    old.detail.tcp = None;
    assert_eq!(trouble(&old, &[narrow()]), None, "nothing is known");
}

#[test]
fn who_does_not_read_is_told_from_who_is_not_read() {
    let far: Vec<Socket> = decode_sockets(FAR_V6, Protocol::Tcp);
    let found = only(&far, &[]);
    assert_eq!(found.id, "sockets.not_reading");
    assert!(found.summary.contains("from 192.0.2.1:48198"), "{}", found.summary);
    let mut busy = far.into_iter().find(|s| s.recv_queue_bytes == Some(13980)).unwrap();
    busy.detail.tcp.as_mut().unwrap().last_received_ms = 5;
    assert_eq!(trouble(&busy, &[]), None, "it came just now");
    assert_eq!(trouble(&to(9002), &[]), Some(Trouble::ZeroWindow));
    let mut once = to(9002);
    once.detail.tcp.as_mut().unwrap().backoff = 1;
    assert_eq!(trouble(&once, &[]), None, "a window may close for a moment");
}

#[test]
fn connections_that_nobody_closes_are_a_pile_only_when_there_are_many() {
    let mut waits = to(9001);
    waits.process = Some(SocketProcess { pid: 7, name: "leaky".into() });
    let some = vec![waits.clone(); 9];
    assert_eq!(check_sockets("shop/web-0", false, &some, &[]), []);
    let many = vec![waits.clone(); 10];
    let found = only(&many, &[]);
    assert_eq!(found.id, "sockets.close_wait");
    assert!(found.summary.starts_with("leaky (PID 7) keeps 10 connections open"), "{}", found.summary);
    waits.detail.tcp.as_mut().unwrap().last_ack_ms = 10;
    assert_eq!(check_sockets("shop/web-0", false, &vec![waits; 10], &[]), [], "they were closed just now");
}

#[test]
fn handshakes_are_told_by_who_does_not_answer() {
    let syn = to(9007);
    assert_eq!(trouble(&syn, &[]), Some(Trouble::SynUnanswered));
    let mut half = syn.clone();
    // All that the kernel tells of one.
    (half.state, half.detail.tcp, half.detail.timer_retries) = (SocketState::SynRecv, None, 2);
    assert_eq!(trouble(&half, &[]), Some(Trouble::HalfOpen));
    half.detail.timer_retries = 1;
    assert_eq!(trouble(&half, &[]), None);
    let mut young = syn;
    let tcp = young.detail.tcp.as_mut().unwrap();
    (tcp.timeouts, tcp.backoff) = (1, 1);
    assert_eq!(trouble(&young, &[]), None, "one lost packet is no silence");
}

#[test]
fn a_silent_peer_shows_by_keepalives_and_by_a_last_fin_too() {
    let mut idle = to(9003);
    idle.detail.timer = SocketTimer::Keepalive;
    assert_eq!(trouble(&idle, &[]), None);
    idle.detail.tcp.as_mut().unwrap().probes = 3;
    assert_eq!(trouble(&idle, &[]), Some(Trouble::PeerSilent));
    let mut orphan = to(9006);
    (orphan.state, orphan.inode) = (SocketState::FinWait1, None);
    assert_eq!(trouble(&orphan, &[]), Some(Trouble::PeerSilent));
}

#[test]
fn crumbs_and_losses_are_told() {
    let mut tiny = to(9003);
    tiny.path_mtu_bytes = Some(552);
    assert_eq!(only(&[tiny.clone()], &[]).id, "sockets.tiny_path_mtu");
    tiny.advmss_bytes = Some(512);
    assert_eq!(trouble(&tiny, &[]), None, "the link itself is so small");
    let mut lossy = to(9003);
    lossy.retransmits = Some(20);
    let tcp = lossy.detail.tcp.as_mut().unwrap();
    (tcp.sent_bytes, tcp.resent_bytes) = (Some(300_000), Some(30_000));
    let found = only(&[lossy.clone()], &[]);
    assert_eq!((found.id, found.severity), ("sockets.lossy", Severity::Info));
    lossy.detail.tcp.as_mut().unwrap().sent_bytes = Some(301_000);
    assert_eq!(trouble(&lossy, &[]), None, "below a tenth");
}

#[test]
fn datagrams_that_nobody_reads_are_told() {
    let mut udp = to(9003);
    (udp.protocol, udp.state, udp.detail.tcp) = (Protocol::Udp, SocketState::Unconnected, None);
    (udp.detail.recv_memory, udp.detail.recv_buffer, udp.detail.drops) = (Some(0), Some(212_992), Some(0));
    assert_eq!(trouble(&udp, &[]), None);
    udp.detail.drops = Some(4);
    let found = only(&[udp.clone()], &[]);
    assert_eq!((found.id, found.severity), ("sockets.udp_drops", Severity::Info));
    udp.detail.recv_memory = Some(212_992);
    assert_eq!(only(&[udp], &[]).id, "sockets.not_reading");
}

#[test]
fn thousands_of_peers_are_a_handful_of_findings() {
    let mut all = Vec::new();
    for number in 0..1000u16 {
        let mut socket = to(9006);
        let [high, low] = number.to_be_bytes();
        socket.remote = Some(([10, 9, high, low], 80).into());
        all.push(socket);
    }
    let found = check_sockets("shop/web-0", false, &all, &[]);
    assert_eq!(found.len(), 7);
    assert!(
        found[6].summary.starts_with("994 peers or ports more, 994 sockets in all"),
        "{}",
        found[6].summary
    );
    assert!(found.iter().all(|f| f.evidence.len() <= 5 && f.id == "sockets.peer_silent"));
}

#[test]
fn many_connections_to_one_peer_are_one_finding() {
    let found = only(&vec![to(9005); 500], &[narrow()]);
    assert!(found.summary.starts_with("500 connections to 198.51.100.3 hang"), "{}", found.summary);
    assert_eq!(found.evidence.len(), 6);
}

#[test]
fn a_pod_in_the_nodes_network_is_not_told_to_change_the_nodes_interface() {
    let fix = |of_node| {
        let found = check_sockets("shop/web-0", of_node, &recorded(), &[narrow()]);
        found.into_iter().find(|f| f.id == "sockets.stuck_on_mtu").unwrap().fix
    };
    assert!(fix(false).contains("nsprobe exec shop/web-0 -- ip link set dev net1"), "{}", fix(false));
    assert!(!fix(true).contains("ip link set"), "{}", fix(true));
    assert!(fix(true).contains("ip route change"), "{}", fix(true));
}
