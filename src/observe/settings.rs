//! How the applications of a namespace react to a narrow path: what its sysctls say.

use super::ObserveError;
use crate::netns::NetNs;

/// What decides whether TCP of a namespace survives a narrow path; `None`: this kernel has no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathSettings {
    /// `net.ipv4.tcp_mtu_probing`: 0 off, 1 after a black hole is suspected, 2 always. Counts for IPv6 too.
    pub tcp_mtu_probing: Option<u8>,
    /// `net.ipv4.ip_no_pmtu_disc`: 0 path-MTU discovery, 1 to 3 some of it off.
    pub ip_no_pmtu_disc: Option<u8>,
}

/// Reads the settings inside the namespace: `/proc/sys/net` is that of the thread that looks.
///
/// # Errors
/// [`ObserveError::NetNs`].
///
/// Source: kernel Documentation/networking/ip-sysctl.rst.
pub fn read_settings(netns: &NetNs) -> Result<PathSettings, ObserveError> {
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?.trim().parse().ok();
    Ok(netns.run(|| PathSettings {
        tcp_mtu_probing: read("tcp_mtu_probing"),
        ip_no_pmtu_disc: read("ip_no_pmtu_disc"),
    })?)
}
