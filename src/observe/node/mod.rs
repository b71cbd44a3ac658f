//! Kubelet, runtime, CNI programs, certificates and the room that is left on a node: files under the host root and
//! /proc. Nothing is written.

mod certificates;
mod disk_io;
mod limits;
mod logind;
mod processes;
mod resources;
mod runtime;
mod runtime_files;

pub use super::kubelet::{go_duration_ms, merge_kubelet_config};
pub use certificates::parse_certificate;
pub use runtime::Asked;
pub use runtime_files::{parse_containerd, parse_crio};

use super::cni_config::{of_folders, running_folders};
use super::kubelet;
use crate::facts::{CniConfig, NodeState, PluginBinary, Seen};
use crate::netns::open_in_root;
use rustix::fs::{OFlags, fstat};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// Reads what the node at `host_root` tells of itself, but of its runtime: some ms, and 200 ms more between two looks
/// where a process hangs or a disk is busy.
pub fn read_node(host_root: &Path) -> NodeState {
    let root = match File::open(host_root) {
        Ok(root) => root,
        Err(error) => return nothing(&format!("{}: {error}", host_root.display())),
    };
    let first = disk_io::look(&root);
    let proc = host_root.join("proc");
    let (found, inotify) = std::thread::scope(|scope| {
        let inotify = scope.spawn(|| limits::inotify(&proc, &root));
        (processes::read(&proc), inotify.join().unwrap_or_default())
    });
    let (mut processes, cgroups) = match found {
        Ok(found) => (Ok(found.processes), found.cgroups),
        Err(why) => (Err(why), BTreeMap::new()),
    };
    let mut limits = limits::tasks(&root, &cgroups);
    limits.extend(inotify);
    let process = processes.as_ref().ok().and_then(|processes| processes.kubelet.as_ref());
    let given = process.map(|process| kubelet::given(&root, process)).transpose().map(Option::flatten);
    if given == Ok(None)
        && let Ok(processes) = &mut processes
    {
        // A k3s server without an agent has none.
        processes.kubelet = None;
    }
    let kubelet =
        given.as_ref().map_err(Clone::clone).and_then(|given| kubelet::read_config(&root, given.as_ref()));
    let certificates = match &given {
        Ok(given) => certificates::read(&root, given.as_ref()),
        Err(_) => Vec::new(),
    };
    let (disks, silent_folders) = resources::disks(&root);
    let disk_io = disk_io::since(&root, &first, &disks);
    NodeState {
        kubelet,
        runtime: Err("the runtime's configuration was not read".into()),
        pressure: resources::pressure(&root),
        disks: disks.into_iter().map(|(disk, _)| disk).collect(),
        silent_folders,
        disk_io,
        limits,
        certificates,
        clock_synchronised: resources::clock(),
        plugins: Vec::new(),
        memory_bytes: resources::memory(&root),
        cpus: resources::cpus(&root),
        inhibit_delay_ms: logind::inhibit_delay(&root),
        kubelet_inhibits: logind::inhibits(&root),
        processes,
    }
}

/// Reads the configuration of the runtime that was asked and that of CNI where it looks for it, and looks for the
/// programs that it calls; 1 ms.
pub fn read_node_runtime(host_root: &Path, asked: Asked<'_>, state: &mut NodeState) -> CniConfig {
    let root = match File::open(host_root) {
        Ok(root) => root,
        Err(error) => {
            state.runtime = Err(format!("{}: {error}", host_root.display()));
            return CniConfig::default();
        }
    };
    state.runtime = runtime::read(&root, state.processes.as_ref().ok(), asked);
    let (folders, loopback) = match &state.runtime {
        Ok(runtime) => (runtime.plugin_folders.clone(), runtime.calls_loopback),
        Err(_) => (runtime::known_folders(), false),
    };
    let stated = match &state.runtime {
        Ok(runtime) => runtime.config_folder.clone().into_iter().collect(),
        Err(_) => running_folders(&root, state.processes.as_ref().map_or(&[], |p| &p.runtimes)),
    };
    let cni = of_folders(&root, stated);
    state.plugins = plugins(&root, &cni, &folders, loopback);
    cni
}

/// The folder of CNI configuration that each of these runtimes states in its own.
pub(super) fn stated_config_folders(root: &File, runtimes: &[Vec<String>]) -> Vec<String> {
    runtime::config_folders(root, runtimes)
}

fn nothing(why: &str) -> NodeState {
    NodeState {
        processes: Err(why.into()),
        kubelet: Err(why.into()),
        runtime: Err(why.into()),
        pressure: ["cpu", "io", "memory"].map(|name| (name, Err(why.to_owned()))).into(),
        disks: Vec::new(),
        silent_folders: Vec::new(),
        disk_io: Err(why.into()),
        limits: Vec::new(),
        certificates: Vec::new(),
        clock_synchronised: Err(why.into()),
        plugins: Vec::new(),
        memory_bytes: None,
        cpus: None,
        inhibit_delay_ms: None,
        kubelet_inhibits: None,
    }
}

