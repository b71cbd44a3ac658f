use super::*;
use crate::facts::{Bounds, Method, ProbeCounts, Reverse, Severity, Word};

fn facts() -> PathFacts {
    PathFacts {
        subject: "default/web-0".into(),
        target: "10.244.2.7".into(),
        address: "10.244.2.7".parse().unwrap(),
        route_mtu: 1500,
        advmss: None,
        interface: "eth0".into(),
        cached_before: None,
        cached_after: None,
        tcp_mtu_probing: Some(1),
        ip_no_pmtu_disc: Some(0),
        service_is_local: None,
        interface_state: None,
        silent_next_hop: None,
        other_methods: vec![],
        drops: Some(vec![]),
        burst: 7,
        asked_up_to: None,
        asked_from: None,
        hops_here: 1,
        port: None,
        above_route: None,
    }
}

fn path(verdict: Verdict, mtu: Option<u32>) -> PathResult {
    PathResult {
        method: Method::Icmp,
        verdict,
        path_mtu_bytes: mtu,
        signalled: false,
        narrowing: None,
        reverse: Reverse { verdict: ReverseVerdict::Unknown, limit_bytes: None },
        bounds: Bounds { passes_bytes: mtu, fails_bytes: mtu.map(|m| m + 1) },
        confidence: None,
        loss_ratio: None,
        rtt_us: None,
        probes: ProbeCounts::default(),
        elapsed_ms: 1.0,
        hops: vec![],
        notes: vec![],
    }
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|f| f.id).collect()
}

#[test]
fn a_clear_path_has_no_finding() {
    assert!(check_path(&facts(), &path(Verdict::Clear, Some(1500))).is_empty());
}

#[test]
fn what_max_left_out_is_said_and_raises_no_alarm() {
    let facts = PathFacts { asked_up_to: Some(1400), ..facts() };
    let findings = check_path(&facts, &path(Verdict::Clear, None));
    assert_eq!(ids(&findings), ["mtu.not_asked"]);
    assert_eq!(findings[0].severity, crate::facts::Severity::Info);
    assert_eq!(ids(&check_path(&facts, &path(Verdict::Narrowed, Some(1300)))), ["mtu.narrowed"]);
}

#[test]
fn a_black_hole_is_critical_and_shows_the_arithmetic() {
    let findings = check_path(&facts(), &path(Verdict::BlackHole, Some(1450)));
    assert_eq!(ids(&findings), ["mtu.black_hole", "mtu.left_node"]);
    assert!(findings[0].fix.contains("1500 − 50 (VXLAN or Geneve over IPv4) = 1450"), "{}", findings[0].fix);
}

#[test]
fn a_counter_that_took_the_whole_burst_names_the_interface() {
    let rise = |place: &str, by| Rise { place: place.into(), counter: "tx_dropped", source: "netlink", by };
    let noisy = PathFacts { drops: Some(vec![rise("host lo", 3), rise("host eth0", 7)]), ..facts() };
    let findings = check_path(&noisy, &path(Verdict::BlackHole, Some(1450)));
    assert_eq!(ids(&findings), ["mtu.black_hole", "mtu.dropped_on_node"]);
    assert!(findings[1].summary.contains("host eth0") && !findings[1].summary.contains("host lo"));
}

#[test]
fn packets_that_leave_in_fragments_are_no_drop() {
    let rise = Rise { place: "host".into(), counter: "IpFragOKs", source: "/proc/net/snmp", by: 14 };
    let cut = PathFacts { drops: Some(vec![rise]), ..facts() };
    let findings = check_path(&cut, &path(Verdict::BlackHole, Some(1450)));
    assert_eq!(ids(&findings), ["mtu.black_hole", "mtu.left_node"]);
    assert!(findings[1].summary.contains("in fragments"));
}

#[test]
fn a_cached_value_below_the_path_is_stale_and_above_it_is_only_told() {
    let cached = |mtu| PathFacts { cached_before: Some(Cached { mtu, forgets_in: 60 }), ..facts() };
    assert_eq!(ids(&check_path(&cached(1300), &path(Verdict::Clear, Some(1500)))), ["mtu.cache_stale"]);
    let told = check_path(&cached(1450), &path(Verdict::Narrowed, Some(1450)));
    assert_eq!(ids(&told), ["mtu.narrowed", "mtu.cached"]);
}

