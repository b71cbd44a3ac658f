//! One route lookup: by which interface a packet for an address leaves, and how large it may be.
//!
//! The kernel answers a plain RTM_GETROUTE with what a packet would meet now, so a path MTU that it has
//! cached hides the route's own. RTM_F_FIB_MATCH gives the configured route. Both are asked, and told apart.
//!
//! Source: rtnetlink(7); kernel net/ipv4/route.c `inet_rtm_getroute`, net/ipv6/route.c `rt6_fill_node`.

use super::route::ip;
use super::socket::Netlink;
use super::{NoRoute, ObserveError};
use crate::netns::NetNs;
use netlink_packet_core::Parseable;
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6, UdpSocket};

/// The kernel counts the rest of an exception's life in USER_HZ, 100 a second on every architecture
/// that Kubernetes runs on (time(7)).
const TICKS_PER_SECOND: u32 = 100;

/// What kind of destination an address is, seen from a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Another machine or pod.
    Unicast,
    /// An address of this very namespace.
    Local,
    /// Broadcast, multicast or anycast.
    Other,
}

/// A path MTU that the kernel has learned from a PTB and keeps for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedMtu {
    /// The path MTU it holds, bytes of the whole IP packet.
    pub mtu_bytes: u32,
    /// Seconds until it forgets.
    pub expires_secs: u32,
}

/// How a packet for one address leaves a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteLookup {
    /// Name of the interface it leaves by.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// Its link MTU, bytes; over IPv6 what that has of its own there (`net.ipv6.conf.NAME.mtu`, which a router's
    /// advertisement may set), where it is smaller.
    pub link_mtu: u32,
    /// RTAX_MTU of the configured route, bytes; `None` when the route sets none and the link's counts.
    pub route_mtu: Option<u32>,
    /// RTAX_ADVMSS of the configured route, bytes; `None` when it sets none and the MTU's counts.
    pub advmss: Option<u32>,
    /// The next hop; `None` when the target is on the link. May be IPv6 for an IPv4 target.
    pub gateway: Option<IpAddr>,
    /// The source address that the kernel prefers.
    pub source_address: Option<IpAddr>,
    /// The cached path MTU to this very target, if there is one: the kernel's memory, not the network.
    pub cached: Option<CachedMtu>,
    /// What the target is.
    pub kind: RouteKind,
}

impl RouteLookup {
    /// The largest IP packet (bytes) that configuration lets out to the target: the smaller of link and route.
    pub fn largest_packet(&self) -> u32 {
        self.route_mtu.map_or(self.link_mtu, |route| route.min(self.link_mtu))
    }
}

/// Asks the kernel of `netns` how a packet for `target` would leave; `scope_id` is the interface of a link-local target,
/// else 0.
///
/// # Errors
/// [`ObserveError::NoRoute`] when there is no way; [`ObserveError::NetNs`] without CAP_SYS_ADMIN;
/// [`ObserveError::Io`], [`ObserveError::Refused`], [`ObserveError::NoAnswer`].
pub fn route_get(netns: &NetNs, target: IpAddr, scope_id: u32) -> Result<RouteLookup, ObserveError> {
    netns.run(|| lookup(&mut Netlink::route()?, target, scope_id))?
}

/// The path MTU to `target` that the kernel of `netns` has cached now.
///
/// # Errors
/// As [`route_get`].
pub fn cached_mtu(netns: &NetNs, target: IpAddr, scope_id: u32) -> Result<Option<CachedMtu>, ObserveError> {
    let (plain, _) =
        netns.run(|| plain(&mut Netlink::route()?, Asked { target, scope_id, source: None }))??;
    Ok(merge(&plain, None).cached)
}

/// What a lookup goes by.
#[derive(Debug, Clone, Copy)]
struct Asked {
    target: IpAddr,
    scope_id: u32,
    source: Option<IpAddr>,
}

