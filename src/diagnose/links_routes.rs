//! Rules on what routes promise: their MTU and the segment size they announce.

use super::Rule;
use super::chain::find;
use super::link_fixes as fixes;
use super::links::mtu_of;
use crate::facts::{Evidence, Finding, Namespace, Route, Severity};

/// A route promises more than its link takes.
pub(super) const ROUTE_MTU_EXCEEDS_LINK: Rule = Rule {
    id: "links.route_mtu_exceeds_link",
    severity: Severity::Warning,
    meaning: "A route's MTU is larger than its interface's: the kernel believes the route and hands the interface packets that it drops.",
    fix: "Take the MTU off the route, or set it to at most the link's.",
};

/// A route announces segments that do not fit into its link.
pub(super) const ADVMSS_EXCEEDS_MTU: Rule = Rule {
    id: "links.advmss_exceeds_mtu",
    severity: Severity::Warning,
    meaning: "A route announces a larger TCP segment size (advmss) than its interface takes with headers: the other side sends what does not fit, and large answers vanish or draw a PTB.",
    fix: "Take advmss off the route, or set it to at most the MTU minus 40 (IPv4) or 60 (IPv6).",
};

/// What IP and TCP headers take of a packet, bytes.
pub fn tcp_headers(ipv6: bool) -> u32 {
    if ipv6 { 60 } else { 40 }
}

pub(super) fn check_routes(namespace: &Namespace, findings: &mut Vec<Finding>) {
    for route in &namespace.routes {
        check_advmss(namespace, route, findings);
        // Hardly any has one, and a full node has as many routes as interfaces.
        let Some(mtu) = route.mtu_bytes else { continue };
        let Some(link) = route.interface.as_deref().and_then(|name| find(namespace, name)) else { continue };
        if mtu <= link.mtu_bytes {
            continue;
        }
        let to = &route.destination;
        findings.push(ROUTE_MTU_EXCEEDS_LINK.finding(
            namespace.subject.as_str(),
            format!("the route {to} sets MTU {mtu}, its interface {} takes {}", link.name, link.mtu_bytes),
            vec![
                Evidence::new(format!("MTU of the route {to}"), mtu, "bytes", "netlink RTM_GETROUTE"),
                mtu_of(&namespace.subject, &link.name, link.mtu_bytes),
            ],
            fixes::route(&namespace.subject, route, link),
        ));
    }
}

fn check_advmss(namespace: &Namespace, route: &Route, findings: &mut Vec<Finding>) {
    let Some(advmss) = route.advmss_bytes else { return };
    let Some(link) = route.interface.as_deref().and_then(|name| find(namespace, name)) else { return };
    let headers = tcp_headers(route.ipv6);
    let packet = advmss.saturating_add(headers);
    if packet <= link.mtu_bytes {
        return;
    }
    let to = &route.destination;
    findings.push(ADVMSS_EXCEEDS_MTU.finding(
        namespace.subject.as_str(),
        format!(
            "the route {to} announces TCP segments of {advmss}: {advmss} + {headers} = {packet}, its interface {} takes {}",
            link.name, link.mtu_bytes
        ),
        vec![
            Evidence::new(format!("advmss of the route {to}"), advmss, "bytes", "netlink RTM_GETROUTE"),
            mtu_of(&namespace.subject, &link.name, link.mtu_bytes),
        ],
        fixes::advmss(&namespace.subject, route, link.mtu_bytes.saturating_sub(headers)),
    ));
}
