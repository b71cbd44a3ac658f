//! A runtime that is broken in every way that can be told apart, and nodes with hostile or strange files.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod pods_support;

use pods_support::Node;
use pods_support::cri::{
    Answers, Sandbox, SandboxMetadata, babbling, bind, dead, hung, serve, serve_recorded,
};
use serde_json::{Value, json};

const CONTAINERD: &str = "/run/containerd/containerd.sock";
const CRIO: &str = "/run/crio/crio.sock";
const WEB: &str = "2def6d876e40002e9ea4e5b4ca5bbc2afcd83da3bf6ae93f2da0e1c7a35e3313";

/// The disk answered, and the report names the fault.
#[track_caller]
fn check_degraded(node: &Node, reason: &str, id: &str) -> Value {
    let answer = node.json(&["pods", "--runtime-timeout", "400ms"]);
    assert_eq!(answer.json["degraded"]["reason"], reason, "{:#}", answer.json["degraded"]);
    assert_eq!(answer.json["source"], "disk");
    assert_eq!(answer.json["findings"][0]["id"], id);
    assert_eq!(answer.pod("web-6f5d-k5")["containers"][0]["pid"], 919);
    assert!(answer.elapsed_ms < 1500, "{} ms", answer.elapsed_ms);
    answer.json
}

#[test]
fn garbage_is_an_error_of_the_runtime() {
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", b""] {
        let node = Node::recorded("containerd-1.6");
        let thread = babbling(&node, CONTAINERD, bytes);
        check_degraded(&node, "runtime_error", "runtime.error");
        thread.join().unwrap();
    }
}

#[test]
fn a_runtime_without_its_cri_plugin_is_an_error_that_says_so() {
    let node = Node::recorded("containerd-1.6");
    let listener = bind(&node, CONTAINERD);
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async move {
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        let routes = tonic::service::Routes::default();
        tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming).await.unwrap();
    });
    let json = check_degraded(&node, "runtime_error", "runtime.error");
    assert!(json["degraded"]["detail"].as_str().unwrap().contains("CRI plugin"), "{}", json["degraded"]);
    runtime.shutdown_background();
}

#[test]
fn a_runtime_that_stops_between_two_calls_is_hung_and_its_list_still_counts() {
    let node = Node::recorded("containerd-1.6");
    let answers = Answers { hangs_at_status: true, ..Answers::recorded(&node) };
    let _server = serve::<false>(&node, CONTAINERD, answers);
    let answer = node.json(&["pods", "--runtime-timeout", "400ms"]);
    assert_eq!(
        (&answer.json["source"], &answer.json["degraded"]["reason"]),
        (&json!("cri"), &json!("runtime_hung"))
    );
    assert!((400..1600).contains(&answer.elapsed_ms), "one deadline for all calls: {} ms", answer.elapsed_ms);
    let web = answer.pod("web-6f5d-k5");
    assert_eq!((&web["pid"], &web["ips"]), (&json!(559), &json!(["10.244.5.3"])), "from disk");
    assert_eq!(answer.pods().len(), 7);
}

#[test]
fn one_pod_without_a_status_does_not_make_a_broken_runtime() {
    let node = Node::recorded("containerd-1.6");
    let mut answers = Answers::recorded(&node);
    answers.refused_status = Some(WEB.into());
    let _server = serve::<false>(&node, CONTAINERD, answers);
    let answer = node.json(&["pods"]);
    assert_eq!((answer.code, &answer.json["degraded"]), (0, &Value::Null));
    assert_eq!(answer.pod("web-6f5d-k5")["ips"], json!(["10.244.5.3"]), "from disk");
}

#[test]
fn an_answer_past_16_mib_is_not_decoded() {
    let node = Node::recorded("containerd-1.6");
    let mut answers = Answers::recorded(&node);
    answers.sandboxes[0].annotations.insert("large".into(), "x".repeat(17 << 20));
    let _server = serve::<false>(&node, CONTAINERD, answers);
    let answer = node.json(&["pods"]);
    assert_eq!(answer.json["degraded"]["reason"], "runtime_error", "{:#}", answer.json["degraded"]);
    assert_eq!(answer.pod("web-6f5d-k5")["pid"], 559);
}

#[test]
fn containerd_before_1_6_speaks_v1alpha2_only() {
    let node = Node::recorded("containerd-1.6");
    let _server = serve::<true>(&node, CONTAINERD, Answers::recorded(&node));
    let answer = node.json(&["pods"]);
    assert_eq!((&answer.json["source"], &answer.json["degraded"]), (&json!("cri"), &Value::Null));
    assert_eq!(answer.pods().len(), 7);
}

