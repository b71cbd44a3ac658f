//! Processes of the kubelet and the runtimes, where systemd does not tell.

use crate::facts::NodeProcess;
use crate::netns::{Procfs, read_in_root};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

const NAMES: &[&str] = &[
    "kubelet",
    "containerd",
    "crio",
    "dockerd",
    "cri-dockerd",
    "k3s",
    "k3s-server",
    "k3s-agent",
    "rke2",
    "k0s",
    "kubelite",
];
const MOST_BYTES: u64 = 64 << 10;

/// Those that run outside of pods.
///
/// # Errors
/// The kernel's, when /proc cannot be listed.
pub(super) fn read(root: &File) -> io::Result<Vec<NodeProcess>> {
    let proc = Procfs::in_root(root.as_fd())?;
    let stat = read_in_root(root.as_fd(), Path::new("/proc/stat"), MOST_BYTES).unwrap_or_default();
    let booted: Option<i64> = String::from_utf8_lossy(&stat)
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    let mut found = Vec::new();
    for pid in proc.pids()? {
        let Some(name) = proc.text(pid, "comm").map(|name| name.trim_end().to_owned()) else {
            continue;
        };
        if !NAMES.contains(&name.as_str()) {
            continue;
        }
        // A container may call its process what it likes.
        if proc.text(pid, "cgroup").is_none_or(|cgroup| cgroup.contains("kubepods")) {
            continue;
        }
        let since = proc.text(pid, "stat").and_then(|stat| started(&stat)).zip(booted);
        found.push(NodeProcess { name, pid, since: since.map(|(after, booted)| booted + after) });
    }
    Ok(found)
}

/// Field 22 of stat, in seconds after boot: USER_HZ is 100 on every architecture that Kubernetes runs on.
fn started(stat: &str) -> Option<i64> {
    let after_name = stat.rsplit_once(')')?.1;
    Some(after_name.split_ascii_whitespace().nth(19)?.parse::<i64>().ok()? / 100)
}
