//! The node's files under the host root: bounded, regular files only, links stay inside the root.

use crate::netns;
use rustix::fs::{Dir, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Most bytes that are read of one file; the largest known (a Docker or OCI configuration) is far below.
const MOST_BYTES: usize = 4 << 20;
/// Most names that are read of one folder.
const MOST_NAMES: usize = 100_000;

/// The node's file system.
#[derive(Debug)]
pub(super) struct HostFs {
    path: PathBuf,
    root: File,
    /// The first path that this user may not read.
    denied: OnceLock<PathBuf>,
}

impl HostFs {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = File::open(path)?;
        if !root.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path: path.to_owned(), root, denied: OnceLock::new() })
    }

    /// The node's /proc.
    pub(super) fn proc_root(&self) -> PathBuf {
        self.path.join("proc")
    }

    /// The first path that could not be read for want of a privilege.
    pub(super) fn denied(&self) -> Option<PathBuf> {
        self.denied.get().cloned()
    }

    fn note<T>(&self, path: &str, result: io::Result<T>) -> Option<T> {
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::PermissionDenied
        {
            self.denied.get_or_init(|| PathBuf::from(path));
        }
        result.ok()
    }

    /// A whole file, or nothing when it is missing, no regular file, too large or not ours to read.
    pub(super) fn read(&self, path: &str) -> Option<Vec<u8>> {
        let read = || {
            let file = File::from(self.open_flags(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?);
            if !file.metadata()?.is_file() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            netns::read_whole(&file, MOST_BYTES)
        };
        self.note(path, read())
    }

    /// A short file as text.
    pub(super) fn read_text(&self, path: &str) -> Option<String> {
        self.read(path).and_then(|bytes| String::from_utf8(bytes).ok())
    }

    /// JSON that has at least the fields of `T`.
    pub(super) fn read_json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Option<T> {
        serde_json::from_slice(&self.read(path)?).ok()
    }

    /// The names in a folder, in no order.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let list = || {
            let fd = self.open_flags(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let names = Dir::new(fd)?
                .filter_map(Result::ok)
                .filter_map(|entry| entry.file_name().to_str().ok().map(ToOwned::to_owned))
                .filter(|name| name != "." && name != "..");
            Ok(names.take(MOST_NAMES).collect())
        };
        self.note(path, list()).unwrap_or_default()
    }

    /// Whether something is there; a place that may not be looked into counts, so that its use says why not.
    pub(super) fn exists(&self, path: &str) -> bool {
        match self.open_flags(path, OFlags::PATH) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
        }
    }

    /// Where a symbolic link points, when it is one.
    pub(super) fn link_target(&self, path: &str) -> Option<String> {
        let link = self.open_flags(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        rustix::fs::readlinkat(&link, "", Vec::new()).ok()?.into_string().ok()
    }

    /// A file of the node with open(2) flags; `O_PATH` for sockets and namespaces.
    pub(super) fn open_flags(&self, path: &str, flags: OFlags) -> io::Result<std::os::fd::OwnedFd> {
        netns::open_in_root(self.root.as_fd(), Path::new(path), flags)
    }
}
