//! The rules on a namespace's kernel state: ids, meanings, what to do.

use crate::diagnose::Rule;
use crate::facts::Severity;

/// The node does not forward.
pub const FORWARDING_OFF: Rule = Rule {
    id: "net.forwarding_off",
    severity: Severity::Critical,
    meaning: "The node carries pods and does not forward packets: pods reach the node itself and nothing behind it. Not an MTU problem.",
    fix: "sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1, and the same in a file under /etc/sysctl.d.",
};

/// Bridged packets pass the Service rules by.
pub const BRIDGE_FILTER_OFF: Rule = Rule {
    id: "net.bridge_filter_off",
    severity: Severity::Warning,
    meaning: "Packets between pods of one bridge pass kube-proxy's rules by: a Service whose backend is on the same node hangs or resets, everything else works. Not an MTU problem.",
    fix: "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1, and the same in /etc/modules-load.d and /etc/sysctl.d.",
};

/// Reverse-path filter.
pub const REVERSE_PATH_DROPS: Rule = Rule {
    id: "net.reverse_path_drops",
    severity: Severity::Warning,
    meaning: "Packets are dropped because their answer would leave by another interface (rp_filter=1, strict). Not an MTU problem: no size passes.",
    fix: "sysctl -w net.ipv4.conf.IFACE.rp_filter=2 (loose) for the interface, and net.ipv4.conf.all.rp_filter too: the larger of both counts.",
};

/// The connection table is full.
pub const CONNTRACK_FULL: Rule = Rule {
    id: "net.conntrack_full",
    severity: Severity::Critical,
    meaning: "The connection tracking table is full: new connections are dropped at random, old ones go on. Not an MTU problem.",
    fix: "sysctl -w net.netfilter.nf_conntrack_max=N on the node (kube-proxy: conntrack.maxPerCore); then find who opens so many: conntrack -L, or nsprobe sockets.",
};

/// The connection table is nearly full.
pub const CONNTRACK_NEARLY_FULL: Rule = Rule {
    id: "net.conntrack_nearly_full",
    severity: Severity::Warning,
    meaning: "Four fifths of the connection tracking table are in use: when it is full, new connections are dropped.",
    fix: "sysctl -w net.netfilter.nf_conntrack_max=N on the node (kube-proxy: conntrack.maxPerCore); then find who opens so many: conntrack -L, or nsprobe sockets.",
};

/// Entries lose a race.
pub const CONNTRACK_RACE: Rule = Rule {
    id: "net.conntrack_race",
    severity: Severity::Warning,
    meaning: "Entries for new connections collide and their first packet is dropped: name resolution that takes 5 seconds now and then, or no free source port for SNAT. Not an MTU problem.",
    fix: "For DNS: NodeLocal DNSCache, or options use-vc or single-request-reopen in resolv.conf; for SNAT: --random-fully, more source addresses, fewer connections to one target.",
};

/// Packets of no known connection.
pub const CONNTRACK_INVALID: Rule = Rule {
    id: "net.conntrack_invalid",
    severity: Severity::Info,
    meaning: "Packets that fit no known connection pass connection tracking: kube-proxy drops them, and un-NATed ones make long downloads end in a reset. Not an MTU problem.",
    fix: "sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1 where packets come out of order; look for paths that differ there and back.",
};

/// A gateway does not answer.
pub const GATEWAY_SILENT: Rule = Rule {
    id: "net.gateway_silent",
    severity: Severity::Critical,
    meaning: "A gateway of this namespace does not answer ARP or neighbour discovery: nothing of any size leaves by that route.",
    fix: "Check the interface, its bridge or its host end (nsprobe links), and the gateway itself; ip neigh shows the entry.",
};

/// The other node of a tunnel does not answer.
pub const TUNNEL_REMOTE_SILENT: Rule = Rule {
    id: "net.tunnel_remote_silent",
    severity: Severity::Warning,
    meaning: "The other end of a tunnel, on the same wire, does not answer ARP or neighbour discovery: its pods cannot be reached from here.",
    fix: "See whether that node is up, and whether it still has this address; a node that is gone is forgotten by the CNI after it is deleted.",
};

