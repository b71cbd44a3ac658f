//! What `nsprobe links` shows people, from made-up namespaces: readable at 80 columns, with many pods, with
//! names that mean harm.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails loudly")]

use nsprobe::diagnose::links::check_links;
use nsprobe::facts::{Link, LinkRef, Namespace, Route, Tunnel};
use nsprobe::report::{LinksDocument, LinksView, Paint, render_links};

const HOST: u64 = 1;

fn link(index: u32, name: &str, kind: Option<&str>, mtu: u32) -> Link {
    Link {
        index,
        name: name.into(),
        kind: kind.map(Into::into),
        mtu_bytes: mtu,
        state: "up".into(),
        up: true,
        ..Link::default()
    }
}

fn route(to: &str, via: &str, interface: &str) -> Route {
    Route {
        destination: to.into(),
        via: Some(via.parse().unwrap()),
        interface: Some(interface.into()),
        mtu_bytes: None,
        ..Route::default()
    }
}

/// A node whose pods (name, MTU) hang on cni0, with a VXLAN of 1450 in an uplink of the given MTU.
fn node(uplink: u32, pods: &[(&str, u32)]) -> Vec<Namespace> {
    let tunnel = Link {
        overhead_bytes: Some(50),
        underlay: Some("eth0".into()),
        tunnel: Some(Tunnel { outer_ipv6: Some(false), ..Tunnel::default() }),
        ..link(3, "flannel.1", Some("vxlan"), 1450)
    };
    let host = Namespace {
        subject: "host".into(),
        netns_inode: HOST,
        links: vec![link(2, "eth0", None, uplink), tunnel, link(4, "cni0", Some("bridge"), 1450)],
        routes: vec![
            route("default", "10.0.0.254", "eth0"),
            route("10.244.2.0/24", "10.244.2.0", "flannel.1"),
        ],
        unreadable: 0,
        policy_rules: nsprobe::facts::PolicyRules::None,
    };
    let mut all = vec![host];
    for (number, &(name, mtu)) in (0u32..).zip(pods) {
        let (inode, end) = (u64::from(number) + 100, format!("veth{number:08x}"));
        let other = |netns, index, name: &str| {
            Some(LinkRef { netns_inode: Some(netns), index, name: Some(name.into()), mtu_bytes: Some(mtu) })
        };
        all[0].links.push(Link {
            peer: other(inode, 2, "eth0"),
            master: Some("cni0".into()),
            ..link(10 + number, &end, Some("veth"), mtu)
        });
        all.push(Namespace {
            subject: name.into(),
            netns_inode: inode,
            links: vec![Link { peer: other(HOST, 10 + number, &end), ..link(2, "eth0", Some("veth"), mtu) }],
            routes: vec![route("default", "10.244.1.1", "eth0")],
            unreadable: 0,
            policy_rules: nsprobe::facts::PolicyRules::None,
        });
    }
    all
}

fn shown(namespaces: Vec<Namespace>, width: usize, verbose: bool) -> String {
    let findings = check_links(&namespaces, HOST);
    let view = LinksView { paint: Paint::new(false), width: Some(width), verbose };
    render_links(&LinksDocument { namespaces, new_pods: None, findings }, HOST, view)
}

/// The part on chains and the host, without the findings.
fn picture(text: &str, from: &str) -> String {
    text.get(text.find(from).unwrap()..).unwrap().trim_start().to_owned()
}

