//! CRI-O's files: `<storage>/overlay-containers/<id>/userdata/`, the volatile half under /run, the rest under
//! /var/lib. A sandbox has no process of its own unless `drop_infra_ctr` is off.

use super::{Claim, Ending, HostFs, Record, Spec, is_id, moment, order_ns, parse_pid};
use serde::Deserialize;
use std::net::IpAddr;

/// The volatile half.
pub(super) const RUN: &str = "/run/containers/storage/overlay-containers";
const LIB: &str = "/var/lib/containers/storage/overlay-containers";

/// CRI-O's own state of a container.
#[derive(Default, Deserialize)]
struct State {
    #[serde(default)]
    status: String,
    #[serde(rename = "initPid", default)]
    init_pid: u32,
    /// A number in a string.
    #[serde(rename = "initStartTime", default)]
    init_start: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    started: String,
    #[serde(default)]
    finished: String,
    #[serde(rename = "exitCode")]
    exit_code: Option<i32>,
    #[serde(rename = "oomKilled", default)]
    oom_killed: bool,
}

fn userdata(fs: &HostFs, id: &str, file: &str) -> Option<Vec<u8>> {
    [RUN, LIB].iter().find_map(|half| fs.read(&format!("{half}/{id}/userdata/{file}")))
}

/// A container's state is kept under /var/lib, a sandbox's under /run.
fn state(fs: &HostFs, id: &str) -> State {
    [LIB, RUN]
        .iter()
        .find_map(|half| fs.read_json(&format!("{half}/{id}/userdata/state.json")))
        .unwrap_or_default()
}

/// The PID that CRI-O wrote down; it stays after the exit.
pub(super) fn claim(fs: &HostFs, id: &str) -> Option<Claim> {
    let pid = parse_pid(&fs.read_text(&format!("{RUN}/{id}/userdata/pidfile"))?)?;
    Some(Claim { pid, start: None })
}

/// When the first process began, clock ticks since boot.
pub(super) fn start(fs: &HostFs, id: &str) -> Option<u64> {
    state(fs, id).init_start.parse().ok()
}

pub(super) fn record(fs: &HostFs, id: &str) -> Option<Record> {
    let spec: Spec = serde_json::from_slice(&userdata(fs, id, "config.json")?).ok()?;
    let crio = |key: &str| spec.annotation(&format!("io.kubernetes.cri-o.{key}"));
    let pod = |key: &str| spec.annotation(&format!("io.kubernetes.pod.{key}")).unwrap_or_default();
    let sandbox = crio("ContainerType").as_deref() == Some("sandbox");
    let state = state(fs, id);
    let host_network = sandbox.then(|| crio("HostNetwork").as_deref() == Some("true"));
    let mut record = Record {
        id: id.to_owned(),
        sandbox_id: crio("SandboxID").unwrap_or_else(|| id.to_owned()),
        namespace: pod("namespace"),
        name: pod("name"),
        uid: pod("uid"),
        container: (!sandbox).then(|| spec.annotation("io.kubernetes.container.name").unwrap_or_default()),
        attempt: spec.annotation("io.kubernetes.container.restartCount").and_then(|n| n.parse().ok()),
        claim: claim(fs, id).or((state.init_pid > 0).then_some(Claim { pid: state.init_pid, start: None })),
        // A hostNetwork sandbox has a pinned namespace too, that no process of the pod is in.
        netns: spec.network().and_then(|n| n.path.clone()).filter(|_| host_network == Some(false)),
        host_network,
        ips: (0..8).map_while(|n| crio(&format!("IP.{n}"))).filter_map(|ip| ip.parse().ok()).collect(),
        created_at: crio("Created").and_then(|text| moment(&text)).or_else(|| moment(&state.created)),
        created_ns: crio("Created").map_or(0, |text| order_ns(&text)),
        ended: state.status == "stopped",
        ending: Ending { memory_limit_bytes: spec.memory_limit(), ..times(&state) },
        ..Record::default()
    };
    if record.name.is_empty() {
        return None;
    }
    if let Some(claim) = &mut record.claim {
        claim.start = state.init_start.parse().ok();
    }
    if sandbox && record.ips.is_empty() {
        record.ips = crio("CNIResult").map(|text| cni_ips(&text)).unwrap_or_default();
    }
    if !sandbox {
        add_exit(fs, &state, &mut record);
    }
    Some(record)
}

fn times(state: &State) -> Ending {
    let moment = |text: &str| Some(order_ns(text)).filter(|&ns| ns > 0);
    Ending { started_ns: moment(&state.started), finished_ns: moment(&state.finished), ..Ending::default() }
}

/// The exit code, and the file that conmon puts beside it when the kernel killed.
fn add_exit(fs: &HostFs, state: &State, record: &mut Record) {
    let exit =
        userdata(fs, &record.id, "exit").and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok());
    record.exit_code = exit.or(state.exit_code.filter(|_| record.ended));
    record.ended |= exit.is_some();
    let oom = state.oom_killed || userdata(fs, &record.id, "oom").is_some();
    record.reason = match record.exit_code {
        Some(_) if oom => Some("OOMKilled".into()),
        Some(0) => Some("Completed".into()),
        Some(_) => Some("Error".into()),
        None => None,
    };
}

/// What its state alone says of a container of which the configuration is gone.
pub(super) fn ending(fs: &HostFs, id: &str) -> Option<Record> {
    let state = state(fs, id);
    if state.status.is_empty() {
        return None;
    }
    let mut record = Record {
        id: id.to_owned(),
        container: Some(String::new()),
        ended: state.status == "stopped",
        ending: times(&state),
        ..Record::default()
    };
    add_exit(fs, &state, &mut record);
    Some(record)
}

/// The addresses in a CNI result.
fn cni_ips(text: &str) -> Vec<IpAddr> {
    serde_json::from_str::<super::network::CniResult>(text)
        .map(|result| result.addresses())
        .unwrap_or_default()
}

pub(super) fn all(fs: &HostFs) -> Vec<Record> {
    fs.names(RUN).into_iter().filter(|name| is_id(name)).filter_map(|id| record(fs, &id)).collect()
}
