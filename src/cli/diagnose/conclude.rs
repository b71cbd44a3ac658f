//! The parts that came → checks and findings, and of these one report.

use super::part::{Kernel, Links, Place};
use super::paths::{Measured, Obstacle, Path, Role};
use crate::diagnose::chain::find;
use crate::diagnose::config::{Reality, check_config, new_pods, settle};
use crate::diagnose::connect::{check_connect, check_no_route};
use crate::diagnose::datapath::{self, check_datapath};
use crate::diagnose::kernel::{self, KernelView, check_kernel};
use crate::diagnose::links::{check_links, check_unread};
use crate::diagnose::links_tunnels::check_offloads;
use crate::diagnose::pod::{check_namespace, check_pod};
use crate::diagnose::reach::check_reach;
use crate::diagnose::resolve::check_names;
use crate::diagnose::runtime::check_runtime;
use crate::diagnose::sockets::{self, Unread, check_sockets};
use crate::diagnose::tunnel_path::{TunnelPath, check_tunnel_path};
use crate::facts::{
    Check, CniConfig, Connect, Finding, KernelState, MeasuredPath, NameResolution, Namespace, Outcome,
    Severity, Verdict,
};
use crate::netns::Procfs;
use crate::observe::{Neighbour, Owners, SocketList};
use crate::report::MtuReport;
use std::path::Path as FilePath;
use std::time::SystemTime;

/// Everything that came before the deadline; `None` is what did not.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) links: Option<Links>,
    /// With who holds them, once that is known.
    pub(super) sockets: Option<Result<SocketList, String>>,
    pub(super) owners: Option<Result<Owners, String>>,
    pub(super) config: Option<CniConfig>,
    pub(super) kernel: Option<Kernel>,
    /// The same at the end.
    pub(super) kernel_later: Option<Kernel>,
    pub(super) names: Option<Result<NameResolution, String>>,
    /// SOURCE has files that name servers.
    pub(super) has_names: bool,
    pub(super) connect: Option<Connect>,
    /// A port was named.
    pub(super) has_port: bool,
    /// A target was named.
    pub(super) has_target: bool,
    /// `None`: it was not resolved yet; an error: why it has no address.
    pub(super) target: Option<Result<(), String>>,
    pub(super) paths: Vec<(Path, Result<Measured, Obstacle>)>,
    /// Paths that did not come back before the deadline.
    pub(super) late_paths: Vec<Path>,
    /// Other ends of tunnels that were too many.
    pub(super) more_remotes: usize,
    /// Peers that were too many.
    pub(super) more_peers: usize,
}

const LATE: &str = "it did not end in time";

/// Checks and findings, in no order yet.
#[derive(Default)]
pub(super) struct Conclusion {
    pub(super) checks: Vec<Check>,
    pub(super) findings: Vec<Finding>,
}

/// What all of it says.
pub(super) fn conclude(place: &Place, all: &Collected) -> Conclusion {
    let mut said = Conclusion::default();
    said.pod(place, all);
    said.links(place, all);
    said.kernel(all);
    said.sockets(place, all);
    said.names(place, all);
    match (&all.target, &all.connect) {
        (Some(Err(why)), _) => said.checks.push(Check::not_checked("target.resolved", why.clone())),
        (Some(Ok(())), _) => said.checks.push(Check::passed("target.resolved", "it has an address")),
        (None, _) if all.has_target => said.checks.push(Check::not_checked("target.resolved", LATE)),
        (None, _) => {}
    }
    match &all.connect {
        Some(connect) => {
            let (check, finding) = check_connect(&place.source.label, connect);
            said.checks.push(check);
            said.findings.extend(finding);
        }
        None if all.has_port => {
            let why = if matches!(all.target, Some(Err(_))) { "the target has no address" } else { LATE };
            said.checks.push(Check::not_checked("connect.port", why));
        }
        None => {}
    }
    said.paths(&place.source.label, all);
    said
}

impl Conclusion {
    /// A check that fails with the first finding that warns, and passes without.
    fn check(&mut self, id: &'static str, found: &[Finding], seen: impl Into<String>) {
        let worst = found.iter().filter(|f| f.severity > Severity::Info).max_by_key(|f| f.severity);
        self.checks.push(match worst {
            Some(finding) => Check::failed(id, finding.summary.clone()),
            None => Check::passed(id, seen),
        });
        self.findings.extend(found.iter().cloned());
    }

    fn blind(&mut self, id: &'static str, why: impl Into<String>) {
        self.checks.push(Check::not_checked(id, why));
    }

