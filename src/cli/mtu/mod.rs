//! `nsprobe mtu SOURCE TARGET…`

mod back;
mod measure;
mod method;
mod turns;

use super::elsewhere::Elsewhere;
use super::progress::Progress;
use super::signals::Signals;
use super::target::{self, FamilyArgs, ResolvedTarget};
use super::{Context, Exit, Failure, values};
use crate::diagnose::path::compare_paths;
use crate::facts::Finding;
use crate::netns::NetNs;
use crate::pods::{self, Source};
use crate::probe::search::ANOTHER_WORD;
use crate::probe::{Onlooker, Target};
use crate::report::{MtuComparison, MtuReport, document, render_change, render_comparison, render_mtu};
use clap::Args;
pub(super) use measure::{Planned, Terms, measure, plan};
pub(super) use method::Choice;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use turns::{in_turn, not_asked_again};

/// Arguments of `mtu`.
#[derive(Debug, Args)]
pub(crate) struct MtuArgs {
    /// Whose network namespace the probes leave from.
    source: String,
    /// An address, a host name (resolved as the pod would), or pod:[namespace/]name.
    #[arg(required = true)]
    target: Vec<String>,
    /// How to probe.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    method: Choice,
    /// TCP or UDP port of the target to ask as well; no other port is ever connected to.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    #[command(flatten)]
    family: FamilyArgs,
    #[command(flatten)]
    elsewhere: Elsewhere,
    /// Smallest size to try, bytes of the whole IP packet.
    #[arg(long, value_name = "BYTES")]
    min: Option<u32>,
    /// Largest size to try [default: the route's MTU]; where it is less, "clear" speaks of no larger one, and the path
    /// MTU is not known; where it is more, a path that carries the route's MTU is clear.
    #[arg(long, value_name = "BYTES")]
    max: Option<u32>,
    /// Wait for a lost probe; adapted downwards from the measured round trip.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = values::duration)]
    timeout: Duration,
    /// For the whole search.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    deadline: Duration,
    /// Packets of one search.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_probes: u32,
    /// Packets a second.
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Searches at once, each with a flow of its own (ICMP id, source port): paths that differ by flow are told. Many
    /// routers choose the path of echo requests by addresses alone; --method tcp or udp with --port varies ports.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    flows: u8,
    /// Repeat, and show what changes; ends by Ctrl-C.
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = values::duration)]
    watch: Option<Duration>,
    /// Measure from the target to the source as well; the target is a pod of this node (pod:NAME).
    #[arg(long)]
    both: bool,
    /// Do not look for the narrowing hop.
    #[arg(long)]
    no_locate: bool,
}

impl MtuArgs {
    fn terms(&self) -> Terms {
        Terms {
            min: self.min,
            max: self.max,
            timeout: self.timeout,
            deadline: self.deadline,
            max_probes: self.max_probes,
            rate: self.rate,
            locate: !self.no_locate,
            port: self.port,
            method: self.method,
        }
    }
}

/// One path to measure.
struct Job<'a> {
    from: &'a Source,
    planned: Planned,
}

pub(super) fn run(args: &MtuArgs, context: &mut Context) -> Result<Exit, Failure> {
    if matches!(args.method, Choice::Tcp | Choice::Udp) && args.port.is_none() {
        return Err(Failure::usage(
            "--method tcp and udp need --port: no port that nobody named is connected to",
        )
        .hint("--port N with the port of a service on the target"));
    }
    let source = pods::resolve(&context.pods(), &args.source)?;
    let mut targets = Vec::new();
    for text in &args.target {
        let resolved = resolve(args, &source, text, context)?;
        targets.push((text, Target { address: resolved.address, scope_id: resolved.scope_id.unwrap_or(0) }));
    }
    let others = far_ends(args, context)?;
    let signals = Signals::end().map_err(|e| Failure::stopped(format!("cannot catch signals: {e}")))?;
    let host = NetNs::open(&context.host_path("/proc/1/ns/net")).ok();
    if targets.len() == 1 && others.is_empty() {
        // Nothing is left to do outside. A thread for each question would be half of a short search's time.
        source.netns.enter_for_ever()?;
    }
    let terms = args.terms();
    let mut jobs = Vec::new();
    for (at, (text, target)) in targets.into_iter().enumerate() {
        let there = plan(&terms, &source, text, target)?;
        let back = there.route.source_address.map(|address| Target { address, scope_id: 0 });
        jobs.push(Job { from: &source, planned: there });
        if let (Some(far), Some(back)) = (others.get(at), back) {
            jobs.push(Job { from: far, planned: plan(&terms, far, &source.label, back)? });
        }
    }
    let mut exit = Exit::Clean;
    let mut before: Option<Vec<MtuReport>> = None;
    loop {
        let round = Instant::now();
        if before.is_some() {
            jobs.iter_mut().for_each(|job| job.planned.renew(&terms, job.from));
        }
        let inputs: Vec<&str> = jobs.iter().map(|job| job.planned.input()).collect();
        let progress = Progress::new(&inputs, args.deadline, context);
        let tell = || progress.tell();
        let onlooker = Onlooker { stop: Some(signals.as_fd()), tell: progress.wanted().then_some(&tell) };
        let reports = all(&jobs, args.flows, args.deadline, host.as_ref(), onlooker);
        // A watch is meant to be ended by a signal: what was not measured to its end would look like a change.
        if args.watch.is_some() && signals.wait(Duration::ZERO) {
            return Ok(Exit::Clean);
        }
        let mut reports = reports.map_err(|failure| failure.ended_by(signals.taken()))?;
        if let (Some(degraded), Some(first)) = (&source.degraded, reports.first_mut()) {
            first.findings.push(crate::diagnose::runtime::check_runtime(degraded, None));
        }
        exit = exit.or(print(&reports, &source, args.watch.is_some(), before.as_deref(), context)?);
        let Some(interval) = args.watch else {
            return Ok(signals.taken().map_or(exit, |signal| Exit::Code(128 + signal)));
        };
        // Routers that say packet too big once a second are to have another word for each round.
        let several = jobs.len() > 1 || args.flows > 1;
        let least = if several { ANOTHER_WORD } else { Duration::ZERO };
        if signals.wait(interval.saturating_sub(round.elapsed()).max(least)) {
            return Ok(Exit::Clean);
        }
        before = Some(reports);
    }
}

