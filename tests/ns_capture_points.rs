//! Captures at several points of a pod's way through its node: one file, one order, the same packet at each
//! point, and at the uplink also inside VXLAN.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use support::capture::{assert_code, capinfos, size, tshark, wait_until};
use support::schema::valid;
use support::{Netns, nsprobe, run, stderr, stdout};

/// Two nodes joined by a wire, on each a bridge and a VXLAN device; pods `a` and `b` on the first, `c` on the second.
struct Cluster {
    nodes: [Netns; 2],
    a: Netns,
    b: Netns,
    c: Netns,
    /// The first node's files: its PID 1, and the namespaces by name.
    root: tempfile::TempDir,
}

impl Cluster {
    /// `outer`: the family that the tunnel's packets have.
    fn new(outer: u8) -> Self {
        let nodes = [Netns::new(), Netns::new()];
        nodes[0].ip(&format!("link add eth0 type veth peer name eth0 netns {}", nodes[1].name()));
        for (node, own, other) in [(&nodes[0], 1, 2), (&nodes[1], 2, 1)] {
            node.ip(&format!("addr add 10.10.0.{own}/24 dev eth0"));
            node.ip(&format!("addr add fd00:10::{own}/64 dev eth0 nodad"));
            node.ip("link set eth0 up");
            let address = |n| if outer == 6 { format!("fd00:10::{n}") } else { format!("10.10.0.{n}") };
            let mac = |n| format!("02:00:00:00:0f:0{n}");
            node.ip(&format!(
                "link add flannel.1 mtu 1420 address {} type vxlan id 1 dev eth0 local {} dstport 8472 nolearning",
                mac(own),
                address(own)
            ));
            node.ip(&format!("addr add 10.244.{own}.0/32 dev flannel.1"));
            node.ip("link set flannel.1 up");
            node.ip("link add cni0 type bridge");
            node.ip(&format!("addr add 10.244.{own}.1/24 dev cni0"));
            node.ip("link set cni0 up");
            node.ip(&format!("route add default via 10.10.0.{other}"));
            node.ip(&format!("route add 10.244.{other}.0/24 via 10.244.{other}.0 dev flannel.1 onlink"));
            node.ip(&format!("neigh add 10.244.{other}.0 lladdr {} dev flannel.1 nud permanent", mac(other)));
            let entry =
                format!("-n {} fdb append {} dev flannel.1 dst {}", node.name(), mac(other), address(other));
            run("bridge", &entry.split(' ').collect::<Vec<_>>());
            inside(node, "echo 1 > /proc/sys/net/ipv4/ip_forward");
        }
        let root = tempfile::tempdir().unwrap();
        let folder = |path: &str| {
            let folder = root.path().join(path);
            std::fs::create_dir_all(&folder).unwrap();
            folder
        };
        let link = |netns: &Netns, to| std::os::unix::fs::symlink(netns.path(), to).unwrap();
        link(&nodes[0], folder("proc/1/ns").join("net"));
        let pod = |node: usize, last: u8| {
            let (pod, subnet) = (Netns::new(), node + 1);
            pod.ip(&format!("link add eth0 type veth peer name veth{last} netns {}", nodes[node].name()));
            pod.ip(&format!("addr add 10.244.{subnet}.{last}/24 dev eth0"));
            pod.ip("link set eth0 up");
            pod.ip(&format!("route add default via 10.244.{subnet}.1"));
            nodes[node].ip(&format!("link set veth{last} master cni0 up"));
            link(&pod, folder("run/netns").join(pod.name()));
            pod
        };
        let (a, b, c) = (pod(0, 5), pod(0, 6), pod(1, 7));
        let cluster = Self { nodes, a, b, c, root };
        // Neighbours are known from here on: what is counted below is pings alone.
        cluster.ping(&cluster.a, "-c 1 -W 5");
        cluster.ping(&cluster.b, "-c 1 -W 5");
        cluster
    }

    /// `ping` to the pod on the other node; whether it was answered does not matter.
    fn ping(&self, from: &Netns, words: &str) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", from.name(), "ping", "-q", "-n"]).args(words.split(' '));
        command.arg("10.244.2.7").stdout(Stdio::null()).status().unwrap();
    }

    fn command(&self, sources: &[&Netns], arguments: &[&str]) -> Command {
        let mut command = nsprobe();
        command
            .arg("capture")
            .args(sources.iter().map(|s| s.source()))
            .arg("--host-root")
            .arg(self.root.path());
        command.args(arguments).env_remove("SSH_CONNECTION");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn label(&self, pod: &Netns) -> String {
        format!("netns:/run/netns/{}", pod.name())
    }

    /// Captures into a file while `traffic` runs.
    fn record(&self, sources: &[&Netns], arguments: &[&str], file: &Path, traffic: impl FnOnce()) -> Output {
        let arguments = [&["-w", file.to_str().unwrap()], arguments].concat();
        let child = self.command(sources, &arguments).spawn().unwrap();
        wait_until("the file's header", || size(file) > 0);
        traffic();
        end(child)
    }
}

