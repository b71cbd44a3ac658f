//! Bytes of probes, and what is read of anything at all.

use super::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 1, 5));
const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 2, 7));
const SOURCE_SIX: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
const TARGET_SIX: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));

const PROBE: Segment = Segment {
    source_port: 40_000,
    target_port: 80,
    sequence: 0x0102_0304,
    acknowledgement: 0x0506_0708,
    flags: ACK,
    timestamps: Some((0x1111_1111, 0x2222_2222)),
};

/// An ACK from port 80 to port 40000 with these options, IPv4.
pub(in super::super) fn ack(acknowledgement: u32, options: &[u8]) -> Vec<u8> {
    assert!(options.len().is_multiple_of(4));
    let mut tcp = vec![0u8; 20 + options.len()];
    tcp[..4].copy_from_slice(&[0, 80, 0x9c, 0x40]);
    tcp[8..12].copy_from_slice(&acknowledgement.to_be_bytes());
    tcp[12] = u8::try_from((20 + options.len()) / 4).unwrap() << 4;
    tcp[13] = ACK;
    tcp[20..].copy_from_slice(options);
    let (IpAddr::V4(source), IpAddr::V4(target)) = (TARGET, SOURCE) else { unreachable!() };
    wire::ipv4_packet(source, target, 62, IpNextHeaderProtocols::Tcp, &tcp).unwrap()
}

/// NOP, NOP and a SACK option of these blocks (RFC 2018 §3).
pub(in super::super) fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
    let mut option = vec![NOP, NOP, KIND_SACK, u8::try_from(2 + 8 * blocks.len()).unwrap()];
    for (left, right) in blocks {
        option.extend(left.to_be_bytes());
        option.extend(right.to_be_bytes());
    }
    option
}

#[test]
fn a_probe_over_ipv4_is_these_bytes() {
    let bytes = PROBE.packet(SOURCE, TARGET, 7, 60).unwrap();
    let expected = [
        // Version and length, total length 60, DF, TTL 7, TCP; checksum and id are the kernel's.
        &[0x45, 0, 0, 60, 0, 0, 0x40, 0, 7, 6, 0, 0, 10, 244, 1, 5, 10, 244, 2, 7][..],
        // Ports, numbers, 32 bytes of header, ACK, window 512, checksum, urgent.
        &[0x9c, 0x40, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0x10, 2, 0],
        &bytes[36..38],
        &[0, 0, 1, 1, 8, 10, 0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x22, 0x22],
        &[0; 8],
    ]
    .concat();
    assert_eq!(bytes, expected);
    let tcp = TcpPacket::new(&bytes[20..]).unwrap();
    let (IpAddr::V4(source), IpAddr::V4(target)) = (SOURCE, TARGET) else { unreachable!() };
    assert_eq!(tcp.get_checksum(), ipv4_checksum(&tcp, &source, &target));
}

#[test]
fn a_probe_over_ipv6_has_its_hop_limit_size_and_checksum() {
    let bytes = Segment { timestamps: None, ..PROBE }.packet(SOURCE_SIX, TARGET_SIX, 9, 1280).unwrap();
    assert_eq!(bytes.len(), 1280);
    assert_eq!(bytes[..8], [0x60, 0, 0, 0, 0x04, 0xd8, 6, 9], "1240 bytes of TCP");
    let tcp = TcpPacket::new(&bytes[40..]).unwrap();
    let (IpAddr::V6(source), IpAddr::V6(target)) = (SOURCE_SIX, TARGET_SIX) else { unreachable!() };
    assert_eq!(tcp.get_checksum(), ipv6_checksum(&tcp, &source, &target));
    assert_eq!(tcp.get_data_offset(), 5);
}