#[test]
fn of_the_known_sockets_the_first_that_answers_is_taken_and_a_hung_one_holds_nobody_up() {
    let node = Node::recorded("crio-1.37");
    node.remove("etc/crictl.yaml");
    let _hung = hung(&node, CONTAINERD);
    let _server = serve_recorded(&node, CRIO);
    let answer = node.json(&["pods"]);
    assert_eq!(answer.json["endpoint"], "unix:///run/crio/crio.sock");
    assert_eq!(answer.json["degraded"], Value::Null);
    assert!(answer.elapsed_ms < 1500, "{} ms", answer.elapsed_ms);
    let two = Node::recorded("containerd-1.6");
    two.remove("etc/crictl.yaml");
    let _first = serve_recorded(&two, CONTAINERD);
    dead(&two, CRIO);
    assert_eq!(two.json(&["pods"]).json["endpoint"], "unix:///run/containerd/containerd.sock");
}

#[test]
fn an_endpoint_that_was_named_is_the_only_one_asked() {
    let node = Node::recorded("containerd-1.6");
    let _server = serve_recorded(&node, CONTAINERD);
    let answer = node.json(&["pods", "--runtime-endpoint", "unix:///run/other.sock"]);
    assert_eq!(answer.json["degraded"]["reason"], "no_runtime");
    assert_eq!(answer.json["endpoint"], "unix:///run/other.sock");
    let answer = node.json(&["pods", "--runtime-endpoint", "tcp://127.0.0.1:1234"]);
    assert_eq!(answer.json["degraded"]["reason"], "no_runtime");
    let detail = answer.json["degraded"]["detail"].as_str().unwrap();
    assert!(detail.contains("tcp://127.0.0.1:1234") && detail.contains("--runtime-endpoint"), "{detail}");
    let output =
        node.command(&["pods", "-o", "json"]).env("CONTAINER_RUNTIME_ENDPOINT", "/run/x.sock").output();
    assert!(
        String::from_utf8(output.unwrap().stdout).unwrap().contains("named by CONTAINER_RUNTIME_ENDPOINT")
    );
    node.put("run/plain.sock", "");
    let answer = node.json(&["pods", "--runtime-endpoint", "/run/plain.sock"]);
    assert_eq!(answer.json["degraded"]["reason"], "runtime_error", "a plain file is no socket");
}

#[test]
fn a_socket_behind_an_absolute_link_is_found_under_the_host_root() {
    let node = Node::recorded("containerd-1.6");
    node.link("/run", "var/run");
    let _server = serve_recorded(&node, CONTAINERD);
    let answer = node.json(&["pods", "--runtime-endpoint", "unix:///var/run/containerd/containerd.sock"]);
    assert_eq!((&answer.json["source"], &answer.json["degraded"]), (&json!("cri"), &Value::Null));
}

#[test]
fn broken_files_cost_a_pod_and_not_the_run() {
    let node = Node::recorded("containerd-1.6");
    let tasks = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
    let bundle = |n: u32| format!("{tasks}/{}", format!("{n}").repeat(64));
    node.put(&format!("{}/config.json", bundle(1)), "{");
    node.put(&format!("{}/config.json", bundle(2)), &"[".repeat(200_000));
    node.put(&format!("{}/config.json", bundle(3)), &format!("{{\"x\":\"{}\"}}", "x".repeat(5 << 20)));
    node.put(
        &format!("{}/config.json", bundle(4)),
        "{\"annotations\":{\"io.kubernetes.cri.sandbox-name\":7}}",
    );
    node.put(&format!("{}/init.pid", bundle(5)), "99999999999999999999");
    std::fs::create_dir_all(node.root().join(bundle(6))).unwrap();
    let fifo = node.root().join(bundle(6)).join("config.json");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    node.link("/dev/zero", &format!("{}/config.json", bundle(7)));
    node.put("var/lib/cni/results/podnet-x-eth0", "\u{0}\u{0}");
    node.put("var/lib/cni/networks/podnet/10.244.5.99", "");
    node.put("etc/crictl.yaml", "\u{feff}: : :");
    let answer = node.json(&["pods"]);
    assert_eq!(answer.pods().len(), 5, "{:?}", answer.names());
    assert!(answer.elapsed_ms < 5000, "{} ms", answer.elapsed_ms);
}

