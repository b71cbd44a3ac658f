use super::prevent::{cpu_kept_by_providers, memory_kept_by_providers};
use super::*;
use crate::facts::{
    Blocked, CertificateLife, CniFile, CniNetwork, DegradedReason, DiskIo, DiskUse, KubeletConfig,
    KubeletProcess, Limit, LimitKind, NodeProcesses, PluginBinary, Pressure, RuntimeConfig, Stated,
};

const DAY: i64 = 86_400;
const GIB: u64 = 1 << 30;

fn well() -> NodeState {
    let mut processes = NodeProcesses {
        kubelet: Some(KubeletProcess::default()),
        problem_detector: true,
        ..Default::default()
    };
    processes.pod_cgroups.insert(CgroupDriver::Systemd, "/kubepods.slice/x".into());
    let stated = |value: &str| Stated { value: value.to_owned(), source: "config.yaml".into() };
    NodeState {
        processes: Ok(processes),
        kubelet: Ok(KubeletConfig {
            files: vec!["config.yaml".into()],
            cgroup_driver: Some(stated("systemd")),
            kube_reserved: [("memory".to_owned(), "2Gi".to_owned()), ("cpu".to_owned(), "70m".to_owned())]
                .into(),
            shutdown_grace_ms: Some(4000),
            ..KubeletConfig::default()
        }),
        runtime: Ok(RuntimeConfig {
            runtime: "containerd",
            driver: Stated { value: CgroupDriver::Systemd, source: "config.toml".into() },
            hands_driver: Some(false),
            plugin_folders: vec![],
            config_folder: None,
            calls_loopback: true,
        }),
        pressure: ["cpu", "io", "memory"].map(|n| (n, Ok(Pressure { some: 1.0, full: 0.0 }))).into(),
        disks: vec![DiskUse {
            path: "/".into(),
            folders: vec!["/".into(), "/var/lib/kubelet".into()],
            size_bytes: 100,
            free_bytes: 50,
            inodes: 100,
            free_inodes: 50,
        }],
        silent_folders: Vec::new(),
        disk_io: Ok(vec![DiskIo {
            device: "vda".into(),
            folders: vec!["/".into()],
            interval_ms: 200.0,
            completed: 10,
            wait_ms: Some(1.0),
            stuck: 0,
            since_boot_ms: Some(2.0),
        }]),
        limits: vec![Limit {
            kind: LimitKind::Tasks,
            what: "threads".into(),
            used: 1,
            at_least: false,
            limit: 10,
            source: "kernel.pid_max".into(),
            counted: "/proc/loadavg",
        }],
        certificates: vec![CertificateLife { path: "c.pem".into(), client: true, life: Ok((0, 100 * DAY)) }],
        clock_synchronised: Ok(true),
        plugins: vec![PluginBinary { kind: "bridge".into(), found: Ok("/opt/cni/bin/bridge".into()) }],
        memory_bytes: Some(4 * GIB),
        cpus: Some(2),
        inhibit_delay_ms: Some(5000),
        kubelet_inhibits: Some(true),
    }
}

fn file(path: &str, content: Result<CniNetwork, String>) -> CniFile {
    CniFile { path: path.into(), modified: None, content }
}

pub(super) struct Case {
    pub(super) state: NodeState,
    cni: CniConfig,
    ms: f64,
    degraded: Option<Degraded>,
}

pub(super) fn case(change: impl FnOnce(&mut Case)) -> (Vec<&'static str>, Health, Looked) {
    let files = vec![file("10-a.conflist", Ok(CniNetwork::default()))];
    let mut case =
        Case { state: well(), cni: CniConfig { files, ..CniConfig::default() }, ms: 2.0, degraded: None };
    change(&mut case);
    let calls = [CallTime { call: "ListPodSandbox", ms: case.ms }];
    let mut looked = check_node(NodeView {
        state: &case.state,
        cni: &case.cni,
        calls: if case.degraded.is_some() { &[] } else { &calls },
        degraded: case.degraded.as_ref(),
        endpoint: None,
        now: 50 * DAY,
    });
    looked.checks.push(Check::passed("net.forwarding", ""));
    let ids = looked.findings.iter().map(|f| f.id).collect();
    let verdict = node_verdict(&looked.findings, &looked.checks);
    (ids, verdict, looked)
}

