//! The path-MTU search: no clock, no socket. It is fed answers and asked for the next step.
//!
//! Probes are independent, so many sizes travel in one flight. A flight begins and ends with a size that
//! passes; what is missing between two answered controls is missing because of its size, or by chance, and
//! the confidence says how likely chance is.

mod event;
mod hear;
mod locate;
mod outcome;
mod pace;
mod patience;
mod plan;
mod ration;
mod record;
mod scouts;
mod sizes;

pub use event::{Answer, Event, Probe, Scouted, Step};
pub(super) use plan::PATIENT;
pub use plan::{AnswerLimit, Plan};
pub use scouts::Scout;
pub use sizes::ANOTHER_WORD;
pub(super) use sizes::SLOW_ROUTER;

use crate::facts::{PathNote, PathResult, ProbeCounts, Verdict};
use locate::Locate;
use pace::Backlog;
use record::{Fate, Record, Records};
use scouts::Asked;
use sizes::Next;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

#[derive(Debug)]
enum Phase {
    Sizes,
    Hops(Locate),
    Done,
}

/// A packet that waits to be sent.
#[derive(Debug, Clone, Copy)]
struct Queued {
    size: u32,
    ttl: Option<u8>,
    /// As a packet that nobody takes.
    scout: Option<Scout>,
    /// Only while nothing has come back.
    rare: bool,
    /// What else it is to tell than of its size.
    aside: Option<Aside>,
}

/// What a scout tells, and nothing of the search for the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aside {
    /// The way there from the way back.
    Back,
    /// Whether the target answers such packets more often than echo requests.
    Pilot,
}

impl From<u32> for Queued {
    fn from(size: u32) -> Self {
        Self { size, ttl: None, scout: None, rare: false, aside: None }
    }
}

impl Queued {
    fn scout(size: u32, look: Scout) -> Self {
        Self { scout: Some(look), ..size.into() }
    }
}

/// One search. Times are durations since its start.
#[derive(Debug)]
pub struct Search {
    plan: Plan,
    phase: Phase,
    records: Records,
    queue: VecDeque<Queued>,
    /// Whether the first flight went on with rare sizes.
    went_on: bool,
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
    /// The size that scouts were last sent of.
    scouted: Option<u32>,
    /// What was sent before the search, and for how long.
    before: ProbeCounts,
    waited: Duration,
    /// Every probe is such a scout, from that record on: the target answers nothing else, or more rarely.
    by_scouts: Option<(usize, Scout)>,
    /// Whether it was asked by timestamp requests if it answers those more often.
    piloted: bool,
    /// The largest size that the target has said to have got before the search.
    arrived: Option<u32>,
    /// Packets that drew a PTB before the search: id and size.
    refused_before: Vec<(u16, u32)>,
    /// What routers name for packets that arrive all the same: it says nothing of any.
    disproved: Vec<(u32, IpAddr)>,
    /// Whether the target was asked which way a black hole is on.
    asked_back: bool,
}

impl Search {
    /// A search that has sent nothing yet.
    pub fn new(plan: Plan) -> Self {
        Self::paced(plan, None)
    }

