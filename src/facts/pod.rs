//! Pods and containers as the node knows them, whoever was asked.

use schemars::JsonSchema;
use serde::Serialize;
use std::net::IpAddr;

/// State of a pod's sandbox, as CRI names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PodState {
    /// The sandbox runs.
    Ready,
    /// The sandbox has ended; its containers may still run.
    NotReady,
    /// Nobody could say.
    Unknown,
}

/// State of a container, as CRI names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Created, not started.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Exited,
    /// Nobody could say.
    Unknown,
}

/// Who named a container's PID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PidSource {
    /// The runtime, over CRI.
    Cri,
    /// The runtime's files under /run or /var/lib.
    Disk,
    /// /proc: cgroup paths and shim command lines.
    Proc,
}

/// One container of a pod; also an ended attempt that is still known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Name in the pod spec.
    pub name: String,
    /// The runtime's id, 64 hex digits.
    pub id: String,
    /// Its state.
    pub state: ContainerState,
    /// PID of its first process, in the PID namespace of the node.
    pub pid: Option<u32>,
    /// Who named the PID.
    pub pid_source: Option<PidSource>,
    /// How often it was started before (kubelet's attempt number).
    pub attempt: Option<u32>,
    /// Exit code, when it has ended and somebody knows.
    pub exit_code: Option<i32>,
    /// The runtime's word: `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub reason: Option<String>,
}

/// One pod sandbox of this node with its containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Pod UID.
    pub uid: String,
    /// The runtime's id of the sandbox.
    pub sandbox_id: String,
    /// State of the sandbox.
    pub state: PodState,
    /// Sum of the restarts of its containers, when known.
    pub restarts: Option<u32>,
    /// Whether it uses the node's own network namespace.
    pub host_network: Option<bool>,
    /// Pod IPs, primary first. Empty for a hostNetwork pod.
    pub ips: Vec<IpAddr>,
    /// A living process in its network namespace: the sandbox's own, else a container's.
    pub pid: Option<u32>,
    /// Path of its network namespace as the runtime names it (`/var/run/netns/cni-…`).
    pub netns: Option<String>,
    /// Inode of that namespace.
    pub netns_inode: Option<u64>,
    /// Creation time, RFC 3339, UTC.
    pub created_at: Option<String>,
    /// Its containers, oldest first.
    pub containers: Vec<Container>,
}

impl Pod {
    /// `namespace/name`, the way people write it.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Who answered when the pods were listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListSource {
    /// The runtime, over CRI.
    Cri,
    /// The runtime's files and /proc.
    Disk,
}

/// Why the runtime could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DegradedReason {
    /// It accepted the connection and did not answer in time.
    RuntimeHung,
    /// Its socket is there, nobody listens.
    RuntimeDead,
    /// It answered, with an error or with garbage.
    RuntimeError,
    /// No socket of a known runtime is there.
    NoRuntime,
}

/// The list is not the runtime's own word, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Degraded {
    /// The kind of fault.
    pub reason: DegradedReason,
    /// What exactly happened, with the socket's path.
    pub detail: String,
}

/// The pods of this node and where the list came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodList {
    /// Who answered.
    pub source: ListSource,
    /// The runtime endpoint that was used or tried, `unix:///…`.
    pub endpoint: Option<String>,
    /// Set when the runtime could not be used.
    pub degraded: Option<Degraded>,
    /// The pods, by namespace and name.
    pub pods: Vec<Pod>,
}
