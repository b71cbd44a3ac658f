//! `nsprobe sockets SOURCE…`: what is connected, what hangs, and why.

mod filter;
mod measure;

use super::signals::Signals;
use super::{Context, Exit, Failure};
use crate::diagnose::runtime::check_runtime;
use crate::diagnose::sockets::{
    Trouble, Unread, check_host_network, check_sockets, check_unread, check_unreadable, severity, suspects,
    trouble,
};
use crate::facts::{Finding, MeasuredPath, Severity, Verdict};
use crate::netns::NetNs;
use crate::observe::{SocketList, Whose, read_many_sockets, read_owners};
use crate::pods::{self, Source};
use crate::report::{MtuReport, SocketNamespace, SocketsDocument, SocketsView, render_sockets};
use clap::Args;
use filter::FilterArgs;
use measure::{MOST_PATHS, measure_paths, measured};
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
        findings.extend(check_sockets(&read.source.label, &read.list.sockets, &known));
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
    let lists =
        read_many_sockets(&namespaces, args.filter.query()).map_err(crate::netns::NetNsError::Thread)?;
    let one = sources.len() == 1;
    let mut reads = Vec::new();
    for (source, list) in sources.into_iter().zip(lists) {
        match list {
            Ok(list) => reads.push(Read { source, list }),
            Err(error) if one || error.is_permission() => return Err(error.into()),
            Err(error) => findings.push(check_unreadable(&source.label, &error.to_string())),
        }
    }
    for Read { source, list } in &mut reads {
        let own = own_pod(source).map(|pod| pods::processes_of(&context.pods(), pod)).transpose();
        let own = own.map_err(pods::ResolveError::from)?;
        let whose = own.as_deref().map_or(Whose::Namespace(source.netns.inode()), Whose::Processes);
        let owners = read_owners(&context.host_path("/proc"), whose);
        owners.assign(&mut list.sockets);
        if let Some(own) = &own {
            list.sockets.retain(|socket| socket.process.is_some());
            findings.push(check_host_network(&source.label, own.len(), list.sockets.len()));
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
    }
    Ok(reads)
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
    let (host, stop) = (host.as_ref(), signals.as_fd());
    let reports = std::thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .iter()
            .map(|(source, remotes)| scope.spawn(move || measure_paths(context, source, host, remotes, stop)))
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
