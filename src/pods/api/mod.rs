//! The API server: the few questions that are about the cluster and not about this node.
//!
//! As in the CRI client, tokio lives inside this room only and every question ends at one deadline. Without the cargo
//! feature `cluster` there is no client, and every question says so.

#[cfg(feature = "cluster")]
mod client;
#[cfg(feature = "cluster")]
mod credentials;
#[cfg(feature = "cluster")]
mod in_time;
#[cfg(feature = "cluster")]
mod objects;
#[cfg(feature = "cluster")]
mod read;

use super::Options;
#[cfg(not(feature = "cluster"))]
use crate::facts::{ClusterPod, ClusterState};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "cluster")]
pub use read::{find_cluster_pods, read_cluster};

/// Whom to ask, and for how long.
pub struct ApiOptions<'a> {
    /// Where the node's files are.
    pub node: &'a Options,
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// For all questions together.
    pub deadline: Duration,
    /// Resolves the server's name: the C library's resolver is of no use in a static binary.
    pub look_up: &'a dyn Fn(&str) -> Result<IpAddr, String>,
}

impl std::fmt::Debug for ApiOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiOptions").field("kubeconfig", &self.kubeconfig).finish_non_exhaustive()
    }
}

/// Why the API server told nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Built without the client.
    #[error("this build of nsprobe has no client for the API server (cargo feature cluster)")]
    NotBuilt,
    /// Nothing says who and where it is.
    #[error("no credentials for the API server: {0}")]
    NoCredentials(String),
    /// The credentials cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// The server is to be reached through a proxy.
    #[error(
        "{credentials}: cluster {cluster} has a proxy-url, and nsprobe goes through no proxy: give a file without it"
    )]
    Proxied {
        /// The cluster in the file.
        cluster: String,
        /// Whose credentials were used.
        credentials: String,
    },
    /// The credentials were not there in time.
    #[error("{credentials}: {what} gave no credentials within {} ms", timeout.as_millis())]
    Late {
        /// The program or the files that they come from.
        what: String,
        /// For all questions together.
        timeout: Duration,
        /// Whose credentials were used.
        credentials: String,
    },
    /// It knows the caller not (401), or not for this (403).
    #[error("the API server at {server} refused: {why} ({credentials})")]
    Refused {
        /// Its address.
        server: String,
        /// Its words.
        why: String,
        /// Whose credentials were used.
        credentials: String,
    },
    /// No answer, or none that can be read.
    #[error("the API server at {server} {why} ({credentials})")]
    Failed {
        /// Its address.
        server: String,
        /// What happened.
        why: String,
        /// Whose credentials were used.
        credentials: String,
    },
}

/// Reads pods, nodes and, where pods wait without a word, the scheduler's events.
///
/// # Errors
/// [`ApiError::NotBuilt`].
#[cfg(not(feature = "cluster"))]
pub fn read_cluster(_options: &ApiOptions<'_>) -> Result<ClusterState, ApiError> {
    Err(ApiError::NotBuilt)
}

/// Pods of any node with this name.
///
/// # Errors
/// [`ApiError::NotBuilt`].
#[cfg(not(feature = "cluster"))]
pub fn find_cluster_pods(
    _options: &ApiOptions<'_>,
    _namespace: Option<&str>,
    _name: &str,
) -> Result<Vec<ClusterPod>, ApiError> {
    Err(ApiError::NotBuilt)
}
