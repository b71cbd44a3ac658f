//! Each rule fires on what it is for, and is silent on its healthy twin.

use super::*;
use crate::facts::{
    Conntrack, Counters, Egress, ForwardingEntry, InterfaceSettings, KernelCounters, KernelSettings,
    KernelTables, LinkRef, NeighbourEntry, NeighbourState, Offloads, Outcome, RememberedMtu, Route, Severity,
    TableUsage, Tunnel,
};
use std::collections::BTreeMap;

#[path = "tests_counted.rs"]
mod counted;
#[path = "tests_neighbours.rs"]
mod neighbours;

const MAC: [u8; 6] = [14, 241, 0, 0, 0, 2];

fn link(index: u32, name: &str, kind: &str) -> Link {
    Link {
        index,
        name: name.into(),
        kind: (!kind.is_empty()).then(|| kind.into()),
        mtu_bytes: 1500,
        state: "up".into(),
        up: true,
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
        ..Route::default()
    }
}

/// A flannel node in good health, with one pod; dual stack.
fn node() -> (Namespace, KernelState) {
    let vxlan = Link {
        mtu_bytes: 1450,
        overhead_bytes: Some(50),
        underlay: Some("eth0".into()),
        tunnel: Some(Tunnel { outer_ipv6: Some(false), port: Some(8472), ..Tunnel::default() }),
        offloads: Some(Offloads { tx_checksum: true, tso: true, gso: true, gro: true }),
        ..link(3, "flannel.1", "vxlan")
    };
    let veth = Link {
        peer: Some(LinkRef { netns_inode: Some(9), index: 2, name: None, mtu_bytes: None }),
        master: Some("cni0".into()),
        ..link(5, "veth0", "veth")
    };
    let namespace = Namespace {
        subject: "host".into(),
        netns_inode: 1,
        links: vec![link(2, "eth0", ""), vxlan, link(4, "cni0", "bridge"), veth],
        routes: vec![
            route("default", Some("10.0.0.254"), "eth0"),
            route("10.244.1.0/24", None, "cni0"),
            route("fd00:244:1::/64", None, "cni0"),
            route("10.244.2.0/24", Some("10.244.2.0"), "flannel.1"),
        ],
        unreadable: 0,
        policy_rules: crate::facts::PolicyRules::None,
    };
    (namespace, healthy("host"))
}

fn neighbour(address: &str, interface: &str, state: NeighbourState, mac: [u8; 6]) -> NeighbourEntry {
    NeighbourEntry {
        address: address.parse().unwrap(),
        interface: interface.into(),
        state,
        mac: Some(mac),
        unchanged_s: Some(2),
        uncounted: state == NeighbourState::Permanent,
    }
}

