//! Many namespaces read in turn: a few plain threads enter one after the other, and die.

use super::ObserveError;
use super::egress::RawUnderlay;
use super::kernel::{read_kernel_state, state as kernel_state};
use super::link::{RawLink, parse_address, parse_link};
use super::peers::assemble;
use super::route::{MAIN, RawRoute, parse_route};
use super::socket::{Dump, Netlink};
use crate::facts::{KernelState, Namespace, PolicyRules};
use crate::netns::{NetNs, NetNsError, most_threads, on_threads_that_die, share_out};
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
    /// Addresses also of namespaces with nothing but a loopback and one more interface: those of most pods, whose
    /// addresses their list tells as well. The others' are always read, to find what tunnels send through.
    pub all_addresses: bool,
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
    pub(super) policy_rules: PolicyRules,
}

impl RawNamespace {
    /// Whether there is a default route for each family that it has an address of.
    fn has_default_routes(&self) -> bool {
        let has = |six| self.routes.iter().any(|r| r.destination == "default" && r.ipv6 == six);
        let leads_out = |address: IpAddr| match address {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        };
        let held = |six| self.addresses.iter().any(|(_, a, _)| a.is_ipv6() == six && leads_out(*a));
        [false, true].into_iter().all(|six| has(six) || !held(six))
    }
}

/// What one namespace says of itself, not yet joined to what others say.
#[derive(Debug)]
pub struct Reading(Result<RawNamespace, ObserveError>);

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
    let read = |_, part: &[(&str, &NetNs)]| part.iter().map(|(_, n)| read_here(n, options)).collect();
    match on_threads_that_die(targets, read) {
        Ok(readings) => join_readings(targets, readings),
        Err(error) => join_readings(targets, nobody_could(targets, &error)),
    }
}

/// Moves the calling thread into a namespace for good and reads it; for threads that die.
pub fn read_here(netns: &NetNs, options: ReadOptions) -> Reading {
    Reading(netns.enter_for_ever().map_err(ObserveError::from).and_then(|()| {
        let mut netlink = Netlink::route()?;
        dump_all(&mut netlink, netns.inode(), options)
    }))
}

/// As [`read_here`], with the kernel's state there; its links, which are many on a node, are read once for both.
pub fn read_with_state(
    subject: &str,
    netns: &NetNs,
    options: ReadOptions,
) -> (Reading, Result<KernelState, ObserveError>) {
    if let Err(error) = netns.enter_for_ever() {
        return (Reading(Err(error.into())), read_kernel_state(subject, netns));
    }
    let told = |error: &ObserveError| error.to_string();
    let mut netlink = match Netlink::route() {
        Ok(netlink) => netlink,
        Err(error) => return (Reading(Err(error)), read_kernel_state(subject, netns)),
    };
    let mut raw = dump_all(&mut netlink, netns.inode(), ReadOptions { counters: true, ..options });
    let links = raw.as_ref().map(|raw| raw.links.as_slice()).map_err(told);
    let state = kernel_state(subject, netns.inode(), &mut Ok(netlink), links);
    if let (Ok(raw), false) = (&mut raw, options.counters) {
        raw.links.iter_mut().for_each(|link| (link.counters, link.settings) = Default::default());
    }
    (Reading(raw), Ok(state))
}

