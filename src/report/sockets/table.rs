//! The table: what hangs on top, below a heading that says why; columns as many as fit.

use super::{SocketsView, detail, state_name};
use crate::diagnose::sockets::{Trouble, severity, short, trouble};
use crate::facts::{MeasuredPath, Severity, Socket, SocketState};
use crate::report::{duration_ms, sanitize};
use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;

/// Columns, in order.
const HEAD: [&str; 10] =
    ["PROTO", "STATE", "LOCAL", "REMOTE", "RECV-Q", "SEND-Q", "RETR", "RTT", "MTU", "PROCESS"];
const LOCAL: usize = 2;
const PROCESS: usize = 9;
/// Columns that a narrow terminal goes without, in this order: RTT, MTU.
const DISPENSABLE: [usize; 2] = [7, 8];
/// Healthy sockets that a terminal is shown; a pipe gets all.
const MOST_ROWS: usize = 100;
/// Two spaces between columns.
const GAP: usize = 2;
const UNKNOWN: &str = "-";

type Row = [String; HEAD.len()];

/// The sockets of one namespace.
pub(super) fn render(text: &mut String, sockets: &[Socket], measured: &[MeasuredPath], view: SocketsView) {
    if sockets.is_empty() {
        return;
    }
    let mut sorted: Vec<(Option<Trouble>, &Socket)> =
        sockets.iter().map(|socket| (trouble(socket, measured), socket)).collect();
    sorted.sort_by_cached_key(|(trouble, socket)| order(*trouble, socket));
    let healthy = sorted.iter().position(|(trouble, _)| trouble.is_none()).unwrap_or(sorted.len());
    let most = if view.width.is_some() && !view.verbose { MOST_ROWS } else { usize::MAX };
    let shown = sorted.len().min(healthy.saturating_add(most));
    let left = sorted.len() - shown;
    sorted.truncate(shown);

    let mut rows: Vec<Row> = sorted.iter().map(|(_, socket)| cells(socket)).collect();
    let own = own_address(sockets);
    let mut widths = widths(&rows);
    let too_wide = |widths: &[usize; HEAD.len()]| view.width.is_some_and(|width| total(widths) > width);
    if too_wide(&widths)
        && let Some(own) = own
    {
        // Almost every row has it: the port says which socket it is.
        for (row, (_, socket)) in rows.iter_mut().zip(&sorted) {
            if let Some(cell) = row.get_mut(LOCAL)
                && socket.local.ip() == own
            {
                *cell = format!(":{}", socket.local.port());
            }
        }
        let _ = writeln!(
            text,
            "  {}",
            view.paint.dim(&format!("local address {own} where only a port is shown"))
        );
        widths = self::widths(&rows);
    }
    for column in DISPENSABLE {
        if too_wide(&widths)
            && let Some(width) = widths.get_mut(column)
        {
            *width = 0;
        }
    }
    let _ = writeln!(text, "  {}", view.paint.bold(line(&HEAD.map(ToOwned::to_owned), &widths).trim_end()));
    let mut above = None;
    for ((trouble, socket), row) in sorted.iter().zip(&rows) {
        if above != Some(*trouble) {
            heading(text, *trouble, above.is_some(), view);
            above = Some(*trouble);
        }
        let _ = writeln!(text, "  {}", line(row, &widths).trim_end());
        if view.verbose {
            detail::lines(text, socket, view);
        }
    }
    if left > 0 {
        let more = format!("and {left} more that do not hang: -v, a pipe or a filter shows them");
        let _ = writeln!(text, "  {}", view.paint.dim(&more));
    }
}

/// Why the rows below hang; above what does not hang only where something above does.
fn heading(text: &mut String, trouble: Option<Trouble>, follows: bool, view: SocketsView) {
    let Some(trouble) = trouble else {
        if follows {
            let _ = writeln!(text, "{}", view.paint.dim("not hanging"));
        }
        return;
    };
    let words = short(trouble);
    let words = match severity(trouble) {
        Severity::Critical => view.paint.red(words),
        Severity::Warning => view.paint.yellow(words),
        Severity::Info => view.paint.dim(words),
    };
    let _ = writeln!(text, "{words}");
}

/// The worst first, then connections by what they have sent again and what they wait for, then listeners.
fn order(trouble: Option<Trouble>, socket: &Socket) -> impl Ord + use<> {
    let rank = match socket.state {
        SocketState::Listen | SocketState::Unconnected => 1,
        SocketState::TimeWait => 2,
        _ => 0,
    };
    (
        trouble.is_none(),
        trouble,
        rank,
        std::cmp::Reverse(socket.retransmits.filter(|_| trouble.is_some())),
        (socket.protocol, socket.local.port(), socket.remote),
    )
}

fn cells(socket: &Socket) -> Row {
    let number = |n: Option<u32>| n.map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string());
    let retransmits = match (socket.retransmits, socket.detail.tcp) {
        (Some(all), Some(tcp)) if all > 0 => format!("{}/{all}", tcp.retransmitted),
        (Some(_), _) => "0".into(),
        (None, _) => UNKNOWN.into(),
    };
    let process = socket
        .process
        .as_ref()
        .map_or_else(|| UNKNOWN.to_owned(), |process| format!("{}/{}", sanitize(&process.name), process.pid));
    let listens = socket.state == SocketState::Listen;
    [
        socket.protocol.name().to_owned(),
        state_name(socket.state).to_owned(),
        socket.local.to_string(),
        socket.remote.map_or_else(|| "*".to_owned(), |remote| remote.to_string()),
        number(if listens { socket.detail.waiting } else { socket.recv_queue_bytes }),
        number(if listens { socket.detail.backlog } else { socket.send_queue_bytes }),
        retransmits,
        socket.rtt_us.map_or_else(|| UNKNOWN.to_owned(), |rtt| duration_ms(f64::from(rtt) / 1000.0)),
        number(socket.path_mtu_bytes),
        process,
    ]
}

/// The address that most sockets with a peer have on this side.
fn own_address(sockets: &[Socket]) -> Option<IpAddr> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for socket in sockets.iter().filter(|s| s.remote.is_some()) {
        *counts.entry(socket.local.ip()).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(ip, count)| (*count, *ip)).map(|(ip, _)| ip)
}

fn widths(rows: &[Row]) -> [usize; HEAD.len()] {
    let mut widths = HEAD.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

/// Of a whole line, its margin included.
fn total(widths: &[usize; HEAD.len()]) -> usize {
    widths.iter().filter(|w| **w > 0).map(|w| w + GAP).sum()
}

fn line(row: &Row, widths: &[usize; HEAD.len()]) -> String {
    let mut line = String::new();
    for (place, (cell, &width)) in row.iter().zip(widths).enumerate().filter(|(_, (_, width))| **width > 0) {
        // Numbers stand below each other by their last digit.
        if (4..PROCESS).contains(&place) {
            let _ = write!(line, "{cell:>width$}  ");
        } else {
            let _ = write!(line, "{cell:<width$}  ");
        }
    }
    line
}
