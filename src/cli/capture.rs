//! `nsprobe capture`: arguments, steps, and how each kind of failure is told.

use super::signals::Signals;
use super::{Color, Context, Exit, Failure, values};
use crate::capture::{
    self, CaptureError, End, FileError, Limits, Output, Place, Point, Progress, Settings, Sink, SinkError,
    SshConnection,
};
use crate::diagnose::capture::{CaptureSettings, check_point};
use crate::pods::{Source, resolve};
use crate::report::{CaptureReport, Paint, document, render_capture, sanitize};
use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// libpcap's largest snap length, and tcpdump's default.
const WHOLE: u32 = 262_144;
/// libpcap applies the filter once more to what was kept: of fewer bytes it finds no port, and no packet is left.
const SHORTEST: u32 = 64;
/// Enough for every header that a line shows.
const HEADERS: u32 = 512;

/// Arguments of `capture`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  nsprobe capture web-0 -c 20 -- icmp or tcp port 80
  nsprobe capture web-0 -w web-0.pcapng --duration 30s
  ssh root@node nsprobe capture web-0 -w - | wireshark -k -i -

It ends by -c, --duration, Ctrl-C, or when the pod's interface goes away; the file is valid in each case. \
Interfaces are not put into promiscuous mode. Names of hosts and ports in a filter are not looked up: use numbers. \
With offloads on, packets are seen as the kernel handles them: larger than the MTU, checksums not filled in.")]
pub(crate) struct CaptureArgs {
    /// Where to capture: pods, pid:N, netns:NAME, host; several at once go into one file.
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// Write pcapng to a new FILE, or to standard output (-), instead of printing lines.
    #[arg(short = 'w', long, value_name = "FILE|-")]
    write: Option<PathBuf>,
    /// Empty FILE first if it exists.
    #[arg(long, requires = "write")]
    force: bool,
    /// End after so many packets.
    #[arg(short, long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so long.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    duration: Option<Duration>,
    /// Bytes kept of each packet, at least 64 [default: 262144; 512 when lines are printed].
    #[arg(short, long, value_name = "SNAPLEN", value_parser = clap::value_parser!(u32).range(i64::from(SHORTEST)..=262_144))]
    snaplen: Option<u32>,
    /// Kernel buffer of each interface.
    #[arg(short = 'B', long, value_name = "BUFFER", default_value = "8M", value_parser = buffer)]
    buffer: u32,
    /// Interface, may be repeated [default: every one that is up but lo; for host the uplink].
    #[arg(short, long, value_name = "IFACE")]
    interface: Vec<String>,
    /// Filter in libpcap's language, after --.
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<String>,
}

/// Where packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target<'a> {
    File(&'a Path),
    Stream,
    Lines,
    Count,
}

