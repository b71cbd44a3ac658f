//! Each rule fires on what it is for, and is silent on its healthy twin.

use super::*;
use crate::facts::{LinkRef, PolicyRules};
use proptest::prelude::*;

const HOST: u64 = 1;

fn link(index: u32, name: &str, kind: &str, addresses: &[&str]) -> Link {
    let address = |text: &&str| (text.parse().unwrap(), if text.contains(':') { 64 } else { 24 });
    Link {
        index,
        name: name.into(),
        kind: (!kind.is_empty()).then(|| kind.into()),
        mtu_bytes: 1500,
        state: "up".into(),
        up: true,
        addresses: addresses.iter().map(address).collect(),
        ..Link::default()
    }
}

fn route(to: &str, via: Option<&str>, interface: &str) -> Route {
    Route {
        destination: to.into(),
        via: via.map(|v| v.parse().unwrap()),
        interface: Some(interface.into()),
        mtu_bytes: None,
        advmss_bytes: None,
        ipv6: to.contains(':') || via.is_some_and(|v| v.contains(':')),
    }
}

fn other_end(netns: u64, index: u32) -> Option<LinkRef> {
    Some(LinkRef { netns_inode: Some(netns), index, name: None, mtu_bytes: None })
}

/// A dual-stack node with two pods on a bridge.
fn node() -> Vec<Namespace> {
    let mut host = Namespace {
        subject: "host".into(),
        netns_inode: HOST,
        links: vec![
            link(2, "eth0", "", &["10.0.0.1", "fd00::1"]),
            link(3, "flannel.1", "vxlan", &["10.244.1.0"]),
            link(4, "cni0", "bridge", &["10.244.1.1", "fd00:244:1::1", "fe80::1"]),
        ],
        routes: vec![
            route("default", Some("10.0.0.254"), "eth0"),
            route("10.0.0.0/24", None, "eth0"),
            route("10.244.1.0/24", None, "cni0"),
            route("10.244.2.0/24", Some("10.244.2.0"), "flannel.1"),
            route("fd00:244:1::/64", None, "cni0"),
        ],
        unreadable: 0,
        policy_rules: PolicyRules::None,
    };
    let mut all = Vec::new();
    for number in 0..2u32 {
        let (inode, outside) = (100 + u64::from(number), 10 + number);
        let (four, six) = (format!("10.244.1.{}", number + 2), format!("fd00:244:1::{}", number + 2));
        host.links.push(Link {
            peer: other_end(inode, 2),
            master: Some("cni0".into()),
            ..link(outside, &format!("veth{number}"), "veth", &[])
        });
        all.push(Namespace {
            subject: format!("default/web-{number}"),
            netns_inode: inode,
            links: vec![Link {
                peer: other_end(HOST, outside),
                ..link(2, "eth0", "veth", &[&four, &six, "fe80::2"])
            }],
            routes: vec![
                route("default", Some("10.244.1.1"), "eth0"),
                route("10.244.1.0/24", None, "eth0"),
                route("default", Some("fd00:244:1::1"), "eth0"),
            ],
            unreadable: 0,
            policy_rules: PolicyRules::None,
        });
    }
    all.insert(0, host);
    all
}

#[track_caller]
fn only(id: &str, spoil: impl FnOnce(&mut [Namespace])) -> Finding {
    let mut all = node();
    spoil(&mut all);
    let mut findings = check_reach(&all, HOST);
    assert_eq!(findings.iter().map(|f| f.id).collect::<Vec<_>>(), [id], "{findings:#?}");
    assert!(!findings[0].evidence.is_empty() && !findings[0].fix.is_empty());
    assert!(RULES.iter().any(|r| r.id == id));
    findings.remove(0)
}

#[track_caller]
fn silent(change: impl FnOnce(&mut [Namespace])) {
    let mut all = node();
    change(&mut all);
    assert_eq!(check_reach(&all, HOST), []);
}

#[test]
fn a_healthy_node_has_no_finding() {
    silent(|_| {});
    assert_eq!(check_reach(&[], HOST), []);
    // Without the node its ends are unknown, not down.
    assert_eq!(check_reach(&node()[1..], HOST), []);
}

