//! SOURCE → a namespace that is open and checked.

use super::cri::Wanted;
use super::disk::Record;
use super::hostfs::HostFs;
use super::matching::{self, Match, close_names, is_live, short};
use super::selector::{PodName, Selector};
use super::survey::Survey;
use super::{ListError, Options};
use crate::facts::{Degraded, Pod, PodState};
use crate::netns::{NetNs, NetNsError, Process, on_threads_that_die, reopen};
use rustix::fs::OFlags;
use std::collections::{BTreeMap, HashSet};
use std::panic::resume_unwind;
use std::path::Path;
use std::thread::ScopedJoinHandle;
use thiserror::Error;

/// A SOURCE that was found: its namespace is open and stays so.
#[derive(Debug)]
pub struct Source {
    /// `default/web-0`, `pid:7`, `netns:/run/netns/x`, `host`: the subject of findings.
    pub label: String,
    /// The pod, when the selector named one or a PID belongs to one.
    pub pod: Option<Pod>,
    /// The container, when the selector named one.
    pub container_id: Option<String>,
    /// A living process in the namespace.
    pub pid: Option<u32>,
    /// Whether the namespace is the node's own.
    pub host_network: bool,
    /// The namespace.
    pub netns: NetNs,
    /// Set when the runtime could not be used to find it.
    pub degraded: Option<Degraded>,
}

/// Why a SOURCE cannot be resolved.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// Nothing has that name, or what has it has ended.
    #[error("{0}")]
    NotFound(String),
    /// Several have it; the message lists them all.
    #[error("{0}")]
    Ambiguous(String),
    /// The namespace cannot be opened.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// The pods cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
}

/// Finds SOURCE and opens its network namespace.
///
/// # Errors
/// [`ResolveError`]; a selector never silently picks one of several.
pub fn resolve(options: &Options, selector: &str) -> Result<Source, ResolveError> {
    let parsed = Selector::parse(selector).map_err(ResolveError::NotFound)?;
    let fs = options.open()?;
    match &parsed {
        Selector::Host => {
            let netns = NetNs::open(&fs.proc_root().join("1/ns/net"))?;
            Ok(plain(selector.to_owned(), netns, Some(1), true))
        }
        Selector::NetNs(path) => by_path(options, &fs, path),
        Selector::Pid(pid) => by_pid(&fs, *pid),
        _ => by_pod(options, &fs, selector, &parsed),
    }
}

/// A namespace and what was read in it.
pub type Opened<T> = Result<(NetNs, T), ResolveError>;

/// The network namespace of every live pod of this node, open, or the reason why not.
#[derive(Debug)]
pub struct AllSources<T> {
    /// By namespace and name.
    pub sources: Vec<(String, Opened<T>)>,
    /// When each pod was made, RFC 3339, by namespace and name; the newest sandbox of a name.
    pub created: BTreeMap<String, Option<String>>,
    /// The runtime endpoint that was used or tried.
    pub endpoint: Option<String>,
    /// The process that answered there, as the node numbers it.
    pub runtime_pid: Option<u32>,
    /// Set when the runtime could not be used.
    pub degraded: Option<Degraded>,
}

/// Lists the pods once, opens the namespace of each that lives, and does `work` there and then, on a thread that
/// may enter it because it dies afterwards: opening and reading hinder each other less when they alternate.
///
/// # Errors
/// [`ListError`], or that no thread can be started; what hinders a single pod stands beside its name.
pub fn resolve_all<T: Send>(
    options: &Options,
    work: impl Fn(&NetNs) -> T + Sync,
) -> Result<AllSources<T>, ResolveError> {
    let fs = options.open()?;
    let mut survey = Survey::start_for(&fs, options, Wanted::Sandboxes)?;
    let pods = survey.pods()?;
    let mut created: BTreeMap<String, Option<String>> = BTreeMap::new();
    for pod in &pods {
        let newest = created.entry(pod.full_name()).or_default();
        *newest = newest.take().max(pod.created_at.clone());
    }
    let with_work = |netns: NetNs| {
        let result = work(&netns);
        (netns, result)
    };
    let open = |_, pods: &[Pod]| pods.iter().map(|pod| survey.open_sandbox(pod).map(with_work)).collect();
    // Of a pod that is not ready, containers may run on; they are listed while the others are read.
    let ended = pods.iter().any(|pod| pod.state != PodState::Ready);
    let (opened, mut containers) = std::thread::scope(|scope| {
        let asked = ended.then(|| scope.spawn(|| survey.containers()));
        let opened = on_threads_that_die(&pods, open);
        let join = |thread: ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|p| resume_unwind(p));
        (opened, asked.map(join))
    });
    let opened = opened.map_err(NetNsError::Thread)?;
    let mut sources = Vec::new();
    let mut found = HashSet::new();
    let mut rest = Vec::new();
    for (pod, netns) in pods.into_iter().zip(opened) {
        match netns {
            Some(opened) => {
                sources.push((pod.full_name(), Ok(opened)));
                found.insert(pod.sandbox_id);
            }
            None => rest.push(pod),
        }
    }
    // Those that take more than one look.
    if !rest.is_empty() {
        let containers = containers.take().unwrap_or_else(|| survey.containers());
        if !survey.add_containers(&mut rest, containers) {
            rest = survey.pods()?;
            rest.retain(|pod| !found.contains(&pod.sandbox_id));
        }
    }
    survey.fill(&mut rest.iter_mut().collect::<Vec<_>>());
    rest.retain(is_live);
    let open = |_, pods: &[Pod]| {
        let open = |pod: &Pod| open_pod(&survey, pod.clone(), None).map(|source| with_work(source.netns));
        pods.iter().map(|pod| (pod.full_name(), open(pod))).collect()
    };
    sources.extend(on_threads_that_die(&rest, open).map_err(NetNsError::Thread)?);
    sources.sort_by(|(a, _), (b, _)| a.cmp(b));
    let runtime_pid = survey.runtime_pid();
    let list = survey.list(Vec::new());
    Ok(AllSources { sources, created, endpoint: list.endpoint, runtime_pid, degraded: list.degraded })
}

