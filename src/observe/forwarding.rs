//! One entry of a forwarding database (`bridge fdb`), of a bridge's or of a VXLAN's own.
//!
//! Source: linux/neighbour.h (struct ndmsg, NDA_DST); kernel net/core/rtnetlink.c `rtnl_fdb_dump`.

use super::wire::{address, attributes, field};
use std::net::IpAddr;

/// An entry as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawForwarding {
    /// Index of the interface it is of.
    pub(super) interface: u32,
    /// The inner address; all zeroes in a VXLAN's entry for everything unknown.
    pub(super) mac: Option<[u8; 6]>,
    /// Where the outer packets go; `None` for a port of a bridge.
    pub(super) remote: Option<IpAddr>,
    /// The device's own table (NTF_SELF), not that of the bridge it is a port of.
    pub(super) own: bool,
}

/// Reads one RTM_NEWNEIGH message of AF_BRIDGE.
pub(super) fn parse_entry(payload: &[u8]) -> Option<RawForwarding> {
    /// struct ndmsg.
    const HEADER: usize = 12;
    /// NDA_DST, NDA_LLADDR.
    const DESTINATION: u16 = 1;
    const MAC: u16 = 2;
    /// NTF_SELF.
    const SELF: u8 = 0x02;
    let interface = u32::from_ne_bytes(field(payload, 4)?);
    let [flags] = field(payload, 10)?;
    let (mut mac, mut remote) = (None, None);
    for attribute in attributes(payload, HEADER) {
        match attribute.kind() {
            MAC => mac = attribute.value().try_into().ok(),
            DESTINATION => remote = address(attribute.value()),
            _ => {}
        }
    }
    Some(RawForwarding { interface, mac, remote, own: flags & SELF != 0 })
}
