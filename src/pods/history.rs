//! SOURCE → a pod with every attempt of its containers that runtime, disk or log folders still know.

use super::cri::messages::ContainerStatus;
use super::disk::Record;
use super::matching;
use super::selector::Selector;
use super::survey::Survey;
use super::{LogFolder, Options, ResolveError, find_log_folder};
use crate::facts::{Attempt, Container, ContainerHistory, ContainerState, Degraded, Pod, PodHistory};

/// Longest message of a runtime that is kept, in characters.
const MOST_MESSAGE: usize = 1000;

/// A pod that was found, and how.
#[derive(Debug)]
pub struct FoundHistory {
    /// Its attempts; what kernel, kubelet and logs say is not in it yet.
    pub history: PodHistory,
    /// The container that was named.
    pub container: Option<String>,
    /// The folder of its logs, when there is one.
    pub logs: Option<LogFolder>,
    /// PIDs of living processes of the pod: its own cgroup is above theirs.
    pub pids: Vec<u32>,
    /// The runtime endpoint that was used or tried.
    pub endpoint: Option<String>,
    /// Set when the runtime could not be used.
    pub degraded: Option<Degraded>,
}

/// Finds a pod, dead ones too, and one of which only a log folder is left.
///
/// # Errors
/// [`ResolveError`]; a selector never silently picks one of several.
pub fn find_history(options: &Options, selector: &str) -> Result<FoundHistory, ResolveError> {
    let parsed = Selector::parse(selector).map_err(ResolveError::NotFound)?;
    if matches!(parsed, Selector::Host | Selector::NetNs(_)) {
        return Err(ResolveError::NotFound(format!("{selector} names no pod")));
    }
    let fs = options.open()?;
    let mut survey = Survey::start(&fs, options)?;
    let mut pods = survey.pods()?;
    let (at, container) = match choose(options, &pods, selector, &parsed)? {
        Some(found) => found,
        None => return forgotten(options, survey, &pods, selector),
    };
    let Some(chosen) = pods.get(at) else {
        return Err(super::resolve::not_found(&pods, selector, survey.degraded.as_ref()));
    };
    let (uid, full_name) = (chosen.uid.clone(), chosen.full_name());
    // A pod whose sandbox died has several.
    let mut same: Vec<&mut Pod> =
        pods.iter_mut().filter(|pod| pod.uid == uid && pod.full_name() == full_name).collect();
    survey.fill(&mut same);
    let containers: Vec<Container> = same.iter().flat_map(|pod| pod.containers.clone()).collect();
    let mut pids: Vec<u32> = containers.iter().filter_map(|c| c.pid).collect();
    pids.extend(same.iter().filter_map(|pod| pod.pid));
    let words = survey.container_words(containers.iter().map(|c| c.id.clone()).collect());
    let mut history = PodHistory { uid, ..PodHistory::default() };
    if let Some(pod) = same.first() {
        (history.namespace, history.name) = (pod.namespace.clone(), pod.name.clone());
    }
    for container in containers {
        let word = words.get(&container.id).and_then(|answer| answer.status.as_ref());
        let record = survey.record_of(&container.id);
        let name = container.name.clone();
        add(&mut history, &name, attempt(container, word, record.as_ref()));
    }
    if survey.degraded.is_some() {
        add_linked(&mut history, &survey);
    }
    let logs = folder_of(options, &history);
    let list = survey.list(Vec::new());
    Ok(FoundHistory { history, container, logs, pids, endpoint: list.endpoint, degraded: list.degraded })
}

/// The place of the pod that is meant, and the container that was named.
fn choose(
    options: &Options,
    pods: &[Pod],
    typed: &str,
    selector: &Selector,
) -> Result<Option<(usize, Option<String>)>, ResolveError> {
    if let Selector::Pid(pid) = selector {
        let source = super::resolve(options, typed)?;
        let pod =
            source.pod.ok_or_else(|| ResolveError::NotFound(format!("process {pid} belongs to no pod")))?;
        let at = pods.iter().position(|other| other.uid == pod.uid);
        let name = source.container_id.and_then(|id| pod.containers.iter().find(|c| c.id == id));
        return Ok(at.map(|at| (at, name.map(|c| c.name.clone()))));
    }
    let found = matching::matches(pods, selector);
    let one = matching::only(pods, &found)
        .map_err(|several| ResolveError::Ambiguous(format!("{typed} {several}")))?;
    Ok(one.map(|one| {
        let named = one.container.and_then(|at| pods.get(one.pod)?.containers.get(at));
        (one.pod, named.map(|c| c.name.clone()))
    }))
}

