//! SOURCE → pod, containers, PID, network namespace: the runtime over CRI, and the disk when it hangs.

use crate::facts::{Degraded, Pod};
use crate::netns::{NetNs, NetNsError, Process};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Where to look for pods.
#[derive(Debug, Clone)]
pub struct Options {
    /// Every file and socket of the node is found under it.
    pub host_root: PathBuf,
    /// `--runtime-endpoint`.
    pub endpoint: Option<String>,
    /// For all calls to the runtime together.
    pub timeout: Duration,
}

impl Options {
    /// A file of the node, under the host root.
    pub fn host_path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.host_root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// A SOURCE that was found: its namespace is open and stays so.
#[derive(Debug)]
pub struct Source {
    /// `default/web-0`, `pid:7`, `netns:/run/netns/x`, `host`: the subject of findings.
    pub label: String,
    /// The pod, when the selector named one or a PID belongs to one.
    pub pod: Option<Pod>,
    /// The container, when the selector named one.
    pub container_id: Option<String>,
    /// A living process in the namespace.
    pub pid: Option<u32>,
    /// Whether the namespace is the node's own.
    pub host_network: bool,
    /// The namespace.
    pub netns: NetNs,
    /// Set when the runtime could not be used to find it.
    pub degraded: Option<Degraded>,
}

/// Why a SOURCE cannot be resolved.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// Nothing has that name.
    #[error("{0}")]
    NotFound(String),
    /// The namespace cannot be opened.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
}

/// Finds SOURCE and opens its network namespace.
///
/// # Errors
/// [`ResolveError`]; a selector never silently picks one of several.
pub fn resolve(options: &Options, selector: &str) -> Result<Source, ResolveError> {
    let source = |netns, pid, host_network| Source {
        label: selector.to_owned(),
        pod: None,
        container_id: None,
        pid,
        host_network,
        netns,
        degraded: None,
    };
    if selector == "host" {
        return Ok(source(NetNs::open(&options.host_path("/proc/1/ns/net"))?, Some(1), true));
    }
    if let Some(name) = selector.strip_prefix("netns:") {
        let path = if name.contains('/') { PathBuf::from(name) } else { Path::new("/run/netns").join(name) };
        return Ok(source(NetNs::open(&options.host_path(path))?, None, false));
    }
    if let Some(pid) = selector.strip_prefix("pid:").and_then(|p| p.parse().ok()) {
        let process = Process::open(&options.host_path("/proc"), pid, None).map_err(NetNsError::from)?;
        return Ok(source(process.open_netns()?, Some(pid), false));
    }
    Err(ResolveError::NotFound(format!("no pod {selector} on this node")))
}
