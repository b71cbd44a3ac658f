//! A server in the tests that answers what a real API server answered.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

pub mod ask;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const EMPTY: &str = r#"{"kind":"List","metadata":{},"items":[]}"#;

/// What the server does with a request.
pub enum Reply {
    Json(u16, Vec<u8>),
    /// 429 as plain text, and what the header Retry-After says.
    Busy(&'static str),
    /// Fewer bytes than it announces.
    Cut(Vec<u8>),
    /// These bytes for its head and body.
    Raw(Vec<u8>),
    /// A list that begins and never ends, as fast as it is taken, or a byte at a time with a pause after each.
    Endless(Option<Duration>),
    /// None, for as long as the client waits.
    Hang,
}

pub struct Api {
    pub port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Api {
    /// `answer` is given the path with its query, and how many requests came before.
    pub fn serve(answer: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve_at(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    /// The same at a socket that is there already: of another network namespace, or of a port that is known.
    pub fn serve_at(
        listener: TcpListener,
        answer: impl Fn(&str, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || one(&stream.unwrap(), &log, &*answer));
            }
        });
        Self { port, asked }
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub fn kubeconfig(&self) -> String {
        kubeconfig(self.port)
    }
}

/// The list of an answer with something changed in it.
pub fn edited(reply: Reply, edit: impl FnOnce(&mut Vec<serde_json::Value>)) -> Reply {
    let Reply::Json(code, body) = reply else { panic!("no list") };
    let mut list: serde_json::Value = serde_json::from_slice(&body).unwrap();
    edit(list["items"].as_array_mut().unwrap());
    Reply::Json(code, list.to_string().into())
}

pub fn kubeconfig(port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: k, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
    )
}

fn one(stream: &TcpStream, log: &Mutex<Vec<String>>, answer: &dyn Fn(&str, usize) -> Reply) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let Some(path) = first.split(' ').nth(1).filter(|path| path.starts_with('/')).map(str::to_owned) else {
        let _ = stream.shutdown(std::net::Shutdown::Both);
        return;
    };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(path.clone());
        log.len() - 1
    };
    let mut stream = stream;
    let mut send = |code: u16, more: &str, length: usize, body: &[u8]| {
        let head =
            format!("HTTP/1.1 {code} X\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    match answer(&path, before) {
        Reply::Json(code, body) => send(code, "content-type: application/json\r\n", body.len(), &body),
        Reply::Busy(after) => {
            let body = recorded("toomany-429-overload.body.txt");
            let more = format!("content-type: text/plain; charset=utf-8\r\nretry-after: {after}\r\n");
            send(429, &more, body.len(), &body);
        }
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes);
        }
        Reply::Endless(pause) => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"items\":[");
            let spaces = vec![b' '; if pause.is_some() { 1 } else { 1 << 20 }];
            while stream.write_all(&spaces).is_ok() {
                std::thread::sleep(pause.unwrap_or_default());
            }
        }
        Reply::Cut(body) => send(200, "", body.len() * 2, &body),
        Reply::Hang => {
            let _ = stream.read(&mut [0; 1]);
        }
    }
}

pub fn recorded(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/api").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if !name.ends_with(".gz") {
        return bytes;
    }
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut text).unwrap();
    text
}

pub fn ok(name: &str) -> Reply {
    Reply::Json(200, recorded(name))
}

pub fn empty() -> Reply {
    Reply::Json(200, EMPTY.into())
}

/// The recorded lists of namespace shop.
pub fn shop(path: &str) -> Reply {
    if path.starts_with("/api/v1/pods?") {
        ok("pods-shop.json.gz")
    } else if path.starts_with("/api/v1/nodes?") {
        ok("nodes.json")
    } else {
        empty()
    }
}

/// One page of 500 pods with what real ones carry and nobody here reads.
pub fn many(path: &str) -> Reply {
    const PODS: usize = 100_000;
    if !path.starts_with("/api/v1/pods") {
        return empty();
    }
    let from: usize = path.split_once("continue=").map_or(0, |(_, at)| at.parse().unwrap());
    let fields = r#""f:metadata":{"f:labels":{".":{},"f:app":{}}}"#.repeat(4).replace("}\"", "},\"");
    let item = |n: usize| {
        format!(
            r#"{{"metadata":{{"name":"web-6f5d8c7b9-{n:06}","namespace":"namespace-{}","uid":"6dde955c-2593-47aa-8aa2-{n:012}","managedFields":[{{"fieldsV1":{{{fields}}}}}]}},"spec":{{"nodeName":"node-{:05}"}},"status":{{"phase":"Running","podIPs":[{{"ip":"10.{}.{}.{}"}}],"conditions":[{{"type":"Ready","status":"True"}}],"containerStatuses":[{{"restartCount":0}}]}}}}"#,
            n % 100,
            n / 30,
            n >> 16,
            n >> 8 & 255,
            n & 255
        )
    };
    let items: Vec<String> = (from..(from + 500).min(PODS)).map(item).collect();
    let next = if from + 500 < PODS { (from + 500).to_string() } else { String::new() };
    Reply::Json(
        200,
        format!(r#"{{"metadata":{{"continue":"{next}"}},"items":[{}]}}"#, items.join(",")).into(),
    )
}
