//! Which sizes draw a PTB over IPv6, asked so that the kernel remembers nothing.
//!
//! The kernel caches the path MTU of every packet-too-big that quotes an echo request, whoever sent it
//! (net/ipv6/icmp.c `icmpv6_err`). So large echo requests are sent only in sizes that drew none.

use super::error::ProbeError;
use super::icmp::Echo;
use super::onlooker::Onlooker;
use super::search::{Answer, Event, PATIENT, Plan, Probe, SLOW_ROUTER, Scout, Scouted};
use super::transport::Transport;
use crate::facts::Method;
use rustix::event::PollFlags;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// What a search waits where scouts and their controls drew nothing: this part of the timeout.
pub const AFTER_SCOUTS: u32 = 8;
/// Ids of scouts: they never meet those of a search.
const FIRST_ID: u16 = 0x8000;
/// No router says packet too big to what every link of IPv6 carries (RFC 8200 §5).
const HARMLESS: u32 = 1280;
/// Ids of one flight: its scouts, and its two controls at the end.
const IDS: u16 = 32;
/// Of so few packets in all none is spent on scouts.
const FEWEST: u32 = 8;
/// Narrowings one behind the other that are followed.
const ROUNDS: u16 = 6;

/// Sends scouts of the plan's sizes and tells what came back. Nothing over IPv4.
///
/// # Errors
/// [`ProbeError::Wait`].
pub fn scout(echo: &mut Echo, plan: &Plan, onlooker: Onlooker<'_>) -> Result<Scouted, ProbeError> {
    let mut found = Scouted::default();
    // They are at most half of what may be sent.
    if !echo.has_scouts() || plan.max_probes < FEWEST {
        return Ok(found);
    }
    // The largest twice: a tunnel that still has to learn its path MTU lets the first one through.
    let mut sizes: Vec<u32> = [plan.max, plan.max].into_iter().chain(plan.ladder(HARMLESS)).collect();
    if plan.rate_pps.is_some() {
        // One packet after the other: the ladder would take longer than it spares.
        sizes.truncate(2);
    }
    let start = Instant::now();
    let mut rare = plan.rare_sizes();
    rare.retain(|size| *size >= HARMLESS);
    for round in 0..ROUNDS {
        let plan = Plan { deadline: plan.deadline.saturating_sub(start.elapsed()), ..plan.clone() };
        // The search waits for the rest.
        let patience = (plan.timeout - plan.timeout / AFTER_SCOUTS).min(plan.deadline / 2);
        let known = found.too_bigs.len();
        let now = Sizes { now: &sizes, unheard: &std::mem::take(&mut rare) };
        let ended = flight(echo, now, FIRST_ID + round * IDS, &plan, patience, onlooker, &mut found)?;
        found.waited = start.elapsed();
        if ended {
            break;
        }
        let told = found.too_bigs.iter().skip(known).map(|(_, mtu, _)| *mtu).min();
        // What was sent already, and drew nothing, needs no other look.
        let Some(claim) = told.filter(|claim| *claim >= plan.floor.max(HARMLESS)) else { break };
        if claim >= plan.max || found.sent.contains(&claim) {
            break;
        }
        sizes = vec![claim];
    }
    Ok(found)
}

/// Sends one scout of each size, all with one `look`, and waits until all were answered, or for `patience`.
///
/// # Errors
/// [`ProbeError::Wait`].
pub fn ask_sizes(
    echo: &mut Echo,
    sizes: &[u32],
    look: Scout,
    patience: Duration,
    onlooker: Onlooker<'_>,
) -> Result<Scouted, ProbeError> {
    let mut found = Scouted::default();
    let start = Instant::now();
    let mut flight = Flight { sent: Vec::new(), controls: [0; 2], start, rtt: None, router: None, open: 0 };
    for (id, size) in (FIRST_ID..).zip(sizes) {
        if echo.scout(Probe { id, size: *size, ttl: None }, look).is_none() {
            flight.sent.push((id, *size, look));
            flight.open += 1;
            found.sent.push(*size);
            found.packets += 1;
        }
    }
    loop {
        let rest = patience.saturating_sub(start.elapsed());
        if flight.open == 0 || rest.is_zero() || onlooker.wait(&echo.fds(), rest)?.1 {
            return Ok(found);
        }
        flight.read(echo, &mut found);
    }
}

/// Sizes of one flight.
struct Sizes<'a> {
    now: &'a [u32],
    /// Sent one after the other while nothing has come back.
    unheard: &'a [u32],
}

/// Waits for the next packet's turn; true: the user ended it, or the time is up.
fn pause(plan: &Plan, start: Instant, onlooker: Onlooker<'_>) -> Result<bool, ProbeError> {
    let (gap, left) = (plan.gap(), plan.deadline.saturating_sub(start.elapsed()));
    Ok(!gap.is_zero() && (onlooker.wait_all(&[], PollFlags::IN, gap.min(left))?.1 || gap >= left))
}

