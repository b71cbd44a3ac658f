//! The log of one container: its pieces one after the other, across rotated files, and on as it grows.

use super::LogError;
use super::folder::{LogFile, PodLogFolder};
use super::join::Joiner;
use super::reader::{End, LineReader};
use super::start::{OpenFile, Start, from_the_end, since};
use crate::facts::LogPiece;
use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

/// What of a log is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogQuery {
    /// Only what was written since, nanoseconds since 1970.
    pub since_ns: Option<i64>,
    /// Only the last lines.
    pub tail: Option<u64>,
    /// Whether it is to be followed: [`ContainerLog::look_again`].
    pub follow: bool,
}

/// Files of one attempt that are opened at most; a kubelet keeps 5 by default.
const MOST_FILES: usize = 1000;
/// Parts of one line stand close together: so many lines before the wanted ones their beginnings are found.
const LINES_FOR_PARTS: u64 = 64;
/// How often a rotation in the middle of opening is put up with.
const MOST_TRIES: u32 = 5;

/// The log of one container, being read.
pub struct ContainerLog {
    pod: Rc<PodLogFolder>,
    /// The container's name.
    pub container: String,
    /// The attempt that is being read.
    pub attempt: u32,
    query: LogQuery,
    /// What is still to be read, the oldest first.
    files: VecDeque<OpenFile>,
    reader: Option<(LineReader, String)>,
    /// Where in the first of them to begin.
    offset: u64,
    joiner: Joiner,
    ready: VecDeque<LogPiece>,
    line: Vec<u8>,
    /// Lines that `tail` leaves out.
    skip: u64,
    /// Whether the last line that had a time was young enough.
    young: bool,
    /// What could not be read, and was passed over.
    pub troubles: Vec<String>,
}

impl std::fmt::Debug for ContainerLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ContainerLog({} attempt {})", self.container, self.attempt)
    }
}

impl ContainerLog {
    /// Opens every file of the attempt, so that none can be rotated away any more.
    ///
    /// # Errors
    /// [`LogError`]; a rotated file that cannot be opened is a trouble, not an error.
    pub fn open(
        pod: &Rc<PodLogFolder>,
        container: &str,
        attempt: u32,
        query: LogQuery,
    ) -> Result<Self, LogError> {
        let mut log = Self {
            pod: Rc::clone(pod),
            container: container.to_owned(),
            attempt,
            query,
            files: VecDeque::new(),
            reader: None,
            offset: 0,
            joiner: Joiner::default(),
            ready: VecDeque::new(),
            line: Vec::new(),
            skip: 0,
            young: query.since_ns.is_none(),
            troubles: Vec::new(),
        };
        let mut files = log.open_files(attempt)?;
        let start = log.start(&files)?;
        log.files = files.split_off(start.file.min(files.len())).into();
        log.offset = start.offset;
        Ok(log)
    }

    /// All files of an attempt, the oldest first.
    fn open_files(&mut self, attempt: u32) -> Result<Vec<OpenFile>, LogError> {
        let place = self.pod.place(&self.container, attempt)?;
        for _ in 0..MOST_TRIES {
            let list = place.files()?;
            let mut files = Vec::new();
            let mut gone = false;
            let mut troubles = Vec::new();
            for (at, file) in list.iter().enumerate().skip(list.len().saturating_sub(MOST_FILES)) {
                match place.open(file) {
                    Ok(open) => {
                        files.push(OpenFile { file: open, gzip: file.gzip, path: place.path(file) });
                    }
                    Err(error) if error.is_gone() => gone = true,
                    // The one that is written to, or the only one.
                    Err(error) if at + 1 == list.len() => return Err(error),
                    Err(error) => troubles.push(error.to_string()),
                }
            }
            if !gone && same(&place.files()?, &list) {
                self.troubles.append(&mut troubles);
                return Ok(files);
            }
        }
        let path = format!("{}/{attempt}.log", self.container);
        Err(LogError::Restless { path, tries: MOST_TRIES })
    }

    /// Where to begin, and how many lines to leave out from there.
    fn start(&mut self, files: &[OpenFile]) -> Result<Start, LogError> {
        let young = self.query.since_ns.map_or_else(Start::default, |moment| since(files, moment));
        let Some(tail) = self.query.tail else { return Ok(young) };
        if tail == 0 {
            // Nothing that is there already.
            let last = files.len().saturating_sub(1);
            let size = files.last().and_then(|f| f.file.metadata().ok()).map_or(0, |m| m.len());
            return Ok(Start { file: last, offset: size });
        }
        let mut lines = tail.saturating_add(LINES_FOR_PARTS);
        loop {
            let read = |source| LogError::read(&self.container, source);
            let (found, more) = from_the_end(files, lines).map_err(read)?;
            let start = found.max(young);
            let count = self.count(files, start);
            if count >= tail || !more || start == young {
                self.skip = count.saturating_sub(tail);
                return Ok(start);
            }
            lines = lines.saturating_mul(4);
        }
    }

