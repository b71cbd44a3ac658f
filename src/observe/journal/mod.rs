//! What the kubelet, the runtime and the kernel logged: the journal's files, read directly, so also when journald is
//! down; else the text files of syslog, and the kernel's own buffer.
//!
//! Under the host root, bounded, nothing is written. The files are read by our own reader ([`file`]) and not by the
//! crate `sdjournal`: that takes paths and no open files (links under a host root lead out of it), maps archived
//! files (one that is truncated meanwhile would end the program), and says nothing of files that it passes over.

mod decode;
mod file;
mod folder;
mod follow;
#[cfg(test)]
mod follow_tests;
mod kmsg;
mod merge;
#[cfg(test)]
mod tests;
mod text;
mod text_tail;
mod unpack;

use crate::facts::{NodeLog, NodeLogEntry};
pub use follow::{LogFollower, NewLines};
use std::path::Path;

/// Most lines that are held when nothing else is said.
pub const MOST_ENTRIES: usize = 50_000;

/// What is wanted of the node's log.
#[derive(Clone, Copy)]
pub struct NodeLogQuery<'a> {
    /// Microseconds since 1970: of that time or later.
    pub since_us: u64,
    /// The lines of the kubelet and the runtimes, and what systemd says about them.
    pub units: bool,
    /// The kernel's.
    pub kernel: bool,
    /// Only these are held. The newest [`NodeLogQuery::most`] lines are looked at, not the newest that are kept.
    pub keep: &'a dyn Fn(&NodeLogEntry) -> bool,
    /// Most lines that are looked at, the newest.
    pub most: usize,
}

impl std::fmt::Debug for NodeLogQuery<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeLogQuery").field("since_us", &self.since_us).finish_non_exhaustive()
    }
}

/// Units whose lines are read: the kubelet, the runtimes, and the distributions that hold both in one program.
pub(super) const UNITS: &[&str] = &[
    "kubelet.service",
    "containerd.service",
    "crio.service",
    "cri-o.service",
    "docker.service",
    "cri-docker.service",
    "k3s.service",
    "k3s-agent.service",
    "rke2-agent.service",
    "rke2-server.service",
    "k0sworker.service",
    "k0scontroller.service",
    "snap.microk8s.daemon-kubelite.service",
    "snap.microk8s.daemon-containerd.service",
    "snap.k8s.kubelet.service",
    "snap.k8s.containerd.service",
];

/// Reads what was logged on the node whose file system is at `host_root`. Nothing fails: what could not be read is
/// said in the answer.
pub fn read_node_log(host_root: &Path, query: &NodeLogQuery<'_>) -> NodeLog {
    let mut log = NodeLog::default();
    let root = match std::fs::File::open(host_root) {
        Ok(root) => root,
        Err(error) => {
            log.unread.push((host_root.display().to_string(), error.to_string()));
            return log;
        }
    };
    folder::read_journals(&root, query, &mut log);
    if log.sources.is_empty() {
        text::read_texts(&root, query, &mut log);
        let kernel = ["/var/log/kern.log", "/var/log/messages", "/var/log/syslog"];
        if query.kernel && !log.sources.iter().any(|path| kernel.contains(&path.as_str())) {
            kmsg::read_kmsg(&root, query, &mut log);
        }
    }
    log
}

/// The kernel's messages of that time or later (microseconds since 1970), oldest first, the newest
/// [`MOST_ENTRIES`] of them. Nothing fails: what could not be read is said in the answer.
pub fn read_kernel_log(host_root: &Path, since_us: u64) -> NodeLog {
    let keep = |_: &NodeLogEntry| true;
    let query = NodeLogQuery { since_us, units: false, kernel: true, keep: &keep, most: MOST_ENTRIES };
    read_node_log(host_root, &query)
}

/// What the kernel's own buffer still holds, whatever journals and files there are: also while nobody writes these.
pub fn read_kernel_buffer(host_root: &Path, keep: &dyn Fn(&NodeLogEntry) -> bool) -> NodeLog {
    let mut log = NodeLog::default();
    let query = NodeLogQuery { since_us: 0, units: false, kernel: true, keep, most: MOST_ENTRIES };
    match std::fs::File::open(host_root) {
        Ok(root) => kmsg::read_kmsg(&root, &query, &mut log),
        Err(error) => log.unread.push((host_root.display().to_string(), error.to_string())),
    }
    log
}

fn is_node_unit(name: &[u8]) -> bool {
    UNITS.iter().any(|unit| unit.as_bytes() == name)
}
