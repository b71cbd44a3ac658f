//! Captures on a real node: pods by name, every point of their way, names in the file. Needs root and scripts/setup.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use std::collections::BTreeMap;
use support::lab::Lab;
use support::{stderr, stdout};

#[test]
fn pods_are_captured_by_name_at_every_point_and_named_in_the_file() {
    let lab = Lab::up("--ipv6 off");
    lab.script(&["pod", "1", "web-1"]);
    let (web_0, web_1, db_0) = (lab.pod(1, "web-0"), lab.pod(1, "web-1"), lab.pod(2, "db-0"));
    let ip = |pod: &serde_json::Value| pod["ips"][0].as_str().unwrap().to_owned();
    let (a, b, c) = (ip(&web_0), ip(&web_1), ip(&db_0));
    let script = format!(
        "nsprobe exec web-0 -- ping -q -c 1 {c} > /dev/null; nsprobe exec web-1 -- ping -q -c 1 {c} > /dev/null
         nsprobe capture web-0 web-1 --point all --host {c} --icmp-errors -w /tmp/way.pcapng --duration 3s -q &
         while ! test -s /tmp/way.pcapng; do sleep 0.05; done
         nsprobe exec web-0 -- ping -q -c 3 -i 0.05 {c} > /dev/null
         nsprobe exec web-1 -- ping -q -c 2 -i 0.05 {c} > /dev/null
         nsprobe exec web-0 -- ping -q -c 1 -W 1 -M do -s 1472 {c} > /dev/null
         wait $!"
    );
    let recorded = lab.exec(1, &["bash", "-c", &script]);
    assert_eq!(recorded.status.code(), Some(0), "{}", stderr(&recorded));
    // The second time without -n: names come from the file alone.
    let read = |words: &str| {
        let words = format!(
            "tshark {words} -d udp.port==8472,vxlan -T fields -r /tmp/way.pcapng -e frame.interface_description -e frame.comment -e ip.src_host -Y icmp"
        );
        let output = lab.exec(1, &["sh", "-c", &words]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = read("-N n");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &lines {
        *counts.entry(line.split('\t').next().unwrap()).or_default() += 1;
    }
    let veths: Vec<_> = counts.iter().filter(|(point, _)| point.starts_with("veth")).collect();
    let of = |pod: &str| veths.iter().find(|(p, _)| p.ends_with(&format!("(peer of {pod} eth0)"))).unwrap().1;
    // The large packet and the answer that it does not fit end at the bridge.
    assert_eq!((counts["default/web-0 eth0"], counts["default/web-1 eth0"]), (8, 4), "{lines:#?}");
    assert_eq!((*of("default/web-0"), *of("default/web-1")), (8, 4), "{lines:#?}");
    assert_eq!(
        (counts["bridge cni0"], counts["tunnel flannel.1"], counts["uplink eth0"]),
        (12, 10, 10),
        "{lines:#?}"
    );
    assert!(lines[0].starts_with("default/web-0 eth0\t\tdefault/web-0"), "{lines:#?}");
    assert!(lines.iter().any(|l| l.starts_with("uplink") && l.ends_with(",default/web-1")), "{lines:#?}");
    let comment = format!("says that a packet to {c} was too big: 1450 bytes fit, it had 1500");
    assert_eq!(lines.iter().filter(|l| l.contains(&comment)).count(), 3, "{lines:#?}");
    assert!(read("-n").iter().all(|l| !l.contains("\tdefault/web")), "numbers stay to be had");

    // A pod's name as a filter, on the node itself; what another pod sends is left out.
    let script = format!(
        "nsprobe capture web-1 --point uplink --host pod:default/web-1 -v --duration 2s -c 2 &
         sleep 0.7; nsprobe exec web-0 -- ping -q -c 1 {c} > /dev/null; nsprobe exec web-1 -- ping -q -c 1 {c} > /dev/null
         wait $!"
    );
    let live = lab.exec(1, &["bash", "-c", &script]);
    let lines = stdout(&live);
    assert_eq!(lines.lines().count(), 2, "{lines}{}", stderr(&live));
    assert!(
        lines.lines().all(|l| l.contains("VXLAN vni 1: IP ") && l.contains(&b) && !l.contains(&a)),
        "{lines}"
    );
    assert!(stderr(&live).contains(&format!("filter: host {b}")), "{}", stderr(&live));

    let (code, elsewhere) = lab.nsprobe(1, &["capture", "web-0", "--host", "pod:db-0"]);
    assert_eq!(code, Some(3));
    assert!(elsewhere["hint"].as_str().unwrap().contains("give its IP"), "{elsewhere:#}");
}
