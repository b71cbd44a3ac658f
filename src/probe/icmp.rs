//! Echo over raw sockets, opened inside the namespace and used from anywhere.

use super::search::{Answer, Event, Probe};
use super::transport::Transport;
use super::wire::{self, Family, Mark, Received};
use crate::facts::Method;
use crate::netns::{NetNs, NetNsError};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockaddrLike, SockaddrStorage, recvmsg,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use thiserror::Error;

/// Why probing cannot begin.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// A raw socket needs CAP_NET_RAW in the namespace's user namespace.
    #[error("cannot open a raw ICMP socket: {0}")]
    NoRawSocket(io::Error),
    /// The namespace.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// Waiting for answers failed.
    #[error("cannot wait for answers: {0}")]
    Wait(io::Error),
}

/// Where probes go and by whom they are marked.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The address.
    pub address: IpAddr,
    /// Interface index of a link-local address.
    pub scope_id: u32,
}

/// `IP_MTU_DISCOVER` = `IP_PMTUDISC_INTERFACE`, linux/in.h: DF on the wire up to the interface's MTU; the
/// cached path MTU is neither used nor written.
const PMTUDISC_INTERFACE: i32 = 4;
/// `ICMP_FILTER` of SOL_RAW, linux/icmp.h: a bit set blocks that type.
const ICMP_FILTER: i32 = 1;
/// `IP_RECVFRAGSIZE` and `IPV6_RECVFRAGSIZE`: size of the largest fragment of what was reassembled.
const IP_RECVFRAGSIZE: i32 = 25;
const IPV6_RECVFRAGSIZE: i32 = 77;
/// Answers that may wait to be read: a whole search of jumbo frames.
const RECEIVE_BUFFER: i32 = 4 << 20;
/// Largest IP packet.
const LARGEST: usize = 65_535;

/// An ICMP or ICMPv6 echo transport to one target.
#[derive(Debug)]
pub struct Echo {
    socket: Socket,
    family: Family,
    mark: Mark,
    target: Target,
    /// Sizes sent, by sequence number.
    sizes: Vec<u32>,
    hops: Option<u8>,
    buffer: Vec<u8>,
}

impl Echo {
    /// Opens the sockets inside `netns`.
    ///
    /// # Errors
    /// [`ProbeError::NoRawSocket`] without CAP_NET_RAW.
    pub fn open(netns: &NetNs, target: Target) -> Result<Self, ProbeError> {
        let family = Family::of(target.address);
        let socket = netns.run(|| open_socket(family))?.map_err(ProbeError::NoRawSocket)?;
        let mut random = [0u8; 10];
        // Without randomness a stranger's guess would count a little easier; it is no reason to stop.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK);
        let [a, b, token @ ..] = random;
        Ok(Self {
            socket,
            family,
            mark: Mark { identifier: u16::from_be_bytes([a, b]), token },
            target,
            sizes: Vec::new(),
            hops: None,
            buffer: vec![0; LARGEST],
        })
    }

    fn transmit(&mut self, probe: Probe) -> io::Result<usize> {
        let message_length = usize::try_from(probe.size.saturating_sub(self.family.ip_header)).unwrap_or(0);
        let message = wire::echo_request(self.family, self.mark, probe.id, message_length);
        match self.target.address {
            IpAddr::V4(target) => {
                let packet =
                    wire::ipv4_packet(Ipv4Addr::UNSPECIFIED, target, probe.ttl.unwrap_or(64), &message)
                        .ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
                self.socket.send_to(&packet, &SocketAddr::new(target.into(), 0).into())
            }
            IpAddr::V6(target) => {
                if self.hops != probe.ttl {
                    self.socket.set_unicast_hops_v6(u32::from(probe.ttl.unwrap_or(64)))?;
                    self.hops = probe.ttl;
                }
                let to: SockAddr = SocketAddrV6::new(target, 0, 0, self.target.scope_id).into();
                self.socket.send_to(&message, &to)
            }
        }
    }

