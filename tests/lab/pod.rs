//! Makes, restarts, shows and removes pods through CRI itself, as the kubelet would: `RunPodSandbox`,
//! `CreateContainer`, `StartContainer`. Used by `scripts/lab`; never shipped.
//!
//! It runs outside the node and reaches it through `--root` (`/proc/PID/root` of the node's init), so one
//! binary serves every node. It shares no code with nsprobe on purpose: what makes the pods must not make
//! the same mistakes as what finds them. Output is one JSON document a line for each pod.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};

mod config;
mod cri;
use config::*;
use cri::*;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T> = Result<T, Failure>;

/// A `ListPodSandbox` of 250 pods with labels passes tonic's default of 4 MiB.
const DECODE_LIMIT: usize = 16 << 20;

#[derive(Parser)]
#[command(about = "Pods of a lab node, through CRI")]
struct Cli {
    /// The node's root as seen from here: `/proc/PID/root`.
    #[arg(long)]
    root: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Waits until the runtime answers and the images are known to CRI.
    Ready { images: Vec<String> },
    /// Makes one pod, or `--count` of them.
    Run(Run),
    /// Starts the next attempt of one container of a pod, as the kubelet does after a crash.
    Restart {
        pod: String,
        /// The container's name; by default the pod's first one.
        #[arg(long)]
        container: Option<String>,
        #[arg(long)]
        command: Option<String>,
        #[arg(long, default_value = "localhost/nsprobe-lab/app:1")]
        image: String,
    },
    /// Prints pods as `run` does; without a name, all of them.
    Show { pods: Vec<String> },
    /// Stops and removes pods and their logs.
    Rm { pods: Vec<String> },
}

#[derive(Args, Clone)]
struct Run {
    /// `[NAMESPACE/]NAME`; the namespace is `default` by default.
    name: Option<String>,
    /// The pods `PREFIX-0` to `PREFIX-(COUNT-1)`; PREFIX may carry a namespace.
    #[arg(long, requires = "count", conflicts_with = "name")]
    prefix: Option<String>,
    #[arg(long, requires = "prefix")]
    count: Option<u32>,
    /// How many pods are made at a time.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Shares the node's network namespace.
    #[arg(long)]
    host_network: bool,
    #[arg(long, value_delimiter = ',', default_value = "app")]
    containers: Vec<String>,
    /// Memory limit of every container, in bytes.
    #[arg(long)]
    memory: Option<i64>,
    /// Run by /bin/sh -c in every container; by default the first serves HTTP on port 80, the others sleep.
    #[arg(long)]
    command: Option<String>,
    /// Takes --command as a program and its words, without a shell (a missing program gives StartError).
    #[arg(long, requires = "command")]
    raw: bool,
    /// Name server in the pod's resolv.conf; may be repeated.
    #[arg(long)]
    dns: Vec<String>,
    #[arg(long, default_value = "localhost/nsprobe-lab/app:1")]
    image: String,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(act(cli))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "lab-pod: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn act(cli: Cli) -> Outcome<()> {
    match cli.action {
        Action::Ready { images } => ready(&cli.root, &images).await,
        Action::Run(run) => run_pods(Node::connect(&cli.root).await?, run).await,
        Action::Restart { pod, container, command, image } => {
            let node = Node::connect(&cli.root).await?;
            print(&node.restart(&pod, container, command, image).await?)
        }
        Action::Show { pods } => {
            let node = Node::connect(&cli.root).await?;
            for sandbox in node.find(&pods).await? {
                print(&node.describe(&sandbox.id).await?)?;
            }
            Ok(())
        }
        Action::Rm { pods } => {
            let node = Node::connect(&cli.root).await?;
            if pods.is_empty() {
                return Err("name the pods to remove".into());
            }
            for sandbox in node.find(&pods).await? {
                node.remove(&sandbox).await?;
            }
            Ok(())
        }
    }
}

