//! Does the next hop answer at all? The kernel's neighbour entry for one address.

use super::ObserveError;
use crate::netns::NetNs;
use futures_util::StreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, Socket, TokioSocket};
use std::net::IpAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

/// A table of neighbours is answered in milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the kernel knows of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// Its link-layer address is known, or was until a moment ago.
    Known,
    /// It did not answer ARP or neighbour discovery.
    Failed,
    /// It has been asked and has not answered yet.
    Asking,
    /// No entry.
    None,
}

/// Looks up the neighbour entry of `address` on the interface of that index in `netns`.
///
/// # Errors
/// [`ObserveError::NetNs`], [`ObserveError::Io`], [`ObserveError::NoAnswer`].
///
/// Source: rtnetlink(7) RTM_GETNEIGH; kernel net/core/neighbour.c.
pub fn read_neighbour(netns: &NetNs, address: IpAddr, interface: u32) -> Result<Neighbour, ObserveError> {
    let io = |what| move |source| ObserveError::Io { what, source };
    let socket = netns.run(|| Socket::new(NETLINK_ROUTE))?.map_err(io("cannot open a netlink socket"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(io("cannot start the netlink runtime"))?;
    let question = async {
        // SAFETY: the descriptor was just taken out of its owner, so the new one is its only owner.
        let mut socket = unsafe { TokioSocket::from_raw_fd(socket.into_raw_fd()) };
        let _ = socket.socket_mut().set_ext_ack(true);
        let (connection, handle, _unsolicited) = rtnetlink::from_socket(socket);
        tokio::spawn(connection);
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let mut entries = handle.neighbours().get().set_address_family(family).execute();
        let mut found = Neighbour::None;
        while let Some(entry) = entries.next().await {
            // One entry that cannot be read is not the one that was asked for.
            let Ok(entry) = entry else { continue };
            // A link-local address may be that of several neighbours, each on its own link.
            if entry.header.ifindex == interface && names(&entry, address) {
                found = state(entry.header.state);
            }
        }
        found
    };
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, question).await })
        .map_err(|_| ObserveError::NoAnswer { what: "the neighbour table", after: PATIENCE })
}

fn names(entry: &NeighbourMessage, address: IpAddr) -> bool {
    entry.attributes.iter().any(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => IpAddr::from(*found) == address,
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => IpAddr::from(*found) == address,
        _ => false,
    })
}

fn state(state: NeighbourState) -> Neighbour {
    match state {
        NeighbourState::Failed => Neighbour::Failed,
        NeighbourState::Incomplete => Neighbour::Asking,
        NeighbourState::None => Neighbour::None,
        _ => Neighbour::Known,
    }
}
