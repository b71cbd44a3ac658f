//! Rules on a pod itself: its sandbox, its containers, and whether its namespace is what the runtime says.

use super::Rule;
use crate::facts::{
    Check, Container, ContainerState, Evidence, Finding, Link, Namespace, Pod, PodState, Severity,
};

/// The sandbox has ended.
pub const SANDBOX_NOT_READY: Rule = Rule {
    id: "pod.sandbox_not_ready",
    severity: Severity::Critical,
    meaning: "The pod's sandbox has ended while something of the pod is still there: the kubelet will make a new one, with another address; until then nothing that the runtime does for the pod works.",
    fix: "Read why it ended: nsprobe why POD, and the log of the runtime; kubectl delete pod makes a new one.",
};

/// A container has ended with an error.
pub const CONTAINER_DOWN: Rule = Rule {
    id: "pod.container_down",
    severity: Severity::Warning,
    meaning: "A container of the pod has ended with an error and does not run now: what it served does not answer, whatever the network does.",
    fix: "nsprobe why POD tells what ended it, nsprobe logs POD --previous its last words.",
};

/// The address is not where it should be.
pub const ADDRESS_MISSING: Rule = Rule {
    id: "pod.address_missing",
    severity: Severity::Critical,
    meaning: "The runtime names an IP for the pod that no interface of its namespace holds: packets for it arrive nowhere.",
    fix: "Recreate the pod; when it comes back so, read the CNI plugin's log and its results under /var/lib/cni/results.",
};

/// The address is inside of what runs in the pod.
pub const OWN_STACK: Rule = Rule {
    id: "pod.own_stack",
    severity: Severity::Info,
    meaning: "What runs in the pod has a network stack of its own (gVisor, a virtual machine) that holds the pod's address: links, sockets and paths below are those of the namespace around it, and probes from there have no address to come from.",
    fix: "Nothing to do; measure from another pod towards this one, and look at sockets inside of it.",
};

/// Its network is the node's.
pub const HOST_NETWORK: Rule = Rule {
    id: "pod.host_network",
    severity: Severity::Info,
    meaning: "The pod uses the node's own network namespace: links, routes and paths are the node's, no CNI plugin and no network policy of a pod applies to it.",
    fix: "Nothing to do; nsprobe diagnose host says the same of the node.",
};

/// All of this family.
pub const RULES: &[Rule] = &[SANDBOX_NOT_READY, ADDRESS_MISSING, OWN_STACK, CONTAINER_DOWN, HOST_NETWORK];

/// What the runtime or the disk says of the pod.
pub fn check_pod(pod: &Pod, host_network: bool) -> (Check, Vec<Finding>) {
    let name = pod.full_name();
    let mut findings = Vec::new();
    let source = "container runtime or its files";
    if pod.state == PodState::NotReady {
        findings.push(SANDBOX_NOT_READY.finding(
            &name,
            format!("its sandbox {} is not ready", short(&pod.sandbox_id)),
            vec![Evidence::text("state of the sandbox", "not_ready", source)],
            SANDBOX_NOT_READY.fix.replace("POD", &name),
        ));
    }
    for container in latest(&pod.containers) {
        let failed = container.exit_code.is_some_and(|code| code != 0);
        if container.state != ContainerState::Exited || !failed {
            continue;
        }
        let code = container.exit_code.unwrap_or_default();
        let reason = container.reason.as_deref().map(|r| format!(", {r}")).unwrap_or_default();
        let mut finding = CONTAINER_DOWN.finding(
            &name,
            format!("its container {} has ended (exit code {code}{reason}) and does not run", container.name),
            vec![Evidence::text(format!("exit code of {}", container.name), code, source)],
            CONTAINER_DOWN.fix.replace("POD", &name),
        );
        // What `kubectl debug` leaves behind: nobody starts it again, and nothing depends on it.
        if container.name.starts_with("debugger-") {
            finding.severity = Severity::Info;
        }
        findings.push(finding);
    }
    if host_network {
        findings.push(HOST_NETWORK.finding(
            &name,
            "it uses the node's own network: links, routes and paths below are the node's",
            vec![Evidence::text("network namespace of the pod", "that of the node", "/proc/PID/ns/net")],
            HOST_NETWORK.fix,
        ));
    }
    let running = pod.containers.iter().filter(|c| c.state == ContainerState::Running).count();
    let worst = findings.iter().find(|f| f.severity > Severity::Info);
    let check = match (worst, pod.state) {
        (Some(finding), _) => Check::failed("pod.state", finding.summary.clone()),
        (None, PodState::Ready) => Check::passed("pod.state", format!("sandbox ready, {running} running")),
        (None, _) if running > 0 => Check::passed("pod.state", format!("{running} running")),
        // A pod that was named by a PID: its process lives.
        (None, _) if pod.pid.is_some() => Check::passed("pod.state", "its process runs"),
        (None, _) => Check::not_checked("pod.state", "nobody says whether it runs"),
    };
    (check, findings)
}

