//! Rules on the addresses of pods: ranges that are full, reservations that nobody holds, addresses given twice.

use super::ipam_rules::{
    DUPLICATE, EXHAUSTED, LEAKED, MAX_PODS, NEARLY, NOT_LOOKED_UP, OTHER, OUTSIDE, RANGES_UNKNOWN,
    SECOND_GATEWAY, STRANGE, TWICE, UNCONFIGURED, UNREADABLE,
};
use super::ipam_words::{describe_plugin, free_command, plural};
use crate::facts::{ContainerId, Evidence, Finding, Holders, IpamNetwork, IpamState, Reservation, Severity};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// A sandbox that is being made has its address before any list has it: the kubelet waits this long for one (twice
/// its runtimeRequestTimeout of 2 minutes), seconds.
const BEING_MADE: i64 = 240;
/// Evidence of one finding.
const MOST_EVIDENCE: usize = 20;

/// Says of each reservation that somebody holds who that is.
pub fn settle_holders(state: &mut IpamState, holders: &Holders) {
    for reservation in state.networks.iter_mut().flat_map(|network| &mut network.reservations) {
        let Some(id) = &reservation.container_id else { continue };
        if let Some((name, _)) = holders.pods.get(id) {
            reservation.owner = Some(name.as_str().into()).filter(|_| !name.is_empty());
            reservation.leaked = Some(false);
            continue;
        }
        if holders.traces.contains(id) || without_namespace(id).is_some_and(|id| holders.traces.contains(&id))
        {
            reservation.leaked = Some(false);
        }
    }
}

/// nerdctl writes its namespace before the id.
fn without_namespace(id: &ContainerId) -> Option<ContainerId> {
    if id.is_digits() {
        return None;
    }
    id.with_text(|text| text.rsplit_once('-').map(|(_, bare)| bare.into()))
}

/// Whether a reservation's age decides if it is leaked: nobody is known to hold it, and all who could were looked at.
pub fn age_decides(reservation: &Reservation, holders: &Holders) -> bool {
    let open = holders.incomplete.is_none() && reservation.leaked.is_none();
    // Ids of another form are not what runtimes of Kubernetes give; who uses them is not asked here.
    open && reservation.container_id.as_ref().is_some_and(ContainerId::is_digits)
}

/// Says which of these are leaked. `now` in seconds since 1970.
pub fn settle_leaked(state: &mut IpamState, holders: &Holders, now: i64) {
    let booted = state.booted_at.unwrap_or(i64::MIN);
    for reservation in state.networks.iter_mut().flat_map(|network| &mut network.reservations) {
        let may_be_made = reservation.written_at.is_none_or(|at| at >= booted && now - at < BEING_MADE);
        if age_decides(reservation, holders) && !may_be_made {
            reservation.leaked = Some(true);
        }
    }
}

/// What is wrong with the addresses. Who holds them is settled already.
pub fn check_ipam(state: &IpamState, holders: &Holders) -> Vec<Finding> {
    let mut findings: Vec<Finding> = state.unread.iter().map(check_unread).collect();
    let first = state.networks.iter().find_map(|network| network.configured_in.as_deref());
    for network in &state.networks {
        if network.plugin == "host-local" {
            let known = findings.len();
            check_network(network, &mut findings);
            let other = network.configured_in.as_deref().is_some_and(|file| Some(file) != first);
            if let (true, Some(first)) = (other, first) {
                findings.iter_mut().skip(known).for_each(|finding| only_noted(finding, first));
            }
        } else {
            findings.push(check_other(network));
        }
    }
    findings.extend(check_max_pods(state, holders));
    findings.extend(check_duplicates(&state.networks));
    findings.extend(check_holders(state, holders));
    findings
}

/// What keeps new pods from starting does so in the network that they get, which is that of the first file: somebody
/// else's (podman's, a secondary one of Multus) may be full.
fn only_noted(finding: &mut Finding, first: &str) {
    let of_new_pods = [&EXHAUSTED, &NEARLY, &SECOND_GATEWAY];
    if of_new_pods.iter().any(|rule| rule.id == finding.id) {
        finding.severity = Severity::Info;
        let source = "the first of /etc/cni/net.d by name";
        finding.evidence.push(Evidence::text("configuration that new pods get", first.to_owned(), source));
    }
}

fn check_unread((path, why): &(String, String)) -> Finding {
    let evidence = vec![Evidence::text("what hinders", why.clone(), path.clone())];
    UNREADABLE.finding("host", format!("{path} cannot be read: {why}"), evidence, UNREADABLE.fix)
}

fn check_other(network: &IpamNetwork) -> Finding {
    let (who, tool) = describe_plugin(&network.plugin);
    let source = network.configured_in.clone().unwrap_or_default();
    OTHER.finding(
        network.name.clone(),
        format!("the addresses of {} come from {}: {who}", network.name, network.plugin),
        vec![Evidence::text("who gives out addresses", network.plugin.clone(), source)],
        tool,
    )
}

