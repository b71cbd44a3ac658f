//! `nsprobe cluster` against a server that answers what a real API server answered.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

#[cfg(feature = "cluster")]
mod api_support;
mod pods_support;
mod support;

#[cfg(not(feature = "cluster"))]
#[test]
fn a_build_without_the_client_says_so_in_one_line() {
    let output = pods_support::Node::empty().run(&["cluster"]);
    assert_eq!(output.status.code(), Some(5));
    let said = support::stderr(&output);
    assert!(said.starts_with("nsprobe: this build of nsprobe has no client for the API server"), "{said}");
}

#[cfg(feature = "cluster")]
mod with_the_client {
    use super::api_support::ask::{ask, document, failure, ids, names, node, run};
    use super::api_support::{Api, Reply, edited, empty, kubeconfig, many, ok, recorded, shop};
    use super::pods_support::Node;
    use super::pods_support::cri::serve_recorded;
    use super::support;
    use serde_json::{Value, json};
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::process::Stdio;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    #[test]
    fn waiting_pods_broken_nodes_and_restarts_of_a_recorded_cluster() {
        let api = Api::serve(|path, _| shop(path));
        let node = node(&api, "admin.conf");
        let (code, document) = ask(&node, &[]);
        assert_eq!(code, 1);
        assert_eq!(
            ids(&document),
            [
                "cluster.node_not_ready",
                "cluster.node_not_ready",
                "cluster.unscheduled",
                "cluster.unscheduled",
                "cluster.restarts",
                // No runtime is here whose addresses could be compared.
                "cluster.not_looked_at"
            ]
        );
        let waits = &document["unscheduled"][1];
        assert_eq!((&waits["pod"], &waits["since"]), (&json!("shop/toobig"), &json!("2026-11-23T17:02:25Z")));
        assert!(waits["reason"].as_str().unwrap().contains("3 Insufficient cpu, 3 Insufficient memory"));
        let pods = document["pods"].as_array().unwrap();
        assert_eq!(pods.len(), 26);
        let stock = json!({"pod": "shop/stock", "ips": ["10.244.2.13"], "node": "k2", "restarts": 4, "ready": false, "mtus": []});
        assert!(pods.contains(&stock));
        let never = json!({"pod": "shop/nevernode", "ips": [], "node": null, "restarts": null, "ready": null, "mtus": []});
        assert!(pods.contains(&never));
        // Of 13 restarts at most, none is over 13.
        let (_, calm) = ask(&node, &["--restarts", "13"]);
        assert!(!ids(&calm).contains(&"cluster.restarts"));
        assert_eq!(api.asked()[..2], ["/api/v1/pods?limit=500", "/api/v1/nodes?limit=500"]);

        let file = node.root().join("admin.conf");
        let text = support::stdout(&run(&node, &["cluster", "--kubeconfig", file.to_str().unwrap()]));
        assert!(text.starts_with("2 critical, 3 warnings: 26 pods, 5 nodes (http://127.0.0.1:"), "{text}");
        assert!(text.contains("critical: node k2 is not ready, with 2 pods on it"), "{text}");
        assert!(text.contains("\nshop/live         k1    10.244.1.12  no     13\n"), "{text}");
    }

    #[test]
    fn a_list_is_read_page_by_page_and_begun_again_when_the_server_has_forgotten_it() {
        let pages = |path: &str, _: usize| {
            match path {
            "/api/v1/pods?limit=500" => ok("pods-all-page1.json"),
            // The token of the first page names where the second starts.
            _ if path.starts_with("/api/v1/pods?limit=500&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MjYxOCwic3RhcnQiOiIvZGVmYXVsdC93ZWItazZ") => {
                ok("pods-all-page2.json")
            }
            _ if path.starts_with("/api/v1/pods?") => ok("pods-all-page8.json"),
            _ => empty(),
        }
        };
        let whole = Api::serve(pages);
        let (_, document) = ask(&node(&whole, "admin.conf"), &[]);
        let all = names(&document);
        assert_eq!((all.len(), whole.asked().len()), (12, 4), "{all:?} {:?}", whole.asked());

        let forgets = Api::serve(move |path, before| match before {
            2 => Reply::Json(410, recorded("gone-410-old-resourceversion.json")),
            _ => pages(path, before),
        });
        let (_, again) = ask(&node(&forgets, "admin.conf"), &[]);
        assert_eq!(names(&again), all, "nothing twice and nothing missing");
        assert_eq!(forgets.asked()[3], "/api/v1/pods?limit=500");
    }

