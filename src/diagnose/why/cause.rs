//! The cause of each attempt: the kernel's record first, then the kubelet's words, then the runtime's.

use crate::facts::{Attempt, Cause, ContainerState, KubeletAct, KubeletWord, OomKill, PodHistory};

/// The runtime's words for a container that never ran.
const START_ERRORS: &[&str] = &[
    "StartError",
    "ContainerCannotRun",
    "CreateContainerError",
    "RunContainerError",
    "CreateContainerConfigError",
];
/// Its words for one of which it lost sight.
const LOST: &[&str] = &["Unknown", "ContainerStatusUnknown"];
/// Signals are numbered so far.
const MOST_SIGNAL: i32 = 64;

/// The signal in an exit code: 128 + n, as the runtime reports a process that a signal ended. A shell passes the
/// same on for its child, and a program may end with such a number by itself.
pub fn signal(exit_code: Option<i32>) -> Option<i32> {
    exit_code.map(|code| code - 128).filter(|signal| (1..=MOST_SIGNAL).contains(signal))
}

/// Why an attempt is in its state.
pub fn find_cause(history: &PodHistory, container: &str, attempt: &Attempt) -> Cause {
    let kill = kills_of(history, attempt).last();
    let reason = attempt.reason.as_deref().unwrap_or_default();
    let oom = reason == "OOMKilled";
    match attempt.state {
        ContainerState::Running if kill.is_some() || oom => Cause::OomChild,
        ContainerState::Running => Cause::Running,
        ContainerState::Exited => ended(history, container, attempt, kill, reason),
        ContainerState::Created if START_ERRORS.contains(&reason) => Cause::StartError,
        ContainerState::Created | ContainerState::Unknown => Cause::Unknown,
    }
}

fn ended(
    history: &PodHistory,
    container: &str,
    attempt: &Attempt,
    kill: Option<&OomKill>,
    reason: &str,
) -> Cause {
    if START_ERRORS.contains(&reason) {
        return Cause::StartError;
    }
    let code = attempt.exit_code;
    // Without an exit code the kernel's record is all there is.
    let killed = code == Some(137) || code.is_none();
    if let Some(kill) = kill {
        return match killed {
            true if is_own_limit(kill, history, attempt) => Cause::OomLimit,
            true => Cause::OomNode,
            false => Cause::OomChild,
        };
    }
    if reason == "OOMKilled" {
        return match (code, attempt.memory_limit_bytes) {
            (Some(0), _) => Cause::OomChild,
            // It has no limit that it could have reached.
            (Some(137), Some(0)) if history.memory.as_ref().is_none_or(|m| m.limit_bytes == Some(0)) => {
                Cause::OomNode
            }
            (Some(137) | None, _) => Cause::OomLimit,
            (Some(_), _) => Cause::OomChild,
        };
    }
    if LOST.contains(&reason) {
        return Cause::Unknown;
    }
    // Whatever its code: a program that handles SIGTERM ends with one of its own.
    if words_of(history, container, attempt).any(|word| word.act == KubeletAct::Eviction) {
        return Cause::Evicted;
    }
    match code {
        None => Cause::Unknown,
        Some(0) => Cause::Completed,
        Some(_) if signal(code).is_some() => Cause::Signal,
        Some(_) => Cause::Crash,
    }
}

/// The kernel's records that name this attempt's container.
pub(super) fn kills_of<'a>(
    history: &'a PodHistory,
    attempt: &'a Attempt,
) -> impl Iterator<Item = &'a OomKill> {
    let id = attempt.id.as_deref().filter(|id| id.len() >= 12);
    history
        .kills
        .iter()
        .filter(move |kill| id.is_some_and(|id| kill.task_memcg.contains(id) || kill.oom_memcg.contains(id)))
}

/// Whether the limit that was reached is the container's or its pod's, and not one of all pods or the node.
pub(super) fn is_own_limit(kill: &OomKill, history: &PodHistory, attempt: &Attempt) -> bool {
    let container = attempt.id.as_ref().is_some_and(|id| kill.oom_memcg.contains(id.as_str()));
    container || names_pod(&kill.oom_memcg, &history.uid)
}

/// Whether a kill is of a process of this pod.
pub fn is_of_pod(kill: &OomKill, history: &PodHistory) -> bool {
    let ids = history.containers.iter().flat_map(|c| &c.attempts).filter_map(|a| a.id.as_deref());
    let named = |path: &str| {
        names_pod(path, &history.uid) || ids.clone().any(|id| id.len() >= 12 && path.contains(id))
    };
    named(&kill.task_memcg) || named(&kill.oom_memcg)
}

/// All drivers name the pod's folder `pod<uid>`; systemd's units have `_` for `-`.
fn names_pod(path: &str, uid: &str) -> bool {
    uid.len() >= 12
        && (path.contains(&format!("pod{uid}")) || path.contains(&format!("pod{}", uid.replace('-', "_"))))
}

/// What the kubelet wrote about this attempt: by its id, or by its name at the time of its end.
pub(super) fn words_of<'a>(
    history: &'a PodHistory,
    container: &'a str,
    attempt: &'a Attempt,
) -> impl Iterator<Item = &'a KubeletWord> {
    history.kubelet.iter().filter(move |word| match (&word.container_id, &attempt.id) {
        (Some(word), Some(id)) => word == id,
        _ => {
            let named = word.container.as_deref().is_none_or(|name| name == container);
            let began = attempt.started_ns.map(|ns| ns / 1_000_000_000);
            let ended = attempt.finished_ns.map(|ns| ns / 1_000_000_000);
            let in_time = match (word.at, began, ended) {
                // The kubelet writes what it does before it is done, and of several containers one after the other.
                (Some(at), Some(began), Some(ended)) => at >= began && at <= ended + 60,
                _ => false,
            };
            named && in_time
        }
    })
}
