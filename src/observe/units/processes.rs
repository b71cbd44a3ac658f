//! Processes of the kubelet and the runtimes, where systemd does not tell.

use crate::facts::NodeProcess;
use crate::netns::{open_in_root, read_in_root};
use rustix::fs::{Dir, OFlags};
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
    let proc = open_in_root(root.as_fd(), Path::new("/proc"), OFlags::RDONLY | OFlags::DIRECTORY)?;
    let text = |path: &str| {
        let bytes = read_in_root(root.as_fd(), Path::new(path), MOST_BYTES).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let booted: Option<i64> = text("/proc/stat")
        .and_then(|stat| stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()));
    let mut found = Vec::new();
    for entry in Dir::read_from(proc)?.filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Some(name) = text(&format!("/proc/{pid}/comm")).map(|name| name.trim_end().to_owned()) else {
            continue;
        };
        if !NAMES.contains(&name.as_str()) {
            continue;
        }
        // A container may call its process what it likes.
        if text(&format!("/proc/{pid}/cgroup")).is_none_or(|cgroup| cgroup.contains("kubepods")) {
            continue;
        }
        let since = text(&format!("/proc/{pid}/stat")).and_then(|stat| started(&stat)).zip(booted);
        found.push(NodeProcess { name, pid, since: since.map(|(after, booted)| booted + after) });
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// Field 22 of stat, in seconds after boot: USER_HZ is 100 on every architecture that Kubernetes runs on.
fn started(stat: &str) -> Option<i64> {
    let after_name = stat.rsplit_once(')')?.1;
    Some(after_name.split_ascii_whitespace().nth(19)?.parse::<i64>().ok()? / 100)
}
