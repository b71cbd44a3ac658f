//! The way of a pod's packets through its node, as far as links and routes tell it: pod eth0 → veth peer →
//! bridge → tunnel → uplink, with what fits through each.

use crate::facts::{Link, Namespace, Route};
use std::net::IpAddr;

/// How an interface hangs on the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Join {
    /// The first: the pod's own interface.
    Start,
    /// The other end of a veth or netkit, or the interface below a macvlan, ipvlan or VLAN.
    Wire,
    /// Through a bridge: frames are switched, nobody answers for one that is too big.
    Bridge,
    /// Routed: a packet that is too big draws a PTB.
    Route,
    /// Inside a tunnel's outer packets.
    Tunnel,
}

/// One interface on the way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hop {
    /// How it is reached from the hop before.
    pub join: Join,
    /// Its name.
    pub name: String,
    /// `IFLA_INFO_KIND`; `None` for a physical device.
    pub kind: Option<String>,
    /// Its link MTU, bytes; for the pod's own interface its routes' MTU where that is smaller.
    pub mtu_bytes: u32,
    /// What a tunnel around the packet takes of it here, bytes.
    pub taken_bytes: u32,
    /// A tunnel takes at least that: its exact overhead depends on the packet.
    pub at_most: bool,
}

impl Hop {
    /// The largest packet of the pod (bytes) that fits through here whole.
    pub fn carries_bytes(&self) -> u32 {
        self.mtu_bytes.saturating_sub(self.taken_bytes)
    }
}

/// One way out of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Chain {
    /// From the pod's interface outwards; never empty.
    pub hops: Vec<Hop>,
}

impl Chain {
    /// The place of the first hop that carries less than the pod's own interface sends and least of all;
    /// `None` when everything that the pod sends fits.
    pub fn narrowest(&self) -> Option<usize> {
        let start = self.hops.first()?.carries_bytes();
        let least = self.hops.iter().map(Hop::carries_bytes).min().filter(|&least| least < start)?;
        self.hops.iter().position(|hop| hop.carries_bytes() == least)
    }
}

/// What packets a pod's interface sends (bytes): its link MTU, or the largest MTU of its routes where every one
/// of them sets a smaller one, as some CNIs do instead of changing the link.
pub fn sending_mtu(namespace: &Namespace, link: &Link) -> u32 {
    let mut routes = namespace
        .routes
        .iter()
        .filter(|r| r.interface.as_deref() == Some(link.name.as_str()) && !is_on_link(r))
        .peekable();
    if routes.peek().is_none() {
        return link.mtu_bytes;
    }
    routes.map(|r| r.mtu_bytes.unwrap_or(link.mtu_bytes)).max().unwrap_or(link.mtu_bytes).min(link.mtu_bytes)
}

/// A route to the own subnet or a link-local one, which CNIs leave without an MTU.
fn is_on_link(route: &Route) -> bool {
    route.via.is_none() && route.destination != "default"
}

/// The interface that a namespace's default route leaves by.
pub fn uplink(namespace: &Namespace) -> Option<&Link> {
    let route = namespace.routes.iter().find(|r| r.destination == "default" && r.interface.is_some())?;
    find(namespace, route.interface.as_deref()?)
}

/// The interface of that name.
pub fn find<'a>(namespace: &'a Namespace, name: &str) -> Option<&'a Link> {
    namespace.links.iter().find(|l| l.name == name)
}

/// The interface of that index.
pub fn by_index(namespace: &Namespace, index: u32) -> Option<&Link> {
    let links = &namespace.links;
    // What was read is in the order of indexes.
    let guess = links.binary_search_by_key(&index, |l| l.index).ok().and_then(|place| links.get(place));
    guess.or_else(|| links.iter().find(|l| l.index == index))
}

/// Whether it puts packets into packets.
pub fn is_tunnel(link: &Link) -> bool {
    link.tunnel.is_some()
}

/// Interfaces of a pod that lead out of it: those whose other end is in the host.
pub fn outward<'a>(pod: &'a Namespace, host: &'a Namespace) -> impl Iterator<Item = (&'a Link, &'a Link)> {
    pod.links.iter().filter(|l| l.up).filter_map(|link| {
        let peer = link.peer.as_ref().filter(|p| p.netns_inode == Some(host.netns_inode))?;
        Some((link, by_index(host, peer.index)?))
    })
}

/// Tunnels that the host's routes lead into (`bridge` none), or that are ports of `bridge`.
pub fn tunnels<'a>(host: &'a Namespace, bridge: Option<&'a Link>) -> impl Iterator<Item = (&'a Link, Join)> {
    host.links.iter().filter(|l| l.up && is_tunnel(l)).filter_map(move |link| {
        if bridge.is_some_and(|b| link.master.as_deref() == Some(b.name.as_str())) {
            return Some((link, Join::Bridge));
        }
        let routed = host.routes.iter().any(|r| {
            r.interface.as_deref() == Some(link.name.as_str()) && !r.destination.starts_with("fe80:")
        });
        (routed && link.master.is_none()).then_some((link, Join::Route))
    })
}

