//! The command line of a systemd service, from its unit file and drop-ins.
//!
//! Sources: systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.syntax(7); k3s `install.sh` (how it writes
//! the unit and its file of environment variables).

use crate::observe::files::{entries, text};
use std::collections::BTreeMap;
use std::fs::File;

/// Where units lie: the first that has a file of a name hides the others' of that name.
const FOLDERS: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
];

/// What a unit starts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Started {
    /// Words of `ExecStart`.
    pub(super) words: Vec<String>,
    /// `Environment` and `EnvironmentFile`.
    pub(super) environment: BTreeMap<String, String>,
    /// The files that say it.
    pub(super) files: Vec<String>,
}

/// What a unit starts; `None` when no file says it, or not plainly.
pub(super) fn started(root: &File, unit: &str) -> Option<Started> {
    if unit.contains('/') {
        return None;
    }
    let mut files: Vec<(String, String)> = Vec::new();
    files.push(FOLDERS.iter().find_map(|folder| {
        let path = format!("{folder}/{unit}");
        text(root, &path).ok().map(|content| (path, content))
    })?);
    let mut drop_ins: BTreeMap<String, String> = BTreeMap::new();
    for folder in FOLDERS {
        let folder = format!("{folder}/{unit}.d");
        for (name, _) in entries(root, &folder) {
            if name.ends_with(".conf") {
                let path = format!("{folder}/{name}");
                drop_ins.entry(name).or_insert(path);
            }
        }
    }
    for path in drop_ins.into_values() {
        let content = text(root, &path).ok()?;
        files.push((path, content));
    }
    let mut started = Started::default();
    for (path, content) in &files {
        read(root, unit, content, &mut started);
        started.files.push(path.clone());
    }
    // A variable or a specifier may stand for anything.
    let plain = !started.words.iter().any(|word| word.contains(['$', '%']));
    (plain && !started.words.is_empty()).then_some(started)
}

fn read(root: &File, unit: &str, content: &str, started: &mut Started) {
    let mut section = String::new();
    for line in logical_lines(content) {
        let line = line.trim();
        if line.starts_with('[') {
            section = line.to_owned();
        }
        let Some((key, value)) = line.split_once('=').filter(|_| section == "[Service]") else { continue };
        let value = value.trim();
        match key.trim() {
            // An empty one takes back those before; of a service that is no oneshot one is left.
            "ExecStart" => started.words = words(value.trim_start_matches(['-', '@', ':', '+', '!'])),
            "Environment" if value.is_empty() => started.environment.clear(),
            "Environment" => {
                let pairs = words(value).into_iter().filter_map(|word| variable(&word));
                started.environment.extend(pairs);
            }
            "EnvironmentFile" => {
                let name = unit.strip_suffix(".service").unwrap_or(unit);
                let path = value.trim_start_matches('-').replace("%N", name);
                let content = text(root, &path).unwrap_or_default();
                let lines = content.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
                started.environment.extend(lines.filter_map(variable));
            }
            _ => {}
        }
    }
}

/// `NAME=value`, the value in quotes or not.
fn variable(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    Some((name.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
}

/// Lines, those that end in a backslash put together with the next; comments in between do not count.
fn logical_lines(content: &str) -> Vec<String> {
    let mut whole = Vec::new();
    let mut line = String::new();
    for part in content.lines() {
        if part.trim_start().starts_with(['#', ';']) {
            continue;
        }
        match part.trim_end().strip_suffix('\\') {
            Some(part) => {
                line.push_str(part);
                line.push(' ');
            }
            None => {
                line.push_str(part);
                whole.push(std::mem::take(&mut line));
            }
        }
    }
    if !line.is_empty() {
        whole.push(line);
    }
    whole
}

/// Cut at blanks, but not inside of quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', _) => word.get_or_insert_default().extend(characters.next()),
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_words_as_systemd_cuts_them() {
        let lines = logical_lines("a \\\n# between\n  b\nc");
        assert_eq!(lines.iter().map(|l| words(l)).collect::<Vec<_>>(), [vec!["a", "b"], vec!["c"]]);
        assert_eq!(words("  'a b' c\"d e\"f g\\ h '' "), ["a b", "cd ef", "g h", ""]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_nothing_panics(text in "\\PC{0,60}|([\\[\\]a-zA-Z=\\\\ \"'#%$-]{0,20}\n){0,5}") {
            let dir = tempfile::tempdir().unwrap();
            let root = File::open(dir.path()).unwrap();
            let mut started = Started::default();
            read(&root, "k3s.service", &format!("[Service]\n{text}"), &mut started);
            let _ = words(&text);
        }
    }
}
