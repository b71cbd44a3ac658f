//! Rules on name resolution: what a pod's own servers answered from inside its namespace.

mod rules;
#[cfg(test)]
mod tests;

pub use rules::*;

use crate::facts::{Check, DnsOutcome, Evidence, Finding, LargeAnswer, NameResolution, NameServer};

/// An answer that took longer than this is slow, ms: a resolver of a cluster answers from its memory.
const SLOW_MS: f64 = 1000.0;

/// What the answers say is wrong, and what was looked at.
pub fn check_names(subject: &str, names: &NameResolution) -> (Vec<Check>, Vec<Finding>) {
    let mut findings = check_file(subject, names);
    findings.extend(check_reach(subject, names));
    for server in &names.servers {
        findings.extend(check_answers(subject, server));
    }
    findings.extend(check_lookup(subject, names));
    (checks(names, &findings), findings)
}

fn checks(names: &NameResolution, findings: &[Finding]) -> Vec<Check> {
    let found = |ids: &[&str]| findings.iter().find(|f| ids.contains(&f.id)).map(|f| f.summary.clone());
    let mut checks = Vec::new();
    let mut check = |id: &'static str, ids: &[&str], seen: Result<String, String>| {
        checks.push(match (found(ids), seen) {
            (Some(summary), _) => Check::failed(id, summary),
            (None, Ok(seen)) => Check::passed(id, seen),
            (None, Err(obstacle)) => Check::not_checked(id, obstacle),
        });
    };
    let list = names.servers.iter().map(|s| s.address.to_string()).collect::<Vec<_>>().join(", ");
    check("dns.resolv_conf", &[RESOLV_CONF_ODD.id, NO_SERVER.id], Ok(format!("names {list}")));
    let udp = [NO_ANSWER.id, SERVER_SILENT.id, UDP_LOST.id, HALF_ANSWERED.id, SLOW.id, SERVER_FAILS.id];
    let asked = names.servers.iter().any(|s| s.udp.answered());
    let not_asked = names.servers.iter().find_map(|s| match &s.udp {
        DnsOutcome::NotAsked(why) => Some(why.clone()),
        _ => None,
    });
    let answer = |by: &str| format!("{list} answered over {by}");
    let once = names.servers.iter().find(|s| Times::of(s).is_undecided());
    let over_udp = match once {
        Some(s) => Err(format!("{} answered late, and no time was left to ask it again", s.address)),
        None if asked => Ok(answer("UDP")),
        None => Err(not_asked.unwrap_or_default()),
    };
    check("dns.udp", &udp, over_udp);
    let tcp = names.servers.iter().all(|s| s.tcp.answered());
    check(
        "dns.tcp",
        &[NO_ANSWER.id, TCP_FAILS.id],
        if tcp { Ok(answer("TCP")) } else { Err("not asked".into()) },
    );
    check("dns.large_answers", &[LARGE_LOST.id, TRUNCATED.id], large_seen(&names.servers));
    checks
}

/// The size of a large answer that came whole, or why there was none.
fn large_seen(servers: &[NameServer]) -> Result<String, String> {
    let mut obstacle = "no server answered a small question".to_owned();
    for large in servers.iter().filter_map(|s| s.large.as_ref()) {
        match (&large.udp, &large.tcp) {
            (DnsOutcome::Answered { bytes, truncated: false, .. }, _) if *bytes > 512 => {
                return Ok(format!("{bytes} bytes came over UDP ({})", large.question));
            }
            (DnsOutcome::Answered { truncated: true, .. }, DnsOutcome::Answered { bytes, .. }) => {
                return Ok(format!("cut short over UDP, {bytes} bytes came over TCP ({})", large.question));
            }
            (DnsOutcome::Answered { code, bytes, .. }, _) => {
                obstacle = format!("the answer to {} has only {bytes} bytes ({code})", large.question);
            }
            _ => obstacle = format!("nothing came for {}, neither over UDP nor over TCP", large.question),
        }
    }
    Err(obstacle)
}

fn check_file(subject: &str, names: &NameResolution) -> Vec<Finding> {
    let mut findings = Vec::new();
    let seen = |what: &'static str, value: serde_json::Value| {
        vec![Evidence::text(what, value, "/etc/resolv.conf of the pod")]
    };
    if let Some(odd) = &names.odd {
        findings.push(RESOLV_CONF_ODD.finding(
            subject,
            format!("its /etc/resolv.conf is {odd}"),
            seen("what stands there", odd.clone().into()),
            RESOLV_CONF_ODD.fix,
        ));
    } else if !names.named {
        findings.push(NO_SERVER.finding(
            subject,
            "its /etc/resolv.conf names no server: lookups go to 127.0.0.1, in the pod itself",
            seen("servers named", 0.into()),
            NO_SERVER.fix,
        ));
    }
    if names.ignored_servers > 0 {
        let all = names.ignored_servers + u32::try_from(names.servers.len()).unwrap_or(0);
        findings.push(TOO_MANY_SERVERS.finding(
            subject,
            format!("its /etc/resolv.conf names {all} servers, and a resolver asks the first 3"),
            seen("servers named", all.into()),
            TOO_MANY_SERVERS.fix,
        ));
    }
    findings
}

