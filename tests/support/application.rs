//! An application behind a TCP port, which writes down what it sees of its visitors.

use super::Netns;
use nsprobe::netns::NetNs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What an application behind a port saw of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    pub bytes: usize,
    pub end: Result<(), ErrorKind>,
}

pub const CONNECT_AND_CLOSE: Visit = Visit { bytes: 0, end: Ok(()) };

/// How an application treats its visitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Listens,
    /// Says something first, as sshd does, and something last.
    Greets,
    /// Closes at once.
    Leaves,
    /// The same, with a reset.
    Resets,
}

/// An application on port 80 of a namespace that writes down what it sees.
pub struct Application {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Visit>>>,
}

impl Application {
    pub fn start(namespace: &Netns, manner: Manner) -> Self {
        let netns = NetNs::open(&namespace.path()).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&over);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            netns.enter_for_ever().unwrap();
            let listener = TcpListener::bind("[::]:80").unwrap();
            listener.set_nonblocking(true).unwrap();
            ready.send(()).unwrap();
            let mut visits = Vec::new();
            // Those that came before the end are still heard.
            loop {
                let last = end.load(Ordering::Relaxed);
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        stream.set_nonblocking(false).unwrap();
                        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                        if manner == Manner::Resets {
                            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                        }
                        if matches!(manner, Manner::Leaves | Manner::Resets) {
                            continue;
                        }
                        if manner == Manner::Greets {
                            stream.write_all(b"SSH-2.0-greeting\r\n").unwrap();
                        }
                        let mut heard = Vec::new();
                        let mut end = stream.read_to_end(&mut heard).map(drop).map_err(|e| e.kind());
                        if manner == Manner::Greets {
                            // A reset behind the FIN shows to whoever says goodbye.
                            std::thread::sleep(Duration::from_millis(10));
                            end = end.and(stream.write_all(b"goodbye\r\n").map_err(|e| e.kind()));
                        }
                        visits.push(Visit { bytes: heard.len(), end });
                    }
                    Err(_) if last => return visits,
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        is_ready.recv().unwrap();
        Self { over, thread: Some(thread) }
    }

    pub fn visits(mut self) -> Vec<Visit> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}
