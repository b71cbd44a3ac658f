//! pcapng blocks, written by hand: half the cost of a library's file path.
//!
//! Source: draft-ietf-opsawg-pcapng (PCAP Next Generation Capture File Format), sections 4.1 to 4.6.
//! Little-endian, nanosecond timestamps, every length a multiple of four.

use std::net::IpAddr;

/// Section Header Block.
const SECTION: u32 = 0x0A0D_0D0A;
/// Interface Description Block.
const INTERFACE: u32 = 1;
/// Name Resolution Block.
const NAMES: u32 = 4;
/// Interface Statistics Block.
const STATISTICS: u32 = 5;
/// Enhanced Packet Block.
const PACKET: u32 = 6;
/// Bytes of an Enhanced Packet Block beside the packet and its padding.
pub(super) const PACKET_OVERHEAD: usize = 32;

/// What a file says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Section {
    pub(super) hardware: String,
    pub(super) os: String,
    pub(super) application: String,
    pub(super) comment: String,
}

/// What a file says of one interface.
#[derive(Debug, Clone, Default)]
pub(super) struct InterfaceDescription {
    /// LINKTYPE_ number.
    pub(super) link_type: u16,
    pub(super) snaplen_bytes: u32,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) filter: String,
    pub(super) mac: Option<[u8; 6]>,
    pub(super) comment: Option<String>,
}

/// What a file says at its end of what an interface saw.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Statistics {
    pub(super) interface: u32,
    /// Nanoseconds since 1970.
    pub(super) start_ns: u64,
    /// Nanoseconds since 1970.
    pub(super) end_ns: u64,
    /// Packets that passed the filter, those dropped included.
    pub(super) received: Option<u64>,
    /// Packets the kernel dropped for lack of room.
    pub(super) dropped: Option<u64>,
    /// Packets that are in the file.
    pub(super) delivered: u64,
}

/// LINKTYPE_ number in a file for libpcap's DLT_ number: they differ only for raw IP.
pub(super) fn link_type(datalink: i32) -> u16 {
    match datalink {
        12 | 14 => 101,
        other => u16::try_from(other).unwrap_or(0),
    }
}

/// Appends a section header.
pub(super) fn put_section(out: &mut Vec<u8>, section: &Section) {
    let start = begin(out, SECTION);
    out.extend_from_slice(&0x1A2B_3C4D_u32.to_le_bytes());
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(&0u16.to_le_bytes());
    // The section's length is not known in a stream.
    out.extend_from_slice(&(-1i64).to_le_bytes());
    put_option(out, 1, section.comment.as_bytes());
    put_option(out, 2, section.hardware.as_bytes());
    put_option(out, 3, section.os.as_bytes());
    put_option(out, 4, section.application.as_bytes());
    end_options(out);
    end(out, start);
}

/// Appends an interface description; interfaces are numbered from 0 in the order of these blocks.
pub(super) fn put_interface(out: &mut Vec<u8>, interface: &InterfaceDescription) {
    let start = begin(out, INTERFACE);
    out.extend_from_slice(&interface.link_type.to_le_bytes());
    out.extend_from_slice(&0u16.to_le_bytes());
    out.extend_from_slice(&interface.snaplen_bytes.to_le_bytes());
    put_option(out, 2, interface.name.as_bytes());
    put_option(out, 3, interface.description.as_bytes());
    if let Some(mac) = interface.mac {
        put_option(out, 6, &mac);
    }
    // if_tsresol 9: units of 10^-9 s.
    put_option(out, 9, &[9]);
    if !interface.filter.is_empty() {
        // if_filter's first byte 0: a libpcap filter string.
        let mut filter = Vec::with_capacity(interface.filter.len() + 1);
        filter.push(0);
        filter.extend_from_slice(interface.filter.as_bytes());
        put_option(out, 11, &filter);
    }
    if let Some(comment) = &interface.comment {
        put_option(out, 1, comment.as_bytes());
    }
    end_options(out);
    end(out, start);
}

