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

/// All of this family.
pub const RULES: &[Rule] = &[DROPPED, INTERFACE_GONE];

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
    [check_dropped(point, settings), check_gone(point)].into_iter().flatten().collect()
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
        }
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
