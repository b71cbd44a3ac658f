//! How a node whose main table is not the whole truth sends to the addresses of its pods: a route lookup for each.
//!
//! With rules (ip rule) the way to a pod may stand in any table: Amazon's and Azure's CNI and Calico do so. A pod that
//! hangs in a VRF is reached by the table of that VRF. The lookup goes through all of them as a packet of the node
//! itself would, and as one that came by the uplink; where the two differ, or a rule asks for another interface, nothing
//! is told.
//!
//! Source: kernel net/ipv4/route.c `inet_rtm_getroute`, net/ipv6/route.c `inet6_rtm_getroute`, drivers/net/vrf.c.

use super::ObserveError;
use super::egress::lookup;
use super::socket::Netlink;
use crate::facts::{Link, Namespace, PolicyRules};
use crate::netns::NetNs;
use netlink_packet_route::route::RouteAttribute;
use std::net::IpAddr;

/// Addresses of a node's pods that are looked up at most, about 10 µs each.
const MOST: usize = 2048;

/// A pod's address: where it stands in what was read, and the VRF of the node that it hangs in.
struct Question {
    place: usize,
    link: usize,
    address: IpAddr,
    vrf: Option<u32>,
}

/// Looks up the ways of every namespace with rules or VRFs to the pods that hang on it.
pub(super) fn read_ways_back(
    targets: &[(&str, &NetNs)],
    all: &mut [(String, Result<Namespace, ObserveError>)],
) {
    for at in 0..all.len() {
        let (Some((_, Ok(node))), Some((_, netns))) = (all.get(at), targets.get(at)) else { continue };
        if !node.policy_rules.any() && !node.links.iter().any(is_vrf) {
            continue;
        }
        let questions = questions(node, all);
        if questions.is_empty() {
            continue;
        }
        let uplinks = uplinks(node);
        let ask = || {
            let mut netlink = Netlink::route().ok()?;
            Some(questions.iter().map(|q| way(&mut netlink, q, &uplinks)).collect::<Vec<_>>())
        };
        let Ok(Some(ways)) = netns.run(ask) else { continue };
        let name = |index| node.links.iter().find(|l| l.index == index).map(|l| l.name.clone());
        let named: Vec<_> = ways.into_iter().map(|way| way.map(|index| index.and_then(name))).collect();
        for (question, way) in questions.iter().zip(named) {
            let pod = all.get_mut(question.place).and_then(|(_, n)| n.as_mut().ok());
            let link = pod.and_then(|pod| pod.links.get_mut(question.link));
            if let (Some(link), Some(way)) = (link, way) {
                link.ways_back.push((question.address, way));
            }
        }
    }
}

fn is_vrf(link: &Link) -> bool {
    link.kind.as_deref() == Some("vrf")
}

/// Addresses of pods behind the node's veths; without rules, or with those that ask for an interface, only of those in a
/// VRF.
fn questions(node: &Namespace, all: &[(String, Result<Namespace, ObserveError>)]) -> Vec<Question> {
    let mut questions = Vec::new();
    for (place, (_, pod)) in all.iter().enumerate() {
        let Some(pod) = pod.as_ref().ok().filter(|p| p.netns_inode != node.netns_inode) else { continue };
        for (at, link) in pod.links.iter().enumerate() {
            let Some(peer) = link.peer.as_ref().filter(|p| p.netns_inode == Some(node.netns_inode)) else {
                continue;
            };
            let vrf = node.links.iter().find(|l| l.index == peer.index).and_then(|end| vrf_of(node, end));
            if vrf.is_none() && node.policy_rules != PolicyRules::Elsewhere {
                continue;
            }
            let question = |&(address, _): &(IpAddr, u8)| Question { place, link: at, address, vrf };
            questions.extend(link.addresses.iter().map(question));
        }
    }
    questions.truncate(MOST);
    questions
}

/// The VRF that an interface is a port of, itself or by its bridge.
fn vrf_of(node: &Namespace, link: &Link) -> Option<u32> {
    let above = |link: &Link| node.links.iter().find(|l| Some(&l.name) == link.master.as_ref());
    let first = above(link)?;
    [Some(first), above(first)].into_iter().flatten().find(|l| is_vrf(l)).map(|l| l.index)
}

/// The interfaces of the default routes and the routers there: packets from elsewhere come by them.
fn uplinks(node: &Namespace) -> Vec<(u32, IpAddr)> {
    let defaults = node.routes.iter().filter(|r| r.destination == "default");
    defaults
        .filter_map(|r| {
            let link = node.links.iter().find(|l| Some(&l.name) == r.interface.as_ref())?;
            Some((link.index, r.via?))
        })
        .collect()
}

/// The interface by which the node sends to the address; `None`: not known.
fn way(netlink: &mut Netlink, question: &Question, uplinks: &[(u32, IpAddr)]) -> Option<Option<u32>> {
    let address = question.address;
    let own = lookup(netlink, address, question.vrf.map(RouteAttribute::Oif).into_iter()).ok()?;
    let own = own.map(|way| way.interface);
    // What the node itself would send may go elsewhere than what it forwards.
    let forwarded = uplinks.iter().filter(|(_, router)| router.is_ipv4() == address.is_ipv4()).find_map(
        |&(index, router)| {
            let from = [RouteAttribute::Iif(index), RouteAttribute::Source(router.into())];
            lookup(netlink, address, from.into_iter()).ok().flatten()
        },
    );
    match (question.vrf, forwarded.map(|way| way.interface)) {
        // Two answers: neither is told as the one that counts.
        (None, Some(other)) if Some(other) != own => None,
        _ => Some(own),
    }
}
