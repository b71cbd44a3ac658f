//! The second line on a connection, with `-v`: what ss -tine shows, in words.

use super::SocketsView;
use crate::facts::{Socket, SocketTimer};
use crate::report::duration_ms;
use std::fmt::Write;

const INDENT: &str = "         ";

pub(super) fn lines(text: &mut String, socket: &Socket, view: SocketsView) {
    for told in [segments(socket), progress(socket), buffers(socket)] {
        let mut line = String::new();
        for word in told {
            let room = view.width.unwrap_or(usize::MAX).saturating_sub(INDENT.len());
            if !line.is_empty() && line.chars().count() + word.chars().count() + 2 > room {
                let _ = writeln!(text, "{INDENT}{}", view.paint.dim(&format!("{line},")));
                line.clear();
            }
            if !line.is_empty() {
                line.push_str(", ");
            }
            line.push_str(&word);
        }
        if !line.is_empty() {
            let _ = writeln!(text, "{INDENT}{}", view.paint.dim(&line));
        }
    }
}

/// Sizes: what a segment holds, how large the packet is that it makes.
fn segments(socket: &Socket) -> Vec<String> {
    let mut told = Vec::new();
    if let (Some(mss), Some(segment)) = (socket.send_mss_bytes, socket.segment_bytes()) {
        told.push(format!("sends MSS {mss} in packets of {segment}"));
    }
    if let Some(mss) = socket.receive_mss_bytes.filter(|_| socket.state.may_send()) {
        told.push(format!("receives {mss}"));
    }
    if let Some(mss) = socket.advmss_bytes {
        told.push(format!("advertised {mss}"));
    }
    if let Some(mtu) = socket.path_mtu_bytes {
        told.push(format!("path MTU {mtu}"));
    }
    told
}

/// What is on the way, and for how long nothing has happened.
fn progress(socket: &Socket) -> Vec<String> {
    let Some(tcp) = socket.detail.tcp else { return timer(socket).into_iter().collect() };
    let mut told = Vec::new();
    if let Some(unacked) = socket.unacked.filter(|&n| n > 0) {
        let lost = socket.lost.unwrap_or(0);
        told.push(format!("{unacked} unacknowledged (segments)"));
        told.push(format!("{lost} of them taken for lost"));
    }
    if let (Some(all), Some(again)) = (tcp.sent_bytes, tcp.resent_bytes) {
        let acked = tcp.acked_bytes.unwrap_or(0);
        told.push(format!("{all} bytes sent ({again} again, {acked} acknowledged)"));
    }
    if let Some(received) = tcp.received_bytes {
        told.push(format!("{received} bytes received"));
    }
    told.extend(timer(socket));
    // Before the first packet the kernel's clocks mean nothing.
    if socket.rtt_us.is_some() {
        let ago = |what, ms: u32| format!("{what} {} ago", duration_ms(f64::from(ms)));
        told.push(ago("sent", tcp.last_sent_ms));
        told.push(ago("received", tcp.last_received_ms));
        told.push(ago("acknowledged", tcp.last_ack_ms));
    }
    told
}

fn timer(socket: &Socket) -> Option<String> {
    let name = match socket.detail.timer {
        SocketTimer::Off => return None,
        SocketTimer::Retransmit => "retransmits",
        SocketTimer::Keepalive => "keepalive",
        SocketTimer::TimeWait => "ends",
        SocketTimer::Persist => "asks for the window",
        SocketTimer::Unknown => "a timer ends",
    };
    let again = match socket.detail.tcp.map_or(0, |tcp| tcp.timeouts.max(tcp.backoff)) {
        0 => String::new(),
        n => format!(" after {n} timeouts"),
    };
    Some(format!("{name} in {}{again}", duration_ms(f64::from(socket.detail.timer_ms))))
}

/// Windows, buffers, drops, the owner.
fn buffers(socket: &Socket) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(tcp) = socket.detail.tcp {
        told.push(format!("cwnd {}", tcp.congestion_window));
        if let Some(window) = tcp.send_window {
            told.push(format!("peer's window {window}"));
        }
        if let Some(window) = tcp.receive_window {
            told.push(format!("own window {window}"));
        }
    }
    if let (Some(used), Some(limit)) = (socket.detail.recv_memory, socket.detail.recv_buffer) {
        told.push(format!("receive buffer {used} of {limit}"));
    }
    if let Some(drops) = socket.detail.drops.filter(|&n| n > 0) {
        told.push(format!("{drops} dropped"));
    }
    told.push(format!("uid {}", socket.detail.uid));
    if let Some(inode) = socket.inode {
        told.push(format!("inode {inode}"));
    }
    told
}
