//! Rules on a node: kubelet, runtime, CNI, what is left of everything, and what prevents the next incident.
//! What could not be read is a check that was *not* made.

mod disks;
#[cfg(test)]
mod embedded_tests;
mod prevent;
mod quantity;
mod room;
mod rules;
#[cfg(test)]
mod tests;

pub use rules::*;

use super::config::CNI_UNREADABLE;
use super::kernel::Looked;
use super::runtime::check_runtime;
use crate::facts::{
    CallTime, CgroupDriver, Check, CniConfig, Degraded, DegradedReason, Evidence, Finding, Health, NodeState,
    Outcome, Severity,
};

/// Checks without which nobody can call a node healthy.
pub const ESSENTIAL: &[&str] = &["node.kubelet", "node.runtime", "node.cni", "net.forwarding"];

/// What is known of a node.
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    /// Its files and /proc.
    pub state: &'a NodeState,
    /// Its CNI configuration.
    pub cni: &'a CniConfig,
    /// What its runtime took to answer.
    pub calls: &'a [CallTime],
    /// Why that does not answer.
    pub degraded: Option<&'a Degraded>,
    /// Where it was asked.
    pub endpoint: Option<&'a str>,
    /// Seconds since 1970.
    pub now: i64,
}

/// Every rule of this family.
pub fn check_node(view: NodeView<'_>) -> Looked {
    let mut looked = Looked::default();
    check_kubelet(view, &mut looked);
    check_calls(view, &mut looked);
    check_drivers(view, &mut looked);
    check_cni(view, &mut looked);
    room::check(view, &mut looked);
    prevent::check(view, &mut looked);
    looked
}

/// One word: critical findings break, warnings degrade, an essential check that could not look is never healthy.
pub fn node_verdict(findings: &[Finding], checks: &[Check]) -> Health {
    let blind = |c: &Check| c.outcome == Outcome::NotChecked && ESSENTIAL.contains(&c.id.as_ref());
    let seen = |id: &&str| checks.iter().any(|c| c.id.as_ref() == *id);
    match findings.iter().map(|f| f.severity).max() {
        Some(Severity::Critical) => Health::Broken,
        Some(Severity::Warning) => Health::Degraded,
        _ if checks.iter().any(blind) || !ESSENTIAL.iter().all(seen) => Health::Unknown,
        _ => Health::Healthy,
    }
}

fn check_kubelet(view: NodeView<'_>, looked: &mut Looked) {
    let mut findings = Vec::new();
    let mut unread = None;
    match (&view.state.processes, &view.state.kubelet) {
        (Err(why), _) => unread = Some(why.clone()),
        (Ok(processes), _) if processes.kubelet.is_some() => {}
        (Ok(_), Ok(config)) => {
            let source = config.files.first().cloned().unwrap_or_default();
            let evidence = vec![
                Evidence::text("processes of the kubelet", "none", "/proc"),
                Evidence::text("its configuration", "there", source),
            ];
            findings.push(KUBELET_DOWN.finding(
                "kubelet",
                "the kubelet does not run",
                evidence,
                KUBELET_DOWN.fix,
            ));
        }
        (Ok(_), Err(why)) => unread = Some(format!("no kubelet runs; its configuration: {why}")),
    }
    let process = view.state.processes.as_ref().ok().and_then(|processes| processes.kubelet.as_ref());
    let well = match process.and_then(|process| process.inside) {
        Some(host) => format!("the kubelet runs, inside {}", host.name()),
        None => "the kubelet runs".into(),
    };
    looked.add("node.kubelet", unread, findings, well);
}

/// Past this a call takes long, milliseconds: well-run nodes answer in a few.
const SLOW_MS: f64 = 300.0;

