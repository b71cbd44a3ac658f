//! Rules on tunnels: whether what they send fits where it really leaves.

use super::Rule;
use super::chain::below;
use super::link_fixes as fixes;
use super::links::{NETLINK, ROWS, mtu_of};
use crate::facts::{DontFragment, Evidence, Finding, Link, Namespace, Severity};
use std::net::IpAddr;

/// Tunnel MTU plus overhead do not fit below.
pub const TUNNEL_EXCEEDS_UNDERLAY: Rule = Rule {
    id: "links.tunnel_exceeds_underlay",
    severity: Severity::Warning,
    meaning: "A tunnel's MTU plus its overhead is more than the interface below takes: full packets are fragmented outside, or dropped where DF is set or fragments are filtered.",
    fix: "Set the tunnel's MTU to the underlay's minus the overhead, and the pods' to that of the tunnel.",
};

/// The network below carries less than this node's interface.
pub const TUNNEL_PATH_MTU: Rule = Rule {
    id: "links.tunnel_path_mtu",
    severity: Severity::Warning,
    meaning: "The kernel has learned a path MTU to a tunnel's remote that is smaller than the tunnel's packets: the network between the nodes is narrower than this node's interface, or was when it was asked last.",
    fix: "Measure it (nsprobe mtu host REMOTE); then lower the tunnel and the pods, or widen the network.",
};

/// The remote of a tunnel has no route.
pub const TUNNEL_NO_ROUTE: Rule = Rule {
    id: "links.tunnel_no_route",
    severity: Severity::Warning,
    meaning: "No route leads to a remote of a tunnel: the pods behind it cannot be reached from here at any size.",
    fix: "Repair the node's routes to the other node, or remove what is left of a node that has gone.",
};

/// A tunnel sends its outer packets into itself.
pub const TUNNEL_IN_ITSELF: Rule = Rule {
    id: "links.tunnel_in_itself",
    severity: Severity::Warning,
    meaning: "The route to a tunnel's remote leads into the tunnel itself: the kernel drops every packet of it.",
    fix: "Give the remote a route of its own by the uplink, or take it out of the networks that the tunnel carries.",
};

/// An IPsec interface whose MTU leaves no room.
pub const IPSEC_EXCEEDS_UNDERLAY: Rule = Rule {
    id: "links.ipsec_exceeds_underlay",
    severity: Severity::Info,
    meaning: "An IPsec interface's MTU leaves no room below for what every cipher adds: full packets draw a PTB from this node first, and hang where something filters it.",
    fix: "Set the interface's MTU to the underlay's minus what its cipher adds.",
};

/// Checksum offload of VXLAN on a kernel that breaks it.
pub const VXLAN_CHECKSUM: Rule = Rule {
    id: "links.vxlan_checksum_offload",
    severity: Severity::Info,
    meaning: "Not MTU: VXLAN leaves checksums to the device on a kernel before 5.7, where NAT can break them: connections to services take 1, 3 or 63 seconds, whatever the size.",
    fix: "ethtool -K DEVICE tx-checksum-ip-generic off, or a kernel with the fix.",
};

/// `10.0.0.2`, `10.0.0.2, 10.0.0.3`, `12 remotes (10.0.0.2, …)`.
fn list(remotes: &[IpAddr]) -> String {
    match remotes {
        [] => "its remotes".into(),
        [one] => one.to_string(),
        [one, two] => format!("{one} and {two}"),
        [one, ..] => format!("{} remotes ({one}, …)", remotes.len()),
    }
}

/// Every tunnel of a namespace that is up.
pub(super) fn check_tunnels(namespace: &Namespace, findings: &mut Vec<Finding>) {
    for tunnel in namespace.links.iter().filter(|l| l.up && l.tunnel.is_some()) {
        check_fit(namespace, tunnel, findings);
        check_ipsec(namespace, tunnel, findings);
        check_learned(namespace, tunnel, findings);
        check_ways(namespace, tunnel, findings);
    }
}

