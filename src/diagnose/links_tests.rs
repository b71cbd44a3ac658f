//! Each rule fires on what it is for, and is silent on its healthy twin.

use super::*;
use crate::facts::{DontFragment, LinkRef, Route, Tunnel};

const HOST: u64 = 1;

fn link(index: u32, name: &str, kind: &str, mtu: u32) -> Link {
    Link {
        index,
        name: name.into(),
        kind: (!kind.is_empty()).then(|| kind.into()),
        mtu_bytes: mtu,
        state: "up".into(),
        up: true,
        ..Link::default()
    }
}

fn route(to: &str, via: Option<&str>, interface: &str, mtu: Option<u32>) -> Route {
    Route {
        destination: to.into(),
        via: via.map(|v| v.parse().unwrap()),
        interface: Some(interface.into()),
        mtu_bytes: mtu,
        ..Route::default()
    }
}

fn vxlan(mtu: u32) -> Link {
    Link {
        overhead_bytes: Some(50),
        underlay: Some("eth0".into()),
        tunnel: Some(Tunnel {
            outer_ipv6: Some(false),
            dont_fragment: Some(DontFragment::Unset),
            ..Tunnel::default()
        }),
        ..link(3, "flannel.1", "vxlan", mtu)
    }
}

/// A flannel node: eth0 1500, VXLAN 1450, bridge and pods of the given MTUs.
fn node(pods: &[u32]) -> Vec<Namespace> {
    let bridge = pods.iter().copied().min().unwrap_or(1450);
    let mut host = Namespace {
        subject: "host".into(),
        netns_inode: HOST,
        links: vec![link(2, "eth0", "", 1500), vxlan(1450), link(4, "cni0", "bridge", bridge)],
        routes: vec![
            route("default", Some("10.0.0.254"), "eth0", None),
            route("10.244.1.0/24", None, "cni0", None),
            route("10.244.2.0/24", Some("10.244.2.0"), "flannel.1", None),
        ],
        unreadable: 0,
        policy_rules: crate::facts::PolicyRules::None,
    };
    let mut all = Vec::new();
    for (number, &mtu) in (0u32..).zip(pods) {
        let (inode, name) = (u64::from(number) + 100, format!("veth{number}"));
        let other = |netns, index, name: &str, mtu| {
            Some(LinkRef { netns_inode: Some(netns), index, name: Some(name.into()), mtu_bytes: Some(mtu) })
        };
        let end = Link {
            peer: other(inode, 2, "eth0", mtu),
            master: Some("cni0".into()),
            ..link(10 + number, &name, "veth", mtu)
        };
        host.links.push(end);
        all.push(Namespace {
            subject: format!("default/web-{number}"),
            netns_inode: inode,
            links: vec![Link { peer: other(HOST, 10 + number, &name, mtu), ..link(2, "eth0", "veth", mtu) }],
            routes: vec![
                route("default", Some("10.244.1.1"), "eth0", None),
                route("10.244.1.0/24", None, "eth0", None),
            ],
            unreadable: 0,
            policy_rules: crate::facts::PolicyRules::None,
        });
    }
    all.insert(0, host);
    all
}

fn ids(namespaces: &[Namespace]) -> Vec<&'static str> {
    let findings = check_links(namespaces, HOST);
    assert!(findings.iter().all(|f| !f.evidence.is_empty() && !f.fix.is_empty()));
    assert!(findings.iter().all(|f| RULES.iter().any(|r| r.id == f.id)));
    findings.iter().map(|f| f.id).collect()
}

fn only(namespaces: &[Namespace], id: &str) -> Finding {
    let mut findings = check_links(namespaces, HOST);
    findings.retain(|f| f.id == id);
    assert_eq!(findings.len(), 1, "{id}: {findings:#?}");
    findings.remove(0)
}

#[test]
fn a_healthy_node_has_no_finding() {
    assert_eq!(ids(&node(&[1450, 1450, 1450])), [""; 0]);
    assert_eq!(ids(&node(&[])), [""; 0]);
    assert_eq!(ids(&[]), [""; 0]);
    // A larger underlay, jumbo pods, no tunnel at all.
    let mut all = node(&[8950, 8950]);
    all[0].links[0].mtu_bytes = 9001;
    all[0].links[1].mtu_bytes = 8951;
    assert_eq!(ids(&all), [""; 0]);
    let mut all = node(&[1500]);
    all[0].links.remove(1);
    assert_eq!(ids(&all), [""; 0]);
}

