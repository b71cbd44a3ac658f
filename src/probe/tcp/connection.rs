//! A connection that the kernel makes, whose sequence numbers are read, and on which nothing is written.

use crate::probe::error::ProbeError;
use crate::probe::onlooker::Onlooker;
use crate::probe::socket::option;
use rustix::event::PollFlags;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// Values of `TCP_REPAIR`, linux/tcp.h: `TCP_REPAIR_OFF_NO_WP` (Linux 4.19) leaves without a window probe.
const REPAIR_ON: i32 = 1;
const REPAIR_OFF: i32 = 0;
const REPAIR_OFF_NO_WP: i32 = -1;
/// Values of `TCP_REPAIR_QUEUE`, linux/tcp.h.
const RECEIVE_QUEUE: i32 = 1;
const SEND_QUEUE: i32 = 2;
/// `TCP_ESTABLISHED`, net/tcp_states.h.
const ESTABLISHED: u8 = 1;
/// Bits of `tcpi_options`, linux/tcp.h.
const OPTION_TIMESTAMPS: u8 = 1;
const OPTION_SACK: u8 = 2;
/// Where `struct tcp_info` of linux/tcp.h holds `tcpi_options` and `tcpi_rtt` (microseconds).
const INFO_OPTIONS: usize = 5;
const INFO_RTT: usize = 68;
/// What is read of it.
const INFO_LENGTH: usize = 72;
/// What a peer may still say after our FIN, bytes; what it says is thrown away.
const LAST_WORDS: usize = 1 << 20;
/// How long its FIN is waited for, beyond two round trips.
const GOODBYE: Duration = Duration::from_millis(100);

/// What the kernel knows of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    /// The next byte that we would send.
    pub(super) send_next: u32,
    /// The next byte that we expect.
    pub(super) receive_next: u32,
    /// SACK was agreed on (RFC 2018).
    pub(super) sack: bool,
    /// Our clock for RFC 7323, and when it was read, where timestamps were agreed on. Milliseconds.
    pub(super) timestamps: Option<(u32, Instant)>,
    /// Round trip of the handshake.
    pub(super) rtt: Duration,
}

/// How connecting ended.
#[derive(Debug)]
pub(super) enum Connected {
    /// The connection stands.
    Open(Connection),
    /// Nobody listens: a RST, or an ICMP port-unreachable.
    Refused,
    /// It stood, and the peer reset it.
    Ended,
}

/// An established connection; closed in order when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    /// When our FIN was sent.
    left: Option<Instant>,
    pub(super) local: SocketAddr,
    pub(super) numbers: Numbers,
}

/// A socket to connect with, of the namespace that the calling thread is in.
pub(super) fn open_socket(address: IpAddr) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Connection {
    /// Connects `socket` within `timeout` and reads the connection's numbers.
    ///
    /// # Errors
    /// [`ProbeError::ConnectTimeout`], [`ProbeError::Interrupted`], [`ProbeError::Connect`], [`ProbeError::NoRepair`].
    pub(super) fn open(
        socket: Socket,
        to: &SocketAddr,
        timeout: Duration,
        onlooker: Onlooker<'_>,
    ) -> Result<Connected, ProbeError> {
        let port = to.port();
        let failed = |source| ProbeError::Connect { port, source };
        let started = Instant::now();
        socket.set_tcp_nodelay(true).map_err(failed)?;
        let ended = match socket.connect(&SockAddr::from(*to)) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                match onlooker.wait_all(&[socket.as_fd()], PollFlags::OUT, timeout)? {
                    (true, _) => {}
                    (false, true) => return Err(ProbeError::Interrupted { port }),
                    (false, false) => return Err(ProbeError::ConnectTimeout { port, after: timeout }),
                }
                socket.take_error().map_err(failed)?
            }
            result => result.err(),
        };
        match ended {
            None => {}
            Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(Connected::Refused),
            // It stood, and the peer reset it at once.
            Some(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Connected::Ended),
            Some(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(ProbeError::ConnectTimeout { port, after: started.elapsed() });
            }
            Some(source) => return Err(failed(source)),
        }
        let handshake = started.elapsed();
        let local = socket.local_addr().map_err(failed)?.as_socket();
        let local = local.ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
        let numbers = read_numbers(&socket, handshake).map_err(ProbeError::NoRepair)?;
        Ok(Connected::Open(Self { socket, left: None, local, numbers }))
    }

    /// Whether neither side has ended it: `tcpi_state`, the first byte of `struct tcp_info`.
    pub(super) fn stands(&self) -> bool {
        let mut state = [0u8; 1];
        read_option(&self.socket, libc::TCP_INFO, &mut state).is_ok() && state == [ESTABLISHED]
    }

    /// Sends our FIN; the peer has until the drop to send its own.
    pub(super) fn leave(&mut self) {
        if self.left.is_none() && self.socket.shutdown(Shutdown::Write).is_ok() {
            self.left = Some(Instant::now());
        }
    }
}

