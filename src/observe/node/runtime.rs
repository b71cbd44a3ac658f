//! The cgroup driver and the plugin folders of containerd or CRI-O, from their configuration files.
//!
//! Sources: containerd docs/cri/config.md (versions 1 to 4: `plugins.cri`, `io.containerd.grpc.v1.cri`, from 3 on
//! `io.containerd.cri.v1.runtime`), man containerd-config.toml (imports); crio.conf(5), crio.conf.d(5).

use super::{names, text};
use crate::facts::{CgroupDriver, RuntimeConfig, Seen, Stated};
use std::fs::File;
use toml::{Table, Value};

/// Where CNI plugins are when nobody says anything.
const PLUGINS: &str = "/opt/cni/bin";
const CONTAINERD: &[&str] = &[
    "/etc/containerd/config.toml",
    "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
];
const CRIO: &str = "/etc/crio/crio.conf";
const MOST_IMPORTS: usize = 32;

/// Where distributions put CNI plugins; k3s, k0s and microk8s have their own.
const ELSEWHERE: &[&str] = &[
    "/usr/lib/cni",
    "/usr/libexec/cni",
    "/var/lib/rancher/k3s/data/current/bin",
    "/var/lib/rancher/k3s/data/cni",
    "/var/snap/microk8s/current/opt/cni/bin",
];

/// Where to look when no configuration says where: a plugin is missing only when it is in none of them.
pub(super) fn known_folders() -> Vec<String> {
    std::iter::once(&PLUGINS).chain(ELSEWHERE).map(|folder| (*folder).to_owned()).collect()
}

