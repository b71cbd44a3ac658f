use super::*;
use etherparse::TcpOptionElement as TcpOption;
use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4, icmpv6};
use proptest::prelude::*;
use std::net::Ipv6Addr;

fn ether() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
}

fn v4() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    ether().ipv4([10, 244, 1, 5], [10, 244, 2, 7], 64)
}

fn v6() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let address = |last| {
        "fd00::"
            .parse::<Ipv6Addr>()
            .map(|a| {
                let mut o = a.octets();
                o[15] = last;
                o
            })
            .unwrap()
    };
    ether().ipv6(address(5), address(7), 64)
}

macro_rules! bytes {
    ($builder:expr, $payload:expr) => {{
        let mut data = Vec::new();
        $builder.write(&mut data, $payload).unwrap();
        data
    }};
}

fn line(data: &[u8]) -> String {
    let mut line = String::new();
    decode(&mut line, 1, data, u32::try_from(data.len()).unwrap(), false).unwrap();
    line
}

/// A quoted packet from 10.244.1.5 to 10.9.9.9.
fn quote() -> Vec<u8> {
    bytes!(PacketBuilder::ipv4([10, 244, 1, 5], [10, 9, 9, 9], 64).udp(1, 2), &[0; 8])
}

#[test]
fn a_segment_shows_flags_numbers_window_mss_and_length() {
    let data = bytes!(
        v4().tcp(40000, 80, 1000, 64240).syn().options(&[TcpOption::MaximumSegmentSize(1398)]).unwrap(),
        &[]
    );
    assert_eq!(
        line(&data),
        "IP 10.244.1.5.40000 > 10.244.2.7.80: Flags [S], seq 1000, win 64240, mss 1398, length 0"
    );
    let data = bytes!(v4().tcp(40000, 80, 1000, 500).ack(77).psh(), &[0; 100]);
    assert_eq!(
        line(&data),
        "IP 10.244.1.5.40000 > 10.244.2.7.80: Flags [P.], seq 1000:1100, ack 77, win 500, length 100"
    );
    let duplicate = [TcpOption::SelectiveAcknowledgement((5, 9), [None; 3])];
    let data = bytes!(v4().tcp(80, 40000, 7, 500).ack(9).options(&duplicate).unwrap(), &[]);
    assert!(line(&data).contains("ack 9, win 500, sack 5:9, length 0"));
}

#[test]
fn lengths_are_those_of_the_packet_however_little_was_captured() {
    let data = bytes!(v4().tcp(40000, 80, 1000, 500).ack(77), &[0; 1000]);
    assert!(
        line(&data[..60]).ends_with("seq 1000:2000, ack 77, win 500, length 1000"),
        "{}",
        line(&data[..60])
    );
    let data = bytes!(v6().udp(53, 40000), &[0; 1000]);
    assert_eq!(line(&data[..70]), "IP6 fd00::5.53 > fd00::7.40000: UDP, length 1000");
}

#[test]
fn an_icmp_error_names_mtu_and_whom_it_is_about() {
    let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded {
        next_hop_mtu: 1450,
    });
    assert_eq!(
        line(&bytes!(v4().icmpv4(kind), &quote())),
        "IP 10.244.1.5 > 10.244.2.7: ICMP 10.9.9.9 unreachable - need to frag (mtu 1450), length 44; \
         quotes UDP 10.244.1.5.1 > 10.9.9.9.2, 36 bytes"
    );
    let kind = Icmpv6Type::PacketTooBig { mtu: 1280 };
    assert_eq!(
        line(&bytes!(v6().icmpv6(kind), &[])),
        "IP6 fd00::5 > fd00::7: ICMP6, packet too big, mtu 1280, length 8"
    );
    let kind = Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit);
    assert!(line(&bytes!(v4().icmpv4(kind), &quote())).contains("ICMP 10.9.9.9 time exceeded in-transit"));
    let kind = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port);
    assert!(line(&bytes!(v6().icmpv6(kind), &[])).contains("ICMP6, unreachable - port unreachable"));
}

