//! TCP segments as they are injected, and what is read of those that come back, byte by byte.

use crate::probe::wire::{self, be16, be32};
use pnet::packet::Packet;
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::Ipv4Packet;
use pnet::packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use pnet::packet::tcp::{MutableTcpPacket, TcpPacket, ipv4_checksum, ipv6_checksum};
use std::net::IpAddr;

/// Bytes of a TCP header without options (RFC 9293 §3.1).
pub(super) const HEADER: u32 = 20;
/// Bytes of the timestamps option with its padding: NOP, NOP, kind 8 (RFC 7323 appendix A).
pub(super) const TIMESTAMPS: u32 = 12;

/// Flags of a TCP header (RFC 9293 §3.1).
pub(super) const FIN: u8 = 0x01;
/// Opens a connection.
pub(super) const SYN: u8 = 0x02;
/// Ends it.
pub(super) const RST: u8 = 0x04;
/// The acknowledgement number counts.
pub(super) const ACK: u8 = 0x10;

/// Kinds of TCP options (RFC 9293 §3.2, RFC 2018 §3, RFC 7323 §3.2).
const END: u8 = 0;
const NOP: u8 = 1;
const KIND_SACK: u8 = 5;
const KIND_TIMESTAMPS: u8 = 8;

/// A window that any receiver takes: small, because firewalls on the way remember what it allows.
const WINDOW: u16 = 512;

/// A segment to inject; its payload is zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) source_port: u16,
    pub(super) target_port: u16,
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    /// Our clock and the peer's last (RFC 7323 §3.2), where the connection has agreed on timestamps.
    pub(super) timestamps: Option<(u32, u32)>,
}

impl Segment {
    /// Bytes of IP and TCP header together.
    pub(super) fn headers(ip_header: u32, timestamps: bool) -> u32 {
        ip_header + HEADER + if timestamps { TIMESTAMPS } else { 0 }
    }

    /// The whole IP packet, `size` bytes, with DF set over IPv4. `None` when `size` does not hold the
    /// headers, is more than an IP packet can be, or the addresses are of two families.
    pub(super) fn packet(&self, source: IpAddr, target: IpAddr, ttl: u8, size: u32) -> Option<Vec<u8>> {
        let ip_header = if target.is_ipv4() { wire::V4 } else { wire::V6 }.ip_header;
        // What is larger no length field can say (RFC 791 §3.1), and pnet's checksum overflows on it.
        let size = usize::from(u16::try_from(size).ok()?);
        let mut bytes = vec![0u8; size.checked_sub(usize::try_from(ip_header).ok()?)?];
        let header = Self::headers(0, self.timestamps.is_some());
        let mut tcp = MutableTcpPacket::new(&mut bytes)?;
        tcp.set_source(self.source_port);
        tcp.set_destination(self.target_port);
        tcp.set_sequence(self.sequence);
        tcp.set_acknowledgement(self.acknowledgement);
        tcp.set_data_offset(u8::try_from(header / 4).ok()?);
        tcp.set_flags(self.flags);
        tcp.set_window(WINDOW);
        if let Some((ours, theirs)) = self.timestamps {
            let option =
                [&[NOP, NOP, KIND_TIMESTAMPS, 10][..], &ours.to_be_bytes(), &theirs.to_be_bytes()].concat();
            bytes.get_mut(20..32)?.copy_from_slice(&option);
        }
        let view = TcpPacket::new(&bytes)?;
        let sum = match (source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => ipv4_checksum(&view, &source, &target),
            (IpAddr::V6(source), IpAddr::V6(target)) => ipv6_checksum(&view, &source, &target),
            _ => return None,
        };
        bytes.get_mut(16..18)?.copy_from_slice(&sum.to_be_bytes());
        match (source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                wire::ipv4_packet(source, target, ttl, IpNextHeaderProtocols::Tcp, &bytes)
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let mut whole = vec![0u8; 40 + bytes.len()];
                let mut packet = MutableIpv6Packet::new(&mut whole)?;
                packet.set_version(6);
                packet.set_payload_length(u16::try_from(bytes.len()).ok()?);
                packet.set_next_header(IpNextHeaderProtocols::Tcp);
                packet.set_hop_limit(ttl);
                packet.set_source(source);
                packet.set_destination(target);
                packet.set_payload(&bytes);
                Some(whole)
            }
            _ => None,
        }
    }
}

