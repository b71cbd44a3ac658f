//! Links and routes read in real namespaces, with `ip -j` as the judge. Needs root; fails without it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on must say so")]

use nsprobe::netns::NetNs;
use nsprobe::observe::{ObserveError, RouteKind, route_get};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

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
    let ask = |target: &str| route_get(&client, target.parse().unwrap());

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
        let answer = route_get(&lonely.open("x"), target.parse().unwrap());
        assert!(matches!(answer, Err(ObserveError::NoRoute { .. })), "{answer:?}");
    }
}
