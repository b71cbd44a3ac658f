//! What is logged from now on: journal files that grow, are rotated away, cut and made anew; else the text files of
//! syslog; and the kernel's buffer, whatever happens to journald.
//!
//! Nothing waits here: [`LogFollower::read`] takes what is there, and is called again after a moment.

use super::decode::Decoder;
use super::file::{JournalFile, Position};
use super::folder::{Found, each_file};
use super::text_tail::TextTail;
use super::{kmsg, text};
use crate::facts::NodeLogEntry;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Most entries that are looked at in one call, and most that one call returns.
const MOST_LOOKED: usize = 20_000;
const MOST_KEPT: usize = 1000;
/// Most files that are held open: those that are written to are two or three.
const MOST_HELD: usize = 64;
/// Lines that are remembered: journald copies /run's into /var's, syslog writes one into two files.
const MOST_TOLD: usize = 4096;

/// What [`LogFollower::read`] found.
#[derive(Debug, Default)]
pub struct NewLines {
    /// In the order of time, as far as they were read together.
    pub entries: Vec<NodeLogEntry>,
    /// What could not be read, or only in part, and why; each is told once.
    pub unread: Vec<(String, String)>,
    /// Whether more is there already.
    pub more: bool,
    looked: usize,
}

impl NewLines {
    fn is_full(&self) -> bool {
        self.looked >= MOST_LOOKED || self.entries.len() >= MOST_KEPT
    }

    fn trouble(&mut self, path: &str, error: &io::Error) {
        self.unread.push((path.to_owned(), error.to_string()));
    }
}

/// Device and inode.
type Id = (u64, u64);

/// A journal that is, or may be, written to.
struct Held {
    id: Id,
    path: String,
    journal: JournalFile,
    decoder: Decoder,
    position: Position,
    /// What is older was told before, or is a copy: microseconds since 1970.
    since_us: u64,
    damaged: bool,
}

/// Follows the log of a node.
pub struct LogFollower {
    root: File,
    journals: Vec<Held>,
    /// The journal files of the last look: path and inode as the folder tells them, and which file it is.
    known: HashMap<(String, u64), Id>,
    /// Where there is no journal.
    texts: Vec<TextTail>,
    /// The kernel's lines are taken from here alone, if it can be read.
    kernel: Option<OwnedFd>,
    /// When it began, microseconds since 1970.
    began_us: u64,
    /// The lines that were returned, and by which source.
    told: VecDeque<(u64, Arc<str>)>,
    trouble: Vec<(String, String)>,
}

impl std::fmt::Debug for LogFollower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFollower").field("sources", &self.sources()).finish_non_exhaustive()
    }
}

impl LogFollower {
    /// Begins behind the newest line of the node whose file system is at `host_root`.
    ///
    /// # Errors
    /// The kernel's, when the host root cannot be opened. What else cannot be read is told by [`LogFollower::read`].
    pub fn begin(host_root: &Path) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::begin_at(host_root, u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
    }

    /// The same; what is older in a file that appears later is taken for a copy.
    pub(super) fn begin_at(host_root: &Path, began_us: u64) -> io::Result<Self> {
        let root = File::open(host_root)?;
        let mut this = Self {
            kernel: kmsg::open(&root).ok().filter(|fd| seek(fd, SeekFrom::End(0)).is_ok()),
            root,
            journals: Vec::new(),
            known: HashMap::new(),
            texts: Vec::new(),
            began_us,
            told: VecDeque::new(),
            trouble: Vec::new(),
        };
        this.look_for_journals(true);
        if this.known.is_empty() {
            this.texts = text::FILES.iter().map(|path| TextTail::begin(&this.root, path)).collect();
            if !this.texts.iter().any(TextTail::is_there) {
                // Whatever comes first.
                this.texts.clear();
            }
        }
        Ok(this)
    }

    /// What is followed, as seen from the node.
    pub fn sources(&self) -> Vec<&str> {
        let texts = self.texts.iter().filter(|text| text.is_there()).map(|text| &*text.source);
        let journals = self.journals.iter().map(|held| held.path.as_str());
        journals.chain(texts).chain(self.kernel.as_ref().map(|_| kmsg::PATH)).collect()
    }

    /// The lines since the last call that `keep` wants. Nothing fails.
    pub fn read(&mut self, keep: &dyn Fn(&NodeLogEntry) -> bool) -> NewLines {
        let mut new = NewLines::default();
        // Files that were rotated away stand before those that took their place.
        let mut journals = std::mem::take(&mut self.journals);
        let listed = |id| self.known.values().any(|known| *known == id);
        journals.retain_mut(|held| match self.read_journal(held, &mut new, keep) {
            Ok(true) => true,
            Ok(false) => !held.journal.archived && listed(held.id),
            Err(error) => {
                new.trouble(&held.path, &error);
                false
            }
        });
        self.journals = journals;
        self.read_texts(&mut new, keep);
        self.read_kernel(&mut new, keep);
        if self.texts.is_empty() && !new.is_full() {
            let before = self.journals.len();
            self.look_for_journals(false);
            new.more |= self.journals.len() > before;
        }
        new.more |= new.is_full();
        new.unread.append(&mut self.trouble);
        new.entries.sort_by_key(|entry| entry.realtime_us);
        new.entries.retain(|entry| self.is_new(entry));
        new
    }

