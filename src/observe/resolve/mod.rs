//! A host name → addresses, as the pod would see it: its hosts file, its resolv.conf, asked from inside its
//! network namespace.
//!
//! The C library's own resolver reads the files of the place it runs in and, in a static binary, wants to
//! load plug-ins: it is never used.

mod config;
mod exchange;
mod message;
mod raw;
mod servers;

pub use config::{ResolvConf, Server, hosts_lookup, is_host_name};
pub use message::{Family, Reply, parse_reply, question};
pub use raw::{RawQuestion, RawReply};
pub use servers::{ServerQuestions, check_servers};

use crate::netns::{NetNs, NetNsError};
use exchange::{Ask, Network};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Why a name has no address.
#[derive(Debug, Error)]
pub enum LookupError {
    /// The name servers kept silent.
    #[error("server {} did not answer in {}", list(.servers), seconds(.waited))]
    Silent {
        /// Who was asked.
        servers: Vec<IpAddr>,
        /// For how long.
        waited: Duration,
    },
    /// Questions cannot even be sent, or nobody listens there.
    #[error("server {server} cannot be asked: {source}")]
    Unreachable {
        /// Who was to be asked.
        server: IpAddr,
        /// The kernel's word: refused means that nobody listens on port 53 there.
        source: io::Error,
    },
    /// A server answered with an error.
    #[error("server {server} answered {answer}")]
    Failed {
        /// Who answered.
        server: IpAddr,
        /// The code, as DNS names it.
        answer: &'static str,
    },
    /// NXDOMAIN for every name that was tried.
    #[error("server {server} knows no such name (NXDOMAIN; tried {})", .tried.join(", "))]
    NoSuchName {
        /// Who answered.
        server: IpAddr,
        /// The names, with the search domains.
        tried: Vec<String>,
    },
    /// The name is there and has no address of the kind that was asked for.
    #[error("server {server} knows the name {name}, but no {family} address of it")]
    NoAddress {
        /// Who answered.
        server: IpAddr,
        /// The name that is there.
        name: String,
        /// `IPv4`, `IPv6` or `IP`.
        family: &'static str,
    },
    /// The namespace cannot be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
}

/// What a lookup needs besides the namespace.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'a> {
    /// Text of the pod's resolv.conf.
    pub resolv_conf: &'a str,
    /// Text of the pod's hosts file.
    pub hosts: &'a str,
    /// Only addresses of this family.
    pub family: Option<Family>,
    /// For all questions together.
    pub deadline: Duration,
}

/// The addresses of a name and who named them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// At least one, in the order they were given.
    pub addresses: Vec<IpAddr>,
    /// The name they belong to, with the search domain that fitted; `None` from the hosts file.
    pub name: Option<String>,
    /// The server that answered; `None` from the hosts file.
    pub server: Option<IpAddr>,
}

/// Looks a host name up from inside `netns`, hosts file first.
///
/// Sends at most (names × servers × attempts × families) questions, bounded by resolv.conf's limits: 7 × 3 × 5 × 2.
///
/// # Errors
/// [`LookupError`].
pub fn look_up(netns: &NetNs, name: &str, lookup: &Lookup<'_>) -> Result<Addresses, LookupError> {
    let mut local = hosts_lookup(lookup.hosts, name);
    local.retain(|a| lookup.family.is_none_or(|family| Family::of(*a) == family));
    if !local.is_empty() {
        return Ok(Addresses { addresses: local, name: None, server: None });
    }
    let conf = ResolvConf::parse(lookup.resolv_conf);
    netns.run(|| {
        let start = Instant::now();
        let left = || lookup.deadline.saturating_sub(start.elapsed());
        walk(&mut Network, &conf, name, lookup, left)
    })?
}

