//! The links of pods and host as pictures in text: one line a chain, pods with the same chain together.

use super::links_table::{render_table, tunnel_line, ways_lines};
use super::{Paint, findings, sanitize};
use crate::diagnose::chain::{Chain, Hop, Join, chains, find, is_tunnel, nested, outward};
use crate::diagnose::links_routes::tcp_headers;
use crate::facts::{Finding, Namespace, NewPods, Severity};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// `nsprobe.links/v1`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinksDocument {
    /// The host first, then the pods.
    pub namespaces: Vec<Namespace>,
    /// The MTU that the CNI's files give to new pods; null when none states one.
    pub new_pods: Option<NewPods>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// How the text is laid out.
#[derive(Debug, Clone, Copy)]
pub struct LinksView {
    /// Escape sequences or none.
    pub paint: Paint,
    /// Columns of the terminal: lines are broken between words and hops; without one chains keep to 80.
    pub width: Option<usize>,
    /// Every pod by name, every link of the host, every route.
    pub verbose: bool,
}

impl LinksView {
    fn columns(&self) -> usize {
        self.width.unwrap_or(80)
    }
}

/// The verdict, the findings, the chains, the host's own links.
pub fn render_links(report: &LinksDocument, host: u64, view: LinksView) -> String {
    let node = report.namespaces.iter().find(|n| n.netns_inode == host);
    let pods: Vec<&Namespace> = report.namespaces.iter().filter(|n| n.netns_inode != host).collect();
    let groups = node.map(|node| group(&pods, node)).unwrap_or_default();
    let mut text = verdict(report, pods.len(), view.paint);
    if !report.findings.is_empty() {
        text.push('\n');
        text.push_str(&findings(view.paint, view.width, &report.findings));
    }
    // What a tunnel takes is said below the first picture it is in.
    let mut told = Vec::new();
    for one in &groups {
        text.push('\n');
        render_group(&mut text, one, node, &mut told, view);
    }
    let alone = pods.iter().filter(|pod| !groups.iter().any(|g| g.pods.contains(&pod.subject.as_str())));
    for pod in alone {
        text.push('\n');
        render_table(&mut text, pod, view);
    }
    if let Some(node) = node {
        text.push('\n');
        render_table(&mut text, node, view);
        if let Some(given) = &report.new_pods {
            let line = format!("new pods get MTU {}: {} in {}", given.mtu_bytes, given.stated_by, given.path);
            let _ = writeln!(text, "  {}", view.paint.dim(&sanitize(&line)));
        }
    }
    if !groups.is_empty() {
        let legend = "── wire or bridge   ┄┄ routed   ══ inside a tunnel   numbers: MTU in bytes";
        let _ = writeln!(text, "\n{}", view.paint.dim(legend));
    }
    text
}

fn verdict(report: &LinksDocument, pods: usize, paint: Paint) -> String {
    let what = match pods {
        0 => "the host".to_owned(),
        1 => "1 pod and the host".to_owned(),
        many => format!("{many} pods and the host"),
    };
    let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    let mut told = Vec::new();
    for (severity, name) in
        [(Severity::Critical, "critical"), (Severity::Warning, "warning"), (Severity::Info, "info")]
    {
        match count(severity) {
            0 => {}
            n if n > 1 && severity == Severity::Warning => told.push(format!("{n} warnings")),
            n => told.push(format!("{n} {name}")),
        }
    }
    if told.is_empty() {
        return format!("{}: links and routes of {what} fit together\n", paint.green("no finding"));
    }
    let told = told.join(", ");
    let warns = report.findings.iter().any(|f| f.severity > Severity::Info);
    let told = if warns { paint.yellow(&told) } else { paint.bold(&told) };
    format!("{told}: links and routes of {what}\n")
}

/// Pods whose packets go the same way through the same MTUs.
struct Group<'a> {
    pods: Vec<&'a str>,
    /// Names of each pod's ends in the host, in the order of the pods.
    ends: Vec<String>,
    ways: Vec<Chain>,
    inner: Inner,
}

