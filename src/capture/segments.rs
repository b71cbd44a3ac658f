//! TCP segments that come a second time at the same point. Bounded memory: a table of flows in which a new
//! flow takes the place of an old one.
//!
//! A segment that fills a hole is not called a retransmission: it may have been overtaken, or lost before it
//! came here; only what was seen twice is.

use super::layers::Layer;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;

/// Flows that are remembered.
const FLOWS: usize = 4096;
/// Holes of a flow that are remembered.
const HOLES: usize = 8;

/// One direction of a connection, at one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    point: usize,
    source: IpAddr,
    destination: IpAddr,
    /// Source and destination port.
    ports: [u8; 4],
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    key: Key,
    /// The first sequence number that was seen; what lies before it is unknown.
    first: u32,
    /// Behind the highest one.
    next: u32,
    /// What was not seen between them.
    holes: [Option<(u32, u32)>; HOLES],
    /// A hole was forgotten: below this nothing is known.
    known_from: u32,
}

/// The flows that are remembered.
#[derive(Debug)]
pub(super) struct Segments {
    flows: Vec<Option<Flow>>,
    /// Keyed: nobody can aim at one place of the table.
    hasher: RandomState,
}

impl Default for Segments {
    fn default() -> Self {
        Self { flows: vec![None; FLOWS], hasher: RandomState::new() }
    }
}

/// Whether `a` comes before `b`: sequence numbers wrap (RFC 9293 §3.4).
fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

impl Segments {
    /// Whether this segment of TCP was seen before at this point, all of it.
    pub(super) fn is_again(&mut self, point: usize, layer: &Layer<'_>) -> bool {
        if layer.protocol != 6 || layer.later_fragment || layer.body_len == 0 {
            return false;
        }
        let Some(&[p0, p1, p2, p3, s0, s1, s2, s3, _, _, _, _, offset, flags]) =
            layer.body.first_chunk::<14>()
        else {
            return false;
        };
        let sequence = u32::from_be_bytes([s0, s1, s2, s3]);
        let (fin, syn) = (flags & 0x01 != 0, flags & 0x02 != 0);
        let data = layer.body_len.saturating_sub(u32::from(offset >> 4) * 4);
        let length = data + u32::from(fin) + u32::from(syn);
        // A bare acknowledgement takes no number; a reset's number means nothing to us.
        if length == 0 || flags & 0x04 != 0 {
            return false;
        }
        let key =
            Key { point, source: layer.source, destination: layer.destination, ports: [p0, p1, p2, p3] };
        let place = usize::try_from(self.hasher.hash_one(key) % 4096).unwrap_or(0);
        let Some(slot) = self.flows.get_mut(place) else { return false };
        match slot {
            // A SYN with another number begins another connection on the same ports.
            Some(flow) if flow.key == key && (!syn || sequence == flow.first) => {
                flow.is_again(sequence, length, data <= 1 && !syn && !fin)
            }
            _ => {
                let next = sequence.wrapping_add(length);
                *slot = Some(Flow { key, first: sequence, next, holes: [None; HOLES], known_from: sequence });
                false
            }
        }
    }
}

impl Flow {
    /// `tiny`: at most one byte, as probes of keep-alive and of a closed window have.
    fn is_again(&mut self, sequence: u32, length: u32, tiny: bool) -> bool {
        let end = sequence.wrapping_add(length);
        if !before(sequence, self.next) {
            if sequence != self.next {
                self.open_hole(self.next, sequence);
            }
            self.next = end;
            return false;
        }
        let probe = tiny && end == self.next;
        let known = !before(sequence, self.known_from) && !before(self.next, end);
        let fills = self.fill(sequence, end);
        if before(self.next, end) {
            self.next = end;
        }
        known && !fills && !probe
    }

    fn open_hole(&mut self, from: u32, to: u32) {
        if let Some(free) = self.holes.iter_mut().find(|h| h.is_none()) {
            *free = Some((from, to));
        } else {
            // Too many to remember: what lies below is not known any more.
            self.holes = [None; HOLES];
            self.known_from = to;
        }
    }

