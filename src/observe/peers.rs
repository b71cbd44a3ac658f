//! Joins what several namespaces say of each other: indexes and ids → names, MTUs and inodes. Pure.

use super::ObserveError;
use super::link::RawLink;
use super::namespace::RawNamespace;
use crate::facts::{Egress, Link, LinkRef, Namespace, Route, Tunnel};
use crate::netns::on_threads_that_die;
use std::collections::HashMap;
use std::io;

type Read = Result<RawNamespace, ObserveError>;

/// Each namespace that was read as facts, with the other ends of its links where these were read too.
///
/// # Errors
/// As [`on_threads_that_die`].
pub(super) fn assemble(raw: &[(&str, &Read)]) -> io::Result<Vec<Option<Namespace>>> {
    let read = || raw.iter().filter_map(|(_, r)| r.as_ref().ok());
    let mut links: HashMap<(u64, u32), &RawLink> =
        HashMap::with_capacity(read().map(|n| n.links.len()).sum());
    for namespace in read() {
        links.extend(namespace.links.iter().map(|link| ((namespace.inode, link.index), link)));
    }
    let one = |(subject, read): &(&str, &Read)| Some(facts(subject, read.as_ref().ok()?, &links));
    on_threads_that_die(raw, |_, part| part.iter().map(one).collect())
}

fn facts(subject: &str, raw: &RawNamespace, all: &HashMap<(u64, u32), &RawLink>) -> Namespace {
    let name = |index: u32| all.get(&(raw.inode, index)).map(|l| l.name.clone());
    let mut links: Vec<Link> = raw
        .links
        .iter()
        .map(|link| Link {
            index: link.index,
            name: link.name.clone(),
            kind: link.kind.clone(),
            mtu_bytes: link.mtu,
            peer: peer(link, raw, all),
            master: link.master.and_then(name),
            state: link.state.to_owned(),
            overhead_bytes: link.tunnel.as_ref().and_then(|t| t.overhead),
            underlay: raw.underlays.get(&link.index).and_then(|u| u.interface).and_then(name),
            egress: egress(link, raw, all),
            offloads: link.offloads,
            tunnel: link.tunnel.as_ref().map(|t| Tunnel {
                outer_ipv6: t.outer_ipv6,
                dont_fragment: t.dont_fragment,
                least_bytes: t.overhead.or(t.least),
                id: t.id,
                port: t.port,
                external: t.external,
                remotes_not_asked: raw.underlays.get(&link.index).map_or(0, |u| u.not_asked),
            }),
            vlan_filtering: link.vlan_filtering,
            counters: link.counters,
            up: link.up,
            addresses: raw
                .addresses
                .iter()
                .filter(|(index, ..)| *index == link.index)
                .map(|&(_, address, length)| (address, length))
                .collect(),
            ways_back: Vec::new(),
        })
        .collect();
    links.sort_by_key(|l| l.index);
    let route = |r: &super::route::RawRoute| Route {
        destination: r.destination.clone(),
        via: r.via,
        interface: r.interface.and_then(name),
        mtu_bytes: r.mtu,
        advmss_bytes: r.advmss,
        ipv6: r.ipv6,
    };
    Namespace {
        subject: subject.to_owned(),
        netns_inode: raw.inode,
        links,
        routes: raw.routes.iter().map(route).collect(),
        unreadable: raw.unreadable,
        policy_rules: raw.policy_rules,
    }
}

/// The ways to a tunnel's remotes, as far as they were looked up.
fn egress(link: &RawLink, raw: &RawNamespace, all: &HashMap<(u64, u32), &RawLink>) -> Vec<Egress> {
    let Some(underlay) = raw.underlays.get(&link.index) else { return Vec::new() };
    let one = |found: &super::egress::RawEgress| {
        let below = found.way.and_then(|way| all.get(&(raw.inode, way.interface)));
        let route = found.way.and_then(|way| way.route_mtu);
        Egress {
            interface: below.map(|l| l.name.clone()),
            mtu_bytes: below.map(|l| route.map_or(l.mtu, |mtu| mtu.min(l.mtu))),
            cached_path_mtu_bytes: found.way.and_then(|way| way.cached_mtu),
            remotes: found.remotes.clone(),
        }
    };
    underlay.egress.iter().map(one).collect()
}

fn peer(link: &RawLink, raw: &RawNamespace, all: &HashMap<(u64, u32), &RawLink>) -> Option<LinkRef> {
    if !link.is_paired() {
        return None;
    }
    let index = link.link?;
    let inode = match link.link_netnsid {
        None => Some(raw.inode),
        Some(id) => raw.ids.get(&id).copied(),
    };
    let other = inode.and_then(|inode| all.get(&(inode, index)));
    Some(LinkRef {
        netns_inode: inode,
        index,
        name: other.map(|o| o.name.clone()),
        mtu_bytes: other.map(|o| o.mtu),
    })
}
