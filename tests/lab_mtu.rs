//! What large packets with DF meet between pods of two real nodes: the verdict of every set-up, and whether
//! the packet left the node.

mod support;
use support::lab::Lab;

/// (case of the lab, verdict over IPv4, path MTU, over IPv6, path MTU, finding that names the place)
type Row = (&'static str, &'static str, u64, &'static str, u64, Option<&'static str>);

const ROWS: &[Row] = &[
    ("routed-ptb", "narrowed", 1450, "narrowed", 1450, None),
    // IPv6 routers do not fragment: the VXLAN says packet too big.
    ("routed-fragments", "clear", 1500, "narrowed", 1450, None),
    ("fragments-dropped", "black_hole", 1450, "narrowed", 1450, Some("mtu.left_node")),
    ("vxlan-df", "black_hole", 1450, "narrowed", 1450, Some("mtu.dropped_on_node")),
    // A veth lets a VLAN tag's four bytes more through than its MTU of 1400.
    ("underlay-narrow", "black_hole", 1354, "black_hole", 1354, Some("mtu.dropped_on_node")),
    ("l2-silent", "black_hole", 1450, "black_hole", 1450, Some("mtu.dropped_on_node")),
    ("l2-ptb-from-target", "narrowed", 1450, "narrowed", 1450, None),
];

#[test]
fn every_row_of_the_lab_gets_its_verdict_from_a_pod_name() {
    let mut wrong = Vec::new();
    for (case, v4, mtu4, v6, mtu6, place) in ROWS {
        let lab = Lab::up(&format!("--case {case}"));
        let target = lab.pod(2, "db-0");
        for (at, verdict, mtu) in [(0, v4, mtu4), (1, v6, mtu6)] {
            let address = target["ips"][at].as_str().unwrap();
            let (code, document) = lab.nsprobe(1, &["mtu", "web-0", address]);
            let seen = (document["verdict"].as_str(), document["path_mtu_bytes"].as_u64());
            let expected_code = if *verdict == "clear" { 0 } else { 1 };
            if seen != (Some(*verdict), Some(*mtu)) || code != Some(expected_code) {
                wrong.push(format!("{case} to {address}: {seen:?}, exit {code:?}\n{document:#}"));
            }
            if document["source"]["pod"] != "default/web-0" {
                wrong.push(format!("{case}: source {}", document["source"]));
            }
            let elapsed = document["elapsed_ms"].as_f64().unwrap();
            if elapsed > 3000.0 {
                wrong.push(format!("{case} to {address}: {elapsed} ms"));
            }
            let findings = document["findings"].as_array().unwrap();
            if let (0, Some(id)) = (at, place)
                && !findings.iter().any(|f| f["id"] == *id)
            {
                wrong.push(format!("{case}: no {id}\n{document:#}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A policy that lets neither echo nor packet-too-big through: the kernel of the pod says that it does not know a
/// protocol, and no port has to be named.
#[test]
fn a_black_hole_where_echo_is_filtered_is_measured_by_the_pods_errors() {
    let lab = Lab::up("--case underlay-narrow --drop echo,ptb");
    let target = lab.pod(2, "db-0");
    for at in [0, 1] {
        let address = target["ips"][at].as_str().unwrap();
        let (code, document) = lab.nsprobe(1, &["mtu", "web-0", address]);
        let seen = (document["verdict"].as_str(), document["path_mtu_bytes"].as_u64(), code);
        assert_eq!(seen, (Some("black_hole"), Some(1354), Some(1)), "{document:#}");
        let findings: Vec<_> =
            document["findings"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap()).collect();
        assert!(findings.contains(&"mtu.echo_filtered"), "{findings:?}");
        assert!(findings.contains(&"mtu.dropped_on_node"), "{findings:?}");
        assert_eq!(document["reverse"]["verdict"], "unknown");
    }
}
