//! What the node's own files and /proc say of kubelet, runtime, CNI and the room that is left.

use super::{KubeletProcess, Seen};
use std::collections::BTreeMap;

/// The two ways to make cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CgroupDriver {
    /// Units of systemd: `kubepods.slice/…`.
    Systemd,
    /// Plain folders: `kubepods/…`.
    Cgroupfs,
}

impl CgroupDriver {
    /// As configuration files write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        }
    }
}

/// A value and the file or flag that says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated<T> {
    /// The value.
    pub value: T,
    /// A path on the node, a flag, or whose default it is.
    pub source: String,
}

/// What a kubelet is configured to do; an unset field is `None` or empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubeletConfig {
    /// The files that were read, in order; a later one wins.
    pub files: Vec<String>,
    /// `cgroupDriver`.
    pub cgroup_driver: Option<Stated<String>>,
    /// Why nobody states the driver and it is not the kubelet's default either.
    pub driver_unknown: Option<String>,
    /// `kubeReserved`.
    pub kube_reserved: BTreeMap<String, String>,
    /// `systemReserved`.
    pub system_reserved: BTreeMap<String, String>,
    /// `evictionHard`; `None` when the defaults apply.
    pub eviction_hard: Option<BTreeMap<String, String>>,
    /// `mergeDefaultEvictionSettings`: what `evictionHard` leaves out has its default, and is not off.
    pub merge_eviction_defaults: bool,
    /// `reservedSystemCPUs`, a list of processors that takes the place of reserved CPU.
    pub reserved_cpus: Option<String>,
    /// `maxPods`.
    pub max_pods: Option<Stated<u32>>,
    /// `shutdownGracePeriod`, or the sum of `shutdownGracePeriodByPodPriority`, milliseconds; 0 is off.
    pub shutdown_grace_ms: Option<u64>,
}

/// What the configuration of the container runtime says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// `containerd` or `cri-o`.
    pub runtime: &'static str,
    /// Its cgroup driver.
    pub driver: Stated<CgroupDriver>,
    /// Whether it tells the kubelet its driver (containerd 2, CRI-O 1.28): a kubelet of 1.31 and later then ignores
    /// its own. `None` when neither the runtime nor its files tell.
    pub hands_driver: Option<bool>,
    /// Folders of CNI plugins.
    pub plugin_folders: Vec<String>,
    /// The folder of CNI configuration; `None` when its files do not say.
    pub config_folder: Option<String>,
    /// Whether it calls the CNI plugin `loopback` for every pod: containerd, unless `use_internal_loopback` is on.
    pub calls_loopback: bool,
}

/// What a runtime says of itself over CRI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeWord {
    /// `containerd`, `cri-o`, `docker`.
    pub name: String,
    /// Its version as it writes it: `v2.1.0`, `1.7.24~ds1`.
    pub version: String,
    /// The cgroup driver that it tells the kubelet; `None` when it does not know that question.
    pub driver: Option<CgroupDriver>,
}

/// A process that waits in the kernel and cannot be killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The function of the kernel that it waits in; `None` when that is not told.
    pub wchan: Option<String>,
}

/// One pass over /proc.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeProcesses {
    /// The running kubelet.
    pub kubelet: Option<KubeletProcess>,
    /// Arguments of each containerd and CRI-O that runs.
    pub runtimes: Vec<Vec<String>>,
    /// Whether node-problem-detector runs.
    pub problem_detector: bool,
    /// User processes that did not run between two looks, and were in state D at both.
    pub blocked: Vec<Blocked>,
    /// How a pod's cgroup is made, with a path that shows it.
    pub pod_cgroups: BTreeMap<CgroupDriver, String>,
    /// A cgroup path of which kubelet and runtime made one half each: `….slice:cri-containerd:ID`.
    pub torn_cgroup: Option<String>,
}

/// A pressure file: shares of time in percent, the mean of the last 60 s.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pressure {
    /// Something waited.
    pub some: f64,
    /// Everything waited.
    pub full: f64,
}

