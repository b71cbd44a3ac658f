//! Which journal files there are, and what is wanted of each.

use super::decode::Decoder;
use super::file::JournalFile;
use super::{NodeLogQuery, is_node_unit, merge};
use crate::facts::NodeLog;
use crate::netns::open_in_root;
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

const FOLDERS: &[&str] = &["/var/log/journal", "/run/log/journal"];
/// Whether a value is looked for.
type Wanted<'a> = &'a dyn Fn(&[u8]) -> bool;

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
/// Most files that are opened; journald keeps 100.
const MOST_FILES: usize = 2000;

/// Reads all journals that may hold something of the time; archived (`@`) and unclean (`~`) ones too.
pub(super) fn read_journals(root: &File, query: &NodeLogQuery<'_>, log: &mut NodeLog) {
    let unread = each_file(root, &mut |found| read_file(&found.path, found.open()?, query, log));
    log.unread.extend(unread);
}

/// A journal file by its name.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// As seen from the node.
    pub(super) path: String,
    /// Its number in its file system; a name that is given to another file gets another.
    pub(super) inode: u64,
    folder: &'a OwnedFd,
    name: &'a str,
}

impl Found<'_> {
    /// Opens it, unless it is a link.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn open(&self) -> io::Result<File> {
        let file = File::from(openat(self.folder, self.name, FLAGS, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(file)
    }
}

/// Calls `visit` for every journal file in the order of their names; returns what could not be read, and why.
pub(super) fn each_file(
    root: &File,
    visit: &mut dyn FnMut(&Found<'_>) -> io::Result<()>,
) -> Vec<(String, String)> {
    let mut unread = Vec::new();
    for folder in FOLDERS {
        let opened = open_in_root(root.as_fd(), Path::new(folder), OFlags::RDONLY | OFlags::DIRECTORY);
        let result = opened.and_then(|fd| each_in(folder, &fd, true, visit, &mut unread));
        note(&mut unread, folder, result);
    }
    unread
}

/// Not there: rotated away since the names were read.
fn note(unread: &mut Vec<(String, String)>, path: &str, result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotFound
    {
        unread.push((path.to_owned(), error.to_string()));
    }
}

/// The files of a folder, and of the folders in it (one for each machine id). Links are not followed.
fn each_in(
    path: &str,
    folder: &OwnedFd,
    deeper: bool,
    visit: &mut dyn FnMut(&Found<'_>) -> io::Result<()>,
    unread: &mut Vec<(String, String)>,
) -> io::Result<()> {
    let mut names: Vec<(String, FileType, u64)> = Dir::read_from(folder)?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            Some((entry.file_name().to_str().ok()?.to_owned(), entry.file_type(), entry.ino()))
        })
        .filter(|(name, ..)| !name.starts_with('.'))
        .take(MOST_FILES)
        .collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind, inode) in &names {
        let here = format!("{path}/{name}");
        if is_journal(name) && *kind != FileType::Directory {
            let found = Found { path: here.clone(), inode: *inode, folder, name };
            let result = visit(&found);
            note(unread, &here, result);
        } else if deeper && matches!(kind, FileType::Directory | FileType::Unknown) {
            let result = openat(folder, name, FLAGS | OFlags::DIRECTORY, Mode::empty())
                .map_err(io::Error::from)
                .and_then(|fd| each_in(&here, &fd, false, visit, unread));
            note(unread, &here, result);
        }
    }
    Ok(())
}

/// `system.journal`, `system@….journal`, `…journal~`. What users log (`user-1000.journal`) is none of the node's.
fn is_journal(name: &str) -> bool {
    (name.ends_with(".journal") || name.ends_with(".journal~")) && !name.starts_with("user-")
}

pub(super) fn read_file(
    path: &str,
    file: File,
    query: &NodeLogQuery<'_>,
    log: &mut NodeLog,
) -> io::Result<()> {
    let mut journal = JournalFile::open(file)?;
    log.sources.push(path.to_owned());
    // 0: nothing was written yet, or the header was not brought up to date.
    if journal.newest_us != 0 && journal.newest_us < query.since_us {
        return Ok(());
    }
    let mut damage = None;
    let mut places = Vec::new();
    let mut wanted: Vec<(&str, Wanted<'_>)> = Vec::new();
    if query.units {
        // UNIT: what systemd says about a unit.
        wanted.extend([("_SYSTEMD_UNIT", &is_node_unit as Wanted<'_>), ("UNIT", &is_node_unit)]);
    }
    if query.kernel {
        wanted.push(("_TRANSPORT", &|value| value == b"kernel"));
    }
    for (field, is_wanted) in wanted {
        let (values, stopped) = journal.values(field, is_wanted);
        damage = damage.or(stopped);
        for value in values {
            let found = journal.newest(&value, query.since_us, query.most);
            places.extend(found.entries);
            log.cut |= found.cut;
            damage = damage.or(found.damage);
        }
    }
    places.sort_unstable();
    places.dedup();
    if places.len() > query.most {
        log.cut = true;
        places.drain(..places.len() - query.most);
    }
    let mut decoder = Decoder::new(Arc::from(path));
    let mut entries = Vec::new();
    for (_, place) in places {
        match decoder.entry(&mut journal, place) {
            Ok(entry) => entries.extend(entry.filter(|entry| (query.keep)(entry))),
            Err(error) => damage = damage.or(Some(error)),
        }
    }
    merge::add(log, entries, query.most);
    if let Some(error) = damage {
        log.unread.push((path.to_owned(), format!("in part: {error}")));
    }
    Ok(())
}
