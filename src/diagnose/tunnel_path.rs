//! Rules on the path below a tunnel: what its outer packets meet on the way to another node.

use super::Rule;
use super::chain::{find, is_tunnel};
use crate::facts::{Evidence, Finding, KernelState, Link, Namespace, Route, Severity, Verdict};
use std::net::IpAddr;

/// Outer packets are larger than the path.
pub const TUNNEL_EXCEEDS_PATH: Rule = Rule {
    id: "tunnel.exceeds_path",
    severity: Severity::Warning,
    meaning: "A tunnel's full packets with their overhead are larger than what the path to the other node carries, as measured: large packets between pods of the two nodes vanish or are cut to pieces.",
    fix: "Set the tunnel's MTU to what the path carries minus the overhead, and the pods' to the same; or raise the network between the nodes.",
};

/// The other node cannot be reached.
pub const REMOTE_SILENT: Rule = Rule {
    id: "tunnel.remote_silent",
    severity: Severity::Info,
    meaning: "The other end of a tunnel answers no probe from this node: it is down, cut off, or filters ICMP. Pods there may be out of reach.",
    fix: "Compare with kubectl get nodes; when the node is up, allow ICMP between nodes, or measure to one of its pods.",
};

/// All of this family.
pub const RULES: &[Rule] = &[TUNNEL_EXCEEDS_PATH, REMOTE_SILENT];

/// A measured path from the node to another end of one of its tunnels.
#[derive(Debug, Clone, Copy)]
pub struct TunnelPath<'a> {
    /// The tunnel.
    pub tunnel: &'a Link,
    /// Its other end.
    pub remote: IpAddr,
    /// The verdict of the search.
    pub verdict: Verdict,
    /// What the path carries, bytes.
    pub path_mtu: Option<u32>,
    /// Probes that were sent.
    pub sent: u32,
}

/// Whether what the tunnel sends fits.
pub fn check_tunnel_path(path: &TunnelPath<'_>) -> Option<Finding> {
    let TunnelPath { tunnel, remote, verdict, path_mtu, sent } = *path;
    let name = &tunnel.name;
    if verdict == Verdict::Unreachable {
        return Some(REMOTE_SILENT.finding(
            "host",
            format!("{remote}, the other end of {name}, answers nothing"),
            vec![Evidence::new("probes sent from the node, none answered", sent, "packets", "echo with DF")],
            REMOTE_SILENT.fix,
        ));
    }
    // What the node's own uplink takes is told from its links: here it is the network behind that.
    let narrower = matches!(verdict, Verdict::Narrowed | Verdict::BlackHole);
    let carries = path_mtu.filter(|_| narrower)?;
    let overhead = tunnel.overhead_bytes?;
    let outer = tunnel.mtu_bytes.checked_add(overhead)?;
    if outer <= carries {
        return None;
    }
    let fits = carries.saturating_sub(overhead);
    Some(TUNNEL_EXCEEDS_PATH.finding(
        "host",
        format!(
            "{name} sends packets of up to {outer} bytes ({} + {overhead}) to {remote}, the path there carries {carries}",
            tunnel.mtu_bytes
        ),
        vec![
            Evidence::new(format!("MTU of {name}"), tunnel.mtu_bytes, "bytes", "netlink RTM_GETLINK"),
            Evidence::new(format!("overhead of {name}"), overhead, "bytes", "netlink RTM_GETLINK"),
            Evidence::new(format!("path MTU to {remote}"), carries, "bytes", "probes with DF from the node"),
        ],
        format!(
            "{carries} − {overhead} = {fits}: set {name} and the pods to MTU {fits} in the CNI's configuration and recreate the pods; or raise the network between the nodes to {outer}"
        ),
    ))
}

/// The other end of the tunnel that leads to `target`: by the node's longest route, the gateway's link-layer
/// address, and the entry of the forwarding database for that; a tunnel without one sends to the gateway itself.
pub fn remote_towards(host: &Namespace, kernel: &KernelState, target: IpAddr) -> Option<IpAddr> {
    let fits = |route: &Route| {
        Some((prefix_length(&route.destination, target)?, route.interface.clone()?, route.via))
    };
    let (_, interface, gateway) = host
        .routes
        .iter()
        .filter(|route| route.ipv6 == target.is_ipv6())
        .filter_map(fits)
        .max_by_key(|(length, ..)| *length)?;
    let tunnel = find(host, &interface).filter(|link| is_tunnel(link))?;
    let gateway = gateway?;
    let tables = &kernel.tables;
    let neighbours = tables.neighbours.as_ref().ok()?;
    let mac =
        neighbours.iter().find(|n| n.address == gateway && n.interface == tunnel.name).and_then(|n| n.mac);
    let entry = |mac| {
        let entries = tables.forwarding.as_ref().ok()?;
        entries.iter().find(|e| e.interface == tunnel.name && e.mac == mac)?.remote
    };
    let known = |address: &IpAddr| tunnel.egress.iter().any(|e| e.remotes.contains(address));
    mac.and_then(entry).or(Some(gateway).filter(known))
}

