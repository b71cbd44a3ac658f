//! What an answer changes.

use super::event::{Answer, Event};
use super::record::Fate;
use super::{Aside, Phase, Queued, Search};
use crate::facts::{PathNote, Verdict};
use std::net::IpAddr;
use std::time::Duration;

impl Search {
    /// Takes an answer. One for a probe that was never sent, or was answered before, changes nothing.
    pub fn on_event(&mut self, event: Event, now: Duration) {
        if let Answer::TooBig { mtu, from } = event.answer
            && self.disproved.contains(&(mtu, from))
        {
            return;
        }
        let (large_from, passes) = match &self.phase {
            Phase::Hops(locate) => (locate.large, self.records.passes()),
            _ => (u32::MAX, None),
        };
        let Some(record) = self.records.0.get_mut(usize::from(event.id)) else {
            return self.late(event, now);
        };
        let mut disproved = None;
        match record.fate {
            Fate::Answered { answer, .. } if record.ttl.is_none() && answer.is_outdone_by(&event.answer) => {
                // It arrived after all, if not every copy of it.
                if let Answer::TooBig { mtu, from } = answer {
                    self.disproved.push((mtu, from));
                    disproved = Some((mtu, record.size, from));
                }
            }
            Fate::Answered { .. } => return,
            Fate::Lost if record.held => return,
            // It was judged too early: allow for more reordering from now on.
            Fate::Lost => self.reorder = (self.reorder * 2).min(64),
            Fate::InFlight => {}
        }
        let size = record.size;
        let hop_by_scout = record.ttl.is_some() && record.look.is_some() && self.by_scouts.is_none();
        if record.aside.is_some() {
            record.fate = Fate::Answered { at: now, answer: event.answer };
            return;
        }
        if record.early && self.by_scouts.is_none() && !matches!(event.answer, Answer::Reply { .. }) {
            // That somebody refuses a protocol which nobody speaks is no news.
            return;
        }
        record.counts |= record.scout && record.ttl.is_none();
        record.held = event.answer == Answer::NotSent { too_big: false };
        record.fate = match event.answer {
            // As certain as any other loss, and known at once.
            Answer::NotSent { too_big: false } => Fate::Lost,
            answer => Fate::Answered { at: now, answer },
        };
        self.news = true;
        let black_hole = self.verdict == Some(Verdict::BlackHole);
        let (disproves, replied) = match event.answer {
            Answer::Reply { .. } => (size >= large_from, true),
            // A router that is slow to say so.
            Answer::TooBig { mtu, .. } => {
                (size >= large_from && black_hole && mtu < size && Some(mtu) >= passes, false)
            }
            _ => (false, false),
        };
        if disproves && replied && black_hole && hop_by_scout {
            // Echo replies of that size are what vanishes.
            record.aside = Some(Aside::Back);
        } else if disproves {
            // It arrived after all: a PTB named too little, or a loss was judged too early. The verdict is taken back.
            (record.ttl, record.counts) = (None, true);
            (self.phase, self.verdict) = (Phase::Sizes, None);
            self.queue.clear();
        }
        if let Some((mtu, passes, from)) = disproved {
            self.understated(mtu, passes, from);
        }
        if self.by_scouts.is_none() && (self.records.answers_probes() || self.claim(0).is_some()) {
            // There is better to go by than what the target says of a protocol: that may have come another way.
            self.records.0.iter_mut().filter(|r| r.early).for_each(|r| r.counts = false);
        }
        if !matches!(event.answer, Answer::NotSent { .. }) {
            self.leave_out_rare();
        }
        match event.answer {
            Answer::TooBig { mtu, from } if mtu >= size || mtu < self.plan.floor => {
                // Once for each router and value, whatever the sizes that it was said of.
                let said = |n: &PathNote| matches!(n, PathNote::PtbInvalid { mtu: m, from: f, .. } if (*m, *f) == (mtu, from));
                if !self.notes.iter().any(said) {
                    self.note(PathNote::PtbInvalid { mtu, size, from });
                }
            }
            Answer::TooBig { mtu, .. } if matches!(self.phase, Phase::Sizes) => {
                // One packet has left the queues: another may follow it at once, and they are no fuller.
                if self.plan.rate_pps.is_none() && !self.rationed() {
                    self.next_send = self.next_send.min(now);
                }
                // Larger ones that are still queued would draw the same answer, and of the ladder below nothing is
                // left to learn: the named size is tried next.
                let (first, control) = (self.flight == 1, self.plan.control);
                // Unless more than it names has arrived already.
                let lie = self.records.passes().is_some_and(|passes| mtu < passes);
                self.queue.retain(|queued| match lie {
                    true => queued.size < size,
                    false => queued.size == mtu || queued.size < mtu && (!first || queued.size <= control),
                });
            }
            Answer::Reply { .. }
                if size == self.plan.max
                    && matches!(self.phase, Phase::Sizes)
                    && self.by_scouts.is_none()
                    && self.queue.iter().any(|queued| queued.size > self.plan.control)
                    && self.records.sent(size) == 1 =>
            {
                // The sizes between are carried too. A second packet, for tunnels that let the first one through.
                self.queue.clear();
                self.queue.extend([size, self.plan.control].map(Queued::from));
            }
            // The largest that passes comes first and tells of all the others.
            Answer::Reply { .. } if self.rationed() && matches!(self.phase, Phase::Sizes) => {
                self.queue.clear()
            }
            Answer::NotSent { too_big: false } => self.note(PathNote::SendRefused),
            _ => {}
        }
    }

    /// Something has come back: there is something better to do than to go on with rare sizes.
    pub(super) fn leave_out_rare(&mut self) {
        let waiting = self.queue.len();
        self.queue.retain(|queued| !queued.rare);
        if std::mem::take(&mut self.went_on) && self.queue.len() < waiting {
            self.queue.push_back(self.plan.control.into());
        }
    }

    /// Once for each router and value, with the largest that arrived.
    pub(super) fn understated(&mut self, mtu: u32, passes: u32, from: IpAddr) {
        let same = |n: &PathNote| match n {
            PathNote::PtbUnderstates { mtu: m, from: f, passes } if (*m, *f) == (mtu, from) => Some(*passes),
            _ => None,
        };
        let passes = self.notes.iter().filter_map(same).max().unwrap_or(0).max(passes);
        self.notes.retain(|note| same(note).is_none());
        self.note(PathNote::PtbUnderstates { mtu, passes, from });
    }
}
