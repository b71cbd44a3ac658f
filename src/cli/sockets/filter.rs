//! Which sockets are shown: protocol, family, state, ports, peer, process.

use crate::cli::target::FamilyArgs;
use crate::facts::{Protocol, Socket, SocketState};
use crate::observe::SocketQuery;
use crate::observe::resolve::Family;
use clap::{Args, ValueEnum};
use std::net::IpAddr;

/// The filters; what is left out is left out of the findings too.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    /// TCP; with --udp and --raw those too [default: TCP and UDP].
    #[arg(short, long)]
    tcp: bool,
    /// UDP.
    #[arg(short, long)]
    udp: bool,
    /// Raw IP.
    #[arg(short = 'w', long)]
    raw: bool,
    #[command(flatten)]
    family: FamilyArgs,
    /// Only what waits for peers: listening TCP, unconnected UDP.
    #[arg(short, long, conflicts_with_all = ["all", "state"])]
    listening: bool,
    /// TIME-WAIT too: closed connections that no process holds any more.
    #[arg(short, long, conflicts_with = "state")]
    all: bool,
    /// Only these states, comma-separated.
    #[arg(long, value_name = "STATE", value_enum, value_delimiter = ',')]
    state: Vec<StateName>,
    /// Only these ports on either side, comma-separated.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    port: Vec<u16>,
    /// Only these local ports.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    local_port: Vec<u16>,
    /// Only these remote ports.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    remote_port: Vec<u16>,
    /// Only these remote addresses.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    remote: Vec<IpAddr>,
    /// Only those that this process holds: a PID of the node, or a name.
    #[arg(long, value_name = "PID|NAME")]
    process: Option<String>,
    // What ss users type without thinking; all of it is shown anyway.
    #[arg(short = 'n', hide = true)]
    numeric: bool,
    #[arg(short = 'p', hide = true)]
    processes: bool,
    #[arg(short = 'i', hide = true)]
    info: bool,
}

/// States by the names that ss(8) gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StateName {
    /// Connected.
    Established,
    /// A SYN was sent.
    SynSent,
    /// A SYN came.
    SynRecv,
    /// Closed here.
    #[value(name = "fin-wait-1")]
    FinWait1,
    /// Closed here and acknowledged.
    #[value(name = "fin-wait-2")]
    FinWait2,
    /// Closed, kept for late packets.
    TimeWait,
    /// Neither listens nor is connected.
    Closed,
    /// Closed by the peer alone.
    CloseWait,
    /// Closed after the peer.
    LastAck,
    /// Waits for connections.
    #[value(alias = "listen")]
    Listening,
    /// Both closed at once.
    Closing,
    /// UDP or raw without a peer.
    Unconnected,
    /// All but listening, closed and unconnected.
    Connected,
    /// Connected but syn-sent.
    Synchronized,
    /// All.
    All,
}

impl StateName {
    fn fits(self, state: SocketState) -> bool {
        use SocketState as S;
        let connected = !matches!(state, S::Listen | S::Closed | S::Unconnected | S::Unknown);
        match self {
            Self::Established => state == S::Established,
            Self::SynSent => state == S::SynSent,
            Self::SynRecv => state == S::SynRecv,
            Self::FinWait1 => state == S::FinWait1,
            Self::FinWait2 => state == S::FinWait2,
            Self::TimeWait => state == S::TimeWait,
            Self::Closed => state == S::Closed,
            Self::CloseWait => state == S::CloseWait,
            Self::LastAck => state == S::LastAck,
            Self::Listening => state == S::Listen,
            Self::Closing => state == S::Closing,
            Self::Unconnected => state == S::Unconnected,
            Self::Connected => connected,
            Self::Synchronized => connected && state != S::SynSent,
            Self::All => true,
        }
    }
}

impl FilterArgs {
    /// What has to be read for it.
    pub(super) fn query(&self) -> SocketQuery {
        let default = !(self.tcp || self.udp || self.raw);
        let closed = |name: &StateName| name.fits(SocketState::TimeWait);
        SocketQuery {
            tcp: self.tcp || default,
            udp: self.udp || default,
            raw: self.raw,
            time_wait: self.all || self.state.iter().any(closed),
        }
    }

    /// Whether a socket is shown; its process has to be known by now.
    pub(super) fn fits(&self, socket: &Socket) -> bool {
        let any =
            |list: &[u16], port: Option<u16>| list.is_empty() || port.is_some_and(|p| list.contains(&p));
        let (local, remote) = (Some(socket.local.port()), socket.remote.map(|r| r.port()));
        let family = match self.family.family() {
            None => true,
            // A dual-stack listener serves both.
            Some(_)
                if socket.remote.is_none() && socket.local.ip().is_unspecified() && socket.detail.ipv6 =>
            {
                true
            }
            Some(family) => family == if socket.detail.ipv6 { Family::V6 } else { Family::V4 },
        };
        let waits = match socket.protocol {
            Protocol::Tcp => socket.state == SocketState::Listen,
            Protocol::Udp | Protocol::Raw => socket.state == SocketState::Unconnected,
        };
        family
            && (!self.listening || waits)
            && (self.state.is_empty() || self.state.iter().any(|name| name.fits(socket.state)))
            && (any(&self.port, local) || any(&self.port, remote))
            && any(&self.local_port, local)
            && any(&self.remote_port, remote)
            && (self.remote.is_empty()
                || socket.remote.is_some_and(|r| self.remote.iter().any(|ip| ip.to_canonical() == r.ip())))
            && self.held(socket)
    }

    fn held(&self, socket: &Socket) -> bool {
        let Some(wanted) = &self.process else { return true };
        let Some(process) = &socket.process else { return false };
        wanted.parse() == Ok(process.pid) || *wanted == process.name
    }
}
