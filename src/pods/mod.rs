//! SOURCE → pod, containers, PID, network namespace: the runtime over CRI, and the disk when it hangs.
//!
//! ```text
//! selector ─► endpoint ─► cri ──► assemble ─► survey (adds disk, /proc) ─► matching ─► resolve ─► Source
//!              which      lists    pods        PIDs confirmed               which pod    namespace open
//!              socket     │
//!                         └ hung, dead, error ─► disk: the runtime's own files
//! ```
//!
//! A PID is a claim, whoever makes it: it is shown and entered only after /proc has confirmed that it lives and
//! that its cgroup is the container's.

pub mod api;
mod assemble;
mod cri;
mod disk;
mod endpoint;
mod history;
mod holders;
mod hostfs;
mod latency;
mod log_folder;
mod matching;
mod proc;
mod processes;
mod questions;
mod resolv_conf;
mod resolve;
mod selector;
mod survey;

pub use history::{FoundHistory, find_history};
pub use holders::{Holding, find_holders};
pub use latency::{RuntimeTimes, time_runtime};
pub use log_folder::{LogFolder, find_log_folder, is_running};
pub use processes::processes_of;
pub use resolv_conf::{ResolvConfFile, hosts, resolv_conf, resolv_conf_file};
pub use resolve::{AllSources, Opened, ResolveError, Source, resolve, resolve_all};
pub use selector::{PodName, Selector};

use crate::facts::{Pod, PodList};
use hostfs::HostFs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use survey::Survey;
use thiserror::Error;

/// Where to look for pods.
#[derive(Debug, Clone)]
pub struct Options {
    /// Every file and socket of the node is found under it.
    pub host_root: PathBuf,
    /// `--runtime-endpoint`.
    pub endpoint: Option<String>,
    /// For all calls to the runtime together.
    pub timeout: Duration,
}

impl Options {
    /// A file of the node, under the host root.
    pub fn host_path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.host_root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn open(&self) -> Result<HostFs, ListError> {
        HostFs::open(&self.host_root)
            .map_err(|source| ListError::HostRoot { path: self.host_root.clone(), source })
    }
}

/// Why no pods can be listed. A runtime that fails is no reason: then the disk answers.
#[derive(Debug, Error)]
pub enum ListError {
    /// This user may not read what would tell.
    #[error("permission denied: {path}")]
    Denied {
        /// The socket of the runtime, or a file.
        path: PathBuf,
    },
    /// `--host-root` is no folder.
    #[error("cannot open the host root {path}: {source}")]
    HostRoot {
        /// What was given.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
}

/// Every pod of this node, those whose sandbox has ended too; [`is_live`] tells them apart.
///
/// # Errors
/// [`ListError`].
pub fn list(options: &Options) -> Result<PodList, ListError> {
    let fs = options.open()?;
    let mut survey = Survey::start(&fs, options)?;
    let mut pods = survey.pods()?;
    survey.fill(&mut pods.iter_mut().collect::<Vec<_>>());
    Ok(survey.list(pods))
}

/// The live pods with their addresses as the runtime tells them, and nothing more of them. Empty without a
/// runtime that answers: this is for what is nice to have, and costs no look at disk and processes.
pub fn list_told(options: &Options) -> Vec<Pod> {
    let Ok(fs) = options.open() else { return Vec::new() };
    Survey::start(&fs, options).map(|mut survey| survey.told()).unwrap_or_default()
}

/// Keeps the pods that a SOURCE fits, all of them: this is a filter and may fit several.
///
/// # Errors
/// [`ResolveError::NotFound`] when none does, with close names.
pub fn filter(options: &Options, list: &mut PodList, selector: &str) -> Result<(), ResolveError> {
    let parsed = Selector::parse(selector).map_err(ResolveError::NotFound)?;
    let keep: Vec<bool> = match &parsed {
        Selector::Host => list.pods.iter().map(|pod| pod.host_network == Some(true)).collect(),
        Selector::Pid(_) | Selector::NetNs(_) => {
            let inode = resolve(options, selector)?.netns.inode();
            list.pods.iter().map(|pod| pod.netns_inode == Some(inode)).collect()
        }
        _ => {
            let found = matching::matches(&list.pods, &parsed);
            (0..list.pods.len()).map(|at| found.iter().any(|m| m.pod == at)).collect()
        }
    };
    if !keep.contains(&true) && parsed != Selector::Host {
        return Err(resolve::not_found(&list.pods, selector, list.degraded.as_ref()));
    }
    let mut keep = keep.into_iter();
    list.pods.retain(|_| keep.next().unwrap_or(false));
    Ok(())
}

/// Whether anything of a pod still runs: its sandbox, or a container that outlived it.
pub fn is_live(pod: &Pod) -> bool {
    matching::is_live(pod)
}
