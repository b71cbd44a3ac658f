//! What becomes of a packet: a pcapng block, a decoded line, or a count.

use super::decode::decode_line;
use super::lines::{Lines, View};
use super::open::Point;
use super::pcapng::{
    InterfaceDescription, Section, Statistics, link_type, put_interface, put_names, put_packet, put_section,
    put_statistics,
};
use super::remarks::Remarks;
use super::ring::Ring;
use super::room::{Leave, Room};
use super::sink::{Halt, Sink, SinkError};
use super::watch::{Until, Watch};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{SystemTime, UNIX_EPOCH};

/// A packet as it was captured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    /// Number of its point.
    pub(super) point: usize,
    /// Nanoseconds since 1970.
    pub(super) time_ns: u64,
    /// Its length on the wire.
    pub(super) wire_len: u32,
    /// As much of it as was captured.
    pub(super) data: &'a [u8],
}

/// More than a comment adds to a packet.
const COMMENT: usize = 512;

#[derive(Debug)]
enum Format {
    Pcapng(Box<Remarks>),
    Lines(Box<Lines>),
    Count,
}

/// What was waited for, and seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which of the things that were waited for.
    pub until: Until,
    /// Number of the point that saw it.
    pub point: usize,
    /// When, nanoseconds since 1970.
    pub time_ns: u64,
    /// The packet, decoded.
    pub packet: String,
    /// Path of the file of a ring that holds it.
    pub file: Option<String>,
}

/// Where packets go and in which form.
#[derive(Debug)]
pub struct Output {
    format: Format,
    sink: Option<Sink>,
    /// Packets handed over so far.
    pub(super) packets: u64,
    ring: Option<Ring>,
    watch: Option<Watch>,
    seen: Option<Seen>,
    leave: Option<Leave>,
    low: Option<Room>,
    /// Names of addresses that may be met.
    names: Vec<(IpAddr, String)>,
    /// What a file of the ring begins with.
    head: Vec<u8>,
    /// What a file of the ring ends with, as far as it was known a second ago.
    tail: Vec<Statistics>,
    /// Bytes of that.
    tail_len: usize,
}

impl Output {
    fn new(format: Format, sink: Option<Sink>) -> Self {
        Self {
            format,
            sink,
            packets: 0,
            ring: None,
            watch: None,
            seen: None,
            leave: None,
            low: None,
            names: Vec::new(),
            head: Vec::new(),
            tail: Vec::new(),
            tail_len: 0,
        }
    }

    /// A pcapng file or stream.
    pub fn pcapng(sink: Sink) -> Self {
        Self::new(Format::Pcapng(Box::default()), Some(sink))
    }

    /// One pcapng file after another.
    ///
    /// # Errors
    /// The first file's.
    pub fn ring(mut ring: Ring) -> std::io::Result<Self> {
        let sink = Sink::file(ring.next()?)?;
        Ok(Self { ring: Some(ring), ..Self::pcapng(sink) })
    }

    /// One decoded line a packet.
    pub fn lines(sink: Sink, view: View) -> Self {
        Self::new(Format::Lines(Box::new(Lines::new(view))), Some(sink))
    }

    /// Nothing but numbers.
    pub fn count() -> Self {
        Self::new(Format::Count, None)
    }

    /// Names addresses in the file.
    #[must_use]
    pub fn naming(mut self, names: Vec<(IpAddr, String)>) -> Self {
        self.names = names;
        self
    }

    /// Looks for something to end at, beside writing.
    #[must_use]
    pub fn watching(mut self, wanted: Vec<Until>) -> Self {
        self.watch = (!wanted.is_empty()).then(|| Watch::new(wanted));
        self
    }

    /// Wishes to end before the disk is full.
    #[must_use]
    pub fn leaving(mut self, leave: Leave) -> Self {
        self.leave = Some(leave);
        self
    }

    /// What the file system of the file has and is to keep; `None` for what is no file.
    pub fn room(&self) -> Option<Room> {
        let sink = self.sink.as_ref().filter(|s| !s.is_stream())?;
        Room::of(sink, self.leave?).ok()
    }

    /// The disk has no more room for us.
    pub(super) fn low(&self) -> Option<Room> {
        self.low
    }

    /// What was waited for, once it was seen.
    pub(super) fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    /// Paths of the files of a ring that are there.
    pub(super) fn files(&self) -> Vec<String> {
        self.ring.as_ref().map(|r| r.names().to_vec()).unwrap_or_default()
    }

