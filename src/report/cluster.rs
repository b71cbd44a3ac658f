//! `nsprobe cluster`: the document, what is wrong, and which pod is where.

use super::{Out, Paint, findings, sanitize};
use crate::facts::{ClusterPod, ClusterState, Finding, Severity};
use schemars::JsonSchema;
use serde::Serialize;
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
}

impl ClusterDocument {
    /// The document of what was listed and found.
    pub fn new(pods: Vec<ClusterPod>, findings: Vec<Finding>) -> Self {
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
        };
        Self { unscheduled, pods: pods.into_iter().map(entry).collect(), findings }
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
}

impl ClusterHead {
    /// The head of what was read.
    pub fn new(state: &ClusterState) -> Self {
        Self {
            server: format!("{}, {}", state.server, state.credentials),
            nodes: state.nodes.as_ref().map(Vec::len),
            partly: !state.not_looked_at.is_empty(),
        }
    }
}

/// The verdict, what is wrong, then the pods; what could not be looked at stands last.
pub fn render_cluster(document: &ClusterDocument, head: &ClusterHead, out: &Out) -> String {
    render(document, head, out.paint, out.width)
}

fn render(document: &ClusterDocument, head: &ClusterHead, paint: Paint, width: Option<usize>) -> String {
    let mut text = String::new();
    let count = |severity| document.findings.iter().filter(|f| f.severity == severity).count();
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
    if !mild.is_empty() {
        let _ = write!(text, "\n{}", findings(paint, width, &mild));
    }
    text
}

const UNKNOWN: &str = "-";

fn table(text: &mut String, pods: &[ClusterPodEntry], paint: Paint) {
    // Two passes over cells that are made twice: 100,000 rows are not kept beside the pods.
    let heads = ["POD", "NODE", "IP", "READY"];
    let mut widths = heads.map(str::len);
    for pod in pods {
        widths
            .iter_mut()
            .zip(cells(pod))
            .for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
    }
    let mut line = |cells: [&str; 4], last: &str, bold: bool| {
        let mut row = String::new();
        cells.iter().zip(widths).for_each(|(cell, width)| {
            let _ = write!(row, "{cell:<width$}  ");
        });
        row.push_str(last);
        let _ = writeln!(text, "{}", if bold { paint.bold(&row) } else { row });
    };
    line(heads, "RESTARTS", true);
    for pod in pods {
        let [a, b, c, d] = cells(pod);
        line([&a, &b, &c, &d], &pod.restarts.map_or_else(|| UNKNOWN.into(), |n| n.to_string()), false);
    }
}

fn cells(pod: &ClusterPodEntry) -> [String; 4] {
    let ips: Vec<String> = pod.ips.iter().map(ToString::to_string).collect();
    let ready = pod.ready.map_or(UNKNOWN, |ready| if ready { "yes" } else { "no" });
    [
        sanitize(&pod.pod).into_owned(),
        sanitize(pod.node.as_deref().unwrap_or(UNKNOWN)).into_owned(),
        if ips.is_empty() { UNKNOWN.into() } else { ips.join(",") },
        ready.to_owned(),
    ]
}