#[test]
fn names_from_disk_cannot_steer_the_terminal() {
    let node = Node::empty();
    let id = "a".repeat(64);
    let spec = json!({"annotations": {
        "io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": id,
        "io.kubernetes.cri.sandbox-name": "x\u{1b}[2J\r\n\u{202e}y", "io.kubernetes.cri.sandbox-namespace": "n\u{9b}31m",
        "io.kubernetes.cri.sandbox-uid": "\u{7}"},
        "linux": {"namespaces": [{"type": "network", "path": "/run/netns/\u{1b}]0;t\u{7}"}]}});
    let bundle = format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}");
    node.put(&format!("{bundle}/config.json"), &spec.to_string());
    node.put(&format!("{bundle}/init.pid"), "77");
    node.process(77, 9, &format!("/kubepods/besteffort/{id}"), 4_026_530_000);
    let output = node.run(&["pods", "-v"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("NAMESPACE/NAME") && text.contains("77"), "{text}");
    for c in ['\u{1b}', '\u{7}', '\r', '\u{9b}', '\u{202e}'] {
        assert!(!text.contains(c), "{text:?}");
    }
}

#[test]
fn a_node_without_pods_says_so() {
    let node = Node::empty();
    let _server = serve::<false>(&node, CONTAINERD, Answers::default());
    let output = node.run(&["pods"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "No pods on this node (unix:///run/containerd/containerd.sock was asked)\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_filter_shows_what_fits_and_a_wrong_one_is_exit_3() {
    let node = Node::recorded("containerd-1.6");
    let mut answers = Answers::recorded(&node);
    answers.sandboxes.push(Sandbox {
        id: "f".repeat(64),
        metadata: Some(SandboxMetadata {
            name: "web-6f5d-k5".into(),
            uid: "00000000-0000-4000-8000-000000000000".into(),
            namespace: "other".into(),
            attempt: 0,
        }),
        state: 0,
        created_at: 1,
        ..Sandbox::default()
    });
    let _server = serve::<false>(&node, CONTAINERD, answers);
    let names = |selector: &str| node.json(&["pods", selector]).names();
    assert_eq!(names("web-6f5d-k5"), ["other/web-6f5d-k5", "shop/web-6f5d-k5"]);
    assert_eq!(names("shop/web-6f5d-k5"), ["shop/web-6f5d-k5"]);
    assert_eq!(names("10.244.5.3"), ["shop/web-6f5d-k5"]);
    assert_eq!(names("3f3fc019"), ["shop/web-6f5d-k5"], "a container's id");
    assert_eq!(names("id:6dde955c-2593"), ["shop/web-6f5d-k5"], "the pod's UID");
    assert_eq!(names("once-k5"), ["shop/once-k5"], "dead, but asked for");
    assert_eq!(names("host"), ["shop/hostnet-k5"]);
    for (selector, words) in [
        ("web-6f5d-k6", "close: other/web-6f5d-k5, shop/web-6f5d-k5"),
        ("shop/two-k5:web", "pod shop/two-k5 has no container web; it has: app, sidecar"),
        ("nope/web-6f5d-k5", "no pod nope/web-6f5d-k5"),
        ("10.9.9.9", "no pod of this node has the IP 10.9.9.9"),
        ("id:abc", "at least 6 hex digits"),
        ("a b", "no Kubernetes name"),
    ] {
        let answer = node.json(&["pods", selector]);
        assert_eq!((answer.code, &answer.json["schema"]), (3, &json!("nsprobe.error/v1")), "{selector}");
        assert!(answer.json["message"].as_str().unwrap().contains(words), "{}", answer.json);
    }
    let output = node.run(&["exec", "web-6f5d-k5", "--", "true"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("fits 2") && text.contains("other/web-6f5d-k5") && text.contains(&WEB[..13]),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn a_host_root_that_is_no_folder_is_named() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_nsprobe"))
        .args(["--host-root", "/nonexistent", "pods"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nonexistent"));
}

#[test]
fn the_document_fits_its_schema() {
    let node = Node::recorded("containerd-1.6");
    dead(&node, CONTAINERD);
    let mut document = node.json(&["pods", "--all"]).json;
    assert_eq!(document.as_object().unwrap().keys().next().unwrap(), "schema");
    assert_eq!(document.as_object_mut().unwrap().remove("schema"), Some(json!("nsprobe.pods/v1")));
    let schema = schemars::schema_for!(nsprobe::report::PodsDocument).to_value();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&document).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    document["pods"][0]["surprise"] = json!(1);
    assert!(!validator.is_valid(&document), "an unknown key is refused");
}
