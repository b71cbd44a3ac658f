//! What is left: pressure, disks, memory; and whether the clock is right.
//!
//! Sources: kernel Documentation/accounting/psi.rst; statvfs(3); adjtimex(2).

use crate::facts::{DiskUse, Pressure, Seen};
use crate::netns::{handle_path, open_in_root};
use crate::observe::files::text;
use rustix::fs::OFlags;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// A file system that does not answer for so long hangs.
const DISK_DEADLINE: Duration = Duration::from_millis(300);
const FOLDERS: &[&str] =
    &["/", "/var/log", "/var/lib/kubelet", "/var/lib/containerd", "/var/lib/containers", "/var/lib/docker"];

pub(super) fn pressure(root: &File) -> BTreeMap<&'static str, Seen<Pressure>> {
    let read = |name| {
        let path = format!("/proc/pressure/{name}");
        let text = text(root, &path).map_err(|error| format!("{path}: {error}"))?;
        parse_pressure(&text).ok_or_else(|| format!("{path} is in no known form"))
    };
    ["cpu", "io", "memory"].map(|name| (name, read(name))).into()
}

fn parse_pressure(text: &str) -> Option<Pressure> {
    let of = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        line.split_whitespace().find_map(|w| w.strip_prefix("avg60="))?.parse::<f64>().ok()
    };
    Some(Pressure { some: of("some ")?, full: of("full ").unwrap_or(0.0) })
}

/// File systems of the folders that matter, each once, and the folders whose file system does not answer in time.
/// With each the device that it is on (`st_dev`).
pub(super) fn disks(root: &File) -> (Vec<(DiskUse, u64)>, Vec<String>) {
    ask_disks(root, disk)
}

fn ask_disks(
    root: &File,
    ask: impl Fn(&File, &str) -> Option<(DiskUse, u64)> + Copy + Send + 'static,
) -> (Vec<(DiskUse, u64)>, Vec<String>) {
    let (send, receive) = mpsc::channel();
    let mut silent: Vec<&str> = Vec::new();
    for folder in FOLDERS {
        let Ok(root) = root.try_clone() else { continue };
        let send = send.clone();
        silent.push(folder);
        // One that hangs keeps its thread, and nobody waits for it.
        std::thread::spawn(move || {
            let _ = send.send((*folder, ask(&root, folder)));
        });
    }
    let end = std::time::Instant::now() + DISK_DEADLINE;
    let mut answers: Vec<(DiskUse, u64)> = Vec::new();
    while !silent.is_empty() {
        let left = end.saturating_duration_since(std::time::Instant::now());
        let Ok((folder, disk)) = receive.recv_timeout(left) else { break };
        silent.retain(|other| *other != folder);
        answers.extend(disk);
    }
    answers.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    let mut disks: Vec<(DiskUse, u64)> = Vec::new();
    for (disk, device) in answers {
        // The subvolumes of one Btrfs have a device each, and share the room.
        let same = |(other, its): &&mut (DiskUse, u64)| {
            *its == device || (other.size_bytes, other.inodes, disk.inodes) == (disk.size_bytes, 0, 0)
        };
        match disks.iter_mut().find(same) {
            Some((known, _)) => known.folders.extend(disk.folders),
            None => disks.push((disk, device)),
        }
    }
    (disks, silent.into_iter().map(str::to_owned).collect())
}

fn disk(root: &File, folder: &str) -> Option<(DiskUse, u64)> {
    let handle = open_in_root(root.as_fd(), Path::new(folder), OFlags::PATH | OFlags::DIRECTORY).ok()?;
    let told = rustix::fs::statvfs(handle_path(&handle)).ok()?;
    let device = rustix::fs::fstat(&handle).ok()?.st_dev;
    let used = DiskUse {
        path: folder.to_owned(),
        folders: vec![folder.to_owned()],
        size_bytes: told.f_blocks.saturating_mul(told.f_frsize),
        free_bytes: told.f_bavail.saturating_mul(told.f_frsize),
        inodes: told.f_files,
        free_inodes: told.f_favail,
    };
    Some((used, device))
}

