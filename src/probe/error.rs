//! What can stop a probe before it begins.

use crate::netns::NetNsError;
use std::io;
use std::time::Duration;
use thiserror::Error;

/// A duration as people read it: `250 ms`, `2.0 s`.
fn in_words(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ ..1000 => format!("{ms} ms"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

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
    /// `TCP_REPAIR` needs CAP_NET_ADMIN in the namespace's user namespace.
    #[error("cannot read the sequence numbers of a TCP connection (TCP_REPAIR, needs CAP_NET_ADMIN): {0}")]
    NoRepair(io::Error),
    /// Nothing answered: the port is filtered, or the target is not there.
    #[error("port {port} does not answer within {}: filtered, or nobody is there", in_words(*.after))]
    ConnectTimeout {
        /// TCP port.
        port: u16,
        /// How long was waited.
        after: Duration,
    },
    /// The user ended it while a connection was being made.
    #[error("interrupted before port {port} answered")]
    Interrupted {
        /// TCP port.
        port: u16,
    },
    /// The connection failed otherwise: a router or a firewall refused it, or a socket could not be had.
    #[error("cannot connect to port {port}: {source}")]
    Connect {
        /// TCP port.
        port: u16,
        /// The kernel's word.
        source: io::Error,
    },
}
