//! The status line on a terminal.

use super::Target;
use crate::capture::Progress;
use crate::cli::Context;
use std::io::{self, IsTerminal, Write};

/// The status line on a terminal, while a file is written.
pub(super) struct Status {
    on: bool,
    shown: bool,
    before: u64,
}

impl Status {
    pub(super) fn new(context: &Context, target: Target<'_>) -> Self {
        let on = matches!(target, Target::File(_)) && !context.global.quiet && io::stderr().is_terminal();
        Self { on, shown: false, before: 0 }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        if !self.on {
            return;
        }
        let rate = progress.packets.saturating_sub(self.before);
        self.before = progress.packets;
        self.shown = true;
        let line = format!(
            "\r{} packets, {rate}/s, {} dropped, {} s\x1b[K",
            progress.packets,
            progress.dropped,
            progress.elapsed.as_secs()
        );
        let mut stderr = io::stderr();
        // Nobody is left to look when standard error is gone.
        let _ = stderr.write_all(line.as_bytes()).and_then(|()| stderr.flush());
    }

    pub(super) fn clear(&self) {
        if self.shown {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