    #[test]
    fn a_list_that_breaks_off_is_shown_as_what_it_is() {
        let api = Api::serve(|path, before| match before {
            0 => ok("pods-all-page1.json"),
            1 => Reply::Json(504, recorded("timeout-504-etcd-stopped.json")),
            _ => shop(path),
        });
        let (_, document) = ask(&node(&api, "admin.conf"), &[]);
        assert_eq!(names(&document).len(), 5);
        let told = document["findings"].as_array().unwrap();
        let missing = told.iter().find(|f| f["summary"] == "pods after the first 5: not looked at").unwrap();
        assert!(
            missing["evidence"][0]["value"]
                .as_str()
                .unwrap()
                .contains("504: Timeout: request did not complete")
        );
    }

    #[test]
    fn a_busy_server_is_asked_again_when_it_says_and_not_past_the_deadline() {
        let api = Api::serve(|path, before| if before == 0 { Reply::Busy("1") } else { shop(path) });
        let start = Instant::now();
        let (_, document) = ask(&node(&api, "admin.conf"), &[]);
        assert!(start.elapsed() >= Duration::from_secs(1), "retry-after was one second");
        assert_eq!((names(&document).len(), api.asked().len()), (26, 3));

        let (code, said) = failure(|_, _| Reply::Busy("1"));
        assert_eq!(code, 5);
        assert!(said.contains("is too busy: 429: Too many requests, please try again later."), "{said}");
    }

    #[test]
    fn refusals_have_the_servers_words_and_the_code_of_a_missing_privilege() {
        let (code, said) = failure(|_, _| Reply::Json(403, recorded("forbidden-403-anonymous.json")));
        assert_eq!(code, 4);
        assert!(said.contains("User \"system:anonymous\" cannot list resource"), "{said}");
        let (code, said) = failure(|_, _| Reply::Json(401, recorded("unauthorized-401-expired-cert.json")));
        assert_eq!(code, 4);
        assert!(said.contains("401: Unauthorized"), "{said}");
    }

