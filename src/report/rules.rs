//! `nsprobe rules`: every finding that can be made.

use super::{Out, Paint};
use crate::diagnose::Rule;
use crate::facts::{Finding, Severity};
use schemars::JsonSchema;
use serde::Serialize;

/// Body of `nsprobe.rules/v1`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesDocument {
    /// By id.
    pub rules: Vec<Rule>,
    /// Always empty: every document has this key.
    pub findings: Vec<Finding>,
}

/// A table: id, severity, meaning, and the fix below it.
pub fn render_rules(document: &RulesDocument, out: &Out) -> String {
    render(&document.rules, out.paint, out.width)
}

fn render(rules: &[Rule], paint: Paint, width: Option<usize>) -> String {
    let widest = rules.iter().map(|rule| rule.id.len()).max().unwrap_or(0).max("ID".len());
    let indent = widest + 2 + "critical".len() + 2;
    // A pipe gets whole lines; a narrow terminal still gets some words a line.
    let room = width.map_or(usize::MAX, |columns| columns.saturating_sub(indent).max(30));
    let mut text = paint.bold(&format!("{:widest$}  {:8}  MEANING AND FIX", "ID", "SEVERITY")) + "\n";
    for rule in rules {
        let padded = format!("{:8}", name(rule.severity));
        let severity = match rule.severity {
            Severity::Critical => paint.red(&padded),
            Severity::Warning => paint.yellow(&padded),
            Severity::Info => paint.dim(&padded),
        };
        let mut lines = wrap(rule.meaning, room).into_iter();
        text.push_str(&format!("{:widest$}  {severity}  {}\n", rule.id, lines.next().unwrap_or_default()));
        for line in lines {
            text.push_str(&format!("{:indent$}{line}\n", ""));
        }
        for line in wrap(rule.fix, room) {
            text.push_str(&format!("{:indent$}{}\n", "", paint.dim(&line)));
        }
    }
    text
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

/// Breaks a text between words into lines of at most `room` characters; a longer word has its own line.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [Rule; 2] = [
        Rule { id: "a.b", severity: Severity::Info, meaning: "One two three four.", fix: "Five six." },
        Rule { id: "long.name", severity: Severity::Critical, meaning: "Seven.", fix: "" },
    ];

    #[test]
    fn a_pipe_gets_whole_lines() {
        let text = render(&RULES, Paint::new(false), None);
        assert_eq!(
            text,
            "ID         SEVERITY  MEANING AND FIX\n\
             a.b        info      One two three four.\n                     Five six.\n\
             long.name  critical  Seven.\n"
        );
    }

    #[test]
    fn a_narrow_terminal_gets_broken_lines_under_each_other() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("averylongword b", 4), ["averylongword", "b"]);
        assert!(wrap("", 4).is_empty());
    }
}
