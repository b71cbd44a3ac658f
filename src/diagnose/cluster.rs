//! Rules on the cluster: pods without a node, on broken nodes, restarting, with addresses that cannot be right.

use super::cluster_mtu::check_mtus;
use super::cluster_rules::{
    DUPLICATE_IP, GATED_FIX, IP_DISAGREES, NODE_NOT_READY, NOT_LOOKED_AT, RESTARTS, UNSCHEDULED,
};
use crate::facts::{
    ClusterHere, ClusterNode, ClusterPod, ClusterState, Evidence, Finding, Lack, Pod, Severity, Unscheduled,
    unix_seconds,
};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Evidence of one finding; the summary tells the whole number.
pub(super) const MOST_EVIDENCE: usize = 10;
/// Findings of one rule; the last tells how many more.
const MOST_FINDINGS: usize = 20;
/// Seconds that a scheduler has for its first word about a pod.
const SCHEDULERS_TIME: i64 = 30;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterFindings {
    /// At most 20 of a rule; the last of them tells how many more there are.
    pub findings: Vec<Finding>,
    /// How many more there are, by severity.
    pub more: BTreeMap<Severity, usize>,
}

impl ClusterFindings {
    /// Adds the findings of one rule.
    pub(super) fn add(&mut self, of_one_rule: impl IntoIterator<Item = Finding>) {
        let mut all = of_one_rule.into_iter();
        self.findings.extend(all.by_ref().take(MOST_FINDINGS));
        let more = all.count();
        if let Some(last) = self.findings.last_mut().filter(|_| more > 0) {
            last.summary.push_str(&format!(" (and {more} more of {}, not listed)", last.id));
            *self.more.entry(last.severity).or_default() += more;
        }
    }
}

/// What is wrong in the cluster, and what the API tells otherwise than this node is.
pub fn check_cluster(state: &ClusterState, here: &ClusterHere, restarts_over: u32) -> ClusterFindings {
    let mut found = ClusterFindings::default();
    found.add(check_nodes(state));
    found.add(check_addresses(state, &here.pods));
    found.add(check_duplicates(state));
    found.add(check_unscheduled(state));
    found.add(check_restarts(state, restarts_over));
    check_mtus(&mut found, state, here);
    found.add(check_unseen(state));
    found
}

fn check_unseen(state: &ClusterState) -> impl Iterator<Item = Finding> {
    state.not_looked_at.iter().map(|unseen| {
        let (source, fix) = match unseen.lack {
            Lack::Rights => (source(state), NOT_LOOKED_AT.fix),
            Lack::Answer => (source(state), "Ask again; a server that is only slow may need --deadline 2m."),
            Lack::Here => (
                "this node".to_owned(),
                "On a worker: does its runtime answer (nsprobe pods)? Run it as root.",
            ),
        };
        NOT_LOOKED_AT.finding(
            "cluster",
            format!("{}: not looked at", unseen.what),
            vec![Evidence::text("why", unseen.why.clone(), source)],
            fix,
        )
    })
}

fn source(state: &ClusterState) -> String {
    format!("API server {}", state.server)
}

fn check_nodes(state: &ClusterState) -> impl Iterator<Item = Finding> {
    let mut on: HashMap<&str, Vec<&ClusterPod>> = HashMap::new();
    for pod in state.pods.iter().filter(|pod| !pod.ended) {
        if let Some(node) = &pod.node {
            on.entry(node).or_default().push(pod);
        }
    }
    let broken = |node: &&ClusterNode| node.ready != Some(true);
    let check = move |node: &ClusterNode| {
        let pods = on.get(node.name.as_str()).map(Vec::as_slice).unwrap_or_default();
        let word = if node.ready.is_none() { "Unknown" } else { "False" };
        let mut evidence = vec![
            Evidence::text("condition Ready", format!("{word}: {}", node.why), source(state)),
            Evidence::new("pods on it", pods.len(), "pods", source(state)),
        ];
        evidence.extend(
            pods.iter().take(MOST_EVIDENCE).map(|p| Evidence::text("pod", p.full_name(), source(state))),
        );
        NODE_NOT_READY.finding(
            node.name.clone(),
            format!("node {} is not ready, with {} on it", node.name, count(pods.len(), "pod")),
            evidence,
            NODE_NOT_READY.fix,
        )
    };
    state.nodes.iter().flatten().filter(broken).map(check)
}

/// Addresses of this node's pods; the node's own network is not CNI's.
fn check_addresses(state: &ClusterState, here: &[Pod]) -> Vec<Finding> {
    if here.is_empty() {
        return Vec::new();
    }
    let by_uid: HashMap<&str, &ClusterPod> = state.pods.iter().map(|pod| (pod.uid.as_str(), pod)).collect();
    let mut findings = Vec::new();
    for pod in here.iter().filter(|pod| pod.host_network != Some(true) && !pod.ips.is_empty()) {
        let Some(told) = by_uid.get(pod.uid.as_str()) else { continue };
        // Without an address the kubelet has not reported yet.
        if told.host_network || told.ended || told.ips.is_empty() || same(&pod.ips, &told.ips) {
            continue;
        }
        findings.push(IP_DISAGREES.finding(
            told.full_name(),
            format!(
                "{} has {} here, and {} in the API",
                told.full_name(),
                addresses(&pod.ips),
                addresses(&told.ips)
            ),
            vec![
                Evidence::text("status.podIPs", addresses(&told.ips), source(state)),
                Evidence::text("addresses of its sandbox", addresses(&pod.ips), "this node's runtime"),
            ],
            IP_DISAGREES.fix,
        ));
    }
    findings
}