    #[test]
    fn what_is_no_answer_stops_the_command_with_a_reason() {
        let list = || recorded("pods-all-page1.json");
        for (reply, words) in [
            (0, "did not answer within 2000 ms"),
            (1, "no answer of Kubernetes"),
            (2, "broke off in its answer"),
            (3, "504: Timeout"),
            (4, "something that is no list"),
            (5, "500"),
        ] {
            let (code, said) = failure(move |_, _| match reply {
                0 => Reply::Hang,
                1 => Reply::Json(200, b"<html>login</html>".to_vec()),
                2 => Reply::Cut(list()),
                3 => Reply::Json(504, recorded("timeout-504-etcd-stopped.json")),
                4 => Reply::Json(200, b"{}".to_vec()),
                _ => Reply::Json(500, Vec::new()),
            });
            assert_eq!(code, 5, "{said}");
            assert!(said.contains(words), "{words}: {said}");
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let node = Node::empty();
        node.put("admin.conf", &kubeconfig(free));
        let (code, error) = ask(&node, &[]);
        assert_eq!(code, 5);
        assert!(error["message"].as_str().unwrap().contains("refused"), "{error}");
    }

    #[test]
    fn without_or_with_unusable_credentials_nothing_is_asked() {
        let (code, error) = document(&run(&Node::empty(), &["-o", "json", "cluster"]));
        assert_eq!(code, 4);
        assert!(
            error["message"].as_str().unwrap().starts_with("no credentials for the API server"),
            "{error}"
        );
        for text in ["", "clusters: [", "a: b\n", "\u{0}"] {
            let node = Node::empty();
            node.put("admin.conf", text);
            assert_eq!(ask(&node, &[]).0, 5, "{text:?}");
        }
    }

    #[test]
    fn the_kubelets_credentials_show_its_own_node_and_say_so() {
        let api = Api::serve(|path, _| match path {
            "/api/v1/pods?limit=500" => Reply::Json(403, recorded("forbidden-403-node-lists-all-pods.json")),
            "/api/v1/pods?limit=500&fieldSelector=spec.nodeName%3Dk2" => ok("node-lists-own-pods.json"),
            "/api/v1/nodes/k2" => {
                let nodes: Value = serde_json::from_slice(&recorded("nodes.json")).unwrap();
                Reply::Json(200, nodes["items"][1].to_string().into())
            }
            _ if path.starts_with("/api/v1/nodes") => {
                Reply::Json(403, recorded("forbidden-403-node-lists-nodes.json"))
            }
            _ => empty(),
        });
        for file in ["var/lib/kubelet/kubeconfig", "etc/kubernetes/kubelet.conf"] {
            let output = run(&node(&api, file), &["-o", "json", "cluster"]);
            let (_, document) = document(&output);
            assert_eq!(names(&document), ["default/web-k2"]);
            assert_eq!(ids(&document)[0], "cluster.node_not_ready");
            assert_eq!(ids(&document)[1..], ["cluster.not_looked_at"; 3]);
            let text = document["findings"].to_string();
            assert!(text.contains("credentials of node k2, which may list its own pods alone"), "{text}");
        }
        assert!(!api.asked().iter().any(|path| path.starts_with("/api/v1/events")), "{:?}", api.asked());
    }

    #[test]
    fn a_pod_on_which_the_condition_is_silent_is_looked_up_in_events() {
        let api = Api::serve(|path, _| {
            if path.starts_with("/api/v1/events?limit=500&fieldSelector=reason%3DFailedScheduling") {
                return ok("events-shop-warning.json.gz");
            }
            let Reply::Json(code, body) = shop(path) else { panic!("no list") };
            let mut list: Value = serde_json::from_slice(&body).unwrap();
            for pod in list["items"].as_array_mut().unwrap() {
                if pod["spec"]["nodeName"].is_null() && path.starts_with("/api/v1/pods") {
                    pod["status"]["conditions"] = json!([]);
                }
            }
            Reply::Json(code, list.to_string().into())
        });
        let (_, document) = ask(&node(&api, "admin.conf"), &[]);
        let reasons = document["unscheduled"].as_array().unwrap();
        assert!(
            reasons.iter().any(|r| r["reason"].as_str().is_some_and(|r| r.contains("nodes are available"))),
            "{reasons:?}"
        );
    }

    /// Pods besides those that were recorded.
    fn with_pods(path: &str, more: &Value) -> Reply {
        let recorded = shop(path);
        if !path.starts_with("/api/v1/pods?") {
            return recorded;
        }
        edited(recorded, |pods| pods.extend(more.as_array().unwrap().iter().cloned()))
    }

    #[test]
    fn restarts_of_init_containers_and_sidecars_are_told() {
        let init = json!([{"metadata": {"name": "init-loops", "namespace": "shop", "uid": "u1"}, "spec": {"nodeName": "k1"},
            "status": {"phase": "Pending", "initContainerStatuses": [{"name": "wait", "restartCount": 214}],
                "containerStatuses": [{"name": "app", "restartCount": 0}]}}]);
        let api = Api::serve(move |path, _| with_pods(path, &init));
        let (_, document) = ask(&node(&api, "admin.conf"), &[]);
        let pods = document["pods"].as_array().unwrap();
        let pod = pods.iter().find(|p| p["pod"] == "shop/init-loops").unwrap();
        assert_eq!(pod["restarts"], 214);
        let text = document["findings"].to_string();
        assert!(text.contains("shop/init-loops most often: 214"), "{text}");
    }

    #[test]
    fn a_pod_of_a_moment_ago_waits_for_its_scheduler_and_a_gated_one_for_its_controller() {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs().try_into().unwrap();
        let at = nsprobe::facts::rfc3339;
        let gate = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates", "lastTransitionTime": at(now)}]);
        let pods = json!([
            {"metadata": {"name": "young", "namespace": "shop", "uid": "u1", "creationTimestamp": at(now)}},
            {"metadata": {"name": "old", "namespace": "shop", "uid": "u2", "creationTimestamp": at(now - 31)}},
            {"metadata": {"name": "gated", "namespace": "shop", "uid": "u3", "creationTimestamp": at(now)},
                "spec": {"schedulingGates": [{"name": "example.com/quota"}]}, "status": {"conditions": gate}},
        ]);
        let api = Api::serve(move |path, _| with_pods(path, &pods));
        let (_, document) = ask(&node(&api, "admin.conf"), &[]);
        let all = document["findings"].as_array().unwrap();
        let of = |pod: &str| all.iter().find(|f| f["subject"] == pod);
        assert!(!document["findings"].to_string().contains("shop/young"), "{all:#?}");
        assert!(document["unscheduled"].to_string().contains("shop/young"), "it is listed all the same");
        let old = of("shop/old").unwrap();
        assert!(old["summary"].as_str().unwrap().contains("no word of the scheduler"), "{old:#}");
        assert_eq!(old["evidence"][0]["source"], "metadata.creationTimestamp");
        let gated = of("shop/gated").unwrap();
        let summary = "shop/gated has no node: held back by spec.schedulingGates example.com/quota";
        assert_eq!(gated["summary"], summary);
        assert!(gated["fix"].as_str().unwrap().contains("controller that set a gate"), "{gated:#}");
    }

    #[test]
    fn the_verdict_counts_what_is_not_listed() {
        let api = Api::serve(|path, _| {
            if !path.starts_with("/api/v1/nodes?") {
                return shop(path);
            }
            edited(shop(path), |nodes| {
                let down = |n: u32| json!({"metadata": {"name": format!("z{n}")}, "status": {}});
                nodes.extend((0..30).map(down));
            })
        });
        let node = node(&api, "admin.conf");
        let file = node.root().join("admin.conf");
        let text = support::stdout(&run(&node, &["cluster", "--kubeconfig", file.to_str().unwrap()]));
        assert!(text.starts_with("32 critical, 3 warnings: 26 pods, 35 nodes"), "{text}");
        assert_eq!(text.matches(" is not ready, with ").count(), 20);
        assert_eq!(text.matches("(and 12 more of cluster.node_not_ready, not listed)").count(), 1, "{text}");
    }

    #[test]
    fn a_proxy_of_the_environment_is_not_used_and_one_of_the_file_is_refused_by_name() {
        let api = Api::serve(|path, _| shop(path));
        let node = node(&api, "admin.conf");
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let asked = |proxy: &str| {
            let mut command = node.command(&["-o", "json", "cluster", "--kubeconfig"]);
            command.arg(node.root().join("admin.conf"));
            for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
                command.env(name, proxy);
            }
            document(&command.env("NO_PROXY", "127.0.0.1").output().unwrap())
        };
        for proxy in [&format!("http://127.0.0.1:{free}"), "socks5://127.0.0.1:1", "http://a:b^c@proxy:1"] {
            let (code, told) = asked(proxy);
            assert_eq!((code, names(&told).len()), (1, 26), "{proxy}");
        }
        let server = format!("server: 'http://127.0.0.1:{}'", api.port);
        let through = format!("{server}, proxy-url: 'http://me:secret@127.0.0.1:{free}'");
        node.put("admin.conf", &api.kubeconfig().replace(&server, &through));
        let (code, error) = asked("");
        assert_eq!(code, 5);
        let said = error["message"].as_str().unwrap();
        assert!(said.contains("cluster k has a proxy-url") && !said.contains("secret"), "{said}");
        assert!(error["hint"].as_str().unwrap().contains("copy the file without its proxy-url"), "{error}");
    }

