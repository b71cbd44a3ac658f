//! What a search may do: its range, its first sizes, its bounds.

use super::pace::{drained, weight};
use std::time::Duration;

/// Bytes that one burst may hold: a queue of 12 kB must not turn a flight into loss.
const BURST_BYTES: u32 = 11_800;
/// What the length field of an IP header can say (RFC 791 §3.1): the loopback's MTU is one more.
const LARGEST_PACKET: u32 = 65_535;
/// How long a flight goes on being paced once its burst is out.
const WINDOW: Duration = Duration::from_millis(6);
/// Packets of the first flight.
const FLIGHT_PACKETS: usize = 12;
/// Packets of any flight.
const MOST_PACKETS: u32 = 36;

/// Sizes where real paths narrow, most telling first: Ethernet, VXLAN over IPv4, PPPoE, the IPv6 minimum, WireGuard,
/// IPIP; two small ones, which cost little and leave no wide gap; GCE, jumbo frames with and without a tunnel.
const LIKELY: &[u32] = &[
    1500, 1450, 1400, 1280, 1492, 1000, 576, 1430, 1440, 1420, 1460, 1480, 1476, 1442, 1370, 1350, 8950,
    8930, 8500, 9000, 9001, 8000, 4000,
];

/// What a tunnel takes from the largest size, bytes of L3: VXLAN over IPv4 and IPv6, IPIP, WireGuard.
const OVERHEADS: &[u32] = &[50, 20, 70, 0, 0, 0, 0, 60, 80, 100];

/// Sizes that leave no wide gap in what a first flight tells. They are sent while nothing has come back yet: on a path
/// of many milliseconds they cost no time, on a short one they never leave.
const RARE: &[u32] = &[1470, 1420, 1370, 1340, 1310, 1130, 750, 320];

/// A first flight goes on with rare sizes when nothing has come back until then.
pub(in crate::probe) const PATIENT: Duration = Duration::from_millis(1);

/// The range, the first flight and the bounds of one search.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Size of the control probes and lower end of the search, bytes of the whole IP packet.
    pub control: u32,
    /// The route's MTU: upper end of the search.
    pub max: u32,
    /// The smallest MTU that a PTB may name: 68 (RFC 791), 1280 (RFC 8200).
    pub floor: u32,
    /// Wait for an answer as long as no round-trip time is known.
    pub timeout: Duration,
    /// For the whole search.
    pub deadline: Duration,
    /// Packets of the whole search.
    pub max_probes: u32,
    /// Bytes of the whole search.
    pub max_bytes: u64,
    /// Packets a second, when the user limits them.
    pub rate_pps: Option<u32>,
    /// What the target is known to answer at most; `None`: nothing is known, limits are learned.
    pub answers: Option<AnswerLimit>,
    /// Whether to look for the narrowing hop afterwards.
    pub locate: bool,
    /// Whether a target that is silent while routers speak may be asked by packets that nobody takes ([`super::Scout`]).
    pub scouts: bool,
    /// Whether large packets that look for the hop are such packets, where they are known to get through: that the target
    /// answers one tells of the way there alone, and the kernel remembers nothing of what they draw (over IPv6).
    pub hops_by_scouts: bool,
    /// Whether a target that answers nothing else may be measured by such packets, and how many of its errors are to be
    /// had.
    pub unknown_protocol: Option<AnswerLimit>,
}

/// A token bucket of answers: Linux sends six port-unreachables, then one a second (`icmp_ratelimit`,
/// net/ipv4/icmp.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerLimit {
    /// Answers at once.
    pub burst: u32,
    /// Time for one more.
    pub interval: Duration,
}

