//! `nsprobe pods`: which pods are on this node, from the runtime or without it.

use super::{Context, Exit, Failure};
use crate::diagnose::runtime::check_runtime;
use crate::pods::{self, is_live};
use crate::report::{PodsDocument, PodsView, render_pods};
use clap::Args;
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments of `pods`.
#[derive(Debug, Args)]
pub(crate) struct PodsArgs {
    /// Only the pods that it fits: [namespace/]pod[:container], an id prefix, a pod IP, pid:N, netns:NAME, host
    selector: Option<String>,
    /// Also sandboxes that have ended.
    #[arg(short, long)]
    all: bool,
}

pub(super) fn run(args: &PodsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let options = context.pods();
    let mut list = pods::list(&options)?;
    if let Some(selector) = &args.selector {
        pods::filter(&options, &mut list, selector)?;
    }
    // Who names a pod wants to see it, dead or not.
    if !args.all && args.selector.is_none() {
        list.pods.retain(is_live);
    }
    let findings: Vec<_> =
        list.degraded.iter().map(|degraded| check_runtime(degraded, list.endpoint.as_deref())).collect();
    let exit = Exit::of(&findings);
    let document = PodsDocument {
        source: list.source,
        endpoint: list.endpoint,
        degraded: list.degraded,
        pods: list.pods,
        findings,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let view = PodsView { verbose: context.global.verbose, now: i64::try_from(now).unwrap_or(i64::MAX) };
    context.report("nsprobe.pods/v1", &document, |out| render_pods(&document, view, out))?;
    Ok(exit)
}
