//! Rules of `ip rule`: whether routes of another table than the main one count.
//!
//! Source: linux/fib_rules.h; kernel net/ipv4/fib_rules.c `fib_default_rules_init`, drivers/net/vrf.c.

use super::ObserveError;
use super::socket::Netlink;
use super::wire::{attributes, field};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::rule::RuleMessage;

/// struct fib_rule_hdr.
const HEADER: usize = 12;

/// Whether rules beside the kernel's own send packets to other tables, or stop them: what the main table says is
/// then not the whole truth. What the kernel refuses to tell counts as none: it has no policy routing.
///
/// # Errors
/// As [`Netlink::dump`], but for a refusal.
pub(super) fn has_policy(netlink: &mut Netlink) -> Result<bool, ObserveError> {
    let request = RouteNetlinkMessage::GetRule(RuleMessage::default());
    match netlink.dump("its rules", &request, |m| parse_policy(m).map(|other| vec![other])) {
        Ok(dump) => Ok(dump.unreadable > 0 || dump.items.contains(&true)),
        Err(ObserveError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a rule asks by which interface a packet came: the way to a pod may then be another for packets from
/// elsewhere than for the node's own (Amazon's security groups for pods). What the kernel does not tell counts as yes.
pub(super) fn asks_for_interface(netlink: &mut Netlink) -> bool {
    let request = RouteNetlinkMessage::GetRule(RuleMessage::default());
    let dump = netlink.dump("its rules", &request, |m| Some(vec![names_interface(m)]));
    !dump.is_ok_and(|dump| !dump.items.contains(&true))
}

/// Whether one RTM_NEWRULE message names an interface that packets come by; `lo` stands for the node's own packets.
fn names_interface(payload: &[u8]) -> bool {
    /// FRA_IIFNAME.
    const IIFNAME: u16 = 3;
    attributes(payload, HEADER).any(|a| a.kind() == IIFNAME && a.value() != b"lo\0")
}

/// Whether one RTM_NEWRULE message leads elsewhere than to the tables `local`, `main` and `default`. The rule for
/// VRFs leads to no table of its own: only what is a port of one follows it.
pub(super) fn parse_policy(payload: &[u8]) -> Option<bool> {
    /// FRA_TABLE.
    const TABLE: u16 = 15;
    /// FRA_L3MDEV.
    const VRF: u16 = 19;
    /// FR_ACT_TO_TBL, FR_ACT_NOP.
    const TO_TABLE: u8 = 1;
    const NOTHING: u8 = 3;
    let [_, _, _, _, table, _, _, action] = field(payload, 0)?;
    let mut table = u32::from(table);
    let mut vrf = false;
    for attribute in attributes(payload, HEADER) {
        match attribute.kind() {
            TABLE => table = u32::from_ne_bytes(field(attribute.value(), 0)?),
            VRF => vrf = attribute.value().first() == Some(&1),
            _ => {}
        }
    }
    Some(match action {
        TO_TABLE => !vrf && !(253..=255).contains(&table),
        NOTHING => false,
        _ => true,
    })
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
            let ours: Vec<bool> = Messages(dump)
                .filter(|m| m.kind != DONE)
                .map(|m| parse_policy(m.payload).expect("readable"))
                .collect();
            let judge: Vec<serde_json::Value> = serde_json::from_slice(judge).unwrap();
            let theirs: Vec<bool> = judge
                .iter()
                .map(|rule| {
                    let usual = ["local", "main", "default"];
                    let table = rule["table"].as_str().unwrap_or_default();
                    rule.get("l3mdev").is_none() && !usual.contains(&table)
                })
                .collect();
            assert_eq!(ours, theirs, "{judge:?}");
            let ours: Vec<bool> =
                Messages(dump).filter(|m| m.kind != DONE).map(|m| names_interface(m.payload)).collect();
            let theirs: Vec<bool> = judge.iter().map(|rule| rule.get("iif").is_some()).collect();
            assert_eq!(ours, theirs, "{judge:?}");
            assert!(ours.contains(&false));
        }
    }
}
