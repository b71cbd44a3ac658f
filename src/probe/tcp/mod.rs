//! TCP as a transport: for paths that filter ICMP.
//!
//! The kernel makes a real connection, on which nothing is ever written. Its sequence numbers are read
//! through `TCP_REPAIR` (tcp(7), net/ipv4/tcp.c), and old data below the window is injected beside it. The
//! peer answers each such segment at once with an ACK whose DSACK names the very range (RFC 2883), so every
//! probe is told apart and the application never sees a byte.
//!
//! Where nobody listens, or where no ranges come back (SACK is off, the application takes the connection
//! only with data, the peer has closed it), the probes are SYNs that carry data: a closed port answers RST, an
//! open one SYN and ACK, which this node's kernel answers with RST. Such a handshake is never completed. The
//! one peer whose application could see the zeros is one with TCP Fast Open without cookies (`tcp_fastopen`
//! 0x200, ip-sysctl).
//!
//! A reset from a port that listens is a firewall's, in its name, and no sign of arrival. From a closed port it is told by
//! its TTL, where the firewall is not as far away as the target: what the smallest probes draw is the target's. Where that
//! is the same it cannot be told apart: the result says so.
//!
//! Both ways measure the forward path only: what comes back is small.

mod connection;
mod segment;
mod tap;
mod way;

use super::error::ProbeError;
use super::onlooker::Onlooker;
use super::search::{Answer, Event, Probe};
use super::socket::IcmpSocket;
use super::transport::{Target, Transport, not_sent};
use super::wire::{self, Family};
use crate::facts::{Method, Word};
use crate::netns::NetNs;
use connection::{Connected, Connection};
use pnet::packet::ip::IpNextHeaderProtocols;
use segment::{Heard, Segment};
use socket2::{SockAddr, Socket};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use tap::Tap;
use way::{Knock, Meaning, OldData, Port};

/// Local ports that SYN probes use in turn: more than one flight holds.
const PORTS: usize = 64;
/// Segments that ask for ranges before the search begins, at most.
const TRIALS: u16 = 4;
/// Bytes of payload of such a segment.
const TRIAL_BYTES: u32 = 8;
/// Messages looked at before the clock is looked at again.
const STRANGERS: usize = 512;

/// What is read of a packet as a TCP segment: the range that its SACK option names first, and its bytes of data.
/// `None`: it is none.
pub fn read_segment(packet: &[u8]) -> Option<(Option<(u32, u32)>, usize)> {
    Heard::read(packet).map(|heard| (heard.block, heard.data))
}

/// How a TCP probe is being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpWay {
    /// Old data on a connection, told apart by DSACK.
    OldData,
    /// SYN with data: the port is closed.
    Closed,
    /// SYN with data: the connection stood, but its ACKs name no ranges.
    NoRanges,
    /// SYN with data since the peer ended the connection.
    Ended,
}

/// A TCP transport to one port of one target.
#[derive(Debug)]
pub struct TcpProbe {
    family: Family,
    target: Target,
    port: u16,
    local: IpAddr,
    netns: NetNs,
    injector: Socket,
    tap: Tap,
    icmp: IcmpSocket,
    way: TcpWay,
    /// Numbers of the connection; kept after its end for answers that are late.
    old_data: Option<OldData>,
    /// Closed in order when this is dropped.
    connection: Option<Connection>,
    knock: Option<Knock>,
    /// What SYNs have shown of the port, or the attempt to connect.
    listens: Option<bool>,
    /// TTLs that the smallest probes' resets came with; more than one where several paths lead back.
    reset_ttls: BTreeSet<u8>,
    /// Hold the local ports of SYN probes.
    held: Vec<Socket>,
    /// Sizes sent, by id; 0: none.
    sizes: Vec<u32>,
}

