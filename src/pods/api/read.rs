//! What is asked, in this order: pods, nodes, the scheduler's events.

use super::client::{Api, Refusal, encode};
use super::credentials::{self, Credentials};
use super::objects::{Event, Node, Pod};
use super::{ApiError, ApiOptions};
use crate::facts::{ClusterPod, ClusterState, Lack, Unscheduled, Unseen};
use std::collections::HashMap;
use std::time::{Instant, SystemTime};

const PODS: &str = "/api/v1/pods";
const NODES: &str = "/api/v1/nodes";
const EVENTS: &str = "/api/v1/events";

/// Reads pods, nodes and, where pods wait without a word, the scheduler's events.
///
/// # Errors
/// [`ApiError`] when not one pod could be listed.
pub fn read_cluster(options: &ApiOptions<'_>) -> Result<ClusterState, ApiError> {
    let deadline = Instant::now() + options.deadline;
    if let Some(named) = credentials::named(options, deadline)? {
        return ask(options, deadline, named, read);
    }
    let mut refused = None;
    if let Some(found) = credentials::service_account() {
        match found.and_then(|found| ask(options, deadline, found, read)) {
            Ok(state) => return Ok(state),
            Err(error) => refused = Some(error),
        }
    }
    let fs = options.node.open().map_err(|e| ApiError::Unusable(e.to_string()))?;
    match credentials::kubelet(&fs) {
        Some(found) => ask(options, Instant::now() + options.deadline, found?, read),
        None => Err(refused.unwrap_or_else(|| {
            ApiError::NoCredentials(
                "no --kubeconfig, no KUBECONFIG, no service account and no kubelet's file that can be read"
                    .into(),
            )
        })),
    }
}

/// Pods of any node with this name. The kubelet's credentials are not tried: they show this node's pods alone.
///
/// # Errors
/// [`ApiError`].
pub fn find_cluster_pods(
    options: &ApiOptions<'_>,
    namespace: Option<&str>,
    name: &str,
) -> Result<Vec<ClusterPod>, ApiError> {
    let deadline = Instant::now() + options.deadline;
    let found = match credentials::named(options, deadline)? {
        Some(named) => named,
        None => credentials::service_account()
            .unwrap_or_else(|| Err(ApiError::NoCredentials("KUBECONFIG names none".into())))?,
    };
    ask(options, deadline, found, |api| pods_named(api, namespace, name))
}

fn pods_named(api: &Api, namespace: Option<&str>, name: &str) -> Result<Vec<ClusterPod>, ApiError> {
    let path = match namespace {
        Some(namespace) => format!("/api/v1/namespaces/{}/pods", encode(namespace)),
        None => PODS.to_owned(),
    };
    let (pods, refusal) = api.list(&path, Some(&format!("metadata.name={name}")), Pod::facts);
    match refusal {
        Some(refusal) => Err(api.error(refusal)),
        // A server that does not know the selector would tell of all.
        None => Ok(pods.into_iter().filter(|pod| pod.name == name).collect()),
    }
}

/// Makes the client, asks, and lets it go.
fn ask<T>(
    options: &ApiOptions<'_>,
    deadline: Instant,
    found: Credentials,
    questions: impl FnOnce(&Api) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let api = Api::new(found.config, found.name, options.deadline, deadline, options.look_up)?;
    let answer = questions(&api);
    api.close();
    answer
}

fn read(api: &Api) -> Result<ClusterState, ApiError> {
    let mut state = ClusterState {
        server: api.server.clone(),
        credentials: api.credentials.clone(),
        asked_at: now(),
        ..ClusterState::default()
    };
    let (mut pods, mut refusal) = api.list(PODS, None, Pod::facts);
    if let Some(Refusal::Denied(why)) = &refusal
        && let Some(node) = node_of(why)
    {
        let node = node.to_owned();
        (pods, refusal) = api.list(PODS, Some(&format!("spec.nodeName={node}")), Pod::facts);
        let why = format!("these are the credentials of node {node}, which may list its own pods alone");
        state.not_looked_at.push(no_rights("pods of other nodes and pods without a node".into(), why));
        state.only_node = Some(node);
    }
    match refusal {
        Some(refusal) if pods.is_empty() => return Err(api.error(refusal)),
        Some(refusal) => {
            let what = format!("pods after the first {}", pods.len());
            state.not_looked_at.push(refusal.of(what));
        }
        None => {}
    }
    state.pods = pods;
    read_nodes(api, &mut state);
    read_events(api, &mut state);
    Ok(state)
}

/// Seconds since 1970.
fn now() -> Option<i64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

fn no_rights(what: String, why: String) -> Unseen {
    Unseen { what, why, lack: Lack::Rights }
}

fn read_nodes(api: &Api, state: &mut ClusterState) {
    if let Some(node) = &state.only_node {
        match api.object::<Node>(&format!("{NODES}/{}", encode(node))) {
            Ok(own) => state.nodes = Some(vec![own.facts()]),
            Err(refusal) => state.not_looked_at.push(refusal.of(format!("node {node}"))),
        }
        let why = format!("node {node} may read itself alone");
        state.not_looked_at.push(no_rights("other nodes".into(), why));
        return;
    }
    let (nodes, refusal) = api.list(NODES, None, Node::facts);
    if let Some(refusal) = &refusal {
        let what =
            if nodes.is_empty() { "nodes".into() } else { format!("nodes after the first {}", nodes.len()) };
        state.not_looked_at.push(refusal.of(what));
    }
    // Some of them are better than none, and the report says that they are not all.
    state.nodes = (refusal.is_none() || !nodes.is_empty()).then_some(nodes);
}

/// The condition tells the scheduler's last word; only where it is silent are events asked for.
fn read_events(api: &Api, state: &mut ClusterState) {
    let silent = |pod: &ClusterPod| pod.unscheduled.as_ref().is_some_and(Unscheduled::silent);
    if !state.pods.iter().any(silent) {
        return;
    }
    let (events, refusal) = api.list(EVENTS, Some("reason=FailedScheduling"), Event::word);
    if let Some(refusal) = refusal {
        state.not_looked_at.push(refusal.of("events of the scheduler".into()));
    }
    let mut last: HashMap<String, (String, Option<String>)> = HashMap::new();
    for (uid, message, at) in events {
        // RFC 3339 in UTC sorts as text.
        if last.get(&uid).is_none_or(|(_, before)| *before <= at) {
            last.insert(uid, (message, at));
        }
    }
    for pod in &mut state.pods {
        if let Some(unscheduled) = pod.unscheduled.as_mut().filter(|u| u.silent())
            && let Some((message, _)) = last.remove(&pod.uid)
        {
            unscheduled.message = Some(message);
            unscheduled.source = "event FailedScheduling";
        }
    }
}

/// The node in `User "system:node:NAME" cannot list …`: whose credentials these are.
fn node_of(why: &str) -> Option<&str> {
    let name = why.split_once("\"system:node:")?.1.split_once('"')?.0;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    (!name.is_empty() && name.len() <= 253 && name.chars().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_names_the_node_whose_credentials_these_are() {
        let why = r#"403: pods is forbidden: User "system:node:k2" cannot list resource "pods""#;
        assert_eq!(node_of(why), Some("k2"));
        for why in ["", r#"User "system:anonymous""#, r#"User "system:node:""#, r#"User "system:node:a&b""#] {
            assert_eq!(node_of(why), None, "{why}");
        }
    }
}
