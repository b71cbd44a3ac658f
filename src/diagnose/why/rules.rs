//! What can be found about how a pod's containers ended.

use crate::diagnose::Rule;
use crate::facts::Severity;

/// Killed at its own limit.
pub const OOM_LIMIT: Rule = Rule {
    id: "why.oom_limit",
    severity: Severity::Critical,
    meaning: "The kernel killed the container because it, or its pod, reached its memory limit.",
    fix: "Raise resources.limits.memory above what it needs, or make it need less: heap settings must leave room below the limit.",
};

/// A child only.
pub const OOM_CHILD: Rule = Rule {
    id: "why.oom_child",
    severity: Severity::Warning,
    meaning: "The kernel killed a process of the container at the memory limit, and not its main one: requests fail or workers vanish while the pod looks healthy.",
    fix: "Raise resources.limits.memory or run fewer workers; without singleProcessOOMKill the kubelet lets all of the container be killed (cgroup v2).",
};

/// The node had no memory left.
pub const OOM_NODE: Rule = Rule {
    id: "why.oom_node",
    severity: Severity::Critical,
    meaning: "The kernel killed the container because the node, or all pods together, had no memory left: it may have been within its own limit.",
    fix: "Give pods requests near what they use, look for who uses most (kubectl top pod, nsprobe node), and set kube-reserved, system-reserved and eviction thresholds.",
};

/// It ended with an error of its own.
pub const CRASH: Rule = Rule {
    id: "why.crash",
    severity: Severity::Critical,
    meaning: "The main process of the container ended by itself with an exit code that is not 0.",
    fix: "Read what it wrote before: nsprobe logs POD --previous.",
};

/// A signal ended it.
pub const SIGNAL: Rule = Rule {
    id: "why.signal",
    severity: Severity::Critical,
    meaning: "A signal ended the main process of the container, and the kernel has no record that it was for memory. Exit code 128 + n is signal n.",
    fix: "SIGSEGV, SIGABRT, SIGILL, SIGBUS: a fault of the program, look at its log and core. SIGKILL: by whom is not recorded; after the grace period it is the kubelet.",
};

/// It was asked to end.
pub const TERMINATED: Rule = Rule {
    id: "why.terminated",
    severity: Severity::Info,
    meaning: "The container was asked to end (SIGTERM, SIGINT) and did: what a deletion, a rollout, a drain or a probe does.",
    fix: "Nothing, if somebody wanted it; else the kubelet's log of that time tells who asked: journalctl -u kubelet.",
};

/// It never ran.
pub const START_ERROR: Rule = Rule {
    id: "why.start_error",
    severity: Severity::Critical,
    meaning: "The runtime could not start the container: its command is not there or not executable, a mount or a limit does not fit.",
    fix: "Correct what the runtime's message names: command, image, mount, or limit.",
};

/// A probe had it killed.
pub const PROBE_KILL: Rule = Rule {
    id: "why.probe_kill",
    severity: Severity::Critical,
    meaning: "The kubelet killed the container because its liveness or startup probe failed.",
    fix: "Find out why it did not answer (nsprobe logs POD --previous, nsprobe sockets POD); when it is only slow give the probe a longer timeoutSeconds, failureThreshold or a startupProbe.",
};

/// The pod was evicted.
pub const EVICTED: Rule = Rule {
    id: "why.evicted",
    severity: Severity::Critical,
    meaning: "The kubelet evicted the pod because the node was short of memory, disk or PIDs.",
    fix: "Free what the node is short of; give the pod requests near what it uses, pods above their requests go first.",
};

/// It waits.
pub const BACKOFF: Rule = Rule {
    id: "why.backoff",
    severity: Severity::Warning,
    meaning: "The container ended again and again, and the kubelet waits before it starts it the next time (CrashLoopBackOff): 10 s, doubled up to 5 min.",
    fix: "Remove the cause of its end (its own finding says which); a pod that is deleted and made anew starts at once.",
};

/// It ends with 0 and is started again.
pub const RESTARTED: Rule = Rule {
    id: "why.completed_restarts",
    severity: Severity::Warning,
    meaning: "The container ends with 0 and is started again and again: a job in a pod that is meant to run on.",
    fix: "Keep its main process in the foreground, or make it a Job (restartPolicy OnFailure or Never).",
};

/// Nobody knows.
pub const UNKNOWN: Rule = Rule {
    id: "why.unknown",
    severity: Severity::Warning,
    meaning: "The container has ended and nobody who could be asked knows how: the runtime lost sight of it, or hangs since before its end.",
    fix: "Ask again when the container runtime answers; the kubelet's log (journalctl -u kubelet) may know.",
};

/// Not everything could be looked at.
pub const NOT_LOOKED_UP: Rule = Rule {
    id: "why.kernel_unread",
    severity: Severity::Info,
    meaning: "The kernel's log could not be read, or not far enough back: whether a kill was for memory is known from the runtime alone.",
    fix: "Run it as root with the node's own --host-root; journalctl -k and the cluster's log store may reach further back.",
};

/// All of this family.
pub const RULES: &[Rule] = &[
    OOM_LIMIT,
    OOM_CHILD,
    OOM_NODE,
    CRASH,
    SIGNAL,
    TERMINATED,
    START_ERROR,
    PROBE_KILL,
    EVICTED,
    BACKOFF,
    RESTARTED,
    UNKNOWN,
    NOT_LOOKED_UP,
];
