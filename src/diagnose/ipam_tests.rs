use super::*;
use crate::facts::{IpamRange, MaxPods};

fn id(n: u32) -> ContainerId {
    format!("{n:064x}").into()
}

fn range(subnet: &str, first: &str, last: &str, gateway: &str) -> IpamRange {
    IpamRange {
        subnet: subnet.into(),
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
    }
}

/// 10.0.0.0/28 without its gateway: 13 addresses; `used` of them are held by pods that live.
fn network(used: u32) -> IpamNetwork {
    let held = |n: u32| Reservation {
        address: std::net::Ipv4Addr::from(0x0a00_0000 + n + 2).into(),
        container_id: Some(id(n)),
        interface: Some("eth0".into()),
        written_at: Some(1000),
        owner: Some(format!("shop/web-{n}").into()),
        leaked: Some(false),
    };
    IpamNetwork {
        name: "net".into(),
        plugin: "host-local".into(),
        configured_in: Some("/etc/cni/net.d/10-net.conflist".into()),
        sets: vec![vec![range("10.0.0.0/28", "10.0.0.1", "10.0.0.14", "10.0.0.1")]],
        folder: "/var/lib/cni/networks/net".into(),
        reservations: (0..used).map(held).collect(),
        ..IpamNetwork::default()
    }
}

fn found(networks: Vec<IpamNetwork>) -> Vec<&'static str> {
    let state = IpamState { networks, ..IpamState::default() };
    check_ipam(&state, &Holders::default()).into_iter().map(|f| f.id).collect()
}

#[test]
fn a_range_is_full_nearly_full_or_fine() {
    for (used, id) in
        [(13, Some("ipam.exhausted")), (12, Some("ipam.nearly_exhausted")), (11, None), (0, None)]
    {
        assert_eq!(found(vec![network(used)]).first().copied(), id, "{used} of 13");
    }
}

#[test]
fn a_network_that_new_pods_do_not_get_may_be_full() {
    let podman = IpamNetwork {
        name: "podman".into(),
        configured_in: Some("/etc/cni/net.d/87-podman.conflist".into()),
        sets: vec![vec![range("10.9.0.0/29", "10.9.0.1", "10.9.0.6", "10.9.0.1")]],
        reservations: network(5)
            .reservations
            .into_iter()
            .zip(2..)
            .map(|(r, n)| Reservation { address: std::net::Ipv4Addr::new(10, 9, 0, n).into(), ..r })
            .collect(),
        ..network(0)
    };
    let judge = |networks: Vec<IpamNetwork>| {
        let state = IpamState { networks, ..IpamState::default() };
        let findings = check_ipam(&state, &Holders::default());
        findings.into_iter().map(|f| (f.id, f.severity)).collect::<Vec<_>>()
    };
    assert_eq!(judge(vec![network(1), podman.clone()]), [("ipam.exhausted", Severity::Info)]);
    assert_eq!(judge(vec![podman]), [("ipam.exhausted", Severity::Critical)], "the only one");
}

#[test]
fn while_it_is_not_known_who_holds_addresses_nobody_is_sent_away_from_leaks() {
    let fix = |known: bool| {
        let mut full = network(13);
        full.reservations.iter_mut().for_each(|r| r.leaked = r.leaked.filter(|_| known));
        let state = IpamState { networks: vec![full], ..IpamState::default() };
        check_ipam(&state, &Holders::default()).remove(0).fix
    };
    assert!(fix(true).starts_with("every reservation is held"), "{}", fix(true));
    assert!(fix(false).starts_with("whether anybody holds them is not known"), "{}", fix(false));
}

#[test]
fn a_pod_needs_an_address_of_every_set() {
    let mut two = network(2);
    two.sets.push(vec![range("fd00::/126", "fd00::2", "fd00::3", "fd00::1")]);
    assert_eq!(two.room(), Some(2));
    for (n, address) in ["fd00::2", "fd00::3"].iter().enumerate() {
        let mut six = two.reservations[n].clone();
        six.address = address.parse().unwrap();
        two.reservations.push(six);
    }
    let findings =
        check_ipam(&IpamState { networks: vec![two], ..IpamState::default() }, &Holders::default());
    assert_eq!((findings.len(), findings[0].id), (1, "ipam.exhausted"));
    assert!(findings[0].summary.contains("2 of 2 of fd00::/126"), "{}", findings[0].summary);
}

