//! Rules on configuration against reality: what the CNI is told to give, and what the node's links have.

use super::Rule;
use super::chain::{
    Join, below, find, global_addresses, leads_to_pods, master_of, own_interface, sending_mtu, tunnels,
    uplink, way_to_pods,
};
use super::config_fixes as fixes;
use crate::facts::{
    CniConfig, CniFile, CniNetwork, Evidence, Finding, Link, MtuFile, Namespace, NewPods, Severity,
};
use crate::facts::{rfc3339, unix_seconds};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Pods that send more than new ones will.
pub const PODS_LARGER: Rule = Rule {
    id: "config.pods_larger",
    severity: Severity::Warning,
    meaning: "Pods have a larger MTU than the CNI gives out now: most often they were made before it was lowered, and their large packets are those that hang.",
    fix: "Recreate them: kubectl delete pod; what owns them makes them anew.",
};

/// Pods that send less than new ones will.
pub const PODS_SMALLER: Rule = Rule {
    id: "config.pods_smaller",
    severity: Severity::Info,
    meaning: "Pods have a smaller MTU than the CNI gives out now: they work, and send more packets than they need to.",
    fix: "Recreate them when it suits.",
};

/// The CNI's bridge kept its MTU.
pub const BRIDGE_NOT_FOLLOWING: Rule = Rule {
    id: "config.bridge_not_following",
    severity: Severity::Warning,
    meaning: "The bridge that the CNI made for pods has another MTU than it gives out now: the bridge plugin sets it once, when it makes the bridge, and a change leaves it as it is.",
    fix: "ip link set dev BRIDGE mtu N, on every node where the setting was changed.",
};

/// The CNI's tunnel takes less than pods are given.
pub const TUNNEL_NOT_FOLLOWING: Rule = Rule {
    id: "config.tunnel_not_following",
    severity: Severity::Warning,
    meaning: "The CNI gives pods a larger MTU than its own tunnel has: every connection to another node begins with a PTB, and hangs where something filters it.",
    fix: "Restart the CNI's agent on the node, or set both to the same.",
};

/// A file tells the CNI to give more than fits.
pub const MTU_EXCEEDS_PATH: Rule = Rule {
    id: "config.mtu_exceeds_path",
    severity: Severity::Warning,
    meaning: "A setting gives new pods a larger MTU than the node's tunnel or uplink carries.",
    fix: "Lower the setting to what fits, then recreate the pods.",
};

/// Two places state different MTUs and one of them is not heard.
pub const STATED_TWICE: Rule = Rule {
    id: "config.stated_twice",
    severity: Severity::Info,
    meaning: "Two files state different MTUs for pods and only one of them counts: a change to the other has no effect.",
    fix: "Take the MTU out of one of them, or make both the same.",
};

/// What decides over new pods cannot be read.
pub const CNI_UNREADABLE: Rule = Rule {
    id: "config.cni_unreadable",
    severity: Severity::Warning,
    meaning: "The CNI configuration file that comes first by name is invalid: containerd makes no new pods with it, CRI-O passes it over and takes the next.",
    fix: "Mend the file or remove it.",
};

/// All of this family.
pub const RULES: &[Rule] = &[
    PODS_LARGER,
    PODS_SMALLER,
    BRIDGE_NOT_FOLLOWING,
    TUNNEL_NOT_FOLLOWING,
    MTU_EXCEEDS_PATH,
    STATED_TWICE,
    CNI_UNREADABLE,
];

const LINK: &str = "netlink RTM_GETLINK";
/// Pods that the evidence of one finding names at most.
const ROWS: usize = 4;

/// What is looked at beside the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Reality<'a> {
    /// Links and routes of the host and the pods.
    pub namespaces: &'a [Namespace],
    /// Inode of the host's own namespace.
    pub host: u64,
    /// When each pod was made, RFC 3339; pods that are not in it are no pods of Kubernetes.
    pub created: &'a BTreeMap<String, Option<String>>,
    /// Seconds since 1970.
    pub now: i64,
}

/// The network that the runtime uses: that of the first file, when it is valid.
fn network(config: &CniConfig) -> Option<(&CniFile, &CniNetwork)> {
    let first = config.files.first()?;
    Some((first, first.content.as_ref().ok()?))
}

