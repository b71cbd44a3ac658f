//! Where to capture: every SOURCE found, the points on its way through the node, then a handle on each.

use super::CaptureArgs;
use super::failures::capture_failure;
use crate::capture::{
    self, Inside, Network, Place, Point, PointFilter, Settings, SshConnection, Wish, Words, both,
    tunnel_errors,
};
use crate::cli::{Context, Failure};
use crate::diagnose::points::{WayPoint, addresses, of_node, way};
use crate::facts::{Namespace, PointKind};
use crate::netns::NetNs;
use crate::observe::{ReadOptions, read_namespaces};
use crate::pods::{Source, resolve};
use crate::report::sanitize;
use std::net::IpAddr;
use std::path::Path;

/// VXLAN's ports: IANA's, and that of Linux and Flannel.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
/// As many addresses make a filter that the kernel takes, also where it looks into tunnels.
const MOST_ADDRESSES: usize = 100;
/// Kernel memory of one point, bytes, when nothing is asked for.
const BUFFER: u32 = 8 << 20;
/// And of all points together.
const BUFFERS: u32 = 128 << 20;
/// Below this much, a full-size segment does not fit.
const LEAST_BUFFER: u32 = 256 << 10;

/// Finds every SOURCE before anything is opened; two of one namespace are one.
pub(super) fn find_sources(args: &CaptureArgs, context: &Context) -> Result<Vec<Source>, Failure> {
    let mut sources: Vec<Source> = Vec::new();
    for selector in &args.sources {
        let source = resolve(&context.pods(), selector).map_err(|error| {
            let failure = Failure::from(error);
            match &failure.hint {
                // `capture web-0 tcp port 80`, as tcpdump takes it.
                Some(hint) if args.sources.len() > 1 && failure.code == 3 => {
                    let hint = format!("{hint}; a filter comes after --");
                    failure.hint(hint)
                }
                _ => failure,
            }
        })?;
        match sources.iter().find(|s| s.netns.inode() == source.netns.inode()) {
            Some(same) => context
                .note(&format!("{} shares the namespace of {}: captured once", source.label, same.label)),
            None => sources.push(source),
        }
    }
    Ok(sources)
}

/// The interfaces of one namespace that are to be opened.
struct Plan<'a> {
    subject: String,
    netns: &'a NetNs,
    host: bool,
    wishes: Vec<Wish>,
}

impl Plan<'_> {
    fn place(&self) -> Place<'_> {
        Place { subject: &self.subject, netns: self.netns, host: self.host }
    }
}

/// Opens every point of every SOURCE; sets the buffer of each in `settings`.
pub(super) fn open_all(
    args: &CaptureArgs,
    context: &Context,
    sources: &[Source],
    settings: &mut Settings,
    feeds_back: bool,
) -> Result<Vec<Point>, Failure> {
    let kinds = args.points.kinds();
    let node = std::fs::metadata(context.host_path("/proc/1/ns/net"))
        .map(|m| std::os::unix::fs::MetadataExt::ino(&m))
        .ok();
    let is_node = |source: &Source| source.host_network || node == Some(source.netns.inode());
    let behind: Vec<PointKind> = kinds.iter().copied().filter(|k| *k != PointKind::Pod).collect();
    let exclusion = (feeds_back && (!behind.is_empty() || sources.iter().any(is_node)))
        .then(|| capture::find_ssh_connection(Path::new("/proc")))
        .flatten();
    if let Some(ssh) = exclusion.filter(|_| context.global.verbose) {
        context.note(&format!("left out: the ssh connection that carries the output, {ssh}"));
    }
    let exclusion = exclusion.as_ref().map(SshConnection::exclusion);
    let mut plans = Vec::new();
    for source in sources {
        let host = is_node(source);
        let mut plan = Plan {
            subject: sanitize(&source.label).into_owned(),
            netns: &source.netns,
            host,
            wishes: Vec::new(),
        };
        // What the node's uplink is as a point is asked for by that name.
        if kinds.contains(&PointKind::Pod) && !(host && kinds.contains(&PointKind::Uplink)) {
            let names = capture::find_interfaces(&plan.place(), &args.interface).map_err(capture_failure)?;
            let filter = PointFilter {
                text: settings.filter.clone(),
                exclusion: exclusion.clone().filter(|_| host),
                inside: None,
            };
            let wish = |name: String| Wish {
                label: sanitize(&format!("{} {name}", plan.subject)).into_owned(),
                interface: name,
                filter: filter.clone(),
                far_mac: None,
            };
            plan.wishes = names.into_iter().map(wish).collect();
        }
        plans.push(plan);
    }
    let host;
    if !behind.is_empty() {
        host = resolve(&context.pods(), "host")?;
        let asked = Asked { args, kinds: &behind, filter: &settings.filter, exclusion };
        let wishes = find_points(&asked, context, &host, sources, &is_node)?;
        match plans.iter_mut().find(|p| p.netns.inode() == host.netns.inode()) {
            Some(plan) => {
                plan.wishes.retain(|w| !wishes.iter().any(|other| other.interface == w.interface));
                plan.wishes.extend(wishes);
            }
            None => plans.push(Plan { subject: "host".into(), netns: &host.netns, host: true, wishes }),
        }
    }
    plans.retain(|p| !p.wishes.is_empty());
    let count = plans.iter().map(|p| p.wishes.len()).sum();
    settings.buffer_bytes = buffer(args.buffer, count);
    allow_files(count);
    let mut points = Vec::new();
    for plan in &plans {
        points.extend(capture::open_points(&plan.place(), &plan.wishes, settings).map_err(capture_failure)?);
    }
    Ok(points)
}

