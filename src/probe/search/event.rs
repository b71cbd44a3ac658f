//! What goes into the search and what it asks for.

use crate::facts::{ProbeCounts, Word};
use std::net::IpAddr;
use std::time::Duration;

/// One packet to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Names the probe in answers; unique within a search.
    pub id: u16,
    /// The whole IP packet, bytes.
    pub size: u32,
    /// Hop limit, when the probe is meant to expire on the way.
    pub ttl: Option<u8>,
}

/// What came back for a probe. The transport has checked that it quotes or mirrors that probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The target answered: the packet arrived whole.
    Reply {
        /// TTL or hop limit that the reply arrived with.
        ttl: Option<u8>,
        /// Largest fragment that the reply came in, when it came in fragments (IP_RECVFRAGSIZE).
        largest_fragment: Option<u32>,
        /// It is shorter than its probe: some targets send only the beginning back. That says nothing of the way back.
        cut: bool,
    },
    /// Fragmentation needed or packet too big.
    TooBig {
        /// The MTU it names: a claim.
        mtu: u32,
        /// Who says so.
        from: IpAddr,
    },
    /// Time exceeded in transit.
    Expired {
        /// The hop.
        from: IpAddr,
    },
    /// Destination unreachable, whatever the code, or another error that is none of these, or a TCP reset that is not the
    /// target's.
    Refused {
        /// Who says so.
        from: IpAddr,
        /// In which word.
        word: Word,
    },
    /// The kernel refused to send it: larger than the interface takes, or no route.
    NotSent {
        /// Whether it was too large for the interface (EMSGSIZE).
        too_big: bool,
    },
}

impl Answer {
    /// An answer of the target that came whole.
    pub fn reply(ttl: Option<u8>) -> Self {
        Self::Reply { ttl, largest_fragment: None, cut: false }
    }

    /// Whether it is a rule that refuses such packets, and no want of a way: RFC 1812 §5.2.7.1, RFC 4443 §3.1; port
    /// unreachable is what REJECT says unless it is told otherwise (iptables-extensions(8)).
    pub(super) fn forbids(self) -> bool {
        match self {
            Self::Refused { from: IpAddr::V4(_), word: Word::Unreachable(code) } => {
                matches!(code, 3 | 9 | 10 | 13)
            }
            Self::Refused { from: IpAddr::V6(_), word: Word::Unreachable(code) } => matches!(code, 1 | 4 | 5),
            _ => false,
        }
    }

    /// Whether a later answer to the same probe says more: what arrived has arrived, whoever refused a copy of it.
    pub(super) fn is_outdone_by(self, later: &Self) -> bool {
        let word = matches!(self, Self::Refused { .. } | Self::Expired { .. } | Self::TooBig { .. });
        word && matches!(later, Self::Reply { .. })
    }
}

/// Hops that an answer has come by: senders start at 64, 128 or 255.
pub(super) fn distance(ttl: u8) -> Option<u8> {
    [64, 128, 255].into_iter().find(|start| *start >= ttl).map(|start| start - ttl)
}

/// An answer to the probe `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// [`Probe::id`].
    pub id: u16,
    /// What came back.
    pub answer: Answer,
}

/// What the search wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send this now.
    Send(Probe),
    /// Send this now as a packet that nobody takes ([`super::Scout`]); only where [`super::Plan::scouts`] says so.
    Scout(Probe, super::Scout),
    /// Nothing until an event comes or this time is reached, since the start of the search.
    Wait(Duration),
    /// The result is there.
    Done,
}

/// What packets that the kernel does not remember have shown before the search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scouted {
    /// Sizes sent.
    pub sent: Vec<u32>,
    /// Packets sent, controls too.
    pub packets: u32,
    /// Answers of the target.
    pub replies: u32,
    /// PTBs: size sent, MTU named, by whom.
    pub too_bigs: Vec<(u32, u32, IpAddr)>,
    /// Those that drew a PTB: id and size.
    pub refused: Vec<(u16, u32)>,
    /// What a PTB named for a packet that arrived all the same, and by whom.
    pub disproved: Vec<(u32, IpAddr)>,
    /// Other errors: size sent, and what was said.
    pub errors: Vec<(u32, Answer)>,
    /// Largest size that the target answered; `None`: it answers no such packets.
    pub arrived: Option<u32>,
    /// TTL of such an answer.
    pub ttl: Option<u8>,
    /// How many such packets it answered.
    pub heard: u32,
    /// The same of a datagram ([`super::Scout::Datagram`]).
    pub likely: Option<u32>,
    /// Whether the target has answered a control.
    pub answers_echo: bool,
    /// Round trip of the control.
    pub rtt: Option<Duration>,
    /// How long all of it took.
    pub waited: Duration,
}

impl Scouted {
    /// The same as the probes that they are.
    pub fn probes(&self) -> ProbeCounts {
        let count = |errors: usize| u32::try_from(errors).unwrap_or(u32::MAX).min(self.packets);
        let too_big = count(self.too_bigs.len());
        let left = self.packets.saturating_sub(too_big + count(self.errors.len()));
        // An answer may come twice.
        let answered = self.replies.min(left);
        ProbeCounts { sent: self.packets, answered, too_big, lost: left - answered }
    }

    /// A packet of `size` has arrived, though a router has refused it: his word says nothing of any.
    pub(in crate::probe) fn disprove(&mut self, size: u32) {
        let words = self.too_bigs.iter().filter(|word| word.0 == size).map(|&(_, mtu, from)| (mtu, from));
        self.disproved.extend(words);
        self.too_bigs.retain(|&(_, mtu, from)| !self.disproved.contains(&(mtu, from)));
        self.arrived = self.arrived.max(Some(size));
    }

    /// Whether packets were sent and nobody said anything.
    pub fn silent(&self) -> bool {
        !self.sent.is_empty()
            && self.too_bigs.is_empty()
            && self.errors.is_empty()
            && self.arrived.is_none()
            && self.rtt.is_none()
    }
}
