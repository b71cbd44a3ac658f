//! What packets are wanted, in words that hold for IPv4 and IPv6 alike, compiled to libpcap's language.
//!
//! libpcap finds `port` and `host` in both families, but `tcp[…]` in IPv4 only, and no ICMP error by what it is
//! about: these are written as places in the packet. IPv6 packets with extension headers are found by address only.

use std::fmt::Write;
use std::net::IpAddr;

/// A network, or a single address of full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its address.
    pub address: IpAddr,
    /// Bits that count.
    pub length: u8,
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl Network {
    /// `10.0.0.1`, `fd00::1`, `10.0.0.0/8`; bits behind the length must be zero, as libpcap wants it.
    pub fn parse(text: &str) -> Option<Self> {
        let Some((address, length)) = text.split_once('/') else {
            return Some(text.parse::<IpAddr>().ok()?.to_canonical().into());
        };
        let network = Self { address: address.parse().ok()?, length: length.parse().ok()? };
        let whole = Self::from(network.address).length;
        let rest: u128 = match network.address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96).checked_shl(network.length.into()),
            IpAddr::V6(v6) => v6.to_bits().checked_shl(network.length.into()),
        }
        .unwrap_or(0);
        (network.length <= whole && rest == 0).then_some(network)
    }

    fn is_single(self) -> bool {
        self.length == Self::from(self.address).length
    }

    /// libpcap's words for a packet to or from it.
    fn text(self) -> String {
        if self.is_single() {
            format!("host {}", self.address)
        } else {
            format!("net {}/{}", self.address, self.length)
        }
    }

    /// An ICMP error that quotes a packet to or from it.
    fn quoted(self) -> String {
        let sides = match self.address {
            IpAddr::V4(v4) => [20, 24].map(|at| {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
                compare("icmp", at, v4.to_bits(), mask)
            }),
            IpAddr::V6(v6) => [16, 32].map(|at| {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0);
                let word =
                    |bits: u128, n: u32| u32::try_from(bits >> (96 - 32 * n) & 0xffff_ffff).unwrap_or(0);
                let words = (0..4u32)
                    .filter(|&n| word(mask, n) != 0)
                    .map(|n| compare("icmp6", at + 4 * n, word(v6.to_bits(), n), word(mask, n)));
                let all = words.collect::<Vec<_>>().join(" and ");
                if all.is_empty() { "icmp6".to_owned() } else { format!("({all})") }
            }),
        };
        format!("({})", sides.join(" or "))
    }
}

/// `icmp[20:4] = 0x0a000001`, with a mask where not every bit counts.
fn compare(what: &str, at: u32, value: u32, mask: u32) -> String {
    match mask {
        u32::MAX => format!("{what}[{at}:4] = {value:#x}"),
        mask => format!("{what}[{at}:4] & {mask:#x} = {value:#x}"),
    }
}

/// What packets are wanted; empty: all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    /// To or from one of these.
    pub hosts: Vec<Network>,
    /// To or from a TCP, UDP or SCTP port in one of these ranges, first and last.
    pub ports: Vec<(u16, u16)>,
    /// TCP with all flags of one of these sets.
    pub tcp_flags: Vec<u8>,
    /// And ICMP errors about such packets; alone: every ICMP error.
    pub icmp_errors: bool,
}

/// ICMP errors: unreachable, source quench, time exceeded, parameter problem (RFC 792); all of RFC 4443 §2.1.
const ERRORS: &str =
    "(icmp[0] = 3 or icmp[0] = 4 or icmp[0] = 11 or icmp[0] = 12 or (icmp6 and icmp6[0] < 128))";

impl Words {
    /// In libpcap's language; empty when everything is wanted.
    pub fn filter(&self) -> String {
        let hosts = any(self.hosts.iter().map(|n| n.text()));
        let ports = any(self.ports.iter().map(|&(first, last)| {
            if first == last { format!("port {first}") } else { format!("portrange {first}-{last}") }
        }));
        let flags = any(self.tcp_flags.iter().map(|&set| with_flags(set)));
        let wanted = all([hosts, ports, flags.clone()]);
        if !self.icmp_errors {
            return wanted;
        }
        let about = any(self.hosts.iter().map(|n| n.quoted()));
        let about_ports = any(self.ports.iter().map(|&range| quoted_ports(range)));
        // A quote ends before the flags: of TCP it is.
        let about_tcp =
            if flags.is_empty() { String::new() } else { "(icmp[17] = 6 or icmp6[14] = 6)".to_owned() };
        let errors = all([ERRORS.to_owned(), about, about_ports, about_tcp]);
        match wanted.as_str() {
            "" => errors,
            wanted if wanted.contains(" and ") => format!("({wanted}) or ({errors})"),
            wanted => format!("{wanted} or ({errors})"),
        }
    }
}

/// TCP with all of these flags, wherever a TCP header begins without IPv6 extensions.
fn with_flags(set: u8) -> String {
    if set.is_power_of_two() {
        return format!("(tcp[13] & {set:#x} != 0 or (ip6[6] = 6 and ip6[53] & {set:#x} != 0))");
    }
    format!("(tcp[13] & {set:#x} = {set:#x} or (ip6[6] = 6 and ip6[53] & {set:#x} = {set:#x}))")
}

