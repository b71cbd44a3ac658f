//! `nsprobe node`: is this node well, and if not, why.

use super::signals::Signals;
use super::since::{self, Since};
use super::{Context, Exit, Failure, node_log, values};
use crate::diagnose::ipam::check_ipam;
use crate::diagnose::kernel::{KernelView, Looked, Role, check_kernel};
use crate::diagnose::node::{NodeView, check_node, node_verdict};
use crate::facts::{Check, Finding, Holders, IpamState, KernelState, Namespace, Outcome, Seen, Severity};
use crate::netns::NetNs;
use crate::observe::node::{Asked, read_node, read_node_runtime};
use crate::observe::{ReadOptions, read_kernel_state, read_namespaces};
use crate::pods::{self, time_runtime};
use crate::report::{NodeDocument, render_node};
use clap::Args;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A runtime that is well answers in milliseconds; past this it hangs, and the rest has to be told.
const RUNTIME: Duration = Duration::from_millis(500);

/// Arguments of `node`.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Looked at are the kubelet and its configuration, the runtime and how long it takes to answer, the cgroup drivers of both, \
CNI configuration and programs, addresses for pods, pressure, blocked processes, disks, limits, certificates, clock, the \
kernel's settings and tables, and what prevents the next incident. Nothing is written or changed.

The verdict: broken with a critical finding, degraded with a warning; unknown when nothing wrong was found but kubelet, \
runtime, CNI or forwarding could not be looked at; else healthy. The runtime gets 500 ms, or --runtime-timeout if that is less.

--follow reads journal files as they grow and are rotated, also those of a journald that is being restarted; without a \
journal the files of syslog; the kernel's lines from /dev/kmsg. Each line: when, who, the cause's id (nsprobe rules explains \
it), what was logged. Ended by SIGINT or SIGTERM the exit code is 0.

