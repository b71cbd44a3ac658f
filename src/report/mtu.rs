//! `nsprobe.mtu/v1` and its text: the verdict, the path as a picture, the evidence.

use super::{Out, Paint, duration_ms, findings, sanitize};
use crate::diagnose::path::{INTERFACE_DOWN, REFUSED_HERE, ROUTING_LOOP, sizes_asked};
use crate::facts::{Bounds, Finding, Hop, Method, Narrowing, ProbeCounts, Reverse, ReverseVerdict, Verdict};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write;
use std::net::IpAddr;

/// Where the probes came from.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MtuSource {
    /// `namespace/name`, null for a namespace that is no pod's.
    pub pod: Option<String>,
    /// The container, when the selector named one.
    pub container_id: Option<String>,
    /// A process in the namespace.
    pub pid: Option<u32>,
    /// Inode of the namespace.
    pub netns_inode: u64,
    /// Interface that the probes left by.
    pub interface: Option<String>,
    /// Its link MTU.
    pub interface_mtu_bytes: Option<u32>,
    /// What the route lets out.
    pub route_mtu_bytes: Option<u32>,
    /// Source address.
    pub address: Option<IpAddr>,
}

/// Where the probes went.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MtuTarget {
    /// As it was typed.
    pub input: String,
    /// The address it stands for.
    pub address: IpAddr,
    /// `--port`.
    pub port: Option<u16>,
}

/// The document of one search.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MtuReport {
    /// From where.
    pub source: MtuSource,
    /// To where.
    pub target: MtuTarget,
    /// How it was asked.
    pub method: Method,
    /// The verdict of the narrowest point.
    pub verdict: Verdict,
    /// Size of the whole IP packet, bytes.
    pub path_mtu_bytes: Option<u32>,
    /// A PTB's value was confirmed as the path MTU.
    pub signalled: bool,
    /// Where.
    pub narrowing: Option<Narrowing>,
    /// The way back.
    pub reverse: Reverse,
    /// What is known of the sizes.
    pub bounds: Bounds,
    /// Probability that verdict and number are right.
    pub confidence: Option<f64>,
    /// Share of probes of passing sizes that were lost.
    pub loss_ratio: Option<f64>,
    /// Smallest round trip, microseconds.
    pub rtt_us: Option<u64>,
    /// Counters.
    pub probes: ProbeCounts,
    /// Duration of all methods and flows, milliseconds.
    pub elapsed_ms: f64,
    /// Findings, worst first.
    pub findings: Vec<Finding>,
    /// For the picture.
    #[serde(skip)]
    pub hops: Vec<Hop>,
    /// Methods that gave no verdict, and why.
    #[serde(skip)]
    pub tried: Vec<String>,
    /// How people name the source.
    #[serde(skip)]
    pub label: String,
    /// What becomes of packets that do not pass.
    #[serde(skip)]
    pub fate: String,
    /// `--min`, where nothing smaller was asked for because of it.
    #[serde(skip)]
    pub asked_from: Option<u32>,
}

/// The document of several searches.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MtuComparison {
    /// One document a target.
    pub results: Vec<serde_json::Value>,
    /// Findings on the comparison.
    pub findings: Vec<Finding>,
}

/// The whole text of one search.
pub fn render_mtu(out: &Out, report: &MtuReport, verbose: bool) -> String {
    let mut text = headline(out.paint, report);
    text.push_str(&picture(out, report));
    let _ = writeln!(text, "  {}", out.paint.dim(&numbers(report)));
    let found = findings(out.paint, out.width, &report.findings);
    if !found.is_empty() {
        text.push('\n');
        text.push_str(&found);
    }
    if verbose {
        text.push_str(&hop_list(report));
    }
    text
}

/// Whether it is the source's own kernel that refuses what is larger.
fn refused_here(report: &MtuReport) -> bool {
    report.findings.iter().any(|finding| finding.id == REFUSED_HERE.id)
}

/// What keeps everything from leaving.
fn cut_off(report: &MtuReport) -> Option<&Finding> {
    report.findings.iter().find(|finding| finding.id == INTERFACE_DOWN.id)
}

/// Probes that drew a refusal, or time exceeded in a loop.
fn other_errors(report: &MtuReport) -> u32 {
    let ProbeCounts { sent, answered, too_big, lost } = report.probes;
    sent.saturating_sub(answered + too_big + lost)
}

