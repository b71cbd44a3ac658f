//! Where it narrows: a large and a small packet with growing TTLs, two a hop, because routers limit
//! time-exceeded (Linux: six, then one a second).

use super::event::{Answer, distance};
use super::outcome::chance_of_loss;
use super::record::{Fate, Record, Records};
use crate::facts::Hop;
use std::net::IpAddr;
use std::time::Duration;

/// Hops that are looked at when nothing tells how many there are.
const FIRST_HOPS: u8 = 8;
/// The end of every path.
const MOST_HOPS: u8 = 30;
/// Second looks at the hops around the narrowing.
const LOOKS: u8 = 3;
/// Doubt in a hop that is not worth another round trip.
const ENOUGH: f64 = 0.05;

/// The search for the narrowing hop.
#[derive(Debug)]
pub(super) struct Locate {
    /// The smallest size that does not arrive.
    pub(super) large: u32,
    small: u32,
    /// Probes before this one belong to the size search.
    pub(super) first_record: usize,
    asked: u8,
    guess: u8,
    looks: u8,
    /// How far the target is was told, but it answers nothing that it is asked here.
    mute: bool,
}

/// Where the large packet got to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reached {
    /// Last hop that answered for the large packet; 0: none did.
    pub(super) good: u8,
    /// First hop that it does not reach, when that hop answers for small ones.
    pub(super) lost_at: Option<u8>,
}

impl Locate {
    pub(super) fn new(large: u32, small: u32, records: &Records) -> Self {
        let ttl = records.0.iter().find_map(|r| match r.fate {
            Fate::Answered { answer: Answer::Reply { ttl, .. }, .. } => ttl,
            _ => None,
        });
        // The way back is about as long as the way there.
        let guess = ttl.map_or(FIRST_HOPS, |ttl| {
            distance(ttl).map_or(FIRST_HOPS, |hops| (hops + 1).clamp(1, MOST_HOPS))
        });
        Self {
            large,
            small,
            first_record: records.0.len(),
            asked: 0,
            guess,
            looks: 0,
            mute: ttl.is_some() && !records.answers_probes(),
        }
    }

    /// The next flight, or nothing when it is settled or cannot be.
    pub(super) fn next_flight(&mut self, records: &Records) -> Option<Vec<(u32, Option<u8>)>> {
        if self.asked == 0 {
            self.asked = self.guess;
            return Some(self.flight(1, self.guess));
        }
        let hops = self.hops(records);
        let answered = |ttl: u8| hops.iter().any(|h| h.ttl == ttl && h.small);
        let repeats = |hop: &Hop| {
            hop.address.is_some() && hops.iter().any(|h| h.ttl < hop.ttl && h.address == hop.address)
        };
        if self.alone() && hops.iter().any(repeats) {
            return None;
        }
        if !hops.iter().any(|h| h.target) && answered(self.asked) && self.asked < MOST_HOPS {
            let from = self.asked + 1;
            self.asked = (self.asked + 4).min(MOST_HOPS);
            return Some(self.flight(from, self.asked));
        }
        if self.alone() {
            return None;
        }
        self.looks += 1;
        let reached = self.reached(records);
        // One lost answer must not blame a hop: the hops behind the last good one are asked again. Once is
        // enough when a router has said itself that it is too big.
        let enough =
            self.looks >= LOOKS || self.told(records) || (reached.lost_at.is_none() && self.looks > 1);
        if enough || self.doubt(&reached, &hops, records) < ENOUGH {
            return None;
        }
        let from = reached.good + 1;
        (from <= self.asked).then(|| self.flight(from, (from + 1).min(self.asked)))
    }

    /// Whether packets of any size go round in a loop: one size is asked for.
    fn alone(&self) -> bool {
        self.large == self.small
    }

    /// Whether a router has said packet too big to a probe with a TTL, or who said so before was met on the way.
    pub(super) fn told(&self, records: &Records) -> bool {
        records.0.iter().skip(self.first_record).any(|r| match r.fate {
            Fate::Answered { answer: Answer::Expired { from }, .. } => self.refuses(from, records),
            _ => r.too_big().is_some(),
        })
    }

