//! The loop between the search, the socket and the clock.

use super::error::ProbeError;
use super::search::{Search, Step};
use super::transport::Transport;
use crate::facts::{Method, PathResult, Reverse, ReverseVerdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Runs a search to its end. When `stop` becomes readable it ends early with what is known.
///
/// # Errors
/// [`ProbeError::Wait`].
pub fn drive(
    search: &mut Search,
    transport: &mut dyn Transport,
    stop: Option<BorrowedFd<'_>>,
) -> Result<PathResult, ProbeError> {
    let start = Instant::now();
    loop {
        match search.poll(start.elapsed()) {
            Step::Done => return Ok(result(search, transport.method())),
            step @ (Step::Send(probe) | Step::Scout(probe)) => {
                let scout = matches!(step, Step::Scout(_));
                let refused = if scout { transport.scout(probe) } else { transport.send(probe) };
                if let Some(refused) = refused {
                    search.on_event(refused, start.elapsed());
                }
                // On a short path the first answers come while the flight still leaves, and spare its rest.
                while let Some(event) = transport.receive() {
                    search.on_event(event, start.elapsed());
                }
            }
            Step::Wait(until) => {
                let rest = until.saturating_sub(start.elapsed());
                let (answers, stopped) = wait(&transport.fds(), stop, rest)?;
                if stopped {
                    search.interrupt(start.elapsed());
                }
                if answers {
                    while let Some(event) = transport.receive() {
                        search.on_event(event, start.elapsed());
                    }
                }
            }
        }
    }
}

/// Only an echo reply is as large as its request: other answers say nothing of the way back.
fn result(search: &Search, method: Method) -> PathResult {
    let found = search.result();
    let reverse = match method {
        Method::Icmp => found.reverse,
        Method::Tcp | Method::Udp => Reverse { verdict: ReverseVerdict::Unknown, limit_bytes: None },
    };
    PathResult { method, reverse, ..found }
}

/// Waits for answers or the stop signal, at most `rest`: (answers wait, stopped).
pub(super) fn wait(
    answers: &[BorrowedFd<'_>],
    stop: Option<BorrowedFd<'_>>,
    rest: Duration,
) -> Result<(bool, bool), ProbeError> {
    let all = answers.iter().copied().chain(stop);
    let mut fds: Vec<_> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let rest = Timespec {
        tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(rest.subsec_nanos()),
    };
    match poll(&mut fds, Some(&rest)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(ProbeError::Wait(error.into())),
    }
    let (answers, stop) = fds.split_at(answers.len());
    let ready = |fds: &[PollFd<'_>]| fds.iter().any(|f| !f.revents().is_empty());
    Ok((ready(answers), ready(stop)))
}
