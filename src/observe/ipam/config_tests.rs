use super::*;

fn networks(path: &str, text: &str) -> Result<Vec<IpamNetwork>, String> {
    let flannel = |_: &str| {
        flannel_subnets("FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.3.1/24\nFLANNEL_MTU=1450\n")
    };
    parse_networks(path, text.as_bytes(), &flannel)
}

fn one(text: &str) -> IpamNetwork {
    let mut found = networks("/etc/cni/net.d/10-x.conflist", text).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn sizes(network: &IpamNetwork) -> Vec<Vec<Option<u64>>> {
    network.sets.iter().map(|set| set.iter().map(crate::facts::IpamRange::size).collect()).collect()
}

#[test]
fn both_ways_to_write_ranges_are_read() {
    let network = one(
        r#"{"name":"n","plugins":[{"type":"bridge","isGateway":true,"ipam":{"type":"host-local","subnet":"10.1.0.0/29",
        "rangeEnd":"10.1.0.4","dataDir":"/data/","ranges":[[{"subnet":"fd00::/125"},{"subnet":"fd01::/125"}]]}}]}"#,
    );
    assert_eq!(
        (network.name.as_str(), network.plugin.as_str(), network.folder.as_str()),
        ("n", "host-local", "/data/n")
    );
    assert_eq!(sizes(&network), [vec![Some(3)], vec![Some(6), Some(6)]]);
    assert!(network.one_gateway && network.ranges_unknown.is_none());
    let plain = networks(
        "/etc/cni/net.d/1.conf",
        r#"{"name":"p","type":"ptp","ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
    );
    assert_eq!(sizes(&plain.unwrap()[0]), [[Some(253)]]);
}

#[test]
fn flannels_subnet_comes_from_its_own_file() {
    let network = one(
        r#"{"name":"cbr0","plugins":[{"type":"flannel","delegate":{"isDefaultGateway":true}},{"type":"portmap"}]}"#,
    );
    assert_eq!(network.sets[0][0].subnet, "10.42.3.0/24");
    assert_eq!(network.folder, "/var/lib/cni/networks/cbr0");
    assert!(flannel_subnets("FLANNEL_MTU=1450").is_err());
    let both = flannel_subnets("FLANNEL_SUBNET=10.42.3.1/24\nFLANNEL_IPV6_SUBNET=fd00:3::1/64\n").unwrap();
    assert_eq!(both, ["10.42.3.0/24", "fd00:3::/64"]);
    assert_eq!(
        flannel_subnets("FLANNEL_SUBNET=10.0.0.1/99\nFLANNEL_IPV6_SUBNET=x"),
        Err("it has no FLANNEL_SUBNET".into())
    );
}

#[test]
fn others_are_named_as_what_they_are() {
    for (plugin, name) in [
        (r#"{"type":"calico","ipam":{"type":"calico-ipam"}}"#, "calico-ipam"),
        (r#"{"type":"cilium-cni"}"#, "cilium-cni"),
        (r#"{"type":"aws-cni"}"#, "aws-cni"),
        (r#"{"type":"macvlan","ipam":{"type":"whereabouts","range":"10.0.0.0/24"}}"#, "whereabouts"),
    ] {
        let network = one(&format!(r#"{{"name":"n","plugins":[{plugin},{{"type":"portmap"}}]}}"#));
        assert_eq!((network.plugin.as_str(), network.sets.len()), (name, 0));
    }
    let multus = r#"{"name":"multus","type":"multus","delegates":[{"name":"k8s","plugins":[{"type":"cilium-cni"}]},
        {"name":"b","type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0/24"}}]}"#;
    let found = networks("/etc/cni/net.d/00-multus.conf", multus).unwrap();
    let names: Vec<_> = found.iter().map(|n| (n.name.as_str(), n.plugin.as_str())).collect();
    assert_eq!(names, [("k8s", "cilium-cni"), ("b", "host-local")]);
}

#[test]
fn ranges_that_somebody_fills_in_later_are_unknown_and_not_none() {
    for ipam in [
        r#"{"type":"host-local","subnet":"usePodCidr"}"#,
        r#"{"type":"host-local"}"#,
        r#"{"type":"host-local","ranges":5}"#,
    ] {
        let network = one(&format!(r#"{{"name":"n","plugins":[{{"type":"calico","ipam":{ipam}}}]}}"#));
        assert!(network.ranges_unknown.is_some() && network.room().is_none(), "{ipam}");
    }
}

#[test]
fn what_a_runtime_refuses_says_why() {
    for (path, text) in [
        ("a.conflist", "{"),
        ("a.conflist", "[]"),
        ("a.conflist", r#"{"plugins":[{"type":"bridge"}]}"#),
        ("a.conflist", r#"{"name":"n","plugins":[]}"#),
        ("a.conf", r#"{"name":"n"}"#),
    ] {
        assert!(networks(path, text).is_err(), "{text}");
    }
}
