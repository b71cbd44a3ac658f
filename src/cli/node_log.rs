//! The log and the units of `nsprobe node`: what was logged since a time.

use crate::diagnose::node_logs::{check_node_log, concerns, find_causes, log_check};
use crate::diagnose::node_units::check_node_units;
use crate::facts::{Check, Finding, NodeLog};
use crate::observe::journal::{NodeLogQuery, read_node_log};
use crate::observe::read_node_units;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lines that are looked at, the newest; of these only those that tell of causes are held.
const MOST_LINES: usize = 500_000;

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn read(host_root: &Path, since_us: u64) -> NodeLog {
    let query = NodeLogQuery { since_us, units: true, kernel: true, keep: &concerns, most: MOST_LINES };
    read_node_log(host_root, &query)
}

/// What units and log of the last `since` tell.
pub(super) fn look(host_root: &Path, since: Duration) -> (Vec<Finding>, Vec<Check>) {
    let now = now_us();
    let (mut findings, units) = check_node_units(&read_node_units(host_root));
    let log = read(host_root, now.saturating_sub(micros(since)));
    let logged = check_node_log(&log, now);
    let over = find_causes(&log, now).iter().filter(|cause| !cause.over).count();
    findings.extend(logged);
    (findings, vec![units, log_check(&log, over)])
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
