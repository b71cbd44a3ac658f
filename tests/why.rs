//! `nsprobe why` on the recorded nodes of three runtimes: alive, hung and dead; and on what a pod can do to it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod pods_support;
mod support;

use pods_support::cri::{dead, hung, serve_recorded};
use pods_support::{Answer, Node};
use serde_json::{Value, json};
use support::schema;

const CONTAINERD: &str = "/run/containerd/containerd.sock";
const CRIO: &str = "/run/crio/crio.sock";
const KERNEL: &str = include_str!("fixtures/why/kernel-v1.txt");

#[track_caller]
fn why(node: &Node, pod: &str) -> Answer {
    let answer = node.json(&["--runtime-timeout", "300ms", "why", pod]);
    assert_eq!(schema::errors(&answer.json), [] as [String; 0]);
    answer
}

/// Number, state, exit code and cause of the newest attempt of the only container.
#[track_caller]
fn newest(answer: &Answer) -> Value {
    let containers = answer.json["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "{:#}", answer.json);
    let attempt = containers[0]["attempts"].as_array().unwrap().last().unwrap();
    json!([attempt["attempt"], attempt["state"], attempt["exit_code"], attempt["signal"], attempt["cause"]])
}

fn ids(answer: &Answer) -> Vec<&str> {
    let findings = answer.json["findings"].as_array().unwrap_or_else(|| panic!("{:#}", answer.json));
    findings.iter().map(|f| f["id"].as_str().unwrap()).filter(|id| id.starts_with("why.")).collect()
}

#[test]
fn every_recorded_end_has_its_cause() {
    let oom = json!([6, "exited", 137, 9, "oom_limit"]);
    for (name, socket, pod, expected, found) in [
        (
            "containerd-1.7",
            CONTAINERD,
            "crash",
            json!([5, "exited", 3, null, "crash"]),
            &["why.crash", "why.backoff"][..],
        ),
        ("containerd-1.7", CONTAINERD, "once", json!([0, "exited", 0, null, "completed"]), &[]),
        ("containerd-1.7", CONTAINERD, "web-6f5d", json!([0, "running", null, null, "running"]), &[]),
        (
            "containerd-1.7",
            CONTAINERD,
            "badcmd",
            json!([6, "exited", 128, null, "start_error"]),
            &["why.start_error", "why.backoff"],
        ),
        (
            "containerd-1.7",
            CONTAINERD,
            "live",
            json!([6, "exited", 137, 9, "signal"]),
            &["why.signal", "why.backoff"],
        ),
        ("containerd-1.7", CONTAINERD, "oom", oom, &["why.oom_limit", "why.backoff"]),
        (
            "containerd-1.6",
            CONTAINERD,
            "crash-k5",
            json!([5, "exited", 3, null, "crash"]),
            &["why.crash", "why.backoff"],
        ),
        (
            "containerd-1.6",
            CONTAINERD,
            "oom-k5",
            json!([5, "exited", 137, 9, "oom_limit"]),
            &["why.oom_limit", "why.backoff"],
        ),
        (
            "containerd-2",
            CONTAINERD,
            "oom-k6",
            json!([3, "exited", 137, 9, "oom_limit"]),
            &["why.oom_limit", "why.backoff"],
        ),
        (
            "crio-1.37",
            CRIO,
            "crash-k4",
            json!([3, "exited", 3, null, "crash"]),
            &["why.crash", "why.backoff"],
        ),
        (
            "crio-1.37",
            CRIO,
            "oom-k4",
            json!([3, "exited", 137, 9, "oom_limit"]),
            &["why.oom_limit", "why.backoff"],
        ),
        ("crio-1.37", CRIO, "once-k4", json!([0, "exited", 0, null, "completed"]), &[]),
    ] {
        let node = Node::recorded(name);
        // Of other pods: read, and of none of these but one.
        node.put("var/log/kern.log", "2026-11-23T17:00:00Z k1 kernel: cni0: port 1 entered blocking state\n");
        let _server = serve_recorded(&node, socket);
        let answer = why(&node, pod);
        assert_eq!(newest(&answer), expected, "{name} {pod}: {}", answer.stderr);
        assert_eq!(ids(&answer), found, "{name} {pod}");
        assert_eq!(answer.code, i32::from(!found.is_empty()), "{name} {pod}");
    }
}

#[test]
fn the_kubelets_log_tells_of_a_probe_and_of_its_waiting() {
    let node = Node::recorded("containerd-1.7");
    let lines = include_str!("fixtures/why/kubelet-liveness.txt");
    node.put("var/log/messages", &format!("{lines}{}", include_str!("fixtures/why/kubelet-backoff.txt")));
    let _server = serve_recorded(&node, CONTAINERD);
    let live = why(&node, "live");
    assert_eq!(ids(&live), ["why.probe_kill", "why.backoff"]);
    let crash = why(&node, "crash");
    assert_eq!(ids(&crash), ["why.crash", "why.backoff"]);
    let waits = crash.json["findings"][1]["summary"].as_str().unwrap();
    assert!(waits.ends_with("the kubelet says: back-off 2m40s restarting failed container=app"), "{waits}");
}

#[test]
fn a_log_that_does_not_reach_back_denies_nothing() {
    let node = Node::recorded("containerd-1.7");
    node.put("var/log/kern.log", "2026-11-23T17:30:00Z k1 kernel: cni0: port 1 entered blocking state\n");
    let _server = serve_recorded(&node, CONTAINERD);
    let answer = why(&node, "live");
    assert_eq!(ids(&answer), ["why.signal", "why.backoff", "why.kernel_unread"]);
    let text = answer.json["findings"].to_string();
    assert!(text.contains("the log reaches back to 2026-11-23T17:30:00Z only"), "{text}");
    assert!(!text.contains("for memory it was not"), "{text}");
}

/// cgroup version 2: the kernel's records and the runtime's words of the same minutes.
#[test]
fn version_two_by_its_pods_limit_as_a_group_and_a_child_alone() {
    let oom = Node::recorded("cgroup-v2-oom");
    oom.put("var/log/kern.log", include_str!("fixtures/why/kernel-v2-main-and-group.txt"));
    let server = serve_recorded(&oom, CONTAINERD);
    let group = why(&oom, "oom-group-txnode");
    assert_eq!(ids(&group), ["why.oom_limit"], "{:#}", group.json);
    let parent = &group.json["containers"].as_array().unwrap()[1];
    let causes: Vec<&Value> = parent["attempts"].as_array().unwrap().iter().map(|a| &a["cause"]).collect();
    assert_eq!((&parent["name"], causes), (&json!("parent"), vec![&json!("oom_limit"), &json!("running")]));
    let text = group.json["findings"].to_string();
    assert!(
        text.contains("busybox (PID 3505, 48.8 MiB), sh (PID 1204, 1.5 MiB), all of the container"),
        "{text}"
    );
    let main = why(&oom, "oom-main-txnode");
    assert_eq!(
        newest(&main),
        json!([3, "exited", 137, 9, "oom_limit"]),
        "of this attempt the runtime's word alone"
    );
    // The first attempt's record is of a container that is gone: its pod's limit was reached.
    let past = main.json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["id"] == "why.oom_limit" && f["severity"] == "warning");
    assert!(past.unwrap()["evidence"].to_string().contains("busybox (PID 1247"), "{:#}", main.json);
    assert_eq!(ids(&why(&oom, "two-txnode")), [] as [&str; 0]);
    assert_eq!(ids(&why(&oom, "crash-txnode")), ["why.crash", "why.backoff"]);
    drop(server);

    let child = Node::recorded("cgroup-v2-child");
    child.put("var/log/kern.log", include_str!("fixtures/why/kernel-v2-child.txt"));
    let _server = serve_recorded(&child, CONTAINERD);
    let main = why(&child, "oom-main-txnode");
    assert!(
        main.json["findings"][0]["summary"]
            .as_str()
            .unwrap()
            .ends_with("at its pod's memory limit of 48 MiB")
    );
    let answer = why(&child, "oom-child-txnode");
    assert_eq!(ids(&answer), ["why.oom_child"], "{:#}", answer.json);
    let parent = &answer.json["containers"][1];
    assert_eq!((&parent["name"], &parent["attempts"][0]["state"]), (&json!("parent"), &json!("running")));
    assert_eq!(parent["attempts"][0]["cause"], "oom_child");
    assert!(answer.json["findings"][0]["evidence"].to_string().contains("busybox (PID 9908"));
}

#[test]
fn times_limit_and_message_are_the_runtimes() {
    let node = Node::recorded("containerd-1.7");
    let _server = serve_recorded(&node, CONTAINERD);
    let oom = why(&node, "oom");
    let attempt = oom.json["containers"][0]["attempts"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&attempt["started_at"], &attempt["finished_at"], &attempt["memory_limit_bytes"]),
        (&json!("2026-11-23T17:08:00Z"), &json!("2026-11-23T17:08:00Z"), &json!(25_165_824))
    );
    let bad = why(&node, "badcmd");
    assert_eq!(
        bad.json["containers"][0]["attempts"].as_array().unwrap().last().unwrap()["started_at"],
        Value::Null
    );
    assert!(bad.json["findings"][0]["summary"].as_str().unwrap().contains("/bin/does-not-exist"));
}

