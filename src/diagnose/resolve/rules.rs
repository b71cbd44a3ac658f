//! The rules on name resolution: ids, meanings, what to do.

use crate::diagnose::Rule;
use crate::facts::Severity;

/// Nobody answers.
pub const NO_ANSWER: Rule = Rule {
    id: "dns.no_answer",
    severity: Severity::Critical,
    meaning: "No name server of the pod's resolv.conf answers, neither over UDP nor over TCP: no name can be looked up.",
    fix: "Look at the DNS pods and their Service (kubectl -n kube-system get pods,endpointslices -l k8s-app=kube-dns -o wide), at kube-proxy, and at network policies that forbid port 53.",
};

/// One of several.
pub const SERVER_SILENT: Rule = Rule {
    id: "dns.server_silent",
    severity: Severity::Warning,
    meaning: "One of the pod's name servers does not answer, another does: every lookup that asks the silent one first waits for the resolver's timeout, 5 s unless set.",
    fix: "Mend that server or take it out of the pod's dnsConfig (or of the node's resolv.conf that the kubelet hands on).",
};

/// TCP gets there, UDP does not.
pub const UDP_LOST: Rule = Rule {
    id: "dns.udp_lost",
    severity: Severity::Critical,
    meaning: "A name server answers over TCP and is silent over UDP: a policy or firewall lets only TCP through, or UDP to it is lost (conntrack, checksum offload of a tunnel).",
    fix: "Allow UDP port 53 beside TCP in network policies and firewalls; where neither forbids it look for conntrack drops (conntrack -S) and checksum offload of the tunnel (ethtool -K flannel.1 tx-checksum-ip-generic off).",
};

/// UDP gets there, TCP does not.
pub const TCP_FAILS: Rule = Rule {
    id: "dns.tcp_fails",
    severity: Severity::Info,
    meaning: "A name server answers over UDP and not over TCP: answers that do not fit into a datagram cannot be fetched.",
    fix: "Allow TCP port 53 beside UDP; every name server has to speak it (RFC 7766).",
};

/// Fragments of answers vanish.
pub const LARGE_LOST: Rule = Rule {
    id: "dns.large_answers_lost",
    severity: Severity::Warning,
    meaning: "Small answers of a name server arrive over UDP, a large one does not, and over TCP it does: fragments are dropped on the way, or the path is narrower than the datagram. Lookups of some names hang.",
    fix: "Let the servers answer at most 1232 bytes over UDP (CoreDNS: bufsize 1232 in the Corefile), so that larger answers come over TCP; then look for what drops fragments: nsprobe mtu to a DNS pod's own IP.",
};

/// Truncated, and no way to the rest.
pub const TRUNCATED: Rule = Rule {
    id: "dns.truncated_without_tcp",
    severity: Severity::Warning,
    meaning: "A name server cuts a large answer short so that it is fetched over TCP, and TCP to it fails: names with many addresses cannot be looked up.",
    fix: "Allow TCP port 53 to the name servers in network policies and firewalls.",
};

/// One of two questions at once is lost.
pub const HALF_ANSWERED: Rule = Rule {
    id: "dns.half_answered",
    severity: Severity::Warning,
    meaning: "Of an A and an AAAA question sent at once from one port only one was answered, more than once: the C library then waits 5 s. A race in conntrack with DNAT does it, or a server that drops AAAA.",
    fix: "Watch insert_failed in conntrack -S while it happens; NodeLocal DNSCache avoids the race, options single-request-reopen in the pod's dnsConfig works around it (glibc only).",
};

/// Late.
pub const SLOW: Rule = Rule {
    id: "dns.slow",
    severity: Severity::Warning,
    meaning: "A name server answered only when it was asked again, or took more than a second, and not only once: packets are lost on the way, or the server is overloaded or waits for its own upstream.",
    fix: "Repeat it; look at load and restarts of the DNS pods and, when packets are lost, at the drops on the way (nsprobe links -v, conntrack -S).",
};

/// It answers with an error what every cluster has.
pub const SERVER_FAILS: Rule = Rule {
    id: "dns.server_fails",
    severity: Severity::Warning,
    meaning: "A name server answers with an error for the cluster's own API service: it is not the cluster's DNS, serves another cluster domain, or has lost the API server.",
    fix: "Compare clusterDNS and clusterDomain of the kubelet with the DNS Service and the zone in the Corefile; read the log of the DNS pods.",
};

/// It answers with an error whatever it is asked.
pub const SERVER_HELPLESS: Rule = Rule {
    id: "dns.servfail",
    severity: Severity::Info,
    meaning: "A name server that is not asked for a cluster's names answers SERVFAIL for the root: it may reach no server above it, and then looks up nothing; without a way to the internet that is normal.",
    fix: "Ask it for a name that has to be there: nsprobe exec SOURCE -- nslookup NAME; then look at what it forwards to.",
};

/// The target's name.
pub const NAME_FAILS: Rule = Rule {
    id: "dns.target_fails",
    severity: Severity::Critical,
    meaning: "The host name that was given as target cannot be looked up because the name servers fail or keep silent.",
    fix: "Mend name resolution first (the findings beside this one say what is wrong with it); meanwhile give an address as target.",
};

/// Many names for one.
pub const AMPLIFIED: Rule = Rule {
    id: "dns.search_amplification",
    severity: Severity::Info,
    meaning: "The target's name has fewer dots than ndots: each lookup asks for it in every search domain first. That multiplies the load of the DNS servers, and the time when one of them is slow.",
    fix: "Write the name with a dot at its end, or lower ndots in the pod's dnsConfig.",
};

/// Nobody is named.
pub const NO_SERVER: Rule = Rule {
    id: "dns.no_server",
    severity: Severity::Warning,
    meaning: "The pod's resolv.conf names no server: its resolver asks 127.0.0.1 inside the pod, where usually nobody listens.",
    fix: "Check dnsPolicy and dnsConfig of the pod, and clusterDNS of the kubelet; recreate the pod.",
};

/// More than are used.
pub const TOO_MANY_SERVERS: Rule = Rule {
    id: "dns.too_many_servers",
    severity: Severity::Info,
    meaning: "The pod's resolv.conf names more than 3 servers: resolvers ignore the rest.",
    fix: "Take some out of dnsConfig or of the node's resolv.conf (the kubelet's resolvConf).",
};

/// It is no small file.
pub const RESOLV_CONF_ODD: Rule = Rule {
    id: "dns.resolv_conf_odd",
    severity: Severity::Warning,
    meaning: "What stands at /etc/resolv.conf in the pod is no small regular file: whatever looks names up there hangs or fails. The servers were taken from what the runtime made, if it is still there.",
    fix: "Find out what replaced the file: a volume mount or the container itself; recreate the pod.",
};

/// All of this family.
pub const RULES: &[Rule] = &[
    NO_ANSWER,
    UDP_LOST,
    NAME_FAILS,
    SERVER_SILENT,
    LARGE_LOST,
    TRUNCATED,
    HALF_ANSWERED,
    SLOW,
    SERVER_FAILS,
    SERVER_HELPLESS,
    NO_SERVER,
    RESOLV_CONF_ODD,
    TCP_FAILS,
    AMPLIFIED,
    TOO_MANY_SERVERS,
];