/// Finds the address of a target; name servers that take their time are told.
fn resolve(
    args: &MtuArgs,
    source: &Source,
    text: &str,
    context: &Context,
) -> Result<ResolvedTarget, Failure> {
    let look_up = || target::resolve(context, source, text, args.family.family(), &args.elsewhere);
    if !target::is_name(text) {
        return look_up();
    }
    let servers = format!("name servers for {text}");
    Progress::new(&[&servers], target::LOOKUP_DEADLINE, context).during(look_up)
}

/// The targets as sources, for `--both`.
fn far_ends(args: &MtuArgs, context: &Context) -> Result<Vec<Source>, Failure> {
    if !args.both {
        return Ok(Vec::new());
    }
    let far = |text: &String| {
        let selector = text.strip_prefix("pod:").ok_or_else(|| {
            Failure::usage(format!("--both measures from {text} too: that must be a pod of this node"))
                .hint("name it pod:[namespace/]NAME; for other nodes run nsprobe there")
        })?;
        Ok(pods::resolve(&context.pods(), &format!("pod:{selector}"))?)
    };
    args.target.iter().map(far).collect()
}

/// Measures every path, each on a thread of its own when there are several.
fn all(
    jobs: &[Job<'_>],
    flows: u8,
    deadline: Duration,
    host: Option<&NetNs>,
    onlooker: Onlooker<'_>,
) -> Result<Vec<MtuReport>, Failure> {
    if let [job] = jobs {
        return Ok(vec![measure(job.from, host, &job.planned, flows, onlooker)?]);
    }
    let one = |job: &Job<'_>| {
        job.from.netns.enter_for_ever()?;
        measure(job.from, host, &job.planned, flows, onlooker)
    };
    let together = |jobs: &[&Job<'_>]| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = jobs.iter().map(|job| scope.spawn(move || one(job))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect::<Result<Vec<_>, Failure>>()
        })
    };
    let begun = Instant::now();
    let mut reports = together(&jobs.iter().collect::<Vec<_>>())?;
    let seen = |report: &MtuReport| (report.verdict, report.path_mtu_bytes);
    let left = || deadline.saturating_sub(begun.elapsed());
    let again = |at: usize, left| {
        let job = jobs.get(at).map(|job| Job { from: job.from, planned: job.planned.within(left) });
        let mut again = together(&job.iter().collect::<Vec<_>>())?;
        again.pop().ok_or_else(|| Failure::stopped("no path to measure again"))
    };
    in_turn(&mut reports, seen, left, onlooker, again, not_asked_again)?;
    Ok(reports)
}

fn print(
    reports: &[MtuReport],
    source: &Source,
    watch: bool,
    before: Option<&[MtuReport]>,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let verbose = context.global.verbose;
    let paths: Vec<_> =
        reports.iter().map(|r| (r.target.input.as_str(), r.verdict, r.path_mtu_bytes)).collect();
    let compared = if reports.len() > 1 { compare_paths(&source.label, &paths) } else { vec![] };
    let all = || reports.iter().flat_map(|r| r.findings.iter().cloned()).chain(compared.iter().cloned());
    let exit = Exit::of(&all().collect::<Vec<Finding>>());
    if let (true, Some(before), false) = (watch, before, context.json()) {
        let text = render_change(&context.out, before, reports, verbose);
        context.out.text(&text)?;
    } else if let [report] = reports {
        context.report_line("nsprobe.mtu/v1", report, watch, |out| render_mtu(out, report, verbose))?;
    } else {
        let results = reports
            .iter()
            .map(|r| serde_json::to_value(document("nsprobe.mtu/v1", r)).map_err(std::io::Error::other))
            .collect::<Result<_, _>>()?;
        let body = MtuComparison { results, findings: compared };
        context.report_line("nsprobe.mtu_comparison/v1", &body, watch, |out| {
            render_comparison(out, reports, &body.findings, verbose)
        })?;
    }
    Ok(exit)
}