/// Joins what was read of each of these namespaces, as [`read_namespaces`] does.
pub fn join_readings(
    targets: &[(&str, &NetNs)],
    readings: Vec<Reading>,
) -> Vec<(String, Result<Namespace, ObserveError>)> {
    let mut raw: Vec<_> = readings.into_iter().map(|reading| reading.0).collect();
    match resolve_ids(targets, &raw) {
        Ok(ids) => {
            for (namespace, ids) in raw.iter_mut().zip(ids) {
                if let Ok(namespace) = namespace {
                    namespace.ids = ids;
                }
            }
        }
        Err(error) => raw = nobody_could(targets, &error).into_iter().map(|reading| reading.0).collect(),
    }
    let named: Vec<_> = targets.iter().map(|(subject, _)| *subject).zip(&raw).collect();
    let joined = match assemble(&named) {
        Ok(joined) => joined,
        Err(error) => {
            raw = nobody_could(targets, &error).into_iter().map(|reading| reading.0).collect();
            raw.iter().map(|_| None).collect()
        }
    };
    let subjects = targets.iter().map(|(subject, _)| (*subject).to_owned());
    let mut all: Vec<_> = subjects
        .zip(raw.into_iter().zip(joined))
        .map(|(subject, (raw, joined))| match (raw, joined) {
            (Ok(_), Some(namespace)) => (subject, Ok(namespace)),
            (Err(error), _) => (subject, Err(error)),
            (Ok(_), None) => (subject, Err(ObserveError::nothing("the namespace"))),
        })
        .collect();
    super::ways_back::read_ways_back(targets, &mut all);
    all
}

/// No thread could be started: one error, told once for each that was asked for.
fn nobody_could(targets: &[(&str, &NetNs)], error: &std::io::Error) -> Vec<Reading> {
    targets.iter().map(|_| Reading(Err(NetNsError::Thread(error.kind().into()).into()))).collect()
}

fn dump_all(netlink: &mut Netlink, inode: u64, options: ReadOptions) -> Result<RawNamespace, ObserveError> {
    let mut raw = RawNamespace { inode, ..RawNamespace::default() };
    let links = dump_links(netlink, options.counters)?;
    raw.links = links.items;
    raw.unreadable += links.unreadable;

    let addresses = options.all_addresses || raw.links.len() > 2;
    // One family after the other: that needs no RTNL lock since Linux 6.9, and a node's CNI waits for that one.
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        if addresses {
            let addresses = dump_addresses(netlink, family)?;
            raw.addresses.extend(addresses.items);
            raw.unreadable += addresses.unreadable;
        }
        let routes = dump_routes(netlink, family)?;
        raw.routes.extend(routes.items);
        raw.unreadable += routes.unreadable;
    }
    // Of most pods nothing hangs on it: their main table has all that their rules ask for.
    if raw.links.len() > 2 || !raw.has_default_routes() {
        raw.policy_rules = super::policy::read_policy(netlink)?;
    }
    super::wireguard::read_endpoints(&mut raw);
    super::egress::find_underlays(netlink, &mut raw);
    super::offload::read_offloads(netlink.descriptor(), &mut raw);
    Ok(raw)
}

/// Every link of the thread's namespace.
pub(super) fn dump_links(netlink: &mut Netlink, counters: bool) -> Result<Dump<RawLink>, ObserveError> {
    let mut message = LinkMessage::default();
    // Those of the address families, which are long; an interface's own come anyway.
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let request = RouteNetlinkMessage::GetLink(message);
    netlink.dump("its interfaces", &request, |message| parse_link(message, counters).map(Some))
}

/// Whether a message is of that family: without IPv6 the kernel answers for all families instead.
fn is_of(message: &[u8], family: AddressFamily) -> Option<bool> {
    message.first().map(|&theirs| AddressFamily::from(theirs) == family)
}

/// Addresses of one family, each with its interface's index and its prefix's length.
fn dump_addresses(
    netlink: &mut Netlink,
    family: AddressFamily,
) -> Result<Dump<(u32, IpAddr, u8)>, ObserveError> {
    let mut message = AddressMessage::default();
    message.header.family = family;
    netlink.dump("its addresses", &RouteNetlinkMessage::GetAddress(message), |message| {
        if is_of(message, family)? { parse_address(message).map(Some) } else { Some(None) }
    })
}

/// Routes of the main table of one family.
fn dump_routes(netlink: &mut Netlink, family: AddressFamily) -> Result<Dump<RawRoute>, ObserveError> {
    let routes = netlink.dump("its routes", &main_table(family), |message| {
        if is_of(message, family)? { parse_route(message) } else { Some(Vec::new()) }
    });
    match routes {
        // ENOENT: no route was ever made in the table. EOPNOTSUPP, EAFNOSUPPORT: no IPv6 at all.
        Err(ObserveError::Refused { source, .. })
            if matches!(
                source.raw_os_error(),
                Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
            ) =>
        {
            Ok(Dump { items: Vec::new(), unreadable: 0 })
        }
        routes => routes,
    }
}

