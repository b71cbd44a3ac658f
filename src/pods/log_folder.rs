//! SOURCE → the folder of a pod's logs: from disk alone where the name or id stands there, whatever the runtime does;
//! only addresses and sandbox ids are looked up like any other SOURCE.

use super::disk::Logs;
use super::matching::{self, close_names};
use super::selector::{PodName, Selector};
use super::survey::Survey;
use super::{Options, ResolveError};
use crate::facts::{Pod, PodState};
use rustix::fs::{OFlags, fstat};
use std::collections::HashSet;

/// A pod of which logs are on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFolder {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Pod UID.
    pub uid: String,
    /// The container that was named.
    pub container: Option<String>,
    /// The attempt, when the id of a container named one.
    pub attempt: Option<u32>,
    /// UIDs of former pods of that name whose logs are still there.
    pub former: Vec<String>,
}

impl LogFolder {
    /// Name of the folder under /var/log/pods.
    pub fn folder(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }

    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Finds the log folder of SOURCE. A pod whose processes are gone but whose folder is there is found. Of several pods
/// that had one name after the other the one that lives is meant, else the one that wrote last.
///
/// # Errors
/// [`ResolveError`]; a selector never silently picks one of several.
pub fn find_log_folder(options: &Options, selector: &str) -> Result<LogFolder, ResolveError> {
    let parsed = Selector::parse(selector).map_err(ResolveError::NotFound)?;
    let fs = options.open()?;
    let survey = Survey::offline(&fs);
    let logs = survey.disk.logs();
    if logs.pods().next().is_none()
        && let Some(path) = fs.denied()
    {
        return Err(super::ListError::Denied { path }.into());
    }
    let (name, id) = match &parsed {
        Selector::Pod(name) => (Some(name), None),
        Selector::Id(id) => (None, Some(id)),
        Selector::PodOrId(name, id) => (Some(name), Some(id)),
        Selector::Host | Selector::NetNs(_) => {
            let message = format!("{selector} names no pod: a log is a pod's");
            return Err(ResolveError::NotFound(message));
        }
        Selector::Ip(_) | Selector::Pid(_) => (None, None),
    };
    if let Some(name) = name
        && let Some(found) = by_name(&survey, logs, name, selector)?
    {
        return Ok(found);
    }
    if let Some(id) = id
        && let Some(found) = by_id(logs, id, selector)?
    {
        return Ok(found);
    }
    if let (Some(_), None) = (name, id) {
        return Err(not_found(logs, selector));
    }
    by_runtime(options, logs, selector, &parsed)
}

fn by_name(
    survey: &Survey<'_>,
    logs: &Logs,
    name: &PodName,
    typed: &str,
) -> Result<Option<LogFolder>, ResolveError> {
    let fits = |(_, namespace, pod): &(&str, &str, &str)| {
        *pod == name.pod && name.namespace.as_deref().is_none_or(|wanted| wanted == *namespace)
    };
    let found: Vec<_> = logs.pods().filter(fits).collect();
    let namespaces: HashSet<&str> = found.iter().map(|(_, namespace, _)| *namespace).collect();
    if namespaces.len() > 1 {
        return Err(ambiguous(typed, found.iter().map(|(uid, ns, pod)| format!("{ns}/{pod} (UID {uid})"))));
    }
    let mut folders: Vec<LogFolder> = found
        .into_iter()
        .map(|(uid, namespace, pod)| LogFolder {
            namespace: namespace.to_owned(),
            name: pod.to_owned(),
            uid: uid.to_owned(),
            container: name.container.clone(),
            attempt: None,
            former: Vec::new(),
        })
        .collect();
    if folders.len() > 1 {
        let scan = survey.proc.scan();
        let living: HashSet<&String> = scan.pods.values().collect();
        folders
            .sort_by_cached_key(|f| (living.contains(&f.uid), last_written(survey, logs, f), f.uid.clone()));
    }
    let Some(mut newest) = folders.pop() else { return Ok(None) };
    newest.former = folders.into_iter().map(|folder| folder.uid).collect();
    Ok(Some(newest))
}

/// When anything was written to the newest attempts of a pod's containers, seconds since 1970.
fn last_written(survey: &Survey<'_>, logs: &Logs, folder: &LogFolder) -> i64 {
    let modified = |path: String| {
        let handle = survey.fs.open_flags(&path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        Some(fstat(&handle).ok()?.st_mtime)
    };
    let path = format!("/var/log/pods/{}", folder.folder());
    let attempts = logs.attempts(&folder.uid).into_iter().flatten();
    let files = attempts.filter_map(|(name, attempt)| modified(format!("{path}/{name}/{attempt}.log")));
    files.max().or_else(|| modified(path.clone())).unwrap_or(0)
}

/// A pod's UID, or a container's id by its link.
fn by_id(logs: &Logs, id: &str, typed: &str) -> Result<Option<LogFolder>, ResolveError> {
    let folder = |uid: &str, container: Option<&str>, attempt| {
        let (namespace, name) = logs.pod(uid)?;
        Some(LogFolder {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: uid.to_owned(),
            container: container.map(ToOwned::to_owned),
            attempt,
            former: Vec::new(),
        })
    };
    let uids = logs.pods().filter(|(uid, ..)| uid.replace('-', "").starts_with(id));
    let mut found: Vec<LogFolder> = uids.filter_map(|(uid, ..)| folder(uid, None, None)).collect();
    let links = logs.containers().filter(|(container, _)| container.starts_with(id));
    found.extend(links.filter_map(|(_, log)| folder(log.uid.as_deref()?, Some(&log.container), log.attempt)));
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => Err(ambiguous(
            typed,
            several.iter().map(|f| {
                let container = f.container.as_ref().map(|c| format!(":{c}")).unwrap_or_default();
                format!("{}{container} (UID {})", f.full_name(), f.uid)
            }),
        )),
    }
}

/// An address, a PID, a sandbox: the runtime is asked, or its files.
fn by_runtime(
    options: &Options,
    logs: &Logs,
    typed: &str,
    selector: &Selector,
) -> Result<LogFolder, ResolveError> {
    let (pod, container) = if let Selector::Pid(pid) = selector {
        let source = super::resolve(options, typed)?;
        let pod =
            source.pod.ok_or_else(|| ResolveError::NotFound(format!("process {pid} belongs to no pod")))?;
        let container =
            source.container_id.and_then(|id| logs.container(&id)).map(|log| log.container.clone());
        (pod, container)
    } else {
        let list = super::list(options)?;
        let found = matching::matches(&list.pods, selector);
        let one = matching::only(&list.pods, &found)
            .map_err(|several| ResolveError::Ambiguous(format!("{typed} {several}")))?;
        let missing = || super::resolve::not_found(&list.pods, typed, list.degraded.as_ref());
        let one = one.ok_or_else(missing)?;
        let pod = list.pods.get(one.pod).ok_or_else(missing)?;
        let container = one.container.and_then(|at| pod.containers.get(at)).map(|c| c.name.clone());
        (pod.clone(), container)
    };
    // A static pod's folder may carry another UID than its cgroup; its name is the same.
    let same = |(uid, namespace, name): &(&str, &str, &str)| {
        *uid == pod.uid || (*namespace == pod.namespace && *name == pod.name)
    };
    let mut folders: Vec<_> = logs.pods().filter(same).collect();
    folders.sort_by_key(|(uid, ..)| *uid != pod.uid);
    let (uid, namespace, name) = *folders.first().ok_or_else(|| {
        ResolveError::NotFound(format!("pod {} has no log folder under /var/log/pods", pod.full_name()))
    })?;
    Ok(LogFolder {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        container,
        attempt: None,
        former: Vec::new(),
    })
}

fn ambiguous(typed: &str, list: impl Iterator<Item = String>) -> ResolveError {
    let mut list: Vec<String> = list.collect();
    list.sort();
    ResolveError::Ambiguous(format!("{typed} fits {}: {}", list.len(), list.join(", ")))
}

fn not_found(logs: &Logs, typed: &str) -> ResolveError {
    let pod = |(uid, namespace, name): (&str, &str, &str)| Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        sandbox_id: String::new(),
        state: PodState::Ready,
        restarts: None,
        host_network: None,
        ips: Vec::new(),
        pid: None,
        netns: None,
        netns_inode: None,
        created_at: None,
        containers: Vec::new(),
    };
    let near = close_names(&logs.pods().map(pod).collect::<Vec<_>>(), typed);
    let close = if near.is_empty() { String::new() } else { format!("; close: {}", near.join(", ")) };
    ResolveError::NotFound(format!("no logs of a pod {typed} under /var/log/pods of this node{close}"))
}

/// Whether a process of an attempt of a container lives; `None` where nothing tells.
pub fn is_running(options: &Options, folder: &LogFolder, container: &str, attempt: u32) -> Option<bool> {
    let fs = options.open().ok()?;
    let survey = Survey::offline(&fs);
    let is_it = |log: &super::disk::ContainerLog| {
        log.uid.as_deref() == Some(&folder.uid) && log.container == container && log.attempt == Some(attempt)
    };
    let ids: Vec<&str> =
        survey.disk.logs().containers().filter(|(_, log)| is_it(log)).map(|(id, _)| id).collect();
    if ids.is_empty() || !survey.proc.is_there() {
        return None;
    }
    let scan = survey.proc.scan();
    Some(ids.iter().any(|id| scan.containers.contains_key(*id)))
}
