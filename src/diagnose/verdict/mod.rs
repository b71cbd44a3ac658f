//! One verdict from many findings and checks, and the findings in order: what explains others comes first.

mod causes;

use super::kernel::OTHER_REMOTES;
use crate::facts::{Check, Finding, Health, Outcome, Severity};
use causes::EXPLAINS;

/// Checks without which nobody can call a source healthy: whether the pod runs, its links and routes and those
/// of its node, how its packets are moved, its sockets, its name servers, and whatever was asked for by name (the
/// target, its path, its port). With no target at least one path has to be measured (`path.any`).
pub const ESSENTIAL: &[&str] = &[
    "pod.state",
    "links.own",
    "links.host",
    "net.datapath",
    "pod.attachment",
    "sockets.read",
    "dns.resolv_conf",
    "dns.udp",
    "target.resolved",
    "path.target",
    "path.any",
    "connect.port",
];

/// The verdict: critical findings break, warnings degrade, and what essential check could not look never counts
/// as healthy.
pub fn verdict(findings: &[Finding], checks: &[Check]) -> Health {
    let blind = |c: &Check| c.outcome == Outcome::NotChecked && ESSENTIAL.contains(&c.id.as_ref());
    match findings.iter().map(|f| f.severity).max() {
        Some(Severity::Critical) => Health::Broken,
        Some(Severity::Warning) => Health::Degraded,
        _ if checks.iter().any(blind) => Health::Unknown,
        _ => Health::Healthy,
    }
}

/// A veth lets the four bytes of a VLAN tag more through than its MTU.
const SLACK: u64 = 4;

/// Findings in the order in which they are read, and what each follows from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ranked {
    /// Causes before their consequences, the worst first; a cause counts as bad as the worst that it explains.
    pub findings: Vec<Finding>,
    /// For each finding the place of the one that explains it.
    pub because: Vec<Option<usize>>,
}

/// Puts the root cause first. `answers`: the target was asked and answered, so that nothing on the way to it drops all.
pub fn rank(mut findings: Vec<Finding>, answers: bool) -> Ranked {
    let mut seen: Vec<Finding> = Vec::new();
    findings.retain(|finding| {
        let new = !seen.contains(finding);
        if new {
            seen.push(finding.clone());
        }
        new
    });
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let parents: Vec<Option<usize>> = (0..findings.len()).map(|at| cause(&findings, at, answers)).collect();
    let root = |mut at: usize| {
        // A table with a circle in it must not hang: a way is never longer than the list.
        for _ in 0..parents.len() {
            match parents.get(at).copied().flatten() {
                Some(parent) => at = parent,
                None => break,
            }
        }
        at
    };
    let depth = |mut at: usize| {
        let mut depth = 0;
        while let Some(parent) = parents.get(at).copied().flatten().filter(|_| depth < parents.len()) {
            at = parent;
            depth += 1;
        }
        depth
    };
    let roots: Vec<usize> = (0..findings.len()).map(root).collect();
    let severity = |at: usize| findings.get(at).map(|f| f.severity);
    let worst = |root: usize| {
        (0..findings.len()).filter(|&at| roots.get(at) == Some(&root)).filter_map(severity).max()
    };
    let mut order: Vec<usize> = (0..findings.len()).collect();
    order.sort_by_key(|&at| {
        let root = roots.get(at).copied().unwrap_or(at);
        // Of two equally bad the one that explains more.
        let explains = roots.iter().filter(|&&r| r == root).count();
        // What was asked for comes before what is broken elsewhere.
        let elsewhere = answers && !findings.get(root).is_some_and(is_of_the_target);
        let place = (std::cmp::Reverse(worst(root)), elsewhere, std::cmp::Reverse(explains), root);
        (place, depth(at), std::cmp::Reverse(severity(at)), at)
    });
    let place = |at: usize| order.iter().position(|&o| o == at);
    let because = order.iter().map(|&at| parents.get(at).copied().flatten().and_then(place)).collect();
    let findings = order.iter().filter_map(|&at| findings.get(at).cloned()).collect();
    Ranked { findings, because }
}

/// The finding that explains the one at `at`: by the first line of the table that fits, one on the same subject
/// before one on another (a bridge may have ports that are not on this way).
fn cause(findings: &[Finding], at: usize, answers: bool) -> Option<usize> {
    let consequence = findings.get(at)?;
    // What lets an echo through does not keep a connection from being made by losing all packets.
    let refuted = |explained: &[&str]| {
        answers && is_of_the_target(consequence) && explained.contains(&"mtu.unreachable")
    };
    let lines = || {
        EXPLAINS.iter().filter(|(id, explained)| {
            *id != consequence.id && explained.contains(&consequence.id) && !refuted(explained)
        })
    };
    let fits =
        |id: &str, cause: &Finding| cause.id == id && is_on_the_way(cause) && sizes_agree(cause, consequence);
    let on = |same: bool| {
        lines().find_map(|(id, _)| {
            findings
                .iter()
                .position(|cause| (cause.subject == consequence.subject) == same && fits(id, cause))
        })
    };
    on(true).or_else(|| on(false))
}

