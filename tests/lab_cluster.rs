//! What an API server tells of a real node and its pods, held against what they have. Needs root and scripts/setup.

#![cfg(feature = "cluster")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod api_support;
mod pods_support;
mod support;

use api_support::{Api, Reply, empty};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use support::lab::Lab;

/// What the API server says: a pod of this node with an MTU of Multus, the node with one of Kube-OVN.
fn told(pod: &Value, of_pod: u32, of_node: u32) -> (Value, Value) {
    let networks = json!([{"name": "cbr0", "interface": "eth0", "mtu": of_pod, "default": true, "dns": {}},
        {"name": "default/dpdk", "interface": "net1", "mtu": 9000, "dns": {}}]);
    let pods = json!({"metadata": {}, "items": [{
        "metadata": {"name": pod["name"], "namespace": pod["namespace"], "uid": pod["uid"],
            "annotations": {"k8s.v1.cni.cncf.io/network-status": networks.to_string()}},
        "spec": {"nodeName": "worker-1"},
        "status": {"phase": "Running", "podIPs": [{"ip": pod["ips"][0]}, {"ip": pod["ips"][1]}]}
    }]});
    let label = "net1.provider-network.kubernetes.io";
    let nodes = json!({"metadata": {}, "items": [{
        "metadata": {"name": "worker-1",
            "labels": {format!("{label}/mtu"): of_node.to_string(), format!("{label}/interface"): "eth0"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}
    }]});
    (pods, nodes)
}

#[test]
fn mtus_that_a_cni_publishes_are_held_against_the_interfaces_of_the_node_and_its_pods() {
    let lab = Lab::up("--nodes 1 --pod-mtu 1450");
    let (_, pods) = lab.nsprobe(1, &["pods"]);
    let pod = pods["pods"].as_array().unwrap()[0].clone();
    let lists = Arc::new(Mutex::new(told(&pod, 1450, 1500)));
    let answers = lists.clone();
    let pids: Value = serde_json::from_str(&lab.script(&["pids", "1"])).unwrap();
    let path = format!("/proc/{}/ns/net", pids["init_pid"]);
    let netns = nsprobe::netns::NetNs::open(std::path::Path::new(&path)).unwrap();
    let listener = netns.run(|| TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let api = Api::serve_at(listener, move |path, _| {
        let (pods, nodes) = &*answers.lock().unwrap();
        match path.split('?').next() {
            Some("/api/v1/pods") => Reply::Json(200, pods.to_string().into()),
            Some("/api/v1/nodes") => Reply::Json(200, nodes.to_string().into()),
            _ => empty(),
        }
    });
    let write = format!("cat >/tmp/admin.conf <<'X'\n{}\nX", api.kubeconfig());
    assert!(lab.exec(1, &["sh", "-c", &write]).status.success());
    let ask = || lab.nsprobe(1, &["cluster", "--kubeconfig", "/tmp/admin.conf"]);

    let (code, agree) = ask();
    assert_eq!((code, &agree["findings"]), (Some(0), &json!([])), "{agree:#}");
    let eth0 = json!({"network": "cbr0", "interface": "eth0", "mtu_bytes": 1450});
    assert_eq!(agree["pods"][0]["mtus"][0], eth0);
    assert_eq!(agree["nodes"][0]["mtus"][0]["interface"], "eth0");

    *lists.lock().unwrap() = told(&pod, 1500, 9000);
    let (code, differ) = ask();
    let said: Vec<&str> =
        differ["findings"].as_array().unwrap().iter().map(|f| f["summary"].as_str().unwrap()).collect();
    assert_eq!(
        (code, said),
        (
            Some(1),
            vec![
                "eth0 of node worker-1 has MTU 1500, and the API says 9000",
                "eth0 of default/web-0 has MTU 1450, and the API says 1500"
            ]
        )
    );
}