/// The CRI plugin learns of an imported image from an event, a moment after the import has ended;
/// a pod made in between would try to pull it.
async fn ready(root: &Path, images: &[String]) -> Outcome<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match probe(root, images).await {
            Ok(()) => return Ok(()),
            Err(failure) if Instant::now() > deadline => return Err(failure),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn probe(root: &Path, images: &[String]) -> Outcome<()> {
    let node = Node::connect(root).await?;
    let _: VersionResponse = node.call("RuntimeService/Version", VersionRequest {}).await?;
    for image in images {
        let request = ImageStatusRequest { image: Some(ImageSpec { image: image.clone() }) };
        let answer: ImageStatusResponse = node.call("ImageService/ImageStatus", request).await?;
        answer.image.ok_or_else(|| format!("the runtime does not know the image {image}"))?;
    }
    Ok(())
}

async fn run_pods(node: Node, run: Run) -> Outcome<()> {
    let names: Vec<String> = match (&run.name, &run.prefix, run.count) {
        (Some(name), _, _) => vec![name.clone()],
        (None, Some(prefix), Some(count)) => (0..count).map(|i| format!("{prefix}-{i}")).collect(),
        _ => return Err("give a NAME, or --prefix and --count".into()),
    };
    let (node, run) = (Arc::new(node), Arc::new(run));
    let slots = Arc::new(Semaphore::new(run.workers.max(1)));
    let mut tasks = JoinSet::new();
    for name in names {
        let (node, run, slots) = (Arc::clone(&node), Arc::clone(&run), Arc::clone(&slots));
        tasks.spawn(async move {
            let _slot = slots.acquire().await?;
            node.run(&name, &run).await.map_err(|failure| Failure::from(format!("{name}: {failure}")))
        });
    }
    let mut first_failure = Ok(());
    while let Some(made) = tasks.join_next().await {
        match made? {
            Ok(pod) => {
                print(&pod)?;
                if let Some(error) = pod.get("error") {
                    first_failure = first_failure.and(Err(error.to_string().into()));
                }
            }
            Err(failure) => first_failure = first_failure.and(Err(failure)),
        }
    }
    first_failure
}

fn print(document: &Value) -> Outcome<()> {
    writeln!(std::io::stdout(), "{document}")?;
    Ok(())
}

/// One node's runtime and the way to its files.
struct Node {
    channel: Channel,
    root: PathBuf,
}

impl Node {
    async fn connect(root: &Path) -> Outcome<Self> {
        let socket = root.join("run/containerd/containerd.sock");
        let shown = socket.display().to_string();
        // The URI only becomes `:authority`; the bytes go to the socket.
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(tower::service_fn(move |_| {
                let socket = socket.clone();
                async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
            }))
            .await
            .map_err(|failure| format!("{shown}: {failure}"))?;
        Ok(Self { channel, root: root.to_owned() })
    }

    async fn call<Q, R>(&self, method: &str, request: Q) -> Outcome<R>
    where
        Q: prost::Message + Send + Sync + 'static,
        R: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(DECODE_LIMIT);
        grpc.ready().await?;
        let path = format!("/runtime.v1.{method}").parse()?;
        let codec = tonic_prost::ProstCodec::<Q, R>::default();
        let answer = grpc.unary(tonic::Request::new(request), path, codec).await;
        Ok(answer.map_err(|status| format!("{method}: {}", status.message()))?.into_inner())
    }

    async fn run(&self, name: &str, run: &Run) -> Outcome<Value> {
        let (namespace, name) = split(name);
        let uid = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
        let pod = PodMetadata { name: name.to_owned(), uid, namespace: namespace.to_owned(), attempt: 0 };
        let mut annotations = HashMap::from([
            ("kubernetes.io/config.source".to_owned(), "api".to_owned()),
            (HOST_NETWORK.to_owned(), run.host_network.to_string()),
        ]);
        if let Some(memory) = run.memory {
            annotations.insert(MEMORY.to_owned(), memory.to_string());
        }
        let config = sandbox_config(&pod, annotations, &run.dns);
        fs::create_dir_all(self.inside(&config.log_directory))?;
        let request = RunPodSandboxRequest { config: Some(config.clone()) };
        let sandbox: RunPodSandboxResponse = self.call("RuntimeService/RunPodSandbox", request).await?;

        let mut error = None;
        for (position, container) in run.containers.iter().enumerate() {
            let command = match &run.command {
                Some(command) if run.raw => command.split_whitespace().map(str::to_owned).collect(),
                Some(command) => shell(command),
                None if position == 0 => shell("exec httpd -f -p 80 -h /www"),
                None => shell("exec sleep 1000000"),
            };
            let order = Order { name: container, attempt: 0, command, image: &run.image };
            if let Err(failure) = self.start(&sandbox.pod_sandbox_id, &config, order).await {
                error = Some(format!("{container}: {failure}"));
            }
        }
        let mut described = self.describe(&sandbox.pod_sandbox_id).await?;
        if let (Some(error), Some(fields)) = (error, described.as_object_mut()) {
            fields.insert("error".to_owned(), error.into());
        }
        Ok(described)
    }

    async fn start(&self, sandbox: &str, pod: &PodSandboxConfig, order: Order<'_>) -> Outcome<()> {
        let metadata = pod.metadata.clone().unwrap_or_default();
        fs::create_dir_all(self.inside(&pod.log_directory).join(order.name))?;
        let memory = pod.annotations.get(MEMORY).and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        let mut labels = identity(&metadata);
        labels.insert("io.kubernetes.container.name".to_owned(), order.name.to_owned());
        let annotations = HashMap::from([
            ("io.kubernetes.container.restartCount".to_owned(), order.attempt.to_string()),
            (COMMAND.to_owned(), json!(order.command).to_string()),
        ]);
        let namespaces = namespaces(pod);
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: order.name.to_owned(), attempt: order.attempt }),
            image: Some(ImageSpec { image: order.image.to_owned() }),
            command: order.command,
            labels,
            annotations,
            log_path: format!("{}/{}.log", order.name, order.attempt),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    cpu_shares: 2,
                    memory_limit_in_bytes: memory,
                    oom_score_adj: 1000,
                }),
                security_context: Some(LinuxContainerSecurityContext { namespace_options: Some(namespaces) }),
            }),
        };
        let log_path = config.log_path.clone();
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(pod.clone()),
        };
        let made: CreateContainerResponse = self.call("RuntimeService/CreateContainer", request).await?;
        self.link_log(pod, &metadata, order.name, &made.container_id, &log_path)?;
        let request = StartContainerRequest { container_id: made.container_id };
        let _: Nothing = self.call("RuntimeService/StartContainer", request).await?;
        Ok(())
    }

    /// The kubelet's `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`.
    fn link_log(
        &self,
        pod: &PodSandboxConfig,
        metadata: &PodMetadata,
        container: &str,
        id: &str,
        log_path: &str,
    ) -> Outcome<()> {
        let folder = self.inside("/var/log/containers");
        fs::create_dir_all(&folder)?;
        let name = format!("{}_{}_{container}-{id}.log", metadata.name, metadata.namespace);
        std::os::unix::fs::symlink(format!("{}/{log_path}", pod.log_directory), folder.join(name))?;
        Ok(())
    }

    async fn restart(
        &self,
        pod: &str,
        container: Option<String>,
        command: Option<String>,
        image: String,
    ) -> Outcome<Value> {
        let sandbox = self.find(&[pod.to_owned()]).await?.pop().ok_or("no such pod")?;
        let attempts = self.containers(&sandbox.id).await?;
        let last = attempts
            .into_iter()
            .rfind(|c| {
                container.as_ref().is_none_or(|name| c.metadata.as_ref().is_some_and(|m| &m.name == name))
            })
            .ok_or("the pod has no such container")?;
        let metadata = last.metadata.unwrap_or_default();
        let command = match command {
            Some(command) => shell(&command),
            None => serde_json::from_str(last.annotations.get(COMMAND).map_or("[]", String::as_str))?,
        };
        let pod = sandbox.metadata.clone().unwrap_or_default();
        let config = sandbox_config(&pod, sandbox.annotations, &[]);
        let order = Order { name: &metadata.name, attempt: metadata.attempt + 1, command, image: &image };
        self.start(&sandbox.id, &config, order).await?;
        self.describe(&sandbox.id).await
    }

    async fn remove(&self, sandbox: &PodSandbox) -> Outcome<()> {
        let pod_sandbox_id = sandbox.id.clone();
        let request = PodSandboxId { pod_sandbox_id };
        let _: Nothing = self.call("RuntimeService/StopPodSandbox", request.clone()).await?;
        let _: Nothing = self.call("RuntimeService/RemovePodSandbox", request).await?;
        let logs = self.inside(&log_directory(&sandbox.metadata.clone().unwrap_or_default()));
        match fs::remove_dir_all(logs) {
            Err(failure) if failure.kind() != std::io::ErrorKind::NotFound => Err(failure.into()),
            _ => Ok(()),
        }
    }

    /// The sandboxes of the pods named, or all.
    async fn find(&self, pods: &[String]) -> Outcome<Vec<PodSandbox>> {
        let answer: ListPodSandboxResponse =
            self.call("RuntimeService/ListPodSandbox", ListPodSandboxRequest {}).await?;
        if pods.is_empty() {
            return Ok(answer.items);
        }
        let mut found = Vec::new();
        for pod in pods {
            let (namespace, name) = split(pod);
            let fits = |m: &PodMetadata| m.namespace == namespace && m.name == name;
            let before = found.len();
            found.extend(answer.items.iter().filter(|s| s.metadata.as_ref().is_some_and(fits)).cloned());
            if found.len() == before {
                return Err(format!("no pod {namespace}/{name} on this node").into());
            }
        }
        Ok(found)
    }

    /// The oldest first: the runtime lists them in no order.
    async fn containers(&self, sandbox: &str) -> Outcome<Vec<Container>> {
        let filter = ContainerFilter { pod_sandbox_id: sandbox.to_owned() };
        let request = ListContainersRequest { filter: Some(filter) };
        let answer: ListContainersResponse = self.call("RuntimeService/ListContainers", request).await?;
        let mut containers = answer.containers;
        containers.sort_by_key(|c| (c.created_at, c.metadata.clone().unwrap_or_default().attempt));
        Ok(containers)
    }

    /// What a test compares nsprobe's answers with. PIDs are those of the node's PID namespace.
    async fn describe(&self, sandbox: &str) -> Outcome<Value> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned(), verbose: true };
        let answer: PodSandboxStatusResponse = self.call("RuntimeService/PodSandboxStatus", request).await?;
        let status = answer.status.unwrap_or_default();
        let info = parse_info(&answer.info);
        let metadata = status.metadata.unwrap_or_default();
        let network = status.network.unwrap_or_default();
        let ips: Vec<String> = std::iter::once(network.ip)
            .chain(network.additional_ips.into_iter().map(|more| more.ip))
            .filter(|ip| !ip.is_empty())
            .collect();
        let mut containers = Vec::new();
        for container in self.containers(sandbox).await? {
            containers.push(self.describe_container(container).await?);
        }
        let netns = info
            .pointer("/runtimeSpec/linux/namespaces")
            .and_then(Value::as_array)
            .and_then(|all| all.iter().find(|one| one.get("type") == Some(&json!("network"))))
            .and_then(|one| one.get("path"));
        Ok(json!({
            "namespace": metadata.namespace,
            "name": metadata.name,
            "uid": metadata.uid,
            "sandbox_id": status.id,
            "ready": status.state == 0,
            "ips": ips,
            "pid": info.get("pid"),
            "netns": netns,
            "containers": containers,
        }))
    }

    async fn describe_container(&self, container: Container) -> Outcome<Value> {
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: true };
        let answer: ContainerStatusResponse = self.call("RuntimeService/ContainerStatus", request).await?;
        let status = answer.status.unwrap_or_default();
        let metadata = container.metadata.unwrap_or_default();
        let state = match status.state {
            0 => "created",
            1 => "running",
            2 => "exited",
            _ => "unknown",
        };
        Ok(json!({
            "name": metadata.name,
            "attempt": metadata.attempt,
            "id": container.id,
            "state": state,
            "pid": parse_info(&answer.info).get("pid"),
            "exit_code": status.exit_code,
            "reason": status.reason,
            "log_path": status.log_path,
        }))
    }

    /// A path of the node, as this process opens it.
    fn inside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// A container to be made.
struct Order<'a> {
    name: &'a str,
    attempt: u32,
    command: Vec<String>,
    image: &'a str,
}

fn split(pod: &str) -> (&str, &str) {
    pod.split_once('/').unwrap_or(("default", pod))
}

fn shell(command: &str) -> Vec<String> {
    ["/bin/sh", "-c", command].map(str::to_owned).to_vec()
}

/// Verbose answers carry one JSON text under the key `info`.
fn parse_info(info: &HashMap<String, String>) -> Value {
    info.get("info").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
