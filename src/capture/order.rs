//! Packets of several points in the order of time: kept back as long as an older one may still come.

use super::output::Packet;
use super::sink::SinkError;

/// How long a packet may lie in the kernel before it is handed over, with a margin; nanoseconds.
const WINDOW_NS: u64 = 150_000_000;
/// Bytes that are kept back at most; beyond, order gives way to memory.
const LIMIT: usize = 32 << 20;
/// Packets of one point are kept together in pieces of so many bytes; of many points in smaller ones.
const CHUNK: usize = 64 << 10;
const SMALLEST: usize = 4 << 10;

#[derive(Debug, Clone, Copy)]
struct Entry {
    time_ns: u64,
    point: usize,
    wire_len: u32,
    chunk: usize,
    start: usize,
    end: usize,
}

/// Bytes of packets of one point.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Packets in it that wait.
    waiting: usize,
}

/// What is known of a point.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The chunk that takes its next packet.
    chunk: Option<usize>,
    /// Time of its youngest packet.
    last_ns: u64,
    /// More of its packets wait in the kernel: all younger than that, and perhaps older than the window.
    behind: bool,
}

/// Packets that wait. Its memory is kept: nothing is allocated once it has grown to the traffic, and no packet
/// is copied twice, however long it waits.
#[derive(Debug)]
pub(super) struct Order {
    entries: Vec<Entry>,
    chunks: Vec<Chunk>,
    /// Chunks that nobody uses.
    free: Vec<usize>,
    places: Vec<Place>,
    /// Bytes of a chunk.
    size: usize,
    /// Bytes of the chunks that are used.
    used: usize,
}

impl Order {
    /// For so many points: the chunks of all of them together are a fraction of what is kept back.
    pub(super) fn new(points: usize) -> Self {
        let size = (LIMIT / 4).checked_div(points).unwrap_or(CHUNK).clamp(SMALLEST, CHUNK);
        let (entries, chunks, free) = (Vec::new(), Vec::new(), Vec::new());
        Self { entries, chunks, free, places: vec![Place::default(); points], size, used: 0 }
    }

    /// Keeps a copy of a packet.
    pub(super) fn push(&mut self, packet: &Packet<'_>) {
        let (time_ns, point, wire_len) = (packet.time_ns, packet.point, packet.wire_len);
        let number = self.chunk_for(point, packet.data.len());
        let (Some(chunk), Some(place)) = (self.chunks.get_mut(number), self.places.get_mut(point)) else {
            return;
        };
        let start = chunk.bytes.len();
        chunk.bytes.extend_from_slice(packet.data);
        chunk.waiting += 1;
        place.last_ns = time_ns;
        self.entries.push(Entry { time_ns, point, wire_len, chunk: number, start, end: chunk.bytes.len() });
    }

