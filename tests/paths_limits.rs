//! Targets that answer a few times a second, on a virtual path.

#![allow(clippy::unwrap_used, reason = "a test fails loudly; clippy sees only #[test] functions as tests")]

mod support;

use nsprobe::facts::Verdict;
use nsprobe::probe::search::{Answer, AnswerLimit, Plan, Search};
use proptest::prelude::*;
use std::time::Duration;
use support::virtual_path::{Ptb, any_hop, hop, path, timed, truth};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Firewalls let some echo requests a second through (iptables' limit), whatever their size: those that are used up
    /// when a large one comes are no sign of its size.
    #[test]
    fn few_answers_are_never_taken_for_a_narrow_path(
        hops in prop::collection::vec(any_hop(), 0..4), burst in 1u32..6, rate in 1.0f64..60.0,
        rtt in 0.1f64..40.0, errors in any::<bool>(), seed in any::<u64>(), loss in 0.0f64..0.05,
        timestamps in any::<bool>(), all in any::<bool>()
    ) {
        let mut scenario = path(hops, loss, rtt);
        scenario.target.limit = Some((f64::from(burst), rate));
        (scenario.target.timestamps, scenario.target.limits_timestamps) = (Some(timestamps), all);
        (scenario.target.unknown_protocol, scenario.target.no_port) = (errors, errors);
        let (result, _) = scenario.play(seed);
        let (_, mtu) = truth(&scenario.hop);
        if let (Some(found), Some(0.9999..)) = (result.path_mtu_bytes, result.confidence) {
            prop_assert_eq!(found, mtu, "{:?}", result);
        }
    }
}

/// Six answers or fewer at once, and one to sixty a second: most are measured within the deadline.
#[test]
fn targets_with_few_answers_are_measured_as_a_rule() {
    let mut chance = support::virtual_path::Chance(12345);
    let (mut settled, mut wrong) = (0, Vec::new());
    for seed in 0..600u32 {
        let mut draw = || chance.draw();
        let ptb = if draw() < 0.6 { Ptb::Silent } else { Ptb::Honest };
        let mtu = if draw() < 0.2 { 1500 } else { 300 + seed * 2 };
        let mut scenario = path(vec![hop(1500, Ptb::Honest), hop(mtu, ptb)], 0.0, 0.1 + draw() * 40.0);
        scenario.target.limit = Some(((1.0 + draw() * 6.0).floor(), 1.0 + draw() * 60.0));
        scenario.target.unknown_protocol = draw() < 0.5;
        scenario.target.no_port = scenario.target.unknown_protocol;
        (scenario.target.timestamps, scenario.target.limits_timestamps) = (Some(draw() < 0.5), draw() < 0.5);
        let (found, _) = scenario.play(seed.into());
        settled += u32::from(found.path_mtu_bytes.is_some());
        wrong.extend(found.path_mtu_bytes.filter(|found| *found != mtu).map(|found| (scenario, found)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(settled >= 580, "{settled} of 600");
}

/// Six answers, then one a second, as Linux limits errors: a flight costs one of them, so that most are found by those.
#[test]
fn where_answers_are_few_a_search_costs_few_of_them() {
    for (rtt, longest_ms) in [(0.1, 60.0), (5.0, 1100.0), (50.0, 3300.0)] {
        let mut slow = Vec::new();
        for mtu in 600..1500 {
            let hops = vec![hop(1500, Ptb::Honest), hop(mtu, Ptb::Silent), hop(1500, Ptb::Honest)];
            let mut scenario = path(hops, 0.0, rtt);
            scenario.target.limit = Some((6.0, 1.0));
            let answers = Some(AnswerLimit::ICMP_ERRORS);
            let plan = Plan { locate: false, scouts: false, answers, ..scenario.plan() };
            let (result, sent) = scenario.play_plan(3, plan);
            assert_eq!((result.verdict, result.path_mtu_bytes), (Verdict::BlackHole, Some(mtu)));
            if result.elapsed_ms > longest_ms {
                slow.push(format!("{mtu}, {rtt} ms: {:.1} ms, {} probes", result.elapsed_ms, sent.len()));
            }
        }
        assert!(slow.is_empty(), "{} of 900 at {rtt} ms:\n{}", slow.len(), slow.join("\n"));
    }
}

/// iptables' `--limit 10/s --limit-burst 1`, at any phase of its clock.
#[test]
fn ten_answers_a_second_are_enough_for_a_black_hole() {
    for seed in 1..=40u32 {
        let mut scenario = path(vec![hop(1391, Ptb::Silent)], 0.0, 3.0 + f64::from(seed) / 10.0);
        scenario.target.limit = Some((1.0, 10.0));
        (scenario.target.unknown_protocol, scenario.target.no_port) = (false, false);
        scenario.target.timestamps = Some(false);
        let (found, sent) = scenario.play(seed.into());
        assert_eq!((found.verdict, found.path_mtu_bytes), (Verdict::BlackHole, Some(1391)), "{found:?}");
        assert!(sent.len() <= 200, "{}", sent.len());
    }
}

/// A limit is one on echo requests as a rule: timestamp requests are answered all the same.
#[test]
fn where_few_echo_requests_are_answered_timestamp_requests_find_the_path_in_a_few_round_trips() {
    let mut slow = Vec::new();
    for (mtu, burst) in (300..1500).flat_map(|mtu| [(mtu, 1.0), (mtu, 2.0), (mtu, 5.0)]) {
        let mut scenario = path(vec![hop(1500, Ptb::Honest), hop(mtu, Ptb::Silent)], 0.0, 1.0);
        scenario.target.limit = Some((burst, 1.0));
        let (found, sent) = scenario.play(7);
        assert_eq!(
            (found.verdict, found.path_mtu_bytes),
            (Verdict::BlackHole, Some(mtu)),
            "{burst}: {found:?}"
        );
        let (took, packets) = (found.elapsed_ms, sent.len());
        if took > 50.0 || packets > 170 {
            slow.push(format!("{mtu}, {burst}: {took:.1} ms, {packets} packets"));
        }
    }
    assert!(slow.is_empty(), "{}: {}", slow.len(), slow.join("\n"));
}

/// What leaves in the first milliseconds, but the very first packet, is held up for as long: its answers were given up when
/// they come. No limit is behind that.
#[test]
fn answers_that_are_late_are_not_few() {
    for stall in [10, 15, 25, 40, 60, 150] {
        let stall = Duration::from_millis(stall);
        let result = timed(Search::new(Plan::new(84, 1500, 68)), |sent, now, probe| {
            let held = if sent == 0 { Duration::ZERO } else { stall.saturating_sub(now) };
            let passes = (probe.size <= 1400).then(|| Answer::reply(Some(64)));
            passes.map(|answer| (held + Duration::from_micros(300), answer)).into_iter().collect()
        });
        assert_eq!((result.verdict, result.path_mtu_bytes), (Verdict::BlackHole, Some(1400)), "{result:?}");
        assert!(result.elapsed_ms < 2000.0, "{stall:?}: {result:?}");
    }
}
