//! Every name server of a resolv.conf asked as a pod asks: over UDP and TCP, for little and for much.

use super::config::{ResolvConf, Server};
use super::exchange::{left_until, over_tcp, random_id, socket_address};
use super::raw::{A, AAAA, DNSKEY, RawQuestion, RawReply, code_name};
use crate::facts::{DnsOutcome, LargeAnswer, NameServer};
use crate::netns::{NetNs, NetNsError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A question that is answered late is asked again: one lost packet is no silent server.
const TRIES: u32 = 2;
/// Pairs of questions that are asked at once where one of the first was lost or late: once may be chance.
const AGAIN: usize = 4;
/// An answer that comes later than this is late: a resolver of a cluster answers from its memory.
const LATE: Duration = Duration::from_millis(500);
/// What a large answer may have over UDP, bytes: what resolvers asked for until DNS Flag Day 2020.
const ALLOWED: u16 = 4096;
/// What fits into any datagram, bytes (RFC 1035 §4.2.1).
const SMALL: u32 = 512;
/// A server that has to fetch the answer first, and cannot, is not waited for any longer.
const LARGE_PATIENCE: Duration = Duration::from_millis(600);
/// Most of an answer that is read, bytes.
const MOST: usize = 8192;

/// What to ask, and for how long.
#[derive(Debug, Clone)]
pub struct ServerQuestions {
    /// A name for small questions.
    pub name: String,
    /// A name whose addresses are a large answer, when somebody knows one; else the keys of the root are asked for.
    pub large: Option<String>,
    /// How long one question is waited for.
    pub patience: Duration,
    /// When all must have ended.
    pub end: Instant,
}

/// Asks every server at the same time, each on threads of its own; at most 11 questions a server, and 8 more where one
/// was lost or late.
///
/// # Errors
/// [`NetNsError`] when the namespace cannot be entered.
pub fn check_servers(
    netns: &NetNs,
    conf: &ResolvConf,
    questions: &ServerQuestions,
) -> Result<Vec<NameServer>, NetNsError> {
    std::thread::scope(|scope| {
        let one = |server| move || netns.run(|| check(server, questions));
        let threads: Vec<_> = conf.servers.iter().map(|server| scope.spawn(one(server))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Runs inside the namespace; sockets that another thread opens are opened by this one.
fn check(server: &Server, questions: &ServerQuestions) -> NameServer {
    let name = questions.name.as_str();
    let mut facts = NameServer {
        address: server.address,
        question: if name.is_empty() { "A of the root".into() } else { format!("A of {name}") },
        udp: DnsOutcome::NotAsked("no time was left".into()),
        second: DnsOutcome::NotAsked("no time was left".into()),
        again: Vec::new(),
        tcp: DnsOutcome::NotAsked("no time was left".into()),
        large: None,
    };
    let to = match socket_address(server) {
        Ok(to) => to,
        Err(error) => {
            let refused = DnsOutcome::Refused(format!("its interface is not there: {}", words(&error)));
            facts.udp = refused.clone();
            facts.tcp = refused;
            return facts;
        }
    };
    let patience = || questions.patience.min(questions.end.saturating_duration_since(Instant::now()));
    // A new thread is in the namespace of the one that starts it.
    std::thread::scope(|scope| {
        let tcp = scope.spawn(|| ask_tcp(to, name, A, patience()));
        if let [udp, second] = ask_udp(to, name, &[A, AAAA], None, (TRIES, &patience)).as_slice() {
            facts.udp = udp.clone();
            facts.second = second.clone();
        }
        let answers = facts.udp.answered() || facts.second.answered();
        if answers && (odd(&facts.udp) || odd(&facts.second)) {
            facts.again = ask_again(to, name, &patience);
        }
        if facts.udp.answered() {
            facts.large = Some(ask_much(to, questions, patience));
        }
        facts.tcp = tcp.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    facts
}

/// Whether a question was not answered at once.
fn odd(outcome: &DnsOutcome) -> bool {
    match outcome {
        DnsOutcome::Answered { ms, tries, .. } => *tries > 1 || *ms > LATE.as_secs_f64() * 1000.0,
        _ => outcome.failed(),
    }
}

/// Asks pairs of questions at the same time, a socket for each; none when no time is left.
fn ask_again(to: SocketAddr, name: &str, patience: &(impl Fn() -> Duration + Sync)) -> Vec<[DnsOutcome; 2]> {
    if patience().is_zero() {
        return Vec::new();
    }
    std::thread::scope(|scope| {
        let one = || ask_udp(to, name, &[A, AAAA], None, (1, patience));
        let threads: Vec<_> = (0..AGAIN).map(|_| scope.spawn(one)).collect();
        let pairs = threads.into_iter().filter_map(|thread| thread.join().ok()?.try_into().ok());
        pairs.collect()
    })
}

/// Asks both ways at the same time for the name that somebody knows, and where its answer is small for the root's
/// keys, which are the largest answer that every resolver can be asked for.
fn ask_much(
    to: SocketAddr,
    questions: &ServerQuestions,
    patience: impl Fn() -> Duration + Sync,
) -> LargeAnswer {
    let patience = || patience().min(LARGE_PATIENCE);
    let ask = |name: &str, kind, question: String| {
        std::thread::scope(|scope| {
            let tcp = scope.spawn(|| ask_tcp(to, name, kind, patience()));
            let udp = ask_udp(to, name, &[kind], Some(ALLOWED), (TRIES, &patience)).into_iter().next();
            LargeAnswer {
                question,
                allowed_bytes: ALLOWED,
                udp: udp.unwrap_or(DnsOutcome::NotAsked("no time was left".into())),
                tcp: tcp.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            }
        })
    };
    let large =
        |outcome: &DnsOutcome| matches!(outcome, DnsOutcome::Answered { bytes, .. } if *bytes > SMALL);
    if let Some(name) = &questions.large {
        let answer = ask(name, A, format!("A of {name}"));
        if large(&answer.udp) || large(&answer.tcp) {
            return answer;
        }
    }
    ask("", DNSKEY, "DNSKEY of the root".to_owned())
}

/// Sends all questions at once from one socket, and what is not answered again until `tries` are used up.
fn ask_udp(
    to: SocketAddr,
    name: &str,
    kinds: &[u16],
    edns: Option<u16>,
    (tries, patience): (u32, &impl Fn() -> Duration),
) -> Vec<DnsOutcome> {
    let start = Instant::now();
    let mut outcomes = vec![None; kinds.len()];
    let result = (|| -> io::Result<()> {
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        let asked = kinds.iter().map(|&kind| {
            RawQuestion::new(random_id()?, name, kind, edns)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no name that DNS has"))
        });
        let asked = asked.collect::<io::Result<Vec<_>>>()?;
        for tries in 1..=tries {
            for (question, outcome) in asked.iter().zip(&outcomes) {
                if outcome.is_none() {
                    socket.send(question.bytes())?;
                }
            }
            collect(&socket, &asked, &mut outcomes, (start, tries), Instant::now() + patience())?;
            if outcomes.iter().all(Option::is_some) {
                break;
            }
        }
        Ok(())
    })();
    let ms = start.elapsed().as_secs_f64() * 1000.0;
    let missing = match result {
        Err(error) => DnsOutcome::Refused(words(&error)),
        Ok(()) => DnsOutcome::Silent { ms },
    };
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| missing.clone())).collect()
}

/// Reads answers until all have come or `end`.
fn collect(
    socket: &UdpSocket,
    asked: &[RawQuestion],
    outcomes: &mut [Option<DnsOutcome>],
    (start, tries): (Instant, u32),
    end: Instant,
) -> io::Result<()> {
    let mut buffer = [0; MOST];
    while outcomes.iter().any(Option::is_none) {
        let Ok(left) = left_until(end) else { return Ok(()) };
        socket.set_read_timeout(Some(left))?;
        let received = match socket.recv(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..received).unwrap_or_default();
        for (question, outcome) in asked.iter().zip(outcomes.iter_mut()) {
            if let (None, Some(reply)) = (&*outcome, question.read(bytes)) {
                *outcome = Some(answered(reply, bytes, start, tries));
            }
        }
    }
    Ok(())
}

fn ask_tcp(to: SocketAddr, name: &str, kind: u16, patience: Duration) -> DnsOutcome {
    let start = Instant::now();
    let ask = || -> io::Result<DnsOutcome> {
        // Signatures come only when they are asked for, which takes EDNS; its size limits nothing over TCP.
        let question = RawQuestion::new(random_id()?, name, kind, (kind == DNSKEY).then_some(ALLOWED))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no name that DNS has"))?;
        // Two flights: a SYN that is lost is sent again after a second.
        let answer = over_tcp(to, question.bytes(), start + patience * TRIES)?;
        let reply = question
            .read(&answer)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what came is no answer"))?;
        Ok(answered(reply, &answer, start, 1))
    };
    match ask() {
        Ok(outcome) => outcome,
        Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            DnsOutcome::Silent { ms: start.elapsed().as_secs_f64() * 1000.0 }
        }
        Err(error) => DnsOutcome::Refused(words(&error)),
    }
}

/// The kernel's word without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn answered(reply: RawReply, bytes: &[u8], start: Instant, tries: u32) -> DnsOutcome {
    DnsOutcome::Answered {
        code: code_name(reply.code),
        bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        ms: start.elapsed().as_secs_f64() * 1000.0,
        truncated: reply.truncated,
        tries,
    }
}