/// What a server did, as evidence.
fn saw(server: &NameServer, how: &'static str, outcome: &DnsOutcome) -> Evidence {
    let value = match outcome {
        DnsOutcome::Answered { code, bytes, ms, .. } => format!("{code}, {bytes} bytes after {ms:.1} ms"),
        DnsOutcome::Silent { ms } => format!("nothing in {ms:.0} ms"),
        DnsOutcome::Refused(why) | DnsOutcome::NotAsked(why) => why.clone(),
    };
    Evidence::text(
        format!("{} over {how}", server.question),
        value,
        format!("name server {}", server.address),
    )
}

fn both(server: &NameServer) -> [Evidence; 2] {
    [saw(server, "UDP", &server.udp), saw(server, "TCP", &server.tcp)]
}

/// Which servers can be reached at all.
fn check_reach(subject: &str, names: &NameResolution) -> Vec<Finding> {
    let dead: Vec<&NameServer> = names.servers.iter().filter(|s| s.udp.failed()).collect();
    let alive = names.servers.iter().any(|s| s.udp.answered());
    let over_tcp: Vec<&NameServer> = dead.iter().copied().filter(|s| s.tcp.answered()).collect();
    let list = |servers: &[&NameServer]| {
        servers.iter().map(|s| s.address.to_string()).collect::<Vec<_>>().join(", ")
    };
    let Some(first) = dead.first() else { return Vec::new() };
    let evidence = dead.iter().copied().flat_map(both).collect();
    let how = match &first.udp {
        DnsOutcome::Refused(why) => format!(" ({why})"),
        _ => String::new(),
    };
    let one = if alive {
        SERVER_SILENT.finding(
            subject,
            format!(
                "name server {} does not answer{how}: a lookup that asks it first waits {} s",
                list(&dead),
                names.timeout_ms / 1000
            ),
            evidence,
            SERVER_SILENT.fix,
        )
    } else if over_tcp.is_empty() {
        let plural = if dead.len() == 1 { "its name server" } else { "none of its name servers" };
        let verb = if dead.len() == 1 { "does not answer" } else { "answers" };
        NO_ANSWER.finding(
            subject,
            format!("{plural} {} {verb}{how}: no name can be looked up", list(&dead)),
            evidence,
            no_answer_fix(subject, first),
        )
    } else {
        UDP_LOST.finding(
            subject,
            format!("name server {} answers over TCP and not over UDP, which resolvers use", list(&over_tcp)),
            evidence,
            UDP_LOST.fix,
        )
    };
    vec![one]
}

/// A server of the cluster is looked for elsewhere than one of the node's network.
fn no_answer_fix(subject: &str, server: &NameServer) -> String {
    let way = format!("nsprobe diagnose {subject} {} measures the way there.", server.address);
    if server.question.contains(".svc.") {
        return format!("{} {way}", NO_ANSWER.fix);
    }
    format!("Find out whether {} lives and may be asked from here; {way}", server.address)
}

/// How often pairs of questions at once were answered as they should be.
struct Times {
    pairs: u32,
    /// Of which one question was answered at once, and the other not.
    half: u32,
    /// Of which one at least came late, or not at the first try.
    late: u32,
    /// Whether it was asked more often than once.
    again: bool,
}

impl Times {
    fn of(server: &NameServer) -> Self {
        // Not at once: lost on the first try, whatever became of the second.
        let at_once = |o: &DnsOutcome| matches!(o, DnsOutcome::Answered { tries: 1, .. });
        let slow = |o: &DnsOutcome| !matches!(o, DnsOutcome::Answered { tries: 1, ms, .. } if *ms <= SLOW_MS);
        let mut times = Self { pairs: 0, half: 0, late: 0, again: !server.again.is_empty() };
        let first = [&server.udp, &server.second];
        for [a, aaaa] in std::iter::once(first).chain(server.again.iter().map(|[a, aaaa]| [a, aaaa])) {
            times.pairs += 1;
            times.half += u32::from(at_once(a) != at_once(aaaa));
            times.late += u32::from(slow(a) || slow(aaaa));
        }
        // What was never answered was asked for twice, from one socket: two samples by themselves.
        let one = (server.udp.failed(), server.second.failed());
        if !times.again && matches!(one, (true, false) | (false, true)) {
            times.pairs += 1;
            times.half += 1;
        }
        times
    }

    /// Late, and once only.
    fn is_undecided(&self) -> bool {
        !self.again && self.late == 1 && self.half <= 1
    }
}

