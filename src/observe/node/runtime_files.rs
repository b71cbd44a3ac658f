//! What the configuration files of containerd and CRI-O say.
//!
//! Sources: containerd docs/cri/config.md, docs/man/containerd-config.toml.5.md (imports), its config loading (1.7: the
//! section of a plugin in a later file replaces the former's; from 2.0 on they are merged) and its migration of version
//! 2 sections; crio.conf(5), crio.conf.d(5).

use super::runtime::{CRIO_DEFAULT, PLUGINS};
use crate::facts::{CgroupDriver, RuntimeConfig, Seen, Stated};
use toml::{Table, Value};

/// Path and text of each file, in the order in which they are laid over each other.
pub(super) type Files = Vec<(String, String)>;

/// The CRI plugin's section by version of the file: 1, 2, from 3 on.
const SECTIONS: [&str; 3] = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];
/// Tables nested deeper than this say nothing here.
const MOST_DEPTH: usize = 16;

/// What containerd's files say, the main one first; `major` is the version of the containerd that reads them, where it
/// is known.
///
/// # Errors
/// One sentence when one is no TOML, or of a version that is not known.
pub fn parse_containerd(files: &[(String, String)], major: Option<u64>) -> Seen<RuntimeConfig> {
    let main = files.first().map_or("", |f| f.0.as_str());
    let mut stated: Option<Stated<CgroupDriver>> = None;
    let mut default = format!("containerd's default, {main} does not say");
    let mut newest = 0;
    let mut all = Table::new();
    for (path, text) in files {
        let table: Table =
            text.parse().map_err(|e: toml::de::Error| format!("{path} is no TOML: {}", e.message()))?;
        let version = table.get("version").map_or(Some(1), Value::as_integer);
        let Some(version @ 0..=4) = version else {
            return Err(format!("{path} has a version that is not known here; known are 1 to 4"));
        };
        newest = newest.max(version);
        let merges = major.map_or(newest >= 3, |major| major >= 2);
        let Some(own) = section(table.get("plugins"), version, merges) else { continue };
        let said = driver_of(&own);
        if merges {
            merge(&mut all, own, 0);
        } else {
            all = own;
        }
        match (said.or_else(|| driver_of(&all)), &stated) {
            // Only the last file that says it, or changes it, is named.
            (Some(value), Some(known)) if said.is_none() && known.value == value => {}
            (Some(value), _) => stated = Some(Stated { value, source: path.clone() }),
            (None, Some(_)) => {
                stated = None;
                default = format!("containerd's default: {path} replaces the section and does not say");
            }
            (None, None) => {}
        }
    }
    let cni = all.get("cni");
    let text = |key: &str| cni?.get(key)?.as_str().filter(|folder| !folder.is_empty());
    let many = cni.and_then(|c| c.get("bin_dirs")).and_then(Value::as_array);
    let mut folders: Vec<String> = text("bin_dir")
        .into_iter()
        .chain(many.into_iter().flatten().filter_map(Value::as_str))
        .map(folder)
        .collect();
    if folders.is_empty() {
        folders.push(PLUGINS.into());
    }
    let internal = cni.and_then(|c| c.get("use_internal_loopback")).and_then(Value::as_bool);
    Ok(RuntimeConfig {
        runtime: "containerd",
        driver: stated.unwrap_or(Stated { value: CgroupDriver::Cgroupfs, source: default }),
        // From version 3 on the file is one of containerd 2, which does.
        hands_driver: (newest >= 3).then_some(true),
        plugin_folders: folders,
        config_folder: text("conf_dir").map(folder).filter(|path| path.starts_with('/')),
        calls_loopback: internal != Some(true),
    })
}

fn folder(path: &str) -> String {
    path.trim_end_matches('/').to_owned()
}

/// The settings of the CRI plugin in one file. containerd 2 takes those of version 2 over into its new section, where
/// that does not have them already; in a file of version 3 the old section does not count.
fn section(plugins: Option<&Value>, version: i64, new_counts: bool) -> Option<Table> {
    let [first, old, new] = SECTIONS.map(|name| plugins.and_then(|p| p.get(name)).and_then(Value::as_table));
    let new = new.filter(|_| new_counts || version >= 3);
    let old = match version {
        0..=1 => first.or(old),
        2 => old,
        _ => None,
    };
    match (old, new) {
        (Some(old), Some(new)) => {
            let mut both = old.clone();
            for (key, value) in new {
                match (both.get_mut(key), value) {
                    (Some(Value::Table(known)), Value::Table(value))
                        if ["cni", "containerd"].contains(&key.as_str()) =>
                    {
                        known.extend(value.clone());
                    }
                    _ => {
                        both.insert(key.clone(), value.clone());
                    }
                }
            }
            Some(both)
        }
        (one, other) => one.or(other).cloned(),
    }
}

