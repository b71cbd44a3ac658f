//! The path-MTU search: no clock, no socket. It is fed answers and asked for the next step.
//!
//! Probes are independent, so many sizes travel in one flight. A flight begins and ends with a size that
//! passes; what is missing between two answered controls is missing because of its size, or by chance, and
//! the confidence says how likely chance is.

mod event;
mod locate;
mod outcome;
mod pace;
mod patience;
mod plan;
mod ration;
mod record;
mod sizes;

pub use event::{Answer, Event, Probe, Scouted, Step};
pub(super) use plan::PATIENT;
pub use plan::{AnswerLimit, Plan};

use crate::facts::{PathNote, PathResult, Verdict};
use locate::Locate;
use pace::Backlog;
use record::{Fate, Record, Records};
use sizes::Next;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a target is waited for at the least before it is asked by scouts as well.
const LEAST_PATIENCE: Duration = Duration::from_micros(250);

#[derive(Debug)]
enum Phase {
    Sizes,
    Hops(Locate),
    Done,
}

/// One search. Times are durations since its start.
#[derive(Debug)]
pub struct Search {
    plan: Plan,
    phase: Phase,
    records: Records,
    queue: VecDeque<(u32, Option<u8>)>,
    /// How many at the end of the queue are sent only while nothing has come back.
    rare: usize,
    flight: u16,
    next_send: Duration,
    bytes: u64,
    backlog: Backlog,
    slow: u32,
    reorder: u32,
    notes: Vec<PathNote>,
    verdict: Option<Verdict>,
    located: Option<Locate>,
    finished: Duration,
    /// Round trip that was measured before the search.
    rtt: Option<Duration>,
    /// Something was answered or given up since the last look at it.
    news: bool,
    /// A verdict that stands unless an answer comes until then.
    hold: Option<Duration>,
    /// The size that scouts were last sent of, and whether they are leaving.
    scouted: Option<u32>,
    scouting: bool,
    /// Every probe is a scout: the target answers nothing else.
    by_scouts: bool,
}

impl Search {
    /// A search that has sent nothing yet.
    pub fn new(plan: Plan) -> Self {
        Self::paced(plan, None)
    }

    /// The same, with a round-trip time that was measured before.
    fn paced(plan: Plan, rtt: Option<Duration>) -> Self {
        let rare = plan.rare_sizes();
        let first = plan.first_flight(rtt.is_some()).into_iter().chain(rare.iter().copied());
        let queue = first.map(|size| (size, None)).collect();
        Self {
            rare: rare.len(),
            plan,
            phase: Phase::Sizes,
            records: Records::default(),
            queue,
            flight: 1,
            next_send: Duration::ZERO,
            bytes: 0,
            backlog: Backlog::default(),
            slow: 0,
            reorder: 1,
            notes: Vec::new(),
            verdict: None,
            located: None,
            finished: Duration::ZERO,
            hold: None,
            news: false,
            rtt,
            scouted: None,
            scouting: false,
            by_scouts: false,
        }
    }

    /// A search that begins with what scouts have shown: no size that would draw a PTB is sent, and of the ladder
    /// only what is left to learn.
    pub fn knowing(plan: Plan, scouted: &Scouted) -> Self {
        let mut search = Self::paced(plan, scouted.rtt);
        let (max, control) = (search.plan.max, search.plan.control);
        for &(size, mtu, from) in &scouted.too_bigs {
            let fate = Fate::Answered { at: Duration::ZERO, answer: Answer::TooBig { mtu, from } };
            let known = Record {
                size,
                ttl: None,
                flight: 0,
                rationed: false,
                scout: false,
                sent_at: Duration::ZERO,
                fate,
            };
            search.records.0.push(known);
        }
        let arrived = scouted.arrived.filter(|arrived| *arrived > control);
        let silent = scouted.sent.iter().copied().filter(|size| arrived.is_some_and(|a| *size > a)).min();
        // A router that names less than what arrived is wrong, unless the same size was refused afterwards.
        let learned = arrived.filter(|a| scouted.too_bigs.iter().all(|(size, _, _)| size > a));
        let claim = search.claim(0).filter(|claim| learned.is_none_or(|arrived| *claim >= arrived));
        let first = match (claim, arrived, silent) {
            (Some(claim), _, _) => vec![control, claim, control],
            (None, Some(arrived), _) if arrived == max => vec![control, max, max, control],
            (None, Some(arrived), Some(silent)) => search.refine(arrived, silent),
            _ => return search,
        };
        search.queue = first.into_iter().map(|size| (size, None)).collect();
        search.rare = 0;
        search
    }

