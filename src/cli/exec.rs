//! Not moved in yet.

use super::{Context, Exit, Failure};
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {}
#[derive(Debug, Args)]
pub(crate) struct ShellArgs {}

pub(super) fn run_exec(_args: &ExecArgs, _context: &mut Context) -> Result<Exit, Failure> {
    Err(Failure::stopped("not moved in yet"))
}
pub(super) fn run_shell(_args: &ShellArgs, _context: &mut Context) -> Result<Exit, Failure> {
    Err(Failure::stopped("not moved in yet"))
}
