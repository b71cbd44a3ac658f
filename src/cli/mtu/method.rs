//! Which way a path is asked, and what the others had to say: ICMP, then TCP and UDP where a port was named.

use super::back::both_ways;
use crate::cli::Failure;
use crate::facts::{Bounds, Method, PathNote, PathResult, ProbeCounts, Reverse, ReverseVerdict, Verdict};
use crate::netns::NetNs;
use crate::observe::{Neighbour, read_neighbour};
use crate::probe::search::{AnswerLimit, Plan, Scouted, Search};
use crate::probe::{
    AFTER_SCOUTS, Echo, Onlooker, ProbeError, Target, TcpProbe, Transport, UdpProbe, drive, scout,
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
        // Others are to have their time too.
        let share = u32::try_from(order.len() - at).unwrap_or(1);
        match one(question, *method, begun, share) {
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
    // A search that its time cut short before anybody spoke does not know what the longer one does.
    let cut = later.verdict == Verdict::Inconclusive && later.probes.answered + later.probes.too_big == 0;
    asked && (enough || seen.verdict == Verdict::Unreachable && !cut)
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

/// One method; the deadline is that of all of them since `begun`, of which it has one part of `share`.
fn one(question: Question<'_>, method: Method, begun: Instant, share: u32) -> Result<Found, ProbeError> {
    let Question { netns, target, port, plan, onlooker, .. } = question;
    let port = port.unwrap_or_default();
    let whole = begun.elapsed() + plan.deadline.saturating_sub(begun.elapsed()) / share;
    let left = || whole.saturating_sub(begun.elapsed());
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
        let hops_by_scouts = target.address.is_ipv6();
        let timeout = whole.timeout / 2;
        let again = Plan { timeout, deadline: left(), max_probes, hops_by_scouts, ..whole.clone() };
        search = Search::new(again);
        path = drive(&mut search, transport.as_mut(), onlooker)?;
        path.probes = first.and(path.probes);
    }
    if method == Method::Icmp {
        path = both_ways(question, &search, known, path, &left)?;
    }
    Ok((path, Some(transport)))
}

/// Whether the link-layer address of the next hop is not known yet.
fn still_asked_for(question: Question<'_>) -> bool {
    read_neighbour(question.netns, question.next_hop, question.interface)
        .is_ok_and(|entry| entry == Neighbour::Asking)
}