#[test]
fn the_kernels_record_of_containers_that_are_gone_is_told_with_the_pod() {
    let node = Node::recorded("containerd-1.7");
    node.put("var/log/kern.log", KERNEL);
    let _server = serve_recorded(&node, CONTAINERD);
    let answer = why(&node, "oom");
    let findings = answer.json["findings"].as_array().unwrap();
    let past =
        findings.iter().find(|f| f["summary"].as_str().unwrap().contains("for memory 3 times")).unwrap();
    assert_eq!(past["id"], "why.oom_limit");
    assert!(past["evidence"].to_string().contains("tail (PID 12298"), "{past:#}");
    assert_eq!(ids(&why(&node, "crash")), ["why.crash", "why.backoff"], "the kills are of another pod");
}

/// The kubelet's links, which the recordings do not have: they tell names and attempts.
fn link_logs(node: &Node) {
    for pod in node.json(&["pods", "--all"]).pods() {
        let text = |key: &str| pod[key].as_str().unwrap();
        let (namespace, name) = (text("namespace"), text("name"));
        for container in pod["containers"].as_array().unwrap() {
            let (id, of) = (container["id"].as_str().unwrap(), container["name"].as_str().unwrap());
            let folder = format!("var/log/pods/{namespace}_{name}_{}/{of}", text("uid"));
            node.put(
                &format!("{folder}/{}.log", container["attempt"]),
                "2026-11-23T17:05:00Z stdout F hello\n",
            );
            let link = format!("var/log/containers/{name}_{namespace}_{of}-{id}.log");
            node.link(&format!("/{folder}/{}.log", container["attempt"]), &link);
        }
    }
}

