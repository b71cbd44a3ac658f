//! Sockets of real pods: one that is stuck on the MTU between two nodes, and one in the node's own network. Needs
//! root and scripts/setup.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use serde_json::Value;
use std::time::{Duration, Instant};
use support::lab::Lab;

fn has(document: &Value, id: &str) -> bool {
    document["findings"].as_array().unwrap().iter().any(|f| f["id"] == id)
}

/// Looks until `done` says so.
#[track_caller]
fn until(lab: &Lab, arguments: &[&str], done: impl Fn(&Value) -> bool) -> (Option<i32>, Value) {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let (code, document) = lab.nsprobe(1, arguments);
        if done(&document) {
            return (code, document);
        }
        assert!(Instant::now() < end, "{document:#}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn a_pod_s_upload_into_a_black_hole_is_stuck_on_the_mtu_and_its_process_is_named() {
    let lab = Lab::up("--case l2-silent");
    lab.script(&["pod", "2", "default/sink", "--command", "nc -ll -p 7000 -e sh -c 'cat > /dev/null'"]);
    let sink = lab.pod(2, "sink")["ips"][0].as_str().unwrap().to_owned();
    let upload = format!("sleep 3; (head -c 200000 /dev/zero; sleep 1000) | nc {sink} 7000");
    lab.script(&["pod", "1", "shop/sender", "--command", &upload]);

    // Segments as they are on a wire: what an offload cuts later passes a bridge whole.
    let plain =
        lab.exec(1, &["nsprobe", "exec", "sender", "--", "ip", "link", "set", "eth0", "gso_max_segs", "1"]);
    assert!(plain.status.success(), "{}", support::stderr(&plain));

    let (code, suspected) = until(&lab, &["sockets", "sender"], |d| has(d, "sockets.mtu_suspected"));
    assert_eq!(code, Some(1));
    let socket = &suspected["namespaces"][0]["sockets"][0];
    assert_eq!(
        (&socket["process"]["name"], &socket["state"]),
        (&"nc".into(), &"established".into()),
        "{suspected:#}"
    );
    assert_eq!(socket["remote"], format!("{sink}:7000"));
    let pid = socket["process"]["pid"].as_u64().unwrap();
    let comm = lab.exec(1, &["cat", &format!("/proc/{pid}/comm")]);
    assert_eq!(support::stdout(&comm), "nc\n", "the PID is the node's");

    let (code, proven) = lab.nsprobe(1, &["sockets", "sender", "--measure"]);
    assert_eq!(code, Some(1));
    let findings = proven["findings"].as_array().unwrap();
    let stuck =
        findings.iter().find(|f| f["id"] == "sockets.stuck_on_mtu").unwrap_or_else(|| panic!("{proven:#}"));
    assert_eq!((&stuck["subject"], &stuck["severity"]), (&"shop/sender".into(), &"critical".into()));
    assert!(stuck["summary"].as_str().unwrap().contains("1500 bytes, the path carries 1450"), "{stuck:#}");
    assert!(
        stuck["fix"].as_str().unwrap().contains("nsprobe exec shop/sender -- ip link set dev eth0 mtu 1450")
    );

    // What the fix says, word for word; the upload goes on.
    let fixed = lab.exec(
        1,
        &["nsprobe", "exec", "shop/sender", "--", "ip", "link", "set", "dev", "eth0", "mtu", "1450"],
    );
    assert!(fixed.status.success(), "{}", support::stderr(&fixed));
    let healthy = |d: &Value| d["findings"].as_array().unwrap().iter().all(|f| f["severity"] == "info");
    let (code, document) = until(&lab, &["sockets", "sender"], healthy);
    assert_eq!(code, Some(0));
    assert_eq!(document["namespaces"][0]["sockets"][0]["send_queue_bytes"], 0);
}

#[test]
fn of_a_pod_in_the_node_s_network_only_its_own_sockets_are_shown() {
    let lab = Lab::up("--ipv6 off");
    lab.script(&[
        "pod",
        "1",
        "kube-system/agent",
        "--host-network",
        "--command",
        "nc -ll -p 7001 -e cat & exec nc -ll -p 7002 -e cat",
    ]);
    let ports = |document: &Value| {
        let sockets = document["namespaces"][0]["sockets"].as_array().unwrap();
        let mut ports: Vec<String> = sockets
            .iter()
            .map(|s| s["local"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned())
            .collect();
        ports.sort();
        ports.dedup();
        ports
    };
    let (code, own) = until(&lab, &["sockets", "agent", "-l"], |d| ports(d).len() == 2);
    assert_eq!((code, ports(&own)), (Some(0), vec!["7001".to_owned(), "7002".to_owned()]), "{own:#}");
    assert!(has(&own, "sockets.host_network"), "and the report says so: {own:#}");
    let (_, host) = lab.nsprobe(1, &["sockets", "host", "-l"]);
    assert!(ports(&host).len() > 2, "containerd listens too: {host:#}");
    assert!(!has(&host, "sockets.host_network"));
}