/// Whether no connection came about that could have been probed over.
fn is_port_silent(report: &MtuReport) -> bool {
    report.verdict == Verdict::Unreachable && report.probes.sent == 0 && report.method == Method::Tcp
}

/// `host name (address)`, or the address alone.
fn target_name(report: &MtuReport) -> String {
    let MtuTarget { input, address, .. } = &report.target;
    if input.parse::<IpAddr>().ok() == Some(*address) {
        input.clone()
    } else {
        format!("{} ({address})", sanitize(input))
    }
}

/// One line: does a large packet arrive, and if not, what happens to it.
fn headline(paint: Paint, report: &MtuReport) -> String {
    let way = format!("{} → {}", sanitize(&report.label), target_name(report));
    let mtu = report.path_mtu_bytes.map_or_else(|| "?".to_owned(), |m| m.to_string());
    let route = report.source.route_mtu_bytes.map_or_else(|| "?".to_owned(), |m| m.to_string());
    let (word, rest) = match report.verdict {
        // Nothing larger was asked for (--max): the path's own MTU is not known.
        Verdict::Clear if report.path_mtu_bytes.is_none() => {
            let passes = report.bounds.passes_bytes.map_or_else(|| "?".to_owned(), |m| m.to_string());
            let rest =
                format!("packets of {passes} bytes arrive; larger ones were not tried (route MTU {route})");
            (paint.green("CLEAR"), rest)
        }
        // More than the route lets out was asked for (--max), and is carried.
        Verdict::Clear if report.path_mtu_bytes > report.source.route_mtu_bytes => {
            (paint.green("CLEAR"), format!("packets of {mtu} bytes arrive, more than the route's {route}"))
        }
        Verdict::Clear => {
            (paint.green("CLEAR"), format!("packets of {mtu} bytes arrive, the route's full MTU"))
        }
        Verdict::Narrowed => {
            let who = report.narrowing.as_ref().and_then(|n| n.reporter);
            let who = who.filter(|_| report.signalled).map(|a| format!(" ({a} says so)")).unwrap_or_default();
            (paint.yellow("NARROWED"), format!("the path carries {mtu} bytes, not the route's {route}{who}"))
        }
        Verdict::BlackHole => {
            (paint.red("BLACK HOLE"), format!("packets over {mtu} bytes {} (route MTU {route})", report.fate))
        }
        Verdict::Unreachable if let Some(cut_off) = cut_off(report) => {
            (paint.yellow("UNREACHABLE"), sanitize(&cut_off.summary).into_owned())
        }
        Verdict::Unreachable if is_port_silent(report) => {
            let port = report.target.port.map_or_else(|| "?".to_owned(), |port| port.to_string());
            (paint.yellow("UNREACHABLE"), format!("port {port} {}", report.fate))
        }
        Verdict::Unreachable if report.probes.sent == 0 => {
            (paint.yellow("UNREACHABLE"), "the kernel refuses to send, nothing left".to_owned())
        }
        Verdict::Unreachable if report.findings.iter().any(|finding| finding.id == ROUTING_LOOP.id) => {
            (paint.yellow("UNREACHABLE"), "the packets go round in a loop".to_owned())
        }
        Verdict::Unreachable if other_errors(report) > 0 => {
            (paint.yellow("UNREACHABLE"), format!("packets {}", report.fate))
        }
        Verdict::Unreachable => {
            let sizes = sizes_asked(report.asked_from);
            (paint.yellow("UNREACHABLE"), format!("nothing came back{sizes}"))
        }
        Verdict::Inconclusive => {
            let Bounds { passes_bytes, fails_bytes } = report.bounds;
            let known = match (passes_bytes, fails_bytes) {
                (Some(p), Some(f)) => format!("{p} bytes pass, {f} bytes do not"),
                // A tunnel may let the first packet through that is too large for it.
                (Some(p), None) if passes_bytes == report.source.route_mtu_bytes => {
                    format!(
                        "{p} bytes passed, the route's full MTU, but too few packets were sent to be sure"
                    )
                }
                (Some(p), None) => format!("{p} bytes pass, more is not known"),
                _ if report.probes.sent == 0 => "nothing was sent".to_owned(),
                _ => "too few answers".to_owned(),
            };
            (paint.yellow("INCONCLUSIVE"), known)
        }
    };
    format!("{word}  {way}: {rest}\n")
}

