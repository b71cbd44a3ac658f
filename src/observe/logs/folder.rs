//! A pod's log folder: which files belong to which attempt of a container, in the order in which they were written.
//!
//! `/var/log/pods/<namespace>_<name>_<uid>/<container>/<attempt>.log`, beside it `<attempt>.log.<STAMP>` and
//! `<attempt>.log.<STAMP>.gz`, which the kubelet has rotated away (kubelet container_log_manager.go). With Docker
//! `<attempt>.log` is a link to `<data-root>/containers/<id>/<id>-json.log`, and Docker rotates: `….1`, `….2.gz`.
//!
//! A pod that mounts the node's /var/log writes here what it likes: no other link is followed.

use super::LogError;
use crate::netns::{open_in_root, reopen};
use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, openat, readlinkat};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Where the kubelet keeps the folders.
pub(super) const PODS: &str = "/var/log/pods";
/// Most names that are read of one folder: pods may write here.
const MOST_NAMES: usize = 10_000;

/// A file that is part of the log of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogFile {
    /// Older ones first; the one that is written to is the last.
    order: Order,
    /// Its name in its folder.
    pub(super) name: String,
    /// Whether it is packed.
    pub(super) gzip: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// By the time at which it was rotated away.
    Stamp(String),
    /// By how often it was: the highest is the oldest.
    Count(std::cmp::Reverse<u32>),
    /// Not yet.
    Current,
}

/// The folder of one pod, open.
#[derive(Debug)]
pub struct PodLogFolder {
    root: File,
    folder: OwnedFd,
    path: String,
}

/// The folder in which the files of one attempt are: the container's, or Docker's.
#[derive(Debug)]
pub(super) struct Place {
    folder: OwnedFd,
    path: String,
    /// What the names of the attempt's files begin with: `0.log`, `<id>-json.log`.
    pub(super) stem: String,
}

impl PodLogFolder {
    /// Opens `<namespace>_<name>_<uid>` below `/var/log/pods` of the node whose file system is at `host_root`.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(host_root: &Path, name: &str) -> Result<Self, LogError> {
        let path = format!("{PODS}/{name}");
        let failed = |source| LogError::read(&path, source);
        let root = File::open(host_root).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = open_in_root(root.as_fd(), Path::new(&path), flags).map_err(failed)?;
        Ok(Self { root, folder, path })
    }

    /// Whether the kubelet has removed it since it was opened.
    pub fn is_removed(&self) -> bool {
        fstat(&self.folder).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// The pod's containers that have a log folder, by name.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn containers(&self) -> Result<Vec<String>, LogError> {
        let entries = Dir::read_from(&self.folder).map_err(|e| LogError::read(&self.path, e.into()))?;
        let mut names: Vec<String> = entries
            .take(MOST_NAMES)
            .filter_map(Result::ok)
            // DT_UNKNOWN: the file system does not say.
            .filter(|entry| matches!(entry.file_type(), FileType::Directory | FileType::Unknown))
            .filter_map(|entry| entry.file_name().to_str().ok().map(ToOwned::to_owned))
            .filter(|name| name != "." && name != "..")
            .collect();
        names.sort();
        Ok(names)
    }

    /// The attempts of a container of which a log is there, lowest first.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn attempts(&self, container: &str) -> Result<Vec<u32>, LogError> {
        let (folder, path) = self.container(container)?;
        let names = names(&folder, &path)?;
        let attempt = |name: &String| {
            let attempt: u32 = name.split_once(".log")?.0.parse().ok()?;
            // `+7.log` and `007.log` are nobody's.
            log_file(&format!("{attempt}.log"), name).map(|_| attempt)
        };
        let mut attempts: Vec<u32> = names.iter().filter_map(attempt).collect();
        attempts.sort_unstable();
        attempts.dedup();
        Ok(attempts)
    }

    fn container(&self, name: &str) -> Result<(OwnedFd, String), LogError> {
        let path = format!("{}/{name}", self.path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(folder) => Ok((folder, path)),
            Err(error) => Err(LogError::read(&path, error.into())),
        }
    }

    /// Where the files of an attempt are.
    pub(super) fn place(&self, container: &str, attempt: u32) -> Result<Place, LogError> {
        let (folder, path) = self.container(container)?;
        let stem = format!("{attempt}.log");
        let Ok(target) = readlinkat(&folder, &stem, Vec::new()) else {
            return Ok(Place { folder, path, stem });
        };
        let target = target.to_string_lossy().into_owned();
        let Some((docker, stem)) = docker_log(&target) else {
            return Err(LogError::Link { path: format!("{path}/{stem}"), target });
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = open_in_root(self.root.as_fd(), Path::new(docker), flags)
            .map_err(|source| LogError::read(docker, source))?;
        Ok(Place { folder, path: docker.to_owned(), stem: stem.to_owned() })
    }
}

