//! Many questions at once, each on a thread of its own, and one deadline for all: who is late is left behind.

use super::part::Part;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How often is looked whether a signal has come, and whether progress is due.
const TICK: Duration = Duration::from_millis(50);

/// The threads of one diagnosis.
pub(super) struct Crew {
    sender: Sender<(usize, Part)>,
    receiver: Receiver<(usize, Part)>,
    /// What each unfinished thread is about.
    running: Vec<(usize, String)>,
    started: usize,
    end: Instant,
}

/// What came out of waiting.
pub(super) enum Came {
    /// A part.
    Part(Box<Part>),
    /// Nothing yet.
    Tick,
    /// Everything is done, or the time is up.
    End,
}

impl Crew {
    pub(super) fn new(end: Instant) -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver, running: Vec::new(), started: 0, end }
    }

    /// Starts one; `what` is told when it is late. A thread that cannot be started is one that never ends.
    pub(super) fn start(&mut self, what: impl Into<String>, work: impl FnOnce() -> Part + Send + 'static) {
        let id = self.started;
        self.started += 1;
        self.running.push((id, what.into()));
        let sender = self.sender.clone();
        // Nobody waits any more when the deadline has passed.
        let _ = std::thread::Builder::new().name("diagnose".into()).spawn(move || {
            let _ = sender.send((id, work()));
        });
    }

    /// Waits for the next part, at most a tick.
    pub(super) fn next(&mut self) -> Came {
        let left = self.end.saturating_duration_since(Instant::now());
        if self.running.is_empty() || left.is_zero() {
            return Came::End;
        }
        match self.receiver.recv_timeout(left.min(TICK)) {
            Ok((id, part)) => {
                self.running.retain(|(other, _)| *other != id);
                Came::Part(Box::new(part))
            }
            Err(RecvTimeoutError::Timeout) => Came::Tick,
            Err(RecvTimeoutError::Disconnected) => Came::End,
        }
    }

    /// What has not come yet.
    pub(super) fn late(&self) -> Vec<&str> {
        self.running.iter().map(|(_, what)| what.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_late_is_left_behind_and_named() {
        let mut crew = Crew::new(Instant::now() + Duration::from_millis(120));
        crew.start("quick", || Part::Remark);
        crew.start("slow", || {
            std::thread::sleep(Duration::from_secs(30));
            Part::Remark
        });
        let mut came = Vec::new();
        let start = Instant::now();
        loop {
            match crew.next() {
                Came::Part(part) => came.push(part),
                Came::Tick => {}
                Came::End => break,
            }
        }
        assert_eq!((came.len(), crew.late()), (1, vec!["slow"]));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
