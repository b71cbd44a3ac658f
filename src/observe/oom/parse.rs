//! The lines of an OOM kill. Sources: mm/oom_kill.c (dump_oom_victim, __oom_kill_process), mm/memcontrol.c
//! (mem_cgroup_print_oom_meminfo), of 3.10 to 6.18.
//!
//! ```text
//! busybox invoked oom-killer: …
//! memory: usage 49152kB, limit 49152kB, failcnt 32
//! oom-kill:constraint=CONSTRAINT_MEMCG,…,oom_memcg=/…,task_memcg=/…,task=busybox,pid=1247,uid=0        since 4.19
//! Task in /… killed as a result of limit of /…                                                         before
//! Memory cgroup out of memory: Killed process 1247 (busybox) total-vm:50804kB, anon-rss:48640kB, …
//! Tasks in /… are going to be killed due to memory.oom.group set                     then each process once more
//! ```

use crate::facts::{NodeLogEntry, OomKill, OomVictim};

/// A line of the kernel's log without its time and level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelLine {
    /// Seconds since 1970; unknown where the log has no year.
    pub at: Option<i64>,
    /// What it says.
    pub text: String,
}

/// The constraint of a kill because the whole node had no memory left.
const OF_THE_NODE: &str = "CONSTRAINT_NONE";
/// Victims that are kept of one kill.
const MOST_VICTIMS: usize = 1000;
/// Kills that are kept, the newest ones.
const MOST_KILLS: usize = 10_000;

impl KernelLine {
    /// A line of the node's log.
    pub fn new(entry: &NodeLogEntry) -> Self {
        let at = i64::try_from(entry.realtime_us / 1_000_000).ok();
        Self { at, text: entry.message.clone() }
    }

    /// Whether a line may be part of a kill: all others need not be held.
    pub fn is_of_a_kill(text: &str) -> bool {
        let parts =
            ["oom-kill", "oom_", "Killed process", "Kill process", "memory: usage", "memcg=", ",uid="];
        parts.iter().any(|part| text.contains(part)) || text.starts_with("Task")
    }
}

/// The kills that lines tell of, oldest first.
pub fn parse_kills(lines: &[KernelLine]) -> Vec<OomKill> {
    let mut kills: Vec<OomKill> = Vec::new();
    // What stands before the line that names the cgroups.
    let mut next = OomKill::default();
    // A line that was too long for one record.
    let mut broken: Option<String> = None;
    for line in lines {
        let mut text = line.text.trim_start().to_owned();
        if let Some(first) = broken.take() {
            text = if text.starts_with("Memory cgroup") { text } else { first + &line.text };
        }
        if text.contains(" invoked oom-killer: ") {
            next = OomKill::default();
        } else if let Some(rest) = text.strip_prefix("memory: usage ") {
            (next.used_bytes, next.limit_bytes) = (kib_before(rest, ""), kib_before(rest, "limit "));
            // Before 4.19 it stands after the line that names the cgroups.
            if let Some(kill) = kills.last_mut().filter(|kill| kill.victims.is_empty()) {
                (kill.used_bytes, kill.limit_bytes) = (next.used_bytes, next.limit_bytes);
            }
        } else if let Some(rest) = text.strip_prefix("oom-kill:constraint=") {
            if !rest.contains(",uid=") && rest.len() < 4096 {
                broken = Some(text);
                continue;
            }
            let mut kill = named(rest);
            (kill.at, kill.used_bytes, kill.limit_bytes) = (line.at, next.used_bytes, next.limit_bytes);
            keep(&mut kills, kill);
            next = OomKill::default();
        } else if let Some(rest) = text.strip_prefix("Task in ") {
            let Some((task, limit)) = rest.split_once(" killed as a result of limit of ") else { continue };
            next.at = line.at;
            (next.task_memcg, next.oom_memcg) = (task.to_owned(), limit.trim().to_owned());
            next.constraint = "CONSTRAINT_MEMCG".into();
            keep(&mut kills, std::mem::take(&mut next));
        } else if text.starts_with("Tasks in ") && text.contains("memory.oom.group") {
            let path = text.strip_prefix("Tasks in ").and_then(|rest| rest.split(" are going").next());
            if let Some(kill) = kills.last_mut() {
                kill.group = true;
                // The kernel leaves the line with the cgroups out when it kills often, and never this one.
                if let (true, Some(path)) = (kill.task_memcg.is_empty(), path) {
                    kill.task_memcg = path.to_owned();
                    if kill.constraint != OF_THE_NODE {
                        kill.oom_memcg = path.to_owned();
                    }
                }
            }
        } else if text.starts_with("Out of memory: Kill process ") {
            // Said before it is done, and before 4.19 the first word of it.
            let told = kills.last().is_some_and(|kill| kill.oom_memcg.is_empty() && kill.victims.is_empty());
            if !told {
                keep(&mut kills, OomKill { at: line.at, ..OomKill::default() });
            }
        } else if let Some(victim) = victim(&text) {
            // Whose it was stands before, in the line with the cgroups. The kernel leaves that out when it kills often:
            // then a victim is nobody's, and not that of the kill before. Only of a group there are several.
            let starts = kills.last().is_none_or(|kill| !kill.victims.is_empty() && !kill.group);
            if starts {
                let node = text.starts_with("Out of memory: ");
                let constraint = if node { OF_THE_NODE.to_owned() } else { String::new() };
                keep(&mut kills, OomKill { at: line.at, constraint, ..OomKill::default() });
            }
            if let Some(kill) = kills.last_mut()
                && kill.victims.len() < MOST_VICTIMS
                && !kill.victims.iter().any(|known| known.pid == victim.pid)
            {
                kill.victims.push(victim);
            }
        }
    }
    unique(kills)
}

