//! Each rule fires on what it is for, and is silent on its healthy twin.

use super::*;
use crate::facts::{Egress, Offloads, Tunnel};

/// A node with two uplinks of 1500 and a VXLAN of 1450 to three remotes, the last by the second uplink.
fn node() -> Namespace {
    let link = |index, name: &str, kind: &str, mtu_bytes| Link {
        index,
        name: name.into(),
        kind: (!kind.is_empty()).then(|| kind.into()),
        mtu_bytes,
        state: "up".into(),
        up: true,
        ..Link::default()
    };
    let way = |interface: &str, remotes: &[&str]| Egress {
        interface: Some(interface.into()),
        mtu_bytes: Some(1500),
        cached_path_mtu_bytes: None,
        remotes: remotes.iter().map(|r| r.parse().unwrap()).collect(),
    };
    let tunnel = Link {
        overhead_bytes: Some(50),
        underlay: Some("eth0".into()),
        tunnel: Some(Tunnel { outer_ipv6: Some(false), least_bytes: Some(50), ..Tunnel::default() }),
        egress: vec![way("eth0", &["10.0.0.2", "10.0.0.3"]), way("eth1", &["10.1.0.2"])],
        ..link(4, "flannel.1", "vxlan", 1450)
    };
    Namespace {
        subject: "host".into(),
        netns_inode: 1,
        links: vec![link(2, "eth0", "", 1500), link(3, "eth1", "", 1500), tunnel],
        routes: Vec::new(),
        unreadable: 0,
        policy_rules: crate::facts::PolicyRules::None,
    }
}

fn found(namespace: &Namespace) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_tunnels(namespace, &mut findings);
    assert!(findings.iter().all(|f| !f.evidence.is_empty() && !f.fix.is_empty()));
    findings
}

fn ids(namespace: &Namespace) -> Vec<&'static str> {
    found(namespace).iter().map(|f| f.id).collect()
}

#[test]
fn a_narrower_way_to_some_remotes_is_told_with_them() {
    assert_eq!(ids(&node()), [""; 0]);
    let mut all = node();
    all.links[1].mtu_bytes = 1420;
    all.links[2].egress[1].mtu_bytes = Some(1420);
    let findings = found(&all);
    assert_eq!(ids(&all), ["links.tunnel_exceeds_underlay"]);
    assert_eq!(
        findings[0].summary,
        "flannel.1 has MTU 1450 and adds 50, eth1 takes 1420 on the way to 10.1.0.2: only 1370 fit, larger ones leave in fragments, and are lost where these are filtered"
    );
    assert!(findings[0].fix.starts_with("1420 − 50 = 1370: ip link set dev flannel.1 mtu 1370"));
}

#[test]
fn a_smaller_route_counts_as_a_smaller_link_does() {
    let mut all = node();
    all.links[2].egress[1].mtu_bytes = Some(1440);
    let finding = found(&all).remove(0);
    assert!(finding.summary.contains("eth1 takes 1440 on the way to 10.1.0.2"), "{}", finding.summary);
    let route = finding.evidence.last().unwrap();
    assert_eq!((route.source.as_ref(), &route.value), ("netlink RTM_GETROUTE", &1440.into()));
}

#[test]
fn a_path_mtu_that_was_learned_is_told_when_it_is_smaller_than_what_is_sent() {
    let mut all = node();
    all.links[2].egress[1].cached_path_mtu_bytes = Some(1400);
    let findings = found(&all);
    assert_eq!(ids(&all), ["links.tunnel_path_mtu"]);
    assert_eq!(
        findings[0].summary,
        "flannel.1 sends up to 1450 + 50 = 1500 to 10.1.0.2, a router on the way has said 1400: only 1350 fit"
    );
    assert!(findings[0].fix.starts_with("nsprobe mtu host 10.1.0.2 measures it"), "{}", findings[0].fix);
    all.links[2].mtu_bytes = 1350;
    assert_eq!(ids(&all), [""; 0], "it fits");
    let mut all = node();
    all.links[2].egress[1].cached_path_mtu_bytes = Some(1500);
    assert_eq!(ids(&all), [""; 0], "an exception that says no less than the interface");
}

#[test]
fn a_remote_without_a_way_and_one_behind_the_tunnel_itself() {
    let mut all = node();
    (all.links[2].egress[1].interface, all.links[2].egress[1].mtu_bytes) = (None, None);
    let findings = found(&all);
    assert_eq!(ids(&all), ["links.tunnel_no_route"]);
    assert_eq!(findings[0].summary, "flannel.1 sends to 10.1.0.2, and no route leads there");

    let mut all = node();
    all.links[2].kind = Some("wireguard".into());
    (all.links[2].egress[1].interface, all.links[2].egress[1].mtu_bytes) =
        (Some("flannel.1".into()), Some(1450));
    let findings = found(&all);
    assert_eq!(ids(&all), ["links.tunnel_in_itself"]);
    assert!(findings[0].fix.contains("AllowedIPs"), "{}", findings[0].fix);
    all.links[2].up = false;
    assert_eq!(ids(&all), [""; 0], "a tunnel that is off sends nothing");
}

#[test]
fn ipsec_needs_some_room_whatever_the_cipher() {
    for (kind, least) in [("xfrm", 22), ("vti", 42), ("vti6", 62)] {
        let mut all = node();
        let tunnel = &mut all.links[2];
        (tunnel.kind, tunnel.overhead_bytes) = (Some(kind.into()), None);
        tunnel.tunnel = Some(Tunnel { least_bytes: Some(least), ..Tunnel::default() });
        tunnel.mtu_bytes = 1500 - least + 1;
        let findings = found(&all);
        assert_eq!(ids(&all), ["links.ipsec_exceeds_underlay"], "{kind}");
        assert_eq!(findings[0].severity, Severity::Info);
        assert!(findings[0].summary.contains(&format!("at least {least}")), "{}", findings[0].summary);
        all.links[2].mtu_bytes = 1500 - least;
        assert_eq!(ids(&all), [""; 0], "{kind}");
    }
}

#[test]
fn checksum_offload_of_vxlan_matters_on_old_kernels_only() {
    let mut all = node();
    let offloads = Offloads { tx_checksum: true, tso: true, gso: true, gro: true };
    all.links[0].offloads = Some(offloads);
    all.links[2].offloads = Some(offloads);
    let ids = |all: &Namespace, release: &str| {
        let findings = check_offloads(std::slice::from_ref(all), release);
        findings.iter().map(|f| (f.id, f.severity)).collect::<Vec<_>>()
    };
    for release in ["5.4.0-100-generic", "4.18.0-305.el8.x86_64", "3.10.0-1160.el7.x86_64", "5.6.99"] {
        assert_eq!(ids(&all, release), [("links.vxlan_checksum_offload", Severity::Info)], "{release}");
    }
    for release in ["5.7.0", "5.15.0-1", "6.1.0-18-amd64", "10.0", "", "linux", "5", "99999999999.1"] {
        assert_eq!(ids(&all, release), [], "{release}");
    }
    all.links[2].offloads = Some(Offloads { tx_checksum: false, ..offloads });
    assert_eq!(ids(&all, "5.4.0"), [], "switched off, as flannel and Calico do it");
    all.links[2].offloads = None;
    assert_eq!(ids(&all, "5.4.0"), [], "not asked is not on");
}
