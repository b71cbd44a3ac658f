//! The recorded nodes of three runtimes: alive (a server answers what they answered), hung and dead.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod pods_support;

use nsprobe::facts::{CgroupDriver, Pod};
use nsprobe::pods::{Options, is_live, list, list_told, resolve_all, time_runtime};
use pods_support::cri::{Answers, dead, hung, serve, serve_recorded};
use pods_support::{Answer, Node};
use serde_json::{Value, json};

const CONTAINERD: &str = "/run/containerd/containerd.sock";
const CRIO: &str = "/run/crio/crio.sock";
const DOCKER: &str = "/run/cri-dockerd.sock";

/// Every PID that is shown is the recorded one of a process that lived, and none of those is missing.
#[track_caller]
fn check_pids(node: &Node, answer: &Answer) -> usize {
    let mut expected = node.recorded_pids();
    let mut seen = 0;
    for pod in answer.pods() {
        for container in pod["containers"].as_array().unwrap() {
            let id = container["id"].as_str().unwrap();
            let known = expected.remove(id);
            assert_eq!(container["pid"].as_u64(), known, "{}:{}", pod["name"], container["name"]);
            assert_eq!(container["pid_source"].is_null(), known.is_none());
            seen += usize::from(known.is_some());
        }
    }
    seen
}

#[test]
fn containerd_alive_lists_states_addresses_and_pids() {
    for (name, seen) in [("containerd-1.6", 4), ("containerd-1.7", 3), ("containerd-2", 3)] {
        let node = Node::recorded(name);
        let server = serve_recorded(&node, CONTAINERD);
        let answer = node.json(&["pods", "--all"]);
        assert_eq!((answer.code, &answer.json["degraded"]), (0, &Value::Null), "{name}: {}", answer.stderr);
        assert_eq!(answer.json["source"], "cri");
        assert_eq!(answer.json["endpoint"], "unix:///run/containerd/containerd.sock");
        assert_eq!(answer.pods().len(), server.answers.sandboxes.len());
        assert_eq!(check_pids(&node, &answer), seen, "{name}");
        let calls = server.answers.calls.lock().unwrap();
        let times = |name: &str| calls.iter().filter(|call| *call == name).count();
        let first = (times("Version"), times("ListPodSandbox"), times("ListContainers"));
        assert_eq!(first, (0, 1, 1), "{name}: no question more than is needed");
        let verbose = calls.iter().filter(|call| call.contains("verbose")).count();
        let unknown = answer.pods().iter().map(|pod| {
            let containers = pod["containers"].as_array().unwrap().iter();
            let lack = containers.filter(|c| c["state"] == "running" && c["pid"].is_null()).count();
            lack + usize::from(pod["state"] == "ready" && pod["pid"].is_null())
        });
        assert!(
            verbose <= unknown.sum(),
            "{name}: the slow call is for what disk and /proc do not know: {verbose}"
        );
    }
}

