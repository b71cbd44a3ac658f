//! The kubelet's configuration (its file, its drop-ins, its flags) and logind's.
//!
//! Sources: kubelet.config.k8s.io/v1beta1; `kubelet --config-dir` (names end in .conf, sorted, later ones win); logind.conf(5).

use super::{names, text};
use crate::facts::{KubeletConfig, Seen, Stated};
use serde_norway::Value;
use std::collections::BTreeMap;
use std::fs::File;

const CONFIG: &str = "/var/lib/kubelet/config.yaml";

/// The configuration of the kubelet that runs with these arguments, or would run.
pub(super) fn read(root: &File, arguments: Option<&[String]>) -> Seen<KubeletConfig> {
    let arguments = arguments.unwrap_or_default();
    let path = flag(arguments, "config").unwrap_or_else(|| CONFIG.to_owned());
    let mut config = KubeletConfig::default();
    match text(root, &path) {
        Ok(text) => merge_kubelet_config(&mut config, &path, &text)?,
        Err(error) if arguments.is_empty() || flag(arguments, "config").is_some() => {
            return Err(format!("{path}: {error}"));
        }
        Err(_) => {}
    }
    if let Some(folder) = flag(arguments, "config-dir") {
        for name in names(root, &folder, ".conf") {
            let path = format!("{folder}/{name}");
            let text = text(root, &path).map_err(|error| format!("{path}: {error}"))?;
            merge_kubelet_config(&mut config, &path, &text)?;
        }
    }
    if let Some(value) = flag(arguments, "cgroup-driver") {
        config.cgroup_driver = Some(Stated { value, source: "--cgroup-driver of the kubelet".into() });
    }
    for (name, map) in
        [("kube-reserved", &mut config.kube_reserved), ("system-reserved", &mut config.system_reserved)]
    {
        let pairs = flag(arguments, name).unwrap_or_default();
        map.extend(pairs.split(',').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.into(), v.into())));
    }
    Ok(config)
}

/// Lays one file over what is known.
///
/// # Errors
/// One sentence when it is no YAML, or no object.
pub fn merge_kubelet_config(config: &mut KubeletConfig, path: &str, text: &str) -> Result<(), String> {
    let value: Value = serde_norway::from_str(text).map_err(|e| format!("{path} is no YAML: {e}"))?;
    if !value.is_mapping() {
        return Err(format!("{path} holds no kubelet configuration"));
    }
    let word = |key: &str| value.get(key).and_then(Value::as_str).filter(|v| !v.is_empty());
    if let Some(driver) = word("cgroupDriver") {
        config.cgroup_driver = Some(Stated { value: driver.into(), source: path.into() });
    }
    config.kube_reserved.extend(map(value.get("kubeReserved")));
    config.system_reserved.extend(map(value.get("systemReserved")));
    if value.get("evictionHard").is_some_and(Value::is_mapping) {
        config.eviction_hard.get_or_insert_default().extend(map(value.get("evictionHard")));
    }
    if let Some(grace) = word("shutdownGracePeriod") {
        let ms = go_duration_ms(grace);
        config.shutdown_grace_ms =
            Some(ms.ok_or_else(|| format!("{path}: shutdownGracePeriod is no duration"))?);
    }
    config.files.push(path.to_owned());
    Ok(())
}

fn map(value: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = value.and_then(Value::as_mapping).into_iter().flatten();
    pairs
        .filter_map(|(key, value)| {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            Some((key.as_str()?.to_owned(), value))
        })
        .collect()
}

/// `1m30s`, `500ms`, `0s`, as Go writes it; milliseconds.
pub fn go_duration_ms(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).filter(|&end| end > 0)?;
        let (number, after) = rest.split_at_checked(end)?;
        // Go writes 1m30s and reads 1.5m too.
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at_checked(after.find(|c: char| !c.is_ascii_digit())?)?,
            None => ("", after),
        };
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(unit_end)?;
        let ms: u64 = match unit {
            "ms" => 1,
            "s" | "sec" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(ms)?)?;
        // Millionths are enough: what is below a millisecond does not count.
        let digits = fraction.get(..6).unwrap_or(fraction);
        if let Ok(parts) = format!("{digits:0<6}").parse::<u64>() {
            total = total.checked_add(parts.checked_mul(ms)? / 1_000_000)?;
        }
        rest = next;
    }
    (!text.trim().is_empty()).then_some(total)
}

