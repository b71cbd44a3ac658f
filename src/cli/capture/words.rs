//! Filters in words: `--port`, `--host`, `--icmp-errors`, `--tcp-flags`.

use crate::capture::{Network, Words, tcp_flags};
use crate::cli::{Context, Failure};
use crate::pods::{self, ResolveError};
use clap::Args;
use std::net::IpAddr;

/// Words that stand for a filter; they hold for IPv4 and IPv6.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which packets")]
pub(crate) struct WordArgs {
    /// Packets to or from this TCP, UDP or SCTP port, or a range; several: any of them.
    #[arg(long, value_name = "PORT[-PORT]", value_delimiter = ',', value_parser = port)]
    port: Vec<(u16, u16)>,
    /// Packets to or from this address, network or pod of this node; several: any of them.
    #[arg(long, value_name = "IP|NET|pod:NAME", value_delimiter = ',', value_parser = host)]
    host: Vec<HostWord>,
    /// TCP with one of these flags set; syn+ack: with both.
    #[arg(long, value_name = "FLAGS", value_delimiter = ',', value_parser = flags)]
    tcp_flags: Vec<u8>,
    /// ICMP errors about what the other words say, and that too; alone: every ICMP error and nothing else.
    #[arg(long)]
    icmp_errors: bool,
}

/// One value of `--host`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum HostWord {
    Network(Network),
    Pod(String),
}

impl WordArgs {
    /// What they stand for, and the names of the addresses of pods among them.
    ///
    /// # Errors
    /// Code 3 for a pod that is not there.
    pub(super) fn resolve(&self, context: &Context) -> Result<(Words, Vec<(IpAddr, String)>), Failure> {
        let (mut hosts, mut names) = (Vec::new(), Vec::new());
        for word in &self.host {
            match word {
                HostWord::Network(network) => hosts.push(*network),
                HostWord::Pod(selector) => {
                    let (name, addresses) = addresses_of(context, selector)?;
                    hosts.extend(addresses.iter().copied().map(Network::from));
                    names.extend(addresses.into_iter().map(|address| (address, name.clone())));
                }
            }
        }
        let words = Words {
            hosts,
            ports: self.port.clone(),
            tcp_flags: self.tcp_flags.clone(),
            icmp_errors: self.icmp_errors,
        };
        Ok((words, names))
    }
}

/// Name and addresses of `pod:[namespace/]name`.
fn addresses_of(context: &Context, selector: &str) -> Result<(String, Vec<IpAddr>), Failure> {
    let name = selector.trim_start_matches("pod:");
    let elsewhere = format!(
        "a pod of another node: give its IP (kubectl get pod -A -o wide | grep {})",
        name.rsplit('/').next().unwrap_or(name)
    );
    let found = pods::resolve(&context.pods(), selector).map_err(|error| match error {
        ResolveError::NotFound(message) => {
            Failure::unresolved(format!("--host: {}", message.replace(" pod pod:", " pod "))).hint(&elsewhere)
        }
        error => error.into(),
    })?;
    let Some(pod) = found.pod else {
        return Err(Failure::unresolved(format!("--host: no pod {name} on this node")).hint(elsewhere));
    };
    if found.host_network || pod.host_network == Some(true) {
        return Err(Failure::unresolved(format!("--host: {} uses the node's own network", pod.full_name()))
            .hint("give an address of the node"));
    }
    if pod.ips.is_empty() {
        return Err(Failure::unresolved(format!("--host: {} has no known IP", pod.full_name())).hint(
            format!("give its IP: nsprobe exec pod:{} -- ip addr shows what it has", pod.full_name()),
        ));
    }
    Ok((pod.full_name(), pod.ips))
}

fn port(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|&p| p > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(_), Some(_)) => Err("the first port of a range is the lower one: 8000-8080".into()),
        _ => Err("a port is a number from 1 to 65535, a range two of them: 80, 8000-8080".into()),
    }
}

fn host(text: &str) -> Result<HostWord, String> {
    if let Some(name) = text.strip_prefix("pod:") {
        return if name.is_empty() {
            Err("pod: wants a name".into())
        } else {
            Ok(HostWord::Pod(text.into()))
        };
    }
    if let Some(network) = Network::parse(text) {
        return Ok(HostWord::Network(network));
    }
    Err(match text.split_once('/') {
        Some((address, length)) if address.parse::<IpAddr>().is_ok() => {
            format!("{address} is no network of length {length}: bits behind the length must be zero")
        }
        _ => format!(
            "an address, a network or pod:NAME; names of hosts are not looked up (a pod is pod:{text})"
        ),
    })
}

fn flags(text: &str) -> Result<u8, String> {
    tcp_flags(text)
        .ok_or_else(|| "flags are fin, syn, rst, psh, ack, urg, ece, cwr; joined by + all must be set".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_port_host_or_flag_is_refused_in_a_sentence() {
        assert_eq!(port("8000-8080"), Ok((8000, 8080)));
        for (text, said) in [("0", "1 to 65535"), ("http", "1 to 65535"), ("90-80", "lower"), ("1-", "range")]
        {
            assert!(port(text).unwrap_err().contains(said), "{text}");
        }
        assert_eq!(host("pod:a/b"), Ok(HostWord::Pod("pod:a/b".into())));
        assert_eq!(host("10.0.0.0/8"), Ok(HostWord::Network(Network::parse("10.0.0.0/8").unwrap())));
        for (text, said) in [("web-0", "pod:web-0"), ("pod:", "a name"), ("10.0.0.1/8", "must be zero")] {
            assert!(host(text).unwrap_err().contains(said), "{text}");
        }
        assert!(flags("syn,rst").is_err() && flags("syn+ack") == Ok(0x12));
    }
}
