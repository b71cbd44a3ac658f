//! Links and routes read in real namespaces, with `ip -j` as the judge. Needs root; fails without it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must say so"
)]

use nsprobe::facts::{DontFragment, Link, Namespace};
use nsprobe::netns::NetNs;
use nsprobe::observe::{
    ObserveError, ReadOptions, RouteKind, diff, read_counters, read_namespaces, route_get,
};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Namespaces of one test, gone when it ends however it ends.
struct Spaces {
    prefix: String,
    names: Vec<&'static str>,
}

impl Spaces {
    fn new(names: &[&'static str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let spaces = Self { prefix: format!("nspl{}x{number}-", std::process::id()), names: names.to_vec() };
        for name in names {
            run("ip", &["netns", "add", &spaces.full(name)]);
            spaces.ip(name, "link set lo up");
        }
        spaces
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// `ip -n NAME WORDS`; `@x` in a word stands for the full name of namespace x.
    fn ip(&self, name: &str, words: &str) -> String {
        let full = self.full(name);
        let words: Vec<String> = words
            .split_whitespace()
            .map(|w| w.strip_prefix('@').map_or_else(|| w.to_owned(), |n| self.full(n)))
            .collect();
        let mut all = vec!["-n", full.as_str()];
        all.extend(words.iter().map(String::as_str));
        run("ip", &all)
    }

    fn open(&self, name: &str) -> NetNs {
        NetNs::open(&Path::new("/run/netns").join(self.full(name))).unwrap()
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", &self.full(name)]).status();
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {} (these tests need root)",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// client – router – server, the middle of 1400.
fn narrowed() -> Spaces {
    let s = Spaces::new(&["c", "r", "s"]);
    s.ip("c", "link add eth0 type veth peer name c0 netns @r");
    s.ip("s", "link add eth0 mtu 1400 type veth peer name s0 mtu 1400 netns @r");
    for (ns, dev, v4, v6) in [
        ("c", "eth0", "10.1.0.1/24", "fd01::1/64"),
        ("r", "c0", "10.1.0.254/24", "fd01::fe/64"),
        ("r", "s0", "10.2.0.254/24", "fd02::fe/64"),
        ("s", "eth0", "10.2.0.1/24", "fd02::1/64"),
    ] {
        s.ip(ns, &format!("addr add {v4} dev {dev}"));
        s.ip(ns, &format!("addr add {v6} dev {dev} nodad"));
        s.ip(ns, &format!("link set {dev} up"));
    }
    for (ns, v4, v6) in [("c", "10.1.0.254", "fd01::fe"), ("s", "10.2.0.254", "fd02::fe")] {
        s.ip(ns, &format!("route add default via {v4}"));
        s.ip(ns, &format!("-6 route add default via {v6}"));
    }
    s.open("r")
        .run(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        })
        .unwrap();
    s
}

#[test]
fn a_route_lookup_tells_the_configured_mtu_from_the_cached_one() {
    let s = narrowed();
    s.ip("c", "route add 10.2.0.9/32 via 10.1.0.254 mtu 1300");
    s.ip("c", "-6 route add fd02::9/128 via fd01::fe mtu 1310");
    s.ip("c", "route add blackhole 10.9.0.0/24");
    s.ip("c", "route add prohibit 10.9.1.0/24");
    let client = s.open("c");
    let ask = |target: &str| route_get(&client, target.parse().unwrap(), 0);

    for (target, gateway, source) in
        [("10.2.0.1", "10.1.0.254", "10.1.0.1"), ("fd02::1", "fd01::fe", "fd01::1")]
    {
        let found = ask(target).unwrap();
        assert_eq!((found.interface.as_str(), found.link_mtu), ("eth0", 1500));
        assert_eq!((found.route_mtu, found.cached), (None, None));
        assert_eq!(found.gateway, Some(gateway.parse().unwrap()));
        assert_eq!(found.source_address, Some(source.parse().unwrap()));
        assert_eq!((found.kind, found.largest_packet()), (RouteKind::Unicast, 1500));

        // A packet that is too large teaches the kernel; the first may be lost while neighbours are found.
        let found = (0..5)
            .map(|_| {
                let _ = Command::new("ip")
                    .args(["netns", "exec", &s.full("c"), "ping", "-M", "do", "-c1", "-W1", "-s1440", target])
                    .output()
                    .unwrap();
                ask(target).unwrap()
            })
            .find(|found| found.cached.is_some())
            .expect("the router says that it is too big");
        assert_eq!(found.route_mtu, None, "the cached path MTU is not the route's");
        let cached = found.cached.unwrap();
        assert_eq!(cached.mtu_bytes, 1400);
        assert!((500..=600).contains(&cached.expires_secs), "{cached:?}");
        assert_eq!(found.largest_packet(), 1500);
    }
    assert_eq!(ask("10.2.0.9").unwrap().route_mtu, Some(1300));
    assert_eq!(ask("fd02::9").unwrap().route_mtu, Some(1310));
    assert_eq!(ask("10.1.0.1").unwrap().kind, RouteKind::Local);
    assert_eq!(ask("fd01::1").unwrap().kind, RouteKind::Local);
    assert!(matches!(ask("10.9.0.1"), Err(ObserveError::NoRoute { .. })));
    assert!(matches!(ask("10.9.1.1"), Err(ObserveError::NoRoute { .. })));
    let lonely = Spaces::new(&["x"]);
    for target in ["10.2.0.1", "fd02::1"] {
        let answer = route_get(&lonely.open("x"), target.parse().unwrap(), 0);
        assert!(matches!(answer, Err(ObserveError::NoRoute { .. })), "{answer:?}");
    }
}

/// A node with a bridge, a VXLAN and two pods; one pod's eth0 was made larger by hand.
fn node() -> Spaces {
    let s = Spaces::new(&["node", "p1", "p2"]);
    s.ip("node", "link add eth0 type veth peer name wire");
    s.ip("node", "link set wire up");
    s.ip("node", "addr add 192.0.2.1/24 dev eth0");
    s.ip("node", "link set eth0 up");
    s.ip(
        "node",
        "link add flannel.1 type vxlan id 1 local 192.0.2.1 dev eth0 dstport 8472 nolearning df set",
    );
    s.ip("node", "link add vx6 type vxlan id 2 local fd00::1 remote fd00::2 dstport 4790 udp6zerocsumrx");
    s.ip("node", "link add noremote type vxlan id 3 remote 192.0.2.9 dstport 4791");
    s.ip("node", "link set flannel.1 up");
    s.ip("node", "link set noremote up");
    s.ip("node", "addr add 10.244.1.0/32 dev flannel.1");
    s.ip("node", "route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink mtu 1400");
    s.ip("node", "route add blackhole 10.99.0.0/16");
    s.ip("node", "link add cni0 type bridge");
    s.ip("node", "addr add 10.244.1.1/24 dev cni0");
    s.ip("node", "link set cni0 up");
    for (pod, veth, address) in [("p1", "vetha", "10.244.1.2/24"), ("p2", "vethb", "10.244.1.3/24")] {
        s.ip("node", &format!("link add {veth} mtu 1450 type veth peer name eth0 mtu 1450 netns @{pod}"));
        s.ip("node", &format!("link set {veth} master cni0 up"));
        s.ip(pod, &format!("addr add {address} dev eth0"));
        s.ip(pod, "link set eth0 up");
        s.ip(pod, "route add default via 10.244.1.1 advmss 1400");
    }
    s.ip("p2", "link set eth0 mtu 1500");
    s.ip("node", "link add link eth0 name mv0 netns @p2 type macvlan");
    s
}

fn read(s: &Spaces, names: &[&str]) -> Vec<Namespace> {
    let open: Vec<NetNs> = names.iter().map(|n| s.open(n)).collect();
    let targets: Vec<(&str, &NetNs)> = names.iter().copied().zip(&open).collect();
    read_namespaces(&targets, ReadOptions::default()).into_iter().map(|(_, r)| r.unwrap()).collect()
}

fn link<'a>(namespace: &'a Namespace, name: &str) -> &'a Link {
    namespace.links.iter().find(|l| l.name == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn links_of_real_namespaces_are_those_of_ip() {
    let s = node();
    for namespace in read(&s, &["node", "p1", "p2"]) {
        let text = s.ip(&namespace.subject, "-j -d link");
        let judge: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(namespace.links.len(), judge.len());
        for (link, ip) in namespace.links.iter().zip(&judge) {
            assert_eq!(link.index, ip["ifindex"]);
            assert_eq!(link.name, ip["ifname"]);
            assert_eq!(link.mtu_bytes, ip["mtu"]);
            assert_eq!(link.kind.as_deref(), ip["linkinfo"]["info_kind"].as_str());
            assert_eq!(link.master.as_deref(), ip["master"].as_str());
            assert_eq!(link.state.to_uppercase(), ip["operstate"]);
            if let Some(underlay) = ip["linkinfo"]["info_data"]["link"].as_str() {
                assert_eq!(link.underlay.as_deref(), Some(underlay));
            }
        }
    }
}

#[test]
fn peers_tunnels_and_routes_of_a_node_are_joined() {
    let s = node();
    let all = read(&s, &["node", "p1", "p2"]);
    let (node, p1, p2) = (&all[0], &all[1], &all[2]);
    for (pod, veth, inside) in [(p1, "vetha", 1450), (p2, "vethb", 1500)] {
        let there = link(node, veth).peer.clone().unwrap();
        assert_eq!(there.netns_inode, Some(pod.netns_inode));
        assert_eq!((there.name.as_deref(), there.mtu_bytes), (Some("eth0"), Some(inside)));
        let back = link(pod, "eth0").peer.clone().unwrap();
        assert_eq!(back.netns_inode, Some(node.netns_inode));
        assert_eq!((back.name.as_deref(), back.mtu_bytes), (Some(veth), Some(1450)));
    }
    assert_eq!(link(p2, "mv0").peer.as_ref().unwrap().name.as_deref(), Some("eth0"), "the node's");
    let flannel = link(node, "flannel.1");
    assert_eq!((flannel.overhead_bytes, flannel.underlay.as_deref()), (Some(50), Some("eth0")));
    assert_eq!(flannel.tunnel.unwrap().dont_fragment, Some(DontFragment::Set));
    assert_eq!(link(node, "vx6").overhead_bytes, Some(70));
    assert_eq!(link(node, "noremote").underlay.as_deref(), Some("eth0"), "by a route lookup to its remote");
    assert_eq!(link(node, "eth0").addresses[0].0.to_string(), "192.0.2.1");
    let route = |n: &Namespace, to: &str| n.routes.iter().find(|r| r.destination == to).unwrap().clone();
    let pods = route(node, "10.244.2.0/24");
    assert_eq!((pods.interface.as_deref(), pods.mtu_bytes), (Some("flannel.1"), Some(1400)));
    assert_eq!(route(node, "blackhole 10.99.0.0/16").interface, None);
    assert_eq!(route(p1, "default").advmss_bytes, Some(1400));

    // Without the node, the other ends are unknown, not absent.
    let alone = read(&s, &["p1"]);
    let there = link(&alone[0], "eth0").peer.clone().unwrap();
    assert_eq!((there.netns_inode, there.name, there.mtu_bytes), (None, None, None));
}

#[test]
fn rules_beside_the_kernels_own_are_seen() {
    let s = node();
    assert!(read(&s, &["node", "p1", "p2"]).iter().all(|n| !n.policy_rules.any()), "the kernel's own");
    for family in ["-4", "-6"] {
        let network = if family == "-4" { "10.244.0.0/16" } else { "fd00:244::/48" };
        s.ip("node", &format!("{family} rule add to {network} lookup 77"));
        assert!(read(&s, &["node"])[0].policy_rules.any(), "{family}");
        s.ip("node", &format!("{family} rule del to {network} lookup 77"));
        assert!(!read(&s, &["node"])[0].policy_rules.any(), "{family}");
    }
    // A pod without a default route in its main table is asked too, though it has few interfaces.
    s.ip("p1", "rule add from 10.244.1.2 lookup 77");
    let everything = ReadOptions { all_addresses: true, ..ReadOptions::default() };
    let p1 = s.open("p1");
    let policy = || read_namespaces(&[("p1", &p1)], everything).remove(0).1.unwrap().policy_rules.any();
    assert!(!policy(), "its main table leads out");
    s.ip("p1", "route del default");
    assert!(policy());
}

/// Amazon's security groups for pods: what came by a pod's own interfaces is looked up elsewhere than the node's packets.
#[test]
fn where_a_rule_asks_for_an_interface_no_way_to_a_pod_is_told() {
    let s = node();
    let everything = ReadOptions { all_addresses: true, ..ReadOptions::default() };
    let (node, p1) = (s.open("node"), s.open("p1"));
    let ways = || {
        let p1 = read_namespaces(&[("node", &node), ("p1", &p1)], everything).remove(1).1.unwrap();
        link(&p1, "eth0").ways_back.clone()
    };
    s.ip("node", "rule add to 10.244.1.0/24 lookup 77");
    assert!(!ways().is_empty());
    s.ip("node", "rule add iif lo lookup 78");
    assert!(!ways().is_empty(), "the node's own packets");
    s.ip("node", "rule add iif eth9 lookup 79");
    assert_eq!(ways(), []);
}

#[test]
fn what_comes_and_goes_while_it_is_read_costs_nothing_but_itself() {
    let s = node();
    // Enough that a dump takes many datagrams, between which it can be interrupted.
    let file = std::env::temp_dir().join(format!("{}batch", s.prefix));
    let batch = |lines: String| {
        std::fs::write(&file, lines).unwrap();
        run("ip", &["-n", &s.full("node"), "-batch", file.to_str().unwrap()]);
    };
    batch((0..100).map(|n| format!("link add s{n} type veth peer name t{n}\n")).collect());
    let steady: Vec<String> = read(&s, &["node"])[0].links.iter().map(|l| l.name.clone()).collect();
    let (node, pod) = (s.open("node"), s.open("p1"));
    let going = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let mut rounds = 0;
            while going.load(Ordering::Relaxed) {
                // All of them before the first goes: there is something to meet whenever the kernel lets a reader in.
                let add = (0..9).map(|n| format!("link add b{n} type veth peer name c{n}\n"));
                batch(add.chain((0..9).map(|n| format!("link del b{n}\n"))).collect());
                rounds += 1;
            }
            std::fs::remove_file(&file).unwrap();
            rounds
        });
        /// A test that fails here must not leave the other thread at it.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }
        let stop = Stop(&going);
        let mut seen = 0;
        let patience = Instant::now() + Duration::from_secs(20);
        // Three hundred times, and then until something was met in the middle.
        for round in 0.. {
            if round >= 300 && (seen > 0 || Instant::now() > patience) {
                break;
            }
            if round == 100 {
                // Its name goes; who holds it open still reads it.
                run("ip", &["netns", "del", &s.full("p1")]);
            }
            for (subject, answer) in read_namespaces(&[("node", &node), ("p1", &pod)], ReadOptions::default())
            {
                match answer {
                    Ok(namespace) if subject == "node" => {
                        let has = |name: &String| namespace.links.iter().any(|l| l.name == *name);
                        assert!(steady.iter().all(has), "{round}: {:?}", namespace.links);
                        assert_eq!(namespace.unreadable, 0);
                        seen += usize::from(namespace.links.len() > steady.len());
                    }
                    Ok(namespace) => assert_eq!(link(&namespace, "eth0").mtu_bytes, 1450),
                    // Told, never half an answer.
                    Err(ObserveError::Restless { .. }) if subject == "node" => {}
                    Err(error) => panic!("{subject}: {error}"),
                }
            }
        }
        drop(stop);
        assert!(changes.join().unwrap() > 0 && seen > 0, "nothing came while it was read");
    });
}

