//! CNI configuration and the MTU files of flannel and Calico, under the host root: bounded, regular files only,
//! symbolic links stay inside.
//!
//! Sources: the CNI specification (network configuration format); libcni `ConfFiles`, containerd's go-cni `opts.go` (order,
//! what makes a file invalid); flannel's CNI plugin (subnet.env, delegate); Calico's CNI plugin (/var/lib/calico/mtu).

use super::runtimes;
use crate::facts::{CniConfig, CniFile, CniNetwork, CniPlugin, MtuFile};
use crate::netns::{open_in_root, read_whole, reopen};
use rustix::fs::{Dir, FileType, OFlags, fstat};
use serde_json::Value;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// Where kubelets' runtimes look when their configuration does not say: the usual place, k3s, MicroK8s. The first that
/// has a file counts.
const FOLDERS: &[&str] = &[
    "/etc/cni/net.d",
    "/var/lib/rancher/k3s/agent/etc/cni/net.d",
    "/var/snap/microk8s/current/args/cni-network",
];
const FLANNEL: &str = "/run/flannel/subnet.env";
const CALICO: &str = "/var/lib/calico/mtu";
/// What containerd reads of one file at most.
const MOST_BYTES: usize = 2 << 20;
const MOST_NAMES: usize = 1000;
const MOST_FILES: usize = 16;
/// Plugins of one network, those that are delegated to included.
const MOST_PLUGINS: usize = 32;

/// Reads the CNI configuration of the node whose file system is at `host_root`; what is not there is left out, what
/// cannot be read says why. `runtime` is the process of the runtime that the kubelet asks; where it is not known every
/// process is looked at, which takes some ms.
pub fn read_cni_config(host_root: &Path, runtime: Option<u32>) -> CniConfig {
    let Ok(root) = File::open(host_root) else { return CniConfig::default() };
    let stated = match runtime.and_then(|pid| runtimes::of(&root, pid)) {
        Some(runtime) => running_folders(&root, &[runtime]),
        None => stated_folders(&root),
    };
    of_folders(&root, stated)
}

/// The same of folders that a runtime's configuration states; of the known ones when it states none.
pub(super) fn of_folders(root: &File, stated: Vec<String>) -> CniConfig {
    let folders = or_known(stated);
    let mut config = CniConfig {
        flannel: mtu_file(root, FLANNEL, flannel_mtu),
        calico: mtu_file(root, CALICO, |text| mtu_of_text(text.trim())),
        files: Vec::new(),
        folders: Vec::new(),
    };
    for (path, modified, bytes) in files_of(root, &folders) {
        let name = path.rsplit('/').next().unwrap_or_default();
        let content = bytes.map_err(|e| e.to_string()).and_then(|bytes| parse_cni(name, &bytes));
        config.files.push(CniFile { path, modified, content });
    }
    config.folders = folders;
    config
}

fn or_known(stated: Vec<String>) -> Vec<String> {
    if stated.is_empty() { FOLDERS.iter().map(|folder| (*folder).to_owned()).collect() } else { stated }
}

/// What the runtimes that run state in their configuration.
fn stated_folders(root: &File) -> Vec<String> {
    running_folders(root, &runtimes::running(root))
}

/// What these runtimes state in their configuration.
pub(super) fn running_folders(root: &File, runtimes: &[Vec<String>]) -> Vec<String> {
    super::node::stated_config_folders(root, runtimes)
}

/// Path, time of the last change and content of every configuration file, in the order in which runtimes read them.
pub(super) fn read_files(root: &File) -> Vec<Read> {
    files_of(root, &or_known(stated_folders(root)))
}

/// Path, time of the last change, content.
type Read = (String, Option<i64>, io::Result<Vec<u8>>);

fn files_of(root: &File, folders: &[String]) -> Vec<Read> {
    for folder in folders {
        let mut names = names(root, folder);
        names.sort();
        let read_one = |name: String| {
            let path = format!("{folder}/{name}");
            let (modified, bytes) = read(root, &path);
            (path, modified, bytes)
        };
        let files: Vec<_> = names.into_iter().take(MOST_FILES).map(read_one).collect();
        if !files.is_empty() {
            return files;
        }
    }
    Vec::new()
}

/// The names that a runtime takes for configuration, in no order.
fn names(root: &File, folder: &str) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let Ok(opened) = open_in_root(root.as_fd(), Path::new(folder), flags) else { return Vec::new() };
    let Ok(entries) = Dir::new(opened) else { return Vec::new() };
    entries
        .take(MOST_NAMES)
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type() != FileType::Directory)
        .filter_map(|entry| entry.file_name().to_str().ok().map(ToOwned::to_owned))
        .filter(|name| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end)))
        .collect()
}

