//! Is an address a Service's? kube-proxy answers for it with IPVS, or rewrites it with iptables or nftables.

use crate::netns::NetNs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Who stands behind a Service address on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceProxy {
    /// IPVS: the address is this node's own, so that an answer from it proves nothing.
    Ipvs,
    /// iptables or nftables rules: only the ports that they name are rewritten, ICMP is nobody's.
    Rules,
}

/// For one tool; on a node with tens of thousands of rules it takes longer, and then it is not known.
const PATIENCE: Duration = Duration::from_millis(800);
/// What is read of a tool's output.
const MOST_OUTPUT: usize = 64 << 20;

/// Whether this node's IPVS serves the address, so that the node itself answers for it.
pub fn ipvs_answers(host: &NetNs, address: IpAddr) -> bool {
    let table = host.run(|| std::fs::read_to_string("/proc/thread-self/net/ip_vs").unwrap_or_default());
    table.is_ok_and(|table| ipvs_serves(&table, address))
}

/// Looks the address up in IPVS's table, then in kube-proxy's rules, with the node's own tools; `None`: it
/// is no Service's, or nobody could say.
pub fn service_proxy(host: &NetNs, address: IpAddr) -> Option<ServiceProxy> {
    host.run(|| {
        let table = std::fs::read_to_string("/proc/thread-self/net/ip_vs").unwrap_or_default();
        if ipvs_serves(&table, address) {
            return Some(ServiceProxy::Ipvs);
        }
        let (save, family) =
            if address.is_ipv4() { ("iptables-save", "ip") } else { ("ip6tables-save", "ip6") };
        let rules = says("nft", &["list", "table", family, "kube-proxy"], |line| rule_names(line, address))
            || changes_nothing(save, family) && says(save, &["-t", "nat"], |line| rule_names(line, address));
        rules.then_some(ServiceProxy::Rules)
    })
    .ok()
    .flatten()
}

/// `TCP  0A600001:01BB rr`, or `TCP  [fd00:…]:01BB rr`: net/netfilter/ipvs/ip_vs_ctl.c `ip_vs_info_seq_show`.
fn ipvs_serves(table: &str, address: IpAddr) -> bool {
    let wanted = match address {
        IpAddr::V4(v4) => format!("{:08X}", u32::from(v4)),
        IpAddr::V6(v6) => {
            let groups: Vec<String> = v6.segments().iter().map(|g| format!("{g:04x}")).collect();
            format!("[{}]", groups.join(":"))
        }
    };
    // Lines of backends begin with an arrow.
    let servers = table.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    servers.filter_map(|line| line.split_ascii_whitespace().nth(1)).any(|at| {
        at.rsplit_once(':').is_some_and(|(host, port)| port.len() == 4 && host.eq_ignore_ascii_case(&wanted))
    })
}

/// Whether the node stays as it is when the nat table is shown: the older form of iptables makes the table that it is
/// asked for, the one over nftables does not.
fn changes_nothing(save: &str, family: &str) -> bool {
    let names = format!("/proc/thread-self/net/{family}_tables_names");
    let there = std::fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == "nat"));
    there || says(save, &["--version"], |line| line.contains("nf_tables"))
}

/// Whether a line of a tool's output is what is looked for.
fn says(tool: &str, words: &[&str], is_it: impl Fn(&str) -> bool) -> bool {
    let mut command = Command::new(tool);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let end = Instant::now() + PATIENCE;
    let found = child.stdout.take().is_some_and(|output| any_line(output, end, is_it));
    // It may still be writing what nobody reads.
    let _ = child.kill();
    let _ = child.wait();
    found
}

