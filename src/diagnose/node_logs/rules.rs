//! What can be found in the node's log.

use crate::diagnose::Rule;
use crate::facts::Severity::{self, Critical, Info, Warning};

const fn rule(id: &'static str, severity: Severity, meaning: &'static str, fix: &'static str) -> Rule {
    Rule { id, severity, meaning, fix }
}

pub(super) const CGROUP_DRIVER: Rule = rule(
    "node.cgroup_driver_logged",
    Critical,
    "The kubelet and the runtime manage cgroups by different drivers: pods do not start, or are killed soon after.",
    "Set cgroupDriver in the kubelet's config.yaml and SystemdCgroup (containerd) or cgroup_manager (CRI-O) to the same driver, systemd on a node with systemd; restart the runtime, then the kubelet.",
);
pub(super) const PLEG: Rule = rule(
    "node.pleg_unhealthy",
    Critical,
    "The kubelet has not been able to list the containers for three minutes (PLEG is not healthy): the runtime is slow or hangs, and the node goes NotReady.",
    "Look at what the runtime waits for: disk latency, memory pressure, a stuck mount (processes in state D), its own hang. Restart the runtime when it no longer answers: containers go on running.",
);
pub(super) const CRI: Rule = rule(
    "node.cri_unimplemented",
    Critical,
    "The runtime answers, but has no CRI v1 service: its CRI plugin is disabled, or it is too old for this kubelet.",
    "Take cri out of disabled_plugins in /etc/containerd/config.toml and restart containerd; else upgrade it.",
);
pub(super) const CNI: Rule = rule(
    "node.cni_not_initialised",
    Critical,
    "The runtime has no CNI configuration: pods that are not hostNetwork stay in ContainerCreating, and the node is NotReady.",
    "See that the CNI's own pod runs and has written a file to /etc/cni/net.d. If a valid one is there, restart the runtime: it may not have seen it.",
);
pub(super) const IPAM: Rule = rule(
    "node.ipam_exhausted",
    Critical,
    "The CNI has no address left for a new pod: it stays in ContainerCreating.",
    "nsprobe ipam says what holds the addresses and what is leaked. Free it, move pods away, or widen the range.",
);
pub(super) const IPAM_DUPLICATE: Rule = rule(
    "node.ipam_duplicate",
    Warning,
    "host-local refuses an address because the same sandbox holds one already: a reservation of an earlier try was left behind.",
    "nsprobe ipam names the reservation; recreate the pod, and remove what stays.",
);
pub(super) const CERTIFICATE: Rule = rule(
    "node.certificate_expired_logged",
    Critical,
    "A certificate that the kubelet needs has expired: it cannot speak to the API server.",
    "Look at the dates: openssl x509 -noout -dates -in /var/lib/kubelet/pki/kubelet-client-current.pem. Renew it (kubeadm: a new bootstrap token and kubeadm join, or kubeadm kubeconfig user), restart the kubelet; check the clock.",
);
pub(super) const UNAUTHORIZED: Rule = rule(
    "node.api_unauthorized",
    Critical,
    "The API server does not accept the kubelet's credentials (Unauthorized). An expired client certificate shows as nothing else.",
    "Look at the dates and the issuer of the kubelet's client certificate: openssl x509 -noout -dates -issuer -in /var/lib/kubelet/pki/kubelet-client-current.pem; check the clock.",
);
pub(super) const API: Rule = rule(
    "node.api_unreachable",
    Warning,
    "The kubelet cannot reach the API server: after 40 s without its lease the node goes NotReady, after 5 minutes pods are evicted.",
    "nsprobe mtu and nsprobe diagnose from the host to the API server's address say where the path ends; see whether the API server itself was restarted.",
);
pub(super) const EVICTION: Rule = rule(
    "node.eviction",
    Warning,
    "The kubelet reclaims disk, memory or PIDs by evicting pods.",
    "Free what the line names (images, logs, emptyDirs; memory), or give the node more; see the eviction thresholds.",
);
pub(super) const CONNTRACK: Rule = rule(
    "node.conntrack_full",
    Critical,
    "The connection tracking table was full: the kernel dropped packets of new connections.",
    "Raise net.netfilter.nf_conntrack_max (kube-proxy: conntrack.maxPerCore), or find who opens so many connections: nsprobe sockets.",
);
pub(super) const NEIGHBOURS: Rule = rule(
    "node.neighbour_overflow_logged",
    Critical,
    "The neighbour table was full: addresses could not be resolved, and packets were dropped.",
    "Raise net.ipv4.neigh.default.gc_thresh1, 2 and 3.",
);
pub(super) const OOM_SYSTEM: Rule = rule(
    "node.oom_system",
    Critical,
    "The node as a whole ran out of memory, and the kernel killed a process.",
    "Set memory requests and limits, and raise the kubelet's systemReserved and kubeReserved so that pods leave room for the node.",
);
pub(super) const OOM_CONTAINER: Rule = rule(
    "node.oom_container",
    Warning,
    "A container went over its memory limit, and the kernel killed a process in it.",
    "nsprobe why POD tells which and how often. Raise its limit, or find what it needs the memory for.",
);
pub(super) const OOM_KUBELET: Rule = rule(
    "node.kubelet_oom_killed",
    Critical,
    "The kubelet itself was killed for want of memory.",
    "Raise kubeReserved (and the MemoryMax of its unit or slice, if one is set); see what else runs in its cgroup.",
);
pub(super) const OOM_RUNTIME: Rule = rule(
    "node.runtime_oom_killed",
    Critical,
    "A process of the container runtime's unit was killed for want of memory.",
    "Raise kubeReserved (and the MemoryMax of its unit or slice, if one is set).",
);
pub(super) const SWAP: Rule = rule(
    "node.swap",
    Critical,
    "The kubelet does not start because swap is on.",
    "swapoff -a and take swap out of /etc/fstab, or set failSwapOn: false and memorySwap.swapBehavior.",
);
pub(super) const INHIBIT: Rule = rule(
    "node.inhibit_delay",
    Warning,
    "Graceful node shutdown cannot take effect: logind's InhibitDelayMaxSec is shorter than shutdownGracePeriod and could not be raised.",
    "Set InhibitDelayMaxSec in /etc/systemd/logind.conf to shutdownGracePeriod or more, systemctl restart systemd-logind, restart the kubelet.",
);
pub(super) const RUNTIME: Rule = rule(
    "node.runtime_unreachable",
    Critical,
    "Nobody answers on the runtime's socket: no container can be started, stopped or listed.",
    "systemctl status of the runtime, and why it ended: journalctl -u containerd (or crio). Running containers go on.",
);
pub(super) const RUNTIME_CONFIG: Rule = rule(
    "node.runtime_config",
    Critical,
    "containerd does not start because of its configuration.",
    "Correct the line of /etc/containerd/config.toml that it names, then restart containerd.",
);
pub(super) const KUBELET_CONFIG: Rule = rule(
    "node.kubelet_config",
    Critical,
    "The kubelet does not start because of its configuration.",
    "Correct what the line names in the kubelet's config.yaml or flags, then restart it.",
);
pub(super) const KUBELET_FIELD: Rule = rule(
    "node.kubelet_config_ignored",
    Warning,
    "The kubelet's config.yaml has fields that it does not know or has twice: they have no effect, and it starts without them.",
    "Correct the spelling, or take the field out.",
);
pub(super) const CGROUP_V1: Rule = rule(
    "node.cgroup_v1_refused",
    Critical,
    "The kubelet does not start because this node has cgroup v1.",
    "Boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or set failCgroupV1: false for now.",
);
pub(super) const KUBELET_FAILS: Rule =
    rule("node.kubelet_fails", Critical, "The kubelet ends right after its start.", "The line says why.");
