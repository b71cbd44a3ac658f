//! What real runtimes and kernels said of recorded containers, and what it means.

use super::*;
use crate::facts::{
    Attempt, Cause, ContainerHistory, ContainerState, Finding, KubeletAct, OomKill, OomVictim, PodHistory,
    Severity, unix_seconds,
};

const MAIN: &str = "1d63576a3a6463aad3d9369aa8f69887b431f6633da6461f7ad60875ae00dba0";
const CHILD: &str = "28bf342d9cf4d7dc6d0ad83c5e9c5c21e49f293f079110413af91331ae767fba";
const UID: &str = "23fae242d6181fc95b728d32cc55ced2";
const LIVE: &str = "c93464c5030524a85755b5ecbbf76110f7970bddb013940e00d35638b2b8276d";

fn attempt(id: &str, exit_code: Option<i32>, reason: &str) -> Attempt {
    let ns = |text| unix_seconds(text).map(|s| s * 1_000_000_000);
    Attempt {
        attempt: Some(1),
        id: Some(id.into()),
        state: if exit_code.is_some() { ContainerState::Exited } else { ContainerState::Running },
        exit_code,
        reason: Some(reason.to_owned()).filter(|r| !r.is_empty()),
        message: None,
        started_ns: ns("2026-11-23T17:05:23Z"),
        finished_ns: exit_code.and_then(|_| ns("2026-11-23T17:05:33Z")),
        memory_limit_bytes: Some(48 << 20),
        pid: None,
        memory: None,
        last_lines: vec!["last words".into()],
        source: "CRI ContainerStatus",
    }
}

fn history(attempts: Vec<Attempt>, kills: Vec<OomKill>) -> PodHistory {
    PodHistory {
        namespace: "shop".into(),
        name: "live".into(),
        uid: UID.into(),
        containers: vec![ContainerHistory { name: "app".into(), attempts }],
        kills,
        kernel_source: "/dev/kmsg".into(),
        ..PodHistory::default()
    }
}

fn kill(oom_memcg: &str, id: &str) -> OomKill {
    OomKill {
        at: Some(1_795_455_845),
        constraint: if oom_memcg.is_empty() { "CONSTRAINT_NONE".into() } else { "CONSTRAINT_MEMCG".into() },
        oom_memcg: oom_memcg.into(),
        task_memcg: format!("/kubepods.slice/kubepods-pod{UID}.slice/cri-containerd-{id}.scope"),
        used_bytes: Some(48 << 20),
        limit_bytes: Some(48 << 20),
        group: false,
        victims: vec![OomVictim { pid: 1247, name: "busybox".into(), resident_bytes: 49 << 20 }],
    }
}

fn pod_slice() -> String {
    format!("/kubepods.slice/kubepods-pod{UID}.slice")
}

/// The cause of the only attempt, and the ids of what is found.
#[track_caller]
fn judge(history: &PodHistory) -> (Cause, Vec<&'static str>) {
    let attempt = history.containers[0].attempts.last().unwrap();
    let findings = check_why(history);
    assert!(findings.iter().all(|f| !f.evidence.is_empty() && !f.fix.is_empty()));
    (find_cause(history, "app", attempt), findings.iter().map(|f| f.id).collect())
}

fn only(history: &PodHistory, id: &str) -> Finding {
    check_why(history).into_iter().find(|f| f.id == id).unwrap()
}

#[test]
fn its_own_limit_and_its_pods() {
    let own = kill(&format!("{}/cri-containerd-{MAIN}.scope", pod_slice()), MAIN);
    let own = history(vec![attempt(MAIN, Some(137), "OOMKilled")], vec![own]);
    assert_eq!(judge(&own), (Cause::OomLimit, vec!["why.oom_limit", "why.backoff"]));
    assert!(only(&own, "why.oom_limit").summary.ends_with("at its memory limit of 48 MiB"));
    let pods = history(vec![attempt(MAIN, Some(137), "OOMKilled")], vec![kill(&pod_slice(), MAIN)]);
    assert_eq!(judge(&pods).0, Cause::OomLimit);
    let finding = only(&pods, "why.oom_limit");
    assert!(finding.summary.ends_with("at its pod's memory limit of 48 MiB"), "{}", finding.summary);
    let words: Vec<String> = finding.evidence.iter().map(|e| format!("{} {}", e.what, e.value)).collect();
    let text = words.join("\n");
    assert!(text.contains("busybox (PID 1247, 49 MiB), 2026-11-23T17:44:05Z"), "{text}");
    assert!(text.contains("wrote before its end \"last words\""), "{text}");
}