/// The configuration of the runtime that has one.
pub(super) fn read(root: &File) -> Seen<RuntimeConfig> {
    let crio: Vec<String> = std::iter::once(CRIO.to_owned())
        .chain(
            names(root, "/etc/crio/crio.conf.d", "")
                .into_iter()
                .map(|n| format!("/etc/crio/crio.conf.d/{n}")),
        )
        .collect();
    for path in CONTAINERD {
        match text(root, path) {
            Ok(text) => return with_imports(root, path, text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{path}: {error}")),
        }
    }
    let texts: Vec<(String, String)> =
        crio.into_iter().filter_map(|path| text(root, &path).ok().map(|text| (path, text))).collect();
    if texts.is_empty() {
        return Err("no configuration of containerd or CRI-O was found".into());
    }
    parse_crio(&texts)
}

fn with_imports(root: &File, path: &str, first: String) -> Seen<RuntimeConfig> {
    let mut texts = vec![(path.to_owned(), first)];
    let table: Table = texts.first().and_then(|(_, t)| t.parse().ok()).unwrap_or_default();
    let imports = table.get("imports").and_then(Value::as_array).into_iter().flatten();
    for import in imports.filter_map(Value::as_str).take(MOST_IMPORTS) {
        let (folder, name) = import.rsplit_once('/').unwrap_or((".", import));
        let files = match name.split_once('*') {
            Some((start, end)) => {
                let mut found = names(root, folder, end);
                found.retain(|n| n.starts_with(start));
                found.into_iter().map(|n| format!("{folder}/{n}")).collect()
            }
            None => vec![import.to_owned()],
        };
        for file in files {
            if let Ok(text) = text(root, &file) {
                texts.push((file, text));
            }
        }
    }
    parse_containerd(&texts)
}

/// What containerd's files say, the main one first: later ones win.
///
/// # Errors
/// One sentence when one is no TOML, or of a version that is not known.
pub fn parse_containerd(files: &[(String, String)]) -> Seen<RuntimeConfig> {
    let default =
        format!("containerd's default, {} does not say", files.first().map_or("", |f| f.0.as_str()));
    let mut config = RuntimeConfig {
        runtime: "containerd",
        driver: Stated { value: CgroupDriver::Cgroupfs, source: default },
        hands_driver: false,
        plugin_folders: vec![PLUGINS.into()],
    };
    for (path, text) in files {
        let table: Table =
            text.parse().map_err(|e: toml::de::Error| format!("{path} is no TOML: {}", e.message()))?;
        let version = table.get("version").map_or(Some(1), Value::as_integer);
        config.hands_driver |= matches!(version, Some(3..=4));
        let Some(1..=4) = version else {
            return Err(format!("{path} has a version that is not known here; known are 1 to 4"));
        };
        let plugins = table.get("plugins");
        let sections = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];
        for cri in sections.iter().filter_map(|name| plugins?.get(name)) {
            let runtimes = cri.get("containerd").and_then(|c| c.get("runtimes"));
            let name = cri
                .get("containerd")
                .and_then(|c| c.get("default_runtime_name"))
                .and_then(Value::as_str)
                .unwrap_or("runc");
            let options = runtimes.and_then(|r| r.get(name)).and_then(|r| r.get("options"));
            let plain = options.and_then(|o| o.get("SystemdCgroup")).and_then(Value::as_bool);
            let old = cri.get("systemd_cgroup").and_then(Value::as_bool).filter(|on| *on);
            if let Some(systemd) = plain.or(old) {
                let value = if systemd { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
                config.driver = Stated { value, source: path.clone() };
            }
            let cni = cri.get("cni");
            let one = cni.and_then(|c| c.get("bin_dir")).and_then(Value::as_str).filter(|d| !d.is_empty());
            let many = cni.and_then(|c| c.get("bin_dirs")).and_then(Value::as_array);
            let folders: Vec<String> = one
                .into_iter()
                .chain(many.into_iter().flatten().filter_map(Value::as_str))
                .map(|folder| folder.trim_end_matches('/').to_owned())
                .collect();
            if !folders.is_empty() {
                config.plugin_folders = folders;
            }
        }
    }
    Ok(config)
}

/// What CRI-O's files say: later ones win.
///
/// # Errors
/// One sentence when one is no TOML.
pub fn parse_crio(files: &[(String, String)]) -> Seen<RuntimeConfig> {
    let default = Stated { value: CgroupDriver::Systemd, source: "CRI-O's default".into() };
    let folders = vec![PLUGINS.into(), "/usr/libexec/cni".into(), "/usr/lib/cni".into()];
    let mut config =
        RuntimeConfig { runtime: "cri-o", driver: default, hands_driver: false, plugin_folders: folders };
    for (path, text) in files {
        let table: Table =
            text.parse().map_err(|e: toml::de::Error| format!("{path} is no TOML: {}", e.message()))?;
        let crio = table.get("crio");
        match crio
            .and_then(|c| c.get("runtime"))
            .and_then(|r| r.get("cgroup_manager"))
            .and_then(Value::as_str)
        {
            Some("systemd") => config.driver = Stated { value: CgroupDriver::Systemd, source: path.clone() },
            Some("cgroupfs") => {
                config.driver = Stated { value: CgroupDriver::Cgroupfs, source: path.clone() }
            }
            Some(_) => return Err(format!("{path} has a cgroup_manager that is not known")),
            None => {}
        }
        let dirs =
            crio.and_then(|c| c.get("network")).and_then(|n| n.get("plugin_dirs")).and_then(Value::as_array);
        let dirs: Vec<String> = dirs
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|d| d.trim_end_matches('/').to_owned())
            .collect();
        if !dirs.is_empty() {
            config.plugin_folders = dirs;
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(files: &[&str]) -> Seen<(CgroupDriver, String)> {
        let files: Vec<_> =
            files.iter().enumerate().map(|(n, text)| (n.to_string(), (*text).to_owned())).collect();
        parse_containerd(&files).map(|c| (c.driver.value, c.driver.source))
    }

    #[test]
    fn every_version_says_it_in_its_own_section() {
        let v1 = "[plugins.cri]\nsystemd_cgroup = true\n";
        let v2 = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n";
        let v3 = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nSystemdCgroup = true\n";
        for text in [v1, v2, v3] {
            assert_eq!(driver(&[text]), Ok((CgroupDriver::Systemd, "0".into())), "{text}");
        }
        let off = v2.replace("true", "false");
        assert_eq!(driver(&[v2, &off]), Ok((CgroupDriver::Cgroupfs, "1".into())), "an import wins");
        assert_eq!(driver(&["version = 2\n"]).unwrap().0, CgroupDriver::Cgroupfs);
        assert!(driver(&["version = 9\n"]).unwrap_err().contains("not known"));
        assert!(driver(&["a = ["]).unwrap_err().contains("no TOML"));
    }

    #[test]
    fn drop_ins_of_crio_win() {
        let file = |m: &str| (m.to_owned(), format!("[crio.runtime]\ncgroup_manager = \"{m}\"\n"));
        let both = parse_crio(&[file("systemd"), file("cgroupfs")]).unwrap();
        assert_eq!((both.driver.value, both.driver.source.as_str()), (CgroupDriver::Cgroupfs, "cgroupfs"));
        assert!(parse_crio(&[file("other")]).is_err());
    }
}
