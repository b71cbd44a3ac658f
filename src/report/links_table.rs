//! The links of one namespace as a table, and a tunnel's arithmetic in one line.

use super::{LinksView, sanitize};
use crate::diagnose::chain::{below, is_tunnel, uplink};
use crate::facts::{Link, Namespace, Offloads, Route};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Routes of one namespace that are shown unasked.
const MOST_ROUTES: usize = 20;

/// `flannel.1: VXLAN over IPv4 in eth0, 1500 − 50 = 1450`.
pub(super) fn tunnel_line(link: &Link, node: Option<&Namespace>, long: bool) -> String {
    let kind = match link.kind.as_deref() {
        Some("vxlan") => "VXLAN",
        Some("geneve") => "Geneve",
        Some("wireguard") => "WireGuard",
        Some("ipip") => "IP in IP",
        Some("sit") => "IPv6 in IPv4",
        Some("gre" | "gretap" | "ip6gre" | "ip6gretap") => "GRE",
        Some("xfrm" | "vti" | "vti6") => "IPsec",
        Some(other) => other,
        None => "tunnel",
    };
    let family = match link.tunnel.and_then(|t| t.outer_ipv6) {
        Some(true) => " over IPv6",
        Some(false) => " over IPv4",
        None => "",
    };
    let mut line = format!("{}: {}", sanitize(&link.name), sanitize(kind));
    if long && let Some(tunnel) = link.tunnel {
        tunnel.id.iter().for_each(|id| {
            let _ = write!(line, " {id}");
        });
        tunnel.port.iter().for_each(|port| {
            let _ = write!(line, ", UDP {port}");
        });
    }
    line.push_str(family);
    // The way that carries least stands for all.
    let narrowest = node.and_then(|node| below(node, link).into_iter().next());
    if let Some(way) = &narrowest {
        let _ = write!(line, " in {}", sanitize(&way.link.name));
    }
    let least = link.tunnel.and_then(|t| t.least_bytes);
    match (narrowest, link.overhead_bytes, least) {
        (Some(way), Some(overhead), _) => {
            let fits = way.mtu_bytes.saturating_sub(overhead);
            let _ = write!(line, ", {} − {overhead} = {fits}", way.mtu_bytes);
            if fits < link.mtu_bytes {
                let _ = write!(line, " < {}", link.mtu_bytes);
            }
        }
        (None, Some(overhead), _) => {
            let _ = write!(line, ", adds {overhead}");
        }
        (Some(way), None, Some(least)) => {
            let most = way.mtu_bytes.saturating_sub(least);
            let _ = write!(line, ", {} − at least {least} = at most {most}", way.mtu_bytes);
        }
        (None, None, Some(least)) => {
            let _ = write!(line, ", adds at least {least}");
        }
        (_, None, None) => line.push_str(", overhead not known"),
    }
    if long && link.tunnel.is_some_and(|t| t.external) {
        line.push_str("; told packet by packet where to send");
    }
    line
}

/// Where a tunnel's remotes are reached differently: a line a way, `to 10.1.0.2 by eth1: 1400 − 50 = 1350 < 1450`.
pub(super) fn ways_lines(link: &Link, node: Option<&Namespace>, view: LinksView) -> Vec<String> {
    /// Remotes that a line names.
    const NAMED: usize = 3;
    let ways = node.map(|node| below(node, link)).unwrap_or_default();
    let mut lines = Vec::new();
    let Some(overhead) = link.overhead_bytes else { return lines };
    if ways.len() > 1 || (view.verbose && ways.iter().any(|w| !w.remotes.is_empty())) {
        for way in &ways {
            let named = if view.verbose { way.remotes.len() } else { NAMED };
            let mut to: Vec<String> = way.remotes.iter().take(named).map(ToString::to_string).collect();
            if way.remotes.len() > named {
                to.push(format!("{} more", way.remotes.len() - named));
            }
            let fits = way.mtu_bytes.saturating_sub(overhead);
            let less = if fits < link.mtu_bytes { format!(" < {}", link.mtu_bytes) } else { String::new() };
            let name = sanitize(&way.link.name);
            lines.push(format!(
                "to {} by {name}: {} − {overhead} = {fits}{less}",
                to.join(", "),
                way.mtu_bytes
            ));
        }
    }
    let rest = link.tunnel.map_or(0, |t| t.remotes_not_asked);
    if rest > 0 {
        lines.push(format!("{rest} more remotes were not looked up"));
    }
    lines
}

/// `250 ports of 1450`, `3 ports: 2 of 1450, 1 of 1500`.
fn ports(namespace: &Namespace, bridge: &Link) -> Option<String> {
    let mut mtus: BTreeMap<u32, usize> = BTreeMap::new();
    let all = namespace.links.iter().filter(|l| l.master.as_deref() == Some(&bridge.name));
    all.for_each(|port| *mtus.entry(port.mtu_bytes).or_default() += 1);
    let count: usize = mtus.values().sum();
    let word = if count == 1 { "port" } else { "ports" };
    let told: Vec<String> = mtus.iter().map(|(mtu, n)| format!("{n} of {mtu}")).collect();
    match mtus.iter().next() {
        None => None,
        Some((mtu, _)) if mtus.len() == 1 => Some(format!("{count} {word} of {mtu}")),
        Some(_) => Some(format!("{count} {word}: {}", told.join(", "))),
    }
}

