//! The kernel's state in one namespace: sysctls, counters, connection tracking, neighbours and remembered path
//! MTUs. What cannot be read is said, and does not hinder the rest.
//!
//! Sources: kernel Documentation/networking/ip-sysctl.rst, nf_conntrack-sysctl.rst, snmp_counter.rst; proc_net(5);
//! rtnetlink(7).

mod files;
mod tables;
#[cfg(test)]
mod tests;

use super::ObserveError;
use super::link::RawLink;
use super::namespace::dump_links;
use super::socket::Netlink;
use crate::facts::{KernelCounters, KernelState, KernelTables, Seen};
use crate::netns::NetNs;
use std::collections::BTreeMap;

/// Interfaces by index, as the other tables name them.
type Names = BTreeMap<u32, String>;

/// Reads the kernel's state inside the namespace, on a thread that then dies. About 1 ms.
///
/// # Errors
/// [`ObserveError::NetNs`] when the namespace cannot be entered; everything else is said in the state itself.
pub fn read_kernel_state(subject: &str, netns: &NetNs) -> Result<KernelState, ObserveError> {
    Ok(netns.run(|| {
        let mut netlink = Netlink::route().map_err(told);
        let links = with(&mut netlink, |netlink| dump_links(netlink, true).map(|dump| dump.items));
        state(subject, netns.inode(), &mut netlink, links.as_deref().map_err(Clone::clone))
    })?)
}

/// What [`read_kernel_state`] reads, on a thread that is in the namespace already and has its links with counters.
pub(super) fn state(
    subject: &str,
    netns_inode: u64,
    netlink: &mut Seen<Netlink>,
    links: Seen<&[RawLink]>,
) -> KernelState {
    let all = links.iter().copied().flatten();
    let names: Names = all.clone().map(|link| (link.index, link.name.clone())).collect();
    let vxlans: Vec<u32> =
        all.clone().filter(|link| link.kind.as_deref() == Some("vxlan")).map(|link| link.index).collect();
    let of_links = all.filter(|link| link.name != "lo");
    let settings = files::settings(of_links.map(|link| (link.name.clone(), link.settings)).collect());
    let counted = |links: &[RawLink]| {
        links.iter().filter_map(|link| Some((link.name.clone(), link.counters?))).collect()
    };
    KernelState {
        subject: subject.to_owned(),
        netns_inode,
        settings,
        counters: KernelCounters {
            protocols: files::protocols(),
            links: links.clone().map(counted),
            softnet_dropped: files::softnet_dropped(),
        },
        conntrack: files::conntrack(),
        tables: KernelTables {
            neighbours: with(netlink, |netlink| tables::neighbours(netlink, &names)),
            forwarding: links
                .and_then(|_| with(netlink, |netlink| tables::forwarding(netlink, &vxlans, &names))),
            remembered: with(netlink, tables::remembered),
            arp_usage: files::arp_usage(),
        },
        classifiers: with(netlink, |netlink| tables::classifiers(netlink, &names)),
    }
}

/// Asks over the socket, if there is one.
fn with<T>(
    netlink: &mut Seen<Netlink>,
    ask: impl FnOnce(&mut Netlink) -> Result<T, ObserveError>,
) -> Seen<T> {
    match netlink {
        Ok(netlink) => ask(netlink).map_err(told),
        Err(why) => Err(why.clone()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn told(error: ObserveError) -> String {
    error.to_string()
}
