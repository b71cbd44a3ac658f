//! `nsprobe node`: the document, verdict first, then what is wrong, what was not looked at, what passed.

use super::text::broken;
use super::{Out, Paint, duration_ms, findings, sanitize};
use crate::facts::{Check, Finding, Health, Outcome, Severity};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write;

/// Body of `nsprobe.node/v1`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeDocument {
    /// One word for all.
    pub verdict: Health,
    /// What was looked at, and what could not be.
    pub checks: Vec<Check>,
    /// The worst first.
    pub findings: Vec<Finding>,
}

/// Body of `nsprobe.node_event/v1`: a line that was logged while the node's log is followed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeEvent {
    /// When it was logged, RFC 3339, UTC.
    pub time: String,
    /// Who logged it: a unit, else the program's name, `kernel` for the kernel.
    pub unit: Option<String>,
    /// The id of the cause that it speaks of, as in the findings of `nsprobe.node/v1`.
    pub cause: &'static str,
    /// How bad that cause is.
    pub severity: Severity,
    /// The line.
    pub line: String,
    /// The file that it was read from.
    pub source: String,
}

/// An event on one line.
pub fn render_node_event(event: &NodeEvent, out: &Out) -> String {
    render_event(event, out.paint)
}

fn render_event(event: &NodeEvent, paint: Paint) -> String {
    let cause = match event.severity {
        Severity::Critical => paint.red(event.cause),
        Severity::Warning => paint.yellow(event.cause),
        Severity::Info => paint.dim(event.cause),
    };
    let unit = sanitize(event.unit.as_deref().unwrap_or("?"));
    format!("{}  {unit}  {cause}  {}\n", event.time, sanitize(&event.line))
}

/// The whole text.
pub fn render_node(document: &NodeDocument, elapsed_ms: f64, verbose: bool, out: &Out) -> String {
    render(document, elapsed_ms, verbose, out.paint, out.width)
}

fn render(
    document: &NodeDocument,
    elapsed_ms: f64,
    verbose: bool,
    paint: Paint,
    width: Option<usize>,
) -> String {
    let of = |outcome| document.checks.iter().filter(move |c| c.outcome == outcome);
    let word = match document.verdict {
        Health::Healthy => paint.green("HEALTHY"),
        Health::Degraded => paint.yellow("DEGRADED"),
        Health::Broken => paint.red("BROKEN"),
        Health::Unknown => paint.yellow("UNKNOWN"),
    };
    let (passed, blind) = (of(Outcome::Passed).count(), of(Outcome::NotChecked).count());
    let mut text = format!(
        "{word}  {} failed, {passed} passed, {blind} not checked, in {}\n",
        of(Outcome::Failed).count(),
        duration_ms(elapsed_ms)
    );
    let (worse, mild): (Vec<Finding>, Vec<Finding>) =
        document.findings.iter().cloned().partition(|f| f.severity > Severity::Info);
    if !worse.is_empty() {
        let _ = write!(text, "\n{}", findings(paint, width, &worse));
    }
    if verbose && !mild.is_empty() {
        let _ = write!(text, "\n{}", findings(paint, width, &mild));
    } else if !mild.is_empty() {
        text.push('\n');
        for finding in &mild {
            let _ = write!(text, "{}: ", paint.dim("info"));
            let words = format!("{} [{}]", sanitize(&finding.summary), finding.id);
            broken(&mut text, width, 6, paint, &words, "");
        }
    }
    let mut list = |title: &str, checks: Vec<&Check>| {
        if checks.is_empty() {
            return;
        }
        let wide = checks.iter().map(|c| c.id.chars().count()).max().unwrap_or(0);
        let _ = writeln!(text, "\n{}", paint.bold(title));
        let mut last = "";
        for check in checks {
            let _ = write!(text, "  {:wide$}  ", check.id);
            // One reason for several stands once.
            let why = if check.why == last { "the same" } else { &sanitize(&check.why) };
            broken(&mut text, width, wide + 4, paint, why, "");
            last = &check.why;
        }
    };
    list("not checked", of(Outcome::NotChecked).collect());
    if verbose {
        list("passed", of(Outcome::Passed).collect());
    } else if passed > 0 {
        let names: Vec<&str> = of(Outcome::Passed).map(|c| c.id.as_ref()).collect();
        text.push_str("\npassed  ");
        broken(&mut text, width, 8, paint, &names.join(", "), "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_was_logged() {
        let event = NodeEvent {
            time: "2026-11-25T14:03:00Z".into(),
            unit: None,
            cause: "node.swap",
            severity: Severity::Critical,
            line: "a\nb\x1b[2J".into(),
            source: "/dev/kmsg".into(),
        };
        let text = render_event(&event, Paint::new(false));
        assert!(text.starts_with("2026-11-25T14:03:00Z  ?  node.swap  a"), "{text}");
        assert!(text.lines().count() == 1 && text.ends_with('\n') && !text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn the_verdict_comes_first_and_what_was_not_looked_at_is_told() {
        let document = NodeDocument {
            verdict: Health::Unknown,
            checks: vec![
                Check::not_checked("node.kubelet", "none \x1b[31m"),
                Check::passed("node.disks", "/ 50 % free"),
            ],
            findings: vec![],
        };
        let text = render(&document, 12.0, false, Paint::new(false), None);
        assert!(text.starts_with("UNKNOWN  0 failed, 1 passed, 1 not checked, in 12"), "{text}");
        assert!(text.contains("node.kubelet  none ") && !text.contains('\x1b'), "{text}");
        assert!(text.ends_with("\npassed  node.disks\n"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_gets_narrow_lines_and_one_reason_once() {
        let long = "words ".repeat(40);
        let document = NodeDocument {
            verdict: Health::Unknown,
            checks: vec![
                Check::not_checked("node.a", long.trim_end()),
                Check::not_checked("node.b", long.trim_end()),
                Check::passed("node.c", long.trim_end()),
            ],
            findings: vec![Finding {
                id: "node.x",
                severity: Severity::Info,
                subject: "host".into(),
                summary: long.clone(),
                evidence: vec![],
                fix: String::new(),
            }],
        };
        for verbose in [false, true] {
            let text = render(&document, 1.0, verbose, Paint::new(false), Some(80));
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            assert!(text.contains("\n  node.b  the same\n"), "{text}");
            let piped = render(&document, 1.0, verbose, Paint::new(false), None);
            assert!(piped.lines().any(|line| line.len() > 200), "{piped}");
        }
    }
}
