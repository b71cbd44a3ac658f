//! Each rule fires on what it is for, and is silent on its healthy twin.

use super::*;
use crate::facts::{CniPlugin, LinkRef, Route, Tunnel};

const HOST: u64 = 1;
/// 2026-11-25.
const NOW: i64 = 1_795_600_000;
const DAY: i64 = 86_400;

fn link(index: u32, name: &str, kind: &str, mtu_bytes: u32) -> Link {
    let kind = (!kind.is_empty()).then(|| kind.into());
    Link { index, name: name.into(), kind, mtu_bytes, state: "up".into(), up: true, ..Link::default() }
}

fn route(to: &str, interface: &str) -> Route {
    Route { destination: to.into(), interface: Some(interface.into()), ..Route::default() }
}

/// A flannel node: uplink 1500, VXLAN and bridge of 1450, pods of these MTUs.
fn node(pods: &[(&str, u32)]) -> Vec<Namespace> {
    let tunnel = Link {
        overhead_bytes: Some(50),
        underlay: Some("eth0".into()),
        tunnel: Some(Tunnel::default()),
        ..link(3, "flannel.1", "vxlan", 1450)
    };
    let mut host = Namespace {
        subject: "host".into(),
        netns_inode: HOST,
        links: vec![
            link(2, "eth0", "", 1500),
            tunnel,
            Link { addresses: vec![([10, 244, 1, 1].into(), 24)], ..link(4, "cni0", "bridge", 1450) },
        ],
        routes: vec![route("default", "eth0"), route("10.244.2.0/24", "flannel.1")],
        unreadable: 0,
        policy_rules: crate::facts::PolicyRules::None,
    };
    let mut all = Vec::new();
    for (number, &(name, mtu)) in (0u32..).zip(pods) {
        let inode = u64::from(number) + 100;
        let other =
            |netns, index| LinkRef { netns_inode: Some(netns), index, name: None, mtu_bytes: Some(mtu) };
        host.links.push(Link {
            peer: Some(other(inode, 2)),
            master: Some("cni0".into()),
            ..link(10 + number, &format!("veth{number}"), "veth", mtu)
        });
        all.push(Namespace {
            subject: name.into(),
            netns_inode: inode,
            links: vec![Link { peer: Some(other(HOST, 10 + number)), ..link(2, "eth0", "veth", mtu) }],
            routes: vec![route("default", "eth0")],
            unreadable: 0,
            policy_rules: crate::facts::PolicyRules::None,
        });
    }
    all.insert(0, host);
    all
}

fn file(path: &str, plugins: &[(&str, Option<u32>)]) -> CniFile {
    let plugin = |&(kind, mtu_bytes): &(&str, Option<u32>)| CniPlugin {
        kind: kind.into(),
        mtu_bytes,
        bridge: ["flannel", "bridge"].contains(&kind).then(|| "cni0".into()),
    };
    CniFile {
        path: path.into(),
        modified: Some(NOW - 2 * DAY),
        content: Ok(CniNetwork { name: Some("n".into()), plugins: plugins.iter().map(plugin).collect() }),
    }
}

/// flannel with what it found out.
fn flannel(mtu: u32) -> CniConfig {
    CniConfig {
        folders: Vec::new(),
        files: vec![file("/etc/cni/net.d/10-flannel.conflist", &[("flannel", None), ("portmap", None)])],
        flannel: Some(MtuFile {
            path: "/run/flannel/subnet.env".into(),
            modified: Some(NOW - DAY),
            content: Ok(mtu),
        }),
        calico: None,
    }
}

/// Every pod was made three days ago, those named `…-new` an hour ago.
fn findings(config: &CniConfig, namespaces: &[Namespace]) -> Vec<Finding> {
    let made = |n: &Namespace| NOW - if n.subject.ends_with("-new") { 3600 } else { 3 * DAY };
    let pods = namespaces.iter().filter(|n| n.netns_inode != HOST && !n.subject.contains(':'));
    let created = pods.map(|n| (n.subject.clone(), Some(rfc3339(made(n))))).collect();
    let found = check_config(config, Reality { namespaces, host: HOST, created: &created, now: NOW });
    assert!(found.iter().all(|f| !f.evidence.is_empty() && !f.fix.is_empty()));
    assert!(found.iter().all(|f| RULES.iter().any(|r| r.id == f.id)));
    found
}