/// How full a file system is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUse {
    /// Where it was asked.
    pub path: String,
    /// All folders of kubelet, runtime and logs that are on it.
    pub folders: Vec<String>,
    /// Bytes that it has.
    pub size_bytes: u64,
    /// Bytes that are left.
    pub free_bytes: u64,
    /// Inodes that it has; 0 where they are made as needed.
    pub inodes: u64,
    /// Inodes that are left.
    pub free_inodes: u64,
}

/// What a block device did between two looks.
#[derive(Debug, Clone, PartialEq)]
pub struct DiskIo {
    /// `vda`, `dm-0`.
    pub device: String,
    /// The folders of kubelet, runtime and logs that are on it.
    pub folders: Vec<String>,
    /// Between the looks, milliseconds.
    pub interval_ms: f64,
    /// Reads, writes and flushes that were completed meanwhile.
    pub completed: u64,
    /// What one of these took on average, milliseconds; `None` when there was none.
    pub wait_ms: Option<f64>,
    /// At least so many were under way at both looks.
    pub stuck: u64,
    /// What one took on average since boot, milliseconds.
    pub since_boot_ms: Option<f64>,
}

/// What a limit is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Threads and processes.
    Tasks,
    /// inotify instances or watches of one user.
    Inotify,
}

/// Something of which there is only so much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// What kind of thing that is.
    pub kind: LimitKind,
    /// `threads`, `inotify instances of uid 0`.
    pub what: String,
    /// As many are used.
    pub used: u64,
    /// Whether some could not be counted: more may be used.
    pub at_least: bool,
    /// As many may be.
    pub limit: u64,
    /// The sysctl or the file that is the limit: `kernel.pid_max`, `…/pids.max`.
    pub source: String,
    /// Where those that are used were counted.
    pub counted: &'static str,
}

/// How long a certificate is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateLife {
    /// The file it stands in.
    pub path: String,
    /// Whether the kubelet shows it to the API server; else it serves with it.
    pub client: bool,
    /// From when, seconds since 1970; or why it cannot be read.
    pub life: Seen<(i64, i64)>,
}

/// A program that a CNI configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginBinary {
    /// `type` of the plugin.
    pub kind: String,
    /// Where it was found, or why it cannot be run.
    pub found: Seen<String>,
}

/// Everything that is read of a node beside its kernel, its CNI files and its runtime's answers.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeState {
    /// Its processes.
    pub processes: Seen<NodeProcesses>,
    /// The kubelet's configuration.
    pub kubelet: Seen<KubeletConfig>,
    /// The runtime's.
    pub runtime: Seen<RuntimeConfig>,
    /// By `cpu`, `io`, `memory`.
    pub pressure: BTreeMap<&'static str, Seen<Pressure>>,
    /// File systems of kubelet, runtime and logs.
    pub disks: Vec<DiskUse>,
    /// Folders whose file system did not answer in time.
    pub silent_folders: Vec<String>,
    /// I/O of the block devices below these.
    pub disk_io: Seen<Vec<DiskIo>>,
    /// Limits that are known.
    pub limits: Vec<Limit>,
    /// Certificates of the kubelet that are there.
    pub certificates: Vec<CertificateLife>,
    /// Whether the kernel calls its clock synchronised.
    pub clock_synchronised: Seen<bool>,
    /// Programs of the CNI configuration that counts, and loopback where the runtime calls it.
    pub plugins: Vec<PluginBinary>,
    /// Memory of the node, bytes.
    pub memory_bytes: Option<u64>,
    /// Processors of the node.
    pub cpus: Option<u64>,
    /// `InhibitDelayMaxSec` of logind, milliseconds.
    pub inhibit_delay_ms: Option<u64>,
    /// Whether the kubelet holds an inhibitor lock; `None` when logind's are not to be seen.
    pub kubelet_inhibits: Option<bool>,
}

/// How long a runtime took to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct CallTime {
    /// `Version`, `ListPodSandbox`.
    pub call: &'static str,
    /// Milliseconds.
    pub ms: f64,
}
