//! `nsprobe cluster`: what only the API server knows: pods without a node, pods on broken nodes, which pod is where.

use super::{Context, Exit, Failure, values};
use crate::diagnose::cluster::check_cluster;
use crate::netns::NetNs;
use crate::observe::resolve::{self, Lookup};
use crate::pods::api::{ApiError, ApiOptions, read_cluster};
use crate::pods::list_told;
use crate::report::{ClusterDocument, ClusterHead, render_cluster};
use clap::Args;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For the name of the API server.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(2);

/// Arguments of `cluster`.
#[derive(Debug, Args)]
#[command(after_help = "\
Credentials, the first that are there: --kubeconfig FILE, KUBECONFIG, the service account of the pod that nsprobe runs \
in, the kubelet's own file (under --host-root). A kubelet may list the pods of its own node and no others: the report \
says what could then not be looked at.

Examples:
  nsprobe cluster --kubeconfig /etc/kubernetes/admin.conf
  nsprobe cluster                    with the kubelet's credentials: this node's pods
  nsprobe cluster --restarts 20 -o json | jq '.unscheduled'

Only lists are read, 500 objects a page; nothing is changed.")]
pub(crate) struct ClusterArgs {
    /// Credentials for the API server [default: KUBECONFIG, service account, the kubelet's].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Restarts that are still nothing to report.
    #[arg(long, value_name = "N", default_value_t = 5)]
    restarts: u32,
    /// Time for all questions to the API server together.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    deadline: Duration,
}

/// `nsprobe cluster`.
pub(super) fn run(args: &ClusterArgs, context: &mut Context) -> Result<Exit, Failure> {
    let options = context.pods();
    let root = context.global.host_root.clone();
    let look_up = |name: &str| server_address(&root, name);
    let asked = ApiOptions {
        node: &options,
        kubeconfig: args.kubeconfig.clone(),
        deadline: args.deadline,
        look_up: &look_up,
    };
    let mut state = read_cluster(&asked)?;
    let here = list_told(&options);
    if here.is_empty() {
        let what = "addresses of this node's pods against those that the API gives".to_owned();
        state.not_looked_at.push((what, "no container runtime with pods answers here".to_owned()));
    }
    let findings = check_cluster(&state, &here, args.restarts);
    let exit = Exit::of(&findings);
    let head = ClusterHead::new(&state);
    let document = ClusterDocument::new(state.pods, findings);
    context.report("nsprobe.cluster/v1", &document, |out| render_cluster(&document, &head, out))?;
    Ok(exit)
}

/// The API server's name, asked for as this node does: its hosts file, its name servers.
pub(super) fn server_address(host_root: &Path, name: &str) -> Result<IpAddr, String> {
    let read = |file: &str| std::fs::read_to_string(host_root.join(file)).unwrap_or_default();
    let (resolv_conf, hosts) = (read("etc/resolv.conf"), read("etc/hosts"));
    let lookup = Lookup { resolv_conf: &resolv_conf, hosts: &hosts, family: None, deadline: LOOKUP_DEADLINE };
    let netns = NetNs::own().map_err(|e| e.to_string())?;
    let found = resolve::look_up(&netns, name, &lookup).map_err(|e| e.to_string())?;
    let chosen = resolve::choose(&netns, &found.addresses).ok().flatten().unwrap_or(0);
    found.addresses.get(chosen).copied().ok_or_else(|| "no address".to_owned())
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let message = error.to_string();
        match error {
            ApiError::NotBuilt => Self::stopped(message).hint("take the released binary, or build with --features cluster"),
            ApiError::NoCredentials(_) => Self::privilege(message)
                .hint("nsprobe cluster --kubeconfig FILE; on a control-plane node that is /etc/kubernetes/admin.conf"),
            ApiError::Unusable(_) => Self::stopped(message).hint("give another file: --kubeconfig FILE"),
            ApiError::Refused { .. } => Self::privilege(message)
                .hint("401: the certificate or token has expired or is not of this cluster; 403: give credentials that may list pods, --kubeconfig FILE"),
            ApiError::Failed { .. } => Self::stopped(message)
                .hint("is the way there free? nsprobe mtu host SERVER --port 6443; a slow server: --deadline 2m"),
        }
    }
}
