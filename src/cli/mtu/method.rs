//! Which way a path is asked, and what the others had to say: ICMP, then TCP and UDP where a port was named.

use crate::cli::Failure;
use crate::facts::{Bounds, Method, PathNote, PathResult, ProbeCounts, Reverse, ReverseVerdict, Verdict};
use crate::netns::NetNs;
use crate::observe::{Neighbour, read_neighbour};
use crate::probe::search::{AnswerLimit, Plan, Scouted, Search};
use crate::probe::{
    AFTER_SCOUTS, Echo, Onlooker, ProbeError, Scouts, Target, TcpProbe, Transport, UdpProbe, drive, scout,
};
use clap::ValueEnum;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Two retransmissions of a SYN (tcp_syn_retries, tcp(7)) and the answer to the second.
const SYN_PATIENCE: Duration = Duration::from_millis(3500);
/// With less time than this no other method is begun: its silence would say nothing.
const LEAST_TIME: Duration = Duration::from_millis(10);

/// How to probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// ICMP, then TCP and UDP if a port is named.
    Auto,
    /// Echo requests.
    Icmp,
    /// Old data on a connection to the port: the application never sees a byte.
    Tcp,
    /// Datagrams to the port; a name server on port 53 is asked a padded question.
    Udp,
}

/// What a method found out, and the transport that it did it by.
type Found = (PathResult, Option<Box<dyn Transport + Send>>);

/// A path that was asked.
pub(super) struct Asked {
    /// What was found out.
    pub(super) path: PathResult,
    /// The transport that found it out, for a burst of packets afterwards; none where no connection was made.
    pub(super) transport: Option<Box<dyn Transport + Send>>,
    /// Methods that gave no answer, and why.
    pub(super) tried: Vec<(Method, String)>,
}

/// Where and how to ask.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) netns: &'a NetNs,
    pub(super) target: Target,
    /// The gateway, or the target where it is on the link.
    pub(super) next_hop: IpAddr,
    /// The index of the interface that it is on.
    pub(super) interface: u32,
    pub(super) port: Option<u16>,
    pub(super) choice: Choice,
    /// The source's node itself answers echo for the target: its IPVS serves the address.
    pub(super) answered_here: bool,
    pub(super) plan: &'a Plan,
    pub(super) onlooker: Onlooker<'a>,
}

/// Asks in the order of the choice until a method gives a verdict.
///
/// # Errors
/// What stopped the only method that was left: a missing privilege, a port that does not answer.
pub(super) fn ask(question: Question<'_>) -> Result<Asked, Failure> {
    let order: &[Method] = match (question.choice, question.port) {
        (Choice::Auto, Some(_)) if question.answered_here => &[Method::Tcp, Method::Udp],
        (Choice::Auto, Some(_)) => &[Method::Icmp, Method::Tcp, Method::Udp],
        (Choice::Auto | Choice::Icmp, _) => &[Method::Icmp],
        (Choice::Tcp, _) => &[Method::Tcp],
        (Choice::Udp, _) => &[Method::Udp],
    };
    // Else the kernel may end each wait 50 us late (prctl(2), PR_SET_TIMERSLACK). Without it the search is only slower.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let begun = Instant::now();
    let mut tried = Vec::new();
    if question.answered_here && question.choice == Choice::Auto {
        tried.push((Method::Icmp, "not asked: this node itself would answer for the Service".to_owned()));
    }
    let mut best: Option<Found> = None;
    let mut failed: Option<ProbeError> = None;
    for (at, method) in order.iter().enumerate() {
        if at > 0 && question.plan.deadline.saturating_sub(begun.elapsed()) < LEAST_TIME {
            tried.push((*method, "not asked: the time was up".to_owned()));
            continue;
        }
        match one(question, *method, begun) {
            Ok((path, transport)) => {
                let enough = decides(&path) || interrupted(&path);
                if !decides(&path) {
                    tried.push((*method, said(&path)));
                }
                if best.as_ref().is_none_or(|(seen, _)| gives_way(seen, &path, enough)) {
                    best = Some((path, transport));
                }
                if enough {
                    break;
                }
            }
            // What needs a privilege is not answered by another method.
            Err(error @ (ProbeError::NetNs(_) | ProbeError::NoRawSocket(_))) => return Err(error.into()),
            Err(error) => {
                tried.push((*method, error.to_string()));
                // A port that says nothing is a verdict, as silence of any other kind is.
                if best.is_none() && is_silence(&error) {
                    best = Some((no_connection(*method, &error), None));
                }
                failed = Some(error);
            }
        }
    }
    let Some((mut path, transport)) = best else {
        return Err(failed.map_or_else(|| Failure::stopped("no method could be tried"), Failure::from));
    };
    path.elapsed_ms = crate::facts::milliseconds(begun.elapsed());
    tried.retain(|(method, _)| *method != path.method);
    Ok(Asked { path, transport, tried })
}

