//! libpcap's filter language: checked before anything is opened, and errors with their position.

use pcap::{Capture, Linktype};
use thiserror::Error;

/// A number that libpcap's scanner refuses, with a message of its own: a marker for how far its parser came.
const MARKER: &str = " 99999999999";

/// A filter that libpcap does not take.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bad filter: {message}{}", self.place())]
pub struct FilterError {
    /// The filter.
    pub filter: String,
    /// libpcap's words.
    pub message: String,
    /// Where the word begins at which libpcap gave up, in bytes; `None`: the filter as a whole is refused.
    pub position: Option<usize>,
}

impl FilterError {
    fn place(&self) -> String {
        let Some(position) = self.position else { return format!(" (filter: {})", self.filter) };
        match self.filter.get(position..).and_then(|rest| rest.split_whitespace().next()) {
            Some(word) => format!(" at character {} ({word}) of: {}", position + 1, self.filter),
            None => format!(" at its end, something is missing: {}", self.filter),
        }
    }

    /// Whether it failed for a name of a host, network or port, which only numbers can replace.
    pub fn is_about_a_name(&self) -> bool {
        ["unknown host", "unknown port", "unknown network", "unknown ether", "unknown protocol", "unknown ip"]
            .iter()
            .any(|start| self.message.starts_with(start))
    }
}

/// What one point lets through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PointFilter {
    /// In libpcap's language; empty: everything.
    pub text: String,
    /// And this of the packet as it is on the interface: what leaves out the connection that carries the output.
    pub exclusion: Option<String>,
    /// Where packets of tunnels pass, the text holds for what they carry too.
    pub inside: Option<Inside>,
}

/// The tunnels that are looked into beside Geneve and IP-in-IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// UDP ports of VXLAN.
    pub vxlan_ports: Vec<u16>,
}

impl PointFilter {
    /// Text and exclusion, both true.
    pub fn whole(&self) -> String {
        let filter = &self.text;
        match &self.exclusion {
            None => filter.clone(),
            Some(exclusion) if filter.trim().is_empty() => exclusion.clone(),
            Some(exclusion) => format!("({filter}) and {exclusion}"),
        }
    }
}

/// `a` and `b`, either of which may be empty.
pub fn both(a: &str, b: &str) -> String {
    match (a.trim(), b.trim()) {
        ("", other) | (other, "") => other.to_owned(),
        (a, b) => format!("{} and {}", bracketed(a), bracketed(b)),
    }
}

/// In brackets, unless it stands in one pair already.
fn bracketed(text: &str) -> String {
    let mut depth = 0;
    let closes = text.char_indices().find_map(|(at, c)| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        (depth == 0).then_some(at)
    });
    if closes == Some(text.len() - 1) && text.ends_with(')') { text.to_owned() } else { format!("({text})") }
}

/// Compiles `filter` for Ethernet without opening anything.
///
/// # Errors
/// [`FilterError`].
pub fn check_filter(filter: &str) -> Result<(), FilterError> {
    if let Some((position, name)) = host_name(filter) {
        let message = format!("unknown host {name}: names are not looked up");
        return Err(FilterError { filter: filter.to_owned(), message, position: Some(position) });
    }
    compile(filter).map_err(|message| FilterError {
        filter: filter.to_owned(),
        position: locate(filter, &message),
        message,
    })
}

/// A host or network given by name, and where. libpcap would ask the name servers of this machine for it, for
/// as long as they do not answer.
fn host_name(filter: &str) -> Option<(usize, &str)> {
    let mut before = "";
    for (start, end) in words(filter) {
        let word = filter.get(start..end)?;
        let named = match before {
            "host" | "net" | "gateway" => true,
            "src" | "dst" => {
                !matches!(word, "host" | "net" | "port" | "portrange" | "and" | "or" | "gateway")
            }
            _ => false,
        };
        // Addresses of IPv6 and of Ethernet have letters too, and colons.
        if named && word.contains(|c: char| c.is_alphabetic()) && !word.contains(':') {
            return Some((start, word));
        }
        before = word;
    }
    None
}

/// Compiles the filter; the error is libpcap's message.
fn compile(filter: &str) -> Result<(), String> {
    let handle = Capture::dead(Linktype::ETHERNET).map_err(|e| message_of(&e))?;
    handle.compile(filter, true).map(drop).map_err(|e| message_of(&e))
}

/// libpcap's own words.
pub(super) fn message_of(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(message) if !message.is_empty() => message.clone(),
        pcap::Error::InvalidInputString => "it holds a NUL byte".into(),
        other => other.to_string(),
    }
}

