//! A node with a real containerd and CNI: well, and broken one way after the other.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use serde_json::Value;
use support::lab::Lab;
use support::stderr;

/// The kernel's messages are those of the whole machine, other labs too: none of them counts here.
/// The verdict, and the findings that are worse than worth knowing.
fn node(lab: &Lab) -> (String, Vec<String>) {
    let (_, document) = lab.nsprobe(1, &["node", "--since", "1us"]);
    let worse = |f: &&Value| f["severity"] != "info";
    let ids = document["findings"].as_array().unwrap().iter().filter(worse);
    let ids = ids.map(|f| f["id"].as_str().unwrap().to_owned()).collect();
    (document["verdict"].as_str().unwrap().to_owned(), ids)
}

fn sh(lab: &Lab, script: &str) {
    let output = lab.exec(1, &["sh", "-ec", script]);
    assert!(output.status.success(), "{script}: {}", stderr(&output));
}

#[test]
fn each_way_to_break_a_node_is_told_and_a_well_one_has_no_finding() {
    let lab = Lab::up("--nodes 1 --ipv6 off");
    let well = ("unknown".to_owned(), vec![]);
    let broken = |id: &str| ("broken".to_owned(), vec![id.to_owned()]);
    assert_eq!(node(&lab), well, "it has no kubelet, and is never called healthy");

    lab.script(&["hang", "1"]);
    assert_eq!(node(&lab), ("degraded".to_owned(), vec!["runtime.hung".to_owned()]));
    lab.script(&["resume", "1"]);

    sh(&lab, "echo 0 >/proc/sys/net/ipv4/ip_forward");
    assert_eq!(node(&lab), broken("net.forwarding_off"));
    sh(&lab, "echo 1 >/proc/sys/net/ipv4/ip_forward; mkdir /tmp/kept; mv /etc/cni/net.d/* /tmp/kept/");
    assert_eq!(node(&lab), broken("node.cni_missing"));
    sh(
        &lab,
        "mv /tmp/kept/* /etc/cni/net.d/; mkdir -p /var/lib/kubelet; echo 'a: [b' >/var/lib/kubelet/config.yaml",
    );
    assert_eq!(node(&lab), ("degraded".to_owned(), vec!["node.config_unreadable".to_owned()]));
    sh(&lab, "rm /var/lib/kubelet/config.yaml");
    assert_eq!(node(&lab), well);

    // containerd calls loopback for every pod, whatever the configuration names.
    sh(&lab, "mv /usr/lib/cni/loopback /tmp/kept/");
    assert_eq!(node(&lab), broken("node.cni_plugin_missing"));
    sh(&lab, "mv /tmp/kept/loopback /usr/lib/cni/; mount -t tmpfs -o size=1m tmpfs /var/lib/kubelet");
    assert_eq!(node(&lab), well);
    sh(&lab, "head -c 980000 /dev/zero >/var/lib/kubelet/x");
    assert_eq!(node(&lab), ("degraded".to_owned(), vec!["node.disk_full".to_owned()]));
    sh(&lab, "umount /var/lib/kubelet");
    // What another runtime left behind is nobody's configuration.
    sh(&lab, "mkdir -p /etc/crio/crio.conf.d; echo 'a = [' >/etc/crio/crio.conf.d/00-x.conf");
    assert_eq!(node(&lab), well);
}