/// Whether what one method has said is given up for what a `later` one says, which is `enough` to end with. The first
/// that says anything is better than a later one that says nothing; and no packet says less than silence to some.
fn gives_way(seen: &PathResult, later: &PathResult, enough: bool) -> bool {
    let asked = later.probes.sent > 0 || seen.probes.sent == 0;
    asked && (enough || seen.verdict == Verdict::Unreachable)
}

/// Whether connecting failed because nothing came back, or nothing is there.
fn is_silence(error: &ProbeError) -> bool {
    match error {
        ProbeError::ConnectTimeout { .. } => true,
        ProbeError::Connect { source, .. } => {
            matches!(source.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
        }
        _ => false,
    }
}

/// What is known where no connection could be made; how long that took is filled in at the end.
fn no_connection(method: Method, error: &ProbeError) -> PathResult {
    let note = match error {
        ProbeError::Connect { .. } => PathNote::PortUnreachable,
        _ => PathNote::PortSilent,
    };
    PathResult {
        method,
        verdict: Verdict::Unreachable,
        path_mtu_bytes: None,
        signalled: false,
        narrowing: None,
        reverse: Reverse { verdict: ReverseVerdict::Unknown, limit_bytes: None },
        bounds: Bounds { passes_bytes: None, fails_bytes: None },
        confidence: None,
        loss_ratio: None,
        rtt_us: None,
        probes: ProbeCounts::default(),
        elapsed_ms: 0.0,
        hops: Vec::new(),
        notes: vec![note],
    }
}

/// Whether nothing is gained by asking another way.
fn decides(path: &PathResult) -> bool {
    let settled = matches!(path.verdict, Verdict::Clear | Verdict::Narrowed | Verdict::BlackHole);
    settled && !path.notes.contains(&PathNote::TargetSilent)
}

fn interrupted(path: &PathResult) -> bool {
    path.notes.contains(&PathNote::Interrupted)
}

fn said(path: &PathResult) -> String {
    match path.verdict {
        _ if interrupted(path) => "interrupted".into(),
        Verdict::Unreachable => "no answer of any size".into(),
        Verdict::Narrowed => "only routers answered".into(),
        _ => "no verdict".into(),
    }
}

/// One method; the deadline is that of all of them, since `begun`.
fn one(question: Question<'_>, method: Method, begun: Instant) -> Result<Found, ProbeError> {
    let Question { netns, target, port, plan, onlooker, .. } = question;
    let port = port.unwrap_or_default();
    let left = || plan.deadline.saturating_sub(begun.elapsed());
    let mut plan = Plan { deadline: left(), ..plan.clone() };
    let mut known = Scouted::default();
    let mut transport: Box<dyn Transport + Send> = match method {
        Method::Icmp => {
            let mut echo = Echo::open(netns, target)?;
            known = scout(&mut echo, &plan, onlooker)?;
            // Over IPv6 they have been sent by now.
            plan.scouts = target.address.is_ipv4();
            plan.hops_by_scouts = !plan.scouts;
            if known.silent() {
                // The controls among them have had most of it.
                plan.timeout /= AFTER_SCOUTS;
            }
            // Where echo is filtered a host may still say that it does not know a protocol: few and small answers. A port
            // that was named is the better way.
            let alone = question.port.is_none() || question.choice == Choice::Icmp;
            plan.unknown_protocol = match known.arrived {
                _ if !alone => None,
                None if target.address.is_ipv4() => Some(AnswerLimit::ICMP_ERRORS),
                None => None,
                Some(_) => Some(AnswerLimit::ICMPV6_ERRORS_LEFT),
            };
            Box::new(echo)
        }
        // The kernel sends a lost SYN again after one second, and after two more.
        Method::Tcp => {
            let patience = plan.timeout.max(SYN_PATIENCE).min(left());
            Box::new(TcpProbe::open(netns, target, port, patience, onlooker)?)
        }
        Method::Udp => {
            let udp = UdpProbe::open(netns, target, port)?;
            plan.control = plan.control.max(udp.smallest()).min(plan.max);
            plan.answers = udp.answer_limit();
            Box::new(udp)
        }
    };
    plan.deadline = left();
    let mut search = Search::knowing(plan, &known);
    let mut path = drive(&mut search, transport.as_mut(), onlooker)?;
    if method == Method::Icmp && path.verdict == Verdict::Unreachable && still_asked_for(question) {
        // The kernel asks for a next hop once a second: with its first question lost nothing has left yet.
        let (first, whole) = (path.probes, question.plan);
        let max_probes = whole.max_probes.saturating_sub(first.sent);
        let again = Plan { timeout: whole.timeout / 2, deadline: left(), max_probes, ..whole.clone() };
        search = Search::new(again);
        path = drive(&mut search, transport.as_mut(), onlooker)?;
        path.probes = first.and(path.probes);
    }
    known.arrived = known.arrived.max(search.arrived_back());
    let mut path = which_way(question, path, &known, left())?;
    let unreturned =
        search.unreturned().filter(|_| path.verdict == Verdict::Narrowed && method == Method::Icmp);
    if let Some(size) = unreturned {
        path = way_back(question, path, size, left())?;
    }
    Ok((path, Some(transport)))
}

/// Whether the link-layer address of the next hop is not known yet.
fn still_asked_for(question: Question<'_>) -> bool {
    read_neighbour(question.netns, question.next_hop, question.interface)
        .is_ok_and(|entry| entry == Neighbour::Asking)
}

/// An echo reply over IPv6 is as large as its request and never fragmented on the way: the black hole may be
/// on the way back. Packets that the target answers with a small error tell.
fn which_way(
    question: Question<'_>,
    path: PathResult,
    known: &Scouted,
    deadline: Duration,
) -> Result<PathResult, ProbeError> {
    let Question { netns, target, plan, onlooker, .. } = question;
    // None was answered: the target answers no such packets.
    let (Verdict::BlackHole, Some(arrived)) = (path.verdict, known.arrived) else { return Ok(path) };
    if path.path_mtu_bytes.is_some_and(|mtu| arrived <= mtu) {
        // The way there is as narrow.
        return Ok(path);
    }
    let reverse = Reverse { verdict: ReverseVerdict::BlackHole, limit_bytes: path.path_mtu_bytes };
    if arrived == plan.max {
        // The way there takes all that the route lets out: it was seen to arrive.
        let bounds = Bounds { passes_bytes: Some(arrived), fails_bytes: None };
        let (narrowing, hops, notes) = (None, Vec::new(), Vec::new());
        let clear = PathResult { verdict: Verdict::Clear, path_mtu_bytes: Some(arrived), bounds, ..path };
        return Ok(PathResult { reverse, narrowing, hops, notes, ..clear });
    }
    let echo = Echo::open(netns, target)?;
    let max_probes = plan.max_probes.saturating_sub(path.probes.sent);
    let plan = Plan { answers: Some(AnswerLimit::ICMP_ERRORS), deadline, max_probes, ..plan.clone() };
    let mut there = drive(&mut Search::new(plan), &mut Scouts(echo), onlooker)?;
    if there.verdict == Verdict::Unreachable {
        // It has answered before, and has no answer left.
        let bounds = Bounds { passes_bytes: Some(arrived), fails_bytes: None };
        there = PathResult { verdict: Verdict::Inconclusive, bounds, ..there };
    }
    Ok(PathResult { reverse, probes: path.probes.and(there.probes), ..there })
}

/// What comes back of a path whose `size` rests on what the target says of scouts: the largest echo reply.
fn way_back(
    question: Question<'_>,
    path: PathResult,
    size: u32,
    deadline: Duration,
) -> Result<PathResult, ProbeError> {
    let Question { netns, target, plan, onlooker, .. } = question;
    let mut echo = Echo::open(netns, target)?;
    let max_probes = plan.max_probes.saturating_sub(path.probes.sent);
    // The verdict stands; a responder that is limited after all is not waited for.
    let deadline = deadline.min(plan.timeout);
    let plan = Plan { max: size, locate: false, deadline, max_probes, ..plan.clone() };
    let back = drive(&mut Search::new(plan), &mut echo, onlooker)?;
    let reverse = match back.verdict {
        Verdict::BlackHole => {
            Reverse { verdict: ReverseVerdict::BlackHole, limit_bytes: back.path_mtu_bytes }
        }
        Verdict::Clear => back.reverse,
        _ => path.reverse,
    };
    Ok(PathResult { reverse, probes: path.probes.and(back.probes), ..path })
}
