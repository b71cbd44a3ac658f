//! The cgroup driver and the plugin folders of the runtime that runs, from its configuration files.
//!
//! Which runtime that is comes from its own word, the socket that it was asked at, or its process: files stay behind
//! when another one takes over.

use super::runtime_files::{Files, parse_containerd, parse_crio};
use crate::facts::{NodeProcesses, RuntimeConfig, RuntimeWord, Seen, Stated};
use crate::observe::files::{names, text};
use std::collections::VecDeque;
use std::fs::File;

/// Where CNI plugins are when nobody says anything.
pub(super) const PLUGINS: &str = "/opt/cni/bin";
/// Where distributions put CNI plugins; k3s, k0s and microk8s have their own.
const ELSEWHERE: &[&str] = &[
    "/usr/lib/cni",
    "/usr/libexec/cni",
    "/var/lib/rancher/k3s/data/current/bin",
    "/var/lib/rancher/k3s/data/cni",
    "/var/snap/microk8s/current/opt/cni/bin",
];
/// The main file of a containerd by a part of its socket's path.
const CONTAINERD: &[(&str, &str)] = &[
    ("/k3s/", "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"),
    ("/k3s/", "/var/lib/rancher/rke2/agent/etc/containerd/config.toml"),
    ("/k0s/", "/etc/k0s/containerd.toml"),
    ("/microk8s/", "/var/snap/microk8s/current/args/containerd.toml"),
    ("", "/etc/containerd/config.toml"),
];
const CRIO: &str = "/etc/crio/crio.conf";
const CRIO_FOLDER: &str = "/etc/crio/crio.conf.d";
/// Files of one containerd, those that are imported included.
const MOST_FILES: usize = 32;
const MOST_RUNTIMES: usize = 8;

/// What is known of the runtime that kubelet and we ask.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// `unix:///…`, where it was asked, or tried to be.
    pub endpoint: Option<&'a str>,
    /// What it said of itself.
    pub word: Option<&'a RuntimeWord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Containerd,
    Crio,
    Docker,
}

/// Where to look when no configuration says where: a plugin is missing only when it is in none of them.
pub(super) fn known_folders() -> Vec<String> {
    std::iter::once(&PLUGINS).chain(ELSEWHERE).map(|folder| (*folder).to_owned()).collect()
}

/// The configuration of the runtime that runs, or of the one that has a file.
pub(super) fn read(root: &File, processes: Option<&NodeProcesses>, asked: Asked<'_>) -> Seen<RuntimeConfig> {
    let arguments = processes.map_or(&[][..], |p| p.runtimes.as_slice());
    let known = kind(asked, arguments);
    let mut config = match known {
        Some(Kind::Docker) => return Err("the runtime is Docker, whose cgroup driver is not read".into()),
        Some(Kind::Crio) => crio(root, arguments)?,
        Some(Kind::Containerd) => containerd(root, arguments, asked, true)?,
        None => match containerd(root, arguments, asked, false) {
            Err(why) if why == NO_FILE => crio(root, arguments)
                .ok()
                .filter(|config| config.driver.source != CRIO_DEFAULT)
                .ok_or("no configuration of containerd or CRI-O was found")?,
            other => other?,
        },
    };
    if let Some(word) = asked.word {
        config.hands_driver = Some(word.driver.is_some());
        if let Some(value) = word.driver {
            let source = format!("{} (RuntimeConfig)", asked.endpoint.unwrap_or("CRI"));
            config.driver = Stated { value, source };
        }
    }
    Ok(config)
}

const NO_FILE: &str = "no configuration file";
pub(super) const CRIO_DEFAULT: &str = "CRI-O's default";

/// The folder of CNI configuration that each of these processes states in its files, one after the other.
pub(super) fn config_folders(root: &File, runtimes: &[Vec<String>]) -> Vec<String> {
    let mut folders: Vec<String> = Vec::new();
    for process in runtimes.iter().take(MOST_RUNTIMES) {
        // dockerd's own serves no kubelet.
        if flag(process, &["--config", "-c"]).is_some_and(|path| path.contains("/docker/")) {
            continue;
        }
        let one = std::slice::from_ref(process);
        let config = match program(process) {
            "crio" => crio(root, one),
            _ => containerd(root, one, Asked::default(), true),
        };
        let folder = config.ok().and_then(|config| config.config_folder);
        folders.extend(folder.filter(|folder| !folders.contains(folder)));
    }
    folders
}