/// How a server that can be reached answers.
fn check_answers(subject: &str, server: &NameServer) -> Vec<Finding> {
    let mut findings = Vec::new();
    let DnsOutcome::Answered { code, .. } = &server.udp else { return findings };
    let address = server.address;
    let mut find = |rule: &super::Rule, summary: String, evidence: Vec<Evidence>| {
        findings.push(rule.finding(subject, summary, evidence, rule.fix.replace("SOURCE", subject)));
    };
    if matches!(code.as_str(), "SERVFAIL" | "REFUSED" | "NXDOMAIN") && server.question.contains(".svc.") {
        find(
            &SERVER_FAILS,
            format!("name server {address} answers {code} for {}, which every cluster has", server.question),
            vec![saw(server, "UDP", &server.udp)],
        );
    }
    let times = Times::of(server);
    let servfail = code == "SERVFAIL" && !server.question.contains(".svc.");
    let first = || vec![saw(server, "UDP, as A", &server.udp), saw(server, "UDP, as AAAA", &server.second)];
    let counted = |what: &'static str, count: u32| {
        let source = format!("name server {address}, asked {} times", times.pairs);
        first().into_iter().chain([Evidence::new(what, count, "times", source)]).collect()
    };
    if servfail {
        find(
            &SERVER_HELPLESS,
            format!(
                "name server {address} answers SERVFAIL for {}: it may reach no server above it",
                server.question
            ),
            vec![saw(server, "UDP", &server.udp)],
        );
    }
    if times.half > 1 {
        let how = format!("only one was answered, {} of {} times", times.half, times.pairs);
        find(
            &HALF_ANSWERED,
            format!("name server {address}: A and AAAA asked at once, as the C library does: {how}"),
            counted("pairs of which one question was answered", times.half),
        );
    } else if times.late > 1 {
        find(
            &SLOW,
            format!(
                "name server {address} answered late or only when it was asked again, {} of {} times",
                times.late, times.pairs
            ),
            counted("pairs that were answered late or not at once", times.late),
        );
    }
    if server.tcp.failed() {
        find(
            &TCP_FAILS,
            format!("name server {address} answers over UDP and not over TCP"),
            both(server).to_vec(),
        );
    }
    if let Some(large) = &server.large {
        findings.extend(check_large(subject, server, large));
    }
    findings
}

fn check_large(subject: &str, server: &NameServer, large: &LargeAnswer) -> Option<Finding> {
    let address = server.address;
    let asked = |how: &'static str, outcome: &DnsOutcome| {
        let named = NameServer { question: large.question.clone(), ..server.clone() };
        saw(&named, how, outcome)
    };
    let evidence = vec![asked("UDP", &large.udp), asked("TCP", &large.tcp)];
    match (&large.udp, &large.tcp) {
        (DnsOutcome::Silent { .. }, DnsOutcome::Answered { bytes, .. }) if *bytes > 512 => {
            Some(LARGE_LOST.finding(
                subject,
                format!(
                    "an answer of {bytes} bytes from name server {address} is lost over UDP and comes over TCP; small ones come"
                ),
                evidence,
                LARGE_LOST.fix,
            ))
        }
        (DnsOutcome::Answered { truncated: true, .. }, tcp) if tcp.failed() => Some(TRUNCATED.finding(
            subject,
            format!("name server {address} cuts a large answer short, and cannot be asked for the rest over TCP"),
            evidence,
            TRUNCATED.fix,
        )),
        _ => None,
    }
}

/// The look-up of the target itself.
fn check_lookup(subject: &str, names: &NameResolution) -> Option<Finding> {
    let lookup = names.lookup.as_ref()?;
    let source = "name servers of the pod's resolv.conf";
    if let Some(error) = &lookup.error {
        return Some(NAME_FAILS.finding(
            subject,
            format!("{} cannot be looked up: {error}", lookup.name),
            vec![Evidence::text("answer", error.clone(), source)],
            NAME_FAILS.fix,
        ));
    }
    if lookup.asked_before == 0 {
        return None;
    }
    let questions = lookup.asked_before + 1;
    let evidence = vec![
        Evidence::new("names that were asked for in vain", lookup.asked_before, "names", source),
        Evidence::text("ndots", names.ndots, "/etc/resolv.conf of the pod"),
        Evidence::new("time of the whole lookup", (lookup.ms * 10.0).round() / 10.0, "ms", "the lookup"),
    ];
    Some(AMPLIFIED.finding(
        subject,
        format!(
            "{} takes {questions} names to look up, A and AAAA of each: {} search domains come first",
            lookup.name, lookup.asked_before
        ),
        evidence,
        format!(
            "Write {}. with a dot at its end, or set dnsConfig.options ndots to {} in the pod.",
            lookup.name,
            lookup.name.matches('.').count().max(1)
        ),
    ))
}