/// Whether a route leads to pods of other nodes, as far as it tells: the network behind it is a neighbour of this node's
/// own pods (the first 16 bits of IPv4, 48 of IPv6).
fn leads_near(route: &Route, pods: &[IpAddr]) -> bool {
    let near = |a: IpAddr, b: IpAddr| match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets().first_chunk::<2>() == b.octets().first_chunk::<2>(),
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets().first_chunk::<6>() == b.octets().first_chunk::<6>(),
        _ => false,
    };
    let network = route.destination.split('/').next().and_then(|text| text.parse::<IpAddr>().ok());
    network.is_some_and(|network| pods.iter().any(|&pod| near(network, pod)))
}

/// Whether a tunnel leads to pods of other nodes. A VPN of the node's owner does not.
pub fn leads_to_pods(tunnel: &Link, node: &Namespace, pods: &[IpAddr]) -> bool {
    let routes = node.routes.iter().filter(|r| r.interface.as_deref() == Some(tunnel.name.as_str()));
    routes.into_iter().any(|route| leads_near(route, pods))
}

/// The interface by which the node reaches pods of others where no tunnel does it (host-gw, BGP), when that is another
/// than its default route's; of several the narrowest.
pub fn way_to_pods<'a>(node: &'a Namespace, pods: &[IpAddr]) -> Option<&'a Link> {
    let default = uplink(node).map(|l| l.name.as_str());
    let others = node.routes.iter().filter(|r| r.via.is_some() && r.destination != "default");
    let names = others.filter(|r| r.interface.as_deref() != default && leads_near(r, pods));
    let links = names.filter_map(|r| find(node, r.interface.as_deref()?));
    links.filter(|l| l.up && !is_tunnel(l) && l.kind.as_deref() != Some("bridge")).min_by_key(|l| l.mtu_bytes)
}

/// Whether more than an interface's neighbours may know an address.
pub fn is_global(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_loopback(),
    }
}

/// Those addresses of an interface.
pub fn global_addresses(link: &Link) -> impl Iterator<Item = IpAddr> {
    link.addresses.iter().map(|(address, _)| *address).filter(is_global)
}

/// What a host's interface is a port of: a bridge, a VRF, Open vSwitch.
pub fn master_of<'a>(host: &'a Namespace, port: &Link) -> Option<&'a Link> {
    find(host, port.master.as_deref()?)
}

/// The bridge that a host's interface is a port of. Open vSwitch's device (ovs-system) is none: it is always down, and
/// its MTU is nobody's.
pub fn bridge_of<'a>(host: &'a Namespace, port: &Link) -> Option<&'a Link> {
    master_of(host, port).filter(|master| master.kind.as_deref() == Some("bridge"))
}

/// The interface that the CNI gave to a pod: `eth0` (what kubelets ask for), whatever other networks (Multus) have
/// added, the default route too; of what has none the one that its default route leaves by.
pub fn own_interface<'a>(pod: &'a Namespace, host: &'a Namespace) -> Option<&'a Link> {
    let primary = find(pod, "eth0").or_else(|| uplink(pod)).map(|l| l.index);
    outward(pod, host).map(|(link, _)| link).find(|l| primary.is_none_or(|index| index == l.index))
}

/// Every way out of a pod: one for each interface and tunnel, the narrowest first; without a tunnel the way by
/// the host's default route.
pub fn chains(pod: &Namespace, host: &Namespace) -> Vec<Chain> {
    let mut all = Vec::new();
    for (inside, outside) in outward(pod, host) {
        let mut hops = vec![
            hop(Join::Start, inside, sending_mtu(pod, inside), 0),
            hop(Join::Wire, outside, outside.mtu_bytes, 0),
        ];
        let switched = matches!(inside.kind.as_deref(), Some("veth" | "netkit"));
        let bridge = master_of(host, outside).filter(|_| switched);
        let shown = bridge_of(host, outside).filter(|_| switched);
        hops.extend(shown.map(|b| hop(Join::Bridge, b, b.mtu_bytes, 0)));
        let mut ways: Vec<Vec<Hop>> = Vec::new();
        if switched {
            ways.extend(tunnels(host, bridge).flat_map(|(tunnel, join)| through(host, tunnel, join)));
            if ways.is_empty() {
                let addresses: Vec<IpAddr> = global_addresses(inside).collect();
                ways.extend(out(host, bridge, &addresses));
            }
        }
        ways.sort_by_key(|way| way.iter().map(Hop::carries_bytes).min());
        if ways.is_empty() {
            ways.push(Vec::new());
        }
        for way in ways {
            let mut hops = hops.clone();
            hops.extend(way);
            all.push(Chain { hops });
        }
    }
    all
}

fn hop(join: Join, link: &Link, mtu_bytes: u32, taken_bytes: u32) -> Hop {
    let (name, kind) = (link.name.clone(), link.kind.clone());
    Hop { join, name, kind, mtu_bytes, taken_bytes, at_most: false }
}

