//! What /proc says: which container and pod a process belongs to, and whether a PID is still what a file or
//! the runtime says it is.

use crate::facts::KubeletProcess;
use crate::netns::{Process, ProcessError, Procfs, start_time};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The container and the pod that a cgroup path names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct CgroupOwner {
    /// 64 hex digits.
    pub(super) container: Option<String>,
    /// Pod UID, with dashes where the UID has them.
    pub(super) pod_uid: Option<String>,
}

/// Reads the text of /proc/PID/cgroup. All drivers put the pod's UID and the container's id into path names:
/// `…/kubepods/burstable/pod<uid>/<id>` (cgroupfs), `…-pod<uid with _>.slice/cri-containerd-<id>.scope`,
/// `crio-<id>.scope`, `docker-<id>.scope` (systemd), `….slice:cri-containerd:<id>` when the drivers of
/// kubelet and runtime do not match. v1 and v2, seen from this cgroup namespace or another (`/../…`).
pub(super) fn cgroup_owner(text: &str) -> CgroupOwner {
    let mut owner = CgroupOwner::default();
    for line in text.lines() {
        let Some(path) = line.splitn(3, ':').nth(2) else { continue };
        for part in path.split('/') {
            if let Some(uid) = pod_uid(part) {
                owner.pod_uid = Some(uid);
            }
            if let Some(id) = container_id(part) {
                owner.container = Some(id);
            }
        }
        if owner.container.is_some() && owner.pod_uid.is_some() {
            break;
        }
    }
    owner
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn container_id(part: &str) -> Option<String> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let start = part.len().checked_sub(64)?;
    let id = part.get(start..)?;
    // conmon's own scope is named after the container and is not it.
    let monitor = part.starts_with("crio-conmon-") || part.starts_with("libpod-conmon-");
    let cut = start == 0 || matches!(part.as_bytes().get(start - 1), Some(b'-' | b':' | b'_'));
    (is_hex(id) && cut && !monitor).then(|| id.to_owned())
}

fn pod_uid(part: &str) -> Option<String> {
    // A mismatch of drivers leaves `….slice:cri-containerd:<id>` in one name.
    let part = part.split(':').next()?;
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let at = part.rfind("pod").filter(|&at| at == 0 || part.as_bytes().get(at - 1) == Some(&b'-'))?;
    let uid = part.get(at + 3..)?.replace('_', "-");
    let digits = uid.bytes().filter(|&b| b != b'-').count();
    (digits == 32 && is_hex(&uid.replace('-', ""))).then_some(uid)
}

/// The node's /proc.
#[derive(Debug)]
pub(super) struct Proc {
    root: PathBuf,
    /// None when it is not there.
    open: Option<Procfs>,
}

/// Which process is meant by a PID.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    /// Container or sandbox id.
    pub(super) id: &'a str,
    /// Pod UID.
    pub(super) uid: &'a str,
    /// Start time in clock ticks, where a file has it.
    pub(super) start: Option<u64>,
}

/// What one pass over /proc found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The process of each container that started first.
    pub(super) containers: HashMap<String, u32>,
    /// Pod UID of each of those containers.
    pub(super) pods: HashMap<String, String>,
    /// Folders that hold the bundles of running shims, as the node names them.
    pub(super) bundle_folders: Vec<PathBuf>,
}

impl Proc {
    pub(super) fn new(root: PathBuf) -> Self {
        let open = Procfs::open(&root).ok();
        Self { root, open }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn text(&self, pid: u32, name: &str) -> Option<String> {
        self.open.as_ref()?.text(pid, name)
    }

    /// Whether this is a /proc at all: without one nothing can be said of any process.
    pub(super) fn is_there(&self) -> bool {
        self.text(1, "stat").is_some_and(|stat| !stat.is_empty())
    }

    /// The container and pod that a process belongs to.
    pub(super) fn owner(&self, pid: u32) -> CgroupOwner {
        cgroup_owner(&self.text(pid, "cgroup").unwrap_or_default())
    }

    /// As [`Proc::owner`], by one cgroup alone: on v1 a dozen paths take the kernel ten times as long.
    fn cpuset_owner(&self, pid: u32) -> CgroupOwner {
        cgroup_owner(&format!("::{}", self.text(pid, "cpuset").unwrap_or_default()))
    }

    /// Pins `pid` if it lives and is the process that is meant: its cgroup names the container, or the pod. Where
    /// it names neither, as with some sandboxed runtimes, the start time has to be the recorded one; `recorded`
    /// is then asked for it, unless it is known.
    pub(super) fn confirm(
        &self,
        pid: u32,
        expected: Expected<'_>,
        recorded: impl FnOnce() -> Option<u64>,
    ) -> Result<Process, ProcessError> {
        let process = Process::open(&self.root, pid, expected.start)?;
        let near = self.cpuset_owner(pid);
        if near.container.as_deref() == Some(expected.id) {
            return Ok(process);
        }
        let owner = self.owner(pid);
        let meant = match (owner.container.as_deref(), owner.pod_uid.as_deref()) {
            (Some(id), _) => id == expected.id,
            (None, Some(uid)) => uid == expected.uid,
            (None, None) => {
                let started = process.start_time()?;
                expected.start.or_else(recorded) == Some(started)
            }
        };
        if meant { Ok(process) } else { Err(ProcessError::Ended { pid }) }
    }

    /// Inode of the network namespace of a process: `net:[4026531840]`.
    pub(super) fn netns_inode(&self, pid: u32) -> Option<u64> {
        let link = self.open.as_ref()?.link(pid, "ns/net")?;
        std::str::from_utf8(&link).ok()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
    }

    /// Every PID of this /proc, in ascending order.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.open.as_ref().and_then(|open| open.pids().ok()).unwrap_or_default()
    }

