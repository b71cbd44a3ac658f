//! Host names asked for from inside a real network namespace, of a name server that the test plays. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use nsprobe::netns::NetNs;
use nsprobe::observe::resolve::{Addresses, Family, Lookup, LookupError, choose, interface_index, look_up};
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Netns, Running, nsprobe, schema, stderr};

/// A pod's namespace and a server's, joined by a veth: 192.0.2.1 and .2, 2001:db8::1 and ::2.
struct Net {
    pod: Netns,
    _server: Netns,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Net {
    fn new() -> Self {
        let (pod, server) = (Netns::new(), Netns::new());
        pod.ip(&format!("link add eth0 type veth peer name eth0 netns {}", server.name()));
        for (netns, last) in [(&pod, 1), (&server, 2)] {
            netns.ip(&format!("addr add 192.0.2.{last}/24 dev eth0"));
            netns.ip(&format!("addr add 2001:db8::{last}/64 dev eth0 nodad"));
            netns.ip("link set eth0 up");
        }
        server.ip("addr add 192.0.2.3/24 dev eth0");
        let stop = Arc::new(AtomicBool::new(false));
        let opened = NetNs::open(&server.path()).unwrap();
        let (udp, tcp) = opened
            .run(|| (UdpSocket::bind("192.0.2.2:53").unwrap(), TcpListener::bind("192.0.2.2:53").unwrap()))
            .unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let flags = (stop.clone(), stop.clone());
        let threads = vec![
            std::thread::spawn(move || serve_udp(&udp, &flags.0)),
            std::thread::spawn(move || serve_tcp(&tcp, &flags.1)),
        ];
        Self { pod, _server: server, stop, threads }
    }

    fn netns(&self) -> NetNs {
        NetNs::open(&self.pod.path()).unwrap()
    }

    fn look_up(&self, conf: &str, name: &str, family: Option<Family>) -> Result<Addresses, LookupError> {
        let lookup = Lookup { resolv_conf: conf, hosts: HOSTS, family, deadline: Duration::from_secs(1) };
        look_up(&self.netns(), name, &lookup)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|t| t.join().unwrap());
    }
}

const HOSTS: &str = "192.0.2.77 hosts-only\n";
const CONF: &str = "nameserver 192.0.2.2\nsearch default.svc.test svc.test\noptions ndots:5 timeout:1\n";

fn serve_udp(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 512];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        for answer in answers(&buffer[..length], false) {
            socket.send_to(&answer, from).unwrap();
        }
    }
}

fn serve_tcp(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).unwrap();
        for answer in answers(&question, true) {
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            // In two parts, as a slow server would.
            stream.write_all(&length).unwrap();
            stream.write_all(&answer).unwrap();
        }
    }
}

/// What the server sends for one question: nothing, an answer, or an answer after forged ones.
fn answers(question: &[u8], tcp: bool) -> Vec<Vec<u8>> {
    let asked = Packet::parse(question).unwrap();
    let name = asked.questions[0].qname.to_string();
    let v4 = asked.questions[0].qtype == QTYPE::TYPE(TYPE::A);
    let mut reply = asked.clone().into_reply();
    let record = |name: &Name<'static>, address: u8| {
        let data = if v4 {
            RData::A(A { address: Ipv4Addr::new(198, 51, 100, address).into() })
        } else {
            RData::AAAA(AAAA { address: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 9, address.into()).into() })
        };
        ResourceRecord::new(name.clone(), CLASS::IN, 5, data)
    };
    let owner = asked.questions[0].qname.clone().into_owned();
    match name.as_str() {
        "web.default.svc.test" | "both.test" => reply.answers.push(record(&owner, 1)),
        "v4.test" if v4 => reply.answers.push(record(&owner, 4)),
        "v4.test" => {}
        "server.default.svc.test" if v4 => {
            let data = RData::A(A { address: Ipv4Addr::new(192, 0, 2, 2).into() });
            reply.answers.push(ResourceRecord::new(owner, CLASS::IN, 5, data));
        }
        "server.default.svc.test" => {}
        // Drops questions for AAAA, as some broken servers do.
        "dropped6.test" if v4 => reply.answers.push(record(&owner, 5)),
        "dropped6.test" | "silent.test" => return Vec::new(),
        "big.test" if !tcp => reply.set_flags(PacketFlag::TRUNCATION),
        "big.test" => reply.answers.extend((0..60).map(|i| record(&owner, i))),
        "servfail.test" => *reply.rcode_mut() = RCODE::ServerFailure,
        "forged.test" => {
            reply.answers.push(record(&owner, 66));
            reply.set_id(asked.id().wrapping_add(1));
            let forged = reply.build_bytes_vec_compressed().unwrap();
            reply.set_id(asked.id());
            reply.answers = vec![record(&owner, 6)];
            return vec![forged, b"garbage".to_vec(), reply.build_bytes_vec_compressed().unwrap()];
        }
        _ => *reply.rcode_mut() = RCODE::NameError,
    }
    vec![reply.build_bytes_vec_compressed().unwrap()]
}

