//! Which sizes draw a PTB over IPv6, asked so that the kernel remembers nothing.
//!
//! The kernel caches the path MTU of every packet-too-big that quotes an echo request, whoever sent it
//! (net/ipv6/icmp.c `icmpv6_err`). So large echo requests are sent only in sizes that drew none.

use super::drive::wait;
use super::error::ProbeError;
use super::icmp::Echo;
use super::search::{Answer, Event, Plan, Probe};
use super::transport::{Transport, not_sent};
use crate::facts::Method;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Ids of scouts: they never meet those of a search.
const FIRST_ID: u16 = 0x8000;
/// Narrowings one behind the other that are followed.
const ROUNDS: u16 = 6;

/// The PTBs that scouts of the plan's sizes drew: size sent, MTU named, by whom. Nothing over IPv4.
///
/// # Errors
/// [`ProbeError::Wait`].
pub fn scout(
    echo: &mut Echo,
    plan: &Plan,
    stop: Option<BorrowedFd<'_>>,
) -> Result<Vec<(u32, u32, IpAddr)>, ProbeError> {
    let mut found: Vec<(u32, u32, IpAddr)> = Vec::new();
    // Twice: a tunnel that still has to learn its path MTU lets the first one through.
    let mut sizes = vec![plan.max, plan.max];
    let start = Instant::now();
    for round in 0..ROUNDS {
        let first = FIRST_ID + round * 16;
        let mut sent = Vec::new();
        for (id, size) in (first..).zip(&sizes) {
            if echo.send_scout(Probe { id, size: *size, ttl: None }).unwrap_or(false) {
                sent.push((id, *size));
            }
        }
        if sent.is_empty() {
            break;
        }
        let control = first + 15;
        let _ = echo.send(Probe { id: control, size: plan.control, ttl: None });
        let before = found.len();
        let patience = plan.timeout.min(plan.deadline.saturating_sub(start.elapsed()) / 2);
        if listen(echo, &sent, control, patience, stop, &mut found)? {
            break;
        }
        // One more than what was named shows that the name is right; the named size, that nobody takes less.
        let Some(claim) = found.iter().skip(before).map(|(_, mtu, _)| *mtu).min() else { break };
        if claim < plan.floor || claim >= plan.max {
            break;
        }
        sizes = vec![claim + 1, claim];
    }
    Ok(found)
}

/// Whether a packet of `size` is answered by the target within `patience`, with an error that is small: then
/// it arrived. False says nothing: few targets answer more than six of these at once.
///
/// # Errors
/// [`ProbeError::Wait`].
pub fn arrives(
    echo: &mut Echo,
    size: u32,
    patience: Duration,
    stop: Option<BorrowedFd<'_>>,
) -> Result<bool, ProbeError> {
    let ids = 0xf000..0xf003;
    for id in ids.clone() {
        let _ = echo.send_scout(Probe { id, size, ttl: None });
    }
    let start = Instant::now();
    while start.elapsed() < patience {
        let (answers, stopped) = wait(&echo.fds(), stop, patience.saturating_sub(start.elapsed()))?;
        while let Some(event) = answers.then(|| echo.receive()).flatten() {
            if ids.contains(&event.id) && matches!(event.answer, Answer::Reply { .. }) {
                return Ok(true);
            }
        }
        if stopped {
            break;
        }
    }
    Ok(false)
}

/// Scouts as a transport of their own: the target answers each with an error of the same small size, so that
/// only the way there is measured. IPv6 only.
#[derive(Debug)]
pub struct Scouts(pub Echo);

impl Transport for Scouts {
    fn method(&self) -> Method {
        Method::Icmp
    }

    fn send(&mut self, probe: Probe) -> Option<Event> {
        match self.0.send_scout(probe) {
            Ok(_) => None,
            Err(error) => not_sent(probe.id, &error),
        }
    }

    fn receive(&mut self) -> Option<Event> {
        self.0.receive()
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.0.fds()
    }
}

/// Collects PTBs until the control has come back and a margin has passed; true: the user ended it.
fn listen(
    echo: &mut Echo,
    sent: &[(u16, u32)],
    control: u16,
    patience: Duration,
    stop: Option<BorrowedFd<'_>>,
    found: &mut Vec<(u32, u32, IpAddr)>,
) -> Result<bool, ProbeError> {
    let start = Instant::now();
    let mut end = patience;
    let mut open = sent.len();
    while open > 0 && start.elapsed() < end {
        let (answers, stopped) = wait(&echo.fds(), stop, end.saturating_sub(start.elapsed()))?;
        if stopped {
            return Ok(true);
        }
        if !answers {
            continue;
        }
        while let Some(event) = echo.receive() {
            if event.id == control {
                // Routers are nearer than the target: what has not come soon after its answer does not come.
                let rtt = start.elapsed();
                end = end.min(rtt + rtt / 10 + Duration::from_millis(1));
            }
            let Some((_, size)) = sent.iter().find(|(id, _)| *id == event.id) else { continue };
            open -= 1;
            if let Answer::TooBig { mtu, from } = event.answer {
                found.push((*size, mtu, from));
            }
        }
    }
    Ok(false)
}
