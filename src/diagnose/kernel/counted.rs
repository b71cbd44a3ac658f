//! Counters: what rose while it was watched is lost now; what was there before is told without alarm.

use super::rules::{
    CHECKSUM_ERRORS, COUNTED_BEFORE, FRAGMENTS_LOST, INTERFACE_DROPS, LISTEN_OVERFLOW, REVERSE_PATH_DROPS,
    SOFTNET_DROPPED, TCP_FOUND_BLACK_HOLE, UDP_OVERFLOW,
};
use super::{KernelView, Role};
use crate::diagnose::Rule;
use crate::facts::{Counters, Evidence, Finding, Seen};

/// Why a check of counters passed.
pub(super) const WELL: &str = "no counter of lost packets rose while it was watched";

/// Interfaces that a finding names at most.
const ROWS: usize = 6;

/// What a counter of losses means.
struct Loss {
    rule: &'static Rule,
    counters: &'static [&'static str],
    /// What happened to as many packets, for the sentence.
    what: &'static str,
}

const LOSSES: &[Loss] = &[
    Loss {
        rule: &CHECKSUM_ERRORS,
        counters: &["UdpInCsumErrors", "Udp6InCsumErrors", "TcpInCsumErrors", "IcmpInCsumErrors"],
        what: "packets arrived with a wrong checksum and were dropped",
    },
    Loss {
        rule: &FRAGMENTS_LOST,
        counters: &["IpReasmFails", "Ip6ReasmFails"],
        what: "times fragments did not make a whole packet",
    },
    Loss {
        rule: &UDP_OVERFLOW,
        counters: &["UdpRcvbufErrors", "Udp6RcvbufErrors"],
        what: "UDP packets found their socket's buffer full",
    },
    Loss {
        rule: &LISTEN_OVERFLOW,
        counters: &["TcpExtListenOverflows"],
        what: "connections found the queue of their listener full",
    },
    Loss {
        rule: &REVERSE_PATH_DROPS,
        counters: &["TcpExtIPReversePathFilter"],
        what: "packets were dropped because their answer would leave by another interface",
    },
];

/// Why losses could not be judged: nothing was read, or only once.
pub(super) fn watched<T>(view: KernelView<'_>, seen: &Seen<T>) -> Option<String> {
    match (seen, view.before) {
        (Err(why), _) => Some(why.clone()),
        (Ok(_), None) => Some("counters were read once: whether they rise is not known".into()),
        (Ok(_), Some(_)) => None,
    }
}

fn protocol(view: KernelView<'_>, name: &str) -> Option<u64> {
    view.now.counters.protocols.as_ref().ok()?.get(name).copied()
}

/// By how much a counter rose; `None` when it did not, or that is not known.
fn rise(view: KernelView<'_>, name: &str) -> Option<u64> {
    let before = *view.before?.counters.protocols.as_ref().ok()?.get(name)?;
    protocol(view, name)?.checked_sub(before).filter(|&by| by > 0)
}

fn source(name: &str) -> &'static str {
    match name {
        _ if name.starts_with("TcpExt") => "/proc/net/netstat",
        _ if name.contains('6') => "/proc/net/snmp6",
        _ => "/proc/net/snmp",
    }
}

pub(super) fn check_protocols(view: KernelView<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = LOSSES.iter().filter_map(|loss| check_loss(view, loss)).collect();
    findings.extend(check_probing(view));
    findings
}

