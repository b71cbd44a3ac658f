//! The kubelet's configuration: its file, its drop-ins, its flags.
//!
//! Sources: kubelet.config.k8s.io/v1beta1; `kubelet --config-dir` (names end in .conf, sorted, later ones win).

use super::{Given, drop_ins, value, values};
use crate::facts::{KubeletConfig, Seen, Stated};
use crate::observe::files::text;
use serde_norway::Value;
use std::collections::BTreeMap;
use std::fs::File;

const CONFIG: &str = "/var/lib/kubelet/config.yaml";

/// The configuration of the kubelet that runs with what it was given, or would run.
pub(in crate::observe) fn read(root: &File, given: Option<&Given>) -> Seen<KubeletConfig> {
    let flags = given.map_or(&[][..], |given| given.flags.as_slice());
    let named = value(flags, "config");
    let inside = given.is_some_and(|given| given.inside.is_some());
    let path = named.clone().or_else(|| (!inside).then(|| CONFIG.to_owned()));
    let mut config = KubeletConfig::default();
    if let Some(path) = path {
        match text(root, &path) {
            Ok(text) => merge_kubelet_config(&mut config, &path, &text)?,
            Err(error) if given.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Err(format!("{path} is not there"));
            }
            Err(error) if given.is_none() || named.is_some() => return Err(format!("{path}: {error}")),
            Err(_) => {}
        }
    }
    if let Some(folder) = value(flags, "config-dir") {
        for path in drop_ins(root, &folder) {
            let text = text(root, &path).map_err(|error| format!("{path}: {error}"))?;
            merge_kubelet_config(&mut config, &path, &text)?;
        }
    }
    if let Some(given) = given {
        config.files.extend(given.files.iter().cloned());
        config.driver_unknown = given.driver_unknown.clone();
        if config.driver_unknown.is_some() {
            // A flag of the program around it is above the file.
            config.cgroup_driver = None;
        }
    }
    if let Some(value) = value(flags, "cgroup-driver") {
        config.cgroup_driver = Some(Stated { value, source: "--cgroup-driver of the kubelet".into() });
        config.driver_unknown = None;
    }
    // A flag takes the place of the whole map (component-base/cli/flag/map_string_string.go).
    for (name, map) in
        [("kube-reserved", &mut config.kube_reserved), ("system-reserved", &mut config.system_reserved)]
    {
        if !values(flags, name).is_empty() {
            *map = pairs(flags, name, '=').collect();
        }
    }
    if !values(flags, "eviction-hard").is_empty() {
        config.eviction_hard = Some(pairs(flags, "eviction-hard", '<').collect());
    }
    config.reserved_cpus =
        value(flags, "reserved-cpus").filter(|list| !list.is_empty()).or(config.reserved_cpus);
    if let Some(value) = value(flags, "max-pods").and_then(|pods| pods.parse().ok()) {
        config.max_pods = Some(Stated { value, source: "--max-pods of the kubelet".into() });
    }
    Ok(config)
}

