//! Refusals, loops and what is sent beside the search, on real namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;
use support::namespace_path::{NamespacePath, measure, scenario};
use support::{nsprobe, stdout};

/// The first packet is refused by a router, whatever its size, and all that come after it are answered.
#[test]
fn a_single_refusal_beside_a_clear_path_raises_no_alarm() {
    for (family, ip) in [(4, "ip"), (6, "ip6")] {
        let path = NamespacePath::build(&scenario(&format!(
            "about = 'clear'\nfamily = {family}\ninterface_mtu = 1500\nhop = [{{ mtu = 1500 }}]\n\
             expect = {{ verdict = 'clear', path_mtu = 1500 }}"
        )));
        let rules = format!(
            "add table inet t; add chain inet t f {{ type filter hook forward priority 0; }}; \
             add rule inet t f {ip} daddr {} limit rate 1/hour burst 1 packets reject with icmpx admin-prohibited",
            path.target()
        );
        path.router(1).nft(&rules);
        let output = nsprobe().args(["mtu", &path.source(), &path.target(), "-o", "json"]).output().unwrap();
        let document = support::schema::valid(&output.stdout);
        assert_eq!((output.status.code(), &document["verdict"]), (Some(0), &"clear".into()), "{document:#}");
        let said: Vec<_> = document["findings"].as_array().unwrap().iter().map(|f| &f["id"]).collect();
        // Over IPv6 it is a scout that was refused.
        assert_eq!(said, vec!["mtu.refused_at_times"; usize::from(family == 4)], "{document:#}");
    }
}

/// Linux has six such words, and then one a second: the size is exact all the same, and nothing is said to vanish.
#[test]
fn who_refuses_large_packets_is_named_with_the_size_and_in_words() {
    for (family, mtu) in [(4, 1400), (4, 1413), (6, 1399)] {
        let path = NamespacePath::build(&scenario(&format!(
            "about = 'refused'\nfamily = {family}\ninterface_mtu = 1500\n\
             hop = [{{ mtu = 1500 }}, {{ mtu = {mtu}, ptb = {{ refuses = 13 }} }}, {{ mtu = 1500 }}]\n\
             expect = {{ verdict = 'black_hole', path_mtu = {mtu} }}"
        )));
        let output = nsprobe().args(["mtu", &path.source(), &path.target()]).output().unwrap();
        let text = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(1), "{text}");
        let router = if family == 6 { "fd99:1::2" } else { "10.99.1.2" };
        assert!(text.contains(&format!("packets over {mtu} bytes are refused by {router}")), "{text}");
        let said = format!(
            "packets of {} bytes and more to {} are refused by {router} (administratively prohibited)",
            mtu + 1,
            path.target()
        );
        assert!(text.contains(&said) && text.contains("[mtu.refused_by_size"), "{text}");
        assert!(!text.contains("vanish"), "{text}");
    }
}

/// A router that answers large packets with another error: type and code are its first arguments.
const ANOTHER_ERROR: &str = r"
import socket, struct, sys
heard = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
heard.bind(('left', 0x0800))
out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
def total(data):
    words = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while words >> 16:
        words = (words & 0xffff) + (words >> 16)
    return ~words & 0xffff
while True:
    packet, where = heard.recvfrom(65535)
    if where[2] == socket.PACKET_HOST and struct.unpack('!H', packet[2:4])[0] > 1400:
        message = bytes([int(sys.argv[1]), int(sys.argv[2])]) + bytes(6) + packet[:64]
        message = message[:2] + struct.pack('!H', total(message)) + message[4:]
        out.sendto(message, (socket.inet_ntoa(packet[12:16]), 0))
";