#[test]
fn a_healthy_node_is_one_picture() {
    let names: Vec<String> = (0..250).map(|n| format!("default/web-{n:03}")).collect();
    let pods: Vec<(&str, u32)> = names.iter().map(|n| (n.as_str(), 1450)).collect();
    let text = shown(node(1500, &pods), 80, false);
    insta::assert_snapshot!(text, @r"
    no finding: links and routes of 250 pods and the host fit together

    250 pods: default/web-000, default/web-001, default/web-002 and 247 more
      eth0 1450 ── veth… 1450 ── cni0 1450 ┄┄ flannel.1 1450 ══ eth0 1500
      MSS announced: 1410 over IPv4 (1450 − 40)
      flannel.1: VXLAN over IPv4 in eth0, 1500 − 50 = 1450

    host
      eth0        1500  up       uplink
      flannel.1   1450  up       VXLAN over IPv4 in eth0, 1500 − 50 = 1450
      cni0        1450  up       bridge, 250 ports of 1450
      and the ends of pods: 250 of MTU 1450

    ── wire or bridge   ┄┄ routed   ══ inside a tunnel   numbers: MTU in bytes
    ");
    assert!(text.lines().all(|l| l.chars().count() <= 80));
}

#[test]
fn the_narrowest_point_is_marked_and_the_odd_pod_stands_alone() {
    let pods = [("default/a", 1450), ("default/b", 1450), ("shop/odd", 1500)];
    insta::assert_snapshot!(picture(&shown(node(1500, &pods), 80, false), "\n2 pods"), @r"
    2 pods: default/a, default/b
      eth0 1450 ── veth… 1450 ── cni0 1450 ┄┄ flannel.1 1450 ══ eth0 1500
      MSS announced: 1410 over IPv4 (1450 − 40)
      flannel.1: VXLAN over IPv4 in eth0, 1500 − 50 = 1450

    shop/odd
      eth0 1500 ── veth00000002 1500 ── cni0 1450 ┄┄ flannel.1 1450 ══ eth0 1500
                                        ▲ narrowest: 1450
      MSS announced: 1460 over IPv4 (1500 − 40)

    host
      eth0           1500  up       uplink
      flannel.1      1450  up       VXLAN over IPv4 in eth0, 1500 − 50 = 1450
      cni0           1450  up       bridge, 3 ports: 2 of 1450, 1 of 1500
      veth00000000   1450  up       veth, port of cni0, to eth0 1450 elsewhere
      veth00000001   1450  up       veth, port of cni0, to eth0 1450 elsewhere
      veth00000002   1500  up       veth, port of cni0, to eth0 1500 elsewhere

    ── wire or bridge   ┄┄ routed   ══ inside a tunnel   numbers: MTU in bytes
    ");
}

#[test]
fn an_underlay_that_is_too_small_is_the_narrowest_point() {
    insta::assert_snapshot!(picture(&shown(node(1400, &[("default/a", 1450)]), 80, false), "\ndefault/a"), @r"
    default/a
      eth0 1450 ── veth00000000 1450 ── cni0 1450 ┄┄ flannel.1 1450 ══ eth0 1400
                                                       narrowest: 1350 ▲
      MSS announced: 1410 over IPv4 (1450 − 40)
      flannel.1: VXLAN over IPv4 in eth0, 1400 − 50 = 1350 < 1450

    host
      eth0           1400  up       uplink
      flannel.1      1450  up       VXLAN over IPv4 in eth0, 1400 − 50 = 1350 < 1450
      cni0           1450  up       bridge, 1 port of 1450
      veth00000000   1450  up       veth, port of cni0, to eth0 1450 elsewhere

    ── wire or bridge   ┄┄ routed   ══ inside a tunnel   numbers: MTU in bytes
    ");
}

#[test]
fn a_narrow_terminal_breaks_between_hops_and_keeps_the_mark_in_sight() {
    let text = shown(node(1500, &[("default/a", 1500)]), 50, false);
    insta::assert_snapshot!(picture(&text, "\ndefault/a\n"), @r"
    default/a
      eth0 1500 ── veth00000000 1500 ── cni0 1450
                        narrowest: 1450 ▲
        ┄┄ flannel.1 1450 ══ eth0 1500
      MSS announced: 1460 over IPv4 (1500 − 40)
      flannel.1: VXLAN over IPv4 in eth0, 1500 − 50 = 1450

    host
      eth0           1500  up       uplink
      flannel.1      1450  up       VXLAN over IPv4 in eth0, 1500 − 50 = 1450
      cni0           1450  up       bridge, 1 port of 1500
      veth00000000   1500  up       veth, port of cni0, to eth0 1500 elsewhere

    ── wire or bridge   ┄┄ routed   ══ inside a tunnel   numbers: MTU in bytes
    ");
}

#[test]
fn verbose_names_every_pod_with_its_end() {
    let text = shown(node(1500, &[("default/a", 1450), ("default/b", 1450)]), 80, true);
    assert!(text.contains("\n  default/a  veth00000000\n  default/b  veth00000001\n"), "{text}");
    assert!(text.contains("  route default via 10.0.0.254 dev eth0\n"), "{text}");
}

#[test]
fn names_that_mean_harm_reach_no_terminal() {
    let mut all = node(1500, &[("default/a\x1b[2J", 1500)]);
    all[1].links[0].name = "e\x1b[31m".into();
    all[0].links[3].name = "v\u{202e}x".into();
    all[0].links[2].kind = Some("bridge\x07".into());
    for verbose in [false, true] {
        let text = shown(all.clone(), 80, verbose);
        assert!(!text.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text:?}");
    }
}

#[test]
fn a_pod_with_more_routes_than_anybody_reads_fills_no_terminal() {
    let mut all = node(1500, &[("default/a", 1450)]);
    let own = |n: u32| Route {
        mtu_bytes: Some(1400),
        ..route(&format!("10.9.{}.{}", n >> 8, n & 255), "10.244.1.1", "eth0")
    };
    all[1].links[0].peer = Some(LinkRef { netns_inode: None, index: 7, name: None, mtu_bytes: None });
    all[1].routes.extend((0..60_000).map(own));
    let text = shown(all.clone(), 80, false);
    assert!(text.lines().count() < 60, "{} lines", text.lines().count());
    assert!(text.contains("and 59980 more routes with an MTU or MSS of their own: -v shows them"), "{text}");
    assert!(shown(all, 80, true).lines().count() > 60_000);
}

#[test]
fn a_pod_that_leads_nowhere_known_is_shown_as_a_table() {
    let mut all = node(1500, &[("default/a", 1450)]);
    all[1].links[0].peer = Some(LinkRef { netns_inode: None, index: 7, name: None, mtu_bytes: None });
    let text = shown(all, 80, false);
    assert!(
        text.contains("\ndefault/a\n  eth0   1450  up       veth, to index 7 elsewhere, uplink\n"),
        "{text}"
    );
}

#[test]
fn each_way_of_a_pod_with_two_interfaces_begins_at_its_own_end() {
    let with_two = |pods: &[&str]| {
        let pods: Vec<(&str, u32)> = pods.iter().map(|name| (*name, 1450)).collect();
        let mut all = node(1500, &pods);
        all[0].links.push(link(5, "br1", Some("bridge"), 1450));
        for number in 0..u32::try_from(pods.len()).unwrap() {
            let (pod, end) = (usize::try_from(number).unwrap() + 1, format!("net{number:08x}"));
            let peer = |inode, index, name: &str| {
                Some(LinkRef {
                    netns_inode: Some(inode),
                    index,
                    name: Some(name.into()),
                    mtu_bytes: Some(1450),
                })
            };
            let inode = all[pod].netns_inode;
            all[pod]
                .links
                .push(Link { peer: peer(HOST, 50 + number, &end), ..link(3, "net1", Some("veth"), 1450) });
            all[0].links.push(Link {
                peer: peer(inode, 3, "net1"),
                master: Some("br1".into()),
                ..link(50 + number, &end, Some("veth"), 1450)
            });
        }
        shown(all, 80, false)
    };
    let ways = |text: &str| -> Vec<String> {
        let ways =
            text.lines().filter(|l| l.starts_with("  eth0 1450 ──") || l.starts_with("  net1 1450 ──"));
        ways.map(|l| l.split(" ── ").nth(1).unwrap().to_owned()).collect()
    };
    let one = with_two(&["default/a"]);
    assert_eq!(ways(&one), ["veth00000000 1450", "net00000000 1450"], "{one}");
    let two = with_two(&["default/a", "default/b"]);
    assert_eq!(ways(&two), ["veth… 1450", "net… 1450"], "{two}");
}
