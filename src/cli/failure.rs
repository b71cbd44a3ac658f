//! What stopped a command, with the contract's exit code and the next step.

use std::io;

/// How a command ended: the contract's exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, nothing wrong was found.
    Clean,
    /// 1: done, and a warning or critical finding stands in the report.
    Findings,
    /// Any other code: an error's, a signal's (128 + n), or that of the command that `exec` ran.
    Code(u8),
}

impl Exit {
    /// The exit code that a report with these findings has.
    pub fn of(findings: &[crate::facts::Finding]) -> Self {
        if findings.iter().any(|f| f.severity >= crate::facts::Severity::Warning) {
            Self::Findings
        } else {
            Self::Clean
        }
    }

    /// The worse of two reports' codes.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Clean { other } else { self }
    }

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Findings => 1,
            Self::Code(code) => code,
        }
    }
}

/// What stopped the work: one line that names the thing and the reason, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The contract's exit code.
    pub code: u8,
    /// The thing and the reason.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// 2: the command line is wrong in a way that clap cannot see. Unlike clap's errors, which are text
    /// alone, this one has a document too: a filter or a size is input, and scripts read why it was refused.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(2, message)
    }

    /// 3: SOURCE or TARGET cannot be resolved.
    pub fn unresolved(message: impl Into<String>) -> Self {
        Self::new(3, message)
    }

    /// 4: a privilege is missing.
    pub fn privilege(message: impl Into<String>) -> Self {
        Self::new(4, message)
    }

    /// 5: anything else.
    pub fn stopped(message: impl Into<String>) -> Self {
        Self::new(5, message)
    }

    /// 128 and the number of the signal, where that was what ended it.
    pub(super) fn ended_by(self, signal: Option<u8>) -> Self {
        Self { code: signal.map_or(self.code, |signal| 128 + signal), ..self }
    }

    /// 126 or 127: the command of `exec` or `shell` cannot be run.
    pub(super) fn tool(code: u8, message: impl Into<String>) -> Self {
        Self::new(code, message)
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// 0 and silence: the reader of standard output has gone.
    fn closed_pipe() -> Self {
        Self::new(0, "")
    }
}

impl From<io::Error> for Failure {
    /// An error while writing the report: a closed pipe is a clean end.
    fn from(error: io::Error) -> Self {
        if crate::report::is_closed_pipe(&error) {
            Self::closed_pipe()
        } else {
            Self::stopped(format!("cannot write to standard output: {error}"))
                .hint("free space or another place for the output")
        }
    }
}

impl From<crate::netns::NetNsError> for Failure {
    fn from(error: crate::netns::NetNsError) -> Self {
        use crate::netns::NetNsError as E;
        if error.is_permission() {
            return Self::privilege(error.to_string())
                .hint("run as root (sudo nsprobe …), or with CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_NET_RAW");
        }
        match error {
            E::Process(_) => Self::unresolved(error.to_string()).hint("nsprobe pods lists what runs now"),
            E::Open { .. } | E::NotANamespace { .. } => Self::unresolved(error.to_string())
                .hint("ip netns list and nsprobe pods show the namespaces that are there"),
            E::Enter { .. } | E::Thread(_) => Self::stopped(error.to_string()),
        }
    }
}

impl From<crate::pods::ResolveError> for Failure {
    fn from(error: crate::pods::ResolveError) -> Self {
        match error {
            crate::pods::ResolveError::NetNs(error) => error.into(),
            crate::pods::ResolveError::List(error) => error.into(),
            error => Self::unresolved(error.to_string()).hint("nsprobe pods lists the pods of this node"),
        }
    }
}

impl From<crate::pods::ListError> for Failure {
    fn from(error: crate::pods::ListError) -> Self {
        match error {
            crate::pods::ListError::Denied { .. } => Self::privilege(error.to_string())
                .hint("run as root (sudo nsprobe …): the runtime's socket and /proc of other users need it"),
            crate::pods::ListError::HostRoot { .. } => Self::usage(error.to_string())
                .hint("--host-root is the folder that holds the node's files, / or /host"),
        }
    }
}

impl From<crate::observe::ObserveError> for Failure {
    fn from(error: crate::observe::ObserveError) -> Self {
        match error {
            crate::observe::ObserveError::NetNs(error) => error.into(),
            error if error.is_permission() => Self::privilege(error.to_string())
                .hint("run as root (sudo nsprobe …), or with CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_NET_RAW"),
            error => Self::stopped(error.to_string()),
        }
    }
}

impl From<crate::observe::logs::LogError> for Failure {
    fn from(error: crate::observe::logs::LogError) -> Self {
        use crate::observe::logs::LogError as E;
        if error.is_permission() {
            return Self::privilege(error.to_string())
                .hint("run as root (sudo nsprobe …): logs belong to root");
        }
        match error {
            E::Read { .. } if error.is_gone() => {
                Self::unresolved(error.to_string()).hint("ls /var/log/pods shows whose logs are on this node")
            }
            E::Link { .. } => Self::stopped(error.to_string()).hint(
                "a pod that mounts /var/log may have put it there; look at it as root before you read it",
            ),
            _ => Self::stopped(error.to_string()),
        }
    }
}
