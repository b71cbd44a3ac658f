//! Tables that are full, neighbours that are silent, tunnels without a peer, path MTUs that were learned.

use super::rules::{
    CONNTRACK_FULL, CONNTRACK_INVALID, CONNTRACK_NEARLY_FULL, CONNTRACK_RACE, GATEWAY_SILENT,
    NEIGHBOUR_TABLE_FULL, NEIGHBOUR_TABLE_NEARLY_FULL, REMEMBERED, REMEMBERED_TINY, TUNNEL_ONE_WAY,
    TUNNEL_PEER_UNKNOWN, TUNNEL_REMOTE_SILENT,
};
use super::{KernelView, Role};
use crate::diagnose::shell::word;
use crate::facts::{
    Conntrack, Evidence, Finding, Link, NeighbourEntry, NeighbourState, RememberedMtu, Severity,
};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Rows of evidence that a finding carries at most.
const ROWS: usize = 6;
/// Evidence of a silent peer: whether it is one of many.
pub const OTHER_REMOTES: &str = "other peers of this node's tunnels";
/// A table is nearly full when it is fuller than this many percent.
const NEARLY: u64 = 80;
/// Below this percentage nothing was dropped for want of room.
const HALF: u64 = 50;
/// And full above this: the kernel makes room for single connections at the expense of others all the time.
const FULL: u64 = 99;
/// The least IPv4 MTU that every host has to take (RFC 791); the kernel's own floor for PTBs is 552.
const LEAST_V4: u32 = 576;
/// Fewer packets may be a tunnel's first words.
const FEW: u64 = 10;

fn above(used: u64, percent: u64, limit: u64) -> bool {
    used.saturating_mul(100) >= limit.saturating_mul(percent)
}

pub(super) fn check_conntrack(view: KernelView<'_>) -> Vec<Finding> {
    let Ok(now) = &view.now.conntrack else { return Vec::new() };
    let before = view.before.and_then(|b| b.conntrack.as_ref().ok());
    let rise = |of: fn(&Conntrack) -> Option<u64>| {
        of(now).zip(before.and_then(of)).and_then(|(now, then)| now.checked_sub(then)).filter(|&by| by > 0)
    };
    let subject = view.now.subject.as_str();
    let room = || {
        vec![
            Evidence::new("nf_conntrack_count", now.count, "connections", "/proc/sys/net/netfilter"),
            Evidence::new("nf_conntrack_max", now.max, "connections", "/proc/sys/net/netfilter"),
        ]
    };
    let stat =
        |what: &'static str, by: u64| Evidence::new(what, by, "packets", "/proc/net/stat/nf_conntrack");
    let fix = || {
        format!(
            "sysctl -w net.netfilter.nf_conntrack_max={} on the node (kube-proxy: conntrack.maxPerCore); then find who opens so many: conntrack -L, or nsprobe sockets",
            now.max.saturating_mul(2)
        )
    };
    let mut findings = Vec::new();
    let collided = rise(|c| c.insert_failed);
    // The kernel counts a collision in both (nf_conntrack_core.c); a helper that drops a packet is in `drop` alone.
    let dropped = rise(|c| c.drop).and_then(|by| by.checked_sub(collided.unwrap_or(0)));
    let dropped = dropped.filter(|&by| by > 0 && above(now.count, HALF, now.max));
    let pushed_out = rise(|c| c.early_drop);
    let limited = now.max > 0;
    if dropped.is_some() || pushed_out.is_some() || (limited && above(now.count, FULL, now.max)) {
        let mut evidence = room();
        evidence.extend(dropped.map(|by| stat("dropped because the table was full", by)));
        evidence.extend(pushed_out.map(|by| stat("connections pushed out to make room", by)));
        let summary =
            format!("{subject}: {} of {} connections are tracked: new ones are dropped", now.count, now.max);
        findings.push(CONNTRACK_FULL.finding(subject, summary, evidence, fix()));
    } else if limited && above(now.count, NEARLY, now.max) {
        let summary = format!("{subject}: {} of {} connections are tracked already", now.count, now.max);
        findings.push(CONNTRACK_NEARLY_FULL.finding(subject, summary, room(), fix()));
    }
    if let Some(by) = collided {
        let summary =
            format!("{subject}: the first packet of {by} connections was dropped, their entries collided");
        findings.push(CONNTRACK_RACE.finding(
            subject,
            summary,
            vec![stat("insert_failed rose by", by)],
            CONNTRACK_RACE.fix,
        ));
    }
    if let Some(by) = rise(|c| c.invalid) {
        let mut evidence = vec![stat("invalid rose by", by)];
        let liberal = "net.netfilter.nf_conntrack_tcp_be_liberal";
        if let Some(value) = view.now.settings.get(liberal) {
            evidence.push(Evidence::text(liberal, value, "/proc/sys/net/netfilter"));
        }
        let summary = format!("{subject}: {by} packets fitted no known connection while it was watched");
        findings.push(CONNTRACK_INVALID.finding(subject, summary, evidence, CONNTRACK_INVALID.fix));
    }
    findings
}

