//! One packet as one line, the way tcpdump writes it. Numbers and addresses only: nothing a packet carries is
//! printed as text, so no byte of it can steer a terminal.

mod icmp;
mod transport;

use super::layers::layer;
use etherparse::{
    ArpOperation, ArpPacketSlice, EtherType, IpNumber, Ipv6Extensions, Ipv6ExtensionsSlice,
    Ipv6FragmentHeader, LaxIpPayloadSlice, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, TransportSlice,
};
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr};

/// How far to look, and how much to say.
#[derive(Debug, Clone, Copy)]
struct Depth {
    /// Encapsulations that are still looked into.
    left: u8,
    /// The fields of the IP header and all options of TCP too.
    detail: bool,
}

impl Depth {
    fn deeper(self) -> Self {
        Self { left: self.left.saturating_sub(1), ..self }
    }
}

/// A captured packet as one line of text: `link_type` is its LINKTYPE_ number, `wire_len` its length on the wire.
/// With `detail` what `tcpdump -v` adds.
pub fn decode_line(link_type: u16, data: &[u8], wire_len: u32, detail: bool) -> String {
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = decode(&mut line, link_type, data, wire_len, detail);
    line
}

/// Appends `data` decoded; `wire_len` is its length on the wire. With `detail` what `tcpdump -v` adds. Never fails
/// for what the bytes are.
///
/// # Errors
/// `line`'s.
pub(super) fn decode(
    line: &mut impl Write,
    link_type: u16,
    data: &[u8],
    wire_len: u32,
    detail: bool,
) -> fmt::Result {
    let depth = Depth { left: 1, detail };
    match link_type {
        1 => ethernet(line, data, wire_len, depth),
        101 | 228 | 229 => network(line, data, wire_len, depth),
        113 => {
            let kind = data.get(14..16).and_then(|b| b.first_chunk::<2>()).map(|b| u16::from_be_bytes(*b));
            match (kind, data.get(16..)) {
                (Some(kind), Some(rest)) => ether_type(line, kind, rest, wire_len, depth),
                _ => cut(line, "cooked", wire_len),
            }
        }
        other => write!(line, "link type {other}, length {wire_len}"),
    }
}

/// What is not all there, or contradicts itself.
fn cut(line: &mut impl Write, what: &str, length: impl fmt::Display) -> fmt::Result {
    write!(line, "{what} [cut short], length {length}")
}

/// An Ethernet frame.
fn ethernet(line: &mut impl Write, data: &[u8], length: u32, depth: Depth) -> fmt::Result {
    let Some(kind) = data.get(12..14).and_then(|b| b.first_chunk::<2>()).map(|b| u16::from_be_bytes(*b))
    else {
        return cut(line, "Ethernet", length);
    };
    // IEEE 802.3: below 1536 it is a length.
    if kind < 1536 {
        return write!(line, "802.3, length {length}");
    }
    ether_type(line, kind, data.get(14..).unwrap_or_default(), length, depth)
}

fn ether_type(line: &mut impl Write, kind: u16, data: &[u8], length: u32, depth: Depth) -> fmt::Result {
    let packet = LaxSlicedPacket::from_ether_type(EtherType(kind), data);
    let mut inner = kind;
    for extension in &packet.link_exts {
        if let LaxLinkExtSlice::Vlan(vlan) = extension {
            write!(line, "vlan {}, ", vlan.vlan_identifier().value())?;
            inner = vlan.ether_type().0;
        }
    }
    match &packet.net {
        Some(LaxNetSlice::Arp(arp)) => arp_line(line, arp),
        Some(net) => ip(line, net, packet.transport.as_ref(), length, depth),
        None => match inner {
            0x0800 => cut(line, "IP", length),
            0x86dd => cut(line, "IP6", length),
            0x0806 => cut(line, "ARP", length),
            other => write!(line, "ethertype 0x{other:04x}, length {length}"),
        },
    }
}

/// A packet that begins with its IP header.
fn network(line: &mut impl Write, data: &[u8], length: u32, depth: Depth) -> fmt::Result {
    match LaxSlicedPacket::from_ip(data) {
        Ok(LaxSlicedPacket { net: Some(net), transport, .. }) => {
            ip(line, &net, transport.as_ref(), length, depth)
        }
        _ => cut(line, "IP", length),
    }
}

