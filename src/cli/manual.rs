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

/// `nsprobe man`: one page, every command in it.
pub(super) fn run_man(_args: &ManArgs, context: &mut Context) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    let command = Cli::command();
    let page = clap_mangen::Man::new(command.clone()).manual("nsprobe");
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    text.extend_from_slice(b".SH COMMANDS\n");
    for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        render_command(one, &mut text)?;
    }
    page.render_options_section(&mut text)?;
    page.render_extra_section(&mut text)?;
    page.render_version_section(&mut text)?;
    context.out.text(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Clean)
}

/// A command as a subsection: how it is called, what it does, its own options.
fn render_command(command: &clap::Command, text: &mut Vec<u8>) -> std::io::Result<()> {
    let name = format!("nsprobe {}", command.get_name());
    // The global options stand once, at the page's end.
    let mut alone = command.clone().bin_name(name.clone()).disable_help_flag(true).disable_version_flag(true);
    // clap's own line: clap_mangen's knows no `--`.
    let usage = alone.render_usage().to_string().replace("Usage: ", "").replace('-', "\\-");
    let page = clap_mangen::Man::new(alone);
    let mut sections = Vec::new();
    page.render_description_section(&mut sections)?;
    page.render_options_section(&mut sections)?;
    page.render_extra_section(&mut sections)?;
    text.extend_from_slice(format!(".SS \"{name}\"\n{usage}\n").as_bytes());
    for line in String::from_utf8_lossy(&sections).lines() {
        // The headings of a page of its own become paragraphs; what roff needs set up is set up.
        match line {
            _ if line.starts_with(".SH") => text.extend_from_slice(b".PP\n"),
            _ if line.starts_with(".ie") || line.starts_with(".el") => {}
            _ => text.extend_from_slice(format!("{line}\n").as_bytes()),
        }
    }
    Ok(())
}
