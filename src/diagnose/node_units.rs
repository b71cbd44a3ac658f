//! The units of the kubelet and the runtime: down, in a loop of restarts, or well.

use super::Rule;
use crate::facts::{
    Check, Evidence, Finding, NodeLog, NodeLogEntry, NodeUnits, Severity, UnitState, rfc3339,
};
use std::collections::BTreeSet;

/// A unit that should run and does not.
pub const DOWN: Rule = Rule {
    id: "node.unit_down",
    severity: Severity::Critical,
    meaning: "The kubelet's or the runtime's unit is not active.",
    fix: "systemctl status UNIT and journalctl -u UNIT say why it ended; then systemctl start UNIT.",
};

/// systemd starts it again and again.
pub const RESTARTS: Rule = Rule {
    id: "node.unit_restarts",
    severity: Severity::Warning,
    meaning: "systemd had to start the kubelet or the runtime again by itself: it crashed or was killed.",
    fix: "journalctl -u UNIT says what it wrote before it ended.",
};

/// All of this family.
pub const RULES: &[Rule] = &[DOWN, RESTARTS];

/// What systemd says of the end of a unit's main process.
const END: &str = ": Main process exited, code=";

/// Whether a line tells how a unit's main process ended.
pub fn tells_end(entry: &NodeLogEntry) -> bool {
    entry.identifier.as_deref() == Some("systemd") && entry.message.contains(END)
}

/// Of a process that runs again systemd no longer knows how the one before ended: what it logged then.
pub fn add_ends(units: &mut NodeUnits, log: &NodeLog) {
    let NodeUnits::Systemd(units, _) = units else { return };
    for unit in units.iter_mut().filter(|unit| unit.exit_code == Some(0)) {
        let of_unit = |entry: &&NodeLogEntry| tells_end(entry) && entry.unit.as_deref() == Some(&unit.name);
        let last = log.entries.iter().rev().find(of_unit);
        if let Some(((code, status), entry)) =
            last.and_then(|entry| Some((parse_end(&entry.message)?, entry)))
        {
            (unit.exit_code, unit.exit_status) = (Some(code), Some(status));
            unit.exit_us = Some(entry.realtime_us);
        }
    }
}

/// `kubelet.service: Main process exited, code=killed, status=9/KILL`.
fn parse_end(message: &str) -> Option<(i32, i32)> {
    let (code, status) = message.split_once(END)?.1.split_once(", status=")?;
    let code = match code {
        "exited" => 1,
        "killed" => 2,
        "dumped" => 3,
        _ => return None,
    };
    Some((code, status.split('/').next()?.parse().ok()?))
}

const ID: &str = "node.units";
const RUNTIMES: &[&str] =
    &["containerd", "crio", "cri-o", "docker", "snap.microk8s.daemon-containerd", "snap.k8s.containerd"];
/// What the units or processes tell.
pub fn check_node_units(units: &NodeUnits) -> (Vec<Finding>, Check) {
    match units {
        NodeUnits::Unknown(why) => (Vec::new(), Check::not_checked(ID, why.clone())),
        NodeUnits::Systemd(units, source) => check_units(units, source),
        NodeUnits::Processes(found, why) if found.is_empty() => (
            Vec::new(),
            Check::not_checked(
                ID,
                format!("no systemd and no process of a kubelet or runtime to be seen: {why}"),
            ),
        ),
        // Whether each of them should run is told where the kubelet and the runtime are looked at.
        NodeUnits::Processes(found, why) => {
            let seen: Vec<String> = found.iter().map(|p| format!("{} (pid {})", p.name, p.pid)).collect();
            (
                Vec::new(),
                Check::not_checked(ID, format!("no systemd answers ({why}); running: {}", seen.join(", "))),
            )
        }
    }
}

