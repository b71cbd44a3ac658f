//! host-local's reservations: a file named by each address, which holds the sandbox's id and its interface.

use crate::facts::Reservation;
use crate::netns::{most_threads, open_in_root, share_out};
use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags, fstat, openat, statat};
use std::borrow::Cow;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Most files of one network: a /16 has 65,536, and a node's range is smaller.
const MOST_FILES: usize = 1 << 20;
/// Longest file that host-local may have written: an id of 128 bytes and a name of 16.
const LONGEST: usize = 512;

/// What is in the folder of one network.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) reservations: Vec<Reservation>,
    pub(super) strange_names: Vec<String>,
    /// Path and reason.
    pub(super) unread: Vec<(String, String)>,
}

/// Reads every reservation of a network, without their age; a folder that is not there has none.
pub(super) fn read_folder(root: &File, path: &str) -> Result<Folder, io::Error> {
    let mut found = Folder::default();
    let folder = match open_folder(root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        folder => folder?,
    };
    let mut listing = Listing::new(Dir::read_from(&folder)?.take(MOST_FILES));
    let parts = share_out(most_threads(), || listing.next(), |files| read_part(&folder, &files))?;
    listing.ended?;
    // The first part holds some of all addresses, the others come one after the other.
    found.reservations.reserve_exact(parts.iter().map(|(part, _)| part.len()).sum());
    let mut parts = parts.into_iter().map(|(part, errors)| {
        found.unread.extend(errors.into_iter().map(|(address, why)| (format!("{path}/{address}"), why)));
        part
    });
    let mut first = parts.next().unwrap_or_default().into_iter().peekable();
    for reservation in parts.flatten() {
        while let Some(before) = first.next_if(|one| one.address < reservation.address) {
            found.reservations.push(before);
        }
        found.reservations.push(reservation);
    }
    found.reservations.extend(first);
    found.unread.sort();
    found.strange_names = listing.strange_names;
    found.strange_names.sort();
    Ok(found)
}

/// The files of a folder by address, which is about how they lie in the kernel's memory: read in the order of the
/// folder they take a quarter longer. So that nobody waits until all are listed, the first that are seen come as one
/// large part.
struct Listing<I> {
    entries: I,
    begun: bool,
    files: std::vec::IntoIter<(IpAddr, FileType)>,
    strange_names: Vec<String>,
    ended: io::Result<()>,
}

impl<I: Iterator<Item = rustix::io::Result<DirEntry>>> Listing<I> {
    /// Takes as long to read as all others of a /16 to list.
    const FIRST: usize = 8192;
    const PART: usize = 256;

    fn new(entries: I) -> Self {
        Self {
            entries,
            begun: false,
            files: Vec::new().into_iter(),
            strange_names: Vec::new(),
            ended: Ok(()),
        }
    }

    /// The next files to read.
    fn next(&mut self) -> Option<Vec<(IpAddr, FileType)>> {
        if self.files.len() == 0 {
            let most = if self.begun { usize::MAX } else { Self::FIRST };
            let files = self.list(most);
            self.begun = true;
            if files.len() == most {
                return Some(files);
            }
            self.files = files.into_iter();
        }
        let part: Vec<_> = self.files.by_ref().take(Self::PART).collect();
        (!part.is_empty()).then_some(part)
    }

    fn list(&mut self, most: usize) -> Vec<(IpAddr, FileType)> {
        let mut files = Vec::new();
        while self.ended.is_ok() && files.len() < most {
            match self.entries.next() {
                Some(Ok(entry)) => match address_in(entry.file_name()) {
                    Ok(address) => files.push((address, entry.file_type())),
                    Err(strange) => self.strange_names.extend(strange),
                },
                Some(Err(error)) => self.ended = Err(error.into()),
                None => break,
            }
        }
        files.sort_unstable_by_key(|file| file.0);
        files
    }
}

/// The address that names a file; else the name, or nothing when it is one of host-local's own.
fn address_in(name: &CStr) -> Result<IpAddr, Option<String>> {
    // host-local writes no other form of an address; of an IPv4 one there is but one that can be read.
    let address = name.to_str().ok().and_then(|name| name.parse::<IpAddr>().ok());
    address.filter(|a| a.is_ipv4() || FileName::new(*a).as_c_str() == name).ok_or_else(|| {
        let name = name.to_string_lossy();
        let own = matches!(name.as_ref(), "." | ".." | "lock") || name.starts_with("last_reserved_ip.");
        (!own).then(|| name.into_owned())
    })
}

