//! Packets of several points in the order of time: kept back as long as an older one may still come.

use super::output::Packet;
use super::sink::SinkError;

/// How long a packet may lie in the kernel before it is handed over, with a margin; nanoseconds.
const WINDOW_NS: u64 = 150_000_000;
/// Bytes that are kept back at most; beyond, order gives way to memory.
const LIMIT: usize = 8 << 20;

#[derive(Debug, Clone, Copy)]
struct Entry {
    time_ns: u64,
    point: usize,
    wire_len: u32,
    start: usize,
    end: usize,
}

/// Packets that wait. Its memory is kept: nothing is allocated once it has grown to the traffic.
#[derive(Debug, Default)]
pub(super) struct Order {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    spare_entries: Vec<Entry>,
    spare_bytes: Vec<u8>,
}

impl Order {
    /// Keeps a copy of a packet.
    pub(super) fn push(&mut self, packet: &Packet<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet.data);
        let (time_ns, point, wire_len) = (packet.time_ns, packet.point, packet.wire_len);
        self.entries.push(Entry { time_ns, point, wire_len, start, end: self.bytes.len() });
    }

    /// Whether it holds so much that order must give way.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= LIMIT
    }

    /// Up to which time packets have waited long enough when the clock says `now_ns`. A clock that was set back
    /// leaves packets from its future: nothing is older than them for sure, so all that wait go then, by time
    /// among themselves, and time in the file runs backwards once.
    pub(super) fn due(&self, now_ns: u64) -> u64 {
        let ahead = now_ns.saturating_add(WINDOW_NS);
        if self.entries.iter().any(|e| e.time_ns > ahead) {
            u64::MAX
        } else {
            now_ns.saturating_sub(WINDOW_NS)
        }
    }

    /// Hands the packets up to `until_ns` to `take`, by time, until it says that it needs no more (`false`).
    ///
    /// # Errors
    /// Those of `take`.
    pub(super) fn release(
        &mut self,
        until_ns: u64,
        mut take: impl FnMut(&Packet<'_>) -> Result<bool, SinkError>,
    ) -> Result<(), SinkError> {
        if !self.entries.iter().any(|e| e.time_ns <= until_ns) {
            return Ok(());
        }
        // One packet may have the same time at two points of its way: the order of the points decides then. Packets
        // of one point with equal times stay in order: `start` grows.
        self.entries.sort_unstable_by_key(|e| (e.time_ns, e.point, e.start));
        let ready = self.entries.partition_point(|e| e.time_ns <= until_ns);
        let (ready, later) = self.entries.split_at(ready);
        for entry in ready {
            let data = self.bytes.get(entry.start..entry.end).unwrap_or_default();
            let (point, time_ns, wire_len) = (entry.point, entry.time_ns, entry.wire_len);
            if !take(&Packet { point, time_ns, wire_len, data })? {
                break;
            }
        }
        self.spare_entries.clear();
        self.spare_bytes.clear();
        for entry in later {
            let start = self.spare_bytes.len();
            self.spare_bytes.extend_from_slice(self.bytes.get(entry.start..entry.end).unwrap_or_default());
            self.spare_entries.push(Entry { start, end: self.spare_bytes.len(), ..*entry });
        }
        std::mem::swap(&mut self.entries, &mut self.spare_entries);
        std::mem::swap(&mut self.bytes, &mut self.spare_bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(order: &mut Order, point: usize, time_ns: u64, data: &[u8]) {
        order.push(&Packet { point, time_ns, wire_len: 4, data });
    }

    fn release(order: &mut Order, until_ns: u64, at_most: usize) -> String {
        let mut seen = Vec::new();
        order
            .release(until_ns, |packet| {
                seen.extend_from_slice(packet.data);
                Ok(seen.len() < at_most)
            })
            .unwrap();
        String::from_utf8(seen).unwrap()
    }

    #[test]
    fn packets_of_two_points_come_out_by_time_and_young_ones_wait() {
        let mut order = Order::default();
        push(&mut order, 0, 30, b"c");
        push(&mut order, 0, 50, b"e");
        push(&mut order, 1, 10, b"a");
        push(&mut order, 1, 40, b"d");
        assert_eq!(release(&mut order, 5, 9), "");
        assert_eq!(release(&mut order, 30, 9), "ac");
        push(&mut order, 0, 35, b"x");
        assert_eq!(release(&mut order, u64::MAX, 9), "xde");
        assert_eq!(release(&mut order, u64::MAX, 9), "");
    }

    #[test]
    fn a_clock_that_is_set_back_holds_no_packet_for_ever() {
        let (second, hour) = (1_000_000_000, 3_600_000_000_000);
        let mut order = Order::default();
        push(&mut order, 0, 2 * hour, b"b");
        push(&mut order, 1, 2 * hour - second, b"a");
        assert_eq!(order.due(2 * hour), 2 * hour - WINDOW_NS, "nothing is odd yet");
        // An hour back: what was captured since is younger, and says that it is older.
        push(&mut order, 0, hour, b"c");
        push(&mut order, 1, hour + 1, b"d");
        let due = order.due(hour + 1);
        assert_eq!(release(&mut order, due, 9), "cdab");
        // From here on as ever.
        push(&mut order, 1, hour + 3, b"f");
        push(&mut order, 0, hour + 2, b"e");
        let due = order.due(hour + 2);
        assert_eq!(release(&mut order, due, 9), "");
        let due = order.due(hour + 3 + WINDOW_NS);
        assert_eq!(release(&mut order, due, 9), "ef");
    }

    #[test]
    fn a_clock_that_is_set_ahead_only_lets_packets_go_sooner() {
        let mut order = Order::default();
        push(&mut order, 0, 10, b"a");
        push(&mut order, 1, 3_600_000_000_000, b"b");
        let due = order.due(3_600_000_000_000);
        assert_eq!(release(&mut order, due, 9), "a");
    }

    #[test]
    fn at_equal_times_the_order_is_that_of_the_points() {
        let mut order = Order::default();
        [(2, b"c"), (0, b"a"), (1, b"b")]
            .into_iter()
            .for_each(|(point, data)| push(&mut order, point, 7, data));
        assert_eq!(release(&mut order, 7, 9), "abc");
    }

    #[test]
    fn equal_times_keep_the_order_they_came_in_and_enough_is_enough() {
        let mut order = Order::default();
        (b'a'..=b'z').for_each(|n| push(&mut order, 0, 7, &[n]));
        assert_eq!(release(&mut order, 7, 3), "abc");
    }
}
