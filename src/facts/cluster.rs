//! What the API server says of pods and nodes.

use super::Pod;
use schemars::JsonSchema;
use serde::Serialize;
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
    /// What could not be looked at.
    pub not_looked_at: Vec<Unseen>,
    /// When it was asked for, seconds since 1970 by this node's clock.
    pub asked_at: Option<i64>,
}

/// Something that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
    /// What was lacking.
    pub lack: Lack,
}

/// What was lacking to look at something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Permissions in the cluster.
    Rights,
    /// An answer of the API server.
    Answer,
    /// A word of this node's own runtime, or the way into its namespaces.
    Here,
}

impl ClusterState {
    /// The name that the API has for the node with these pods; `None` while it knows none of them.
    pub fn node_of(&self, here: &[Pod]) -> Option<&str> {
        let told = |pod: &&ClusterPod| here.iter().any(|own| own.uid == pod.uid);
        self.only_node.as_deref().or_else(|| self.pods.iter().find(told)?.node.as_deref())
    }
}

/// This node as it is, for comparison.
#[derive(Debug, Clone, Default)]
pub struct ClusterHere {
    /// Its name in the API.
    pub node: Option<String>,
    /// Pods that run here, as the runtime tells them.
    pub pods: Vec<Pod>,
    /// Interfaces of the node and of pods on it: `None` or the pod's `namespace/name`, the interface, its link MTU in
    /// bytes.
    pub interfaces: Vec<(Option<String>, String, u32)>,
}

/// An MTU that a CNI publishes.
///
/// Only two do so where pods and nodes are read (looked up in their sources, 2026): Multus per interface of a pod, in
/// the annotation `k8s.v1.cni.cncf.io/network-status` (`NetworkStatus.Mtu` of network-attachment-definition-client,
/// since 1.7), and Kube-OVN per provider network of a node, in the labels `NAME.provider-network.kubernetes.io/mtu` and
/// `…/interface` (`pkg/util/const.go`). Flannel's `backend-data` has VNI and MAC only, Calico, Cilium and Antrea publish
/// addresses and keys but no MTU, OVN-Kubernetes only [`ClusterNode::no_gateway_mtu`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedMtu {
    /// The network: a pod's by its name, a node's by the key of the label or annotation.
    pub network: String,
    /// The interface that it is the MTU of; null when that is not told.
    pub interface: Option<String>,
    /// Bytes.
    pub mtu_bytes: u32,
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
    /// Restarts of all its containers, init containers and sidecars too; `None` while no container has a status.
    pub restarts: Option<u32>,
    /// Its condition Ready; `None` when that is unknown.
    pub ready: Option<bool>,
    /// Phase Succeeded or Failed: nothing of it runs, and its address belongs to nobody.
    pub ended: bool,
    /// Why it has no node; set when it has none.
    pub unscheduled: Option<Unscheduled>,
    /// Of the networks that Multus attached, where it tells their MTU.
    pub mtus: Vec<PublishedMtu>,
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
    /// Which of the two that is.
    pub since_source: &'static str,
    /// The scheduler that has to place it.
    pub scheduler: Option<String>,
    /// spec.schedulingGates hold it back: no scheduler looks at it before they are gone.
    pub gated: bool,
    /// Their names, the first eight.
    pub gates: Vec<String>,
}

impl Unscheduled {
    /// The scheduler should have spoken, and has not.
    pub fn silent(&self) -> bool {
        self.message.is_none() && !self.gated
    }
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
    /// Of annotations and labels whose key names an MTU.
    pub mtus: Vec<PublishedMtu>,
    /// OVN-Kubernetes set `k8s.ovn.org/gateway-mtu-support` to `false` (`SetGatewayMTUSupport` in its
    /// `pkg/util/node_annotations.go`): its gateway routers have no `gateway_mtu`, by which they would answer a packet
    /// that is too large for the overlay.
    pub no_gateway_mtu: bool,
}
