//! A name server that a test plays inside a real namespace: over UDP and TCP, for little and for much.

use nsprobe::netns::NetNs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Serves until it is dropped.
pub struct NameServer {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What it knows; every other name does not exist. `db` and the name that every cluster has.
const KNOWN: &[&str] = &["kubernetes.default.svc.test", "db.example.test"];
/// Bytes of the root's keys, as it tells them.
const LARGE: usize = 1500;

impl NameServer {
    /// Serves port 53 of `address` in the namespace at `path`; every known name has the address `answer`.
    pub fn start(path: &Path, address: Ipv4Addr, answer: Ipv4Addr) -> Self {
        let at = SocketAddr::new(IpAddr::from(address), 53);
        let opened = NetNs::open(path).unwrap();
        let sockets = opened.run(|| (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap()));
        let (udp, tcp) = sockets.unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (one, other) = (stop.clone(), stop.clone());
        let threads = vec![
            std::thread::spawn(move || serve_udp(&udp, answer, &one)),
            std::thread::spawn(move || serve_tcp(&tcp, answer, &other)),
        ];
        Self { stop, threads }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn serve_udp(socket: &UdpSocket, address: Ipv4Addr, stop: &AtomicBool) {
    let mut buffer = [0; 512];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        // Whoever asked may be gone.
        let _ = socket.send_to(&reply(&buffer[..length], address, false), from);
    }
}

fn serve_tcp(listener: &TcpListener, address: Ipv4Addr, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            continue;
        }
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut question).is_ok() {
            let answer = reply(&question, address, true);
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            let _ = stream.write_all(&[&length, answer.as_slice()].concat());
        }
    }
}

fn reply(question: &[u8], address: Ipv4Addr, tcp: bool) -> Vec<u8> {
    let (mut at, mut name) = (12, String::new());
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        name.push_str(std::str::from_utf8(&question[at + 1..end]).unwrap());
        name.push('.');
        at = end;
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let section = &question[12..at + 5];
    // What an OPT record behind the question allows.
    let allowed = match question.get(at + 8..at + 10) {
        Some(size) if !tcp => usize::from(u16::from_be_bytes([size[0], size[1]])),
        _ => 512,
    };
    let known = name.is_empty() || KNOWN.contains(&name.trim_end_matches('.'));
    let (mut answers, mut body) = (0u8, Vec::new());
    let mut record = |kind: u16, data: &[u8]| {
        answers += 1;
        body.extend([0xc0, 0x0c]);
        body.extend(kind.to_be_bytes());
        body.extend([0, 1, 0, 0, 0, 5]);
        body.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        body.extend(data);
    };
    match kind {
        1 if known && !name.is_empty() => record(1, &address.octets()),
        48 => (0..5).for_each(|_| record(48, &[7; LARGE / 5])),
        _ => {}
    }
    let cut = !tcp && 12 + section.len() + body.len() > allowed;
    let mut all = question[..2].to_vec();
    let code = if known { 0 } else { 3 };
    all.extend([0x81 | if cut { 2 } else { 0 }, 0x80 | code, 0, 1, 0]);
    all.extend([if cut { 0 } else { answers }, 0, 0, 0, 0]);
    all.extend(section);
    if !cut {
        all.extend(body);
    }
    all
}
