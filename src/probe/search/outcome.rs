//! From the records of a search to its result: numbers only where there was an answer.

use super::event::Answer;
use super::record::{Fate, Record, Records};
use super::{Phase, Scout, Search};
use crate::facts::{
    Bounds, Method, Narrowing, PathNote, PathResult, ProbeCounts, Reverse, ReverseVerdict, Verdict, Word,
};

const UNKNOWN: Reverse = Reverse { verdict: ReverseVerdict::Unknown, limit_bytes: None };

/// Probability that one probe is lost by chance, from (sent, lost) of sizes that pass: the estimate of
/// Krichevsky and Trofimov, which is never zero.
pub(super) fn chance_of_loss((sent, lost): (u32, u32)) -> f64 {
    (f64::from(lost) + 0.5) / (f64::from(sent) + 1.0)
}

/// Probability that chance alone loses `count` probes in a row: that of the losses seen, over all rates of loss that
/// explain them as well (the predictive distribution behind [`chance_of_loss`]). With few controls it is much more than
/// a power of the estimate.
pub(super) fn chance_of_losses((sent, lost): (u32, u32), count: u32) -> f64 {
    let more = |i| (f64::from(lost) + 0.5 + f64::from(i)) / (f64::from(sent) + 1.0 + f64::from(i));
    (0..count).map(more).product()
}

pub(super) fn result(search: &Search) -> PathResult {
    let records = &search.records;
    let mut verdict = search.verdict.unwrap_or(Verdict::Inconclusive);
    let mut notes = search.notes.clone();
    let silent = notes.contains(&PathNote::TargetSilent);
    // A silent target: the size that drew no PTB passes as far as routers can tell.
    let passes = if silent { search.claim(0) } else { records.passes() };
    let fails = match passes {
        Some(lo) => records.fails(lo),
        None => records.too_bigs().filter(|(size, mtu, _)| mtu < size).map(|(size, _, _)| size).min(),
    };
    let echoed = records.0.iter().filter(|r| r.replied() && r.counts && !r.scout).map(|r| r.size).max();
    let claim = passes.and_then(|lo| search.claim(lo).filter(|m| *m == lo));
    let signalled = verdict == Verdict::Narrowed && claim.is_some();
    if let (Verdict::Narrowed | Verdict::BlackHole | Verdict::Clear, Some(lo)) = (verdict, passes)
        && let Some(smaller) = contradiction(records, search.unreturned().and(echoed).unwrap_or(lo))
    {
        notes.push(PathNote::Contradiction { passes: lo, fails: smaller });
        verdict = Verdict::Inconclusive;
    }
    if let (Verdict::Narrowed | Verdict::BlackHole, Some(hi)) =
        (verdict, fails.filter(|hi| records.held_here(*hi)))
    {
        notes.push(PathNote::HeldHere { size: hi });
    }
    // Of what was asked otherwise afterwards it says nothing.
    let heard = records.0.iter().any(Record::replied);
    let otherwise = search.by_scouts.filter(|_| heard).map_or(0, |(first, _)| first);
    let asked = |r: &Record| search.asks_for_sizes(r);
    notes.extend(refusals(records, otherwise, passes, asked));
    let looped = records
        .0
        .iter()
        .filter(|r| asked(r) && Some(r.size) > passes)
        .filter_map(|r| Some((r.size, r.looped()?)));
    notes.extend(looped.min_by_key(|(size, _)| *size).map(|(size, from)| PathNote::Loop { from, size }));
    // An answer may overtake another.
    let waited = |r: &Record| search.finished >= r.sent_at + 2 * records.slowest_reply().unwrap_or_default();
    let mut echo = records.0.iter().filter(|r| r.counts && !r.scout && r.ttl.is_none());
    let ignored = echo.all(|r| r.fate != Fate::InFlight || waited(r));
    let timestamps = matches!(search.by_scouts, Some((_, Scout::Timestamp)));
    if timestamps && records.0.iter().any(|r| r.look.is_none() && r.replied()) {
        // Or they were only late.
        let missing = |r: &Record| r.look.is_none() && r.lost() && r.ttl.is_none() && Some(r.size) <= passes;
        notes.extend(records.0.iter().any(missing).then_some(PathNote::EchoLimited));
    } else if heard && (search.by_scouts.is_some() || ignored && !records.answers_probes()) {
        let refused = records.0.iter().take(otherwise).find_map(Record::refused);
        notes.push(PathNote::EchoFiltered { refused, timestamps });
    }
    let settled = matches!(verdict, Verdict::Clear | Verdict::Narrowed | Verdict::BlackHole);
    // A PTB that was confirmed speaks for every size above it.
    let fails = if signalled { passes.map(|lo| lo + 1) } else { fails };
    // Where only scouts tell of a size, its large answers may be lost on the way back: by size, and not by chance.
    let losses = echoed.map(|lo| records.control_losses(lo)).filter(|(sent, _)| *sent > 0);
    PathResult {
        method: Method::Icmp,
        verdict,
        path_mtu_bytes: passes.filter(|_| settled),
        signalled: signalled && settled,
        narrowing: narrowing(search, verdict, passes, fails),
        // What the target says of scouts is small whatever their size.
        reverse: if search.by_scouts.is_some() { UNKNOWN } else { reverse(records, verdict) },
        bounds: Bounds { passes_bytes: passes, fails_bytes: fails.filter(|_| verdict != Verdict::Clear) },
        confidence: settled.then(|| confidence(search, verdict, passes, fails)),
        loss_ratio: losses.map(|(sent, lost)| f64::from(lost) / f64::from(sent)),
        rtt_us: records.fastest_reply().and_then(|d| u64::try_from(d.as_micros()).ok()),
        probes: search.before.and(count(records)),
        elapsed_ms: crate::facts::milliseconds(search.finished),
        hops: hops(search),
        notes,
    }
}

