//! `nsprobe why`: the document, and the life of each container as a picture.

use super::{Out, Paint, findings, sanitize};
use crate::diagnose::why::{cause_words, exit_words, find_cause, signal, size, span};
use crate::facts::{
    Attempt, Cause, ContainerHistory, ContainerState, Finding, PodHistory, Severity, rfc3339,
};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write;

/// Body of `nsprobe.why/v1`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhyDocument {
    /// `namespace/name`.
    pub subject: String,
    /// Its containers, by name.
    pub containers: Vec<WhyContainer>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhyContainer {
    /// Name in the pod spec.
    pub name: String,
    /// Every attempt that is still known, oldest first.
    pub attempts: Vec<WhyAttempt>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhyAttempt {
    /// How often it was started before.
    pub attempt: Option<u32>,
    /// Its state.
    pub state: ContainerState,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// The signal in the exit code (128 + n).
    pub signal: Option<i32>,
    /// Why it is in that state.
    pub cause: Cause,
    /// When it was started, RFC 3339, UTC.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// Its memory limit; 0 is none.
    pub memory_limit_bytes: Option<u64>,
    /// The last lines that it wrote, oldest first.
    pub last_lines: Vec<String>,
}

impl WhyDocument {
    /// The document of what was read and found.
    pub fn new(history: &PodHistory, findings: Vec<Finding>) -> Self {
        let containers = history.containers.iter().map(|container| WhyContainer {
            name: container.name.clone(),
            attempts: container.attempts.iter().map(|attempt| entry(history, container, attempt)).collect(),
        });
        Self { subject: history.full_name(), containers: containers.collect(), findings }
    }
}

fn entry(history: &PodHistory, container: &ContainerHistory, attempt: &Attempt) -> WhyAttempt {
    let time = |ns: Option<i64>| ns.map(|ns| rfc3339(ns.div_euclid(1_000_000_000)));
    WhyAttempt {
        attempt: attempt.attempt,
        state: attempt.state,
        exit_code: attempt.exit_code,
        signal: signal(attempt.exit_code),
        cause: find_cause(history, &container.name, attempt),
        started_at: time(attempt.started_ns),
        finished_at: time(attempt.finished_ns),
        memory_limit_bytes: attempt.memory_limit_bytes,
        last_lines: attempt.last_lines.clone(),
    }
}

/// What of the text is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WhyView {
    /// Now, nanoseconds since 1970: how long what runs has run.
    pub now_ns: i64,
}

/// The verdict, what is wrong, then each container's life.
pub fn render_why(document: &WhyDocument, history: &PodHistory, view: WhyView, out: &Out) -> String {
    render(document, history, view, out.paint, out.width)
}

fn render(
    document: &WhyDocument,
    history: &PodHistory,
    view: WhyView,
    paint: Paint,
    width: Option<usize>,
) -> String {
    let mut text = String::new();
    let verdict = verdict(document, paint);
    let _ = writeln!(text, "{verdict}: {}", sanitize(&document.subject));
    let (worse, mild): (Vec<Finding>, Vec<Finding>) =
        document.findings.iter().cloned().partition(|f| f.severity > Severity::Info);
    if !worse.is_empty() {
        let _ = write!(text, "\n{}", findings(paint, width, &worse));
    }
    if history.containers.is_empty() {
        // Words that are broken where a terminal ends would not be a command any more.
        let _ = writeln!(
            text,
            "\nno container of it is known here: it waits for its image, volumes or network, or all was removed\n\
             next: journalctl -u kubelet | grep {}",
            sanitize(&history.name)
        );
    }
    for container in &history.containers {
        life(&mut text, history, container, view, paint, width);
    }
    if !mild.is_empty() {
        let _ = write!(text, "\n{}", findings(paint, width, &mild));
    }
    text
}

/// In a word: how the newest attempts are, and whether earlier ones ended badly. A runtime that hangs is no fault of
/// the pod.
fn verdict(document: &WhyDocument, paint: Paint) -> String {
    let newest = || document.containers.iter().filter_map(|container| container.attempts.last());
    let down = newest()
        .find(|a| !matches!(a.cause, Cause::Running | Cause::Completed | Cause::Unknown | Cause::OomChild));
    let worse = |f: &Finding| f.severity > Severity::Info && f.id.starts_with("why.");
    if let Some(attempt) = down.filter(|_| document.findings.iter().any(worse)) {
        return paint.red(cause_words(attempt.cause));
    }
    if newest().next().is_none() {
        return paint.yellow("nothing known");
    }
    if document.findings.iter().any(worse) {
        let lives = newest().all(|a| matches!(a.cause, Cause::Running | Cause::Completed));
        return paint.yellow(if lives { "runs again" } else { "not well" });
    }
    if newest().any(|a| a.cause == Cause::Unknown) {
        return paint.yellow("not known");
    }
    paint.green("nothing wrong")
}

/// Columns of a picture, where the terminal does not say less.
const PICTURE: usize = 40;
/// What stands before a picture: `  #12  17:05:38  `.
const BEFORE: usize = 19;
/// Attempts that are drawn of one container.
const MOST_DRAWN: usize = 20;

