//! What the tests against real namespaces share.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

pub mod application;
pub mod capture;
pub mod incident;
pub mod lab;
pub mod log_node;
pub mod name_server;
pub mod namespace_path;
pub mod pty;
pub mod schema;
pub mod virtual_path;

use std::ffi::OsStr;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// The program under test; an example has none.
pub const PROGRAM: &str = match option_env!("CARGO_BIN_EXE_nsprobe") {
    Some(program) => program,
    None => "nsprobe",
};

/// A run of it.
pub fn nsprobe() -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_remove("NSPROBE_LOG").env_remove("CONTAINER_RUNTIME_ENDPOINT").env("NO_COLOR", "1");
    command
}

/// Runs a command and fails with its standard error unless it succeeds.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let words: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect();
    assert!(
        output.status.success(),
        "{program} {}: {}\n{}",
        words.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A network namespace of this test alone, under /run/netns; gone when dropped.
///
/// Making one needs root: without it the test fails, it does not pass unseen.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one and brings `lo` up.
    #[track_caller]
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let name = format!("nsprobe-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name]);
        let netns = Self { name };
        netns.ip("link set lo up");
        netns
    }

    /// Its name under /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As SOURCE.
    pub fn source(&self) -> String {
        format!("netns:{}", self.name)
    }

    /// Its path.
    pub fn path(&self) -> std::path::PathBuf {
        std::path::Path::new("/run/netns").join(&self.name)
    }

    /// `ip -n NAME …`, words separated by blanks.
    #[track_caller]
    pub fn ip(&self, words: &str) -> String {
        let mut arguments = vec!["-n", &self.name];
        arguments.extend(words.split_whitespace());
        run("ip", &arguments)
    }

    /// `nft RULES` inside, separated by semicolons.
    #[track_caller]
    pub fn nft(&self, rules: &str) {
        run("ip", &["netns", "exec", &self.name, "nft", rules]);
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// The program as another user without any capability runs it; needs root to become that user.
///
/// The folder holds a copy that everybody can reach; keep it until the command has ended.
pub fn nsprobe_as_nobody() -> (Command, tempfile::TempDir) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("nsprobe");
    // By another process: a child that a parallel test starts would inherit our descriptor, and a file that is
    // open for writing cannot be executed.
    run("cp", &[PROGRAM, &*program.to_string_lossy()]);
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
        .arg(program)
        .env_remove("NSPROBE_LOG")
        .env_remove("CONTAINER_RUNTIME_ENDPOINT")
        .current_dir("/");
    (command, folder)
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub struct Running(pub std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
