//! The loop between the search, the socket and the clock.

use super::icmp::{Echo, ProbeError};
use super::search::{Search, Step};
use crate::facts::PathResult;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Runs a search to its end. When `stop` becomes readable it ends early with what is known.
///
/// # Errors
/// [`ProbeError::Wait`].
pub fn drive(
    search: &mut Search,
    echo: &mut Echo,
    stop: Option<BorrowedFd<'_>>,
) -> Result<PathResult, ProbeError> {
    let start = Instant::now();
    loop {
        match search.poll(start.elapsed()) {
            Step::Done => return Ok(search.result()),
            Step::Send(probe) => {
                if let Some(refused) = echo.send(probe) {
                    search.on_event(refused, start.elapsed());
                }
            }
            Step::Wait(until) => {
                let rest = until.saturating_sub(start.elapsed());
                let (answers, stopped) = wait(echo.as_fd(), stop, rest)?;
                if stopped {
                    search.interrupt(start.elapsed());
                }
                if answers {
                    while let Some(event) = echo.receive() {
                        search.on_event(event, start.elapsed());
                    }
                }
            }
        }
    }
}

/// Waits for answers or the stop signal, at most `rest`: (answers wait, stopped).
fn wait(
    fd: BorrowedFd<'_>,
    stop: Option<BorrowedFd<'_>>,
    rest: Duration,
) -> Result<(bool, bool), ProbeError> {
    let mut fds = vec![PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    fds.extend(stop.map(|stop| PollFd::from_borrowed_fd(stop, PollFlags::IN)));
    let rest = Timespec {
        tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(rest.subsec_nanos()),
    };
    match poll(&mut fds, Some(&rest)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(ProbeError::Wait(error.into())),
    }
    let ready = |at: usize| fds.get(at).is_some_and(|f| !f.revents().is_empty());
    Ok((ready(0), ready(1)))
}
