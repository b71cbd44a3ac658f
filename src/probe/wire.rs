//! Echo requests and the answers to them, and ICMP errors whatever they quote, byte by byte. IPv4 and IPv6
//! differ in a table.

use super::search::{Answer, Event, Probe, Scout};
use crate::facts::Word;
use pnet::packet::icmp;
use pnet::packet::icmp::{IcmpPacket, IcmpTypes};
use pnet::packet::icmpv6::Icmpv6Types;
use pnet::packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet::packet::ipv4::{Ipv4Flags, Ipv4Packet, MutableIpv4Packet};
use pnet::packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use pnet::packet::udp::{self, MutableUdpPacket, UdpPacket};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What differs between the two families of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// 4 or 6.
    pub version: u8,
    /// Bytes of the IP header without options.
    pub ip_header: u32,
    /// Smallest MTU that a PTB may name: RFC 791 §3.2, RFC 8200 §5.
    pub floor: u32,
    /// ICMP type of an echo request.
    pub echo_request: u8,
    /// ICMP type of an echo reply.
    pub echo_reply: u8,
    /// ICMP type of time exceeded.
    pub time_exceeded: u8,
    /// ICMP type of destination unreachable.
    pub unreachable: u8,
    /// ICMP type of parameter problem.
    pub parameter_problem: u8,
    /// Its code that says that nobody has the port: RFC 792, RFC 4443 §3.1.
    pub no_port: u8,
}

/// IPv4.
pub const V4: Family = Family {
    version: 4,
    ip_header: 20,
    floor: 68,
    echo_request: IcmpTypes::EchoRequest.0,
    echo_reply: IcmpTypes::EchoReply.0,
    time_exceeded: IcmpTypes::TimeExceeded.0,
    unreachable: IcmpTypes::DestinationUnreachable.0,
    parameter_problem: IcmpTypes::ParameterProblem.0,
    no_port: 3,
};

/// IPv6.
pub const V6: Family = Family {
    version: 6,
    ip_header: 40,
    floor: 1280,
    echo_request: Icmpv6Types::EchoRequest.0,
    echo_reply: Icmpv6Types::EchoReply.0,
    time_exceeded: Icmpv6Types::TimeExceeded.0,
    unreachable: Icmpv6Types::DestinationUnreachable.0,
    parameter_problem: Icmpv6Types::ParameterProblem.0,
    no_port: 4,
};

/// Code of an ICMPv4 destination unreachable that is a PTB: fragmentation needed, RFC 1191 §4.
const FRAGMENTATION_NEEDED: u8 = 4;
/// Code of an ICMPv4 destination unreachable: RFC 792.
const PROTOCOL_UNREACHABLE: u8 = 2;
/// Code of time exceeded: fragments did not come in time to be put together, RFC 792, RFC 4443 §3.3.
const NOT_REASSEMBLED: u8 = 1;
/// RFC 792: it repeats the originate timestamp, and is as small as it is whatever the request (net/ipv4/icmp.c
/// `icmp_timestamp`).
pub(super) const TIMESTAMP_REPLY: u8 = IcmpTypes::TimestampReply.0;
/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;
/// Code 1 of an ICMPv6 parameter problem: "unrecognized next header", RFC 4443 §3.4.
const UNKNOWN_HEADER: u8 = 1;
/// Bytes of an echo header.
pub(super) const ECHO_HEADER: u32 = 8;
/// Bytes of the token that every probe carries behind its echo header.
const TOKEN: usize = 8;

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { V4 } else { V6 }
    }

    /// Size of a control probe, bytes of the whole packet: what ping sends by default, 56 bytes of data.
    pub fn control(self) -> u32 {
        self.ip_header + ECHO_HEADER + 56
    }
}

/// Marks the probes of one search, so that nobody else's answers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Echo identifier.
    pub identifier: u16,
    /// Follows the echo header in every probe; a reply must carry it back.
    pub token: [u8; TOKEN],
}

/// The ICMP message of an echo request, `length` bytes long; at least 16. The checksum is set for IPv4 and
/// left to the kernel for IPv6.
pub fn echo_request(family: Family, mark: Mark, sequence: u16, length: usize) -> Vec<u8> {
    let mut message = vec![0u8; length.max(8 + TOKEN)];
    let header = [
        &[family.echo_request, 0, 0, 0][..],
        &mark.identifier.to_be_bytes(),
        &sequence.to_be_bytes(),
        &mark.token,
    ]
    .concat();
    for (to, from) in message.iter_mut().zip(header) {
        *to = from;
    }
    if family.version == 4 {
        set_checksum(&mut message);
    }
    message
}