    /// The running kubelet; one that has a process of its own before one inside of k3s or kubelite.
    pub(super) fn kubelet(&self) -> Option<KubeletProcess> {
        let mut inside = None;
        let proc = self.open.as_ref()?;
        // What a process runs is cheaper to read than the memory that holds the arguments.
        let may_be = |name: &[u8]| name.starts_with(b"kubel") || name.starts_with(b"k3s");
        for pid in self.pids().into_iter().filter(|&pid| proc.runs(pid, may_be)) {
            let cgroup = proc.text(pid, "cgroup").unwrap_or_default();
            match KubeletProcess::of(proc.arguments(pid), &cgroup) {
                Some(kubelet) if kubelet.inside.is_none() => return Some(kubelet),
                found => inside = inside.or(found),
            }
        }
        inside
    }

    /// One pass over every process.
    pub(super) fn scan(&self) -> Scan {
        let mut scan = Scan::default();
        let mut started: HashMap<String, u64> = HashMap::new();
        for pid in self.pids() {
            let owner = self.owner(pid);
            let Some(id) = owner.container else {
                self.note_shim(pid, &mut scan);
                continue;
            };
            let Ok(start) = start_time(&self.root, pid) else { continue };
            if started.get(&id).is_none_or(|&first| start < first) {
                started.insert(id.clone(), start);
                if let Some(uid) = owner.pod_uid {
                    scan.pods.insert(id.clone(), uid);
                }
                scan.containers.insert(id, pid);
            }
        }
        scan
    }

