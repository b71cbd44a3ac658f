//! The rules on a measured path: ids, meanings, what to do.

use crate::diagnose::Rule;
use crate::facts::Severity;

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

/// The target's errors were measured.
pub const ECHO_FILTERED: Rule = Rule {
    id: "mtu.echo_filtered",
    severity: Severity::Info,
    meaning: "Echo requests to the target draw no answer (filtered there, on the way, or on one member of an ECMP group), only ICMP timestamp requests do, or what it says of a protocol that it does not know or of port 0. Such answers are small: they tell nothing of the way back, and probes that are lost are counted with those that nobody answers.",
    fix: "Name a port of the target that listens (--port N): TCP does without such answers. Errors are few: a host sends six and then one a second. Where echo works at other times, --flows 16 shows whether it depends on the flow.",
};

/// Other answers than echo replies were measured.
pub const ECHO_LIMITED: Rule = Rule {
    id: "mtu.echo_limited",
    severity: Severity::Info,
    meaning: "The target, or a firewall on the way, answers few echo requests a second. It answers ICMP timestamp requests more often: the path was measured by those. Such answers are small: they tell nothing of the way back.",
    fix: "Nothing has to be done. What other tools make of lost echo replies here is no sign of a narrow path.",
};

/// A closed port is asked over TCP.
pub const ONLY_RESETS: Rule = Rule {
    id: "mtu.only_resets",
    severity: Severity::Info,
    meaning: "Nobody listens on the port: every answer was a TCP reset. A firewall before the target may send such resets in its name; then the sizes are those of the way to the firewall.",
    fix: "Name a port that listens (--port N).",
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
    fix: "ip route flush cache in the namespace (over IPv6 ip -6 route flush cache) forgets it at once; it forgets by itself after ten minutes.",
};

/// A cached value below what the path carries.
pub const CACHE_STALE: Rule = Rule {
    id: "mtu.cache_stale",
    severity: Severity::Warning,
    meaning: "The namespace remembers a path MTU that is smaller than what the path carries: a stale or forged PTB slows every application there.",
    fix: "ip route flush cache in the namespace (over IPv6 ip -6 route flush cache); then look for who sent the PTB (capture icmp[0]==3 and icmp[1]==4, over IPv6 icmp6 and ip6[40]==2).",
};

/// Probing left something behind.
pub const CACHE_LEFT: Rule = Rule {
    id: "mtu.cache_left",
    severity: Severity::Info,
    meaning: "The kernel remembers what a packet-too-big names, over IPv6 also where a probe drew it: applications send no larger packets to the target until it expires.",
    fix: "Nothing to do; ip route flush cache in the namespace (over IPv6 ip -6 route flush cache) forgets it at once.",
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
    fix: "Name a port of the Service (--port): TCP reaches the pods behind it. Or measure to these: kubectl get endpointslices shows their addresses.",
};

