//! What can be found about the cluster, through its API server.

use super::Rule;
use crate::facts::Severity;

/// Pods without a node.
pub const UNSCHEDULED: Rule = Rule {
    id: "cluster.unscheduled",
    severity: Severity::Warning,
    meaning: "Pods wait for a node: the scheduler finds none that fits, has not looked at them for 30 s, or may not yet (spec.schedulingGates).",
    fix: "The scheduler's message names what each node lacks: free resources, tolerations, labels. Without a message: is the scheduler that the pod names running?",
};

/// What to do about [`UNSCHEDULED`] pods with scheduling gates.
pub(super) const GATED_FIX: &str = "No scheduler looks at such a pod. The controller that set a gate removes it, and the gate's name tells which that is: does it run, and what does it wait for?";

/// Many restarts.
pub const RESTARTS: Rule = Rule {
    id: "cluster.restarts",
    severity: Severity::Warning,
    meaning: "Containers of a pod were restarted more often than --restarts.",
    fix: "On the pod's node: nsprobe logs POD --previous shows what the last attempt wrote before it ended.",
};

/// Pods on broken nodes.
pub const NODE_NOT_READY: Rule = Rule {
    id: "cluster.node_not_ready",
    severity: Severity::Critical,
    meaning: "A node is NotReady, or its kubelet is silent: what the API server says of its pods is old, and their containers may run or not.",
    fix: "On that node: is the kubelet alive, and does the runtime answer (nsprobe pods)?",
};

/// The API and the runtime tell different addresses.
pub const IP_DISAGREES: Rule = Rule {
    id: "cluster.ip_disagrees",
    severity: Severity::Critical,
    meaning: "The API server and this node's runtime tell different addresses for a pod: Services and policies send to one that the pod does not have.",
    fix: "Recreate the pod (kubectl delete pod); if it comes back so, look at the kubelet, which reports the address.",
};

/// One address, two pods.
pub const DUPLICATE_IP: Rule = Rule {
    id: "cluster.duplicate_ip",
    severity: Severity::Critical,
    meaning: "Two live pods have the same address: packets for one reach the other.",
    fix: "Recreate one of them, and look for overlapping ranges of nodes (spec.podCIDR) or a restored IPAM state (nsprobe ipam).",
};

/// MTUs differ.
pub const MTU_DIFFERS: Rule = Rule {
    id: "cluster.mtu_differs",
    severity: Severity::Warning,
    meaning: "The MTU that a CNI publishes for one network is not the same on all nodes: large packets between them are lost or fragmented.",
    fix: "Give the network one MTU, the smallest that all nodes carry; nsprobe mtu measures a path.",
};

/// The API and the interface tell different MTUs.
pub const MTU_DISAGREES: Rule = Rule {
    id: "cluster.mtu_disagrees",
    severity: Severity::Warning,
    meaning: "The MTU that a CNI publishes for an interface of this node, or of a pod on it, is not the one that the interface has: it was changed after the CNI made it, or the CNI's word is old.",
    fix: "Which one fits the path: nsprobe mtu. Then set the CNI's MTU and recreate the pod, or restart the CNI's agent, which publishes it anew.",
};

/// OVN-Kubernetes without `gateway_mtu`.
pub const GATEWAY_MTU_OFF: Rule = Rule {
    id: "cluster.gateway_mtu_off",
    severity: Severity::Info,
    meaning: "On these nodes OVN-Kubernetes' gateway routers do not answer packets that are too large for the overlay (hardware offload, or disable-pkt-mtu-check): large packets from outside may be lost without a word.",
    fix: "If large packets from outside hang: nsprobe mtu from a pod there to the outside shows both ways; keep what comes in within the overlay's MTU, or enable the check again.",
};

/// What is not known.
pub const NOT_LOOKED_AT: Rule = Rule {
    id: "cluster.not_looked_at",
    severity: Severity::Info,
    meaning: "Part of the cluster could not be looked at: nothing is said of it.",
    fix: "Give credentials that may list pods, nodes and events of all namespaces: --kubeconfig FILE.",
};

/// All of this family.
pub const RULES: &[Rule] = &[
    UNSCHEDULED,
    RESTARTS,
    NODE_NOT_READY,
    IP_DISAGREES,
    DUPLICATE_IP,
    MTU_DIFFERS,
    MTU_DISAGREES,
    GATEWAY_MTU_OFF,
    NOT_LOOKED_AT,
];
