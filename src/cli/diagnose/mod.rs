//! `nsprobe diagnose SOURCE [TARGET]`: everything that applies, at once, under one deadline; one verdict.

mod conclude;
mod crew;
mod part;
mod paths;

use super::elsewhere::Elsewhere;
use super::progress::few;
use super::signals::Signals;
use super::target::{self, FamilyArgs, TargetError};
use super::{Context, Exit, Failure, values};
use crate::diagnose::peers::peers;
use crate::diagnose::tunnel_path::remote_towards;
use crate::diagnose::verdict::{rank, verdict};
use crate::facts::{NameLookup, Verdict};
use crate::observe::resolve::LookupError;
use crate::pods::{self, Source};
use crate::report::{DiagnoseReport, DiagnoseTarget, MtuReport, PathRow, document, render_diagnose};
use clap::Args;
use conclude::{Collected, conclude, forgive};
use crew::{Came, Crew};
use part::{Links, Part, Place};
use paths::{Measured, Path, Role};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Peers of open connections whose path is measured.
const MOST_PEERS: usize = 8;
/// Before this a command that is at work says nothing.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);
/// Counters are watched for at least so long: a loss that happens ten times a second is seen.
const SHORTEST_WATCH: Duration = Duration::from_millis(400);

/// Arguments of `diagnose`.
#[derive(Debug, Args)]
#[command(
    after_help = "The verdict: broken with a critical finding, degraded with a warning; unknown when nothing \
wrong was found but something essential could not be looked at; else healthy. Essential are the pod's state, the links of \
SOURCE and of the node, how SOURCE hangs on it and whether links and routes carry the packets (not eBPF or Open vSwitch), \
its sockets, its name servers, and what was named: TARGET's address, its path, its port. Without a TARGET one path at least has \
to be measured."
)]
pub(crate) struct DiagnoseArgs {
    /// Who is ill.
    source: String,
    /// Whom it cannot reach: an address, a host name (resolved as the pod would), or pod:[namespace/]name
    /// [default: the gateway, the peers of its open connections].
    target: Option<String>,
    /// TCP port of the target to connect to as well; no other port is ever connected to, but 53 of the pod's
    /// own name servers.
    #[arg(long, value_name = "N", requires = "target", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    #[command(flatten)]
    family: FamilyArgs,
    #[command(flatten)]
    elsewhere: Elsewhere,
    /// For everything; what is late is told as not checked.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    deadline: Duration,
}

pub(super) fn run(args: &DiagnoseArgs, context: &mut Context) -> Result<Exit, Failure> {
    let start = Instant::now();
    let mut options = context.pods();
    // A runtime that hangs leaves half of the time for everything else.
    options.timeout = options.timeout.min(args.deadline / 2);
    let source = resolve(&options, &args.source, context)?;
    // Nobody without the privilege gets a report that looked at nothing.
    source.netns.run(|| ())?;
    let host = pods::resolve(&options, "host").map_err(|error| error.to_string());
    let signals = Signals::end().map_err(|e| Failure::stopped(format!("cannot catch signals: {e}")))?;
    let place = Arc::new(Place { options, source, host, end: start + args.deadline });
    let mut work = Work {
        args,
        place: place.clone(),
        signals: Arc::new(signals),
        crew: Crew::new(place.end),
        all: Collected {
            has_target: args.target.is_some(),
            has_names: !part::has_no_names(&place),
            ..Collected::default()
        },
        target: None,
        waiting: Vec::new(),
        names_next: None,
        connect_next: None,
        failure: None,
    };
    work.begin();
    work.wait(context, start);
    if let Some(failure) = work.failure {
        return Err(failure);
    }
    let report = work.report(start);
    let verbose = context.global.verbose;
    context.report("nsprobe.diagnose/v1", &report, |out| render_diagnose(out, &report, verbose))?;
    let exit = Exit::of(&report.findings);
    Ok(work.signals.taken().map_or(exit, |signal| Exit::Code(128 + signal)))
}

