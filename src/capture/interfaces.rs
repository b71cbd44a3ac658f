//! The interfaces of the namespace this thread is in: names, flags, MTU, hardware address, and the uplink.

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::io;

/// What a capture needs to know of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    /// Link MTU, bytes.
    pub(super) mtu_bytes: Option<u32>,
    /// Hardware address, where it has an Ethernet one.
    pub(super) mac: Option<[u8; 6]>,
    pub(super) up: bool,
    pub(super) loopback: bool,
}

/// Every interface of the calling thread's namespace, by name.
///
/// # Errors
/// getifaddrs(3)'s.
pub(super) fn read_interfaces() -> io::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in getifaddrs()? {
        // Each interface has one AF_PACKET entry, whatever addresses it has; aliases have none.
        let Some(link) = entry.address.as_ref().and_then(|a| a.as_link_addr()) else { continue };
        if found.iter().any(|i| i.name == entry.interface_name) {
            continue;
        }
        found.push(Interface {
            mtu_bytes: read_mtu(&entry.interface_name),
            // ARPHRD_ETHER with a real address; a tunnel's "address" is its endpoint.
            mac: link.addr().filter(|m| link.halen() == 6 && link.hatype() == 1 && *m != [0; 6]),
            up: entry.flags.contains(InterfaceFlags::IFF_UP),
            loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
            name: entry.interface_name,
        });
    }
    Ok(found)
}

/// SIOCGIFMTU (netdevice(7)) in the calling thread's namespace.
fn read_mtu(name: &str) -> Option<u32> {
    use std::os::fd::AsRawFd;
    nix::ioctl_read_bad!(get_mtu, libc::SIOCGIFMTU, libc::ifreq);
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .ok()?;
    // SAFETY: ifreq is plain data; all zeroes is an empty name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero: the name ends there.
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, &from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the kernel reads the name and writes the MTU, both inside the ifreq.
    unsafe { get_mtu(socket.as_raw_fd(), &mut request) }.ok()?;
    // SAFETY: SIOCGIFMTU has filled this member of the union.
    u32::try_from(unsafe { request.ifr_ifru.ifru_mtu }).ok()
}

/// The interface of the default route with the lowest metric, IPv4 before IPv6, in the calling thread's
/// namespace (/proc/thread-self: /proc/net follows the thread-group leader).
pub(super) fn read_uplink() -> Option<String> {
    let read =
        |file: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    uplink_v4(&read("route")).or_else(|| uplink_v6(&read("ipv6_route")))
}

/// `RTF_UP`, linux/route.h.
const ROUTE_UP: u32 = 1;
/// `RTF_REJECT`, linux/route.h.
const ROUTE_REJECT: u32 = 0x200;

/// Default route of /proc/net/route: interface, destination, gateway, flags, refs, use, metric, mask.
fn uplink_v4(table: &str) -> Option<String> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (name, destination) = (words.next()?, words.next()?);
        let flags = u32::from_str_radix(words.nth(1)?, 16).ok()?;
        let metric: u32 = words.nth(2)?.parse().ok()?;
        let default = destination == "00000000" && words.next()? == "00000000";
        (default && flags & ROUTE_UP != 0 && flags & ROUTE_REJECT == 0).then_some((metric, name))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, name)| name.to_owned())
}

/// Default route of /proc/net/ipv6_route: destination, length, source, length, next hop, metric, refs, use,
/// flags, interface.
fn uplink_v6(table: &str) -> Option<String> {
    let routes = table.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (destination, length) = (words.next()?, words.next()?);
        let metric = u32::from_str_radix(words.nth(3)?, 16).ok()?;
        let flags = u32::from_str_radix(words.nth(2)?, 16).ok()?;
        let name = words.next()?;
        let default = length == "00" && destination.bytes().all(|b| b == b'0');
        (default && name != "lo" && flags & ROUTE_UP != 0 && flags & ROUTE_REJECT == 0)
            .then_some((metric, name))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lo_is_up_and_has_an_mtu() {
        let all = read_interfaces().unwrap();
        let lo = all.iter().find(|i| i.name == "lo").unwrap();
        assert!(lo.loopback && lo.mtu_bytes.is_some_and(|m| m >= 1280) && lo.mac.is_none(), "{lo:?}");
    }

    #[test]
    fn the_uplink_is_the_default_route_with_the_lowest_metric() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            cni0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(uplink_v4(table).as_deref(), Some("eth0"));
        assert_eq!(uplink_v4("Iface\n"), None);
        assert_eq!(uplink_v4("x\ny z\n"), None);
    }

    #[test]
    fn an_unreachable_default_is_no_uplink() {
        let zero = "0".repeat(32);
        let line = |metric: &str, flags: &str, name: &str| {
            format!(
                "{zero} 00 {zero} 00 fe800000000000000000000000000001 {metric} 00000001 00000000 {flags} {name}\n"
            )
        };
        let table = [line("ffffffff", "00200200", "lo"), line("00000400", "00000003", "eth1")].concat();
        assert_eq!(uplink_v6(&table).as_deref(), Some("eth1"));
        assert_eq!(uplink_v6(&line("ffffffff", "00200200", "lo")), None);
    }
}
