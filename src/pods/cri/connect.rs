//! Finding the runtime that answers: connect, ask for what it has, tell dead from hung.

use super::{CallError, Fault, Lists, Runtime, Wanted, degraded, list};
use crate::facts::{Degraded, DegradedReason};
use crate::netns::handle_path;
use crate::pods::endpoint::Endpoints;
use crate::pods::hostfs::HostFs;
use rustix::fs::{FileType, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// How long a socket of higher rank may still answer once another one has.
const GRACE: Duration = Duration::from_millis(100);
/// Between two attempts while the socket's backlog is full.
const BACKLOG_PAUSE: Duration = Duration::from_millis(20);

/// Why one socket is not the runtime's, the most telling last.
#[derive(Debug)]
enum Refusal {
    Missing,
    Dead,
    Error(String),
    Call(CallError),
    Denied,
}

impl Refusal {
    fn rank(&self) -> u8 {
        match self {
            Self::Missing => 0,
            Self::Dead => 1,
            Self::Error(_) => 2,
            Self::Call(CallError::Status { .. }) => 3,
            Self::Call(CallError::Deadline) => 4,
            Self::Denied => 5,
        }
    }
}

struct Answer {
    channel: Channel,
    package: &'static str,
    pid: Option<u32>,
    lists: Lists,
}

/// Connects to the endpoint, or to the first known socket that answers, before `timeout` has passed; and what is wanted of
/// what it has:
/// whatever else would be asked first, a version, costs a round trip more and tells less.
pub(in crate::pods) fn connect(
    fs: &HostFs,
    endpoints: &Endpoints,
    wanted: Wanted,
    timeout: Duration,
) -> Result<(Runtime, Lists), Fault> {
    let deadline = Instant::now() + timeout;
    let no_runtime = |detail: String, endpoint| {
        Fault::Degraded(Degraded { reason: DegradedReason::NoRuntime, detail }, endpoint)
    };
    let (paths, by) = match endpoints {
        Endpoints::Named { by, path } => (vec![path.clone()], Some(*by)),
        Endpoints::Known(paths) => (paths.clone(), None),
        Endpoints::Unusable { by, value } => {
            return Err(no_runtime(
                format!("{by} names {value}, which is no unix socket"),
                Some(value.clone()),
            ));
        }
    };
    if paths.is_empty() {
        return Err(no_runtime("no socket of a known container runtime is on this node".into(), None));
    }
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| no_runtime(format!("cannot start the CRI client: {e}"), None))?;
    let handles: Vec<_> = paths.iter().map(|path| open_socket(fs, path)).collect();
    let found = tokio.block_on(first_answer(handles, wanted, deadline));
    let timeout_ms = timeout.as_millis();
    match found {
        Ok((index, answer)) => {
            let runtime = Runtime {
                tokio,
                channel: answer.channel,
                package: answer.package,
                pid: answer.pid,
                endpoint: format!("unix://{}", paths.get(index).map_or("", String::as_str)),
                deadline,
                timeout_ms,
            };
            Ok((runtime, answer.lists))
        }
        Err((index, refusal)) => {
            let path = paths.get(index).map_or("", String::as_str);
            Err(fault(refusal, path, by, timeout_ms))
        }
    }
}

fn fault(refusal: Refusal, path: &str, by: Option<&str>, timeout_ms: u128) -> Fault {
    let endpoint = format!("unix://{path}");
    let named = by.map(|by| format!(" (named by {by})")).unwrap_or_default();
    let degraded = match refusal {
        Refusal::Denied => return Fault::Denied(PathBuf::from(path)),
        Refusal::Missing => Degraded {
            reason: DegradedReason::NoRuntime,
            detail: format!("no socket is at {endpoint}{named}"),
        },
        Refusal::Dead => Degraded {
            reason: DegradedReason::RuntimeDead,
            detail: format!(
                "the container runtime is not running: nobody listens at {endpoint}{named}, connection refused"
            ),
        },
        Refusal::Error(text) => {
            Degraded { reason: DegradedReason::RuntimeError, detail: format!("{endpoint}{named}: {text}") }
        }
        Refusal::Call(error) => degraded(&error, &endpoint, timeout_ms),
    };
    Fault::Degraded(degraded, Some(endpoint))
}