    #[test]
    fn addresses_are_held_against_what_the_runtime_of_this_node_says() {
        let move_to = Arc::new(Mutex::new(None::<&str>));
        let address = move_to.clone();
        let api = Api::serve(move |path, _| {
            let Reply::Json(code, body) = shop(path) else { panic!("no list") };
            let mut list: Value = serde_json::from_slice(&body).unwrap();
            for pod in list["items"].as_array_mut().unwrap() {
                if let (true, Some(ip)) = (pod["metadata"]["name"] == "web-6f5d-k5", *address.lock().unwrap())
                {
                    pod["status"]["podIPs"] = json!([{"ip": ip}]);
                }
            }
            Reply::Json(code, list.to_string().into())
        });
        let node = Node::recorded("containerd-1.6");
        node.put("admin.conf", &api.kubeconfig());
        let _server = serve_recorded(&node, "/run/containerd/containerd.sock");
        // The two were recorded at different times: the pod had got another sandbox between them.
        let (code, differ) = ask(&node, &[]);
        let found = differ["findings"].as_array().unwrap().iter().find(|f| f["id"] == "cluster.ip_disagrees");
        let found = found.unwrap_or_else(|| panic!("{:#}", differ["findings"]));
        assert_eq!((code, &found["subject"]), (1, &json!("shop/web-6f5d-k5")));
        assert_eq!(found["summary"], "shop/web-6f5d-k5 has 10.244.5.3 here, and 10.244.5.13 in the API");
        *move_to.lock().unwrap() = Some("10.244.5.3");
        let (_, agree) = ask(&node, &[]);
        assert!(!ids(&agree).contains(&"cluster.ip_disagrees"), "{agree:#}");
    }