fn set_checksum(message: &mut [u8]) {
    let checksum = IcmpPacket::new(message).map_or(0, |packet| icmp::checksum(&packet));
    for (to, from) in message.iter_mut().skip(2).zip(checksum.to_be_bytes()) {
        *to = from;
    }
}

/// A whole IPv4 packet with DF set around `message`. The kernel fills in the IP checksum, the
/// identification and, when it is unspecified, the source (raw(7)).
pub fn ipv4_packet(
    source: Ipv4Addr,
    target: Ipv4Addr,
    ttl: u8,
    protocol: IpNextHeaderProtocol,
    message: &[u8],
) -> Option<Vec<u8>> {
    let total = 20 + message.len();
    let mut bytes = vec![0u8; total];
    let mut packet = MutableIpv4Packet::new(&mut bytes)?;
    packet.set_version(4);
    packet.set_header_length(5);
    packet.set_total_length(u16::try_from(total).ok()?);
    packet.set_flags(Ipv4Flags::DontFragment);
    packet.set_ttl(ttl);
    packet.set_next_level_protocol(protocol);
    packet.set_source(source);
    packet.set_destination(target);
    packet.set_payload(message);
    Some(bytes)
}

/// Protocol 253, for experiments (RFC 3692): nobody speaks it, so that a target answers with parameter problem, over
/// IPv4 with protocol unreachable.
const NOBODYS: IpNextHeaderProtocol = IpNextHeaderProtocols::Test1;

/// A whole IPv6 packet around `payload`.
pub(super) fn ipv6_packet(
    source: Ipv6Addr,
    target: Ipv6Addr,
    hops: u8,
    protocol: IpNextHeaderProtocol,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let mut bytes = vec![0u8; 40 + payload.len()];
    let mut packet = MutableIpv6Packet::new(&mut bytes)?;
    packet.set_version(6);
    packet.set_payload_length(u16::try_from(payload.len()).ok()?);
    packet.set_next_header(protocol);
    packet.set_hop_limit(hops);
    packet.set_source(source);
    packet.set_destination(target);
    packet.set_payload(payload);
    Some(bytes)
}

/// A scout over IPv6, marked with the token and the probe's id.
pub(super) fn scout(
    source: Ipv6Addr,
    target: Ipv6Addr,
    mark: Mark,
    probe: Probe,
    as_a: Scout,
) -> Option<Vec<u8>> {
    let sum = |datagram: &UdpPacket<'_>| udp::ipv6_checksum(datagram, &source, &target);
    let (protocol, payload) = scout_payload(V6, mark, probe, as_a, sum)?;
    ipv6_packet(source, target, probe.ttl.unwrap_or(64), protocol, &payload)
}

/// The same over IPv4, with DF; the kernel fills in the source. UDP may go without a checksum there.
pub(super) fn scout_ipv4(target: Ipv4Addr, mark: Mark, probe: Probe, as_a: Scout) -> Option<Vec<u8>> {
    let (protocol, payload) = scout_payload(V4, mark, probe, as_a, |_| 0)?;
    ipv4_packet(Ipv4Addr::UNSPECIFIED, target, probe.ttl.unwrap_or(64), protocol, &payload)
}

