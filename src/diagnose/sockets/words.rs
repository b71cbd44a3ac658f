//! How a finding on sockets reads: the sentence, what was seen, what to do.

use super::rules::*;
use super::trouble::{EVERY_PATH_CARRIES, Trouble, carries, largest_on_the_way, path_of};
use super::{MOST_EVIDENCE, SOURCE};
use crate::diagnose::Rule;
use crate::facts::{Evidence, Finding, MeasuredPath, Socket, SocketState, Verdict};

pub(super) fn rule(trouble: Trouble) -> &'static Rule {
    match trouble {
        Trouble::StuckOnMtu => &STUCK_ON_MTU,
        Trouble::BacklogFull => &BACKLOG_FULL,
        Trouble::MtuSuspected => &MTU_SUSPECTED,
        Trouble::PeerSilent => &PEER_SILENT,
        Trouble::SynUnanswered => &SYN_UNANSWERED,
        Trouble::HalfOpen => &HALF_OPEN,
        Trouble::ZeroWindow => &ZERO_WINDOW,
        Trouble::NotReading => &NOT_READING,
        Trouble::TinyPathMtu => &TINY_PATH_MTU,
        Trouble::Lossy => &LOSSY,
        Trouble::UdpDrops => &UDP_DROPS,
    }
}

pub(super) fn short(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::StuckOnMtu => "stuck on MTU",
        Trouble::BacklogFull => "backlog full",
        Trouble::MtuSuspected => "stuck, MTU?",
        Trouble::PeerSilent => "peer silent",
        Trouble::SynUnanswered => "SYN unanswered",
        Trouble::HalfOpen => "half open",
        Trouble::ZeroWindow => "peer not reading",
        Trouble::NotReading => "not reading",
        Trouble::TinyPathMtu => "tiny path MTU",
        Trouble::Lossy => "lossy",
        Trouble::UdpDrops => "dropped some",
    }
}

pub(super) fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `nginx (PID 7)`.
pub(super) fn holder(socket: &Socket) -> Option<String> {
    socket.process.as_ref().map(|process| format!("{} (PID {})", process.name, process.pid))
}

/// The way of a socket: `10.0.0.1:43936 → 10.0.0.2:80`.
fn way(socket: &Socket) -> String {
    match socket.remote {
        Some(remote) => format!("{} → {remote}", socket.local),
        None => socket.local.to_string(),
    }
}