    /// Whether there is more in it.
    fn read_journal(
        &self,
        held: &mut Held,
        new: &mut NewLines,
        keep: &dyn Fn(&NodeLogEntry) -> bool,
    ) -> io::Result<bool> {
        held.journal.refresh()?;
        while !new.is_full() {
            let Some(at) = held.journal.next(&mut held.position)? else { return Ok(false) };
            new.looked += 1;
            match held.decoder.entry(&mut held.journal, at) {
                Ok(Some(entry)) if entry.realtime_us >= held.since_us => {
                    let wanted = !(entry.is_kernel() && self.kernel.is_some()) && keep(&entry);
                    new.entries.extend(wanted.then_some(entry));
                }
                Ok(_) => {}
                Err(error) if !held.damaged => {
                    held.damaged = true;
                    new.unread.push((held.path.clone(), format!("in part: {error}")));
                }
                Err(_) => {}
            }
        }
        Ok(true)
    }

    fn look_for_journals(&mut self, first: bool) {
        let mut listed = HashMap::new();
        let (known, journals, trouble) = (&self.known, &mut self.journals, &mut self.trouble);
        let since_us = if first { 0 } else { self.began_us };
        let unread = each_file(&self.root, &mut |found| {
            let key = (found.path.clone(), found.inode);
            if let Some(id) = known.get(&key) {
                listed.insert(key, *id);
                return Ok(());
            }
            let file = found.open()?;
            let metadata = file.metadata()?;
            let id = (metadata.dev(), metadata.ino());
            let renamed = known.values().any(|known| *known == id);
            if !renamed {
                // One that is just being made has no header yet: it is tried again.
                let Some(held) = hold(found, file, id, first, since_us)? else {
                    listed.insert(key, id);
                    return Ok(());
                };
                if journals.len() == MOST_HELD {
                    trouble
                        .push((found.path.clone(), "too many journals are written to: not followed".into()));
                } else {
                    journals.push(held);
                }
            }
            listed.insert(key, id);
            Ok(())
        });
        if first {
            self.trouble.extend(unread);
        }
        self.known = listed;
    }

    fn read_texts(&mut self, new: &mut NewLines, keep: &dyn Fn(&NodeLogEntry) -> bool) {
        let now = text::now_seconds();
        for tail in &mut self.texts {
            let source = Arc::clone(&tail.source);
            let kernel = self.kernel.is_some();
            let mut entries = Vec::new();
            let result = tail.read(&self.root, &mut |line| {
                let entry = text::parse(&super::merge::message(line), now, &source);
                entries.extend(entry.filter(|entry| !(entry.is_kernel() && kernel) && keep(entry)));
                entries.len() < MOST_KEPT
            });
            new.entries.append(&mut entries);
            match result {
                Ok(more) => new.more |= more,
                Err(error) => new.trouble(&source, &error),
            }
        }
    }

    fn read_kernel(&mut self, new: &mut NewLines, keep: &dyn Fn(&NodeLogEntry) -> bool) {
        let Some(fd) = &self.kernel else { return };
        let source: Arc<str> = Arc::from(kmsg::PATH);
        let booted_us = kmsg::booted_us();
        let mut record = [0; 16 << 10];
        while !new.is_full() {
            match rustix::io::read(fd, &mut record) {
                Ok(0) | Err(Errno::AGAIN) => return,
                Err(Errno::PIPE) => {
                    new.unread.push((
                        kmsg::PATH.to_owned(),
                        "the kernel overwrote lines before they were read".into(),
                    ));
                }
                Err(Errno::INTR | Errno::INVAL) => {}
                Err(error) => {
                    new.trouble(kmsg::PATH, &error.into());
                    self.kernel = None;
                    return;
                }
                Ok(count) => {
                    new.looked += 1;
                    let entry = kmsg::parse(record.get(..count).unwrap_or_default(), booted_us, &source);
                    new.entries.extend(entry.filter(keep));
                }
            }
        }
    }

    /// False for a line that another file told of already.
    fn is_new(&mut self, entry: &NodeLogEntry) -> bool {
        let mut hasher = DefaultHasher::new();
        (entry.realtime_us, entry.pid, &entry.message).hash(&mut hasher);
        let key = hasher.finish();
        if self.told.iter().any(|(told, source)| *told == key && *source != entry.source) {
            return false;
        }
        if self.told.len() == MOST_TOLD {
            self.told.pop_front();
        }
        self.told.push_back((key, Arc::clone(&entry.source)));
        true
    }
}

/// A journal to be read on from its end (`first`) or from its beginning; `None` for one that is never written to
/// again.
fn hold(found: &Found<'_>, file: File, id: Id, first: bool, since_us: u64) -> io::Result<Option<Held>> {
    let mut journal = JournalFile::open(file)?;
    if first && journal.archived {
        return Ok(None);
    }
    let position = if first { journal.end()? } else { Position::default() };
    let decoder = Decoder::new(Arc::from(found.path.as_str()));
    Ok(Some(Held { id, path: found.path.clone(), journal, decoder, position, since_us, damaged: false }))
}
