//! Rules on sockets: what hangs, and whether the MTU is the reason. One finding a peer, however many connections.

mod rules;
mod trouble;
mod words;

pub use rules::{
    BACKLOG_FULL, CLOSE_WAIT, HALF_OPEN, HOST_NETWORK, LOSSY, MTU_SUSPECTED, NOT_READING, PEER_SILENT, RULES,
    STUCK_ON_MTU, SYN_UNANSWERED, TINY_PATH_MTU, UDP_DROPS, UNREAD, ZERO_WINDOW,
};
pub use trouble::{Trouble, suspects, trouble};

use super::Rule;
use crate::facts::{Evidence, Finding, MeasuredPath, Protocol, Socket, SocketState};
use std::collections::BTreeMap;

/// Where all of this is read.
pub(super) const SOURCE: &str = "sock_diag tcp_info";
/// Findings of one rule; what is left is told in one more.
const MOST_FINDINGS: usize = 6;
/// Connections that one finding shows.
const MOST_EVIDENCE: usize = 3;
/// Connections that are closed by the peer alone, of one process, that are no accident.
const CLOSE_WAIT_PILE: usize = 10;
/// And that are so for longer than a busy application needs.
const CLOSE_WAIT_MS: u32 = 3000;

/// What hangs among the sockets of `subject`, and why. `measured` is what is known of the paths to remote
/// addresses; without it nothing is claimed of the MTU, only suspected. `of_node` where their namespace is the node's
/// own: what mends one pod there changes all of them.
pub fn check_sockets(
    subject: &str,
    of_node: bool,
    sockets: &[Socket],
    measured: &[MeasuredPath],
) -> Vec<Finding> {
    let mut groups: BTreeMap<(Trouble, String), Vec<&Socket>> = BTreeMap::new();
    for socket in sockets {
        if let Some(trouble) = trouble(socket, measured) {
            groups.entry((trouble, group_of(trouble, socket))).or_default().push(socket);
        }
    }
    let mut findings = Vec::new();
    let mut of_rule: BTreeMap<Trouble, Vec<Vec<&Socket>>> = BTreeMap::new();
    for ((trouble, _), group) in groups {
        of_rule.entry(trouble).or_default().push(group);
    }
    for (trouble, mut groups) in of_rule {
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let rest = groups.split_off(groups.len().min(MOST_FINDINGS));
        let one = |group: Vec<&Socket>| words::finding((subject, of_node), trouble, &group, measured);
        findings.extend(groups.into_iter().map(one));
        if !rest.is_empty() {
            findings.push(rest_of(subject, trouble, &rest));
        }
    }
    findings.extend(check_close_wait(subject, sockets));
    findings
}

/// What makes two sockets one finding: the same peer, or the same reader.
fn group_of(trouble: Trouble, socket: &Socket) -> String {
    let remote = || socket.remote.map(|r| r.ip().to_string()).unwrap_or_default();
    match trouble {
        Trouble::BacklogFull | Trouble::HalfOpen => socket.local.to_string(),
        Trouble::NotReading | Trouble::UdpDrops => {
            let process = socket.process.as_ref().map(|p| p.pid);
            format!("{} {}", socket.local.port(), process.unwrap_or(0))
        }
        Trouble::SynUnanswered => socket.remote.map(|r| r.to_string()).unwrap_or_default(),
        // One word for all: it is the path that loses.
        Trouble::Lossy => String::new(),
        _ => remote(),
    }
}

/// One finding for all peers that have none of their own.
fn rest_of(subject: &str, trouble: Trouble, groups: &[Vec<&Socket>]) -> Finding {
    let rule = words::rule(trouble);
    let sockets: usize = groups.iter().map(Vec::len).sum();
    let example = groups.first().and_then(|group| group.first());
    let mut evidence = vec![Evidence::new("sockets of the same kind", sockets, "sockets", SOURCE)];
    evidence.extend(example.map(|socket| words::evidence(socket)));
    let summary = format!(
        "{} more, {} in all, are in the same trouble: {}",
        words::plural(groups.len(), "peer or port", "peers or ports"),
        words::plural(sockets, "socket", "sockets"),
        words::short(trouble)
    );
    rule.finding(subject, summary, evidence, rule.fix)
}

