//! Rules on interfaces, tunnels and routes of a node and its pods, read from netlink alone.

use super::Rule;
use super::chain::{
    Join, find, global_addresses, is_tunnel, leads_to_pods, master_of, outward, own_interface, sending_mtu,
    tunnels, uplink, way_to_pods,
};
use super::link_fixes as fixes;
use super::links_bridges::{BRIDGE_BELOW_PODS, check_routed_bridges};
use super::links_routes::{ADVMSS_EXCEEDS_MTU, ROUTE_MTU_EXCEEDS_LINK, check_routes};
use super::links_tunnels::check_tunnels;
pub use super::links_tunnels::{
    IPSEC_EXCEEDS_UNDERLAY, TUNNEL_EXCEEDS_UNDERLAY, TUNNEL_IN_ITSELF, TUNNEL_NO_ROUTE, TUNNEL_PATH_MTU,
    VXLAN_CHECKSUM,
};
use crate::facts::{Evidence, Finding, Link, Namespace, Severity};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The ends of a veth disagree.
pub const VETH_MTU_MISMATCH: Rule = Rule {
    id: "links.veth_mtu_mismatch",
    severity: Severity::Warning,
    meaning: "The two ends of a veth pair have different MTUs: what the larger end sends and the smaller does not take vanishes without a word.",
    fix: "Give both ends the same MTU, in the CNI's configuration, and recreate the pod.",
};

/// A bridge's port takes less than is sent to it.
pub const BRIDGE_PORT_SMALLER: Rule = Rule {
    id: "links.bridge_port_smaller",
    severity: Severity::Warning,
    meaning: "A port of a bridge has a smaller MTU than the bridge or its other ports: larger frames to it are dropped without a word, a bridge sends no PTB.",
    fix: "Give every port and the bridge the same MTU.",
};

/// Pods send more than a routed tunnel takes.
pub const POD_EXCEEDS_TUNNEL: Rule = Rule {
    id: "links.pod_exceeds_tunnel",
    severity: Severity::Info,
    meaning: "Pods send larger packets than the tunnel they are routed into takes: every connection begins with a PTB, and hangs where something filters it.",
    fix: "Set the pods' MTU to that of the tunnel and recreate them.",
};

/// Pods send more than a tunnel in their own bridge takes.
pub const POD_EXCEEDS_BRIDGED_TUNNEL: Rule = Rule {
    id: "links.pod_exceeds_bridged_tunnel",
    severity: Severity::Warning,
    meaning: "Pods send larger packets than the tunnel that is a port of their bridge takes: a bridge sends no PTB, large packets vanish.",
    fix: "Set the pods' MTU to that of the tunnel and recreate them.",
};

/// Pods send more than the uplink takes.
pub const POD_EXCEEDS_UPLINK: Rule = Rule {
    id: "links.pod_exceeds_uplink",
    severity: Severity::Info,
    meaning: "Pods send larger packets than the node's own uplink takes: every connection out of the node begins with a PTB, and hangs where something filters it.",
    fix: "Set the pods' MTU to that of the uplink and recreate them.",
};

/// Pods of one node differ.
pub const MIXED_POD_MTU: Rule = Rule {
    id: "links.mixed_pod_mtu",
    severity: Severity::Warning,
    meaning: "Pods of one node have different MTUs: most often the CNI's MTU was changed, or not yet known, when some of them were made.",
    fix: "Recreate the pods that do not have the MTU of the CNI's present configuration.",
};

/// A bridge inside a pod promises more than the pod's way out takes.
pub const NESTED_BRIDGE_EXCEEDS_POD: Rule = Rule {
    id: "links.nested_bridge_exceeds_pod",
    severity: Severity::Warning,
    meaning: "A container engine inside a pod has a bridge with a larger MTU than the pod's own interface: builds and TLS inside its containers stall.",
    fix: "Start the engine with the pod's MTU (dockerd --mtu), and give user-defined networks the same.",
};

/// Something could not be looked at.
pub const NOT_READ: Rule = Rule {
    id: "links.not_read",
    severity: Severity::Info,
    meaning: "A namespace or a part of it could not be read: it was not looked at, which does not mean that it is well.",
    fix: "Try again; nsprobe pods says whether the pod is still there.",
};

/// All of this family.
pub const RULES: &[Rule] = &[
    VETH_MTU_MISMATCH,
    BRIDGE_PORT_SMALLER,
    BRIDGE_BELOW_PODS,
    TUNNEL_EXCEEDS_UNDERLAY,
    TUNNEL_PATH_MTU,
    TUNNEL_NO_ROUTE,
    TUNNEL_IN_ITSELF,
    IPSEC_EXCEEDS_UNDERLAY,
    ADVMSS_EXCEEDS_MTU,
    VXLAN_CHECKSUM,
    POD_EXCEEDS_TUNNEL,
    POD_EXCEEDS_BRIDGED_TUNNEL,
    POD_EXCEEDS_UPLINK,
    MIXED_POD_MTU,
    ROUTE_MTU_EXCEEDS_LINK,
    NESTED_BRIDGE_EXCEEDS_POD,
    NOT_READ,
];