fn end(child: Child) -> Output {
    support::capture::signal(&child, nix::sys::signal::Signal::SIGINT);
    child.wait_with_output().unwrap()
}

fn inside(netns: &Netns, script: &str) {
    run("ip", &["netns", "exec", netns.name(), "sh", "-ec", script]);
}

/// How many packets each point saw, by its description.
fn counts(file: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for point in tshark(file, &["frame.interface_description"]) {
        *counts.entry(point).or_default() += 1;
    }
    counts
}

#[test]
fn two_pods_are_seen_at_every_point_of_their_way_in_one_file_in_order() {
    let folder = tempfile::tempdir().unwrap();
    for outer in [4, 6] {
        let cluster = Cluster::new(outer);
        let file = folder.path().join(format!("{outer}.pcapng"));
        let output = cluster.record(
            &[&cluster.a, &cluster.b],
            &["--point", "all", "-o", "json", "--", "icmp"],
            &file,
            || {
                cluster.ping(&cluster.a, "-c 3 -i 0.01");
                cluster.ping(&cluster.b, "-c 2 -i 0.01");
            },
        );
        assert_code(&output, 0);
        let document = valid(&output.stdout);
        let (a, b) = (cluster.label(&cluster.a), cluster.label(&cluster.b));
        let seen = counts(&file);
        let expected = [
            (format!("{a} eth0"), 6),
            (format!("{b} eth0"), 4),
            (format!("veth5 (peer of {a} eth0)"), 6),
            (format!("veth6 (peer of {b} eth0)"), 4),
            ("bridge cni0".to_owned(), 10),
            ("tunnel flannel.1".to_owned(), 10),
            ("uplink eth0".to_owned(), 10),
        ];
        assert_eq!(seen, expected.into_iter().collect(), "outer family {outer}: {}", stderr(&output));
        let subjects: Vec<_> = document["points"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| (p["subject"].as_str().unwrap(), p["interface"].as_str().unwrap()))
            .collect();
        assert_eq!(subjects[..2], [(&*a, "eth0"), (&*b, "eth0")]);
        assert_eq!(
            subjects[2..],
            [("host", "veth5"), ("host", "veth6"), ("host", "cni0"), ("host", "flannel.1"), ("host", "eth0")]
        );
        let facts = capinfos(&file);
        for fact in [
            "Strict time order:   True",
            "Number of interfaces in file: 7",
            "Comment = MTU 1420 bytes",
            "Comment = MTU 1500 bytes; the filter holds for what tunnels carry too",
            "Filter string = (host 10.244.1.5 or host 10.244.1.6) and (icmp)",
        ] {
            assert!(facts.contains(fact), "{fact}: not in\n{facts}");
        }
        // One packet at its five points, from the pod outwards.
        let way = tshark(&file, &["frame.interface_description", "icmp.seq", "icmp.type", "ip.src"]);
        let first: Vec<_> =
            way.iter().filter(|l| l.contains("\t1\t8\t") && l.contains("10.244.1.5")).collect();
        let last = first.last().unwrap();
        assert!(first.len() == 5 && first[0].starts_with(&a) && last.starts_with("uplink"), "{first:#?}");
    }
}

