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
    let into = report.files.iter().map(|f| format!(" into {}", sanitize(f))).collect::<String>();
    let packets = paint.bold(&packets(report.packets));
    let _ = writeln!(text, "{packets}{into} in {}, {drops}", duration_ms(report.elapsed_ms));
    for point in &report.points {
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
    text.push_str(&findings(paint, &report.findings));
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
    }
}