/// The path from left to right: hops that took the large packet, the place where it ends, the rest.
fn picture(out: &Out, report: &MtuReport) -> String {
    let paint = out.paint;
    let mtu = report.path_mtu_bytes.map_or_else(|| "?".to_owned(), |m| m.to_string());
    let interface = report.source.interface.as_deref().unwrap_or("?");
    let route = report.source.route_mtu_bytes.map(|m| format!(" {m}")).unwrap_or_default();
    let mut parts = vec![format!("{} {}{route}", sanitize(&report.label), sanitize(interface))];
    let narrow = matches!(report.verdict, Verdict::Narrowed | Verdict::BlackHole);
    if !narrow && report.verdict != Verdict::Clear {
        return String::new();
    }
    let good = report.hops.iter().filter(|h| h.large).map(|h| h.ttl).max().unwrap_or(0);
    let reporter = report.narrowing.as_ref().and_then(|n| n.reporter);
    let cut = match (report.verdict, reporter) {
        (Verdict::Narrowed, _) => paint.yellow(&format!("╳ {mtu}")),
        _ => paint.red(&format!("╳ {mtu}")),
    };
    let mut is_cut = false;
    // How far away a target is that says nothing is not known: what is silent behind the last hop that answered is one.
    let answered =
        report.hops.iter().filter(|h| h.small || h.large || h.target).map(|h| h.ttl).max().unwrap_or(0);
    let name = |hop: &Hop| match hop.address {
        Some(address) => address.to_string(),
        None if hop.ttl > answered => "…".to_owned(),
        None => "*".to_owned(),
    };
    for hop in report.hops.iter().filter(|h| !h.target && h.ttl <= answered.saturating_add(1)) {
        if narrow && !is_cut && hop.ttl > good {
            // A hop that is silent for small packets too may lie on either side.
            let unknown = !hop.small;
            parts.push(if unknown { format!("{} {cut}", paint.dim("somewhere here")) } else { cut.clone() });
            is_cut = true;
        }
        parts.push(name(hop));
    }
    if narrow && !is_cut {
        // Without any hop (--no-locate) nothing is known of the place.
        let unknown = report.hops.is_empty() && !refused_here(report);
        parts.push(if unknown { format!("{} {cut}", paint.dim("somewhere here")) } else { cut });
    }
    parts.push(report.target.address.to_string());
    wrap(&parts, out.width.unwrap_or(100))
}

/// Joins the parts with arrows and breaks lines between them.
fn wrap(parts: &[String], width: usize) -> String {
    let visible = |text: &str| {
        let mut escape = false;
        text.chars()
            .filter(|c| {
                if *c == '\x1b' {
                    escape = true;
                }
                let shown = !escape;
                if *c == 'm' {
                    escape = false;
                }
                shown
            })
            .count()
    };
    let mut text = String::from("  ");
    let mut used = 2;
    for (at, part) in parts.iter().enumerate() {
        let length = visible(part);
        if at > 0 {
            if used + 4 + length > width.max(40) {
                text.push_str(" ─►\n      ");
                used = 6;
            } else {
                text.push_str(" ─► ");
                used += 4;
            }
        }
        text.push_str(part);
        used += length;
    }
    text.push('\n');
    text
}

fn numbers(report: &MtuReport) -> String {
    let ProbeCounts { sent, answered, too_big, lost } = report.probes;
    let port = report.target.port.filter(|_| report.method != Method::Icmp);
    let way = report.method.name().to_owned() + &port.map(|p| format!(" port {p}")).unwrap_or_default();
    let mut parts = vec![if is_port_silent(report) {
        format!("{way}: no connection was made")
    } else {
        let errors = match other_errors(report) {
            0 => String::new(),
            errors => format!(", {errors} other errors"),
        };
        let probes = if sent == 1 { "probe" } else { "probes" };
        format!("{way}, {sent} {probes}: {answered} answered, {too_big} too big, {lost} unanswered{errors}")
    }];
    parts.extend(report.tried.iter().map(|tried| format!("not by {}", sanitize(tried))));
    if let Some(rtt) = report.rtt_us {
        parts
            .push(format!("rtt {}", duration_ms(f64::from(u32::try_from(rtt).unwrap_or(u32::MAX)) / 1000.0)));
    }
    if let Some(loss) = report.loss_ratio.filter(|l| *l > 0.0) {
        parts.push(format!("{:.0} % loss", loss * 100.0));
    }
    if let Some(confidence) = report.confidence {
        parts.push(format!("confidence {:.2} %", confidence * 100.0));
    }
    match (report.reverse.verdict, report.reverse.limit_bytes) {
        (ReverseVerdict::Clear, _) => parts.push("the way back is clear".into()),
        (ReverseVerdict::BlackHole, Some(limit)) => {
            parts.push(format!("answers over {limit} bytes are lost on the way back"));
        }
        (_, Some(limit)) => parts.push(format!("replies come back in fragments of {limit} bytes")),
        _ => {}
    }
    parts.push(duration_ms(report.elapsed_ms));
    parts.join(", ")
}

