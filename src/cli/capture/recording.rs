//! Files: how large, how many, whose, how much room they leave, and what ends them.

use super::Target;
use super::failures::file_failure;
use crate::capture::{self, Ended, Leave, Output, Owner, Ring, RingFiles, Role, Room, Sink, Until};
use crate::cli::{Context, Exit, Failure, values};
use clap::Args;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

/// Size of a file of a ring when only what to wait for is named.
const RING_BYTES: u64 = 10 << 20;
/// Files of a ring when something is waited for and nothing else is said: the last 100 MB.
const RING_FILES: usize = 10;
/// Below this a file holds hardly more than its own header.
const SMALLEST: u64 = 64 << 10;

/// Options on files.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files (with -w)")]
pub(super) struct RecordingArgs {
    /// Go on in a new file, named with number and time, before one is larger than SIZE; NAME.index.tsv lists those of NAME.pcapng.
    #[arg(long, value_name = "SIZE", requires = "write", value_parser = file_size)]
    max_size: Option<u64>,
    /// Keep the last N files of --max-size and delete older ones.
    #[arg(long, value_name = "N", requires = "write", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    files: Option<u32>,
    /// End once ptb (ICMP packet too big), rst, retransmit or a filter is seen; may be repeated. Keeps the last 10
    /// files of 10M unless told otherwise.
    #[arg(long, value_name = "FINDING", requires = "write", value_parser = until)]
    ring_until: Vec<Until>,
    /// Go on for so long after that.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = values::duration)]
    tail: Duration,
    /// End before less than SIZE or N% of the disk is free; 0 for a disk that may be filled [default: 5%, at most 1G].
    #[arg(long, value_name = "SIZE|N%", value_parser = leave)]
    min_free: Option<Leave>,
    /// Whom files belong to, UID, UID:GID or a name [default: the user behind sudo].
    #[arg(long, value_name = "USER", value_parser = owner)]
    owner: Option<Owner>,
}

impl RecordingArgs {
    /// How long to go on after what was waited for.
    pub(super) fn tail(&self) -> Duration {
        self.tail
    }

    /// Has an output look for what is waited for.
    pub(super) fn watch(&self, output: Output) -> Output {
        output.watching(self.ring_until.clone())
    }

    /// Size and number of the files of a ring, when there is to be one.
    fn ring(&self) -> Option<(u64, Option<usize>)> {
        let wanted = self.max_size.is_some() || self.files.is_some() || !self.ring_until.is_empty();
        let files = self.files.and_then(|n| usize::try_from(n).ok());
        let files = files.or((!self.ring_until.is_empty()).then_some(RING_FILES));
        wanted.then_some((self.max_size.unwrap_or(RING_BYTES), files))
    }

    fn owner(&self) -> Option<Owner> {
        self.owner.or_else(Owner::behind_sudo)
    }
}

/// How this process goes on.
pub(super) enum Part {
    /// It captures; into this ring, if there is one.
    Capture(Option<Ring>),
    /// It kept the files of the one that captured, and all is over.
    Over(Exit),
}

/// A ring needs a second process, which opens its files while the one that reads packets may do nothing.
pub(super) fn part(
    args: &RecordingArgs,
    target: Target<'_>,
    force: bool,
    stop: BorrowedFd<'_>,
) -> Result<Part, Failure> {
    let (Target::File(path), Some((max_bytes, keep))) = (target, args.ring()) else {
        if args.max_size.is_some() || args.files.is_some() {
            return Err(Failure::usage("--max-size and --files are for files, not for a stream")
                .hint("-w FILE, or a ring on the other side of the pipe"));
        }
        return Ok(Part::Capture(None));
    };
    if path.symlink_metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        return Err(Failure::usage(format!("{} is no place for several files", path.display()))
            .hint("the name of a plain file: number and time are added to it"));
    }
    let files = RingFiles::new(path, keep, args.owner(), force).map_err(file_failure)?;
    match capture::split(files, stop) {
        Ok(Role::Reader(files)) => Ok(Part::Capture(Some(Ring::new(Box::new(files), max_bytes, keep)))),
        Ok(Role::Keeper(Ended::Code(code))) => Ok(Part::Over(Exit::Code(code))),
        Ok(Role::Keeper(Ended::Signal(signal))) => Err(Failure::stopped(format!(
            "the process that read packets was ended by signal {signal}; what it had written is readable"
        ))
        .hint("the kernel's log says whether memory had run out: dmesg | tail")),
        Err(error) => Err(Failure::stopped(format!("cannot keep the files of a ring: {error}"))),
    }
}