#[test]
fn a_filter_that_names_a_pod_finds_its_packets_inside_the_tunnel_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    for outer in [4, 6] {
        let cluster = Cluster::new(outer);
        let both = || {
            cluster.ping(&cluster.a, "-c 3 -i 0.01");
            cluster.ping(&cluster.b, "-c 2 -i 0.01");
            // Between the nodes themselves: nobody's pod.
            inside(&cluster.nodes[0], "ping -q -n -c 1 10.10.0.2 > /dev/null");
        };
        let uplink = |name: &str, sources: &[&Netns], more: &[&str]| {
            let file = folder.path().join(format!("{name}{outer}.pcapng"));
            let arguments = [&["--point", "uplink"], more].concat();
            let output = cluster.record(sources, &arguments, &file, both);
            assert_code(&output, 0);
            tshark(&file, &["icmp.type"]).len()
        };
        assert_eq!(uplink("own", &[&cluster.a], &[]), 6, "its own, by its address alone");
        assert_eq!(uplink("host", &[&cluster.a, &cluster.b], &["--host", "10.244.1.6"]), 4);
        assert_eq!(uplink("echo", &[&cluster.a], &["--", "icmp[0] = 8 and src host 10.244.1.5"]), 3);
        assert_eq!(uplink("none", &[&cluster.a], &["--host", "10.244.1.9"]), 0);
        assert_eq!(uplink("short", &[&cluster.a], &["-s", "64"]), 6, "however little is kept");
        assert_eq!(uplink("all", &[&cluster.a], &["--all-traffic", "--", "icmp"]), 12);
    }
}