    /// Takes an answer. One for a probe that was never sent, or was answered before, changes nothing.
    pub fn on_event(&mut self, event: Event, now: Duration) {
        let Some(record) = self.records.0.get_mut(usize::from(event.id)) else { return };
        match record.fate {
            Fate::Answered { .. } => return,
            // It was judged too early: allow for more reordering from now on.
            Fate::Lost => self.reorder = (self.reorder * 2).min(64),
            Fate::InFlight => {}
        }
        let size = record.size;
        record.fate = Fate::Answered { at: now, answer: event.answer };
        self.news = true;
        if matches!(&self.phase, Phase::Hops(locate) if size >= locate.large)
            && matches!(event.answer, Answer::Reply { .. })
        {
            // It arrived after all: a PTB named too little, or a loss was judged too early. The verdict is taken back.
            record.ttl = None;
            (self.phase, self.verdict) = (Phase::Sizes, None);
            self.queue.clear();
        }
        if !matches!(event.answer, Answer::NotSent { .. }) {
            self.leave_out_rare();
        }
        match event.answer {
            Answer::TooBig { mtu, from } if mtu >= size || mtu < self.plan.floor => {
                self.note(PathNote::PtbInvalid { mtu, size, from });
            }
            Answer::TooBig { mtu, .. } if matches!(self.phase, Phase::Sizes) => {
                // Larger ones that are still queued would draw the same answer, and of the ladder below nothing is
                // left to learn: the named size is tried next.
                let (first, control) = (self.flight == 1, self.plan.control);
                // Unless more than it names has arrived already.
                let lie = self.records.passes().is_some_and(|passes| mtu < passes);
                self.queue.retain(|(queued, _)| match lie {
                    true => *queued < size,
                    false => *queued == mtu || *queued < mtu && (!first || *queued <= control),
                });
            }
            Answer::Reply { .. }
                if size == self.plan.max
                    && matches!(self.phase, Phase::Sizes)
                    && self.queue.iter().any(|(queued, _)| *queued > self.plan.control)
                    && self.records.sent(size) == 1 =>
            {
                // The sizes between are carried too. A second packet, for tunnels that let the first one through.
                self.queue.clear();
                self.queue.extend([(size, None), (self.plan.control, None)]);
            }
            // The largest that passes comes first and tells of all the others.
            Answer::Reply { .. } if self.rationed() && matches!(self.phase, Phase::Sizes) => {
                self.queue.clear()
            }
            Answer::Refused { from, code } => self.note(PathNote::Refused { from, code }),
            Answer::NotSent { too_big: false } => self.note(PathNote::SendRefused),
            _ => {}
        }
    }

    /// Something has come back: there is something better to do than to go on with rare sizes.
    fn leave_out_rare(&mut self) {
        let begun = (1..self.rare).contains(&self.queue.len());
        self.queue.truncate(self.queue.len().saturating_sub(self.rare));
        if begun {
            self.queue.push_back((self.plan.control, None));
        }
        self.rare = 0;
    }

