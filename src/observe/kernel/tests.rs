//! Files as kernels write them, dumps as a kernel sent them.

use super::super::link::parse_link;
use super::super::wire::{DONE, Messages};
use super::files::{column, parse_softnet};
use super::tables::{parse_classifier, parse_forwarding, parse_neighbour, parse_remembered};
use super::*;
use crate::facts::{InterfaceSettings, NeighbourState, RememberedMtu};
use proptest::prelude::*;

macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/fixtures/netlink/", $name)).as_slice()
    };
}

/// One file of kernel 5.10 (with a column `searched` that newer ones lack) and one of 6.18.
const STAT: &str = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error\n\
    0000000c  00000000 00000001 00000000 0000000a 00000003 00000000 00000000 00000000 00000002 000000ff 00000001 00000000\n\
    0000000c  00000000 00000001 00000000 00000001 00000003 00000000 00000000 00000000 00000003 00000001 00000000 00000000\n";

#[test]
fn columns_are_found_by_name_and_added_over_processors() {
    assert_eq!(column(STAT, "drop"), Some((0x100, 0xff)));
    assert_eq!(column(STAT, "insert_failed"), Some((5, 2)));
    assert_eq!(column(STAT, "invalid"), Some((11, 10)));
    assert_eq!(column(STAT, "entries").unwrap().1, 12);
    assert_eq!(column(STAT, "searched"), None);
    assert_eq!(column("drop\nxyz\n", "drop"), None, "not a number is unknown, not zero");
    assert_eq!(column("entries drop\n00000001\n", "drop"), None, "a short line");
    assert_eq!(column("drop\n", "drop"), None, "no processor at all");
    assert_eq!(column("", "drop"), None);
}

#[test]
fn drops_of_every_processor_are_added() {
    assert_eq!(parse_softnet("00027fd9 0000000a 00000001\n0003123f 00000001 00000000\n"), Some(11));
    assert_eq!(parse_softnet("00027fd9\n"), None);
    assert_eq!(parse_softnet("1 g\n"), None);
}

#[test]
fn settings_of_an_interface_are_those_of_its_sysctls() {
    let mut netlink = Netlink::route().unwrap();
    let links = dump_links(&mut netlink, true).unwrap().items;
    assert!(!links.is_empty());
    for link in links {
        let value = |family: &str, what: &str| {
            files::number::<u8>(&format!("/proc/sys/net/{family}/conf/{}/{what}", link.name))
        };
        assert_eq!(link.settings.forwarding, value("ipv4", "forwarding").map(|v| v != 0), "{}", link.name);
        assert_eq!(link.settings.forwarding_v6, value("ipv6", "forwarding").map(|v| v != 0), "{}", link.name);
        assert_eq!(link.settings.rp_filter, value("ipv4", "rp_filter"), "{}", link.name);
        let silent = dump_links(&mut netlink, false).unwrap().items;
        assert!(silent.iter().all(|l| l.settings == InterfaceSettings::default()), "nobody asked");
    }
}

fn names() -> Names {
    Messages(recorded!("link.bin"))
        .filter_map(|m| parse_link(m.payload, false))
        .map(|l| (l.index, l.name))
        .collect()
}

fn parsed<T>(dump: &[u8], parse: impl Fn(&[u8]) -> Option<Vec<T>>) -> Vec<T> {
    Messages(dump).filter(|m| m.kind != DONE).flat_map(|m| parse(m.payload).expect("readable")).collect()
}