fn ids(change: impl FnOnce(&mut Case)) -> (Vec<&'static str>, Health) {
    let (ids, verdict, _) = case(change);
    (ids, verdict)
}

pub(super) fn check<'a>(looked: &'a Looked, id: &str) -> &'a Check {
    looked.checks.iter().find(|c| c.id == id).unwrap()
}

#[test]
fn a_node_that_is_well_has_no_finding() {
    let (found, verdict, looked) = case(|_| {});
    assert_eq!((found, verdict), (vec![], Health::Healthy));
    for (id, why) in [
        ("node.disks", "/ 50 % free (pods are evicted below 10%, nodefs.available)"),
        ("node.disk_latency", "vda: 10 I/Os took 1.0 ms each"),
        ("node.pressure", "some work waited for: cpu 1 %, io 1 %, memory 1 %"),
        ("node.limits", "1 of 10 threads (kernel.pid_max)"),
        ("node.certificates", "c.pem 50 days"),
        ("node.cgroup_driver", "both use systemd"),
        ("node.reserved", "2048 MiB of memory are kept from pods, 70 millicores are kept"),
        ("node.eviction", "memory.available 100Mi, nodefs.available 10%, nodefs.inodesFree 5%"),
        ("node.shutdown", "pods get 4 s, logind waits 5 s; the kubelet holds its lock"),
    ] {
        assert_eq!(check(&looked, id), &Check::passed(id, why));
    }
}

#[test]
fn without_a_kubelet_is_said_what_its_configuration_told() {
    let (_, verdict, looked) = case(|c| {
        c.state.processes.as_mut().unwrap().kubelet = None;
        c.state.kubelet = Err("/var/lib/kubelet/config.yaml: line 3: no such thing".into());
    });
    let why = "no kubelet runs; its configuration: /var/lib/kubelet/config.yaml: line 3: no such thing";
    assert_eq!(check(&looked, "node.kubelet"), &Check::not_checked("node.kubelet", why));
    assert_ne!(verdict, Health::Healthy);
}

#[test]
fn a_machine_without_a_kubelet_is_never_healthy_and_one_that_lost_it_is_broken() {
    let without = |c: &mut Case| c.state.processes.as_mut().unwrap().kubelet = None;
    assert_eq!(ids(without), (vec!["node.kubelet_down"], Health::Broken));
    let none = |c: &mut Case| {
        without(c);
        c.state.kubelet = Err("config.yaml: not found".into());
    };
    assert_eq!(ids(none), (vec![], Health::Unknown));
    assert_eq!(ids(|c| c.state.processes = Err("no /proc".into())), (vec![], Health::Unknown));
}

#[test]
fn a_machine_that_is_no_node_lacks_nothing() {
    let bare = |c: &mut Case| {
        c.state.processes.as_mut().unwrap().kubelet = None;
        c.state.kubelet = Err("config.yaml: not found".into());
        c.cni.files.clear();
        c.degraded = Some(Degraded { reason: DegradedReason::NoRuntime, detail: "no socket".into() });
    };
    assert_eq!(ids(bare), (vec!["runtime.missing"], Health::Unknown));
}

#[test]
fn a_runtime_that_hangs_or_is_slow_is_told() {
    let hung = |c: &mut Case| {
        c.degraded = Some(Degraded { reason: DegradedReason::RuntimeHung, detail: "no answer".into() });
    };
    assert_eq!(ids(hung), (vec!["runtime.hung"], Health::Degraded));
    assert_eq!(ids(|c| c.ms = 900.0), (vec!["node.runtime_slow"], Health::Degraded));
}

