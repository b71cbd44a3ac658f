//! Configuration against reality on a real worker: a changed CNI file, and the pods that were made before.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use serde_json::Value;
use support::lab::Lab;

/// Ids and subjects of the findings on configuration, and the whole document.
fn findings(lab: &Lab) -> (Vec<(String, String)>, Value) {
    let (_, document) = lab.nsprobe(1, &["links"]);
    let of = |f: &Value, key: &str| f[key].as_str().unwrap().to_owned();
    let all = document["findings"].as_array().unwrap();
    let config =
        all.iter().map(|f| (of(f, "id"), of(f, "subject"))).filter(|(id, _)| id.starts_with("config."));
    (config.collect(), document)
}

#[test]
fn a_pod_that_was_made_before_the_setting_changed_is_named_and_its_healthy_twin_is_not() {
    let lab = Lab::up("--nodes 1 --pod-mtu 1450");
    let (found, document) = findings(&lab);
    assert_eq!(found, [], "{document:#}");
    assert_eq!(document["new_pods"]["mtu_bytes"], 1450, "{document:#}");
    assert_eq!(document["new_pods"]["plugin"], "bridge");

    lab.script(&["set", "--pod-mtu", "1400"]);
    lab.script(&["pod", "1", "default/fresh"]);
    let (found, document) = findings(&lab);
    assert_eq!(found, [("config.pods_larger".to_owned(), "default/web-0".to_owned())], "{document:#}");
    let finding =
        document["findings"].as_array().unwrap().iter().find(|f| f["id"] == "config.pods_larger").unwrap();
    assert!(
        finding["fix"].as_str().unwrap().starts_with("kubectl delete pod -n default web-0"),
        "{finding:#}"
    );
    assert!(finding["summary"].as_str().unwrap().contains("made before it was written"), "{finding:#}");

    // A bridge that kept its MTU, and a file that nobody can read.
    lab.exec(1, &["ip", "link", "set", "dev", "cni0", "mtu", "1450"]);
    lab.exec(1, &["sh", "-c", "echo '{' >/etc/cni/net.d/99-later.conf"]);
    let (found, document) = findings(&lab);
    assert!(found.contains(&("config.bridge_not_following".to_owned(), "host".to_owned())), "{document:#}");
    assert!(!found.iter().any(|(id, _)| id == "config.cni_unreadable"), "it comes last: {document:#}");
    lab.exec(1, &["sh", "-c", "mkfifo /etc/cni/net.d/00-first.conf"]);
    let (found, document) = findings(&lab);
    assert_eq!(found, [("config.cni_unreadable".to_owned(), "host".to_owned())], "{document:#}");
    assert!(document["new_pods"].is_null(), "nobody knows: {document:#}");
}

#[test]
fn of_two_that_are_called_containerd_the_one_that_answers_says_where_the_cni_files_are() {
    let lab = Lab::up("--nodes 1 --pod-mtu 1450");
    // A shell under that name, which runs before the real one does.
    let decoy = r#"mkdir -p /root/decoy/net.d
cp /bin/dash /root/decoy/containerd
echo 'sleep 1000' >/root/decoy/script
printf 'version = 2\n[plugins."io.containerd.grpc.v1.cri".cni]\nconf_dir = "/root/decoy/net.d"\n' >/root/decoy/config.toml
printf '{"name":"decoy","type":"bridge","mtu":1300}' >/root/decoy/net.d/1.conf
setsid /root/decoy/containerd /root/decoy/script --config /root/decoy/config.toml </dev/null >/dev/null 2>&1 &"#;
    lab.exec(1, &["sh", "-c", decoy]);
    lab.script(&["restart-runtime", "1"]);
    let (_, document) = lab.nsprobe(1, &["links"]);
    assert_eq!(document["new_pods"]["mtu_bytes"], 1450, "{document:#}");
}
