//! The IP packets in a captured one, from the outermost inwards: what rules on packets look at. Slices only,
//! nothing is copied.
//!
//! Source: RFC 791, RFC 8200, RFC 7348 (VXLAN), RFC 8926 (Geneve).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Packets in packets that are looked into.
const DEPTH: usize = 2;

/// One IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layer<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// What it carries: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6.
    pub(super) protocol: u8,
    /// As much of that as was captured.
    pub(super) body: &'a [u8],
    /// Bytes of the whole packet, as its header says.
    pub(super) total_len: u32,
    /// Bytes of what it carries, as the header says; 0 where a card will cut the packet (large send offload).
    pub(super) body_len: u32,
    /// A fragment but the first: its body begins in the middle.
    pub(super) later_fragment: bool,
}

/// A frame inside a tunnel's packet, with the tunnel's name and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tunnel<'a> {
    pub(super) name: &'static str,
    pub(super) vni: u32,
    pub(super) header_len: u32,
    pub(super) frame: &'a [u8],
}

/// The IP packets of a captured one; `link_type` is its LINKTYPE_ number.
pub(super) fn layers(link_type: u16, data: &[u8]) -> impl Iterator<Item = Layer<'_>> {
    let first = packet_of(link_type, data).and_then(layer);
    std::iter::successors(first, inner).take(DEPTH)
}

/// Where the IP packet begins.
fn packet_of(link_type: u16, data: &[u8]) -> Option<&[u8]> {
    match link_type {
        1 => packet_of_frame(data),
        101 | 228 | 229 => Some(data),
        113 => data.get(16..),
        _ => None,
    }
}

/// The IP packet of an Ethernet frame, behind at most two VLAN tags.
fn packet_of_frame(frame: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    for _ in 0..3 {
        let kind = u16::from_be_bytes(*frame.get(at..)?.first_chunk::<2>()?);
        at += 2;
        match kind {
            0x0800 | 0x86dd => return frame.get(at..),
            0x8100 | 0x88a8 => at += 2,
            _ => return None,
        }
    }
    None
}

/// The IP packet that begins here.
pub(super) fn layer(data: &[u8]) -> Option<Layer<'_>> {
    match data.first()? >> 4 {
        4 => layer_v4(data),
        6 => layer_v6(data),
        _ => None,
    }
}

fn layer_v4(data: &[u8]) -> Option<Layer<'_>> {
    let head = data.first_chunk::<20>()?;
    let head_len = usize::from(head[0] & 0x0f) * 4;
    let total = u32::from(u16::from_be_bytes([head[2], head[3]]));
    let source = Ipv4Addr::new(head[12], head[13], head[14], head[15]);
    let destination = Ipv4Addr::new(head[16], head[17], head[18], head[19]);
    Some(Layer {
        source: source.into(),
        destination: destination.into(),
        protocol: head[9],
        body: data.get(head_len.max(20)..)?,
        total_len: total,
        body_len: total.saturating_sub(u32::try_from(head_len).unwrap_or(0)),
        later_fragment: u16::from_be_bytes([head[6], head[7]]) & 0x1fff != 0,
    })
}

fn layer_v6(data: &[u8]) -> Option<Layer<'_>> {
    let head = data.first_chunk::<40>()?;
    let mut left = u32::from(u16::from_be_bytes([head[4], head[5]]));
    let total_len = left + 40;
    let (mut protocol, mut body, mut later_fragment) = (head[6], data.get(40..)?, false);
    // Extension headers; a packet with more of them than this is not one of ours.
    for _ in 0..4 {
        let [next, length, offset_high, offset_low] = match protocol {
            0 | 43 | 44 | 60 => *body.first_chunk::<4>()?,
            _ => break,
        };
        let size = if protocol == 44 {
            later_fragment = u16::from_be_bytes([offset_high, offset_low]) & 0xfff8 != 0;
            8
        } else {
            8 + usize::from(length) * 8
        };
        body = body.get(size..)?;
        left = left.saturating_sub(u32::try_from(size).unwrap_or(0));
        protocol = next;
    }
    let address = |at: usize| Some(Ipv6Addr::from(*data.get(at..)?.first_chunk::<16>()?));
    Some(Layer {
        source: address(8)?.into(),
        destination: address(24)?.into(),
        protocol,
        body,
        total_len,
        body_len: left,
        later_fragment,
    })
}

/// The IP packet that this one carries.
fn inner<'a>(outer: &Layer<'a>) -> Option<Layer<'a>> {
    if outer.later_fragment {
        return None;
    }
    match outer.protocol {
        4 | 41 => layer(outer.body),
        17 => {
            let [_, _, high, low, ..] = *outer.body.first_chunk::<8>()?;
            let tunnel = tunnel(u16::from_be_bytes([high, low]), outer.body.get(8..)?)?;
            packet_of_frame(tunnel.frame).and_then(layer)
        }
        _ => None,
    }
}

/// What a UDP datagram to this port carries, when it is a tunnel of Kubernetes.
pub(super) fn tunnel(port: u16, payload: &[u8]) -> Option<Tunnel<'_>> {
    match port {
        // 4789 is IANA's, 8472 is Linux's and Flannel's.
        4789 | 8472 => vxlan(payload),
        6081 => geneve(payload),
        _ => None,
    }
}

fn vxlan(data: &[u8]) -> Option<Tunnel<'_>> {
    let [flags, _, _, _, a, b, c, _] = *data.first_chunk::<8>()?;
    // The I flag: the VNI is valid.
    (flags & 0x08 != 0).then_some(())?;
    let vni = u32::from_be_bytes([0, a, b, c]);
    Some(Tunnel { name: "VXLAN", vni, header_len: 8, frame: data.get(8..)? })
}

fn geneve(data: &[u8]) -> Option<Tunnel<'_>> {
    let [first, _, kind_high, kind_low, a, b, c, _] = *data.first_chunk::<8>()?;
    // Version 0, carrying Ethernet (0x6558).
    (first >> 6 == 0 && [kind_high, kind_low] == [0x65, 0x58]).then_some(())?;
    let header_len = 8 + usize::from(first & 0x3f) * 4;
    let vni = u32::from_be_bytes([0, a, b, c]);
    Some(Tunnel {
        name: "Geneve",
        vni,
        header_len: u32::try_from(header_len).ok()?,
        frame: data.get(header_len..)?,
    })
}
