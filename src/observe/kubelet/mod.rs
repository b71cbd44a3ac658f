//! What a running kubelet was given: its own arguments, or those that the program around it gives to it.
//!
//! Sources: pflag (a later flag wins); kubelet `cmd/kubelet/app/server.go` (`--config-dir` is walked, folders too, by
//! name); MicroK8s `wrappers/run-kubelite-with-args` and the kubelite patch's `ReadArgsFromFile`.

mod config;
mod k3s;
mod unit;

pub(super) use config::read as read_config;
pub use config::{go_duration_ms, merge_kubelet_config};

use super::files::{entries, text};
use crate::facts::{KubeletHost, KubeletProcess, Seen};
use rustix::fs::FileType;
use std::fs::File;

const MOST_DROP_INS: usize = 200;
const DEEPEST: usize = 4;
const MOST_ARGUMENTS: usize = 1000;

/// What a kubelet runs with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Given {
    /// The program that it is inside of.
    pub(super) inside: Option<KubeletHost>,
    /// Its flags, as `--name=value` or `--name value`.
    pub(super) flags: Vec<String>,
    /// The files that these were read from.
    pub(super) files: Vec<String>,
    /// Why the cgroup driver is not the kubelet's default where no flag states it.
    pub(super) driver_unknown: Option<String>,
}

/// What the kubelet of this process was given; `None` when the program around it runs without one.
///
/// # Errors
/// One sentence when that is not to be seen.
pub(super) fn given(root: &File, process: &KubeletProcess) -> Seen<Option<Given>> {
    match process.inside {
        None => {
            let flags = process.arguments.iter().skip(1).cloned().collect();
            Ok(Some(Given { flags, ..Given::default() }))
        }
        Some(KubeletHost::Kubelite) => kubelite(root, &process.arguments).map(Some),
        Some(KubeletHost::K3s) => k3s::given(root, process),
    }
}

/// Every value of a flag.
pub(super) fn values<'a>(flags: &'a [String], name: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut rest = flags.iter().map(String::as_str);
    while let Some(flag) = rest.next() {
        let Some(flag) = flag.strip_prefix("--") else { continue };
        match flag.split_once('=') {
            Some((known, value)) if known == name => found.push(value),
            None if flag == name => found.extend(rest.next()),
            _ => {}
        }
    }
    found
}

/// The value of a flag: the last that is given.
pub(super) fn value(flags: &[String], name: &str) -> Option<String> {
    values(flags, name).pop().map(ToOwned::to_owned)
}

/// The files of a `--config-dir`, in the order in which they are laid over each other.
pub(super) fn drop_ins(root: &File, folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(root, folder.trim_end_matches('/'), DEEPEST, &mut found);
    found
}

fn walk(root: &File, folder: &str, depth: usize, found: &mut Vec<String>) {
    for (name, kind) in entries(root, folder) {
        let path = format!("{folder}/{name}");
        if kind == FileType::Directory {
            if depth > 1 {
                walk(root, &path, depth - 1, found);
            }
        } else if name.ends_with(".conf") && found.len() < MOST_DROP_INS {
            found.push(path);
        }
    }
}

/// MicroK8s: a file of arguments, `--kubelet-args-file`.
fn kubelite(root: &File, arguments: &[String]) -> Seen<Given> {
    const USUAL: &str = "/var/snap/microk8s/current/args/kubelet";
    let path = value(arguments, "kubelet-args-file").unwrap_or_else(|| USUAL.to_owned());
    let text = text(root, &path).map_err(|error| format!("{path}: {error}"))?;
    let flags = kubelite_flags(&text, &path, arguments.first().map(String::as_str));
    Ok(Given { inside: Some(KubeletHost::Kubelite), flags, files: vec![path], driver_unknown: None })
}

/// The flags of such a file: comments out, quotes away, cut at blanks, variables of snapd put in.
fn kubelite_flags(text: &str, path: &str, program: Option<&str>) -> Vec<String> {
    // $SNAP_DATA/args/kubelet, $SNAP/kubelite.
    let data = path.rsplit_once("/args/").map_or("", |(data, _)| data);
    let common = data.rsplit_once('/').map(|(all, _)| format!("{all}/common")).unwrap_or_default();
    let snap = program.and_then(|p| p.rsplit_once('/')).map_or("", |(snap, _)| snap);
    let of_name = |name: &str| match name {
        "SNAP_DATA" => data,
        "SNAP_COMMON" => common.as_str(),
        "SNAP" => snap,
        _ => "",
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let words = lines.flat_map(|line| line.split(' ')).filter(|word| !word.is_empty()).take(MOST_ARGUMENTS);
    words.map(|word| expand(&word.replace(['"', '\''], ""), of_name)).collect()
}

/// Puts in what `$NAME` and `${NAME}` stand for.
fn expand<'a>(word: &str, of_name: impl Fn(&str) -> &'a str) -> String {
    let mut parts = word.split('$');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let braced = part.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let (name, rest) = braced.unwrap_or_else(|| {
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
            part.split_at(end)
        });
        whole.push_str(of_name(name));
        whole.push_str(rest);
    }
    whole
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
