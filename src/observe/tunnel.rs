//! What a tunnel adds to a packet, from its IFLA_INFO_DATA.
//!
//! Each sum is checked against the MTU that the kernel itself gave such a device over 1500 (the recorded
//! dump). Sources: kernel drivers/net/vxlan, drivers/net/geneve.c, net/ipv4/ip_tunnel.c `ip_tunnel_bind_dev`,
//! net/ipv6/ip6_tunnel.c, net/ipv4/ip_gre.c; wireguard: drivers/net/wireguard/device.c `MESSAGE_MINIMUM_LENGTH`.

use crate::facts::DontFragment;
use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_route::link::{
    GeneveDf, GreEncapFlags, GreEncapType, GreIOFlags, InfoData, InfoGeneve, InfoGre, InfoGre6, InfoIpTunnel,
    InfoVti, InfoVxlan, InfoXfrm, Ip6TunnelFlags, TunnelEncapFlags, TunnelEncapType, VxlanDf,
};
use std::net::IpAddr;

const IPV4: u32 = 20;
const IPV6: u32 = 40;
const UDP: u32 = 8;
const ETHERNET: u32 = 14;
/// VXLAN's and Geneve's own header, without Geneve options.
const OVERLAY: u32 = 8;
/// GRE's base header; key, checksum and sequence number are 4 more each (RFC 2890).
const GRE: u32 = 4;
/// The destination option that carries the tunnel encapsulation limit (RFC 2473), padded.
const ENCAP_LIMIT: u32 = 8;
/// A WireGuard data message: header 16, authentication tag 16 (wireguard.com/protocol); padding to 16 not counted.
const WIREGUARD: u32 = 32;

/// ESP with the ciphers that add least: header 8, trailer 2, check value 12, no IV (RFC 4303, RFC 2410, RFC 2404).
const ESP_LEAST: u32 = 22;
/// FOU: a UDP header. GUE: its own 4 bytes behind one, 8 more with remote checksum (kernel net/ipv4/fou_core.c).
const GUE: u32 = 4;
const REMOTE_CHECKSUM: u32 = 8;

/// A tunnel as its own namespace describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RawTunnel {
    /// Bytes that it adds to a packet; `None` when that depends on the packet or is not known.
    pub(super) overhead: Option<u32>,
    /// What it adds at least, where the exact sum is not known.
    pub(super) least: Option<u32>,
    /// Whether its outer packets are IPv6; `None` when both occur or it is not known.
    pub(super) outer_ipv6: Option<bool>,
    /// The interface it is bound to.
    pub(super) link: Option<u32>,
    pub(super) local: Option<IpAddr>,
    /// Where it sends: its fixed remote, or the endpoints of its peers.
    pub(super) remotes: Vec<IpAddr>,
    pub(super) dont_fragment: Option<DontFragment>,
    /// The mark of its outer packets, where rules may send them another way.
    pub(super) mark: Option<u32>,
    /// VNI of VXLAN and Geneve, interface id of xfrm.
    pub(super) id: Option<u32>,
    pub(super) port: Option<u16>,
    /// Told packet by packet where to send.
    pub(super) external: bool,
}

impl RawTunnel {
    /// What IFLA_INFO_DATA says of a tunnel; `None` for other kinds.
    pub(super) fn read(kind: Option<&str>, data: &InfoData) -> Option<Self> {
        Some(match data {
            InfoData::Vxlan(info) => vxlan(info),
            InfoData::Geneve(info) => geneve(info),
            InfoData::IpTunnel(info) => ip_tunnel(kind?, info),
            InfoData::GreTun(info) => gre(info, 0),
            InfoData::GreTap(info) => gre(info, ETHERNET),
            InfoData::GreTun6(info) => gre6(info, 0),
            InfoData::GreTap6(info) => gre6(info, ETHERNET),
            InfoData::ErSpan(info) => {
                let version =
                    info.iter().find_map(|i| if let InfoGre::ErSpanVer(v) = i { Some(*v) } else { None });
                RawTunnel { overhead: Some(IPV4 + erspan(version)), ..gre(info, ETHERNET) }
            }
            InfoData::Ip6ErSpan(info) => {
                let version =
                    info.iter().find_map(|i| if let InfoGre6::ErSpanVer(v) = i { Some(*v) } else { None });
                let limit =
                    info.iter().find_map(|i| if let InfoGre6::Other(o) = i { gre6_limit(o) } else { None });
                let sum = IPV6 + erspan(version) + limit.unwrap_or(ENCAP_LIMIT);
                RawTunnel { overhead: Some(sum), ..gre6(info, ETHERNET) }
            }
            InfoData::Vti(info) => vti(kind == Some("vti6"), info),
            InfoData::Xfrm(info) => xfrm(info),
            _ => return None,
        })
    }

