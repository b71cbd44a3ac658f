//! A lab of real workers (scripts/lab) for one test; taken down when dropped.

use super::run;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab");

/// Two nodes with real containerd, one pod on each.
pub struct Lab {
    name: String,
}

impl Lab {
    /// Brings it up with these words of `lab up`, and puts the program under test on every node.
    #[track_caller]
    pub fn up(words: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let lab = Self { name };
        lab.script(&["up"].into_iter().chain(words.split_whitespace()).collect::<Vec<_>>());
        lab.script(&["binary", "all", super::PROGRAM]);
        lab
    }

    /// As `--name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `lab COMMAND…` of this lab.
    #[track_caller]
    pub fn script(&self, arguments: &[&str]) -> String {
        let (command, rest) = arguments.split_first().unwrap();
        let mut words = vec![*command, "--name", &self.name];
        words.extend(rest);
        run(SCRIPT, &words)
    }

    /// The same, of a command that must fail: what it said.
    #[track_caller]
    pub fn script_fails(&self, arguments: &[&str]) -> String {
        let (command, rest) = arguments.split_first().unwrap();
        let words = [command, "--name", &self.name].into_iter().chain(rest.iter().copied());
        let output = Command::new(SCRIPT).args(words).output().unwrap();
        assert!(!output.status.success(), "{arguments:?} did not fail: {}", super::stdout(&output));
        super::stderr(&output)
    }

    /// Runs a command on a node, whatever its exit code.
    pub fn exec(&self, node: u8, command: &[&str]) -> Output {
        let node = node.to_string();
        let mut words = vec!["exec", "--name", &self.name, &node, "--"];
        words.extend(command);
        Command::new(SCRIPT).args(words).output().unwrap()
    }

    /// `nsprobe … -o json` on a node: exit code and document.
    #[track_caller]
    pub fn nsprobe(&self, node: u8, arguments: &[&str]) -> (Option<i32>, serde_json::Value) {
        let command: Vec<&str> =
            ["nsprobe"].iter().chain(arguments).chain(&["-o", "json"]).copied().collect();
        let output = self.exec(node, &command);
        let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
            panic!("{arguments:?}: {e}\n{}\n{}", super::stdout(&output), super::stderr(&output))
        });
        (output.status.code(), document)
    }

    /// What the lab itself says of a pod: its `ips`, `pid`, ids.
    #[track_caller]
    pub fn pod(&self, node: u8, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.script(&["pods", &node.to_string(), name])).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let down = Command::new(SCRIPT).args(["down", "--name", &self.name]).output();
        if !down.as_ref().is_ok_and(|o| o.status.success()) && !std::thread::panicking() {
            panic!("the lab {} did not go down: {down:?}", self.name);
        }
    }
}
