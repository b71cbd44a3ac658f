//! What to do where configuration and reality differ.

use crate::facts::{CniFile, NewPods};
use std::collections::BTreeMap;

/// Pods that one command names at most.
const MOST: usize = 20;

/// The larger ports are those of pods that were made before the setting changed.
pub(super) fn older_ports(given: &NewPods) -> String {
    format!(
        "new pods get {} ({} in {}): the larger ports are those of other pods; nsprobe links, without a name, lists them; recreate those",
        given.mtu_bytes, given.stated_by, given.path
    )
}

/// `kubectl delete pod -n default a b; kubectl delete pod -n shop c`.
pub(super) fn recreate(pods: &[&str]) -> String {
    let mut spaces: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (space, name) in pods.iter().take(MOST).filter_map(|pod| pod.split_once('/')) {
        spaces.entry(space).or_default().push(name);
    }
    let commands: Vec<String> = spaces
        .iter()
        .map(|(space, names)| format!("kubectl delete pod -n {space} {}", names.join(" ")))
        .collect();
    let more = if pods.len() > MOST {
        format!("; and {} more, which nsprobe links -v names", pods.len() - MOST)
    } else {
        String::new()
    };
    format!("{}{more} (what owns them makes them anew; a pod without an owner is gone)", commands.join("; "))
}

pub(super) fn unreadable(path: &str, next: Option<&CniFile>) -> String {
    let next = next.map(|file| format!(" ({} would be the next)", file.path)).unwrap_or_default();
    format!(
        "mend {path}, or move it out of the folder{next}; then see that nsprobe links and the runtime's log are quiet"
    )
}

/// Restarting the agent lets it find out anew.
pub(super) fn agent(plugin: &str) -> String {
    match plugin {
        "flannel" => "kubectl rollout restart -n kube-flannel daemonset kube-flannel-ds: flannel measures the uplink anew, and writes both".into(),
        "calico" => "kubectl rollout restart -n calico-system daemonset calico-node (kube-system without the operator): Felix sets its tunnels anew, and writes the file".into(),
        other => format!("restart the agent of {other} on this node"),
    }
}

/// The setting in its file gets what fits.
pub(super) fn setting(given: &NewPods, carries: u32) -> String {
    let what = match given.stated_by.as_str() {
        "FLANNEL_MTU" | "Calico's MTU" => {
            format!("{} (then it writes {carries} into {})", agent(&given.plugin), given.path)
        }
        _ => format!(
            "set {} in {} to {carries}, in what writes that file (a ConfigMap, mostly)",
            given.stated_by, given.path
        ),
    };
    format!("{what}; then recreate the pods")
}
