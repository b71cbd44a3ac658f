//! What the kernel tells of each interface of a namespace: a dump of RTM_NEWLINK messages.
//!
//! Not getifaddrs(3): glibc asks without a mask. The kernel then makes room for messages of a page at most, and ends
//! the dump, without a word, before an interface that needs more, as with a few dozen alternative names (ip-link(8),
//! property add). When that one has an address, glibc asks again for ever.
//!
//! Source: netlink(7), rtnetlink(7); kernel net/core/rtnetlink.c `rtnl_calcit`, net/netlink/af_netlink.c
//! `netlink_dump`.

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NlaBuffer, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;

/// struct ifinfomsg.
const HEADER: usize = 16;
/// `NLMSG_ERROR` and `NLMSG_DONE` of linux/netlink.h, which may carry an errno.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: interfaces came or went meanwhile.
const INTERRUPTED: u16 = 0x10;
/// The kernel makes a datagram as large as the room that it has seen, up to 32 KiB.
const ROOM: usize = 32 << 10;
/// A dump that changes under the reader is read again this often.
const TRIES: u32 = 8;
/// The kernel answers at once; this is for a lost datagram.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What `read` makes of each interface of the calling thread's namespace.
///
/// # Errors
/// The kernel's; `TimedOut` when it does not answer.
pub(super) fn dump_links<T>(read: impl Fn(&[u8]) -> Option<T>) -> io::Result<Vec<T>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    let mut buffer = Vec::new();
    let mut attempt = 1;
    loop {
        let mut found = Vec::new();
        socket.send(&request(attempt), 0)?;
        match read_dump(&socket, &mut buffer, attempt, |payload| found.extend(read(payload))) {
            // A node that never rests is told of as it was last seen.
            Ok(whole) if whole || attempt == TRIES => return Ok(found),
            // One interface did not fit; the kernel has seen our room since.
            Err(error) if error.raw_os_error() != Some(libc::EMSGSIZE) || attempt == TRIES => {
                return Err(error);
            }
            Ok(_) | Err(_) => attempt += 1,
        }
    }
}

/// RTM_GETLINK for all. With a mask, whichever, the kernel makes room for the largest message there is.
fn request(sequence: u32) -> Vec<u8> {
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetLink(question));
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    message.header.sequence_number = sequence;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Hands every message of one dump to `each`, to its end; whether nothing changed meanwhile.
fn read_dump(
    socket: &Socket,
    buffer: &mut Vec<u8>,
    sequence: u32,
    mut each: impl FnMut(&[u8]),
) -> io::Result<bool> {
    let mut whole = true;
    loop {
        receive(socket, buffer)?;
        let mut rest = buffer.as_slice();
        while let Ok(message) = NetlinkBuffer::new_checked(rest) {
            let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if message.sequence_number() != sequence {
                continue;
            }
            whole &= message.flags() & INTERRUPTED == 0;
            match (message.message_type(), number(message.payload(), 0).map(u32::cast_signed)) {
                (DONE | ERROR, Some(errno)) if errno < 0 => {
                    return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
                }
                (DONE | ERROR, _) => return Ok(whole),
                _ => each(message.payload()),
            }
        }
    }
}

/// Reads one datagram whole, however large.
fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    buffer.reserve(ROOM);
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&PATIENCE)) {
        Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
        Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
        _ => {}
    }
    let retry =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock);
    match socket.recv(buffer, libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_DONTWAIT) {
        Ok(size) => {
            buffer.clear();
            buffer.reserve(size);
            socket.recv(buffer, libc::MSG_DONTWAIT).map(drop)
        }
        // A signal came while we waited.
        Err(error) if retry(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The attributes of a message behind its struct ifinfomsg; ends at the first that does not fit.
pub(super) fn attributes(payload: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(payload.get(HEADER..).unwrap_or_default()).map_while(Result::ok)
}

/// A number of 32 bits in the machine's own order.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}