#[test]
fn a_pod_of_containerd_has_everything_the_contract_names() {
    let node = Node::recorded("containerd-1.6");
    let _server = serve_recorded(&node, CONTAINERD);
    let answer = node.json(&["pods"]);
    let expected = json!({
        "namespace": "shop", "name": "web-6f5d-k5", "uid": "6dde955c-2593-47aa-8aa2-0a90baa4eb66",
        "sandbox_id": "2def6d876e40002e9ea4e5b4ca5bbc2afcd83da3bf6ae93f2da0e1c7a35e3313",
        "state": "ready", "restarts": 0, "host_network": false, "ips": ["10.244.5.3"], "pid": 559,
        "netns": "/var/run/netns/cni-cdeb0df2-358e-e524-84f3-85c778032a3d", "netns_inode": 4_026_538_997_u64,
        "created_at": "2026-11-23T17:03:43Z",
        "containers": [{"name": "app", "id": "3f3fc019bb86a9aff03044252fe8f3c7b594f98d3882cf7409aea06b3ad7c1b4",
            "state": "running", "pid": 919, "pid_source": "disk", "attempt": 0, "exit_code": null, "reason": null}]
    });
    let mut found = answer.pod("web-6f5d-k5").clone();
    let inode = std::fs::read_link(node.root().join("proc/559/ns/net")).unwrap();
    assert_eq!(format!("net:[{}]", found["netns_inode"]), inode.to_str().unwrap());
    found["netns_inode"] = expected["netns_inode"].clone();
    assert_eq!(found, expected);
    let crash = answer.pod("crash-k5");
    assert_eq!(crash["restarts"], 5);
    let last = crash["containers"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["state"], &last["exit_code"], &last["reason"]),
        (&json!("exited"), &json!(3), &json!("Error"))
    );
    let oom = answer.pod("oom-k5")["containers"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&oom["exit_code"], &oom["reason"]), (&json!(137), &json!("OOMKilled")));
    let host = answer.pod("hostnet-k5");
    assert_eq!(
        (&host["host_network"], &host["ips"], &host["netns"]),
        (&json!(true), &json!([]), &Value::Null)
    );
    assert_eq!(answer.pod("two-k5")["containers"].as_array().unwrap().len(), 2);
    assert!(!answer.names().contains(&"shop/once-k5".to_owned()), "a dead sandbox is shown with --all only");
}

/// What must not differ whether the runtime answers or not.
fn essence(answer: &Answer) -> Vec<Value> {
    let of = |pod: &Value| {
        let running = pod["containers"].as_array().unwrap().iter().filter(|c| c["state"] == "running");
        let running: Vec<Value> =
            running.map(|c| json!([c["name"], c["id"], c["pid"], c["pid_source"], c["attempt"]])).collect();
        json!([
            pod["namespace"],
            pod["name"],
            pod["uid"],
            pod["sandbox_id"],
            pod["state"],
            pod["host_network"],
            pod["ips"],
            pod["pid"],
            pod["netns"],
            pod["netns_inode"],
            running
        ])
    };
    answer.pods().iter().map(of).collect()
}

/// The kubelet's log folders were not recorded: they tell the attempts of running containers.
fn add_logs(node: &Node) {
    let answers = Answers::recorded(node);
    for container in &answers.containers {
        let label = |key: &str| container.labels[&format!("io.kubernetes.{key}")].clone();
        let metadata = container.metadata.clone().unwrap();
        let folder = format!("{}_{}_{}", label("pod.namespace"), label("pod.name"), label("pod.uid"));
        let target = format!("/var/log/pods/{folder}/{}/{}.log", metadata.name, metadata.attempt);
        node.put(&target, "");
        let name = format!(
            "{}_{}_{}-{}.log",
            label("pod.name"),
            label("pod.namespace"),
            metadata.name,
            container.id
        );
        node.link(&target, &format!("var/log/containers/{name}"));
    }
}

#[test]
fn hung_and_dead_containerd_show_the_same_pods_and_pids_as_alive() {
    let node = Node::recorded("containerd-1.6");
    add_logs(&node);
    let server = serve_recorded(&node, CONTAINERD);
    let mut alive = node.json(&["pods"]);
    drop(server);
    node.remove("run/containerd/containerd.sock");
    // Of the pods whose configuration was recorded (the others' files were left out for size).
    let on_disk = |pod: &Value| {
        let tasks = node.root().join("run/containerd/io.containerd.runtime.v2.task/k8s.io");
        tasks.join(pod["sandbox_id"].as_str().unwrap()).join("config.json").exists()
    };
    alive.json["pods"].as_array_mut().unwrap().retain(on_disk);
    assert_eq!(alive.pods().len(), 5);

    let listener = hung(&node, CONTAINERD);
    let answer = node.json(&["pods", "--runtime-timeout", "300ms"]);
    assert!((300..1300).contains(&answer.elapsed_ms), "{} ms", answer.elapsed_ms);
    assert_eq!(answer.code, 1, "a warning stands in the report");
    assert_eq!(
        (&answer.json["source"], &answer.json["degraded"]["reason"]),
        (&json!("disk"), &json!("runtime_hung"))
    );
    assert_eq!(answer.json["findings"][0]["id"], "runtime.hung");
    assert_eq!(essence(&answer), essence(&alive));
    assert_eq!(answer.pod("crash-k5")["restarts"], 5, "from the log folders");
    drop(listener);
    node.remove("run/containerd/containerd.sock");

    dead(&node, CONTAINERD);
    let answer = node.json(&["pods"]);
    assert!(answer.elapsed_ms < 1500, "refused at once: {} ms", answer.elapsed_ms);
    assert_eq!((answer.code, &answer.json["degraded"]["reason"]), (1, &json!("runtime_dead")));
    assert_eq!(essence(&answer), essence(&alive));
    node.remove("run/containerd/containerd.sock");

    let answer = node.json(&["pods"]);
    assert_eq!((answer.code, &answer.json["degraded"]["reason"]), (0, &json!("no_runtime")));
    assert_eq!(essence(&answer), essence(&alive));
}

