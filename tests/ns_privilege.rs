//! What a user without privileges is told: which privilege is missing, and how to get it. Needs root to
//! become that user.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions"
)]

mod support;

use support::{Netns, nsprobe_as_nobody, schema, stderr, stdout};

/// Runs as nobody and checks the exit code, and that what is missing is named on one line with a next step.
#[track_caller]
fn refused(arguments: &[&str], code: i32, named: &str) {
    let (mut command, _folder) = nsprobe_as_nobody();
    let output = command.args(arguments).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(named) && said.contains("\n  next: "), "{arguments:?}: {said}");
    assert_eq!(stdout(&output), "", "{arguments:?}");
}

#[test]
fn the_missing_privilege_is_named_with_its_exit_code() {
    let netns = Netns::new();
    let source = netns.source();
    refused(&["mtu", &source, "127.0.0.1"], 4, "CAP_SYS_ADMIN");
    refused(&["mtu", "pid:1", "127.0.0.1"], 4, "CAP_SYS_PTRACE");
    refused(&["sockets", &source], 4, "CAP_SYS_ADMIN");
    refused(&["sockets", "pid:1"], 4, "CAP_SYS_PTRACE");
    refused(&["exec", &source, "--", "true"], 125, "CAP_SYS_ADMIN");
    refused(&["shell", &source], 125, "CAP_SYS_ADMIN");
}

#[test]
fn logs_that_belong_to_root_are_not_shown_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let pods = root.path().join("var/log/pods");
    let folder = pods.join("shop_web_11111111-2222-3333-4444-555555555555/app");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("0.log"), "2026-11-23T17:00:00Z stdout F secret\n").unwrap();
    let allow = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let words = ["--host-root", root.path().to_str().unwrap(), "logs", "shop/web"];
    allow(root.path(), 0o755);
    allow(&folder.join("0.log"), 0o640);
    refused(&words, 4, "0.log");
    allow(&pods, 0o700);
    refused(&words, 4, "/var/log/pods");
}

#[test]
fn the_document_says_the_same() {
    let netns = Netns::new();
    let (mut command, _folder) = nsprobe_as_nobody();
    let output = command.args(["-o", "json", "mtu", &netns.source(), "127.0.0.1"]).output().unwrap();
    let document = schema::valid(&output.stdout);
    assert_eq!(document["code"], 4);
    assert!(document["hint"].as_str().unwrap().contains("CAP_SYS_ADMIN"), "{document}");
}

#[test]
fn what_needs_no_privilege_works_without() {
    for arguments in [&["rules"][..], &["man"], &["completions", "bash"], &["--help"], &["--version"]] {
        let (mut command, _folder) = nsprobe_as_nobody();
        let output = command.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        assert_ne!(stdout(&output), "");
    }
}
