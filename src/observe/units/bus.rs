//! A connection to a D-Bus peer: EXTERNAL authentication, `Properties.Get` questions in one go, a deadline.
//!
//! Source: the D-Bus specification, "Authentication Protocol" and "Message Protocol".

pub(super) use super::message::Value;
use super::message::{self, Kind};
use crate::netns::{handle_path, open_in_root};
use rustix::fs::OFlags;
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

/// Longest line of the handshake.
const MOST_LINE: usize = 512;
/// Largest message; an answer to `Get` has a few hundred bytes.
const MOST_MESSAGE: usize = 64 << 10;
/// Messages that may come besides the answers.
const MOST_OTHERS: usize = 100;

/// A property of an object.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) path: String,
    pub(super) interface: &'static str,
    pub(super) property: &'static str,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Bus {
    socket: Socket,
    deadline: Instant,
    serial: u32,
}

impl Bus {
    /// Connects and authenticates; `greet`: to a bus, which wants to be greeted first.
    ///
    /// # Errors
    /// The kernel's, `TimedOut`, `PermissionDenied` when it refuses us.
    pub(super) fn connect(root: &File, path: &str, greet: bool, deadline: Instant) -> io::Result<Self> {
        let handle = open_in_root(root.as_fd(), Path::new(path), OFlags::PATH)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let mut bus = Self { socket, deadline, serial: 0 };
        bus.set_patience()?;
        bus.socket.connect(&SockAddr::unix(handle_path(&handle))?)?;
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        (&bus.socket).write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        if !bus.line()?.starts_with(b"OK ") {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it does not let us in"));
        }
        (&bus.socket).write_all(b"BEGIN\r\n")?;
        if greet {
            bus.serial += 1;
            let hello = message::call(
                bus.serial,
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
                "Hello",
                &[],
            );
            (&bus.socket).write_all(&hello)?;
        }
        Ok(bus)
    }

    /// Answers in the order of the questions; `None` where the peer answers with an error.
    ///
    /// # Errors
    /// The kernel's, `TimedOut`, `InvalidData`.
    pub(super) fn get(&mut self, questions: &[Question]) -> io::Result<Vec<Option<Value>>> {
        let mut serials = Vec::new();
        let mut bytes = Vec::new();
        for question in questions {
            self.serial += 1;
            serials.push(self.serial);
            bytes.extend(message::call(
                self.serial,
                "org.freedesktop.systemd1",
                &question.path,
                "org.freedesktop.DBus.Properties",
                "Get",
                &[question.interface, question.property],
            ));
        }
        self.set_patience()?;
        (&self.socket).write_all(&bytes)?;
        let mut answers: BTreeMap<u32, Option<Value>> = BTreeMap::new();
        for _ in 0..questions.len() + MOST_OTHERS {
            if serials.iter().all(|serial| answers.contains_key(serial)) {
                return Ok(serials.iter().map(|serial| answers.remove(serial).flatten()).collect());
            }
            let message = self.message()?;
            match message.kind {
                Kind::Answer(serial) => answers.insert(serial, message.value()),
                Kind::Refusal(serial) => answers.insert(serial, None),
                Kind::Other => None,
            };
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "it does not answer the questions"))
    }

    fn set_patience(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_write_timeout(Some(left))?;
        self.socket.set_read_timeout(Some(left))
    }

    fn fill(&self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.set_patience()?;
            match (&self.socket).read(bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn line(&self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while line.len() < MOST_LINE {
            let mut byte = [0];
            self.fill(&mut byte)?;
            line.extend(byte);
            if line.ends_with(b"\r\n") {
                return Ok(line);
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "its greeting has no end"))
    }

    fn message(&self) -> io::Result<message::Message> {
        let odd = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut bytes = vec![0; 16];
        self.fill(&mut bytes)?;
        let rest = message::rest(&bytes)
            .filter(|rest| *rest <= MOST_MESSAGE)
            .ok_or_else(|| odd("it sends no D-Bus message"))?;
        bytes.resize(16 + rest, 0);
        self.fill(bytes.get_mut(16..).unwrap_or_default())?;
        message::parse(&bytes).ok_or_else(|| odd("it sends a message that cannot be read"))
    }
}
