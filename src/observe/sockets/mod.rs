//! Sockets of a namespace over sock_diag, and the processes that hold them over /proc.

mod decode;
mod owners;
#[cfg(test)]
mod recorded;

pub use owners::{Owners, Whose, read_owners};

use super::ObserveError;
use super::socket::Netlink;
use super::wire::Messages;
use crate::facts::{Protocol, Socket};
use crate::netns::{NetNs, on_threads_that_die};
use netlink_packet_core::NetlinkSerializable;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use std::io;

/// SOCK_DIAG_BY_FAMILY.
const BY_FAMILY: u16 = 20;
/// struct inet_diag_req_v2.
const REQUEST: usize = 56;
/// Sockets that are kept of one namespace; beyond it they are counted.
pub const MOST_SOCKETS: usize = 500_000;

/// Which sockets to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketQuery {
    /// TCP.
    pub tcp: bool,
    /// UDP.
    pub udp: bool,
    /// Raw IP.
    pub raw: bool,
    /// Also connections in TIME-WAIT: there may be tens of thousands, and no process holds them.
    pub time_wait: bool,
}

impl Default for SocketQuery {
    /// TCP and UDP without TIME-WAIT.
    fn default() -> Self {
        Self { tcp: true, udp: true, raw: false, time_wait: false }
    }
}

/// The sockets of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketList {
    /// In the kernel's order.
    pub sockets: Vec<Socket>,
    /// Messages that could not be read.
    pub unreadable: u32,
    /// Sockets beyond [`MOST_SOCKETS`].
    pub left_out: u32,
    /// Protocols that the kernel gives no diagnostics of, so that nothing is known of their sockets.
    pub refused: Vec<Protocol>,
}

/// Reads the sockets of a namespace; who holds them is told by [`read_owners`]. About 2 µs a socket.
///
/// # Errors
/// [`ObserveError`]: the namespace cannot be entered, or netlink fails.
pub fn read_sockets(netns: &NetNs, query: SocketQuery) -> Result<SocketList, ObserveError> {
    netns.run(|| read_here(query))?
}

/// The same of many namespaces, in the given order; one that cannot be read does not hinder the others.
///
/// # Errors
/// When no thread can be started.
pub fn read_many_sockets(
    namespaces: &[&NetNs],
    query: SocketQuery,
) -> io::Result<Vec<Result<SocketList, ObserveError>>> {
    on_threads_that_die(namespaces, |_, part| {
        let one = |netns: &&NetNs| {
            netns.enter_for_ever()?;
            read_here(query)
        };
        part.iter().map(one).collect()
    })
}

/// Reads those of the thread's own namespace.
fn read_here(query: SocketQuery) -> Result<SocketList, ObserveError> {
    let mut netlink = Netlink::open(NETLINK_SOCK_DIAG)?;
    let mut list = SocketList::default();
    let wanted = [(query.tcp, Protocol::Tcp), (query.udp, Protocol::Udp), (query.raw, Protocol::Raw)];
    for (_, protocol) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = Request::new(family, protocol, query.time_wait);
            match dump(&mut netlink, &request, protocol, &mut list) {
                // ENOENT: no such diagnostics in this kernel. EINVAL: nor a way to ask for them.
                Err(ObserveError::Refused { source, .. })
                    if matches!(
                        source.raw_os_error(),
                        Some(libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
                    ) =>
                {
                    // Without IPv6 the other family still tells all there is.
                    if family == libc::AF_INET {
                        list.refused.push(protocol);
                    }
                }
                other => other?,
            }
        }
    }
    Ok(list)
}

fn dump(
    netlink: &mut Netlink,
    request: &Request,
    protocol: Protocol,
    list: &mut SocketList,
) -> Result<(), ObserveError> {
    let room = MOST_SOCKETS.saturating_sub(list.sockets.len());
    let mut found = 0;
    let mut sockets = netlink.dump("its sockets", request, |message| {
        found += 1;
        if found > room {
            return Some(Vec::new());
        }
        decode::decode(message, protocol).map(|socket| vec![socket])
    })?;
    list.left_out =
        list.left_out.saturating_add(u32::try_from(found.saturating_sub(room)).unwrap_or(u32::MAX));
    list.unreadable = list.unreadable.saturating_add(sockets.unreadable);
    if list.sockets.is_empty() {
        list.sockets = sockets.items;
    } else {
        list.sockets.append(&mut sockets.items);
    }
    Ok(())
}

/// The sockets in a recorded or received stream of netlink messages.
pub fn decode_sockets(data: &[u8], protocol: Protocol) -> Vec<Socket> {
    let of_sockets = Messages(data).filter(|message| message.kind == BY_FAMILY);
    of_sockets.filter_map(|message| decode::decode(message.payload, protocol)).collect()
}

/// A dump of one family and protocol.
#[derive(Debug, Clone, Copy)]
struct Request([u8; REQUEST]);

impl Request {
    fn new(family: i32, protocol: Protocol, time_wait: bool) -> Self {
        let number = match protocol {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
            Protocol::Raw => libc::IPPROTO_RAW,
        };
        let attributes = (1 << (decode::INFO - 1)) | (1 << (decode::MEMORY - 1));
        // TCP_ESTABLISHED to TCP_CLOSING, TCP_TIME_WAIT is 6.
        let all: u32 = 0x0ffe;
        let states = if time_wait { all } else { all & !(1 << 6) };
        let mut bytes = [0; REQUEST];
        let head = [u8::try_from(family).unwrap_or(0), u8::try_from(number).unwrap_or(0), attributes, 0];
        for (place, byte) in bytes.iter_mut().zip(head.into_iter().chain(states.to_ne_bytes())) {
            *place = byte;
        }
        Self(bytes)
    }
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        BY_FAMILY
    }

    fn buffer_len(&self) -> usize {
        REQUEST
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0);
    }
}
