//! What keeps one socket from getting on, if anything does.

use crate::facts::{MeasuredPath, Protocol, Socket, SocketState, SocketTimer, TcpDetail, Verdict};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Timeouts in a row before a connection counts as stuck where nothing was measured: 0.6 s at the least.
const STUCK_AFTER: u8 = 2;
/// Every path of today carries packets of this size: IPv6's minimum MTU (RFC 8200 §5).
pub(super) const EVERY_PATH_CARRIES: u32 = 1280;
/// A full buffer is a moment's matter while data comes.
const UNREAD_FOR_MS: u32 = 1000;
/// What `min_pmtu` makes of a packet-too-big without a usable value.
const TINY: u32 = 552;
/// Segments sent again before a share of them says something.
const ENOUGH_RETRANSMITS: u32 = 20;

/// Why a socket is stuck or will be; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// Its segments are larger than the measured path MTU.
    StuckOnMtu,
    /// Its queue of new connections is full.
    BacklogFull,
    /// Large segments are lost; the path was not measured.
    MtuSuspected,
    /// Nothing is acknowledged any more, and size is not the reason.
    PeerSilent,
    /// The SYN was never answered.
    SynUnanswered,
    /// The SYN-ACK was never answered.
    HalfOpen,
    /// The peer does not read.
    ZeroWindow,
    /// The application here does not read.
    NotReading,
    /// The kernel believes in an impossible path MTU.
    TinyPathMtu,
    /// Much of what was sent had to be sent again.
    Lossy,
    /// Datagrams were dropped.
    UdpDrops,
}

/// The measurement of a socket's path, when there is one with a number.
pub(super) fn path_of<'a>(socket: &Socket, measured: &'a [MeasuredPath]) -> Option<&'a MeasuredPath> {
    let remote = socket.remote?.ip();
    measured.iter().find(|path| path.remote == remote)
}

/// What a measured path carries, bytes of the IP packet.
pub(super) fn carries(path: &MeasuredPath) -> Option<u32> {
    let settled = matches!(path.verdict, Verdict::Clear | Verdict::Narrowed | Verdict::BlackHole);
    path.path_mtu_bytes.filter(|_| settled)
}

/// What is wrong with a socket, told from what it says itself and from what was measured of its path.
pub fn trouble(socket: &Socket, measured: &[MeasuredPath]) -> Option<Trouble> {
    match (socket.protocol, socket.state) {
        (Protocol::Tcp, SocketState::Listen) => {
            let (waiting, backlog) = (socket.detail.waiting?, socket.detail.backlog?);
            (waiting > backlog).then_some(Trouble::BacklogFull)
        }
        // The kernel keeps little of a connection until the handshake is over.
        (Protocol::Tcp, SocketState::SynRecv) => {
            (socket.detail.timer_retries >= STUCK_AFTER).then_some(Trouble::HalfOpen)
        }
        (Protocol::Tcp, _) => of_connection(socket, &socket.detail.tcp?, measured),
        (_, _) => {
            let drops = socket.detail.drops.is_some_and(|n| n > 0);
            // What was dropped last may have been larger than the room that is left.
            if uses(socket, if drops { 75 } else { 90 }) {
                return Some(Trouble::NotReading);
            }
            drops.then_some(Trouble::UdpDrops)
        }
    }
}

