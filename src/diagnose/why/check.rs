//! Causes → findings: one for each cause that a container had, about its newest attempt with it.

use super::cause::{find_cause, is_own_limit, kills_of, signal, words_of};
use super::rules as r;
use super::words::{exit_words, signal_name, size, span};
use crate::diagnose::Rule;
use crate::facts::{
    Attempt, Cause, ContainerHistory, ContainerState, Evidence, Finding, KubeletAct, MemoryUse, OomKill,
    PodHistory, Severity, rfc3339,
};

/// Lines of a container's last words that a finding carries.
const MOST_LINES: usize = 3;
/// Victims that a finding names.
const MOST_VICTIMS: usize = 5;

/// What is wrong with a pod's containers; nothing when they run or have completed.
pub fn check_why(history: &PodHistory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for container in &history.containers {
        check_container(history, container, &mut findings);
    }
    let died = |attempt: &&Attempt| attempt.exit_code == Some(137);
    let mut attempts = history.containers.iter().flat_map(|c| &c.attempts);
    if let Some(why) = &history.kernel_unread
        && attempts.any(|attempt| died(&attempt) && kills_of(history, attempt).next().is_none())
    {
        findings.push(r::NOT_LOOKED_UP.finding(
            history.full_name(),
            "the kernel's log was not there to tell whether a SIGKILL was for memory".to_owned(),
            vec![Evidence::text("kernel log", why.clone(), history.kernel_source.clone())],
            r::NOT_LOOKED_UP.fix,
        ));
    }
    findings.extend(forgotten_kills(history));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn check_container(history: &PodHistory, container: &ContainerHistory, findings: &mut Vec<Finding>) {
    let causes: Vec<Cause> =
        container.attempts.iter().map(|a| find_cause(history, &container.name, a)).collect();
    let runs = causes.iter().any(|cause| matches!(cause, Cause::Running))
        || container.attempts.iter().any(|a| a.state == ContainerState::Running);
    let mut done: Vec<&'static str> = Vec::new();
    for (at, attempt) in container.attempts.iter().enumerate().rev() {
        let Some(&cause) = causes.get(at) else { continue };
        let newest = at + 1 == container.attempts.len();
        let Some((rule, summary)) = verdict(history, container, attempt, cause, newest) else { continue };
        if done.contains(&rule.id) {
            continue;
        }
        done.push(rule.id);
        let same = causes.iter().filter(|other| **other == cause).count();
        let mut summary = summary;
        if same > 1 {
            summary.push_str(&format!(", {same} of the {} attempts that are known", causes.len()));
        }
        let mut finding = rule.finding(
            format!("{}:{}", history.full_name(), container.name),
            summary,
            evidence(history, container, attempt, cause),
            fix(history, container, attempt, cause, rule),
        );
        // It lives again, for now.
        if runs && finding.severity == Severity::Critical {
            finding.severity = Severity::Warning;
        }
        findings.push(finding);
    }
    findings.extend(back_off(history, container, &causes, runs));
}

/// The rule of an attempt's cause, and its sentence.
fn verdict(
    history: &PodHistory,
    container: &ContainerHistory,
    attempt: &Attempt,
    cause: Cause,
    newest: bool,
) -> Option<(&'static Rule, String)> {
    let name = format!("container {}", container.name);
    let code = exit_words(attempt.exit_code);
    let limit = limit_words(history, attempt);
    let probe = words_of(history, &container.name, attempt).find(|word| word.act == KubeletAct::ProbeKill);
    if let (Some(word), Cause::Signal | Cause::Crash | Cause::Completed) = (probe, cause) {
        let words = &word.words;
        return Some((&r::PROBE_KILL, format!("{name} was killed by the kubelet: {words} ({code})")));
    }
    Some(match cause {
        Cause::Running => return None,
        Cause::Completed => {
            let restarts = attempt.attempt.unwrap_or(0);
            if restarts < 3 || !newest || !ended_so_before(container, attempt) {
                return None;
            }
            (&r::RESTARTED, format!("{name} ended with 0 and was started again {restarts} times"))
        }
        Cause::OomLimit => (&r::OOM_LIMIT, format!("{name} was OOM-killed at {limit}")),
        Cause::OomChild if attempt.state == ContainerState::Running => {
            (&r::OOM_CHILD, format!("{name} goes on, but a process of it was OOM-killed at {limit}"))
        }
        Cause::OomChild => (
            &r::OOM_CHILD,
            format!("a process of {name} was OOM-killed at {limit}; the main one ended: {code}"),
        ),
        Cause::OomNode => {
            let of = kills_of(history, attempt).last().map_or("", |kill| kill.oom_memcg.as_str());
            let whose =
                if of.is_empty() { "the node's memory".into() } else { format!("the limit of all of {of}") };
            (&r::OOM_NODE, format!("{name} was OOM-killed because {whose} was used up"))
        }
        Cause::Crash => (&r::CRASH, format!("{name} crashed: {code}{}", ran(attempt))),
        Cause::Evicted => {
            (&r::EVICTED, format!("{name} was ended with its pod, which the kubelet evicted: {code}"))
        }
        Cause::StartError => {
            let message = attempt.message.as_deref().unwrap_or("the runtime gave no reason");
            (&r::START_ERROR, format!("{name} could not be started: {}", last_cause(message)))
        }
        Cause::Signal => {
            let number = signal(attempt.exit_code).unwrap_or_default();
            let meaning = signal_name(number).map_or("a signal ended it", |(_, meaning)| meaning);
            let rule = if matches!(number, 2 | 15) { &r::TERMINATED } else { &r::SIGNAL };
            let killed = match (number, killed_by_kubelet(history, container, attempt)) {
                (9, Some(_)) => "; the kubelet had asked it to end",
                (9, None) => "; by whom is not recorded, for memory it was not",
                _ => "",
            };
            // What is not known is not denied.
            let killed = match killed.strip_suffix(", for memory it was not") {
                Some(_) if nameless_kill(history, attempt) => {
                    "; by whom is not recorded, but the kernel killed for memory then and did not log in which cgroup"
                }
                Some(rest) if history.kernel_unread.is_some() => rest,
                _ => killed,
            };
            (rule, format!("{name} was ended by a signal, {code}: {meaning}{killed}"))
        }
        // Only the newest matters of those of which nothing is left but a log.
        Cause::Unknown if attempt.state == ContainerState::Exited && newest => {
            (&r::UNKNOWN, format!("{name} has ended, and nobody who was asked knows how"))
        }
        Cause::Unknown => return None,
    })
}

/// Whether the attempts before ended with 0 too, as far as they are known: a job that failed first is none that is
/// started again and again.
fn ended_so_before(container: &ContainerHistory, attempt: &Attempt) -> bool {
    let before = container.attempts.iter().filter(|other| other.attempt < attempt.attempt);
    before.filter_map(|other| other.exit_code).all(|code| code == 0)
}

/// Whether at the time of its end somebody was killed for memory of whom the cgroup is not known.
fn nameless_kill(history: &PodHistory, attempt: &Attempt) -> bool {
    let ended = attempt.finished_ns.map(|ns| ns.div_euclid(1_000_000_000));
    ended.is_some_and(|ended| history.nameless_kills.iter().any(|at| at.abs_diff(ended) <= 5))
}

fn killed_by_kubelet<'a>(
    history: &'a PodHistory,
    container: &'a ContainerHistory,
    attempt: &'a Attempt,
) -> Option<&'a str> {
    let mut words = words_of(history, &container.name, attempt);
    words.find(|word| word.act == KubeletAct::Kill).map(|word| word.words.as_str())
}

