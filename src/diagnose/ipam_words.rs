//! Words for people on addresses: who else gives them out, and the command that frees them.

use crate::facts::{IpamNetwork, Reservation};

/// Addresses that one command line names.
const MOST_NAMED: usize = 100;

/// Who stands behind an IPAM that is not host-local, and how it is asked.
pub(super) fn describe_plugin(plugin: &str) -> (&'static str, &'static str) {
    match plugin {
        "calico-ipam" => (
            "Calico gives nodes blocks out of its IP pools and keeps who has what in its datastore",
            "calicoctl ipam show --show-blocks; calicoctl ipam check finds leaks",
        ),
        "cilium-cni" | "cilium" => (
            "Cilium's agent gives them out of this node's CIDRs and remembers them in memory and CiliumNode",
            "in the cilium pod of this node: cilium-dbg status --verbose; kubectl get ciliumnode NODE -o yaml",
        ),
        "aws-cni" => (
            "the VPC CNI's ipamd gives them out of the node's network interfaces, as many as the instance type has",
            "curl -s http://localhost:61679/v1/enis on the node; /var/run/aws-node/ipam.json",
        ),
        "azure-vnet" | "azure-vnet-ipam" | "azure-ipam" => (
            "Azure's CNI gives them out of the virtual network",
            "read /var/run/azure-vnet-ipam.json on the node; with CNS: kubectl get nodenetworkconfig -n kube-system",
        ),
        "whereabouts" => (
            "whereabouts keeps them in the cluster's IPPool resources",
            "kubectl get ippools.whereabouts.cni.cncf.io -A -o yaml; its ip-reconciler frees leaks",
        ),
        "dhcp" => (
            "a DHCP server gives them out",
            "ask the DHCP server for its leases; the daemon on this node is dhcp of the CNI plugins",
        ),
        "static" => ("they stand in the configuration", "read the network's configuration"),
        "kube-ovn" | "ovn-k8s-cni-overlay" => (
            "OVN's controller gives them out cluster-wide",
            "kubectl get node NODE -o yaml shows the subnet in its annotations; Kube-OVN: kubectl get ips,subnets",
        ),
        _ => ("what it has left is known to it alone", "ask it by its own tool"),
    }
}

/// `flock …/lock rm -- …`: under the lock that host-local takes, so that no pod is being given one meanwhile.
pub(super) fn free_command(network: &IpamNetwork, leaked: &[&Reservation]) -> String {
    let folder = quote(&network.folder);
    let files: Vec<String> =
        leaked.iter().take(MOST_NAMED).map(|r| format!("{folder}/{}", r.address)).collect();
    let mut command = format!("flock {folder}/lock rm -- {}", files.join(" "));
    if leaked.len() > files.len() {
        command.push_str(&format!(
            "; these are {} of {}: run nsprobe ipam again for the next",
            files.len(),
            leaked.len()
        ));
    }
    command
}

/// As a word of a shell.
fn quote(text: &str) -> String {
    let plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_' | b':' | b'@' | b'+');
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// `1 address`, `2 addresses`.
pub(super) fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_an_unusual_name_is_quoted() {
        assert_eq!(quote("/var/lib/cni/networks/podnet"), "/var/lib/cni/networks/podnet");
        assert_eq!(quote("/a b/'$(x)"), r"'/a b/'\''$(x)'");
    }
}
