//! Offloads of tunnels and of what carries them: what makes captures look strange, and once broke checksums.
//!
//! Source: linux/ethtool.h, ETHTOOL_GTXCSUM, ETHTOOL_GTSO, ETHTOOL_GGSO, ETHTOOL_GGRO of ioctl SIOCETHTOOL; each answers
//! whether any of its kind is on. Any socket of the namespace will do for an ioctl.

use super::namespace::RawNamespace;
use crate::facts::Offloads;
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, BorrowedFd};

/// SIOCETHTOOL, linux/sockios.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const TX_CHECKSUM: u32 = 0x16;
const TSO: u32 = 0x1e;
const GSO: u32 = 0x23;
const GRO: u32 = 0x2b;
/// Interfaces of one namespace that are asked at most, four calls each.
const MOST: usize = 64;

/// struct ethtool_value.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Asks for the offloads of each tunnel that is up and of each interface that carries one; where there is no tunnel,
/// of the way out when it is a device of its own and not a pod's veth.
pub(super) fn read_offloads(socket: BorrowedFd<'_>, raw: &mut RawNamespace) {
    let mut wanted: BTreeSet<u32> = BTreeSet::new();
    for link in raw.links.iter().filter(|l| l.up && l.tunnel.is_some()) {
        wanted.insert(link.index);
        if let Some(underlay) = raw.underlays.get(&link.index) {
            wanted.extend(underlay.interface);
            wanted.extend(underlay.egress.iter().filter_map(|e| Some(e.way?.interface)));
        }
    }
    if wanted.is_empty() {
        let out = raw.routes.iter().find(|r| r.destination == "default").and_then(|r| r.interface);
        let own = |index: &u32| raw.links.iter().any(|l| l.index == *index && !l.is_paired());
        wanted.extend(out.filter(own));
    }
    for link in raw.links.iter_mut().filter(|l| wanted.contains(&l.index)).take(MOST) {
        link.offloads = offloads(socket, &link.name);
    }
}

fn offloads(socket: BorrowedFd<'_>, name: &str) -> Option<Offloads> {
    Some(Offloads {
        tx_checksum: ask(socket, name, TX_CHECKSUM)?,
        tso: ask(socket, name, TSO)?,
        gso: ask(socket, name, GSO)?,
        gro: ask(socket, name, GRO)?,
    })
}

fn ask(socket: BorrowedFd<'_>, name: &str, command: u32) -> Option<bool> {
    let mut value = Value { command, data: 0 };
    let mut name_bytes = [0; libc::IFNAMSIZ];
    // The last byte stays zero.
    for (to, from) in name_bytes.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let mut request = libc::ifreq {
        ifr_name: name_bytes,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() },
    };
    // SAFETY: the request and the value it points to outlive the call; the kernel writes a struct ethtool_value.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    (answer == 0).then_some(value.data != 0)
}
