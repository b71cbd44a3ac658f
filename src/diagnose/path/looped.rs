//! Packets that go round between routers until their hops are used up.

use super::PathFacts;
use super::rules::ROUTING_LOOP;
use crate::facts::{Evidence, Finding, Hop, PathNote, PathResult, Verdict};
use std::net::IpAddr;

/// Where a packet with a whole TTL ran out of hops, and the size of the smallest that did.
pub(super) fn looped(path: &PathResult) -> Option<(IpAddr, u32)> {
    path.notes.iter().find_map(|note| match note {
        PathNote::Loop { from, size } => Some((*from, *size)),
        _ => None,
    })
}

/// Who says that the hops of a packet were used up.
pub(super) fn loop_ends_at(end: IpAddr) -> Evidence {
    let what = "time exceeded for packets with a whole TTL, from";
    Evidence::text(what, end.to_string(), "ICMP for probes with DF")
}

/// Whether it is the very size that is one byte too large which goes round.
pub(super) fn loops_over(path: &PathResult) -> bool {
    let size = looped(path).map(|(_, size)| size);
    path.verdict == Verdict::BlackHole && size.is_some() && size == path.bounds.fails_bytes
}

pub(super) fn check_loop(facts: &PathFacts, path: &PathResult) -> Option<Finding> {
    let (end, size) = looped(path)?;
    let target = &facts.target;
    let again = |hop: &&Hop| {
        hop.address.is_some() && path.hops.iter().any(|h| h.ttl != hop.ttl && h.address == hop.address)
    };
    let repeated: Vec<(u8, IpAddr)> =
        path.hops.iter().filter(again).filter_map(|hop| Some((hop.ttl, hop.address?))).collect();
    let mut round: Vec<IpAddr> = Vec::new();
    for address in repeated.iter().map(|(_, address)| *address).chain([end]) {
        if !round.contains(&address) {
            round.push(address);
        }
    }
    let mut seen = vec![loop_ends_at(end)];
    if !repeated.is_empty() {
        let hops: Vec<String> =
            repeated.iter().map(|(ttl, address)| format!("hop {ttl} {address}")).collect();
        seen.push(Evidence::text("hops that repeat", hops.join(", "), "time exceeded"));
    }
    let names: Vec<String> = round.iter().map(IpAddr::to_string).collect();
    let which = match path.bounds.passes_bytes {
        Some(_) => format!("packets of {size} bytes and more to {target}"),
        None => format!("packets to {target}"),
    };
    let said = match names.as_slice() {
        [one] => format!("{which} go round in a loop, and run out of hops at {one}"),
        several => format!("{which} go round in a loop between {}", several.join(" and ")),
    };
    Some(ROUTING_LOOP.finding(
        &facts.subject,
        said,
        seen,
        format!("Ask these routers for their route to it (ip route get {target}): one sends back what the other sends. Often a default route meets the prefix of a node or pod that is gone; an unreachable route for that prefix ends the loop."),
    ))
}
