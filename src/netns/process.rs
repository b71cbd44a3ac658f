//! A process pinned so that its PID cannot silently become another's.

use super::{NetNs, NetNsError, read_whole};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a PID cannot be used.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// No such process.
    #[error("the process {pid} has ended")]
    Ended {
        /// The PID.
        pid: u32,
    },
    /// The PID belongs to another process than the one that was meant.
    #[error("PID {pid} has been reused: it started at tick {found}, not {expected}")]
    Reused {
        /// The PID.
        pid: u32,
        /// Start time that was expected, clock ticks since boot.
        expected: u64,
        /// Start time that was found.
        found: u64,
    },
    /// Something else.
    #[error("cannot read process {pid}: {source}")]
    Io {
        /// The PID.
        pid: u32,
        /// The kernel's word.
        source: io::Error,
    },
}

/// A living process, pinned by a pidfd where the kernel has them (5.3), else by its start time.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    proc_root: PathBuf,
    pin: Pin,
}

/// What tells this process from a later one with its PID.
#[derive(Debug)]
enum Pin {
    /// Of our own procfs: becomes readable when the process ends.
    Pidfd(OwnedFd),
    /// Start time in clock ticks since boot.
    Start(u64),
}

impl Process {
    /// Pins process `pid` of the proc file system at `proc_root` (`/proc`, `/host/proc`). With
    /// `expected_start` (field 22 of proc_pid_stat(5), clock ticks) a reused PID is refused.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn open(proc_root: &Path, pid: u32, expected_start: Option<u64>) -> Result<Self, ProcessError> {
        let pidfd = open_pidfd(proc_root, pid)?;
        let pin = match pidfd {
            Some(fd) => Pin::Pidfd(fd),
            None => Pin::Start(start_time(proc_root, pid)?),
        };
        let process = Self { pid, proc_root: proc_root.to_owned(), pin };
        if let Some(expected) = expected_start {
            let found = process.start_time()?;
            if found != expected {
                return Err(ProcessError::Reused { pid, expected, found });
            }
        }
        // A zombie has a pidfd, and no namespace any more.
        process.check()?;
        Ok(process)
    }

    /// Its PID.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its start time, clock ticks since boot.
    ///
    /// # Errors
    /// As [`start_time`].
    pub fn start_time(&self) -> Result<u64, ProcessError> {
        match self.pin {
            Pin::Start(found) => Ok(found),
            Pin::Pidfd(_) => start_time(&self.proc_root, self.pid),
        }
    }

    /// Its folder under /proc.
    pub fn folder(&self) -> PathBuf {
        self.proc_root.join(self.pid.to_string())
    }

    /// Fails once the process has ended or its PID belongs to another; a pidfd knows, else the start time tells.
    ///
    /// # Errors
    /// [`ProcessError::Ended`] or [`ProcessError::Reused`].
    pub fn check(&self) -> Result<(), ProcessError> {
        match &self.pin {
            Pin::Pidfd(fd) => {
                use rustix::event::{PollFd, PollFlags, Timespec, poll};
                let mut fds = [PollFd::new(fd, PollFlags::IN)];
                let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
                // A pidfd becomes readable when its process ends (pidfd_open(2)).
                match poll(&mut fds, Some(&zero)) {
                    Ok(0) => Ok(()),
                    Ok(_) => Err(ProcessError::Ended { pid: self.pid }),
                    Err(error) => Err(ProcessError::Io { pid: self.pid, source: error.into() }),
                }
            }
            Pin::Start(expected) => {
                let (expected, found) = (*expected, start_time(&self.proc_root, self.pid)?);
                if found == expected {
                    Ok(())
                } else {
                    Err(ProcessError::Reused { pid: self.pid, expected, found })
                }
            }
        }
    }

    /// Opens its network namespace, then checks that it is still the same process.
    ///
    /// # Errors
    /// [`NetNsError`]; [`ProcessError::Ended`] when it ended meanwhile.
    pub fn open_netns(&self) -> Result<NetNs, NetNsError> {
        if let Pin::Pidfd(fd) = &self.pin
            && let Some(netns) = NetNs::of_pidfd(fd.as_fd())
        {
            return Ok(netns);
        }
        let path = self.folder().join("ns/net");
        let opened = match self.pin {
            // Of our own procfs, where that name is nothing else.
            Pin::Pidfd(_) => NetNs::open_on_procfs(&path),
            Pin::Start(_) => NetNs::open(&path),
        };
        self.check()?;
        opened
    }
}

