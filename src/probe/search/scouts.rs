//! When the target is asked by packets that nobody takes, and when by nothing else.

use super::event::distance;
use super::record::{Fate, Record};
use super::{Answer, AnswerLimit, Aside, Event, Phase, Plan, Queued, Scouted, Search};
use crate::facts::Verdict;
use std::time::Duration;

/// How long a target is waited for at the least before it is asked by scouts as well.
const LEAST_PATIENCE: Duration = Duration::from_micros(100);

/// As many answers in a row as a limit on all of ICMP that is used up hardly gives.
const PILOTS: usize = 2;

/// How a scout looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scout {
    /// Protocol 253 (RFC 3692): nobody speaks it.
    Protocol,
    /// UDP from port 0 to port 0. RFC 768 reserves it, no socket can have it: neither can it be delivered, nor is there
    /// one that its errors would be told to. Targets that drop strange protocols may answer it; so may a firewall before
    /// them, in their name where addresses are translated. It confirms what something else says, and proves nothing alone.
    Datagram,
    /// ICMP timestamp request (RFC 792), over IPv4 alone: the reply is small however large the request, and no error, so that
    /// no host has few of them. Some filter it. Over IPv6 as [`Self::Protocol`].
    Timestamp,
}

/// What scouts are to ask, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) size: u32,
    /// A router has named it.
    pub(super) named: bool,
    pub(super) at: Duration,
}

impl Search {
    /// A search that begins with what scouts have shown: no size that would draw a PTB is sent, and of the ladder
    /// only what is left to learn.
    pub fn knowing(plan: Plan, scouted: &Scouted) -> Self {
        let mut search = Self::paced(plan, scouted.rtt);
        search.before = scouted.probes();
        search.waited = scouted.waited;
        search.arrived = scouted.arrived;
        search.disproved.clone_from(&scouted.disproved);
        search.refused_before.clone_from(&scouted.refused);
        search.bytes = scouted.sent.iter().map(|size| u64::from(*size)).sum();
        let (max, control) = (search.plan.max, search.plan.control);
        let too_bigs = scouted.too_bigs.iter().map(|&(size, mtu, from)| (size, Answer::TooBig { mtu, from }));
        // Where none is known to arrive their kind may be refused, and not their size.
        let errors = scouted.errors.iter().copied().filter(|_| scouted.arrived.is_some());
        for (size, answer) in too_bigs.chain(errors) {
            let fate = Fate::Answered { at: Duration::ZERO, answer };
            let known = Record { size, fate, ..Record::KNOWN };
            search.records.0.push(known);
        }
        if let Some(at) = scouted.rtt.filter(|_| scouted.answers_echo) {
            let (size, fate) = (control, Fate::Answered { at, answer: Answer::reply(None) });
            search.records.0.push(Record { size, fate, ..Record::KNOWN });
        }
        for &(mtu, from) in &scouted.disproved {
            search.understated(mtu, scouted.arrived.unwrap_or(mtu), from);
        }
        let arrived = scouted.arrived.max(scouted.likely).filter(|arrived| *arrived > control);
        let silent = scouted.sent.iter().copied().filter(|size| arrived.is_some_and(|a| *size > a)).min();
        // A router that names less than what arrived is wrong, unless the same size was refused afterwards.
        let learned = arrived.filter(|a| scouted.too_bigs.iter().all(|(size, _, _)| size > a));
        let claim = search.claim(0).filter(|claim| learned.is_none_or(|arrived| *claim >= arrived));
        let first = match (claim, arrived, silent) {
            // The control has been answered.
            (Some(claim), _, _) if scouted.answers_echo => vec![claim, control],
            (Some(claim), _, _) => vec![control, claim, control],
            (None, Some(arrived), _) if arrived == max => vec![control, max, max, control],
            (None, Some(arrived), Some(silent)) => search.refine(arrived, silent),
            _ => return search,
        };
        search.queue = first.into_iter().map(Queued::from).collect();
        search
    }

    /// Takes an answer of the target to what was sent before the search: the first one, where there was none in time, and
    /// one to a packet that a router has refused.
    pub(super) fn late(&mut self, event: Event, now: Duration) {
        if !matches!(event.answer, Answer::Reply { .. }) || matches!(self.phase, Phase::Done) {
            return;
        }
        let fate = Fate::Answered { at: self.waited + now, answer: event.answer };
        if let Some(&(_, size)) = self.refused_before.iter().find(|(id, _)| *id == event.id) {
            let words = self.records.0.iter().filter(|r| r.size == size).filter_map(Record::too_big);
            self.disproved.extend(words.collect::<Vec<_>>());
            for record in &mut self.records.0 {
                if record.too_big().is_some_and(|word| self.disproved.contains(&word)) {
                    (record.fate, record.counts) = (Fate::Lost, false);
                }
            }
            for (mtu, from) in self.disproved.clone() {
                self.understated(mtu, size, from);
            }
            self.records.0.push(Record { size, fate, ..Record::KNOWN });
            self.queue.clear();
            (self.phase, self.verdict, self.news) = (Phase::Sizes, None, true);
            return;
        }
        let answered = self.records.passes().is_some() || self.rtt.is_some();
        if !answered && self.before.sent > 0 {
            self.records.0.push(Record { size: self.plan.control, fate, ..Record::KNOWN });
            self.news = true;
        }
    }

