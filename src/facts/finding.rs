//! What a report says is wrong, with what was read to know it.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;

/// How much a finding matters; the exit code of a report comes from this and from nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing is broken because of it.
    Info,
    /// Something is or will be slow or broken for somebody.
    Warning,
    /// Traffic or pods are broken now.
    Critical,
}

/// One thing that was read: what, its value and unit, and where it was read.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// What was read, in words: `MTU of flannel.1`.
    pub what: Cow<'static, str>,
    /// The value as read; JSON number, string or boolean, null when it could not be read.
    pub value: Value,
    /// `bytes`, `packets`, `ms`, or null for text.
    pub unit: Option<Cow<'static, str>>,
    /// Where it was read: `netlink RTM_GETLINK`, a path, `ICMP from 10.0.0.1`.
    pub source: Cow<'static, str>,
}

impl Evidence {
    /// Evidence with a unit.
    pub fn new(
        what: impl Into<Cow<'static, str>>,
        value: impl Into<Value>,
        unit: impl Into<Cow<'static, str>>,
        source: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { what: what.into(), value: value.into(), unit: Some(unit.into()), source: source.into() }
    }

    /// Evidence that is text and has no unit.
    pub fn text(
        what: impl Into<Cow<'static, str>>,
        value: impl Into<Value>,
        source: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { what: what.into(), value: value.into(), unit: None, source: source.into() }
    }
}

/// One conclusion: who it is about, what is wrong, how that is known, what to do.
///
/// Made only by the rules in `diagnose`; every `id` is listed by `nsprobe rules`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Stable id, `family.name`.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// `namespace/pod`, `host`, an address: what it is about.
    pub subject: String,
    /// One sentence.
    pub summary: String,
    /// What was read; never empty.
    #[schemars(length(min = 1))]
    pub evidence: Vec<Evidence>,
    /// What to do about it, a command where there is one.
    pub fix: String,
}