/// A tunnel does not know where to send.
pub const TUNNEL_PEER_UNKNOWN: Rule = Rule {
    id: "net.tunnel_peer_unknown",
    severity: Severity::Critical,
    meaning: "A route leads into a VXLAN that has no peer for its gateway: a stale or missing neighbour or forwarding entry. Packets of every size vanish on this node.",
    fix: "Restart the CNI's agent on this node, which writes the entries anew; bridge fdb show dev TUNNEL and ip neigh show dev TUNNEL show them.",
};

/// A tunnel only sends.
pub const TUNNEL_ONE_WAY: Rule = Rule {
    id: "net.tunnel_one_way",
    severity: Severity::Warning,
    meaning: "A tunnel has sent packets and never received one: most often a security group, firewall or hypervisor drops its UDP port. Not an MTU problem: no size passes.",
    fix: "Let the tunnel's protocol through between the nodes, both ways (VXLAN: UDP 8472 or 4789, Geneve: UDP 6081, WireGuard: its UDP port, IPIP: protocol 4); nsprobe capture host -i UPLINK shows whether anything comes back.",
};

/// A path MTU that nobody would send.
pub const REMEMBERED_TINY: Rule = Rule {
    id: "net.remembered_tiny",
    severity: Severity::Warning,
    meaning: "The namespace remembers a path MTU below 576 bytes: a router named zero or nonsense, or somebody forges PTBs. Everything to that target crawls.",
    fix: "ip route flush cache in the namespace; then capture icmp[0]==3 and icmp[1]==4 to see who sends them.",
};

/// Path MTUs that were learned.
pub const REMEMBERED: Rule = Rule {
    id: "net.path_mtus_remembered",
    severity: Severity::Info,
    meaning: "PTBs have reached this namespace: path-MTU discovery works for these targets, applications use the smaller size until it expires. A ping that says `message too long` is this, not a loss.",
    fix: "Nothing to do where nsprobe mtu measures the same value; ip route flush cache forgets it at once.",
};

/// The neighbour table is full.
pub const NEIGHBOUR_TABLE_FULL: Rule = Rule {
    id: "node.neighbour_table_full",
    severity: Severity::Critical,
    meaning: "The node's ARP table is full: new neighbours get no entry, connections to them fail at random. Not an MTU problem.",
    fix: "sysctl -w net.ipv4.neigh.default.gc_thresh3=N (and gc_thresh1, gc_thresh2), in the node's own namespace: it counts for all pods.",
};

/// The neighbour table is nearly full.
pub const NEIGHBOUR_TABLE_NEARLY_FULL: Rule = Rule {
    id: "node.neighbour_table_nearly_full",
    severity: Severity::Warning,
    meaning: "Four fifths of the node's ARP table are in use: when it is full, connections to new neighbours fail at random.",
    fix: "sysctl -w net.ipv4.neigh.default.gc_thresh3=N (and gc_thresh1, gc_thresh2), in the node's own namespace: it counts for all pods.",
};

/// Checksums are wrong.
pub const CHECKSUM_ERRORS: Rule = Rule {
    id: "net.checksum_errors",
    severity: Severity::Warning,
    meaning: "Packets arrive with wrong checksums and are dropped: connections through a tunnel start after 1, 3 or 63 seconds. Checksum offload of a tunnel is the usual cause. Not an MTU problem.",
    fix: "On the sending node: ethtool -K flannel.1 tx-checksum-ip-generic off (the tunnel, or the uplink); update kernels before 5.7.",
};

/// Fragments that were never whole.
pub const FRAGMENTS_LOST: Rule = Rule {
    id: "net.fragments_lost",
    severity: Severity::Warning,
    meaning: "Fragments arrive and never make a whole packet: something on the way drops some of them. Large DNS answers and tunnels that fragment outside suffer.",
    fix: "Make packets small enough not to be fragmented: lower the tunnel's or the pods' MTU (nsprobe mtu), EDNS buffer size 1232 for DNS; let fragments through.",
};

/// A UDP socket is too slow.
pub const UDP_OVERFLOW: Rule = Rule {
    id: "net.udp_overflow",
    severity: Severity::Warning,
    meaning: "UDP packets arrived and were dropped because their socket's receive buffer was full: the application is too slow or the buffer too small. Not the network.",
    fix: "More replicas or CPU for the application, or a larger buffer (net.core.rmem_max and the application's own setting).",
};