#[test]
fn an_icmp_error_says_of_which_connection_and_how_large_the_packet_was() {
    let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded {
        next_hop_mtu: 1400,
    });
    let segment = bytes!(
        PacketBuilder::ipv4([10, 244, 1, 5], [10, 9, 9, 9], 64).tcp(40000, 443, 4_000_000_000, 500).ack(1),
        &[0; 1460]
    );
    let packet = bytes!(v4().icmpv4(kind.clone()), &segment[..28]);
    assert!(
        line(&packet).ends_with("; quotes TCP 10.244.1.5.40000 > 10.9.9.9.443 seq 4000000000, 1500 bytes"),
        "{}",
        line(&packet)
    );
    let echo =
        bytes!(PacketBuilder::ipv4([10, 244, 1, 5], [10, 9, 9, 9], 64).icmpv4_echo_request(7, 8), &[0; 72]);
    assert!(
        line(&bytes!(v4().icmpv4(kind.clone()), &echo))
            .ends_with("; quotes ICMP 10.244.1.5 > 10.9.9.9 id 7 seq 8, 100 bytes")
    );
    // Cut so short that only the addresses are there.
    assert!(
        line(&bytes!(v4().icmpv4(kind), &segment[..20]))
            .ends_with("; quotes TCP 10.244.1.5 > 10.9.9.9, 1500 bytes")
    );
    let inner = bytes!(PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64).udp(53, 4000), &[0; 1452]);
    let packet = bytes!(v6().icmpv6(Icmpv6Type::PacketTooBig { mtu: 1280 }), &inner[..64]);
    assert!(line(&packet).contains("too big, mtu 1280, length 72; quotes UDP fdfd:"), "{}", line(&packet));
    assert!(line(&packet).ends_with(".4000, 1500 bytes"), "{}", line(&packet));
}

#[test]
fn in_detail_it_shows_the_ip_header_and_every_option() {
    let detail = |data: &[u8]| {
        let mut text = String::new();
        decode(&mut text, 1, data, u32::try_from(data.len()).unwrap(), true).unwrap();
        text
    };
    let options = [
        TcpOption::MaximumSegmentSize(1460),
        TcpOption::SelectiveAcknowledgementPermitted,
        TcpOption::Timestamp(5, 6),
        TcpOption::WindowScale(7),
    ];
    assert_eq!(
        detail(&bytes!(v4().tcp(40000, 80, 1000, 64240).syn().options(&options).unwrap(), &[])),
        "IP (tos 0x0, ttl 64, id 0, offset 0, flags [DF], proto TCP (6), length 60) 10.244.1.5.40000 > \
         10.244.2.7.80: Flags [S], seq 1000, win 64240, mss 1460, sackOK, TS val 5 ecr 6, wscale 7, length 0"
    );
    assert_eq!(
        detail(&bytes!(v6().udp(1, 2), &[0; 4])),
        "IP6 (class 0x00, flowlabel 0x00000, hlim 64, next-header UDP (17), payload length 12) \
         fd00::5.1 > fd00::7.2: UDP, length 4"
    );
}

#[test]
fn echoes_show_id_and_sequence() {
    let data = bytes!(v4().icmpv4(Icmpv4Type::EchoReply(IcmpEchoHeader { id: 3, seq: 4 })), &[0; 56]);
    assert_eq!(line(&data), "IP 10.244.1.5 > 10.244.2.7: ICMP echo reply, id 3, seq 4, length 64");
    let data = bytes!(v6().icmpv6_echo_request(3, 4), &[0; 56]);
    assert_eq!(line(&data), "IP6 fd00::5 > fd00::7: ICMP6, echo request, id 3, seq 4, length 64");
}

