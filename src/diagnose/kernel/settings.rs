//! sysctls that stop packets, or that explain what looks like a fault.

use super::rules::{BRIDGE_FILTER_OFF, ECHO_IGNORED, FORWARD_USES_PMTU, FORWARDING_OFF};
use super::{KernelView, Role, no_namespace};
use crate::facts::{Evidence, Finding, Link, Namespace};
use std::net::IpAddr;

type Answer = (Vec<Finding>, Option<String>);

fn sysctl(name: &str, value: i64) -> Evidence {
    Evidence::text(name.to_owned(), value, format!("/proc/sys/{}", name.replace('.', "/")))
}

/// Interfaces of the node behind which its pods are: bridges with pods, and their veths where there is none.
fn pod_side(node: &Namespace) -> Vec<&Link> {
    let own = Some(node.netns_inode);
    let ends = node.links.iter().filter(|l| {
        matches!(l.kind.as_deref(), Some("veth" | "netkit"))
            && l.peer.as_ref().is_some_and(|p| p.netns_inode != own)
    });
    let mut found: Vec<&Link> = ends
        .filter_map(|end| match end.master.as_deref() {
            None => Some(end),
            Some(master) => {
                node.links.iter().find(|l| l.name == master && l.kind.as_deref() == Some("bridge"))
            }
        })
        .filter(|l| is_gateway(node, l))
        .collect();
    found.dedup_by_key(|l| l.index);
    found
}

/// Whether the node is on that side too: it has an address there, or a route leads there.
fn is_gateway(node: &Namespace, link: &Link) -> bool {
    let routed = |r: &crate::facts::Route| {
        r.interface.as_deref() == Some(link.name.as_str())
            && r.destination != "default"
            && !r.destination.starts_with("fe80:")
            && !r.destination.starts_with("multicast")
    };
    node.routes.iter().any(routed) || link.addresses.iter().any(|(a, _)| is_global(a))
}

fn is_global(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 != 0xfe80,
    }
}

/// Whether IPv6 is spoken on that side.
fn speaks_v6(node: &Namespace, link: &Link) -> bool {
    link.addresses.iter().any(|(a, _)| a.is_ipv6() && is_global(a))
        || node.routes.iter().any(|r| {
            r.interface.as_deref() == Some(link.name.as_str())
                && r.destination.contains(':')
                && !r.destination.contains("fe80:")
                && !r.destination.contains("ff00:")
        })
}

/// Whether only IPv6 is spoken on that side, as far as addresses and routes show: then IPv4 need not be forwarded.
fn speaks_v6_alone(node: &Namespace, link: &Link) -> bool {
    let routed = |r: &crate::facts::Route| {
        r.interface.as_deref() == Some(link.name.as_str()) && !r.destination.contains(':')
    };
    let v4 = link.addresses.iter().any(|(a, _)| a.is_ipv4()) || node.routes.iter().any(routed);
    !v4 && speaks_v6(node, link)
}

pub(super) fn check_forwarding(view: KernelView<'_>) -> Answer {
    let settings = &view.now.settings;
    let unread = settings.unreadable.clone().or_else(|| no_namespace(view));
    let Some(node) = view.namespace else { return (Vec::new(), unread) };
    // The uplink to the wire alone makes no worker: pods hang on it.
    let uplink = super::super::chain::uplink(node).map(|l| l.index);
    let sides: Vec<&Link> = pod_side(node).into_iter().filter(|l| Some(l.index) != uplink).collect();
    let Some(first) = sides.first() else { return (Vec::new(), unread) };
    let mut evidence = Vec::new();
    let mut commands = Vec::new();
    let speaking_v4: Vec<&Link> = sides.iter().copied().filter(|l| !speaks_v6_alone(node, l)).collect();
    if !speaking_v4.is_empty() && settings.get("net.ipv4.ip_forward") == Some(0) {
        evidence.push(sysctl("net.ipv4.ip_forward", 0));
        commands.push("net.ipv4.ip_forward=1".to_owned());
    } else {
        // Set back for one interface: packets that come in there go no further.
        for link in &speaking_v4 {
            if settings.interfaces.get(&link.name).and_then(|s| s.forwarding) == Some(false) {
                evidence.push(sysctl(&format!("net.ipv4.conf.{}.forwarding", link.name), 0));
                commands.push(format!("net.ipv4.conf.{}.forwarding=1", link.name));
            }
        }
    }
    if settings.get("net.ipv6.conf.all.forwarding") == Some(0) && sides.iter().any(|l| speaks_v6(node, l)) {
        evidence.push(sysctl("net.ipv6.conf.all.forwarding", 0));
        commands.push("net.ipv6.conf.all.forwarding=1".to_owned());
    }
    if evidence.is_empty() {
        return (Vec::new(), unread);
    }
    evidence.truncate(8);
    commands.truncate(8);
    let what = evidence.iter().map(|e| format!("{} is 0", e.what)).collect::<Vec<_>>().join(", ");
    let finding = FORWARDING_OFF.finding(
        view.now.subject.as_str(),
        format!("{what}, and pods hang on {}: they reach this node and nothing behind it", first.name),
        evidence,
        format!("sysctl -w {}; to last, in a file under /etc/sysctl.d", commands.join(" ")),
    );
    (vec![finding], unread)
}

