//! Opening a path as if a folder were `/`: symbolic links inside cannot lead out of it.
//!
//! `openat2(2)` with `RESOLVE_IN_ROOT` where the kernel has it (5.6), else the same walk component by
//! component, where `..` goes back through folders that are already open and never through the file system.

use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat, openat2, readlinkat,
};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// As many symbolic links as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;
/// `PROC_SUPER_MAGIC`: links on procfs may be magic ones.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// Opens `path` inside `root`, which stands for `/`: absolute links and `..` stay below it, magic links of
/// /proc are refused. `flags` as in open(2); `O_PATH` opens without touching what is there.
///
/// # Errors
/// The kernel's; ELOOP for a magic link.
///
/// Source: openat2(2), RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: something was renamed during the walk, and the kernel could not tell whether `..` stayed inside.
    for _ in 0..8 {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(fd) => return Ok(fd),
            Err(Errno::AGAIN) => {}
            // ENOSYS: before 5.6. EPERM: a seccomp filter that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => return walk_in_root(root, path, flags),
            Err(other) => return Err(other.into()),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Reads a regular file of at most `limit` bytes inside `root`; whatever else is at the path is not opened.
///
/// # Errors
/// The kernel's; `InvalidInput` for another kind of file, `FileTooLarge` past the limit.
pub fn read_in_root(root: BorrowedFd<'_>, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let handle = open_in_root(root, path, OFlags::PATH)?;
    let kind = FileType::from_raw_mode(fstat(&handle)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    read_bounded(&mut reopen(&handle, OFlags::RDONLY)?, limit)
}

/// Opens what an `O_PATH` handle stands for: the very same file, not its name once more.
///
/// # Errors
/// The kernel's.
pub fn reopen(handle: &impl AsFd, flags: OFlags) -> io::Result<File> {
    let path = handle_path(handle);
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// The path under our own /proc that leads to an open handle.
pub fn handle_path(handle: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd()))
}

fn read_bounded(file: &mut File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|n| n > limit) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// All of a file that a filled buffer alone can end early: one on disk, or one of /proc that the kernel makes in
/// one piece (stat, cgroup, comm, cmdline). A read that leaves room was the last one, so most files cost one.
///
/// # Errors
/// The kernel's, and [`io::ErrorKind::FileTooLarge`] above `limit` bytes.
pub fn read_whole(file: &impl AsFd, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4 << 10);
    loop {
        let room = bytes.capacity() - bytes.len();
        let count = match rustix::io::read(file, spare_capacity(&mut bytes)) {
            Err(Errno::INTR) => continue,
            count => count?,
        };
        if bytes.len() > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
        }
        if count < room {
            return Ok(bytes);
        }
        bytes.reserve(bytes.len());
    }
}

/// What `openat2` does, without it.
fn walk_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let mut folders: Vec<OwnedFd> = Vec::new();
    let mut ahead: VecDeque<OsString> = steps(path);
    let folder_only = path.as_os_str().as_bytes().ends_with(b"/");
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == "/" {
            folders.clear();
            continue;
        }
        if name == ".." {
            folders.pop();
            continue;
        }
        let here = folders.last().map_or(root, AsFd::as_fd);
        let found = openat(here, &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let kind = FileType::from_raw_mode(fstat(&found)?.st_mode);
        if kind == FileType::Symlink {
            if ahead.is_empty() && flags.contains(OFlags::NOFOLLOW) {
                return if flags.contains(OFlags::PATH) { Ok(found) } else { Err(Errno::LOOP.into()) };
            }
            links += 1;
            if links > MOST_LINKS || fstatfs(&found)?.f_type == PROC_SUPER_MAGIC {
                return Err(Errno::LOOP.into());
            }
            let target = OsString::from_vec(readlinkat(&found, "", Vec::new())?.into_bytes());
            for step in steps(Path::new(&target)).into_iter().rev() {
                ahead.push_front(step);
            }
        } else if ahead.is_empty() && kind != FileType::Directory {
            if folder_only {
                return Err(Errno::NOTDIR.into());
            }
            return finish(found, flags);
        } else if kind == FileType::Directory {
            folders.push(found);
        } else {
            return Err(Errno::NOTDIR.into());
        }
    }
    let last = match folders.pop() {
        Some(folder) => folder,
        None => openat(root, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?,
    };
    finish(last, flags)
}

