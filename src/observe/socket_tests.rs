//! Dumps that the kernel interrupts, cuts or loses, played from a script: no kernel does that on demand.

use super::*;
use crate::observe::link::parse_link;
use crate::observe::wire::Messages;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use std::collections::VecDeque;

const NODE: &[u8] = include_bytes!("../../tests/fixtures/netlink/link.bin");

/// What one receive gives.
enum Step {
    Datagram(Vec<u8>),
    Fails(i32),
}

/// A kernel that gives the next list of datagrams to each dump; sequence numbers are filled in as they are asked.
struct Script {
    dumps: VecDeque<Vec<Step>>,
    now: VecDeque<Step>,
    sequence: u32,
    sent: u32,
    renewed: u32,
}

impl Script {
    fn netlink(dumps: impl IntoIterator<Item = Vec<Step>>) -> Netlink<Self> {
        let script = Self {
            dumps: dumps.into_iter().collect(),
            now: VecDeque::new(),
            sequence: 0,
            sent: 0,
            renewed: 0,
        };
        Netlink { wire: script, buffer: Vec::with_capacity(BUFFER), sequence: 0 }
    }
}

impl Wire for Script {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sequence = Messages(bytes).next().expect("a request").sequence;
        self.sent += 1;
        self.now.extend(self.dumps.pop_front().expect("a dump more than the script has"));
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self.now.pop_front() {
            Some(Step::Datagram(mut data)) => {
                stamp(&mut data, self.sequence);
                let fits = data.len().min(buffer.capacity());
                buffer.extend_from_slice(&data[..fits]);
                Ok(data.len())
            }
            Some(Step::Fails(errno)) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn renew(&mut self) -> io::Result<()> {
        self.now.clear();
        self.renewed += 1;
        Ok(())
    }
}

/// Where each message of a datagram begins.
fn starts(data: &[u8]) -> Vec<usize> {
    let mut at = 0;
    Messages(data)
        .map(|m| {
            let start = at;
            at += (m.payload.len() + 16).next_multiple_of(4);
            start
        })
        .collect()
}

fn stamp(data: &mut [u8], sequence: u32) {
    for start in starts(data) {
        data[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// The recorded dump in datagrams of a few messages each, as it arrived.
fn whole() -> Vec<Step> {
    let starts = starts(NODE);
    let mut cuts: Vec<usize> = starts.iter().copied().step_by(10).collect();
    cuts.push(NODE.len());
    cuts.windows(2).map(|w| Step::Datagram(NODE[w[0]..w[1]].to_vec())).collect()
}

/// The same, interrupted: the flag stands on one message in the middle.
fn interrupted() -> Vec<Step> {
    let mut dump = whole();
    if let Some(Step::Datagram(data)) = dump.get_mut(3) {
        data[6] |= 0x10;
    }
    dump
}

/// Only the end, as if all links had gone: what is read again has to replace what was read before.
fn smaller() -> Vec<Step> {
    let last = whole().into_iter().last();
    last.into_iter().collect()
}

fn names(netlink: &mut Netlink<Script>) -> Result<Vec<String>, ObserveError> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let dump = netlink.dump("its interfaces", &request, |m| Some(vec![parse_link(m, false)?.name]))?;
    assert_eq!(dump.unreadable, 0);
    Ok(dump.items)
}

#[test]
fn a_dump_that_nothing_disturbs_is_read_once() {
    let mut netlink = Script::netlink([whole()]);
    assert_eq!(names(&mut netlink).unwrap().len(), 64);
    assert_eq!((netlink.wire.sent, netlink.wire.renewed), (1, 0));
}

#[test]
fn an_interrupted_dump_is_read_again_and_what_it_gave_before_is_dropped() {
    let mut netlink = Script::netlink([interrupted(), interrupted(), smaller()]);
    let last = names(&mut netlink).unwrap();
    assert_eq!(last.len(), 4, "{last:?}");
    assert_eq!((netlink.wire.sent, netlink.wire.renewed), (3, 2));
}

#[test]
fn a_dump_that_never_comes_to_rest_is_given_up_and_nothing_of_it_is_told() {
    let mut netlink = Script::netlink((0..20).map(|_| interrupted()));
    let error = names(&mut netlink).unwrap_err();
    assert!(matches!(error, ObserveError::Restless { tries: 8, .. }), "{error}");
    assert_eq!(netlink.wire.sent, 8);
}

#[test]
fn lost_datagrams_are_an_interruption_too() {
    let lost = || whole().into_iter().take(2).chain([Step::Fails(libc::ENOBUFS)]).collect();
    let mut netlink = Script::netlink([lost(), whole()]);
    assert_eq!(names(&mut netlink).unwrap().len(), 64);
}

#[test]
fn an_answer_larger_than_the_buffer_is_asked_for_again_with_room_for_it() {
    // The first message of the dump, as an answer.
    let first = Messages(NODE).next().unwrap().payload.len() + HEADER;
    let answer = || vec![Step::Datagram(NODE[..first].to_vec())];
    let mut netlink = Script::netlink([answer(), answer()]);
    netlink.buffer = Vec::with_capacity(64);
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let name = netlink.ask("an interface", &request, |payload| parse_link(payload, false)).unwrap().name;
    assert_eq!((name.as_str(), netlink.wire.sent), ("lo", 2));
}

#[test]
fn a_datagram_larger_than_the_buffer_is_read_again_with_room_for_it() {
    // One message behind the end of the first 64 KiB, which a cut datagram would lose without a word.
    let mut large = Vec::new();
    while large.len() <= BUFFER {
        large.extend_from_slice(&NODE[..*starts(NODE).last().unwrap()]);
    }
    let end = || Step::Datagram(NODE[*starts(NODE).last().unwrap()..].to_vec());
    let links = starts(&large).len();
    let dump = || vec![Step::Datagram(large.clone()), end()];
    let mut netlink = Script::netlink([dump(), dump()]);
    assert_eq!(names(&mut netlink).unwrap().len(), links);
    assert_eq!((netlink.wire.sent, netlink.wire.renewed), (2, 1));
}

#[test]
fn a_long_dump_makes_a_small_buffer_a_large_one_and_a_short_one_does_not() {
    let starts = starts(NODE);
    let one_by_one = starts.windows(2).map(|w| &NODE[w[0]..w[1]]).chain([&NODE[starts[64]..]]);
    let one_by_one: Vec<Step> = one_by_one.map(|message| Step::Datagram(message.to_vec())).collect();
    for (dump, links, large) in [(one_by_one, 64, true), (smaller(), 4, false)] {
        let mut netlink = Script::netlink([dump]);
        netlink.buffer = Vec::with_capacity(SMALL_BUFFER);
        assert_eq!(names(&mut netlink).unwrap().len(), links);
        assert_eq!((netlink.wire.sent, netlink.wire.renewed), (1, 0));
        assert_eq!(netlink.buffer.capacity() >= BUFFER, large, "{links}");
    }
}

#[test]
fn an_item_that_fits_into_no_small_datagram_is_asked_for_again_with_more_room() {
    let refused = || {
        let mut done = vec![20, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        done.extend((-libc::EMSGSIZE).to_ne_bytes());
        vec![Step::Datagram(done)]
    };
    // The second is refused too: the kernel makes it before it has seen more room.
    let mut netlink = Script::netlink([refused(), refused(), whole()]);
    netlink.buffer = Vec::with_capacity(SMALL_BUFFER);
    assert_eq!(names(&mut netlink).unwrap().len(), 64);
    assert_eq!(netlink.wire.renewed, 0, "a new socket would know of no room again");
    let error = names(&mut Script::netlink((0..9).map(|_| refused()))).unwrap_err();
    assert!(matches!(error, ObserveError::Refused { .. }), "{error}");
}

#[test]
fn a_datagram_that_no_dump_sends_is_no_reason_to_take_all_memory() {
    let huge = || vec![Step::Datagram(vec![0; LARGEST_BUFFER + 1])];
    let mut netlink = Script::netlink([huge(), huge()]);
    let error = names(&mut netlink).unwrap_err();
    assert!(matches!(error, ObserveError::Io { .. }), "{error}");
    assert_eq!(netlink.wire.sent, 1);
}

#[test]
fn a_dump_without_an_end_is_no_answer() {
    let cut = whole().into_iter().take(3).collect();
    let error = names(&mut Script::netlink([cut])).unwrap_err();
    assert!(matches!(error, ObserveError::NoAnswer { .. }), "{error}");
}

#[test]
fn a_call_that_a_signal_interrupts_is_made_again() {
    let mut dump = whole();
    dump.insert(2, Step::Fails(libc::EINTR));
    assert_eq!(names(&mut Script::netlink([dump])).unwrap().len(), 64);
}
