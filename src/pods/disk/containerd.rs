//! containerd's files, also under the prefixes of k3s, RKE2, k0s and MicroK8s.
//!
//! `<state>/io.containerd.runtime.v2.task/k8s.io/<id>/` holds `init.pid` and `config.json` until the exit was
//! processed; `<root>/io.containerd.grpc.v1.cri/containers/<id>/status` survives it.

use super::logs::Logs;
use super::{Claim, Ending, HostFs, Record, Spec, is_id, parse_pid};
use crate::facts::rfc3339;
use rustix::fs::OFlags;
use serde::Deserialize;
use std::path::Path;

/// State and root folders of containerd, and of those that bring their own.
const KNOWN: &[(&str, &str)] = &[
    ("/run/containerd", "/var/lib/containerd"),
    ("/run/k3s/containerd", "/var/lib/rancher/k3s/agent/containerd"),
    ("/run/k3s/containerd", "/var/lib/rancher/rke2/agent/containerd"),
    ("/run/k0s/containerd", "/var/lib/k0s/containerd"),
    ("/var/snap/microk8s/common/run/containerd", "/var/snap/microk8s/common/var/lib/containerd"),
];
const TASKS: &str = "io.containerd.runtime.v2.task/k8s.io";
const CRI: &str = "io.containerd.grpc.v1.cri";

/// One containerd's folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roots {
    /// Where the bundles are.
    tasks: String,
    /// Where runc and crun keep their state.
    runc: String,
    root: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(rename = "FinishedAt", default)]
    finished_at: i64,
    #[serde(rename = "ExitCode", default)]
    exit_code: i32,
    #[serde(rename = "Reason", default)]
    reason: String,
    #[serde(rename = "CreatedAt", default)]
    created_at: i64,
    #[serde(rename = "StartedAt", default)]
    started_at: i64,
    #[serde(rename = "Message", default)]
    message: String,
    /// Not written before 1.7.
    #[serde(rename = "Resources", default)]
    resources: Option<Resources>,
}

#[derive(Deserialize)]
struct Resources {
    linux: Option<LinuxResources>,
}

#[derive(Deserialize)]
struct LinuxResources {
    #[serde(default)]
    memory_limit_in_bytes: i64,
}

impl Roots {
    fn new(state: &str, root: &str) -> Self {
        Self {
            tasks: format!("{state}/{TASKS}"),
            runc: format!("{state}/runc/k8s.io"),
            root: format!("{root}/{CRI}"),
        }
    }

