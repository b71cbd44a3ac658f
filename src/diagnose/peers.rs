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
        // What its application has closed is nobody's any more.
        let open =
            matches!(socket.state, SocketState::Established | SocketState::CloseWait | SocketState::FinWait1);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{SocketDetail, SocketTimer, TcpDetail};

    fn socket(remote: &str, state: SocketState) -> Socket {
        Socket {
            protocol: Protocol::Tcp,
            state,
            local: "10.0.0.5:40000".parse().unwrap(),
            remote: Some(remote.parse().unwrap()),
            inode: Some(7),
            process: None,
            recv_queue_bytes: Some(0),
            send_queue_bytes: Some(0),
            rtt_us: None,
            retransmits: Some(0),
            path_mtu_bytes: Some(1500),
            send_mss_bytes: Some(1448),
            receive_mss_bytes: None,
            advmss_bytes: None,
            unacked: Some(0),
            lost: Some(0),
            detail: SocketDetail { tcp: Some(TcpDetail::default()), ..SocketDetail::default() },
        }
    }

    #[test]
    fn those_whose_connections_hang_come_first_and_own_addresses_never() {
        let mut stuck = socket("10.0.2.2:80", SocketState::Established);
        stuck.unacked = Some(2);
        stuck.send_queue_bytes = Some(2896);
        stuck.detail.timer = SocketTimer::Retransmit;
        stuck.detail.tcp =
            Some(TcpDetail { timeouts: 4, backoff: 4, timestamps: true, ..TcpDetail::default() });
        let all = [
            socket("10.0.1.1:80", SocketState::Established),
            socket("10.0.1.1:81", SocketState::Established),
            socket("10.0.3.3:53", SocketState::FinWait2),
            socket("127.0.0.1:80", SocketState::Established),
            socket("10.0.0.5:80", SocketState::Established),
            stuck,
        ];
        let found = peers(&all, &["10.0.0.5".parse().unwrap()]);
        let told: Vec<_> = found.iter().map(|p| (p.address.to_string(), p.connections)).collect();
        assert_eq!(told, [("10.0.2.2".into(), 1), ("10.0.1.1".into(), 2)]);
    }
}
