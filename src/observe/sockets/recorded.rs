//! Recorded dumps of two namespaces with `ss` of the same moment as the judge; and the same bytes damaged.
//! Where they come from: tests/fixtures/netlink/README.md.

use super::{Request, decode, decode_sockets};
use crate::facts::{Protocol, Socket, SocketState, SocketTimer};
use crate::observe::wire::{DONE, Messages, attributes};
use netlink_packet_core::NetlinkSerializable;
use proptest::prelude::*;
use std::net::SocketAddr;

macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/fixtures/netlink/", $name)).as_slice()
    };
}

fn sockets(dumps: [&[u8]; 2]) -> Vec<Socket> {
    dumps.into_iter().flat_map(|dump| decode_sockets(dump, Protocol::Tcp)).collect()
}

fn near() -> Vec<Socket> {
    sockets([recorded!("tcp-v4.bin"), recorded!("tcp-v6.bin")])
}

fn far() -> Vec<Socket> {
    sockets([recorded!("n2/tcp-v4.bin"), recorded!("n2/tcp-v6.bin")])
}

/// One line of `ss -O`: its columns, and the rest as words.
struct Line<'a> {
    columns: Vec<&'a str>,
    words: Vec<&'a str>,
}

impl<'a> Line<'a> {
    /// What follows `name:`.
    fn of(&self, name: &str) -> Option<&'a str> {
        self.words.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix(':'))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.of(name)?.parse().ok()
    }

    /// The memory word `d` of `skmem:(r0,rb131072,…,d9)`.
    fn memory(&self, name: &str) -> Option<u32> {
        let inside = self.of("skmem")?.trim_matches(['(', ')']);
        inside.split(',').find_map(|w| w.strip_prefix(name)?.parse().ok())
    }
}

fn ss(text: &str) -> Vec<Line<'_>> {
    let lines = text.lines().skip(1).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Line { columns: words[..5].to_vec(), words: words[5..].to_vec() }
    });
    lines.collect()
}

/// `ss` writes a mapped address as one, and `*` for anybody.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let text = text.replace("::ffff:", "");
    let (host, port) = text.rsplit_once(':').unwrap();
    let host = host.trim_matches(['[', ']']);
    let host = if host == "*" { "::" } else { host };
    (port != "*").then(|| SocketAddr::new(host.parse().unwrap(), port.parse().unwrap()))
}

fn state(text: &str) -> SocketState {
    match text {
        "ESTAB" => SocketState::Established,
        "SYN-SENT" => SocketState::SynSent,
        "FIN-WAIT-2" => SocketState::FinWait2,
        "TIME-WAIT" => SocketState::TimeWait,
        "CLOSE-WAIT" => SocketState::CloseWait,
        "LISTEN" => SocketState::Listen,
        other => panic!("{other}"),
    }
}

#[test]
fn every_field_agrees_with_ss() {
    let judges = [
        (near(), recorded!("ss-taneomiO.txt"), 16),
        (near(), recorded!("ss-tinmOa.txt"), 16),
        (far(), recorded!("n2/ss-tinmOa.txt"), 19),
    ];
    for (sockets, judge, count) in judges {
        let lines = ss(std::str::from_utf8(judge).unwrap());
        assert_eq!((sockets.len(), lines.len()), (count, count));
        for (socket, line) in sockets.iter().zip(&lines) {
            agree(socket, line);
        }
    }
}

