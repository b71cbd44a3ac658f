//! Who is there to hold an address: the sandboxes that the runtime lists, and what else is left of any.

use super::survey::Survey;
use super::{ListError, Options};
use crate::facts::{ContainerId, Degraded, Holders, KubeletProcess, ListSource, PodState};

/// Folders named by the id of a sandbox or container. They are there before, or outlive, what the runtime lists.
const FOLDERS: &[&str] = &[
    "/run/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io",
    "/run/k3s/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/var/lib/rancher/k3s/agent/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/run/containers/storage/overlay-containers",
    "/var/lib/containers/storage/overlay-containers",
    "/var/lib/docker/containers",
    "/var/lib/cri-dockerd/sandbox",
];

/// What was found, and how.
#[derive(Debug)]
pub struct Holding {
    /// Who is there.
    pub holders: Holders,
    /// The runtime endpoint that was used or tried.
    pub endpoint: Option<String>,
    /// Set when the runtime could not be used.
    pub degraded: Option<Degraded>,
    /// The running kubelet.
    pub kubelet: Option<KubeletProcess>,
}

/// Asks the runtime, or the disk where it does not answer, which sandboxes there are.
///
/// # Errors
/// [`ListError`].
pub fn find_holders(options: &Options) -> Result<Holding, ListError> {
    let fs = options.open()?;
    let mut survey = Survey::start(&fs, options)?;
    let pods = survey.pods()?;
    let scan = survey.proc.scan();
    let mut holders = Holders::default();
    for pod in &pods {
        if pod.sandbox_id.is_empty() {
            // Only a cgroup tells of the pod, and not which of its ids is the sandbox.
            holders.traces.extend(pod.containers.iter().map(|c| c.id.as_str().into()));
            continue;
        }
        let name = if pod.name.is_empty() { String::new() } else { pod.full_name() };
        let ready = pod.state == PodState::Ready || scan.containers.contains_key(&pod.sandbox_id);
        holders.pods.insert(pod.sandbox_id.as_str().into(), (name, ready));
    }
    holders.traces.extend(scan.containers.into_keys().map(ContainerId::from));
    let kubelet = survey.proc.kubelet();
    let list = survey.list(Vec::new());
    // A runtime that answers knows what it has; what it has forgotten and left lying about holds nothing.
    let folders = if list.source == ListSource::Disk { FOLDERS } else { &[] };
    let left: Vec<String> = folders.iter().flat_map(|folder| fs.names(folder)).collect();
    let blind = left.is_empty() && pods.is_empty();
    holders.traces.extend(left.into_iter().map(ContainerId::from));
    holders.incomplete = match (&list.degraded, list.source) {
        _ if fs.denied().is_some() => {
            Some(format!("{} may not be read", fs.denied().unwrap_or_default().display()))
        }
        (None, ListSource::Cri) => None,
        // From disk it is all only where the files of a runtime were there to be read.
        (Some(degraded), _) if blind => {
            Some(format!("{}, and no files of a runtime were found", degraded.detail))
        }
        (None, ListSource::Disk) if blind => Some("no runtime and no files of one were found".into()),
        _ => None,
    };
    Ok(Holding { holders, endpoint: list.endpoint, degraded: list.degraded, kubelet })
}