    /// The next step at `now`.
    pub fn poll(&mut self, now: Duration) -> Step {
        loop {
            if matches!(self.phase, Phase::Done) {
                return Step::Done;
            }
            self.judge(now);
            if now >= self.plan.deadline {
                self.stop(PathNote::Deadline, now);
                continue;
            }
            let settled = std::mem::take(&mut self.news) && self.settled();
            if settled {
                self.queue.clear();
            }
            if let Some(&(size, ttl)) = self.queue.front() {
                let next =
                    if self.queue.len() <= self.rare { self.next_send.max(PATIENT) } else { self.next_send };
                if now < next {
                    return Step::Wait(next.min(self.plan.deadline));
                }
                if self.exhausted(size) {
                    self.queue.clear();
                    // What was sent may still be answered.
                    if let Some(until) = self.unsettled(now) {
                        return Step::Wait(until.min(self.plan.deadline));
                    }
                    self.stop(PathNote::Budget, now);
                    continue;
                }
                self.queue.pop_front();
                let probe = self.send(size, ttl, now);
                return if self.is_scout(size, ttl) { Step::Scout(probe) } else { Step::Send(probe) };
            }
            if let Some(size) = self.untried_claim() {
                self.queue.push_back((size, None));
                continue;
            }
            let scouts = self.scouts();
            if let Some((size, _)) = scouts.filter(|(_, at)| now >= *at) {
                (self.scouted, self.scouting) = (Some(size), true);
                // One byte more than a router has named must be refused; of silence one answer tells enough.
                let sizes = if self.claim(0) == Some(size) { &[size, size + 1, size][..] } else { &[size] };
                self.queue.extend(sizes.iter().map(|size| (*size, None)));
                continue;
            }
            if let Some(until) = self.unsettled(now).filter(|_| !settled) {
                let until = scouts.map_or(until, |(_, at)| until.min(at));
                return Step::Wait(until.min(self.plan.deadline));
            }
            if let Some(until) = self.hold.take().filter(|until| now < *until) {
                self.hold = Some(until);
                return Step::Wait(until.min(self.plan.deadline));
            }
            self.advance(now);
        }
    }

    /// Ends the search early; what is known so far becomes the result.
    pub fn interrupt(&mut self, now: Duration) {
        self.stop(PathNote::Interrupted, now);
    }

    /// What was found out. Before [`Step::Done`] it is inconclusive.
    pub fn result(&self) -> PathResult {
        outcome::result(self)
    }

    fn note(&mut self, note: PathNote) {
        if !self.notes.contains(&note) && self.notes.len() < 16 {
            self.notes.push(note);
        }
    }

    /// Ends the search; while hops are looked for the verdict on the sizes stands already.
    fn stop(&mut self, note: PathNote, now: Duration) {
        if matches!(self.phase, Phase::Done) {
            return;
        }
        if self.verdict.is_none() {
            self.note(note);
            // Silence is a verdict only where an answer was waited for.
            let silent = !self.records.0.iter().any(|r| matches!(r.fate, Fate::Answered { .. }));
            let waited = self.records.0.iter().any(Record::lost);
            self.verdict = Some(if note == PathNote::Deadline && silent && waited {
                Verdict::Unreachable
            } else {
                Verdict::Inconclusive
            });
        }
        self.finish(now);
    }

    fn finish(&mut self, now: Duration) {
        self.finished = now;
        // The hops that were seen stay with the result.
        if let Phase::Sizes = self.phase {
            self.phase = Phase::Done;
        } else if let Phase::Hops(locate) = std::mem::replace(&mut self.phase, Phase::Done) {
            self.located = Some(locate);
        }
    }

    fn exhausted(&self, size: u32) -> bool {
        u32::try_from(self.records.0.len()).unwrap_or(u32::MAX)
            >= self.plan.max_probes.min(u32::from(u16::MAX))
            || self.bytes + u64::from(size) > self.plan.max_bytes
    }

    fn send(&mut self, size: u32, ttl: Option<u8>, now: Duration) -> Probe {
        let id = u16::try_from(self.records.0.len()).unwrap_or(u16::MAX);
        let rationed = self.rationed();
        let scout = self.is_scout(size, ttl) && !self.by_scouts;
        self.records.0.push(Record {
            size,
            ttl,
            flight: self.flight,
            rationed,
            scout,
            sent_at: now,
            fate: Fate::InFlight,
        });
        self.bytes += u64::from(size);
        let in_flight = self.records.0.iter().filter(|r| r.fate == Fate::InFlight).map(|r| r.size).sum();
        let pause = self.backlog.send(size, now, in_flight, self.plan.burst_bytes());
        let pause = if self.plan.rate_pps.is_some() { self.plan.gap() } else { pause.max(self.ration_gap()) };
        self.next_send = now + pause;
        Probe { id, size, ttl }
    }

    /// The smallest believable MTU that a PTB named for a size above `passes`.
    fn claim(&self, passes: u32) -> Option<u32> {
        let floor = self.plan.floor;
        self.records
            .too_bigs()
            .filter(|(size, mtu, _)| *size > passes && mtu < size && *mtu >= floor)
            .map(|(_, mtu, _)| mtu)
            .min()
    }

