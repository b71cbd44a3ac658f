//! The links of pods and host as pictures in text: one line a chain, pods with the same chain together.

use super::{Paint, findings, sanitize};
use crate::diagnose::chain::{Chain, Hop, Join, chains, find, is_tunnel, outward, uplink};
use crate::facts::{Finding, Link, Namespace, Severity};
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
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// How the text is laid out.
#[derive(Debug, Clone, Copy)]
pub struct LinksView {
    /// Escape sequences or none.
    pub paint: Paint,
    /// Columns; lines are broken between hops where one would be longer.
    pub width: usize,
    /// Every pod by name, every link of the host, every route.
    pub verbose: bool,
}

/// The verdict, the findings, the chains, the host's own links.
pub fn render_links(report: &LinksDocument, host: u64, view: LinksView) -> String {
    let node = report.namespaces.iter().find(|n| n.netns_inode == host);
    let pods: Vec<&Namespace> = report.namespaces.iter().filter(|n| n.netns_inode != host).collect();
    let groups = node.map(|node| group(&pods, node)).unwrap_or_default();
    let mut text = verdict(report, pods.len(), view.paint);
    if !report.findings.is_empty() {
        text.push('\n');
        text.push_str(&findings(view.paint, &report.findings));
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
}

fn group<'a>(pods: &[&'a Namespace], node: &Namespace) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<Vec<Chain>, (Vec<&'a str>, Vec<String>)> = BTreeMap::new();
    for pod in pods {
        let ways = chains(pod, node);
        if ways.is_empty() {
            continue;
        }
        let ends: Vec<&str> = outward(pod, node).map(|(_, end)| end.name.as_str()).collect();
        let mut key = ways.clone();
        // The host's end of a veth has another name in every pod: it must not tell two pods apart.
        let wires = key.iter_mut().flat_map(|chain| &mut chain.hops).filter(|h| is_own_end(h));
        wires.for_each(|hop| hop.name.clear());
        let (names, all_ends) = groups.entry(key).or_default();
        names.push(pod.subject.as_str());
        all_ends.push(ends.join(" "));
    }
    let mut groups: Vec<Group<'a>> = groups
        .into_iter()
        .map(|(mut ways, (pods, ends))| {
            let shared = shared_name(&ends);
            let wires = ways.iter_mut().flat_map(|chain| &mut chain.hops).filter(|h| is_own_end(h));
            wires.for_each(|hop| hop.name.clone_from(&shared));
            Group { pods, ends, ways }
        })
        .collect();
    // Many pods first, the odd ones out after them.
    groups.sort_by_key(|g| std::cmp::Reverse(g.pods.len()));
    groups
}

fn is_own_end(hop: &Hop) -> bool {
    hop.join == Join::Wire && matches!(hop.kind.as_deref(), Some("veth" | "netkit"))
}