pub(super) fn memory(root: &File) -> Option<u64> {
    let text = text(root, "/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Processors that are on: `cpu0 …`, one line each.
pub(super) fn cpus(root: &File) -> Option<u64> {
    let text = text(root, "/proc/stat").ok()?;
    let numbered = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    u64::try_from(text.lines().filter(numbered).count()).ok().filter(|&count| count > 0)
}

/// Whether the kernel calls its clock synchronised. Nothing is set: no mode bit is given.
pub(super) fn clock() -> Seen<bool> {
    // SAFETY: timex is plain numbers, for which all zeroes are valid; with modes 0 the kernel only fills it in.
    let (state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        let state = libc::adjtimex(&raw mut timex);
        (state, timex.status)
    };
    if state < 0 {
        return Err(format!("adjtimex: {}", std::io::Error::last_os_error()));
    }
    Ok(status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_hangs_is_named_and_does_not_hinder_the_others() {
        let root = File::open("/").unwrap();
        let (disks, silent) = ask_disks(&root, |root, folder| {
            if folder == "/var/log" {
                std::thread::sleep(Duration::from_secs(600));
            }
            (folder == "/").then(|| disk(root, folder)).flatten()
        });
        assert_eq!(disks.iter().map(|(d, _)| d.path.as_str()).collect::<Vec<_>>(), ["/"]);
        assert_eq!(silent, ["/var/log"]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_pressure_says_nothing_panics(text in "\\PC{0,60}|(some |full |avg60=|[0-9.]{1,4}|\n){0,9}") {
            let _ = parse_pressure(&text);
        }
    }

    #[test]
    fn folders_on_one_file_system_are_one_disk() {
        let root = File::open("/").unwrap();
        let ask = |_: &File, folder: &str| {
            let (size, inodes, device) = match folder {
                "/" => (100, 10, 1),
                "/var/log" => (100, 10, 2),
                "/var/lib/kubelet" => (100, 10, 1),
                "/var/lib/containerd" => (200, 0, 3),
                "/var/lib/docker" => (200, 0, 4),
                _ => return None,
            };
            let (path, folders) = (folder.to_owned(), vec![folder.to_owned()]);
            let used = DiskUse { path, folders, size_bytes: size, free_bytes: 1, inodes, free_inodes: 1 };
            Some((used, device))
        };
        let (disks, silent) = ask_disks(&root, ask);
        let folders: Vec<Vec<String>> = disks.into_iter().map(|(d, _)| d.folders).collect();
        let expected =
            [vec!["/", "/var/lib/kubelet"], vec!["/var/lib/containerd", "/var/lib/docker"], vec!["/var/log"]];
        assert_eq!(folders, expected);
        assert!(silent.is_empty());
    }

    #[test]
    fn processors_and_memory_of_a_node() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        assert_eq!((cpus(&root), memory(&root)), (None, None));
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        std::fs::write(dir.path().join("proc/stat"), "cpu  1 2\ncpu0 1\ncpu11 1\nintr 5\n").unwrap();
        std::fs::write(dir.path().join("proc/meminfo"), "MemFree: 1 kB\nMemTotal:       16 kB\n").unwrap();
        assert_eq!((cpus(&root), memory(&root)), (Some(2), Some(16_384)));
        std::fs::write(dir.path().join("proc/stat"), "cpu  1 2\n").unwrap();
        std::fs::write(dir.path().join("proc/meminfo"), "MemTotal: many\n").unwrap();
        assert_eq!((cpus(&root), memory(&root)), (None, None));
    }

    #[test]
    fn pressure_of_a_minute() {
        let text = "some avg10=1.00 avg60=2.50 avg300=3.00 total=1\nfull avg10=0.00 avg60=0.75 avg300=0.00 total=1\n";
        assert_eq!(parse_pressure(text), Some(Pressure { some: 2.5, full: 0.75 }));
        assert_eq!(parse_pressure("some avg10=1"), None);
    }
}
