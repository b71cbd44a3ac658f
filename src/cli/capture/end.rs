//! The end: what was captured, as a document or for people.

use super::Target;
use super::failures::output_failure;
use crate::capture::{self, End, Settings, SinkError};
use crate::cli::{Color, Context, Exit, Failure};
use crate::diagnose::capture::{CaptureSettings, check_point};
use crate::report::{CaptureReport, Paint, document, render_capture};
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
        Target::File(path) => vec![path.display().to_string()],
        _ => Vec::new(),
    };
    let report = CaptureReport {
        files,
        packets: summary.packets,
        elapsed_ms: summary.elapsed.as_secs_f64() * 1000.0,
        findings: summary.points.iter().flat_map(|p| check_point(p, limits)).collect(),
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

/// The report: JSON where documents go; text on standard error, where it does not mix with packets.
fn print(context: &mut Context, report: &CaptureReport) -> Result<(), Failure> {
    if context.json() {
        let wrapped = document("nsprobe.capture/v1", report);
        if context.streams {
            let text = serde_json::to_string_pretty(&wrapped).unwrap_or_default();
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(io::stderr(), "{text}");
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