    /// The stream whose reader may go away.
    pub(super) fn watched(&self) -> Option<BorrowedFd<'_>> {
        self.sink.as_ref().filter(|s| s.is_stream()).map(AsFd::as_fd)
    }

    /// Whether somebody may be looking on: then nothing waits longer than it must.
    pub(super) fn is_live(&self) -> bool {
        self.sink.as_ref().is_some_and(Sink::is_stream) || matches!(self.format, Format::Lines(_))
    }

    /// Writes what comes before the first packet.
    ///
    /// # Errors
    /// The sink's.
    pub(super) fn begin(&mut self, points: &[Point], halt: Halt<'_>) -> Result<(), SinkError> {
        if let Some(watch) = &mut self.watch {
            let links = points.iter().map(|p| (link_type(p.datalink), p.datalink));
            watch.begin(links).map_err(|e| SinkError::from(std::io::Error::other(e)))?;
        }
        match (&mut self.format, &mut self.sink) {
            (Format::Lines(lines), _) => {
                lines.begin(points.iter().map(|p| (p.label(), p.sender(), link_type(p.datalink))));
                Ok(())
            }
            (Format::Pcapng(remarks), Some(sink)) => {
                remarks.begin(points.iter().map(|p| (link_type(p.datalink), p.mtu_bytes)));
                self.head = head(points, &self.names);
                sink.buffer().extend_from_slice(&self.head);
                if let Some(ring) = &mut self.ring {
                    ring.wrote(self.head.len());
                }
                self.note(points);
                self.flush(halt)
            }
            _ => Ok(()),
        }
    }

    /// Takes one packet.
    ///
    /// # Errors
    /// The sink's, when the buffer was full.
    #[inline]
    pub(super) fn packet(&mut self, packet: &Packet<'_>, halt: Halt<'_>) -> Result<(), SinkError> {
        if self.ring.as_ref().is_some_and(|r| !r.takes(packet.data.len() + COMMENT, self.tail_len)) {
            self.change_file(halt)?;
        }
        self.packets += 1;
        if self.watch.is_some() {
            self.look(packet);
        }
        let Some(sink) = &mut self.sink else { return Ok(()) };
        match &mut self.format {
            Format::Pcapng(remarks) => {
                let comment = remarks.about(packet);
                let point = u32::try_from(packet.point).unwrap_or(u32::MAX);
                let before = sink.buffer().len();
                put_packet(sink.buffer(), point, packet.time_ns, packet.wire_len, packet.data, comment);
                if let Some(ring) = &mut self.ring {
                    ring.packet(packet.time_ns, sink.buffer().len() - before);
                    if let Some(statistics) = self.tail.get_mut(packet.point) {
                        statistics.delivered += 1;
                    }
                }
            }
            Format::Lines(lines) => lines.put(sink.buffer(), packet),
            Format::Count => {}
        }
        if sink.is_full() { self.flush(halt) } else { Ok(()) }
    }

    /// Remembers the first packet that was waited for.
    fn look(&mut self, packet: &Packet<'_>) {
        let (Some(watch), None) = (&mut self.watch, &self.seen) else { return };
        let link_type = watch.link(packet.point);
        let Some(until) = watch.look(packet.point, packet.data).cloned() else { return };
        self.seen = Some(Seen {
            until,
            point: packet.point,
            time_ns: packet.time_ns,
            packet: decode_line(link_type, packet.data, packet.wire_len, false),
            file: self.ring.as_ref().and_then(Ring::current).map(str::to_owned),
        });
    }

    /// Completes the file of a ring and goes on in the next.
    fn change_file(&mut self, halt: Halt<'_>) -> Result<(), SinkError> {
        self.close(halt)?;
        if let Some(ring) = &mut self.ring {
            let mut sink = ring.next().and_then(Sink::file).map_err(SinkError::from)?;
            sink.buffer().extend_from_slice(&self.head);
            ring.wrote(self.head.len());
            self.sink = Some(sink);
        }
        Ok(())
    }

    /// Writes the statistics as they are known, and everything that waits.
    fn close(&mut self, halt: Halt<'_>) -> Result<(), SinkError> {
        if let (Format::Pcapng(_), Some(sink)) = (&self.format, &mut self.sink) {
            let before = sink.buffer().len();
            let end_ns = since_1970(SystemTime::now());
            for statistics in &self.tail {
                put_statistics(sink.buffer(), &Statistics { end_ns, ..*statistics });
            }
            if let Some(ring) = &mut self.ring {
                ring.wrote(sink.buffer().len() - before);
            }
        }
        self.flush(halt)
    }

    /// Takes over what the kernel has counted: a file of a ring may have to end at any packet.
    pub(super) fn note(&mut self, points: &[Point]) {
        if self.sink.is_none() || !matches!(self.format, Format::Pcapng(_)) {
            return;
        }
        let waiting = self.ring.is_some();
        self.tail.resize(points.len(), Statistics::default());
        for ((number, point), tail) in points.iter().enumerate().zip(&mut self.tail) {
            *tail = Statistics {
                interface: u32::try_from(number).unwrap_or(u32::MAX),
                start_ns: since_1970(point.opened),
                end_ns: 0,
                received: point.facts.received,
                dropped: point.facts.dropped,
                // A ring counts what is in its files; packets may still wait for older ones.
                delivered: if waiting { tail.delivered } else { point.facts.captured },
            };
        }
        let mut bytes = Vec::new();
        self.tail.iter().for_each(|s| put_statistics(&mut bytes, s));
        self.tail_len = bytes.len();
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// The sink's.
    pub(super) fn flush(&mut self, halt: Halt<'_>) -> Result<(), SinkError> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let waited = !sink.buffer().is_empty();
        let result = sink.flush(halt);
        if let (Err(SinkError::Io { lost_packets, .. }), Some(ring)) = (&result, &mut self.ring) {
            ring.lost(*lost_packets);
        }
        if waited && self.leave.is_some() && self.low.is_none() {
            self.low = self.room().filter(Room::is_used_up);
        }
        result
    }

    /// An interface came back, perhaps with another hardware address: lines tell directions by it, and the next
    /// file of a ring names it. A file that was begun keeps its description.
    pub(super) fn changed(&mut self, points: &[Point]) {
        match &mut self.format {
            Format::Lines(lines) => {
                lines.begin(points.iter().map(|p| (p.label(), p.sender(), link_type(p.datalink))));
            }
            Format::Pcapng(_) => self.head = head(points, &self.names),
            Format::Count => {}
        }
    }

    /// Writes the statistics of every point and everything that waits.
    ///
    /// # Errors
    /// The sink's.
    pub(super) fn end(&mut self, points: &[Point], halt: Halt<'_>) -> Result<(), SinkError> {
        self.note(points);
        let closed = self.close(halt);
        if let Some(ring) = &mut self.ring {
            ring.end();
        }
        closed
    }
}