fn hop_list(report: &MtuReport) -> String {
    let mut text = String::new();
    for hop in &report.hops {
        let name = match hop.address {
            _ if hop.target => report.target.address.to_string(),
            Some(address) => address.to_string(),
            None => "*".into(),
        };
        let seen = |yes: bool| if yes { "answers" } else { "silent" };
        let _ = writeln!(
            text,
            "  hop {:2}  {name:24} small: {:8} large: {}",
            hop.ttl,
            seen(hop.small),
            seen(hop.large)
        );
    }
    text
}

/// A later round of a watch: one line, and the whole text where verdict or number changed.
pub fn render_change(out: &Out, before: &[MtuReport], now: &[MtuReport], verbose: bool) -> String {
    let time = clock();
    let mut text = String::new();
    for (before, now) in before.iter().zip(now) {
        let changed = (before.verdict, before.path_mtu_bytes) != (now.verdict, now.path_mtu_bytes);
        if changed {
            let _ = writeln!(text, "{time}  {}", out.paint.bold("changed"));
            text.push_str(&render_mtu(out, now, verbose));
        } else {
            let _ = write!(text, "{time}  {}", headline(out.paint, now));
        }
        for finding in now.findings.iter().filter(|f| f.id == "mtu.flows_differ" && !changed) {
            text.push_str(&findings(out.paint, out.width, std::slice::from_ref(finding)));
        }
    }
    text
}

/// The time of day, UTC.
fn clock() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() % 86_400);
    format!("{:02}:{:02}:{:02}Z", now / 3600, now / 60 % 60, now % 60)
}

/// Several searches, a row each, then what the comparison itself says.
pub fn render_comparison(out: &Out, reports: &[MtuReport], compared: &[Finding], verbose: bool) -> String {
    let mut text = String::new();
    let wide = reports.iter().map(|r| target_name(r).chars().count()).max().unwrap_or(0).max(6);
    let _ = writeln!(
        text,
        "{}",
        out.paint.bold(&format!("{:wide$}  {:13} {:>8}  {:>9}", "TARGET", "VERDICT", "PATH MTU", "RTT"))
    );
    for report in reports {
        let verdict = match report.verdict {
            Verdict::Clear => "clear",
            Verdict::Narrowed => "narrowed",
            Verdict::BlackHole => "black hole",
            Verdict::Unreachable => "unreachable",
            Verdict::Inconclusive => "inconclusive",
        };
        let mtu = report.path_mtu_bytes.map_or_else(|| "-".to_owned(), |m| m.to_string());
        let rtt = report.rtt_us.map_or_else(
            || "-".to_owned(),
            |r| duration_ms(f64::from(u32::try_from(r).unwrap_or(u32::MAX)) / 1000.0),
        );
        let _ = writeln!(text, "{:wide$}  {verdict:13} {mtu:>8}  {rtt:>9}", target_name(report));
    }
    if !compared.is_empty() {
        text.push('\n');
        text.push_str(&findings(out.paint, out.width, compared));
    }
    for report in reports {
        text.push('\n');
        text.push_str(&render_mtu(out, report, verbose));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::path::compare_paths;

    #[test]
    fn what_the_comparison_says_is_printed_for_people_too() {
        let paths =
            [("10.0.0.1", Verdict::Narrowed, Some(1450)), ("10.0.0.2", Verdict::BlackHole, Some(1450))];
        let compared = compare_paths("default/web-0", &paths);
        let text = render_comparison(&Out::new(Some(false)), &[], &compared, false);
        assert!(text.contains("[mtu.errors_not_relayed, default/web-0]"), "{text}");
    }
}
