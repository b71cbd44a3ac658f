//! Where on its node a pod's packets pass: the points that a capture may be set at. Pure.

use super::chain::{bridge_of, chains, find, is_tunnel, outward, tunnels, uplink};
use crate::facts::{Link, Namespace, PointKind};
use std::net::IpAddr;

/// An interface of the node that a pod's packets pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayPoint {
    /// What it is to the pod.
    pub kind: PointKind,
    /// Its name in the node's namespace.
    pub interface: String,
    /// For a veth: the pod's own end.
    pub inside: Option<String>,
}

/// The points behind a pod's own interfaces, from the pod outwards, each once. `only`: of these interfaces of
/// the pod; empty: of all.
pub fn way(pod: &Namespace, host: &Namespace, only: &[String]) -> Vec<WayPoint> {
    let mut found = Vec::new();
    for (inside, outside) in outward(pod, host) {
        if !only.is_empty() && !only.contains(&inside.name) {
            continue;
        }
        if !matches!(inside.kind.as_deref(), Some("veth" | "netkit")) {
            // macvlan, ipvlan, a VLAN: straight to the wire.
            add(&mut found, PointKind::Uplink, outside, None);
            continue;
        }
        add(&mut found, PointKind::Veth, outside, Some(&inside.name));
        let bridge = bridge_of(host, outside).filter(|b| b.kind.as_deref() == Some("bridge"));
        if let Some(bridge) = bridge {
            add(&mut found, PointKind::Bridge, bridge, None);
        }
        for tunnel in ways_through(host, bridge) {
            add(&mut found, PointKind::Tunnel, tunnel, None);
            for below in carriers(host, tunnel) {
                add(&mut found, PointKind::Uplink, below, None);
            }
        }
        for port in ways_out(host, bridge) {
            add(&mut found, PointKind::Uplink, port, None);
        }
    }
    found.sort_by_key(|p| p.kind);
    found
}

/// The points of the node itself: every pod's veth, every bridge, every tunnel, the uplinks.
pub fn of_node(host: &Namespace) -> Vec<WayPoint> {
    let mut found = Vec::new();
    for port in ways_out(host, None) {
        add(&mut found, PointKind::Uplink, port, None);
    }
    for link in host.links.iter().filter(|l| l.up) {
        let away = link.peer.as_ref().is_some_and(|p| p.netns_inode != Some(host.netns_inode));
        match link.kind.as_deref() {
            Some("veth" | "netkit") if away => add(&mut found, PointKind::Veth, link, None),
            Some("bridge") => add(&mut found, PointKind::Bridge, link, None),
            _ if is_tunnel(link) => {
                add(&mut found, PointKind::Tunnel, link, None);
                for below in carriers(host, link) {
                    add(&mut found, PointKind::Uplink, below, None);
                }
            }
            _ => {}
        }
    }
    found.sort_by_key(|p| p.kind);
    found
}

/// An interface has one place: the first that was found.
fn add(found: &mut Vec<WayPoint>, kind: PointKind, link: &Link, inside: Option<&str>) {
    if !found.iter().any(|p| p.interface == link.name) {
        found.push(WayPoint { kind, interface: link.name.clone(), inside: inside.map(Into::into) });
    }
}

/// Tunnels that routes or the bridge lead into. Where none does (eBPF programs send into it) every overlay.
fn ways_through<'a>(host: &'a Namespace, bridge: Option<&'a Link>) -> Vec<&'a Link> {
    let known: Vec<&Link> = tunnels(host, bridge).map(|(link, _)| link).collect();
    if !known.is_empty() {
        return known;
    }
    let overlay =
        |l: &&Link| l.up && matches!(l.kind.as_deref(), Some("vxlan" | "geneve")) && l.master.is_none();
    host.links.iter().filter(overlay).collect()
}

/// What a tunnel's outer packets leave by, through tunnels in tunnels.
fn carriers<'a>(host: &'a Namespace, tunnel: &'a Link) -> Vec<&'a Link> {
    /// A tunnel that is its own underlay by mistake must not turn in circles.
    const DEEPEST: u32 = 4;
    let (mut found, mut level) = (Vec::new(), vec![tunnel]);
    for _ in 0..DEEPEST {
        let names = level
            .iter()
            .flat_map(|t| t.underlay.iter().chain(t.egress.iter().filter_map(|e| e.interface.as_ref())));
        let below: Vec<&Link> = names.filter_map(|name| find(host, name)).collect();
        found.extend(below.iter().copied().filter(|l| !is_tunnel(l)));
        level = below.into_iter().filter(|l| is_tunnel(l)).collect();
    }
    found
}

/// What the default route leaves by; where that is a bridge, its ports that lead out of the node.
fn ways_out<'a>(host: &'a Namespace, bridge: Option<&Link>) -> Vec<&'a Link> {
    let Some(link) = uplink(host).filter(|l| l.up && !is_tunnel(l)) else { return Vec::new() };
    if bridge.is_none_or(|b| b.index != link.index) {
        return vec![link];
    }
    let port = |l: &&Link| {
        l.up && l.master.as_deref() == Some(link.name.as_str()) && l.peer.is_none() && !is_tunnel(l)
    };
    host.links.iter().filter(port).collect()
}

/// The least that an interface of the node carries of what the pod sends (bytes), and its name; `None` when
/// everything fits or it is not known.
pub fn narrowest(pod: &Namespace, host: &Namespace) -> Option<(u32, String)> {
    let narrow = |chain: super::chain::Chain| {
        let hop = chain.narrowest().and_then(|at| chain.hops.get(at))?;
        Some((hop.carries_bytes(), hop.name.clone()))
    };
    chains(pod, host).into_iter().filter_map(narrow).min()
}