/// The MTU that the CNI gives to new pods, when a file states it; without a word it is the plugin's own default.
pub fn new_pods(config: &CniConfig) -> Option<NewPods> {
    let (file, network) = network(config)?;
    // Chained plugins come after the one that makes the interface; Multus hands that to its first delegate.
    let makes = |kind: &str| {
        !matches!(kind, "loopback" | "portmap" | "bandwidth" | "firewall" | "sbr" | "tuning" | "multus")
    };
    let maker = network.plugins.iter().find(|p| makes(&p.kind))?;
    let from = |stated_by: String, path: &str, modified: Option<i64>, mtu_bytes: u32| NewPods {
        mtu_bytes,
        stated_by,
        path: path.to_owned(),
        modified_at: modified.map(rfc3339),
        bridge: maker.bridge.clone(),
        plugin: maker.kind.clone(),
    };
    let agent = |file: &Option<MtuFile>, stated_by: &str| {
        let file = file.as_ref()?;
        Some(from(stated_by.to_owned(), &file.path, file.modified, *file.content.as_ref().ok()?))
    };
    // The tuning plugin changes the finished interface.
    let tuned = network.plugins.iter().find(|p| p.kind == "tuning" && p.mtu_bytes.is_some());
    if let Some((plugin, mtu)) = tuned.or(Some(maker)).and_then(|p| Some((p, p.mtu_bytes?))) {
        let whose = if plugin.kind == "flannel" {
            "the delegate of flannel".into()
        } else {
            format!("the plugin {}", plugin.kind)
        };
        return Some(from(format!("mtu of {whose}"), &file.path, file.modified, mtu));
    }
    match maker.kind.as_str() {
        "flannel" => agent(&config.flannel, "FLANNEL_MTU"),
        "calico" => agent(&config.calico, "Calico's MTU"),
        _ => None,
    }
}

/// Everything that configuration and reality say of each other.
pub fn check_config(config: &CniConfig, reality: Reality<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_files(config, &mut findings);
    let Some(given) = new_pods(config) else { return findings };
    check_pods(&given, reality, &mut findings);
    if let Some(node) = reality.namespaces.iter().find(|n| n.netns_inode == reality.host) {
        check_bridge(&given, node, &mut findings);
        if !check_path(&given, node, reality, &mut findings) {
            check_tunnels(&given, node, &mut findings);
        }
    }
    findings
}

/// One cause, one finding: where configuration tells which pods are wrong, that some differ is no news; nor that old
/// ones send more than the tunnel or the uplink takes, or than the ports of the new ones in the CNI's bridge.
pub fn settle(config: &CniConfig, findings: &mut Vec<Finding>) {
    use super::links::{BRIDGE_PORT_SMALLER, MIXED_POD_MTU, POD_EXCEEDS_TUNNEL, POD_EXCEEDS_UPLINK};
    use super::links_bridges::BRIDGE_BELOW_PODS;
    let has = |ids: &[&str]| findings.iter().any(|f| ids.contains(&f.id));
    let mut settled = Vec::new();
    if has(&[PODS_LARGER.id, PODS_SMALLER.id]) {
        settled.push(MIXED_POD_MTU.id);
    }
    // When the setting itself is too large, new pods are no better.
    if has(&[PODS_LARGER.id]) && !has(&[MTU_EXCEEDS_PATH.id, TUNNEL_NOT_FOLLOWING.id]) {
        settled.extend([POD_EXCEEDS_TUNNEL.id, POD_EXCEEDS_UPLINK.id]);
    }
    if has(&[BRIDGE_NOT_FOLLOWING.id]) {
        settled.push(BRIDGE_BELOW_PODS.id);
    }
    let given = new_pods(config);
    let bridge = given.as_ref().and_then(|given| given.bridge.as_ref()).map(|name| format!("{name}: "));
    let of_bridge = |f: &Finding| {
        f.id == BRIDGE_PORT_SMALLER.id
            && f.subject == "host"
            && bridge.as_deref().is_some_and(|start| f.summary.starts_with(start))
    };
    let ports = has(&[PODS_LARGER.id, PODS_SMALLER.id, BRIDGE_NOT_FOLLOWING.id]);
    findings.retain(|f| !(settled.contains(&f.id) || (ports && of_bridge(f))));
    // Where the odd ones were not asked for, what is as configured is not what is to be changed.
    let right = |f: &&mut Finding| {
        let least = f.evidence.iter().filter_map(|e| e.value.as_u64()).min();
        of_bridge(f) && least.is_some() && least == given.as_ref().map(|given| u64::from(given.mtu_bytes))
    };
    if let (Some(given), Some(finding)) = (&given, findings.iter_mut().find(right)) {
        finding.fix = fixes::older_ports(given);
    }
}