fn check_network(network: &IpamNetwork, findings: &mut Vec<Finding>) {
    for set in &network.sets {
        findings.extend(check_fill(network, set));
    }
    findings.extend(check_second_gateway(network));
    findings.extend(check_leaked(network));
    findings.extend(check_twice(network));
    let source = || network.configured_in.clone().unwrap_or_else(|| network.folder.clone());
    if let Some(why) = &network.ranges_unknown {
        let evidence = vec![Evidence::text("why", why.clone(), source())];
        findings.push(RANGES_UNKNOWN.finding(
            network.name.clone(),
            format!("the ranges of {} are not known: {why}", network.name),
            evidence,
            RANGES_UNKNOWN.fix,
        ));
    }
    if network.configured_in.is_none() && !network.reservations.is_empty() {
        let count = network.reservations.len();
        findings.push(UNCONFIGURED.finding(
            network.name.clone(),
            format!(
                "{} reserved of {}, which no CNI configuration of this node names",
                plural(count, "address", "addresses"),
                network.name
            ),
            vec![Evidence::new("reservations", count, "addresses", network.folder.clone())],
            UNCONFIGURED.fix,
        ));
    }
    if !network.strange_names.is_empty() {
        let names = || network.strange_names.iter().take(MOST_EVIDENCE);
        findings.push(STRANGE.finding(
            network.name.clone(),
            format!(
                "{} of {} no address: {}",
                plural(network.strange_names.len(), "name is", "names are"),
                network.name,
                names().cloned().collect::<Vec<_>>().join(", ")
            ),
            names().map(|name| Evidence::text("name", name.clone(), network.folder.clone())).collect(),
            STRANGE.fix,
        ));
    }
    findings.extend(check_outside(network, &source()));
}

fn check_outside(network: &IpamNetwork, source: &str) -> Option<Finding> {
    if network.sets.iter().all(Vec::is_empty) {
        return None;
    }
    let inside = |r: &&Reservation| !network.sets.iter().flatten().any(|range| range.contains(r.address));
    let outside: Vec<&Reservation> = network.reservations.iter().filter(inside).collect();
    let first = outside.first()?;
    Some(OUTSIDE.finding(
        network.name.clone(),
        format!(
            "{} of {} in no range of it, {} the first",
            plural(outside.len(), "reservation lies", "reservations lie"),
            network.name,
            first.address
        ),
        vec![
            Evidence::new(
                "reservations outside of the ranges",
                outside.len(),
                "addresses",
                network.folder.clone(),
            ),
            Evidence::text("ranges", subnets(network), source.to_owned()),
        ],
        OUTSIDE.fix,
    ))
}

fn subnets(network: &IpamNetwork) -> String {
    network.sets.iter().flatten().map(|range| range.subnet.as_str()).collect::<Vec<_>>().join(", ")
}

fn check_fill(network: &IpamNetwork, set: &[crate::facts::IpamRange]) -> Option<Finding> {
    let (size, used) = network.fill(set);
    let size = size?;
    let names = set.iter().map(|range| range.subnet.as_str()).collect::<Vec<_>>().join(", ");
    // A tenth of the range, or less.
    let rule = match size.saturating_sub(used) {
        _ if set.is_empty() => return None,
        0 => &EXHAUSTED,
        left if left.saturating_mul(10) <= size => &NEARLY,
        _ => return None,
    };
    let leaked = network.leaked().filter(|r| set.iter().any(|range| range.contains(r.address))).count();
    let source = network.configured_in.clone().unwrap_or_else(|| network.folder.clone());
    let mut evidence = vec![
        Evidence::new(format!("addresses that {names} can give to pods"), size, "addresses", source),
        Evidence::new("reserved of them", used, "addresses", network.folder.clone()),
    ];
    if leaked > 0 {
        evidence.push(Evidence::new(
            "leaked of these",
            leaked,
            "addresses",
            "the runtime's list of sandboxes",
        ));
    }
    let summary = if rule.id == EXHAUSTED.id {
        format!(
            "{} has no address left for a new pod: {used} of {size} of {names} are reserved",
            network.name
        )
    } else {
        format!(
            "{} has {} left: {used} of {size} of {names} are reserved",
            network.name,
            plural(usize::try_from(size - used).unwrap_or(usize::MAX), "address", "addresses")
        )
    };
    let unknown = network.reservations.iter().any(|r| r.leaked.is_none());
    let fix = if leaked > 0 {
        format!("free the {leaked} that nobody holds (ipam.leaked below), then see why they leaked")
    } else if unknown {
        format!(
            "whether anybody holds them is not known (ipam.holders_unknown below): ask again when the runtime answers; else move pods away (kubectl drain), or a larger range in {}",
            network.configured_in.as_deref().unwrap_or("CNI's configuration")
        )
    } else {
        format!(
            "every reservation is held: move pods away (kubectl drain), or a larger range in {} and a maxPods that fits; recreating pods frees nothing",
            network.configured_in.as_deref().unwrap_or("CNI's configuration")
        )
    };
    Some(rule.finding(network.name.clone(), summary, evidence, fix))
}

