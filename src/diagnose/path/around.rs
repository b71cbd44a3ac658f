//! What is seen beside the search itself: who dropped its packets, what the kernel remembers and is set to, the next hop,
//! and whose address the target is.

use super::looped::loops_over;
use super::refused::refused_over;
use super::rules::*;
use super::{Cached, PathFacts, Rise};
use crate::facts::{Evidence, Finding, LinkState, PathNote, PathResult, Verdict};

pub(super) fn check_drops(facts: &PathFacts, path: &PathResult) -> Option<Finding> {
    if let Some(size) = held_here(path) {
        let mut seen =
            vec![Evidence::new("smallest packet that the kernel refuses", size, "bytes", "sendto(2)")];
        seen.extend(
            path.bounds
                .passes_bytes
                .map(|passes| Evidence::new("largest packet that it sends", passes, "bytes", "sendto(2)")),
        );
        let said = format!(
            "packets of {size} bytes and more never leave: the kernel of the source refuses to send them"
        );
        return Some(REFUSED_HERE.finding(&facts.subject, said, seen, REFUSED_HERE.fix));
    }
    // Whoever says that he refuses them has got them.
    let vanish = path.verdict == Verdict::BlackHole && refused_over(path).is_none() && !loops_over(path);
    let drops = facts.drops.as_ref().filter(|_| vanish)?;
    let size = path.bounds.fails_bytes.unwrap_or_default();
    // Counters of a busy node move by themselves: one that took the burst rose by all of it.
    let risen = drops.iter().filter(|r| r.by >= u64::from(facts.burst));
    // FragOKs counts what left in pieces: no loss, but a trace.
    let (pieces, guilty): (Vec<&Rise>, Vec<&Rise>) = risen.partition(|r| r.counter.ends_with("FragOKs"));
    let see = |rise: &&Rise| {
        let what =
            format!("{} of {} during {} packets of {size} bytes", rise.counter, rise.place, facts.burst);
        Evidence::new(what, rise.by, "packets", rise.source)
    };
    let Some(first) = guilty.first() else {
        let sent = "packets sent while the counters were watched";
        let mut seen = vec![Evidence::new(sent, facts.burst, "packets", "counters before and after")];
        seen.extend(pieces.iter().map(see));
        let passed = path.hops.iter().any(|hop| hop.large && hop.ttl > facts.hops_here);
        let (summary, fix) = if !pieces.is_empty() {
            (
                "the large packets leave this node in fragments: whoever drops fragments is behind the uplink",
                LEFT_NODE.fix,
            )
        } else if passed {
            ("no drop counter on this node rose, and a hop behind it took the large packets", LEFT_NODE.fix)
        } else {
            (
                "no drop counter on this node rose; whether the large packets leave it is not known",
                "Filters here count elsewhere: nft list ruleset, iptables -L -v -n, the CNI's eBPF programs. Where these are innocent look behind the uplink: nsprobe capture --point all shows how far they get.",
            )
        };
        return Some(LEFT_NODE.finding(&facts.subject, summary, seen, fix));
    };
    Some(DROPPED_ON_NODE.finding(
        &facts.subject,
        format!("the large packets never leave this node: {} counts them ({})", first.place, first.counter),
        guilty.iter().map(see).collect(),
        DROPPED_ON_NODE.fix,
    ))
}

/// The smallest size that fails, where it is the source's own kernel that refuses it.
pub(super) fn held_here(path: &PathResult) -> Option<u32> {
    path.notes.iter().find_map(|note| match note {
        PathNote::HeldHere { size } => Some(*size),
        _ => None,
    })
}

/// What makes the kernel forget the path MTUs of the target's family: ip-route(8).
fn flush(facts: &PathFacts) -> &'static str {
    if facts.address.is_ipv4() { "ip route flush cache" } else { "ip -6 route flush cache" }
}

/// Who sent a PTB, in libpcap's language.
fn ptb_filter(facts: &PathFacts) -> &'static str {
    if facts.address.is_ipv4() { "icmp[0]==3 and icmp[1]==4" } else { "icmp6 and ip6[40]==2" }
}