fn v4(last: u8) -> IpAddr {
    [198, 51, 100, last].into()
}

#[test]
fn a_short_name_is_found_through_the_pods_search_domains() {
    let net = Net::new();
    let found = net.look_up(CONF, "web", None).unwrap();
    assert_eq!(found.name.as_deref(), Some("web.default.svc.test"));
    assert_eq!(found.server, Some([192, 0, 2, 2].into()));
    assert_eq!(found.addresses, [v4(1), "2001:db8::9:1".parse().unwrap()]);
    let only = net.look_up(CONF, "web", Some(Family::V6)).unwrap();
    assert_eq!(only.addresses, ["2001:db8::9:1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn the_hosts_file_comes_first() {
    let net = Net::new();
    let found = net.look_up(CONF, "hosts-only", None).unwrap();
    assert_eq!((found.addresses, found.server), (vec![[192, 0, 2, 77].into()], None));
}

#[test]
fn an_answer_that_does_not_fit_is_fetched_over_tcp() {
    let net = Net::new();
    assert_eq!(net.look_up(CONF, "big.test.", Some(Family::V4)).unwrap().addresses.len(), 60);
}

#[test]
fn forged_answers_and_garbage_are_waited_past() {
    let net = Net::new();
    assert_eq!(net.look_up(CONF, "forged.test.", Some(Family::V4)).unwrap().addresses, [v4(6)]);
}

#[test]
fn a_server_that_drops_aaaa_still_gives_the_other_address() {
    let net = Net::new();
    assert_eq!(net.look_up(CONF, "dropped6.test.", None).unwrap().addresses, [v4(5)]);
}

#[test]
fn the_reasons_for_no_address_are_told_apart() {
    let net = Net::new();
    let said = |conf: &str, name: &str, family| net.look_up(conf, name, family).unwrap_err().to_string();
    assert_eq!(said(CONF, "nothing.", None), "server 192.0.2.2 knows no such name (NXDOMAIN; tried nothing)");
    assert_eq!(
        said(CONF, "v4.test.", Some(Family::V6)),
        "server 192.0.2.2 knows the name v4.test, but no IPv6 address of it"
    );
    assert_eq!(said(CONF, "servfail.test.", None), "server 192.0.2.2 answered SERVFAIL");
    let refused = said("nameserver 192.0.2.3\n", "web.", None);
    assert!(refused.starts_with("server 192.0.2.3 cannot be asked: Connection refused"), "{refused}");
    let unreachable = said("nameserver 203.0.113.1\n", "web.", None);
    assert!(
        unreachable.starts_with("server 203.0.113.1 cannot be asked: Network is unreachable"),
        "{unreachable}"
    );
}

#[test]
fn silence_ends_at_the_deadline_and_names_the_server() {
    let net = Net::new();
    let start = Instant::now();
    let error = net.look_up(CONF, "silent.test.", None).unwrap_err().to_string();
    assert_eq!(error, "server 192.0.2.2 did not answer in 1 s");
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
}

#[test]
fn the_second_server_answers_for_a_silent_first() {
    let net = Net::new();
    // .99 is nobody: its questions wait for a neighbour that never answers.
    let conf = "nameserver 192.0.2.99\nnameserver 192.0.2.2\n";
    assert_eq!(net.look_up(conf, "both.test", Some(Family::V4)).unwrap().server, Some([192, 0, 2, 2].into()));
}

#[test]
fn the_family_that_has_a_route_is_chosen() {
    let net = Net::new();
    let both = [IpAddr::from([192, 0, 2, 2]), "2001:db8::2".parse().unwrap()];
    assert_eq!(choose(&net.netns(), &both).unwrap(), Some(1));
    let far = [IpAddr::from([192, 0, 2, 2]), "2001:db8:ffff::2".parse().unwrap()];
    assert_eq!(choose(&net.netns(), &far).unwrap(), Some(0));
    assert_eq!(choose(&net.netns(), &[v4(1)]).unwrap(), None);
}

#[test]
fn the_interface_of_a_link_local_address_is_the_pods_own() {
    let net = Net::new();
    let shown = net.pod.ip("-o link show dev eth0");
    let index = shown.split(':').next().unwrap().parse::<u32>().unwrap();
    assert_eq!(interface_index(&net.netns(), "eth0").unwrap().unwrap(), index);
    assert!(interface_index(&net.netns(), "no-such-link").unwrap().is_err());
}

/// A process in the pod's network namespace whose /etc/resolv.conf and /etc/hosts are its own.
fn with_files(net: &Net, folder: &Path) -> Running {
    std::fs::write(folder.join("resolv.conf"), CONF).unwrap();
    std::fs::write(folder.join("hosts"), "2001:db8::2 six\n").unwrap();
    let script = format!(
        "mount --bind {0}/resolv.conf /etc/resolv.conf && mount --bind {0}/hosts /etc/hosts && echo up && exec sleep 600",
        folder.display()
    );
    let mut child = Command::new("nsenter")
        .arg(format!("--net={}", net.pod.path().display()))
        .args(["unshare", "--mount", "sh", "-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    Running(child)
}

#[test]
fn a_target_is_resolved_with_the_files_that_the_pod_sees() {
    let net = Net::new();
    let folder = tempfile::tempdir().unwrap();
    let pod = with_files(&net, folder.path());
    let source = format!("pid:{}", pod.0.id());
    for (name, address) in [("server", "192.0.2.2"), ("six", "2001:db8::2")] {
        let output = nsprobe().args(["mtu", "-o", "json", &source, name]).output().unwrap();
        let document = schema::valid(&output.stdout);
        assert_eq!(document["target"]["input"], name, "{}", stderr(&output));
        assert_eq!(document["target"]["address"], address);
        assert_eq!(document["verdict"], "clear");
    }
    let output = nsprobe().args(["mtu", "-o", "json", &source, "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let message = schema::valid(&output.stdout)["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message,
        format!(
            "cannot resolve nothing: server 192.0.2.2 knows no such name (NXDOMAIN; tried \
             nothing.default.svc.test, nothing.svc.test, nothing) (resolv.conf of {source})"
        )
    );
    let both = nsprobe().args(["mtu", "-o", "json", &source, "server", "192.0.2.3"]).output().unwrap();
    assert_eq!(schema::valid(&both.stdout)["schema"], "nsprobe.mtu_comparison/v1");
}

#[test]
fn name_servers_that_take_longer_than_a_second_are_told_of() {
    let net = Net::new();
    let folder = tempfile::tempdir().unwrap();
    let pod = with_files(&net, folder.path());
    let source = format!("pid:{}", pod.0.id());
    for (more, told) in [(&[][..], 1), (&["-q"], 0), (&["-o", "json"], 0)] {
        let output = nsprobe().args(["mtu", &source, "silent.test."]).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        let said = "waiting for answers of name servers for silent.test. (at most 1 s more)";
        let lines = stderr(&output).lines().filter(|line| *line == said).count();
        assert_eq!(lines, told, "{more:?}: {}", stderr(&output));
    }
}