    /// Sets what the endpoints of a WireGuard device tell. One packet size must do for all peers: when one of them
    /// is IPv6 its larger overhead counts.
    pub(super) fn set_wireguard(&mut self, remotes: Vec<IpAddr>) {
        let Some(first) = remotes.first() else { return };
        let ipv6 = remotes.iter().any(IpAddr::is_ipv6);
        self.outer_ipv6 = remotes.iter().all(|r| r.is_ipv6() == first.is_ipv6()).then_some(ipv6);
        self.overhead = Some(outer(ipv6) + UDP + WIREGUARD);
        self.remotes = remotes;
    }
}

fn outer(ipv6: bool) -> u32 {
    if ipv6 { IPV6 } else { IPV4 }
}

/// An address that is set: `any` is not.
fn set(address: impl Into<IpAddr>) -> Option<IpAddr> {
    Some(address.into()).filter(|a| !a.is_unspecified())
}

fn vxlan(info: &[InfoVxlan]) -> RawTunnel {
    let mut tunnel = RawTunnel::default();
    let (mut external, mut frame) = (false, ETHERNET);
    for item in info {
        match item {
            InfoVxlan::Link(index) => tunnel.link = (*index != 0).then_some(*index),
            InfoVxlan::Local(ip) => tunnel.local = set(*ip),
            InfoVxlan::Local6(ip) => tunnel.local = set(*ip),
            InfoVxlan::Group(ip) => tunnel.remotes.extend(set(*ip)),
            InfoVxlan::Group6(ip) => tunnel.remotes.extend(set(*ip)),
            InfoVxlan::Id(id) => tunnel.id = Some(*id),
            InfoVxlan::Port(port) => tunnel.port = Some(*port),
            InfoVxlan::CollectMetadata(on) => external = *on,
            // The generic protocol extension carries IP without an inner Ethernet header.
            InfoVxlan::Gpe => frame = 0,
            InfoVxlan::Df(df) => {
                tunnel.dont_fragment = match df {
                    VxlanDf::Unset => Some(DontFragment::Unset),
                    VxlanDf::Set => Some(DontFragment::Set),
                    VxlanDf::Inherit => Some(DontFragment::Inherit),
                    _ => None,
                }
            }
            _ => {}
        }
    }
    // An external device is told where to send, and over which family, packet by packet.
    tunnel.external = external;
    if external {
        tunnel.id = None;
        tunnel.least = Some(IPV4 + UDP + OVERLAY + frame);
    } else {
        let ipv6 = tunnel.local.as_ref().or(tunnel.remotes.first()).is_some_and(IpAddr::is_ipv6);
        tunnel.outer_ipv6 = Some(ipv6);
        tunnel.overhead = Some(outer(ipv6) + UDP + OVERLAY + frame);
    }
    tunnel
}

fn geneve(info: &[InfoGeneve]) -> RawTunnel {
    let mut tunnel = RawTunnel::default();
    let mut frame = ETHERNET;
    for item in info {
        match item {
            InfoGeneve::Remote(ip) => tunnel.remotes.extend(set(*ip)),
            InfoGeneve::Remote6(ip) => tunnel.remotes.extend(set(*ip)),
            InfoGeneve::Id(id) => tunnel.id = Some(*id),
            InfoGeneve::Port(port) => tunnel.port = Some(*port),
            InfoGeneve::Local(ip) => tunnel.local = set(*ip),
            InfoGeneve::Local6(ip) => tunnel.local = set(*ip),
            InfoGeneve::InnerProtoInherit => frame = 0,
            InfoGeneve::Df(df) => {
                tunnel.dont_fragment = match df {
                    GeneveDf::Unset => Some(DontFragment::Unset),
                    GeneveDf::Set => Some(DontFragment::Set),
                    GeneveDf::Inherit => Some(DontFragment::Inherit),
                    _ => None,
                }
            }
            _ => {}
        }
    }
    // Without a fixed remote it is external: Open vSwitch or eBPF tell it where, and add options.
    if let Some(remote) = tunnel.remotes.first() {
        tunnel.outer_ipv6 = Some(remote.is_ipv6());
        tunnel.overhead = Some(outer(remote.is_ipv6()) + UDP + OVERLAY + frame);
    } else {
        (tunnel.external, tunnel.id) = (true, None);
        tunnel.least = Some(IPV4 + UDP + OVERLAY + frame);
    }
    tunnel
}

