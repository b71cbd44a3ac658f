//! `nsprobe ipam`: the document, and how full each range is.

use super::{Out, Paint, findings, sanitize};
use crate::facts::{Finding, IpamNetwork, IpamState, Reservation, Severity};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write;

/// Body of `nsprobe.ipam/v1`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpamDocument<'a> {
    /// The networks: configured ones in the order of their files, then those that only have reservations.
    pub networks: Vec<IpamNetworkEntry<'a>>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// One network.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpamNetworkEntry<'a> {
    /// Its name.
    pub name: String,
    /// Who gives out its addresses: `host-local`, `calico-ipam`, …
    pub plugin: String,
    /// Its ranges; empty where they are not known.
    pub ranges: Vec<IpamRangeEntry>,
    /// What is reserved, by address.
    pub reservations: &'a [Reservation],
}

/// One range.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpamRangeEntry {
    /// The subnet.
    pub subnet: String,
    /// How many addresses it can give to pods; null when that does not fit in 64 bits.
    pub size: Option<u64>,
    /// How many of them are reserved.
    pub used: u64,
    /// How many are left.
    pub free: Option<u64>,
}

impl<'a> IpamDocument<'a> {
    /// The document of what was read and found.
    pub fn new(state: &'a IpamState, findings: Vec<Finding>) -> Self {
        Self { networks: state.networks.iter().map(entry).collect(), findings }
    }
}

fn entry(network: &IpamNetwork) -> IpamNetworkEntry<'_> {
    let range = |range: &crate::facts::IpamRange| {
        let (size, used) = (range.size(), network.used(range));
        IpamRangeEntry {
            subnet: range.subnet.clone(),
            size,
            used,
            free: size.map(|size| size.saturating_sub(used)),
        }
    };
    IpamNetworkEntry {
        name: network.name.clone(),
        plugin: network.plugin.clone(),
        ranges: network.sets.iter().flatten().map(range).collect(),
        reservations: &network.reservations,
    }
}

/// What of the text is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpamView {
    /// Every reservation too.
    pub verbose: bool,
}

/// The verdict, what is wrong, then the ranges.
pub fn render_ipam(document: &IpamDocument<'_>, state: &IpamState, view: IpamView, out: &Out) -> String {
    render(document, state, view, out.paint, out.width)
}

fn render(
    document: &IpamDocument<'_>,
    state: &IpamState,
    view: IpamView,
    paint: Paint,
    width: Option<usize>,
) -> String {
    let mut text = String::new();
    let count = |severity| document.findings.iter().filter(|f| f.severity == severity).count();
    let (critical, warnings) = (count(Severity::Critical), count(Severity::Warning));
    let number = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let verdict = match (critical, warnings) {
        _ if state.networks.is_empty() => "no CNI network and no reservation of host-local was found".into(),
        (0, 0) => paint.green("nothing wrong"),
        (0, warnings) => paint.yellow(&number(warnings, "warning")),
        (critical, 0) => paint.red(&format!("{critical} critical")),
        (critical, warnings) => paint.red(&format!("{critical} critical, {}", number(warnings, "warning"))),
    };
    let _ = writeln!(
        text,
        "{verdict}{}",
        if state.networks.is_empty() { "" } else { ": addresses of this node's pods" }
    );
    let (worse, mild): (Vec<Finding>, Vec<Finding>) =
        document.findings.iter().cloned().partition(|f| f.severity > Severity::Info);
    if !worse.is_empty() {
        let _ = write!(text, "\n{}", findings(paint, width, &worse));
    }
    if !state.networks.is_empty() {
        text.push('\n');
        table(&mut text, state, paint);
    }
    let room = state.networks.first().and_then(|n| Some((n, n.room()?)));
    if let Some((network, room)) = room {
        let max = state.max_pods.as_ref().map_or_else(
            || "how many pods the kubelet takes is not known".to_owned(),
            |max| format!("the kubelet takes {} ({})", max.pods, max.source),
        );
        let _ = writeln!(
            text,
            "\n{} has room for {} pods; {}",
            sanitize(&network.name),
            rounded(room),
            sanitize(&max)
        );
    }
    if view.verbose {
        state.networks.iter().for_each(|network| reservations(&mut text, network, paint));
    }
    if !mild.is_empty() {
        let _ = write!(text, "\n{}", findings(paint, width, &mild));
    }
    text
}