/// When a file was written, and what is in it.
fn read(root: &File, path: &str) -> (Option<i64>, io::Result<Vec<u8>>) {
    let handle = match open_in_root(root.as_fd(), Path::new(path), OFlags::PATH) {
        Ok(handle) => handle,
        Err(error) => return (None, Err(error)),
    };
    let stat = match fstat(&handle) {
        Ok(stat) => stat,
        Err(error) => return (None, Err(error.into())),
    };
    // On some architectures it is narrower, or unsigned.
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_fallible_conversions,
        reason = "the type differs by architecture"
    )]
    let modified = i64::try_from(stat.st_mtime).ok();
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return (modified, Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
    }
    (modified, reopen(&handle, OFlags::RDONLY).and_then(|file| read_whole(&file, MOST_BYTES)))
}

/// A file that states an MTU; `None` when it is not there.
fn mtu_file(root: &File, path: &str, parse: impl Fn(&str) -> Result<u32, String>) -> Option<MtuFile> {
    let (modified, bytes) = read(root, path);
    let content = match bytes {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => Err(error.to_string()),
        Ok(bytes) => std::str::from_utf8(&bytes).map_err(|_| "it is no text".to_owned()).and_then(parse),
    };
    Some(MtuFile { path: path.to_owned(), modified, content })
}

/// `FLANNEL_MTU` of subnet.env.
fn flannel_mtu(text: &str) -> Result<u32, String> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix("FLANNEL_MTU="));
    mtu_of_text(value.ok_or("it has no FLANNEL_MTU")?.trim_matches(['"', '\'', ' ']))
}

fn mtu_of_text(text: &str) -> Result<u32, String> {
    let short: String = text.chars().take(20).collect();
    let mtu = text.parse().ok().filter(|mtu| (68..=65_535).contains(mtu));
    mtu.ok_or_else(|| format!("`{short}` is no MTU"))
}

/// What a CNI configuration file of that name says, or why a runtime takes it for invalid.
///
/// # Errors
/// One sentence on what is wrong with it.
pub fn parse_cni(name: &str, bytes: &[u8]) -> Result<CniNetwork, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("it is not JSON: {e}"))?;
    let Some(map) = value.as_object() else { return Err("it is JSON, but no object".into()) };
    let mut network = CniNetwork {
        name: map.get("name").and_then(Value::as_str).map(ToOwned::to_owned),
        plugins: Vec::new(),
    };
    if name.ends_with(".conflist") {
        if network.name.is_none() {
            return Err("the list has no name".into());
        }
        let plugins = map.get("plugins").and_then(Value::as_array).filter(|list| !list.is_empty());
        for plugin in plugins.ok_or("the list has no plugins")? {
            collect(plugin, &mut network.plugins, 0)?;
        }
    } else {
        if map.get("plugins").is_some() && map.get("type").is_none() {
            return Err("it is a list of plugins: its name must end in .conflist".into());
        }
        collect(&value, &mut network.plugins, 0)?;
    }
    Ok(network)
}

/// A plugin and those that it hands the work to.
fn collect(value: &Value, plugins: &mut Vec<CniPlugin>, depth: u32) -> Result<(), String> {
    /// A delegate of a delegate is the deepest that is known.
    const DEEPEST: u32 = 3;
    if plugins.len() >= MOST_PLUGINS || depth > DEEPEST {
        return Ok(());
    }
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
    let kind = text(value, "type").filter(|t| !t.is_empty()).ok_or("a plugin has no type")?;
    // flannel sends its delegate's keys on; without a type that is a bridge.
    let (keys, maker) = match value.get("delegate").filter(|_| kind == "flannel") {
        Some(delegate) => (delegate, text(delegate, "type").unwrap_or_else(|| "bridge".into())),
        None if kind == "flannel" => (value, "bridge".into()),
        None => (value, kind.clone()),
    };
    let mtu_bytes = match keys.get("mtu").filter(|_| keys != value || kind != "flannel") {
        None | Some(Value::Null) => None,
        Some(Value::Number(n)) if n.as_u64() == Some(0) => None,
        Some(Value::Number(n)) => {
            Some(mtu_of_text(&n.to_string()).map_err(|e| format!("mtu of {kind}: {e}"))?)
        }
        Some(Value::String(s)) if s.is_empty() || s == "0" => None,
        Some(Value::String(s)) => Some(mtu_of_text(s).map_err(|e| format!("mtu of {kind}: {e}"))?),
        Some(_) => return Err(format!("mtu of {kind} is no number")),
    };
    let bridge = (maker == "bridge").then(|| text(keys, "bridge").unwrap_or_else(|| "cni0".into()));
    plugins.push(CniPlugin { kind, mtu_bytes, bridge });
    // Multus: a list of plugins, or of networks with plugins.
    for delegate in value.get("delegates").and_then(Value::as_array).into_iter().flatten() {
        match delegate.get("plugins").and_then(Value::as_array) {
            Some(list) => list.iter().try_for_each(|plugin| collect(plugin, plugins, depth + 1))?,
            None => collect(delegate, plugins, depth + 1)?,
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "cni_config_tests.rs"]
mod tests;
