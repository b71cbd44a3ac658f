//! Which networks CNI's configuration names, and who gives out their addresses.
//!
//! Sources: the CNI specification (network configuration format); host-local's README (`ranges`, the older `subnet`,
//! `dataDir`); flannel's CNI plugin (its delegate gets the subnet of subnet.env).

use super::range::RangeWords;
use crate::facts::IpamNetwork;
use serde::Deserialize;
use serde_json::Value;

/// Plugins of one file that are looked at, delegates included.
const MOST_PLUGINS: usize = 32;
/// A delegate of a delegate is the deepest that is known.
const DEEPEST: u32 = 3;
/// Where host-local keeps reservations unless it is told otherwise.
pub(super) const DATA: &str = "/var/lib/cni/networks";
/// Where flannel leaves the node's subnets.
pub(super) const FLANNEL: &str = "/run/flannel/subnet.env";

#[derive(Debug, Default, Deserialize)]
struct HostLocal {
    /// Null is none, as for Go.
    ranges: Option<Vec<Vec<RangeWords>>>,
    #[serde(flatten)]
    single: RangeWords,
    #[serde(rename = "dataDir")]
    data: Option<String>,
}

/// The networks that a configuration file names; `flannel` reads the file in which flannel's subnets are.
///
/// # Errors
/// One sentence on why a runtime takes the file for invalid.
pub fn parse_networks(
    path: &str,
    bytes: &[u8],
    flannel: &dyn Fn(&str) -> Result<Vec<String>, String>,
) -> Result<Vec<IpamNetwork>, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON: {error}"))?;
    let map = value.as_object().ok_or("it is JSON, but no object")?;
    let name = map.get("name").and_then(Value::as_str).unwrap_or_default();
    let mut networks = Vec::new();
    let mut collector = Collector { path, flannel, networks: &mut networks, plugins: 0 };
    if path.ends_with(".conflist") {
        let plugins = map.get("plugins").and_then(Value::as_array).filter(|list| !list.is_empty());
        if name.is_empty() {
            return Err("the list has no name".into());
        }
        plugins.ok_or("the list has no plugins")?.iter().for_each(|plugin| collector.plugin(name, plugin, 0));
    } else {
        if map.get("type").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err("it has no type".into());
        }
        collector.plugin(name, &value, 0);
    }
    Ok(networks)
}

struct Collector<'a> {
    path: &'a str,
    flannel: &'a dyn Fn(&str) -> Result<Vec<String>, String>,
    networks: &'a mut Vec<IpamNetwork>,
    plugins: usize,
}

impl Collector<'_> {
    fn plugin(&mut self, name: &str, plugin: &Value, depth: u32) {
        self.plugins += 1;
        if self.plugins > MOST_PLUGINS || depth > DEEPEST {
            return;
        }
        let text = |key: &str| plugin.get(key).and_then(Value::as_str).unwrap_or_default();
        let kind = text("type");
        for delegate in plugin.get("delegates").and_then(Value::as_array).into_iter().flatten() {
            let name = delegate.get("name").and_then(Value::as_str).unwrap_or(name);
            match delegate.get("plugins").and_then(Value::as_array) {
                Some(list) => list.iter().for_each(|plugin| self.plugin(name, plugin, depth + 1)),
                None => self.plugin(name, delegate, depth + 1),
            }
        }
        let network = if kind == "flannel" {
            self.of_flannel(plugin)
        } else if let Some(ipam) = plugin.get("ipam").filter(|ipam| ipam.get("type").is_some()) {
            of_ipam(ipam)
        } else if GIVES_ADDRESSES.contains(&kind) {
            IpamNetwork { plugin: kind.to_owned(), ..IpamNetwork::default() }
        } else {
            return;
        };
        let truth = |key: &str| plugin.get(key).and_then(Value::as_bool) == Some(true);
        let gateway = truth("isGateway") || truth("isDefaultGateway");
        self.networks.push(IpamNetwork {
            name: name.to_owned(),
            configured_in: Some(self.path.to_owned()),
            one_gateway: kind == "bridge" && gateway && !truth("forceAddress"),
            folder: format!("{}/{name}", network.folder),
            ..network
        });
    }

    /// flannel hands the subnets of its own file to a delegate that calls host-local.
    fn of_flannel(&self, plugin: &Value) -> IpamNetwork {
        let told = plugin.get("delegate").and_then(|delegate| delegate.get("ipam"));
        let mut network = told.map_or_else(|| of_ipam(&Value::Null), of_ipam);
        if network.plugin != "host-local" {
            return network;
        }
        let file = plugin.get("subnetFile").and_then(Value::as_str).unwrap_or(FLANNEL);
        let ranges = (self.flannel)(file).and_then(|subnets| {
            subnets.iter().map(|subnet| Ok(vec![RangeWords::of_subnet(subnet).range()?])).collect()
        });
        (network.sets, network.ranges_unknown) = match ranges {
            Ok(sets) => (sets, None),
            Err(why) => (Vec::new(), Some(format!("{file}: {why}"))),
        };
        network
    }
}