/// Connections that their peers have closed and the application has not, many of one process.
fn check_close_wait(subject: &str, sockets: &[Socket]) -> Vec<Finding> {
    let mut piles: BTreeMap<Option<u32>, Vec<&Socket>> = BTreeMap::new();
    let waits = |socket: &&Socket| {
        let old = socket.detail.tcp.is_some_and(|tcp| tcp.last_ack_ms >= CLOSE_WAIT_MS);
        socket.state == SocketState::CloseWait && old
    };
    for socket in sockets.iter().filter(waits) {
        // Those whose process is not known are one pile.
        let key = socket.process.as_ref().map(|process| process.pid);
        piles.entry(key).or_default().push(socket);
    }
    let pile = |group: &Vec<&Socket>| {
        let first = group.first()?;
        let who = words::holder(first).unwrap_or_else(|| "a process that was not found".into());
        let summary = format!(
            "{who} keeps {} open that the peer has closed: it never closes them",
            words::plural(group.len(), "connection", "connections")
        );
        let unread = group.iter().filter(|s| s.recv_queue_bytes.is_some_and(|n| n > 1)).count();
        let mut evidence = vec![
            Evidence::new(format!("sockets in CLOSE-WAIT of {who}"), group.len(), "sockets", SOURCE),
            Evidence::new("of these with data that was never read", unread, "sockets", SOURCE),
        ];
        evidence.push(words::evidence(first));
        Some(CLOSE_WAIT.finding(subject, summary, evidence, CLOSE_WAIT.fix))
    };
    piles.values().filter(|group| group.len() >= CLOSE_WAIT_PILE).filter_map(pile).collect()
}

/// What could not be looked at, of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unread {
    /// Messages that could not be read.
    pub unreadable: u32,
    /// Sockets beyond the bound.
    pub left_out: u32,
    /// Protocols that the kernel gives no diagnostics of.
    pub refused: Vec<Protocol>,
    /// Processes whose descriptors may not be looked at.
    pub denied: u32,
    /// The bound on descriptors ended the look for processes.
    pub cut: bool,
}

/// Names what was not looked at.
pub fn check_unread(subject: &str, unread: &Unread) -> Option<Finding> {
    let mut evidence = Vec::new();
    for protocol in &unread.refused {
        let what = format!("{} sockets", protocol.name().to_uppercase());
        evidence.push(Evidence::text(what, "the kernel gives no diagnostics of them", "sock_diag"));
    }
    if unread.unreadable > 0 {
        evidence.push(Evidence::new(
            "messages that could not be read",
            unread.unreadable,
            "sockets",
            "sock_diag",
        ));
    }
    if unread.left_out > 0 {
        evidence.push(Evidence::new("sockets beyond the bound", unread.left_out, "sockets", "sock_diag"));
    }
    if unread.denied > 0 {
        evidence.push(Evidence::new(
            "processes that may not be looked into",
            unread.denied,
            "processes",
            "/proc/PID/fd",
        ));
    }
    if unread.cut {
        evidence.push(Evidence::text(
            "processes",
            "too many open files to look at all of them",
            "/proc/PID/fd",
        ));
    }
    let told = evidence.iter().map(|e| match e.unit {
        Some(_) => format!("{} {}", e.value, e.what),
        None => format!("{}: {}", e.what, e.value.as_str().unwrap_or_default()),
    });
    let summary = format!("not everything was looked at: {}", told.collect::<Vec<_>>().join("; "));
    (!evidence.is_empty()).then(|| UNREAD.finding(subject, summary, evidence, UNREAD.fix))
}

/// A namespace that could not be read at all.
pub fn check_unreadable(subject: &str, why: &str) -> Finding {
    let evidence = vec![Evidence::text(format!("sockets of {subject}"), why.to_owned(), "sock_diag")];
    UNREAD.finding(
        subject,
        format!("its sockets could not be read: {why}"),
        evidence,
        "nsprobe pods shows whether it still runs; run it again",
    )
}

/// Says that of the node's sockets only those of one pod's processes are shown.
pub fn check_host_network(subject: &str, processes: usize, shown: usize) -> Finding {
    let evidence = vec![
        Evidence::new("processes of the pod", processes, "processes", "/proc/PID/cgroup"),
        Evidence::new("sockets that they hold", shown, "sockets", "/proc/PID/fd"),
    ];
    let summary = format!(
        "{subject} uses the node's own network: only the sockets that its {} hold are shown",
        words::plural(processes, "process", "processes")
    );
    HOST_NETWORK.finding(subject, summary, evidence, HOST_NETWORK.fix)
}

/// Severity of what is wrong with a socket.
pub fn severity(trouble: Trouble) -> crate::facts::Severity {
    let rule: &Rule = words::rule(trouble);
    rule.severity
}

/// What is wrong with a socket, in a few words, for a table.
pub fn short(trouble: Trouble) -> &'static str {
    words::short(trouble)
}
