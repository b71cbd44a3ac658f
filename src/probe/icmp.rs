//! Echo over raw sockets, opened inside the namespace and used from anywhere.

use super::error::ProbeError;
use super::search::{Event, Probe, Scout};
use super::socket::{IcmpSocket, open_whole_ipv6, source_address};
use super::transport::{Target, Transport, not_sent};
use super::wire::{self, Family, Mark};
use crate::facts::Method;
use crate::netns::NetNs;
use pnet::packet::ip::IpNextHeaderProtocols;
use socket2::Socket;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

/// An ICMP or ICMPv6 echo transport to one target.
#[derive(Debug)]
pub struct Echo {
    socket: IcmpSocket,
    /// IPv6 only: sends scouts, and the address that they come from.
    scouts: Option<(Socket, Ipv6Addr)>,
    family: Family,
    mark: Mark,
    target: Target,
    /// Sizes sent, by sequence number.
    sizes: Vec<u32>,
    hops: Option<u8>,
}

impl Echo {
    /// Opens the sockets inside `netns`.
    ///
    /// # Errors
    /// [`ProbeError::NoRawSocket`] without CAP_NET_RAW.
    pub fn open(netns: &NetNs, target: Target) -> Result<Self, ProbeError> {
        let family = Family::of(target.address);
        let open = || {
            let source = source_address(target).ok().filter(IpAddr::is_ipv4);
            Ok((IcmpSocket::open_from(family, source)?, open_scouts(target)?))
        };
        let (socket, scouts) = netns.run(open)?.map_err(ProbeError::NoRawSocket)?;
        let mut random = [0u8; 10];
        // Without randomness a stranger's guess would count a little easier; it is no reason to stop.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK);
        let [a, b, token @ ..] = random;
        Ok(Self {
            socket,
            scouts,
            family,
            mark: Mark { identifier: u16::from_be_bytes([a, b]), token },
            target,
            sizes: Vec::new(),
            hops: None,
        })
    }

    /// Remembers the size of a probe, so that its answers can be checked.
    fn remember(&mut self, probe: Probe) {
        let at = usize::from(probe.id);
        if self.sizes.len() <= at {
            self.sizes.resize(at + 1, 0);
        }
        if let Some(size) = self.sizes.get_mut(at) {
            *size = probe.size;
        }
    }

    /// Whether it can send scouts: over IPv6.
    pub(super) fn has_scouts(&self) -> bool {
        self.scouts.is_some()
    }

    /// Sends a packet of a protocol that nobody speaks, or to a port that nobody has: routers treat it as any other, the
    /// kernel caches no path MTU for it, and the target says so (parameter problem). IPv6 only; false over IPv4.
    pub(super) fn send_scout(&mut self, probe: Probe, look: Scout) -> io::Result<bool> {
        let (Some((socket, from)), IpAddr::V6(to)) = (&self.scouts, self.target.address) else {
            return Ok(false);
        };
        let packet = wire::scout(*from, to, self.mark, probe, look)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
        socket.send_to(&packet, &self.target.socket_address(0).into())?;
        self.remember(probe);
        Ok(true)
    }

    fn transmit_scout(&mut self, probe: Probe, look: Scout) -> io::Result<()> {
        let IpAddr::V4(target) = self.target.address else { return self.send_scout(probe, look).map(drop) };
        let packet = wire::scout_ipv4(target, self.mark, probe, look)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
        self.socket.socket().send_to(&packet, &SocketAddr::new(target.into(), 0).into())?;
        self.remember(probe);
        Ok(())
    }

    fn transmit(&mut self, probe: Probe) -> io::Result<usize> {
        let message_length = usize::try_from(probe.size.saturating_sub(self.family.ip_header)).unwrap_or(0);
        let message = wire::echo_request(self.family, self.mark, probe.id, message_length);
        match self.target.address {
            IpAddr::V4(target) => {
                let ttl = probe.ttl.unwrap_or(64);
                let icmp = IpNextHeaderProtocols::Icmp;
                let packet = wire::ipv4_packet(Ipv4Addr::UNSPECIFIED, target, ttl, icmp, &message)
                    .ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
                self.socket.socket().send_to(&packet, &SocketAddr::new(target.into(), 0).into())
            }
            IpAddr::V6(_) => {
                if self.hops != probe.ttl {
                    self.socket.socket().set_unicast_hops_v6(u32::from(probe.ttl.unwrap_or(64)))?;
                    self.hops = probe.ttl;
                }
                let to = self.target.socket_address(0).into();
                self.socket.socket().send_to(&message, &to)
            }
        }
    }

    fn receive_one(&mut self) -> io::Result<Option<Event>> {
        let (family, mark, target) = (self.family, self.mark, self.target.address);
        let sizes = |sequence: u16| self.sizes.get(usize::from(sequence)).copied().filter(|s| *s > 0);
        self.socket.receive(|received| wire::answer(family, mark, target, received, sizes))
    }
}

fn open_scouts(target: Target) -> io::Result<Option<(Socket, Ipv6Addr)>> {
    if target.address.is_ipv4() {
        return Ok(None);
    }
    Ok(match source_address(target)? {
        IpAddr::V6(from) => Some((open_whole_ipv6()?, from)),
        IpAddr::V4(_) => None,
    })
}

impl Transport for Echo {
    fn method(&self) -> Method {
        Method::Icmp
    }

    fn send(&mut self, probe: Probe) -> Option<Event> {
        self.remember(probe);
        not_sent(probe.id, &self.transmit(probe).err()?)
    }

    fn scout(&mut self, probe: Probe, look: Scout) -> Option<Event> {
        match self.transmit_scout(probe, look) {
            Ok(()) => None,
            Err(error) => not_sent(probe.id, &error),
        }
    }

    fn receive(&mut self) -> Option<Event> {
        // Bounded: a flood of strangers' ICMP must not keep us from the clock.
        for _ in 0..512 {
            match self.receive_one() {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(_) => return None,
            }
        }
        None
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.socket.as_fd()]
    }
}
