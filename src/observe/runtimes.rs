//! Which containerd and CRI-O run, and with which arguments.

use crate::netns::{open_in_root, read_in_root};
use rustix::fs::{Dir, OFlags, readlinkat};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const MOST_BYTES: u64 = 64 << 10;
const MOST_PIDS: usize = 100_000;
/// What they run; k3s and its containerd are one program.
const PROGRAMS: &[&[u8]] = &[b"containerd", b"crio", b"k3s"];

/// Arguments of each one that runs outside of pods.
pub(super) fn running(root: &File) -> Vec<Vec<String>> {
    let open = || open_in_root(root.as_fd(), Path::new("/proc"), OFlags::RDONLY | OFlags::DIRECTORY);
    let Ok((proc, entries)) = open().and_then(|proc| Ok((proc, Dir::new(open()?)?))) else {
        return Vec::new();
    };
    let pids = entries.take(MOST_PIDS).filter_map(Result::ok);
    let mut pids: Vec<u32> = pids.filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok()).collect();
    pids.sort_unstable();
    let read =
        |pid: u32, name: &str| read_in_root(proc.as_fd(), Path::new(&format!("{pid}/{name}")), MOST_BYTES);
    let text = |pid, name| read(pid, name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let arguments = |pid: u32| {
        let line = text(pid, "cmdline").ok()?;
        let arguments: Vec<String> =
            line.split('\0').filter(|a| !a.is_empty()).map(ToOwned::to_owned).collect();
        let program = arguments.first()?.rsplit('/').next()?;
        // A pod may have a runtime of its own.
        let ours = ["containerd", "crio"].contains(&program)
            && text(pid, "cgroup").is_ok_and(|cgroup| !cgroup.contains("kubepods"));
        ours.then_some(arguments)
    };
    pids.into_iter()
        .filter(|&pid| may_be(&proc, pid, || read(pid, "comm").ok()))
        .filter_map(arguments)
        .collect()
}

/// One link is cheaper to read than a file; where it cannot be read the kernel's own name for the process decides.
fn may_be(proc: &OwnedFd, pid: u32, name: impl FnOnce() -> Option<Vec<u8>>) -> bool {
    // Every pod has a shim.
    let known = |name: &[u8]| {
        PROGRAMS.iter().any(|program| name.starts_with(program)) && !name.starts_with(b"containerd-shim")
    };
    match readlinkat(proc, format!("{pid}/exe"), Vec::new()) {
        Ok(path) => path.to_bytes().rsplit(|&byte| byte == b'/').next().is_some_and(known),
        Err(_) => name().is_some_and(|name| known(&name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn runtimes_are_told_by_what_they_run_and_those_of_pods_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        assert_eq!(running(&root), Vec::<Vec<String>>::new());
        for (pid, exe, comm, line, cgroup) in [
            (
                1,
                Some("/usr/bin/containerd"),
                "",
                "/usr/bin/containerd\0",
                "0::/system.slice/containerd.service",
            ),
            (2, Some("/x/bin/k3s"), "", "containerd\0-c\0/k3s.toml\0", "0::/system.slice/k3s.service"),
            (3, Some("/x/bin/k3s"), "", "/usr/local/bin/k3s server\0", "0::/system.slice/k3s.service"),
            (4, Some("/usr/bin/containerd"), "", "containerd\0-c\0/pod\0", "0::/kubepods.slice/x"),
            (5, None, "crio\n", "/usr/bin/crio\0", "0::/system.slice/crio.service"),
            (6, Some("/usr/bin/containerd-shim-runc-v2"), "", "containerd-shim-runc-v2\0", "0::/"),
            (7, Some("/usr/bin/sleep"), "containerd\n", "containerd\0", "0::/"),
        ] {
            let folder = dir.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&folder).unwrap();
            if let Some(exe) = exe {
                symlink(exe, folder.join("exe")).unwrap();
            }
            for (name, text) in [("comm", comm), ("cmdline", line), ("cgroup", cgroup)] {
                std::fs::write(folder.join(name), text).unwrap();
            }
        }
        let found = running(&root);
        assert_eq!(
            found,
            [vec!["/usr/bin/containerd"], vec!["containerd", "-c", "/k3s.toml"], vec!["/usr/bin/crio"]]
        );
    }
}
