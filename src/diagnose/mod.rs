//! Facts → findings: pure rules, one file a family, every rule with a stable id.

pub mod capture;
pub mod chain;
pub mod cluster;
mod cluster_mtu;
pub mod cluster_rules;
pub mod config;
mod config_fixes;
pub mod connect;
pub mod datapath;
pub mod ipam;
pub mod ipam_rules;
mod ipam_words;
pub mod kernel;
mod link_fixes;
pub mod links;
pub mod links_bridges;
pub mod links_routes;
pub mod links_tunnels;
pub mod node;
pub mod node_logs;
pub mod node_units;
pub mod path;
pub mod peers;
pub mod pod;
pub mod points;
pub mod reach;
pub mod resolve;
pub mod runtime;
mod shell;
pub mod sockets;
pub mod tunnel_path;
pub mod verdict;
pub mod why;

use crate::facts::{Evidence, Finding, Severity};
use schemars::JsonSchema;
use serde::Serialize;

/// A finding that nsprobe can make: what `nsprobe rules` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Stable id, `family.name`.
    pub id: &'static str,
    /// Severity of its findings.
    pub severity: Severity,
    /// What it means.
    pub meaning: &'static str,
    /// What to do about it in general; a finding's own fix names the thing.
    pub fix: &'static str,
}

impl Rule {
    /// A finding of this rule. Evidence is never empty: no evidence, no finding.
    pub fn finding(
        &self,
        subject: impl Into<String>,
        summary: impl Into<String>,
        evidence: Vec<Evidence>,
        fix: impl Into<String>,
    ) -> Finding {
        debug_assert!(!evidence.is_empty(), "{}: no evidence, no finding", self.id);
        Finding {
            id: self.id,
            severity: self.severity,
            subject: subject.into(),
            summary: summary.into(),
            evidence,
            fix: fix.into(),
        }
    }
}

/// Every rule of every family.
pub fn rules() -> Vec<&'static Rule> {
    [
        pod::RULES,
        links::RULES,
        reach::RULES,
        kernel::RULES,
        path::RULES,
        tunnel_path::RULES,
        resolve::RULES,
        connect::RULES,
        sockets::RULES,
        ipam_rules::RULES,
        why::rules::RULES,
        cluster_rules::RULES,
        runtime::RULES,
        node::RULES,
        capture::RULES,
        config::RULES,
        node_logs::RULES,
        node_units::RULES,
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_unique_and_have_a_family() {
        let mut ids: Vec<_> = super::rules().iter().map(|r| r.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        assert!(ids.iter().all(|id| id.split('.').count() == 2));
    }
}
