//! An interface that went away and came back: the packet socket outlives it and is bound to the new one.
//!
//! No privilege is needed for that: a packet socket asks for its capability when it is made, not when it is bound
//! (packet(7); net/packet/af_packet.c, packet_bind), and its ring, its filter and its namespace stay what they were.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What the kernel says of an interface in the namespace of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) index: i32,
    /// ARPHRD_ number: what its packets begin with.
    pub(super) hardware: u16,
    pub(super) mac: [u8; 6],
    pub(super) up: bool,
}

/// Looks for an interface by name where `socket` is, which need not be where we are.
///
/// # Errors
/// The kernel's: ENODEV as long as there is none of that name.
pub(super) fn find(socket: BorrowedFd<'_>, name: &str) -> io::Result<Found> {
    let index = rustix::net::netdevice::name_to_index(socket, name)?;
    let hardware = ask(socket, name, libc::SIOCGIFHWADDR)?;
    let flags = ask(socket, name, libc::SIOCGIFFLAGS)?;
    // SAFETY: SIOCGIFHWADDR has filled this member of the union.
    let address = unsafe { hardware.ifr_ifru.ifru_hwaddr };
    // SAFETY: SIOCGIFFLAGS has filled this one.
    let flags = unsafe { flags.ifr_ifru.ifru_flags };
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(address.sa_data) {
        *to = from.cast_unsigned();
    }
    Ok(Found {
        index: i32::try_from(index).map_err(io::Error::other)?,
        hardware: address.sa_family,
        mac,
        up: i32::from(flags) & libc::IFF_UP != 0,
    })
}

/// One question of netdevice(7) about an interface.
fn ask(socket: BorrowedFd<'_>, name: &str, request: libc::c_ulong) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain data; all zeroes is an empty name.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero: the name ends there.
    if name.len() >= ifreq.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, &from) in ifreq.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: both requests read the name and write into the same ifreq.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw mut ifreq) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(ifreq) }
}

/// Binds a packet socket to an interface, all protocols, and forgets the error that the going of the old one left.
///
/// # Errors
/// The kernel's.
pub(super) fn bind(socket: BorrowedFd<'_>, index: i32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?.to_be();
    address.sll_ifindex = index;
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the address is a sockaddr_ll of that length, which the kernel copies.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // Reading the error takes it away; an interface that is down has left one more.
    let _ = rustix::net::sockopt::socket_error(socket);
    Ok(())
}