fn life(
    text: &mut String,
    history: &PodHistory,
    container: &ContainerHistory,
    view: WhyView,
    paint: Paint,
    width: Option<usize>,
) {
    let _ = writeln!(text, "\n{}{}", paint.bold(&sanitize(&container.name)), memory_words(container));
    let columns = width.map_or(PICTURE, |width| width.saturating_sub(BEFORE + 2).clamp(10, PICTURE));
    let skipped = container.attempts.len().saturating_sub(MOST_DRAWN);
    if skipped > 0 {
        let _ = writeln!(text, "  … {skipped} earlier attempts");
    }
    let drawn = || container.attempts.iter().skip(skipped);
    let ends = |attempt: &Attempt| match attempt.state {
        ContainerState::Running => Some(view.now_ns),
        _ => attempt.finished_ns,
    };
    let first = drawn().filter_map(|a| a.started_ns.or(a.finished_ns)).min();
    let last = drawn().filter_map(ends).max();
    for attempt in drawn() {
        let cause = find_cause(history, &container.name, attempt);
        let number = attempt.attempt.map_or_else(|| "#?".into(), |n| format!("#{n}"));
        let clock = attempt.started_ns.or(attempt.finished_ns).map_or_else(
            || "--:--:--".to_owned(),
            |ns| rfc3339(ns.div_euclid(1_000_000_000)).get(11..19).unwrap_or_default().to_owned(),
        );
        let picture = match (first, last, attempt.started_ns.or(attempt.finished_ns)) {
            (Some(first), Some(last), Some(began)) => draw(columns, first, last, began, ends(attempt), cause),
            _ => "?".to_owned(),
        };
        let _ = writeln!(text, "  {number:<4} {clock}  |{picture:<columns$}|");
        let words = what_happened(attempt, cause, view);
        let painted = match cause {
            Cause::Running | Cause::Completed => paint.green(&words),
            Cause::Unknown => paint.dim(&words),
            Cause::OomChild => paint.yellow(&words),
            _ => paint.red(&words),
        };
        let _ = writeln!(text, "       {painted}");
        if cause != Cause::Running {
            for line in &attempt.last_lines {
                let room = width.map_or(usize::MAX, |width| width.saturating_sub(9).max(20));
                let line: String = sanitize(line).chars().take(room).collect();
                let _ = writeln!(text, "       {}", paint.dim(&format!("> {line}")));
            }
        }
    }
}

/// `=` while it ran; at its end `x` where it died, `.` where it completed, `>` where it still runs, `?` unknown.
fn draw(columns: usize, first: i64, last: i64, began: i64, ended: Option<i64>, cause: Cause) -> String {
    let place = |at: i64| -> usize {
        let whole = i128::from(last) - i128::from(first);
        if whole <= 0 {
            return 0;
        }
        let offset = (i128::from(at) - i128::from(first)).clamp(0, whole);
        let most = i128::try_from(columns.saturating_sub(1)).unwrap_or(0);
        usize::try_from(offset * most / whole).unwrap_or(0)
    };
    let start = place(began);
    let end = ended.map_or(start, place).max(start);
    let mark = match cause {
        Cause::Running => '>',
        Cause::OomChild if ended.is_some() => '!',
        Cause::Completed => '.',
        Cause::Unknown => '?',
        _ => 'x',
    };
    format!("{}{}{mark}", " ".repeat(start), "=".repeat(end - start))
}

fn what_happened(attempt: &Attempt, cause: Cause, view: WhyView) -> String {
    let mut words = cause_words(cause).to_owned();
    if attempt.exit_code.is_some() && cause != Cause::Completed {
        let _ = write!(words, ", {}", exit_words(attempt.exit_code));
    }
    match (attempt.state, attempt.started_ns, attempt.finished_ns) {
        (ContainerState::Running, Some(began), _) => {
            let runs = if cause == Cause::Running { "" } else { ", it runs on" };
            let _ = write!(words, "{runs} for {}", span(view.now_ns.saturating_sub(began)));
        }
        (_, Some(began), Some(ended)) if ended >= began => {
            let _ = write!(words, " after {}", span(ended - began));
        }
        _ => {}
    }
    if let (Some(reason), Cause::Unknown) = (&attempt.reason, cause) {
        let _ = write!(words, " ({})", sanitize(reason));
    }
    words
}

/// `  12 MiB of 64 MiB in use, restarted 3 times`.
fn memory_words(container: &ContainerHistory) -> String {
    let mut words = String::new();
    let Some(newest) = container.attempts.last() else { return words };
    let limit = newest.memory_limit_bytes.or_else(|| newest.memory.as_ref()?.limit_bytes);
    let used = newest.memory.as_ref().and_then(|memory| memory.used_bytes);
    match (used, limit) {
        (Some(used), Some(0)) => {
            let _ = write!(words, "  {} in use, no limit", size(used));
        }
        (Some(used), Some(limit)) => {
            let _ = write!(words, "  {} of {} in use", size(used), size(limit));
        }
        (Some(used), None) => {
            let _ = write!(words, "  {} in use", size(used));
        }
        (None, Some(limit)) if limit > 0 => {
            let _ = write!(words, "  limit {}", size(limit));
        }
        (None, _) => {}
    }
    if let Some(restarts) = newest.attempt.filter(|&restarts| restarts > 0) {
        let comma = if words.is_empty() { "  " } else { ", " };
        let _ = write!(words, "{comma}restarted {restarts} {}", if restarts == 1 { "time" } else { "times" });
    }
    words
}

#[cfg(test)]
#[path = "why_tests.rs"]
mod tests;
