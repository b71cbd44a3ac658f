//! Which line means which cause. Wording and severity of lines differ between versions: the stable part is matched.
//!
//! Sources: recorded journals of kubelet 1.36, containerd 1.6, 1.7 and 2, and a 6.12 kernel; kubernetes
//! `pkg/kubelet`, containernetworking/plugins `host-local`, mm/oom_kill.c, net/netfilter/nf_conntrack_core.c,
//! net/core/neighbour.c, kernel/hung_task.c.

use super::rules::*;
use super::sieve;
use crate::diagnose::Rule;
use crate::facts::NodeLogEntry;

/// Who has to have said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The kernel: the line begins with the words (so that no process name can imitate one), or has them behind a
    /// device's name.
    Kernel,
    /// A program of the node.
    Program,
    /// systemd, about the kubelet or the runtime.
    Systemd,
}

/// A kind of line.
pub(super) struct Pattern {
    pub(super) rule: &'static Rule,
    who: Who,
    /// All of these are in it.
    pub(super) has: &'static [&'static str],
    /// How many make a cause: fewer happen on healthy nodes.
    pub(super) least: u64,
    /// Whether the program says it again and again while it lasts: silence then means that it is over.
    pub(super) repeats: bool,
}

const fn program(rule: &'static Rule, has: &'static [&'static str]) -> Pattern {
    Pattern { rule, who: Who::Program, has, least: 1, repeats: true }
}

const fn once(rule: &'static Rule, has: &'static [&'static str]) -> Pattern {
    Pattern { rule, who: Who::Program, has, least: 1, repeats: false }
}

const fn several(rule: &'static Rule, has: &'static [&'static str]) -> Pattern {
    Pattern { rule, who: Who::Program, has, least: 3, repeats: true }
}

const fn kernel(rule: &'static Rule, has: &'static [&'static str]) -> Pattern {
    Pattern { rule, who: Who::Kernel, has, least: 1, repeats: false }
}

const fn systemd(rule: &'static Rule, has: &'static [&'static str]) -> Pattern {
    Pattern { rule, who: Who::Systemd, has, least: 1, repeats: false }
}

/// In order: the first that fits a line counts.
pub(super) static PATTERNS: &[Pattern] = &[
    program(&CGROUP_DRIVER, &["misconfiguration: kubelet cgroup driver", "is different from"]),
    program(&CGROUP_DRIVER, &["expected cgroupsPath to be of format"]),
    several(&CGROUP_DRIVER, &["failed to read memory cgroup config for the pod"]),
    program(&PLEG, &["kipping pod synchronization", "PLEG is not healthy: pleg was last seen active"]),
    program(&CRI, &["unknown service runtime.v1"]),
    program(&CNI, &["cni plugin not initialized"]),
    program(&CNI, &["cni config uninitialized"]),
    program(&CNI, &["o CNI configuration file in"]),
    program(&IPAM, &["no IP addresses available in range set"]),
    program(&IPAM, &["failed to assign an IP address to container"]),
    program(&IPAM, &["no free IP available in the prefix"]),
    program(&IPAM_DUPLICATE, &["duplicate allocation is not allowed"]),
    once(&CERTIFICATE, &["part of the existing bootstrap client certificate in", "is expired"]),
    program(&CERTIFICATE, &["x509: certificate has expired or is not yet valid", "lease"]),
    program(&CERTIFICATE, &["x509: certificate has expired or is not yet valid", "register node"]),
    program(&UNAUTHORIZED, &["Failed to ensure lease exists", "\"Unauthorized\""]),
    program(&UNAUTHORIZED, &["Unable to register node with API server", "\"Unauthorized\""]),
    several(&API, &["Failed to ensure lease exists", "connect: connection refused"]),
    several(&API, &["Failed to ensure lease exists", "connect: no route to host"]),
    several(&API, &["Failed to ensure lease exists", "i/o timeout"]),
    several(&API, &["Failed to ensure lease exists", "deadline exceeded"]),
    once(&EVICTION, &["viction manager: attempting to reclaim"]),
    once(&OOM_SYSTEM, &["System OOM encountered, victim process"]),
    once(&SWAP, &["running with swap on is not supported"]),
    once(&INHIBIT, &["unable to update logind InhibitDelayMaxSec"]),
    once(&CGROUP_V1, &["command failed", "configured to not run on a host using cgroup v1"]),
    once(&KUBELET_CONFIG, &["command failed", "failed to load kubelet config file"]),
    once(&KUBELET_CONFIG, &["command failed", "failed to validate kubelet configuration"]),
    once(&KUBELET_CONFIG, &["failed to parse kubelet flag"]),
    once(&KUBELET_FIELD, &["Using lenient decoding as strict decoding failed"]),
    once(&RUNTIME, &["command failed", "transport: Error while dialing", "dial unix"]),
    once(&KUBELET_FAILS, &["command failed"]),
    several(&RUNTIME, &["rom runtime service failed", "transport: Error while dialing"]),
    several(&RUNTIME, &["GenericPLEG: Unable to retrieve pods", "transport: Error while dialing"]),
    once(&RUNTIME_CONFIG, &["containerd: invalid disabled plugin URI"]),
    once(&RUNTIME_CONFIG, &["containerd: failed to load TOML"]),
    once(&INOTIFY, &["inotify", "no space left on device"]),
    once(&INOTIFY, &["inotify", "too many open files"]),
    once(&INOTIFY, &["fsnotify", "too many open files"]),
    systemd(&OOM_KUBELET, &["kubelet.service: ", "killed by the OOM killer"]),
    systemd(&OOM_KUBELET, &["kubelet.service: ", "'oom-kill'"]),
    systemd(&OOM_RUNTIME, &[".service: ", "killed by the OOM killer"]),
    systemd(&OOM_RUNTIME, &[".service: ", "'oom-kill'"]),
    kernel(&OOM_KUBELET, &["oom-kill:", "task_memcg=/system.slice/kubelet.service,"]),
    kernel(&OOM_CONTAINER, &["Memory cgroup out of memory: Kill"]),
    kernel(&OOM_SYSTEM, &["Out of memory: Kill"]),
    kernel(&CONNTRACK, &["nf_conntrack: ", "table full, dropping packet"]),
    kernel(&NEIGHBOURS, &["neighbour: ", "neighbor table overflow!"]),
    kernel(&HUNG, &["INFO: task ", " blocked for more than "]),
    kernel(&DISK, &["blk_update_request: ", "I/O error, dev "]),
    kernel(&DISK, &["I/O error, dev "]),
    kernel(&DISK, &["Buffer I/O error on dev"]),
    kernel(&DISK, &["EXT4-fs error (device "]),
    kernel(&DISK, &["XFS (", "orruption"]),
];

/// The first pattern that fits, and its place in the table.
pub(super) fn fitting(entry: &NodeLogEntry) -> Option<(usize, &'static Pattern)> {
    if !sieve::may_fit(&entry.message) {
        return None;
    }
    let who = if entry.is_kernel() {
        Who::Kernel
    } else if entry.identifier.as_deref() == Some("systemd") {
        Who::Systemd
    } else {
        Who::Program
    };
    let text = own_words(&entry.message);
    PATTERNS.iter().enumerate().filter(|(_, pattern)| pattern.who == who).find(|(_, pattern)| {
        let begins = who != Who::Kernel || pattern.has.first().is_some_and(|first| text.starts_with(first));
        begins && pattern.has.iter().all(|part| text.contains(part))
    })
}

/// The line up to where it repeats what others wrote: a probe's output, an event's text, a pod's command, its working
/// directory and the paths that it mounts.
///
/// Sources: kubelet `prober.go`, `handlers.go` (lifecycle hooks) and `subpath_linux.go`; runc `rootfs_linux.go` and
/// `standard_init_linux.go`, whose errors containerd and the kubelet pass on.
fn own_words(message: &str) -> &str {
    const OTHERS: &[&str] = &[
        " output=",
        " probeOutput=",
        " event=",
        " execCommand=",
        "exec: \\\"",
        "exec: \"",
        "unable to start container process",
        "starting container process caused",
        "error mounting ",
        "crun: ",
        "subPath",
        "hostPath",
        "MountVolume",
        "seccomp profile",
    ];
    let cut = OTHERS.iter().filter_map(|mark| message.find(mark)).min();
    cut.and_then(|at| message.get(..at)).unwrap_or(message)
}
