//! What a whole search costs without any I/O: every probe is answered at once by a path of three routers.

#![allow(missing_docs, reason = "criterion's macros make public items without a word on them")]

use criterion::{Criterion, criterion_group, criterion_main};
use nsprobe::probe::search::{Answer, Event, Plan, Probe, Search, Step};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Plays a search on a path of `mtu` bytes behind the second of three routers.
fn play(mtu: u32, told: bool) -> u32 {
    let mut search = Search::new(Plan::new(84, 1500, 68));
    let mut now = Duration::ZERO;
    loop {
        match search.poll(now) {
            Step::Done => return search.result().probes.sent,
            Step::Wait(until) => now = until,
            Step::Send(probe) | Step::Scout(probe, _) => {
                now += Duration::from_micros(1);
                if let Some(answer) = answer(probe, mtu, told) {
                    search.on_event(Event { id: probe.id, answer }, now + Duration::from_micros(100));
                }
            }
        }
    }
}

fn answer(probe: Probe, mtu: u32, told: bool) -> Option<Answer> {
    match probe.ttl {
        Some(1 | 2) => return Some(Answer::Expired { from: ROUTER }),
        _ if probe.size <= mtu => {}
        _ => return told.then_some(Answer::TooBig { mtu, from: ROUTER }),
    }
    match probe.ttl {
        Some(3) => Some(Answer::Expired { from: ROUTER }),
        _ => Some(Answer::reply(Some(61))),
    }
}

fn searches(criterion: &mut Criterion) {
    for (name, mtu, told) in [
        ("clear", 1500, true),
        ("narrowed", 1450, true),
        ("black hole", 1450, false),
        ("black hole, odd", 1331, false),
    ] {
        criterion.bench_function(name, |bench| bench.iter(|| play(black_box(mtu), black_box(told))));
    }
}

criterion_group!(benches, searches);
criterion_main!(benches);
