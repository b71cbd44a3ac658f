//! One RTM_NEWLINK message → what is needed of an interface. One bad attribute costs that attribute.

use super::tunnel::RawTunnel;
use super::wire::{address, attributes, field, text, word};
use crate::facts::{Counters, InterfaceSettings, Offloads};
use netlink_packet_core::ParseableParametrized;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{InfoBridge, InfoData, LinkAttribute, LinkInfo};
use std::net::IpAddr;

/// struct ifinfomsg.
const HEADER: usize = 16;
/// IFF_UP, netdevice(7).
const UP: u32 = 1;
/// Attributes that are read; all others are passed over unparsed (linux/if_link.h).
mod ifla {
    pub(super) const IFNAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const LINK: u16 = 5;
    pub(super) const MASTER: u16 = 10;
    pub(super) const OPERSTATE: u16 = 16;
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const STATS64: u16 = 23;
    pub(super) const AF_SPEC: u16 = 26;
    pub(super) const LINK_NETNSID: u16 = 37;
    pub(super) const INFO_KIND: u16 = 1;
}

/// Kinds whose IFLA_LINK is their other end or the interface they sit on.
const PAIRED: &[&str] =
    &["veth", "netkit", "vxcan", "macvlan", "macvtap", "ipvlan", "ipvtap", "vlan", "macsec"];

/// An interface as its own namespace describes it: other interfaces by index, other namespaces by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RawLink {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mtu: u32,
    pub(super) up: bool,
    pub(super) state: &'static str,
    pub(super) kind: Option<String>,
    pub(super) master: Option<u32>,
    /// IFLA_LINK: the other end, or the interface below.
    pub(super) link: Option<u32>,
    /// The namespace that `link` is in, when it is another: an id that only this namespace understands.
    pub(super) link_netnsid: Option<i32>,
    pub(super) tunnel: Option<RawTunnel>,
    pub(super) vlan_filtering: bool,
    pub(super) counters: Option<Counters>,
    /// Its sysctls, read along with its counters.
    pub(super) settings: InterfaceSettings,
    pub(super) offloads: Option<Offloads>,
}

impl RawLink {
    /// Whether IFLA_LINK is this interface's other end or lower interface.
    pub(super) fn is_paired(&self) -> bool {
        self.link.is_some() && self.kind.as_deref().is_some_and(|k| PAIRED.contains(&k))
    }

    /// Whether both ends name each other, as those of a veth do.
    pub(super) fn is_mutual(&self) -> bool {
        matches!(self.kind.as_deref(), Some("veth" | "netkit" | "vxcan"))
    }
}

/// Reads one message; `None` when its index or MTU cannot be known. Counters come in every answer, even with
/// RTEXT_FILTER_SKIP_STATS (that leaves out those of the address families), and are read when asked for.
pub(super) fn parse_link(payload: &[u8], counters: bool) -> Option<RawLink> {
    let mut link = RawLink {
        index: u32::from_ne_bytes(field(payload, 4)?),
        up: u32::from_ne_bytes(field(payload, 8)?) & UP != 0,
        state: "unknown",
        ..RawLink::default()
    };
    let mut mtu = None;
    for attribute in attributes(payload, HEADER) {
        let value = attribute.value();
        match attribute.kind() {
            ifla::IFNAME => link.name = text(value).unwrap_or_default().to_owned(),
            ifla::MTU => mtu = word(value),
            ifla::LINK => link.link = word(value).filter(|&index| index != 0),
            ifla::MASTER => link.master = word(value),
            ifla::OPERSTATE => link.state = state_name(value.first().copied()),
            ifla::LINK_NETNSID => link.link_netnsid = field(value, 0).map(i32::from_ne_bytes),
            ifla::STATS64 if counters => link.counters = read_counters(value),
            ifla::AF_SPEC if counters => read_settings(value, &mut link.settings),
            // Most are veths, with a long description of the port that they are, which nobody needs.
            ifla::LINKINFO if kind_alone(value) == Some("veth") => link.kind = Some("veth".to_owned()),
            ifla::LINKINFO => {
                match LinkAttribute::parse_with_param(&attribute.buffer(), AddressFamily::Unspec) {
                    Ok(LinkAttribute::LinkInfo(info)) => read_info(&mut link, &info, counters),
                    // The nested attributes could not all be read: the kind alone is worth having.
                    _ => link.kind = kind_alone(value).map(ToOwned::to_owned),
                }
            }
            _ => {}
        }
    }
    if link.name.is_empty() {
        link.name = format!("if{}", link.index);
    }
    link.mtu = mtu?;
    Some(link)
}

