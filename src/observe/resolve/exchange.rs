//! Questions to one name server over UDP, and over TCP when an answer does not fit.
//!
//! Runs on a thread inside the pod's namespace. UDP sockets are connected: the kernel drops what does not
//! come from the server's address and port, and tells when nobody listens.

use super::config::Server;
use super::message::{Family, Reply, parse_reply, question};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// The port of RFC 1035 §4.2.
const PORT: u16 = 53;

/// Whoever can ask a name server: the network, or a test.
pub(super) trait Ask {
    /// Asks for all families at once and waits at most `wait`. Families without an answer are left out;
    /// when none is answered that is a `TimedOut` error.
    fn ask(
        &mut self,
        server: &Server,
        name: &str,
        families: &[Family],
        wait: Duration,
    ) -> io::Result<Vec<(Family, Reply)>>;
}

/// The network of the namespace that this thread is in.
pub(super) struct Network;

impl Ask for Network {
    fn ask(
        &mut self,
        server: &Server,
        name: &str,
        families: &[Family],
        wait: Duration,
    ) -> io::Result<Vec<(Family, Reply)>> {
        let end = Instant::now() + wait;
        let target = socket_address(server)?;
        let mut open = Vec::new();
        for &family in families {
            let id = random_id()?;
            let bytes = question(id, name, family)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a host name"))?;
            open.push((family, id, bytes));
        }
        let any: IpAddr =
            if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(target)?;
        for (_, _, bytes) in &open {
            socket.send(bytes)?;
        }
        let mut replies = Vec::new();
        let mut buffer = [0; 4096];
        while !open.is_empty() {
            let received = match left_until(end).and_then(|left| {
                socket.set_read_timeout(Some(left))?;
                socket.recv(&mut buffer)
            }) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Half an answer is better than none: some servers drop AAAA questions.
                Err(_) if !replies.is_empty() => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            };
            let bytes = buffer.get(..received).unwrap_or_default();
            let found = open
                .iter()
                .enumerate()
                .find_map(|(at, (family, id, _))| Some((at, parse_reply(bytes, *id, name, *family)?)));
            // Anything else that arrives is not an answer to us: forged, late or garbage.
            let Some((at, mut reply)) = found else { continue };
            let (family, id, bytes) = open.swap_remove(at);
            if reply == Reply::Truncated {
                reply = over_tcp(target, &bytes, end)
                    .ok()
                    .and_then(|answer| parse_reply(&answer, id, name, family))
                    .unwrap_or(Reply::Failed("a truncated answer, and none over TCP"));
            }
            replies.push((family, reply));
        }
        Ok(replies)
    }
}

/// Source: RFC 1035 §4.2.2, RFC 7766.
pub(super) fn over_tcp(target: SocketAddr, question: &[u8], end: Instant) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&target, left_until(end)?)?;
    stream.set_write_timeout(Some(left_until(end)?))?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    read_until(&mut stream, &mut length, end)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    read_until(&mut stream, &mut answer, end)?;
    Ok(answer)
}

/// Fills the buffer, however slowly the bytes drip, or fails at `end`.
fn read_until(stream: &mut TcpStream, mut buffer: &mut [u8], end: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left_until(end)?))?;
        match stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => buffer = buffer.get_mut(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) fn left_until(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// An id that nobody outside can guess (RFC 5452 §9.2); the kernel picks the port.
pub(super) fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes))
}

/// The socket address of a server; the interface of a link-local one is looked up in this namespace.
pub(super) fn socket_address(server: &Server) -> io::Result<SocketAddr> {
    Ok(match (server.address, &server.zone) {
        (IpAddr::V6(address), Some(zone)) => {
            SocketAddr::V6(SocketAddrV6::new(address, PORT, 0, interface_index(zone)?))
        }
        (address, _) => SocketAddr::new(address, PORT),
    })
}

/// The index of an interface of the namespace that this thread is in, by name or number.
pub(super) fn interface_index(zone: &str) -> io::Result<u32> {
    match zone.parse() {
        Ok(index) => Ok(index),
        Err(_) => Ok(nix::net::if_::if_nametoindex(zone)?),
    }
}
