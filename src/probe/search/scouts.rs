//! When the target is asked by packets of a protocol that nobody speaks, and when by nothing else.

use super::record::Fate;
use super::{AnswerLimit, Phase, Search};
use std::time::Duration;

/// How long a target is waited for at the least before it is asked by scouts as well.
const LEAST_PATIENCE: Duration = Duration::from_micros(250);

impl Search {
    /// The size to ask by scouts, and when: one that a router named and the target does not answer soon, as routers go (a
    /// target that is only farther away answers all the same); the smallest where nobody says anything.
    pub(super) fn scouts(&self) -> Option<(u32, Duration)> {
        if !matches!(self.phase, Phase::Sizes) || self.records.passes().is_some() {
            return None;
        }
        let (size, at) = match (self.claim(0), self.records.slowest_router()) {
            (Some(claim), Some(router)) if self.plan.scouts && claim >= self.plan.control => {
                let asked = self.records.0.iter().find(|r| r.size == claim)?.sent_at;
                (claim, asked + (router * 4).max(LEAST_PATIENCE))
            }
            (None, None)
                if self.plan.unknown_protocol.is_some() && self.flight > 1 && self.something_left() =>
            {
                // Again and again: who was asked a moment ago has no answer left until a second has gone by.
                let last = self.records.0.iter().filter(|r| r.scout).map(|r| r.sent_at).max();
                let at = last.map_or(Duration::ZERO, |last| last + self.plan.timeout / 4);
                return Some((self.plan.control, at));
            }
            _ => return None,
        };
        (self.scouted != Some(size)).then_some((size, at))
    }

    /// Whether a packet is on its way or was lost there: not all were refused here.
    pub(super) fn something_left(&self) -> bool {
        self.records.0.iter().any(|r| matches!(r.fate, Fate::InFlight | Fate::Lost) && !r.held)
    }

    /// The target has answered a scout of the first flight, and no echo request in twice the time.
    pub(super) fn echo_is_overdue(&self, now: Duration) -> bool {
        let Some(rtt) = self.records.slowest_reply().filter(|_| self.flight == 1) else { return false };
        let open = self.records.0.iter().filter(|r| r.fate == Fate::InFlight);
        !self.by_scouts
            && matches!(self.phase, Phase::Sizes)
            && !self.records.answers_probes()
            && self.claim(0).is_none()
            && open.map(|r| r.sent_at).all(|sent_at| now >= sent_at + 2 * rtt)
    }

    /// Echo requests are filtered, and what became of them says nothing: errors of the target are all there is.
    pub(super) fn ask_by_scouts(&mut self, limit: AnswerLimit) -> Vec<u32> {
        self.by_scouts = true;
        for record in &mut self.records.0 {
            record.scout = true;
            record.counts &= matches!(record.fate, Fate::Answered { .. });
            if record.fate == Fate::InFlight {
                record.fate = Fate::Lost;
            }
        }
        self.rtt = self.records.fastest_reply();
        self.plan.answers = Some(limit);
        self.plan.first_flight(true)
    }
}
