//! Pieces of text that every command's output shares.

use super::Paint;
use crate::facts::{Finding, Severity};
use std::borrow::Cow;
use std::fmt::Write;

/// Text from a pod, a log or a packet without control characters: those are shown as `\x1b`, `\n`.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    // C0, DEL and C1 steer terminals; bidirectional marks make a line read as something else.
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if bad(c) { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    Cow::Owned(clean)
}

/// A duration in milliseconds as people read it: `0.04 ms`, `3.1 ms`, `12 ms`, `3.1 s`.
pub fn duration_ms(ms: f64) -> String {
    if ms < 1.0 {
        format!("{ms:.2} ms")
    } else if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

/// Findings, worst first: summary, evidence, fix.
pub fn findings(paint: Paint, findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let mut text = String::new();
    for finding in sorted {
        let mark = match finding.severity {
            Severity::Critical => paint.red("critical"),
            Severity::Warning => paint.yellow("warning"),
            Severity::Info => paint.dim("info"),
        };
        let _ = writeln!(
            text,
            "{mark}: {} {}",
            sanitize(&finding.summary),
            paint.dim(&format!("[{}, {}]", finding.id, sanitize(&finding.subject)))
        );
        for evidence in &finding.evidence {
            let value = match &evidence.value {
                serde_json::Value::String(s) => sanitize(s).into_owned(),
                serde_json::Value::Null => "unknown".into(),
                other => other.to_string(),
            };
            let unit = evidence.unit.as_deref().map(|u| format!(" {u}")).unwrap_or_default();
            let _ = writeln!(
                text,
                "  seen  {}: {value}{unit} {}",
                sanitize(&evidence.what),
                paint.dim(&format!("({})", sanitize(&evidence.source)))
            );
        }
        if !finding.fix.is_empty() {
            let _ = writeln!(text, "  fix   {}", sanitize(&finding.fix).replace("\\n", "\n        "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_from_a_pod_never_reach_the_terminal() {
        assert_eq!(sanitize("web-0"), "web-0");
        assert_eq!(sanitize("a\x1b[31mb\r\nc\u{202e}d\u{9b}"), "a\\u{1b}[31mb\\r\\nc\\u{202e}d\\u{9b}");
    }
}
