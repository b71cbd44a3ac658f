//! Disks: how full they are against the kubelet's thresholds, and how long I/O takes.

use super::quantity::threshold;
use super::rules::{DISK_FULL, DISK_SILENT, DISK_SLOW};
use super::{Looked, NodeView};
use crate::facts::{DiskIo, DiskUse, Evidence, Finding, KubeletConfig};

/// What the kubelet calls nodefs: its own folder.
const NODEFS: &[&str] = &["/var/lib/kubelet"];
/// What it calls imagefs: the runtime's, also where that is the same file system.
const IMAGEFS: &[&str] = &["/var/lib/containerd", "/var/lib/containers", "/var/lib/docker"];
/// A mean wait of so many ms is long for any disk; etcd and kubelet want a tenth.
const SLOW_MS: f64 = 100.0;
/// Fewer I/Os make no mean.
const LEAST: u64 = 5;

/// A signal by which the kubelet evicts, and its threshold where evictionHard is not set at all.
///
/// Source: kubernetes.io, Node-pressure Eviction, default hard eviction thresholds.
struct Signal {
    name: &'static str,
    default: &'static str,
}

/// Of a disk's bytes or inodes: the signals of nodefs and imagefs, and what else is little.
struct Kind {
    what: &'static str,
    nodefs: Signal,
    imagefs: Signal,
    little: &'static str,
}

const BYTES: Kind = Kind {
    what: "bytes",
    nodefs: Signal { name: "nodefs.available", default: "10%" },
    imagefs: Signal { name: "imagefs.available", default: "15%" },
    little: "10%",
};
const INODES: Kind = Kind {
    what: "inodes",
    nodefs: Signal { name: "nodefs.inodesFree", default: "5%" },
    imagefs: Signal { name: "imagefs.inodesFree", default: "5%" },
    little: "5%",
};

pub(super) fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

/// The threshold of a signal as it is written; `None` when it is off.
pub(super) fn stated<'a>(config: &'a KubeletConfig, name: &str, default: &'static str) -> Option<&'a str> {
    match &config.eviction_hard {
        None => Some(default),
        Some(map) => {
            map.get(name).map(String::as_str).or_else(|| config.merge_eviction_defaults.then_some(default))
        }
    }
}

/// The threshold that a disk meets first: as it is written, in units, and the kubelet's signal if it is one.
fn floor(
    disk: &DiskUse,
    config: Option<&KubeletConfig>,
    kind: &Kind,
    capacity: u64,
) -> (String, u64, Option<&'static str>) {
    let is = |folders: &[&str]| disk.folders.iter().any(|folder| folders.contains(&folder.as_str()));
    let roles = [(&kind.nodefs, is(NODEFS)), (&kind.imagefs, is(IMAGEFS))];
    let evicts = roles.into_iter().filter(|(_, is)| *is).filter_map(|(signal, _)| {
        let stated = stated(config?, signal.name, signal.default)?;
        Some((stated.to_owned(), threshold(stated, capacity)?, Some(signal.name)))
    });
    evicts
        .max_by_key(|(_, below, _)| *below)
        .unwrap_or_else(|| (kind.little.to_owned(), threshold(kind.little, capacity).unwrap_or(0), None))
}

pub(super) fn fullness(view: NodeView<'_>, looked: &mut Looked) {
    let disks = &view.state.disks;
    let silent = |folder: &String| {
        let evidence = vec![Evidence::text("no answer within", "300 ms", format!("statvfs {folder}"))];
        let summary = format!("the file system of {folder} does not answer");
        let fix = format!(
            "findmnt -T {folder} shows what is mounted there, dmesg why it hangs; umount -l takes a lost network mount out of the way"
        );
        DISK_SILENT.finding(folder.clone(), summary, evidence, fix)
    };
    let mut findings: Vec<Finding> = view.state.silent_folders.iter().map(silent).collect();
    let config = view.state.kubelet.as_ref().ok();
    let mut well = Vec::new();
    for disk in disks {
        let mut line = format!("{} {} % free", disk.path, percent(disk.free_bytes, disk.size_bytes));
        for (kind, free, size) in
            [(BYTES, disk.free_bytes, disk.size_bytes), (INODES, disk.free_inodes, disk.inodes)]
        {
            // Where inodes are made as needed there are none to run out of.
            if size == 0 {
                continue;
            }
            let (stated, below, signal) = floor(disk, config, &kind, size);
            if free < below {
                findings.push(full(disk, &kind, free, size, (&stated, below, signal)));
            }
            if let (Some(signal), "bytes") = (signal, kind.what) {
                line.push_str(&format!(" (pods are evicted below {stated}, {signal})"));
            }
        }
        well.push(line);
    }
    let unread = disks.is_empty().then(|| "no file system answered".to_owned());
    looked.add("node.disks", unread, findings, well.join(", "));
}

