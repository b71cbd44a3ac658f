//! Container logs from disk: CRI's format and Docker's, rotated and packed files in order, followed as they grow.

mod container;
mod folder;
mod join;
mod line;
mod reader;
mod start;

pub use container::{ContainerLog, LogQuery};
pub use folder::PodLogFolder;
pub use line::{RawLine, parse_line};

use std::io;
use thiserror::Error;

/// Why a log cannot be read.
#[derive(Debug, Error)]
pub enum LogError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// The kernel's word, or what is wrong with its content.
        source: io::Error,
    },
    /// A link that is not followed.
    #[error("{path} is a symbolic link to {target}: only links to Docker's own container logs are followed")]
    Link {
        /// The link.
        path: String,
        /// Where it points.
        target: String,
    },
    /// Each time it was looked, files had just been rotated away.
    #[error("the files of {path} were renamed while they were opened, {tries} times in a row")]
    Restless {
        /// The log.
        path: String,
        /// How often it was tried.
        tries: u32,
    },
}

impl LogError {
    fn read(path: &str, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    /// Whether the cause is a privilege that this process lacks.
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether the file or folder is not there, or no longer.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
