//! What stands between the search and the sockets.

use super::search::{Answer, Event, Probe, Scout};
use crate::facts::Method;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Where probes go and by whom they are marked.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The address.
    pub address: IpAddr,
    /// Interface index of a link-local address.
    pub scope_id: u32,
}

impl Target {
    /// The address with a port and its scope.
    pub fn socket_address(self, port: u16) -> SocketAddr {
        match self.address {
            IpAddr::V4(address) => SocketAddr::new(address.into(), port),
            IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, self.scope_id).into(),
        }
    }
}

/// What a failed send means to the search: `None` when a queue was full, which is a lost probe.
pub(super) fn not_sent(id: u16, error: &io::Error) -> Option<Event> {
    let too_big = match error.raw_os_error() {
        Some(libc::ENOBUFS | libc::EAGAIN) => return None,
        code => code == Some(libc::EMSGSIZE),
    };
    Some(Event { id, answer: Answer::NotSent { too_big } })
}

/// Sends probes of one method to one target and tells what came back for each.
///
/// An implementation opens its sockets inside the namespace, checks that an answer belongs to one of its
/// probes, and never blocks.
pub trait Transport {
    /// How it asks.
    fn method(&self) -> Method;

    /// Sends one probe. `Some` is the kernel's refusal as an answer; a full queue is a lost probe.
    fn send(&mut self, probe: Probe) -> Option<Event>;

    /// The same as a packet that nobody takes ([`super::search::Scout`]), where the transport has any.
    fn scout(&mut self, probe: Probe, _look: Scout) -> Option<Event> {
        self.send(probe)
    }

    /// The next answer that waits; `None`: nothing waits. What is not for us is passed over.
    fn receive(&mut self) -> Option<Event>;

    /// Readable when answers wait.
    fn fds(&self) -> Vec<BorrowedFd<'_>>;

    /// Whether all that the target answers are resets, which a firewall may send in its name.
    fn only_resets(&self) -> bool {
        false
    }

    /// Sends `count` packets of `size` bytes, `gap` apart, for counters on the way to see, and waits `wait`. Answers
    /// to them are nobody's.
    fn burst(&mut self, size: u32, count: u16, gap: Duration, wait: Duration) {
        for k in 0..count {
            std::thread::sleep(gap);
            // Ids from the far end: they never meet those of a search.
            let _ = self.send(Probe { id: u16::MAX - k, size, ttl: None });
        }
        std::thread::sleep(wait);
        while self.receive().is_some() {}
    }
}
