//! UDP to a port that the user named: a closed one answers with port unreachable, a DNS server with an answer
//! to a padded question.

use super::error::ProbeError;
use super::search::{Answer, AnswerLimit, Event, Probe};
use super::socket::{IcmpSocket, PMTUDISC_INTERFACE, make_room, open_whole_ipv6, option, source_address};
use super::transport::{Target, Transport, not_sent};
use super::wire::{self, Family};
use crate::facts::{Method, Word};
use crate::netns::NetNs;
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::udp::{self, MutableUdpPacket, UdpPacket};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd};

/// Where name servers listen.
const DNS: u16 = 53;
/// Bytes of a UDP header.
const HEADER: u32 = 8;
/// The smallest question with EDNS and padding: header 12, root NS 5, OPT 11, padding option 4.
const SMALLEST_QUESTION: u32 = 32;
/// Bytes of a question that any name server reads: RFC 1035 §2.3.4.
const EVERY_SERVER_TAKES: usize = 512;
/// Code of "port unreachable": RFC 792, RFC 4443 §3.1.
const PORT_UNREACHABLE: [u8; 2] = [3, 4];

/// A UDP transport to one port.
#[derive(Debug)]
pub struct UdpProbe {
    /// Holds the source port, and receives what a server answers.
    holder: Socket,
    icmp: IcmpSocket,
    /// IPv6 only: sends whole packets.
    whole: Option<Socket>,
    family: Family,
    target: Target,
    port: u16,
    local: SocketAddr,
    token: [u8; 8],
    /// Size and UDP checksum of each probe, by id: what every router quotes of it.
    sent: Vec<(u32, u16)>,
}

