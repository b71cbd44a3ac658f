//! What is worth a comment beside a packet: too big for the path, larger than its link, a large segment again.
//! Bounded memory; most packets are left after a look at a few bytes.
//!
//! What ICMP says is a claim of whoever sent it, and is told as one.

use super::layers::{Layer, layer, layers};
use super::output::Packet;
use super::segments::Segments;
use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;

/// Destinations whose path MTU is remembered.
const PATHS: usize = 1024;
/// Smaller packets fit through every path (RFC 8200 §5; IPv4 asks for less): not worth a look.
const SMALL: u32 = 1280;
/// Ethernet's header, and one VLAN tag, which is no part of the MTU.
const ETHERNET: u32 = 14;
const TAG: u32 = 4;

/// What is known of a point.
#[derive(Debug)]
struct Place {
    link_type: u16,
    /// The largest frame that its link carries.
    largest: u32,
    /// What is said of a larger one.
    oversize: String,
}

/// Makes comments; its memory is kept.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    places: Vec<Place>,
    segments: Segments,
    /// Path MTU by destination, and who told it.
    paths: HashMap<IpAddr, (u32, IpAddr)>,
    text: String,
}

impl Remarks {
    /// The points by number: LINKTYPE_ number, and link MTU where it is known.
    pub(super) fn begin(&mut self, points: impl Iterator<Item = (u16, Option<u32>)>) {
        let place = |(link_type, mtu): (u16, Option<u32>)| Place {
            link_type,
            largest: mtu
                .map_or(u32::MAX, |m| m.saturating_add(if link_type == 1 { ETHERNET + TAG } else { 0 })),
            oversize: mtu.map_or(String::new(), |m| {
                format!("larger than the link MTU of {m} bytes: TSO/GRO, not on the wire in this size")
            }),
        };
        self.places = points.map(place).collect();
    }

    /// What is worth saying of a packet; empty: nothing.
    #[inline]
    pub(super) fn about(&mut self, packet: &Packet<'_>) -> &str {
        let Some(place) = self.places.get(packet.point) else { return "" };
        let large = packet.wire_len > place.largest;
        if !large && (place.link_type == 1 && !is_of_interest(packet)) {
            return "";
        }
        self.look(packet, large)
    }

    fn look(&mut self, packet: &Packet<'_>, large: bool) -> &str {
        self.text.clear();
        let Some(place) = self.places.get(packet.point) else { return "" };
        if large {
            self.text.push_str(&place.oversize);
        }
        let (mut last, link_type) = (None, place.link_type);
        for layer in layers(link_type, packet.data) {
            if let Some(too_big) = TooBig::read(&layer) {
                self.too_big(&layer, &too_big);
            }
            last = Some(layer);
        }
        if let Some(layer) = last.filter(|l| l.protocol == 6 && l.total_len > SMALL)
            && self.segments.is_again(packet.point, &layer)
        {
            self.again(&layer);
        }
        &self.text
    }

    /// Begins another remark.
    fn separate(&mut self) {
        if !self.text.is_empty() {
            self.text.push_str("; ");
        }
    }

    fn too_big(&mut self, layer: &Layer<'_>, said: &TooBig) {
        self.separate();
        let (from, to) = (layer.source, said.destination);
        // Writing to a String cannot fail.
        let _ = match said.mtu {
            0 => write!(self.text, "{from} says that a packet to {to} was too big, and not what would fit"),
            mtu => write!(self.text, "{from} says that a packet to {to} was too big: {mtu} bytes fit"),
        };
        if said.sent > 0 {
            let _ = write!(self.text, ", it had {}", said.sent);
        }
        if said.mtu > 0 {
            if self.paths.len() >= PATHS {
                self.paths.clear();
            }
            self.paths.insert(to, (said.mtu, from));
        }
    }

