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

/// What a tunnel does with the DF bit of its outer IPv4 packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DontFragment {
    /// Never set: what does not fit below is fragmented on the way.
    Unset,
    /// Always set: what does not fit below is dropped.
    Set,
    /// Copied from the inner packet.
    Inherit,
}

/// How a tunnel sends its outer packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tunnel {
    /// Whether outer packets are IPv6; `None` when both occur or it is not known.
    pub outer_ipv6: Option<bool>,
    /// Its DF setting; `None` for kinds without one.
    pub dont_fragment: Option<DontFragment>,
    /// What it adds at least, bytes, where the exact sum depends on the packet (options, cipher, outer family).
    pub least_bytes: Option<u32>,
    /// VNI of VXLAN and Geneve, interface id of xfrm.
    pub id: Option<u32>,
    /// UDP port of its outer packets.
    pub port: Option<u16>,
    /// Told packet by packet where to send, by Open vSwitch or eBPF: no remote can be read from it.
    pub external: bool,
    /// Remotes whose way was not looked up, because there are too many.
    pub remotes_not_asked: u32,
}

/// Remotes of a tunnel that the kernel reaches in the same way (a route lookup for each).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// The interface outer packets leave by; null when there is no route.
    pub interface: Option<String>,
    /// The largest outer packet on this way, bytes: the interface's MTU, or the route's where it is smaller.
    pub mtu_bytes: Option<u32>,
    /// The path MTU to these remotes that the kernel has learned from a packet-too-big and still remembers, bytes.
    pub cached_path_mtu_bytes: Option<u32>,
    /// Their addresses.
    pub remotes: Vec<IpAddr>,
}

/// Work that an interface takes off the kernel, and that makes captures look strange (ethtool -k).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Offloads {
    /// Checksums of sent packets are filled in by the device: in captures they are wrong.
    pub tx_checksum: bool,
    /// TCP hands over segments of up to 64 KiB, which the device cuts: captures show packets above the MTU.
    pub tso: bool,
    /// The same for other protocols, cut by the kernel at the last moment.
    pub gso: bool,
    /// Received segments are joined before anybody sees them.
    pub gro: bool,
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
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
    /// The other end of a veth or netkit; the lower interface of a macvlan, ipvlan, VLAN or macsec.
    pub peer: Option<LinkRef>,
    /// Name of the bridge, bond or VRF it is a port of.
    pub master: Option<String>,
    /// Operational state: `up`, `down`, `lowerlayerdown`, `unknown`.
    pub state: String,
    /// What a tunnel adds to every packet, bytes of L3; null when it adds nothing or is not known.
    pub overhead_bytes: Option<u32>,
    /// Name of the interface a tunnel's outer packets leave by.
    pub underlay: Option<String>,
    /// Where a tunnel's outer packets really leave, remote by remote; empty when no remote can be known.
    pub egress: Vec<Egress>,
    /// Offloads of a tunnel or of what carries it; null for all others, which are not asked.
    pub offloads: Option<Offloads>,
    /// How its outer packets are sent, when it is a tunnel.
    #[serde(skip)]
    pub tunnel: Option<Tunnel>,
    /// Whether it is a bridge that keeps VLANs apart (`vlan_filtering`).
    #[serde(skip)]
    pub vlan_filtering: bool,
    /// Drop counters, when asked for.
    #[serde(skip)]
    pub counters: Option<Counters>,
    /// Whether it is administratively up (IFF_UP).
    #[serde(skip)]
    pub up: bool,
    /// Its addresses with prefix length.
    #[serde(skip)]
    pub addresses: Vec<(IpAddr, u8)>,
    /// By which interface its node sends to each of its addresses (`None`: it has no way), of a pod whose node has
    /// rules (ip rule) or VRFs, so that the node's main table does not tell. Empty when that was not looked up.
    #[serde(skip)]
    pub ways_back: Vec<(IpAddr, Option<String>)>,
}

/// Whether anything can leave by an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// It is up, and so is what carries it.
    Up,
    /// It is set down (IFF_UP).
    Down,
    /// It is up and its other end is not (IFF_LOWER_UP).
    NoCarrier,
    /// There is none of that index any more.
    Gone,
}

/// One route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `default` or `10.244.1.0/24`; as `ip route` does, other types than unicast stand before it:
    /// `blackhole 10.99.1.0/24`. A route with several next hops is listed once for each.
    pub destination: String,
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The interface it leaves by.
    pub interface: Option<String>,
    /// RTAX_MTU of the route, bytes; null when the route sets none and the link's counts.
    pub mtu_bytes: Option<u32>,
    /// RTAX_ADVMSS, bytes.
    pub advmss_bytes: Option<u32>,
    /// Whether it is a route of IPv6, which `default` alone does not tell.
    #[serde(skip)]
    pub ipv6: bool,
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
    /// Netlink messages on it that could not be read: there may be more links or routes than are listed.
    #[serde(skip)]
    pub unreadable: u32,
    /// Whether the routes above are all that count.
    #[serde(skip)]
    pub policy_rules: PolicyRules,
}

/// What the rules of a namespace (ip rule) do beside the kernel's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PolicyRules {
    /// There are none that send packets to other tables or stop them.
    #[default]
    None,
    /// Some do: the routes of the main table are not all that count.
    Elsewhere,
    /// Some do, and one asks by which interface a packet came: the way to a pod may be another for packets from
    /// elsewhere than for the node's own (Amazon's security groups for pods).
    ByInterface,
}

impl PolicyRules {
    /// Whether other tables than the main one count.
    pub fn any(self) -> bool {
        self != Self::None
    }
}
