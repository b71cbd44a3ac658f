//! The kubelet's log folders tell names and restarts that the runtime's files do not:
//! `/var/log/containers/<pod>_<namespace>_<container>-<id>.log` is a link to
//! `/var/log/pods/<namespace>_<pod>_<uid>/<container>/<attempt>.log`.

use super::HostFs;
use std::collections::HashMap;

const PODS: &str = "/var/log/pods";
const CONTAINERS: &str = "/var/log/containers";

/// What a log link says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerLog {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) uid: Option<String>,
    pub(crate) container: String,
    pub(crate) attempt: Option<u32>,
}

/// What all log folders say.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    by_id: HashMap<String, ContainerLog>,
    /// Highest attempt of each container name, by pod UID.
    attempts: HashMap<String, HashMap<String, u32>>,
    /// Namespace and name, by pod UID.
    pods: HashMap<String, (String, String)>,
}

impl Logs {
    pub(super) fn read(fs: &HostFs) -> Self {
        let mut logs = Self::default();
        for name in fs.names(CONTAINERS) {
            if let Some((id, mut log)) = parse_link_name(&name) {
                let target = fs.link_target(&format!("{CONTAINERS}/{name}")).unwrap_or_default();
                (log.uid, log.attempt) = parse_target(&target);
                logs.by_id.insert(id, log);
            }
        }
        for folder in fs.names(PODS) {
            let mut parts = folder.splitn(3, '_');
            let (Some(namespace), Some(pod), Some(uid)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            logs.pods.insert(uid.to_owned(), (namespace.to_owned(), pod.to_owned()));
            let attempts = logs.attempts.entry(uid.to_owned()).or_default();
            for container in fs.names(&format!("{PODS}/{folder}")) {
                let files = fs.names(&format!("{PODS}/{folder}/{container}"));
                if let Some(last) =
                    files.iter().filter_map(|name| name.strip_suffix(".log")?.parse().ok()).max()
                {
                    attempts.insert(container, last);
                }
            }
        }
        logs
    }

    /// The container with an id.
    pub(crate) fn container(&self, id: &str) -> Option<&ContainerLog> {
        self.by_id.get(id)
    }

    /// Highest attempt of each container of a pod.
    pub(crate) fn attempts(&self, uid: &str) -> Option<&HashMap<String, u32>> {
        self.attempts.get(uid)
    }

    /// UID, namespace and name of every pod that has a log folder.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.pods.iter().map(|(uid, (namespace, name))| (uid.as_str(), namespace.as_str(), name.as_str()))
    }

    /// Every container that a link names, by id.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (&str, &ContainerLog)> {
        self.by_id.iter().map(|(id, log)| (id.as_str(), log))
    }

    /// Namespace and name of a pod.
    pub(crate) fn pod(&self, uid: &str) -> Option<&(String, String)> {
        self.pods.get(uid)
    }
}

fn parse_link_name(name: &str) -> Option<(String, ContainerLog)> {
    let (rest, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
    let mut parts = rest.splitn(3, '_');
    let (pod, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
    let log = ContainerLog {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        uid: None,
        container: container.to_owned(),
        attempt: None,
    };
    Some((id.to_owned(), log))
}

/// UID and attempt in `/var/log/pods/<namespace>_<pod>_<uid>/<container>/<attempt>.log`.
fn parse_target(target: &str) -> (Option<String>, Option<u32>) {
    let mut parts = target.rsplit('/');
    let attempt = parts.next().and_then(|file| file.strip_suffix(".log")?.parse().ok());
    let uid = parts.nth(1).and_then(|folder| folder.splitn(3, '_').nth(2)).map(ToOwned::to_owned);
    (uid, attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_names_pod_container_and_attempt() {
        let (id, log) = parse_link_name("web-0_shop_app-main-abc123.log").unwrap();
        assert_eq!((id.as_str(), log.pod.as_str(), log.namespace.as_str()), ("abc123", "web-0", "shop"));
        assert_eq!(log.container, "app-main");
        let target = "/var/log/pods/shop_web-0_11111111-2222/app-main/3.log";
        assert_eq!(parse_target(target), (Some("11111111-2222".into()), Some(3)));
        assert_eq!(parse_target(""), (None, None));
        assert_eq!(parse_link_name("x.log"), None);
        assert_eq!(parse_link_name("a_b-c.log"), None);
    }
}
