//! `nsprobe logs`: what a pod's containers wrote, from disk alone.

use super::signals::Signals;
use super::since::{self, Since};
use super::{Context, Exit, Failure};
use crate::facts::LogPiece;
use crate::observe::logs::{ContainerLog, LogError, LogQuery, PodLogFolder};
use crate::pods::{LogFolder, find_log_folder, is_running};
use crate::report::{LogPrinter, LogView};
use clap::Args;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

/// How often a log that is followed is looked at; the same for the folder it is in.
const LOOK: Duration = Duration::from_millis(200);

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(after_help = format!("\
The kubelet's own files are read (/var/log/pods, rotated and packed ones too), with no API server and no runtime: a name, \
a pod UID and a container id are found on disk. Lines that the runtime cut into parts are joined.

Several containers: all of them in the order of time, each line behind [pod/NAME/CONTAINER], as kubectl logs \
--all-containers --prefix shows them; name one with pod:container or -c. --tail counts for each container.
--previous is the newest attempt of a container that has ended.
Into a pipe or file everything goes as the container wrote it. On a terminal control characters are shown (\\u{{1b}}) and \
not sent; for the colours of a log that you trust: nsprobe logs POD | cat

{}

Exit codes: 0 read (also when -f is ended), 3 no such pod, container or attempt, 4 not allowed, 5 a file cannot be read or \
a packed one is damaged: the rest is printed.", since::HELP))]
pub(crate) struct LogsArgs {
    /// Whose: [namespace/]pod[:container], an id prefix, a pod IP, pid:N
    #[arg(value_name = "POD")]
    pod: String,
    /// Only this container, as pod:container
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Of the attempt before: what it wrote before it was restarted
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    /// Go on as more is written, across rotation and restart, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only what was written since TIME: 10m, 14:03, yesterday, "2026-11-25 14:03"
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = since::since)]
    since: Option<Since>,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<u64>,
    /// The time before each line
    #[arg(long)]
    timestamps: bool,
}

/// The logs that are read, and the next piece of each.
struct Logs {
    pod: Rc<PodLogFolder>,
    /// What each line begins with; nothing for a single container.
    prefixes: Vec<String>,
    logs: Vec<ContainerLog>,
    next: Vec<Option<LogPiece>>,
    /// Of the last piece of each, nanoseconds since 1970.
    times: Vec<i64>,
    /// Which one's line stands there unfinished.
    unfinished: Option<usize>,
}

/// `nsprobe logs`.
pub(super) fn run(args: &LogsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let folder = find_log_folder(&context.pods(), &args.pod)?;
    if !folder.former.is_empty() {
        context.note(&format!(
            "note: {} is shown, UID {}; logs of former pods of that name: id:{}",
            folder.full_name(),
            folder.uid,
            folder.former.join(", id:")
        ));
    }
    if let Some(since) = args.since {
        since.note(context);
    }
    let pod = Rc::new(PodLogFolder::open(&context.global.host_root, &folder.folder())?);
    // Also so that a signal that comes now is not lost.
    let signals = args.follow.then(Signals::end).transpose();
    let signals = signals.map_err(|error| Failure::stopped(format!("cannot watch for signals: {error}")))?;
    let containers = containers(args, &folder, &pod)?;
    let mut logs = Logs::new(Rc::clone(&pod));
    for container in &containers {
        let attempt = choose_attempt(args, context, &folder, &pod, container)?;
        if let Some(attempt) = attempt {
            let prefix = prefix(&folder, container, containers.len() > 1);
            logs.add(prefix, ContainerLog::open(&pod, container, attempt, query(args))?);
        }
    }
    if logs.logs.is_empty() && !args.follow {
        return Err(nothing(args, &folder, &containers));
    }
    // From here on standard output is the containers'.
    context.streams = true;
    let view = LogView { timestamps: args.timestamps, terminal: context.out.terminal };
    let mut printer = LogPrinter::new(context.out.stream(), view);
    let mut wrote = logs.print(&mut printer)?;
    if let Some(signals) = signals {
        follow(args, &folder, &mut logs, &mut printer, &signals)?;
        wrote = true;
    }
    printer.finish()?;
    if !wrote {
        let asked = args.since.is_some() || args.tail.is_some();
        let what = if asked { "nothing of what was asked for" } else { "nothing" };
        context.note(&format!("note: {} has written {what}", folder.full_name()));
    }
    let troubles: Vec<String> =
        logs.logs.iter_mut().flat_map(|log| std::mem::take(&mut log.troubles)).collect();
    if troubles.is_empty() {
        return Ok(Exit::Clean);
    }
    Err(Failure::stopped(format!("not everything could be read: {}", troubles.join("; "))))
}

fn query(args: &LogsArgs) -> LogQuery {
    LogQuery {
        since_ns: args.since.and_then(|since| i64::try_from(since.us).ok()?.checked_mul(1000)),
        tail: args.tail,
        follow: args.follow,
    }
}

/// `[pod/NAME/CONTAINER] `, as kubectl has it; nothing for one container.
fn prefix(folder: &LogFolder, container: &str, several: bool) -> String {
    if several { format!("[pod/{}/{container}] ", folder.name) } else { String::new() }
}

