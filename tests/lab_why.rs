//! Containers that a real containerd ran and a real kernel killed: each end has its cause, whatever the runtime does.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::lab::Lab;

/// Attempts of the only container: exit code, signal, cause.
fn ends(document: &Value) -> Vec<Value> {
    let attempts = document["containers"][0]["attempts"].as_array().unwrap();
    attempts.iter().map(|a| json!([a["attempt"], a["exit_code"], a["signal"], a["cause"]])).collect()
}

fn ids(document: &Value) -> Vec<&str> {
    let findings = document["findings"].as_array().unwrap();
    let ids = findings.iter().map(|f| f["id"].as_str().unwrap());
    ids.filter(|id| id.starts_with("why.")).collect()
}

/// The document once the newest attempt has the cause: the runtime learns of an end a moment later.
#[track_caller]
fn once(lab: &Lab, pod: &str, cause: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let (_, document) = lab.nsprobe(1, &["--runtime-timeout", "30s", "why", pod]);
        let newest = document["containers"][0]["attempts"].as_array().and_then(|a| a.last().cloned());
        if newest.is_some_and(|attempt| attempt["cause"] == cause) {
            return document;
        }
        assert!(Instant::now() < end, "{pod} is not {cause}: {document:#}");
    }
}

#[test]
fn every_end_has_its_cause_whether_the_runtime_answers_hangs_or_is_dead() {
    let lab = Lab::up("--nodes 1 --pods none --ipv6 off");
    let mib16 = (16 << 20).to_string();
    let pods: [(&str, &[&str]); 8] = [
        ("oom", &["--memory", &mib16, "--command", "echo eating; exec tail /dev/zero"]),
        ("child", &["--memory", &mib16, "--command", "tail /dev/zero; echo child gone; exec sleep 100000"]),
        ("crash", &["--command", "echo about to fail >&2; exit 3"]),
        ("once", &["--command", "echo all done"]),
        ("segv", &["--command", "sh -c 'kill -SEGV $$'; exit $?"]),
        ("term", &["--command", "sh -c 'kill -TERM $$'; exit $?"]),
        ("kill", &["--command", "sh -c 'kill -KILL $$'; exit $?"]),
        ("web", &[]),
    ];
    for (name, words) in pods {
        let name = format!("shop/{name}");
        let command: Vec<&str> = ["pod", "1", &name].iter().chain(words).copied().collect();
        lab.script(&command);
    }
    lab.script_fails(&["pod", "1", "shop/bad", "--raw", "--command", "/bin/does-not-exist"]);

    let oom = once(&lab, "shop/oom", "oom_limit");
    assert_eq!(ends(&oom), [json!([0, 137, 9, "oom_limit"])]);
    assert_eq!(ids(&oom), ["why.oom_limit"]);
    let evidence = oom["findings"][0]["evidence"].to_string();
    assert!(
        evidence.contains("tail (PID ") && evidence.contains("/dev/kmsg"),
        "the kernel's own record: {evidence}"
    );
    // What other processors had in reserve is not counted at that moment: 15.8 MiB have been seen.
    assert!(evidence.contains(" MiB of 16 MiB"), "{evidence}");
    assert_eq!(oom["containers"][0]["attempts"][0]["memory_limit_bytes"], 16 << 20);
    assert_eq!(oom["containers"][0]["attempts"][0]["last_lines"], json!(["eating"]));

    let child = once(&lab, "shop/child", "oom_child");
    assert_eq!(child["containers"][0]["attempts"][0]["state"], "running");
    assert_eq!(ids(&child), ["why.oom_child"]);

    let crash = once(&lab, "shop/crash", "crash");
    assert_eq!((ends(&crash), ids(&crash)), (vec![json!([0, 3, null, "crash"])], vec!["why.crash"]));
    for (pod, end, found) in [
        ("once", json!([0, 0, null, "completed"]), vec![]),
        ("segv", json!([0, 139, 11, "signal"]), vec!["why.signal"]),
        ("term", json!([0, 143, 15, "signal"]), vec!["why.terminated"]),
        ("kill", json!([0, 137, 9, "signal"]), vec!["why.signal"]),
        ("bad", json!([0, 128, null, "start_error"]), vec!["why.start_error"]),
        ("web", json!([0, null, null, "running"]), vec![]),
    ] {
        let document = once(&lab, &format!("shop/{pod}"), end[3].as_str().unwrap());
        assert_eq!(ends(&document), [end], "{pod}");
        assert_eq!(ids(&document), found, "{pod}");
    }

    // Started again: an OOM kill after a crash, a crash after a crash.
    lab.script(&["pod-restart", "1", "shop/crash"]);
    lab.script(&["pod-restart", "1", "shop/oom", "--command", "exit 7"]);
    once(&lab, "shop/crash", "crash");
    let again = once(&lab, "shop/oom", "crash");
    assert_eq!(ends(&again), [json!([0, 137, 9, "oom_limit"]), json!([1, 7, null, "crash"])]);
    assert_eq!(ids(&again), ["why.crash", "why.oom_limit", "why.backoff"]);
    let (code, _) = lab.nsprobe(1, &["why", "shop/once"]);
    assert_eq!(code, Some(0));
    let (code, _) = lab.nsprobe(1, &["why", "shop/oom"]);
    assert_eq!(code, Some(1));

    let all = ["oom", "child", "crash", "once", "segv", "term", "kill", "bad", "web"];
    let look = || -> Vec<Value> {
        let one = |pod: &&str| {
            let (_, document) = lab.nsprobe(1, &["--runtime-timeout", "1s", "why", &format!("shop/{pod}")]);
            document
        };
        all.iter().map(one).collect()
    };
    let alive = look();
    for (state, command, reason) in [("hung", "hang", "runtime.hung"), ("dead", "kill", "runtime.dead")] {
        lab.script(&[command, "1"]);
        for ((pod, before), now) in all.iter().zip(&alive).zip(look()) {
            assert_eq!(now["containers"], before["containers"], "{pod}, runtime {state}");
            assert_eq!(ids(&now), ids(before), "{pod}, runtime {state}");
            assert!(now["findings"].to_string().contains(reason), "{pod}, runtime {state}");
        }
        if state == "hung" {
            lab.script(&["resume", "1"]);
        }
    }
}