fn check_units(units: &[UnitState], source: &str) -> (Vec<Finding>, Check) {
    let short = |unit: &UnitState| unit.name.trim_end_matches(".service").to_owned();
    let is_runtime = |unit: &UnitState| RUNTIMES.contains(&short(unit).as_str());
    let active = |unit: &UnitState| unit.active_state.as_deref() == Some("active");
    // Of several that are installed one is in use: one that never ran or is not to be started is none of ours.
    let runtime_active = units.iter().any(|unit| is_runtime(unit) && active(unit));
    let kubelet_active = units.iter().any(|unit| !is_runtime(unit) && active(unit));
    let mut findings = Vec::new();
    let mut down = BTreeSet::new();
    for unit in units {
        let idle = matches!(unit.active_state.as_deref(), Some("inactive"))
            && (unit.file_state.as_deref() != Some("enabled"))
            && (if is_runtime(unit) { runtime_active } else { kubelet_active });
        let second = is_runtime(unit) && runtime_active && unit.active_state.as_deref() == Some("inactive");
        match unit.active_state.as_deref() {
            Some("active" | "reloading") if unit.restarts.is_none_or(|restarts| restarts == 0) => {}
            Some("active" | "reloading") => findings.push(restarts(unit, source)),
            Some(_) if !idle && !second => {
                down.insert(unit.name.clone());
                findings.push(is_down(unit, source));
            }
            _ => {}
        }
    }
    if units.is_empty() {
        return (
            findings,
            Check::not_checked(ID, format!("systemd ({source}) has no unit of a known kubelet or runtime")),
        );
    }
    let check = if down.is_empty() {
        let running: Vec<&str> =
            units.iter().filter(|unit| active(unit)).map(|unit| unit.name.as_str()).collect();
        Check::passed(ID, format!("active: {}", running.join(", ")))
    } else {
        Check::failed(ID, format!("not active: {}", down.into_iter().collect::<Vec<_>>().join(", ")))
    };
    (findings, check)
}

fn is_down(unit: &UnitState, source: &str) -> Finding {
    let state = unit.active_state.as_deref().unwrap_or("unknown");
    let sub = unit.sub_state.as_deref().unwrap_or("unknown");
    let since =
        unit.since_us.filter(|us| *us > 0).map(|us| format!(" since {}", time(us))).unwrap_or_default();
    let name = &unit.name;
    if unit.load_state.as_deref() == Some("masked") {
        let summary = format!("{name} is masked, and {state} ({sub}){since}: systemd does not start it");
        let fix =
            format!("systemctl unmask {name}; systemctl start {name}. See first why somebody masked it.");
        return DOWN.finding("host", summary, evidence(unit, source), fix);
    }
    let summary = match ended(unit) {
        Some(end) => format!("{name} is {state} ({sub}){since}: {end}"),
        None => format!("{name} is {state} ({sub}){since}"),
    };
    DOWN.finding("host", summary, evidence(unit, source), DOWN.fix.replace("UNIT", name))
}

fn restarts(unit: &UnitState, source: &str) -> Finding {
    let name = &unit.name;
    let count = unit.restarts.unwrap_or_default();
    let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
    let end = ended(unit).map(|end| format!("; {end}")).unwrap_or_default();
    let summary = format!("{name} was restarted {times} by systemd, and runs now{end}");
    let mut finding =
        RESTARTS.finding("host", summary, evidence(unit, source), RESTARTS.fix.replace("UNIT", name));
    if count < 3 {
        finding.severity = Severity::Info;
    }
    finding
}

/// How its last main process ended.
fn ended(unit: &UnitState) -> Option<String> {
    let at = unit.exit_us.filter(|us| *us > 0).map(|us| format!(" at {}", time(us))).unwrap_or_default();
    let status = unit.exit_status?;
    let how = match unit.exit_code? {
        1 => format!("it exited with {status}"),
        2 => format!("it was killed by signal {status}"),
        3 => format!("it dumped core on signal {status}"),
        _ => {
            return unit.result.as_ref().filter(|r| *r != "success").map(|result| format!("result {result}"));
        }
    };
    let result =
        unit.result.as_deref().filter(|r| !matches!(*r, "success" | "exit-code" | "signal" | "core-dump"));
    Some(format!("{how}{at}{}", result.map(|r| format!(" ({r})")).unwrap_or_default()))
}

fn evidence(unit: &UnitState, source: &str) -> Vec<Evidence> {
    let from = format!("systemd over {source}");
    let mut evidence = vec![Evidence::text(
        format!("state of {}", unit.name),
        format!(
            "{} ({})",
            unit.active_state.as_deref().unwrap_or("unknown"),
            unit.sub_state.as_deref().unwrap_or("unknown")
        ),
        from.clone(),
    )];
    if let Some(restarts) = unit.restarts {
        evidence.push(Evidence::new("NRestarts", restarts, "restarts", from));
    }
    evidence
}

