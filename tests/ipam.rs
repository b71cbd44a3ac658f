//! `nsprobe ipam` on recorded trees of host-local, with a server that lists the recorded sandboxes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod pods_support;
mod support;

use pods_support::cri::{Answers, Server, hung, serve_recorded};
use pods_support::{Answer, Node};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};
use support::stdout;

const CONTAINERD: &str = "/run/containerd/containerd.sock";
const NETWORKS: &str = "var/lib/cni/networks";

/// A node that was started two hours ago, whose reservations are an hour old.
fn recorded(name: &str) -> Node {
    let node = Node::recorded(&format!("../ipam/{name}"));
    let boot = SystemTime::now() - Duration::from_secs(7200);
    let seconds = boot.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    node.put("proc/stat", &format!("cpu 1 2 3\nbtime {seconds}\n"));
    age_all(&node, Duration::from_secs(3600));
    node
}

fn age_all(node: &Node, age: Duration) {
    let Ok(networks) = std::fs::read_dir(node.root().join(NETWORKS)) else { return };
    for network in networks {
        for file in std::fs::read_dir(network.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                let file = std::fs::File::options().append(true).open(path).unwrap();
                file.set_modified(SystemTime::now() - age).unwrap();
            }
        }
    }
}

fn with_server(name: &str) -> (Node, Server) {
    let node = recorded(name);
    let server = serve_recorded(&node, CONTAINERD);
    (node, server)
}

#[track_caller]
fn audit(node: &Node) -> Answer {
    let answer = node.json(&["ipam"]);
    let errors = support::schema::errors(&answer.json);
    assert_eq!(errors, [] as [String; 0], "{:#}", answer.json);
    answer
}

fn ids(answer: &Answer) -> Vec<&str> {
    answer.json["findings"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap()).collect()
}

fn finding<'a>(answer: &'a Answer, id: &str) -> &'a Value {
    let found = answer.json["findings"].as_array().unwrap().iter().find(|f| f["id"] == id);
    found.unwrap_or_else(|| panic!("no {id} in {:#}", answer.json["findings"]))
}

fn network<'a>(answer: &'a Answer, name: &str) -> &'a Value {
    let found = answer.json["networks"].as_array().unwrap().iter().find(|n| n["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {:#}", answer.json["networks"]))
}