#[test]
fn a_container_that_died_while_the_runtime_hung_has_no_pid() {
    let node = Node::recorded("containerd-1.7-hung");
    let text = std::fs::read_to_string(node.recording("proc-cgroup-stat.txt")).unwrap();
    for part in text.split("== ").skip(1) {
        let (path, content) = part.split_once('\n').unwrap();
        node.put(path.trim(), content);
    }
    let alive = std::fs::read_to_string(node.recording("init-pids-alive.txt")).unwrap();
    let stale = "a1cdff74d2e13b6dc146da6df3da7fe728348b357e7c77e7e33cb5fe5aedf1d5";
    assert!(alive.contains(&format!("{stale} init.pid=647 alive=no")));
    let _listener = hung(&node, CONTAINERD);
    let answer = node.json(&["pods", "--runtime-timeout", "100ms"]);
    let containers: Vec<&Value> =
        answer.pods().iter().flat_map(|pod| pod["containers"].as_array().unwrap()).collect();
    let dead = containers.iter().find(|c| c["id"] == stale).unwrap();
    assert_eq!((&dead["pid"], &dead["state"]), (&Value::Null, &json!("exited")));
    let lives = containers.iter().find(|c| c["id"].as_str().unwrap().starts_with("772c6d3d")).unwrap();
    assert_eq!((&lives["pid"], &lives["state"]), (&json!(673), &json!("running")));

    // The PID belongs to somebody else now.
    node.process(647, 900_000, "/system.slice/sshd.service", 4_026_531_840);
    let answer = node.json(&["pods", "--runtime-timeout", "100ms"]);
    assert!(!answer.json.to_string().contains("\"pid\":647"), "{:#}", answer.json);
}

#[test]
fn crio_without_infra_containers_uses_the_applications_pids() {
    let node = Node::recorded("crio-1.37");
    let server = serve_recorded(&node, CRIO);
    let alive = node.json(&["pods", "--all"]);
    assert_eq!((alive.code, &alive.json["source"]), (0, &json!("cri")), "{}", alive.stderr);
    assert_eq!(check_pids(&node, &alive), 4);
    let web = alive.pod("web-6f5d-k4");
    assert_eq!((&web["pid"], &web["ips"]), (&json!(2118), &json!(["10.244.4.4"])));
    assert_eq!(web["netns"], "/var/run/netns/2d9ceac1-272b-4879-a24c-a6d87f4a41f5");
    let host = alive.pod("hostnet-k4");
    assert_eq!(
        (&host["host_network"], &host["netns"], &host["pid"]),
        (&json!(true), &Value::Null, &json!(1830))
    );
    let once = &alive.pod("once-k4")["containers"][0];
    assert_eq!((&once["pid"], &once["exit_code"]), (&Value::Null, &json!(0)), "CRI-O reports its old PID");
    drop(server);
    node.remove("run/crio/crio.sock");

    dead(&node, CRIO);
    let answer = node.json(&["pods", "--all"]);
    assert_eq!(answer.json["degraded"]["reason"], "runtime_dead");
    assert_eq!(answer.json["endpoint"], "unix:///run/crio/crio.sock");
    let of = |answer: &Answer, name: &str| {
        let pods = Answer {
            code: 0,
            json: json!({"pods": [answer.pod(name)]}),
            stderr: String::new(),
            elapsed_ms: 0,
        };
        essence(&pods)
    };
    assert_eq!(of(&answer, "web-6f5d-k4"), of(&alive, "web-6f5d-k4"));
    let two = answer.pod("two-k4");
    assert_eq!(two["containers"][0]["pid"], 2152);
    let oom = answer.pod("oom-k4");
    assert_eq!(oom["containers"][0]["reason"], "OOMKilled");
    assert_eq!((&oom["containers"][0]["exit_code"], &oom["restarts"]), (&json!(137), &json!(3)));
}

