//! The walk over names and servers, without a network.

use super::*;
use std::cell::Cell;

/// Answers from a table of (server's last byte, name) and remembers who was asked for what.
struct Table<F> {
    answer: F,
    asked: Vec<(u8, String)>,
    clock: std::rc::Rc<Cell<Duration>>,
}

impl<F: FnMut(u8, &str) -> Option<Reply>> Ask for Table<F> {
    fn ask(
        &mut self,
        server: &Server,
        name: &str,
        families: &[Family],
        wait: Duration,
    ) -> io::Result<Vec<(Family, Reply)>> {
        let IpAddr::V4(v4) = server.address else { panic!() };
        let last = v4.octets()[3];
        self.asked.push((last, name.to_owned()));
        match (self.answer)(last, name) {
            Some(reply) => Ok(families.iter().map(|&f| (f, reply.clone())).collect()),
            None => {
                self.clock.set(self.clock.get() + wait);
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }
}

const CONF: &str = "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch a.example b.example\noptions ndots:2\n";

fn walked(
    answer: impl FnMut(u8, &str) -> Option<Reply>,
    name: &str,
) -> (Result<Addresses, LookupError>, Vec<(u8, String)>, Duration) {
    let clock = std::rc::Rc::new(Cell::new(Duration::ZERO));
    let mut table = Table { answer, asked: Vec::new(), clock: clock.clone() };
    let lookup =
        Lookup { resolv_conf: CONF, hosts: "", family: Some(Family::V4), deadline: Duration::from_secs(2) };
    let conf = ResolvConf::parse(CONF);
    let left = || lookup.deadline.saturating_sub(clock.get());
    let result = walk(&mut table, &conf, name, &lookup, left);
    (result, table.asked, clock.get())
}

fn address() -> Reply {
    Reply::Addresses(vec![[192, 0, 2, 1].into()])
}

#[test]
fn search_domains_are_tried_in_order_until_one_fits() {
    let (result, asked, _) =
        walked(|_, name| Some(if name == "web.b.example" { address() } else { Reply::NoSuchName }), "web");
    assert_eq!(result.unwrap().name.as_deref(), Some("web.b.example"));
    let names: Vec<_> = asked.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["web.a.example", "web.b.example"]);
}

#[test]
fn a_silent_server_is_passed_over_and_not_asked_first_again() {
    let (result, asked, _) = walked(
        |server, name| (server == 2).then(|| if name == "web" { address() } else { Reply::NoSuchName }),
        "web",
    );
    assert_eq!(result.unwrap().server, Some([10, 0, 0, 2].into()));
    let servers: Vec<_> = asked.iter().map(|(server, _)| *server).collect();
    assert_eq!(servers, [1, 2, 2, 2]);
}

#[test]
fn silence_of_all_ends_within_the_deadline_and_names_the_servers() {
    let (result, asked, elapsed) = walked(|_, _| None, "web");
    let error = result.unwrap_err().to_string();
    assert_eq!(error, "server 10.0.0.1, 10.0.0.2 did not answer in 2 s");
    assert_eq!(asked.len(), 4, "two attempts at each, for the first name only");
    assert!(elapsed <= Duration::from_secs(2));
}

#[test]
fn no_such_name_lists_what_was_tried() {
    let (result, ..) = walked(|_, _| Some(Reply::NoSuchName), "web");
    assert_eq!(
        result.unwrap_err().to_string(),
        "server 10.0.0.1 knows no such name (NXDOMAIN; tried web.a.example, web.b.example, web)"
    );
}

#[test]
fn a_name_without_an_address_of_the_family_is_not_a_name_that_is_missing() {
    let (result, ..) =
        walked(|_, n| Some(if n == "web" { Reply::NoRecord } else { Reply::NoSuchName }), "web");
    assert_eq!(
        result.unwrap_err().to_string(),
        "server 10.0.0.1 knows the name web, but no IPv4 address of it"
    );
}

#[test]
fn servfail_goes_to_the_next_server_and_is_told_in_the_end() {
    let (result, asked, _) = walked(|_, _| Some(Reply::Failed("SERVFAIL")), "web.x.example");
    assert!(matches!(result, Err(LookupError::Failed { answer: "SERVFAIL", .. })));
    assert_eq!(asked.len(), 6, "three names, two servers, once each");
    let (result, ..) = walked(
        |server, _| Some(if server == 1 { Reply::Failed("REFUSED") } else { address() }),
        "web.x.example",
    );
    assert_eq!(result.unwrap().server, Some([10, 0, 0, 2].into()));
}

#[test]
fn the_address_that_can_be_answered_is_chosen() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let addresses = [ip("192.0.2.1"), ip("2001:db8::1")];
    let v4 = Some(ip("192.0.2.9"));
    let choose = |sources: &[Option<IpAddr>]| preferred(&addresses, sources);
    assert_eq!(choose(&[v4, Some(ip("2001:db8::9"))]), Some(1), "both have a route: IPv6");
    assert_eq!(choose(&[v4, None]), Some(0));
    assert_eq!(choose(&[None, Some(ip("fd00::9"))]), Some(1));
    assert_eq!(choose(&[v4, Some(ip("fd00::9"))]), Some(0), "a private address reaches no public one");
    assert_eq!(choose(&[v4, Some(ip("fe80::9"))]), Some(0));
    assert_eq!(choose(&[None, None]), None);
}
