//! `nsprobe cluster` against servers that are slow, wrong, somebody else's or hostile: it ends, says why, and stays small.

#![cfg(feature = "cluster")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod api_support;
mod pods_support;
mod support;

use api_support::ask::{ask, document, failure, ids, names, node, run};
use api_support::{Api, Reply, empty, kubeconfig, ok, recorded, shop};
use serde_json::Value;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs with `--kubeconfig`: exit code, message and the most memory it had, KiB.
fn measured(api: &Api, deadline: &str) -> (i32, String, i64) {
    let node = node(api, "admin.conf");
    let mut command = node.command(&["-o", "json", "cluster", "--deadline", deadline, "--kubeconfig"]);
    #[expect(clippy::zombie_processes, reason = "wait4 below takes its end, and what it used")]
    let mut child = command.arg(node.root().join("admin.conf")).stdout(Stdio::piped()).spawn().unwrap();
    let said: Value = serde_json::from_reader(child.stdout.take().unwrap()).unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let mut status = 0;
    // SAFETY: rusage is plain numbers, and all zeroes are such.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pid is that of a child which nobody else waits for; both pointers are to locals.
    assert_eq!(unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) }, pid);
    (libc::WEXITSTATUS(status), said["message"].as_str().unwrap().to_owned(), usage.ru_maxrss)
}

