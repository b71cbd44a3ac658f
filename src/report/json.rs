//! The documents: one a command, each with its `schema` first.

use schemars::JsonSchema;
use serde::Serialize;

/// A document of the contract: its body and the name that goes into `schema`.
#[derive(Debug, Serialize)]
pub struct Document<'a, T: Serialize> {
    schema: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

/// Wraps a body as the document `schema` (`nsprobe.pods/v1`).
pub fn document<'a, T: Serialize>(schema: &'static str, body: &'a T) -> Document<'a, T> {
    Document { schema, body }
}

/// `nsprobe.error/v1`: what stopped the work.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorDocument {
    /// The exit code.
    pub code: u8,
    /// What and why, one line.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}
