//! The scenarios of `tests/paths/` on real namespaces: the kernel must agree with the virtual path.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails loudly and may say what it left out; clippy sees only #[test] functions as tests"
)]

mod support;
use support::namespace_path::{NamespacePath, measure, not_for_namespaces, scenario};
use support::virtual_path::{Scenario, scenarios};
use support::{nsprobe, stderr, stdout};

/// What is wrong with one scenario on real namespaces; `None`: it cannot be built.
fn play(name: &str, scenario: &Scenario) -> Option<Vec<String>> {
    if let Some(why) = not_for_namespaces(scenario) {
        println!("{name}: not here: {why}");
        return None;
    }
    let mut wrong = Vec::new();
    let document = measure(&NamespacePath::build(scenario));
    let expect = &scenario.expect;
    let seen = (document["verdict"].as_str(), document["path_mtu_bytes"].as_u64());
    if seen != (Some(expect.verdict.as_str()), expect.path_mtu.map(u64::from)) {
        wrong.push(format!(
            "{name}: {seen:?}, expected {} {:?}\n{document:#}",
            expect.verdict, expect.path_mtu
        ));
    }
    let ttl = document["narrowing"]["ttl"].as_u64();
    if expect.narrowing_ttl.is_some() && ttl != expect.narrowing_ttl.map(u64::from) {
        wrong.push(format!("{name}: narrows at {ttl:?}, expected {:?}\n{document:#}", expect.narrowing_ttl));
    }
    let reporter = document["narrowing"]["reporter"].as_str().and_then(|text| text.parse().ok());
    if expect.reporter.is_some() && reporter != expect.reporter {
        wrong.push(format!("{name}: {reporter:?} says so, expected {:?}\n{document:#}", expect.reporter));
    }
    let reported = document["narrowing"]["reported_mtu_bytes"].as_u64();
    if expect.reported.is_some() && reported != expect.reported.map(u64::from) {
        wrong.push(format!("{name}: {reported:?} is named, expected {:?}\n{document:#}", expect.reported));
    }
    let signalled = document["signalled"].as_bool();
    if expect.signalled.is_some() && signalled != expect.signalled {
        wrong.push(format!("{name}: signalled {signalled:?}, expected {:?}\n{document:#}", expect.signalled));
    }
    Some(wrong)
}

