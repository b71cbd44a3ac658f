//! Many namespaces read in turn: a few plain threads enter one after the other, and die.

use super::ObserveError;
use super::egress::RawUnderlay;
use super::link::{RawLink, parse_address, parse_link};
use super::peers::assemble;
use super::route::{MAIN, RawRoute, parse_route};
use super::socket::Netlink;
use crate::facts::Namespace;
use crate::netns::{NetNs, NetNsError, on_threads_that_die};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage, address::AddressMessage};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

/// What to read beside links, addresses and routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// Drop and packet counters of every link.
    pub counters: bool,
}

/// A namespace as netlink tells it, before indexes and ids are joined to names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RawNamespace {
    pub(super) inode: u64,
    pub(super) links: Vec<RawLink>,
    pub(super) addresses: Vec<(u32, IpAddr, u8)>,
    pub(super) routes: Vec<RawRoute>,
    /// Tunnel index → where its outer packets leave.
    pub(super) underlays: BTreeMap<u32, RawUnderlay>,
    /// This namespace's ids of others → their inodes.
    pub(super) ids: BTreeMap<i32, u64>,
    pub(super) unreadable: u32,
}

/// Links, addresses and main-table routes of each namespace, in the given order; links whose other end is
/// in another of these namespaces are joined to it.
///
/// A namespace that cannot be read does not hinder the others. About 25 µs a namespace.
///
/// Sources: rtnetlink(7); kernel Documentation/netlink/specs/rt-link.yaml, rt-route.yaml.
pub fn read_namespaces(
    targets: &[(&str, &NetNs)],
    options: ReadOptions,
) -> Vec<(String, Result<Namespace, ObserveError>)> {
    let read_some = |_, part: &[(&str, &NetNs)]| {
        let mut buffer = Vec::new();
        part.iter().map(|(_, netns)| read(netns, options, &mut buffer)).collect()
    };
    let raw = on_threads_that_die(targets, read_some).and_then(|mut raw| {
        let ids = resolve_ids(targets, &raw)?;
        for (namespace, ids) in raw.iter_mut().zip(ids) {
            if let Ok(namespace) = namespace {
                namespace.ids = ids;
            }
        }
        Ok(raw)
    });
    let raw = match raw {
        Ok(raw) => raw,
        Err(error) => {
            // One error, told once for each that was asked for.
            let kind = error.kind();
            let each = |_| Err(NetNsError::Thread(kind.into()).into());
            targets.iter().map(each).collect()
        }
    };
    let joined = assemble(targets.iter().map(|(subject, _)| *subject).zip(&raw));
    let subjects = targets.iter().map(|(subject, _)| (*subject).to_owned());
    subjects
        .zip(raw.into_iter().zip(joined))
        .map(|(subject, (raw, joined))| match (raw, joined) {
            (Ok(_), Some(namespace)) => (subject, Ok(namespace)),
            (Err(error), _) => (subject, Err(error)),
            (Ok(_), None) => (subject, Err(ObserveError::nothing("the namespace"))),
        })
        .collect()
}

/// Reads one namespace on a thread that stays in it.
fn read(netns: &NetNs, options: ReadOptions, buffer: &mut Vec<u8>) -> Result<RawNamespace, ObserveError> {
    netns.enter_for_ever()?;
    let mut netlink = Netlink::route(std::mem::take(buffer))?;
    let result = dump_all(&mut netlink, netns.inode(), options);
    *buffer = netlink.into_buffer();
    result
}

fn dump_all(netlink: &mut Netlink, inode: u64, options: ReadOptions) -> Result<RawNamespace, ObserveError> {
    let mut raw = RawNamespace { inode, ..RawNamespace::default() };
    let links = dump_links(netlink, options.counters)?;
    raw.links = links.items;
    raw.unreadable += links.unreadable;

    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let addresses = netlink.dump("its addresses", &request, |m| parse_address(m).map(|a| vec![a]))?;
    raw.addresses = addresses.items;
    raw.unreadable += addresses.unreadable;

    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let routes = netlink.dump("its routes", &main_table(family), |message| {
            // Without IPv6 the kernel answers for all families instead.
            if message.first().is_some_and(|&f| f != u8::from(family)) {
                return Some(Vec::new());
            }
            parse_route(message)
        });
        match routes {
            Ok(routes) => {
                raw.routes.extend(routes.items);
                raw.unreadable += routes.unreadable;
            }
            // ENOENT: no route was ever made in the table. EOPNOTSUPP, EAFNOSUPPORT: no IPv6 at all.
            Err(ObserveError::Refused { source, .. })
                if matches!(
                    source.raw_os_error(),
                    Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
                ) => {}
            Err(error) => return Err(error),
        }
    }
    super::wireguard::read_endpoints(&mut raw);
    super::egress::find_underlays(netlink, &mut raw);
    Ok(raw)
}

