//! What the search makes of words that are no PTB, and of what was said before it began.

#![allow(clippy::unwrap_used, reason = "a test fails loudly; clippy sees only #[test] functions as tests")]

mod support;

use nsprobe::facts::{PathNote, PathResult, ReverseVerdict, Verdict, Word};
use nsprobe::probe::search::{Answer, AnswerLimit, Event, Plan, Probe, Scouted, Search, Step};
use std::time::Duration;
use support::virtual_path::{self, named, router};

/// One finding for each router and value is enough.
#[test]
fn an_impossible_value_is_noted_once_for_each_router_that_names_it() {
    for name in ["narrowed-ptb-zero", "narrowed-ptb-larger-than-sent", "narrowed-ptb-below-the-minimum"] {
        let (result, _) = named(name).play(1);
        let invalid = |note: &&PathNote| matches!(note, PathNote::PtbInvalid { .. });
        assert_eq!(result.notes.iter().filter(invalid).count(), 1, "{name}: {result:?}");
    }
}

/// Plays a path of one millisecond on which `answer` tells what comes back for a probe, the how-manieth it is.
fn played<A: IntoIterator<Item = Answer>>(search: Search, answer: impl Fn(usize, Probe) -> A) -> PathResult {
    timed(search, |at, probe| answer(at, probe).into_iter().map(|answer| (1000, answer)).collect())
}

/// The same, each answer with the microseconds that it takes.
fn timed(search: Search, answer: impl Fn(usize, Probe) -> Vec<(u64, Answer)>) -> PathResult {
    let micros = |(after, answer)| (Duration::from_micros(after), answer);
    virtual_path::timed(search, |sent, _, probe| answer(sent, probe).into_iter().map(micros).collect())
}

/// Its control plane takes longer than ten round trips, or the search for the hop has begun; how slow it is shows in its
/// time exceeded.
#[test]
fn a_router_that_is_slow_to_say_packet_too_big_is_heard_out() {
    for (rtt, expired, word, locate) in [
        (500, 12_000, 12_000, true),
        (500, 500, 12_000, false),
        (400, 400, 6000, true),
        (3000, 3000, 11_000, true),
        (500, 6000, 16_000, true),
    ] {
        let plan = Plan { locate, ..Plan::new(84, 1500, 68) };
        let result = timed(Search::new(plan), |_, probe| match probe {
            Probe { size: 1401.., ttl: None | Some(3..), .. } => {
                vec![(word, Answer::TooBig { mtu: 1400, from: router(2) })]
            }
            Probe { ttl: Some(1), .. } => vec![(rtt, Answer::Expired { from: router(1) })],
            Probe { ttl: Some(2), .. } => vec![(expired, Answer::Expired { from: router(2) })],
            _ => vec![(rtt, Answer::reply(Some(62)))],
        });
        let told = (result.verdict, result.path_mtu_bytes, result.signalled);
        assert_eq!(told, (Verdict::Narrowed, Some(1400), true), "{rtt} {expired} {word}: {result:?}");
    }
}

/// A target that says nothing leaves only the routers' word, and that is refused as well.
#[test]
fn a_size_that_its_own_router_refuses_is_not_the_path_mtu() {
    let result = timed(Search::new(Plan::new(84, 1500, 68)), |_, probe| {
        (probe.size > 1380)
            .then_some((500, Answer::TooBig { mtu: 1400, from: router(1) }))
            .into_iter()
            .collect()
    });
    assert_eq!((result.verdict, result.path_mtu_bytes), (Verdict::Inconclusive, None), "{result:?}");
}

/// Every packet draws an impossible word, and is delivered.
#[test]
fn a_word_that_comes_before_the_answer_is_not_the_last() {
    for mtu in [68, 600] {
        let from = router(1);
        let result = timed(Search::new(Plan::new(84, 1500, 68)), |_, _| {
            vec![(10, Answer::TooBig { mtu, from }), (1000, Answer::reply(Some(63)))]
        });
        assert_eq!(
            (result.verdict, result.path_mtu_bytes),
            (Verdict::Clear, Some(1500)),
            "{mtu}: {result:?}"
        );
        let understates = |note: &&PathNote| matches!(note, PathNote::PtbUnderstates { .. });
        assert_eq!(result.notes.iter().filter(understates).count(), 1, "{mtu}: {result:?}");
    }
}

