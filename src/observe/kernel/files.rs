//! sysctls and counters: what /proc says of the namespace of the thread that reads.

use crate::facts::{Conntrack, InterfaceSettings, KernelSettings, Seen, TableUsage};
use std::collections::BTreeMap;
use std::io::Read as _;

/// Settings that a rule asks for, by their path below /proc/sys.
const SETTINGS: &[(&str, &str)] = &[
    ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
    ("net.ipv4.ip_forward_use_pmtu", "net/ipv4/ip_forward_use_pmtu"),
    ("net.ipv4.ip_no_pmtu_disc", "net/ipv4/ip_no_pmtu_disc"),
    ("net.ipv4.tcp_mtu_probing", "net/ipv4/tcp_mtu_probing"),
    ("net.ipv4.icmp_echo_ignore_all", "net/ipv4/icmp_echo_ignore_all"),
    ("net.ipv6.icmp.echo_ignore_all", "net/ipv6/icmp/echo_ignore_all"),
    ("net.ipv4.conf.all.rp_filter", "net/ipv4/conf/all/rp_filter"),
    ("net.ipv6.conf.all.forwarding", "net/ipv6/conf/all/forwarding"),
    ("net.ipv6.conf.all.disable_ipv6", "net/ipv6/conf/all/disable_ipv6"),
    ("net.bridge.bridge-nf-call-iptables", "net/bridge/bridge-nf-call-iptables"),
    ("net.bridge.bridge-nf-call-ip6tables", "net/bridge/bridge-nf-call-ip6tables"),
    ("net.netfilter.nf_conntrack_tcp_be_liberal", "net/netfilter/nf_conntrack_tcp_be_liberal"),
];

/// Counters that a rule asks for: name, file below /proc/thread-self/net, protocol of its line, field.
const COUNTERS: &[(&str, &str, &str, &str)] = &[
    ("IpOutNoRoutes", "snmp", "Ip:", "OutNoRoutes"),
    ("IpReasmFails", "snmp", "Ip:", "ReasmFails"),
    ("IpFragFails", "snmp", "Ip:", "FragFails"),
    ("IcmpInCsumErrors", "snmp", "Icmp:", "InCsumErrors"),
    ("TcpInCsumErrors", "snmp", "Tcp:", "InCsumErrors"),
    ("UdpInCsumErrors", "snmp", "Udp:", "InCsumErrors"),
    ("UdpRcvbufErrors", "snmp", "Udp:", "RcvbufErrors"),
    ("TcpExtListenOverflows", "netstat", "TcpExt:", "ListenOverflows"),
    ("TcpExtIPReversePathFilter", "netstat", "TcpExt:", "IPReversePathFilter"),
    ("TcpExtTCPSynRetrans", "netstat", "TcpExt:", "TCPSynRetrans"),
    ("TcpExtTCPMTUPFail", "netstat", "TcpExt:", "TCPMTUPFail"),
    ("TcpExtTCPMTUPSuccess", "netstat", "TcpExt:", "TCPMTUPSuccess"),
    ("Ip6ReasmFails", "snmp6", "", "Ip6ReasmFails"),
    ("Ip6FragFails", "snmp6", "", "Ip6FragFails"),
    ("Udp6InCsumErrors", "snmp6", "", "Udp6InCsumErrors"),
    ("Udp6RcvbufErrors", "snmp6", "", "Udp6RcvbufErrors"),
];

/// No file here is longer, not even softnet_stat with a thousand processors.
const MOST: u64 = 1 << 20;

/// A small file of /proc as text.
fn text(path: &str) -> Seen<String> {
    let told = |error: std::io::Error| format!("{path}: {error}");
    let mut text = String::new();
    std::fs::File::open(path).map_err(told)?.take(MOST).read_to_string(&mut text).map_err(told)?;
    Ok(text)
}

pub(super) fn number<T: std::str::FromStr>(path: &str) -> Option<T> {
    text(path).ok()?.trim().parse().ok()
}