#[test]
fn a_body_without_an_end_is_cut_off_by_size_or_by_time() {
    let flood = Api::serve(|_, _| Reply::Endless(None));
    let (code, said, kib) = measured(&flood, "60s");
    assert_eq!(code, 5);
    assert!(said.contains("sent more than 67108864 bytes at once"), "{said}");
    assert!(kib < 200 << 10, "{kib} KiB");

    let drip = Api::serve(|_, _| Reply::Endless(Some(Duration::from_millis(50))));
    let start = Instant::now();
    let (code, said, _) = measured(&drip, "1s");
    assert_eq!(code, 5);
    assert!(said.contains("did not answer within 1000 ms"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn what_speaks_no_http_or_sends_elsewhere_is_no_api_server() {
    let raw = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        failure(move |_, _| Reply::Raw(bytes.clone()))
    };
    let deep =
        [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"items\":".to_vec(), vec![b'['; 100_000]].concat();
    for (said, words) in [
        (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "cannot be asked: "),
        (raw(b""), "cannot be asked: "),
        (raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\xff\xfe\x00"), "no answer of Kubernetes"),
        (raw(&deep), "no answer of Kubernetes"),
    ] {
        assert_eq!((said.0, said.1.contains(words)), (5, true), "{}", said.1);
    }
    // A redirection is not followed: the token would go with it.
    let other = Api::serve(|path, _| shop(path));
    let head = format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{}/api/v1/pods\r\n", other.port);
    let (code, said) = raw(format!("{head}content-length: 0\r\n\r\n").as_bytes());
    assert_eq!((code, other.asked()), (5, Vec::new()));
    assert!(said.contains("answered 302 Found"), "{said}");
}

#[test]
fn a_busy_server_is_not_asked_more_than_once_a_second_whatever_it_says() {
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    for (after, most) in [("0", 3), (date, 3), ("-1", 3), ("18446744073709551615", 1)] {
        let api = Api::serve(move |_, _| Reply::Busy(after));
        let (code, said) = ask(&node(&api, "admin.conf"), &["--deadline", "2500ms"]);
        assert_eq!(code, 5, "{after}: {said}");
        assert!(said["message"].as_str().unwrap().contains("is too busy: 429"), "{after}: {said}");
        assert!((1..=most).contains(&api.asked().len()), "{after}: {}", api.asked().len());
    }
}

#[test]
fn a_list_that_gets_nowhere_ends() {
    // The server forgets the list each time: begun again three times, then told as what it is.
    let forgets = Api::serve(|path, _| match path {
        "/api/v1/pods?limit=500" => ok("pods-all-page1.json"),
        _ if path.contains("continue=") => Reply::Json(410, recorded("gone-410-old-resourceversion.json")),
        _ => shop(path),
    });
    let (_, told) = ask(&node(&forgets, "admin.conf"), &[]);
    assert_eq!(names(&told).len(), 5);
    let text = told["findings"].to_string();
    assert!(text.contains("pods after the first 5: not looked at"), "{told:#}");
    assert!(text.contains("the API server answered 410: "), "{told:#}");
    let pages = forgets.asked().iter().filter(|path| path.starts_with("/api/v1/pods")).count();
    assert_eq!(pages, 8, "four times two pages");

    let circles = Api::serve(|path, _| match path.starts_with("/api/v1/pods") {
        true => ok("pods-all-page1.json"),
        false => shop(path),
    });
    let (_, told) = ask(&node(&circles, "admin.conf"), &[]);
    assert_eq!(names(&told).len(), 5, "none twice");
    assert!(told["findings"].to_string().contains("the same page again and again"), "{told:#}");
}

#[test]
fn pods_without_nodes_and_events_are_better_than_nothing() {
    for (reply, why, fix) in [
        (403, "the API server refused: 403: ", "Give credentials"),
        (500, "the API server answered 500", "Ask again"),
    ] {
        let api = Api::serve(move |path, _| match path {
            _ if path.starts_with("/api/v1/pods") => shop(path),
            _ if reply == 403 => Reply::Json(403, recorded("forbidden-403-node-lists-nodes.json")),
            _ => Reply::Json(500, Vec::new()),
        });
        let (code, told) = ask(&node(&api, "admin.conf"), &[]);
        assert_eq!((code, names(&told).len(), &told["nodes"]), (1, 26, &Value::Null));
        let unseen = told["findings"].as_array().unwrap().iter();
        let unseen = unseen.into_iter().find(|f| f["summary"] == "nodes: not looked at");
        let unseen = unseen.unwrap_or_else(|| panic!("{told:#}"));
        assert!(unseen["evidence"][0]["value"].as_str().unwrap().starts_with(why), "{unseen:#}");
        assert!(unseen["fix"].as_str().unwrap().starts_with(fix), "{unseen:#}");
    }
}

#[test]
fn a_kubelet_that_may_not_even_read_its_own_node_still_shows_its_pods() {
    let api = Api::serve(|path, _| match path {
        "/api/v1/pods?limit=500" => Reply::Json(403, recorded("forbidden-403-node-lists-all-pods.json")),
        "/api/v1/pods?limit=500&fieldSelector=spec.nodeName%3Dk2" => ok("node-lists-own-pods.json"),
        _ if path.starts_with("/api/v1/pods") => empty(),
        _ => Reply::Json(403, recorded("forbidden-403-node-lists-nodes.json")),
    });
    let (code, told) = document(&run(&node(&api, "etc/kubernetes/kubelet.conf"), &["-o", "json", "cluster"]));
    assert_eq!((code, names(&told)), (0, vec!["default/web-k2"]));
    assert_eq!(ids(&told), ["cluster.not_looked_at"; 4], "{told:#}");
    assert!(told["findings"].to_string().contains("node k2: not looked at"), "{told:#}");
}

/// TLS in front of the server, by socat.
struct Tls(Child, u16);

impl Tls {
    fn before(api: &Api, certificate: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("OPENSSL-LISTEN:{port},bind=127.0.0.1,cert={},verify=0,fork", pem(certificate));
        let mut child = Command::new("socat");
        let child = child.args([listen, format!("TCP:127.0.0.1:{}", api.port)]).stderr(Stdio::null()).spawn();
        let tls = Self(child.unwrap(), port);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        tls
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn pem(name: &str) -> String {
    format!("{}/tests/fixtures/api/tls/{name}.pem", env!("CARGO_MANIFEST_DIR"))
}

/// The answer over TLS: pods, or why there are none.
fn over_tls(port: u16, host: &str, ca: &str) -> Result<usize, String> {
    let node = pods_support::Node::empty();
    let server = format!("server: 'https://{host}:{port}', certificate-authority: {}", pem(ca));
    node.put("admin.conf", &kubeconfig(port).replace(&format!("server: 'http://127.0.0.1:{port}'"), &server));
    node.put("etc/hosts", "127.0.0.1 api.example api.wrong\n");
    let (code, told) = ask(&node, &["--deadline", "5s"]);
    match code {
        0 | 1 => Ok(names(&told).len()),
        5 => Err(told["message"].as_str().unwrap().to_owned()),
        code => panic!("{code}: {told:#}"),
    }
}

#[test]
fn only_a_server_whose_certificate_fits_is_told_the_token() {
    let api = Api::serve(|path, _| shop(path));
    let good = Tls::before(&api, "server");
    assert_eq!(over_tls(good.1, "127.0.0.1", "ca"), Ok(26));
    assert_eq!(over_tls(good.1, "api.example", "ca"), Ok(26), "resolved here, checked by its name");
    let asked = api.asked().len();
    let expired = Tls::before(&api, "expired");
    for (port, host, ca, words) in [
        (good.1, "127.0.0.1", "other-ca", "UnknownIssuer"),
        (good.1, "api.wrong", "ca", "not valid for name"),
        (expired.1, "127.0.0.1", "ca", "expired"),
        // TLS to a server that speaks plain HTTP.
        (api.port, "127.0.0.1", "ca", "tls handshake eof"),
    ] {
        let why = over_tls(port, host, ca).unwrap_err();
        assert!(why.contains(words), "{words}: {why}");
    }
    assert_eq!(api.asked().len(), asked, "{:?}", api.asked());
}

/// What a command says that ends within `seconds`; one that does not is killed.
fn ends_within(seconds: u64, command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(seconds);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().and_then(|()| child.wait()).unwrap();
            panic!("no end after {seconds} s");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// `nsprobe cluster` with the kubeconfig of a node.
fn cluster(node: &pods_support::Node, deadline: &str) -> Command {
    let mut command = node.command(&["-o", "json", "cluster", "--deadline", deadline, "--kubeconfig"]);
    command.arg(node.root().join("admin.conf"));
    command
}

#[test]
fn the_deadline_binds_files_that_are_none_too() {
    let api = Api::serve(|path, _| shop(path));
    let node = node(&api, "admin.conf");
    let pipe = node.root().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // The kubeconfig itself, then a certificate that it names.
    let own = api.kubeconfig();
    let named =
        own.replace("{token: t}", &format!("{{client-certificate: {0}, client-key: {0}}}", pipe.display()));
    assert_ne!(own, named);
    node.put("admin.conf", &named);
    for kubeconfig in [pipe, node.root().join("admin.conf")] {
        let mut command = node.command(&["-o", "json", "cluster", "--deadline", "1s", "--kubeconfig"]);
        let (code, error) = document(&ends_within(8, command.arg(kubeconfig)));
        assert_eq!(code, 5);
        let said = error["message"].as_str().unwrap();
        assert!(said.ends_with(" gave no credentials within 1000 ms"), "{said}");
    }
}

#[test]
fn the_deadline_binds_a_credential_plugin_too() {
    let api = Api::serve(|path, _| shop(path));
    let node = node(&api, "admin.conf");
    let plugin = |command: &str, arguments: &str| {
        let exec = format!(
            "{{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: {command}, args: [{arguments}]}}}}"
        );
        node.put("admin.conf", &api.kubeconfig().replace("{token: t}", &exec));
    };
    plugin("sleep", "'25'");
    let (code, error) = document(&ends_within(8, &mut cluster(&node, "1s")));
    assert_eq!(code, 5);
    let said = error["message"].as_str().unwrap();
    assert!(said.ends_with("its credential plugin sleep gave no credentials within 1000 ms"), "{said}");
    assert!(error["hint"].as_str().unwrap().contains("--deadline 2m"), "{error}");

    // Quick while the client is made, which asks three times; slow for another token in place of the expired one.
    let credential = r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"t","expirationTimestamp":"2020-01-01T00:00:00Z"}}"#;
    let marker = node.root().join("asked");
    let marker = marker.display();
    node.put(
        "plugin",
        &format!("echo >>{marker}\n[ $(wc -l <{marker}) -gt 3 ] && exec sleep 25\necho '{credential}'\n"),
    );
    plugin("sh", &format!("'{}'", node.root().join("plugin").display()));
    let (code, error) = document(&ends_within(10, &mut cluster(&node, "3s")));
    assert_eq!(code, 5);
    assert!(error["message"].as_str().unwrap().contains("did not answer within 3000 ms"), "{error}");
    assert_eq!(std::fs::read_to_string(node.root().join("asked")).unwrap(), "\n\n\n\n");

    // A quick one is what it was.
    let lasting = credential.replace("2020", "2120");
    node.put("plugin", &format!("echo '{lasting}'\n"));
    let (code, told) = document(&ends_within(30, &mut cluster(&node, "20s")));
    assert_eq!((code, names(&told).len()), (1, 26));
}

#[test]
fn the_hosts_file_is_a_regular_one_under_the_host_root_or_none() {
    let api = Api::serve(|path, _| shop(path));
    let node = node(&api, "admin.conf");
    node.put("admin.conf", &api.kubeconfig().replace("127.0.0.1", "api.example"));
    node.put("etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let hosts = node.root().join("etc/hosts");
    let ask = || document(&ends_within(10, &mut cluster(&node, "5s")));
    let is_unknown = |(code, error): (i32, Value)| {
        assert_eq!(code, 5);
        let said = error["message"].as_str().unwrap();
        assert!(said.contains("cannot resolve api.example"), "{said}");
    };
    nix::unistd::mkfifo(&hosts, nix::sys::stat::Mode::S_IRWXU).unwrap();
    is_unknown(ask());

    let outside = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(outside.path(), "127.0.0.1 api.example\n").unwrap();
    std::fs::remove_file(&hosts).unwrap();
    node.link(outside.path().to_str().unwrap(), "etc/hosts");
    is_unknown(ask());

    // The node's own link is followed, to where the node has it.
    std::fs::remove_file(&hosts).unwrap();
    node.put("etc/hosts.real", "127.0.0.1 api.example\n");
    node.link("/etc/hosts.real", "etc/hosts");
    assert_eq!(names(&ask().1).len(), 26);
}