fn json(bytes: &[u8]) -> Vec<serde_json::Value> {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn neighbours_agree_with_ip() {
    let names = names();
    let ours: Vec<_> = parsed(recorded!("neigh.bin"), |m| parse_neighbour(m, &names))
        .into_iter()
        .inspect(|n| assert!(n.unchanged_s.is_some_and(|s| s < 1_000_000), "{n:?}"))
        .map(|n| (n.address.to_string(), n.interface, n.state))
        .collect();
    let theirs: Vec<_> = json(recorded!("ip-neigh.json"))
        .iter()
        .filter(|n| !n["state"].as_array().unwrap().iter().any(|s| s == "NOARP" || s == "NONE"))
        .map(|n| {
            let has = |state: &str| n["state"].as_array().unwrap().iter().any(|s| s == state);
            let state = match () {
                () if has("FAILED") => NeighbourState::Failed,
                () if has("INCOMPLETE") => NeighbourState::Incomplete,
                () if has("PERMANENT") => NeighbourState::Permanent,
                () => NeighbourState::Known,
            };
            let text = |key: &str| n[key].as_str().unwrap().to_owned();
            (text("dst"), text("dev"), state)
        })
        .collect();
    assert!(ours.len() > 5, "{ours:?}");
    assert_eq!(ours, theirs);
}

#[test]
fn neighbours_that_others_look_after_do_not_count() {
    const NTF_EXT_LEARNED: u8 = 0x10;
    let names = names();
    for message in Messages(recorded!("neigh.bin")).filter(|m| m.kind != DONE) {
        let counts = |payload: &[u8]| -> Vec<(NeighbourState, bool)> {
            let parsed = parse_neighbour(payload, &names).expect("readable");
            parsed.iter().map(|n| (n.state, n.uncounted)).collect()
        };
        let mut learned = message.payload.to_vec();
        learned[10] |= NTF_EXT_LEARNED;
        for (state, uncounted) in counts(message.payload) {
            assert_eq!(uncounted, state == NeighbourState::Permanent);
            assert_eq!(counts(&learned), [(state, true)]);
        }
    }
}

#[test]
fn a_bridge_says_whether_its_packets_meet_iptables() {
    let links = || Messages(recorded!("link.bin")).filter_map(|m| parse_link(m.payload, true));
    let of = |bridge| links().filter(move |l| (l.kind.as_deref() == Some("bridge")) == bridge);
    assert!(of(true).count() > 1);
    assert!(of(true).all(|l| (l.settings.filters, l.settings.filters_v6) == (Some(false), Some(false))));
    assert!(of(false).all(|l| (l.settings.filters, l.settings.filters_v6) == (None, None)));
    let apart = links().filter(|l| l.vlan_filtering).map(|l| l.name);
    assert_eq!(apart.collect::<Vec<_>>(), ["brv"], "as ip -d link says");
}

#[test]
fn forwarding_entries_of_vxlans_agree_with_bridge() {
    let names = names();
    let mut ours: Vec<_> = parsed(recorded!("neigh-fdb.bin"), |m| parse_forwarding(m, &names))
        .into_iter()
        .map(|e| {
            let mac = e.mac.map(|b| format!("{b:02x}")).join(":");
            (e.interface, mac, e.remote.unwrap().to_string())
        })
        .collect();
    let mut theirs: Vec<_> = json(recorded!("bridge-fdb.json"))
        .iter()
        .filter(|e| e["dst"].is_string())
        .map(|e| {
            let text = |key: &str| e[key].as_str().unwrap().to_owned();
            (text("ifname"), text("mac"), text("dst"))
        })
        .collect();
    ours.sort();
    theirs.sort();
    assert!(ours.len() > 2, "{ours:?}");
    assert_eq!(ours, theirs);
}

#[test]
fn path_mtus_of_real_ptbs_are_remembered_and_routes_are_not() {
    let mtu = |target: &str| RememberedMtu { target: target.parse().unwrap(), mtu_bytes: 1400 };
    let mut found = parsed(recorded!("route-v4-cloned.bin"), parse_remembered);
    found.sort_by_key(|r| r.target);
    // 198.51.100.3 is a left-over without a metric.
    assert_eq!(found, [mtu("198.51.100.2"), mtu("198.51.100.4")]);
    let mut found = parsed(recorded!("route-v6-cloned.bin"), parse_remembered);
    found.sort_by_key(|r| r.target);
    assert_eq!(found, [mtu("2001:db8:2::2"), mtu("2001:db8:2::3")]);
    assert_eq!(parsed(recorded!("route-v4.bin"), parse_remembered), []);
    assert_eq!(parsed(recorded!("route-v6.bin"), parse_remembered), []);
}

#[test]
fn only_the_disciplines_of_programs_count() {
    let names = Names::from([(7, "lxc1".to_owned())]);
    let message = |index: u32, kind: &[u8]| {
        let mut data = vec![0u8; 20];
        data[4..8].copy_from_slice(&index.to_ne_bytes());
        data.extend(u16::try_from(4 + kind.len()).unwrap().to_ne_bytes());
        data.extend(1u16.to_ne_bytes());
        data.extend(kind);
        data
    };
    assert_eq!(parse_classifier(&message(7, b"clsact\0"), &names), Some(vec!["lxc1".to_owned()]));
    assert_eq!(parse_classifier(&message(7, b"noqueue\0"), &names), Some(Vec::new()));
    assert_eq!(parse_classifier(&message(8, b"clsact\0"), &names), Some(Vec::new()));
    assert_eq!(parse_classifier(&[0; 20], &names), None);
}

proptest! {
    #[test]
    fn no_bytes_upset_the_parsers(data in proptest::collection::vec(any::<u8>(), 0..128)) {
        let names = Names::from([(0, "x".to_owned())]);
        let _ = parse_neighbour(&data, &names);
        let _ = parse_forwarding(&data, &names);
        let _ = parse_remembered(&data);
        let _ = parse_classifier(&data, &names);
        let text = String::from_utf8_lossy(&data);
        let _ = (column(&text, "drop"), parse_softnet(&text));
    }
}