/// Whether a finding is about the connection to the target that was named.
fn is_of_the_target(finding: &Finding) -> bool {
    finding.id.starts_with("connect.")
}

/// A node has ways to many: one that is broken explains only what must have taken it.
fn is_on_the_way(cause: &Finding) -> bool {
    match cause.id {
        // Of a way that nothing was asked by it is no more than a warning.
        "net.gateway_silent" => cause.severity == Severity::Critical,
        "net.tunnel_remote_silent" => {
            cause.evidence.iter().any(|e| e.what == OTHER_REMOTES && e.value.as_u64() == Some(0))
        }
        _ => true,
    }
}

/// Where both speak of sizes they have to speak of the same: what arrives at most is a size that the cause names,
/// or the difference of two. Where the consequence names none the table decides.
fn sizes_agree(cause: &Finding, consequence: &Finding) -> bool {
    let arrives = consequence
        .evidence
        .iter()
        .find(|e| e.what == "largest packet that arrived" || e.what.starts_with("path MTU to "))
        .and_then(|e| e.value.as_u64());
    let Some(arrives) = arrives else { return true };
    let sizes: Vec<u64> = cause
        .evidence
        .iter()
        .filter(|e| e.unit.as_deref() == Some("bytes"))
        .filter_map(|e| e.value.as_u64())
        .collect();
    let near = |size: u64| (size..=size.saturating_add(SLACK)).contains(&arrives);
    sizes.iter().any(|&size| near(size)) || sizes.iter().any(|&a| sizes.iter().any(|&b| a > b && near(a - b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{Rule, connect, links, path, resolve, tunnel_path};
    use crate::facts::Evidence;

    fn finding(rule: &Rule, sizes: &[(&'static str, u32)]) -> Finding {
        let mut evidence: Vec<Evidence> =
            sizes.iter().map(|(what, size)| Evidence::new(*what, *size, "bytes", "x")).collect();
        if evidence.is_empty() {
            evidence.push(Evidence::text("x", "x", "x"));
        }
        rule.finding("default/web-0", rule.id, evidence, rule.fix)
    }

    fn order(findings: Vec<Finding>) -> Vec<(&'static str, Option<usize>)> {
        let ranked = rank(findings, false);
        ranked.findings.iter().map(|f| f.id).zip(ranked.because).collect()
    }

    #[test]
    fn what_is_broken_elsewhere_explains_nothing() {
        let silent = |severity, others: Option<u64>| {
            let mut gateway = finding(&crate::diagnose::kernel::GATEWAY_SILENT, &[]);
            let mut remote = finding(&crate::diagnose::kernel::TUNNEL_REMOTE_SILENT, &[]);
            gateway.severity = severity;
            remote.evidence.extend(others.map(|n| Evidence::new(OTHER_REMOTES, n, "peers", "x")));
            [gateway, remote].map(|cause| {
                let ranked = rank(vec![cause, finding(&connect::SILENT, &[])], false);
                ranked.because.iter().any(Option::is_some)
            })
        };
        assert_eq!(silent(Severity::Critical, Some(0)), [true, true]);
        assert_eq!(silent(Severity::Warning, Some(3)), [false, false]);
        assert_eq!(silent(Severity::Warning, None), [false, false]);
    }

    #[test]
    fn what_drops_all_on_the_way_is_no_cause_where_the_target_answers() {
        let peer = || finding(&crate::diagnose::kernel::TUNNEL_PEER_UNKNOWN, &[]);
        let all = || vec![peer(), finding(&connect::SILENT, &[]), finding(&resolve::NO_ANSWER, &[])];
        let ranked = rank(all(), true);
        assert_eq!(ranked.findings[0].id, "connect.silent");
        assert_eq!(ranked.because[0], None);
        let names = ranked.findings.iter().position(|f| f.id == "dns.no_answer").unwrap();
        assert!(ranked.because[names].is_some(), "of others it may be");
        assert_eq!(rank(all(), false).findings[0].id, peer().id);
        // What drops some of them may be.
        let full = finding(&crate::diagnose::kernel::CONNTRACK_FULL, &[]);
        let ranked = rank(vec![full, finding(&connect::SILENT, &[])], true);
        assert!(ranked.because.iter().any(Option::is_some));
    }

    const ARRIVES: &str = "largest packet that arrived";

    #[test]
    fn the_root_cause_stands_before_what_it_explains_however_mild_it_is() {
        let tunnel = [("tunnel", 1500), ("overhead", 50), ("below", 1500)];
        let all = vec![
            finding(&path::NO_RECOVERY, &[]),
            finding(&path::BLACK_HOLE, &[(ARRIVES, 1450)]),
            finding(&connect::REFUSED, &[]),
            finding(&links::TUNNEL_EXCEEDS_UNDERLAY, &tunnel),
        ];
        assert_eq!(
            order(all),
            [
                ("links.tunnel_exceeds_underlay", None),
                ("mtu.black_hole", Some(0)),
                ("mtu.no_recovery", Some(1)),
                ("connect.refused", None),
            ]
        );
    }

    #[test]
    fn a_cause_of_another_size_explains_nothing() {
        let mismatch = finding(&links::VETH_MTU_MISMATCH, &[("inside", 9000), ("outside", 1500)]);
        let hole = finding(&path::BLACK_HOLE, &[(ARRIVES, 1354)]);
        assert_eq!(
            order(vec![mismatch.clone(), hole.clone()]),
            [("mtu.black_hole", None), ("links.veth_mtu_mismatch", None)]
        );
        // A veth lets four bytes more through than it says, and a tunnel takes its overhead of what is below.
        let below = finding(
            &tunnel_path::TUNNEL_EXCEEDS_PATH,
            &[("mtu", 1450), ("overhead", 50), ("path MTU to x", 1400)],
        );
        assert_eq!(
            order(vec![mismatch, hole, below]),
            [("tunnel.exceeds_path", None), ("mtu.black_hole", Some(0)), ("links.veth_mtu_mismatch", None)]
        );
    }

    #[test]
    fn of_two_causes_that_fit_the_one_on_the_same_subject_counts() {
        let sizes = [("pod", 1500), ("tunnel", 1450)];
        let mut other = finding(&links::BRIDGE_PORT_SMALLER, &sizes);
        other.subject = "host".into();
        let own = finding(&links::POD_EXCEEDS_TUNNEL, &sizes);
        let hole = finding(&path::BLACK_HOLE, &[(ARRIVES, 1450)]);
        assert_eq!(
            order(vec![other, own, hole]),
            [
                ("links.pod_exceeds_tunnel", None),
                ("mtu.black_hole", Some(0)),
                ("links.bridge_port_smaller", None)
            ]
        );
    }

    #[test]
    fn what_is_said_twice_is_told_once_and_mild_findings_come_last() {
        let all = vec![
            finding(&resolve::TCP_FAILS, &[]),
            finding(&resolve::SLOW, &[]),
            finding(&resolve::SLOW, &[]),
        ];
        assert_eq!(order(all), [("dns.slow", None), ("dns.tcp_fails", None)]);
    }

    #[test]
    fn every_line_of_the_table_names_rules_and_no_circle() {
        let known: Vec<&str> = crate::diagnose::rules().iter().map(|r| r.id).collect();
        for (cause, explained) in EXPLAINS {
            assert!(known.contains(cause), "{cause} is no rule");
            for id in *explained {
                assert!(known.contains(id), "{id} is no rule");
            }
        }
    }

    #[test]
    fn nothing_explains_itself_by_any_detour() {
        fn reaches(from: &str, to: &str, depth: usize) -> bool {
            let next = EXPLAINS.iter().filter(|(cause, _)| *cause == from).flat_map(|(_, e)| e.iter());
            let mut next = next.filter(|id| **id != from);
            depth > 0 && next.any(|id| *id == to || reaches(id, to, depth - 1))
        }
        for (cause, _) in EXPLAINS {
            assert!(!reaches(cause, cause, 6), "{cause} explains itself");
        }
    }

    #[test]
    fn what_could_not_be_looked_at_is_never_healthy() {
        let passed = Check::passed("links.own", "x");
        let blind = Check::not_checked("net.datapath", "Cilium");
        let extra = Check::not_checked("dns.large_answers", "no large name");
        let warning = finding(&resolve::SLOW, &[]);
        let info = finding(&resolve::TCP_FAILS, &[]);
        assert_eq!(verdict(&[], &[passed.clone(), extra.clone()]), Health::Healthy);
        assert_eq!(verdict(std::slice::from_ref(&info), &[passed.clone(), blind.clone()]), Health::Unknown);
        assert_eq!(verdict(&[info, warning], &[blind]), Health::Degraded);
        assert_eq!(verdict(&[finding(&connect::SILENT, &[])], &[passed]), Health::Broken);
    }
}