/// Kernel memory of each of `count` points: what was asked for, or a share of what all may take.
fn buffer(asked: Option<u32>, count: usize) -> u32 {
    asked.unwrap_or_else(|| {
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        (BUFFERS / count).clamp(LEAST_BUFFER, BUFFER)
    })
}

/// Raises the limit on open files as far as this process may: each point is one, and a few more are needed.
fn allow_files(points: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = u64::try_from(points).unwrap_or(u64::MAX).saturating_add(100);
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < wanted
    {
        // Too few of them shows when a point is opened.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard);
    }
}

/// What is asked for behind the pods' own interfaces.
struct Asked<'a> {
    args: &'a CaptureArgs,
    kinds: &'a [PointKind],
    filter: &'a str,
    exclusion: Option<String>,
}

/// An interface of the node on the way of some SOURCES.
struct Passing {
    point: WayPoint,
    /// The first whose way it is on.
    subject: String,
    /// Addresses of those whose way it is on; `None`: of everybody.
    addresses: Option<Vec<IpAddr>>,
    /// Hardware address of the pod's end of a veth.
    far_mac: Option<[u8; 6]>,
}

/// The points in the node's namespace, each once, whoever's way it is on.
fn find_points(
    asked: &Asked<'_>,
    context: &Context,
    host: &Source,
    sources: &[Source],
    is_node: &dyn Fn(&Source) -> bool,
) -> Result<Vec<Wish>, Failure> {
    let mut open: Vec<(&str, &NetNs)> = vec![("host", &host.netns)];
    open.extend(sources.iter().filter(|s| !is_node(s)).map(|s| (s.label.as_str(), &s.netns)));
    let mut read =
        read_namespaces(&open, ReadOptions { all_addresses: true, ..ReadOptions::default() }).into_iter();
    let Some((_, node)) = read.next() else { return Ok(Vec::new()) };
    let node = node?;
    let mut passing: Vec<Passing> = Vec::new();
    for source in sources {
        let (all, pod): (Vec<WayPoint>, Option<Namespace>) = if is_node(source) {
            (of_node(&node), None)
        } else {
            let Some((_, pod)) = read.next() else { continue };
            let pod = pod?;
            (way(&pod, &node, &asked.args.interface), Some(pod))
        };
        check_kinds(asked, context, &source.label, &all)?;
        let addresses = pod.map(|pod| {
            let mut found = addresses(&pod, &asked.args.interface);
            found.extend(source.pod.iter().flat_map(|p| p.ips.iter().copied()));
            found.sort_unstable();
            found.dedup();
            found
        });
        let place = Place { subject: &source.label, netns: &source.netns, host: false };
        let wanted = asked.kinds.contains(&PointKind::Veth) && !is_node(source);
        let macs = if wanted { capture::find_macs(&place) } else { Vec::new() };
        let mac_of = |name: &String| macs.iter().find(|(n, _)| n == name).map(|(_, mac)| *mac);
        for point in all.into_iter().filter(|p| asked.kinds.contains(&p.kind)) {
            match passing.iter_mut().find(|p| p.point.interface == point.interface) {
                Some(same) => {
                    match (&mut same.addresses, &addresses) {
                        (Some(known), Some(more)) => known.extend(more),
                        (known, _) => *known = None,
                    }
                    // The node knows a veth, its pod what is inside.
                    if same.point.inside.is_none() && point.inside.is_some() {
                        same.far_mac = point.inside.as_ref().and_then(mac_of);
                        (same.point, same.subject) = (point, source.label.clone());
                    }
                }
                None => passing.push(Passing {
                    far_mac: point.inside.as_ref().and_then(mac_of),
                    point,
                    subject: source.label.clone(),
                    addresses: addresses.clone(),
                }),
            }
        }
    }
    passing.sort_by_key(|p| p.point.kind);
    let mut ports = VXLAN_PORTS.to_vec();
    let vxlan = node.links.iter().filter(|l| l.kind.as_deref() == Some("vxlan"));
    ports.extend(vxlan.filter_map(|l| l.tunnel.as_ref()?.port));
    ports.sort_unstable();
    ports.dedup();
    passing.into_iter().map(|p| wish(asked, context, p, &ports)).collect()
}

