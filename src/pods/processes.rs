//! The processes of one pod, where the network namespace does not tell them from the node's.

use super::proc::Proc;
use super::{ListError, Options};
use crate::facts::Pod;

/// Every process whose cgroup names the pod or one of its containers, by PID.
///
/// # Errors
/// [`ListError::HostRoot`].
pub fn processes_of(options: &Options, pod: &Pod) -> Result<Vec<u32>, ListError> {
    let proc = Proc::new(options.open()?.proc_root());
    let mut pids = proc.pids();
    pids.retain(|&pid| {
        let owner = proc.owner(pid);
        let by_container = |id: &String| *id == pod.sandbox_id || pod.containers.iter().any(|c| c.id == *id);
        // A static pod's cgroup may carry another UID than the API server's; its containers are the same.
        owner.container.as_ref().is_some_and(by_container) || owner.pod_uid.is_some_and(|uid| uid == pod.uid)
    });
    Ok(pids)
}
