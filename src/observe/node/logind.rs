//! How long logind holds up a shutdown, and whether the kubelet asked for that.
//!
//! Sources: logind.conf(5), systemd.time(7), systemd.unit(5) on drop-ins; the kubelet's node shutdown manager takes an
//! inhibitor of `WHO=kubelet`, `WHAT=shutdown`, `MODE=delay`.

use crate::netns::open_in_root;
use crate::observe::files::{names, text};
use rustix::fs::OFlags;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// What logind waits when nobody says anything.
const DEFAULT_MS: u64 = 5000;
/// Where configuration lies: the first that has a file of a name hides the others' of that name.
const FOLDERS: &[&str] = &["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"];
const INHIBITORS: &str = "/run/systemd/inhibit";

/// `InhibitDelayMaxSec` in milliseconds; `None` on a node without logind's configuration.
pub(super) fn inhibit_delay(root: &File) -> Option<u64> {
    let mut texts: Vec<String> = FOLDERS
        .iter()
        .find_map(|folder| text(root, &format!("{folder}/logind.conf")).ok())
        .into_iter()
        .collect();
    let mut drop_ins: BTreeMap<String, String> = BTreeMap::new();
    for folder in FOLDERS {
        let folder = format!("{folder}/logind.conf.d");
        for name in names(root, &folder, ".conf") {
            let path = format!("{folder}/{name}");
            drop_ins.entry(name).or_insert(path);
        }
    }
    texts.extend(drop_ins.values().filter_map(|path| text(root, path).ok()));
    if texts.is_empty() {
        return None;
    }
    Some(texts.iter().filter_map(|text| delay_in(text)).next_back().unwrap_or(DEFAULT_MS))
}

/// The last value that a file gives; one that logind does not understand it ignores.
fn delay_in(text: &str) -> Option<u64> {
    let mut section = "";
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if let Some((key, value)) = line.split_once('=')
            && section == "[Login]"
            && key.trim() == "InhibitDelayMaxSec"
        {
            found = if value.trim().is_empty() { Some(DEFAULT_MS) } else { span_ms(value).or(found) };
        }
    }
    found
}

/// `90`, `1min 30s`, `1.5min`, `infinity`: milliseconds.
fn span_ms(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest == "infinity" {
        return Some(u64::MAX);
    }
    let mut total: u64 = 0;
    let mut any = false;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(end)?;
        let after = after.trim_start();
        let unit_end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(unit_end)?;
        let us: u64 = match unit {
            "us" | "usec" | "µs" | "μs" => 1,
            "ms" | "msec" => 1000,
            "" | "s" | "sec" | "second" | "seconds" => 1_000_000,
            "m" | "min" | "minute" | "minutes" => 60_000_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000_000,
            "d" | "day" | "days" => 86_400_000_000,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = part.get(..6).unwrap_or(part);
        let part: u64 = format!("{digits:0<6}").parse().ok()?;
        let sum =
            whole.parse::<u64>().ok()?.checked_mul(us)?.checked_add(part.checked_mul(us)? / 1_000_000)?;
        total = total.checked_add(sum)?;
        any = true;
        rest = next.trim_start();
    }
    any.then_some(total / 1000)
}

/// Whether one of logind's inhibitor files is the kubelet's; `None` where logind has none to be seen.
pub(super) fn inhibits(root: &File) -> Option<bool> {
    open_in_root(root.as_fd(), Path::new(INHIBITORS), OFlags::PATH | OFlags::DIRECTORY).ok()?;
    let mut texts = names(root, INHIBITORS, "")
        .into_iter()
        .filter(|name| !name.ends_with(".ref"))
        .filter_map(|name| text(root, &format!("{INHIBITORS}/{name}")).ok());
    Some(texts.any(|text| is_kubelets(&text)))
}