#[test]
fn drivers_that_differ_are_told_unless_the_kubelet_gave_way() {
    let differ = |c: &mut Case| {
        c.state.runtime.as_mut().unwrap().driver.value = CgroupDriver::Cgroupfs;
    };
    assert_eq!(ids(differ), (vec!["node.cgroup_driver_differs"], Health::Degraded));
    let handed = |c: &mut Case| {
        differ(c);
        c.state.runtime.as_mut().unwrap().hands_driver = Some(true);
    };
    assert_eq!(ids(handed), (vec![], Health::Healthy));
    let gave_way = |c: &mut Case| {
        c.state.kubelet.as_mut().unwrap().cgroup_driver.as_mut().unwrap().value = "cgroupfs".into();
        c.state.runtime.as_mut().unwrap().hands_driver = None;
    };
    let (found, _, looked) = case(gave_way);
    assert!(found.is_empty(), "the pods' cgroups are the runtime's: {found:?}");
    assert_eq!(check(&looked, "node.cgroup_driver").outcome, Outcome::Passed);
    let old_pods = |c: &mut Case| {
        gave_way(c);
        c.state.runtime.as_mut().unwrap().hands_driver = Some(false);
    };
    assert_eq!(ids(old_pods).0, ["node.cgroup_driver_differs"], "they are from before");
    let unset = |c: &mut Case| {
        differ(c);
        c.state.kubelet.as_mut().unwrap().cgroup_driver = None;
    };
    assert_eq!(ids(unset), (vec![], Health::Healthy), "the kubelet's default is cgroupfs");
    // Whether the kubelet follows nobody says, and no pod shows.
    let silent = |c: &mut Case| {
        differ(c);
        c.state.runtime.as_mut().unwrap().hands_driver = None;
        c.state.processes.as_mut().unwrap().pod_cgroups.clear();
    };
    let (found, _, looked) = case(silent);
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(check(&looked, "node.cgroup_driver").outcome, Outcome::NotChecked);
    let old = |c: &mut Case| {
        silent(c);
        c.state.runtime.as_mut().unwrap().hands_driver = Some(false);
    };
    assert_eq!(ids(old), (vec!["node.cgroup_driver_differs"], Health::Degraded));
    let pods_show = |c: &mut Case| {
        differ(c);
        c.state.runtime.as_mut().unwrap().hands_driver = None;
    };
    assert_eq!(ids(pods_show), (vec!["node.cgroup_driver_differs"], Health::Degraded));
    let torn = |c: &mut Case| {
        differ(c);
        c.state.processes.as_mut().unwrap().torn_cgroup = Some("/a.slice:cri-containerd:1".into());
    };
    assert_eq!(ids(torn), (vec!["node.cgroup_driver_mismatch"], Health::Broken));
    let unknown = |c: &mut Case| c.state.runtime = Err("x has a version that is not known here".into());
    assert_eq!(ids(unknown), (vec!["node.config_unreadable"], Health::Degraded));
}

#[test]
fn cni_that_is_missing_broken_or_doubled() {
    assert_eq!(ids(|c| c.cni.files.clear()), (vec!["node.cni_missing"], Health::Broken));
    let invalid = |c: &mut Case| c.cni.files[0].content = Err("it is not JSON".into());
    assert_eq!(ids(invalid), (vec!["config.cni_unreadable"], Health::Degraded));
    let two = |c: &mut Case| c.cni.files.push(file("20-b.conflist", Ok(CniNetwork::default())));
    assert_eq!(ids(two), (vec!["node.cni_several"], Health::Healthy));
    let gone = |c: &mut Case| {
        c.state.plugins.push(PluginBinary { kind: "portmap".into(), found: Err("it is not there".into()) });
    };
    assert_eq!(ids(gone), (vec!["node.cni_plugin_missing"], Health::Broken));
}

