//! The heart: what is known of the sizes, and which to ask next.

use super::plan::{PATIENT, between, halves};
use super::record::{Fate, Record};
use super::{Phase, Search, outcome};
use crate::facts::{PathNote, Verdict, Word};
use std::time::Duration;

/// A verdict stands when chance explains it with less than this probability.
const CHANCE: f64 = 2e-4;
/// The same on a path that has lost nothing yet, where the chance of a loss is itself a guess on the safe side.
const CHANCE_WITHOUT_LOSS: f64 = 3e-4;
/// Silence is believed after this many losses of one size at the least.
pub(super) const LEAST_FAILURES: u32 = 3;
/// Who sends one error a second has another by then.
pub const ANOTHER_WORD: Duration = Duration::from_millis(1030);
/// How long a router may take for its word: a packet that it has to answer leaves the fast path of many.
pub(in crate::probe) const SLOW_ROUTER: Duration = Duration::from_millis(12);
/// The same beyond twice what it took to answer another packet of that size.
const SLOWER_THAN_SEEN: Duration = Duration::from_millis(6);
/// Flights to a target that answers nothing at all.
pub(super) const SILENT_FLIGHTS: u16 = 3;

pub(super) enum Next {
    Flight(Vec<u32>),
    Conclude(Verdict),
}

impl Search {
    /// Probes of about `size` bytes that the next flight may hold: what is paced takes less than a round trip.
    fn room(&self, size: u32) -> u32 {
        let window = self.records.fastest_reply().or(self.rtt).unwrap_or_default() * 4 / 5;
        self.plan.flight_packets(size, window)
    }

    /// Whether the answers that are still on their way can change nothing.
    pub(super) fn settled(&self) -> bool {
        let (Phase::Sizes, Some(lo)) = (&self.phase, self.records.passes()) else { return false };
        let open = |from: u32, to: u32| {
            self.records.0.iter().any(|r| r.fate == Fate::InFlight && (from..to).contains(&r.size))
        };
        if lo == self.plan.max {
            // A tunnel that lets the first packet through refuses the next: that one is sent, where it was to be, and
            // all but the rare sizes are waited for.
            if self.queue.iter().any(|queued| queued.size == lo) {
                return false;
            }
            let rare = |r: &Record| r.early || r.flight == 1 && r.sent_at >= PATIENT;
            return !self.records.0.iter().any(|r| r.fate == Fate::InFlight && !rare(r));
        }
        if self.claim(lo) == Some(lo) {
            let refused = self.records.too_bigs().map(|(size, _, _)| size).filter(|size| *size > lo).min();
            let above = lo + 1..refused.unwrap_or(u32::MAX);
            return !open(above.start, above.end)
                && !self.queue.iter().any(|queued| above.contains(&queued.size));
        }
        self.records.fails(lo) == Some(lo + 1)
            && !open(lo + 1, lo + 2)
            && self.records.failures(lo + 1, lo) >= self.failures_wanted(lo)
    }

    /// When a black hole stands against answers that overtook each other: the margin is RACK's, not a guess at the
    /// next step, because nothing is asked any more.
    pub(super) fn certain_at(&self) -> Duration {
        let rtt = self.records.slowest_reply().unwrap_or_default();
        let last = self.records.0.iter().filter(|r| r.lost()).map(|r| r.sent_at).max().unwrap_or_default();
        let margin = (rtt / 20).min(Duration::from_millis(4)) + Duration::from_millis(2);
        last + rtt + margin * self.reorder
    }

    /// When a router has had the time to say packet too big, if it is slow to: not every one does so in its hardware.
    pub(super) fn word_due(&self) -> Duration {
        let passes = self.records.passes();
        let fails = || self.records.0.iter().filter(|r| r.counts && Some(r.size) > passes);
        if fails().any(Record::turned_away) {
            // Somebody has said another.
            return Duration::ZERO;
        }
        let first = fails().filter(|r| r.lost()).map(|r| r.sent_at).min().unwrap_or_default();
        let took = match &self.phase {
            Phase::Hops(locate) => locate.last_router_took(&self.records),
            _ => None,
        };
        let patience = match took {
            Some(took) => 2 * took + SLOWER_THAN_SEEN,
            None => 2 * self.records.fastest_reply().unwrap_or_default() + SLOW_ROUTER,
        };
        // Scouts of such sizes left before, if nobody drops them.
        let before =
            if self.arrived.is_some() || self.before.too_big > 0 { self.waited } else { Duration::ZERO };
        (first + patience.min(self.plan.timeout)).saturating_sub(before)
    }