    #[test]
    fn a_target_on_another_node_is_asked_for_and_an_error_names_both() {
        let api =
            Api::serve(|path, _| if path.contains("/pods?") { ok("pods-shop.json.gz") } else { empty() });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), api.kubeconfig()).unwrap();
        let source = format!("pid:{}", std::process::id());
        let fails = |targets: &[&str], config: bool| {
            let mut command = support::nsprobe();
            command.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST").args(["mtu", &source]);
            if config {
                command.env("KUBECONFIG", file.path());
            }
            let output = command.args(targets).output().unwrap();
            assert_eq!(output.status.code(), Some(3));
            support::stderr(&output)
        };
        // All targets are resolved before a packet is sent: the first is known, the second is what stops it.
        let said = fails(&["pod:shop/web-6f5d-k4", "pod:shop/none"], true);
        assert!(said.contains("no pod shop/none on this node"), "{said}");
        assert!(said.contains("; nor does the API server know one that lives"), "{said}");
        assert_eq!(
            api.asked(),
            ["web-6f5d-k4", "none"].map(|name| format!(
                "/api/v1/namespaces/shop/pods?limit=500&fieldSelector=metadata.name%3D{name}"
            ))
        );
        assert!(
            fails(&["pod:hostnet-k4"], true).contains("shop/hostnet-k4 on k4 uses the node's own network")
        );
        assert!(fails(&["pod:shop/once-k4"], true).contains("know one that lives"));
        let said = fails(&["pod:shop/web-6f5d-k4"], false);
        assert!(
            said.contains("; other nodes were not asked for: no --kubeconfig and no KUBECONFIG"),
            "{said}"
        );
    }

    #[test]
    fn a_hundred_thousand_pods_take_less_than_200_mib() {
        let api = Api::serve(|path, _| many(path));
        let node = node(&api, "admin.conf");
        let file = node.root().join("admin.conf");
        for form in ["json", "human"] {
            let mut command = node.command(&["-o", form, "cluster", "--deadline", "10m", "--kubeconfig"]);
            #[expect(clippy::zombie_processes, reason = "wait4 below takes its end, and what it used")]
            let mut child = command.arg(&file).stdout(Stdio::piped()).spawn().unwrap();
            let pods = BufReader::new(child.stdout.take().unwrap())
                .lines()
                .filter(|line| line.as_ref().unwrap().contains("web-6f5d8c7b9-"))
                .count();
            let pid = i32::try_from(child.id()).unwrap();
            let mut status = 0;
            // SAFETY: rusage is plain numbers, and all zeroes are such.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: the pid is that of a child which nobody else waits for; both pointers are to locals.
            assert_eq!(unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) }, pid);
            assert_eq!((status, pods), (0, 100_000), "{form}");
            assert!(usage.ru_maxrss < 200 << 10, "{form}: {} KiB", usage.ru_maxrss);
        }
    }
}
