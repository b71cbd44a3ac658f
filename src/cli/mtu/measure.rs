//! One path measured: what is asked beforehand, the search, what is read afterwards.

use super::method::{Asked, Choice, Question, ask};
use super::turns::in_turn;
use crate::cli::{Failure, target};
use crate::diagnose::path::{Cached, PathFacts, Rise, check_flows, check_path, clear_for_route, fate};
use crate::facts::{Bounds, Method, PathNote, PathResult, Reverse, ReverseVerdict, Verdict, milliseconds};
use crate::netns::NetNs;
use crate::observe::{
    CachedMtu, Neighbour, ObserveError, RouteKind, RouteLookup, ServiceProxy, cached_mtu, diff, ipvs_answers,
    read_counters, read_link_state, read_neighbour, read_settings, route_get, service_proxy,
};
use crate::pods::Source;
use crate::probe::search::Plan;
use crate::probe::wire::Family;
use crate::probe::{Onlooker, ProbeError, Target, Transport};
use crate::report::{MtuReport, MtuSource, MtuTarget};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Packets of the burst that drop counters are watched for.
const BURST: u16 = 7;
/// A burst that takes longer proves nothing: on a busy node some counter rises by as much in the same time.
const LONGEST_BURST: Duration = Duration::from_millis(200);

/// How a path is to be searched, whichever command asks.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Terms {
    /// Smallest and largest size to try, bytes; `None`: the protocol's, the route's.
    pub(in crate::cli) min: Option<u32>,
    pub(in crate::cli) max: Option<u32>,
    /// Wait for a lost probe.
    pub(in crate::cli) timeout: Duration,
    /// For the whole search.
    pub(in crate::cli) deadline: Duration,
    pub(in crate::cli) max_probes: u32,
    pub(in crate::cli) rate: Option<u32>,
    /// Whether the narrowing hop is looked for.
    pub(in crate::cli) locate: bool,
    /// The port that somebody named.
    pub(in crate::cli) port: Option<u16>,
    pub(in crate::cli) method: Choice,
}

/// Round trips within one machine, however busy it is, microseconds.
const NEAR_US: u64 = 20_000;

/// A target whose address and route are known; nothing has been sent to it.
#[derive(Clone)]
pub(in crate::cli) struct Planned {
    input: String,
    target: Target,
    pub(in crate::cli) route: RouteLookup,
    plan: Plan,
    /// `--max` leaves out sizes that the route would take.
    capped: bool,
    /// `--min` leaves out sizes that would be tried without it.
    raised: bool,
    port: Option<u16>,
    choice: Choice,
}

impl Planned {
    /// The same, to be measured within a time.
    pub(super) fn within(&self, deadline: Duration) -> Self {
        let plan = Plan { deadline: deadline.min(self.plan.deadline), ..self.plan.clone() };
        Self { plan, ..self.clone() }
    }

    /// The target as it was typed.
    pub(super) fn input(&self) -> &str {
        &self.input
    }

    /// Looks for the route again: it may have changed, and its MTU. What is gone altogether shows when it is measured.
    pub(super) fn renew(&mut self, terms: &Terms, source: &Source) {
        if let Ok(now) = plan(terms, source, &self.input, self.target) {
            *self = now;
        }
    }

    /// The gateway, or the target where it is on the link.
    fn next_hop(&self) -> IpAddr {
        self.route.gateway.unwrap_or(self.target.address)
    }
}

