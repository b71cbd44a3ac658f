//! host-local's reservations: a file named by each address, which holds the sandbox's id and its interface.

use crate::facts::{ContainerId, Reservation};
use crate::netns::{most_threads, open_in_root, share_out};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags, fstat, openat, statat};
use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
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

/// A file's address and what the folder says that it is.
type Entry = (IpAddr, FileType);

/// Reads every reservation of a network, without their age; a folder that is not there has none.
///
/// The files are read by address, which is about how they lie in the kernel's memory: in the order of the folder they
/// take a quarter longer. So that nobody waits until all are listed, the first that are seen are read meanwhile.
pub(super) fn read_folder(root: &File, path: &str) -> Result<Folder, io::Error> {
    /// Takes as long to read as all others of a /16 to list.
    const FIRST: usize = 6144;
    const PART: usize = 256;
    let mut found = Folder::default();
    let folder = match open_folder(root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        folder => folder?,
    };
    let mut entries = Dir::read_from(&folder)?.take(MOST_FILES);
    let mut files = list(&mut entries, FIRST, &mut found.strange_names)?;
    let (mut first, mut errors) = (Vec::new(), Vec::new());
    if files.len() == FIRST {
        let reader = || {
            let mut read = unread(&files);
            let errors = read_part(&folder, &files, &mut read);
            (read, errors)
        };
        let rest = std::thread::scope(|scope| {
            let reader = std::thread::Builder::new().spawn_scoped(scope, reader)?;
            let rest = list(&mut entries, usize::MAX, &mut found.strange_names);
            (first, errors) = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            rest
        })?;
        files = rest;
    }
    found.reservations = unread(&files);
    let mut parts = files.chunks(PART).zip(found.reservations.chunks_mut(PART));
    let threads = files.len().div_ceil(PART).min(most_threads());
    let work = |(files, slots): (&[Entry], &mut [Reservation])| read_part(&folder, files, slots);
    errors.extend(share_out(threads, || parts.next(), work)?.into_iter().flatten());
    merge(&mut found.reservations, first);
    // Freed meanwhile.
    let (gone, errors): (Vec<_>, Vec<_>) =
        errors.into_iter().partition(|(_, error)| error.kind() == io::ErrorKind::NotFound);
    if !gone.is_empty() {
        let gone: HashSet<IpAddr> = gone.into_iter().map(|(address, _)| address).collect();
        found.reservations.retain(|reservation| !gone.contains(&reservation.address));
    }
    let told = |(address, error): (IpAddr, io::Error)| (format!("{path}/{address}"), error.to_string());
    found.unread = errors.into_iter().map(told).collect();
    found.unread.sort();
    found.strange_names.sort();
    Ok(found)
}

/// The next files that are named by an address, at most so many, by address.
fn list(
    entries: &mut impl Iterator<Item = rustix::io::Result<DirEntry>>,
    most: usize,
    strange_names: &mut Vec<String>,
) -> io::Result<Vec<Entry>> {
    let mut files = Vec::new();
    while files.len() < most {
        let Some(entry) = entries.next().transpose()? else { break };
        match address_in(entry.file_name()) {
            Ok(address) => files.push((address, entry.file_type())),
            Err(strange) => strange_names.extend(strange),
        }
    }
    files.sort_unstable_by_key(|file| file.0);
    Ok(files)
}

/// host-local gives out no address whose file is there, whatever is in it.
fn unread(files: &[Entry]) -> Vec<Reservation> {
    files.iter().map(|&(address, _)| Reservation { address, ..Reservation::UNREAD }).collect()
}

