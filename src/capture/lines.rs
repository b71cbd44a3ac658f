//! One line a packet: time, whose interface, direction, and the packet decoded; the way tcpdump's users know it.

use super::decode::decode;
use super::output::Packet;
use super::watch::{Notable, notable};
use crate::facts::rfc3339;
use std::fmt::Write;

/// How a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stamp {
    /// The time of day.
    #[default]
    Clock,
    /// Nothing (`-t`).
    None,
    /// Seconds since 1970 (`-tt`).
    Unix,
    /// Seconds since the line before (`-ttt`).
    SinceLast,
    /// Date and time of day (`-tttt`).
    Date,
    /// Seconds since the first line (`-ttttt`).
    SinceFirst,
}

/// What a line shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View {
    /// How it begins.
    pub stamp: Stamp,
    /// The fields of the IP header and all TCP options too (`-v`).
    pub detail: bool,
    /// The link's header (`-e`).
    pub link: bool,
    /// The bytes of the packet (`-x`), and with 2 its link header (`-xx`).
    pub hex: u8,
    /// Escape sequences for a terminal.
    pub colour: bool,
}

/// Which way frames go, as the interface sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// It sends them.
    Out,
    /// It receives them.
    In,
}

/// What a line says of its point.
#[derive(Debug)]
struct LinePoint {
    label: String,
    /// Who sends frames in one direction, and in which.
    sender: Option<([u8; 6], Direction)>,
    link_type: u16,
}

/// Makes lines; its memory is kept, a line allocates nothing once it has grown.
#[derive(Debug, Default)]
pub(super) struct Lines {
    view: View,
    points: Vec<LinePoint>,
    line: String,
    /// Seconds east of UTC, and the quarter of an hour it was asked in.
    offset: Option<(i64, u64)>,
    /// Time of the first packet and of the one before.
    times: Option<(u64, u64)>,
}

impl Lines {
    pub(super) fn new(view: View) -> Self {
        Self { view, ..Self::default() }
    }

    /// The points by number: label, who sends in which direction, LINKTYPE_ number.
    pub(super) fn begin(
        &mut self,
        points: impl Iterator<Item = (String, Option<([u8; 6], Direction)>, u16)>,
    ) {
        self.points =
            points.map(|(label, sender, link_type)| LinePoint { label, sender, link_type }).collect();
    }

    /// Appends the line of a packet, and its bytes where they are wanted.
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
        let (first, _) = self.times.unwrap_or((packet.time_ns, packet.time_ns));
        self.times = Some((first, packet.time_ns));
        out.extend_from_slice(self.line.as_bytes());
        out.push(b'\n');
    }

    fn format(&mut self, packet: &Packet<'_>, offset: i64) -> std::fmt::Result {
        let (line, view) = (&mut self.line, self.view);
        let (first, last) = self.times.unwrap_or((packet.time_ns, packet.time_ns));
        stamp(line, view.stamp, packet.time_ns, offset, first, last)?;
        let Some(point) = self.points.get(packet.point) else { return Ok(()) };
        let (cyan, end) = if view.colour { ("\x1b[36m", "\x1b[0m") } else { ("", "") };
        line.push_str(cyan);
        line.push_str(&point.label);
        line.push_str(end);
        line.push(' ');
        if let Some(direction) = direction(point, packet.data) {
            line.push_str(direction);
            line.push(' ');
        }
        if view.link {
            link_header(line, point.link_type, packet.data, packet.wire_len)?;
        }
        let colour = view.colour.then(|| notable(point.link_type, packet.data)).flatten().map(|n| match n {
            Notable::TooBig => "\x1b[1;31m",
            Notable::IcmpError | Notable::Reset => "\x1b[33m",
        });
        line.push_str(colour.unwrap_or_default());
        decode(line, point.link_type, packet.data, packet.wire_len, view.detail)?;
        line.push_str(colour.map_or("", |_| end));
        match view.hex {
            0 => Ok(()),
            1 => hex(line, packet.data.get(header_len(point.link_type, packet.data)..).unwrap_or_default()),
            _ => hex(line, packet.data),
        }
    }
}

