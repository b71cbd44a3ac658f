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
    ["NET", "STATE", "LOCAL", "REMOTE", "RECV-Q", "SEND-Q", "RETR", "RTT", "MTU", "PROCESS"];
const FIRST_NUMBER: usize = 4;
const PROCESS: usize = 9;
/// Columns that a narrow terminal goes without, in this order: RTT, MTU, RETR.
const DISPENSABLE: [usize; 3] = [7, 8, 6];
/// Healthy sockets that a terminal is shown; a pipe gets all.
const MOST_ROWS: usize = 100;
/// Before and between columns.
const MARGIN: &str = "  ";
const UNKNOWN: &str = "-";

type Widths = [usize; HEAD.len()];

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

    // Cells are written twice, to measure and to print: those of 50,000 sockets are more than all else in memory.
    let mut own = None;
    let mut widths = widths(&sorted, own);
    let too_wide = |widths: &Widths| view.width.is_some_and(|width| total(widths) > width);
    if too_wide(&widths)
        && let Some(most) = own_address(sockets)
    {
        // Almost every row has it: the port says which socket it is.
        own = Some(most);
        widths = self::widths(&sorted, own);
        let told = format!("local address {most} where only a port is shown");
        let _ = writeln!(text, "  {}", view.paint.dim(&told));
    }
    for column in DISPENSABLE {
        if too_wide(&widths)
            && let Some(width) = widths.get_mut(column)
        {
            *width = 0;
        }
    }
    let mut head = String::new();
    line(&mut head, &widths, |out, column| out.push_str(HEAD.get(column).unwrap_or(&"")));
    let _ = writeln!(text, "{}", view.paint.bold(head.trim_end()));
    let mut above = None;
    for (trouble, socket) in &sorted {
        if above != Some(*trouble) {
            heading(text, *trouble, above.is_some(), view);
            above = Some(*trouble);
        }
        line(text, &widths, |out, column| {
            // Writing into memory does not fail.
            let _ = cell(out, column, socket, own);
        });
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

/// Writes what one column says of a socket; of the address `own` only the port.
fn cell(out: &mut impl Write, column: usize, socket: &Socket, own: Option<IpAddr>) -> std::fmt::Result {
    let listens = socket.state == SocketState::Listen;
    let queue = |listener, bytes| if listens { listener } else { bytes };
    let number = match column {
        0 => return out.write_str(socket.protocol.name()),
        1 => return out.write_str(state_name(socket.state)),
        2 if own == Some(socket.local.ip()) => return write!(out, ":{}", socket.local.port()),
        2 => return write!(out, "{}", socket.local),
        3 => {
            return match socket.remote {
                Some(remote) => write!(out, "{remote}"),
                None => out.write_str("*"),
            };
        }
        4 => queue(socket.detail.waiting, socket.recv_queue_bytes),
        5 => queue(socket.detail.backlog, socket.send_queue_bytes),
        6 => match (socket.retransmits, socket.detail.tcp) {
            (Some(all), Some(tcp)) if all > 0 => return write!(out, "{}/{all}", tcp.retransmitted),
            (all, _) => all,
        },
        7 => match socket.rtt_us {
            Some(rtt) => return out.write_str(&duration_ms(f64::from(rtt) / 1000.0)),
            None => None,
        },
        8 => socket.path_mtu_bytes,
        _ => match &socket.process {
            Some(process) => return write!(out, "{}/{}", sanitize(&process.name), process.pid),
            None => None,
        },
    };
    match number {
        Some(number) => write!(out, "{number}"),
        None => out.write_str(UNKNOWN),
    }
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 += text.chars().count();
        Ok(())
    }
}

/// The address that most sockets with a peer have on this side.
fn own_address(sockets: &[Socket]) -> Option<IpAddr> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for socket in sockets.iter().filter(|s| s.remote.is_some()) {
        *counts.entry(socket.local.ip()).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(ip, count)| (*count, *ip)).map(|(ip, _)| ip)
}

fn widths(sockets: &[(Option<Trouble>, &Socket)], own: Option<IpAddr>) -> Widths {
    let mut widths = HEAD.map(str::len);
    for (_, socket) in sockets {
        for (column, width) in widths.iter_mut().enumerate() {
            let mut length = Length(0);
            // Counting does not fail.
            let _ = cell(&mut length, column, socket, own);
            *width = (*width).max(length.0);
        }
    }
    widths
}

/// Of a whole line, its margin included.
fn total(widths: &Widths) -> usize {
    widths.iter().filter(|w| **w > 0).map(|w| w + MARGIN.len()).sum()
}

/// Appends a row, each cell written by `cell`, and ends the line.
fn line(text: &mut String, widths: &Widths, mut cell: impl FnMut(&mut String, usize)) {
    text.push_str(MARGIN);
    let mut scratch = String::new();
    for (column, &width) in widths.iter().enumerate().filter(|(_, width)| **width > 0) {
        scratch.clear();
        cell(&mut scratch, column);
        let room = std::iter::repeat_n(' ', width.saturating_sub(scratch.chars().count()));
        // Numbers stand below each other by their last digit.
        if (FIRST_NUMBER..PROCESS).contains(&column) {
            text.extend(room);
            text.push_str(&scratch);
        } else {
            text.push_str(&scratch);
            text.extend(room);
        }
        text.push_str(MARGIN);
    }
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
}
