//! RTM_NEWROUTE messages of the main table → routes as `ip route` lists them.

use super::wire::{address, attributes, field, word};
use netlink_packet_core::ParseableParametrized;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteLwEnCapType, RouteMetric, RouteNextHop, RouteType, RouteVia,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// struct rtmsg.
const HEADER: usize = 12;
/// RT_TABLE_MAIN.
pub(super) const MAIN: u32 = 254;
/// RTM_F_CLONED: a cached exception, no route.
const CLONED: u32 = 0x200;
/// Attributes that are read (linux/rtnetlink.h).
mod rta {
    pub(super) const DST: u16 = 1;
    pub(super) const OIF: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const METRICS: u16 = 8;
    pub(super) const MULTIPATH: u16 = 9;
    pub(super) const TABLE: u16 = 15;
    pub(super) const VIA: u16 = 18;
    pub(super) const METRIC_MTU: u16 = 2;
    pub(super) const METRIC_ADVMSS: u16 = 8;
}
/// RTA_ENCAP: lightweight tunnels are not read, and their kind stands after them.
const RTA_ENCAP: u16 = 22;

/// A route with one next hop, the interface by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawRoute {
    pub(super) destination: String,
    pub(super) via: Option<IpAddr>,
    pub(super) interface: Option<u32>,
    pub(super) mtu: Option<u32>,
    pub(super) advmss: Option<u32>,
    pub(super) ipv6: bool,
}

/// Reads one message; an empty list for a route of another table or a cached exception, `None` when it
/// cannot be read.
pub(super) fn parse_route(payload: &[u8]) -> Option<Vec<RawRoute>> {
    let [family, length, _, _, table, _, _, kind] = field(payload, 0)?;
    let flags = u32::from_ne_bytes(field(payload, 8)?);
    let (family, kind) = (AddressFamily::from(family), RouteType::from(kind));
    let mut table = u32::from(table);
    let (mut target, mut via, mut interface) = (None, None, None);
    let (mut mtu, mut advmss) = (None, None);
    let mut hops: Vec<RouteNextHop> = Vec::new();
    for attribute in attributes(payload, HEADER) {
        let value = attribute.value();
        match attribute.kind() {
            rta::TABLE => table = word(value).unwrap_or(table),
            rta::DST => target = address(value),
            rta::OIF => interface = word(value),
            rta::GATEWAY => via = address(value).or(via),
            rta::METRICS => {
                // Zero is the kernel's way to say that it is not set.
                let set = |number| {
                    let metric = attributes(value, 0).find(|a| a.kind() == number)?;
                    word(metric.value()).filter(|&value| value > 0)
                };
                (mtu, advmss) = (set(rta::METRIC_MTU), set(rta::METRIC_ADVMSS));
            }
            rta::MULTIPATH | rta::VIA => {
                match RouteAttribute::parse_with_param(
                    &attribute.buffer(),
                    (family, kind, RouteLwEnCapType::None),
                ) {
                    Ok(RouteAttribute::MultiPath(list)) => hops = list,
                    Ok(other) => via = gateway(&other).or(via),
                    Err(_) => {}
                }
            }
            _ => {}
        }
    }
    if table != MAIN || flags & CLONED != 0 {
        return Some(Vec::new());
    }
    let destination = destination(family, kind, target, length)?;
    let ipv6 = family == AddressFamily::Inet6;
    let one =
        |via, interface| RawRoute { destination: destination.clone(), via, interface, mtu, advmss, ipv6 };
    if hops.is_empty() {
        return Some(vec![one(via, interface)]);
    }
    let hop = |hop: &RouteNextHop| one(hop.attributes.iter().find_map(gateway), Some(hop.interface_index));
    Some(hops.iter().map(hop).collect())
}

/// The next hop that an attribute names.
fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    }
}

/// The address, when it is one.
pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// `default`, `10.1.0.0/16`, `10.1.2.3`, `blackhole 10.99.1.0/24`: as `ip route` writes it.
fn destination(family: AddressFamily, kind: RouteType, target: Option<IpAddr>, length: u8) -> Option<String> {
    let (any, full) = match family {
        AddressFamily::Inet => (IpAddr::from(Ipv4Addr::UNSPECIFIED), 32),
        AddressFamily::Inet6 => (IpAddr::from(Ipv6Addr::UNSPECIFIED), 128),
        _ => return None,
    };
    let text = match target {
        None if length == 0 => "default".to_owned(),
        Some(address) if length == full => address.to_string(),
        target => format!("{}/{length}", target.unwrap_or(any)),
    };
    let word = match kind {
        RouteType::Unicast => return Some(text),
        RouteType::Local => "local",
        RouteType::Broadcast => "broadcast",
        RouteType::Anycast => "anycast",
        RouteType::Multicast => "multicast",
        RouteType::BlackHole => "blackhole",
        RouteType::Unreachable => "unreachable",
        RouteType::Prohibit => "prohibit",
        RouteType::Throw => "throw",
        _ => "unknown",
    };
    Some(format!("{word} {text}"))
}

/// What one route lookup says of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RawWay {
    pub(super) interface: u32,
    /// RTAX_MTU of the route.
    pub(super) route_mtu: Option<u32>,
    /// A path MTU that the kernel has learned from a PTB and still remembers.
    pub(super) cached_mtu: Option<u32>,
}

/// Reads the answer to a plain lookup; `None` when it names no interface.
///
/// A cached path MTU stands where the route's own would: over IPv4 the running clock tells them apart, over IPv6
/// the mark RTM_F_CLONED.
pub(super) fn parse_way(payload: &[u8]) -> Option<RawWay> {
    let [family] = field(payload, 0)?;
    let flags = u32::from_ne_bytes(field(payload, 8)?);
    let (family, kind) = (AddressFamily::from(family), RouteType::Unicast);
    let (mut interface, mut mtu, mut clock) = (None, None, false);
    for attribute in attributes(payload, HEADER).filter(|a| a.kind() != RTA_ENCAP) {
        match RouteAttribute::parse_with_param(&attribute.buffer(), (family, kind, RouteLwEnCapType::None)) {
            Ok(RouteAttribute::Oif(index)) => interface = Some(index),
            Ok(RouteAttribute::CacheInfo(info)) => clock = info.expires > 0,
            Ok(RouteAttribute::Metrics(metrics)) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(value) if *value > 0 => Some(*value),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let learned = if family == AddressFamily::Inet6 { flags & CLONED != 0 } else { clock };
    Some(RawWay {
        interface: interface?,
        route_mtu: mtu.filter(|_| !learned),
        cached_mtu: mtu.filter(|_| learned),
    })
}