fn agree(socket: &Socket, line: &Line<'_>) {
    let name = format!("{:?}", line.columns);
    assert_eq!(socket.state, state(line.columns[0]), "{name}");
    assert_eq!(Some(socket.local), endpoint(line.columns[3]), "{name}");
    assert_eq!(socket.remote, endpoint(line.columns[4]), "{name}");
    let queues = [1, 2].map(|at: usize| line.columns[at].parse::<u32>().ok());
    if socket.state == SocketState::Listen {
        assert_eq!([socket.detail.waiting, socket.detail.backlog], queues, "{name}");
        assert_eq!((socket.recv_queue_bytes, socket.send_queue_bytes, socket.unacked), (None, None, None));
    } else {
        assert_eq!([socket.recv_queue_bytes, socket.send_queue_bytes], queues, "{name}");
    }
    if let Some(inode) = line.number::<u64>("ino") {
        assert_eq!(socket.inode.unwrap_or(0), inode, "{name}");
    }
    assert_eq!(socket.detail.drops, line.memory("d"), "{name}");
    assert_eq!(socket.detail.recv_memory, line.memory("r"), "{name}");
    assert_eq!(socket.detail.recv_buffer, line.memory("rb"), "{name}");
    let Some(tcp) = socket.detail.tcp else {
        assert!(matches!(socket.state, SocketState::Listen | SocketState::TimeWait), "{name}");
        return;
    };
    let rtt = line.of("rtt").map(|rtt| rtt.split('/').next().unwrap().parse::<f64>().unwrap() * 1000.0);
    assert_eq!(socket.rtt_us.map(f64::from), rtt.map(f64::round), "{name}");
    let (now, total) = line.of("retrans").unwrap_or("0/0").split_once('/').unwrap();
    assert_eq!(socket.retransmits, total.parse().ok(), "{name}");
    assert_eq!(tcp.retransmitted, now.parse::<u32>().unwrap(), "{name}");
    for (ours, theirs) in [
        (socket.path_mtu_bytes, "pmtu"),
        (socket.send_mss_bytes, "mss"),
        (socket.receive_mss_bytes, "rcvmss"),
        (socket.advmss_bytes, "advmss"),
        (Some(tcp.congestion_window), "cwnd"),
    ] {
        assert_eq!(ours, line.number(theirs), "{name}: {theirs}");
    }
    // What ss leaves out is zero.
    let zero = |theirs| Some(line.number::<u32>(theirs).unwrap_or(0));
    for (ours, theirs) in [
        (socket.unacked, "unacked"),
        (socket.lost, "lost"),
        (Some(tcp.backoff.into()), "backoff"),
        (tcp.data_segments_out, "data_segs_out"),
        (tcp.unsent_bytes, "notsent"),
        (tcp.send_window, "snd_wnd"),
        (tcp.receive_window, "rcv_wnd"),
    ] {
        assert_eq!(ours, zero(theirs), "{name}: {theirs}");
    }
    for (ours, theirs) in [
        (tcp.acked_bytes, "bytes_acked"),
        (tcp.received_bytes, "bytes_received"),
        (tcp.sent_bytes, "bytes_sent"),
        (tcp.resent_bytes, "bytes_retrans"),
    ] {
        assert_eq!(ours, Some(line.number::<u64>(theirs).unwrap_or(0)), "{name}: {theirs}");
    }
    assert_eq!(Some(f64::from(tcp.rto_us) / 1000.0), line.number("rto"), "{name}");
    // The judge looked within a second after.
    for (ours, theirs) in
        [(tcp.last_sent_ms, "lastsnd"), (tcp.last_received_ms, "lastrcv"), (tcp.last_ack_ms, "lastack")]
    {
        let judge: u32 = line.number(theirs).unwrap();
        assert!((ours..ours + 2000).contains(&judge), "{name}: {theirs} {ours} {judge}");
    }
    if line.columns[0] == "ESTAB" && line.of("ino").is_some() {
        assert_eq!(tcp.timestamps, line.words.contains(&"ts"), "{name}");
    }
    if let Some(timer) = line.of("timer") {
        let kind = match socket.detail.timer {
            SocketTimer::Retransmit => "(on",
            SocketTimer::Persist => "(persist",
            other => panic!("{name}: {other:?}"),
        };
        assert!(timer.starts_with(kind), "{name}: {timer}");
    }
}

fn with_remote_port(port: u16) -> Socket {
    near().into_iter().find(|s| s.remote.is_some_and(|r| r.port() == port)).unwrap()
}

#[test]
fn a_full_segment_is_as_large_as_the_path_mtu_that_it_was_made_for() {
    for (port, bytes) in [(9005, 1500), (9002, 1400), (9003, 1400), (9008, 1400), (9001, 1500)] {
        let socket = with_remote_port(port);
        assert_eq!(socket.segment_bytes(), Some(bytes), "{port}");
        assert_eq!(socket.segment_bytes(), socket.path_mtu_bytes, "{port}");
    }
    assert_eq!(with_remote_port(9007).segment_bytes(), None, "nothing was agreed on yet");
    assert_eq!(with_remote_port(9005).in_flight_bytes(), Some(30_000 - 14_072));
}