pub(super) fn check_usage(view: KernelView<'_>) -> Vec<Finding> {
    let Ok(now) = &view.now.tables.arp_usage else { return Vec::new() };
    let before = view.before.and_then(|b| b.tables.arp_usage.as_ref().ok());
    let refused = now
        .refused
        .zip(before.and_then(|b| b.refused))
        .and_then(|(now, then)| now.checked_sub(then))
        .filter(|&by| by > 0);
    // CNIs write one for every other node, or pod.
    let uncounted = |e: &&NeighbourEntry| e.uncounted && e.address.is_ipv4();
    let uncounted = view.now.tables.neighbours.iter().flatten().filter(uncounted).count();
    let entries = now.entries.saturating_sub(u64::try_from(uncounted).unwrap_or(u64::MAX));
    let mut evidence = vec![
        Evidence::new(
            "ARP entries that count against the limit",
            entries,
            "entries",
            "/proc/net/stat/arp_cache, less those of RTM_GETNEIGH",
        ),
        Evidence::new("gc_thresh3", now.limit, "entries", "/proc/sys/net/ipv4/neigh/default/gc_thresh3"),
    ];
    let subject = view.now.subject.as_str();
    let (rule, what) = if refused.is_some() || (now.limit > 0 && entries >= now.limit) {
        (&NEIGHBOUR_TABLE_FULL, "new neighbours get no entry")
    } else if now.limit > 0 && above(entries, NEARLY, now.limit) {
        (&NEIGHBOUR_TABLE_NEARLY_FULL, "it is nearly full")
    } else {
        return Vec::new();
    };
    evidence.extend(
        refused.map(|by| Evidence::new("table_fulls rose by", by, "entries", "/proc/net/stat/arp_cache")),
    );
    let (three, two) = (now.limit.saturating_mul(4), now.limit.saturating_mul(2));
    let fix = format!(
        "sysctl -w net.ipv4.neigh.default.gc_thresh3={three} net.ipv4.neigh.default.gc_thresh2={two} net.ipv4.neigh.default.gc_thresh1={} on the node",
        now.limit
    );
    let summary = format!("the node's ARP table has {entries} of {} entries: {what}", now.limit);
    vec![rule.finding(subject, summary, evidence, fix)]
}

/// An entry that was found silent so long ago is not in use.
const LONG_SILENT_S: u32 = 60;

fn is_silent(entry: &NeighbourEntry) -> bool {
    matches!(entry.state, NeighbourState::Failed | NeighbourState::Incomplete)
}

fn state_of(entry: &NeighbourEntry) -> Evidence {
    let word = match entry.state {
        NeighbourState::Failed => "FAILED",
        NeighbourState::Incomplete => "INCOMPLETE",
        NeighbourState::Known => "known",
        NeighbourState::Permanent => "PERMANENT",
    };
    Evidence::text(
        format!("neighbour {} on {}", entry.address, entry.interface),
        word,
        "netlink RTM_GETNEIGH",
    )
}

