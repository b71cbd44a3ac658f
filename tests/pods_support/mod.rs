//! A node made of recordings: its files under a folder, its /proc, and a CRI server that answers what the
//! runtime answered.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

pub mod cri;
pub mod messages;

use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A node under a temporary folder.
#[derive(Debug)]
pub struct Node {
    folder: tempfile::TempDir,
    recording: PathBuf,
}

/// What a run printed.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub json: Value,
    pub stderr: String,
    pub elapsed_ms: u128,
}

impl Node {
    /// The files and processes of `tests/fixtures/runtimes/NAME`.
    pub fn recorded(name: &str) -> Self {
        let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/runtimes").join(name);
        let node = Self { folder: tempfile::tempdir().unwrap(), recording };
        copy(&node.recording.join("root"), node.root());
        node.add_recorded_processes();
        node.put("proc/1/stat", "1 (systemd) S 0 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 5 9 9");
        node.put("proc/1/cgroup", "0::/init.scope\n");
        node
    }

    /// An empty node.
    pub fn empty() -> Self {
        let node = Self { folder: tempfile::tempdir().unwrap(), recording: PathBuf::new() };
        node.put("proc/1/stat", "1 (systemd) S 0 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 5 9 9");
        node.put("proc/1/cgroup", "0::/init.scope\n");
        node.link("net:[4026531840]", "proc/1/ns/net");
        node
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn recording(&self, name: &str) -> PathBuf {
        self.recording.join(name)
    }

    pub fn put(&self, path: &str, text: &str) {
        let path = self.root().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn link(&self, target: &str, path: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    pub fn remove(&self, path: &str) {
        let path = self.root().join(path);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }

    /// A living process.
    pub fn process(&self, pid: u32, start: u64, cgroup: &str, netns: u64) {
        let stat = format!("{pid} (sleep) S 1 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 {start} 9 9");
        self.put(&format!("proc/{pid}/stat"), &stat);
        self.put(&format!("proc/{pid}/cgroup"), &format!("0::{cgroup}\n"));
        self.link(&format!("net:[{netns}]"), &format!("proc/{pid}/ns/net"));
    }

    fn add_recorded_processes(&self) {
        let Ok(processes) = std::fs::read_dir(self.recording.join("proc")) else { return };
        for entry in processes.map(Result::unwrap) {
            let pid = entry.file_name().into_string().unwrap();
            // A process that had ended when it was recorded has no stat.
            let whole = entry.path().join("stat").exists() && entry.path().join("cgroup").exists();
            for file in ["stat", "cgroup"] {
                if whole {
                    let text = std::fs::read_to_string(entry.path().join(file)).unwrap();
                    self.put(&format!("proc/{pid}/{file}"), &text);
                }
            }
            let links = std::fs::read_to_string(entry.path().join("ns.txt")).unwrap();
            let net = links.lines().find_map(|line| line.strip_prefix("net -> ")).unwrap();
            if !net.is_empty() {
                self.link(net, &format!("proc/{pid}/ns/net"));
            }
        }
    }

    /// PIDs by id, as the runtime named them while recording; only of processes that lived.
    pub fn recorded_pids(&self) -> HashMap<String, u64> {
        let text = std::fs::read_to_string(self.recording.join("pids.tsv")).unwrap();
        let mut pids = HashMap::new();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            let pid: u64 = fields[2].parse().unwrap_or(0);
            if self.root().join(format!("proc/{pid}/stat")).exists() {
                pids.insert(fields[1].to_owned(), pid);
            }
        }
        pids
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nsprobe"));
        command.env_remove("NSPROBE_LOG").env_remove("CONTAINER_RUNTIME_ENDPOINT").env("NO_COLOR", "1");
        command.arg("--host-root").arg(self.root()).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs with `-o json` and reads the document.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Answer {
        let start = std::time::Instant::now();
        let output = self.command(arguments).args(["-o", "json"]).output().unwrap();
        let elapsed_ms = start.elapsed().as_millis();
        let text = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}\n{stderr}"));
        Answer { code: output.status.code().unwrap(), json, stderr, elapsed_ms }
    }
}

impl Answer {
    pub fn pods(&self) -> &Vec<Value> {
        self.json["pods"].as_array().unwrap_or_else(|| panic!("{:#}", self.json))
    }

    #[track_caller]
    pub fn pod(&self, name: &str) -> &Value {
        let found = self.pods().iter().find(|pod| pod["name"] == name);
        found.unwrap_or_else(|| panic!("no pod {name} in {:#}", self.json))
    }

    /// Namespace and name of every pod.
    pub fn names(&self) -> Vec<String> {
        let name =
            |pod: &Value| format!("{}/{}", pod["namespace"].as_str().unwrap(), pod["name"].as_str().unwrap());
        self.pods().iter().map(name).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
