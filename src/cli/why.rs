//! `nsprobe why`: how a pod's containers lived and died.

use super::{Context, Exit, Failure};
use crate::diagnose::runtime::check_runtime;
use crate::diagnose::why::{check_why, is_of_pod, parse_kubelet};
use crate::facts::{Attempt, ContainerHistory, ContainerState, NodeLogEntry, PodHistory, rfc3339};
use crate::observe::journal::{NodeLogQuery, read_kernel_buffer, read_node_log};
use crate::observe::logs::{ContainerLog, LogQuery, PodLogFolder};
use crate::observe::oom::{KernelLine, parse_kills, read_container_memory, read_memory, read_pod_memory};
use crate::pods::{FoundHistory, find_history};
use crate::report::{WhyDocument, WhyView, render_why};
use clap::Args;
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Lines that are kept of what an attempt wrote last.
const LINES: u64 = 5;
/// The longest of them, in characters.
const MOST_LINE: usize = 300;
/// Pieces that are read of an attempt's last lines.
const MOST_PIECES: usize = 1000;
/// Lines of the node's log that are looked at, the newest.
const MOST_LOG: usize = 500_000;
/// How long before the first end that is known the log is read: of attempts that are gone the kernel may know.
const BEFORE_S: i64 = 3600;
/// The same before now where nothing has ended.
const DAY_S: i64 = 86_400;
/// Attempts of one container of which logs are read, the newest.
const MOST_ATTEMPTS: usize = 100;

