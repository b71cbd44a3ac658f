//! Standard output: colour only where a person reads, a closed pipe is a clean end.

use super::json_format::write_json;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Whether an error only says that the reader has gone (`| head`).
pub fn is_closed_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Escape sequences, or nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Paints only when `on`.
    pub fn new(on: bool) -> Self {
        Self { on }
    }

    /// Whether it paints.
    pub fn is_on(self) -> bool {
        self.on
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Headings and the verdict.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Secondary text.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Good news.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Warnings.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// What is broken.
    pub fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }
}

/// Standard output, locked for one command.
#[derive(Debug)]
pub struct Out {
    stdout: io::Stdout,
    /// Colours for standard output.
    pub paint: Paint,
    /// Width of the terminal in columns; `None` when it is not one.
    pub width: Option<usize>,
    /// Whether standard output is a terminal.
    pub terminal: bool,
}

impl Out {
    /// Standard output with colours `on`, else on a terminal without `NO_COLOR`.
    pub fn new(color: Option<bool>) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let width = terminal.then(terminal_width).flatten();
        Self { stdout, paint: Paint::new(color.unwrap_or(terminal && !plain)), width, terminal }
    }

    /// Writes text as it is and flushes it.
    ///
    /// # Errors
    /// The write's; a closed pipe is told by [`is_closed_pipe`].
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        let mut lock = self.stdout.lock();
        lock.write_all(text.as_bytes())?;
        lock.flush()
    }

    /// Standard output for what is passed through, gathered into large writes: whoever writes flushes.
    pub fn stream(&self) -> io::BufWriter<Straight> {
        io::BufWriter::with_capacity(64 << 10, Straight(self.stdout.lock()))
    }

    /// Writes one document on one line (`compact`) or indented for people who look.
    ///
    /// # Errors
    /// As [`Out::text`].
    pub fn document(&mut self, document: &impl Serialize, compact: bool) -> io::Result<()> {
        // Straight to the pipe: a document of 50,000 sockets is larger than all else this program keeps.
        let mut writer = self.stream();
        write_json(&mut writer, document, compact)?;
        writer.flush()
    }
}

/// Standard output, locked, without std's own buffer: that one looks for the end of the last line in every write, and
/// makes two writes of it. All else that writes to standard output flushes.
#[derive(Debug)]
pub struct Straight(io::StdoutLock<'static>);

impl Write for Straight {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Columns of the terminal on standard output (TIOCGWINSZ, tty_ioctl(4)).
fn terminal_width() -> Option<usize> {
    rustix::termios::tcgetwinsize(io::stdout()).ok().map(|w| usize::from(w.ws_col)).filter(|&w| w > 0)
}