#[test]
fn who_answers_large_packets_with_an_error_that_is_no_destination_unreachable_is_named_too() {
    for (kind, code, words) in [
        ("12", "0", "parameter problem"),
        ("11", "1", "time exceeded before its fragments were put together"),
    ] {
        let path = NamespacePath::build(&scenario(
            "about = 'another error'\ninterface_mtu = 1500\nhop = [{ mtu = 1500 }, { mtu = 1500 }]\n\
             expect = { verdict = 'black_hole', path_mtu = 1400 }",
        ));
        let router = path.router(1).name();
        let rules = "add table ip m; add chain ip m f { type filter hook forward priority 0; }; \
                     add rule ip m f meta length > 1400 drop";
        support::run("ip", &["netns", "exec", router, "nft", rules]);
        let speaks = std::process::Command::new("ip")
            .args(["netns", "exec", router, "python3", "-c", ANOTHER_ERROR, kind, code])
            .spawn()
            .unwrap();
        let _speaks = support::Running(speaks);
        std::thread::sleep(std::time::Duration::from_millis(400));
        let document = measure(&path);
        assert_eq!(
            (&document["verdict"], &document["path_mtu_bytes"]),
            (&"black_hole".into(), &1400.into()),
            "{document:#}"
        );
        let said = format!("packets of 1401 bytes and more to 10.99.2.2 are refused by 10.99.0.2 ({words})");
        assert!(document["findings"][0]["summary"].as_str().unwrap().starts_with(&said), "{document:#}");
        assert!(!document.to_string().contains("vanish"), "{document:#}");
        assert_eq!(document["narrowing"]["reporter"], "10.99.0.2", "{document:#}");
    }
}

#[test]
fn a_routing_loop_is_named_with_the_routers_in_it() {
    for (family, second, third) in [(4, "10.99.1.2", "10.99.2.2"), (6, "fd99:2::1", "fd99:2::2")] {
        let path = NamespacePath::build(&scenario(&format!(
            "about = 'a loop'\nfamily = {family}\ninterface_mtu = 1500\n\
             hop = [{{ mtu = 1500 }}, {{ mtu = 1500 }}, {{ mtu = 1500, sends_back = true }}, {{ mtu = 1500 }}]\n\
             expect = {{ verdict = 'unreachable' }}"
        )));
        let document = measure(&path);
        let (first, said) =
            (&document["findings"][0], |text: &str| document["findings"][0].to_string().contains(text));
        assert_eq!(
            (&document["verdict"], &first["id"]),
            (&"unreachable".into(), &"mtu.routing_loop".into()),
            "{document:#}"
        );
        assert!(said(second) && said(third) && said("hops that repeat"), "{document:#}");
        let probes = &document["probes"];
        // The hops that were asked.
        assert!(probes["answered"].as_u64().unwrap() <= 12, "{document:#}");
        let output = nsprobe().args(["mtu", &path.source(), &path.target(), "--no-locate"]).output().unwrap();
        let text = stdout(&output);
        assert!(text.contains("the packets go round in a loop") && text.contains("0 answered"), "{text}");
    }
}

/// Routers say time exceeded once a second: the size is that of the loop all the same, and so is the fix.
#[test]
fn a_loop_that_only_larger_packets_take_is_no_narrow_path() {
    let path = NamespacePath::build(&scenario(
        "about = 'a loop of larger packets'\ninterface_mtu = 1500\nhop = [{ mtu = 1500 }, { mtu = 1500 }]\n\
         expect = { verdict = 'black_hole', path_mtu = 1200 }",
    ));
    let router = path.router(2);
    let rules = format!(
        "add table ip m; add chain ip m p {{ type filter hook prerouting priority -150; }}; \
         add rule ip m p ip daddr {} meta length > 1200 meta mark set 7",
        path.target()
    );
    router.nft(&rules);
    router.ip("rule add fwmark 7 table 77");
    router.ip("route add default via 10.99.1.1 table 77");
    let document = measure(&path);
    assert_eq!(
        (&document["verdict"], &document["bounds"]["fails_bytes"]),
        (&"black_hole".into(), &1201.into()),
        "{document:#}"
    );
    let finding = |id: &str| {
        let all = document["findings"].as_array().unwrap();
        all.iter().find(|f| f["id"] == id).unwrap_or_else(|| panic!("{id}: {document:#}")).to_string()
    };
    let looped = finding("mtu.routing_loop");
    assert!(looped.contains("packets of 1201 bytes and more"), "{looped}");
    let black = finding("mtu.black_hole");
    assert!(black.contains("go round in a loop") && black.contains("Find the loop"), "{black}");
}