fn check_calls(view: NodeView<'_>, looked: &mut Looked) {
    let findings: Vec<Finding> = match view.degraded {
        Some(degraded) => vec![check_runtime(degraded, view.endpoint)],
        None => {
            let slow: Vec<Evidence> = view
                .calls
                .iter()
                .filter(|call| call.ms >= SLOW_MS)
                .map(|call| {
                    let ms = (call.ms * 10.0).round() / 10.0;
                    Evidence::new(call.call, ms, "ms", view.endpoint.unwrap_or("CRI").to_owned())
                })
                .collect();
            let finding = |evidence| {
                RUNTIME_SLOW.finding(
                    "runtime",
                    "the container runtime answers slowly",
                    evidence,
                    RUNTIME_SLOW.fix,
                )
            };
            (!slow.is_empty()).then(|| finding(slow)).into_iter().collect()
        }
    };
    let unread = view
        .degraded
        .map(|degraded| degraded.detail.clone())
        .or_else(|| view.calls.is_empty().then(|| "the runtime was not asked".to_owned()));
    let times: Vec<String> = view.calls.iter().map(|c| format!("{} {:.0} ms", c.call, c.ms)).collect();
    looked.add("node.runtime", unread, findings, times.join(", "));
}

fn check_drivers(view: NodeView<'_>, looked: &mut Looked) {
    const ID: &str = "node.cgroup_driver";
    let state = view.state;
    let unreadable = |why: &String| {
        let evidence = vec![Evidence::text("why", why.clone(), "configuration files")];
        CONFIG_UNREADABLE.finding("host", why.clone(), evidence, CONFIG_UNREADABLE.fix)
    };
    let strange = [state.kubelet.as_ref().err(), state.runtime.as_ref().err()];
    let strange = strange.into_iter().flatten().filter(|why| {
        ["is no YAML", "is no TOML", "not known", "holds no kubelet", "no duration"]
            .iter()
            .any(|w| why.contains(w))
    });
    let mut findings: Vec<Finding> = strange.map(unreadable).collect();
    let mut evidence = Vec::new();
    if let Ok(config) = &state.kubelet
        && config.driver_unknown.is_none()
    {
        let stated = config.cgroup_driver.as_ref();
        evidence.push(Evidence::text(
            "cgroupDriver of the kubelet",
            stated.map_or("cgroupfs", |d| d.value.as_str()).to_owned(),
            stated.map_or_else(|| "the kubelet's default".to_owned(), |d| d.source.clone()),
        ));
    }
    if let Ok(runtime) = &state.runtime {
        let driver = &runtime.driver;
        let what = format!("cgroup driver of {}", runtime.runtime);
        evidence.push(Evidence::text(what, driver.value.name(), driver.source.clone()));
    }
    let processes = state.processes.as_ref().ok();
    if let Some(torn) = processes.and_then(|p| p.torn_cgroup.clone()) {
        evidence.insert(0, Evidence::text("cgroup of a pod's process", torn, "/proc/PID/cgroup"));
        let summary = "kubelet and container runtime use different cgroup drivers";
        findings.push(CGROUP_TORN.finding("host", summary, evidence, CGROUP_TORN.fix));
        looked.add(ID, None, findings, String::new());
        return;
    }
    let (kubelet, runtime) = match (&state.kubelet, &state.runtime) {
        (Ok(kubelet), Ok(runtime)) => (kubelet, runtime),
        (Err(why), _) | (_, Err(why)) => {
            looked.add(ID, Some(why.clone()), findings, String::new());
            return;
        }
    };
    if let Some(why) = &kubelet.driver_unknown {
        // The kubelet makes the upper half of a pod's cgroup: what it is like shows what it uses.
        let theirs = runtime.driver.value;
        let shown = processes.is_some_and(|p| p.pod_cgroups.keys().eq([&theirs]));
        let unread = (!shown).then(|| why.clone());
        looked.add(
            ID,
            unread,
            findings,
            format!("pods run with {}, as does {}", theirs.name(), runtime.runtime),
        );
        return;
    }
    let own = kubelet.cgroup_driver.as_ref().map_or("cgroupfs", |d| d.value.as_str());
    let theirs = runtime.driver.value;
    let pods: Vec<CgroupDriver> = processes.into_iter().flat_map(|p| p.pod_cgroups.keys().copied()).collect();
    let agreed = own == theirs.name();
    // A kubelet that is told follows, one that is not cannot; where nobody knows, the pods' cgroups show.
    let gave_way = runtime.hands_driver.unwrap_or_else(|| pods == [theirs]);
    if !agreed && !gave_way && runtime.hands_driver.is_none() && pods.is_empty() {
        let why = format!(
            "the kubelet is set to {own}, {} to {}: whether the kubelet follows is not known while that does not answer",
            runtime.runtime,
            theirs.name()
        );
        looked.add(ID, Some(why), findings, String::new());
        return;
    }
    if !agreed && !gave_way {
        let summary = format!("the kubelet is set to {own}, {} to {}", runtime.runtime, theirs.name());
        findings.push(CGROUP_DIFFERS.finding("host", summary, evidence, CGROUP_DIFFERS.fix));
    }
    let well = if agreed {
        format!("both use {own}")
    } else if runtime.hands_driver == Some(true) {
        format!("the kubelet is set to {own} and takes {} from the runtime", theirs.name())
    } else {
        format!("the kubelet is set to {own}, and pods run with {}", theirs.name())
    };
    looked.add(ID, None, findings, well);
}

