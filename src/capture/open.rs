//! Handles on the interfaces of a namespace: opened inside of it, used anywhere.

use super::error::CaptureError;
use super::filter::{FilterError, PointFilter, message_of};
use super::interfaces::{Interface, read_interfaces, read_uplink};
use super::lines::Direction;
use super::output::since_1970;
use super::program::look_inside;
use super::rebind;
use crate::facts::CapturePoint;
use crate::netns::NetNs;
use caps::{CapSet, Capability};
use pcap::{Active, Capture, Linktype, Precision, Stat};
use std::os::fd::AsFd;
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
    /// What was asked for, the same at every point, for the file's header.
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
}

/// An interface that is to be captured on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// Its name.
    pub interface: String,
    /// What people call it: `default/web-0 eth0`, `uplink eth0`.
    pub label: String,
    /// What it lets through.
    pub filter: PointFilter,
    /// Hardware address of the other end, where all that comes in is from there.
    pub far_mac: Option<[u8; 6]>,
}

/// One interface that is captured on.
pub struct Point {
    pub(super) facts: CapturePoint,
    pub(super) handle: Capture<Active>,
    /// libpcap's DLT_ number.
    pub(super) datalink: i32,
    pub(super) mtu_bytes: Option<u32>,
    pub(super) mac: Option<[u8; 6]>,
    /// Hardware address of the other end of a veth.
    pub(super) far_mac: Option<[u8; 6]>,
    pub(super) snaplen_bytes: u32,
    /// The filter that is set, the exclusion included.
    pub(super) filter: String,
    /// Whether it also holds for what tunnels carry.
    pub(super) looks_inside: bool,
    /// What was asked for, the same at every point.
    pub(super) asked: String,
    pub(super) opened: SystemTime,
    /// Packets from before this time passed no filter (nanoseconds since 1970).
    pub(super) since_ns: u64,
    /// Its interface has gone, for this reason; at this time nothing more can be in the kernel's ring.
    pub(super) ending: Option<(Instant, String)>,
    last: Option<Stat>,
    /// ARPHRD_ number of its interface.
    hardware: u16,
    /// Its interface has gone and may come back.
    pub(super) away: Option<String>,
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

    /// Goes on with the interface of the same name, if there is one that is up and of the same kind.
    pub(super) fn come_back(&mut self) -> bool {
        let socket = self.handle.as_fd();
        let Ok(found) = rebind::find(socket, &self.facts.interface) else { return false };
        // Another kind would need another link type, which the file has not announced.
        if !found.up || found.hardware != self.hardware || rebind::bind(socket, found.index).is_err() {
            return false;
        }
        self.mac = self.mac.map(|_| found.mac);
        self.away = None;
        true
    }

    /// Who sends frames in one direction: the interface itself out, or its other end in.
    pub(super) fn sender(&self) -> Option<([u8; 6], Direction)> {
        let far = self.far_mac.map(|mac| (mac, Direction::In));
        far.or_else(|| self.mac.map(|mac| (mac, Direction::Out)))
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

/// The interfaces of `place` that are meant: those that were `asked` for, or the default ones: every interface
/// that is up but lo; for the node the interface of its default route.
///
/// # Errors
/// [`CaptureError`], for a name that is not there or not up.
pub fn find_interfaces(place: &Place<'_>, asked: &[String]) -> Result<Vec<String>, CaptureError> {
    place.netns.run(|| {
        let all = read_all(place)?;
        Ok(choose(place, asked, &all, read_uplink)?.into_iter().map(|i| i.name.clone()).collect())
    })?
}

/// Hardware addresses of the interfaces of `place` by name, as far as they have one; none where it cannot be read.
pub fn find_macs(place: &Place<'_>) -> Vec<(String, [u8; 6])> {
    let read = || read_interfaces().unwrap_or_default();
    let all = place.netns.run(read).unwrap_or_default();
    all.into_iter().filter_map(|i| Some((i.name, i.mac?))).collect()
}

/// Opens a handle on each of these interfaces of `place`.
///
/// # Errors
/// [`CaptureError`]; nothing stays open then.
pub fn open_points(
    place: &Place<'_>,
    wishes: &[Wish],
    settings: &Settings,
) -> Result<Vec<Point>, CaptureError> {
    place.netns.run(|| {
        let all = read_all(place)?;
        let open = |wish: &Wish| open_point(place, named(place, &all, &wish.interface)?, wish, settings);
        wishes.iter().map(open).collect()
    })?
}

fn read_all(place: &Place<'_>) -> Result<Vec<Interface>, CaptureError> {
    read_interfaces().map_err(|source| CaptureError::Interfaces { subject: place.subject.to_owned(), source })
}

/// The names that are there.
fn known(all: &[Interface]) -> Vec<String> {
    all.iter().map(|i| i.name.clone()).collect()
}

fn named<'a>(place: &Place<'_>, all: &'a [Interface], name: &str) -> Result<&'a Interface, CaptureError> {
    let (subject, name) = (place.subject.to_owned(), name.to_owned());
    match all.iter().find(|i| i.name == *name) {
        None => Err(CaptureError::NoInterface { subject, name, known: known(all) }),
        Some(found) if !found.up => Err(CaptureError::Down { subject, name }),
        Some(found) => Ok(found),
    }
}

/// The interfaces that are meant.
fn choose<'a>(
    place: &Place<'_>,
    asked: &[String],
    all: &'a [Interface],
    uplink: impl FnOnce() -> Option<String>,
) -> Result<Vec<&'a Interface>, CaptureError> {
    let nothing =
        |what| CaptureError::NothingUp { subject: place.subject.to_owned(), what, known: known(all) };
    if !asked.is_empty() {
        return asked.iter().map(|name| named(place, all, name)).collect();
    }
    if place.host {
        let name = uplink().ok_or_else(|| nothing("no default route, so no uplink to capture on"))?;
        return Ok(vec![named(place, all, &name)?]);
    }
    let chosen: Vec<_> = all.iter().filter(|i| i.up && !i.loopback).collect();
    if chosen.is_empty() { Err(nothing("no interface that is up, but lo")) } else { Ok(chosen) }
}

