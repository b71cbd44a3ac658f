//! Kubelet, runtime, CNI programs, certificates and the room that is left on a node: files under the host root and
//! /proc. Nothing is written.

mod certificates;
mod config;
mod limits;
mod processes;
mod resources;
mod runtime;

pub use certificates::parse_certificate;
pub use config::{go_duration_ms, merge_kubelet_config};
pub use runtime::{parse_containerd, parse_crio};

use crate::facts::{CniConfig, NodeProcesses, NodeState, PluginBinary, Seen};
use crate::netns::{open_in_root, read_in_root};
use rustix::fs::{Dir, OFlags, fstat};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// No configuration file is larger.
const MOST_BYTES: u64 = 1 << 20;
const MOST_NAMES: usize = 1000;

/// Reads what the node at `host_root` tells of itself; about 200 ms, most of it between two looks at processes.
pub fn read_node(host_root: &Path, cni: &CniConfig) -> NodeState {
    let root = match File::open(host_root) {
        Ok(root) => root,
        Err(error) => return nothing(&format!("{}: {error}", host_root.display())),
    };
    let proc = host_root.join("proc");
    let (found, inotify) = std::thread::scope(|scope| {
        let inotify = scope.spawn(|| limits::inotify(&proc, &root));
        (processes::read(&proc), inotify.join().unwrap_or_default())
    });
    let (processes, cgroups) = match found {
        Ok(found) => (Ok(found.processes), found.cgroups),
        Err(why) => (Err(why), BTreeMap::new()),
    };
    let mut limits = limits::tasks(&root, &cgroups);
    limits.extend(inotify);
    let arguments = processes.as_ref().ok().and_then(|p: &NodeProcesses| p.kubelet.clone());
    let runtime = runtime::read(&root);
    let kubelet = config::read(&root, arguments.as_deref());
    let folders =
        runtime.as_ref().map_or_else(|_| runtime::known_folders(), |runtime| runtime.plugin_folders.clone());
    let (disks, silent_folders) = resources::disks(&root);
    NodeState {
        kubelet,
        runtime,
        pressure: resources::pressure(&root),
        disks,
        silent_folders,
        limits,
        certificates: certificates::read(&root),
        clock_synchronised: resources::clock(),
        plugins: plugins(&root, cni, &folders),
        memory_bytes: resources::memory(&root),
        inhibit_delay_ms: config::inhibit_delay(&root),
        kubelet_inhibits: config::inhibits(&root),
        processes,
    }
}

fn nothing(why: &str) -> NodeState {
    NodeState {
        processes: Err(why.into()),
        kubelet: Err(why.into()),
        runtime: Err(why.into()),
        pressure: ["cpu", "io", "memory"].map(|name| (name, Err(why.to_owned()))).into(),
        disks: Vec::new(),
        silent_folders: Vec::new(),
        limits: Vec::new(),
        certificates: Vec::new(),
        clock_synchronised: Err(why.into()),
        plugins: Vec::new(),
        memory_bytes: None,
        inhibit_delay_ms: None,
        kubelet_inhibits: None,
    }
}

/// A small text file of the node.
fn text(root: &File, path: &str) -> std::io::Result<String> {
    let bytes = read_in_root(root.as_fd(), Path::new(path), MOST_BYTES)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Names in a folder that end so, sorted.
fn names(root: &File, folder: &str, end: &str) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let Ok(opened) = open_in_root(root.as_fd(), Path::new(folder), flags) else { return Vec::new() };
    let Ok(entries) = Dir::new(opened) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .take(MOST_NAMES)
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str().ok().map(ToOwned::to_owned))
        .filter(|name| name.ends_with(end) && !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// The programs of the configuration that counts, and loopback, which runtimes call for every pod.
fn plugins(root: &File, cni: &CniConfig, folders: &[String]) -> Vec<PluginBinary> {
    let network = cni.files.iter().find_map(|file| file.content.as_ref().ok());
    let mut kinds: Vec<String> = vec!["loopback".into()];
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
