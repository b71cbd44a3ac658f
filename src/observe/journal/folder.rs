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

/// Most files that are opened; journald keeps 100.
const MOST_FILES: usize = 2000;

/// Reads all journals that may hold something of the time; archived (`@`) and unclean (`~`) ones too.
pub(super) fn read_journals(root: &File, query: &NodeLogQuery<'_>, log: &mut NodeLog) {
    for folder in FOLDERS {
        let opened = open_in_root(root.as_fd(), Path::new(folder), OFlags::RDONLY | OFlags::DIRECTORY);
        if let Err(error) = opened.and_then(|fd| read_folder(folder, &fd, true, query, log))
            && error.kind() != io::ErrorKind::NotFound
        {
            log.unread.push(((*folder).to_owned(), error.to_string()));
        }
    }
}

/// The files of a folder, and of the folders in it (one for each machine id). Links are not followed.
fn read_folder(
    path: &str,
    folder: &OwnedFd,
    deeper: bool,
    query: &NodeLogQuery<'_>,
    log: &mut NodeLog,
) -> io::Result<()> {
    let mut names: Vec<(String, FileType)> = Dir::read_from(folder)?
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str().ok()?.to_owned(), entry.file_type())))
        .filter(|(name, _)| !name.starts_with('.'))
        .take(MOST_FILES)
        .collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in names {
        let here = format!("{path}/{name}");
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let result = if is_journal(&name) && kind != FileType::Directory {
            openat(folder, &name, flags, Mode::empty())
                .map_err(io::Error::from)
                .and_then(|fd| read_file(&here, File::from(fd), query, log))
        } else if deeper && matches!(kind, FileType::Directory | FileType::Unknown) {
            openat(folder, &name, flags | OFlags::DIRECTORY, Mode::empty())
                .map_err(io::Error::from)
                .and_then(|fd| read_folder(&here, &fd, false, query, log))
        } else {
            Ok(())
        };
        // Not there: rotated away since the names were read.
        if let Err(error) = result
            && error.kind() != io::ErrorKind::NotFound
        {
            log.unread.push((here, error.to_string()));
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
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
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
