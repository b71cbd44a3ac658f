//! Rules on counters, and on what explains a symptom.

use super::*;

#[test]
fn losses_that_rise_are_warnings_and_others_are_told_without_alarm() {
    for (id, name) in [
        ("net.checksum_errors", "UdpInCsumErrors"),
        ("net.fragments_lost", "IpReasmFails"),
        ("net.fragments_lost", "Ip6ReasmFails"),
        ("net.udp_overflow", "UdpRcvbufErrors"),
        ("net.listen_overflow", "TcpExtListenOverflows"),
        ("net.reverse_path_drops", "TcpExtIPReversePathFilter"),
    ] {
        let found = only(id, |_, now| counter(now, name, 7));
        assert!(found.summary.contains('7') && found.severity == Severity::Warning, "{found:?}");
        let (namespace, mut now) = node();
        counter(&mut now, name, 7);
        for before in [None, Some(&now)] {
            let found = look(&namespace, before, &now, Role::Node).findings;
            assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), ["net.counted_before"], "{name}");
            assert_eq!(found[0].severity, Severity::Info);
        }
    }
    // A counter that fell was reset.
    let (namespace, now) = node();
    let mut before = now.clone();
    counter(&mut before, "UdpInCsumErrors", 7);
    assert_eq!(look(&namespace, Some(&before), &now, Role::Node).findings, []);
}

#[test]
fn a_strict_filter_is_named_with_its_interface() {
    let found = only("net.reverse_path_drops", |_, now| {
        counter(now, "TcpExtIPReversePathFilter", 2);
        now.settings.interfaces.get_mut("eth0").unwrap().rp_filter = Some(1);
    });
    assert!(found.fix.contains("conf.eth0.rp_filter=2"), "{found:?}");
    assert_eq!(found.evidence.len(), 2);
}

#[test]
fn wrong_checksums_are_told_beside_the_tunnels_offload() {
    let found = only("net.checksum_errors", |_, now| counter(now, "UdpInCsumErrors", 2));
    assert!(found.evidence.iter().any(|e| e.what.contains("offload of flannel.1")), "{found:?}");
}

#[test]
fn drops_of_a_link_count_while_it_is_watched() {
    let with = |of: &'static str, change: fn(&mut Counters)| {
        move |_: &mut Namespace, now: &mut KernelState| {
            change(now.counters.links.as_mut().unwrap().get_mut(of).unwrap());
        }
    };
    let found = only("net.interface_drops", with("eth0", |c| c.tx_dropped = 4));
    assert!(found.summary.contains("eth0"), "{found:?}");
    only("net.interface_drops", with("flannel.1", |c| c.tx_errors = 1));
    only("net.interface_drops", with("eth0", |c| c.rx_errors = 1));
    // A VXLAN's own multicast has nowhere to go; LLDP counts as received and dropped.
    silent(with("flannel.1", |c| c.tx_dropped = 4));
    silent(with("eth0", |c| c.rx_dropped = 4));
    // A netkit counts what a policy denies.
    silent(|namespace, now| {
        namespace.links[0].kind = Some("netkit".into());
        with("eth0", |c| c.tx_dropped = 4)(namespace, now);
    });
    silent(|_, now| {
        let lost = Counters { tx_dropped: 9, ..Counters::default() };
        now.counters.links.as_mut().unwrap().insert("new".into(), lost);
    });
}

#[test]
fn what_a_link_lost_before_is_told_without_alarm() {
    let (namespace, mut now) = node();
    now.counters.links.as_mut().unwrap().get_mut("eth0").unwrap().rx_errors = 4;
    for before in [None, Some(&now)] {
        let found = look(&namespace, before, &now, Role::Node).findings;
        assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), ["net.counted_before"]);
        assert_eq!(found[0].evidence[0].what, "rx_errors of eth0");
    }
}

#[test]
fn a_full_backlog_is_the_nodes() {
    let (namespace, before) = node();
    let mut now = before.clone();
    now.counters.softnet_dropped = Ok(5);
    let ids =
        |role| look(&namespace, Some(&before), &now, role).findings.iter().map(|f| f.id).collect::<Vec<_>>();
    assert_eq!(ids(Role::Node), ["node.backlog_dropped", "net.counted_before"]);
    assert_eq!(ids(Role::Pod), [""; 0]);
}

#[test]
fn what_explains_a_symptom_is_information() {
    for (id, spoil) in [
        ("net.echo_ignored", ("net.ipv4.icmp_echo_ignore_all", 1)),
        ("net.echo_ignored", ("net.ipv6.icmp.echo_ignore_all", 1)),
        ("net.forward_uses_pmtu", ("net.ipv4.ip_forward_use_pmtu", 1)),
    ] {
        let found = only(id, |_, now| {
            now.settings.values.insert(spoil.0, spoil.1);
        });
        assert_eq!(found.severity, Severity::Info, "{id}");
    }
    let probing = |mode| {
        move |_: &mut Namespace, now: &mut KernelState| {
            now.settings.values.insert("net.ipv4.tcp_mtu_probing", mode);
            counter(now, "TcpExtTCPMTUPSuccess", 3);
        }
    };
    only("net.tcp_found_black_hole", probing(1));
    // Switched to always it probes on good paths too.
    silent(probing(2));
}
