//! What a path-MTU search found out.

use schemars::JsonSchema;
use serde::Serialize;
use std::net::IpAddr;

/// The verdict of the narrowest point of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The path carries the route's full MTU.
    Clear,
    /// It carries less, and a router says so.
    Narrowed,
    /// Larger packets vanish without a word, or are refused by one that names no size; smaller ones pass.
    BlackHole,
    /// Nothing came back, at any size, by any method tried.
    Unreachable,
    /// Answers contradict each other or are too few.
    Inconclusive,
}

/// How the path was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// ICMP and ICMPv6 echo.
    Icmp,
    /// Old data on a kernel TCP connection.
    Tcp,
    /// UDP to a closed port or a DNS server.
    Udp,
}

impl Method {
    /// The name that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Icmp => "ICMP",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// Where the path narrows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Narrowing {
    /// Hop count of the first hop that the large packet does not reach; null when the hops around it are silent.
    pub ttl: Option<u8>,
    /// The router that sent the PTB, or that refuses what is larger by another word.
    pub reporter: Option<IpAddr>,
    /// The MTU it named, as it named it: a claim.
    pub reported_mtu_bytes: Option<u32>,
    /// The last hop that was seen to take the large packet.
    pub last_good_hop: Option<IpAddr>,
}

/// What is known of the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReverseVerdict {
    /// Replies as large as the largest request came back.
    Clear,
    /// Large replies are lost on the way back.
    BlackHole,
    /// Not told apart from the forward path.
    Unknown,
}

/// The way back, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reverse {
    /// What is known.
    pub verdict: ReverseVerdict,
    /// The largest packet that came back, when that is the limit; bytes.
    pub limit_bytes: Option<u32>,
}

/// The sizes between which the truth lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Largest IP packet seen to pass, bytes.
    pub passes_bytes: Option<u32>,
    /// Smallest IP packet seen to fail, bytes.
    pub fails_bytes: Option<u32>,
}

/// Probes of a search, counted once each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeCounts {
    /// Packets sent. What is none of the others drew another error: a refusal, or time exceeded in a loop.
    pub sent: u32,
    /// Answered by the target, or by the hop that was asked.
    pub answered: u32,
    /// Answered by a PTB.
    pub too_big: u32,
    /// Not answered at all.
    pub lost: u32,
}

impl ProbeCounts {
    /// Those of two searches, or of a search and of what was sent beside it.
    pub fn and(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            answered: self.answered + other.answered,
            too_big: self.too_big + other.too_big,
            lost: self.lost + other.lost,
        }
    }
}

/// One hop of the path, as far as TTL-limited probes showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// 1 is the first router.
    pub ttl: u8,
    /// Who answered at this TTL; `None`: nobody.
    pub address: Option<IpAddr>,
    /// A small packet was answered from here.
    pub small: bool,
    /// A large packet was answered from here.
    pub large: bool,
    /// It is the target itself.
    pub target: bool,
}

/// What somebody says who refuses a packet, and not as too big.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    /// Destination unreachable, with its ICMP or ICMPv6 code (RFC 792; RFC 4443 §3.1).
    Unreachable(u8),
    /// Parameter problem (RFC 792; RFC 4443 §3.4).
    ParameterProblem,
    /// Time exceeded, code 1: its fragments did not come in time to be put together (RFC 792; RFC 4443 §3.3).
    NotReassembled,
    /// A TCP reset, which comes in the target's name, whoever sends it.
    Reset,
}

/// Something that the search met on the way and that a reader has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathNote {
    /// A PTB named an impossible MTU: zero, no smaller than what was sent, or below the protocol's minimum.
    PtbInvalid {
        /// What it named, bytes.
        mtu: u32,
        /// What was sent, bytes.
        size: u32,
        /// Who said so.
        from: IpAddr,
    },
    /// Packets larger than a PTB's value arrived.
    PtbUnderstates {
        /// What it named, bytes.
        mtu: u32,
        /// What arrived, bytes.
        passes: u32,
        /// Who said so.
        from: IpAddr,
    },
    /// The target answers no probe; only routers do.
    TargetSilent,
    /// The target answers no echo request, only others: what was measured was that it does not know a protocol, or that nobody
    /// has port 0, or its timestamp replies.
    EchoFiltered {
        /// Who refused them, and in which word; `None`: nobody said anything.
        refused: Option<(IpAddr, Word)>,
        /// Timestamp replies.
        timestamps: bool,
    },
    /// The target answers few echo requests; it was asked by ICMP timestamp requests.
    EchoLimited,
    /// Somebody said the destination cannot be reached.
    Refused {
        /// Who.
        from: IpAddr,
        /// In which word.
        word: Word,
        /// The smallest packet that was refused so, bytes.
        size: u32,
        /// Packets of that size arrive as well.
        passes: bool,
        /// No smaller one was sent.
        least: bool,
    },
    /// A packet with a whole TTL ran out of hops: it goes round in a loop.
    Loop {
        /// Where.
        from: IpAddr,
        /// The smallest packet that did, bytes.
        size: u32,
    },
    /// Losses that no size explains: an answer limit or a lossy path.
    LossNotBySize,
    /// A size that passes and a smaller one that does not.
    Contradiction {
        /// Arrived, bytes.
        passes: u32,
        /// Smaller, and never arrived, bytes.
        fails: u32,
    },
    /// The kernel refused to send a probe that was not too large.
    SendRefused,
    /// The smallest size that fails never left this node: its kernel refuses it.
    HeldHere {
        /// Bytes.
        size: u32,
    },
    /// A black hole may be on the way there or on the way back: the target says nothing of what arrives.
    EitherWay,
    /// The port that was to be asked does not answer: no connection was made.
    PortSilent,
    /// The connection was refused on the way, by a word of ICMP, or the next hop is silent.
    PortUnreachable,
    /// A closed port: resets are all that came, and a firewall may send them in the target's name.
    OnlyResets,
    /// The time was up.
    Deadline,
    /// The packets or bytes of one search were used up.
    Budget,
    /// A signal ended the search.
    Interrupted,
}

impl PathNote {
    /// Whether it says what becomes of the sizes that do not arrive.
    pub fn is_of_what_fails(&self) -> bool {
        matches!(
            self,
            Self::Refused { passes: false, .. } | Self::Loop { .. } | Self::HeldHere { .. } | Self::EitherWay
        )
    }
}

/// The outcome of one path-MTU search: numbers only where there was an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct PathResult {
    /// By which method.
    pub method: Method,
    /// The verdict.
    pub verdict: Verdict,
    /// Largest IP packet that passes, bytes, headers included.
    pub path_mtu_bytes: Option<u32>,
    /// A PTB's value was confirmed as the path MTU.
    pub signalled: bool,
    /// Where it narrows; `None` when clear or not located.
    pub narrowing: Option<Narrowing>,
    /// The way back.
    pub reverse: Reverse,
    /// What is known of the sizes.
    pub bounds: Bounds,
    /// Probability, from the losses seen, that verdict and number are right.
    pub confidence: Option<f64>,
    /// Share of probes of passing sizes that were lost.
    pub loss_ratio: Option<f64>,
    /// Smallest round-trip time seen, microseconds.
    pub rtt_us: Option<u64>,
    /// Counters.
    pub probes: ProbeCounts,
    /// Duration of the search, milliseconds.
    pub elapsed_ms: f64,
    /// Hops seen while locating, by TTL.
    pub hops: Vec<Hop>,
    /// Why it is inconclusive, and other things a reader has to know.
    pub notes: Vec<PathNote>,
}
