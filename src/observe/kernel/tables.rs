//! Neighbours, forwarding entries of VXLANs, remembered path MTUs, classifiers: dumps over netlink.

use super::super::ObserveError;
use super::super::forwarding::parse_entry;
use super::super::socket::Netlink;
use super::super::wire::{address, attributes, field};
use super::Names;
use crate::facts::{ForwardingEntry, NeighbourEntry, NeighbourState, RememberedMtu};
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::{RouteFlags, RouteMessage};
use netlink_packet_route::tc::TcMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

/// struct ndmsg.
const NDMSG: usize = 12;
/// linux/neighbour.h.
mod nda {
    pub(super) const DST: u16 = 1;
    pub(super) const LLADDR: u16 = 2;
    pub(super) const CACHEINFO: u16 = 3;
}
/// NTF_EXT_LEARNED of linux/neighbour.h.
const EXT_LEARNED: u8 = 0x10;
/// `ndm_updated` of struct nda_cacheinfo, in hundredths of a second (USER_HZ).
const UPDATED: usize = 8;
/// NUD_* of linux/neighbour.h.
mod nud {
    pub(super) const INCOMPLETE: u16 = 0x01;
    pub(super) const FAILED: u16 = 0x20;
    pub(super) const NOARP: u16 = 0x40;
    pub(super) const PERMANENT: u16 = 0x80;
}

pub(super) fn neighbours(netlink: &mut Netlink, names: &Names) -> Result<Vec<NeighbourEntry>, ObserveError> {
    let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let dump = netlink.dump("its neighbours", &request, |m| parse_neighbour(m, names))?;
    Ok(dump.items)
}

/// One entry of ARP or neighbour discovery; an empty list for what is none.
pub(super) fn parse_neighbour(payload: &[u8], names: &Names) -> Option<Vec<NeighbourEntry>> {
    let index = u32::from_ne_bytes(field(payload, 4)?);
    let state = u16::from_ne_bytes(field(payload, 8)?);
    let [flags] = field(payload, 10)?;
    // Multicast and broadcast, which nobody has to answer for.
    if state & nud::NOARP != 0 || state == 0 {
        return Some(Vec::new());
    }
    let mut entry = NeighbourEntry {
        address: IpAddr::from([0; 4]),
        interface: names.get(&index)?.clone(),
        state: match state {
            s if s & nud::FAILED != 0 => NeighbourState::Failed,
            s if s & nud::INCOMPLETE != 0 => NeighbourState::Incomplete,
            s if s & nud::PERMANENT != 0 => NeighbourState::Permanent,
            _ => NeighbourState::Known,
        },
        mac: None,
        unchanged_s: None,
        uncounted: state & nud::PERMANENT != 0 || flags & EXT_LEARNED != 0,
    };
    let mut found = false;
    for attribute in attributes(payload, NDMSG) {
        match attribute.kind() {
            nda::DST => {
                entry.address = address(attribute.value())?;
                found = true;
            }
            nda::LLADDR => entry.mac = attribute.value().try_into().ok(),
            nda::CACHEINFO => {
                entry.unchanged_s =
                    field(attribute.value(), UPDATED).map(|ticks| u32::from_ne_bytes(ticks) / 100);
            }
            _ => {}
        }
    }
    Some(found.then_some(entry).into_iter().collect())
}

/// Forwarding entries of each VXLAN of these indexes. All at once would be those of every port of every bridge too, and
/// for each port the kernel looks through all that its bridge has.
pub(super) fn forwarding(
    netlink: &mut Netlink,
    vxlans: &[u32],
    names: &Names,
) -> Result<Vec<ForwardingEntry>, ObserveError> {
    let mut all = Vec::new();
    for &index in vxlans {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        let request = RouteNetlinkMessage::GetNeighbour(message);
        all.extend(netlink.dump("its forwarding entries", &request, |m| parse_forwarding(m, names))?.items);
    }
    Ok(all)
}

/// One entry of `bridge fdb` that a VXLAN has; an empty list for those of bridges and physical interfaces.
pub(super) fn parse_forwarding(payload: &[u8], names: &Names) -> Option<Vec<ForwardingEntry>> {
    let entry = parse_entry(payload)?;
    if !entry.own || entry.remote.is_none() {
        return Some(Vec::new());
    }
    let interface = names.get(&entry.interface)?.clone();
    Some(vec![ForwardingEntry { interface, mac: entry.mac?, remote: entry.remote }])
}

/// Path MTUs that PTBs have left behind, IPv4 then IPv6. The kernel lists one once another packet has used it
/// (net/ipv4/route.c `fnhe_dump_bucket`).
pub(super) fn remembered(netlink: &mut Netlink) -> Result<Vec<RememberedMtu>, ObserveError> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.flags = RouteFlags::Cloned;
        let request = RouteNetlinkMessage::GetRoute(message);
        match netlink.dump("its remembered path MTUs", &request, parse_remembered) {
            Ok(dump) => all.extend(dump.items),
            Err(ObserveError::Refused { source, .. })
                if matches!(
                    source.raw_os_error(),
                    Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// A cached exception with an MTU and time left; an empty list for a route.
pub(super) fn parse_remembered(payload: &[u8]) -> Option<Vec<RememberedMtu>> {
    /// struct rtmsg.
    const RTMSG: usize = 12;
    /// RTM_F_CLONED.
    const CLONED: u32 = 0x200;
    // RTA_DST, RTA_METRICS, RTA_CACHEINFO, and RTAX_MTU inside the second (linux/rtnetlink.h).
    const DST: u16 = 1;
    const METRICS: u16 = 8;
    const CACHEINFO: u16 = 12;
    const MTU: u16 = 2;
    let flags = u32::from_ne_bytes(field(payload, 8)?);
    if flags & CLONED == 0 {
        return Some(Vec::new());
    }
    let (mut target, mut mtu, mut expires) = (None, None, 0);
    for attribute in attributes(payload, RTMSG) {
        match attribute.kind() {
            DST => target = address(attribute.value()),
            METRICS => {
                let metric = attributes(attribute.value(), 0).find(|a| a.kind() == MTU);
                mtu = metric.and_then(|m| field(m.value(), 0)).map(u32::from_ne_bytes);
            }
            // struct rta_cacheinfo: rta_expires is the third number.
            CACHEINFO => expires = u32::from_ne_bytes(field(attribute.value(), 8)?),
            _ => {}
        }
    }
    let entry = target.zip(mtu.filter(|&mtu| mtu > 0 && expires > 0));
    Some(entry.map(|(target, mtu_bytes)| RememberedMtu { target, mtu_bytes }).into_iter().collect())
}

/// Interfaces with a queueing discipline that programs can be hung on.
pub(super) fn classifiers(netlink: &mut Netlink, names: &Names) -> Result<Vec<String>, ObserveError> {
    let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    let dump = netlink.dump("its queueing disciplines", &request, |m| parse_classifier(m, names))?;
    Ok(dump.items)
}

pub(super) fn parse_classifier(payload: &[u8], names: &Names) -> Option<Vec<String>> {
    /// struct tcmsg.
    const TCMSG: usize = 20;
    /// TCA_KIND.
    const KIND: u16 = 1;
    let index = u32::from_ne_bytes(field(payload, 4)?);
    let kind = attributes(payload, TCMSG).find(|a| a.kind() == KIND)?;
    let kind = kind.value().split(|&b| b == 0).next()?;
    let ours = matches!(kind, b"clsact" | b"ingress").then(|| names.get(&index).cloned()).flatten();
    Some(ours.into_iter().collect())
}
