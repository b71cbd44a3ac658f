//! What a runtime is told of a pod, as the kubelet would.

use super::cri::*;
use std::collections::HashMap;

/// What the lab adds to a pod so that `restart` can repeat how it was made.
pub(crate) const HOST_NETWORK: &str = "nsprobe-lab/host-network";
pub(crate) const COMMAND: &str = "nsprobe-lab/command";
pub(crate) const MEMORY: &str = "nsprobe-lab/memory";

pub(crate) fn log_directory(pod: &PodMetadata) -> String {
    format!("/var/log/pods/{}_{}_{}", pod.namespace, pod.name, pod.uid)
}

/// The labels that the kubelet puts on sandboxes and containers alike.
pub(crate) fn identity(pod: &PodMetadata) -> HashMap<String, String> {
    HashMap::from([
        ("io.kubernetes.pod.name".to_owned(), pod.name.clone()),
        ("io.kubernetes.pod.namespace".to_owned(), pod.namespace.clone()),
        ("io.kubernetes.pod.uid".to_owned(), pod.uid.clone()),
    ])
}

pub(crate) fn sandbox_config(
    pod: &PodMetadata,
    annotations: HashMap<String, String>,
    dns: &[String],
) -> PodSandboxConfig {
    // A container with a limit and no request of its own class makes the pod burstable.
    let class = if annotations.contains_key(MEMORY) { "burstable" } else { "besteffort" };
    let host_network = annotations.get(HOST_NETWORK).is_some_and(|value| value == "true");
    let mut config = PodSandboxConfig {
        metadata: Some(pod.clone()),
        // In the node's UTS namespace there is no name to set.
        hostname: if host_network { String::new() } else { pod.name.clone() },
        log_directory: log_directory(pod),
        dns: Some(DnsConfig { servers: dns.to_vec() }),
        labels: identity(pod),
        annotations,
        linux: None,
    };
    config.linux = Some(LinuxPodSandboxConfig {
        cgroup_parent: format!("/kubepods/{class}/pod{}", pod.uid),
        security_context: Some(LinuxSandboxSecurityContext { namespace_options: Some(namespaces(&config)) }),
    });
    config
}

/// `network`: 0 is the pod's, 2 the node's. `pid`: 1 is the container's own.
pub(crate) fn namespaces(pod: &PodSandboxConfig) -> NamespaceOption {
    let host = pod.annotations.get(HOST_NETWORK).is_some_and(|value| value == "true");
    NamespaceOption { network: if host { 2 } else { 0 }, pid: 1 }
}
