//! What k3s gives to the kubelet inside it.
//!
//! Sources: k3s `pkg/configfilearg/parser.go` (config.yaml, its drop-ins, their order), `pkg/cli/cmds/agent.go`
//! (`kubelet-arg`, `data-dir`), `pkg/util/args.go` (how these are laid over k3s's own), `pkg/daemons/agent/agent.go`
//! and `agent_linux.go` (k3s's own flags; from 1.32 on a folder of drop-ins), `pkg/agent/config/config.go` (files
//! below the data folder).

use super::{Given, unit, value, values};
use crate::facts::{KubeletHost, KubeletProcess, Seen};
use crate::observe::files::{entries, text};
use serde_norway::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;

const CONFIG: &str = "/etc/rancher/k3s/config.yaml";
const DATA: &str = "/var/lib/rancher/k3s";
/// What k3s writes into the folder of drop-ins at every start.
const DEFAULTS: &str = "00-k3s-defaults.conf";
/// Where it has no such folder these are flags.
const EVICTION: &str = "imagefs.available<5%,nodefs.available<5%";
/// Files of k3s's own configuration.
const MOST_FILES: usize = 100;

pub(super) fn given(root: &File, process: &KubeletProcess) -> Seen<Option<Given>> {
    let (mut words, environment, files) = command(root, process)?;
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
    for (short, long) in [("-c", "--config"), ("-d", "--data-dir")] {
        words.iter_mut().for_each(|word| {
            if let Some(rest) =
                word.strip_prefix(short).filter(|rest| rest.is_empty() || rest.starts_with('='))
            {
                *word = format!("{long}{rest}");
            }
        });
    }
    let config =
        variable("K3S_CONFIG_FILE").or_else(|| value(&words, "config")).unwrap_or_else(|| CONFIG.into());
    let mut given = Given { inside: Some(KubeletHost::K3s), ..Given::default() };
    let settings = settings(root, &config, &mut given.files)?;
    given.files.extend(files);
    let of_file = |name: &str| settings.get(name).and_then(|list| list.last()).cloned();
    // Without a value it is on.
    let disabled = words.iter().any(|word| word == "--disable-agent");
    let disabled = if disabled { Some("true".to_owned()) } else { of_file("disable-agent") };
    if disabled.or_else(|| value(&words, "disable-agent")).is_some_and(|on| on == "true") {
        return Ok(None);
    }
    let data = value(&words, "data-dir").or_else(|| of_file("data-dir")).or_else(|| variable("K3S_DATA_DIR"));
    let data = data.map_or_else(|| DATA.to_owned(), |data| data.trim_end_matches('/').to_owned());
    let of_command = values(&words, "kubelet-arg").into_iter().map(ToOwned::to_owned);
    let all = settings.get("kubelet-arg").into_iter().flatten().cloned().chain(of_command);
    let mut flags: Vec<String> = all.map(|flag| as_flag(&flag)).collect();
    let agent = format!("{data}/agent");
    let folder = format!("{agent}/etc/kubelet.conf.d");
    let defaults = format!("{folder}/{DEFAULTS}");
    match text(root, &defaults) {
        Ok(_) => {
            // k3s has copied what these name into its folder.
            flags.retain(|flag| !flag.starts_with("--config=") && !flag.starts_with("--config-dir="));
            flags.push(format!("--config-dir={folder}"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if values(&flags, "eviction-hard").is_empty() {
                flags.push(format!("--eviction-hard={EVICTION}"));
            }
            let why = "k3s before 1.32 chooses the kubelet's cgroup driver by itself, and says it in no file";
            given.driver_unknown = Some(why.to_owned());
        }
        Err(error) => return Err(format!("{defaults}: {error}")),
    }
    for (name, file) in [("kubeconfig", "kubelet.kubeconfig"), ("tls-cert-file", "serving-kubelet.crt")] {
        if values(&flags, name).is_empty() {
            flags.push(format!("--{name}={agent}/{file}"));
        }
    }
    given.flags = flags;
    Ok(Some(given))
}

/// `max-pods=5`, `--max-pods=5`, `eviction-hard+=…`: as the kubelet gets it.
fn as_flag(argument: &str) -> String {
    let (name, value) = argument.split_once('=').unwrap_or((argument, "true"));
    format!("--{}={value}", name.trim_start_matches("--").trim_end_matches(['-', '+']))
}

type Command = (Vec<String>, BTreeMap<String, String>, Vec<String>);

/// Words behind `k3s server`, environment variables that its unit sets, and the unit's files.
fn command(root: &File, process: &KubeletProcess) -> Seen<Command> {
    let started = process.unit.as_deref().and_then(|unit| unit::started(root, unit));
    if !process.hidden {
        let (environment, files) = started.map(|s| (s.environment, Vec::new())).unwrap_or_default();
        return Ok((process.arguments.iter().skip(1).cloned().collect(), environment, files));
    }
    let of_k3s = |started: &unit::Started| {
        KubeletProcess::of(started.words.clone(), "").is_some_and(|p| p.inside == Some(KubeletHost::K3s))
    };
    match started.filter(of_k3s) {
        Some(started) => {
            Ok((started.words.into_iter().skip(1).collect(), started.environment, started.files))
        }
        None => Err(format!(
            "k3s hides its command line, and no unit file tells it{}: what its kubelet was given is not known",
            process.unit.as_ref().map(|unit| format!(" ({unit})")).unwrap_or_default()
        )),
    }
}

/// Every setting of k3s's configuration file and of its drop-ins. A later file replaces a setting, or adds to it with
/// a `+` behind the name.
fn settings(root: &File, path: &str, files: &mut Vec<String>) -> Seen<BTreeMap<String, Vec<String>>> {
    if path.contains("://") {
        return Err(format!(
            "k3s reads its configuration from {path}: what its kubelet was given is not known"
        ));
    }
    let folder = format!("{path}.d");
    let names = entries(root, &folder).into_iter().map(|(name, _)| name);
    let names = names.filter(|name| {
        let name = name.to_ascii_lowercase();
        name.ends_with(".yaml") || name.ends_with(".yml")
    });
    let drop_ins = names.map(|name| format!("{folder}/{name}"));
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in std::iter::once(path.to_owned()).chain(drop_ins).take(MOST_FILES) {
        let text = match text(root, &path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("{path}: {error}")),
        };
        let value: Value = serde_norway::from_str(&text).map_err(|e| format!("{path} is no YAML: {e}"))?;
        for (key, value) in value.as_mapping().into_iter().flatten() {
            let Some(key) = key.as_str() else { continue };
            let list = match value {
                Value::Sequence(list) => list.iter().filter_map(word).collect(),
                one => word(one).into_iter().collect(),
            };
            match key.strip_suffix('+') {
                Some(key) => all.entry(key.to_owned()).or_default().extend::<Vec<String>>(list),
                None => drop(all.insert(key.to_owned(), list)),
            }
        }
        files.push(path);
    }
    Ok(all)
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(on.to_string()),
        _ => None,
    }
}