/// The time as it was asked for. A clock that is set back shows as a negative difference.
fn stamp(
    line: &mut String,
    stamp: Stamp,
    time_ns: u64,
    offset: i64,
    first: u64,
    last: u64,
) -> std::fmt::Result {
    let seconds = i64::try_from(time_ns / 1_000_000_000).unwrap_or(0);
    let micros = time_ns % 1_000_000_000 / 1000;
    match stamp {
        Stamp::None => Ok(()),
        Stamp::Unix => write!(line, "{seconds}.{micros:06} "),
        Stamp::SinceLast => difference(line, last, time_ns),
        Stamp::SinceFirst => difference(line, first, time_ns),
        Stamp::Date => {
            let text = rfc3339(seconds + offset).replace('T', " ").replace('Z', "");
            write!(line, "{text}.{micros:06} ")
        }
        Stamp::Clock => {
            let day = (seconds + offset).rem_euclid(86_400);
            clock(line, day.unsigned_abs(), micros);
            Ok(())
        }
    }
}

/// `12:00:00.123456 `, without the formatting machinery: it is in every line.
fn clock(line: &mut String, second_of_day: u64, micros: u64) {
    let mut text = *b"00:00:00.000000 ";
    let mut put = |at: usize, digits: usize, mut number: u64| {
        for place in text.iter_mut().skip(at).take(digits).rev() {
            *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
        }
    };
    put(0, 2, second_of_day / 3600);
    put(3, 2, second_of_day / 60 % 60);
    put(6, 2, second_of_day % 60);
    put(9, 6, micros);
    line.push_str(std::str::from_utf8(&text).unwrap_or_default());
}

fn difference(line: &mut String, from: u64, to: u64) -> std::fmt::Result {
    let (sign, nanos) = if to < from { ("-", from - to) } else { (" ", to - from) };
    let (seconds, micros) = (nanos / 1_000_000_000, nanos % 1_000_000_000 / 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(line, "{sign}{hour:02}:{minute:02}:{second:02}.{micros:06} ")
}

/// `02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 0x0800, length 98: `.
fn link_header(line: &mut String, link_type: u16, data: &[u8], length: u32) -> std::fmt::Result {
    let (1, Some(head)) = (link_type, data.first_chunk::<14>()) else {
        return write!(line, "link type {link_type}, length {length}: ");
    };
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, high, low] = head;
    write!(
        line,
        "{s0:02x}:{s1:02x}:{s2:02x}:{s3:02x}:{s4:02x}:{s5:02x} > \
         {d0:02x}:{d1:02x}:{d2:02x}:{d3:02x}:{d4:02x}:{d5:02x}, ethertype 0x{high:02x}{low:02x}, length {length}: "
    )
}

/// Bytes of the link's header.
fn header_len(link_type: u16, data: &[u8]) -> usize {
    let size = match link_type {
        1 => 14,
        113 => 16,
        _ => 0,
    };
    size.min(data.len())
}

/// The bytes, sixteen a line, as `tcpdump -x` shows them.
fn hex(line: &mut String, data: &[u8]) -> std::fmt::Result {
    for (number, row) in data.chunks(16).enumerate() {
        write!(line, "\n\t0x{:04x}: ", number * 16)?;
        for pair in row.chunks(2) {
            line.push(' ');
            for byte in pair {
                write!(line, "{byte:02x}")?;
            }
        }
    }
    Ok(())
}