/// ipip, sit and ip6tnl.
fn ip_tunnel(kind: &str, info: &[InfoIpTunnel]) -> RawTunnel {
    let ipv6 = kind == "ip6tnl";
    let mut tunnel = RawTunnel { outer_ipv6: Some(ipv6), ..RawTunnel::default() };
    let mut sum = outer(ipv6);
    let mut limit = ipv6;
    let (mut encapsulation, mut checksum) = (Some(0), false);
    for item in info {
        match item {
            InfoIpTunnel::Link(index) => tunnel.link = (*index != 0).then_some(*index),
            InfoIpTunnel::Local(ip) => tunnel.local = set(*ip),
            InfoIpTunnel::Remote(ip) => tunnel.remotes.extend(set(*ip)),
            InfoIpTunnel::CollectMetadata => tunnel.external = true,
            InfoIpTunnel::Ipv6Flags(flags) => limit &= !flags.contains(Ip6TunnelFlags::IgnEncapLimit),
            InfoIpTunnel::EncapType(kind) => {
                encapsulation = match kind {
                    TunnelEncapType::None => Some(0),
                    TunnelEncapType::Fou => Some(UDP),
                    TunnelEncapType::Gue => Some(UDP + GUE),
                    _ => None,
                }
            }
            InfoIpTunnel::EncapFlags(flags) => checksum = flags.contains(TunnelEncapFlags::RemCSum),
            InfoIpTunnel::PMtuDisc(on) => tunnel.dont_fragment = Some(discovery(*on)),
            _ => {}
        }
    }
    if limit {
        sum += ENCAP_LIMIT;
    }
    finish(&mut tunnel, sum, encapsulation, checksum)
}

/// The sum with what FOU or GUE put between; `encapsulation` `None` is one that is not known.
fn finish(tunnel: &mut RawTunnel, sum: u32, encapsulation: Option<u32>, checksum: bool) -> RawTunnel {
    let extra = encapsulation.map(|e| if e == UDP + GUE && checksum { e + REMOTE_CHECKSUM } else { e });
    tunnel.overhead = extra.map(|extra| sum + extra);
    tunnel.least = Some(sum);
    std::mem::take(tunnel)
}

/// What GRE's own encapsulation types add.
fn gre_encapsulation(kind: GreEncapType) -> Option<u32> {
    match kind {
        GreEncapType::None => Some(0),
        GreEncapType::Fou => Some(UDP),
        GreEncapType::Gue => Some(UDP + GUE),
        _ => None,
    }
}

/// GRE with its sequence number, ERSPAN's header and the frame; version 0 has only GRE's base header. Whatever its
/// flags say: kernel net/ipv4/ip_gre.c `erspan_tunnel_init`, linux/erspan.h.
fn erspan(version: Option<u8>) -> u32 {
    ETHERNET
        + match version {
            Some(0) => GRE,
            Some(2) => GRE + 4 + 12,
            _ => GRE + 4 + 8,
        }
}

/// IPsec by route; the cipher and its padding decide what is added.
fn vti(ipv6: bool, info: &[InfoVti]) -> RawTunnel {
    let mut tunnel = RawTunnel { outer_ipv6: Some(ipv6), ..RawTunnel::default() };
    for item in info {
        match item {
            InfoVti::Link(index) => tunnel.link = (*index != 0).then_some(*index),
            InfoVti::Local(ip) => tunnel.local = set(*ip),
            InfoVti::Remote(ip) => tunnel.remotes.extend(set(*ip)),
            _ => {}
        }
    }
    tunnel.least = Some(outer(ipv6) + ESP_LEAST);
    tunnel
}

