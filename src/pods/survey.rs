//! The pods of this node: from the runtime, and from disk and /proc for what it does not say or says slowly.

use super::cri::messages::{self as m, ContainerStatusResponse};
use super::cri::{self, CallError, Fault, Lists, Runtime, Wanted};
use super::disk::{Disk, Record};
use super::endpoint;
use super::hostfs::HostFs;
use super::proc::{Expected, Proc, Scan};
use super::questions::{Answers, Questions};
use super::{ListError, Options, assemble};
use crate::facts::{
    CallTime, Container, ContainerState, Degraded, ListSource, PidSource, Pod, PodList, PodState,
    RuntimeWord, milliseconds,
};
use crate::netns::{NetNs, Process, ProcessError};
use rustix::fs::{OFlags, fstat, fstatfs};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// `NSFS_MAGIC`: what namespace files live on.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// How long a runtime is waited for that may not be the one to ask.
const GUESS: Duration = Duration::from_millis(100);

/// One look at the node. Ask for the names first, then for the details of the pods that matter.
pub(super) struct Survey<'a> {
    pub(super) fs: &'a HostFs,
    pub(super) proc: Proc,
    pub(super) disk: Disk<'a>,
    runtime: Option<Runtime>,
    /// What the runtime has said already.
    lists: Option<Lists>,
    pub(super) endpoint: Option<String>,
    source: ListSource,
    pub(super) degraded: Option<Degraded>,
    records: HashMap<String, Record>,
    scan: OnceLock<Scan>,
    host_inode: Option<u64>,
}

impl<'a> Survey<'a> {
    /// A look without the runtime.
    pub(super) fn offline(fs: &'a HostFs) -> Self {
        let proc = Proc::new(fs.proc_root());
        let host_inode = proc.netns_inode(1);
        Self {
            fs,
            proc,
            disk: Disk::new(fs),
            runtime: None,
            lists: None,
            endpoint: None,
            source: ListSource::Disk,
            degraded: None,
            records: HashMap::new(),
            scan: OnceLock::new(),
            host_inode,
        }
    }

    /// Connects to the runtime, when it answers.
    pub(super) fn start(fs: &'a HostFs, options: &Options) -> Result<Self, ListError> {
        Self::start_for(fs, options, Wanted::All)
    }

    /// The same for what is wanted; [`Survey::containers`] asks for the rest.
    pub(super) fn start_for(fs: &'a HostFs, options: &Options, wanted: Wanted) -> Result<Self, ListError> {
        let mut survey = Self::offline(fs);
        let environment = std::env::var("CONTAINER_RUNTIME_ENDPOINT").ok();
        let (option, environment) = (options.endpoint.as_deref(), environment.as_deref());
        let mut guess = None;
        let endpoints = endpoint::find(fs, &survey.proc, option, environment, |known| {
            let answer = cri::connect(fs, known, wanted, GUESS.min(options.timeout)).ok();
            guess = answer.map(|(runtime, lists)| (known.clone(), runtime, lists));
            guess.is_some()
        });
        let answer = match guess {
            Some((known, mut runtime, lists)) if known == endpoints => {
                runtime.extend(options.timeout);
                Ok((runtime, lists))
            }
            _ => cri::connect(fs, &endpoints, wanted, options.timeout),
        };
        match answer {
            Ok((runtime, lists)) => {
                survey.endpoint = Some(runtime.endpoint.clone());
                (survey.runtime, survey.lists) = (Some(runtime), Some(lists));
            }
            Err(Fault::Denied(path)) => return Err(ListError::Denied { path }),
            Err(Fault::Degraded(degraded, endpoint)) => {
                survey.degraded = Some(degraded);
                survey.endpoint = endpoint;
            }
        }
        Ok(survey)
    }

