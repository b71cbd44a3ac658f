//! Recorded dumps of a node with tunnels of every kind, through the rules of `links`: one byte too many fires, what
//! fits exactly does not. Kernels on which the other tests run lack most of these kinds.

use crate::diagnose::links::check_links;
use crate::facts::{Egress, Finding, Link, Namespace};
use crate::observe::recorded_namespaces;

/// The node's uplink, a veth of MTU 1500.
const UPLINK: &str = "u0";

/// The recorded node with `change` made to one link, which has the uplink below it; the others are down, so that
/// nothing but this link speaks.
fn node(name: &str, change: impl FnOnce(&mut Link)) -> (Vec<Namespace>, u64) {
    let mut all = recorded_namespaces();
    let node = &mut all[0];
    let inode = node.netns_inode;
    for link in node.links.iter_mut().filter(|l| l.name != UPLINK) {
        link.up = link.name == name;
    }
    let link = node.links.iter_mut().find(|l| l.name == name).expect("recorded");
    link.egress = vec![Egress {
        interface: Some(UPLINK.into()),
        mtu_bytes: Some(1500),
        cached_path_mtu_bytes: None,
        remotes: vec!["198.51.100.9".parse().unwrap()],
    }];
    change(link);
    (all, inode)
}

fn findings(name: &str, change: impl FnOnce(&mut Link)) -> Vec<Finding> {
    let (all, host) = node(name, change);
    check_links(&all[..1], host)
}

/// Tunnels of the dump that name what they add; the kernel's own fallback devices (tunl0, gre0, …) have indexes up
/// to 10 and no remote.
fn tunnels() -> Vec<Link> {
    let node = recorded_namespaces().swap_remove(0);
    node.links.into_iter().filter(|l| l.tunnel.is_some() && l.index > 10).collect()
}

#[test]
fn of_each_kind_one_byte_too_many_fires_with_its_arithmetic_and_what_fits_does_not() {
    let mut kinds = std::collections::BTreeSet::new();
    for tunnel in tunnels() {
        let Some(overhead) = tunnel.overhead_bytes else { continue };
        let name = tunnel.name.as_str();
        let fits = 1500 - overhead;
        assert_eq!(findings(name, |l| l.mtu_bytes = fits), [], "{name} fits exactly");
        let found = findings(name, |l| l.mtu_bytes = fits + 1);
        let ids: Vec<_> = found.iter().map(|f| f.id).collect();
        assert_eq!(ids, ["links.tunnel_exceeds_underlay"], "{name}: {found:#?}");
        let said =
            format!("{name} has MTU {} and adds {overhead}, {UPLINK} takes 1500: only {fits} fit", fits + 1);
        assert!(found[0].summary.starts_with(&said), "{}", found[0].summary);
        let fix = format!("1500 − {overhead} = {fits}: ip link set dev {name} mtu {fits}");
        assert!(found[0].fix.starts_with(&fix), "{}", found[0].fix);
        kinds.insert(tunnel.kind.unwrap_or_default());
    }
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    assert_eq!(
        kinds,
        [
            "erspan",
            "geneve",
            "gre",
            "gretap",
            "ip6gre",
            "ip6gretap",
            "ip6tnl",
            "ipip",
            "sit",
            "vxlan",
            "wireguard"
        ]
    );
}

#[test]
fn the_kernels_own_default_of_geneve_is_told_and_all_other_defaults_are_not() {
    for tunnel in tunnels().iter().filter(|t| t.overhead_bytes.is_some()) {
        let found = findings(&tunnel.name, |_| {});
        let expected = matches!(tunnel.name.as_str(), "gn4" | "gn6");
        assert_eq!(found.len(), usize::from(expected), "{}: {found:#?}", tunnel.name);
    }
}