impl Drop for Connection {
    /// FIN, and the peer's FIN. What it sent unasked (a greeting) is read first: a socket closed with unread
    /// bytes says RST, which an application would log.
    fn drop(&mut self) {
        self.leave();
        // Where no FIN can be sent the peer has ended it.
        let Some(left) = self.left else { return };
        let end = left + GOODBYE + self.numbers.rtt.min(Duration::from_secs(1)) * 2;
        let mut buffer = [0u8; 4096];
        let mut heard = 0;
        while heard < LAST_WORDS {
            match self.socket.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => heard += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let rest = end.saturating_duration_since(Instant::now());
                    let said = || Onlooker::default().wait(&[self.socket.as_fd()], rest);
                    if rest.is_zero() || !matches!(said(), Ok((true, _))) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }
}

/// Repair mode, left again whatever happens: a socket closed inside it would vanish without a FIN.
struct Repair<'a>(&'a Socket);

impl<'a> Repair<'a> {
    fn enter(socket: &'a Socket) -> io::Result<Self> {
        option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_ON)?;
        Ok(Self(socket))
    }

    /// Next sequence number of a queue: `TCP_QUEUE_SEQ`, net/ipv4/tcp.c.
    fn sequence(&self, queue: i32) -> io::Result<u32> {
        option(self.0, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, queue)?;
        read_u32(self.0, libc::TCP_QUEUE_SEQ)
    }
}

impl Drop for Repair<'_> {
    fn drop(&mut self) {
        if option(self.0, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_OFF_NO_WP).is_err() {
            // Before Linux 4.19: leaving sends one empty segment, which does no harm.
            let _ = option(self.0, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_OFF);
        }
    }
}

fn read_numbers(socket: &Socket, handshake: Duration) -> io::Result<Numbers> {
    let mut info = [0u8; INFO_LENGTH];
    read_option(socket, libc::TCP_INFO, &mut info)?;
    let agreed = info.get(INFO_OPTIONS).copied().unwrap_or(0);
    let rtt = info.get(INFO_RTT..).and_then(|bytes| bytes.first_chunk()).copied().map(u32::from_ne_bytes);
    let rtt = rtt.filter(|rtt| *rtt > 0).map_or(handshake, |rtt| Duration::from_micros(rtt.into()));
    let timestamps = if agreed & OPTION_TIMESTAMPS == 0 {
        None
    } else {
        // The lowest bit is no time, it says whether the clock counts microseconds (Linux 6.7). Set, the value
        // is never behind what was sent already, which the peer would refuse (RFC 7323 §5.3).
        Some((read_u32(socket, libc::TCP_TIMESTAMP)? | 1, Instant::now()))
    };
    let repair = Repair::enter(socket)?;
    Ok(Numbers {
        send_next: repair.sequence(SEND_QUEUE)?,
        receive_next: repair.sequence(RECEIVE_QUEUE)?,
        sack: agreed & OPTION_SACK != 0,
        timestamps,
        rtt,
    })
}

fn read_u32(socket: &Socket, name: i32) -> io::Result<u32> {
    let mut value = [0u8; 4];
    read_option(socket, name, &mut value)?;
    Ok(u32::from_ne_bytes(value))
}

/// Reads a TCP option into all of `value`.
fn read_option(socket: &Socket, name: i32, value: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, which is what `value` holds; both live through the call.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            name,
            value.as_mut_ptr().cast::<libc::c_void>(),
            &raw mut length,
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