/// One time exceeded is lost: whoever has refused the packet has got it.
#[test]
fn a_router_that_refuses_a_packet_has_received_it() {
    for lost in 0..40 {
        let result = timed(Search::new(Plan::new(84, 1500, 68)), |at, probe| match probe {
            Probe { ttl: Some(_), .. } if at == lost => vec![],
            Probe { ttl: Some(hop @ 1..3), .. } => vec![(1000, Answer::Expired { from: router(hop.into()) })],
            Probe { size: 1401.., .. } => vec![(1000, Answer::TooBig { mtu: 1400, from: router(2) })],
            Probe { ttl: Some(hop @ 3..5), .. } => vec![(1000, Answer::Expired { from: router(hop.into()) })],
            _ => vec![(2000, Answer::reply(Some(60)))],
        });
        let narrowing = result.narrowing.clone().unwrap();
        assert_eq!(narrowing.reporter, Some(router(2)), "{lost}: {result:?}");
        // Where both of the router's own are lost it is not known.
        let place = (narrowing.ttl, narrowing.last_good_hop);
        assert!(place == (Some(3), Some(router(2))) || place == (None, None), "{lost}: {result:?}");
    }
}

/// The target's error for an unknown protocol overtakes its echo reply.
#[test]
fn an_echo_reply_that_is_overtaken_is_not_filtered() {
    let result = timed(
        Search::new(Plan {
            scouts: true,
            locate: false,
            unknown_protocol: Some(AnswerLimit::ICMP_ERRORS),
            ..Plan::new(84, 1500, 68)
        }),
        |at, probe| match probe.size {
            1401.. => vec![(100, Answer::TooBig { mtu: 1400, from: router(1) })],
            _ if at < 13 => vec![(6000, Answer::reply(Some(62)))],
            _ => vec![(1000, Answer::reply(Some(62)))],
        },
    );
    assert_eq!((result.verdict, result.path_mtu_bytes), (Verdict::Narrowed, Some(1400)), "{result:?}");
    let filtered = |note: &PathNote| matches!(note, PathNote::EchoFiltered { .. });
    assert!(!result.notes.iter().any(filtered), "{result:?}");
}

/// Whichever packet of the first flight it is that somebody refuses.
#[test]
fn a_refusal_of_what_passes_as_well_is_no_refusal_by_size() {
    let from = router(1);
    for stray in 0..11 {
        let result = played(Search::new(Plan::new(84, 1500, 68)), |at, _| {
            Some(if at == stray {
                Answer::Refused { from, word: Word::Unreachable(13) }
            } else {
                Answer::reply(Some(63))
            })
        });
        assert_eq!((result.verdict, result.path_mtu_bytes), (Verdict::Clear, Some(1500)), "{stray}");
        let size = match result.notes[..] {
            [PathNote::Refused { size, passes: true, .. }] => size,
            _ => panic!("{stray}: {result:?}"),
        };
        assert!((84..=1500).contains(&size), "{stray}: {result:?}");
    }
}

/// Where packets are doubled on the way, and somebody refuses one of the two, the other has arrived.
#[test]
fn what_arrived_has_arrived_whoever_refused_a_copy_of_it() {
    let from = router(1);
    for word in [
        Answer::Refused { from, word: Word::Unreachable(13) },
        Answer::TooBig { mtu: 1400, from },
        Answer::Expired { from },
    ] {
        let result = played(Search::new(Plan::new(84, 1500, 68)), |_, probe| {
            let word = (probe.size > 1400).then_some(word);
            word.into_iter().chain([Answer::reply(Some(63))])
        });
        assert_eq!(
            (result.verdict, result.path_mtu_bytes),
            (Verdict::Clear, Some(1500)),
            "{word:?}: {result:?}"
        );
        let understated = PathNote::PtbUnderstates { mtu: 1400, passes: 1500, from };
        assert_eq!(result.notes.contains(&understated), matches!(word, Answer::TooBig { .. }), "{result:?}");
    }
}

/// The size is the one that was refused, by its last word if need be, and who says so is no silence.
#[test]
fn a_refusal_by_size_is_told_with_the_size_that_it_begins_at() {
    for (name, hop, size) in
        [("refused-by-size", 2, 1401), ("refused-by-size-limited", 1, 1414), ("refused-above-a-ptb", 2, 1401)]
    {
        for seed in 1..=20 {
            let (result, _) = named(name).play(seed);
            let from = router(hop);
            let note =
                PathNote::Refused { from, word: Word::Unreachable(13), size, passes: false, least: false };
            assert!(result.notes.contains(&note), "{name}: {result:?}");
            assert_eq!(result.narrowing.unwrap().reporter, Some(from), "{name}");
        }
    }
}

