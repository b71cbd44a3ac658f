//! TARGETs on other nodes: the API server knows their addresses.

use super::cluster::server_address;
use super::target::{ResolvedTarget, with_others};
use crate::observe::resolve::Family;
use crate::pods;
use crate::pods::api::{ApiError, ApiOptions, find_cluster_pods};
use clap::Args;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// For a pod that is not on this node.
const API_DEADLINE: Duration = Duration::from_secs(2);

/// Who asks for pods of other nodes.
#[derive(Debug, Clone, Default, Args)]
pub struct Elsewhere {
    /// Credentials for the API server, which is asked for a pod:NAME that is not on this node [default: KUBECONFIG,
    /// service account].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// A pod of another node, where the kubeconfig or this pod's service account may ask the API server. Asked only when the
/// pod is not on this node.
pub(super) fn from_api(
    options: &pods::Options,
    text: &str,
    selector: &str,
    family: Option<Family>,
    elsewhere: &Elsewhere,
) -> Result<ResolvedTarget, String> {
    let pod = selector.split(':').next().unwrap_or(selector);
    let (namespace, name) = pod.split_once('/').map_or((None, pod), |(ns, name)| (Some(ns), name));
    let look_up = |name: &str| server_address(&options.host_root, name);
    let kubeconfig = elsewhere.kubeconfig.clone();
    let asked = ApiOptions { node: options, kubeconfig, deadline: API_DEADLINE, look_up: &look_up };
    let found = find_cluster_pods(&asked, namespace, name).map_err(|e| match e {
        ApiError::NoCredentials(_) => {
            "other nodes were not asked for: no --kubeconfig and no KUBECONFIG".to_owned()
        }
        e => e.to_string(),
    })?;
    let live: Vec<_> = found.iter().filter(|pod| !pod.ended).collect();
    let pod = match live.as_slice() {
        [] => return Err("nor does the API server know one that lives".into()),
        [pod] => pod,
        several => {
            let names: Vec<String> = several.iter().map(|pod| pod.full_name()).collect();
            return Err(format!("the API server knows several: {}", names.join(", ")));
        }
    };
    let node = pod.node.as_deref().unwrap_or("no node");
    if pod.host_network {
        return Err(format!(
            "{} on {node} uses the node's own network: give an address of the node",
            pod.full_name()
        ));
    }
    let fitting: Vec<IpAddr> =
        pod.ips.iter().copied().filter(|a| family.is_none_or(|f| f == Family::of(*a))).collect();
    let Some(&first) = fitting.first() else {
        let kind = family.map_or("IP", Family::name);
        return Err(format!("{} on {node} has no {kind} address in the API", pod.full_name()));
    };
    Ok(with_others(
        text,
        first,
        &fitting,
        format!("IP of pod {} on node {node}, by the API server", pod.full_name()),
    ))
}
