//! Whose path is worth measuring: the peers of a pod's own TCP connections, the worst off first.

use super::sockets::{severity, suspects, trouble};
use crate::facts::{Protocol, Severity, Socket, SocketState};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A remote address of open connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    /// Open connections to it.
    pub connections: usize,
}

/// The peers of open connections, each once; `own` are the namespace's addresses, which are nobody else's.
pub fn peers(sockets: &[Socket], own: &[IpAddr]) -> Vec<Peer> {
    type Rank = (Option<Severity>, u32, usize);
    let suspected = suspects(sockets);
    let mut ranks: BTreeMap<IpAddr, Rank> = BTreeMap::new();
    for socket in sockets {
        let open = matches!(
            socket.state,
            SocketState::Established | SocketState::CloseWait | SocketState::FinWait1 | SocketState::FinWait2
        );
        let Some(remote) = socket.remote.map(|r| r.ip().to_canonical()) else { continue };
        if socket.protocol != Protocol::Tcp || !open || remote.is_loopback() || own.contains(&remote) {
            continue;
        }
        let rank = ranks.entry(remote).or_default();
        rank.0 = rank.0.max(trouble(socket, &[]).map(severity));
        rank.1 = rank.1.saturating_add(socket.retransmits.unwrap_or(0));
        rank.2 += 1;
    }
    let mut order: Vec<(IpAddr, Rank)> = ranks.into_iter().collect();
    order.sort_by_key(|(address, rank)| {
        let suspect = suspected.iter().position(|s| s == address).unwrap_or(usize::MAX);
        (suspect, std::cmp::Reverse(*rank))
    });
    order.into_iter().map(|(address, (.., connections))| Peer { address, connections }).collect()
}