/// What several names have in common: `veth…`, `cali…`; a single one as it is.
fn shared_name(names: &[String]) -> String {
    let Some(first) = names.first() else { return String::new() };
    if names.iter().all(|n| n == first) {
        return first.clone();
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
    for way in &group.ways {
        render_chain(text, way, view);
    }
    for hop in group.ways.iter().flat_map(|w| &w.hops) {
        let link = node.and_then(|node| find(node, &hop.name)).filter(|l| is_tunnel(l));
        if let Some(link) = link.filter(|_| hop.join != Join::Start && hop.join != Join::Wire)
            && !told.contains(&hop.name)
        {
            told.push(hop.name.clone());
            let _ = writeln!(text, "  {}", paint.dim(&tunnel_line(link, node)));
        }
    }
}

/// One chain, broken between hops at the width, the narrowest hop marked below its line.
fn render_chain(text: &mut String, chain: &Chain, view: LinksView) {
    let narrowest = chain.narrowest();
    let mut line = String::from("  ");
    let mut mark: Option<(usize, u32)> = None;
    for (place, hop) in chain.hops.iter().enumerate() {
        let joint = match hop.join {
            Join::Start => "",
            Join::Wire | Join::Bridge => " ── ",
            Join::Route => " ┄┄ ",
            Join::Tunnel => " ══ ",
        };
        let piece = format!("{} {}", sanitize(&hop.name), hop.mtu_bytes);
        if line.chars().count() + joint.chars().count() + piece.chars().count() > view.width && place > 0 {
            flush(text, &mut line, &mut mark, view);
            line.push_str("    ");
            line.push_str(joint.trim_start());
        } else {
            line.push_str(joint);
        }
        if narrowest == Some(place) {
            mark = Some((line.chars().count(), hop.carries_bytes()));
        }
        line.push_str(&piece);
    }
    flush(text, &mut line, &mut mark, view);
}

fn flush(text: &mut String, line: &mut String, mark: &mut Option<(usize, u32)>, view: LinksView) {
    let _ = writeln!(text, "{line}");
    line.clear();
    let Some((column, carries)) = mark.take() else { return };
    let label = format!("narrowest: {carries}");
    let after = format!("{:column$}▲ {label}", "");
    let shown = if after.chars().count() <= view.width {
        after
    } else {
        format!("{:1$}{label} ▲", "", column.saturating_sub(label.chars().count() + 1))
    };
    let _ = writeln!(text, "{}", view.paint.yellow(&shown));
}

/// `flannel.1: VXLAN over IPv4 in eth0, 1500 − 50 = 1450`.
fn tunnel_line(link: &Link, node: Option<&Namespace>) -> String {
    let kind = match link.kind.as_deref() {
        Some("vxlan") => "VXLAN",
        Some("geneve") => "Geneve",
        Some("wireguard") => "WireGuard",
        Some("ipip") => "IP in IP",
        Some(other) => other,
        None => "tunnel",
    };
    let family = match link.tunnel.and_then(|t| t.outer_ipv6) {
        Some(true) => " over IPv6",
        Some(false) => " over IPv4",
        None => "",
    };
    let mut line = format!("{}: {}{family}", sanitize(&link.name), sanitize(kind));
    let below = link.underlay.as_deref().and_then(|name| find(node?, name));
    if let Some(below) = below {
        let _ = write!(line, " in {}", sanitize(&below.name));
    }
    match (below, link.overhead_bytes) {
        (Some(below), Some(overhead)) => {
            let fits = below.mtu_bytes.saturating_sub(overhead);
            let _ = write!(line, ", {} − {overhead} = {fits}", below.mtu_bytes);
            if fits < link.mtu_bytes {
                let _ = write!(line, " < {}", link.mtu_bytes);
            }
        }
        (None, Some(overhead)) => {
            let _ = write!(line, ", adds {overhead}");
        }
        (_, None) => line.push_str(", overhead not known"),
    }
    line
}

/// A namespace's links as a table; those that carry one pod each are counted, not listed.
fn render_table(text: &mut String, namespace: &Namespace, view: LinksView) {
    let paint = view.paint;
    let _ = writeln!(text, "{}", paint.bold(&sanitize(&namespace.subject)));
    let is_pods = |l: &Link| {
        matches!(l.kind.as_deref(), Some("veth" | "netkit"))
            && l.peer.as_ref().is_some_and(|p| p.netns_inode != Some(namespace.netns_inode))
            && (l.master.is_some() || l.addresses.iter().all(|(a, _)| is_link_local(a)))
    };
    let way_out = uplink(namespace).map(|l| l.index);
    let fold = !view.verbose && namespace.links.iter().filter(|l| is_pods(l)).count() > 3;
    let rows: Vec<&Link> = namespace.links.iter().filter(|l| !(fold && is_pods(l))).collect();
    let names = rows.iter().map(|l| sanitize(&l.name).chars().count()).max().unwrap_or(0);
    for link in rows {
        let mut about = Vec::new();
        if is_tunnel(link) {
            let line = tunnel_line(link, Some(namespace));
            about.push(line.split_once(": ").map_or(line.clone(), |(_, rest)| rest.to_owned()));
        } else if let Some(kind) = &link.kind {
            about.push(sanitize(kind).into_owned());
        }
        let ports = namespace.links.iter().filter(|l| l.master.as_deref() == Some(&link.name)).count();
        if ports > 0 {
            about.push(format!("{ports} port{}", if ports == 1 { "" } else { "s" }));
        }
        if let Some(master) = &link.master {
            about.push(format!("port of {}", sanitize(master)));
        }
        if let Some(peer) = &link.peer {
            let name = peer
                .name
                .as_deref()
                .map_or_else(|| format!("index {}", peer.index), |n| sanitize(n).into_owned());
            let mtu = peer.mtu_bytes.map(|m| format!(" {m}")).unwrap_or_default();
            let place = if peer.netns_inode == Some(namespace.netns_inode) { "" } else { " elsewhere" };
            about.push(format!("to {name}{mtu}{place}"));
        }
        if way_out == Some(link.index) {
            about.push("uplink".into());
        }
        let state = if link.up { link.state.as_str() } else { "off" };
        let about = paint.dim(&about.join(", "));
        let row = format!("  {:names$}  {:>5}  {state:<7}  {about}", sanitize(&link.name), link.mtu_bytes);
        let _ = writeln!(text, "{}", row.trim_end());
    }
    if fold {
        let mut mtus: BTreeMap<u32, usize> = BTreeMap::new();
        namespace
            .links
            .iter()
            .filter(|l| is_pods(l))
            .for_each(|l| *mtus.entry(l.mtu_bytes).or_default() += 1);
        let told: Vec<_> = mtus.iter().map(|(mtu, n)| format!("{n} of MTU {mtu}")).collect();
        let _ = writeln!(text, "  {}", paint.dim(&format!("and the ends of pods: {}", told.join(", "))));
    }
    for route in &namespace.routes {
        let plain = route.mtu_bytes.is_none() && route.advmss_bytes.is_none();
        if plain && (!view.verbose || route.destination == "fe80::/64") {
            continue;
        }
        let mut line = format!("  route {}", sanitize(&route.destination));
        if let Some(via) = route.via {
            let _ = write!(line, " via {via}");
        }
        if let Some(interface) = &route.interface {
            let _ = write!(line, " dev {}", sanitize(interface));
        }
        for (name, value) in [("mtu", route.mtu_bytes), ("advmss", route.advmss_bytes)] {
            if let Some(value) = value {
                let _ = write!(line, " {name} {value}");
            }
        }
        let _ = writeln!(text, "{line}");
    }
}

fn is_link_local(address: &std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(v4) => v4.is_link_local(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
