//! Rules on whether packets of any size can go where they should: routes, addresses and states of a node and its
//! pods, read from netlink alone. Most of them tell a fault that is *not* the MTU.

use super::Rule;
use super::chain::{bridge_of, by_index, find, global_addresses, is_global, master_of, uplink};
use super::shell::word;
use crate::facts::{Evidence, Finding, Link, Namespace, Route, Severity};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// No way out of a pod.
pub const NO_DEFAULT_ROUTE: Rule = Rule {
    id: "links.no_default_route",
    severity: Severity::Warning,
    meaning: "A pod has an address and no default route for its family: it reaches its own subnet and nothing else. Not an MTU problem.",
    fix: "Recreate the pod; a CNI configuration without isDefaultGateway or a route to 0.0.0.0/0 (::/0) gives none.",
};

/// Two ways to the same pods.
pub const OVERLAPPING_ROUTES: Rule = Rule {
    id: "links.overlapping_routes",
    severity: Severity::Warning,
    meaning: "Another route of the node covers (a part of) its own pods' subnet: two nodes with one pod CIDR, or a pod network that overlaps another network. Packets to some pods go astray.",
    fix: "Give every node a pod CIDR of its own that no other network uses; remove the route that is left over.",
};

/// No way back to a pod.
pub const NO_ROUTE_TO_POD: Rule = Rule {
    id: "links.no_route_to_pod",
    severity: Severity::Warning,
    meaning: "The node's routes do not lead to a pod's address by the interface that the pod hangs on (its main table; with rules or VRFs the kernel's own lookup): nothing of any size reaches the pod.",
    fix: "Restart the CNI's agent, which writes the route anew, or recreate the pod; ip route get ADDRESS shows where packets go instead.",
};

/// Two with one address.
pub const DUPLICATE_ADDRESS: Rule = Rule {
    id: "links.duplicate_address",
    severity: Severity::Critical,
    meaning: "Two pods (or a pod and the node) have the same address in the same network: each connection reaches one or the other by chance.",
    fix: "Recreate one of them; then see why IPAM gave an address out twice (nsprobe ipam).",
};

/// An end is down.
pub const END_DOWN: Rule = Rule {
    id: "links.end_down",
    severity: Severity::Critical,
    meaning: "An interface on a pod's way into its node is down: nothing of any size gets through.",
    fix: "ip link set dev NAME up; then find out who took it down.",
};

/// Too small for IPv6.
pub const BELOW_IPV6_MINIMUM: Rule = Rule {
    id: "links.below_ipv6_minimum",
    severity: Severity::Warning,
    meaning: "An interface has an MTU below 1280 in a namespace that speaks IPv6: the kernel takes IPv6 off it altogether (RFC 8200 section 5).",
    fix: "Raise the MTU to 1280 or more, and add the IPv6 addresses and routes again: they do not come back by themselves.",
};

/// The route's MTU is what counts.
pub const ROUTE_MTU_IN_FORCE: Rule = Rule {
    id: "links.route_mtu_in_force",
    severity: Severity::Info,
    meaning: "Routes keep packets smaller than the interface could: that is how some CNIs set the MTU. `Message too long` (EMSGSIZE) above it is local and correct, no loss.",
    fix: "Nothing to do; compare the route's MTU, not the interface's, with what the path carries (nsprobe mtu).",
};

/// All of this family.
pub const RULES: &[Rule] = &[
    END_DOWN,
    DUPLICATE_ADDRESS,
    NO_DEFAULT_ROUTE,
    NO_ROUTE_TO_POD,
    OVERLAPPING_ROUTES,
    BELOW_IPV6_MINIMUM,
    ROUTE_MTU_IN_FORCE,
];

const LINK: &str = "netlink RTM_GETLINK";
const ROUTE: &str = "netlink RTM_GETROUTE";
/// Rows of evidence that a finding carries at most.
const ROWS: usize = 6;