pub(super) fn check_cache(facts: &PathFacts, path: &PathResult) -> Option<Finding> {
    let source = "netlink RTM_GETROUTE";
    if let Some(cached) = facts.cached_before {
        let Cached { mtu: cached, forgets_in } = cached;
        let seen = vec![
            Evidence::new("cached path MTU before the search", cached, "bytes", source),
            Evidence::new("the kernel forgets it in", forgets_in, "s", source),
        ];
        return Some(match path.path_mtu_bytes {
            Some(mtu) if cached < mtu => CACHE_STALE.finding(
                &facts.subject,
                format!(
                    "the namespace remembers {cached} bytes for {}, and the path carries {mtu}",
                    facts.target
                ),
                seen,
                format!(
                    "{} in the namespace; then look for who sent the PTB (capture {}).",
                    flush(facts),
                    ptb_filter(facts)
                ),
            ),
            _ => CACHED.finding(
                &facts.subject,
                format!("the namespace already remembers a path MTU of {cached} bytes for {}", facts.target),
                seen,
                format!(
                    "{} in the namespace forgets it at once; it forgets by itself after ten minutes.",
                    flush(facts)
                ),
            ),
        });
    }
    let Cached { mtu: left, forgets_in } = facts.cached_after?;
    Some(CACHE_LEFT.finding(
        &facts.subject,
        format!("the kernel now remembers {left} bytes for {}, for {forgets_in} s", facts.target),
        vec![Evidence::new("cached path MTU after the search", left, "bytes", source)],
        format!("Nothing to do; {} in the namespace forgets it at once.", flush(facts)),
    ))
}

/// What applications do on such a path.
pub(super) fn check_settings(facts: &PathFacts, path: &PathResult) -> Vec<Finding> {
    let read = |name: &'static str, value: u8| {
        vec![Evidence::text(name, value, "/proc/sys/net/ipv4 in the namespace of the source")]
    };
    let mut findings = vec![];
    if let (Verdict::BlackHole, Some(0)) = (path.verdict, facts.tcp_mtu_probing) {
        let summary = "TCP there does not recover by itself: tcp_mtu_probing is 0";
        findings.push(NO_RECOVERY.finding(
            &facts.subject,
            summary,
            read("tcp_mtu_probing", 0),
            NO_RECOVERY.fix,
        ));
    }
    if let Some(value @ 1..) = facts.ip_no_pmtu_disc {
        let summary = format!("applications there send IPv4 without DF: ip_no_pmtu_disc is {value}");
        findings.push(DISCOVERY_OFF.finding(
            &facts.subject,
            summary,
            read("ip_no_pmtu_disc", value),
            DISCOVERY_OFF.fix,
        ));
    }
    findings
}

pub(super) fn check_next_hop(facts: &PathFacts, path: &PathResult) -> Option<Finding> {
    let hop = facts.silent_next_hop.filter(|_| path.verdict == Verdict::Unreachable)?;
    Some(NEXT_HOP_SILENT.finding(
        &facts.subject,
        format!("the next hop {hop} on {} does not answer ARP or neighbour discovery", facts.interface),
        vec![Evidence::text(
            format!("neighbour entry of {hop} on {}", facts.interface),
            "failed",
            "netlink RTM_GETNEIGH",
        )],
        NEXT_HOP_SILENT.fix,
    ))
}

/// An interface that nothing can leave by, at the end of a search that began with a route by it.
pub(super) fn check_interface(facts: &PathFacts) -> Option<Finding> {
    let PathFacts { subject, interface, .. } = facts;
    let (said, seen, fix) = match facts.interface_state? {
        LinkState::Up => return None,
        LinkState::Down => (
            format!("{interface} is down: nothing leaves by it"),
            "not IFF_UP",
            format!(
                "Find who set it down; ip link set {interface} up in that namespace, and its routes have to be set again."
            ),
        ),
        LinkState::NoCarrier => (
            format!("{interface} has no carrier: nothing leaves by it"),
            "IFF_UP, not IFF_LOWER_UP",
            "Its other end is down: of a veth the host's end (nsprobe links names it), else the cable, bond or lower interface.".to_owned(),
        ),
        LinkState::Gone => (
            format!("{interface} was removed while the path was measured"),
            "no such interface",
            "The pod was probably deleted meanwhile: nsprobe pods shows whether it still runs.".to_owned(),
        ),
    };
    let seen = vec![Evidence::text(format!("flags of {interface}"), seen, "netlink RTM_GETLINK")];
    Some(INTERFACE_DOWN.finding(subject, said, seen, fix))
}

pub(super) fn check_service(facts: &PathFacts, path: &PathResult) -> Option<Finding> {
    let seen = |what| vec![Evidence::text(what, facts.target.clone(), "kube-proxy's tables on this node")];
    Some(match (facts.service_is_local?, path.verdict) {
        (true, _) => SERVICE_IS_LOCAL.finding(
            &facts.subject,
            format!("{} is a Service address that this node itself answers for", facts.target),
            seen("virtual server of IPVS"),
            SERVICE_IS_LOCAL.fix,
        ),
        (false, Verdict::Unreachable) => SERVICE_SILENT.finding(
            &facts.subject,
            format!("{} is a Service address: its silence to ICMP is no fault", facts.target),
            seen("Service address in kube-proxy's rules"),
            SERVICE_SILENT.fix,
        ),
        _ => return None,
    })
}