fn scout_payload(
    family: Family,
    mark: Mark,
    probe: Probe,
    as_a: Scout,
    sum: impl Fn(&UdpPacket<'_>) -> u16,
) -> Option<(IpNextHeaderProtocol, Vec<u8>)> {
    let marks = [&mark.token[..], &probe.id.to_be_bytes()].concat();
    let length = usize::try_from(probe.size.checked_sub(family.ip_header)?).ok()?;
    if as_a == Scout::Timestamp && family.version == 4 {
        let header = [IcmpTypes::Timestamp.0, 0, 0, 0];
        let mut payload =
            [&header[..], &mark.identifier.to_be_bytes(), &probe.id.to_be_bytes(), &mark.token].concat();
        payload.resize(length, 0);
        set_checksum(&mut payload);
        return Some((IpNextHeaderProtocols::Icmp, payload));
    }
    if as_a != Scout::Datagram {
        let mut payload = marks;
        payload.resize(length, 0);
        return Some((NOBODYS, payload));
    }
    let mut payload = [&[0; UDP_HEADER][..], &marks].concat();
    payload.resize(length, 0);
    let mut datagram = MutableUdpPacket::new(&mut payload)?;
    datagram.set_length(u16::try_from(length).ok()?);
    let sum = sum(&datagram.to_immutable());
    datagram.set_checksum(sum);
    Some((IpNextHeaderProtocols::Udp, payload))
}

/// What a received ICMP message answers, if it answers one of ours: `sizes(sequence)` tells the size of the
/// probe with that sequence number.
///
/// `message` begins at the ICMP header. An error counts only if it quotes a probe to `target` with our
/// identifier and, where the quote shows it, of the size we sent: an open raw socket lets strangers' errors in.
pub fn answer(
    family: Family,
    mark: Mark,
    target: IpAddr,
    received: &Received<'_>,
    sizes: impl Fn(u16) -> Option<u32>,
) -> Option<Event> {
    let message = received.message;
    if *message.first()? == family.echo_reply {
        let sequence = be16(message, 6)?;
        let length = family.ip_header + u32::try_from(message.len()).ok()?;
        let sent = sizes(sequence)?;
        // The target has checked the sum over the whole request; some send only its beginning back. A reply to a padded
        // request is no answer to ours.
        let ours = checksum_holds(family, message)?
            && be16(message, 4)? == mark.identifier
            && message.get(8..8 + TOKEN)? == mark.token
            && received.from == target
            && length <= sent;
        let (ttl, largest_fragment, cut) = (received.ttl, received.largest_fragment, length < sent);
        let answer = Answer::Reply { ttl, largest_fragment, cut };
        return ours.then_some(Event { id: sequence, answer });
    }
    if family.version == 4 && *message.first()? == TIMESTAMP_REPLY {
        let id = be16(message, 6)?;
        let ours = checksum_holds(family, message)?
            && be16(message, 4)? == mark.identifier
            && mark.token.starts_with(message.get(8..12)?)
            && received.from == target
            && sizes(id).is_some();
        return ours.then_some(Event { id, answer: Answer::reply(received.ttl) });
    }
    let (answer, quoted) = error(family, received)?;
    // A firewall may refuse in the target's name, by another code.
    let (kind, unknown) = match family.version {
        4 => (family.unreachable, PROTOCOL_UNREACHABLE),
        _ => (family.parameter_problem, UNKNOWN_HEADER),
    };
    let scout = match quoted.protocol {
        NOBODYS => Some((quoted.payload, (kind, unknown))),
        IpNextHeaderProtocols::Udp if be32(quoted.payload, 0)? == 0 => {
            Some((quoted.payload.get(UDP_HEADER..)?, (family.unreachable, family.no_port)))
        }
        _ => None,
    };
    if let Some((marks, arrived)) = scout {
        let id = be16(marks, TOKEN)?;
        let ours = quoted.target == target && *marks.get(..TOKEN)? == mark.token && sizes(id)? == quoted.size;
        let answer = match answer {
            // It arrived whole: the target knows neither the protocol nor the port.
            Answer::Refused { from, .. }
                if from == target && arrived == (*message.first()?, *message.get(1)?) =>
            {
                Answer::reply(received.ttl)
            }
            other => other,
        };
        return ours.then_some(Event { id, answer });
    }
    let echo = QuotedEcho::parse(family, &quoted)?;
    let ours = quoted.target == target
        && echo.identifier == mark.identifier
        && echo.token.is_none_or(|token| token == mark.token)
        && sizes(echo.sequence)? == quoted.size;
    ours.then_some(Event { id: echo.sequence, answer })
}

/// What an ICMP error says, and the packet that it quotes. Whose packet that was is the caller's to check.
pub fn error<'a>(family: Family, received: &Received<'a>) -> Option<(Answer, Quoted<'a>)> {
    let (message, from) = (received.message, received.from);
    let (&kind, &code) = (message.first()?, message.get(1)?);
    let answer = if family.version == 6 && kind == Icmpv6Types::PacketTooBig.0 {
        Answer::TooBig { mtu: be32(message, 4)?, from }
    } else if family.version == 4 && kind == family.unreachable && code == FRAGMENTATION_NEEDED {
        Answer::TooBig { mtu: u32::from(be16(message, 6)?), from }
    } else if kind == family.unreachable {
        Answer::Refused { from, word: Word::Unreachable(code) }
    } else if kind == family.parameter_problem {
        Answer::Refused { from, word: Word::ParameterProblem }
    } else if kind == family.time_exceeded && code == 0 {
        Answer::Expired { from }
    } else if kind == family.time_exceeded && code == NOT_REASSEMBLED {
        Answer::Refused { from, word: Word::NotReassembled }
    } else {
        return None;
    };
    let quoted = Quoted::parse(family, message.get(8..)?)?;
    checksum_holds(family, message)?.then_some((answer, quoted))
}

