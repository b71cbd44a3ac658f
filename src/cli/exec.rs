//! `nsprobe exec` and `nsprobe shell`: a host tool in SOURCE's network and UTS namespaces.

use super::{Context, Exit, Failure};
use crate::netns::{self, NetNs, Uts};
use crate::pods::{self, Source};
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arguments of `exec`.
#[derive(Debug, Args)]
#[command(after_help = "\
CMD is a tool of the place nsprobe itself was started in (of the debug container, with --host-root), and sees its files; \
only the network, the hostname and /sys are SOURCE's.

Exit codes: CMD's own (a signal that ends it is seen by the caller as such: 128+n in a shell), 125 nsprobe itself failed, 126 CMD cannot be run, 127 CMD was not found.")]
pub(crate) struct ExecArgs {
    /// Where to run it.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The command and its arguments.
    #[arg(value_name = "CMD", required = true, last = true, num_args = 1.., allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Arguments of `shell`.
#[derive(Debug, Args)]
#[command(after_help = "\
The shell is $SHELL, else /bin/bash, else /bin/sh. NSPROBE_SOURCE in its environment says where it runs.

Exit codes: the shell's own, 125 nsprobe itself failed, 126 and 127 no shell could be run.")]
pub(crate) struct ShellArgs {
    /// Where to run it.
    #[arg(value_name = "SOURCE")]
    source: String,
}

/// `nsprobe exec SOURCE -- CMD…`: comes back only when CMD could not be started.
pub(super) fn run_exec(args: &ExecArgs, context: &mut Context) -> Result<Exit, Failure> {
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Failure::usage("no command was given"));
    };
    let source = enter(&args.source, context)?;
    let mut command = Command::new(program);
    command.args(rest).env("NSPROBE_SOURCE", &source.label);
    Err(cannot_run(program, &netns::replace_process(&mut command)))
}

/// `nsprobe shell SOURCE`.
pub(super) fn run_shell(args: &ShellArgs, context: &mut Context) -> Result<Exit, Failure> {
    let shell = find_shell(std::env::var_os("SHELL"));
    let source = enter(&args.source, context)?;
    let mut command = Command::new(&shell);
    command.env("NSPROBE_SOURCE", &source.label);
    // Shells expand what PS1 holds: a label with anything unusual in it stays out of the prompt.
    if source.label.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:".contains(c)) {
        command.env("PS1", format!("({}) # ", source.label));
        // Debian's and Ubuntu's own prompt shows this one.
        command.env("debian_chroot", &source.label);
    }
    context.note(&format!(
        "{} with this node's tools in the network namespace of {}; exit leaves it",
        shell.display(),
        source.label
    ));
    Err(cannot_run(shell.as_os_str(), &netns::replace_process(&mut command)))
}

/// Resolves SOURCE and moves this process into its namespaces; its own failures are 125.
fn enter(selector: &str, context: &Context) -> Result<Source, Failure> {
    let own = |failure: Failure| Failure { code: 125, ..failure };
    let source = pods::resolve(&context.pods(), selector).map_err(|e| own(e.into()))?;
    if let Some(degraded) = &source.degraded {
        context.note(&format!("note: {}; {} was found without the runtime", degraded.detail, source.label));
    }
    if source.host_network && source.pod.is_some() {
        context.note(&format!(
            "note: {} uses hostNetwork: this is the node's own network namespace",
            source.label
        ));
    }
    let uts = hostname_of(&source, context);
    let shortfalls = netns::enter_for_tool(&source.netns, uts.as_ref()).map_err(|e| own(e.into()))?;
    for shortfall in shortfalls {
        context.note(&format!("note: {}: {}", shortfall.what, shortfall.source));
    }
    Ok(source)
}

/// The UTS namespace of a process of SOURCE; a namespace without a process has none.
fn hostname_of(source: &Source, context: &Context) -> Option<Uts> {
    let uts = Uts::of_process(&context.host_path("/proc"), source.pid?, &source.netns);
    if let Err(error) = &uts {
        let here = NetNs::own().is_ok_and(|own| own.inode() == source.netns.inode());
        if !here {
            context.note(&format!("note: the hostname is the caller's: {error}"));
        }
    }
    uts.ok()
}

/// `$SHELL` when it is there, else bash, else sh.
fn find_shell(wanted: Option<OsString>) -> PathBuf {
    use nix::unistd::{AccessFlags, access};
    let sh = PathBuf::from("/bin/sh");
    wanted
        .map(PathBuf::from)
        .into_iter()
        .chain([PathBuf::from("/bin/bash")])
        .find(|shell| shell.is_absolute() && access(shell, AccessFlags::X_OK).is_ok())
        .unwrap_or(sh)
}

/// 127 when there is no such command, else 126: as nsenter(1) and env(1) tell them apart.
fn cannot_run(program: &OsStr, error: &io::Error) -> Failure {
    let name = Path::new(program).display();
    if error.kind() == io::ErrorKind::NotFound {
        Failure::tool(127, format!("cannot run {name}: there is no such command here"))
            .hint("tools are those of the place nsprobe was started in; is it installed and in PATH?")
    } else {
        Failure::tool(126, format!("cannot run {name}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_that_is_not_there_is_passed_over() {
        assert_ne!(find_shell(Some("/no/such/shell".into())), Path::new("/no/such/shell"));
        assert_ne!(find_shell(Some("bash".into())), Path::new("bash"));
        assert_eq!(find_shell(Some("/bin/cat".into())), Path::new("/bin/cat"));
    }

    #[test]
    fn not_found_and_not_runnable_are_told_apart() {
        let code = |errno| cannot_run(OsStr::new("x"), &io::Error::from_raw_os_error(errno)).code;
        assert_eq!(code(libc::ENOENT), 127);
        for errno in [libc::EACCES, libc::ENOEXEC, libc::ENOTDIR, libc::E2BIG] {
            assert_eq!(code(errno), 126);
        }
    }
}
