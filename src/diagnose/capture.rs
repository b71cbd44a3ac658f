//! Rules on a packet capture: what it missed.

use super::Rule;
use crate::facts::{CapturePoint, Evidence, Finding, Severity};

/// The kernel dropped packets that the filter had passed.
pub const DROPPED: Rule = Rule {
    id: "capture.dropped",
    severity: Severity::Warning,
    meaning: "Packets that passed the filter are missing from the capture: the kernel had no room left in its buffer.",
    fix: "Capture with a larger buffer (-B), fewer bytes of each packet (-s) or a narrower filter.",
};

/// An interface went away during the capture.
pub const INTERFACE_GONE: Rule = Rule {
    id: "capture.interface_gone",
    severity: Severity::Info,
    meaning: "An interface disappeared while it was captured on; what was captured until then is complete.",
    fix: "Usually the pod ended: nsprobe pods --all shows whether it did, and what replaced it.",
};

/// An interface went away and came back.
pub const INTERFACE_RETURNED: Rule = Rule {
    id: "capture.interface_returned",
    severity: Severity::Info,
    meaning: "An interface disappeared while it was captured on, and one of its name was captured on again \
        (--when-gone wait); what went over it in its first moments may be missing.",
    fix: "Look at what restarted: nsprobe pods --all shows restarts and the sandboxes that were replaced.",
};

/// What was waited for was seen.
pub const SEEN: Rule = Rule {
    id: "capture.seen",
    severity: Severity::Info,
    meaning: "The capture ended because a packet it was told to wait for was seen (--ring-until).",
    fix: "Look at the packets around that time: the last files hold what came before it.",
};

/// The disk had no more room to give.
pub const DISK_LOW: Rule = Rule {
    id: "capture.disk_low",
    severity: Severity::Warning,
    meaning: "The capture ended early: the disk had only as much room left as is to stay free (--min-free).",
    fix: "Write to another disk, keep fewer bytes of each packet (-s), or bound the files (--max-size, --files).",
};

/// All of this family.
pub const RULES: &[Rule] = &[DROPPED, INTERFACE_GONE, INTERFACE_RETURNED, SEEN, DISK_LOW];

/// A packet that ended a capture.
#[derive(Debug, Clone, Copy)]
pub struct SeenPacket<'a> {
    /// Whose interface saw it.
    pub subject: &'a str,
    /// What it was waited for as.
    pub what: &'a str,
    /// When, RFC 3339.
    pub time: &'a str,
    /// It, decoded.
    pub packet: &'a str,
    /// The file that holds it, if known.
    pub file: Option<&'a str>,
}

/// What a capture ended at.
pub fn seen(packet: SeenPacket<'_>) -> Finding {
    let source = "the captured packet";
    let mut evidence =
        vec![Evidence::text("packet", packet.packet, source), Evidence::text("time", packet.time, source)];
    let fix = match packet.file {
        Some(file) => {
            evidence.push(Evidence::text("file", file, "the capture's own"));
            format!("look at the packets before it: wireshark {file}")
        }
        None => SEEN.fix.to_owned(),
    };
    let summary = format!("{} was seen at {}", packet.what, packet.time);
    SEEN.finding(packet.subject.to_owned(), summary, evidence, fix)
}

/// A capture that ended for want of room.
pub fn disk_low(file: &str, free_bytes: u64, leave_bytes: u64) -> Finding {
    let source = "fstatvfs";
    let evidence = vec![
        Evidence::new("free on the disk", free_bytes, "bytes", source),
        Evidence::new("to stay free", leave_bytes, "bytes", "--min-free"),
    ];
    let summary = format!("the capture ended before the disk of {file} was full: it is complete until then");
    DISK_LOW.finding(file.to_owned(), summary, evidence, DISK_LOW.fix)
}

/// How the capture was set, for a fix that names values.
#[derive(Debug, Clone, Copy)]
pub struct CaptureSettings {
    /// Kernel buffer of one point, bytes.
    pub buffer_bytes: u64,
    /// Bytes kept of each packet.
    pub snaplen_bytes: u32,
}

/// What one point missed.
pub fn check_point(point: &CapturePoint, settings: CaptureSettings) -> Vec<Finding> {
    [check_dropped(point, settings), check_gone(point), check_returned(point)].into_iter().flatten().collect()
}