    /// The same, with a round-trip time that was measured before.
    fn paced(plan: Plan, rtt: Option<Duration>) -> Self {
        let looks = [Scout::Timestamp, Scout::Protocol].into_iter().filter(|_| plan.early_scouts());
        let scouts = looks.map(|look| Queued::scout(plan.control, look));
        let rare = scouts.chain(plan.rare_sizes().into_iter().map(Queued::from));
        let rare = rare.map(|queued| Queued { rare: true, ..queued });
        let queue = plan.first_flight(rtt.is_some()).into_iter().map(Queued::from).chain(rare).collect();
        Self {
            went_on: false,
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
            before: ProbeCounts::default(),
            waited: Duration::ZERO,
            by_scouts: None,
            piloted: false,
            arrived: None,
            refused_before: Vec::new(),
            disproved: Vec::new(),
            asked_back: false,
        }
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
            if self.pilots_are_answered() {
                let flight = self.ask_by(Scout::Timestamp, None);
                (self.slow, self.next_send) = (0, now);
                self.queue.clear();
                self.start_flight(flight.into_iter().map(Queued::from), now);
            }
            let settled = std::mem::take(&mut self.news) && self.settled();
            if settled {
                self.queue.clear();
            }
            if let Some(&queued) = self.queue.front() {
                let patient = match queued {
                    Queued { rare: false, .. } => Duration::ZERO,
                    Queued { scout: Some(_), .. } => PATIENT / 4,
                    _ => PATIENT,
                };
                let next = self.next_send.max(patient);
                if now < next {
                    return Step::Wait(next.min(self.plan.deadline));
                }
                if self.exhausted(queued.size) {
                    self.queue.clear();
                    // What was sent may still be answered.
                    if let Some(until) = self.unsettled(now) {
                        return Step::Wait(until.min(self.plan.deadline));
                    }
                    self.stop(PathNote::Budget, now);
                    continue;
                }
                self.queue.pop_front();
                // What did not leave was not filtered elsewhere.
                if queued.rare && queued.scout.is_some() && !self.something_left() {
                    continue;
                }
                let probe = self.send(queued, now);
                let look = self.look(queued);
                return look.map_or(Step::Send(probe), |look| Step::Scout(probe, look));
            }
            let claimed = self.untried_claim();
            if !claimed.is_empty() {
                self.queue.extend(claimed.into_iter().map(Queued::from));
                continue;
            }
            let scouts = self.scouts();
            if let Some(Asked { size, named, .. }) = scouts.filter(|asked| now >= asked.at) {
                self.scouted = Some(size);
                let protocol = |size| Queued::scout(size, Scout::Protocol);
                if named {
                    // One byte more than a router has named must be refused.
                    let again = [Scout::Datagram, Scout::Timestamp].map(|look| Queued::scout(size, look));
                    let scouts = [protocol(size), protocol(size + 1)].into_iter().chain(again);
                    let mute = !self.records.answers_probes();
                    let pilots = if mute { self.pilots() } else { Vec::new() };
                    self.queue.extend(scouts.chain(pilots));
                } else {
                    // In silence the only answer there may be is best had for the largest; one that is lost on the way
                    // costs none.
                    self.queue.extend([protocol(self.plan.max), protocol(size)]);
                    if self.plan.scouts {
                        self.queue.push_back(Queued::scout(size, Scout::Timestamp));
                    }
                }
                continue;
            }
            if let Some(limit) = self.plan.unknown_protocol.filter(|_| self.echo_is_overdue(now)) {
                let flight = self.ask_by_scouts(limit);
                self.start_flight(flight.into_iter().map(Queued::from), now);
                continue;
            }
            if let Some(until) = self.unsettled(now).filter(|_| !settled) {
                let until = scouts.map_or(until, |asked| until.min(asked.at));
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

    /// Bytes of all that was sent, scouts before the search included.
    pub fn bytes(&self) -> u64 {
        self.bytes
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
            let waited = self.records.0.iter().any(|r| r.lost() && !r.held);
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
        let sent = self.records.sent_here().count();
        self.before.sent.saturating_add(u32::try_from(sent).unwrap_or(u32::MAX))
            >= self.plan.max_probes.min(u32::from(u16::MAX))
            || self.bytes + u64::from(size) > self.plan.max_bytes
    }

    /// What a packet is to look like, if it is to be no echo request.
    fn look(&self, queued: Queued) -> Option<Scout> {
        // A router's word comes from where they get to.
        let get_through = self.verdict == Some(Verdict::Narrowed) || self.arrived.is_some();
        let hop = self.plan.hops_by_scouts && queued.ttl.is_some() && queued.size > self.plan.control;
        let by_scouts = self.by_scouts.map(|(_, look)| look);
        queued.scout.or(by_scouts).or((hop && get_through).then_some(Scout::Protocol))
    }

    fn send(&mut self, queued: Queued, now: Duration) -> Probe {
        let Queued { size, ttl, .. } = queued;
        let id = u16::try_from(self.records.0.len()).unwrap_or(u16::MAX);
        let rationed = self.rationed();
        let scout = queued.scout.is_some() && self.by_scouts.is_none();
        let look = self.look(queued);
        self.went_on |= queued.rare && queued.scout.is_none();
        self.records.0.push(Record {
            size,
            ttl,
            flight: self.flight,
            rationed,
            guessed: self.plan.answers.is_none(),
            scout,
            look,
            early: queued.scout.is_some() && queued.rare,
            aside: queued.aside,
            counts: ttl.is_none() && !scout,
            held: false,
            sent_at: now,
            fate: Fate::InFlight,
        });
        self.bytes += u64::from(size);
        let pause = self.backlog.send(size, now, self.records.weight_in_flight(), self.plan.burst_bytes());
        let pause = if self.plan.rate_pps.is_some() { self.plan.gap() } else { pause.max(self.ration_gap()) };
        self.next_send = now + pause;
        Probe { id, size, ttl }
    }

    /// The smallest believable MTU that a PTB named for a size above `passes`: none that has been disproved, by what arrived
    /// or by a PTB for no more than it.
    fn claim(&self, passes: u32) -> Option<u32> {
        let least = self.plan.floor.max(passes);
        let above = || self.records.too_bigs().filter(|(size, _, _)| *size > passes);
        let refused = above().map(|(size, _, _)| size).min()?;
        above().map(|(_, mtu, _)| mtu).filter(|mtu| (least..refused).contains(mtu)).min()
    }

    /// A PTB's value is tried at once, without waiting for the rest of the flight.
    fn untried_claim(&self) -> Vec<u32> {
        let passes = self.records.passes().unwrap_or(0);
        let claim = self.claim(passes).filter(|m| *m >= self.plan.control);
        let Some(claim) = claim.filter(|_| matches!(self.phase, Phase::Sizes)) else { return vec![] };
        // Who looks for the hop sends one byte more anyway; over IPv6 that is the scouts' business.
        let more = claim + 1;
        let alone = !self.plan.locate && self.plan.floor < 1280 && more < self.plan.max;
        let more = (alone && self.records.sent(more) == 0).then_some(more);
        // A loss that says nothing may have been one of its flight.
        let sent = self.records.sent(claim);
        let again = (1..3).contains(&sent)
            && self.records.answers_probes()
            && self.records.lost(claim) == sent
            && self.records.failures(claim, passes) == 0
            && !self.rationed();
        if claim <= passes || sent > 0 && !again {
            return more.into_iter().collect();
        }
        // The control's answer tells that the claim has none.
        [claim].into_iter().chain(more).chain([self.plan.control]).collect()
    }

    fn advance(&mut self, now: Duration) {
        if let Phase::Hops(locate) = &mut self.phase {
            match locate.next_flight(&self.records) {
                None if self.verdict == Some(Verdict::BlackHole) && now < self.word_due() => {
                    self.hold = Some(self.word_due());
                }
                Some(flight) => {
                    let hops = flight.into_iter().map(|(size, ttl)| Queued { ttl, ..Queued::from(size) });
                    let back = self.back_scouts();
                    self.start_flight(back.into_iter().chain(hops), now);
                }
                None => self.finish(now),
            }
            return;
        }
        self.adapt_rate();
        let pilots = if self.slow > 0 { self.pilots() } else { Vec::new() };
        if !pilots.is_empty() {
            // They leave at once: the next flight waits until there is an answer for it.
            self.flight = self.flight.saturating_add(1);
            self.queue.extend(pilots);
            return;
        }
        match self.next_sizes() {
            Next::Flight(sizes) => {
                self.start_flight(sizes.into_iter().map(Queued::from), now);
            }
            Next::Conclude(Verdict::BlackHole)
                if !self.plan.locate && now < self.certain_at().max(self.word_due()) =>
            {
                self.hold = Some(self.certain_at().max(self.word_due()));
            }
            Next::Conclude(verdict) => {
                self.verdict = Some(verdict);
                let result = outcome::result(self);
                let large = match verdict {
                    Verdict::Narrowed | Verdict::BlackHole => result.bounds.fails_bytes,
                    // Which way the packets go round.
                    Verdict::Unreachable => {
                        let looped = self.records.0.iter().any(|r| r.looped().is_some());
                        looped.then_some(self.plan.control)
                    }
                    _ => None,
                };
                match large {
                    // What does not leave is lost at no hop.
                    Some(large) if self.plan.locate && !self.records.held_here(large) => {
                        self.phase = Phase::Hops(Locate::new(large, self.plan.control, &self.records));
                    }
                    _ => {
                        let mut back = self.back_scouts();
                        if back.is_empty() {
                            return self.finish(now);
                        }
                        // There is no search for the hop that they could travel with.
                        self.verdict = None;
                        back.push(self.plan.control.into());
                        self.start_flight(back.into_iter(), now);
                    }
                }
            }
        }
    }

    fn start_flight(&mut self, flight: impl Iterator<Item = Queued>, now: Duration) {
        self.next_send = self.next_send.max(now + self.ration_pause(now));
        self.flight = self.flight.saturating_add(1);
        self.queue.extend(flight);
    }
}
