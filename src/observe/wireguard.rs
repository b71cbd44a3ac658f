//! Endpoints of WireGuard devices, over generic netlink: they alone tell which family carries the tunnel. The mark of
//! their outer packets too: wg-quick and Calico tell these by it from those that go into the tunnel.
//!
//! Source: linux/genetlink.h, linux/wireguard.h. Keys are in the answer too; they are not looked at.

use super::link::RawLink;
use super::namespace::RawNamespace;
use super::wire::{DONE, ERROR, Messages, attributes, field};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use std::net::IpAddr;

/// struct genlmsghdr.
const HEADER: usize = 4;
/// GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// WG_CMD_GET_DEVICE, WGDEVICE_A_IFINDEX, WGDEVICE_A_FWMARK, WGDEVICE_A_PEERS, WGPEER_A_ENDPOINT.
const GET_DEVICE: u8 = 0;
const IFINDEX: u16 = 1;
const FWMARK: u16 = 7;
const PEERS: u16 = 8;
const ENDPOINT: u16 = 4;
/// Datagrams of one answer that are read at most: thousands of peers.
const MOST: usize = 256;

/// Reads the endpoints of the WireGuard devices of the thread's namespace into their tunnels; without an
/// answer these stay as they are, their overhead unknown.
pub(super) fn read_endpoints(raw: &mut RawNamespace) {
    let is_wireguard = |l: &&mut RawLink| l.kind.as_deref() == Some("wireguard");
    let mut devices = raw.links.iter_mut().filter(is_wireguard).peekable();
    if devices.peek().is_none() {
        return;
    }
    let Some(socket) = open() else { return };
    let Some(family) =
        ask(&socket, CONTROL, 0, GET_FAMILY, FAMILY_NAME, b"wireguard\0", family_id).into_iter().next()
    else {
        return;
    };
    for device in devices {
        let index = device.index.to_ne_bytes();
        let both = |payload: &[u8]| Some((endpoints(payload), mark(payload)));
        let found = ask(&socket, family, NLM_F_DUMP, GET_DEVICE, IFINDEX, &index, both);
        if let Some(tunnel) = &mut device.tunnel {
            tunnel.mark = found.iter().find_map(|(_, mark)| *mark);
            tunnel.set_wireguard(found.into_iter().flat_map(|(endpoints, _)| endpoints).collect());
        }
    }
}

fn open() -> Option<Socket> {
    let socket = Socket::new(NETLINK_GENERIC).ok()?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(1, 0)).ok()?;
    Some(socket)
}

/// Sends one command with one attribute; what `parse` finds in the messages of the answer.
fn ask<T>(
    socket: &Socket,
    family: u16,
    flags: u16,
    command: u8,
    attribute: u16,
    value: &[u8],
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    if socket.send(&request(family, flags, command, attribute, value), 0).is_err() {
        return found;
    }
    let mut buffer = Vec::with_capacity(64 << 10);
    for _ in 0..MOST {
        buffer.clear();
        if socket.recv(&mut buffer, 0).is_err() {
            break;
        }
        for message in Messages(&buffer) {
            if matches!(message.kind, DONE | ERROR) {
                return found;
            }
            found.extend(parse(message.payload));
        }
        if flags & NLM_F_DUMP == 0 {
            break;
        }
    }
    found
}