#[test]
fn an_end_that_is_down_is_named_with_its_owner() {
    let inside = only("links.end_down", |all| {
        all[1].links[0].up = false;
        all[1].routes.clear();
    });
    assert!(inside.fix.starts_with("nsprobe exec default/web-0 -- ip link set dev eth0 up"), "{inside:?}");
    let outside = only("links.end_down", |all| all[0].links[3].up = false);
    assert!(outside.fix.starts_with("ip link set dev veth0 up"), "{outside:?}");
    let mut all = node();
    all[0].links[2].up = false;
    let found = check_reach(&all, HOST);
    assert!(found.iter().filter(|f| f.id == "links.end_down").count() == 2, "the bridge, for both pods");
    // An interface that nobody uses.
    silent(|all| {
        let mut idle = link(9, "net1", "veth", &[]);
        (idle.up, idle.peer) = (false, other_end(HOST, 10));
        all[1].links.push(idle);
    });
}

#[test]
fn a_pod_has_a_default_route_for_each_family_that_it_speaks() {
    let four = only("links.no_default_route", |all| drop(all[1].routes.remove(0)));
    assert!(four.summary.contains("IPv4") && four.subject == "default/web-0", "{four:?}");
    let six = only("links.no_default_route", |all| drop(all[1].routes.remove(2)));
    assert!(six.summary.contains("IPv6"), "{six:?}");
    silent(|all| {
        all[1].routes.remove(2);
        all[1].links[0].addresses.remove(1);
    });
    // It says what is reached all the same; two halves are as good as a whole.
    let some = only("links.no_default_route", |all| {
        all[1].routes[0].destination = "10.0.0.0/8".into();
    });
    assert!(some.summary.ends_with("it reaches its own subnet, 10.0.0.0/8 and nothing else"), "{some:?}");
    silent(|all| {
        all[1].routes[0].destination = "0.0.0.0/1".into();
        let other = Route { destination: "128.0.0.0/1".into(), ..all[1].routes[0].clone() };
        all[1].routes.push(other);
    });
    // A second network has addresses and no default route.
    silent(|all| {
        all[1].routes.remove(2);
        all[1].links[0].addresses.remove(1);
        let end =
            Link { peer: other_end(HOST, 77), ..link(3, "net1", "veth", &["fd00:99::5", "192.168.7.5"]) };
        all[1].links.push(end);
    });
    // The default route stands in a table of its own.
    silent(|all| {
        all[1].routes.clear();
        all[1].policy_rules = PolicyRules::Elsewhere;
    });
    // On the link, as point-to-point CNIs set it; and routes that could not all be read.
    silent(|all| {
        all[1].routes.clear();
        all[1].routes.push(route("default", None, "eth0"));
        all[1].routes.push(Route { ipv6: true, ..route("default", None, "eth0") });
    });
    silent(|all| {
        all[1].routes.clear();
        all[1].unreadable = 1;
    });
}