fn stated(given: &NewPods) -> Evidence {
    Evidence::new(given.stated_by.clone(), given.mtu_bytes, "bytes", given.path.clone())
}

fn link_mtu(link: &Link, owner: &str) -> Evidence {
    Evidence::new(format!("MTU of {} in {owner}", link.name), link.mtu_bytes, "bytes", LINK)
}

fn check_files(config: &CniConfig, findings: &mut Vec<Finding>) {
    if let Some(CniFile { path, content: Err(why), .. }) = config.files.first() {
        findings.push(CNI_UNREADABLE.finding(
            "host",
            format!("{path} comes first and is invalid: {why}"),
            vec![Evidence::text("what is wrong with it", why.clone(), path.clone())],
            fixes::unreadable(path, config.files.iter().skip(1).find(|f| f.content.is_ok())),
        ));
    }
    let used = |kind: &str| network(config).is_some_and(|(_, n)| n.plugins.iter().any(|p| p.kind == kind));
    for (file, kind) in [(&config.flannel, "flannel"), (&config.calico, "calico")] {
        if let Some(MtuFile { path, content: Err(why), .. }) = file
            && used(kind)
        {
            findings.push(CNI_UNREADABLE.finding(
                "host",
                format!("{path} states no MTU: {why}; the plugin {kind} makes no new pods with it"),
                vec![Evidence::text("what is wrong with it", why.clone(), path.clone())],
                format!("restart the agent of {kind} on this node, which writes it"),
            ));
        }
    }
    let Some(given) = new_pods(config) else { return };
    // Who is not heard: the agent's file below a plugin's own setting, and files that come later.
    let agents = [(&config.flannel, "flannel", "FLANNEL_MTU"), (&config.calico, "calico", "Calico's MTU")];
    let agents =
        agents.into_iter().filter(|(_, kind, _)| given.plugin == *kind).filter_map(|(file, _, what)| {
            let file = file.as_ref()?;
            Some((what.to_owned(), file.path.clone(), *file.content.as_ref().ok()?))
        });
    let later = config.files.iter().skip(1).filter_map(|file| {
        let plugin = file.content.as_ref().ok()?.plugins.iter().find(|p| p.mtu_bytes.is_some())?;
        Some((format!("mtu of the plugin {}", plugin.kind), file.path.clone(), plugin.mtu_bytes?))
    });
    let mut unheard =
        agents.chain(later).filter(|(_, path, mtu)| *path != given.path && *mtu != given.mtu_bytes);
    if let Some((what, path, mtu)) = unheard.next() {
        findings.push(STATED_TWICE.finding(
            "host",
            format!(
                "{} in {} gives {} and counts; {what} in {path} says {mtu} and is not heard",
                given.stated_by, given.path, given.mtu_bytes
            ),
            vec![stated(&given), Evidence::new(what.clone(), mtu, "bytes", path.clone())],
            format!("take the MTU out of {} if {mtu} is meant; else leave {path} alone", given.path),
        ));
    }
}

/// A pod with another MTU than new ones get.
struct Odd<'a> {
    name: &'a str,
    link: &'a Link,
    made: Option<i64>,
}

