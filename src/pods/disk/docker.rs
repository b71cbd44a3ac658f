//! Docker's files, with cri-dockerd before it: `<data-root>/containers/<id>/config.v2.json` and
//! `/var/lib/cri-dockerd/sandbox/<id>`.

use super::{Claim, Ending, HostFs, Record, is_id, moment, order_ns};
use serde::Deserialize;
use std::collections::HashMap;

const CHECKPOINTS: &str = "/var/lib/cri-dockerd/sandbox";

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "State", default)]
    state: State,
    #[serde(rename = "Created", default)]
    created: String,
    #[serde(rename = "Config")]
    config: Inner,
    /// `/k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`.
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "NetworkSettings", default)]
    network: NetworkSettings,
}

#[derive(Default, Deserialize)]
struct State {
    #[serde(rename = "Running", default)]
    running: bool,
    #[serde(rename = "OOMKilled", default)]
    oom_killed: bool,
    #[serde(rename = "Pid", default)]
    pid: u32,
    #[serde(rename = "ExitCode", default)]
    exit_code: i32,
    #[serde(rename = "StartedAt", default)]
    started_at: String,
    #[serde(rename = "FinishedAt", default)]
    finished_at: String,
    #[serde(rename = "Error", default)]
    error: String,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(rename = "Labels")]
    labels: Option<HashMap<String, String>>,
}

#[derive(Default, Deserialize)]
struct NetworkSettings {
    #[serde(rename = "SandboxKey", default)]
    sandbox_key: String,
}

#[derive(Deserialize)]
struct Checkpoint {
    data: CheckpointData,
}

#[derive(Deserialize)]
struct CheckpointData {
    #[serde(default)]
    host_network: bool,
}

/// Where Docker keeps its containers, when it is on this node.
pub(super) fn folder(fs: &HostFs) -> Option<String> {
    #[derive(Deserialize)]
    struct Daemon {
        #[serde(rename = "data-root")]
        data_root: Option<String>,
    }
    let root = fs
        .read_json::<Daemon>("/etc/docker/daemon.json")
        .and_then(|daemon| daemon.data_root)
        .unwrap_or_else(|| "/var/lib/docker".into());
    let folder = format!("{root}/containers");
    fs.exists(&folder).then_some(folder)
}

pub(super) fn record(fs: &HostFs, folder: &str, id: &str) -> Option<Record> {
    let config: Config = fs.read_json(&format!("{folder}/{id}/config.v2.json"))?;
    let labels = config.config.labels.unwrap_or_default();
    let label = |key: &str| labels.get(&format!("io.kubernetes.{key}")).cloned();
    let sandbox = match label("docker.type").as_deref() {
        Some("podsandbox") => true,
        Some("container") => false,
        _ => label("container.name").as_deref() == Some("POD"),
    };
    let never_ran =
        config.state.pid == 0 && config.state.exit_code == 0 && moment(&config.state.finished_at).is_none();
    let ended = !config.state.running && !never_ran;
    let host_network = sandbox.then(|| {
        let checkpoint = fs.read_json::<Checkpoint>(&format!("{CHECKPOINTS}/{id}"));
        checkpoint
            .map_or_else(|| config.network.sandbox_key.ends_with("/netns/default"), |c| c.data.host_network)
    });
    let key = config.network.sandbox_key;
    let exit_code = (ended && !sandbox).then_some(config.state.exit_code);
    Some(Record {
        id: id.to_owned(),
        sandbox_id: if sandbox { id.to_owned() } else { label("sandbox.id")? },
        namespace: label("pod.namespace")?,
        name: label("pod.name")?,
        uid: label("pod.uid").unwrap_or_default(),
        container: if sandbox { None } else { label("container.name") },
        attempt: config.name.rsplit('_').next().and_then(|n| n.parse().ok()),
        claim: (config.state.running && config.state.pid > 0)
            .then_some(Claim { pid: config.state.pid, start: None }),
        netns: (!key.is_empty() && host_network == Some(false)).then_some(key),
        host_network,
        created_at: moment(&config.created),
        created_ns: order_ns(&config.created),
        ended,
        exit_code,
        reason: match exit_code {
            Some(_) if config.state.oom_killed => Some("OOMKilled".into()),
            Some(0) => Some("Completed".into()),
            Some(128) => Some("ContainerCannotRun".into()),
            Some(_) => Some("Error".into()),
            None => None,
        },
        ending: Ending {
            started_ns: Some(order_ns(&config.state.started_at)).filter(|&ns| ns > 0),
            finished_ns: Some(order_ns(&config.state.finished_at)).filter(|&ns| ns > 0),
            message: Some(config.state.error).filter(|error| !error.is_empty()),
            memory_limit_bytes: None,
        },
        ..Record::default()
    })
}

pub(super) fn all(fs: &HostFs, folder: &str) -> Vec<Record> {
    fs.names(folder).into_iter().filter(|name| is_id(name)).filter_map(|id| record(fs, folder, &id)).collect()
}
