//! `nsprobe.diagnose/v1` and its text: the verdict, the root cause first, what was not looked at.

use super::{Out, Paint, duration_ms, sanitize};
use crate::facts::{Check, Evidence, Finding, Health, Outcome, Severity, Verdict};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write;
use std::net::IpAddr;

/// Columns that are used where the terminal does not say, and at most.
const WIDTH: usize = 80;
const WIDEST: usize = 100;

/// Whom SOURCE cannot reach.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiagnoseTarget {
    /// As it was typed.
    pub input: String,
    /// The address it stands for; null when it could not be looked up.
    pub address: Option<IpAddr>,
    /// `--port`.
    pub port: Option<u16>,
}

/// One measured path for people.
#[derive(Debug, Clone, PartialEq)]
pub struct PathRow {
    /// `host`, or the source.
    pub from: String,
    /// Where to.
    pub to: String,
    /// Why: `gateway`, `other end of flannel.1`.
    pub what: String,
    /// The verdict.
    pub verdict: Verdict,
    /// What it carries, bytes.
    pub path_mtu: Option<u32>,
    /// What the route allows, bytes.
    pub route_mtu: Option<u32>,
    /// Smallest round trip, microseconds.
    pub rtt_us: Option<u64>,
}

/// The document of one diagnosis.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiagnoseReport {
    /// `default/web-0`, `host`, `netns:PATH`.
    pub subject: String,
    /// Whom it is to reach; null when nobody was named.
    pub target: Option<DiagnoseTarget>,
    /// One word for all.
    pub verdict: Health,
    /// What was looked at, and what could not be.
    pub checks: Vec<Check>,
    /// The measured paths, each a document of `mtu`.
    pub paths: Vec<serde_json::Value>,
    /// Causes before what follows from them, the worst first.
    pub findings: Vec<Finding>,
    /// For each finding the place of the one that it follows from.
    #[serde(skip)]
    pub because: Vec<Option<usize>>,
    /// The paths for people.
    #[serde(skip)]
    pub rows: Vec<PathRow>,
    /// Duration, milliseconds.
    #[serde(skip)]
    pub elapsed_ms: f64,
}

/// The whole text.
pub fn render_diagnose(out: &Out, report: &DiagnoseReport, verbose: bool) -> String {
    let view = View { paint: out.paint, width: out.width.unwrap_or(WIDTH).clamp(40, WIDEST), verbose };
    let mut text = headline(&view, report);
    for at in 0..report.findings.len() {
        finding(&mut text, &view, report, at);
    }
    checks(&mut text, &view, &report.checks);
    rows(&mut text, &view, &report.rows);
    text
}

/// How the text is laid out.
struct View {
    paint: Paint,
    width: usize,
    verbose: bool,
}

impl View {
    /// Text behind a mark of `indent` columns that is there already, wrapped under itself.
    fn wrap(&self, text: &mut String, indent: usize, words: &str) {
        let mut used = indent;
        let mut first = true;
        for word in sanitize(words).split_whitespace() {
            let length = word.chars().count();
            if !first && used + 1 + length > self.width {
                let _ = write!(text, "\n{:indent$}", "");
                used = indent;
            } else if !first {
                text.push(' ');
                used += 1;
            }
            text.push_str(word);
            used += length;
            first = false;
        }
        text.push('\n');
    }
}

/// One line, or two: the word, whom it is about, and the root cause or what is missing.
fn headline(view: &View, report: &DiagnoseReport) -> String {
    let (word, length) = match report.verdict {
        Health::Healthy => (view.paint.green("HEALTHY"), 7),
        Health::Degraded => (view.paint.yellow("DEGRADED"), 8),
        Health::Broken => (view.paint.red("BROKEN"), 6),
        Health::Unknown => (view.paint.yellow("UNKNOWN"), 7),
    };
    let mut who = report.subject.clone();
    if let Some(target) = &report.target {
        who.push_str(&format!(" → {}", target.input));
        if let Some(address) = target.address.filter(|a| a.to_string() != target.input) {
            who.push_str(&format!(" ({address})"));
        }
        who.push_str(&target.port.map(|p| format!(" port {p}")).unwrap_or_default());
    }
    let blind: Vec<&Check> = report.checks.iter().filter(|c| c.outcome == Outcome::NotChecked).collect();
    let passed = report.checks.iter().filter(|c| c.outcome == Outcome::Passed).count();
    let time = duration_ms(report.elapsed_ms);
    let said = match report.verdict {
        Health::Healthy => format!("{passed} checks passed in {time}, nothing wrong was found"),
        Health::Unknown => format!(
            "nothing wrong was found in {time}, but not everything could be looked at: {}",
            blind.iter().map(|c| c.id.as_ref()).collect::<Vec<_>>().join(", ")
        ),
        _ => report.findings.first().map(|f| without_name(f, report).to_owned()).unwrap_or_default(),
    };
    let mut text = format!("{word}  ");
    view.wrap(&mut text, length + 2, &format!("{who}: {said}"));
    text
}

