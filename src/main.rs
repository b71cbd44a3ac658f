//! Parse, run, exit code.

use clap::Parser;
use nsprobe::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if cli::is_extcap(&arguments) {
        return ExitCode::from(cli::run_extcap(arguments).code());
    }
    ExitCode::from(cli::run(cli::Cli::parse()).code())
}