#[test]
fn a_namespace_may_be_given_twice_and_none_at_all() {
    let s = Spaces::new(&["a"]);
    let good = s.open("a");
    let answers = read_namespaces(
        &[("a", &good), ("b", &good)],
        ReadOptions { counters: true, ..ReadOptions::default() },
    );
    for (_, answer) in &answers {
        assert!(link(answer.as_ref().unwrap(), "lo").counters.is_some());
    }
    assert!(read_namespaces(&[], ReadOptions::default()).is_empty());
}

#[test]
fn a_packet_that_did_not_leave_is_counted_where_it_died() {
    let s = node();
    let (node, p1, p2) = (s.open("node"), s.open("p1"), s.open("p2"));
    let targets = [("host", &node), ("p1", &p1), ("p2", &p2), ("again", &node)];
    let ping = |size: &str| {
        let _ = Command::new("ip")
            .args([
                "netns",
                "exec",
                &s.full("p2"),
                "ping",
                "-M",
                "do",
                "-c1",
                "-W1",
                "-s",
                size,
                "10.244.1.1",
            ])
            .output()
            .unwrap();
    };
    ping("100");
    let before = read_counters(&targets).unwrap();
    // 1500 bytes out of the larger end of the veth: its other end takes 1450.
    ping("1472");
    let rises = diff(&before, &read_counters(&targets).unwrap());
    assert!(
        rises.iter().any(|r| r.subject == "p2" && r.interface.as_deref() == Some("eth0") && r.by >= 1),
        "{rises:?}"
    );
    assert!(rises.iter().all(|r| r.subject != "again"));
}