/// Bytes that a comment adds to a packet's block.
#[inline]
pub(super) fn comment_len(comment: &str) -> usize {
    // Code and length, the text padded to words, the end of options.
    if comment.is_empty() { 0 } else { 4 + comment.len().next_multiple_of(4) + 4 }
}

/// Appends a packet. `time_ns` is since 1970, `wire_len` its length on the wire; `comment` may be empty.
/// Allocates only when `out` has to grow.
#[inline]
pub(super) fn put_packet(
    out: &mut Vec<u8>,
    interface: u32,
    time_ns: u64,
    wire_len: u32,
    data: &[u8],
    comment: &str,
) {
    let padding = data.len().wrapping_neg() & 3;
    let Ok(captured) = u32::try_from(data.len()) else { return };
    let Ok(total) = u32::try_from(data.len() + padding + PACKET_OVERHEAD + comment_len(comment)) else {
        return;
    };
    let [h0, h1, h2, h3, l0, l1, l2, l3] = time_ns.to_be_bytes();
    let high = u32::from_be_bytes([h0, h1, h2, h3]);
    let low = u32::from_be_bytes([l0, l1, l2, l3]);
    let mut head = [0u8; 28];
    for (to, word) in head.chunks_exact_mut(4).zip([PACKET, total, interface, high, low, captured, wire_len])
    {
        to.copy_from_slice(&word.to_le_bytes());
    }
    out.reserve(data.len() + padding + PACKET_OVERHEAD);
    out.extend_from_slice(&head);
    out.extend_from_slice(data);
    out.extend_from_slice([0u8; 3].get(..padding).unwrap_or_default());
    if !comment.is_empty() {
        put_option(out, 1, comment.as_bytes());
        end_options(out);
    }
    out.extend_from_slice(&total.to_le_bytes());
}

/// Appends names of addresses. A name is cut at 255 bytes; one without any is left out.
pub(super) fn put_names(out: &mut Vec<u8>, names: &[(IpAddr, String)]) {
    if names.is_empty() {
        return;
    }
    let start = begin(out, NAMES);
    for (address, name) in names {
        let (kind, bytes): (u16, &[u8]) = match address {
            IpAddr::V4(v4) => (1, &v4.octets()),
            IpAddr::V6(v6) => (2, &v6.octets()),
        };
        let name: Vec<u8> = name.bytes().filter(u8::is_ascii_graphic).take(255).collect();
        let length = bytes.len() + name.len() + 1;
        let Some(length_field) = u16::try_from(length).ok().filter(|_| !name.is_empty()) else { continue };
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&length_field.to_le_bytes());
        out.extend_from_slice(bytes);
        out.extend_from_slice(&name);
        // The name's own end, and padding.
        out.extend(std::iter::repeat_n(0, 1 + (length.wrapping_neg() & 3)));
    }
    // nrb_record_end, and no options behind it.
    out.extend_from_slice(&[0; 4]);
    end(out, start);
}

/// Appends an interface's statistics. The kernel's drops go into isb_ifdrop as well as isb_osdrop: that is
/// where dumpcap writes them and Wireshark looks for them.
pub(super) fn put_statistics(out: &mut Vec<u8>, statistics: &Statistics) {
    let start = begin(out, STATISTICS);
    out.extend_from_slice(&statistics.interface.to_le_bytes());
    out.extend_from_slice(&halves(statistics.end_ns));
    put_option(out, 2, &halves(statistics.start_ns));
    put_option(out, 3, &halves(statistics.end_ns));
    if let Some(received) = statistics.received {
        put_option(out, 4, &received.to_le_bytes());
    }
    if let Some(dropped) = statistics.dropped {
        put_option(out, 5, &dropped.to_le_bytes());
    }
    if let Some(received) = statistics.received {
        put_option(out, 6, &received.to_le_bytes());
    }
    if let Some(dropped) = statistics.dropped {
        put_option(out, 7, &dropped.to_le_bytes());
    }
    put_option(out, 8, &statistics.delivered.to_le_bytes());
    end_options(out);
    end(out, start);
}