/// A summary without the name that it begins with, where that is told already.
fn without_name<'a>(finding: &'a Finding, report: &DiagnoseReport) -> &'a str {
    let rest = finding.summary.strip_prefix(report.subject.as_str());
    rest.and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&finding.summary)
}

fn mark(paint: Paint, severity: Severity) -> (String, usize) {
    match severity {
        Severity::Critical => (paint.red("critical"), 8),
        Severity::Warning => (paint.yellow("warning"), 7),
        Severity::Info => (paint.dim("info"), 4),
    }
}

/// A cause with its evidence and its fix; what follows from one is told in short, mild things too.
fn finding(text: &mut String, view: &View, report: &DiagnoseReport, at: usize) {
    let Some(finding) = report.findings.get(at) else { return };
    let follows = report.because.get(at).copied().flatten().is_some();
    let worst = worst_of(report, at);
    let is_cause = worst.is_some();
    let worst = worst.unwrap_or(finding.severity).max(finding.severity);
    let (word, length) =
        if is_cause && !follows { cause(view.paint, worst) } else { mark(view.paint, finding.severity) };
    let subject =
        if finding.subject == report.subject { String::new() } else { format!(", {}", finding.subject) };
    let summary = format!("{} [{}{subject}]", without_name(finding, report), finding.id);
    if follows {
        let _ = write!(text, "  └ so {word}: ");
        view.wrap(text, 9 + length, &summary);
    } else {
        let is_mild = |at: usize| {
            let alone = report.because.get(at).copied().flatten().is_none() && worst_of(report, at).is_none();
            alone && report.findings.get(at).is_some_and(|f| f.severity == Severity::Info)
        };
        // Mild things stand close together.
        let close = !view.verbose && is_mild(at) && at.checked_sub(1).is_some_and(is_mild);
        let _ = write!(text, "{}{word}: ", if close { "" } else { "\n" });
        view.wrap(text, length + 2, &summary);
    }
    if view.verbose || (!follows && worst > Severity::Info) {
        finding.evidence.iter().for_each(|e| evidence(text, view, e));
        text.push_str("  fix   ");
        view.wrap(text, 8, &finding.fix);
    }
}

/// The worst that follows from a finding, near or far.
fn worst_of(report: &DiagnoseReport, at: usize) -> Option<Severity> {
    let follows = |mut other: usize| {
        // The table of causes has no circles, and a way through it is never longer than the list.
        for _ in 0..report.because.len() {
            match report.because.get(other).copied().flatten() {
                Some(cause) if cause == at => return true,
                Some(cause) => other = cause,
                None => return false,
            }
        }
        false
    };
    (0..report.findings.len())
        .filter(|&o| follows(o))
        .filter_map(|o| report.findings.get(o))
        .map(|f| f.severity)
        .max()
}

/// A finding that explains others, in the colour of the worst of them.
fn cause(paint: Paint, worst: Severity) -> (String, usize) {
    let word = match worst {
        Severity::Critical => paint.red("cause"),
        Severity::Warning => paint.yellow("cause"),
        Severity::Info => paint.dim("cause"),
    };
    (word, 5)
}

fn evidence(text: &mut String, view: &View, evidence: &Evidence) {
    let value = match &evidence.value {
        serde_json::Value::String(s) => s.clone(),
        serde_json::Value::Null => "unknown".into(),
        other => other.to_string(),
    };
    let unit = evidence.unit.as_deref().map(|u| format!(" {u}")).unwrap_or_default();
    text.push_str("  seen  ");
    view.wrap(text, 8, &format!("{}: {value}{unit} ({})", evidence.what, evidence.source));
}

/// What could not be looked at, each with its reason; what passed in one line, or each with what was seen.
fn checks(text: &mut String, view: &View, checks: &[Check]) {
    let of = |outcome| checks.iter().filter(move |c| c.outcome == outcome);
    let blind: Vec<&Check> = of(Outcome::NotChecked).collect();
    if !blind.is_empty() {
        let _ = writeln!(text, "\n{}", view.paint.bold("not checked"));
        list(text, view, &blind);
    }
    let passed: Vec<&Check> = of(Outcome::Passed).collect();
    if view.verbose {
        let _ = writeln!(text, "\n{}", view.paint.bold("passed"));
        list(text, view, &passed);
    } else if !passed.is_empty() {
        text.push_str("\npassed  ");
        let names: Vec<&str> = passed.iter().map(|c| c.id.as_ref()).collect();
        view.wrap(text, 8, &names.join(", "));
    }
}