/// A bridge inside a pod, of a container engine that runs there, and the pod's own way out behind it.
pub fn nested(pod: &Namespace) -> Vec<Chain> {
    let Some(way) = uplink(pod).filter(|l| l.kind.as_deref() != Some("bridge")) else { return Vec::new() };
    let used = |bridge: &Link| pod.links.iter().any(|l| l.up && l.master.as_deref() == Some(&bridge.name));
    pod.links
        .iter()
        .filter(|l| l.kind.as_deref() == Some("bridge") && l.up && used(l))
        .map(|bridge| Chain {
            hops: vec![
                hop(Join::Start, bridge, bridge.mtu_bytes, 0),
                hop(Join::Route, way, sending_mtu(pod, way), 0),
            ],
        })
        .collect()
}

/// An interface that carries a tunnel's outer packets, and how large they may be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below<'a> {
    /// The interface.
    pub link: &'a Link,
    /// Its MTU, or that of the routes to these remotes where it is smaller; bytes.
    pub mtu_bytes: u32,
    /// Remotes that are reached so; empty when none is known and the interface is told by the device alone.
    pub remotes: Vec<IpAddr>,
}

/// The interfaces below a tunnel, those with the smallest packets first.
pub fn below<'a>(host: &'a Namespace, tunnel: &Link) -> Vec<Below<'a>> {
    let mut all: Vec<Below<'a>> = Vec::new();
    for egress in &tunnel.egress {
        let Some(link) = egress.interface.as_deref().and_then(|name| find(host, name)) else { continue };
        let mtu_bytes = egress.mtu_bytes.unwrap_or(link.mtu_bytes);
        match all.iter_mut().find(|b| b.link.index == link.index && b.mtu_bytes == mtu_bytes) {
            Some(known) => known.remotes.extend(&egress.remotes),
            None => all.push(Below { link, mtu_bytes, remotes: egress.remotes.clone() }),
        }
    }
    if all.is_empty()
        && let Some(link) = tunnel.underlay.as_deref().and_then(|name| find(host, name))
    {
        all.push(Below { link, mtu_bytes: link.mtu_bytes, remotes: Vec::new() });
    }
    all.sort_by_key(|b| b.mtu_bytes);
    all
}

/// A tunnel and what carries it, through tunnels in tunnels; several ways where its remotes are reached differently.
fn through(host: &Namespace, tunnel: &Link, join: Join) -> Vec<Vec<Hop>> {
    let start = vec![hop(join, tunnel, tunnel.mtu_bytes, 0)];
    let mut done = Vec::new();
    let mut open = vec![(start, tunnel, 0)];
    while let Some((hops, inner, taken)) = open.pop() {
        /// Beyond that nobody reads on.
        const MOST: usize = 8;
        let overhead = inner.overhead_bytes.or_else(|| inner.tunnel.and_then(|t| t.least_bytes));
        let ways = below(host, inner);
        let mut went_on = false;
        for way in ways.iter().take(MOST) {
            let Some(overhead) = overhead else { break };
            // A tunnel that is its own underlay, by mistake or through others, must not turn in circles.
            if hops.iter().any(|h| h.name == way.link.name) || done.len() + open.len() >= MOST {
                continue;
            }
            let taken = taken + overhead;
            let mut next = hops.clone();
            next.push(Hop {
                at_most: inner.overhead_bytes.is_none() || hops.last().is_some_and(|h| h.at_most),
                ..hop(Join::Tunnel, way.link, way.mtu_bytes, taken)
            });
            went_on = true;
            open.push((next, way.link, taken));
        }
        if !went_on {
            done.push(lower(host, hops, inner, taken));
        }
    }
    done
}

/// What an outgoing VLAN sits on, down to the device.
fn lower(host: &Namespace, mut hops: Vec<Hop>, last: &Link, taken: u32) -> Vec<Hop> {
    let mut upper = last;
    while matches!(upper.kind.as_deref(), Some("vlan" | "macvlan" | "ipvlan"))
        && let Some(peer) = upper.peer.as_ref().filter(|p| p.netns_inode == Some(host.netns_inode))
        && let Some(link) = by_index(host, peer.index)
        && !hops.iter().any(|h| h.name == link.name)
    {
        let at_most = hops.last().is_some_and(|h| h.at_most);
        hops.push(Hop { at_most, ..hop(Join::Wire, link, link.mtu_bytes, taken) });
        upper = link;
    }
    hops
}

/// The way to pods of other nodes, else by the default route; switched when the uplink is a port of the pod's own bridge.
fn out(host: &Namespace, bridge: Option<&Link>, pod: &[IpAddr]) -> Option<Vec<Hop>> {
    let uplink = way_to_pods(host, pod).or_else(|| uplink(host))?;
    if bridge.is_some_and(|b| b.index == uplink.index) {
        let port = host.links.iter().find(|l| {
            l.up && l.master.as_deref() == Some(uplink.name.as_str()) && l.peer.is_none() && !is_tunnel(l)
        })?;
        return Some(vec![hop(Join::Bridge, port, port.mtu_bytes, 0)]);
    }
    Some(lower(host, vec![hop(Join::Route, uplink, uplink.mtu_bytes, 0)], uplink, 0))
}