/// One pod of a group.
struct Member<'a> {
    pod: &'a str,
    /// Names of its ends in the host.
    ends: String,
    /// Those on its ways, one after the other: each of several interfaces has an end of its own.
    on_ways: Vec<String>,
}

/// What is shown of the inside of a pod below its ways out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Inner {
    /// Bridges of a container engine in the pod.
    nested: Vec<Chain>,
    /// What its default routes say: MTU, and the segment size that TCP announces.
    routes: Vec<String>,
}

impl Inner {
    fn of(pod: &Namespace) -> Self {
        Self { nested: nested(pod), routes: default_routes(pod) }
    }
}

/// `MSS announced: 1410 over IPv4 (1450 − 40), 1390 over IPv6 (1450 − 60)`, and the routes' own MTU where they set one.
fn default_routes(pod: &Namespace) -> Vec<String> {
    let mut lines = Vec::new();
    let mut announced: Vec<String> = Vec::new();
    for family in [false, true] {
        let mut routes = pod.routes.iter().filter(|r| r.ipv6 == family && r.destination == "default");
        let Some(route) = routes.next() else { continue };
        let Some(link) = route.interface.as_deref().and_then(|name| find(pod, name)) else { continue };
        let name = if family { "IPv6" } else { "IPv4" };
        if let Some(mtu) = route.mtu_bytes.filter(|&mtu| mtu != link.mtu_bytes) {
            let interface = sanitize(&link.name);
            lines.push(format!("default route of {name}: MTU {mtu}, {interface} has {}", link.mtu_bytes));
        }
        let sends = route.mtu_bytes.map_or(link.mtu_bytes, |mtu| mtu.min(link.mtu_bytes));
        let headers = tcp_headers(family);
        announced.push(match route.advmss_bytes {
            Some(set) => format!("{set} over {name} (set on the route)"),
            None => format!("{} over {name} ({sends} − {headers})", sends.saturating_sub(headers)),
        });
    }
    if !announced.is_empty() {
        lines.push(format!("MSS announced: {}", announced.join(", ")));
    }
    lines
}

fn group<'a>(pods: &[&'a Namespace], node: &Namespace) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<(Vec<Chain>, Inner), Vec<Member<'a>>> = BTreeMap::new();
    for pod in pods {
        let mut ways = chains(pod, node);
        if ways.is_empty() {
            continue;
        }
        let ends: Vec<&str> = outward(pod, node).map(|(_, end)| end.name.as_str()).collect();
        // The host's end of a veth has another name in every pod: it must not tell two pods apart.
        let on_ways = own_ends(&mut ways).map(|hop| std::mem::take(&mut hop.name)).collect();
        let member = Member { pod: pod.subject.as_str(), ends: ends.join(" "), on_ways };
        groups.entry((ways, Inner::of(pod))).or_default().push(member);
    }
    let mut groups: Vec<Group<'a>> = groups
        .into_iter()
        .map(|((mut ways, inner), members)| {
            for (place, hop) in own_ends(&mut ways).enumerate() {
                let names: Vec<&str> =
                    members.iter().filter_map(|m| m.on_ways.get(place).map(String::as_str)).collect();
                hop.name = shared_name(&names);
            }
            let (pods, ends) = members.into_iter().map(|member| (member.pod, member.ends)).unzip();
            Group { pods, ends, ways, inner }
        })
        .collect();
    // Many pods first, the odd ones out after them.
    groups.sort_by_key(|g| std::cmp::Reverse(g.pods.len()));
    groups
}

/// The hops that are the host's ends of a pod's interfaces.
fn own_ends(ways: &mut [Chain]) -> impl Iterator<Item = &mut Hop> {
    let is_own =
        |hop: &&mut Hop| hop.join == Join::Wire && matches!(hop.kind.as_deref(), Some("veth" | "netkit"));
    ways.iter_mut().flat_map(|chain| &mut chain.hops).filter(is_own)
}

