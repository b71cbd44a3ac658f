//! A range as host-local understands it.
//!
//! Source: containernetworking/plugins, plugins/ipam/host-local/backend/allocator/range.go (`Canonicalize`): the gateway
//! is the first address after the network's unless told otherwise, the last one is before the broadcast address of IPv4,
//! and fewer than two bits of host are refused.

use crate::facts::IpamRange;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The words of a range in a configuration file.
#[derive(Debug, Default, Clone, serde::Deserialize)]
pub(super) struct RangeWords {
    pub(super) subnet: Option<String>,
    #[serde(rename = "rangeStart")]
    start: Option<String>,
    #[serde(rename = "rangeEnd")]
    end: Option<String>,
    gateway: Option<String>,
}

impl RangeWords {
    pub(super) fn of_subnet(subnet: &str) -> Self {
        Self { subnet: Some(subnet.to_owned()), ..Self::default() }
    }

    /// The range that they make, or why host-local refuses it.
    pub(super) fn range(&self) -> Result<IpamRange, String> {
        let subnet = self.subnet.as_deref().unwrap_or_default();
        let (network, length) = parse_subnet(subnet)?;
        let is_v4 = network.is_ipv4();
        let bits = if is_v4 { 32 } else { 128 };
        if length > bits - 2 {
            return Err(format!("{subnet} is too small: host-local wants at least two bits of host"));
        }
        let mask = if length == 0 { 0 } else { u128::MAX << (bits - length) } & (u128::MAX >> (128 - bits));
        let base = number(network);
        if base & !mask != 0 {
            return Err(format!("{subnet} has bits of a host in it"));
        }
        let top = base | (!mask & (u128::MAX >> (128 - bits)));
        let address = |text: &Option<String>, default: u128| match text.as_deref().filter(|t| !t.is_empty()) {
            None => Ok(default),
            Some(text) => {
                let parsed: Option<IpAddr> = text.parse().ok();
                let inside = parsed.filter(|ip| ip.is_ipv4() == is_v4 && (base..=top).contains(&number(*ip)));
                inside.map(number).ok_or_else(|| format!("{text} is no address of {subnet}"))
            }
        };
        let first = address(&self.start, base + 1)?;
        let last = address(&self.end, top - u128::from(is_v4))?;
        if first > last {
            return Err(format!("the range in {subnet} ends before it starts"));
        }
        let gateway = match self.gateway.as_deref().filter(|t| !t.is_empty()) {
            // Outside of the subnet is fine.
            Some(text) => text.parse().map_err(|_| format!("{text} is no address"))?,
            None => from_number(base + 1, is_v4),
        };
        Ok(IpamRange {
            subnet: subnet.to_owned(),
            first: from_number(first, is_v4),
            last: from_number(last, is_v4),
            gateway,
        })
    }
}

fn parse_subnet(text: &str) -> Result<(IpAddr, u32), String> {
    let short: String = text.chars().take(60).collect();
    let parse = || {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let length: u32 = length.parse().ok()?;
        (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
    };
    parse().ok_or_else(|| format!("`{short}` is no subnet"))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn from_number(number: u128, is_v4: bool) -> IpAddr {
    if is_v4 {
        Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into()
    } else {
        Ipv6Addr::from(number).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(json: &str) -> Result<IpamRange, String> {
        serde_json::from_str::<RangeWords>(json).unwrap().range()
    }

    #[test]
    fn a_subnet_gives_what_host_local_gives() {
        for (json, size, first, last) in [
            (r#"{"subnet":"10.244.2.240/29"}"#, 5, "10.244.2.241", "10.244.2.246"),
            (r#"{"subnet":"10.244.2.0/24"}"#, 253, "10.244.2.1", "10.244.2.254"),
            (r#"{"subnet":"fd00::/125"}"#, 6, "fd00::1", "fd00::7"),
            (r#"{"subnet":"fd00::/64"}"#, u64::MAX - 1, "fd00::1", "fd00::ffff:ffff:ffff:ffff"),
            (
                r#"{"subnet":"10.0.0.0/29","rangeStart":"10.0.0.3","rangeEnd":"10.0.0.4"}"#,
                2,
                "10.0.0.3",
                "10.0.0.4",
            ),
            (r#"{"subnet":"10.0.0.0/29","gateway":"10.0.0.6","rangeStart":""}"#, 5, "10.0.0.1", "10.0.0.6"),
            (r#"{"subnet":"10.0.0.0/29","gateway":"10.9.9.9"}"#, 6, "10.0.0.1", "10.0.0.6"),
            (r#"{"subnet":"10.0.0.0/30"}"#, 1, "10.0.0.1", "10.0.0.2"),
        ] {
            let range = range(json).unwrap();
            assert_eq!(range.size(), Some(size), "{json}");
            assert_eq!(
                (range.first.to_string(), range.last.to_string()),
                (first.into(), last.into()),
                "{json}"
            );
        }
        assert_eq!(range(r#"{"subnet":"fd00::/48"}"#).unwrap().size(), None, "more than 64 bits hold");
        assert!(range(r#"{"subnet":"0.0.0.0/0"}"#).is_ok() && range(r#"{"subnet":"::/0"}"#).is_ok());
    }

    #[test]
    fn what_host_local_refuses_is_refused() {
        for json in [
            r#"{}"#,
            r#"{"subnet":"usePodCidr"}"#,
            r#"{"subnet":"10.0.0.0/31"}"#,
            r#"{"subnet":"10.0.0.0/33"}"#,
            r#"{"subnet":"fd00::/127"}"#,
            r#"{"subnet":"10.0.0.1/24"}"#,
            r#"{"subnet":"10.0.0.0/24","rangeStart":"10.0.1.1"}"#,
            r#"{"subnet":"10.0.0.0/24","rangeEnd":"fd00::1"}"#,
            r#"{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.9","rangeEnd":"10.0.0.8"}"#,
            r#"{"subnet":"10.0.0.0/24","gateway":"x"}"#,
        ] {
            assert!(range(json).is_err(), "{json}");
        }
    }
}