/// `Out` for what the interface sent, by the hardware address of whoever sends one way; `None` where there is none
/// to go by.
fn direction(point: &LinePoint, data: &[u8]) -> Option<&'static str> {
    match point.link_type {
        1 => {
            let source = data.get(6..12)?;
            let (mac, its) = point.sender?;
            Some(if (source == mac) == (its == Direction::Out) { "Out" } else { "In" })
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

    /// 12:00:00.123456789 of some day, whatever the zone.
    const NOON: u64 = 1_700_049_600_123_456_789;
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn lines(view: View) -> Lines {
        let mut lines = Lines::new(view);
        lines.begin([("default/web-0 eth0".to_owned(), Some((MAC, Direction::Out)), 1)].into_iter());
        // The time as UTC.
        lines.offset = Some((0, NOON / 1_000_000_000 / 900));
        lines
    }

    fn put(lines: &mut Lines, time_ns: u64, data: &[u8]) -> String {
        let mut out = Vec::new();
        let wire_len = u32::try_from(data.len()).unwrap();
        lines.put(&mut out, &Packet { point: 0, time_ns, wire_len, data });
        String::from_utf8(out).unwrap()
    }

    fn echo(source: [u8; 6]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(source, [2, 0, 0, 0, 0, 9])
            .ipv4([10, 244, 1, 5], [10, 244, 2, 7], 64)
            .icmpv4_echo_request(1, 1);
        let mut data = Vec::new();
        builder.write(&mut data, &[0; 4]).unwrap();
        data
    }

    #[test]
    fn a_line_has_time_place_direction_and_packet() {
        let mut lines = lines(View::default());
        assert_eq!(
            put(&mut lines, NOON, &echo(MAC)),
            "12:00:00.123456 default/web-0 eth0 Out IP 10.244.1.5 > 10.244.2.7: \
             ICMP echo request, id 1, seq 1, length 12\n"
        );
        assert!(put(&mut lines, NOON, &echo([2, 0, 0, 0, 0, 7])).contains(" eth0 In IP "));
    }

    #[test]
    fn times_are_those_of_tcpdumps_five_ts() {
        for (stamp, first, second) in [
            (Stamp::None, "", ""),
            (Stamp::Unix, "1700049600.123456 ", "1700049602.123456 "),
            (Stamp::SinceLast, " 00:00:00.000000 ", " 00:00:02.000000 "),
            (Stamp::Date, "2023-11-15 12:00:00.123456 ", "2023-11-15 12:00:02.123456 "),
            (Stamp::SinceFirst, " 00:00:00.000000 ", " 00:00:02.000000 "),
        ] {
            let mut lines = lines(View { stamp, ..View::default() });
            let later = NOON + 2_000_000_000;
            for (time, start) in [(NOON, first), (later, second)] {
                let line = put(&mut lines, time, &echo(MAC));
                assert!(line.starts_with(&format!("{start}default/")), "{stamp:?}: {line}");
            }
            let back = put(&mut lines, NOON + 500_000_000, &echo(MAC));
            match stamp {
                Stamp::SinceLast => assert!(back.starts_with("-00:00:01.500000 "), "{back}"),
                Stamp::SinceFirst => assert!(back.starts_with(" 00:00:00.500000 "), "{back}"),
                _ => {}
            }
        }
    }

    #[test]
    fn the_link_header_and_the_bytes_are_shown_when_asked_for() {
        let mut shown = lines(View { link: true, hex: 1, ..View::default() });
        assert_eq!(
            put(&mut shown, NOON, &echo(MAC)),
            "12:00:00.123456 default/web-0 eth0 Out 02:00:00:00:00:01 > 02:00:00:00:00:09, ethertype 0x0800, \
             length 46: IP 10.244.1.5 > 10.244.2.7: ICMP echo request, id 1, seq 1, length 12\n\
             \t0x0000:  4500 0020 0000 4000 4001 21ea 0af4 0105\n\
             \t0x0010:  0af4 0207 0800 f7fd 0001 0001 0000 0000\n"
        );
        let mut shown = lines(View { hex: 2, ..View::default() });
        assert!(
            put(&mut shown, NOON, &echo(MAC))
                .contains("\n\t0x0000:  0200 0000 0009 0200 0000 0001 0800 4500\n")
        );
    }

    #[test]
    fn what_stands_out_is_coloured_and_only_on_a_terminal() {
        let mut data = Vec::new();
        let reset = PacketBuilder::ethernet2(MAC, MAC).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1, 2, 3, 4);
        reset.rst().write(&mut data, &[]).unwrap();
        assert!(!put(&mut lines(View::default()), NOON, &data).contains('\x1b'));
        let mut colour = lines(View { colour: true, ..View::default() });
        let line = put(&mut colour, NOON, &data);
        assert!(line.contains("\x1b[36mdefault/web-0 eth0\x1b[0m Out \x1b[33mIP "), "{line:?}");
        assert!(line.ends_with("length 0\x1b[0m\n"), "{line:?}");
        assert!(put(&mut colour, NOON, &echo(MAC)).contains(" Out IP "));
    }
}
