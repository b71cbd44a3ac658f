//! A CRI server on a unix socket that answers from crictl's JSON, and the ways in which a runtime is broken.

pub use super::messages::*;

use super::Node;
use serde_json::Value;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};

/// What the server answers, and whom it was asked about.
#[derive(Debug, Default)]
pub struct Answers {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Container>,
    pub sandbox_statuses: HashMap<String, SandboxStatusResponse>,
    pub container_statuses: HashMap<String, ContainerStatusResponse>,
    /// Status calls that are never answered.
    pub hangs_at_status: bool,
    /// The sandbox whose status is an error.
    pub refused_status: Option<String>,
    /// Containers are not listed: an error.
    pub refuses_containers: bool,
    /// The cgroup driver that the kubelet is told; without one the call is not implemented.
    pub cgroup_driver: Option<i32>,
    pub calls: Mutex<Vec<String>>,
}

fn strings(value: &Value) -> HashMap<String, String> {
    let Some(map) = value.as_object() else { return HashMap::new() };
    map.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// `info` as crictl shows it, unpacked, back into the strings that travel.
fn info(document: &Value) -> HashMap<String, String> {
    let block = &document["info"];
    if block.is_null() { HashMap::new() } else { HashMap::from([("info".into(), block.to_string())]) }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

impl Answers {
    /// The answers that were recorded with a node.
    pub fn recorded(node: &Node) -> Self {
        let mut answers = Self::default();
        for pod in read(&node.recording("crictl/pods.json"))["items"].as_array().unwrap() {
            answers.sandboxes.push(Sandbox {
                id: text(&pod["id"]),
                metadata: Some(SandboxMetadata {
                    name: text(&pod["metadata"]["name"]),
                    uid: text(&pod["metadata"]["uid"]),
                    namespace: text(&pod["metadata"]["namespace"]),
                    attempt: 0,
                }),
                state: i32::from(pod["state"] == "SANDBOX_NOTREADY"),
                created_at: text(&pod["createdAt"]).parse().unwrap(),
                labels: strings(&pod["labels"]),
                annotations: strings(&pod["annotations"]),
                runtime_handler: String::new(),
            });
        }
        let states = ["CONTAINER_CREATED", "CONTAINER_RUNNING", "CONTAINER_EXITED", "CONTAINER_UNKNOWN"];
        for container in read(&node.recording("crictl/ps-a.json"))["containers"].as_array().unwrap() {
            answers.containers.push(Container {
                id: text(&container["id"]),
                pod_sandbox_id: text(&container["podSandboxId"]),
                metadata: Some(ContainerMetadata {
                    name: text(&container["metadata"]["name"]),
                    attempt: u32::try_from(container["metadata"]["attempt"].as_u64().unwrap()).unwrap(),
                }),
                image: Some(Image { image: "x".into() }),
                image_ref: text(&container["imageRef"]),
                state: i32::try_from(states.iter().position(|s| container["state"] == *s).unwrap()).unwrap(),
                created_at: text(&container["createdAt"]).parse().unwrap(),
                labels: strings(&container["labels"]),
                annotations: strings(&container["annotations"]),
            });
        }
        for entry in std::fs::read_dir(node.recording("crictl")).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("inspectp-") {
                answers.add_sandbox_status(&read(&entry.path()));
            } else if name.starts_with("inspect-") {
                answers.add_container_status(&read(&entry.path()));
            }
        }
        answers
    }

    fn add_sandbox_status(&mut self, document: &Value) {
        let status = &document["status"];
        let more = status["network"]["additionalIps"].as_array().cloned().unwrap_or_default();
        let mode = &status["linux"]["namespaces"]["options"]["network"];
        let answer = SandboxStatusResponse {
            status: Some(SandboxStatus {
                id: text(&status["id"]),
                state: i32::from(status["state"] == "SANDBOX_NOTREADY"),
                network: Some(Network {
                    ip: text(&status["network"]["ip"]),
                    additional_ips: more.iter().map(|ip| PodIp { ip: text(&ip["ip"]) }).collect(),
                }),
                linux: Some(Linux {
                    namespaces: Some(Namespaces {
                        options: Some(NamespaceOption {
                            network: if mode == "NODE" { 2 } else { 0 },
                            pid: 1,
                            ipc: 0,
                        }),
                    }),
                }),
                labels: strings(&status["labels"]),
                annotations: strings(&status["annotations"]),
                ..SandboxStatus::default()
            }),
            info: info(document),
        };
        self.sandbox_statuses.insert(text(&status["id"]), answer);
    }

    fn add_container_status(&mut self, document: &Value) {
        let status = &document["status"];
        let happened = |key: &str| {
            let seconds = nsprobe::facts::unix_seconds(&text(&status[key])).unwrap_or(0);
            seconds.max(0) * 1_000_000_000
        };
        let answer = ContainerStatusResponse {
            status: Some(ContainerStatus {
                id: text(&status["id"]),
                started_at: happened("startedAt"),
                finished_at: happened("finishedAt"),
                exit_code: i32::try_from(status["exitCode"].as_i64().unwrap_or(0)).unwrap(),
                reason: text(&status["reason"]),
                message: text(&status["message"]),
                resources: status["resources"]["linux"]["memoryLimitInBytes"].as_str().map(|limit| {
                    let memory_limit_in_bytes = limit.parse().unwrap();
                    Resources { linux: Some(LinuxResources { memory_limit_in_bytes }) }
                }),
                ..ContainerStatus::default()
            }),
            info: info(document),
        };
        self.container_statuses.insert(text(&status["id"]), answer);
    }
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    runtime: Option<tokio::runtime::Runtime>,
    pub answers: Arc<Answers>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Clone)]