    /// Takes what was seen out of the holes; whether any of it was one.
    fn fill(&mut self, from: u32, to: u32) -> bool {
        let mut filled = false;
        let mut split = None;
        for hole in &mut self.holes {
            let Some((start, end)) = *hole else { continue };
            if !(before(from, end) && before(start, to)) {
                continue;
            }
            filled = true;
            let (left, right) = (before(start, from), before(to, end));
            *hole = match (left, right) {
                (true, true) => {
                    split = Some((to, end));
                    Some((start, from))
                }
                (true, false) => Some((start, from)),
                (false, true) => Some((to, end)),
                (false, false) => None,
            };
        }
        if let Some((from, to)) = split {
            self.open_hole(from, to);
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds segments (sequence, bytes, flags) of one flow; tells which came again.
    fn again(segments: &[(u32, u32, u8)]) -> Vec<bool> {
        let mut table = Segments::default();
        let one = |&(sequence, bytes, flags): &(u32, u32, u8)| {
            let mut body = vec![0, 80, 0, 90];
            body.extend_from_slice(&sequence.to_be_bytes());
            body.extend_from_slice(&[0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
            let address = IpAddr::from([10, 0, 0, 1]);
            let layer = Layer {
                source: address,
                destination: address,
                protocol: 6,
                body: &body,
                total_len: 40 + bytes,
                body_len: 20 + bytes,
                later_fragment: false,
            };
            table.is_again(0, &layer)
        };
        segments.iter().map(one).collect()
    }

    const ACK: u8 = 0x10;
    const SYN: u8 = 0x02;

    #[test]
    fn what_was_seen_twice_is_a_retransmission() {
        let five = [(100, 50, ACK), (150, 50, ACK), (100, 50, ACK), (150, 50, ACK), (200, 1, ACK)];
        assert_eq!(again(&five), [false, false, true, true, false]);
        assert_eq!(again(&[(7, 0, SYN), (7, 0, SYN), (8, 9, ACK)]), [false, true, false]);
    }

    #[test]
    fn numbers_wrap() {
        let near = u32::MAX - 49;
        assert_eq!(again(&[(near, 100, ACK), (50, 10, ACK), (near, 100, ACK)]), [false, false, true]);
    }

    #[test]
    fn what_was_overtaken_is_none_and_its_second_coming_is() {
        let hole = [(100, 50, ACK), (200, 50, ACK), (150, 50, ACK), (150, 50, ACK)];
        assert_eq!(again(&hole), [false, false, false, true]);
        // A hole is filled from its middle.
        let middle =
            [(0, 10, ACK), (40, 10, ACK), (20, 10, ACK), (10, 10, ACK), (30, 10, ACK), (20, 10, ACK)];
        assert_eq!(again(&middle), [false, false, false, false, false, true]);
    }

    #[test]
    fn bare_acknowledgements_probes_resets_and_what_was_sent_before_we_listened_are_none() {
        assert_eq!(again(&[(100, 0, ACK), (100, 0, ACK)]), [false, false]);
        assert_eq!(again(&[(100, 50, ACK), (149, 1, ACK), (149, 0, ACK)]), [false; 3]);
        assert_eq!(again(&[(100, 50, ACK), (100, 50, 0x14)]), [false; 2]);
        assert_eq!(again(&[(100, 50, ACK), (40, 50, ACK)]), [false; 2]);
        // The same ports again, for another connection.
        assert_eq!(again(&[(100, 50, ACK), (50, 0, SYN), (100, 50, ACK)]), [false; 3]);
    }

    #[test]
    fn with_too_many_holes_it_says_nothing_it_does_not_know() {
        let mut flow: Vec<_> = (0..12).map(|n| (n * 100, 50, ACK)).collect();
        flow.push((250, 50, ACK));
        flow.push((1050, 50, ACK));
        flow.push((1000, 50, ACK));
        let seen = again(&flow);
        assert_eq!(seen[12..], [false, false, true], "{seen:?}");
    }
}
