//! Raw sockets and their options, shared by the transports.

use super::transport::Target;
use super::wire::{self, Family, Received};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockaddrLike, SockaddrStorage, recvmsg,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// `IP_MTU_DISCOVER` = `IP_PMTUDISC_INTERFACE`, linux/in.h: DF on the wire up to the interface's MTU; the
/// cached path MTU is neither used nor written.
pub(super) const PMTUDISC_INTERFACE: i32 = 4;
/// `ICMP_FILTER` of SOL_RAW, linux/icmp.h: a bit set blocks that type.
const ICMP_FILTER: i32 = 1;
/// `IP_RECVFRAGSIZE` and `IPV6_RECVFRAGSIZE`: size of the largest fragment of what was reassembled.
const IP_RECVFRAGSIZE: i32 = 25;
const IPV6_RECVFRAGSIZE: i32 = 77;
/// Answers that may wait to be read: a whole search of jumbo frames.
const RECEIVE_BUFFER: i32 = 4 << 20;
/// Largest IP packet.
const LARGEST: usize = 65_535;

/// A raw ICMP or ICMPv6 socket.
#[derive(Debug)]
pub(super) struct IcmpSocket {
    socket: Socket,
    family: Family,
    buffer: Vec<u8>,
}

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    match storage.family()? {
        AddressFamily::Inet => storage.as_sockaddr_in().map(|a| a.ip().into()),
        AddressFamily::Inet6 => storage.as_sockaddr_in6().map(|a| a.ip().into()),
        _ => None,
    }
}

impl IcmpSocket {
    /// Opens it in the namespace that the calling thread is in.
    pub(super) fn open(family: Family) -> io::Result<Self> {
        Ok(Self { socket: open_icmp(family)?, family, buffer: vec![0; LARGEST] })
    }

    /// The same, for packets that leave as those of a connected socket do.
    pub(super) fn open_from(family: Family, source: Option<IpAddr>) -> io::Result<Self> {
        let icmp = Self::open(family)?;
        take_source(&icmp.socket, source);
        Ok(icmp)
    }

    /// The socket itself, to send on.
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Hands the next message that waits to `read`.
    ///
    /// # Errors
    /// `WouldBlock` when none waits.
    pub(super) fn receive<T>(
        &mut self,
        read: impl FnOnce(&Received<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
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
        Ok(received.and_then(|received| read(&received)))
    }
}

impl AsFd for IcmpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open_icmp(family: Family) -> io::Result<Socket> {
    let v4 = family.version == 4;
    let (domain, protocol) =
        if v4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    make_room(&socket)?;
    if v4 {
        socket.set_header_included_v4(true)?;
        option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, PMTUDISC_INTERFACE)?;
        let _ = option(&socket, libc::IPPROTO_IP, IP_RECVFRAGSIZE, 1);
        let Family { echo_reply, unreachable, time_exceeded, parameter_problem, .. } = wire::V4;
        let wanted = 1u32 << echo_reply | 1 << unreachable | 1 << time_exceeded | 1 << parameter_problem;
        let wanted = wanted | 1 << wire::TIMESTAMP_REPLY;
        option(&socket, libc::SOL_RAW, ICMP_FILTER, (!wanted).cast_signed())?;
    } else {
        option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, PMTUDISC_INTERFACE)?;
        option(&socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
        option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1)?;
        let _ = option(&socket, libc::IPPROTO_IPV6, IPV6_RECVFRAGSIZE, 1);
    }
    Ok(socket)
}

/// The address that the kernel sends from to `target`. Connecting a UDP socket sends nothing; it only asks
/// for the route.
pub(super) fn source_address(target: Target) -> io::Result<IpAddr> {
    let to = target.socket_address(9);
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.connect(&to.into())?;
    let local = socket.local_addr()?.as_socket();
    local.map(|a| a.ip()).ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))
}

/// Binds to the address that an IPv4 connection would have: `ip rule from` goes by it, whatever the header says. An IPv6
/// connection leaves as an unbound socket's packets do, which would go elsewhere if it were bound.
pub(super) fn take_source(socket: &Socket, source: Option<IpAddr>) {
    if let Some(source @ IpAddr::V4(_)) = source {
        // An address that is gone is no reason to stop: the kernel then chooses.
        let _ = socket.bind(&SocketAddr::new(source, 0).into());
    }
}

/// Sends whole IPv6 packets as they are (raw(7), IPV6_HDRINCL). It receives nothing.
pub(super) fn open_whole_ipv6() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    socket.set_nonblocking(true)?;
    make_room(&socket)?;
    option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, PMTUDISC_INTERFACE)?;
    Ok(socket)
}

/// Buffers for the answers and the probes of a whole search.
pub(super) fn make_room(socket: &Socket) -> io::Result<()> {
    // SO_RCVBUFFORCE needs CAP_NET_ADMIN; the ordinary buffer, as large as it gets, is the second best.
    if option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(usize::try_from(RECEIVE_BUFFER).unwrap_or_default())?;
    }
    let _ = option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, RECEIVE_BUFFER);
    Ok(())
}

/// Sets an option whose value is an int.
pub(super) fn option(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).map_err(io::Error::other)?;
    // SAFETY: the value is an i32 that lives through the call, and its size is given with it.
    let code = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast::<libc::c_void>(), length)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
