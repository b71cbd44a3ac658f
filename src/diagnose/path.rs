//! Rules on a measured path.

use super::Rule;
use crate::facts::{Evidence, Finding, PathNote, PathResult, ReverseVerdict, Severity, Verdict};
use std::net::IpAddr;

/// A router says that the path is narrower than the route.
pub const NARROWED: Rule = Rule {
    id: "mtu.narrowed",
    severity: Severity::Warning,
    meaning: "The path carries less than the route's MTU and a router says so. Applications adapt as long as that message reaches them.",
    fix: "Set the MTU of the pod network to what the path carries, or raise the narrow link.",
};

/// Large packets vanish.
pub const BLACK_HOLE: Rule = Rule {
    id: "mtu.black_hole",
    severity: Severity::Critical,
    meaning: "Packets above a size vanish without a word: connections open, then hang on the first large packet.",
    fix: "Set the MTU of the pod network to what the path carries, and let ICMP fragmentation-needed and ICMPv6 packet-too-big through.",
};

/// Nothing came back.
pub const UNREACHABLE: Rule = Rule {
    id: "mtu.unreachable",
    severity: Severity::Warning,
    meaning: "No answer of any size: the target is down, a policy drops the probes, or it does not answer this method.",
    fix: "Check the route and the policies towards it; a target that filters ICMP needs --port with a TCP or UDP service.",
};

/// No verdict.
pub const INCONCLUSIVE: Rule = Rule {
    id: "mtu.inconclusive",
    severity: Severity::Warning,
    meaning: "The answers contradict each other or are too few for a verdict.",
    fix: "Repeat with a longer --deadline; on a lossy path look for the loss first.",
};

/// An impossible PTB.
pub const PTB_INVALID: Rule = Rule {
    id: "mtu.ptb_invalid",
    severity: Severity::Info,
    meaning: "A router's PTB names an impossible MTU; kernels then fall back to a very small one for ten minutes.",
    fix: "Update or replace that router; meanwhile lower the MTU of the pod network, so that it has no reason to speak.",
};

/// A PTB that names too little.
pub const PTB_UNDERSTATES: Rule = Rule {
    id: "mtu.ptb_understates",
    severity: Severity::Info,
    meaning: "A router's PTB names less than what passes: applications send smaller packets than they could.",
    fix: "Check the MTU that is configured on that router or tunnel.",
};

/// Only routers answered.
pub const TARGET_SILENT: Rule = Rule {
    id: "mtu.target_silent",
    severity: Severity::Info,
    meaning: "The target itself answers no probe; the number comes from routers on the way and says nothing of what lies behind them.",
    fix: "Measure to a target that answers.",
};

/// Losses that no size explains.
pub const LOSS: Rule = Rule {
    id: "mtu.loss",
    severity: Severity::Info,
    meaning: "Probes of sizes that pass were lost too: the path loses packets, or somebody limits the answers.",
    fix: "Look for the loss: interface counters (nsprobe links -v), a congested uplink, an ICMP rate limit.",
};

/// The kernel of this node answers for the path from memory.
pub const CACHED: Rule = Rule {
    id: "mtu.cached",
    severity: Severity::Info,
    meaning: "The namespace remembers a path MTU for this target from an earlier PTB; applications use it until it expires.",
    fix: "ip route flush cache (in the namespace) forgets it at once; it forgets by itself after ten minutes.",
};

/// A cached value below what the path carries.
pub const CACHE_STALE: Rule = Rule {
    id: "mtu.cache_stale",
    severity: Severity::Warning,
    meaning: "The namespace remembers a path MTU that is smaller than what the path carries: a stale or forged PTB slows every application there.",
    fix: "ip route flush cache in the namespace; then look for who sent the PTB (capture icmp[0]==3 and icmp[1]==4).",
};

/// Probing left something behind.
pub const CACHE_LEFT: Rule = Rule {
    id: "mtu.cache_left",
    severity: Severity::Info,
    meaning: "On IPv6 the kernel remembers every packet-too-big, also that of a probe: applications see the true path MTU until it expires.",
    fix: "Nothing to do; ip -6 route flush cache in the namespace forgets it at once.",
};

