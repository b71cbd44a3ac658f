//! The two ways to ask: which sequence numbers a probe carries, and which probe an answer names. No I/O.

use super::connection::Numbers;
use super::segment::{ACK, FIN, Heard, RST, SYN, Segment};
use std::time::Instant;

/// Old data on an established connection: every probe ends at another byte below the next one that the peer
/// expects, and the DSACK of its ACK says where the probe began and ended (RFC 2883 §4).
///
/// The peer throws the bytes away before its application or its window sees them (`tcp_validate_incoming`,
/// net/ipv4/tcp_input.c), and never limits the ACKs to segments with data (`tcp_oow_rate_limited`).
#[derive(Debug, Clone, Copy)]
pub(super) struct OldData {
    pub(super) local_port: u16,
    pub(super) target_port: u16,
    pub(super) numbers: Numbers,
    /// The peer's clock as it was heard last.
    pub(super) echo: u32,
    /// Ranges that were used before the search's first.
    pub(super) used: u16,
}

/// What a segment means to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The probe with this id, so many bytes of payload, arrived.
    Arrived(u16, u32),
    /// An ACK of nothing new that names no range.
    NoRange,
    /// The peer ends the connection.
    Ended,
}

impl OldData {
    /// The end of probe `id`: close below the window, because a firewall takes old data no further below it
    /// than one window (nf_conntrack_proto_tcp.c), and never at its edge, where it would count as an answer
    /// to be delayed.
    fn end(&self, id: u16) -> u32 {
        self.numbers.send_next.wrapping_sub(1 + u32::from(self.used) + u32::from(id))
    }

    /// The segment of probe `id` with `length` bytes of payload.
    pub(super) fn segment(&self, id: u16, length: u32, now: Instant) -> Segment {
        let clock = self.numbers.timestamps.map(|(clock, read)| {
            let passed = now.saturating_duration_since(read).as_millis();
            clock.wrapping_add(u32::try_from(passed).unwrap_or(u32::MAX))
        });
        Segment {
            source_port: self.local_port,
            target_port: self.target_port,
            sequence: self.end(id).wrapping_sub(length),
            acknowledgement: self.numbers.receive_next,
            flags: ACK,
            timestamps: clock.map(|clock| (clock, self.echo)),
        }
    }

    /// Which probe ends at `end`, if one can.
    fn id(&self, end: u32) -> Option<u16> {
        let below = self.numbers.send_next.wrapping_sub(end);
        u16::try_from(below.checked_sub(1 + u32::from(self.used))?).ok()
    }

    /// What a segment of the connection says.
    pub(super) fn meaning(&self, heard: &Heard) -> Option<Meaning> {
        // The peer may have said something on its own, a greeting, so its place is not quite ours.
        let near = heard.sequence.wrapping_sub(self.numbers.receive_next) < 1 << 24;
        if heard.local_port != self.local_port || !near {
            return None;
        }
        if heard.flags & (FIN | RST) != 0 {
            return Some(Meaning::Ended);
        }
        if heard.flags & (SYN | ACK) != ACK || heard.acknowledgement != self.numbers.send_next {
            return None;
        }
        match heard.block {
            Some((left, right)) => self.id(right).map(|id| Meaning::Arrived(id, right.wrapping_sub(left))),
            None => (heard.data == 0).then_some(Meaning::NoRange),
        }
    }

    /// The probe that a quoted segment is: id, and bytes of payload cannot be told.
    pub(super) fn quoted(&self, (source, target, sequence): (u16, u16, u32), length: u32) -> Option<u16> {
        let ours = source == self.local_port && target == self.target_port;
        ours.then(|| self.id(sequence.wrapping_add(length))).flatten()
    }
}

/// What an answer to a SYN says of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// SYN and ACK.
    Open,
    /// RST: nobody listens, or a firewall says so in the target's name.
    Reset,
}

/// SYN with data: a closed port answers RST, an open one SYN and ACK, which our kernel answers with RST before
/// any application hears of it. Both acknowledge the SYN, or the SYN and the data, by number (RFC 9293 §3.10.7).
#[derive(Debug, Clone)]
pub(super) struct Knock {
    /// Ports that are held for this, used in turn; never empty.
    pub(super) ports: Vec<u16>,
    pub(super) target_port: u16,
    /// Sequence number of probe 0; the next ones are 65536 apart, more than a packet holds.
    pub(super) base: u32,
}

impl Knock {
    fn port(&self, id: u16) -> u16 {
        self.ports.get(usize::from(id) % self.ports.len().max(1)).copied().unwrap_or(0)
    }

    /// The segment of probe `id`.
    pub(super) fn segment(&self, id: u16) -> Segment {
        Segment {
            source_port: self.port(id),
            target_port: self.target_port,
            sequence: self.base.wrapping_add(u32::from(id) << 16),
            acknowledgement: 0,
            flags: SYN,
            timestamps: None,
        }
    }

    /// Which probe has a sequence number, and how far behind the probe's first it is.
    fn id(&self, sequence: u32) -> (u16, u32) {
        let behind = sequence.wrapping_sub(self.base);
        (u16::try_from(behind >> 16).unwrap_or(0), behind & 0xffff)
    }

    /// The probe that a segment answers; `length(id)` tells how many bytes of payload it had.
    pub(super) fn answered(&self, heard: &Heard, length: impl Fn(u16) -> Option<u32>) -> Option<(u16, Port)> {
        if heard.flags & ACK == 0 || heard.flags & (SYN | RST) == 0 {
            return None;
        }
        let (id, behind) = self.id(heard.acknowledgement.wrapping_sub(1));
        let ours = heard.local_port == self.port(id) && [0, length(id)?].contains(&behind);
        let port = if heard.flags & RST == 0 { Port::Open } else { Port::Reset };
        ours.then_some((id, port))
    }

    /// The probe that a quoted segment is.
    pub(super) fn quoted(&self, (source, target, sequence): (u16, u16, u32)) -> Option<u16> {
        let (id, behind) = self.id(sequence);
        (behind == 0 && source == self.port(id) && target == self.target_port).then_some(id)
    }
}

#[cfg(test)]
#[path = "way_tests.rs"]
mod tests;