/// CNI plugins that give out addresses themselves, without an `ipam` section.
const GIVES_ADDRESSES: &[&str] =
    &["cilium-cni", "aws-cni", "azure-vnet", "kube-ovn", "ovn-k8s-cni-overlay", "terway", "galaxy-k8s-vlan"];

fn of_ipam(ipam: &Value) -> IpamNetwork {
    let kind = ipam.get("type").and_then(Value::as_str).unwrap_or("host-local").to_owned();
    let mut network = IpamNetwork { plugin: kind, folder: DATA.to_owned(), ..IpamNetwork::default() };
    if network.plugin != "host-local" || ipam.is_null() {
        return network;
    }
    let words: HostLocal = match serde_json::from_value(ipam.clone()) {
        Ok(words) => words,
        Err(error) => {
            network.ranges_unknown = Some(format!("its ranges cannot be read: {error}"));
            return network;
        }
    };
    if let Some(data) = words.data.filter(|data| data.starts_with('/')) {
        network.folder = data.trim_end_matches('/').to_owned();
    }
    // The older way to write one range comes first.
    let single = words.single.subnet.is_some().then(|| vec![words.single]);
    let sets = single.into_iter().chain(words.ranges.unwrap_or_default());
    let sets: Result<Vec<Vec<_>>, String> =
        sets.map(|set| set.iter().map(RangeWords::range).collect()).collect();
    match sets {
        Ok(sets) if sets.iter().all(Vec::is_empty) => {
            network.ranges_unknown =
                Some("the configuration names no range: somebody fills it in later".into());
        }
        Ok(sets) => network.sets = sets,
        Err(why) => network.ranges_unknown = Some(why),
    }
    network
}

/// `FLANNEL_SUBNET` and `FLANNEL_IPV6_SUBNET`: flannel writes the address of its bridge, with the subnet's length.
pub(super) fn flannel_subnets(text: &str) -> Result<Vec<String>, String> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches(['"', '\'', ' '])).filter(|value| !value.is_empty())
    };
    let subnets: Vec<String> =
        ["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"].iter().filter_map(|k| network_of(value(k)?)).collect();
    if subnets.is_empty() { Err("it has no FLANNEL_SUBNET".into()) } else { Ok(subnets) }
}

/// `10.244.1.1/24` → `10.244.1.0/24`.
fn network_of(text: &str) -> Option<String> {
    let (address, length) = text.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    Some(match address.parse().ok()? {
        std::net::IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.checked_sub(length)?).unwrap_or(0);
            format!("{}/{length}", std::net::Ipv4Addr::from(u32::from(v4) & mask))
        }
        std::net::IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.checked_sub(length)?).unwrap_or(0);
            format!("{}/{length}", std::net::Ipv6Addr::from(u128::from(v6) & mask))
        }
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
