//! What a pod's name servers answered when they were asked as a pod asks.

use std::net::IpAddr;

/// How one question to a name server ended.
#[derive(Debug, Clone, PartialEq)]
pub enum DnsOutcome {
    /// An answer to that very question came.
    Answered {
        /// `NOERROR`, `NXDOMAIN`, `SERVFAIL`, `REFUSED`, or the number of another code.
        code: String,
        /// Size of the DNS message, bytes.
        bytes: u32,
        /// From the question to the answer, ms.
        ms: f64,
        /// TC: the rest is to be fetched over TCP.
        truncated: bool,
        /// How often it was asked before the answer came: 1 when the first question was answered.
        tries: u32,
    },
    /// Nothing came.
    Silent {
        /// For how long was waited, ms.
        ms: f64,
    },
    /// Nobody listens there, or there is no way: the kernel's word.
    Refused(String),
    /// It was not asked: why.
    NotAsked(String),
}

impl DnsOutcome {
    /// Whether an answer came.
    pub fn answered(&self) -> bool {
        matches!(self, Self::Answered { .. })
    }

    /// Whether it was asked, and no answer came.
    pub fn failed(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Refused(_))
    }
}

/// A question whose answer is large, asked both ways.
#[derive(Debug, Clone, PartialEq)]
pub struct LargeAnswer {
    /// What was asked for: `DNSKEY of the root`, `A of web.default.svc.cluster.local`.
    pub question: String,
    /// The size that the question allowed over UDP (EDNS), bytes.
    pub allowed_bytes: u16,
    /// Over UDP.
    pub udp: DnsOutcome,
    /// Over TCP: tells how large the answer is, whatever UDP loses.
    pub tcp: DnsOutcome,
}

/// One `nameserver` of a resolv.conf, asked from inside the pod's namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct NameServer {
    /// Its address.
    pub address: IpAddr,
    /// What was asked for with small questions.
    pub question: String,
    /// A over UDP, without EDNS, as most resolvers ask.
    pub udp: DnsOutcome,
    /// AAAA, sent at the same time from the same socket, as the C library does.
    pub second: DnsOutcome,
    /// Both once more, each pair from a socket of its own and with a single try: how often it is so when one of the
    /// first two was lost or late. Empty when they were not, or no time was left.
    pub again: Vec<[DnsOutcome; 2]>,
    /// The same question over TCP.
    pub tcp: DnsOutcome,
    /// A large answer; `None` when small ones already failed.
    pub large: Option<LargeAnswer>,
}

/// What is known of a pod's name resolution.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NameResolution {
    /// The servers in their order.
    pub servers: Vec<NameServer>,
    /// Whether resolv.conf names a server at all.
    pub named: bool,
    /// `nameserver` lines beyond those that a resolver uses.
    pub ignored_servers: u32,
    /// Search domains.
    pub search: Vec<String>,
    /// `ndots`.
    pub ndots: u32,
    /// For how long the pod's resolver waits for a server, ms.
    pub timeout_ms: u64,
    /// What is odd about the file itself: `a named pipe`, `larger than 65536 bytes`.
    pub odd: Option<String>,
    /// What was found of the host name that is the target.
    pub lookup: Option<NameLookup>,
}

/// One host name looked up as the pod's resolver does.
#[derive(Debug, Clone, PartialEq)]
pub struct NameLookup {
    /// As it was typed.
    pub name: String,
    /// Names that were asked for before the one that fitted, all of them unknown to the server.
    pub asked_before: u32,
    /// How long it took, ms.
    pub ms: f64,
    /// Why there is no address, when there is none.
    pub error: Option<String>,
}