/// The stack inside of the pod that holds its address, where no interface does.
fn own_stack(pod: &Pod, own: &Namespace, gvisor: bool) -> Option<Finding> {
    let holds = |link: &Link| link.addresses.iter().any(|(address, _)| pod.ips.contains(address));
    if pod.ips.is_empty() || own.links.iter().any(holds) {
        return None;
    }
    let (whose, evidence) = if gvisor {
        (
            "the sandbox is gVisor's".to_owned(),
            Evidence::text("program of its process", "runsc", "/proc/PID/exe"),
        )
    } else {
        let tap = own.links.iter().find(|l| matches!(l.kind.as_deref(), Some("tun" | "macvtap")))?;
        let kind = tap.kind.clone().unwrap_or_default();
        let evidence = Evidence::text(format!("kind of {}", tap.name), kind, "netlink RTM_GETLINK");
        (format!("a virtual machine is behind {}", tap.name), evidence)
    };
    let summary =
        format!("{whose}: no interface of its namespace holds its address, its own network stack does");
    Some(OWN_STACK.finding(pod.full_name(), summary, vec![evidence], OWN_STACK.fix))
}

/// What its namespace says, compared with what the runtime says; `gvisor`: its process is gVisor's.
pub fn check_namespace(pod: &Pod, own: &Namespace, gvisor: bool) -> Vec<Finding> {
    let name = pod.full_name();
    let mut findings = Vec::new();
    findings.extend(own_stack(pod, own, gvisor));
    if !findings.is_empty() {
        return findings;
    }
    let holder = |address| own.links.iter().find(|l| l.addresses.iter().any(|(a, _)| a == address));
    for address in &pod.ips {
        if holder(address).is_none() {
            let held: Vec<String> = own
                .links
                .iter()
                .filter(|l| l.name != "lo")
                .flat_map(|l| &l.addresses)
                .map(|(a, _)| a.to_string())
                .collect();
            findings.push(ADDRESS_MISSING.finding(
                &name,
                format!("no interface of it holds its address {address}"),
                vec![
                    Evidence::text(
                        "address of the pod",
                        address.to_string(),
                        "container runtime or its files",
                    ),
                    Evidence::text("addresses that are there", held.join(", "), "netlink RTM_GETADDR"),
                ],
                ADDRESS_MISSING.fix,
            ));
        }
    }
    findings
}