/// What routes, addresses and states of these namespaces say is wrong; `host` is the inode of the node's own.
pub fn check_reach(namespaces: &[Namespace], host: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let node = namespaces.iter().find(|n| n.netns_inode == host);
    let pods: Vec<&Namespace> = namespaces.iter().filter(|n| n.netns_inode != host).collect();
    // Read once: on a full node each of hundreds of addresses is compared with each of hundreds of routes. Those of
    // the link-local network of each interface are as many, and lead to none of them.
    let ways = node.iter().flat_map(|n| &n.routes).filter_map(|r| Some((r, prefix(r)?)));
    let ways: Vec<Way<'_>> = ways.filter(|(_, (network, _))| is_global(network)).collect();
    for pod in &pods {
        findings.extend(node.map(|node| check_ends(pod, node)).unwrap_or_default());
        findings.extend(check_default(pod));
        findings.extend(node.and_then(|node| check_way_to(pod, node, &ways)));
    }
    if let Some(node) = node {
        findings.extend(check_duplicates(node, &pods));
        findings.extend(check_overlap(node));
    }
    for namespace in namespaces {
        findings.extend(check_minimum(namespace));
    }
    findings.extend(check_route_mtu(&pods));
    findings
}

/// Interfaces of a pod and the node's ends of them, up or down.
fn ends<'a>(pod: &'a Namespace, node: &'a Namespace) -> impl Iterator<Item = (&'a Link, &'a Link)> {
    pod.links.iter().filter(|l| l.kind.as_deref() == Some("veth")).filter_map(|inside| {
        let peer = inside.peer.as_ref().filter(|p| p.netns_inode == Some(node.netns_inode))?;
        Some((inside, by_index(node, peer.index)?))
    })
}

fn check_ends(pod: &Namespace, node: &Namespace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (inside, outside) in ends(pod, node) {
        if inside.name != "eth0" && global_addresses(inside).next().is_none() {
            continue;
        }
        let judged = |m: &&Link| matches!(m.kind.as_deref(), Some("bridge" | "vrf"));
        let master = master_of(node, outside).filter(judged);
        let all = [(pod, Some(inside)), (node, Some(outside)), (node, master)];
        let Some((owner, link)) = all.into_iter().find_map(|(owner, l)| Some((owner, l.filter(|l| !l.up)?)))
        else {
            continue;
        };
        let (name, whose) = (&link.name, &owner.subject);
        let inside_pod = if owner.netns_inode == pod.netns_inode {
            format!("nsprobe exec {whose} -- ")
        } else {
            String::new()
        };
        findings.push(END_DOWN.finding(
            pod.subject.as_str(),
            format!("{name} of {whose} is down: nothing of {} gets through", pod.subject),
            vec![Evidence::text(format!("state of {name} in {whose}"), link.state.clone(), LINK)],
            format!("{inside_pod}ip link set dev {} up; then find out who took it down", word(name)),
        ));
    }
    findings
}

fn check_default(pod: &Namespace) -> Option<Finding> {
    let leads = |to: &str, six: bool| {
        pod.routes.iter().any(|r| r.destination == to && r.interface.is_some() && r.ipv6 == six)
    };
    // Two halves are as good as a whole.
    let halves = |six: bool| {
        let halves = if six { ["::/1", "8000::/1"] } else { ["0.0.0.0/1", "128.0.0.0/1"] };
        halves.iter().all(|half| leads(half, six))
    };
    let has = |six: bool| leads("default", six) || halves(six);
    // Further networks of a pod (Multus) have no default route by intention: where it has one for a family, only
    // that interface is asked for the other.
    let primary = uplink(pod).map(|l| l.index);
    let mut lacking = None;
    for (six, family) in [(false, "IPv4"), (true, "IPv6")] {
        let held = pod.links.iter().filter(|l| l.up && l.kind.as_deref() == Some("veth"));
        let held = held.filter(|l| primary.is_none_or(|index| index == l.index));
        let address =
            held.flat_map(|l| global_addresses(l).map(move |a| (l, a))).find(|(_, a)| a.is_ipv6() == six);
        if lacking.is_none() && pod.unreadable == 0 && !pod.policy_rules.any() && !has(six) {
            lacking = address.map(|(link, address)| (family, link, address));
        }
    }
    let (family, link, address) = lacking?;
    let subject = &pod.subject;
    let six = address.is_ipv6();
    let further = pod.routes.iter().filter(|r| r.ipv6 == six && r.via.is_some() && r.interface.is_some());
    let further: Vec<&str> = further.take(3).map(|r| r.destination.as_str()).collect();
    let reach = if further.is_empty() {
        "it reaches its own subnet alone".to_owned()
    } else {
        format!("it reaches its own subnet, {} and nothing else", further.join(", "))
    };
    Some(NO_DEFAULT_ROUTE.finding(
        subject.as_str(),
        format!("{subject} has {address} on {} and no default route for {family}: {reach}", link.name),
        vec![
            Evidence::text(
                format!("address of {} in {subject}", link.name),
                address.to_string(),
                "netlink RTM_GETADDR",
            ),
            Evidence::new(format!("default routes for {family}"), 0, "routes", ROUTE),
        ],
        NO_DEFAULT_ROUTE.fix,
    ))
}

