//! The lines of real kernels.

use super::*;
use crate::facts::unix_seconds;

/// Of `<time> <host> kernel: text`.
fn kills(text: &str) -> Vec<OomKill> {
    let lines = text.lines().map(|line| {
        let (time, rest) = line.split_once(' ').unwrap();
        KernelLine { at: unix_seconds(time), text: rest.split_once(" kernel: ").unwrap().1.to_owned() }
    });
    let lines: Vec<KernelLine> = lines.collect();
    assert!(lines.iter().all(|line| KernelLine::is_of_a_kill(&line.text)), "nothing of them is left out");
    parse_kills(&lines)
}

fn victims(kill: &OomKill) -> Vec<(u32, &str)> {
    kill.victims.iter().map(|v| (v.pid, v.name.as_str())).collect()
}

#[test]
fn version_two_main_and_group() {
    let kills = kills(include_str!("../../../tests/fixtures/why/kernel-v2-main-and-group.txt"));
    assert_eq!(kills.len(), 2, "{kills:#?}");
    let (main, group) = (&kills[0], &kills[1]);
    assert!(main.oom_memcg.ends_with("-pod23fae242d6181fc95b728d32cc55ced2.slice"), "the pod fills first");
    assert!(
        main.task_memcg.ends_with("1d63576a3a6463aad3d9369aa8f69887b431f6633da6461f7ad60875ae00dba0.scope")
    );
    assert_eq!((main.limit_bytes, main.used_bytes), (Some(48 << 20), Some(48 << 20)));
    assert_eq!((victims(main), main.group), (vec![(1247, "busybox")], true), "logged twice, killed once");
    assert_eq!(main.victims[0].resident_bytes, (48640 + 1276) << 10);
    assert_eq!(main.at, unix_seconds("2026-11-23T17:44:05Z"));
    assert_eq!(group.oom_memcg, group.task_memcg);
    assert_eq!(victims(group), [(3505, "busybox"), (1204, "sh")]);
}

#[test]
fn version_two_child_alone() {
    let kills = kills(include_str!("../../../tests/fixtures/why/kernel-v2-child.txt"));
    let child = &kills[0];
    assert_eq!((victims(child), child.group), (vec![(9908, "busybox")], false));
    assert_eq!(child.constraint, "CONSTRAINT_MEMCG");
}

#[test]
fn version_one_each_kill_once_even_where_file_and_buffer_have_it() {
    let text = include_str!("../../../tests/fixtures/why/kernel-v1.txt");
    let once = kills(text);
    assert_eq!(once.len(), text.lines().filter(|l| l.contains("oom-kill:")).count());
    assert!(once.iter().all(|k| k.victims.len() == 1 && k.limit_bytes.is_some()), "{once:#?}");
    assert_eq!(kills(&format!("{text}{text}")), once);
}

fn lines(texts: &[&str]) -> Vec<OomKill> {
    parse_kills(&texts.iter().map(|&text| KernelLine { at: Some(7), text: text.into() }).collect::<Vec<_>>())
}

#[test]
fn the_whole_node_has_no_cgroup_whose_limit_was_reached() {
    let kills = lines(&[
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/kubepods/besteffort/podU/c,task=hog,pid=9,uid=0",
        "Out of memory: Killed process 9 (hog) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:1kB oom_score_adj:1000",
    ]);
    assert_eq!(kills.len(), 1);
    assert_eq!(
        (kills[0].oom_memcg.as_str(), kills[0].task_memcg.as_str()),
        ("", "/kubepods/besteffort/podU/c")
    );
    assert_eq!(victims(&kills[0]), [(9, "hog")]);
}

/// The form of these lines, the repeated victim too: a node of Debian 12 (6.1) whose memory was used up.
#[test]
fn all_of_a_container_may_be_killed_for_the_node() {
    let named = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=c,mems_allowed=0,global_oom,task_memcg=/kubepods/burstable/podU/c,task=hog,pid=9,uid=1000";
    let killed = "Out of memory: Killed process 9 (hog) total-vm:719984kB, anon-rss:5064kB, file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:108kB oom_score_adj:997";
    let group = "Tasks in /kubepods/burstable/podU/c are going to be killed due to memory.oom.group set";
    let child =
        "Out of memory: Killed process 10 (dog) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB";
    let told = lines(&[named, killed, group, killed, child]);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((victims(&told[0]), told[0].group), (vec![(9, "hog"), (10, "dog")], true));
    assert_eq!((told[0].oom_memcg.as_str(), told[0].task_memcg.as_str()), ("", "/kubepods/burstable/podU/c"));
    // Where the kernel kills often it leaves the first line out: the node's memory is still not the container's limit.
    let short = lines(&[killed, group, killed, child]);
    assert_eq!(short.len(), 1, "{short:#?}");
    assert_eq!(
        (short[0].oom_memcg.as_str(), short[0].task_memcg.as_str()),
        ("", "/kubepods/burstable/podU/c")
    );
}