/// An ICMP error that quotes a packet with a port in the range; a quoted IPv4 header has no options.
fn quoted_ports((first, last): (u16, u16)) -> String {
    let mut text = String::new();
    let quoted_ipv4 = "icmp[8] = 0x45 and";
    for (place, what) in
        [(quoted_ipv4, "icmp[28:2]"), (quoted_ipv4, "icmp[30:2]"), ("", "icmp6[48:2]"), ("", "icmp6[50:2]")]
    {
        let range = if first == last {
            format!("{what} = {first}")
        } else {
            format!("{what} >= {first} and {what} <= {last}")
        };
        let or = if text.is_empty() { "" } else { " or " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{or}({})", format!("{place} {range}").trim_start());
    }
    format!("({text})")
}

/// ICMP errors about the outer packets of a tunnel that goes to one of these UDP ports.
pub fn tunnel_errors(ports: &[u16]) -> String {
    let quoted = any(ports.iter().map(|p| format!("icmp[30:2] = {p}")));
    let quoted6 = any(ports.iter().map(|p| format!("icmp6[50:2] = {p}")));
    format!(
        "(icmp[0] = 3 and icmp[8] = 0x45 and icmp[17] = 17 and {quoted}) or (icmp6[0] < 5 and icmp6[14] = 17 and {quoted6})"
    )
}

/// One of these; empty when there are none.
fn any(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    match parts.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        several => format!("({})", several.join(" or ")),
    }
}

/// Each of these that is there.
fn all<const N: usize>(parts: [String; N]) -> String {
    parts.iter().filter(|p| !p.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" and ")
}