/// How many bits of `target` a route's destination names, when the route fits.
fn prefix_length(destination: &str, target: IpAddr) -> Option<u8> {
    if destination == "default" {
        return Some(0);
    }
    let (network, length) = match destination.split_once('/') {
        Some((network, length)) => (network, length.parse::<u8>().ok()?),
        None => (destination, if target.is_ipv4() { 32 } else { 128 }),
    };
    let same = match (network.parse().ok()?, target) {
        (IpAddr::V4(network), IpAddr::V4(target)) => {
            let differs = u32::from(network) ^ u32::from(target);
            differs.leading_zeros() >= u32::from(length)
        }
        (IpAddr::V6(network), IpAddr::V6(target)) => {
            let differs = u128::from(network) ^ u128::from(target);
            differs.leading_zeros() >= u32::from(length)
        }
        _ => false,
    };
    same.then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mtu: u32, verdict: Verdict, path_mtu: Option<u32>) -> Option<Finding> {
        let tunnel =
            Link { name: "flannel.1".into(), mtu_bytes: mtu, overhead_bytes: Some(50), ..Link::default() };
        check_tunnel_path(&TunnelPath {
            tunnel: &tunnel,
            remote: [10, 10, 0, 2].into(),
            verdict,
            path_mtu,
            sent: 4,
        })
    }

    #[test]
    fn the_longest_route_that_fits_counts() {
        let length = |destination: &str, target: &str| prefix_length(destination, target.parse().unwrap());
        assert_eq!(length("default", "10.244.2.7"), Some(0));
        assert_eq!(length("10.244.2.0/24", "10.244.2.7"), Some(24));
        assert_eq!(length("10.244.3.0/24", "10.244.2.7"), None);
        assert_eq!(length("10.244.2.7", "10.244.2.7"), Some(32));
        assert_eq!(length("fd00:2::/64", "fd00:2::7"), Some(64));
        assert_eq!(length("fd00:2::/64", "10.244.2.7"), None);
        assert_eq!(length("blackhole 10.0.0.0/8", "10.244.2.7"), None);
        assert_eq!(length("10.0.0.0/0", "10.244.2.7"), Some(0));
    }

    #[test]
    fn the_way_to_a_pod_of_another_node_is_found_through_neighbour_and_forwarding_entry() {
        use crate::facts::{
            ForwardingEntry, KernelCounters, KernelSettings, KernelTables, NeighbourEntry, NeighbourState,
            Tunnel,
        };
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let route = |destination: &str, via: &str, interface: &str| Route {
            destination: destination.into(),
            via: Some(ip(via)),
            interface: Some(interface.into()),
            mtu_bytes: None,
            advmss_bytes: None,
            ipv6: false,
        };
        let vxlan = Link { name: "flannel.1".into(), tunnel: Some(Tunnel::default()), ..Link::default() };
        let host = Namespace {
            subject: "host".into(),
            netns_inode: 1,
            links: vec![vxlan, Link { name: "eth0".into(), ..Link::default() }],
            routes: vec![
                route("default", "10.10.0.254", "eth0"),
                route("10.244.2.0/24", "10.244.2.0", "flannel.1"),
                route("10.244.3.0/24", "10.244.3.0", "flannel.1"),
            ],
            unreadable: 0,
            policy_rules: crate::facts::PolicyRules::None,
        };
        let unknown = || Err("not read".to_owned());
        let neighbour = |address: &str, mac| NeighbourEntry {
            address: ip(address),
            interface: "flannel.1".into(),
            state: NeighbourState::Permanent,
            mac: Some(mac),
            unchanged_s: None,
            uncounted: true,
        };
        let entry = |mac, remote: &str| ForwardingEntry {
            interface: "flannel.1".into(),
            mac,
            remote: Some(ip(remote)),
        };
        let kernel = KernelState {
            subject: "host".into(),
            netns_inode: 1,
            settings: KernelSettings::default(),
            counters: KernelCounters {
                protocols: unknown().map(|()| Default::default()),
                links: unknown().map(|()| Default::default()),
                softnet_dropped: Err(String::new()),
            },
            conntrack: Err(String::new()),
            tables: KernelTables {
                neighbours: Ok(vec![neighbour("10.244.2.0", [2; 6]), neighbour("10.244.3.0", [3; 6])]),
                forwarding: Ok(vec![entry([3; 6], "10.10.0.3"), entry([2; 6], "10.10.0.2")]),
                remembered: Err(String::new()),
                arp_usage: Err(String::new()),
            },
            classifiers: Err(String::new()),
        };
        assert_eq!(remote_towards(&host, &kernel, ip("10.244.2.7")), Some(ip("10.10.0.2")));
        assert_eq!(remote_towards(&host, &kernel, ip("10.244.3.7")), Some(ip("10.10.0.3")));
        assert_eq!(remote_towards(&host, &kernel, ip("192.0.2.1")), None, "not through a tunnel");
    }

    #[test]
    fn what_the_tunnel_sends_is_compared_with_what_the_path_carries() {
        assert_eq!(check(1450, Verdict::Clear, Some(1500)), None);
        assert_eq!(check(1500, Verdict::Clear, Some(1500)), None, "told by the rules on links");
        assert_eq!(check(1350, Verdict::Narrowed, Some(1400)), None, "narrower than the uplink, and enough");
        let finding = check(1450, Verdict::BlackHole, Some(1400)).unwrap();
        assert_eq!(finding.id, "tunnel.exceeds_path");
        assert!(finding.fix.starts_with("1400 − 50 = 1350"), "{}", finding.fix);
        assert_eq!(check(1450, Verdict::Unreachable, None).unwrap().id, "tunnel.remote_silent");
        assert_eq!(check(1450, Verdict::Inconclusive, None), None);
    }
}