    pub(super) fn next_sizes(&mut self) -> Next {
        let Some(lo) = self.records.passes() else { return self.silent_target() };
        if lo == self.plan.max {
            if self.records.sent(lo) == 1 && self.records.lost_below(lo) {
                return Next::Flight(vec![lo, self.plan.control, lo]);
            }
            return Next::Conclude(Verdict::Clear);
        }
        if let Some(limit) = self.plan.unknown_protocol.filter(|_| self.by_scouts.is_none())
            && !self.records.answers_probes()
            && self.claim(lo).is_none_or(|claim| claim < lo)
        {
            return Next::Flight(self.ask_by_scouts(limit));
        }
        let floor = self.plan.floor;
        let understated = |(size, mtu, _): &(u32, u32, _)| mtu < size && *mtu >= floor && *mtu < lo;
        let understated = self.records.too_bigs().find(understated);
        if let Some((_, mtu, from)) = understated {
            self.understated(mtu, lo, from);
        }
        let claim = self.claim(lo).filter(|m| *m >= lo);
        if claim == Some(lo) {
            return self.named(lo);
        }
        let Some(hi) = self.records.fails(lo) else {
            // Whatever was lost was lost with its control: ask again, largest first.
            let again = claim.unwrap_or(self.plan.max);
            if self.rationed() {
                // One answer a flight: they tell how long another takes.
                return Next::Flight(vec![again, lo]);
            }
            return Next::Flight(vec![again, lo, again, lo]);
        };
        if hi - lo > 1 {
            return Next::Flight(self.refine(lo, hi));
        }
        if self.records.too_bigs().any(|(size, _, _)| size == hi) {
            return Next::Conclude(Verdict::Narrowed);
        }
        if self.records.too_big_here(hi) {
            return Next::Conclude(Verdict::Narrowed);
        }
        let failures = self.records.failures(hi, lo);
        let wanted = self.failures_wanted(lo);
        if failures >= wanted {
            let Some(at) = self.another_word(hi) else { return Next::Conclude(Verdict::BlackHole) };
            self.next_send = self.next_send.max(at);
            return Next::Flight(vec![hi, lo]);
        }
        if self.rationed() {
            let copies = usize::try_from(wanted - failures).unwrap_or(1).clamp(2, 10);
            return Next::Flight([vec![hi; copies], vec![lo]].concat());
        }
        let count = (wanted - failures).clamp(1, (self.room(hi) / 2).max(1));
        Next::Flight([hi, lo].repeat(usize::try_from(count).unwrap_or(1)))
    }

    /// The size that a router named arrives. Where the target answers nothing but scouts, one byte more that arrives
    /// would not be heard of: the router must have refused it.
    fn named(&mut self, size: u32) -> Next {
        if self.records.answers_probes() || self.records.too_bigs().any(|(sent, _, _)| sent == size + 1) {
            Next::Conclude(Verdict::Narrowed)
        } else if self.flight < 8 {
            self.wait_for_another_word();
            Next::Flight(vec![size + 1, size, size + 1])
        } else {
            Next::Conclude(Verdict::Inconclusive)
        }
    }

    /// Sizes between what passes and what fails, among controls.
    pub(super) fn refine(&self, lo: u32, hi: u32) -> Vec<u32> {
        if self.rationed() {
            return self.ration(lo, hi);
        }
        let room = self.room(lo.midpoint(hi));
        // As many losses as it will take when this flight's own two controls have come back.
        let (sent, lost) = self.records.control_losses(lo);
        let all = enough_failures((sent + 2, lost));
        let width = hi - lo - 1;
        // The upper end was lost once already.
        if (width + 1) * all < room {
            // All of them at once, as often as it takes to be sure: this flight settles it.
            let inner: Vec<u32> = (lo + 1..hi).rev().collect();
            let mut flight = Vec::new();
            for round in 1..=all {
                flight.extend((round < all).then_some(hi));
                flight.extend(&inner);
                flight.extend((round == all.div_ceil(2) || round == all).then_some(lo));
            }
            return flight;
        }
        // Most paths narrow where paths usually do: then one byte more, lost a few times, is all that is missing.
        // But the flight must leave no more sizes than the next one can settle, by three losses of each.
        let rest = room.saturating_sub(2 * all + 3);
        let usual =
            self.flight == 1 && lo > self.plan.control && rest > 0 && (width / rest + 1) * 3 + 2 <= room;
        let (mut flight, count) = if usual {
            ([vec![lo], [lo + 1, lo].repeat(usize::try_from(all).unwrap_or(1))].concat(), rest + 1)
        } else {
            (vec![lo], room.saturating_sub(3))
        };
        let mut sizes = match usize::try_from(count).unwrap_or(1) {
            // The one above `lo` alone would take a flight for each byte.
            ..=1 => halves(lo, hi),
            count => between(lo, hi, count),
        };
        sizes.retain(|size| !usual || *size > lo + 1);
        sizes.reverse();
        // In the middle too: a burst of losses at one end must not void the whole flight.
        if sizes.len() > 5 {
            sizes.insert(sizes.len() / 2, lo);
        }
        flight.append(&mut sizes);
        flight.push(lo);
        flight
    }