/// Bridges that docker, podman, libvirt and LXD make: no pod is on them, and no Service is reached by them.
fn is_of_others(name: &str) -> bool {
    let docker = |rest: &str| rest.len() == 12 && rest.bytes().all(|b| b.is_ascii_hexdigit());
    ["docker0", "virbr", "lxcbr", "lxdbr", "podman", "cni-podman"].iter().any(|known| name.starts_with(known))
        || name.strip_prefix("br-").is_some_and(docker)
}

pub(super) fn check_bridge_filter(view: KernelView<'_>) -> Answer {
    let settings = &view.now.settings;
    let unread = settings.unreadable.clone().or_else(|| no_namespace(view));
    let Some(node) = view.namespace.filter(|_| unread.is_none()) else { return (Vec::new(), unread) };
    const FOUR: &str = "net.bridge.bridge-nf-call-iptables";
    const SIX: &str = "net.bridge.bridge-nf-call-ip6tables";
    let of_pods = |l: &&Link| l.kind.as_deref() == Some("bridge") && !is_of_others(&l.name);
    // The setting of a bridge is as good as the sysctl, once br_netfilter is there to look at either.
    let passes_by = |name, own: Option<bool>| match settings.get(name) {
        None => true,
        Some(value) => value == 0 && own != Some(true),
    };
    let own = |l: &Link| settings.interfaces.get(&l.name).copied().unwrap_or_default();
    let four = |l: &&Link| passes_by(FOUR, own(l).filters);
    let six = |l: &&Link| speaks_v6(node, l) && passes_by(SIX, own(l).filters_v6);
    let bridges: Vec<&Link> =
        pod_side(node).into_iter().filter(of_pods).filter(|l| four(l) || six(l)).collect();
    let Some(bridge) = bridges.first() else { return (Vec::new(), None) };
    let wanted = [(FOUR, bridges.iter().any(four)), (SIX, bridges.iter().any(six))];
    let mut evidence = Vec::new();
    for (name, _) in wanted.iter().filter(|(_, wanted)| *wanted) {
        match settings.get(name) {
            Some(value) => evidence.push(sysctl(name, value)),
            None => evidence.push(Evidence::text(
                *name,
                "no such setting: br_netfilter is not loaded",
                format!("/proc/sys/{}", name.replace('.', "/")),
            )),
        }
    }
    let missing = settings.get(FOUR).is_none();
    let load = if missing { "modprobe br_netfilter; " } else { "" };
    let names: Vec<String> = evidence.iter().map(|e| e.what.to_string()).collect();
    let finding = BRIDGE_FILTER_OFF.finding(
        view.now.subject.as_str(),
        format!(
            "{} off: packets between pods of {} pass kube-proxy's rules by, Services with a backend on this node fail",
            names.join(" and ") + if names.len() > 1 { " are" } else { " is" },
            bridge.name
        ),
        evidence,
        format!("{load}sysctl -w {}=1; to last, in /etc/modules-load.d and /etc/sysctl.d", names.join("=1 ")),
    );
    (vec![finding], None)
}

/// What is no fault and looks like one.
pub(super) fn check_notes(view: KernelView<'_>) -> Vec<Finding> {
    let settings = &view.now.settings;
    let subject = view.now.subject.as_str();
    let mut notes = Vec::new();
    let ignored: Vec<Evidence> = ["net.ipv4.icmp_echo_ignore_all", "net.ipv6.icmp.echo_ignore_all"]
        .into_iter()
        .filter(|name| settings.get(name).is_some_and(|v| v != 0))
        .map(|name| sysctl(name, 1))
        .collect();
    if !ignored.is_empty() {
        notes.push(ECHO_IGNORED.finding(
            subject,
            format!("{subject} answers no ping: silence to echo requests says nothing about the path to it"),
            ignored,
            ECHO_IGNORED.fix,
        ));
    }
    if view.role == Role::Node && settings.get("net.ipv4.ip_forward_use_pmtu").is_some_and(|v| v != 0) {
        notes.push(FORWARD_USES_PMTU.finding(
            subject,
            "what PTBs told this node limits the packets that it forwards for its pods",
            vec![sysctl("net.ipv4.ip_forward_use_pmtu", 1)],
            FORWARD_USES_PMTU.fix,
        ));
    }
    notes
}
