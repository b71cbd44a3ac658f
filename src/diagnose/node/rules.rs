//! What can be wrong with a node.

use crate::diagnose::Rule;
use crate::facts::Severity;

/// Configured, and not there.
pub const KUBELET_DOWN: Rule = Rule {
    id: "node.kubelet_down",
    severity: Severity::Critical,
    meaning: "A kubelet is configured on this node and no process of it runs: nothing new starts here, and the node becomes NotReady.",
    fix: "Read why it ended (journalctl -u kubelet -n 50), then systemctl start kubelet.",
};

/// Its configuration is of no use.
pub const CONFIG_UNREADABLE: Rule = Rule {
    id: "node.config_unreadable",
    severity: Severity::Warning,
    meaning: "A configuration file of the kubelet or the runtime is there and cannot be understood: the next restart may fail.",
    fix: "Mend the file before anything restarts.",
};

/// A cgroup that two drivers made.
pub const CGROUP_TORN: Rule = Rule {
    id: "node.cgroup_driver_mismatch",
    severity: Severity::Critical,
    meaning: "Pods run in cgroups of which kubelet and runtime made one half each: their cgroup drivers differ, limits do not hold and pods restart for ever.",
    fix: "Set SystemdCgroup = true in containerd's config.toml (cgroup_manager in CRI-O's) to match the kubelet's cgroupDriver, then restart runtime and kubelet.",
};

/// Two files that do not agree.
pub const CGROUP_DIFFERS: Rule = Rule {
    id: "node.cgroup_driver_differs",
    severity: Severity::Warning,
    meaning: "The kubelet is configured with another cgroup driver than the runtime, which does not tell it its own: limits of new pods do not hold, and they restart for ever.",
    fix: "Make both the same (systemd where systemd is PID 1), then restart runtime and kubelet.",
};

/// It answers late.
pub const RUNTIME_SLOW: Rule = Rule {
    id: "node.runtime_slow",
    severity: Severity::Warning,
    meaning: "The runtime takes long for what the kubelet asks every second: past 3 minutes the kubelet says PLEG is not healthy.",
    fix: "Look at the pressure, the disks and the blocked processes in this report; fewer dead containers make lists shorter.",
};

/// A process that never runs.
pub const BLOCKED: Rule = Rule {
    id: "node.blocked_process",
    severity: Severity::Warning,
    meaning: "A process waits in the kernel and cannot be killed: a dead mount or disk, and the usual reason for a runtime that hangs.",
    fix: "See what it waits for (cat /proc/PID/stack; mount | grep nfs) and bring that back; umount -f -l for a dead mount.",
};

/// Work waits for a resource.
pub const PRESSURE: Rule = Rule {
    id: "node.pressure",
    severity: Severity::Warning,
    meaning: "Over the last minute all work stood still for much of the time, waiting for disk or memory.",
    fix: "Find who: iotop or pidstat -d for io; kubectl top pod and memory limits for memory.",
};

/// Almost nothing is left.
pub const DISK_FULL: Rule = Rule {
    id: "node.disk_full",
    severity: Severity::Warning,
    meaning: "A file system of kubelet, runtime or logs is nearly full, in bytes or inodes: below its thresholds (by default 10 % of its own disk's bytes, 15 % of the runtime's, 5 % of inodes) the kubelet evicts pods.",
    fix: "crictl rmi --prune removes unused images; journalctl --vacuum-size=500M the old journal; du -xhd1 PATH shows the rest.",
};

/// It answers late.
pub const DISK_SLOW: Rule = Rule {
    id: "node.disk_slow",
    severity: Severity::Warning,
    meaning: "I/O on a disk of kubelet, runtime or logs takes 100 ms or more on average, or none is completed at all: etcd, the runtime and with it the kubelet (PLEG) wait for it.",
    fix: "Find who (iotop, pidstat -d, io.stat of the pods' cgroups); in a cloud compare with the volume's IOPS and throughput limits; dmesg tells of a disk that fails.",
};

/// It hangs.
pub const DISK_SILENT: Rule = Rule {
    id: "node.disk_silent",
    severity: Severity::Critical,
    meaning: "A file system of kubelet, runtime or logs does not answer a question that needs no disk: a stuck mount (NFS, a lost volume). Kubelet and runtime hang on it (PLEG is not healthy).",
    fix: "findmnt -T PATH shows what is mounted there, dmesg why it hangs; umount -l takes a lost network mount out of the way.",
};

/// A limit is near.
pub const LIMIT_NEAR: Rule = Rule {
    id: "node.limit_near",
    severity: Severity::Warning,
    meaning: "More than 90 % of the threads exist that the kernel, or the cgroup of pods, kubelet or runtime, allows: new processes and containers fail with 'resource temporarily unavailable'.",
    fix: "Find who has them (ps -eLo comm | sort | uniq -c | sort -n | tail), set podPidsLimit, raise the sysctl (or the unit's TasksMax).",
};

/// inotify is used up.
pub const INOTIFY_NEAR: Rule = Rule {
    id: "node.inotify_near",
    severity: Severity::Warning,
    meaning: "A user has more than 90 % of the inotify instances or watches that one may have: kubelet, runtime and pods that watch files fail with 'too many open files' or 'no space left on device'.",
    fix: "sysctl -w fs.inotify.max_user_instances=8192 fs.inotify.max_user_watches=1048576; to last, in a file under /etc/sysctl.d.",
};

/// It is over.
pub const CERTIFICATE_EXPIRED: Rule = Rule {
    id: "node.certificate_expired",
    severity: Severity::Critical,
    meaning: "The certificate with which the kubelet speaks to the API server is not valid now: the node is or becomes NotReady.",
    fix: "Check the clock; then kubeadm kubeconfig user or a new bootstrap token (kubeadm token create), remove the old kubelet-client files, restart the kubelet.",
};