/// A route with its destination.
type Way<'a> = (&'a Route, (IpAddr, u8));

/// A route's destination as address and length; `None` for a default route.
fn prefix(route: &Route) -> Option<(IpAddr, u8)> {
    let text = route.destination.split(' ').next_back()?;
    match text.split_once('/') {
        Some((address, length)) => Some((address.parse().ok()?, length.parse().ok()?)),
        None => {
            let address: IpAddr = text.parse().ok()?;
            Some((address, if address.is_ipv4() { 32 } else { 128 }))
        }
    }
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

/// Whether the network holds the address.
fn holds((network, length): (IpAddr, u8), address: IpAddr) -> bool {
    let ((network, full), (address, other)) = (bits(network), bits(address));
    let shift = 128u32.saturating_sub(u32::from(length));
    full == other && (network ^ address).checked_shr(shift).unwrap_or(0) == 0
}

fn check_way_to(pod: &Namespace, node: &Namespace, ways: &[Way<'_>]) -> Option<Finding> {
    if node.unreadable > 0 {
        return None;
    }
    ends(pod, node).filter(|(inside, outside)| inside.up && outside.up).find_map(|(inside, outside)| {
        let kind = |link: &Link, kind: &str| link.kind.as_deref() == Some(kind);
        let master = master_of(node, outside);
        let bridge = bridge_of(node, outside);
        let vrf = [master, bridge.and_then(|b| master_of(node, b))].into_iter().flatten().find(|l| kind(l, "vrf"));
        let switched_by_others = outside.master.is_some() && bridge.or(vrf).is_none();
        // Cilium routes to its own device.
        if switched_by_others || outside.name.starts_with("lxc") {
            return None;
        }
        let own = bridge.unwrap_or(outside);
        let right = Some(own.name.as_str());
        // A bridge without an address in the pod's network only switches: its gateway is elsewhere.
        let in_charge = |address| bridge.is_none_or(|b| b.addresses.iter().any(|&own| holds(own, address)));
        let wrong = global_addresses(inside).filter(|&address| in_charge(address)).find_map(|address| {
            if node.policy_rules.any() || vrf.is_some() {
                // The way to a pod may stand in another table (AWS's branch interfaces, Azure, Calico, a VRF).
                let (_, way) = inside.ways_back.iter().find(|(of, _)| *of == address)?;
                let instead = match way {
                    Some(interface) => format!("ip route get leads by {interface}"),
                    None => "no table has a route to it".to_owned(),
                };
                return (way.as_deref() != right).then_some((address, instead, "netlink RTM_GETROUTE, all rules"));
            }
            let covering = ways.iter().filter(|(_, p)| holds(*p, address));
            let best = covering.max_by_key(|(r, (_, length))| (*length, r.interface.as_deref() == right));
            let wrong = best.is_none_or(|(r, _)| r.interface.as_deref() != right);
            let instead = match best.map(|(r, _)| (&r.interface, &r.destination)) {
                Some((Some(interface), to)) => format!("the route {to} leads by {interface}"),
                Some((None, to)) => format!("the route is {to}"),
                None => "no route but the default one fits".to_owned(),
            };
            wrong.then_some((address, instead, "netlink RTM_GETROUTE, main table"))
        });
        let (address, instead, source) = wrong?;
        let table = vrf.map(|v| format!(" vrf {}", v.name)).unwrap_or_default();
        let rules = if node.policy_rules.any() { " (ip rule shows which table counts)" } else { "" };
        let fix = format!("restart the CNI's agent, which writes the route anew, or recreate the pod; now: ip route replace {address} dev {}{table}{rules}", word(&own.name));
        Some(NO_ROUTE_TO_POD.finding(
            pod.subject.as_str(),
            format!("the node does not reach {address} of {} by {}: {instead}", pod.subject, own.name),
            vec![
                Evidence::text(format!("address of {} in {}", inside.name, pod.subject), address.to_string(), "netlink RTM_GETADDR"),
                Evidence::text(format!("the node's way to {address}"), instead, source),
            ],
            fix,
        ))
    })
}

/// A network of this node (a bridge; none is its own routing) and an address in it.
type Address<'a> = (Option<&'a str>, IpAddr);
/// A namespace's subject and an interface of it.
type Holder<'a> = (&'a str, &'a str);

fn check_duplicates(node: &Namespace, pods: &[&Namespace]) -> Vec<Finding> {
    let mut holders: BTreeMap<Address<'_>, Vec<Holder<'_>>> = BTreeMap::new();
    // Open vSwitch keeps networks apart by itself, and a bridge VLANs, whose addresses may be the same.
    let own_network = |link: &Link| {
        let master = node.links.iter().find(|l| Some(l.name.as_str()) == link.master.as_deref());
        master.is_none_or(|m| matches!(m.kind.as_deref(), Some("bridge" | "vrf")) && !m.vlan_filtering)
    };
    for pod in pods {
        for (inside, outside) in ends(pod, node).filter(|(_, outside)| own_network(outside)) {
            for address in global_addresses(inside) {
                holders
                    .entry((outside.master.as_deref(), address))
                    .or_default()
                    .push((&pod.subject, &inside.name));
            }
        }
    }
    // Hundreds of pods are compared with the few addresses of the node, not with its hundreds of links.
    let own: Vec<(&Link, IpAddr)> =
        node.links.iter().flat_map(|l| global_addresses(l).map(move |address| (l, address))).collect();
    for ((network, address), who) in &mut holders {
        let here = |l: &Link| network.is_none() || *network == Some(l.name.as_str());
        let holder = own.iter().find(|(l, own)| own == address && here(l));
        who.extend(holder.map(|(l, _)| (node.subject.as_str(), l.name.as_str())));
    }
    let several = holders.into_iter().filter(|(_, who)| who.len() > 1);
    several
        .take(ROWS)
        .map(|((_, address), who)| {
            let names = who.iter().take(3).map(|(subject, _)| *subject).collect::<Vec<_>>().join(" and ");
            let subject = who.first().map_or("host", |(subject, _)| subject);
            let row = |(subject, link): &(&str, &str)| {
                Evidence::text(
                    format!("address of {link} in {subject}"),
                    address.to_string(),
                    "netlink RTM_GETADDR",
                )
            };
            DUPLICATE_ADDRESS.finding(
                subject,
                format!("{names} have the same address {address}: connections reach one or the other"),
                who.iter().take(ROWS).map(row).collect(),
                DUPLICATE_ADDRESS.fix,
            )
        })
        .collect()
}

fn check_overlap(node: &Namespace) -> Option<Finding> {
    let own = Some(node.netns_inode);
    let with_pods = |bridge: &&Link| {
        bridge.up
            && bridge.kind.as_deref() == Some("bridge")
            && node.links.iter().any(|l| {
                l.master.as_deref() == Some(&bridge.name)
                    && l.kind.as_deref() == Some("veth")
                    && l.peer.as_ref().is_some_and(|p| p.netns_inode != own)
            })
    };
    let is = |r: &Route, name: &str| r.interface.as_deref() == Some(name);
    for bridge in node.links.iter().filter(with_pods) {
        for ours in node.routes.iter().filter(|r| r.via.is_none() && is(r, &bridge.name)) {
            let Some(subnet) = prefix(ours).filter(|(a, _)| is_global(a)) else { continue };
            let theirs = node.routes.iter().find(|r| {
                let other = prefix(r).filter(|(_, length)| *length >= subnet.1 && *length < bits(subnet.0).1);
                !is(r, &bridge.name) && r.interface.is_some() && other.is_some_and(|(a, _)| holds(subnet, a))
            });
            let Some(theirs) = theirs else { continue };
            let way = theirs.interface.as_deref().unwrap_or_default();
            let row = |r: &Route| {
                let via = r.via.map(|v| format!(" via {v}")).unwrap_or_default();
                let dev = r.interface.as_deref().unwrap_or_default();
                Evidence::text(format!("route {}", r.destination), format!("dev {dev}{via}"), ROUTE)
            };
            return Some(OVERLAPPING_ROUTES.finding(
                node.subject.as_str(),
                format!(
                    "the pods of {} are {}, and the route {} leads by {way}: packets to some of them go astray",
                    bridge.name, ours.destination, theirs.destination
                ),
                vec![row(ours), row(theirs)],
                format!(
                    "find out whose {} is: a second node with this pod CIDR (kubectl get nodes -o custom-columns=:.metadata.name,:.spec.podCIDRs), another network, or a left-over (ip route del {} dev {way})",
                    theirs.destination, theirs.destination
                ),
            ));
        }
    }
    None
}

fn check_minimum(namespace: &Namespace) -> Option<Finding> {
    /// RFC 8200 section 5.
    const LEAST: u32 = 1280;
    // A small MTU has taken their addresses: whether IPv6 is wanted there is told by the kind. VPNs and PPP are often
    // small on purpose, and for IPv4.
    let four_alone = |l: &Link| matches!(l.kind.as_deref(), Some("dummy" | "tun" | "ppp" | "ipip"));
    let six = |l: &Link| l.name != "lo" && global_addresses(l).any(|a| a.is_ipv6());
    if !namespace.links.iter().any(six) {
        return None;
    }
    let narrow = |l: &&Link| l.up && l.name != "lo" && l.mtu_bytes < LEAST && !four_alone(l);
    let links: Vec<&Link> = namespace.links.iter().filter(narrow).collect();
    let first = links.first()?;
    let more = if links.len() > 1 { format!(" and {} more", links.len() - 1) } else { String::new() };
    let row = |l: &&Link| {
        Evidence::new(format!("MTU of {} in {}", l.name, namespace.subject), l.mtu_bytes, "bytes", LINK)
    };
    Some(BELOW_IPV6_MINIMUM.finding(
        namespace.subject.as_str(),
        format!("{}{more} has MTU {}: the kernel takes IPv6 off an interface below {LEAST}", first.name, first.mtu_bytes),
        links.iter().take(ROWS).map(row).collect(),
        format!("ip link set dev {} mtu {LEAST} or more, then add its IPv6 addresses and routes again (or restart the CNI's agent)", word(&first.name)),
    ))
}

fn check_route_mtu(pods: &[&Namespace]) -> Option<Finding> {
    let smaller = |pod: &&Namespace| {
        let route = pod.routes.iter().find(|r| r.destination == "default")?;
        let link = find(pod, route.interface.as_deref()?)?;
        let mtu = route.mtu_bytes.filter(|&mtu| mtu < link.mtu_bytes)?;
        Some((pod.subject.clone(), link.name.clone(), link.mtu_bytes, mtu))
    };
    let all: Vec<_> = pods.iter().filter_map(smaller).collect();
    let (subject, name, link, mtu) = all.first()?;
    let more = if all.len() > 1 { format!(" and {} more", all.len() - 1) } else { String::new() };
    Some(ROUTE_MTU_IN_FORCE.finding(
        if all.len() == 1 { subject.as_str() } else { "host" },
        format!("{subject}{more} send at most {mtu} bytes, though {name} takes {link}: `message too long` above that is local and correct"),
        vec![
            Evidence::new(format!("MTU of the default route in {subject}"), *mtu, "bytes", ROUTE),
            Evidence::new(format!("MTU of {name} in {subject}"), *link, "bytes", LINK),
        ],
        ROUTE_MTU_IN_FORCE.fix,
    ))
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;