pub(super) fn check_neighbours(view: KernelView<'_>) -> Vec<Finding> {
    let (Ok(entries), Some(namespace)) = (&view.now.tables.neighbours, view.namespace) else {
        return Vec::new();
    };
    let subject = view.now.subject.as_str();
    let silent = || entries.iter().filter(|e| is_silent(e));
    let mut findings = Vec::new();
    let mut told: Vec<(IpAddr, &str)> = Vec::new();
    for route in &namespace.routes {
        let (Some(via), Some(interface)) = (route.via, route.interface.as_deref()) else { continue };
        let Some(entry) = silent().find(|e| e.address == via && e.interface == interface) else { continue };
        if told.contains(&(via, interface)) {
            continue;
        }
        told.push((via, interface));
        let mut finding = GATEWAY_SILENT.finding(
            subject,
            format!("{subject}: the gateway {via} on {interface} does not answer; the route {} leads through it", route.destination),
            vec![
                state_of(entry),
                Evidence::text(format!("route {}", route.destination), format!("via {via} dev {interface}"), "netlink RTM_GETROUTE"),
            ],
            format!("ip neigh show {via} dev {} in the namespace; check {interface} and what is behind it (nsprobe links), and whether {via} is the gateway still", word(interface)),
        );
        // Nobody has needed it since: it may be back, and is asked for again with the next packet.
        if let Some(unchanged) = entry.unchanged_s.filter(|s| *s > LONG_SILENT_S) {
            finding.severity = Severity::Warning;
            finding.evidence.push(Evidence::new(
                "time since its state changed last",
                unchanged,
                "seconds",
                "netlink RTM_GETNEIGH",
            ));
        }
        // A dump is in the order of metrics: the first default route of a family is the one that is used.
        let first = namespace.routes.iter().find(|r| r.destination == "default" && r.ipv6 == route.ipv6);
        if first.is_none_or(|first| !std::ptr::eq(first, route)) && view.role == Role::Node {
            finding.severity = Severity::Warning;
        }
        findings.push(finding);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings.truncate(ROWS);
    if view.role == Role::Node {
        let remotes: Vec<&NeighbourEntry> =
            silent().filter(|e| remote_of(view, e.address).is_some()).collect();
        if let Some(first) = remotes.first() {
            let more =
                if remotes.len() > 1 { format!(" and {} more", remotes.len() - 1) } else { String::new() };
            let tunnel = remote_of(view, first.address).unwrap_or("a tunnel");
            let of_links = view.namespace.iter().flat_map(|n| &n.links).flat_map(|l| &l.egress);
            let of_table = view.now.tables.forwarding.iter().flatten().filter_map(|e| e.remote);
            let mut rest: BTreeSet<IpAddr> =
                of_links.flat_map(|e| e.remotes.iter().copied()).chain(of_table).collect();
            rest.retain(|remote| !remotes.iter().any(|silent| silent.address == *remote));
            let mut evidence: Vec<Evidence> = remotes.iter().take(ROWS).map(|e| state_of(e)).collect();
            evidence.push(Evidence::new(
                OTHER_REMOTES,
                rest.len(),
                "peers",
                "netlink RTM_GETNEIGH, RTM_GETLINK",
            ));
            findings.push(TUNNEL_REMOTE_SILENT.finding(
                subject,
                format!("{}{more}, the other end of {tunnel}, does not answer on {}: the pods there cannot be reached", first.address, first.interface),
                evidence,
                TUNNEL_REMOTE_SILENT.fix,
            ));
        }
    }
    findings
}

/// The tunnel that has this peer.
fn remote_of<'a>(view: KernelView<'a>, address: IpAddr) -> Option<&'a str> {
    let sends = |l: &&Link| l.egress.iter().any(|e| e.remotes.contains(&address));
    if let Some(link) = view.namespace.and_then(|n| n.links.iter().find(sends)) {
        return Some(&link.name);
    }
    let entries = view.now.tables.forwarding.as_ref().ok()?;
    entries.iter().find(|e| e.remote == Some(address)).map(|e| e.interface.as_str())
}

pub(super) fn check_tunnels(view: KernelView<'_>) -> Vec<Finding> {
    let Some(namespace) = view.namespace else { return Vec::new() };
    let mut findings = Vec::new();
    for tunnel in namespace.links.iter().filter(|l| l.up && l.tunnel.is_some()) {
        findings.extend(check_peers(view, tunnel));
        findings.extend(check_one_way(view, tunnel));
    }
    findings
}

