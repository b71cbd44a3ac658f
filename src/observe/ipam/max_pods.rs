//! The kubelet's `maxPods`: what it is configured to, else its default.

use crate::facts::{KubeletProcess, MaxPods};
use crate::observe::kubelet::{given, read_config};
use std::fs::File;
use std::path::Path;

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
    let config = read_config(&root, given.as_ref()).ok()?;
    Some(match config.max_pods {
        Some(stated) => MaxPods { pods: stated.value, source: stated.source },
        None => MaxPods { pods: DEFAULT, source: "the kubelet's default: no file has maxPods".into() },
    })
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