fn check_fit(namespace: &Namespace, tunnel: &Link, findings: &mut Vec<Finding>) {
    let Some(overhead) = tunnel.overhead_bytes else { return };
    let ways = below(namespace, tunnel);
    let several = ways.len() > 1;
    for way in ways.iter().filter(|w| w.link.up && w.link.index != tunnel.index) {
        let (name, takes) = (&way.link.name, way.mtu_bytes);
        if tunnel.mtu_bytes.saturating_add(overhead) <= takes {
            continue;
        }
        let fits = takes.saturating_sub(overhead);
        let what = match tunnel.tunnel.and_then(|t| t.dont_fragment) {
            Some(DontFragment::Set) => "outer packets carry DF: larger ones are dropped",
            Some(DontFragment::Inherit) => "where the inner packet has DF, larger ones are dropped",
            _ => "larger ones leave in fragments, and are lost where these are filtered",
        };
        let to = if several { format!(" on the way to {}", list(&way.remotes)) } else { String::new() };
        let mut evidence = vec![
            mtu_of(&namespace.subject, &tunnel.name, tunnel.mtu_bytes),
            Evidence::new(format!("overhead of {}", tunnel.name), overhead, "bytes", NETLINK),
            mtu_of(&namespace.subject, name, way.link.mtu_bytes),
        ];
        if takes < way.link.mtu_bytes {
            let what = format!("MTU of the route to {} by {name}", list(&way.remotes));
            evidence.push(Evidence::new(what, takes, "bytes", "netlink RTM_GETROUTE"));
        } else if several {
            let what = format!("interface of the route to {}", list(&way.remotes));
            evidence.push(Evidence::text(what, name.clone(), "netlink RTM_GETROUTE"));
        }
        findings.push(TUNNEL_EXCEEDS_UNDERLAY.finding(
            namespace.subject.as_str(),
            format!(
                "{} has MTU {} and adds {overhead}, {name} takes {takes}{to}: only {fits} fit, {what}",
                tunnel.name, tunnel.mtu_bytes
            ),
            evidence,
            fixes::tunnel(&tunnel.name, tunnel.mtu_bytes, name, takes, overhead),
        ));
    }
}

fn check_ipsec(namespace: &Namespace, tunnel: &Link, findings: &mut Vec<Finding>) {
    if !matches!(tunnel.kind.as_deref(), Some("xfrm" | "vti" | "vti6")) {
        return;
    }
    let Some(least) = tunnel.tunnel.and_then(|t| t.least_bytes) else { return };
    let ways = below(namespace, tunnel);
    let Some(way) = ways.first().filter(|w| w.link.up && w.link.index != tunnel.index) else { return };
    if tunnel.mtu_bytes.saturating_add(least) <= way.mtu_bytes {
        return;
    }
    let (name, takes) = (&way.link.name, way.mtu_bytes);
    findings.push(IPSEC_EXCEEDS_UNDERLAY.finding(
        namespace.subject.as_str(),
        format!(
            "{} has MTU {}, IPsec adds at least {least}, {name} takes {takes}: at most {} fit",
            tunnel.name,
            tunnel.mtu_bytes,
            takes.saturating_sub(least)
        ),
        vec![
            mtu_of(&namespace.subject, &tunnel.name, tunnel.mtu_bytes),
            Evidence::new(format!("least that IPsec adds by {}", tunnel.name), least, "bytes", "RFC 4303"),
            mtu_of(&namespace.subject, name, way.link.mtu_bytes),
        ],
        format!(
            "ip link set dev {} mtu {}: {takes} less 77, as flannel and Cilium reckon for their ciphers; nsprobe mtu through it tells the exact size",
            super::shell::word(&tunnel.name),
            takes.saturating_sub(77)
        ),
    ));
}