pub(super) fn settings(interfaces: BTreeMap<String, InterfaceSettings>) -> KernelSettings {
    let values: BTreeMap<_, _> = SETTINGS
        .iter()
        .filter_map(|(name, path)| Some((*name, number(&format!("/proc/sys/{path}"))?)))
        .collect();
    let unreadable = values.is_empty().then(|| {
        text("/proc/sys/net/ipv4/ip_forward").err().unwrap_or_else(|| "/proc/sys/net holds no number".into())
    });
    KernelSettings { values, unreadable, interfaces }
}

/// Not /proc/net: that is the namespace of the process's first thread.
fn own(name: &str) -> Seen<String> {
    text(&format!("/proc/thread-self/net/{name}"))
}

pub(super) fn protocols() -> Seen<BTreeMap<&'static str, u64>> {
    let files: BTreeMap<&str, String> =
        ["snmp", "netstat", "snmp6"].iter().filter_map(|name| Some((*name, own(name).ok()?))).collect();
    if files.is_empty() {
        return Err(own("snmp").err().unwrap_or_default());
    }
    Ok(COUNTERS
        .iter()
        .filter_map(|(name, file, protocol, field)| {
            let text = files.get(file)?;
            let value = match *protocol {
                "" => super::super::counters::snmp6(text, field),
                protocol => super::super::counters::snmp(text, protocol, field),
            };
            Some((*name, value?))
        })
        .collect())
}

/// The second column of every processor's line (net/core/net-procfs.c `softnet_seq_show`).
pub(super) fn softnet_dropped() -> Seen<u64> {
    parse_softnet(&own("softnet_stat")?).ok_or_else(|| "softnet_stat cannot be read as numbers".into())
}

pub(super) fn parse_softnet(text: &str) -> Option<u64> {
    let second = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok();
    text.lines().map(second).try_fold(0, |sum: u64, value| Some(sum.saturating_add(value?)))
}

pub(super) fn conntrack() -> Seen<Conntrack> {
    const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
    const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
    let (count, max) = (text(COUNT)?, text(MAX)?);
    let numbers = count.trim().parse().ok().zip(max.trim().parse().ok());
    let (count, max) = numbers.ok_or_else(|| format!("{COUNT} and {MAX} hold no numbers"))?;
    let stat = own("stat/nf_conntrack").ok();
    let sum = |name| stat.as_deref().and_then(|text| column(text, name)).map(|(all, _)| all);
    Ok(Conntrack {
        count,
        max,
        drop: sum("drop"),
        early_drop: sum("early_drop"),
        insert_failed: sum("insert_failed"),
        invalid: sum("invalid"),
    })
}

/// Neighbours of the whole node. Only the node's own namespace has these files.
pub(super) fn arp_usage() -> Seen<TableUsage> {
    const LIMIT: &str = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";
    if !std::path::Path::new(LIMIT).exists() {
        return Err("the kernel tells the limit in the machine's first network namespace only".into());
    }
    let limit = text(LIMIT)?.trim().parse().map_err(|_| format!("{LIMIT} holds no number"))?;
    let stat = own("stat/arp_cache")?;
    let entries = column(&stat, "entries").ok_or("stat/arp_cache has no entries")?;
    Ok(TableUsage { entries: entries.1, limit, refused: column(&stat, "table_fulls").map(|(all, _)| all) })
}

/// A column of a file below /proc/net/stat, one line a processor, hexadecimal: the sum, and the first line's value
/// (`entries` is the same number on each line).
pub(super) fn column(text: &str, name: &str) -> Option<(u64, u64)> {
    let mut lines = text.lines();
    let place = lines.next()?.split_ascii_whitespace().position(|n| n == name)?;
    let values: Option<Vec<u64>> =
        lines.map(|line| u64::from_str_radix(line.split_ascii_whitespace().nth(place)?, 16).ok()).collect();
    let values = values?;
    Some((values.iter().fold(0, |sum: u64, v| sum.saturating_add(*v)), *values.first()?))
}
