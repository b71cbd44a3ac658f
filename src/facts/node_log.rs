//! What the programs of the node and its kernel logged.

use std::sync::Arc;

/// One line of the node's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLogEntry {
    /// When it was logged, microseconds since 1970.
    pub realtime_us: u64,
    /// The unit that logged it, or that systemd logged it about: `kubelet.service`. `None` for the kernel.
    pub unit: Option<Arc<str>>,
    /// `SYSLOG_IDENTIFIER`: `kubelet`, `kernel`, `systemd`.
    pub identifier: Option<Arc<str>>,
    /// `_TRANSPORT`: `kernel`, `stdout`, `journal`, `syslog`.
    pub transport: Option<Arc<str>>,
    /// The process that logged it.
    pub pid: Option<u32>,
    /// 0 (emergency) to 7 (debug).
    pub priority: Option<u8>,
    /// The line, cut at 8 KiB; bytes that are no UTF-8 are replaced. Control characters are still in it.
    pub message: String,
    /// The boot it belongs to, as in /proc/sys/kernel/random/boot_id without dashes.
    pub boot_id: Option<Arc<str>>,
    /// The file it was read from, as seen from the node.
    pub source: Arc<str>,
}

impl NodeLogEntry {
    /// Whether the kernel itself logged it.
    pub fn is_kernel(&self) -> bool {
        self.transport.as_deref() == Some("kernel")
    }
}

/// What was read of the node's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeLog {
    /// Oldest first.
    pub entries: Vec<NodeLogEntry>,
    /// The files that were read, as seen from the node.
    pub sources: Vec<String>,
    /// What could not be read, or only in part, and why.
    pub unread: Vec<(String, String)>,
    /// Whether older lines were left out because there were too many.
    pub cut: bool,
}