/// A node with two uplinks; the way to one of the VXLAN's remotes is narrower, by its link or by its route.
fn two_ways() -> Spaces {
    let s = Spaces::new(&["node"]);
    for (uplink, wire, address, mtu) in
        [("eth0", "w0", "192.0.2.1/24", 1500), ("eth1", "w1", "198.51.100.1/24", 1400)]
    {
        s.ip("node", &format!("link add {uplink} mtu {mtu} type veth peer name {wire} mtu {mtu}"));
        s.ip("node", &format!("link set {wire} up"));
        s.ip("node", &format!("addr add {address} dev {uplink}"));
        s.ip("node", &format!("link set {uplink} up"));
    }
    s.ip("node", "link add flannel.1 type vxlan id 1 local 192.0.2.1 dstport 8472 nolearning");
    s.ip("node", "link set flannel.1 mtu 1450 up");
    s.ip("node", "route add 203.0.113.0/24 via 192.0.2.254 mtu 1420");
    s.ip("node", "route add unreachable 203.0.114.0/24");
    let full = s.full("node");
    for (number, remote) in
        ["192.0.2.2", "192.0.2.3", "198.51.100.2", "203.0.113.9", "203.0.114.9"].iter().enumerate()
    {
        let mac = format!("02:00:00:00:00:{number:02x}");
        run("bridge", &["-n", &full, "fdb", "append", &mac, "dev", "flannel.1", "dst", remote]);
        // A second address behind the same remote is no second remote.
        let mac = format!("02:00:00:00:01:{number:02x}");
        run("bridge", &["-n", &full, "fdb", "append", &mac, "dev", "flannel.1", "dst", remote]);
    }
    s
}