/// How many bytes of `blocks` are whole blocks, and how many of these are packets.
pub(super) fn whole_blocks(blocks: &[u8]) -> (usize, u64) {
    let word = |at: usize| {
        let bytes = blocks.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let (mut at, mut packets) = (0, 0);
    while let (Some(kind), Some(length)) = (word(at), word(at + 4)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length < 12 || blocks.len() - at < length {
            break;
        }
        at += length;
        packets += u64::from(kind == PACKET);
    }
    (at, packets)
}

/// A timestamp as its high and low 32 bits.
fn halves(time_ns: u64) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h] = time_ns.to_be_bytes();
    [d, c, b, a, h, g, f, e]
}

fn begin(out: &mut Vec<u8>, kind: u32) -> usize {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    start
}

/// Writes the block's length at both of its ends.
fn end(out: &mut Vec<u8>, start: usize) {
    let total = u32::try_from(out.len() - start + 4).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(place) = out.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&total);
    }
    out.extend_from_slice(&total);
}

fn put_option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    // An option's length has 16 bits: what does not fit is cut at a character.
    let mut length = value.len().min(usize::from(u16::MAX) - 3);
    while length < value.len() && length > 0 && value.get(length).is_some_and(|b| b & 0xc0 == 0x80) {
        length -= 1;
    }
    let value = value.get(..length).unwrap_or_default();
    if value.is_empty() {
        return;
    }
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(value);
    out.extend_from_slice([0u8; 3].get(..value.len().wrapping_neg() & 3).unwrap_or_default());
}

