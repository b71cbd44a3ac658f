//! Which pods of a list a SOURCE fits, and what to say when none or several do.

use super::selector::{PodName, Selector};
use crate::facts::{Container, ContainerState, Pod, PodState};
use std::net::IpAddr;

/// A pod that fits, and its container when the selector named one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    /// Place in the list of pods.
    pub(super) pod: usize,
    /// Place in the pod's containers.
    pub(super) container: Option<usize>,
}

/// Whether anything of a pod still runs.
pub(super) fn is_live(pod: &Pod) -> bool {
    pod.state == PodState::Ready
        || pod.pid.is_some()
        || pod.containers.iter().any(|c| c.state == ContainerState::Running)
}

/// Every pod that the selector fits, dead ones too; empty for those that name no pod.
pub(super) fn matches(pods: &[Pod], selector: &Selector) -> Vec<Match> {
    match selector {
        Selector::Pod(name) => by_name(pods, name),
        Selector::Id(id) => by_id(pods, id),
        Selector::PodOrId(name, id) => {
            let named = by_name(pods, name);
            if named.is_empty() { by_id(pods, id) } else { named }
        }
        Selector::Ip(ip) => by_ip(pods, *ip),
        Selector::Host | Selector::Pid(_) | Selector::NetNs(_) => Vec::new(),
    }
}

fn by_name(pods: &[Pod], name: &PodName) -> Vec<Match> {
    let fits = |pod: &Pod| {
        pod.name == name.pod && name.namespace.as_ref().is_none_or(|namespace| *namespace == pod.namespace)
    };
    let mut found = Vec::new();
    for (index, pod) in pods.iter().enumerate().filter(|(_, pod)| fits(pod)) {
        match &name.container {
            None => found.push(Match { pod: index, container: None }),
            // Attempts of one container share a name: the one that runs, else the newest, is meant.
            Some(container) => {
                let attempts = || pod.containers.iter().enumerate().filter(|(_, c)| c.name == *container);
                let runs = |c: &Container| c.state == ContainerState::Running;
                let newest = attempts().max_by_key(|(at, c)| (runs(c), c.attempt, *at));
                found.extend(newest.map(|(at, _)| Match { pod: index, container: Some(at) }));
            }
        }
    }
    found
}

fn by_id(pods: &[Pod], id: &str) -> Vec<Match> {
    let mut found = Vec::new();
    for (index, pod) in pods.iter().enumerate() {
        let uid = pod.uid.replace('-', "");
        if pod.sandbox_id.starts_with(id) || uid.starts_with(id) {
            found.push(Match { pod: index, container: None });
        }
        for (at, container) in pod.containers.iter().enumerate() {
            if container.id.starts_with(id) {
                found.push(Match { pod: index, container: Some(at) });
            }
        }
    }
    found
}

fn by_ip(pods: &[Pod], ip: IpAddr) -> Vec<Match> {
    let has = |pod: &Pod| pod.ips.contains(&ip);
    pods.iter()
        .enumerate()
        .filter(|(_, pod)| has(pod))
        .map(|(pod, _)| Match { pod, container: None })
        .collect()
}

/// The one match, when only one pod that lives fits; a dead one only when no living one does.
pub(super) fn only(pods: &[Pod], found: &[Match]) -> Result<Option<Match>, String> {
    let live = |m: &&Match| pods.get(m.pod).is_some_and(is_live);
    let living: Vec<Match> = found.iter().filter(live).copied().collect();
    match (living.as_slice(), found) {
        ([one], _) => Ok(Some(*one)),
        ([], []) => Ok(None),
        // Of several dead sandboxes of one pod any says the same.
        ([], [first, rest @ ..]) if rest.iter().all(|m| same_name(pods, *first, *m)) => Ok(Some(*first)),
        ([], _) => Err(candidates(pods, found)),
        (several, _) => Err(candidates(pods, several)),
    }
}

fn same_name(pods: &[Pod], a: Match, b: Match) -> bool {
    match (pods.get(a.pod), pods.get(b.pod)) {
        (Some(x), Some(y)) => x.namespace == y.namespace && x.name == y.name,
        _ => false,
    }
}

/// All candidates with their full names and ids.
fn candidates(pods: &[Pod], found: &[Match]) -> String {
    let one = |m: &Match| {
        let pod = pods.get(m.pod)?;
        let container = m.container.and_then(|at| pod.containers.get(at));
        Some(match container {
            Some(container) => {
                format!("{}:{} (container {})", pod.full_name(), container.name, short(&container.id))
            }
            None => format!("{} (sandbox {}, UID {})", pod.full_name(), short(&pod.sandbox_id), pod.uid),
        })
    };
    let list: Vec<String> = found.iter().filter_map(one).collect();
    format!("fits {}: {}", list.len(), list.join(", "))
}

