//! What prevents the next incident: worth knowing, mostly not urgent.

use super::rules::{EVICTION, NO_DETECTOR, RESERVED, SHUTDOWN};
use super::{Looked, NodeView};
use crate::facts::{Evidence, KubeletConfig};

const GIB: u64 = 1 << 30;

pub(super) fn check(view: NodeView<'_>, looked: &mut Looked) {
    let processes = view.state.processes.as_ref();
    // Without a kubelet this is no node, and nothing of this is missing.
    let no_kubelet = match processes {
        Err(why) => Some(why.clone()),
        Ok(processes) => processes.kubelet.is_none().then(|| "no kubelet runs".to_owned()),
    };
    let detector = processes.is_ok_and(|p| p.problem_detector);
    let mut findings = Vec::new();
    if !detector && no_kubelet.is_none() {
        let evidence = vec![Evidence::text("processes of node-problem-detector", "none", "/proc")];
        findings.push(NO_DETECTOR.finding(
            "host",
            "node-problem-detector does not run",
            evidence,
            NO_DETECTOR.fix,
        ));
    }
    let missing = findings.first().map(|f| f.summary.clone());
    looked.add("node.problem_detector", no_kubelet.or(missing), findings, "it runs".into());
    match &view.state.kubelet {
        Ok(config) => {
            reserved(view, config, looked);
            eviction(config, looked);
            shutdown(view, config, looked);
        }
        Err(why) => {
            for id in ["node.reserved", "node.eviction", "node.shutdown"] {
                looked.add(id, Some(why.clone()), Vec::new(), String::new());
            }
        }
    }
}

/// What GKE keeps of so much memory (cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes).
pub(super) fn rule_of_thumb(memory: u64) -> u64 {
    let steps = [(4 * GIB, 25), (4 * GIB, 20), (8 * GIB, 10), (112 * GIB, 6), (u64::MAX, 2)];
    let mut left = memory;
    let mut sum = 0u64;
    for (size, percent) in steps {
        let part = left.min(size);
        sum = sum.saturating_add(part / 100 * percent);
        left -= part;
    }
    sum
}

/// A Kubernetes quantity in whole units: `1Gi`, `500M`, `1e9` is not one that people write here.
pub(super) fn quantity(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let factor = match unit {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn reserved(view: NodeView<'_>, config: &KubeletConfig, looked: &mut Looked) {
    const ID: &str = "node.reserved";
    let Some(memory) = view.state.memory_bytes else {
        looked.add(ID, Some("/proc/meminfo could not be read".into()), Vec::new(), String::new());
        return;
    };
    let mut kept = 0u64;
    for value in [&config.kube_reserved, &config.system_reserved].iter().filter_map(|map| map.get("memory")) {
        let Some(bytes) = quantity(value) else {
            looked.add(
                ID,
                Some("a quantity of reserved memory is not understood".into()),
                Vec::new(),
                String::new(),
            );
            return;
        };
        kept = kept.saturating_add(bytes);
    }
    let wanted = rule_of_thumb(memory);
    let mut findings = Vec::new();
    if kept < wanted {
        let source = config.files.last().cloned().unwrap_or_else(|| "the kubelet's default".into());
        let evidence = vec![
            Evidence::new("kubeReserved and systemReserved, memory", kept, "bytes", source),
            Evidence::new("by the rule of thumb", wanted, "bytes", "/proc/meminfo"),
        ];
        let summary = format!(
            "{} MiB of memory are kept from pods, {} MiB are advised for a node of this size",
            kept >> 20,
            wanted >> 20
        );
        findings.push(RESERVED.finding("kubelet", summary, evidence, RESERVED.fix));
    }
    looked.add(ID, None, findings, format!("{} MiB of memory are kept from pods", kept >> 20));
}

fn eviction(config: &KubeletConfig, looked: &mut Looked) {
    let off = config.eviction_hard.as_ref().is_some_and(|map| !map.contains_key("memory.available"));
    let mut findings = Vec::new();
    if off {
        let source = config.files.last().cloned().unwrap_or_default();
        let evidence = vec![Evidence::text("memory.available in evictionHard", "not set", source)];
        findings.push(EVICTION.finding(
            "kubelet",
            "no pod is evicted for want of memory",
            evidence,
            EVICTION.fix,
        ));
    }
    let well = if off { "evictionHard is set without memory" } else { "memory.available has a threshold" };
    looked.add("node.eviction", None, findings, well.into());
}

fn shutdown(view: NodeView<'_>, config: &KubeletConfig, looked: &mut Looked) {
    const ID: &str = "node.shutdown";
    let grace = config.shutdown_grace_ms.unwrap_or(0);
    if grace == 0 {
        looked.add(ID, None, Vec::new(), "graceful node shutdown is off".into());
        return;
    }
    let Some(delay) = view.state.inhibit_delay_ms else {
        looked.add(ID, Some("logind's configuration was not found".into()), Vec::new(), String::new());
        return;
    };
    let mut findings = Vec::new();
    if delay < grace {
        let evidence = vec![
            Evidence::new(
                "shutdownGracePeriod",
                grace,
                "ms",
                config.files.last().cloned().unwrap_or_default(),
            ),
            Evidence::new("InhibitDelayMaxSec", delay, "ms", "/etc/systemd/logind.conf and its drop-ins"),
        ];
        let summary = format!("pods are to get {grace} ms at shutdown, logind waits {delay} ms");
        findings.push(SHUTDOWN.finding("kubelet", summary, evidence, SHUTDOWN.fix));
    }
    let lock = match view.state.kubelet_inhibits {
        Some(true) => "the kubelet holds its lock",
        Some(false) => "the kubelet holds no lock",
        None => "whether the kubelet holds its lock was not to be seen",
    };
    looked.add(ID, None, findings, format!("pods get {grace} ms, logind waits {delay} ms; {lock}"));
}
