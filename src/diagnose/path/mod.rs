//! Rules on a measured path.

mod above;
mod around;
mod flows;
mod looped;
mod refused;
mod rules;
#[cfg(test)]
mod tests;

use above::check_above_route;
pub use above::clear_for_route;
use around::{
    check_cache, check_drops, check_interface, check_next_hop, check_service, check_settings, held_here,
};
pub use flows::check_flows;
use looped::{check_loop, looped, loops_over};
use refused::{Refusal, cannot, check_refusal, refusal, refused_by, refused_over};
pub use rules::*;

use crate::facts::{Evidence, Finding, LinkState, PathNote, PathResult, ReverseVerdict, Verdict};
use std::net::IpAddr;

/// A drop counter that rose while large packets were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rise {
    /// `host cni0`, `default/web-0 eth0`.
    pub place: String,
    /// `tx_dropped`, `IpFragFails`.
    pub counter: &'static str,
    /// Where it is read.
    pub source: &'static str,
    /// By how much.
    pub by: u64,
}

/// A path MTU that the kernel remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cached {
    /// Bytes of the whole IP packet.
    pub mtu: u32,
    /// Seconds until it forgets.
    pub forgets_in: u32,
}

/// What is known of a path besides its measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct PathFacts {
    /// `default/web-0`.
    pub subject: String,
    /// The target as people name it.
    pub target: String,
    /// Its address.
    pub address: IpAddr,
    /// Largest packet that the route lets out, bytes.
    pub route_mtu: u32,
    /// MSS that the route's own setting makes TCP there advertise, bytes; `None`: it follows the MTU.
    pub advmss: Option<u32>,
    /// Interface it leaves by.
    pub interface: String,
    /// The path MTU that the kernel remembered before the search.
    pub cached_before: Option<Cached>,
    /// The same after it.
    pub cached_after: Option<Cached>,
    /// `tcp_mtu_probing` of the source's namespace.
    pub tcp_mtu_probing: Option<u8>,
    /// `ip_no_pmtu_disc` of the source's namespace.
    pub ip_no_pmtu_disc: Option<u8>,
    /// The target is a Service address; true: of IPVS, so that this node answers itself.
    pub service_is_local: Option<bool>,
    /// Methods that gave no verdict, and why.
    pub other_methods: Vec<(&'static str, String)>,
    /// What became of the interface; `None`: the answers say enough, or it cannot be read.
    pub interface_state: Option<LinkState>,
    /// The next hop, when it was asked and does not answer.
    pub silent_next_hop: Option<IpAddr>,
    /// Drop counters on this node that rose with a burst of large packets; `None`: not looked at.
    pub drops: Option<Vec<Rise>>,
    /// Packets of that burst.
    pub burst: u32,
    /// `--max`, where it is below what the route lets out.
    pub asked_up_to: Option<u32>,
    /// `--min`, where it is above the smallest size that is asked for without it.
    pub asked_from: Option<u32>,
    /// Hops of the way that are this node itself: the source's node routes for a pod.
    pub hops_here: u8,
    /// The port that was asked.
    pub port: Option<u16>,
    /// The path as it was found, where only larger packets than the route lets out do not arrive.
    pub above_route: Option<PathResult>,
}

/// What usually takes so many bytes from a packet: facts of the encapsulations, bytes of L3.
pub fn explain_difference(bytes: u32) -> Option<&'static str> {
    Some(match bytes {
        4 => "a VLAN tag or MPLS label that nobody counted",
        8 => "PPPoE",
        20 => "IPIP",
        24 => "GRE",
        28 => "UDP encapsulation (flannel udp)",
        40 => "IPv6 or SRv6 encapsulation, or Google Cloud's default of 1460",
        42 => "GRE with key over Ethernet",
        50 => "VXLAN or Geneve over IPv4",
        58 => "Geneve with OVN's options",
        60 => "WireGuard over IPv4",
        70 => "VXLAN or Geneve over IPv6",
        73 | 77 => "IPsec",
        80 => "WireGuard over IPv6",
        100 => "two VXLANs, one inside the other",
        110 => "VXLAN inside WireGuard over IPv4",
        _ => return None,
    })
}

