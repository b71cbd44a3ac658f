//! What people see while a capture runs: lines with tcpdump's letters, colours and a status line on a terminal.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use support::capture::{Pair, assert_code, size, start, tshark, wait_until};
use support::pty::Terminal;
use support::{run, stdout};

/// Lines of one ping of 8 bytes, with these options.
fn lines(pair: &Pair, options: &str) -> Vec<String> {
    let source = pair.a.source();
    let mut words = vec![source.as_str()];
    words.extend(options.split_whitespace());
    words.extend(["-c", "2", "-q", "--", "icmp"]);
    let child = start(&words);
    let _ping = pair.ping("-i 0.2 -s 8");
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);
    stdout(&output).lines().map(str::to_owned).collect()
}

#[test]
fn the_letters_of_tcpdump_do_what_its_users_expect() {
    let pair = Pair::new();
    let name = format!("netns:/run/netns/{} eth0", pair.a.name());
    let plain = lines(&pair, "-n -t");
    assert!(plain[0].starts_with(&name) && plain[0].ends_with(", length 16"), "{plain:?}");
    let verbose = lines(&pair, "-nn -t -v");
    assert!(
        verbose[0].contains("IP (tos 0x0, ttl 64, id ")
            && verbose[0].contains("proto ICMP (1), length 36) 10.9.0."),
        "{verbose:?}"
    );
    let link = lines(&pair, "-e -t");
    assert!(
        link[0].contains(" > ") && link[0].contains(", ethertype 0x0800, length 50: IP 10.9.0."),
        "{link:?}"
    );
    let bytes = lines(&pair, "-x -t");
    assert_eq!(bytes.len(), 2 * 4, "36 bytes in three rows: {bytes:?}");
    assert!(bytes[1].starts_with("\t0x0000:  4500 0024 "), "{bytes:?}");
    let unix = lines(&pair, "-tt");
    let seconds: f64 = unix[0].split(' ').next().unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - seconds).abs() < 10.0, "{unix:?}");
    assert!(lines(&pair, "-ttt")[0].starts_with(" 00:00:00.000000 "));
    assert_eq!(lines(&pair, "-tttt")[0].split(' ').next().unwrap().len(), "2026-11-23".len());
}

#[test]
fn an_icmp_error_of_a_real_router_says_whose_packet_was_too_big() {
    let pair = Pair::new();
    run("ip", &["netns", "exec", pair.b.name(), "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    pair.b.ip("link add narrow mtu 1000 type veth peer name end");
    pair.b.ip("addr add 10.9.1.1/24 dev narrow");
    pair.b.ip("link set narrow up");
    pair.b.ip("link set end up");
    pair.a.ip("route add 10.9.1.0/24 via 10.9.0.2");
    let mut child = start(&[&pair.a.source(), "-q", "-c", "1", "--", "icmp[0] = 3"]);
    wait_until("the error of the router", || {
        let words = "-c 1 -W 1 -M do -s 1200 10.9.1.2";
        let mut ping = std::process::Command::new("ip");
        ping.args(["netns", "exec", pair.a.name(), "ping"]).args(words.split(' '));
        let _ = ping.output().unwrap();
        pair.a.ip("route flush cache");
        child.try_wait().unwrap().is_some()
    });
    let output = child.wait_with_output().unwrap();
    let line = stdout(&output);
    assert!(line.contains("ICMP 10.9.1.2 unreachable - need to frag (mtu 1000), length "), "{line}");
    assert!(
        line.contains("; quotes ICMP 10.9.0.1 > 10.9.1.2 id ") && line.ends_with(" seq 1, 1228 bytes\n"),
        "{line}"
    );
}

#[test]
fn a_terminal_gets_colours_and_a_file_a_status_line_and_quiet_neither() {
    let pair = Pair::new();
    let (program, source) = (env!("CARGO_BIN_EXE_nsprobe"), pair.a.source());
    let _ping = pair.ping("-i 0.05");
    let mut terminal = Terminal::run(&format!("TERM=xterm {program} capture {source} -n -c 2 -- icmp"));
    terminal.wait_for("\x1b[36mnetns:");
    assert_eq!(terminal.exit_code(), 0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pcapng");
    let command = format!("{program} capture {source} --duration 2500ms -w {} -- icmp", file.display());
    let mut terminal = Terminal::run(&command);
    terminal.wait_for(" packets, ");
    terminal.wait_for("/s, 0 dropped, 1 s");
    terminal.wait_for("captured");
    assert_eq!(terminal.exit_code(), 0);
    assert!(size(&file) > 0 && tshark(&file, &["icmp.type"]).len() > 20);
    let quiet = folder.path().join("quiet.pcapng");
    let command =
        format!("{program} capture {source} -q --duration 1500ms -w {} -- icmp; echo end", quiet.display());
    let mut terminal = Terminal::run(&command);
    wait_until("the file's header", || size(&quiet) > 0);
    assert_eq!(terminal.shown_until("end"), "", "nothing but the end");
}