/// It will be soon.
pub const CERTIFICATE_ENDS: Rule = Rule {
    id: "node.certificate_ends",
    severity: Severity::Warning,
    meaning: "A certificate of the kubelet has less than a tenth of its life left, or its serving certificate is over: rotation should have renewed it before.",
    fix: "Check rotateCertificates in the kubelet's configuration and open requests: kubectl get csr.",
};

/// Nobody keeps the time.
pub const CLOCK: Rule = Rule {
    id: "node.clock_unsynchronised",
    severity: Severity::Info,
    meaning: "The kernel does not call its clock synchronised: no time service runs, or one that does not say so (chrony without rtcsync).",
    fix: "chronyc tracking or timedatectl timesync-status tells how far it is off.",
};

/// Pods get no network.
pub const CNI_MISSING: Rule = Rule {
    id: "node.cni_missing",
    severity: Severity::Critical,
    meaning: "No CNI configuration is on this node: it is NotReady (cni plugin not initialized) and no pod gets a network.",
    fix: "Look at the CNI's agent pod on this node: nsprobe pods kube-system; it writes /etc/cni/net.d.",
};

/// A program is missing.
pub const PLUGIN_MISSING: Rule = Rule {
    id: "node.cni_plugin_missing",
    severity: Severity::Critical,
    meaning: "A program that the CNI configuration names is missing or cannot be executed: no new pod gets a network.",
    fix: "Install it again: the CNI's agent copies its own at its start; bridge, host-local, portmap and loopback are in containernetworking-plugins.",
};

/// More than one file.
pub const CNI_SEVERAL: Rule = Rule {
    id: "node.cni_several",
    severity: Severity::Info,
    meaning: "Several CNI configurations are on this node: the first by name counts.",
    fix: "Remove what an earlier CNI left behind.",
};

/// Nobody watches.
pub const NO_DETECTOR: Rule = Rule {
    id: "node.no_problem_detector",
    severity: Severity::Info,
    meaning: "node-problem-detector does not run: kernel deadlocks and corrupt file systems show up in no node condition.",
    fix: "Install it as a DaemonSet.",
};

/// Too little is kept back.
pub const RESERVED: Rule = Rule {
    id: "node.reserved_too_little",
    severity: Severity::Info,
    meaning: "kubeReserved and systemReserved keep less memory or CPU from pods than GKE, AKS and EKS do on a node of this size (memory: GKE 25 % of the first 4 GiB, 20 % of the next 4, 10 % of the next 8, 6 % of the next 112, 2 % of the rest; AKS 20 MB a pod and 50 MB; EKS 11 MiB a pod and 255 MiB. CPU: 6 % of the first, 1 % of the second, 0.5 % of the next two, 0.25 % of the rest): pods can take it from kubelet and runtime.",
    fix: "Set kubeReserved (memory, cpu) in the kubelet's configuration.",
};

/// A threshold is off.
pub const EVICTION: Rule = Rule {
    id: "node.eviction_off",
    severity: Severity::Info,
    meaning: "evictionHard leaves out a threshold, which is then off: for want of memory the kernel kills, for want of disk everything fails, where the kubelet would evict.",
    fix: "Add what is missing to evictionHard: memory.available, nodefs.available, nodefs.inodesFree; or set mergeDefaultEvictionSettings.",
};

/// logind does not wait so long.
pub const SHUTDOWN: Rule = Rule {
    id: "node.shutdown_cut_short",
    severity: Severity::Warning,
    meaning: "shutdownGracePeriod is longer than logind waits: a shutdown of the node kills pods early.",
    fix: "Set InhibitDelayMaxSec in /etc/systemd/logind.conf.d to at least shutdownGracePeriod, then systemctl restart systemd-logind.",
};

/// The kubelet does not hold it up.
pub const SHUTDOWN_NO_LOCK: Rule = Rule {
    id: "node.shutdown_no_lock",
    severity: Severity::Warning,
    meaning: "shutdownGracePeriod is set and the kubelet holds no inhibitor lock of logind: a shutdown of the node does not wait for it.",
    fix: "Read what it said at its start (journalctl -u kubelet | grep -i shutdown), see that systemd-logind runs, restart the kubelet; systemd-inhibit --list shows its lock.",
};

/// It is off.
pub const SHUTDOWN_OFF: Rule = Rule {
    id: "node.shutdown_off",
    severity: Severity::Info,
    meaning: "Graceful node shutdown is off: at a reboot pods are killed with the node, without their grace period and without leaving Services first.",
    fix: "Set shutdownGracePeriod and shutdownGracePeriodCriticalPods in the kubelet's configuration, or drain the node before each reboot.",
};

/// All of this family.
pub const RULES: &[Rule] = &[
    KUBELET_DOWN,
    CONFIG_UNREADABLE,
    CGROUP_TORN,
    CGROUP_DIFFERS,
    RUNTIME_SLOW,
    BLOCKED,
    PRESSURE,
    DISK_FULL,
    DISK_SLOW,
    DISK_SILENT,
    LIMIT_NEAR,
    INOTIFY_NEAR,
    CERTIFICATE_EXPIRED,
    CERTIFICATE_ENDS,
    CLOCK,
    CNI_MISSING,
    PLUGIN_MISSING,
    CNI_SEVERAL,
    NO_DETECTOR,
    RESERVED,
    EVICTION,
    SHUTDOWN,
    SHUTDOWN_NO_LOCK,
    SHUTDOWN_OFF,
];
