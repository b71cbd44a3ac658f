//! One line a packet: time, whose interface, direction, and the packet decoded.

use super::decode::decode;
use super::output::Packet;
use std::fmt::Write;

/// What a line says of its point.
#[derive(Debug)]
struct LinePoint {
    label: String,
    mac: Option<[u8; 6]>,
    link_type: u16,
}

/// Makes lines; its memory is kept, a line allocates nothing once it has grown.
#[derive(Debug, Default)]
pub(super) struct Lines {
    points: Vec<LinePoint>,
    line: String,
    /// Seconds east of UTC, and the quarter of an hour it was asked in.
    offset: Option<(i64, u64)>,
}

impl Lines {
    /// The points by number: label, hardware address, LINKTYPE_ number.
    pub(super) fn begin(&mut self, points: impl Iterator<Item = (String, Option<[u8; 6]>, u16)>) {
        self.points = points.map(|(label, mac, link_type)| LinePoint { label, mac, link_type }).collect();
    }

    /// Appends the line of a packet.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, packet: &Packet<'_>) {
        let seconds = packet.time_ns / 1_000_000_000;
        let offset = match self.offset {
            // No zone changes its clock but on a quarter of an hour.
            Some((offset, quarter)) if quarter == seconds / 900 => offset,
            _ => {
                let offset = local_offset(seconds);
                self.offset = Some((offset, seconds / 900));
                offset
            }
        };
        self.line.clear();
        // Writing to a String cannot fail.
        let _ = self.format(packet, offset);
        out.extend_from_slice(self.line.as_bytes());
        out.push(b'\n');
    }

    fn format(&mut self, packet: &Packet<'_>, offset: i64) -> std::fmt::Result {
        let seconds = i64::try_from(packet.time_ns / 1_000_000_000).unwrap_or(0) + offset;
        let day = seconds.rem_euclid(86_400);
        let micros = packet.time_ns % 1_000_000_000 / 1000;
        let (hour, minute, second) = (day / 3600, day / 60 % 60, day % 60);
        let line = &mut self.line;
        write!(line, "{hour:02}:{minute:02}:{second:02}.{micros:06} ")?;
        let Some(point) = self.points.get(packet.point) else { return Ok(()) };
        write!(line, "{} ", point.label)?;
        if let Some(direction) = direction(point, packet.data) {
            write!(line, "{direction} ")?;
        }
        decode(line, point.link_type, packet.data, packet.wire_len)
    }
}

/// `Out` for what the interface sent, by its own hardware address; `None` where there is none to go by.
fn direction(point: &LinePoint, data: &[u8]) -> Option<&'static str> {
    match point.link_type {
        1 => {
            let source = data.get(6..12)?;
            Some(if source == point.mac? { "Out" } else { "In" })
        }
        // LINUX_SLL: the packet type tells, 4 is PACKET_OUTGOING.
        113 => Some(if data.get(..2)? == [0, 4] { "Out" } else { "In" }),
        _ => None,
    }
}

/// Seconds east of UTC at `seconds` since 1970; 0 when the zone cannot be read.
fn local_offset(seconds: u64) -> i64 {
    let Ok(seconds) = libc::time_t::try_from(seconds) else { return 0 };
    // SAFETY: tm is plain data, and all zeroes is a valid value of it.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right type; no other thread changes TZ.
    let found = unsafe { libc::localtime_r(&raw const seconds, &raw mut tm) };
    if found.is_null() { 0 } else { tm.tm_gmtoff }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    fn line(lines: &mut Lines, source: [u8; 6]) -> String {
        let builder = PacketBuilder::ethernet2(source, [2, 0, 0, 0, 0, 9])
            .ipv4([10, 244, 1, 5], [10, 244, 2, 7], 64)
            .icmpv4_echo_request(1, 1);
        let mut data = Vec::new();
        builder.write(&mut data, &[0; 1472]).unwrap();
        let mut out = Vec::new();
        // 12:00:00.123456789 on some day, whatever the zone.
        let packet = Packet { point: 0, time_ns: 1_700_049_600_123_456_789, wire_len: 1514, data: &data };
        lines.put(&mut out, &packet);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_time_place_direction_and_packet() {
        let mut lines = Lines::default();
        let mac = [2, 0, 0, 0, 0, 1];
        lines.begin([("default/web-0 eth0".to_owned(), Some(mac), 1)].into_iter());
        // The time as UTC.
        lines.offset = Some((0, 1_700_049_600 / 900));
        assert_eq!(
            line(&mut lines, mac),
            "12:00:00.123456 default/web-0 eth0 Out IP 10.244.1.5 > 10.244.2.7: \
             ICMP echo request, id 1, seq 1, length 1480\n"
        );
        assert!(line(&mut lines, [2, 0, 0, 0, 0, 7]).contains(" eth0 In IP "));
    }
}