#[test]
fn room_that_is_gone() {
    let still = |c: &mut Case| {
        c.state.pressure.insert("io", Ok(Pressure { some: 90.0, full: 60.0 }));
    };
    assert_eq!(ids(still), (vec!["node.pressure"], Health::Degraded));
    let full = |name: &'static str, full: f64| {
        move |c: &mut Case| {
            c.state.pressure.insert(name, Ok(Pressure { some: 99.0, full }));
        }
    };
    assert_eq!(ids(full("io", 49.0)), (vec![], Health::Healthy));
    assert_eq!(ids(full("memory", 10.0)).0, ["node.pressure"]);
    assert_eq!(ids(full("memory", 9.0)).0, [""; 0]);
    assert_eq!(ids(full("cpu", 100.0)).0, [""; 0]);
    let silent = |c: &mut Case| c.state.silent_folders.push("/var/lib/kubelet".into());
    assert_eq!(
        ids(silent),
        (vec!["node.disk_silent"], Health::Broken),
        "others that answer do not make it well"
    );
    assert_eq!(ids(|c| c.state.disks[0].inodes = 0), (vec![], Health::Healthy), "btrfs has none");
    assert_eq!(ids(|c| c.state.limits[0].used = 9), (vec!["node.limit_near"], Health::Degraded));
    let inotify = |c: &mut Case| {
        c.state.limits[0].kind = LimitKind::Inotify;
        (c.state.limits[0].used, c.state.limits[0].at_least) = (9, true);
    };
    let (found, _, looked) = case(inotify);
    assert_eq!(found, ["node.inotify_near"]);
    assert_eq!(looked.findings[0].summary, "at least 9 of 10 threads (kernel.pid_max) are used");
    let blocked = Blocked { pid: 7, name: "runc".into(), wchan: Some("rpc_wait_bit_killable".into()) };
    let hang = |c: &mut Case| c.state.processes.as_mut().unwrap().blocked.push(blocked);
    let (found, _, looked) = case(hang);
    assert_eq!(found, ["node.blocked_process"]);
    assert_eq!(looked.findings[0].evidence[0].value, "rpc_wait_bit_killable: an NFS server");
    let waits = |wchan: Option<&str>| {
        let blocked = Blocked { pid: 7, name: "runc".into(), wchan: wchan.map(Into::into) };
        let (_, _, looked) = case(|c| c.state.processes.as_mut().unwrap().blocked.push(blocked));
        looked.findings[0].evidence[0].value.as_str().unwrap().to_owned()
    };
    assert_eq!(waits(Some("do_cow_fault")), "do_cow_fault");
    assert_eq!(waits(Some("folio_wait_bit_common")), "folio_wait_bit_common: a disk");
    assert_eq!(waits(None), "not told");
}

#[test]
fn a_clock_that_nobody_keeps_is_told_and_not_called_right() {
    let (found, verdict, looked) = case(|c| c.state.clock_synchronised = Ok(false));
    assert_eq!((found, verdict), (vec!["node.clock_unsynchronised"], Health::Healthy));
    assert_eq!(check(&looked, "node.clock").outcome, Outcome::NotChecked);
    let (found, _, looked) = case(|c| c.state.clock_synchronised = Err("adjtimex: no".into()));
    assert!(found.is_empty());
    assert_eq!(check(&looked, "node.clock").why, "adjtimex: no");
}

#[test]
fn certificates_by_their_days() {
    let until = |days: i64| move |c: &mut Case| c.state.certificates[0].life = Ok((0, days * DAY));
    assert_eq!(ids(until(49)), (vec!["node.certificate_expired"], Health::Broken));
    assert_eq!(ids(until(54)), (vec!["node.certificate_ends"], Health::Degraded));
    assert_eq!(ids(until(60)), (vec![], Health::Healthy));
    let early = |c: &mut Case| c.state.certificates[0].life = Ok((51 * DAY, 99 * DAY));
    assert_eq!(ids(early), (vec!["node.certificate_expired"], Health::Broken));
    let (_, _, looked) = case(|c| c.state.certificates[0].life = Err("no certificate".into()));
    assert_eq!(check(&looked, "node.certificates").outcome, Outcome::NotChecked);
}

