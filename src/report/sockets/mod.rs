//! `nsprobe.sockets/v1` and its text: the verdict, what hangs and why, then a table with the stuck ones on top.

mod detail;
mod table;

use super::{Paint, findings, sanitize};
use crate::facts::{Finding, MeasuredPath, Severity, Socket, SocketState};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write;

/// The sockets of one namespace, or of one pod in the node's.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SocketNamespace {
    /// Whose: `default/web-0`, `host`.
    pub subject: String,
    /// Inode of the network namespace.
    pub netns_inode: u64,
    /// In the kernel's order.
    pub sockets: Vec<Socket>,
}

/// `nsprobe.sockets/v1`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SocketsDocument {
    /// One for each SOURCE.
    pub namespaces: Vec<SocketNamespace>,
    /// What hangs, and why.
    pub findings: Vec<Finding>,
}

/// How the text is laid out.
#[derive(Debug, Clone, Copy)]
pub struct SocketsView {
    /// Escape sequences or none.
    pub paint: Paint,
    /// Columns of the terminal; `None` for a pipe, which gets every column and every socket.
    pub width: Option<usize>,
    /// Every socket, and a second line on each connection.
    pub verbose: bool,
}

/// The verdict, the findings, a table for each namespace. `measured`: the paths that were measured, one list a
/// namespace.
pub fn render_sockets(report: &SocketsDocument, measured: &[Vec<MeasuredPath>], view: SocketsView) -> String {
    let mut text = verdict(report, view.paint);
    if !report.findings.is_empty() {
        text.push('\n');
        text.push_str(&findings(view.paint, view.width, &report.findings));
    }
    let none = Vec::new();
    for (namespace, paths) in report.namespaces.iter().zip(measured.iter().chain(std::iter::repeat(&none))) {
        let counts = match namespace.sockets.as_slice() {
            // The verdict has said so.
            [] if report.namespaces.len() == 1 => continue,
            [] => "no sockets".to_owned(),
            some => counts(some),
        };
        let subject = sanitize(&namespace.subject);
        let _ = writeln!(text, "\n{}  {}", view.paint.bold(&subject), view.paint.dim(&counts));
        table::render(&mut text, &namespace.sockets, paths, view);
    }
    text
}

fn verdict(report: &SocketsDocument, paint: Paint) -> String {
    let sockets: usize = report.namespaces.iter().map(|n| n.sockets.len()).sum();
    let whose = match report.namespaces.as_slice() {
        [one] => sanitize(&one.subject).into_owned(),
        many => format!("{} sources", many.len()),
    };
    let what = match sockets {
        0 => format!("no sockets of {whose}"),
        1 => format!("1 socket of {whose}"),
        n => format!("{n} sockets of {whose}"),
    };
    let mut told = Vec::new();
    let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    match count(Severity::Critical) {
        0 => {}
        n => told.push(format!("{n} critical")),
    }
    match count(Severity::Warning) {
        0 => {}
        1 => told.push("1 warning".into()),
        n => told.push(format!("{n} warnings")),
    }
    if told.is_empty() {
        return match sockets {
            0 => format!("{what}\n"),
            _ => format!("{}: {what}\n", paint.green("nothing hangs")),
        };
    }
    let told = told.join(", ");
    let critical = report.findings.iter().any(|f| f.severity == Severity::Critical);
    let told = if critical { paint.red(&told) } else { paint.yellow(&told) };
    format!("{told}: {what}\n")
}

/// `9 ESTAB, 2 LISTEN, 1 SYN-SENT`.
fn counts(sockets: &[Socket]) -> String {
    let mut counts: std::collections::BTreeMap<SocketState, usize> = std::collections::BTreeMap::new();
    for socket in sockets {
        *counts.entry(socket.state).or_default() += 1;
    }
    let mut told: Vec<(SocketState, usize)> = counts.into_iter().collect();
    told.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let told: Vec<String> =
        told.iter().map(|(state, count)| format!("{count} {}", state_name(*state))).collect();
    told.join(", ")
}

/// As ss writes it.
fn state_name(state: SocketState) -> &'static str {
    match state {
        SocketState::Established => "ESTAB",
        SocketState::SynSent => "SYN-SENT",
        SocketState::SynRecv => "SYN-RECV",
        SocketState::FinWait1 => "FIN-WAIT-1",
        SocketState::FinWait2 => "FIN-WAIT-2",
        SocketState::TimeWait => "TIME-WAIT",
        SocketState::Closed => "CLOSED",
        SocketState::CloseWait => "CLOSE-WAIT",
        SocketState::LastAck => "LAST-ACK",
        SocketState::Listen => "LISTEN",
        SocketState::Closing => "CLOSING",
        SocketState::Unconnected => "UNCONN",
        SocketState::Unknown => "UNKNOWN",
    }
}