/// The hops that repeat are seen, and what the routers in the loop say is no answer of the target.
#[test]
fn a_loop_is_seen_by_its_hops_and_its_errors_are_no_answers_of_the_target() {
    for name in ["unreachable-loop", "unreachable-loop-six"] {
        for locate in [true, false] {
            let scenario = named(name);
            let (result, sent) = scenario.play_plan(1, Plan { locate, ..scenario.plan() });
            let seen: Vec<_> = result.hops.iter().filter_map(|hop| hop.address).collect();
            let located = u32::try_from(seen.len()).unwrap();
            assert_eq!(result.probes.answered, located, "{name}: {result:?}");
            assert!(sent.len() <= 40, "{name}: {} probes", sent.len());
            if locate {
                let [third, second] = [3, 2].map(router);
                assert!(
                    seen.iter().filter(|hop| **hop == third || **hop == second).count() > 2,
                    "{result:?}"
                );
            }
        }
    }
}

/// A target whose answers the scouts' controls have used up is none that says nothing.
#[test]
fn what_was_answered_before_the_search_is_not_forgotten() {
    let plan = Plan { timeout: Duration::from_millis(100), ..Plan::new(104, 1500, 1280) };
    let scouted =
        Scouted { sent: vec![1500], packets: 3, rtt: Some(Duration::from_millis(1)), ..Scouted::default() };
    let verdict = |answers_echo, replies| {
        let scouted = Scouted { answers_echo, replies, ..scouted.clone() };
        played(Search::knowing(plan.clone(), &scouted), |_, _| []).verdict
    };
    assert_eq!(verdict(false, 0), Verdict::Unreachable);
    assert_eq!(verdict(true, 1), Verdict::Inconclusive);
}

/// What was sent before the search is waited for while it goes on: it was the first to leave.
#[test]
fn an_answer_to_what_was_sent_before_the_search_counts_however_late_it_is() {
    let ms = Duration::from_millis;
    let plan = Plan { timeout: ms(125), ..Plan::new(104, 1500, 1280) };
    let scouted = Scouted { sent: vec![1500], packets: 3, waited: ms(875), ..Scouted::default() };
    let verdict = |late: bool, answers: bool| {
        let mut search = Search::knowing(plan.clone(), &scouted);
        if late {
            search.on_event(Event { id: 0x801e, answer: Answer::reply(Some(60)) }, ms(60));
        }
        played(search, |_, _| answers.then_some(Answer::reply(Some(60)))).verdict
    };
    assert_eq!(verdict(false, false), Verdict::Unreachable);
    assert_eq!(verdict(true, false), Verdict::Inconclusive);
    assert_eq!(verdict(true, true), Verdict::Clear);
    // A search that nothing was sent before knows no such answer.
    let mut alone = Search::new(plan);
    alone.on_event(Event { id: 0x801e, answer: Answer::reply(Some(60)) }, ms(60));
    assert_eq!(played(alone, |_, _| []).verdict, Verdict::Unreachable);
}

/// What vanishes without a word may have done so on either way.
#[test]
fn of_a_black_hole_the_way_back_is_not_known() {
    let reverse = |name: &str| named(name).play(1).0.reverse.verdict;
    assert_eq!(reverse("black-hole-jumbo"), ReverseVerdict::Unknown);
    assert_eq!(reverse("clear-lan"), ReverseVerdict::Clear);
    assert_eq!(reverse("narrowed-pppoe"), ReverseVerdict::Clear);
    // A reply of 92 bytes says nothing of a way back for 1500.
    assert_eq!(reverse("clear-short-replies"), ReverseVerdict::Unknown);
}

/// What this node's kernel refuses is as certain as it gets: there is nothing to wait for, and no hop to look for.
#[test]
fn what_does_not_leave_this_node_costs_few_packets_and_is_named() {
    for name in ["black-hole-dropped-here", "narrowed-refused-here"] {
        let (result, _) = named(name).play(1);
        assert!(result.notes.contains(&PathNote::HeldHere { size: 1401 }), "{result:?}");
        assert!(result.hops.is_empty() && result.narrowing.is_none(), "{result:?}");
        assert!(result.probes.sent <= 15, "those are not counted: {result:?}");
    }
}

