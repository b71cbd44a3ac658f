//! Which probe an answer names, and which answers name none.

use super::super::segment::tests::{ack, sack};
use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn old_data(send_next: u32) -> OldData {
    let numbers =
        Numbers { send_next, receive_next: 0, sack: true, timestamps: None, rtt: Duration::from_micros(100) };
    OldData { local_port: 40_000, target_port: 80, numbers, echo: 0, used: 1 }
}

fn heard(acknowledgement: u32, blocks: &[(u32, u32)]) -> Heard {
    let options = if blocks.is_empty() { Vec::new() } else { sack(blocks) };
    Heard::read(&ack(acknowledgement, &options)).unwrap()
}

fn knock() -> Knock {
    Knock { ports: vec![50_000, 50_001, 50_002], target_port: 80, base: 0xffff_0000 }
}

#[test]
fn a_range_of_another_connection_is_not_ours() {
    let old = old_data(10_000);
    let segment = old.segment(3, 100, Instant::now());
    assert_eq!((segment.sequence, segment.sequence + 100), (9_895, 9_995));
    assert_eq!(old.meaning(&heard(10_000, &[(9_895, 9_995)])), Some(Meaning::Arrived(3, 100)));
    let stranger = OldData { local_port: 40_001, ..old };
    assert_eq!(stranger.meaning(&heard(10_000, &[(9_895, 9_995)])), None);
    assert_eq!(old.meaning(&heard(10_001, &[(9_895, 9_995)])), None, "it acknowledges what was never sent");
    assert_eq!(old.meaning(&heard(10_000, &[(10_500, 11_000)])), None, "above the acknowledgement: no DSACK");
    assert_eq!(old.meaning(&heard(10_000, &[(9_900, 9_999)])), None, "asked before the search began");
    assert_eq!(old.meaning(&heard(10_000, &[])), Some(Meaning::NoRange));
}

#[test]
fn a_reset_far_outside_the_window_is_somebody_elses_guess() {
    let reset = Heard { flags: RST | ACK, ..heard(10_000, &[]) };
    assert_eq!(old_data(10_000).meaning(&reset), Some(Meaning::Ended));
    assert_eq!(old_data(10_000).meaning(&Heard { sequence: 1 << 30, ..reset }), None);
}

#[test]
fn a_syn_is_answered_by_number_and_port_whether_its_data_counts_or_not() {
    let knock = knock();
    let segment = knock.segment(4);
    assert_eq!((segment.source_port, segment.sequence, segment.flags), (50_001, 0x0003_0000, SYN));
    let length = |id| (id < 8).then_some(1410);
    let answer = |port, behind, flags| {
        let acknowledgement = segment.sequence + 1 + behind;
        knock.answered(&Heard { local_port: port, flags, acknowledgement, ..heard(0, &[]) }, length)
    };
    assert_eq!(answer(50_001, 0, SYN | ACK), Some((4, Port::Open)));
    assert_eq!(answer(50_001, 1410, RST | ACK), Some((4, Port::Reset)));
    assert_eq!(answer(50_001, 1409, RST | ACK), None);
    assert_eq!(answer(50_002, 1410, RST | ACK), None);
    assert_eq!(answer(50_001, 1410, ACK), None);
    assert_eq!(answer(50_001, 0x4_0000, RST | ACK), None, "probe 8 was never sent");
    assert_eq!(knock.quoted((50_001, 80, segment.sequence)), Some(4));
    assert_eq!(knock.quoted((50_001, 443, segment.sequence)), None);
    assert_eq!(knock.quoted((50_001, 80, segment.sequence + 1)), None);
}

proptest! {
    #[test]
    fn every_probe_is_told_from_every_other_wherever_the_numbers_wrap(
        send_next: u32, a: u16, b: u16, length in 1u32..9000, other in 1u32..9000,
    ) {
        let old = old_data(send_next);
        let range = |id, length| {
            let left = old.segment(id, length, Instant::now()).sequence;
            (left, left.wrapping_add(length))
        };
        prop_assert_eq!(old.meaning(&heard(send_next, &[range(a, length)])), Some(Meaning::Arrived(a, length)));
        prop_assert_eq!(range(a, length) == range(b, other), (a, length) == (b, other));
        // Below what the peer expects: it is old to the last byte.
        prop_assert!(send_next.wrapping_sub(range(a, length).1) >= 1);
        let segment = old.segment(a, length, Instant::now());
        prop_assert_eq!(old.quoted((40_000, 80, segment.sequence), length), Some(a));
    }

    #[test]
    fn a_knock_is_known_by_its_number(base: u32, id: u16, length in 1u32..65_000) {
        let knock = Knock { base, ..knock() };
        let segment = knock.segment(id);
        prop_assert_eq!(knock.quoted((segment.source_port, 80, segment.sequence)), Some(id));
        for behind in [0, length] {
            let acknowledgement = segment.sequence.wrapping_add(1 + behind);
            let answer = Heard { local_port: segment.source_port, flags: RST | ACK, acknowledgement, ..heard(0, &[]) };
            prop_assert_eq!(knock.answered(&answer, |_| Some(length)), Some((id, Port::Reset)));
        }
    }
}