/// The sysctls of an interface that IFLA_AF_SPEC carries for each family: arrays in the order of their numbers,
/// at three files an interface much cheaper than /proc/sys.
///
/// Source: linux/ip.h `IPV4_DEVCONF_*` (from 1), linux/ipv6.h `DEVCONF_*` (from 0).
fn read_settings(families: &[u8], settings: &mut InterfaceSettings) {
    const INET: u16 = 2;
    const IFLA_INET_CONF: u16 = 1;
    const FORWARDING: usize = 0;
    const RP_FILTER: usize = 7;
    const INET6: u16 = 10;
    const IFLA_INET6_CONF: u16 = 2;
    const FORWARDING_V6: usize = 0;
    let value = |family, conf, number: usize| {
        let family = attributes(families, 0).find(|a| a.kind() == family)?;
        let conf = attributes(family.value(), 0).find(|a| a.kind() == conf)?;
        field(conf.value(), 4 * number).map(u32::from_ne_bytes)
    };
    settings.forwarding = value(INET, IFLA_INET_CONF, FORWARDING).map(|v| v != 0);
    settings.forwarding_v6 = value(INET6, IFLA_INET6_CONF, FORWARDING_V6).map(|v| v != 0);
    settings.rp_filter = value(INET, IFLA_INET_CONF, RP_FILTER).and_then(|v| u8::try_from(v).ok());
}

fn read_info(link: &mut RawLink, info: &[LinkInfo], settings: bool) {
    for item in info {
        match item {
            LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
            LinkInfo::Data(InfoData::Bridge(data)) => {
                for item in data {
                    match item {
                        InfoBridge::VlanFiltering(on) => link.vlan_filtering = *on,
                        InfoBridge::NfCallIpTables(on) if settings => link.settings.filters = Some(*on),
                        InfoBridge::NfCallIp6Tables(on) if settings => link.settings.filters_v6 = Some(*on),
                        _ => {}
                    }
                }
            }
            LinkInfo::Data(data) => link.tunnel = RawTunnel::read(link.kind.as_deref(), data),
            _ => {}
        }
    }
    if link.tunnel.is_none() && link.kind.as_deref() == Some("wireguard") {
        link.tunnel = Some(RawTunnel::default());
    }
}

fn kind_alone(info: &[u8]) -> Option<&str> {
    let kind = attributes(info, 0).find(|a| a.kind() == ifla::INFO_KIND)?;
    text(kind.value()).filter(|text| !text.is_empty())
}

/// struct rtnl_link_stats64 (linux/if_link.h): numbers of 64 bits in this order.
fn read_counters(stats: &[u8]) -> Option<Counters> {
    let number = |place: usize| field(stats, 8 * place).map(u64::from_ne_bytes);
    Some(Counters {
        rx_packets: number(0)?,
        tx_packets: number(1)?,
        rx_errors: number(4)?,
        tx_errors: number(5)?,
        rx_dropped: number(6)?,
        tx_dropped: number(7)?,
    })
}

/// The names that `ip link` prints, in lower case: IF_OPER_* of linux/if.h (RFC 2863 operational states).
fn state_name(state: Option<u8>) -> &'static str {
    match state {
        Some(1) => "notpresent",
        Some(2) => "down",
        Some(3) => "lowerlayerdown",
        Some(4) => "testing",
        Some(5) => "dormant",
        Some(6) => "up",
        _ => "unknown",
    }
}

/// Reads one RTM_NEWADDR message: interface index, address, prefix length.
pub(super) fn parse_address(payload: &[u8]) -> Option<(u32, IpAddr, u8)> {
    /// struct ifaddrmsg.
    const HEADER: usize = 8;
    let [_, prefix] = field(payload, 0)?;
    let index = u32::from_ne_bytes(field(payload, 4)?);
    // On a point-to-point interface IFA_ADDRESS is the other side's.
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    let (mut local, mut own) = (None, None);
    for attribute in attributes(payload, HEADER) {
        match attribute.kind() {
            LOCAL => local = address(attribute.value()),
            ADDRESS => own = address(attribute.value()),
            _ => {}
        }
    }
    Some((index, local.or(own)?, prefix))
}
