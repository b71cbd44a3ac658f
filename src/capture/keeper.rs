//! Two processes for one capture: one that reads packets and may do nothing, and a small one beside it that
//! opens the next file for it and never sees a packet.
//!
//! They talk over a pair of sockets: numbers one way, a file descriptor with its path the other way
//! (SCM_RIGHTS, unix(7)).

use super::ring::{FileFacts, Supply};
use super::ring_files::RingFiles;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a request: what is wanted, and the numbers of the file before.
const REQUEST: usize = 40;
/// Longest path in an answer (PATH_MAX, and the error's number).
const ANSWER: usize = 4 + 4096;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Role {
    /// The one that reads packets; it gets its files here.
    Reader(Files),
    /// The one that keeps the files: the capture is over, and the other ended so.
    Keeper(Ended),
}

/// How the process that read packets ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(u8),
    /// By a signal.
    Signal(i32),
}

/// Splits this process in two. It must have one thread only; what it has open, both have. Once `stop` is
/// readable (it is never read) the reader is asked to end; it ends too when this process does.
///
/// # Errors
/// The kernel's, when no process or socket is left.
pub fn split(files: RingFiles, stop: BorrowedFd<'_>) -> io::Result<Role> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    // SAFETY: there is one thread, so the child may go on as the parent would have.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(ours);
            // Without its keeper it ends in order: the signal is one that it waits for.
            nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
            Ok(Role::Reader(Files { socket: theirs }))
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            Ok(Role::Keeper(keep(files, &ours, child, stop)?))
        }
    }
}