    /// Every pod of the node, dead ones too. The runtime gives names and states only; from disk comes all.
    pub(super) fn pods(&mut self) -> Result<Vec<Pod>, ListError> {
        if let Some(runtime) = &self.runtime {
            match self.lists.take().map_or_else(|| runtime.lists(), Ok) {
                Ok((sandboxes, containers)) => {
                    self.source = ListSource::Cri;
                    return Ok(assemble::from_lists(sandboxes, containers));
                }
                Err(error) => self.lose_runtime(&error),
            }
        }
        let mut records = self.disk.all();
        if self.disk_may_miss(&records) {
            let folders = self.scan().bundle_folders.clone();
            self.disk.add_bundle_folders(&folders);
            records = self.disk.all();
        }
        if records.is_empty()
            && let Some(path) = self.fs.denied()
        {
            return Err(ListError::Denied { path });
        }
        let mut pods = assemble::from_records(&records, self.disk.logs());
        assemble::add_from_scan(&mut pods, self.scan(), self.disk.logs());
        self.records = records.into_iter().map(|record| (record.id.clone(), record)).collect();
        Ok(pods)
    }

    /// Every container that the runtime has; `None` without one.
    pub(super) fn containers(&self) -> Option<Result<Vec<m::Container>, CallError>> {
        self.runtime.as_ref().map(Runtime::containers)
    }

    /// Gives pods that were listed without their containers what the runtime said of those; false when it did not say it,
    /// so that they have to be listed again, from disk.
    pub(super) fn add_containers(
        &mut self,
        pods: &mut [Pod],
        containers: Option<Result<Vec<m::Container>, CallError>>,
    ) -> bool {
        match containers {
            Some(Ok(containers)) => assemble::add_containers(pods, containers),
            Some(Err(error)) => {
                self.lose_runtime(&error);
                return false;
            }
            None => {}
        }
        true
    }

    /// The live pods with the addresses that the runtime tells of: no file is read, no process looked for.
    /// Empty when it does not answer.
    pub(super) fn told(&mut self) -> Vec<Pod> {
        let Some(runtime) = &self.runtime else { return Vec::new() };
        let Some((sandboxes, containers)) = self.lists.take().or_else(|| runtime.lists().ok()) else {
            return Vec::new();
        };
        let mut pods = assemble::from_lists(sandboxes, containers);
        pods.retain(super::is_live);
        let ready = pods.iter().map(|pod| pod.sandbox_id.clone()).collect();
        let answers = Questions { ready, ended: Vec::new() }.ask(runtime);
        for pod in &mut pods {
            Self::fill_from_runtime(pod, &answers);
        }
        pods
    }

    /// How long the runtime takes to list everything, and to tell of one sandbox. Empty when there is none.
    pub(super) fn time_calls(&mut self) -> Vec<CallTime> {
        let Some(runtime) = &self.runtime else { return Vec::new() };
        let start = Instant::now();
        let (sandboxes, _) = match runtime.lists() {
            Ok(lists) => lists,
            Err(error) => {
                self.lose_runtime(&error);
                return Vec::new();
            }
        };
        let mut calls =
            vec![CallTime { call: "ListPodSandbox and ListContainers", ms: milliseconds(start.elapsed()) }];
        if let Some(sandbox) = sandboxes.into_iter().next() {
            let start = Instant::now();
            let (_, error) = runtime.sandbox_statuses(vec![sandbox.id], false);
            match error {
                Some(error) => self.lose_runtime(&error),
                None => calls.push(CallTime { call: "PodSandboxStatus", ms: milliseconds(start.elapsed()) }),
            }
        }
        calls
    }

    /// The process that answers as the runtime, where its number means the same in the node's /proc.
    pub(super) fn runtime_pid(&self) -> Option<u32> {
        self.runtime.as_ref()?.pid.filter(|_| self.proc.root() == Path::new("/proc"))
    }

    /// What the runtime says of itself.
    pub(super) fn word(&self) -> Option<RuntimeWord> {
        self.runtime.as_ref()?.word()
    }

    /// A shim whose sandbox no file told of: its bundles are somewhere else.
    fn disk_may_miss(&self, records: &[Record]) -> bool {
        let scan = self.scan();
        !scan.bundle_folders.is_empty()
            && !scan.containers.keys().any(|id| records.iter().any(|r| &r.id == id))
    }

    fn lose_runtime(&mut self, error: &CallError) {
        if let Some(runtime) = self.runtime.take() {
            self.degraded = Some(runtime.degraded(error));
        }
    }

