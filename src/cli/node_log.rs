//! The log and the units of `nsprobe node`: what was logged since a time, and what is logged from now on.

use super::signals::Signals;
use super::{Context, Failure};
use crate::diagnose::node_logs::{check_node_log, concerns, find_causes, log_check, recognise};
use crate::diagnose::node_units::{add_ends, check_node_units};
use crate::facts::{Check, Finding, NodeLog, NodeLogEntry, rfc3339};
use crate::observe::journal::{LogFollower, NodeLogQuery, read_node_log};
use crate::observe::read_node_units;
use crate::report::{NodeEvent, render_node_event};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lines that are looked at, the newest; of these only those that tell of causes are held.
const MOST_LINES: usize = 500_000;
/// How often it is looked for new lines.
const LOOK: Duration = Duration::from_millis(200);

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn read(host_root: &Path, since_us: u64) -> NodeLog {
    let query = NodeLogQuery { since_us, units: true, kernel: true, keep: &concerns, most: MOST_LINES };
    read_node_log(host_root, &query)
}

/// Begins to follow, behind the newest line.
pub(super) fn begin(host_root: &Path) -> Result<LogFollower, Failure> {
    LogFollower::begin(host_root).map_err(|error| Failure::usage(format!("{}: {error}", host_root.display())))
}

/// Prints each new line that speaks of a cause, until a signal, or a reader that goes away.
pub(super) fn follow(
    mut follower: LogFollower,
    signals: &Signals,
    context: &mut Context,
) -> Result<(), Failure> {
    let sources = follower.sources().join(", ");
    context.note(&if sources.is_empty() {
        "note: there is no journal, no file of syslog and no /dev/kmsg yet: waits for one".to_owned()
    } else {
        format!("note: follows {sources}; Ctrl-C ends it")
    });
    let mut more = true;
    while !signals.wait_for_reader(if more { Duration::ZERO } else { LOOK }) {
        let new = follower.read(&|entry| recognise(entry).is_some());
        for (path, why) in &new.unread {
            context.note(&format!("note: {path}: {why}"));
        }
        for event in new.entries.iter().filter_map(event) {
            context
                .report_line("nsprobe.node_event/v1", &event, true, |out| render_node_event(&event, out))?;
        }
        more = new.more;
    }
    Ok(())
}

fn event(entry: &NodeLogEntry) -> Option<NodeEvent> {
    let rule = recognise(entry)?;
    Some(NodeEvent {
        time: rfc3339(i64::try_from(entry.realtime_us / 1_000_000).unwrap_or(i64::MAX)),
        unit: entry.unit.as_deref().or(entry.identifier.as_deref()).map(str::to_owned),
        cause: rule.id,
        severity: rule.severity,
        line: entry.message.clone(),
        source: entry.source.to_string(),
    })
}

/// What units and log since that time (microseconds since 1970) tell.
pub(super) fn look(host_root: &Path, since_us: u64) -> (Vec<Finding>, Vec<Check>) {
    let now = now_us();
    let mut units = read_node_units(host_root);
    let log = read(host_root, since_us);
    add_ends(&mut units, &log);
    let (mut findings, units) = check_node_units(&units);
    let logged = check_node_log(&log, now);
    let over = find_causes(&log, now).iter().filter(|cause| !cause.over).count();
    findings.extend(logged);
    (findings, vec![units, log_check(&log, over)])
}
