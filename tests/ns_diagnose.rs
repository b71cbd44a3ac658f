//! `diagnose` on real namespaces: a pod, its node and a server beyond, each fault with its healthy twin. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use nsprobe::netns::NetNs;
use serde_json::Value;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use support::name_server::NameServer;
use support::{Netns, nsprobe, run, schema, stderr, stdout};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 7, 2, 2);
const CONF: &str = "nameserver 10.7.2.2\nsearch default.svc.test svc.test test\noptions ndots:5\n";

/// pod 10.7.1.2 – node – server 10.7.2.2, which serves names and, on port 8080, connections.
struct Net {
    pod: Netns,
    node: Netns,
    server: Netns,
    _names: NameServer,
    _listener: TcpListener,
    folder: tempfile::TempDir,
}

impl Net {
    fn new() -> Self {
        let (pod, node, server) = (Netns::new(), Netns::new(), Netns::new());
        node.ip(&format!("link add veth1 type veth peer name eth0 netns {}", pod.name()));
        node.ip(&format!("link add eth0 type veth peer name eth0 netns {}", server.name()));
        for (netns, link, address) in [
            (&pod, "eth0", "10.7.1.2/24"),
            (&node, "veth1", "10.7.1.1/24"),
            (&node, "eth0", "10.7.2.1/24"),
            (&server, "eth0", "10.7.2.2/24"),
        ] {
            netns.ip(&format!("addr add {address} dev {link}"));
            netns.ip(&format!("link set {link} up"));
        }
        pod.ip("route add default via 10.7.1.1");
        node.ip("route add default via 10.7.2.2");
        server.ip("route add default via 10.7.2.1");
        let names = NameServer::start(&server.path(), SERVER, SERVER);
        let opened = NetNs::open(&server.path()).unwrap();
        let listener = opened.run(|| TcpListener::bind((SERVER, 8080)).unwrap()).unwrap();
        let net = Self {
            pod,
            node,
            server,
            _names: names,
            _listener: listener,
            folder: tempfile::tempdir().unwrap(),
        };
        net.inside(&net.node, "echo 1 > /proc/sys/net/ipv4/ip_forward");
        std::fs::write(net.conf(), CONF).unwrap();
        net
    }

    /// The pod's resolv.conf.
    fn conf(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    fn inside(&self, netns: &Netns, script: &str) -> String {
        run("ip", &["netns", "exec", netns.name(), "sh", "-ec", script])
    }

    /// Drops on output of a namespace what fits `rule`.
    fn drop_output(&self, netns: &Netns, rule: &str) {
        let chain = "add table inet t; add chain inet t o { type filter hook output priority 0; }";
        self.inside(netns, &format!("nft '{chain}; add rule inet t o {rule}'"));
    }

    /// Large packets vanish behind the node.
    fn black_hole(&self) {
        self.node.ip("link set eth0 mtu 1400");
        self.drop_output(&self.node, "icmp type destination-unreachable icmp code 4 drop");
    }

    /// `nsprobe diagnose` on the node, where it is process 1, of a process in the pod's namespace with the pod's
    /// own resolv.conf.
    fn command(&self, words: &str) -> Command {
        let script = format!(
            "nsenter --net={pod} unshare --mount sh -c 'mount --bind {conf} /etc/resolv.conf && exec sleep 60' & \
             until grep -qs sleep /proc/$!/comm; do sleep 0.01; done; {program} diagnose pid:$! {words}; \
             code=$?; kill $!; exit $code",
            pod = self.pod.path().display(),
            conf = self.conf().display(),
            program = nsprobe().get_program().to_string_lossy(),
        );
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.node.path().display()))
            .args(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"])
            .args(["sh", "-c", &script])
            .env("NO_COLOR", "1");
        command
    }

    fn diagnose(&self, words: &str) -> Diagnosis {
        let start = Instant::now();
        let output = self.command(&format!("-o json {words}")).output().unwrap();
        assert!(!output.stdout.is_empty(), "{}", stderr(&output));
        Diagnosis { document: schema::valid(&output.stdout), elapsed: start.elapsed(), output }
    }
}

struct Diagnosis {
    document: Value,
    elapsed: Duration,
    output: Output,
}

impl Diagnosis {
    fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    fn verdict(&self) -> &str {
        self.document["verdict"].as_str().unwrap_or("none")
    }

