//! `nsprobe pods`: the document and the table.

use super::{Out, Paint, findings, sanitize};
use crate::facts::{
    Container, ContainerState, Degraded, DegradedReason, Finding, ListSource, PidSource, Pod, PodState,
    unix_seconds,
};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write;

/// Body of `nsprobe.pods/v1`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodsDocument {
    /// Where the list came from.
    pub source: ListSource,
    /// The runtime endpoint that was used or tried.
    pub endpoint: Option<String>,
    /// Set when the runtime could not be used.
    pub degraded: Option<Degraded>,
    /// The pods, by namespace and name.
    pub pods: Vec<Pod>,
    /// What is wrong with the runtime.
    pub findings: Vec<Finding>,
}

/// What of the table is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodsView {
    /// Containers too, with ids and all addresses.
    pub verbose: bool,
    /// Seconds since 1970, for ages.
    pub now: i64,
}

/// Verdict first when there is one, then the table, then the findings.
pub fn render_pods(document: &PodsDocument, view: PodsView, out: &Out) -> String {
    render(document, view, out.paint, out.width)
}

fn render(document: &PodsDocument, view: PodsView, paint: Paint, width: Option<usize>) -> String {
    let mut text = String::new();
    let count = document.pods.len();
    let pods = match (count, document.source) {
        (0, _) => "no pods on this node were found".to_owned(),
        (1, ListSource::Cri) => {
            "this 1 pod is listed by the runtime, its details come from disk and /proc".into()
        }
        (n, ListSource::Cri) => {
            format!("these {n} pods are listed by the runtime, their details come from disk and /proc")
        }
        (1, ListSource::Disk) => "this 1 pod was read from disk and /proc".into(),
        (n, ListSource::Disk) => format!("these {n} pods were read from disk and /proc"),
    };
    match (&document.degraded, count) {
        (Some(degraded), _) => {
            let _ = writeln!(text, "{}: {pods}", paint.yellow(fault(degraded.reason)));
        }
        (None, 0) => {
            let asked = document.endpoint.as_deref().unwrap_or("disk");
            let _ = writeln!(text, "No pods on this node ({} was asked)", sanitize(asked));
        }
        _ => {}
    }
    if count > 0 {
        table(&mut text, document, view, paint, width);
    }
    if !document.findings.is_empty() {
        text.push('\n');
        text.push_str(&findings(paint, width, &document.findings));
    }
    text
}

/// The detail stands in the finding below the table.
fn fault(reason: DegradedReason) -> &'static str {
    match reason {
        DegradedReason::RuntimeHung => "The container runtime is hung",
        DegradedReason::RuntimeDead => "The container runtime is not running",
        DegradedReason::RuntimeError => "The container runtime answers with an error",
        DegradedReason::NoRuntime => "No container runtime was found",
    }
}

const HEAD: [&str; 7] = ["NAMESPACE/NAME", "STATE", "IP", "RESTARTS", "PID", "AGE", "NETNS"];
const UNKNOWN: &str = "-";

fn table(text: &mut String, document: &PodsDocument, view: PodsView, paint: Paint, width: Option<usize>) {
    let mut rows: Vec<[String; 7]> = vec![HEAD.map(ToOwned::to_owned)];
    rows.extend(document.pods.iter().map(|pod| cells(pod, view.now)));
    let mut widths = columns(&rows);
    let total = |widths: &[usize; 7]| widths.iter().filter(|w| **w > 0).map(|w| w + 2).sum::<usize>() - 2;
    if width.is_some_and(|width| total(&widths) > width) {
        // The inode says as much as the path, in a quarter of the room.
        for (row, pod) in rows.iter_mut().skip(1).zip(&document.pods) {
            let [.., netns] = row;
            *netns = namespace(pod, false);
        }
        widths = columns(&rows);
    }
    for column in [6, 3, 5] {
        if width.is_some_and(|width| total(&widths) > width)
            && let Some(w) = widths.get_mut(column)
        {
            *w = 0;
        }
    }
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, &w) in row.iter().zip(&widths).filter(|(_, w)| **w > 0) {
            let _ = write!(line, "{cell:<w$}  ");
        }
        let line = line.trim_end();
        if index == 0 {
            let _ = writeln!(text, "{}", paint.bold(line));
            continue;
        }
        let pod = document.pods.get(index - 1);
        let dead = pod.is_some_and(|pod| pod.state != PodState::Ready);
        let _ = writeln!(text, "{}", if dead { paint.dim(line) } else { line.to_owned() });
        if view.verbose
            && let Some(pod) = pod
        {
            details(text, pod);
        }
    }
}