fn check_loss(view: KernelView<'_>, loss: &Loss) -> Option<Finding> {
    let rises: Vec<(&str, u64)> =
        loss.counters.iter().filter_map(|name| Some((*name, rise(view, name)?))).collect();
    let sum: u64 = rises.iter().map(|(_, by)| by).sum();
    if rises.is_empty() {
        return None;
    }
    let mut evidence: Vec<Evidence> = rises
        .iter()
        .map(|(name, by)| Evidence::new(format!("{name} rose by"), *by, "packets", source(name)))
        .collect();
    let mut fix = loss.rule.fix.to_owned();
    if loss.rule.id == REVERSE_PATH_DROPS.id {
        let strict = strict_interfaces(view);
        evidence.extend(strict.iter().take(ROWS).map(|name| {
            Evidence::text(
                format!("rp_filter that counts for {name}"),
                1,
                "/proc/sys/net/ipv4/conf (the larger of all and the interface's)",
            )
        }));
        if let [only] = strict.as_slice() {
            fix = fix.replace("IFACE", only);
        }
    }
    if loss.rule.id == CHECKSUM_ERRORS.id {
        let links = view.namespace.iter().flat_map(|n| &n.links);
        let offloading = links.filter(|l| l.offloads.is_some_and(|o| o.tx_checksum));
        evidence.extend(offloading.take(ROWS).map(|l| {
            Evidence::text(format!("tx checksum offload of {}", l.name), true, "SIOCETHTOOL ETHTOOL_GTXCSUM")
        }));
    }
    let subject = view.now.subject.as_str();
    Some(loss.rule.finding(
        subject,
        format!("{subject}: while it was watched, {sum} {}", loss.what),
        evidence,
        fix,
    ))
}

/// Interfaces whose reverse-path filter is strict: the larger of `all` and their own is 1.
fn strict_interfaces<'a>(view: KernelView<'a>) -> Vec<&'a str> {
    let settings = &view.now.settings;
    let all = settings.get("net.ipv4.conf.all.rp_filter").unwrap_or(0);
    let strict = |own: Option<u8>| own.is_some_and(|own| i64::from(own).max(all) == 1);
    settings.interfaces.iter().filter(|(_, s)| strict(s.rp_filter)).map(|(name, _)| name.as_str()).collect()
}

/// TCP that probes by itself only where a black hole was suspected, and did.
fn check_probing(view: KernelView<'_>) -> Option<Finding> {
    if view.now.settings.get("net.ipv4.tcp_mtu_probing") != Some(1) {
        return None;
    }
    let evidence: Vec<Evidence> = ["TcpExtTCPMTUPFail", "TcpExtTCPMTUPSuccess"]
        .into_iter()
        .filter_map(|name| Some((name, protocol(view, name).filter(|&n| n > 0)?)))
        .map(|(name, n)| Evidence::new(name, n, "probes", source(name)))
        .collect();
    (!evidence.is_empty()).then(|| {
        let subject = view.now.subject.as_str();
        TCP_FOUND_BLACK_HOLE.finding(
            subject,
            format!("TCP of {subject} has met paths on which large packets vanish, and made its packets smaller by itself"),
            evidence,
            TCP_FOUND_BLACK_HOLE.fix,
        )
    })
}

/// What of a link's counters is a loss: name, value.
fn losses(view: KernelView<'_>, name: &str, counters: &Counters) -> [(&'static str, u64); 3] {
    // A VXLAN counts its own neighbour discovery, which has nowhere to go, as dropped; a netkit what a policy denies.
    let by_design = |l: &&crate::facts::Link| l.tunnel.is_some() || l.kind.as_deref() == Some("netkit");
    let mut links = view.namespace.iter().flat_map(|n| &n.links).filter(by_design);
    let dropped = if links.any(|l| l.name == name) { 0 } else { counters.tx_dropped };
    [("tx_dropped", dropped), ("tx_errors", counters.tx_errors), ("rx_errors", counters.rx_errors)]
}

pub(super) fn check_links(view: KernelView<'_>) -> Vec<Finding> {
    let Some(Ok(before)) = view.before.map(|b| &b.counters.links) else { return Vec::new() };
    let mut evidence = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for (name, now) in view.now.counters.links.iter().flatten() {
        let Some(then) = before.get(name) else { continue };
        for ((what, now), (_, then)) in losses(view, name, now).into_iter().zip(losses(view, name, then)) {
            let Some(by) = now.checked_sub(then).filter(|&by| by > 0) else { continue };
            evidence.push(Evidence::new(
                format!("{what} of {name} rose by"),
                by,
                "packets",
                "netlink RTM_GETLINK",
            ));
            names.push(name);
        }
    }
    names.dedup();
    if evidence.is_empty() {
        return Vec::new();
    }
    evidence.truncate(ROWS);
    let subject = view.now.subject.as_str();
    let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
    vec![INTERFACE_DROPS.finding(
        subject,
        format!("{subject}: {shown}{more} lost packets while it was watched"),
        evidence,
        INTERFACE_DROPS.fix,
    )]
}