    /// Ids of warnings and worse, and of what explains them, in their order.
    fn ids(&self) -> Vec<&str> {
        let findings = self.document["findings"].as_array().unwrap();
        findings.iter().map(|f| f["id"].as_str().unwrap()).collect()
    }

    fn grave(&self) -> Vec<&str> {
        let findings = self.document["findings"].as_array().unwrap();
        findings.iter().filter(|f| f["severity"] != "info").map(|f| f["id"].as_str().unwrap()).collect()
    }

    fn outcome(&self, id: &str) -> &str {
        let checks = self.document["checks"].as_array().unwrap();
        checks.iter().find(|c| c["id"] == id).map_or("absent", |c| c["outcome"].as_str().unwrap())
    }

    fn text(&self) -> String {
        format!("{:#}", self.document)
    }
}

#[test]
fn a_pod_that_is_well_is_healthy_with_and_without_a_target() {
    let net = Net::new();
    for words in ["", "10.7.2.2", "10.7.2.2 --port 8080", "db.example.test"] {
        let well = net.diagnose(words);
        assert_eq!((well.verdict(), well.code()), ("healthy", Some(0)), "{words}: {}", well.text());
        for id in
            ["links.own", "links.host", "pod.attachment", "sockets.read", "dns.udp", "dns.large_answers"]
        {
            assert_eq!(well.outcome(id), "passed", "{words}: {id}");
        }
        assert_eq!(well.document["target"].is_null(), words.is_empty());
        assert!(well.elapsed < Duration::from_secs(1), "{:?}", well.elapsed);
    }
    let named = net.diagnose("db.example.test");
    assert_eq!(named.document["target"]["address"], "10.7.2.2");
    assert!(named.ids().contains(&"dns.search_amplification"), "{}", named.text());
}

#[test]
fn a_black_hole_is_told_after_what_makes_it() {
    let net = Net::new();
    net.black_hole();
    let ill = net.diagnose("10.7.2.2");
    assert_eq!((ill.verdict(), ill.code()), ("broken", Some(1)), "{}", ill.text());
    assert_eq!(ill.ids()[..2], ["links.pod_exceeds_uplink", "mtu.black_hole"], "{}", ill.text());
    assert_eq!(ill.document["paths"][0]["path_mtu_bytes"], 1400);
    // The same over the gateway's address alone is no fault.
    let near = net.diagnose("10.7.1.1");
    assert_ne!(near.verdict(), "broken", "{}", near.text());
}

#[test]
fn connections_that_hang_on_it_are_found_without_a_target() {
    let net = Net::new();
    let pod = NetNs::open(&net.pod.path()).unwrap();
    let mut stream = pod.run(|| TcpStream::connect((SERVER, 8080)).unwrap()).unwrap();
    net.black_hole();
    stream.set_nonblocking(true).unwrap();
    let _ = stream.write(&[7; 60_000]).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let ill = net.diagnose("");
    assert_eq!(ill.verdict(), "broken", "{}", ill.text());
    let ids = ill.ids();
    let place = |id| ids.iter().position(|i| *i == id).unwrap_or_else(|| panic!("no {id}: {}", ill.text()));
    assert_eq!(place("links.pod_exceeds_uplink"), 0, "{}", ill.text());
    assert!(place("mtu.black_hole") < place("sockets.stuck_on_mtu"), "{}", ill.text());
    let peer =
        ill.document["paths"].as_array().unwrap().iter().find(|p| p["target"]["address"] == "10.7.2.2");
    assert_eq!(peer.unwrap()["verdict"], "black_hole");
}

#[test]
fn a_gateway_that_answers_no_ping_is_no_fault_and_no_measurement() {
    let net = Net::new();
    net.drop_output(&net.node, "icmp type { echo-reply, timestamp-reply, destination-unreachable } drop");
    let quiet = net.diagnose("");
    assert_eq!((quiet.grave(), quiet.code()), (vec![], Some(0)), "{}", quiet.text());
    assert_eq!((quiet.outcome("path.gateway"), quiet.outcome("path.any")), ("not_checked", "not_checked"));
    assert_eq!(quiet.verdict(), "unknown");
    // From the node to the other end of its tunnel is no path of the pod.
    net.node.ip("link add vx0 mtu 1450 type vxlan id 9 remote 10.7.2.2 dstport 4789");
    net.node.ip("addr add 10.200.0.1/24 dev vx0");
    net.node.ip("link set vx0 up");
    let tunnel = net.diagnose("");
    assert_eq!((tunnel.outcome("path.tunnels"), tunnel.outcome("path.any")), ("passed", "not_checked"));
    assert_eq!(tunnel.verdict(), "unknown");
    // With a peer that answers there is a path that was measured.
    let pod = NetNs::open(&net.pod.path()).unwrap();
    let _stream = pod.run(|| TcpStream::connect((SERVER, 8080)).unwrap()).unwrap();
    let peer = net.diagnose("");
    assert_eq!((peer.verdict(), peer.outcome("path.peers")), ("healthy", "passed"), "{}", peer.text());
}