#[test]
fn the_runtimes_word_stands_where_the_kernel_has_forgotten() {
    let mut lost = history(vec![attempt(MAIN, Some(137), "OOMKilled")], Vec::new());
    assert_eq!(judge(&lost).0, Cause::OomLimit);
    lost.containers[0].attempts[0].memory_limit_bytes = Some(0);
    assert_eq!(judge(&lost).0, Cause::OomNode, "it had no limit to reach");
    // And the other way: the runtime missed it.
    let missed = history(vec![attempt(MAIN, Some(137), "Error")], vec![kill(&pod_slice(), MAIN)]);
    assert_eq!(judge(&missed).0, Cause::OomLimit);
}

#[test]
fn the_node_and_all_pods_together_are_not_its_limit() {
    for memcg in ["", "/kubepods.slice"] {
        let node = history(vec![attempt(MAIN, Some(137), "OOMKilled")], vec![kill(memcg, MAIN)]);
        assert_eq!(judge(&node), (Cause::OomNode, vec!["why.oom_node", "why.backoff"]), "{memcg}");
    }
}

#[test]
fn a_child_alone_while_the_container_runs_on() {
    let scope = format!("{}/cri-containerd-{CHILD}.scope", pod_slice());
    let with_record = history(vec![attempt(CHILD, None, "OOMKilled")], vec![kill(&scope, CHILD)]);
    assert_eq!(judge(&with_record), (Cause::OomChild, vec!["why.oom_child"]));
    let without = history(vec![attempt(CHILD, None, "OOMKilled")], Vec::new());
    assert_eq!(judge(&without).0, Cause::OomChild, "as crictl showed it after the kill");
    let ended_well = history(vec![attempt(CHILD, Some(0), "OOMKilled")], Vec::new());
    assert_eq!(judge(&ended_well).0, Cause::OomChild, "its main process was not killed");
    // The main process ended with its own error because of it.
    let crashed = history(vec![attempt(CHILD, Some(1), "Error")], vec![kill(&scope, CHILD)]);
    assert_eq!(judge(&crashed).0, Cause::OomChild);
}

#[test]
fn a_group_that_was_killed_for_the_node_is_not_at_its_limit() {
    let group = OomKill { group: true, limit_bytes: None, used_bytes: None, ..kill("", MAIN) };
    let node = history(vec![attempt(MAIN, Some(137), "OOMKilled")], vec![group]);
    assert_eq!(judge(&node).0, Cause::OomNode);
    let finding = only(&node, "why.oom_node");
    assert!(finding.summary.ends_with("because the node's memory was used up"), "{}", finding.summary);
    let words = finding.evidence.iter().find(|e| e.what == "the kernel killed").unwrap().value.to_string();
    assert!(words.contains("all of the container (memory.oom.group)"), "{words}");
    assert_eq!(finding.fix, rules::OOM_NODE.fix);
    let all = history(vec![attempt(MAIN, Some(137), "OOMKilled")], vec![kill("/kubepods.slice", MAIN)]);
    let said = only(&all, "why.oom_node").summary;
    assert!(said.ends_with("because the limit of all of /kubepods.slice was used up"), "{said}");
}

#[test]
fn a_graceful_stop_is_no_fault_and_a_kill_after_it_names_the_kubelet() {
    let mut stopped = history(vec![attempt(LIVE, Some(143), "Error")], Vec::new());
    stopped.containers[0].attempts[0].attempt = Some(0);
    assert_eq!(judge(&stopped), (Cause::Signal, vec!["why.terminated"]));
    let finding = only(&stopped, "why.terminated");
    assert_eq!(finding.severity, Severity::Info);
    // Asked to end and did not: SIGKILL when its grace period was over. The kubelet's line, recorded.
    let mut killed = history(vec![attempt(LIVE, Some(137), "Error")], Vec::new());
    killed.uid = "d8750536-2f7e-4ae3-acd2-541faded9da6".into();
    let lines = include_str!("../../../tests/fixtures/why/kubelet-liveness.txt");
    let line = lines.lines().find(|line| line.contains("Killing container with a grace period")).unwrap();
    killed.kubelet.extend(parse_kubelet(unix_seconds(line.split(' ').next().unwrap()), line, &killed));
    let said = only(&killed, "why.signal").summary;
    assert!(said.ends_with("; the kubelet had asked it to end"), "{said}");
}