fn ids(config: &CniConfig, namespaces: &[Namespace]) -> Vec<&'static str> {
    findings(config, namespaces).iter().map(|f| f.id).collect()
}

#[test]
fn a_node_that_is_as_configured_has_no_finding() {
    assert_eq!(ids(&flannel(1450), &node(&[("default/a", 1450), ("default/b", 1450)])), [""; 0]);
    assert_eq!(ids(&CniConfig::default(), &node(&[("default/a", 1500)])), [""; 0], "no file, no claim");
    let mut silent = flannel(1450);
    silent.flannel = None;
    assert_eq!(ids(&silent, &node(&[("default/a", 1500)])), [""; 0], "no file states an MTU");
    let own = CniConfig {
        files: vec![file("/etc/cni/net.d/05-cilium.conflist", &[("cilium-cni", None)])],
        ..CniConfig::default()
    };
    assert_eq!(ids(&own, &node(&[("default/a", 1500)])), [""; 0], "the plugin's own default");
}

#[test]
fn pods_that_were_made_before_the_change_are_named_with_their_age_and_a_command() {
    let all = node(&[("default/a", 1500), ("default/b", 1450), ("shop/c", 1500), ("default/d", 1500)]);
    let found = findings(&flannel(1450), &all);
    assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), ["config.pods_larger"]);
    assert_eq!(found[0].subject, "host");
    assert_eq!(
        found[0].summary,
        "3 pods (default/a, 3 d old; shop/c, 3 d old; default/d, 3 d old): MTU 1500, new ones get 1450 (FLANNEL_MTU in /run/flannel/subnet.env); made before it was written, 24 h ago"
    );
    assert!(
        found[0].fix.starts_with("kubectl delete pod -n default a d; kubectl delete pod -n shop c ("),
        "{}",
        found[0].fix
    );
    assert!(
        found[0].evidence.iter().any(|e| e.what == "creation of shop/c" && e.value == rfc3339(NOW - 3 * DAY))
    );
}

#[test]
fn a_pod_that_is_younger_than_the_file_has_its_mtu_from_elsewhere() {
    let found = findings(&flannel(1450), &node(&[("default/a-new", 1500), ("default/b", 1450)]));
    assert_eq!(found[0].subject, "default/a-new");
    assert!(
        found[0].summary.ends_with("made after it was written, 24 h ago: something else gave them theirs")
    );
    let found = findings(&flannel(1450), &node(&[("default/a-new", 1500), ("default/b", 1500)]));
    assert!(found[0].summary.contains("1 of 2 made before it was written"), "{}", found[0].summary);
}

#[test]
fn smaller_pods_work_and_are_told_apart() {
    let found = findings(&flannel(1450), &node(&[("default/a", 1400), ("default/b", 1500)]));
    let told: Vec<_> = found.iter().map(|f| (f.id, f.severity)).collect();
    assert_eq!(told, [("config.pods_smaller", Severity::Info), ("config.pods_larger", Severity::Warning)]);
}

#[test]
fn a_pod_whose_routes_keep_packets_small_and_one_that_kubernetes_does_not_know_are_left_alone() {
    let mut all = node(&[("default/a", 1500), ("netns:/run/netns/x", 1500)]);
    all[1].routes[0].via = Some("10.244.1.1".parse().unwrap());
    all[1].routes[0].mtu_bytes = Some(1450);
    assert_eq!(ids(&flannel(1450), &all), [""; 0]);
}

#[test]
fn more_pods_than_a_command_names_are_counted() {
    let names: Vec<String> = (0..40).map(|n| format!("default/p{n}")).collect();
    let pods: Vec<(&str, u32)> = names.iter().map(|n| (n.as_str(), 1500)).collect();
    let found = findings(&flannel(1450), &node(&pods));
    assert!(found[0].summary.starts_with("40 pods (default/p0, 3 d old; "), "{}", found[0].summary);
    assert!(found[0].fix.contains("; and 20 more, which"), "{}", found[0].fix);
    assert!(found[0].evidence.len() <= 10);
}

