//! `nsprobe why`: how a pod's containers lived and died.

use super::{Context, Exit, Failure};
use crate::diagnose::runtime::check_runtime;
use crate::diagnose::why::{check_why, is_of_pod};
use crate::facts::{Attempt, ContainerHistory, ContainerState, PodHistory};
use crate::observe::logs::{ContainerLog, LogQuery, PodLogFolder};
use crate::observe::oom::{parse_kills, read_kernel_lines, read_memory, read_pod_memory};
use crate::pods::{FoundHistory, find_history};
use crate::report::{WhyDocument, WhyView, render_why};
use clap::Args;
use std::path::Path;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Lines that are kept of what an attempt wrote last.
const LINES: u64 = 5;
/// The longest of them, in characters.
const MOST_LINE: usize = 300;
/// Pieces that are read of an attempt's last lines.
const MOST_PIECES: usize = 1000;
/// Attempts of one container of which logs are read, the newest.
const MOST_ATTEMPTS: usize = 100;

/// Arguments of `why`.
#[derive(Debug, Args)]
#[command(after_help = "\
For each container and each attempt that is still known: OOM-killed (at its own limit, a child only, for want of the \
node's memory), crashed, ended by a signal, not started, completed, evicted or running; with the exit code in words, the \
kernel's own record, and the last lines that it wrote. Asked are the runtime (its files, when it does not answer), the \
kernel's log (/dev/kmsg, /var/log/kern.log), cgroups and the kubelet's log folders. No API server is needed.

In the picture = is while it ran, then x where it died, . where it completed, > where it runs, ! where a child of it was \
OOM-killed, ? where nobody knows. Exit code 137 without a record of the kernel is called a signal, not an OOM kill.")]
pub(crate) struct WhyArgs {
    /// Whose: [namespace/]pod[:container], an id prefix, a pod IP, pid:N
    #[arg(value_name = "POD")]
    pod: String,
}

/// `nsprobe why`.
pub(super) fn run(args: &WhyArgs, context: &mut Context) -> Result<Exit, Failure> {
    let options = context.pods();
    let root = context.global.host_root.clone();
    let mut found = find_history(&options, &args.pod)?;
    add_logs(&mut found, &root);
    add_memory(&mut found, &root);
    let kernel = read_kernel_lines(&root);
    let mut kills = parse_kills(&kernel.lines);
    kills.retain(|kill| is_of_pod(kill, &found.history));
    let mut history = found.history;
    history.kills = kills;
    (history.kernel_source, history.kernel_unread) = (kernel.source, kernel.unread);
    settle(&mut history, found.container.as_deref());
    let mut findings = check_why(&history);
    findings.extend(found.degraded.iter().map(|d| check_runtime(d, found.endpoint.as_deref())));
    let exit = Exit::of(&findings);
    let document = WhyDocument::new(&history, findings);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let view = WhyView { now_ns: i64::try_from(now).unwrap_or(i64::MAX) };
    context.report("nsprobe.why/v1", &document, |out| render_why(&document, &history, view, out))?;
    Ok(exit)
}

/// Containers by name, attempts from the oldest on; only the container that was named.
fn settle(history: &mut PodHistory, container: Option<&str>) {
    if let Some(name) = container {
        history.containers.retain(|c| c.name == name);
    }
    history.containers.sort_by(|a, b| a.name.cmp(&b.name));
    for container in &mut history.containers {
        container.attempts.sort_by_key(|attempt| (attempt.attempt, attempt.started_ns));
    }
}

/// Attempts of which only a log is left, and the last lines of all.
fn add_logs(found: &mut FoundHistory, root: &Path) {
    let Some(folder) = &found.logs else { return };
    let Ok(pod) = PodLogFolder::open(root, &folder.folder()) else { return };
    let pod = Rc::new(pod);
    for name in pod.containers().unwrap_or_default() {
        let attempts = pod.attempts(&name).unwrap_or_default();
        let containers = &mut found.history.containers;
        let at = containers.iter().position(|c| c.name == name).unwrap_or_else(|| {
            containers.push(ContainerHistory { name: name.clone(), attempts: Vec::new() });
            containers.len() - 1
        });
        let Some(container) = containers.get_mut(at) else { continue };
        for number in attempts.into_iter().rev().take(MOST_ATTEMPTS) {
            let lines = last_lines(&pod, &name, number);
            match container.attempts.iter_mut().rev().find(|a| a.attempt == Some(number)) {
                Some(attempt) => attempt.last_lines = lines,
                None => container.attempts.push(Attempt { last_lines: lines, ..forgotten(number) }),
            }
        }
    }
    found.history.containers.retain(|container| !container.attempts.is_empty());
}

/// An attempt of which nothing but its log is left.
fn forgotten(number: u32) -> Attempt {
    Attempt {
        attempt: Some(number),
        id: None,
        state: ContainerState::Unknown,
        exit_code: None,
        reason: None,
        message: None,
        started_ns: None,
        finished_ns: None,
        memory_limit_bytes: None,
        pid: None,
        memory: None,
        last_lines: Vec::new(),
        source: "/var/log/pods",
    }
}

/// The last lines of an attempt; none where they cannot be read.
fn last_lines(pod: &Rc<PodLogFolder>, container: &str, attempt: u32) -> Vec<String> {
    let query = LogQuery { tail: Some(LINES), ..LogQuery::default() };
    let Ok(mut log) = ContainerLog::open(pod, container, attempt, query) else { return Vec::new() };
    let mut lines: Vec<String> = Vec::new();
    // A container that writes faster than it is read has no last line.
    for _ in 0..MOST_PIECES {
        let Some(piece) = log.next_piece() else { break };
        if piece.starts || lines.is_empty() {
            lines.push(String::new());
            let more = lines.len().saturating_sub(usize::try_from(LINES).unwrap_or(0));
            lines.drain(..more);
        }
        if let Some(line) = lines.last_mut() {
            let room = MOST_LINE.saturating_sub(line.chars().count());
            line.extend(String::from_utf8_lossy(&piece.text).chars().take(room));
        }
    }
    lines
}

/// Memory of what lives, and of the pod's own cgroup.
fn add_memory(found: &mut FoundHistory, root: &Path) {
    let uid = found.history.uid.clone();
    for attempt in found.history.containers.iter_mut().flat_map(|c| &mut c.attempts) {
        let Some(pid) = attempt.pid else { continue };
        let memory = read_memory(root, pid, &uid);
        attempt.memory_limit_bytes =
            attempt.memory_limit_bytes.or_else(|| memory.container.as_ref()?.limit_bytes);
        attempt.memory = memory.container;
        found.history.memory = found.history.memory.take().or(memory.pod);
    }
    for &pid in &found.pids {
        if found.history.memory.is_none() {
            found.history.memory = read_memory(root, pid, &uid).pod;
        }
    }
    if found.history.memory.is_none() {
        found.history.memory = read_pod_memory(root, &uid);
    }
}