fn open_point(
    place: &Place<'_>,
    interface: &Interface,
    wish: &Wish,
    settings: &Settings,
) -> Result<Point, CaptureError> {
    let subject = place.subject.to_owned();
    let name = interface.name.clone();
    let mut handle = activate(&name, settings).map_err(|error| {
        let raw = caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW).unwrap_or(true);
        let (subject, name) = (subject.clone(), name.clone());
        if raw {
            CaptureError::Open { subject, name, message: message_of(&error) }
        } else {
            CaptureError::Privilege { subject, name, capability: "CAP_NET_RAW" }
        }
    })?;
    let looks_inside = set_filter(&mut handle, &wish.filter, settings.snaplen_bytes)?;
    let hardware = rebind::find(handle.as_fd(), &name).map_or(0, |found| found.hardware);
    // What came in before the filter was set is not the capture's.
    let opened = SystemTime::now();
    let last = handle.stats().ok();
    let known = last.map(|_| 0);
    Ok(Point {
        facts: CapturePoint {
            label: wish.label.clone(),
            subject,
            interface: name,
            received: known,
            dropped: known,
            captured: 0,
            ended: None,
            returned: 0,
        },
        datalink: handle.get_datalink().0,
        handle,
        mtu_bytes: interface.mtu_bytes,
        mac: interface.mac,
        far_mac: wish.far_mac,
        snaplen_bytes: settings.snaplen_bytes,
        filter: wish.filter.whole(),
        looks_inside,
        asked: settings.filter.clone(),
        opened,
        since_ns: if looks_inside { since_1970(opened) } else { 0 },
        ending: None,
        last,
        hardware,
        away: None,
    })
}

/// Sets the filter; whether it also looks into tunnels, which it can where frames are those of Ethernet.
fn set_filter(
    handle: &mut Capture<Active>,
    filter: &PointFilter,
    snaplen_bytes: u32,
) -> Result<bool, FilterError> {
    let whole = filter.whole();
    let refused = |message| FilterError { filter: whole.clone(), message, position: None };
    let inside = filter.inside.as_ref().filter(|_| !filter.text.trim().is_empty());
    if let Some(inside) = inside.filter(|_| handle.get_datalink() == Linktype::ETHERNET) {
        let live = |text: &str| handle.compile(text, true).map_err(|e| message_of(&e));
        let exclusion = filter.exclusion.as_deref();
        let program = look_inside(live, &filter.text, exclusion, inside, snaplen_bytes).map_err(refused)?;
        if let Some(program) = program {
            // libpcap goes on filtering what is in its ring by the filter that it knows: everything passes that one.
            handle.filter("", true).map_err(|e| refused(message_of(&e)))?;
            program.attach(handle.as_fd()).map_err(|e| refused(e.to_string()))?;
            return Ok(true);
        }
    }
    // Also when empty: without a filter the kernel copies whole packets whatever the snap length.
    handle.filter(&whole, true).map_err(|e| refused(message_of(&e)))?;
    Ok(false)
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
        let mut place = Place { subject: "default/web-0", netns: &netns, host: false };
        assert_eq!(names(choose(&place, &[], &all, || unreachable!())), ["eth0", "net1"]);
        place.host = true;
        let asked = |name: &str| [name.to_owned()];
        assert_eq!(names(choose(&place, &[], &all, || Some("net1".into()))), ["net1"]);
        assert!(matches!(choose(&place, &[], &all, || None), Err(CaptureError::NothingUp { .. })));
        assert_eq!(names(choose(&place, &asked("lo"), &all, || None)), ["lo"]);
        let (missing, down) = (asked("eth9"), asked("x"));
        assert!(matches!(choose(&place, &missing, &all, || None), Err(CaptureError::NoInterface { .. })));
        assert!(matches!(choose(&place, &down, &all, || None), Err(CaptureError::Down { .. })));
    }
}