#[test]
fn the_command_that_forgets_a_path_mtu_is_that_of_the_family() {
    let cached = Some(Cached { mtu: 1300, forgets_in: 60 });
    let left = PathFacts { cached_after: cached, ..facts() };
    let stale = PathFacts { cached_before: cached, ..facts() };
    let known = PathFacts { cached_before: Some(Cached { mtu: 1500, forgets_in: 60 }), ..facts() };
    let clear = path(Verdict::Clear, Some(1500));
    for (facts, id) in [(left, "mtu.cache_left"), (stale, "mtu.cache_stale"), (known, "mtu.cached")] {
        let fix = |address: &str| {
            let facts = PathFacts { address: address.parse().unwrap(), ..facts.clone() };
            let found = check_path(&facts, &clear).swap_remove(0);
            assert_eq!(found.id, id);
            found.fix
        };
        let (four, six) = (fix("10.244.2.7"), fix("fd00::7"));
        assert!(four.contains("ip route flush cache") && !four.contains('6'), "{four}");
        assert!(six.contains("ip -6 route flush cache") && !six.contains("ip route"), "{six}");
        assert!(!six.contains("icmp[0]"), "{six}");
    }
}

#[test]
fn where_only_routers_speak_nothing_is_said_to_have_arrived() {
    let mut silent = path(Verdict::Narrowed, Some(1450));
    let said = |path: &PathResult| check_path(&facts(), path).swap_remove(0).evidence[1].what.clone();
    assert_eq!(said(&silent), "largest packet that arrived");
    silent.notes.push(PathNote::TargetSilent);
    assert_eq!(said(&silent), "largest packet that no router refused");
}

#[test]
fn a_path_that_carries_what_the_route_lets_out_is_clear_whatever_becomes_of_larger_packets() {
    let from = "10.99.1.1".parse().unwrap();
    let mut hole = path(Verdict::BlackHole, Some(1400));
    hole.notes = vec![
        PathNote::Loop { from, size: 1401 },
        PathNote::HeldHere { size: 1401 },
        PathNote::Refused { from, word: Word::Unreachable(13), size: 1401, passes: false, least: false },
    ];
    assert!(clear_for_route(&hole, 1401).is_none());
    assert!(clear_for_route(&path(Verdict::Clear, Some(1500)), 1300).is_none());
    assert!(clear_for_route(&path(Verdict::Inconclusive, None), 1300).is_none());
    for route_mtu in [1300, 1400] {
        let clear = clear_for_route(&hole, route_mtu).unwrap();
        assert_eq!((clear.verdict, clear.path_mtu_bytes), (Verdict::Clear, Some(1400)));
        assert_eq!(clear.bounds, hole.bounds);
        let facts = PathFacts { route_mtu, above_route: Some(hole.clone()), ..facts() };
        let found = check_path(&facts, &clear);
        assert_eq!(ids(&found), ["mtu.narrow_above_route"]);
        assert_eq!(found[0].severity, Severity::Info);
        assert!(found[0].summary.contains("1401 bytes and more to 10.244.2.7 never leave"), "{found:?}");
        assert!(found[0].summary.contains(&format!("lets out {route_mtu}")), "{found:?}");
        // Nor are flows that differ above it any harm.
        assert_eq!(
            check_flows(&facts, &clear, &[PathResult { path_mtu_bytes: Some(1500), ..clear.clone() }])[0].id,
            "mtu.flows_by_address"
        );
    }
    // Routers alone have not shown that anything arrives.
    let mut silent = path(Verdict::Narrowed, Some(1400));
    silent.notes.push(PathNote::TargetSilent);
    let unknown = clear_for_route(&silent, 1300).unwrap();
    assert_eq!((unknown.verdict, unknown.path_mtu_bytes), (Verdict::Inconclusive, None));
}

