//! A path of hops in virtual time: every scenario file plays on it in milliseconds.

use nsprobe::facts::{PathResult, Verdict, Word};
use nsprobe::probe::search::{Answer, AnswerLimit, Event, Plan, Probe, Scout, Search, Step};
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// One scenario file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, one sentence.
    pub about: String,
    /// MTU of the source's own interface: the route MTU.
    pub interface_mtu: u32,
    #[serde(default = "four")]
    pub family: u8,
    #[serde(default)]
    pub loss: f64,
    #[serde(default)]
    pub rtt_ms: f64,
    /// Share of answers that come up to half a round trip later than their turn.
    #[serde(default)]
    pub reorder: f64,
    /// Share of answers that come twice.
    #[serde(default)]
    pub duplicate: f64,
    /// MTU of the way back: replies larger than it come in fragments (IPv4) or not at all (IPv6).
    pub reverse_mtu: Option<u32>,
    /// The source's own packet filter drops what is larger (EPERM).
    pub drops_over: Option<u32>,
    /// The source's own kernel says of what is larger that it is too large (EMSGSIZE).
    pub refuses_over: Option<u32>,
    /// Routers from the source to the target.
    #[serde(default)]
    pub hop: Vec<HopSpec>,
    #[serde(default)]
    pub target: TargetSpec,
    pub expect: Expect,
}

fn four() -> u8 {
    4
}

/// A router and the link behind it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HopSpec {
    /// MTU of the link behind it.
    pub mtu: u32,
    /// `honest`, `silent`, or the value that it names in its lies.
    #[serde(default)]
    pub ptb: Ptb,
    /// PTBs at once and a second, when it limits them.
    pub ptb_limit: Option<(f64, f64)>,
    /// Whose address its PTBs come from, when that is not its own.
    pub ptb_from: Option<IpAddr>,
    /// Lets the first oversize packet through, as a tunnel does that still has to learn its path MTU.
    #[serde(default)]
    pub first_passes: bool,
    /// Whether it answers time-exceeded.
    #[serde(default = "yes")]
    pub expired: bool,
    /// It sends what goes to the target back to the hop before: a loop.
    #[serde(default)]
    pub sends_back: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ptb {
    #[default]
    Honest,
    Silent,
    Names(u32),
    /// A packet filter, not a link: it says that the destination is unreachable, by this code.
    Refuses(u8),
}

/// How the target answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetSpec {
    pub echo: bool,
    /// Whether it says that it does not know a protocol.
    pub unknown_protocol: bool,
    /// Whether it says that nobody has port 0.
    pub no_port: bool,
    /// It sends no more back than so many bytes of a packet.
    pub cuts_to: Option<u32>,
    /// Whether it answers ICMP timestamp requests; as echo requests, if that is not said.
    pub timestamps: Option<bool>,
    /// Whether the limit is one on those as well.
    pub limits_timestamps: bool,
    /// Token bucket of its answers, of its errors where it answers no echo: burst and answers a second.
    pub limit: Option<(f64, f64)>,
}

impl TargetSpec {
    pub fn answers_timestamps(&self) -> bool {
        self.timestamps.unwrap_or(self.echo)
    }
}

impl Default for TargetSpec {
    fn default() -> Self {
        Self {
            echo: true,
            unknown_protocol: true,
            no_port: true,
            cuts_to: None,
            timestamps: None,
            limits_timestamps: false,
            limit: None,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// `clear|narrowed|black_hole|unreachable|inconclusive`.
    pub verdict: String,
    pub path_mtu: Option<u32>,
    pub signalled: Option<bool>,
    /// First hop that the large packet does not reach.
    pub narrowing_ttl: Option<u8>,
    /// Who says so.
    pub reporter: Option<IpAddr>,
    /// The MTU that it names.
    pub reported: Option<u32>,
    /// Upper bound of probes.
    pub max_probes: Option<u32>,
    /// Upper bound of virtual time.
    pub max_ms: Option<f64>,
}

/// The scenario of that file in `tests/paths/`.
pub fn named(name: &str) -> Scenario {
    scenarios().into_iter().find(|(file, _)| file == name).unwrap().1
}

/// Every file of `tests/paths/`, by name.
pub fn scenarios() -> Vec<(String, Scenario)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/paths");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario = toml::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, scenario)
    };
    files.into_iter().map(read).collect()
}