/// Runs `nsprobe capture`.
pub(super) fn run(args: &CaptureArgs, context: &mut Context) -> Result<Exit, Failure> {
    let target = match &args.write {
        Some(path) if path.as_os_str() == "-" => Target::Stream,
        Some(path) => Target::File(path),
        // Standard output is the document's alone.
        None if context.json() => Target::Count,
        None => Target::Lines,
    };
    context.streams = target == Target::Stream;
    if target == Target::Stream && io::stdout().is_terminal() {
        return Err(Failure::usage("-w - writes pcapng, which is not for a terminal")
            .hint("| wireshark -k -i -, or -w FILE, or no -w for decoded lines"));
    }
    let filter = args.filter.join(" ");
    capture::check_filter(&filter).map_err(|e| capture_failure(e.into()))?;
    // Past `ulimit -f` a write is to fail as on a full disk, not to end us in the middle of a packet.
    let _ = SigSet::from_iter([Signal::SIGXFSZ]).thread_block();
    let signals = Signals::catch(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
        .map_err(|e| Failure::stopped(format!("cannot catch signals: {e}")))?;
    let snaplen_bytes = args.snaplen.unwrap_or(match target {
        Target::File(_) | Target::Stream => WHOLE,
        Target::Lines | Target::Count => HEADERS,
    });
    let settings = Settings { snaplen_bytes, buffer_bytes: args.buffer, filter };
    let sources = find_sources(args, context)?;
    let points = open_all(args, context, &sources, &settings, target)?;
    let output = open_output(target, args.force)?;
    // From here on nothing is opened, and packets of strangers are read.
    capture::drop_privileges()
        .map_err(|e| Failure::stopped(format!("cannot give up privileges before reading packets: {e}")))?;
    announce(context, &points, target);
    let limits = Limits { count: args.count, duration: args.duration };
    let mut status = Status::new(context, target);
    let summary = capture::run(points, output, limits, signals.as_fd(), &mut |p| status.show(p));
    status.clear();
    finish(context, target, &settings, summary)
}

/// Finds every SOURCE before anything is opened; two of one namespace are one.
fn find_sources(args: &CaptureArgs, context: &Context) -> Result<Vec<Source>, Failure> {
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
fn open_all(
    args: &CaptureArgs,
    context: &Context,
    sources: &[Source],
    settings: &Settings,
    target: Target<'_>,
) -> Result<Vec<Point>, Failure> {
    let node = std::fs::metadata(context.host_path("/proc/1/ns/net"))
        .map(|m| std::os::unix::fs::MetadataExt::ino(&m))
        .ok();
    let mut points = Vec::new();
    for source in sources {
        let host = source.host_network || node == Some(source.netns.inode());
        let ssh =
            (host && feeds_back(target)).then(|| capture::find_ssh_connection(Path::new("/proc"))).flatten();
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

/// Whether each packet makes output that may leave through the network.
fn feeds_back(target: Target<'_>) -> bool {
    let plain = || io::stdout().as_fd().try_clone_to_owned().map(std::fs::File::from)?.metadata();
    matches!(target, Target::Stream | Target::Lines) && !plain().is_ok_and(|m| m.is_file())
}

fn open_output(target: Target<'_>, force: bool) -> Result<Output, Failure> {
    let broken = |e: io::Error| Failure::stopped(format!("cannot use the output: {e}"));
    Ok(match target {
        Target::File(path) => {
            let file = capture::open_capture_file(path, force).map_err(file_failure)?;
            Output::pcapng(Sink::file(file).map_err(broken)?)
        }
        Target::Stream => Output::pcapng(Sink::stream(io::stdout().as_fd(), true).map_err(broken)?),
        Target::Lines => Output::lines(Sink::stream(io::stdout().as_fd(), false).map_err(broken)?),
        Target::Count => Output::count(),
    })
}

/// Says on what it listens, as tcpdump does, so that silence has a meaning.
fn announce(context: &Context, points: &[Point], target: Target<'_>) {
    if context.json() {
        return;
    }
    let labels: Vec<String> = points.iter().map(Point::label).collect();
    let end = if target == Target::Stream { "" } else { "; Ctrl-C ends it" };
    context.note(&format!("capturing on {}{end}", labels.join(", ")));
}

/// The status line on a terminal, while a file is written.
struct Status {
    on: bool,
    shown: bool,
    before: u64,
}

impl Status {
    fn new(context: &Context, target: Target<'_>) -> Self {
        let on = matches!(target, Target::File(_)) && !context.global.quiet && io::stderr().is_terminal();
        Self { on, shown: false, before: 0 }
    }

    fn show(&mut self, progress: Progress) {
        if !self.on {
            return;
        }
        let rate = progress.packets.saturating_sub(self.before);
        self.before = progress.packets;
        self.shown = true;
        let line = format!(
            "\r{} packets, {rate}/s, {} dropped, {} s\x1b[K",
            progress.packets,
            progress.dropped,
            progress.elapsed.as_secs()
        );
        let mut stderr = io::stderr();
        // Nobody is left to look when standard error is gone.
        let _ = stderr.write_all(line.as_bytes()).and_then(|()| stderr.flush());
    }

    fn clear(&self) {
        if self.shown {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

/// Tells what was captured, or what stopped it.
fn finish(
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

fn output_failure(error: &SinkError, target: Target<'_>, report: &CaptureReport) -> Failure {
    let place = match target {
        Target::File(path) => path.display().to_string(),
        _ => "standard output".to_owned(),
    };
    match error {
        SinkError::Io { source, lost_packets } => {
            let full = matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG));
            let message = format!(
                "cannot write to {place}: {source}; {} packets are in it and readable, {lost_packets} were lost",
                report.packets
            );
            Failure::stopped(message).hint(if full {
                "free space, write to another disk, keep less of each packet (-s 128), or stream with -w - to another machine"
            } else {
                "another place for the file, or stream with -w - to another machine"
            })
        }
        other => Failure::stopped(format!("cannot write to {place}: {other}"))
            .hint("a reader that keeps up, or -w FILE"),
    }
}

fn file_failure(error: FileError) -> Failure {
    let hint = match &error {
        FileError::Exists(_) => "another name, or --force to overwrite it".to_owned(),
        FileError::NoFolder { folder, .. } => format!("mkdir -p {}", folder.display()),
        FileError::IsFolder(path) => {
            format!("a file name in it: -w {}", path.join("capture.pcapng").display())
        }
        FileError::IsLink(_) => "the name of a file itself: links are not followed".to_owned(),
        FileError::Io { .. } => "another place: -w /tmp/capture.pcapng, or stream with -w -".to_owned(),
    };
    Failure::stopped(error.to_string()).hint(hint)
}

fn capture_failure(error: CaptureError) -> Failure {
    let message = error.to_string();
    match error {
        CaptureError::NetNs(error) => error.into(),
        CaptureError::Filter(error) => Failure::usage(message).hint(if error.is_about_a_name() {
            "use numbers: port 80 instead of port http, host 10.0.0.1 instead of a name"
        } else {
            "man pcap-filter has the language; quote brackets and & for the shell: -- 'tcp and (port 80 or port 443)'"
        }),
        CaptureError::NoInterface { known, .. } => {
            Failure::stopped(message).hint(format!("-i with one of: {}", known.join(", ")))
        }
        CaptureError::NothingUp { known, .. } => {
            Failure::stopped(message).hint(format!("-i with one of: {}", known.join(", ")))
        }
        CaptureError::Down { .. } => {
            Failure::stopped(message).hint("an interface that is up; nsprobe links shows them")
        }
        CaptureError::Privilege { capability, .. } => {
            Failure::privilege(message).hint(format!("run as root (sudo nsprobe …), or with {capability}"))
        }
        CaptureError::Interfaces { .. } | CaptureError::Open { .. } => Failure::stopped(message)
            .hint("nsprobe links shows the interfaces of the namespace; -i names one"),
    }
}

/// A buffer size that libpcap takes: from 64k, below 2G.
fn buffer(text: &str) -> Result<u32, String> {
    let bytes = values::size(text)?;
    u32::try_from(bytes)
        .ok()
        .filter(|b| (64 << 10..1 << 31).contains(b))
        .ok_or_else(|| "a buffer is from 64k to 2047M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_outside_of_what_libpcap_takes_are_refused() {
        assert_eq!(buffer("2M"), Ok(2 << 20));
        for wrong in ["0", "4k", "2G", "x"] {
            assert!(buffer(wrong).is_err(), "{wrong}");
        }
    }
}