fn plain(label: String, netns: NetNs, pid: Option<u32>, host_network: bool) -> Source {
    Source { label, pod: None, container_id: None, pid, host_network, netns, degraded: None }
}

fn is_the_nodes(fs: &HostFs, netns: &NetNs) -> bool {
    super::proc::Proc::new(fs.proc_root()).netns_inode(1) == Some(netns.inode())
}

fn by_path(options: &Options, fs: &HostFs, path: &Path) -> Result<Source, ResolveError> {
    let label = format!("netns:{}", path.display());
    let direct = options.host_root == Path::new("/") || path.starts_with("/proc") || path.is_relative();
    let netns = if direct {
        NetNs::open(&if path.is_relative() { path.to_owned() } else { options.host_path(path) })?
    } else {
        // Mounted after a debug container began, it is visible only to the node's first process.
        match path.to_str().and_then(|text| Survey::offline(fs).namespace_handle(text)) {
            Some(handle) => open_handle(&handle, path)?,
            None => NetNs::open(&options.host_path(path))?,
        }
    };
    let host_network = is_the_nodes(fs, &netns);
    Ok(plain(label, netns, None, host_network))
}

fn open_handle(handle: &std::os::fd::OwnedFd, path: &Path) -> Result<NetNs, NetNsError> {
    let file = reopen(handle, OFlags::RDONLY)
        .map_err(|source| NetNsError::Open { path: path.to_owned(), source })?;
    NetNs::from_file(file, path)
}

/// A process; what pod it belongs to is told by its cgroup and the disk, without the runtime.
fn by_pid(fs: &HostFs, pid: u32) -> Result<Source, ResolveError> {
    let process = Process::open(&fs.proc_root(), pid, None).map_err(NetNsError::from)?;
    let netns = process.open_netns()?;
    let survey = Survey::offline(fs);
    let owner = survey.proc.owner(pid);
    let record = owner.container.as_deref().and_then(|id| survey.disk.record(id));
    let pod = record.as_ref().map(|record| pod_of(&survey, record)).or_else(|| {
        let uid = owner.pod_uid.as_deref()?;
        let (namespace, name) = survey.disk.logs().pod(uid)?;
        let named = Record {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: uid.to_owned(),
            ..Record::default()
        };
        Some(pod_of(&survey, &named))
    });
    let host_network = is_the_nodes(fs, &netns);
    let mut source = plain(format!("pid:{pid}"), netns, Some(pid), host_network);
    source.pod = pod.map(|mut pod| {
        pod.pid = Some(pid);
        pod.netns_inode = Some(source.netns.inode());
        pod.host_network = Some(host_network);
        pod
    });
    source.container_id = record.filter(|record| !record.is_sandbox()).map(|record| record.id);
    Ok(source)
}

/// The pod of a record, as far as files tell it.
fn pod_of(survey: &Survey<'_>, record: &Record) -> Pod {
    let network = survey.disk.networks().of(&record.sandbox_id);
    Pod {
        namespace: record.namespace.clone(),
        name: record.name.clone(),
        uid: record.uid.clone(),
        sandbox_id: record.sandbox_id.clone(),
        state: PodState::Unknown,
        restarts: None,
        host_network: record.host_network,
        ips: network.map(|n| n.ips.clone()).unwrap_or_default(),
        pid: None,
        netns: network.and_then(|n| n.netns.clone()),
        netns_inode: None,
        created_at: None,
        containers: Vec::new(),
    }
}

