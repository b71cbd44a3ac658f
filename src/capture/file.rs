//! The capture file: created, never overwritten unasked, readable by its owner only.

use nix::unistd::{Gid, Uid};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a capture file cannot be opened.
#[derive(Debug, Error)]
pub enum FileError {
    /// There is a file of that name.
    #[error("{0} exists")]
    Exists(PathBuf),
    /// The folder is not there.
    #[error("cannot create {file}: the folder {folder} does not exist")]
    NoFolder {
        /// The file.
        file: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// It is a folder.
    #[error("{0} is a folder")]
    IsFolder(PathBuf),
    /// It is a symbolic link, which is not followed.
    #[error("{0} is a symbolic link")]
    IsLink(PathBuf),
    /// Something else.
    #[error("cannot create {file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
}

/// Whom a new file is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group; `None`: as the kernel sets it.
    pub gid: Option<u32>,
}

impl Owner {
    /// The user behind sudo, who has to copy the file away (`SUDO_UID` and `SUDO_GID`, sudo(8)).
    pub fn behind_sudo() -> Option<Self> {
        let id = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
        Some(Self { uid: id("SUDO_UID")?, gid: id("SUDO_GID") })
    }

    /// `1000`, `1000:1000`, or a name of `passwd`, the text of passwd(5): its user and group. No name service
    /// is asked.
    pub fn parse(text: &str, passwd: &str) -> Option<Self> {
        if let Some((uid, gid)) = text.split_once(':') {
            return Some(Self { uid: uid.parse().ok()?, gid: Some(gid.parse().ok()?) });
        }
        if let Ok(uid) = text.parse() {
            return Some(Self { uid, gid: None });
        }
        let mut fields =
            passwd.lines().find_map(|l| l.strip_prefix(text)?.strip_prefix(':'))?.split(':').skip(1);
        Some(Self { uid: fields.next()?.parse().ok()?, gid: Some(fields.next()?.parse().ok()?) })
    }
}

/// Creates `path` with mode 0600 and gives it to `owner`. With `force` an existing plain file is emptied
/// instead. Devices and pipes are written to as they are; a symbolic link is never followed.
///
/// # Errors
/// [`FileError`].
pub fn open_capture_file(path: &Path, force: bool, owner: Option<Owner>) -> Result<File, FileError> {
    let other = |source: io::Error| FileError::Io { file: path.to_owned(), source };
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NOCTTY;
    let created = File::options().write(true).create_new(true).mode(0o600).custom_flags(flags).open(path);
    match created {
        Ok(file) => {
            hand_over(&file, owner);
            return Ok(file);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(create_error(path, error)),
    }
    let kind = std::fs::symlink_metadata(path).map_err(other)?.file_type();
    if kind.is_dir() {
        return Err(FileError::IsFolder(path.to_owned()));
    }
    if kind.is_symlink() {
        return Err(FileError::IsLink(path.to_owned()));
    }
    let special = kind.is_char_device() || kind.is_fifo();
    if !special && !force {
        return Err(FileError::Exists(path.to_owned()));
    }
    // O_NONBLOCK: a pipe that nobody reads is an error, not a silent wait.
    let file =
        File::options().write(true).custom_flags(flags | libc::O_NONBLOCK).open(path).map_err(other)?;
    // What was looked at may have been exchanged since: the open file decides.
    let opened = file.metadata().map_err(other)?.file_type();
    if opened.is_file() {
        if !force {
            return Err(FileError::Exists(path.to_owned()));
        }
        file.set_len(0).map_err(other)?;
    } else if !(opened.is_char_device() || opened.is_fifo()) {
        return Err(FileError::Exists(path.to_owned()));
    }
    Ok(file)
}

fn create_error(path: &Path, error: io::Error) -> FileError {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match error.kind() {
        io::ErrorKind::NotFound if !folder.exists() => {
            FileError::NoFolder { file: path.to_owned(), folder: folder.to_owned() }
        }
        io::ErrorKind::IsADirectory => FileError::IsFolder(path.to_owned()),
        _ => FileError::Io { file: path.to_owned(), source: error },
    }
}

/// Gives a file made by root to somebody else. It stays root's if that fails.
pub(super) fn hand_over(file: &File, owner: Option<Owner>) {
    if let Some(owner) = owner.filter(|_| Uid::effective().is_root()) {
        let _ = nix::unistd::fchown(file, Some(Uid::from_raw(owner.uid)), owner.gid.map(Gid::from_raw));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_file_is_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcapng");
        let file = open_capture_file(&path, false, None).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_owner_is_given_by_number_or_by_a_name_of_this_node() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nadmin2:x:7:8::/:/bin/sh\nadmin:x:1000:1001::/:/bin/sh\n";
        let parse = |text| Owner::parse(text, passwd).map(|o| (o.uid, o.gid));
        assert_eq!(parse("1000"), Some((1000, None)));
        assert_eq!(parse("1000:100"), Some((1000, Some(100))));
        assert_eq!(parse("admin"), Some((1000, Some(1001))));
        assert_eq!(parse("root"), Some((0, Some(0))));
        for wrong in ["", "adm", "nobody", "1000:", ":1", "-1", "admin:x"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_existing_file_is_kept_unless_forced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcapng");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(open_capture_file(&path, false, None), Err(FileError::Exists(p)) if p == path));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        open_capture_file(&path, true, None).unwrap().write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_link_is_not_followed_even_when_forced() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(matches!(open_capture_file(&link, true, None), Err(FileError::IsLink(_))));
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn a_missing_folder_and_a_folder_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/a.pcapng");
        assert!(
            matches!(open_capture_file(&missing, false, None), Err(FileError::NoFolder { folder, .. }) if folder.ends_with("no"))
        );
        assert!(matches!(open_capture_file(folder.path(), true, None), Err(FileError::IsFolder(_))));
    }

    #[test]
    fn a_device_is_written_to_and_a_pipe_without_reader_is_an_error() {
        open_capture_file(Path::new("/dev/null"), false, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(open_capture_file(&pipe, false, None), Err(FileError::Io { .. })));
    }
}