pub(super) const NETLINK: &str = "netlink RTM_GETLINK";
/// Rows of evidence that a finding about many pods carries at most.
pub(super) const ROWS: usize = 6;

/// A namespace's subject and an interface in it.
pub(super) type Place<'a> = (&'a str, &'a Link);
/// A namespace's subject, its end of a veth, and the other end's name.
type Pair<'a> = (&'a str, &'a str, &'a str);

/// What the links and routes of these namespaces say is wrong; `host` is the inode of the node's own.
pub fn check_links(namespaces: &[Namespace], host: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let node = namespaces.iter().find(|n| n.netns_inode == host);
    let pods: Vec<&Namespace> = namespaces.iter().filter(|n| n.netns_inode != host).collect();
    check_veths(namespaces, host, &mut findings);
    for namespace in namespaces {
        check_bridges(namespace, &mut findings);
        check_tunnels(namespace, &mut findings);
        check_routes(namespace, &mut findings);
        check_completeness(namespace, &mut findings);
    }
    if let Some(node) = node {
        check_routed_bridges(node, &pods, &mut findings);
        check_ways_out(node, &pods, &mut findings);
        check_mixed(node, &pods, &mut findings);
    }
    pods.iter().for_each(|pod| check_nested(pod, &mut findings));
    findings
}

/// A finding for a namespace that could not be read at all.
pub fn check_unread(subject: &str, why: &str) -> Finding {
    NOT_READ.finding(
        subject,
        format!("{subject} was not looked at: {why}"),
        vec![Evidence::text("answer of the kernel", why.to_owned(), "setns, netlink")],
        NOT_READ.fix,
    )
}

pub(super) fn mtu_of(owner: &str, link: &str, mtu: u32) -> Evidence {
    Evidence::new(format!("MTU of {link} in {owner}"), mtu, "bytes", NETLINK)
}

/// What a pod's interface sends, and where that was read: its link, or the routes that keep packets smaller.
pub(super) fn sent(owner: &str, link: &Link, sends: u32) -> Evidence {
    if sends < link.mtu_bytes {
        let what = format!("MTU of the routes by {} in {owner}", link.name);
        return Evidence::new(what, sends, "bytes", "netlink RTM_GETROUTE");
    }
    mtu_of(owner, &link.name, sends)
}

/// One subject by its name, several as those of the host.
pub(super) fn subject_of(pods: &[&str]) -> String {
    match pods {
        [one] => (*one).to_owned(),
        _ => "host".to_owned(),
    }
}

/// `default/a`, `default/a and default/b`, `5 pods (default/a, default/b, default/c, …)`.
pub(super) fn list(names: &[&str]) -> String {
    match names {
        [] => "no pod".into(),
        [one] => (*one).to_owned(),
        [one, two] => format!("{one} and {two}"),
        many => {
            let some = many.iter().take(3).copied().collect::<Vec<_>>().join(", ");
            let more = if many.len() > 3 { ", …" } else { "" };
            format!("{} pods ({some}{more})", many.len())
        }
    }
}

fn check_veths(namespaces: &[Namespace], host: u64, findings: &mut Vec<Finding>) {
    // Pods with the same mistake make one finding; the pod's end is told first.
    let mut groups: BTreeMap<(u32, u32), Vec<Pair<'_>>> = BTreeMap::new();
    let name_of = |inode| {
        namespaces.iter().find(|n| n.netns_inode == inode).map_or("another namespace", |n| n.subject.as_str())
    };
    for namespace in namespaces {
        for link in namespace.links.iter().filter(|l| matches!(l.kind.as_deref(), Some("veth" | "netkit"))) {
            let Some(peer) = &link.peer else { continue };
            let (Some(inode), Some(mtu), Some(name)) = (peer.netns_inode, peer.mtu_bytes, &peer.name) else {
                continue;
            };
            // Each pair once: from the pod's end, or from the lower index within a namespace.
            let told_here = match (namespace.netns_inode == inode, inode == host) {
                (true, _) => link.index < peer.index,
                (false, true) => true,
                (false, false) => namespace.netns_inode != host && namespace.netns_inode < inode,
            };
            if told_here && mtu != link.mtu_bytes && link.up {
                groups.entry((link.mtu_bytes, mtu)).or_default().push((
                    namespace.subject.as_str(),
                    link.name.as_str(),
                    name.as_str(),
                ));
            }
        }
    }
    for ((inside, outside), pairs) in groups {
        let names: Vec<&str> = pairs.iter().map(|(subject, ..)| *subject).collect();
        let Some(&(subject, link, peer)) = pairs.first() else { continue };
        let other = namespaces
            .iter()
            .find(|n| n.subject == subject)
            .and_then(|n| find(n, link)?.peer.as_ref()?.netns_inode)
            .map_or("another namespace", name_of);
        let evidence = pairs
            .iter()
            .take(ROWS / 2)
            .flat_map(|(pod, link, peer)| [mtu_of(pod, link, inside), mtu_of(other, peer, outside)]);
        let (from, to) = if inside > outside { ("from", outside) } else { ("to", inside) };
        findings.push(VETH_MTU_MISMATCH.finding(
            subject_of(&names),
            format!(
                "{}: {link} has MTU {inside}, its other end {peer} {outside}; packets above {to} {from} the pod vanish",
                list(&names)
            ),
            evidence.collect(),
            fixes::veth(subject, link, inside, peer, outside),
        ));
    }
}

