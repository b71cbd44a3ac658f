//! Files of a real systemd that grow as journald lets them grow: the header's count of entries is written last.

use super::follow::LogFollower;
use super::tests::{SYSTEM, fixture, node};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Entries of the recorded files; 68 of them are the node's.
const ALL: u64 = 72;
const OURS: usize = 68;

/// As many entries of a file as there are to be seen.
fn show(path: &Path, entries: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&entries.to_le_bytes(), 152).unwrap();
}

fn archive(path: &Path) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(&[2], 16).unwrap();
}

/// All that is there: the messages, and what could not be read.
fn all(follower: &mut LogFollower) -> (Vec<String>, Vec<String>) {
    let (mut lines, mut unread) = (Vec::new(), Vec::new());
    loop {
        let new = follower.read(&|_| true);
        lines.extend(new.entries.into_iter().map(|entry| entry.message));
        unread.extend(new.unread.into_iter().map(|(path, why)| format!("{path}: {why}")));
        if !new.more {
            return (lines, unread);
        }
    }
}

fn whole(name: &str) -> Vec<String> {
    let node = node(&[(SYSTEM, &fixture(name))]);
    let query = super::NodeLogQuery { since_us: 0, units: true, kernel: true, keep: &|_| true, most: 1000 };
    super::read_node_log(node.path(), &query).entries.into_iter().map(|entry| entry.message).collect()
}

#[test]
fn what_is_written_is_told_once_and_in_full_in_every_layout() {
    for name in ["zstd-compact.journal.gz", "zstd.journal.gz", "unkeyed.journal.gz"] {
        let node = node(&[(SYSTEM, &fixture(name))]);
        let path = node.path().join(SYSTEM);
        let whole = whole(name);
        for start in (0..=ALL).step_by(3) {
            show(&path, start);
            let mut follower = LogFollower::begin_at(node.path(), 0).unwrap();
            assert_eq!(follower.sources(), [format!("/{SYSTEM}")]);
            assert_eq!(all(&mut follower), (vec![], vec![]), "{name}: {start}");
            let mut lines = Vec::new();
            for entries in (start..=ALL).step_by(1 + usize::try_from(start).unwrap() % 7).chain([ALL]) {
                show(&path, entries);
                let (more, unread) = all(&mut follower);
                assert_eq!(unread, [""; 0], "{name}: {start} {entries}");
                lines.extend(more);
            }
            assert_eq!(lines, whole[OURS - lines.len()..], "{name}: {start}");
            assert!(start > 0 || lines.len() == OURS);
        }
    }
}

#[test]
fn a_file_that_is_rotated_away_is_read_to_its_end_and_then_the_new_one() {
    let node = node(&[(SYSTEM, &fixture("zstd.journal.gz"))]);
    let path = node.path().join(SYSTEM);
    let archived = path.with_file_name("system@0-1.journal");
    // One of long ago, and a user's, are not read.
    std::fs::copy(&path, path.with_file_name("system@0-0.journal")).unwrap();
    archive(&path.with_file_name("system@0-0.journal"));
    std::fs::copy(&path, path.with_file_name("user-1000.journal")).unwrap();
    show(&path, 10);
    let mut follower = LogFollower::begin_at(node.path(), 0).unwrap();
    assert_eq!(all(&mut follower).0.len(), 0);
    // Written to, rotated, and written to once more.
    show(&path, 12);
    std::fs::rename(&path, &archived).unwrap();
    assert_eq!(all(&mut follower).0.len(), 2);
    show(&archived, 14);
    archive(&archived);
    std::fs::write(&path, b"").unwrap();
    let (lines, unread) = all(&mut follower);
    assert_eq!((lines.len(), unread), (2, vec![]), "a file without a header yet is no trouble");
    std::fs::write(&path, fixture("zstd-compact.journal.gz")).unwrap();
    show(&path, 20);
    assert_eq!(all(&mut follower).0.len(), 20);
    std::fs::remove_file(&archived).unwrap();
    show(&path, 25);
    assert_eq!(all(&mut follower).0.len(), 5);
    assert_eq!(follower.sources(), [format!("/{SYSTEM}")]);
}

#[test]
fn what_journald_copies_from_one_place_to_the_other_is_no_news() {
    let run = "run/log/journal/aa/system.journal";
    let node = node(&[(run, &fixture("zstd.journal.gz"))]);
    show(&node.path().join(run), 10);
    let old = LogFollower::begin(node.path()).unwrap();
    let mut follower = LogFollower::begin_at(node.path(), 0).unwrap();
    show(&node.path().join(run), 15);
    let first = all(&mut follower).0;
    let copy = node.path().join(SYSTEM);
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    std::fs::write(&copy, fixture("zstd-compact.journal.gz")).unwrap();
    show(&copy, 15);
    let second = all(&mut follower).0;
    assert_eq!((first.len(), second.len()), (5, 10), "of the copy only what was never told");
    // And of what is older than the beginning nothing.
    let mut old = old;
    assert_eq!(all(&mut old).0.len(), 5);
}