/// Every link of the thread's namespace.
pub(super) fn dump_links(
    netlink: &mut Netlink,
    counters: bool,
) -> Result<super::socket::Dump<RawLink>, ObserveError> {
    let mut message = LinkMessage::default();
    if !counters {
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    }
    let request = RouteNetlinkMessage::GetLink(message);
    netlink.dump("its interfaces", &request, |message| parse_link(message, counters).map(|link| vec![link]))
}

fn main_table(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.attributes.push(RouteAttribute::Table(MAIN));
    RouteNetlinkMessage::GetRoute(message)
}

/// Finds out which namespace each id stands for that a link names as the place of its other end.
///
/// An id means something only in the namespace that uses it, so each is entered again and asked by which id
/// it knows a candidate. Ends of a veth name each other's index, which leaves one candidate in practice;
/// the lower link of a macvlan is looked for in all, the first given namespace (the host) first.
fn resolve_ids(
    targets: &[(&str, &NetNs)],
    raw: &[Result<RawNamespace, ObserveError>],
) -> std::io::Result<Vec<BTreeMap<i32, u64>>> {
    let mut ends: HashMap<(u32, u32), Vec<usize>> = HashMap::new();
    for (place, namespace) in raw.iter().enumerate() {
        for link in namespace.iter().flat_map(|n| &n.links).filter(|l| l.is_mutual()) {
            ends.entry((link.index, link.link.unwrap_or(0))).or_default().push(place);
        }
    }
    on_threads_that_die(targets, |first, part| {
        let mut buffer = Vec::new();
        let places = part.iter().zip(raw.iter().skip(first));
        places
            .map(|((_, netns), namespace)| {
                let Ok(namespace) = namespace else { return BTreeMap::new() };
                ids_of(netns, namespace, targets, &ends, &mut buffer)
            })
            .collect()
    })
}

/// The ids that one namespace's links name, with the inodes that they stand for.
fn ids_of(
    netns: &NetNs,
    namespace: &RawNamespace,
    targets: &[(&str, &NetNs)],
    ends: &HashMap<(u32, u32), Vec<usize>>,
    buffer: &mut Vec<u8>,
) -> BTreeMap<i32, u64> {
    let mut wanted: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for link in namespace.links.iter().filter(|l| l.is_paired()) {
        let (Some(id), Some(other)) = (link.link_netnsid, link.link) else { continue };
        let candidates = wanted.entry(id).or_default();
        if link.is_mutual() {
            candidates.extend(ends.get(&(other, link.index)).into_iter().flatten());
        } else {
            candidates.extend(0..targets.len());
        }
    }
    let mut ids = BTreeMap::new();
    if wanted.is_empty() || netns.enter_for_ever().is_err() {
        return ids;
    }
    let Ok(mut netlink) = Netlink::route(std::mem::take(buffer)) else { return ids };
    let mut asked = vec![false; targets.len()];
    for (id, candidates) in wanted {
        for candidate in candidates {
            if ids.contains_key(&id) {
                break;
            }
            let Some((_, other)) = targets.get(candidate) else { continue };
            let Some(seen) = asked.get_mut(candidate) else { continue };
            if !std::mem::replace(seen, true)
                && let Some(theirs) = id_of(&mut netlink, other)
            {
                ids.insert(theirs, other.inode());
            }
        }
    }
    *buffer = netlink.into_buffer();
    ids
}

/// The id by which the socket's namespace knows `other`; `None` when it has none for it.
fn id_of(netlink: &mut Netlink, other: &NetNs) -> Option<i32> {
    let mut message = NsidMessage::default();
    let descriptor = u32::try_from(other.as_fd().as_raw_fd()).ok()?;
    message.attributes.push(NsidAttribute::Fd(descriptor));
    let id = netlink.ask("a namespace's id", &RouteNetlinkMessage::GetNsId(message), |payload| {
        /// struct rtgenmsg, padded.
        const HEADER: usize = 4;
        /// NETNSA_NSID.
        const NSID: u16 = 1;
        let attribute = super::wire::attributes(payload, HEADER).find(|a| a.kind() == NSID)?;
        super::wire::field(attribute.value(), 0).map(i32::from_ne_bytes)
    });
    id.ok().filter(|&id| id >= 0)
}