fn check_pods(given: &NewPods, reality: Reality<'_>, findings: &mut Vec<Finding>) {
    let Some(node) = reality.namespaces.iter().find(|n| n.netns_inode == reality.host) else { return };
    // Larger and smaller ones apart, and each by its MTU.
    let mut groups: BTreeMap<u32, Vec<Odd<'_>>> = BTreeMap::new();
    for pod in reality.namespaces.iter().filter(|n| n.netns_inode != reality.host) {
        let Some(created) = reality.created.get(&pod.subject) else { continue };
        let Some(link) = own_interface(pod, node) else { continue };
        // Some CNIs leave the link alone and set the routes.
        if [link.mtu_bytes, sending_mtu(pod, link)].contains(&given.mtu_bytes) {
            continue;
        }
        let made = created.as_deref().and_then(unix_seconds);
        groups.entry(link.mtu_bytes).or_default().push(Odd { name: &pod.subject, link, made });
    }
    for (mtu, mut odd) in groups {
        odd.sort_by_key(|pod| pod.made);
        let rule = if mtu > given.mtu_bytes { &PODS_LARGER } else { &PODS_SMALLER };
        let mut evidence: Vec<Evidence> = Vec::new();
        for pod in odd.iter().take(ROWS) {
            evidence.push(link_mtu(pod.link, pod.name));
            let made = pod.made.map(rfc3339);
            evidence.push(Evidence::text(format!("creation of {}", pod.name), made, "container runtime"));
        }
        evidence.push(stated(given));
        evidence.push(Evidence::text(
            "last change of that file",
            given.modified_at.clone(),
            given.path.clone(),
        ));
        let names: Vec<&str> = odd.iter().map(|pod| pod.name).collect();
        findings.push(rule.finding(
            if let [one] = names.as_slice() { one } else { "host" },
            format!(
                "{}: MTU {mtu}, new ones get {} ({} in {}); {}",
                told(&odd, reality.now),
                given.mtu_bytes,
                given.stated_by,
                given.path,
                since(&odd, given, reality.now)
            ),
            evidence,
            fixes::recreate(&names),
        ));
    }
}

/// `default/a (12 d old)`, `5 pods (default/a, 12 d old, default/b, …)`.
fn told(odd: &[Odd<'_>], now: i64) -> String {
    let one = |pod: &Odd<'_>| match pod.made {
        Some(made) => format!("{}, {} old", pod.name, age(now - made)),
        None => pod.name.to_owned(),
    };
    match odd {
        [pod] => one(pod),
        many => {
            let some: Vec<String> = many.iter().take(3).map(one).collect();
            let more = if many.len() > 3 { "; …" } else { "" };
            format!("{} pods ({}{more})", many.len(), some.join("; "))
        }
    }
}

