//! Rules on the MTUs that CNIs publish: against each other, and against the interfaces of this node.

use super::cluster::{ClusterFindings, MOST_EVIDENCE, count};
use super::cluster_rules::{GATEWAY_MTU_OFF, MTU_DIFFERS, MTU_DISAGREES};
use crate::facts::{ClusterHere, ClusterNode, ClusterState, Evidence, Finding, PublishedMtu};
use std::collections::BTreeMap;

const OF_PODS: &str = "annotation k8s.v1.cni.cncf.io/network-status";

pub(super) fn check_mtus(found: &mut ClusterFindings, state: &ClusterState, here: &ClusterHere) {
    if let Some(own) = &here.node {
        found.add(check_interfaces(state, here, own));
    }
    found.add(check_differences(state));
    found.add(check_gateways(state));
}

/// What the API tells of this node, `own`, against what the interfaces have. An interface that is not here is not compared:
/// one of DPDK has no link.
fn check_interfaces(state: &ClusterState, here: &ClusterHere, own: &str) -> impl Iterator<Item = Finding> {
    let nodes = state.nodes.iter().flatten().filter(move |node| node.name == own);
    let nodes = nodes.flat_map(|node| node.mtus.iter().map(|mtu| (None, mtu)));
    let pods = state.pods.iter().filter(move |pod| !pod.ended && pod.node.as_deref() == Some(own));
    let pods = pods.flat_map(|pod| pod.mtus.iter().map(|mtu| (Some(pod.full_name()), mtu)));
    let differ = move |(pod, told): (Option<String>, &PublishedMtu)| {
        let interface = told.interface.as_deref()?;
        let is = |(of, name, _): &&(Option<String>, String, u32)| *of == pod && name == interface;
        let (_, _, real) = here.interfaces.iter().find(is)?;
        if *real == told.mtu_bytes {
            return None;
        }
        let (who, source) = match pod {
            Some(pod) => (pod, OF_PODS),
            None => (format!("node {own}"), "label of the node"),
        };
        Some(MTU_DISAGREES.finding(
            who.clone(),
            format!("{interface} of {who} has MTU {real}, and the API says {}", told.mtu_bytes),
            vec![
                Evidence::new(format!("MTU of {}", told.network), told.mtu_bytes, "bytes", source),
                Evidence::new(format!("MTU of {interface}"), *real, "bytes", "netlink RTM_GETLINK"),
            ],
            MTU_DISAGREES.fix,
        ))
    };
    nodes.chain(pods).filter_map(differ)
}

/// Who gives a network this MTU: the first of them, and how many there are.
struct Tellers {
    first: String,
    source: &'static str,
    number: usize,
}

fn check_differences(state: &ClusterState) -> impl Iterator<Item = Finding> {
    let mut told: BTreeMap<&str, BTreeMap<u32, Tellers>> = BTreeMap::new();
    for node in state.nodes.iter().flatten() {
        for mtu in &node.mtus {
            let source = "label or annotation of the node";
            let tellers = || Tellers { first: format!("node {}", node.name), source, number: 0 };
            told.entry(&mtu.network).or_default().entry(mtu.mtu_bytes).or_insert_with(tellers).number += 1;
        }
    }
    for pod in state.pods.iter().filter(|pod| !pod.ended) {
        for mtu in &pod.mtus {
            let tellers = || {
                let first = format!("{} on {}", pod.full_name(), pod.node.as_deref().unwrap_or("no node"));
                Tellers { first, source: OF_PODS, number: 0 }
            };
            told.entry(&mtu.network).or_default().entry(mtu.mtu_bytes).or_insert_with(tellers).number += 1;
        }
    }
    told.into_iter().filter(|(_, mtus)| mtus.len() > 1).map(|(network, mtus)| {
        let values: Vec<String> = mtus.keys().take(MOST_EVIDENCE).map(u32::to_string).collect();
        let say = |(mtu, who): (&u32, &Tellers)| {
            let others = and_more(who.number.saturating_sub(1));
            Evidence::new(format!("MTU of {network}, {}{others}", who.first), *mtu, "bytes", who.source)
        };
        MTU_DIFFERS.finding(
            network,
            format!(
                "the MTU of {network} differs: {}{}",
                values.join(", "),
                and_more(mtus.len() - values.len())
            ),
            mtus.iter().take(MOST_EVIDENCE).map(say).collect(),
            MTU_DIFFERS.fix,
        )
    })
}

fn and_more(n: usize) -> String {
    if n > 0 { format!(" and {n} more") } else { String::new() }
}

fn check_gateways(state: &ClusterState) -> Option<Finding> {
    let off: Vec<&ClusterNode> = state.nodes.iter().flatten().filter(|node| node.no_gateway_mtu).collect();
    let first = off.first()?;
    let say = |node: &&ClusterNode| {
        Evidence::text(
            format!("k8s.ovn.org/gateway-mtu-support of {}", node.name),
            "false",
            "annotation of the node",
        )
    };
    Some(GATEWAY_MTU_OFF.finding(
        if off.len() == 1 { first.name.clone() } else { "cluster".to_owned() },
        format!(
            "OVN-Kubernetes does not check the size of packets at the gateway of {}",
            count(off.len(), "node")
        ),
        off.iter().take(MOST_EVIDENCE).map(say).collect(),
        GATEWAY_MTU_OFF.fix,
    ))
}
