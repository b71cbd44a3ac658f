//! Rules on the path below a tunnel: what its outer packets meet on the way to another node.

use super::Rule;
use crate::facts::{Evidence, Finding, Link, Severity, Verdict};
use std::net::IpAddr;

/// Outer packets are larger than the path.
pub const TUNNEL_EXCEEDS_PATH: Rule = Rule {
    id: "tunnel.exceeds_path",
    severity: Severity::Warning,
    meaning: "A tunnel's full packets with their overhead are larger than what the path to the other node carries, as measured: large packets between pods of the two nodes vanish or are cut to pieces.",
    fix: "Set the tunnel's MTU to what the path carries minus the overhead, and the pods' to the same; or raise the network between the nodes.",
};

/// The other node cannot be reached.
pub const REMOTE_SILENT: Rule = Rule {
    id: "tunnel.remote_silent",
    severity: Severity::Info,
    meaning: "The other end of a tunnel answers no probe from this node: it is down, cut off, or filters ICMP. Pods there may be out of reach.",
    fix: "Compare with kubectl get nodes; when the node is up, allow ICMP between nodes, or measure to one of its pods.",
};

/// All of this family.
pub const RULES: &[Rule] = &[TUNNEL_EXCEEDS_PATH, REMOTE_SILENT];

/// A measured path from the node to another end of one of its tunnels.
#[derive(Debug, Clone, Copy)]
pub struct TunnelPath<'a> {
    /// The tunnel.
    pub tunnel: &'a Link,
    /// Its other end.
    pub remote: IpAddr,
    /// The verdict of the search.
    pub verdict: Verdict,
    /// What the path carries, bytes.
    pub path_mtu: Option<u32>,
    /// Probes that were sent.
    pub sent: u32,
}

/// Whether what the tunnel sends fits.
pub fn check_tunnel_path(path: &TunnelPath<'_>) -> Option<Finding> {
    let TunnelPath { tunnel, remote, verdict, path_mtu, sent } = *path;
    let name = &tunnel.name;
    if verdict == Verdict::Unreachable {
        return Some(REMOTE_SILENT.finding(
            "host",
            format!("{remote}, the other end of {name}, answers nothing"),
            vec![Evidence::new("probes sent from the node, none answered", sent, "packets", "echo with DF")],
            REMOTE_SILENT.fix,
        ));
    }
    // What the node's own uplink takes is told from its links: here it is the network behind that.
    let narrower = matches!(verdict, Verdict::Narrowed | Verdict::BlackHole);
    let carries = path_mtu.filter(|_| narrower)?;
    let overhead = tunnel.overhead_bytes?;
    let outer = tunnel.mtu_bytes.checked_add(overhead)?;
    if outer <= carries {
        return None;
    }
    let fits = carries.saturating_sub(overhead);
    Some(TUNNEL_EXCEEDS_PATH.finding(
        "host",
        format!(
            "{name} sends packets of up to {outer} bytes ({} + {overhead}) to {remote}, the path there carries {carries}",
            tunnel.mtu_bytes
        ),
        vec![
            Evidence::new(format!("MTU of {name}"), tunnel.mtu_bytes, "bytes", "netlink RTM_GETLINK"),
            Evidence::new(format!("overhead of {name}"), overhead, "bytes", "netlink RTM_GETLINK"),
            Evidence::new(format!("path MTU to {remote}"), carries, "bytes", "probes with DF from the node"),
        ],
        format!(
            "{carries} − {overhead} = {fits}: set {name} and the pods to MTU {fits} in the CNI's configuration and recreate the pods; or raise the network between the nodes to {outer}"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mtu: u32, verdict: Verdict, path_mtu: Option<u32>) -> Option<Finding> {
        let tunnel =
            Link { name: "flannel.1".into(), mtu_bytes: mtu, overhead_bytes: Some(50), ..Link::default() };
        check_tunnel_path(&TunnelPath {
            tunnel: &tunnel,
            remote: [10, 10, 0, 2].into(),
            verdict,
            path_mtu,
            sent: 4,
        })
    }

    #[test]
    fn what_the_tunnel_sends_is_compared_with_what_the_path_carries() {
        assert_eq!(check(1450, Verdict::Clear, Some(1500)), None);
        assert_eq!(check(1500, Verdict::Clear, Some(1500)), None, "told by the rules on links");
        assert_eq!(check(1350, Verdict::Narrowed, Some(1400)), None, "narrower than the uplink, and enough");
        let finding = check(1450, Verdict::BlackHole, Some(1400)).unwrap();
        assert_eq!(finding.id, "tunnel.exceeds_path");
        assert!(finding.fix.starts_with("1400 − 50 = 1350"), "{}", finding.fix);
        assert_eq!(check(1450, Verdict::Unreachable, None).unwrap().id, "tunnel.remote_silent");
        assert_eq!(check(1450, Verdict::Inconclusive, None), None);
    }
}