/// A kind of point that a SOURCE does not have is noted; when it has none of those asked for, nothing can be done.
fn check_kinds(asked: &Asked<'_>, context: &Context, label: &str, all: &[WayPoint]) -> Result<(), Failure> {
    let has = |kind: &PointKind| all.iter().any(|p| p.kind == *kind);
    let missing: Vec<&str> = asked.kinds.iter().filter(|k| !has(k)).map(|k| k.name()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = format!("no {} on the way of {label}", missing.join(", no "));
    let pod_too = asked.args.points.kinds().contains(&PointKind::Pod);
    if missing.len() < asked.kinds.len() || pod_too {
        if !asked.args.points.all() {
            context.note(&format!("{what}: left out"));
        }
        return Ok(());
    }
    let mut there: Vec<&str> = vec!["pod"];
    there.extend(PointKind::ALL.iter().filter(|k| has(k)).map(|k| k.name()));
    Err(Failure::stopped(what)
        .hint(format!("--point {}; nsprobe links {label} shows the way", there.join(","))))
}

/// What is let through at a point: at a veth all is its pod's own; elsewhere others' packets pass too.
fn wish(asked: &Asked<'_>, context: &Context, passing: Passing, ports: &[u16]) -> Result<Wish, Failure> {
    let Passing { point, subject, addresses, far_mac } = passing;
    let kind = point.kind;
    let label = match (&point.inside, kind) {
        (Some(inside), _) => format!("{} (peer of {subject} {inside})", point.interface),
        (None, PointKind::Veth) => format!("{} (of a pod)", point.interface),
        _ => format!("{} {}", kind.name(), point.interface),
    };
    let label = sanitize(&label).into_owned();
    // At a veth all is its pod's own; on the way of the node itself everybody's is meant.
    let limited = addresses.is_some() && kind != PointKind::Veth && !asked.args.points.all_traffic;
    let own = addresses.filter(|_| limited).unwrap_or_default();
    let mut text = asked.filter.to_owned();
    if own.len() > MOST_ADDRESSES {
        context.note(&format!(
            "{label}: everybody's traffic, for {} addresses are too many for a filter",
            own.len()
        ));
    } else if !own.is_empty() {
        let words = Words { hosts: own.into_iter().map(Network::from).collect(), ..Words::default() };
        let own = words.filter();
        let about = (kind == PointKind::Uplink).then(|| format!("{own} or {}", tunnel_errors(ports)));
        text = both(&about.unwrap_or(own), &text);
    } else if limited {
        return Err(Failure::stopped(format!(
            "no address of {subject} is known to tell its traffic on {label}"
        ))
        .hint("--all-traffic captures everybody's there"));
    }
    let inside = (kind == PointKind::Uplink).then(|| Inside { vxlan_ports: ports.to_vec() });
    let filter = PointFilter { text, exclusion: asked.exclusion.clone(), inside };
    if context.global.verbose {
        let shown = if filter.text.is_empty() { "everything" } else { &filter.text };
        let tunnels = if filter.inside.is_some() && !filter.text.is_empty() {
            ", or inside a tunnel's packet"
        } else {
            ""
        };
        context.note(&format!("filter at {label}: {shown}{tunnels}"));
    }
    Ok(Wish { interface: point.interface, label, filter, far_mac })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_all_points_is_bounded_unless_asked_for() {
        assert_eq!(buffer(None, 1), 8 << 20);
        assert_eq!(buffer(None, 16), 8 << 20);
        assert_eq!(buffer(None, 250), (128 << 20) / 250);
        assert_eq!(buffer(None, 1_000_000), 256 << 10);
        assert_eq!(buffer(Some(2 << 20), 250), 2 << 20);
    }
}