#[test]
fn veth_ends_that_differ_are_told_once_with_the_larger_ends_command() {
    let mut all = node(&[1450, 1450]);
    all[1].links[0].mtu_bytes = 1500;
    all[0].links[3].peer.as_mut().unwrap().mtu_bytes = Some(1500);
    let finding = only(&all, "links.veth_mtu_mismatch");
    assert_eq!((finding.subject.as_str(), finding.severity), ("default/web-0", Severity::Warning));
    assert!(
        finding.fix.contains("nsprobe exec default/web-0 -- ip link set dev eth0 mtu 1450"),
        "{}",
        finding.fix
    );
    assert!(finding.summary.contains("above 1450 from the pod vanish"), "{}", finding.summary);

    // The host's end is the larger one.
    let mut all = node(&[1450]);
    all[0].links[3].mtu_bytes = 1500;
    all[1].links[0].peer.as_mut().unwrap().mtu_bytes = Some(1500);
    let finding = only(&all, "links.veth_mtu_mismatch");
    assert!(finding.fix.contains("now: ip link set dev veth0 mtu 1450"), "{}", finding.fix);
    assert!(finding.summary.contains("above 1450 to the pod vanish"), "{}", finding.summary);
}

#[test]
fn many_pods_with_one_mistake_make_one_finding() {
    let mut all = node(&[1450; 40]);
    for number in 0..40 {
        all[number + 1].links[0].mtu_bytes = 1500;
        all[0].links[number + 3].peer.as_mut().unwrap().mtu_bytes = Some(1500);
    }
    let finding = only(&all, "links.veth_mtu_mismatch");
    assert_eq!(finding.subject, "host");
    assert!(finding.summary.starts_with("40 pods (default/web-0, default/web-1, default/web-2, …)"));
    assert!(finding.evidence.len() <= 8);
}

#[test]
fn a_veth_whose_other_end_is_unknown_is_not_judged() {
    let mut all = node(&[1450]);
    all[1].links[0].peer = Some(LinkRef { netns_inode: None, index: 9, name: None, mtu_bytes: None });
    assert_eq!(ids(&all), [""; 0]);
}

#[test]
fn a_port_smaller_than_its_bridge_is_silent_loss() {
    let mut all = node(&[1450, 1450]);
    all[0].links[2].mtu_bytes = 1500;
    let finding = only(&all, "links.bridge_port_smaller");
    assert!(
        finding.summary.contains("2 of 2 ports take 1450 bytes, the bridge sends 1500"),
        "{}",
        finding.summary
    );
    assert!(finding.fix.starts_with("ip link set dev cni0 mtu 1450"), "{}", finding.fix);
    // One odd port among larger ones, whatever the bridge says.
    let all = node(&[1500, 1400]);
    let finding = only(&all, "links.bridge_port_smaller");
    assert!(finding.summary.contains("port veth1 takes 1400"), "{}", finding.summary);
    assert!(finding.fix.contains("ip link set dev veth1 mtu 1500"), "{}", finding.fix);
    // One odd port that is larger than all others: that one is put right.
    let finding = only(&node(&[1450, 1450, 1500]), "links.bridge_port_smaller");
    assert!(
        finding.summary.contains("2 of 3 ports take 1450 bytes, veth2 sends 1500"),
        "{}",
        finding.summary
    );
    assert!(finding.fix.contains("ip link set dev veth2 mtu 1450"), "{}", finding.fix);
    // A port that is off carries nothing.
    let mut all = node(&[1450, 1450]);
    all[0].links[3].mtu_bytes = 1400;
    all[0].links[3].up = false;
    all[1].links[0].peer = None;
    assert_eq!(ids(&all), [""; 0]);
}

