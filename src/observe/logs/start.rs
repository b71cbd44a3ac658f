//! Where to begin to read: the last lines of a log, or those since a moment, without reading what is before them.

use super::line::parse_line;
use super::reader::{End, LineReader};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: usize = 64 << 10;
const BLOCK_BYTES: u64 = 64 << 10;

/// An open file of a log.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) gzip: bool,
    /// What it is called in messages.
    pub(super) path: String,
}

/// A place in a list of files: which one, and how far into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Start {
    pub(super) file: usize,
    pub(super) offset: u64,
}

impl OpenFile {
    /// A reader of its own; readers of one file take turns.
    pub(super) fn reader(&self, offset: u64) -> io::Result<LineReader> {
        let mut file = self.file.try_clone()?;
        if self.gzip {
            std::io::Seek::rewind(&mut file)?;
            return Ok(LineReader::gzip(file));
        }
        LineReader::plain(file, offset)
    }

    /// The time of its first line that has one.
    fn first_time(&self) -> Option<i64> {
        let mut reader = self.reader(0).ok()?;
        let mut line = Vec::new();
        for _ in 0..100 {
            let end = reader.next(&mut line, true).ok()?;
            if let Some(time) = parse_line(&line).time_ns() {
                return Some(time);
            }
            if end == End::File {
                return None;
            }
        }
        None
    }
}

/// The place behind which the last `lines` lines of the files are, and whether more are before it.
pub(super) fn from_the_end(files: &[OpenFile], lines: u64) -> io::Result<(Start, bool)> {
    let mut left = lines;
    for (at, file) in files.iter().enumerate().rev() {
        if file.gzip {
            let count = count_lines(file)?;
            if count >= left {
                return Ok((Start { file: at, offset: 0 }, at > 0));
            }
            left -= count;
            continue;
        }
        match backwards(&file.file, left)? {
            Ok(offset) => return Ok((Start { file: at, offset }, at > 0 || offset > 0)),
            Err(count) => left -= count,
        }
    }
    Ok((Start::default(), false))
}

/// Newlines of a packed file; of one that is broken those before the break.
fn count_lines(file: &OpenFile) -> io::Result<u64> {
    let mut reader = file.reader(0)?;
    let mut line = Vec::new();
    let mut count = 0;
    while let Ok(end) = reader.next(&mut line, true) {
        match end {
            End::File => break,
            End::Newline => count += 1,
            End::TooLong => {}
        }
    }
    Ok(count)
}

/// Offset of the last `lines` lines of a plain file, or how many it has when they are fewer. What follows the last
/// newline is a line too.
fn backwards(file: &File, lines: u64) -> io::Result<Result<u64, u64>> {
    let size = file.metadata()?.len();
    let mut end = size;
    let mut count = 0;
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let start = end.saturating_sub(1) / BLOCK_BYTES * BLOCK_BYTES;
        let length = usize::try_from(end - start).unwrap_or(BLOCK).min(BLOCK);
        let block = block.get_mut(..length).unwrap_or_default();
        if let Err(error) = file.read_exact_at(block, start) {
            // Somebody has emptied it meanwhile.
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(Err(count)) } else { Err(error) };
        }
        for at in memchr::memrchr_iter(b'\n', block) {
            let behind = start + u64::try_from(at).unwrap_or(0) + 1;
            // The newline at the very end begins no line.
            if behind < size {
                count += 1;
                if count == lines {
                    return Ok(Ok(behind));
                }
            }
        }
        end = start;
    }
    count += u64::from(size > 0);
    Ok(if count >= lines { Ok(0) } else { Err(count) })
}

/// The place before which no line is younger than `since` (nanoseconds since 1970): as late as it is easily known.
pub(super) fn since(files: &[OpenFile], since: i64) -> Start {
    let is_older = |(_, file): &(usize, &OpenFile)| file.first_time().is_some_and(|time| time < since);
    let Some((at, file)) = files.iter().enumerate().rev().find(is_older) else { return Start::default() };
    let offset = if file.gzip { 0 } else { bisect(&file.file, since).unwrap_or(0) };
    Start { file: at, offset }
}

fn bisect(file: &File, since: i64) -> io::Result<u64> {
    let (mut low, mut high) = (0, file.metadata()?.len());
    while high - low > BLOCK_BYTES {
        let middle = low + (high - low) / 2;
        match line_behind(file, middle)? {
            Some((start, time)) if time < since && start < high => low = start,
            // Also where nothing there has a time: rather too early than too late.
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Start and time of the first line that begins behind `offset`.
fn line_behind(file: &File, offset: u64) -> io::Result<Option<(u64, i64)>> {
    let mut block = vec![0; BLOCK];
    let count = file.read_at(&mut block, offset)?;
    let block = block.get(..count).unwrap_or_default();
    let Some(newline) = block.iter().position(|&b| b == b'\n') else { return Ok(None) };
    let rest = block.get(newline + 1..).unwrap_or_default();
    let line = rest.split(|&b| b == b'\n').next().unwrap_or_default();
    let start = offset + u64::try_from(newline + 1).unwrap_or(0);
    Ok(parse_line(line).time_ns().map(|time| (start, time)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> OpenFile {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        OpenFile { file, gzip: false, path: String::new() }
    }

    #[test]
    fn the_last_lines_are_found_across_blocks_and_files() {
        let long = "x".repeat(100_000);
        let files = [file(&format!("a\n{long}\nb\n")), file("c\nd\ne")];
        let at = |lines| from_the_end(&files, lines).unwrap();
        assert_eq!(at(1), (Start { file: 1, offset: 4 }, true));
        assert_eq!(at(3), (Start { file: 1, offset: 0 }, true));
        assert_eq!(at(4), (Start { file: 0, offset: 100_003 }, true));
        assert_eq!(at(5), (Start { file: 0, offset: 2 }, true));
        assert_eq!(at(6), (Start::default(), false));
        assert_eq!(at(7), (Start::default(), false));
        assert_eq!(from_the_end(&[file("")], 1).unwrap(), (Start::default(), false));
    }

    #[test]
    fn a_moment_is_found_by_halving() {
        let mut text = String::new();
        for second in 0..20_000 {
            text.push_str(&format!("{} stdout F line\n", crate::facts::rfc3339(second)));
        }
        let one = [file(&text)];
        let line = u64::try_from("1970-01-01T00:00:00Z stdout F line\n".len()).unwrap();
        let start = since(&one, 15_000 * 1_000_000_000);
        assert!(start.offset <= 15_000 * line && start.offset + BLOCK_BYTES >= 15_000 * line, "{start:?}");
        assert_eq!(since(&one, -1), Start::default());
        let garbage = [file(&"no time at all\n".repeat(20_000))];
        assert_eq!(since(&garbage, 5), Start::default());
    }
}