#[test]
fn the_node_knows_the_way_to_its_own_pods() {
    let gone = only("links.no_route_to_pod", |all| {
        all[0].routes.remove(2);
        all.swap(0, 0);
        all[2].links[0].addresses.clear();
        all[2].routes.clear();
    });
    assert!(
        gone.summary.contains("10.244.1.2") && gone.summary.contains("no route but the default"),
        "{gone:?}"
    );
    // A host route by another interface.
    let stolen = only("links.no_route_to_pod", |all| {
        all[0].routes.push(route("10.244.1.2", Some("10.244.2.0"), "flannel.1"));
    });
    assert!(stolen.summary.contains("leads by flannel.1"), "{stolen:?}");
    // Routed pods: one host route each; the block itself is a black hole.
    let routed = |all: &mut [Namespace]| {
        for number in 0..2 {
            let name = format!("veth{number}");
            all[0].routes.push(route(&format!("10.244.1.{}", number + 2), None, &name));
            all[0].routes.push(route(&format!("fd00:244:1::{}", number + 2), None, &name));
            all[0].links[3 + number].master = None;
        }
        all[0].routes[2] = Route { interface: None, ..route("blackhole 10.244.1.0/24", None, "") };
        all[0].routes.remove(4);
    };
    silent(routed);
    only("links.no_route_to_pod", |all| {
        routed(all);
        all[0].routes.retain(|r| r.destination != "10.244.1.2");
    });
    // Rules of the node name other tables: the route may stand there.
    silent(|all| {
        all[0].routes.remove(2);
        all[0].policy_rules = PolicyRules::Elsewhere;
    });
    // A lookup through all rules tells.
    let looked_up = |all: &mut [Namespace], way: Option<&str>| {
        all[0].policy_rules = PolicyRules::Elsewhere;
        let address = "10.244.1.2".parse().unwrap();
        all[1].links[0].ways_back = vec![(address, way.map(Into::into))];
    };
    silent(|all| {
        all[0].routes.remove(2);
        looked_up(all, Some("cni0"));
    });
    let astray = only("links.no_route_to_pod", |all| looked_up(all, Some("flannel.1")));
    assert!(astray.summary.contains("ip route get leads by flannel.1"), "{astray:?}");
    let none = only("links.no_route_to_pod", |all| looked_up(all, None));
    assert!(none.summary.contains("no table has a route to it"), "{none:?}");
    // The bridge is in a VRF: its table counts.
    let in_vrf = |all: &mut [Namespace]| {
        all[0].links.push(link(6, "red", "vrf", &[]));
        all[0].links[2].master = Some("red".into());
    };
    silent(|all| {
        all[0].routes.remove(2);
        in_vrf(all);
    });
    let vrf = only("links.no_route_to_pod", |all| {
        in_vrf(all);
        looked_up(all, None);
        all[0].policy_rules = PolicyRules::None;
    });
    assert!(vrf.fix.contains("dev cni0 vrf red"), "{vrf:?}");
    // A second network over a bridge that is only a switch for it, though the bridge has an address of its own.
    silent(|all| {
        all[0].links.push(link(5, "br1", "bridge", &["192.168.1.1"]));
        all[0].links.push(Link {
            peer: other_end(100, 3),
            master: Some("br1".into()),
            ..link(30, "veth30", "veth", &[])
        });
        all[1].links.push(Link { peer: other_end(HOST, 30), ..link(3, "net1", "veth", &["10.9.0.3"]) });
    });
    // Open vSwitch switches by itself; Cilium routes to its own device.
    silent(|all| {
        all[0].routes.remove(2);
        all[0]
            .links
            .iter_mut()
            .filter(|l| l.master.is_some())
            .for_each(|l| l.master = Some("ovs-system".into()));
    });
    // Its device is always down.
    silent(|all| {
        all[0].routes.remove(2);
        let bridge = all[0].links.iter_mut().find(|l| l.name == "cni0").unwrap();
        (bridge.kind, bridge.up, bridge.state) = (Some("openvswitch".into()), false, "down".into());
    });
    silent(|all| {
        all[0].links[3].name = "lxc1".into();
        all[0].routes.push(route("10.244.1.2", None, "cilium_host"));
    });
}

#[test]
fn an_address_belongs_to_one() {
    let same = |all: &mut [Namespace]| all[2].links[0].addresses[0] = all[1].links[0].addresses[0];
    let twice = only("links.duplicate_address", same);
    assert!(
        twice.summary.contains("default/web-0 and default/web-1 have the same address 10.244.1.2"),
        "{twice:?}"
    );
    let gateway = only("links.duplicate_address", |all| {
        all[1].links[0].addresses[0] = ("10.244.1.1".parse().unwrap(), 24);
    });
    assert!(gateway.summary.contains("default/web-0 and host"), "{gateway:?}");
    // Open vSwitch keeps its networks apart.
    silent(|all| {
        same(all);
        let bridge = all[0].links.iter_mut().find(|l| l.name == "cni0").unwrap();
        bridge.kind = Some("openvswitch".into());
    });
    // A bridge may keep VLANs apart.
    silent(|all| {
        same(all);
        all[0].links.iter_mut().find(|l| l.name == "cni0").unwrap().vlan_filtering = true;
    });
    // Link-local addresses repeat; so do those of networks that know nothing of each other.
    silent(|all| all[2].links[0].addresses[2] = all[1].links[0].addresses[2]);
    silent(|all| {
        for (pod, bridge) in [(1, "br1"), (2, "br2")] {
            let mut second = link(7, "net1", "veth", &["192.168.0.1"]);
            second.peer = other_end(HOST, 40 + u32::try_from(pod).unwrap());
            all[pod].links.push(second);
            let end = Link {
                master: Some(bridge.into()),
                ..link(40 + u32::try_from(pod).unwrap(), bridge, "veth", &[])
            };
            all[0].links.push(end);
            all[0].links.push(link(50 + u32::try_from(pod).unwrap(), bridge, "bridge", &[]));
        }
    });
}