pub(super) const INOTIFY: Rule = rule(
    "node.inotify_exhausted",
    Warning,
    "No inotify watch or instance is left: configuration, logs and certificates are no longer seen to change.",
    "Raise fs.inotify.max_user_instances and fs.inotify.max_user_watches.",
);
pub(super) const HUNG: Rule = rule(
    "node.hung_task",
    Warning,
    "A process waited for two minutes without being able to be interrupted: storage or a network file system hangs.",
    "See what it waits for: cat /proc/PID/stack, and the mounts it uses.",
);
pub(super) const DISK: Rule = rule(
    "node.disk_error",
    Critical,
    "The kernel reports errors of a disk or file system.",
    "Move the pods away (kubectl drain) and check the disk: smartctl -a, dmesg.",
);
pub(super) const LOG: Rule = rule(
    "node.log_unreadable",
    Info,
    "A part of the node's log could not be read: causes may be missing.",
    "journalctl --verify names damaged files; run as root with the node's own --host-root.",
);

/// All of this family.
pub const RULES: &[Rule] = &[
    CGROUP_DRIVER,
    PLEG,
    CRI,
    CNI,
    IPAM,
    IPAM_DUPLICATE,
    CERTIFICATE,
    UNAUTHORIZED,
    API,
    EVICTION,
    CONNTRACK,
    NEIGHBOURS,
    OOM_SYSTEM,
    OOM_CONTAINER,
    OOM_KUBELET,
    OOM_RUNTIME,
    SWAP,
    INHIBIT,
    RUNTIME,
    RUNTIME_CONFIG,
    KUBELET_CONFIG,
    KUBELET_FIELD,
    CGROUP_V1,
    KUBELET_FAILS,
    INOTIFY,
    HUNG,
    DISK,
    LOG,
];