impl TcpProbe {
    /// Connects to `port` from inside `netns`, within `timeout`, and finds out which way the port can be
    /// asked: one round trip more.
    ///
    /// The kernel sends a lost SYN again after one and after three seconds (RFC 6298 §2): with less than that
    /// the first loss counts as a filtered port.
    ///
    /// # Errors
    /// [`ProbeError::NoRawSocket`] without CAP_NET_RAW and [`ProbeError::NoRepair`] without CAP_NET_ADMIN in
    /// the user namespace of `netns`; [`ProbeError::ConnectTimeout`] when nothing answers,
    /// [`ProbeError::Interrupted`] when the onlooker ends it;
    /// [`ProbeError::Connect`] for anything else. A refused connection is no error.
    pub fn open(
        netns: &NetNs,
        target: Target,
        port: u16,
        timeout: Duration,
        onlooker: Onlooker<'_>,
    ) -> Result<Self, ProbeError> {
        let family = Family::of(target.address);
        let to = target.socket_address(port);
        let failed = |source| ProbeError::Connect { port, source };
        let (injector, icmp) = netns
            .run(|| io::Result::Ok((tap::open_injector(family)?, IcmpSocket::open(family)?)))?
            .map_err(ProbeError::NoRawSocket)?;
        let socket = netns.run(|| connection::open_socket(target.address))?.map_err(failed)?;
        let (connection, otherwise) = match Connection::open(socket, &to, timeout, onlooker)? {
            Connected::Open(connection) => (Some(connection), TcpWay::NoRanges),
            Connected::Refused => (None, TcpWay::Closed),
            Connected::Ended => (None, TcpWay::Ended),
        };
        let local = match &connection {
            Some(connection) => connection.local,
            None => netns.run(|| route_source(&to))?.map_err(failed)?,
        };
        super::socket::take_source(&injector, Some(local.ip()));
        let local_port = if connection.is_some() { local.port() } else { 0 };
        let tap = netns.run(|| Tap::open(local.ip(), local_port))?.map_err(ProbeError::NoRawSocket)?;
        let old_data = connection.as_ref().map(|connection| OldData {
            local_port,
            target_port: port,
            numbers: connection.numbers,
            echo: 0,
            used: 0,
        });
        let mut probe = Self {
            family,
            target,
            port,
            local: local.ip(),
            netns: netns.try_clone().map_err(failed)?,
            injector,
            tap,
            icmp,
            way: TcpWay::OldData,
            old_data,
            connection,
            knock: None,
            listens: None,
            reset_ttls: BTreeSet::new(),
            held: Vec::new(),
            sizes: Vec::new(),
        };
        if probe.connection.is_none() || !probe.ranges_come_back(timeout) {
            probe.knock_instead(otherwise).map_err(failed)?;
        } else if probe.has_ended() {
            // Before the tap could hear it.
            probe.knock_instead(TcpWay::Ended).map_err(failed)?;
        }
        Ok(probe)
    }

    /// Smallest probe, bytes of the whole IP packet: headers, timestamps and one byte.
    pub fn smallest(family: Family) -> u32 {
        Segment::headers(family.ip_header, true) + 1
    }

    /// How the port is being asked at present.
    pub fn way(&self) -> TcpWay {
        self.way
    }