/// The same by interface id; policies, not the interface, know the remote and the mode (transport adds no header).
fn xfrm(info: &[InfoXfrm]) -> RawTunnel {
    /// IFLA_XFRM_COLLECT_METADATA, which the parser does not name.
    const COLLECT_METADATA: u16 = 3;
    let mut tunnel = RawTunnel { least: Some(ESP_LEAST), ..RawTunnel::default() };
    for item in info {
        match item {
            InfoXfrm::Link(index) => tunnel.link = (*index != 0).then_some(*index),
            InfoXfrm::IfId(id) => tunnel.id = (*id != 0).then_some(*id),
            InfoXfrm::Other(other) if other.kind() == COLLECT_METADATA => tunnel.external = true,
            _ => {}
        }
    }
    tunnel
}

/// With path-MTU discovery on, outer packets carry DF and a PTB is answered from the tunnel.
fn discovery(on: bool) -> DontFragment {
    if on { DontFragment::Set } else { DontFragment::Unset }
}

fn gre_options(flags: GreIOFlags) -> u32 {
    [GreIOFlags::Checksum, GreIOFlags::Key, GreIOFlags::Seq]
        .into_iter()
        .filter(|&f| flags.contains(f))
        .fold(0, |sum, _| sum + 4)
}

fn gre(info: &[InfoGre], frame: u32) -> RawTunnel {
    let mut tunnel = RawTunnel { outer_ipv6: Some(false), ..RawTunnel::default() };
    let mut sum = IPV4 + GRE + frame;
    let (mut encapsulation, mut checksum) = (Some(0), false);
    for item in info {
        match item {
            InfoGre::Link(index) => tunnel.link = (*index != 0).then_some(*index),
            InfoGre::Local(ip) => tunnel.local = set(*ip),
            InfoGre::Remote(ip) => tunnel.remotes.extend(set(*ip)),
            InfoGre::OFlags(flags) => sum += gre_options(*flags),
            InfoGre::PathMTUDiscovery(on) => tunnel.dont_fragment = Some(discovery(*on)),
            InfoGre::EncapType(kind) => encapsulation = gre_encapsulation(*kind),
            InfoGre::EncapFlags(flags) => checksum = flags.contains(GreEncapFlags::RemoteChecksum),
            InfoGre::CollectMetadata => tunnel.external = true,
            _ => {}
        }
    }
    // An external device takes key and flags from each packet.
    encapsulation = encapsulation.filter(|_| !tunnel.external);
    finish(&mut tunnel, sum, encapsulation, checksum)
}

fn gre6(info: &[InfoGre6], frame: u32) -> RawTunnel {
    let mut tunnel = RawTunnel { outer_ipv6: Some(true), ..RawTunnel::default() };
    let mut sum = IPV6 + GRE + frame;
    let (mut encapsulation, mut checksum) = (Some(0), false);
    let mut limit = ENCAP_LIMIT;
    for item in info {
        match item {
            InfoGre6::Link(index) => tunnel.link = (*index != 0).then_some(*index),
            InfoGre6::Local(ip) => tunnel.local = set(*ip),
            InfoGre6::Remote(ip) => tunnel.remotes.extend(set(*ip)),
            InfoGre6::OFlags(flags) => sum += gre_options(*flags),
            InfoGre6::EncapType(kind) => encapsulation = gre_encapsulation(*kind),
            InfoGre6::EncapFlags(flags) => checksum = flags.contains(GreEncapFlags::RemoteChecksum),
            InfoGre6::CollectMetadata => tunnel.external = true,
            InfoGre6::Other(other) => limit = gre6_limit(other).unwrap_or(limit),
            _ => {}
        }
    }
    encapsulation = encapsulation.filter(|_| !tunnel.external);
    finish(&mut tunnel, sum + limit, encapsulation, checksum)
}

/// IFLA_GRE_FLAGS, which the parser does not name: whether the encapsulation limit is left out.
fn gre6_limit(attribute: &DefaultNla) -> Option<u32> {
    const IFLA_GRE_FLAGS: u16 = 13;
    if attribute.kind() != IFLA_GRE_FLAGS || attribute.value_len() != 4 {
        return None;
    }
    let mut value = [0; 4];
    attribute.emit_value(&mut value);
    let flags = Ip6TunnelFlags::from_bits_retain(u32::from_ne_bytes(value));
    Some(if flags.contains(Ip6TunnelFlags::IgnEncapLimit) { 0 } else { ENCAP_LIMIT })
}
