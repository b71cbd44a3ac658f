//! A scenario's path out of real namespaces: source – routers – target, joined by veth pairs.

use super::virtual_path::{Ptb, Scenario};
use super::{Netns, nsprobe, run, schema, stderr, stdout};
use std::net::IpAddr;

/// The namespaces of one path, from the source to the target; gone when dropped.
pub struct NamespacePath {
    nodes: Vec<Netns>,
    family: u8,
}

/// Why this kernel cannot build a scenario: it then plays on the virtual path only.
pub fn not_for_namespaces(scenario: &Scenario) -> Option<&'static str> {
    if scenario.hop.iter().any(|h| h.first_passes) {
        return Some("only a tunnel over IPv6 lets the first packet through");
    }
    // A kernel with netem is that of the VM (scripts/vm); what every kernel can build was played on another.
    let netem = scenario.reorder > 0.0 || scenario.duplicate > 0.0;
    match std::env::var("NSPROBE_TEST_VM").as_deref() {
        Err(_) if netem => return Some("only netem reorders and doubles packets"),
        Ok("needs") if !netem => return Some("it needs no netem"),
        _ => {}
    }
    if scenario.refuses_over.is_some() {
        return Some("the MTU would have to change in the middle of the search");
    }
    if scenario.target.cuts_to.is_some() {
        return Some("this kernel sends all of a packet back");
    }
    if scenario.interface_mtu > 65_535 {
        return Some("only the loopback has such an MTU");
    }
    if scenario.reverse_mtu.is_some() && scenario.family == 6 {
        return Some("echo replies over IPv6 never come in fragments");
    }
    if scenario.family == 6 && scenario.hop.iter().any(|h| h.mtu < 1280) {
        return Some("the kernel takes IPv6 off a link below 1280 bytes");
    }
    None
}

fn address(family: u8, link: usize, end: usize) -> String {
    match family {
        6 => format!("fd99:{link}::{end}"),
        _ => format!("10.99.{link}.{end}"),
    }
}

fn network(family: u8, link: usize) -> String {
    match family {
        6 => format!("fd99:{link}::/64"),
        _ => format!("10.99.{link}.0/24"),
    }
}

