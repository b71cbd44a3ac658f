//! Packets as they are sent, and answers of the target, of routers and of strangers.

use super::*;
use proptest::prelude::*;

const MARK: Mark = Mark { identifier: 0xbeef, token: *b"nsprobe!" };
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 5);
const TARGET: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 7);

fn sizes(sequence: u16) -> Option<u32> {
    (sequence == 7).then_some(1500)
}

fn received(message: &[u8], from: IpAddr) -> Received<'_> {
    Received { from, ttl: Some(62), largest_fragment: None, message }
}

/// Fragmentation needed as Linux writes it, quoting `quoted` and naming `mtu`.
fn too_big(quoted: &[u8], mtu: u16) -> Vec<u8> {
    let mut message =
        [&[3, 4, 0, 0, 0, 0][..], &mtu.to_be_bytes(), &quoted[..quoted.len().min(548)]].concat();
    let sum = icmp::checksum(&IcmpPacket::new(&message).unwrap());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn probe() -> Vec<u8> {
    ipv4_packet(SOURCE, TARGET, 64, IpNextHeaderProtocols::Icmp, &echo_request(V4, MARK, 7, 1480)).unwrap()
}

#[test]
fn a_probe_has_the_size_it_says_and_df_set() {
    let bytes = probe();
    assert_eq!(bytes.len(), 1500);
    assert_eq!(bytes[6] & 0x40, 0x40, "DF");
    let message = &bytes[20..];
    assert_eq!(icmp::checksum(&IcmpPacket::new(message).unwrap()), be16(message, 2).unwrap());
}

#[test]
fn a_ptb_that_quotes_our_probe_counts() {
    let event = answer(V4, MARK, TARGET.into(), &received(&too_big(&probe(), 1450), ROUTER), sizes);
    assert_eq!(event, Some(Event { id: 7, answer: Answer::TooBig { mtu: 1450, from: ROUTER } }));
}

#[test]
fn a_ptb_that_quotes_our_timestamp_request_counts() {
    let packet = scout_ipv4(TARGET, MARK, Probe { id: 7, size: 1500, ttl: None }, Scout::Timestamp).unwrap();
    let event =
        |packet: &[u8]| answer(V4, MARK, TARGET.into(), &received(&too_big(packet, 1450), ROUTER), sizes);
    assert_eq!(event(&packet), Some(Event { id: 7, answer: Answer::TooBig { mtu: 1450, from: ROUTER } }));
    let mut strangers = packet;
    strangers[30] ^= 1;
    assert_eq!(event(&strangers), None, "another token");
}

#[test]
fn a_scout_over_ipv4_arrived_when_the_target_does_not_know_the_protocol() {
    let probe = Probe { id: 7, size: 1500, ttl: None };
    let scout = |as_a| scout_ipv4(TARGET, MARK, probe, as_a).unwrap();
    let packet = scout(Scout::Protocol);
    assert_eq!((packet.len(), packet[6] & 0x40, packet[9]), (1500, 0x40, 253));
    let says_of = |packet: &[u8], code: u8, from: IpAddr| {
        let mut message = too_big(packet, 0);
        message[1..4].copy_from_slice(&[code, 0, 0]);
        let sum = icmp::checksum(&IcmpPacket::new(&message).unwrap());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        answer(V4, MARK, TARGET.into(), &received(&message, from), sizes).unwrap().answer
    };
    let says = |code, from| says_of(&packet, code, from);
    let target = IpAddr::V4(TARGET);
    assert!(matches!(says(2, target), Answer::Reply { .. }));
    // Nobody has port 0.
    let datagram = scout(Scout::Datagram);
    assert_eq!((datagram.len(), datagram[9], &datagram[20..24]), (1500, 17, &[0; 4][..]));
    assert!(matches!(says_of(&datagram, 3, target), Answer::Reply { .. }));
    assert_eq!(says_of(&datagram, 3, ROUTER), Answer::Refused { from: ROUTER, word: Word::Unreachable(3) });
    assert_eq!(says_of(&datagram, 13, target), Answer::Refused { from: target, word: Word::Unreachable(13) });
    // A bridge that refuses in the target's name; a router that does not relay the protocol.
    assert_eq!(says(3, target), Answer::Refused { from: target, word: Word::Unreachable(3) });
    assert_eq!(says(2, ROUTER), Answer::Refused { from: ROUTER, word: Word::Unreachable(2) });
}

#[test]
fn every_error_for_a_probe_is_an_answer_and_is_told_apart() {
    let says = |kind: u8, code: u8| {
        let mut message = too_big(&probe(), 0);
        message[..4].copy_from_slice(&[kind, code, 0, 0]);
        let sum = icmp::checksum(&IcmpPacket::new(&message).unwrap());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        answer(V4, MARK, TARGET.into(), &received(&message, ROUTER), sizes).map(|event| event.answer)
    };
    let refused = |word| Some(Answer::Refused { from: ROUTER, word });
    assert_eq!(says(3, 13), refused(Word::Unreachable(13)));
    assert_eq!(says(3, 254), refused(Word::Unreachable(254)));
    assert_eq!(says(12, 0), refused(Word::ParameterProblem));
    assert_eq!(says(12, 2), refused(Word::ParameterProblem));
    assert_eq!(says(11, 0), Some(Answer::Expired { from: ROUTER }));
    assert_eq!(says(11, 1), refused(Word::NotReassembled));
    assert_eq!(says(4, 0), None);
}

#[test]
fn over_ipv6_a_parameter_problem_is_no_prohibition_and_of_a_scout_the_target_says_that_it_arrived() {
    let (source, target): (Ipv6Addr, Ipv6Addr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
    let router: IpAddr = "fd00::fe".parse().unwrap();
    let probe = Probe { id: 7, size: 1500, ttl: None };
    let packet = scout(source, target, MARK, probe, Scout::Protocol).unwrap();
    let says = |code: u8, from: IpAddr| {
        let message = [&[4, code, 0, 0, 0, 0, 0, 6][..], &packet[..100]].concat();
        answer(V6, MARK, target.into(), &received(&message, from), sizes).unwrap().answer
    };
    assert!(matches!(says(1, target.into()), Answer::Reply { .. }));
    for (code, from) in [(0, target.into()), (1, router)] {
        assert_eq!(says(code, from), Answer::Refused { from, word: Word::ParameterProblem });
    }
}

#[test]
fn a_ptb_for_somebody_elses_ping_is_not_ours() {
    let other = Mark { identifier: 1, ..MARK };
    let quote =
        ipv4_packet(SOURCE, TARGET, 64, IpNextHeaderProtocols::Icmp, &echo_request(V4, other, 7, 1480))
            .unwrap();
    assert_eq!(answer(V4, MARK, TARGET.into(), &received(&too_big(&quote, 1450), ROUTER), sizes), None);
}

#[test]
fn a_ptb_that_quotes_another_size_or_target_is_forged() {
    let short =
        ipv4_packet(SOURCE, TARGET, 64, IpNextHeaderProtocols::Icmp, &echo_request(V4, MARK, 7, 1000))
            .unwrap();
    assert_eq!(answer(V4, MARK, TARGET.into(), &received(&too_big(&short, 600), ROUTER), sizes), None);
    let elsewhere =
        ipv4_packet(SOURCE, SOURCE, 64, IpNextHeaderProtocols::Icmp, &echo_request(V4, MARK, 7, 1480))
            .unwrap();
    assert_eq!(answer(V4, MARK, TARGET.into(), &received(&too_big(&elsewhere, 600), ROUTER), sizes), None);
}

#[test]
fn a_reply_must_carry_our_token_and_no_more_than_we_sent_and_come_from_the_target() {
    let mut reply = echo_request(V4, MARK, 7, 1480);
    reply[0] = V4.echo_reply;
    let sum = icmp::checksum(&IcmpPacket::new(&reply).unwrap());
    reply[2..4].copy_from_slice(&sum.to_be_bytes());
    assert!(answer(V4, MARK, TARGET.into(), &received(&reply, TARGET.into()), sizes).is_some());
    assert!(answer(V4, MARK, TARGET.into(), &received(&reply, ROUTER), sizes).is_none());
    // Some targets send only the beginning back: it arrived all the same.
    let short = answer(V4, MARK, TARGET.into(), &received(&reply[..72], TARGET.into()), sizes).unwrap();
    assert!(matches!(short.answer, Answer::Reply { cut: true, .. }), "{short:?}");
    let longer = [&reply[..], &[0; 2]].concat();
    assert!(answer(V4, MARK, TARGET.into(), &received(&longer, TARGET.into()), sizes).is_none());
    let other = Mark { token: [0; 8], ..MARK };
    assert!(answer(V4, other, TARGET.into(), &received(&reply, TARGET.into()), sizes).is_none());
}

#[test]
fn packet_too_big_of_ipv6_names_32_bits() {
    let target: Ipv6Addr = "fd00::2".parse().unwrap();
    let echo = echo_request(V6, MARK, 7, 1460);
    let mut quote = vec![0x60, 0, 0, 0];
    quote.extend(1460u16.to_be_bytes());
    quote.extend([58, 64]);
    quote.extend([0; 16]);
    quote.extend(target.octets());
    quote.extend(&echo[..100]);
    let message = [&[2, 0, 0, 0][..], &1430u32.to_be_bytes(), &quote].concat();
    let event = answer(V6, MARK, target.into(), &received(&message, ROUTER), sizes);
    assert_eq!(event, Some(Event { id: 7, answer: Answer::TooBig { mtu: 1430, from: ROUTER } }));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for family in [V4, V6] {
            let _ = answer(family, MARK, ROUTER, &received(&bytes, ROUTER), sizes);
        }
        let _ = strip_ipv4(&bytes);
    }

    #[test]
    fn a_damaged_ptb_never_panics(at in 0usize..400, value: u8, cut in 0usize..570) {
        let mut message = too_big(&probe(), 1450);
        if let Some(byte) = message.get_mut(at) { *byte = value }
        message.truncate(cut);
        let _ = answer(V4, MARK, TARGET.into(), &received(&message, ROUTER), sizes);
    }
}

#[test]
fn a_timestamp_reply_says_that_a_request_of_any_size_arrived() {
    let request = scout_ipv4(TARGET, MARK, Probe { id: 7, size: 1500, ttl: None }, Scout::Timestamp).unwrap();
    assert_eq!((request.len(), request[9], request[20]), (1500, 1, 13));
    assert_eq!(icmp::checksum(&IcmpPacket::new(&request[20..]).unwrap()), be16(&request, 22).unwrap());
    // As Linux writes it: the identifier, the sequence number and the originate timestamp, and two more.
    let mut reply = [&[14, 0, 0, 0][..], &request[24..32], &[0, 0, 1, 2, 0, 0, 1, 2]].concat();
    set_checksum(&mut reply);
    let says = |reply: &[u8], from: IpAddr| answer(V4, MARK, TARGET.into(), &received(reply, from), sizes);
    let target = IpAddr::V4(TARGET);
    assert_eq!(says(&reply, target), Some(Event { id: 7, answer: Answer::reply(Some(62)) }));
    assert_eq!(says(&reply, ROUTER), None, "somebody else's");
    reply[8] ^= 1;
    set_checksum(&mut reply);
    assert_eq!(says(&reply, target), None, "to another request");
    assert_eq!(says(&reply[..10], target), None, "cut off");
}