/// `its memory limit of 24 MiB`, or that of its pod.
fn limit_words(history: &PodHistory, attempt: &Attempt) -> String {
    let kill = kills_of(history, attempt).last();
    let pods = kill.is_some_and(|kill| {
        attempt.id.as_ref().is_some_and(|id| !kill.oom_memcg.contains(id.as_str()))
            && is_own_limit(kill, history, attempt)
    });
    let limit =
        kill.and_then(|kill| kill.limit_bytes).or(attempt.memory_limit_bytes).filter(|&limit| limit > 0);
    let whose = if pods { "its pod's memory limit" } else { "its memory limit" };
    limit.map_or_else(|| whose.to_owned(), |limit| format!("{whose} of {}", size(limit)))
}

fn ran(attempt: &Attempt) -> String {
    match (attempt.started_ns, attempt.finished_ns) {
        (Some(began), Some(ended)) if ended >= began => format!(", after {}", span(ended - began)),
        _ => String::new(),
    }
}

/// The last part of a runtime's chain of reasons, which is the first cause.
fn last_cause(message: &str) -> &str {
    let message = message.strip_suffix(": unknown").unwrap_or(message);
    let (_, rest) = message.split_once("unable to start container process: ").unwrap_or(("", message));
    rest
}

fn evidence(
    history: &PodHistory,
    container: &ContainerHistory,
    attempt: &Attempt,
    cause: Cause,
) -> Vec<Evidence> {
    let mut seen = Vec::new();
    let number = attempt.attempt.map_or_else(|| "an attempt".into(), |n| format!("attempt {n}"));
    let mut words = match attempt.state {
        ContainerState::Running => "runs".to_owned(),
        _ => exit_words(attempt.exit_code),
    };
    if let Some(reason) = &attempt.reason {
        words.push_str(&format!(", reason {reason}"));
    }
    if let Some(ended) = attempt.finished_ns {
        words.push_str(&format!(", ended {}{}", rfc3339(ended / 1_000_000_000), ran(attempt)));
    }
    seen.push(Evidence::text(number, words, attempt.source));
    if let Some(message) = &attempt.message {
        seen.push(Evidence::text("message of the runtime", message.clone(), attempt.source));
    }
    if let Some(kill) = kills_of(history, attempt).last() {
        seen.extend(kill_evidence(kill, &history.kernel_source));
    } else if matches!(cause, Cause::OomLimit | Cause::OomChild | Cause::OomNode) {
        let why = history.kernel_unread.clone().unwrap_or_else(|| "has no record of it any more".into());
        seen.push(Evidence::text("kernel log", why, history.kernel_source.clone()));
    }
    if matches!(cause, Cause::OomLimit | Cause::OomChild | Cause::OomNode) {
        match attempt.memory_limit_bytes {
            Some(0) => seen.push(Evidence::text("memory limit of the container", "none", attempt.source)),
            Some(limit) => {
                seen.push(Evidence::text("memory limit of the container", size(limit), attempt.source));
            }
            None => {}
        }
        let mut memories = [("container", &attempt.memory), ("pod", &history.memory)].into_iter();
        if let Some(used) = attempt.memory.as_ref().and_then(|memory| memory.used_bytes) {
            seen.push(Evidence::text("memory in use now", size(used), memory_source(&attempt.memory)));
        }
        // A container's counts go with it, its pod's stay.
        let counted = memories.find_map(|(whose, memory)| {
            let kills = memory.as_ref()?.oom_kills.filter(|&kills| kills > 0)?;
            let what = format!("OOM kills that the {whose}'s cgroup has counted");
            Some(Evidence::text(what, kills, memory_source(memory)))
        });
        seen.extend(counted);
    }
    let kubelet = words_of(history, &container.name, attempt).filter(|word| word.act != KubeletAct::BackOff);
    seen.extend(kubelet.take(3).map(|word| {
        let at = word.at.map(|at| format!(" at {}", rfc3339(at))).unwrap_or_default();
        Evidence::text("kubelet", format!("{}{at}", word.words), "the kubelet's log")
    }));
    let skip = attempt.last_lines.len().saturating_sub(MOST_LINES);
    seen.extend(
        attempt
            .last_lines
            .iter()
            .skip(skip)
            .map(|line| Evidence::text("wrote before its end", line.clone(), "/var/log/pods")),
    );
    seen
}