fn healthy(subject: &str) -> KernelState {
    let forwards = InterfaceSettings {
        forwarding: Some(true),
        forwarding_v6: Some(true),
        rp_filter: Some(2),
        ..InterfaceSettings::default()
    };
    let counters = |tx, rx| Counters { tx_packets: tx, rx_packets: rx, ..Counters::default() };
    KernelState {
        subject: subject.into(),
        netns_inode: 1,
        settings: KernelSettings {
            values: BTreeMap::from([
                ("net.ipv4.ip_forward", 1),
                ("net.ipv4.ip_forward_use_pmtu", 0),
                ("net.ipv4.tcp_mtu_probing", 0),
                ("net.ipv4.icmp_echo_ignore_all", 0),
                ("net.ipv4.conf.all.rp_filter", 0),
                ("net.ipv6.conf.all.forwarding", 1),
                ("net.bridge.bridge-nf-call-iptables", 1),
                ("net.bridge.bridge-nf-call-ip6tables", 1),
                ("net.netfilter.nf_conntrack_tcp_be_liberal", 0),
            ]),
            unreadable: None,
            interfaces: ["eth0", "cni0", "flannel.1"].map(|n| (n.to_owned(), forwards)).into(),
        },
        counters: KernelCounters {
            protocols: Ok(BTreeMap::from([
                ("UdpInCsumErrors", 0),
                ("IpReasmFails", 0),
                ("Ip6ReasmFails", 0),
                ("UdpRcvbufErrors", 0),
                ("TcpExtListenOverflows", 0),
                ("TcpExtIPReversePathFilter", 0),
                ("TcpExtTCPMTUPFail", 0),
                ("TcpExtTCPMTUPSuccess", 0),
                ("IpFragFails", 0),
            ])),
            links: Ok([("eth0", counters(500, 500)), ("flannel.1", counters(200, 3))]
                .map(|(n, c)| (n.to_owned(), c))
                .into()),
            softnet_dropped: Ok(0),
        },
        conntrack: Ok(Conntrack {
            count: 100,
            max: 1000,
            drop: Some(0),
            early_drop: Some(0),
            insert_failed: Some(0),
            invalid: Some(0),
        }),
        tables: KernelTables {
            neighbours: Ok(vec![
                neighbour("10.0.0.254", "eth0", NeighbourState::Known, [2; 6]),
                neighbour("10.0.0.2", "eth0", NeighbourState::Known, [3; 6]),
                neighbour("10.244.2.0", "flannel.1", NeighbourState::Permanent, MAC),
                // A pod that has just ended is nobody's gateway.
                neighbour("10.244.1.77", "cni0", NeighbourState::Failed, [4; 6]),
            ]),
            forwarding: Ok(vec![ForwardingEntry {
                interface: "flannel.1".into(),
                mac: MAC,
                remote: Some("10.0.0.2".parse().unwrap()),
            }]),
            remembered: Ok(Vec::new()),
            arp_usage: Ok(TableUsage { entries: 10, limit: 1024, refused: Some(0) }),
        },
        classifiers: Ok(Vec::new()),
    }
}

fn look(namespace: &Namespace, before: Option<&KernelState>, now: &KernelState, role: Role) -> Looked {
    let looked = check_kernel(KernelView { role, now, before, namespace: Some(namespace) });
    assert!(looked.findings.iter().all(|f| !f.evidence.is_empty() && !f.fix.is_empty()));
    assert!(looked.findings.iter().all(|f| RULES.iter().any(|r| r.id == f.id)));
    looked
}

/// Spoils a healthy node between two looks, and wants exactly this finding.
#[track_caller]
fn only(id: &str, spoil: impl FnOnce(&mut Namespace, &mut KernelState)) -> Finding {
    let (mut namespace, before) = node();
    let mut now = before.clone();
    spoil(&mut namespace, &mut now);
    let mut findings = look(&namespace, Some(&before), &now, Role::Node).findings;
    let ids: Vec<_> = findings.iter().map(|f| f.id).collect();
    assert_eq!(ids, [id], "{findings:#?}");
    findings.remove(0)
}

/// A change that is no fault.
#[track_caller]
fn silent(change: impl FnOnce(&mut Namespace, &mut KernelState)) {
    let (mut namespace, before) = node();
    let mut now = before.clone();
    change(&mut namespace, &mut now);
    assert_eq!(look(&namespace, Some(&before), &now, Role::Node).findings, []);
}

fn outcome(looked: &Looked, id: &str) -> Outcome {
    looked.checks.iter().find(|c| c.id == id).unwrap_or_else(|| panic!("no check {id}")).outcome
}

fn counter(now: &mut KernelState, name: &'static str, value: u64) {
    now.counters.protocols.as_mut().unwrap().insert(name, value);
}

#[test]
fn a_healthy_node_has_no_finding_and_its_checks_pass() {
    silent(|_, _| {});
    let (namespace, now) = node();
    let looked = look(&namespace, Some(&now), &now, Role::Node);
    for check in &looked.checks {
        let expected = if check.id == "net.firewall" { Outcome::NotChecked } else { Outcome::Passed };
        assert_eq!(check.outcome, expected, "{check:?}");
        assert!(!check.why.is_empty(), "{check:?}");
    }
}

