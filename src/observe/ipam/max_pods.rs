//! The kubelet's `maxPods`: its flag, else its drop-ins, else its configuration file, else its default.

use crate::facts::{KubeletProcess, MaxPods};
use crate::netns::read_in_root;
use crate::observe::kubelet::{drop_ins, given, value};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

const CONFIG: &str = "/var/lib/kubelet/config.yaml";
const MOST_BYTES: u64 = 1 << 20;
/// What the kubelet takes when nobody says anything (kubelet.config.k8s.io/v1beta1, `maxPods`).
const DEFAULT: u32 = 110;

/// What applies on the node whose file system is at `host_root`. `process` is the running kubelet, none when it does not
/// run; without it and without a configuration file it is unknown.
pub fn read_max_pods(host_root: &Path, process: Option<&KubeletProcess>) -> Option<MaxPods> {
    let root = File::open(host_root).ok()?;
    // What is not to be seen is unknown; a k3s server without an agent takes none.
    let given = match process {
        Some(process) => Some(given(&root, process).ok()??),
        None => None,
    };
    let flags = given.as_ref().map_or(&[][..], |given| given.flags.as_slice());
    if let Some(pods) = value(flags, "max-pods").and_then(|value| value.parse().ok()) {
        return Some(MaxPods { pods, source: "--max-pods of the kubelet".into() });
    }
    let read = |path: &str| read_in_root(root.as_fd(), Path::new(path), MOST_BYTES);
    let folder = value(flags, "config-dir");
    for path in folder.iter().flat_map(|folder| drop_ins(&root, folder)).rev() {
        if let Some(pods) = stated(&read(&path).ok()?)? {
            return Some(MaxPods { pods, source: path });
        }
    }
    let inside = given.as_ref().and_then(|given| given.inside);
    let path = value(flags, "config").or_else(|| inside.is_none().then(|| CONFIG.to_owned()));
    match path.map(|path| (read(&path), path)) {
        Some((Ok(bytes), path)) => Some(match stated(&bytes)? {
            Some(pods) => MaxPods { pods, source: path },
            None => default(&format!("{path} has no maxPods")),
        }),
        // A kubelet that runs without a file has the default.
        _ if folder.is_some() => Some(default("no file has maxPods")),
        _ => given.is_some().then(|| default("the kubelet has no configuration file")),
    }
}

fn default(why: &str) -> MaxPods {
    MaxPods { pods: DEFAULT, source: format!("the kubelet's default: {why}") }
}

/// `maxPods` of a file; 0 is the same as unset. `None` when it is no such file.
fn stated(bytes: &[u8]) -> Option<Option<u32>> {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(rename = "maxPods")]
        max_pods: Option<u32>,
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let config: Config = serde_norway::from_str(text).ok()?;
    Some(config.max_pods.filter(|pods| *pods > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: Option<&str>, arguments: &[&str]) -> Option<(u32, String)> {
        let root = tempfile::tempdir().unwrap();
        if let Some(text) = config {
            std::fs::create_dir_all(root.path().join("var/lib/kubelet")).unwrap();
            std::fs::write(root.path().join("var/lib/kubelet/config.yaml"), text).unwrap();
        }
        let process = KubeletProcess::of(arguments.iter().map(|&a| a.to_owned()).collect(), "");
        read_max_pods(root.path(), process.as_ref()).map(|max| (max.pods, max.source))
    }

    #[test]
    fn the_flag_wins_then_the_file_then_the_default() {
        let file = Some("kind: KubeletConfiguration\nmaxPods: 250\n");
        assert_eq!(read(file, &["kubelet", "--max-pods=30"]).unwrap().0, 30);
        assert_eq!(read(file, &["kubelet", "--max-pods", "31"]).unwrap().0, 31);
        assert_eq!(read(file, &[]), Some((250, "/var/lib/kubelet/config.yaml".into())));
        assert_eq!(read(Some("kind: KubeletConfiguration\n"), &[]).unwrap().0, 110);
        assert_eq!(read(None, &["kubelet"]).unwrap().0, 110);
    }

    #[test]
    fn of_a_kubelet_inside_of_k3s_where_k3s_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let read = |line: &[&str]| {
            let process = KubeletProcess::of(line.iter().map(|&a| a.to_owned()).collect(), "");
            read_max_pods(root.path(), process.as_ref()).map(|max| (max.pods, max.source))
        };
        put("var/lib/kubelet/config.yaml", "maxPods: 250\n");
        let plain = ["k3s", "server"];
        assert_eq!(read(&plain).unwrap().0, 110, "another kubelet's file was left behind");
        let folder = "var/lib/rancher/k3s/agent/etc/kubelet.conf.d";
        put(&format!("{folder}/00-k3s-defaults.conf"), "maxPods: 0\n");
        assert_eq!(read(&plain), Some((110, "the kubelet's default: no file has maxPods".into())));
        put(&format!("{folder}/10-x.conf"), "maxPods: 70\n");
        put(&format!("{folder}/20-y.conf"), "cgroupDriver: systemd\n");
        assert_eq!(read(&plain), Some((70, format!("/{folder}/10-x.conf"))));
        put("etc/rancher/k3s/config.yaml", "kubelet-arg: [max-pods=71]\n");
        assert_eq!(read(&plain).unwrap().0, 71);
        assert_eq!(read(&["k3s server"]), None, "hidden flags might say another");
        assert_eq!(read(&["k3s", "server", "--disable-agent"]), None);
    }

    #[test]
    fn what_nobody_says_is_unknown() {
        assert_eq!(read(None, &[]), None);
        assert_eq!(read(Some("a: [b"), &[]), None);
        assert_eq!(read(Some("maxPods: many"), &[]), None);
    }
}