/// `cpu=1,memory=2Gi`, in as many flags as there are.
fn pairs<'a>(
    flags: &'a [String],
    name: &str,
    between: char,
) -> impl Iterator<Item = (String, String)> + use<'a> {
    let lists = values(flags, name).into_iter().flat_map(|list| list.split(','));
    lists.filter_map(move |pair| pair.split_once(between)).map(|(k, v)| (k.into(), v.into()))
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
    if let Some(classes) = value.get("shutdownGracePeriodByPodPriority").and_then(Value::as_sequence)
        && !classes.is_empty()
    {
        let seconds = classes.iter().filter_map(|c| c.get("shutdownGracePeriodSeconds")?.as_u64());
        let sum = seconds.fold(0u64, u64::saturating_add);
        config.shutdown_grace_ms = Some(sum.saturating_mul(1000));
    }
    if let Some(merge) = value.get("mergeDefaultEvictionSettings").and_then(Value::as_bool) {
        config.merge_eviction_defaults = merge;
    }
    if let Some(list) = word("reservedSystemCPUs") {
        config.reserved_cpus = Some(list.to_owned());
    }
    match value.get("maxPods") {
        None | Some(Value::Null) => {}
        Some(pods) => {
            let pods = pods.as_u64().and_then(|pods| u32::try_from(pods).ok());
            let pods = pods.ok_or_else(|| format!("{path}: maxPods is no number of pods"))?;
            // 0 is the same as unset.
            let stated = (pods > 0).then(|| Stated { value: pods, source: path.to_owned() });
            config.max_pods = stated.or(config.max_pods.take());
        }
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
            "s" => 1000,
            "m" => 60_000,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::KubeletHost;

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
    fn durations_of_go() {
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

    #[test]
    fn what_the_kubelet_was_given_in_the_recordings() {
        let read = |text: &str| {
            let mut config = KubeletConfig::default();
            merge_kubelet_config(&mut config, "x", text).unwrap();
            config
        };
        let reserved = read(include_str!("../../../tests/fixtures/kubelet-config/reserved-systemd.yaml"));
        assert_eq!(reserved.kube_reserved["cpu"], "200m");
        assert_eq!(reserved.kube_reserved["pid"], "1000");
        assert_eq!(reserved.system_reserved["memory"], "256Mi");
        assert_eq!(reserved.eviction_hard.as_ref().unwrap()["nodefs.available"], "5%");
        let max = |config: &KubeletConfig| config.max_pods.as_ref().map(|max| max.value);
        assert_eq!((max(&reserved), reserved.merge_eviction_defaults), (Some(60), false));
        let grace = read(include_str!("../../../tests/fixtures/kubelet-config/shutdown-grace.yaml"));
        assert_eq!((grace.shutdown_grace_ms, grace.eviction_hard), (Some(30_000), None));
        let installer =
            read(include_str!("../../../tests/fixtures/kubelet-config/installer-layout-zero-durations.yaml"));
        assert_eq!((installer.shutdown_grace_ms, max(&installer)), (Some(0), None));
        let by_priority = "shutdownGracePeriodByPodPriority:\n- {priority: 0, shutdownGracePeriodSeconds: 60}\n\
            - {priority: 9, shutdownGracePeriodSeconds: 30}\nmergeDefaultEvictionSettings: true\nreservedSystemCPUs: 0-1\n";
        let by_priority = read(by_priority);
        assert_eq!(by_priority.shutdown_grace_ms, Some(90_000));
        assert_eq!(
            (by_priority.merge_eviction_defaults, by_priority.reserved_cpus.as_deref()),
            (true, Some("0-1"))
        );
    }

    #[test]
    fn flags_are_above_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(
            "k/config.yaml",
            "cgroupDriver: cgroupfs\nmaxPods: 5\nevictionHard: {memory.available: 1Gi}\nkubeReserved: {pid: 9}\n",
        );
        put("k/d/10.conf", "maxPods: 6\n");
        put("k/d/20.yaml", "maxPods: 7\n");
        let arguments = |line: &str| Given {
            flags: line.split(' ').skip(1).map(ToOwned::to_owned).collect(),
            ..Given::default()
        };
        let line = "kubelet --config=/k/config.yaml --config-dir /k/d";
        let files = super::read(&root, Some(&arguments(line))).unwrap();
        let max = |config: &KubeletConfig| config.max_pods.as_ref().map(|max| max.value);
        assert_eq!((max(&files), files.files.len()), (Some(6), 2), "only names that end in .conf");
        let line = format!(
            "{line} --cgroup-driver systemd --max-pods=250 --reserved-cpus=0 --kube-reserved=cpu=1,memory=2Gi \
             --eviction-hard=nodefs.available<5%,imagefs.available<1Gi"
        );
        let flags = super::read(&root, Some(&arguments(&line))).unwrap();
        assert_eq!(flags.cgroup_driver.as_ref().unwrap().value, "systemd");
        assert_eq!((max(&flags), flags.reserved_cpus.as_deref()), (Some(250), Some("0")));
        assert_eq!((flags.kube_reserved["memory"].as_str(), flags.kube_reserved.len()), ("2Gi", 2));
        let hard = flags.eviction_hard.unwrap();
        assert_eq!((hard["nodefs.available"].as_str(), hard.get("memory.available")), ("5%", None));
        assert!(super::read(&root, Some(&arguments("kubelet --config /gone.yaml"))).is_err());
        assert_eq!(super::read(&root, Some(&arguments("kubelet"))).unwrap(), KubeletConfig::default());
        assert!(super::read(&root, None).is_err(), "no kubelet and no file");
    }

    #[test]
    fn inside_of_another_program_the_usual_file_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("var/lib/kubelet")).unwrap();
        std::fs::write(dir.path().join("var/lib/kubelet/config.yaml"), "maxPods: 5\ncgroupDriver: systemd\n")
            .unwrap();
        assert_eq!(super::read(&root, Some(&Given::default())).unwrap().max_pods.unwrap().value, 5);
        let mut given = Given {
            inside: Some(KubeletHost::K3s),
            flags: vec!["--eviction-hard=nodefs.available<5%".into(), "--eviction-hard=a<1".into()],
            files: vec!["/etc/rancher/k3s/config.yaml".into()],
            driver_unknown: Some("not told".into()),
        };
        let config = super::read(&root, Some(&given)).unwrap();
        assert_eq!(
            (config.max_pods, config.cgroup_driver, config.driver_unknown),
            (None, None, given.driver_unknown.clone())
        );
        assert_eq!((config.files, config.eviction_hard.unwrap().len()), (given.files.clone(), 2));
        given.flags.push("--config=/var/lib/kubelet/config.yaml".into());
        let config = super::read(&root, Some(&given)).unwrap();
        assert_eq!(
            (config.max_pods.map(|max| max.value), config.cgroup_driver),
            (Some(5), None),
            "k3s sets a flag above the file"
        );
        given.flags.push("--cgroup-driver=systemd".into());
        let config = super::read(&root, Some(&given)).unwrap();
        assert_eq!((config.cgroup_driver.unwrap().value.as_str(), config.driver_unknown), ("systemd", None));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_nothing_panics(
            text in "\\PC{0,60}|((cgroupDriver|kubeReserved|evictionHard|maxPods|shutdownGracePeriod|shutdownGracePeriodByPodPriority|reservedSystemCPUs): ?(\\[\\]|\\{a: b\\}|-1|1e9|0s|9h|\\[\\{shutdownGracePeriodSeconds: 18446744073709551615\\}, 3\\])\n){0,5}",
        ) {
            let mut config = KubeletConfig::default();
            let read = merge_kubelet_config(&mut config, "x", &text);
            proptest::prop_assert_eq!(read.is_ok(), config.files.len() == 1);
            let _ = go_duration_ms(&text);
        }
    }
}