#[test]
fn a_tunnel_that_does_not_fit_below_names_the_arithmetic() {
    let mut all = node(&[1450]);
    all[0].links[0].mtu_bytes = 1400;
    let finding = only(&all, "links.tunnel_exceeds_underlay");
    assert!(finding.summary.contains("only 1350 fit"), "{}", finding.summary);
    assert!(finding.fix.contains("1400 − 50 = 1350: ip link set dev flannel.1 mtu 1350"), "{}", finding.fix);
    assert!(finding.fix.ends_with("raise eth0 and the network below it to 1500"), "{}", finding.fix);
    assert!(finding.summary.contains("fragments"));
    all[0].links[1].tunnel.as_mut().unwrap().dont_fragment = Some(DontFragment::Set);
    assert!(only(&all, "links.tunnel_exceeds_underlay").summary.contains("DF: larger ones are dropped"));

    // Exactly what fits, an overhead that is not known, a tunnel that is off: no claim.
    let mut all = node(&[1450]);
    all[0].links[1].mtu_bytes = 1450;
    assert_eq!(ids(&all), [""; 0]);
    all[0].links[1].mtu_bytes = 1500;
    all[0].links[1].overhead_bytes = None;
    assert_eq!(ids(&all), [""; 0]);
    let mut all = node(&[1450]);
    all[0].links[0].mtu_bytes = 1460;
    all[0].links[1].up = false;
    assert_eq!(ids(&all), [""; 0]);
}

#[test]
fn a_routed_tunnel_smaller_than_the_pods_is_worth_knowing() {
    let finding = only(&node(&[1500, 1500]), "links.pod_exceeds_tunnel");
    assert_eq!((finding.severity, finding.subject.as_str()), (Severity::Info, "host"));
    assert!(finding.fix.starts_with("1500 − 50 = 1450: flannel"), "{}", finding.fix);
    assert_eq!(ids(&node(&[1500])), ["links.pod_exceeds_tunnel"]);
    // The route inside the pod keeps packets small, as Cilium does it.
    let mut all = node(&[1500]);
    all[1].routes[0].mtu_bytes = Some(1450);
    assert_eq!(ids(&all), [""; 0]);
    // It keeps them smaller, not small enough: the evidence names the route, not the link.
    all[1].routes[0].mtu_bytes = Some(1480);
    let finding = only(&all, "links.pod_exceeds_tunnel");
    assert_eq!(finding.evidence[0].source, "netlink RTM_GETROUTE");
    assert_eq!(finding.evidence[0].value, 1480);
}

#[test]
fn a_tunnel_in_the_pods_own_bridge_drops_silently() {
    let bridged = |pod| {
        let mut all = node(&[pod]);
        all[0].links[1].master = Some("cni0".into());
        all[0].routes.pop();
        all
    };
    let finding = only(&bridged(1500), "links.pod_exceeds_bridged_tunnel");
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(ids(&bridged(1500)), ["links.pod_exceeds_bridged_tunnel"], "one cause, one finding");
    assert_eq!(ids(&bridged(1450)), [""; 0]);
}

#[test]
fn pods_larger_than_the_uplink_are_told_where_there_is_no_tunnel() {
    let mut all = node(&[1500]);
    all[0].links.remove(1);
    all[0].links[0].mtu_bytes = 1460;
    let finding = only(&all, "links.pod_exceeds_uplink");
    assert!(finding.fix.contains("\"mtu\": 1460 in the CNI's configuration"), "{}", finding.fix);
    assert_eq!(ids(&all), ["links.pod_exceeds_uplink"]);
}

#[test]
fn mixed_pods_are_listed_and_the_odd_one_named() {
    let finding = only(&node(&[1450, 1450, 1450, 1400]), "links.mixed_pod_mtu");
    assert!(finding.summary.contains("1450 in 3 pods"), "{}", finding.summary);
    assert!(finding.summary.contains("1400 in default/web-3"), "{}", finding.summary);
    assert!(finding.fix.contains("kubectl delete pod -n default web-3"), "{}", finding.fix);
    // A second interface with another MTU belongs to another network.
    let mut all = node(&[1450, 1450]);
    let mut second = all[1].links[0].clone();
    (second.index, second.name, second.mtu_bytes) = (3, "net1".into(), 1400);
    second.peer = None;
    all[1].links.insert(0, second);
    assert_eq!(ids(&all), [""; 0]);
}

#[test]
fn a_route_that_promises_more_than_its_link_is_believed_by_the_kernel() {
    let mut all = node(&[1450]);
    all[1].routes[0].mtu_bytes = Some(1500);
    let finding = only(&all, "links.route_mtu_exceeds_link");
    assert_eq!(finding.subject, "default/web-0");
    assert_eq!(
        finding.fix,
        "nsprobe exec default/web-0 -- ip route show default prints the route: give the whole line, all next hops too, to nsprobe exec default/web-0 -- ip route replace, with mtu 1450 in place of what it says"
    );
    all[1].routes[0].mtu_bytes = Some(1450);
    assert_eq!(ids(&all), [""; 0]);
}