/// The programs of the configuration that counts, and loopback where the runtime calls it for every pod.
fn plugins(root: &File, cni: &CniConfig, folders: &[String], loopback: bool) -> Vec<PluginBinary> {
    let network = cni.files.iter().find_map(|file| file.content.as_ref().ok());
    let mut kinds: Vec<String> = loopback.then(|| "loopback".into()).into_iter().collect();
    for plugin in network.iter().flat_map(|network| &network.plugins) {
        if !kinds.contains(&plugin.kind) {
            kinds.push(plugin.kind.clone());
        }
    }
    kinds.into_iter().map(|kind| PluginBinary { found: find(root, folders, &kind), kind }).collect()
}

fn find(root: &File, folders: &[String], kind: &str) -> Seen<String> {
    if kind.contains('/') || kind == ".." {
        return Err("its name is a path".into());
    }
    let mut why = format!("it is not in {}", folders.join(", "));
    for folder in folders {
        let path = format!("{folder}/{kind}");
        let opened = open_in_root(root.as_fd(), Path::new(&path), OFlags::PATH);
        match opened.and_then(|handle| Ok(fstat(&handle)?)) {
            Ok(stat) if stat.st_mode & 0o170_000 != 0o100_000 => why = format!("{path} is no file"),
            Ok(stat) if stat.st_mode & 0o111 == 0 => why = format!("{path} is not executable"),
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => why = format!("{path}: {error}"),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{CniFile, CniNetwork, CniPlugin};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_program_has_to_be_there_a_file_and_executable() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let put = |path: &str, mode: u32| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        put("a/bridge", 0o644);
        put("b/bridge", 0o755);
        put("b/portmap", 0o600);
        std::fs::create_dir(dir.path().join("b/folder")).unwrap();
        let folders = ["/a".to_owned(), "/b".to_owned()];
        let find = |kind| find(&root, &folders, kind);
        assert_eq!(find("bridge"), Ok("/b/bridge".into()));
        assert!(find("portmap").unwrap_err().contains("not executable"));
        assert!(find("folder").unwrap_err().contains("no file"));
        assert!(find("loopback").unwrap_err().contains("/a, /b"));
        assert!(find("../b/bridge").unwrap_err().contains("path") && find("..").is_err());
        let kinds = |loopback| -> Vec<String> {
            plugins(&root, &CniConfig::default(), &folders, loopback).into_iter().map(|p| p.kind).collect()
        };
        assert_eq!((kinds(true), kinds(false)), (vec!["loopback".to_owned()], vec![]));
        let plugin = |kind: &str| CniPlugin { kind: kind.into(), ..CniPlugin::default() };
        let network = CniNetwork {
            plugins: ["bridge", "loopback", "bridge"].map(plugin).into(),
            ..CniNetwork::default()
        };
        let broken = CniFile { path: "0.conflist".into(), modified: None, content: Err("no JSON".into()) };
        let file = CniFile { content: Ok(network), ..broken.clone() };
        let cni = CniConfig { files: vec![broken, file], ..CniConfig::default() };
        let found: Vec<String> = plugins(&root, &cni, &folders, true).into_iter().map(|p| p.kind).collect();
        assert_eq!(found, ["loopback", "bridge"]);
    }

    #[test]
    fn a_node_of_k3s_is_read_from_under_its_root() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("proc/7/stat", "7 (k3s-server) S 1 1 1 0 -1 0 0");
        put("proc/7/cmdline", "/usr/local/bin/k3s server\0\0");
        put("proc/7/cgroup", "0::/system.slice/k3s.service\n");
        put("sys/fs/cgroup/system.slice/k3s.service/pids.max", "100\n");
        put("sys/fs/cgroup/system.slice/k3s.service/pids.current", "95\n");
        let hidden = read_node(dir.path());
        assert!(hidden.kubelet.unwrap_err().contains("hides its command line"));
        assert_eq!(hidden.limits.iter().map(|l| l.what.as_str()).collect::<Vec<_>>(), ["threads of k3s"]);
        let unit = "etc/systemd/system/k3s.service";
        put(unit, "[Service]\nExecStart=/usr/local/bin/k3s server --kubelet-arg=max-pods=9\n");
        put("var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00-k3s-defaults.conf", "cgroupDriver: systemd\n");
        put("var/lib/rancher/k3s/agent/serving-kubelet.crt", "x");
        let node = read_node(dir.path());
        let config = node.kubelet.unwrap();
        assert_eq!(
            (config.max_pods.unwrap().value, config.cgroup_driver.unwrap().value.as_str()),
            (9, "systemd")
        );
        assert_eq!(config.files.last().map(String::as_str), Some("/etc/systemd/system/k3s.service"));
        assert_eq!(node.certificates[0].path, "/var/lib/rancher/k3s/agent/serving-kubelet.crt");
        assert!(node.processes.unwrap().kubelet.is_some());
        put(unit, "[Service]\nExecStart=/usr/local/bin/k3s server --disable-agent\n");
        assert_eq!(read_node(dir.path()).processes.unwrap().kubelet, None);
    }
}
