//! A node's file system with the logs of the pod shop/web.

use super::{nsprobe, run, stderr, stdout};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const UID: &str = "11111111-2222-3333-4444-555555555555";

/// A node's file system.
pub struct Node(tempfile::TempDir);

impl Node {
    pub fn empty() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(node.at("var/log/pods")).unwrap();
        node
    }

    pub fn recorded(name: &str) -> Self {
        let node = Self::empty();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/logs").join(name).join("var");
        run("cp", &["-r", from.to_str().unwrap(), node.0.path().to_str().unwrap()]);
        node
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// A file of shop/web.
    pub fn log(&self, file: &str, text: impl AsRef<[u8]>) {
        self.put(&format!("var/log/pods/shop_web_{UID}/{file}"), text);
    }

    pub fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn append(&self, file: &str, text: &str) {
        let path = self.at(&format!("var/log/pods/shop_web_{UID}/{file}"));
        std::fs::File::options().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub fn command(&self, words: &str) -> Command {
        let mut command = nsprobe();
        command.arg("--host-root").arg(self.0.path()).arg("logs").args(words.split_whitespace());
        command
    }

    pub fn run(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    /// What is printed; it must end well.
    #[track_caller]
    pub fn shows(&self, words: &str) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(0), "{words}: {}", stderr(&output));
        stdout(&output)
    }

    /// The message of a run that must end with this code.
    #[track_caller]
    pub fn fails(&self, words: &str, code: i32) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{words}: {}{}", stdout(&output), stderr(&output));
        stderr(&output)
    }
}

/// A line as a runtime writes it, second `at` of an hour.
pub fn line(at: u32, stream: &str, tag: &str, text: &str) -> String {
    format!("2026-11-23T17:{:02}:{:02}.000000001Z {stream} {tag} {text}\n", at / 60, at % 60)
}

pub fn out(at: u32, text: &str) -> String {
    line(at, "stdout", "F", text)
}
