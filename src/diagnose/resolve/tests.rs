use super::*;
use crate::facts::{NameLookup, Outcome};

fn answered(bytes: u32) -> DnsOutcome {
    DnsOutcome::Answered { code: "NOERROR".into(), bytes, ms: 0.4, truncated: false, tries: 1 }
}

fn code(code: &str) -> DnsOutcome {
    DnsOutcome::Answered { code: code.into(), bytes: 60, ms: 0.4, truncated: false, tries: 1 }
}

fn cut() -> DnsOutcome {
    DnsOutcome::Answered { code: "NOERROR".into(), bytes: 60, ms: 0.4, truncated: true, tries: 1 }
}

fn silent() -> DnsOutcome {
    DnsOutcome::Silent { ms: 1400.0 }
}

fn large(udp: DnsOutcome, tcp: DnsOutcome) -> Option<LargeAnswer> {
    Some(LargeAnswer { question: "DNSKEY of the root".into(), allowed_bytes: 4096, udp, tcp })
}

fn server(last: u8) -> NameServer {
    NameServer {
        address: [10, 96, 0, last].into(),
        question: "A of kubernetes.default.svc.cluster.local".into(),
        udp: answered(80),
        second: answered(80),
        again: Vec::new(),
        tcp: answered(80),
        large: large(answered(1139), DnsOutcome::NotAsked("whole".into())),
    }
}

fn dead(last: u8) -> NameServer {
    NameServer { udp: silent(), second: silent(), tcp: silent(), large: None, ..server(last) }
}

fn names(servers: Vec<NameServer>) -> NameResolution {
    NameResolution { servers, named: true, ndots: 5, timeout_ms: 5000, ..NameResolution::default() }
}

fn ids(names: &NameResolution) -> Vec<&'static str> {
    check_names("default/web-0", names).1.iter().map(|f| f.id).collect()
}

fn outcome(names: &NameResolution, id: &str) -> Outcome {
    check_names("default/web-0", names).0.iter().find(|c| c.id == id).unwrap().outcome
}

#[test]
fn servers_that_answer_everything_give_no_finding() {
    let well = names(vec![server(10), server(11)]);
    assert_eq!(ids(&well), [] as [&str; 0]);
    for id in ["dns.resolv_conf", "dns.udp", "dns.tcp", "dns.large_answers"] {
        assert_eq!(outcome(&well, id), Outcome::Passed, "{id}");
    }
}

#[test]
fn silence_of_all_of_one_and_over_udp_alone_are_told_apart() {
    let all = names(vec![dead(10), dead(11)]);
    assert_eq!(ids(&all), ["dns.no_answer"]);
    assert_eq!((outcome(&all, "dns.udp"), outcome(&all, "dns.tcp")), (Outcome::Failed, Outcome::Failed));
    assert_eq!(outcome(&all, "dns.large_answers"), Outcome::NotChecked);
    assert_eq!(ids(&names(vec![dead(10), server(11)])), ["dns.server_silent"]);
    let udp = NameServer { udp: silent(), second: silent(), large: None, ..server(10) };
    assert_eq!(ids(&names(vec![udp])), ["dns.udp_lost"]);
    let refused = DnsOutcome::Refused("Connection refused".into());
    let nobody = NameServer { udp: refused.clone(), tcp: refused, ..dead(10) };
    let (_, findings) = check_names("default/web-0", &names(vec![nobody]));
    assert!(findings[0].summary.contains("(Connection refused)"), "{}", findings[0].summary);
}

#[test]
fn large_answers_are_lost_only_when_tcp_shows_that_they_are_large() {
    let with =
        |udp: DnsOutcome, tcp: DnsOutcome| names(vec![NameServer { large: large(udp, tcp), ..server(10) }]);
    assert_eq!(ids(&with(silent(), answered(1700))), ["dns.large_answers_lost"]);
    // The server that has no such name, or is slow to fetch it, loses nothing.
    assert_eq!(ids(&with(silent(), silent())), [] as [&str; 0]);
    assert_eq!(outcome(&with(silent(), silent()), "dns.large_answers"), Outcome::NotChecked);
    assert_eq!(outcome(&with(code("SERVFAIL"), answered(60)), "dns.large_answers"), Outcome::NotChecked);
    assert_eq!(outcome(&with(cut(), answered(1700)), "dns.large_answers"), Outcome::Passed);
    assert_eq!(ids(&with(cut(), silent())), ["dns.truncated_without_tcp"]);
}