#[test]
fn flows_of_echo_requests_that_agree_may_all_have_gone_one_way() {
    let clear = path(Verdict::Clear, Some(1500));
    let found = check_flows(&facts(), &clear, &[clear.clone(), clear.clone()]);
    assert_eq!(ids(&found), ["mtu.flows_by_address"]);
    assert_eq!(found[0].severity, Severity::Info);
    assert!(found[0].summary.starts_with("3 flows"), "{found:?}");
    assert!(check_flows(&facts(), &clear, &[]).is_empty());
    let by_port = PathResult { method: Method::Tcp, ..clear.clone() };
    assert!(check_flows(&facts(), &by_port, std::slice::from_ref(&by_port)).is_empty());
}

#[test]
fn a_black_hole_says_whether_tcp_recovers_and_a_clear_path_does_not() {
    let off = PathFacts { tcp_mtu_probing: Some(0), ip_no_pmtu_disc: Some(1), ..facts() };
    let black = check_path(&off, &path(Verdict::BlackHole, Some(1450)));
    assert!(ids(&black).contains(&"mtu.no_recovery"), "{:?}", ids(&black));
    assert_eq!(ids(&check_path(&off, &path(Verdict::Clear, Some(1500)))), ["mtu.discovery_off"]);
}

#[test]
fn a_silent_service_address_is_no_fault_and_a_silent_pod_is() {
    let service = |local| PathFacts { service_is_local: Some(local), ..facts() };
    assert_eq!(ids(&check_path(&service(false), &path(Verdict::Unreachable, None))), ["mtu.service_silent"]);
    assert_eq!(
        ids(&check_path(&service(true), &path(Verdict::Inconclusive, None))),
        ["mtu.service_is_local"]
    );
    assert_eq!(ids(&check_path(&facts(), &path(Verdict::Unreachable, None))), ["mtu.unreachable"]);
}

#[test]
fn a_next_hop_that_does_not_answer_arp_is_the_root_of_silence() {
    let dead = PathFacts { silent_next_hop: Some("10.244.1.1".parse().unwrap()), ..facts() };
    let findings = check_path(&dead, &path(Verdict::Unreachable, None));
    assert_eq!(ids(&findings), ["mtu.next_hop_silent", "mtu.unreachable"]);
    assert!(check_path(&dead, &path(Verdict::Clear, Some(1500))).is_empty());
}

#[test]
fn a_refusal_and_the_silence_of_the_target_are_one_finding() {
    let from = "fd00:10:244:1::2".parse().unwrap();
    let mut refused = path(Verdict::Unreachable, None);
    refused.probes.sent = 17;
    refused.notes.push(PathNote::Refused {
        from,
        word: Word::Unreachable(3),
        size: 100,
        passes: false,
        least: true,
    });
    let findings = check_path(&facts(), &refused);
    assert_eq!(ids(&findings), ["mtu.unreachable"]);
    assert!(findings[0].summary.starts_with("fd00:10:244:1::2 says"), "{findings:?}");
    assert!(findings[0].summary.ends_with("address unreachable"), "{findings:?}");
    assert_eq!(findings[0].evidence.len(), 2, "{findings:?}");
    // Of a path that has another verdict it is told beside that.
    refused.verdict = Verdict::Inconclusive;
    assert_eq!(ids(&check_path(&facts(), &refused)), ["mtu.inconclusive", "mtu.unreachable"]);
}