fn check_bridges(namespace: &Namespace, findings: &mut Vec<Finding>) {
    for bridge in namespace.links.iter().filter(|l| l.kind.as_deref() == Some("bridge") && l.up) {
        let ports = || namespace.links.iter().filter(|l| l.up && l.master.as_deref() == Some(&bridge.name));
        // A tunnel that is a port has its own rule.
        let largest = ports().filter(|p| !is_tunnel(p)).map(|p| p.mtu_bytes).max().unwrap_or(0);
        let largest = largest.max(bridge.mtu_bytes);
        let smaller: Vec<&Link> = ports().filter(|p| !is_tunnel(p) && p.mtu_bytes < largest).collect();
        let Some(least) = smaller.iter().map(|p| p.mtu_bytes).min() else { continue };
        let larger: Vec<&Link> = ports().filter(|p| p.mtu_bytes == largest).collect();
        let names: Vec<&str> = smaller.iter().map(|p| p.name.as_str()).collect();
        let who = match names.as_slice() {
            [one] => format!("port {one} takes"),
            many => format!("{} of {} ports take", many.len(), ports().count()),
        };
        let from = match larger.as_slice() {
            [one] => format!("{} sends {largest}", one.name),
            [] => format!("the bridge sends {largest}"),
            many => format!("{} others send {largest}", many.len()),
        };
        let mut evidence = vec![mtu_of(&namespace.subject, &bridge.name, bridge.mtu_bytes)];
        let rows = larger.iter().take(ROWS / 2).chain(smaller.iter().take(ROWS / 2));
        evidence.extend(rows.map(|p| mtu_of(&namespace.subject, &p.name, p.mtu_bytes)));
        // The few are put right, not the many.
        let fix = if larger.is_empty() {
            fixes::lower_bridge(&bridge.name, ports().map(|p| p.mtu_bytes).min().unwrap_or(least))
        } else if larger.len() < smaller.len() && bridge.mtu_bytes <= least {
            let odd: Vec<&str> = larger.iter().map(|p| p.name.as_str()).collect();
            fixes::lower_ports(&odd, least)
        } else {
            fixes::bridge_port(&bridge.name, &names, largest)
        };
        findings.push(BRIDGE_PORT_SMALLER.finding(
            namespace.subject.as_str(),
            format!(
                "{}: {who} {least} bytes, {from}: larger packets to them vanish in the bridge",
                bridge.name
            ),
            evidence,
            fix,
        ));
    }
}

