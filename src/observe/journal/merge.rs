//! Lines of several files in the order of time, the newest of them.

use crate::facts::{NodeLog, NodeLogEntry};

/// Adds lines, and keeps the newest `most` in order.
pub(super) fn add(log: &mut NodeLog, entries: Vec<NodeLogEntry>, most: usize) {
    log.entries.extend(entries);
    log.entries.sort_by_key(|entry| entry.realtime_us);
    let over = log.entries.len().saturating_sub(most);
    if over > 0 {
        log.cut = true;
        log.entries.drain(..over);
    }
}

/// The first [`MOST_TEXT`] bytes as text.
pub(super) fn message(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..MOST_TEXT).unwrap_or(bytes)).into_owned()
}

/// Most bytes of a line that are held.
pub(super) const MOST_TEXT: usize = 8 << 10;
