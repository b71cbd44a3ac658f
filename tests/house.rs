//! The rooms of the house and the only arrows between them (crate documentation, `src/lib.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

use std::path::{Path, PathBuf};

/// Room → the rooms it may know besides itself.
const ARROWS: &[(&str, &[&str])] = &[
    ("facts", &[]),
    ("netns", &["facts"]),
    ("pods", &["facts", "netns"]),
    ("observe", &["facts", "netns"]),
    ("probe", &["facts", "netns"]),
    ("capture", &["facts", "netns"]),
    ("diagnose", &["facts"]),
    ("report", &["facts", "diagnose"]),
    ("cli", &["facts", "netns", "pods", "observe", "probe", "capture", "diagnose", "report"]),
];

/// What a source file (its path below `src/`) mentions that its room must not know.
fn forbidden(file: &str, text: &str) -> Vec<String> {
    let module: Vec<&str> = file.strip_suffix(".rs").unwrap().split('/').filter(|m| *m != "mod").collect();
    let room = module[0];
    if module.len() == 1 && ["lib", "main"].contains(&room) && !file.contains('/') {
        return Vec::new();
    }
    let Some((_, known)) = ARROWS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{file}: {room} is no room of the house")];
    };
    let mut wrong = Vec::new();
    let mut complain = |what: &str| {
        if what != room && !known.contains(&what) {
            wrong.push(format!("{file}: {room} → {what}"));
        }
    };
    let code = without_comments(text);
    for name in after(&code, "crate::").flat_map(first_names) {
        complain(&name);
    }
    // `super` as often as the module is deep leads out of the room. A module inside the file is one deeper.
    let inner = text.lines().position(|line| {
        let line = line.trim_start();
        line.starts_with("mod ") && line.ends_with('{')
    });
    for (number, line) in text.lines().enumerate() {
        let deep = module.len() + usize::from(inner.is_some_and(|start| number > start));
        let way_out = "super::".repeat(deep);
        for name in after(&without_comments(line), &way_out).flat_map(first_names) {
            complain(&name);
        }
    }
    wrong.dedup();
    wrong
}

/// Everything that follows each occurrence of `mark`, where no identifier or path leads up to it.
fn after<'a>(code: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(mark)
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || "_$:".contains(c)))
        .map(move |(at, _)| &code[at + mark.len()..])
}

/// `facts::Link…` → facts; `{facts::Link, netns::{A, B}}` → facts, netns.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut depth = 0;
    let mut names = vec![name(group)];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

/// A path broken over lines is made one again; comments may mention what they like.
fn without_comments(text: &str) -> String {
    let code: Vec<&str> =
        text.lines().flat_map(|line| line.split("//").next().unwrap().split_whitespace()).collect();
    let mut code = code.join(" ");
    for mark in ["::", "{", ","] {
        code = code.replace(&format!(" {mark}"), mark).replace(&format!("{mark} "), mark);
    }
    code
}

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn no_room_knows_another_that_it_should_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = source_files(&root);
    assert!(files.len() > 20, "only {} files were found", files.len());
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            forbidden(&name, &std::fs::read_to_string(path).unwrap())
        })
        .collect();
    assert_eq!(wrong, [] as [String; 0], "arrows that the house does not have");
}

#[test]
fn a_bad_arrow_is_seen_however_it_is_written() {
    for (file, text, wrong) in [
        ("probe/icmp.rs", "use crate::pods::Source;", "probe → pods"),
        (
            "probe/icmp.rs",
            "use crate::{facts::Link, netns::{NetNs, NetNsError}, report::Out};",
            "probe → report",
        ),
        ("probe/icmp.rs", "use\n    crate ::\n    cli::Context;", "probe → cli"),
        ("facts/mod.rs", "fn f() -> crate::netns::NetNs { }", "facts → netns"),
        ("facts/mod.rs", "pub use super::netns;", "facts → netns"),
        ("diagnose/path.rs", "use super::super::observe::Route;", "diagnose → observe"),
        ("pods/cri/call.rs", "use super::super::super::report::Out;", "pods → report"),
        ("facts/link.rs", "mod tests {\n use super::super::super::cli;\n}", "facts → cli"),
        ("utils/mod.rs", "", "utils is no room of the house"),
    ] {
        let found = forbidden(file, text);
        assert_eq!(found.len(), 1, "{file}: {text}: {found:?}");
        assert!(found[0].ends_with(wrong), "{found:?}");
    }
}

#[test]
fn good_arrows_comments_and_ways_inside_a_room_are_fine() {
    for (file, text) in [
        ("probe/icmp.rs", "use crate::facts::Link;\nuse crate::netns;\nuse crate::probe::wire;"),
        ("report/text.rs", "use crate::{diagnose, facts::{Finding, Severity}};"),
        ("cli/pods.rs", "use super::Context; use crate::capture::Ring;"),
        ("cli/pods.rs", "use super::pods;"),
        ("facts/mod.rs", "// see crate::cli\n/// and [`crate::report`]"),
        ("pods/cri/call.rs", "use super::super::Options;"),
        ("facts/link.rs", "mod tests {\n use super::super::pod;\n}"),
        ("facts/mod.rs", "use foreign_crate::cli; use other::crate::cli;"),
        ("lib.rs", "pub use crate::cli;"),
    ] {
        assert_eq!(forbidden(file, text), [] as [String; 0], "{file}: {text}");
    }
}