fn check_second_gateway(network: &IpamNetwork) -> Option<Finding> {
    if !network.one_gateway {
        return None;
    }
    let v4 = |set: &Vec<crate::facts::IpamRange>| set.iter().any(|range| range.first.is_ipv4());
    let sets = network.sets.iter().filter(|set| v4(set)).count();
    let mut gateways: Vec<IpAddr> = network
        .sets
        .iter()
        .flatten()
        .filter(|range| range.first.is_ipv4())
        .map(|range| range.gateway)
        .collect();
    gateways.dedup();
    // Inside a set the second subnet comes when the first is full.
    let first_full = network.sets.iter().any(|set| {
        let first = set.first().filter(|range| range.first.is_ipv4());
        set.len() > 1
            && first.is_some_and(|range| range.size().is_some_and(|size| network.used(range) >= size))
    });
    if gateways.len() < 2 || (sets < 2 && !first_full) {
        return None;
    }
    let list = gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let source = network.configured_in.clone().unwrap_or_default();
    let when = if sets < 2 {
        "the first subnet is full, and the next"
    } else {
        "each pod needs an address of both subnets, and the second"
    };
    Some(SECOND_GATEWAY.finding(
        network.name.clone(),
        format!(
            "no pod of {} can be started: {when} has another gateway, which the bridge refuses",
            network.name
        ),
        vec![
            Evidence::text("gateways of the IPv4 ranges", list, source.clone()),
            Evidence::text("isGateway without forceAddress", true, source.clone()),
        ],
        format!("one IPv4 subnet in {source}, wide enough for all pods"),
    ))
}

fn check_leaked(network: &IpamNetwork) -> Option<Finding> {
    let leaked: Vec<&Reservation> = network.leaked().collect();
    let first = leaked.first()?;
    let mut evidence = vec![
        Evidence::new("reservations", network.reservations.len(), "addresses", network.folder.clone()),
        Evidence::new("held by nobody", leaked.len(), "addresses", "the runtime's list of sandboxes, /proc"),
    ];
    evidence.extend(leaked.iter().take(MOST_EVIDENCE).map(|r| {
        let id = sandbox(r);
        Evidence::text(format!("sandbox of {}", r.address), id, format!("{}/{}", network.folder, r.address))
    }));
    let count = leaked.len();
    Some(LEAKED.finding(
        network.name.clone(),
        if count == 1 {
            format!("{} of {} is reserved for a sandbox that is gone", first.address, network.name)
        } else {
            format!(
                "{count} of {} reservations of {} are for sandboxes that are gone",
                network.reservations.len(),
                network.name
            )
        },
        evidence,
        free_command(network, &leaked),
    ))
}

/// Two addresses of one set for one interface.
fn check_twice(network: &IpamNetwork) -> Option<Finding> {
    let mut held: HashMap<(&ContainerId, &str, usize), &Reservation> = HashMap::new();
    let mut pairs: Vec<(&Reservation, &Reservation)> = Vec::new();
    for reservation in of_one_sandbox(&network.reservations) {
        let (Some(id), Some(interface)) = (&reservation.container_id, &reservation.interface) else {
            continue;
        };
        let set =
            network.sets.iter().position(|set| set.iter().any(|range| range.contains(reservation.address)));
        let before = set.and_then(|set| held.insert((id, interface, set), reservation));
        pairs.extend(before.map(|before| (before, reservation)));
    }
    let (first, second) = pairs.first()?;
    let who = holder(first);
    Some(
        TWICE.finding(
            who.clone(),
            format!(
                "{who} holds both {} and {} of {}{}",
                first.address,
                second.address,
                network.name,
                if pairs.len() > 1 { format!(", and {} more do so", pairs.len() - 1) } else { String::new() }
            ),
            pairs
                .iter()
                .take(MOST_EVIDENCE)
                .map(|(a, b)| {
                    let id = sandbox(a);
                    Evidence::text(
                        format!("sandbox of {} and {}", a.address, b.address),
                        id,
                        network.folder.clone(),
                    )
                })
                .collect(),
            TWICE.fix,
        ),
    )
}

