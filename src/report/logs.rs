//! `nsprobe logs`: what is passed through. On a terminal without what would steer it, elsewhere as it is.

use super::sanitize;
use crate::facts::{LogPiece, LogStream};
use std::io::{self, Write};

/// How lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogView {
    /// The time before each line.
    pub timestamps: bool,
    /// Control characters are shown, not sent: the output is a terminal.
    pub terminal: bool,
}

/// Writes the pieces of several logs as whole lines.
#[derive(Debug)]
pub struct LogPrinter<W: Write> {
    out: W,
    view: LogView,
    /// Whose line stands there unfinished: number of the log, and its output.
    open: Option<(usize, Option<LogStream>)>,
}

impl<W: Write> LogPrinter<W> {
    /// Writes to `out`.
    pub fn new(out: W, view: LogView) -> Self {
        Self { out, view, open: None }
    }

    /// Writes a piece of log number `log`; each of its lines begins with `prefix`.
    ///
    /// # Errors
    /// The write's.
    pub fn piece(&mut self, log: usize, prefix: &str, piece: &LogPiece) -> io::Result<()> {
        let this = (log, piece.stream);
        let goes_on = self.open == Some(this) && !piece.starts;
        if !goes_on {
            if self.open.take().is_some() {
                self.out.write_all(b"\n")?;
            }
            self.text(prefix.as_bytes())?;
            if let Some(time) = piece.time.as_ref().filter(|_| self.view.timestamps) {
                self.text(time.as_bytes())?;
                self.out.write_all(b" ")?;
            }
        }
        self.text(&piece.text)?;
        if piece.ends {
            self.out.write_all(b"\n")?;
        }
        self.open = (!piece.ends).then_some(this);
        Ok(())
    }

    /// The last line ends on a terminal, so that the prompt has one of its own.
    ///
    /// # Errors
    /// The write's.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.open.take().is_some() && self.view.terminal {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }

    /// Shows what was written so far.
    ///
    /// # Errors
    /// The write's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn text(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.view.terminal {
            return self.out.write_all(bytes);
        }
        let text = String::from_utf8_lossy(bytes);
        // A tabulator only moves on.
        for (at, part) in text.split('\t').enumerate() {
            if at > 0 {
                self.out.write_all(b"\t")?;
            }
            self.out.write_all(sanitize(part).as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, stream: LogStream, starts: bool, ends: bool) -> LogPiece {
        let time = Some("2026-11-23T17:00:00Z".to_owned());
        LogPiece { time, stream: Some(stream), text: text.into(), starts, ends }
    }

    fn printed(view: LogView, pieces: &[(usize, &str, LogPiece)]) -> String {
        let mut printer = LogPrinter::new(Vec::new(), view);
        for (log, prefix, piece) in pieces {
            printer.piece(*log, prefix, piece).unwrap();
        }
        printer.finish().unwrap();
        String::from_utf8(printer.out).unwrap()
    }

    const PIPE: LogView = LogView { timestamps: false, terminal: false };
    const TERMINAL: LogView = LogView { timestamps: false, terminal: true };

    #[test]
    fn a_terminal_gets_no_control_characters_and_a_pipe_gets_every_byte() {
        let hostile = [(0, "", piece("\u{1b}]0;owned\u{7}a\tb\r\u{9b}", LogStream::Stdout, true, true))];
        assert_eq!(printed(TERMINAL, &hostile), "\\u{1b}]0;owned\\u{7}a\tb\\r\\u{9b}\n");
        assert_eq!(printed(PIPE, &hostile), "\u{1b}]0;owned\u{7}a\tb\r\u{9b}\n");
    }

    #[test]
    fn pieces_of_one_line_go_on_and_another_line_begins_a_new_one() {
        let pieces = [
            (0, "[a] ", piece("x", LogStream::Stdout, true, false)),
            (0, "[a] ", piece("y", LogStream::Stdout, false, false)),
            (1, "[b] ", piece("other", LogStream::Stdout, true, true)),
            (0, "[a] ", piece("z", LogStream::Stdout, false, false)),
        ];
        assert_eq!(printed(PIPE, &pieces), "[a] xy\n[b] other\n[a] z");
        assert_eq!(printed(TERMINAL, &pieces), "[a] xy\n[b] other\n[a] z\n");
    }

    #[test]
    fn times_stand_before_whole_lines() {
        let view = LogView { timestamps: true, ..PIPE };
        let pieces = [
            (0, "[a] ", piece("x", LogStream::Stdout, true, false)),
            (0, "[a] ", piece("y", LogStream::Stdout, false, true)),
            (0, "[a] ", piece("e", LogStream::Stderr, true, true)),
        ];
        let time = "2026-11-23T17:00:00Z";
        assert_eq!(printed(view, &pieces), format!("[a] {time} xy\n[a] {time} e\n"));
    }
}