/// Probes of a search as the kernel of the source counts them, and what the document says.
fn counted(family: u8, hops: &str, words: &[&str]) -> (u64, serde_json::Value) {
    let path = NamespacePath::build(&scenario(&format!(
        "about = 'counted'\nfamily = {family}\ninterface_mtu = 1500\nhop = [{hops}]\n\
         expect = {{ verdict = 'clear', path_mtu = 1500 }}"
    )));
    let source = path.source_namespace().name();
    let rules = "add table inet c; add chain inet c o { type filter hook output priority 0; }; \
        add rule inet c o icmp type { echo-request, timestamp-request } counter; add rule inet c o icmpv6 type echo-request counter; \
        add rule inet c o meta l4proto 253 counter; add rule inet c o udp dport 0 counter";
    support::run("ip", &["netns", "exec", source, "nft", rules]);
    let output =
        nsprobe().args(["mtu", &path.source(), &path.target(), "-o", "json"]).args(words).output().unwrap();
    let document = support::schema::valid(&output.stdout);
    let list = std::process::Command::new("ip")
        .args(["netns", "exec", source, "nft", "list", "table", "inet", "c"])
        .output()
        .unwrap();
    let list = stdout(&list);
    let numbers =
        list.split("packets ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    (numbers.sum(), document)
}

#[test]
fn what_is_sent_beside_the_search_is_counted_and_bounded_with_it() {
    // In black holes with the burst that drop counters are watched for.
    for (family, hops) in [
        (6, "{ mtu = 1500 }"),
        (6, "{ mtu = 1500 }, { mtu = 1413 }"),
        (6, "{ mtu = 1500 }, { mtu = 1400, ptb = 'silent' }"),
        (4, "{ mtu = 1500 }, { mtu = 1400, ptb = 'silent' }"),
    ] {
        let (packets, document) = counted(family, hops, &[]);
        let probes = &document["probes"];
        let number = |name: &str| probes[name].as_u64().unwrap();
        assert_eq!(number("sent"), packets, "{family} {hops}: {document:#}");
        assert!(
            number("answered") + number("too_big") + number("lost") <= number("sent"),
            "{family} {hops}: {document:#}"
        );
        for most in [5, 12, 30, 45] {
            let (packets, document) = counted(family, hops, &["--max-probes", &most.to_string()]);
            assert!(packets <= most, "{family} {hops}: {packets} of {most}: {document:#}");
        }
    }
}

#[test]
fn a_low_rate_holds_up_neither_the_deadline_nor_the_user() {
    let path = NamespacePath::build(&scenario(
        "about = 'clear'\nfamily = 6\ninterface_mtu = 1500\nhop = [{ mtu = 1500 }]\n\
         expect = { verdict = 'clear', path_mtu = 1500 }",
    ));
    let begin = std::time::Instant::now();
    let words = ["--rate", "1", "-o", "json"];
    let mut command = nsprobe();
    let output =
        command.args(["mtu", &path.source(), &path.target(), "--deadline", "1500ms"]).args(words).output();
    support::schema::valid(&output.unwrap().stdout);
    assert!(begin.elapsed().as_millis() < 2000, "{:?}", begin.elapsed());
    let mut command = nsprobe();
    command.args(["mtu", &path.source(), &path.target()]).args(words).stdout(std::process::Stdio::piped());
    let begin = std::time::Instant::now();
    let child = command.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::SIGINT)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(begin.elapsed().as_millis() < 700, "{:?}", begin.elapsed());
}