/// Nanoseconds since 1970.
pub(super) fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|d| u64::try_from(d.as_nanos()).ok()).unwrap_or(0)
}

/// What a file begins with.
fn head(points: &[Point], names: &[(IpAddr, String)]) -> Vec<u8> {
    let mut head = Vec::new();
    put_section(&mut head, &section(points));
    points.iter().for_each(|p| put_interface(&mut head, &describe(p)));
    put_names(&mut head, names);
    head
}

fn section(points: &[Point]) -> Section {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        text.trim().to_owned()
    };
    let mut subjects: Vec<&str> = points.iter().map(|p| p.facts.subject.as_str()).collect();
    subjects.dedup();
    let filter = points.first().map(|p| p.asked.as_str()).filter(|f| !f.is_empty()).unwrap_or("none");
    Section {
        hardware: std::env::consts::ARCH.to_owned(),
        os: format!("{} {}", read("ostype"), read("osrelease")),
        application: concat!("nsprobe ", env!("CARGO_PKG_VERSION")).to_owned(),
        comment: format!("{} on node {}; filter: {filter}", subjects.join(", "), read("hostname")),
    }
}

fn comment(point: &Point) -> Option<String> {
    let mtu = point.mtu_bytes.map(|m| format!("MTU {m} bytes"));
    let inside = point.looks_inside.then(|| "the filter holds for what tunnels carry too".to_owned());
    let words: Vec<String> = mtu.into_iter().chain(inside).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

fn describe(point: &Point) -> InterfaceDescription {
    InterfaceDescription {
        link_type: link_type(point.datalink),
        snaplen_bytes: point.snaplen_bytes,
        name: point.facts.interface.clone(),
        description: point.label(),
        filter: point.filter.clone(),
        mac: point.mac,
        comment: comment(point),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::{FileFacts, Supply};
    use super::*;
    use std::fs::File;
    use std::io::{Read, Result, Seek};
    use std::sync::mpsc::{Sender, channel};

    /// Files without a name, handed to the test as well.
    #[derive(Debug)]
    struct Files(Sender<File>);

    impl Supply for Files {
        fn next(&mut self, _: Option<FileFacts>) -> Result<(File, String)> {
            let file = tempfile::tempfile()?;
            self.0.send(file.try_clone()?).unwrap();
            Ok((file, "name".to_owned()))
        }
        fn end(&mut self, _: FileFacts) {}
    }

    #[test]
    fn each_file_of_a_ring_has_the_names_and_the_comments_beside_its_packets() {
        let (sender, files) = channel();
        let names = vec![([10, 244, 1, 5].into(), "default/web-0".to_owned())];
        let ring = Ring::new(Box::new(Files(sender)), 4096, None);
        let mut output = Output::ring(ring).unwrap().naming(names);
        let (stop, _hold) = nix::unistd::pipe().unwrap();
        let halt = Halt { stop: stop.as_fd(), deadline: None };
        output.begin(&[], halt).unwrap();
        if let Format::Pcapng(remarks) = &mut output.format {
            remarks.begin([(1, Some(100))].into_iter());
        }
        for time_ns in 1..=40 {
            output.packet(&Packet { point: 0, time_ns, wire_len: 200, data: &[0; 200] }, halt).unwrap();
        }
        output.end(&[], halt).unwrap();
        let mut packets = 0;
        let all: Vec<File> = files.try_iter().collect();
        assert!(all.len() > 2, "{}", all.len());
        for mut file in all {
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            let count = |words: &str| bytes.windows(words.len()).filter(|w| *w == words.as_bytes()).count();
            assert_eq!(count("default/web-0"), 1);
            let comments = count("larger than the link MTU of 100 bytes");
            assert!(comments > 0);
            packets += comments;
        }
        assert_eq!(packets, 40);
    }
}
