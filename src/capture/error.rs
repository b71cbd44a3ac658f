//! Why a capture cannot begin.

use super::FilterError;
use crate::netns::NetNsError;
use std::io;
use thiserror::Error;

/// Why a capture cannot begin.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// libpcap does not take the filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The interfaces of the namespace cannot be listed.
    #[error("cannot list the interfaces of {subject}: {source}")]
    Interfaces {
        /// Whose namespace.
        subject: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// No interface of that name.
    #[error("{subject} has no interface {name}")]
    NoInterface {
        /// Whose namespace.
        subject: String,
        /// The name that was asked for.
        name: String,
        /// The names that are there.
        known: Vec<String>,
    },
    /// The interface is administratively down.
    #[error("interface {name} of {subject} is down")]
    Down {
        /// Whose namespace.
        subject: String,
        /// Its name.
        name: String,
    },
    /// Nothing to capture on by default.
    #[error("{subject} has {what}")]
    NothingUp {
        /// Whose namespace.
        subject: String,
        /// What is missing: `no interface that is up, but lo`.
        what: &'static str,
        /// The names that are there.
        known: Vec<String>,
    },
    /// A capability is missing.
    #[error("capturing on {name} of {subject} needs {capability}")]
    Privilege {
        /// Whose namespace.
        subject: String,
        /// The interface.
        name: String,
        /// `CAP_NET_RAW`.
        capability: &'static str,
    },
    /// libpcap cannot open the interface.
    #[error("cannot capture on {name} of {subject}: {message}")]
    Open {
        /// Whose namespace.
        subject: String,
        /// The interface.
        name: String,
        /// libpcap's words.
        message: String,
    },
}