/// The latest attempt of each container.
fn latest(containers: &[Container]) -> impl Iterator<Item = &Container> {
    containers.iter().filter(|one| {
        let later = |other: &&Container| other.name == one.name && other.attempt > one.attempt;
        !containers
            .iter()
            .any(|other| later(&other) || (other.name == one.name && other.state == ContainerState::Running))
            || one.state == ContainerState::Running
    })
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Outcome, Route};

    fn container(name: &str, state: ContainerState, attempt: u32, code: Option<i32>) -> Container {
        Container {
            name: name.into(),
            id: format!("{name}{attempt}"),
            state,
            pid: None,
            pid_source: None,
            attempt: Some(attempt),
            exit_code: code,
            reason: None,
        }
    }

    fn pod(state: PodState, containers: Vec<Container>) -> Pod {
        Pod {
            namespace: "default".into(),
            name: "web-0".into(),
            uid: "u".into(),
            sandbox_id: "0123456789abcdef".into(),
            state,
            restarts: None,
            host_network: Some(false),
            ips: vec![[10, 0, 0, 5].into()],
            pid: None,
            netns: None,
            netns_inode: None,
            created_at: None,
            containers,
        }
    }

    fn ids(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(|f| f.id).collect()
    }

    #[test]
    fn only_the_latest_attempt_of_a_container_counts() {
        let down = container("app", ContainerState::Exited, 1, Some(137));
        let (check, findings) = check_pod(&pod(PodState::Ready, vec![down.clone()]), false);
        assert_eq!((check.outcome, ids(&findings)), (Outcome::Failed, vec!["pod.container_down"]));
        let again = container("app", ContainerState::Running, 2, None);
        let done = container("init", ContainerState::Exited, 0, Some(0));
        let (check, findings) = check_pod(&pod(PodState::Ready, vec![down, again, done]), false);
        assert_eq!((check.outcome, ids(&findings)), (Outcome::Passed, vec![]));
    }

    #[test]
    fn what_kubectl_debug_left_behind_is_no_fault() {
        let left = container("debugger-x1", ContainerState::Exited, 0, Some(130));
        let app = container("app", ContainerState::Running, 0, None);
        let (check, findings) = check_pod(&pod(PodState::Ready, vec![app, left]), false);
        assert_eq!((check.outcome, ids(&findings)), (Outcome::Passed, vec!["pod.container_down"]));
        assert_eq!(findings[0].severity, Severity::Info);
    }

    #[test]
    fn a_sandbox_that_ended_and_the_nodes_network_are_told() {
        let (check, findings) = check_pod(&pod(PodState::NotReady, vec![]), true);
        assert_eq!(check.outcome, Outcome::Failed);
        assert_eq!(ids(&findings), ["pod.sandbox_not_ready", "pod.host_network"]);
        assert_eq!(check_pod(&pod(PodState::Unknown, vec![]), false).0.outcome, Outcome::NotChecked);
    }

    #[test]
    fn the_namespace_has_to_be_what_the_runtime_says() {
        let eth0 = Link {
            index: 2,
            name: "eth0".into(),
            up: true,
            state: "up".into(),
            addresses: vec![([10, 0, 0, 5].into(), 24)],
            ..Link::default()
        };
        let default = Route {
            destination: "default".into(),
            via: None,
            interface: Some("eth0".into()),
            mtu_bytes: None,
            advmss_bytes: None,
            ..Route::default()
        };
        let own = Namespace {
            subject: "default/web-0".into(),
            netns_inode: 2,
            links: vec![eth0],
            routes: vec![default],
            unreadable: 0,
            policy_rules: crate::facts::PolicyRules::None,
        };
        let pod = pod(PodState::Ready, vec![]);
        assert_eq!(ids(&check_namespace(&pod, &own, true)), [] as [&str; 0]);
        let broken = |change: &dyn Fn(&mut Namespace)| {
            let mut own = own.clone();
            change(&mut own);
            ids(&check_namespace(&pod, &own, false))
        };
        assert_eq!(broken(&|n| n.links[0].addresses.clear()), ["pod.address_missing"]);
        // gVisor takes the address into its own stack, KubeVirt gives it to the machine.
        let mut taken = own.clone();
        taken.links[0].addresses.clear();
        assert_eq!(ids(&check_namespace(&pod, &taken, true)), ["pod.own_stack"]);
        taken.links.push(Link { kind: Some("tun".into()), ..taken.links[0].clone() });
        assert_eq!(ids(&check_namespace(&pod, &taken, false)), ["pod.own_stack"]);
    }
}
