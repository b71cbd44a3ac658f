//! A text file that grows: whole lines, across rotation and truncation.

use super::text;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;

/// Bytes that are read at once, and in one call.
const BLOCK: usize = 64 << 10;
const MOST_BYTES: usize = 4 << 20;
/// Bytes that are held of a line that has no end yet; what is longer is cut.
const MOST_LINE: usize = 16 << 10;

/// The file and how far it was read.
#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    at: u64,
    /// Of a line whose end is not there yet.
    part: Vec<u8>,
}

/// A file that is followed by its name.
#[derive(Debug)]
pub(super) struct TextTail {
    /// Its path as seen from the node.
    pub(super) source: Arc<str>,
    path: &'static str,
    open: Option<Open>,
    /// Whether an error was told.
    failed: bool,
}

impl TextTail {
    /// From its end on; or from its beginning, once it is made.
    pub(super) fn begin(root: &File, path: &'static str) -> Self {
        let open = text::open(root, path).ok().map(|(file, metadata)| Open {
            file,
            id: (metadata.dev(), metadata.ino()),
            at: metadata.len(),
            part: Vec::new(),
        });
        Self { source: Arc::from(path), path, open, failed: false }
    }

    /// Whether there is a file.
    pub(super) fn is_there(&self) -> bool {
        self.open.is_some()
    }

    /// Gives `line` each line that was written since, until it wants no more; true when more is there.
    ///
    /// # Errors
    /// The kernel's, once.
    pub(super) fn read(&mut self, root: &File, line: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
        let result = self.read_all(root, line);
        if result.is_err() && std::mem::replace(&mut self.failed, true) {
            return Ok(false);
        }
        self.failed &= result.is_err();
        result
    }

    fn read_all(&mut self, root: &File, line: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
        // First which file the name is: what is written to the old one before that is read below.
        let named = text::open(root, self.path);
        if let Some(open) = &mut self.open
            && open.read(line)?
        {
            return Ok(true);
        }
        let (file, metadata) = match named {
            Ok(named) => named,
            // Between the two steps of a rotation.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let id = (metadata.dev(), metadata.ino());
        match &self.open {
            Some(open) if open.id == id => Ok(false),
            _ => {
                let rest = self.open.take().map(|open| open.part).unwrap_or_default();
                if !rest.is_empty() {
                    line(&rest);
                }
                self.open.insert(Open { file, id, at: 0, part: Vec::new() }).read(line)
            }
        }
    }
}

impl Open {
    /// True when it was not read to its end.
    fn read(&mut self, line: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
        if self.file.metadata()?.len() < self.at {
            // Truncated: written anew from its beginning.
            self.at = 0;
            self.part.clear();
        }
        let mut block = vec![0; BLOCK];
        for _ in 0..MOST_BYTES / BLOCK {
            let count = self.file.read_at(&mut block, self.at)?;
            let read = block.get(..count).unwrap_or_default();
            let mut more = true;
            let mut used = 0;
            for piece in read.split_inclusive(|byte| *byte == b'\n') {
                used += piece.len() as u64;
                let whole = piece.strip_suffix(b"\n");
                let room = MOST_LINE.saturating_sub(self.part.len());
                let piece = whole.unwrap_or(piece);
                self.part.extend_from_slice(piece.get(..room).unwrap_or(piece));
                if whole.is_some() {
                    more = line(&self.part);
                    self.part.clear();
                    if !more {
                        break;
                    }
                }
            }
            self.at += used;
            if count == 0 || !more {
                return Ok(!more);
            }
        }
        Ok(true)
    }
}