/// Those of sandboxes that hold more than one, or seem to: sorted hashes tell of 65,536 in a few milliseconds that there
/// are none, where a map of their names takes dozens.
fn of_one_sandbox(all: &[Reservation]) -> impl Iterator<Item = &Reservation> {
    let hasher = RandomState::new();
    let hash = move |r: &Reservation| hasher.hash_one(&r.container_id);
    let held = all.iter().filter(|r| r.leaked != Some(true) && r.container_id.is_some());
    let mut hashes: Vec<u64> = held.clone().map(&hash).collect();
    hashes.sort_unstable();
    let twice = hashes.windows(2).filter(|pair| pair.first() == pair.last());
    let twice: HashSet<u64> = twice.filter_map(|pair| pair.first().copied()).collect();
    held.filter(move |r| !twice.is_empty() && twice.contains(&hash(r)))
}

/// The pod, or the sandbox where nobody knows whose it is.
fn holder(reservation: &Reservation) -> String {
    reservation.owner.as_deref().map_or_else(|| sandbox(reservation), ToOwned::to_owned)
}

/// The id of a reservation's sandbox; nothing where the file does not say.
fn sandbox(reservation: &Reservation) -> String {
    reservation.container_id.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// One address in two networks, held by two.
fn check_duplicates(networks: &[IpamNetwork]) -> Vec<Finding> {
    let mut seen: HashMap<IpAddr, (&IpamNetwork, &Reservation)> = HashMap::new();
    let mut findings = Vec::new();
    let local = networks.iter().filter(|network| network.plugin == "host-local");
    // A network cannot give one address twice: it is the name of a file.
    for network in local.clone().filter(|_| local.clone().count() > 1) {
        for reservation in network.reservations.iter().filter(|r| r.leaked == Some(false)) {
            let Some((other, first)) = seen.insert(reservation.address, (network, reservation)) else {
                continue;
            };
            if first.container_id == reservation.container_id || findings.len() >= MOST_EVIDENCE {
                continue;
            }
            let evidence = |n: &IpamNetwork, r: &Reservation| {
                Evidence::text(
                    format!("holder of {} in {}", r.address, n.name),
                    holder(r),
                    format!("{}/{}", n.folder, r.address),
                )
            };
            findings.push(DUPLICATE.finding(
                reservation.address.to_string(),
                format!("{} and {} both hold {}", holder(first), holder(reservation), reservation.address),
                vec![evidence(other, first), evidence(network, reservation)],
                format!(
                    "give {} and {} ranges that do not overlap, and recreate the pods",
                    other.name, network.name
                ),
            ));
        }
    }
    findings
}

/// The network that new pods get: the first that is configured.
fn check_max_pods(state: &IpamState, holders: &Holders) -> Option<Finding> {
    let max = state.max_pods.as_ref()?;
    let network = state.networks.first().filter(|n| n.plugin == "host-local" && n.configured_in.is_some())?;
    let room = network.room()?;
    let reservations = state.networks.iter().flat_map(|n| &n.reservations);
    let ids = reservations.filter_map(|r| r.container_id.as_ref());
    let holding: HashSet<&ContainerId> = ids.filter(|id| holders.pods.contains_key(*id)).collect();
    // hostNetwork pods need no address; a sandbox that has none is one.
    let without = holders.pods.iter().filter(|(id, (_, ready))| *ready && !holding.contains(id)).count();
    let without = u64::try_from(without).unwrap_or(0);
    if room.saturating_add(without) >= u64::from(max.pods) {
        return None;
    }
    Some(MAX_PODS.finding(
        network.name.clone(),
        format!("the kubelet takes {} pods, {} has addresses for {room}", max.pods, network.name),
        vec![
            Evidence::new("maxPods", max.pods, "pods", max.source.clone()),
            Evidence::new(
                format!("addresses that {} can give", subnets(network)),
                room,
                "pods",
                network.configured_in.clone().unwrap_or_default(),
            ),
            Evidence::new(
                "running pods that need none (hostNetwork)",
                without,
                "pods",
                "the runtime's list of sandboxes",
            ),
        ],
        format!(
            "maxPods: {} in the kubelet's configuration, or a larger range in {}",
            room.saturating_add(without),
            network.configured_in.as_deref().unwrap_or_default()
        ),
    ))
}

fn check_holders(state: &IpamState, holders: &Holders) -> Option<Finding> {
    let why = holders.incomplete.as_ref()?;
    let unknown = state.networks.iter().flat_map(|n| &n.reservations).filter(|r| r.leaked.is_none()).count();
    (unknown > 0).then(|| {
        NOT_LOOKED_UP.finding(
            "host",
            format!(
                "whether anybody holds {} is not known: {why}",
                plural(unknown, "reservation", "reservations")
            ),
            vec![Evidence::text("what hinders", why.clone(), "the runtime, its files and /proc")],
            NOT_LOOKED_UP.fix,
        )
    })
}

#[cfg(test)]
#[path = "ipam_tests.rs"]
mod tests;
