//! Where a tunnel's outer packets really leave: its remotes, and a route lookup to each.
//!
//! Overlays rarely name a remote on the device. flannel and Calico give VXLAN theirs through the forwarding
//! database (`bridge fdb`), IPIP through the gateways of the routes into it, WireGuard has a peer's endpoint.
//!
//! Source: kernel drivers/net/vxlan/vxlan_core.c `vxlan_xmit_one` (the bound device limits the lookup).

use super::forwarding::parse_entry;
use super::link::RawLink;
use super::namespace::RawNamespace;
use super::route::{RawWay, parse_way};
use super::socket::Netlink;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Remotes of one tunnel that are looked up at most; the interface is asked for each, about 5 µs.
const MOST_REMOTES: usize = 1024;

/// Remotes of a tunnel that are reached in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawEgress {
    /// `None`: no route leads there.
    pub(super) way: Option<RawWay>,
    pub(super) remotes: Vec<IpAddr>,
}

/// What is known of one tunnel's way out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RawUnderlay {
    /// The interface its outer packets leave by.
    pub(super) interface: Option<u32>,
    pub(super) egress: Vec<RawEgress>,
    /// Remotes beyond the bound, not looked up.
    pub(super) not_asked: u32,
}

/// Finds the way out of each tunnel: the interface it is bound to, else the one by which most of its remotes are
/// reached, else the one that holds its local address, else that of the way to its routes' gateways.
pub(super) fn find_underlays(netlink: &mut Netlink, raw: &mut RawNamespace) {
    let mut found = BTreeMap::new();
    for link in &raw.links {
        let Some(tunnel) = &link.tunnel else { continue };
        // A tunnel that was moved here still sends from the namespace it was made in.
        if link.link_netnsid.is_some() {
            continue;
        }
        let (remotes, not_asked) = remotes(netlink, link, raw);
        let limits =
            || tunnel.link.map(RouteAttribute::Oif).into_iter().chain(tunnel.mark.map(RouteAttribute::Mark));
        let egress = ways(remotes, |to| lookup(netlink, to, limits()));
        let most = egress
            .iter()
            .filter_map(|e| Some((e.way?.interface, e.remotes.len())))
            .filter(|&(index, _)| index != link.index)
            .max_by_key(|&(_, count)| count)
            .map(|(index, _)| index);
        let holder = |local: IpAddr| raw.addresses.iter().find(|(_, a, _)| *a == local).map(|(i, ..)| *i);
        let mut to_gateway = || {
            let gateways =
                raw.routes.iter().filter(|r| r.interface == Some(link.index)).filter_map(|r| r.via);
            let mut ways = gateways.take(4).filter_map(|to| lookup(netlink, to, limits()).ok().flatten());
            ways.find(|way| way.interface != link.index).map(|way| way.interface)
        };
        let interface =
            tunnel.link.or(most).or_else(|| tunnel.local.and_then(holder)).or_else(&mut to_gateway);
        found.insert(link.index, RawUnderlay { interface, egress, not_asked });
    }
    raw.underlays = found;
}

/// The addresses that a tunnel's outer packets go to, and how many more there are.
fn remotes(netlink: &mut Netlink, link: &RawLink, raw: &RawNamespace) -> (BTreeSet<IpAddr>, u32) {
    let Some(tunnel) = &link.tunnel else { return (BTreeSet::new(), 0) };
    let mut all: BTreeSet<IpAddr> = tunnel.remotes.iter().copied().collect();
    match link.kind.as_deref() {
        Some("vxlan") => all.extend(forwarding(netlink, link.index)),
        Some("ipip" | "sit" | "gre" | "ip6tnl" | "ip6gre") if all.is_empty() => {
            let routes = raw.routes.iter().filter(|r| r.interface == Some(link.index));
            all.extend(routes.filter_map(|r| r.via));
        }
        _ => {}
    }
    if let Some(ipv6) = tunnel.outer_ipv6 {
        all.retain(|a| a.is_ipv6() == ipv6);
    }
    all.retain(|a| !a.is_unspecified() && !a.is_multicast());
    let rest = all.len().saturating_sub(MOST_REMOTES);
    (all.into_iter().take(MOST_REMOTES).collect(), u32::try_from(rest).unwrap_or(u32::MAX))
}

/// Groups remotes by the way to them; a lookup that has no answer at all tells nothing and is left out.
fn ways<E>(
    remotes: impl IntoIterator<Item = IpAddr>,
    mut lookup: impl FnMut(IpAddr) -> Result<Option<RawWay>, E>,
) -> Vec<RawEgress> {
    let mut groups: BTreeMap<Option<RawWay>, Vec<IpAddr>> = BTreeMap::new();
    for remote in remotes {
        if let Ok(way) = lookup(remote) {
            groups.entry(way).or_default().push(remote);
        }
    }
    groups.into_iter().map(|(way, remotes)| RawEgress { way, remotes }).collect()
}

