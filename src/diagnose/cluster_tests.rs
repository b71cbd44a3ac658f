use super::*;
use crate::facts::{PodState, PublishedMtu, Unscheduled, Unseen};

fn pod(name: &str, node: Option<&str>, ip: &str) -> ClusterPod {
    ClusterPod {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        node: node.map(Into::into),
        ips: vec![ip.parse().unwrap()],
        ..ClusterPod::default()
    }
}

fn runs(name: &str, ip: &str) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        sandbox_id: "a".repeat(64),
        state: PodState::Ready,
        restarts: None,
        host_network: Some(false),
        ips: vec![ip.parse().unwrap()],
        pid: None,
        netns: None,
        netns_inode: None,
        created_at: None,
        containers: Vec::new(),
    }
}

fn ids(state: &ClusterState, here: &[Pod]) -> Vec<&'static str> {
    let here = ClusterHere { pods: here.to_vec(), ..ClusterHere::default() };
    check_cluster(state, &here, 5).findings.into_iter().map(|f| f.id).collect()
}

fn of(pods: Vec<ClusterPod>) -> ClusterState {
    ClusterState { pods, ..ClusterState::default() }
}

#[test]
fn a_pod_whose_address_is_another_here_is_found_and_one_that_has_none_yet_is_not() {
    let state = of(vec![pod("web", Some("k1"), "10.0.0.2")]);
    assert_eq!(ids(&state, &[runs("web", "10.0.0.2")]), [] as [&str; 0]);
    assert_eq!(ids(&state, &[runs("web", "10.0.0.3")]), ["cluster.ip_disagrees"]);
    assert_eq!(ids(&state, &[runs("other", "10.0.0.3")]), [] as [&str; 0]);
    for over in [
        ClusterPod { host_network: true, ..pod("web", Some("k1"), "10.0.0.2") },
        ClusterPod { ended: true, ..pod("web", Some("k1"), "10.0.0.2") },
    ] {
        assert_eq!(ids(&of(vec![over]), &[runs("web", "10.0.0.3")]), [] as [&str; 0], "not CNI's, or over");
    }
    let both = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    let dual = of(vec![ClusterPod { ips: both, ..pod("web", Some("k1"), "10.0.0.2") }]);
    assert_eq!(
        ids(&dual, &[runs("web", "10.0.0.2")]),
        ["cluster.ip_disagrees"],
        "one of two is missing here"
    );
    let young = of(vec![ClusterPod { ips: Vec::new(), ..pod("web", Some("k1"), "10.0.0.2") }]);
    assert_eq!(ids(&young, &[runs("web", "10.0.0.3")]), [] as [&str; 0]);
}

#[test]
fn an_address_is_held_twice_only_by_pods_that_live() {
    let mut state = of(vec![pod("a", Some("k1"), "10.0.0.2"), pod("b", Some("k2"), "10.0.0.2")]);
    assert_eq!(ids(&state, &[]), ["cluster.duplicate_ip"]);
    state.pods[0].ended = true;
    assert_eq!(ids(&state, &[]), [] as [&str; 0]);
    state.pods[0].ended = false;
    state.pods[0].host_network = true;
    assert_eq!(ids(&state, &[]), [] as [&str; 0]);
}

#[test]
fn restarts_are_over_the_bound_and_not_at_it_and_unknown_is_not_many() {
    let with = |restarts| of(vec![ClusterPod { restarts, ..pod("a", Some("k1"), "10.0.0.2") }]);
    assert_eq!(ids(&with(Some(5)), &[]), [] as [&str; 0]);
    assert_eq!(ids(&with(None), &[]), [] as [&str; 0]);
    assert_eq!(ids(&with(Some(6)), &[]), ["cluster.restarts"]);
}

