//! What can be found about the addresses of pods.

use super::Rule;
use crate::facts::Severity;

/// No address is left.
pub const EXHAUSTED: Rule = Rule {
    id: "ipam.exhausted",
    severity: Severity::Critical,
    meaning: "Every address that host-local can give out is reserved: new pods stay in ContainerCreating (no IP addresses available in range set).",
    fix: "Free what is leaked (ipam.leaked), move pods away, or give the node a larger range and a maxPods that fits it.",
};

/// Few are left.
pub const NEARLY: Rule = Rule {
    id: "ipam.nearly_exhausted",
    severity: Severity::Warning,
    meaning: "Nine tenths of the addresses that host-local can give out are reserved.",
    fix: "Free what is leaked (ipam.leaked), or give the node a larger range or a smaller maxPods.",
};

/// Reserved by nobody.
pub const LEAKED: Rule = Rule {
    id: "ipam.leaked",
    severity: Severity::Warning,
    meaning: "Addresses are reserved for sandboxes that are gone: no runtime knows them and no process of them is left. Nothing collects what a crash, a reboot or a wiped runtime leaves behind.",
    fix: "Remove the files of these addresses under host-local's lock; nsprobe prints the command and runs nothing.",
};

/// Who holds addresses is not known.
pub const NOT_LOOKED_UP: Rule = Rule {
    id: "ipam.holders_unknown",
    severity: Severity::Info,
    meaning: "Whether anybody holds a reserved address could not be looked up: none is called leaked.",
    fix: "Run it again when the container runtime answers, or as root with the node's own --host-root.",
};

/// One address, two pods.
pub const DUPLICATE: Rule = Rule {
    id: "ipam.duplicate_address",
    severity: Severity::Critical,
    meaning: "Two sandboxes hold the same address, out of two networks whose ranges overlap: packets for one reach the other.",
    fix: "Give the networks ranges that do not overlap, and recreate the pods.",
};

/// One sandbox, two addresses.
pub const TWICE: Rule = Rule {
    id: "ipam.double_reservation",
    severity: Severity::Warning,
    meaning: "One interface of one sandbox holds two addresses of one range set: an ADD was tried again before its first try was undone. host-local then refuses with: duplicate allocation is not allowed.",
    fix: "Recreate the pod; what stays reserved then is leaked.",
};

/// The range is smaller than the node.
pub const MAX_PODS: Rule = Rule {
    id: "ipam.range_below_max_pods",
    severity: Severity::Warning,
    meaning: "The kubelet takes more pods than the node has addresses for: the scheduler sends pods that cannot start.",
    fix: "Lower maxPods in the kubelet's configuration, or give the node a larger range.",
};

/// A second gateway is refused.
pub const SECOND_GATEWAY: Rule = Rule {
    id: "ipam.second_gateway",
    severity: Severity::Critical,
    meaning: "The bridge plugin (isGateway) takes one IPv4 gateway address for its bridge and refuses another: a second IPv4 subnet is of no use to it, and each ADD that needs it fails.",
    fix: "One IPv4 subnet for each bridge: widen the first range, or set forceAddress.",
};

/// Something cannot be read.
pub const UNREADABLE: Rule = Rule {
    id: "ipam.unreadable",
    severity: Severity::Warning,
    meaning: "A configuration file of CNI or a reservation cannot be read, or is no such thing.",
    fix: "Look at the file. Where the first configuration file cannot be read containerd makes no new pods, and CRI-O takes the next one.",
};

/// Reservations outside of the ranges.
pub const OUTSIDE: Rule = Rule {
    id: "ipam.outside_ranges",
    severity: Severity::Info,
    meaning: "Addresses are reserved that no range of the network's configuration contains: the range was changed, and these pods are older.",
    fix: "Nothing, as long as the addresses are still routed to this node; else recreate the pods.",
};

/// Reservations of a network that nobody configures.
pub const UNCONFIGURED: Rule = Rule {
    id: "ipam.unconfigured",
    severity: Severity::Info,
    meaning: "Reservations are there of a network that no CNI configuration of this node names: its pods are older than the configuration.",
    fix: "Nothing while these pods live; the folder can go once it is empty.",
};

/// Names that are no address.
pub const STRANGE: Rule = Rule {
    id: "ipam.strange_file",
    severity: Severity::Info,
    meaning: "Files that host-local does not make lie among its reservations; it passes over them.",
    fix: "Remove them once it is known who put them there.",
};

/// Ranges that are not in the file.
pub const RANGES_UNKNOWN: Rule = Rule {
    id: "ipam.ranges_unknown",
    severity: Severity::Info,
    meaning: "The ranges of a network are not known: its configuration does not name them, or host-local refuses what it names.",
    fix: "Read the configuration; where an agent fills in the range (usePodCidr), it is the node's spec.podCIDR.",
};

/// Not host-local.
pub const OTHER: Rule = Rule {
    id: "ipam.other_plugin",
    severity: Severity::Info,
    meaning: "The addresses of a network are given out by something else than host-local; what it has left is known to it alone.",
    fix: "Ask it by its own tool.",
};

/// All of this family.
pub const RULES: &[Rule] = &[
    EXHAUSTED,
    NEARLY,
    LEAKED,
    NOT_LOOKED_UP,
    DUPLICATE,
    TWICE,
    MAX_PODS,
    SECOND_GATEWAY,
    UNREADABLE,
    OUTSIDE,
    UNCONFIGURED,
    STRANGE,
    RANGES_UNKNOWN,
    OTHER,
];