/// Asks for one candidate name after the other until one has an address.
fn walk(
    network: &mut impl Ask,
    conf: &ResolvConf,
    name: &str,
    lookup: &Lookup<'_>,
    left: impl Fn() -> Duration,
) -> Result<Addresses, LookupError> {
    let families = match lookup.family {
        Some(family) => vec![family],
        None => vec![Family::V4, Family::V6],
    };
    let tried = conf.candidates(name);
    let mut servers = Servers::new(conf, lookup.deadline);
    let mut exists = None;
    let mut failed = None;
    let mut denied = None;
    for candidate in &tried {
        let (server, replies) = match servers.ask(network, candidate, &families, &left) {
            Ok(answered) => answered,
            // A server that fails for one name may know the next; one that is silent will stay so.
            Err(error @ LookupError::Failed { .. }) => {
                failed = failed.or(Some(error));
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut addresses = Vec::new();
        for (_, reply) in replies {
            match reply {
                Reply::Addresses(found) => addresses.extend(found),
                Reply::NoRecord => exists = exists.or_else(|| Some((server, candidate.clone()))),
                _ => {}
            }
        }
        if !addresses.is_empty() {
            return Ok(Addresses { addresses, name: Some(candidate.clone()), server: Some(server) });
        }
        denied = Some(server);
    }
    // A failure leaves it open whether the name exists; only then is its absence not known.
    Err(match (exists, failed, denied) {
        (Some((server, name)), _, _) => {
            LookupError::NoAddress { server, name, family: lookup.family.map_or("IP", Family::name) }
        }
        (None, Some(failed), _) => failed,
        (None, None, Some(server)) => LookupError::NoSuchName { server, tried },
        (None, None, None) => LookupError::Silent { servers: servers.addresses(), waited: lookup.deadline },
    })
}

/// The servers of a resolv.conf, the one that answered last first.
struct Servers<'a> {
    order: Vec<&'a Server>,
    attempts: u32,
    each: Duration,
    deadline: Duration,
}

impl<'a> Servers<'a> {
    fn new(conf: &'a ResolvConf, deadline: Duration) -> Self {
        let order: Vec<&Server> = conf.servers.iter().collect();
        let questions = u32::try_from(order.len()).unwrap_or(1).saturating_mul(conf.attempts).max(1);
        let each = conf.timeout.min(deadline / questions).max(Duration::from_millis(50));
        Self { order, attempts: conf.attempts, each, deadline }
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.order.iter().map(|server| server.address).collect()
    }

    /// Asks every server in turn until one answers without an error.
    fn ask(
        &mut self,
        network: &mut impl Ask,
        name: &str,
        families: &[Family],
        left: &impl Fn() -> Duration,
    ) -> Result<(IpAddr, Vec<(Family, Reply)>), LookupError> {
        let mut failed = None;
        let mut unreachable = None;
        let mut silent = false;
        for _ in 0..self.attempts {
            for at in 0..self.order.len() {
                let wait = self.each.min(left());
                let Some(server) = self.order.get(at).filter(|_| !wait.is_zero()) else { continue };
                let address = server.address;
                match network.ask(server, name, families, wait) {
                    Ok(replies) => match failure(&replies) {
                        Some(answer) => failed = Some(LookupError::Failed { server: address, answer }),
                        None => {
                            self.order.swap(0, at);
                            return Ok((address, replies));
                        }
                    },
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => silent = true,
                    Err(source) => {
                        unreachable = Some(LookupError::Unreachable { server: address, source });
                    }
                }
            }
            // Only silence may be a lost packet.
            if !silent {
                break;
            }
        }
        let silence = LookupError::Silent { servers: self.addresses(), waited: self.deadline };
        Err(failed.or(unreachable.filter(|_| !silent)).unwrap_or(silence))
    }
}

/// The error code of replies that hold no address.
fn failure(replies: &[(Family, Reply)]) -> Option<&'static str> {
    if replies.iter().any(|(_, reply)| matches!(reply, Reply::Addresses(_))) {
        return None;
    }
    replies.iter().find_map(|(_, reply)| match reply {
        Reply::Failed(answer) => Some(*answer),
        _ => None,
    })
}

/// The index of the interface `zone` (a name or a number) of a namespace, for `fe80::1%eth0`.
///
/// # Errors
/// [`NetNsError`] when the namespace cannot be entered; inside, the kernel's when there is no such interface.
pub fn interface_index(netns: &NetNs, zone: &str) -> Result<io::Result<u32>, NetNsError> {
    netns.run(|| exchange::interface_index(zone))
}

/// Which of several addresses of one host to use from inside `netns`, by position: one that has a route,
/// IPv6 before IPv4 unless it would leave with an address that cannot be answered. Nothing is sent.
///
/// # Errors
/// [`NetNsError`].
///
/// Source: RFC 6724 §6, rules 1 (usable), 2 and 5 (scope and label), 6 (precedence).
pub fn choose(netns: &NetNs, addresses: &[IpAddr]) -> Result<Option<usize>, NetNsError> {
    let sources = netns.run(|| addresses.iter().map(|&a| source_for(a).ok()).collect::<Vec<_>>())?;
    Ok(preferred(addresses, &sources))
}

fn preferred(addresses: &[IpAddr], sources: &[Option<IpAddr>]) -> Option<usize> {
    let rank = |at: usize| match (addresses.get(at), sources.get(at)) {
        (Some(IpAddr::V6(to)), Some(Some(IpAddr::V6(from)))) => {
            let matching = to.is_unique_local() == from.is_unique_local()
                && to.is_unicast_link_local() == from.is_unicast_link_local();
            if matching { 0 } else { 2 }
        }
        (Some(IpAddr::V4(_)), Some(Some(_))) => 1,
        _ => 3,
    };
    (0..addresses.len()).filter(|&at| rank(at) < 3).min_by_key(|&at| rank(at))
}

/// The address that packets to `to` would leave with; connecting a UDP socket sends nothing (udp(7)).
fn source_for(to: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((to, 1))?;
    Ok(socket.local_addr()?.ip())
}

fn list(servers: &[IpAddr]) -> String {
    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn seconds(duration: &Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
