//! Real host-local under a real containerd: a range that fills up, and what a wiped runtime leaves behind.

#![allow(clippy::unwrap_used, reason = "a test fails loudly; clippy sees only #[test] functions as tests")]

mod support;

use serde_json::{Value, json};
use support::lab::Lab;
use support::{stderr, stdout};

const SMALL: &str = r#"{"name":"small","cniVersion":"0.4.0","plugins":[{"type":"bridge","bridge":"cni9","isDefaultGateway":true,
    "ipam":{"type":"host-local","ranges":[[{"subnet":"10.9.9.0/29"}]]}}]}"#;

fn sh(lab: &Lab, script: &str) -> String {
    let output = lab.exec(1, &["sh", "-ec", script]);
    assert!(output.status.success(), "{script}: {}", stderr(&output));
    stdout(&output)
}

fn ids(document: &Value) -> Vec<&str> {
    document["findings"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap()).collect()
}

#[test]
fn a_29_is_full_after_five_pods_and_what_a_wiped_runtime_leaves_is_leaked() {
    let lab = Lab::up("--nodes 1 --pods none --ipv6 off");
    sh(
        &lab,
        &format!(
            "cat >/etc/cni/net.d/00-small.conflist <<'X'\n{SMALL}\nX\nrm /etc/cni/net.d/10-flannel.conflist"
        ),
    );
    // containerd reads the folder again when it changes; from its start on it is certain.
    lab.script(&["kill", "1"]);
    lab.script(&["restart-runtime", "1"]);
    for n in 0..4 {
        lab.script(&["pod", "1", &format!("shop/web-{n}")]);
    }
    lab.script(&["pod", "1", "kube-system/proxy", "--host-network"]);
    let (code, document) = lab.nsprobe(1, &["ipam"]);
    assert_eq!((code, ids(&document)), (Some(0), vec![]), "one of five is left");
    lab.script(&["pod", "1", "shop/web-4"]);
    let (code, document) = lab.nsprobe(1, &["ipam"]);
    let small = &document["networks"][0];
    assert_eq!(small["ranges"], json!([{"subnet": "10.9.9.0/29", "size": 5, "used": 5, "free": 0}]));
    assert_eq!((code, ids(&document)), (Some(1), vec!["ipam.exhausted"]));
    let web = lab.pod(1, "shop/web-2");
    let held = small["reservations"].as_array().unwrap().iter().find(|r| r["owner"] == "shop/web-2").unwrap();
    assert_eq!((&held["address"], &held["container_id"]), (&web["ips"][0], &web["sandbox_id"]));
    assert_eq!((&held["interface"], &held["leaked"]), (&json!("eth0"), &json!(false)));

    // The same while the runtime hangs: its files tell.
    lab.script(&["hang", "1"]);
    let (_, hung) = lab.nsprobe(1, &["--runtime-timeout", "300ms", "ipam"]);
    assert_eq!(hung["networks"], document["networks"]);
    lab.script(&["resume", "1"]);

    // Two pods die, and the runtime forgets them: what a crash and a lost database leave behind.
    lab.script(&["pod-rm", "1", "shop/web-0", "shop/web-1", "kube-system/proxy"]);
    for pod in ["shop/web-2", "shop/web-3"] {
        let pod = lab.pod(1, pod);
        for of in pod["containers"].as_array().unwrap().iter().chain([&pod]) {
            let id = of.get("sandbox_id").unwrap_or(&of["id"]).as_str().unwrap();
            let (pid, ctr) = (&of["pid"], "ctr -n k8s.io");
            let gone = format!("kill -9 {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.05; done");
            sh(
                &lab,
                &format!("{gone}; {ctr} tasks rm -f {id} 2>/dev/null || true; {ctr} containers rm {id}"),
            );
        }
    }
    lab.script(&["kill", "1"]);
    lab.script(&["restart-runtime", "1"]);
    let (_, young) = lab.nsprobe(1, &["ipam"]);
    assert_eq!(ids(&young), [] as [&str; 0], "they may be in the making");
    sh(&lab, "touch -d '10 minutes ago' /var/lib/cni/networks/small/*");
    let (code, document) = lab.nsprobe(1, &["ipam"]);
    assert_eq!((code, ids(&document)), (Some(1), vec!["ipam.leaked"]));
    let reservations = document["networks"][0]["reservations"].as_array().unwrap();
    let leaked: Vec<&Value> =
        reservations.iter().filter(|r| r["leaked"] == true).map(|r| &r["container_id"]).collect();
    assert_eq!((reservations.len(), leaked.len()), (3, 2), "the third pod lives: {reservations:?}");
    assert!(leaked.contains(&&web["sandbox_id"]));
    sh(&lab, document["findings"][0]["fix"].as_str().unwrap());
    let (code, document) = lab.nsprobe(1, &["ipam"]);
    assert_eq!((code, &document["networks"][0]["ranges"][0]["used"]), (Some(0), &json!(1)));
}
