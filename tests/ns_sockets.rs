//! Sockets in real namespaces: each way to hang is made, told, and mended; `ss` is the judge of the rest. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use nsprobe::netns::NetNs;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Netns, Running, nsprobe, run, stderr, stdout};

/// client – bridge – server, with a port of its own MTU towards the server: larger packets vanish without a word.
struct Wire {
    client: Netns,
    _bridge: Netns,
    server: Netns,
}

const CLIENT: &str = "10.98.0.1";
const SERVER: &str = "10.98.0.2";
const SERVER6: &str = "fd98::2";

impl Wire {
    fn new(port_mtu: u32) -> Self {
        let wire = Self { client: Netns::new(), _bridge: Netns::new(), server: Netns::new() };
        let bridge = &wire._bridge;
        bridge.ip("link add br0 mtu 1500 type bridge");
        bridge.ip("link set br0 up");
        for (netns, port, host) in [(&wire.client, "c", 1), (&wire.server, "s", 2)] {
            netns.ip(&format!(
                "link add eth0 mtu 1500 type veth peer name {port} mtu 1500 netns {}",
                bridge.name()
            ));
            // Segments as they are on a wire: a bridge lets pass what an offload would cut later.
            netns.ip("link set eth0 gso_max_segs 1");
            netns.ip(&format!("addr add 10.98.0.{host}/24 dev eth0"));
            netns.ip(&format!("addr add fd98::{host}/64 dev eth0 nodad"));
            netns.ip("link set eth0 up");
            bridge.ip(&format!("link set {port} master br0 up"));
        }
        bridge.ip(&format!("link set s mtu {port_mtu}"));
        wire
    }

    /// A rule of nftables on what reaches the server.
    fn drop_at_server(&self, rule: &str) {
        let script = format!(
            "add table inet t; add chain inet t i {{ type filter hook input priority 0; }}; add rule inet t i {rule} drop"
        );
        self.server.nft(&script);
    }
}

fn inside<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> T {
    NetNs::open(&netns.path()).unwrap().run(work).unwrap()
}

/// A listener that may hold `backlog` connections and whose sockets have a small buffer.
fn listen(netns: &Netns, address: &str, backlog: i32, buffer: usize) -> TcpListener {
    let address: SocketAddr = address.parse().unwrap();
    inside(netns, || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        if buffer > 0 {
            socket.set_recv_buffer_size(buffer).unwrap();
        }
        socket.bind(&address.into()).unwrap();
        socket.listen(backlog).unwrap();
        socket.into()
    })
}

/// A connection that does not wait for anything.
fn connect(netns: &Netns, address: &str) -> TcpStream {
    let address: SocketAddr = address.parse().unwrap();
    inside(netns, || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address.into());
        socket.into()
    })
}

/// Writes `bytes` zeros, or as many as there is room for.
fn fill(stream: &mut TcpStream, bytes: usize) {
    std::thread::sleep(Duration::from_millis(50));
    let _ = stream.write(&vec![0; bytes]).unwrap();
}

fn look(netns: &Netns, more: &[&str]) -> (Option<i32>, Value) {
    let output = nsprobe().args(["sockets", &netns.source(), "-o", "json"]).args(more).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", stderr(&output));
    (output.status.code(), support::schema::valid(&output.stdout))
}

fn sockets(document: &Value) -> &Vec<Value> {
    document["namespaces"][0]["sockets"].as_array().unwrap()
}