/// The names of a path, `/` first when it is absolute.
fn steps(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::RootDir => Some(OsStr::new("/").to_owned()),
            Component::ParentDir => Some(OsStr::new("..").to_owned()),
            Component::Normal(name) => Some(name.to_owned()),
            Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn finish(found: OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    if flags.contains(OFlags::PATH) {
        return Ok(found);
    }
    if flags.contains(OFlags::DIRECTORY) {
        return Ok(openat(&found, ".", flags | OFlags::CLOEXEC, Mode::empty())?);
    }
    Ok(reopen(&found, flags)?.into())
}

/// Inode of what a path inside `root` leads to, without opening it.
///
/// # Errors
/// The kernel's.
pub fn inode_in_root(root: BorrowedFd<'_>, path: &Path) -> io::Result<u64> {
    let handle = open_in_root(root, path, OFlags::PATH)?;
    Ok(rustix::fs::statat(&handle, "", AtFlags::EMPTY_PATH)?.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("etc/sub")).unwrap();
        std::fs::create_dir_all(at("run/systemd")).unwrap();
        std::fs::write(at("etc/plain"), "plain").unwrap();
        std::fs::write(at("run/systemd/resolv"), "stub").unwrap();
        symlink("/run/systemd/resolv", at("etc/absolute")).unwrap();
        symlink("../run/systemd/resolv", at("etc/relative")).unwrap();
        symlink("../../../../../../../../etc/plain", at("etc/above")).unwrap();
        symlink("/../../etc/passwd", at("etc/escape")).unwrap();
        symlink("loop-b", at("etc/loop-a")).unwrap();
        symlink("loop-a", at("etc/loop-b")).unwrap();
        symlink("/run", at("etc/folder")).unwrap();
        symlink("/proc/self/root/etc/passwd", at("etc/magic")).unwrap();
        nix::unistd::mkfifo(&at("etc/fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        dir
    }

    const PATHS: &[&str] = &[
        "/etc/plain",
        "etc/plain",
        "/etc/absolute",
        "/etc/relative",
        "/etc/above",
        "/etc/escape",
        "/etc/loop-a",
        "/etc/folder/systemd/resolv",
        "/etc/sub/../plain",
        "/../../etc/plain",
        "/etc/missing",
        "/etc/plain/x",
        "/etc/fifo",
        "/etc",
        "/etc/plain/",
        "/",
        "/etc/magic",
    ];

    fn answers(read: impl Fn(BorrowedFd<'_>, &Path) -> io::Result<Vec<u8>>) -> Vec<String> {
        let dir = tree();
        let root = File::open(dir.path()).unwrap();
        let one = |path: &&str| match read(root.as_fd(), Path::new(path)) {
            Ok(bytes) => format!("{path}: {}", String::from_utf8(bytes).unwrap()),
            Err(error) => format!("{path}: {:?} {:?}", error.kind(), error.raw_os_error()),
        };
        PATHS.iter().map(one).collect()
    }

    fn read_by_walk(root: BorrowedFd<'_>, path: &Path) -> io::Result<Vec<u8>> {
        let handle = walk_in_root(root, path, OFlags::PATH)?;
        if FileType::from_raw_mode(fstat(&handle)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        read_bounded(&mut reopen(&handle, OFlags::RDONLY)?, 64)
    }

    #[test]
    fn the_walk_and_openat2_agree_and_neither_leaves_the_root() {
        let by_kernel = answers(|root, path| read_in_root(root, path, 64));
        assert_eq!(by_kernel, answers(read_by_walk));
        assert!(by_kernel.contains(&"/etc/absolute: stub".to_owned()), "{by_kernel:?}");
        assert!(by_kernel.contains(&"/etc/above: plain".to_owned()));
        assert!(by_kernel.iter().any(|a| a.starts_with("/etc/escape: NotFound")));
        assert!(by_kernel.iter().any(|a| a.starts_with("/etc/fifo: InvalidInput")));
    }

    #[test]
    fn a_magic_link_is_refused_both_ways() {
        let root = File::open("/").unwrap();
        let path = Path::new("/proc/self/fd/0");
        for result in
            [open_in_root(root.as_fd(), path, OFlags::PATH), walk_in_root(root.as_fd(), path, OFlags::PATH)]
        {
            assert_eq!(result.map(|_| ()).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        }
    }

    #[test]
    fn a_file_past_the_limit_is_not_read() {
        let dir = tree();
        let root = File::open(dir.path()).unwrap();
        let error = read_in_root(root.as_fd(), Path::new("etc/plain"), 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_in_root(root.as_fd(), Path::new("etc/plain"), 5).unwrap(), b"plain");
    }
}
