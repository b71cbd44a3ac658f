//! Network interfaces and routes of one namespace, as netlink tells them.

use schemars::JsonSchema;
use serde::Serialize;
use std::net::IpAddr;

/// The other end of a veth (or the lower link of a macvlan) in this or another namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkRef {
    /// Namespace it lives in; null when no known namespace holds it.
    pub netns_inode: Option<u64>,
    /// Interface index in that namespace.
    pub index: u32,
    /// Its name, when its namespace was read.
    pub name: Option<String>,
    /// Its link MTU, when its namespace was read.
    pub mtu_bytes: Option<u32>,
}

/// Drop and packet counters of a link since it was made (struct rtnl_link_stats64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Received and dropped by the kernel.
    pub rx_dropped: u64,
    /// Dropped on the way out.
    pub tx_dropped: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Transmit errors.
    pub tx_errors: u64,
}

/// What a bridge port or bridge member belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bridged {
    /// Interface index of the master.
    pub index: u32,
    /// Its name.
    pub name: Option<String>,
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `IFLA_INFO_KIND`: `veth`, `bridge`, `vxlan`, …; null for a physical device or loopback.
    pub kind: Option<String>,
    /// Link MTU: the largest IP packet it takes, bytes.
    pub mtu_bytes: u32,
    /// The other end of a veth.
    pub peer: Option<LinkRef>,
    /// Name of the bridge, bond or VRF it is a port of.
    pub master: Option<String>,
    /// Operational state: `up`, `down`, `lowerlayerdown`, `unknown`.
    pub state: String,
    /// What a tunnel adds to every packet, bytes of L3; null when it adds nothing or is not known.
    pub overhead_bytes: Option<u32>,
    /// Name of the interface a tunnel's outer packets leave by.
    pub underlay: Option<String>,
    /// Drop counters, when asked for.
    #[serde(skip)]
    pub counters: Option<Counters>,
    /// Whether it is administratively up (IFF_UP).
    #[serde(skip)]
    pub up: bool,
    /// Its addresses with prefix length.
    #[serde(skip)]
    pub addresses: Vec<(IpAddr, u8)>,
}

/// One route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `default` or `10.244.1.0/24`.
    pub destination: String,
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The interface it leaves by.
    pub interface: Option<String>,
    /// RTAX_MTU of the route, bytes; null when the route sets none and the link's counts.
    pub mtu_bytes: Option<u32>,
    /// RTAX_ADVMSS, bytes.
    pub advmss_bytes: Option<u32>,
}

/// The links and routes of one network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// `default/web-0`, `host`, `netns:PATH`.
    pub subject: String,
    /// Inode of the namespace.
    pub netns_inode: u64,
    /// Its links by index.
    pub links: Vec<Link>,
    /// Its routes, main table, IPv4 then IPv6.
    pub routes: Vec<Route>,
}