/// Opens a file, or the first of a ring.
pub(super) fn open_file(
    args: &RecordingArgs,
    path: &Path,
    ring: Option<Ring>,
    force: bool,
) -> Result<Output, Failure> {
    let broken = |e: io::Error| {
        Failure::stopped(format!("cannot write {}: {e}", path.display()))
            .hint("another place: -w /tmp/capture.pcapng, or stream with -w -")
    };
    let output = match ring {
        Some(ring) => Output::ring(ring).map_err(broken)?,
        None => {
            let file = capture::open_capture_file(path, force, args.owner()).map_err(file_failure)?;
            Output::pcapng(Sink::file(file).map_err(broken)?)
        }
    };
    let output = args.watch(output).leaving(args.min_free.unwrap_or(Leave::Some));
    match output.room() {
        Some(room) if room.is_used_up() => Err(no_room(path, room)),
        _ => Ok(output),
    }
}

fn no_room(path: &Path, room: Room) -> Failure {
    Failure::stopped(format!(
        "only {} are free on the disk of {}, and {} are to stay free",
        values::show_size(room.free_bytes),
        path.display(),
        values::show_size(room.leave_bytes)
    ))
    .hint("another disk, --min-free with less, or -w - to another machine")
}

/// Says whose capture it is when it is a ring, so that nobody looks for FILE.
pub(super) fn announce_ring(args: &RecordingArgs, context: &Context, path: &Path) {
    let (false, Some((bytes, keep))) = (context.json(), args.ring()) else { return };
    let kept = keep.map_or("all of them kept".to_owned(), |n| format!("the last {n} kept"));
    context.note(&format!(
        "files of {} like {}, {kept}",
        values::show_size(bytes),
        path.with_extension("").display().to_string() + "_00001_…"
    ));
}

fn file_size(text: &str) -> Result<u64, String> {
    values::size(text)
        .and_then(|b| if b < SMALLEST { Err("a file is of 64k at least".to_owned()) } else { Ok(b) })
}

fn until(text: &str) -> Result<Until, String> {
    Until::parse(text).map_err(|error| format!("{error}; or ptb, rst, retransmit"))
}

/// `5%`, or a size.
fn leave(text: &str) -> Result<Leave, String> {
    match text.strip_suffix('%') {
        Some(number) => number
            .parse()
            .ok()
            .filter(|n| *n <= 100)
            .map(Leave::Percent)
            .ok_or_else(|| "a share is a whole number up to 100%".to_owned()),
        None => values::size(text).map(Leave::Bytes),
    }
}

fn owner(text: &str) -> Result<Owner, String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    Owner::parse(text, &passwd)
        .ok_or_else(|| "UID, UID:GID, or the name of a user of this node (/etc/passwd)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_free_is_a_size_or_a_share() {
        assert_eq!(leave("5%"), Ok(Leave::Percent(5)));
        assert_eq!(leave("100M"), Ok(Leave::Bytes(100 << 20)));
        assert_eq!(leave("0"), Ok(Leave::Bytes(0)));
        for wrong in ["", "%", "101%", "-1%", "5.5%", "x"] {
            assert!(leave(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_of_a_ring_has_room_for_packets() {
        assert_eq!(file_size("64k"), Ok(64 << 10));
        assert!(file_size("63k").is_err() && file_size("0").is_err());
    }
}