fn kind(asked: Asked<'_>, arguments: &[Vec<String>]) -> Option<Kind> {
    let of_name = |name: &str| match name {
        _ if name.contains("cri-o") || name.contains("crio") => Some(Kind::Crio),
        _ if name.contains("docker") => Some(Kind::Docker),
        _ if name.contains("containerd") => Some(Kind::Containerd),
        _ => None,
    };
    let word = asked.word.and_then(|word| of_name(&word.name));
    let socket = || of_name(asked.endpoint?);
    let process = || {
        let mut kinds: Vec<Kind> = arguments.iter().filter_map(|a| of_name(program(a))).collect();
        kinds.dedup();
        if let [one] = kinds.as_slice() { Some(*one) } else { None }
    };
    word.or_else(socket).or_else(process)
}

fn program(arguments: &[String]) -> &str {
    arguments.first().and_then(|a| a.rsplit('/').next()).unwrap_or_default()
}

/// `--name value`, `--name=value`; with one letter `-n value` too.
fn flag<'a>(arguments: &'a [String], names: &[&str]) -> Option<&'a str> {
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        match argument.split_once('=') {
            Some((name, value)) if names.contains(&name) => return Some(value),
            None if names.contains(&argument.as_str()) => return rest.next().map(String::as_str),
            _ => {}
        }
    }
    None
}

/// The main file: of the process that listens where was asked, of the product that has that socket, the usual one.
fn main_file(root: &File, arguments: &[Vec<String>], endpoint: Option<&str>) -> String {
    let socket = endpoint.map(|e| e.trim_start_matches("unix://"));
    let ours = arguments.iter().filter(|a| program(a) == "containerd").find(|process| {
        let address = flag(process, &["--address", "-a"]);
        let own = flag(process, &["--config", "-c"]).is_some_and(|path| path.contains("/docker/"));
        match (address, socket) {
            (Some(address), Some(socket)) => address == socket,
            (None, Some(socket)) => socket == "/run/containerd/containerd.sock" && !own,
            (_, None) => !own,
        }
    });
    if let Some(path) = ours.and_then(|process| flag(process, &["--config", "-c"])) {
        return path.to_owned();
    }
    let fits = |part: &str| part.is_empty() || socket.is_none_or(|socket| socket.contains(part));
    let mut candidates: Vec<&str> =
        CONTAINERD.iter().filter(|(part, _)| fits(part)).map(|(_, path)| *path).collect();
    if socket.is_none() {
        candidates.reverse();
    }
    let there = candidates
        .iter()
        .find(|path| !matches!(text(root, path), Err(error) if error.kind() == std::io::ErrorKind::NotFound));
    there.copied().unwrap_or("/etc/containerd/config.toml").to_owned()
}

fn containerd(root: &File, arguments: &[Vec<String>], asked: Asked<'_>, runs: bool) -> Seen<RuntimeConfig> {
    let path = main_file(root, arguments, asked.endpoint);
    let major = asked.word.and_then(|word| major(&word.version));
    let files = match text(root, &path) {
        Ok(text) => with_imports(root, &path, text),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(format!("{path}: {error}")),
        Err(_) if runs => vec![(path, String::new())],
        Err(_) => return Err(NO_FILE.into()),
    };
    parse_containerd(&files, major)
}

/// `v2.1.0`, `1.7.24~ds1`: 2, 1.
fn major(version: &str) -> Option<u64> {
    version.trim_start_matches('v').split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The files in the order in which containerd lays them over each other: breadth first, each once.
fn with_imports(root: &File, path: &str, first: String) -> Files {
    let mut files: Files = Vec::new();
    let mut waiting = VecDeque::from([(path.to_owned(), first)]);
    while let Some((path, content)) = waiting.pop_front() {
        if files.len() >= MOST_FILES || files.iter().any(|(known, _)| *known == path) {
            continue;
        }
        let table: toml::Table = content.parse().unwrap_or_default();
        let imports = table.get("imports").and_then(toml::Value::as_array).into_iter().flatten();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        files.push((path, content));
        for import in imports.filter_map(toml::Value::as_str).take(MOST_FILES) {
            let import =
                if import.starts_with('/') { import.to_owned() } else { format!("{folder}/{import}") };
            for path in expand(root, &import).into_iter().take(MOST_FILES) {
                if let Ok(content) = text(root, &path) {
                    waiting.push_back((path, content));
                }
            }
        }
    }
    files
}

/// The files that a path with at most one `*` in its last part stands for.
fn expand(root: &File, path: &str) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    let Some((start, end)) = name.split_once('*') else { return vec![path.to_owned()] };
    let mut found = names(root, folder, end);
    found.retain(|name| name.starts_with(start) && name.len() >= start.len() + end.len());
    found.into_iter().map(|name| format!("{folder}/{name}")).collect()
}

