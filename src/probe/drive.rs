//! The loop between the search, the socket and the clock.

use super::error::ProbeError;
use super::onlooker::Onlooker;
use super::search::{Search, Step};
use super::transport::Transport;
use crate::facts::{Method, PathNote, PathResult, Reverse, ReverseVerdict};
use std::time::Instant;

/// How sure a result can be that rests on resets alone.
const RESETS: f64 = 0.95;

/// Runs a search to its end. When the onlooker ends it, it ends early with what is known.
///
/// # Errors
/// [`ProbeError::Wait`].
pub fn drive(
    search: &mut Search,
    transport: &mut dyn Transport,
    onlooker: Onlooker<'_>,
) -> Result<PathResult, ProbeError> {
    let start = Instant::now();
    loop {
        match search.poll(start.elapsed()) {
            Step::Done => return Ok(result(search, transport)),
            step @ (Step::Send(probe) | Step::Scout(probe, _)) => {
                let refused = match step {
                    Step::Scout(_, look) => transport.scout(probe, look),
                    _ => transport.send(probe),
                };
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
                let (answers, ended) = onlooker.wait(&transport.fds(), rest)?;
                if ended {
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
fn result(search: &Search, transport: &dyn Transport) -> PathResult {
    let (mut found, method) = (search.result(), transport.method());
    if transport.only_resets() && found.path_mtu_bytes.is_some() {
        found.notes.push(PathNote::OnlyResets);
        found.confidence = found.confidence.map(|confidence| confidence.min(RESETS));
    }
    let reverse = match method {
        Method::Icmp => found.reverse,
        Method::Tcp | Method::Udp => Reverse { verdict: ReverseVerdict::Unknown, limit_bytes: None },
    };
    PathResult { method, reverse, ..found }
}