/// One socket as evidence: who holds it, and its numbers.
pub(super) fn evidence(socket: &Socket) -> Evidence {
    let mut what = way(socket);
    if let Some(holder) = holder(socket) {
        what.push_str(&format!(", {holder}"));
    }
    let mut told = Vec::new();
    if let (Some(waiting), Some(backlog)) = (socket.detail.waiting, socket.detail.backlog) {
        told.push(format!("{waiting} connections wait, {backlog} may"));
    }
    if socket.state == SocketState::SynSent {
        told.push("SYN sent".into());
    } else if socket.state == SocketState::SynRecv {
        told.push(format!("SYN-ACK sent again {} times", socket.detail.timer_retries));
    } else if let Some(unacked) = socket.unacked.filter(|&n| n > 0) {
        let bytes = socket.in_flight_bytes().unwrap_or(0);
        told.push(format!(
            "{bytes} bytes in {} unacknowledged",
            plural(usize_of(unacked), "segment", "segments")
        ));
    } else if let Some(queued) = socket.send_queue_bytes.filter(|&n| n > 0) {
        told.push(format!("{queued} bytes wait to be sent"));
    }
    if let Some(unread) = socket.recv_queue_bytes.filter(|&n| n > 0) {
        told.push(format!("{unread} bytes unread"));
    }
    if let Some(again) = socket.retransmits.filter(|&n| n > 0) {
        told.push(format!("{again} retransmissions"));
    }
    if let Some(tcp) = socket.detail.tcp {
        let timeouts = tcp.timeouts.max(tcp.backoff);
        if timeouts > 0 {
            told.push(format!("{timeouts} timeouts in a row"));
        }
        if tcp.probes > 0 {
            told.push(format!("{} probes unanswered", tcp.probes));
        }
    }
    if let Some(drops) = socket.detail.drops.filter(|&n| n > 0) {
        told.push(format!("{drops} dropped so far"));
    }
    if told.is_empty() {
        told.push("open".into());
    }
    Evidence::text(what, told.join(", "), SOURCE)
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The finding of a group of sockets in the same trouble.
pub(super) fn finding(
    (subject, of_node): (&str, bool),
    trouble: Trouble,
    group: &[&Socket],
    measured: &[MeasuredPath],
) -> Finding {
    let rule = rule(trouble);
    let count = plural(group.len(), "connection", "connections");
    let hang = if group.len() == 1 { "hangs" } else { "hang" };
    let first = group.first();
    let remote = first.and_then(|s| s.remote).map(|r| r.ip().to_string()).unwrap_or_else(|| "?".into());
    let endpoint = first.and_then(|s| s.remote).map(|r| r.to_string()).unwrap_or_else(|| "?".into());
    let local = first.map(|s| s.local.to_string()).unwrap_or_default();
    let who = first.and_then(|s| holder(s)).unwrap_or_else(|| "its process".into());
    let path = first.and_then(|s| path_of(s, measured));
    let limit = path.and_then(carries);
    let segment = group.iter().filter_map(|s| s.segment_bytes()).max();
    let shown = |n: Option<u32>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let mut evidence = Vec::new();
    let mut fix = rule.fix.replace("SOURCE", subject);
    let summary = match trouble {
        Trouble::StuckOnMtu => {
            fix = mtu_fix(
                (subject, of_node),
                &remote,
                limit.unwrap_or(0),
                path.and_then(|p| p.interface.as_deref()),
                first.is_some_and(|s| s.detail.ipv6),
            );
            format!(
                "{count} to {remote} {hang}: full segments make packets of {} bytes, the path carries {}",
                shown(segment),
                shown(limit)
            )
        }
        Trouble::MtuSuspected => {
            fix = match path {
                Some(_) => format!(
                    "measure by another way, to a port that is known to be open: nsprobe mtu {subject} {remote} --port N"
                ),
                None => {
                    format!("measure: nsprobe sockets {subject} --measure, or nsprobe mtu {subject} {remote}")
                }
            };
            format!(
                "{count} to {remote} {hang} with packets of {} bytes on the way: too large for the path, or the peer is gone",
                shown(segment)
            )
        }
        Trouble::PeerSilent => {
            let largest = group.iter().filter_map(|s| largest_on_the_way(s)).max();
            match limit {
                Some(limit) => format!(
                    "{count} to {remote} {hang}, and not because of the MTU: the path carries {limit} bytes, and packets of {} are not acknowledged",
                    shown(largest)
                ),
                None => format!(
                    "{count} to {remote} {hang}: even small packets (the largest has {} bytes, every path carries {EVERY_PATH_CARRIES}) are not acknowledged",
                    shown(largest)
                ),
            }
        }
        Trouble::SynUnanswered => {
            format!("{count} to {endpoint} cannot be opened: no answer to SYN, not even a refusal")
        }
        Trouble::HalfOpen => {
            format!("{count} to {local} never finish the handshake: the SYN-ACK stays unanswered")
        }
        Trouble::ZeroWindow => format!(
            "{count} to {remote} {} for the peer: its window is closed, it does not read",
            if group.len() == 1 { "waits" } else { "wait" }
        ),
        Trouble::NotReading => format!(
            "{who} does not read {}: the receive buffer is full",
            match group {
                [_] => format!("from {}", if endpoint == "?" { local } else { endpoint }),
                many => format!("from {} sockets", many.len()),
            }
        ),
        Trouble::BacklogFull => {
            let waiting = first.and_then(|s| s.detail.waiting);
            format!(
                "{who} does not accept on {local}: {} connections wait, new ones are dropped",
                shown(waiting)
            )
        }
        Trouble::TinyPathMtu => {
            let mtu = first.and_then(|s| s.path_mtu_bytes);
            format!(
                "{count} to {remote} {} with a path MTU of {} bytes, which no network has",
                if group.len() == 1 { "goes on" } else { "go on" },
                shown(mtu)
            )
        }
        Trouble::Lossy => format!("{count} had to send a tenth or more twice: the path loses packets"),
        Trouble::UdpDrops => {
            let drops: u64 = group.iter().filter_map(|s| s.detail.drops).map(u64::from).sum();
            format!("{drops} datagrams to {local} were dropped: {who} did not read them in time")
        }
    };
    if matches!(trouble, Trouble::StuckOnMtu | Trouble::MtuSuspected) {
        let header = first.map_or(0, |s| s.header_bytes());
        let what = format!("full segment to {remote} (MSS and {header} bytes of headers)");
        evidence.push(Evidence::new(what, segment, "bytes", SOURCE));
    }
    let of_size = matches!(trouble, Trouble::StuckOnMtu | Trouble::MtuSuspected | Trouble::PeerSilent);
    if let Some(path) = path.filter(|_| of_size) {
        evidence.push(measurement(path));
    }
    evidence.extend(group.iter().take(MOST_EVIDENCE).map(|socket| self::evidence(socket)));
    if group.len() > MOST_EVIDENCE {
        evidence.push(Evidence::new("such connections in all", group.len(), "sockets", SOURCE));
    }
    rule.finding(subject, summary, evidence, fix)
}

/// What a measurement said.
fn measurement(path: &MeasuredPath) -> Evidence {
    let verdict = match path.verdict {
        Verdict::Clear => "clear",
        Verdict::Narrowed => "narrowed",
        Verdict::BlackHole => "black hole",
        Verdict::Unreachable => "no answer of any size",
        Verdict::Inconclusive => "inconclusive",
    };
    let source = format!("{} search: {verdict}", path.method.name());
    Evidence::new(format!("path MTU to {}", path.remote), carries(path), "bytes", source)
}

/// What mends connections that are stuck, and what makes it last.
fn mtu_fix(
    (subject, of_node): (&str, bool),
    remote: &str,
    limit: u32,
    interface: Option<&str>,
    ipv6: bool,
) -> String {
    let family = if ipv6 { "-6 " } else { "" };
    let mss = limit.saturating_sub(if ipv6 { 60 } else { 40 });
    let (prefix, now) = if of_node || subject == "host" {
        (
            String::new(),
            format!("ip {family}route change … mtu {limit}, for the route that ip route get {remote} shows"),
        )
    } else {
        let prefix = format!("nsprobe exec {subject} -- ");
        let link = interface.map_or_else(|| "INTERFACE".into(), crate::diagnose::shell::word);
        (
            prefix.clone(),
            format!("{prefix}ip link set dev {link} mtu {limit} (the interface towards {remote})"),
        )
    };
    format!(
        "now, and what hangs goes on: {now}\n\
         or let TCP find out: {prefix}sysctl -w net.ipv4.tcp_mtu_probing=1\n\
         to last: an MTU of {limit} for the pods in the CNI's configuration (nsprobe links {subject} shows where it \
         narrows), or an MSS clamp on the way: nft … tcp flags syn tcp option maxseg size set {mss}"
    )
}