/// Ids of the warnings and worse, with a word of the summary.
fn ids(document: &Value) -> Vec<String> {
    let findings = document["findings"].as_array().unwrap();
    let mut ids: Vec<String> = findings
        .iter()
        .filter(|f| f["severity"] != "info")
        .map(|f| f["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

/// Looks until exactly these findings stand in the report.
#[track_caller]
fn until(netns: &Netns, wanted: &[&str], patience: u64) -> Value {
    let end = Instant::now() + Duration::from_secs(patience);
    loop {
        let (code, document) = look(netns, &[]);
        if ids(&document) == wanted {
            assert_eq!(code, Some(i32::from(!wanted.is_empty())));
            return document;
        }
        assert!(Instant::now() < end, "not {wanted:?} but {:?}\n{document:#}", ids(&document));
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn connections_into_a_black_hole_are_suspected_then_proven_then_mended() {
    let wire = Wire::new(1400);
    let listeners = [listen(&wire.server, "0.0.0.0:9005", 8, 0), listen(&wire.server, "[::]:9006", 8, 0)];
    let mut stuck = [
        connect(&wire.client, &format!("{SERVER}:9005")),
        connect(&wire.client, &format!("[{SERVER6}]:9006")),
    ];
    for stream in &mut stuck {
        fill(stream, 30_000);
    }
    let document = until(&wire.client, &["sockets.mtu_suspected", "sockets.mtu_suspected"], 10);
    assert_eq!(sockets(&document).len(), 2);
    for socket in sockets(&document) {
        assert_eq!((&socket["path_mtu_bytes"], &socket["state"]), (&1500.into(), &"established".into()));
        assert!(socket["retransmits"].as_u64().unwrap() >= 2 && socket["unacked"].as_u64().unwrap() > 0);
    }

    let (code, document) = look(&wire.client, &["--measure"]);
    assert_eq!(code, Some(1));
    let proven: Vec<&Value> = document["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["id"] == "sockets.stuck_on_mtu")
        .collect();
    assert_eq!(proven.len(), 2, "{document:#}");
    for (finding, peer) in proven.iter().zip([SERVER, SERVER6]) {
        assert_eq!(
            (&finding["severity"], &finding["subject"]),
            (&"critical".into(), &document["namespaces"][0]["subject"])
        );
        let summary = finding["summary"].as_str().unwrap();
        assert!(summary.contains(peer) && summary.contains("1500 bytes, the path carries 1400"), "{summary}");
        assert!(finding["fix"].as_str().unwrap().contains("ip link set dev eth0 mtu 1400"));
    }
    assert!(!ids(&document).contains(&"sockets.mtu_suspected".to_owned()));

    // The fix, as it is written: the very same connections go on.
    wire.client.ip("link set dev eth0 mtu 1400");
    until(&wire.client, &[], 30);
    drop((listeners, stuck));
}

#[test]
fn every_other_reason_is_told_and_none_of_them_is_the_mtu() {
    let wire = Wire::new(1500);
    let (server, client) = (&wire.server, &wire.client);
    wire.drop_at_server("tcp dport 9007");
    let unread = listen(server, &format!("{SERVER}:9002"), 8, 4096);
    let silent = listen(server, &format!("{SERVER}:9006"), 8, 0);
    let full = listen(server, &format!("{SERVER}:8080"), 1, 0);
    let closing = listen(server, &format!("{SERVER}:9001"), 64, 0);
    let healthy = listen(server, &format!("{SERVER}:9003"), 8, 0);
    // Its answers do not reach the client.
    let half = listen(server, &format!("{SERVER}:9011"), 8, 0);
    let script = "add table inet t; add chain inet t i { type filter hook input priority 0; }; add rule inet t i tcp sport 9011 drop";
    client.nft(script);
    let mut kept: Vec<TcpStream> =
        [9007, 9011].map(|port| connect(client, &format!("{SERVER}:{port}"))).into();
    for (port, bytes) in [(9002, 200_000), (9006, 100), (9003, 5000)] {
        let mut stream = connect(client, &format!("{SERVER}:{port}"));
        if port == 9006 {
            std::thread::sleep(Duration::from_millis(50));
            wire.drop_at_server("tcp dport 9006");
        }
        fill(&mut stream, bytes);
        kept.push(stream);
    }
    kept.extend((0..4).map(|_| connect(client, &format!("{SERVER}:8080"))));
    for _ in 0..12 {
        kept.push(connect(client, &format!("{SERVER}:9001")));
        drop(closing.accept().unwrap());
    }
    let accepted: Vec<_> = [&unread, &silent, &healthy].map(|l| l.accept().unwrap()).into();
    let datagrams = inside(server, || UdpSocket::bind(format!("{SERVER}:9010")).unwrap());
    socket2::SockRef::from(&datagrams).set_recv_buffer_size(4096).unwrap();
    let sender = inside(client, || UdpSocket::bind(format!("{CLIENT}:0")).unwrap());
    for _ in 0..200 {
        sender.send_to(&[0; 1000], format!("{SERVER}:9010")).unwrap();
    }

    let document = until(
        client,
        &[
            "sockets.close_wait",
            "sockets.peer_silent",
            "sockets.syn_unanswered",
            "sockets.syn_unanswered",
            "sockets.syn_unanswered",
            "sockets.zero_window",
        ],
        20,
    );
    let summary = |id: &str| {
        let findings = document["findings"].as_array().unwrap();
        let found = findings.iter().find(|f| f["id"] == id).unwrap();
        found["summary"].as_str().unwrap().to_owned()
    };
    assert!(summary("sockets.peer_silent").contains("even small packets (the largest has 152 bytes"));
    assert!(summary("sockets.close_wait").contains("keeps 12 connections open"));
    let document = until(
        server,
        &["sockets.backlog_full", "sockets.half_open", "sockets.not_reading", "sockets.not_reading"],
        5,
    );
    let stopped = document["findings"].as_array().unwrap();
    assert!(
        stopped.iter().any(|f| f["summary"].as_str().unwrap().contains(&format!("accept on {SERVER}:8080")))
    );

    // Nothing here is a matter of size: nothing is sent.
    let sent = || {
        let link: Value = serde_json::from_str(&client.ip("-s -j link show lo")).unwrap();
        link[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
    };
    let before = sent();
    let (_, document) = look(client, &["--measure"]);
    assert!(!ids(&document).iter().any(|id| id.contains("mtu")), "{document:#}");
    assert_eq!(sent(), before);

    // Their healthy twin, beside all of this.
    let (code, document) = look(client, &["--remote-port", "9003"]);
    assert_eq!((code, sockets(&document).len(), ids(&document).len()), (Some(0), 1, 0));
    let (_, document) = look(client, &["--stuck"]);
    assert!(sockets(&document).iter().all(|s| !s["remote"].as_str().unwrap().ends_with(":9003")));
    drop((accepted, kept, full, half));
}

/// Protocol, state, local and remote address of what `ss` lists.
fn judge(netns: &Netns) -> BTreeSet<[String; 6]> {
    let text = run("ip", &["netns", "exec", netns.name(), "ss", "-tuanOH"]);
    let state = |protocol: &str, state: &str| match (protocol, state) {
        ("udp", "UNCONN") => "unconnected".to_owned(),
        (_, "ESTAB") => "established".into(),
        (_, other) => other.to_lowercase().replace('-', "_"),
    };
    let address = |text: &str| {
        let text = text.replace("::ffff:", "").replace("*:", "[::]:").replace("%eth0", "%2");
        match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
            Some((host, port)) if !host.contains("::") => format!("{host}{port}"),
            _ => text,
        }
    };
    let mut all = BTreeSet::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let remote = if words[5].ends_with(":*") { "null".into() } else { address(words[5]) };
        let state = state(words[0], words[1]);
        let queues = if state == "listen" {
            ["null".to_owned(), "null".to_owned()]
        } else {
            [words[2].into(), words[3].into()]
        };
        let [received, sent] = queues;
        all.insert([words[0].to_owned(), state, address(words[4]), remote, received, sent]);
    }
    all
}

#[test]
fn what_is_listed_is_what_ss_lists() {
    let wire = Wire::new(1500);
    let server = &wire.server;
    let listener = listen(server, "[::]:9000", 8, 0);
    let kept: Vec<TcpStream> =
        [SERVER, "[fd98::2]"].map(|host| connect(&wire.client, &format!("{host}:9000"))).into();
    std::thread::sleep(Duration::from_millis(100));
    let mut accepted: Vec<TcpStream> = kept.iter().map(|_| listener.accept().unwrap().0).collect();
    // Something unread, something closed here alone.
    accepted[0].write_all(b"hello").unwrap();
    let local = inside(server, || {
        let gone = TcpListener::bind("127.0.0.1:9100").unwrap();
        let client = TcpStream::connect("127.0.0.1:9100").unwrap();
        let (accepted, _) = gone.accept().unwrap();
        drop(client);
        let udp = UdpSocket::bind("[::1]:5353").unwrap();
        udp.connect("[::1]:53").unwrap();
        (gone, accepted, udp, UdpSocket::bind("0.0.0.0:68").unwrap())
    });
    std::thread::sleep(Duration::from_millis(100));
    for netns in [server, &wire.client] {
        let (_, document) = look(netns, &["--all"]);
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let keys = ["protocol", "state", "local", "remote", "recv_queue_bytes", "send_queue_bytes"];
        let ours: BTreeSet<[String; 6]> =
            sockets(&document).iter().map(|socket| keys.map(|key| text(&socket[key]))).collect();
        assert_eq!(ours, judge(netns));
        assert!(ours.len() >= 2);
    }
    drop((local, kept));
}

#[test]
fn a_socket_is_its_process_s_whatever_that_calls_itself() {
    let wire = Wire::new(1500);
    let listener = listen(&wire.server, &format!("{SERVER}:9000"), 8, 0);
    let script = format!(
        "exec 3<>/dev/tcp/{SERVER}/9000; printf '\\033[31mevil\\n' > /proc/self/comm; read -t 60 <&3"
    );
    let holder = Running(
        Command::new("ip")
            .args(["netns", "exec", wire.client.name(), "bash", "-c", &script])
            .spawn()
            .unwrap(),
    );
    let pid = holder.0.id();
    let accepted = listener.accept().unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    let process = loop {
        let (_, document) = look(&wire.client, &[]);
        let process = sockets(&document).first().map_or(Value::Null, |socket| socket["process"].clone());
        if process["name"] != "bash" && process["pid"] == pid {
            break process;
        }
        assert!(Instant::now() < end, "{document:#}");
    };
    assert_eq!(process["name"], "\u{1b}[31mevil\n");
    let output = nsprobe().args(["sockets", &wire.client.source(), "-v"]).output().unwrap();
    let text = stdout(&output);
    assert!(!text.chars().any(|c| c != '\n' && c.is_control()), "{text:?}");
    assert!(text.contains(&format!("\\u{{1b}}[31mevil\\n/{pid}")), "{text}");
    for (filter, count) in
        [(pid.to_string(), 1), ("\u{1b}[31mevil\n".into(), 1), ("bash".into(), 0), ("1".into(), 0)]
    {
        let (_, document) = look(&wire.client, &["--process", &filter]);
        assert_eq!(sockets(&document).len(), count, "{filter:?}");
    }
    // The other end is held by this very test, which is in another namespace.
    let (_, document) = look(&wire.server, &["--state", "established"]);
    assert_eq!((sockets(&document).len(), &sockets(&document)[0]["process"]), (1, &Value::Null));

    // A name under /run/netns may go while a process keeps the namespace: it is read all the same.
    let output = nsprobe().args(["sockets", &format!("pid:{pid}"), "-o", "json", "-t"]).output().unwrap();
    assert_eq!(sockets(&support::schema::valid(&output.stdout)).len(), 1);
    drop(accepted);
}

#[test]
fn filters_leave_what_they_say() {
    let netns = Netns::new();
    let kept = inside(&netns, || {
        let listener = TcpListener::bind("127.0.0.1:7001").unwrap();
        let six = TcpListener::bind("[::1]:7002").unwrap();
        let client = TcpStream::connect("127.0.0.1:7001").unwrap();
        let closed = TcpStream::connect("127.0.0.1:7001").unwrap();
        drop(listener.accept().unwrap());
        let second = listener.accept().unwrap();
        drop(second);
        drop(closed);
        (listener, six, client, UdpSocket::bind("127.0.0.1:7003").unwrap())
    });
    for (filter, wanted) in [
        (&["-t"][..], "close_wait fin_wait_2 listen listen"),
        (&["-u"], "unconnected"),
        (&["-tu", "-l"], "listen listen unconnected"),
        (&["-t", "-6"], "listen"),
        (&["-t", "-4", "-l"], "listen"),
        (&["--local-port", "7001,7002", "-l"], "listen listen"),
        (&["--port", "7003"], "unconnected"),
        (&["--remote-port", "7001"], "close_wait"),
        (&["--remote", "127.0.0.1"], "close_wait fin_wait_2"),
        (&["--state", "time-wait"], "time_wait"),
        (&["--state", "fin-wait-2,close-wait"], "close_wait fin_wait_2"),
        (&["--state", "connected"], "close_wait fin_wait_2 time_wait"),
        (&["-a", "-t"], "close_wait fin_wait_2 listen listen time_wait"),
        (&["-tnp"], "close_wait fin_wait_2 listen listen"),
        (&["--port", "1"], ""),
    ] {
        let (code, document) = look(&netns, filter);
        let mut states: Vec<_> = sockets(&document).iter().map(|s| s["state"].as_str().unwrap()).collect();
        states.sort_unstable();
        assert_eq!((code, states.join(" ").as_str()), (Some(0), wanted), "{filter:?}");
    }
    drop(kept);
}

#[test]
fn several_sources_are_several_lists_and_the_same_twice_is_one() {
    let (one, two) = (Netns::new(), Netns::new());
    let kept = inside(&one, || TcpListener::bind("127.0.0.1:7001").unwrap());
    let output = nsprobe()
        .args([
            "sockets",
            "-o",
            "json",
            &one.source(),
            &two.source(),
            &format!("netns:{}", one.path().display()),
        ])
        .output()
        .unwrap();
    let document = support::schema::valid(&output.stdout);
    let counts: Vec<_> = document["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["sockets"].as_array().unwrap().len())
        .collect();
    assert_eq!(counts, [1, 0]);
    drop(kept);
}