fn check_dropped(point: &CapturePoint, settings: CaptureSettings) -> Option<Finding> {
    let dropped = point.dropped.filter(|&n| n > 0)?;
    let source = "PACKET_STATISTICS through libpcap";
    let mut evidence = vec![Evidence::new("dropped by the kernel", dropped, "packets", source)];
    if let Some(received) = point.received {
        evidence.push(Evidence::new("passed the filter", received, "packets", source));
    }
    // Four times the buffer rides out a pause four times as long; 128 bytes hold every header.
    let larger = (settings.buffer_bytes >> 20).max(1).saturating_mul(4).min(1024);
    let fix = if settings.snaplen_bytes > 256 {
        format!("-B {larger}M, or -s 128 when headers are enough, or a narrower filter")
    } else {
        format!("-B {larger}M, or a narrower filter")
    };
    let whose = &point.label;
    let summary = format!("{dropped} packets of {whose} were dropped by the kernel: the capture has gaps");
    Some(DROPPED.finding(point.subject.clone(), summary, evidence, fix))
}

fn check_returned(point: &CapturePoint) -> Option<Finding> {
    let times = Some(point.returned).filter(|&n| n > 0)?;
    let summary = format!("{} went away and came back, and was captured on again", point.label);
    let evidence = vec![Evidence::new("came back", times, "times", "netdevice(7)")];
    Some(INTERFACE_RETURNED.finding(point.subject.clone(), summary, evidence, INTERFACE_RETURNED.fix))
}

fn check_gone(point: &CapturePoint) -> Option<Finding> {
    let ended = point.ended.as_ref()?;
    let summary =
        format!("the capture on {} ended early, after {} packets: {ended}", point.label, point.captured);
    let evidence = vec![Evidence::text(format!("capture on {}", point.interface), ended.clone(), "libpcap")];
    Some(INTERFACE_GONE.finding(point.subject.clone(), summary, evidence, INTERFACE_GONE.fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: CaptureSettings = CaptureSettings { buffer_bytes: 2 << 20, snaplen_bytes: 262_144 };

    fn point(dropped: Option<u64>, ended: Option<&str>) -> CapturePoint {
        CapturePoint {
            subject: "default/web-0".into(),
            interface: "eth0".into(),
            received: Some(100),
            dropped,
            label: "default/web-0 eth0".into(),
            captured: 93,
            ended: ended.map(Into::into),
            returned: 0,
        }
    }

    #[test]
    fn what_was_waited_for_names_packet_time_and_file() {
        let mut packet = SeenPacket {
            subject: "default/web-0",
            what: "TCP reset",
            time: "2026-11-23T17:03:44Z",
            packet: "IP 10.0.0.1.1 > 10.0.0.2.2: Flags [R]",
            file: Some("a_00007.pcapng"),
        };
        let finding = seen(packet);
        assert_eq!((finding.id, finding.evidence.len()), ("capture.seen", 3));
        assert!(finding.fix.ends_with("wireshark a_00007.pcapng"), "{}", finding.fix);
        packet.file = None;
        assert_eq!(seen(packet).evidence.len(), 2);
        let low = disk_low("a", 5, 7);
        assert_eq!((low.severity, low.evidence.len()), (Severity::Warning, 2));
    }

    #[test]
    fn dropped_packets_are_a_warning_that_names_a_larger_buffer() {
        let found = check_point(&point(Some(7), None), SETTINGS);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].id, found[0].severity), ("capture.dropped", Severity::Warning));
        assert!(
            found[0].summary.contains("7 packets") && found[0].fix.starts_with("-B 8M"),
            "{:?}",
            found[0]
        );
    }

    #[test]
    fn an_unknown_number_of_drops_is_no_finding() {
        assert!(check_point(&point(None, None), SETTINGS).is_empty());
        assert!(check_point(&point(Some(0), None), SETTINGS).is_empty());
    }

    #[test]
    fn an_interface_that_went_away_is_told_without_alarm() {
        let found = check_point(&point(Some(0), Some("The interface disappeared")), SETTINGS);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].id, found[0].severity), ("capture.interface_gone", Severity::Info));
    }
}
