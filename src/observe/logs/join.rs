//! Parts of a line → the line, in bounded memory.

use super::line::parse_line;
use super::reader::{End, LONGEST_LINE};
use crate::facts::{LogPiece, LogStream};

/// A line of which a part has been read.
#[derive(Debug, Default)]
struct Open {
    time: Option<String>,
    text: Vec<u8>,
    /// A piece of it was handed out already.
    begun: bool,
    /// Something of it is there that was not handed out.
    waiting: bool,
}

/// Joins the parts of lines. The two outputs of a container alternate: each has a line of its own.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    stdout: Open,
    stderr: Open,
    /// Inside a line of the file that is too long to be held: whose it is, and whether its tag said partial.
    long: Option<(Option<LogStream>, bool)>,
}

impl Joiner {
    /// The next line of the file, or part of one; gives what can be handed out.
    pub(super) fn push(&mut self, bytes: &[u8], end: End) -> Option<LogPiece> {
        let goes_on = end == End::TooLong;
        let (stream, partial) = match self.long.take() {
            Some(long) => {
                self.long = goes_on.then_some(long);
                let Some(stream) = long.0 else { return Some(unknown(bytes, false, !goes_on)) };
                self.open(stream).text.extend_from_slice(bytes);
                (stream, long.1)
            }
            None => {
                let line = parse_line(bytes);
                self.long = goes_on.then_some((line.stream, line.partial));
                let Some(stream) = line.stream else { return Some(unknown(bytes, true, !goes_on)) };
                let open = self.open(stream);
                if !open.begun && !open.waiting {
                    open.time = line.time.map(Into::into);
                }
                open.text.extend_from_slice(&line.text);
                (stream, line.partial)
            }
        };
        let open = self.open(stream);
        open.waiting = true;
        if !partial && !goes_on {
            return Some(hand_out(open, stream, true));
        }
        (open.text.len() >= LONGEST_LINE).then(|| hand_out(open, stream, false))
    }

    /// What there is of lines that have not ended.
    pub(super) fn flush(&mut self) -> impl Iterator<Item = LogPiece> + use<> {
        let one = |open: &mut Open, stream| open.waiting.then(|| hand_out(open, stream, false));
        let pieces = [one(&mut self.stdout, LogStream::Stdout), one(&mut self.stderr, LogStream::Stderr)];
        pieces.into_iter().flatten()
    }

    fn open(&mut self, stream: LogStream) -> &mut Open {
        match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        }
    }
}

fn hand_out(open: &mut Open, stream: LogStream, ends: bool) -> LogPiece {
    let piece = LogPiece {
        time: if ends { open.time.take() } else { open.time.clone() },
        stream: Some(stream),
        text: std::mem::take(&mut open.text),
        starts: !open.begun,
        ends,
    };
    open.begun = !ends;
    open.waiting = false;
    piece
}

fn unknown(bytes: &[u8], starts: bool, ends: bool) -> LogPiece {
    LogPiece { time: None, stream: None, text: bytes.to_vec(), starts, ends }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(lines: &[&str]) -> Vec<(String, bool, bool)> {
        let mut joiner = Joiner::default();
        let mut pieces: Vec<LogPiece> =
            lines.iter().filter_map(|line| joiner.push(line.as_bytes(), End::Newline)).collect();
        pieces.extend(joiner.flush());
        let show = |p: LogPiece| (String::from_utf8(p.text).unwrap(), p.starts, p.ends);
        pieces.into_iter().map(show).collect()
    }

    #[test]
    fn the_parts_of_each_output_are_joined_apart() {
        let lines = [
            "2026-11-23T17:00:00Z stdout P ab",
            "2026-11-23T17:00:01Z stderr P xy",
            "2026-11-23T17:00:02Z stdout P cd",
            "2026-11-23T17:00:03Z stderr F z",
            "2026-11-23T17:00:04Z stdout F e",
            "2026-11-23T17:00:05Z stdout P no end",
        ];
        let expected = [("xyz", true, true), ("abcde", true, true), ("no end", true, false)]
            .map(|(t, s, e)| (t.to_owned(), s, e));
        assert_eq!(joined(&lines), expected);
    }

    #[test]
    fn a_joined_line_has_the_time_of_its_first_part() {
        let mut joiner = Joiner::default();
        assert_eq!(joiner.push(b"2026-11-23T17:00:00Z stdout P a", End::Newline), None);
        let piece = joiner.push(b"2026-11-23T18:00:00Z stdout F b", End::Newline).unwrap();
        assert_eq!(piece.time.as_deref(), Some("2026-11-23T17:00:00Z"));
        let next = joiner.push(b"2026-11-23T19:00:00Z stdout F c", End::Newline).unwrap();
        assert_eq!(next.time.as_deref(), Some("2026-11-23T19:00:00Z"));
    }

    #[test]
    fn a_line_without_end_is_handed_out_in_pieces_and_not_held() {
        let mut joiner = Joiner::default();
        let part = format!("2026-11-23T17:00:00Z stdout P {}", "x".repeat(LONGEST_LINE / 2));
        assert_eq!(joiner.push(part.as_bytes(), End::Newline), None);
        let first = joiner.push(part.as_bytes(), End::Newline).unwrap();
        assert_eq!((first.text.len(), first.starts, first.ends), (LONGEST_LINE, true, false));
        let last = joiner.push(b"2026-11-23T17:00:00Z stdout F end", End::Newline).unwrap();
        assert_eq!((last.text.as_slice(), last.starts, last.ends), (&b"end"[..], false, true));
    }

    #[test]
    fn a_line_of_the_file_that_is_too_long_keeps_its_head_and_its_tag() {
        let mut joiner = Joiner::default();
        assert_eq!(joiner.push(b"2026-11-23T17:00:00Z stderr F abc", End::TooLong), None);
        assert_eq!(joiner.push(b"2026-11-23T17:00:00Z stdout F in the middle", End::TooLong), None);
        let piece = joiner.push(b"end", End::Newline).unwrap();
        assert_eq!(piece.text, b"abc2026-11-23T17:00:00Z stdout F in the middleend");
        assert!(piece.ends && piece.stream == Some(LogStream::Stderr));
    }
}