fn full(
    disk: &DiskUse,
    kind: &Kind,
    free: u64,
    size: u64,
    (stated, below, signal): (&str, u64, Option<&'static str>),
) -> Finding {
    let source = format!("statvfs {}", disk.path);
    let mut evidence = vec![
        Evidence::new(format!("free {}", kind.what), free, kind.what, source.clone()),
        Evidence::new(format!("all {}", kind.what), size, kind.what, source),
    ];
    let mut summary = format!("{} has {} % of its {} left", disk.path, percent(free, size), kind.what);
    if let Some(signal) = signal {
        evidence.push(Evidence::new(
            format!("threshold of {signal}"),
            below,
            kind.what,
            "evictionHard of the kubelet",
        ));
        summary.push_str(&format!(": below {stated} the kubelet evicts pods ({signal})"));
    }
    DISK_FULL.finding(disk.path.clone(), summary, evidence, DISK_FULL.fix)
}

pub(super) fn latency(view: NodeView<'_>, looked: &mut Looked) {
    const ID: &str = "node.disk_latency";
    let disks = match &view.state.disk_io {
        Ok(disks) => disks,
        Err(why) => return looked.add(ID, Some(why.clone()), Vec::new(), String::new()),
    };
    let findings = disks.iter().filter_map(slow).collect();
    let unread = disks
        .is_empty()
        .then(|| "the folders of kubelet and runtime are on no block device of this machine".to_owned());
    let in_words = |io: &DiskIo| match (io.wait_ms, io.since_boot_ms) {
        (Some(wait), _) => format!("{}: {} I/Os took {wait:.1} ms each", io.device, io.completed),
        (None, Some(boot)) => format!("{}: idle now, {boot:.1} ms an I/O since boot", io.device),
        (None, None) => format!("{}: idle", io.device),
    };
    let well: Vec<String> = disks.iter().map(in_words).collect();
    looked.add(ID, unread, findings, well.join(", "));
}

fn slow(io: &DiskIo) -> Option<Finding> {
    const SOURCE: &str = "/proc/diskstats";
    let round = |ms: f64| (ms * 10.0).round() / 10.0;
    let over = round(io.interval_ms);
    let folders = io.folders.join(", ");
    let mut evidence = vec![
        Evidence::text(format!("folders on {}", io.device), folders, "/proc/1/mountinfo"),
        Evidence::new(format!("I/Os completed in {over} ms"), io.completed, "I/Os", SOURCE),
    ];
    let summary = match io.wait_ms {
        Some(wait) if io.completed >= LEAST && wait >= SLOW_MS => {
            evidence.push(Evidence::new("mean time of one", round(wait), "ms", SOURCE));
            format!("{}: each of {} I/Os took {wait:.0} ms on average", io.device, io.completed)
        }
        None if io.stuck > 0 && io.interval_ms >= SLOW_MS => {
            evidence.push(Evidence::new("I/Os under way all the time", io.stuck, "I/Os", SOURCE));
            format!(
                "{}: {} I/Os wait, and none was completed in {:.0} ms",
                io.device, io.stuck, io.interval_ms
            )
        }
        _ => return None,
    };
    if let Some(boot) = io.since_boot_ms {
        evidence.push(Evidence::new("mean time of one since boot", round(boot), "ms", SOURCE));
    }
    Some(DISK_SLOW.finding(io.device.clone(), summary, evidence, DISK_SLOW.fix))
}
