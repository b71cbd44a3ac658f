//! Which way a black hole is on: echo replies are as large as what they answer.

use super::method::Question;
use crate::facts::{Bounds, PathNote, PathResult, Reverse, ReverseVerdict, Verdict};
use crate::probe::search::{ANOTHER_WORD, AnswerLimit, Plan, Scout, Scouted, Search};
use crate::probe::{Echo, ProbeError, Scouts, Target, ask_sizes, drive};
use std::time::{Duration, Instant};

/// By then a host has another error over IPv6: ten a second, before Linux 6.18 four for the hosts behind a prefix of 64 bits
/// (net/ipv6/icmp.c `icmpv6_xrlim_allow`).
const ANOTHER_ERROR_SIX: Duration = Duration::from_millis(260);

/// What was measured with what is known of the way back, and of the way there where only replies were lost.
///
/// # Errors
/// [`ProbeError`] of what is asked for it.
pub(super) fn both_ways(
    question: Question<'_>,
    search: &Search,
    mut known: Scouted,
    mut path: PathResult,
    left: &dyn Fn() -> Duration,
) -> Result<PathResult, ProbeError> {
    if !search.is_as_far(known.ttl) {
        (known.arrived, known.heard) = (None, 0);
    }
    known.arrived = known.arrived.max(search.arrived_back());
    // One answer to many may have come with another that was due: what was larger is not disproved.
    let larger = known.arrived > path.path_mtu_bytes;
    let heard = known.heard > 1 || search.arrived_back().is_some();
    // Timestamp replies are smaller than any path.
    let fit = search.arrived_by() == Some(Scout::Timestamp) || errors_fit(&path, question.target);
    let told = larger || fit && heard;
    let mut bytes = search.bytes();
    if !told && may_be_on_the_way_back(&path, question.target) {
        known.arrived = known.arrived.max(ask_again(question, search, &mut path, left(), &mut bytes)?);
    }
    let plan = Plan { max_bytes: question.plan.max_bytes.saturating_sub(bytes), ..question.plan.clone() };
    let question = Question { plan: &plan, ..question };
    let look = search.arrived_by().unwrap_or(Scout::Protocol);
    let path = which_way(question, path, &known, look, left())?;
    match (path.verdict, search.unreturned()) {
        (Verdict::Narrowed, Some(size)) => way_back(question, path, size, left()),
        _ => Ok(path),
    }
}

/// Whether large packets of a black hole were seen to get as far as anybody before the target, so that it may be on the way
/// back as well.
fn may_be_on_the_way_back(path: &PathResult, target: Target) -> bool {
    // What is measured by small answers is the way there.
    let small = |note: &PathNote| matches!(note, PathNote::EchoFiltered { .. } | PathNote::EchoLimited);
    let told = |note: &PathNote| note.is_of_what_fails() || small(note);
    let before = |ttl: u8| path.hops.iter().any(|hop| hop.ttl == ttl && !hop.target);
    path.verdict == Verdict::BlackHole
        && !path.notes.iter().any(told)
        && !(errors_fit(path, target)
            && path.narrowing.as_ref().and_then(|narrowing| narrowing.ttl).is_some_and(before))
}

/// Whether what passes is as large as the errors that large packets draw: else these are lost on a narrow way back, too. They
/// quote so much of them (RFC 1812 §4.3.2.3, RFC 4443 §2.4).
fn errors_fit(path: &PathResult, target: Target) -> bool {
    path.path_mtu_bytes >= Some(if target.address.is_ipv4() { 576 } else { 1280 })
}

