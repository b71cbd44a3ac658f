//! Threads and inotify watches against what the kernel and the cgroups allow.
//!
//! Sources: proc_loadavg(5), proc_sys_kernel(5), inotify(7), proc_pid_fdinfo(5); kernel
//! Documentation/admin-guide/cgroup-v1/pids.rst, cgroup-v2.rst (pids.max, pids.current).

use crate::facts::{Limit, LimitKind};
use crate::netns::Procfs;
use crate::observe::files::text;
use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// So long files of processes are looked through for inotify.
const INOTIFY_DEADLINE: Duration = Duration::from_millis(200);
/// Watches of one instance that are counted.
const MOST_FDINFO: u64 = 4 << 20;
/// Folders above a process's that are asked.
const MOST_DEPTH: usize = 32;

fn number(root: &File, path: &str) -> Option<u64> {
    text(root, path).ok()?.trim().parse().ok()
}

/// Threads against the limits of the kernel, and those of pods, kubelet and runtimes against their cgroups'.
pub(super) fn tasks(root: &File, cgroups: &BTreeMap<&'static str, String>) -> Vec<Limit> {
    let threads = text(root, "/proc/loadavg").ok().and_then(|text| parse_threads(&text));
    let mut limits = Vec::new();
    for (source, path) in [
        ("kernel.pid_max", "/proc/sys/kernel/pid_max"),
        ("kernel.threads-max", "/proc/sys/kernel/threads-max"),
    ] {
        if let Some((used, limit)) = threads.zip(number(root, path)) {
            let (what, source) = ("threads".to_owned(), source.to_owned());
            let kind = LimitKind::Tasks;
            limits.push(Limit { kind, what, used, at_least: false, limit, source, counted: "/proc/loadavg" });
        }
    }
    limits.extend(cgroups.iter().filter_map(|(name, text)| cgroup(root, name, text)));
    limits
}

/// `0.00 0.01 0.05 1/123 4567`: 123.
fn parse_threads(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// The tightest limit of a process's cgroup and of those above it; of a pod's, that of all pods.
fn cgroup(root: &File, name: &'static str, cgroups: &str) -> Option<Limit> {
    let (place, path) = pids_cgroup(cgroups)?;
    let mut path = path.as_str();
    if name == "kubepods" {
        let end = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).find(|&end| {
            let folder = path.get(..end).and_then(|p| p.rsplit('/').next()).unwrap_or_default();
            folder == "kubepods" || folder.ends_with("kubepods.slice")
        })?;
        path = path.get(..end)?;
    }
    let mut tightest: Option<Limit> = None;
    for _ in 0..MOST_DEPTH {
        let folder = format!("{place}{path}");
        let read = |file: &str| number(root, &format!("{folder}/{file}"));
        // `max` is no number, and no limit.
        if let Some((limit, used)) = read("pids.max").zip(read("pids.current")) {
            let room = limit.saturating_sub(used);
            if tightest.as_ref().is_none_or(|other| room < other.limit.saturating_sub(other.used)) {
                let (what, source) = (format!("threads of {name}"), format!("{folder}/pids.max"));
                let kind = LimitKind::Tasks;
                tightest =
                    Some(Limit { kind, what, used, at_least: false, limit, source, counted: "pids.current" });
            }
        }
        path = match path.rsplit_once('/') {
            Some((above, _)) if !above.is_empty() => above,
            _ => break,
        };
    }
    tightest
}

/// Where the hierarchy that counts processes is mounted, and the path in it.
fn pids_cgroup(text: &str) -> Option<(&'static str, String)> {
    let mut unified = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        // `/..` comes from another cgroup namespace.
        let parts = path.split('/').filter(|part| !part.is_empty() && *part != "..");
        let path: String = parts.map(|part| format!("/{part}")).collect();
        if controllers.split(',').any(|name| name == "pids") {
            return Some(("/sys/fs/cgroup/pids", path));
        }
        if id == "0" && controllers.is_empty() {
            unified = Some(path);
        }
    }
    Some(("/sys/fs/cgroup", unified?))
}

/// inotify instances and watches of one user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Use {
    instances: u64,
    watches: u64,
}

/// inotify instances and watches of the user that has most, and of each who is near a limit. An instance that is
/// inherited over fork(2) counts in both processes; a user namespace's own limit is not looked at.
pub(super) fn inotify(proc: &Path, root: &File) -> Vec<Limit> {
    let limit = |name: &str| number(root, &format!("/proc/sys/fs/inotify/{name}"));
    let (Some(instances), Some(watches)) = (limit("max_user_instances"), limit("max_user_watches")) else {
        return Vec::new();
    };
    let (users, at_least) = count_inotify(proc, Instant::now() + INOTIFY_DEADLINE);
    of_users(&users, at_least, instances, watches)
}

