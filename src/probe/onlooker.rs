//! Who looks on while answers are awaited.

use super::error::ProbeError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How often is told that it takes time.
const TICK: Duration = Duration::from_millis(250);

/// A wait that is not slept through: a processor that has gone to sleep takes as long to wake up.
const SHORT: Duration = Duration::from_micros(200);

/// Who looks on while answers are awaited: what ends a wait early, and who is told that it takes long.
#[derive(Clone, Copy, Default)]
pub struct Onlooker<'a> {
    /// Readable once the user ends it.
    pub stop: Option<BorrowedFd<'a>>,
    /// Called a few times a second.
    pub tell: Option<&'a (dyn Fn() + Sync)>,
}

impl std::fmt::Debug for Onlooker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Onlooker").field("stop", &self.stop).finish_non_exhaustive()
    }
}

impl Onlooker<'_> {
    /// Waits for answers or the user's end: (answers wait, ended). At most `rest`, and no longer than until it is time
    /// to tell: who waits for more asks again.
    ///
    /// # Errors
    /// [`ProbeError::Wait`].
    pub(super) fn wait(self, answers: &[BorrowedFd<'_>], rest: Duration) -> Result<(bool, bool), ProbeError> {
        self.wait_for(answers, PollFlags::IN, rest)
    }

    /// Sleeps; true: the user ended it.
    ///
    /// # Errors
    /// [`ProbeError::Wait`].
    pub fn sleep(self, rest: Duration) -> Result<bool, ProbeError> {
        Ok(self.wait_all(&[], PollFlags::IN, rest)?.1)
    }

    /// The same until all of `rest` is over, and for other reasons to wake than something to read.
    ///
    /// # Errors
    /// [`ProbeError::Wait`].
    pub(super) fn wait_all(
        self,
        answers: &[BorrowedFd<'_>],
        flags: PollFlags,
        rest: Duration,
    ) -> Result<(bool, bool), ProbeError> {
        let end = Instant::now() + rest;
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            let came = self.wait_for(answers, flags, rest)?;
            if rest.is_zero() || came != (false, false) {
                return Ok(came);
            }
        }
    }

    fn wait_for(
        self,
        answers: &[BorrowedFd<'_>],
        flags: PollFlags,
        rest: Duration,
    ) -> Result<(bool, bool), ProbeError> {
        let tick = self.tell.filter(|_| rest > TICK);
        let rest = if tick.is_some() { TICK } else { rest };
        let answering = answers.iter().map(|&fd| PollFd::from_borrowed_fd(fd, flags));
        let ending = self.stop.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let mut fds: Vec<_> = answering.chain(ending).collect();
        let end = Instant::now() + rest;
        let at_once = rest <= SHORT;
        let rest = Timespec {
            tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(rest.subsec_nanos()),
        };
        let rest = if at_once { Timespec::default() } else { rest };
        loop {
            match poll(&mut fds, Some(&rest)) {
                Ok(0) if at_once && Instant::now() < end => continue,
                Ok(0) => tick.into_iter().for_each(|tell| tell()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(ProbeError::Wait(error.into())),
            }
            break;
        }
        let (answers, stop) = fds.split_at(answers.len());
        let ready = |fds: &[PollFd<'_>]| fds.iter().any(|f| !f.revents().is_empty());
        Ok((ready(answers), ready(stop)))
    }
}
