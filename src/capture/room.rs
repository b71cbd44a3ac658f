//! Room on the disk: a capture ends before a file system is full, for others live on it too.

use rustix::fs::{StatVfs, fstatvfs};
use std::os::fd::AsFd;

/// What is to stay free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the file system.
    Percent(u8),
    /// Five hundredths, but no more than 1 GiB: of a large disk that is nearly full there is still enough.
    Some,
}

/// What is free on the file system of a capture, and what is to stay free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that users without privileges may still write: what the kubelet calls available.
    pub free_bytes: u64,
    /// Bytes that are to stay free.
    pub leave_bytes: u64,
}

impl Room {
    /// Asks the file system of an open file.
    ///
    /// # Errors
    /// fstatvfs(3)'s.
    pub fn of(file: impl AsFd, leave: Leave) -> std::io::Result<Self> {
        Ok(Self::from_counts(&fstatvfs(file)?, leave))
    }

    fn from_counts(counts: &StatVfs, leave: Leave) -> Self {
        let bytes = |blocks: u64| blocks.saturating_mul(counts.f_frsize);
        let share = |percent: u8| bytes(counts.f_blocks) / 100 * u64::from(percent);
        let leave_bytes = match leave {
            Leave::Bytes(bytes) => bytes,
            Leave::Percent(percent) => share(percent),
            Leave::Some => share(5).min(1 << 30),
        };
        Self { free_bytes: bytes(counts.f_bavail), leave_bytes }
    }

    /// Whether no more may be written.
    pub fn is_used_up(&self) -> bool {
        self.free_bytes < self.leave_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_one_of_the_whole_file_system() {
        let folder = std::fs::File::open("/proc/self/exe").unwrap();
        let mut counts = fstatvfs(&folder).unwrap();
        (counts.f_frsize, counts.f_blocks, counts.f_bavail) = (4096, 1000, 49);
        let room = Room::from_counts(&counts, Leave::Percent(5));
        assert_eq!(room, Room { free_bytes: 49 * 4096, leave_bytes: 5 * 40960 });
        assert!(room.is_used_up());
        assert!(!Room::from_counts(&counts, Leave::Percent(4)).is_used_up());
        assert_eq!(Room::from_counts(&counts, Leave::Some), room);
        counts.f_blocks = 100 << 20;
        assert_eq!(Room::from_counts(&counts, Leave::Some).leave_bytes, 1 << 30);
        assert!(!Room::from_counts(&counts, Leave::Bytes(0)).is_used_up());
    }
}