#[test]
fn a_size_that_holds_no_header_or_no_packet_can_be_is_refused() {
    for size in [0, 19, 20, 39, 40, 51, 65_536, u32::MAX] {
        assert_eq!(PROBE.packet(SOURCE, TARGET, 64, size), None, "{size}");
    }
    assert_eq!(PROBE.packet(SOURCE, TARGET_SIX, 64, 1000), None, "two families");
    assert_eq!(PROBE.packet(SOURCE, TARGET, 64, 65_535).map(|p| p.len()), Some(65_535));
}

#[test]
fn the_first_block_of_an_ack_and_the_peers_clock_are_read() {
    let clock = [NOP, NOP, KIND_TIMESTAMPS, 10, 0, 0, 0, 9, 0, 0, 0, 8];
    let packet = ack(5000, &[&clock[..], &sack(&[(1000, 2000), (6000, 7000)])].concat());
    let heard = Heard::read(&packet).unwrap();
    assert_eq!(
        heard,
        Heard {
            ttl: 62,
            local_port: 40_000,
            sequence: 0,
            acknowledgement: 5000,
            flags: ACK,
            block: Some((1000, 2000)),
            timestamp: Some(9),
            data: 0
        }
    );
}

#[test]
fn options_that_lie_about_their_length_end_the_reading() {
    for options in [
        &[KIND_SACK, 0, 0, 0][..],
        &[KIND_SACK, 1, 0, 0],
        &[KIND_SACK, 2, 0, 0],
        &[KIND_SACK, 6, 0, 0],
        &[KIND_SACK, 255, 0, 0],
        &[KIND_TIMESTAMPS, 2, 0, 0],
        &[NOP, NOP, NOP, KIND_SACK],
        &[END, KIND_SACK, 10, 0, 0, 0, 0, 1, 0, 0, 0, 2],
    ] {
        let heard = Heard::read(&ack(5000, options)).unwrap();
        assert_eq!((heard.block, heard.timestamp), (None, None), "{options:?}");
    }
}

#[test]
fn a_fragment_another_protocol_and_a_header_longer_than_the_packet_are_no_segment() {
    let good = ack(1, &sack(&[(1, 2)]));
    assert!(Heard::read(&good).is_some());
    for (at, value) in [(6, 0x20), (7, 1), (9, 17), (0, 0x44), (0, 0x55), (32, 0xf0), (32, 0x40)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(Heard::read(&bad), None, "byte {at} = {value:#x}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Heard::read(&bytes);
        let _ = quoted(&bytes);
    }

    #[test]
    fn hostile_options_are_read_within_their_bounds(options in prop::collection::vec(any::<u8>(), 40)) {
        let heard = Heard::read(&ack(5000, &options)).unwrap();
        if let Some((left, right)) = heard.block {
            let block = [left.to_be_bytes(), right.to_be_bytes()].concat();
            prop_assert!(options.windows(8).any(|window| window == block));
        }
    }

    #[test]
    fn a_damaged_or_cut_ack_never_panics(at in 0usize..52, value: u8, cut in 0usize..60) {
        let mut packet = ack(5000, &sack(&[(1, 2)]));
        if let Some(byte) = packet.get_mut(at) { *byte = value }
        packet.truncate(cut);
        let _ = Heard::read(&packet);
    }

    #[test]
    fn every_probe_has_the_size_it_says(size in 73u32..9001, ttl: u8, clock: bool) {
        let segment = Segment { timestamps: clock.then_some((1, 2)), ..PROBE };
        for (source, target) in [(SOURCE, TARGET), (SOURCE_SIX, TARGET_SIX)] {
            let packet = segment.packet(source, target, ttl, size).unwrap();
            prop_assert_eq!(packet.len(), usize::try_from(size).unwrap());
            let heard = Heard::read(&packet).unwrap();
            prop_assert_eq!(heard.ttl, ttl);
            let headers = Segment::headers(if source.is_ipv4() { 20 } else { 40 }, clock);
            prop_assert_eq!(heard.data, usize::try_from(size - headers).unwrap());
        }
    }
}