/// Where CNI's configuration was looked for.
fn places(cni: &CniConfig) -> String {
    if cni.folders.is_empty() { "/etc/cni/net.d".to_owned() } else { cni.folders.join(", ") }
}

fn check_cni(view: NodeView<'_>, looked: &mut Looked) {
    let files = &view.cni.files;
    let mut findings = Vec::new();
    let no_runtime = view.degraded.is_some_and(|d| d.reason == DegradedReason::NoRuntime);
    let no_kubelet = view.state.processes.as_ref().is_ok_and(|p| p.kubelet.is_none());
    let no_node = files.is_empty() && no_runtime && no_kubelet;
    if files.is_empty() && !no_node {
        let evidence = vec![Evidence::text("CNI configuration files", "none", places(view.cni))];
        findings.push(CNI_MISSING.finding(
            "host",
            "no CNI configuration is on this node",
            evidence,
            CNI_MISSING.fix,
        ));
    }
    if let Some((file, Err(why))) = files.first().map(|file| (file, &file.content)) {
        let summary = format!("{} is invalid: {why}", file.path);
        let evidence = vec![Evidence::text("what is wrong with it", why.clone(), file.path.clone())];
        findings.push(CNI_UNREADABLE.finding("host", summary, evidence, CNI_UNREADABLE.fix));
    }
    if let [first, _, ..] = files.as_slice() {
        let folder = first.path.rsplit_once('/').map_or("/etc/cni/net.d", |(folder, _)| folder);
        let all: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
        let evidence = vec![Evidence::text("files in order", all.join(", "), folder.to_owned())];
        let summary = format!("{} CNI configurations, {} counts", files.len(), first.path);
        findings.push(CNI_SEVERAL.finding("host", summary, evidence, CNI_SEVERAL.fix));
    }
    let well = files.first().map(|f| f.path.clone()).unwrap_or_default();
    let unread = no_node.then(|| "no kubelet, no runtime and no CNI are on this machine".to_owned());
    looked.add("node.cni", unread, findings, well);
    let mut findings = Vec::new();
    for plugin in &view.state.plugins {
        if let Err(why) = &plugin.found {
            let summary = format!("the CNI plugin {} cannot be run: {why}", plugin.kind);
            let evidence = vec![Evidence::text("program", why.clone(), "the runtime's plugin folders")];
            findings.push(PLUGIN_MISSING.finding("host", summary, evidence, PLUGIN_MISSING.fix));
        }
    }
    let found: Vec<&str> =
        view.state.plugins.iter().filter_map(|p| p.found.as_ref().ok()).map(String::as_str).collect();
    let unread = found.is_empty().then(|| "no CNI program was found to look at".to_owned());
    looked.add("node.cni_plugins", unread, findings, found.join(", "));
}
