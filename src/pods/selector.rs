//! SOURCE as it is typed: parsed without looking at the node.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What a SOURCE asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The node's own namespace.
    Host,
    /// A process.
    Pid(u32),
    /// A namespace file.
    NetNs(PathBuf),
    /// A pod IP.
    Ip(IpAddr),
    /// A pod by name.
    Pod(PodName),
    /// The start of a container, sandbox or pod-UID id; UIDs without their dashes.
    Id(String),
    /// A pod by name, and if no pod has it an id.
    PodOrId(PodName, String),
}

/// `[namespace/]pod[:container]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// The namespace; any when absent.
    pub namespace: Option<String>,
    /// The pod.
    pub pod: String,
    /// One of its containers.
    pub container: Option<String>,
}

/// Fewest hex digits of an id.
const FEWEST_DIGITS: usize = 6;

impl Selector {
    /// Reads a SOURCE: a prefix, `host`, an IP literal, a pod name, an id prefix, in this order.
    ///
    /// # Errors
    /// One sentence that says what is wrong and what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("pod", name)) => return PodName::parse(name).map(Self::Pod),
            Some(("id", id)) => {
                return parse_id(id).map(Self::Id).ok_or_else(|| {
                    format!("id:{id} is no id: at least {FEWEST_DIGITS} hex digits of a container, sandbox or pod UID")
                });
            }
            Some(("ip", ip)) => {
                return parse_ip(ip).map(Self::Ip).ok_or_else(|| format!("{ip} is no IP address"));
            }
            Some(("pid", pid)) => {
                let parsed = pid.parse().ok().filter(|&pid| pid > 0);
                return parsed.map(Self::Pid).ok_or_else(|| format!("{pid} is no PID: a number above 0"));
            }
            Some(("netns", name)) => return parse_netns(name).map(Self::NetNs),
            _ => {}
        }
        if text == "host" {
            return Ok(Self::Host);
        }
        if let Some(ip) = parse_ip(text) {
            return Ok(Self::Ip(ip));
        }
        let name = PodName::parse(text)?;
        Ok(match parse_id(text) {
            Some(id) => Self::PodOrId(name, id),
            None => Self::Pod(name),
        })
    }
}

impl PodName {
    fn parse(text: &str) -> Result<Self, String> {
        let (rest, container) = match text.split_once(':') {
            Some((rest, container)) => (rest, Some(container)),
            None => (text, None),
        };
        let (namespace, pod) = match rest.split_once('/') {
            Some((namespace, pod)) => (Some(namespace), pod),
            None => (None, rest),
        };
        let parts = [namespace, Some(pod), container];
        if let Some(bad) = parts.into_iter().flatten().find(|part| !is_name(part)) {
            return Err(if bad.is_empty() {
                format!("{text:?} names no pod: [namespace/]pod[:container] is expected")
            } else {
                format!("{bad:?} is no Kubernetes name: letters, digits, '-' and '.'")
            });
        }
        Ok(Self {
            namespace: namespace.map(ToOwned::to_owned),
            pod: pod.to_owned(),
            container: container.map(ToOwned::to_owned),
        })
    }
}

/// Pods that CRI clients make may have capitals and underscores; slashes, blanks and colons nobody has.
fn is_name(part: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    !part.is_empty() && part.len() <= 253 && part.bytes().all(known)
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    text.parse().ok()
}

/// Lower-case hex digits without a runtime's scheme (`containerd://`) and without the dashes of a UID.
fn parse_id(text: &str) -> Option<String> {
    let text = text.split_once("://").map_or(text, |(_, id)| id);
    let id = text.replace('-', "").to_ascii_lowercase();
    let hex = id.bytes().all(|b| b.is_ascii_hexdigit());
    (hex && (FEWEST_DIGITS..=64).contains(&id.len())).then_some(id)
}

fn parse_netns(name: &str) -> Result<PathBuf, String> {
    if name.is_empty() || name == "." || name == ".." {
        return Err("netns: needs a path, or a name under /run/netns".into());
    }
    Ok(if name.contains('/') { PathBuf::from(name) } else { Path::new("/run/netns").join(name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: Option<&str>, pod: &str, container: Option<&str>) -> PodName {
        PodName {
            namespace: namespace.map(Into::into),
            pod: pod.into(),
            container: container.map(Into::into),
        }
    }

    #[test]
    fn every_form_of_the_contract_is_read() {
        let uid = "1ffb5b8867344 9ea".replace(' ', "");
        for (text, expected) in [
            ("host", Selector::Host),
            ("pod:host", Selector::Pod(pod(None, "host", None))),
            ("web-0", Selector::Pod(pod(None, "web-0", None))),
            ("shop/web-0", Selector::Pod(pod(Some("shop"), "web-0", None))),
            ("shop/web-0:app", Selector::Pod(pod(Some("shop"), "web-0", Some("app")))),
            ("web-0:app", Selector::Pod(pod(None, "web-0", Some("app")))),
            ("pod:shop/web-0:app", Selector::Pod(pod(Some("shop"), "web-0", Some("app")))),
            ("10.244.1.5", Selector::Ip("10.244.1.5".parse().unwrap())),
            ("ip:10.244.1.5", Selector::Ip("10.244.1.5".parse().unwrap())),
            ("fd00::5", Selector::Ip("fd00::5".parse().unwrap())),
            ("[fd00::5]", Selector::Ip("fd00::5".parse().unwrap())),
            ("ip:fd00::5", Selector::Ip("fd00::5".parse().unwrap())),
            ("::1", Selector::Ip("::1".parse().unwrap())),
            ("pid:77", Selector::Pid(77)),
            ("netns:blue", Selector::NetNs("/run/netns/blue".into())),
            ("netns:/proc/7/ns/net", Selector::NetNs("/proc/7/ns/net".into())),
            ("netns:./x", Selector::NetNs("./x".into())),
            ("id:1ffb5b88-6734-49ea", Selector::Id(uid.clone())),
            ("id:containerd://1ffb5b8867344", Selector::Id("1ffb5b8867344".into())),
            ("1ffb5b88-6734-49ea", Selector::PodOrId(pod(None, "1ffb5b88-6734-49ea", None), uid)),
            ("deadbeef", Selector::PodOrId(pod(None, "deadbeef", None), "deadbeef".into())),
            ("abcde", Selector::Pod(pod(None, "abcde", None))),
        ] {
            assert_eq!(Selector::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "",
            ":",
            "/",
            "a/",
            "/a",
            "a:",
            "a/b/c",
            "a:b:c",
            "a b",
            "pid:",
            "pid:0",
            "pid:-1",
            "pid:x",
            "pid:99999999999",
            "netns:",
            "netns:..",
            "ip:",
            "ip:300.1.1.1",
            "id:",
            "id:abcde",
            "id:xyzxyz",
            "web\u{1b}[31m",
            "pod:",
            "../../etc/passwd",
            "a\0b",
        ] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
        assert!(Selector::parse(&"a".repeat(254)).is_err());
        assert!(Selector::parse(&format!("id:{}", "a".repeat(65))).is_err());
    }
}
