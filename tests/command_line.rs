//! The command line as a contract: help texts, exit codes of wrong ones, closed and full outputs.
//!
//! After a wanted change of a help text: `INSTA_UPDATE=always cargo test --test command_line`, and read the
//! difference of tests/snapshots.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions"
)]

mod support;

use std::process::{Output, Stdio};
use support::{nsprobe, stderr, stdout};

fn run(words: &str) -> Output {
    nsprobe().args(words.split_whitespace()).env("COLUMNS", "100").stdin(Stdio::null()).output().unwrap()
}

/// Names of the commands, read from the help text.
fn commands() -> Vec<String> {
    let help = stdout(&run("-h"));
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn help_texts_are_what_was_agreed() {
    insta::assert_snapshot!("help", stdout(&run("--help")));
    for command in commands() {
        let output = run(&format!("{command} --help"));
        assert_eq!(output.status.code(), Some(0), "{command}");
        insta::assert_snapshot!(format!("help-{command}"), stdout(&output));
    }
}

#[test]
fn a_host_root_that_is_a_pipe_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for command in ["pods", "diagnose host", "ipam", "node", "logs x", "why x", "cluster"] {
        let output = run(&format!("--host-root {} {command}", pipe.display()));
        let said = format!("cannot open the host root {}: not a directory", pipe.display());
        assert_eq!((output.status.code(), stderr(&output).contains(&said)), (Some(2), true), "{command}");
    }
}

#[test]
fn a_command_line_has_the_exit_code_of_the_contract() {
    for (words, code) in [
        ("--version", 0),
        ("--help", 0),
        ("rules", 0),
        ("rules -o json", 0),
        ("-o json rules", 0),
        ("rules --color always", 0),
        ("", 2),
        ("nonsense", 2),
        ("rules more", 2),
        ("rules -o yaml", 2),
        ("rules --color sometimes", 2),
        ("rules --log loud", 2),
        ("pods --runtime-timeout 5", 2),
        ("pods --runtime-timeout -5s", 2),
        ("pods --host-root /no/such/folder", 2),
        ("mtu", 2),
        ("mtu host", 2),
        ("mtu host 10.0.0.1 -4 -6", 2),
        ("mtu host 10.0.0.1 --timeout 1", 2),
        ("mtu host 10.0.0.1 --timeout 0s", 2),
        ("mtu host 10.0.0.1 --deadline 0s", 2),
        ("pods --runtime-timeout 0ms", 2),
        ("mtu netns:no-such-namespace 10.0.0.1", 3),
        ("mtu pid:4194303 10.0.0.1", 3),
        ("sockets", 2),
        ("why", 2),
        ("why host", 3),
        ("sockets netns:no-such-namespace", 3),
        ("sockets host --state sleeping", 2),
        ("sockets host -l -a", 2),
        ("sockets host --port 70000", 2),
        ("sockets host --remote web", 2),
        ("diagnose", 2),
        ("diagnose host 10.0.0.1 more", 2),
        ("diagnose host --port 80", 2),
        ("diagnose host 10.0.0.1 --port 0", 2),
        ("diagnose host 10.0.0.1 --deadline 5", 2),
        ("diagnose host 10.0.0.1 --deadline 0s", 2),
        ("diagnose host 10.0.0.1 -4 -6", 2),
        ("diagnose netns:no-such-namespace", 3),
        ("diagnose pid:4194303 10.0.0.1", 3),
        ("ipam more", 2),
        ("ipam --host-root /no/such/folder", 2),
        ("node more", 2),
        ("node --watch 0s", 2),
        ("node --host-root /no/such/folder", 2),
        ("logs", 2),
        ("logs web --since 5", 2),
        ("logs web --tail -1", 2),
        ("logs web -p -f", 2),
        ("logs web more", 2),
        ("logs host", 3),
        ("logs no/such/pod", 3),
        ("exec", 2),
        ("exec netns:no-such-namespace", 2),
        ("exec netns:no-such-namespace true", 2),
        ("exec netns:no-such-namespace --", 2),
        ("exec netns:no-such-namespace -- true", 125),
        ("shell", 2),
        ("shell netns:no-such-namespace", 125),
        ("capture host -s 16 -c 1 -- icmp", 2),
        ("completions", 2),
        ("completions tcsh", 2),
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(code), "nsprobe {words}: {}", stderr(&output));
        if code != 0 {
            assert_ne!(stderr(&output), "", "nsprobe {words} says nothing");
        }
    }
}

#[test]
fn a_wrong_command_line_prints_no_document() {
    let output = run("-o json mtu");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""));
    let output = run("-o json mtu netns:no-such-namespace 10.0.0.1");
    let document = support::schema::valid(&output.stdout);
    assert_eq!(document["code"], 3);
    let line = stderr(&output);
    assert!(line.starts_with("nsprobe: ") && line.contains("\n  next: "), "and its line for people: {line}");
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    for words in ["rules", "rules -o json", "man", "completions bash"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = nsprobe();
        command.args(words.split_whitespace()).stdout(writer).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), stderr(&output).as_str()),
            (Some(0), ""),
            "nsprobe {words} | head -0"
        );
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = nsprobe()
        .arg("rules")
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("No space left"), "{}", stderr(&output));
}

#[test]
fn colours_only_where_they_are_wanted() {
    assert!(!stdout(&run("rules")).contains('\x1b'));
    assert!(stdout(&run("rules --color always")).contains("\x1b["));
    assert!(!stdout(&run("rules --color never")).contains('\x1b'));
}

#[test]
fn the_manual_page_has_every_command_and_the_exit_codes() {
    let page = stdout(&run("man"));
    for command in commands() {
        assert!(page.contains(&format!(".SS \"nsprobe {command}\"")), "{command}");
    }
    assert!(page.contains(r"nsprobe exec <SOURCE> \-\- <CMD>..."), "how exec is called");
    assert!(page.contains("Exit codes"));
    assert_eq!(page.matches("runtime\\-endpoint").count(), 2, "global options once, and in the synopsis");
}

#[test]
fn completion_scripts_are_scripts() {
    let mut bash = std::process::Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    let script = run("completions bash").stdout;
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), &script).unwrap();
    assert!(bash.wait().unwrap().success());
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(stdout(&run(&format!("completions {shell}"))).contains("runtime-endpoint"), "{shell}");
    }
}