/// Arguments of `why`.
#[derive(Debug, Args)]
#[command(after_help = "\
For each container and each attempt that is still known: OOM-killed (at its own limit, a child only, for want of the \
node's memory), crashed, ended by a signal, not started, completed, evicted or running; with the exit code in words, the \
kernel's own record, and the last lines that it wrote. Asked are the runtime (its files, when it does not answer), the \
logs of kernel and kubelet (journal files or /var/log, /dev/kmsg), cgroups and the kubelet's log folders. No API server is needed.

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
    let mut history = found.history;
    add_node_log(&mut history, &root);
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

/// Attempts that ended, and when, nanoseconds since 1970. Of those that ended with 0 only what was started again, or
/// ended with all the pod: an init container that did its work in spring needs no log of spring.
fn ends_to_explain(history: &PodHistory) -> impl Iterator<Item = (&Attempt, i64)> {
    const TOGETHER_NS: i64 = 600 * 1_000_000_000;
    let all = || history.containers.iter().flat_map(|c| &c.attempts);
    let runs = all().any(|attempt| attempt.state == ContainerState::Running);
    let last = all().filter_map(|attempt| attempt.finished_ns).max().filter(|_| !runs);
    history.containers.iter().flat_map(move |container| {
        let newest = container.attempts.iter().filter_map(|attempt| attempt.attempt).max();
        container.attempts.iter().filter_map(move |attempt| {
            let end = attempt.finished_ns?;
            let with_all = last.is_some_and(|last| end >= last - TOGETHER_NS);
            (attempt.exit_code != Some(0) || attempt.attempt < newest || with_all).then_some((attempt, end))
        })
    })
}

/// What kernel and kubelet logged: the journal or syslog's files, and the kernel's buffer in any case.
fn add_node_log(history: &mut PodHistory, root: &Path) {
    let seconds = |ns: i64| ns.div_euclid(1_000_000_000);
    let first_end = ends_to_explain(history).map(|(_, end)| seconds(end)).min();
    let killed = |(a, end): (&Attempt, i64)| (a.exit_code.is_none_or(|code| code == 137)).then_some(end);
    let first_kill = ends_to_explain(history).filter_map(killed).map(seconds).min();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    // One that lives on while runtime or cgroup tell of a kill: at any time since it was started.
    let told = |a: &&Attempt| {
        let counted = a.memory.as_ref().and_then(|memory| memory.oom_kills).is_some_and(|kills| kills > 0);
        a.state == ContainerState::Running && (counted || a.reason.as_deref() == Some("OOMKilled"))
    };
    let attempts = history.containers.iter().flat_map(|c| &c.attempts);
    let began =
        attempts.filter(told).filter_map(|a| a.started_ns).min().map(|ns| ns.div_euclid(1_000_000_000));
    let before = first_end.map(|end| end.saturating_sub(BEFORE_S)).into_iter().chain(began).min();
    let since = before.unwrap_or(now.saturating_sub(DAY_S));
    let since_us = u64::try_from(since).unwrap_or(0).saturating_mul(1_000_000);
    // How far back anything was there to be read.
    let oldest = Cell::new(u64::MAX);
    let keep = |entry: &NodeLogEntry| {
        oldest.set(oldest.get().min(entry.realtime_us));
        if entry.is_kernel() {
            KernelLine::is_of_a_kill(&entry.message)
        } else {
            parse_kubelet(None, &entry.message, history).is_some()
        }
    };
    let query = NodeLogQuery { since_us, units: true, kernel: true, keep: &keep, most: MOST_LOG };
    let log = read_node_log(root, &query);
    let buffer = read_kernel_buffer(root, &keep);
    let kernel = log.entries.iter().chain(&buffer.entries).filter(|entry| entry.is_kernel());
    let lines: Vec<KernelLine> = kernel.map(KernelLine::new).collect();
    let mut kills = parse_kills(&lines);
    let nameless: Vec<i64> = kills.iter().filter(|k| k.task_memcg.is_empty()).filter_map(|k| k.at).collect();
    kills.retain(|kill| is_of_pod(kill, history));
    kills.sort_by_key(|kill| kill.at);
    let words = log.entries.iter().filter(|entry| !entry.is_kernel()).filter_map(|entry| {
        parse_kubelet(i64::try_from(entry.realtime_us / 1_000_000).ok(), &entry.message, history)
    });
    let words = words.collect();
    let mut sources = Vec::new();
    for entry in log.entries.iter().chain(&buffer.entries).filter(|entry| entry.is_kernel()) {
        if !sources.contains(&&*entry.source) {
            sources.push(&*entry.source);
        }
    }
    let oldest_s = i64::try_from(oldest.get() / 1_000_000).unwrap_or(i64::MAX);
    let unread = log.unread.iter().chain(&buffer.unread).map(|(path, why)| format!("{path}: {why}"));
    let unread = unread.collect::<Vec<_>>().join("; ");
    let kernel_unread = if oldest.get() == u64::MAX {
        Some(if unread.is_empty() { "nothing of that time is there".into() } else { unread })
    } else if first_kill.is_some_and(|end| oldest_s > end) {
        Some(format!("the log reaches back to {} only", rfc3339(oldest_s)))
    } else {
        None
    };
    history.kernel_source =
        if sources.is_empty() { "journal, /var/log, /dev/kmsg".into() } else { sources.join(", ") };
    (history.kills, history.nameless_kills) = (kills, nameless);
    (history.kubelet, history.kernel_unread) = (words, kernel_unread);
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
        let mut memory = read_memory(root, pid, &uid);
        memory.container =
            memory.container.or_else(|| read_container_memory(root, &uid, attempt.id.as_deref()?));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An attempt that ended after so many seconds with a code, or runs.
    fn attempt(number: u32, ended: Option<(i64, i32)>) -> Attempt {
        Attempt {
            state: if ended.is_some() { ContainerState::Exited } else { ContainerState::Running },
            exit_code: ended.map(|(_, code)| code),
            finished_ns: ended.map(|(seconds, _)| seconds * 1_000_000_000),
            ..forgotten(number)
        }
    }

    fn ends(containers: &[&[Attempt]]) -> Vec<i64> {
        let container =
            |attempts: &&[Attempt]| ContainerHistory { name: "app".into(), attempts: attempts.to_vec() };
        let containers = containers.iter().map(container).collect();
        let history = PodHistory { containers, ..PodHistory::default() };
        ends_to_explain(&history).map(|(_, end)| end / 1_000_000_000).collect()
    }

    #[test]
    fn an_init_container_that_did_its_work_long_ago_needs_no_log() {
        let init = attempt(0, Some((100, 0)));
        let killed = [attempt(0, Some((1_000_000, 137))), attempt(1, None)];
        assert_eq!(ends(&[std::slice::from_ref(&init), &killed]), [1_000_000]);
        // What ended with all the pod, or was started again, does, whatever its code.
        let last = attempt(0, Some((1_000_000, 0)));
        let side = attempt(0, Some((999_990, 0)));
        assert_eq!(ends(&[std::slice::from_ref(&init), &[last], &[side]]), [1_000_000, 999_990]);
        assert_eq!(ends(&[&[attempt(0, Some((500, 0))), attempt(1, None)]]), [500]);
        assert_eq!(ends(&[&[attempt(0, Some((200, 1)))], &[attempt(0, None)]]), [200]);
        assert_eq!(ends(&[&[attempt(0, None)], &[init]]), [0i64; 0]);
    }
}
