//! Text files of syslog, where there is no journal.

use super::{NodeLogQuery, merge};
use crate::facts::{NodeLog, NodeLogEntry, local_seconds, unix_seconds};
use crate::netns::open_in_root;
use rustix::fs::OFlags;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

pub(super) const FILES: &[&str] =
    &["/var/log/messages", "/var/log/syslog", "/var/log/kern.log", "/var/log/kubelet.log"];
/// Bytes that are read of each, from the end.
const MOST_BYTES: u64 = 16 << 20;
/// Programs whose lines are wanted.
const PROGRAMS: &[&str] = &["kubelet", "containerd", "crio", "dockerd", "cri-dockerd", "k3s", "rke2", "k0s"];

/// Reads the ends of the text files. A line that is in two of them is held once.
pub(super) fn read_texts(root: &File, query: &NodeLogQuery<'_>, log: &mut NodeLog) {
    for path in FILES {
        match read(root, path, query, log) {
            Ok(()) => log.sources.push((*path).to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log.unread.push(((*path).to_owned(), error.to_string())),
        }
    }
    // Of files only the first that has a line counts; twice in one file is twice.
    let mut first = HashMap::new();
    log.entries.retain(|entry| {
        let key = (entry.realtime_us, entry.pid, entry.message.clone());
        *first.entry(key).or_insert_with(|| Arc::clone(&entry.source)) == entry.source
    });
}

/// A regular file under the root.
pub(super) fn open(root: &File, path: &str) -> io::Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open_in_root(root.as_fd(), Path::new(path), flags)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, metadata))
}

fn read(root: &File, path: &str, query: &NodeLogQuery<'_>, log: &mut NodeLog) -> io::Result<()> {
    let (file, metadata) = open(root, path)?;
    let start = metadata.len().saturating_sub(MOST_BYTES);
    let mut bytes = vec![0; usize::try_from(metadata.len() - start).unwrap_or(0)];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read_at(room, start + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    let source: Arc<str> = Arc::from(path);
    let now = now_seconds();
    let mut oldest = u64::MAX;
    let mut entries = Vec::new();
    // What the cut left of the first line is no line.
    for line in bytes.split(|byte| *byte == b'\n').skip(usize::from(start > 0)) {
        let line = merge::message(line);
        let Some(entry) = parse(&line, now, &source) else { continue };
        oldest = oldest.min(entry.realtime_us);
        let wanted = if entry.is_kernel() { query.kernel } else { query.units };
        if wanted && entry.realtime_us >= query.since_us && (query.keep)(&entry) {
            entries.push(entry);
        }
    }
    log.cut |= start > 0 && oldest > query.since_us;
    merge::add(log, entries, query.most);
    Ok(())
}

pub(super) fn now_seconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// `Nov 23 17:05:38 host kubelet[123]: text`, the same with an RFC 3339 time, or klog's own
/// `E1123 17:05:38.612877     123 file.go:1] text`. Times without a zone are the local ones of this machine.
pub(super) fn parse(line: &str, now: i64, source: &Arc<str>) -> Option<NodeLogEntry> {
    let (seconds, program, pid, message) = if let Some(seconds) = klog_time(line, now) {
        (seconds, "kubelet", None, line)
    } else {
        let (seconds, rest) = time(line, now)?;
        let (_host, rest) = rest.trim_start().split_once(' ')?;
        let (tag, message) = rest.split_once(": ")?;
        let (program, pid) = tag
            .split_once('[')
            .map_or((tag, None), |(program, pid)| (program, pid.trim_end_matches(']').parse().ok()));
        (seconds, program, pid, message)
    };
    let kernel = program == "kernel";
    if !kernel && !PROGRAMS.contains(&program) {
        return None;
    }
    Some(NodeLogEntry {
        realtime_us: u64::try_from(seconds).ok()?.checked_mul(1_000_000)?,
        unit: None,
        identifier: Some(program.into()),
        transport: Some(if kernel { "kernel" } else { "syslog" }.into()),
        pid,
        priority: None,
        message: if kernel { without_stamp(message) } else { message }.to_owned(),
        boot_id: None,
        source: Arc::clone(source),
    })
}

/// The kernel's own `[12345.678901] ` before its message.
fn without_stamp(message: &str) -> &str {
    let stamped = message.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    stamped.filter(|(stamp, _)| stamp.trim().parse::<f64>().is_ok()).map_or(message, |(_, text)| text)
}

fn time(line: &str, now: i64) -> Option<(i64, &str)> {
    let first = line.split(' ').next()?;
    if let Some(seconds) = unix_seconds(first) {
        return Some((seconds, line.get(first.len()..)?));
    }
    const MONTHS: &[&str] =
        &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|month| *month == first)?;
    let day = line.get(4..6)?.trim_start().parse().ok()?;
    let seconds = local(i32::try_from(month).ok()?, day, line.get(7..15)?, now)?;
    Some((seconds, line.get(15..)?))
}

/// `E1123 17:05:38.612877`.
fn klog_time(line: &str, now: i64) -> Option<i64> {
    line.strip_prefix(['I', 'W', 'E', 'F'])?;
    let month: i32 = line.get(1..3)?.parse().ok()?;
    local(month - 1, line.get(3..5)?.parse().ok()?, line.get(6..14)?, now)
}

/// Local time without a year: the newest that is not in the future.
fn local(month: i32, day: i32, clock: &str, now: i64) -> Option<i64> {
    let mut parts = clock.split(':').map(|part| part.parse::<i32>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let this_year = i32::try_from(now / 31_556_952).ok()? + 1970;
    [this_year + 1, this_year, this_year - 1].into_iter().find_map(|year| {
        let seconds = local_seconds((year, month + 1, day), (hour, minute, second))?;
        // A day of grace for clocks and zones.
        (seconds <= now + 86_400).then_some(seconds)
    })
}