#[test]
fn kernels_before_4_19_say_it_in_other_words() {
    let kills = lines(&[
        "Task in /kubepods/podU/c killed as a result of limit of /kubepods/podU",
        "memory: usage 4kB, limit 4kB, failcnt 3",
        "Memory cgroup out of memory: Kill process 9 (a,b) score 1000 or sacrifice child",
        "Killed process 9 (a,b) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB",
    ]);
    assert_eq!(kills.len(), 1, "{kills:?}");
    assert_eq!((kills[0].oom_memcg.as_str(), victims(&kills[0])), ("/kubepods/podU", vec![(9, "a,b")]));
    assert_eq!(kills[0].limit_bytes, Some(4096));
    let node = lines(&[
        "Task in /kubepods/podU/c killed as a result of limit of /kubepods/podU",
        "Killed process 9 (a) total-vm:8kB, anon-rss:4kB, file-rss:0kB",
        "Out of memory: Kill process 10 (b) score 1000 or sacrifice child",
        "Killed process 10 (b) total-vm:8kB, anon-rss:4kB, file-rss:0kB",
    ]);
    assert_eq!(node.iter().map(victims).collect::<Vec<_>>(), [vec![(9, "a")], vec![(10, "b")]]);
    assert_eq!(node[1].oom_memcg, "", "not the pod's");
}

#[test]
fn a_kill_without_its_cgroups_is_nobodys() {
    let kills = lines(&[
        "oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/a,task_memcg=/a,task=hog,pid=9,uid=0",
        "Memory cgroup out of memory: Killed process 9 (hog) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB",
        "Memory cgroup out of memory: Killed process 10 (dog) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB",
        "Memory cgroup out of memory: Killed process 11 (cow) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB",
        "Tasks in /b are going to be killed due to memory.oom.group set",
        "Memory cgroup out of memory: Killed process 12 (calf) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB",
    ]);
    let told: Vec<_> = kills.iter().map(|kill| (kill.task_memcg.as_str(), victims(kill))).collect();
    assert_eq!(
        told,
        [("/a", vec![(9, "hog")]), ("", vec![(10, "dog")]), ("/b", vec![(11, "cow"), (12, "calf")])]
    );
}

#[test]
fn a_line_too_long_for_a_record_is_joined() {
    let kills = lines(&[
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/kubepods/podU,task_m",
        "emcg=/kubepods/podU/c,task=hog,pid=9,uid=0",
        "Memory cgroup out of memory: Killed process 9 (hog) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB",
    ]);
    assert_eq!((kills.len(), kills[0].task_memcg.as_str()), (1, "/kubepods/podU/c"));
    assert_eq!(victims(&kills[0]), [(9, "hog")]);
}

#[test]
fn whatever_a_process_calls_itself_nothing_breaks() {
    for text in [
        "Memory cgroup out of memory: Killed process",
        "Memory cgroup out of memory: Killed process 9",
        "Killed process 99999999999 (x) total-vm:1kB",
        "Out of memory: Killed process 9 (é) anon-rss:18446744073709551615kB",
        "memory: usage kB, limit kB",
        "oom-kill:constraint=,uid=",
        "Task in killed as a result of limit of",
        "Tasks in x memory.oom.group",
    ] {
        let _ = lines(&[text]);
    }
    let kills = lines(&[
        "Memory cgroup out of memory: Killed process 9 (a) b) total-vm:1kB, anon-rss:2kB, file-rss:0kB",
    ]);
    assert_eq!(victims(&kills[0]), [(9, "a) b")]);
}

proptest::proptest! {
    #[test]
    fn no_log_breaks_it(texts in proptest::collection::vec(
        "(oom-kill:constraint=|Killed process |Out of memory: |Memory cgroup |Task in |memory: usage |,oom_memcg=)?\\PC{0,60}(kB|,uid=|\\) )?",
        0..8,
    )) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        proptest::prop_assert!(lines(&texts).len() <= texts.len());
    }
}
