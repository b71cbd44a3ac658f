//! The node's log → causes: counted, with the first and last time and the last line.

mod rules;
mod sieve;
mod table;
#[cfg(test)]
mod tests;

pub use rules::RULES;

use super::Rule;
use super::node_units::tells_end;
use crate::facts::{Check, Evidence, Finding, NodeLog, NodeLogEntry, Severity, rfc3339};
use std::collections::BTreeMap;

/// A line that is repeated while its cause lasts comes at least this often (microseconds): five minutes.
const SILENCE_US: u64 = 300_000_000;
/// The kubelet asks the runtime every second.
const RUNTIME_SILENCE_US: u64 = 60_000_000;
/// A program that was started this long ago and has not said it again does not suffer from it: one minute.
const SETTLED_US: u64 = 60_000_000;

/// A cause that lines of the log tell of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCause {
    /// Which.
    pub rule: &'static Rule,
    /// How many lines.
    pub count: u64,
    /// When the first and last were logged, microseconds since 1970.
    pub first_us: u64,
    /// The last.
    pub last_us: u64,
    /// The last line.
    pub last: NodeLogEntry,
    /// Whether it seems to be over: the program was started again since, or has long not said it again.
    pub over: bool,
}

/// Whether a line has anything to do with causes, or with the end of a unit: all that has to be held.
pub fn concerns(entry: &NodeLogEntry) -> bool {
    is_start(entry) || tells_end(entry) || table::fitting(entry).is_some()
}

/// The cause that a line by itself speaks of. Of some causes a healthy node logs a line or two: [`find_causes`] counts.
pub fn recognise(entry: &NodeLogEntry) -> Option<&'static Rule> {
    table::fitting(entry).map(|(_, pattern)| pattern.rule)
}

/// `Started kubelet.service - …`, of systemd.
fn is_start(entry: &NodeLogEntry) -> bool {
    entry.identifier.as_deref() == Some("systemd") && entry.message.starts_with("Started ")
}

/// The lines of one cause.
struct Gathered {
    cause: LogCause,
    /// Of each kind of line, how many: each has its own least number.
    counts: BTreeMap<usize, u64>,
    /// Whether the last line is of a kind that is repeated.
    repeats: bool,
}

impl Gathered {
    fn new(rule: &'static Rule, entry: &NodeLogEntry) -> Self {
        let (first_us, last_us) = (entry.realtime_us, entry.realtime_us);
        let cause = LogCause { rule, count: 0, first_us, last_us, last: entry.clone(), over: false };
        Self { cause, counts: BTreeMap::new(), repeats: false }
    }

    fn add(&mut self, kind: usize, repeats: bool, entry: &NodeLogEntry) {
        self.cause.count += 1;
        *self.counts.entry(kind).or_default() += 1;
        if entry.realtime_us >= self.cause.last_us {
            (self.cause.last_us, self.cause.last, self.repeats) = (entry.realtime_us, entry.clone(), repeats);
        }
    }

    fn is_enough(&self) -> bool {
        self.counts.iter().any(|(kind, count)| table::PATTERNS.get(*kind).is_some_and(|p| *count >= p.least))
    }

    fn settle(mut self, started: &BTreeMap<&str, u64>, now_us: u64) -> LogCause {
        let cause = &mut self.cause;
        let unit = cause.last.unit.as_deref().unwrap_or_default();
        let settled = |at: &u64| *at > cause.last_us && now_us.saturating_sub(*at) > SETTLED_US;
        let again = !cause.last.is_kernel() && started.get(unit).is_some_and(settled);
        let silence = if cause.rule == &rules::RUNTIME { RUNTIME_SILENCE_US } else { SILENCE_US };
        cause.over = again || (self.repeats && now_us.saturating_sub(cause.last_us) > silence);
        self.cause
    }
}

/// The causes that a log tells of, the newest last line first. `now_us`: microseconds since 1970.
pub fn find_causes(log: &NodeLog, now_us: u64) -> Vec<LogCause> {
    let mut causes: BTreeMap<&'static str, Gathered> = BTreeMap::new();
    let mut started: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in &log.entries {
        if is_start(entry) {
            started.insert(entry.unit.as_deref().unwrap_or_default(), entry.realtime_us);
        }
        if let Some((kind, pattern)) = table::fitting(entry) {
            let gathered =
                causes.entry(pattern.rule.id).or_insert_with(|| Gathered::new(pattern.rule, entry));
            gathered.add(kind, pattern.repeats, entry);
        }
    }
    let enough = causes.into_values().filter(Gathered::is_enough);
    let mut found: Vec<LogCause> = enough.map(|gathered| gathered.settle(&started, now_us)).collect();
    found.sort_by_key(|cause| (cause.over, std::cmp::Reverse(cause.last_us)));
    found
}

/// The findings of a log. `now_us`: microseconds since 1970.
pub fn check_node_log(log: &NodeLog, now_us: u64) -> Vec<Finding> {
    let mut findings: Vec<Finding> = find_causes(log, now_us).iter().map(log_finding).collect();
    if !log.unread.is_empty() {
        let evidence = |(path, why): &(String, String)| Evidence::text("read", why.clone(), path.clone());
        findings.push(rules::LOG.finding(
            "host",
            "a part of the node's log could not be read: causes may be missing",
            log.unread.iter().take(10).map(evidence).collect(),
            rules::LOG.fix,
        ));
    }
    findings
}

/// A cause as a finding; one that seems to be over is only worth knowing.
pub fn log_finding(cause: &LogCause) -> Finding {
    let time = |us: u64| rfc3339(i64::try_from(us / 1_000_000).unwrap_or(i64::MAX));
    let said = if cause.count == 1 {
        format!("logged once, at {}", time(cause.last_us))
    } else {
        format!("logged {} times from {} to {}", cause.count, time(cause.first_us), time(cause.last_us))
    };
    let meaning = cause.rule.meaning.split_once(": ").map_or(cause.rule.meaning, |(short, _)| short);
    let over = if cause.over { ", and not since: it seems to be over" } else { "" };
    let who = cause.last.unit.as_deref().or(cause.last.identifier.as_deref()).unwrap_or("unknown").to_owned();
    let source = format!("{} ({who})", cause.last.source);
    let mut finding = cause.rule.finding(
        "host",
        format!("{} ({said}{over})", meaning.trim_end_matches('.')),
        vec![
            Evidence::text("last line", cause.last.message.clone(), source.clone()),
            Evidence::new("lines", cause.count, "lines", source.clone()),
            Evidence::text("first", time(cause.first_us), source.clone()),
            Evidence::text("last", time(cause.last_us), source),
        ],
        cause.rule.fix,
    );
    if cause.over {
        finding.severity = Severity::Info;
    }
    finding
}

/// Whether the log could be looked at, and what it says: `node.log`.
pub fn log_check(log: &NodeLog, causes: usize) -> Check {
    const ID: &str = "node.log";
    if log.sources.is_empty() {
        let why = log.unread.first().map(|(path, why)| format!("{path}: {why}"));
        return Check::not_checked(
            ID,
            why.unwrap_or_else(|| "no journal, no file of syslog and no /dev/kmsg".into()),
        );
    }
    if causes > 0 {
        return Check::failed(ID, format!("{causes} causes of trouble are logged"));
    }
    if let Some((path, why)) = log.unread.first() {
        return Check::not_checked(ID, format!("{path}: {why}"));
    }
    let files = log.sources.len();
    let cut = if log.cut { ", the newest lines of them" } else { "" };
    Check::passed(
        ID,
        format!("no line of kubelet, runtime and kernel tells of trouble ({files} files read{cut})"),
    )
}