    fn again(&mut self, layer: &Layer<'_>) {
        self.separate();
        let size = layer.total_len;
        let known = self.paths.get(&layer.destination).filter(|(mtu, _)| size > *mtu);
        let _ = match known {
            Some((mtu, from)) => write!(
                self.text,
                "retransmission of {size} bytes, larger than the path: {from} said that {mtu} fit"
            ),
            None => write!(self.text, "retransmission of {size} bytes: does the path carry them?"),
        };
    }
}

/// Whether an Ethernet frame may be an ICMP error, a tunnel's packet or a large TCP segment.
#[inline]
fn is_of_interest(packet: &Packet<'_>) -> bool {
    let Some(head) = packet.data.first_chunk::<38>() else { return false };
    let tunnel = |high: u8, low: u8| matches!(u16::from_be_bytes([high, low]), 4789 | 8472 | 6081);
    let large = packet.wire_len > SMALL + ETHERNET;
    match [head[12], head[13]] {
        [0x08, 0x00] => match head[23] {
            6 => large,
            // Port or not, after IP options it is somewhere else.
            17 => head[14] != 0x45 || tunnel(head[36], head[37]),
            1 => matches!(packet.data.get(34), None | Some(3)),
            4 | 41 => true,
            _ => false,
        },
        [0x86, 0xdd] => match head[20] {
            6 => large,
            17 => packet.data.get(56..58).is_some_and(|p| matches!(p, [high, low] if tunnel(*high, *low))),
            58 => packet.data.get(54) == Some(&2),
            0 | 4 | 41 | 43 | 44 | 60 => true,
            _ => false,
        },
        [0x81, 0x00] | [0x88, 0xa8] => true,
        _ => false,
    }
}

/// Fragmentation needed (RFC 1191 §4), or packet too big (RFC 4443 §3.2).
struct TooBig {
    /// What would fit, bytes; 0 when it does not say.
    mtu: u32,
    /// Whom the packet was for.
    destination: IpAddr,
    /// How large it was, bytes; 0 when its header did not say.
    sent: u32,
}