#[test]
fn pods_that_wait_for_the_same_reason_are_one_finding() {
    let waits = |name: &str, message: Option<&str>| ClusterPod {
        unscheduled: Some(Unscheduled { message: message.map(Into::into), ..Unscheduled::default() }),
        ..pod(name, None, "10.0.0.2")
    };
    let state = of(vec![waits("a", Some("0/1 nodes")), waits("b", Some("0/1 nodes")), waits("c", None)]);
    let state = ClusterState {
        pods: state.pods.into_iter().map(|p| ClusterPod { ips: Vec::new(), ..p }).collect(),
        ..ClusterState::default()
    };
    let summaries: Vec<String> =
        check_cluster(&state, &ClusterHere::default(), 5).findings.into_iter().map(|f| f.summary).collect();
    assert_eq!(
        summaries,
        [
            "2 pods have no node: 0/1 nodes",
            "shop/c has no node: no word of the scheduler default-scheduler: does it run?"
        ]
    );
}

const NET1: &str = "net1.provider-network.kubernetes.io/mtu";

fn tells(network: &str, interface: &str, mtu_bytes: u32) -> Vec<PublishedMtu> {
    vec![PublishedMtu { network: network.into(), interface: Some(interface.into()), mtu_bytes }]
}

fn node(name: &str, mtus: Vec<PublishedMtu>) -> ClusterNode {
    ClusterNode { name: name.into(), ready: Some(true), mtus, ..ClusterNode::default() }
}

#[test]
fn networks_are_compared_by_name_and_only_where_an_mtu_is_told() {
    let with = |second| ClusterState {
        nodes: Some(vec![
            node("k1", tells(NET1, "eth1", 1500)),
            node("k2", second),
            node("k3", Vec::new()),
            node("k4", tells("net2", "eth1", 9000)),
        ]),
        ..ClusterState::default()
    };
    assert_eq!(ids(&with(tells(NET1, "eth7", 1500)), &[]), [] as [&str; 0]);
    assert_eq!(ids(&with(tells(NET1, "eth1", 1400)), &[]), ["cluster.mtu_differs"]);
}

#[test]
fn pods_of_one_network_are_compared_and_ended_ones_are_not() {
    let told = |name: &str, mtu| ClusterPod {
        mtus: tells("default/macvlan", "net1", mtu),
        ..pod(name, Some("k1"), &format!("10.0.0.{}", name.len()))
    };
    let mut state = of(vec![told("a", 1500), told("bb", 1500), told("ccc", 1400)]);
    let found = check_cluster(&state, &ClusterHere::default(), 5).findings;
    assert_eq!(found[0].summary, "the MTU of default/macvlan differs: 1400, 1500");
    assert_eq!(found[0].evidence[1].what, "MTU of default/macvlan, shop/a on k1 and 1 more");
    state.pods[2].ended = true;
    assert_eq!(ids(&state, &[]), [] as [&str; 0]);
}

#[test]
fn what_is_told_of_this_node_is_held_against_its_interfaces_and_theirs_alone() {
    let told =
        ClusterPod { mtus: tells("default/macvlan", "net1", 1500), ..pod("a", Some("k1"), "10.0.0.2") };
    let state = ClusterState { nodes: Some(vec![node("k1", tells(NET1, "eth1", 1500))]), ..of(vec![told]) };
    let found = |node: Option<&str>, eth1, net1| {
        let of_pod = Some("shop/a".to_owned());
        let interfaces = vec![
            (None, "net1".into(), 1),
            (None, "eth1".into(), eth1),
            (of_pod.clone(), "net1".into(), net1),
            (of_pod, "eth1".into(), 1),
        ];
        let here = ClusterHere { node: node.map(Into::into), pods: Vec::new(), interfaces };
        check_cluster(&state, &here, 5).findings.into_iter().map(|f| (f.id, f.summary)).collect::<Vec<_>>()
    };
    assert_eq!(found(Some("k1"), 1500, 1500), []);
    let said = |text: &str| ("cluster.mtu_disagrees", text.to_owned());
    assert_eq!(
        found(Some("k1"), 1400, 1450),
        [
            said("eth1 of node k1 has MTU 1400, and the API says 1500"),
            said("net1 of shop/a has MTU 1450, and the API says 1500")
        ]
    );
    assert_eq!(found(Some("k2"), 1400, 1450), []);
    assert_eq!(found(None, 1400, 1450), []);
    let interfaces = vec![(Some("shop/a".to_owned()), "net1".into(), 1450)];
    let here = ClusterHere { node: Some("k1".into()), pods: Vec::new(), interfaces };
    let mut over = of(state.pods.clone());
    assert_eq!(check_cluster(&over, &here, 5).findings.len(), 1);
    over.pods[0].ended = true;
    assert_eq!(check_cluster(&over, &here, 5).findings.len(), 0, "another of its name may run");
}