/// Addresses of a pod's own interfaces (of those in `only`, when it names some) that others can reach it by.
pub fn addresses(pod: &Namespace, only: &[String]) -> Vec<IpAddr> {
    let links = pod.links.iter().filter(|l| l.up && (only.is_empty() || only.contains(&l.name)));
    let all = links.flat_map(|l| l.addresses.iter().map(|(address, _)| *address));
    let mut found: Vec<IpAddr> = all
        .filter(|a| !a.is_loopback() && !matches!(a, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{LinkRef, Route, Tunnel};

    fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
        Link {
            index,
            name: name.into(),
            kind: kind.map(Into::into),
            mtu_bytes: 1500,
            up: true,
            ..Link::default()
        }
    }

    fn peer(inode: u64, index: u32) -> Option<LinkRef> {
        Some(LinkRef { netns_inode: Some(inode), index, name: None, mtu_bytes: None })
    }

    fn route(destination: &str, interface: &str) -> Route {
        Route {
            destination: destination.into(),
            via: None,
            interface: Some(interface.into()),
            mtu_bytes: None,
            advmss_bytes: None,
            ..Route::default()
        }
    }

    /// A pod on cni0 of a node with flannel.1 over eth0.
    fn node() -> (Namespace, Namespace) {
        let own = Link {
            peer: peer(1, 4),
            addresses: vec![
                ("10.244.1.5".parse().unwrap(), 24),
                ("fe80::1".parse().unwrap(), 64),
                ("fd00::5".parse().unwrap(), 64),
            ],
            ..link(2, "eth0", Some("veth"))
        };
        let lo = Link { addresses: vec![("127.0.0.1".parse().unwrap(), 8)], ..link(1, "lo", None) };
        let space = |subject: &str, netns_inode, links, routes| Namespace {
            subject: subject.into(),
            netns_inode,
            links,
            routes,
            unreadable: 0,
            policy_rules: crate::facts::PolicyRules::None,
        };
        let flannel = Link {
            mtu_bytes: 1450,
            overhead_bytes: Some(50),
            underlay: Some("eth0".into()),
            tunnel: Some(Tunnel { port: Some(8472), ..Tunnel::default() }),
            ..link(5, "flannel.1", Some("vxlan"))
        };
        let veth = Link { peer: peer(2, 2), master: Some("cni0".into()), ..link(4, "veth1", Some("veth")) };
        let links = vec![link(2, "eth0", None), link(3, "cni0", Some("bridge")), veth, flannel];
        let routes = vec![route("default", "eth0"), route("10.244.2.0/24", "flannel.1")];
        (space("default/web-0", 2, vec![lo, own], Vec::new()), space("host", 1, links, routes))
    }

    fn names(points: Vec<WayPoint>) -> Vec<(PointKind, String)> {
        points.into_iter().map(|p| (p.kind, p.interface)).collect()
    }

    fn expected(all: &[(PointKind, &str)]) -> Vec<(PointKind, String)> {
        all.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect()
    }

    #[test]
    fn the_way_of_a_pod_is_veth_bridge_tunnel_uplink() {
        use PointKind::{Bridge, Tunnel, Uplink, Veth};
        let (pod, host) = node();
        let all = [(Veth, "veth1"), (Bridge, "cni0"), (Tunnel, "flannel.1"), (Uplink, "eth0")];
        let found = way(&pod, &host, &[]);
        assert_eq!(found[0].inside.as_deref(), Some("eth0"));
        assert_eq!(names(found), expected(&all));
        assert_eq!(names(of_node(&host)), expected(&all));
        assert_eq!(way(&pod, &host, &["net1".into()]), []);
        // Also where the node's own uplink is a veth.
        let mut inner = host.clone();
        (inner.links[0].kind, inner.links[0].peer) = (Some("veth".into()), peer(9, 9));
        assert_eq!(names(of_node(&inner)), expected(&all));
    }

    #[test]
    fn without_a_tunnel_the_way_out_is_the_default_route_or_the_bridges_own_port() {
        use PointKind::{Bridge, Uplink, Veth};
        let (pod, mut host) = node();
        host.links.retain(|l| l.name != "flannel.1");
        host.routes.retain(|r| r.destination == "default");
        assert_eq!(
            names(way(&pod, &host, &[])),
            expected(&[(Veth, "veth1"), (Bridge, "cni0"), (Uplink, "eth0")])
        );
        host.routes = vec![route("default", "cni0")];
        host.links[0].master = Some("cni0".into());
        assert_eq!(
            names(way(&pod, &host, &[])),
            expected(&[(Veth, "veth1"), (Bridge, "cni0"), (Uplink, "eth0")])
        );
    }

    #[test]
    fn an_overlay_that_no_route_leads_into_is_taken_where_there_is_no_other() {
        let (pod, mut host) = node();
        host.routes.retain(|r| r.destination == "default");
        let found = way(&pod, &host, &[]);
        assert!(found.iter().any(|p| p.kind == PointKind::Tunnel && p.interface == "flannel.1"), "{found:?}");
    }

    #[test]
    fn a_macvlan_goes_straight_to_the_wire() {
        let (mut pod, host) = node();
        pod.links[1] = Link { peer: peer(1, 2), ..link(2, "eth0", Some("macvlan")) };
        assert_eq!(names(way(&pod, &host, &[])), expected(&[(PointKind::Uplink, "eth0")]));
    }

    #[test]
    fn what_is_narrow_is_named_and_what_others_cannot_reach_is_no_address() {
        let (pod, host) = node();
        assert_eq!(narrowest(&pod, &host), Some((1450, "flannel.1".into())));
        assert_eq!(addresses(&pod, &[]), ["10.244.1.5", "fd00::5"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert_eq!(addresses(&pod, &["net1".into()]), [] as [IpAddr; 0]);
    }
}
