//! What CNI remembers of each sandbox: `/var/lib/cni/results` (libcni's cache), and host-local's reservations.

use super::HostFs;
use serde::Deserialize;
use std::collections::HashMap;
use std::net::IpAddr;

const RESULTS: &str = "/var/lib/cni/results";
const RESERVATIONS: &str = "/var/lib/cni/networks";

/// The network of one sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) netns: Option<String>,
}

/// The networks of all sandboxes, by sandbox id.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    by_sandbox: HashMap<String, Network>,
}

#[derive(Deserialize)]
struct Cached {
    #[serde(rename = "containerId")]
    container_id: String,
    #[serde(rename = "ifName")]
    interface: String,
    result: CniResult,
}

/// A CNI result of version 0.3 or later.
#[derive(Deserialize)]
pub(super) struct CniResult {
    #[serde(default)]
    ips: Vec<CniIp>,
    #[serde(default)]
    interfaces: Vec<CniInterface>,
}

#[derive(Deserialize)]
struct CniIp {
    address: String,
}

#[derive(Deserialize)]
struct CniInterface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    sandbox: String,
}

impl CniResult {
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let address = |ip: &CniIp| ip.address.split('/').next().and_then(|text| text.parse().ok());
        self.ips.iter().filter_map(address).collect()
    }

    fn netns(&self, interface: &str) -> Option<String> {
        let inside = |i: &&CniInterface| i.sandbox.starts_with('/') && i.name == interface;
        self.interfaces.iter().find(inside).map(|i| i.sandbox.clone())
    }
}

impl Networks {
    pub(super) fn read(fs: &HostFs) -> Self {
        let mut networks = Self::default();
        // The pod's IPs are eth0's; further interfaces (net1 …) are other networks'.
        for name in fs.names(RESULTS).iter().filter(|name| name.ends_with("-eth0")) {
            let Some(cached) = fs.read_json::<Cached>(&format!("{RESULTS}/{name}")) else { continue };
            let network =
                Network { ips: cached.result.addresses(), netns: cached.result.netns(&cached.interface) };
            networks.by_sandbox.insert(cached.container_id, network);
        }
        if networks.by_sandbox.is_empty() {
            networks.read_reservations(fs);
        }
        networks
    }

    /// host-local: a file named by each IP holds `<sandbox id>\r\n<interface>`.
    fn read_reservations(&mut self, fs: &HostFs) {
        for network in fs.names(RESERVATIONS) {
            for name in fs.names(&format!("{RESERVATIONS}/{network}")) {
                let Ok(ip) = name.parse::<IpAddr>() else { continue };
                let Some(text) = fs.read_text(&format!("{RESERVATIONS}/{network}/{name}")) else { continue };
                let mut lines = text.lines().map(str::trim);
                if let Some(id) = lines.next()
                    && lines.next().is_none_or(|interface| interface == "eth0")
                {
                    self.by_sandbox.entry(id.to_owned()).or_default().ips.push(ip);
                }
            }
        }
        for network in self.by_sandbox.values_mut() {
            network.ips.sort_unstable();
        }
    }

    pub(crate) fn of(&self, sandbox_id: &str) -> Option<&Network> {
        self.by_sandbox.get(sandbox_id)
    }
}