/// Everything is prohibited, and every second packet draws a word of it: the first flight and one of scouts are enough.
#[test]
fn where_everything_is_forbidden_few_packets_say_so() {
    let plan =
        Plan { scouts: true, unknown_protocol: Some(AnswerLimit::ICMP_ERRORS), ..Plan::new(84, 1500, 68) };
    let from = router(1);
    let result = played(Search::new(plan), |at, _| {
        (at % 2 == 0).then_some(Answer::Refused { from, word: Word::Unreachable(13) })
    });
    assert_eq!(result.verdict, Verdict::Unreachable, "{result:?}");
    assert!(result.probes.sent <= 40, "{result:?}");
}

/// Over IPv6 a router has named too little before the search, and the packet that it refused arrives all the same.
#[test]
fn a_word_from_before_the_search_is_disproved_by_the_packet_that_it_was_for() {
    let from = router(1);
    let known = Scouted {
        sent: vec![1500, 1280],
        packets: 4,
        too_bigs: vec![(1500, 1280, from)],
        refused: vec![(0x8000, 1500)],
        arrived: Some(1280),
        answers_echo: true,
        rtt: Some(Duration::from_millis(1)),
        ..Scouted::default()
    };
    let mut search = Search::knowing(Plan::new(100, 1500, 1280), &known);
    search.on_event(Event { id: 0x8000, answer: Answer::reply(Some(63)) }, Duration::ZERO);
    let result = played(search, |_, _| Some(Answer::reply(Some(63))));
    assert_eq!((result.verdict, result.path_mtu_bytes), (Verdict::Clear, Some(1500)), "{result:?}");
    assert_eq!(result.notes, [PathNote::PtbUnderstates { mtu: 1280, passes: 1500, from }]);
}

/// Words of all sizes from all routers, for every packet, and each arrives.
#[test]
fn a_flood_of_words_hides_no_answer() {
    let result = timed(Search::new(Plan::new(84, 1500, 68)), |_, probe| {
        let words = (0..20u8)
            .map(|n| Answer::TooBig { mtu: 1280 + 10 * u32::from(n), from: router(1 + usize::from(n % 4)) });
        let reply = (500, Answer::reply(Some(63)));
        words.map(|word| (100 + u64::from(probe.size % 7), word)).chain([reply]).collect()
    });
    assert_eq!((result.verdict, result.path_mtu_bytes), (Verdict::Clear, Some(1500)), "{result:?}");
}

/// What a router names is lost with its control, and asked for again: the sizes below are not crawled through.
#[test]
fn a_named_size_that_was_lost_by_chance_is_asked_for_again() {
    for seed in 0..12 {
        let mut burst = None;
        let search = Search::new(Plan { locate: false, ..Plan::new(84, 1500, 68) });
        let result = virtual_path::timed(search, |_, now, probe| {
            let ms = Duration::from_millis;
            if probe.size > 1413 {
                return vec![(ms(1), Answer::TooBig { mtu: 1413, from: router(1) })];
            }
            // A full queue takes the first of that size, and what follows for a while.
            let since = if probe.size == 1413 { *burst.get_or_insert(now) } else { burst.unwrap_or(now) };
            let lost = burst.is_some() && now <= since + Duration::from_micros(100 * seed);
            if lost { vec![] } else { vec![(ms(1), Answer::reply(Some(62)))] }
        });
        let told = (result.verdict, result.path_mtu_bytes, result.signalled);
        assert_eq!(told, (Verdict::Narrowed, Some(1413), true), "{seed}: {result:?}");
        assert!(result.probes.sent <= 25, "{seed}: {result:?}");
    }
}

/// A middle box that answers in the target's name is nearer than the target, whatever TTL each begins with.
#[test]
fn answers_count_as_the_targets_where_they_come_from_as_far_away() {
    let mut search = Search::new(Plan::new(84, 1500, 68));
    assert!(search.is_as_far(Some(9)), "nothing is known yet");
    let Step::Send(probe) = search.poll(Duration::ZERO) else { unreachable!() };
    search.on_event(Event { id: probe.id, answer: Answer::reply(Some(62)) }, Duration::from_millis(1));
    assert_eq!([62, 126, 253].map(|ttl| search.is_as_far(Some(ttl))), [true; 3]);
    assert_eq!([63, 127, 61].map(|ttl| search.is_as_far(Some(ttl))), [false; 3]);
    assert!(search.is_as_far(None));
}