/// libpcap tells no position. Its scanner refuses [`MARKER`] only when its parser has come that far, so the
/// first word whose prefix plus marker still gives the filter's own error is the one it fails at.
fn locate(filter: &str, message: &str) -> Option<usize> {
    if message.contains("rejects all packets") {
        return None;
    }
    for (start, end) in words(filter) {
        let prefix = filter.get(..end)?;
        if compile(&format!("{prefix}{MARKER}")).is_err_and(|m| m == message) {
            return Some(start);
        }
    }
    Some(filter.len())
}

/// Start and end of each word: runs of blanks separate, brackets stand alone, operators stay together.
fn words(filter: &str) -> Vec<(usize, usize)> {
    #[derive(PartialEq, Clone, Copy)]
    enum Kind {
        Blank,
        Bracket,
        Operator,
        Word,
    }
    let kind = |c: char| match c {
        c if c.is_whitespace() => Kind::Blank,
        '(' | ')' | '[' | ']' => Kind::Bracket,
        '&' | '|' | '=' | '<' | '>' | '!' | '+' | '*' | '/' | '^' | '%' => Kind::Operator,
        _ => Kind::Word,
    };
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut before = Kind::Blank;
    for (at, c) in filter.char_indices() {
        let now = kind(c);
        let end = at + c.len_utf8();
        match found.last_mut() {
            Some(last) if now == before && now != Kind::Bracket && now != Kind::Blank => last.1 = end,
            _ if now != Kind::Blank => found.push((at, end)),
            _ => {}
        }
        before = now;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(filter: &str) -> Option<usize> {
        check_filter(filter).unwrap_err().position
    }

    #[test]
    fn a_host_by_name_is_refused_before_anybody_is_asked() {
        for filter in ["host web.example", "tcp and dst web", "src host db-0 and port 80", "net internal"] {
            let error = check_filter(filter).unwrap_err();
            assert!(error.is_about_a_name(), "{error}");
        }
        for filter in ["host fd00::1", "ether host 02:00:00:00:00:01", "src port 80", "dst net 10.0.0.0/8"] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
    }

    #[test]
    fn an_exclusion_holds_for_both_sides_of_an_or() {
        let exclusion = Some("not port 22".to_owned());
        let filter =
            |text: &str| PointFilter { text: text.into(), exclusion: exclusion.clone(), inside: None };
        assert_eq!(filter("tcp or udp").whole(), "(tcp or udp) and not port 22");
        assert_eq!(filter(" ").whole(), "not port 22");
        assert_eq!(PointFilter { exclusion: None, ..filter("tcp") }.whole(), "tcp");
        assert_eq!(both("tcp or udp", "host 10.0.0.1"), "(tcp or udp) and (host 10.0.0.1)");
        assert_eq!(both("(tcp) or (udp)", "(icmp or (arp))"), "((tcp) or (udp)) and (icmp or (arp))");
        assert_eq!((both("", "tcp"), both("tcp", " ")), ("tcp".into(), "tcp".into()));
    }

    #[test]
    fn good_filters_pass() {
        for filter in ["", "icmp", "tcp port 80 and host 10.0.0.1", "ip[6:2] & 0x1fff != 0", "ip6 proto 44"] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
    }

    #[test]
    fn the_word_at_which_libpcap_gives_up_is_named() {
        assert_eq!(position("tcp prot 80"), Some(4));
        assert_eq!(position("icmp or (udp and prt 53)"), Some(17));
        assert_eq!(position("tcp)"), Some(3));
        assert_eq!(position("tcp && host 1.2.3.400"), Some(12));
        assert_eq!(position("port 99999"), Some(5));
        let error = check_filter("tcp prot 80").unwrap_err().to_string();
        assert!(error.contains("syntax error at character 5 (prot)"), "{error}");
    }

    #[test]
    fn a_filter_that_stops_too_early_fails_at_its_end() {
        for filter in ["tcp and", "(tcp", "host"] {
            assert_eq!(position(filter), Some(filter.len()), "{filter}");
        }
    }

    #[test]
    fn a_filter_that_no_packet_can_pass_is_refused_as_a_whole() {
        assert_eq!(position("tcp and udp"), None);
    }

    #[test]
    fn an_unknown_name_asks_for_numbers() {
        let error = check_filter("tcp port nosuchservice").unwrap_err();
        assert!(error.is_about_a_name(), "{error}");
        assert_eq!(error.position, Some(9));
        assert!(!check_filter("tcp prot 80").unwrap_err().is_about_a_name());
    }

    #[test]
    fn odd_bytes_are_errors_not_panics() {
        for filter in ["\0", "tcp \0", "é", "'", "\\", "(((((((", "tcp\n\tprot"] {
            assert!(check_filter(filter).is_err(), "{filter:?}");
        }
    }
}
