//! What a capture may be told to wait for: fragmentation needed, a reset, a retransmission, a filter of one's
//! own. Also which lines deserve a colour. No clock and no socket: packets in, findings out.

use super::filter::{FilterError, check_filter, message_of};
use super::layers::{Layer, layers};
use super::segments::Segments;
use pcap::{BpfProgram, Capture, Linktype};

/// Something to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// ICMP says that a packet was too big: fragmentation needed, or packet too big of IPv6.
    TooBig,
    /// A TCP connection is reset.
    Reset,
    /// A TCP segment comes a second time.
    Retransmit,
    /// A packet passes this filter.
    Filter(String),
}

impl Until {
    /// `ptb`, `rst`, `retransmit`, or a filter of libpcap.
    ///
    /// # Errors
    /// The filter's.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        match text {
            "ptb" => Ok(Self::TooBig),
            "rst" => Ok(Self::Reset),
            "retransmit" => Ok(Self::Retransmit),
            filter => check_filter(filter).map(|()| Self::Filter(filter.to_owned())),
        }
    }
}

impl std::fmt::Display for Until {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooBig => f.write_str("ICMP packet too big"),
            Self::Reset => f.write_str("TCP reset"),
            Self::Retransmit => f.write_str("TCP retransmission"),
            Self::Filter(filter) => write!(f, "a packet that passes {filter}"),
        }
    }
}

/// What stands out in a packet by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notable {
    /// ICMP: too big.
    TooBig,
    /// Another ICMP error.
    IcmpError,
    /// TCP with RST.
    Reset,
}

/// What stands out in a packet or in the one that it carries.
pub(super) fn notable(link_type: u16, data: &[u8]) -> Option<Notable> {
    layers(link_type, data).find_map(|layer| notable_layer(&layer))
}

fn notable_layer(layer: &Layer<'_>) -> Option<Notable> {
    if layer.later_fragment {
        return None;
    }
    match (layer.protocol, layer.body) {
        (1, [3, 4, ..]) | (58, [2, ..]) => Some(Notable::TooBig),
        (1, [3 | 4 | 5 | 11 | 12, ..]) | (58, [1..=4, ..]) => Some(Notable::IcmpError),
        (6, body) if body.get(13)? & 0x04 != 0 => Some(Notable::Reset),
        _ => None,
    }
}

