//! How long I/O takes on the disks of kubelet and runtime: the kernel's own counters, read twice. Nothing is written.
//!
//! Sources: kernel Documentation/admin-guide/iostats.rst, Documentation/ABI/testing/procfs-diskstats;
//! proc_pid_mountinfo(5).

use crate::facts::{DiskIo, DiskUse, Seen, milliseconds};
use crate::netns::open_in_root;
use crate::observe::files::text;
use rustix::fs::{OFlags, fstat, major, minor};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

const DISKSTATS: &str = "/proc/diskstats";
/// An I/O that takes no longer is quick.
const QUICK_MS: u64 = 10;
/// Between the two looks, where I/O is under way or slow.
const INTERVAL: Duration = Duration::from_millis(200);

/// Counters of one block device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counters {
    name: String,
    /// Reads, writes and flushes that were completed since boot.
    completed: u64,
    /// What those took together, ms.
    spent_ms: u64,
    /// Under way now.
    in_flight: u64,
}

/// The first look.
pub(super) struct Look {
    at: Instant,
    counters: Seen<BTreeMap<(u32, u32), Counters>>,
}

/// Looks at all devices.
pub(super) fn look(root: &File) -> Look {
    let text = text(root, DISKSTATS).map_err(|error| format!("{DISKSTATS}: {error}"));
    Look { at: Instant::now(), counters: text.map(|text| parse(&text)) }
}

/// What happened since `first` on the devices below `disks`. Where nothing is under way and what was completed was
/// quick, that is the answer at once; else the interval is waited for.
pub(super) fn since(root: &File, first: &Look, disks: &[(DiskUse, u64)]) -> Seen<Vec<DiskIo>> {
    let before = first.counters.as_ref().map_err(Clone::clone)?;
    let mounts = text(root, "/proc/1/mountinfo").or_else(|_| text(root, "/proc/self/mountinfo"));
    let mounts = mounts.unwrap_or_default();
    let mut devices: BTreeMap<(u32, u32), Vec<String>> = BTreeMap::new();
    for (disk, device) in disks {
        let number = match (major(*device), minor(*device)) {
            // Btrfs, and file systems without a device.
            (0, _) => source_of(&mounts, &disk.path).and_then(|source| device_number(root, source)),
            number => Some(number),
        };
        if let Some(number) = number.filter(|number| before.contains_key(number)) {
            devices.entry(number).or_default().extend(disk.folders.iter().cloned());
        }
    }
    let mut last = look(root);
    let busy = |now: &Look| {
        let moved = |number| match (before.get(number), now.counters.as_ref().ok()?.get(number)) {
            (Some(then), Some(now)) => {
                let completed = now.completed.saturating_sub(then.completed);
                let spent_ms = now.spent_ms.saturating_sub(then.spent_ms);
                let waits = then.in_flight.saturating_add(now.in_flight) > 0;
                Some(waits || spent_ms > completed.saturating_mul(QUICK_MS))
            }
            _ => None,
        };
        devices.keys().filter_map(moved).any(|moved| moved)
    };
    if busy(&last) {
        std::thread::sleep(INTERVAL.saturating_sub(first.at.elapsed()));
        last = look(root);
    }
    let interval_ms = milliseconds(last.at - first.at);
    let after = last.counters?;
    let of = |(number, folders): ((u32, u32), Vec<String>)| {
        Some(compare(before.get(&number)?, after.get(&number)?, folders, interval_ms))
    };
    Ok(devices.into_iter().filter_map(of).collect())
}

