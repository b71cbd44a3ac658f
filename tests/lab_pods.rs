//! Pods of a real containerd: alive, hung, killed; a dead pause process; a container that died unseen.

#![allow(clippy::unwrap_used, reason = "a test fails loudly; clippy sees only #[test] functions as tests")]

mod support;

use serde_json::{Value, json};
use std::time::Instant;
use support::lab::Lab;
use support::{stderr, stdout};

/// Everything that must not differ whether the runtime answers or not.
fn essence(document: &Value) -> Vec<Value> {
    let mut pods = document["pods"].as_array().unwrap().clone();
    for pod in &mut pods {
        // On disk it is the bundle's time, a moment later.
        pod["created_at"] = Value::Null;
    }
    pods
}

/// Makes processes of a node end, and waits until they have.
fn end(lab: &Lab, pid: u64) {
    let script = format!("kill -9 {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.05; done");
    let output = lab.exec(1, &["sh", "-c", &script]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn hung_and_killed_containerd_give_the_same_pods_pids_and_namespaces() {
    let lab = Lab::up("");
    lab.script(&["pod", "1", "shop/two", "--containers", "a,b"]);
    lab.script(&["pod", "1", "kube-system/proxy", "--host-network"]);
    let (code, alive) = lab.nsprobe(1, &["pods"]);
    assert_eq!((code, &alive["source"], &alive["degraded"]), (Some(0), &json!("cri"), &Value::Null));
    assert_eq!(alive["pods"].as_array().unwrap().len(), 3);
    let web = lab.pod(1, "web-0");
    let shown = alive["pods"].as_array().unwrap().iter().find(|pod| pod["name"] == "web-0").unwrap();
    assert_eq!((&shown["pid"], &shown["netns"], &shown["ips"]), (&web["pid"], &web["netns"], &web["ips"]));
    assert_eq!(shown["containers"][0]["pid"], web["containers"][0]["pid"]);
    let inode = lab.exec(1, &["stat", "-Lc", "%i", web["netns"].as_str().unwrap()]);
    assert_eq!(stdout(&inode).trim(), shown["netns_inode"].to_string());
    let proxy = alive["pods"].as_array().unwrap().iter().find(|pod| pod["name"] == "proxy").unwrap();
    assert_eq!((&proxy["host_network"], &proxy["ips"]), (&json!(true), &json!([])));

    let selectors: Vec<String> = vec![
        "web-0".into(),
        "default/web-0:app".into(),
        web["ips"][0].as_str().unwrap().into(),
        web["ips"][1].as_str().unwrap().into(),
        format!("id:{}", &web["sandbox_id"].as_str().unwrap()[..12]),
        web["containers"][0]["id"].as_str().unwrap()[..12].into(),
        web["uid"].as_str().unwrap().into(),
        format!("pid:{}", web["containers"][0]["pid"]),
        format!("netns:{}", web["netns"].as_str().unwrap().rsplit('/').next().unwrap()),
    ];
    let every_selector = |state: &str| {
        for selector in &selectors {
            let output = lab.exec(
                1,
                &[
                    "nsprobe",
                    "-q",
                    "--runtime-timeout",
                    "300ms",
                    "exec",
                    selector,
                    "--",
                    "ip",
                    "-br",
                    "-4",
                    "addr",
                    "show",
                    "eth0",
                ],
            );
            let text = stdout(&output);
            assert!(
                text.contains(web["ips"][0].as_str().unwrap()),
                "{state} {selector}: {text}{}",
                stderr(&output)
            );
        }
    };
    every_selector("alive");

    lab.script(&["hang", "1"]);
    let start = Instant::now();
    let (code, hung) = lab.nsprobe(1, &["pods"]);
    let elapsed = start.elapsed().as_millis();
    assert!((2000..3500).contains(&elapsed), "the deadline is 2 s for all calls together: {elapsed} ms");
    assert_eq!((code, &hung["degraded"]["reason"]), (Some(1), &json!("runtime_hung")));
    assert_eq!(essence(&hung), essence(&alive));
    every_selector("hung");
    lab.script(&["resume", "1"]);

    lab.script(&["kill", "1"]);
    let (code, dead) = lab.nsprobe(1, &["pods"]);
    assert_eq!((code, &dead["degraded"]["reason"]), (Some(1), &json!("runtime_dead")));
    assert_eq!(essence(&dead), essence(&alive));
    every_selector("dead");
    lab.script(&["restart-runtime", "1"]);
    let (code, again) = lab.nsprobe(1, &["pods"]);
    assert_eq!((code, essence(&again)), (Some(0), essence(&alive)));
}

#[test]
fn what_dies_while_the_runtime_hangs_is_not_believed_to_live() {
    let lab = Lab::up("");
    lab.script(&["pod", "1", "shop/two", "--containers", "a,b"]);
    let two = lab.pod(1, "shop/two");
    let pid = |name: &str| {
        let containers = two["containers"].as_array().unwrap();
        containers.iter().find(|c| c["name"] == name).unwrap()["pid"].as_u64().unwrap()
    };
    lab.script(&["hang", "1"]);
    end(&lab, pid("a"));
    let (_, document) = lab.nsprobe(1, &["--runtime-timeout", "300ms", "pods", "shop/two"]);
    let pod = &document["pods"][0];
    let container =
        |name: &str| pod["containers"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap();
    assert_eq!((&container("a")["pid"], &container("a")["state"]), (&Value::Null, &json!("exited")));
    assert_eq!((&container("b")["pid"], &pod["state"]), (&json!(pid("b")), &json!("ready")));

    // The pause process dies: the application keeps the namespace.
    end(&lab, two["pid"].as_u64().unwrap());
    let check = |state: &str| {
        let output = lab.exec(
            1,
            &[
                "nsprobe",
                "-q",
                "--runtime-timeout",
                "300ms",
                "exec",
                "shop/two",
                "--",
                "ip",
                "-br",
                "-4",
                "addr",
                "show",
                "eth0",
            ],
        );
        assert!(stdout(&output).contains(two["ips"][0].as_str().unwrap()), "{state}: {}", stderr(&output));
        let (_, document) = lab.nsprobe(1, &["--runtime-timeout", "300ms", "pods", "shop/two"]);
        let pod = &document["pods"][0];
        assert_eq!((&pod["state"], &pod["pid"]), (&json!("not_ready"), &json!(pid("b"))), "{state}: {pod:#}");
    };
    check("hung");
    lab.script(&["resume", "1"]);
    let asked = Instant::now();
    loop {
        let (_, document) = lab.nsprobe(1, &["pods", "shop/two"]);
        if document["pods"][0]["state"] == "not_ready" || asked.elapsed().as_secs() > 10 {
            break;
        }
    }
    check("alive again, sandbox not ready");
    // Nothing of it is left.
    end(&lab, pid("b"));
    let output = lab.exec(1, &["nsprobe", "-q", "exec", "netns:nosuch", "--", "true"]);
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn the_node_is_seen_through_a_host_root() {
    let lab = Lab::up("");
    let (_, inside) = lab.nsprobe(1, &["pods"]);
    // A debug container on the node: its own mounts, the node's files under /host, the node's PIDs.
    let script = "mkdir -p /tmp/debug && mount -t tmpfs t /tmp/debug && mkdir /tmp/debug/host && \
        mount --rbind / /tmp/debug/host && \
        nsprobe --host-root /tmp/debug/host pods -o json && \
        nsprobe -q --host-root /tmp/debug/host exec web-0 -- ip -br -4 addr show eth0 >&2";
    let output = lab.exec(1, &["unshare", "-m", "sh", "-c", script]);
    let outside: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e} {}", stderr(&output)));
    assert_eq!(outside, inside);
    assert!(stderr(&output).contains(inside["pods"][0]["ips"][0].as_str().unwrap()), "{}", stderr(&output));
}

#[test]
fn two_hundred_and_fifty_pods_take_less_than_a_second_and_8_mib() {
    let lab = Lab::up("");
    lab.script(&["pod", "1", "--prefix", "bulk/p", "--count", "250", "--workers", "2"]);
    // The limits of a released binary are 300 ms; this one is not optimised and shares its processors.
    for state in ["alive", "dead"] {
        if state == "dead" {
            lab.script(&["kill", "1"]);
        }
        let output = lab.exec(1, &["bash", "-c", "TIMEFORMAT=%R; time nsprobe pods"]);
        let text = stdout(&output);
        assert_eq!(text.lines().filter(|line| line.starts_with("bulk/p-")).count(), 250, "{text}");
        let measured = stderr(&output);
        let seconds: f64 = measured.lines().last().unwrap().parse().unwrap();
        assert!(seconds < 1.0, "{state}: {seconds} s");
        // It cannot end before its document is read: then all its memory has been used. Its own alone is counted,
        // not the pages of a program that is not optimised either: what a released one takes is in the README.
        let script = "mkfifo /tmp/pipe && { nsprobe pods -o json >/tmp/pipe & } && exec 3</tmp/pipe && sleep 2 && \
            awk '/RssAnon/ { print $2 }' /proc/$!/status; cat <&3 >/dev/null; rm /tmp/pipe";
        let output = lab.exec(1, &["bash", "-c", script]);
        let kib: u64 = stdout(&output).trim().parse().unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
        assert!(kib < 8 << 10, "{state}: {kib} KiB");
    }
}