fn memory_source(memory: &Option<MemoryUse>) -> String {
    memory.as_ref().map_or_else(String::new, |memory| memory.path.clone())
}

/// The kernel's record in words.
fn kill_evidence(kill: &OomKill, source: &str) -> Vec<Evidence> {
    let source = if source.is_empty() { "kernel log" } else { source }.to_owned();
    let names: Vec<String> = kill
        .victims
        .iter()
        .take(MOST_VICTIMS)
        .map(|victim| format!("{} (PID {}, {})", victim.name, victim.pid, size(victim.resident_bytes)))
        .collect();
    let more = kill.victims.len().saturating_sub(names.len());
    let mut words = if names.is_empty() { "a process".into() } else { names.join(", ") };
    if more > 0 {
        words.push_str(&format!(" and {more} more"));
    }
    if kill.group {
        words.push_str(", all of the container (memory.oom.group)");
    }
    if let Some(at) = kill.at {
        words.push_str(&format!(", {}", rfc3339(at)));
    }
    let mut seen = vec![Evidence::text("the kernel killed", words, source.clone())];
    if let (Some(used), Some(limit)) = (kill.used_bytes, kill.limit_bytes) {
        let words = format!("{} of {}", size(used), size(limit));
        seen.push(Evidence::text("in use of what was allowed, when it was killed", words, source));
    }
    seen
}

