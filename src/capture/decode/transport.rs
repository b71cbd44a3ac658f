//! TCP and UDP, and the tunnels of Kubernetes that ride on UDP.
//!
//! Source: RFC 9293, RFC 768, RFC 7348 (VXLAN), RFC 8926 (Geneve).

use super::{Header, ethernet};
use etherparse::{TcpOptionElement, TcpSlice, UdpSlice};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// `10.0.0.1.80`, as tcpdump joins address and port.
fn ends(line: &mut impl Write, name: &str, head: &Header, source: u16, destination: u16) -> fmt::Result {
    let (from, to): (IpAddr, IpAddr) = (head.source, head.destination);
    write!(line, "{name} {from}.{source} > {to}.{destination}: ")
}

/// A TCP segment: flags, absolute sequence numbers, window, MSS, length.
pub(super) fn tcp(line: &mut impl Write, name: &str, head: &Header, tcp: &TcpSlice<'_>) -> fmt::Result {
    ends(line, name, head, tcp.source_port(), tcp.destination_port())?;
    let length = head.payload_len.saturating_sub(u32::from(tcp.data_offset()) * 4);
    line.write_str("Flags [")?;
    let flags = [
        (tcp.fin(), 'F'),
        (tcp.syn(), 'S'),
        (tcp.rst(), 'R'),
        (tcp.psh(), 'P'),
        (tcp.ack(), '.'),
        (tcp.urg(), 'U'),
        (tcp.ece(), 'E'),
        (tcp.cwr(), 'W'),
    ];
    if flags.iter().all(|(set, _)| !set) {
        line.write_str("none")?;
    }
    for (_, letter) in flags.iter().filter(|(set, _)| *set) {
        line.write_char(*letter)?;
    }
    let sequence = tcp.sequence_number();
    write!(line, "], seq {sequence}")?;
    if length > 0 {
        write!(line, ":{}", sequence.wrapping_add(length))?;
    }
    if tcp.ack() {
        write!(line, ", ack {}", tcp.acknowledgment_number())?;
    }
    write!(line, ", win {}", tcp.window_size())?;
    // The options that tell of sizes and losses; an option that makes no sense ends the list.
    for option in tcp.options_iterator().map_while(Result::ok) {
        match option {
            TcpOptionElement::MaximumSegmentSize(mss) => write!(line, ", mss {mss}")?,
            TcpOptionElement::SelectiveAcknowledgement((from, to), more) => {
                write!(line, ", sack {from}:{to}")?;
                for (from, to) in more.iter().flatten() {
                    write!(line, " {from}:{to}")?;
                }
            }
            _ => {}
        }
    }
    write!(line, ", length {length}")
}

/// A UDP datagram, and inside a VXLAN or Geneve tunnel the frame it carries.
pub(super) fn udp(
    line: &mut impl Write,
    name: &str,
    head: &Header,
    udp: &UdpSlice<'_>,
    depth: u8,
) -> fmt::Result {
    ends(line, name, head, udp.source_port(), udp.destination_port())?;
    // A first fragment's UDP length is that of the whole datagram; 0 is a jumbogram's.
    let length = match udp.length() {
        0 => head.payload_len,
        length => u32::from(length),
    }
    .saturating_sub(8);
    let tunnel = match udp.destination_port() {
        // 4789 is IANA's, 8472 is Linux's and Flannel's.
        4789 | 8472 if depth > 0 => vxlan(udp.payload()),
        6081 if depth > 0 => geneve(udp.payload()),
        _ => None,
    };
    let Some(tunnel) = tunnel else { return write!(line, "UDP, length {length}") };
    write!(line, "{} vni {}: ", tunnel.name, tunnel.vni)?;
    ethernet(line, tunnel.frame, length.saturating_sub(tunnel.header_len), depth - 1)
}

/// What a tunnel's header says.
struct Tunnel<'a> {
    name: &'static str,
    vni: u32,
    header_len: u32,
    frame: &'a [u8],
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