/// Whether they were made before the file was written.
fn since(odd: &[Odd<'_>], given: &NewPods, now: i64) -> String {
    let Some(written) = given.modified_at.as_deref().and_then(unix_seconds) else {
        return "when that was written is not known".into();
    };
    let ago = age(now - written);
    let before = odd.iter().filter(|pod| pod.made.is_some_and(|made| made <= written)).count();
    let after = odd.iter().filter(|pod| pod.made.is_some_and(|made| made > written)).count();
    match (before, after) {
        (_, 0) if before == odd.len() => format!("made before it was written, {ago} ago"),
        (0, _) if after == odd.len() => {
            format!("made after it was written, {ago} ago: something else gave them theirs")
        }
        (0, 0) => format!("it was written {ago} ago, when they were made is not known"),
        _ => format!("{before} of {} made before it was written, {ago} ago", odd.len()),
    }
}

/// `40 s`, `12 min`, `3 h`, `12 d`.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

fn check_bridge(given: &NewPods, node: &Namespace, findings: &mut Vec<Finding>) {
    let Some(bridge) = given.bridge.as_deref().and_then(|name| find(node, name)) else { return };
    if bridge.kind.as_deref() != Some("bridge") || !bridge.up || bridge.mtu_bytes == given.mtu_bytes {
        return;
    }
    findings.push(BRIDGE_NOT_FOLLOWING.finding(
        "host",
        format!(
            "{} has MTU {}, the CNI gives pods {} ({} in {})",
            bridge.name, bridge.mtu_bytes, given.mtu_bytes, given.stated_by, given.path
        ),
        vec![link_mtu(bridge, "host"), stated(given)],
        format!("ip link set dev {} mtu {}", super::shell::word(&bridge.name), given.mtu_bytes),
    ));
}

/// The tunnels that are the CNI's own, by the names that it gives them.
fn is_of(plugin: &str, tunnel: &str) -> bool {
    match plugin {
        "flannel" => tunnel.starts_with("flannel"),
        "calico" => {
            ["vxlan.calico", "vxlan-v6.calico", "tunl0", "wireguard.cali", "wg-v6.cali"].contains(&tunnel)
        }
        _ => false,
    }
}

fn check_tunnels(given: &NewPods, node: &Namespace, findings: &mut Vec<Finding>) {
    let bridge = given.bridge.as_deref().and_then(|name| find(node, name));
    for (tunnel, _) in tunnels(node, bridge) {
        if !is_of(&given.plugin, &tunnel.name) || tunnel.mtu_bytes >= given.mtu_bytes {
            continue;
        }
        findings.push(TUNNEL_NOT_FOLLOWING.finding(
            "host",
            format!(
                "{} has MTU {}, the CNI gives pods {} ({} in {})",
                tunnel.name, tunnel.mtu_bytes, given.mtu_bytes, given.stated_by, given.path
            ),
            vec![link_mtu(tunnel, "host"), stated(given)],
            fixes::agent(&given.plugin),
        ));
    }
}

/// What becomes of a packet that is too large for where it is routed.
const PTB: &str = "larger packets draw a PTB from this node, and hang where it is filtered";

/// Addresses of this node's pods, and of the bridge that they hang on.
fn addresses_of_pods(bridge: Option<&Link>, reality: Reality<'_>) -> Vec<IpAddr> {
    let pods = reality.namespaces.iter().filter(|n| n.netns_inode != reality.host);
    let links = pods.filter_map(uplink).chain(bridge);
    links.flat_map(global_addresses).collect()
}

/// Whether new pods are given more than the node carries; the tightest place is told.
fn check_path(given: &NewPods, node: &Namespace, reality: Reality<'_>, findings: &mut Vec<Finding>) -> bool {
    let bridge = given.bridge.as_deref().and_then(|name| find(node, name));
    let pods = addresses_of_pods(bridge, reality);
    let ways: Vec<(&Link, Join)> = tunnels(node, bridge)
        .filter(|(tunnel, join)| {
            *join == Join::Bridge || is_of(&given.plugin, &tunnel.name) || leads_to_pods(tunnel, node, &pods)
        })
        .collect();
    let tightest = ways
        .iter()
        .filter_map(|&(tunnel, join)| {
            let (overhead, way) = (tunnel.overhead_bytes?, below(node, tunnel).into_iter().next()?);
            let carries = way.mtu_bytes.saturating_sub(overhead);
            Some((carries, Some((tunnel, overhead, join)), way.link, way.mtu_bytes))
        })
        .min_by_key(|(carries, ..)| *carries);
    let out = || {
        let out = uplink(node).filter(|u| bridge.is_none_or(|b| b.index != u.index))?;
        // A port of the uplink's own bridge is the pods' bridge: not judged here.
        master_of(node, out).is_none().then_some((out.mtu_bytes, None, out, out.mtu_bytes))
    };
    let beside = || way_to_pods(node, &pods).map(|link| (link.mtu_bytes, None, link, link.mtu_bytes));
    let found = if ways.is_empty() { beside().or_else(out) } else { tightest };
    let Some((carries, tunnel, link, takes)) = found.filter(|(carries, ..)| *carries < given.mtu_bytes)
    else {
        return false;
    };
    let mut evidence = vec![stated(given)];
    let what = match tunnel {
        Some((tunnel, overhead, join)) => {
            evidence.push(Evidence::new(format!("overhead of {}", tunnel.name), overhead, "bytes", LINK));
            let then = match join {
                Join::Bridge => "larger packets to other nodes vanish",
                _ if tunnel.mtu_bytes <= carries => PTB,
                _ => "larger packets to other nodes are fragmented outside, or dropped",
            };
            format!("{} in {} carries {takes} − {overhead} = {carries}: {then}", tunnel.name, link.name)
        }
        None => format!("{} takes {carries}: {PTB}", link.name),
    };
    evidence.push(Evidence::new(format!("largest packet by {}", link.name), takes, "bytes", LINK));
    findings.push(MTU_EXCEEDS_PATH.finding(
        "host",
        format!("new pods get {} ({} in {}), {what}", given.mtu_bytes, given.stated_by, given.path),
        evidence,
        fixes::setting(given, carries),
    ));
    true
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
