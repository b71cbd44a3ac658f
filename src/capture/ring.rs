//! A capture that goes on in the next file when one is full. When to change, and what is known of each file:
//! decided here, by the process that reads packets; the files themselves come from one that may open them.

use super::pcapng::PACKET_OVERHEAD;
use std::fs::File;
use std::io;

/// What a file of a ring holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileFacts {
    /// Time of the oldest packet, nanoseconds since 1970; 0 as long as there is none.
    pub first_ns: u64,
    /// Time of the youngest packet, nanoseconds since 1970.
    pub last_ns: u64,
    /// Packets in it.
    pub packets: u64,
    /// Its size, bytes.
    pub bytes: u64,
}

/// Where the files of a ring come from.
pub trait Supply: std::fmt::Debug {
    /// Opens the next file, and gives its path as people type it. `done` is what the one before holds.
    ///
    /// # Errors
    /// The kernel's.
    fn next(&mut self, done: Option<FileFacts>) -> io::Result<(File, String)>;

    /// Takes what the last file holds.
    fn end(&mut self, done: FileFacts);
}

/// The files of one capture, one after another.
#[derive(Debug)]
pub struct Ring {
    supply: Box<dyn Supply>,
    /// Bytes of a file, at most.
    max_bytes: u64,
    /// Files that are kept; `None`: all.
    keep: Option<usize>,
    /// Paths of those that are there, the oldest first.
    names: Vec<String>,
    now: Option<FileFacts>,
}

impl Ring {
    /// Files of at most `max_bytes` out of `supply`, of which the last `keep` are there at any time.
    pub fn new(supply: Box<dyn Supply>, max_bytes: u64, keep: Option<usize>) -> Self {
        Self { supply, max_bytes, keep, names: Vec::new(), now: None }
    }

    /// Whether a packet of `captured` bytes still goes into the file, with `tail` bytes behind it. A file takes
    /// one packet, however large.
    #[inline]
    pub(super) fn takes(&self, captured: usize, tail: usize) -> bool {
        let more = u64::try_from(captured + 3 + PACKET_OVERHEAD + tail).unwrap_or(u64::MAX);
        self.now.is_none_or(|now| now.packets == 0 || now.bytes.saturating_add(more) <= self.max_bytes)
    }

    /// Notes bytes that are no packet.
    pub(super) fn wrote(&mut self, bytes: usize) {
        if let Some(now) = &mut self.now {
            now.bytes = now.bytes.saturating_add(u64::try_from(bytes).unwrap_or(0));
        }
    }

    /// Notes a packet that took `bytes`.
    #[inline]
    pub(super) fn packet(&mut self, time_ns: u64, bytes: usize) {
        let Some(now) = &mut self.now else { return };
        // A clock that was set back: the file spans from the least to the greatest time all the same.
        now.first_ns = if now.packets == 0 { time_ns } else { now.first_ns.min(time_ns) };
        now.last_ns = now.last_ns.max(time_ns);
        now.packets += 1;
        now.bytes = now.bytes.saturating_add(u64::try_from(bytes).unwrap_or(0));
    }

    /// The next file.
    ///
    /// # Errors
    /// The supply's.
    pub(super) fn next(&mut self) -> io::Result<File> {
        let (file, name) = self.supply.next(self.now.take())?;
        self.names.push(name);
        if let Some(keep) = self.keep {
            self.names.drain(..self.names.len().saturating_sub(keep));
        }
        self.now = Some(FileFacts::default());
        Ok(file)
    }

    /// The last file is complete.
    pub(super) fn end(&mut self) {
        if let Some(now) = self.now.take() {
            self.supply.end(now);
        }
    }

    /// Packets that a failed write has lost are not in the file.
    pub(super) fn lost(&mut self, packets: u64) {
        if let Some(now) = &mut self.now {
            now.packets = now.packets.saturating_sub(packets);
        }
    }

    /// Path of the file that is written.
    pub(super) fn current(&self) -> Option<&str> {
        self.names.last().map(String::as_str)
    }

    /// Paths of the files that are there, the oldest first.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    #[derive(Debug)]
    struct Numbered(u32, Sender<Option<FileFacts>>);

    impl Supply for Numbered {
        fn next(&mut self, done: Option<FileFacts>) -> io::Result<(File, String)> {
            self.0 += 1;
            self.1.send(done).unwrap();
            Ok((tempfile::tempfile()?, self.0.to_string()))
        }
        fn end(&mut self, done: FileFacts) {
            self.1.send(Some(done)).unwrap();
        }
    }

    #[test]
    fn a_file_takes_what_fits_with_its_tail_and_one_packet_whatever_its_size() {
        let (sender, told) = channel();
        let mut ring = Ring::new(Box::new(Numbered(0, sender)), 400, Some(2));
        ring.next().unwrap();
        ring.wrote(100);
        assert!(ring.takes(5000, 100), "the first");
        ring.packet(20, 100);
        ring.packet(10, 32);
        // 232 there, 100 behind: 68 are left for a packet with its block.
        assert!(ring.takes(33, 100));
        assert!(!ring.takes(34, 100));
        ring.next().unwrap();
        ring.next().unwrap();
        assert_eq!(ring.names(), ["2", "3"]);
        ring.end();
        let facts = FileFacts { first_ns: 10, last_ns: 20, packets: 2, bytes: 232 };
        let all: Vec<_> = told.try_iter().collect();
        assert_eq!(all, [None, Some(facts), Some(FileFacts::default()), Some(FileFacts::default())]);
    }
}