#[test]
fn name_servers_that_keep_silent_break_the_pod() {
    let net = Net::new();
    net.drop_output(&net.server, "udp sport 53 drop");
    let udp = net.diagnose("");
    assert_eq!((udp.verdict(), udp.grave()), ("broken", vec!["dns.udp_lost"]), "{}", udp.text());
    net.drop_output(&net.server, "tcp sport 53 drop");
    let all = net.diagnose("");
    assert_eq!((all.verdict(), all.grave()), ("broken", vec!["dns.no_answer"]), "{}", all.text());
    assert!(all.elapsed < Duration::from_secs(4), "{:?}", all.elapsed);
    // A name that cannot be looked up because of it is what a diagnosis is for.
    let named = net.diagnose("db.example.test --port 8080");
    assert_eq!(named.code(), Some(1), "{}", named.text());
    assert_eq!(named.ids()[..2], ["dns.no_answer", "dns.target_fails"], "{}", named.text());
    assert_eq!(named.document["target"]["address"], Value::Null);
    for id in ["target.resolved", "connect.port", "path.target"] {
        assert_eq!(named.outcome(id), "not_checked", "{id}");
    }
}

#[test]
fn one_lost_answer_of_a_name_server_is_chance_and_a_lost_kind_of_answer_is_not() {
    let once = Net::new();
    once.drop_output(&once.server, "udp sport 53 numgen inc mod 1000 == 0 drop");
    let chance = once.diagnose("");
    assert_eq!((chance.verdict(), chance.outcome("dns.udp")), ("healthy", "passed"), "{}", chance.text());
    // An answer without an address is the shorter one: that to AAAA.
    let kind = Net::new();
    kind.drop_output(&kind.server, "udp sport 53 udp length < 60 drop");
    let half = kind.diagnose("");
    assert_eq!((half.verdict(), half.grave()), ("degraded", vec!["dns.half_answered"]), "{}", half.text());
    assert!(half.text().contains("5 of 5 times"), "{}", half.text());
    assert!(half.elapsed < Duration::from_secs(5), "{:?}", half.elapsed);
}

#[test]
fn a_name_that_a_server_denies_is_a_wrong_word() {
    let net = Net::new();
    let denied = net.diagnose("no-such-name.test");
    assert_eq!(denied.code(), Some(3), "{}", denied.text());
    assert_eq!(denied.document["schema"], "nsprobe.error/v1");
}

#[test]
fn large_answers_that_are_lost_are_told_from_small_ones() {
    let net = Net::new();
    net.drop_output(&net.server, "udp sport 53 meta length > 600 drop");
    let ill = net.diagnose("");
    assert_eq!((ill.verdict(), ill.grave()), ("degraded", vec!["dns.large_answers_lost"]), "{}", ill.text());
    assert_eq!((ill.outcome("dns.udp"), ill.outcome("dns.large_answers")), ("passed", "failed"));
}

#[test]
fn a_server_of_another_cluster_is_no_server() {
    let net = Net::new();
    std::fs::write(net.conf(), "nameserver 10.7.2.2\nsearch default.svc.other svc.other\n").unwrap();
    let ill = net.diagnose("");
    assert_eq!((ill.verdict(), ill.grave()), ("degraded", vec!["dns.server_fails"]), "{}", ill.text());
}

