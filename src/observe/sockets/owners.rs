//! Which process holds a socket: the descriptors in /proc/PID/fd name its inode.

use crate::facts::{Socket, SocketProcess};
use crate::netns::{Procfs, read_whole};
use rustix::fs::{Dir, Mode, OFlags, openat, readlinkat, readlinkat_raw};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Descriptors that are looked at, of all processes together.
const MOST_DESCRIPTORS: usize = 4_000_000;
/// A name is 15 bytes; a file that says more is not /proc.
const MOST_NAME: usize = 64;

/// Whose descriptors to look at.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// Every process in one of the network namespaces with these inodes.
    Namespaces(&'a [u64]),
    /// These processes alone.
    Processes(&'a [u32]),
}

/// Inode of a socket → the process that holds it.
#[derive(Debug, Default)]
pub struct Owners {
    processes: Vec<SocketProcess>,
    /// Place in `processes`.
    sockets: HashMap<u64, u32>,
    /// Processes in the namespace that this user may not look into.
    pub denied: u32,
    /// Whether the bound on descriptors ended the look.
    pub cut: bool,
}

impl Owners {
    /// The holder of a socket.
    pub fn of(&self, inode: u64) -> Option<&SocketProcess> {
        let place = usize::try_from(*self.sockets.get(&inode)?).ok()?;
        self.processes.get(place)
    }

    /// Writes into each socket who holds it.
    pub fn assign(&self, sockets: &mut [Socket]) {
        for socket in sockets {
            socket.process = socket.inode.and_then(|inode| self.of(inode)).cloned();
        }
    }
}

/// Looks through the descriptors of the processes under `proc_root`, in order of their PIDs; where several
/// hold a socket the first counts. One system call a descriptor, about 1 µs.
///
/// Source: proc_pid_fd(5), namespaces(7).
pub fn read_owners(proc_root: &Path, whose: Whose<'_>) -> Owners {
    let mut owners = Owners::default();
    let mut left = MOST_DESCRIPTORS;
    let Ok(proc) = Procfs::open(proc_root) else { return owners };
    let own = std::process::id();
    let all;
    let pids = match whose {
        Whose::Processes(pids) => pids,
        Whose::Namespaces(_) => {
            all = proc.pids().unwrap_or_default();
            &all
        }
    };
    for &pid in pids.iter().filter(|&&pid| pid != own) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(folder) = openat(&proc, pid.to_string(), flags, Mode::empty()) else { continue };
        if let Whose::Namespaces(inodes) = whose
            && !link_number(&folder, "ns/net", b"net:[").is_some_and(|inode| inodes.contains(&inode))
        {
            continue;
        }
        match openat(&folder, "fd", flags, Mode::empty()) {
            Ok(fds) => owners.look_at(pid, &folder, fds, &mut left),
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => owners.denied += 1,
            // It has ended meanwhile.
            Err(_) => {}
        }
        if left == 0 {
            owners.cut = true;
            break;
        }
    }
    owners
}

impl Owners {
    fn look_at(&mut self, pid: u32, folder: &OwnedFd, fds: OwnedFd, left: &mut usize) {
        let Ok(entries) = Dir::read_from(&fds) else { return };
        let mut place = None;
        for entry in entries.filter_map(Result::ok) {
            if *left == 0 {
                return;
            }
            *left -= 1;
            if entry.file_name().to_bytes().starts_with(b".") {
                continue;
            }
            let mut space = [0u8; 64];
            let Ok(length) = readlinkat_raw(&fds, entry.file_name(), &mut space) else { continue };
            let link = space.get(..length).unwrap_or_default();
            let Some(inode) = bracketed(link, b"socket:[") else { continue };
            let place = *place.get_or_insert_with(|| {
                self.processes.push(SocketProcess { pid, name: name_of(folder) });
                u32::try_from(self.processes.len() - 1).unwrap_or(u32::MAX)
            });
            self.sockets.entry(inode).or_insert(place);
        }
    }
}

/// The number in a link such as `net:[4026531840]`.
fn link_number(folder: impl AsFd, name: &str, before: &[u8]) -> Option<u64> {
    bracketed(readlinkat(folder, name, Vec::new()).ok()?.as_bytes(), before)
}

fn bracketed(link: &[u8], before: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(before)?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// What the process calls itself: any bytes it likes, so never to a terminal as they are.
fn name_of(folder: &OwnedFd) -> String {
    let open = openat(folder, "comm", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let bytes = open.ok().and_then(|fd| read_whole(&File::from(fd), MOST_NAME).ok()).unwrap_or_default();
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    String::from_utf8_lossy(text).into_owned()
}
