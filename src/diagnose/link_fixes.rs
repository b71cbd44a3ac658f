//! What to do about a wrong MTU: the command that mends it now, and the setting that makes it last.

use super::shell::word;
use crate::facts::{Link, Route};

/// The CNI setting that decides the MTU, told from the name its tunnel has; `outer` is what the tunnel may send, its
/// overhead included.
fn cni_setting(tunnel: &str, pod_mtu: u32, outer: u32) -> String {
    if tunnel.starts_with("vxlan.calico") || tunnel == "tunl0" || tunnel.starts_with("wireguard.cali") {
        format!(
            "Calico: kubectl patch installation default --type merge -p '{{\"spec\":{{\"calicoNetwork\":{{\"mtu\":{pod_mtu}}}}}}}' (without the operator: veth_mtu in ConfigMap calico-config)"
        )
    } else if tunnel.starts_with("flannel") {
        format!(
            "flannel: restart it after the uplink has its MTU, or \"MTU\": {outer} in the Backend of net-conf.json (ConfigMap kube-flannel-cfg), from which it takes the overhead off"
        )
    } else if tunnel.starts_with("cilium") {
        format!("Cilium: Helm value MTU={pod_mtu}, then restart the agents")
    } else if tunnel.starts_with("antrea") || tunnel.starts_with("genev_sys") || tunnel.starts_with("ovn") {
        format!("the CNI's MTU setting (Antrea: defaultMTU; OVN-Kubernetes: mtu): {pod_mtu}")
    } else {
        format!("\"mtu\": {pod_mtu} in the CNI's configuration under /etc/cni/net.d")
    }
}

/// Both ends get the smaller MTU: that never makes another hop too small.
pub(super) fn veth(subject: &str, link: &str, inside: u32, peer: &str, outside: u32) -> String {
    let now = if inside > outside {
        format!("nsprobe exec {subject} -- ip link set dev {} mtu {outside}", word(link))
    } else {
        format!("ip link set dev {} mtu {inside}", word(peer))
    };
    format!(
        "now: {now}; to last: one MTU in the CNI's configuration, then recreate the pod (kubectl delete pod)"
    )
}

pub(super) fn bridge_port(bridge: &str, ports: &[&str], largest: u32) -> String {
    let port = word(ports.first().copied().unwrap_or("PORT"));
    let more = if ports.len() > 1 { ", and so for the others" } else { "" };
    format!(
        "one MTU for all: ip link set dev {port} mtu {largest}{more}, if what hangs on it takes {largest} too; else lower {bridge} and its other ports, in the CNI's configuration, and recreate the pods"
    )
}

/// Only the bridge promises more than any of its ports takes.
pub(super) fn lower_bridge(bridge: &str, least: u32) -> String {
    let bridge = word(bridge);
    format!("ip link set dev {bridge} mtu {least}; to last, the same MTU in the CNI's configuration")
}

/// All that hangs on a bridge takes more than it.
pub(super) fn raise_bridge(bridge: &str, ports: u32) -> String {
    format!(
        "ip link set dev {} mtu {ports}; to last, the same MTU in the CNI's configuration; or a smaller one for the pods, and recreate them",
        word(bridge)
    )
}

/// A few ports are larger than all others.
pub(super) fn lower_ports(ports: &[&str], least: u32) -> String {
    let port = word(ports.first().copied().unwrap_or("PORT"));
    let more = if ports.len() > 1 { ", and so for the others" } else { "" };
    format!(
        "one MTU for all: ip link set dev {port} mtu {least}{more}, and the other end inside the pod too: simplest is to recreate the pod behind it (nsprobe links -v names it) after a look at the CNI's MTU"
    )
}

/// What has to be said beside an MTU that IPv6 does not live with (RFC 8200 section 5).
pub(super) fn without_ipv6(mtu: u32) -> &'static str {
    if mtu < 1280 {
        "; below 1280 the kernel takes IPv6 off the interface: where it is used, raise what is below instead"
    } else {
        ""
    }
}

