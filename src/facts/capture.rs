//! What a packet capture counted, point by point.

use schemars::JsonSchema;
use serde::Serialize;

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
}