#[test]
fn cri_dockerd_without_an_info_block_is_read_through_cgroups() {
    let node = Node::recorded("cri-dockerd");
    let mut answers = Answers::recorded(&node);
    assert!(answers.sandbox_statuses.values().all(|status| status.info.is_empty()), "no info block at all");
    // What was recorded had not started: as if web had.
    let sandbox = answers.sandboxes.iter_mut().find(|s| s.metadata.clone().unwrap().name == "web").unwrap();
    sandbox.state = 0;
    let (sandbox_id, uid) = (sandbox.id.clone(), sandbox.metadata.clone().unwrap().uid);
    let app = answers.containers.iter_mut().find(|c| c.id.starts_with("0cb973743d6c")).unwrap();
    app.state = 1;
    let slice = format!("/kubepods.slice/kubepods-besteffort-pod{}.slice", uid.replace('-', "_"));
    node.process(4000, 50, &format!("{slice}/docker-{}.scope", app.id), 4_026_540_000);
    let _server = serve::<false>(&node, DOCKER, answers);
    let answer = node.json(&["pods"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let web = answer.pod("web");
    assert_eq!((&web["sandbox_id"], &web["pid"]), (&json!(sandbox_id), &json!(4000)));
    assert_eq!(web["netns"], "/var/run/docker/netns/a3f4f0331b43");
    let app = web["containers"].as_array().unwrap().iter().find(|c| c["name"] == "app").unwrap();
    assert_eq!((&app["pid"], &app["pid_source"]), (&json!(4000), &json!("proc")));
    assert_eq!(answer.pods().len(), 1, "the others are dead: {:?}", answer.names());
    let all = node.json(&["pods", "--all"]);
    assert_eq!(all.pods().len(), 4);
}

#[test]
fn a_process_in_the_nodes_own_namespace_makes_a_host_network_pod_whatever_is_not_said() {
    let node = Node::recorded("cri-dockerd");
    node.remove("var");
    let mut answers = Answers::recorded(&node);
    answers.sandbox_statuses.clear();
    let sandbox = answers.sandboxes.iter_mut().find(|s| s.metadata.clone().unwrap().name == "web").unwrap();
    sandbox.state = 0;
    let uid = sandbox.metadata.clone().unwrap().uid;
    node.process(4000, 50, &format!("/kubepods/besteffort/pod{uid}/{}", sandbox.id), 4_026_531_840);
    node.link("net:[4026531840]", "proc/1/ns/net");
    let _server = serve::<false>(&node, DOCKER, answers);
    let answer = node.json(&["pods"]);
    let web = answer.pod("web");
    assert_eq!((&web["pid"], &web["host_network"]), (&json!(4000), &json!(true)));
}

#[test]
fn docker_on_disk_names_pods_that_cri_dockerd_no_longer_tells() {
    let node = Node::recorded("cri-dockerd");
    dead(&node, DOCKER);
    let answer = node.json(&["pods", "--all"]);
    assert_eq!(answer.json["degraded"]["reason"], "runtime_dead");
    let web = answer.pod("web");
    assert_eq!((&web["state"], &web["namespace"]), (&json!("not_ready"), &json!("shop")));
    let app = &web["containers"][0];
    assert_eq!(
        (&app["name"], &app["state"], &app["exit_code"]),
        (&json!("app"), &json!("exited"), &json!(128))
    );
}

#[test]
fn k3s_keeps_its_files_under_a_prefix_of_its_own() {
    let node = Node::recorded("containerd-1.6");
    let from = node.root().join("run/containerd");
    std::fs::create_dir_all(node.root().join("run/k3s")).unwrap();
    std::fs::rename(from, node.root().join("run/k3s/containerd")).unwrap();
    std::fs::create_dir_all(node.root().join("var/lib/rancher/k3s/agent")).unwrap();
    let lib = node.root().join("var/lib/rancher/k3s/agent/containerd");
    std::fs::rename(node.root().join("var/lib/containerd"), lib).unwrap();
    node.remove("etc/crictl.yaml");
    dead(&node, "/run/k3s/containerd/containerd.sock");
    let answer = node.json(&["pods"]);
    assert_eq!(answer.json["endpoint"], "unix:///run/k3s/containerd/containerd.sock");
    assert_eq!(answer.json["degraded"]["reason"], "runtime_dead");
    assert_eq!(answer.pod("web-6f5d-k5")["containers"][0]["pid"], 919);
    assert_eq!(answer.pods().len(), 5, "{:?}", answer.names());
}

#[test]
fn a_state_folder_that_nobody_knows_is_found_through_the_shims() {
    let node = Node::recorded("containerd-1.6");
    std::fs::create_dir_all(node.root().join("opt")).unwrap();
    std::fs::rename(node.root().join("run/containerd"), node.root().join("opt/state")).unwrap();
    node.process(500, 40, "/system.slice/containerd.service", 4_026_531_840);
    node.put("proc/500/comm", "containerd-shim\n");
    let bundle = "/opt/state/io.containerd.runtime.v2.task/k8s.io/2def6d876e40002e9ea4e5b4ca5bbc2afcd83da3bf6ae93f2da0e1c7a35e3313";
    node.link(bundle, "proc/500/cwd");
    let answer = node.json(&["pods"]);
    assert_eq!(answer.pod("web-6f5d-k5")["pid"], 559);
}

#[test]
fn a_dead_pause_process_leaves_a_pod_that_is_reached_through_its_application() {
    let node = Node::recorded("containerd-1.6");
    let mut answers = Answers::recorded(&node);
    let sandbox = answers.sandboxes.iter_mut().find(|s| s.id.starts_with("2def6d876e40")).unwrap();
    sandbox.state = 1;
    node.remove("proc/559");
    let server = serve::<false>(&node, CONTAINERD, answers);
    let check = |answer: &Answer| {
        let web = answer.pod("web-6f5d-k5");
        assert_eq!((&web["state"], &web["pid"]), (&json!("not_ready"), &json!(919)), "{web:#}");
        assert_eq!(web["containers"][0]["state"], "running");
        assert_eq!(web["ips"], json!(["10.244.5.3"]), "it stays reserved");
    };
    check(&node.json(&["pods"]));
    drop(server);
    node.remove("run/containerd/containerd.sock");
    dead(&node, CONTAINERD);
    check(&node.json(&["pods"]));
}

#[test]
fn what_a_runtime_tells_of_addresses_is_taken_and_nothing_is_looked_for_without_it() {
    let node = Node::recorded("containerd-2");
    let timeout = std::time::Duration::from_secs(2);
    let options = Options { host_root: node.root().to_owned(), endpoint: None, timeout };
    assert!(!list(&options).unwrap().pods.is_empty(), "the disk knows pods");
    assert!(list_told(&options).is_empty(), "the runtime is not there");
    let _server = serve_recorded(&node, CONTAINERD);
    let addressed = |pods: Vec<Pod>| -> Vec<_> {
        let live = pods.into_iter().filter(|p| is_live(p) && !p.ips.is_empty());
        live.map(|p| (p.full_name(), p.ips, p.host_network)).collect()
    };
    // The recorded runtime was asked about one pod; of the others the disk knows.
    let (told, all) = (addressed(list_told(&options)), addressed(list(&options).unwrap().pods));
    let web = ("shop/web-6f5d-k6".to_owned(), vec!["10.244.6.3".parse().unwrap()], Some(false));
    assert_eq!(told, [web]);
    assert!(all.len() > 1 && all.contains(&told[0]), "{all:?}");
}

#[test]
fn a_runtime_says_who_it_is_and_its_cgroup_driver_where_it_knows_the_question() {
    for (driver, said) in [
        (None, None),
        (Some(0), Some(CgroupDriver::Systemd)),
        (Some(1), Some(CgroupDriver::Cgroupfs)),
        (Some(7), None),
    ] {
        let node = Node::recorded("containerd-2");
        let answers = Answers { cgroup_driver: driver, ..Answers::recorded(&node) };
        let _server = serve::<false>(&node, CONTAINERD, answers);
        let timeout = std::time::Duration::from_secs(10);
        let options = Options { host_root: node.root().to_owned(), endpoint: None, timeout };
        let times = time_runtime(&options).unwrap();
        let word = times.word.unwrap();
        assert_eq!((word.name.as_str(), word.version.as_str(), word.driver), ("recorded", "1", said));
        assert_eq!(times.calls.len(), 2);
        assert_eq!(times.degraded, None);
        // Who listens is this process, in a /proc that numbers its processes differently.
        assert_eq!(resolve_all(&options, |_| ()).unwrap().runtime_pid, None);
    }
}

#[test]
fn namespaces_are_found_by_sandboxes_and_containers_are_listed_only_where_they_decide() {
    let node = Node::recorded("containerd-1.6");
    let timeout = std::time::Duration::from_secs(10);
    let options = Options { host_root: node.root().to_owned(), endpoint: None, timeout };
    // What is found, and how often containers were listed for it.
    let found = |answers: Answers| {
        let server = serve::<false>(&node, CONTAINERD, answers);
        let pods = list(&options).unwrap().pods;
        server.answers.calls.lock().unwrap().clear();
        let all = resolve_all(&options, |_| ()).unwrap();
        let names: Vec<String> = all.sources.into_iter().map(|(name, _)| name).collect();
        let mut live: Vec<String> = pods.iter().filter(|pod| is_live(pod)).map(Pod::full_name).collect();
        live.sort();
        assert_eq!(names, live, "the same as the list has");
        let calls = server.answers.calls.lock().unwrap().clone();
        std::fs::remove_file(node.root().join(CONTAINERD.trim_start_matches('/'))).unwrap();
        (names, calls.iter().filter(|call| *call == "ListContainers").count())
    };
    let (all, times) = found(Answers::recorded(&node));
    assert_eq!(times, 1, "one pod has ended");
    let none = found(Answers { sandboxes: Vec::new(), ..Answers::recorded(&node) });
    assert_eq!(none, (Vec::new(), 0), "nothing is left that containers would decide");
    // A sandbox may have ended while a container of it runs on.
    let mut answers = Answers::recorded(&node);
    answers.sandboxes.iter_mut().for_each(|sandbox| sandbox.state = 1);
    let (names, times) = found(answers);
    assert!(!names.is_empty() && names.iter().all(|name| all.contains(name)), "{names:?}");
    assert_eq!(times, 1);
}

/// What the runtime does not say of containers is read from disk, as if it had said nothing at all.
#[test]
fn pods_whose_sandbox_has_ended_are_not_lost_with_the_list_of_containers() {
    let node = Node::recorded("containerd-1.6");
    let timeout = std::time::Duration::from_secs(10);
    let options = Options { host_root: node.root().to_owned(), endpoint: None, timeout };
    let names = |answers: Option<Answers>| {
        let _server = answers.map(|answers| serve::<false>(&node, CONTAINERD, answers));
        let all = resolve_all(&options, |_| ()).unwrap();
        let _ = std::fs::remove_file(node.root().join(CONTAINERD.trim_start_matches('/')));
        (all.sources.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), all.degraded.is_some())
    };
    let (from_disk, _) = names(None);
    assert!(!from_disk.is_empty());
    let mut answers = Answers { refuses_containers: true, ..Answers::recorded(&node) };
    answers.sandboxes.iter_mut().for_each(|sandbox| sandbox.state = 1);
    assert_eq!(names(Some(answers)), (from_disk, true));
}