impl Place {
    /// The attempt's files, the oldest first.
    pub(super) fn files(&self) -> Result<Vec<LogFile>, LogError> {
        let names = names(&self.folder, &self.path)?;
        let mut files: Vec<LogFile> = names.iter().filter_map(|name| log_file(&self.stem, name)).collect();
        // While the kubelet packs a file both are there for a moment: the plain one sorts first.
        files.sort_by(|a, b| (&a.order, a.gzip).cmp(&(&b.order, b.gzip)));
        files.dedup_by(|later, first| later.order == first.order);
        Ok(files)
    }

    /// Opens one of its files: a regular one, and no link.
    pub(super) fn open(&self, file: &LogFile) -> Result<File, LogError> {
        let path = format!("{}/{}", self.path, file.name);
        let failed = |source: io::Error| LogError::read(&path, source);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(&self.folder, &file.name, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let kind = FileType::from_raw_mode(fstat(&handle).map_err(|e| failed(e.into()))?.st_mode);
        match kind {
            FileType::RegularFile => reopen(&handle, OFlags::RDONLY).map_err(failed),
            FileType::Symlink => {
                let target = readlinkat(&handle, "", Vec::new()).unwrap_or_default();
                Err(LogError::Link { path, target: target.to_string_lossy().into_owned() })
            }
            _ => Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))),
        }
    }

    /// Path of one of its files.
    pub(super) fn path(&self, file: &LogFile) -> String {
        format!("{}/{}", self.path, file.name)
    }
}

fn names(folder: &OwnedFd, path: &str) -> Result<Vec<String>, LogError> {
    let entries = Dir::read_from(folder).map_err(|error| LogError::read(path, error.into()))?;
    let name = |entry: rustix::fs::DirEntry| entry.file_name().to_str().ok().map(ToOwned::to_owned);
    Ok(entries.take(MOST_NAMES).filter_map(Result::ok).filter_map(name).collect())
}

/// What a name in the folder is to the attempt whose files begin with `stem`; temporary files are nothing.
fn log_file(stem: &str, name: &str) -> Option<LogFile> {
    let rest = name.strip_prefix(stem)?;
    let (stamp, gzip) = rest.strip_suffix(".gz").map_or((rest, false), |rest| (rest, true));
    let order = match stamp.strip_prefix('.') {
        None if stamp.is_empty() && !gzip => Order::Current,
        Some(stamp) if stamp.len() >= 8 && stamp.bytes().all(|b| b.is_ascii_digit() || b == b'-') => {
            Order::Stamp(stamp.to_owned())
        }
        Some(count) => Order::Count(std::cmp::Reverse(count.parse().ok()?)),
        None => return None,
    };
    Some(LogFile { order, name: name.to_owned(), gzip })
}

/// Folder and file name of a link to Docker's log of a container: `<data-root>/containers/<id>/<id>-json.log`.
fn docker_log(target: &str) -> Option<(&str, &str)> {
    let (folder, file) = target.rsplit_once('/')?;
    let (containers, id) = folder.rsplit_once('/')?;
    let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let named = file.strip_suffix("-json.log") == Some(id);
    let plain = containers.starts_with('/') && !containers.split('/').any(|part| part == "..");
    (is_id && named && plain && containers.ends_with("/containers")).then_some((folder, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "f687faf1239d5c7575712eec7e01accebd0e529ed80bbf1d2c3567e9a67cc1a3";

    #[test]
    fn rotated_files_come_in_the_order_in_which_they_were_written() {
        let order = |stem: &str, names: &[&str]| {
            let mut files: Vec<LogFile> = names.iter().filter_map(|n| log_file(stem, n)).collect();
            files.sort();
            files.into_iter().map(|file| file.name).collect::<Vec<_>>()
        };
        let names = [
            "0.log",
            "0.log.20261123-171752",
            "0.log.20261123-171552.gz",
            "10.log",
            "0.log.20261123-171752.tmp",
        ];
        assert_eq!(order("0.log", &names), ["0.log.20261123-171552.gz", "0.log.20261123-171752", "0.log"]);
        let docker = ["a-json.log.1", "a-json.log", "a-json.log.10.gz", "a-json.log.2.gz", "a-json.log.gz"];
        assert_eq!(
            order("a-json.log", &docker),
            ["a-json.log.10.gz", "a-json.log.2.gz", "a-json.log.1", "a-json.log"]
        );
    }

    #[test]
    fn only_a_link_to_dockers_own_log_of_a_container_is_known() {
        for root in ["/var/lib/docker", "/mnt/big/docker"] {
            let folder = format!("{root}/containers/{ID}");
            let target = format!("{folder}/{ID}-json.log");
            assert_eq!(docker_log(&target), Some((folder.as_str(), format!("{ID}-json.log").as_str())));
        }
        for target in [
            "/etc/shadow".to_owned(),
            format!("/var/lib/docker/containers/{ID}/hostname"),
            format!("/var/lib/docker/containers/../{ID}/{ID}-json.log"),
            format!("/var/lib/docker/containers/x/{ID}-json.log"),
            format!("containers/{ID}/{ID}-json.log"),
            format!("/a/../containers/{ID}/{ID}-json.log"),
        ] {
            assert_eq!(docker_log(&target), None, "{target}");
        }
    }
}
