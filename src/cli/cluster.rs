//! `nsprobe cluster`: what only the API server knows: pods without a node, pods on broken nodes, which pod is where.

use super::{Context, Exit, Failure, values};
use crate::diagnose::cluster::check_cluster;
use crate::facts::{ClusterHere, ClusterNode, ClusterPod, ClusterState, Lack, Unseen};
use crate::netns::NetNs;
use crate::observe::resolve::{self, Lookup};
use crate::observe::{ReadOptions, read_namespaces, read_text};
use crate::pods::api::{ApiError, ApiOptions, read_cluster};
use crate::pods::{Options, list_told, resolve as resolve_source, resolve_all};
use crate::report::{ClusterDocument, ClusterHead, render_cluster};
use clap::Args;
use std::collections::HashSet;
use std::fs::File;
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
says what could then not be looked at. It is asked directly: HTTPS_PROXY is not used.

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
    let here = read_here(&options, &mut state);
    let found = check_cluster(&state, &here, args.restarts);
    let exit = Exit::of(&found.findings);
    let head = ClusterHead::new(&state, found.more);
    let document = ClusterDocument::new(state.pods, state.nodes, found.findings);
    context.report("nsprobe.cluster/v1", &document, |out| render_cluster(&document, &head, out))?;
    Ok(exit)
}

/// This node's pods, and its interfaces where the API tells the MTU of one.
fn read_here(options: &Options, state: &mut ClusterState) -> ClusterHere {
    let pods = list_told(options);
    if pods.is_empty() {
        let what = "addresses of this node's pods against those that the API gives".to_owned();
        let why = "no container runtime with pods answers here".to_owned();
        state.not_looked_at.push(Unseen { what, why, lack: Lack::Here });
    }
    let node = state.node_of(&pods).map(str::to_owned);
    let mut here = ClusterHere { node, pods, interfaces: Vec::new() };
    let own = |node: Option<&str>| node.is_some() && node == here.node.as_deref();
    let of_node = |n: &ClusterNode| own(Some(&n.name)) && n.mtus.iter().any(|mtu| mtu.interface.is_some());
    let of_pods: HashSet<String> = state
        .pods
        .iter()
        .filter(|p| own(p.node.as_deref()) && p.mtus.iter().any(|mtu| mtu.interface.is_some()))
        .map(ClusterPod::full_name)
        .collect();
    let mut unread = None;
    if state.nodes.iter().flatten().any(of_node) {
        match resolve_source(options, "host").map_err(|e| e.to_string()).and_then(|s| links(&s.netns, None)) {
            Ok(links) => here.interfaces.extend(links),
            Err(why) => unread = Some(why),
        }
    }
    if !of_pods.is_empty() {
        match resolve_all(options, |_| ()) {
            Ok(all) => {
                for (name, source) in all.sources.into_iter().filter(|(name, _)| of_pods.contains(name)) {
                    let opened = source.map_err(|e| e.to_string());
                    match opened.and_then(|(netns, ())| links(&netns, Some(&name))) {
                        Ok(links) => here.interfaces.extend(links),
                        Err(why) => unread = Some(format!("{name}: {why}")),
                    }
                }
            }
            Err(error) => unread = Some(error.to_string()),
        }
    }
    if let Some(why) = unread {
        let what = "interfaces of this node and its pods against the MTUs that the API gives".to_owned();
        state.not_looked_at.push(Unseen { what, why, lack: Lack::Here });
    }
    here
}

/// The interfaces in a namespace and their MTUs, each as one of `pod` or of the node.
fn links(netns: &NetNs, pod: Option<&str>) -> Result<Vec<(Option<String>, String, u32)>, String> {
    let read = read_namespaces(&[(pod.unwrap_or("host"), netns)], ReadOptions::default());
    let (_, namespace) = read.into_iter().next().ok_or("nothing was read")?;
    let links = namespace.map_err(|e| e.to_string())?.links;
    Ok(links.into_iter().map(|link| (pod.map(str::to_owned), link.name, link.mtu_bytes)).collect())
}

/// The API server's name, asked for as this node does: its hosts file, its name servers.
pub(super) fn server_address(host_root: &Path, name: &str) -> Result<IpAddr, String> {
    let root = File::open(host_root).map_err(|e| format!("{}: {e}", host_root.display()))?;
    let text = |path| read_text(&root, path).unwrap_or_default();
    let (resolv_conf, hosts) = (text("/etc/resolv.conf"), text("/etc/hosts"));
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
            ApiError::Proxied { .. } => Self::stopped(message)
                .hint("if this node reaches the server itself: copy the file without its proxy-url, and give --kubeconfig COPY; else ask from where it is reached"),
            ApiError::Late { .. } => Self::stopped(message)
                .hint("does it wait for a login or for a network? run it by hand; if it is only slow: --deadline 2m; or give a file with a certificate or a token: --kubeconfig FILE"),
            ApiError::Refused { .. } => Self::privilege(message)
                .hint("401: the certificate or token has expired or is not of this cluster; 403: give credentials that may list pods, --kubeconfig FILE"),
            ApiError::Failed { why, .. } if why.contains("certificate") => Self::stopped(message)
                .hint("is it this cluster's kubeconfig? openssl s_client -connect SERVER:6443 </dev/null | openssl x509 -noout -issuer -dates"),
            ApiError::Failed { .. } => Self::stopped(message)
                .hint("is the way there free? nsprobe mtu host SERVER --port 6443; a slow server: --deadline 2m"),
        }
    }
}
