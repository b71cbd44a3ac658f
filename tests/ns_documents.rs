//! The documents that need a real namespace, valid by their schemas. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions"
)]

mod support;

use serde_json::Value;
use std::process::{Command, Output};
use support::{Netns, nsprobe, schema, stderr};

fn document(arguments: &[&str]) -> Value {
    checked(&nsprobe().args(["-o", "json"]).args(arguments).output().unwrap())
}

/// As on a node of its own, where nsprobe itself is process 1: on some machines that one may not be looked at.
fn document_of_a_node(arguments: &[&str]) -> Value {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"]);
    checked(&command.arg(nsprobe().get_program()).args(["-o", "json"]).args(arguments).output().unwrap())
}

fn checked(output: &Output) -> Value {
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", stderr(output));
    schema::valid(&output.stdout)
}

#[test]
fn links_of_a_namespace() {
    let netns = Netns::new();
    netns.ip("link add va mtu 1450 type veth peer name vb");
    netns.ip("link add br0 type bridge");
    netns.ip("link set vb master br0");
    netns.ip("addr add 192.0.2.1/24 dev va");
    netns.ip("link set va up");
    netns.ip("link set br0 up");
    let links = document_of_a_node(&["links", &netns.source()]);
    assert_eq!(links["schema"], "nsprobe.links/v1");
    let all = links["namespaces"].as_array().unwrap();
    let own = all.iter().find(|n| n["subject"].as_str().unwrap().contains(netns.name())).unwrap();
    let va = own["links"].as_array().unwrap().iter().find(|l| l["name"] == "va").unwrap();
    assert_eq!((va["mtu_bytes"].as_u64(), va["peer"]["name"].as_str()), (Some(1450), Some("vb")));
    assert_eq!(links.as_object().unwrap().keys().next().unwrap(), "schema", "it comes first");
}

#[test]
fn sockets_of_a_namespace() {
    let netns = Netns::new();
    let inside = nsprobe::netns::NetNs::open(&netns.path()).unwrap();
    let _kept = inside
        .run(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (listener, client, std::net::UdpSocket::bind("[::1]:0").unwrap())
        })
        .unwrap();
    let sockets = document(&["sockets", &netns.source()]);
    assert_eq!(sockets["schema"], "nsprobe.sockets/v1");
    let all = sockets["namespaces"][0]["sockets"].as_array().unwrap();
    let of = |protocol: &str, state: &str| {
        all.iter().filter(|s| s["protocol"] == protocol && s["state"] == state).count()
    };
    assert_eq!(
        (of("tcp", "listen"), of("tcp", "established"), of("udp", "unconnected")),
        (1, 2, 1),
        "{all:#?}"
    );
    assert_eq!(sockets["findings"], serde_json::json!([]));
}

#[test]
fn a_capture_that_ends_by_itself() {
    let netns = Netns::new();
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("x.pcapng");
    netns.ip("link add va type veth peer name vb");
    netns.ip("link set va up");
    netns.ip("link set vb up");
    let capture =
        document(&["capture", &netns.source(), "--duration", "200ms", "-w", path.to_str().unwrap()]);
    assert_eq!(capture["schema"], "nsprobe.capture/v1");
    assert_eq!(capture["files"].as_array().unwrap().len(), 1);
    assert!(!capture["points"].as_array().unwrap().is_empty());
}

#[test]
fn a_search_and_a_comparison() {
    let netns = Netns::new();
    let one = document(&["mtu", &netns.source(), "127.0.0.1", "--max", "1500"]);
    assert_eq!((one["schema"].as_str(), one["verdict"].as_str()), (Some("nsprobe.mtu/v1"), Some("clear")));
    let two = document(&["mtu", &netns.source(), "127.0.0.1", "::1", "--max", "1500"]);
    assert_eq!(two["schema"], "nsprobe.mtu_comparison/v1");
    assert_eq!(two["results"].as_array().unwrap().len(), 2);
}
