//! The files of a ring on the disk: created with time and number in their names, the oldest deleted, and an
//! index beside them of what is where.

use super::file::{FileError, Owner, hand_over};
use super::ring::FileFacts;
use crate::facts::rfc3339;
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// How each file of a ring is opened: never one that is there, never through a link.
const NEW: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Readable by its owner only.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);
/// First line of the index.
const HEAD: &str = "file\tfirst\tlast\tpackets\tbytes\n";

/// The files of one ring, in one folder that is held open.
#[derive(Debug)]
pub struct RingFiles {
    folder: OwnedFd,
    /// The folder as it was typed; empty for the one we are in.
    place: PathBuf,
    /// `web-0` of `web-0.pcapng`.
    stem: String,
    /// `pcapng`.
    extension: String,
    keep: Option<usize>,
    owner: Option<Owner>,
    number: u64,
    files: VecDeque<(String, Option<FileFacts>)>,
}

impl RingFiles {
    /// The ring that `path` names: `x/web-0.pcapng` becomes `x/web-0_00001_20261125T071811Z.pcapng`, … and
    /// `x/web-0.index.tsv`. Of its files at most `keep` are there. An index that is there belongs to another
    /// capture: only `force` replaces it; files of other captures are left alone in any case.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn new(
        path: &Path,
        keep: Option<usize>,
        owner: Option<Owner>,
        force: bool,
    ) -> Result<Self, FileError> {
        let (Some(stem), false) = (path.file_stem(), path.is_dir()) else {
            return Err(FileError::IsFolder(path.to_owned()));
        };
        let place = path.parent().unwrap_or(Path::new("")).to_owned();
        let folder = if place.as_os_str().is_empty() { Path::new(".") } else { &place };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT => FileError::NoFolder { file: path.to_owned(), folder: folder.to_owned() },
            error => FileError::Io { file: path.to_owned(), source: error.into() },
        })?;
        let ring = Self {
            folder,
            place,
            stem: stem.to_string_lossy().into_owned(),
            extension: path.extension().map_or("pcapng".into(), |e| e.to_string_lossy().into_owned()),
            keep,
            owner,
            number: 0,
            files: VecDeque::new(),
        };
        let index = ring.place.join(ring.index());
        if !force && std::fs::symlink_metadata(&index).is_ok() {
            return Err(FileError::Exists(index));
        }
        Ok(ring)
    }

    /// Name of the index.
    fn index(&self) -> String {
        format!("{}.index.tsv", self.stem)
    }

    /// Takes what the file before holds, deletes the oldest where too many would be there, and creates the next;
    /// gives it with its path. `unix_seconds` goes into its name.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next(&mut self, done: Option<FileFacts>, unix_seconds: i64) -> io::Result<(File, String)> {
        self.note(done);
        if let Some(keep) = self.keep {
            while self.files.len() >= keep.max(1)
                && let Some((oldest, _)) = self.files.pop_front()
            {
                match unlinkat(&self.folder, &oldest, AtFlags::empty()) {
                    // Somebody has moved it away: that is what rings are for.
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.number += 1;
        let time = rfc3339(unix_seconds).replace(['-', ':'], "");
        let name = format!("{}_{:05}_{time}.{}", self.stem, self.number, self.extension);
        let file = File::from(openat(&self.folder, &name, NEW, PRIVATE)?);
        hand_over(&file, self.owner);
        self.files.push_back((name.clone(), None));
        self.write_index()?;
        Ok((file, self.place.join(name).to_string_lossy().into_owned()))
    }

    /// Takes what the last file holds.
    ///
    /// # Errors
    /// The kernel's, when the index cannot be written.
    pub fn end(&mut self, done: FileFacts) -> io::Result<()> {
        self.note(Some(done));
        self.write_index()
    }

    fn note(&mut self, done: Option<FileFacts>) {
        if let (Some((_, facts)), Some(done)) = (self.files.back_mut(), done) {
            *facts = Some(done);
        }
    }

    /// Replaces the index by one of the files that are there: whoever reads it sees the old one or the new one.
    fn write_index(&self) -> io::Result<()> {
        let (index, fresh) = (self.index(), format!(".{}.new", self.index()));
        let _ = unlinkat(&self.folder, &fresh, AtFlags::empty());
        let mut file = File::from(openat(&self.folder, &fresh, NEW, PRIVATE)?);
        hand_over(&file, self.owner);
        let written = file.write_all(table(&self.files).as_bytes());
        if let Err(error) = written {
            let _ = unlinkat(&self.folder, &fresh, AtFlags::empty());
            return Err(error);
        }
        Ok(renameat(&self.folder, &fresh, &self.folder, &index)?)
    }
}

/// The index as text: one file a line, tabs between the fields; of the file that is being written only its name.
fn table(files: &VecDeque<(String, Option<FileFacts>)>) -> String {
    let mut text = HEAD.to_owned();
    for (name, facts) in files {
        // A name of the user's, with whatever is in it: a line stays a line.
        let name = name.replace(['\t', '\n'], "?");
        let line = match facts {
            None => format!("{name}\t\t\t\t\n"),
            Some(f) if f.packets == 0 => format!("{name}\t\t\t0\t{}\n", f.bytes),
            Some(f) => {
                format!("{name}\t{}\t{}\t{}\t{}\n", moment(f.first_ns), moment(f.last_ns), f.packets, f.bytes)
            }
        };
        text.push_str(&line);
    }
    text
}

/// RFC 3339 in UTC with nanoseconds.
fn moment(time_ns: u64) -> String {
    let seconds = i64::try_from(time_ns / 1_000_000_000).unwrap_or(0);
    rfc3339(seconds).replace('Z', &format!(".{:09}Z", time_ns % 1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOON: i64 = 1_795_453_424;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_last_files_stay_and_the_index_says_what_they_hold() {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = RingFiles::new(&folder.path().join("web-0.pcapng"), Some(2), None, false).unwrap();
        let facts = |first_ns| FileFacts { first_ns, last_ns: first_ns + 5, packets: 3, bytes: 400 };
        let (file, path) = ring.next(None, NOON).unwrap();
        assert_eq!(path, folder.path().join("web-0_00001_20261123T170344Z.pcapng").to_str().unwrap());
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        ring.next(Some(facts(1)), NOON).unwrap();
        ring.next(Some(facts(1_795_453_424_000_000_002)), NOON + 1).unwrap();
        let there =
            ["web-0.index.tsv", "web-0_00002_20261123T170344Z.pcapng", "web-0_00003_20261123T170345Z.pcapng"];
        assert_eq!(names(folder.path()), there);
        let index = || std::fs::read_to_string(folder.path().join("web-0.index.tsv")).unwrap();
        let second = "web-0_00002_20261123T170344Z.pcapng\t2026-11-23T17:03:44.000000002Z\t2026-11-23T17:03:44.000000007Z\t3\t400\n";
        assert_eq!(index(), format!("{HEAD}{second}web-0_00003_20261123T170345Z.pcapng\t\t\t\t\n"));
        ring.end(FileFacts { bytes: 96, ..FileFacts::default() }).unwrap();
        assert_eq!(index(), format!("{HEAD}{second}web-0_00003_20261123T170345Z.pcapng\t\t\t0\t96\n"));
    }

    #[test]
    fn an_index_of_another_capture_is_kept_and_so_is_a_file_that_is_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcapng");
        std::fs::write(folder.path().join("a.index.tsv"), "precious").unwrap();
        assert!(matches!(RingFiles::new(&path, None, None, false), Err(FileError::Exists(_))));
        let mut ring = RingFiles::new(&path, None, None, true).unwrap();
        let target = folder.path().join("target");
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join("a_00001_20261123T170344Z.pcapng")).unwrap();
        assert!(ring.next(None, NOON).is_err());
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
        assert!(matches!(
            RingFiles::new(&folder.path().join("no/a"), None, None, false),
            Err(FileError::NoFolder { .. })
        ));
        assert!(matches!(RingFiles::new(folder.path(), None, None, false), Err(FileError::IsFolder(_))));
    }
}