#[test]
fn the_kernel_agrees_with_every_scenario_that_it_can_build() {
    let scenarios = scenarios();
    // Building namespaces is mostly waiting for the kernel: four at a time.
    let share = scenarios.len().div_ceil(4);
    let played: Vec<Vec<String>> = std::thread::scope(|scope| {
        let run = |some: &'_ [(String, Scenario)]| -> Vec<_> {
            some.iter().filter_map(|(name, scenario)| play(name, scenario)).collect()
        };
        let threads: Vec<_> = scenarios.chunks(share).map(|some| scope.spawn(move || run(some))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let wrong: Vec<_> = played.iter().flatten().map(String::as_str).collect();
    let least = if std::env::var("NSPROBE_TEST_VM").as_deref() == Ok("needs") { 6 } else { 65 };
    println!("{} scenarios on real namespaces", played.len());
    assert!(played.len() >= least, "only {} scenarios could be built", played.len());
    assert!(wrong.is_empty(), "{} of {} wrong\n{}", wrong.len(), played.len(), wrong.join("\n"));
}

#[test]
fn a_lie_is_told_once_and_so_is_the_mss_that_a_route_advertises() {
    let path = NamespacePath::build(&scenario(
        r#"about = "too small a value"
           interface_mtu = 1500
           hop = [{ mtu = 1450, ptb = { names = 1300 } }]
           expect = { verdict = "narrowed", path_mtu = 1450 }"#,
    ));
    path.source_namespace().ip("route change 10.99.1.0/24 via 10.99.0.2 advmss 1234");
    for words in [&[][..], &["--no-locate"]] {
        let output = nsprobe()
            .args(["mtu", &path.source(), &path.target(), "-o", "json"])
            .args(words)
            .output()
            .unwrap();
        let document = support::schema::valid(&output.stdout);
        assert_eq!(
            (&document["path_mtu_bytes"], &document["signalled"]),
            (&1450.into(), &false.into()),
            "{document:#}"
        );
        let findings = document["findings"].as_array().unwrap();
        let told: Vec<_> = findings.iter().filter(|f| f["id"] == "mtu.ptb_understates").collect();
        assert_eq!(told.len(), 1, "{document:#}");
        assert!(told[0]["summary"].as_str().unwrap().ends_with("1450 bytes arrive"), "{document:#}");
        let seen = findings[0]["evidence"].as_array().unwrap();
        assert!(seen.iter().any(|e| e["value"] == 1234), "{document:#}");
    }
}

#[test]
fn the_path_mtu_cache_of_ipv4_is_left_as_it_was() {
    let path = NamespacePath::build(&scenario(
        r#"about = "narrow"
           interface_mtu = 1500
           hop = [{ mtu = 1400 }]
           expect = { verdict = "narrowed", path_mtu = 1400 }"#,
    ));
    assert_eq!(measure(&path)["path_mtu_bytes"], 1400);
    let route = path.source_namespace().ip(&format!("route get {}", path.target()));
    assert!(!route.contains("mtu"), "{route}");
}

#[test]
fn the_path_mtu_cache_of_ipv6_is_left_as_it_was() {
    for hops in
        ["{ mtu = 1400 }", "{ mtu = 1400 }, { mtu = 1300 }", "{ mtu = 1400 }, { mtu = 1280, ptb = 'silent' }"]
    {
        let path = NamespacePath::build(&scenario(&format!(
            "about = 'narrow'\nfamily = 6\ninterface_mtu = 1500\nhop = [{hops}]\n\
             expect = {{ verdict = 'narrowed', path_mtu = 1400 }}"
        )));
        let document = measure(&path);
        let route = path.source_namespace().ip(&format!("-6 route get {}", path.target()));
        assert!(!route.contains("mtu"), "{hops}: {route}\n{document:#}");
        assert_ne!(document["verdict"], "inconclusive", "{hops}: {document:#}");
    }
}

#[test]
fn a_poisoned_cache_does_not_answer_for_the_network_and_is_named() {
    let path = NamespacePath::build(&scenario(
        r#"about = "narrow"
           interface_mtu = 1500
           hop = [{ mtu = 1400 }]
           expect = { verdict = "narrowed", path_mtu = 1400 }"#,
    ));
    // ping fills the cache with 1400; then the link grows again.
    let namespace = path.source_namespace();
    let ping =
        ["netns", "exec", namespace.name(), "ping", "-c1", "-W1", "-M", "do", "-s", "1472", &path.target()];
    let _ = std::process::Command::new("ip").args(ping).output().unwrap();
    assert!(namespace.ip(&format!("route get {}", path.target())).contains("mtu 1400"));
    path.widen(1500);
    let document = measure(&path);
    assert_eq!(document["verdict"], "clear", "{document:#}");
    assert_eq!(document["findings"][0]["id"], "mtu.cache_stale");
    assert!(
        document["findings"][0]["fix"].as_str().unwrap().starts_with("ip route flush cache "),
        "{document:#}"
    );
    assert!(
        namespace.ip(&format!("route get {}", path.target())).contains("mtu 1400"),
        "the cache was changed"
    );
}

#[test]
fn ctrl_c_in_the_middle_prints_what_is_known_and_exits_130() {
    let path = NamespacePath::build(&scenario(
        r#"about = "nobody answers"
           interface_mtu = 1500
           target = { echo = false, unknown_protocol = false, no_port = false }
           expect = { verdict = "unreachable" }"#,
    ));
    let child = nsprobe()
        .args(["mtu", &path.source(), &path.target(), "-o", "json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(400));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::SIGINT)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["verdict"], "inconclusive");
}

#[test]
fn bad_targets_and_sizes_are_told_apart() {
    let path = NamespacePath::build(&scenario(
        r#"about = "clear"
           interface_mtu = 1500
           expect = { verdict = "clear", path_mtu = 1500 }"#,
    ));
    let say = |arguments: &[&str]| {
        let output = nsprobe().arg("mtu").arg(path.source()).args(arguments).output().unwrap();
        (output.status.code(), stderr(&output))
    };
    let (code, text) = say(&["2001:db8::1"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("no route to 2001:db8::1"), "{text}");
    let (code, text) = say(&[&path.target(), "--max", "9000"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("1500"), "{text}");
    let (code, text) = say(&[&path.target(), "--min", "1400", "--max", "1000"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--min 1400 leaves no size to try: it is over --max, 1000 bytes"), "{text}");
    let (code, _) = say(&[&path.target(), "--max", "1400", "-q"]);
    assert_eq!(code, Some(0));
}

#[test]
fn a_next_hop_that_is_gone_is_named() {
    let path = NamespacePath::build(&scenario(
        r#"about = "clear"
           interface_mtu = 1500
           hop = [{ mtu = 1500 }]
           expect = { verdict = "clear", path_mtu = 1500 }"#,
    ));
    // The router's end answers no ARP any more.
    path.router(1).ip("link set left arp off");
    path.source_namespace().ip("neigh flush all");
    let document = measure(&path);
    assert_eq!(document["verdict"], "unreachable", "{document:#}");
    assert_eq!(document["findings"][0]["id"], "mtu.next_hop_silent", "{document:#}");
}

#[test]
fn behind_the_last_hop_that_answers_nothing_is_made_up() {
    let path = NamespacePath::build(&scenario(
        r#"about = "the target says nothing of anything"
           interface_mtu = 1500
           hop = [{ mtu = 1500 }, { mtu = 1450 }]
           target = { echo = false, unknown_protocol = false, no_port = false }
           expect = { verdict = "narrowed", path_mtu = 1450 }"#,
    ));
    let output = nsprobe().args(["mtu", &path.source(), &path.target()]).output().unwrap();
    // Lines are broken between hops.
    let text = support::stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(&format!("─► … ─► {} ICMP", path.target())) && !text.contains('*'), "{text}");
}

#[test]
fn a_neighbour_of_that_address_on_another_link_is_not_the_next_hop() {
    let path = NamespacePath::build(&scenario(
        r#"about = "nobody answers"
           interface_mtu = 1500
           hop = [{ mtu = 1500 }]
           target = { echo = false, unknown_protocol = false, no_port = false }
           expect = { verdict = "unreachable" }"#,
    ));
    let source = path.source_namespace();
    source.ip("link add other type veth peer name other-end");
    source.ip("link set other up");
    source.ip("neigh add 10.99.0.2 dev other lladdr 02:00:00:00:00:09 nud failed");
    let document = measure(&path);
    assert_eq!(document["verdict"], "unreachable", "{document:#}");
    let ids: Vec<_> = document["findings"].as_array().unwrap().iter().map(|f| &f["id"]).collect();
    assert!(!ids.iter().any(|id| *id == "mtu.next_hop_silent"), "{document:#}");
}

#[test]
fn a_broadcast_address_is_refused_before_anything_is_sent() {
    let path = NamespacePath::build(&scenario(
        r#"about = "clear"
           interface_mtu = 1500
           expect = { verdict = "clear", path_mtu = 1500 }"#,
    ));
    path.source_namespace().ip("link add wide type bridge");
    path.source_namespace().ip("addr add 10.77.0.1/24 brd + dev wide");
    path.source_namespace().ip("link set wide up");
    let output = nsprobe().args(["mtu", &path.source(), "10.77.0.255", "-o", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let document = support::schema::valid(&output.stdout);
    assert_eq!(document["message"], "10.77.0.255 is not the address of one host");
}

#[test]
fn a_size_that_was_not_asked_for_is_not_claimed() {
    let path = NamespacePath::build(&scenario(
        r#"about = "narrow"
           interface_mtu = 1500
           hop = [{ mtu = 1450 }]
           expect = { verdict = "narrowed", path_mtu = 1450 }"#,
    ));
    let run = |format: &str| {
        let output =
            nsprobe().args(["mtu", &path.source(), &path.target(), "--max", "1400", "-o", format]).output();
        output.unwrap()
    };
    let output = run("json");
    // A script that asks whether 1400 bytes pass gets a clean yes.
    assert_eq!(output.status.code(), Some(0));
    let document = support::schema::valid(&output.stdout);
    assert_eq!(
        (&document["verdict"], &document["path_mtu_bytes"]),
        (&"clear".into(), &serde_json::Value::Null)
    );
    assert_eq!(document["findings"][0]["id"], "mtu.not_asked", "{document:#}");
    assert_eq!(document["bounds"]["passes_bytes"], 1400);
    let text = stdout(&run("human"));
    assert!(text.contains("packets of 1400 bytes arrive; larger ones were not tried"), "{text}");
    // The loopback's MTU is a byte larger than any packet: all that can be asked for was.
    let output = nsprobe().args(["mtu", &path.source(), "127.0.0.1", "-o", "json"]).output().unwrap();
    assert_eq!(support::schema::valid(&output.stdout)["path_mtu_bytes"], 65_535);
}

/// Packets over 1400 bytes vanish.
fn black_hole() -> NamespacePath {
    NamespacePath::build(&scenario(
        r#"about = "black hole"
           interface_mtu = 1500
           hop = [{ mtu = 1400, ptb = "silent" }]
           expect = { verdict = "black_hole", path_mtu = 1400 }"#,
    ))
}

#[test]
fn a_burst_that_would_take_long_is_not_sent_and_blames_no_counter() {
    let path = black_hole();
    let begin = std::time::Instant::now();
    let words = ["--rate", "5", "--no-locate", "-o", "json"];
    let output = nsprobe().args(["mtu", &path.source(), &path.target()]).args(words).output().unwrap();
    let document = support::schema::valid(&output.stdout);
    // Seven packets would take 1.4 s more than the search.
    let more = begin.elapsed().as_secs_f64() * 1000.0 - document["elapsed_ms"].as_f64().unwrap();
    assert!(more < 700.0, "{more} ms\n{document:#}");
    assert_eq!(document["path_mtu_bytes"], 1400, "{document:#}");
    let ids: Vec<_> = document["findings"].as_array().unwrap().iter().map(|f| &f["id"]).collect();
    assert!(!ids.iter().any(|id| *id == "mtu.left_node" || *id == "mtu.dropped_on_node"), "{document:#}");
}

#[test]
fn what_min_and_max_leave_out_is_not_spoken_of() {
    let path = black_hole();
    let say = |words: &[&str]| {
        let output = nsprobe().args(["mtu", &path.source(), &path.target()]).args(words).output().unwrap();
        stdout(&output)
    };
    let text = say(&["--min", "1450"]);
    assert!(text.contains("nothing came back, of 1450 bytes or more"), "{text}");
    path.widen(1500);
    path.source_namespace().ip("route change 10.99.1.0/24 via 10.99.0.2 mtu 1400");
    let text = say(&["--max", "1500"]);
    assert!(text.contains("packets of 1500 bytes arrive, more than the route's 1400"), "{text}");
}

#[test]
fn a_size_over_the_interface_is_told_in_json_too() {
    let path = NamespacePath::build(&scenario(
        r#"about = "clear"
           interface_mtu = 1500
           expect = { verdict = "clear", path_mtu = 1500 }"#,
    ));
    let output =
        nsprobe().args(["mtu", &path.source(), &path.target(), "--max", "9000", "-o", "json"]).output();
    let document = support::schema::valid(&output.unwrap().stdout);
    assert_eq!(document["code"], 2);
    assert!(document["message"].as_str().unwrap().contains("--max 9000"), "{document}");
}

#[test]
fn a_filter_on_output_is_not_taken_for_silence() {
    let path = NamespacePath::build(&scenario(
        r#"about = "clear"
           interface_mtu = 1500
           expect = { verdict = "clear", path_mtu = 1500 }"#,
    ));
    let rules = "add table inet t; add chain inet t o { type filter hook output priority 0; }; \
        add rule inet t o icmp type echo-request drop";
    path.source_namespace().nft(rules);
    let document = measure(&path);
    assert_eq!((&document["verdict"], &document["probes"]["sent"]), (&"unreachable".into(), &0.into()));
    let said = document["findings"][0]["summary"].as_str().unwrap();
    assert!(said.contains("the kernel refuses to send"), "{document:#}");
}