#[test]
fn a_port_is_judged_only_when_it_was_named() {
    let net = Net::new();
    // Counts connections to any port but that of names.
    let chain =
        "add table inet c; add counter inet c n; add chain inet c i { type filter hook input priority 0; }";
    net.inside(&net.server, &format!("nft '{chain}; add rule inet c i tcp dport != 53 counter name n'"));
    let count = || {
        let text = net.inside(&net.server, "nft list counter inet c n");
        text.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse::<u32>().unwrap()
    };
    for words in ["", "10.7.2.2", "db.example.test"] {
        net.diagnose(words);
    }
    assert_eq!(count(), 0, "a port that nobody named was connected to");
    let refused = net.diagnose("10.7.2.2 --port 81");
    assert_eq!(
        (refused.verdict(), refused.grave()),
        ("broken", vec!["connect.refused"]),
        "{}",
        refused.text()
    );
    assert!(count() > 0);
    net.drop_output(&net.server, "tcp sport 82 drop");
    let silent = net.diagnose("10.7.2.2 --port 82 --deadline 3s");
    assert_eq!(silent.grave(), ["connect.silent"], "{}", silent.text());
}

#[test]
fn a_hostile_resolv_conf_neither_hangs_nor_fills_the_memory() {
    let net = Net::new();
    std::fs::remove_file(net.conf()).unwrap();
    nix::unistd::mkfifo(&net.conf(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let pipe = net.diagnose("");
    assert!(pipe.elapsed < Duration::from_secs(2), "{:?}", pipe.elapsed);
    assert!(pipe.grave().contains(&"dns.resolv_conf_odd"), "{}", pipe.text());
    std::fs::remove_file(net.conf()).unwrap();
    std::fs::write(net.conf(), "nameserver 10.7.2.2\n".repeat(200_000)).unwrap();
    let large = net.diagnose("");
    assert!(large.grave().contains(&"dns.resolv_conf_odd"), "{}", large.text());
    std::fs::write(net.conf(), "\u{1b}[31m nameserver \nnameserver nonsense\nsearch \u{202e}\n").unwrap();
    let garbage = net.diagnose("");
    assert!(garbage.grave().contains(&"dns.no_server"), "{}", garbage.text());
}

#[test]
fn the_deadline_ends_what_is_late_and_says_so() {
    let net = Net::new();
    net.drop_output(&net.server, "meta l4proto { udp, tcp } drop");
    let late = net.diagnose("--deadline 400ms");
    assert!(late.elapsed < Duration::from_millis(1500), "{:?}", late.elapsed);
    assert_eq!(late.outcome("dns.udp"), "not_checked", "{}", late.text());
    assert_eq!((late.verdict(), late.code()), ("unknown", Some(0)), "{}", late.text());
    // In so little time silence is no answer.
    let port = net.diagnose("10.7.2.2 --port 8080 --deadline 400ms");
    assert_eq!(port.grave(), [] as [&str; 0], "{}", port.text());
}

#[test]
fn progress_is_told_on_standard_error_and_a_signal_prints_what_is_known() {
    let net = Net::new();
    net.drop_output(&net.server, "meta l4proto { udp, tcp } drop");
    let output = net.command("").output().unwrap();
    assert!(stderr(&output).contains("waiting for name servers"), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("BROKEN  pid:"), "{}", stdout(&output));
    let quiet = net.command("-q").output().unwrap();
    assert_eq!(stderr(&quiet), "");
    let ended = net.command("-q & sleep 0.5; kill -INT $!; wait $!").output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", stderr(&ended));
    assert!(stdout(&ended).contains("not checked"), "{}", stdout(&ended));
}

#[test]
fn a_bare_namespace_and_one_that_leads_nowhere() {
    let net = Net::new();
    let bare = |words: &[&str]| {
        let mut command = Command::new("unshare");
        // This machine's own network is no part of it.
        command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"]);
        let output =
            command.arg(nsprobe().get_program()).args(["-o", "json", "diagnose"]).args(words).output();
        let output = output.unwrap();
        (output.status.code(), schema::valid(&output.stdout))
    };
    let (code, document) = bare(&[&net.pod.source(), "10.7.2.2"]);
    // Its other end is not in this machine's own namespace: how it hangs on a node is not known.
    assert_eq!((code, document["verdict"].as_str()), (Some(0), Some("unknown")), "{document:#}");
    let checks = document["checks"].as_array().unwrap();
    assert!(!checks.iter().any(|c| c["id"].as_str().unwrap().starts_with("dns.")), "it has no files");
    let empty = Netns::new();
    let (code, document) = bare(&[&empty.source()]);
    assert_eq!((code, document["verdict"].as_str()), (Some(0), Some("unknown")), "{document:#}");
    let (code, document) = bare(&[&empty.source(), "10.7.2.2"]);
    assert_eq!((code, document["verdict"].as_str()), (Some(1), Some("broken")), "{document:#}");
    assert_eq!(document["findings"][0]["id"], "connect.no_way");
}