/// With IPVS the node answers for the Service.
pub const SERVICE_IS_LOCAL: Rule = Rule {
    id: "mtu.service_is_local",
    severity: Severity::Info,
    meaning: "The target is a Service address that IPVS keeps on this node: the node itself answers ICMP, which proves nothing of the way to the backends.",
    fix: "Name a port of the Service (--port): TCP reaches the pods behind it. Or measure to these: kubectl get endpointslices shows their addresses.",
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

/// `--max` left sizes out.
pub const NOT_ASKED: Rule = Rule {
    id: "mtu.not_asked",
    severity: Severity::Info,
    meaning: "--max is below what the route lets out: \"clear\" speaks of the sizes up to it, and the path's own MTU is not known.",
    fix: "Without --max the route's whole MTU is asked for.",
};

/// Only what `--max` asked for above the route's MTU is lost.
pub const NARROW_ABOVE_ROUTE: Rule = Rule {
    id: "mtu.narrow_above_route",
    severity: Severity::Info,
    meaning: "--max is above what the route lets out, and larger packets than that do not arrive. Nothing that an application sends is that large: the path is clear for it.",
    fix: "Nothing to do. Before the MTU of the route or its interface is raised, the path has to carry more.",
};

/// Flows of ICMP may all have gone one way.
pub const FLOWS_BY_ADDRESS: Rule = Rule {
    id: "mtu.flows_by_address",
    severity: Severity::Info,
    meaning: "All flows agree, and all were echo requests: routers that share a load between several paths (ECMP) may choose by addresses alone, whatever the ICMP id. Then all flows took the same path, and of the others nothing is known.",
    fix: "Ask by ports, which more routers look at: --method tcp --port N or --method udp --port N with --flows.",
};

/// The next hop does not answer ARP.
pub const NEXT_HOP_SILENT: Rule = Rule {
    id: "mtu.next_hop_silent",
    severity: Severity::Critical,
    meaning: "The next hop does not answer ARP or neighbour discovery: nothing of any size leaves by that interface.",
    fix: "Check the interface, its bridge and the next hop: nsprobe links, ip neigh in the namespace.",
};

/// The interface has failed.
pub const INTERFACE_DOWN: Rule = Rule {
    id: "mtu.interface_down",
    severity: Severity::Critical,
    meaning: "The interface that the packets leave by is down, has no carrier or is gone: nothing of any size leaves by it.",
    fix: "Set the interface, or its other end, up again: nsprobe links shows both.",
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
    meaning: "No drop counter on this node's part of the way rose: the large packets left it, or were dropped where nothing counts (netfilter, nftables, eBPF).",
    fix: "Look behind the uplink: the switch, the underlay's MTU, a filter of fragments or of ICMP.",
};

/// The kernel of the source refuses them.
pub const REFUSED_HERE: Rule = Rule {
    id: "mtu.refused_here",
    severity: Severity::Critical,
    meaning: "The kernel of the source's namespace itself refuses packets above a size: they never leave it.",
    fix: "Look for a packet filter on output in this namespace (nft list ruleset, iptables -S OUTPUT), and at the MTU of its interface and route (nsprobe links).",
};

/// Round and round.
pub const ROUTING_LOOP: Rule = Rule {
    id: "mtu.routing_loop",
    severity: Severity::Critical,
    meaning: "Routers send packets to the target back to each other until their hops are used up: time exceeded comes back though the packets had a whole TTL.",
    fix: "Compare the routes to the target on the routers that are named: one sends back what the other sends.",
};

/// Somebody on the way refuses them, and not as too big.
pub const REFUSED_BY_SIZE: Rule = Rule {
    id: "mtu.refused_by_size",
    severity: Severity::Critical,
    meaning: "A router, a firewall or the target answers packets above a size with destination unreachable, another ICMP error that is no PTB, or a TCP reset, and smaller ones pass. That word names no size: applications do not adapt, their connections hang or are refused.",
    fix: "Look for a rule on the length of packets there (nft list ruleset, iptables -S FORWARD), or a policy that matches large ones. What is really too large must be answered with fragmentation needed (type 3 code 4; ICMPv6 type 2).",
};

/// Refused, and not for good.
pub const REFUSED_AT_TIMES: Rule = Rule {
    id: "mtu.refused_at_times",
    severity: Severity::Info,
    meaning: "A packet was refused while others of its size arrive: one of several paths (ECMP), a policy or a route that was just changed, or a next hop that was being looked for.",
    fix: "Ask again with --flows 16: where it comes back, one of the paths refuses. Otherwise nothing to do.",
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
    REFUSED_HERE,
    ROUTING_LOOP,
    REFUSED_BY_SIZE,
    REFUSED_AT_TIMES,
    PTB_INVALID,
    PTB_UNDERSTATES,
    TARGET_SILENT,
    ECHO_FILTERED,
    ECHO_LIMITED,
    ONLY_RESETS,
    LOSS,
    NO_RECOVERY,
    DISCOVERY_OFF,
    SERVICE_SILENT,
    SERVICE_IS_LOCAL,
    SERVICE_HIDES_PTB,
    NEXT_HOP_SILENT,
    INTERFACE_DOWN,
    OTHER_METHOD,
    NOT_ASKED,
    NARROW_ABOVE_ROUTE,
    FLOWS_BY_ADDRESS,
    FLOWS_DIFFER,
    REVERSE,
];