#[test]
fn what_was_read_once_only_is_not_checked_for_rises() {
    let (namespace, now) = node();
    let looked = look(&namespace, None, &now, Role::Node);
    for id in ["net.losses", "net.interfaces", "node.backlog"] {
        assert_eq!(outcome(&looked, id), Outcome::NotChecked, "{id}");
    }
    assert_eq!(looked.findings, []);
}

#[test]
fn nothing_read_is_nothing_checked_and_nothing_found() {
    let why = || "no such file".to_owned();
    let (_, mut now) = node();
    now.settings = KernelSettings { unreadable: Some(why()), ..KernelSettings::default() };
    now.counters = KernelCounters { protocols: Err(why()), links: Err(why()), softnet_dropped: Err(why()) };
    now.conntrack = Err(why());
    now.tables = KernelTables {
        neighbours: Err(why()),
        forwarding: Err(why()),
        remembered: Err(why()),
        arp_usage: Err(why()),
    };
    now.classifiers = Err(why());
    let (namespace, _) = node();
    for namespace in [None, Some(&namespace)] {
        let looked = check_kernel(KernelView { role: Role::Node, now: &now, before: Some(&now), namespace });
        assert_eq!(looked.findings, []);
        assert!(looked.checks.iter().all(|c| c.outcome == Outcome::NotChecked), "{:#?}", looked.checks);
    }
}

#[test]
fn a_node_with_pods_forwards() {
    let off = |now: &mut KernelState, name: &'static str| now.settings.values.insert(name, 0);
    let four = only("net.forwarding_off", |_, now| {
        off(now, "net.ipv4.ip_forward");
    });
    assert!(four.summary.contains("cni0") && four.fix.contains("net.ipv4.ip_forward=1"), "{four:?}");
    assert_eq!(four.severity, Severity::Critical);
    let six = only("net.forwarding_off", |_, now| {
        off(now, "net.ipv6.conf.all.forwarding");
    });
    assert!(six.fix.contains("net.ipv6.conf.all.forwarding=1") && !six.fix.contains("ip_forward"), "{six:?}");
    let one = only("net.forwarding_off", |_, now| {
        now.settings.interfaces.get_mut("cni0").unwrap().forwarding = Some(false);
    });
    assert!(one.fix.contains("net.ipv4.conf.cni0.forwarding=1"), "{one:?}");
    // IPv4 only pods; no pods at all; a veth that is this namespace's own uplink; unknown is not off.
    silent(|namespace, now| {
        namespace.routes.remove(2);
        off(now, "net.ipv6.conf.all.forwarding");
    });
    silent(|namespace, now| {
        namespace.links.pop();
        off(now, "net.ipv4.ip_forward");
    });
    silent(|_, now| {
        now.settings.values.remove("net.ipv4.ip_forward");
    });
    silent(|namespace, now| {
        namespace.links.pop();
        namespace.links[0].kind = Some("veth".into());
        namespace.links[0].peer = Some(LinkRef { netns_inode: None, index: 7, name: None, mtu_bytes: None });
        off(now, "net.ipv4.ip_forward");
    });
    // IPv6 alone: kubeadm asks such a node for no forwarding of IPv4.
    silent(|namespace, now| {
        namespace.routes.remove(1);
        off(now, "net.ipv4.ip_forward");
        now.settings.interfaces.get_mut("cni0").unwrap().forwarding = Some(false);
    });
    let (namespace, mut now) = node();
    off(&mut now, "net.ipv4.ip_forward");
    assert_eq!(look(&namespace, None, &now, Role::Pod).findings, [], "a pod need not forward");
}