/// How a packet for `target` leaves that is bound to, or came by, what `limits` say; `None` when there is no way.
///
/// # Errors
/// The kernel gave no answer.
pub(super) fn lookup(
    netlink: &mut Netlink,
    target: IpAddr,
    limits: impl Iterator<Item = RouteAttribute>,
) -> Result<Option<RawWay>, ()> {
    let mut message = super::route_get::request(target, false);
    for limit in limits {
        if matches!(limit, RouteAttribute::Source(_)) {
            message.header.source_prefix_length = message.header.destination_prefix_length;
        }
        message.attributes.push(limit);
    }
    let request = RouteNetlinkMessage::GetRoute(message);
    match netlink.ask("a route lookup", &request, parse_way) {
        Ok(way) => Ok(Some(way)),
        Err(super::ObserveError::Refused { source, .. })
            if matches!(
                source.raw_os_error(),
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL | libc::EACCES)
            ) =>
        {
            Ok(None)
        }
        Err(_) => Err(()),
    }
}

/// Destinations in the forwarding database of one VXLAN; none when the kernel does not tell.
fn forwarding(netlink: &mut Netlink, index: u32) -> Vec<IpAddr> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    let request = RouteNetlinkMessage::GetNeighbour(message);
    let dump = netlink.dump("a forwarding database", &request, |m| Some(parse_forwarding(m, index)));
    dump.map(|d| d.items).unwrap_or_default()
}

/// The destination of one RTM_NEWNEIGH message of AF_BRIDGE, when it is of that VXLAN and has one.
pub(super) fn parse_forwarding(payload: &[u8], index: u32) -> Option<IpAddr> {
    parse_entry(payload).filter(|entry| entry.interface == index)?.remote
}

#[cfg(test)]
mod tests {
    use super::super::wire::{DONE, Messages};
    use super::*;

    const FDB: &[u8] = include_bytes!("../../tests/fixtures/netlink/neigh-fdb.bin");
    const GET: &[u8] = include_bytes!("../../tests/fixtures/netlink/route-get.bin");
    const TABLE: &str = include_str!("../../tests/fixtures/netlink/route-get.tsv");

    #[test]
    fn destinations_of_a_recorded_forwarding_database_are_those_of_bridge_fdb() {
        let judge: Vec<serde_json::Value> =
            serde_json::from_slice(include_bytes!("../../tests/fixtures/netlink/bridge-fdb.json")).unwrap();
        for (index, name, count) in [(24, "vx4", 1), (25, "flannel.1", 1), (26, "vx6", 1), (28, "vxext", 1)] {
            let ours: Vec<String> = Messages(FDB)
                .filter(|m| m.kind != DONE)
                .filter_map(|m| parse_forwarding(m.payload, index))
                .map(|a| a.to_string())
                .collect();
            let of_this = judge.iter().filter(|e| e["ifname"] == name);
            let theirs: Vec<&str> = of_this.filter_map(|e| e["dst"].as_str()).collect();
            assert_eq!(ours, theirs, "{name}");
            assert_eq!(ours.len(), count, "{name}");
        }
        let of_a_veth = Messages(FDB).filter_map(|m| parse_forwarding(m.payload, 11)).count();
        assert_eq!(of_a_veth, 0, "a MAC address alone is no remote");
    }

    fn recorded(target: IpAddr) -> Result<Option<RawWay>, ()> {
        let row = TABLE.lines().find(|l| l.split('\t').next() == Some(&target.to_string())).ok_or(())?;
        let n: Vec<usize> = row.split('\t').skip(1).map(|f| f.parse().unwrap()).collect();
        let message = Messages(&GET[n[0]..n[0] + n[1]]).next().unwrap();
        Ok(message.errno().is_none().then(|| parse_way(message.payload).unwrap()))
    }

    #[test]
    fn remotes_with_the_same_way_stand_together() {
        let remotes =
            ["198.51.100.2", "198.51.100.4", "198.51.100.3", "203.0.113.9", "10.99.1.1", "192.0.2.77"];
        let groups = ways(remotes.map(|r| r.parse().unwrap()), recorded);
        let told: Vec<_> = groups
            .iter()
            .map(|g| {
                let remotes: Vec<String> = g.remotes.iter().map(ToString::to_string).collect();
                (g.way.map(|w| (w.interface, w.route_mtu, w.cached_mtu)), remotes.join(" "))
            })
            .collect();
        assert_eq!(
            told,
            [
                (None, "10.99.1.1".to_owned()),
                (Some((11, None, None)), "198.51.100.3".to_owned()),
                (Some((11, None, Some(1400))), "198.51.100.2 198.51.100.4".to_owned()),
                (Some((11, Some(1300), None)), "203.0.113.9".to_owned()),
            ],
            "what was not recorded is not guessed"
        );
    }
}