/// The containers; of their limits those that are one: where the configuration is gone, none is not known.
fn lives(document: &Value) -> Value {
    let mut containers = document["containers"].clone();
    for container in containers.as_array_mut().unwrap() {
        for attempt in container["attempts"].as_array_mut().unwrap() {
            if attempt["memory_limit_bytes"] == 0 {
                attempt["memory_limit_bytes"] = Value::Null;
            }
        }
    }
    containers
}

#[test]
fn a_hung_and_a_dead_runtime_give_the_same_answers_from_disk() {
    for (name, socket, pods) in [
        ("containerd-1.7", CONTAINERD, &["web-6f5d", "two", "crash", "oom", "badcmd", "live", "once"][..]),
        ("crio-1.37", CRIO, &["crash-k4", "oom-k4", "once-k4", "web-6f5d-k4"]),
    ] {
        for pod in pods {
            let node = Node::recorded(name);
            let alive = {
                let _server = serve_recorded(&node, socket);
                link_logs(&node);
                why(&node, pod).json
            };
            node.remove(socket.trim_start_matches('/'));
            {
                let _socket = hung(&node, socket);
                let answer = why(&node, pod);
                assert_eq!(lives(&answer.json), lives(&alive), "{name} {pod} hung");
                assert!(answer.json["findings"].to_string().contains("runtime.hung"));
            }
            node.remove(socket.trim_start_matches('/'));
            dead(&node, socket);
            assert_eq!(lives(&why(&node, pod).json), lives(&alive), "{name} {pod} dead");
        }
    }
}

#[test]
fn a_pod_of_which_only_logs_are_left_is_unknown_and_says_what_it_wrote() {
    let node = Node::empty();
    let folder = "var/log/pods/shop_gone_0a1b2c3d-0000-4000-8000-000000000000/app";
    let lines: String = (0..9).map(|n| format!("2026-11-23T17:05:0{n}.5Z stdout F line {n}\n")).collect();
    node.put(&format!("{folder}/2.log"), &lines);
    node.put(&format!("{folder}/3.log"), "2026-11-23T17:06:00Z stderr F \x1b[2Jboo\n");
    let answer = why(&node, "gone");
    let attempts = answer.json["containers"][0]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0]["last_lines"], json!(["line 4", "line 5", "line 6", "line 7", "line 8"]));
    assert_eq!((&attempts[1]["cause"], &attempts[1]["exit_code"]), (&json!("unknown"), &Value::Null));
    let text = String::from_utf8(node.run(&["why", "gone"]).stdout).unwrap();
    assert!(text.starts_with("not known: shop/gone"), "{text}");
    assert!(text.contains("> \\u{1b}[2Jboo"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn what_a_container_writes_and_calls_itself_is_bounded() {
    let node = Node::empty();
    let folder = "var/log/pods/shop_loud_0a1b2c3d-0000-4000-8000-000000000000/app";
    node.put(&format!("{folder}/0.log"), &format!("2026-11-23T17:05:00Z stdout F {}\n", "é".repeat(400_000)));
    node.link("/etc/shadow", &format!("{folder}/1.log"));
    node.put(
        "var/log/kern.log",
        &"x kernel: oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/pod".repeat(100_000),
    );
    let answer = why(&node, "loud");
    let attempts = answer.json["containers"][0]["attempts"].as_array().unwrap();
    assert_eq!(attempts[0]["last_lines"][0].as_str().unwrap().chars().count(), 300);
    assert_eq!(attempts[1]["last_lines"], json!([]), "no link is followed");
}

#[test]
fn no_such_pod_is_3_and_a_container_can_be_named() {
    let node = Node::recorded("containerd-1.6");
    let _server = serve_recorded(&node, CONTAINERD);
    let missing = node.json(&["why", "nosuch"]);
    assert_eq!((missing.code, &missing.json["schema"]), (3, &json!("nsprobe.error/v1")));
    let both = why(&node, "two-k5");
    let names = |answer: &Answer| {
        let containers = answer.json["containers"].as_array().unwrap();
        containers.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((names(&both), both.code), (vec!["app".into(), "sidecar".into()], 0));
    assert_eq!(names(&why(&node, "shop/two-k5:sidecar")), ["sidecar"]);
}