/// Who has most, and who is near a limit.
fn of_users(users: &BTreeMap<u32, Use>, at_least: bool, instances: u64, watches: u64) -> Vec<Limit> {
    let mut limits = Vec::new();
    for (what, of, limit, source) in [
        ("instances", (|u: &Use| u.instances) as fn(&Use) -> u64, instances, "fs.inotify.max_user_instances"),
        ("watches", |u: &Use| u.watches, watches, "fs.inotify.max_user_watches"),
    ] {
        let most = users.values().map(of).max().unwrap_or(0);
        let near = |used: u64| used == most || used.saturating_mul(10) >= limit.saturating_mul(9);
        limits.extend(users.iter().filter(|(_, used)| near(of(used))).map(|(uid, used)| Limit {
            kind: LimitKind::Inotify,
            what: format!("inotify {what} of uid {uid}"),
            used: of(used),
            at_least,
            limit,
            source: source.to_owned(),
            counted: "/proc/PID/fdinfo",
        }));
    }
    limits
}

/// By user; and whether something was left out, for want of time or permission.
fn count_inotify(proc: &Path, end: Instant) -> (BTreeMap<u32, Use>, bool) {
    let mut users: BTreeMap<u32, Use> = BTreeMap::new();
    let mut partial = false;
    for pid in Procfs::open(proc).and_then(|proc| proc.pids()).unwrap_or_default() {
        if Instant::now() >= end {
            return (users, true);
        }
        let folder = proc.join(pid.to_string());
        let of_process = match inotify_of(&folder, end) {
            Ok((used, all)) => {
                partial |= !all;
                used
            }
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
                partial = true;
                continue;
            }
            // It has ended.
            Err(_) => continue,
        };
        if of_process.instances > 0
            && let Some(uid) = effective_user(&folder)
        {
            let user = users.entry(uid).or_default();
            user.instances += of_process.instances;
            user.watches += of_process.watches;
        }
    }
    (users, partial)
}

/// Instances and watches of one process, and whether all of it was looked at.
fn inotify_of(folder: &Path, end: Instant) -> rustix::io::Result<(Use, bool)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let files: OwnedFd = openat(CWD, folder.join("fd"), flags, Mode::empty())?;
    let mut used = Use::default();
    let mut buffer = Vec::new();
    for entry in Dir::read_from(&files)? {
        if Instant::now() >= end {
            return Ok((used, false));
        }
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes().first() == Some(&b'.') {
            continue;
        }
        let Ok(link) = readlinkat(&files, name, std::mem::take(&mut buffer)) else { continue };
        let is_inotify = link.to_bytes() == b"anon_inode:inotify";
        buffer = link.into_bytes();
        if is_inotify {
            used.instances += 1;
            let name = name.to_string_lossy();
            used.watches += File::open(folder.join("fdinfo").join(&*name)).map_or(0, count_watches);
        }
    }
    Ok((used, true))
}

/// Lines of an fdinfo that are a watch: `inotify wd:3 ino:9e7e sdev:800013 …`.
fn count_watches(file: File) -> u64 {
    let mut bytes = Vec::new();
    // What could be read counts.
    let _ = file.take(MOST_FDINFO).read_to_end(&mut bytes);
    watches_in(&bytes)
}

fn watches_in(fdinfo: &[u8]) -> u64 {
    let lines = fdinfo.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"inotify wd:"));
    u64::try_from(lines.count()).unwrap_or(u64::MAX)
}