/// `1500 − 50 (VXLAN or Geneve over IPv4) = 1450`, when the difference has a known reason.
pub fn arithmetic(route_mtu: u32, path_mtu: u32) -> Option<String> {
    let difference = route_mtu.checked_sub(path_mtu).filter(|d| *d > 0)?;
    explain_difference(difference).map(|why| format!("{route_mtu} − {difference} ({why}) = {path_mtu}"))
}

/// Findings on one measured path.
pub fn check_path(facts: &PathFacts, path: &PathResult) -> Vec<Finding> {
    let mut findings = vec![];
    findings.extend(check_verdict(facts, path));
    findings.extend(check_drops(facts, path));
    findings.extend(check_cache(facts, path));
    findings.extend(check_settings(facts, path));
    findings.extend(check_service(facts, path));
    let cut_off = check_interface(facts);
    // What the interface has lost, nobody behind it has to answer for.
    if cut_off.is_none() {
        findings.extend(check_next_hop(facts, path));
    }
    findings.extend(cut_off);
    if let (Verdict::Clear, Some(max)) = (path.verdict, facts.asked_up_to) {
        findings.push(NOT_ASKED.finding(
            &facts.subject,
            format!("packets of up to {max} bytes arrive; what is larger was not asked for"),
            vec![
                Evidence::new("largest size that was asked for", max, "bytes", "--max"),
                evidence(facts, path).swap_remove(0),
            ],
            NOT_ASKED.fix,
        ));
    }
    findings.extend(check_above_route(facts));
    findings.extend(check_reverse(facts, path));
    if !facts.other_methods.is_empty() && path.verdict != Verdict::Unreachable {
        let see =
            |(method, why): &(&'static str, String)| Evidence::text(*method, why.clone(), "the search by it");
        findings.push(OTHER_METHOD.finding(
            &facts.subject,
            format!(
                "the verdict comes from {}, not from {}",
                path.method.name(),
                facts.other_methods.iter().map(|m| m.0).collect::<Vec<_>>().join(" or ")
            ),
            facts.other_methods.iter().map(see).collect(),
            OTHER_METHOD.fix,
        ));
    }
    if !is_cut_off(facts) {
        findings.extend(check_refusal(facts, path));
    }
    findings.extend(check_loop(facts, path));
    findings.extend(path.notes.iter().filter_map(|note| check_note(facts, note)));
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    findings
}

fn evidence(facts: &PathFacts, path: &PathResult) -> Vec<Evidence> {
    let mut seen = vec![Evidence::new(
        format!("MTU of the route by {}", facts.interface),
        facts.route_mtu,
        "bytes",
        "netlink RTM_GETROUTE, RTM_GETLINK",
    )];
    if let (Some(mss), Verdict::Narrowed | Verdict::BlackHole) = (facts.advmss, path.verdict) {
        seen.push(Evidence::new(
            "MSS that TCP there advertises",
            mss,
            "bytes",
            "netlink RTM_GETROUTE (RTAX_ADVMSS)",
        ));
    }
    let mut push = |what: &'static str, value: Option<u32>| {
        if let Some(value) = value {
            seen.push(Evidence::new(what, value, "bytes", asked(path)));
        }
    };
    // Where only routers speak, that anything arrives was not seen.
    let (passes, fails) = match path.notes.contains(&PathNote::TargetSilent) {
        true => ("largest packet that no router refused", "smallest packet that one did"),
        false => ("largest packet that arrived", "smallest packet that did not"),
    };
    push(passes, path.bounds.passes_bytes);
    push(fails, path.bounds.fails_bytes);
    if let Some(narrowing) = &path.narrowing {
        if let (Some(from), Some(mtu)) = (narrowing.reporter, narrowing.reported_mtu_bytes) {
            seen.push(Evidence::new("PTB names", mtu, "bytes", format!("ICMP from {from}")));
        }
        if let Some(hop) = narrowing.last_good_hop {
            seen.push(Evidence::text(
                "last hop that the large packet reached",
                hop.to_string(),
                "time exceeded",
            ));
        }
        if let Some(ttl) = narrowing.ttl {
            seen.push(Evidence::text("TTL of the first hop that it does not reach", ttl, "time exceeded"));
        }
    }
    seen
}