#[test]
fn start_errors_by_their_words_and_by_their_state() {
    let with = |code, reason: &str, state, message: &str| {
        let one = Attempt { message: Some(message.into()), state, ..attempt(MAIN, code, reason) };
        history(vec![one], Vec::new())
    };
    for (message, fix) in [
        ("exec: \"x\": executable file not found in $PATH: unknown", "correct command or args"),
        ("exec /run.sh: permission denied: unknown", "make what command of container app names executable"),
        ("exec /app: exec format error", "the image of container app is for another processor"),
        ("failed to mount /x: invalid argument", "Correct what the runtime's message names"),
    ] {
        let failed = with(Some(128), "StartError", ContainerState::Exited, message);
        assert_eq!(judge(&failed).0, Cause::StartError);
        let finding = only(&failed, "why.start_error");
        assert!(finding.fix.starts_with(fix), "{message}: {}", finding.fix);
        assert!(!finding.summary.ends_with("unknown"), "{}", finding.summary);
    }
    // Made and never started: the kubelet's word is all there is; without one it may only be young.
    let created = with(None, "CreateContainerError", ContainerState::Created, "no such volume");
    assert_eq!(judge(&created).0, Cause::StartError);
    assert_eq!(judge(&with(None, "", ContainerState::Created, "")), (Cause::Unknown, vec![]));
    // 128 alone is a number that a program may end with.
    assert_eq!(judge(&with(Some(128), "Error", ContainerState::Exited, "")).0, Cause::Crash);
}

#[test]
fn kubelets_words_count_for_the_time_of_the_attempt_and_its_container() {
    let word = |at: &str, container: Option<&str>| crate::facts::KubeletWord {
        at: unix_seconds(at),
        act: KubeletAct::Eviction,
        container: container.map(Into::into),
        container_id: None,
        words: "evicted".into(),
    };
    let cause = |word| {
        let mut history = history(vec![attempt(MAIN, Some(137), "Error")], Vec::new());
        history.kubelet = vec![word];
        judge(&history).0
    };
    assert_eq!(cause(word("2026-11-23T17:05:30Z", None)), Cause::Evicted);
    assert_eq!(cause(word("2026-11-23T17:06:33Z", None)), Cause::Evicted, "written a minute later");
    assert_eq!(cause(word("2026-11-23T17:06:34Z", None)), Cause::Signal);
    assert_eq!(cause(word("2026-11-23T17:05:22Z", None)), Cause::Signal, "before it began");
    assert_eq!(cause(word("2026-11-23T17:05:30Z", Some("other"))), Cause::Signal);
    let of_another =
        crate::facts::KubeletWord { container_id: Some(CHILD.into()), ..word("2026-11-23T17:05:30Z", None) };
    assert_eq!(cause(of_another), Cause::Signal);
}

#[test]
fn another_containers_kill_is_not_this_ones() {
    let other = history(vec![attempt(MAIN, Some(137), "Error")], vec![kill(&pod_slice(), CHILD)]);
    let (cause, ids) = judge(&other);
    assert_eq!(cause, Cause::Signal);
    assert!(ids.contains(&"why.oom_limit"), "told as one of a container that is gone: {ids:?}");
}

#[test]
fn an_id_that_is_too_short_to_be_one_names_nobody() {
    let short = history(vec![attempt("7f", Some(137), "Error")], vec![kill("/kubepods/7f", "7f")]);
    assert_eq!(judge(&short).0, Cause::Signal);
}

#[test]
fn exit_codes_in_words() {
    for (code, reason, cause, rule, words) in [
        (3, "Error", Cause::Crash, "why.crash", "exit 3"),
        (127, "Error", Cause::Crash, "why.crash", "exit 127 = command not found"),
        (255, "Error", Cause::Crash, "why.crash", "exit 255"),
        (139, "Error", Cause::Signal, "why.signal", "exit 139 = SIGSEGV"),
        (134, "Error", Cause::Signal, "why.signal", "exit 134 = SIGABRT"),
        (137, "Error", Cause::Signal, "why.signal", "exit 137 = SIGKILL"),
        (143, "Error", Cause::Signal, "why.terminated", "exit 143 = SIGTERM"),
        (130, "Error", Cause::Signal, "why.terminated", "exit 130 = SIGINT"),
        (128 + 40, "Error", Cause::Signal, "why.signal", "exit 168 = signal 40"),
        (255, "Unknown", Cause::Unknown, "why.unknown", ""),
    ] {
        let history = history(vec![attempt(MAIN, Some(code), reason)], Vec::new());
        let (found, ids) = judge(&history);
        assert_eq!((found, ids.contains(&rule)), (cause, true), "{code}: {ids:?}");
        let summary = only(&history, rule).summary;
        assert!(summary.contains(words), "{summary}");
    }
}

