//! What `nsprobe sockets` shows people, from recorded sockets: readable at 80 columns, whole in a pipe, with names
//! that mean harm, and with many.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails loudly")]

use nsprobe::diagnose::sockets::check_sockets;
use nsprobe::facts::{MeasuredPath, Method, Protocol, Socket, SocketProcess, Verdict};
use nsprobe::observe::decode_sockets;
use nsprobe::report::{Paint, SocketNamespace, SocketsDocument, SocketsView, render_sockets};

const V4: &[u8] = include_bytes!("fixtures/netlink/tcp-v4.bin");
const V6: &[u8] = include_bytes!("fixtures/netlink/tcp-v6.bin");

fn recorded() -> Vec<Socket> {
    let mut sockets: Vec<Socket> =
        [V4, V6].into_iter().flat_map(|dump| decode_sockets(dump, Protocol::Tcp)).collect();
    for socket in sockets.iter_mut().filter(|s| s.inode.is_some()) {
        socket.process = Some(SocketProcess { pid: 4711, name: "web".into() });
    }
    sockets
}

fn shown(sockets: Vec<Socket>, width: Option<usize>, verbose: bool) -> String {
    let path = MeasuredPath {
        remote: "198.51.100.3".parse().unwrap(),
        method: Method::Icmp,
        verdict: Verdict::BlackHole,
        path_mtu_bytes: Some(1400),
        passes_bytes: Some(1400),
        interface: Some("eth0".into()),
    };
    let findings = check_sockets("shop/web-0", false, &sockets, std::slice::from_ref(&path));
    let namespace = SocketNamespace { subject: "shop/web-0".into(), netns_inode: 7, sockets };
    let report = SocketsDocument { namespaces: vec![namespace], findings };
    render_sockets(&report, &[vec![path]], SocketsView { paint: Paint::new(false), width, verbose })
}

/// The part behind the findings.
fn table(text: &str) -> &str {
    text.get(text.find("\nshop/web-0  ").unwrap()..).unwrap().trim_start()
}

#[test]
fn what_hangs_is_on_top_below_its_reason() {
    let text = shown(recorded(), None, false);
    assert!(text.starts_with("2 critical, 3 warnings: 16 sockets of shop/web-0\n"), "{text}");
    insta::assert_snapshot!(table(&text));
}

#[test]
fn a_narrow_terminal_gets_fewer_columns() {
    let four: Vec<Socket> = recorded().into_iter().filter(|s| !s.detail.ipv6).collect();
    let text = shown(four, Some(80), false);
    insta::assert_snapshot!(table(&text));
    assert!(table(&text).lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn verbose_tells_all_that_the_kernel_tells_and_keeps_to_the_width() {
    let stuck: Vec<Socket> =
        recorded().into_iter().filter(|s| s.local.port() == 43936 || s.local.port() == 47856).collect();
    let text = shown(stuck, Some(80), true);
    insta::assert_snapshot!(table(&text));
    assert!(table(&text).lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn a_terminal_is_spared_thousands_that_do_not_hang_and_a_pipe_is_not() {
    let healthy = recorded().into_iter().find(|s| s.remote.is_some_and(|r| r.port() == 9003)).unwrap();
    let stuck = recorded().into_iter().find(|s| s.local.port() == 43936).unwrap();
    let mut many = vec![healthy; 1000];
    many.push(stuck);
    let rows = |text: &str| text.lines().filter(|line| line.starts_with("  tcp")).count();
    let text = shown(many.clone(), Some(200), false);
    assert_eq!(rows(&text), 101);
    assert!(text.ends_with("and 900 more that do not hang: -v, a pipe or a filter shows them\n"), "{text}");
    assert_eq!(rows(&shown(many.clone(), Some(200), true)), 1001);
    assert_eq!(rows(&shown(many, None, false)), 1001);
}

#[test]
fn names_that_mean_harm_reach_no_terminal() {
    let mut sockets = recorded();
    for socket in &mut sockets {
        socket.process = Some(SocketProcess { pid: 1, name: "a\x1b[2J\u{202e}\nb".into() });
    }
    for (width, verbose) in [(None, true), (Some(80), false)] {
        let text = shown(sockets.clone(), width, verbose);
        assert!(!text.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text:?}");
    }
}

#[test]
fn no_sockets_are_one_line_and_a_heading() {
    assert_eq!(shown(Vec::new(), Some(80), false), "no sockets of shop/web-0\n");
}
