//! Rules on a TCP connection to a port that the person named.

use super::Rule;
use crate::facts::{Check, Connect, ConnectOutcome, Evidence, Finding, Severity};

/// Somebody says no.
pub const REFUSED: Rule = Rule {
    id: "connect.refused",
    severity: Severity::Critical,
    meaning: "The port that was named refuses connections: nobody listens there, or a policy rejects them with an answer.",
    fix: "On the target look whether the server runs and on which address it listens (nsprobe sockets TARGET-POD); a server on 127.0.0.1 is seen by its own pod alone.",
};

/// Nobody says anything.
pub const SILENT: Rule = Rule {
    id: "connect.silent",
    severity: Severity::Critical,
    meaning: "Nothing answers a connection to the port that was named: a policy or firewall drops it, the target is down, or its answers do not find back.",
    fix: "Compare with the path (ICMP): when that answers, look for network policies, security groups and firewalls on this port; capture on both ends tells how far the SYN comes.",
};

/// There is no way.
pub const NO_WAY: Rule = Rule {
    id: "connect.no_way",
    severity: Severity::Critical,
    meaning: "The kernel has no way to the target, or a router said that there is none.",
    fix: "Look at the routes of the namespace: nsprobe links SOURCE -v.",
};

/// The first SYN was lost.
pub const SLOW: Rule = Rule {
    id: "connect.syn_lost",
    severity: Severity::Warning,
    meaning: "The connection opened only after a second or more: a SYN or its answer was lost and sent again (1 s, 3 s, 7 s). Checksum offload of a tunnel, a full conntrack table or accept queue do that.",
    fix: "Repeat it; then look at drops on the way (nsprobe links -v), conntrack -S, and at the listener's accept queue (nsprobe sockets TARGET-POD).",
};

/// All of this family.
pub const RULES: &[Rule] = &[REFUSED, SILENT, NO_WAY, SLOW];

/// The kernel sends a lost SYN again after a second (tcp_syn_retries, tcp(7)).
const RESENT_MS: f64 = 950.0;

/// What the attempt says.
pub fn check_connect(subject: &str, connect: &Connect) -> (Check, Option<Finding>) {
    let Connect { address, port, outcome } = connect;
    let to = if address.is_ipv6() { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
    let seen = |what: &'static str, ms: f64| {
        vec![Evidence::new(what, (ms * 10.0).round() / 10.0, "ms", format!("connect(2) to {to}"))]
    };
    let (rule, summary, evidence) = match outcome {
        ConnectOutcome::Open { ms } if *ms < RESENT_MS => {
            return (Check::passed("connect.port", format!("{to} opened in {ms:.1} ms")), None);
        }
        ConnectOutcome::Open { ms } => (
            &SLOW,
            format!("{to} opened only after {ms:.0} ms: the first SYN, or its answer, was lost"),
            seen("until it was open", *ms),
        ),
        ConnectOutcome::Refused { ms } => {
            (&REFUSED, format!("{to} refuses connections"), seen("until it was refused", *ms))
        }
        ConnectOutcome::Silent { ms } => {
            (&SILENT, format!("nothing answers a connection to {to}"), seen("waited", *ms))
        }
        ConnectOutcome::NoWay(why) => (
            &NO_WAY,
            format!("there is no way to {to}: {why}"),
            vec![Evidence::text("the kernel's word", why.clone(), format!("connect(2) to {to}"))],
        ),
        ConnectOutcome::NotTried(why) => return (Check::not_checked("connect.port", why.clone()), None),
    };
    (Check::failed("connect.port", summary.clone()), Some(rule.finding(subject, summary, evidence, rule.fix)))
}

/// A target that the namespace has no route to.
pub fn check_no_route(subject: &str, target: &str, why: &str) -> Finding {
    let evidence = vec![Evidence::text("the kernel's answer", why.to_owned(), "netlink RTM_GETROUTE")];
    NO_WAY.finding(
        subject,
        format!("there is no way to {target}: {why}"),
        evidence,
        NO_WAY.fix.replace("SOURCE", subject),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Outcome;

    fn checked(outcome: ConnectOutcome) -> (Outcome, Option<&'static str>) {
        let connect = Connect { address: [10, 0, 0, 1].into(), port: 80, outcome };
        let (check, finding) = check_connect("default/web-0", &connect);
        (check.outcome, finding.map(|f| f.id))
    }

    #[test]
    fn every_end_of_a_connection_has_its_own_name() {
        assert_eq!(checked(ConnectOutcome::Open { ms: 0.4 }), (Outcome::Passed, None));
        assert_eq!(checked(ConnectOutcome::Open { ms: 1003.0 }), (Outcome::Failed, Some("connect.syn_lost")));
        assert_eq!(checked(ConnectOutcome::Refused { ms: 1.0 }), (Outcome::Failed, Some("connect.refused")));
        assert_eq!(checked(ConnectOutcome::Silent { ms: 1.0 }), (Outcome::Failed, Some("connect.silent")));
        assert_eq!(checked(ConnectOutcome::NoWay("x".into())), (Outcome::Failed, Some("connect.no_way")));
        assert_eq!(checked(ConnectOutcome::NotTried("x".into())), (Outcome::NotChecked, None));
    }
}