/// A listener is too slow.
pub const LISTEN_OVERFLOW: Rule = Rule {
    id: "net.listen_overflow",
    severity: Severity::Warning,
    meaning: "Connections arrived and were dropped because the application does not accept them fast enough: they start after 1, 3 or 7 seconds. Not the network.",
    fix: "nsprobe sockets shows the listener whose queue is full; give it CPU, or a larger backlog (net.core.somaxconn in the pod and the application's own setting).",
};

/// A link loses packets now.
pub const INTERFACE_DROPS: Rule = Rule {
    id: "net.interface_drops",
    severity: Severity::Warning,
    meaning: "An interface dropped packets or counted errors while it was watched.",
    fix: "Compare its MTU with its neighbours' (nsprobe links); for a physical one: ethtool -S, cable, ring size, queue length.",
};

/// A processor cannot keep up.
pub const SOFTNET_DROPPED: Rule = Rule {
    id: "node.backlog_dropped",
    severity: Severity::Warning,
    meaning: "The node dropped packets because a processor's backlog was full: it loses packets of every size while it is busy. Not an MTU problem.",
    fix: "sysctl -w net.core.netdev_max_backlog=N; spread interrupts (RPS, irqbalance); look for a processor that is busy with softirq.",
};

/// What was counted before.
pub const COUNTED_BEFORE: Rule = Rule {
    id: "net.counted_before",
    severity: Severity::Info,
    meaning: "Packets were lost here at some time since the namespace began, for reasons that the kernel counts; whether they still are is not known, or they did not become more while it was watched.",
    fix: "Repeat while the trouble lasts: what rises then is told as a warning.",
};

/// TCP has helped itself.
pub const TCP_FOUND_BLACK_HOLE: Rule = Rule {
    id: "net.tcp_found_black_hole",
    severity: Severity::Info,
    meaning: "tcp_mtu_probing=1, and TCP here has begun to probe: some of its connections met a path on which large packets vanish, and recovered by making them smaller.",
    fix: "Find the path: nsprobe mtu to the peers of this namespace's connections.",
};

/// Ping is switched off.
pub const ECHO_IGNORED: Rule = Rule {
    id: "net.echo_ignored",
    severity: Severity::Info,
    meaning: "This namespace answers no ping (icmp_echo_ignore_all): silence to echo requests says nothing about the path to it.",
    fix: "Measure to it by a port: nsprobe mtu SOURCE TARGET --port N.",
};

/// Forwarding believes PTBs.
pub const FORWARD_USES_PMTU: Rule = Rule {
    id: "net.forward_uses_pmtu",
    severity: Severity::Info,
    meaning: "ip_forward_use_pmtu is on: what one PTB told this node, true or forged, limits the packets that it forwards for every pod.",
    fix: "sysctl -w net.ipv4.ip_forward_use_pmtu=0 (the default) unless it was set on purpose.",
};

/// All of this family.
pub const RULES: &[Rule] = &[
    FORWARDING_OFF,
    BRIDGE_FILTER_OFF,
    REVERSE_PATH_DROPS,
    CONNTRACK_FULL,
    CONNTRACK_NEARLY_FULL,
    CONNTRACK_RACE,
    CONNTRACK_INVALID,
    GATEWAY_SILENT,
    TUNNEL_REMOTE_SILENT,
    TUNNEL_PEER_UNKNOWN,
    TUNNEL_ONE_WAY,
    REMEMBERED_TINY,
    REMEMBERED,
    NEIGHBOUR_TABLE_FULL,
    NEIGHBOUR_TABLE_NEARLY_FULL,
    CHECKSUM_ERRORS,
    FRAGMENTS_LOST,
    UDP_OVERFLOW,
    LISTEN_OVERFLOW,
    INTERFACE_DROPS,
    SOFTNET_DROPPED,
    COUNTED_BEFORE,
    TCP_FOUND_BLACK_HOLE,
    ECHO_IGNORED,
    FORWARD_USES_PMTU,
];