#[test]
fn a_gateway_that_does_not_answer_large_packets_is_told_and_is_no_fault() {
    let mut state = ClusterState { nodes: Some(vec![node("k1", Vec::new())]), ..ClusterState::default() };
    assert_eq!(ids(&state, &[]), [] as [&str; 0]);
    state.nodes.as_mut().unwrap()[0].no_gateway_mtu = true;
    let found = check_cluster(&state, &ClusterHere::default(), 5).findings;
    assert_eq!((found[0].id, found[0].severity), ("cluster.gateway_mtu_off", crate::facts::Severity::Info));
}

#[test]
fn the_node_is_the_one_whose_pods_run_here() {
    let state = of(vec![pod("a", Some("k1"), "10.0.0.2"), pod("b", Some("k2"), "10.0.0.3")]);
    assert_eq!(state.node_of(&[runs("other", "10.0.0.4"), runs("b", "10.0.0.3")]), Some("k2"));
    assert_eq!(state.node_of(&[runs("other", "10.0.0.4")]), None);
}

#[test]
fn a_silent_node_is_not_ready_and_what_was_not_seen_is_said() {
    let silent =
        ClusterNode { name: "k2".into(), ready: None, why: "silent".into(), ..ClusterNode::default() };
    let state = ClusterState {
        nodes: Some(vec![silent]),
        pods: vec![pod("a", Some("k2"), "10.0.0.2")],
        not_looked_at: [Lack::Rights, Lack::Answer, Lack::Here]
            .map(|lack| Unseen { what: "events".into(), why: "403".into(), lack })
            .into(),
        ..ClusterState::default()
    };
    let found = check_cluster(&state, &ClusterHere::default(), 5).findings;
    assert_eq!(found[0].id, "cluster.node_not_ready");
    assert_eq!(found[0].summary, "node k2 is not ready, with 1 pod on it");
    let fixes: Vec<&str> = found[1..].iter().map(|f| f.fix.split([' ', ';']).next().unwrap()).collect();
    assert_eq!(fixes, ["Give", "Ask", "On"], "each lack has a way out of its own");
}

fn waits(name: &str, unscheduled: Unscheduled) -> ClusterPod {
    ClusterPod { unscheduled: Some(unscheduled), ips: Vec::new(), ..pod(name, None, "10.0.0.2") }
}

/// Each rule about single things, with `n` of them.
fn broken(n: u32) -> (ClusterState, ClusterHere) {
    let mut state = ClusterState { nodes: Some(Vec::new()), ..ClusterState::default() };
    let mut here = ClusterHere { node: Some("k0".into()), ..ClusterHere::default() };
    for at in 0..n {
        let nodes = state.nodes.as_mut().unwrap();
        nodes.push(ClusterNode { ready: Some(false), ..node(&format!("k{at}"), Vec::new()) });
        let (name, ip) = (format!("web-{at}"), format!("10.0.1.{at}"));
        let mtus = tells(&format!("net-{at}"), "eth0", 1500);
        state.pods.push(ClusterPod { mtus, ..pod(&name, Some("k0"), &ip) });
        let mtus = tells(&format!("net-{at}"), "eth0", 1400);
        state.pods.push(ClusterPod { mtus, ..pod(&format!("twin-{at}"), Some("k9"), &ip) });
        let message = Some(format!("reason {at}"));
        let waiting = Unscheduled { message, ..Unscheduled::default() };
        state.pods.push(waits(&format!("waits-{at}"), waiting));
        here.pods.push(runs(&name, &format!("10.0.2.{at}")));
        here.interfaces.push((Some(format!("shop/{name}")), "eth0".into(), 1450));
    }
    (state, here)
}

