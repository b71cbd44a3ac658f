//! The addresses that this node gives to pods, and who holds them.

use super::ContainerId;
use schemars::JsonSchema;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Everything that is known of the addresses of this node's pods.
#[derive(Debug, Clone, Default)]
pub struct IpamState {
    /// Networks in the order in which the runtime reads their configuration; then those that only have reservations.
    pub networks: Vec<IpamNetwork>,
    /// What could not be read: path and reason.
    pub unread: Vec<(String, String)>,
    /// How many pods the kubelet takes.
    pub max_pods: Option<MaxPods>,
    /// When this node was started, seconds since 1970.
    pub booted_at: Option<i64>,
}

/// The kubelet's `maxPods`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPods {
    /// The number.
    pub pods: u32,
    /// Where it stands.
    pub source: String,
}

/// One network of CNI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpamNetwork {
    /// Its name.
    pub name: String,
    /// Who gives out its addresses: `host-local`, `calico-ipam`, or the CNI plugin itself (`cilium-cni`).
    pub plugin: String,
    /// The configuration file that names it; `None` when only its reservations are there.
    pub configured_in: Option<String>,
    /// Range sets: a pod gets one address out of each. Within a set the ranges are used up one after the other.
    pub sets: Vec<Vec<IpamRange>>,
    /// Why its ranges are not known.
    pub ranges_unknown: Option<String>,
    /// A bridge that takes the gateway's address of the first pod and refuses another of IPv4 (`isGateway` without
    /// `forceAddress`).
    pub one_gateway: bool,
    /// Where its reservations are.
    pub folder: String,
    /// The reservations, by address.
    pub reservations: Vec<Reservation>,
    /// Names in the folder that are no address and none of host-local's own.
    pub strange_names: Vec<String>,
}

/// Addresses that host-local gives out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpamRange {
    /// The subnet as it is configured.
    pub subnet: String,
    /// The first address that is given out.
    pub first: IpAddr,
    /// The last one.
    pub last: IpAddr,
    /// Not given out when it lies between them.
    pub gateway: IpAddr,
}

/// One reserved address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReservationEntry")]
pub struct Reservation {
    /// The address.
    pub address: IpAddr,
    /// The sandbox that it was given to; null when the file does not say.
    pub container_id: Option<ContainerId>,
    /// The interface in it.
    pub interface: Option<Cow<'static, str>>,
    /// `namespace/name` of the pod; null when no list has the sandbox.
    pub owner: Option<Box<str>>,
    /// Whether nobody who lives holds it; null when that is not known.
    pub leaked: Option<bool>,
    /// When it was written, seconds since 1970, where that was asked.
    #[serde(skip)]
    pub written_at: Option<i64>,
}

impl Reservation {
    /// One of which nothing is known.
    pub const UNREAD: Self = Self {
        address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        container_id: None,
        interface: None,
        owner: None,
        leaked: None,
        written_at: None,
    };
}

/// Which sandboxes there are, to ask whether somebody holds an address.
#[derive(Debug, Clone, Default)]
pub struct Holders {
    /// `namespace/name` and whether the sandbox is ready, by sandbox id.
    pub pods: HashMap<ContainerId, (String, bool)>,
    /// Ids of which anything else is there: a process, a folder of a runtime.
    pub traces: HashSet<ContainerId>,
    /// Why that is not all there may be.
    pub incomplete: Option<String>,
}

impl IpamRange {
    /// How many addresses it can give to pods; `None` when that does not fit in 64 bits.
    pub fn size(&self) -> Option<u64> {
        let (first, last) = (number(self.first), number(self.last));
        let all = last.checked_sub(first)?.checked_add(1)?;
        let gateway = u128::from((first..=last).contains(&number(self.gateway)));
        u64::try_from(all - gateway).ok()
    }

    /// Whether an address is one that it gives out.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = address.is_ipv4() == self.first.is_ipv4();
        same && (number(self.first)..=number(self.last)).contains(&number(address)) && address != self.gateway
    }
}

/// An address as a number, each family for itself.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

impl IpamNetwork {
    /// How many of a range's addresses are reserved.
    pub fn used(&self, range: &IpamRange) -> u64 {
        // They are sorted, and there may be a hundred thousand.
        let before = |address: IpAddr| self.reservations.partition_point(|r| r.address < address);
        let upto = |address: IpAddr| self.reservations.partition_point(|r| r.address <= address);
        let inside = upto(range.last).saturating_sub(before(range.first));
        let given = (range.first..=range.last).contains(&range.gateway);
        let gateway = if given { upto(range.gateway) - before(range.gateway) } else { 0 };
        u64::try_from(inside.saturating_sub(gateway)).unwrap_or(u64::MAX)
    }

    /// What a set can give, and how much of it is reserved; the size is `None` when it does not fit in 64 bits.
    pub fn fill(&self, set: &[IpamRange]) -> (Option<u64>, u64) {
        let size = set.iter().try_fold(0u64, |sum, range| sum.checked_add(range.size()?));
        (size, set.iter().map(|range| self.used(range)).sum())
    }

    /// How many pods it can give addresses to: a pod takes one of each set. `None` where that is not known.
    pub fn room(&self) -> Option<u64> {
        let known = self.sets.iter().filter(|set| !set.is_empty());
        known.filter_map(|set| self.fill(set).0).min().filter(|_| self.ranges_unknown.is_none())
    }

    /// Those that nobody who lives holds.
    pub fn leaked(&self) -> impl Iterator<Item = &Reservation> {
        self.reservations.iter().filter(|r| r.leaked == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_of_a_range_is_what_lies_in_it_but_for_its_gateway() {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        let addresses = ["9.9.9.9", "10.0.0.1", "10.0.0.2", "10.0.0.5", "10.0.0.6", "10.0.0.9", "fd00::2"];
        let reservations =
            addresses.map(|a| Reservation { address: parse(a), ..Reservation::UNREAD }).to_vec();
        let network = IpamNetwork { reservations, ..IpamNetwork::default() };
        for (first, last, gateway, used) in [
            ("10.0.0.1", "10.0.0.6", "10.0.0.1", 3),
            ("10.0.0.1", "10.0.0.6", "10.0.0.3", 4),
            ("10.0.0.2", "10.0.0.5", "10.0.0.1", 2),
            ("10.0.0.2", "10.0.0.9", "fd00::2", 4),
            ("10.0.0.7", "10.0.0.8", "10.0.0.1", 0),
            ("fd00::1", "fd00::f", "fd00::1", 1),
        ] {
            let [first, last, gateway] = [first, last, gateway].map(parse);
            let range = IpamRange { subnet: String::new(), first, last, gateway };
            let inside = network.reservations.iter().filter(|r| range.contains(r.address)).count();
            assert_eq!((network.used(&range), inside), (used, usize::try_from(used).unwrap()), "{range:?}");
        }
    }
}
