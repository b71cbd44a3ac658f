//! The end of a capture: how much there is, and what is missing.

use super::{Paint, duration_ms, findings, sanitize};
use crate::facts::{CapturePoint, Finding};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write;

/// `nsprobe.capture/v1`: what was captured, printed once it has ended.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureReport {
    /// Files that were written; empty for a stream.
    pub files: Vec<String>,
    /// Every interface that was captured on.
    pub points: Vec<CapturePoint>,
    /// Packets captured, of all points together.
    pub packets: u64,
    /// Duration of the capture, milliseconds.
    pub elapsed_ms: f64,
    /// What it missed.
    pub findings: Vec<Finding>,
}

/// More points than this are not listed one by one when they saw nothing.
const MANY: usize = 12;

/// The report for people: the verdict, then each point as tcpdump counts, then what it missed.
pub fn render_capture(paint: Paint, report: &CaptureReport) -> String {
    let mut text = String::new();
    let known = report.points.iter().all(|p| p.dropped.is_some());
    let dropped: u64 = report.points.iter().filter_map(|p| p.dropped).sum();
    let drops = match (dropped, known) {
        (0, true) => paint.green("none dropped"),
        (0, false) => paint.yellow("drops unknown"),
        (n, _) => paint.yellow(&format!("{n} dropped by the kernel")),
    };
    let into = match report.files.as_slice() {
        [] => String::new(),
        [one] => format!(" into {}", sanitize(one)),
        [first, .., last] => {
            format!(" into {} files, {} to {},", report.files.len(), sanitize(first), sanitize(last))
        }
    };
    let packets = paint.bold(&packets(report.packets));
    let _ = writeln!(text, "{packets}{into} in {}, {drops}", duration_ms(report.elapsed_ms));
    // Of many points those that saw something; of a few each.
    let silent = |p: &CapturePoint| p.captured == 0 && p.received == Some(0) && p.dropped == Some(0);
    let brief = report.points.len() > MANY;
    for point in report.points.iter().filter(|p| !(brief && silent(p))) {
        let number = |n: Option<u64>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        let _ = writeln!(
            text,
            "{}: {} captured, {} received by filter, {} dropped by kernel",
            sanitize(&point.label),
            self::packets(point.captured),
            number(point.received),
            number(point.dropped),
        );
    }
    let left = report.points.iter().filter(|p| brief && silent(p)).count();
    if left > 0 {
        let _ = writeln!(text, "{left} more points: nothing passed the filter");
    }
    text.push_str(&findings(paint, None, &report.findings));
    text
}

/// `1 packet`, `2 packets`.
fn packets(count: u64) -> String {
    format!("{count} packet{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_count_is_not_zero() {
        let point = CapturePoint {
            subject: "default/web-0".into(),
            interface: "eth0".into(),
            received: None,
            dropped: None,
            label: "default/web-0 eth0".into(),
            captured: 3,
            ended: None,
            returned: 0,
        };
        let report = CaptureReport {
            files: vec!["a.pcapng".into()],
            points: vec![point],
            packets: 3,
            elapsed_ms: 1500.0,
            findings: Vec::new(),
        };
        assert_eq!(
            render_capture(Paint::new(false), &report),
            "3 packets into a.pcapng in 1.5 s, drops unknown\n\
             default/web-0 eth0: 3 packets captured, unknown received by filter, unknown dropped by kernel\n"
        );
        // However many files a ring has, they are named in one line.
        let ring = CaptureReport { files: (1..=300).map(|n| format!("r_{n:05}")).collect(), ..report };
        let text = render_capture(Paint::new(false), &ring);
        assert!(text.starts_with("3 packets into 300 files, r_00001 to r_00300, in 1.5 s, drops"), "{text}");
    }

    #[test]
    fn of_many_points_only_those_with_packets_are_listed() {
        let point = |n: u64| CapturePoint {
            subject: "host".into(),
            interface: format!("veth{n}"),
            received: Some(n / 19),
            dropped: Some(0),
            label: format!("veth{n}"),
            captured: n / 19,
            ended: None,
            returned: 0,
        };
        let mut report = CaptureReport {
            files: Vec::new(),
            points: (0..20).map(point).collect(),
            packets: 1,
            elapsed_ms: 1500.0,
            findings: Vec::new(),
        };
        let text = render_capture(Paint::new(false), &report);
        assert!(text.contains("veth19: 1 packet") && text.lines().count() == 3, "{text}");
        assert!(text.ends_with("19 more points: nothing passed the filter\n"), "{text}");
        report.points.truncate(5);
        assert_eq!(render_capture(Paint::new(false), &report).lines().count(), 6);
    }
}