/// A pidfd, or `None` where the kernel has none or the PID belongs to another procfs's PID namespace.
fn open_pidfd(proc_root: &Path, pid: u32) -> Result<Option<OwnedFd>, ProcessError> {
    // A procfs under another root may number its processes differently: there only the start time speaks.
    if proc_root != Path::new("/proc") {
        return Ok(None);
    }
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(ProcessError::Ended { pid })?;
    match pidfd_open(number, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::SRCH) => Err(ProcessError::Ended { pid }),
        // ENOSYS: before 5.3. EPERM: a seccomp filter. EINVAL: a thread id. The start time decides.
        Err(_) => Ok(None),
    }
}

/// Start time of `pid` in clock ticks since boot: field 22 of proc_pid_stat(5).
///
/// # Errors
/// [`ProcessError::Ended`] when there is no such process, or a zombie: it has no namespaces left.
pub fn start_time(proc_root: &Path, pid: u32) -> Result<u64, ProcessError> {
    let read = |path: PathBuf| read_whole(&std::fs::File::open(path)?, 64 << 10);
    let text = read(proc_root.join(pid.to_string()).join("stat")).map_err(|source| {
        match (source.kind(), source.raw_os_error()) {
            (io::ErrorKind::NotFound, _) | (_, Some(libc::ESRCH)) => ProcessError::Ended { pid },
            _ => ProcessError::Io { pid, source },
        }
    })?;
    match parse_stat(&text) {
        Some(("Z" | "X" | "x", _)) => Err(ProcessError::Ended { pid }),
        Some((_, start)) => Ok(start),
        None => {
            let words = "its stat file is not in the known format";
            Err(ProcessError::Io { pid, source: io::Error::new(io::ErrorKind::InvalidData, words) })
        }
    }
}

/// State and start time: fields 3 and 22. The name in field 2 may hold blanks and brackets, so fields are counted
/// from its last `)`.
fn parse_stat(stat: &[u8]) -> Option<(&str, u64)> {
    let end = stat.iter().rposition(|&b| b == b')')?;
    let mut fields = std::str::from_utf8(stat.get(end + 1..)?).ok()?.split_ascii_whitespace();
    Some((fields.next()?, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let stat = b"7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        assert_eq!(parse_stat(stat), Some(("S", 4242)));
        assert_eq!(parse_stat(b"7 (x"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn a_namespace_is_the_same_however_it_was_opened() {
        let own = NetNs::own().unwrap();
        let process = Process::open(Path::new("/proc"), std::process::id(), None).unwrap();
        assert_eq!(process.open_netns().unwrap().inode(), own.inode());
        let by_time = Process { pin: Pin::Start(process.start_time().unwrap()), ..process };
        assert_eq!(by_time.open_netns().unwrap().inode(), own.inode());
    }

    #[test]
    fn a_process_that_ended_after_it_was_pinned_has_no_namespace() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::open(Path::new("/proc"), child.id(), None).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let ended = process.open_netns();
        assert!(matches!(ended, Err(NetNsError::Process(ProcessError::Ended { .. }))), "{ended:?}");
    }

    #[test]
    fn another_start_time_is_a_reused_pid() {
        let own = std::process::id();
        let root = Path::new("/proc");
        let start = start_time(root, own).unwrap();
        assert!(Process::open(root, own, Some(start)).unwrap().check().is_ok());
        assert!(matches!(Process::open(root, own, Some(start + 1)), Err(ProcessError::Reused { .. })));
    }

    #[test]
    fn a_process_that_ended_is_named() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(
            matches!(Process::open(Path::new("/proc"), pid, None), Err(ProcessError::Ended { pid: p }) if p == pid)
        );
    }
}
