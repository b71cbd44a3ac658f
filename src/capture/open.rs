//! Handles on the interfaces of a namespace: opened inside of it, used anywhere.

use super::error::CaptureError;
use super::filter::{FilterError, message_of};
use super::interfaces::{Interface, read_interfaces, read_uplink};
use crate::facts::CapturePoint;
use crate::netns::NetNs;
use caps::{CapSet, Capability};
use pcap::{Active, Capture, Precision, Stat};
use std::time::{Duration, Instant, SystemTime};

/// How long the kernel may keep packets before it hands over a block that is not full.
pub(super) const READ_TIMEOUT: Duration = Duration::from_millis(100);
/// After this long every packet that is in the kernel's ring has been handed over: the timeout and a margin.
pub(super) const LAST_BLOCK: Duration = Duration::from_millis(120);

/// How to capture, the same for every point.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes kept of each packet.
    pub snaplen_bytes: u32,
    /// Kernel buffer of each point, bytes.
    pub buffer_bytes: u32,
    /// The filter as it was typed.
    pub filter: String,
}

/// A namespace to capture in.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// `default/web-0`, `host`.
    pub subject: &'a str,
    /// The namespace.
    pub netns: &'a NetNs,
    /// Whether it is the node's own: then the default is the uplink, not every interface.
    pub host: bool,
    /// Interfaces that were asked for; empty: the default.
    pub interfaces: &'a [String],
    /// Filter that leaves out the connection which carries the output.
    pub exclusion: Option<&'a str>,
}

/// One interface that is captured on.
pub struct Point {
    pub(super) facts: CapturePoint,
    pub(super) handle: Capture<Active>,
    /// libpcap's DLT_ number.
    pub(super) datalink: i32,
    pub(super) mtu_bytes: Option<u32>,
    pub(super) mac: Option<[u8; 6]>,
    pub(super) snaplen_bytes: u32,
    /// The filter that is set, the exclusion included.
    pub(super) filter: String,
    pub(super) opened: SystemTime,
    /// Its interface has gone, for this reason; at this time nothing more can be in the kernel's ring.
    pub(super) ending: Option<(Instant, String)>,
    last: Option<Stat>,
}

impl Point {
    /// What people call it: `default/web-0 eth0`.
    pub fn label(&self) -> String {
        self.facts.label.clone()
    }

    /// libpcap's DLT_ number of its packets.
    pub fn datalink(&self) -> i32 {
        self.datalink
    }

    /// Adds what the kernel has counted since the last call. Its counters have 32 bits: called once a second
    /// they cannot wrap unseen.
    pub(super) fn count(&mut self) {
        let Ok(now) = self.handle.stats() else { return };
        if let Some(last) = self.last {
            let add = |sum: &mut Option<u64>, now: u32, last: u32| {
                *sum = sum.map(|s| s + u64::from(now.wrapping_sub(last)));
            };
            add(&mut self.facts.received, now.received, last.received);
            add(&mut self.facts.dropped, now.dropped, last.dropped);
        }
        // ps_ifdrop is left alone: libpcap reads it from the sysfs of another namespace.
        self.last = Some(now);
    }
}

impl std::fmt::Debug for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Point")
            .field("facts", &self.facts)
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

/// Opens a handle on each interface of `place` that was asked for, or on the default ones: every interface
/// that is up but lo; for the node the interface of its default route.
///
/// # Errors
/// [`CaptureError`]; nothing stays open then.
pub fn open_points(place: &Place<'_>, settings: &Settings) -> Result<Vec<Point>, CaptureError> {
    place.netns.run(|| {
        let all = read_interfaces()
            .map_err(|source| CaptureError::Interfaces { subject: place.subject.to_owned(), source })?;
        choose(place, &all, read_uplink)?.into_iter().map(|i| open_point(place, i, settings)).collect()
    })?
}

/// The interfaces that are meant.
fn choose<'a>(
    place: &Place<'_>,
    all: &'a [Interface],
    uplink: impl FnOnce() -> Option<String>,
) -> Result<Vec<&'a Interface>, CaptureError> {
    let subject = || place.subject.to_owned();
    let known = || all.iter().map(|i| i.name.clone()).collect();
    let named = |name: &String| {
        let found = all.iter().find(|i| i.name == *name);
        let found = found.ok_or_else(|| CaptureError::NoInterface {
            subject: subject(),
            name: name.clone(),
            known: known(),
        })?;
        if found.up { Ok(found) } else { Err(CaptureError::Down { subject: subject(), name: name.clone() }) }
    };
    if !place.interfaces.is_empty() {
        return place.interfaces.iter().map(named).collect();
    }
    if place.host {
        let what = "no default route, so no uplink to capture on";
        let name =
            uplink().ok_or_else(|| CaptureError::NothingUp { subject: subject(), what, known: known() })?;
        return Ok(vec![named(&name)?]);
    }
    let chosen: Vec<_> = all.iter().filter(|i| i.up && !i.loopback).collect();
    if chosen.is_empty() {
        let what = "no interface that is up, but lo";
        return Err(CaptureError::NothingUp { subject: subject(), what, known: known() });
    }
    Ok(chosen)
}

