//! Which containerd and CRI-O run, and with which arguments.

use crate::netns::Procfs;
use std::fs::File;
use std::os::fd::AsFd;

/// What they run; k3s and its containerd are one program.
const PROGRAMS: &[&[u8]] = &[b"containerd", b"crio", b"k3s"];

/// Arguments of each one that runs outside of pods.
pub(super) fn running(root: &File) -> Vec<Vec<String>> {
    let Ok(proc) = Procfs::in_root(root.as_fd()) else { return Vec::new() };
    let pids = proc.pids().unwrap_or_default().into_iter();
    pids.filter(|&pid| proc.runs(pid, may_be)).filter_map(|pid| runtime(&proc, pid)).collect()
}

/// Arguments of that one.
pub(super) fn of(root: &File, pid: u32) -> Option<Vec<String>> {
    runtime(&Procfs::in_root(root.as_fd()).ok()?, pid)
}

/// Arguments of a process, if it is a runtime of the node: a pod may have one of its own.
pub(super) fn runtime(proc: &Procfs, pid: u32) -> Option<Vec<String>> {
    let arguments = proc.arguments(pid);
    let program = arguments.first()?.rsplit('/').next()?;
    let ours = ["containerd", "crio"].contains(&program)
        && proc.text(pid, "cgroup").is_some_and(|cgroup| !cgroup.contains("kubepods"));
    ours.then_some(arguments)
}

fn may_be(name: &[u8]) -> bool {
    // Every pod has a shim.
    PROGRAMS.iter().any(|program| name.starts_with(program)) && !name.starts_with(b"containerd-shim")
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