#[test]
fn a_pod_subnet_is_nobody_elses() {
    let with = |to: &'static str, via, by: &'static str| {
        move |all: &mut [Namespace]| all[0].routes.insert(2, route(to, via, by))
    };
    let same = only("links.overlapping_routes", with("10.244.1.128/25", Some("10.244.3.0"), "flannel.1"));
    assert!(same.summary.contains("10.244.1.0/24") && same.summary.contains("flannel.1"), "{same:?}");
    only("links.overlapping_routes", with("10.244.1.0/24", None, "docker0"));
    only("links.overlapping_routes", with("fd00:244:1::/64", None, "eth0"));
    // A wider route, one host, another subnet, and no way at all.
    silent(with("10.244.0.0/16", Some("10.244.3.0"), "flannel.1"));
    silent(with("10.244.1.200", Some("10.0.0.2"), "eth0"));
    silent(with("10.244.11.0/24", Some("10.244.3.0"), "flannel.1"));
}

#[test]
fn ipv6_needs_1280_bytes() {
    // VPNs and PPP are small on purpose.
    silent(|all| all[0].links.push(Link { mtu_bytes: 576, ..link(9, "tun0", "tun", &["10.8.0.1"]) }));
    let narrow = only("links.below_ipv6_minimum", |all| all[0].links[1].mtu_bytes = 1279);
    assert!(narrow.summary.contains("flannel.1") && narrow.subject == "host", "{narrow:?}");
    silent(|all| all[0].links[1].mtu_bytes = 1280);
    silent(|all| {
        all[0].links[1].mtu_bytes = 1000;
        for namespace in all.iter_mut() {
            namespace.routes.retain(|r| !r.destination.contains(':') && r.via.is_none_or(|v| v.is_ipv4()));
            namespace.links.iter_mut().for_each(|l| l.addresses.retain(|(a, _)| a.is_ipv4()));
        }
    });
}

#[test]
fn a_route_mtu_below_the_links_is_told_as_no_fault() {
    let one = only("links.route_mtu_in_force", |all| all[1].routes[0].mtu_bytes = Some(1450));
    assert_eq!((one.severity, one.subject.as_str()), (Severity::Info, "default/web-0"));
    let both = only("links.route_mtu_in_force", |all| {
        all[1..].iter_mut().for_each(|pod| pod.routes[0].mtu_bytes = Some(1450));
    });
    assert!(both.subject == "host" && both.summary.contains("and 1 more"), "{both:?}");
    silent(|all| all[1].routes[0].mtu_bytes = Some(1500));
}

proptest! {
    #[test]
    fn a_network_holds_what_a_mask_says(network: u32, address: u32, length in 0u8..=32) {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let expected = network & mask == address & mask;
        let four = |bits: u32| IpAddr::from(bits.to_be_bytes());
        prop_assert_eq!(holds((four(network), length), four(address)), expected);
        prop_assert!(!holds((four(network), length), IpAddr::from([0u8; 16])));
    }

    #[test]
    fn no_destination_upsets_the_rules(to in "\\PC{0,40}", unreadable in 0u32..2) {
        let mut all = node();
        all[0].routes.push(route(&to, None, "eth0"));
        all[0].unreadable = unreadable;
        let _ = check_reach(&all, HOST);
    }
}
