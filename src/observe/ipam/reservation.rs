//! host-local's reservations: a file named by each address, which holds the sandbox's id and its interface.

use crate::facts::Reservation;
use crate::netns::{on_threads_that_die, open_in_root};
use rustix::buffer::spare_capacity;
use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, openat};
use std::fs::File;
use std::io;
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

/// Reads every reservation of a network; a folder that is not there has none.
pub(super) fn read_folder(root: &File, path: &str) -> Result<Folder, io::Error> {
    let mut found = Folder::default();
    let folder = match open_in_root(root.as_fd(), Path::new(path), OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        folder => folder?,
    };
    let mut addresses: Vec<(IpAddr, String)> = Vec::new();
    for entry in Dir::read_from(&folder)?.take(MOST_FILES) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        match name.parse::<IpAddr>() {
            _ if name == "." || name == ".." => {}
            Ok(address) => addresses.push((address, name.into_owned())),
            Err(_) if name == "lock" || name.starts_with("last_reserved_ip.") => {}
            Err(_) => found.strange_names.push(name.into_owned()),
        }
    }
    addresses.sort_unstable();
    let read =
        |_, part: &[(IpAddr, String)]| part.iter().map(|(ip, name)| read_one(&folder, *ip, name)).collect();
    for ((address, name), answer) in addresses.iter().zip(on_threads_that_die(&addresses, read)?) {
        match answer {
            Ok(reservation) => found.reservations.push(reservation),
            // Freed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                found.unread.push((format!("{path}/{name}"), error.to_string()));
                // Whatever is in it: host-local gives out no address whose file is there.
                found.reservations.push(Reservation {
                    address: *address,
                    container_id: None,
                    interface: None,
                    written_at: None,
                    owner: None,
                    leaked: None,
                });
            }
        }
    }
    found.strange_names.sort();
    Ok(found)
}

fn read_one(folder: &OwnedFd, address: IpAddr, name: &str) -> io::Result<Reservation> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => return Err(wrong("it is a symbolic link")),
        file => file?,
    };
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(wrong("it is no regular file"));
    }
    if usize::try_from(stat.st_size).is_ok_and(|size| size > LONGEST) {
        return Err(wrong("it is larger than any that host-local writes"));
    }
    let mut bytes = Vec::with_capacity(LONGEST);
    rustix::io::read(&file, spare_capacity(&mut bytes))?;
    let (container_id, interface) =
        parse_reservation(&bytes).ok_or_else(|| wrong("it holds no id of a container"))?;
    // On some architectures it is narrower, or unsigned.
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_fallible_conversions,
        reason = "the type differs by architecture"
    )]
    let written_at = i64::try_from(stat.st_mtime).ok();
    Ok(Reservation {
        address,
        container_id: Some(container_id),
        interface,
        written_at,
        owner: None,
        leaked: None,
    })
}

/// `<container id>\r\n<interface>`; before 0.8 without the interface. Source: host-local's backend/disk/backend.go.
pub fn parse_reservation(bytes: &[u8]) -> Option<(String, Option<String>)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_graphic());
    let id = lines.next().filter(plain).filter(|id| id.len() <= 256)?;
    let interface = lines.next().filter(plain).filter(|name| name.len() <= 64);
    Some((id.to_owned(), interface.map(ToOwned::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_host_local_wrote_is_read_with_and_without_an_interface() {
        let read = |text: &str| parse_reservation(text.as_bytes());
        let both = Some(("abc".to_owned(), Some("eth0".to_owned())));
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
