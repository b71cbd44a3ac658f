//! Where to capture: every SOURCE found, then a handle on each of its interfaces.

use super::CaptureArgs;
use super::failures::capture_failure;
use crate::capture::{self, Place, Point, Settings, SshConnection};
use crate::cli::{Context, Failure};
use crate::pods::{Source, resolve};
use crate::report::sanitize;
use std::path::Path;

/// Finds every SOURCE before anything is opened; two of one namespace are one.
pub(super) fn find_sources(args: &CaptureArgs, context: &Context) -> Result<Vec<Source>, Failure> {
    let mut sources: Vec<Source> = Vec::new();
    for selector in &args.sources {
        let source = resolve(&context.pods(), selector).map_err(|error| {
            let failure = Failure::from(error);
            match &failure.hint {
                // `capture web-0 tcp port 80`, as tcpdump takes it.
                Some(hint) if args.sources.len() > 1 && failure.code == 3 => {
                    let hint = format!("{hint}; a filter comes after --");
                    failure.hint(hint)
                }
                _ => failure,
            }
        })?;
        match sources.iter().find(|s| s.netns.inode() == source.netns.inode()) {
            Some(same) => context
                .note(&format!("{} shares the namespace of {}: captured once", source.label, same.label)),
            None => sources.push(source),
        }
    }
    Ok(sources)
}

/// Opens every point of every SOURCE.
pub(super) fn open_all(
    args: &CaptureArgs,
    context: &Context,
    sources: &[Source],
    settings: &Settings,
    feeds_back: bool,
) -> Result<Vec<Point>, Failure> {
    let node = std::fs::metadata(context.host_path("/proc/1/ns/net"))
        .map(|m| std::os::unix::fs::MetadataExt::ino(&m))
        .ok();
    let mut points = Vec::new();
    for source in sources {
        let host = source.host_network || node == Some(source.netns.inode());
        let ssh = (host && feeds_back).then(|| capture::find_ssh_connection(Path::new("/proc"))).flatten();
        if let Some(ssh) = ssh.filter(|_| context.global.verbose) {
            context.note(&format!("left out: the ssh connection that carries the output, {ssh}"));
        }
        let exclusion = ssh.as_ref().map(SshConnection::exclusion);
        let place = Place {
            subject: &sanitize(&source.label),
            netns: &source.netns,
            host,
            interfaces: &args.interface,
            exclusion: exclusion.as_deref(),
        };
        points.extend(capture::open_points(&place, settings).map_err(capture_failure)?);
    }
    Ok(points)
}
