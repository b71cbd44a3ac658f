//! TCP and UDP, and the tunnels of Kubernetes that ride on UDP.
//!
//! Source: RFC 9293, RFC 7323 (window scale, timestamps), RFC 768.

use super::super::layers::tunnel;
use super::{Depth, Header, ethernet};
use etherparse::{TcpOptionElement, TcpSlice, UdpSlice};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// `10.0.0.1.80`, as tcpdump joins address and port.
fn ends(line: &mut impl Write, name: &str, head: &Header, source: u16, destination: u16) -> fmt::Result {
    let (from, to): (IpAddr, IpAddr) = (head.source, head.destination);
    write!(line, "{name} {from}.{source} > {to}.{destination}: ")
}

/// A TCP segment: flags, absolute sequence numbers, window, MSS, length; in `detail` the other options too.
pub(super) fn tcp(
    line: &mut impl Write,
    name: &str,
    head: &Header,
    tcp: &TcpSlice<'_>,
    detail: bool,
) -> fmt::Result {
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
            TcpOptionElement::WindowScale(shift) if detail => write!(line, ", wscale {shift}")?,
            TcpOptionElement::SelectiveAcknowledgementPermitted if detail => line.write_str(", sackOK")?,
            TcpOptionElement::Timestamp(value, echo) if detail => {
                write!(line, ", TS val {value} ecr {echo}")?;
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
    depth: Depth,
) -> fmt::Result {
    ends(line, name, head, udp.source_port(), udp.destination_port())?;
    // A first fragment's UDP length is that of the whole datagram; 0 is a jumbogram's.
    let length = match udp.length() {
        0 => head.payload_len,
        length => u32::from(length),
    }
    .saturating_sub(8);
    let (true, Some(tunnel)) = (depth.left > 0, tunnel(udp.destination_port(), udp.payload())) else {
        return write!(line, "UDP, length {length}");
    };
    write!(line, "{} vni {}: ", tunnel.name, tunnel.vni)?;
    ethernet(line, tunnel.frame, length.saturating_sub(tunnel.header_len), depth.deeper())
}