/// Tokens that answers are paid with.
#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    burst: f64,
    rate: f64,
    refilled: Duration,
}

impl Bucket {
    fn new((burst, rate): (f64, f64)) -> Self {
        Self { tokens: burst, burst, rate, refilled: Duration::ZERO }
    }

    fn take(&mut self, now: Duration) -> bool {
        self.tokens = (self.tokens + (now - self.refilled).as_secs_f64() * self.rate).min(self.burst);
        self.refilled = now;
        let paid = self.tokens >= 1.0;
        if paid {
            self.tokens -= 1.0;
        }
        paid
    }
}

/// Time exceeded, and what a target does not know, as Linux limits them for one destination.
const ERROR_LIMIT: (f64, f64) = (6.0, 1.0);

/// What the routers and the target remember while a path is played.
struct Memory {
    let_through: Vec<bool>,
    expired: Vec<Bucket>,
    too_big: Vec<Option<Bucket>>,
    target: Option<Bucket>,
    /// The target's errors, which Linux limits.
    errors: Option<Bucket>,
}

impl Memory {
    fn new(scenario: &Scenario) -> Self {
        let hops = scenario.hop.len();
        Self {
            let_through: vec![false; hops],
            expired: vec![Bucket::new(ERROR_LIMIT); hops],
            too_big: scenario.hop.iter().map(|h| h.ptb_limit.map(Bucket::new)).collect(),
            target: scenario.target.limit.map(Bucket::new),
            errors: match scenario.target {
                TargetSpec { echo: false, limit, .. } => limit.map(Bucket::new),
                _ => Some(Bucket::new(ERROR_LIMIT)),
            },
        }
    }
}

#[derive(PartialEq)]
struct Arrival(Duration, u64, Event);

impl Eq for Arrival {}
impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

/// A small deterministic generator (xorshift), so that a failing seed can be played again.
pub struct Chance(pub u64);

impl Chance {
    /// From 0 to 1.
    pub fn draw(&mut self) -> f64 {
        self.next()
    }
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

pub fn router(ttl: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 99, u8::try_from(ttl).unwrap(), 1))
}

impl Scenario {
    pub fn plan(&self) -> Plan {
        match self.family {
            6 => Plan {
                unknown_protocol: Some(AnswerLimit::ICMPV6_ERRORS_LEFT),
                ..Plan::new(100, self.interface_mtu, 1280)
            },
            _ => Plan {
                scouts: true,
                unknown_protocol: Some(AnswerLimit::ICMP_ERRORS),
                ..Plan::new(84, self.interface_mtu, 68)
            },
        }
    }

