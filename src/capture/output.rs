//! What becomes of a packet: a pcapng block, a decoded line, or a count.

use super::lines::Lines;
use super::open::Point;
use super::pcapng::{
    InterfaceDescription, Section, Statistics, link_type, put_interface, put_packet, put_section,
    put_statistics,
};
use super::sink::{Halt, Sink, SinkError};
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

#[derive(Debug)]
enum Format {
    Pcapng,
    Lines(Box<Lines>),
    Count,
}

/// Where packets go and in which form.
#[derive(Debug)]
pub struct Output {
    format: Format,
    sink: Option<Sink>,
    /// Packets handed over so far.
    pub(super) packets: u64,
}

impl Output {
    /// A pcapng file or stream.
    pub fn pcapng(sink: Sink) -> Self {
        Self { format: Format::Pcapng, sink: Some(sink), packets: 0 }
    }

    /// One decoded line a packet.
    pub fn lines(sink: Sink) -> Self {
        Self { format: Format::Lines(Box::default()), sink: Some(sink), packets: 0 }
    }

    /// Nothing but numbers.
    pub fn count() -> Self {
        Self { format: Format::Count, sink: None, packets: 0 }
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
        match (&mut self.format, &mut self.sink) {
            (Format::Lines(lines), _) => {
                lines.begin(points.iter().map(|p| (p.label(), p.mac, link_type(p.datalink))));
                Ok(())
            }
            (Format::Pcapng, Some(sink)) => {
                put_section(sink.buffer(), &section(points));
                points.iter().for_each(|p| put_interface(sink.buffer(), &describe(p)));
                sink.flush(halt)
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
        self.packets += 1;
        let Some(sink) = &mut self.sink else { return Ok(()) };
        match &mut self.format {
            Format::Pcapng => {
                let point = u32::try_from(packet.point).unwrap_or(u32::MAX);
                put_packet(sink.buffer(), point, packet.time_ns, packet.wire_len, packet.data);
            }
            Format::Lines(lines) => lines.put(sink.buffer(), packet),
            Format::Count => {}
        }
        if sink.is_full() { sink.flush(halt) } else { Ok(()) }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// The sink's.
    pub(super) fn flush(&mut self, halt: Halt<'_>) -> Result<(), SinkError> {
        self.sink.as_mut().map_or(Ok(()), |sink| sink.flush(halt))
    }

    /// Writes the statistics of every point and everything that waits.
    ///
    /// # Errors
    /// The sink's.
    pub(super) fn end(&mut self, points: &[Point], halt: Halt<'_>) -> Result<(), SinkError> {
        if let (Format::Pcapng, Some(sink)) = (&self.format, &mut self.sink) {
            for (number, point) in points.iter().enumerate() {
                let statistics = Statistics {
                    interface: u32::try_from(number).unwrap_or(u32::MAX),
                    start_ns: since_1970(point.opened),
                    end_ns: since_1970(SystemTime::now()),
                    received: point.facts.received,
                    dropped: point.facts.dropped,
                    delivered: point.facts.captured,
                };
                put_statistics(sink.buffer(), &statistics);
            }
        }
        self.flush(halt)
    }
}

/// Nanoseconds since 1970.
pub(super) fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|d| u64::try_from(d.as_nanos()).ok()).unwrap_or(0)
}

fn section(points: &[Point]) -> Section {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        text.trim().to_owned()
    };
    let mut subjects: Vec<&str> = points.iter().map(|p| p.facts.subject.as_str()).collect();
    subjects.dedup();
    let filter = points.first().map(|p| p.filter.as_str()).filter(|f| !f.is_empty()).unwrap_or("none");
    Section {
        hardware: std::env::consts::ARCH.to_owned(),
        os: format!("{} {}", read("ostype"), read("osrelease")),
        application: concat!("nsprobe ", env!("CARGO_PKG_VERSION")).to_owned(),
        comment: format!("{} on node {}; filter: {filter}", subjects.join(", "), read("hostname")),
    }
}

fn describe(point: &Point) -> InterfaceDescription {
    InterfaceDescription {
        link_type: link_type(point.datalink),
        snaplen_bytes: point.snaplen_bytes,
        name: point.facts.interface.clone(),
        description: point.label(),
        filter: point.filter.clone(),
        mac: point.mac,
        comment: point.mtu_bytes.map(|m| format!("MTU {m} bytes")),
    }
}