/// The containers that are meant: the one that was named, else all.
fn containers(args: &LogsArgs, folder: &LogFolder, pod: &PodLogFolder) -> Result<Vec<String>, Failure> {
    if let (Some(option), Some(named)) = (&args.container, &folder.container)
        && option != named
    {
        let message = format!("{} is container {named}, and -c asks for {option}", args.pod);
        return Err(Failure::usage(message).hint("name one of them"));
    }
    let all = pod.containers()?;
    let Some(name) = args.container.as_ref().or(folder.container.as_ref()) else { return Ok(all) };
    if all.contains(name) {
        return Ok(vec![name.clone()]);
    }
    let message =
        format!("pod {} has no log of a container {name}; it has: {}", folder.full_name(), all.join(", "));
    Err(Failure::unresolved(message))
}

/// Which attempt of a container is meant; `None` when it has no log.
fn choose_attempt(
    args: &LogsArgs,
    context: &Context,
    folder: &LogFolder,
    pod: &PodLogFolder,
    container: &str,
) -> Result<Option<u32>, Failure> {
    let attempts = pod.attempts(container)?;
    let Some(&newest) = attempts.last() else { return Ok(None) };
    if !args.previous {
        let named = folder.attempt.filter(|attempt| attempts.contains(attempt));
        return Ok(Some(named.unwrap_or(newest)));
    }
    let older = attempts.iter().rev().copied().find(|&attempt| attempt < newest);
    // Between two attempts the newest is the one that has ended.
    let ended = match is_running(&context.pods(), folder, container, newest) {
        Some(true) => older,
        Some(false) => Some(newest),
        None => older,
    };
    if let Some(attempt) = ended {
        context.note(&format!("note: {} of {}: attempt {attempt}", container, folder.full_name()));
    }
    Ok(ended)
}

fn nothing(args: &LogsArgs, folder: &LogFolder, containers: &[String]) -> Failure {
    let name = folder.full_name();
    if args.previous && !containers.is_empty() {
        return Failure::unresolved(format!("no earlier attempt of {name} has a log here: {}", containers.join(", ")))
            .hint("the kubelet keeps the log of one ended attempt; nsprobe logs without --previous shows the newest");
    }
    Failure::unresolved(format!("pod {name} has a log folder, but no log in it"))
        .hint("its containers may never have been started: nsprobe pods shows their states")
}

impl Logs {
    fn new(pod: Rc<PodLogFolder>) -> Self {
        Self {
            pod,
            prefixes: Vec::new(),
            logs: Vec::new(),
            next: Vec::new(),
            times: Vec::new(),
            unfinished: None,
        }
    }

    fn add(&mut self, prefix: String, log: ContainerLog) {
        self.prefixes.push(prefix);
        self.logs.push(log);
        self.next.push(None);
        self.times.push(i64::MIN);
    }

    /// A container that was started while the pod is followed.
    fn add_started(&mut self, args: &LogsArgs, folder: &LogFolder, container: &str) -> Result<(), LogError> {
        let newest = match self.pod.attempts(container) {
            Err(error) if error.is_gone() => return Ok(()),
            attempts => attempts?.into_iter().max(),
        };
        let Some(attempt) = newest else { return Ok(()) };
        let query = LogQuery { tail: None, ..query(args) };
        let log = ContainerLog::open(&self.pod, container, attempt, query)?;
        self.add(String::new(), log);
        let several = self.logs.len() > 1;
        self.prefixes = self.logs.iter().map(|log| prefix(folder, &log.container, several)).collect();
        Ok(())
    }

    /// Prints all that is there, in the order of time; whether there was anything.
    fn print<W: Write>(&mut self, printer: &mut LogPrinter<W>) -> io::Result<bool> {
        let mut wrote = false;
        let several = self.logs.len() > 1;
        loop {
            for ((next, log), time) in self.next.iter_mut().zip(&mut self.logs).zip(&mut self.times) {
                if next.is_none() {
                    *next = log.next_piece();
                    let told = next.as_ref().filter(|_| several).and_then(LogPiece::time_ns);
                    *time = told.unwrap_or(*time);
                }
            }
            let Some(at) = self.choose() else { break };
            let piece = self.next.get_mut(at).and_then(Option::take);
            if let (Some(piece), Some(prefix)) = (piece, self.prefixes.get(at)) {
                printer.piece(at, prefix, &piece)?;
                self.unfinished = (!piece.ends).then_some(at);
                wrote = true;
            }
        }
        printer.flush()?;
        Ok(wrote)
    }

    /// The rest of a line first, else the oldest.
    fn choose(&self) -> Option<usize> {
        let waits = |at: &usize| self.next.get(*at).is_some_and(Option::is_some);
        let goes_on = |at: &usize| self.next.get(*at).and_then(Option::as_ref).is_some_and(|p| !p.starts);
        if let Some(at) = self.unfinished.filter(goes_on) {
            return Some(at);
        }
        (0..self.next.len()).filter(waits).min_by_key(|at| self.times.get(*at))
    }
}

/// Prints what comes, until a signal, a reader that goes away, or the end of the pod.
fn follow<W: Write>(
    args: &LogsArgs,
    folder: &LogFolder,
    logs: &mut Logs,
    printer: &mut LogPrinter<W>,
    signals: &Signals,
) -> Result<(), Failure> {
    let named = args.container.as_ref().or(folder.container.as_ref());
    while !signals.wait_for_reader(LOOK) {
        // First: what was written before the pod was removed is still read.
        let removed = logs.pod.is_removed();
        for log in &mut logs.logs {
            match log.look_again() {
                Err(error) if error.is_gone() => {}
                other => other?,
            }
        }
        for container in logs.pod.containers()? {
            let known = logs.logs.iter().any(|log| log.container == container);
            if !known && named.is_none_or(|name| *name == container) {
                logs.add_started(args, folder, &container)?;
            }
        }
        logs.print(printer)?;
        if removed {
            break;
        }
    }
    Ok(())
}
