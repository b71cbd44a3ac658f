//! The kernel's kills for memory: from its own buffer (`/dev/kmsg`), else from the files that a syslog keeps.

mod memory;
mod parse;

pub use memory::{PodCgroup, read_memory, read_pod_memory};
pub use parse::{KernelLine, parse_kills};

use crate::netns::{open_in_root, read_in_root};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Records that are read of the kernel's buffer: more than any buffer holds.
const MOST_RECORDS: usize = 1_000_000;
/// The largest record that the kernel hands out is 8 KiB.
const RECORD: usize = 8192;
/// How much of the end of a syslog's file is read.
const MOST_BYTES: u64 = 8 << 20;
/// Where syslogs keep the kernel's messages.
const FILES: &[&str] = &["/var/log/kern.log", "/var/log/messages", "/var/log/syslog"];

/// The kernel's lines, and where they were read.
#[derive(Debug, Default)]
pub struct KernelLines {
    /// In the order in which they were written.
    pub lines: Vec<KernelLine>,
    /// The files.
    pub source: String,
    /// Why nothing, or not all, could be read.
    pub unread: Option<String>,
}

/// Reads what the kernel has logged, as far back as it is there.
pub fn read_kernel_lines(host_root: &Path) -> KernelLines {
    let root = match File::open(host_root) {
        Ok(root) => root,
        Err(error) => return KernelLines { unread: Some(error.to_string()), ..KernelLines::default() },
    };
    let mut all = KernelLines::default();
    match read_buffer(&root) {
        Ok((lines, lost)) => {
            all.lines = lines;
            all.source = "/dev/kmsg".into();
            all.unread = lost.then(|| "older records were overwritten in /dev/kmsg".into());
        }
        Err(error) => all.unread = Some(format!("cannot read /dev/kmsg: {error}")),
    }
    for path in FILES {
        let Some(lines) = read_file(&root, path).filter(|lines| !lines.is_empty()) else { continue };
        all.source = if all.source.is_empty() { (*path).into() } else { format!("{path}, {}", all.source) };
        all.lines.splice(0..0, lines);
        break;
    }
    all
}

/// Every record of the kernel's buffer, and whether some were overwritten meanwhile.
fn read_buffer(root: &File) -> std::io::Result<(Vec<KernelLine>, bool)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let device = open_in_root(root.as_fd(), Path::new("/dev/kmsg"), flags)?;
    if FileType::from_raw_mode(fstat(&device)?.st_mode) != FileType::CharacterDevice {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no device"));
    }
    let booted_us = booted_us(root);
    let (mut lines, mut lost) = (Vec::new(), false);
    let mut record = [0u8; RECORD];
    for _ in 0..MOST_RECORDS {
        match rustix::io::read(&device, &mut record) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(length) => {
                let bytes = record.get(..length).unwrap_or_default();
                lines.extend(parse::parse_record(&String::from_utf8_lossy(bytes), booted_us));
            }
            Err(Errno::PIPE) => lost = true,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((lines, lost))
}

/// When the kernel's clock of messages began, microseconds since 1970; `None` where /proc does not tell.
fn booted_us(root: &File) -> Option<i64> {
    let text = read_in_root(root.as_fd(), Path::new("/proc/uptime"), 256).ok()?;
    let (seconds, rest) = std::str::from_utf8(&text).ok()?.split_once('.')?;
    let (seconds, hundredths): (i64, i64) = (seconds.parse().ok()?, rest.get(..2)?.parse().ok()?);
    let up_us = seconds.checked_mul(1_000_000)?.checked_add(hundredths * 10_000)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(now.as_micros()).ok()?.checked_sub(up_us)
}

/// The kernel's lines at the end of a syslog's file.
fn read_file(root: &File, path: &str) -> Option<Vec<KernelLine>> {
    let handle = open_in_root(root.as_fd(), Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    let mut file = File::from(handle);
    let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    file.seek(SeekFrom::Start(meta.len().saturating_sub(MOST_BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.lines().filter_map(parse::parse_syslog).collect())
}
