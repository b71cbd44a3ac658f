//! What the kernel says of one network namespace beside its links and routes: settings, counters, neighbours,
//! connection tracking.

use super::Counters;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What was read, or why it could not be: an error is *not looked at*, never *nothing there*.
pub type Seen<T> = Result<T, String>;

/// The kernel's state in one namespace at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelState {
    /// `default/web-0`, `host`, `netns:PATH`.
    pub subject: String,
    /// Inode of the namespace.
    pub netns_inode: u64,
    /// Its settings.
    pub settings: KernelSettings,
    /// What it has counted since it began.
    pub counters: KernelCounters,
    /// Connection tracking.
    pub conntrack: Seen<Conntrack>,
    /// Neighbours, forwarding entries and remembered path MTUs.
    pub tables: KernelTables,
    /// Interfaces with a `clsact` or `ingress` queueing discipline: the place where BPF programs hang.
    pub classifiers: Seen<Vec<String>>,
}

/// sysctls of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelSettings {
    /// By their dotted name, `net.ipv4.ip_forward`; one that this kernel does not have is missing.
    pub values: BTreeMap<&'static str, i64>,
    /// Why `/proc/sys/net` could not be read at all.
    pub unreadable: Option<String>,
    /// Of each interface, by name.
    pub interfaces: BTreeMap<String, InterfaceSettings>,
}

impl KernelSettings {
    /// The value of `net.ipv4.ip_forward`; `None` when it was not read.
    pub fn get(&self, name: &str) -> Option<i64> {
        self.values.get(name).copied()
    }
}

/// sysctls of one interface; `None` when they could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InterfaceSettings {
    /// `net.ipv4.conf.NAME.forwarding`.
    pub forwarding: Option<bool>,
    /// `net.ipv6.conf.NAME.forwarding`.
    pub forwarding_v6: Option<bool>,
    /// `net.ipv4.conf.NAME.rp_filter`: 0 off, 1 strict, 2 loose. The larger of this and that of `all` counts.
    pub rp_filter: Option<u8>,
    /// Of a bridge: its packets meet the rules of iptables whatever the sysctl says (`nf_call_iptables` of the bridge).
    pub filters: Option<bool>,
    /// The same of ip6tables.
    pub filters_v6: Option<bool>,
}

/// Counters of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelCounters {
    /// Protocol counters by the name that `nstat` gives them: `UdpInCsumErrors`, `Ip6ReasmFails`.
    pub protocols: Seen<BTreeMap<&'static str, u64>>,
    /// Packets and drops of each link, by name.
    pub links: Seen<BTreeMap<String, Counters>>,
    /// Packets that the node dropped because a processor's backlog was full (softnet_stat, second column);
    /// of the whole node, whatever the namespace.
    pub softnet_dropped: Seen<u64>,
}

/// Connection tracking of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conntrack {
    /// Connections that are tracked (`nf_conntrack_count`).
    pub count: u64,
    /// As many may be (`nf_conntrack_max`); 0 is no limit.
    pub max: u64,
    /// Packets dropped because the table was full; `None` when /proc/net/stat/nf_conntrack could not be read.
    pub drop: Option<u64>,
    /// Connections dropped to make room.
    pub early_drop: Option<u64>,
    /// Entries that lost the race against another for the same flow.
    pub insert_failed: Option<u64>,
    /// Packets that belong to no known connection.
    pub invalid: Option<u64>,
}

/// Tables of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelTables {
    /// ARP and neighbour discovery.
    pub neighbours: Seen<Vec<NeighbourEntry>>,
    /// Forwarding entries of VXLANs: which peer a MAC address is behind.
    pub forwarding: Seen<Vec<ForwardingEntry>>,
    /// Path MTUs that were learned from PTBs.
    pub remembered: Seen<Vec<RememberedMtu>>,
    /// Neighbour entries of the whole node and their limit: (ARP, gc_thresh3); only in the node's own namespace.
    pub arp_usage: Seen<TableUsage>,
}

/// How full a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableUsage {
    /// Entries in it.
    pub entries: u64,
    /// As many may be.
    pub limit: u64,
    /// How often an entry was refused because it was full.
    pub refused: Option<u64>,
}

/// What the kernel knows of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// It did not answer.
    Failed,
    /// It was asked and has not answered yet.
    Incomplete,
    /// It answered, or did a while ago.
    Known,
    /// Set by hand or by a CNI: it is never asked.
    Permanent,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourEntry {
    /// Its address.
    pub address: IpAddr,
    /// Name of the interface it is on.
    pub interface: String,
    /// Whether it answers.
    pub state: NeighbourState,
    /// Its link-layer address.
    pub mac: Option<[u8; 6]>,
    /// Seconds since its state changed last: one that is needed and silent is asked for again every few of them.
    pub unchanged_s: Option<u32>,
    /// It does not count against the table's limit: it is permanent, or somebody else looks after it (NTF_EXT_LEARNED,
    /// as Cilium's). Source: net/core/neighbour.c `neigh_update_gc_list`, since Linux 5.0.
    pub uncounted: bool,
}

/// One forwarding entry of a VXLAN; all zeroes is the default for MACs that are not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardingEntry {
    /// Name of the VXLAN.
    pub interface: String,
    /// The inner destination.
    pub mac: [u8; 6],
    /// The peer whose it is; `None` for an entry without one.
    pub remote: Option<IpAddr>,
}

/// A path MTU that the kernel keeps for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedMtu {
    /// To whom.
    pub target: IpAddr,
    /// Bytes of the whole IP packet.
    pub mtu_bytes: u32,
}
