//! Units of systemd, and processes where there is no systemd.

/// A unit as systemd tells of it. `None` is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitState {
    /// `kubelet.service`.
    pub name: String,
    /// `loaded`, `not-found`, `masked`, `bad-setting`.
    pub load_state: Option<String>,
    /// `active`, `activating`, `deactivating`, `inactive`, `failed`.
    pub active_state: Option<String>,
    /// `running`, `auto-restart`, `dead`.
    pub sub_state: Option<String>,
    /// Whether it is started at boot: `enabled`, `disabled`, `static`.
    pub file_state: Option<String>,
    /// How often systemd started it again by itself (NRestarts).
    pub restarts: Option<u32>,
    /// How its last run ended: `success`, `exit-code`, `signal`, `oom-kill`, `start-limit-hit`.
    pub result: Option<String>,
    /// The last main process: 1 exited, 2 killed, 3 dumped (si_code); 0 when none has ended.
    pub exit_code: Option<i32>,
    /// Its exit status, or the signal.
    pub exit_status: Option<i32>,
    /// When it ended, microseconds since 1970; 0 when none has.
    pub exit_us: Option<u64>,
    /// The main process; 0 when there is none.
    pub main_pid: Option<u32>,
    /// Since when it is in its active state, microseconds since 1970.
    pub since_us: Option<u64>,
}

/// A process of the kubelet or a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProcess {
    /// `kubelet`.
    pub name: String,
    /// Its pid in the node's namespace.
    pub pid: u32,
    /// Since when, seconds since 1970.
    pub since: Option<i64>,
}

/// The kubelet and the runtimes of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeUnits {
    /// systemd answers: units that exist, and the socket it answered on.
    Systemd(Vec<UnitState>, String),
    /// It does not, and why; the processes that run.
    Processes(Vec<NodeProcess>, String),
    /// Nothing could be looked at, and why.
    Unknown(String),
}