fn main_table(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.attributes.push(RouteAttribute::Table(MAIN));
    RouteNetlinkMessage::GetRoute(message)
}

/// Which namespace each id stands for that a link names as the place of its other end, for each namespace.
///
/// An id means something only in the namespace that uses it, so that one is entered again and asked by which id
/// it knows a candidate. Ends of a veth name each other's index, which leaves one candidate in practice;
/// the lower link of a macvlan is looked for in all, the first given namespace (the host) first. The namespace
/// with the most such ends, the node's own, is asked first, all its questions in a few writes of a thread or two: what it knows of
/// a veth is true of the other end too, and hardly a pod is left to be entered.
fn resolve_ids(
    targets: &[(&str, &NetNs)],
    raw: &[Result<RawNamespace, ObserveError>],
) -> std::io::Result<Vec<Ids>> {
    let mut ends: Ends = HashMap::new();
    for (place, namespace) in raw.iter().enumerate() {
        for link in namespace.iter().flat_map(|n| &n.links).filter(|l| l.is_mutual()) {
            ends.entry((link.index, link.link.unwrap_or(0))).or_default().push(place);
        }
    }
    let mut known = vec![Ids::new(); raw.len()];
    let count = |n: &Result<RawNamespace, ObserveError>| {
        n.iter().flat_map(|n| &n.links).filter(|l| l.is_mutual() && l.link_netnsid.is_some()).count()
    };
    if let Some((place, hub)) = raw.iter().enumerate().max_by_key(|(_, n)| count(n))
        && let (Ok(hub), Some((_, netns))) = (hub, targets.get(place))
    {
        let (likely, _) = unknown_ends(hub, &Ids::new(), &ends);
        let ids = ask_in_shares(netns, &likely, targets)?;
        for link in hub.links.iter().filter(|l| l.is_mutual()) {
            let (Some(id), Some(index)) = (link.link_netnsid, link.link) else { continue };
            let Some(inode) = ids.get(&id) else { continue };
            for &other in ends.get(&(index, link.index)).into_iter().flatten() {
                let Some(Ok(namespace)) = raw.get(other) else { continue };
                let end = namespace.links.iter().find(|l| l.is_mutual() && l.index == index);
                if namespace.inode == *inode
                    && let Some(theirs) = end.and_then(|l| l.link_netnsid)
                    && let Some(known) = known.get_mut(other)
                {
                    known.insert(theirs, hub.inode);
                }
            }
        }
        if let Some(known) = known.get_mut(place) {
            known.extend(ids);
        }
    }
    let read = raw.iter().zip(&known).enumerate();
    let unsure: Vec<usize> = read
        .filter(|(_, (namespace, known))| {
            namespace
                .as_ref()
                .is_ok_and(|namespace| unknown_ends(namespace, known, &ends) != (Vec::new(), false))
        })
        .map(|(place, _)| place)
        .collect();
    let found = on_threads_that_die(&unsure, |_, part| {
        let ask = |&place: &usize| match (targets.get(place), raw.get(place), known.get(place)) {
            (Some((_, netns)), Some(Ok(namespace)), Some(known)) => {
                ids_of(netns, namespace, known, targets, &ends)
            }
            _ => Ids::new(),
        };
        part.iter().map(ask).collect()
    })?;
    for (place, ids) in unsure.into_iter().zip(found) {
        if let Some(known) = known.get_mut(place) {
            known.extend(ids);
        }
    }
    Ok(known)
}

