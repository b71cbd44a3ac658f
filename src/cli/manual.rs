//! Completions and the manual page, generated from the arguments.

use super::{Cli, Context, Exit, Failure};
use clap::{Args, CommandFactory};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell that will read it.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {}

/// `nsprobe completions SHELL`.
pub(super) fn run_completions(args: &CompletionsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "nsprobe", &mut text);
    context.out.text(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Clean)
}

/// `nsprobe man`.
pub(super) fn run_man(_args: &ManArgs, context: &mut Context) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    context.out.text(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Clean)
}