pub struct Fake<const ALPHA: bool>(Arc<Answers>);

impl NamedService for Fake<false> {
    const NAME: &'static str = "runtime.v1.RuntimeService";
}

impl NamedService for Fake<true> {
    const NAME: &'static str = "runtime.v1alpha2.RuntimeService";
}

struct Unary<Q, A> {
    answer: Box<dyn Fn(Q) -> Result<A, Status> + Send + Sync>,
    hangs: bool,
}

impl<Q, A: Send + 'static> UnaryService<Q> for Unary<Q, A> {
    type Response = A;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let result = (self.answer)(request.into_inner()).map(Response::new);
        let hangs = self.hangs;
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            result
        })
    }
}

async fn unary<Q, A>(
    request: http::Request<Body>,
    hangs: bool,
    answer: impl Fn(Q) -> Result<A, Status> + Send + Sync + 'static,
) -> http::Response<Body>
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
{
    let mut grpc = Grpc::new(tonic_prost::ProstCodec::<A, Q>::default()).max_encoding_message_size(1 << 30);
    grpc.unary(Unary { answer: Box::new(answer), hangs }, request).await
}

fn status_of<A: Clone>(all: &HashMap<String, A>, id: &str) -> Result<A, Status> {
    all.get(id).cloned().ok_or_else(|| Status::not_found(format!("{id} does not exist")))
}