/// Finds the route to a target, and the sizes that are to be tried on it.
///
/// # Errors
/// No route, no single host, or sizes that cannot leave.
pub(in crate::cli) fn plan(
    terms: &Terms,
    source: &Source,
    text: &str,
    target: Target,
) -> Result<Planned, Failure> {
    let route = route_get(&source.netns, target.address, target.scope_id)
        .map_err(|error| no_route(error, source, text))?;
    if route.kind == RouteKind::Other && target.address.is_ipv4() {
        return Err(target::no_single_host(text)
            .hint(format!("nsprobe exec {} -- ip route get {text} shows what it is", source.label)));
    }
    let family = Family::of(target.address);
    let allowed = route.largest_packet();
    let max = terms.max.unwrap_or(allowed);
    if max > route.link_mtu {
        return Err(Failure::usage(format!(
            "--max {max} is over the MTU of {} ({} bytes): such a packet cannot leave {}",
            route.interface, route.link_mtu, source.label
        ))
        .hint(format!("--max {} is the largest that can be asked for", route.link_mtu)));
    }
    let smallest = family.ip_header + 8 + 8;
    let control = terms.min.map_or(family.control(), |min| min.max(smallest)).min(max);
    if let Some(min) = terms.min.filter(|min| *min > max) {
        let whose = if terms.max.is_some() { "--max" } else { "what the route lets out" };
        return Err(Failure::usage(format!(
            "--min {min} leaves no size to try: it is over {whose}, {max} bytes"
        )));
    }
    if max < smallest {
        return Err(Failure::usage(format!(
            "--max {max} leaves no size to try: a probe has at least {smallest} bytes"
        )));
    }
    let plan = Plan {
        timeout: terms.timeout,
        deadline: terms.deadline,
        max_probes: terms.max_probes,
        rate_pps: terms.rate,
        locate: terms.locate,
        ..Plan::new(control, max, family.floor)
    };
    let capped = plan.max < Plan::new(control, allowed, family.floor).max;
    let raised = plan.control > family.control();
    let input = text.to_owned();
    Ok(Planned { input, target, route, plan, capped, raised, port: terms.port, choice: terms.method })
}

fn no_route(error: ObserveError, source: &Source, target: &str) -> Failure {
    match error {
        ObserveError::NetNs(error) => error.into(),
        ObserveError::NoRoute { .. } => {
            Failure::unresolved(format!("{target}: {error} (from {})", source.label)).hint(format!(
                "nsprobe links {} shows its routes; -4 or -6 choose the family of a name",
                source.label
            ))
        }
        error => Failure::stopped(error.to_string()),
    }
}