#[test]
fn a_mapped_address_is_ipv4_on_the_wire_and_in_print() {
    let mapped = near().into_iter().find(|s| s.local.port() == 48930).unwrap();
    assert_eq!(mapped.local.to_string(), "192.0.2.1:48930");
    assert!(!mapped.detail.ipv6);
    let six = with_remote_port(9008);
    assert_eq!(six.local.to_string(), "[2001:db8:1::1]:42138");
    assert!(six.detail.ipv6);
}

/// Every message with its attributes' values cut to `length` bytes at most.
fn shortened(payload: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = payload[..72].to_vec();
    for attribute in attributes(payload, 72) {
        let value = &attribute.value()[..attribute.value().len().min(length)];
        bytes.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
        bytes.extend(attribute.kind().to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

#[test]
fn what_an_older_kernel_does_not_tell_is_unknown_and_what_a_newer_adds_is_passed_over() {
    let message = Messages(recorded!("tcp-v4.bin"))
        .filter(|m| m.kind != DONE)
        .find(|m| {
            decode::decode(m.payload, Protocol::Tcp)
                .is_some_and(|s| s.remote.is_some_and(|r| r.port() == 9005))
        })
        .unwrap();
    let whole = decode::decode(message.payload, Protocol::Tcp).unwrap();
    // struct tcp_info of Linux 3.10, 4.1, 4.18, 5.4.
    for (length, acked, unsent, sent, window) in [
        (104, false, false, false, false),
        (136, true, false, false, false),
        (192, true, true, false, false),
        (232, true, true, true, true),
    ] {
        let old = decode::decode(&shortened(message.payload, length), Protocol::Tcp).unwrap();
        let tcp = old.detail.tcp.unwrap();
        assert_eq!((old.retransmits, old.path_mtu_bytes, old.lost), (Some(6), Some(1500), Some(11)));
        assert_eq!(
            [
                tcp.acked_bytes.is_some(),
                tcp.unsent_bytes.is_some(),
                tcp.sent_bytes.is_some(),
                tcp.send_window.is_some()
            ],
            [acked, unsent, sent, window],
            "{length}"
        );
    }
    let mut newer = message.payload.to_vec();
    for (kind, value) in [(0x3fffu16, [1u8; 8]), (99, [2; 8])] {
        newer.extend(12u16.to_ne_bytes());
        newer.extend(kind.to_ne_bytes());
        newer.extend(value);
    }
    assert_eq!(decode::decode(&newer, Protocol::Tcp), Some(whole));
    let none = decode::decode(&shortened(message.payload, 0), Protocol::Tcp).unwrap();
    assert_eq!((none.retransmits, none.rtt_us, none.detail.tcp), (None, None, None), "unknown is not zero");
}

#[test]
fn the_request_asks_for_one_family_without_what_nobody_holds() {
    let mut bytes = [0; 56];
    let request = Request::new(libc::AF_INET6, Protocol::Udp, false);
    request.serialize(&mut bytes);
    assert_eq!((request.message_type(), request.buffer_len()), (20, 56));
    assert_eq!(bytes[..4], [10, 17, 0b100_0010, 0]);
    assert_eq!(u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]), 0x0fbe);
    Request::new(libc::AF_INET, Protocol::Tcp, true).serialize(&mut bytes);
    assert_eq!(u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]), 0x0ffe);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_dumps_never_panic(
        cut in 0usize..6000,
        flips in prop::collection::vec((0usize..6000, any::<u8>()), 0..40),
    ) {
        let mut data = [recorded!("tcp-v4.bin"), recorded!("tcp-v6.bin")].concat();
        data.truncate(cut);
        for (at, mask) in flips {
            if let Some(byte) = data.get_mut(at) {
                *byte ^= mask;
            }
        }
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Raw] {
            for socket in decode_sockets(&data, protocol) {
                let _ = (socket.segment_bytes(), socket.in_flight_bytes());
            }
        }
    }
}