fn of_connection(socket: &Socket, tcp: &TcpDetail, measured: &[MeasuredPath]) -> Option<Trouble> {
    let timeouts = tcp.timeouts.max(tcp.backoff);
    if socket.state == SocketState::SynSent {
        return (timeouts >= STUCK_AFTER).then_some(Trouble::SynUnanswered);
    }
    let unacked = socket.unacked.unwrap_or(0);
    if socket.state.may_send() && unacked > 0 && timeouts > 0 {
        let path = path_of(socket, measured).and_then(carries);
        if let Some(path) = path
            && socket.segment_bytes().is_some_and(|segment| segment > path)
            && has_larger_than(socket, path)
        {
            return Some(Trouble::StuckOnMtu);
        }
        if timeouts >= STUCK_AFTER {
            let suspect = path.is_none() && has_larger_than(socket, EVERY_PATH_CARRIES);
            return Some(if suspect { Trouble::MtuSuspected } else { Trouble::PeerSilent });
        }
    }
    let queued = socket.send_queue_bytes.unwrap_or(0);
    if socket.detail.timer == SocketTimer::Persist && queued > 0 && tcp.backoff >= STUCK_AFTER {
        return Some(Trouble::ZeroWindow);
    }
    if socket.detail.timer == SocketTimer::Keepalive && tcp.probes >= STUCK_AFTER {
        return Some(Trouble::PeerSilent);
    }
    let unread = socket.recv_queue_bytes.unwrap_or(0) > 0 && tcp.last_received_ms >= UNREAD_FOR_MS;
    if unread && (tcp.receive_window == Some(0) || uses(socket, 90)) {
        return Some(Trouble::NotReading);
    }
    // A link may have so small an MTU: then the peer was told so.
    if let (Some(mtu), Some(told)) = (socket.path_mtu_bytes, socket.advmss_bytes)
        && mtu <= TINY
        && told > mtu
    {
        return Some(Trouble::TinyPathMtu);
    }
    is_lossy(socket, tcp).then_some(Trouble::Lossy)
}

/// Whether a segment on the way makes an IP packet of more than `size` bytes. The kernel tells how many
/// segments and how many bytes are on the way: either they cannot all fit, or they are full ones and a rest.
fn has_larger_than(socket: &Socket, size: u32) -> bool {
    let (Some(bytes), Some(segments), Some(mss)) =
        (socket.in_flight_bytes(), socket.unacked, socket.send_mss_bytes)
    else {
        return false;
    };
    let fits = size.saturating_sub(socket.header_bytes());
    if mss <= fits || segments == 0 {
        return false;
    }
    bytes > segments.saturating_mul(fits) || (bytes > fits && bytes.div_ceil(mss) == segments)
}

/// The largest IP packet that may be on the way, bytes.
pub(super) fn largest_on_the_way(socket: &Socket) -> Option<u32> {
    let payload = socket.in_flight_bytes()?.min(socket.send_mss_bytes?);
    Some(payload.saturating_add(socket.header_bytes()))
}

/// Whether received data takes `percent` of what it may, or more.
fn uses(socket: &Socket, percent: u64) -> bool {
    let (Some(used), Some(limit)) = (socket.detail.recv_memory, socket.detail.recv_buffer) else {
        return false;
    };
    limit > 0 && u64::from(used) * 100 >= u64::from(limit) * percent
}

fn is_lossy(socket: &Socket, tcp: &TcpDetail) -> bool {
    let Some(again) = socket.retransmits.filter(|&n| n >= ENOUGH_RETRANSMITS) else { return false };
    match (tcp.resent_bytes, tcp.sent_bytes, tcp.data_segments_out) {
        (Some(again), Some(all), _) => again.saturating_mul(10) >= all,
        (_, _, Some(all)) => again.saturating_mul(10) >= all,
        _ => false,
    }
}

/// The remote addresses whose path is worth measuring, those with most stuck connections first.
pub fn suspects(sockets: &[Socket]) -> Vec<IpAddr> {
    let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
    let suspect = |socket: &&Socket| trouble(socket, &[]) == Some(Trouble::MtuSuspected);
    for remote in sockets.iter().filter(suspect).filter_map(|socket| socket.remote) {
        if !remote.ip().is_loopback() {
            *counts.entry(remote.ip()).or_default() += 1;
        }
    }
    let mut most: Vec<(IpAddr, usize)> = counts.into_iter().collect();
    most.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    most.into_iter().map(|(remote, _)| remote).collect()
}
