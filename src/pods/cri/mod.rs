//! The runtime over CRI: gRPC on its unix socket, every call before one deadline.
//!
//! tokio lives inside this room only, on the thread that asks, and never on one that enters a namespace.

mod connect;
pub(super) mod messages;

pub(super) use connect::connect;

use crate::facts::{CgroupDriver, Degraded, DegradedReason, RuntimeWord};
use messages as m;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Largest answer that is decoded: crictl's and the kubelet's limit.
const MOST_BYTES: usize = 16 << 20;
/// Calls under way at once on the one connection.
const AT_ONCE: usize = 32;
/// Largest `info` JSON of a verbose status that is parsed.
const MOST_INFO_BYTES: usize = 4 << 20;

/// Why the runtime did not answer a call.
#[derive(Debug, Clone)]
pub(super) enum CallError {
    /// The deadline passed.
    Deadline,
    /// It refused, or what it said is no CRI.
    Status {
        code: Code,
        /// The code and the words.
        text: String,
    },
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let mut text = format!("{:?}", status.code());
        if !status.message().is_empty() {
            text.push_str(": ");
            text.extend(status.message().chars().take(300));
        }
        let mut cause = std::error::Error::source(&status);
        while let Some(error) = cause {
            let words = error.to_string();
            if !text.contains(&words) {
                text.push_str(": ");
                text.extend(words.chars().take(200));
            }
            cause = error.source();
        }
        Self::Status { code: status.code(), text }
    }
}

/// Why the runtime cannot be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// This user may not connect to its socket.
    Denied(PathBuf),
    /// The disk has to answer; the endpoint that was tried.
    Degraded(Degraded, Option<String>),
}

/// A runtime that has answered once.
#[derive(Debug)]
pub(super) struct Runtime {
    tokio: tokio::runtime::Runtime,
    channel: Channel,
    /// `runtime.v1`, or `runtime.v1alpha2` of containerd before 1.6.
    package: &'static str,
    /// Who listens at the socket, as this process numbers it.
    pub(super) pid: Option<u32>,
    /// `unix:///…`.
    pub(super) endpoint: String,
    deadline: Instant,
    timeout_ms: u128,
}

/// The pid and network namespace in a verbose status.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct VerboseInfo {
    pub(super) pid: Option<u32>,
    pub(super) netns: Option<String>,
}

/// What a runtime is asked to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Sandboxes and containers.
    All,
    /// Sandboxes: half the work of the runtime, and all that a healthy pod needs to be found.
    Sandboxes,
}

/// Every sandbox and every container.
pub(super) type Lists = (Vec<m::PodSandbox>, Vec<m::Container>);

impl Runtime {
    /// Gives the calls that follow so long from now.
    pub(super) fn extend(&mut self, timeout: Duration) {
        self.deadline = Instant::now() + timeout;
        self.timeout_ms = timeout.as_millis();
    }

    /// Every sandbox and every container, dead ones too.
    pub(super) fn lists(&self) -> Result<Lists, CallError> {
        self.before_deadline(list(&self.channel, self.package, Wanted::All))
    }

    /// Every container, dead ones too.
    pub(super) fn containers(&self) -> Result<Vec<m::Container>, CallError> {
        self.before_deadline(list_containers(&self.channel, self.package))
    }

    /// Its name and version, and the cgroup driver that it tells the kubelet; `None` when it does not answer.
    pub(super) fn word(&self) -> Option<RuntimeWord> {
        self.before_deadline(async {
            let version = self.package.trim_start_matches("runtime.").into();
            let version = self.call("Version", m::VersionRequest { version });
            let config = self.call("RuntimeConfig", m::RuntimeConfigRequest {});
            let (version, config) = futures_util::future::join(version, config).await;
            let version: m::VersionResponse = version?;
            let config: Result<m::RuntimeConfigResponse, Status> = config;
            let driver = match config.map(|config| config.linux) {
                Ok(Some(linux)) => match linux.cgroup_driver {
                    0 => Some(CgroupDriver::Systemd),
                    1 => Some(CgroupDriver::Cgroupfs),
                    _ => None,
                },
                Ok(None) => None,
                Err(status) if status.code() == Code::Unimplemented => None,
                Err(status) => return Err(status),
            };
            Ok(RuntimeWord { name: version.runtime_name, version: version.runtime_version, driver })
        })
        .ok()
    }

