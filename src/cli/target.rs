//! TARGET → an address, as SOURCE itself would see it.

use super::elsewhere::{Elsewhere, from_api};
use super::{Context, Failure};
use crate::observe::resolve::{self, Addresses, Family, Lookup, LookupError};
use crate::pods::{self, Source};
use clap::Args;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// For all questions to name servers together.
pub(super) const LOOKUP_DEADLINE: Duration = Duration::from_secs(2);

/// `-4` and `-6`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct FamilyArgs {
    /// Use IPv4 only.
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6 only.
    #[arg(short = '6')]
    ipv6: bool,
}

impl FamilyArgs {
    /// The family that was asked for.
    pub(crate) fn family(self) -> Option<Family> {
        match (self.ipv4, self.ipv6) {
            (true, _) => Some(Family::V4),
            (_, true) => Some(Family::V6),
            _ => None,
        }
    }
}

/// A TARGET that was resolved; nothing has been sent to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedTarget {
    /// What the person typed.
    pub input: String,
    /// The address to use.
    pub address: IpAddr,
    /// Interface index in SOURCE's namespace; set for link-local addresses.
    pub scope_id: Option<u32>,
    /// How the address was found, for people: `as given`, `web.default.svc.cluster.local A, server 10.96.0.10 (resolv.conf of default/web-0)`.
    pub how: String,
    /// The other addresses that were found and not chosen.
    pub others: Vec<IpAddr>,
    /// The name that a server knew, with the search domain that fitted; `None` when no server was asked.
    pub found_as: Option<String>,
    /// Names with search domains that were asked for before it, in vain.
    pub names_before: u32,
}

/// Why TARGET has no address.
#[derive(Debug)]
pub enum TargetError {
    /// A host name that could not be looked up.
    Lookup {
        /// What the name servers said or did not say.
        error: LookupError,
        /// The same as the command's end.
        failure: Failure,
    },
    /// Anything else.
    Other(Failure),
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Lookup { failure, .. } | TargetError::Other(failure) => failure,
        }
    }
}

impl From<Failure> for TargetError {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

/// Resolves TARGET: an address, `pod:[namespace/]name`, or a host name asked for from inside SOURCE's
/// namespace with SOURCE's own resolv.conf and hosts file.
///
/// # Errors
/// Code 3 with the reason, and 2 when TARGET can be nothing of this.
pub fn resolve(
    context: &Context,
    source: &Source,
    text: &str,
    family: Option<Family>,
    elsewhere: &Elsewhere,
) -> Result<ResolvedTarget, Failure> {
    Ok(find(&context.pods(), source, text, family, elsewhere)?)
}

/// As [`resolve`], on any thread; a name that could not be looked up is told from other errors.
///
/// # Errors
/// [`TargetError`].
pub fn find(
    options: &pods::Options,
    source: &Source,
    text: &str,
    family: Option<Family>,
    elsewhere: &Elsewhere,
) -> Result<ResolvedTarget, TargetError> {
    if let Some(literal) = parse_literal(text) {
        return Ok(from_literal(source, text, literal, family)?);
    }
    if text.starts_with("pod:") {
        return Ok(from_pod(options, source, text, family, elsewhere)?);
    }
    check_name(text)?;
    from_name(options, source, text, family)
}

/// Whether TARGET has to be looked up.
pub(super) fn is_name(text: &str) -> bool {
    parse_literal(text).is_none() && !text.starts_with("pod:")
}

/// An address and what stands after `%`.
fn parse_literal(text: &str) -> Option<(IpAddr, Option<&str>)> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    match bare.split_once('%') {
        Some((address, zone)) => Some((IpAddr::V6(address.parse::<Ipv6Addr>().ok()?), Some(zone))),
        None => Some((bare.parse::<IpAddr>().ok()?.to_canonical(), None)),
    }
}

fn from_literal(
    source: &Source,
    text: &str,
    (address, zone): (IpAddr, Option<&str>),
    family: Option<Family>,
) -> Result<ResolvedTarget, Failure> {
    if let Some(wanted) = family
        && wanted != Family::of(address)
    {
        return Err(Failure::usage(format!("{text} is no {} address", wanted.name()))
            .hint("leave -4 and -6 away, or give another target"));
    }
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return Err(no_single_host(text));
    }
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let scope_id = match zone {
        Some(zone) if link_local => {
            let index = resolve::interface_index(&source.netns, zone)?.map_err(|e| {
                Failure::unresolved(format!("{} has no interface {zone} for {text}: {e}", source.label))
                    .hint(format!("nsprobe exec {} -- ip link", source.label))
            })?;
            Some(index)
        }
        Some(_) => {
            return Err(Failure::usage(format!("{text}: only link-local addresses have an interface")));
        }
        None if link_local => {
            return Err(Failure::usage(format!("{text} is link-local: which interface?"))
                .hint(format!("{text}%eth0, with an interface of {}", source.label)));
        }
        None => None,
    };
    Ok(ResolvedTarget {
        input: text.to_owned(),
        address,
        scope_id,
        how: "as given".to_owned(),
        others: Vec::new(),
        found_as: None,
        names_before: 0,
    })
}