/// What is known of an IP packet before its payload is looked at.
struct Header {
    source: IpAddr,
    destination: IpAddr,
    /// Bytes behind the IP header and its extensions, as the header says, whatever was captured.
    payload_len: u32,
    /// Identification, offset in bytes, more to come.
    fragment: Option<(u32, u32, bool)>,
}

fn header(net: &LaxNetSlice<'_>, wire_len: u32) -> Option<Header> {
    match net {
        LaxNetSlice::Ipv4(packet) => {
            let head = packet.header();
            let head_len = u32::from(head.ihl()) * 4;
            // A segment that the card will cut may have 0 here (large send offload): then the wire's length.
            let total = match head.total_len() {
                0 => wire_len.saturating_sub(14),
                total => u32::from(total),
            };
            let offset = u32::from(head.fragments_offset().value()) * 8;
            let fragment = (offset > 0 || head.more_fragments())
                .then(|| (u32::from(head.identification()), offset, head.more_fragments()));
            Some(Header {
                source: head.source_addr().into(),
                destination: head.destination_addr().into(),
                payload_len: total.saturating_sub(head_len),
                fragment,
            })
        }
        LaxNetSlice::Ipv6(packet) => {
            let head = packet.header();
            let extensions = packet.extensions();
            let extension_len = u32::try_from(extensions.slice().len()).unwrap_or(0);
            let total = match head.payload_length() {
                0 => wire_len.saturating_sub(14 + 40),
                total => u32::from(total),
            };
            Some(Header {
                source: head.source_addr().into(),
                destination: head.destination_addr().into(),
                payload_len: total.saturating_sub(extension_len),
                fragment: fragment_of(extensions),
            })
        }
        LaxNetSlice::Arp(_) => None,
    }
}

/// The fragment header of a chain that may be cut. Not by its iterator: that of etherparse 0.21 takes the header that
/// the last whole one announces for whole too, and reads behind the end.
fn fragment_of(chain: &Ipv6ExtensionsSlice<'_>) -> Option<(u32, u32, bool)> {
    let first = chain.first_header().filter(|_| chain.is_fragmenting_payload())?;
    let (extensions, ..) = Ipv6Extensions::from_slice_lax(first, chain.slice());
    let head = extensions.fragment.filter(Ipv6FragmentHeader::is_fragmenting_payload)?;
    Some((head.identification, u32::from(head.fragment_offset.value()) * 8, head.more_fragments))
}

fn ip(
    line: &mut impl Write,
    net: &LaxNetSlice<'_>,
    transport: Option<&TransportSlice<'_>>,
    wire_len: u32,
    depth: Depth,
) -> fmt::Result {
    let (Some(head), Some(payload)) = (header(net, wire_len), net.ip_payload_ref()) else {
        return cut(line, "IP", wire_len);
    };
    let name = if head.source.is_ipv4() { "IP" } else { "IP6" };
    let detailed: String;
    let name = if depth.detail {
        let mut text = name.to_owned();
        fields(&mut text, net)?;
        detailed = text;
        &detailed
    } else {
        name
    };
    if let Some((id, offset, more)) = head.fragment {
        if offset > 0 {
            return write!(
                line,
                "{name} {} > {}: {} fragment (id {id}, offset {offset}{}), length {}",
                head.source,
                head.destination,
                protocol(payload.ip_number),
                if more { ", more" } else { "" },
                head.payload_len
            );
        }
        above_ip(line, name, &head, payload, transport, depth)?;
        return write!(line, " [first fragment, id {id}]");
    }
    above_ip(line, name, &head, payload, transport, depth)
}

/// The fields of the IP header, as `tcpdump -v` shows them.
fn fields(line: &mut String, net: &LaxNetSlice<'_>) -> fmt::Result {
    match net {
        LaxNetSlice::Ipv4(packet) => {
            let head = packet.header();
            let flags = match (head.dont_fragment(), head.more_fragments()) {
                (false, false) => "none",
                (true, false) => "DF",
                (false, true) => "+",
                (true, true) => "+, DF",
            };
            write!(
                line,
                " (tos 0x{:x}, ttl {}, id {}, offset {}, flags [{flags}], proto {} ({}), length {})",
                head.dcp().value() << 2 | head.ecn().value(),
                head.ttl(),
                head.identification(),
                head.fragments_offset().value() * 8,
                protocol(head.protocol()),
                head.protocol().0,
                head.total_len()
            )
        }
        LaxNetSlice::Ipv6(packet) => {
            let head = packet.header();
            write!(
                line,
                " (class 0x{:02x}, flowlabel 0x{:05x}, hlim {}, next-header {} ({}), payload length {})",
                head.traffic_class(),
                head.flow_label().value(),
                head.hop_limit(),
                protocol(head.next_header()),
                head.next_header().0,
                head.payload_length()
            )
        }
        LaxNetSlice::Arp(_) => Ok(()),
    }
}