    /// A PTB's value is tried at once, without waiting for the rest of the flight.
    fn untried_claim(&self) -> Option<u32> {
        if !matches!(self.phase, Phase::Sizes) {
            return None;
        }
        let passes = self.records.passes().unwrap_or(0);
        let claim = self.claim(passes).filter(|m| *m >= self.plan.control)?;
        if claim > passes && self.records.sent(claim) == 0 {
            return Some(claim);
        }
        // Who looks for the hop sends one byte more anyway; over IPv6 that is the scouts' business.
        let more = claim + 1;
        let alone = !self.plan.locate && self.plan.floor < 1280 && claim >= passes && more < self.plan.max;
        (alone && self.records.sent(more) == 0).then_some(more)
    }

    fn is_scout(&self, size: u32, ttl: Option<u8>) -> bool {
        self.by_scouts || self.scouting && ttl.is_none() && self.scouted == Some(size)
    }

    /// The size to ask by scouts, and when: one that a router named and the target does not answer soon, as routers go (a
    /// target that is only farther away answers all the same); the smallest where nobody says anything.
    fn scouts(&self) -> Option<(u32, Duration)> {
        if !matches!(self.phase, Phase::Sizes) || self.records.passes().is_some() {
            return None;
        }
        let (size, at) = match (self.claim(0), self.records.slowest_router()) {
            (Some(claim), Some(router)) if self.plan.scouts && claim >= self.plan.control => {
                let asked = self.records.0.iter().find(|r| r.size == claim)?.sent_at;
                (claim, asked + (router * 4).max(LEAST_PATIENCE))
            }
            // What did not leave was not filtered elsewhere.
            (None, None)
                if self.plan.unknown_protocol.is_some()
                    && self.flight > 1
                    && self.records.0.iter().any(|r| matches!(r.fate, Fate::InFlight | Fate::Lost)) =>
            {
                // Again and again: who was asked a moment ago has no answer left until a second has gone by.
                let last = self.records.0.iter().filter(|r| r.scout).map(|r| r.sent_at).max();
                let at = last.map_or(Duration::ZERO, |last| last + self.plan.timeout / 5);
                return Some((self.plan.control, at));
            }
            _ => return None,
        };
        (self.scouted != Some(size)).then_some((size, at))
    }

    /// Echo requests are filtered, and what became of them says nothing: errors of the target are all there is.
    fn ask_by_scouts(&mut self, limit: AnswerLimit) -> Vec<u32> {
        self.by_scouts = true;
        self.records.0.iter_mut().for_each(|r| r.scout = true);
        self.rtt = self.records.fastest_reply();
        self.plan.answers = Some(limit);
        self.plan.first_flight(true)
    }

    fn advance(&mut self, now: Duration) {
        if let Phase::Hops(locate) = &mut self.phase {
            match locate.next_flight(&self.records) {
                Some(flight) => self.start_flight(flight, now),
                None => self.finish(now),
            }
            return;
        }
        self.adapt_rate();
        match self.next_sizes() {
            Next::Flight(sizes) => {
                let flight = sizes.into_iter().map(|size| (size, None)).collect();
                self.start_flight(flight, now);
            }
            Next::Conclude(Verdict::BlackHole) if !self.plan.locate && now < self.certain_at() => {
                self.hold = Some(self.certain_at());
            }
            Next::Conclude(verdict) => {
                self.verdict = Some(verdict);
                let result = outcome::result(self);
                let large = match verdict {
                    Verdict::Narrowed | Verdict::BlackHole => result.bounds.fails_bytes,
                    _ => None,
                };
                match large {
                    Some(large) if self.plan.locate => {
                        self.phase = Phase::Hops(Locate::new(large, self.plan.control, &self.records));
                    }
                    _ => self.finish(now),
                }
            }
        }
    }

    fn start_flight(&mut self, flight: Vec<(u32, Option<u8>)>, now: Duration) {
        self.flight = self.flight.saturating_add(1);
        self.scouting = false;
        self.next_send = self.next_send.max(now + self.ration_pause(now));
        self.queue.extend(flight);
    }
}