/// A smaller size that was lost again and again while `lo` passes.
fn contradiction(records: &Records, lo: u32) -> Option<u32> {
    let mut sizes: Vec<u32> =
        records.0.iter().filter(|r| r.ttl.is_none() && r.size < lo).map(|r| r.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
        .into_iter()
        .find(|s| !records.replied(*s) && records.failures(*s, lo) >= super::sizes::LEAST_FAILURES)
}

/// The smallest packet that was refused, of those that arrive as well and of those that do not, from the record `first` on.
fn refusals(
    records: &Records,
    first: usize,
    passes: Option<u32>,
    asked: impl Fn(&Record) -> bool,
) -> impl Iterator<Item = PathNote> {
    let note = move |passed: bool| {
        let refused = records.0.iter().skip(first).filter(|r| asked(r) && (Some(r.size) <= passes) == passed);
        let (size, (from, word)) =
            refused.filter_map(|r| Some((r.size, r.refused()?))).min_by_key(|(size, _)| *size)?;
        let least = records.0.iter().all(|r| r.size >= size);
        Some(PathNote::Refused { from, word, size, passes: passed, least })
    };
    [false, true].into_iter().filter_map(note)
}

fn confidence(search: &Search, verdict: Verdict, passes: Option<u32>, fails: Option<u32>) -> f64 {
    let (Some(lo), Some(hi)) = (passes, fails) else { return 0.9999 };
    let doubt = match verdict {
        Verdict::BlackHole => {
            chance_of_losses(search.records.control_losses(lo), search.records.failures(hi, lo).max(1))
        }
        // The size that passes was seen; a PTB for the next was seen. A silent target is heard of only
        // through routers.
        Verdict::Narrowed if search.notes.contains(&PathNote::TargetSilent) => 0.05,
        _ => 0.0,
    };
    (1.0 - doubt).clamp(0.0, 0.9999)
}

fn count(records: &Records) -> ProbeCounts {
    let mut counts = ProbeCounts::default();
    for record in records.sent_here() {
        match record.fate {
            Fate::Answered { answer: Answer::NotSent { .. }, .. } => continue,
            Fate::Lost if record.held => continue,
            Fate::Answered { answer: Answer::TooBig { .. }, .. } => counts.too_big += 1,
            // Neither the target nor a hop that was asked for.
            Fate::Answered { answer: Answer::Refused { .. }, .. } => {}
            Fate::Answered { .. } if record.looped().is_some() => {}
            Fate::Answered { .. } => counts.answered += 1,
            Fate::InFlight | Fate::Lost => counts.lost += 1,
        }
        counts.sent += 1;
    }
    counts
}

/// The way back, from how the replies arrived. What vanished without a word may have done so on either way.
fn reverse(records: &Records, verdict: Verdict) -> Reverse {
    let mut limit = None;
    let mut whole = false;
    for record in records.0.iter().filter(|r| r.ttl.is_none() && !r.scout) {
        if let Fate::Answered { answer: Answer::Reply { largest_fragment, cut, .. }, .. } = record.fate {
            match largest_fragment {
                _ if cut => {}
                Some(bytes) => limit = Some(limit.unwrap_or(0).max(bytes)),
                None => whole |= Some(record.size) == records.passes(),
            }
        }
    }
    let told = matches!(verdict, Verdict::Clear | Verdict::Narrowed);
    match (limit, whole) {
        (None, true) if told => Reverse { verdict: ReverseVerdict::Clear, limit_bytes: None },
        (limit, _) => Reverse { limit_bytes: limit, ..UNKNOWN },
    }
}

fn hops(search: &Search) -> Vec<crate::facts::Hop> {
    match (&search.phase, &search.located) {
        (Phase::Hops(locate), _) | (_, Some(locate)) => locate.hops(&search.records),
        _ => Vec::new(),
    }
}

fn narrowing(
    search: &Search,
    verdict: Verdict,
    passes: Option<u32>,
    fails: Option<u32>,
) -> Option<Narrowing> {
    if !matches!(verdict, Verdict::Narrowed | Verdict::BlackHole) {
        return None;
    }
    let records = &search.records;
    // The verdict rests on the PTB that names what passes, or else on that for the smallest size that fails. What others
    // named is another narrowing before this one, or a lie.
    let refused = records.too_bigs().filter(|(size, _, _)| Some(*size) > passes);
    let told = match verdict {
        Verdict::Narrowed => refused.min_by_key(|(size, mtu, _)| (Some(*mtu) != passes, *size)),
        _ => None,
    };
    // Or it was refused with a word that names no size.
    // A TCP reset comes in the target's name, whoever sends it.
    let refused = records.0.iter().filter(|r| Some(r.size) == fails && verdict == Verdict::BlackHole);
    let refused = refused.filter(|r| search.asks_for_sizes(r));
    let refused =
        refused.filter_map(Record::refused).find(|(_, word)| *word != Word::Reset).map(|(from, _)| from);
    let mut narrowing = Narrowing {
        ttl: None,
        reporter: told.map(|(_, _, from)| from).or(refused),
        reported_mtu_bytes: told.map(|(_, mtu, _)| mtu),
        last_good_hop: None,
    };
    if let Some(locate) = &search.located {
        let reached = locate.reached(records);
        narrowing.ttl = reached.lost_at;
        narrowing.last_good_hop =
            locate.hops(records).iter().find(|h| h.ttl == reached.good && h.large).and_then(|h| h.address);
    }
    let known = narrowing.ttl.is_some() || narrowing.reporter.is_some() || narrowing.last_good_hop.is_some();
    known.then_some(narrowing)
}
