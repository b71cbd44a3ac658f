//! Netlink messages and attributes in a datagram, read without trust in any length.
//!
//! `netlink-packet-route` parses a message as a whole, and one attribute that it cannot read costs the whole
//! message (its issue 151). So messages are cut here and attributes are handed to it one by one.
//!
//! Source: netlink(7), linux/netlink.h.

use netlink_packet_core::{NLA_TYPE_MASK, NlaBuffer};
use std::net::IpAddr;

/// struct nlmsghdr.
pub(super) const HEADER: usize = 16;

/// NLMSG_ERROR: an errno, 0 for an acknowledgement.
pub(super) const ERROR: u16 = 2;
/// NLMSG_DONE: the end of a dump.
pub(super) const DONE: u16 = 3;
/// NLM_F_DUMP_INTR: what is dumped has changed meanwhile.
pub(super) const INTERRUPTED: u16 = 0x10;

/// One message: its header's fields and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

impl Message<'_> {
    /// The errno (positive) of an NLMSG_ERROR or NLMSG_DONE that carries one.
    pub(super) fn errno(&self) -> Option<i32> {
        let code = i32::from_ne_bytes(field(self.payload, 0)?);
        (code < 0).then(|| code.saturating_neg())
    }
}

/// The messages of a datagram; ends at the first that its length does not fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let data = std::mem::take(&mut self.0);
        let length = usize::try_from(u32::from_ne_bytes(field(data, 0)?)).ok()?;
        let message = Message {
            kind: u16::from_ne_bytes(field(data, 4)?),
            flags: u16::from_ne_bytes(field(data, 6)?),
            sequence: u32::from_ne_bytes(field(data, 8)?),
            payload: data.get(HEADER..length)?,
        };
        self.0 = data.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// `N` bytes at `at`.
pub(super) fn field<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..)?.first_chunk().copied()
}

/// A number of 32 bits in the machine's own order.
pub(super) fn word(bytes: &[u8]) -> Option<u32> {
    field(bytes, 0).map(u32::from_ne_bytes)
}

/// Text up to its first zero byte.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.split(|&byte| byte == 0).next()?).ok()
}

/// An IPv4 or IPv6 address, which its length tells.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => field::<4>(bytes, 0).map(IpAddr::from),
        16 => field::<16>(bytes, 0).map(IpAddr::from),
        _ => None,
    }
}

/// One attribute: struct nlattr and what follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'a>(&'a [u8]);

impl<'a> Attribute<'a> {
    /// struct nlattr.
    const HEADER: usize = 4;

    /// Its number, without the marks for nesting and byte order.
    pub(super) fn kind(self) -> u16 {
        field(self.0, 2).map_or(0, u16::from_ne_bytes) & NLA_TYPE_MASK
    }

    pub(super) fn value(self) -> &'a [u8] {
        self.0.get(Self::HEADER..).unwrap_or_default()
    }

    /// As `netlink-packet-route` takes it.
    pub(super) fn buffer(self) -> NlaBuffer<&'a [u8]> {
        NlaBuffer::new(self.0)
    }
}

/// The attributes behind a fixed header of `header` bytes; ends at the first that does not fit.
pub(super) fn attributes(payload: &[u8], header: usize) -> impl Iterator<Item = Attribute<'_>> {
    let mut rest = payload.get(header..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(field(rest, 0)?));
        let attribute = rest.get(..length).filter(|whole| whole.len() >= Attribute::HEADER)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute(attribute))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_do_not_fit_end_the_datagram() {
        let mut data = vec![20, 0, 0, 0, 3, 0, 2, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        data.extend((-2i32).to_ne_bytes());
        let all: Vec<_> = Messages(&data).collect();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].kind, all[0].sequence, all[0].errno()), (DONE, 7, Some(2)));
        for wrong in [0u32, 15, 21, u32::MAX] {
            data[..4].copy_from_slice(&wrong.to_ne_bytes());
            assert_eq!(Messages(&data).count(), 0, "{wrong}");
        }
        for end in 0..20 {
            assert_eq!(Messages(&data[..end]).count(), 0);
        }
    }
}