/// TCP will not help itself.
pub const NO_RECOVERY: Rule = Rule {
    id: "mtu.no_recovery",
    severity: Severity::Info,
    meaning: "tcp_mtu_probing is off where the packets come from: TCP never finds out by itself that large packets vanish, its connections hang until they time out.",
    fix: "As a stopgap: sysctl -w net.ipv4.tcp_mtu_probing=1 in that namespace (for pods through securityContext.sysctls); then TCP recovers after some seconds.",
};

/// Path-MTU discovery is off.
pub const DISCOVERY_OFF: Rule = Rule {
    id: "mtu.discovery_off",
    severity: Severity::Info,
    meaning: "ip_no_pmtu_disc is set where the packets come from: applications send without DF over IPv4, routers fragment, and what is measured here with DF is not what they meet.",
    fix: "sysctl net.ipv4.ip_no_pmtu_disc shows it; 0 is the default.",
};

/// A Service address answers no ICMP.
pub const SERVICE_SILENT: Rule = Rule {
    id: "mtu.service_silent",
    severity: Severity::Info,
    meaning: "The target is a Service address: kube-proxy rewrites only the ports of the Service, so that silence to ICMP is no fault.",
    fix: "Measure to the pods behind it: kubectl get endpointslices shows their addresses.",
};

/// With IPVS the node answers for the Service.
pub const SERVICE_IS_LOCAL: Rule = Rule {
    id: "mtu.service_is_local",
    severity: Severity::Info,
    meaning: "The target is a Service address that IPVS keeps on this node: the node itself answers ICMP, which proves nothing of the way to the backends.",
    fix: "Measure to the pods behind it: kubectl get endpointslices shows their addresses.",
};

/// Errors are not relayed behind a Service address.
pub const SERVICE_HIDES_PTB: Rule = Rule {
    id: "mtu.errors_not_relayed",
    severity: Severity::Warning,
    meaning: "One target is narrowed with a word, another is silent at the same size: ICMP errors reach the sender for the one and not for the other.",
    fix: "Compare what lies between: a Service address, SNAT or a policy that drops ICMP errors (fragmentation-needed, packet-too-big).",
};

/// Flows take different paths.
pub const FLOWS_DIFFER: Rule = Rule {
    id: "mtu.flows_differ",
    severity: Severity::Warning,
    meaning: "Searches at the same time with different flows found different path MTUs: several paths share the load (ECMP), and one of them is narrower. Some connections hang, others do not.",
    fix: "Find the narrow member: nsprobe mtu --flows 16 -v shows the hops; give all members of the group the same MTU.",
};

/// The way back is narrow.
pub const REVERSE: Rule = Rule {
    id: "mtu.reverse_black_hole",
    severity: Severity::Critical,
    meaning: "Large packets arrive, and large answers vanish on the way back: downloads hang, uploads do not.",
    fix: "Measure from the other end (--both, or nsprobe on the target's node), and mend the path from there.",
};

/// ICMP had no answer, something else had.
pub const OTHER_METHOD: Rule = Rule {
    id: "mtu.other_method",
    severity: Severity::Info,
    meaning: "The method that is asked first had no answer; the verdict comes from another one.",
    fix: "Nothing to do for the path MTU; a filter of echo requests also hides the target from ping.",
};

/// The next hop does not answer ARP.
pub const NEXT_HOP_SILENT: Rule = Rule {
    id: "mtu.next_hop_silent",
    severity: Severity::Critical,
    meaning: "The next hop does not answer ARP or neighbour discovery: nothing of any size leaves by that interface.",
    fix: "Check the interface, its bridge and the next hop: nsprobe links, ip neigh in the namespace.",
};

/// The packet never left.
pub const DROPPED_ON_NODE: Rule = Rule {
    id: "mtu.dropped_on_node",
    severity: Severity::Critical,
    meaning: "A drop counter of this node rose with every large packet: it never leaves the node.",
    fix: "Compare the MTUs of the interfaces around that counter (nsprobe links); raise the smaller or lower the pods'.",
};

/// The node is innocent.
pub const LEFT_NODE: Rule = Rule {
    id: "mtu.left_node",
    severity: Severity::Info,
    meaning: "No drop counter on this node's part of the way rose: the large packets left it, or went where nothing counts.",
    fix: "Look behind the uplink: the switch, the underlay's MTU, a filter of fragments or of ICMP.",
};

