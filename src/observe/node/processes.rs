//! One pass over /proc, and a second look at what hung in the first.
//!
//! Sources: proc_pid_stat(5), proc_pid_wchan(5), proc_pid_stack(5), proc_pid_cgroup(5).

use crate::facts::{Blocked, CgroupDriver, KubeletProcess, NodeProcesses, Seen};
use crate::netns::Procfs;
use crate::observe::runtimes;
use rustix::fs::{Dir, Mode, OFlags, openat};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Between the two looks: what has not run meanwhile hangs.
const PAUSE: Duration = Duration::from_millis(150);
/// `PF_KTHREAD` (linux/sched.h): the kernel's own threads may wait like that for good.
const KERNEL_THREAD: u64 = 0x0020_0000;

const MOST_THREADS: usize = 10_000;
/// Whose threads are looked at one by one: they go on running while one of them hangs.
const DAEMONS: &[&str] = &["kubelet", "containerd", "crio", "dockerd", "cri-dockerd"];
/// Names of processes that have a kubelet inside; what k3s executes for `k3s server` is called `k3s-server`.
const HOSTS: &[&str] = &["k3s", "k3s-server", "k3s-agent", "kubelite"];

/// The processes, and `/proc/PID/cgroup` of a kubelet, of runtimes and of one pod, by name.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) processes: NodeProcesses,
    pub(super) cgroups: BTreeMap<&'static str, String>,
}

/// Who runs, and who hangs.
pub(super) fn read(path: &Path) -> Seen<Found> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let proc = &Procfs::open(path).map_err(told)?;
    let pids = proc.pids().map_err(told)?;
    let mut found = NodeProcesses::default();
    let mut cgroups = BTreeMap::new();
    let mut hanging = Vec::new();
    let mut any = false;
    for pid in pids {
        let Some(stat) = proc.text(pid, "stat") else { continue };
        any = true;
        let Some((name, state, flags)) = parse_stat(&stat) else { continue };
        if flags & KERNEL_THREAD != 0 {
            continue;
        }
        let host = HOSTS.contains(&name).then(|| embedded(proc, pid)).flatten();
        let inside = host.as_ref().and_then(|host| host.inside).map(|host| host.name());
        let daemon = inside.or_else(|| DAEMONS.iter().copied().find(|daemon| *daemon == name));
        match daemon {
            None if state == "D" => hanging.push((pid, name.to_owned(), switches(proc, pid))),
            None => {}
            Some(daemon) => {
                let blocked = blocked_threads(proc, pid);
                hanging.extend(blocked.map(|thread| (thread, daemon.to_owned(), switches(proc, thread))));
            }
        }
        if name == "containerd" || name == "crio" {
            found.runtimes.extend(runtimes::runtime(proc, pid));
        }
        if name == "kubelet" || name.starts_with("node-problem") {
            let arguments = proc.arguments(pid);
            let program = arguments.first().and_then(|a| a.rsplit('/').next()).unwrap_or_default();
            match program {
                "kubelet" => {
                    let cgroup = proc.text(pid, "cgroup").unwrap_or_default();
                    found.kubelet = KubeletProcess::of(arguments, &cgroup).or(found.kubelet.take());
                }
                "node-problem-detector" => found.problem_detector = true,
                _ => {}
            }
        }
        // One that has a process of its own is the node's.
        if let Some(host) = host {
            found.kubelet.get_or_insert(host);
        }
        if let Some(text) = proc.text(pid, "cgroup") {
            if note_cgroup(&mut found, &text) {
                cgroups.entry("kubepods").or_insert_with(|| text.clone());
            } else if let Some(daemon) = daemon {
                cgroups.insert(daemon, text);
            }
        }
    }
    if !any {
        return Err(format!("{} holds no processes", path.display()));
    }
    if !hanging.is_empty() {
        std::thread::sleep(PAUSE);
    }
    for (pid, name, before) in hanging {
        let still = proc
            .text(pid, "stat")
            .is_some_and(|stat| parse_stat(&stat).is_some_and(|(_, state, _)| state == "D"));
        if still && before.is_some() && switches(proc, pid) == before {
            let wchan = proc.text(pid, "wchan").filter(|w| !w.is_empty() && w != "0");
            let wchan = wchan.or_else(|| top_of_stack(&proc.text(pid, "stack")?));
            found.blocked.push(Blocked { pid, name, wchan });
        }
    }
    Ok(Found { processes: found, cgroups })
}