fn compare(before: &Counters, after: &Counters, folders: Vec<String>, interval_ms: f64) -> DiskIo {
    let mean = |ms: u64, count: u64| (count > 0).then(|| as_f64(ms) / as_f64(count));
    // Counters that went back are those of another device.
    let completed = after.completed.saturating_sub(before.completed);
    DiskIo {
        device: after.name.clone(),
        folders,
        interval_ms,
        completed,
        wait_ms: mean(after.spent_ms.saturating_sub(before.spent_ms), completed),
        stuck: before.in_flight.min(after.in_flight),
        since_boot_ms: mean(after.spent_ms, after.completed),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean needs no 53 bits")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

/// `253 0 vda READS MERGED SECTORS MS WRITES MERGED SECTORS MS IN_FLIGHT …`; flushes are the 16th of these and their
/// ms the 17th, since Linux 5.5. Lines in another form are left out.
fn parse(text: &str) -> BTreeMap<(u32, u32), Counters> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let number = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let name = words.next()?.to_owned();
        let values: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let value = |place: usize| values.get(place).copied();
        let completed = value(0)?.checked_add(value(4)?)?.checked_add(value(15).unwrap_or(0))?;
        let spent_ms = value(3)?.checked_add(value(7)?)?.checked_add(value(16).unwrap_or(0))?;
        Some((number, Counters { name, completed, spent_ms, in_flight: value(8)? }))
    };
    text.lines().filter_map(line).collect()
}

/// The source of the mount that a path is on, where it is a file: `/dev/mapper/data`.
fn source_of<'a>(mountinfo: &'a str, path: &str) -> Option<&'a str> {
    let lines = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        let source = right.split(' ').nth(1)?;
        let below = path.strip_prefix(point.trim_end_matches('/'))?;
        (below.is_empty() || below.starts_with('/')).then_some((point.len(), source))
    });
    // Of mounts on one point the last counts.
    let source = lines.max_by_key(|(length, _)| *length)?.1;
    source.starts_with("/dev/").then_some(source)
}

