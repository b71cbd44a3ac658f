//! Rules on what a node routes into a bridge.

use super::Rule;
use super::chain::{bridge_of, global_addresses, outward, sending_mtu};
use super::link_fixes as fixes;
use super::links::{Place, ROWS, list, mtu_of, sent, subject_of};
use crate::facts::{Finding, Link, Namespace, Severity};
use std::collections::BTreeMap;

/// A bridge that the node routes into takes less than all that hang on it.
pub(super) const BRIDGE_BELOW_PODS: Rule = Rule {
    id: "links.bridge_below_pods",
    severity: Severity::Warning,
    meaning: "The node routes into a bridge whose MTU is smaller than that of every port and pod: pods announce segments that do not fit, large answers to them draw a PTB from this node, and hang where it is filtered. Between pods of the bridge all fits.",
    fix: "Give the bridge the MTU of its ports.",
};

pub(super) fn check_routed_bridges(node: &Namespace, pods: &[&Namespace], findings: &mut Vec<Finding>) {
    let mut groups: BTreeMap<(u32, u32), Vec<Place<'_>>> = BTreeMap::new();
    for pod in pods {
        for (inside, outside) in outward(pod, node) {
            // One without an address only switches: its own MTU limits nothing.
            let routed = |bridge: &&Link| bridge.up && global_addresses(bridge).next().is_some();
            let Some(bridge) = bridge_of(node, outside).filter(routed) else { continue };
            let sends = sending_mtu(pod, inside);
            if sends > bridge.mtu_bytes {
                groups.entry((bridge.index, sends)).or_default().push((&pod.subject, inside));
            }
        }
    }
    for ((index, sends), who) in groups {
        let Some(bridge) = node.links.iter().find(|l| l.index == index) else { continue };
        let ports = node.links.iter().filter(|l| l.up && l.master.as_deref() == Some(&bridge.name));
        // The kernel makes a bridge as small as its smallest port, which has a rule of its own.
        let least = ports.map(|p| p.mtu_bytes).min().unwrap_or(0);
        if least <= bridge.mtu_bytes {
            continue;
        }
        let names: Vec<&str> = who.iter().map(|(subject, _)| *subject).collect();
        let mut evidence: Vec<_> = who.iter().take(ROWS).map(|(pod, link)| sent(pod, link, sends)).collect();
        evidence.push(mtu_of("host", &bridge.name, bridge.mtu_bytes));
        findings.push(BRIDGE_BELOW_PODS.finding(
            subject_of(&names),
            format!(
                "{}: packets of up to {sends} bytes are welcome there, {} takes {} of what this node routes to them",
                list(&names),
                bridge.name,
                bridge.mtu_bytes
            ),
            evidence,
            fixes::raise_bridge(&bridge.name, least),
        ));
    }
}
