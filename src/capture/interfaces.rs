//! The interfaces of the namespace this thread is in: names, flags, MTU, hardware address, and the uplink.

use super::link_dump::{attributes, dump_links, number};
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
/// The kernel's.
pub(super) fn read_interfaces() -> io::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for interface in dump_links(read_interface)? {
        // One that came or went meanwhile may move others to a place that is still to come.
        if !found.iter().any(|i| i.name == interface.name) {
            found.push(interface);
        }
    }
    Ok(found)
}

/// One RTM_NEWLINK message, rtnetlink(7): a struct ifinfomsg and its attributes; `None` without a name.
fn read_interface(payload: &[u8]) -> Option<Interface> {
    // linux/if_arp.h.
    const ARPHRD_ETHER: u16 = 1;
    let hardware = payload.get(2..)?.first_chunk().copied().map(u16::from_ne_bytes)?;
    let flags = number(payload, 8)?.cast_signed();
    let (mut name, mut mtu_bytes, mut mac) = (None, None, None);
    for attribute in attributes(payload) {
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_IFNAME => {
                name = value.split(|&byte| byte == 0).next().map(String::from_utf8_lossy).map(Into::into)
            }
            libc::IFLA_MTU => mtu_bytes = number(value, 0),
            libc::IFLA_ADDRESS => mac = <[u8; 6]>::try_from(value).ok(),
            _ => {}
        }
    }
    Some(Interface {
        name: name?,
        mtu_bytes,
        // A tunnel's "address" is its endpoint.
        mac: mac.filter(|m| hardware == ARPHRD_ETHER && *m != [0; 6]),
        up: flags & libc::IFF_UP != 0,
        loopback: flags & libc::IFF_LOOPBACK != 0,
    })
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
    fn a_message_is_read_as_far_as_it_goes() {
        // struct ifinfomsg: ARPHRD_ETHER, index 2, IFF_UP; name, MTU, address, a name that is not the first.
        let mut message = vec![0, 0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        message.extend([9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0]);
        message.extend([8, 0, 4, 0, 0xaa, 5, 0, 0]);
        message.extend([10, 0, 1, 0, 2, 0, 0, 0, 0, 7, 0, 0]);
        let mut expected = Interface {
            name: "eth0".into(),
            mtu_bytes: Some(1450),
            mac: Some([2, 0, 0, 0, 0, 7]),
            up: true,
            loopback: false,
        };
        assert_eq!(read_interface(&message).as_ref(), Some(&expected));
        for length in 0..message.len() {
            let read = read_interface(&message[..length]);
            assert_eq!(read.is_some(), length >= 25, "{length}");
        }
        // ARPHRD_TUNNEL6; then six zeros.
        message[2..4].copy_from_slice(&769u16.to_ne_bytes());
        expected.mac = None;
        assert_eq!(read_interface(&message).as_ref(), Some(&expected));
        message[2..4].copy_from_slice(&1u16.to_ne_bytes());
        message[40..46].fill(0);
        assert_eq!(read_interface(&message).as_ref(), Some(&expected));
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