/// What a packet meets that a socket sends, and what was asked for it. A socket that connects looks twice, where rules by
/// source may apply the second time:
///
/// - over IPv4 always, the second time with the source that the first has chosen (net/ipv4/route.c `ip_route_connect`);
/// - over IPv6 only where the first finds no way; it stays with a way that it has found without a source until routes
///   change (net/ipv6/ip6_output.c `ip6_dst_lookup_tail`). So does a packet of an unbound raw socket, as probes are.
fn plain(netlink: &mut Netlink, asked: Asked) -> Result<(RouteMessage, Asked), ObserveError> {
    let first = match (route(netlink, asked, false), asked.target) {
        (Err(none @ ObserveError::NoRoute { .. }), IpAddr::V6(target)) => {
            let asked_again = Asked { source: Some(chosen_source(target, asked.scope_id, none)?), ..asked };
            return Ok((route(netlink, asked_again, false)?, asked_again));
        }
        (first, _) => first?,
    };
    let source = merge(&first, None).source_address.filter(|_| asked.target.is_ipv4());
    if source.is_none() {
        return Ok((first, asked));
    }
    let asked_again = Asked { source, ..asked };
    match route(netlink, asked_again, false) {
        Ok(second) => Ok((second, asked_again)),
        // EINVAL: a black hole, or an address that is not there any more.
        Err(error @ ObserveError::NoRoute { why, .. }) if why != NoRoute::Blackhole => Err(error),
        Err(_) => Ok((first, asked)),
    }
}

/// The source that the kernel chooses for a target that it finds no way to without one, if there is a way with it.
/// Connecting a UDP socket sends nothing. Else why there is none: `none`, unless the kernel now says something else.
fn chosen_source(target: Ipv6Addr, scope_id: u32, none: ObserveError) -> Result<IpAddr, ObserveError> {
    let connect = || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket.connect(SocketAddrV6::new(target, 9, 0, scope_id))?;
        socket.local_addr()
    };
    connect().map(|local| local.ip()).map_err(|error| {
        match refusal(&error, "a route lookup", target.into()) {
            ObserveError::NoRoute { target, why } if why != NoRoute::Blackhole => {
                ObserveError::NoRoute { target, why }
            }
            // EINVAL may be a link-local target without a link; EADDRNOTAVAIL: there is no address to send from.
            _ => none,
        }
    })
}

fn lookup(netlink: &mut Netlink, target: IpAddr, scope_id: u32) -> Result<RouteLookup, ObserveError> {
    let (plain, asked) = plain(netlink, Asked { target, scope_id, source: None })?;
    // Only the route's own MTU is taken from the second answer: without it that is unknown, not an error.
    let fib = route(netlink, asked, true).ok();
    let mut found = merge(&plain, fib.as_ref());
    // IPv4 does not repeat what it was asked with; IPv6 names the address that it would have preferred.
    found.source_address = asked.source.or(found.source_address);
    let mut question = LinkMessage::default();
    question.header.index = found.index;
    question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let link = netlink.ask("the outgoing interface", &RouteNetlinkMessage::GetLink(question), |payload| {
        LinkMessage::parse(payload).ok()
    })?;
    found.on(&link, target.is_ipv6())
}

fn route(netlink: &mut Netlink, asked: Asked, fib_match: bool) -> Result<RouteMessage, ObserveError> {
    let Asked { target, scope_id, source } = asked;
    let mut message = request(target, fib_match);
    if let Some(source) = source {
        message.header.source_prefix_length = message.header.destination_prefix_length;
        message.attributes.push(RouteAttribute::Source(source.into()));
    }
    if scope_id != 0 {
        message.attributes.push(RouteAttribute::Oif(scope_id));
    }
    let question = RouteNetlinkMessage::GetRoute(message);
    let answer = netlink.ask("a route lookup", &question, |payload| RouteMessage::parse(payload).ok());
    answer.map_err(|error| match error {
        ObserveError::Refused { what, source } => refusal(&source, what, target),
        other => other,
    })
}

/// The question for one address.
pub(super) fn request(target: IpAddr, fib_match: bool) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, length) = match target {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    if fib_match {
        message.header.flags = RouteFlags::FibMatch;
    }
    message.attributes.push(RouteAttribute::Destination(target.into()));
    message
}

/// What an errno means as the answer to a lookup; net/ipv4/fib_semantics.c `fib_props`.
fn refusal(error: &io::Error, what: &'static str, target: IpAddr) -> ObserveError {
    let code = error.raw_os_error().unwrap_or(0);
    let why = match code {
        libc::ENETUNREACH => NoRoute::None,
        libc::EHOSTUNREACH => NoRoute::Unreachable,
        libc::EINVAL => NoRoute::Blackhole,
        libc::EACCES => NoRoute::Prohibit,
        _ => return ObserveError::Refused { what, source: io::Error::from_raw_os_error(code) },
    };
    ObserveError::NoRoute { target, why }
}