/// What is read of a segment that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    /// TTL or hop limit on arrival.
    pub(super) ttl: u8,
    /// Our port.
    pub(super) local_port: u16,
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    /// First block of the SACK option. It is a DSACK when it lies below the acknowledgement (RFC 2883 §4).
    pub(super) block: Option<(u32, u32)>,
    /// The peer's clock.
    pub(super) timestamp: Option<u32>,
    /// Bytes of data it carried.
    pub(super) data: usize,
}

impl Heard {
    /// Reads a packet that begins at its IP header and may have been cut behind its TCP header. `None`: no
    /// TCP, a fragment, or no whole TCP header. The checksum is not looked at: where the sender's kernel
    /// leaves it to a network card that does not exist (veth) it is wrong.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let (ttl, header, length) = match packet.first()? >> 4 {
            4 => {
                let ip = Ipv4Packet::new(packet)?;
                let whole = ip.get_next_level_protocol() == IpNextHeaderProtocols::Tcp
                    && ip.get_fragment_offset() == 0
                    && ip.get_flags() & pnet::packet::ipv4::Ipv4Flags::MoreFragments == 0;
                let header = usize::from(ip.get_header_length()) * 4;
                (whole && header >= 20).then_some((ip.get_ttl(), header, ip.get_total_length().into()))?
            }
            6 => {
                let ip = Ipv6Packet::new(packet)?;
                let tcp = ip.get_next_header() == IpNextHeaderProtocols::Tcp;
                tcp.then_some((ip.get_hop_limit(), 40, 40 + usize::from(ip.get_payload_length())))?
            }
            _ => return None,
        };
        let segment = packet.get(header..packet.len().min(length))?;
        let tcp = TcpPacket::new(segment)?;
        let offset = usize::from(tcp.get_data_offset()) * 4;
        let options = read_options(tcp.packet().get(20..offset)?);
        Some(Self {
            ttl,
            local_port: tcp.get_destination(),
            sequence: tcp.get_sequence(),
            acknowledgement: tcp.get_acknowledgement(),
            flags: tcp.get_flags(),
            block: options.0,
            timestamp: options.1,
            data: length.saturating_sub(header + offset),
        })
    }
}

/// The first SACK block and the peer's clock. Options that say less or more than they hold end the reading.
fn read_options(mut options: &[u8]) -> (Option<(u32, u32)>, Option<u32>) {
    let mut found = (None, None);
    while let [kind, rest @ ..] = options {
        options = match (*kind, rest) {
            (END, _) => break,
            (NOP, rest) => rest,
            (kind, [length, ..]) => {
                let length = usize::from(*length);
                let (Some(value), Some(rest)) = (options.get(2..length), options.get(length..)) else {
                    break;
                };
                match kind {
                    KIND_SACK => found.0 = found.0.or(be32(value, 0).zip(be32(value, 4))),
                    KIND_TIMESTAMPS if value.len() == 8 => found.1 = be32(value, 0),
                    _ => {}
                }
                rest
            }
            _ => break,
        };
    }
    found
}

/// Ports and sequence number of a segment of which at least eight bytes are quoted (RFC 792).
pub(super) fn quoted(payload: &[u8]) -> Option<(u16, u16, u32)> {
    Some((be16(payload, 0)?, be16(payload, 2)?, be32(payload, 4)?))
}

#[cfg(test)]
#[path = "segment_tests.rs"]
pub(super) mod tests;