    /// Losses of one size after which chance is out, given the loss seen among sizes that pass.
    fn failures_wanted(&self, lo: u32) -> u32 {
        enough_failures(self.records.control_losses(lo))
    }

    /// A router that said packet too big once, and not again a few times, may say so once a second: the next flight leaves
    /// when he has another word.
    fn wait_for_another_word(&mut self) {
        if self.flight >= 4 {
            let word = |r: &&Record| r.too_big().is_some();
            let last = self.records.0.iter().rfind(word).map_or(Duration::ZERO, |r| r.sent_at + ANOTHER_WORD);
            self.next_send = self.next_send.max(last);
        }
    }

    /// When whoever refused larger packets than `size` with a word has another, where he said nothing of this one: routers
    /// say so once a second (RFC 1812 §4.3.2.8; Linux: `icmp_ratelimit`).
    fn another_word(&self, size: u32) -> Option<Duration> {
        // Resets are not limited.
        let word =
            |r: &Record| r.looped().is_some() || r.refused().is_some_and(|(_, word)| word != Word::Reset);
        let refused = |r: &&Record| r.size >= size && word(r);
        let last = self.records.0.iter().rfind(refused)?.sent_at + ANOTHER_WORD;
        let asked = self.records.0.iter().any(|r| r.size == size && (r.turned_away() || r.sent_at >= last));
        (!asked && last + self.plan.timeout / 4 < self.plan.deadline).then_some(last)
    }

    /// Nothing came from the target. Routers may have spoken all the same.
    fn silent_target(&mut self) -> Next {
        if self.by_scouts.is_none()
            && self.forbidden().is_some()
            && let Some(limit) = self.plan.unknown_protocol
        {
            return Next::Flight(self.ask_by_scouts(limit));
        }
        if let Some(m) = self.claim(0) {
            // No PTB for three packets of the named size and one for a larger one: the named size is right,
            // as far as the routers go.
            let quiet = self.records.lost(m);
            let loud = self.records.too_bigs().any(|(size, _, _)| size == m + 1);
            if quiet >= 3 && loud {
                self.note(PathNote::TargetSilent);
                return Next::Conclude(Verdict::Narrowed);
            }
            if self.flight < 8 {
                self.wait_for_another_word();
                return Next::Flight(vec![m, m + 1, m]);
            }
            return Next::Conclude(Verdict::Inconclusive);
        }
        let control = self.plan.control;
        if self.records.too_bigs().next().is_some() {
            // What they name is refused as well. The target may answer all the same.
            if self.flight >= SILENT_FLIGHTS {
                return Next::Conclude(Verdict::Inconclusive);
            }
            let last = self.records.0.last().map_or(Duration::ZERO, |r| r.sent_at);
            self.next_send = self.next_send.max(last + self.plan.timeout / 4);
            return Next::Flight(vec![control, self.plan.max, control]);
        }
        let told = |r: &Record| r.size == control && r.refused().is_some() || r.looped().is_some();
        // Who has answered before has another answer by and by.
        let refused = self.before.answered == 0 && self.records.0.iter().any(told);
        if refused || self.flight >= SILENT_FLIGHTS {
            return Next::Conclude(Verdict::Unreachable);
        }
        Next::Flight(vec![control, self.plan.max, control])
    }
}

/// Losses of one size that chance does not explain, where (sent, lost) were seen of sizes that pass.
pub(super) fn enough_failures(seen: (u32, u32)) -> u32 {
    let (least, chance) =
        if seen.1 == 0 { (LEAST_FAILURES - 1, CHANCE_WITHOUT_LOSS) } else { (LEAST_FAILURES, CHANCE) };
    let mut wanted = least;
    while wanted < 40 && outcome::chance_of_losses(seen, wanted) > chance {
        wanted += 1;
    }
    wanted
}