/// How the path was asked, as the source of what was seen.
fn asked(path: &PathResult) -> String {
    format!("{} probes with DF", path.method.name())
}

fn check_verdict(facts: &PathFacts, path: &PathResult) -> Option<Finding> {
    let PathFacts { subject, target, route_mtu, .. } = facts;
    let seen = evidence(facts, path);
    let mtu = path.path_mtu_bytes.unwrap_or_default();
    let why = arithmetic(*route_mtu, mtu).map(|a| format!(" {a}.")).unwrap_or_default();
    let settings = "CNI configuration's \"mtu\", flannel's and Calico's follow the uplink they detected; then recreate the pods";
    Some(match path.verdict {
        Verdict::Clear => return None,
        Verdict::Narrowed => NARROWED.finding(
            subject,
            format!("the path to {target} carries {mtu} bytes, the route allows {route_mtu}"),
            seen,
            format!("set the MTU of the pod network to {mtu} ({settings}).{why}"),
        ),
        Verdict::BlackHole => BLACK_HOLE.finding(
            subject,
            format!("packets of {} bytes and more to {target} {}; {mtu} bytes pass", mtu + 1, fate(path)),
            seen,
            which_way_first(path) + &match (held_here(path), refused_over(path)) {
                (Some(_), _) => "Find what refuses them here (mtu.refused_here, below).".to_owned(),
                _ if refusal(path, false).is_some() => {
                    "Find what refuses them there (mtu.refused_by_size, below).".to_owned()
                }
                _ if looped(path).is_some() => "Find the loop (mtu.routing_loop).".to_owned(),
                _ => format!(
                    "set the MTU of the pod network to {mtu} ({settings}), or raise what is narrow to {route_mtu}; let ICMP fragmentation-needed (type 3 code 4) and ICMPv6 packet-too-big (type 2) through.{why}"
                ),
            },
        ),
        // Silence of a Service address is no fault.
        Verdict::Unreachable if facts.service_is_local == Some(false) => return None,
        Verdict::Unreachable if is_port_silent(path) => {
            let port = port_asked(facts);
            let seen = if is_port_refused(path) { "host or network unreachable" } else { "no answer" };
            UNREACHABLE.finding(
                subject,
                format!("port {port} of {target} {}", fate(path)),
                vec![Evidence::text(format!("connection to port {port}"), seen, "connect(2)")],
                "Another --port, or --method icmp, which names who refuses; a policy may drop or refuse what goes to this one.",
            )
        }
        Verdict::Unreachable if path.probes.sent == 0 => UNREACHABLE.finding(
            subject,
            format!("the kernel refuses to send to {target}: nothing left the namespace"),
            vec![Evidence::new("probes that the kernel let out", 0, "packets", "sendto(2)")],
            match is_cut_off(facts) {
                true => SEE_INTERFACE,
                false => "Look for a packet filter on output in this namespace (nft list ruleset, iptables -S OUTPUT).",
            },
        ),
        Verdict::Unreachable => {
            let unanswered = if path.probes.answered == 0 { "probes sent, none answered by the target" } else { "probes sent" };
            let sent = Evidence::new(unanswered, path.probes.sent, "packets", "probes with DF");
            let (said, seen) = match refusal(path, false) {
                Some(refused) if refused.least => (cannot(refused, target), vec![refused_by(refused), sent]),
                Some(refused) => (format!("packets to {target} {}", fate(path)), vec![refused_by(refused), sent]),
                None if looped(path).is_some() => {
                    (format!("packets to {target} run out of hops on the way"), vec![sent])
                }
                None => {
                    let sizes = sizes_asked(facts.asked_from);
                    (format!("nothing came back from {target}{sizes}"), vec![sent])
                }
            };
            let fix = if is_cut_off(facts) { SEE_INTERFACE } else { UNREACHABLE.fix };
            UNREACHABLE.finding(subject, said, seen, fix)
        }
        // Nothing was measured: the Service's own finding says why.
        Verdict::Inconclusive if facts.service_is_local == Some(true) => return None,
        Verdict::Inconclusive => INCONCLUSIVE.finding(
            subject,
            format!("no verdict on the path to {target}: {}", reasons(path)),
            seen,
            if is_cut_off(facts) {
                SEE_INTERFACE
            } else if path.notes.contains(&PathNote::Budget) {
                "Repeat with more packets (--max-probes), or with smaller ones (--max): the bytes of a search are bounded, too."
            } else if path.notes.contains(&PathNote::Interrupted) {
                "Repeat, and let it come to its end."
            } else {
                INCONCLUSIVE.fix
            },
        ),
    })
}