/// What systemd takes when nobody says anything.
const INHIBIT_DEFAULT_MS: u64 = 5000;

/// `InhibitDelayMaxSec`; `None` on a node without logind's configuration.
pub(super) fn inhibit_delay(root: &File) -> Option<u64> {
    let mut files = vec!["/etc/systemd/logind.conf".to_owned()];
    for folder in
        ["/usr/lib/systemd/logind.conf.d", "/run/systemd/logind.conf.d", "/etc/systemd/logind.conf.d"]
    {
        files.extend(names(root, folder, ".conf").into_iter().map(|name| format!("{folder}/{name}")));
    }
    let mut found = None;
    for path in files {
        let Ok(text) = text(root, &path) else { continue };
        found.get_or_insert(INHIBIT_DEFAULT_MS);
        for value in text.lines().filter_map(|l| l.trim().strip_prefix("InhibitDelayMaxSec")) {
            let value = value.trim_start().strip_prefix('=').unwrap_or_default().trim();
            let plain = value.parse::<u64>().ok().and_then(|s| s.checked_mul(1000));
            found = plain.or_else(|| go_duration_ms(value)).or(found);
        }
    }
    found
}

/// Whether one of logind's inhibitor files is the kubelet's.
pub(super) fn inhibits(root: &File) -> Option<bool> {
    let folder = "/run/systemd/inhibit";
    crate::netns::open_in_root(
        std::os::fd::AsFd::as_fd(root),
        std::path::Path::new(folder),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY,
    )
    .ok()?;
    let mut texts = names(root, folder, "")
        .into_iter()
        .filter(|name| !name.ends_with(".ref"))
        .filter_map(|name| text(root, &format!("{folder}/{name}")).ok());
    Some(texts.any(|text| text.lines().any(|line| line == "WHO=kubelet")))
}

/// `--name=value` or `--name value`.
fn flag(arguments: &[String], name: &str) -> Option<String> {
    let mut words = arguments.iter().flat_map(|argument| argument.splitn(2, '='));
    words.by_ref().find(|word| word.strip_prefix("--") == Some(name))?;
    words.next().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_file_wins_and_what_is_no_yaml_is_told() {
        let mut config = KubeletConfig::default();
        let first =
            "cgroupDriver: systemd\nshutdownGracePeriod: 30s\nkubeReserved: {cpu: 100m, memory: 1Gi}\n";
        merge_kubelet_config(&mut config, "a", first).unwrap();
        merge_kubelet_config(&mut config, "b", "cgroupDriver: cgroupfs\nkubeReserved: {memory: 2Gi}\n")
            .unwrap();
        assert_eq!(config.cgroup_driver, Some(Stated { value: "cgroupfs".into(), source: "b".into() }));
        assert_eq!(config.shutdown_grace_ms, Some(30_000));
        assert_eq!(config.kube_reserved["memory"], "2Gi");
        assert_eq!(config.kube_reserved["cpu"], "100m");
        assert!(merge_kubelet_config(&mut config, "c", "a: [b").unwrap_err().contains("c is no YAML"));
        assert!(merge_kubelet_config(&mut config, "c", "").is_err());
    }

    #[test]
    fn durations_of_go_and_logind() {
        assert_eq!(go_duration_ms("1m30s"), Some(90_000));
        assert_eq!(go_duration_ms("500ms"), Some(500));
        assert_eq!(go_duration_ms("0s"), Some(0));
        assert_eq!(go_duration_ms("1.5m"), Some(90_000));
        assert_eq!(go_duration_ms("0.25s10ms"), Some(260));
        assert_eq!(go_duration_ms("1.0000000000000000000009s"), Some(1000));
        assert_eq!(go_duration_ms("1.5"), None);
        assert_eq!(go_duration_ms(".s"), None);
        assert_eq!(go_duration_ms("30"), None);
        assert_eq!(go_duration_ms(""), None);
        assert_eq!(go_duration_ms("99999999999999999999h"), None);
    }
}