/// The same kill may stand in a file and in the kernel's buffer.
fn unique(kills: Vec<OomKill>) -> Vec<OomKill> {
    let mut kept: Vec<OomKill> = Vec::new();
    for kill in kills {
        let first = |k: &OomKill| k.victims.first().map(|victim| victim.pid);
        let close = |a: Option<i64>, b: Option<i64>| match (a, b) {
            (Some(a), Some(b)) => a.abs_diff(b) <= 5,
            _ => true,
        };
        let same = |old: &OomKill| {
            old.task_memcg == kill.task_memcg && first(old) == first(&kill) && close(old.at, kill.at)
        };
        match kept.iter_mut().find(|old| same(old)) {
            Some(old) => old.at = old.at.or(kill.at),
            None => kept.push(kill),
        }
    }
    kept
}

fn keep(kills: &mut Vec<OomKill>, kill: OomKill) {
    if kills.len() >= MOST_KILLS {
        kills.remove(0);
    }
    kills.push(kill);
}

/// `CONSTRAINT_MEMCG,nodemask=(null),…,oom_memcg=/a,task_memcg=/a/b,task=NAME,pid=1,uid=0`; a name may hold commas.
fn named(rest: &str) -> OomKill {
    let field = |key: &str| {
        let (_, value) = rest.split_once(key)?;
        Some(value.split(',').next().unwrap_or_default().to_owned())
    };
    OomKill {
        constraint: rest.split(',').next().unwrap_or_default().to_owned(),
        oom_memcg: field(",oom_memcg=").unwrap_or_default(),
        task_memcg: field(",task_memcg=").unwrap_or_default(),
        ..OomKill::default()
    }
}

/// `… Killed process 1247 (busybox) total-vm:1kB, anon-rss:2kB, file-rss:3kB, shmem-rss:4kB, …`.
fn victim(text: &str) -> Option<OomVictim> {
    let known = ["Memory cgroup out of memory: ", "Out of memory: ", "Killed process ", "Kill process "];
    if !known.iter().any(|start| text.starts_with(start)) {
        return None;
    }
    // `Kill process N (NAME) score 1000 or sacrifice child` is said before it is done.
    let (_, rest) = text.split_once("Killed process ")?;
    let (pid, rest) = rest.split_once(|c: char| !c.is_ascii_digit())?;
    let (name, sizes) = rest.rsplit_once(") ").or_else(|| rest.rsplit_once(','))?;
    let sum = ["anon-rss:", "file-rss:", "shmem-rss:"]
        .iter()
        .filter_map(|key| kib_before(sizes, key))
        .fold(0u64, u64::saturating_add);
    let name = name.split_once('(').map_or(name, |(_, name)| name);
    Some(OomVictim { pid: pid.parse().ok()?, name: name.chars().take(16).collect(), resident_bytes: sum })
}

/// The bytes of the number in kB that follows a key.
fn kib_before(text: &str, key: &str) -> Option<u64> {
    let start = text.find(key)?.checked_add(key.len())?;
    let (number, _) = text.get(start..)?.split_once("kB")?;
    let kib: u64 = number.trim().parse().ok()?;
    // No limit is written as the largest number of pages.
    Some(kib.saturating_mul(1024)).filter(|&bytes| bytes < 1 << 60)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