impl NamespacePath {
    pub fn build(scenario: &Scenario) -> Self {
        let family = scenario.family;
        let links = scenario.hop.len() + 1;
        let nodes: Vec<Netns> = (0..=links).map(|_| Netns::new()).collect();
        for node in &nodes {
            // Until its link-local address has passed duplicate detection, a router of IPv6 forwards nothing.
            Self::inside(node, "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
        }
        for (link, pair) in nodes.windows(2).enumerate() {
            let mtu = match link {
                0 => scenario.interface_mtu,
                // Its filter refuses what its link would take.
                _ if matches!(scenario.hop[link - 1].ptb, Ptb::Refuses(_)) => scenario.interface_mtu,
                _ => scenario.hop[link - 1].mtu,
            };
            let [left, right] = pair else { unreachable!("windows of two") };
            left.ip(&format!(
                "link add right mtu {mtu} type veth peer name left mtu {mtu} netns {}",
                right.name()
            ));
            for (node, name, end) in [(left, "right", 1), (right, "left", 2)] {
                let length = if family == 6 { "64 nodad" } else { "24" };
                node.ip(&format!("addr add {}/{length} dev {name}", address(family, link, end)));
                node.ip(&format!("link set {name} up"));
            }
        }
        let ip = if family == 6 { "-6 route" } else { "-4 route" };
        for (at, node) in nodes.iter().enumerate() {
            for link in 0..links {
                // Links of its own are connected; others lie to the left or to the right.
                let via = if link + 1 < at {
                    address(family, at - 1, 1)
                } else if link > at {
                    address(family, at, 2)
                } else {
                    continue;
                };
                run(
                    "ip",
                    &["-n", node.name()]
                        .into_iter()
                        .chain(format!("{ip} add {} via {via}", network(family, link)).split(' '))
                        .collect::<Vec<_>>(),
                );
            }
        }
        for at in (0..scenario.hop.len()).filter(|at| scenario.hop[*at].sends_back) {
            let (to, via) = (network(family, links - 1), address(family, at, 1));
            nodes[at + 1].ip(&format!("{ip} replace {to} via {via}"));
        }
        let path = Self { nodes, family };
        path.forward();
        path.filter(scenario);
        if scenario.reorder > 0.0 || scenario.duplicate > 0.0 {
            // What comes back to the source: up to half a round trip late, out of turn, twice.
            let late = scenario.rtt_ms / 2.0;
            let percent = |share: f64| (share * 100.0).round();
            let reorder = match percent(scenario.reorder) {
                0.0 => String::new(),
                share => format!("delay {late}ms reorder {}%", 100.0 - share),
            };
            let duplicate = match percent(scenario.duplicate) {
                0.0 => String::new(),
                share => format!(" duplicate {share}%"),
            };
            let qdisc = format!("tc qdisc add dev left root netem {reorder}{duplicate}");
            Self::inside(path.router(1), &qdisc);
        }
        if let Some(mtu) = scenario.reverse_mtu {
            // The target's own route back is as narrow: its replies leave in fragments.
            let via = address(family, links - 1, 1);
            path.target_namespace().ip(&format!("{ip} change {} via {via} mtu {mtu}", network(family, 0)));
        }
        path.settle();
        path
    }

    /// Waits until IPv6 forwards: it begins when the kernel has noticed that a link is up, within a second.
    fn settle(&self) {
        if self.family != 6 {
            return;
        }
        let last = self.nodes.len() - 1;
        for (at, node) in self.nodes.iter().enumerate() {
            let ends = if at == 0 || at == last { 1 } else { 2 };
            let ready = || node.ip("-6 -o addr show scope link -tentative").lines().count() >= ends;
            assert!(
                (0..300).any(|_| ready() || {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    false
                }),
                "the links of {} are not ready",
                node.name()
            );
        }
    }

    fn inside(node: &Netns, script: &str) {
        run("ip", &["netns", "exec", node.name(), "sh", "-ec", script]);
    }

    fn forward(&self) {
        for node in &self.nodes {
            Self::inside(
                node,
                "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
            );
        }
    }

    fn filter(&self, scenario: &Scenario) {
        let mut rules: Vec<(usize, String)> = Vec::new();
        for (at, hop) in scenario.hop.iter().enumerate() {
            let output = "add chain inet t o { type filter hook output priority 0; }";
            if matches!(hop.ptb, Ptb::Silent) {
                rules.push((at + 1, format!("{output}; add rule inet t o icmp type destination-unreachable icmp code 4 drop; add rule inet t o icmpv6 type packet-too-big drop")));
            }
            if matches!(hop.ptb, Ptb::Refuses(_)) {
                let over = hop.mtu;
                rules.push((at + 1, format!("add chain inet t f {{ type filter hook forward priority 0; }}; add rule inet t f meta length > {over} reject with icmpx admin-prohibited")));
            }
            // What the router says is changed on its way out: it lies, or seems to be somebody else.
            let told = ["icmp type destination-unreachable icmp code 4", "icmpv6 type packet-too-big"];
            let mut change = |what: [String; 2]| {
                rules.extend(
                    told.iter()
                        .zip(what)
                        .map(|(told, what)| (at + 1, format!("{output}; add rule inet t o {told} {what}"))),
                );
            };
            if let Some((burst, rate)) = hop.ptb_limit {
                change([4, 6].map(|_| format!("limit rate over {rate}/second burst {burst} packets drop")));
            }
            if let Ptb::Names(mtu) = hop.ptb {
                change([format!("icmp mtu set {mtu}"), format!("icmpv6 mtu set {mtu}")]);
            }
            match hop.ptb_from {
                Some(from @ IpAddr::V4(_)) => rules
                    .push((at + 1, format!("{output}; add rule inet t o {} ip saddr set {from}", told[0]))),
                Some(from @ IpAddr::V6(_)) => rules
                    .push((at + 1, format!("{output}; add rule inet t o {} ip6 saddr set {from}", told[1]))),
                None => {}
            }
            if !hop.expired {
                rules.push((at + 1, format!("{output}; add rule inet t o icmp type time-exceeded drop; add rule inet t o icmpv6 type time-exceeded drop")));
            }
        }
        if let Some(most) = scenario.drops_over {
            let output = "add chain inet t o { type filter hook output priority 0; }";
            rules.push((0, format!("{output}; add rule inet t o meta length > {most} drop")));
        }
        let target = self.nodes.len() - 1;
        let input = "add chain inet t i { type filter hook input priority 0; }";
        let echo = ["icmp type echo-request", "icmpv6 type echo-request"];
        if !scenario.target.echo {
            rules.extend(echo.map(|e| (target, format!("{input}; add rule inet t i {e} drop"))));
        }
        if !scenario.target.unknown_protocol {
            rules.push((target, format!("{input}; add rule inet t i meta l4proto 253 drop")));
        }
        if !scenario.target.no_port {
            let rule = "add chain inet t n { type filter hook output priority 0; }; \
                        add rule inet t n icmp type destination-unreachable icmp code port-unreachable drop; \
                        add rule inet t n icmpv6 type destination-unreachable icmpv6 code port-unreachable drop";
            rules.push((target, rule.to_owned()));
        }
        if !scenario.target.answers_timestamps() {
            rules.push((target, format!("{input}; add rule inet t i icmp type timestamp-request drop")));
        }
        if let Some((burst, rate)) = scenario.target.limit {
            let both = ["icmp type { echo-request, timestamp-request }", echo[1]];
            let limited = if scenario.target.limits_timestamps { both } else { echo };
            rules.extend(limited.map(|e| {
                (target, format!("{input}; add rule inet t i {e} limit rate over {rate}/second burst {burst} packets drop"))
            }));
        }
        if scenario.loss > 0.0 {
            let percent = (scenario.loss * 100.0).round();
            let chain = "add chain inet t p { type filter hook prerouting priority 0; }";
            // What goes to the target, by whatever protocol; neighbour discovery stays whole.
            let to = if self.family == 6 { "ip6" } else { "ip" };
            let what =
                format!("iifname left {to} daddr {} numgen random mod 100 < {percent} drop", self.target());
            rules.push((1, format!("{chain}; add rule inet t p {what}")));
        }
        for (node, rule) in rules {
            Self::inside(&self.nodes[node], &format!("nft 'add table inet t; {rule}'"));
        }
    }

    pub fn source(&self) -> String {
        self.nodes[0].source()
    }

    pub fn source_namespace(&self) -> &Netns {
        &self.nodes[0]
    }

    /// The names of all, from the source to the target.
    pub fn names(&self) -> Vec<&str> {
        self.nodes.iter().map(Netns::name).collect()
    }

    /// The router that is so many hops away.
    pub fn router(&self, hop: usize) -> &Netns {
        &self.nodes[hop]
    }

    pub fn target(&self) -> String {
        address(self.family, self.nodes.len() - 2, 2)
    }

    pub fn target_namespace(&self) -> &Netns {
        &self.nodes[self.nodes.len() - 1]
    }

    /// Sets every link behind the first to `mtu`.
    pub fn widen(&self, mtu: u32) {
        for node in &self.nodes {
            for end in ["left", "right"] {
                let _ = std::process::Command::new("ip")
                    .args(["-n", node.name(), "link", "set", end, "mtu", &mtu.to_string()])
                    .output();
            }
        }
    }
}

/// What `nsprobe mtu` says of a path.
pub fn measure(path: &NamespacePath) -> serde_json::Value {
    let output = nsprobe().args(["mtu", &path.source(), &path.target(), "-o", "json"]).output().unwrap();
    assert_ne!(stdout(&output), "", "{}", stderr(&output));
    schema::valid(&output.stdout)
}

/// A scenario that stands in no file.
pub fn scenario(text: &str) -> Scenario {
    toml::from_str(text).unwrap()
}

/// Exit code and document of `mtu` with these words.
pub fn mtu(path: &NamespacePath, words: &[&str]) -> (Option<i32>, serde_json::Value) {
    let mut command = nsprobe();
    command.args(["mtu", &path.source(), &path.target(), "-o", "json"]).args(words);
    let output = command.output().unwrap();
    let document =
        serde_json::from_str(&stdout(&output)).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
    (output.status.code(), document)
}

/// Verdict, path MTU and method of a document.
pub fn seen(document: &serde_json::Value) -> (&str, Option<u64>, &str) {
    (
        document["verdict"].as_str().unwrap(),
        document["path_mtu_bytes"].as_u64(),
        document["method"].as_str().unwrap(),
    )
}