/// The kubelet inside a process that is called like a program that has one.
fn embedded(proc: &Procfs, pid: u32) -> Option<KubeletProcess> {
    let cgroup = proc.text(pid, "cgroup")?;
    KubeletProcess::of(proc.arguments(pid), &cgroup).filter(|process| process.inside.is_some())
}

/// Threads of a process that are in state D, by number.
fn blocked_threads(proc: &Procfs, pid: u32) -> impl Iterator<Item = u32> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(proc, format!("{pid}/task"), flags, Mode::empty());
    let threads = folder.and_then(Dir::new).into_iter().flatten();
    threads
        .take(MOST_THREADS)
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str().ok()?.parse::<u32>().ok())
        .filter(|&thread| {
            // /proc/TID is there for every thread, though it is not listed.
            let stat = proc.text(thread, "stat");
            stat.is_some_and(|stat| parse_stat(&stat).is_some_and(|(_, state, _)| state == "D"))
        })
}

/// The innermost function of `[<0>] rpc_wait_bit_killable+0x11/0x70`, one line a call.
fn top_of_stack(text: &str) -> Option<String> {
    let (_, call) = text.lines().next()?.split_once("] ")?;
    let name = call.split('+').next()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Name, state and flags (proc_pid_stat(5): fields 2, 3 and 9).
fn parse_stat(stat: &str) -> Option<(&str, &str, u64)> {
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    Some((name, state, fields.nth(5)?.parse().ok()?))
}

/// How often a process gave up the processor: as long as this stands still it does not run.
fn switches(proc: &Procfs, pid: u32) -> Option<Vec<String>> {
    let text = proc.text(pid, "status")?;
    let lines: Vec<String> =
        text.lines().filter(|line| line.contains("ctxt_switches")).map(ToOwned::to_owned).collect();
    (!lines.is_empty()).then_some(lines)
}

/// What a pod's cgroup path tells of those who made it; whether it is below a folder for pods.
fn note_cgroup(found: &mut NodeProcesses, text: &str) -> bool {
    let path = text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find(|p| p.contains("kubepods"));
    let Some(path) = path else { return false };
    if path.contains(".slice:") {
        found.torn_cgroup.get_or_insert_with(|| path.to_owned());
        return false;
    }
    let driver = if path.split('/').any(|part| part == "kubepods.slice" || part.ends_with("-kubepods.slice"))
    {
        CgroupDriver::Systemd
    } else if path.split('/').any(|part| part == "kubepods") {
        CgroupDriver::Cgroupfs
    } else {
        return false;
    };
    found.pod_cgroups.entry(driver).or_insert_with(|| path.to_owned());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) D 1 2 3 4 5 4194304 0";
        assert_eq!(parse_stat(stat), Some(("a) b (c", "D", 4_194_304)));
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn the_innermost_call_of_a_stack() {
        let stack = "[<0>] rpc_wait_bit_killable+0x11/0x70\n[<0>] nfs4_run_open_task+0x1/0x2\n";
        assert_eq!(top_of_stack(stack).as_deref(), Some("rpc_wait_bit_killable"));
        assert_eq!(top_of_stack("[<0>] 0xffffffffffffffff\n").as_deref(), Some("0xffffffffffffffff"));
        for none in ["", "\n", "[<0>]", "[<0>] "] {
            assert_eq!(top_of_stack(none), None, "{none:?}");
        }
    }

    #[test]
    fn paths_of_both_drivers_and_of_a_mismatch() {
        let mut found = NodeProcesses::default();
        note_cgroup(&mut found, "0::/kubepods.slice/kubepods-podx.slice/cri-containerd-1.scope");
        note_cgroup(&mut found, "9:cpu:/kubepods/besteffort/podx/1\n");
        note_cgroup(&mut found, "0::/user.slice");
        assert!(!note_cgroup(&mut found, "0::/notkubepods/a"));
        assert!(!note_cgroup(&mut NodeProcesses::default(), "0::/a.kubepods-x/b"));
        assert_eq!(found.pod_cgroups.len(), 2);
        assert_eq!(found.torn_cgroup, None);
        note_cgroup(&mut found, "0::/system.slice/kubepods-podx.slice:cri-containerd:1");
        assert!(found.torn_cgroup.is_some());
    }

    /// A folder like /proc.
    struct Proc(tempfile::TempDir);

    impl Proc {
        fn put(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn process(&self, pid: u32, name: &str, state: &str, flags: u64, arguments: &str) {
            self.put(&format!("{pid}/stat"), &format!("{pid} ({name}) {state} 1 1 1 0 -1 {flags} 0"));
            self.put(
                &format!("{pid}/status"),
                "voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t0\n",
            );
            self.put(&format!("{pid}/cmdline"), &arguments.replace(' ', "\0"));
            self.put(&format!("{pid}/wchan"), "0");
        }

        fn read(&self) -> Found {
            super::read(self.0.path()).unwrap()
        }
    }

    #[test]
    fn who_runs_and_who_hangs() {
        let proc = Proc(tempfile::tempdir().unwrap());
        assert!(super::read(proc.0.path()).unwrap_err().contains("no processes"));
        proc.process(1, "systemd", "S", 0, "/sbin/init");
        assert_eq!(proc.read().processes, NodeProcesses::default());
        proc.process(10, "kubelet", "S", 0, "/usr/bin/kubelet --config=/x");
        proc.process(11, "kubelet", "S", 0, "/tmp/other");
        proc.process(12, "node-problem-de", "S", 0, "/node-problem-detector --x");
        proc.process(13, "containerd", "S", 0, "/usr/bin/containerd -c /y");
        proc.process(14, "containerd-shim", "S", 0, "/usr/bin/containerd-shim-runc-v2");
        proc.process(16, "kubelet", "S", 0, "kubelet --config=/of-a-pod");
        proc.put("16/cgroup", "0::/kubepods/podx/2\n");
        proc.process(15, "containerd", "S", 0, "containerd -c /of-a-pod");
        proc.put("10/cgroup", "0::/system.slice/kubelet.service\n");
        proc.put("13/cgroup", "0::/\n");
        proc.put("15/cgroup", "0::/kubepods/podx/1\n");
        proc.put("14/cgroup", "0::/kubepods.slice/kubepods-podx.slice/cri-containerd-1.scope\n");
        let found = proc.read();
        let kubelet = found.processes.kubelet.unwrap();
        assert_eq!((kubelet.arguments[1].as_str(), kubelet.inside), ("--config=/x", None));
        assert_eq!(kubelet.unit.as_deref(), Some("kubelet.service"));
        assert!(found.processes.problem_detector);
        assert_eq!(found.processes.runtimes, [["/usr/bin/containerd", "-c", "/y"]]);
        assert_eq!(found.cgroups.keys().copied().collect::<Vec<_>>(), ["containerd", "kubelet", "kubepods"]);
        assert_eq!(found.processes.pod_cgroups.len(), 2);
        assert!(found.processes.blocked.is_empty());

        proc.process(20, "cat", "D", 0, "cat /mnt/x");
        proc.put("20/wchan", "rpc_wait_bit_killable");
        proc.process(21, "kworker/0:1", "D", KERNEL_THREAD, "");
        proc.process(22, "untold", "D", 0, "untold");
        proc.put("22/status", "State:\tD\n");
        // A thread of the runtime hangs, while the process sleeps.
        proc.process(30, "containerd", "D", 0, "");
        proc.put("30/stack", "[<0>] io_schedule+0x1/0x2\n");
        proc.put("13/task/13/stat", "");
        proc.put("13/task/30/stat", "");
        std::fs::remove_file(proc.0.path().join("30/cmdline")).unwrap();
        let blocked = proc.read().processes.blocked;
        let mut names: Vec<(u32, &str, Option<&str>)> =
            blocked.iter().map(|b| (b.pid, b.name.as_str(), b.wchan.as_deref())).collect();
        names.sort_unstable();
        names.dedup();
        let expected = [(20, "cat", Some("rpc_wait_bit_killable")), (30, "containerd", Some("io_schedule"))];
        assert_eq!(names, expected, "not the kernel's own, and not one whose switches cannot be compared");
    }

    #[test]
    fn k3s_and_kubelite_have_a_kubelet_inside_but_not_those_of_pods() {
        let proc = Proc(tempfile::tempdir().unwrap());
        let pod = "0::/kubepods.slice/kubepods-podx.slice/cri-containerd-1.scope\n";
        proc.process(9, "k3s-server", "S", 0, "k3s server");
        proc.put("9/cgroup", pod);
        proc.process(10, "kubelite", "S", 0, "kubelite");
        assert_eq!(proc.read().processes.kubelet, None, "in a pod, or in a cgroup that is not told");
        proc.process(11, "k3s-server", "S", 0, "");
        proc.put("11/cmdline", "/usr/local/bin/k3s server\0\0\0");
        proc.put("11/cgroup", "0::/system.slice/k3s.service\n");
        let found = proc.read();
        let kubelet = found.processes.kubelet.unwrap();
        assert_eq!((kubelet.inside.unwrap().name(), kubelet.hidden), ("k3s", true));
        assert_eq!(found.cgroups["k3s"], "0::/system.slice/k3s.service\n");
        // rke2 and k0s start a kubelet, whatever else there is.
        proc.process(12, "kubelet", "S", 0, "/var/lib/rancher/rke2/bin/kubelet --config-dir=/x");
        assert_eq!(proc.read().processes.kubelet.unwrap().inside, None);
        std::fs::remove_dir_all(proc.0.path().join("11")).unwrap();
        proc.put("10/cgroup", "0::/system.slice/snap.microk8s.daemon-kubelite.service\n");
        std::fs::remove_dir_all(proc.0.path().join("12")).unwrap();
        let found = proc.read();
        assert_eq!(found.processes.kubelet.unwrap().inside.unwrap().name(), "kubelite");
        assert_eq!(found.cgroups.keys().copied().collect::<Vec<_>>(), ["kubelite", "kubepods"]);
    }

    #[test]
    fn what_ran_between_the_looks_does_not_hang() {
        let proc = Proc(tempfile::tempdir().unwrap());
        for pid in [20, 21, 22] {
            proc.process(pid, "cat", "D", 0, "cat");
        }
        let path = proc.0.path().to_owned();
        let other = std::thread::spawn(move || {
            std::thread::sleep(PAUSE / 3);
            std::fs::write(path.join("20/status"), "voluntary_ctxt_switches:\t6\n").unwrap();
            std::fs::write(path.join("21/stat"), "21 (cat) S 1 1 1 0 -1 0 0").unwrap();
        });
        let blocked: Vec<u32> = proc.read().processes.blocked.iter().map(|b| b.pid).collect();
        other.join().unwrap();
        assert_eq!(blocked, [22]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_files_say_nothing_panics(text in "\\PC{0,60}|[0-9() DS:/.a-z]{0,60}") {
            let _ = parse_stat(&text);
            let _ = top_of_stack(&text);
            let _ = note_cgroup(&mut NodeProcesses::default(), &text);
        }
    }
}