/// The runtime has forgotten it, or never told: only its logs are left.
fn forgotten(
    options: &Options,
    survey: Survey<'_>,
    pods: &[Pod],
    selector: &str,
) -> Result<FoundHistory, ResolveError> {
    let missing = super::resolve::not_found(pods, selector, survey.degraded.as_ref());
    let folder = match find_log_folder(options, selector) {
        Ok(folder) => folder,
        Err(several @ ResolveError::Ambiguous(_)) => return Err(several),
        Err(_) => return Err(missing),
    };
    let mut history = PodHistory {
        namespace: folder.namespace.clone(),
        name: folder.name.clone(),
        uid: folder.uid.clone(),
        ..PodHistory::default()
    };
    add_linked(&mut history, &survey);
    let list = survey.list(Vec::new());
    Ok(FoundHistory {
        history,
        container: folder.container.clone(),
        logs: Some(folder),
        pids: Vec::new(),
        endpoint: list.endpoint,
        degraded: list.degraded,
    })
}

/// Ended containers that only the kubelet's log links still name: a bundle goes when its sandbox ends, and what the
/// runtime wrote down of the end stays.
fn add_linked(history: &mut PodHistory, survey: &Survey<'_>) {
    let uid = history.uid.clone();
    let ours = survey.disk.logs().containers().filter(|(_, log)| log.uid.as_deref() == Some(uid.as_str()));
    for (id, log) in ours {
        let mut known = history.containers.iter().flat_map(|c| &c.attempts);
        if known.any(|attempt| attempt.id.as_deref() == Some(id)) {
            continue;
        }
        let Some(record) = survey.record_of(id) else { continue };
        let container = Container {
            name: log.container.clone(),
            id: id.to_owned(),
            state: if record.ended { ContainerState::Exited } else { ContainerState::Unknown },
            pid: None,
            pid_source: None,
            attempt: log.attempt.or(record.attempt),
            exit_code: record.exit_code,
            reason: record.reason.clone(),
        };
        add(history, &log.container, attempt(container, None, Some(&record)));
    }
}

fn folder_of(options: &Options, history: &PodHistory) -> Option<LogFolder> {
    let folder = LogFolder {
        namespace: history.namespace.clone(),
        name: history.name.clone(),
        uid: history.uid.clone(),
        container: None,
        attempt: None,
        former: Vec::new(),
    };
    let fs = options.open().ok()?;
    fs.exists(&format!("/var/log/pods/{}", folder.folder())).then_some(folder)
}

fn add(history: &mut PodHistory, name: &str, attempt: Attempt) {
    match history.containers.iter_mut().find(|c| c.name == name) {
        Some(container) => container.attempts.push(attempt),
        None => {
            let attempts = vec![attempt];
            history.containers.push(ContainerHistory { name: name.to_owned(), attempts });
        }
    }
}

fn attempt(container: Container, word: Option<&ContainerStatus>, record: Option<&Record>) -> Attempt {
    let time = |ns: i64| Some(ns).filter(|&ns| ns > 0);
    let text = |text: &str| Some(cut(text)).filter(|text| !text.is_empty());
    let ending = record.map(|record| &record.ending);
    let limit = word
        .and_then(|w| w.resources.as_ref()?.linux.as_ref())
        .and_then(|linux| u64::try_from(linux.memory_limit_in_bytes).ok());
    let ended = container.state == ContainerState::Exited;
    let source = match (word, record) {
        (Some(_), _) => "CRI ContainerStatus",
        (None, Some(_)) => "the container runtime's files",
        (None, None) => "CRI ListContainers",
    };
    Attempt {
        attempt: container.attempt,
        state: container.state,
        exit_code: container.exit_code.filter(|_| ended),
        // A container that runs on after a child was killed has a reason, too.
        reason: word.and_then(|w| text(&w.reason)).or(container.reason),
        message: word.and_then(|w| text(&w.message)).or_else(|| text(ending?.message.as_ref()?)),
        started_ns: word.and_then(|w| time(w.started_at)).or_else(|| ending?.started_ns),
        finished_ns: word.and_then(|w| time(w.finished_at)).or_else(|| ending?.finished_ns).filter(|_| ended),
        memory_limit_bytes: limit.or_else(|| ending?.memory_limit_bytes),
        pid: container.pid,
        memory: None,
        last_lines: Vec::new(),
        id: Some(container.id),
        source,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MOST_MESSAGE).collect()
}
