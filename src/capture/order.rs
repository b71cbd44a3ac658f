//! Packets of several points in the order of time: kept back as long as an older one may still come.

use super::output::{Output, Packet};
use super::sink::{Halt, SinkError};

/// How long a packet may lie in the kernel before it is handed over, with a margin; nanoseconds.
pub(super) const WINDOW_NS: u64 = 150_000_000;
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

    /// Hands over, by time, the packets up to `until_ns`.
    ///
    /// # Errors
    /// The output's.
    pub(super) fn release(
        &mut self,
        until_ns: u64,
        output: &mut Output,
        halt: Halt<'_>,
    ) -> Result<(), SinkError> {
        if !self.entries.iter().any(|e| e.time_ns <= until_ns) {
            return Ok(());
        }
        // Packets of one point with equal times stay in order: `start` grows.
        self.entries.sort_unstable_by_key(|e| (e.time_ns, e.start));
        let ready = self.entries.partition_point(|e| e.time_ns <= until_ns);
        let (ready, later) = self.entries.split_at(ready);
        for entry in ready {
            let data = self.bytes.get(entry.start..entry.end).unwrap_or_default();
            let (point, time_ns, wire_len) = (entry.point, entry.time_ns, entry.wire_len);
            output.packet(&Packet { point, time_ns, wire_len, data }, halt)?;
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
    use std::io::{Read, Seek};
    use std::os::fd::AsFd;

    #[test]
    fn packets_of_two_points_come_out_by_time_and_young_ones_wait() {
        let (stop, _hold) = nix::unistd::pipe().unwrap();
        let halt = Halt { stop: stop.as_fd(), deadline: None };
        let mut file = tempfile::tempfile().unwrap();
        let sink = super::super::Sink::file(file.try_clone().unwrap()).unwrap();
        let mut output = Output::pcapng(sink);
        let mut order = Order::default();
        let push = |order: &mut Order, point, time_ns, data: &[u8]| {
            order.push(&Packet { point, time_ns, wire_len: 4, data });
        };
        push(&mut order, 0, 30, b"c...");
        push(&mut order, 0, 50, b"e...");
        push(&mut order, 1, 10, b"a...");
        push(&mut order, 1, 40, b"d...");
        order.release(30, &mut output, halt).unwrap();
        push(&mut order, 0, 35, b"late");
        order.release(u64::MAX, &mut output, halt).unwrap();
        output.flush(halt).unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let order: Vec<u8> = bytes.chunks(36).map(|block| block[28]).collect();
        assert_eq!(order, b"aclde");
    }
}