    /// The size to ask by scouts, and when: one that a router named and the target does not answer soon, as routers and
    /// its other answers go (a target that is only farther away answers all the same; one whose answers are few may have
    /// none left); the smallest where nobody says anything.
    pub(super) fn scouts(&self) -> Option<Asked> {
        if !matches!(self.phase, Phase::Sizes) {
            return None;
        }
        let passes = self.records.passes();
        let asked = match (self.claim(passes.unwrap_or(0)), self.records.slowest_router()) {
            (Some(claim), Some(router))
                if self.plan.scouts
                    && self.by_scouts.is_none()
                    && claim >= self.plan.control
                    && passes.is_none_or(|passes| passes < claim) =>
            {
                let asked = self.records.0.iter().find(|r| r.size == claim)?.sent_at;
                let answers = self.records.slowest_reply().unwrap_or_default() * 2;
                Asked { size: claim, named: true, at: asked + (router * 4).max(answers).max(LEAST_PATIENCE) }
            }
            (None, None)
                if passes.is_none()
                    && self.by_scouts.is_none()
                    && self.plan.unknown_protocol.is_some()
                    && self.flight > 1
                    && self.something_left() =>
            {
                // Again and again: who was asked a moment ago has no answer left until a second has gone by.
                let last = self.records.0.iter().filter(|r| r.scout).map(|r| r.sent_at).max();
                let at = last.map_or(Duration::ZERO, |last| last + self.plan.timeout / 4);
                return Some(Asked { size: self.plan.control, named: false, at });
            }
            _ => return None,
        };
        (self.scouted != Some(asked.size)).then_some(asked)
    }

    /// What finds out which way a black hole is on, once: echo replies are as large as what they answer. Scouts of the
    /// largest size and of the smallest that vanishes; the target says in errors of a small size that they arrived. It has
    /// few. Over IPv6 it was asked before the search; what is refused by a word, or here, is on the way there.
    pub(super) fn back_scouts(&mut self) -> Vec<Queued> {
        let asks = self.plan.scouts
            && !self.asked_back
            && self.by_scouts.is_none()
            && self.verdict == Some(Verdict::BlackHole)
            && self.records.answers_probes();
        let passes = self.records.passes().filter(|_| asks);
        let vanishes = passes.and_then(|passes| self.records.fails(passes)).filter(|size| {
            let mut asked = self.records.0.iter().filter(|r| r.size == *size);
            asked.all(|r| r.fate == Fate::Lost && !r.held)
        });
        let Some(large) = vanishes else { return Vec::new() };
        self.asked_back = true;
        // With one that arrives: without its answer there was none left for the others.
        let sizes = [self.plan.max, large, self.plan.control];
        let looks = [Scout::Timestamp, Scout::Protocol].into_iter();
        // Where packets are lost by chance, one of each is not enough.
        let copies = if self.records.control_losses(passes.unwrap_or(0)).1 > 0 { 3 } else { 1 };
        let each = |look| std::iter::repeat_n(sizes.map(|size| Queued::scout(size, look)), copies);
        let asked = looks.flat_map(each).flatten();
        asked.map(|queued| Queued { aside: Some(Aside::Back), ..queued }).collect()
    }

    /// The largest size of which the target has said, in an error of a small size, that it arrived; where the two ways were
    /// to be told apart.
    pub fn arrived_back(&self) -> Option<u32> {
        let back = |r: &&Record| r.aside == Some(Aside::Back) && self.is_from_the_target(r);
        self.records.0.iter().filter(back).map(|r| r.size).max()
    }

    /// How that one looked, the first of several.
    pub fn arrived_by(&self) -> Option<Scout> {
        let back = |r: &&Record| r.aside == Some(Aside::Back) && self.is_from_the_target(r);
        self.records.0.iter().rev().filter(back).max_by_key(|r| r.size)?.look
    }

    /// The size of the path, where the target says of scouts that it arrives and does not answer an echo request of it, but
    /// a smaller one that was sent afterwards: its replies may be lost on the way back.
    pub fn unreturned(&self) -> Option<u32> {
        let size = self.records.passes().filter(|_| self.by_scouts.is_none())?;
        let echo = |r: &Record| r.counts && !r.scout && !r.early;
        let asked = |r: &Record| echo(r) && r.size == size;
        let all = &self.records.0;
        let last = all.iter().rposition(asked).filter(|_| !all.iter().any(|r| asked(r) && r.replied()))?;
        let later = all.iter().skip(last).any(|r| echo(r) && r.size < size && r.replied());
        later.then_some(size)
    }

