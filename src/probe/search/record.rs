//! What became of each probe, and what that says of each size.

use super::event::Answer;
use super::pace::weight;
use super::{Aside, Scout};
use crate::facts::Word;
use std::net::IpAddr;
use std::time::Duration;

/// Who answers less often than once a second is not measured.
pub(super) const LONGEST_REFILL: Duration = Duration::from_millis(1010);

/// One probe and what became of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) size: u32,
    pub(super) ttl: Option<u8>,
    pub(super) flight: u16,
    /// Sent where answers are few: a loss behind an answer in the same flight says nothing.
    pub(super) rationed: bool,
    /// How few they are is a guess.
    pub(super) guessed: bool,
    /// Sent as a packet that nobody takes ([`super::Scout`]): its silence says nothing.
    pub(super) scout: bool,
    /// What it looks like, if it is no echo request.
    pub(super) look: Option<Scout>,
    /// A scout that left before there was any answer.
    pub(super) early: bool,
    /// A scout that tells something else.
    pub(super) aside: Option<Aside>,
    /// Whether it says something of the size: one with a TTL only locates, a scout only counts when answered.
    pub(super) counts: bool,
    /// This kernel's packet filter did not let it out: lost, and nothing of it left.
    pub(super) held: bool,
    pub(super) sent_at: Duration,
    pub(super) fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fate {
    InFlight,
    Lost,
    Answered { at: Duration, answer: Answer },
}

impl Record {
    /// What was known before the search.
    pub(super) const KNOWN: Self = Self {
        size: 0,
        ttl: None,
        flight: 0,
        rationed: false,
        guessed: false,
        scout: false,
        look: None,
        early: false,
        aside: None,
        counts: true,
        held: false,
        sent_at: Duration::ZERO,
        fate: Fate::Lost,
    };

    pub(super) fn replied(&self) -> bool {
        matches!(self.fate, Fate::Answered { answer: Answer::Reply { .. }, .. })
    }

    pub(super) fn too_big(&self) -> Option<(u32, IpAddr)> {
        match self.fate {
            Fate::Answered { answer: Answer::TooBig { mtu, from }, .. } => Some((mtu, from)),
            _ => None,
        }
    }

    pub(super) fn refused(&self) -> Option<(IpAddr, Word)> {
        match self.fate {
            Fate::Answered { answer: Answer::Refused { from, word }, .. } => Some((from, word)),
            _ => None,
        }
    }

    /// Whether somebody's word that is no PTB came for it: not for its size, where a control fares no better.
    pub(super) fn turned_away(&self) -> bool {
        self.refused().is_some() || self.looped().is_some()
    }

    /// Who says that it ran out of hops, though it was sent with a whole TTL.
    pub(super) fn looped(&self) -> Option<IpAddr> {
        match self.fate {
            Fate::Answered { answer: Answer::Expired { from }, .. } if self.ttl.is_none() => Some(from),
            _ => None,
        }
    }

    pub(super) fn lost(&self) -> bool {
        self.fate == Fate::Lost
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        match self.fate {
            Fate::Answered { at, answer: Answer::Reply { .. } } => Some(at.saturating_sub(self.sent_at)),
            _ => None,
        }
    }
}

/// The probes of one search, in the order of sending.
#[derive(Debug, Default)]
pub(super) struct Records(pub(super) Vec<Record>);

impl Records {
    /// Without those that were known before the search.
    pub(super) fn sent_here(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().filter(|r| r.flight > 0)
    }

    /// Probes of the search for the size; those with a TTL only locate.
    fn full(&self) -> impl DoubleEndedIterator<Item = (usize, &Record)> {
        self.0.iter().enumerate().filter(|(_, r)| r.counts)
    }

    /// Whether the target has answered a probe that was no scout.
    pub(super) fn answers_probes(&self) -> bool {
        self.0.iter().any(|r| r.replied() && !r.scout)
    }