/// One flight of scouts between two controls; true: the user ended it, or the time is up.
fn flight(
    echo: &mut Echo,
    sizes: Sizes<'_>,
    first: u16,
    plan: &Plan,
    patience: Duration,
    onlooker: Onlooker<'_>,
    found: &mut Scouted,
) -> Result<bool, ProbeError> {
    let controls = [first + IDS - 2, first + IDS - 1];
    let mut flight =
        Flight { sent: Vec::new(), controls, start: Instant::now(), rtt: None, router: None, open: 0 };
    let known = found.too_bigs.len();
    let _ = echo.send(Probe { id: controls[0], size: plan.control, ttl: None });
    found.packets += 1;
    let sizes = sizes.now.iter().map(|s| (s, false)).chain(sizes.unheard.iter().map(|s| (s, true)));
    for (id, (size, rare)) in (first..).zip(sizes) {
        // A larger one than a router has named would draw the same answer.
        if found.too_bigs.iter().any(|(_, mtu, _)| size > mtu) {
            continue;
        }
        if rare {
            let until = Instant::now() + PATIENT;
            let mut rest = PATIENT;
            while !rest.is_zero() && flight.rtt.is_none() && found.too_bigs.len() == known {
                if onlooker.wait(&echo.fds(), rest)?.1 {
                    return Ok(true);
                }
                flight.read(echo, found);
                rest = until.saturating_duration_since(Instant::now());
            }
            if !rest.is_zero() {
                break;
            }
        }
        if found.packets >= plan.max_probes / 2 {
            break;
        }
        if pause(plan, flight.start, onlooker)? {
            return Ok(true);
        }
        let again = flight.sent.iter().any(|(_, sent, _)| sent == size);
        let look = if again { Scout::Datagram } else { Scout::Protocol };
        if echo.send_scout(Probe { id, size: *size, ttl: None }, look).unwrap_or(false) {
            flight.sent.push((id, *size, look));
            flight.open += 1;
            found.sent.push(*size);
            found.packets += 1;
        }
        flight.read(echo, found);
        // A router has named a size, and that arrives: smaller ones do, too.
        let named = found.too_bigs.iter().map(|(_, mtu, _)| *mtu).min();
        if named.is_some() && found.arrived == named && found.answers_echo {
            return Ok(false);
        }
    }
    if flight.sent.is_empty() {
        return Ok(false);
    }
    if pause(plan, flight.start, onlooker)? {
        return Ok(true);
    }
    let _ = echo.send(Probe { id: controls[1], size: plan.control, ttl: None });
    found.packets += 1;
    let sent = flight.start.elapsed();
    // The largest is carried: then the rest is, too.
    while flight.open > 0 && found.arrived.max(found.likely) != Some(plan.max) {
        let end = match (flight.rtt, flight.router) {
            // Large echo requests that draw its word are remembered by the kernel: a slow router is waited for.
            (Some(rtt), _) => patience.min((sent + rtt + margin(rtt)).max(SLOW_ROUTER)),
            // Where routers answer, the target is rarely many times as far.
            (None, Some(router)) => patience.min((router * 8).max(plan.timeout / 2)),
            (None, None) => patience,
        };
        let rest = end.saturating_sub(flight.start.elapsed());
        if rest.is_zero() {
            break;
        }
        let (answers, ended) = onlooker.wait(&echo.fds(), rest)?;
        if ended {
            return Ok(true);
        }
        if answers {
            flight.read(echo, found);
        }
    }
    Ok(false)
}

/// Scouts on their way.
struct Flight {
    sent: Vec<(u16, u32, Scout)>,
    controls: [u16; 2],
    start: Instant,
    /// How long the target took to answer any of it.
    rtt: Option<Duration>,
    /// How long a router took to say packet too big.
    router: Option<Duration>,
    open: usize,
}

impl Flight {
    /// Takes what has come back.
    fn read(&mut self, echo: &mut Echo, found: &mut Scouted) {
        while let Some(event) = echo.receive() {
            let replied = matches!(event.answer, Answer::Reply { .. });
            found.replies += u32::from(replied);
            if replied || self.controls.contains(&event.id) {
                self.rtt = self.rtt.or_else(|| Some(self.start.elapsed()));
                found.rtt = self.rtt;
            }
            found.answers_echo |= replied && self.controls.contains(&event.id);
            if let Some(at) = found.refused.iter().position(|(id, _)| replied && *id == event.id) {
                let (_, size) = found.refused.swap_remove(at);
                found.disprove(size);
                continue;
            }
            let Some((_, size, look)) = self.sent.iter().find(|(id, _, _)| *id == event.id) else { continue };
            self.open = self.open.saturating_sub(1);
            match event.answer {
                Answer::TooBig { mtu, from } => {
                    self.router = self.router.or_else(|| Some(self.start.elapsed()));
                    if !found.disproved.contains(&(mtu, from)) {
                        found.too_bigs.push((*size, mtu, from));
                    }
                    if *look == Scout::Protocol {
                        found.refused.push((event.id, *size));
                    }
                }
                Answer::Reply { .. } if *look == Scout::Datagram => {
                    found.likely = found.likely.max(Some(*size))
                }
                Answer::Reply { ttl, .. } => {
                    found.ttl = found.ttl.or(ttl);
                    found.arrived = found.arrived.max(Some(*size));
                    found.heard += 1;
                }
                answer => found.errors.push((*size, answer)),
            }
        }
    }
}

/// What is waited more once the target has answered something: routers are nearer than the target, and what has not
/// come soon after its answer does not come.
fn margin(rtt: Duration) -> Duration {
    (rtt / 20).min(Duration::from_millis(4)) + Duration::from_millis(1)
}

/// Scouts of one look as a transport of their own: the target's answers are of the same small size, so that only the way
/// there is measured.
#[derive(Debug)]
pub struct Scouts(pub Echo, pub Scout);

impl Transport for Scouts {
    fn method(&self) -> Method {
        Method::Icmp
    }

    fn send(&mut self, probe: Probe) -> Option<Event> {
        self.0.scout(probe, self.1)
    }

    fn receive(&mut self) -> Option<Event> {
        self.0.receive()
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.0.fds()
    }
}