    /// The chunk that takes the next `length` bytes of a point.
    fn chunk_for(&mut self, point: usize, length: usize) -> usize {
        let current = self.places.get(point).and_then(|p| p.chunk);
        if let Some(number) = current
            && self
                .chunks
                .get(number)
                .is_some_and(|c| c.bytes.len() + length <= self.size || c.bytes.is_empty())
        {
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.chunks.push(Chunk::default());
            self.chunks.len() - 1
        });
        if let Some(chunk) = self.chunks.get_mut(number) {
            // As a whole at once: growing copies.
            chunk.bytes.reserve_exact(self.size.max(length));
            self.used += chunk.bytes.capacity();
        }
        if let Some(place) = self.places.get_mut(point) {
            place.chunk = Some(number);
        }
        number
    }

    /// Notes whether more packets of a point wait in the kernel.
    pub(super) fn set_behind(&mut self, point: usize, behind: bool) {
        if let Some(place) = self.places.get_mut(point) {
            place.behind = behind;
        }
    }

    /// Whether it holds so much that order must give way.
    pub(super) fn is_full(&self) -> bool {
        self.used >= LIMIT
    }

    /// A time up to which half of the packets go: what gives way when it is full are the oldest.
    pub(super) fn half(&self) -> u64 {
        let mut times: Vec<u64> = self.entries.iter().map(|e| e.time_ns).collect();
        let middle = times.len() / 2;
        if times.is_empty() { 0 } else { *times.select_nth_unstable(middle).1 }
    }

    /// Up to which time packets have waited long enough when the clock says `now_ns`: nothing older is to come
    /// from the kernel, and nothing from a point that is behind. A clock that was set back leaves packets from
    /// its future: nothing is older than them for sure, so all that wait go then, by time among themselves, and
    /// time in the file runs backwards once.
    pub(super) fn due(&self, now_ns: u64) -> u64 {
        let ahead = now_ns.saturating_add(WINDOW_NS);
        if self.entries.iter().any(|e| e.time_ns > ahead) {
            return u64::MAX;
        }
        let behind = self.places.iter().filter(|p| p.behind).map(|p| p.last_ns);
        behind.fold(now_ns.saturating_sub(WINDOW_NS), u64::min)
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
        // of one point with equal times stay in order: the sort is stable.
        self.entries.sort_by_key(|e| (e.time_ns, e.point));
        let ready = self.entries.partition_point(|e| e.time_ns <= until_ns);
        let mut wanted = true;
        for entry in self.entries.drain(..ready) {
            let Some(chunk) = self.chunks.get_mut(entry.chunk) else { continue };
            let data = chunk.bytes.get(entry.start..entry.end).unwrap_or_default();
            let (point, time_ns, wire_len) = (entry.point, entry.time_ns, entry.wire_len);
            if wanted {
                wanted = take(&Packet { point, time_ns, wire_len, data })?;
            }
            chunk.waiting -= 1;
            if chunk.waiting == 0 {
                self.used = self.used.saturating_sub(chunk.bytes.capacity());
                chunk.bytes.clear();
                // What a jumbo packet needed is not kept for ever.
                chunk.bytes.shrink_to(self.size);
                self.free.push(entry.chunk);
                if let Some(place) = self.places.get_mut(entry.point).filter(|p| p.chunk == Some(entry.chunk))
                {
                    place.chunk = None;
                }
            }
        }
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
        let mut order = Order::new(3);
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
        let mut order = Order::new(3);
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
        let mut order = Order::new(3);
        push(&mut order, 0, 10, b"a");
        push(&mut order, 1, 3_600_000_000_000, b"b");
        let due = order.due(3_600_000_000_000);
        assert_eq!(release(&mut order, due, 9), "a");
    }

    #[test]
    fn at_equal_times_the_order_is_that_of_the_points() {
        let mut order = Order::new(3);
        [(2, b"c"), (0, b"a"), (1, b"b")]
            .into_iter()
            .for_each(|(point, data)| push(&mut order, point, 7, data));
        assert_eq!(release(&mut order, 7, 9), "abc");
    }

    #[test]
    fn equal_times_keep_the_order_they_came_in_and_enough_is_enough() {
        let mut order = Order::new(3);
        (b'a'..=b'z').for_each(|n| push(&mut order, 0, 7, &[n]));
        assert_eq!(release(&mut order, 7, 3), "abc");
    }

    #[test]
    fn a_point_that_is_behind_holds_back_what_is_younger_than_its_next_packet() {
        let now = 10 * WINDOW_NS;
        let mut order = Order::new(2);
        push(&mut order, 0, WINDOW_NS, b"a");
        push(&mut order, 1, 2 * WINDOW_NS, b"c");
        order.set_behind(0, true);
        let due = order.due(now);
        assert_eq!(release(&mut order, due, 9), "a", "c is old enough, but b is still in the kernel");
        push(&mut order, 0, WINDOW_NS + 1, b"b");
        order.set_behind(0, false);
        let due = order.due(now);
        assert_eq!(release(&mut order, due, 9), "bc");
    }

    #[test]
    fn what_it_holds_is_bounded_and_the_oldest_give_way() {
        for points in [2, 250, 2000] {
            let mut order = Order::new(points);
            let (mut time, mut given, mut last, mut held) = (0, 0u64, 0, 0);
            for n in 0..120_000 {
                // One point in a flood, the others now and then.
                let point = if n % 4 == 0 { n % points } else { 0 };
                time += 1;
                push(&mut order, point, time, &[0; 1400]);
                held = held.max(order.used);
                if order.is_full() {
                    let half = order.half();
                    order
                        .release(half, |packet| {
                            assert!(packet.time_ns > last && packet.data == [0; 1400]);
                            (last, given) = (packet.time_ns, given + 1);
                            Ok(true)
                        })
                        .unwrap();
                    assert!(!order.is_full(), "{points} points");
                    assert!(order.entries.iter().all(|e| e.time_ns > half));
                }
            }
            assert!((LIMIT..LIMIT + 2 * CHUNK).contains(&held), "{points} points: {held}");
            assert!(order.chunks.iter().map(|c| c.bytes.capacity()).sum::<usize>() < LIMIT + 2 * CHUNK);
            order
                .release(u64::MAX, |_| {
                    given += 1;
                    Ok(true)
                })
                .unwrap();
            assert_eq!((given, order.used), (120_000, 0), "{points} points");
        }
    }
}