/// Searches one path, and reads what explains the outcome.
///
/// # Errors
/// What stopped the only method that was left.
pub(in crate::cli) fn measure(
    source: &Source,
    host: Option<&NetNs>,
    planned: &Planned,
    flows: u8,
    onlooker: Onlooker<'_>,
) -> Result<MtuReport, Failure> {
    let begun = Instant::now();
    let served_here = || {
        host.is_some_and(|host| {
            host.inode() != source.netns.inode() && ipvs_answers(host, planned.target.address)
        })
    };
    // Only then there is another way to ask.
    let answered_here = planned.port.is_some() && planned.choice == Choice::Auto && served_here();
    let question = Question {
        netns: &source.netns,
        target: planned.target,
        next_hop: planned.next_hop(),
        interface: planned.route.index,
        port: planned.port,
        choice: planned.choice,
        answered_here,
        plan: &planned.plan,
        onlooker,
    };
    let others = (1..flows).map(|_| question).collect::<Vec<_>>();
    let (asked, others) = std::thread::scope(|scope| {
        let inside = |question: Question<'_>| {
            question.netns.enter_for_ever()?;
            ask(question)
        };
        let threads: Vec<_> = others.iter().map(|other| scope.spawn(move || inside(*other))).collect();
        let asked = ask(question);
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        (asked, threads.into_iter().map(join).collect::<Result<Vec<_>, Failure>>())
    });
    let mut flows = vec![asked?];
    flows.extend(others?);
    // All are waited for.
    let mut waited = flows.iter().map(|flow| flow.path.elapsed_ms).fold(0.0, f64::max);
    let seen = |flow: &Asked| (flow.path.verdict, flow.path.path_mtu_bytes);
    let left = || planned.plan.deadline.saturating_sub(begun.elapsed());
    let again =
        |_: usize, deadline| ask(Question { plan: &Plan { deadline, ..planned.plan.clone() }, ..question });
    let unknown = |flow: &mut Asked| {
        let bounds = flow.path.bounds;
        let (verdict, path_mtu_bytes, confidence) = (Verdict::Inconclusive, None, None);
        flow.path = PathResult { verdict, path_mtu_bytes, confidence, bounds, ..flow.path.clone() };
        flow.path.notes.push(PathNote::Deadline);
    };
    if in_turn(&mut flows, seen, left, onlooker, again, unknown)? {
        waited = milliseconds(begun.elapsed());
    }
    let route_mtu = planned.route.largest_packet();
    let above: Vec<Option<PathResult>> = flows
        .iter_mut()
        .map(|Asked { path, .. }| {
            let clear = clear_for_route(path, route_mtu)?;
            Some(std::mem::replace(path, clear))
        })
        .collect();
    // The verdict is that of the narrowest point, whichever flow comes by there.
    let worst = flows.iter().enumerate().min_by_key(|(_, flow)| rank(&flow.path)).map_or(0, |(at, _)| at);
    let Asked { mut path, transport, tried } = flows.swap_remove(worst);
    let above_route = above.into_iter().nth(worst).flatten();
    let others: Vec<PathResult> = flows.into_iter().map(|flow| flow.path).collect();
    if planned.capped && path.verdict == Verdict::Clear {
        // Nothing above --max was asked for: what passes is known, the path's own MTU is not.
        path.path_mtu_bytes = None;
    }
    let left = left().min(LONGEST_BURST);
    let drops = match (path.verdict, path.bounds.fails_bytes, transport) {
        (Verdict::BlackHole, Some(size), Some(mut transport))
            if planned.plan.gap() * BURST.into() <= left
                && path.probes.sent.saturating_add(BURST.into()) <= planned.plan.max_probes =>
        {
            path.probes.sent += u32::from(BURST);
            path.probes.lost += u32::from(BURST);
            watch_drops(source, host, transport.as_mut(), size, path.rtt_us, planned.plan.gap())
        }
        _ => None,
    };
    let Target { address, scope_id } = planned.target;
    let after = cached_mtu(&source.netns, address, scope_id).ok().flatten();
    let cached = |c: CachedMtu| Cached { mtu: c.mtu_bytes, forgets_in: c.expires_secs };
    // What cannot be read is not known; the measurement stands without it.
    let settings = read_settings(&source.netns).unwrap_or_default();
    // Rules are searched only where the answer matters: a node may have tens of thousands.
    let service = match path.verdict {
        Verdict::Unreachable => host.and_then(|host| service_proxy(host, planned.target.address)),
        // What answers at once may be this node: IPVS makes Service addresses its own.
        _ if path.method != Method::Icmp => None,
        _ if path.rtt_us.is_some_and(|rtt| rtt < NEAR_US) && served_here() => Some(ServiceProxy::Ipvs),
        _ => None,
    };
    if path.verdict != Verdict::Unreachable && service == Some(ServiceProxy::Ipvs) {
        // What this node says of itself is no proof of the way to the pods behind it.
        let bounds = Bounds { passes_bytes: None, fails_bytes: None };
        let reverse = Reverse { verdict: ReverseVerdict::Unknown, limit_bytes: None };
        let (verdict, path_mtu_bytes, confidence) = (Verdict::Inconclusive, None, None);
        path = PathResult { verdict, path_mtu_bytes, confidence, bounds, reverse, narrowing: None, ..path };
    }
    let facts = PathFacts {
        subject: source.label.clone(),
        target: planned.input.clone(),
        address: planned.target.address,
        route_mtu,
        advmss: planned.route.advmss,
        interface: planned.route.interface.clone(),
        cached_before: planned.route.cached.map(cached),
        cached_after: after.map(cached),
        tcp_mtu_probing: settings.tcp_mtu_probing,
        ip_no_pmtu_disc: settings.ip_no_pmtu_disc.filter(|_| planned.target.address.is_ipv4()),
        interface_state: match path.verdict {
            Verdict::Unreachable | Verdict::Inconclusive => {
                read_link_state(&source.netns, planned.route.index).ok()
            }
            _ => None,
        },
        silent_next_hop: match path.verdict {
            Verdict::Unreachable => silent_next_hop(source, planned),
            _ => None,
        },
        other_methods: tried.iter().map(|(method, why)| (method.name(), why.clone())).collect(),
        service_is_local: service.map(|proxy| proxy == ServiceProxy::Ipvs),
        drops,
        burst: u32::from(BURST),
        asked_up_to: planned.capped.then_some(planned.plan.max),
        asked_from: planned.raised.then_some(planned.plan.control),
        hops_here: u8::from(host.is_none_or(|host| host.inode() != source.netns.inode())),
        port: planned.port,
        above_route,
    };
    let mut findings = check_path(&facts, &path);
    findings.extend(check_flows(&facts, &path, &others));
    Ok(MtuReport {
        source: MtuSource {
            pod: source.pod.as_ref().map(crate::facts::Pod::full_name),
            container_id: source.container_id.clone(),
            pid: source.pid,
            netns_inode: source.netns.inode(),
            interface: Some(planned.route.interface.clone()),
            interface_mtu_bytes: Some(planned.route.link_mtu),
            route_mtu_bytes: Some(route_mtu),
            address: planned.route.source_address,
        },
        target: MtuTarget {
            input: planned.input.clone(),
            address: planned.target.address,
            port: planned.port,
        },
        fate: fate(&path),
        method: path.method,
        verdict: path.verdict,
        path_mtu_bytes: path.path_mtu_bytes,
        signalled: path.signalled,
        narrowing: path.narrowing,
        reverse: path.reverse,
        bounds: path.bounds,
        confidence: path.confidence,
        loss_ratio: path.loss_ratio,
        rtt_us: path.rtt_us,
        probes: path.probes,
        elapsed_ms: waited,
        findings,
        hops: path.hops,
        tried: tried.into_iter().map(|(method, why)| format!("{}: {why}", method.name())).collect(),
        label: source.label.clone(),
        asked_from: planned.raised.then_some(planned.plan.control),
    })
}