    fn pod(&mut self, place: &Place, all: &Collected) {
        let source = &place.source;
        if let Some(degraded) = &source.degraded {
            self.check("runtime.answers", &[check_runtime(degraded, None)], "");
        }
        let Some(pod) = &source.pod else { return };
        if source.degraded.is_none() && !source.label.starts_with("pid:") {
            self.check("runtime.answers", &[], "it listed the pods");
        }
        let (check, findings) = check_pod(pod, source.host_network);
        self.checks.push(check);
        self.findings.extend(findings);
        if let (Some(Links { own: Ok(own), .. }), false) = (&all.links, place.is_host()) {
            let found = check_namespace(pod, own, pod.pid.is_some_and(is_gvisor));
            let holder = if found.is_empty() { "it holds" } else { "a stack inside of it holds" };
            self.check("pod.namespace", &found, format!("{holder} the pod's addresses"));
        }
    }

    fn links(&mut self, place: &Place, all: &Collected) {
        let Some(Links { own, host }) = &all.links else {
            for id in ["links.own", "links.host", datapath::ID] {
                self.blind(id, LATE);
            }
            return;
        };
        let inode = place.host.as_ref().map_or(0, |h| h.netns.inode());
        let mut namespaces: Vec<Namespace> = host.iter().cloned().collect();
        namespaces.extend(own.iter().filter(|own| own.netns_inode != inode).cloned());
        let mut findings = check_links(&namespaces, inode);
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        findings.extend(check_offloads(&namespaces, &release));
        findings.extend(check_reach(&namespaces, inode));
        self.config(place, all, &namespaces, &mut findings);
        let (hosts, owns): (Vec<Finding>, Vec<Finding>) =
            findings.into_iter().partition(|f| f.subject == "host" && !place.is_host());
        let seen = |n: &Namespace| format!("{} interfaces, {} routes", n.links.len(), n.routes.len());
        match own {
            Ok(own) => self.check("links.own", &owns, seen(own)),
            Err(why) => {
                self.findings.push(check_unread(&place.source.label, why));
                self.blind("links.own", why.clone());
            }
        }
        match host {
            _ if place.is_host() => {}
            Ok(host) => self.check("links.host", &hosts, seen(host)),
            Err(why) => {
                self.findings.push(check_unread("host", why));
                self.blind("links.host", why.clone());
            }
        }
        match (own, host) {
            (Ok(own), Ok(host)) => self.checks.push(check_datapath(own, host)),
            _ => self.blind(datapath::ID, "the interfaces of both sides are not known"),
        }
    }