impl TooBig {
    fn read(error: &Layer<'_>) -> Option<Self> {
        if error.later_fragment {
            return None;
        }
        let [kind, code, _, _, a, b, c, d] = *error.body.first_chunk::<8>()?;
        let mtu = match (error.protocol, kind, code) {
            (1, 3, 4) => u32::from(u16::from_be_bytes([c, d])),
            (58, 2, _) => u32::from_be_bytes([a, b, c, d]),
            _ => return None,
        };
        let quoted = layer(error.body.get(8..)?)?;
        Some(Self { mtu, destination: quoted.destination, sent: quoted.total_len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv4Type, Icmpv6Type, IpHeaders, PacketBuilder, PacketBuilderStep, icmpv4};

    fn remarks() -> Remarks {
        let mut remarks = Remarks::default();
        remarks.begin([(1, Some(1500)), (1, None)].into_iter());
        remarks
    }

    fn say(remarks: &mut Remarks, point: usize, data: &[u8]) -> String {
        let wire_len = u32::try_from(data.len()).unwrap();
        remarks.about(&Packet { point, time_ns: 1, wire_len, data }).to_owned()
    }

    /// From a router or a pod to the pod, or to the other pod.
    fn ip(v6: bool, from: u8, to: u8) -> PacketBuilderStep<IpHeaders> {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let six = |n| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n];
        if v6 {
            ethernet.ipv6(six(from), six(to), 64)
        } else {
            ethernet.ipv4([10, 0, 0, from], [10, 0, 0, to], 64)
        }
    }

    fn segment(v6: bool, sequence: u32, bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        ip(v6, 1, 2).tcp(40000, 80, sequence, 100).ack(1).write(&mut out, &vec![0; bytes]).unwrap();
        out
    }

    fn too_big(v6: bool, mtu: u16, quoted: &[u8]) -> Vec<u8> {
        let (mut out, quoted) = (Vec::new(), &quoted[14..128]);
        if v6 {
            ip(v6, 9, 1)
                .icmpv6(Icmpv6Type::PacketTooBig { mtu: mtu.into() })
                .write(&mut out, quoted)
                .unwrap();
        } else {
            let kind = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
            ip(v6, 9, 1).icmpv4(Icmpv4Type::DestinationUnreachable(kind)).write(&mut out, quoted).unwrap();
        }
        out
    }

    fn inside_vxlan(frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let payload = [&[8, 0, 0, 0, 0, 0, 1, 0], frame].concat();
        ip(false, 7, 8).udp(50000, 8472).write(&mut out, &payload).unwrap();
        out
    }

    #[test]
    fn a_packet_larger_than_its_link_was_not_on_the_wire_in_this_size() {
        let mut remarks = remarks();
        let large = segment(false, 1, 1461);
        // The tag of a VLAN is no part of the MTU.
        assert_eq!(say(&mut remarks, 0, &segment(false, 1, 1460)), "");
        assert_eq!(
            say(&mut remarks, 0, &[&large[..], &[0; 4]].concat()),
            "larger than the link MTU of 1500 bytes: TSO/GRO, not on the wire in this size"
        );
        assert_eq!(say(&mut remarks, 1, &segment(false, 9, 9000)), "");
    }

    #[test]
    fn too_big_names_who_says_so_what_fits_and_what_was_sent() {
        for (v6, router, other, sent) in
            [(false, "10.0.0.9", "10.0.0.2", 1500), (true, "fd00::9", "fd00::2", 1520)]
        {
            let mut remarks = remarks();
            let quoted = segment(v6, 1, 1460);
            let expected =
                format!("{router} says that a packet to {other} was too big: 1400 bytes fit, it had {sent}");
            assert_eq!(say(&mut remarks, 0, &too_big(v6, 1400, &quoted)), expected);
            assert_eq!(
                say(&mut remarks, 0, &inside_vxlan(&too_big(v6, 1400, &quoted))),
                expected,
                "inside a tunnel"
            );
            let silent = say(&mut remarks, 0, &too_big(v6, 0, &quoted));
            assert!(silent.contains("not what would fit"), "{silent}");
        }
    }

    #[test]
    fn a_large_segment_again_is_held_against_what_the_path_was_said_to_carry() {
        for v6 in [false, true] {
            let mut remarks = remarks();
            let (first, small) = (segment(v6, 1, 1440), segment(v6, 1441, 100));
            assert_eq!(say(&mut remarks, 0, &first), "");
            assert_eq!(say(&mut remarks, 0, &small), "");
            assert_eq!(say(&mut remarks, 0, &small), "", "what is small passes everywhere");
            let size = 1440 + if v6 { 60 } else { 40 };
            assert_eq!(say(&mut remarks, 1, &first), "", "another point sees it for the first time");
            let again = format!("retransmission of {size} bytes: does the path carry them?");
            assert_eq!(say(&mut remarks, 0, &first), again);
            say(&mut remarks, 0, &too_big(v6, 1400, &first));
            let router = if v6 { "fd00::9" } else { "10.0.0.9" };
            let larger =
                format!("retransmission of {size} bytes, larger than the path: {router} said that 1400 fit");
            assert_eq!(say(&mut remarks, 0, &first), larger);
        }
    }

    #[test]
    fn what_routers_say_takes_no_more_than_its_memory() {
        let mut remarks = remarks();
        for n in 0..5000u32 {
            let [_, _, c, d] = n.to_be_bytes();
            let mut quoted = segment(false, 1, 1460);
            quoted[14 + 18..14 + 20].copy_from_slice(&[c, d]);
            say(&mut remarks, 0, &too_big(false, 1400, &quoted));
            assert!(remarks.paths.len() <= PATHS);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), cut in 0usize..200) {
            let mut remarks = remarks();
            say(&mut remarks, 0, &bytes);
            let real = inside_vxlan(&too_big(true, 1400, &segment(true, 1, 1440)));
            say(&mut remarks, 0, &real[..cut.min(real.len())]);
        }
    }
}
