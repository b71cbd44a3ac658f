//! `nsprobe sockets SOURCE…`: what is connected, what hangs, and why.

mod filter;
mod measure;

use super::progress::Progress;
use super::signals::Signals;
use super::{Context, Exit, Failure};
use crate::diagnose::runtime::check_runtime;
use crate::diagnose::sockets::{
    Trouble, Unread, check_host_network, check_sockets, check_unread, check_unreadable, severity, suspects,
    trouble,
};
use crate::facts::{Finding, MeasuredPath, Severity, Verdict};
use crate::netns::NetNs;
use crate::observe::{Owners, SocketList, Whose, read_many_sockets, read_owners};
use crate::pods::{self, Source};
use crate::probe::Onlooker;
use crate::report::{MtuReport, SocketNamespace, SocketsDocument, SocketsView, render_sockets};
use clap::Args;
use filter::FilterArgs;
use measure::{DEADLINE, MOST_PATHS, measure_paths, measured};
use std::os::fd::AsFd;

/// Arguments of `sockets`.
#[derive(Debug, Args)]
#[command(
    after_help = "Shown are connections and listeners, what hangs first. The path MTU column is what the kernel \
believes in; only --measure finds out what the path carries. Without it nothing is sent."
)]
pub(crate) struct SocketsArgs {
    /// Whose sockets: all of its network namespace; of a hostNetwork pod those that its own processes hold.
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<String>,
    /// Measure the path MTU to the peers of connections that hang (ICMP echo, at most 8 at once, 5 s each), and
    /// tell those that are stuck on it.
    #[arg(short, long)]
    measure: bool,
    /// Only what hangs or is about to.
    #[arg(long)]
    stuck: bool,
    /// Leave out who holds the sockets: with many open files on the node that is half of the time.
    #[arg(long, conflicts_with = "process")]
    no_processes: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// The sockets of one SOURCE, filtered.
struct Read {
    source: Source,
    list: SocketList,
}

pub(super) fn run(args: &SocketsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let mut sources: Vec<Source> = Vec::new();
    let mut findings = Vec::new();
    for selector in &args.sources {
        let source = pods::resolve(&context.pods(), selector)?;
        findings.extend(source.degraded.iter().map(|d| check_runtime(d, None)));
        // A pod that was named twice, by its name and by its IP.
        if !sources.iter().any(|s| s.netns.inode() == source.netns.inode() && own_pod(s) == own_pod(&source))
        {
            sources.push(source);
        }
    }
    findings.dedup();
    let mut reads = read(args, sources, context, &mut findings)?;
    let (measurements, signal) =
        if args.measure { measure_suspects(&reads, context)? } else { (Vec::new(), None) };
    let mut paths = Vec::new();
    for (read, reports) in reads.iter().zip(measurements.iter().map(Some).chain(std::iter::repeat(None))) {
        let reports: &[MtuReport] = reports.map_or(&[], |reports| reports);
        let known: Vec<MeasuredPath> = reports.iter().map(measured).collect();
        findings.extend(check_sockets(
            &read.source.label,
            read.source.host_network,
            &read.list.sockets,
            &known,
        ));
        findings.extend(reports.iter().flat_map(said).cloned());
        paths.push(known);
    }
    for (read, known) in reads.iter_mut().zip(&paths) {
        let stuck = |trouble: Trouble| severity(trouble) > Severity::Info;
        if args.stuck {
            read.list.sockets.retain(|socket| trouble(socket, known).is_some_and(stuck));
        }
    }
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let exit = Exit::of(&findings);
    let namespaces = reads
        .into_iter()
        .map(|read| SocketNamespace {
            subject: read.source.label,
            netns_inode: read.source.netns.inode(),
            sockets: read.list.sockets,
        })
        .collect();
    let report = SocketsDocument { namespaces, findings };
    let verbose = context.global.verbose;
    context.report("nsprobe.sockets/v1", &report, |out| {
        render_sockets(&report, &paths, SocketsView { paint: out.paint, width: out.width, verbose })
    })?;
    Ok(signal.map_or(exit, |signal| Exit::Code(128 + signal)))
}

/// The pod whose own sockets alone are meant, where the namespace is the node's.
fn own_pod(source: &Source) -> Option<&crate::facts::Pod> {
    source.pod.as_ref().filter(|_| source.host_network)
}

/// Reads the sockets of every source and who holds them, and names what could not be read.
fn read(
    args: &SocketsArgs,
    sources: Vec<Source>,
    context: &Context,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Read>, Failure> {
    let namespaces: Vec<&NetNs> = sources.iter().map(|s| &s.netns).collect();
    // Looking through /proc takes as long as the dump of the sockets: both at once.
    let (lists, holders) = std::thread::scope(|scope| {
        let holders = scope.spawn(|| holders(&sources, !args.no_processes, context));
        let lists = read_many_sockets(&namespaces, args.filter.query());
        (lists, holders.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let lists = lists.map_err(crate::netns::NetNsError::Thread)?;
    let one = sources.len() == 1;
    let mut reads = Vec::new();
    let Holders { all, own } = holders?;
    for ((source, list), own) in sources.into_iter().zip(lists).zip(own) {
        let mut list = match list {
            Ok(list) => list,
            Err(error) if one || error.is_permission() => return Err(error.into()),
            Err(error) => {
                findings.push(check_unreadable(&source.label, &error.to_string()));
                continue;
            }
        };
        let owners = own.as_ref().map_or(&all, |(_, owners)| owners);
        owners.assign(&mut list.sockets);
        if let Some((processes, _)) = own {
            list.sockets.retain(|socket| socket.process.is_some());
            findings.push(check_host_network(&source.label, processes, list.sockets.len()));
        }
        list.sockets.retain(|socket| args.filter.fits(socket));
        let unread = Unread {
            unreadable: list.unreadable,
            left_out: list.left_out,
            refused: std::mem::take(&mut list.refused),
            denied: owners.denied,
            cut: owners.cut,
        };
        findings.extend(check_unread(&source.label, &unread));
        reads.push(Read { source, list });
    }
    Ok(reads)
}

/// Who holds the sockets.
struct Holders {
    /// Of all namespaces that are not the node's, and of the node's where all of it is meant.
    all: Owners,
    /// Of each source that is a pod in the node's network: how many processes it has, and what they hold.
    own: Vec<Option<(usize, Owners)>>,
}

/// What only a pod in the node's network needs is looked for without `wanted` too.
fn holders(sources: &[Source], wanted: bool, context: &Context) -> Result<Holders, Failure> {
    let proc = context.host_path("/proc");
    let mut whole = Vec::new();
    let mut own = Vec::new();
    for source in sources {
        own.push(match own_pod(source) {
            None => {
                whole.extend(wanted.then(|| source.netns.inode()));
                None
            }
            Some(pod) => {
                let pids = pods::processes_of(&context.pods(), pod).map_err(pods::ResolveError::from)?;
                Some((pids.len(), read_owners(&proc, Whose::Processes(&pids))))
            }
        });
    }
    let all =
        if whole.is_empty() { Owners::default() } else { read_owners(&proc, Whose::Namespaces(&whole)) };
    Ok(Holders { all, own })
}

/// One list of searches a source, and the signal that ended them.
type Measurements = (Vec<Vec<MtuReport>>, Option<u8>);

/// Measures to the peers of what hangs, at most [`MOST_PATHS`] in all; one list a source.
fn measure_suspects(reads: &[Read], context: &Context) -> Result<Measurements, Failure> {
    let signals = Signals::end().map_err(|e| Failure::stopped(format!("cannot catch signals: {e}")))?;
    let host = NetNs::open(&context.host_path("/proc/1/ns/net")).ok();
    let mut left = MOST_PATHS;
    let mut jobs = Vec::new();
    for read in reads {
        let mut remotes = suspects(&read.list.sockets);
        let all = remotes.len();
        remotes.truncate(left);
        left -= remotes.len();
        if remotes.len() < all {
            context.note(&format!(
                "{}: {} of {all} suspected paths are measured; --remote ADDRESS chooses others",
                read.source.label,
                remotes.len()
            ));
        }
        jobs.push((&read.source, remotes));
    }
    let targets: Vec<String> =
        jobs.iter().flat_map(|(_, remotes)| remotes).map(ToString::to_string).collect();
    let progress = Progress::new(&targets.iter().map(String::as_str).collect::<Vec<_>>(), DEADLINE, context);
    let tell = || progress.tell();
    let onlooker = Onlooker { stop: Some(signals.as_fd()), tell: progress.wanted().then_some(&tell) };
    let host = host.as_ref();
    let reports = std::thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .iter()
            .map(|(source, remotes)| {
                scope.spawn(move || measure_paths(context, source, host, remotes, onlooker))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    Ok((reports, signals.taken()))
}

/// What a search says of a path that is too narrow: where it narrows, what the node dropped.
fn said(report: &MtuReport) -> &[Finding] {
    match report.verdict {
        Verdict::BlackHole | Verdict::Narrowed => &report.findings,
        _ => &[],
    }
}