/// The first 13 digits of an id, as crictl shows them.
pub(super) fn short(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

/// At most three living pods whose names are close to what was typed.
pub(super) fn close_names(pods: &[Pod], typed: &str) -> Vec<String> {
    let typed = typed.rsplit('/').next().unwrap_or(typed);
    let typed = typed.split(':').next().unwrap_or(typed);
    let mut near: Vec<(usize, String)> = pods
        .iter()
        .filter(|pod| is_live(pod))
        .filter_map(|pod| {
            let distance = edit_distance(&pod.name, typed);
            let part = typed.len() >= 3 && pod.name.contains(typed);
            let most = 1 + typed.len() / 4;
            (part || distance <= most).then(|| (if part { 0 } else { distance }, pod.full_name()))
        })
        .collect();
    near.sort();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Levenshtein's distance of two short names, in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let best = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: &str, name: &str, sandbox: &str, state: PodState) -> Pod {
        Pod {
            namespace: namespace.into(),
            name: name.into(),
            uid: format!("1ffb5b88-6734-49ea-9e18-{:0>12}", sandbox.len()),
            sandbox_id: sandbox.into(),
            state,
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

    fn container(name: &str, id: &str, state: ContainerState, attempt: u32) -> Container {
        Container {
            name: name.into(),
            id: id.into(),
            state,
            pid: None,
            pid_source: None,
            attempt: Some(attempt),
            exit_code: None,
            reason: None,
        }
    }

    fn pick(pods: &[Pod], text: &str) -> Result<Option<(usize, Option<usize>)>, String> {
        let found = matches(pods, &Selector::parse(text).unwrap());
        Ok(only(pods, &found)?.map(|m| (m.pod, m.container)))
    }

    #[test]
    fn a_name_in_two_namespaces_is_an_error_that_lists_both() {
        let pods = [
            pod("a", "web", "aaaaaaaaaaaaaaaa", PodState::Ready),
            pod("b", "web", "bbbbbbbbbbbbbbbbb", PodState::Ready),
        ];
        let error = pick(&pods, "web").unwrap_err();
        assert!(error.contains("a/web (sandbox aaaaaaaaaaaaa") && error.contains("b/web"), "{error}");
        assert_eq!(pick(&pods, "b/web"), Ok(Some((1, None))));
        assert_eq!(pick(&pods, "c/web"), Ok(None));
    }

    #[test]
    fn the_living_sandbox_of_a_pod_is_meant_and_a_dead_one_only_alone() {
        let mut pods = vec![
            pod("a", "web", "dead000000", PodState::NotReady),
            pod("a", "web", "1ive000000", PodState::Ready),
            pod("a", "web", "dead111111", PodState::NotReady),
        ];
        assert_eq!(pick(&pods, "web"), Ok(Some((1, None))));
        pods.remove(1);
        assert_eq!(pick(&pods, "web"), Ok(Some((0, None))));
    }

    #[test]
    fn a_pod_with_a_dead_sandbox_and_a_living_container_lives() {
        let mut pods = [pod("a", "web", "s", PodState::NotReady)];
        pods[0].containers.push(container("app", "c", ContainerState::Running, 0));
        assert!(is_live(&pods[0]));
    }

    #[test]
    fn a_pod_name_wins_over_an_id() {
        let pods = [
            pod("a", "deadbeef", "111111111", PodState::Ready),
            pod("a", "web", "deadbeef11", PodState::Ready),
        ];
        assert_eq!(pick(&pods, "deadbeef"), Ok(Some((0, None))));
        assert_eq!(pick(&pods, "id:deadbeef"), Ok(Some((1, None))));
        assert_eq!(pick(&pods, "deadbeef1"), Ok(Some((1, None))), "no pod has that name");
    }

    #[test]
    fn an_id_that_fits_a_container_and_a_sandbox_is_an_error() {
        let mut pods = vec![pod("a", "web", "abcdef1", PodState::Ready)];
        pods[0].containers.push(container("app", "abcdef2", ContainerState::Running, 0));
        assert!(pick(&pods, "abcdef").unwrap_err().contains("fits 2"));
        assert_eq!(pick(&pods, "abcdef2"), Ok(Some((0, Some(0)))));
        assert_eq!(pick(&pods, "id:1ffb5b88-6734"), Ok(Some((0, None))));
    }

    #[test]
    fn the_running_attempt_of_a_container_is_meant_else_the_newest() {
        let mut pods = vec![pod("a", "web", "s", PodState::Ready)];
        pods[0].containers = vec![
            container("app", "1", ContainerState::Exited, 1),
            container("app", "2", ContainerState::Exited, 2),
            container("side", "3", ContainerState::Running, 0),
        ];
        assert_eq!(pick(&pods, "web:app"), Ok(Some((0, Some(1)))));
        pods[0].containers[0].state = ContainerState::Running;
        assert_eq!(pick(&pods, "web:app"), Ok(Some((0, Some(0)))));
        assert_eq!(pick(&pods, "web:none"), Ok(None));
    }

    #[test]
    fn close_names_are_suggested_and_bounded() {
        let pods: Vec<Pod> = ["web-0", "web-1", "web-2", "web-3", "database"]
            .iter()
            .map(|name| pod("shop", name, "s", PodState::Ready))
            .collect();
        assert_eq!(close_names(&pods, "shop/web-9").len(), 3, "four are near: three are named");
        assert_eq!(close_names(&pods, "databse:app"), ["shop/database"]);
        assert!(close_names(&pods, "zzzzzz").is_empty());
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
    }
}