/// Whether a line of it is what is looked for; what has not come by `end` is not waited for, nor what is past a bound.
fn any_line(mut output: impl Read + AsFd, end: Instant, is_it: impl Fn(&str) -> bool) -> bool {
    let (mut rest, mut chunk, mut left) = (Vec::new(), vec![0; 64 << 10], MOST_OUTPUT);
    loop {
        let patience = end.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(patience) else { return false };
        match poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) if !patience.is_zero() => continue,
            Ok(count) if count > 0 && !patience.is_zero() => {}
            _ => return false,
        }
        let count = match output.read(&mut chunk) {
            Ok(count) if count > 0 && count <= left => count,
            _ => return is_it(&String::from_utf8_lossy(&rest)),
        };
        left -= count;
        rest.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let Some(whole) = rest.iter().rposition(|&byte| byte == b'\n') else { continue };
        let tail = rest.split_off(whole + 1);
        if String::from_utf8_lossy(&rest).lines().any(&is_it) {
            return true;
        }
        rest = tail;
    }
}

fn rule_names(line: &str, address: IpAddr) -> bool {
    let ours = line.contains("KUBE-S")
        || line.contains("service-")
        || line.contains(" . tcp . ")
        || line.contains(" . udp . ");
    ours && line
        .split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'))
        .any(|word| word.parse::<IpAddr>().is_ok_and(|found| found == address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_tool_that_says_nothing_is_not_waited_for() {
        let start = Instant::now();
        let command = |words: &[&str]| {
            let mut child = Command::new("sh").args(words).stdout(Stdio::piped()).spawn().unwrap();
            let end = Instant::now() + Duration::from_millis(200);
            let found = any_line(child.stdout.take().unwrap(), end, |line| line == "wanted");
            let _ = child.kill();
            child.wait().unwrap();
            found
        };
        assert!(!command(&["-c", "exec sleep 60"]));
        assert!(!command(&["-c", "while :; do echo other; done"]));
        assert!(command(&["-c", "echo other; echo wanted; exec sleep 60"]));
        assert!(command(&["-c", "printf 'other\\nwanted'"]), "a last line without an end");
        assert!(command(&["-c", "printf wan; sleep 0.05; printf 'ted\\n'"]), "in two pieces");
        assert!(!command(&["-c", "printf 'unwanted\\n'"]));
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }

    #[test]
    fn a_tool_that_would_make_the_table_that_it_shows_is_not_asked() {
        let folder = tempfile::tempdir().unwrap();
        let tool = |version: &str| {
            let path = folder.path().join(version);
            let script =
                format!("#!/bin/sh\n[ \"$1\" = --version ] && echo 'iptables-save v1.8.9 ({version})'\n");
            std::fs::write(&path, script).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).unwrap();
            path.to_str().unwrap().to_owned()
        };
        // A family that no kernel has: no table of it is there.
        assert!(changes_nothing(&tool("nf_tables"), "none"));
        assert!(!changes_nothing(&tool("legacy"), "none"));
    }

    #[test]
    fn a_virtual_server_of_ipvs_is_known_by_its_hexadecimal_address() {
        let table = "IP Virtual Server version 1.2.1 (size=4096)\n\
                     Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
                     TCP  0A600001:01BB rr\n  -> 0A0A0001:192B      Masq    1      0          0\n\
                     TCP  [fd00:0000:0000:0000:0000:0000:0000:0001]:01BB rr\n";
        assert!(ipvs_serves(table, ip("10.96.0.1")));
        assert!(ipvs_serves(table, ip("fd00::1")));
        // A backend is no Service.
        assert!(!ipvs_serves(table, ip("10.10.0.1")));
        assert!(!ipvs_serves("", ip("10.96.0.1")));
    }

    #[test]
    fn rules_of_kube_proxy_name_the_address_as_a_whole() {
        let iptables =
            "-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU";
        let nftables =
            "elements = { 10.96.0.10 . tcp . 53 : goto service-NWBZK7IH-kube-system/kube-dns/tcp/dns-tcp }";
        for line in [iptables, nftables] {
            assert!(rule_names(line, ip("10.96.0.10")), "{line}");
            assert!(!rule_names(line, ip("10.96.0.1")), "{line}");
        }
        assert!(!rule_names("-A OTHER -d 10.96.0.10/32 -j ACCEPT", ip("10.96.0.10")));
    }
}