    /// How many lines the container wrote from there on, of those that are wanted.
    fn count(&self, files: &[OpenFile], start: Start) -> u64 {
        let mut joiner = Joiner::default();
        let mut line = Vec::new();
        let mut young = self.query.since_ns.is_none();
        let mut count = 0;
        for (at, file) in files.iter().enumerate().skip(start.file) {
            let offset = if at == start.file { start.offset } else { 0 };
            let Ok(mut reader) = file.reader(offset) else { continue };
            while let Ok(end) = reader.next(&mut line, true) {
                if end != End::File || !line.is_empty() {
                    let piece = joiner.push(&line, end);
                    let counts =
                        piece.is_some_and(|p| is_wanted(&p, self.query.since_ns, &mut young) && p.ends);
                    count += u64::from(counts);
                }
                if end == End::File {
                    break;
                }
            }
        }
        let open = joiner.flush().filter(|p| is_wanted(p, self.query.since_ns, &mut young)).count();
        count + u64::try_from(open).unwrap_or(0)
    }

    /// The next piece; `None` at the end, which a log that is followed may leave again.
    pub fn next_piece(&mut self) -> Option<LogPiece> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                if !is_wanted(&piece, self.query.since_ns, &mut self.young) {
                    continue;
                }
                if self.skip > 0 {
                    self.skip -= u64::from(piece.ends);
                    continue;
                }
                return Some(piece);
            }
            if self.reader.is_none() && !self.open_next() {
                return None;
            }
            if !self.read_line() {
                return None;
            }
        }
    }

    /// Begins the next file.
    fn open_next(&mut self) -> bool {
        while let Some(file) = self.files.pop_front() {
            match file.reader(std::mem::take(&mut self.offset)) {
                Ok(reader) => {
                    self.reader = Some((reader, file.path));
                    return true;
                }
                Err(error) => self.troubles.push(format!("cannot read {}: {error}", file.path)),
            }
        }
        false
    }

    /// Reads one line; false where nothing more is to be had now.
    fn read_line(&mut self) -> bool {
        let Some((reader, path)) = &mut self.reader else { return false };
        let current = self.query.follow && self.files.is_empty() && reader.file().is_some();
        match reader.next(&mut self.line, !current) {
            Ok(End::File) => {
                if current {
                    return false;
                }
                if !self.line.is_empty() {
                    self.ready.extend(self.joiner.push(&self.line, End::File));
                }
                self.reader = None;
                if self.files.is_empty() {
                    self.ready.extend(self.joiner.flush());
                }
            }
            Ok(end) => self.ready.extend(self.joiner.push(&self.line, end)),
            Err(error) => {
                self.troubles.push(format!("{path}: {error}: what follows in it is left out"));
                self.reader = None;
            }
        }
        true
    }

    /// After [`Self::next_piece`] gave `None`: takes note of what was rotated, emptied or started anew meanwhile, and
    /// hands out what stands there of unfinished lines.
    ///
    /// # Errors
    /// [`LogError`]; gone means that the pod has been removed.
    pub fn look_again(&mut self) -> Result<(), LogError> {
        self.ready.extend(self.joiner.flush());
        let attempts = self.pod.attempts(&self.container)?;
        let list = self.pod.place(&self.container, self.attempt).and_then(|place| {
            let files = place.files()?;
            Ok((place, files))
        });
        match list {
            Ok((place, files)) => self.note_rotation(&place, &files),
            // The attempt's files may have been removed: the next one's come.
            Err(error) if !error.is_gone() => return Err(error),
            Err(_) => {}
        }
        let before = self.attempt;
        for attempt in attempts.into_iter().filter(|attempt| *attempt > before) {
            match self.open_files(attempt) {
                Ok(files) => self.files.extend(files),
                Err(error) if error.is_gone() => {}
                Err(error) => self.troubles.push(error.to_string()),
            }
            self.attempt = attempt;
        }
        Ok(())
    }

    fn note_rotation(&mut self, place: &super::folder::Place, files: &[LogFile]) {
        let ours = self.reader.as_ref().and_then(|(reader, _)| reader.file()?.metadata().ok());
        if let (Some((reader, _)), Some(meta)) = (&mut self.reader, &ours)
            && meta.len() < reader.position()
        {
            // Emptied, as copytruncate does.
            if let Err(error) = reader.rewind() {
                self.troubles.push(error.to_string());
            }
        }
        if ours.is_none() {
            return;
        }
        let mut newer = Vec::new();
        // From the newest back to the one that is being read.
        for file in files.iter().rev() {
            let Ok(open) = place.open(file) else { continue };
            let is_ours = match (&ours, open.metadata()) {
                (Some(ours), Ok(theirs)) => ours.ino() == theirs.ino() && ours.dev() == theirs.dev(),
                _ => false,
            };
            if is_ours || file.gzip {
                break;
            }
            newer.push(OpenFile { file: open, gzip: false, path: place.path(file) });
        }
        self.files.extend(newer.into_iter().rev());
    }
}

/// Whether the same files are there as before, but for their being packed.
fn same(now: &[LogFile], before: &[LogFile]) -> bool {
    now.iter().map(|f| &f.name).eq(before.iter().map(|f| &f.name))
}

/// A piece without a time is as young as the one before it.
fn is_wanted(piece: &LogPiece, since: Option<i64>, young: &mut bool) -> bool {
    // A log that is read as a whole has no need of times.
    if let Some(since) = since
        && let Some(time) = piece.time_ns()
    {
        *young = time >= since;
    }
    *young
}