fn same(left: &[IpAddr], right: &[IpAddr]) -> bool {
    left.len() == right.len() && left.iter().all(|ip| right.contains(ip))
}

fn check_duplicates(state: &ClusterState) -> impl Iterator<Item = Finding> {
    let mut holders: BTreeMap<IpAddr, Vec<&ClusterPod>> = BTreeMap::new();
    for pod in state.pods.iter().filter(|pod| !pod.ended && !pod.host_network) {
        pod.ips.iter().for_each(|ip| holders.entry(*ip).or_default().push(pod));
    }
    holders.into_iter().filter(|(_, pods)| pods.len() > 1).map(|(ip, pods)| {
        let place = |p: &&ClusterPod| {
            let at = format!("{} on {}", p.full_name(), p.node.as_deref().unwrap_or("no node"));
            Evidence::text("pod with this address", at, source(state))
        };
        DUPLICATE_IP.finding(
            ip.to_string(),
            format!("{ip} is the address of {}", count(pods.len(), "live pod")),
            pods.iter().take(MOST_EVIDENCE).map(place).collect(),
            DUPLICATE_IP.fix,
        )
    })
}

/// One finding for each reason to wait: pods of one Deployment have the same.
fn check_unscheduled(state: &ClusterState) -> impl Iterator<Item = Finding> {
    let mut reasons: BTreeMap<(String, &'static str), Vec<&ClusterPod>> = BTreeMap::new();
    for pod in &state.pods {
        if let Some(reason) = pod.unscheduled.as_ref().and_then(|waits| reason(waits, state.asked_at)) {
            reasons.entry(reason).or_default().push(pod);
        }
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, pods)| std::cmp::Reverse(pods.len()));
    reasons.into_iter().map(|((reason, fix), pods)| {
        let first = pods.first().map(|p| p.full_name()).unwrap_or_default();
        let subject = if pods.len() == 1 { first.clone() } else { "cluster".to_owned() };
        let who = if pods.len() == 1 { format!("{first} has") } else { format!("{} pods have", pods.len()) };
        let word = |p: &&ClusterPod| {
            let waits = p.unscheduled.as_ref();
            let since = waits.and_then(|u| u.since.as_deref()).unwrap_or("an unknown time");
            let from = waits.map_or("", |u| u.since_source);
            Evidence::text(format!("{} waits since", p.full_name()), since.to_owned(), from)
        };
        let said = |p: &&ClusterPod| p.unscheduled.as_ref().filter(|u| u.message.is_some()).map(|u| u.source);
        let said = pods.first().and_then(said);
        let said = said.map(|place| Evidence::text("the reason stands in", place, source(state)));
        let evidence = pods.iter().take(MOST_EVIDENCE).map(word).chain(said).collect();
        UNSCHEDULED.finding(subject, format!("{who} no node: {reason}"), evidence, fix)
    })
}

/// Why a pod waits, and what to do; `None` while the scheduler has had no time for a word.
fn reason(waits: &Unscheduled, now: Option<i64>) -> Option<(String, &'static str)> {
    if waits.gated {
        let gates = waits.gates.join(", ");
        return Some((format!("held back by spec.schedulingGates {gates}").trim_end().to_owned(), GATED_FIX));
    }
    if let Some(message) = &waits.message {
        return Some((message.clone(), UNSCHEDULED.fix));
    }
    let age = now.zip(waits.since.as_deref().and_then(unix_seconds)).map(|(now, since)| now - since);
    if age.is_some_and(|age| age < SCHEDULERS_TIME) {
        return None;
    }
    let scheduler = waits.scheduler.as_deref().unwrap_or("default-scheduler");
    Some((format!("no word of the scheduler {scheduler}: does it run?"), UNSCHEDULED.fix))
}

fn check_restarts(state: &ClusterState, over: u32) -> Option<Finding> {
    let mut pods: Vec<_> =
        state.pods.iter().filter_map(|pod| Some((pod.restarts.filter(|&n| n > over)?, pod))).collect();
    pods.sort_by_key(|(restarts, pod)| (std::cmp::Reverse(*restarts), &pod.namespace, &pod.name));
    let (most, worst) = pods.first()?;
    let (most, worst) = (*most, worst.full_name());
    let evidence = pods.iter().take(MOST_EVIDENCE).map(|(restarts, pod)| {
        let what = format!("restarts of {} on {}", pod.full_name(), pod.node.as_deref().unwrap_or("no node"));
        Evidence::new(what, *restarts, "restarts", source(state))
    });
    Some(RESTARTS.finding(
        if pods.len() == 1 { worst.clone() } else { "cluster".to_owned() },
        format!("{} restarted more than {over} times, {worst} most often: {most}", count_have(pods.len())),
        evidence.collect(),
        RESTARTS.fix,
    ))
}

fn addresses(ips: &[IpAddr]) -> String {
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) fn count(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

fn count_have(n: usize) -> String {
    if n == 1 { "1 pod has".to_owned() } else { format!("{n} pods have") }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
