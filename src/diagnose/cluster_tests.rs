use super::*;
use crate::facts::{PodState, Unscheduled};

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
    check_cluster(state, here, 5).into_iter().map(|f| f.id).collect()
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
    let summaries: Vec<String> = check_cluster(&state, &[], 5).into_iter().map(|f| f.summary).collect();
    assert_eq!(
        summaries,
        [
            "2 pods have no node: 0/1 nodes",
            "shop/c has no node: no word of the scheduler default-scheduler: does it run?"
        ]
    );
}

#[test]
fn networks_are_compared_by_name_and_only_where_an_mtu_is_told() {
    let node = |name: &str, mtu| ClusterNode {
        name: name.into(),
        ready: Some(true),
        mtus: vec![("net1.provider-network.kubernetes.io/mtu".into(), mtu)],
        ..ClusterNode::default()
    };
    let with = |second| ClusterState {
        nodes: Some(vec![node("k1", 1500), node("k2", second)]),
        ..ClusterState::default()
    };
    assert_eq!(ids(&with(1500), &[]), [] as [&str; 0]);
    assert_eq!(ids(&with(1400), &[]), ["cluster.mtu_differs"]);
}

#[test]
fn a_silent_node_is_not_ready_and_what_was_not_seen_is_said() {
    let silent =
        ClusterNode { name: "k2".into(), ready: None, why: "silent".into(), ..ClusterNode::default() };
    let state = ClusterState {
        nodes: Some(vec![silent]),
        pods: vec![pod("a", Some("k2"), "10.0.0.2")],
        not_looked_at: vec![("events".into(), "403".into())],
        ..ClusterState::default()
    };
    assert_eq!(ids(&state, &[]), ["cluster.node_not_ready", "cluster.not_looked_at"]);
    assert_eq!(check_cluster(&state, &[], 5)[0].summary, "node k2 is not ready, with 1 pod on it");
}