    /// Whether what somebody says of a packet is said of its size: others may be refused for what they are.
    pub(super) fn asks_for_sizes(&self, record: &Record) -> bool {
        record.aside.is_none()
            && (record.look.is_none() || record.look == self.by_scouts.map(|(_, look)| look))
    }

    /// Whether answers with that TTL come from as far away as echo replies do, as far as that is known: else somebody before
    /// the target gives them in its name.
    pub fn is_as_far(&self, ttl: Option<u8>) -> bool {
        let echo = |r: &Record| match r.fate {
            Fate::Answered { answer: Answer::Reply { ttl, .. }, .. } if r.look.is_none() => distance(ttl?),
            _ => None,
        };
        let echo = self.records.0.iter().find_map(echo);
        let other = ttl.and_then(distance);
        echo.is_none() || other.is_none() || echo == other
    }

    fn is_from_the_target(&self, record: &Record) -> bool {
        match record.fate {
            Fate::Answered { answer: Answer::Reply { ttl, .. }, .. } => self.is_as_far(ttl),
            _ => false,
        }
    }

    /// Whether a packet is on its way or was lost there: not all were refused here.
    pub(super) fn something_left(&self) -> bool {
        self.records.0.iter().any(|r| matches!(r.fate, Fate::InFlight | Fate::Lost) && !r.held)
    }

    /// The target has answered a scout of the first flight, and no echo request in twice the time.
    pub(super) fn echo_is_overdue(&self, now: Duration) -> bool {
        let Some(rtt) = self.records.slowest_reply().filter(|_| self.flight == 1) else { return false };
        let open = self.records.0.iter().filter(|r| r.fate == Fate::InFlight && r.look.is_none());
        self.by_scouts.is_none()
            && matches!(self.phase, Phase::Sizes)
            && !self.records.answers_probes()
            && self.claim(0).is_none()
            && open.map(|r| r.sent_at).all(|sent_at| now >= sent_at + 2 * rtt)
    }

    /// Somebody forbids echo requests; others may be let through. How long he took to say so.
    pub(super) fn forbidden(&self) -> Option<Duration> {
        let took = |r: &Record| match r.fate {
            // Whatever the word, where the target has been heard.
            Fate::Answered { at, answer }
                if answer.forbids() || self.arrived.is_some() && r.refused().is_some() =>
            {
                Some(at.saturating_sub(r.sent_at))
            }
            _ => None,
        };
        self.records.0.iter().filter_map(took).max().filter(|_| self.plan.unknown_protocol.is_some())
    }

    /// Timestamp requests of the smallest size, once, where echo requests are answered too rarely or not at all: a firewall
    /// limits or drops one kind as a rule.
    pub(super) fn pilots(&mut self) -> Vec<Queued> {
        let asks = self.plan.scouts && self.plan.answers.is_none() && self.by_scouts.is_none();
        if !asks || std::mem::replace(&mut self.piloted, true) {
            return Vec::new();
        }
        vec![
            Queued { aside: Some(Aside::Pilot), ..Queued::scout(self.plan.control, Scout::Timestamp) };
            PILOTS
        ]
    }

    /// Whether all of them were, while the size is searched for and the one that a router has named does not arrive.
    pub(super) fn pilots_are_answered(&self) -> bool {
        let named = self.records.passes().is_some_and(|passes| self.claim(passes) == Some(passes));
        let mut pilots = self.records.0.iter().filter(|r| r.aside == Some(Aside::Pilot));
        self.piloted
            && !named
            && self.by_scouts.is_none()
            && matches!(self.phase, Phase::Sizes)
            && pilots.clone().count() == PILOTS
            && pilots.all(|pilot| self.is_from_the_target(pilot))
    }

    /// Echo requests are filtered: the target is asked by timestamp requests if it has answered one, else its errors are
    /// all there is, so many as the `limit` says.
    pub(super) fn ask_by_scouts(&mut self, limit: AnswerLimit) -> Vec<u32> {
        let timestamps = self.records.0.iter().any(|r| r.look == Some(Scout::Timestamp) && r.replied());
        if timestamps {
            self.ask_by(Scout::Timestamp, None)
        } else {
            self.ask_by(Scout::Protocol, Some(limit))
        }
    }

    /// What became of echo requests says nothing any more, but what arrived.
    pub(super) fn ask_by(&mut self, look: Scout, limit: Option<AnswerLimit>) -> Vec<u32> {
        self.by_scouts = Some((self.records.0.len(), look));
        for record in &mut self.records.0 {
            record.scout = true;
            record.counts &= matches!(record.fate, Fate::Answered { .. }) && !record.turned_away();
            if record.fate == Fate::InFlight {
                record.fate = Fate::Lost;
            }
        }
        if let Some(size) = self.arrived {
            // The target has said so before the search.
            let at = self.rtt.unwrap_or(self.waited);
            let fate = Fate::Answered { at, answer: Answer::reply(None) };
            self.records.0.push(Record { size, fate, ..Record::KNOWN });
        }
        self.rtt = self.rtt.or(self.records.fastest_reply());
        self.plan.answers = limit;
        self.plan.first_flight(true)
    }
}