fn open_point(place: &Place<'_>, interface: &Interface, settings: &Settings) -> Result<Point, CaptureError> {
    let subject = place.subject.to_owned();
    let name = interface.name.clone();
    let filter = combine(&settings.filter, place.exclusion);
    let mut handle = activate(&name, settings).map_err(|error| {
        let raw = caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW).unwrap_or(true);
        let (subject, name) = (subject.clone(), name.clone());
        if raw {
            CaptureError::Open { subject, name, message: message_of(&error) }
        } else {
            CaptureError::Privilege { subject, name, capability: "CAP_NET_RAW" }
        }
    })?;
    // Also when empty: without a filter the kernel copies whole packets whatever the snap length.
    handle.filter(&filter, true).map_err(|error| FilterError {
        filter: filter.clone(),
        message: message_of(&error),
        position: None,
    })?;
    // What came in before the filter was set is not the capture's.
    let last = handle.stats().ok();
    let known = last.map(|_| 0);
    Ok(Point {
        facts: CapturePoint {
            label: format!("{subject} {name}"),
            subject,
            interface: name,
            received: known,
            dropped: known,
            captured: 0,
            ended: None,
        },
        datalink: handle.get_datalink().0,
        handle,
        mtu_bytes: interface.mtu_bytes,
        mac: interface.mac,
        snaplen_bytes: settings.snaplen_bytes,
        filter,
        opened: SystemTime::now(),
        ending: None,
        last,
    })
}

/// A non-blocking handle with nanosecond timestamps. Not in promiscuous mode, which would change the node,
/// and not in immediate mode, which falls back to TPACKET_V2 and loses packets.
fn activate(name: &str, settings: &Settings) -> Result<Capture<Active>, pcap::Error> {
    Capture::from_device(name)?
        .promisc(false)
        .snaplen(i32::try_from(settings.snaplen_bytes).unwrap_or(i32::MAX))
        .buffer_size(i32::try_from(settings.buffer_bytes).unwrap_or(i32::MAX))
        .timeout(i32::try_from(READ_TIMEOUT.as_millis()).unwrap_or(100))
        .precision(Precision::Nano)
        .open()?
        .setnonblock()
}

/// The filter that was typed and the exclusion, both true.
fn combine(filter: &str, exclusion: Option<&str>) -> String {
    match exclusion {
        None => filter.to_owned(),
        Some(exclusion) if filter.trim().is_empty() => exclusion.to_owned(),
        Some(exclusion) => format!("({filter}) and {exclusion}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, up: bool) -> Interface {
        Interface { name: name.into(), mtu_bytes: Some(1500), mac: None, up, loopback: name == "lo" }
    }

    fn names(found: Result<Vec<&Interface>, CaptureError>) -> Vec<String> {
        found.unwrap().into_iter().map(|i| i.name.clone()).collect()
    }

    #[test]
    fn a_pod_means_every_interface_that_is_up_but_lo_and_the_node_its_uplink() {
        let netns = NetNs::own().unwrap();
        let all =
            [interface("lo", true), interface("eth0", true), interface("net1", true), interface("x", false)];
        let mut place =
            Place { subject: "default/web-0", netns: &netns, host: false, interfaces: &[], exclusion: None };
        assert_eq!(names(choose(&place, &all, || unreachable!())), ["eth0", "net1"]);
        place.host = true;
        assert_eq!(names(choose(&place, &all, || Some("net1".into()))), ["net1"]);
        assert!(matches!(choose(&place, &all, || None), Err(CaptureError::NothingUp { .. })));
        let asked = ["lo".to_owned()];
        place.interfaces = &asked;
        assert_eq!(names(choose(&place, &all, || None)), ["lo"]);
        let asked = ["eth9".to_owned()];
        place.interfaces = &asked;
        assert!(matches!(choose(&place, &all, || None), Err(CaptureError::NoInterface { .. })));
        let asked = ["x".to_owned()];
        place.interfaces = &asked;
        assert!(matches!(choose(&place, &all, || None), Err(CaptureError::Down { .. })));
    }

    #[test]
    fn an_exclusion_holds_for_both_sides_of_an_or() {
        assert_eq!(combine("tcp or udp", Some("not port 22")), "(tcp or udp) and not port 22");
        assert_eq!(combine(" ", Some("not port 22")), "not port 22");
        assert_eq!(combine("tcp", None), "tcp");
    }
}