/// By which ids a namespace knows those at these places, asked on a few threads with one socket each.
fn ask_in_shares(netns: &NetNs, places: &[usize], targets: &[(&str, &NetNs)]) -> std::io::Result<Ids> {
    /// As many questions as go into one write: for fewer a thread costs more than it saves.
    const FEWEST: usize = 64;
    let mut shares = places.chunks(places.len().div_ceil(most_threads()).max(FEWEST));
    let ask = |share: &[usize]| {
        let netlink = netns.enter_for_ever().ok().and_then(|()| Netlink::route().ok());
        let others = share.iter().filter_map(|&place| targets.get(place));
        netlink.map(|mut netlink| ask_ids(&mut netlink, others)).unwrap_or_default()
    };
    Ok(share_out(shares.len(), || shares.next(), ask)?.into_iter().flatten().collect())
}

/// A namespace's ids of others → their inodes.
type Ids = BTreeMap<i32, u64>;
/// Index of a veth and of its other end → the places of the namespaces that have such a one.
type Ends = HashMap<(u32, u32), Vec<usize>>;

/// The places where the other ends of a namespace's veths may be whose ids are not `known`, and whether another kind
/// of link has its lower one somewhere else.
fn unknown_ends(namespace: &RawNamespace, known: &Ids, ends: &Ends) -> (Vec<usize>, bool) {
    let (mut likely, mut anywhere) = (Vec::new(), false);
    for link in namespace.links.iter().filter(|l| l.is_paired()) {
        let (Some(id), Some(other)) = (link.link_netnsid, link.link) else { continue };
        match (known.contains_key(&id), link.is_mutual()) {
            (true, _) => {}
            (false, true) => likely.extend(ends.get(&(other, link.index)).into_iter().flatten().copied()),
            (false, false) => anywhere = true,
        }
    }
    likely.sort_unstable();
    likely.dedup();
    (likely, anywhere)
}

/// The ids that one namespace's links name, with the inodes that they stand for; `known` are not asked for.
fn ids_of(
    netns: &NetNs,
    namespace: &RawNamespace,
    known: &Ids,
    targets: &[(&str, &NetNs)],
    ends: &Ends,
) -> Ids {
    let mut ids = known.clone();
    let (likely, anywhere) = unknown_ends(namespace, known, ends);
    if netns.enter_for_ever().is_err() {
        return ids;
    }
    let Ok(mut netlink) = Netlink::route() else { return ids };
    ids.extend(ask_ids(&mut netlink, likely.iter().filter_map(|&place| targets.get(place))));
    // What is not the end of a veth is most often in the host, else anywhere.
    for part in [targets.get(..1), targets.get(1..)].into_iter().flatten() {
        let unknown = |l: &&RawLink| l.is_paired() && l.link_netnsid.is_some_and(|id| !ids.contains_key(&id));
        if anywhere && namespace.links.iter().any(|l| unknown(&l)) {
            ids.extend(ask_ids(&mut netlink, part.iter()));
        }
    }
    ids
}

/// By which ids the socket's namespace knows others; those that it has none for are left out.
fn ask_ids<'a>(
    netlink: &mut Netlink,
    others: impl Iterator<Item = &'a (&'a str, &'a NetNs)>,
) -> Vec<(i32, u64)> {
    let (requests, inodes): (Vec<_>, Vec<_>) = others
        .filter_map(|(_, other)| {
            let mut message = NsidMessage::default();
            message.attributes.push(NsidAttribute::Fd(u32::try_from(other.as_fd().as_raw_fd()).ok()?));
            Some((RouteNetlinkMessage::GetNsId(message), other.inode()))
        })
        .unzip();
    let answers = netlink.ask_all("a namespace's id", &requests, |payload| {
        /// struct rtgenmsg, padded.
        const HEADER: usize = 4;
        /// NETNSA_NSID.
        const NSID: u16 = 1;
        let attribute = super::wire::attributes(payload, HEADER).find(|a| a.kind() == NSID)?;
        super::wire::field(attribute.value(), 0).map(i32::from_ne_bytes)
    });
    let ids = answers.into_iter().flatten().zip(inodes);
    ids.filter_map(|(id, inode)| Some((id.filter(|&id| id >= 0)?, inode))).collect()
}
