//! Host tools and names in the pods of a real node. Needs root and scripts/setup.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use support::lab::Lab;
use support::{stderr, stdout};

#[test]
fn a_tool_of_the_node_runs_in_the_pod_and_its_names_are_the_pods() {
    let lab = Lab::up("--ipv6 off");
    let pod = lab.pod(1, "web-0");
    let ip = pod["ips"][0].as_str().unwrap();

    let script = "hostname; ip -br addr show dev eth0; ls /sys/class/net; ls /sys/fs/cgroup/memory/kubepods";
    let mounts = || stdout(&lab.exec(1, &["sh", "-c", "grep -c . /proc/self/mountinfo"]));
    let before = mounts();
    let tool = lab.exec(1, &["nsprobe", "exec", "web-0", "--", "sh", "-c", script]);
    let shown = stdout(&tool);
    assert_eq!(shown.lines().next(), Some("web-0"), "the pod's hostname: {}", stderr(&tool));
    assert!(shown.lines().nth(1).unwrap().contains(ip), "{shown}");
    assert!(shown.contains("eth0\nlo\n") && !shown.contains("cni0"), "/sys is the pod's: {shown}");
    assert!(shown.contains("besteffort"), "the node's cgroups are still there: {shown}");
    assert_eq!(mounts(), before);
    let code = lab.exec(1, &["nsprobe", "exec", &format!("ip:{ip}"), "--", "sh", "-c", "exit 7"]);
    assert_eq!(code.status.code(), Some(7));

    // The way back to itself goes over lo: only whether the name is resolved counts.
    let (_, itself) = lab.nsprobe(1, &["mtu", "web-0", "pod:default/web-0", "--max", "1500"]);
    assert_eq!(itself["target"]["address"], ip, "{itself:#}");
    let (code, other) = lab.nsprobe(1, &["mtu", "web-0", "pod:db-0"]);
    assert_eq!(code, Some(3));
    assert!(
        other["message"].as_str().unwrap().starts_with("no pod db-0 on this node; other nodes"),
        "{other:#}"
    );
    assert!(other["hint"].as_str().unwrap().contains("give its IP"), "{other:#}");

    // The lab has no DNS: the server that is named is the pod's, not the node's.
    let (code, silent) = lab.nsprobe(1, &["mtu", "web-0", "web.example"]);
    assert_eq!(code, Some(3));
    let message = silent["message"].as_str().unwrap();
    assert!(message.starts_with("cannot resolve web.example: server "), "{message}");
    assert!(message.ends_with("(resolv.conf of default/web-0)"), "{message}");
}