#[test]
fn how_a_server_answers_is_judged_too() {
    let one = |change: &dyn Fn(&mut NameServer)| {
        let mut server = server(10);
        change(&mut server);
        ids(&names(vec![server]))
    };
    assert_eq!(one(&|s| s.udp = code("NXDOMAIN")), ["dns.server_fails"]);
    assert_eq!(one(&|s| s.udp = code("SERVFAIL")), ["dns.server_fails"]);
    assert_eq!(one(&|s| s.tcp = silent()), ["dns.tcp_fails"]);
    // Outside a cluster an error for the root is no fault: a server without a way to the internet has none to ask.
    let root = |word: &'static str| {
        one(&|s| {
            s.question = "A of the root".into();
            s.udp = code(word);
        })
    };
    assert_eq!(root("SERVFAIL"), ["dns.servfail"]);
    assert_eq!(root("REFUSED"), [] as [&str; 0]);
}

#[test]
fn what_happened_once_is_chance_and_what_happens_again_is_told() {
    let late =
        |ms, tries| DnsOutcome::Answered { code: "NOERROR".into(), bytes: 60, ms, truncated: false, tries };
    let well = || [answered(80), answered(80)];
    let of = |udp: DnsOutcome, second: DnsOutcome, again: Vec<[DnsOutcome; 2]>| {
        names(vec![NameServer { udp, second, again, ..server(10) }])
    };
    // One packet lost, one answer late: never again.
    for (udp, second) in [
        (late(1001.0, 2), answered(80)),
        (late(1200.0, 1), answered(80)),
        (answered(80), late(1001.0, 2)),
        (late(600.0, 1), late(600.0, 1)),
    ] {
        let all = of(udp, second, vec![well(), well(), well(), well()]);
        assert_eq!((ids(&all), outcome(&all, "dns.udp")), (vec![], Outcome::Passed));
    }
    let slow = of(late(1001.0, 2), answered(80), vec![well(), well(), [silent(), silent()], well()]);
    assert_eq!(ids(&slow), ["dns.slow"]);
    let (_, findings) = check_names("default/web-0", &slow);
    assert!(findings[0].summary.contains("2 of 5 times"), "{}", findings[0].summary);
    assert_eq!(
        ids(&of(late(1200.0, 1), answered(80), vec![well(), [late(1100.0, 1), answered(80)]])),
        ["dns.slow"]
    );
    // The race of conntrack takes one of a pair, now and then; a server that drops AAAA always the same.
    let race = of(answered(80), late(1001.0, 2), vec![well(), [silent(), answered(80)], well(), well()]);
    assert_eq!(ids(&race), ["dns.half_answered"]);
    let drops = of(answered(80), silent(), vec![[answered(80), silent()]]);
    assert_eq!(ids(&drops), ["dns.half_answered"]);
    // Asked twice and never answered: that is more than one sample, though no time was left for others.
    assert_eq!(ids(&of(answered(80), silent(), vec![])), ["dns.half_answered"]);
    let once = of(late(1001.0, 2), answered(80), vec![]);
    assert_eq!((ids(&once), outcome(&once, "dns.udp")), (vec![], Outcome::NotChecked));
}

#[test]
fn the_file_itself_and_the_targets_name() {
    let odd =
        NameResolution { odd: Some("not a regular file".into()), named: false, ..names(vec![server(10)]) };
    assert_eq!(ids(&odd), ["dns.resolv_conf_odd"]);
    assert_eq!(outcome(&odd, "dns.resolv_conf"), Outcome::Failed);
    assert_eq!(ids(&NameResolution { named: false, ..names(vec![server(10)]) }), ["dns.no_server"]);
    assert_eq!(
        ids(&NameResolution { ignored_servers: 2, ..names(vec![server(10)]) }),
        ["dns.too_many_servers"]
    );
    let lookup = |asked_before, error: Option<&str>| NameResolution {
        lookup: Some(NameLookup {
            name: "db.example.com".into(),
            asked_before,
            ms: 2.0,
            error: error.map(Into::into),
        }),
        ..names(vec![server(10)])
    };
    assert_eq!(ids(&lookup(0, None)), [] as [&str; 0]);
    assert_eq!(ids(&lookup(3, None)), ["dns.search_amplification"]);
    assert_eq!(ids(&lookup(0, Some("server 10.96.0.10 did not answer"))), ["dns.target_fails"]);
}