/// Serves the reader until it has ended.
fn keep(mut files: RingFiles, socket: &OwnedFd, child: Pid, stop: BorrowedFd<'_>) -> io::Result<Ended> {
    // It opens files and gives them away, and can do nothing else from here on.
    super::privileges::keep_for_files().map_err(io::Error::other)?;
    let mut told = false;
    loop {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(stop, PollFlags::POLLIN)];
        let watched = if told { fds.split_at_mut(1).0 } else { &mut fds[..] };
        match poll(watched, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|r| !r.is_empty());
        if !told && fds.get(1).is_some_and(ready) {
            told = true;
            let _ = kill(child, Signal::SIGTERM);
        }
        if fds.first().is_some_and(ready) && !serve(&mut files, socket)? {
            break;
        }
    }
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(Ended::Code(u8::try_from(code).unwrap_or(5))),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Ended::Signal(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Answers one request; `false` once the reader has gone.
fn serve(files: &mut RingFiles, socket: &OwnedFd) -> io::Result<bool> {
    let mut bytes = [0; REQUEST];
    let length = match nix::sys::socket::recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
        Ok(length) => length,
        Err(Errno::EINTR) => return Ok(true),
        Err(Errno::ECONNRESET) => 0,
        Err(error) => return Err(error.into()),
    };
    let Some((wish, facts)) = bytes.get(..length).and_then(read_request) else { return Ok(length != 0) };
    let answer = match wish {
        Wish::First => files.next(None, now()),
        Wish::Next => files.next(Some(facts), now()),
        Wish::End => {
            let ended = files.end(facts);
            return send(socket, ended.err().and_then(|e| e.raw_os_error()).unwrap_or(0), "", None);
        }
    };
    match answer {
        Ok((file, path)) => send(socket, 0, &path, Some(&file)),
        Err(error) => send(socket, error.raw_os_error().unwrap_or(libc::EIO), "", None),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.ok().and_then(|d| i64::try_from(d.as_secs()).ok()).unwrap_or(0)
}

/// Sends an answer; `false` when nobody takes it.
fn send(socket: &OwnedFd, errno: i32, path: &str, file: Option<&File>) -> io::Result<bool> {
    let number = errno.to_le_bytes();
    let parts = [IoSlice::new(&number), IoSlice::new(path.as_bytes())];
    let fds: Vec<RawFd> = file.iter().map(|f| f.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights };
    match sendmsg::<()>(socket.as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None) {
        Ok(_) => Ok(true),
        Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    First,
    Next,
    End,
}

fn request(wish: Wish, facts: FileFacts) -> [u8; REQUEST] {
    let kind: u64 = match wish {
        Wish::First => 0,
        Wish::Next => 1,
        Wish::End => 2,
    };
    let mut bytes = [0; REQUEST];
    let numbers = [kind, facts.first_ns, facts.last_ns, facts.packets, facts.bytes];
    for (to, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        to.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn read_request(bytes: &[u8]) -> Option<(Wish, FileFacts)> {
    let number = |n: usize| Some(u64::from_le_bytes(*bytes.get(n * 8..)?.first_chunk::<8>()?));
    let wish = match number(0)? {
        0 => Wish::First,
        1 => Wish::Next,
        2 => Wish::End,
        _ => return None,
    };
    let facts =
        FileFacts { first_ns: number(1)?, last_ns: number(2)?, packets: number(3)?, bytes: number(4)? };
    Some((wish, facts))
}

/// The files of a ring, from the process that may open them.
#[derive(Debug)]
pub struct Files {
    socket: OwnedFd,
}

impl Files {
    fn ask(&self, wish: Wish, facts: FileFacts) -> io::Result<(Option<File>, String)> {
        nix::sys::socket::send(self.socket.as_raw_fd(), &request(wish, facts), MsgFlags::MSG_NOSIGNAL)?;
        let mut bytes = [0; ANSWER];
        let mut space = nix::cmsg_space!([RawFd; 1]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let (length, file) = loop {
            let message = match recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                Ok(message) => message,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let file = message.cmsgs()?.find_map(|c| match c {
                ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                _ => None,
            });
            // SAFETY: the kernel has just made this descriptor for us; nobody else knows of it.
            break (message.bytes, file.map(|fd| File::from(unsafe { OwnedFd::from_raw_fd(fd) })));
        };
        let answer = bytes.get(..length).unwrap_or_default();
        let Some((number, path)) = answer.split_first_chunk::<4>() else {
            return Err(io::Error::other("the process that opens files has gone"));
        };
        match i32::from_le_bytes(*number) {
            0 => Ok((file, String::from_utf8_lossy(path).into_owned())),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Supply for Files {
    fn next(&mut self, done: Option<FileFacts>) -> io::Result<(File, String)> {
        let wish = if done.is_some() { Wish::Next } else { Wish::First };
        match self.ask(wish, done.unwrap_or_default())? {
            (Some(file), path) => Ok((file, path)),
            (None, _) => Err(io::Error::other("no file came with the answer")),
        }
    }

    fn end(&mut self, done: FileFacts) {
        // The packets are in their file; an index that is one line short is no reason to call it a failure.
        let _ = self.ask(Wish::End, done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    #[test]
    fn files_and_errors_come_through_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcapng");
        let mut ring = RingFiles::new(&path, Some(1), None, false).unwrap();
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let served = std::thread::spawn(move || while serve(&mut ring, &ours).unwrap() {});
        let mut files = Files { socket: theirs };
        let (mut first, name) = files.next(None).unwrap();
        first.write_all(b"hello").unwrap();
        assert_eq!(std::fs::read(&name).unwrap(), b"hello");
        let facts = FileFacts { first_ns: 1, last_ns: 2, packets: 3, bytes: 5 };
        let (_, second) = files.next(Some(facts)).unwrap();
        assert!(!std::path::Path::new(&name).exists() && std::path::Path::new(&second).exists());
        files.end(facts);
        let index = std::fs::read_to_string(folder.path().join("a.index.tsv")).unwrap();
        assert!(index.ends_with("\t3\t5\n"), "{index}");
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert_eq!(files.next(Some(facts)).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        drop(files);
        served.join().unwrap();
    }

    proptest! {
        #[test]
        fn a_request_of_any_bytes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some((wish, facts)) = read_request(&bytes) {
                prop_assert_eq!(&request(wish, facts)[..], &bytes[..REQUEST]);
            }
        }
    }
}