/// A firewall that refuses all but a few packets, whatever their size, makes no path narrow.
#[test]
fn refusals_that_no_size_explains_are_no_black_hole() {
    for family in [4, 6] {
        let path = NamespacePath::build(&scenario(&format!(
            "about = 'few'\nfamily = {family}\ninterface_mtu = 1500\nhop = [{{ mtu = 1500 }}]\n\
             expect = {{ verdict = 'clear', path_mtu = 1500 }}"
        )));
        let target = path.target_namespace().name();
        support::run("ip", &["netns", "exec", target, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0"]);
        support::run("ip", &["netns", "exec", target, "sysctl", "-qw", "net.ipv6.icmp.ratelimit=0"]);
        let echo = if family == 4 { "icmp type echo-request" } else { "icmpv6 type echo-request" };
        let rules = format!(
            "add table inet m; add chain inet m p {{ type filter hook input priority 0; }}; \
             add rule inet m p {echo} limit rate 10/second burst 1 packets accept; \
             add rule inet m p {echo} reject with icmpx type host-unreachable"
        );
        support::run("ip", &["netns", "exec", target, "nft", &rules]);
        let document = measure(&path);
        assert_ne!(document["verdict"], "black_hole", "{document:#}");
        assert_ne!(document["verdict"], "narrowed", "{document:#}");
        let ids: Vec<_> = document["findings"].as_array().unwrap().iter().map(|f| &f["id"]).collect();
        assert!(!ids.iter().any(|id| *id == "mtu.refused_by_size"), "{document:#}");
    }
}

/// Others are let through: that they are no echo requests is all that makes the difference.
#[test]
fn a_target_whose_echo_requests_are_forbidden_is_measured_all_the_same() {
    for (family, reject) in [(4, "admin-prohibited"), (6, "admin-prohibited"), (4, "port-unreachable")] {
        for (mtu, verdict) in [(1500, "clear"), (1400, "narrowed")] {
            let path = NamespacePath::build(&scenario(&format!(
                "about = 'forbidden'\nfamily = {family}\ninterface_mtu = 1500\n\
                 hop = [{{ mtu = 1500 }}, {{ mtu = {mtu} }}, {{ mtu = 1500 }}]\n\
                 expect = {{ verdict = '{verdict}', path_mtu = {mtu} }}"
            )));
            let kind = if family == 4 { "icmp type" } else { "icmpv6 type" };
            let rules = format!(
                "add table inet t; add chain inet t f {{ type filter hook forward priority 0; }}; \
                 add rule inet t f {kind} echo-request reject with icmpx {reject}"
            );
            let router = if family == 6 { "fd99:1::2" } else { "10.99.1.2" };
            path.router(2).nft(&rules);
            let document = measure(&path);
            assert_eq!(
                (&document["verdict"], &document["path_mtu_bytes"]),
                (&verdict.into(), &mtu.into()),
                "{document:#}"
            );
            let findings = document["findings"].as_array().unwrap();
            let filtered = findings
                .iter()
                .find(|f| f["id"] == "mtu.echo_filtered")
                .unwrap_or_else(|| panic!("{document:#}"));
            let said = filtered["summary"].as_str().unwrap();
            assert!(said.contains(&format!("are refused by {router}")), "{said}");
            assert!(!document.to_string().contains("refused_at_times"), "{document:#}");
        }
    }
}

/// A router says packet too big once a second, and several searches ask at once: each is told in its turn.
#[test]
fn searches_that_run_at_once_share_the_words_of_a_router() {
    for family in [4, 6] {
        let path = NamespacePath::build(&scenario(&format!(
            "about = 'few words'\nfamily = {family}\ninterface_mtu = 1500\n\
             hop = [{{ mtu = 1500 }}, {{ mtu = 1400, ptb_limit = [1.0, 1.0] }}]\n\
             expect = {{ verdict = 'narrowed', path_mtu = 1400 }}"
        )));
        let target = path.target();
        let document = |words: &[&str]| -> serde_json::Value {
            let mut command = nsprobe();
            let output = command.args(["mtu", &path.source(), &target, "-o", "json"]).args(words).output();
            serde_json::from_str(&stdout(&output.unwrap())).unwrap()
        };
        let flows = document(&["--flows", "3"]);
        assert_eq!(
            (&flows["verdict"], &flows["path_mtu_bytes"]),
            (&"narrowed".into(), &1400.into()),
            "{flows:#}"
        );
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let targets = document(&[&target]);
        for result in targets["results"].as_array().unwrap() {
            assert_eq!(result["verdict"], "narrowed", "{targets:#}");
        }
        assert_eq!(targets["findings"], serde_json::json!([]), "{targets:#}");
    }
}
