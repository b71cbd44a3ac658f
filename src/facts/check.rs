//! What was looked at, and what could not be: the `checks` of a report.

use schemars::JsonSchema;
use serde::Serialize;
use std::borrow::Cow;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It looked, and found nothing wrong.
    Passed,
    /// It looked, and a finding says what is wrong.
    Failed,
    /// It could not look: nothing is known, least of all that all is well.
    NotChecked,
}

/// One thing that was to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Stable id, `family.name`: `net.conntrack`.
    pub id: Cow<'static, str>,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen, or why nothing could be: one clause.
    pub why: String,
}

impl Check {
    /// It looked, and found nothing wrong: `why` says what it saw.
    pub fn passed(id: impl Into<Cow<'static, str>>, why: impl Into<String>) -> Self {
        Self { id: id.into(), outcome: Outcome::Passed, why: why.into() }
    }

    /// It found something wrong: `why` says it in short.
    pub fn failed(id: impl Into<Cow<'static, str>>, why: impl Into<String>) -> Self {
        Self { id: id.into(), outcome: Outcome::Failed, why: why.into() }
    }

    /// It could not look: `why` names the obstacle.
    pub fn not_checked(id: impl Into<Cow<'static, str>>, why: impl Into<String>) -> Self {
        Self { id: id.into(), outcome: Outcome::NotChecked, why: why.into() }
    }
}

/// The verdict of a report that looked at many things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing wrong was found, and everything essential was looked at.
    Healthy,
    /// A warning stands in the report.
    Degraded,
    /// A critical finding stands in it.
    Broken,
    /// Nothing wrong was found, but something essential could not be looked at.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_has_the_keys_and_words_of_the_contract() {
        let json = |check: &Check| serde_json::to_string(check).unwrap();
        assert_eq!(
            json(&Check::not_checked("net.conntrack", "no such file")),
            r#"{"id":"net.conntrack","outcome":"not_checked","why":"no such file"}"#
        );
        assert!(json(&Check::passed("a.b", "")).contains(r#""outcome":"passed""#));
        assert!(json(&Check::failed("a.b", "")).contains(r#""outcome":"failed""#));
    }
}
