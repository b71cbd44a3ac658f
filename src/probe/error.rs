//! What can stop a probe before it begins.

use crate::netns::NetNsError;
use std::io;
use thiserror::Error;

/// Why probing cannot begin.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// A raw socket needs CAP_NET_RAW in the namespace's user namespace.
    #[error("cannot open a raw socket: {0}")]
    NoRawSocket(io::Error),
    /// The namespace.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// Waiting for answers failed.
    #[error("cannot wait for answers: {0}")]
    Wait(io::Error),
}