#[test]
fn a_bridge_that_is_routed_into_takes_what_its_pods_welcome() {
    let mut all = node(&[1450, 1450]);
    all[0].links[2].mtu_bytes = 1400;
    assert_eq!(ids(&all), [""; 0], "it only switches");
    all[0].links[2].addresses = vec![("10.244.1.1".parse().unwrap(), 24)];
    let finding = only(&all, "links.bridge_below_pods");
    assert!(finding.summary.contains("up to 1450 bytes") && finding.summary.contains("cni0 takes 1400"));
    assert!(finding.fix.starts_with("ip link set dev cni0 mtu 1450;"), "{}", finding.fix);
    assert_eq!(ids(&all), ["links.bridge_below_pods"]);
    // Pods whose routes keep them below it announce what fits.
    for pod in &mut all[1..] {
        pod.routes.iter_mut().for_each(|route| route.mtu_bytes = Some(1400));
    }
    assert_eq!(ids(&all), [""; 0]);
    // As small as a small port makes it: that port is told.
    let mut all = node(&[1450, 1400]);
    all[0].links[2].addresses = vec![("10.244.1.1".parse().unwrap(), 24)];
    assert!(!ids(&all).contains(&"links.bridge_below_pods"));
}

#[test]
fn a_vpn_of_the_nodes_owner_is_none_of_the_pods() {
    let mut all = node(&[1450, 1450]);
    for (number, pod) in all[1..].iter_mut().enumerate() {
        pod.links[0].addresses = vec![(format!("10.244.1.{}", 2 + number).parse().unwrap(), 24)];
    }
    all[0].links.push(Link { mtu_bytes: 1280, ..Link { index: 9, name: "wg0".into(), ..vxlan(1280) } });
    all[0].routes.push(route("10.200.0.0/24", None, "wg0", None));
    assert_eq!(ids(&all), [""; 0]);
    // It may carry pods, though.
    all[0].routes.push(route("10.244.9.0/24", None, "wg0", None));
    let finding = only(&all, "links.pod_exceeds_tunnel");
    assert!(finding.summary.contains("wg0 takes 1280"), "{finding:?}");
}

#[test]
fn pods_that_are_routed_by_a_second_interface_are_held_against_that_one() {
    let mut all = node(&[1500]);
    all[1].links[0].addresses = vec![("10.244.1.2".parse().unwrap(), 24)];
    all[0].links[1] = link(3, "eth1", "", 1450);
    all[0].routes[2] = route("10.244.2.0/24", Some("172.16.0.11"), "eth1", None);
    let finding = only(&all, "links.pod_exceeds_uplink");
    assert!(finding.summary.contains("eth1 takes 1450 (the way to other nodes' pods"), "{finding:?}");
    let chain = &crate::diagnose::chain::chains(&all[1], &all[0])[0];
    assert_eq!(chain.hops.last().map(|hop| hop.name.as_str()), Some("eth1"));
    all[0].links[1].mtu_bytes = 1500;
    assert_eq!(ids(&all), [""; 0]);
    // Another network of the node's own is none of theirs.
    all[0].links[1].mtu_bytes = 1450;
    all[0].routes[2].destination = "172.17.0.0/16".into();
    assert_eq!(ids(&all), [""; 0]);
}

#[test]
fn the_interface_of_the_cni_is_eth0_wherever_the_default_route_leads() {
    let mut all = node(&[1450, 1450]);
    let mut second = all[1].links[0].clone();
    (second.index, second.name, second.mtu_bytes, second.kind) =
        (3, "net1".into(), 9000, Some("macvlan".into()));
    all[1].links.push(second);
    all[1].routes[0].interface = Some("net1".into());
    assert_eq!(ids(&all), [""; 0]);
}

#[test]
fn an_mtu_that_takes_ipv6_away_is_told_as_one() {
    let mut all = node(&[1450]);
    all[0].links[0].mtu_bytes = 1300;
    let fix = only(&all, "links.tunnel_exceeds_underlay").fix;
    assert!(fix.contains("1300 − 50 = 1250") && fix.contains("takes IPv6 off"), "{fix}");
    all[0].links[0].mtu_bytes = 1330;
    let fix = only(&all, "links.tunnel_exceeds_underlay").fix;
    assert!(fix.contains("1330 − 50 = 1280") && !fix.contains("IPv6"), "{fix}");
}