#[test]
fn flows_that_differ_are_told_and_equal_ones_are_not() {
    let wide = path(Verdict::Clear, Some(1500));
    let narrow = path(Verdict::Narrowed, Some(1450));
    let found = check_flows(&facts(), &wide, &[narrow.clone(), wide.clone(), wide.clone()]).swap_remove(0);
    assert!(found.summary.starts_with("1 of 4 flows"), "{}", found.summary);
    let by_port = PathResult { method: Method::Udp, ..wide.clone() };
    assert!(check_flows(&facts(), &by_port, std::slice::from_ref(&by_port)).is_empty());
    // Where several ask at once some may be left without an answer: told, and no warning.
    for (first, second) in
        [(&narrow, Verdict::Unreachable), (&path(Verdict::Unreachable, None), Verdict::Clear)]
    {
        let second = path(second, (second == Verdict::Clear).then_some(1500));
        let found = check_flows(&facts(), first, &[second]).swap_remove(0);
        assert!(found.summary.starts_with("1 of 2 flows"), "{}", found.summary);
        assert_eq!((found.id, found.severity), ("mtu.flows_differ", Severity::Info));
    }
    let none = path(Verdict::Unreachable, None);
    assert!(check_flows(&facts(), &none, std::slice::from_ref(&none)).is_empty());
    // What was refused or goes round is told as that, beside the sizes of the others.
    let from = "10.0.0.2".parse().unwrap();
    let dead = |note| {
        let mut dead = path(Verdict::Unreachable, None);
        dead.notes.push(note);
        dead
    };
    let refused =
        dead(PathNote::Refused { from, word: Word::Unreachable(0), size: 84, passes: false, least: true });
    let looped = dead(PathNote::Loop { from, size: 84 });
    let found = check_flows(&facts(), &narrow, &[refused.clone(), refused, looped, none, wide]);
    let said: Vec<&str> = found.iter().map(|f| f.summary.as_str()).collect();
    let target = "flows to 10.244.2.7";
    assert_eq!(
        said,
        [
            &format!("1 of 2 {target} carry only 1450 bytes, others up to 1500"),
            &format!("2 of 6 {target} are refused by 10.0.0.2 (no route to it), others arrive"),
            &format!("1 of 6 {target} go round in a loop, others arrive"),
            &format!("1 of 6 {target} got no answer of any size, others did"),
        ]
    );
    assert_eq!(found[1].severity, Severity::Warning);
}

#[test]
fn a_narrow_way_back_is_told_apart() {
    let back = PathResult {
        reverse: Reverse { verdict: ReverseVerdict::BlackHole, limit_bytes: Some(1400) },
        ..path(Verdict::Clear, Some(1500))
    };
    assert_eq!(ids(&check_path(&facts(), &back)), ["mtu.reverse_black_hole"]);
}

#[test]
fn the_same_size_with_and_without_a_word_names_the_fault() {
    let pod = ("10.244.2.7", Verdict::Narrowed, Some(1450));
    let service = ("10.96.0.7", Verdict::BlackHole, Some(1450));
    assert_eq!(ids(&compare_paths("default/web-0", &[pod, service])), ["mtu.errors_not_relayed"]);
    assert!(compare_paths("default/web-0", &[pod, ("10.244.2.8", Verdict::Narrowed, Some(1450))]).is_empty());
    assert!(compare_paths("default/web-0", &[pod, ("10.0.0.9", Verdict::BlackHole, Some(1400))]).is_empty());
}

#[test]
fn that_no_counter_rose_does_not_say_that_they_left_the_node_but_a_hop_behind_it_does() {
    let hop = |ttl| crate::facts::Hop { ttl, address: None, small: true, large: true, target: false };
    let mut black = path(Verdict::BlackHole, Some(1450));
    // The first is the node itself.
    black.hops = vec![hop(1)];
    let told = check_path(&facts(), &black).swap_remove(1);
    assert!(told.summary.contains("not known") && told.fix.contains("nft list ruleset"), "{told:?}");
    black.hops.push(hop(2));
    let told = check_path(&facts(), &black).swap_remove(1);
    assert!(told.summary.contains("a hop behind it") && told.fix.contains("behind the uplink"), "{told:?}");
}

#[test]
fn what_the_kernel_of_the_source_refuses_is_named_and_no_counter_is_blamed() {
    let mut held = path(Verdict::BlackHole, Some(1400));
    held.notes = vec![PathNote::SendRefused, PathNote::HeldHere { size: 1401 }];
    let found = check_path(&facts(), &held);
    assert_eq!(ids(&found), ["mtu.black_hole", "mtu.refused_here"]);
    assert!(found[0].summary.contains("never leave, the kernel here"), "{}", found[0].summary);
    assert!(found[0].fix.contains("mtu.refused_here"), "no MTU has to be set: {}", found[0].fix);
    assert!(found[1].fix.contains("packet filter on output"), "{}", found[1].fix);
}

