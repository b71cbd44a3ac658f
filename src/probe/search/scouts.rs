//! When the target is asked by packets that nobody takes, and when by nothing else.

use super::record::Fate;
use super::{Answer, AnswerLimit, Event, Phase, Probe, Search};
use std::net::IpAddr;
use std::time::Duration;

/// How long a target is waited for at the least before it is asked by scouts as well.
const LEAST_PATIENCE: Duration = Duration::from_micros(250);

/// How a scout looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scout {
    /// Protocol 253 (RFC 3692): nobody speaks it.
    Protocol,
    /// UDP from port 0 to port 0. RFC 768 reserves it, no socket can have it: neither can it be delivered, nor is there
    /// one that its errors would be told to.
    Datagram,
}

/// What scouts of one search look like: a target whose filter drops strange protocols may still say that nobody has a
/// port.
#[derive(Debug, Default)]
pub struct ScoutLooks {
    asked: Vec<(u16, u32, Scout)>,
    heard: Option<Scout>,
    /// Somebody refuses in the target's name: its word on a port may not be its own.
    refused: bool,
}

impl ScoutLooks {
    /// How this one is to look: as those that the target has answered; else a size that was asked before looks otherwise
    /// than the last time.
    pub fn next(&mut self, probe: Probe) -> Scout {
        let last = self.asked.iter().rev().find(|(_, size, _)| *size == probe.size && probe.ttl.is_none());
        let look = self.heard.unwrap_or(match last {
            Some((_, _, Scout::Protocol)) if !self.refused => Scout::Datagram,
            _ => Scout::Protocol,
        });
        self.asked.push((probe.id, probe.size, look));
        look
    }

    /// What `target` has said of a probe, which may be no scout.
    pub fn on_event(&mut self, event: Event, target: IpAddr) {
        match event.answer {
            Answer::Reply { .. } if self.heard.is_none() => {
                let asked = self.asked.iter().find(|(id, _, _)| *id == event.id);
                self.heard = asked.map(|(_, _, look)| *look);
            }
            Answer::Refused { from, .. } => self.refused |= from == target,
            _ => {}
        }
    }
}

impl Search {
    /// The size to ask by scouts, and when: one that a router named and the target does not answer soon, as routers and
    /// its other answers go (a target that is only farther away answers all the same; one whose answers are few may have
    /// none left); the smallest where nobody says anything.
    pub(super) fn scouts(&self) -> Option<(u32, Duration)> {
        if !matches!(self.phase, Phase::Sizes) {
            return None;
        }
        let passes = self.records.passes();
        let (size, at) = match (self.claim(passes.unwrap_or(0)), self.records.slowest_router()) {
            (Some(claim), Some(router))
                if self.plan.scouts
                    && !self.by_scouts
                    && claim >= self.plan.control
                    && passes.is_none_or(|passes| passes < claim) =>
            {
                let asked = self.records.0.iter().find(|r| r.size == claim)?.sent_at;
                let answers = self.records.slowest_reply().unwrap_or_default() * 2;
                (claim, asked + (router * 4).max(answers).max(LEAST_PATIENCE))
            }
            (None, None)
                if passes.is_none()
                    && self.plan.unknown_protocol.is_some()
                    && self.flight > 1
                    && self.something_left() =>
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn looks(answer: Option<(u16, Answer)>) -> [Scout; 4] {
        let mut looks = ScoutLooks::default();
        let mut ask = |id, size| looks.next(Probe { id, size, ttl: None });
        let first = [ask(0, 100), ask(1, 1500), ask(2, 100)];
        if let Some((id, answer)) = answer {
            looks.on_event(Event { id, answer }, TARGET);
        }
        let [a, b, c] = first;
        [a, b, c, looks.next(Probe { id: 3, size: 1500, ttl: None })]
    }

    #[test]
    fn what_was_asked_in_vain_is_asked_otherwise() {
        use Scout::{Datagram, Protocol};
        assert_eq!(looks(None), [Protocol, Protocol, Datagram, Datagram]);
        assert_eq!(looks(Some((0, Answer::reply(None)))), [Protocol, Protocol, Datagram, Protocol]);
        assert_eq!(looks(Some((2, Answer::reply(None)))), [Protocol, Protocol, Datagram, Datagram]);
        // The answer to what is no scout says nothing.
        assert_eq!(looks(Some((9, Answer::reply(None)))), [Protocol, Protocol, Datagram, Datagram]);
        // Who refuses a protocol as iptables does would refuse the datagram with the very word that is looked for.
        let refused = Answer::Refused { from: TARGET, code: 3 };
        assert_eq!(looks(Some((0, refused))), [Protocol, Protocol, Datagram, Protocol]);
    }
}