/// Looks at packets until one is what was waited for.
pub struct Watch {
    wanted: Vec<Until>,
    segments: Option<Segments>,
    /// The link type of each point, by number.
    links: Vec<u16>,
    /// For each link type and filter.
    programs: Vec<(u16, String, BpfProgram)>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Watch {
    /// Waits for any of these.
    pub fn new(wanted: Vec<Until>) -> Self {
        let segments = wanted.contains(&Until::Retransmit).then(Segments::default);
        Self { wanted, segments, links: Vec::new(), programs: Vec::new() }
    }

    /// Points to come, by number: LINKTYPE_ and DLT_ of each. May be called again when there are more.
    ///
    /// # Errors
    /// When a filter cannot be compiled for a link.
    pub fn begin(&mut self, points: impl Iterator<Item = (u16, i32)>) -> Result<(), FilterError> {
        self.links.clear();
        for (link, datalink) in points {
            self.links.push(link);
            for until in &self.wanted {
                let Until::Filter(filter) = until else { continue };
                if !self.programs.iter().any(|(l, f, _)| *l == link && f == filter) {
                    let program = Capture::dead(Linktype(datalink))
                        .and_then(|handle| handle.compile(filter, true))
                        .map_err(|error| FilterError {
                            filter: filter.clone(),
                            message: message_of(&error),
                            position: None,
                        })?;
                    self.programs.push((link, filter.clone(), program));
                }
            }
        }
        Ok(())
    }

    /// LINKTYPE_ number of a point.
    pub(super) fn link(&self, point: usize) -> u16 {
        self.links.get(point).copied().unwrap_or(0)
    }

    /// Whether this packet is what was waited for, and which of it.
    pub fn look(&mut self, point: usize, data: &[u8]) -> Option<&Until> {
        let link = *self.links.get(point)?;
        let (notable, again) = {
            let again = self.segments.as_mut().is_some_and(|segments| {
                // Of a tunnel's packet the one inside: it is the pod's.
                layers(link, data).last().is_some_and(|layer| segments.is_again(point, &layer))
            });
            (notable(link, data), again)
        };
        let programs = &self.programs;
        self.wanted.iter().find(|until| match until {
            Until::TooBig => notable == Some(Notable::TooBig),
            Until::Reset => notable == Some(Notable::Reset),
            Until::Retransmit => again,
            Until::Filter(filter) => {
                programs.iter().any(|(l, f, program)| *l == link && f == filter && program.filter(data))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv4Type, PacketBuilder, icmpv4};

    fn v4() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4(
            [10, 0, 0, 1],
            [10, 0, 0, 2],
            64,
        )
    }

    macro_rules! bytes {
        ($builder:expr, $payload:expr) => {{
            let mut data = Vec::new();
            $builder.write(&mut data, $payload).unwrap();
            data
        }};
    }

    fn too_big() -> Vec<u8> {
        let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded {
            next_hop_mtu: 1400,
        });
        bytes!(v4().icmpv4(kind), &[0x45; 28])
    }

    fn watch(wanted: &[Until]) -> Watch {
        let mut watch = Watch::new(wanted.to_vec());
        watch.begin([(1, 1)].into_iter()).unwrap();
        watch
    }

    #[test]
    fn each_finding_is_seen_in_its_packet_and_in_no_other() {
        let reset = bytes!(v4().tcp(1, 2, 3, 4).rst(), &[]);
        let data = bytes!(v4().tcp(1, 2, 3, 4).ack(5), &[0; 9]);
        let echo = bytes!(v4().icmpv4_echo_request(1, 1), &[0; 9]);
        let filter = Until::parse("icmp[0] = 8").unwrap();
        for (until, seen) in [
            (Until::parse("ptb").unwrap(), &too_big()),
            (Until::parse("rst").unwrap(), &reset),
            (filter, &echo),
        ] {
            for packet in [&too_big(), &reset, &data, &echo] {
                let found = watch(std::slice::from_ref(&until)).look(0, packet).cloned();
                assert_eq!(found, (packet == seen).then(|| until.clone()), "{until}");
            }
        }
        let mut again = watch(&[Until::Reset, Until::Retransmit]);
        assert_eq!(again.look(0, &data), None);
        assert_eq!(again.look(0, &data), Some(&Until::Retransmit));
        assert_eq!(again.look(1, &data), None, "no such point");
        assert!(Until::parse("tcp prot 80").is_err());
    }

    #[test]
    fn what_a_tunnel_carries_is_seen_too() {
        let payload = [&[8, 0, 0, 0, 0, 0, 1, 0], &too_big()[..]].concat();
        let outer = bytes!(
            PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
                .udp(50000, 8472),
            &payload
        );
        assert_eq!(notable(1, &outer), Some(Notable::TooBig));
        let geneve = [&[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 4], &too_big()[..]].concat();
        let outer = bytes!(
            PacketBuilder::ethernet2([2; 6], [4; 6])
                .single_vlan(5.try_into().unwrap())
                .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
                .udp(50000, 6081),
            &geneve
        );
        assert_eq!(notable(1, &outer), Some(Notable::TooBig));
    }

    #[test]
    fn a_fragment_is_not_taken_for_the_header_it_looks_like() {
        let mut packet = too_big();
        assert_eq!(notable(1, &packet), Some(Notable::TooBig));
        packet[20..22].copy_from_slice(&185u16.to_be_bytes());
        assert_eq!(notable(1, &packet), None);
    }

    #[test]
    fn errors_of_ipv6_are_seen_behind_extension_headers() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 56, 0, 64];
        packet.extend_from_slice(&[0xfd; 32]);
        // Hop-by-hop options of eight bytes, then ICMPv6 packet too big.
        packet.extend_from_slice(&[58, 0, 5, 2, 0, 0, 1, 0]);
        packet.extend_from_slice(&[2, 0, 0, 0, 0, 0, 5, 0]);
        assert_eq!(notable(101, &packet), Some(Notable::TooBig));
        packet[48] = 1;
        assert_eq!(notable(101, &packet), Some(Notable::IcmpError));
    }
}