#[test]
fn of_sizes_that_were_not_asked_for_nothing_is_said() {
    let from = PathFacts { asked_from: Some(1450), ..facts() };
    let mut silent = path(Verdict::Unreachable, None);
    silent.probes.sent = 17;
    let told = check_path(&from, &silent).swap_remove(0).summary;
    assert!(told.ends_with("of 1450 bytes or more"), "{told}");
}

#[test]
fn a_port_that_does_not_answer_is_named() {
    let port = PathFacts { port: Some(8080), ..facts() };
    let mut silent = path(Verdict::Unreachable, None);
    silent.notes = vec![PathNote::PortSilent];
    let told = check_path(&port, &silent);
    assert_eq!(ids(&told), ["mtu.unreachable"]);
    assert!(told[0].summary.starts_with("port 8080 of 10.244.2.7 does not answer"), "{told:?}");
    // What an ICMP error says is no silence, and one flow of several that gets one is told so.
    silent.notes = vec![PathNote::PortUnreachable];
    let told = check_path(&port, &silent);
    assert!(told[0].summary.starts_with("port 8080 of 10.244.2.7 cannot be reached"), "{told:?}");
    let told = check_flows(&port, &path(Verdict::Clear, Some(1500)), &[silent]).swap_remove(0);
    assert!(told.summary.starts_with("1 of 2 flows to 10.244.2.7 cannot be reached"), "{told:?}");
    assert_eq!(told.severity, Severity::Warning);
}

#[test]
fn where_only_larger_packets_are_refused_the_smaller_ones_are_not_said_to_be() {
    let from = "10.99.1.1".parse().unwrap();
    let mut silent = path(Verdict::Unreachable, None);
    silent.probes.sent = 12;
    silent.notes.push(PathNote::Refused {
        from,
        word: Word::Unreachable(13),
        size: 1280,
        passes: false,
        least: false,
    });
    let said = "of 1280 bytes and more are refused by 10.99.1.1 (administratively prohibited), smaller ones draw no answer";
    assert_eq!(fate(&silent), said);
    let told = check_path(&facts(), &silent).swap_remove(0);
    assert_eq!(told.summary, format!("packets to 10.244.2.7 {said}"));
    let flows = check_flows(&facts(), &path(Verdict::Clear, Some(1500)), &[silent]);
    assert!(
        flows[0].summary.ends_with("1 of 2 flows to 10.244.2.7 got no answer of any size, others did"),
        "{flows:?}"
    );
}

#[test]
fn a_refusal_of_what_arrives_as_well_raises_no_alarm() {
    let from = "10.99.1.1".parse().unwrap();
    let mut clear = path(Verdict::Clear, Some(1500));
    clear.notes.push(PathNote::Refused {
        from,
        word: Word::Unreachable(13),
        size: 1450,
        passes: true,
        least: false,
    });
    let told = check_path(&facts(), &clear);
    assert_eq!(ids(&told), ["mtu.refused_at_times"]);
    assert_eq!(told[0].severity, Severity::Info);
    assert!(told[0].summary.contains("1450 bytes") && told[0].summary.contains("prohibited"), "{told:?}");
    // Where a router names the size, it has said more than who refuses what is larger.
    let mut narrowed = path(Verdict::Narrowed, Some(1400));
    narrowed.notes.push(PathNote::Refused {
        from,
        word: Word::Unreachable(13),
        size: 1450,
        passes: false,
        least: false,
    });
    assert_eq!(ids(&check_path(&facts(), &narrowed)), ["mtu.narrowed"]);
}