fn crio(root: &File, arguments: &[Vec<String>]) -> Seen<RuntimeConfig> {
    let process = arguments.iter().find(|a| program(a) == "crio").map_or(&[][..], Vec::as_slice);
    let file = flag(process, &["--config", "-c"]).unwrap_or(CRIO);
    let folder = flag(process, &["--config-dir", "-d"]).unwrap_or(CRIO_FOLDER).trim_end_matches('/');
    let drop_ins = names(root, folder, "").into_iter().map(|name| format!("{folder}/{name}"));
    let mut files: Files = Vec::new();
    for path in std::iter::once(file.to_owned()).chain(drop_ins) {
        match text(root, &path) {
            Ok(content) => files.push((path, content)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{path}: {error}")),
        }
    }
    for (name, table, key) in
        [("--cgroup-manager", "runtime", "cgroup_manager"), ("--cni-config-dir", "network", "network_dir")]
    {
        if let Some(value) = flag(process, &[name]) {
            files.push((format!("{name} of crio"), format!("[crio.{table}]\n{key} = {value:?}\n")));
        }
    }
    parse_crio(&files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::CgroupDriver;
    use std::path::Path;

    const SYSTEMD_V2: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n";

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn word(name: &str, version: &str, driver: Option<CgroupDriver>) -> RuntimeWord {
        RuntimeWord { name: name.into(), version: version.into(), driver }
    }

    fn running(lines: &[&str]) -> NodeProcesses {
        let runtimes = lines.iter().map(|l| l.split(' ').map(ToOwned::to_owned).collect()).collect();
        NodeProcesses { runtimes, ..NodeProcesses::default() }
    }

    fn at<'a>(endpoint: &'a str, word: Option<&'a RuntimeWord>) -> Asked<'a> {
        Asked { endpoint: Some(endpoint), word }
    }

    #[test]
    fn what_runs_is_read_and_not_what_was_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        assert!(read(&root, None, Asked::default()).is_err());
        put(dir.path(), "/etc/containerd/config.toml", SYSTEMD_V2);
        put(dir.path(), "/etc/crio/crio.conf.d/10-x.conf", "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n");
        let runtime = |processes: &NodeProcesses, asked| read(&root, Some(processes), asked).unwrap().runtime;
        let none = NodeProcesses::default();
        let crio = word("cri-o", "1.30.0", Some(CgroupDriver::Cgroupfs));
        assert_eq!(runtime(&none, at("unix:///run/odd.sock", Some(&crio))), "cri-o");
        assert_eq!(runtime(&none, at("unix:///run/crio/crio.sock", None)), "cri-o");
        assert_eq!(runtime(&running(&["/usr/bin/crio"]), Asked::default()), "cri-o");
        assert_eq!(
            runtime(&running(&["/usr/bin/crio", "/usr/bin/containerd"]), Asked::default()),
            "containerd"
        );
        assert_eq!(runtime(&none, Asked::default()), "containerd");
        let docker = word("docker", "26.1.5", None);
        assert!(
            read(&root, None, at("unix:///run/cri-dockerd.sock", Some(&docker)))
                .unwrap_err()
                .contains("Docker")
        );
        std::fs::remove_file(dir.path().join("etc/containerd/config.toml")).unwrap();
        assert_eq!(runtime(&none, Asked::default()), "cri-o", "the only one with a file");
        let defaults = read(&root, None, at("unix:///run/containerd/containerd.sock", None)).unwrap();
        assert_eq!((defaults.runtime, defaults.driver.value), ("containerd", CgroupDriver::Cgroupfs));
        assert!(defaults.driver.source.contains("default"), "{:?}", defaults.driver);
    }

    #[test]
    fn the_runtimes_own_word_is_above_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        put(dir.path(), "/etc/containerd/config.toml", SYSTEMD_V2);
        let socket = "unix:///run/containerd/containerd.sock";
        let told = word("containerd", "v2.0.0", Some(CgroupDriver::Cgroupfs));
        let config = read(&root, None, at(socket, Some(&told))).unwrap();
        assert_eq!((config.driver.value, config.hands_driver), (CgroupDriver::Cgroupfs, Some(true)));
        assert!(config.driver.source.contains("RuntimeConfig"));
        let old = word("containerd", "1.7.24", None);
        let config = read(&root, None, at(socket, Some(&old))).unwrap();
        assert_eq!((config.driver.value, config.hands_driver), (CgroupDriver::Systemd, Some(false)));
        let silent = read(&root, None, at(socket, None)).unwrap();
        assert_eq!((silent.driver.value, silent.hands_driver), (CgroupDriver::Systemd, None));
    }

    #[test]
    fn the_main_file_is_that_of_the_process_that_listens_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let of = |lines: &[&str], endpoint| main_file(&root, &running(lines).runtimes, endpoint);
        let usual = "/etc/containerd/config.toml";
        let socket = Some("unix:///run/containerd/containerd.sock");
        assert_eq!(of(&[], socket), usual);
        assert_eq!(of(&["/usr/bin/containerd --config /x.toml"], socket), "/x.toml");
        assert_eq!(of(&["containerd --config=/var/run/docker/containerd/containerd.toml"], socket), usual);
        let k0s = "containerd --root=/r --address=/run/k0s/containerd.sock --config=/k0s.toml";
        assert_eq!(
            of(&["containerd -c /other.toml", k0s], Some("unix:///run/k0s/containerd.sock")),
            "/k0s.toml"
        );
        assert_eq!(of(&["containerd -c /other.toml", k0s], socket), "/other.toml");
        let k3s = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
        put(dir.path(), k3s, "");
        put(dir.path(), usual, "");
        assert_eq!(
            of(&[], Some("unix:///run/k3s/containerd/containerd.sock")),
            k3s,
            "the usual one was left behind"
        );
        assert_eq!(of(&[], socket), usual);
        assert_eq!(of(&[], None), usual);
        std::fs::remove_file(dir.path().join("etc/containerd/config.toml")).unwrap();
        assert_eq!(of(&[], None), k3s);
    }

    #[test]
    fn imports_are_found_relative_by_pattern_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        put(
            dir.path(),
            "/etc/containerd/conf.d/b.toml",
            "imports = [\"/etc/containerd/config.toml\", \"../c.toml\"]",
        );
        put(dir.path(), "/etc/containerd/conf.d/a.toml", "");
        put(dir.path(), "/etc/containerd/conf.d/a.toml.bak", "");
        put(dir.path(), "/etc/containerd/c.toml", "");
        let main = "imports = [\"conf.d/*.toml\", \"/gone.toml\"]".to_owned();
        let found = with_imports(&root, "/etc/containerd/config.toml", main);
        let names: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        let conf = "/etc/containerd/conf.d";
        assert_eq!(
            names,
            [
                "/etc/containerd/config.toml",
                &format!("{conf}/a.toml"),
                &format!("{conf}/b.toml"),
                &format!("{conf}/../c.toml")
            ]
        );
    }

    #[test]
    fn drop_ins_of_crio_are_laid_over_its_file_and_its_flag_over_both() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let says = |m: &str| format!("[crio.runtime]\ncgroup_manager = \"{m}\"\n");
        put(dir.path(), "/etc/crio/crio.conf", &says("cgroupfs"));
        put(dir.path(), "/etc/crio/crio.conf.d/10-crio.conf", &says("systemd"));
        let driver = |lines: &[&str]| {
            let config = read(&root, Some(&running(lines)), at("unix:///run/crio/crio.sock", None)).unwrap();
            (config.driver.value, config.driver.source)
        };
        let drop_in = "/etc/crio/crio.conf.d/10-crio.conf".to_owned();
        assert_eq!(driver(&["/usr/bin/crio"]), (CgroupDriver::Systemd, drop_in));
        let flag = "/usr/bin/crio --cgroup-manager=cgroupfs";
        assert_eq!(driver(&[flag]), (CgroupDriver::Cgroupfs, "--cgroup-manager of crio".into()));
        put(dir.path(), "/x/crio.conf", "");
        let elsewhere = "/usr/bin/crio --config /x/crio.conf --config-dir /x/d";
        assert_eq!(driver(&[elsewhere]), (CgroupDriver::Systemd, CRIO_DEFAULT.into()));
    }

    #[test]
    fn every_runtime_that_runs_states_its_folder_of_cni_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let v2 = |folder: &str| {
            format!("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = \"{folder}\"\n")
        };
        put(dir.path(), "/k0s.toml", &format!("imports = [\"/d/*.toml\"]\n{}", v2("/first")));
        put(dir.path(), "/d/a.toml", &v2("/imported"));
        put(dir.path(), "/etc/crio/crio.conf.d/1.conf", "[crio.network]\nnetwork_dir = \"/crio\"\n");
        let of = |lines: &[&str]| config_folders(&root, &running(lines).runtimes);
        assert_eq!(of(&[]), Vec::<String>::new());
        assert_eq!(of(&["containerd --config=/k0s.toml", "/usr/bin/crio"]), ["/imported", "/crio"]);
        assert_eq!(of(&["/usr/bin/crio --cni-config-dir /flag"]), ["/flag"]);
        put(dir.path(), "/run/docker/c.toml", &v2("/docker"));
        assert_eq!(of(&["containerd --config /run/docker/c.toml", "containerd"]), Vec::<String>::new());
        put(dir.path(), "/etc/containerd/config.toml", &v2("/usual"));
        assert_eq!(of(&["containerd"]), ["/usual"]);
    }

    #[test]
    fn versions_of_runtimes() {
        for (text, number) in [("v2.1.0", Some(2)), ("1.7.24~ds1", Some(1)), ("", None), ("main", None)] {
            assert_eq!(major(text), number, "{text}");
        }
    }
}