/// A broadcast, a multicast group or no address at all.
pub(super) fn no_single_host(text: &str) -> Failure {
    Failure::usage(format!("{text} is not the address of one host"))
}

fn from_pod(
    options: &pods::Options,
    source: &Source,
    text: &str,
    family: Option<Family>,
    elsewhere: &Elsewhere,
) -> Result<ResolvedTarget, Failure> {
    let selector = text.strip_prefix("pod:").unwrap_or(text);
    let of_another = |mut failure: Failure| {
        failure.message = failure.message.replace(" pod pod:", " pod ");
        failure.hint(format!(
            "a pod of another node: --kubeconfig FILE, or give its IP (kubectl get pod -A -o wide | grep {})",
            selector.rsplit('/').next().unwrap_or(selector)
        ))
    };
    let found = match pods::resolve(options, text) {
        Ok(found) => found,
        Err(pods::ResolveError::NotFound(here)) => {
            return from_api(options, text, selector, family, elsewhere).map_err(|why| {
                let mut failure = of_another(pods::ResolveError::NotFound(here).into());
                failure.message.push_str(&format!("; {why}"));
                failure
            });
        }
        Err(error) => return Err(of_another(error.into())),
    };
    let Some(pod) = found.pod else {
        return Err(of_another(Failure::unresolved(format!("no pod {selector} on this node"))));
    };
    if found.host_network || pod.host_network == Some(true) {
        return Err(Failure::unresolved(format!("{} uses the node's own network", pod.full_name()))
            .hint("give an address of the node it runs on"));
    }
    let fitting: Vec<IpAddr> =
        pod.ips.iter().copied().filter(|a| family.is_none_or(|f| f == Family::of(*a))).collect();
    let Some((&first, _)) = fitting.split_first() else {
        let kind = family.map_or("IP", Family::name);
        return Err(Failure::unresolved(format!("{} has no known {kind} address", pod.full_name())).hint(
            format!("give its IP: nsprobe exec pod:{} -- ip addr shows what it has", pod.full_name()),
        ));
    };
    // The primary address unless only another one can be reached.
    let chosen = match resolve::choose(&source.netns, &[first])? {
        Some(_) => first,
        None => {
            resolve::choose(&source.netns, &fitting)?.and_then(|at| fitting.get(at)).copied().unwrap_or(first)
        }
    };
    Ok(with_others(text, chosen, &fitting, format!("IP of pod {} on this node", pod.full_name())))
}

fn from_name(
    options: &pods::Options,
    source: &Source,
    name: &str,
    family: Option<Family>,
) -> Result<ResolvedTarget, TargetError> {
    let failed = |error: pods::ListError| Failure::from(error);
    let resolv_conf = pods::resolv_conf(options, source).map_err(failed)?.unwrap_or_default();
    let hosts = pods::hosts(options, source).map_err(failed)?.unwrap_or_default();
    let lookup = Lookup { resolv_conf: &resolv_conf, hosts: &hosts, family, deadline: LOOKUP_DEADLINE };
    let found = resolve::look_up(&source.netns, name, &lookup).map_err(|error| match error {
        LookupError::NetNs(error) => TargetError::Other(error.into()),
        error => {
            let message = format!("cannot resolve {name}: {error} (resolv.conf of {})", source.label);
            let failure = Failure::unresolved(message).hint(next_step(&error, &source.label));
            TargetError::Lookup { error, failure }
        }
    })?;
    let how = describe(&found, &source.label);
    let chosen = resolve::choose(&source.netns, &found.addresses)
        .map_err(Failure::from)?
        .and_then(|at| found.addresses.get(at))
        .or(found.addresses.first())
        .copied()
        .ok_or_else(|| Failure::unresolved(format!("cannot resolve {name}: no address")))?;
    let target = with_others(name, chosen, &found.addresses, how);
    let candidates = resolve::ResolvConf::parse(&resolv_conf).candidates(name);
    let before = candidates.iter().position(|candidate| Some(candidate) == found.name.as_ref()).unwrap_or(0);
    Ok(ResolvedTarget {
        found_as: found.name,
        names_before: u32::try_from(before).unwrap_or(u32::MAX),
        ..target
    })
}

