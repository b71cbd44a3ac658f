//! What a packet capture counted, point by point.

use schemars::JsonSchema;
use serde::Serialize;

/// Where on a pod's way through its node packets are captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PointKind {
    /// The pod's own interfaces; of the node its uplink.
    Pod,
    /// The other end of a pod's veth, in the node's namespace.
    Veth,
    /// The bridge that a pod's veth is a port of.
    Bridge,
    /// The tunnel that pods of other nodes are reached through.
    Tunnel,
    /// What carries the tunnel, and what the default route leaves by.
    Uplink,
}

impl PointKind {
    /// All, from the pod outwards.
    pub const ALL: [Self; 5] = [Self::Pod, Self::Veth, Self::Bridge, Self::Tunnel, Self::Uplink];

    /// As people write it: `pod`, `veth`, `bridge`, `tunnel`, `uplink`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Veth => "veth",
            Self::Bridge => "bridge",
            Self::Tunnel => "tunnel",
            Self::Uplink => "uplink",
        }
    }
}

/// One interface of one namespace that was captured on, with the kernel's counters for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapturePoint {
    /// `default/web-0`, `host`, `netns:x`: whose namespace.
    pub subject: String,
    /// Interface name inside that namespace.
    pub interface: String,
    /// Packets that passed the filter since the capture began, those dropped included
    /// (PACKET_STATISTICS, packet(7)); null when the kernel did not say.
    pub received: Option<u64>,
    /// Of those, packets the kernel dropped because the buffer was full; null when it did not say.
    pub dropped: Option<u64>,
    /// What people call it: `default/web-0 eth0`, `veth1a2b (peer of default/web-0 eth0)`, `uplink eth0`.
    #[serde(skip)]
    pub label: String,
    /// Packets of this point that were written, printed or counted.
    #[serde(skip)]
    pub captured: u64,
    /// Why the capture of this point ended before the others, in libpcap's words.
    #[serde(skip)]
    pub ended: Option<String>,
    /// How often its interface went away and came back.
    #[serde(skip)]
    pub returned: u32,
}
