//! Pieces of text that every command's output shares.

use super::Paint;
use crate::facts::{Finding, Severity};
use std::borrow::Cow;
use std::fmt::Write;

/// Text from a pod, a log or a packet without control characters: those are shown as `\x1b`, `\n`.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if steers(c) { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    Cow::Owned(clean)
}

/// C0, DEL and C1 steer terminals; bidirectional marks make a line read as something else.
pub(super) fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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

/// Findings, worst first: summary, evidence, fix. On a terminal of `width` columns lines are broken between words,
/// each under its own beginning; a pipe gets whole lines.
pub fn findings(paint: Paint, width: Option<usize>, findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let mut text = String::new();
    for finding in sorted {
        let (word, mark) = match finding.severity {
            Severity::Critical => ("critical", paint.red("critical")),
            Severity::Warning => ("warning", paint.yellow("warning")),
            Severity::Info => ("info", paint.dim("info")),
        };
        let _ = write!(text, "{mark}: ");
        let subject = format!("[{}, {}]", finding.id, sanitize(&finding.subject));
        broken(&mut text, width, word.len() + 2, paint, &sanitize(&finding.summary), &subject);
        for evidence in &finding.evidence {
            let value = match &evidence.value {
                serde_json::Value::String(s) => sanitize(s).into_owned(),
                serde_json::Value::Null => "unknown".into(),
                other => other.to_string(),
            };
            let unit = evidence.unit.as_deref().map(|u| format!(" {u}")).unwrap_or_default();
            let seen = format!("{}: {value}{unit}", sanitize(&evidence.what));
            text.push_str("  seen  ");
            broken(&mut text, width, INDENT, paint, &seen, &format!("({})", sanitize(&evidence.source)));
        }
        for (at, line) in finding.fix.lines().enumerate() {
            text.push_str(if at == 0 { "  fix   " } else { "        " });
            broken(&mut text, width, INDENT, paint, &sanitize(line), "");
        }
    }
    text
}

/// Columns before evidence and fix.
const INDENT: usize = 8;

/// Puts words, and dimmed ones after them, behind `indent` columns that are there already, and ends the line.
pub(super) fn broken(
    text: &mut String,
    width: Option<usize>,
    indent: usize,
    paint: Paint,
    words: &str,
    dimmed: &str,
) {
    let Some(width) = width else {
        text.push_str(words);
        if !dimmed.is_empty() {
            let _ = write!(text, " {}", paint.dim(dimmed));
        }
        text.push('\n');
        return;
    };
    let mut used = indent;
    let plain = words.split(' ').map(|word| (word, false));
    let all = plain.chain(dimmed.split(' ').filter(|word| !word.is_empty()).map(|word| (word, true)));
    for (at, (word, dim)) in all.enumerate() {
        let length = word.chars().count();
        if at > 0 && used + 1 + length > width {
            let _ = write!(text, "\n{:indent$}", "");
            used = indent;
        } else if at > 0 {
            text.push(' ');
            used += 1;
        }
        if dim {
            text.push_str(&paint.dim(word));
        } else {
            text.push_str(word);
        }
        used += length;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_from_a_pod_never_reach_the_terminal() {
        assert_eq!(sanitize("web-0"), "web-0");
        assert_eq!(sanitize("a\x1b[31mb\r\nc\u{202e}d\u{9b}"), "a\\u{1b}[31mb\\r\\nc\\u{202e}d\\u{9b}");
    }

    fn one() -> Finding {
        Finding {
            id: "links.veth_mtu_mismatch",
            severity: Severity::Warning,
            subject: "default/web-0".into(),
            summary: "eth0 has MTU 1500, its other end 1450".into(),
            evidence: vec![crate::facts::Evidence::new("MTU of eth0", 1500, "bytes", "netlink RTM_GETLINK")],
            fix: "give both ends the same MTU\nthen recreate the pod".into(),
        }
    }

    #[test]
    fn a_narrow_terminal_gets_lines_broken_between_words_and_a_pipe_whole_ones() {
        let narrow = findings(Paint::new(false), Some(40), &[one()]);
        assert_eq!(
            narrow,
            "warning: eth0 has MTU 1500, its other\n         end 1450\n         [links.veth_mtu_mismatch,\n         default/web-0]\n  \
             seen  MTU of eth0: 1500 bytes (netlink\n        RTM_GETLINK)\n  fix   give both ends the same MTU\n        \
             then recreate the pod\n"
        );
        let painted = findings(Paint::new(true), Some(40), &[one()]);
        assert_eq!(painted.lines().count(), narrow.lines().count(), "colours take no columns");
        let whole = findings(Paint::new(false), None, &[one()]);
        assert_eq!(
            whole,
            "warning: eth0 has MTU 1500, its other end 1450 [links.veth_mtu_mismatch, default/web-0]\n  \
             seen  MTU of eth0: 1500 bytes (netlink RTM_GETLINK)\n  fix   give both ends the same MTU\n        \
             then recreate the pod\n"
        );
    }
}
