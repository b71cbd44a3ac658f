//! What the API server says of pods and nodes.

use std::net::IpAddr;

/// Everything that it was asked for, and what it did not tell.
#[derive(Debug, Clone, Default)]
pub struct ClusterState {
    /// Its address, as the credentials name it.
    pub server: String,
    /// Whose credentials were used: `--kubeconfig FILE`, `KUBECONFIG`, `service account`, the kubelet's file.
    pub credentials: String,
    /// The node that these credentials are of: only its pods could be asked for.
    pub only_node: Option<String>,
    /// Pods, as listed.
    pub pods: Vec<ClusterPod>,
    /// Nodes, as listed; `None` when none could be asked for.
    pub nodes: Option<Vec<ClusterNode>>,
    /// What could not be looked at, and why.
    pub not_looked_at: Vec<(String, String)>,
}

/// One pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// metadata.uid.
    pub uid: String,
    /// The node it is bound to.
    pub node: Option<String>,
    /// status.podIPs.
    pub ips: Vec<IpAddr>,
    /// Uses the node's own network.
    pub host_network: bool,
    /// Restarts of all its containers; `None` while no container has a status.
    pub restarts: Option<u32>,
    /// Its condition Ready; `None` when that is unknown.
    pub ready: Option<bool>,
    /// Phase Succeeded or Failed: nothing of it runs, and its address belongs to nobody.
    pub ended: bool,
    /// Why it has no node; set when it has none.
    pub unscheduled: Option<Unscheduled>,
    /// `network: bytes` of the networks that Multus attached, where it tells their MTU.
    pub mtus: Vec<(String, u32)>,
}

impl ClusterPod {
    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Why a pod has no node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unscheduled {
    /// The scheduler's last word; `None` when it has said nothing.
    pub message: Option<String>,
    /// Where that stands: the condition, or an event.
    pub source: &'static str,
    /// Since when, RFC 3339: the condition's last change, else the pod's creation.
    pub since: Option<String>,
    /// The scheduler that has to place it.
    pub scheduler: Option<String>,
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// Its condition Ready; `None` when the control plane does not know (the kubelet went silent).
    pub ready: Option<bool>,
    /// Reason and message of that condition.
    pub why: String,
    /// Annotations and labels that name an MTU: key, bytes.
    pub mtus: Vec<(String, u32)>,
}