/// All of this family.
pub const RULES: &[Rule] = &[
    BLACK_HOLE,
    DROPPED_ON_NODE,
    NARROWED,
    UNREACHABLE,
    INCONCLUSIVE,
    CACHE_STALE,
    CACHED,
    CACHE_LEFT,
    LEFT_NODE,
    PTB_INVALID,
    PTB_UNDERSTATES,
    TARGET_SILENT,
    LOSS,
    NO_RECOVERY,
    DISCOVERY_OFF,
    SERVICE_SILENT,
    SERVICE_IS_LOCAL,
    SERVICE_HIDES_PTB,
    NEXT_HOP_SILENT,
    OTHER_METHOD,
    FLOWS_DIFFER,
    REVERSE,
];

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathFacts {
    /// `default/web-0`.
    pub subject: String,
    /// The target as people name it.
    pub target: String,
    /// Largest packet that the route lets out, bytes.
    pub route_mtu: u32,
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
    /// The next hop, when it was asked and does not answer.
    pub silent_next_hop: Option<IpAddr>,
    /// Drop counters on this node that rose with a burst of large packets; `None`: not looked at.
    pub drops: Option<Vec<Rise>>,
    /// Packets of that burst.
    pub burst: u32,
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
    if path.verdict == Verdict::BlackHole {
        findings.extend(check_drops(facts, path));
    }
    findings.extend(check_cache(facts, path));
    findings.extend(check_settings(facts, path));
    findings.extend(check_service(facts, path));
    findings.extend(check_next_hop(facts, path));
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
    let mut explained = false;
    for note in &path.notes {
        findings.extend(check_note(facts, note, &mut explained));
    }
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
    let mut push = |what: &'static str, value: Option<u32>| {
        if let Some(value) = value {
            seen.push(Evidence::new(what, value, "bytes", asked(path)));
        }
    };
    push("largest packet that arrived", path.bounds.passes_bytes);
    push("smallest packet that did not", path.bounds.fails_bytes);
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
            format!("packets of {} bytes and more to {target} vanish without a word; {mtu} bytes pass", mtu + 1),
            seen,
            format!(
                "set the MTU of the pod network to {mtu} ({settings}), or raise what is narrow to {route_mtu}; let ICMP fragmentation-needed (type 3 code 4) and ICMPv6 packet-too-big (type 2) through.{why}"
            ),
        ),
        // Silence of a Service address is no fault.
        Verdict::Unreachable if facts.service_is_local == Some(false) => return None,
        Verdict::Unreachable if path.probes.sent == 0 => UNREACHABLE.finding(
            subject,
            format!("the kernel refuses to send to {target}: nothing left the namespace"),
            vec![Evidence::new("probes that the kernel let out", 0, "packets", "sendto(2)")],
            "Look for a packet filter on output in this namespace (nft list ruleset, iptables -S OUTPUT), and whether its interface is up.",
        ),
        Verdict::Unreachable => UNREACHABLE.finding(
            subject,
            format!("nothing came back from {target}, at any size"),
            vec![Evidence::new("probes sent, none answered by the target", path.probes.sent, "packets", "echo with DF")],
            UNREACHABLE.fix,
        ),
        Verdict::Inconclusive => INCONCLUSIVE.finding(
            subject,
            format!("no verdict on the path to {target}: {}", reasons(path)),
            seen,
            if path.notes.contains(&PathNote::Budget) {
                "Repeat with more packets: --max-probes."
            } else if path.notes.contains(&PathNote::Interrupted) {
                "Repeat, and let it come to its end."
            } else {
                INCONCLUSIVE.fix
            },
        ),
    })
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
                _ => return None,
            })
        })
        .collect();
    if texts.is_empty() { "too few answers".into() } else { texts.join("; ") }
}

fn check_drops(facts: &PathFacts, path: &PathResult) -> Option<Finding> {
    let drops = facts.drops.as_ref()?;
    let size = path.bounds.fails_bytes.unwrap_or_default();
    // Counters of a busy node move by themselves: one that took the burst rose by all of it.
    let risen = drops.iter().filter(|r| r.by >= u64::from(facts.burst));
    // FragOKs counts what left in pieces: no loss, but a trace.
    let (pieces, guilty): (Vec<&Rise>, Vec<&Rise>) = risen.partition(|r| r.counter.ends_with("FragOKs"));
    let see = |rise: &&Rise| {
        let what =
            format!("{} of {} during {} packets of {size} bytes", rise.counter, rise.place, facts.burst);
        Evidence::new(what, rise.by, "packets", rise.source)
    };
    let Some(first) = guilty.first() else {
        let sent = "packets sent while the counters were watched";
        let mut seen = vec![Evidence::new(sent, facts.burst, "packets", "counters before and after")];
        seen.extend(pieces.iter().map(see));
        let summary = if pieces.is_empty() {
            "no drop counter on this node rose: the large packets leave it"
        } else {
            "the large packets leave this node in fragments: whoever drops fragments is behind the uplink"
        };
        return Some(LEFT_NODE.finding(&facts.subject, summary, seen, LEFT_NODE.fix));
    };
    Some(DROPPED_ON_NODE.finding(
        &facts.subject,
        format!("the large packets never leave this node: {} counts them ({})", first.place, first.counter),
        guilty.iter().map(see).collect(),
        DROPPED_ON_NODE.fix,
    ))
}

