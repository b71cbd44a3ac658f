//! `nsprobe rules`: what it can find, before it has found anything.

use super::{Context, Exit, Failure};
use crate::diagnose;
use crate::report::{RulesDocument, render_rules};
use clap::Args;

/// Arguments of `rules`.
#[derive(Debug, Args)]
pub(crate) struct RulesArgs {}

/// `nsprobe rules`.
pub(super) fn run(_args: &RulesArgs, context: &mut Context) -> Result<Exit, Failure> {
    let mut rules: Vec<_> = diagnose::rules().into_iter().copied().collect();
    rules.sort_by_key(|rule| rule.id);
    let document = RulesDocument { rules, findings: Vec::new() };
    context.report("nsprobe.rules/v1", &document, |out| render_rules(&document, out))?;
    Ok(Exit::Clean)
}