#[test]
fn arp_asks_and_answers() {
    let packet = |operation| {
        let arp = etherparse::ArpPacket::new(
            etherparse::ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            operation,
            &[2, 0, 0, 0, 0, 1],
            &[10, 0, 0, 1],
            &[0; 6],
            &[10, 0, 0, 2],
        )
        .unwrap();
        let mut data = Vec::new();
        ether().arp(arp).write(&mut data).unwrap();
        line(&data)
    };
    assert_eq!(packet(ArpOperation::REQUEST), "ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28");
    assert_eq!(packet(ArpOperation::REPLY), "ARP, Reply 10.0.0.1 is-at 02:00:00:00:00:01, length 28");
}

#[test]
fn a_vxlan_packet_shows_what_it_carries_and_only_one_level() {
    let inner = bytes!(v4().icmpv4_echo_request(1, 1), &[0; 8]);
    let vxlan = |port, inner: &[u8]| {
        let payload = [&[8, 0, 0, 0, 0, 0, 1, 0], inner].concat();
        bytes!(ether().ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).udp(50000, port), &payload)
    };
    let once = vxlan(8472, &inner);
    assert_eq!(
        line(&once),
        "IP 192.0.2.1.50000 > 192.0.2.2.8472: VXLAN vni 1: \
         IP 10.244.1.5 > 10.244.2.7: ICMP echo request, id 1, seq 1, length 16"
    );
    assert!(
        line(&vxlan(4789, &once))
            .ends_with("VXLAN vni 1: IP 192.0.2.1.50000 > 192.0.2.2.8472: UDP, length 58")
    );
}

#[test]
fn a_geneve_packet_with_options_shows_what_it_carries() {
    let inner = bytes!(v4().icmpv4_echo_request(1, 1), &[0; 8]);
    let payload = [&[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 4], &inner[..]].concat();
    let data = bytes!(ether().ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).udp(50000, 6081), &payload);
    assert!(line(&data).contains(": Geneve vni 7: IP 10.244.1.5 > 10.244.2.7: ICMP echo request"));
}

#[test]
fn fragments_are_told_apart_from_datagrams() {
    let mut data = bytes!(v4().udp(5, 6), &[0; 24]);
    // Offset 1480, more to come.
    data[20..22].copy_from_slice(&(0x2000u16 | 185).to_be_bytes());
    assert_eq!(line(&data), "IP 10.244.1.5 > 10.244.2.7: UDP fragment (id 0, offset 1480, more), length 32");
    data[20..22].copy_from_slice(&0x2000u16.to_be_bytes());
    assert!(line(&data).ends_with("[first fragment, id 0]"), "{}", line(&data));
}

/// A datagram behind hop-by-hop options, destination options, a routing and a fragment header.
fn chain(fragment: [u8; 8]) -> Vec<u8> {
    let mut data = bytes!(v6().udp(5, 6), &[0; 24]);
    let (next, end) = (20, 14 + 40);
    data[next] = 0;
    let headers = [[60, 0, 1, 4, 0, 0, 0, 0], [43, 0, 1, 4, 0, 0, 0, 0], [44, 0, 4, 0, 0, 0, 0, 0], fragment];
    data.splice(end..end, headers.concat());
    data[18..20].copy_from_slice(&(32 + 32u16).to_be_bytes());
    data
}

#[test]
fn fragments_behind_other_extensions_are_found_and_a_cut_chain_is_none() {
    let data = chain([17, 0, 5, 201, 0, 0, 0, 9]);
    assert_eq!(line(&data), "IP6 fd00::5 > fd00::7: UDP fragment (id 9, offset 1480, more), length 32");
    let data = chain([17, 0, 0, 1, 0, 0, 0, 9]);
    assert!(line(&data).ends_with("[first fragment, id 9]"), "{}", line(&data));
    assert_eq!(line(&chain([17, 0, 0, 0, 0, 0, 0, 9])), "IP6 fd00::5.5 > fd00::7.6: UDP, length 24");
    // What is announced and was not captured, wherever it is cut.
    for end in 0..data.len() {
        assert!(!line(&data[..end]).is_empty(), "{end}");
    }
    // A chain of whole headers that ends with one that is missing.
    let mut cut = chain([60, 0, 5, 201, 0, 0, 0, 9]);
    cut.truncate(14 + 40 + 32);
    assert!(line(&cut).contains("fragment (id 9"), "{}", line(&cut));
}