    /// Largest size that was answered.
    ///
    /// A reply is outdated when a later probe of that size or less drew a PTB: where a tunnel learns its own
    /// path MTU (VXLAN over IPv6), the first oversize packet passes and the next ones do not.
    pub(super) fn passes(&self) -> Option<u32> {
        let mut refused = u32::MAX;
        let mut passes = None;
        for (_, record) in self.full().rev() {
            if record.too_big().is_some_and(|(mtu, _)| mtu < record.size) {
                refused = refused.min(record.size);
            } else if record.replied() && record.size < refused {
                passes = passes.max(Some(record.size));
            }
        }
        passes
    }

    pub(super) fn replied(&self, size: u32) -> bool {
        self.full().any(|(_, r)| r.size == size && r.replied())
    }

    pub(super) fn sent(&self, size: u32) -> usize {
        self.full().filter(|(_, r)| r.size == size).count()
    }

    /// Packets of `size` that nobody said anything of.
    pub(super) fn lost(&self, size: u32) -> usize {
        self.full().filter(|(_, r)| r.size == size && r.lost()).count()
    }

    /// Whether the two largest sizes below `size` were lost: a tunnel may have let only the first packet through, and what
    /// it says of the others is late.
    pub(super) fn lost_below(&self, size: u32) -> bool {
        let mut below: Vec<&Record> = self.full().map(|(_, r)| r).filter(|r| r.size < size).collect();
        below.sort_by_key(|r| std::cmp::Reverse(r.size));
        matches!(below.as_slice(), [first, second, ..] if first.lost() && second.lost())
    }

    /// Losses of `size` that mean something: a control sent after it in the same flight was answered,
    /// so the path, the target and its rate limit were there for it. Somebody's word that is no PTB is as good as a loss.
    pub(super) fn failures(&self, size: u32, passes: u32) -> u32 {
        let failed = |at, r: &Record| (r.lost() || r.turned_away()) && self.vouched(at, r, passes);
        let count = self.full().filter(|(at, r)| r.size == size && failed(*at, r));
        u32::try_from(count.count()).unwrap_or(u32::MAX)
    }

    /// The next control in the flight was answered. Where answers are rationed the first one takes what
    /// there is, so that any control behind will do.
    fn vouched(&self, at: usize, lost: &Record, passes: u32) -> bool {
        let rest = self.0.iter().skip(at + 1).take_while(|r| r.flight == lost.flight);
        let mut controls = rest.filter(|r| r.counts && r.size <= passes && r.fate != Fate::InFlight);
        if lost.rationed {
            controls.any(Record::replied) && (!lost.guessed || self.had_an_answer(lost.sent_at, passes))
        } else {
            controls.next().is_some_and(Record::replied)
        }
    }

    /// The longest that a token bucket of answers takes for another one, as far as sizes that pass have shown: after a loss
    /// it held less than one, and `k` answers in a row since then took `k − 1` more at the least, however many it can hold.
    /// No shorter than what was too short: a loss by chance may have looked like an empty bucket.
    pub(super) fn refill(&self, passes: u32) -> Option<Duration> {
        let (mut since, mut answers, mut refill) = (None, 0, None::<Duration>);
        let (mut last, mut too_short) = (None, Duration::ZERO);
        for (_, record) in self.full().filter(|(_, r)| r.size <= passes && !r.held) {
            let after = |then: Duration| record.sent_at.saturating_sub(then);
            if record.lost() || record.turned_away() {
                (since, answers) = (Some(record.sent_at), 0);
                too_short = too_short.max(last.map(after).unwrap_or_default());
            } else if record.replied() {
                last = Some(record.sent_at);
                answers += 1;
                let each = since.map(after).filter(|_| answers > 1).map(|took| took / (answers - 1));
                refill = refill.into_iter().chain(each).min();
            }
        }
        refill.map(|refill| refill.max(too_short))
    }

    /// Whether the target had an answer left for what was sent then: so long after the last that was taken.
    fn had_an_answer(&self, then: Duration, passes: u32) -> bool {
        let taken = self.0.iter().filter(|r| r.replied() && r.sent_at < then).map(|r| r.sent_at).max();
        let refill = self.refill(passes).unwrap_or(LONGEST_REFILL).min(LONGEST_REFILL);
        taken.is_none_or(|taken| then >= taken + refill)
    }

