//! What prevents the next incident: worth knowing, mostly not urgent.

use super::disks::stated;
use super::quantity::{thousandths, threshold, whole};
use super::rules::{EVICTION, NO_DETECTOR, RESERVED, SHUTDOWN, SHUTDOWN_NO_LOCK, SHUTDOWN_OFF};
use super::{Looked, NodeView};
use crate::facts::{Evidence, KubeletConfig};
use std::collections::BTreeMap;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// As many pods as a kubelet takes when nobody says anything.
const MAX_PODS: u64 = 110;

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
            eviction(view, config, looked);
            shutdown(view, config, looked);
        }
        Err(why) => {
            for id in ["node.reserved", "node.eviction", "node.shutdown"] {
                looked.add(id, Some(why.clone()), Vec::new(), String::new());
            }
        }
    }
}

/// Memory that providers keep from pods on a node like this, bytes.
///
/// Sources: GKE, "Plan node sizes" (255 MiB below 1 GiB; 25 % of the first 4 GiB, 20 % of the next 4, 10 % of the next
/// 8, 6 % of the next 112, 2 % of the rest); AKS, "Node resource reservations" (from 1.29 on: the smaller of 20 MB a
/// pod and 50 MB, and of 25 %); EKS, amazon-eks-ami (255 MiB and 11 MiB a pod).
pub(super) fn memory_kept_by_providers(memory: u64, max_pods: u64) -> [(&'static str, u64); 3] {
    let steps = [(4 * GIB, 25), (4 * GIB, 20), (8 * GIB, 10), (112 * GIB, 6), (u64::MAX, 2)];
    let (mut left, mut gke) = (memory, 0u64);
    for (size, percent) in steps {
        let part = left.min(size);
        gke = gke.saturating_add(part / 100 * percent);
        left -= part;
    }
    if memory < GIB {
        gke = 255 * MIB;
    }
    let by_pods = |each: u64, base: u64| max_pods.saturating_mul(each).saturating_add(base);
    let aks = by_pods(20_000_000, 50_000_000).min(memory / 4);
    [("GKE", gke), ("AKS", aks), ("EKS", by_pods(11 * MIB, 255 * MIB))]
}

/// What GKE and EKS keep of so many processors, thousandths of one: 6 % of the first, 1 % of the second, 0.5 % of the
/// next two, 0.25 % of the rest (the same sources; AKS keeps more).
pub(super) fn cpu_kept_by_providers(cpus: u64) -> u64 {
    let tenths =
        |from: u64, to: u64, each: u64| cpus.clamp(from, to).saturating_sub(from).saturating_mul(each);
    (tenths(0, 1, 600) + tenths(1, 2, 100) + tenths(2, 4, 50)).saturating_add(tenths(4, u64::MAX, 25)) / 10
}

/// What kubeReserved and systemReserved keep together; `None` when one of them is no quantity.
fn kept(config: &KubeletConfig, of: &str, read: fn(&str) -> Option<u64>) -> Option<u64> {
    let maps: [&BTreeMap<String, String>; 2] = [&config.kube_reserved, &config.system_reserved];
    let values = maps.into_iter().filter_map(|map| map.get(of));
    values.map(|value| read(value)).try_fold(0u64, |sum, value| Some(sum.saturating_add(value?)))
}

fn config_source(config: &KubeletConfig) -> String {
    config.files.last().cloned().unwrap_or_else(|| "the kubelet's default".into())
}

fn reserved(view: NodeView<'_>, config: &KubeletConfig, looked: &mut Looked) {
    const ID: &str = "node.reserved";
    let mut findings = Vec::new();
    let mut unread = None;
    let mut well = Vec::new();
    match (view.state.memory_bytes, kept(config, "memory", whole)) {
        (None, _) => unread = Some("/proc/meminfo could not be read".to_owned()),
        (_, None) => unread = Some("a quantity of reserved memory is not understood".to_owned()),
        (Some(memory), Some(kept)) => {
            let pods = config.max_pods.as_ref().map_or(MAX_PODS, |max| u64::from(max.value));
            let mut providers = memory_kept_by_providers(memory, pods);
            providers.sort_by_key(|(_, bytes)| *bytes);
            let words: Vec<String> =
                providers.iter().map(|(name, bytes)| format!("{name} {} MiB", bytes >> 20)).collect();
            if providers.first().is_some_and(|(_, least)| kept < *least) {
                let mut evidence = vec![Evidence::new(
                    "kubeReserved and systemReserved, memory",
                    kept,
                    "bytes",
                    config_source(config),
                )];
                evidence.push(Evidence::new("memory of this node", memory, "bytes", "/proc/meminfo"));
                evidence.push(Evidence::new("maxPods", pods, "pods", config_source(config)));
                let summary = format!(
                    "{} MiB of memory are kept from pods; of {} MiB and for {pods} pods providers keep: {}",
                    kept >> 20,
                    memory >> 20,
                    words.join(", ")
                );
                findings.push(RESERVED.finding("kubelet", summary, evidence, RESERVED.fix));
            }
            well.push(format!("{} MiB of memory are kept from pods", kept >> 20));
        }
    }
    match (&config.reserved_cpus, view.state.cpus, kept(config, "cpu", thousandths)) {
        (Some(list), ..) => well.push(format!("CPUs {list} are kept from pods")),
        (None, None, _) => unread = unread.or_else(|| Some("the processors could not be counted".to_owned())),
        (None, _, None) => {
            unread = unread.or_else(|| Some("a quantity of reserved CPU is not understood".to_owned()));
        }
        (None, Some(cpus), Some(kept)) => {
            let wanted = cpu_kept_by_providers(cpus);
            if kept < wanted {
                let evidence = vec![
                    Evidence::new(
                        "kubeReserved and systemReserved, cpu",
                        kept,
                        "millicores",
                        config_source(config),
                    ),
                    Evidence::new("processors of this node", cpus, "processors", "/proc/stat"),
                ];
                let summary = format!(
                    "{kept} millicores are kept from pods; GKE and EKS keep {wanted} of {cpus} processors"
                );
                findings.push(RESERVED.finding("kubelet", summary, evidence, RESERVED.fix));
            }
            well.push(format!("{kept} millicores are kept"));
        }
    }
    looked.add(ID, unread, findings, well.join(", "));
}

fn eviction(view: NodeView<'_>, config: &KubeletConfig, looked: &mut Looked) {
    // Any capacity will do: whether a threshold is on does not depend on it.
    let memory = view.state.memory_bytes.unwrap_or(GIB);
    let on = |name, default| {
        stated(config, name, default).is_some_and(|t| threshold(t, memory).is_some_and(|t| t > 0))
    };
    let signals = [
        ("memory.available", "100Mi", "memory"),
        ("nodefs.available", "10%", "disk"),
        ("nodefs.inodesFree", "5%", "inodes"),
    ];
    let off: Vec<_> = signals.into_iter().filter(|(name, default, _)| !on(name, *default)).collect();
    let mut findings = Vec::new();
    if !off.is_empty() {
        let source = config_source(config);
        let evidence = off
            .iter()
            .map(|(name, ..)| Evidence::text(format!("{name} in evictionHard"), "off", source.clone()))
            .collect();
        let want: Vec<&str> = off.iter().map(|(.., want)| *want).collect();
        let lines: Vec<String> = off.iter().map(|(name, value, _)| format!("{name}: {value}")).collect();
        findings.push(EVICTION.finding(
            "kubelet",
            format!("no pod is evicted for want of {}", want.join(" or ")),
            evidence,
            format!("Add to evictionHard in the kubelet's configuration: {}.", lines.join(", ")),
        ));
    }
    let words = |(name, default, _)| format!("{name} {}", stated(config, name, default).unwrap_or("off"));
    let well = signals.map(words).join(", ");
    looked.add("node.eviction", None, findings, well);
}

fn time(ms: u64) -> String {
    match ms {
        u64::MAX => "for ever".into(),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

fn shutdown(view: NodeView<'_>, config: &KubeletConfig, looked: &mut Looked) {
    const ID: &str = "node.shutdown";
    let grace = config.shutdown_grace_ms.unwrap_or(0);
    let Some(delay) = view.state.inhibit_delay_ms else {
        return looked.add(
            ID,
            Some("logind's configuration was not found".into()),
            Vec::new(),
            String::new(),
        );
    };
    let stated = Evidence::new("shutdownGracePeriod", grace, "ms", config_source(config));
    if grace == 0 {
        let finding = SHUTDOWN_OFF.finding(
            "kubelet",
            "graceful node shutdown is off: a reboot kills pods without notice",
            vec![stated],
            SHUTDOWN_OFF.fix,
        );
        return looked.add(ID, None, vec![finding], "graceful node shutdown is off".into());
    }
    let mut findings = Vec::new();
    if delay < grace {
        let source = "/etc/systemd/logind.conf and its drop-ins";
        let evidence = vec![stated.clone(), Evidence::new("InhibitDelayMaxSec", delay, "ms", source)];
        let summary = format!("pods are to get {} at shutdown, logind waits {}", time(grace), time(delay));
        findings.push(SHUTDOWN.finding("kubelet", summary, evidence, SHUTDOWN.fix));
    }
    let runs = view.state.processes.as_ref().is_ok_and(|p| p.kubelet.is_some());
    let lock = match view.state.kubelet_inhibits {
        Some(true) => "the kubelet holds its lock",
        Some(false) => "the kubelet holds no lock",
        None => "whether the kubelet holds its lock was not to be seen",
    };
    if runs && view.state.kubelet_inhibits == Some(false) {
        let evidence =
            vec![stated, Evidence::text("inhibitor lock of the kubelet", "none", "/run/systemd/inhibit")];
        let summary = "the kubelet holds no lock against shutdown: a reboot does not wait for it";
        findings.push(SHUTDOWN_NO_LOCK.finding("kubelet", summary, evidence, SHUTDOWN_NO_LOCK.fix));
    }
    looked.add(ID, None, findings, format!("pods get {}, logind waits {}; {lock}", time(grace), time(delay)));
}