#[test]
fn what_the_kernels_log_could_not_tell_is_not_denied() {
    let mut blind = history(vec![attempt(MAIN, Some(137), "Error")], Vec::new());
    assert!(only(&blind, "why.signal").summary.ends_with("for memory it was not"));
    blind.kernel_unread = Some("permission denied".into());
    assert!(only(&blind, "why.signal").summary.ends_with("by whom is not recorded"));
    assert_eq!(only(&blind, "why.kernel_unread").severity, Severity::Info);
}

#[test]
fn a_kill_that_names_nobody_denies_nothing() {
    let mut history = history(vec![attempt(MAIN, Some(137), "Error")], Vec::new());
    let ended = unix_seconds("2026-11-23T17:05:33Z").unwrap();
    history.nameless_kills = vec![ended - 100];
    assert!(only(&history, "why.signal").summary.ends_with("for memory it was not"));
    history.nameless_kills = vec![ended - 1];
    assert!(only(&history, "why.signal").summary.ends_with("did not log in which cgroup"));
}

#[test]
fn a_start_error_says_what_to_correct() {
    let message = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create \
        failed: unable to start container process: exec: \"/bin/does-not-exist\": stat /bin/does-not-exist: no such file \
        or directory: unknown";
    let one =
        Attempt { started_ns: None, message: Some(message.into()), ..attempt(MAIN, Some(128), "StartError") };
    let history = history(vec![one], Vec::new());
    assert_eq!(judge(&history).0, Cause::StartError);
    let finding = only(&history, "why.start_error");
    let words = "could not be started: exec: \"/bin/does-not-exist\": stat /bin/does-not-exist: no such file or directory";
    assert!(finding.summary.ends_with(words), "{}", finding.summary);
    assert!(finding.fix.starts_with("correct command or args of container app"), "{}", finding.fix);
}

#[test]
fn nothing_wrong_is_no_finding() {
    for one in [attempt(MAIN, None, ""), attempt(MAIN, Some(0), "Completed")] {
        let (cause, ids) = judge(&history(vec![one], Vec::new()));
        assert!(matches!(cause, Cause::Running | Cause::Completed));
        assert_eq!(ids, [] as [&str; 0]);
    }
    let again = Attempt { attempt: Some(7), ..attempt(MAIN, Some(0), "Completed") };
    assert_eq!(judge(&history(vec![again.clone()], Vec::new())).1, ["why.completed_restarts"]);
    let before = |code, reason| Attempt { attempt: Some(6), ..attempt(CHILD, Some(code), reason) };
    let twice = history(vec![before(0, "Completed"), again.clone()], Vec::new());
    assert_eq!(judge(&twice).1, ["why.completed_restarts"]);
    // A job that failed, was tried again, and did its work.
    let tried = history(vec![before(1, "Error"), again.clone()], Vec::new());
    assert_eq!(judge(&tried), (Cause::Completed, vec!["why.crash"]));
    let then = Attempt { attempt: Some(8), ..attempt(CHILD, Some(3), "Error") };
    assert_eq!(judge(&history(vec![again, then], Vec::new())).1, ["why.crash", "why.backoff"]);
}

#[test]
fn one_that_lives_again_is_a_warning_and_counted_once() {
    let dead = |n| Attempt { attempt: Some(n), ..attempt(MAIN, Some(3), "Error") };
    let lives = Attempt { attempt: Some(2), ..attempt(CHILD, None, "") };
    let history = history(vec![dead(0), dead(1), lives], Vec::new());
    let findings = check_why(&history);
    assert_eq!(
        findings.iter().map(|f| (f.id, f.severity)).collect::<Vec<_>>(),
        [("why.crash", Severity::Warning)]
    );
    assert!(findings[0].summary.ends_with("2 of the 3 attempts that are known"), "{}", findings[0].summary);
}

const LIVENESS: &str = include_str!("../../../tests/fixtures/why/kubelet-liveness.txt");