    /// Whether this kernel says itself that `size` is too large for it.
    pub(super) fn too_big_here(&self, size: u32) -> bool {
        let here = Answer::NotSent { too_big: true };
        self.full()
            .any(|(_, r)| r.size == size && matches!(r.fate, Fate::Answered { answer, .. } if answer == here))
    }

    /// Whether nothing of `size` has left this node, though it was sent.
    pub(super) fn held_here(&self, size: u32) -> bool {
        let mut sent = self.full().filter(|(_, r)| r.size == size && r.fate != Fate::InFlight).peekable();
        self.too_big_here(size) || sent.peek().is_some() && sent.all(|(_, r)| r.held)
    }

    /// What was neither answered nor given up, as it weighs on a queue, bytes.
    pub(super) fn weight_in_flight(&self) -> u32 {
        self.0.iter().filter(|r| r.fate == Fate::InFlight).map(|r| weight(r.size)).sum()
    }

    /// Answers of the target so far.
    pub(super) fn replies(&self) -> u32 {
        u32::try_from(self.0.iter().filter(|r| r.replied()).count()).unwrap_or(u32::MAX)
    }

    /// When the last of them came.
    pub(super) fn last_reply(&self) -> Option<Duration> {
        let at = |r: &Record| match r.fate {
            Fate::Answered { at, answer: Answer::Reply { .. } } => Some(at),
            _ => None,
        };
        self.0.iter().filter_map(at).max()
    }

    /// Smallest size above `passes` that is known to fail, by a PTB, a local refusal or a loss that means something.
    pub(super) fn fails(&self, passes: u32) -> Option<u32> {
        self.full()
            .filter(|(at, r)| {
                r.size > passes
                    && match r.fate {
                        Fate::Lost => self.vouched(*at, r, passes),
                        Fate::Answered { answer: Answer::NotSent { too_big }, .. } => too_big,
                        Fate::Answered { answer: Answer::Reply { .. }, .. } => false,
                        Fate::Answered { .. } => !r.turned_away() || self.vouched(*at, r, passes),
                        Fate::InFlight => false,
                    }
            })
            .map(|(_, r)| r.size)
            .min()
    }

    /// Sent and lost among the sizes that are known to pass: the loss of the path itself.
    pub(super) fn control_losses(&self, passes: u32) -> (u32, u32) {
        if !self.answers_probes() {
            // What the target does not answer at all tells no loss.
            return (0, 0);
        }
        self.full().filter(|(_, r)| r.size <= passes).fold((0, 0), |(sent, lost), (_, r)| match r.fate {
            Fate::Lost if !r.rationed => (sent + 1, lost + 1),
            Fate::Lost | Fate::InFlight => (sent, lost),
            // What a firewall says of those over its limit is no loss of the path.
            Fate::Answered { .. } if r.turned_away() && r.rationed => (sent, lost),
            Fate::Answered { .. } => (sent + 1, lost + u32::from(r.turned_away())),
        })
    }

    /// PTBs for probes that were no TTL probes: size sent, MTU named, by whom.
    pub(super) fn too_bigs(&self) -> impl Iterator<Item = (u32, u32, IpAddr)> + '_ {
        self.full().filter_map(|(_, r)| r.too_big().map(|(mtu, from)| (r.size, mtu, from)))
    }

    pub(super) fn slowest_reply(&self) -> Option<Duration> {
        self.full().filter_map(|(_, r)| r.rtt()).max()
    }

    /// The slowest of the routers that said packet too big.
    pub(super) fn slowest_router(&self) -> Option<Duration> {
        let answered = |r: &Record| match r.fate {
            Fate::Answered { at, answer: Answer::TooBig { .. } } if at > Duration::ZERO => {
                Some(at.saturating_sub(r.sent_at))
            }
            _ => None,
        };
        self.full().filter_map(|(_, r)| answered(r)).max()
    }

    pub(super) fn fastest_reply(&self) -> Option<Duration> {
        self.full().filter_map(|(_, r)| r.rtt()).min()
    }
}
