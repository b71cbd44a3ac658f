//! What is said on standard error while targets do not answer.

use super::Context;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often is looked whether a second is over.
const TICK: Duration = Duration::from_millis(250);

/// Searches that may take long.
pub(super) struct Progress<'a> {
    context: &'a Context,
    targets: String,
    start: Instant,
    deadline: Duration,
    /// Seconds after which was told last.
    told: AtomicU64,
}

impl<'a> Progress<'a> {
    /// Of searches that begin now.
    pub(super) fn new(targets: &[&str], deadline: Duration, context: &'a Context) -> Self {
        Self { context, targets: few(targets), start: Instant::now(), deadline, told: AtomicU64::new(0) }
    }

    /// Whether anybody wants to know.
    pub(super) fn wanted(&self) -> bool {
        !self.context.json() && !self.context.global.quiet
    }

    /// A line a second, once a second is over.
    pub(super) fn tell(&self) {
        let seconds = self.start.elapsed().as_secs();
        let left = self.deadline.saturating_sub(self.start.elapsed());
        if !left.is_zero() && self.told.fetch_max(seconds, Ordering::Relaxed) < seconds {
            let left = left.as_secs().max(1);
            self.context.note(&format!("waiting for answers of {} (at most {left} s more)", self.targets));
        }
    }

    /// Tells while `work` is done that tells nothing itself.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        if !self.wanted() {
            return work();
        }
        let (done, over) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while over.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    self.tell();
                }
            });
            let found = work();
            drop(done);
            found
        })
    }
}

/// The first few of these, and how many more there are.
pub(super) fn few(what: &[&str]) -> String {
    let mut text = what.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    if what.len() > 3 {
        text.push_str(&format!(" and {} more", what.len() - 3));
    }
    text
}