    fn receive_one(&mut self) -> io::Result<Option<Event>> {
        let mut control = nix::cmsg_space!([u8; 64]);
        let fd = self.socket.as_raw_fd();
        let mut ttl = None;
        let mut fragment = None;
        let (length, from) = {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            let message =
                recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
            if let Ok(messages) = message.cmsgs() {
                for message in messages {
                    match message {
                        ControlMessageOwned::Ipv6HopLimit(hops) => ttl = u8::try_from(hops).ok(),
                        ControlMessageOwned::Unknown(unknown)
                            if matches!(
                                unknown.cmsg_header.cmsg_type,
                                IP_RECVFRAGSIZE | IPV6_RECVFRAGSIZE
                            ) =>
                        {
                            let bytes = unknown.data_bytes.get(..4).and_then(|b| b.try_into().ok());
                            fragment = bytes.map(i32::from_ne_bytes).and_then(|n| u32::try_from(n).ok());
                        }
                        _ => {}
                    }
                }
            }
            (message.bytes, message.address.and_then(|a| address(&a)))
        };
        let Some(bytes) = self.buffer.get(..length) else { return Ok(None) };
        let sizes = |sequence: u16| self.sizes.get(usize::from(sequence)).copied().filter(|s| *s > 0);
        let largest_fragment = fragment.filter(|bytes| *bytes > 0);
        let received = if self.family.version == 4 {
            wire::strip_ipv4(bytes).map(|(from, ttl, message)| Received {
                from: from.into(),
                ttl: Some(ttl),
                largest_fragment,
                message,
            })
        } else {
            from.map(|from| Received { from, ttl, largest_fragment, message: bytes })
        };
        Ok(received.and_then(|r| wire::answer(self.family, self.mark, self.target.address, &r, sizes)))
    }
}

impl Transport for Echo {
    fn method(&self) -> Method {
        Method::Icmp
    }

    fn send(&mut self, probe: Probe) -> Option<Event> {
        let at = usize::from(probe.id);
        if self.sizes.len() <= at {
            self.sizes.resize(at + 1, 0);
        }
        if let Some(size) = self.sizes.get_mut(at) {
            *size = probe.size;
        }
        let error = self.transmit(probe).err()?;
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Some(Event { id: probe.id, answer: Answer::NotSent { too_big: true } }),
            Some(libc::ENOBUFS | libc::EAGAIN) => None,
            _ => Some(Event { id: probe.id, answer: Answer::NotSent { too_big: false } }),
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

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    match storage.family()? {
        AddressFamily::Inet => storage.as_sockaddr_in().map(|a| a.ip().into()),
        AddressFamily::Inet6 => storage.as_sockaddr_in6().map(|a| a.ip().into()),
        _ => None,
    }
}

fn open_socket(family: Family) -> io::Result<Socket> {
    let v4 = family.version == 4;
    let (domain, protocol) =
        if v4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    // SO_RCVBUFFORCE needs CAP_NET_ADMIN; the ordinary buffer, as large as it gets, is the second best.
    if option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(usize::try_from(RECEIVE_BUFFER).unwrap_or_default())?;
    }
    let _ = option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, RECEIVE_BUFFER);
    if v4 {
        socket.set_header_included_v4(true)?;
        option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, PMTUDISC_INTERFACE)?;
        let _ = option(&socket, libc::IPPROTO_IP, IP_RECVFRAGSIZE, 1);
        let wanted = 1u32 << wire::V4.echo_reply | 1 << wire::V4.unreachable | 1 << wire::V4.time_exceeded;
        option(&socket, libc::SOL_RAW, ICMP_FILTER, (!wanted).cast_signed())?;
    } else {
        option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, PMTUDISC_INTERFACE)?;
        option(&socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
        option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1)?;
        let _ = option(&socket, libc::IPPROTO_IPV6, IPV6_RECVFRAGSIZE, 1);
    }
    Ok(socket)
}

fn option(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).map_err(io::Error::other)?;
    // SAFETY: the value is an i32 that lives through the call, and its size is given with it.
    let code = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast::<libc::c_void>(), length)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
