//! Small files and folders of the node, under its root: bounded, and no link is followed out of it.

use crate::netns::{open_in_root, read_in_root};
use rustix::fs::{Dir, FileType, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// No configuration file is larger.
const MOST_BYTES: u64 = 1 << 20;
const MOST_NAMES: usize = 1000;

/// The text of a file; what is no UTF-8 is replaced.
///
/// # Errors
/// Those of open(2) and read(2), and when it is larger than 1 MiB.
pub fn text(root: &File, path: &str) -> io::Result<String> {
    let bytes = read_in_root(root.as_fd(), Path::new(path), MOST_BYTES)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Names and kinds in a folder, sorted; none when it cannot be read.
pub(super) fn entries(root: &File, folder: &str) -> Vec<(String, FileType)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let Ok(opened) = open_in_root(root.as_fd(), Path::new(folder), flags) else { return Vec::new() };
    let Ok(entries) = Dir::new(opened) else { return Vec::new() };
    let mut names: Vec<(String, FileType)> = entries
        .take(MOST_NAMES)
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str().ok()?.to_owned(), entry.file_type())))
        .filter(|(name, _)| name != "." && name != "..")
        .collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    names
}

/// Names in a folder that end so and are not hidden, sorted.
pub(super) fn names(root: &File, folder: &str, end: &str) -> Vec<String> {
    let names = entries(root, folder).into_iter().map(|(name, _)| name);
    names.filter(|name| name.ends_with(end) && !name.starts_with('.')).collect()
}