#[test]
fn one_interface_with_two_addresses_of_a_set_is_a_double_reservation() {
    let mut twice = network(3);
    twice.reservations[2].container_id = Some(id(0));
    assert_eq!(found(vec![twice.clone()]), ["ipam.double_reservation"]);
    twice.reservations[2].interface = Some("net1".into());
    assert_eq!(found(vec![twice.clone()]), [] as [&str; 0], "another interface");
    twice.reservations[2].interface = Some("eth0".into());
    twice.reservations[2].leaked = Some(true);
    assert_eq!(found(vec![twice]), ["ipam.leaked"], "that is told already");
}

#[test]
fn one_address_in_two_networks_is_a_duplicate_only_when_two_hold_it() {
    let (one, mut other) = (network(2), network(1));
    other.name = "other".into();
    other.folder = "/var/lib/cni/networks/other".into();
    assert_eq!(found(vec![one.clone(), other.clone()]), [] as [&str; 0], "the same sandbox");
    other.reservations[0].container_id = Some(id(9));
    other.reservations[0].owner = Some("shop/db".into());
    let state = IpamState { networks: vec![one.clone(), other.clone()], ..IpamState::default() };
    let findings = check_ipam(&state, &Holders::default());
    assert_eq!(findings.len(), 1);
    assert_eq!(
        (findings[0].id, findings[0].summary.as_str()),
        ("ipam.duplicate_address", "shop/web-0 and shop/db both hold 10.0.0.2")
    );
    other.reservations[0].leaked = None;
    assert_eq!(found(vec![one, other]), [] as [&str; 0], "whether it lives is not known");
}

#[test]
fn pods_on_the_nodes_own_network_need_no_address() {
    let max = |pods| Some(MaxPods { pods, source: "/var/lib/kubelet/config.yaml".into() });
    let ids = |pods, holders: &Holders| {
        let state = IpamState { networks: vec![network(1)], max_pods: max(pods), ..IpamState::default() };
        check_ipam(&state, holders).into_iter().map(|f| f.id).collect::<Vec<_>>()
    };
    let none = Holders::default();
    assert_eq!(ids(13, &none), [] as [&str; 0]);
    assert_eq!(ids(14, &none), ["ipam.range_below_max_pods"]);
    let mut some = Holders::default();
    some.pods.insert(id(0), ("shop/web-0".into(), true));
    assert_eq!(ids(14, &some), ["ipam.range_below_max_pods"], "it has one");
    some.pods.insert(id(8), ("kube-system/proxy".into(), true));
    assert_eq!(ids(14, &some), [] as [&str; 0]);
}

#[test]
fn a_reservation_is_leaked_only_when_everything_says_so() {
    let settle = |change: &dyn Fn(&mut Reservation, &mut Holders)| {
        let mut network = network(1);
        let mut holders = Holders::default();
        (network.reservations[0].owner, network.reservations[0].leaked) = (None, None);
        change(&mut network.reservations[0], &mut holders);
        let mut state = IpamState { networks: vec![network], booted_at: Some(500), ..IpamState::default() };
        settle_holders(&mut state, &holders);
        settle_leaked(&mut state, &holders, 2000);
        state.networks[0].reservations[0].leaked
    };
    assert_eq!(settle(&|_, _| {}), Some(true));
    assert_eq!(settle(&|_, h| h.incomplete = Some("hung".into())), None);
    assert_eq!(settle(&|r, _| r.container_id = None), None);
    assert_eq!(settle(&|r, _| r.written_at = None), None);
    assert_eq!(settle(&|r, _| r.written_at = Some(1900)), None, "it may be in the making");
    assert_eq!(
        settle(&|r, _| r.container_id = Some("podman-something".into())),
        None,
        "no sandbox of Kubernetes"
    );
    assert_eq!(settle(&|_, h| h.traces.extend([id(0)])), Some(false));
    assert_eq!(
        settle(&|r, h| {
            r.container_id = Some(format!("default-{}", id(0)).into());
            h.traces.insert(id(0));
        }),
        Some(false),
        "as nerdctl writes it"
    );
    assert_eq!(
        settle(&|_, h| h.pods.extend([(id(0), ("a/b".into(), false))])),
        Some(false),
        "not ready is not gone"
    );
}

#[test]
fn a_command_line_that_frees_names_at_most_a_hundred() {
    let mut many = network(0);
    many.sets.clear();
    many.reservations = (0..250)
        .map(|n| Reservation {
            address: std::net::Ipv4Addr::from(0x0a00_0000 + n).into(),
            container_id: Some(id(n)),
            interface: None,
            written_at: Some(1),
            owner: None,
            leaked: Some(true),
        })
        .collect();
    let finding = check_leaked(&many).unwrap();
    assert_eq!(finding.fix.matches("/net/10.").count(), 100);
    assert!(finding.fix.ends_with("these are 100 of 250: run nsprobe ipam again for the next"));
    assert!(finding.evidence.len() <= 22);
}