/// A path MTU that a router has told this node, smaller than what the tunnel sends, though the interface takes it.
fn check_learned(namespace: &Namespace, tunnel: &Link, findings: &mut Vec<Finding>) {
    let Some(overhead) = tunnel.overhead_bytes else { return };
    let sends = tunnel.mtu_bytes.saturating_add(overhead);
    let narrow = tunnel
        .egress
        .iter()
        .filter_map(|e| Some((e, e.cached_path_mtu_bytes?)))
        .filter(|&(e, learned)| learned < sends && e.mtu_bytes.is_none_or(|mtu| learned < mtu));
    // One finding for a tunnel: the narrowest counts.
    let Some((_, least)) = narrow.clone().min_by_key(|&(_, learned)| learned) else { return };
    let remotes: Vec<IpAddr> = narrow.clone().flat_map(|(e, _)| e.remotes.iter().copied()).collect();
    let mut evidence = vec![
        mtu_of(&namespace.subject, &tunnel.name, tunnel.mtu_bytes),
        Evidence::new(format!("overhead of {}", tunnel.name), overhead, "bytes", NETLINK),
    ];
    evidence.extend(narrow.take(ROWS).map(|(e, learned)| {
        let what = format!("path MTU to {} that the kernel has learned", list(&e.remotes));
        Evidence::new(what, learned, "bytes", "netlink RTM_GETROUTE")
    }));
    let first = remotes.first().map(ToString::to_string).unwrap_or_default();
    findings.push(TUNNEL_PATH_MTU.finding(
        namespace.subject.as_str(),
        format!(
            "{} sends up to {} + {overhead} = {sends} to {}, a router on the way has said {least}: only {} fit",
            tunnel.name,
            tunnel.mtu_bytes,
            list(&remotes),
            least.saturating_sub(overhead)
        ),
        evidence,
        fixes::learned(&tunnel.name, &first, least, overhead),
    ));
}

/// Remotes without a way, or with one that leads back into the tunnel.
fn check_ways(namespace: &Namespace, tunnel: &Link, findings: &mut Vec<Finding>) {
    for egress in &tunnel.egress {
        let to = list(&egress.remotes);
        let example = egress.remotes.first().map(ToString::to_string).unwrap_or_default();
        match egress.interface.as_deref() {
            None => findings.push(TUNNEL_NO_ROUTE.finding(
                namespace.subject.as_str(),
                format!("{} sends to {to}, and no route leads there", tunnel.name),
                vec![Evidence::text(format!("route to {to}"), "none", "netlink RTM_GETROUTE")],
                format!("ip route get {example}; when that node has gone: restart the CNI's agent, which forgets it"),
            )),
            Some(name) if name == tunnel.name => findings.push(TUNNEL_IN_ITSELF.finding(
                namespace.subject.as_str(),
                format!("the route to {to}, where {name} sends its outer packets, leads into {name} itself"),
                vec![Evidence::text(format!("interface of the route to {to}"), name, "netlink RTM_GETROUTE")],
                fixes::in_itself(tunnel, &example),
            )),
            Some(_) => {}
        }
    }
}

/// Whether a kernel release (`5.4.0-100-generic`) is older than 5.7, the first in which NAT leaves a VXLAN's zero
/// checksum alone. Stable kernels before it got the fix too, which a distribution's number does not tell.
///
/// Source: linux commit ea64d8d6c675 ("netfilter: nat: never update the UDP checksum when it's 0"); Calico draws the
/// line at 5.7 as well.
fn breaks_checksums(release: &str) -> Option<bool> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((major, minor) < (5, 7))
}

/// VXLAN with checksum offload on a kernel that may break it; `release` as uname(2) tells it.
pub fn check_offloads(namespaces: &[Namespace], release: &str) -> Vec<Finding> {
    if breaks_checksums(release) != Some(true) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for namespace in namespaces {
        let on = |l: &&Link| {
            l.up && l.kind.as_deref() == Some("vxlan") && l.offloads.is_some_and(|o| o.tx_checksum)
        };
        for link in namespace.links.iter().filter(on) {
            let name = &link.name;
            findings.push(VXLAN_CHECKSUM.finding(
                namespace.subject.as_str(),
                format!("{name} leaves checksums to the device, and Linux {release} may break them under NAT: delays of 1, 3 or 63 seconds to services are this, not MTU"),
                vec![
                    Evidence::text(format!("transmit checksum offload of {name}"), true, "ethtool ETHTOOL_GTXCSUM"),
                    Evidence::text("kernel release", release, "uname"),
                ],
                format!("ethtool -K {} tx-checksum-ip-generic off, if services are slow (distributions have put the fix into older kernels too)", super::shell::word(name)),
            ));
        }
    }
    findings
}

#[cfg(test)]
#[path = "links_tunnels_tests.rs"]
mod tests;