/// Which of several flows tells the narrowest point: the smaller, the earlier.
fn rank(path: &PathResult) -> (u8, u32) {
    let order = match path.verdict {
        Verdict::BlackHole => 0,
        Verdict::Narrowed => 1,
        Verdict::Clear => 2,
        // Where all ask at once answers may be too few for some: that is no narrow point.
        Verdict::Inconclusive => 3,
        Verdict::Unreachable => 4,
    };
    (order, path.path_mtu_bytes.unwrap_or(u32::MAX))
}

/// The next hop, when it was asked for its link-layer address and gave none.
fn silent_next_hop(source: &Source, planned: &Planned) -> Option<IpAddr> {
    let hop = planned.next_hop();
    let entry = read_neighbour(&source.netns, hop, planned.route.index).ok()?;
    matches!(entry, Neighbour::Failed | Neighbour::Asking).then_some(hop)
}

/// Sends a burst of a size that vanishes, and tells which drop counters on this node rose with it; `None`
/// when they cannot be read.
fn watch_drops(
    source: &Source,
    host: Option<&NetNs>,
    transport: &mut dyn Transport,
    size: u32,
    rtt_us: Option<u64>,
    gap: Duration,
) -> Option<Vec<Rise>> {
    let mut places = vec![(source.label.as_str(), &source.netns)];
    places.extend(host.filter(|h| h.inode() != source.netns.inode()).map(|h| ("host", h)));
    let before = read_counters(&places).ok()?;
    // The way to this node's uplink takes microseconds; what comes back does not matter here.
    transport.burst(size, BURST, gap, Duration::from_micros(rtt_us.unwrap_or(1000).min(1000) + 500));
    let after = read_counters(&places).ok()?;
    let rises = diff(&before, &after).into_iter().map(|rise| Rise {
        place: rise
            .interface
            .map_or(rise.subject.clone(), |interface| format!("{} {interface}", rise.subject)),
        counter: rise.counter.name(),
        source: rise.counter.source(),
        by: rise.by,
    });
    let rises: Vec<Rise> = rises.collect();
    // Half of the way was not looked at: only a counter that rose says something.
    let told = host.is_some() || rises.iter().any(|rise| rise.by >= u64::from(BURST));
    told.then_some(rises)
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Self {
        match error {
            ProbeError::NetNs(error) => error.into(),
            ProbeError::NoRawSocket(ref source) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Self::privilege(error.to_string())
                    .hint("run as root (sudo nsprobe …), or with CAP_NET_RAW and CAP_SYS_ADMIN")
            }
            ProbeError::NoRepair(_) => {
                Self::privilege(error.to_string()).hint("run as root (sudo nsprobe …), or with CAP_NET_ADMIN")
            }
            ProbeError::ConnectTimeout { .. } => Self::stopped(error.to_string())
                .hint("another --port, or --method icmp; a policy may drop what goes to this one"),
            error => Self::stopped(error.to_string()),
        }
    }
}