/// A pod of whose container the kubelet wrote, when it was recorded, that its liveness probe failed.
fn probed(one: Attempt) -> PodHistory {
    let mut history = history(vec![one], Vec::new());
    history.uid = "d8750536-2f7e-4ae3-acd2-541faded9da6".into();
    let word = |line: &str| parse_kubelet(unix_seconds(line.split(' ').next()?), line, &history);
    history.kubelet = LIVENESS.lines().filter_map(word).collect();
    history
}

#[test]
fn the_kubelets_own_words_name_a_probe() {
    let history = probed(attempt(LIVE, Some(137), "Error"));
    assert_eq!(
        history.kubelet.iter().map(|w| w.act).collect::<Vec<_>>(),
        [KubeletAct::ProbeKill, KubeletAct::Kill]
    );
    assert!(history.kubelet.iter().all(|w| w.container_id.as_deref() == Some(LIVE)), "{:?}", history.kubelet);
    assert_eq!(judge(&history).1, ["why.probe_kill", "why.backoff"]);
    let summary = only(&history, "why.probe_kill").summary;
    assert!(
        summary.contains("Container app failed liveness probe, will be restarted (exit 137"),
        "{summary}"
    );
    // The same lines about a pod of another name say nothing of this one.
    let other = PodHistory { name: "liver".into(), uid: "x".repeat(36), ..history.clone() };
    assert_eq!(LIVENESS.lines().filter_map(|line| parse_kubelet(None, line, &other)).count(), 0);
}

#[test]
fn a_back_off_is_told_in_the_kubelets_words() {
    let mut history = history(vec![attempt(MAIN, Some(3), "Error")], Vec::new());
    (history.name, history.uid) = ("crash".into(), "ec828a3a-c7bf-4f03-9de5-c8e2e54ed141".into());
    let line = include_str!("../../../tests/fixtures/why/kubelet-backoff.txt");
    let word = parse_kubelet(Some(7), line, &history).unwrap();
    assert_eq!((word.act, word.container.as_deref()), (KubeletAct::BackOff, Some("app")));
    assert_eq!(word.words, "back-off 2m40s restarting failed container=app");
    history.kubelet = vec![word];
    assert!(
        only(&history, "why.backoff")
            .evidence
            .iter()
            .any(|e| e.value == "back-off 2m40s restarting failed container=app")
    );
}

#[test]
fn an_evicted_pod_was_not_ended_by_itself() {
    let mut history = history(vec![attempt(MAIN, Some(137), "Error")], Vec::new());
    let line = "I1123 17:05:33.1 498 eviction_manager.go:627] \"Eviction manager: pod is evicted successfully\" pod=\"shop/live\"";
    history.kubelet.extend(parse_kubelet(unix_seconds("2026-11-23T17:05:33Z"), line, &history));
    // Whatever code it made of SIGTERM.
    for code in [137, 143, 0, 1] {
        history.containers[0].attempts[0].exit_code = Some(code);
        assert_eq!(judge(&history), (Cause::Evicted, vec!["why.evicted"]), "{code}");
    }
}

#[test]
fn what_a_probe_ended_is_the_probes_whatever_code_it_made_of_it() {
    for (code, reason) in [(0, "Completed"), (1, "Error"), (143, "Error")] {
        let history = probed(Attempt { attempt: Some(4), ..attempt(LIVE, Some(code), reason) });
        assert_eq!(judge(&history).1[0], "why.probe_kill", "{code}");
    }
}

#[test]
fn sizes_and_spans_are_read_at_a_glance() {
    for (bytes, words) in
        [(7, "7 bytes"), (24 << 20, "24 MiB"), (3 << 29, "1.5 GiB"), (u64::MAX, "16383 PiB")]
    {
        assert_eq!(size(bytes), words);
    }
    for (ms, words) in
        [(43, "43 ms"), (3240, "3.2 s"), (92_000, "92 s"), (600_000, "10 min"), (90_000_000, "25 h")]
    {
        assert_eq!(span(ms * 1_000_000), words);
    }
    assert_eq!((span(-5), span(i64::MAX)), ("0 ms".into(), "106751 d".into()));
}

#[test]
fn the_log_that_is_pointed_at_is_the_attempts_own() {
    let crashed = attempt(MAIN, Some(3), "Error");
    let fix = |attempts| only(&history(attempts, Vec::new()), "why.crash").fix;
    assert!(fix(vec![crashed.clone()]).ends_with("nsprobe logs shop/live:app"));
    let again = Attempt { attempt: Some(2), ..attempt(LIVE, None, "") };
    assert!(fix(vec![crashed, again]).ends_with("nsprobe logs shop/live:app --previous"));
}
