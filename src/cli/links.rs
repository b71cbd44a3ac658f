//! Not moved in yet.

use super::{Context, Exit, Failure};
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct LinksArgs {}

pub(super) fn run(_args: &LinksArgs, _context: &mut Context) -> Result<Exit, Failure> {
    Err(Failure::stopped("not moved in yet"))
}
