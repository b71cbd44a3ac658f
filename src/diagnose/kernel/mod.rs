//! Rules on what the kernel says of a namespace beside its links and routes. What could not be read is a check
//! that was *not* made.
//!
//! Not seen from a node, and so without a rule: an ECMP member or a router elsewhere that eats ICMP errors, a
//! hypervisor's own fragments, what a cloud's gateway takes. Whether a firewall here drops ICMP errors is only
//! measured (`mtu.black_hole`): its rules are not read.

mod counted;
mod rules;
mod settings;
mod tables;
#[cfg(test)]
mod tests;

pub use rules::*;
pub use tables::OTHER_REMOTES;

use crate::facts::{Check, Finding, KernelState, Link, Namespace, Seen};

/// What the namespace is for: some settings matter only where packets of others pass through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The node's own namespace.
    Node,
    /// A pod's.
    Pod,
}

/// What is known of one namespace.
#[derive(Debug, Clone, Copy)]
pub struct KernelView<'a> {
    /// Whose it is.
    pub role: Role,
    /// Its state now.
    pub now: &'a KernelState,
    /// The same some time ago: counters that rose since then are lost packets *now*.
    pub before: Option<&'a KernelState>,
    /// Its links and routes; `None` when they could not be read.
    pub namespace: Option<&'a Namespace>,
}

/// Findings, and one check for everything that was to be looked at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Looked {
    /// What is wrong, or worth knowing.
    pub findings: Vec<Finding>,
    /// What was looked at.
    pub checks: Vec<Check>,
}

impl Looked {
    /// Adds a check: it failed if a warning or worse was found, it was not made if `unread` says why.
    pub(in crate::diagnose) fn add(
        &mut self,
        id: &'static str,
        unread: Option<String>,
        findings: Vec<Finding>,
        well: String,
    ) {
        let worst = findings.iter().max_by_key(|f| f.severity);
        let check = match (worst.filter(|f| f.severity > crate::facts::Severity::Info), unread) {
            (Some(finding), _) => Check::failed(id, finding.summary.clone()),
            (None, Some(why)) => Check::not_checked(id, why),
            (None, None) => Check::passed(id, well),
        };
        self.checks.push(check);
        self.findings.extend(findings);
    }
}

/// Every rule of this family on one namespace.
///
/// Sources: kernel Documentation/networking/ip-sysctl.rst, nf_conntrack-sysctl.rst, snmp_counter.rst.
pub fn check_kernel(view: KernelView<'_>) -> Looked {
    let mut looked = Looked::default();
    let whose = &view.now.subject;
    if view.role == Role::Node {
        let (findings, unread) = settings::check_forwarding(view);
        looked.add(
            "net.forwarding",
            unread,
            findings,
            format!("{whose} forwards packets, or carries no pods"),
        );
        let (findings, unread) = settings::check_bridge_filter(view);
        let well = "packets between pods of one bridge meet the Service rules, or there is no such bridge";
        looked.add("net.bridge_filter", unread, findings, well.into());
        looked.add(
            "node.neighbour_table",
            unread_of(&view.now.tables.arp_usage),
            tables::check_usage(view),
            "the ARP table has room".into(),
        );
        let backlog = counted::check_backlog(view);
        looked.add(
            "node.backlog",
            counted::watched(view, &view.now.counters.softnet_dropped),
            backlog,
            counted::WELL.into(),
        );
    }
    looked.findings.extend(settings::check_notes(view));
    let conntrack = &view.now.conntrack;
    let room = conntrack.as_ref().map(|c| format!("{} of {} connections tracked", c.count, c.max));
    looked.add(
        "net.conntrack",
        unread_of(conntrack),
        tables::check_conntrack(view),
        room.unwrap_or_default(),
    );
    let neighbours = tables::check_neighbours(view);
    let unread = unread_of(&view.now.tables.neighbours).or_else(|| no_namespace(view));
    looked.add("net.neighbours", unread, neighbours, "no gateway is silent".into());
    if view.role == Role::Node {
        let unread = unread_of(&view.now.tables.forwarding).or_else(|| no_namespace(view));
        let unread = unread.or_else(|| unread_of(&view.now.counters.links));
        looked.add("net.tunnels", unread, tables::check_tunnels(view), "every tunnel knows its peers".into());
    }
    let remembered = &view.now.tables.remembered;
    let well = remembered.as_ref().map(|r| format!("{} path MTUs remembered", r.len()));
    looked.add(
        "net.remembered_mtus",
        unread_of(remembered),
        tables::check_remembered(view),
        well.unwrap_or_default(),
    );
    let unread = counted::watched(view, &view.now.counters.protocols);
    looked.add("net.losses", unread, counted::check_protocols(view), counted::WELL.into());
    let unread = counted::watched(view, &view.now.counters.links);
    looked.add("net.interfaces", unread, counted::check_links(view), counted::WELL.into());
    looked.findings.extend(counted::check_before(view));
    looked.checks.push(Check::not_checked("net.firewall", "rules of nftables and iptables are not read"));
    looked.checks.push(check_datapath(view));
    looked
}

/// Whether packets take the way that links and routes show: where programs carry them, that is not known.
pub fn check_datapath(view: KernelView<'_>) -> Check {
    const ID: &str = "net.datapath";
    let Some(namespace) = view.namespace else {
        return Check::not_checked(ID, "links and routes could not be read");
    };
    if let Some((link, what)) = namespace.links.iter().find_map(|l| Some((l, foreign_datapath(l)?))) {
        let name = &link.name;
        return Check::not_checked(
            ID,
            format!("{name}: {what} carries packets past what links and routes tell"),
        );
    }
    match &view.now.classifiers {
        Err(why) => Check::not_checked(ID, why.clone()),
        Ok(names) => match names.first() {
            Some(name) => Check::not_checked(
                ID,
                format!(
                    "{name} has a classifier (clsact): a program may carry packets past links and routes"
                ),
            ),
            None => Check::passed(ID, "links and routes carry the packets"),
        },
    }
}

/// The datapath that an interface belongs to, where it is one that links and routes do not describe.
fn foreign_datapath(link: &Link) -> Option<&'static str> {
    let name = link.name.as_str();
    match link.kind.as_deref() {
        Some("openvswitch") => return Some("Open vSwitch"),
        Some("netkit") => return Some("a program on netkit"),
        _ => {}
    }
    if ["cilium_host", "cilium_net", "cilium_vxlan", "cilium_geneve"].contains(&name) {
        return Some("Cilium's eBPF");
    }
    if name.starts_with("lxc") && link.kind.as_deref() == Some("veth") {
        return Some("Cilium's eBPF");
    }
    if ["bpfin.cali", "bpfout.cali"].contains(&name) {
        return Some("Calico's eBPF");
    }
    (name == "ovs-system" || name == "ovn-k8s-mp0" || name == "antrea-gw0").then_some("Open vSwitch")
}

/// Why something was not read.
fn unread_of<T>(seen: &Seen<T>) -> Option<String> {
    seen.as_ref().err().cloned()
}

fn no_namespace(view: KernelView<'_>) -> Option<String> {
    view.namespace.is_none().then(|| "links and routes could not be read".to_owned())
}