fn check_cache(facts: &PathFacts, path: &PathResult) -> Option<Finding> {
    let source = "netlink RTM_GETROUTE";
    if let Some(cached) = facts.cached_before {
        let Cached { mtu: cached, forgets_in } = cached;
        let seen = vec![
            Evidence::new("cached path MTU before the search", cached, "bytes", source),
            Evidence::new("the kernel forgets it in", forgets_in, "s", source),
        ];
        return Some(match path.path_mtu_bytes {
            Some(mtu) if cached < mtu => CACHE_STALE.finding(
                &facts.subject,
                format!(
                    "the namespace remembers {cached} bytes for {}, and the path carries {mtu}",
                    facts.target
                ),
                seen,
                CACHE_STALE.fix,
            ),
            _ => CACHED.finding(
                &facts.subject,
                format!("the namespace already remembers a path MTU of {cached} bytes for {}", facts.target),
                seen,
                CACHED.fix,
            ),
        });
    }
    let Cached { mtu: left, forgets_in } = facts.cached_after?;
    Some(CACHE_LEFT.finding(
        &facts.subject,
        format!("the kernel now remembers {left} bytes for {}, for {forgets_in} s", facts.target),
        vec![Evidence::new("cached path MTU after the search", left, "bytes", source)],
        CACHE_LEFT.fix,
    ))
}

/// What applications do on such a path.
fn check_settings(facts: &PathFacts, path: &PathResult) -> Vec<Finding> {
    let read = |name: &'static str, value: u8| {
        vec![Evidence::text(name, value, "/proc/sys/net/ipv4 in the namespace of the source")]
    };
    let mut findings = vec![];
    if let (Verdict::BlackHole, Some(0)) = (path.verdict, facts.tcp_mtu_probing) {
        let summary = "TCP there does not recover by itself: tcp_mtu_probing is 0";
        findings.push(NO_RECOVERY.finding(
            &facts.subject,
            summary,
            read("tcp_mtu_probing", 0),
            NO_RECOVERY.fix,
        ));
    }
    if let Some(value @ 1..) = facts.ip_no_pmtu_disc {
        let summary = format!("applications there send IPv4 without DF: ip_no_pmtu_disc is {value}");
        findings.push(DISCOVERY_OFF.finding(
            &facts.subject,
            summary,
            read("ip_no_pmtu_disc", value),
            DISCOVERY_OFF.fix,
        ));
    }
    findings
}

fn check_next_hop(facts: &PathFacts, path: &PathResult) -> Option<Finding> {
    let hop = facts.silent_next_hop.filter(|_| path.verdict == Verdict::Unreachable)?;
    Some(NEXT_HOP_SILENT.finding(
        &facts.subject,
        format!("the next hop {hop} on {} does not answer ARP or neighbour discovery", facts.interface),
        vec![Evidence::text(
            format!("neighbour entry of {hop} on {}", facts.interface),
            "failed",
            "netlink RTM_GETNEIGH",
        )],
        NEXT_HOP_SILENT.fix,
    ))
}

fn check_service(facts: &PathFacts, path: &PathResult) -> Option<Finding> {
    let seen = |what| vec![Evidence::text(what, facts.target.clone(), "kube-proxy's tables on this node")];
    Some(match (facts.service_is_local?, path.verdict) {
        (true, _) => SERVICE_IS_LOCAL.finding(
            &facts.subject,
            format!("{} is a Service address that this node itself answers for", facts.target),
            seen("virtual server of IPVS"),
            SERVICE_IS_LOCAL.fix,
        ),
        (false, Verdict::Unreachable) => SERVICE_SILENT.finding(
            &facts.subject,
            format!("{} is a Service address: its silence to ICMP is no fault", facts.target),
            seen("Service address in kube-proxy's rules"),
            SERVICE_SILENT.fix,
        ),
        _ => return None,
    })
}

