//! Rules on the container runtime itself, as seen while the pods were listed.

use super::Rule;
use crate::facts::{Degraded, DegradedReason, Evidence, Finding, Severity};

/// The runtime accepted the connection and did not answer.
pub const HUNG: Rule = Rule {
    id: "runtime.hung",
    severity: Severity::Warning,
    meaning: "The container runtime accepts connections and does not answer: pods keep running, nothing new starts.",
    fix: "Look at its processes (ps -eo pid,stat,wchan:20,args: state D hangs on a disk, T is stopped) and its log (journalctl -u containerd, crio or k3s), then restart it; running pods survive a restart.",
};

/// The socket is there and nobody listens.
pub const DEAD: Rule = Rule {
    id: "runtime.dead",
    severity: Severity::Warning,
    meaning: "The container runtime's socket is there and nobody listens: the runtime is not running.",
    fix: "Read why it ended (journalctl -u containerd, crio or k3s) and start it (systemctl start); running pods go on meanwhile.",
};

/// It answered with an error or garbage.
pub const ERROR: Rule = Rule {
    id: "runtime.error",
    severity: Severity::Warning,
    meaning: "The container runtime answers with an error, or what answers is no CRI runtime.",
    fix: "Check the endpoint, and whether its CRI plugin is enabled.",
};

/// No runtime socket at all.
pub const MISSING: Rule = Rule {
    id: "runtime.missing",
    severity: Severity::Info,
    meaning: "No socket of a known container runtime was found on this node.",
    fix: "Name it with --runtime-endpoint, or the node's root with --host-root.",
};

/// All of this family.
pub const RULES: &[Rule] = &[HUNG, DEAD, ERROR, MISSING];

/// What a degraded list says about the runtime.
pub fn check_runtime(degraded: &Degraded, endpoint: Option<&str>) -> Finding {
    let rule = match degraded.reason {
        DegradedReason::RuntimeHung => &HUNG,
        DegradedReason::RuntimeDead => &DEAD,
        DegradedReason::RuntimeError => &ERROR,
        DegradedReason::NoRuntime => &MISSING,
    };
    let source = endpoint.map_or_else(|| "the known runtime sockets".to_owned(), ToOwned::to_owned);
    rule.finding(
        "host",
        format!("{}; the pods were read from disk and /proc instead", degraded.detail),
        vec![Evidence::text("answer of the container runtime", degraded.detail.clone(), source)],
        rule.fix,
    )
}
