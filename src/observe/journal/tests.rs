//! Against files of a real systemd, whole, cut and damaged; and text files.

use super::file::JournalFile;
use super::*;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::PathBuf;

pub(super) fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal").join(name);
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// A node with these journal files.
pub(super) fn node(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    dir
}

fn all(root: &Path, since_us: u64, most: usize) -> NodeLog {
    read_node_log(root, &NodeLogQuery { since_us, units: true, kernel: true, keep: &|_| true, most })
}

pub(super) const SYSTEM: &str = "var/log/journal/5e209c9894a34848b0808318dc03b40a/system.journal";

#[test]
fn every_layout_gives_the_lines_that_journalctl_gives() {
    for name in ["zstd-compact.journal.gz", "zstd.journal.gz", "unkeyed.journal.gz"] {
        let node = node(&[(SYSTEM, &fixture(name))]);
        let log = all(node.path(), 0, 1000);
        assert_eq!(log.unread, [], "{name}");
        assert_eq!(log.sources, [format!("/{SYSTEM}")]);
        assert!(!log.cut);
        let (kernel, units): (Vec<_>, Vec<_>) = log.entries.iter().partition(|e| e.is_kernel());
        assert_eq!((kernel.len(), units.len()), (40, 28), "{name}");
        assert!(units.iter().all(|e| e.unit.as_deref() == Some("kubelet.service")));
        let first = units[0];
        assert_eq!(first.message, "Started kubelet.service - kubelet: The Kubernetes Node Agent.");
        assert_eq!(first.realtime_us, 1_795_455_716_291_464);
        assert_eq!(
            (first.pid, first.priority, first.identifier.as_deref()),
            (Some(1), Some(6), Some("systemd"))
        );
        assert_eq!(first.boot_id.as_deref(), Some("34eb662fb4954cf3a1aea67cdba40ca5"));
        // The longest was packed.
        let longest = units.iter().map(|e| e.message.len()).max();
        assert_eq!(longest, Some(2691), "{name}");
        assert!(kernel[0].message.starts_with("busybox invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL)"));
        assert!(log.entries.is_sorted_by_key(|e| e.realtime_us));
    }
}

#[test]
fn containers_and_users_that_speak_of_the_kubelet_are_not_believed() {
    let node = node(&[(SYSTEM, &fixture("zstd.journal.gz"))]);
    let text: String = all(node.path(), 0, 1000).entries.into_iter().map(|e| e.message).collect();
    assert!(!text.contains("says so"), "{text}");
}

#[test]
fn a_time_and_a_number_limit_what_is_read() {
    let node = node(&[(SYSTEM, &fixture("zstd.journal.gz"))]);
    let whole = all(node.path(), 0, 1000).entries;
    let since = whole[30].realtime_us;
    let later: Vec<_> = whole.iter().filter(|e| e.realtime_us >= since).cloned().collect();
    let log = all(node.path(), since, 1000);
    assert_eq!((log.entries, log.cut), (later, false));
    let log = all(node.path(), 0, 10);
    assert_eq!((log.entries.as_slice(), log.cut), (&whole[whole.len() - 10..], true));
    assert_eq!(read_kernel_log(node.path(), 0).entries.len(), 40);
    assert_eq!(all(node.path(), u64::MAX, 10).entries, []);
}

#[test]
fn archived_and_unclean_files_of_both_places_are_joined() {
    let bytes = fixture("zstd.journal.gz");
    let node = node(&[
        ("var/log/journal/aa/system@1-2.journal", &bytes),
        ("var/log/journal/aa/system@3-4.journal~", &bytes),
        ("run/log/journal/aa/system.journal", &bytes),
        ("run/log/journal/aa/user-1000.journal", &bytes),
        ("run/log/journal/aa/notes.txt", b"no journal"),
    ]);
    std::os::unix::fs::symlink("/etc/hostname", node.path().join("run/log/journal/aa/link.journal")).unwrap();
    let log = all(node.path(), 0, 1000);
    assert_eq!(log.sources.len(), 3);
    assert_eq!(log.entries.len(), 3 * 68);
    assert_eq!(log.unread.len(), 1, "a link is not followed: {:?}", log.unread);
}

#[test]
fn a_cut_file_gives_what_is_left_and_says_so() {
    let bytes = fixture("zstd.journal.gz");
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut seen = BTreeSet::new();
    for part in 0..=60 {
        // The tables at the front are long and mostly empty.
        let end = if part < 20 { used * part / 20 } else { used - 1200 * (60 - part) };
        let node = node(&[(SYSTEM, &bytes[..end])]);
        let log = all(node.path(), 0, 1000);
        assert!(log.entries.len() == 68 || !log.unread.is_empty(), "{part}: {}", log.entries.len());
        seen.insert(log.entries.len());
    }
    assert!(seen.len() > 10, "{seen:?}");
}

#[test]
fn damaged_files_never_end_the_program_and_never_take_long() {
    let good = fixture("zstd-compact.journal.gz");
    let used = good.iter().rposition(|byte| *byte != 0).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.journal");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 1).unwrap()
    };
    // Only the part that is used: the rest is empty.
    let mut bytes = good[..used + 1].to_vec();
    bytes.resize(used + 4096, 0);
    let mut damaged = 0;
    for round in 0..300 {
        let mut broken = bytes.clone();
        let zone = if round % 3 == 0 { 300 } else { broken.len() };
        for _ in 0..=random() % 64 {
            let at = random() % zone;
            broken[at] ^= 1 << (random() % 8);
        }
        std::fs::write(&path, &broken).unwrap();
        let mut log = NodeLog::default();
        let query = NodeLogQuery { since_us: 0, units: true, kernel: true, keep: &|_| true, most: 1000 };
        let result = folder::read_file("/x", std::fs::File::open(&path).unwrap(), &query, &mut log);
        damaged += usize::from(result.is_err() || !log.unread.is_empty());
        assert!(log.entries.len() <= 1000);
    }
    assert!(damaged > 50, "{damaged} of 300 were seen to be damaged");
}