    /// A containerd shim stands in the bundle of its sandbox: that is where the bundles are, wherever the
    /// runtime was told to keep its state.
    fn note_shim(&self, pid: u32, scan: &mut Scan) {
        if self.text(pid, "comm").is_none_or(|name| !name.starts_with("containerd-shim")) {
            return;
        }
        let folder = std::fs::read_link(self.root.join(pid.to_string()).join("cwd"))
            .ok()
            .and_then(|cwd| cwd.parent().map(Path::to_owned));
        if let Some(folder) = folder
            && !scan.bundle_folders.contains(&folder)
        {
            scan.bundle_folders.push(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "f687faf1239d5c7575712eec7e01accebd0e529ed80bbf1d2c3567e9a67cc1a3";
    const UID: &str = "1ffb5b88-6734-49ea-9e18-586f0692991c";

    fn owner(line: &str) -> (Option<String>, Option<String>) {
        let owner = cgroup_owner(line);
        (owner.container, owner.pod_uid)
    }

    #[test]
    fn every_drivers_path_names_container_and_pod() {
        let uid_ = UID.replace('-', "_");
        let found = (Some(ID.to_owned()), Some(UID.to_owned()));
        for path in [
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid_}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/payload/kubepods.slice/kubepods-pod{uid_}.slice/crio-{ID}.scope"),
            format!("/../../kubepods.slice/kubepods-pod{uid_}.slice/docker-{ID}.scope"),
            format!("/kubepods/besteffort/pod{UID}/{ID}"),
            format!("/kubepods/pod{UID}/crio-{ID}"),
            format!(
                "/system.slice/containerd.service/kubepods-besteffort-pod{uid_}.slice:cri-containerd:{ID}"
            ),
            format!("/kubepods/burstable/pod{UID}/{ID}/init.scope"),
            format!("/kubelet.slice/kubelet-kubepods-pod{uid_}.slice/cri-containerd-{ID}.scope"),
        ] {
            assert_eq!(owner(&format!("0::{path}")), found, "{path}");
            assert_eq!(owner(&format!("9:name=systemd:/\n4:memory:{path}\n")), found, "{path}");
        }
    }

    #[test]
    fn a_static_pods_uid_has_no_dashes() {
        let line = format!("0::/kubepods/pod288d52096ffe704195cb2f264927b79e/{ID}");
        assert_eq!(owner(&line).1.as_deref(), Some("288d52096ffe704195cb2f264927b79e"));
    }

    #[test]
    fn what_is_no_container_names_none() {
        for line in [
            "0::/",
            "",
            "::::",
            "0::/user.slice/user-0.slice/session-1.scope",
            "0::/system.slice/podman.service",
            "0::/kubepods.slice/kubepods-burstable.slice",
            &format!("0::/system.slice/crio-conmon-{ID}.scope"),
            &format!("0::/x/{}", &ID[1..]),
            &format!("0::/x/a{ID}"),
        ] {
            assert_eq!(owner(line), (None, None), "{line}");
        }
    }

    /// A process of a made-up /proc.
    pub(crate) fn process(proc: &Path, pid: u32, state: char, start: u64, cgroup: &str) {
        let folder = proc.join(pid.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let stat = format!("{pid} (a) b) {state} 1 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 {start} 9 9");
        std::fs::write(folder.join("stat"), stat).unwrap();
        std::fs::write(folder.join("cgroup"), cgroup).unwrap();
    }

    #[test]
    fn a_pid_is_believed_only_when_alive_and_in_its_cgroup() {
        let dir = tempfile::tempdir().unwrap();
        let mine = format!("0::/kubepods/pod{UID}/{ID}");
        process(dir.path(), 7, 'S', 100, &mine);
        process(dir.path(), 8, 'Z', 100, &mine);
        process(dir.path(), 9, 'S', 100, "0::/system.slice/sshd.service");
        process(dir.path(), 10, 'S', 100, &format!("0::/kubepods/pod{UID}/{}", ID.replace('f', "e")));
        process(dir.path(), 11, 'S', 100, &format!("0::/kubepods/pod{UID}"));
        let proc = Proc::new(dir.path().to_owned());
        let confirms = |pid, start| proc.confirm(pid, Expected { id: ID, uid: UID, start }, || None).is_ok();
        assert!(confirms(7, None));
        assert!(confirms(7, Some(100)));
        assert!(!confirms(7, Some(99)), "the PID was reused by a later process");
        assert!(!confirms(8, None), "a zombie has ended");
        assert!(!confirms(9, None), "another service has the PID now");
        assert!(confirms(9, Some(100)), "the very same start time, a runtime without pod cgroups");
        assert!(!confirms(10, Some(100)), "a container of the same pod has the PID now");
        assert!(confirms(11, None), "the pod's own cgroup");
        assert!(!confirms(12, None));
        assert!(!confirms(0, None));
        let late = |start| proc.confirm(9, Expected { id: ID, uid: UID, start: None }, || start).is_ok();
        assert!(
            late(Some(100)) && !late(Some(99)) && !late(None),
            "a start time that is looked up on demand"
        );
    }

    #[test]
    fn a_kubelet_of_its_own_comes_before_one_inside_of_k3s() {
        let dir = tempfile::tempdir().unwrap();
        let put = |pid: u32, comm: &str, line: &str, cgroup: &str| {
            process(dir.path(), pid, 'S', 1, cgroup);
            std::fs::write(dir.path().join(format!("{pid}/comm")), comm).unwrap();
            std::fs::write(dir.path().join(format!("{pid}/cmdline")), line).unwrap();
        };
        let proc = Proc::new(dir.path().to_owned());
        put(1, "k3s-server\n", "k3s\0server\0", &format!("0::/kubepods/pod{UID}/{ID}"));
        put(2, "kubectl\n", "kubelet\0", "0::/");
        put(5, "kubelet\n", "kubelet\0--config=/x\0", &format!("0::/kubepods/pod{UID}/{ID}"));
        assert_eq!(proc.kubelet(), None);
        put(3, "k3s-server\n", "/usr/local/bin/k3s server\0\0", "0::/system.slice/k3s.service");
        let found = proc.kubelet().unwrap();
        assert_eq!((found.hidden, found.unit.as_deref()), (true, Some("k3s.service")));
        put(4, "kubelet\n", "/usr/bin/kubelet\0--max-pods=3\0", "0::/");
        assert_eq!(proc.kubelet().unwrap().arguments, ["/usr/bin/kubelet", "--max-pods=3"]);
    }

    #[test]
    fn a_scan_takes_the_oldest_process_of_a_container() {
        let dir = tempfile::tempdir().unwrap();
        let mine = format!("0::/kubepods/pod{UID}/{ID}");
        process(dir.path(), 70, 'S', 300, &mine);
        process(dir.path(), 71, 'S', 100, &mine);
        process(dir.path(), 72, 'Z', 50, &mine);
        process(dir.path(), 73, 'S', 10, "0::/");
        std::fs::write(dir.path().join("73/comm"), "containerd-shim\n").unwrap();
        std::os::unix::fs::symlink("/run/else/k8s.io/abc", dir.path().join("73/cwd")).unwrap();
        let scan = Proc::new(dir.path().to_owned()).scan();
        assert_eq!(scan.containers, HashMap::from([(ID.to_owned(), 71)]));
        assert_eq!(scan.pods, HashMap::from([(ID.to_owned(), UID.to_owned())]));
        assert_eq!(scan.bundle_folders, [PathBuf::from("/run/else/k8s.io")]);
    }
}
