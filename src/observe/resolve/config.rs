//! resolv.conf(5) and hosts(5) of a pod: hostile text, read with bounds.

use std::net::IpAddr;
use std::time::Duration;

/// No more of a file than this is looked at, bytes.
const MAX_TEXT: usize = 64 * 1024;
/// `MAXNS`, resolv.h.
const MAX_SERVERS: usize = 3;
/// `MAXDNSRCH`, resolv.h.
const MAX_SEARCH: usize = 6;

/// A name server: its address, and the interface of a link-local one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The address.
    pub address: IpAddr,
    /// What stands after `%`: an interface of the pod.
    pub zone: Option<String>,
}

/// How names are looked up.
///
/// Source: resolv.conf(5); the bounds are glibc's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// At most 3, in order; never empty: without one it is the loopback address.
    pub servers: Vec<Server>,
    /// At most 6 domains without their last dot.
    pub search: Vec<String>,
    /// A name with fewer dots is tried in the search domains first.
    pub ndots: usize,
    /// Time for one server to answer.
    pub timeout: Duration,
    /// How often every server is asked.
    pub attempts: u32,
    /// Whether a server is named at all; else the loopback address stands in.
    pub named: bool,
    /// Servers beyond the 3 that count.
    pub ignored_servers: u32,
}

impl ResolvConf {
    /// Reads the text; what is not understood is passed over, as the C library does.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            named: false,
            ignored_servers: 0,
        };
        for line in bounded(text).lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if conf.servers.len() < MAX_SERVERS => {
                    conf.servers.extend(words.next().and_then(parse_server));
                }
                Some("nameserver") => conf.ignored_servers = conf.ignored_servers.saturating_add(1),
                // The last of several lines counts.
                Some("search" | "domain") => {
                    conf.search = words
                        .map(|w| w.strip_suffix('.').unwrap_or(w))
                        .filter(|w| is_host_name(w))
                        .take(MAX_SEARCH)
                        .map(str::to_owned)
                        .collect();
                }
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        conf.named = !conf.servers.is_empty();
        if !conf.named {
            conf.servers.push(Server { address: IpAddr::from([127, 0, 0, 1]), zone: None });
        }
        conf
    }

    fn option(&mut self, word: &str) {
        let Some((name, value)) = word.split_once(':') else { return };
        let Ok(number) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.ndots = usize::try_from(number.min(15)).unwrap_or(15),
            "timeout" => self.timeout = Duration::from_secs(u64::from(number.clamp(1, 30))),
            "attempts" => self.attempts = number.clamp(1, 5),
            _ => {}
        }
    }

    /// The names to ask for, in order, without last dots (resolv.conf(5), `search` and `ndots`).
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched =
            self.search.iter().map(|domain| format!("{name}.{domain}")).filter(|n| is_host_name(n));
        let as_it_is = std::iter::once(name.to_owned());
        if name.matches('.').count() >= self.ndots {
            as_it_is.chain(searched).collect()
        } else {
            searched.chain(as_it_is).collect()
        }
    }
}

/// `10.96.0.10`, `fe80::1%eth0`.
fn parse_server(word: &str) -> Option<Server> {
    let (address, zone) = match word.split_once('%') {
        Some((address, zone)) => (address, Some(zone.to_owned())),
        None => (word, None),
    };
    Some(Server { address: address.parse().ok()?, zone })
}

/// The addresses of `name` in a hosts file, in its order.
///
/// Source: hosts(5).
pub fn hosts_lookup(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut found = Vec::new();
    for line in bounded(text).lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !found.contains(&address) {
            found.push(address);
        }
        if found.len() >= 16 {
            break;
        }
    }
    found
}