/// Gateways inside a VXLAN for which it has no peer. One that takes its peers from routes (external, as
/// Cilium's) has no table to look at.
fn check_peers(view: KernelView<'_>, tunnel: &Link) -> Option<Finding> {
    let external = tunnel.tunnel.is_none_or(|t| t.external);
    if tunnel.kind.as_deref() != Some("vxlan") || external || tunnel.master.is_some() {
        return None;
    }
    let (Ok(forwarding), Ok(neighbours)) = (&view.now.tables.forwarding, &view.now.tables.neighbours) else {
        return None;
    };
    let peers = || forwarding.iter().filter(|e| e.interface == tunnel.name);
    // A default peer, or a group, gets everything that is not listed, questions for neighbours too.
    if peers().any(|e| e.mac == [0; 6]) {
        return None;
    }
    let mut evidence = Vec::new();
    let mut lost: Vec<&str> = Vec::new();
    for route in view.namespace?.routes.iter().filter(|r| r.interface.as_deref() == Some(&tunnel.name)) {
        let Some(via) = route.via else { continue };
        let entry = neighbours.iter().find(|e| e.address == via && e.interface == tunnel.name);
        let what = match entry.and_then(|e| e.mac) {
            None => format!("{via}: no neighbour entry"),
            Some(mac) if !peers().any(|e| e.mac == mac) => {
                let mac = mac.map(|b| format!("{b:02x}")).join(":");
                format!("{via} is {mac}: no forwarding entry")
            }
            Some(_) => continue,
        };
        lost.push(&route.destination);
        let label = format!("peer for {} in {}", route.destination, tunnel.name);
        evidence.push(Evidence::text(label, what, "netlink RTM_GETNEIGH"));
    }
    let first = lost.first()?;
    let more = if lost.len() > 1 { format!(" and {} more", lost.len() - 1) } else { String::new() };
    evidence.truncate(ROWS);
    let name = &tunnel.name;
    Some(TUNNEL_PEER_UNKNOWN.finding(
        view.now.subject.as_str(),
        format!("{name} does not know which node {first}{more} is behind: packets to it vanish here"),
        evidence,
        format!("restart the CNI's agent on this node, which writes the entries anew; bridge fdb show dev {0} and ip neigh show dev {0} show them", word(name)),
    ))
}

fn check_one_way(view: KernelView<'_>, tunnel: &Link) -> Option<Finding> {
    let counters = view.now.counters.links.as_ref().ok()?.get(&tunnel.name)?;
    if counters.tx_packets < FEW || counters.rx_packets > 0 {
        return None;
    }
    let name = &tunnel.name;
    let row = |what: &str, value| {
        Evidence::new(format!("{what} of {name}"), value, "packets", "netlink RTM_GETLINK")
    };
    let port = match tunnel.kind.as_deref() {
        Some("wireguard") => "its UDP port (wg show)".into(),
        Some("ipip") => "IP protocol 4".into(),
        Some("gre" | "gretap") => "IP protocol 47".into(),
        Some("sit") => "IP protocol 41".into(),
        _ => match tunnel.tunnel.and_then(|t| t.port) {
            Some(port) => format!("UDP {port}"),
            None => "the tunnel's protocol".to_owned(),
        },
    };
    Some(TUNNEL_ONE_WAY.finding(
        view.now.subject.as_str(),
        format!("{name} has sent {} packets and received none: somebody on the way drops them", counters.tx_packets),
        vec![row("tx_packets", counters.tx_packets), row("rx_packets", counters.rx_packets)],
        format!(
            "let {port} through between the nodes, both ways; nsprobe capture host -i {} shows whether anything comes back",
            tunnel.underlay.as_deref().unwrap_or("UPLINK")
        ),
    ))
}

pub(super) fn check_remembered(view: KernelView<'_>) -> Vec<Finding> {
    let Ok(remembered) = &view.now.tables.remembered else { return Vec::new() };
    let subject = view.now.subject.as_str();
    let row = |r: &&RememberedMtu| {
        Evidence::new(
            format!("remembered path MTU to {}", r.target),
            r.mtu_bytes,
            "bytes",
            "netlink RTM_GETROUTE (cached)",
        )
    };
    let mut findings = Vec::new();
    let (tiny, plain): (Vec<&RememberedMtu>, Vec<&RememberedMtu>) =
        remembered.iter().partition(|r| r.target.is_ipv4() && r.mtu_bytes < LEAST_V4);
    if let Some(first) = tiny.first() {
        findings.push(REMEMBERED_TINY.finding(
            subject,
            format!(
                "{subject} remembers a path MTU of {} to {}: no real path is so narrow",
                first.mtu_bytes, first.target
            ),
            tiny.iter().take(ROWS).map(row).collect(),
            REMEMBERED_TINY.fix,
        ));
    }
    if let Some(first) = plain.first() {
        let more = if plain.len() > 1 { format!(" and for {} more", plain.len() - 1) } else { String::new() };
        findings.push(REMEMBERED.finding(
            subject,
            format!(
                "{subject} has learned a path MTU of {} to {}{more}: path-MTU discovery works there",
                first.mtu_bytes, first.target
            ),
            plain.iter().take(ROWS).map(row).collect(),
            REMEMBERED.fix,
        ));
    }
    findings
}
