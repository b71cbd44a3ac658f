//! What can go wrong while a namespace is read.

use crate::netns::NetNsError;
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use thiserror::Error;

/// What the kernel does with packets for which it has no route to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// No route fits (ENETUNREACH).
    None,
    /// The route that fits is of type `unreachable`, or none fits in IPv6 (EHOSTUNREACH).
    Unreachable,
    /// It is of type `blackhole` (EINVAL): packets vanish without a word.
    Blackhole,
    /// It is of type `prohibit` (EACCES).
    Prohibit,
}

impl std::fmt::Display for NoRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "the namespace has no route to it",
            Self::Unreachable => "its route says unreachable",
            Self::Blackhole => "its route is a blackhole",
            Self::Prohibit => "its route says prohibited",
        })
    }
}

/// Why a namespace could not be read.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// It could not be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// A socket or file failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("the kernel refuses {what}: {source}")]
    Refused {
        /// The request.
        what: &'static str,
        /// Its errno.
        source: io::Error,
    },
    /// There is no way to the address.
    #[error("no route to {target}: {why}")]
    NoRoute {
        /// The address that was asked for.
        target: IpAddr,
        /// What the kernel does instead.
        why: NoRoute,
    },
    /// No answer, or none that could be read, within the time that is given to a local question.
    #[error("the kernel gave no readable answer to {what} within {after:?}")]
    NoAnswer {
        /// The request.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// A dump was interrupted by changes each time it was tried (NLM_F_DUMP_INTR).
    #[error("{what} changed while it was read, {tries} times in a row")]
    Restless {
        /// The dump.
        what: &'static str,
        /// How often it was tried.
        tries: u32,
    },
}

impl ObserveError {
    /// An answer came, and did not say what was asked for.
    pub(super) fn nothing(what: &'static str) -> Self {
        Self::NoAnswer { what, after: Duration::ZERO }
    }

    /// Whether the cause is a privilege that this process lacks.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::NetNs(error) => error.is_permission(),
            Self::Io { source, .. } | Self::Refused { source, .. } => {
                source.kind() == io::ErrorKind::PermissionDenied
            }
            _ => false,
        }
    }
}