#[test]
fn packets_in_a_bridge_of_pods_meet_the_service_rules() {
    let off = only("net.bridge_filter_off", |_, now| {
        now.settings.values.insert("net.bridge.bridge-nf-call-iptables", 0);
    });
    assert!(off.fix.starts_with("sysctl -w net.bridge.bridge-nf-call-iptables=1;"), "{off:?}");
    let missing = only("net.bridge_filter_off", |_, now| {
        now.settings.values.retain(|name, _| !name.contains("bridge"));
        // Which nobody looks at.
        now.settings.interfaces.get_mut("cni0").unwrap().filters = Some(true);
    });
    assert!(missing.fix.starts_with("modprobe br_netfilter;"), "{missing:?}");
    assert_eq!(missing.evidence.len(), 2);
    // No pod is on the bridges that others make.
    for name in ["docker0", "br-0123456789ab", "virbr0", "podman1"] {
        silent(|namespace, now| {
            now.settings.values.insert("net.bridge.bridge-nf-call-iptables", 0);
            namespace.links[2].name = name.into();
            namespace.links[3].master = Some(name.into());
            namespace.routes[1].interface = Some(name.into());
            namespace.routes[2].interface = Some(name.into());
            let settings = now.settings.interfaces.remove("cni0").unwrap();
            now.settings.interfaces.insert(name.into(), settings);
        });
    }
    // The bridge's own setting is as good; of IPv6 it is another.
    silent(|_, now| {
        now.settings.values.insert("net.bridge.bridge-nf-call-iptables", 0);
        now.settings.interfaces.get_mut("cni0").unwrap().filters = Some(true);
    });
    only("net.bridge_filter_off", |_, now| {
        now.settings.values.insert("net.bridge.bridge-nf-call-iptables", 0);
        let own = now.settings.interfaces.get_mut("cni0").unwrap();
        (own.filters, own.filters_v6) = (Some(false), Some(true));
    });
    // No bridge: routed pods.
    silent(|namespace, now| {
        now.settings.values.insert("net.bridge.bridge-nf-call-iptables", 0);
        namespace.links[3].master = None;
    });
}

#[test]
fn conntrack_is_full_or_nearly() {
    let set = |count, drop| {
        move |_: &mut Namespace, now: &mut KernelState| {
            let conntrack = now.conntrack.as_mut().unwrap();
            (conntrack.count, conntrack.drop) = (count, Some(drop));
        }
    };
    let full = only("net.conntrack_full", set(1000, 0));
    assert!(full.fix.contains("nf_conntrack_max=2000"), "{full:?}");
    only("net.conntrack_full", set(990, 0));
    only("net.conntrack_full", |_, now| now.conntrack.as_mut().unwrap().early_drop = Some(1));
    only("net.conntrack_nearly_full", set(989, 0));
    only("net.conntrack_nearly_full", set(800, 0));
    silent(set(799, 0));
    silent(|_, now| now.conntrack.as_mut().unwrap().max = 0);
    // Dropped while it was watched: full, whatever the count says a moment later.
    let (namespace, before) = node();
    let mut now = before.clone();
    set(700, 4)(&mut namespace.clone(), &mut now);
    let ids: Vec<_> =
        look(&namespace, Some(&before), &now, Role::Node).findings.iter().map(|f| f.id).collect();
    assert_eq!(ids, ["net.conntrack_full", "net.counted_before"]);
    // A table with room drops for another reason; where entries collide the kernel counts both.
    for (count, drop, failed, expected) in
        [(16, 4, 0, vec![]), (700, 4, 4, vec!["net.conntrack_race"]), (16, 4, 4, vec!["net.conntrack_race"])]
    {
        let mut now = before.clone();
        set(count, drop)(&mut namespace.clone(), &mut now);
        now.conntrack.as_mut().unwrap().insert_failed = Some(failed);
        let found = look(&namespace, Some(&before), &now, Role::Node).findings;
        let ids: Vec<_> = found.iter().map(|f| f.id).filter(|id| *id != "net.counted_before").collect();
        assert_eq!(ids, expected, "{count} {drop} {failed}");
    }
    // Counted before: no alarm.
    let ids: Vec<_> = look(&namespace, Some(&now), &now, Role::Node).findings.iter().map(|f| f.id).collect();
    assert_eq!(ids, ["net.counted_before"]);
}

