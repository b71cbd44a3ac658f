//! Filter programs put together: libpcap compiles each part, and a part may be moved behind the outer headers of
//! a tunnel, so that the whole language works on what a packet carries inside.
//!
//! libpcap's own `geneve` looks inside by itself; VXLAN and IP-in-IP it does not know (pcap-filter(7) of 1.10). In
//! these the inner frame begins at a known place, so the same program with each load moved reads the inner one.
//!
//! Source: bpf(4) of BSD; kernel Documentation/networking/filter.rst; RFC 7348 (VXLAN).

use super::filter::{Inside, message_of};
use nix::errno::Errno;
use pcap::{BpfProgram, Capture, Linktype};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_CLASS` and the classes that are told apart.
const CLASS: u16 = 0x07;
const LOAD: u16 = 0x00;
const LOAD_X: u16 = 0x01;
const RETURN: u16 = 0x06;
/// `BPF_MODE`, and the modes that read the packet at a place.
const MODE: u16 = 0xe0;
const ABSOLUTE: u16 = 0x20;
const INDIRECT: u16 = 0x40;
const HEADER_LENGTH: u16 = 0xa0;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// From here on a place is no place in the packet but a question to the kernel (`SKF_AD_OFF` and below).
const ANCILLARY: u32 = 0xfff0_0000;
/// `BPF_MAXINSNS`.
const LONGEST: usize = 4096;

/// Ethernet and IPv4 without options.
const IPV4: u32 = 14 + 20;
/// Ethernet and IPv6 without extensions.
const IPV6: u32 = 14 + 40;
/// UDP and VXLAN.
const VXLAN: u32 = 8 + 8;

/// One instruction of classic BPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    value: u32,
}

/// A program that takes a packet or leaves it; every path ends in a return of a constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program(Vec<Instruction>);

impl Program {
    /// What libpcap has compiled; `None` when it holds something that cannot be put together with others.
    fn read(compiled: &BpfProgram) -> Option<Self> {
        // The crate shows an instruction as its four numbers and in no other way.
        let read = |text: String| {
            let mut words = text.split_ascii_whitespace();
            Some(Instruction {
                code: words.next()?.parse().ok()?,
                jump_true: words.next()?.parse().ok()?,
                jump_false: words.next()?.parse().ok()?,
                value: words.next()?.parse().ok()?,
            })
        };
        let all: Option<Vec<_>> = compiled.get_instructions().iter().map(|i| read(i.to_string())).collect();
        all.filter(|all| all.iter().all(|i| i.code & CLASS != RETURN || i.code == RETURN)).map(Self)
    }

    /// The same of what begins `bytes` later. A question for the length still gets that of the whole packet.
    fn moved(mut self, bytes: u32) -> Option<Self> {
        for i in &mut self.0 {
            let reads = match i.code & CLASS {
                LOAD => matches!(i.code & MODE, ABSOLUTE | INDIRECT),
                LOAD_X => i.code & MODE == HEADER_LENGTH,
                _ => false,
            };
            if reads {
                if i.value >= ANCILLARY {
                    return None;
                }
                i.value = i.value.checked_add(bytes)?;
            }
        }
        Some(self)
    }

    /// Takes what both take.
    fn and(self, other: Self) -> Self {
        self.then(other, |value| value != 0)
    }

    /// Takes what either takes.
    fn or(self, other: Self) -> Self {
        self.then(other, |value| value == 0)
    }

    /// Goes on with `other` where a return `leads_on`. Programs keep nothing that the next one would read.
    fn then(mut self, other: Self, leads_on: impl Fn(u32) -> bool) -> Self {
        let length = self.0.len();
        for (at, i) in self.0.iter_mut().enumerate() {
            if i.code == RETURN && leads_on(i.value) {
                let value = u32::try_from(length - at - 1).unwrap_or(u32::MAX);
                *i = Instruction { code: JUMP, jump_true: 0, jump_false: 0, value };
            }
        }
        self.0.extend(other.0);
        self
    }

    /// Keeps so many bytes of a packet that is taken.
    fn keeping(mut self, snaplen_bytes: u32) -> Self {
        for i in self.0.iter_mut().filter(|i| i.code == RETURN && i.value != 0) {
            i.value = snaplen_bytes;
        }
        self
    }

    /// Makes it the filter of a packet socket.
    ///
    /// # Errors
    /// The kernel's; EINVAL for a program that is too long for it.
    pub(super) fn attach(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if self.0.len() > LONGEST {
            return Err(Errno::EINVAL.into());
        }
        let mut code: Vec<libc::sock_filter> = self
            .0
            .iter()
            .map(|i| libc::sock_filter { code: i.code, jt: i.jump_true, jf: i.jump_false, k: i.value })
            .collect();
        let program = libc::sock_fprog {
            len: u16::try_from(code.len()).map_err(|_| Errno::EINVAL)?,
            filter: code.as_mut_ptr(),
        };
        let size = libc::socklen_t::try_from(size_of_val(&program)).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the kernel reads `size` bytes of a sock_fprog and the `len` instructions it points to; both live.
        let result = unsafe {
            let pointer = (&raw const program).cast::<libc::c_void>();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, pointer, size)
        };
        Errno::result(result).map(drop).map_err(Into::into)
    }
}

/// A filter for an Ethernet interface that holds for a packet as it is there or for what it carries inside a
/// tunnel; `exclusion` is for the packet as it is. `None`: it cannot be put together. `live` compiles for the
/// interface, where tags of VLANs may be beside the packet.
///
/// # Errors
/// libpcap's message.
pub(super) fn look_inside(
    live: impl Fn(&str) -> Result<BpfProgram, String>,
    filter: &str,
    exclusion: Option<&str>,
    inside: &Inside,
    snaplen_bytes: u32,
) -> Result<Option<Program>, String> {
    let mut parts = vec![live(filter)?];
    let frame = dead(Linktype::ETHERNET, filter)?;
    let ports: Vec<String> = inside.vxlan_ports.iter().map(|p| format!("udp dst port {p}")).collect();
    let mut found = Vec::new();
    if !ports.is_empty() {
        let ports = ports.join(" or ");
        // The I flag: the rest of the header is VXLAN's.
        let outer = [
            (format!("({ports}) and ip[0] = 0x45 and udp[8] & 8 != 0"), IPV4 + VXLAN),
            (format!("ip6 and ({ports}) and ip6[6] = 17 and ip6[48] & 8 != 0"), IPV6 + VXLAN),
        ];
        for (outer, bytes) in outer {
            found.push((dead(Linktype::ETHERNET, &outer)?, Program::read(&frame), bytes));
        }
    }
    // Some filters make sense for Ethernet only; inside IP-in-IP no packet passes them.
    if let Ok(packet) = dead(Linktype(DLT_RAW), filter) {
        for (outer, bytes) in
            [("ip[0] = 0x45 and (ip proto 4 or ip proto 41)", IPV4), ("ip6[6] = 4 or ip6[6] = 41", IPV6)]
        {
            found.push((dead(Linktype::ETHERNET, outer)?, Program::read(&packet), bytes));
        }
    }
    // `geneve` moves everything that follows it, so it is a part of its own.
    let both = if filter.trim().is_empty() { "geneve".to_owned() } else { format!("geneve and ({filter})") };
    parts.extend(dead(Linktype::ETHERNET, &both));
    let moved =
        found.into_iter().map(|(outer, inner, bytes)| Some(Program::read(&outer)?.and(inner?.moved(bytes)?)));
    let all = parts.iter().map(Program::read).chain(moved).reduce(|a, b| Some(a?.or(b?))).flatten();
    let Some(all) = all else { return Ok(None) };
    let all = match exclusion {
        Some(text) => Program::read(&live(text)?).map(|exclusion| exclusion.and(all)),
        None => Some(all),
    };
    Ok(all.map(|all| all.keeping(snaplen_bytes)))
}

/// Packets that begin with their IP header; LINKTYPE_RAW's number in Linux's libpcap.
const DLT_RAW: i32 = 12;

/// Compiled for a link type without an interface.
fn dead(link: Linktype, filter: &str) -> Result<BpfProgram, String> {
    Capture::dead(link).and_then(|handle| handle.compile(filter, true)).map_err(|e| message_of(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    unsafe extern "C" {
        /// libpcap's interpreter: bytes to keep, 0 for none.
        fn bpf_filter(code: *const libc::sock_filter, packet: *const u8, wire: u32, kept: u32) -> u32;
    }

    fn play(program: &Program, packet: &[u8]) -> u32 {
        let code: Vec<libc::sock_filter> = program
            .0
            .iter()
            .map(|i| libc::sock_filter { code: i.code, jt: i.jump_true, jf: i.jump_false, k: i.value })
            .collect();
        let length = u32::try_from(packet.len()).unwrap();
        // SAFETY: the program ends in a return on every path and reads the packet within its length.
        unsafe { bpf_filter(code.as_ptr(), packet.as_ptr(), length, length) }
    }

    fn program(filter: &str, exclusion: Option<&str>) -> Program {
        let inside = Inside { vxlan_ports: vec![8472, 4789] };
        look_inside(|text| dead(Linktype::ETHERNET, text), filter, exclusion, &inside, 777).unwrap().unwrap()
    }

    /// A TCP segment from `source` to 10.244.2.7 or fd00::7, port 80.
    fn inner(source: &str) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let ip = match source.parse().unwrap() {
            std::net::IpAddr::V4(a) => ethernet.ipv4(a.octets(), [10, 244, 2, 7], 64),
            std::net::IpAddr::V6(a) => {
                ethernet.ipv6(a.octets(), "fd00::7".parse::<std::net::Ipv6Addr>().unwrap().octets(), 64)
            }
        };
        let mut out = Vec::new();
        ip.tcp(40000, 80, 1, 100).syn().write(&mut out, b"hello").unwrap();
        out
    }

    fn outer(ipv6: bool, port: u16, payload: &[u8]) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 8], [2, 0, 0, 0, 0, 9]);
        let ip = if ipv6 {
            ethernet.ipv6([1; 16], [2; 16], 64)
        } else {
            ethernet.ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        };
        let mut out = Vec::new();
        ip.udp(50000, port).write(&mut out, payload).unwrap();
        out
    }

    fn vxlan(frame: &[u8]) -> Vec<u8> {
        [&[8, 0, 0, 0, 0, 0, 1, 0], frame].concat()
    }

    fn geneve(options: usize, frame: &[u8]) -> Vec<u8> {
        let words = u8::try_from(options).unwrap();
        [&[words, 0, 0x65, 0x58, 0, 0, 1, 0], &vec![0; options * 4][..], frame].concat()
    }

    #[test]
    fn a_pods_packet_is_found_bare_and_inside_each_tunnel_over_both_families() {
        for (source, filter) in [
            ("10.244.1.5", "host 10.244.1.5 and tcp port 80 and tcp[13] & 2 != 0"),
            ("fd00::5", "host fd00::5 and tcp port 80"),
        ] {
            let program = program(filter, None);
            let (right, wrong) = (inner(source), [inner("10.244.1.6"), inner("fd00::6")]);
            for ipv6 in [false, true] {
                let carry = |number: usize, frame: &[u8]| match number {
                    0 => frame.to_vec(),
                    1 => outer(ipv6, 8472, &vxlan(frame)),
                    2 => outer(ipv6, 4789, &vxlan(frame)),
                    3 => outer(ipv6, 6081, &geneve(0, frame)),
                    _ => outer(ipv6, 6081, &geneve(3, frame)),
                };
                for number in 0..5 {
                    assert_eq!(play(&program, &carry(number, &right)), 777, "{filter}: {ipv6} {number}");
                    for wrong in &wrong {
                        assert_eq!(play(&program, &carry(number, wrong)), 0, "{filter}: {ipv6} {number}");
                    }
                }
                // No port of a tunnel, no VNI, too short.
                for packet in [
                    outer(ipv6, 8473, &vxlan(&right)),
                    outer(ipv6, 8472, &[&[0; 8], &right[..]].concat()),
                    outer(ipv6, 8472, &vxlan(&right[..20])),
                    outer(ipv6, 6081, &[]),
                ] {
                    assert_eq!(play(&program, &packet), 0, "{filter}: {ipv6}");
                }
            }
        }
    }

    #[test]
    fn ip_in_ip_is_looked_into_unless_the_filter_is_about_ethernet() {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 8], [2, 0, 0, 0, 0, 9]);
        let mut packet = Vec::new();
        let inner = inner("10.244.1.5");
        ethernet
            .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
            .write(&mut packet, etherparse::IpNumber::IPV4, &inner[14..])
            .unwrap();
        assert_eq!(play(&program("host 10.244.1.5 and port 80", None), &packet), 777);
        assert_eq!(play(&program("host 10.244.1.6", None), &packet), 0);
        assert_eq!(play(&program("ether src 02:00:00:00:00:01", None), &packet), 0);
        assert_eq!(
            play(&program("ether src 02:00:00:00:00:01", None), &outer(false, 8472, &vxlan(&inner))),
            777
        );
    }

    #[test]
    fn what_is_left_out_is_left_out_whatever_it_carries() {
        let program = program("host 10.244.1.5", Some("not host 192.0.2.2"));
        let inner = inner("10.244.1.5");
        assert_eq!(play(&program, &inner), 777);
        assert_eq!(play(&program, &outer(false, 8472, &vxlan(&inner))), 0);
        assert_eq!(play(&program, &outer(true, 8472, &vxlan(&inner))), 777);
    }

    #[test]
    fn a_program_that_is_too_long_is_refused_by_name() {
        let one = Instruction { code: RETURN, jump_true: 0, jump_false: 0, value: 0 };
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = std::os::fd::AsFd::as_fd(&socket);
        assert!(Program(vec![one; LONGEST + 1]).attach(socket).is_err());
        program("host 10.244.1.5", None).attach(socket).unwrap();
    }
}
