//! Pods out of the runtime's lists, out of records from disk, out of what /proc alone shows.

use super::cri::messages as m;
use super::disk::{Logs, Record};
use super::proc::Scan;
use crate::facts::{Container, ContainerState, Pod, PodState, rfc3339};
use std::collections::{HashMap, HashSet};

/// A pod of which nothing but its name is known.
fn bare(sandbox_id: String) -> Pod {
    Pod {
        namespace: String::new(),
        name: String::new(),
        uid: String::new(),
        sandbox_id,
        state: PodState::Unknown,
        restarts: None,
        host_network: None,
        ips: Vec::new(),
        pid: None,
        netns: None,
        netns_inode: None,
        created_at: None,
        containers: Vec::new(),
    }
}

/// The containers of each sandbox, in the order that they were made in.
fn by_sandbox(mut containers: Vec<m::Container>) -> HashMap<String, Vec<Container>> {
    containers.sort_by_key(|container| container.created_at);
    let mut by_sandbox: HashMap<String, Vec<Container>> = HashMap::new();
    for container in containers {
        let metadata = container.metadata.unwrap_or_default();
        by_sandbox.entry(container.pod_sandbox_id).or_default().push(Container {
            name: metadata.name,
            id: container.id,
            state: match container.state {
                0 => ContainerState::Created,
                1 => ContainerState::Running,
                2 => ContainerState::Exited,
                _ => ContainerState::Unknown,
            },
            pid: None,
            pid_source: None,
            attempt: Some(metadata.attempt),
            exit_code: None,
            reason: None,
        });
    }
    by_sandbox
}

/// Gives pods their containers, which were listed later than they.
pub(super) fn add_containers(pods: &mut [Pod], containers: Vec<m::Container>) {
    let mut by_sandbox = by_sandbox(containers);
    for pod in pods {
        pod.containers = by_sandbox.remove(&pod.sandbox_id).unwrap_or_default();
    }
}

/// Names and states as the runtime lists them.
pub(super) fn from_lists(sandboxes: Vec<m::PodSandbox>, containers: Vec<m::Container>) -> Vec<Pod> {
    let mut by_sandbox = by_sandbox(containers);
    let pod = |sandbox: m::PodSandbox| {
        let metadata = sandbox.metadata.unwrap_or_default();
        Pod {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            state: match sandbox.state {
                0 => PodState::Ready,
                1 => PodState::NotReady,
                _ => PodState::Unknown,
            },
            created_at: (sandbox.created_at > 0).then(|| rfc3339(sandbox.created_at / 1_000_000_000)),
            containers: by_sandbox.remove(&sandbox.id).unwrap_or_default(),
            ..bare(sandbox.id)
        }
    };
    sandboxes.into_iter().map(pod).collect()
}

/// Pods from the runtime's files; a sandbox whose own record is gone is not ready.
pub(super) fn from_records(records: &[Record], logs: &Logs) -> Vec<Pod> {
    let mut pods: HashMap<&str, Pod> = HashMap::new();
    let mut sorted: Vec<&Record> = records.iter().collect();
    sorted.sort_by(|a, b| {
        (a.created_ns, &a.container, a.attempt).cmp(&(b.created_ns, &b.container, b.attempt))
    });
    for record in sorted {
        let pod = pods.entry(&record.sandbox_id).or_insert_with(|| Pod {
            namespace: record.namespace.clone(),
            name: record.name.clone(),
            uid: record.uid.clone(),
            state: PodState::NotReady,
            ..bare(record.sandbox_id.clone())
        });
        let Some(name) = &record.container else { continue };
        if pod.uid.is_empty() {
            pod.uid.clone_from(&record.uid);
        }
        let newest = logs.attempts(&record.uid).and_then(|attempts| attempts.get(name).copied());
        let linked = logs.container(&record.id).and_then(|log| log.attempt);
        pod.containers.push(Container {
            name: name.clone(),
            id: record.id.clone(),
            state: if record.ended { ContainerState::Exited } else { ContainerState::Unknown },
            pid: None,
            pid_source: None,
            attempt: record.attempt.or(linked).or(newest.filter(|_| !record.ended)),
            exit_code: record.exit_code,
            reason: record.reason.clone(),
        });
    }
    pods.into_values().collect()
}

/// Adds pods of which only cgroups and log folders know: a runtime whose files are somewhere else.
pub(super) fn add_from_scan(pods: &mut Vec<Pod>, scan: &Scan, logs: &Logs) {
    let known: HashSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
    let mut unknown: HashMap<&str, Vec<&String>> = HashMap::new();
    for (id, uid) in &scan.pods {
        if !known.contains(uid.as_str()) {
            unknown.entry(uid).or_default().push(id);
        }
    }
    let mut found = Vec::new();
    for (uid, mut ids) in unknown {
        let Some((namespace, name)) = logs.pod(uid) else { continue };
        // The sandbox has no log; when several lack one it started first.
        ids.sort_by_key(|id| scan.containers.get(*id));
        let sandbox = ids.iter().find(|id| logs.container(id).is_none()).map(|id| (*id).clone());
        let containers = ids.iter().filter(|id| Some(**id) != sandbox.as_ref());
        found.push(Pod {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: uid.to_owned(),
            state: PodState::Ready,
            containers: containers
                .map(|id| {
                    let log = logs.container(id);
                    Container {
                        name: log.map(|log| log.container.clone()).unwrap_or_default(),
                        id: (*id).clone(),
                        state: ContainerState::Unknown,
                        pid: None,
                        pid_source: None,
                        attempt: log.and_then(|log| log.attempt),
                        exit_code: None,
                        reason: None,
                    }
                })
                .collect(),
            ..bare(sandbox.unwrap_or_default())
        });
    }
    pods.append(&mut found);
}

/// Restarts of a pod: the highest attempt of each of its containers, summed; unknown when one is unknown.
pub(super) fn count_restarts(pod: &mut Pod, logs: Option<&Logs>) {
    let mut highest: HashMap<&str, Option<u32>> = HashMap::new();
    for container in &pod.containers {
        let slot = highest.entry(&container.name).or_default();
        *slot = (*slot).max(container.attempt);
    }
    if let Some(attempts) = logs.and_then(|logs| logs.attempts(&pod.uid)) {
        for (name, &attempt) in attempts {
            let slot = highest.entry(name).or_default();
            *slot = (*slot).max(Some(attempt));
        }
    }
    pod.restarts = highest.into_values().try_fold(0u32, |sum, attempt| Some(sum.saturating_add(attempt?)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, attempt: Option<u32>) -> Container {
        Container {
            name: name.into(),
            id: String::new(),
            state: ContainerState::Running,
            pid: None,
            pid_source: None,
            attempt,
            exit_code: None,
            reason: None,
        }
    }

    #[test]
    fn restarts_are_the_highest_attempts_and_unknown_is_not_zero() {
        let mut pod = bare("s".into());
        count_restarts(&mut pod, None);
        assert_eq!(pod.restarts, Some(0), "no container, no restart");
        pod.containers = vec![container("a", Some(4)), container("a", Some(5)), container("b", Some(2))];
        count_restarts(&mut pod, None);
        assert_eq!(pod.restarts, Some(7));
        pod.containers.push(container("c", None));
        count_restarts(&mut pod, None);
        assert_eq!(pod.restarts, None);
    }
}