    /// What the path answers to a probe and after which share of the round trip.
    fn answer(
        &self,
        probe: Probe,
        scout: Option<Scout>,
        memory: &mut Memory,
        now: Duration,
    ) -> Option<(Answer, f64)> {
        let hops = self.hop.len();
        for (at, hop) in self.hop.iter().enumerate() {
            let share = (at + 1) as f64 / (hops + 1) as f64;
            if probe.ttl.is_some_and(|ttl| usize::from(ttl) == at + 1) {
                let answers = hop.expired && memory.expired[at].take(now);
                return answers.then(|| (Answer::Expired { from: router(at + 1) }, share));
            }
            if hop.sends_back {
                let more = usize::from(probe.ttl.unwrap_or(64)) - at - 1;
                let end = if more % 2 == 0 { at } else { at - 1 };
                let answers = memory.expired[end].take(now);
                return answers.then(|| (Answer::Expired { from: router(end + 1) }, share));
            }
            if probe.size > hop.mtu {
                if hop.first_passes && !std::mem::replace(&mut memory.let_through[at], true) {
                    continue;
                }
                if memory.too_big[at].as_mut().is_some_and(|bucket| !bucket.take(now)) {
                    return None;
                }
                let from = hop.ptb_from.unwrap_or_else(|| router(at + 1));
                let answer = match hop.ptb {
                    Ptb::Honest => Answer::TooBig { mtu: hop.mtu, from },
                    Ptb::Names(mtu) => Answer::TooBig { mtu, from },
                    Ptb::Refuses(code) => Answer::Refused { from, word: Word::Unreachable(code) },
                    Ptb::Silent => return None,
                };
                return Some((answer, share));
            }
        }
        let answers = match scout {
            None => self.target.echo,
            Some(Scout::Protocol) => self.target.unknown_protocol,
            Some(Scout::Datagram) => self.target.no_port,
            Some(Scout::Timestamp) => self.target.answers_timestamps(),
        };
        let bucket = match scout {
            None => &mut memory.target,
            Some(Scout::Timestamp) if self.target.limits_timestamps => &mut memory.target,
            // No error: it is not rationed.
            Some(Scout::Timestamp) => &mut None,
            Some(_) => &mut memory.errors,
        };
        if !answers || bucket.as_mut().is_some_and(|bucket| !bucket.take(now)) {
            return None;
        }
        let size = self.target.cuts_to.map_or(probe.size, |most| most.min(probe.size));
        let fragments = self.reverse_mtu.filter(|mtu| size > *mtu);
        if fragments.is_some() && self.family == 6 {
            return None;
        }
        let ttl = 64 - u8::try_from(hops).unwrap();
        Some((Answer::Reply { ttl: Some(ttl), largest_fragment: fragments, cut: size < probe.size }, 1.0))
    }

    /// Plays the search and returns its result with the sizes sent, in order.
    pub fn play(&self, seed: u64) -> (PathResult, Vec<Probe>) {
        self.play_plan(seed, self.plan())
    }

    /// The same with another plan.
    pub fn play_plan(&self, seed: u64, plan: Plan) -> (PathResult, Vec<Probe>) {
        let (result, sent) = self.play_log(seed, plan);
        (result, sent.into_iter().map(|(_, probe)| probe).collect())
    }

    /// The same, each probe with the millisecond in which it was sent.
    pub fn play_log(&self, seed: u64, plan: Plan) -> (PathResult, Vec<(f64, Probe)>) {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut search = Search::new(plan);
        let mut now = Duration::ZERO;
        let mut arrivals: BinaryHeap<Arrival> = BinaryHeap::new();
        let mut sent = Vec::new();
        let mut memory = Memory::new(self);
        let mut latest = [Duration::ZERO; 2];
        let rtt = Duration::from_secs_f64(self.rtt_ms.max(0.1) / 1000.0);
        loop {
            while arrivals.peek().is_some_and(|a| a.0 <= now) {
                if let Some(Arrival(at, _, event)) = arrivals.pop() {
                    search.on_event(event, at);
                }
            }
            match search.poll(now) {
                Step::Done => return (search.result(), sent),
                step @ (Step::Send(probe) | Step::Scout(probe, _)) => {
                    let scout = match step {
                        Step::Scout(_, look) => Some(look),
                        _ => None,
                    };
                    sent.push((now.as_secs_f64() * 1000.0, probe));
                    assert!(sent.len() < 2000, "it never ends: {}", self.about);
                    let over = |limit: Option<u32>| limit.is_some_and(|limit| probe.size > limit);
                    if over(self.drops_over) || over(self.refuses_over) {
                        let answer = Answer::NotSent { too_big: over(self.refuses_over) };
                        search.on_event(Event { id: probe.id, answer }, now);
                        continue;
                    }
                    // Loss on the way there and on the way back.
                    if chance.next() < self.loss {
                        continue;
                    }
                    let Some((answer, share)) = self.answer(probe, scout, &mut memory, now) else { continue };
                    let jitter = rtt.mul_f64(0.05 * chance.next());
                    let late = if chance.next() < self.reorder {
                        rtt.mul_f64(0.5 * chance.next())
                    } else {
                        Duration::ZERO
                    };
                    // What delays one answer delays those behind it: queues keep the order.
                    let turn = &mut latest[usize::from(share < 1.0)];
                    *turn = (*turn).max(now + rtt.mul_f64(share) + jitter);
                    let at = *turn + late;
                    let event = Event { id: probe.id, answer };
                    arrivals.push(Arrival(at, sent.len() as u64, event));
                    if chance.next() < self.duplicate {
                        arrivals.push(Arrival(at + jitter, sent.len() as u64, event));
                    }
                }
                Step::Wait(until) => {
                    assert!(until > now, "a wait that does not end: {}", self.about);
                    now = arrivals.peek().map_or(until, |a| until.min(a.0.max(now)));
                }
            }
        }
    }
}