#[test]
fn collisions_and_strays_of_conntrack_are_told_apart() {
    let (namespace, before) = node();
    let mut now = before.clone();
    now.conntrack.as_mut().unwrap().insert_failed = Some(3);
    let found = look(&namespace, Some(&before), &now, Role::Node).findings;
    assert_eq!(found[0].id, "net.conntrack_race");
    assert!(found[0].summary.contains("3 connections"), "{found:?}");
    let invalid = only("net.conntrack_invalid", |_, now| now.conntrack.as_mut().unwrap().invalid = Some(5));
    assert_eq!((invalid.severity, invalid.evidence.len()), (Severity::Info, 2));
    silent(|_, now| now.conntrack.as_mut().unwrap().invalid = None);
}

#[test]
fn a_tunnel_that_only_sends_is_filtered() {
    let set = |tx, rx| {
        move |_: &mut Namespace, now: &mut KernelState| {
            let counters = now.counters.links.as_mut().unwrap().get_mut("flannel.1").unwrap();
            (counters.tx_packets, counters.rx_packets) = (tx, rx);
        }
    };
    let filtered = only("net.tunnel_one_way", set(10, 0));
    assert!(filtered.fix.contains("UDP 8472") && filtered.fix.contains("-i eth0"), "{filtered:?}");
    silent(set(9, 0));
    silent(set(5000, 1));
    silent(set(0, 0));
}

#[test]
fn remembered_path_mtus_are_a_fault_when_they_are_tiny() {
    let learn = |target: &str, mtu_bytes| {
        let target = target.parse().unwrap();
        move |_: &mut Namespace, now: &mut KernelState| {
            now.tables.remembered = Ok(vec![RememberedMtu { target, mtu_bytes }]);
        }
    };
    let plain = only("net.path_mtus_remembered", learn("10.0.0.2", 1500));
    assert_eq!(plain.severity, Severity::Info);
    only("net.path_mtus_remembered", learn("192.0.2.1", 1400));
    only("net.path_mtus_remembered", learn("192.0.2.1", 576));
    only("net.remembered_tiny", learn("192.0.2.1", 552));
    only("net.path_mtus_remembered", learn("2001:db8::1", 1280));
}

#[test]
fn a_datapath_that_is_not_recognised_is_not_checked() {
    let datapath = |change: fn(&mut Namespace, &mut KernelState)| {
        let (mut namespace, mut now) = node();
        change(&mut namespace, &mut now);
        let looked = look(&namespace, Some(&now), &now, Role::Node);
        let check = looked.checks.iter().find(|c| c.id == "net.datapath").unwrap().clone();
        (check.outcome, check.why)
    };
    assert_eq!(datapath(|_, _| {}).0, Outcome::Passed);
    for (name, kind, what) in [
        ("cilium_host", "veth", "Cilium"),
        ("lxc12ab", "veth", "Cilium"),
        ("bpfin.cali", "veth", "Calico"),
        ("nk0", "netkit", "program"),
        ("ovs-system", "openvswitch", "Open vSwitch"),
    ] {
        let (mut namespace, now) = node();
        namespace.links.push(link(30, name, kind));
        let view = KernelView { role: Role::Node, now: &now, before: None, namespace: Some(&namespace) };
        let check = check_datapath(view);
        assert_eq!(check.outcome, Outcome::NotChecked, "{name}");
        assert!(check.why.contains(what), "{check:?}");
    }
    let (outcome, why) = datapath(|_, now| now.classifiers = Ok(vec!["veth0".into()]));
    assert_eq!(outcome, Outcome::NotChecked);
    assert!(why.contains("veth0"), "{why}");
    assert_eq!(datapath(|_, now| now.classifiers = Err("no".into())).0, Outcome::NotChecked);
}

#[test]
fn a_failed_check_says_what_the_finding_says() {
    let (namespace, mut now) = node();
    now.conntrack.as_mut().unwrap().count = 1000;
    let looked = look(&namespace, None, &now, Role::Node);
    assert_eq!(outcome(&looked, "net.conntrack"), Outcome::Failed);
    assert_eq!(outcome(&looked, "net.neighbours"), Outcome::Passed);
}
