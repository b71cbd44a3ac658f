//! A socket of a network namespace, as the kernel's socket diagnostics tell it.

use super::{Method, Verdict};
use schemars::JsonSchema;
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};

/// What a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Raw IP.
    Raw,
}

impl Protocol {
    /// The name that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Raw => "raw",
        }
    }
}

/// State of a socket: TCP's, and of UDP and raw sockets whether they are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SocketState {
    /// Connected.
    Established,
    /// A SYN was sent, nothing came back yet.
    SynSent,
    /// A SYN came, the handshake is not finished.
    SynRecv,
    /// Closed here, not yet acknowledged.
    #[serde(rename = "fin_wait_1")]
    FinWait1,
    /// Closed here and acknowledged; the peer has not closed.
    #[serde(rename = "fin_wait_2")]
    FinWait2,
    /// Closed on both sides, kept for late packets.
    TimeWait,
    /// Neither listens nor is connected.
    Closed,
    /// The peer has closed, the application here has not.
    CloseWait,
    /// Closed after the peer, not yet acknowledged.
    LastAck,
    /// Waits for connections.
    Listen,
    /// Both closed at once.
    Closing,
    /// UDP or raw without a peer.
    Unconnected,
    /// A number that this program does not know.
    Unknown,
}

impl SocketState {
    /// Whether data or a FIN may be on the way to the peer.
    pub fn may_send(self) -> bool {
        matches!(self, Self::Established | Self::CloseWait | Self::FinWait1 | Self::Closing | Self::LastAck)
    }
}

/// The process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SocketProcess {
    /// PID in the node's PID namespace; the smallest where several hold the socket.
    pub pid: u32,
    /// Its name (comm), as the process set it.
    pub name: String,
}

/// One socket. Of a listener the queues hold connections, not bytes: see [`SocketDetail::waiting`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// What it speaks.
    pub protocol: Protocol,
    /// Its state.
    pub state: SocketState,
    /// Local address and port; an IPv4 address mapped into IPv6 is shown as IPv4.
    #[schemars(with = "String")]
    pub local: SocketAddr,
    /// Remote address and port; null without a peer.
    #[schemars(with = "Option<String>")]
    pub remote: Option<SocketAddr>,
    /// Inode, as in /proc/PID/fd; null when no process holds it (any more).
    pub inode: Option<u64>,
    /// Who holds it; null when nobody was found.
    pub process: Option<SocketProcess>,
    /// Received, and not read by the application, bytes.
    pub recv_queue_bytes: Option<u32>,
    /// Written by the application, and not acknowledged by the peer, bytes.
    pub send_queue_bytes: Option<u32>,
    /// Smoothed round-trip time, microseconds.
    pub rtt_us: Option<u32>,
    /// Segments sent again since the connection began.
    pub retransmits: Option<u32>,
    /// The path MTU that the kernel believes in, bytes.
    pub path_mtu_bytes: Option<u32>,
    /// Largest payload of a segment that is sent, bytes.
    pub send_mss_bytes: Option<u32>,
    /// Largest payload that was seen to arrive (the kernel's estimate), bytes.
    pub receive_mss_bytes: Option<u32>,
    /// The MSS that the peer was told, bytes.
    pub advmss_bytes: Option<u32>,
    /// Segments sent and not acknowledged.
    pub unacked: Option<u32>,
    /// Of these, segments that the kernel takes for lost.
    pub lost: Option<u32>,
    /// What rules and people look at beside the document.
    #[serde(skip)]
    pub detail: SocketDetail,
}

/// Which timer of a TCP socket runs (linux/inet_diag.h, `idiag_timer`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SocketTimer {
    /// None.
    #[default]
    Off,
    /// Retransmission, or loss probe.
    Retransmit,
    /// Keepalive.
    Keepalive,
    /// The end of TIME-WAIT.
    TimeWait,
    /// Probes of a closed window.
    Persist,
    /// A number that this program does not know.
    Unknown,
}

