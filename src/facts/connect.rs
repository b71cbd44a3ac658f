//! How a TCP connection to a port that somebody named went.

use std::net::IpAddr;

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum ConnectOutcome {
    /// The handshake was completed; it was closed at once, without a byte sent.
    Open {
        /// Time of the handshake, ms.
        ms: f64,
    },
    /// A reset, or an ICMP message that says as much, came back.
    Refused {
        /// After how long, ms.
        ms: f64,
    },
    /// Nothing came back.
    Silent {
        /// For how long was waited, ms.
        ms: f64,
    },
    /// There is no way there: the kernel's word (no route, host unreachable, prohibited).
    NoWay(String),
    /// It was not tried: why.
    NotTried(String),
}

/// One attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Connect {
    /// Where to.
    pub address: IpAddr,
    /// The port that was named.
    pub port: u16,
    /// How it ended.
    pub outcome: ConnectOutcome,
}