/// Asks by packets that the target answers with a small error once more: by datagrams at once, or else by a strange protocol
/// when it has another. Returns the largest that arrived; what it does not say is noted.
fn ask_again(
    question: Question<'_>,
    search: &Search,
    path: &mut PathResult,
    left: Duration,
    bytes: &mut u64,
) -> Result<Option<u32>, ProbeError> {
    let Question { netns, target, plan, onlooker, .. } = question;
    let begun = Instant::now();
    let rtt = Duration::from_micros(path.rtt_us.unwrap_or_default());
    let large = [Some(plan.max), path.bounds.fails_bytes].into_iter().flatten();
    let mut ask = |path: &mut PathResult, sizes: Vec<u32>, look, patience| {
        *bytes += sizes.iter().map(|size| u64::from(*size)).sum::<u64>();
        let asked = ask_sizes(&mut Echo::open(netns, target)?, &sizes, look, patience, onlooker)?;
        path.probes = path.probes.and(asked.probes());
        Ok::<_, ProbeError>(asked)
    };
    let may = |path: &PathResult, packets: u32| path.probes.sent.saturating_add(packets) <= plan.max_probes;
    let soon = 2 * rtt + Duration::from_millis(2);
    if may(path, 6) && left > soon && plan.rate_pps.is_none() && errors_fit(path, target) {
        // A firewall may answer them in the target's name, so that an answer to a large one proves nothing. That two small
        // ones are answered and no large one before is the doing of the way there.
        let sizes = large.clone().chain(large.clone()).chain([plan.control; 2]);
        let asked = ask(path, sizes.collect(), Scout::Datagram, soon)?;
        if asked.likely == Some(plan.control) && asked.replies > 1 {
            return Ok(None);
        }
    }
    path.notes.push(PathNote::EitherWay);
    let patience = 2 * rtt + Duration::from_millis(10);
    let another = if target.address.is_ipv4() { ANOTHER_WORD } else { ANOTHER_ERROR_SIX };
    let left = left.saturating_sub(begun.elapsed());
    if !may(path, 3) || left < another + patience || onlooker.sleep(another)? {
        return Ok(None);
    }
    let asked = ask(path, large.chain([plan.control]).collect(), Scout::Protocol, patience)?;
    let arrived = asked.arrived.filter(|_| search.is_as_far(asked.ttl));
    if arrived.is_some() {
        path.notes.retain(|note| *note != PathNote::EitherWay);
    }
    Ok(arrived)
}

/// An echo reply over IPv6 is as large as its request and never fragmented on the way: the black hole may be
/// on the way back. Packets that the target answers with a small error tell.
fn which_way(
    question: Question<'_>,
    path: PathResult,
    known: &Scouted,
    look: Scout,
    deadline: Duration,
) -> Result<PathResult, ProbeError> {
    let Question { netns, target, plan, onlooker, .. } = question;
    // None was answered: the target answers no such packets.
    let (Verdict::BlackHole, Some(arrived)) = (path.verdict, known.arrived) else { return Ok(path) };
    if path.path_mtu_bytes.is_some_and(|mtu| arrived <= mtu) {
        // The way there is as narrow.
        return Ok(path);
    }
    let reverse = Reverse { verdict: ReverseVerdict::BlackHole, limit_bytes: path.path_mtu_bytes };
    if arrived == plan.max {
        // The way there takes all that the route lets out: it was seen to arrive.
        let bounds = Bounds { passes_bytes: Some(arrived), fails_bytes: None };
        let (narrowing, hops, notes) = (None, Vec::new(), Vec::new());
        let clear = PathResult { verdict: Verdict::Clear, path_mtu_bytes: Some(arrived), bounds, ..path };
        return Ok(PathResult { reverse, narrowing, hops, notes, ..clear });
    }
    let echo = Echo::open(netns, target)?;
    let max_probes = plan.max_probes.saturating_sub(path.probes.sent);
    let answers = (look == Scout::Protocol).then_some(AnswerLimit::ICMP_ERRORS);
    let plan = Plan { answers, deadline, max_probes, ..plan.clone() };
    let mut there = drive(&mut Search::new(plan), &mut Scouts(echo, look), onlooker)?;
    if there.verdict == Verdict::Unreachable {
        // It has answered before, and has no answer left.
        let bounds = Bounds { passes_bytes: Some(arrived), fails_bytes: None };
        there = PathResult { verdict: Verdict::Inconclusive, bounds, ..there };
    }
    Ok(PathResult { reverse, probes: path.probes.and(there.probes), ..there })
}

/// What comes back of a path whose `size` rests on what the target says of scouts: the largest echo reply.
fn way_back(
    question: Question<'_>,
    path: PathResult,
    size: u32,
    deadline: Duration,
) -> Result<PathResult, ProbeError> {
    let Question { netns, target, plan, onlooker, .. } = question;
    let mut echo = Echo::open(netns, target)?;
    let max_probes = plan.max_probes.saturating_sub(path.probes.sent);
    // The verdict stands; a responder that is limited after all is not waited for.
    let deadline = deadline.min(plan.timeout);
    let plan = Plan { max: size, locate: false, deadline, max_probes, ..plan.clone() };
    let back = drive(&mut Search::new(plan), &mut echo, onlooker)?;
    let reverse = match back.verdict {
        Verdict::BlackHole => {
            Reverse { verdict: ReverseVerdict::BlackHole, limit_bytes: back.path_mtu_bytes }
        }
        Verdict::Clear => back.reverse,
        _ => path.reverse,
    };
    Ok(PathResult { reverse, probes: path.probes.and(back.probes), ..path })
}