    /// Those that are on this node.
    pub(super) fn known(fs: &HostFs) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for (state, root) in KNOWN {
            let roots = Self::new(state, root);
            let first = !found.iter().any(|other| other.tasks == roots.tasks);
            if fs.exists(&roots.root) || (first && fs.exists(&roots.tasks)) {
                // One set of bundles belongs to one root: the one that is there.
                found.retain(|other| other.tasks != roots.tasks || fs.exists(&other.root));
                found.push(roots);
            }
        }
        found
    }

    /// Where running shims have their bundles, unless that is known.
    pub(super) fn of_bundles(folder: &Path, known: &[Self]) -> Option<Self> {
        let tasks = folder.to_str()?.trim_end_matches('/');
        let state = tasks.strip_suffix(TASKS)?.trim_end_matches('/');
        let known = known.iter().any(|roots| roots.tasks == tasks);
        (!known).then(|| Self::new(state, "/var/lib/containerd"))
    }

    pub(super) fn resolv_conf(&self, sandbox_id: &str) -> String {
        format!("{}/sandboxes/{sandbox_id}/resolv.conf", self.root)
    }

    pub(super) fn claim(&self, fs: &HostFs, id: &str) -> Option<Claim> {
        let pid = parse_pid(&fs.read_text(&format!("{}/{id}/init.pid", self.tasks))?)?;
        Some(Claim { pid, start: None })
    }

    /// Start time of the first process: runc's `state.json`, crun's `status`.
    pub(super) fn start(&self, fs: &HostFs, id: &str) -> Option<u64> {
        #[derive(Deserialize)]
        struct Runc {
            init_process_start: u64,
        }
        #[derive(Deserialize)]
        struct Crun {
            #[serde(rename = "process-start-time")]
            start: u64,
        }
        let folder = format!("{}/{id}", self.runc);
        fs.read_json::<Runc>(&format!("{folder}/state.json"))
            .map(|state| state.init_process_start)
            .or_else(|| fs.read_json::<Crun>(&format!("{folder}/status")).map(|status| status.start))
    }

    pub(super) fn record(&self, fs: &HostFs, id: &str) -> Option<Record> {
        let spec: Spec = fs.read_json(&format!("{}/{id}/config.json", self.tasks))?;
        let cri = |key: &str| spec.annotation(&format!("io.kubernetes.cri.{key}"));
        let sandbox = cri("container-type").as_deref() == Some("sandbox");
        let network = spec.network();
        let mut record = Record {
            id: id.to_owned(),
            sandbox_id: cri("sandbox-id").unwrap_or_else(|| id.to_owned()),
            namespace: cri("sandbox-namespace").unwrap_or_default(),
            name: cri("sandbox-name").unwrap_or_default(),
            uid: cri("sandbox-uid").unwrap_or_default(),
            container: (!sandbox).then(|| cri("container-name").unwrap_or_default()),
            claim: self.claim(fs, id),
            // An application container joins its sandbox by PID: that path ends with the pause process.
            netns: network.and_then(|n| n.path.clone()).filter(|_| sandbox),
            host_network: Some(network.is_none()),
            created_at: sandbox.then(|| self.created_at(fs, id)).flatten(),
            ending: Ending { memory_limit_bytes: spec.memory_limit(), ..Ending::default() },
            ..Record::default()
        };
        if record.name.is_empty() {
            return None;
        }
        if !sandbox {
            self.add_status(fs, &mut record);
        }
        Some(record)
    }

    fn add_status(&self, fs: &HostFs, record: &mut Record) {
        let path = format!("{}/containers/{}/status", self.root, record.id);
        let Some(status) = fs.read_json::<Status>(&path) else { return };
        record.created_ns = status.created_at;
        record.ended = status.finished_at > 0;
        record.exit_code = record.ended.then_some(status.exit_code);
        record.reason = match status.reason.as_str() {
            "" if record.ended && status.exit_code == 0 => Some("Completed".into()),
            "" if record.ended => Some("Error".into()),
            "" => None,
            reason => Some(reason.to_owned()),
        };
        let limit = status.resources.and_then(|r| r.linux).map(|linux| linux.memory_limit_in_bytes);
        record.ending = Ending {
            started_ns: Some(status.started_at).filter(|&ns| ns > 0),
            finished_ns: Some(status.finished_at).filter(|&ns| ns > 0),
            message: Some(status.message).filter(|message| !message.is_empty()),
            memory_limit_bytes: limit
                .and_then(|limit| u64::try_from(limit).ok())
                .or(record.ending.memory_limit_bytes),
        };
        if status.started_at == 0 && !record.ended {
            record.claim = None;
        }
    }

    /// What `status` alone says of a container: its bundle goes when it ends.
    pub(super) fn ending(&self, fs: &HostFs, id: &str) -> Option<Record> {
        let mut record = Record { id: id.to_owned(), container: Some(String::new()), ..Record::default() };
        self.add_status(fs, &mut record);
        (record.created_ns > 0).then_some(record)
    }

    fn created_at(&self, fs: &HostFs, id: &str) -> Option<String> {
        let handle = fs.open_flags(&format!("{}/{id}/config.json", self.tasks), OFlags::PATH).ok()?;
        Some(rfc3339(rustix::fs::fstat(&handle).ok()?.st_mtime))
    }

    /// Every bundle, and every ended container whose name the kubelet's log links still tell.
    pub(super) fn all(&self, fs: &HostFs, logs: &Logs) -> Vec<Record> {
        let ids = |folder: &str| fs.names(folder).into_iter().filter(|name| is_id(name));
        let mut records: Vec<Record> = ids(&self.tasks).filter_map(|id| self.record(fs, &id)).collect();
        let alive: std::collections::HashSet<String> = records.iter().map(|r| r.id.clone()).collect();
        let sandboxes: std::collections::HashMap<String, String> = records
            .iter()
            .filter(|r| r.is_sandbox())
            .map(|r| (format!("{}/{}", r.namespace, r.name), r.id.clone()))
            .collect();
        for id in ids(&format!("{}/containers", self.root)).filter(|id| !alive.contains(id)) {
            let Some(log) = logs.container(&id) else { continue };
            let Some(sandbox_id) = sandboxes.get(&format!("{}/{}", log.namespace, log.pod)) else { continue };
            let mut record = Record {
                id,
                sandbox_id: sandbox_id.clone(),
                namespace: log.namespace.clone(),
                name: log.pod.clone(),
                uid: log.uid.clone().unwrap_or_default(),
                container: Some(log.container.clone()),
                attempt: log.attempt,
                ..Record::default()
            };
            self.add_status(fs, &mut record);
            records.push(record);
        }
        records
    }
}