/// The socket's inode, found under the host root whatever links lead to it.
fn open_socket(fs: &HostFs, path: &str) -> Result<OwnedFd, Refusal> {
    let handle = fs.open_flags(path, OFlags::PATH).map_err(|e| refusal(&e))?;
    let mode = rustix::fs::fstat(&handle).map_err(|e| refusal(&e.into()))?.st_mode;
    if FileType::from_raw_mode(mode) == FileType::Socket {
        Ok(handle)
    } else {
        Err(Refusal::Error("is no socket".into()))
    }
}

fn refusal(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::NotFound => Refusal::Missing,
        io::ErrorKind::ConnectionRefused => Refusal::Dead,
        io::ErrorKind::PermissionDenied => Refusal::Denied,
        _ => Refusal::Error(error.to_string()),
    }
}

/// All are asked at once: one that hangs must not keep the others from answering.
async fn first_answer(
    handles: Vec<Result<OwnedFd, Refusal>>,
    wanted: Wanted,
    deadline: Instant,
) -> Result<(usize, Answer), (usize, Refusal)> {
    let mut open: Vec<bool> = handles.iter().map(Result::is_ok).collect();
    let mut worst: Option<(usize, Refusal)> = None;
    let mut best: Option<(usize, Answer)> = None;
    let mut asked = JoinSet::new();
    let blame = |worst: &mut Option<(usize, Refusal)>, index, refusal: Refusal| {
        if worst.as_ref().is_none_or(|(_, w)| refusal.rank() > w.rank()) {
            *worst = Some((index, refusal));
        }
    };
    for (index, handle) in handles.into_iter().enumerate() {
        match handle {
            Ok(handle) => {
                asked.spawn(async move { (index, ask(&handle, wanted, deadline).await) });
            }
            Err(refusal) => blame(&mut worst, index, refusal),
        }
    }
    loop {
        let patience = if best.is_some() { Instant::now() + GRACE } else { deadline + GRACE };
        let Ok(Some(Ok((index, result)))) = tokio::time::timeout_at(patience.into(), asked.join_next()).await
        else {
            break;
        };
        if let Some(open) = open.get_mut(index) {
            *open = false;
        }
        match result {
            Ok(answer) if best.as_ref().is_none_or(|(at, _)| index < *at) => best = Some((index, answer)),
            Ok(_) => {}
            Err(refusal) => blame(&mut worst, index, refusal),
        }
        if best.as_ref().is_some_and(|(at, _)| !open.iter().take(*at).any(|&o| o)) {
            break;
        }
    }
    best.ok_or_else(|| worst.unwrap_or((0, Refusal::Call(CallError::Deadline))))
}

async fn ask(handle: &OwnedFd, wanted: Wanted, deadline: Instant) -> Result<Answer, Refusal> {
    let work = async {
        let stream = connect_socket(handle).await?;
        // SO_PEERCRED (unix(7)): 0 where this process cannot see the other.
        let pid = stream.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok());
        let pid = pid.filter(|&pid| pid > 0);
        let channel = open_channel(stream).await.map_err(Refusal::Call)?;
        let mut last = CallError::Deadline;
        for package in ["runtime.v1", "runtime.v1alpha2"] {
            match list(&channel, package, wanted).await {
                Ok(lists) => return Ok(Answer { channel, package, pid, lists }),
                Err(status) => {
                    let unknown = status.code() == Code::Unimplemented;
                    if package == "runtime.v1" || !unknown {
                        last = status.into();
                    }
                    if !unknown {
                        break;
                    }
                }
            }
        }
        Err(Refusal::Call(last))
    };
    match tokio::time::timeout_at(deadline.into(), work).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::Call(CallError::Deadline)),
    }
}

async fn connect_socket(handle: &OwnedFd) -> Result<UnixStream, Refusal> {
    loop {
        match UnixStream::connect(handle_path(handle)).await {
            Ok(stream) => return Ok(stream),
            // The backlog is full: nobody accepts, or many ask. The deadline ends this.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(BACKLOG_PAUSE).await;
            }
            Err(error) => return Err(refusal(&error)),
        }
    }
}

async fn open_channel(stream: UnixStream) -> Result<Channel, CallError> {
    // The one connection is used once; a lost one is not made anew behind the deadline's back.
    let once = Mutex::new(Some(hyper_util::rt::TokioIo::new(stream)));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = once.lock().ok().and_then(|mut slot| slot.take());
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    // `:authority` localhost: grpc-go servers refuse a socket's path there.
    Endpoint::from_static("http://localhost")
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .connect_with_connector(connector)
        .await
        .map_err(|error| CallError::from(Status::from_error(Box::new(error))))
}