/// Flags by their names: `syn`, or several that must all be set: `syn+ack`.
pub fn tcp_flags(text: &str) -> Option<u8> {
    text.split('+').try_fold(0, |set, name| {
        let bit = match name.to_ascii_lowercase().as_str() {
            "fin" => 0x01,
            "syn" => 0x02,
            "rst" => 0x04,
            "psh" | "push" => 0x08,
            "ack" => 0x10,
            "urg" => 0x20,
            "ece" => 0x40,
            "cwr" => 0x80,
            _ => return None,
        };
        Some(set | bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::check_filter;
    use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4};
    use pcap::{Capture, Linktype};
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn words(hosts: &[&str], ports: &[(u16, u16)], flags: &[&str], icmp_errors: bool) -> Words {
        Words {
            hosts: hosts.iter().map(|t| Network::parse(t).unwrap()).collect(),
            ports: ports.to_vec(),
            tcp_flags: flags.iter().map(|t| tcp_flags(t).unwrap()).collect(),
            icmp_errors,
        }
    }

    /// Whether libpcap lets a packet pass.
    fn passes(words: &Words, packet: &[u8]) -> bool {
        let text = words.filter();
        assert_eq!(check_filter(&text), Ok(()), "{text}");
        let handle = Capture::dead(Linktype::ETHERNET).unwrap();
        handle.compile(&text, true).unwrap_or_else(|e| panic!("{text}: {e}")).filter(packet)
    }

    const A: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 1, 0, 1), Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1));
    const B: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 2, 0, 2), Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 2));
    const ROUTER: (Ipv4Addr, Ipv6Addr) =
        (Ipv4Addr::new(10, 9, 9, 9), Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 9));

    fn ip(
        v6: bool,
        from: (Ipv4Addr, Ipv6Addr),
        to: (Ipv4Addr, Ipv6Addr),
    ) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        if v6 {
            ethernet.ipv6(from.1.octets(), to.1.octets(), 64)
        } else {
            ethernet.ipv4(from.0.octets(), to.0.octets(), 64)
        }
    }

    /// A segment from A, port 40000, to B.
    fn tcp(v6: bool, port: u16, flags: u8) -> Vec<u8> {
        let mut out = Vec::new();
        ip(v6, A, B).tcp(40000, port, 1, 100).write(&mut out, b"x").unwrap();
        let at = if v6 { 14 + 40 + 13 } else { 14 + 20 + 13 };
        out[at] = flags;
        out
    }

    /// A router's error about a packet from A to B.
    fn error(v6: bool, quoted: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        if v6 {
            let kind = Icmpv6Type::PacketTooBig { mtu: 1400 };
            ip(v6, ROUTER, A).icmpv6(kind).write(&mut out, &quoted[14..]).unwrap();
        } else {
            let kind = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 };
            ip(v6, ROUTER, A)
                .icmpv4(Icmpv4Type::DestinationUnreachable(kind))
                .write(&mut out, &quoted[14..])
                .unwrap();
        }
        out
    }

    fn echo(v6: bool) -> Vec<u8> {
        let (mut out, head) = (Vec::new(), IcmpEchoHeader { id: 1, seq: 1 });
        if v6 {
            ip(v6, A, B).icmpv6(Icmpv6Type::EchoRequest(head)).write(&mut out, b"x").unwrap();
        } else {
            ip(v6, A, B).icmpv4(Icmpv4Type::EchoRequest(head)).write(&mut out, b"x").unwrap();
        }
        out
    }

    #[test]
    fn every_word_finds_its_packets_in_both_families_and_no_others() {
        let (syn, syn_ack, rst) = (0x02, 0x12, 0x04);
        for v6 in [false, true] {
            let b = if v6 { "fd00:2::2" } else { "10.2.0.2" };
            let b_net = if v6 { "fd00:2::/48" } else { "10.2.0.0/15" };
            let other = if v6 { "fd00:3::/48" } else { "10.4.0.0/15" };
            let http = tcp(v6, 80, syn);
            for (words, packet, wanted) in [
                (words(&[], &[(80, 80)], &[], false), &http, true),
                (words(&[], &[(81, 99)], &[], false), &http, false),
                (words(&[], &[(443, 443), (79, 81)], &[], false), &http, true),
                (words(&[b], &[], &[], false), &http, true),
                (words(&[other, b_net], &[], &[], false), &http, true),
                (words(&[other], &[], &[], false), &http, false),
                (words(&[b], &[(443, 443)], &[], false), &http, false),
                (words(&[], &[], &["syn"], false), &http, true),
                (words(&[], &[], &["syn"], false), &tcp(v6, 80, syn_ack), true),
                (words(&[], &[], &["syn+ack"], false), &tcp(v6, 80, syn_ack), true),
                (words(&[], &[], &["syn+ack"], false), &http, false),
                (words(&[], &[], &["fin", "rst"], false), &tcp(v6, 80, rst), true),
                (words(&[], &[], &["fin", "rst"], false), &http, false),
                (words(&[], &[], &["syn"], false), &echo(v6), false),
            ] {
                assert_eq!(passes(&words, packet), wanted, "IPv6 {v6}: {}", words.filter());
            }
        }
    }

    #[test]
    fn icmp_errors_are_those_about_the_packets_that_the_other_words_want() {
        for v6 in [false, true] {
            let (b, b_net, other) = if v6 {
                ("fd00:2::2", "fd00:2::/33", "fd00:3::/32")
            } else {
                ("10.2.0.2", "10.2.0.0/15", "10.3.0.1")
            };
            let about = error(v6, &tcp(v6, 80, 2));
            for (words, wanted) in [
                (words(&[], &[], &[], true), true),
                (words(&[b], &[], &[], true), true),
                (words(&[b_net], &[], &[], true), true),
                (words(&[other], &[], &[], true), false),
                (words(&[], &[(80, 80)], &[], true), true),
                (words(&[], &[(70, 90)], &[], true), true),
                (words(&[], &[(443, 443)], &[], true), false),
                (words(&[b], &[(443, 443)], &[], true), false),
                (words(&[b], &[(80, 80)], &["rst"], true), true),
                // An error is no packet to that host.
                (words(&[b], &[], &[], false), false),
            ] {
                assert_eq!(passes(&words, &about), wanted, "IPv6 {v6}: {}", words.filter());
            }
            assert!(!passes(&words(&[], &[], &[], true), &echo(v6)));
            assert!(passes(&words(&[b], &[(80, 80)], &[], true), &tcp(v6, 80, 2)));
        }
    }

    #[test]
    fn an_error_about_a_tunnels_packet_is_known_by_its_port() {
        for v6 in [false, true] {
            let mut outer = Vec::new();
            ip(v6, A, B).udp(50000, 8472).write(&mut outer, &[0; 60]).unwrap();
            let handle = Capture::dead(Linktype::ETHERNET).unwrap();
            let filter = handle.compile(&tunnel_errors(&[4789, 8472]), true).unwrap();
            assert!(filter.filter(&error(v6, &outer)), "IPv6 {v6}");
            assert!(!filter.filter(&error(v6, &tcp(v6, 8472, 2))), "IPv6 {v6}");
            assert!(!filter.filter(&outer));
        }
    }

    #[test]
    fn networks_and_flags_that_make_no_sense_are_refused() {
        for text in
            ["10.0.0.1/8", "10.0.0.0/33", "fd00::1/64", "fd00::/129", "web", "10.0.0", "10.0.0.0/", ""]
        {
            assert_eq!(Network::parse(text), None, "{text}");
        }
        assert_eq!(Network::parse("::ffff:10.0.0.1"), Network::parse("10.0.0.1"));
        for text in ["0.0.0.0/0", "::/0", "10.0.0.0/8", "fd00::/8"] {
            assert!(
                passes(
                    &words(&[text], &[], &[], true),
                    &error(text.contains(':'), &tcp(text.contains(':'), 80, 2))
                ),
                "{text}"
            );
        }
        for text in ["", "sin", "syn+", "syn|ack", "syn ack"] {
            assert_eq!(tcp_flags(text), None, "{text}");
        }
        assert_eq!(tcp_flags("SYN+ack"), Some(0x12));
    }

    #[test]
    fn nothing_asked_is_everything() {
        assert_eq!(Words::default().filter(), "");
        assert_eq!(words(&["10.0.0.1"], &[(80, 80)], &[], false).filter(), "host 10.0.0.1 and port 80");
    }
}