/// The reservations of some files, and which of them could not be read.
fn read_part(folder: &OwnedFd, files: &[(IpAddr, FileType)]) -> (Vec<Reservation>, Vec<(IpAddr, String)>) {
    let (mut found, mut errors) = (Vec::with_capacity(files.len()), Vec::new());
    for &(address, kind) in files {
        match read_one(folder, address, kind) {
            Ok(reservation) => found.push(reservation),
            // Freed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                errors.push((address, error.to_string()));
                // Whatever is in it: host-local gives out no address whose file is there.
                found.push(Reservation { address, ..Reservation::UNREAD });
            }
        }
    }
    (found, errors)
}

/// An address as host-local writes it, without a heap for each of many.
struct FileName {
    bytes: [u8; 64],
}

impl FileName {
    fn new(address: IpAddr) -> Self {
        let mut bytes = [0; 64];
        // The longest has 45 characters, and there is a zero behind it.
        let _ = write!(bytes.as_mut_slice(), "{address}");
        Self { bytes }
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

fn open_folder(root: &File, path: &str) -> io::Result<OwnedFd> {
    open_in_root(root.as_fd(), Path::new(path), OFlags::RDONLY | OFlags::DIRECTORY)
}

fn read_one(folder: &OwnedFd, address: IpAddr, kind: FileType) -> io::Result<Reservation> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let check = |kind| match kind {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(wrong("it is a symbolic link")),
        _ => Err(wrong("it is no regular file")),
    };
    // Not every file system says it with the name.
    if kind != FileType::Unknown {
        check(kind)?;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let name = FileName::new(address);
    let open = |flags| openat(folder, name.as_c_str(), flags, Mode::empty());
    // That somebody has read it is not written down: 65,536 inodes would change for nothing.
    let file = match open(flags | OFlags::NOATIME) {
        Err(rustix::io::Errno::PERM) => open(flags),
        file => file,
    };
    let file = match file {
        Err(rustix::io::Errno::LOOP) => return check(FileType::Symlink).and(Err(wrong("it is a loop"))),
        file => file?,
    };
    if kind == FileType::Unknown {
        check(FileType::from_raw_mode(fstat(&file)?.st_mode))?;
    }
    let mut buffer = [0; LONGEST + 1];
    let length = rustix::io::read(&file, &mut buffer)?;
    if length > LONGEST {
        return Err(wrong("it is larger than any that host-local writes"));
    }
    let (container_id, interface) = parse_reservation(buffer.get(..length).unwrap_or_default())
        .ok_or_else(|| wrong("it holds no id of a container"))?;
    Ok(Reservation { address, container_id: Some(container_id), interface, ..Reservation::UNREAD })
}

/// Adds when those that `asked` picks were written; a file that is gone has no age.
pub(super) fn read_ages(
    root: &File,
    path: &str,
    all: &mut [Reservation],
    asked: &dyn Fn(&Reservation) -> bool,
) {
    let Ok(folder) = open_folder(root, path) else { return };
    for reservation in all.iter_mut().filter(|reservation| asked(reservation)) {
        let name = FileName::new(reservation.address);
        let Ok(stat) = statat(&folder, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        // On some architectures it is narrower, or unsigned.
        #[allow(
            clippy::useless_conversion,
            clippy::unnecessary_fallible_conversions,
            reason = "the type differs by architecture"
        )]
        let written_at = i64::try_from(stat.st_mtime).ok();
        reservation.written_at = written_at;
    }
}

/// `<container id>\r\n<interface>`; before 0.8 without the interface. Source: host-local's backend/disk/backend.go.
pub fn parse_reservation(bytes: &[u8]) -> Option<(String, Option<Cow<'static, str>>)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_graphic());
    let id = lines.next().filter(plain).filter(|id| id.len() <= 256)?;
    let interface = lines.next().filter(plain).filter(|name| name.len() <= 64);
    let interface = interface.map(|name| match name {
        "eth0" => Cow::Borrowed("eth0"),
        other => Cow::Owned(other.to_owned()),
    });
    Some((id.to_owned(), interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_host_local_wrote_is_read_with_and_without_an_interface() {
        let read = |text: &str| parse_reservation(text.as_bytes());
        let both = Some(("abc".to_owned(), Some(Cow::Borrowed("eth0"))));
        for text in ["abc\r\neth0", "abc\neth0\n", "abc \r\n eth0  \r\n\r\n", "\r\nabc\r\neth0"] {
            assert_eq!(read(text), both, "{text:?}");
        }
        assert_eq!(read("abc"), Some(("abc".to_owned(), None)));
        for text in ["", " \r\n ", "a b", "\u{1b}[31m", "é"] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(parse_reservation(b"\xff\xfe"), None);
    }
}