{}", since::HELP))]
pub(crate) struct NodeArgs {
    /// Read the kernel's counters again after so long, and tell which losses rise.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    watch: Option<Duration>,
    /// What kubelet, runtime and kernel logged since TIME: 6h, 14:03, yesterday, "2026-11-25 14:03"
    #[arg(long, value_name = "TIME", default_value = "1h", allow_hyphen_values = true, value_parser = since::since)]
    since: Since,
    /// After the report go on: each new line of kubelet, runtime and kernel that speaks of a cause, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

struct Kernel {
    before: Option<KernelState>,
    now: Seen<KernelState>,
    namespace: Option<Namespace>,
}

/// `nsprobe node`.
pub(super) fn run(args: &NodeArgs, context: &mut Context) -> Result<Exit, Failure> {
    let start = Instant::now();
    args.since.note(context);
    let signals = args.follow.then(Signals::end).transpose();
    let signals = signals.map_err(|error| Failure::stopped(format!("cannot watch for signals: {error}")))?;
    // Before the log is read: a line that comes meanwhile is told twice, and not never.
    let follower = args.follow.then(|| node_log::begin(&context.global.host_root)).transpose()?;
    let mut options = context.pods();
    options.timeout = options.timeout.min(RUNTIME);
    let root = context.global.host_root.clone();
    let (times, addresses, state, kernel, logged) = std::thread::scope(|scope| {
        let times = scope.spawn(|| time_runtime(&options));
        let addresses = scope.spawn(|| read_addresses(&options));
        let kernel = scope.spawn(|| read_kernel(&options, args.watch, signals.as_ref()));
        let logged = scope.spawn(|| node_log::look(&root, args.since.us));
        let state = read_node(&root);
        (times.join(), addresses.join(), state, kernel.join(), logged.join())
    });
    let died = |_| Failure::stopped("a part of the work ended early");
    let times = times.map_err(died)??;
    let mut state = state;
    let asked = Asked { endpoint: times.endpoint.as_deref(), word: times.word.as_ref() };
    let cni = read_node_runtime(&root, asked, &mut state);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut looked = check_node(NodeView {
        state: &state,
        cni: &cni,
        calls: &times.calls,
        degraded: times.degraded.as_ref(),
        endpoint: times.endpoint.as_deref(),
        now,
    });
    add_addresses(&mut looked, addresses.map_err(died)?);
    add_kernel(&mut looked, &kernel.map_err(died)?);
    let (logged, checks) = logged.map_err(died)?;
    looked.findings.extend(logged);
    looked.checks.extend(checks);
    looked.findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let verdict = node_verdict(&looked.findings, &looked.checks);
    let exit = Exit::of(&looked.findings);
    let document = NodeDocument { verdict, checks: looked.checks, findings: looked.findings };
    let (elapsed, verbose) = (crate::facts::milliseconds(start.elapsed()), context.global.verbose);
    context.report_line("nsprobe.node/v1", &document, args.follow, |out| {
        render_node(&document, elapsed, verbose, out)
    })?;
    let Some((follower, signals)) = follower.zip(signals) else { return Ok(exit) };
    node_log::follow(follower, &signals, context)?;
    // As of every command that is meant to be ended by a signal.
    Ok(Exit::Clean)
}

/// The addresses of the node's pods, and who holds them.
fn read_addresses(options: &pods::Options) -> Seen<(IpamState, Holders)> {
    let (state, holding) = super::ipam::look(options).map_err(|failure| failure.message)?;
    Ok((state, holding.holders))
}

fn read_kernel(options: &pods::Options, watch: Option<Duration>, signals: Option<&Signals>) -> Seen<Kernel> {
    let netns: NetNs = pods::resolve(options, "host").map_err(|error| error.to_string())?.netns;
    let read = || read_kernel_state("host", &netns).map_err(|error| error.to_string());
    let first = read();
    let open = [("host", &netns)];
    let namespace = read_namespaces(&open, ReadOptions { all_addresses: true, ..ReadOptions::default() });
    let namespace = namespace.into_iter().find_map(|(_, answer)| answer.ok());
    let Some(watch) = watch else { return Ok(Kernel { before: None, now: first, namespace }) };
    match signals {
        Some(signals) => drop(signals.wait(watch)),
        None => std::thread::sleep(watch),
    }
    Ok(Kernel { before: first.ok(), now: read(), namespace })
}

fn add_addresses(looked: &mut Looked, addresses: Seen<(IpamState, Holders)>) {
    const ID: &str = "node.ipam";
    let (state, holders) = match addresses {
        Ok(addresses) => addresses,
        Err(why) => return looked.checks.push(Check::not_checked(ID, why)),
    };
    let findings = check_ipam(&state, &holders);
    let worst = findings.iter().find(|f| f.severity > Severity::Info);
    looked.checks.push(match (worst, state.networks.is_empty()) {
        (Some(worst), _) => Check::failed(ID, worst.summary.clone()),
        (None, true) => {
            Check::not_checked(ID, "no network whose addresses are given out on this node was found")
        }
        (None, false) => Check::passed(ID, "nsprobe ipam tells more"),
    });
    looked.findings.extend(findings);
}

fn add_kernel(looked: &mut Looked, kernel: &Seen<Kernel>) {
    let of_node = |id: &str| id != "net.firewall";
    match kernel {
        Ok(Kernel { before, now: Ok(now), namespace }) => {
            let view =
                KernelView { role: Role::Node, now, before: before.as_ref(), namespace: namespace.as_ref() };
            let found = check_kernel(view);
            // Without --watch there is nothing to hold counters against, which is no gap.
            let wanted = |c: &Check| before.is_some() || c.outcome != Outcome::NotChecked || is_state(&c.id);
            looked.checks.extend(found.checks.into_iter().filter(|c| of_node(&c.id) && wanted(c)));
            let new: Vec<Finding> =
                found.findings.into_iter().filter(|f| !looked.findings.contains(f)).collect();
            looked.findings.extend(new);
        }
        Ok(Kernel { now: Err(why), .. }) | Err(why) => {
            looked.checks.push(Check::not_checked("net.forwarding", why.clone()));
        }
    }
}

/// Whether a check reads a state, and not counters that have to rise.
fn is_state(id: &str) -> bool {
    !["net.losses", "net.interfaces", "node.backlog"].contains(&id)
}