#[test]
fn a_bridge_that_kept_its_mtu_is_told_with_the_command() {
    let mut all = node(&[("default/a", 1450)]);
    all[0].links[2].mtu_bytes = 1500;
    let found = findings(&flannel(1450), &all);
    assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), ["config.bridge_not_following"]);
    assert_eq!(found[0].fix, "ip link set dev cni0 mtu 1450");
    all[0].links[2].up = false;
    assert_eq!(ids(&flannel(1450), &all), [""; 0]);
}

#[test]
fn a_tunnel_smaller_than_what_pods_are_given_is_told_when_the_uplink_has_room() {
    let mut all = node(&[("default/a", 1450)]);
    all[0].links[1].mtu_bytes = 1400;
    let found = findings(&flannel(1450), &all);
    assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), ["config.tunnel_not_following"]);
    assert!(found[0].fix.contains("rollout restart"), "{}", found[0].fix);
    all[0].links[1].name = "other".into();
    all[0].routes[1].interface = Some("other".into());
    assert_eq!(ids(&flannel(1450), &all), [""; 0], "somebody else's tunnel");
}

#[test]
fn a_setting_above_what_the_node_carries_is_told_with_its_line_and_file() {
    let config = CniConfig {
        files: vec![file("/etc/cni/net.d/10-bridge.conflist", &[("bridge", Some(1500)), ("portmap", None)])],
        ..CniConfig::default()
    };
    let mut all = node(&[("default/a", 1500)]);
    all[0].links[2].mtu_bytes = 1500;
    let found = findings(&config, &all);
    assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), ["config.mtu_exceeds_path"]);
    assert_eq!(
        found[0].summary,
        "new pods get 1500 (mtu of the plugin bridge in /etc/cni/net.d/10-bridge.conflist), flannel.1 in eth0 carries 1500 − 50 = 1450: larger packets draw a PTB from this node, and hang where it is filtered"
    );
    assert!(
        found[0].fix.starts_with("set mtu of the plugin bridge in /etc/cni/net.d/10-bridge.conflist to 1450")
    );
    // A VPN of the node's owner leads to no pods, whatever it carries.
    all[0].routes[1].destination = "10.8.0.0/24".into();
    assert_eq!(ids(&config, &all), [""; 0]);
    // In the pods' own bridge it carries whatever they send, and nobody answers.
    all[0].links[1].master = Some("cni0".into());
    let bridged = findings(&config, &all);
    assert!(bridged[0].summary.ends_with("larger packets to other nodes vanish"), "{bridged:?}");
    // Without a tunnel the uplink decides.
    all[0].links[1].up = false;
    assert_eq!(ids(&config, &all), [""; 0]);
    all[0].links[0].mtu_bytes = 1460;
    assert_eq!(ids(&config, &all), ["config.mtu_exceeds_path"]);
}

#[test]
fn whose_mtu_counts_is_as_the_plugins_decide_it() {
    let given = |config: &CniConfig| new_pods(config).map(|n| (n.mtu_bytes, n.stated_by));
    let mut config = flannel(1450);
    assert_eq!(given(&config), Some((1450, "FLANNEL_MTU".into())));
    config.files[0] = file("/f", &[("flannel", Some(1400)), ("portmap", None)]);
    assert_eq!(given(&config), Some((1400, "mtu of the delegate of flannel".into())));
    config.files[0] = file("/f", &[("flannel", Some(1400)), ("tuning", Some(1300))]);
    assert_eq!(given(&config), Some((1300, "mtu of the plugin tuning".into())), "it comes last");
    config.files[0] = file("/f", &[("multus", None), ("flannel", None)]);
    assert_eq!(given(&config), Some((1450, "FLANNEL_MTU".into())));
    config.files[0] = file("/f", &[("loopback", None)]);
    assert_eq!(given(&config), None);
    config.calico = Some(MtuFile { path: "/var/lib/calico/mtu".into(), modified: None, content: Ok(1440) });
    config.files[0] = file("/f", &[("calico", None), ("bandwidth", None)]);
    assert_eq!(given(&config), Some((1440, "Calico's MTU".into())));
    config.files[0] = file("/f", &[("calico", Some(1430))]);
    assert_eq!(
        given(&config),
        Some((1430, "mtu of the plugin calico".into())),
        "its file is for when it says nothing"
    );
    config.files.insert(0, CniFile { content: Err("it is not JSON".into()), ..file("/a", &[]) });
    assert_eq!(given(&config), None, "what comes first cannot be read: nobody knows");
}