/// Where pods send more than a tunnel or the uplink takes. Pods with the same mistake make one finding.
fn check_ways_out(node: &Namespace, pods: &[&Namespace], findings: &mut Vec<Finding>) {
    let mut groups: BTreeMap<(u32, u32, Join), Vec<Place<'_>>> = BTreeMap::new();
    // Found once for all pods of a bridge: for each tunnel it takes a look at all routes.
    let mut of_bridge: BTreeMap<Option<u32>, Vec<(&Link, Join)>> = BTreeMap::new();
    for pod in pods {
        for (inside, outside) in outward(pod, node) {
            if !matches!(inside.kind.as_deref(), Some("veth" | "netkit")) {
                continue;
            }
            let sends = sending_mtu(pod, inside);
            let bridge = master_of(node, outside);
            // A VPN of the node's owner is none of theirs.
            let addresses: Vec<IpAddr> = global_addresses(inside).collect();
            let theirs = |(tunnel, join): &(&Link, Join)| {
                *join == Join::Bridge || addresses.is_empty() || leads_to_pods(tunnel, node, &addresses)
            };
            let all =
                of_bridge.entry(bridge.map(|b| b.index)).or_insert_with(|| tunnels(node, bridge).collect());
            let mut ways: Vec<(&Link, Join)> = all.iter().copied().filter(theirs).collect();
            if ways.is_empty() {
                ways.extend(way_to_pods(node, &addresses).map(|link| (link, Join::Route)));
                ways.extend(
                    uplink(node)
                        .filter(|u| bridge.is_none_or(|b| b.index != u.index))
                        .map(|u| (u, Join::Route)),
                );
            }
            for (way, join) in ways.into_iter().filter(|(way, _)| sends > way.mtu_bytes) {
                groups.entry((way.index, sends, join)).or_default().push((&pod.subject, inside));
            }
        }
    }
    for ((index, sends, join), who) in groups {
        let Some(way) = node.links.iter().find(|l| l.index == index) else { continue };
        let names: Vec<&str> = who.iter().map(|(subject, _)| *subject).collect();
        let mut evidence: Vec<Evidence> =
            who.iter().take(ROWS).map(|(pod, link)| sent(pod, link, sends)).collect();
        evidence.push(mtu_of("host", &way.name, way.mtu_bytes));
        let (rule, what) = match (join, is_tunnel(way)) {
            (Join::Bridge, _) => (&POD_EXCEEDS_BRIDGED_TUNNEL, "a port of their bridge: larger ones vanish"),
            (_, true) => (&POD_EXCEEDS_TUNNEL, "routed: larger ones draw a PTB from this node"),
            _ if uplink(node).is_some_and(|u| u.index == way.index) => {
                (&POD_EXCEEDS_UPLINK, "the uplink: larger ones draw a PTB from this node")
            }
            _ => (&POD_EXCEEDS_UPLINK, "the way to other nodes' pods: larger ones draw a PTB from this node"),
        };
        findings.push(rule.finding(
            subject_of(&names),
            format!(
                "{}: packets of up to {sends} bytes, {} takes {} ({what})",
                list(&names),
                way.name,
                way.mtu_bytes
            ),
            evidence,
            fixes::pods_to(way, find(node, way.underlay.as_deref().unwrap_or_default())),
        ));
    }
}

fn check_mixed(node: &Namespace, pods: &[&Namespace], findings: &mut Vec<Finding>) {
    let mut groups: BTreeMap<u32, Vec<Place<'_>>> = BTreeMap::new();
    for pod in pods {
        if let Some(link) = own_interface(pod, node) {
            groups.entry(sending_mtu(pod, link)).or_default().push((&pod.subject, link));
        }
    }
    if groups.len() < 2 {
        return;
    }
    let mut told: Vec<(u32, Vec<&str>)> =
        groups.iter().map(|(mtu, who)| (*mtu, who.iter().map(|(s, _)| *s).collect())).collect();
    told.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    let summary = told.iter().map(|(mtu, names)| format!("{mtu} in {}", list(names))).collect::<Vec<_>>();
    let rows = groups.iter().flat_map(|(mtu, who)| {
        who.iter().take((ROWS / groups.len()).max(1)).map(move |(pod, link)| sent(pod, link, *mtu))
    });
    findings.push(MIXED_POD_MTU.finding(
        "host",
        format!("pods of this node have different MTUs: {}", summary.join("; ")),
        rows.collect(),
        fixes::mixed(told.last().and_then(|(_, names)| names.first()).copied()),
    ));
}

fn check_nested(pod: &Namespace, findings: &mut Vec<Finding>) {
    let Some(way) = uplink(pod).filter(|l| l.kind.as_deref() != Some("bridge")) else { return };
    let takes = sending_mtu(pod, way);
    for bridge in pod.links.iter().filter(|l| l.kind.as_deref() == Some("bridge") && l.up) {
        let used = pod.links.iter().any(|l| l.up && l.master.as_deref() == Some(&bridge.name));
        if !used || bridge.mtu_bytes <= takes {
            continue;
        }
        findings.push(NESTED_BRIDGE_EXCEEDS_POD.finding(
            pod.subject.as_str(),
            format!(
                "{} inside the pod has MTU {}, the pod's own {} sends at most {takes}",
                bridge.name, bridge.mtu_bytes, way.name
            ),
            vec![mtu_of(&pod.subject, &bridge.name, bridge.mtu_bytes), sent(&pod.subject, way, takes)],
            fixes::nested(&bridge.name, takes),
        ));
    }
}

fn check_completeness(namespace: &Namespace, findings: &mut Vec<Finding>) {
    if namespace.unreadable > 0 {
        findings.push(NOT_READ.finding(
            namespace.subject.as_str(),
            format!(
                "{} netlink messages of {} could not be read: interfaces or routes may be missing here",
                namespace.unreadable, namespace.subject
            ),
            vec![Evidence::new(
                "messages that could not be read",
                namespace.unreadable,
                "messages",
                "netlink",
            )],
            NOT_READ.fix,
        ));
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
