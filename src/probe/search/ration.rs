//! Answers that are few: a flight is to cost one of them.

use super::plan::between;
use super::record::Record;
use super::sizes::{ANOTHER_WORD, enough_failures};
use super::{AnswerLimit, Search};
use crate::facts::PathNote;
use std::time::Duration;

/// How far slowing down goes: pauses of 20 ms · 2ⁿ, at most one that suits a limit of one a second.
const SLOWEST: u32 = 6;
/// Pause between two sizes, while no round-trip time is known.
const UNKNOWN_RTT: Duration = Duration::from_millis(1);
/// The longest pause between two sizes.
const LONGEST_GAP: Duration = Duration::from_millis(50);
/// What a flight may take: less than the time for one more answer.
const FLIGHT_TIME: Duration = Duration::from_millis(500);
/// Sizes of one flight at the most.
const MOST_SIZES: usize = 30;
/// The same where the limit is a guess, or turned out to be used up: a flight may be sent in vain.
const SIZES_OF_A_GUESS: usize = 12;

impl Search {
    /// Time between two sizes: the answer to one comes before the next leaves, which then need not. None where answers
    /// are many.
    pub(super) fn ration_gap(&self) -> Duration {
        if !self.rationed() {
            return Duration::ZERO;
        }
        let rtt = self.records.slowest_reply().or(self.rtt);
        rtt.map_or(UNKNOWN_RTT, |rtt| rtt * 5 / 4 + UNKNOWN_RTT / 2).min(LONGEST_GAP)
    }

    /// Sizes between what passes and what fails from large to small: the largest that passes takes the answer, and tells
    /// of all the others. The flight is over before another answer is due.
    pub(super) fn ration(&self, lo: u32, hi: u32) -> Vec<u32> {
        let known = self.plan.answers.is_some() && self.slow == 0;
        let most = if known { MOST_SIZES } else { SIZES_OF_A_GUESS };
        let count = FLIGHT_TIME.as_micros() / self.ration_gap().as_micros().max(1);
        let count = usize::try_from(count).unwrap_or(most).clamp(4, most);
        if lo == self.plan.control && hi == self.plan.max {
            return [&self.plan.ladder(0)[..], &[lo]].concat();
        }
        let mut sizes = between(lo, hi, count);
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        // Losses cost no answer: where few sizes are left, or this one is likely, the same flight is sure of it.
        let (sent, lost) = self.records.control_losses(lo);
        let copies = usize::try_from(enough_failures((sent + 1, lost))).unwrap_or(1);
        let all = u32::try_from(sizes.len()).is_ok_and(|len| len == hi - lo - 1);
        let each = copies.min(count / (sizes.len() + 1));
        if all && each > 1 {
            sizes = [hi].into_iter().chain(sizes).flat_map(|size| vec![size; each]).collect();
        } else if self.plan.ladder(0).contains(&lo) {
            sizes.extend(vec![lo + 1; copies - 1]);
        }
        sizes.push(lo);
        sizes
    }

    /// Whether answers are few, known beforehand or learned.
    pub(super) fn rationed(&self) -> bool {
        self.slow > 0 || self.plan.answers.is_some()
    }

    /// How long to wait until the target can answer again.
    pub(super) fn ration_pause(&self, now: Duration) -> Duration {
        if let Some(AnswerLimit { burst, interval }) = self.plan.answers {
            let owed = self.records.replies().saturating_sub(burst) + 1;
            let spent = if self.records.replies() < burst { 0 } else { owed };
            // A flight of nothing but losses says that somebody had used them up: the next is due an interval after the
            // last, at the latest.
            if self.slow > 0 {
                let last = self.records.last_reply().unwrap_or_default();
                return (last + interval).saturating_sub(now).max(interval / 4);
            }
            return (interval * spent).saturating_sub(now);
        }
        if self.slow == 0 {
            return Duration::ZERO;
        }
        let guess = (Duration::from_millis(20) * 2u32.pow(self.slow.min(SLOWEST))).min(ANOTHER_WORD);
        // From the last answer on, so that there is another when the flight begins: else its losses say nothing.
        let refill =
            self.records.refill(self.records.passes().unwrap_or(0)).map_or(guess, |refill| refill * 21 / 20);
        let last = self.records.last_reply().unwrap_or_default();
        let due = (last + refill.min(ANOTHER_WORD)).saturating_sub(now);
        let answered =
            self.records.0.iter().rev().take_while(|r| r.flight == self.flight).any(Record::replied);
        if answered { due } else { due.max(guess) }
    }

    /// Controls that were lost in the last flight are no matter of size: fewer probes, longer pauses.
    pub(super) fn adapt_rate(&mut self) {
        let answers = self.by_scouts.is_some() || self.records.answers_probes();
        let Some(passes) = self.records.passes().filter(|_| answers) else { return };
        let controls =
            self.records.0.iter().filter(|r| r.flight == self.flight && r.counts && r.size <= passes);
        // A firewall may say so of those that are over its limit.
        let lost: Vec<bool> = controls.map(|r| r.lost() || r.turned_away()).collect();
        let count = lost.iter().filter(|lost| **lost).count();
        // Where answers run out those at the end are missing; chance takes one and leaves the next.
        let mixed = lost.windows(2).any(|pair| pair == [true, false]);
        let many = lost.len() >= count + 2 && lost.len() >= count * 2;
        // Answers that came after they were given up were late, and none was missing.
        let late =
            !self.records.0.iter().any(|r| r.counts && r.size <= passes && (r.lost() || r.turned_away()));
        if (mixed && many || late) && self.plan.answers.is_none() && self.slow > 0 {
            // More answers than a limit would give: it was chance.
            self.slow = 0;
            self.records.0.iter_mut().for_each(|r| r.rationed = false);
        }
        // In a rationed flight one answer is all that is hoped for.
        let short = if self.rationed() {
            !lost.is_empty() && count == lost.len()
        } else {
            count >= 2 && count * 2 >= lost.len() && !mixed
        };
        if short {
            self.slow = (self.slow + 1).min(SLOWEST);
            // These losses are the limit's, not the path's; and it was there from the beginning.
            let (flight, first) = (self.flight, self.slow == 1);
            self.records.0.iter_mut().filter(|r| first || r.flight == flight).for_each(|r| r.rationed = true);
            if self.slow > 1 {
                self.note(PathNote::LossNotBySize);
            }
        }
    }
}
