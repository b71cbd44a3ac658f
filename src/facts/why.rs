//! How the containers of a pod lived and died, as runtime, disk, kernel and kubelet remember it.

use super::ContainerState;
use schemars::JsonSchema;
use serde::Serialize;

/// Why an attempt of a container is in the state in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The kernel killed it at the memory limit of its container or pod.
    OomLimit,
    /// The kernel killed one of its processes, and not the main one.
    OomChild,
    /// The kernel killed it because the node, or all pods together, had no memory left.
    OomNode,
    /// Its main process ended with an exit code that is no signal's and not 0.
    Crash,
    /// Its main process was ended by a signal, and no record says that it was for memory.
    Signal,
    /// It never ran: its command, mounts or the like do not fit.
    StartError,
    /// It ended with 0.
    Completed,
    /// The kubelet evicted its pod.
    Evicted,
    /// It runs.
    Running,
    /// Nobody who was asked knows.
    Unknown,
}

/// What is known of one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodHistory {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Pod UID.
    pub uid: String,
    /// Its containers, by name.
    pub containers: Vec<ContainerHistory>,
    /// The kernel's records of kills for memory that name the pod or one of its containers, oldest first.
    pub kills: Vec<OomKill>,
    /// When the kernel killed for memory without saying in whose cgroup, seconds since 1970.
    pub nameless_kills: Vec<i64>,
    /// Where these were read.
    pub kernel_source: String,
    /// Why they could not be read, or not all of them.
    pub kernel_unread: Option<String>,
    /// What the kubelet wrote about the pod, oldest first.
    pub kubelet: Vec<KubeletWord>,
    /// Memory of the pod's own cgroup, which survives its containers.
    pub memory: Option<MemoryUse>,
}

impl PodHistory {
    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// One container with every attempt of which something is left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerHistory {
    /// Name in the pod spec.
    pub name: String,
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
}

/// One attempt of a container. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// How often it was started before.
    pub attempt: Option<u32>,
    /// The runtime's id; unknown of one of which only the log is left.
    pub id: Option<String>,
    /// Its state.
    pub state: ContainerState,
    /// The exit code that the runtime wrote down.
    pub exit_code: Option<i32>,
    /// The runtime's word: `OOMKilled`, `StartError`, `Error`, `Completed`.
    pub reason: Option<String>,
    /// The runtime's sentence, of a start that failed.
    pub message: Option<String>,
    /// When its process was started.
    pub started_ns: Option<i64>,
    /// When it ended.
    pub finished_ns: Option<i64>,
    /// Memory limit in bytes; 0 is none.
    pub memory_limit_bytes: Option<u64>,
    /// PID of its main process while it lives.
    pub pid: Option<u32>,
    /// Memory of its cgroup while it lives.
    pub memory: Option<MemoryUse>,
    /// The last lines that it wrote, oldest first, cut to a length.
    pub last_lines: Vec<String>,
    /// Who told: `CRI ContainerStatus`, the runtime's files, the kubelet's log folder.
    pub source: &'static str,
}

/// What a cgroup says of its memory, in bytes; files that are not there are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Where it was read.
    pub path: String,
    /// Now in use.
    pub used_bytes: Option<u64>,
    /// The most that was ever in use.
    pub peak_bytes: Option<u64>,
    /// The limit; 0 is none.
    pub limit_bytes: Option<u64>,
    /// Processes that the kernel killed in it or below, each once.
    pub oom_kills: Option<u64>,
    /// How often the limit was run into.
    pub limit_hits: Option<u64>,
}

/// One kill for memory, as the kernel logged it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OomKill {
    /// When, seconds since 1970; unknown where the log has no time.
    pub at: Option<i64>,
    /// `CONSTRAINT_MEMCG`, `CONSTRAINT_NONE`, …; empty where the kernel did not say.
    pub constraint: String,
    /// The cgroup whose limit was reached; empty for the whole node.
    pub oom_memcg: String,
    /// The cgroup of the process that was chosen.
    pub task_memcg: String,
    /// Memory in use of the cgroup whose limit was reached, bytes.
    pub used_bytes: Option<u64>,
    /// Its limit, bytes.
    pub limit_bytes: Option<u64>,
    /// Whether all of the cgroup was killed (`memory.oom.group`).
    pub group: bool,
    /// Who was killed; each process once.
    pub victims: Vec<OomVictim>,
}

/// A process that was killed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OomVictim {
    /// Its PID, as the kernel counts.
    pub pid: u32,
    /// Its name, as it gave itself.
    pub name: String,
    /// Anonymous, file and shared memory together, bytes.
    pub resident_bytes: u64,
}

/// Something that the kubelet wrote about a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletWord {
    /// Seconds since 1970.
    pub at: Option<i64>,
    /// What it did.
    pub act: KubeletAct,
    /// The container's name, where it is about one.
    pub container: Option<String>,
    /// The container's id, where the line has it.
    pub container_id: Option<String>,
    /// The kubelet's own words.
    pub words: String,
}

/// What the kubelet did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubeletAct {
    /// A liveness or startup probe failed: the container is restarted.
    ProbeKill,
    /// It killed a container, whatever for.
    Kill,
    /// It waits before it starts a container again.
    BackOff,
    /// It evicted the pod.
    Eviction,
}