#[test]
fn a_disk_is_full_below_the_kubelets_thresholds() {
    let full = (vec!["node.disk_full"], Health::Degraded);
    let well = (vec![], Health::Healthy);
    let free = |bytes, inodes| {
        move |c: &mut Case| (c.state.disks[0].free_bytes, c.state.disks[0].free_inodes) = (bytes, inodes)
    };
    assert_eq!(ids(free(10, 5)), well);
    assert_eq!(ids(free(9, 5)), full);
    assert_eq!(ids(free(10, 4)), full);
    // The runtime's disk has 15 % by default, also where it is the kubelet's.
    let images = |bytes: u64| {
        move |c: &mut Case| {
            free(bytes, 5)(c);
            c.state.disks[0].folders.push("/var/lib/containerd".into());
        }
    };
    assert_eq!((ids(images(15)), ids(images(14))), (well.clone(), full.clone()));
    let hard = |pairs: &[(&str, &str)], bytes: u64| {
        let map = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        move |c: &mut Case| {
            images(bytes)(c);
            c.state.kubelet.as_mut().unwrap().eviction_hard = Some(map);
        }
    };
    let all = [
        ("memory.available", "100Mi"),
        ("nodefs.available", "3%"),
        ("nodefs.inodesFree", "1%"),
        ("imagefs.available", "20"),
    ];
    assert_eq!((ids(hard(&all, 20)), ids(hard(&all, 19))), (well.clone(), full.clone()));
    let (_, _, looked) = case(hard(&all, 19));
    assert_eq!(
        looked.findings[0].summary,
        "/ has 19 % of its bytes left: below 20 the kubelet evicts pods (imagefs.available)"
    );
    // Left out is off, and 10 % are little whatever the kubelet does.
    assert_eq!((ids(hard(&all[..3], 3)), ids(hard(&all[..3], 2))), (well.clone(), full.clone()));
    let mut off = all;
    (off[1].1, off[3].1) = ("0%", "100%");
    let (found, _, looked) = case(hard(&off, 9));
    assert_eq!(found, ["node.disk_full", "node.eviction_off"]);
    assert_eq!(looked.findings[0].summary, "/ has 9 % of its bytes left");
    let merged = |c: &mut Case| {
        hard(&all[..1], 14)(c);
        c.state.kubelet.as_mut().unwrap().merge_eviction_defaults = true;
    };
    assert_eq!(ids(merged), full);
    let no_kubelet = |c: &mut Case| {
        images(9)(c);
        c.state.kubelet = Err("config.yaml: not found".into());
    };
    let (found, _, looked) = case(no_kubelet);
    assert_eq!(found, ["node.disk_full"]);
    assert_eq!(looked.findings[0].summary, "/ has 9 % of its bytes left");
}

#[test]
fn a_disk_that_is_slow_or_stands_still() {
    let slow = (vec!["node.disk_slow"], Health::Degraded);
    let well = (vec![], Health::Healthy);
    let io = |completed, wait_ms, stuck, interval_ms| {
        move |c: &mut Case| {
            let io = &mut c.state.disk_io.as_mut().unwrap()[0];
            (io.completed, io.wait_ms, io.stuck, io.interval_ms) = (completed, wait_ms, stuck, interval_ms);
        }
    };
    assert_eq!(ids(io(5, Some(100.0), 0, 200.0)), slow);
    assert_eq!(ids(io(5, Some(99.0), 9, 200.0)), well);
    assert_eq!(ids(io(4, Some(500.0), 0, 200.0)), well, "too few for a mean");
    assert_eq!(ids(io(0, None, 1, 200.0)), slow);
    assert_eq!(ids(io(0, None, 1, 9.0)), well, "too short to tell");
    assert_eq!(ids(io(0, None, 0, 200.0)), well);
    let (_, _, looked) = case(|c| c.state.disk_io = Ok(vec![]));
    assert_eq!(check(&looked, "node.disk_latency").outcome, Outcome::NotChecked);
    let (_, _, looked) = case(|c| c.state.disk_io = Err("/proc/diskstats: gone".into()));
    assert_eq!(check(&looked, "node.disk_latency").why, "/proc/diskstats: gone");
}

#[test]
fn what_prevents() {
    let unwatched = |c: &mut Case| c.state.processes.as_mut().unwrap().problem_detector = false;
    assert_eq!(ids(unwatched), (vec!["node.no_problem_detector"], Health::Healthy));
    let hard = |map: &'static [(&str, &str)]| {
        move |c: &mut Case| {
            let map = map.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            c.state.kubelet.as_mut().unwrap().eviction_hard = Some(map);
        }
    };
    let off = (vec!["node.eviction_off"], Health::Healthy);
    assert_eq!(ids(hard(&[])), off);
    let all: &[_] =
        &[("nodefs.available", "10%"), ("nodefs.inodesFree", "5%"), ("memory.available", "300Mi")];
    assert_eq!(ids(hard(all)), (vec![], Health::Healthy));
    assert_eq!(ids(hard(&all[..2])), off);
    assert_eq!(ids(hard(&all[1..])), off);
    let (_, _, looked) = case(hard(&[("memory.available", "0%"), ("nodefs.available", "10%")]));
    assert_eq!(looked.findings[0].summary, "no pod is evicted for want of memory or inodes");
    let merged = |c: &mut Case| {
        hard(&[])(c);
        c.state.kubelet.as_mut().unwrap().merge_eviction_defaults = true;
    };
    assert_eq!(ids(merged), (vec![], Health::Healthy));
}