#[test]
fn other_links_and_protocols_are_named() {
    let mut text = String::new();
    decode(&mut text, 101, &quote(), 36, false).unwrap();
    assert_eq!(text, "IP 10.244.1.5.1 > 10.9.9.9.2: UDP, length 8");
    let cooked = [&[0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0], &quote()[..]].concat();
    text.clear();
    decode(&mut text, 113, &cooked, 52, false).unwrap();
    assert_eq!(text, "IP 10.244.1.5.1 > 10.9.9.9.2: UDP, length 8");
    text.clear();
    decode(&mut text, 999, &[], 9, false).unwrap();
    assert_eq!(text, "link type 999, length 9");
    assert_eq!(line(&[&[0; 12], &[0x88, 0xcc, 1, 2][..]].concat()), "ethertype 0x88cc, length 16");
    assert_eq!(line(&[0; 20]), "802.3, length 20");
    assert_eq!(line(&[]), "Ethernet [cut short], length 0");
}

/// Whether a line is safe to print: one line of plain ASCII.
fn plain(text: &str) -> bool {
    text.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// Packets that reach every decoder.
fn samples() -> Vec<Vec<u8>> {
    let inner = bytes!(v4().icmpv4_echo_request(1, 1), &[0; 8]);
    let vxlan = [&[8, 0, 0, 0, 0, 0, 1, 0], &inner[..]].concat();
    let geneve = [&[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 4], &inner[..]].concat();
    let tunnel = || ether().ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
    vec![
        bytes!(v4().tcp(1, 2, 3, 4).options(&[TcpOption::MaximumSegmentSize(9)]).unwrap(), &[0; 9]),
        bytes!(v6().tcp(1, 2, 3, 4).syn(), &[]),
        bytes!(v6().udp(1, 2), &[0; 9]),
        bytes!(v4().icmpv4_raw(3, 4, [0, 0, 5, 170]), &quote()),
        bytes!(v6().icmpv6_raw(2, 0, [0, 0, 5, 0]), &[0x60; 60]),
        bytes!(v6().icmpv6_raw(135, 0, [0; 4]), &[1; 24]),
        bytes!(tunnel().udp(9, 8472), &vxlan),
        bytes!(tunnel().udp(9, 6081), &geneve),
        chain([17, 0, 5, 201, 0, 0, 0, 9]),
        chain([51, 0, 0, 0, 0, 0, 0, 9]),
        bytes!(ether().single_vlan(5.try_into().unwrap()).ipv4([1; 4], [2; 4], 1).udp(1, 2), &[]),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_print_a_control_character(
        data in proptest::collection::vec(any::<u8>(), 0..200), detail: bool, link in prop_oneof![Just(1u16), Just(101), Just(113), any::<u16>()],
        length: u32,
    ) {
        let mut text = String::new();
        decode(&mut text, link, &data, length, detail).unwrap();
        prop_assert!(plain(&text), "{}", text);
    }

    #[test]
    fn no_packet_cut_or_damaged_makes_it_panic(
        which in 0usize..11, cut in 0usize..300, at in 0usize..200, to: u8, length: u32, detail: bool,
    ) {
        let mut data = samples().swap_remove(which);
        if let Some(byte) = data.get_mut(at) { *byte = to; }
        data.truncate(cut);
        let mut text = String::new();
        decode(&mut text, 1, &data, length, detail).unwrap();
        prop_assert!(plain(&text), "{}", text);
    }
}