/// DEVCONF_MTU6 of linux/ipv6.h.
fn ipv6_mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| {
        let LinkAttribute::AfSpecUnspec(families) = attribute else { return None };
        families.iter().find_map(|family| {
            let AfSpecUnspec::Inet6(values) = family else { return None };
            values.iter().find_map(|value| match value {
                AfSpecInet6::DevConf(conf) => u32::try_from(conf.mtu6).ok().filter(|mtu| *mtu > 0),
                _ => None,
            })
        })
    })
}

/// What both answers say before the interface is known by name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    index: u32,
    route_mtu: Option<u32>,
    advmss: Option<u32>,
    gateway: Option<IpAddr>,
    source_address: Option<IpAddr>,
    cached: Option<CachedMtu>,
    kind: RouteKind,
}

impl Found {
    fn on(self, link: &LinkMessage, ipv6: bool) -> Result<RouteLookup, ObserveError> {
        let mut name = None;
        let mut mtu = None;
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(value) => name = Some(value.clone()),
                LinkAttribute::Mtu(value) => mtu = Some(*value),
                _ => {}
            }
        }
        let (Some(interface), Some(link_mtu)) = (name, mtu) else {
            return Err(ObserveError::nothing("the outgoing interface"));
        };
        let link_mtu = ipv6_mtu(link).filter(|_| ipv6).map_or(link_mtu, |own| own.min(link_mtu));
        Ok(RouteLookup {
            interface,
            index: self.index,
            link_mtu,
            route_mtu: self.route_mtu,
            advmss: self.advmss,
            gateway: self.gateway,
            source_address: self.source_address,
            cached: self.cached,
            kind: self.kind,
        })
    }
}

/// Joins the plain answer (what a packet meets) and the configured route.
fn merge(plain: &RouteMessage, fib: Option<&RouteMessage>) -> Found {
    let mut found = Found {
        index: 0,
        route_mtu: None,
        advmss: fib.and_then(|fib| {
            metric(fib, |m| if let RouteMetric::Advmss(mss) = m { Some(*mss) } else { None })
        }),
        gateway: None,
        source_address: None,
        cached: None,
        kind: match plain.header.kind {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::Local => RouteKind::Local,
            _ => RouteKind::Other,
        },
    };
    let mut expires = 0;
    for attribute in &plain.attributes {
        match attribute {
            RouteAttribute::Oif(index) => found.index = *index,
            RouteAttribute::Gateway(address) => found.gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet(address)) => found.gateway = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => found.gateway = Some((*address).into()),
            RouteAttribute::PrefSource(address) => found.source_address = ip(address),
            RouteAttribute::CacheInfo(info) => expires = info.expires / TICKS_PER_SECOND,
            _ => {}
        }
    }
    // IPv4 marks every plain answer as cloned, so there the running clock tells; an IPv6 route from a
    // router advertisement has a clock too, so there the mark tells.
    let exception = match plain.header.address_family {
        AddressFamily::Inet6 => plain.header.flags.contains(RouteFlags::Cloned),
        _ => expires > 0,
    };
    if exception && let Some(mtu_bytes) = route_mtu(plain) {
        found.cached = Some(CachedMtu { mtu_bytes, expires_secs: expires });
    }
    found.route_mtu = match fib {
        // A kernel that does not know FIB_MATCH (before 4.13) answers as if it had not been asked.
        Some(fib) if !fib.header.flags.contains(RouteFlags::Cloned) => route_mtu(fib),
        _ if found.cached.is_none() => route_mtu(plain),
        _ => None,
    };
    found
}

fn route_mtu(message: &RouteMessage) -> Option<u32> {
    metric(message, |metric| if let RouteMetric::Mtu(mtu) = metric { Some(*mtu) } else { None })
}

