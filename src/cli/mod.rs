//! One file per command: its arguments, its steps. The only room that knows all others.

mod capture;
mod cluster;
mod context;
mod diagnose;
mod elsewhere;
mod exec;
mod extcap;
mod failure;
mod ipam;
mod links;
#[cfg(test)]
mod links_recorded;
mod logs;
mod manual;
mod mtu;
mod node;
mod node_log;
mod pods;
mod progress;
mod rules;
mod signals;
mod since;
mod sockets;
pub mod target;
mod values;
mod why;

pub use context::Context;
pub use extcap::{is_extcap, run_extcap};
pub use failure::{Exit, Failure};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Large packets hang, small ones pass: which pod, which hop, which setting?
///
/// Runs as root on a Kubernetes worker. Finds a pod through the container runtime (or from disk when the
/// runtime hangs), enters its network namespace, measures the path MTU, reads every interface, captures.
/// Nothing on the node is changed.
#[derive(Debug, Parser)]
#[command(
    name = "nsprobe",
    version,
    propagate_version = true,
    max_term_width = 100,
    disable_help_subcommand = true
)]
#[command(
    after_help = "SOURCE is [namespace/]pod[:container], a container, sandbox or pod-UID id prefix (6+ hex digits), \
a pod IP, pid:N, netns:PATH, netns:NAME or host; pod:, id: and ip: say which is meant.\n\
Exit codes: 0 nothing wrong, 1 a warning or critical finding, 2 wrong command line, 3 SOURCE or TARGET not resolved, \
4 a privilege is missing, 5 the work was stopped by an error."
)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Output for people or one JSON document.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Human)]
    pub output: Output,
    /// CRI socket of the container runtime, unix:///PATH [default: found as crictl and the kubelet do].
    #[arg(long, global = true, value_name = "ENDPOINT")]
    pub runtime_endpoint: Option<String>,
    /// Time for all calls to the runtime together; past it the disk is read instead.
    #[arg(long, global = true, value_name = "DURATION", default_value = "2s", value_parser = values::duration)]
    pub runtime_timeout: Duration,
    /// Where the node's files are; /host in a debug container on the node with hostPID.
    #[arg(long, global = true, value_name = "PATH", default_value = "/")]
    pub host_root: PathBuf,
    /// Colour in the output (NO_COLOR is respected).
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// No progress and no notes on standard error.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// More detail in the command's own output.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Diagnostics on standard error [env: NSPROBE_LOG].
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    pub log: Option<Level>,
}

/// Who reads the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text.
    Human,
    /// One JSON document.
    Json,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How much of its own doing nsprobe tells on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    /// Only what stops the work.
    Error,
    /// What went wrong and was worked around.
    Warn,
    /// The steps.
    Info,
    /// Each call.
    Debug,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pods on this node: names, IPs, state, restarts, PID, network namespace, age.
    Pods(pods::PodsArgs),
    /// Path-MTU search from SOURCE's network namespace to TARGET, with a verdict.
    Mtu(mtu::MtuArgs),
    /// Interface MTUs and the chain pod → veth → bridge → tunnel → uplink.
    Links(links::LinksArgs),
    /// TCP and UDP sockets with queues, RTT, retransmits, MSS, process; what hangs, and whether the MTU is why.
    Sockets(sockets::SocketsArgs),
    /// Capture packets inside each SOURCE's network namespace.
    Capture(Box<capture::CaptureArgs>),
    /// Everything that applies, at once: one report, one verdict, the root cause first.
    Diagnose(diagnose::DiagnoseArgs),
    /// Addresses of this node's pods: ranges, what is left, what is reserved for nobody (host-local).
    Ipam(ipam::IpamArgs),
    /// Why a pod's containers ended: OOM-killed, crashed, not started, evicted; the kernel's record, restarts.
    Why(why::WhyArgs),
    /// Is this node well: kubelet, runtime, CNI, disks, certificates, kernel; verdict, evidence, fix.
    Node(node::NodeArgs),
    /// What a pod's containers wrote, from disk: no API server, no working runtime needed.
    Logs(logs::LogsArgs),
    /// What the API server knows: pods without a node, pods on broken nodes, restarts, which pod is where.
    Cluster(cluster::ClusterArgs),
    /// Run a host tool in SOURCE's network and UTS namespaces, as nsenter -n -u does.
    Exec(exec::ExecArgs),
    /// A shell with the host's tools in SOURCE's network and UTS namespaces.
    Shell(exec::ShellArgs),
    /// Every finding nsprobe can make: id, severity, meaning, fix.
    Rules(rules::RulesArgs),
    /// Completion script for a shell, on standard output.
    Completions(manual::CompletionsArgs),
    /// The manual page, on standard output.
    Man(manual::ManArgs),
}

/// Runs one command and says how it ended; errors are printed here, in the form that was asked for.
pub fn run(cli: Cli) -> Exit {
    let mut context = Context::new(cli.global);
    if let Err(failure) = context.check_host_root() {
        return context.fail(&failure);
    }
    let result = match cli.command {
        Command::Pods(args) => pods::run(&args, &mut context),
        Command::Mtu(args) => mtu::run(&args, &mut context),
        Command::Links(args) => links::run(&args, &mut context),
        Command::Sockets(args) => sockets::run(&args, &mut context),
        Command::Capture(args) => capture::run(&args, &mut context),
        Command::Diagnose(args) => diagnose::run(&args, &mut context),
        Command::Ipam(args) => ipam::run(&args, &mut context),
        Command::Why(args) => why::run(&args, &mut context),
        Command::Node(args) => node::run(&args, &mut context),
        Command::Logs(args) => logs::run(&args, &mut context),
        Command::Cluster(args) => cluster::run(&args, &mut context),
        Command::Exec(args) => exec::run_exec(&args, &mut context),
        Command::Shell(args) => exec::run_shell(&args, &mut context),
        Command::Rules(args) => rules::run(&args, &mut context),
        Command::Completions(args) => manual::run_completions(&args, &mut context),
        Command::Man(args) => manual::run_man(&args, &mut context),
    };
    match result {
        Ok(exit) => exit,
        Err(failure) => context.fail(&failure),
    }
}