fn driver_of(cri: &Table) -> Option<CgroupDriver> {
    let containerd = cri.get("containerd");
    let name = containerd.and_then(|c| c.get("default_runtime_name")).and_then(Value::as_str);
    let name = name.filter(|name| !name.is_empty()).unwrap_or("runc");
    let runtime = containerd.and_then(|c| c.get("runtimes")).and_then(|r| r.get(name));
    let plain =
        runtime.and_then(|r| r.get("options")).and_then(|o| o.get("SystemdCgroup")).and_then(Value::as_bool);
    // Only the runtimes of version 1 heed it.
    let old = || cri.get("systemd_cgroup").and_then(Value::as_bool).filter(|on| *on);
    let systemd = plain.or_else(old)?;
    Some(if systemd { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs })
}

/// Lays one table over another, key by key.
fn merge(all: &mut Table, over: Table, depth: usize) {
    for (key, value) in over {
        match (all.get_mut(&key), value) {
            (Some(Value::Table(known)), Value::Table(value)) if depth < MOST_DEPTH => {
                merge(known, value, depth + 1)
            }
            (_, value) => {
                all.insert(key, value);
            }
        }
    }
}

/// What CRI-O's files say: later ones win.
///
/// # Errors
/// One sentence when one is no TOML.
pub fn parse_crio(files: &[(String, String)]) -> Seen<RuntimeConfig> {
    let default = Stated { value: CgroupDriver::Systemd, source: CRIO_DEFAULT.into() };
    let folders = vec![PLUGINS.into(), "/usr/libexec/cni".into(), "/usr/lib/cni".into()];
    let mut config = RuntimeConfig {
        runtime: "cri-o",
        driver: default,
        hands_driver: None,
        plugin_folders: folders,
        config_folder: None,
        // It brings the loopback interface up itself.
        calls_loopback: false,
    };
    for (path, text) in files {
        let table: Table =
            text.parse().map_err(|e: toml::de::Error| format!("{path} is no TOML: {}", e.message()))?;
        let crio = table.get("crio");
        let runtime = crio.and_then(|c| c.get("runtime"));
        let value = match runtime.and_then(|r| r.get("cgroup_manager")).and_then(Value::as_str) {
            Some("systemd") => Some(CgroupDriver::Systemd),
            Some("cgroupfs") => Some(CgroupDriver::Cgroupfs),
            Some(_) => return Err(format!("{path} has a cgroup_manager that is not known")),
            None => None,
        };
        if let Some(value) = value {
            config.driver = Stated { value, source: path.clone() };
        }
        let network = crio.and_then(|c| c.get("network"));
        let of_configuration = network.and_then(|n| n.get("network_dir")).and_then(Value::as_str).map(folder);
        config.config_folder = of_configuration.filter(|path| path.starts_with('/')).or(config.config_folder);
        let dirs = network.and_then(|n| n.get("plugin_dirs")).and_then(Value::as_array);
        let dirs: Vec<String> = dirs.into_iter().flatten().filter_map(Value::as_str).map(folder).collect();
        if !dirs.is_empty() {
            config.plugin_folders = dirs;
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use CgroupDriver::{Cgroupfs, Systemd};

    const V1: &str = "[plugins.cri]\nsystemd_cgroup = true\n";
    const V2: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n";
    const V3: &str = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nSystemdCgroup = true\n";

    fn parse(files: &[&str], major: Option<u64>) -> Seen<RuntimeConfig> {
        let files: Vec<_> =
            files.iter().enumerate().map(|(n, text)| (n.to_string(), (*text).to_owned())).collect();
        parse_containerd(&files, major)
    }

    fn driver(files: &[&str], major: Option<u64>) -> (CgroupDriver, String) {
        let driver = parse(files, major).unwrap().driver;
        (driver.value, driver.source)
    }

    #[test]
    fn every_version_says_it_in_its_own_section_whoever_reads_it() {
        for text in [V1, V2, V3] {
            for major in [None, Some(2)] {
                assert_eq!(driver(&[text], major), (Systemd, "0".into()), "{text}");
            }
        }
        for text in [V1, V2] {
            assert_eq!(driver(&[text], Some(1)).0, Systemd, "{text}");
        }
        assert_eq!(driver(&["version = 2\n"], None).0, Cgroupfs);
        assert!(parse(&["version = 9\n"], None).unwrap_err().contains("not known"));
        assert!(parse(&["version = \"2\"\n"], None).unwrap_err().contains("not known"));
        assert!(parse(&["a = ["], None).unwrap_err().contains("no TOML"));
    }

    #[test]
    fn a_section_of_another_version_does_not_count() {
        let old_in_new = V2.replace("version = 2", "version = 3");
        assert_eq!(driver(&[&old_in_new], Some(2)).0, Cgroupfs, "the usual mistake after an upgrade");
        let new_in_old = V3.replace("version = 3", "version = 2");
        assert_eq!(driver(&[&new_in_old], Some(1)).0, Cgroupfs);
        assert_eq!(driver(&[&new_in_old], Some(2)).0, Systemd, "containerd 2 reads it");
        let both = format!("{V2}{}", V3.replace("version = 3\n", "").replace("true", "false"));
        assert_eq!(driver(&[&both], Some(2)).0, Cgroupfs, "the new section is above the old");
        assert_eq!(driver(&[&both], Some(1)).0, Systemd);
    }

    #[test]
    fn a_later_file_replaces_the_section_in_containerd_1_and_is_merged_in_containerd_2() {
        let off = V2.replace("true", "false");
        for major in [None, Some(1), Some(2)] {
            assert_eq!(driver(&[V2, &off], major), (Cgroupfs, "1".into()), "{major:?}");
        }
        let registry =
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/certs\"\n";
        assert_eq!(driver(&[V2, registry], Some(2)), (Systemd, "0".into()));
        let (lost, why) = driver(&[V2, registry], Some(1));
        assert_eq!(lost, Cgroupfs);
        assert!(why.contains("1 replaces the section"), "{why}");
        let snapshots = registry.replace("registry]", "containerd]").replace("config_path", "snapshotter");
        assert_eq!(driver(&[V2, &snapshots], Some(2)), (Systemd, "0".into()), "merged to the last key");
        let other = snapshots.replace("snapshotter = \"/etc/certs\"", "default_runtime_name = \"crun\"");
        let crun = format!(
            "{V2}{}",
            V2.replace("version = 2\n", "").replace("runc", "crun").replace("true", "false")
        );
        assert_eq!(driver(&[&crun, &other], Some(2)), (Cgroupfs, "1".into()), "it names another runtime");
        let elsewhere = "version = 2\n[debug]\nlevel = \"debug\"\n";
        assert_eq!(driver(&[V2, elsewhere], Some(1)), (Systemd, "0".into()), "no section, nothing replaced");
    }

    #[test]
    fn the_default_runtime_is_the_one_that_counts() {
        let crun = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"crun\"\n\
            [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.crun.options]\nSystemdCgroup = true\n\
            [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = false\n";
        assert_eq!(driver(&[crun], None).0, Systemd);
        assert_eq!(driver(&[&crun.replace("\"crun\"", "\"\"")], None).0, Cgroupfs);
    }

    #[test]
    fn what_real_programs_print_is_understood() {
        macro_rules! recorded {
            ($name:literal) => {
                include_str!(concat!("../../../tests/fixtures/runtime-config/", $name))
            };
        }
        let (v16, v17) =
            (recorded!("containerd-1.6.20-default.toml"), recorded!("containerd-1.7.24-default.toml"));
        let used = recorded!("containerd-1.7.24-used.toml");
        let (v2, crio) = (recorded!("containerd-2.x-default.toml"), recorded!("crio-1.37-default.conf"));
        assert_eq!(driver(&[v16], Some(1)), (Cgroupfs, "0".into()));
        assert_eq!(driver(&[v17], Some(1)), (Cgroupfs, "0".into()));
        for major in [None, Some(1), Some(2)] {
            assert_eq!(driver(&[used], major), (Systemd, "0".into()), "{major:?}");
        }
        let newest = parse(&[v2], Some(2)).unwrap();
        assert_eq!((newest.driver.value, newest.hands_driver), (Cgroupfs, Some(true)));
        assert_eq!((newest.plugin_folders, newest.calls_loopback), (vec!["/opt/cni/bin".to_owned()], true));
        assert_eq!(parse(&[v17], Some(1)).unwrap().plugin_folders, ["/usr/lib/cni"]);
        let quiet =
            parse(&[&v2.replace("use_internal_loopback = false", "use_internal_loopback = true")], Some(2));
        assert!(!quiet.unwrap().calls_loopback);
        let on = v2.replace("SystemdCgroup = false", "SystemdCgroup = true");
        assert_eq!(driver(&[&on], Some(2)).0, Systemd);

        let file = |text: &str| (String::from("crio.conf"), text.to_owned());
        let default = parse_crio(&[file(crio)]).unwrap();
        assert_eq!((default.driver.value, default.driver.source.as_str()), (Systemd, CRIO_DEFAULT));
        let used = parse_crio(&[file(crio), file(recorded!("crio-1.37-used.conf"))]).unwrap();
        assert_eq!((used.driver.value, used.driver.source.as_str()), (Systemd, "crio.conf"));
        assert_eq!(used.plugin_folders, ["/opt/cni/bin"]);
    }

    #[test]
    fn the_folder_of_cni_configuration_in_every_version_of_the_file() {
        let folder = |files: &[&str], major| parse(files, major).unwrap().config_folder;
        let of = |version: &str, section: &str| {
            format!("{version}[plugins.{section}.cni]\nconf_dir = \"/x/net.d/\"\n")
        };
        let (v1, v2) = (of("", "cri"), of("version = 2\n", "\"io.containerd.grpc.v1.cri\""));
        let v3 = of("version = 3\n", "'io.containerd.cri.v1.runtime'");
        for text in [&v1, &v2, &v3] {
            assert_eq!(folder(&[text], None).as_deref(), Some("/x/net.d"), "{text}");
        }
        assert_eq!(folder(&[V2], None), None);
        assert_eq!(
            folder(&[&v2, &v2.replace("/x/", "/y/")], Some(2)).as_deref(),
            Some("/y/net.d"),
            "imported"
        );
        assert_eq!(folder(&[&v2, V2], Some(1)), None, "the later file replaces the section");
        assert_eq!(folder(&[&v2.replace("/x/", "x/")], None), None, "no path from the root");
        let crio = |text: &str| parse_crio(&[("a".into(), text.to_owned())]).unwrap().config_folder;
        assert_eq!(crio("[crio.network]\nnetwork_dir = \"/etc/x/\"\n").as_deref(), Some("/etc/x"));
        assert_eq!(crio("[crio.runtime]\n"), None);
    }

    #[test]
    fn drop_ins_of_crio_win() {
        let file = |m: &str| (m.to_owned(), format!("[crio.runtime]\ncgroup_manager = \"{m}\"\n"));
        let both = parse_crio(&[file("systemd"), file("cgroupfs")]).unwrap();
        assert_eq!((both.driver.value, both.driver.source.as_str()), (Cgroupfs, "cgroupfs"));
        assert!(parse_crio(&[file("other")]).is_err());
        assert!(parse_crio(&[("x".into(), "a = [".into())]).unwrap_err().contains("no TOML"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_nothing_panics(
            text in "\\PC{0,80}|(version = [0-9]\n)?(\\[plugins\\.(cri|\"io\\.containerd\\.(grpc\\.v1\\.cri|cri\\.v1\\.runtime)\")(\\.(containerd|cni|runtimes|runc|options)){0,4}\\]\n|(SystemdCgroup|cni|containerd|runtimes|bin_dirs|imports|default_runtime_name) = (true|1|\"runc\"|\\[1, \"/a/\"\\]|\\{ a = 1 \\})\n){0,6}",
            major in proptest::option::of(0u64..4),
        ) {
            let files = [("a".to_owned(), text.clone()), ("b".to_owned(), text)];
            if let Ok(config) = parse_containerd(&files, major) {
                proptest::prop_assert!(!config.plugin_folders.is_empty());
            }
            let _ = parse_crio(&files);
        }
    }
}