impl AnswerLimit {
    /// ICMP errors of one kind that Linux sends to one host (`icmp_ratelimit`, icmp(7); `net.ipv6.icmp.ratelimit`).
    pub const ICMP_ERRORS: Self = Self { burst: 6, interval: Duration::from_secs(1) };
    /// The same over IPv6, when many were asked for already. Hosts behind a prefix of 64 bits or less get four times as
    /// many and more (net/ipv6/icmp.c `icmpv6_xrlim_allow`).
    pub const ICMPV6_ERRORS_LEFT: Self = Self { burst: 1, interval: Duration::from_millis(250) };
}

impl Plan {
    /// A plan with the default bounds: 300 probes, 300 kB (1 MB for jumbo frames, 4 MB for what is larger), 10 s.
    pub fn new(control: u32, max: u32, floor: u32) -> Self {
        let max = max.min(LARGEST_PACKET);
        Self {
            control: control.min(max),
            max,
            floor,
            timeout: Duration::from_secs(1),
            deadline: Duration::from_secs(10),
            max_probes: 300,
            max_bytes: match max {
                ..=2000 => 300_000,
                2001..=16_000 => 1_000_000,
                _ => 4_000_000,
            },
            rate_pps: None,
            answers: None,
            locate: true,
            scouts: false,
            hops_by_scouts: false,
            unknown_protocol: None,
        }
    }

    /// Time between two packets, where the user limits them.
    pub fn gap(&self) -> Duration {
        self.rate_pps.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / f64::from(rate.max(1))))
    }

    /// Bytes that may leave at once.
    pub(super) fn burst_bytes(&self) -> u32 {
        // A jumbo path has queues for jumbo frames; five of them are the least a ladder needs.
        BURST_BYTES.max(5 * weight(self.max))
    }

    /// Packets of about `size` bytes that one flight may hold, with a pause of `window` to pace it.
    pub(super) fn flight_packets(&self, size: u32, window: Duration) -> u32 {
        ((self.burst_bytes() + drained(window.min(WINDOW))) / weight(size).max(1)).clamp(4, MOST_PACKETS)
    }

    /// Likely sizes from `least` to the largest, without it, from large to small, as many as one burst holds.
    pub(in crate::probe) fn ladder(&self, least: u32) -> Vec<u32> {
        let mut left = self.burst_bytes().saturating_sub(2 * weight(self.control) + weight(self.max));
        let mut ladder = Vec::new();
        let overheads = OVERHEADS.iter().map(|o| self.max.saturating_sub(*o));
        // Half by what tunnels take from this very size, half by what is seen everywhere.
        let interleaved = LIKELY.iter().copied().zip(overheads.chain(std::iter::repeat(0)));
        for size in interleaved.flat_map(|(likely, tunnel)| [likely, tunnel]) {
            if size > self.control && size < self.max && weight(size) <= left && !ladder.contains(&size) {
                ladder.push(size);
                left -= weight(size);
            }
            if ladder.len() >= FLIGHT_PACKETS - 3 {
                break;
            }
        }
        ladder.retain(|size| *size >= least);
        ladder.sort_unstable_by(|a, b| b.cmp(a));
        ladder
    }

    /// What a first flight goes on with until something comes back, and a control.
    pub(in crate::probe) fn rare_sizes(&self) -> Vec<u32> {
        if self.rate_pps.is_some() || self.answers.is_some() {
            return Vec::new();
        }
        let ladder = self.ladder(0);
        let new = |size: &&u32| **size > self.control && **size < self.max && !ladder.contains(size);
        let mut rare: Vec<u32> = RARE.iter().filter(new).copied().collect();
        rare.push(self.control);
        rare
    }

    /// Whether scouts leave while nothing has come back: where echo is filtered, a timestamp reply or the target's word on a
    /// protocol that it does not know takes a round trip instead of a patience. Over IPv6 they were sent before the search.
    pub(super) fn early_scouts(&self) -> bool {
        let few = self.rate_pps.is_some() || self.answers.is_some();
        self.scouts && self.unknown_protocol.is_some() && !few
    }

    /// The first flight: a control, the largest size, a ladder of likely sizes, and a control again, so
    /// that whatever is missing before it is missing for a reason.
    ///
    /// Where answers are few the largest size that passes takes the first, and whatever is larger has failed. While no
    /// round-trip time is known (not `paced`) all may be answered before the first answer comes: then one is kept for
    /// the control.
    pub(super) fn first_flight(&self, paced: bool) -> Vec<u32> {
        let mut ladder = self.ladder(0);
        if let Some(limit) = self.answers {
            if !paced {
                ladder.truncate(usize::try_from(limit.burst).unwrap_or(2).saturating_sub(2));
            }
            return [&[self.max][..], &ladder, &[self.control]].concat();
        }
        let mut flight = vec![self.control, self.max];
        flight.extend(ladder);
        flight.push(self.control);
        flight
    }
}