#[test]
fn a_bridge_inside_a_pod_is_judged_when_something_hangs_on_it() {
    let mut all = node(&[1450]);
    all[1].links.push(link(5, "docker0", "bridge", 1500));
    assert_eq!(ids(&all), [""; 0], "an engine that runs nothing");
    all[1].links.push(Link { master: Some("docker0".into()), ..link(6, "vethx", "veth", 1500) });
    let finding = only(&all, "links.nested_bridge_exceeds_pod");
    assert_eq!(finding.subject, "default/web-0");
    assert!(finding.fix.contains("dockerd --mtu 1450"), "{}", finding.fix);
    all[1].links[1].mtu_bytes = 1450;
    all[1].links[2].mtu_bytes = 1450;
    assert_eq!(ids(&all), [""; 0]);
}

#[test]
fn what_could_not_be_read_is_never_called_healthy() {
    let mut all = node(&[1450]);
    all[1].unreadable = 2;
    assert_eq!(only(&all, "links.not_read").subject, "default/web-0");
    assert_eq!(check_unread("default/x", "gone").id, "links.not_read");
}

#[test]
fn a_route_that_announces_larger_segments_than_fit_is_told() {
    for (ipv6, headers) in [(false, 40), (true, 60)] {
        let mut all = node(&[1450]);
        all[1].routes[0].ipv6 = ipv6;
        all[1].routes[0].advmss_bytes = Some(1450 - headers + 1);
        let finding = only(&all, "links.advmss_exceeds_mtu");
        assert_eq!(finding.subject, "default/web-0");
        assert!(finding.summary.contains(&format!("+ {headers} = 1451")), "{}", finding.summary);
        let fits = format!(", with advmss {} in place of what it says", 1450 - headers);
        assert!(finding.fix.ends_with(&fits), "{}", finding.fix);
        assert_eq!(finding.fix.contains("ip -6 route show"), ipv6, "{}", finding.fix);
        all[1].routes[0].advmss_bytes = Some(1450 - headers);
        assert_eq!(ids(&all), [""; 0]);
    }
}

#[test]
fn tunnels_that_carry_each_other_in_a_circle_end() {
    // A bridge whose port is a VXLAN that leaves by that very bridge, and two tunnels in each other.
    let mut all = node(&[1450]);
    all[0].links[1].master = Some("cni0".into());
    all[0].links[1].underlay = Some("cni0".into());
    let ways = crate::diagnose::chain::chains(&all[1], &all[0]);
    assert_eq!(
        ways[0].hops.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(),
        ["eth0", "veth0", "cni0", "flannel.1", "cni0"]
    );
    let mut all = node(&[1450]);
    let other =
        Link { index: 9, name: "wg0".into(), underlay: Some("flannel.1".into()), ..all[0].links[1].clone() };
    all[0].links[1].underlay = Some("wg0".into());
    all[0].links.push(other);
    let ways = crate::diagnose::chain::chains(&all[1], &all[0]);
    assert!(ways.iter().all(|way| way.hops.len() <= 6), "{ways:?}");
    check_links(&all, HOST);
}

#[test]
fn a_tunnel_in_a_vlan_is_followed_down_to_the_device_and_each_way_is_a_chain() {
    let mut all = node(&[1450]);
    let lower =
        LinkRef { netns_inode: Some(HOST), index: 2, name: Some("eth0".into()), mtu_bytes: Some(1500) };
    all[0].links.push(Link { peer: Some(lower), ..link(8, "eth0.100", "vlan", 1500) });
    let way = |interface: &str, mtu, remote: &str| crate::facts::Egress {
        interface: Some(interface.into()),
        mtu_bytes: Some(mtu),
        cached_path_mtu_bytes: None,
        remotes: vec![remote.parse().unwrap()],
    };
    all[0].links[1].egress = vec![way("eth0.100", 1500, "10.0.0.2"), way("eth0", 1400, "10.0.0.3")];
    let ways = crate::diagnose::chain::chains(&all[1], &all[0]);
    let told: Vec<String> = ways
        .iter()
        .map(|w| {
            w.hops
                .iter()
                .skip(3)
                .map(|h| format!("{} {}", h.name, h.carries_bytes()))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(
        told,
        ["flannel.1 1450 eth0 1350", "flannel.1 1450 eth0.100 1450 eth0 1450"],
        "the narrowest first"
    );
}