/// What several names have in common: `veth…`, `cali…`; a single one as it is.
fn shared_name(names: &[&str]) -> String {
    let Some(&first) = names.first() else { return String::new() };
    if names.iter().all(|&n| n == first) {
        return first.to_owned();
    }
    let mut end = first.chars().take_while(|c| c.is_ascii_alphabetic()).count();
    while end > 0 && !names.iter().all(|n| n.starts_with(first.get(..end).unwrap_or_default())) {
        end -= 1;
    }
    format!("{}…", first.get(..end).unwrap_or_default())
}

fn render_group(
    text: &mut String,
    group: &Group<'_>,
    node: Option<&Namespace>,
    told: &mut Vec<String>,
    view: LinksView,
) {
    let paint = view.paint;
    let title = match group.pods.as_slice() {
        [one] => paint.bold(&sanitize(one)),
        many if view.verbose => paint.bold(&format!("{} pods", many.len())),
        many => {
            let some: Vec<_> = many.iter().take(3).map(|n| sanitize(n)).collect();
            let more = if many.len() > 3 { format!(" and {} more", many.len() - 3) } else { String::new() };
            format!("{} {}{more}", paint.bold(&format!("{} pods:", many.len())), some.join(", "))
        }
    };
    let _ = writeln!(text, "{title}");
    if view.verbose && group.pods.len() > 1 {
        for (pod, end) in group.pods.iter().zip(&group.ends) {
            let _ = writeln!(text, "  {}  {}", sanitize(pod), paint.dim(&sanitize(end)));
        }
    }
    for way in group.inner.nested.iter().chain(&group.ways) {
        render_chain(text, way, view);
    }
    for line in &group.inner.routes {
        let _ = writeln!(text, "  {}", paint.dim(line));
    }
    for hop in group.ways.iter().flat_map(|w| &w.hops) {
        let link = node.and_then(|node| find(node, &hop.name)).filter(|l| is_tunnel(l));
        if let Some(link) = link.filter(|_| hop.join != Join::Start && hop.join != Join::Wire)
            && !told.contains(&hop.name)
        {
            told.push(hop.name.clone());
            let _ = writeln!(text, "  {}", paint.dim(&tunnel_line(link, node, true)));
            for line in ways_lines(link, node, view) {
                let _ = writeln!(text, "    {}", paint.dim(&line));
            }
        }
    }
}

/// One chain, broken between hops at the width, the narrowest hop marked below its line.
fn render_chain(text: &mut String, chain: &Chain, view: LinksView) {
    let narrowest = chain.narrowest();
    let mut line = String::from("  ");
    let mut mark: Option<(usize, String)> = None;
    for (place, hop) in chain.hops.iter().enumerate() {
        let joint = match hop.join {
            Join::Start => "",
            Join::Wire | Join::Bridge => " ── ",
            Join::Route => " ┄┄ ",
            Join::Tunnel => " ══ ",
        };
        let piece = format!("{} {}", sanitize(&hop.name), hop.mtu_bytes);
        if line.chars().count() + joint.chars().count() + piece.chars().count() > view.columns() && place > 0
        {
            flush(text, &mut line, &mut mark, view);
            line.push_str("    ");
            line.push_str(joint.trim_start());
        } else {
            line.push_str(joint);
        }
        if narrowest == Some(place) {
            let most = if hop.at_most { "at most " } else { "" };
            mark = Some((line.chars().count(), format!("narrowest: {most}{}", hop.carries_bytes())));
        }
        line.push_str(&piece);
    }
    flush(text, &mut line, &mut mark, view);
}

fn flush(text: &mut String, line: &mut String, mark: &mut Option<(usize, String)>, view: LinksView) {
    let _ = writeln!(text, "{line}");
    line.clear();
    let Some((column, label)) = mark.take() else { return };
    let after = format!("{:column$}▲ {label}", "");
    let shown = if after.chars().count() <= view.columns() {
        after
    } else {
        format!("{:1$}{label} ▲", "", column.saturating_sub(label.chars().count() + 1))
    };
    let _ = writeln!(text, "{}", view.paint.yellow(&shown));
}