/// Up to `count` sizes strictly between `lo` and `hi`: the one above `lo` (it settles the answer when
/// `lo` is the truth), and the rest evenly spread.
pub(super) fn between(lo: u32, hi: u32, count: usize) -> Vec<u32> {
    let width = hi.saturating_sub(lo).saturating_sub(1);
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    if width <= count {
        return (lo + 1..hi).collect();
    }
    let mut sizes = vec![lo + 1];
    for k in 1..count {
        let step = u64::from(width) * u64::from(k) / u64::from(count);
        let size = lo + 1 + u32::try_from(step).unwrap_or(0);
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    sizes
}

/// The sizes for a flight that holds hardly any: halves of `hi` where the gap is wide, which cost no more bytes than `hi`
/// itself, and the one above `lo`; quarters of the gap where it is not.
pub(super) fn halves(lo: u32, hi: u32) -> Vec<u32> {
    if hi / 2 > lo + 1 {
        let halves =
            std::iter::successors(Some(hi / 2), |size| Some(size / 2)).take_while(|size| *size > lo + 1);
        let mut sizes = vec![lo + 1];
        sizes.extend(halves);
        sizes.sort_unstable();
        return sizes;
    }
    let width = hi.saturating_sub(lo);
    let mut sizes: Vec<u32> =
        (1..4).map(|k| lo + width * k / 4).filter(|size| *size > lo && *size < hi).collect();
    sizes.dedup();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_flight_holds_hardly_any_size_the_gap_is_halved() {
        assert_eq!(halves(1500, 65_520), [1501, 2047, 4095, 8190, 16_380, 32_760]);
        assert_eq!(halves(32_760, 65_520), [40_950, 49_140, 57_330]);
        assert_eq!(halves(40_000, 40_002), [40_001]);
        assert_eq!(halves(40_000, 40_003), [40_001, 40_002]);
    }

    #[test]
    fn the_first_flight_fits_a_queue_of_twelve_kilobytes() {
        for max in [600, 1280, 1400, 1450, 1500] {
            let flight = Plan::new(84, max, 68).first_flight(false);
            assert!(flight.iter().sum::<u32>() <= 12_000, "{max}: {flight:?}");
            assert_eq!(flight.first(), Some(&84));
            assert_eq!(flight.get(1), Some(&max));
            assert_eq!(flight.last(), Some(&84));
        }
    }

    #[test]
    fn the_ladder_holds_what_tunnels_take_from_the_largest_size() {
        let flight = Plan::new(84, 1500, 68).first_flight(false);
        for size in [1450, 1480, 1400, 1492] {
            assert!(flight.contains(&size), "{size} in {flight:?}");
        }
        assert!(Plan::new(84, 9000, 68).first_flight(false).contains(&8950));
    }

    #[test]
    fn sizes_between_start_with_the_one_that_settles_it() {
        assert_eq!(between(1450, 1451, 5), Vec::<u32>::new());
        assert_eq!(between(1450, 1454, 5), vec![1451, 1452, 1453]);
        let spread = between(1280, 1400, 6);
        assert_eq!(spread.first(), Some(&1281));
        assert!(spread.iter().all(|s| (1281..1400).contains(s)));
        assert_eq!(spread.len(), 6);
    }
}
