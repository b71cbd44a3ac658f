//! How long each probe is waited for, and when it is given up.

use super::record::{Fate, Record};
use super::{Aside, Phase, Search, sizes};
use std::time::Duration;

impl Search {
    /// How long a probe is waited for: (with a later one answered, as the last one). As RACK (RFC 8985)
    /// does: shortly after later ones were answered, longer when nothing came after it. What is judged too early
    /// costs packets and no truth: its answer still counts, and a verdict waits longer ([`Self::certain_at`]).
    fn patience(&self) -> (Duration, Duration) {
        let Some(rtt) = self.records.slowest_reply() else {
            let timeout = self.silent_patience();
            return (timeout, timeout);
        };
        let timeout = self.plan.timeout;
        if self.told() {
            // Who else is there is worth no wait; what arrives after all left before its control.
            // The first answer may have taken long, while the way was looked up.
            let rtt = rtt.min(self.records.fastest_reply().unwrap_or(rtt) * 2);
            let soon = (rtt + rtt / 50 + Duration::from_micros(100)).min(timeout);
            return (soon, soon);
        }
        let margin = (rtt / 50).min(Duration::from_millis(2)) + Duration::from_millis(1);
        let later = rtt + margin * self.reorder;
        let last = rtt * 2 + Duration::from_millis(10) * self.reorder;
        (later.min(timeout), last.min(timeout))
    }

    /// Whether a router has said itself what the hops are asked for.
    fn told(&self) -> bool {
        matches!(&self.phase, Phase::Hops(locate) if locate.told(&self.records))
    }

    /// The same while the target has answered nothing. The last flight ends when the first has had the whole timeout:
    /// what comes late counts. Where routers answer, the target is rarely many times as far.
    fn silent_patience(&self) -> Duration {
        let timeout = self.plan.timeout;
        match self.records.slowest_router() {
            Some(rtt) if self.told() => timeout.min(rtt * 2 + Duration::from_millis(10)),
            // Three of the size that a router named, for chance; the last is waited for.
            Some(rtt) if self.claim(0).is_some_and(|named| self.records.sent(named) < 3) => {
                timeout.min((rtt * 8).max(timeout / 20))
            }
            Some(rtt) => timeout.min((rtt * 8).max(timeout / 4)),
            // A target behind who forbids echo requests, and has said nothing yet: else that is the verdict.
            None if self.by_scouts.is_some()
                && self.before.answered == 0
                && let Some(took) = self.forbidden() =>
            {
                timeout.min((took * 8).max(timeout / 10))
            }
            None if self.plan.answers.is_some() => timeout,
            None if self.flight < sizes::SILENT_FLIGHTS => timeout / 4,
            // The last scout leaves when a host that gives one answer a second has another, whoever took the one before.
            None if self.plan.early_scouts() => timeout / 2 + timeout / 200,
            None => timeout / 2,
        }
    }

    /// Probes in flight, each with the time at which it is given up. A target that answers others needs no scouts.
    fn in_flight(&self) -> impl Iterator<Item = (usize, Duration)> + '_ {
        let (later, last) = self.patience();
        let newest_reply = self.records.0.iter().rposition(Record::replied);
        // Scouts prolong no silence: they are sent until it ends.
        let others =
            self.records.answers_probes() || self.claim(0).is_none() && self.records.passes().is_none();
        let open = move |r: &Record| {
            r.fate == Fate::InFlight && (r.aside == Some(Aside::Back) || !(r.scout && others))
        };
        self.records.0.iter().enumerate().filter(move |(_, r)| open(r)).map(move |(at, r)| {
            let patience = if newest_reply.is_some_and(|newest| newest > at) { later } else { last };
            (at, r.sent_at + patience)
        })
    }

    pub(super) fn judge(&mut self, now: Duration) {
        let lost: Vec<usize> =
            self.in_flight().filter(|(_, until)| now >= *until).map(|(at, _)| at).collect();
        self.news |= !lost.is_empty();
        for at in lost {
            if let Some(record) = self.records.0.get_mut(at) {
                record.fate = Fate::Lost;
            }
        }
    }

    /// When the next probe in flight will be judged; `None` when nothing is in flight. Who looks for the hop waits for no
    /// size any more.
    pub(super) fn unsettled(&self, now: Duration) -> Option<Duration> {
        let from = if let Phase::Hops(locate) = &self.phase { locate.first_record } else { 0 };
        let waited = self.in_flight().filter(|(at, _)| *at >= from);
        waited.map(|(_, until)| until.max(now + Duration::from_micros(1))).min()
    }
}
