//! SIGINT and SIGTERM as a file descriptor: loops poll it beside their sockets, and clean up.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Whether one of them was ready within `time`.
fn any(fds: &mut [PollFd<'_>], time: Duration) -> bool {
    let time = Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    poll(fds, Some(&time)).is_ok_and(|ready| ready > 0)
}

/// Signals that end a command in an orderly way. Readable once one has come; rooms poll it and never read.
#[derive(Debug)]
pub(super) struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals in this thread and every thread it starts from now on.
    pub(super) fn catch(signals: &[Signal]) -> nix::Result<Self> {
        let mut set = SigSet::empty();
        signals.iter().for_each(|&s| set.add(s));
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
        Ok(Self { fd: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)? })
    }

    /// SIGINT and SIGTERM.
    pub(super) fn end() -> nix::Result<Self> {
        Self::catch(&[Signal::SIGINT, Signal::SIGTERM])
    }

    /// Waits for `time`; true as soon as a signal has come.
    pub(super) fn wait(&self, time: Duration) -> bool {
        any(&mut [PollFd::new(&self.fd, PollFlags::IN)], time)
    }

    /// The same; also true once nobody reads standard output any more.
    pub(super) fn wait_for_reader(&self, time: Duration) -> bool {
        let stdout = std::io::stdout();
        // Of a pipe that nobody reads any more the error is told unasked.
        any(&mut [PollFd::new(&self.fd, PollFlags::IN), PollFd::new(&stdout, PollFlags::empty())], time)
    }

    /// The number of the signal that came, if one did.
    pub(super) fn taken(&self) -> Option<u8> {
        let info = self.fd.read_signal().ok().flatten()?;
        u8::try_from(info.ssi_signo).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