fn time(us: u64) -> String {
    rfc3339(i64::try_from(us / 1_000_000).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{NodeProcess, Outcome};

    fn unit(name: &str, active: &str, restarts: u32) -> UnitState {
        UnitState {
            name: format!("{name}.service"),
            active_state: Some(active.into()),
            sub_state: Some("auto-restart".into()),
            restarts: Some(restarts),
            exit_code: Some(1),
            exit_status: Some(1),
            exit_us: Some(1_795_455_716_000_000),
            ..UnitState::default()
        }
    }

    fn check(units: Vec<UnitState>) -> (Vec<(&'static str, Severity)>, Outcome) {
        let (findings, check) = check_node_units(&NodeUnits::Systemd(units, "/run/systemd/private".into()));
        (findings.iter().map(|f| (f.id, f.severity)).collect(), check.outcome)
    }

    #[test]
    fn healthy_units_say_nothing() {
        let well = vec![
            unit("kubelet", "active", 0),
            unit("containerd", "active", 0),
            unit("docker", "inactive", 0),
        ];
        assert_eq!(check(well), (vec![], Outcome::Passed));
        assert_eq!(check(vec![]), (vec![], Outcome::NotChecked));
    }

    #[test]
    fn a_crash_loop_is_down_and_says_how_it_ended() {
        let units = vec![unit("kubelet", "activating", 17), unit("containerd", "active", 5)];
        let wanted = vec![("node.unit_down", Severity::Critical), ("node.unit_restarts", Severity::Warning)];
        assert_eq!(check(units.clone()), (wanted, Outcome::Failed));
        let (findings, _) = check_node_units(&NodeUnits::Systemd(units, "x".into()));
        assert_eq!(
            findings[0].summary,
            "kubelet.service is activating (auto-restart): it exited with 1 at 2026-11-23T17:41:56Z"
        );
        assert!(findings[0].fix.contains("journalctl -u kubelet.service"));
    }

    #[test]
    fn without_another_runtime_one_that_is_inactive_is_down() {
        let units = vec![unit("kubelet", "active", 0), unit("containerd", "inactive", 0)];
        assert_eq!(check(units), (vec![("node.unit_down", Severity::Critical)], Outcome::Failed));
        let units = vec![unit("kubelet", "failed", 0), unit("containerd", "active", 1)];
        let wanted = vec![("node.unit_down", Severity::Critical), ("node.unit_restarts", Severity::Info)];
        assert_eq!(check(units), (wanted, Outcome::Failed));
    }

    #[test]
    fn how_the_process_before_ended_is_in_the_log() {
        let line = |unit: &str, message: &str, realtime_us| NodeLogEntry {
            realtime_us,
            unit: Some(unit.into()),
            identifier: Some("systemd".into()),
            transport: Some("journal".into()),
            pid: Some(1),
            priority: None,
            message: message.into(),
            boot_id: None,
            source: "x".into(),
        };
        let killed = "kubelet.service: Main process exited, code=killed, status=9/KILL";
        let log = NodeLog {
            entries: vec![
                line("kubelet.service", &killed.replace("9/KILL", "15/TERM"), 1),
                line("kubelet.service", killed, 1_795_455_716_000_000),
                line("containerd.service", "containerd.service: Main process exited, code=é", 3),
                line("kubelet.service", "Started kubelet.service", 4),
            ],
            ..NodeLog::default()
        };
        let running = |name| UnitState {
            exit_code: Some(0),
            exit_status: Some(0),
            exit_us: Some(0),
            ..unit(name, "active", 3)
        };
        let mut units = NodeUnits::Systemd(vec![running("kubelet"), running("containerd")], "x".into());
        add_ends(&mut units, &log);
        let (findings, _) = check_node_units(&units);
        let summaries: Vec<&str> = findings.iter().map(|f| f.summary.as_str()).collect();
        let wanted = [
            "kubelet.service was restarted 3 times by systemd, and runs now; it was killed by signal 9 at 2026-11-23T17:41:56Z",
            "containerd.service was restarted 3 times by systemd, and runs now",
        ];
        assert_eq!(summaries, wanted);
    }

    #[test]
    fn what_is_masked_is_said_to_be() {
        let masked = UnitState {
            load_state: Some("masked".into()),
            sub_state: Some("dead".into()),
            ..unit("kubelet", "inactive", 0)
        };
        let (findings, _) = check_node_units(&NodeUnits::Systemd(vec![masked], "x".into()));
        assert_eq!(
            findings[0].summary,
            "kubelet.service is masked, and inactive (dead): systemd does not start it"
        );
        assert!(findings[0].fix.starts_with("systemctl unmask kubelet.service"));
    }

    #[test]
    fn without_systemd_nothing_is_known_of_units() {
        let found = vec![NodeProcess { name: "kubelet".into(), pid: 7, since: None }];
        for found in [found, vec![]] {
            let (findings, check) = check_node_units(&NodeUnits::Processes(found, "no socket".into()));
            assert_eq!((findings.len(), check.outcome), (0, Outcome::NotChecked));
        }
    }
}
