//! Work that may hang for ever, and is left behind then.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Instant;

/// Why there is no answer.
pub(super) enum Late {
    /// Not before the deadline: the work goes on by itself, until the process ends.
    Late,
    /// And there will be none: why.
    Never(String),
}

/// Does `work` on a thread of its own, and waits for it until `deadline`.
pub(super) fn in_time<T: Send + 'static>(
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Late> {
    let (sender, receiver) = channel();
    let work = move || {
        // Nobody waits any more when the deadline has passed.
        let _ = sender.send(work());
    };
    std::thread::Builder::new()
        .name("credentials".into())
        .spawn(work)
        .map_err(|error| Late::Never(format!("cannot start a thread: {error}")))?;
    receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|error| match error {
        RecvTimeoutError::Timeout => Late::Late,
        RecvTimeoutError::Disconnected => Late::Never("the client could not be made".to_owned()),
    })
}