    /// Whether that router has said packet too big to the large packet.
    fn refuses(&self, router: IpAddr, records: &Records) -> bool {
        let word = |r: &Record| r.too_big().filter(|(mtu, _)| r.size >= self.large && *mtu < self.large);
        records.0.iter().filter_map(word).any(|(_, from)| from == router)
    }

    /// How likely it is that chance took what a hop would have said, from the losses of sizes that pass.
    fn doubt(&self, reached: &Reached, hops: &[Hop], records: &Records) -> f64 {
        let losses = records.control_losses(self.large - 1);
        let loss = chance_of_loss(losses);
        match reached.lost_at {
            // The hop is silent for small ones too: on a path that loses nothing it is meant.
            None => {
                if losses.1 == 0 {
                    loss
                } else {
                    1.0
                }
            }
            // That it does not reach the target is what the search for the size has found out.
            Some(ttl) if hops.iter().any(|h| h.ttl == ttl && h.target) => 0.0,
            Some(_) => {
                let behind = |h: &&Hop| h.ttl > reached.good && !h.target && h.small && !h.large;
                loss.powi(i32::try_from(hops.iter().filter(behind).count()).unwrap_or(i32::MAX))
            }
        }
    }

    fn flight(&self, from: u8, to: u8) -> Vec<(u32, Option<u8>)> {
        let sizes = [self.large, self.small];
        let sizes = if self.alone() { &sizes[..1] } else { &sizes[..] };
        let both = (from..=to).flat_map(|ttl| sizes.iter().map(move |size| (*size, Some(ttl))));
        // The last hop of those that were guessed is the target.
        let silent = |size: u32, ttl: u8| self.mute && ttl == self.guess && size == self.small;
        both.filter(|(size, ttl)| !ttl.is_some_and(|ttl| silent(*size, ttl))).collect()
    }

    /// The hops that were asked, as far as they answered.
    pub(super) fn hops(&self, records: &Records) -> Vec<Hop> {
        let mut hops: Vec<Hop> = (1..=self.asked)
            .map(|ttl| Hop { ttl, address: None, small: false, large: false, target: false })
            .collect();
        for record in records.0.iter().skip(self.first_record) {
            let Some(hop) = hops.iter_mut().find(|h| Some(h.ttl) == record.ttl) else { continue };
            let Fate::Answered { answer, .. } = record.fate else { continue };
            let (address, target) = match answer {
                Answer::Reply { .. } => (None, true),
                Answer::Expired { from } => (Some(from), false),
                _ => continue,
            };
            hop.address = hop.address.or(address);
            hop.target |= target;
            hop.large |= record.size == self.large;
            hop.small |= record.size != self.large || self.alone();
        }
        // Who refuses it has got it, though his time exceeded may be lost.
        for hop in &mut hops {
            hop.large |= hop.address.is_some_and(|address| self.refuses(address, records));
        }
        // Behind the target there is nothing.
        if let Some(end) = hops.iter().position(|h| h.target) {
            hops.truncate(end + 1);
        }
        // The place of a target that answers nothing here was not asked: it is no silent hop.
        hops.pop_if(|hop| self.mute && hop.ttl == self.guess && !hop.small && !hop.large);
        hops
    }

    /// How long the last router that the large packet gets to took to say so: it would say packet too big, too. Behind
    /// it the next hop was met, so that no silent one is in between.
    pub(super) fn last_router_took(&self, records: &Records) -> Option<Duration> {
        let Reached { good: last, lost_at: Some(_) } = self.reached(records) else { return None };
        let took = |r: &Record| match r.fate {
            Fate::Answered { at, answer: Answer::Expired { .. } } => Some(at.saturating_sub(r.sent_at)),
            _ => None,
        };
        let asked = records.0.iter().skip(self.first_record);
        asked.filter(|r| r.ttl == Some(last) && r.size == self.large).filter_map(took).max()
    }

    pub(super) fn reached(&self, records: &Records) -> Reached {
        let hops = self.hops(records);
        let good = hops.iter().filter(|h| h.large).map(|h| h.ttl).max().unwrap_or(0);
        let told = records
            .0
            .iter()
            .skip(self.first_record)
            .any(|r| r.too_big().is_some() && r.ttl == Some(good + 1));
        let seen = hops.iter().any(|h| h.ttl == good + 1 && h.small);
        Reached { good, lost_at: (seen || told).then_some(good + 1) }
    }
}