/// Whether a text can be asked for over DNS: labels of 1 to 63 letters, digits, `-` and `_`, 253 in all.
///
/// Source: RFC 1123 §2.1; the underscore is met in service names.
pub fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// The first part of a text, cut where a character ends.
fn bounded(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KUBELET: &str = "search default.svc.cluster.local svc.cluster.local cluster.local\n\
        nameserver 10.96.0.10\noptions ndots:5\n";

    #[test]
    fn what_a_kubelet_writes_is_understood() {
        let conf = ResolvConf::parse(KUBELET);
        assert_eq!(conf.servers, [Server { address: [10, 96, 0, 10].into(), zone: None }]);
        assert_eq!((conf.ndots, conf.attempts, conf.timeout), (5, 2, Duration::from_secs(5)));
        assert_eq!(
            conf.candidates("web"),
            ["web.default.svc.cluster.local", "web.svc.cluster.local", "web.cluster.local", "web"]
        );
        assert_eq!(conf.candidates("a.b.c.d.e.f").first().unwrap(), "a.b.c.d.e.f");
        assert_eq!(conf.candidates("web.example."), ["web.example"]);
    }

    #[test]
    fn garbage_lines_are_passed_over_and_lists_are_bounded() {
        let many: String = (0..99).map(|i| format!("nameserver 10.0.0.{i}\n")).collect();
        let search = format!("search {}\n", "d.example ".repeat(99));
        let text = format!(
            "# c\n;c\nnameserver\nnameserver x\nnameserver fe80::1%eth0\n{many}{search}\
             options ndots:99 timeout:0 attempts:99 ndots:x rotate\n\u{0}\u{1b}[31m\n"
        );
        let conf = ResolvConf::parse(&text);
        assert_eq!((conf.servers.len(), conf.named, conf.ignored_servers), (3, true, 97));
        assert_eq!(conf.servers[0].zone.as_deref(), Some("eth0"));
        assert_eq!(conf.search.len(), 6);
        assert_eq!((conf.ndots, conf.attempts, conf.timeout), (15, 5, Duration::from_secs(1)));
    }

    #[test]
    fn an_empty_file_means_the_loopback_server() {
        let empty = ResolvConf::parse("");
        assert_eq!((empty.servers[0].address, empty.named), (IpAddr::from([127, 0, 0, 1]), false));
        assert_eq!(ResolvConf::parse("search a b\ndomain c.example.\n").search, ["c.example"]);
    }

    #[test]
    fn hosts_are_found_by_any_of_their_names() {
        let text = "127.0.0.1 localhost # web\n10.0.0.7\tweb-0.web.default web-0\n::7 WEB-0\nbad web-0\n";
        assert_eq!(hosts_lookup(text, "web-0"), [IpAddr::from([10, 0, 0, 7]), "::7".parse().unwrap()]);
        assert!(hosts_lookup(text, "web").is_empty());
        assert!(hosts_lookup(text, "10.0.0.7").is_empty());
    }

    #[test]
    fn host_names_are_told_from_other_text() {
        for name in ["web", "web-0.default", "_dns._udp.example.", "10.example"] {
            assert!(is_host_name(name), "{name}");
        }
        for wrong in
            ["", ".", "a..b", "a b", "http://x", "a:80", "\u{e4}.example", &"a".repeat(64), &"a.".repeat(200)]
        {
            assert!(!is_host_name(wrong), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_bounds(text in "(?s).{0,400}", name in "[a-z.]{1,40}") {
            let conf = ResolvConf::parse(&text);
            prop_assert!((1..=3).contains(&conf.servers.len()) && conf.search.len() <= 6);
            prop_assert!(conf.candidates(&name).len() <= 7);
            hosts_lookup(&text, &name);
        }

        #[test]
        fn nearly_right_text_breaks_nothing_either(
            lines in proptest::collection::vec("(nameserver|search|options|domain) [a-z0-9.:%-]{0,20}( [a-z.:0-9]{0,9}){0,3}", 0..20)
        ) {
            let conf = ResolvConf::parse(&lines.join("\n"));
            prop_assert!((1..=3).contains(&conf.servers.len()) && conf.search.len() <= 6);
        }
    }
}