fn fix(
    history: &PodHistory,
    container: &ContainerHistory,
    attempt: &Attempt,
    cause: Cause,
    rule: &Rule,
) -> String {
    let (pod, name) = (history.full_name(), &container.name);
    // Without it `logs` shows the newest attempt, which may be this one.
    let newest = container.attempts.iter().all(|other| other.attempt <= attempt.attempt);
    let previous = if newest { "" } else { " --previous" };
    match cause {
        Cause::OomLimit | Cause::OomChild => {
            let limit = attempt.memory_limit_bytes.filter(|&limit| limit > 0);
            let now = limit.map(|limit| format!(" (now {})", size(limit))).unwrap_or_default();
            format!(
                "raise resources.limits.memory of container {name}{now}, or make it need less; heap settings must leave room below the limit"
            )
        }
        Cause::Crash => format!("read what it wrote before: nsprobe logs {pod}:{name}{previous}"),
        Cause::Signal if rule.id == r::SIGNAL.id && signal(attempt.exit_code) != Some(9) => {
            format!(
                "a fault of the program: nsprobe logs {pod}:{name}{previous}, and its core (coredumpctl) where one is kept"
            )
        }
        Cause::StartError => start_fix(attempt.message.as_deref().unwrap_or_default(), name),
        _ => rule.fix.to_owned(),
    }
}

/// What to correct, by the runtime's words.
fn start_fix(message: &str, name: &str) -> String {
    if message.contains("no such file or directory") && message.contains("exec")
        || message.contains("not found in $PATH")
    {
        return format!(
            "correct command or args of container {name}: what they name is not in its image (or its interpreter, the first line of a script, is not)"
        );
    }
    if message.contains("permission denied") {
        return format!(
            "make what command of container {name} names executable (chmod +x in its image), or correct the name"
        );
    }
    if message.contains("exec format error") {
        return format!(
            "the image of container {name} is for another processor, or its script has no first line #!: use an image of this node's architecture"
        );
    }
    r::START_ERROR.fix.to_owned()
}

/// Restarts, and that the kubelet waits.
fn back_off(
    history: &PodHistory,
    container: &ContainerHistory,
    causes: &[Cause],
    runs: bool,
) -> Option<Finding> {
    let newest = container.attempts.last()?;
    let said = history.kubelet.iter().rev().find(|word| {
        word.act == KubeletAct::BackOff && word.container.as_deref().is_none_or(|name| name == container.name)
    });
    let restarts = newest.attempt?;
    let ill = causes
        .last()
        .is_some_and(|cause| !matches!(cause, Cause::Running | Cause::Completed | Cause::Evicted));
    if runs || !ill || restarts == 0 || newest.state != ContainerState::Exited {
        return None;
    }
    let mut seen = vec![Evidence::text("restarts", restarts, newest.source)];
    seen.extend(said.map(|word| Evidence::text("kubelet", word.words.clone(), "the kubelet's log")));
    // Source: kubelet, MaxContainerBackOff: 10 s, doubled with each, 5 min at most.
    let waits = 10u64.saturating_mul(1 << restarts.saturating_sub(1).min(5)).min(300);
    let waits = said.map_or_else(
        || format!("by its rule the kubelet waits about {waits} s before the next start"),
        |word| format!("the kubelet says: {}", word.words),
    );
    let times = if restarts == 1 { "once".into() } else { format!("{restarts} times") };
    Some(r::BACKOFF.finding(
        format!("{}:{}", history.full_name(), container.name),
        format!("container {} has been restarted {times} and is down; {waits}", container.name),
        seen,
        r::BACKOFF.fix,
    ))
}

/// Kills of attempts that nobody knows any more.
fn forgotten_kills(history: &PodHistory) -> Option<Finding> {
    let known = |kill: &OomKill| {
        let mut attempts = history.containers.iter().flat_map(|c| &c.attempts);
        attempts.any(|attempt| kills_of(history, attempt).any(|other| std::ptr::eq(other, kill)))
    };
    let forgotten: Vec<&OomKill> = history.kills.iter().filter(|kill| !known(kill)).collect();
    let newest = forgotten.last()?;
    let count = forgotten.len();
    let mut seen = vec![Evidence::new(
        "kills of containers that are gone",
        count,
        "kills",
        history.kernel_source.clone(),
    )];
    seen.extend(kill_evidence(newest, &history.kernel_source));
    let node = newest.oom_memcg.is_empty();
    let times = if count == 1 { "once".into() } else { format!("{count} times") };
    let rule = if node { &r::OOM_NODE } else { &r::OOM_LIMIT };
    let mut finding = rule.finding(
        history.full_name(),
        format!("the kernel has killed in this pod for memory {times}, in containers that are gone"),
        seen,
        rule.fix,
    );
    finding.severity = Severity::Warning;
    Some(finding)
}
