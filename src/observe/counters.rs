//! Did the packet leave this node? Drop counters of every link and the fragmentation counters of each
//! namespace, read before and after, and what rose in between.
//!
//! Sources: proc_net(5); kernel Documentation/networking/snmp_counter.rst, statistics.rst.

use super::ObserveError;
use super::namespace::dump_links;
use super::socket::Netlink;
use crate::facts::Counters;
use crate::netns::{NetNs, NetNsError, on_threads_that_die};
use std::collections::BTreeMap;

/// What counts packets that did not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// A link received packets and the kernel dropped them.
    RxDropped,
    /// A link dropped packets on their way out.
    TxDropped,
    /// Receive errors of a link.
    RxErrors,
    /// Transmit errors of a link.
    TxErrors,
    /// `IpFragFails`: IPv4 packets that were too big and had DF set.
    IpFragFails,
    /// `IpFragOKs`: IPv4 packets that were fragmented here.
    IpFragOks,
    /// `Ip6FragFails`: IPv6 packets that were too big.
    Ip6FragFails,
    /// `Ip6FragOKs`: IPv6 packets that were fragmented here.
    Ip6FragOks,
}

impl Counter {
    /// The name that it has where it is read: `tx_dropped`, `IpFragFails`.
    pub fn name(self) -> &'static str {
        match self {
            Self::RxDropped => "rx_dropped",
            Self::TxDropped => "tx_dropped",
            Self::RxErrors => "rx_errors",
            Self::TxErrors => "tx_errors",
            Self::IpFragFails => "IpFragFails",
            Self::IpFragOks => "IpFragOKs",
            Self::Ip6FragFails => "Ip6FragFails",
            Self::Ip6FragOks => "Ip6FragOKs",
        }
    }

    /// Where it is read, as evidence names it.
    pub fn source(self) -> &'static str {
        match self {
            Self::RxDropped | Self::TxDropped | Self::RxErrors | Self::TxErrors => "netlink RTM_GETLINK",
            Self::IpFragFails | Self::IpFragOks => "/proc/net/snmp",
            Self::Ip6FragFails | Self::Ip6FragOks => "/proc/net/snmp6",
        }
    }
}

/// The counters of some namespaces at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    spaces: Vec<Space>,
}

/// The counters of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Space {
    subject: String,
    links: BTreeMap<u32, (String, Counters)>,
    /// Absent when its file could not be read: a protocol that is switched off.
    protocol: BTreeMap<Counter, u64>,
}

/// A counter that rose between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rise {
    /// Whose namespace: as it was named in [`read_counters`].
    pub subject: String,
    /// The interface; `None` for the counters of the whole namespace.
    pub interface: Option<String>,
    /// Which counter.
    pub counter: Counter,
    /// By how many packets.
    pub by: u64,
}

/// The counters of every link and of IP itself in each namespace; a namespace that is given twice (a pod
/// with hostNetwork) counts once. About 30 µs a namespace.
///
/// # Errors
/// When any of them cannot be read: half a comparison would blame the wrong one.
pub fn read_counters(targets: &[(&str, &NetNs)]) -> Result<Snapshot, ObserveError> {
    let spaces = on_threads_that_die(targets, |first, part| {
        let mut spaces = Vec::new();
        for (place, (subject, netns)) in (first..).zip(part) {
            if !targets.iter().take(place).any(|(_, other)| other.inode() == netns.inode()) {
                spaces.push(read(subject, netns));
            }
        }
        spaces
    });
    let spaces: Result<_, _> = spaces.map_err(NetNsError::Thread)?.into_iter().collect();
    Ok(Snapshot { spaces: spaces? })
}

fn read(subject: &str, netns: &NetNs) -> Result<Space, ObserveError> {
    netns.enter_for_ever()?;
    let mut netlink = Netlink::route()?;
    let links = dump_links(&mut netlink, true);
    let mut space = Space { subject: subject.to_owned(), ..Space::default() };
    for link in links?.items {
        if let Some(counters) = link.counters {
            space.links.insert(link.index, (link.name, counters));
        }
    }
    // Not /proc/net: that is the namespace of the process's first thread.
    if let Ok(text) = std::fs::read_to_string("/proc/thread-self/net/snmp") {
        let value = |name| snmp(&text, "Ip:", name);
        let pairs = [(Counter::IpFragFails, value("FragFails")), (Counter::IpFragOks, value("FragOKs"))];
        space.protocol.extend(pairs.into_iter().filter_map(|(c, v)| Some((c, v?))));
    }
    if let Ok(text) = std::fs::read_to_string("/proc/thread-self/net/snmp6") {
        let value = |name| snmp6(&text, name);
        let pairs =
            [(Counter::Ip6FragFails, value("Ip6FragFails")), (Counter::Ip6FragOks, value("Ip6FragOKs"))];
        space.protocol.extend(pairs.into_iter().filter_map(|(c, v)| Some((c, v?))));
    }
    Ok(space)
}