/// More of a socket; `None`: this kernel does not tell, or it is no TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketDetail {
    /// Whether packets are IPv6 on the wire.
    pub ipv6: bool,
    /// User id of the owner.
    pub uid: u32,
    /// The timer that runs.
    pub timer: SocketTimer,
    /// When it ends, milliseconds.
    pub timer_ms: u32,
    /// How often what the timer waits for was sent again; of a half-open connection all that is known.
    pub timer_retries: u8,
    /// Of a listener: connections that wait to be accepted.
    pub waiting: Option<u32>,
    /// Of a listener: how many may wait.
    pub backlog: Option<u32>,
    /// Datagrams or connections dropped at this socket since it was made.
    pub drops: Option<u32>,
    /// Memory that received data takes, bytes.
    pub recv_memory: Option<u32>,
    /// Memory that received data may take, bytes.
    pub recv_buffer: Option<u32>,
    /// TCP alone.
    pub tcp: Option<TcpDetail>,
}

/// What `tcp_info` tells beside the document's fields (linux/tcp.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpDetail {
    /// Timeouts in a row that sent the same data again.
    pub timeouts: u8,
    /// Window or keepalive probes without an answer.
    pub probes: u8,
    /// How often the timer was doubled.
    pub backoff: u8,
    /// Segments carry timestamps, 12 bytes of options.
    pub timestamps: bool,
    /// Retransmission timeout, microseconds.
    pub rto_us: u32,
    /// Retransmitted segments that are on the way now.
    pub retransmitted: u32,
    /// Congestion window, segments.
    pub congestion_window: u32,
    /// Since data was sent last, milliseconds.
    pub last_sent_ms: u32,
    /// Since data came last, milliseconds.
    pub last_received_ms: u32,
    /// Since an acknowledgement came last, milliseconds.
    pub last_ack_ms: u32,
    /// Acknowledged by the peer, bytes (Linux 4.1).
    pub acked_bytes: Option<u64>,
    /// Received, bytes (Linux 4.1).
    pub received_bytes: Option<u64>,
    /// Data segments sent (Linux 4.6).
    pub data_segments_out: Option<u32>,
    /// Written and not yet sent once, bytes (Linux 4.6).
    pub unsent_bytes: Option<u32>,
    /// Sent, retransmissions included, bytes (Linux 4.19).
    pub sent_bytes: Option<u64>,
    /// Sent again, bytes (Linux 4.19).
    pub resent_bytes: Option<u64>,
    /// The peer's window, bytes (Linux 5.4).
    pub send_window: Option<u32>,
    /// The window that the peer was given, bytes (Linux 6.2).
    pub receive_window: Option<u32>,
}

impl Socket {
    /// Size of the IP packet that a full segment makes, bytes: payload, TCP header with its options, IP header.
    ///
    /// `None` where nothing was negotiated yet.
    pub fn segment_bytes(&self) -> Option<u32> {
        if !self.state.may_send() {
            return None;
        }
        self.send_mss_bytes.map(|mss| mss.saturating_add(self.header_bytes()))
    }

    /// IP and TCP headers of its segments, bytes.
    pub fn header_bytes(&self) -> u32 {
        let ip = if self.detail.ipv6 { 40 } else { 20 };
        let options = if self.detail.tcp.is_some_and(|tcp| tcp.timestamps) { 12 } else { 0 };
        ip + 20 + options
    }

    /// Sent and not acknowledged, bytes; the whole send queue where the kernel does not tell what is unsent.
    pub fn in_flight_bytes(&self) -> Option<u32> {
        let unsent = self.detail.tcp.and_then(|tcp| tcp.unsent_bytes).unwrap_or(0);
        self.send_queue_bytes.map(|queue| queue.saturating_sub(unsent))
    }
}

/// What is known of the path to a remote address because it was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredPath {
    /// The remote address.
    pub remote: IpAddr,
    /// By which method.
    pub method: Method,
    /// The verdict.
    pub verdict: Verdict,
    /// Largest IP packet that passes, bytes, headers included.
    pub path_mtu_bytes: Option<u32>,
    /// Largest IP packet that was seen to pass, bytes, whatever the verdict.
    pub passes_bytes: Option<u32>,
    /// The interface by which it begins.
    pub interface: Option<String>,
}