fn owners(network: &Value) -> Vec<(String, Option<String>, Option<bool>)> {
    let one = |r: &Value| {
        (
            r["address"].as_str().unwrap().to_owned(),
            r["owner"].as_str().map(Into::into),
            r["leaked"].as_bool(),
        )
    };
    network["reservations"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn a_healthy_range_has_exact_numbers_and_an_owner_for_each_address() {
    let (node, _server) = with_server("healthy");
    let answer = audit(&node);
    assert_eq!((answer.code, ids(&answer)), (0, vec![]), "{}", answer.stderr);
    assert_eq!(
        answer.json["networks"][0]["reservations"][0],
        json!({"address": "10.244.2.2",
            "container_id": "43a1171ce0ea9d57eaad4a258fca77e61632fc8c081ffe60e65b6c9e04dd5725",
            "interface": "eth0", "owner": "shop/web-1", "leaked": false})
    );
    let podnet = network(&answer, "podnet");
    assert_eq!(podnet["plugin"], "host-local");
    assert_eq!(podnet["ranges"], json!([{"subnet": "10.244.2.0/24", "size": 253, "used": 4, "free": 249}]));
    let names: Vec<_> = owners(podnet).into_iter().map(|(_, owner, _)| owner.unwrap()).collect();
    assert_eq!(names, ["shop/web-1", "shop/web-2", "shop/web-3", "shop/web-4"]);
}

#[test]
fn a_full_29_holds_five_pods_and_is_critical() {
    let (node, _server) = with_server("exhausted-29");
    node.put("var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\n");
    let answer = audit(&node);
    assert_eq!(answer.code, 1);
    let small = network(&answer, "smallnet");
    assert_eq!(small["ranges"], json!([{"subnet": "10.244.2.240/29", "size": 5, "used": 5, "free": 0}]));
    assert!(owners(small).iter().all(|(_, owner, leaked)| owner.is_some() && *leaked == Some(false)));
    let podnet = network(&answer, "podnet");
    assert_eq!((&podnet["ranges"], podnet["reservations"].as_array().unwrap().len()), (&json!([]), 3));
    assert_eq!(ids(&answer), ["ipam.exhausted", "ipam.unconfigured", "ipam.range_below_max_pods"]);
    let exhausted = finding(&answer, "ipam.exhausted");
    assert_eq!((&exhausted["severity"], &exhausted["subject"]), (&json!("critical"), &json!("smallnet")));
    assert!(
        exhausted["fix"].as_str().unwrap().contains("recreating pods frees nothing"),
        "nothing is leaked"
    );
    let max = finding(&answer, "ipam.range_below_max_pods");
    assert_eq!(max["summary"], "the kubelet takes 110 pods, smallnet has addresses for 5");
    node.put("var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\nmaxPods: 5\n");
    assert_eq!(ids(&audit(&node)), ["ipam.exhausted", "ipam.unconfigured"]);
}

#[test]
fn reservations_of_sandboxes_that_are_gone_are_leaked_and_nothing_is_freed() {
    let (node, _server) = with_server("leaked");
    let answer = audit(&node);
    assert_eq!((answer.code, ids(&answer)), (1, vec!["ipam.leaked"]));
    let leaknet = network(&answer, "leaknet");
    let of = |address: &str, owner: Option<&str>, leaked| {
        (address.to_owned(), owner.map(Into::into), Some(leaked))
    };
    assert_eq!(
        owners(leaknet),
        [
            of("10.244.70.2", None, true),
            of("10.244.70.3", None, true),
            of("10.244.70.4", None, true),
            of("10.244.70.5", Some("shop/kept-1"), false),
            of("10.244.70.6", Some("shop/kept-2"), false),
        ]
    );
    let killed = std::fs::read_to_string(node.recording("killed-sandbox-ids.txt")).unwrap();
    let mut killed: Vec<&str> = killed.lines().collect();
    let all = leaknet["reservations"].as_array().unwrap().iter();
    let mut leaked: Vec<&str> =
        all.filter(|r| r["leaked"] == true).map(|r| r["container_id"].as_str().unwrap()).collect();
    killed.sort_unstable();
    leaked.sort_unstable();
    assert_eq!(leaked, killed);
    let fix = finding(&answer, "ipam.leaked")["fix"].as_str().unwrap().to_owned();
    let folder = format!("/{NETWORKS}/leaknet");
    assert_eq!(
        fix,
        format!("flock {folder}/lock rm -- {folder}/10.244.70.2 {folder}/10.244.70.3 {folder}/10.244.70.4")
    );
    assert!(node.root().join(NETWORKS).join("leaknet/10.244.70.2").exists(), "it changes nothing");
    // The command does what it says.
    let here = fix.replace(&folder, &node.root().join(NETWORKS).join("leaknet").display().to_string());
    support::run("sh", &["-c", &here]);
    let after = audit(&node);
    assert_eq!((after.code, network(&after, "leaknet")["ranges"][0]["used"].as_u64()), (0, Some(2)));
}

#[test]
fn a_sandbox_that_may_be_in_the_making_is_not_called_leaked() {
    let (node, _server) = with_server("leaked");
    age_all(&node, Duration::from_secs(60));
    let answer = audit(&node);
    assert_eq!((answer.code, ids(&answer)), (0, vec![]));
    assert_eq!(network(&answer, "leaknet")["reservations"][0]["leaked"], Value::Null);
    // Before the node was started nothing can be in the making.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    node.put("proc/stat", &format!("btime {}\n", now - 30));
    assert_eq!(ids(&audit(&node)), ["ipam.leaked"]);
}

#[test]
fn what_a_process_or_a_forgotten_container_holds_is_not_leaked() {
    let (node, _server) = with_server("leaked");
    let id = "4c8b96978e6dd65bead10ec78b6ca07c6266d82366101c00e9deaa2a232a3462";
    node.process(77, 5, &format!("/machine.slice/libpod-{id}.scope"), 9);
    let answer = audit(&node);
    assert_eq!(network(&answer, "leaknet")["reservations"][0]["leaked"], false);
    assert_eq!(
        finding(&answer, "ipam.leaked")["summary"],
        "2 of 5 reservations of leaknet are for sandboxes that are gone"
    );
}

#[test]
fn nothing_is_called_leaked_while_nobody_can_be_asked() {
    let node = recorded("leaked");
    let _hung = hung(&node, CONTAINERD);
    let answer = node.json(&["--runtime-timeout", "200ms", "ipam"]);
    assert_eq!(support::schema::errors(&answer.json), [] as [String; 0]);
    assert!(owners(network(&answer, "leaknet")).iter().all(|(_, _, leaked)| leaked.is_none()));
    assert_eq!(ids(&answer), ["ipam.holders_unknown", "runtime.hung"]);
    let text = stdout(&node.run(&["--runtime-timeout", "200ms", "ipam"]));
    assert!(text.lines().any(|l| l.starts_with("leaknet") && l.ends_with("5     8       -")), "{text}");
    // Its files are there: they tell.
    let id = "4c8b96978e6dd65bead10ec78b6ca07c6266d82366101c00e9deaa2a232a3462";
    node.put(&format!("var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{id}/hosts"), "");
    let answer = node.json(&["--runtime-timeout", "200ms", "ipam"]);
    let leaked: Vec<_> =
        owners(network(&answer, "leaknet")).into_iter().map(|(_, _, leaked)| leaked).collect();
    assert_eq!(leaked, [Some(false), Some(true), Some(true), Some(true), Some(true)]);
}

#[test]
fn a_second_ipv4_gateway_on_one_bridge_is_found() {
    let (node, _server) = with_server("two-subnets-one-range");
    let answer = audit(&node);
    assert_eq!(
        network(&answer, "tworanges")["ranges"],
        json!([{"subnet": "10.244.20.0/29", "size": 2, "used": 2, "free": 0},
            {"subnet": "10.244.21.0/24", "size": 253, "used": 0, "free": 253}])
    );
    assert_eq!((answer.code, ids(&answer)), (1, vec!["ipam.second_gateway"]));
    // As long as the first has room, the second is not asked for.
    std::fs::remove_file(node.root().join(NETWORKS).join("tworanges/10.244.20.3")).unwrap();
    assert_eq!(ids(&audit(&node)), [] as [&str; 0]);

    let (node, _server) = with_server("two-range-sets");
    let answer = audit(&node);
    let sizes: Vec<_> =
        network(&answer, "twosets")["ranges"].as_array().unwrap().iter().map(|r| &r["size"]).collect();
    assert_eq!((sizes, ids(&answer)), (vec![&json!(253), &json!(13)], vec!["ipam.second_gateway"]));
}

#[test]
fn dual_stack_and_ipv6_have_names_with_colons() {
    let (node, _server) = with_server("dual-stack");
    let answer = audit(&node);
    assert_eq!((answer.code, ids(&answer)), (0, vec![]), "two families, one gateway each");
    assert_eq!(
        network(&answer, "dual")["ranges"],
        json!([{"subnet": "10.244.40.0/24", "size": 253, "used": 3, "free": 250},
            {"subnet": "fd00:10:244:40::/64", "size": u64::MAX - 1, "used": 3, "free": u64::MAX - 4}])
    );
    let pods: Vec<_> =
        owners(network(&answer, "dual")).into_iter().map(|(ip, owner, _)| (ip, owner.unwrap())).collect();
    assert_eq!(pods[0], ("10.244.40.2".into(), "shop/ds-1".into()));
    assert_eq!(pods[3], ("fd00:10:244:40::2".into(), "shop/ds-1".into()));

    let (node, _server) = with_server("ipv6-only-exhausted");
    let answer = audit(&node);
    assert_eq!(
        network(&answer, "six")["ranges"],
        json!([{"subnet": "fd00:10:244:50::/125", "size": 6, "used": 6, "free": 0}])
    );
    assert_eq!((answer.code, ids(&answer)), (1, vec!["ipam.exhausted"]));
}

#[test]
fn anything_may_lie_among_the_reservations() {
    let (node, _server) = with_server("healthy");
    let at = |name: &str| format!("{NETWORKS}/podnet/{name}");
    let id = "43a1171ce0ea9d57eaad4a258fca77e61632fc8c081ffe60e65b6c9e04dd5725";
    node.put(&at("10.244.2.6"), &format!("{id} \r\n eth1 \r\n\r\n"));
    node.put(&at("10.244.2.7"), "");
    node.put(&at("10.244.2.8"), &"x".repeat(1 << 20));
    node.link("/etc/shadow", &at("10.244.2.9"));
    let fifo = node.root().join(at("10.244.2.10"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    node.put(&at("10.244.2.11"), "\u{1b}[31m");
    node.put(&at("10.244.300.1"), id);
    node.put(&at("note.txt\u{1b}"), "");
    node.put(&at("192.168.9.9"), &format!("{id}\r\neth2"));
    node.put("etc/cni/net.d/20-broken.conflist", "{");
    age_all(&node, Duration::from_secs(3600));
    let answer = audit(&node);
    assert_eq!(answer.code, 1);
    let unreadable: Vec<_> = answer.json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["id"] == "ipam.unreadable")
        .map(|f| f["summary"].as_str().unwrap())
        .collect();
    assert_eq!(unreadable.len(), 6, "{unreadable:#?}");
    assert!(
        unreadable.iter().any(|s| s.contains("10.244.2.7 cannot be read: it holds no id of a container"))
    );
    assert!(unreadable.iter().any(|s| s.contains("10.244.2.8 cannot be read: it is larger")));
    assert!(unreadable.iter().any(|s| s.contains("10.244.2.9 cannot be read: it is a symbolic link")));
    assert!(unreadable.iter().any(|s| s.contains("10.244.2.10 cannot be read: it is no regular file")));
    assert!(unreadable.iter().any(|s| s.contains("20-broken.conflist cannot be read: it is not JSON")));
    let podnet = network(&answer, "podnet");
    assert_eq!(podnet["ranges"][0]["used"], 10, "host-local gives out no address whose file is there");
    let trailing =
        podnet["reservations"].as_array().unwrap().iter().find(|r| r["address"] == "10.244.2.6").unwrap();
    assert_eq!((&trailing["owner"], &trailing["interface"]), (&json!("shop/web-1"), &json!("eth1")));
    assert!(finding(&answer, "ipam.strange_file")["summary"].as_str().unwrap().contains("10.244.300.1"));
    assert!(finding(&answer, "ipam.outside_ranges")["summary"].as_str().unwrap().contains("192.168.9.9"));
    let text = stdout(&node.run(&["-v", "ipam"]));
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn other_ipams_are_named_and_none_at_all_is_said() {
    let node = Node::empty();
    node.put(
        "etc/cni/net.d/10-calico.conflist",
        r#"{"name":"k8s-pod-network","plugins":[{"type":"calico","ipam":{"type":"calico-ipam"}}]}"#,
    );
    let answer = audit(&node);
    assert_eq!(answer.code, 0);
    let calico = finding(&answer, "ipam.other_plugin");
    assert!(calico["summary"].as_str().unwrap().contains("Calico gives nodes blocks"), "{calico}");
    assert_eq!(network(&answer, "k8s-pod-network")["plugin"], "calico-ipam");
    assert!(stdout(&Node::empty().run(&["ipam"])).starts_with("no CNI network and no reservation"));
}

#[test]
fn flannels_range_is_read_from_its_own_file() {
    let node = Node::empty();
    node.put(
        "etc/cni/net.d/10-flannel.conflist",
        r#"{"name":"cbr0","plugins":[{"type":"flannel","delegate":{"isDefaultGateway":true}}]}"#,
    );
    assert_eq!(ids(&audit(&node)), ["ipam.ranges_unknown", "runtime.missing"]);
    node.put("run/flannel/subnet.env", "FLANNEL_SUBNET=10.42.3.1/26\nFLANNEL_MTU=1450\n");
    let answer = audit(&node);
    assert_eq!(
        network(&answer, "cbr0")["ranges"][0],
        json!({"subnet": "10.42.3.0/26", "size": 61, "used": 0, "free": 61})
    );
}

#[test]
fn every_address_of_a_16_is_read_in_time() {
    let node = Node::empty();
    node.put(
        "etc/cni/net.d/10-x.conflist",
        r#"{"name":"big","plugins":[{"type":"ptp","ipam":{"type":"host-local","subnet":"10.9.0.0/16"}}]}"#,
    );
    let folder = node.root().join(NETWORKS).join("big");
    std::fs::create_dir_all(&folder).unwrap();
    // More than one part of the listing takes.
    let all: Vec<(String, String)> =
        (0..10_000u32).map(|n| (format!("10.9.{}.{}", n >> 8, n & 255), format!("{n:064x}"))).collect();
    for (address, id) in &all {
        std::fs::write(folder.join(address), format!("{id}\r\neth0")).unwrap();
    }
    let start = Instant::now();
    let answer = node.json(&["ipam"]);
    let big = &answer.json["networks"][0];
    assert_eq!(big["ranges"][0]["used"], 9_998, "not the network's and the gateway's");
    let reservations = big["reservations"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let read: Vec<_> = reservations.iter().map(|r| (text(&r["address"]), text(&r["container_id"]))).collect();
    assert_eq!(read, all, "each once, by address");
    // scripts/bench measures it; this only sees something quadratic.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn the_text_says_how_full_each_range_is() {
    let (node, _server) = with_server("exhausted-29");
    let text = stdout(&node.run(&["ipam"]));
    assert!(
        text.starts_with(
            "1 critical: addresses of this node's pods\n\ncritical: smallnet has no address left"
        ),
        "{text}"
    );
    let row = |name: &str| {
        text.lines().find(|l| l.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(row("NETWORK"), ["NETWORK", "RANGE", "SIZE", "USED", "FREE", "LEAKED"]);
    assert_eq!(row("smallnet  "), ["smallnet", "10.244.2.240/29", "5", "5", "0", "0"]);
    assert_eq!(row("podnet"), ["podnet", "not", "configured", "-", "3", "-", "0"]);
    assert!(
        text.contains("smallnet has room for 5 pods; how many pods the kubelet takes is not known"),
        "{text}"
    );
    let verbose = stdout(&node.run(&["-v", "ipam"]));
    let row: Vec<_> =
        verbose.lines().find(|l| l.contains("10.244.2.242")).unwrap().split_whitespace().collect();
    assert_eq!(
        (row[0], row[2], row[3], row[1].len()),
        ("10.244.2.242", "eth0", "shop/small-1", 13),
        "{verbose}"
    );
}

#[test]
fn the_recorded_answers_are_what_the_server_gives() {
    let node = recorded("healthy");
    assert_eq!(Answers::recorded(&node).sandboxes.len(), 4);
}

#[test]
fn few_descriptors_are_enough() {
    let node = Node::empty();
    for n in 10..110 {
        node.put(&format!("{NETWORKS}/few/10.9.0.{n}"), &format!("{n:064x}\r\neth0"));
    }
    let command = format!(
        "ulimit -n 20; exec {} --host-root {} ipam -o json",
        env!("CARGO_BIN_EXE_nsprobe"),
        node.root().display()
    );
    let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let reservations = document["networks"][0]["reservations"].as_array().unwrap();
    let read = reservations.iter().filter(|r| r["container_id"].is_string()).count();
    assert_eq!(read, 100, "{}: {document:#}", support::stderr(&output));
}
