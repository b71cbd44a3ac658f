//! `nsprobe ipam`: which addresses are left for pods, and which are reserved for nobody.

use super::{Context, Exit, Failure};
use crate::diagnose::ipam::{age_decides, check_ipam, settle_holders, settle_leaked};
use crate::diagnose::runtime::check_runtime;
use crate::facts::IpamState;
use crate::observe::ipam::{read_ages, read_ipam, read_max_pods};
use crate::pods::{Holding, Options, find_holders};
use crate::report::{IpamDocument, IpamView, render_ipam};
use clap::Args;
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments of `ipam`.
#[derive(Debug, Args)]
#[command(after_help = "\
host-local's reservations (dataDir, else /var/lib/cni/networks) are held against CNI's configuration, the sandboxes that \
the runtime lists (or its files, when it does not answer), the processes of this node and the kubelet's maxPods. A \
reservation is called leaked only when all of these could be looked at, none knows its sandbox, and it is older than \
the 4 minutes in which a sandbox may be in the making. Nothing is freed: the command that would do it is printed.

SIZE is what host-local can give to pods: without the network's, the gateway's and the broadcast address. Other IPAMs \
(Calico, Cilium, AWS, whereabouts) are named, and how they are asked.")]
pub(crate) struct IpamArgs {}

/// `nsprobe ipam`.
pub(super) fn run(_args: &IpamArgs, context: &mut Context) -> Result<Exit, Failure> {
    let (state, holding) = look(&context.pods())?;
    let mut findings = check_ipam(&state, &holding.holders);
    findings.extend(holding.degraded.iter().map(|d| check_runtime(d, holding.endpoint.as_deref())));
    let exit = Exit::of(&findings);
    let document = IpamDocument::new(&state, findings);
    let view = IpamView { verbose: context.global.verbose };
    context.report("nsprobe.ipam/v1", &document, |out| render_ipam(&document, &state, view, out))?;
    Ok(exit)
}

/// The addresses, each with who holds it, and who there is to hold any.
pub(super) fn look(options: &Options) -> Result<(IpamState, Holding), Failure> {
    let root = &options.host_root;
    // First, so that a sandbox that is made meanwhile is in the list and not taken for none.
    let mut state = read_ipam(root)?;
    let holding = find_holders(options)?;
    state.max_pods = read_max_pods(root, holding.kubelet.as_ref());
    settle_holders(&mut state, &holding.holders);
    read_ages(root, &mut state, &|reservation| age_decides(reservation, &holding.holders));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    settle_leaked(&mut state, &holding.holders, i64::try_from(now).unwrap_or(i64::MAX));
    Ok((state, holding))
}
