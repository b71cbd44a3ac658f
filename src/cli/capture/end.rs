//! The end: what was captured, as a document or for people.

use super::Target;
use super::failures::output_failure;
use crate::capture::{self, End, Settings, SinkError};
use crate::cli::{Color, Context, Exit, Failure};
use crate::diagnose::capture::{CaptureSettings, SeenPacket, check_point, disk_low, seen};
use crate::facts::{CapturePoint, Finding, rfc3339};
use crate::report::{CaptureReport, Paint, document, render_capture, write_json};
use std::io::{self, IsTerminal, Write};

/// Tells what was captured, or what stopped it.
pub(super) fn finish(
    context: &mut Context,
    target: Target<'_>,
    settings: &Settings,
    summary: capture::Summary,
) -> Result<Exit, Failure> {
    let limits = CaptureSettings {
        buffer_bytes: u64::from(settings.buffer_bytes),
        snaplen_bytes: settings.snaplen_bytes,
    };
    let files = match target {
        Target::File(path) if summary.files.is_empty() => vec![path.display().to_string()],
        _ => summary.files,
    };
    let mut findings: Vec<Finding> = summary.points.iter().flat_map(|p| check_point(p, limits)).collect();
    findings.extend(finding_of(&summary.end, &files, &summary.points));
    let report = CaptureReport {
        files,
        packets: summary.packets,
        elapsed_ms: crate::facts::milliseconds(summary.elapsed),
        findings,
        points: summary.points,
    };
    match summary.end {
        End::Output(SinkError::ReaderGone) => Ok(Exit::Clean),
        End::Output(error) => Err(output_failure(&error, target, &report)),
        _ => {
            print(context, &report)?;
            Ok(Exit::of(&report.findings))
        }
    }
}

/// What the end itself has to say.
fn finding_of(end: &End, files: &[String], points: &[CapturePoint]) -> Option<Finding> {
    match end {
        End::Seen(found) => {
            let time = rfc3339(i64::try_from(found.time_ns / 1_000_000_000).unwrap_or(0));
            Some(seen(SeenPacket {
                subject: points.get(found.point).map_or("", |p| &p.subject),
                what: &found.until.to_string(),
                time: &time,
                packet: &found.packet,
                file: found.file.as_deref().or(files.last().map(String::as_str)),
            }))
        }
        End::DiskLow(room) => {
            Some(disk_low(files.last().map_or("", String::as_str), room.free_bytes, room.leave_bytes))
        }
        _ => None,
    }
}

/// The report: JSON where documents go; text on standard error, where it does not mix with packets.
fn print(context: &mut Context, report: &CaptureReport) -> Result<(), Failure> {
    if context.json() {
        let wrapped = document("nsprobe.capture/v1", report);
        if context.streams {
            // Nobody is left to tell when standard error is gone.
            let _ = write_json(&mut io::stderr().lock(), &wrapped, false);
        } else {
            context.out.document(&wrapped, false)?;
        }
        return Ok(());
    }
    if context.global.quiet && report.findings.is_empty() {
        return Ok(());
    }
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let paint = Paint::new(match context.global.color {
        Color::Auto => io::stderr().is_terminal() && !plain,
        Color::Always => true,
        Color::Never => false,
    });
    let _ = io::stderr().write_all(render_capture(paint, report).as_bytes());
    Ok(())
}
