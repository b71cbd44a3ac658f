//! How decoded lines look: tcpdump's letters.

use crate::capture::{Stamp, View};
use crate::cli::Context;
use clap::{ArgAction, Args};

/// Options on lines.
#[derive(Debug, Args)]
#[command(next_help_heading = "Decoded lines (without -w)")]
pub(super) struct ViewArgs {
    /// No names: never looked up, so this changes nothing.
    #[arg(short = 'n', action = ArgAction::Count)]
    numbers: u8,
    /// The link's header too.
    #[arg(short = 'e')]
    link: bool,
    /// The packet's bytes too; -xx with the link's header.
    #[arg(short = 'x', action = ArgAction::Count)]
    hex: u8,
    /// No time; -tt seconds since 1970, -ttt since the line before, -tttt with the date, -ttttt since the first.
    #[arg(short = 't', action = ArgAction::Count)]
    time: u8,
}

impl ViewArgs {
    /// Whether whole packets are wanted.
    pub(super) fn shows_bytes(&self) -> bool {
        self.hex > 0
    }

    pub(super) fn view(&self, context: &Context) -> View {
        View {
            stamp: match self.time {
                0 => Stamp::Clock,
                1 => Stamp::None,
                2 => Stamp::Unix,
                3 => Stamp::SinceLast,
                4 => Stamp::Date,
                _ => Stamp::SinceFirst,
            },
            detail: context.global.verbose,
            link: self.link,
            hex: self.hex,
            colour: context.out.paint.is_on(),
        }
    }
}