#[test]
fn ipsec_fires_only_where_no_cipher_fits() {
    let mut seen = 0;
    for tunnel in tunnels() {
        let ipsec = matches!(tunnel.kind.as_deref(), Some("xfrm" | "vti" | "vti6"));
        let Some(least) = tunnel.tunnel.and_then(|t| t.least_bytes).filter(|_| ipsec) else { continue };
        let name = tunnel.name.as_str();
        assert_eq!(findings(name, |l| l.mtu_bytes = 1500 - least), [], "{name}");
        let found = findings(name, |l| l.mtu_bytes = 1501 - least);
        let ids: Vec<_> = found.iter().map(|f| f.id).collect();
        assert_eq!(ids, ["links.ipsec_exceeds_underlay"], "{name}: {found:#?}");
        let said = format!("adds at least {least}, {UPLINK} takes 1500: at most {} fit", 1500 - least);
        assert!(found[0].summary.contains(&said), "{}", found[0].summary);
        seen += 1;
    }
    assert!(seen >= 2, "{seen}");
}

#[test]
fn what_is_told_packet_by_packet_where_to_send_is_not_judged() {
    for name in ["vxext", "gnext"] {
        assert_eq!(findings(name, |l| l.mtu_bytes = 9000), [], "its overhead is not known");
    }
}

#[test]
fn a_narrower_route_a_learned_path_mtu_and_a_way_into_itself_fire_on_every_kind() {
    for tunnel in tunnels() {
        let Some(overhead) = tunnel.overhead_bytes else { continue };
        let (name, fits) = (tunnel.name.as_str(), 1500 - overhead);
        let ids = |change: fn(&mut Egress)| -> Vec<&str> {
            let found = findings(name, |l| {
                l.mtu_bytes = fits;
                l.egress.iter_mut().for_each(change);
            });
            found.iter().map(|f| f.id).collect()
        };
        assert_eq!(ids(|e| e.mtu_bytes = Some(1499)), ["links.tunnel_exceeds_underlay"], "{name}");
        assert_eq!(ids(|e| e.cached_path_mtu_bytes = Some(1499)), ["links.tunnel_path_mtu"], "{name}");
        assert_eq!(ids(|e| e.cached_path_mtu_bytes = Some(1500)), [""; 0], "{name}");
        assert_eq!(ids(|e| e.interface = None), ["links.tunnel_no_route"], "{name}");
        let found = findings(name, |l| l.egress[0].interface = Some(l.name.clone()));
        assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), ["links.tunnel_in_itself"], "{name}");
    }
}

#[test]
fn a_tunnel_over_a_port_of_a_vrf_is_measured_by_that_port() {
    let all = recorded_namespaces();
    let port = all[0].links.iter().find(|l| l.master.as_deref() == Some("vrf-a")).expect("recorded");
    assert_eq!(port.name, "dm1");
    for name in ["vrf-a", "dm1"] {
        assert_eq!(findings(name, |l| l.egress.clear()), [], "{name}");
    }
    let over_port = |mtu: u32| {
        let (mut all, host) = node("flannel.1", |l| {
            l.mtu_bytes = mtu;
            l.egress[0].interface = Some("dm1".into());
        });
        let port = all[0].links.iter_mut().find(|l| l.name == "dm1").expect("recorded");
        (port.up, port.mtu_bytes) = (true, 1400);
        // What its route would say without an MTU of its own.
        let tunnel = all[0].links.iter_mut().find(|l| l.name == "flannel.1").expect("recorded");
        tunnel.egress[0].mtu_bytes = Some(1400);
        check_links(&all[..1], host)
    };
    assert_eq!(over_port(1350), []);
    let found = over_port(1351);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].summary.starts_with("flannel.1 has MTU 1351 and adds 50, dm1 takes 1400"), "{found:#?}");
}

#[test]
fn of_the_whole_recorded_node_nothing_is_told_but_the_port_that_is_too_small() {
    let all = recorded_namespaces();
    let found = check_links(&all, all[0].netns_inode);
    let told: Vec<(&str, &str)> = found.iter().map(|f| (f.id, f.summary.as_str())).collect();
    assert_eq!(
        told,
        [
            (
                "links.veth_mtu_mismatch",
                "p2: eth0 has MTU 1500, its other end pb 1400; packets above 1400 from the pod vanish"
            ),
            (
                "links.bridge_port_smaller",
                "br0: port pb takes 1400 bytes, pa sends 1500: larger packets to them vanish in the bridge"
            ),
        ]
    );
}
