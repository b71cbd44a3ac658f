//! What cgroups count of memory, version 2 and 1.

use crate::facts::MemoryUse;
use crate::netns::read_in_root;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// Largest file that is read.
const MOST_BYTES: u64 = 64 << 10;

/// The cgroup of a process and that of its pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodCgroup {
    /// Of the process: its container's.
    pub container: Option<MemoryUse>,
    /// Of the pod, above it.
    pub pod: Option<MemoryUse>,
}

/// Reads the memory of a process's cgroup, and of its pod's when a folder above is named by its UID.
pub fn read_memory(host_root: &Path, pid: u32, uid: &str) -> PodCgroup {
    let Ok(root) = File::open(host_root) else { return PodCgroup::default() };
    let Some(text) = text(&root, &format!("/proc/{pid}/cgroup")) else { return PodCgroup::default() };
    let Some((place, path)) = locate(&text) else { return PodCgroup::default() };
    let container = read(&root, place, &path);
    let parts: Vec<&str> = path.split('/').collect();
    let above = parts.iter().rposition(|part| names_pod(part, uid));
    let pod = above.and_then(|at| read_pod(&root, place, &parts.get(..=at)?.join("/")));
    PodCgroup { container, pod }
}

/// The same of a pod of which nothing lives, where kubelets put it.
pub fn read_pod_memory(host_root: &Path, uid: &str) -> Option<MemoryUse> {
    let root = File::open(host_root).ok()?;
    places(uid).find_map(|(place, path)| read_pod(&root, place, &path))
}

/// That of a container by its id, where runtimes put it: from inside another cgroup namespace /proc does not tell.
pub fn read_container_memory(host_root: &Path, uid: &str, id: &str) -> Option<MemoryUse> {
    let root = File::open(host_root).ok()?;
    let names = ["", "cri-containerd-", "crio-", "docker-"];
    let leaf = |name: &&str| if name.is_empty() { id.to_owned() } else { format!("{name}{id}.scope") };
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !plain(id) || !plain(uid) {
        return None;
    }
    places(uid).find_map(|(place, path)| {
        names.iter().find_map(|name| read(&root, place, &format!("{path}/{}", leaf(name))))
    })
}

/// Hierarchies, and a pod's folder in them by each driver and class.
fn places(uid: &str) -> impl Iterator<Item = (&'static str, String)> {
    let flat = uid.replace('-', "_");
    let mut paths = Vec::new();
    for place in ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"] {
        for (slice, dash, folder) in [
            ("", "", ""),
            ("/kubepods-burstable.slice", "-burstable", "/burstable"),
            ("/kubepods-besteffort.slice", "-besteffort", "/besteffort"),
        ] {
            paths.push((place, format!("/kubepods.slice{slice}/kubepods{dash}-pod{flat}.slice")));
            paths.push((place, format!("/kubepods{folder}/pod{uid}")));
        }
    }
    paths.into_iter()
}

/// `pod<uid>` in the name of a folder, with the UID as systemd's units write it too.
fn names_pod(part: &str, uid: &str) -> bool {
    !uid.is_empty()
        && (part.contains(&format!("pod{uid}")) || part.contains(&format!("pod{}", uid.replace('-', "_"))))
}

/// Where the memory hierarchy is mounted, and the path in it; `/..` comes from another cgroup namespace.
fn locate(text: &str) -> Option<(&'static str, String)> {
    let mut unified = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let path: String = path
            .split('/')
            .filter(|part| !part.is_empty() && *part != "..")
            .map(|part| format!("/{part}"))
            .collect();
        if controllers.split(',').any(|name| name == "memory") {
            return Some(("/sys/fs/cgroup/memory", path));
        }
        if id == "0" && controllers.is_empty() {
            unified = Some(path);
        }
    }
    Some(("/sys/fs/cgroup", unified?))
}

/// Of version 1 the counts of a folder are its own processes' alone, and a pod's has none.
fn read_pod(root: &File, place: &str, path: &str) -> Option<MemoryUse> {
    let mut memory = read(root, place, path)?;
    if place.ends_with("/memory") {
        memory.oom_kills = None;
    }
    Some(memory)
}

fn read(root: &File, place: &str, path: &str) -> Option<MemoryUse> {
    let folder = format!("{place}{path}");
    let number = |name: &str| -> Option<u64> { text(root, &format!("{folder}/{name}"))?.trim().parse().ok() };
    let count = |name: &str, key: &str| -> Option<u64> {
        let text = text(root, &format!("{folder}/{name}"))?;
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
    };
    let limit_text = text(root, &format!("{folder}/memory.max"));
    let found = if let Some(limit) = limit_text {
        let limit = limit.trim();
        MemoryUse {
            used_bytes: number("memory.current"),
            peak_bytes: number("memory.peak"),
            limit_bytes: if limit == "max" { Some(0) } else { limit.parse().ok() },
            // A victim whose whole cgroup is killed is counted twice: as the one that was chosen, and with all of them.
            oom_kills: count("memory.events", "oom_kill")
                .map(|kills| kills.saturating_sub(count("memory.events", "oom_group_kill").unwrap_or(0))),
            limit_hits: count("memory.events", "max"),
            path: folder,
        }
    } else {
        MemoryUse {
            used_bytes: number("memory.usage_in_bytes"),
            peak_bytes: number("memory.max_usage_in_bytes"),
            // No limit is the largest number of pages.
            limit_bytes: number("memory.limit_in_bytes")
                .map(|limit| if limit >= 1 << 60 { 0 } else { limit }),
            oom_kills: count("memory.oom_control", "oom_kill"),
            limit_hits: number("memory.failcnt"),
            path: folder,
        }
    };
    found.used_bytes.or(found.limit_bytes).map(|_| found.clone())
}