fn request(family: u16, flags: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    /// struct nlmsghdr, struct genlmsghdr, struct nlattr.
    const HEADERS: u32 = 16 + 4 + 4;
    let size = u32::try_from(value.len()).unwrap_or(0);
    let mut bytes = Vec::with_capacity(64);
    bytes.extend((HEADERS + size.next_multiple_of(4)).to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(u16::try_from(size + 4).unwrap_or(4).to_ne_bytes());
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn family_id(payload: &[u8]) -> Option<u16> {
    let id = attributes(payload, HEADER).find(|a| a.kind() == FAMILY_ID)?;
    field(id.value(), 0).map(u16::from_ne_bytes)
}

/// The mark that the device puts on its outer packets (`wg set fwmark`).
fn mark(payload: &[u8]) -> Option<u32> {
    let mark = attributes(payload, HEADER).find(|a| a.kind() == FWMARK)?;
    field(mark.value(), 0).map(u32::from_ne_bytes).filter(|mark| *mark != 0)
}

/// The endpoints of a device's peers, of those that have one.
pub(super) fn endpoints(payload: &[u8]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for peers in attributes(payload, HEADER).filter(|a| a.kind() == PEERS) {
        for peer in attributes(peers.value(), 0) {
            let endpoint = attributes(peer.value(), 0).find(|a| a.kind() == ENDPOINT);
            found.extend(endpoint.and_then(|a| socket_address(a.value())));
        }
    }
    found
}

/// The address of a struct sockaddr_in or sockaddr_in6.
fn socket_address(bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(u16::from_ne_bytes(field(bytes, 0)?)) {
        libc::AF_INET => Some(IpAddr::from(field::<4>(bytes, 4)?)),
        libc::AF_INET6 => Some(IpAddr::from(field::<16>(bytes, 8)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILY: &[u8] = include_bytes!("../../tests/fixtures/netlink/genl-getfamily-wireguard.bin");
    const DEVICE: &[u8] = include_bytes!("../../tests/fixtures/netlink/genl-wireguard-get-device-wg0.bin");

    #[test]
    fn the_recorded_device_has_the_endpoint_that_wg_shows() {
        let ids: Vec<_> = Messages(FAMILY).filter_map(|m| family_id(m.payload)).collect();
        assert_eq!(ids, [0x24]);
        let device = Messages(DEVICE).find(|m| m.kind == 0x24).unwrap();
        assert_eq!(endpoints(device.payload), ["198.51.100.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(mark(device.payload), None, "0 in the recorded one");
        let mut marked = device.payload.to_vec();
        let at = marked.windows(4).position(|head| head == [8, 0, 7, 0]).unwrap();
        marked[at + 4..at + 8].copy_from_slice(&0xca6c_u32.to_ne_bytes());
        assert_eq!(mark(&marked), Some(0xca6c), "as wg-quick sets it");
        let mut tunnel = super::super::tunnel::RawTunnel::default();
        tunnel.set_wireguard(vec!["198.51.100.2".parse().unwrap()]);
        assert_eq!((tunnel.overhead, tunnel.outer_ipv6), (Some(60), Some(false)));
        tunnel.set_wireguard(vec!["2001:db8::1".parse().unwrap()]);
        assert_eq!((tunnel.overhead, tunnel.outer_ipv6), (Some(80), Some(true)));
        tunnel.set_wireguard(vec!["198.51.100.2".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
        assert_eq!((tunnel.overhead, tunnel.outer_ipv6), (Some(80), None), "of both the larger");
    }

    #[test]
    fn a_damaged_answer_never_panics() {
        for end in 0..DEVICE.len() {
            for flip in [0x00, 0x80, 0xff] {
                let mut data = DEVICE[..end].to_vec();
                if let Some(last) = data.last_mut() {
                    *last ^= flip;
                }
                for message in Messages(&data) {
                    let _ = (endpoints(message.payload), mark(message.payload), family_id(message.payload));
                }
            }
        }
    }

    #[test]
    fn the_request_is_laid_out_as_the_kernel_wants_it() {
        let bytes = request(0x24, NLM_F_DUMP, GET_DEVICE, IFINDEX, &7u32.to_ne_bytes());
        let message = Messages(&bytes).next().unwrap();
        assert_eq!((message.kind, message.flags), (0x24, NLM_F_REQUEST | NLM_F_DUMP));
        let attribute = attributes(message.payload, HEADER).next().unwrap();
        assert_eq!((attribute.kind(), attribute.value()), (IFINDEX, 7u32.to_ne_bytes().as_slice()));
        assert_eq!(request(CONTROL, 0, GET_FAMILY, FAMILY_NAME, b"wireguard\0").len(), 36);
    }
}