/// The addresses, and what IP carries.
fn above_ip(
    line: &mut impl Write,
    name: &str,
    head: &Header,
    payload: &LaxIpPayloadSlice<'_>,
    transport: Option<&TransportSlice<'_>>,
    depth: Depth,
) -> fmt::Result {
    match transport {
        Some(TransportSlice::Tcp(tcp)) => return transport::tcp(line, name, head, tcp, depth.detail),
        Some(TransportSlice::Udp(udp)) => return transport::udp(line, name, head, udp, depth),
        _ => {}
    }
    write!(line, "{name} {} > {}: ", head.source, head.destination)?;
    match payload.ip_number {
        IpNumber::ICMP => icmp::v4(line, payload.payload, head.payload_len),
        IpNumber::IPV6_ICMP => icmp::v6(line, payload.payload, head.payload_len),
        // IP in IP: what Calico and Flannel call ipip.
        IpNumber::IPV4 | IpNumber::IPV6 if depth.left > 0 => {
            network(line, payload.payload, head.payload_len, depth.deeper())
        }
        IpNumber::TCP => cut(line, "TCP", head.payload_len),
        IpNumber::UDP => cut(line, "UDP", head.payload_len),
        other => write!(line, "{}, length {}", protocol(other), head.payload_len),
    }
}

/// A protocol by the name people know, else by number.
fn protocol(number: IpNumber) -> Protocol {
    Protocol(number.0)
}

struct Protocol(u8);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("ICMP"),
            2 => f.write_str("IGMP"),
            4 | 41 => f.write_str("IP-in-IP"),
            6 => f.write_str("TCP"),
            17 => f.write_str("UDP"),
            47 => f.write_str("GRE"),
            50 => f.write_str("ESP"),
            58 => f.write_str("ICMP6"),
            89 => f.write_str("OSPF"),
            132 => f.write_str("SCTP"),
            other => write!(f, "protocol {other}"),
        }
    }
}

fn arp_line(line: &mut impl Write, arp: &ArpPacketSlice<'_>) -> fmt::Result {
    let address = |bytes: &[u8]| bytes.first_chunk::<4>().map(|b| Ipv4Addr::from(*b));
    let (sender, target) = (address(arp.sender_protocol_addr()), address(arp.target_protocol_addr()));
    let length = arp.slice().len();
    match (arp.operation(), sender, target) {
        (ArpOperation::REQUEST, Some(sender), Some(target)) => {
            write!(line, "ARP, Request who-has {target} tell {sender}, length {length}")
        }
        (ArpOperation::REPLY, Some(sender), _) => {
            write!(line, "ARP, Reply {sender} is-at ")?;
            for (n, byte) in arp.sender_hw_addr().iter().enumerate() {
                write!(line, "{}{byte:02x}", if n > 0 { ":" } else { "" })?;
            }
            write!(line, ", length {length}")
        }
        (other, ..) => write!(line, "ARP, operation {}, length {length}", other.0),
    }
}

/// The packet that an ICMP error quotes: whose it is, and how large.
fn quoted(line: &mut impl Write, quote: &[u8]) -> fmt::Result {
    let Some(layer) = layer(quote) else { return Ok(()) };
    write!(line, "; quotes {} ", protocol(IpNumber(layer.protocol)))?;
    match (layer.protocol, layer.later_fragment, layer.body.first_chunk::<8>()) {
        (6 | 17, false, Some(&[s0, s1, d0, d1, n0, n1, n2, n3])) => {
            let (source, destination) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
            write!(line, "{}.{source} > {}.{destination}", layer.source, layer.destination)?;
            if layer.protocol == 6 {
                write!(line, " seq {}", u32::from_be_bytes([n0, n1, n2, n3]))?;
            }
        }
        (1 | 58, false, Some(&[_, _, _, _, i0, i1, s0, s1])) => {
            let (id, sequence) = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([s0, s1]));
            write!(line, "{} > {} id {id} seq {sequence}", layer.source, layer.destination)?;
        }
        _ => write!(line, "{} > {}", layer.source, layer.destination)?,
    }
    write!(line, ", {} bytes", layer.total_len)
}

#[cfg(test)]
mod tests;
