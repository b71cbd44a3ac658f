//! Rules on neighbours: gateways, other nodes, and the table that holds them.

use super::*;

#[test]
fn a_silent_gateway_is_found_for_the_route_that_needs_it() {
    let gateway = only("net.gateway_silent", |_, now| {
        now.tables.neighbours.as_mut().unwrap()[0].state = NeighbourState::Failed;
    });
    assert!(
        gateway.summary.contains("10.0.0.254 on eth0") && gateway.summary.contains("default"),
        "{gateway:?}"
    );
    only("net.gateway_silent", |_, now| {
        now.tables.neighbours.as_mut().unwrap()[0].state = NeighbourState::Incomplete;
    });
    assert_eq!(gateway.severity, Severity::Critical);
    let long_ago = only("net.gateway_silent", |_, now| {
        let entry = &mut now.tables.neighbours.as_mut().unwrap()[0];
        (entry.state, entry.unchanged_s) = (NeighbourState::Failed, Some(3600));
    });
    assert_eq!(long_ago.severity, Severity::Warning, "nobody needs it: it may be back");
    // A way that is there for another network, or in reserve, is not the way of everything.
    for destination in ["10.244.9.0/24", "default"] {
        let other = only("net.gateway_silent", |namespace, now| {
            let first = namespace.routes.iter().find(|r| r.destination == "default").unwrap().clone();
            let via = Some("10.0.0.9".parse().unwrap());
            namespace.routes.push(Route { via, destination: destination.into(), ..first });
            let dead = neighbour("10.0.0.9", "eth0", NeighbourState::Failed, [0; 6]);
            now.tables.neighbours.as_mut().unwrap().push(dead);
        });
        assert_eq!(other.severity, Severity::Warning, "{destination}");
    }
    // The same address on another interface is another neighbour.
    silent(|_, now| {
        let entry = &mut now.tables.neighbours.as_mut().unwrap()[3];
        entry.address = "10.0.0.254".parse().unwrap();
    });
}

#[test]
fn a_silent_node_behind_a_tunnel_is_named_with_its_tunnel() {
    let remote = only("net.tunnel_remote_silent", |_, now| {
        now.tables.neighbours.as_mut().unwrap()[1].state = NeighbourState::Failed;
    });
    assert!(remote.summary.contains("10.0.0.2, the other end of flannel.1"), "{remote:?}");
    // Known from the way of its outer packets alone, as that of a Geneve or WireGuard.
    only("net.tunnel_remote_silent", |namespace, now| {
        namespace.links[1].egress = vec![Egress {
            interface: None,
            mtu_bytes: None,
            cached_path_mtu_bytes: None,
            remotes: vec!["10.0.0.9".parse().unwrap()],
        }];
        let entry = &mut now.tables.neighbours.as_mut().unwrap()[1];
        (entry.address, entry.state) = ("10.0.0.9".parse().unwrap(), NeighbourState::Failed);
    });
    silent(|_, now| now.tables.neighbours.as_mut().unwrap()[1].state = NeighbourState::Permanent);
}

#[test]
fn a_vxlan_knows_the_peer_of_every_route_into_it() {
    let stale = only("net.tunnel_peer_unknown", |_, now| {
        now.tables.forwarding.as_mut().unwrap()[0].mac = [9; 6];
    });
    assert!(
        stale.summary.contains("10.244.2.0/24")
            && stale.evidence[0].value.as_str().unwrap().contains("0e:f1")
    );
    let missing =
        only("net.tunnel_peer_unknown", |_, now| drop(now.tables.neighbours.as_mut().unwrap().remove(2)));
    assert!(missing.evidence[0].value.as_str().unwrap().contains("no neighbour entry"));
    // A default peer gets everything; an external VXLAN has no table; one that was not read is unknown.
    silent(|_, now| now.tables.forwarding.as_mut().unwrap()[0].mac = [0; 6]);
    silent(|namespace, now| {
        now.tables.forwarding = Ok(Vec::new());
        namespace.links[1].tunnel.as_mut().unwrap().external = true;
    });
    silent(|_, now| now.tables.forwarding = Err("no".into()));
}

#[test]
fn the_arp_table_is_full_or_nearly() {
    let set = |entries: u64, refused| {
        move |_: &mut Namespace, now: &mut KernelState| {
            // One of them is permanent.
            let entries = entries + 1;
            now.tables.arp_usage = Ok(TableUsage { entries, limit: 1000, refused: Some(refused) });
        }
    };
    let full = only("node.neighbour_table_full", set(1000, 0));
    assert!(full.fix.contains("gc_thresh3=4000"), "{full:?}");
    only("node.neighbour_table_full", set(900, 1));
    only("node.neighbour_table_nearly_full", set(800, 0));
    silent(set(799, 0));
    // Those that a CNI wrote for good do not count against the limit.
    silent(|namespace, now| {
        set(1026, 0)(namespace, now);
        let one = |n: u8| neighbour(&format!("10.9.0.{n}"), "flannel.1", NeighbourState::Permanent, [n; 6]);
        now.tables.neighbours.as_mut().unwrap().extend((0..=255).map(one));
    });
    silent(|namespace, now| {
        set(1026, 0)(namespace, now);
        let one = |n: u8| NeighbourEntry {
            uncounted: true,
            ..neighbour(&format!("10.9.0.{n}"), "eth0", NeighbourState::Known, [n; 6])
        };
        now.tables.neighbours.as_mut().unwrap().extend((0..=255).map(one));
    });
}