/// A metric of the route; zero is the kernel's way to say that it is not set.
fn metric(message: &RouteMessage, wanted: impl Fn(&RouteMetric) -> Option<u32>) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => metrics.iter().find_map(&wanted).filter(|value| *value > 0),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use netlink_packet_route::RouteNetlinkMessage;

    const PLAIN: &[u8] = include_bytes!("../../tests/fixtures/netlink/route-get.bin");
    const FIB: &[u8] = include_bytes!("../../tests/fixtures/netlink/route-get-fibmatch.bin");
    const TABLE: &str = include_str!("../../tests/fixtures/netlink/route-get.tsv");

    enum Answer {
        Route(RouteMessage),
        Refused(io::Error),
    }

    fn parse(bytes: &[u8]) -> Answer {
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).unwrap().payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => Answer::Route(route),
            NetlinkPayload::Error(error) => Answer::Refused(error.to_io()),
            other => panic!("{other:?}"),
        }
    }

    fn recorded(target: &str) -> Result<Found, ObserveError> {
        let row = TABLE.lines().find(|l| l.split('\t').next() == Some(target)).unwrap();
        let n: Vec<usize> = row.split('\t').skip(1).map(|f| f.parse().unwrap()).collect();
        let fib = match parse(&FIB[n[2]..n[2] + n[3]]) {
            Answer::Route(route) => Some(route),
            Answer::Refused(_) => None,
        };
        match parse(&PLAIN[n[0]..n[0] + n[1]]) {
            Answer::Route(plain) => Ok(merge(&plain, fib.as_ref())),
            Answer::Refused(error) => Err(refusal(&error, "a route lookup", target.parse().unwrap())),
        }
    }

    #[test]
    fn a_cached_path_mtu_is_not_the_routes() {
        for (target, seconds) in [("198.51.100.2", 593), ("198.51.100.4", 592), ("2001:db8:2::2", 583)] {
            let found = recorded(target).unwrap();
            assert_eq!(found.route_mtu, None, "{target}");
            let cached = found.cached.unwrap();
            assert_eq!(cached.mtu_bytes, 1400);
            assert!(cached.expires_secs.abs_diff(seconds) <= 1, "{cached:?}");
        }
        assert_eq!(recorded("198.51.100.3").unwrap().cached, None, "an exception without a metric");
    }

    #[test]
    fn the_routes_own_mtu_is_not_cached() {
        for (target, mtu) in [
            ("203.0.113.9", Some(1300)),
            ("203.0.114.9", Some(1280)),
            ("203.0.115.9", None),
            ("203.0.116.9", Some(1350)),
            ("203.0.118.9", Some(1290)),
            ("2001:db8:a::1", Some(1320)),
            ("2001:db8:c::1", Some(1330)),
            ("fe80::1", None),
        ] {
            let found = recorded(target).unwrap();
            assert_eq!((found.route_mtu, found.cached), (mtu, None), "{target}");
        }
    }

    #[test]
    fn gateway_source_and_kind_are_those_of_ip_route_get() {
        let found = recorded("10.244.5.5").unwrap();
        assert_eq!(found.gateway, Some("2001:db8:1::fe".parse().unwrap()), "IPv4 through an IPv6 next hop");
        assert_eq!(found.source_address, Some("192.0.2.1".parse().unwrap()));
        let found = recorded("10.244.1.11").unwrap();
        assert_eq!((found.gateway, found.kind), (None, RouteKind::Unicast));
        assert_eq!(recorded("127.0.0.1").unwrap().kind, RouteKind::Local);
    }

    #[test]
    fn dead_ends_say_which() {
        for (target, expected) in [
            ("10.99.1.1", NoRoute::Blackhole),
            ("10.99.2.1", NoRoute::Unreachable),
            ("10.99.3.1", NoRoute::Prohibit),
            ("2001:db8:dead::1", NoRoute::Unreachable),
        ] {
            let error = recorded(target).unwrap_err();
            assert!(matches!(error, ObserveError::NoRoute { why, .. } if why == expected), "{error}");
        }
    }

    #[test]
    fn this_namespace_answers_for_its_loopback() {
        for target in ["127.0.0.1", "::1"] {
            match route_get(&NetNs::own().unwrap(), target.parse().unwrap(), 0) {
                Ok(found) => assert_eq!((found.kind, found.interface.as_str()), (RouteKind::Local, "lo")),
                // Entering even one's own namespace needs CAP_SYS_ADMIN; IPv6 may be switched off.
                Err(error) => {
                    assert!(
                        error.is_permission() || matches!(error, ObserveError::NoRoute { .. }),
                        "{error}"
                    );
                }
            }
        }
    }
}
