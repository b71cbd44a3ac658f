//! /dev/kmsg: the kernel's own buffer.
//!
//! Source: Documentation/ABI/testing/dev-kmsg.

use super::{NodeLogQuery, merge};
use crate::facts::{NodeLog, NodeLogEntry};
use crate::netns::open_in_root;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

pub(super) const PATH: &str = "/dev/kmsg";
/// Most records that are read; a buffer holds a few thousand.
const MOST_RECORDS: usize = 1 << 20;

pub(super) fn open(root: &File) -> io::Result<OwnedFd> {
    open_in_root(root.as_fd(), Path::new(PATH), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// Reads what the kernel still holds.
pub(super) fn read_kmsg(root: &File, query: &NodeLogQuery<'_>, log: &mut NodeLog) {
    let fd = match open(root) {
        Ok(fd) => fd,
        Err(error) => {
            log.unread.push((PATH.to_owned(), error.to_string()));
            return;
        }
    };
    let source: Arc<str> = Arc::from(PATH);
    let booted_us = booted_us();
    let mut entries = Vec::new();
    let mut record = vec![0; 16 << 10];
    for _ in 0..MOST_RECORDS {
        match rustix::io::read(&fd, &mut record) {
            Ok(0) | Err(Errno::AGAIN) => break,
            // PIPE: overwritten meanwhile, the next read goes on behind it. INVAL: longer than the buffer.
            Err(Errno::PIPE | Errno::INTR | Errno::INVAL) => {}
            Err(error) => {
                log.unread.push((PATH.to_owned(), error.to_string()));
                return;
            }
            Ok(count) => {
                let entry = parse(record.get(..count).unwrap_or_default(), booted_us, &source);
                entries.extend(entry.filter(|e| e.realtime_us >= query.since_us && (query.keep)(e)));
            }
        }
    }
    log.sources.push(PATH.to_owned());
    merge::add(log, entries, query.most);
}

/// When the kernel's clock of messages began, microseconds since 1970. As dmesg -T: a suspended machine is off by
/// the time it slept.
pub(super) fn booted_us() -> u64 {
    let us = |clock| {
        let time = clock_gettime(clock);
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
    };
    us(ClockId::Realtime).saturating_sub(us(ClockId::Monotonic))
}

/// `priority,sequence,microseconds,flags;message`, then lines that begin with a blank.
pub(super) fn parse(record: &[u8], booted_us: u64, source: &Arc<str>) -> Option<NodeLogEntry> {
    let semicolon = record.iter().position(|byte| *byte == b';')?;
    let head = std::str::from_utf8(record.get(..semicolon)?).ok()?;
    let mut numbers = head.split(',');
    let priority: u32 = numbers.next()?.parse().ok()?;
    let time: u64 = numbers.nth(1)?.parse().ok()?;
    // Another facility: a program wrote it.
    if priority >> 3 != 0 {
        return None;
    }
    let text = record.get(semicolon + 1..)?.split(|byte| *byte == b'\n').next()?;
    Some(NodeLogEntry {
        realtime_us: booted_us.saturating_add(time),
        unit: None,
        identifier: Some("kernel".into()),
        transport: Some("kernel".into()),
        pid: None,
        priority: u8::try_from(priority & 7).ok(),
        message: merge::message(text),
        boot_id: None,
        source: Arc::clone(source),
    })
}