fn end_options(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_parser::pcapng::{Block, OptionCode, PcapNGOption, parse_block_le};
    use proptest::prelude::*;

    /// Reads all blocks with another implementation.
    fn parse(bytes: &[u8]) -> Vec<Block<'_>> {
        let (mut rest, mut blocks) = (bytes, Vec::new());
        while !rest.is_empty() {
            let (after, block) = parse_block_le(rest).unwrap();
            (rest, blocks) = (after, {
                blocks.push(block);
                blocks
            });
        }
        blocks
    }

    fn text(options: &[PcapNGOption<'_>], code: u16) -> Option<String> {
        let option = options.iter().find(|o| o.code == OptionCode(code))?;
        Some(String::from_utf8_lossy(option.as_bytes().unwrap()).into_owned())
    }

    fn file(packets: &[(u64, Vec<u8>)], comment: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let section = Section {
            hardware: "x86_64".into(),
            os: "Linux 6.1".into(),
            application: "nsprobe".into(),
            comment: "filter: icmp".into(),
        };
        put_section(&mut out, &section);
        let interface = InterfaceDescription {
            link_type: 1,
            snaplen_bytes: 262_144,
            name: "eth0".into(),
            description: "default/web-0 eth0".into(),
            filter: "icmp".into(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            comment: Some("MTU 1450 bytes".into()),
        };
        put_interface(&mut out, &interface);
        for (time, data) in packets {
            put_packet(&mut out, 0, *time, 9000, data, comment);
        }
        let statistics = Statistics {
            interface: 0,
            start_ns: 1_700_000_000_000_000_001,
            end_ns: 1_700_000_001_000_000_002,
            received: Some(12),
            dropped: Some(2),
            delivered: 10,
        };
        put_statistics(&mut out, &statistics);
        out
    }

    #[test]
    fn another_reader_finds_name_description_comment_and_filter() {
        let out = file(&[], "");
        let blocks = parse(&out);
        let [
            Block::SectionHeader(section),
            Block::InterfaceDescription(interface),
            Block::InterfaceStatistics(s),
        ] = &blocks[..]
        else {
            panic!("{blocks:?}")
        };
        assert_eq!(text(&section.options, 1).as_deref(), Some("filter: icmp"));
        assert_eq!(text(&section.options, 4).as_deref(), Some("nsprobe"));
        assert_eq!(section.section_len, -1);
        assert_eq!(text(&interface.options, 2).as_deref(), Some("eth0"));
        assert_eq!(text(&interface.options, 3).as_deref(), Some("default/web-0 eth0"));
        assert_eq!(text(&interface.options, 11).as_deref(), Some("\0icmp"));
        assert_eq!(text(&interface.options, 1).as_deref(), Some("MTU 1450 bytes"));
        assert_eq!(interface.if_tsresol, 9);
        assert_eq!(interface.snaplen, 262_144);
        for (code, value) in [(4, 12u64), (5, 2), (6, 12), (7, 2), (8, 10)] {
            let option = s.options.iter().find(|o| o.code == OptionCode(code)).unwrap();
            assert_eq!(option.as_bytes().unwrap(), value.to_le_bytes(), "option {code}");
        }
    }

    proptest! {
        #[test]
        fn packets_come_back_as_they_went_in(
            packets in proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..100)), 0..20),
            comment in "[a-z ]{0,9}",
        ) {
            let out = file(&packets, &comment);
            prop_assert_eq!(whole_blocks(&out), (out.len(), packets.len() as u64));
            let read: Vec<_> = parse(&out).into_iter().filter_map(|b| match b {
                Block::EnhancedPacket(p) => Some((
                    u64::from(p.ts_high) << 32 | u64::from(p.ts_low), p.data[..p.caplen as usize].to_vec(), p.origlen,
                    text(&p.options, 1).unwrap_or_default(),
                )),
                _ => None,
            }).collect();
            prop_assert_eq!(read.len(), packets.len());
            for (read, (time, data)) in read.into_iter().zip(packets) {
                prop_assert_eq!(read, (time, data, 9000, comment.clone()));
            }
        }

        #[test]
        fn a_cut_file_is_whole_up_to_its_last_block(cut in 0usize..400) {
            let out = file(&[(1, vec![1; 61]), (2, vec![2; 64])], "x");
            let cut = cut.min(out.len());
            let (whole, _) = whole_blocks(&out[..cut]);
            prop_assert!(whole <= cut);
            parse(&out[..whole]);
        }

        #[test]
        fn any_bytes_are_walked_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(whole_blocks(&bytes).0 <= bytes.len());
        }
    }

    #[test]
    fn another_reader_finds_the_names_of_addresses() {
        let mut out = Vec::new();
        let names: Vec<(IpAddr, String)> = vec![
            ([10, 244, 1, 5].into(), "default/web-0".into()),
            ("fd00::5".parse().unwrap(), "default/web\u{1b}-0".into()),
            ([10, 244, 1, 6].into(), "\u{e9}".into()),
        ];
        put_names(&mut out, &names);
        put_names(&mut out, &[]);
        let blocks = parse(&out);
        let [Block::NameResolution(block)] = &blocks[..] else { panic!("{blocks:?}") };
        // This reader leaves the padding at a value.
        let bare = |value: &[u8]| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
        let records: Vec<_> = block
            .nr
            .iter()
            .filter(|r| r.record_type.0 != 0)
            .map(|r| (r.record_type.0, bare(r.record_value)))
            .collect();
        assert_eq!(records.len(), 2, "{records:?}");
        assert_eq!(records[0].0, 1);
        assert!(records[0].1.ends_with("default/web-0"), "{records:?}");
        assert_eq!(records[1].0, 2);
        assert!(records[1].1.ends_with("\u{5}default/web-0"), "no escape: {records:?}");
    }

    #[test]
    fn a_packet_block_is_counted_only_when_it_is_whole() {
        let mut out = Vec::new();
        put_packet(&mut out, 0, 1, 5, b"hello", "");
        put_packet(&mut out, 0, 2, 5, b"world", "");
        assert_eq!(whole_blocks(&out[..out.len() - 1]), (out.len() / 2, 1));
    }

    #[test]
    fn a_comment_longer_than_an_option_is_cut_at_a_character() {
        let mut out = Vec::new();
        put_section(&mut out, &Section { comment: "é".repeat(40_000), ..Section::default() });
        let blocks = parse(&out);
        let Block::SectionHeader(section) = &blocks[0] else { panic!() };
        let comment = text(&section.options, 1).unwrap();
        assert!(comment.len() > 65_000 && comment.chars().all(|c| c == 'é'));
    }
}
