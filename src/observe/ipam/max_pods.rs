//! The kubelet's `maxPods`: its flag, else its configuration file, else its default.

use crate::facts::MaxPods;
use crate::netns::read_in_root;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

const CONFIG: &str = "/var/lib/kubelet/config.yaml";
const MOST_BYTES: u64 = 1 << 20;
/// What the kubelet takes when nobody says anything (kubelet.config.k8s.io/v1beta1, `maxPods`).
const DEFAULT: u32 = 110;

/// What applies on the node whose file system is at `host_root`. `arguments` are those of the running kubelet, none
/// when it does not run; without them and without a configuration file it is unknown.
pub fn read_max_pods(host_root: &Path, arguments: &[String]) -> Option<MaxPods> {
    if let Some(pods) = flag(arguments, "max-pods").and_then(|value| value.parse().ok()) {
        return Some(MaxPods { pods, source: "--max-pods of the kubelet".into() });
    }
    let path = flag(arguments, "config").unwrap_or_else(|| CONFIG.to_owned());
    let root = File::open(host_root).ok()?;
    match read_in_root(root.as_fd(), Path::new(&path), MOST_BYTES) {
        Ok(bytes) => in_config(&bytes, path),
        // A kubelet that runs without a file has the default.
        Err(_) => (!arguments.is_empty()).then(|| default("the kubelet has no configuration file")),
    }
}

fn default(why: &str) -> MaxPods {
    MaxPods { pods: DEFAULT, source: format!("the kubelet's default: {why}") }
}

/// A file that is no YAML says nothing.
fn in_config(bytes: &[u8], path: String) -> Option<MaxPods> {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(rename = "maxPods")]
        max_pods: Option<u32>,
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let config: Config = serde_norway::from_str(text).ok()?;
    Some(match config.max_pods.filter(|pods| *pods > 0) {
        Some(pods) => MaxPods { pods, source: path },
        None => default(&format!("{path} has no maxPods")),
    })
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

    fn read(config: Option<&str>, arguments: &[&str]) -> Option<(u32, String)> {
        let root = tempfile::tempdir().unwrap();
        if let Some(text) = config {
            std::fs::create_dir_all(root.path().join("var/lib/kubelet")).unwrap();
            std::fs::write(root.path().join("var/lib/kubelet/config.yaml"), text).unwrap();
        }
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        read_max_pods(root.path(), &arguments).map(|max| (max.pods, max.source))
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
    fn what_nobody_says_is_unknown() {
        assert_eq!(read(None, &[]), None);
        assert_eq!(read(Some("a: [b"), &[]), None);
        assert_eq!(read(Some("maxPods: many"), &[]), None);
    }
}
