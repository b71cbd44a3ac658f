//! What the runtimes leave on disk, for when they do not answer, and for what they answer slowly.
//!
//! A PID in a file is a claim: nobody removes it while the runtime hangs. It is believed only after /proc
//! has confirmed it.

mod containerd;
mod crio;
mod docker;
mod logs;
mod network;

pub(super) use logs::{ContainerLog, Logs};
pub(super) use network::Networks;

use super::hostfs::HostFs;
use serde::Deserialize;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::OnceLock;

/// What the files say of one sandbox or container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: String,
    /// Its own id when it is a sandbox.
    pub(super) sandbox_id: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// Name in the pod spec; of a container only.
    pub(super) container: Option<String>,
    pub(super) attempt: Option<u32>,
    pub(super) claim: Option<Claim>,
    /// The network namespace's path; not that of a hostNetwork pod.
    pub(super) netns: Option<String>,
    pub(super) host_network: Option<bool>,
    pub(super) ips: Vec<IpAddr>,
    pub(super) created_at: Option<String>,
    /// For the order of containers only; nanoseconds since 1970.
    pub(super) created_ns: i64,
    /// The runtime wrote down that it has ended.
    pub(super) ended: bool,
    pub(super) exit_code: Option<i32>,
    pub(super) reason: Option<String>,
    pub(super) ending: Ending,
}

/// When a container began and ended, nanoseconds since 1970, and what the runtime wrote about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) started_ns: Option<i64>,
    pub(super) finished_ns: Option<i64>,
    pub(super) message: Option<String>,
    /// 0 is none.
    pub(super) memory_limit_bytes: Option<u64>,
}

impl Record {
    pub(super) fn is_sandbox(&self) -> bool {
        self.container.is_none()
    }
}

/// A PID that a file names, with the start time (clock ticks since boot) where the file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) pid: u32,
    pub(super) start: Option<u64>,
}

/// The part of an OCI configuration that is read.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Spec {
    #[serde(default)]
    pub(super) annotations: HashMap<String, String>,
    pub(super) linux: Option<SpecLinux>,
}

/// `linux` of an OCI configuration.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SpecLinux {
    #[serde(default)]
    pub(super) namespaces: Vec<SpecNamespace>,
    #[serde(default)]
    resources: SpecResources,
}

/// `linux.resources` of an OCI configuration.
#[derive(Debug, Default, Deserialize)]
struct SpecResources {
    #[serde(default)]
    memory: SpecMemory,
}

#[derive(Debug, Default, Deserialize)]
struct SpecMemory {
    limit: Option<i64>,
}

/// A namespace that a container gets or joins.
#[derive(Debug, Deserialize)]
pub(super) struct SpecNamespace {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) path: Option<String>,
}

impl Spec {
    /// The entry of the network namespace; hostNetwork containers have none.
    fn network(&self) -> Option<&SpecNamespace> {
        self.linux.as_ref()?.namespaces.iter().find(|n| n.kind == "network")
    }

    /// The memory limit in bytes; 0 is none.
    fn memory_limit(&self) -> Option<u64> {
        let limit = self.linux.as_ref()?.resources.memory.limit;
        Some(limit.and_then(|limit| u64::try_from(limit).ok()).unwrap_or(0))
    }

    fn annotation(&self, key: &str) -> Option<String> {
        self.annotations.get(key).filter(|value| !value.is_empty()).cloned()
    }
}

/// An id is part of paths: letters, digits, dashes, dots and underscores, and not `..`.
pub(super) fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 128
        && !id.starts_with('.')
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The files of every runtime that this node has.
#[derive(Debug)]
pub(super) struct Disk<'a> {
    fs: &'a HostFs,
    containerd: Vec<containerd::Roots>,
    crio: bool,
    docker: Option<String>,
    networks: OnceLock<Networks>,
    logs: OnceLock<Logs>,
}

impl<'a> Disk<'a> {
    pub(super) fn new(fs: &'a HostFs) -> Self {
        Self {
            fs,
            containerd: containerd::Roots::known(fs),
            crio: fs.exists(crio::RUN),
            docker: docker::folder(fs),
            networks: OnceLock::new(),
            logs: OnceLock::new(),
        }
    }

