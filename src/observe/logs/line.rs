//! One line of a log file: CRI's format, Docker's json-file, or whatever else stands there.
//!
//! Sources: Kubernetes, "CRI: Dockerless Kubernetes log format" (kubelet/kuberuntime-logging design):
//! `TIME STREAM TAG[:TAG…] TEXT`, TAG is `P` (partial) or `F` (full); Docker's json-file log driver: an object with
//! `log`, `stream` and `time`, where a line is partial when `log` does not end with a newline.

use crate::facts::{LogStream, unix_nanoseconds};
use std::borrow::Cow;

/// One line as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLine<'a> {
    /// RFC 3339, with fractions.
    pub time: Option<Cow<'a, str>>,
    /// Which output.
    pub stream: Option<LogStream>,
    /// More of the same line follows.
    pub partial: bool,
    /// What was written.
    pub text: Cow<'a, [u8]>,
}

impl RawLine<'_> {
    /// Nanoseconds since 1970.
    pub fn time_ns(&self) -> Option<i64> {
        unix_nanoseconds(self.time.as_deref()?)
    }
}

/// Longest time stamp that is looked for.
const LONGEST_TIME: usize = 40;

/// Reads a line without its newline. What follows no format is text of which nothing else is known.
pub fn parse_line(line: &[u8]) -> RawLine<'_> {
    cri(line).or_else(|| docker(line)).unwrap_or(RawLine {
        time: None,
        stream: None,
        partial: false,
        text: Cow::Borrowed(line),
    })
}

fn cri(line: &[u8]) -> Option<RawLine<'_>> {
    let (time, rest) = split_at_blank(line, LONGEST_TIME)?;
    let time = std::str::from_utf8(time).ok().filter(|t| t.as_bytes().get(10) == Some(&b'T'))?;
    let (stream, rest) = split_at_blank(rest, 8)?;
    let stream = stream_name(stream)?;
    // A line that was cut off right behind its tag has no text.
    let (tags, text) = split_at_blank(rest, 64).unwrap_or((rest, &[]));
    let partial = match tags.split(|&b| b == b':').next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    Some(RawLine {
        time: Some(Cow::Borrowed(time)),
        stream: Some(stream),
        partial,
        text: Cow::Borrowed(text),
    })
}

fn docker(line: &[u8]) -> Option<RawLine<'_>> {
    #[derive(serde::Deserialize)]
    struct Json<'a> {
        #[serde(borrow)]
        log: Cow<'a, str>,
        #[serde(borrow)]
        stream: Cow<'a, str>,
        #[serde(borrow)]
        time: Cow<'a, str>,
    }
    if line.first() != Some(&b'{') {
        return None;
    }
    let json: Json<'_> = serde_json::from_slice(line).ok()?;
    let mut text = json.log.into_owned().into_bytes();
    let partial = text.pop_if(|b| *b == b'\n').is_none();
    Some(RawLine {
        time: Some(json.time).filter(|t| t.len() <= LONGEST_TIME),
        stream: Some(stream_name(json.stream.as_bytes())?),
        partial,
        text: Cow::Owned(text),
    })
}

fn stream_name(name: &[u8]) -> Option<LogStream> {
    match name {
        b"stdout" => Some(LogStream::Stdout),
        b"stderr" => Some(LogStream::Stderr),
        _ => None,
    }
}

/// What stands before the first blank, of at most `longest` bytes, and what stands behind it.
fn split_at_blank(text: &[u8], longest: usize) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b' ', text.get(..=longest).unwrap_or(text))?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &RawLine<'_>) -> String {
        String::from_utf8_lossy(&line.text).into_owned()
    }

    #[test]
    fn both_runtimes_ways_to_write_the_time_are_read() {
        let containerd = parse_line(b"2026-11-23T17:17:03.53217893Z stdout F starting now");
        let crio = parse_line(b"2026-11-23T17:17:03.532178930+00:00 stderr P part");
        assert_eq!((containerd.stream, containerd.partial), (Some(LogStream::Stdout), false));
        assert_eq!(text(&containerd), "starting now");
        assert_eq!(
            (crio.stream, crio.partial, text(&crio).as_str()),
            (Some(LogStream::Stderr), true, "part")
        );
        assert_eq!(containerd.time_ns(), crio.time_ns());
        assert_eq!(containerd.time_ns(), Some(1_795_454_223_532_178_930));
    }

    #[test]
    fn further_tags_and_an_empty_text_are_fine() {
        assert!(parse_line(b"2026-11-23T17:17:03Z stdout P:x:y a").partial);
        assert_eq!(text(&parse_line(b"2026-11-23T17:17:03Z stdout F ")), "");
        assert_eq!(text(&parse_line(b"2026-11-23T17:17:03Z stdout F")), "");
        assert_eq!(text(&parse_line(b"2026-11-23T17:17:03Z stdout F  two blanks")), " two blanks");
    }

    #[test]
    fn dockers_json_is_partial_without_a_newline() {
        let whole = br#"{"log":"a \u001b[31mb\n","stream":"stderr","time":"2026-11-23T17:17:03.5Z"}"#;
        let line = parse_line(whole);
        assert_eq!((line.stream, line.partial), (Some(LogStream::Stderr), false));
        assert_eq!(text(&line), "a \u{1b}[31mb");
        assert!(parse_line(br#"{"log":"a","stream":"stdout","time":"2026-11-23T17:17:03Z"}"#).partial);
    }

    #[test]
    fn what_follows_no_format_is_text() {
        for other in [
            &b""[..],
            b" ",
            b"{\"log\":",
            b"2026-11-23T17:17:03Z stdout X text",
            b"2026-11-23T17:17:03Z stdwrong F text",
            b"2026-11-23T17:17:03Z",
            b"\x00\xff\xfe binary",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xffT stdout F text",
        ] {
            let line = parse_line(other);
            assert_eq!((line.time.as_deref(), line.stream, line.partial), (None, None, false));
            assert_eq!(&*line.text, other);
        }
    }
}
