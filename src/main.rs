//! Parse, run, exit code.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(nsprobe::cli::run(nsprobe::cli::Cli::parse()).code())
}
