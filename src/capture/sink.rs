//! Where bytes go: a file that stays valid to its last packet, or a stream whose reader may be slow or gone.

use super::pcapng::whole_blocks;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Bytes that are gathered before they are written.
const FULL: usize = 256 << 10;
/// What a pipe takes without blocking once it is writable (PIPE_BUF, pipe(7)).
const PIPE_CHUNK: usize = 4096;
/// How long a reader that does not read is waited for once the capture is to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why bytes could not be written.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The reader of the stream has gone.
    #[error("the reader has gone")]
    ReaderGone,
    /// The reader of the stream does not read, and the capture is to end.
    #[error("the reader does not read: {lost_bytes} bytes were not written")]
    Stalled {
        /// Bytes that were left.
        lost_bytes: usize,
    },
    /// Anything else: no space, a quota, an I/O error. The file is cut after its last whole packet.
    #[error("{source}")]
    Io {
        /// The kernel's word.
        source: io::Error,
        /// Packets that were waiting to be written and are lost.
        lost_packets: u64,
    },
}

impl From<io::Error> for SinkError {
    /// An error before any packet was handed to the kernel.
    fn from(source: io::Error) -> Self {
        Self::Io { source, lost_packets: 0 }
    }
}

/// What ends a capture from outside: a signal's file descriptor, and a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Halt<'a> {
    /// Readable once the capture is to end; never read here.
    pub(super) stop: BorrowedFd<'a>,
    /// When it ends by itself.
    pub(super) deadline: Option<Instant>,
}