fn columns(rows: &[[String; 7]]) -> [usize; 7] {
    let mut widths = [0; 7];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

fn cells(pod: &Pod, now: i64) -> [String; 7] {
    let number = |n: Option<u32>| n.map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string());
    let name = sanitize(&pod.full_name()).into_owned();
    let state = match pod.state {
        PodState::Ready => "Ready",
        PodState::NotReady => "NotReady",
        PodState::Unknown => "Unknown",
    };
    let ip = match pod.ips.first() {
        Some(ip) => ip.to_string(),
        None if pod.host_network == Some(true) => "host".into(),
        None => UNKNOWN.into(),
    };
    let created = pod.created_at.as_deref().and_then(unix_seconds);
    let age = created.map_or_else(|| UNKNOWN.to_owned(), |created| age(now - created));
    [name, state.into(), ip, number(pod.restarts), number(pod.pid), age, namespace(pod, true)]
}

fn namespace(pod: &Pod, named: bool) -> String {
    if pod.host_network == Some(true) {
        return "host".into();
    }
    let path = pod.netns.as_deref().filter(|_| named);
    match (path, pod.netns_inode) {
        (Some(path), _) => sanitize(path.rsplit('/').next().unwrap_or(path)).into_owned(),
        (None, Some(inode)) => inode.to_string(),
        (None, None) => UNKNOWN.into(),
    }
}

