//! A host tool in a pod's namespaces: this process enters them and then becomes the tool.
//!
//! There is no child: after `execve` the tool has this process's PID, terminal, process group and open
//! standard streams, so its exit code, its signals and job control need no passing on. Nothing is ever
//! restored, and whatever was mounted belongs to a mount namespace that ends with the tool.

use super::{NetNs, NetNsError};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A UTS namespace (hostname) held open by file descriptor.
#[derive(Debug)]
pub struct Uts {
    fd: OwnedFd,
}

impl Uts {
    /// The UTS namespace of process `pid`, provided that it lives in `netns`: a PID that has been reused
    /// meanwhile is refused, because its /proc folder is held open while both are looked at.
    ///
    /// # Errors
    /// The kernel's when the process has ended or may not be read; `NotFound` when it lives elsewhere.
    pub fn of_process(proc_root: &Path, pid: u32, netns: &NetNs) -> io::Result<Self> {
        let read = OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(
            CWD,
            proc_root.join(pid.to_string()),
            read | OFlags::DIRECTORY,
            Mode::empty(),
        )?;
        let fd = rustix::fs::openat(&folder, "ns/uts", read, Mode::empty())?;
        let net = rustix::fs::statat(&folder, "ns/net", AtFlags::empty())?;
        if net.st_ino != netns.inode() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("process {pid} is not in this network namespace"),
            ));
        }
        Ok(Self { fd })
    }
}

/// Something about the tool's surroundings that could not be arranged; the tool runs all the same.
#[derive(Debug)]
pub struct Shortfall {
    /// What the tool will see instead, for people.
    pub what: &'static str,
    /// The kernel's word.
    pub source: io::Error,
}

/// Moves this process into `netns` and `uts`, and lets /sys show that namespace, in a mount namespace of
/// its own: the host's mounts stay as they are. Only [`replace_process`] may follow.
///
/// # Errors
/// [`NetNsError::Enter`]. A hostname or a /sys that could not be had is returned, not an error.
///
/// Source: setns(2), unshare(2), mount_namespaces(7); `ip netns exec` does the same but hides what is
/// mounted below /sys, such as the cgroups.
pub fn enter_for_tool(netns: &NetNs, uts: Option<&Uts>) -> Result<Vec<Shortfall>, NetNsError> {
    let foreign = NetNs::own().map_or(true, |own| own.inode() != netns.inode());
    netns.enter_for_ever()?;
    let mut shortfalls = Vec::new();
    if let Some(uts) = uts
        && let Err(errno) = setns(&uts.fd, CloneFlags::CLONE_NEWUTS)
    {
        shortfalls.push(Shortfall { what: "the hostname is the caller's", source: errno.into() });
    }
    if foreign && let Err(source) = mount_own_sys() {
        shortfalls.push(Shortfall {
            what: "/sys shows the caller's network namespace (ip and ss are right, /sys/class/net is not)",
            source,
        });
    }
    Ok(shortfalls)
}

/// Becomes the tool; comes back only when that failed.
///
/// The standard library restores what it changed for itself before it calls execvp(3): SIGPIPE is no
/// longer ignored and no signal is blocked. Every other thread of this process ends there.
pub fn replace_process(command: &mut Command) -> io::Error {
    command.exec()
}

/// Covers /sys with a sysfs of the network namespace this process is in.
fn mount_own_sys() -> io::Result<()> {
    const SYS: &str = "/sys";
    let below = mounts_below(&std::fs::read("/proc/thread-self/mountinfo")?, SYS);
    let read_only = statvfs(SYS)?.flags().contains(FsFlags::ST_RDONLY);

    unshare(CloneFlags::CLONE_NEWNS)?;
    // A slave hears of the host's unmounts (a shell left open does not pin volumes) and tells it nothing.
    // When this is refused nothing may be mounted: it would show on the host.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    // Held open in the new mount namespace (a mount of another one cannot be bound): the sysfs is going to
    // cover the way there.
    let kept: Vec<(PathBuf, OwnedFd)> = below
        .into_iter()
        .filter_map(|path| {
            let fd = rustix::fs::openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
            Some((path, fd))
        })
        .collect();
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    flags.set(MsFlags::MS_RDONLY, read_only);
    mount(Some("sysfs"), SYS, Some("sysfs"), flags, None::<&str>)?;
    for (path, fd) in kept {
        let held = format!("/proc/thread-self/fd/{}", fd.as_raw_fd());
        // One that cannot be had back (its folder is gone in the new /sys) is no reason to stop.
        let _ =
            mount(Some(held.as_str()), &path, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>);
    }
    Ok(())
}

/// The mount points directly below `root` in a mountinfo file (proc_pid_mountinfo(5), field 5): those
/// that lie in another one come with it.
fn mounts_below(mountinfo: &[u8], root: &str) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = String::from_utf8_lossy(mountinfo)
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        // Blanks and the like are written in octal; no kernel mount point below /sys has them.
        .filter(|point| !point.contains('\\'))
        .map(PathBuf::from)
        .filter(|point| point.starts_with(root) && point != Path::new(root))
        .collect();
    points.sort();
    let mut outer: Vec<PathBuf> = Vec::new();
    for point in points {
        if !outer.last().is_some_and(|last| point.starts_with(last)) {
            outer.push(point);
        }
    }
    outer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_outermost_mounts_below_sys_are_kept() {
        let mountinfo = b"23 1 0:21 / /sys rw - sysfs sysfs rw\n\
            24 23 0:22 / /sys/fs/cgroup rw - tmpfs t rw\n\
            25 24 0:23 / /sys/fs/cgroup/cpu rw - cgroup c rw\n\
            26 23 0:24 / /sys/fs/bpf rw - bpf b rw\n\
            27 1 0:25 / /system rw - tmpfs t rw\n\
            28 23 0:26 / /sys/odd\\040name rw - tmpfs t rw\n\
            garbage\n";
        let found = mounts_below(mountinfo, "/sys");
        assert_eq!(found, [PathBuf::from("/sys/fs/bpf"), PathBuf::from("/sys/fs/cgroup")]);
    }

    #[test]
    fn a_process_of_another_namespace_lends_no_hostname() {
        let own = NetNs::own().unwrap();
        let me = std::process::id();
        assert!(Uts::of_process(Path::new("/proc"), me, &own).is_ok());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(Uts::of_process(Path::new("/proc"), pid, &own).is_err());
    }
}
