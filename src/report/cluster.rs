//! `nsprobe cluster`: the document, what is wrong, and which pod is where.

use super::{Out, Paint, findings, sanitize};
use crate::facts::{ClusterNode, ClusterPod, ClusterState, Finding, PublishedMtu, Severity};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

/// Body of `nsprobe.cluster/v1`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterDocument {
    /// Pods that wait for a node.
    pub unscheduled: Vec<UnscheduledEntry>,
    /// Every pod that was listed.
    pub pods: Vec<ClusterPodEntry>,
    /// Every node that was listed; null when none could be.
    pub nodes: Option<Vec<ClusterNodeEntry>>,
    /// What is wrong, and what could not be looked at.
    pub findings: Vec<Finding>,
}

/// One pod that waits.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnscheduledEntry {
    /// `namespace/name`.
    pub pod: String,
    /// The scheduler's last message; null when it has said nothing.
    pub reason: Option<String>,
    /// Since when, RFC 3339.
    pub since: Option<String>,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterPodEntry {
    /// `namespace/name`.
    pub pod: String,
    /// Its addresses; the node's for a pod with hostNetwork.
    pub ips: Vec<IpAddr>,
    /// The node it is bound to; null while it waits for one.
    pub node: Option<String>,
    /// Restarts of all its containers; null while none has a status.
    pub restarts: Option<u32>,
    /// Its condition Ready; null when that is not known.
    pub ready: Option<bool>,
    /// MTUs of its networks, where a CNI publishes them.
    pub mtus: Vec<PublishedMtu>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterNodeEntry {
    /// Its name.
    pub node: String,
    /// Its condition Ready; null when the control plane does not know.
    pub ready: Option<bool>,
    /// MTUs of its networks, where a CNI publishes them.
    pub mtus: Vec<PublishedMtu>,
}

impl ClusterDocument {
    /// The document of what was listed and found.
    pub fn new(pods: Vec<ClusterPod>, nodes: Option<Vec<ClusterNode>>, findings: Vec<Finding>) -> Self {
        let waits = |pod: &ClusterPod| {
            let u = pod.unscheduled.as_ref()?;
            Some(UnscheduledEntry { pod: pod.full_name(), reason: u.message.clone(), since: u.since.clone() })
        };
        let unscheduled = pods.iter().filter_map(waits).collect();
        let entry = |pod: ClusterPod| ClusterPodEntry {
            pod: pod.full_name(),
            ips: pod.ips,
            node: pod.node,
            restarts: pod.restarts,
            ready: pod.ready,
            mtus: pod.mtus,
        };
        let of_node = |n: ClusterNode| ClusterNodeEntry { node: n.name, ready: n.ready, mtus: n.mtus };
        let nodes = nodes.map(|nodes| nodes.into_iter().map(of_node).collect());
        Self { unscheduled, pods: pods.into_iter().map(entry).collect(), nodes, findings }
    }
}

/// What the verdict says besides the findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterHead {
    /// The server and whose credentials were used.
    pub server: String,
    /// How many nodes were listed; `None` when none could be.
    pub nodes: Option<usize>,
    /// Not all could be looked at.
    pub partly: bool,
    /// Findings besides those in the document, by severity.
    pub more: BTreeMap<Severity, usize>,
}

impl ClusterHead {
    /// The head of what was read, with the findings that are not in the document.
    pub fn new(state: &ClusterState, more: BTreeMap<Severity, usize>) -> Self {
        Self {
            server: format!("{}, {}", state.server, state.credentials),
            nodes: state.nodes.as_ref().map(Vec::len),
            partly: !state.not_looked_at.is_empty(),
            more,
        }
    }
}

/// The verdict, what is wrong, then the pods; what could not be looked at stands last.
pub fn render_cluster(document: &ClusterDocument, head: &ClusterHead, out: &Out) -> String {
    render(document, head, out.paint, out.width)
}

