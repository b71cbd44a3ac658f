//! Names of the addresses that may be met: those of the pods of this node.

use crate::cli::Context;
use crate::pods::{self, Source};
use crate::report::sanitize;
use std::net::IpAddr;
use std::time::Duration;

/// A name is worth no longer a wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// The pods of this node by their IPs, beside those that are `known`. Without a runtime that answers only the
/// SOURCES are named: a capture does not wait for names.
pub(super) fn find_names(
    context: &Context,
    sources: &[Source],
    known: Vec<(IpAddr, String)>,
) -> Vec<(IpAddr, String)> {
    let mut names = known;
    let named = |pod: &crate::facts::Pod| {
        let name = sanitize(&pod.full_name()).into_owned();
        pod.ips.iter().map(|ip| (*ip, name.clone())).collect::<Vec<_>>()
    };
    names.extend(sources.iter().filter_map(|s| s.pod.as_ref()).flat_map(named));
    if sources.iter().all(|s| s.degraded.is_none()) {
        let mut options = context.pods();
        options.timeout = options.timeout.min(PATIENCE);
        let told = pods::list_told(&options);
        names.extend(told.iter().filter(|p| p.host_network != Some(true)).flat_map(named));
    }
    names.sort();
    names.dedup_by_key(|(address, _)| *address);
    names
}