pub(super) fn with_others(input: &str, address: IpAddr, all: &[IpAddr], mut how: String) -> ResolvedTarget {
    let others: Vec<IpAddr> = all.iter().copied().filter(|a| *a != address).collect();
    if let Some(other) = others.iter().find(|a| a.is_ipv4() != address.is_ipv4()) {
        let flag = if other.is_ipv4() { "-4" } else { "-6" };
        how.push_str(&format!("; {} was chosen, {flag} asks for {other}", Family::of(address).name()));
    }
    ResolvedTarget {
        input: input.to_owned(),
        address,
        scope_id: None,
        how,
        others,
        found_as: None,
        names_before: 0,
    }
}

fn describe(found: &Addresses, label: &str) -> String {
    match (&found.name, found.server) {
        (Some(name), Some(server)) => format!("{name} by server {server} (resolv.conf of {label})"),
        _ => format!("hosts file of {label}"),
    }
}

fn next_step(error: &LookupError, label: &str) -> String {
    match error {
        LookupError::Silent { servers, .. } => match servers.first() {
            Some(server) => {
                format!("is the way to DNS broken? nsprobe mtu {label} {server}; else give an address")
            }
            None => "give an address".to_owned(),
        },
        LookupError::NoAddress { .. } => "try the other family (-4, -6), or give an address".to_owned(),
        LookupError::NoSuchName { .. } => {
            "check the spelling and the namespace, or give an address".to_owned()
        }
        _ => "look at the cluster's DNS pods, or give an address".to_owned(),
    }
}

/// Refuses what can be no host name before anything is asked.
fn check_name(text: &str) -> Result<(), Failure> {
    let wrong = |why: String| Err(Failure::usage(why));
    if text.contains("://") || text.contains('/') {
        return wrong(format!("{text} is no TARGET: give a host name without scheme and path"));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return wrong(format!("{text} is no TARGET: write {host} --port {port}"));
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return wrong(format!("{text} is no IPv4 address: four numbers from 0 to 255"));
    }
    if text.is_empty() {
        return wrong("an empty TARGET: an address, a host name or pod:[namespace/]name is expected".into());
    }
    if !resolve::is_host_name(text) {
        return wrong(format!("{text} is no TARGET: an address, a host name or pod:[namespace/]name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;

    fn source() -> Source {
        Source {
            label: "default/web-0".into(),
            pod: None,
            container_id: None,
            pid: None,
            host_network: false,
            netns: NetNs::own().unwrap(),
            degraded: None,
        }
    }

    #[test]
    fn literals_are_read_as_people_write_them() {
        let address = |text| parse_literal(text).map(|(a, z)| (a.to_string(), z.map(str::to_owned)));
        assert_eq!(address("10.0.0.1"), Some(("10.0.0.1".into(), None)));
        assert_eq!(address("[2001:db8::1]"), Some(("2001:db8::1".into(), None)));
        assert_eq!(address("::ffff:10.0.0.1"), Some(("10.0.0.1".into(), None)));
        assert_eq!(address("fe80::1%eth0"), Some(("fe80::1".into(), Some("eth0".into()))));
        for text in ["10.0.0.1%eth0", "10.0.0", "web", ""] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn what_can_be_no_target_is_refused_before_anything_is_asked() {
        for (text, said) in [
            ("http://web/", "without scheme"),
            ("web:80", "web --port 80"),
            ("10.0.0.300", "four numbers"),
            ("10.1", "four numbers"),
            ("a b", "a host name or pod:"),
            ("", "an empty TARGET"),
        ] {
            let failure = check_name(text).unwrap_err();
            assert_eq!(failure.code, 2);
            assert!(failure.message.contains(said), "{text}: {}", failure.message);
        }
        assert!(check_name("web-0.web.default.svc").is_ok());
    }

    #[test]
    fn an_address_of_no_single_host_or_of_the_other_family_is_refused() {
        let literal = |text: &str, family| {
            from_literal(&source(), text, parse_literal(text).unwrap(), family).map_err(|f| f.code)
        };
        assert_eq!(literal("10.0.0.1", Some(Family::V6)), Err(2));
        for text in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "fe80::1", "2001:db8::1%lo"]
        {
            assert_eq!(literal(text, None), Err(2), "{text}");
        }
        assert_eq!(literal("10.0.0.1", Some(Family::V4)).unwrap().how, "as given");
    }

    #[test]
    fn the_choice_of_a_family_is_told() {
        let all = ["2001:db8::1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let target = with_others("web", all[0], &all, "x".into());
        assert_eq!(target.how, "x; IPv6 was chosen, -4 asks for 10.0.0.1");
        assert_eq!(target.others, [all[1]]);
    }
}
