//! Every scenario of `tests/paths/` on a virtual path, and properties over paths that nobody wrote down.

#![allow(clippy::unwrap_used, reason = "a test fails loudly; clippy sees only #[test] functions as tests")]

mod support;

use nsprobe::facts::{PathResult, Verdict, Word};
use nsprobe::probe::search::{Answer, Event, Plan, Search, Step};
use proptest::prelude::*;
use std::time::Duration;
use support::virtual_path::{
    HopSpec, Ptb, Scenario, any_hop, hop, path, scenarios, timed, truth, verdict_name,
};

#[test]
fn every_scenario_gets_its_verdict() {
    let scenarios = scenarios();
    assert!(scenarios.len() >= 75, "{} scenarios", scenarios.len());
    let mut wrong = Vec::new();
    for (name, scenario) in scenarios {
        for seed in 1..=20 {
            let (result, sent) = scenario.play(seed);
            let expect = &scenario.expect;
            let mut say = |what: String| wrong.push(format!("{name} (seed {seed}): {what}\n  {result:?}"));
            if verdict_name(result.verdict) != expect.verdict {
                say(format!("verdict {} instead of {}", verdict_name(result.verdict), expect.verdict));
            }
            if result.path_mtu_bytes != expect.path_mtu {
                say(format!("path MTU {:?} instead of {:?}", result.path_mtu_bytes, expect.path_mtu));
            }
            if expect.signalled.is_some_and(|s| s != result.signalled) {
                say(format!("signalled {}", result.signalled));
            }
            let ttl = result.narrowing.as_ref().and_then(|n| n.ttl);
            if expect.narrowing_ttl.is_some() && ttl != expect.narrowing_ttl {
                say(format!("narrows at {ttl:?} instead of {:?}", expect.narrowing_ttl));
            }
            let reporter = result.narrowing.as_ref().and_then(|n| n.reporter);
            if expect.reporter.is_some() && reporter != expect.reporter {
                say(format!("{reporter:?} says so instead of {:?}", expect.reporter));
            }
            let reported = result.narrowing.as_ref().and_then(|n| n.reported_mtu_bytes);
            if expect.reported.is_some() && reported != expect.reported {
                say(format!("{reported:?} is named instead of {:?}", expect.reported));
            }
            let bound = expect.max_probes.unwrap_or(300);
            if sent.len() > bound as usize {
                say(format!("{} probes, bound {bound}", sent.len()));
            }
            if expect.max_ms.is_some_and(|ms| result.elapsed_ms > ms) {
                say(format!("{} ms", result.elapsed_ms));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn without_loss_the_verdict_is_the_truth(
        hops in prop::collection::vec(any_hop(), 0..5), rtt in 0.1f64..80.0, seed in any::<u64>()
    ) {
        let scenario = path(hops, 0.0, rtt);
        let (result, sent) = scenario.play(seed);
        let (verdict, mtu) = truth(&scenario.hop);
        prop_assert_eq!(result.verdict, verdict, "{:?}", result);
        prop_assert_eq!(result.path_mtu_bytes, Some(mtu), "{:?}", result);
        prop_assert!(sent.len() <= 130, "{} probes", sent.len());
        let bytes: u32 = sent.iter().map(|p| p.size).sum();
        prop_assert!(bytes <= 300_000);
    }

    #[test]
    fn with_loss_it_is_never_wrong_with_confidence(
        hops in prop::collection::vec(any_hop(), 0..4), loss in 0.0f64..0.2, seed in any::<u64>()
    ) {
        let scenario = path(hops, loss, 1.0);
        let (result, sent) = scenario.play(seed);
        let (verdict, mtu) = truth(&scenario.hop);
        prop_assert!(sent.len() <= 300);
        if let (Some(found), Some(confidence)) = (result.path_mtu_bytes, result.confidence)
            && confidence > 0.9999
        {
            prop_assert_eq!(found, mtu, "{:?}", result);
            // A lost PTB can make a narrowing look silent, never the other way round.
            prop_assert!(result.verdict == verdict || result.verdict == Verdict::BlackHole);
        }
    }
}

#[test]
fn at_twenty_percent_loss_ninety_nine_of_a_hundred_are_right() {
    for silent in [false, true] {
        let ptb = if silent { Ptb::Silent } else { Ptb::Honest };
        let scenario = path(vec![hop(1500, Ptb::Honest), hop(1450, ptb), hop(1500, Ptb::Honest)], 0.2, 1.0);
        let right = (1..=1000)
            .filter(|seed| {
                let (result, _) = scenario.play(*seed);
                (result.verdict, result.path_mtu_bytes) == (truth(&scenario.hop).0, Some(1450))
            })
            .count();
        assert!(right >= 990, "{right} of 1000 right (silent: {silent})");
    }
}

#[test]
fn a_clear_path_costs_one_flight() {
    let (result, sent) = path(vec![], 0.0, 0.1).play(1);
    assert_eq!(result.verdict, Verdict::Clear);
    assert!(sent.len() <= 12, "{}", sent.len());
    assert!(result.elapsed_ms < 0.5, "{}", result.elapsed_ms);
}

/// On a path of 50 ms that answers echo, what somebody says of the early scout: nothing of it is left in the result.
#[test]
fn what_is_said_of_an_early_scout_does_not_count_where_echo_is_answered() {
    let ms = Duration::from_millis;
    let reply = Answer::reply(Some(62));
    let firewall = support::virtual_path::router(1);
    for (answer, at) in [
        (Answer::Refused { from: firewall, word: Word::Unreachable(13) }, ms(5)),
        (Answer::Refused { from: firewall, word: Word::Unreachable(13) }, ms(55)),
        (reply, ms(49)),
        (reply, ms(55)),
    ] {
        let mut search = Search::new(path(vec![], 0.0, 50.0).plan());
        let (mut now, mut waiting) = (Duration::ZERO, Vec::new());
        loop {
            waiting.sort_by_key(|(at, _)| *at);
            match search.poll(now) {
                Step::Done => break,
                Step::Send(probe) => waiting.push((now + ms(50), Event { id: probe.id, answer: reply })),
                Step::Scout(probe, _) => waiting.push((at, Event { id: probe.id, answer })),
                Step::Wait(until) => {
                    now = waiting.first().map_or(until, |(at, _)| until.min(*at));
                    while waiting.first().is_some_and(|(at, _)| *at <= now) {
                        search.on_event(waiting.remove(0).1, now);
                    }
                }
            }
        }
        let found = search.result();
        assert_eq!((found.verdict, found.path_mtu_bytes), (Verdict::Clear, Some(1500)), "{answer:?} {at:?}");
        assert_eq!(found.notes, [], "{answer:?} {at:?}");
        assert!(found.elapsed_ms < 53.0, "{answer:?} {at:?}: {} ms", found.elapsed_ms);
    }
}

/// What a router names is confirmed by scouts of its own, however far away the target is that answers no echo.
#[test]
fn a_named_size_is_confirmed_behind_filtered_echo_at_any_distance() {
    let hop = |mtu| hop(mtu, Ptb::Honest);
    for rtt in [0.1, 1.0, 10.0, 50.0, 150.0] {
        let mut scenario = path(vec![hop(1500), hop(1450), hop(1500)], 0.0, rtt);
        scenario.target.echo = false;
        for seed in 1..=20 {
            let (found, _) = scenario.play(seed);
            assert_eq!((found.verdict, found.path_mtu_bytes), (Verdict::Narrowed, Some(1450)), "{rtt} ms");
            assert!(
                !found.notes.contains(&nsprobe::facts::PathNote::TargetSilent),
                "{rtt} ms: {:?}",
                found.notes
            );
            // Where the target is was not asked: there is no silent hop in its place.
            let silent = found.hops.iter().filter(|hop| hop.address.is_none() && !hop.target).count();
            assert_eq!(silent, 0, "{rtt} ms: {:?}", found.hops);
        }
    }
}

/// A search that is told of nothing until `answers_at`, then of a reply to everything that was sent.
fn starved(plan: Plan, answers_at: Duration) -> PathResult {
    let mut search = Search::new(plan);
    let mut now = Duration::ZERO;
    let mut sent = Vec::new();
    loop {
        match search.poll(now) {
            Step::Done => return search.result(),
            Step::Send(probe) | Step::Scout(probe, _) => sent.push(probe.id),
            Step::Wait(until) if now < answers_at && until >= answers_at => {
                now = answers_at;
                let answer = Answer::reply(Some(64));
                sent.drain(..).for_each(|id| search.on_event(Event { id, answer }, now));
            }
            Step::Wait(until) => now = until,
        }
    }
}

#[test]
fn the_last_packets_of_the_budget_are_waited_for() {
    let plan = |max_probes| Plan { max_probes, ..Plan::new(84, 1500, 68) };
    let result = starved(plan(1), Duration::from_millis(50));
    assert_eq!((result.verdict, result.bounds.passes_bytes), (Verdict::Inconclusive, Some(84)));
    assert_eq!((result.probes.answered, result.probes.lost), (1, 0));
    let result = starved(plan(3), Duration::from_millis(50));
    assert_eq!(result.verdict, Verdict::Clear, "the largest size is the second packet: {result:?}");
    let result = starved(plan(3), Duration::from_secs(60));
    assert_eq!((result.verdict, result.probes.lost), (Verdict::Inconclusive, 3), "and not for ever");
}

#[test]
fn silence_is_a_verdict_only_where_an_answer_was_waited_for() {
    let plan = |ms| Plan { deadline: Duration::from_millis(ms), ..Plan::new(84, 1500, 68) };
    let result = starved(plan(1), Duration::from_secs(60));
    assert_eq!(result.verdict, Verdict::Inconclusive, "1 ms is no time for an answer: {result:?}");
    assert_eq!(starved(plan(1500), Duration::from_secs(60)).verdict, Verdict::Unreachable);
}

/// Round trips and the time on top of them, on a path over which nothing is lost.
#[test]
fn it_costs_as_few_round_trips_as_it_says() {
    let wide = || hop(1500, Ptb::Honest);
    let mut wrong = Vec::new();
    // (path, round trips for the size, round trips with the hop, milliseconds more)
    let paths = [
        ("clear", vec![wide(), wide()], 1.0, 1.0, 0.0),
        // Without the search for the hop one byte more is asked for when the first PTB has come.
        ("a size of the flight", vec![wide(), hop(1450, Ptb::Honest), wide()], 1.02, 2.0, 0.0),
        ("another size", vec![wide(), hop(1413, Ptb::Honest), wide()], 2.0, 3.0, 0.0),
        ("black hole", vec![wide(), hop(1450, Ptb::Silent), wide()], 3.0, 4.0, 20.0),
        // The flights are longer than a queue, and paced.
        ("black hole, odd", vec![wide(), hop(1331, Ptb::Silent), wide()], 3.0, 4.0, 20.0),
        ("black hole, one byte", vec![wide(), hop(1499, Ptb::Silent), wide()], 3.0, 4.0, 20.0),
        ("black hole, minimum", vec![wide(), hop(1280, Ptb::Silent), wide()], 3.0, 4.0, 20.0),
        // Below what IPv6 asks of a link the ladder has wide gaps: one flight more.
        ("black hole, small", vec![wide(), hop(1100, Ptb::Silent), wide()], 4.0, 5.0, 27.0),
        ("black hole, tiny", vec![wide(), hop(300, Ptb::Silent), wide()], 3.0, 4.0, 20.0),
    ];
    for (name, hops, sizes, located, more_ms) in paths {
        for rtt in [0.1, 1.0, 10.0, 50.0, 150.0] {
            for (locate, trips) in [(false, sizes), (true, located)] {
                let scenario = path(hops.clone(), 0.0, rtt);
                // Which way it is on is asked along with the hop; without it, it takes a round trip of its own.
                let (result, sent) =
                    scenario.play_plan(3, Plan { locate, scouts: locate, ..scenario.plan() });
                let (verdict, mtu) = truth(&scenario.hop);
                assert_eq!((result.verdict, result.path_mtu_bytes), (verdict, Some(mtu)), "{name}");
                // An answer is up to a twentieth late; the hops' errors may wait for one that is lost.
                let bound = trips * rtt * 1.05 + more_ms + f64::from(u8::from(locate)) * (rtt / 50.0 + 1.1);
                let (took, sent) = (result.elapsed_ms, sent.len());
                if took > bound {
                    wrong.push(format!(
                        "{name}, {rtt} ms, hop {locate}: {took:.2} ms > {bound:.2}, {sent} probes"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn answers_that_come_after_they_were_given_up_take_a_verdict_back() {
    for locate in [false, true] {
        let search = Search::new(Plan { locate, ..Plan::new(84, 1500, 68) });
        // What is larger than 1450 bytes takes twice as long: a slower path, no narrower one.
        let result = timed(search, |_, _, probe| {
            let ms = if probe.size > 1450 { 20 } else { 10 };
            vec![(Duration::from_millis(ms), Answer::reply(Some(64)))]
        });
        assert_eq!((result.verdict, result.path_mtu_bytes), (Verdict::Clear, Some(1500)), "{result:?}");
    }
}

#[test]
fn the_bounds_of_a_search_hold() {
    for (interface_mtu, mtu, queue, most) in [
        (1500, 1331, 12_000, 300_000),
        (1500, 300, 12_000, 300_000),
        (9000, 5331, 45_100, 1_000_000),
        // One such packet takes longer than a round trip there: of queues nothing is learned.
        (65_520, 2044, 1 << 30, 4_000_000),
        (65_520, 50_001, 1 << 30, 4_000_000),
    ] {
        for loss in [0.0, 0.2] {
            let wide = hop(interface_mtu, Ptb::Honest);
            let scenario = Scenario { interface_mtu, ..path(vec![wide, hop(mtu, Ptb::Silent)], loss, 40.0) };
            let (_, log) = scenario.play_log(7, scenario.plan());
            assert!(log.len() <= 300, "{} probes", log.len());
            assert!(log.iter().map(|(_, probe)| probe.size).sum::<u32>() <= most);
            // A queue that is emptied at 10 Mbit/s, 1250 bytes a millisecond.
            let (mut waiting, mut before) = (0.0, 0.0);
            for (now, probe) in log {
                waiting = f64::max(0.0, waiting - (now - before) * 1250.0) + f64::from(probe.size);
                before = now;
                assert!(
                    waiting <= f64::from(queue + interface_mtu),
                    "{waiting} bytes in the queue at {now} ms"
                );
            }
        }
    }
}

#[test]
fn a_rate_that_the_user_sets_is_kept() {
    for ptb in [Ptb::Honest, Ptb::Silent] {
        let scenario = path(vec![hop(1450, ptb)], 0.0, 1.0);
        let (result, log) = scenario.play_log(7, Plan { rate_pps: Some(50), ..scenario.plan() });
        assert_eq!(result.path_mtu_bytes, Some(1450), "{result:?}");
        let close = log.windows(2).find(|pair| pair[1].0 - pair[0].0 < 19.9);
        assert!(close.is_none(), "{close:?}");
    }
}

/// Whatever IPv6 or a tunnel over Ethernet leaves, and what is small: three flights find it and are sure. Odd sizes in
/// between take a fourth.
#[test]
fn a_black_hole_of_1280_bytes_and_more_or_576_and_less_takes_three_round_trips() {
    for rtt in [10.0, 50.0] {
        let mut wrong = Vec::new();
        for mtu in (90..=576).chain(1280..1500) {
            let scenario =
                path(vec![hop(1500, Ptb::Honest), hop(mtu, Ptb::Silent), hop(1500, Ptb::Honest)], 0.0, rtt);
            let plan = Plan { locate: false, scouts: false, ..scenario.plan() };
            let (result, sent) = scenario.play_plan(3, plan);
            assert_eq!((result.verdict, result.path_mtu_bytes), (Verdict::BlackHole, Some(mtu)));
            if result.elapsed_ms > 3.0 * rtt * 1.05 + 20.0 {
                wrong.push(format!("{mtu}, {rtt} ms: {:.1} ms, {} probes", result.elapsed_ms, sent.len()));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The largest arrives and is answered; what says that the next one of its kind would not may come a moment later.
#[test]
fn a_tunnel_that_lets_the_first_packet_through_is_not_taken_for_a_clear_path() {
    let hop = |mtu, first_passes| HopSpec { first_passes, ..hop(mtu, Ptb::Honest) };
    for rtt in [0.1, 1.0, 10.0, 50.0] {
        // Answers overtake each other.
        let hops = vec![hop(1500, false), hop(1500, false), hop(1450, true)];
        let scenario = Scenario { reorder: 0.5, ..path(hops, 0.0, rtt) };
        for seed in 1..=1000 {
            let (result, _) = scenario.play(seed);
            assert_eq!(
                (result.verdict, result.path_mtu_bytes),
                (Verdict::Narrowed, Some(1450)),
                "{rtt} ms, {seed}"
            );
        }
    }
}

/// Where an answer comes before the next packet leaves, the largest is sent a second time all the same.
#[test]
fn on_the_shortest_path_a_tunnel_that_lets_the_first_packet_through_is_seen_too() {
    let mut search = Search::new(Plan::new(84, 1500, 68));
    let (mut now, mut through) = (Duration::ZERO, false);
    let router = support::virtual_path::router(1);
    loop {
        match search.poll(now) {
            Step::Done => break,
            Step::Wait(until) => now = until,
            Step::Send(probe) | Step::Scout(probe, _) => {
                now += Duration::from_micros(20);
                let first = probe.size > 1450 && !std::mem::replace(&mut through, true);
                let answer = match probe.ttl {
                    Some(1) => Answer::Expired { from: router },
                    _ if probe.size <= 1450 || first => Answer::reply(Some(63)),
                    _ => Answer::TooBig { mtu: 1450, from: router },
                };
                search.on_event(Event { id: probe.id, answer }, now);
            }
        }
    }
    let result = search.result();
    assert_eq!((result.verdict, result.path_mtu_bytes), (Verdict::Narrowed, Some(1450)), "{result:?}");
}

/// A gap of 64,000 bytes, and flights that hold five of the largest.
#[test]
fn a_black_hole_behind_an_mtu_of_65520_is_found_wherever_it_is() {
    for mtu in (100..65_520).step_by(613).chain([1500, 2044, 9000, 32_760, 65_519]) {
        for interface_mtu in [24_001, 65_520].into_iter().filter(|most| *most > mtu) {
            let scenario = Scenario { interface_mtu, ..path(vec![hop(mtu, Ptb::Silent)], 0.0, 1.0) };
            let (result, sent) = scenario.play_plan(3, Plan { locate: false, ..scenario.plan() });
            assert_eq!(
                (result.verdict, result.path_mtu_bytes),
                (Verdict::BlackHole, Some(mtu)),
                "{interface_mtu}: {result:?}"
            );
            assert!(sent.len() <= 120, "{interface_mtu}, {mtu}: {} probes", sent.len());
        }
    }
}