    fn has_ended(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.stands())
    }

    /// From here on SYN probes; the connection gets its FIN.
    fn knock_instead(&mut self, why: TcpWay) -> io::Result<()> {
        let local = SockAddr::from(match self.local {
            IpAddr::V4(address) => SocketAddr::new(address.into(), 0),
            IpAddr::V6(address) => SocketAddrV6::new(address, 0, 0, self.target.scope_id).into(),
        });
        let hold = || {
            let socket = connection::open_socket(self.target.address)?;
            socket.bind(&local)?;
            let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
            Ok((socket, port))
        };
        let hold_all = || (0..PORTS).map(|_| hold()).collect::<io::Result<Vec<_>>>();
        let (held, ports) = self.netns.run(hold_all).map_err(io::Error::other)??.into_iter().unzip();
        let mut base = [0u8; 4];
        // Without randomness a stranger's guess would count a little easier; it is no reason to stop.
        let _ = rustix::rand::getrandom(&mut base, rustix::rand::GetRandomFlags::NONBLOCK);
        self.held = held;
        self.knock = Some(Knock { ports, target_port: self.port, base: u32::from_ne_bytes(base) });
        self.way = why;
        self.listens = (why == TcpWay::Closed).then_some(false);
        if let Some(connection) = &mut self.connection {
            connection.leave();
        }
        Ok(())
    }

    /// Whether the peer's ACKs name the ranges that they are for.
    fn ranges_come_back(&mut self, timeout: Duration) -> bool {
        let Some(OldData { numbers, .. }) = self.old_data else { return false };
        if !numbers.sack {
            return false;
        }
        let patience = (numbers.rtt * 2 + Duration::from_millis(50)).min(timeout);
        let size = Segment::headers(self.family.ip_header, numbers.timestamps.is_some()) + TRIAL_BYTES;
        for id in 0..TRIALS {
            if id > 0 {
                let _ = self.acknowledge_again();
            }
            let _ = self.transmit(Probe { id, size, ttl: None });
            let end = Instant::now() + patience;
            while let Ok(Some(heard)) = self.hear_until(end) {
                match self.old_data.and_then(|old| old.meaning(&heard)) {
                    Some(Meaning::Arrived(seen, TRIAL_BYTES)) if seen <= id => {
                        if let Some(old) = &mut self.old_data {
                            old.used = id + 1;
                            old.echo = heard.timestamp.unwrap_or(0);
                        }
                        return true;
                    }
                    Some(Meaning::NoRange) => break,
                    Some(Meaning::Ended) => return false,
                    _ => {}
                }
            }
        }
        false
    }

    fn hear_until(&mut self, end: Instant) -> io::Result<Option<Heard>> {
        loop {
            match self.tap.hear(Heard::read) {
                Ok(Some(heard)) => return Ok(Some(heard)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let rest = end.saturating_duration_since(Instant::now());
                    if rest.is_zero() {
                        return Ok(None);
                    }
                    Onlooker::default().wait(&[self.tap.as_fd()], rest).map_err(io::Error::other)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes of payload of a probe of `size` bytes, sent as old data or as SYN.
    fn payload(&self, size: u32, syn: bool) -> Option<u32> {
        let timestamps = !syn && self.old_data.is_some_and(|old| old.numbers.timestamps.is_some());
        size.checked_sub(Segment::headers(self.family.ip_header, timestamps))
    }

    fn transmit(&mut self, probe: Probe) -> io::Result<usize> {
        let too_small = || io::Error::from(io::ErrorKind::InvalidInput);
        let length = self.payload(probe.size, self.knock.is_some()).filter(|length| *length > 0);
        let length = length.ok_or_else(too_small)?;
        let segment = match (&self.knock, &self.old_data) {
            (Some(knock), _) => knock.segment(probe.id),
            (None, Some(old)) => old.segment(probe.id, length, Instant::now()),
            (None, None) => return Err(io::ErrorKind::NotConnected.into()),
        };
        self.inject(&segment, probe.ttl.unwrap_or(64), probe.size)
    }

    /// The last ACK of the handshake once more: where it was lost the peer has half a connection, and names
    /// no ranges either. For any other peer it is a duplicate that says nothing.
    fn acknowledge_again(&self) -> io::Result<usize> {
        let Some(old) = &self.old_data else { return Ok(0) };
        let segment = Segment { sequence: old.numbers.send_next, ..old.segment(0, 0, Instant::now()) };
        self.inject(&segment, 64, Segment::headers(self.family.ip_header, segment.timestamps.is_some()))
    }

    fn inject(&self, segment: &Segment, ttl: u8, size: u32) -> io::Result<usize> {
        let packet = segment
            .packet(self.local, self.target.address, ttl, size)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
        let to: SocketAddr = match self.target.address {
            IpAddr::V4(address) => SocketAddr::new(address.into(), 0),
            IpAddr::V6(address) => SocketAddrV6::new(address, 0, 0, self.target.scope_id).into(),
        };
        self.injector.send_to(&packet, &to.into())
    }

    fn size(&self, id: u16) -> Option<u32> {
        self.sizes.get(usize::from(id)).copied().filter(|size| *size > 0)
    }

    /// What a segment answers, if it answers a probe.
    fn judge(&mut self, heard: &Heard) -> Option<Event> {
        let reply = |id| Event { id, answer: Answer::reply(Some(heard.ttl)) };
        if let Some(knock) = &self.knock {
            let length = |id| self.size(id).and_then(|size| self.payload(size, true));
            if let Some((id, port)) = knock.answered(heard, length) {
                return self.knocked(id, port, heard.ttl);
            }
        }
        match self.old_data.as_ref()?.meaning(heard)? {
            Meaning::Arrived(id, length) => {
                if let (Some(old), Some(timestamp)) = (&mut self.old_data, heard.timestamp) {
                    old.echo = timestamp;
                }
                let sent = self.size(id).and_then(|size| self.payload(size, false));
                (sent == Some(length)).then(|| reply(id))
            }
            // A port that still listens can be asked by SYN; when no socket is left, the rest is lost.
            meaning if self.knock.is_none() && (meaning == Meaning::Ended || self.has_ended()) => {
                let _ = self.knock_instead(TcpWay::Ended);
                None
            }
            _ => None,
        }
    }

    /// What an answer to a SYN says, given what others have drawn. A port that listens resets nothing: a firewall does, in its
    /// name. Whether it still listens is for the smallest to say; until then a reset says nothing.
    fn knocked(&mut self, id: u16, port: Port, ttl: u8) -> Option<Event> {
        let smallest = self.sizes.iter().filter(|size| **size > 0).min() == self.sizes.get(usize::from(id));
        if smallest || port == Port::Open {
            self.listens = Some(port == Port::Open);
        }
        if smallest && port == Port::Reset {
            self.reset_ttls.insert(ttl);
        }
        let answer = match (port, self.listens) {
            (Port::Reset, None) => return None,
            (Port::Reset, Some(false)) if self.reset_ttls.is_empty() => return None,
            (Port::Reset, Some(listens)) if listens || !self.reset_ttls.contains(&ttl) => {
                Answer::Refused { from: self.target.address, word: Word::Reset }
            }
            _ => Answer::reply(Some(ttl)),
        };
        Some(Event { id, answer })
    }

    /// What an ICMP message says of a probe, if it quotes one.
    fn judge_error(&mut self) -> io::Result<Option<Event>> {
        let (family, target) = (self.family, self.target.address);
        let found = self.icmp.receive(|received| {
            let (answer, quoted) = wire::error(family, received)?;
            let tcp = quoted.protocol == IpNextHeaderProtocols::Tcp && quoted.target == target;
            let segment = segment::quoted(quoted.payload)?;
            tcp.then_some((answer, quoted.size, segment))
        })?;
        let Some((answer, size, segment)) = found else { return Ok(None) };
        let knocked = self.knock.as_ref().and_then(|knock| knock.quoted(segment));
        let id = knocked.or_else(|| {
            let length = self.payload(size, false)?;
            self.old_data.as_ref()?.quoted(segment, length)
        });
        let ours = id.filter(|id| self.size(*id) == Some(size));
        Ok(ours.map(|id| Event { id, answer }))
    }
}

impl Transport for TcpProbe {
    fn method(&self) -> Method {
        Method::Tcp
    }

    fn send(&mut self, probe: Probe) -> Option<Event> {
        let at = usize::from(probe.id);
        if self.sizes.len() <= at {
            self.sizes.resize(at + 1, 0);
        }
        if let Some(size) = self.sizes.get_mut(at) {
            *size = probe.size;
        }
        not_sent(probe.id, &self.transmit(probe).err()?)
    }

    fn receive(&mut self) -> Option<Event> {
        for _ in 0..STRANGERS {
            let heard = self.tap.hear(Heard::read);
            let event = match heard {
                Ok(heard) => heard.and_then(|heard| self.judge(&heard)),
                Err(_) => match self.judge_error() {
                    Ok(event) => event,
                    Err(_) => return None,
                },
            };
            if event.is_some() {
                return event;
            }
        }
        None
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.tap.as_fd(), self.icmp.as_fd()]
    }

    fn only_resets(&self) -> bool {
        self.listens == Some(false)
    }

    /// Behind the ids of the search, not from the far end: old data far below the window is taken by
    /// firewalls.
    fn burst(&mut self, size: u32, count: u16, gap: Duration, wait: Duration) {
        let first = u16::try_from(self.sizes.len()).unwrap_or(u16::MAX);
        for k in 0..count {
            std::thread::sleep(gap);
            let _ = self.send(Probe { id: first.saturating_add(k), size, ttl: None });
        }
        std::thread::sleep(wait);
        while self.receive().is_some() {}
    }
}

/// The address that this namespace would send from; nothing is sent.
fn route_source(to: &SocketAddr) -> io::Result<SocketAddr> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.local_addr()
}