    fn scan(&self) -> &Scan {
        self.scan.get_or_init(|| self.proc.scan())
    }

    /// Adds addresses, PIDs, namespaces, exit codes to the pods that matter. The disk is read while the runtime
    /// thinks.
    pub(super) fn fill(&mut self, pods: &mut [&mut Pod]) {
        if pods.is_empty() {
            return;
        }
        let questions = Questions::about(pods);
        let answers = std::thread::scope(|scope| {
            let asked = self.runtime.as_ref().map(|runtime| scope.spawn(move || questions.ask(runtime)));
            for pod in pods.iter_mut() {
                self.fill_from_disk(pod);
            }
            asked.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let answers = answers.unwrap_or_default();
        for pod in pods.iter_mut() {
            let told = Self::fill_from_runtime(pod, &answers);
            self.fill_from_cni(pod, told);
        }
        if let Some(error) = answers.error {
            self.lose_runtime(&error);
        }
        if pods.iter().any(|pod| lacks_pid(pod)) {
            for pod in pods.iter_mut() {
                self.fill_from_proc(pod);
            }
        }
        self.fill_from_verbose(pods);
        for pod in pods.iter_mut() {
            self.finish(pod);
        }
    }

    /// Addresses and network mode of a live sandbox, and how containers ended; whether the mode was told.
    fn fill_from_runtime(pod: &mut Pod, answers: &Answers) -> bool {
        for container in &mut pod.containers {
            if let Some(status) = answers.exits.get(&container.id).and_then(|answer| answer.status.as_ref()) {
                container.exit_code = (status.finished_at > 0).then_some(status.exit_code);
                container.reason = Some(status.reason.clone()).filter(|reason| !reason.is_empty());
            }
        }
        let status = answers.sandboxes.get(&pod.sandbox_id).and_then(|answer| answer.status.as_ref());
        let Some(status) = status else { return false };
        let network = status.network.iter();
        pod.ips = network
            .flat_map(|n| std::iter::once(&n.ip).chain(n.additional_ips.iter().map(|more| &more.ip)))
            .filter_map(|ip| ip.parse().ok())
            .collect();
        let options = status.linux.as_ref().and_then(|l| l.namespaces.as_ref()?.options.as_ref());
        let told = options.map(|o| o.network == 2);
        pod.host_network = told.or(pod.host_network);
        told.is_some()
    }

    fn fill_from_disk(&self, pod: &mut Pod) {
        let from_cri = self.source == ListSource::Cri;
        let dead = from_cri && !super::is_live(pod);
        let record = match self.records.get(&pod.sandbox_id) {
            Some(record) => Some(record.clone()),
            None if dead => None,
            None => self.disk.record(&pod.sandbox_id),
        };
        if let Some(record) = record.filter(Record::is_sandbox) {
            pod.host_network = pod.host_network.or(record.host_network);
            pod.netns = pod.netns.take().or(record.netns);
            pod.created_at = pod.created_at.take().or(record.created_at);
            if let Some(claim) = record.claim
                && self.confirm(pod, &pod.sandbox_id, claim.pid).is_ok()
            {
                pod.pid = Some(claim.pid);
            }
            if !from_cri {
                let ended =
                    record.ended || (record.claim.is_some() && pod.pid.is_none() && self.proc.is_there());
                pod.state = if ended { PodState::NotReady } else { PodState::Ready };
                pod.ips = if record.ips.is_empty() { std::mem::take(&mut pod.ips) } else { record.ips };
            }
        }
        for index in 0..pod.containers.len() {
            let Some(container) = pod.containers.get(index) else { continue };
            if container.state == ContainerState::Exited || container.state == ContainerState::Created {
                continue;
            }
            let id = container.id.clone();
            let claim = match self.records.get(&id) {
                Some(record) => record.claim,
                None => self.disk.claim(&id),
            };
            let alive = claim.filter(|claim| self.confirm(pod, &id, claim.pid).is_ok());
            let Some(container) = pod.containers.get_mut(index) else { continue };
            if let Some(claim) = alive {
                container.pid = Some(claim.pid);
                container.pid_source = Some(PidSource::Disk);
                container.state = ContainerState::Running;
            } else if !from_cri && claim.is_some() && self.proc.is_there() {
                // The file is stale: nobody was there to take it away.
                container.state = ContainerState::Exited;
            }
        }
    }

    /// Pins a PID if it is that container's; the disk is asked for the start time only when the cgroup does not
    /// decide.
    pub(super) fn confirm(&self, pod: &Pod, id: &str, pid: u32) -> Result<Process, ProcessError> {
        let start = self.records.get(id).and_then(|record| record.claim?.start);
        self.proc.confirm(pid, Expected { id, uid: &pod.uid, start }, || self.disk.start(id))
    }

    /// The network namespace of a ready sandbox, through the PID that one small file names: what most pods of a
    /// healthy node need, and nothing more.
    pub(super) fn open_sandbox(&self, pod: &Pod) -> Option<NetNs> {
        if self.source != ListSource::Cri || pod.state != PodState::Ready {
            return None;
        }
        let claim = self.disk.claim(&pod.sandbox_id)?;
        self.confirm(pod, &pod.sandbox_id, claim.pid).ok()?.open_netns().ok()
    }

    /// What CNI remembers, where neither the runtime's status nor its files told.
    fn fill_from_cni(&self, pod: &mut Pod, told: bool) {
        let known = told && (pod.netns.is_some() || pod.host_network == Some(true));
        if self.source == ListSource::Cri && (known || !super::is_live(pod)) {
            return;
        }
        let network = self.disk.networks().of(&pod.sandbox_id);
        if pod.ips.is_empty() {
            pod.ips = network.map(|n| n.ips.clone()).unwrap_or_default();
        }
        pod.netns = pod.netns.take().or_else(|| network.and_then(|n| n.netns.clone()));
    }

    /// The first process in each container's cgroup, where no file named it.
    fn fill_from_proc(&self, pod: &mut Pod) {
        if !lacks_pid(pod) {
            return;
        }
        let scan = self.scan();
        for container in &mut pod.containers {
            let unsure = matches!(container.state, ContainerState::Running | ContainerState::Unknown);
            if let Some(&pid) = scan.containers.get(&container.id)
                && container.pid.is_none()
                && unsure
            {
                container.pid = Some(pid);
                container.pid_source = Some(PidSource::Proc);
                container.state = ContainerState::Running;
            }
        }
        if pod.pid.is_none() {
            pod.pid = scan.containers.get(&pod.sandbox_id).copied();
        }
    }

    /// The runtime's own word, verbose and slow, only where disk and /proc were silent.
    fn fill_from_verbose(&mut self, pods: &mut [&mut Pod]) {
        let Some(runtime) = &self.runtime else { return };
        let silent = |pod: &&&mut Pod| {
            pod.state == PodState::Ready
                && pod.netns.is_none()
                && pod.host_network != Some(true)
                && pod.pid.is_none()
        };
        let sandboxes: Vec<String> = pods.iter().filter(silent).map(|pod| pod.sandbox_id.clone()).collect();
        let containers: Vec<String> = pods
            .iter()
            .flat_map(|pod| &pod.containers)
            .filter(|c| c.state == ContainerState::Running && c.pid.is_none())
            .map(|c| c.id.clone())
            .collect();
        if sandboxes.is_empty() && containers.is_empty() {
            return;
        }
        let (sandboxes, late) = runtime.sandbox_statuses(sandboxes, true);
        let (containers, later) = runtime.container_statuses(containers, true);
        if let Some(error) = late.or(later) {
            self.lose_runtime(&error);
        }
        for pod in pods.iter_mut() {
            if let Some(answer) = sandboxes.get(&pod.sandbox_id) {
                let info = cri::verbose_info(&answer.info);
                pod.netns = pod.netns.take().or(info.netns);
                if pod.pid.is_none() {
                    pod.pid = info.pid.filter(|&pid| self.confirm(pod, &pod.sandbox_id, pid).is_ok());
                }
            }
            for index in 0..pod.containers.len() {
                let Some(id) = pod.containers.get(index).map(|c| c.id.clone()) else { continue };
                let Some(answer) = containers.get(&id) else { continue };
                let pid = cri::verbose_info(&answer.info).pid;
                let pid = pid.filter(|&pid| self.confirm(pod, &id, pid).is_ok());
                if let Some(container) = pod.containers.get_mut(index) {
                    container.pid = pid;
                    container.pid_source = pid.map(|_| PidSource::Cri);
                }
            }
        }
    }

    fn finish(&self, pod: &mut Pod) {
        let running = pod.containers.iter().find_map(|c| c.pid);
        pod.pid = pod.pid.or(running);
        let inode = pod.pid.and_then(|pid| self.proc.netns_inode(pid));
        if let (Some(inode), Some(host)) = (inode, self.host_inode) {
            pod.host_network = Some(inode == host);
        }
        if pod.host_network == Some(true) {
            pod.netns = None;
            pod.ips.clear();
            pod.netns_inode = inode.or(self.host_inode);
        } else {
            pod.netns_inode = inode.or_else(|| {
                let handle = self.namespace_handle(pod.netns.as_deref()?)?;
                Some(fstat(&handle).ok()?.st_ino)
            });
        }
        if pod.state == PodState::NotReady && pod.pid.is_none() && pod.netns_inode.is_none() {
            // Nothing of it is left: what remains on disk is a leftover, not its address.
            pod.netns = None;
        }
        if self.source == ListSource::Disk && self.proc.is_there() {
            let unsure = pod.containers.iter_mut().filter(|c| c.state == ContainerState::Unknown);
            // It has no process and has not ended.
            unsure.for_each(|container| container.state = ContainerState::Created);
        }
        let logs = (self.source == ListSource::Disk).then(|| self.disk.logs());
        assemble::count_restarts(pod, logs);
    }

    /// The runtime's word on containers, by id; empty when it does not answer.
    pub(super) fn container_words(&mut self, ids: Vec<String>) -> HashMap<String, ContainerStatusResponse> {
        let Some(runtime) = &self.runtime else { return HashMap::new() };
        let (words, error) = runtime.container_statuses(ids, false);
        if let Some(error) = error {
            self.lose_runtime(&error);
        }
        words
    }

    /// What the files say of a container.
    pub(super) fn record_of(&self, id: &str) -> Option<Record> {
        self.records.get(id).cloned().or_else(|| self.disk.ending(id))
    }

    /// Whether a namespace is the node's own.
    pub(super) fn is_the_nodes(&self, netns: &NetNs) -> bool {
        self.host_inode == Some(netns.inode())
    }

    /// A namespace's bind mount, in this mount namespace or in that of the node's first process.
    pub(super) fn namespace_handle(&self, path: &str) -> Option<OwnedFd> {
        let is_namespace = |fd: &OwnedFd| fstatfs(fd).is_ok_and(|s| s.f_type == NSFS_MAGIC);
        self.fs.open_flags(path, OFlags::PATH).ok().filter(is_namespace).or_else(|| {
            let root = std::fs::File::open(self.proc.root().join("1/root")).ok()?;
            let handle = crate::netns::open_in_root(root.as_fd(), Path::new(path), OFlags::PATH).ok()?;
            Some(handle).filter(is_namespace)
        })
    }

    /// What was found, by namespace and name.
    pub(super) fn list(self, mut pods: Vec<Pod>) -> PodList {
        pods.sort_by(|a, b| {
            (&a.namespace, &a.name, &a.created_at, &a.sandbox_id).cmp(&(
                &b.namespace,
                &b.name,
                &b.created_at,
                &b.sandbox_id,
            ))
        });
        PodList { source: self.source, endpoint: self.endpoint, degraded: self.degraded, pods }
    }
}

fn lacks_pid(pod: &Pod) -> bool {
    let container_lacks = |c: &Container| {
        matches!(c.state, ContainerState::Running | ContainerState::Unknown) && c.pid.is_none()
    };
    pod.containers.iter().any(container_lacks)
        || (pod.state == PodState::Ready
            && pod.pid.is_none()
            && !pod.containers.iter().any(|c| c.pid.is_some()))
}
