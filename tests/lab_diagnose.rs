//! `diagnose` of pods of real nodes: one that is well within a second, and for every set-up of the lab the root
//! cause first; a runtime that hangs or is dead, a sandbox that has ended, a pod in the node's own network.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::lab::Lab;
use support::name_server::NameServer;
use support::stderr;

/// Node 2, where names are served.
const NAMES: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 2);

/// Names served from node 2 and a pod on node 1 that asks there.
fn with_names(lab: &Lab) -> NameServer {
    let pids: Value = serde_json::from_str(&lab.script(&["pids", "2"])).unwrap();
    let node = PathBuf::from(format!("/proc/{}/ns/net", pids["init_pid"]));
    let names = NameServer::start(&node, NAMES, NAMES);
    lab.script(&["pod", "1", "asks", "--dns", &NAMES.to_string()]);
    names
}

fn ids(document: &Value) -> Vec<&str> {
    document["findings"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap()).collect()
}

fn grave(document: &Value) -> Vec<&str> {
    let findings = document["findings"].as_array().unwrap();
    findings.iter().filter(|f| f["severity"] != "info").map(|f| f["id"].as_str().unwrap()).collect()
}

fn outcome<'a>(document: &'a Value, id: &str) -> &'a str {
    let checks = document["checks"].as_array().unwrap();
    checks.iter().find(|c| c["id"] == id).map_or("absent", |c| c["outcome"].as_str().unwrap())
}

#[test]
fn a_pod_that_is_well_is_healthy_within_a_second() {
    let lab = Lab::up("--pod-mtu 1450");
    let _names = with_names(&lab);
    for words in [&["diagnose", "asks"][..], &["diagnose", "asks", "10.244.2.2", "--port", "80"]] {
        let start = Instant::now();
        let (code, document) = lab.nsprobe(1, words);
        assert_eq!((document["verdict"].as_str(), code), (Some("healthy"), Some(0)), "{document:#}");
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(grave(&document), [] as [&str; 0]);
        for id in
            ["runtime.answers", "pod.state", "pod.namespace", "pod.attachment", "dns.udp", "path.tunnels"]
        {
            assert_eq!(outcome(&document, id), "passed", "{id}: {document:#}");
        }
    }
    // The other end of the tunnel is measured from the node.
    let (_, document) = lab.nsprobe(1, &["diagnose", "asks"]);
    let paths = document["paths"].as_array().unwrap();
    let below = paths.iter().find(|p| p["target"]["address"] == "10.10.0.2").unwrap();
    assert_eq!((below["source"]["pod"].clone(), below["verdict"].as_str()), (Value::Null, Some("clear")));
    // In a pod of the node's own network nothing of this is different but whose it is.
    lab.script(&["pod", "1", "hostnet", "--host-network"]);
    let (_, document) = lab.nsprobe(1, &["diagnose", "hostnet", "10.10.0.2"]);
    assert!(ids(&document).contains(&"pod.host_network"), "{document:#}");
    assert_eq!(document["subject"], "default/hostnet");
    assert_eq!(document["paths"][0]["verdict"], "clear");
    assert_eq!(outcome(&document, "links.host"), "absent", "its own links are the node's");
    let (_, document) = lab.nsprobe(1, &["diagnose", "host", "10.10.0.2"]);
    assert_eq!(document["paths"][0]["verdict"], "clear", "{document:#}");
}

/// (case of the lab, verdict, the finding that stands first)
const ROWS: &[(&str, &str, &str)] = &[
    ("routed-ptb", "degraded", "config.mtu_exceeds_path"),
    ("routed-fragments", "degraded", "links.tunnel_exceeds_underlay"),
    ("fragments-dropped", "broken", "links.tunnel_exceeds_underlay"),
    ("vxlan-df", "broken", "links.tunnel_exceeds_underlay"),
    ("underlay-narrow", "broken", "tunnel.exceeds_path"),
    ("l2-silent", "broken", "config.mtu_exceeds_path"),
    ("l2-ptb-from-target", "degraded", "links.tunnel_exceeds_underlay"),
];

#[test]
fn every_row_of_the_lab_has_its_root_cause_first() {
    let mut wrong = Vec::new();
    for (case, verdict, first) in ROWS {
        let lab = Lab::up(&format!("--case {case}"));
        let _names = with_names(&lab);
        let target = lab.pod(2, "db-0")["ips"][0].as_str().unwrap().to_owned();
        let (code, document) = lab.nsprobe(1, &["diagnose", "asks", &target]);
        let seen = (document["verdict"].as_str(), ids(&document).first().copied());
        if seen != (Some(verdict), Some(first)) || code != Some(1) {
            wrong.push(format!("{case}: {seen:?}, exit {code:?}, {:?}\n{document:#}", ids(&document)));
        }
        let hole = ids(&document).contains(&"mtu.black_hole");
        if hole != (*verdict == "broken") {
            wrong.push(format!("{case}: {:?}", ids(&document)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_runtime_that_hangs_or_is_dead_and_a_sandbox_that_has_ended() {
    let lab = Lab::up("--pod-mtu 1450");
    let _names = with_names(&lab);
    lab.script(&["hang", "1"]);
    let start = Instant::now();
    let (code, document) = lab.nsprobe(1, &["diagnose", "asks", "10.244.2.2", "--runtime-timeout", "500ms"]);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!((grave(&document), code), (vec!["runtime.hung"], Some(1)), "{document:#}");
    assert_eq!(document["paths"][0]["verdict"], "clear", "it went on from disk");
    assert_eq!(outcome(&document, "dns.udp"), "passed");
    // Half of the time is left for everything else, however long the runtime may take.
    let start = Instant::now();
    let words = ["diagnose", "asks", "10.244.2.2", "--runtime-timeout", "1m", "--deadline", "4s"];
    let (_, document) = lab.nsprobe(1, &words);
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert_eq!(document["paths"][0]["verdict"], "clear", "{document:#}");
    let output = lab.exec(1, &["nsprobe", "diagnose", "asks"]);
    assert!(stderr(&output).contains("waiting for the container runtime"), "{}", stderr(&output));
    lab.script(&["resume", "1"]);
    // The pause process alone dies: the application goes on in a pod that has no sandbox any more.
    let pause = lab.pod(1, "asks")["pid"].to_string();
    assert!(lab.exec(1, &["kill", "-9", &pause]).status.success());
    std::thread::sleep(Duration::from_millis(700));
    let (_, document) = lab.nsprobe(1, &["diagnose", "asks", "10.244.2.2"]);
    assert_eq!(ids(&document).first(), Some(&"pod.sandbox_not_ready"), "{document:#}");
    assert_eq!(document["paths"][0]["verdict"], "clear");
    lab.script(&["kill", "1"]);
    let (_, document) = lab.nsprobe(1, &["diagnose", "web-0", "10.244.2.2"]);
    assert!(grave(&document).contains(&"runtime.dead"), "{document:#}");
    assert_eq!(document["paths"][0]["verdict"], "clear");
}