#[test]
fn a_setting_that_is_not_heard_is_told() {
    let mut config = flannel(1450);
    config.files.push(file("/etc/cni/net.d/20-old.conf", &[("bridge", Some(1500))]));
    let found = findings(&config, &node(&[("default/a", 1450)]));
    assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), ["config.stated_twice"]);
    assert!(
        found[0].summary.ends_with("in /etc/cni/net.d/20-old.conf says 1500 and is not heard"),
        "{}",
        found[0].summary
    );
    config.files[1] = file("/etc/cni/net.d/20-old.conf", &[("bridge", Some(1450))]);
    assert_eq!(ids(&config, &node(&[("default/a", 1450)])), [""; 0], "they agree");
    config.files[1] = file("/etc/cni/net.d/200-loopback.conf", &[("loopback", None)]);
    assert_eq!(ids(&config, &node(&[("default/a", 1450)])), [""; 0]);
    // The delegate's own setting hides what flannel found out.
    let mut config = flannel(1450);
    config.files[0] = file("/f", &[("flannel", Some(1400))]);
    assert_eq!(
        ids(&config, &node(&[("default/a", 1400)])),
        ["config.stated_twice", "config.bridge_not_following"]
    );
}

#[test]
fn a_first_file_that_is_invalid_stops_new_pods() {
    let mut config = flannel(1450);
    config.files.insert(
        0,
        CniFile { content: Err("it is not JSON: EOF".into()), ..file("/etc/cni/net.d/00-x.conf", &[]) },
    );
    let found = findings(&config, &node(&[("default/a", 1500)]));
    assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), ["config.cni_unreadable"]);
    assert!(
        found[0].fix.contains("(/etc/cni/net.d/10-flannel.conflist would be the next)"),
        "{}",
        found[0].fix
    );
    config.files.swap(0, 1);
    assert_eq!(ids(&config, &node(&[("default/a", 1450)])), [""; 0], "nobody reads so far");
    let mut config = flannel(1450);
    config.flannel.as_mut().unwrap().content = Err("it has no FLANNEL_MTU".into());
    assert_eq!(ids(&config, &node(&[("default/a", 1450)])), ["config.cni_unreadable"]);
    config.files[0] = file("/f", &[("calico", Some(1450))]);
    assert_eq!(ids(&config, &node(&[("default/a", 1450)])), [""; 0], "a file that nobody uses");
}

#[test]
fn where_configuration_tells_which_pods_are_wrong_what_follows_from_them_is_no_news() {
    let all = node(&[("default/a", 1500), ("default/b", 1450), ("default/c", 1500)]);
    let told = |findings: &[Finding]| findings.iter().map(|f| f.id).collect::<Vec<_>>();
    let mut both = crate::diagnose::links::check_links(&all, HOST);
    let alone = ["links.bridge_port_smaller", "links.pod_exceeds_tunnel", "links.mixed_pod_mtu"];
    assert_eq!(told(&both), alone);
    settle(&flannel(1450), &mut both);
    assert_eq!(told(&both), alone, "without a word from the configuration they stay");
    let fix = both[0].fix.as_str();
    assert!(
        fix.contains("new pods get 1450") && fix.ends_with("recreate those") && !fix.contains("ip link"),
        "{fix}"
    );
    both.extend(findings(&flannel(1450), &all));
    settle(&flannel(1450), &mut both);
    assert_eq!(told(&both), ["config.pods_larger"]);

    // The setting is too large itself: that pods exceed the tunnel is then not because they are old.
    let all = node(&[("default/a", 1600), ("default/b", 1500)]);
    let mut both = crate::diagnose::links::check_links(&all, HOST);
    both.extend(findings(&flannel(1500), &all));
    settle(&flannel(1500), &mut both);
    assert!(told(&both).contains(&"links.pod_exceeds_tunnel"), "{:?}", told(&both));
    assert!(told(&both).contains(&"config.mtu_exceeds_path"));
}
