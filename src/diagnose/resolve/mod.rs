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
    check("dns.udp", &udp, if asked { Ok(answer("UDP")) } else { Err(not_asked.unwrap_or_default()) });
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

/// How a server that can be reached answers.
fn check_answers(subject: &str, server: &NameServer) -> Vec<Finding> {
    let mut findings = Vec::new();
    let DnsOutcome::Answered { code, ms, tries, .. } = &server.udp else { return findings };
    let address = server.address;
    let mut find = |rule: &super::Rule, summary: String, evidence: Vec<Evidence>| {
        findings.push(rule.finding(subject, summary, evidence, rule.fix));
    };
    if matches!(code.as_str(), "SERVFAIL" | "REFUSED" | "NXDOMAIN") && server.question.contains(".svc.") {
        find(
            &SERVER_FAILS,
            format!("name server {address} answers {code} for {}, which every cluster has", server.question),
            vec![saw(server, "UDP", &server.udp)],
        );
    }
    if server.second.failed() {
        let both = vec![saw(server, "UDP", &server.udp), saw(server, "UDP, as AAAA", &server.second)];
        let what = "A and AAAA asked at once, as the C library does: only one was answered";
        find(&HALF_ANSWERED, format!("name server {address}: {what}"), both);
    } else if *tries > 1 || *ms > SLOW_MS {
        let how = if *tries > 1 { "only when it was asked again" } else { "late" };
        find(
            &SLOW,
            format!("name server {address} answered {how}, after {ms:.0} ms"),
            vec![saw(server, "UDP", &server.udp)],
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
