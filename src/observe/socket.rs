//! A netlink socket of one namespace: dumps that are complete, and single questions.

use super::ObserveError;
use super::wire::{DONE, ERROR, HEADER, INTERRUPTED, Message, Messages};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkSerializable};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// What a dump begins with: all that a pod has to tell. The kernel allocates each datagram as large as the reader's
/// room, and small ones are much cheaper to it (net/netlink/af_netlink.c `netlink_dump`).
const SMALL_BUFFER: usize = 7 << 10;
/// The kernel fills dump datagrams up to 32 KiB, and more only for an interface with many virtual functions.
const BUFFER: usize = 64 << 10;
/// Beyond this a single datagram is no dump of interfaces any more.
const LARGEST_BUFFER: usize = 4 << 20;
/// A dump that changes under the reader is read again this often.
const TRIES: u32 = 8;
/// The kernel answers at once; this is for a lost datagram.
const PATIENCE: Duration = Duration::from_secs(1);

/// The items of a dump, and how many messages could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dump<T> {
    pub(super) items: Vec<T>,
    pub(super) unreadable: u32,
}

/// What requests are written to and datagrams come from: the kernel, and in tests a script.
pub(super) trait Wire {
    /// Sends requests.
    ///
    /// # Errors
    /// As send(2).
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Appends one datagram to `buffer` as far as its capacity goes; its true size.
    ///
    /// # Errors
    /// As recv(2).
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize>;

    /// Forgets what has not been received yet.
    ///
    /// # Errors
    /// When no descriptor is left.
    fn renew(&mut self) -> io::Result<()>;
}

/// A socket of the kernel's, which belongs to the namespace that its thread was in.
pub(super) struct Kernel {
    socket: Socket,
    protocol: isize,
}

impl Kernel {
    fn open(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        // Before Linux 4.20 there is no strict checking: filters are then applied by the reader alone.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, protocol })
    }
}

impl Wire for Kernel {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send(bytes, 0).map(|_| ())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
        match self.socket.recv(buffer, flags) {
            // Most answers are there before the question's send(2) returns.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let patience =
                    Timespec { tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(1), tv_nsec: 0 };
                poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&patience))?;
                self.socket.recv(buffer, flags)
            }
            received => received,
        }
    }

    fn renew(&mut self) -> io::Result<()> {
        // The thread is still in the same namespace: sockets never outlive their turn.
        *self = Self::open(self.protocol)?;
        Ok(())
    }
}

thread_local! {
    /// The buffer of the thread's last socket: one thread reads many namespaces, one after the other.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Questions over a socket, and dumps that are complete.
pub(super) struct Netlink<W = Kernel> {
    wire: W,
    buffer: Vec<u8>,
    sequence: u32,
}

/// Why one pass over a dump has to be repeated.
enum Again {
    /// It was interrupted by changes, or datagrams were lost.
    Interrupted,
    /// A datagram was larger than the buffer.
    Larger(usize),
}

impl Netlink {
    /// Opens a socket in the namespace of the calling thread.
    ///
    /// # Errors
    /// When no descriptor is left, or a seccomp filter forbids netlink.
    pub(super) fn open(protocol: isize) -> Result<Self, ObserveError> {
        let wire = Kernel::open(protocol).map_err(cannot_open)?;
        let mut buffer = SPARE.take();
        buffer.clear();
        buffer.reserve(SMALL_BUFFER);
        Ok(Self { wire, buffer, sequence: 0 })
    }

    /// A routing socket.
    ///
    /// # Errors
    /// As [`Netlink::open`].
    pub(super) fn route() -> Result<Self, ObserveError> {
        Self::open(NETLINK_ROUTE)
    }

    /// The socket itself, for an ioctl(2) in its namespace.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.wire.socket.as_raw_fd()) }
    }
}

impl<W> Drop for Netlink<W> {
    fn drop(&mut self) {
        if self.buffer.capacity() < BUFFER {
            SPARE.set(std::mem::take(&mut self.buffer));
        }
    }
}

impl<W: Wire> Netlink<W> {
    /// Every message of a dump, read by `parse`: `None` counts as unreadable, an empty list as passed over.
    ///
    /// # Errors
    /// [`ObserveError::Refused`] with the kernel's errno; [`ObserveError::Restless`] when it changed under the
    /// reader each time; [`ObserveError::Io`].
    pub(super) fn dump<I: IntoIterator>(
        &mut self,
        what: &'static str,
        request: &impl NetlinkSerializable,
        mut parse: impl FnMut(&[u8]) -> Option<I>,
    ) -> Result<Dump<I::Item>, ObserveError> {
        for attempt in 0..TRIES {
            let mut dump = Dump { items: Vec::new(), unreadable: 0 };
            let pass = self.pass(what, request, |message| match parse(message.payload) {
                Some(items) => dump.items.extend(items),
                None => dump.unreadable += 1,
            });
            match pass {
                // One item does not fit into a datagram. The kernel learns of more room when an answer is received.
                Err(ObserveError::Refused { source, .. })
                    if source.raw_os_error() == Some(libc::EMSGSIZE) && attempt < 2 =>
                {
                    self.make_room();
                    continue;
                }
                Err(error) => return Err(error),
                Ok(None) => return Ok(dump),
                Ok(Some(Again::Interrupted)) => std::thread::sleep(Duration::from_millis(u64::from(attempt))),
                Ok(Some(Again::Larger(size))) if size <= LARGEST_BUFFER => self.buffer.reserve(size),
                Ok(Some(Again::Larger(_))) => {
                    return Err(ObserveError::Io { what, source: io::ErrorKind::InvalidData.into() });
                }
            }
            // What is left of the dump that was given up stays in the old socket.
            self.wire.renew().map_err(cannot_open)?;
        }
        Err(ObserveError::Restless { what, tries: TRIES })
    }