/// A value of /proc/net/snmp: a line of names and a line of values, both beginning with the protocol.
pub(super) fn snmp(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.split_ascii_whitespace().next() == Some(protocol));
    let names = lines.next()?.split_ascii_whitespace();
    let values = lines.next()?.split_ascii_whitespace();
    names.zip(values).find(|(n, _)| *n == name)?.1.parse().ok()
}

/// A value of /proc/net/snmp6: a name and a value a line.
pub(super) fn snmp6(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .find(|(n, _)| *n == name)?
        .1
        .trim()
        .parse()
        .ok()
}

/// What rose from `before` to `after`, in the order of the namespaces, most packets first within each.
///
/// A link or namespace that is in one snapshot only tells nothing and is left out.
pub fn diff(before: &Snapshot, after: &Snapshot) -> Vec<Rise> {
    let mut rises = Vec::new();
    for now in &after.spaces {
        let Some(then) = before.spaces.iter().find(|s| s.subject == now.subject) else { continue };
        let start = rises.len();
        let mut rise = |interface: Option<&String>, counter, from: u64, to: u64| {
            if to > from {
                let (subject, interface) = (now.subject.clone(), interface.cloned());
                rises.push(Rise { subject, interface, counter, by: to - from });
            }
        };
        for (index, (name, new)) in &now.links {
            let Some((old_name, old)) = then.links.get(index) else { continue };
            if old_name != name {
                continue;
            }
            rise(Some(name), Counter::RxDropped, old.rx_dropped, new.rx_dropped);
            rise(Some(name), Counter::TxDropped, old.tx_dropped, new.tx_dropped);
            rise(Some(name), Counter::RxErrors, old.rx_errors, new.rx_errors);
            rise(Some(name), Counter::TxErrors, old.tx_errors, new.tx_errors);
        }
        for (counter, new) in &now.protocol {
            if let Some(old) = then.protocol.get(counter) {
                rise(None, *counter, *old, *new);
            }
        }
        if let Some(of_this) = rises.get_mut(start..) {
            of_this.sort_by_key(|r| std::cmp::Reverse(r.by));
        }
    }
    rises
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "Ip: Forwarding FragOKs FragFails FragCreates\nIp: 1 7 42 0\n\
        Icmp: InMsgs FragFails\nIcmp: 5 99\n";

    #[test]
    fn values_are_found_by_name_and_not_by_place() {
        assert_eq!(snmp(SNMP, "Ip:", "FragFails"), Some(42));
        assert_eq!(snmp(SNMP, "Ip:", "FragOKs"), Some(7));
        assert_eq!(snmp(SNMP, "Ip:", "Gone"), None);
        assert_eq!(snmp("Ip: FragFails", "Ip:", "FragFails"), None);
        assert_eq!(snmp6("Ip6FragOKs   \t3\nIp6FragFails   12\n", "Ip6FragFails"), Some(12));
        assert_eq!(snmp6("Ip6FragFailsX 12", "Ip6FragFails"), None);
    }

    fn space(subject: &str, tx_dropped: u64, fails: u64) -> Space {
        let counters = Counters { tx_dropped, tx_packets: tx_dropped, ..Counters::default() };
        Space {
            subject: subject.into(),
            links: BTreeMap::from([(2, ("eth0".into(), counters))]),
            protocol: BTreeMap::from([(Counter::IpFragFails, fails)]),
        }
    }

    #[test]
    fn only_what_rose_in_a_place_that_was_there_before_is_told() {
        let before = Snapshot { spaces: vec![space("host", 5, 1), space("web", 0, 0)] };
        let after = Snapshot { spaces: vec![space("host", 7, 9), space("web", 0, 0), space("new", 9, 9)] };
        let rises = diff(&before, &after);
        let told: Vec<_> =
            rises.iter().map(|r| (r.subject.as_str(), r.interface.as_deref(), r.counter, r.by)).collect();
        let expected =
            [("host", None, Counter::IpFragFails, 8), ("host", Some("eth0"), Counter::TxDropped, 2)];
        assert_eq!(told, expected);
        assert_eq!(diff(&after, &before), [], "a counter that fell was reset");
    }

    #[test]
    fn an_index_that_was_given_to_another_link_is_not_compared() {
        let before = Snapshot { spaces: vec![space("host", 0, 0)] };
        let mut after = Snapshot { spaces: vec![space("host", 9, 0)] };
        after.spaces[0].links.get_mut(&2).unwrap().0 = "eth1".into();
        assert_eq!(diff(&before, &after), []);
    }
}