fn effective_user(folder: &Path) -> Option<u32> {
    let mut text = String::new();
    File::open(folder.join("status")).ok()?.take(64 << 10).read_to_string(&mut text).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inotify_of_this_process_is_counted() {
        let before = inotify_of(Path::new("/proc/self"), far()).unwrap().0;
        let watched = tempfile::tempdir().unwrap();
        let instance = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
        let all = rustix::fs::inotify::WatchFlags::ALL_EVENTS;
        rustix::fs::inotify::add_watch(&instance, watched.path(), all).unwrap();
        rustix::fs::inotify::add_watch(&instance, "/", all).unwrap();
        let (now, whole) = inotify_of(Path::new("/proc/self"), far()).unwrap();
        assert!(whole);
        assert_eq!(now.instances, before.instances + 1);
        assert_eq!(now.watches, before.watches + 2);
        let (users, _) = count_inotify(Path::new("/proc"), far());
        let mine = users[&rustix::process::geteuid().as_raw()];
        assert!(mine.instances >= now.instances && mine.watches >= now.watches, "{mine:?}");
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_deadline_that_is_over_leaves_something_out_and_says_so() {
        let (users, partial) = count_inotify(Path::new("/proc"), Instant::now());
        assert!(users.is_empty() && partial);
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_tightest_cgroup_above_a_process_counts_and_for_pods_that_of_all() {
        let dir = tempfile::tempdir().unwrap();
        let v2 = "sys/fs/cgroup";
        let v1 = "sys/fs/cgroup/pids";
        for (path, max, current) in [
            (format!("{v2}/system.slice/kubelet.service"), "4915", "30"),
            (format!("{v2}/system.slice"), "100", "90"),
            (format!("{v2}/kubepods.slice"), "max", "40"),
            (format!("{v1}/kubepods"), "1000", "950"),
            (format!("{v1}/kubepods/podx"), "10", "10"),
        ] {
            put(dir.path(), &format!("{path}/pids.max"), &format!("{max}\n"));
            put(dir.path(), &format!("{path}/pids.current"), &format!("{current}\n"));
        }
        let root = File::open(dir.path()).unwrap();
        let of = |name, text: &str| cgroup(&root, name, text).map(|l| (l.used, l.limit, l.source));
        let kubelet = of("kubelet", "0::/system.slice/kubelet.service\n");
        assert_eq!(kubelet, Some((90, 100, "/sys/fs/cgroup/system.slice/pids.max".into())));
        assert_eq!(
            of("kubepods", "0::/kubepods.slice/kubepods-podx.slice/a.scope\n"),
            None,
            "max is no limit"
        );
        let pods = of("kubepods", "4:pids:/kubepods/podx/abc\n0::/\n");
        assert_eq!(pods, Some((950, 1000, "/sys/fs/cgroup/pids/kubepods/pids.max".into())));
        assert_eq!(of("kubelet", "0::/../system.slice\n").map(|l| l.1), Some(100));
        for nothing in ["", "no line", "0::/\n", "1:cpu:/a\n"] {
            assert_eq!(of("kubelet", nothing), None, "{nothing}");
        }
    }

    #[test]
    fn who_has_most_inotify_and_who_is_near_the_limit_are_told() {
        let used = |instances, watches| Use { instances, watches };
        let users = BTreeMap::from([(0, used(100, 5)), (1000, used(90, 7)), (1001, used(89, 1))]);
        let told: Vec<String> = of_users(&users, true, 100, 1000)
            .into_iter()
            .map(|l| format!("{} {}/{} {} {}", l.what, l.used, l.limit, l.source, l.at_least))
            .collect();
        assert_eq!(
            told,
            [
                "inotify instances of uid 0 100/100 fs.inotify.max_user_instances true",
                "inotify instances of uid 1000 90/100 fs.inotify.max_user_instances true",
                "inotify watches of uid 1000 7/1000 fs.inotify.max_user_watches true",
            ]
        );
    }

    #[test]
    fn threads_of_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        assert_eq!(tasks(&root, &BTreeMap::new()), []);
        put(dir.path(), "proc/loadavg", "0.00 0.01 0.05 1/123 4567\n");
        put(dir.path(), "proc/sys/kernel/pid_max", "4194304\n");
        put(dir.path(), "proc/sys/kernel/threads-max", "1000\n");
        let told: Vec<_> =
            tasks(&root, &BTreeMap::new()).into_iter().map(|l| (l.used, l.limit, l.source)).collect();
        let of = |limit, source: &str| (123, limit, source.to_owned());
        assert_eq!(told, [of(4_194_304, "kernel.pid_max"), of(1000, "kernel.threads-max")]);
        assert_eq!(parse_threads("0.00 0.01 0.05 1/123 4567\n"), Some(123));
        assert_eq!(parse_threads("0.00 0.01"), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_files_say_nothing_panics(text in "\\PC{0,40}|([0-9:/.a-z]{0,20}\n){0,4}", bytes: Vec<u8>) {
            let _ = parse_threads(&text);
            let _ = pids_cgroup(&text);
            let _ = watches_in(&bytes);
            let dir = tempfile::tempdir().unwrap();
            let root = File::open(dir.path()).unwrap();
            proptest::prop_assert_eq!(cgroup(&root, "kubepods", &text), None);
        }
    }
}
