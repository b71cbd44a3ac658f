//! What a tunnel adds to a packet, from its IFLA_INFO_DATA.
//!
//! Each sum is checked against the MTU that the kernel itself gave such a device over 1500 (the recorded
//! dump). Sources: kernel drivers/net/vxlan, drivers/net/geneve.c, net/ipv4/ip_tunnel.c `ip_tunnel_bind_dev`,
//! net/ipv6/ip6_tunnel.c, net/ipv4/ip_gre.c; wireguard: drivers/net/wireguard/device.c `MESSAGE_MINIMUM_LENGTH`.

use crate::facts::DontFragment;
use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_route::link::{
    GeneveDf, GreEncapType, GreIOFlags, InfoData, InfoGeneve, InfoGre, InfoGre6, InfoIpTunnel, InfoVxlan,
    Ip6TunnelFlags, TunnelEncapType, VxlanDf,
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

/// A tunnel as its own namespace describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RawTunnel {
    /// Bytes that it adds to a packet; `None` when that depends on the packet or is not known.
    pub(super) overhead: Option<u32>,
    /// Whether its outer packets are IPv6; `None` when both occur or it is not known.
    pub(super) outer_ipv6: Option<bool>,
    /// The interface it is bound to.
    pub(super) link: Option<u32>,
    pub(super) local: Option<IpAddr>,
    pub(super) remote: Option<IpAddr>,
    pub(super) dont_fragment: Option<DontFragment>,
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
            _ => return None,
        })
    }

    /// Sets what the endpoints of a WireGuard device tell: `ipv6` when any of them is IPv6.
    pub(super) fn set_wireguard(&mut self, remote: IpAddr) {
        self.outer_ipv6 = Some(remote.is_ipv6());
        self.overhead = Some(outer(remote.is_ipv6()) + UDP + WIREGUARD);
        self.remote = Some(remote);
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
            InfoVxlan::Group(ip) => tunnel.remote = set(*ip),
            InfoVxlan::Group6(ip) => tunnel.remote = set(*ip),
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
    if !external {
        let ipv6 = tunnel.local.or(tunnel.remote).is_some_and(|a| a.is_ipv6());
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
            InfoGeneve::Remote(ip) => tunnel.remote = set(*ip),
            InfoGeneve::Remote6(ip) => tunnel.remote = set(*ip),
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
    if let Some(remote) = tunnel.remote {
        tunnel.outer_ipv6 = Some(remote.is_ipv6());
        tunnel.overhead = Some(outer(remote.is_ipv6()) + UDP + OVERLAY + frame);
    }
    tunnel
}

/// ipip, sit and ip6tnl.
fn ip_tunnel(kind: &str, info: &[InfoIpTunnel]) -> RawTunnel {
    let ipv6 = kind == "ip6tnl";
    let mut tunnel = RawTunnel { outer_ipv6: Some(ipv6), ..RawTunnel::default() };
    let mut sum = outer(ipv6);
    let (mut limit, mut encapsulated) = (ipv6, false);
    for item in info {
        match item {
            InfoIpTunnel::Link(index) => tunnel.link = (*index != 0).then_some(*index),
            InfoIpTunnel::Local(ip) => tunnel.local = set(*ip),
            InfoIpTunnel::Remote(ip) => tunnel.remote = set(*ip),
            InfoIpTunnel::Ipv6Flags(flags) => limit &= !flags.contains(Ip6TunnelFlags::IgnEncapLimit),
            InfoIpTunnel::EncapType(kind) => encapsulated = *kind != TunnelEncapType::None,
            InfoIpTunnel::PMtuDisc(on) => tunnel.dont_fragment = Some(discovery(*on)),
            _ => {}
        }
    }
    if limit {
        sum += ENCAP_LIMIT;
    }
    // FOU and GUE add a UDP header and, with options, more than can be read here.
    tunnel.overhead = (!encapsulated).then_some(sum);
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
    let (mut sum, mut known) = (IPV4 + GRE + frame, true);
    for item in info {
        match item {
            InfoGre::Link(index) => tunnel.link = (*index != 0).then_some(*index),
            InfoGre::Local(ip) => tunnel.local = set(*ip),
            InfoGre::Remote(ip) => tunnel.remote = set(*ip),
            InfoGre::OFlags(flags) => sum += gre_options(*flags),
            InfoGre::PathMTUDiscovery(on) => tunnel.dont_fragment = Some(discovery(*on)),
            InfoGre::EncapType(kind) => known &= *kind == GreEncapType::None,
            InfoGre::CollectMetadata => known = false,
            _ => {}
        }
    }
    tunnel.overhead = known.then_some(sum);
    tunnel
}

fn gre6(info: &[InfoGre6], frame: u32) -> RawTunnel {
    let mut tunnel = RawTunnel { outer_ipv6: Some(true), ..RawTunnel::default() };
    let (mut sum, mut known) = (IPV6 + GRE + frame, true);
    let mut limit = ENCAP_LIMIT;
    for item in info {
        match item {
            InfoGre6::Link(index) => tunnel.link = (*index != 0).then_some(*index),
            InfoGre6::Local(ip) => tunnel.local = set(*ip),
            InfoGre6::Remote(ip) => tunnel.remote = set(*ip),
            InfoGre6::OFlags(flags) => sum += gre_options(*flags),
            InfoGre6::EncapType(kind) => known &= *kind == GreEncapType::None,
            InfoGre6::CollectMetadata => known = false,
            InfoGre6::Other(other) => limit = gre6_limit(other).unwrap_or(limit),
            _ => {}
        }
    }
    tunnel.overhead = known.then_some(sum + limit);
    tunnel
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