impl UdpProbe {
    /// Opens the sockets inside `netns`. Nothing is sent.
    ///
    /// # Errors
    /// [`ProbeError::NoRawSocket`] without CAP_NET_RAW.
    pub fn open(netns: &NetNs, target: Target, port: u16) -> Result<Self, ProbeError> {
        let family = Family::of(target.address);
        let open = || {
            let whole = if family.version == 6 { Some(open_whole_ipv6()?) } else { None };
            let (holder, local) = open_holder(target)?;
            let icmp = IcmpSocket::open_from(family, Some(local.ip()))?;
            Ok((icmp, whole, holder, local))
        };
        let (icmp, whole, holder, local) = netns.run(open)?.map_err(ProbeError::NoRawSocket)?;
        let mut token = [0u8; 8];
        // Without randomness a stranger's guess would count a little easier; it is no reason to stop.
        let _ = rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::NONBLOCK);
        Ok(Self { holder, icmp, whole, family, target, port, local, token, sent: Vec::new() })
    }

    /// The smallest probe, bytes of the whole IP packet.
    pub fn smallest(&self) -> u32 {
        self.family.ip_header + HEADER + SMALLEST_QUESTION
    }

    /// What the target is known to answer at most: Linux limits port unreachable, a name server nothing.
    pub fn answer_limit(&self) -> Option<AnswerLimit> {
        (self.port != DNS).then_some(AnswerLimit::ICMP_ERRORS)
    }

    fn datagram(&self, probe: Probe) -> Vec<u8> {
        let payload = probe.size.saturating_sub(self.family.ip_header + HEADER);
        let length = usize::try_from(payload.max(SMALLEST_QUESTION)).unwrap_or(0);
        let [a, b, ..] = self.token;
        let id = probe.id ^ u16::from_be_bytes([a, b]);
        let payload = if self.port == DNS {
            question(id, length.min(EVERY_SERVER_TAKES))
        } else {
            marked(id, self.token, length)
        };
        let mut bytes = vec![0u8; payload.len() + 8];
        let total = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        if let Some(mut packet) = MutableUdpPacket::new(&mut bytes) {
            packet.set_source(self.local.port());
            packet.set_destination(self.port);
            packet.set_length(total);
            packet.set_payload(&payload);
            let checksum = match (self.local.ip(), self.target.address) {
                (IpAddr::V4(from), IpAddr::V4(to)) => udp::ipv4_checksum(&packet.to_immutable(), &from, &to),
                (IpAddr::V6(from), IpAddr::V6(to)) => udp::ipv6_checksum(&packet.to_immutable(), &from, &to),
                _ => 0,
            };
            // Zero on the wire means that there is none (RFC 768).
            packet.set_checksum(if checksum == 0 { u16::MAX } else { checksum });
        }
        // What the packet has beyond the datagram is cut off by the receiver (net/ipv4/udp.c `__udp4_lib_rcv`):
        // a server that takes no large question is no narrow path.
        bytes.resize(length + 8, 0);
        bytes
    }

    fn transmit(&self, probe: Probe, datagram: &[u8]) -> io::Result<usize> {
        match (self.local.ip(), self.target.address) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let ttl = probe.ttl.unwrap_or(64);
                let packet = wire::ipv4_packet(from, to, ttl, IpNextHeaderProtocols::Udp, datagram)
                    .ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
                // A raw socket with its own header sends any protocol (raw(7)).
                self.icmp.socket().send_to(&packet, &SocketAddr::new(to.into(), 0).into())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                // Not by the holder: where the interface computes checksums, routers quote an unfinished one.
                let socket =
                    self.whole.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
                let hops = probe.ttl.unwrap_or(64);
                let packet = wire::ipv6_packet(from, to, hops, IpNextHeaderProtocols::Udp, datagram)
                    .ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
                socket.send_to(&packet, &self.target.socket_address(0).into())
            }
            _ => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        }
    }

    /// An answer of the server itself.
    fn receive_datagram(&mut self) -> io::Result<Option<Event>> {
        let mut buffer = [MaybeUninit::uninit(); 512];
        let (length, from) = self.holder.recv_from(&mut buffer)?;
        let bytes: Vec<u8> = buffer
            .get(..length)
            .unwrap_or_default()
            .iter()
            // SAFETY: the kernel has written the first `length` bytes of the buffer.
            .map(|byte| unsafe { byte.assume_init() })
            .collect();
        let ours = from.as_socket().is_some_and(|a| a.ip() == self.target.address && a.port() == self.port);
        let [a, b, ..] = self.token;
        let key = u16::from_be_bytes([a, b]);
        let id = match (self.port, bytes.as_slice()) {
            // QR: it is a response (RFC 1035 §4.1.1).
            (DNS, [high, low, flags, ..]) if flags & 0x80 != 0 => u16::from_be_bytes([*high, *low]) ^ key,
            (DNS, _) => return Ok(None),
            // An echo service sends the probe back.
            (_, [high, low, rest @ ..]) if rest.starts_with(&self.token) => {
                u16::from_be_bytes([*high, *low]) ^ key
            }
            _ => return Ok(None),
        };
        let known = self.sent.get(usize::from(id)).is_some_and(|(size, _)| *size > 0);
        let answer = Answer::reply(None);
        Ok((ours && known).then_some(Event { id, answer }))
    }

    fn receive_error(&mut self) -> io::Result<Option<Event>> {
        let (family, target, port, local) = (self.family, self.target.address, self.port, self.local.port());
        let sent = &self.sent;
        self.icmp.receive(|received| {
            let (answer, quoted) = wire::error(family, received)?;
            let header = UdpPacket::new(quoted.payload)?;
            let ours = quoted.protocol == IpNextHeaderProtocols::Udp
                && quoted.target == target
                && header.get_destination() == port
                && header.get_source() == local;
            let mark = (quoted.size, header.get_checksum());
            let id = sent.iter().position(|probe| *probe == mark).filter(|_| ours)?;
            let answer = match answer {
                Answer::Refused { from, word: Word::Unreachable(code) }
                    if from == target && PORT_UNREACHABLE.contains(&code) =>
                {
                    Answer::reply(received.ttl)
                }
                other => other,
            };
            Some(Event { id: u16::try_from(id).ok()?, answer })
        })
    }
}

