//! A message of the kernel's socket diagnostics → [`Socket`].
//!
//! Sources: sock_diag(7), linux/inet_diag.h, linux/tcp.h (`tcp_info` only ever grows at its end: what an older
//! kernel leaves out is unknown), linux/sock_diag.h.

use super::super::wire::{attributes, field};
use crate::facts::{Protocol, Socket, SocketDetail, SocketState, SocketTimer, TcpDetail};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// struct inet_diag_msg.
const HEADER: usize = 72;
/// INET_DIAG_INFO, INET_DIAG_SKMEMINFO.
pub(super) const INFO: u16 = 2;
pub(super) const MEMORY: u16 = 7;

/// One socket; `None` when the message is cut short or of another family.
pub(super) fn decode(payload: &[u8], protocol: Protocol) -> Option<Socket> {
    let [family, state, timer, timer_retries] = field(payload, 0)?;
    let number = |at| field(payload, at).map(u32::from_ne_bytes);
    let port = |at| field(payload, at).map(u16::from_be_bytes);
    let interface = number(40)?;
    let local = address(family, payload, 8)?;
    let remote = address(family, payload, 24)?;
    // A dual-stack socket speaks IPv4 to a mapped address.
    let ipv6 = local.is_ipv6() && (remote.is_ipv6() || !is_mapped(payload));
    let (local_port, remote_port) = (port(4)?, port(6)?);
    let state = state_of(state, protocol);
    let (receive_queue, send_queue) = (number(56)?, number(60)?);
    let inode = u64::from(number(68)?);
    let listens = state == SocketState::Listen;
    let mut socket = Socket {
        protocol,
        state,
        local: endpoint(local, local_port, interface),
        remote: (!remote.is_unspecified() || remote_port != 0)
            .then(|| endpoint(remote, remote_port, interface)),
        inode: (inode != 0).then_some(inode),
        process: None,
        recv_queue_bytes: (!listens).then_some(receive_queue),
        send_queue_bytes: (!listens).then_some(send_queue),
        rtt_us: None,
        retransmits: None,
        path_mtu_bytes: None,
        send_mss_bytes: None,
        receive_mss_bytes: None,
        advmss_bytes: None,
        unacked: None,
        lost: None,
        detail: SocketDetail {
            ipv6,
            uid: number(64)?,
            timer: timer_of(timer),
            timer_ms: number(52)?,
            timer_retries,
            waiting: listens.then_some(receive_queue),
            backlog: listens.then_some(send_queue),
            ..SocketDetail::default()
        },
    };
    for attribute in attributes(payload, HEADER) {
        match attribute.kind() {
            INFO if protocol == Protocol::Tcp => read_info(&mut socket, attribute.value()),
            MEMORY => read_memory(&mut socket.detail, attribute.value()),
            _ => {}
        }
    }
    Some(socket)
}

/// What the kernel calls TCP's states (net/tcp_states.h); other protocols use two of them.
fn state_of(number: u8, protocol: Protocol) -> SocketState {
    use SocketState as S;
    match (number, protocol) {
        (1, _) => S::Established,
        (7, Protocol::Udp | Protocol::Raw) => S::Unconnected,
        (2, _) => S::SynSent,
        (3 | 12, _) => S::SynRecv,
        (4, _) => S::FinWait1,
        (5, _) => S::FinWait2,
        (6, _) => S::TimeWait,
        (7 | 13, _) => S::Closed,
        (8, _) => S::CloseWait,
        (9, _) => S::LastAck,
        (10, _) => S::Listen,
        (11, _) => S::Closing,
        _ => S::Unknown,
    }
}

fn timer_of(number: u8) -> SocketTimer {
    match number {
        0 => SocketTimer::Off,
        1 => SocketTimer::Retransmit,
        2 => SocketTimer::Keepalive,
        3 => SocketTimer::TimeWait,
        4 => SocketTimer::Persist,
        _ => SocketTimer::Unknown,
    }
}

/// Whether the local address is an IPv4 address in IPv6's clothes.
fn is_mapped(payload: &[u8]) -> bool {
    field::<16>(payload, 8).is_some_and(|bytes| Ipv6Addr::from(bytes).to_ipv4_mapped().is_some())
}

/// The address at `at`; a mapped one as IPv4.
fn address(family: u8, payload: &[u8], at: usize) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(Ipv4Addr::from(field::<4>(payload, at)?).into()),
        libc::AF_INET6 => Some(IpAddr::from(field::<16>(payload, at)?).to_canonical()),
        _ => None,
    }
}

fn endpoint(address: IpAddr, port: u16, interface: u32) -> SocketAddr {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => SocketAddrV6::new(v6, port, 0, interface).into(),
        other => SocketAddr::new(other, port),
    }
}

/// struct tcp_info, as much of it as there is.
fn read_info(socket: &mut Socket, info: &[u8]) {
    let byte = |at: usize| info.get(at).copied();
    let number = |at| field(info, at).map(u32::from_ne_bytes);
    let long = |at| field(info, at).map(u64::from_ne_bytes);
    // Below this a kernel would be older than 2.6.
    let (Some(timeouts), Some(total)) = (byte(2), number(100)) else { return };
    if socket.state == SocketState::Listen {
        return;
    }
    let positive = |at| number(at).filter(|&value| value != 0);
    // Before the handshake is over these are the kernel's first guesses.
    let talks = !matches!(socket.state, SocketState::SynSent | SocketState::SynRecv | SocketState::Closed);
    socket.rtt_us = if talks { positive(68) } else { None };
    socket.retransmits = Some(total);
    socket.path_mtu_bytes = positive(60);
    socket.send_mss_bytes = positive(16);
    socket.receive_mss_bytes = positive(20);
    socket.advmss_bytes = positive(84);
    socket.unacked = number(24);
    socket.lost = number(32);
    socket.detail.tcp = Some(TcpDetail {
        timeouts,
        probes: byte(3).unwrap_or(0),
        backoff: byte(4).unwrap_or(0),
        timestamps: byte(5).unwrap_or(0) & 1 != 0,
        rto_us: number(8).unwrap_or(0),
        retransmitted: number(36).unwrap_or(0),
        congestion_window: number(80).unwrap_or(0),
        last_sent_ms: number(44).unwrap_or(0),
        last_received_ms: number(52).unwrap_or(0),
        last_ack_ms: number(56).unwrap_or(0),
        acked_bytes: long(120),
        received_bytes: long(128),
        data_segments_out: number(156),
        unsent_bytes: number(144),
        sent_bytes: long(200),
        resent_bytes: long(208),
        send_window: number(228),
        receive_window: number(232),
    });
}

/// The words of SK_MEMINFO: memory of received data, its limit, and eight words on the drops.
fn read_memory(detail: &mut SocketDetail, memory: &[u8]) {
    let word = |at: usize| field(memory, at * 4).map(u32::from_ne_bytes);
    detail.recv_memory = word(0);
    detail.recv_buffer = word(1);
    detail.drops = word(8);
}