    /// What the CNI's files say, compared with the links of SOURCE and of the node.
    /// What is explained by them is taken out of `links`.
    fn config(&mut self, place: &Place, all: &Collected, namespaces: &[Namespace], links: &mut Vec<Finding>) {
        const ID: &str = "config.cni";
        let Some(config) = &all.config else { return self.blind(ID, LATE) };
        if config.files.is_empty() {
            return self.blind(ID, "no configuration of a CNI plugin is in /etc/cni/net.d");
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        // A namespace that was named by PID or path has no name that kubectl knows.
        let named = place.source.pod.iter().filter(|pod| pod.full_name() == place.source.label);
        let created = named.map(|pod| (pod.full_name(), pod.created_at.clone())).collect();
        let reality = Reality {
            namespaces,
            host: place.host.as_ref().map_or(0, |host| host.netns.inode()),
            created: &created,
            now: i64::try_from(now).unwrap_or(i64::MAX),
        };
        links.extend(check_config(config, reality));
        settle(config, links);
        let findings: Vec<Finding> = links.extract_if(.., |f| f.id.starts_with("config.")).collect();
        let seen = match new_pods(config) {
            Some(given) => {
                format!("new pods get MTU {} ({} in {})", given.mtu_bytes, given.stated_by, given.path)
            }
            None => "no file states an MTU for new pods".to_owned(),
        };
        self.check(ID, &findings, seen);
    }

    /// Both namespaces with one check a subject: of two outcomes the worse counts.
    fn kernel(&mut self, all: &Collected) {
        let Some(first) = &all.kernel else { return self.blind("net.settings", LATE) };
        let later = all.kernel_later.as_ref();
        let links = all.links.as_ref();
        let own = (
            kernel::Role::Pod,
            first.own.as_ref(),
            later.and_then(|later| later.own.as_ref()),
            links.and_then(|links| links.own.as_ref().ok()),
        );
        let host = (
            kernel::Role::Node,
            Some(&first.host),
            later.map(|later| &later.host),
            links.and_then(|links| links.host.as_ref().ok()),
        );
        let mut checks: Vec<Check> = Vec::new();
        for (role, first, later, namespace) in [own, host] {
            let first: &KernelState = match first {
                None => continue,
                Some(Ok(state)) => state,
                Some(Err(why)) => {
                    checks.push(Check::not_checked("net.settings", why.clone()));
                    continue;
                }
            };
            let (now, before) = match later {
                Some(Ok(later)) => (later, Some(first)),
                _ => (first, None),
            };
            let looked = check_kernel(KernelView { role, now, before, namespace });
            self.findings.extend(looked.findings);
            checks.extend(looked.checks);
        }
        for check in checks {
            match self.checks.iter_mut().find(|other| other.id == check.id) {
                Some(other) if rank(&check) > rank(other) => *other = check,
                Some(_) => {}
                None => self.checks.push(check),
            }
        }
    }

    fn sockets(&mut self, place: &Place, all: &Collected) {
        let subject = &place.source.label;
        let list = match (&all.sockets, &all.owners) {
            (None, _) => return self.blind("sockets.read", LATE),
            (Some(Err(why)), _) => return self.blind("sockets.read", why.clone()),
            (Some(Ok(_)), None) if place.shares_sockets() => return self.blind("sockets.read", LATE),
            (Some(Ok(_)), Some(Err(why))) if place.shares_sockets() => {
                return self.blind("sockets.read", why.clone());
            }
            (Some(Ok(list)), _) => list,
        };
        let owners = all.owners.as_ref().and_then(|owners| owners.as_ref().ok());
        let unread = Unread {
            unreadable: list.unreadable,
            left_out: list.left_out,
            refused: list.refused.clone(),
            denied: owners.map_or(0, |owners| owners.denied),
            cut: owners.is_some_and(|owners| owners.cut),
        };
        let mut findings =
            check_sockets(subject, place.source.host_network, &list.sockets, &measured(&all.paths));
        findings.extend(sockets::check_unread(subject, &unread));
        if list.sockets.is_empty()
            && let Some(protocol) = list.refused.first()
        {
            self.findings.extend(findings);
            return self.blind(
                "sockets.read",
                format!("the kernel gives no diagnostics of {} sockets", protocol.name()),
            );
        }
        let whose = if place.shares_sockets() { " of its own processes" } else { "" };
        self.check("sockets.read", &findings, format!("{} sockets{whose}", list.sockets.len()));
    }

    fn names(&mut self, place: &Place, all: &Collected) {
        match &all.names {
            _ if !all.has_names => {}
            None => ["dns.resolv_conf", "dns.udp"].into_iter().for_each(|id| self.blind(id, LATE)),
            Some(Err(why)) => {
                ["dns.resolv_conf", "dns.udp"].into_iter().for_each(|id| self.blind(id, why.clone()));
            }
            Some(Ok(names)) => {
                let (checks, findings) = check_names(&place.source.label, names);
                self.checks.extend(checks);
                self.findings.extend(findings);
            }
        }
    }

    fn paths(&mut self, subject: &str, all: &Collected) {
        let host = all.links.as_ref().and_then(|links| links.host.as_ref().ok());
        let of = |role: fn(&Role) -> bool| all.paths.iter().filter(move |(path, _)| role(&path.role));
        let late = |role: fn(&Role) -> bool| all.late_paths.iter().any(|path| role(&path.role));
        let target: fn(&Role) -> bool = |role| *role == Role::Target;
        let gateway: fn(&Role) -> bool = |role| *role == Role::Gateway;
        let peer: fn(&Role) -> bool = |role| matches!(role, Role::Peer { .. });
        let tunnel: fn(&Role) -> bool = |role| matches!(role, Role::Tunnel(_));
        for (id, role, more) in [
            ("path.target", target, 0),
            ("path.gateway", gateway, 0),
            ("path.peers", peer, all.more_peers),
            ("path.tunnels", tunnel, all.more_remotes),
        ] {
            let some: Vec<_> = of(role).collect();
            if some.is_empty() && !late(role) {
                continue;
            }
            self.one_kind(subject, id, &some, late(role), more, host);
        }
        match &all.target {
            Some(Err(_)) => self.blind("path.target", "the target has no address"),
            Some(Ok(())) => {}
            None if all.has_target => self.blind("path.target", "its address was not known in time"),
            // From the node to the other end of a tunnel is no path of SOURCE.
            None if all.paths.iter().any(|(path, result)| {
                !matches!(path.role, Role::Tunnel(_)) && result.as_ref().is_ok_and(|m| settled(&m.report))
            }) =>
            {
                self.check("path.any", &[], "at least one path was measured");
            }
            None => self
                .blind("path.any", "no path could be measured: nothing that answers is known; name a TARGET"),
        }
    }

    /// The paths of one kind: what they say, and one check for all.
    fn one_kind(
        &mut self,
        subject: &str,
        id: &'static str,
        paths: &[&(Path, Result<Measured, Obstacle>)],
        late: bool,
        more: usize,
        host: Option<&Namespace>,
    ) {
        let mut findings = Vec::new();
        let mut silent = Vec::new();
        let mut clear = 0;
        for (path, result) in paths {
            match result {
                Ok(measured) => {
                    findings.extend(measured.report.findings.iter().cloned());
                    if let (Role::Tunnel(name), Some(host)) = (&path.role, host) {
                        findings.extend(below_tunnel(name, path, &measured.report, host));
                    }
                    if settled(&measured.report) {
                        clear += 1;
                    } else {
                        silent.push(quiet(path, measured));
                    }
                }
                Err(obstacle) => {
                    if obstacle.no_route && path.role == Role::Target {
                        findings.push(check_no_route(subject, &path.input, &obstacle.why));
                    }
                    silent.push(obstacle.why.clone());
                }
            }
        }
        let bad = findings.iter().any(|f| f.severity > Severity::Info);
        let plural = if clear == 1 { "" } else { "s" };
        let mut seen = format!("{clear} path{plural} measured");
        if more > 0 {
            seen.push_str(&format!(", {more} more left out"));
        }
        if !silent.is_empty() {
            seen.push_str(&format!("; not measured: {}", silent.join(", ")));
        }
        if clear == 0 && !bad {
            self.findings.extend(findings);
            let why = if late { LATE.to_owned() } else { silent.join(", ") };
            return self.blind(id, why);
        }
        self.check(id, &findings, seen);
    }
}

/// Which of two outcomes of one check counts.
fn rank(check: &Check) -> u8 {
    match check.outcome {
        Outcome::Failed => 2,
        Outcome::NotChecked => 1,
        Outcome::Passed => 0,
    }
}

/// Why a path has no number.
fn quiet(path: &Path, measured: &Measured) -> String {
    let next = match measured.neighbour {
        Some(Neighbour::Known) => ", though the next hop is there",
        Some(Neighbour::Failed | Neighbour::Asking) => ", and the next hop is silent",
        _ => "",
    };
    let what = match measured.report.verdict {
        Verdict::Inconclusive => "gave no clear answer",
        _ => "answers no ICMP",
    };
    format!("{} {what}{next}", path.input)
}

fn settled(report: &MtuReport) -> bool {
    matches!(report.verdict, Verdict::Clear | Verdict::Narrowed | Verdict::BlackHole)
}

fn below_tunnel(name: &str, path: &Path, report: &MtuReport, host: &Namespace) -> Option<Finding> {
    check_tunnel_path(&TunnelPath {
        tunnel: find(host, name)?,
        remote: path.address,
        verdict: report.verdict,
        path_mtu: report.path_mtu_bytes,
        sent: report.probes.sent,
    })
}

/// What is known of the paths that sockets of SOURCE use.
fn measured(paths: &[(Path, Result<Measured, Obstacle>)]) -> Vec<MeasuredPath> {
    let own = paths.iter().filter(|(path, _)| !matches!(path.role, Role::Tunnel(_)));
    own.filter_map(|(path, result)| {
        let report = &result.as_ref().ok()?.report;
        Some(MeasuredPath {
            remote: path.address,
            method: report.method,
            verdict: report.verdict,
            path_mtu_bytes: report.path_mtu_bytes,
            passes_bytes: report.bounds.passes_bytes,
            interface: report.source.interface.clone(),
        })
    })
    .collect()
}

/// Takes out of a path that nobody named what is no fault of it: silence to ICMP is a filter as often as a break.
pub(super) fn forgive(path: &Path, report: &mut MtuReport) {
    if path.role != Role::Target {
        let silence = [
            "mtu.unreachable",
            "mtu.inconclusive",
            "mtu.target_silent",
            "mtu.echo_filtered",
            "mtu.echo_limited",
            "mtu.other_method",
        ];
        let of_tunnel = matches!(path.role, Role::Tunnel(_));
        report.findings.retain(|finding| {
            !(silence.contains(&finding.id) || of_tunnel && finding.id == "mtu.next_hop_silent")
        });
    }
}

/// Whether the process is a sandbox of gVisor, whose program is called `runsc`.
fn is_gvisor(pid: u32) -> bool {
    Procfs::open(FilePath::new("/proc")).is_ok_and(|proc| proc.runs(pid, |name| name.starts_with(b"runsc")))
}