/// Findings on searches of the same path with other flows.
pub fn check_flows(facts: &PathFacts, path: &PathResult, others: &[PathResult]) -> Option<Finding> {
    let mut sizes: Vec<u32> = others.iter().chain([path]).filter_map(|p| p.path_mtu_bytes).collect();
    let flows = sizes.len();
    sizes.sort_unstable();
    let (smallest, largest) = (*sizes.first()?, *sizes.last()?);
    if smallest == largest {
        return None;
    }
    let narrow = sizes.iter().filter(|size| **size == smallest).count();
    Some(FLOWS_DIFFER.finding(
        &facts.subject,
        format!(
            "{narrow} of {flows} flows to {} carry only {smallest} bytes, others up to {largest}",
            facts.target
        ),
        vec![
            Evidence::new("smallest path MTU of a flow", smallest, "bytes", asked(path)),
            Evidence::new("largest path MTU of a flow", largest, "bytes", asked(path)),
        ],
        FLOWS_DIFFER.fix,
    ))
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

fn check_note(facts: &PathFacts, note: &PathNote, refused: &mut bool) -> Option<Finding> {
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
        PathNote::Refused { from, code } if !*refused => {
            *refused = true;
            UNREACHABLE.finding(
                subject,
                format!("{from} says that {} cannot be reached", facts.target),
                vec![Evidence::text("destination unreachable, code", *code, icmp(from))],
                UNREACHABLE.fix,
            )
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Bounds, Method, ProbeCounts, Reverse};

    fn facts() -> PathFacts {
        PathFacts {
            subject: "default/web-0".into(),
            target: "10.244.2.7".into(),
            route_mtu: 1500,
            interface: "eth0".into(),
            cached_before: None,
            cached_after: None,
            tcp_mtu_probing: Some(1),
            ip_no_pmtu_disc: Some(0),
            service_is_local: None,
            silent_next_hop: None,
            other_methods: vec![],
            drops: Some(vec![]),
            burst: 7,
        }
    }

    fn path(verdict: Verdict, mtu: Option<u32>) -> PathResult {
        PathResult {
            method: Method::Icmp,
            verdict,
            path_mtu_bytes: mtu,
            signalled: false,
            narrowing: None,
            reverse: Reverse { verdict: ReverseVerdict::Unknown, limit_bytes: None },
            bounds: Bounds { passes_bytes: mtu, fails_bytes: mtu.map(|m| m + 1) },
            confidence: None,
            loss_ratio: None,
            rtt_us: None,
            probes: ProbeCounts::default(),
            elapsed_ms: 1.0,
            hops: vec![],
            notes: vec![],
        }
    }

    fn ids(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|f| f.id).collect()
    }

    #[test]
    fn a_clear_path_has_no_finding() {
        assert!(check_path(&facts(), &path(Verdict::Clear, Some(1500))).is_empty());
    }

    #[test]
    fn a_black_hole_is_critical_and_shows_the_arithmetic() {
        let findings = check_path(&facts(), &path(Verdict::BlackHole, Some(1450)));
        assert_eq!(ids(&findings), ["mtu.black_hole", "mtu.left_node"]);
        assert!(
            findings[0].fix.contains("1500 − 50 (VXLAN or Geneve over IPv4) = 1450"),
            "{}",
            findings[0].fix
        );
    }

    #[test]
    fn a_counter_that_took_the_whole_burst_names_the_interface() {
        let rise =
            |place: &str, by| Rise { place: place.into(), counter: "tx_dropped", source: "netlink", by };
        let noisy = PathFacts { drops: Some(vec![rise("host lo", 3), rise("host eth0", 7)]), ..facts() };
        let findings = check_path(&noisy, &path(Verdict::BlackHole, Some(1450)));
        assert_eq!(ids(&findings), ["mtu.black_hole", "mtu.dropped_on_node"]);
        assert!(findings[1].summary.contains("host eth0") && !findings[1].summary.contains("host lo"));
    }

    #[test]
    fn packets_that_leave_in_fragments_are_no_drop() {
        let rise = Rise { place: "host".into(), counter: "IpFragOKs", source: "/proc/net/snmp", by: 14 };
        let cut = PathFacts { drops: Some(vec![rise]), ..facts() };
        let findings = check_path(&cut, &path(Verdict::BlackHole, Some(1450)));
        assert_eq!(ids(&findings), ["mtu.black_hole", "mtu.left_node"]);
        assert!(findings[1].summary.contains("in fragments"));
    }

    #[test]
    fn a_cached_value_below_the_path_is_stale_and_above_it_is_only_told() {
        let cached = |mtu| PathFacts { cached_before: Some(Cached { mtu, forgets_in: 60 }), ..facts() };
        assert_eq!(ids(&check_path(&cached(1300), &path(Verdict::Clear, Some(1500)))), ["mtu.cache_stale"]);
        let told = check_path(&cached(1450), &path(Verdict::Narrowed, Some(1450)));
        assert_eq!(ids(&told), ["mtu.narrowed", "mtu.cached"]);
    }

    #[test]
    fn a_black_hole_says_whether_tcp_recovers_and_a_clear_path_does_not() {
        let off = PathFacts { tcp_mtu_probing: Some(0), ip_no_pmtu_disc: Some(1), ..facts() };
        let black = check_path(&off, &path(Verdict::BlackHole, Some(1450)));
        assert!(ids(&black).contains(&"mtu.no_recovery"), "{:?}", ids(&black));
        assert_eq!(ids(&check_path(&off, &path(Verdict::Clear, Some(1500)))), ["mtu.discovery_off"]);
    }

    #[test]
    fn a_silent_service_address_is_no_fault_and_a_silent_pod_is() {
        let service = |local| PathFacts { service_is_local: Some(local), ..facts() };
        assert_eq!(
            ids(&check_path(&service(false), &path(Verdict::Unreachable, None))),
            ["mtu.service_silent"]
        );
        assert_eq!(
            ids(&check_path(&service(true), &path(Verdict::Clear, Some(1500)))),
            ["mtu.service_is_local"]
        );
        assert_eq!(ids(&check_path(&facts(), &path(Verdict::Unreachable, None))), ["mtu.unreachable"]);
    }

    #[test]
    fn a_next_hop_that_does_not_answer_arp_is_the_root_of_silence() {
        let dead = PathFacts { silent_next_hop: Some("10.244.1.1".parse().unwrap()), ..facts() };
        let findings = check_path(&dead, &path(Verdict::Unreachable, None));
        assert_eq!(ids(&findings), ["mtu.next_hop_silent", "mtu.unreachable"]);
        assert!(check_path(&dead, &path(Verdict::Clear, Some(1500))).is_empty());
    }

    #[test]
    fn flows_that_differ_are_told_and_equal_ones_are_not() {
        let wide = path(Verdict::Clear, Some(1500));
        let narrow = path(Verdict::Narrowed, Some(1450));
        let found = check_flows(&facts(), &wide, &[narrow.clone(), wide.clone(), wide.clone()]).unwrap();
        assert!(found.summary.starts_with("1 of 4 flows"), "{}", found.summary);
        assert!(check_flows(&facts(), &wide, std::slice::from_ref(&wide)).is_none());
        assert!(check_flows(&facts(), &narrow, &[path(Verdict::Unreachable, None)]).is_none());
    }

    #[test]
    fn a_narrow_way_back_is_told_apart() {
        let back = PathResult {
            reverse: Reverse { verdict: ReverseVerdict::BlackHole, limit_bytes: Some(1400) },
            ..path(Verdict::Clear, Some(1500))
        };
        assert_eq!(ids(&check_path(&facts(), &back)), ["mtu.reverse_black_hole"]);
    }

    #[test]
    fn the_same_size_with_and_without_a_word_names_the_fault() {
        let pod = ("10.244.2.7", Verdict::Narrowed, Some(1450));
        let service = ("10.96.0.7", Verdict::BlackHole, Some(1450));
        assert_eq!(ids(&compare_paths("default/web-0", &[pod, service])), ["mtu.errors_not_relayed"]);
        assert!(
            compare_paths("default/web-0", &[pod, ("10.244.2.8", Verdict::Narrowed, Some(1450))]).is_empty()
        );
        assert!(
            compare_paths("default/web-0", &[pod, ("10.0.0.9", Verdict::BlackHole, Some(1400))]).is_empty()
        );
    }
}