fn is_kubelets(inhibitor: &str) -> bool {
    let has = |wanted: &str| inhibitor.lines().any(|line| line.trim() == wanted);
    let shutdown = inhibitor
        .lines()
        .filter_map(|line| line.trim().strip_prefix("WHAT="))
        .any(|what| what.split(':').any(|one| one == "shutdown"));
    has("WHO=kubelet") && shutdown && has("MODE=delay")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_drop_in_wins_by_its_name_whatever_folder_it_is_in_and_etc_hides_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let set = |path: &str, value: &str| {
            put(dir.path(), path, &format!("[Login]\nInhibitDelayMaxSec={value}\n"))
        };
        assert_eq!(inhibit_delay(&root), None);
        put(dir.path(), "usr/lib/systemd/logind.conf", "[Login]\n#InhibitDelayMaxSec=9\n");
        assert_eq!(inhibit_delay(&root), Some(5000));
        set("usr/lib/systemd/logind.conf", "7");
        assert_eq!(inhibit_delay(&root), Some(7000));
        set("etc/systemd/logind.conf", "8");
        assert_eq!(inhibit_delay(&root), Some(8000));
        set("usr/lib/systemd/logind.conf.d/99-kubelet.conf", "30");
        set("etc/systemd/logind.conf.d/50-other.conf", "20");
        assert_eq!(inhibit_delay(&root), Some(30_000), "99 comes after 50");
        set("etc/systemd/logind.conf.d/99-kubelet.conf", "40");
        assert_eq!(inhibit_delay(&root), Some(40_000));
        set("etc/systemd/logind.conf.d/99-kubelet.conf", "nonsense");
        assert_eq!(inhibit_delay(&root), Some(20_000), "ignored, and it still hides the other");
    }

    #[test]
    fn only_the_section_of_logind_counts() {
        assert_eq!(delay_in("InhibitDelayMaxSec=1\n[Other]\nInhibitDelayMaxSec=2\n"), None);
        assert_eq!(delay_in("[Login]\n InhibitDelayMaxSec = 1min 30s \n"), Some(90_000));
        assert_eq!(delay_in("[Login]\nInhibitDelayMaxSec=9\nInhibitDelayMaxSec=\n"), Some(5000));
    }

    #[test]
    fn spans_of_systemd() {
        for (text, ms) in [
            ("90", Some(90_000)),
            ("1min 30s", Some(90_000)),
            ("1.5min", Some(90_000)),
            ("500ms", Some(500)),
            ("2 h", Some(7_200_000)),
            ("infinity", Some(u64::MAX)),
            ("", None),
            ("s", None),
            ("5 parsecs", None),
            ("1..5s", None),
            ("-5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(span_ms(text), ms, "{text}");
        }
    }

    #[test]
    fn an_inhibitor_of_the_kubelet_delays_a_shutdown() {
        let text =
            "# This is private data. Do not parse.\nWHAT=shutdown\nMODE=delay\nWHO=kubelet\nUID=0\nPID=7\n";
        assert!(is_kubelets(text));
        assert!(is_kubelets(&text.replace("WHAT=shutdown", "WHAT=sleep:shutdown")));
        for other in
            [("WHO=kubelet", "WHO=kubelet2"), ("MODE=delay", "MODE=block"), ("WHAT=shutdown", "WHAT=sleep")]
        {
            assert!(!is_kubelets(&text.replace(other.0, other.1)), "{other:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        assert_eq!(inhibits(&root), None);
        put(dir.path(), "run/systemd/inhibit/1.ref", text);
        assert_eq!(inhibits(&root), Some(false));
        put(dir.path(), "run/systemd/inhibit/1", text);
        assert_eq!(inhibits(&root), Some(true));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_nothing_panics(text in "\\PC{0,60}|(\\[Login\\]\n)?InhibitDelayMaxSec=[0-9.a-zµ ]{0,30}") {
            let _ = delay_in(&text);
            let _ = span_ms(&text);
            let _ = is_kubelets(&text);
        }
    }
}
