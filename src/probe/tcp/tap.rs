//! Where segments leave and where answers are overheard, beside the kernel's TCP.
//!
//! Neither socket is one of protocol TCP. To a raw IPv4 socket of the protocol that a PTB quotes the kernel
//! hands that PTB, and caches the path MTU for it (`raw_err`, net/ipv4/raw.c); a raw socket of protocol TCP
//! would also get a copy of every segment of the namespace. Sending goes through IPPROTO_RAW, hearing through
//! a packet socket whose filter runs before anything is copied.

use crate::probe::socket::{PMTUDISC_INTERFACE, make_room, option};
use crate::probe::wire::Family;
use nix::sys::socket::{MsgFlags, recv};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Bytes kept of a packet: the longest IPv4 and TCP headers, 60 each, and some.
const KEPT: u32 = 256;

/// Classic BPF, linux/bpf_common.h: load a byte, half word or word; the IPv4 header's length; compare.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const LOAD_BYTE_INDEXED: u16 = 0x50;
const LOAD_HALF_INDEXED: u16 = 0x48;
const INDEX_IPV4_HEADER: u16 = 0xb1;
const IF_EQUAL: u16 = 0x15;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
/// Protocol number of TCP (IANA).
const TCP: u32 = 6;
/// Flags SYN and RST.
const SYN_OR_RST: u32 = 0x06;

/// A raw socket that takes whole IP packets. DF and the interface's MTU hold, the cached path MTU does not.
pub(super) fn open_injector(family: Family) -> io::Result<Socket> {
    let domain = if family.version == 4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    socket.set_nonblocking(true)?;
    make_room(&socket)?;
    if family.version == 4 {
        option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, PMTUDISC_INTERFACE)?;
    } else {
        option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, PMTUDISC_INTERFACE)?;
    }
    Ok(socket)
}

/// Hears the TCP segments that reach `local` and may answer a probe.
#[derive(Debug)]
pub(super) struct Tap {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Tap {
    /// Opens it in the namespace that the calling thread is in. It hears what is sent to `port` of `local`,
    /// and every SYN and RST to `local`. Who sent it does not matter: where the node itself translates a
    /// Service's address, an answer is heard before it is translated back.
    pub(super) fn open(local: IpAddr, port: u16) -> io::Result<Self> {
        let protocol = if local.is_ipv4() { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
        let protocol = u16::try_from(protocol).map_err(io::Error::other)?.to_be();
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(protocol))))?;
        socket.set_nonblocking(true)?;
        socket.attach_filter(&filter(local, port))?;
        make_room(&socket)?;
        let mut tap = Self { socket, buffer: vec![0; usize::try_from(KEPT).unwrap_or(256)] };
        // What came in between the socket and its filter; bounded, and strangers are known as such anyway.
        for _ in 0..4096 {
            if tap.hear(|_| ()).is_err() {
                break;
            }
        }
        Ok(tap)
    }

    /// Hands the next packet that waits, from its IP header on, to `read`.
    ///
    /// # Errors
    /// `WouldBlock` when none waits.
    pub(super) fn hear<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT)?;
        Ok(read(self.buffer.get(..length).unwrap_or_default()))
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One line of the filter before its jumps are known.
enum Line {
    Load(u16, u32),
    /// Goes on when the comparison holds, else drops.
    Need(u16, u32),
    /// Drops when the comparison holds.
    Refuse(u16, u32),
    /// Takes the packet when the comparison holds.
    Take(u16, u32),
}

/// Classic BPF for packets that begin at the IP header.
fn filter(local: IpAddr, port: u16) -> Vec<SockFilter> {
    use Line::{Load, Need, Refuse, Take};
    let mut lines = Vec::new();
    let (half, byte, header) = match local {
        IpAddr::V4(local) => {
            lines.extend([Load(LOAD_BYTE, 9), Need(IF_EQUAL, TCP)]);
            // A later fragment has no ports.
            lines.extend([Load(LOAD_HALF, 6), Refuse(IF_ANY_BIT, 0x1fff)]);
            lines.extend([Load(LOAD_WORD, 16), Need(IF_EQUAL, local.to_bits())]);
            lines.push(Load(INDEX_IPV4_HEADER, 0));
            (LOAD_HALF_INDEXED, LOAD_BYTE_INDEXED, 0)
        }
        IpAddr::V6(local) => {
            lines.extend([Load(LOAD_BYTE, 6), Need(IF_EQUAL, TCP)]);
            for (at, word) in (24..).step_by(4).zip(local.octets().as_chunks::<4>().0) {
                lines.extend([Load(LOAD_WORD, at), Need(IF_EQUAL, u32::from_be_bytes(*word))]);
            }
            (LOAD_HALF, LOAD_BYTE, 40)
        }
    };
    lines.extend([Load(half, header + 2), Take(IF_EQUAL, port.into())]);
    lines.extend([Load(byte, header + 13), Take(IF_ANY_BIT, SYN_OR_RST)]);
    let drop = lines.len();
    let jump = |from: usize, to: usize| u8::try_from(to - from - 1).unwrap_or(u8::MAX);
    let mut program: Vec<SockFilter> = lines
        .into_iter()
        .enumerate()
        .map(|(at, line)| match line {
            Load(code, k) => SockFilter::new(code, 0, 0, k),
            Need(code, k) => SockFilter::new(code, 0, jump(at, drop), k),
            Refuse(code, k) => SockFilter::new(code, jump(at, drop), 0, k),
            Take(code, k) => SockFilter::new(code, jump(at, drop + 1), 0, k),
        })
        .collect();
    program.extend([SockFilter::new(RETURN, 0, 0, 0), SockFilter::new(RETURN, 0, 0, KEPT)]);
    program
}