#[test]
fn a_file_that_is_cut_or_damaged_is_told_of_once_and_the_others_go_on() {
    let run = "run/log/journal/aa/system.journal";
    for (size, said) in [(100, true), (70_000, true)] {
        let bytes = fixture("zstd.journal.gz");
        let node = node(&[(run, &bytes), (SYSTEM, &bytes)]);
        let (cut, other) = (node.path().join(run), node.path().join(SYSTEM));
        show(&cut, 10);
        show(&other, 60);
        let mut follower = LogFollower::begin_at(node.path(), 0).unwrap();
        show(&cut, 40);
        std::fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(size).unwrap();
        show(&other, ALL);
        let (lines, unread) = all(&mut follower);
        assert!(lines.len() >= 12, "{size}: {}", lines.len());
        assert_eq!(!unread.is_empty(), said, "{size}: {unread:?}");
        assert!(unread.iter().all(|why| why.starts_with("/run/log/journal/aa/")), "{unread:?}");
        assert_eq!(all(&mut follower), (vec![], vec![]), "{size}");
    }
    let node = node(&[(SYSTEM, &fixture("zstd.journal.gz"))]);
    show(&node.path().join(SYSTEM), 10);
    let mut follower = LogFollower::begin_at(node.path(), 0).unwrap();
    show(&node.path().join(SYSTEM), u64::MAX);
    let (lines, unread) = all(&mut follower);
    assert_eq!(lines.len(), OURS - 10);
    // The rest of the list is empty, and then it ends.
    assert!(unread.len() == 2 && unread[1].contains("the list of entries ends early"), "{unread:?}");
    assert_eq!(all(&mut follower), (vec![], vec![]));
}

#[test]
fn text_files_grow_are_rotated_and_truncated() {
    let stamp = crate::facts::rfc3339(1_795_000_000);
    let line = |what: &str| format!("{stamp} node kubelet[123]: {what}\n");
    let node = node(&[("var/log/messages", line("old").as_bytes())]);
    let path = node.path().join("var/log/messages");
    let append = |path: &Path, text: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let mut follower = LogFollower::begin_at(node.path(), 0).unwrap();
    let mut next = || {
        let (lines, unread) = all(&mut follower);
        assert_eq!(unread, [""; 0]);
        lines
    };
    assert_eq!(next(), [""; 0]);
    append(&path, &(line("a") + "2026"));
    assert_eq!(next(), ["a"]);
    append(&path, &line("b").replacen("2026", "", 1));
    assert_eq!(next(), ["b"]);
    let old = path.with_file_name("messages.1");
    std::fs::rename(&path, &old).unwrap();
    append(&old, &line("c"));
    assert_eq!(next(), ["c"]);
    append(&old, &line("d"));
    append(&path, &line("e"));
    assert_eq!(next(), ["d", "e"]);
    std::fs::write(&path, line("f")).unwrap();
    append(&path, &line(&"long ".repeat(10_000)));
    let lines = next();
    // Written anew to the same length nobody can tell from untouched; longer it is read on.
    assert_eq!(lines.len(), 1);
    assert!(lines[0].len() < 17 << 10, "{}", lines[0].len());
    std::fs::write(&path, "").unwrap();
    assert_eq!(next(), [""; 0]);
    append(&path, &line("g"));
    assert_eq!(next(), ["g"]);
    // Another file that comes later, and the same line in both.
    append(&path, &line("h"));
    append(&path.with_file_name("syslog"), &(line("h") + &line("i")));
    assert_eq!(next(), ["h", "i"]);
}

#[test]
fn a_flood_comes_in_parts() {
    let node = node(&[("var/log/messages", b"")]);
    let path = node.path().join("var/log/messages");
    let mut follower = LogFollower::begin_at(node.path(), 0).unwrap();
    let stamp = crate::facts::rfc3339(1_795_000_000);
    let text: String = (0..5000).map(|n| format!("{stamp} node kubelet[123]: line {n}\n")).collect();
    std::fs::write(&path, text).unwrap();
    let mut sizes = Vec::new();
    loop {
        let new = follower.read(&|_| true);
        sizes.push(new.entries.len());
        if !new.more {
            break;
        }
    }
    assert_eq!((sizes.iter().sum::<usize>(), sizes.iter().max()), (5000, Some(&1000)), "{sizes:?}");
}