pub(super) fn tunnel(tunnel: &str, mtu: u32, below: &str, below_mtu: u32, overhead: u32) -> String {
    let fits = below_mtu.saturating_sub(overhead);
    format!(
        "{below_mtu} − {overhead} = {fits}: ip link set dev {} mtu {fits}; to last, and for the pods: {}; or raise {below} and the network below it to {}{}",
        word(tunnel),
        cni_setting(tunnel, fits, below_mtu),
        mtu.saturating_add(overhead),
        without_ipv6(fits)
    )
}

/// Pods get the MTU of their way out.
pub(super) fn pods_to(way: &Link, below: Option<&Link>) -> String {
    let arithmetic = match (below, way.overhead_bytes) {
        (Some(below), Some(overhead)) if below.mtu_bytes.saturating_sub(overhead) == way.mtu_bytes => {
            format!("{} − {overhead} = {}: ", below.mtu_bytes, way.mtu_bytes)
        }
        _ => String::new(),
    };
    format!(
        "{arithmetic}{}; then recreate the pods (kubectl delete pod){}",
        cni_setting(&way.name, way.mtu_bytes, way.mtu_bytes.saturating_add(way.overhead_bytes.unwrap_or(0))),
        without_ipv6(way.mtu_bytes)
    )
}

pub(super) fn mixed(example: Option<&str>) -> String {
    // A namespace that was named by its path or a PID has no name that kubectl knows.
    let pod = example.filter(|name| !name.contains(':')).and_then(|name| name.split_once('/'));
    let delete =
        pod.map(|(space, name)| format!(": kubectl delete pod -n {space} {name}")).unwrap_or_default();
    format!(
        "compare with the MTU that the CNI gives out now (/etc/cni/net.d, /run/flannel/subnet.env, /var/lib/calico/mtu) and recreate the pods that differ{delete}"
    )
}

pub(super) fn route(subject: &str, route: &Route, link: &Link) -> String {
    changed(subject, route, &format!("mtu {}", link.mtu_bytes))
}

/// A route with another value: the whole line is needed, for what it does not say (further next hops, src, metric,
/// onlink) the kernel takes away, or it finds no such route.
fn changed(subject: &str, route: &Route, with: &str) -> String {
    let prefix = if subject == "host" { String::new() } else { format!("nsprobe exec {subject} -- ") };
    let family = if route.ipv6 { " -6" } else { "" };
    let to = &route.destination;
    format!(
        "{prefix}ip{family} route show {to} prints the route: give the whole line, all next hops too, to {prefix}ip{family} route replace, with {with} in place of what it says"
    )
}

pub(super) fn nested(bridge: &str, mtu: u32) -> String {
    format!(
        "dockerd --mtu {mtu} (or \"mtu\": {mtu} in its daemon.json) for {bridge}; user-defined networks: docker network create -o com.docker.network.driver.mtu={mtu}, or \"default-network-opts\" in daemon.json"
    )
}

/// A route's advmss at most as large as fits.
pub(super) fn advmss(subject: &str, route: &Route, fits: u32) -> String {
    changed(subject, route, &format!("advmss {fits}"))
}

/// Trust, but measure: what a router said may be old.
pub(super) fn learned(tunnel: &str, remote: &str, path: u32, overhead: u32) -> String {
    let fits = path.saturating_sub(overhead);
    format!(
        "nsprobe mtu host {remote} measures it; if it is so, {path} − {overhead} = {fits}: ip link set dev {} mtu {fits}, and for the pods: {}; if not, ip route flush cache forgets it{}",
        word(tunnel),
        cni_setting(tunnel, fits, path),
        without_ipv6(fits)
    )
}

/// The remote gets a way around the tunnel.
pub(super) fn in_itself(tunnel: &Link, remote: &str) -> String {
    let length = if remote.contains(':') { 128 } else { 32 };
    let more = match tunnel.kind.as_deref() {
        Some("wireguard") => "; and AllowedIPs of its peers must not hold their own endpoints",
        _ => "",
    };
    format!("ip route add {remote}/{length} via GATEWAY dev UPLINK (ip route shows both){more}")
}
