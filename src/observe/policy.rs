//! Rules of `ip rule`: whether routes of another table than the main one count.
//!
//! Source: linux/fib_rules.h; kernel net/ipv4/fib_rules.c `fib_default_rules_init`, drivers/net/vrf.c.

use super::ObserveError;
use super::socket::Netlink;
use super::wire::{attributes, field};
use crate::facts::PolicyRules;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::rule::RuleMessage;

/// struct fib_rule_hdr.
const HEADER: usize = 12;

/// What the rules beside the kernel's own do. What the kernel refuses to tell counts as none: it has no policy routing.
///
/// # Errors
/// As [`Netlink::dump`], but for a refusal.
pub(super) fn read_policy(netlink: &mut Netlink) -> Result<PolicyRules, ObserveError> {
    let request = RouteNetlinkMessage::GetRule(RuleMessage::default());
    match netlink.dump("its rules", &request, |m| parse_policy(m).map(Some)) {
        // What cannot be read may be any.
        Ok(dump) if dump.unreadable > 0 => Ok(PolicyRules::ByInterface),
        Ok(dump) if !dump.items.iter().any(|rule| rule.elsewhere) => Ok(PolicyRules::None),
        Ok(dump) if dump.items.iter().any(|rule| rule.by_interface) => Ok(PolicyRules::ByInterface),
        Ok(_) => Ok(PolicyRules::Elsewhere),
        Err(ObserveError::Refused { .. }) => Ok(PolicyRules::None),
        Err(error) => Err(error),
    }
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawRule {
    /// It leads elsewhere than to the tables `local`, `main` and `default`, or stops packets. The rule for VRFs leads to
    /// no table of its own: only what is a port of one follows it.
    elsewhere: bool,
    /// It names an interface that packets come by; `lo` stands for the node's own packets, and is none.
    by_interface: bool,
}

/// One RTM_NEWRULE message.
pub(super) fn parse_policy(payload: &[u8]) -> Option<RawRule> {
    /// FRA_IIFNAME.
    const INTERFACE: u16 = 3;
    /// FRA_TABLE.
    const TABLE: u16 = 15;
    /// FRA_L3MDEV.
    const VRF: u16 = 19;
    /// FR_ACT_TO_TBL, FR_ACT_NOP.
    const TO_TABLE: u8 = 1;
    const NOTHING: u8 = 3;
    let [_, _, _, _, table, _, _, action] = field(payload, 0)?;
    let (mut table, mut vrf, mut by_interface) = (u32::from(table), false, false);
    for attribute in attributes(payload, HEADER) {
        match attribute.kind() {
            INTERFACE => by_interface = attribute.value() != b"lo\0",
            TABLE => table = u32::from_ne_bytes(field(attribute.value(), 0)?),
            VRF => vrf = attribute.value().first() == Some(&1),
            _ => {}
        }
    }
    let elsewhere = match action {
        TO_TABLE => !vrf && !(253..=255).contains(&table),
        NOTHING => false,
        _ => true,
    };
    Some(RawRule { elsewhere, by_interface })
}

#[cfg(test)]
mod tests {
    use super::super::wire::{DONE, Messages};
    use super::*;

    #[test]
    fn of_recorded_rules_those_that_lead_elsewhere_are_the_ones_that_ip_rule_shows() {
        for (dump, judge) in [
            (
                include_bytes!("../../tests/fixtures/netlink/rule-v4.bin").as_slice(),
                include_bytes!("../../tests/fixtures/netlink/ip-rule.json").as_slice(),
            ),
            (
                include_bytes!("../../tests/fixtures/netlink/rule-v6.bin"),
                include_bytes!("../../tests/fixtures/netlink/ip-rule-v6.json"),
            ),
        ] {
            let ours: Vec<RawRule> = Messages(dump)
                .filter(|m| m.kind != DONE)
                .map(|m| parse_policy(m.payload).expect("readable"))
                .collect();
            let judge: Vec<serde_json::Value> = serde_json::from_slice(judge).unwrap();
            let theirs: Vec<RawRule> = judge
                .iter()
                .map(|rule| {
                    let usual = ["local", "main", "default"];
                    let table = rule["table"].as_str().unwrap_or_default();
                    RawRule {
                        elsewhere: rule.get("l3mdev").is_none() && !usual.contains(&table),
                        by_interface: rule.get("iif").is_some(),
                    }
                })
                .collect();
            assert_eq!(ours, theirs, "{judge:?}");
            assert!(ours.iter().any(|rule| !rule.elsewhere));
        }
    }
}