impl<const ALPHA: bool> tower::Service<http::Request<Body>> for Fake<ALPHA> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answers = Arc::clone(&self.0);
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
            // grpc-go refuses a request whose authority is a path.
            let authority = request.uri().authority().map(ToString::to_string);
            assert_eq!(authority.as_deref(), Some("localhost"));
            let note = |answers: &Answers, what: &str, verbose: bool| {
                let what = format!("{what}{}", if verbose { " verbose" } else { "" });
                answers.calls.lock().unwrap().push(what);
            };
            let hangs = answers.hangs_at_status;
            Ok(match method.as_str() {
                "Version" => {
                    let answer = move |_: Version| {
                        note(&answers, "Version", false);
                        Ok(Version {
                            version: "0.1.0".into(),
                            runtime_name: "recorded".into(),
                            runtime_version: "1".into(),
                            runtime_api_version: "v1".into(),
                        })
                    };
                    unary(request, false, answer).await
                }
                "RuntimeConfig" if answers.cgroup_driver.is_some() => {
                    let cgroup_driver = answers.cgroup_driver.unwrap();
                    let answer = move |_: Nothing| {
                        note(&answers, "RuntimeConfig", false);
                        Ok(RuntimeConfig { linux: Some(LinuxRuntimeConfiguration { cgroup_driver }) })
                    };
                    unary(request, false, answer).await
                }
                "ListPodSandbox" => {
                    let answer = move |_: Nothing| {
                        note(&answers, "ListPodSandbox", false);
                        Ok(Sandboxes { items: answers.sandboxes.clone() })
                    };
                    unary(request, false, answer).await
                }
                "ListContainers" => {
                    let answer = move |_: Nothing| {
                        note(&answers, "ListContainers", false);
                        if answers.refuses_containers {
                            return Err(Status::unknown("the database is locked"));
                        }
                        Ok(Containers { containers: answers.containers.clone() })
                    };
                    unary(request, false, answer).await
                }
                "PodSandboxStatus" => {
                    let answer = move |query: StatusRequest| {
                        note(&answers, "PodSandboxStatus", query.verbose);
                        if answers.refused_status.as_ref() == Some(&query.id) {
                            return Err(Status::unknown("failed to get sandbox ip"));
                        }
                        let mut found = status_of(&answers.sandbox_statuses, &query.id)?;
                        if !query.verbose {
                            found.info.clear();
                        }
                        Ok(found)
                    };
                    unary(request, hangs, answer).await
                }
                "ContainerStatus" => {
                    let answer = move |query: StatusRequest| {
                        note(&answers, "ContainerStatus", query.verbose);
                        let mut found = status_of(&answers.container_statuses, &query.id)?;
                        if !query.verbose {
                            found.info.clear();
                        }
                        Ok(found)
                    };
                    unary(request, hangs, answer).await
                }
                _ => Status::unimplemented(method).into_http(),
            })
        })
    }
}

/// Where the server listens on the node.
pub fn bind(node: &Node, path: &str) -> UnixListener {
    let path = node.root().join(path.trim_start_matches('/'));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    UnixListener::bind(path).unwrap()
}

/// Serves `runtime.v1` (or with `ALPHA` only `runtime.v1alpha2`) on a socket of the node.
pub fn serve<const ALPHA: bool>(node: &Node, path: &str, answers: Answers) -> Server
where
    Fake<ALPHA>: NamedService,
{
    let listener = bind(node, path);
    listener.set_nonblocking(true).unwrap();
    let answers = Arc::new(answers);
    let fake = Fake::<ALPHA>(Arc::clone(&answers));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async move {
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        tonic::transport::Server::builder().add_service(fake).serve_with_incoming(incoming).await.unwrap();
    });
    Server { runtime: Some(runtime), answers }
}

/// Serves what was recorded.
pub fn serve_recorded(node: &Node, path: &str) -> Server {
    serve::<false>(node, path, Answers::recorded(node))
}

/// A socket on which the kernel accepts and nobody answers: a stopped runtime.
pub fn hung(node: &Node, path: &str) -> UnixListener {
    bind(node, path)
}

/// A socket file that nobody listens on: a killed runtime.
pub fn dead(node: &Node, path: &str) {
    drop(bind(node, path));
}

/// Accepts once, reads a little and answers with these bytes.
pub fn babbling(node: &Node, path: &str, bytes: &'static [u8]) -> std::thread::JoinHandle<()> {
    let listener = bind(node, path);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 64];
        let _ = stream.read(&mut buffer);
        let _ = stream.write_all(bytes);
        std::thread::sleep(Duration::from_millis(50));
    })
}