fn device_number(root: &File, path: &str) -> Option<(u32, u32)> {
    let handle = open_in_root(root.as_fd(), Path::new(path), OFlags::PATH).ok()?;
    let stat = fstat(&handle).ok()?;
    let block = stat.st_mode & 0o170_000 == 0o060_000;
    block.then(|| (major(stat.st_rdev), minor(stat.st_rdev)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two looks at a machine (Linux 6.18): 254:0 is the one with I/O.
    const STATS: &str = "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 vda 69782 8618 5456290 86927 43763 116785 66403944 650912 2 61388 773673 9175 88 1928600 31065 4060 4768
 253       0 dm-0 10 0 0 40 5 0 0 60 0 0 0
garbage
 1 2
";

    #[test]
    fn reads_writes_and_flushes_are_counted_together() {
        let all = parse(STATS);
        let vda = &all[&(254, 0)];
        assert_eq!(vda.name, "vda");
        assert_eq!(vda.completed, 69_782 + 43_763 + 4060);
        assert_eq!(vda.spent_ms, 86_927 + 650_912 + 4768);
        assert_eq!(vda.in_flight, 2);
        assert_eq!((all[&(253, 0)].completed, all[&(253, 0)].spent_ms), (15, 100), "before Linux 5.5");
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn the_mean_is_of_what_was_completed_meanwhile() {
        let at =
            |completed, spent_ms, in_flight| Counters { name: "vda".into(), completed, spent_ms, in_flight };
        let io = compare(&at(100, 1000, 3), &at(110, 6000, 2), vec![], 200.0);
        assert_eq!((io.completed, io.wait_ms, io.stuck), (10, Some(500.0), 2));
        assert!(io.since_boot_ms.is_some_and(|ms| (ms - 6000.0 / 110.0).abs() < 1e-9));
        let quiet = compare(&at(100, 1000, 0), &at(100, 1000, 1), vec![], 200.0);
        assert_eq!((quiet.completed, quiet.wait_ms, quiet.stuck), (0, None, 0));
        let other = compare(&at(100, 1000, 0), &at(0, 0, 0), vec![], 200.0);
        assert_eq!((other.completed, other.wait_ms, other.since_boot_ms), (0, None, None));
    }

    #[test]
    fn the_deepest_mount_counts_and_only_files_are_devices() {
        let mounts = "27 1 0:30 / / rw - btrfs /dev/vda2 rw,subvol=/root\n\
            28 27 0:31 / /var/lib rw shared:1 - tmpfs tmpfs rw\n\
            29 28 0:32 / /var/lib/kubelet rw - btrfs /dev/mapper/data rw\n\
            30 28 0:33 / /var/lib/kube rw - ext4 /dev/x rw\n\
            short\n";
        assert_eq!(source_of(mounts, "/var/log"), Some("/dev/vda2"));
        assert_eq!(source_of(mounts, "/"), Some("/dev/vda2"));
        assert_eq!(source_of(mounts, "/var/lib/containerd"), None, "a tmpfs");
        assert_eq!(source_of(mounts, "/var/lib/kubelet"), Some("/dev/mapper/data"));
        assert_eq!(source_of("", "/"), None);
    }

    #[test]
    fn a_quiet_disk_is_an_answer_at_once_and_a_busy_one_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        let put = |text: &str| std::fs::write(dir.path().join("proc/diskstats"), text).unwrap();
        let device = |minor| rustix::fs::makedev(254, minor);
        let disk = |folder: &str, device| {
            let folders = vec![folder.to_owned()];
            let (size_bytes, free_bytes, inodes, free_inodes) = (1, 1, 1, 1);
            let path = folder.to_owned();
            (DiskUse { path, folders, size_bytes, free_bytes, inodes, free_inodes }, device)
        };
        let disks = [disk("/", device(0)), disk("/var", device(0)), disk("/x", device(9)), disk("/y", 7)];
        let first = look(&root);
        assert!(since(&root, &first, &disks).unwrap_err().contains("diskstats"));

        put(" 254 0 vda 1 0 0 5 0 0 0 0 0 0 0\n");
        let first = look(&root);
        let quiet = since(&root, &first, &disks).unwrap();
        assert_eq!(quiet.len(), 1, "the others are not there: {quiet:?}");
        assert_eq!((quiet[0].device.as_str(), quiet[0].completed, quiet[0].wait_ms), ("vda", 0, None));
        assert_eq!(quiet[0].folders, ["/", "/var"]);

        put(" 254 0 vda 2 0 0 15 0 0 0 0 0 0 0\n");
        let quick = &since(&root, &first, &disks).unwrap()[0];
        assert_eq!((quick.completed, quick.wait_ms), (1, Some(10.0)));
        assert!(first.at.elapsed() < INTERVAL, "nobody waits for a quick disk");

        put(" 254 0 vda 1 0 0 5 0 0 0 0 0 0 0\n");
        let first = look(&root);
        put(" 254 0 vda 3 0 0 305 0 0 0 0 0 0 0\n");
        let moved = &since(&root, &first, &disks).unwrap()[0];
        assert_eq!((moved.completed, moved.wait_ms), (2, Some(150.0)));
        assert!(first.at.elapsed() >= INTERVAL && moved.interval_ms >= 200.0, "{moved:?}");

        put(" 254 0 vda 3 0 0 305 0 0 0 0 4 0 0\n");
        let first = look(&root);
        let stuck = &since(&root, &first, &disks).unwrap()[0];
        assert_eq!((stuck.completed, stuck.stuck), (0, 4));
        assert!(stuck.interval_ms >= 200.0, "{stuck:?}");
    }

    #[test]
    fn what_is_no_block_device_has_no_number() {
        let root = File::open("/").unwrap();
        assert_eq!(device_number(&root, "/dev/null"), None);
        assert_eq!(device_number(&root, "/proc/stat"), None);
        assert_eq!(device_number(&root, "/no/such/file"), None);
    }

    #[test]
    fn two_looks_at_this_machine() {
        let root = File::open("/").unwrap();
        let first = look(&root);
        let disks = super::super::resources::disks(&root).0;
        let found = since(&root, &first, &disks).unwrap();
        assert!(found.iter().all(|io| io.interval_ms < 5000.0 && !io.folders.is_empty()), "{found:?}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_files_say_nothing_panics(
            text in "\\PC{0,60}|(( ?[0-9]{1,20}| [a-z/]{0,5}|\n| - ){0,40})",
            path in "(/[a-z]{0,4}){1,3}",
        ) {
            let counters = parse(&text);
            for one in counters.values() {
                for other in counters.values() {
                    let io = compare(one, other, vec![], 1.0);
                    proptest::prop_assert!(io.wait_ms.is_none_or(f64::is_finite));
                }
            }
            let _ = source_of(&text, &path);
        }
    }
}