/// What is to be done before anything else where it is not known which way large packets are lost.
fn which_way_first(path: &PathResult) -> String {
    match path.notes.contains(&PathNote::EitherWay) {
        true => "It may be their replies that are lost, on the way back, for these are as large: measure from the other end too (--both, or nsprobe on the target's node), or by --method tcp and a --port that listens. If it is the way there: ".to_owned(),
        false => String::new(),
    }
}

/// Where what keeps packets from leaving is told.
const SEE_INTERFACE: &str = "Mend the interface first (mtu.interface_down).";

fn is_cut_off(facts: &PathFacts) -> bool {
    facts.interface_state.is_some_and(|state| state != LinkState::Up)
}

/// The port that was asked, for a sentence.
fn port_asked(facts: &PathFacts) -> String {
    facts.port.map_or_else(|| "?".to_owned(), |port| port.to_string())
}

/// Whether no connection came about that could have been probed over.
fn is_port_silent(path: &PathResult) -> bool {
    path.notes.contains(&PathNote::PortSilent) || is_port_refused(path)
}

/// Whether that is what somebody said.
pub(super) fn is_port_refused(path: &PathResult) -> bool {
    path.notes.contains(&PathNote::PortUnreachable)
}

/// What becomes of packets that do not arrive: of those that are larger than what a black hole lets through, or of all.
pub fn fate(path: &PathResult) -> String {
    let lost = |size: u32, what: &str| format!("are lost, those of {size} and more {what}");
    if is_port_refused(path) {
        return "cannot be reached: a router or firewall says so, or the next hop is silent".to_owned();
    }
    if is_port_silent(path) {
        return "does not answer: filtered, or nobody is there".to_owned();
    }
    match (held_here(path), refused_over(path), refusal(path, false), looped(path)) {
        (.., Some(refused), _) if path.verdict == Verdict::Unreachable => refused.said_of_all(),
        (Some(_), ..) => "never leave, the kernel here refuses them".to_owned(),
        (_, Some(refused), ..) => refused.said(),
        _ if loops_over(path) => "go round in a loop".to_owned(),
        (_, _, Some(larger), _) => lost(larger.size, &larger.said()),
        (.., Some((_, size))) => lost(size, "go round in a loop"),
        _ if path.notes.contains(&PathNote::EitherWay) => {
            "vanish without a word, or their replies do".to_owned()
        }
        _ => "vanish without a word".to_owned(),
    }
}

/// Of which sizes nothing came back.
pub fn sizes_asked(from: Option<u32>) -> String {
    from.map_or_else(|| ", at any size".to_owned(), |from| format!(", of {from} bytes or more"))
}

fn reasons(path: &PathResult) -> String {
    let texts: Vec<String> = path
        .notes
        .iter()
        .filter_map(|note| {
            Some(match note {
                PathNote::Deadline => "the time was up".into(),
                PathNote::Budget => "the packets or bytes of one search were used up".into(),
                PathNote::Interrupted => "it was interrupted".into(),
                PathNote::LossNotBySize => "probes of passing sizes are lost too".into(),
                PathNote::Contradiction { passes, fails } => {
                    format!("{passes} bytes pass and {fails} bytes never do")
                }
                PathNote::SendRefused => "the kernel refuses to send".into(),
                PathNote::TargetSilent => "only routers answered".into(),
                _ => return None,
            })
        })
        .collect();
    if texts.is_empty() { "too few answers".into() } else { texts.join("; ") }
}

fn check_reverse(facts: &PathFacts, path: &PathResult) -> Option<Finding> {
    let limit = path.reverse.limit_bytes.filter(|_| path.reverse.verdict == ReverseVerdict::BlackHole)?;
    Some(REVERSE.finding(
        &facts.subject,
        format!(
            "answers over {limit} bytes from {} vanish on the way back; requests of that size arrive",
            facts.target
        ),
        vec![Evidence::new(
            "largest answer that came back",
            limit,
            "bytes",
            "echo replies, and errors of the target for larger packets",
        )],
        REVERSE.fix,
    ))
}