/// Puts `more` where they belong; both are sorted. In place, from behind: these are many.
fn merge(all: &mut Vec<Reservation>, more: Vec<Reservation>) {
    let (mut left, mut place) = (all.len(), all.len() + more.len());
    all.resize(place, Reservation::UNREAD);
    for reservation in more.into_iter().rev() {
        let before =
            all.get(..left).unwrap_or_default().partition_point(|one| one.address < reservation.address);
        while left > before {
            (left, place) = (left - 1, place - 1);
            all.swap(left, place);
        }
        place -= 1;
        if let Some(slot) = all.get_mut(place) {
            *slot = reservation;
        }
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

/// Reads some files, each into its place, and tells which could not be read. The thread must be one that dies: it goes on
/// with a table of files of its own, in which the kernel counts no users, and opens, reads and closes a few at once. That
/// takes a fifth off.
fn read_part(folder: &OwnedFd, files: &[Entry], slots: &mut [Reservation]) -> Vec<(IpAddr, io::Error)> {
    const AT_ONCE: usize = 16;
    // Where it is refused all is as right.
    let _ = unshare(CloneFlags::CLONE_FILES);
    let mut errors = Vec::new();
    let mut take = |slot: &mut Reservation, address, read| match read {
        Ok(read) => *slot = read,
        Err(error) => errors.push((address, error)),
    };
    for (files, slots) in files.chunks(AT_ONCE).zip(slots.chunks_mut(AT_ONCE)) {
        let open = |&(address, kind): &Entry| open_one(folder, address, kind);
        let opened: Vec<io::Result<OwnedFd>> = files.iter().map(open).collect();
        let (mut done, mut left) = (Vec::with_capacity(AT_ONCE), Vec::new());
        for ((opened, slot), entry) in opened.into_iter().zip(slots).zip(files) {
            match opened {
                Ok(file) => {
                    take(slot, entry.0, read_one(&file, entry.0));
                    done.push(file);
                }
                // One at a time is what there is room for.
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) => left.push((entry, slot)),
                Err(error) => take(slot, entry.0, Err(error)),
            }
        }
        close(done);
        for (entry, slot) in left {
            take(slot, entry.0, open(entry).and_then(|file| read_one(&file, entry.0)));
        }
    }
    errors
}

/// Closes files, those whose numbers follow each other with one call where there is one (close_range(2), Linux 5.9).
fn close(files: Vec<OwnedFd>) {
    let numbers: Vec<RawFd> = files.into_iter().map(IntoRawFd::into_raw_fd).collect();
    for run in numbers.chunk_by(|one, next| one + 1 == *next) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        // SAFETY: the range holds what was owned here, and nothing else.
        let closed = run.len() > 1 && unsafe { libc::syscall(libc::SYS_close_range, *first, *last, 0) } == 0;
        for number in run.iter().filter(|_| !closed) {
            // SAFETY: it was owned here, and is open.
            drop(unsafe { OwnedFd::from_raw_fd(*number) });
        }
    }
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

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn open_one(folder: &OwnedFd, address: IpAddr, kind: FileType) -> io::Result<OwnedFd> {
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
    Ok(file)
}

fn read_one(file: &OwnedFd, address: IpAddr) -> io::Result<Reservation> {
    let mut buffer = [0; LONGEST + 1];
    let length = rustix::io::read(file, &mut buffer)?;
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
pub fn parse_reservation(bytes: &[u8]) -> Option<(ContainerId, Option<Cow<'static, str>>)> {
    let mut lines =
        bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let plain = |word: &&[u8]| word.iter().all(u8::is_ascii_graphic);
    let id = lines.next().filter(plain).filter(|id| id.len() <= 256)?;
    let interface = lines.next().filter(plain).filter(|name| name.len() <= 64);
    let interface = interface.map(|name| match name {
        b"eth0" => Cow::Borrowed("eth0"),
        other => Cow::Owned(String::from_utf8_lossy(other).into_owned()),
    });
    Some((str::from_utf8(id).ok()?.into(), interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_files_come_by_address_each_with_what_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("net");
        std::fs::create_dir(&folder).unwrap();
        // More than are read while the rest is listed.
        let all: Vec<IpAddr> = (0u32..7000).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes())).collect();
        for address in &all {
            std::fs::write(folder.join(address.to_string()), format!("of {address}").replace(' ', "-"))
                .unwrap();
        }
        let linked = IpAddr::from([9, 0, 0, 1]);
        std::os::unix::fs::symlink("10.0.0.1", folder.join(linked.to_string())).unwrap();
        for name in ["zzz", "aaa", "lock"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let found = read_folder(&File::open(root.path()).unwrap(), "/net").unwrap();
        let (first, rest) = found.reservations.split_first().unwrap();
        assert_eq!(*first, Reservation { address: linked, ..Reservation::UNREAD });
        assert_eq!(found.unread, [("/net/9.0.0.1".to_owned(), "it is a symbolic link".to_owned())]);
        assert_eq!(found.strange_names, ["aaa", "zzz"]);
        assert_eq!(rest.len(), all.len());
        for (reservation, address) in rest.iter().zip(all) {
            let id = Some(format!("of-{address}").into());
            assert_eq!((reservation.address, &reservation.container_id), (address, &id));
        }
    }

    #[test]
    fn files_are_closed_whether_their_numbers_follow_each_other_or_not() {
        let (mut readers, mut writers): (Vec<_>, Vec<_>) =
            (0..6).map(|_| std::io::pipe().unwrap()).map(|(reader, writer)| (reader, writer.into())).unzip();
        let (kept, of_kept) = (writers.remove(2), readers.remove(2));
        close(writers);
        for (at, mut reader) in readers.into_iter().enumerate() {
            // The end comes when nobody can write any more.
            assert_eq!(std::io::Read::read(&mut reader, &mut [0]).unwrap(), 0, "{at}");
        }
        assert_eq!(rustix::io::write(&kept, b"x").unwrap(), 1);
        drop(of_kept);
    }

    #[test]
    fn two_lists_become_one_in_order() {
        let of = |last: &[u8]| -> Vec<Reservation> {
            let one = |&n: &u8| Reservation { address: [10, 0, 0, n].into(), ..Reservation::UNREAD };
            last.iter().map(one).collect()
        };
        for (all, more, expected) in [
            (&[][..], &[][..], &[][..]),
            (&[1, 2], &[], &[1, 2]),
            (&[], &[1, 2], &[1, 2]),
            (&[1, 2], &[3, 4], &[1, 2, 3, 4]),
            (&[3, 4], &[1, 2], &[1, 2, 3, 4]),
            (&[1, 4, 5, 9], &[2, 3, 7], &[1, 2, 3, 4, 5, 7, 9]),
        ] {
            let mut merged = of(all);
            merge(&mut merged, of(more));
            assert_eq!(merged, of(expected));
        }
    }

    #[test]
    fn what_host_local_wrote_is_read_with_and_without_an_interface() {
        let read = |text: &str| parse_reservation(text.as_bytes());
        let both = Some(("abc".into(), Some(Cow::Borrowed("eth0"))));
        for text in ["abc\r\neth0", "abc\neth0\n", "abc \r\n eth0  \r\n\r\n", "\r\nabc\r\neth0"] {
            assert_eq!(read(text), both, "{text:?}");
        }
        assert_eq!(read("abc"), Some(("abc".into(), None)));
        for text in ["", " \r\n ", "a b", "\u{1b}[31m", "é"] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(parse_reservation(b"\xff\xfe"), None);
    }
}