/// `checksum, TSO, GRO`: what makes a capture look strange.
fn offload_names(offloads: Offloads) -> Vec<&'static str> {
    let all = [
        (offloads.tx_checksum, "checksum"),
        (offloads.tso, "TSO"),
        (offloads.gso, "GSO"),
        (offloads.gro, "GRO"),
    ];
    all.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect()
}

/// A namespace's links as a table; those that carry one pod each are counted, not listed.
pub(super) fn render_table(text: &mut String, namespace: &Namespace, view: LinksView) {
    let paint = view.paint;
    let _ = writeln!(text, "{}", paint.bold(&sanitize(&namespace.subject)));
    let is_pods = |l: &Link| {
        matches!(l.kind.as_deref(), Some("veth" | "netkit"))
            && l.peer.as_ref().is_some_and(|p| p.netns_inode != Some(namespace.netns_inode))
            && (l.master.is_some() || l.addresses.iter().all(|(a, _)| is_link_local(a)))
    };
    let way_out = uplink(namespace).map(|l| l.index);
    let fold = !view.verbose && namespace.links.iter().filter(|l| is_pods(l)).count() > 3;
    let rows: Vec<&Link> = namespace.links.iter().filter(|l| !(fold && is_pods(l))).collect();
    let names = rows.iter().map(|l| sanitize(&l.name).chars().count()).max().unwrap_or(0);
    for link in rows {
        let mut about = Vec::new();
        if is_tunnel(link) {
            let line = tunnel_line(link, Some(namespace), view.verbose);
            about.push(line.split_once(": ").map_or(line.clone(), |(_, rest)| rest.to_owned()));
        } else if let Some(kind) = &link.kind {
            about.push(sanitize(kind).into_owned());
        }
        about.extend(ports(namespace, link));
        if let Some(master) = &link.master {
            about.push(format!("port of {}", sanitize(master)));
        }
        if let Some(peer) = &link.peer {
            let name = peer
                .name
                .as_deref()
                .map_or_else(|| format!("index {}", peer.index), |n| sanitize(n).into_owned());
            let mtu = peer.mtu_bytes.map(|m| format!(" {m}")).unwrap_or_default();
            let place = if peer.netns_inode == Some(namespace.netns_inode) { "" } else { " elsewhere" };
            about.push(format!("to {name}{mtu}{place}"));
        }
        if way_out == Some(link.index) {
            about.push("uplink".into());
        }
        let state = if link.up { link.state.as_str() } else { "off" };
        let about = paint.dim(&about.join(", "));
        let row = format!("  {:names$}  {:>5}  {state:<7}  {about}", sanitize(&link.name), link.mtu_bytes);
        let _ = writeln!(text, "{}", row.trim_end());
    }
    if fold {
        let mut mtus: BTreeMap<u32, usize> = BTreeMap::new();
        namespace
            .links
            .iter()
            .filter(|l| is_pods(l))
            .for_each(|l| *mtus.entry(l.mtu_bytes).or_default() += 1);
        let told: Vec<_> = mtus.iter().map(|(mtu, n)| format!("{n} of MTU {mtu}")).collect();
        let _ = writeln!(text, "  {}", paint.dim(&format!("and the ends of pods: {}", told.join(", "))));
    }
    if view.verbose {
        render_offloads(text, namespace, view);
    }
    let own = |route: &&Route| route.mtu_bytes.is_some() || route.advmss_bytes.is_some();
    let shown = |route: &&Route| own(route) || view.verbose && route.destination != "fe80::/64";
    // A pod may make as many as it likes.
    let most = if view.verbose { usize::MAX } else { MOST_ROUTES };
    for route in namespace.routes.iter().filter(shown).take(most) {
        let mut line = format!("  route {}", sanitize(&route.destination));
        if let Some(via) = route.via {
            let _ = write!(line, " via {via}");
        }
        if let Some(interface) = &route.interface {
            let _ = write!(line, " dev {}", sanitize(interface));
        }
        for (name, value) in [("mtu", route.mtu_bytes), ("advmss", route.advmss_bytes)] {
            if let Some(value) = value {
                let _ = write!(line, " {name} {value}");
            }
        }
        let _ = writeln!(text, "{line}");
    }
    let more = namespace.routes.iter().filter(shown).count().saturating_sub(most);
    if more > 0 {
        let words = format!("and {more} more routes with an MTU or MSS of their own: -v shows them");
        let _ = writeln!(text, "  {}", paint.dim(&words));
    }
}

fn render_offloads(text: &mut String, namespace: &Namespace, view: LinksView) {
    let mut some = false;
    for link in &namespace.links {
        let names = link.offloads.map(offload_names).unwrap_or_default();
        if !names.is_empty() {
            some = true;
            let _ = writeln!(text, "  offloads of {}: {}", sanitize(&link.name), names.join(", "));
        }
    }
    if some {
        let told = "captures there show packets above the MTU and unfinished checksums: no fault";
        let _ = writeln!(text, "  {}", view.paint.dim(told));
    }
}

fn is_link_local(address: &std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(v4) => v4.is_link_local(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
