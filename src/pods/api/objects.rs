//! The few fields of lists that are read; all else is skipped while parsing.

use crate::facts::{ClusterNode, ClusterPod, PublishedMtu, Unscheduled};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Longest message of a condition that is kept, characters.
const MOST_MESSAGE: usize = 1000;
/// Scheduling gates of one pod that are kept.
const MOST_GATES: usize = 8;
/// MTUs of one pod or node that are kept; a pod with more networks was not met.
const MOST_MTUS: usize = 32;
/// Of OVN-Kubernetes.
const GATEWAY_MTU: &str = "k8s.ovn.org/gateway-mtu-support";

/// One page.
#[derive(Deserialize)]
pub(super) struct Page<T> {
    #[serde(default)]
    pub(super) metadata: PageMeta,
    // Bound to be there: an object without items is no list.
    pub(super) items: Option<Vec<T>>,
}

#[derive(Deserialize, Default)]
pub(super) struct PageMeta {
    #[serde(rename = "continue")]
    pub(super) next: Option<String>,
}

/// What a refusal says; some have no kind.
#[derive(Deserialize)]
pub(super) struct Status {
    pub(super) message: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    name: String,
    namespace: String,
    uid: String,
    creation_timestamp: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodMeta {
    name: String,
    namespace: String,
    uid: String,
    #[serde(rename = "creationTimestamp")]
    created: Option<String>,
    annotations: Option<PodAnnotations>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodAnnotations {
    #[serde(rename = "k8s.v1.cni.cncf.io/network-status")]
    networks: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
    last_transition_time: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Pod {
    metadata: PodMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
    host_network: Option<bool>,
    scheduler_name: Option<String>,
    scheduling_gates: Option<Vec<Gate>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Gate {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIPs")]
    ips: Option<Vec<PodIp>>,
    conditions: Option<Vec<Condition>>,
    #[serde(rename = "containerStatuses")]
    containers: Option<Vec<ContainerStatus>>,
    #[serde(rename = "initContainerStatuses")]
    init_containers: Option<Vec<ContainerStatus>>,
}

impl PodStatus {
    /// Of all containers, native sidecars among the init containers; `None` while none has a status.
    fn restarts(&self) -> Option<u32> {
        let all = self.init_containers.iter().chain(&self.containers).flatten();
        all.map(|container| container.restart_count).reduce(u32::saturating_add)
    }
}

#[derive(Deserialize)]
struct PodIp {
    ip: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    restart_count: u32,
}

#[derive(Deserialize)]
pub(super) struct Node {
    metadata: Meta,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeStatus {
    conditions: Option<Vec<Condition>>,
}

/// An event of the scheduler.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    metadata: Meta,
    involved_object: Involved,
    message: Option<String>,
    last_timestamp: Option<String>,
    event_time: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Involved {
    uid: String,
}

/// One network of Multus' annotation.
#[derive(Deserialize)]
struct Network {
    name: Option<String>,
    interface: Option<String>,
    mtu: Option<u32>,
}

impl Pod {
    pub(super) fn facts(mut self) -> ClusterPod {
        let restarts = self.status.restarts();
        let conditions = self.status.conditions.unwrap_or_default();
        let ready = conditions.iter().find(|c| c.kind == "Ready").and_then(known);
        let host_network = self.spec.host_network == Some(true);
        let node = self.spec.node_name.take().filter(|name| !name.is_empty());
        let ended = matches!(self.status.phase.as_str(), "Succeeded" | "Failed");
        let unscheduled = (node.is_none() && !ended).then(|| {
            let condition = conditions.into_iter().find(|c| c.kind == "PodScheduled" && c.status == "False");
            waits(condition.unwrap_or_default(), self.metadata.created, self.spec)
        });
        let networks = self.metadata.annotations.and_then(|a| a.networks);
        ClusterPod {
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            uid: self.metadata.uid,
            ips: self
                .status
                .ips
                .unwrap_or_default()
                .into_iter()
                .filter_map(|ip| ip.ip?.parse().ok())
                .collect(),
            node,
            host_network,
            restarts,
            ready,
            ended,
            unscheduled,
            mtus: networks.map(|text| networks_of(&text)).unwrap_or_default(),
        }
    }
}

impl Node {
    pub(super) fn facts(self) -> ClusterNode {
        let conditions = self.status.conditions.unwrap_or_default();
        let condition = conditions.into_iter().find(|c| c.kind == "Ready");
        let mut why = condition.as_ref().and_then(|c| c.reason.clone()).unwrap_or_default();
        match condition.as_ref().and_then(|c| c.message.as_deref()) {
            Some(message) if !message.is_empty() => why = short(format!("{why}: {message}")),
            _ => {}
        }
        let labels = self.metadata.labels.unwrap_or_default();
        let annotations = self.metadata.annotations.unwrap_or_default();
        let all = annotations.iter().chain(&labels);
        let published = all.filter(|(key, _)| is_mtu_key(key)).filter_map(|(key, value)| {
            let mtu_bytes = mtu(value)?;
            // Kube-OVN names the interface beside it.
            let interface = key.strip_suffix("/mtu").and_then(|of| labels.get(&format!("{of}/interface")));
            Some(PublishedMtu { network: key.clone(), interface: interface.cloned(), mtu_bytes })
        });
        ClusterNode {
            name: self.metadata.name,
            ready: condition.as_ref().and_then(known),
            why,
            mtus: published.take(MOST_MTUS).collect(),
            no_gateway_mtu: annotations.get(GATEWAY_MTU).is_some_and(|value| value == "false"),
        }
    }
}

impl Event {
    /// Whom it is about, what it says, and when it was said last.
    pub(super) fn word(self) -> (String, String, Option<String>) {
        let at = self.last_timestamp.or(self.event_time).or(self.metadata.creation_timestamp);
        (self.involved_object.uid, short(self.message.unwrap_or_default()), at)
    }
}

/// Why a pod has no node, by its condition; one without that waits since it was created.
fn waits(condition: Condition, created: Option<String>, spec: PodSpec) -> Unscheduled {
    let gates = spec.scheduling_gates.unwrap_or_default();
    let gated = !gates.is_empty() || condition.reason.as_deref() == Some("SchedulingGated");
    let message = condition.message.filter(|m| !m.is_empty()).or(condition.reason);
    let (since, since_source) = match condition.last_transition_time {
        Some(changed) => (Some(changed), "condition PodScheduled"),
        None => (created, "metadata.creationTimestamp"),
    };
    Unscheduled {
        message: message.map(short),
        source: "condition PodScheduled",
        since,
        since_source,
        scheduler: spec.scheduler_name,
        gated,
        gates: gates.into_iter().take(MOST_GATES).map(|gate| short(gate.name)).collect(),
    }
}

fn known(condition: &Condition) -> Option<bool> {
    match condition.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

fn short(text: String) -> String {
    if text.len() <= MOST_MESSAGE { text } else { text.chars().take(MOST_MESSAGE).collect() }
}

/// `NAME.provider-network.kubernetes.io/mtu` of Kube-OVN and the like: `mtu` is a word of the key's name.
fn is_mtu_key(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key).to_ascii_lowercase();
    name.split(['-', '_', '.']).any(|word| word == "mtu")
}

fn mtu(value: &str) -> Option<u32> {
    value.parse().ok().filter(|mtu| (68..=65_536).contains(mtu))
}

/// Networks with an MTU in the annotation `k8s.v1.cni.cncf.io/network-status`.
fn networks_of(text: &str) -> Vec<PublishedMtu> {
    let networks: Vec<Network> = serde_json::from_str(text).unwrap_or_default();
    let told = |n: Network| {
        let mtu_bytes = n.mtu.filter(|&mtu| mtu >= 68)?;
        Some(PublishedMtu { network: short(n.name?), interface: n.interface.map(short), mtu_bytes })
    };
    networks.into_iter().filter_map(told).take(MOST_MTUS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_mtu_in_a_key_names_one() {
        for key in ["vlan.provider-network.kubernetes.io/mtu", "x.io/node-mtu", "x.io/MTU", "mtu"] {
            assert!(is_mtu_key(key), "{key}");
        }
        for key in ["mtu.io/name", "x.io/mtus", "x.io/smtu", ""] {
            assert!(!is_mtu_key(key), "{key}");
        }
        assert_eq!(
            [mtu("1450"), mtu("0"), mtu("9000000"), mtu("x"), mtu("-1")],
            [Some(1450), None, None, None, None]
        );
    }

    #[test]
    fn the_networks_of_multus_are_read_and_rubbish_is_none() {
        let text = r#"[{"name":"cbr0","interface":"eth0","ips":["10.244.1.9"],"default":true,"dns":{}},
            {"name":"default/macvlan","interface":"net1","mac":"02:00:00:00:00:01","mtu":1500,"dns":{}}]"#;
        let net1 = PublishedMtu {
            network: "default/macvlan".into(),
            interface: Some("net1".into()),
            mtu_bytes: 1500,
        };
        assert_eq!(networks_of(text), [net1]);
        for text in ["", "{", "null", r#"[{"mtu":-1,"name":"x"}]"#] {
            assert_eq!(networks_of(text), [], "{text}");
        }
    }

    #[test]
    fn a_pod_without_any_status_is_unknown_and_not_zero() {
        let pod: Pod = serde_json::from_str(r#"{"metadata":{"name":"a","namespace":"b"}}"#).unwrap();
        let pod = pod.facts();
        assert_eq!((pod.restarts, pod.ready, pod.ended), (None, None, false));
        assert_eq!(pod.unscheduled.unwrap().message, None);
    }

    #[test]
    fn restarts_are_those_of_init_containers_too() {
        for (status, restarts) in [
            (
                r#"{"initContainerStatuses":[{"restartCount":214}],"containerStatuses":[{"restartCount":0}]}"#,
                Some(214),
            ),
            (
                r#"{"initContainerStatuses":[{"restartCount":3}],"containerStatuses":[{"restartCount":4}]}"#,
                Some(7),
            ),
            (r#"{"initContainerStatuses":[{"restartCount":3}]}"#, Some(3)),
            (r#"{"containerStatuses":[{"restartCount":4294967295},{"restartCount":1}]}"#, Some(u32::MAX)),
            (r#"{"initContainerStatuses":null,"containerStatuses":[]}"#, None),
        ] {
            let text = format!(r#"{{"metadata":{{"name":"a"}},"status":{status}}}"#);
            assert_eq!(serde_json::from_str::<Pod>(&text).unwrap().facts().restarts, restarts, "{status}");
        }
    }

    #[test]
    fn a_pod_waits_since_its_condition_says_so_else_since_its_creation() {
        let pod = |spec: &str, status: &str| {
            let metadata = r#"{"name":"a","creationTimestamp":"2026-11-26T10:00:00Z"}"#;
            let text = format!(r#"{{"metadata":{metadata},"spec":{spec},"status":{status}}}"#);
            serde_json::from_str::<Pod>(&text).unwrap().facts().unscheduled.unwrap()
        };
        let fresh = pod("{}", "{}");
        assert_eq!(
            (fresh.since.as_deref(), fresh.since_source, fresh.gated),
            (Some("2026-11-26T10:00:00Z"), "metadata.creationTimestamp", false)
        );
        let gated = r#"{"conditions":[{"type":"PodScheduled","status":"False","reason":"SchedulingGated",
            "lastTransitionTime":"2026-11-26T10:00:01Z"}]}"#;
        let held = pod(r#"{"schedulingGates":[{"name":"example.com/quota"}]}"#, gated);
        assert_eq!(
            (held.since.as_deref(), held.since_source, held.gated, held.gates),
            (Some("2026-11-26T10:00:01Z"), "condition PodScheduled", true, vec!["example.com/quota".into()])
        );
        assert!(pod("{}", gated).gated);
    }

    #[test]
    fn a_node_tells_the_interface_beside_its_mtu_and_whether_its_gateway_answers() {
        let node = |metadata: &str| {
            let text = format!(r#"{{"metadata":{{"name":"k1",{metadata}}}}}"#);
            serde_json::from_str::<Node>(&text).unwrap().facts()
        };
        let ovn = node(
            r#""labels":{"net1.provider-network.kubernetes.io/mtu":"1500",
            "net1.provider-network.kubernetes.io/interface":"eth1","net1.provider-network.kubernetes.io/ready":"true"}"#,
        );
        let network = "net1.provider-network.kubernetes.io/mtu".to_owned();
        assert_eq!(ovn.mtus, [PublishedMtu { network, interface: Some("eth1".into()), mtu_bytes: 1500 }]);
        assert!(!ovn.no_gateway_mtu);
        for (value, no) in [("false", true), ("true", false)] {
            let annotated = node(&format!(r#""annotations":{{"{GATEWAY_MTU}":"{value}"}}"#));
            assert_eq!((annotated.no_gateway_mtu, annotated.mtus), (no, Vec::new()), "{value}");
        }
    }
}