impl Halt<'_> {
    /// Whether it is time to end.
    pub(super) fn reached(&self) -> bool {
        if self.deadline.is_some_and(|d| Instant::now() >= d) {
            return true;
        }
        let mut fds = [PollFd::new(self.stop, PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A plain file: cut after its last whole block when it cannot grow.
    Plain,
    /// Non-blocking, by an open file description of our own.
    NonBlocking,
    /// Shared with others, so it cannot be made non-blocking: written in pieces that do not block.
    Chunked,
    /// A socket, written with MSG_DONTWAIT.
    Socket,
}

/// An output with its buffer.
#[derive(Debug)]
pub struct Sink {
    file: File,
    kind: Kind,
    /// Whether it carries pcapng blocks.
    blocks: bool,
    buffer: Vec<u8>,
}

impl Sink {
    /// A capture file.
    pub fn file(file: File) -> io::Result<Self> {
        Self::new(file, true)
    }

    /// An open stream such as standard output. Its flags are left alone, for others share them: a pipe is
    /// opened anew, a socket is asked not to block. `blocks`: it will carry pcapng, not text.
    pub fn stream(fd: BorrowedFd<'_>, blocks: bool) -> io::Result<Self> {
        Self::new(File::from(fd.try_clone_to_owned()?), blocks)
    }

    fn new(file: File, blocks: bool) -> io::Result<Self> {
        let kind = file.metadata()?.file_type();
        let (file, kind) = if kind.is_file() {
            (file, Kind::Plain)
        } else if kind.is_socket() {
            (file, Kind::Socket)
        } else {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
            match File::options().write(true).custom_flags(flags).open(path) {
                Ok(own) => (own, Kind::NonBlocking),
                Err(_) => (file, Kind::Chunked),
            }
        };
        Ok(Self { file, kind, blocks, buffer: Vec::with_capacity(FULL + (64 << 10)) })
    }

    /// Whether somebody may read while it is written.
    pub(super) fn is_stream(&self) -> bool {
        self.kind != Kind::Plain
    }

    /// Bytes that wait to be written.
    #[inline]
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether enough waits to be worth a write.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= FULL
    }

    /// Writes everything that waits. `halt`: a reader that does not read is left alone once it is reached.
    ///
    /// # Errors
    /// [`SinkError`]; a plain file then ends after its last whole block.
    pub(super) fn flush(&mut self, halt: Halt<'_>) -> Result<(), SinkError> {
        let mut done = 0;
        let mut give_up: Option<Instant> = None;
        let result = loop {
            let rest = self.buffer.get(done..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match self.write_some(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if give_up.is_none() && halt.reached() {
                        give_up = Some(Instant::now() + PATIENCE);
                    }
                    if give_up.is_some_and(|t| Instant::now() >= t) {
                        let lost_bytes = rest.len();
                        self.buffer.clear();
                        return Err(SinkError::Stalled { lost_bytes });
                    }
                    self.wait(halt, give_up.is_some());
                }
                Err(e) => break Err(e),
            }
        };
        let lost_packets = if result.is_err() { self.cut(done) } else { 0 };
        self.buffer.clear();
        result.map_err(|source: io::Error| match source.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => SinkError::ReaderGone,
            _ => SinkError::Io { source, lost_packets },
        })
    }

    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.kind {
            Kind::Plain | Kind::NonBlocking => (&self.file).write(bytes),
            Kind::Socket => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                Ok(send(self.file.as_raw_fd(), bytes, flags)?)
            }
            Kind::Chunked => {
                let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
                if poll(&mut fds, PollTimeout::ZERO)? == 0 {
                    return Err(Errno::EAGAIN.into());
                }
                (&self.file).write(bytes.get(..PIPE_CHUNK).unwrap_or(bytes))
            }
        }
    }

    /// Waits for room, or for the halt unless it is already `halted`; at most 100 ms.
    fn wait(&self, halt: Halt<'_>, halted: bool) {
        let out = PollFd::new(self.file.as_fd(), PollFlags::POLLOUT);
        let stop = PollFd::new(halt.stop, PollFlags::POLLIN);
        let mut fds = [out, stop];
        // An error shows at the next write.
        let _ = poll(if halted { fds.split_at_mut(1).0 } else { &mut fds }, 100u8);
    }

    /// Cuts a plain file behind the last whole block of the `written` bytes of the buffer, and counts the
    /// packets that are not in it.
    fn cut(&mut self, written: usize) -> u64 {
        if !self.blocks {
            return 0;
        }
        let (_, all) = whole_blocks(&self.buffer);
        let (keep, kept) = whole_blocks(self.buffer.get(..written).unwrap_or_default());
        if self.kind == Kind::Plain
            && let Some(partial) = u64::try_from(written - keep).ok().filter(|&p| p > 0)
            && let Ok(end) = self.file.stream_position()
        {
            let end = end.saturating_sub(partial);
            // The space for it is there; without this the file still reads to its last whole block.
            let _ = self.file.set_len(end);
            let _ = self.file.seek(SeekFrom::Start(end));
        }
        all - kept
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::pcapng::put_packet;
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    fn halt(stop: &OwnedFd) -> Halt<'_> {
        Halt { stop: stop.as_fd(), deadline: None }
    }

    /// Both ends of a pipe; the read end is never readable while the write end is held and silent.
    fn pipe() -> (File, File) {
        let (read, write) = nix::unistd::pipe().unwrap();
        (read.into(), write.into())
    }

    #[test]
    fn everything_arrives_through_a_pipe_smaller_than_the_buffer() {
        let ((mut read, write), (stop, _hold)) = (pipe(), pipe());
        let stop: OwnedFd = stop.into();
        for chunked in [false, true] {
            let mut sink = Sink::stream(write.as_fd(), true).unwrap();
            assert_eq!(sink.kind, Kind::NonBlocking);
            if chunked {
                sink.file = write.try_clone().unwrap();
                sink.kind = Kind::Chunked;
            }
            let data: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
            sink.buffer().extend_from_slice(&data);
            let got = std::thread::scope(|s| {
                let reader = s.spawn(|| {
                    let mut got = vec![0; data.len()];
                    read.read_exact(&mut got).unwrap();
                    got
                });
                sink.flush(halt(&stop)).unwrap();
                reader.join().unwrap()
            });
            assert!(got == data, "chunked: {chunked}");
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_told_from_an_error() {
        let ((read, write), (stop, _hold)) = (pipe(), pipe());
        drop(read);
        let mut sink = Sink::stream(write.as_fd(), true).unwrap();
        sink.buffer().push(1);
        assert!(matches!(sink.flush(halt(&stop.into())), Err(SinkError::ReaderGone)));
    }

    #[test]
    fn a_reader_that_does_not_read_cannot_hold_up_the_end() {
        let ((_read, write), (stop, mut hold)) = (pipe(), pipe());
        hold.write_all(b"x").unwrap();
        let mut sink = Sink::stream(write.as_fd(), true).unwrap();
        sink.buffer().resize(1 << 20, 0);
        let begin = Instant::now();
        assert!(matches!(sink.flush(halt(&stop.into())), Err(SinkError::Stalled { .. })));
        assert!(begin.elapsed() < PATIENCE * 3);
    }

    #[test]
    fn a_socket_is_written_to_without_blocking_it_for_others() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (stop, _hold) = pipe();
        let mut sink = Sink::stream(ours.as_fd(), true).unwrap();
        assert_eq!(sink.kind, Kind::Socket);
        sink.buffer().extend_from_slice(b"hello");
        sink.flush(halt(&stop.into())).unwrap();
        let mut got = [0; 5];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        let flags = nix::fcntl::fcntl(&ours, nix::fcntl::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }

    #[test]
    fn a_cut_at_any_byte_keeps_whole_packets_and_counts_the_lost() {
        for written in 0..=3 * 92 {
            let mut sink = Sink::file(tempfile::tempfile().unwrap()).unwrap();
            (0..3).for_each(|n| put_packet(sink.buffer(), 0, n, 60, &[0; 60], ""));
            assert_eq!(sink.buffer.len(), 3 * 92);
            (&sink.file).write_all(&sink.buffer[..written]).unwrap();
            let whole = written / 92;
            assert_eq!(sink.cut(written), 3 - whole as u64, "{written}");
            assert_eq!(sink.file.metadata().unwrap().len(), 92 * whole as u64, "{written}");
            assert_eq!((&sink.file).stream_position().unwrap(), 92 * whole as u64, "{written}");
        }
    }
}
