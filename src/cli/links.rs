//! `nsprobe links`: every interface's MTU, the chain of each pod, and what does not fit together.

use super::{Context, Exit, Failure};
use crate::diagnose::kernel::{KernelView, Role, check_kernel};
use crate::diagnose::links::{check_links, check_unread};
use crate::diagnose::runtime::check_runtime;
use crate::facts::{Finding, Namespace, Severity};
use crate::netns::NetNs;
use crate::observe::{ReadOptions, read_kernel_state, read_namespaces};
use crate::report::{LinksDocument, LinksView, render_links};
use clap::Args;

/// Arguments of `links`.
#[derive(Debug, Args)]
pub(crate) struct LinksArgs {
    /// Whose links, with those of the host that they hang on; the host and every pod without.
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
}

/// A namespace to read, open.
struct Target {
    subject: String,
    netns: NetNs,
}

/// A pod with hostNetwork, or one that was named twice: its namespace is there already.
fn add(targets: &mut Vec<Target>, subject: String, netns: NetNs) {
    if !targets.iter().any(|t| t.netns.inode() == netns.inode()) {
        targets.push(Target { subject, netns });
    }
}

/// What the node's own settings and tables do to the packets of its pods; notes on what is no fault stay with
/// `diagnose`.
fn check_host(targets: &[Target], namespaces: &[Namespace], host: u64) -> Vec<Finding> {
    let of = |netns: &NetNs| netns.inode() == host;
    let Some(target) = targets.iter().find(|t| of(&t.netns)) else { return Vec::new() };
    let now = match read_kernel_state(&target.subject, &target.netns) {
        Ok(now) => now,
        Err(error) => return vec![check_unread(&target.subject, &error.to_string())],
    };
    let namespace = namespaces.iter().find(|n| n.netns_inode == host);
    let view = KernelView { role: Role::Node, now: &now, before: None, namespace };
    let mut findings = check_kernel(view).findings;
    findings.retain(|f| f.severity > Severity::Info);
    findings
}

pub(super) fn run(args: &LinksArgs, context: &mut Context) -> Result<Exit, Failure> {
    let options = context.pods();
    let mut targets = Vec::new();
    let mut findings = Vec::new();
    let host = match crate::pods::resolve(&options, "host") {
        Ok(source) => {
            let inode = source.netns.inode();
            add(&mut targets, "host".into(), source.netns);
            inode
        }
        // Of what was named the rest can still be told.
        Err(error) if !args.sources.is_empty() => {
            findings.push(check_unread("host", &error.to_string()));
            0
        }
        Err(error) => return Err(error.into()),
    };
    if args.sources.is_empty() {
        let all = crate::pods::resolve_all(&options)?;
        findings.extend(all.degraded.iter().map(|d| check_runtime(d, all.endpoint.as_deref())));
        for (subject, source) in all.sources {
            match source {
                Ok(netns) => add(&mut targets, subject, netns),
                Err(error) => findings.push(check_unread(&subject, &error.to_string())),
            }
        }
    }
    for selector in &args.sources {
        let source = crate::pods::resolve(&options, selector)?;
        findings.extend(source.degraded.iter().map(|d| check_runtime(d, None)));
        add(&mut targets, source.label, source.netns);
    }
    findings.dedup();
    let open: Vec<(&str, &NetNs)> = targets.iter().map(|t| (t.subject.as_str(), &t.netns)).collect();
    let mut namespaces = Vec::new();
    for (subject, answer) in read_namespaces(&open, ReadOptions::default()) {
        match answer {
            Ok(namespace) => namespaces.push(namespace),
            Err(error) if error.is_permission() || subject == "host" => return Err(error.into()),
            Err(error) => findings.push(check_unread(&subject, &error.to_string())),
        }
    }
    findings.extend(check_links(&namespaces, host));
    findings.extend(check_host(&targets, &namespaces, host));
    let report = LinksDocument { namespaces, findings };
    let verbose = context.global.verbose;
    context.report("nsprobe.links/v1", &report, |out| {
        render_links(&report, host, LinksView { paint: out.paint, width: out.width.unwrap_or(80), verbose })
    })?;
    Ok(Exit::of(&report.findings))
}