#[test]
fn enough_is_kept_for_a_node_of_this_size() {
    let little = (vec!["node.reserved_too_little"], Health::Healthy);
    let well = (vec![], Health::Healthy);
    let keep = |what: &'static str, value: &'static str| {
        move |c: &mut Case| {
            c.state.kubelet.as_mut().unwrap().kube_reserved.insert(what.into(), value.into());
        }
    };
    // 4 GiB: GKE and AKS keep 1 GiB, EKS more.
    assert_eq!(
        (ids(keep("memory", "1024Mi")), ids(keep("memory", "1000Mi"))),
        (well.clone(), little.clone())
    );
    let both = |c: &mut Case| {
        keep("memory", "1000Mi")(c);
        c.state.kubelet.as_mut().unwrap().system_reserved.insert("memory".into(), "24Mi".into());
    };
    assert_eq!(ids(both), well);
    let few_pods = |c: &mut Case| {
        keep("memory", "300Mi")(c);
        c.state.kubelet.as_mut().unwrap().max_pods = Some(Stated { value: 8, source: "f".into() });
    };
    assert_eq!((ids(keep("memory", "300Mi")), ids(few_pods)), (little.clone(), well.clone()));
    assert_eq!((ids(keep("cpu", "0.07")), ids(keep("cpu", "69m"))), (well.clone(), little.clone()));
    let pinned = |c: &mut Case| {
        keep("cpu", "0")(c);
        c.state.kubelet.as_mut().unwrap().reserved_cpus = Some("0".into());
    };
    assert_eq!(ids(pinned), well);
    for odd in [keep("memory", "much"), keep("cpu", "much")] {
        let (found, _, looked) = case(odd);
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(check(&looked, "node.reserved").outcome, Outcome::NotChecked);
    }
    for unknown in [|c: &mut Case| c.state.memory_bytes = None, |c: &mut Case| c.state.cpus = None] {
        let (_, _, looked) = case(unknown);
        assert_eq!(check(&looked, "node.reserved").outcome, Outcome::NotChecked);
    }
    let mib = |memory, pods| memory_kept_by_providers(memory, pods).map(|(_, bytes)| bytes >> 20);
    assert_eq!(mib(8 * GIB, 30), [1843, 619, 585], "AKS: its documentation's own example, 650 MB");
    assert_eq!(mib(4 * GIB, 70)[1], 1024, "a quarter");
    assert_eq!(mib(GIB / 2, 8)[0], 255);
    assert_eq!(mib(192 * GIB, 110)[0], 10_854, "1024 + 819.2 + 819.2 + 6881.3 + 1310.7");
    for (cpus, millicores) in [(0, 0), (1, 60), (2, 70), (4, 80), (8, 90), (96, 310)] {
        assert_eq!(cpu_kept_by_providers(cpus), millicores, "{cpus}");
    }
}

#[test]
fn a_shutdown_that_waits_for_pods() {
    let grace = |ms: u64| move |c: &mut Case| c.state.kubelet.as_mut().unwrap().shutdown_grace_ms = Some(ms);
    assert_eq!(ids(grace(5000)), (vec![], Health::Healthy));
    assert_eq!(ids(grace(5001)), (vec!["node.shutdown_cut_short"], Health::Degraded));
    assert_eq!(ids(grace(0)), (vec!["node.shutdown_off"], Health::Healthy));
    let unlocked = |c: &mut Case| c.state.kubelet_inhibits = Some(false);
    assert_eq!(ids(unlocked), (vec!["node.shutdown_no_lock"], Health::Degraded));
    assert_eq!(ids(|c| c.state.kubelet_inhibits = None), (vec![], Health::Healthy), "not to be seen");
    let down = |c: &mut Case| {
        unlocked(c);
        c.state.processes.as_mut().unwrap().kubelet = None;
    };
    assert_eq!(ids(down).0, ["node.kubelet_down"], "who does not run holds nothing");
    let (_, _, looked) = case(|c| c.state.inhibit_delay_ms = None);
    assert_eq!(check(&looked, "node.shutdown").outcome, Outcome::NotChecked);
}