fn list(text: &mut String, view: &View, checks: &[&Check]) {
    let wide = checks.iter().map(|c| c.id.chars().count()).max().unwrap_or(0);
    for check in checks {
        let _ = write!(text, "  {:wide$}  ", check.id);
        view.wrap(text, wide + 4, &check.why);
    }
}

fn rows(text: &mut String, view: &View, rows: &[PathRow]) {
    if rows.is_empty() {
        return;
    }
    let width = |of: fn(&PathRow) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let from = width(|r| sanitize(&r.from).chars().count());
    let to = width(|r| r.to.chars().count());
    let _ = writeln!(text, "\n{}", view.paint.bold("paths"));
    for row in rows {
        let verdict = match row.verdict {
            Verdict::Clear => "clear",
            Verdict::Narrowed => "narrowed",
            Verdict::BlackHole => "black hole",
            Verdict::Unreachable => "no answer",
            Verdict::Inconclusive => "inconclusive",
        };
        let size = match (row.path_mtu, row.route_mtu) {
            (Some(path), Some(route)) if path == route => path.to_string(),
            (Some(path), Some(route)) => format!("{path} of {route}"),
            (Some(path), None) => path.to_string(),
            (None, _) => "-".to_owned(),
        };
        let rtt = row.rtt_us.map(|us| duration_ms(f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1000.0));
        let line = format!(
            "  {:from$} → {:to$}  {verdict:12}  {size:12}  {:>8}  {}",
            sanitize(&row.from),
            row.to,
            rtt.unwrap_or_else(|| "-".into()),
            view.paint.dim(&row.what)
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{links, path};

    fn report() -> DiagnoseReport {
        let seen = |what: &'static str, n: u32| Evidence::new(what, n, "bytes", "netlink RTM_GETLINK");
        DiagnoseReport {
            subject: "default/web-0".into(),
            target: Some(DiagnoseTarget {
                input: "db".into(),
                address: Some([10, 0, 0, 7].into()),
                port: Some(80),
            }),
            verdict: Health::Broken,
            checks: vec![
                Check::passed("links.own", "2 interfaces"),
                Check::not_checked("net.datapath", "Cilium's eBPF programs move the packets"),
            ],
            paths: vec![],
            findings: vec![
                links::TUNNEL_EXCEEDS_UNDERLAY.finding(
                    "host",
                    "flannel.1 has MTU 1500 and adds 50, eth0 takes 1500: only 1450 fit",
                    vec![seen("MTU of flannel.1", 1500)],
                    "lower it",
                ),
                path::BLACK_HOLE.finding(
                    "default/web-0",
                    "packets vanish \x1b[31m",
                    vec![seen("x", 1)],
                    "other fix",
                ),
            ],
            because: vec![None, Some(0)],
            rows: vec![],
            elapsed_ms: 12.0,
        }
    }

    #[test]
    fn the_root_cause_is_the_headline_and_its_fix_the_only_one() {
        let text = render_diagnose(&Out::new(Some(false)), &report(), false);
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("BROKEN  default/web-0 → db (10.0.0.7) port 80: flannel.1"), "{text}");
        assert!(
            text.contains("\ncause: flannel.1") && text.contains("  └ so critical: packets vanish"),
            "{text}"
        );
        assert!(text.contains("fix   lower it") && !text.contains("other fix"), "{text}");
        assert!(text.contains("not checked\n  net.datapath  Cilium"), "{text}");
        assert!(!text.contains('\x1b'), "nothing of a pod steers the terminal");
    }

    #[test]
    fn no_line_is_wider_than_a_narrow_terminal() {
        let mut report = report();
        let long = "words ".repeat(60);
        report.findings.iter_mut().for_each(|f| f.fix = long.clone());
        report.checks.push(Check::not_checked("sockets.read", long));
        for verbose in [false, true] {
            let text = render_diagnose(&Out::new(Some(false)), &report, verbose);
            let widest = text.lines().map(|l| l.chars().count()).max().unwrap();
            assert!(widest <= 80, "{widest}\n{text}");
        }
    }

    #[test]
    fn what_was_not_looked_at_stands_in_the_headline_when_nothing_else_does() {
        let report =
            DiagnoseReport { verdict: Health::Unknown, findings: vec![], because: vec![], ..report() };
        let text = render_diagnose(&Out::new(Some(false)), &report, false);
        assert!(text.starts_with("UNKNOWN") && text.contains("net.datapath"), "{text}");
    }
}
