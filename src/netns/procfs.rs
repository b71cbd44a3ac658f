//! What a node's /proc says of each process, in bounded pieces.

use super::{open_in_root, read_whole};
use rustix::fs::{Dir, Mode, OFlags, openat, readlinkat};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Processes that are looked at; the kernel's own limit is 4 million PIDs.
const MOST_PIDS: usize = 100_000;
/// Bytes of one file; a longer one is as good as none.
const MOST_BYTES: usize = 64 << 10;

/// A /proc held open.
#[derive(Debug)]
pub struct Procfs(OwnedFd);

impl Procfs {
    /// Opens the proc file system at `path`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(File::open(path)?.into()))
    }

    /// Opens `/proc` of the file system whose `/` is `root`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn in_root(root: BorrowedFd<'_>) -> io::Result<Self> {
        open_in_root(root, Path::new("/proc"), OFlags::RDONLY | OFlags::DIRECTORY).map(Self)
    }

    /// Every PID, in ascending order.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pids(&self) -> io::Result<Vec<u32>> {
        let names = Dir::read_from(&self.0)?.filter_map(Result::ok);
        let pids = names.filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok());
        let mut pids: Vec<u32> = pids.take(MOST_PIDS).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// A small file of a process: `stat`, `cgroup`, `comm`. `None` when it has ended, or may not be read.
    pub fn bytes(&self, pid: u32, name: &str) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&self.0, format!("{pid}/{name}"), flags, Mode::empty()).ok()?;
        read_whole(&file, MOST_BYTES).ok()
    }

    /// As [`Procfs::bytes`]; what is no UTF-8 is replaced.
    pub fn text(&self, pid: u32, name: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(pid, name)?).into_owned())
    }

    /// What a symbolic link of a process says: `exe`, `ns/net`.
    pub fn link(&self, pid: u32, name: &str) -> Option<Vec<u8>> {
        Some(readlinkat(&self.0, format!("{pid}/{name}"), Vec::new()).ok()?.into_bytes())
    }

    /// Arguments of a process, without empty ones.
    pub fn arguments(&self, pid: u32) -> Vec<String> {
        let bytes = self.bytes(pid, "cmdline").unwrap_or_default();
        let parts = bytes.split(|&byte| byte == 0).filter(|part| !part.is_empty());
        parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
    }

    /// Whether a process runs a program whose file is called so. One link is cheaper to read than a file; where it
    /// cannot be read (a kernel thread, a missing privilege) the kernel's own name for it decides, its first 15 bytes.
    pub fn runs(&self, pid: u32, is_called: impl Fn(&[u8]) -> bool) -> bool {
        match self.link(pid, "exe") {
            Some(path) => path.rsplit(|&byte| byte == b'/').next().is_some_and(is_called),
            None => self.bytes(pid, "comm").is_some_and(|name| is_called(&name)),
        }
    }
}

impl AsFd for Procfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told_of() {
        let proc = Procfs::open(Path::new("/proc")).unwrap();
        let own = std::process::id();
        let pids = proc.pids().unwrap();
        assert!(pids.contains(&own) && pids.is_sorted());
        let arguments: Vec<String> = std::env::args().filter(|a| !a.is_empty()).collect();
        assert_eq!(proc.arguments(own), arguments);
        assert!(proc.text(own, "stat").unwrap().starts_with(&format!("{own} (")));
        let exe = std::env::current_exe().unwrap();
        let name = exe.file_name().unwrap().as_encoded_bytes();
        assert!(proc.runs(own, |n| n == name) && !proc.runs(own, |n| n == b"x"));
        assert!(proc.link(own, "ns/net").unwrap().starts_with(b"net:["));
    }

    #[test]
    fn what_is_not_there_or_too_long_is_nothing_and_hinders_nothing() {
        assert!(Procfs::open(Path::new("/proc/none")).is_err());
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        assert!(Procfs::in_root(root.as_fd()).is_err());
        let put = |path: &str, bytes: &[u8]| {
            let path = dir.path().join("proc").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        put("7/cmdline", b"a\0\0b\xff\0");
        put("7/comm", b"name\n");
        put("7/stat", &vec![b'x'; MOST_BYTES + 1]);
        put("sys/x", b"");
        put("10/comm", b"");
        let fifo = dir.path().join("proc/10/cgroup");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let proc = Procfs::in_root(root.as_fd()).unwrap();
        assert_eq!(proc.pids().unwrap(), [7, 10]);
        assert_eq!(proc.arguments(7), ["a", "b\u{fffd}"]);
        assert_eq!(proc.bytes(7, "stat"), None);
        assert!(proc.runs(7, |name| name == b"name\n"), "without a link the kernel's name decides");
        assert_eq!((proc.bytes(8, "comm"), proc.arguments(8)), (None, vec![]));
        assert!(proc.bytes(10, "cgroup").unwrap_or_default().is_empty(), "nobody writes to it");
    }
}
