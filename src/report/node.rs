//! `nsprobe node`: the document, verdict first, then what is wrong, what was not looked at, what passed.

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
            let _ = writeln!(text, "{}: {} [{}]", paint.dim("info"), sanitize(&finding.summary), finding.id);
        }
    }
    let mut list = |title: &str, checks: Vec<&Check>| {
        if checks.is_empty() {
            return;
        }
        let wide = checks.iter().map(|c| c.id.chars().count()).max().unwrap_or(0);
        let _ = writeln!(text, "\n{}", paint.bold(title));
        for check in checks {
            let _ = writeln!(text, "  {:wide$}  {}", check.id, sanitize(&check.why));
        }
    };
    list("not checked", of(Outcome::NotChecked).collect());
    if verbose {
        list("passed", of(Outcome::Passed).collect());
    } else if passed > 0 {
        let names: Vec<&str> = of(Outcome::Passed).map(|c| c.id.as_ref()).collect();
        let _ = writeln!(text, "\npassed  {}", names.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