pub(super) fn check_backlog(view: KernelView<'_>) -> Vec<Finding> {
    let before = view.before.and_then(|b| b.counters.softnet_dropped.as_ref().ok());
    let now = view.now.counters.softnet_dropped.as_ref().ok();
    let rise = now.zip(before).and_then(|(now, then)| now.checked_sub(*then)).filter(|&by| by > 0);
    let finding = |by| {
        SOFTNET_DROPPED.finding(
            view.now.subject.as_str(),
            format!("this node dropped {by} packets while it was watched: a processor's backlog was full"),
            vec![Evidence::new("packets dropped from a backlog", by, "packets", "/proc/net/softnet_stat")],
            SOFTNET_DROPPED.fix,
        )
    };
    rise.map(finding).into_iter().collect()
}

/// Losses of links that did not rise, those with most first.
fn links_before(view: KernelView<'_>) -> Vec<Evidence> {
    let before = view.before.and_then(|b| b.counters.links.as_ref().ok());
    let mut rows: Vec<(u64, String)> = Vec::new();
    for (name, now) in view.now.counters.links.iter().flatten() {
        let then = match before.map(|links| links.get(name)) {
            // It came while it was watched.
            Some(None) => continue,
            Some(Some(then)) => Some(losses(view, name, then)),
            None => None,
        };
        for (at, (what, now)) in losses(view, name, now).into_iter().enumerate() {
            let then = then.and_then(|losses| losses.get(at).map(|(_, value)| *value));
            if now > 0 && then.is_none_or(|then| now <= then) {
                rows.push((now, format!("{what} of {name}")));
            }
        }
    }
    rows.sort_by_key(|(value, _)| std::cmp::Reverse(*value));
    rows.into_iter()
        .take(ROWS)
        .map(|(n, what)| Evidence::new(what, n, "packets", "netlink RTM_GETLINK"))
        .collect()
}

/// What was counted before and did not rise.
pub(super) fn check_before(view: KernelView<'_>) -> Option<Finding> {
    let mut evidence: Vec<Evidence> = LOSSES
        .iter()
        .flat_map(|loss| loss.counters)
        .chain(&["IpFragFails", "Ip6FragFails"])
        .filter(|name| rise(view, name).is_none())
        .filter_map(|name| {
            let value = protocol(view, name).filter(|&n| n > 0)?;
            Some(Evidence::new(*name, value, "packets", source(name)))
        })
        .collect();
    if let Ok(conntrack) = &view.now.conntrack {
        let rows = [("conntrack drop", conntrack.drop), ("conntrack insert_failed", conntrack.insert_failed)];
        evidence.extend(rows.into_iter().filter_map(|(name, value)| {
            let value = value.filter(|&n| n > 0)?;
            Some(Evidence::new(name, value, "packets", "/proc/net/stat/nf_conntrack"))
        }));
    }
    if view.role == Role::Node
        && let Some(dropped) = view.now.counters.softnet_dropped.as_ref().ok().filter(|&&n| n > 0)
    {
        let what = "dropped from a processor's backlog";
        evidence.push(Evidence::new(what, *dropped, "packets", "/proc/net/softnet_stat"));
    }
    evidence.extend(links_before(view));
    (!evidence.is_empty()).then(|| {
        let subject = view.now.subject.as_str();
        let names: Vec<&str> = evidence.iter().take(3).map(|e| e.what.as_ref()).collect();
        let more = if evidence.len() > 3 { ", …" } else { "" };
        COUNTED_BEFORE.finding(
            subject,
            format!("{subject} has lost packets at some time since it began: {}{more}", names.join(", ")),
            evidence,
            COUNTED_BEFORE.fix,
        )
    })
}
