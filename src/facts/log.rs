//! What a container wrote, piece by piece.

use super::unix_nanoseconds;

/// Which of its outputs a container wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line that a container wrote, or a part of one that is too long to be held as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    /// When its first part was written, as the runtime wrote it down (RFC 3339); `None` where the log says nothing.
    pub time: Option<String>,
    /// Where to; `None` where the log says nothing.
    pub stream: Option<LogStream>,
    /// The bytes, whatever they are; without the newline.
    pub text: Vec<u8>,
    /// Whether the line begins with this piece.
    pub starts: bool,
    /// Whether the line ends with it; the last line of a log that is written to may not have ended yet.
    pub ends: bool,
}

impl LogPiece {
    /// When its first part was written, nanoseconds since 1970.
    pub fn time_ns(&self) -> Option<i64> {
        unix_nanoseconds(self.time.as_deref()?)
    }
}
