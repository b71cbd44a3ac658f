//! ICMP and ICMPv6, with what they say about sizes and about whom.
//!
//! Source: RFC 792, RFC 1191 §4, RFC 4443, RFC 4861.

use super::super::layers::layer;
use super::{cut, quoted};
use std::fmt::{self, Write};
use std::net::Ipv6Addr;

/// Type, code, the rest of the header, and what follows it.
fn parts(data: &[u8]) -> Option<(u8, u8, [u8; 4], &[u8])> {
    let [kind, code, _, _, a, b, c, d] = *data.first_chunk::<8>()?;
    Some((kind, code, [a, b, c, d], data.get(8..)?))
}

/// ` 10.0.0.9`, the destination of the quoted packet, or nothing.
fn about(line: &mut impl Write, quote: &[u8]) -> fmt::Result {
    layer(quote).map_or(Ok(()), |packet| write!(line, " {}", packet.destination))
}

/// An ICMP message of IPv4.
pub(super) fn v4(line: &mut impl Write, data: &[u8], length: u32) -> fmt::Result {
    let Some((kind, code, [a, b, c, d], rest)) = parts(data) else { return cut(line, "ICMP", length) };
    let (first, second) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    line.write_str("ICMP")?;
    match (kind, code) {
        (0, _) => write!(line, " echo reply, id {first}, seq {second}")?,
        (8, _) => write!(line, " echo request, id {first}, seq {second}")?,
        (3, _) => {
            about(line, rest)?;
            match code {
                0 => line.write_str(" unreachable - net unreachable")?,
                1 => line.write_str(" unreachable - host unreachable")?,
                2 => line.write_str(" unreachable - protocol unreachable")?,
                3 => line.write_str(" unreachable - port unreachable")?,
                4 => write!(line, " unreachable - need to frag (mtu {second})")?,
                9 | 10 | 13 => line.write_str(" unreachable - admin prohibited")?,
                other => write!(line, " unreachable - code {other}")?,
            }
        }
        (5, _) => {
            about(line, rest)?;
            write!(line, " redirect to {a}.{b}.{c}.{d}")?;
        }
        (11, 0) => {
            about(line, rest)?;
            line.write_str(" time exceeded in-transit")?;
        }
        (11, _) => {
            about(line, rest)?;
            line.write_str(" time exceeded in reassembly")?;
        }
        (12, _) => {
            about(line, rest)?;
            line.write_str(" parameter problem")?;
        }
        (kind, code) => write!(line, " type {kind}, code {code}")?,
    }
    write!(line, ", length {length}")?;
    // Unreachable, redirect, time exceeded, parameter problem.
    if matches!(kind, 3 | 5 | 11 | 12) { quoted(line, rest) } else { Ok(()) }
}

/// An ICMPv6 message.
pub(super) fn v6(line: &mut impl Write, data: &[u8], length: u32) -> fmt::Result {
    let Some((kind, code, [a, b, c, d], rest)) = parts(data) else { return cut(line, "ICMP6", length) };
    let (first, second) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let target = rest.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes));
    line.write_str("ICMP6,")?;
    match (kind, target) {
        (128, _) => write!(line, " echo request, id {first}, seq {second}")?,
        (129, _) => write!(line, " echo reply, id {first}, seq {second}")?,
        (1, _) => {
            about(line, rest)?;
            match code {
                0 => line.write_str(" unreachable - no route")?,
                1 => line.write_str(" unreachable - admin prohibited")?,
                3 => line.write_str(" unreachable - address unreachable")?,
                4 => line.write_str(" unreachable - port unreachable")?,
                other => write!(line, " unreachable - code {other}")?,
            }
        }
        (2, _) => {
            about(line, rest)?;
            write!(line, " packet too big, mtu {}", u32::from_be_bytes([a, b, c, d]))?;
        }
        (3, _) => {
            about(line, rest)?;
            line.write_str(if code == 0 {
                " time exceeded in-transit"
            } else {
                " time exceeded in reassembly"
            })?;
        }
        (4, _) => line.write_str(" parameter problem")?,
        (133, _) => line.write_str(" router solicitation")?,
        (134, _) => line.write_str(" router advertisement")?,
        (135, Some(target)) => write!(line, " neighbor solicitation, who has {target}")?,
        (136, Some(target)) => write!(line, " neighbor advertisement, tgt is {target}")?,
        (137, Some(target)) => write!(line, " redirect to {target}")?,
        (143, _) => line.write_str(" multicast listener report v2")?,
        (kind, _) => write!(line, " type {kind}, code {code}")?,
    }
    write!(line, ", length {length}")?;
    // The errors: unreachable, too big, time exceeded, parameter problem.
    if matches!(kind, 1..=4) { quoted(line, rest) } else { Ok(()) }
}
