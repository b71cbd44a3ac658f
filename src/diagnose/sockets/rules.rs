//! The rules on sockets: ids, meanings, what to do.

use crate::diagnose::Rule;
use crate::facts::Severity;

/// Segments larger than what the path carries.
pub const STUCK_ON_MTU: Rule = Rule {
    id: "sockets.stuck_on_mtu",
    severity: Severity::Critical,
    meaning: "Connections send segments that are larger than the measured path MTU, and what is on the way is never acknowledged: they hang until they time out.",
    fix: "Lower the MTU of the pod network or of the route to what the path carries, or clamp the MSS on the way; tcp_mtu_probing=1 lets TCP help itself.",
};

/// Large segments are lost, the path was not measured.
pub const MTU_SUSPECTED: Rule = Rule {
    id: "sockets.mtu_suspected",
    severity: Severity::Warning,
    meaning: "Connections hang with large segments on the way that were sent again and again. The path may be narrower than they believe, or the peer is gone: only a measurement tells.",
    fix: "Measure: nsprobe sockets SOURCE --measure, or nsprobe mtu SOURCE REMOTE.",
};

/// Even what every path carries is lost.
pub const PEER_SILENT: Rule = Rule {
    id: "sockets.peer_silent",
    severity: Severity::Warning,
    meaning: "Connections that were open get no acknowledgement any more, though their packets fit the path: not MTU. The peer is gone, or something on the way forgot or forbids the connection.",
    fix: "Check that the peer lives, and policies, NAT and conntrack on the way (nsprobe capture SOURCE shows what comes back).",
};

/// A SYN that nobody answers.
pub const SYN_UNANSWERED: Rule = Rule {
    id: "sockets.syn_unanswered",
    severity: Severity::Warning,
    meaning: "Connections are tried and nothing comes back, not even a refusal: not MTU, a SYN is small. The address is wrong or down, or a policy drops it.",
    fix: "Check the address, NetworkPolicies and the route (nsprobe capture SOURCE -- 'tcp[tcpflags] & tcp-syn != 0').",
};

/// A SYN-ACK that nobody answers.
pub const HALF_OPEN: Rule = Rule {
    id: "sockets.half_open",
    severity: Severity::Warning,
    meaning: "Clients begin connections and never finish the handshake: answers do not reach them, or their last packet does not reach this side. Not MTU: these packets are small.",
    fix: "Look for a way back that differs from the way there: routes, rp_filter, SNAT; many unknown addresses are a SYN flood.",
};

/// The peer takes no more data.
pub const ZERO_WINDOW: Rule = Rule {
    id: "sockets.zero_window",
    severity: Severity::Warning,
    meaning: "The peer's receive window is closed: its application does not read. The network is fine.",
    fix: "Look at the peer's process: busy, stopped, out of memory, blocked on something else.",
};

/// The application here does not read.
pub const NOT_READING: Rule = Rule {
    id: "sockets.not_reading",
    severity: Severity::Warning,
    meaning: "The receive buffer of a socket is full: its application does not read, the sender has to wait or its datagrams are dropped.",
    fix: "Look at the process: busy, stopped, throttled (cpu.max), blocked on something else.",
};

/// Connections wait to be accepted, and no more fit.
pub const BACKLOG_FULL: Rule = Rule {
    id: "sockets.backlog_full",
    severity: Severity::Critical,
    meaning: "A listener's queue is full: its application does not accept, and new connections are dropped without a word.",
    fix: "Look at the process: busy, stopped or throttled. A longer queue needs listen(2)'s backlog and net.core.somaxconn.",
};

/// The peer has closed, the application has not.
pub const CLOSE_WAIT: Rule = Rule {
    id: "sockets.close_wait",
    severity: Severity::Warning,
    meaning: "Connections that the peer has closed long ago are kept open by the application: it leaks them, and ends at its limit of open files.",
    fix: "A bug in the application, or a pool without a check; a restart frees them.",
};

/// A path MTU that no network has.
pub const TINY_PATH_MTU: Rule = Rule {
    id: "sockets.tiny_path_mtu",
    severity: Severity::Warning,
    meaning: "The kernel believes in a path MTU of 552 bytes or less: somebody sent a packet-too-big with an impossible value, and everything to that address is cut into crumbs for ten minutes.",
    fix: "ip route flush cache in the namespace forgets it; then look for the sender (nsprobe capture SOURCE -- 'icmp[0]==3 and icmp[1]==4').",
};

/// Much is sent twice.
pub const LOSSY: Rule = Rule {
    id: "sockets.lossy",
    severity: Severity::Info,
    meaning: "A tenth or more of what connections sent had to be sent again, and they go on: the path loses packets of every size.",
    fix: "Look for the loss: interface counters (nsprobe links -v), a congested or limited uplink.",
};

/// Datagrams were dropped at the socket.
pub const UDP_DROPS: Rule = Rule {
    id: "sockets.udp_drops",
    severity: Severity::Info,
    meaning: "Datagrams arrived and were dropped because the application did not read them in time.",
    fix: "A faster reader or a larger buffer (SO_RCVBUF, net.core.rmem_max).",
};

/// Not all sockets were looked at.
pub const UNREAD: Rule = Rule {
    id: "sockets.unread",
    severity: Severity::Info,
    meaning: "Some sockets could not be looked at: what is said of the others stands, of these nothing is known.",
    fix: "modprobe tcp_diag udp_diag raw_diag where the kernel has no diagnostics; root for the processes of others.",
};

/// Only the pod's own sockets of the node's are shown.
pub const HOST_NETWORK: Rule = Rule {
    id: "sockets.host_network",
    severity: Severity::Info,
    meaning: "The pod uses the node's own network: only the sockets that its processes hold are shown. Connections that no process holds (not accepted yet, TIME-WAIT) are not told apart.",
    fix: "nsprobe sockets host shows all of the node's.",
};

/// All of this family.
pub const RULES: &[Rule] = &[
    STUCK_ON_MTU,
    BACKLOG_FULL,
    MTU_SUSPECTED,
    PEER_SILENT,
    SYN_UNANSWERED,
    HALF_OPEN,
    ZERO_WINDOW,
    NOT_READING,
    CLOSE_WAIT,
    TINY_PATH_MTU,
    LOSSY,
    UDP_DROPS,
    UNREAD,
    HOST_NETWORK,
];
