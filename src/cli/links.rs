//! `nsprobe links`: every interface's MTU, the chain of each pod, and what does not fit together.

use super::{Context, Exit, Failure};
use crate::diagnose::config::{Reality, check_config, new_pods, settle};
use crate::diagnose::kernel::{KernelView, Role, check_kernel};
use crate::diagnose::links::{check_links, check_unread};
use crate::diagnose::links_tunnels::check_offloads;
use crate::diagnose::reach::check_reach;
use crate::diagnose::runtime::check_runtime;
use crate::facts::{Finding, KernelState, Namespace, Severity};
use crate::netns::{NetNs, NetNsError, expect_many_descriptors};
use crate::observe::{
    ObserveError, ReadOptions, Reading, join_readings, read_cni_config, read_here, read_with_state,
};
use crate::pods::Options;
use crate::report::{LinksDocument, LinksView, render_links};
use clap::Args;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Arguments of `links`.
#[derive(Debug, Args)]
pub(crate) struct LinksArgs {
    /// Whose links, with those of the host that they hang on; the host and every pod without.
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
}

/// Open namespaces by subject, and what was read in each.
#[derive(Default)]
struct Targets {
    open: Vec<(String, NetNs)>,
    readings: Vec<Reading>,
}

impl Targets {
    /// Unless it is there already, as with a pod that has hostNetwork or was named twice.
    fn add(&mut self, subject: String, netns: NetNs, reading: Reading) {
        if !self.open.iter().any(|(_, other)| other.inode() == netns.inode()) {
            self.open.push((subject, netns));
            self.readings.push(reading);
        }
    }
}

/// What the node's own settings and tables do to the packets of its pods; notes on what is no fault stay with
/// `diagnose`.
fn check_host(state: Result<KernelState, ObserveError>, namespaces: &[Namespace], host: u64) -> Vec<Finding> {
    let now = match state {
        Ok(now) => now,
        Err(error) => return vec![check_unread("host", &error.to_string())],
    };
    let namespace = namespaces.iter().find(|n| n.netns_inode == host);
    let view = KernelView { role: Role::Node, now: &now, before: None, namespace };
    let mut findings = check_kernel(view).findings;
    findings.retain(|f| f.severity > Severity::Info);
    findings
}

/// Addresses of every pod too: two with one address, and an address that no route leads to.
const READ: ReadOptions = ReadOptions { counters: false, all_addresses: true };

/// What was read of each, and the process of the runtime where that was asked for all of them.
type Others = (Vec<(String, NetNs, Reading)>, Option<u32>);

/// The pods that were named, or all; the host's own namespace, which pods with hostNetwork share, is left out.
fn read_others(
    args: &LinksArgs,
    options: &Options,
    host: u64,
    findings: &mut Vec<Finding>,
    created: &mut BTreeMap<String, Option<String>>,
) -> Result<Others, Failure> {
    let read = |netns: &NetNs| (netns.inode() != host).then(|| read_here(netns, READ));
    let mut others = Vec::new();
    let mut runtime = None;
    if args.sources.is_empty() {
        let all = crate::pods::resolve_all(options, read)?;
        findings.extend(all.degraded.iter().map(|d| check_runtime(d, all.endpoint.as_deref())));
        *created = all.created;
        runtime = all.runtime_pid;
        for (subject, source) in all.sources {
            match source {
                Ok((netns, reading)) => others.extend(reading.map(|reading| (subject, netns, reading))),
                Err(error) => findings.push(check_unread(&subject, &error.to_string())),
            }
        }
    }
    for selector in &args.sources {
        let source = crate::pods::resolve(options, selector)?;
        findings.extend(source.degraded.iter().map(|d| check_runtime(d, None)));
        // A namespace that was named by PID or path has no name that kubectl knows.
        let named = source.pod.iter().filter(|pod| pod.full_name() == source.label);
        created.extend(named.map(|pod| (source.label.clone(), pod.created_at.clone())));
        let reading = source.netns.run(|| read(&source.netns)).map_err(ObserveError::from)?;
        others.extend(reading.map(|reading| (source.label, source.netns, reading)));
    }
    Ok((others, runtime))
}

pub(super) fn run(args: &LinksArgs, context: &mut Context) -> Result<Exit, Failure> {
    expect_many_descriptors();
    let options = context.pods();
    let mut findings = Vec::new();
    let mut created = BTreeMap::new();
    let host = match crate::pods::resolve(&options, "host") {
        Ok(source) => Some(source.netns),
        // Of what was named the rest can still be told.
        Err(error) if !args.sources.is_empty() => {
            findings.push(check_unread("host", &error.to_string()));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let inode = host.as_ref().map_or(0, NetNs::inode);
    // The host is read while the runtime thinks.
    let (of_host, (others, runtime)) = std::thread::scope(|scope| {
        let thread = host.as_ref().map(|netns| {
            let named = std::thread::Builder::new().name("netns".into());
            let read = move || read_with_state("host", netns, READ);
            named.spawn_scoped(scope, read).map_err(NetNsError::Thread)
        });
        let others = read_others(args, &options, inode, &mut findings, &mut created);
        let joined = thread.transpose()?.map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        Ok::<_, Failure>((joined, others?))
    })?;
    let config = read_cni_config(&options.host_root, runtime);
    let mut targets = Targets::default();
    let mut state = None;
    if let (Some(netns), Some((reading, kernel))) = (host, of_host) {
        targets.add("host".into(), netns, reading);
        state = Some(kernel);
    }
    for (subject, netns, reading) in others {
        targets.add(subject, netns, reading);
    }
    findings.dedup();
    let readings = std::mem::take(&mut targets.readings);
    let open: Vec<(&str, &NetNs)> = targets.open.iter().map(|(name, netns)| (name.as_str(), netns)).collect();
    let mut namespaces = Vec::new();
    for (subject, answer) in join_readings(&open, readings) {
        match answer {
            Ok(namespace) => namespaces.push(namespace),
            Err(error) if error.is_permission() || subject == "host" => return Err(error.into()),
            Err(error) => findings.push(check_unread(&subject, &error.to_string())),
        }
    }
    findings.extend(check_links(&namespaces, inode));
    findings.extend(check_reach(&namespaces, inode));
    findings.extend(state.map(|state| check_host(state, &namespaces, inode)).unwrap_or_default());
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    findings.extend(check_offloads(&namespaces, &release));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let reality = Reality { namespaces: &namespaces, host: inode, created: &created, now };
    findings.extend(check_config(&config, reality));
    settle(&config, &mut findings);
    let report = LinksDocument { namespaces, new_pods: new_pods(&config), findings };
    let verbose = context.global.verbose;
    context.report("nsprobe.links/v1", &report, |out| {
        render_links(&report, inode, LinksView { paint: out.paint, width: out.width, verbose })
    })?;
    let exit = Exit::of(&report.findings);
    // The process ends, and with it hundreds of open namespaces and all that was said of them, at once.
    std::mem::forget((targets, report));
    Ok(exit)
}