pub fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clear => "clear",
        Verdict::Narrowed => "narrowed",
        Verdict::BlackHole => "black_hole",
        Verdict::Unreachable => "unreachable",
        Verdict::Inconclusive => "inconclusive",
    }
}

pub fn any_hop() -> impl Strategy<Value = HopSpec> {
    let mtu = prop_oneof![Just(1500u32), Just(1450), Just(1400), 576u32..=1500];
    (mtu, any::<bool>(), any::<bool>()).prop_map(|(mtu, honest, expired)| HopSpec {
        expired,
        ..hop(mtu, if honest { Ptb::Honest } else { Ptb::Silent })
    })
}

/// A router that answers what expires there.
pub fn hop(mtu: u32, ptb: Ptb) -> HopSpec {
    HopSpec {
        mtu,
        ptb,
        expired: true,
        first_passes: false,
        ptb_limit: None,
        ptb_from: None,
        sends_back: false,
    }
}

pub fn path(hop: Vec<HopSpec>, loss: f64, rtt_ms: f64) -> Scenario {
    Scenario {
        about: String::new(),
        interface_mtu: 1500,
        family: 4,
        loss,
        rtt_ms,
        reorder: 0.0,
        duplicate: 0.0,
        reverse_mtu: None,
        drops_over: None,
        refuses_over: None,
        hop,
        target: TargetSpec::default(),
        expect: Expect {
            verdict: String::new(),
            path_mtu: None,
            signalled: None,
            narrowing_ttl: None,
            reporter: None,
            reported: None,
            max_probes: None,
            max_ms: None,
        },
    }
}

/// The truth of a monotone path: its MTU, and whether its narrowest point is silent.
pub fn truth(hops: &[HopSpec]) -> (Verdict, u32) {
    let mtu = hops.iter().map(|h| h.mtu).min().unwrap_or(1500).min(1500);
    if mtu == 1500 {
        return (Verdict::Clear, 1500);
    }
    // What is one byte too large meets the first hop of the smallest MTU.
    let first = hops.iter().find(|h| h.mtu == mtu);
    (
        if first.is_some_and(|h| matches!(h.ptb, Ptb::Silent)) {
            Verdict::BlackHole
        } else {
            Verdict::Narrowed
        },
        mtu,
    )
}

/// Plays a search where `answer` tells what comes back for a probe, and after how long: the how-manieth it is, and when it
/// leaves.
pub fn timed(
    mut search: Search,
    mut answer: impl FnMut(usize, Duration, Probe) -> Vec<(Duration, Answer)>,
) -> PathResult {
    let (mut now, mut sent) = (Duration::ZERO, 0);
    let mut waiting: Vec<(Duration, Event)> = Vec::new();
    loop {
        waiting.sort_by_key(|(at, _)| *at);
        while waiting.first().is_some_and(|(at, _)| *at <= now) {
            search.on_event(waiting.remove(0).1, now);
        }
        match search.poll(now) {
            Step::Done => return search.result(),
            Step::Wait(until) => now = waiting.first().map_or(until, |(at, _)| until.min(*at)).max(now),
            Step::Send(probe) | Step::Scout(probe, _) => {
                let event = |(after, answer)| (now + after, Event { id: probe.id, answer });
                waiting.extend(answer(sent, now, probe).into_iter().map(event));
                sent += 1;
            }
        }
    }
}
