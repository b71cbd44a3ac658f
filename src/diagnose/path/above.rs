//! Packets that are larger than the route lets out, which only `--max` asks for: no application sends any.

use super::rules::NARROW_ABOVE_ROUTE;
use super::{PathFacts, evidence, fate};
use crate::facts::{Finding, PathNote, PathResult, Verdict};

/// What is to be said of a path that carries what the route lets out, and not all that was asked for: it is clear.
/// `None`: it carries less than that, or everything.
pub fn clear_for_route(path: &PathResult, route_mtu: u32) -> Option<PathResult> {
    let narrow = matches!(path.verdict, Verdict::Narrowed | Verdict::BlackHole);
    path.path_mtu_bytes.filter(|mtu| narrow && *mtu >= route_mtu)?;
    let mut clear = PathResult { verdict: Verdict::Clear, narrowing: None, hops: Vec::new(), ..path.clone() };
    clear.notes.retain(|note| !note.is_of_what_fails());
    if clear.notes.contains(&PathNote::TargetSilent) {
        // Only routers have answered: that anything arrives was not seen.
        let (verdict, path_mtu_bytes, confidence) = (Verdict::Inconclusive, None, None);
        return Some(PathResult { verdict, path_mtu_bytes, confidence, signalled: false, ..clear });
    }
    Some(clear)
}

pub(super) fn check_above_route(facts: &PathFacts) -> Option<Finding> {
    let PathFacts { subject, target, route_mtu, .. } = facts;
    let found = facts.above_route.as_ref()?;
    let size = found.bounds.fails_bytes?;
    let reporter = found.narrowing.as_ref().and_then(|narrowing| narrowing.reporter);
    let become_of = match (found.verdict, reporter) {
        (Verdict::Narrowed, Some(from)) => format!("do not arrive ({from} says so)"),
        (Verdict::Narrowed, None) => "do not arrive".to_owned(),
        _ => fate(found),
    };
    Some(NARROW_ABOVE_ROUTE.finding(
        subject,
        format!(
            "packets of {size} bytes and more to {target} {become_of}; the route lets out {route_mtu}, no application sends any that large"
        ),
        evidence(facts, found),
        NARROW_ABOVE_ROUTE.fix,
    ))
}