#[test]
fn remotes_in_the_forwarding_database_are_looked_up_one_by_one() {
    let s = two_ways();
    let all = read(&s, &["node"]);
    let flannel = link(&all[0], "flannel.1");
    let told: Vec<_> = flannel
        .egress
        .iter()
        .map(|e| {
            let remotes: Vec<String> = e.remotes.iter().map(ToString::to_string).collect();
            (e.interface.as_deref(), e.mtu_bytes, remotes.join(" "))
        })
        .collect();
    assert_eq!(told.len(), 4, "{told:?}");
    for way in [
        (None, None, "203.0.114.9".to_owned()),
        (Some("eth0"), Some(1500), "192.0.2.2 192.0.2.3".to_owned()),
        (Some("eth0"), Some(1420), "203.0.113.9".to_owned()),
        (Some("eth1"), Some(1400), "198.51.100.2".to_owned()),
    ] {
        assert!(told.contains(&way), "{way:?}: {told:?}");
    }
    assert_eq!(flannel.underlay.as_deref(), Some("eth0"), "the way to most of them");

    // Bound to a device, that device limits the way, as it does for packets.
    s.ip("node", "link add bound type vxlan id 2 dev eth0 local 192.0.2.1 dstport 4789");
    s.ip("node", "link set bound up");
    run(
        "bridge",
        &["-n", &s.full("node"), "fdb", "append", "02:00:00:00:02:00", "dev", "bound", "dst", "198.51.100.2"],
    );
    let all = read(&s, &["node"]);
    let bound = link(&all[0], "bound");
    assert_eq!((bound.egress.len(), bound.egress[0].interface.as_deref()), (1, Some("eth0")));
}

