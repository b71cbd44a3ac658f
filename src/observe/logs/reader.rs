//! Lines of a file, plain or gzipped, in bounded memory: a line that is too long comes in parts.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// What is read at once.
const BLOCK: usize = 64 << 10;
/// Longest line that is held as a whole; runtimes cut theirs at 16 KiB, Docker's JSON is at most six times that.
pub(super) const LONGEST_LINE: usize = 1 << 20;
/// What a gzipped file may unpack to: a kubelet rotates at 10 MiB by default.
const MOST_UNPACKED: u64 = 4 << 30;

/// How a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With its newline.
    Newline,
    /// Not yet: it is too long, and goes on with the next call.
    TooLong,
    /// The file ended first; what there is of the line (perhaps nothing) was handed out or stays for later.
    File,
}

enum Bytes {
    Plain(File),
    Gzip { decoder: Box<MultiGzDecoder<File>>, left: u64 },
}

/// Reads a file line by line.
pub(super) struct LineReader {
    bytes: Bytes,
    block: Vec<u8>,
    /// What of `block` has been handed out.
    used: usize,
    /// What is behind `block` in a plain file.
    position: u64,
    longest: usize,
}

impl LineReader {
    /// A plain file, from `offset` on.
    pub(super) fn plain(mut file: File, offset: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self::new(Bytes::Plain(file), offset))
    }

    /// A gzipped file.
    pub(super) fn gzip(file: File) -> Self {
        let decoder = Box::new(MultiGzDecoder::new(file));
        Self::new(Bytes::Gzip { decoder, left: MOST_UNPACKED }, 0)
    }

    fn new(bytes: Bytes, position: u64) -> Self {
        Self { bytes, block: Vec::new(), used: 0, position, longest: LONGEST_LINE }
    }

    /// The open file, where it is a plain one: to ask whether it is still the one of its name.
    pub(super) fn file(&self) -> Option<&File> {
        match &self.bytes {
            Bytes::Plain(file) => Some(file),
            Bytes::Gzip { .. } => None,
        }
    }

    /// How far into a plain file has been read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Begins again at the start: somebody has emptied the file.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        if let Bytes::Plain(file) = &mut self.bytes {
            file.seek(SeekFrom::Start(0))?;
        }
        (self.block, self.used, self.position) = (Vec::new(), 0, 0);
        Ok(())
    }

    /// The next line into `line`, without its newline. At the end of the file what there is of a last line stays
    /// here until more comes, unless `last` says that nothing will.
    pub(super) fn next(&mut self, line: &mut Vec<u8>, last: bool) -> io::Result<End> {
        line.clear();
        loop {
            let rest = self.block.get(self.used..).unwrap_or_default();
            let room = rest.get(..self.longest).unwrap_or(rest);
            if let Some(at) = memchr::memchr(b'\n', room) {
                line.extend_from_slice(room.get(..at).unwrap_or_default());
                self.used += at + 1;
                return Ok(End::Newline);
            }
            if rest.len() >= self.longest {
                line.extend_from_slice(room);
                self.used += self.longest;
                return Ok(End::TooLong);
            }
            if !self.fill()? {
                if last {
                    line.append(&mut self.block.split_off(self.used.min(self.block.len())));
                    self.used = self.block.len();
                }
                return Ok(End::File);
            }
        }
    }

    /// Reads a block more; whether there was one.
    fn fill(&mut self) -> io::Result<bool> {
        self.block.drain(..self.used);
        self.used = 0;
        let start = self.block.len();
        self.block.resize(start + BLOCK, 0);
        let room = self.block.get_mut(start..).unwrap_or_default();
        let read = match &mut self.bytes {
            Bytes::Plain(file) => read_some(file, room),
            Bytes::Gzip { decoder, left } => read_some(decoder, room).and_then(|count| {
                *left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
                if *left == 0 {
                    let what = format!("it unpacks to more than {} GiB", MOST_UNPACKED >> 30);
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
                }
                Ok(count)
            }),
        };
        let count = *read.as_ref().unwrap_or(&0);
        self.block.truncate(start + count);
        self.position += u64::try_from(count).unwrap_or(0);
        read.map(|count| count > 0)
    }
}

fn read_some(from: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(mut reader: LineReader) -> Vec<(String, End)> {
        let mut line = Vec::new();
        let mut all = Vec::new();
        loop {
            let end = reader.next(&mut line, true).unwrap();
            all.push((String::from_utf8(line.clone()).unwrap(), end));
            if end == End::File {
                return all;
            }
        }
    }

    fn file(text: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn a_last_line_without_a_newline_waits_for_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, "a\nb").unwrap();
        let mut reader = LineReader::plain(File::open(&path).unwrap(), 0).unwrap();
        let mut line = Vec::new();
        assert_eq!((reader.next(&mut line, false).unwrap(), line.as_slice()), (End::Newline, &b"a"[..]));
        assert_eq!((reader.next(&mut line, false).unwrap(), line.as_slice()), (End::File, &b""[..]));
        File::options().append(true).open(&path).unwrap().write_all(b"c\n").unwrap();
        assert_eq!((reader.next(&mut line, false).unwrap(), line.as_slice()), (End::Newline, &b"bc"[..]));
    }

    #[test]
    fn a_line_that_is_too_long_comes_in_parts() {
        let mut reader = LineReader::plain(file(b"abcdefg\nhi"), 0).unwrap();
        reader.longest = 3;
        let expected = [("abc", End::TooLong), ("def", End::TooLong), ("g", End::Newline), ("hi", End::File)];
        assert_eq!(lines(reader), expected.map(|(text, end)| (text.to_owned(), end)));
    }

    #[test]
    fn gzipped_members_follow_one_another() {
        let mut packed = Vec::new();
        for text in ["a\n", "b\n"] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text.as_bytes()).unwrap();
            packed.append(&mut encoder.finish().unwrap());
        }
        let whole = lines(LineReader::gzip(file(&packed)));
        assert_eq!(whole.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), ["a", "b", ""]);
        let mut cut = LineReader::gzip(file(&packed[..packed.len() - 4]));
        let mut line = Vec::new();
        let mut read = || cut.next(&mut line, true);
        assert!((0..4).any(|_| read().is_err()), "a file that was cut short says so");
    }
}