/// Finds SOURCE; a runtime that takes its time is told, as later everything else that does.
fn resolve(options: &pods::Options, source: &str, context: &Context) -> Result<Source, Failure> {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let late = wait.recv_timeout(PROGRESS_AFTER) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            if late && !context.json() {
                context.note("waiting for the container runtime (at most --runtime-timeout)");
            }
        });
        let found = pods::resolve(options, source);
        drop(done);
        Ok(found?)
    })
}

/// A diagnosis at work.
struct Work<'a> {
    args: &'a DiagnoseArgs,
    place: Arc<Place>,
    signals: Arc<Signals>,
    crew: Crew,
    all: Collected,
    target: Option<DiagnoseTarget>,
    /// Paths that are being measured.
    waiting: Vec<Path>,
    /// What is asked once the sockets have been read.
    names_next: Option<(Option<NameLookup>, Option<String>)>,
    connect_next: Option<(IpAddr, u32, u16)>,
    /// A target that nobody knows ends the command.
    failure: Option<Failure>,
}

impl Work<'_> {
    fn start(&mut self, what: &str, work: impl FnOnce(&Place) -> Part + Send + 'static) {
        let place = self.place.clone();
        self.crew.start(what, move || work(&place));
    }

    /// What depends on nothing.
    fn begin(&mut self) {
        self.start("sockets", part::read_all_sockets);
        self.start("the holders of sockets", part::read_holders);
        self.start("links and routes", part::read_links);
        self.start("the kernel's settings and counters", |place| {
            Part::Kernel(Box::new(part::read_kernel(place)))
        });
        self.start("the CNI's configuration", part::read_config);
        let (family, elsewhere) = (self.args.family.family(), self.args.elsewhere.clone());
        match self.args.target.clone() {
            Some(text) => {
                let address = None;
                self.target = Some(DiagnoseTarget { input: text.clone(), address, port: self.args.port });
                self.all.has_port = self.args.port.is_some();
                self.start("the target's name", move |place| {
                    part::find_target(place, &text, family, &elsewhere)
                });
            }
            None => self.names_next = Some((None, None)),
        }
    }

    /// Servers are asked once the pod's own sockets have been read: ours are not its own.
    fn ask_later(&mut self, lookup: Option<NameLookup>, large: Option<String>) {
        if self.all.sockets.is_some() {
            self.ask_names(lookup, large);
        } else {
            self.names_next = Some((lookup, large));
        }
    }

    fn ask_names(&mut self, lookup: Option<NameLookup>, large: Option<String>) {
        if self.all.has_names {
            self.start("name servers", move |place| part::ask_names(place, lookup, large));
        }
    }

    fn wait(&mut self, context: &Context, start: Instant) {
        let mut told = start;
        loop {
            match self.crew.next() {
                Came::Part(part) => self.came(*part),
                Came::Tick => {
                    let due = start.elapsed() > PROGRESS_AFTER && told.elapsed() > PROGRESS_AFTER;
                    if due && !context.json() {
                        told = Instant::now();
                        let left = self.place.end.saturating_duration_since(told).as_secs();
                        context
                            .note(&format!("waiting for {} (at most {left} s more)", few(&self.crew.late())));
                    }
                }
                Came::End => break,
            }
            if self.failure.is_some() || self.signals.wait(Duration::ZERO) {
                break;
            }
        }
    }

    /// Keeps a part, and starts what depends on it.
    fn came(&mut self, part: Part) {
        match part {
            Part::Target(found, ms) => {
                self.target_came(found, ms);
                self.measure_remotes();
            }
            Part::Links(links) => self.links_came(links),
            Part::Sockets(list) => {
                self.all.sockets = Some(list);
                self.know_holders();
                if let Some((lookup, large)) = self.names_next.take() {
                    self.ask_names(lookup, large);
                }
                if let Some((address, scope_id, port)) = self.connect_next.take() {
                    self.connect(address, scope_id, port);
                }
            }
            Part::Owners(owners) => {
                self.all.owners = Some(owners);
                self.know_holders();
            }
            Part::Names(names) => self.all.names = Some(names),
            Part::Kernel(kernel) => {
                self.all.kernel = Some(*kernel);
                self.measure_remotes();
            }
            Part::Config(config) => self.all.config = Some(config),
            Part::Connect(connect) => self.all.connect = Some(connect),
            Part::Path(path, result) => {
                self.waiting.retain(|other| *other != path);
                let mut result = *result;
                if let Ok(measured) = &mut result {
                    forgive(&path, &mut measured.report);
                }
                self.all.paths.push((path, result));
            }
            #[cfg(test)]
            Part::Remark => {}
        }
    }

    fn target_came(&mut self, found: Result<target::ResolvedTarget, TargetError>, ms: f64) {
        let text = self.args.target.clone().unwrap_or_default();
        let lookup = |asked_before, error| {
            Some(NameLookup { name: text.clone(), asked_before, ms, error })
                .filter(|_| target::is_name(&text))
        };
        match found {
            Ok(found) => {
                self.all.target = Some(Ok(()));
                if let Some(target) = &mut self.target {
                    target.address = Some(found.address);
                }
                let scope_id = found.scope_id.unwrap_or(0);
                let port = self.args.port;
                self.measure(Path {
                    input: text.clone(),
                    scope_id,
                    port,
                    ..Path::to(Role::Target, found.address)
                });
                if let Some(port) = port {
                    if self.all.sockets.is_some() {
                        self.connect(found.address, scope_id, port);
                    } else {
                        self.connect_next = Some((found.address, scope_id, port));
                    }
                }
                self.ask_later(lookup(found.names_before, None), found.found_as);
            }
            // Silent or failing servers are what a diagnosis is for; a name that nobody knows is a wrong word.
            Err(TargetError::Lookup { error, .. }) if !is_answer(&error) => {
                self.all.target = Some(Err(format!("{text} cannot be looked up: {error}")));
                self.ask_later(lookup(0, Some(error.to_string())), None);
            }
            Err(error) => self.failure = Some(error.into()),
        }
    }

    fn links_came(&mut self, links: Links) {
        if let (Ok(own), None) = (&links.own, &self.args.target) {
            let gateway = paths::gateway(own);
            gateway.into_iter().for_each(|path| self.measure(path));
        }
        self.all.links = Some(links);
        self.measure_remotes();
        self.measure_peers();
    }

    /// Once it is known which of the node's tunnels leads to the target.
    fn measure_remotes(&mut self) {
        let (Some(links), Some(kernel)) = (&self.all.links, &self.all.kernel) else { return };
        if self.args.target.is_some() && self.all.target.is_none() {
            return;
        }
        let Ok(host) = &links.host else { return };
        let target = self.target.as_ref().and_then(|target| target.address);
        let first = match (target, &kernel.host) {
            (Some(target), Ok(kernel)) => remote_towards(host, kernel, target),
            _ => None,
        };
        let (remotes, more) = paths::remotes(host, first);
        self.all.more_remotes = more;
        remotes.into_iter().for_each(|path| self.measure(path));
    }

    fn connect(&mut self, address: IpAddr, scope_id: u32, port: u16) {
        self.start(&format!("a connection to port {port}"), move |place| {
            part::connect(place, address, scope_id, port)
        });
    }

    /// Once both sockets and their holders are there.
    fn know_holders(&mut self) {
        if let (Some(Ok(list)), Some(Ok(owners))) = (&mut self.all.sockets, &self.all.owners) {
            owners.assign(&mut list.sockets);
            if self.place.shares_sockets() {
                list.sockets.retain(|socket| socket.process.is_some());
            }
        }
        self.measure_peers();
    }

    /// Once both sockets and own addresses are known. With a target only peers whose connections hang on large
    /// packets are measured too.
    fn measure_peers(&mut self) {
        let (Some(Ok(list)), Some(links)) = (&self.all.sockets, &self.all.links) else { return };
        if self.place.shares_sockets() && !matches!(self.all.owners, Some(Ok(_))) {
            return;
        }
        let own: Vec<IpAddr> =
            links.own.iter().flat_map(|n| &n.links).flat_map(|l| &l.addresses).map(|(a, _)| *a).collect();
        let suspects = crate::diagnose::sockets::suspects(&list.sockets);
        let mut found = peers(&list.sockets, &own);
        if self.args.target.is_some() {
            found.retain(|peer| suspects.contains(&peer.address));
        }
        self.all.more_peers = found.len().saturating_sub(MOST_PEERS);
        let waiting = found.into_iter().take(MOST_PEERS);
        let paths: Vec<Path> =
            waiting.map(|p| Path::to(Role::Peer { connections: p.connections }, p.address)).collect();
        paths.into_iter().for_each(|path| self.measure(path));
    }

    fn measure(&mut self, path: Path) {
        let known = self.waiting.iter().chain(self.all.paths.iter().map(|(path, _)| path));
        let from_host = |path: &Path| matches!(path.role, Role::Tunnel(_));
        let twice = |other: &Path| other.address == path.address && from_host(other) == from_host(&path);
        if known.into_iter().any(twice) {
            return;
        }
        self.waiting.push(path.clone());
        let signals = self.signals.clone();
        let what = path.what();
        self.start(&what, move |place| paths::measure_path(place, path, signals.as_fd()));
    }

    fn report(&mut self, start: Instant) -> DiagnoseReport {
        self.all.late_paths = std::mem::take(&mut self.waiting);
        self.all.paths.sort_by(|(a, _), (b, _)| (&a.role, a.address).cmp(&(&b.role, b.address)));
        // Counters that rose since the beginning are packets that are lost now.
        if !self.place.left().is_zero() && self.all.kernel.is_some() {
            std::thread::sleep(SHORTEST_WATCH.saturating_sub(start.elapsed()).min(self.place.left()));
            self.all.kernel_later = Some(part::read_kernel(&self.place));
        }
        let said = conclude(&self.place, &self.all);
        let verdict = verdict(&said.findings, &said.checks);
        let answers = self.all.paths.iter().any(|(path, result)| {
            // Where this node answers for a Service nothing is known, and the verdict says so.
            let of_target = |measured: &Measured| {
                measured.report.rtt_us.is_some() && measured.report.verdict != Verdict::Inconclusive
            };
            path.role == Role::Target && result.as_ref().is_ok_and(of_target)
        });
        let ranked = rank(said.findings, answers);
        let measured =
            self.all.paths.iter().filter_map(|(path, result)| Some((path, &result.as_ref().ok()?.report)));
        let rows = measured.clone().map(|(path, report)| row(path, report)).collect();
        let as_value = |(_, report): (&Path, &MtuReport)| {
            serde_json::to_value(document("nsprobe.mtu/v1", report)).unwrap_or_default()
        };
        DiagnoseReport {
            subject: self.place.source.label.clone(),
            target: self.target.clone(),
            verdict,
            checks: said.checks,
            paths: measured.map(as_value).collect(),
            findings: ranked.findings,
            because: ranked.because,
            rows,
            elapsed_ms: crate::facts::milliseconds(start.elapsed()),
        }
    }
}

fn row(path: &Path, report: &MtuReport) -> PathRow {
    let (from, what) = match &path.role {
        Role::Target => (None, String::new()),
        Role::Gateway => (None, "gateway".to_owned()),
        Role::Peer { connections: 1 } => (None, "peer of 1 connection".to_owned()),
        Role::Peer { connections } => (None, format!("peer of {connections} connections")),
        Role::Tunnel(tunnel) => (Some("host".to_owned()), format!("other end of {tunnel}")),
    };
    PathRow {
        from: from.unwrap_or_else(|| report.label.clone()),
        to: report.target.address.to_string(),
        what,
        verdict: report.verdict,
        path_mtu: report.path_mtu_bytes,
        route_mtu: report.source.route_mtu_bytes,
        rtt_us: report.rtt_us,
    }
}

/// Whether a server gave a clear answer, and it is the name that is wrong.
fn is_answer(error: &LookupError) -> bool {
    matches!(error, LookupError::NoSuchName { .. } | LookupError::NoAddress { .. } | LookupError::NetNs(_))
}