    /// The first message of the answer to a question that is no dump.
    ///
    /// # Errors
    /// As [`Netlink::dump`].
    pub(super) fn ask<T>(
        &mut self,
        what: &'static str,
        request: &impl NetlinkSerializable,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, ObserveError> {
        self.send(what, request, NLM_F_REQUEST)?;
        loop {
            let size = self.receive(what)?;
            if size > self.buffer.len() && size <= LARGEST_BUFFER {
                // An interface may have hundreds of names. What was cut off is asked for again.
                self.buffer.clear();
                self.buffer.reserve(size);
                self.send(what, request, NLM_F_REQUEST)?;
                continue;
            }
            let wanted = |m: &Message<'_>| m.sequence == self.sequence;
            if let Some(message) = Messages(&self.buffer).find(wanted) {
                if message.kind == ERROR {
                    return Err(refused(what, message.errno().unwrap_or(0)));
                }
                return parse(message.payload).ok_or_else(|| ObserveError::nothing(what));
            }
        }
    }

    /// The first message of the answer to each of many questions, asked a few dozen in one write; `None` where the
    /// kernel refused, or `parse` found nothing.
    ///
    /// # Errors
    /// [`ObserveError::Io`], [`ObserveError::NoAnswer`].
    pub(super) fn ask_all<T>(
        &mut self,
        what: &'static str,
        requests: &[impl NetlinkSerializable],
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<Option<T>>, ObserveError> {
        /// Their answers, of less than 1 KiB with the kernel's own bookkeeping, fit into the smallest receive buffer.
        const AT_ONCE: usize = 64;
        let mut answers = Vec::with_capacity(requests.len());
        for part in requests.chunks(AT_ONCE) {
            let first = self.sequence.wrapping_add(1);
            let mut bytes = Vec::new();
            for request in part {
                self.sequence = self.sequence.wrapping_add(1);
                bytes.extend(serialized(request, self.sequence, NLM_F_REQUEST));
            }
            self.wire.send(&bytes).map_err(|source| ObserveError::Io { what, source })?;
            let start = answers.len();
            answers.resize_with(start + part.len(), || None);
            let mut seen = 0;
            while seen < part.len() {
                self.receive(what)?;
                for message in Messages(&self.buffer) {
                    let Ok(place) = usize::try_from(message.sequence.wrapping_sub(first)) else { continue };
                    let Some(answer) = answers.get_mut(start + place) else { continue };
                    seen += 1;
                    if message.kind != ERROR {
                        *answer = parse(message.payload);
                    }
                }
            }
        }
        Ok(answers)
    }

    fn pass(
        &mut self,
        what: &'static str,
        request: &impl NetlinkSerializable,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<Option<Again>, ObserveError> {
        self.send(what, request, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut interrupted = false;
        let mut datagrams = 0u32;
        loop {
            datagrams += 1;
            if datagrams > 2 {
                self.make_room();
            }
            let size = match self.receive(what) {
                Ok(size) => size,
                Err(ObserveError::Io { source, .. }) if source.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Some(Again::Interrupted));
                }
                Err(error) => return Err(error),
            };
            if size > self.buffer.len() {
                return Ok(Some(Again::Larger(size)));
            }
            for message in Messages(&self.buffer).filter(|m| m.sequence == self.sequence) {
                interrupted |= message.flags & INTERRUPTED != 0;
                match (message.kind, message.errno()) {
                    (DONE | ERROR, Some(errno)) => return Err(refused(what, errno)),
                    (DONE | ERROR, None) => return Ok(interrupted.then_some(Again::Interrupted)),
                    _ => each(&message),
                }
            }
        }
    }

    /// Makes the buffer as large as those of long dumps need it.
    fn make_room(&mut self) {
        self.buffer.clear();
        self.buffer.reserve(BUFFER);
    }

    fn send(
        &mut self,
        what: &'static str,
        request: &impl NetlinkSerializable,
        flags: u16,
    ) -> Result<(), ObserveError> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = serialized(request, self.sequence, flags);
        self.wire.send(&bytes).map_err(|source| ObserveError::Io { what, source })
    }

    /// Reads one datagram into the buffer; its true size, which may be larger than what fitted.
    fn receive(&mut self, what: &'static str) -> Result<usize, ObserveError> {
        loop {
            self.buffer.clear();
            match self.wire.receive(&mut self.buffer) {
                Ok(size) => return Ok(size),
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) if source.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ObserveError::NoAnswer { what, after: PATIENCE });
                }
                Err(source) => return Err(ObserveError::Io { what, source }),
            }
        }
    }
}

/// A request as the kernel takes it; its length is a multiple of 4, so that another may follow.
fn serialized(request: &impl NetlinkSerializable, sequence: u32, flags: u16) -> Vec<u8> {
    let length = HEADER + request.buffer_len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    // struct nlmsghdr; the kernel fills in the sender.
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(request.message_type().to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.resize(length, 0);
    if let Some(payload) = bytes.get_mut(HEADER..) {
        request.serialize(payload);
    }
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn refused(what: &'static str, errno: i32) -> ObserveError {
    ObserveError::Refused { what, source: io::Error::from_raw_os_error(errno) }
}

fn cannot_open(source: io::Error) -> ObserveError {
    ObserveError::Io { what: "cannot open a netlink socket", source }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