    /// Status of each sandbox that is still there, and why some are missing if it is not that.
    pub(super) fn sandbox_statuses(
        &self,
        ids: Vec<String>,
        verbose: bool,
    ) -> (HashMap<String, m::PodSandboxStatusResponse>, Option<CallError>) {
        self.statuses("PodSandboxStatus", ids, verbose)
    }

    /// Status of each container that is still there, and why some are missing if it is not that.
    pub(super) fn container_statuses(
        &self,
        ids: Vec<String>,
        verbose: bool,
    ) -> (HashMap<String, m::ContainerStatusResponse>, Option<CallError>) {
        self.statuses("ContainerStatus", ids, verbose)
    }

    fn statuses<A: prost::Message + Default + 'static>(
        &self,
        method: &'static str,
        ids: Vec<String>,
        verbose: bool,
    ) -> (HashMap<String, A>, Option<CallError>) {
        let mut answers = HashMap::with_capacity(ids.len());
        let mut refused = None;
        let mut lost = None;
        let work = async {
            let mut waiting = ids.into_iter();
            let mut calls = JoinSet::new();
            loop {
                while calls.len() < AT_ONCE
                    && let Some(id) = waiting.next()
                {
                    let call = self.call(method, m::StatusRequest { id: id.clone(), verbose });
                    calls.spawn(async move { (id, call.await) });
                }
                match calls.join_next().await {
                    Some(Ok((id, Ok(answer)))) => {
                        answers.insert(id, answer);
                    }
                    // It was removed since it was listed.
                    Some(Ok((_, Err(status)))) if status.code() == Code::NotFound => {}
                    Some(Ok((_, Err(status)))) if status.code() == Code::Unavailable => {
                        lost = Some(CallError::from(status));
                    }
                    Some(Ok((_, Err(status)))) => refused = Some(CallError::from(status)),
                    Some(Err(_)) => {}
                    None => return Ok(()),
                }
            }
        };
        let late = self.before_deadline(work).err();
        // One broken pod does not make a broken runtime: the disk answers for that pod.
        let refused = refused.filter(|_| answers.is_empty());
        (answers, late.or(lost).or(refused))
    }

    /// One unary call; the future owns all it needs.
    fn call<Q, A>(
        &self,
        method: &str,
        request: Q,
    ) -> impl Future<Output = Result<A, Status>> + Send + 'static + use<Q, A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        call(self.channel.clone(), self.package, method, request)
    }

    fn before_deadline<T>(&self, work: impl Future<Output = Result<T, Status>>) -> Result<T, CallError> {
        self.tokio
            .block_on(async { tokio::time::timeout_at(self.deadline.into(), work).await })
            .map_err(|_| CallError::Deadline)?
            .map_err(CallError::from)
    }

    /// What an error of a call means for the report.
    pub(super) fn degraded(&self, error: &CallError) -> Degraded {
        degraded(error, &self.endpoint, self.timeout_ms)
    }
}

fn degraded(error: &CallError, endpoint: &str, timeout_ms: u128) -> Degraded {
    match error {
        CallError::Deadline => Degraded {
            reason: DegradedReason::RuntimeHung,
            detail: format!(
                "the container runtime at {endpoint} accepts connections but did not answer within {timeout_ms} ms"
            ),
        },
        CallError::Status { code: Code::Unimplemented, text } => Degraded {
            reason: DegradedReason::RuntimeError,
            detail: format!(
                "what listens at {endpoint} does not serve CRI ({text}); in containerd its CRI plugin may be disabled"
            ),
        },
        CallError::Status { text, .. } => Degraded {
            reason: DegradedReason::RuntimeError,
            detail: format!("the container runtime at {endpoint} answered with an error ({text})"),
        },
    }
}