fn render(document: &ClusterDocument, head: &ClusterHead, paint: Paint, width: Option<usize>) -> String {
    let mut text = String::new();
    let count = |severity| {
        let listed = document.findings.iter().filter(|f| f.severity == severity).count();
        listed + head.more.get(&severity).copied().unwrap_or(0)
    };
    let (critical, warnings) = (count(Severity::Critical), count(Severity::Warning));
    let number = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let verdict = match (critical, warnings) {
        (0, 0) if head.partly => paint.yellow("nothing wrong in what could be looked at"),
        (0, 0) => paint.green("nothing wrong"),
        (0, warnings) => paint.yellow(&number(warnings, "warning")),
        (critical, 0) => paint.red(&format!("{critical} critical")),
        (critical, warnings) => paint.red(&format!("{critical} critical, {}", number(warnings, "warning"))),
    };
    let nodes = head.nodes.map_or_else(|| "nodes not known".into(), |n| number(n, "node"));
    let pods = number(document.pods.len(), "pod");
    let _ = writeln!(text, "{verdict}: {pods}, {nodes} ({})", sanitize(&head.server));
    let (worse, mild): (Vec<Finding>, Vec<Finding>) =
        document.findings.iter().cloned().partition(|f| f.severity > Severity::Info);
    if !worse.is_empty() {
        let _ = write!(text, "\n{}", findings(paint, width, &worse));
    }
    if !document.pods.is_empty() {
        text.push('\n');
        table(&mut text, &document.pods, paint);
    }
    node_mtus(&mut text, document.nodes.as_deref().unwrap_or_default(), paint);
    if !mild.is_empty() {
        let _ = write!(text, "\n{}", findings(paint, width, &mild));
    }
    text
}

const UNKNOWN: &str = "-";

fn table(text: &mut String, pods: &[ClusterPodEntry], paint: Paint) {
    // Two passes over cells that are made twice: 100,000 rows are not kept beside the pods.
    let heads = ["POD", "NODE", "IP", "READY", "RESTARTS"];
    let mut widths = heads.map(str::len);
    let mut mtus = false;
    for pod in pods {
        widths
            .iter_mut()
            .zip(cells(pod))
            .for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
        mtus |= !pod.mtus.is_empty();
    }
    let mut line = |cells: [&str; 5], last: &str, bold: bool| {
        let mut row = String::new();
        cells.iter().zip(widths).for_each(|(cell, width)| {
            let _ = write!(row, "{cell:<width$}  ");
        });
        row.push_str(last);
        let row = row.trim_end();
        let _ = writeln!(text, "{}", if bold { paint.bold(row) } else { row.to_owned() });
    };
    line(heads, if mtus { "MTU" } else { "" }, true);
    for pod in pods {
        let [a, b, c, d, e] = cells(pod);
        line([&a, &b, &c, &d, &e], &if mtus { published(&pod.mtus) } else { String::new() }, false);
    }
}

fn cells(pod: &ClusterPodEntry) -> [String; 5] {
    let ips: Vec<String> = pod.ips.iter().map(ToString::to_string).collect();
    [
        sanitize(&pod.pod).into_owned(),
        sanitize(pod.node.as_deref().unwrap_or(UNKNOWN)).into_owned(),
        if ips.is_empty() { UNKNOWN.into() } else { ips.join(",") },
        ready(pod.ready).to_owned(),
        pod.restarts.map_or_else(|| UNKNOWN.into(), |n| n.to_string()),
    ]
}

fn ready(ready: Option<bool>) -> &'static str {
    ready.map_or(UNKNOWN, |ready| if ready { "yes" } else { "no" })
}

/// `net1 1500, eth0 1450`: the interface, else the network.
fn published(mtus: &[PublishedMtu]) -> String {
    let of = |mtu: &PublishedMtu| {
        let name = mtu.interface.as_deref().unwrap_or(&mtu.network);
        format!("{} {}", sanitize(name), mtu.mtu_bytes)
    };
    if mtus.is_empty() { UNKNOWN.into() } else { mtus.iter().map(of).collect::<Vec<_>>().join(", ") }
}

/// One line for each node and network.
fn node_mtus(text: &mut String, nodes: &[ClusterNodeEntry], paint: Paint) {
    let rows: Vec<[String; 4]> = nodes
        .iter()
        .flat_map(|node| node.mtus.iter().map(move |mtu| (node, mtu)))
        .map(|(node, mtu)| {
            let interface = sanitize(mtu.interface.as_deref().unwrap_or(UNKNOWN)).into_owned();
            let name = sanitize(&node.node).into_owned();
            [name, interface, mtu.mtu_bytes.to_string(), sanitize(&mtu.network).into_owned()]
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    let heads = ["NODE", "INTERFACE", "MTU", "NETWORK"].map(str::to_owned);
    let width =
        |at: usize| rows.iter().chain([&heads]).filter_map(|r| r.get(at)).map(|c| c.chars().count()).max();
    let [a, b, c, _] = [0, 1, 2, 3].map(|at| width(at).unwrap_or(0));
    text.push('\n');
    for (at, [node, interface, mtu, network]) in [&heads].into_iter().chain(&rows).enumerate() {
        let row = format!("{node:<a$}  {interface:<b$}  {mtu:<c$}  {network}");
        let _ = writeln!(text, "{}", if at == 0 { paint.bold(&row) } else { row });
    }
}