/// As kubectl has it: `45s`, `12m`, `5h`, `3d`.
fn age(seconds: i64) -> String {
    match seconds {
        ..0 => "0s".into(),
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn details(text: &mut String, pod: &Pod) {
    let ips: Vec<String> = pod.ips.iter().map(ToString::to_string).collect();
    let inode = pod.netns_inode.map_or_else(|| UNKNOWN.to_owned(), |inode| inode.to_string());
    let _ = writeln!(
        text,
        "  sandbox {}  uid {}\n  netns {} inode {inode}  ips {}",
        sanitize(&pod.sandbox_id),
        sanitize(&pod.uid),
        sanitize(pod.netns.as_deref().unwrap_or(UNKNOWN)),
        if ips.is_empty() { UNKNOWN.to_owned() } else { ips.join(" ") }
    );
    for container in &pod.containers {
        let _ = writeln!(text, "  {}", container_line(container));
    }
}

fn container_line(container: &Container) -> String {
    let state = match container.state {
        ContainerState::Created => "Created",
        ContainerState::Running => "Running",
        ContainerState::Exited => "Exited",
        ContainerState::Unknown => "Unknown",
    };
    let mut line = format!("{}  {state}", sanitize(&container.name));
    if let Some(pid) = container.pid {
        let source = match container.pid_source {
            Some(PidSource::Cri) => " from the runtime",
            Some(PidSource::Disk) => " from disk",
            Some(PidSource::Proc) => " from /proc",
            None => "",
        };
        let _ = write!(line, "  pid {pid}{source}");
    }
    if let Some(attempt) = container.attempt {
        let _ = write!(line, "  attempt {attempt}");
    }
    if let Some(code) = container.exit_code {
        let _ = write!(line, "  exit {code}");
    }
    if let Some(reason) = &container.reason {
        let _ = write!(line, "  {}", sanitize(reason));
    }
    let _ = write!(line, "  {}", sanitize(&container.id));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ip: Option<&str>) -> Pod {
        Pod {
            namespace: "shop".into(),
            name: name.into(),
            uid: "1ffb5b88-6734-49ea-9e18-586f0692991c".into(),
            sandbox_id: "f687faf1239d".into(),
            state: PodState::Ready,
            restarts: Some(0),
            host_network: Some(ip.is_none()),
            ips: ip.map(|ip| ip.parse().unwrap()).into_iter().collect(),
            pid: Some(1015),
            netns: ip.map(|_| "/var/run/netns/cni-3fac6912-ec4d-0895-dae9-8e88388fe9c7".into()),
            netns_inode: Some(4_026_539_895),
            created_at: Some("2026-11-23T17:02:26Z".into()),
            containers: vec![Container {
                name: "app".into(),
                id: "25b1d990dbaa".into(),
                state: ContainerState::Running,
                pid: Some(1441),
                pid_source: Some(PidSource::Disk),
                attempt: Some(0),
                exit_code: None,
                reason: None,
            }],
        }
    }

    fn document(pods: Vec<Pod>) -> PodsDocument {
        PodsDocument {
            source: ListSource::Cri,
            endpoint: Some("unix:///run/containerd/containerd.sock".into()),
            degraded: None,
            pods,
            findings: Vec::new(),
        }
    }

    fn shown(document: &PodsDocument, verbose: bool, width: Option<usize>) -> String {
        let now = unix_seconds("2026-11-23T17:08:00Z").unwrap();
        render(document, PodsView { verbose, now }, Paint::new(false), width)
    }

    #[test]
    fn a_healthy_node_is_a_table_and_nothing_else() {
        let text =
            shown(&document(vec![pod("web-6f5d", Some("10.244.1.3")), pod("hostnet", None)]), false, None);
        insta::assert_snapshot!(text, @r"
        NAMESPACE/NAME  STATE  IP          RESTARTS  PID   AGE  NETNS
        shop/web-6f5d   Ready  10.244.1.3  0         1015  5m   cni-3fac6912-ec4d-0895-dae9-8e88388fe9c7
        shop/hostnet    Ready  host        0         1015  5m   host
        ");
    }

    #[test]
    fn a_narrow_terminal_gets_inodes_and_then_fewer_columns() {
        let document = document(vec![pod("web-6f5d", Some("10.244.1.3"))]);
        let text = shown(&document, false, Some(80));
        assert!(text.contains("4026539895") && text.lines().all(|line| line.len() <= 80), "{text}");
        let text = shown(&document, false, Some(40));
        assert!(
            text.contains("1015") && !text.contains("NETNS") && text.lines().all(|l| l.len() <= 40),
            "{text}"
        );
    }

    #[test]
    fn a_degraded_list_says_so_first() {
        let mut document = document(vec![pod("web", Some("10.0.0.1"))]);
        document.source = ListSource::Disk;
        document.degraded = Some(Degraded {
            reason: DegradedReason::RuntimeHung,
            detail: "the container runtime hangs".into(),
        });
        let text = shown(&document, false, None);
        assert!(
            text.starts_with("The container runtime is hung: this 1 pod was read from disk and /proc\n"),
            "{text}"
        );
    }

    #[test]
    fn no_pods_says_who_was_asked() {
        let text = shown(&document(Vec::new()), false, None);
        assert_eq!(text, "No pods on this node (unix:///run/containerd/containerd.sock was asked)\n");
    }

    #[test]
    fn names_from_a_hostile_disk_cannot_steer_the_terminal() {
        let mut hostile = pod("web\u{1b}[2Jx", Some("10.0.0.1"));
        hostile.netns = Some("/run/netns/\u{1b}]0;x\u{7}".into());
        hostile.containers[0].name = "a\nb".into();
        hostile.containers[0].reason = Some("\u{202e}".into());
        let text = shown(&document(vec![hostile]), true, None);
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{7}') && !text.contains('\u{202e}'),
            "{text:?}"
        );
        assert!(text.contains("a\\nb"));
    }

    #[test]
    fn verbose_lists_containers_with_pid_and_id() {
        let text = shown(&document(vec![pod("web", Some("10.0.0.1"))]), true, None);
        assert!(text.contains("app  Running  pid 1441 from disk  attempt 0  25b1d990dbaa"), "{text}");
    }

    #[test]
    fn ages_are_kubectls() {
        for (seconds, text) in
            [(-5, "0s"), (45, "45s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (400_000, "4d")]
        {
            assert_eq!(age(seconds), text);
        }
    }
}