fn by_pod(options: &Options, fs: &HostFs, text: &str, selector: &Selector) -> Result<Source, ResolveError> {
    let mut survey = Survey::start(fs, options)?;
    let mut pods = survey.pods()?;
    if matches!(selector, Selector::Ip(_)) {
        survey.fill(&mut pods.iter_mut().collect::<Vec<_>>());
    } else {
        let found = matching::matches(&pods, selector);
        let mut wanted: Vec<usize> = found.iter().map(|m| m.pod).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut chosen: Vec<&mut Pod> = pods
            .iter_mut()
            .enumerate()
            .filter(|(at, _)| wanted.binary_search(at).is_ok())
            .map(|(_, pod)| pod)
            .collect();
        survey.fill(&mut chosen);
    }
    let found = matching::matches(&pods, selector);
    let one =
        matching::only(&pods, &found).map_err(|list| ResolveError::Ambiguous(format!("{text} {list}")))?;
    let Some(Match { pod: at, container }) = one else {
        return Err(not_found(&pods, text, survey.degraded.as_ref()));
    };
    if at >= pods.len() {
        return Err(not_found(&pods, text, survey.degraded.as_ref()));
    }
    let pod = pods.swap_remove(at);
    open_pod(&survey, pod, container)
}

fn open_pod(survey: &Survey<'_>, pod: Pod, container: Option<usize>) -> Result<Source, ResolveError> {
    let label = pod.full_name();
    if !is_live(&pod) && pod.netns_inode.is_none() {
        return Err(ResolveError::NotFound(format!(
            "pod {label} has ended: its sandbox {} is not ready, no process of it is left and its network namespace is gone",
            short(&pod.sandbox_id)
        )));
    }
    let container = container.and_then(|at| pod.containers.get(at));
    let container_id = container.map(|c| c.id.clone());
    // The container that was named, the sandbox's own process, then any other of the pod.
    let named = container.and_then(|c| Some((c.pid?, c.id.clone())));
    let others = pod.containers.iter().filter_map(|c| Some((c.pid?, c.id.clone())));
    let sandbox = pod
        .pid
        .filter(|pid| !pod.containers.iter().any(|c| c.pid == Some(*pid)))
        .map(|pid| (pid, pod.sandbox_id.clone()));
    let mut last = None;
    for (pid, id) in named.into_iter().chain(sandbox).chain(others) {
        // Pinned and checked to be the one that is meant, its namespace opened, checked again.
        let process = survey.confirm(&pod, &id, pid).map_err(NetNsError::from);
        match process.and_then(|process| process.open_netns()) {
            Ok(netns) => {
                let host_network = survey.is_the_nodes(&netns);
                return Ok(Source {
                    label,
                    container_id,
                    pid: Some(pid),
                    host_network,
                    netns,
                    degraded: survey.degraded.clone(),
                    pod: Some(pod),
                });
            }
            Err(error) if error.is_permission() => return Err(error.into()),
            Err(error) => last = Some(error),
        }
    }
    let netns = open_without_process(survey, &pod, last)?;
    let host_network = survey.is_the_nodes(&netns);
    Ok(Source {
        label,
        container_id,
        pid: None,
        host_network,
        netns,
        degraded: survey.degraded.clone(),
        pod: Some(pod),
    })
}

fn open_without_process(
    survey: &Survey<'_>,
    pod: &Pod,
    last: Option<NetNsError>,
) -> Result<NetNs, ResolveError> {
    if pod.host_network == Some(true) {
        return Ok(NetNs::open(&survey.proc.root().join("1/ns/net"))?);
    }
    if let Some(path) = &pod.netns
        && let Some(handle) = survey.namespace_handle(path)
    {
        return Ok(open_handle(&handle, Path::new(path))?);
    }
    match last {
        Some(error) => Err(error.into()),
        None => Err(ResolveError::NotFound(format!(
            "the network namespace of pod {} cannot be reached: no process of it is known and {}",
            pod.full_name(),
            pod.netns.as_ref().map_or_else(
                || "nothing names the namespace's path".to_owned(),
                |path| format!("{path} is not mounted here")
            )
        ))),
    }
}

/// `no pod …`, with close names and with what the list was read from when that was not the runtime.
pub(super) fn not_found(pods: &[Pod], text: &str, degraded: Option<&Degraded>) -> ResolveError {
    let near = close_names(pods, text);
    let mut message = match Selector::parse(text) {
        Ok(Selector::Ip(ip)) => format!("no pod of this node has the IP {ip} (the node itself is `host`)"),
        _ => format!("no pod {text} on this node"),
    };
    if let Some(other) = without_container(pods, text) {
        message = other;
    } else if !near.is_empty() {
        message.push_str(&format!("; close: {}", near.join(", ")));
    }
    if let Some(degraded) = degraded {
        message.push_str(&format!(" (read from disk: {})", degraded.detail));
    }
    ResolveError::NotFound(message)
}

/// When the pod is there and only its container is not.
fn without_container(pods: &[Pod], text: &str) -> Option<String> {
    let name = match Selector::parse(text).ok()? {
        Selector::Pod(name) | Selector::PodOrId(name, _) => name,
        _ => return None,
    };
    let container = name.container.clone()?;
    let pod = Selector::Pod(PodName { container: None, ..name });
    let found = matching::matches(pods, &pod);
    let pod = pods.get(found.iter().find(|m| pods.get(m.pod).is_some_and(is_live))?.pod)?;
    let mut names: Vec<&str> = pod.containers.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    Some(format!("pod {} has no container {container}; it has: {}", pod.full_name(), names.join(", ")))
}