/// Findings on several paths of one source: what differs names the fault.
pub fn compare_paths(subject: &str, paths: &[(&str, Verdict, Option<u32>)]) -> Vec<Finding> {
    let told = paths.iter().find(|(_, verdict, _)| *verdict == Verdict::Narrowed);
    let silent = paths.iter().find(|(_, verdict, mtu)| {
        *verdict == Verdict::BlackHole && told.is_some_and(|(_, _, told)| told == mtu)
    });
    let (Some((told, _, Some(mtu))), Some((silent, _, _))) = (told, silent) else { return vec![] };
    let see = |target: &str, what: &'static str| Evidence::text(what, target.to_owned(), "probes with DF");
    vec![SERVICE_HIDES_PTB.finding(
        subject,
        format!("both paths carry {mtu} bytes, but only for {told} does a router say so; for {silent} larger packets vanish"),
        vec![see(told, "narrowed, with a PTB"), see(silent, "black hole of the same size")],
        SERVICE_HIDES_PTB.fix,
    )]
}

fn check_note(facts: &PathFacts, note: &PathNote) -> Option<Finding> {
    let subject = &facts.subject;
    let icmp = |from: &std::net::IpAddr| format!("ICMP from {from}");
    Some(match note {
        PathNote::PtbInvalid { mtu, size, from } => PTB_INVALID.finding(
            subject,
            format!("{from} answers a packet of {size} bytes with a PTB that names {mtu}"),
            vec![Evidence::new("PTB names", *mtu, "bytes", icmp(from))],
            PTB_INVALID.fix,
        ),
        PathNote::PtbUnderstates { mtu, passes, from } => PTB_UNDERSTATES.finding(
            subject,
            format!("{from} names {mtu} bytes in its PTB, and {passes} bytes arrive"),
            vec![Evidence::new("PTB names", *mtu, "bytes", icmp(from))],
            PTB_UNDERSTATES.fix,
        ),
        PathNote::TargetSilent => TARGET_SILENT.finding(
            subject,
            format!("{} answers no probe; the number comes from the routers before it", facts.target),
            vec![Evidence::text("answers of the target", 0, "probes with DF")],
            TARGET_SILENT.fix,
        ),
        PathNote::EchoFiltered { refused, timestamps } => {
            let by = if *timestamps {
                "ICMP timestamp requests"
            } else {
                "its errors for an unknown protocol or port 0"
            };
            let refused = refused.map(|(from, word)| Refusal::of_all(from, word));
            let fate = refused.map_or_else(|| "draw no answer".to_owned(), Refusal::said);
            let silence = || Evidence::text("answers to echo requests", 0, "ICMP probes with DF");
            ECHO_FILTERED.finding(
                subject,
                format!("echo requests to {} {fate}; it was measured by {by}", facts.target),
                vec![refused.map_or_else(silence, refused_by)],
                ECHO_FILTERED.fix,
            )
        }
        PathNote::EchoLimited => ECHO_LIMITED.finding(
            subject,
            format!(
                "{} answers few echo requests in time; it was measured by ICMP timestamp requests",
                facts.target
            ),
            vec![Evidence::text(
                "echo requests of sizes that pass",
                "not all answered in time",
                "ICMP probes with DF",
            )],
            ECHO_LIMITED.fix,
        ),
        PathNote::OnlyResets => ONLY_RESETS.finding(
            subject,
            format!(
                "port {} of {} is closed: resets are all that came, and a firewall may send them in its name",
                port_asked(facts),
                facts.target
            ),
            vec![Evidence::text("answers that were no reset", 0, "TCP probes with DF")],
            ONLY_RESETS.fix,
        ),
        PathNote::LossNotBySize => LOSS.finding(
            subject,
            format!("probes to {} are lost whatever their size", facts.target),
            vec![Evidence::text(
                "losses among sizes that pass",
                "half of a flight or more",
                "probes with DF",
            )],
            LOSS.fix,
        ),
        _ => return None,
    })
}