#[test]
fn what_matters_has_a_comment() {
    let cluster = Cluster::new(4);
    let folder = tempfile::tempdir().unwrap();
    let comments = |name: &str, pod: &Netns, traffic: &dyn Fn()| {
        let file = folder.path().join(name);
        assert_code(
            &cluster.record(&[pod], &["--point", "pod,uplink", "--", "icmp or tcp"], &file, traffic),
            0,
        );
        tshark(&file, &["frame.interface_name", "frame.comment", "tcp.len"])
    };
    // The node's bridge answers for what the tunnel does not carry.
    let said = comments("ptb", &cluster.a, &|| cluster.ping(&cluster.a, "-c 1 -M do -s 1472 -W 1"));
    let too_big = "10.244.1.1 says that a packet to 10.244.2.7 was too big: 1420 bytes fit, it had 1500";
    assert_eq!(said, ["eth0\t\t", &format!("eth0\t{too_big}\t")]);
    // TCP in large pieces, with nothing to tell it that the tunnel is narrower.
    let drop = "nft 'add table ip t; add chain ip t o { type filter hook output priority 0; }; \
                add rule ip t o icmp type destination-unreachable drop'";
    inside(&cluster.nodes[0], drop);
    let mut server = Command::new("ip");
    server.args(["netns", "exec", cluster.c.name(), "busybox", "nc", "-l", "-p", "5001"]);
    let _server = support::Running(server.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    wait_until("the server", || !run("ip", &["netns", "exec", cluster.c.name(), "ss", "-Hltn"]).is_empty());
    let said = comments("tcp", &cluster.b, &|| {
        let send = "timeout 3 bash -c 'head -c 60000 /dev/zero > /dev/tcp/10.244.2.7/5001; sleep 2'";
        inside(&cluster.b, send);
    });
    let with = |words: &str| said.iter().filter(|l| l.contains(words)).count();
    let oversize = "larger than the link MTU of 1500 bytes: TSO/GRO, not on the wire in this size";
    assert!(with(oversize) > 0, "{said:#?}");
    assert!(with("retransmission of 1500 bytes: does the path carry them?") > 0, "{said:#?}");
    assert!(with("") > with(" bytes"), "the handshake is nothing to remark on: {said:#?}");
}

#[test]
fn a_line_tells_which_way_a_packet_goes_at_each_point() {
    let cluster = Cluster::new(4);
    let arguments = ["--point", "veth,bridge", "-q", "-c", "4", "--duration", "10s", "--", "icmp"];
    let child = cluster.command(&[&cluster.a], &arguments).spawn().unwrap();
    let _ping = support::Running(
        Command::new("ip")
            .args(["netns", "exec", cluster.a.name(), "ping", "-q", "-i", "0.2", "10.244.2.7"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let lines = stdout(&child.wait_with_output().unwrap());
    for (place, from_the_pod, to_the_pod) in
        [("veth5 (peer of ", " In IP ", " Out IP "), ("bridge cni0", " In IP ", " Out IP ")]
    {
        let at =
            |what: &str| lines.lines().find(|l| l.contains(place) && l.contains(what)).unwrap_or_default();
        assert!(
            at("echo request").contains(from_the_pod) && at("echo reply").contains(to_the_pod),
            "{lines}"
        );
    }
}

#[test]
fn words_are_the_same_filter_at_every_point_and_are_shown() {
    let cluster = Cluster::new(4);
    let file = cluster.root.path().join("words.pcapng");
    let arguments =
        ["--point", "pod,uplink", "-v", "--port", "5001,6000-6010", "--tcp-flags", "syn,rst", "--", "ip"];
    let output = cluster.record(&[&cluster.a], &arguments, &file, || {
        cluster.ping(&cluster.a, "-c 1");
        // Nobody listens: a SYN, and a reset.
        inside(
            &cluster.a,
            "busybox nc -w 1 10.244.2.7 5001 || true; busybox nc -w 1 10.244.2.7 5002 || true",
        );
    });
    assert_code(&output, 0);
    assert_eq!(tshark(&file, &["tcp.flags"]), ["0x0002", "0x0002", "0x0014", "0x0014"]);
    let shown = stderr(&output);
    assert!(shown.contains("filter: ((port 5001 or portrange 6000-6010) and "), "{shown}");
    assert!(shown.contains(") and (ip)\n") && shown.contains("filter at uplink eth0: "), "{shown}");
}

#[test]
fn a_point_that_is_not_there_is_an_error_or_a_note_when_others_are() {
    let cluster = Cluster::new(4);
    cluster.nodes[0].ip("link del flannel.1");
    let try_it = |arguments: &[&str]| {
        let arguments = [arguments, &["--duration", "50ms", "-o", "json"]].concat();
        cluster.command(&[&cluster.a], &arguments).output().unwrap()
    };
    let alone = try_it(&["--point", "tunnel"]);
    assert_code(&alone, 5);
    let document = valid(&alone.stdout);
    assert!(
        document["message"].as_str().unwrap().starts_with("no tunnel on the way of netns:"),
        "{document}"
    );
    assert!(document["hint"].as_str().unwrap().starts_with("--point pod,veth,bridge,uplink;"), "{document}");
    let others = try_it(&["--point", "pod,veth,tunnel"]);
    assert_code(&others, 0);
    assert!(stderr(&others).contains("no tunnel on the way of "), "{}", stderr(&others));
    let all = try_it(&["--point", "all"]);
    assert_code(&all, 0);
    assert!(!stderr(&all).contains("no tunnel") && stdout(&all).contains("cni0"), "{}", stderr(&all));
    // A pod without an address: what would be its traffic?
    cluster.a.ip("addr flush dev eth0");
    let unknown = try_it(&["--point", "bridge"]);
    assert_code(&unknown, 5);
    assert!(stderr(&unknown).contains("--all-traffic"), "{}", stderr(&unknown));
    assert_code(&try_it(&["--point", "veth"]), 0);
    assert_code(&try_it(&["--point", "bridge", "--all-traffic"]), 0);
}

#[test]
fn with_the_node_itself_everybodys_packets_are_wanted_at_its_points_and_a_veth_still_names_its_pod() {
    let cluster = Cluster::new(4);
    let folder = tempfile::tempdir().unwrap();
    for (name, first) in [("before", true), ("after", false)] {
        let file = folder.path().join(name);
        let mut command = nsprobe();
        let mut sources = vec![cluster.a.source(), "host".to_owned()];
        if first {
            sources.reverse();
        }
        command.arg("capture").args(sources).arg("--host-root").arg(cluster.root.path());
        command.args(["--point", "veth,bridge", "-w", file.to_str().unwrap(), "--", "icmp"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("the file's header", || size(&file) > 0);
        // Of the pod that was not named.
        cluster.ping(&cluster.b, "-c 2 -i 0.1 -W 5");
        assert_code(&end(child), 0);
        let peer = format!("veth5 (peer of {} eth0)", cluster.label(&cluster.a));
        let facts = capinfos(&file);
        assert!(facts.contains(&peer), "{facts}");
        let wanted = [("bridge cni0".to_owned(), 4), ("veth6 (of a pod)".to_owned(), 4)];
        assert_eq!(counts(&file), wanted.into(), "the node {name} the pod");
    }
}

#[test]
fn bad_words_are_refused_with_the_reason() {
    for (arguments, code, said) in [
        (&["--port", "http"][..], 2, "a number from 1 to 65535"),
        (&["--port", "0"], 2, "a number from 1 to 65535"),
        (&["--host", "web-0"], 2, "pod:web-0"),
        (&["--host", "10.0.0.1/8"], 2, "must be zero"),
        (&["--tcp-flags", "sin"], 2, "fin, syn, rst"),
        (&["--point", "vet"], 2, "veth"),
        (&["--host", "pod:no-such-pod"], 3, "no pod no-such-pod"),
        (&["--port", "80", "--", "icmp"], 2, "rejects all packets"),
    ] {
        let output = support::capture::capture(&[&["pid:1"], arguments].concat());
        assert_code(&output, code);
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
}