async fn list(channel: &Channel, package: &str, wanted: Wanted) -> Result<Lists, Status> {
    let sandboxes = call(channel.clone(), package, "ListPodSandbox", m::ListRequest {});
    let containers = async {
        match wanted {
            Wanted::All => list_containers(channel, package).await,
            Wanted::Sandboxes => Ok(Vec::new()),
        }
    };
    let (sandboxes, containers) = futures_util::future::join(sandboxes, containers).await;
    let sandboxes: m::ListPodSandboxResponse = sandboxes?;
    Ok((sandboxes.items, containers?))
}

async fn list_containers(channel: &Channel, package: &str) -> Result<Vec<m::Container>, Status> {
    let answer: m::ListContainersResponse =
        call(channel.clone(), package, "ListContainers", m::ListRequest {}).await?;
    Ok(answer.containers)
}

fn call<Q, A>(
    channel: Channel,
    package: &str,
    method: &str,
    request: Q,
) -> impl Future<Output = Result<A, Status>> + Send + 'static + use<Q, A>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let path = format!("/{package}.RuntimeService/{method}");
    async move {
        let path = http::uri::PathAndQuery::try_from(path).map_err(|e| Status::internal(e.to_string()))?;
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MOST_BYTES);
        grpc.ready().await.map_err(|e| Status::from_error(Box::new(e)))?;
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        grpc.unary(tonic::Request::new(request), path, codec).await.map(tonic::Response::into_inner)
    }
}

/// Reads `info["info"]` of a verbose status: JSON of the runtime's own making, of any size and shape.
pub(super) fn verbose_info(info: &HashMap<String, String>) -> VerboseInfo {
    let Some(text) = info.get("info").filter(|text| text.len() <= MOST_INFO_BYTES) else {
        return VerboseInfo::default();
    };
    let Ok(parsed) = serde_json::from_str::<InfoJson>(text) else { return VerboseInfo::default() };
    let namespaces = parsed.spec.and_then(|s| s.linux).map(|l| l.namespaces).unwrap_or_default();
    VerboseInfo {
        pid: parsed.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid > 0),
        netns: namespaces.into_iter().find(|n| n.kind == "network").and_then(|n| n.path),
    }
}

#[derive(serde::Deserialize)]
struct InfoJson {
    pid: Option<i64>,
    #[serde(rename = "runtimeSpec")]
    spec: Option<super::disk::Spec>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> VerboseInfo {
        verbose_info(&HashMap::from([("info".to_owned(), text.to_owned())]))
    }

    #[test]
    fn three_runtimes_say_three_things() {
        let containerd = r#"{"pid":1015,"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"},
            {"type":"network","path":"/var/run/netns/cni-1"}]}}}"#;
        assert_eq!(
            info(containerd),
            VerboseInfo { pid: Some(1015), netns: Some("/var/run/netns/cni-1".into()) }
        );
        let crio = r#"{"pid":null,"runtimeSpec":{"linux":{"namespaces":[{"type":"network","path":"/var/run/netns/x"}]}}}"#;
        assert_eq!(info(crio), VerboseInfo { pid: None, netns: Some("/var/run/netns/x".into()) });
        assert_eq!(verbose_info(&HashMap::new()), VerboseInfo::default(), "cri-dockerd has no info block");
    }

    #[test]
    fn a_hostile_info_block_is_nothing() {
        let deep = "[".repeat(100_000);
        for text in
            ["", "{", "null", "[]", r#"{"pid":-1}"#, r#"{"pid":1e99}"#, r#"{"pid":99999999999}"#, &deep]
        {
            assert_eq!(info(text), VerboseInfo::default(), "{}", &text[..text.len().min(20)]);
        }
        let large = format!(r#"{{"pid":7,"x":"{}"}}"#, "x".repeat(MOST_INFO_BYTES));
        assert_eq!(info(&large), VerboseInfo::default());
        assert_eq!(info(r#"{"pid":7}"#).pid, Some(7));
    }
}
