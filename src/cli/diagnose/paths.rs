//! Which paths a diagnosis measures, and how: to the target; without one to the gateway and to the peers of open
//! connections; and from the node to the other ends of its tunnels.

use super::part::{Part, Place};
use crate::cli::Failure;
use crate::cli::mtu::{Choice, Terms, measure, plan};
use crate::diagnose::chain::find;
use crate::facts::Namespace;
use crate::observe::{Neighbour, read_neighbour};
use crate::probe::{Onlooker, Target};
use crate::report::MtuReport;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Other ends of tunnels that are measured to.
const MOST_REMOTES: usize = 8;
/// How `plan` ends without a route.
const NO_ROUTE: u8 = 3;
/// Packets of one search that nobody asked for by name.
const FEW_PROBES: u32 = 120;

/// Why a path is measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// The person named it.
    Target,
    /// The default gateway.
    Gateway,
    /// The peer of open connections.
    Peer { connections: usize },
    /// The other end of this tunnel of the node.
    Tunnel(String),
}

/// A path to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) role: Role,
    /// As people name the target.
    pub(super) input: String,
    pub(super) address: IpAddr,
    pub(super) scope_id: u32,
    /// The port that the person named, for the target alone.
    pub(super) port: Option<u16>,
}

impl Path {
    pub(super) fn to(role: Role, address: IpAddr) -> Self {
        Self { role, input: address.to_string(), address, scope_id: 0, port: None }
    }

    /// For progress.
    pub(super) fn what(&self) -> String {
        match &self.role {
            Role::Tunnel(tunnel) => format!("the path to {} ({tunnel})", self.address),
            _ => format!("the path to {}", self.input),
        }
    }
}

/// A measured path.
pub(super) struct Measured {
    pub(super) report: MtuReport,
    /// Whether the next hop answers ARP or neighbour discovery, where it could be asked.
    pub(super) neighbour: Option<Neighbour>,
}

/// Why a path was not measured.
#[derive(Debug)]
pub(super) struct Obstacle {
    pub(super) why: String,
    /// The kernel has no way there: that is a fault, not a gap.
    pub(super) no_route: bool,
}

/// Measures one path; nothing but ICMP to an address without a port.
pub(super) fn measure_path(place: &Place, path: Path, stop: BorrowedFd<'_>) -> Part {
    let obstacle = |failure: Failure| Obstacle { no_route: failure.code == NO_ROUTE, why: failure.message };
    let result = search(place, &path, stop).map_err(obstacle);
    Part::Path(path, Box::new(result))
}

fn search(place: &Place, path: &Path, stop: BorrowedFd<'_>) -> Result<Measured, Failure> {
    let named = path.role == Role::Target;
    let from = match (&path.role, &place.host) {
        (Role::Tunnel(_), Ok(host)) => host,
        (Role::Tunnel(_), Err(why)) => return Err(Failure::stopped(why.clone())),
        _ => &place.source,
    };
    // This thread dies here.
    from.netns.enter_for_ever()?;
    let terms = Terms {
        min: None,
        max: None,
        timeout: Duration::from_millis(if named { 1000 } else { 400 }),
        deadline: place.left(),
        max_probes: if named { 300 } else { FEW_PROBES },
        rate: None,
        locate: true,
        port: path.port,
        method: Choice::Auto,
    };
    let target = Target { address: path.address, scope_id: path.scope_id };
    let planned = plan(&terms, from, &path.input, target)?;
    let hop = planned.route.gateway.unwrap_or(path.address);
    let host = place.host.as_ref().ok().map(|host| &host.netns);
    let report = measure(from, host, &planned, 1, Onlooker { stop: Some(stop), tell: None })?;
    let neighbour = read_neighbour(&from.netns, hop, planned.route.index).ok();
    Ok(Measured { report, neighbour })
}

/// The gateway of the default route; one that is link-local keeps the interface it is on.
pub(super) fn gateway(own: &Namespace) -> Option<Path> {
    let defaults = || own.routes.iter().filter(|r| r.destination == "default" && r.via.is_some());
    let route = defaults().find(|r| r.via.is_some_and(|v| v.is_ipv4())).or_else(|| defaults().next())?;
    let address = route.via?;
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let link = route.interface.as_deref().and_then(|name| find(own, name));
    let scope_id = link.filter(|_| link_local).map_or(0, |l| l.index);
    Some(Path { scope_id, ..Path::to(Role::Gateway, address) })
}

/// The other ends of the node's tunnels, that on the way to the target first, and how many more there are.
pub(super) fn remotes(host: &Namespace, first: Option<IpAddr>) -> (Vec<Path>, usize) {
    let mut paths: Vec<Path> = Vec::new();
    for tunnel in host.links.iter().filter(|l| l.up) {
        for address in tunnel.egress.iter().flat_map(|e| &e.remotes) {
            if !paths.iter().any(|p| p.address == *address) {
                paths.push(Path::to(Role::Tunnel(tunnel.name.clone()), *address));
            }
        }
    }
    paths.sort_by_key(|path| Some(path.address) != first);
    let more = paths.len().saturating_sub(MOST_REMOTES);
    paths.truncate(MOST_REMOTES);
    (paths, more)
}