fn text(root: &File, path: &str) -> Option<String> {
    String::from_utf8(read_in_root(root.as_fd(), Path::new(path), MOST_BYTES).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "4d7f992a-0169-446e-bb4d-b8260266d92c";

    #[test]
    fn version_one_two_and_another_namespace_are_located() {
        let one = "12:pids:/x\n4:cpu,memory:/kubepods/burstable/podU/c\n0::/init\n";
        assert_eq!(locate(one).unwrap(), ("/sys/fs/cgroup/memory", "/kubepods/burstable/podU/c".into()));
        assert_eq!(locate("0::/../a/b\n").unwrap(), ("/sys/fs/cgroup", "/a/b".into()));
        assert_eq!(locate("0::/\n").unwrap(), ("/sys/fs/cgroup", String::new()));
        assert_eq!(locate("garbage"), None);
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_pods_own_counts_are_read_beside_its_containers() {
        let pod = "sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod4d7f992a_0169_446e_bb4d_b8260266d92c.slice";
        let leaf = format!("{pod}/cri-containerd-aa.scope");
        let root = tree(&[
            ("proc/7/cgroup", &format!("0::/{}\n", leaf.strip_prefix("sys/fs/cgroup/").unwrap())),
            (&format!("{leaf}/memory.max"), "25165824\n"),
            (&format!("{leaf}/memory.current"), "1048576\n"),
            (&format!("{leaf}/memory.events"), "low 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 0\n"),
            (&format!("{pod}/memory.max"), "max\n"),
            (&format!("{pod}/memory.events"), "oom_kill 9\n"),
        ]);
        let found = read_memory(root.path(), 7, UID);
        let container = found.container.unwrap();
        assert_eq!((container.limit_bytes, container.used_bytes), (Some(25_165_824), Some(1_048_576)));
        assert_eq!((container.oom_kills, container.limit_hits), (Some(2), Some(7)));
        let above = found.pod.unwrap();
        assert_eq!((above.limit_bytes, above.oom_kills, above.used_bytes), (Some(0), Some(9), None));
        assert_eq!(read_pod_memory(root.path(), UID), Some(above), "found without a process");
        assert_eq!(read_pod_memory(root.path(), "other"), None);
        assert_eq!(read_container_memory(root.path(), UID, "aa"), Some(container), "and by its id");
        assert_eq!(read_container_memory(root.path(), UID, "../x"), None);
    }

    /// The cgroups of a machine after OOM kills: `## path`, then `file: text`, with a bar for each end of a line.
    fn recorded() -> tempfile::TempDir {
        let text = include_str!("../../../tests/fixtures/why/cgroup-v2-after-oom.txt");
        let mut files: Vec<(String, String)> = Vec::new();
        let mut folder = "";
        for line in text.lines() {
            match line.split_once(": ") {
                None => folder = line.strip_prefix("## ").unwrap_or(folder),
                Some((name, text)) => {
                    files.push((
                        format!("sys/fs/cgroup{folder}/{name}"),
                        format!("{}\n", text.replace('|', "\n")),
                    ));
                }
            }
        }
        tree(&files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect::<Vec<_>>())
    }

    #[test]
    fn what_a_recorded_machine_counted_of_its_kills() {
        let root = recorded();
        let pod = |uid: &str| read_pod_memory(root.path(), uid).unwrap();
        // Four times its only process, each counted twice; the limit is its pod's, which is all that is left.
        let main = pod("23fae242d6181fc95b728d32cc55ced2");
        assert_eq!((main.oom_kills, main.limit_hits, main.limit_bytes), (Some(4), Some(128), Some(48 << 20)));
        assert_eq!((main.used_bytes, main.peak_bytes), (Some(258_048), Some(48 << 20)));
        // Two processes of one container, killed together; another container has no limit, so the pod has none.
        let group = pod("e16c4656b21e33cc5fb28eb7534c6720");
        assert_eq!((group.oom_kills, group.limit_hits, group.limit_bytes), (Some(2), Some(20), Some(0)));
        let calm = pod("9f1c94bce8e0ca61da4bedf5dcb7b17a");
        assert_eq!((calm.oom_kills, calm.limit_hits), (Some(0), Some(0)));
    }

    #[test]
    fn version_one_has_its_own_files() {
        let root = tree(&[
            ("proc/7/cgroup", &format!("3:memory:/kubepods/pod{UID}/aa\n")),
            (
                &format!("sys/fs/cgroup/memory/kubepods/pod{UID}/aa/memory.limit_in_bytes"),
                "9223372036854771712\n",
            ),
            (&format!("sys/fs/cgroup/memory/kubepods/pod{UID}/aa/memory.usage_in_bytes"), "4096\n"),
            (&format!("sys/fs/cgroup/memory/kubepods/pod{UID}/aa/memory.failcnt"), "31\n"),
            (
                &format!("sys/fs/cgroup/memory/kubepods/pod{UID}/aa/memory.oom_control"),
                "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            ),
        ]);
        let container = read_memory(root.path(), 7, UID).container.unwrap();
        assert_eq!(
            (container.limit_bytes, container.limit_hits, container.oom_kills),
            (Some(0), Some(31), Some(1))
        );
        assert_eq!(container.used_bytes, Some(4096));
    }
}