impl Transport for UdpProbe {
    fn method(&self) -> Method {
        Method::Udp
    }

    fn send(&mut self, probe: Probe) -> Option<Event> {
        let datagram = self.datagram(probe);
        let checksum = UdpPacket::new(&datagram).map_or(0, |packet| packet.get_checksum());
        let at = usize::from(probe.id);
        if self.sent.len() <= at {
            self.sent.resize(at + 1, (0, 0));
        }
        if let Some(slot) = self.sent.get_mut(at) {
            *slot = (probe.size, checksum);
        }
        not_sent(probe.id, &self.transmit(probe, &datagram).err()?)
    }

    fn receive(&mut self) -> Option<Event> {
        // Bounded: a flood of strangers' packets must not keep us from the clock.
        for _ in 0..512 {
            match self.receive_error() {
                Ok(Some(event)) => return Some(event),
                Ok(None) => continue,
                Err(_) => {}
            }
            match self.receive_datagram() {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(_) => return None,
            }
        }
        None
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.icmp.as_fd(), self.holder.as_fd()]
    }
}

/// A bound socket and the address that the kernel sends from.
fn open_holder(target: Target) -> io::Result<(Socket, SocketAddr)> {
    let source = source_address(target)?;
    let domain = if source.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    make_room(&socket)?;
    // A PTB that quotes this socket's port is not cached (`ip_sk_accept_pmtu`, net/ipv4/route.c).
    if target.address.is_ipv4() {
        option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, PMTUDISC_INTERFACE)?;
    } else {
        option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, PMTUDISC_INTERFACE)?;
        option(&socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
    }
    let scope =
        if matches!(source, IpAddr::V6(a) if a.is_unicast_link_local()) { target.scope_id } else { 0 };
    let bind: SocketAddr = match source {
        IpAddr::V4(address) => SocketAddr::new(address.into(), 0),
        IpAddr::V6(address) => SocketAddrV6::new(address, 0, 0, scope).into(),
    };
    socket.bind(&bind.into())?;
    let local = socket.local_addr()?.as_socket().unwrap_or(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0));
    Ok((socket, local))
}

/// Id and token, then zeros.
fn marked(id: u16, token: [u8; 8], length: usize) -> Vec<u8> {
    let mut payload = [&id.to_be_bytes()[..], &token].concat();
    payload.resize(length, 0);
    payload
}

/// A question for the name servers of the root, padded to `length` bytes: EDNS (RFC 6891) with the padding
/// option (RFC 7830).
fn question(id: u16, length: usize) -> Vec<u8> {
    let padding = length.saturating_sub(32);
    let mut payload = id.to_be_bytes().to_vec();
    // A standard query, recursion desired; one question, one additional record.
    payload.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1]);
    // The root, NS, IN.
    payload.extend([0, 0, 2, 0, 1]);
    // OPT: answers of up to 1232 bytes are taken.
    payload.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0]);
    payload.extend(u16::try_from(padding + 4).unwrap_or(u16::MAX).to_be_bytes());
    payload.extend([0, 12]);
    payload.extend(u16::try_from(padding).unwrap_or(u16::MAX).to_be_bytes());
    payload.resize(length, 0);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_question_is_one_and_has_its_length() {
        for length in [32, 33, 500, 1472] {
            let bytes = question(7, length);
            assert_eq!(bytes.len(), length);
            let packet = simple_dns::Packet::parse(&bytes).unwrap();
            assert_eq!(packet.id(), 7);
            assert_eq!(packet.questions.len(), 1);
            assert_eq!(packet.opt().unwrap().udp_packet_size, 1232);
        }
    }

    #[test]
    fn a_probe_for_another_port_carries_its_id_and_the_token() {
        let bytes = marked(0x0102, *b"nsprobe!", 32);
        assert_eq!(bytes.len(), 32);
        assert!(bytes.starts_with(b"\x01\x02nsprobe!"));
    }
}