#[test]
fn offloads_are_those_of_ethtool_and_asked_of_tunnels_and_what_carries_them_alone() {
    let s = node();
    let full = s.full("node");
    let all = read(&s, &["node", "p1"]);
    for name in ["flannel.1", "eth0"] {
        let ours = link(&all[0], name).offloads.expect("asked");
        let text = run("ip", &["netns", "exec", &full, "ethtool", "-k", name]);
        let on = |feature: &str| {
            let line = text.lines().find(|l| l.trim_start().starts_with(feature)).unwrap();
            line.split_whitespace().nth(1) == Some("on")
        };
        assert_eq!(ours.tx_checksum, on("tx-checksumming:"), "{name}");
        assert_eq!(ours.tso, on("tcp-segmentation-offload:"), "{name}");
        assert_eq!(ours.gso, on("generic-segmentation-offload:"), "{name}");
        assert_eq!(ours.gro, on("generic-receive-offload:"), "{name}");
    }
    assert!(link(&all[0], "flannel.1").offloads.unwrap().tx_checksum);
    run("ip", &["netns", "exec", &full, "ethtool", "-K", "flannel.1", "tx", "off"]);
    let all = read(&s, &["node", "p1"]);
    assert!(!link(&all[0], "flannel.1").offloads.unwrap().tx_checksum);
    assert_eq!((link(&all[0], "cni0").offloads, link(&all[1], "eth0").offloads), (None, None));
}