const HEAD: [&str; 6] = ["NETWORK", "RANGE", "SIZE", "USED", "FREE", "LEAKED"];
const UNKNOWN: &str = "-";

fn table(text: &mut String, state: &IpamState, paint: Paint) {
    let mut rows: Vec<[String; 6]> = vec![HEAD.map(ToOwned::to_owned)];
    for network in &state.networks {
        let name = sanitize(&network.name).into_owned();
        let show = |n: Option<u64>| n.map_or_else(|| UNKNOWN.to_owned(), rounded);
        for range in network.sets.iter().flatten() {
            let (size, used) = (range.size(), network.used(range));
            let here = |r: &&Reservation| range.contains(r.address);
            rows.push([
                name.clone(),
                sanitize(&range.subnet).into_owned(),
                show(size),
                used.to_string(),
                show(size.map(|size| size.saturating_sub(used))),
                leaked(network.reservations.iter().filter(here)),
            ]);
        }
        if network.sets.iter().all(Vec::is_empty) {
            let range = match (&network.ranges_unknown, network.plugin.as_str()) {
                (Some(_), _) => "not known".into(),
                (None, "host-local") => "not configured".into(),
                (None, plugin) => format!("by {}", sanitize(plugin)),
            };
            let (used, leaks) = if network.plugin == "host-local" {
                (network.reservations.len().to_string(), leaked(network.reservations.iter()))
            } else {
                (UNKNOWN.into(), UNKNOWN.into())
            };
            rows.push([name, range, UNKNOWN.into(), used, UNKNOWN.into(), leaks]);
        }
    }
    let mut widths = [0usize; 6];
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
    }
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (at, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            // Numbers stand under one another.
            let _ = if at < 2 { write!(line, "{cell:<width$}  ") } else { write!(line, "{cell:>width$}  ") };
        }
        let line = line.trim_end();
        let _ = writeln!(text, "{}", if index == 0 { paint.bold(line) } else { line.to_owned() });
    }
}

/// A number; what nobody counts is shown as the power of two that it is nearly: a /64 has ~2^64.
fn rounded(n: u64) -> String {
    let bits = u64::BITS - n.leading_zeros();
    if bits > 48 { format!("~2^{bits}") } else { n.to_string() }
}

/// How many are leaked; what is not known of any is unknown, and not none.
fn leaked<'a>(reservations: impl Iterator<Item = &'a Reservation>) -> String {
    let (mut leaked, mut unknown) = (0u64, 0u64);
    for reservation in reservations {
        match reservation.leaked {
            Some(true) => leaked += 1,
            None => unknown += 1,
            Some(false) => {}
        }
    }
    match (leaked, unknown) {
        (leaked, 0) => leaked.to_string(),
        (0, _) => UNKNOWN.into(),
        (leaked, _) => format!("{leaked}+"),
    }
}

fn reservations(text: &mut String, network: &IpamNetwork, paint: Paint) {
    if network.reservations.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", paint.bold(&sanitize(&network.name)));
    let width = network.reservations.iter().map(|r| r.address.to_string().len()).max().unwrap_or(0);
    for r in &network.reservations {
        let id = r.container_id.as_ref().map_or_else(|| "unreadable".into(), ToString::to_string);
        let id = sanitize(&id).into_owned();
        let id: String = id.chars().take(13).collect();
        let who = match (&r.owner, r.leaked) {
            (Some(owner), _) => sanitize(owner).into_owned(),
            (None, Some(true)) => paint.yellow("leaked"),
            (None, Some(false)) => "in use".into(),
            (None, None) => "not known".into(),
        };
        let interface = sanitize(r.interface.as_deref().unwrap_or(UNKNOWN)).into_owned();
        let _ = writeln!(text, "  {:<width$}  {id:<13}  {interface:<8}  {who}", r.address.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn a_number_that_nobody_counts_is_short() {
        let seen = [0, 253, 131_069, (1 << 48) - 2, u64::MAX - 1, u64::MAX - 4].map(rounded);
        assert_eq!(seen, ["0", "253", "131069", "281474976710654", "~2^64", "~2^64"]);
    }
}