    /// Also looks where running shims have their bundles.
    pub(super) fn add_bundle_folders(&mut self, folders: &[PathBuf]) {
        for folder in folders {
            if let Some(roots) = containerd::Roots::of_bundles(folder, &self.containerd) {
                self.containerd.push(roots);
            }
        }
    }

    /// What the files say of one id.
    pub(super) fn record(&self, id: &str) -> Option<Record> {
        if !is_id(id) {
            return None;
        }
        self.containerd
            .iter()
            .find_map(|roots| roots.record(self.fs, id))
            .or_else(|| self.crio.then(|| crio::record(self.fs, id)).flatten())
            .or_else(|| docker::record(self.fs, self.docker.as_deref()?, id))
    }

    /// What is left of a container of which the files have no more than how it ended.
    pub(super) fn ending(&self, id: &str) -> Option<Record> {
        if !is_id(id) {
            return None;
        }
        let status = |roots: &containerd::Roots| roots.ending(self.fs, id);
        self.record(id)
            .or_else(|| self.containerd.iter().find_map(status))
            .or_else(|| self.crio.then(|| crio::ending(self.fs, id)).flatten())
    }

    /// Only the PID that the files name for an id: one small file instead of several large ones.
    pub(super) fn claim(&self, id: &str) -> Option<Claim> {
        if !is_id(id) {
            return None;
        }
        self.containerd
            .iter()
            .find_map(|roots| roots.claim(self.fs, id))
            .or_else(|| self.crio.then(|| crio::claim(self.fs, id)).flatten())
            .or_else(|| docker::record(self.fs, self.docker.as_deref()?, id)?.claim)
    }

    /// When the process that an id was started with began, clock ticks since boot.
    pub(super) fn start(&self, id: &str) -> Option<u64> {
        if !is_id(id) {
            return None;
        }
        self.containerd
            .iter()
            .find_map(|roots| roots.start(self.fs, id))
            .or_else(|| self.crio.then(|| crio::start(self.fs, id)).flatten())
    }

    /// Everything that the files know, dead and alive.
    pub(super) fn all(&self) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        for roots in &self.containerd {
            records.extend(roots.all(self.fs, self.logs()));
        }
        if self.crio {
            records.extend(crio::all(self.fs));
        }
        if let Some(folder) = &self.docker {
            records.extend(docker::all(self.fs, folder));
        }
        records
    }

    /// What CNI gave each sandbox.
    pub(super) fn networks(&self) -> &Networks {
        self.networks.get_or_init(|| Networks::read(self.fs))
    }

    /// What the kubelet's log folders tell.
    pub(super) fn logs(&self) -> &Logs {
        self.logs.get_or_init(|| Logs::read(self.fs))
    }

    /// Paths at which the resolv.conf of a sandbox may be.
    pub(super) fn resolv_conf_paths(&self, sandbox_id: &str) -> Vec<String> {
        if !is_id(sandbox_id) {
            return Vec::new();
        }
        let mut paths: Vec<String> =
            self.containerd.iter().map(|roots| roots.resolv_conf(sandbox_id)).collect();
        paths.push(format!("{}/{sandbox_id}/userdata/resolv.conf", crio::RUN));
        paths.extend(self.docker.as_ref().map(|folder| format!("{folder}/{sandbox_id}/resolv.conf")));
        paths
    }
}

/// A decimal PID; the files have no newline.
fn parse_pid(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|&pid| pid > 0)
}

/// Nanoseconds since 1970, to put containers in order.
fn order_ns(text: &str) -> i64 {
    let fraction =
        text.split_once('.').and_then(|(_, rest)| rest.trim_end_matches('Z').get(..9)?.parse().ok());
    crate::facts::unix_seconds(text).unwrap_or(0).saturating_mul(1_000_000_000) + fraction.unwrap_or(0)
}

/// Seconds precision is what documents carry; Go's zero time means never.
fn moment(text: &str) -> Option<String> {
    let seconds = crate::facts::unix_seconds(text)?;
    (seconds > 0).then(|| crate::facts::rfc3339(seconds))
}