/// The kernel checks ICMPv6 itself; on a raw IPv4 socket it is left to us.
fn checksum_holds(family: Family, message: &[u8]) -> Option<bool> {
    Some(family.version != 4 || icmp::checksum(&IcmpPacket::new(message)?) == be16(message, 2)?)
}

/// One ICMP message as it was received.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Who sent it.
    pub from: IpAddr,
    /// TTL or hop limit on arrival.
    pub ttl: Option<u8>,
    /// Largest fragment it came in.
    pub largest_fragment: Option<u32>,
    /// From the ICMP header on.
    pub message: &'a [u8],
}

/// The packet that an error quotes.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a> {
    /// Where it was going.
    pub target: IpAddr,
    /// Bytes of the whole packet, as its header says.
    pub size: u32,
    /// What is behind the IP header.
    pub protocol: IpNextHeaderProtocol,
    /// As much of it as is quoted; routers quote at least eight bytes (RFC 792).
    pub payload: &'a [u8],
}

impl<'a> Quoted<'a> {
    fn parse(family: Family, quote: &'a [u8]) -> Option<Self> {
        if family.version == 4 {
            let packet = Ipv4Packet::new(quote)?;
            if packet.get_version() != 4 || packet.get_fragment_offset() != 0 {
                return None;
            }
            let header = usize::from(packet.get_header_length()) * 4;
            Some(Self {
                target: packet.get_destination().into(),
                size: packet.get_total_length().into(),
                protocol: packet.get_next_level_protocol(),
                payload: quote.get(header.max(20)..)?,
            })
        } else {
            let packet = Ipv6Packet::new(quote)?;
            (packet.get_version() == 6).then_some(Self {
                target: packet.get_destination().into(),
                size: u32::from(packet.get_payload_length()) + 40,
                protocol: packet.get_next_header(),
                payload: quote.get(40..)?,
            })
        }
    }
}

/// The echo request that an error quotes; a timestamp request (RFC 792) has its fields where an echo request has them.
struct QuotedEcho {
    identifier: u16,
    sequence: u16,
    /// Shows only in quotes of more than eight bytes.
    token: Option<[u8; TOKEN]>,
}

impl QuotedEcho {
    fn parse(family: Family, quoted: &Quoted<'_>) -> Option<Self> {
        let icmp =
            if family.version == 4 { IpNextHeaderProtocols::Icmp } else { IpNextHeaderProtocols::Icmpv6 };
        let echo = quoted.payload;
        let kind = *echo.first()?;
        let timestamp = family.version == 4 && kind == IcmpTypes::Timestamp.0;
        if quoted.protocol != icmp || kind != family.echo_request && !timestamp {
            return None;
        }
        let token = echo.get(8..8 + TOKEN).and_then(|t| t.try_into().ok());
        Some(Self { identifier: be16(echo, 4)?, sequence: be16(echo, 6)?, token })
    }
}

/// Splits a packet from a raw IPv4 socket into TTL, source and ICMP message.
pub fn strip_ipv4(packet: &[u8]) -> Option<(Ipv4Addr, u8, &[u8])> {
    let header = Ipv4Packet::new(packet)?;
    if header.get_version() != 4 || header.get_next_level_protocol() != IpNextHeaderProtocols::Icmp {
        return None;
    }
    let start = usize::from(header.get_header_length()) * 4;
    Some((header.get_source(), header.get_ttl(), packet.get(start.max(20)..)?))
}

pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