#[test]
fn who_refuses_large_packets_by_another_word_is_named_and_they_are_not_said_to_vanish() {
    let mut refused = path(Verdict::BlackHole, Some(1400));
    let note = |size, passes| PathNote::Refused {
        from: "10.99.1.1".parse().unwrap(),
        word: Word::Unreachable(13),
        size,
        passes,
        least: false,
    };
    refused.notes.push(note(1401, false));
    let found = check_path(&facts(), &refused);
    assert_eq!(ids(&found), ["mtu.black_hole", "mtu.refused_by_size"]);
    for finding in &found {
        let said = "packets of 1401 bytes and more to 10.244.2.7 are refused by 10.99.1.1 (administratively prohibited)";
        assert!(finding.summary.starts_with(said), "{}", finding.summary);
    }
    assert!(found[0].fix.contains("mtu.refused_by_size"), "no MTU has to be set: {}", found[0].fix);
    // Of what lies between nobody has said anything.
    refused.notes = vec![note(1450, false)];
    let found = check_path(&facts(), &refused);
    assert_eq!(ids(&found), ["mtu.black_hole", "mtu.refused_by_size", "mtu.left_node"]);
    let said = "1401 bytes and more to 10.244.2.7 are lost, those of 1450 and more are refused by 10.99.1.1";
    assert!(found[0].summary.contains(said), "{}", found[0].summary);
    assert!(found[1].summary.starts_with("packets of 1450 bytes"), "{}", found[1].summary);
    // Nor of what goes round only when it is larger.
    let mut black = path(Verdict::BlackHole, Some(1400));
    black.notes.push(PathNote::Loop { from: "10.99.1.1".parse().unwrap(), size: 1450 });
    assert_eq!(fate(&black), "are lost, those of 1450 and more go round in a loop");
    assert!(check_path(&facts(), &black).iter().any(|f| f.id == "mtu.black_hole" && f.fix.contains("loop")));
    black.notes = vec![PathNote::Refused {
        from: "10.99.1.1".parse().unwrap(),
        word: Word::Reset,
        size: 1401,
        passes: false,
        least: false,
    }];
    assert_eq!(fate(&black), "are refused by 10.99.1.1 (TCP reset)");
}

#[test]
fn words_that_are_no_destination_unreachable_are_named_as_what_they_are() {
    let cases = [
        (Word::ParameterProblem, "parameter problem"),
        (Word::NotReassembled, "time exceeded before its fragments were put together"),
    ];
    for (word, words) in cases {
        for from in ["10.99.1.1", "fd00::1"] {
            let from = from.parse().unwrap();
            let mut refused = path(Verdict::BlackHole, Some(1400));
            let note = PathNote::Refused { from, word, size: 1401, passes: false, least: false };
            refused.notes.push(note);
            assert_eq!(fate(&refused), format!("are refused by {from} ({words})"));
            let found = check_path(&facts(), &refused);
            assert_eq!(ids(&found), ["mtu.black_hole", "mtu.refused_by_size"]);
            assert_eq!(found[1].evidence[1].value, words);
            assert!(!format!("{found:?}").contains("destination unreachable ("), "{found:?}");
        }
    }
}

#[test]
fn a_loop_is_named_by_the_addresses_that_alternate() {
    let hop = |(ttl, address): (u8, &str)| {
        let address = address.parse().ok();
        crate::facts::Hop { ttl, address, small: true, large: true, target: false }
    };
    let mut looped = path(Verdict::Unreachable, None);
    looped.probes.sent = 20;
    looped.notes.push(PathNote::Loop { from: "10.0.0.2".parse().unwrap(), size: 84 });
    let told = check_path(&facts(), &looped);
    assert_eq!(ids(&told), ["mtu.routing_loop", "mtu.unreachable"]);
    assert!(told[0].summary.ends_with("run out of hops at 10.0.0.2"), "{told:?}");
    assert!(!told[1].summary.contains("nothing came back"), "{told:?}");
    // Who has said time exceeded too often says nothing here.
    looped.hops = [(1, "10.0.0.1"), (2, "*"), (3, "10.0.0.3"), (4, "*"), (5, "10.0.0.3")].map(hop).into();
    let told = check_path(&facts(), &looped).swap_remove(0);
    assert!(told.summary.ends_with("in a loop between 10.0.0.3 and 10.0.0.2"), "{told:?}");
    assert_eq!(told.evidence[1].value, "hop 3 10.0.0.3, hop 5 10.0.0.3");
}