#[test]
fn what_is_no_journal_is_said() {
    for bytes in [&b""[..], b"LPKSHHRH", &[0; 4096]] {
        let log = all(node(&[(SYSTEM, bytes)]).path(), 0, 10);
        let told = log.unread.iter().find(|(path, _)| path.ends_with("system.journal"));
        assert!(told.is_some(), "{:?}", log.unread);
    }
    let mut newer = fixture("zstd.journal.gz");
    newer[15] = 0x80;
    let log = all(node(&[(SYSTEM, &newer)]).path(), 0, 10);
    assert!(log.unread[0].1.contains("a feature that is not known"), "{:?}", log.unread);
}

#[test]
fn a_list_that_leads_back_ends() {
    let mut bytes = fixture("zstd.journal.gz");
    // Every entry array points to itself.
    for at in (0..bytes.len() - 24).step_by(8) {
        let size = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap());
        if bytes[at] == 6 && bytes[at + 1..at + 8] == [0; 7] && size > 24 && size < 1 << 20 {
            let place = u64::try_from(at).unwrap().to_le_bytes();
            bytes[at + 16..at + 24].copy_from_slice(&place);
        }
    }
    let log = all(node(&[(SYSTEM, &bytes)]).path(), 0, 1000);
    assert!(log.unread[0].1.contains("leads back"), "{:?}", log.unread);
}

#[test]
fn packed_fields() {
    let lz4 = [&11_u64.to_le_bytes()[..], b"\xb0hello world"].concat();
    assert_eq!(unpack::unpack(&lz4, 2, 100).unwrap(), b"hello world");
    assert_eq!(unpack::unpack(&lz4, 2, 5).unwrap(), b"hello");
    let huge = [&u64::MAX.to_le_bytes()[..], b"\xb0hello world"].concat();
    assert!(unpack::unpack(&huge, 2, 100).is_err());
    assert!(unpack::unpack(b"\xfd7zXZ\0", 1, 100).unwrap_err().to_string().contains("XZ"));
    assert!(unpack::unpack(b"no frame", 4, 100).is_err());
}

#[test]
fn text_files_where_there_is_no_journal() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let stamp = crate::facts::rfc3339(i64::try_from(now - 60).unwrap());
    let text = format!(
        "{stamp} node kernel: [12345.678901] Memory cgroup out of memory: Killed process 7 (x)\n\
         {stamp} node kubelet[123]: E1123 17:05:38.612877     123 a.go:1] \"PLEG\"\n\
         {stamp} node sshd[5]: kubelet: PLEG is not healthy\nrubbish\n\u{0}\u{1}"
    );
    let node = node(&[("var/log/syslog", text.as_bytes()), ("var/log/kern.log", text.as_bytes())]);
    let log = all(node.path(), (now - 3600) * 1_000_000, 100);
    let lines: Vec<_> =
        log.entries.iter().map(|e| (e.identifier.as_deref().unwrap(), e.pid, e.message.as_str())).collect();
    assert_eq!(
        lines,
        [
            ("kernel", None, "Memory cgroup out of memory: Killed process 7 (x)"),
            ("kubelet", Some(123), "E1123 17:05:38.612877     123 a.go:1] \"PLEG\""),
        ]
    );
    assert_eq!(log.sources, ["/var/log/syslog", "/var/log/kern.log"]);
    assert_eq!(all(node.path(), now * 1_000_000, 100).entries, []);
}

#[test]
fn times_without_a_year() {
    let now = crate::facts::unix_seconds("2026-01-02T00:00:00Z").unwrap();
    let source = std::sync::Arc::from("x");
    for (line, day) in [
        ("Dec 31 12:00:00 node kubelet[1]: x", "2025-12-31"),
        ("Jan  1 12:00:00 node kernel: x", "2026-01-01"),
        ("E1231 12:00:00.612877     123 a.go:1] x", "2025-12-31"),
    ] {
        let entry = text::parse(line, now, &source).unwrap();
        let noon = crate::facts::unix_seconds(&format!("{day}T12:00:00Z")).unwrap();
        let off = i64::try_from(entry.realtime_us / 1_000_000).unwrap() - noon;
        assert!(off.abs() <= 14 * 3600, "{line}: {off}");
    }
    for line in ["", "Jan", "Feb 30", "E", "Eé1231 12:00:00", "Jan  1 12:00:00", "Jan  1 é2:00:00 a b: c"] {
        assert_eq!(text::parse(line, now, &source), None, "{line}");
    }
}

#[test]
fn the_kernels_own_records() {
    let source = std::sync::Arc::from("/dev/kmsg");
    let entry =
        kmsg::parse(b"4,1234,5000000,-;nf_conntrack: table full\n SUBSYSTEM=net\n", 1_000_000, &source)
            .unwrap();
    assert_eq!((entry.realtime_us, entry.priority), (6_000_000, Some(4)));
    assert_eq!(entry.message, "nf_conntrack: table full");
    for other in [&b"30,1,5,-;systemd says"[..], b"", b"x;y", b"1,2;z", b"4,1,2"] {
        assert_eq!(kmsg::parse(other, 0, &source), None);
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let dir = node(&[("x", &fixture("zstd.journal.gz"))]);
    let path = dir.path().join("x");
    let mut journal = JournalFile::open(std::fs::File::open(&path).unwrap()).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(300).unwrap();
    let (values, stopped) = journal.values("_TRANSPORT", &|_| true);
    assert!(values.is_empty() && stopped.is_some());
}