#[test]
fn of_each_rule_twenty_findings_are_listed_and_the_last_tells_how_many_more() {
    let rules = [
        "cluster.node_not_ready",
        "cluster.ip_disagrees",
        "cluster.duplicate_ip",
        "cluster.unscheduled",
        "cluster.mtu_disagrees",
        "cluster.mtu_differs",
    ];
    for (n, more) in [(20, 0), (25, 5)] {
        let (state, here) = broken(n);
        let found = check_cluster(&state, &here, 5);
        for id in rules {
            let of: Vec<&Finding> = found.findings.iter().filter(|f| f.id == id).collect();
            assert_eq!(of.len(), 20, "{id} of {n}");
            let told: Vec<&&Finding> = of.iter().filter(|f| f.summary.contains(" more of ")).collect();
            if more == 0 {
                assert_eq!(told, [] as [&&Finding; 0], "{id}");
            } else {
                assert_eq!(told, [of.last().unwrap()], "{id}");
                let words = format!(" (and {more} more of {id}, not listed)");
                assert!(told[0].summary.ends_with(&words), "{}", told[0].summary);
            }
        }
        let all = if more == 0 {
            BTreeMap::new()
        } else {
            BTreeMap::from([(Severity::Critical, 3 * more), (Severity::Warning, 3 * more)])
        };
        assert_eq!(found.more, all);
    }
}

#[test]
fn a_network_with_many_mtus_says_how_many_are_not_named() {
    let nodes = (0..12).map(|at| node(&format!("k{at}"), tells(NET1, "eth1", 1400 + at))).collect();
    let state = ClusterState { nodes: Some(nodes), ..ClusterState::default() };
    let found = check_cluster(&state, &ClusterHere::default(), 5).findings;
    assert!(found[0].summary.ends_with(" 1408, 1409 and 2 more"), "{}", found[0].summary);
}

#[test]
fn the_scheduler_has_half_a_minute_for_its_first_word() {
    let made = unix_seconds("2026-11-26T10:00:00Z").unwrap();
    let young = |message: Option<&str>| Unscheduled {
        message: message.map(Into::into),
        source: "condition PodScheduled",
        since: Some("2026-11-26T10:00:00Z".into()),
        since_source: "metadata.creationTimestamp",
        ..Unscheduled::default()
    };
    let found = |unscheduled: Unscheduled, asked_at| {
        let state = ClusterState { asked_at, ..of(vec![waits("a", unscheduled)]) };
        check_cluster(&state, &ClusterHere::default(), 5).findings
    };
    for at in [made - 60, made, made + 29] {
        assert_eq!(found(young(None), Some(at)), []);
    }
    for at in [Some(made + 30), None] {
        let late = found(young(None), at);
        assert!(late[0].summary.contains("no word of the scheduler"), "{}", late[0].summary);
        assert_eq!(late[0].evidence.len(), 1);
        assert_eq!(late[0].evidence[0].source, "metadata.creationTimestamp");
    }
    let told = found(young(Some("0/1 nodes")), Some(made));
    assert_eq!(told[0].summary, "shop/a has no node: 0/1 nodes", "what it said is told at once");
    assert_eq!(told[0].evidence[1].value, "condition PodScheduled");
}

#[test]
fn a_pod_with_gates_waits_for_their_controller_and_not_for_resources() {
    let gated = |gates: &[&str]| Unscheduled {
        message: Some("Scheduling is blocked due to non-empty scheduling gates".into()),
        gated: true,
        gates: gates.iter().map(ToString::to_string).collect(),
        ..Unscheduled::default()
    };
    let state = of(vec![waits("a", gated(&["x.io/quota", "x.io/zone"])), waits("b", gated(&[]))]);
    let found = check_cluster(&state, &ClusterHere::default(), 5).findings;
    let summaries: Vec<&str> = found.iter().map(|f| f.summary.as_str()).collect();
    assert_eq!(
        summaries,
        [
            "shop/b has no node: held back by spec.schedulingGates",
            "shop/a has no node: held back by spec.schedulingGates x.io/quota, x.io/zone"
        ]
    );
    for finding in &found {
        assert!(finding.fix.contains("The controller that set a gate removes it"), "{}", finding.fix);
        assert!(!finding.fix.contains("tolerations"), "{}", finding.fix);
    }
}
