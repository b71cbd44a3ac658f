//! Flows of one path, searched at the same time: some may take another way.

use super::looped::{loop_ends_at, looped};
use super::refused::{refusal, refused_by};
use super::rules::{FLOWS_BY_ADDRESS, FLOWS_DIFFER};
use super::{PathFacts, asked, fate, is_port_refused};
use crate::facts::{Evidence, Finding, Method, PathResult, Severity, Verdict};

/// Findings on searches of the same path with other flows.
pub fn check_flows(facts: &PathFacts, path: &PathResult, others: &[PathResult]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = check_sizes_of_flows(facts, path, others).into_iter().collect();
    findings.extend(check_dead_flows(facts, path, others));
    if findings.is_empty() {
        findings.extend(check_alike_flows(facts, path, others));
    }
    findings
}

/// Flows of echo requests that agree: that they took different ways is not known.
fn check_alike_flows(facts: &PathFacts, path: &PathResult, others: &[PathResult]) -> Option<Finding> {
    let measured = matches!(path.verdict, Verdict::Clear | Verdict::Narrowed | Verdict::BlackHole);
    let by_echo = others.iter().chain([path]).all(|flow| flow.method == Method::Icmp);
    if others.is_empty() || !measured || !by_echo {
        return None;
    }
    let flows = others.len() + 1;
    Some(FLOWS_BY_ADDRESS.finding(
        &facts.subject,
        format!(
            "{flows} flows of echo requests to {} agree; routers that choose among paths by addresses alone send them all one way",
            facts.target
        ),
        vec![Evidence::new("flows told apart by their ICMP id only", flows, "flows", asked(path))],
        FLOWS_BY_ADDRESS.fix,
    ))
}

/// Flows that are carried, but not all by the same size.
fn check_sizes_of_flows(facts: &PathFacts, path: &PathResult, others: &[PathResult]) -> Option<Finding> {
    let mut sizes: Vec<u32> = others.iter().chain([path]).filter_map(|p| p.path_mtu_bytes).collect();
    let flows = sizes.len();
    sizes.sort_unstable();
    let (smallest, largest) = (*sizes.first()?, *sizes.last()?);
    // Of what is larger than the route lets out no connection has any.
    if smallest == largest || smallest >= facts.route_mtu {
        return None;
    }
    let narrow = sizes.iter().filter(|size| **size == smallest).count();
    Some(FLOWS_DIFFER.finding(
        &facts.subject,
        format!(
            "{narrow} of {flows} flows to {} carry only {smallest} bytes, others up to {largest}",
            facts.target
        ),
        vec![
            Evidence::new("smallest path MTU of a flow", smallest, "bytes", asked(path)),
            Evidence::new("largest path MTU of a flow", largest, "bytes", asked(path)),
        ],
        FLOWS_DIFFER.fix,
    ))
}

/// Flows that reach the target with no size, where others do. What was refused or went round was told so; silence is no
/// proof, where answers are limited and all flows ask at once.
fn check_dead_flows(facts: &PathFacts, path: &PathResult, others: &[PathResult]) -> Vec<Finding> {
    let all = || others.iter().chain([path]);
    let flows = all().count();
    let dead: Vec<&PathResult> = all().filter(|p| p.verdict == Verdict::Unreachable).collect();
    if dead.len() == flows {
        return vec![];
    }
    let (subject, target) = (&facts.subject, &facts.target);
    // Each word once, with how many it was said to.
    let mut words: Vec<(String, Evidence, usize)> = vec![];
    for (said, seen) in dead.iter().filter_map(|p| told(p)) {
        match words.iter_mut().find(|(word, ..)| *word == said) {
            Some((.., count)) => *count += 1,
            None => words.push((said, seen, 1)),
        }
    }
    let silent = dead.len() - words.iter().map(|(.., count)| count).sum::<usize>();
    let of_word = |(said, seen, count): (String, Evidence, usize)| {
        let count_of = Evidence::new("flows that do not arrive", count, "flows", asked(path));
        let said = format!("{count} of {flows} flows to {target} {said}, others arrive");
        FLOWS_DIFFER.finding(
            subject,
            said,
            vec![count_of, seen],
            "Find the member of the group that these take: nsprobe mtu --flows 16 -v; its route to the target, or the policy on its way, is not that of the others.",
        )
    };
    let mut findings: Vec<Finding> = words.into_iter().map(of_word).collect();
    if silent > 0 {
        let mut finding = FLOWS_DIFFER.finding(
            subject,
            format!("{silent} of {flows} flows to {target} got no answer of any size, others did"),
            vec![Evidence::new("flows without an answer", silent, "flows", asked(path))],
            "ask again: where the same share stays silent, a member of an ECMP group drops everything, or a firewall does so by flow; where it changes, answers are limited (--flows 1 gets all of them)",
        );
        finding.severity = Severity::Info;
        findings.push(finding);
    }
    findings
}

/// What somebody said of a flow of which nothing arrives. Where smaller packets drew nothing, they may have arrived.
fn told(path: &PathResult) -> Option<(String, Evidence)> {
    if let Some(refused) = refusal(path, false).filter(|refused| refused.least) {
        return Some((refused.said(), refused_by(refused)));
    }
    if let Some((end, _)) = looped(path) {
        return Some(("go round in a loop".to_owned(), loop_ends_at(end)));
    }
    let seen = || Evidence::text("connections of these flows", "host or network unreachable", "connect(2)");
    is_port_refused(path).then(|| (fate(path), seen()))
}
