//! `nsprobe capture`: arguments, steps, and how each kind of failure is told.

mod end;
mod failures;
mod names;
mod places;
mod point;
mod recording;
mod status;
mod view;
mod words;

use super::signals::Signals;
use super::{Context, Exit, Failure, values};
use crate::capture::{self, Limits, Output, Point, Ring, Settings, Sink};
use clap::{Args, ValueEnum};
use end::finish;
use failures::capture_failure;
use nix::sys::signal::{SigSet, Signal};
use places::{find_sources, open_all};
use point::PointArgs;
use recording::{Part, RecordingArgs};
use status::Status;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use view::ViewArgs;
use words::WordArgs;

/// libpcap's largest snap length, and tcpdump's default.
const WHOLE: u32 = 262_144;
/// libpcap applies the filter once more to what was kept: of fewer bytes it finds no port, and no packet is left.
const SHORTEST: u32 = 64;
/// Enough for every header that a line shows.
const HEADERS: u32 = 512;

/// Points that are named before a capture begins; of more the number says enough.
const NAMED: usize = 12;

/// Arguments of `capture`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  nsprobe capture web-0 -c 20 -- icmp or tcp port 80
  nsprobe capture web-0 -w web-0.pcapng --duration 30s
  nsprobe capture web-0 -w /var/tmp/web-0.pcapng --max-size 50M --files 20
  nsprobe capture web-0 -w /var/tmp/night.pcapng --ring-until ptb --ring-until rst
  nsprobe capture web-0 db-0 --point all --port 80 --icmp-errors -w way.pcapng
  ssh root@node nsprobe capture web-0 -w - | wireshark -k -i -

It ends by -c, --duration, Ctrl-C, or when the pod's interface goes away (--when-gone); the file is valid in each case. \
--point finds the node's interfaces on the pod's way. At veth all is the pod's own; at bridge, tunnel and uplink \
the filter is limited to its addresses, and at the uplink it also holds for what VXLAN, Geneve and IP-in-IP carry \
(not for what is encrypted, and not for what the node masquerades). \
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
    /// Kernel buffer of each interface [default: 8M, and 128M for all interfaces together].
    #[arg(short = 'B', long, value_name = "BUFFER", value_parser = buffer)]
    buffer: Option<u32>,
    /// Interface, may be repeated [default: every one that is up but lo; for host the uplink].
    #[arg(short, long, value_name = "IFACE")]
    interface: Vec<String>,
    /// What to do when an interface goes away: end its capture, or wait for one of the same name.
    #[arg(long, value_enum, default_value_t = WhenGone::End)]
    when_gone: WhenGone,
    /// Filter in libpcap's language, after --.
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<String>,
    #[command(flatten)]
    points: PointArgs,
    #[command(flatten)]
    words: WordArgs,
    #[command(flatten)]
    recording: RecordingArgs,
    #[command(flatten)]
    view: ViewArgs,
}

/// What becomes of a capture whose interface goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WhenGone {
    /// It ends; the capture goes on as long as another is left.
    End,
    /// It goes on when an interface of that name is there again in that network namespace.
    Wait,
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
    let typed = args.filter.join(" ");
    capture::check_filter(&typed).map_err(|e| capture_failure(e.into()))?;
    // Past `ulimit -f` a write is to fail as on a full disk, not to end us in the middle of a packet.
    let _ = SigSet::from_iter([Signal::SIGXFSZ]).thread_block();
    let signals = Signals::catch(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
        .map_err(|e| Failure::stopped(format!("cannot catch signals: {e}")))?;
    let snaplen_bytes = args.snaplen.unwrap_or(match target {
        Target::File(_) | Target::Stream => WHOLE,
        Target::Lines if args.view.shows_bytes() => WHOLE,
        Target::Lines | Target::Count => HEADERS,
    });
    let (words, names) = args.words.resolve(context)?;
    let filter = capture::both(&words.filter(), &typed);
    capture::check_filter(&filter).map_err(|e| capture_failure(e.into()))?;
    if context.global.verbose && filter != typed {
        context.note(&format!("filter: {filter}"));
    }
    let mut settings = Settings { snaplen_bytes, buffer_bytes: 0, filter };
    let sources = find_sources(args, context)?;
    let names = match target {
        Target::File(_) | Target::Stream => names::find_names(context, &sources, names),
        Target::Lines | Target::Count => Vec::new(),
    };
    let ring = match recording::part(&args.recording, target, args.force, signals.as_fd())? {
        Part::Capture(ring) => ring,
        Part::Over(exit) => return Ok(exit),
    };
    let points = open_all(args, context, &sources, &mut settings, feeds_back(target))?;
    let output = open_output(args, target, ring, context)?.naming(names);
    capture::ask_for_share(points.len());
    // From here on nothing is opened, and packets of strangers are read.
    capture::drop_privileges()
        .map_err(|e| Failure::stopped(format!("cannot give up privileges before reading packets: {e}")))?;
    announce(context, &points, target);
    let limits = Limits {
        count: args.count,
        duration: args.duration,
        tail: args.recording.tail(),
        wait: args.when_gone == WhenGone::Wait,
    };
    let mut status = Status::new(context, target);
    let summary = capture::run(points, output, limits, signals.as_fd(), &mut |p| status.show(p));
    status.clear();
    finish(context, target, &settings, summary)
}

/// Whether each packet makes output that may leave through the network.
fn feeds_back(target: Target<'_>) -> bool {
    let plain = || io::stdout().as_fd().try_clone_to_owned().map(std::fs::File::from)?.metadata();
    match target {
        Target::Stream | Target::Lines => !plain().is_ok_and(|m| m.is_file()),
        // A pipe of Wireshark's, which may show its windows through ssh.
        Target::File(path) => path.metadata().is_ok_and(|m| m.file_type().is_fifo()),
        Target::Count => false,
    }
}

fn open_output(
    args: &CaptureArgs,
    target: Target<'_>,
    ring: Option<Ring>,
    context: &Context,
) -> Result<Output, Failure> {
    let broken = |e: io::Error| Failure::stopped(format!("cannot use the output: {e}"));
    let stream = |blocks| Sink::stream(io::stdout().as_fd(), blocks).map_err(broken);
    Ok(match target {
        Target::File(path) => {
            recording::announce_ring(&args.recording, context, path);
            recording::open_file(&args.recording, path, ring, args.force)?
        }
        Target::Stream => args.recording.watch(Output::pcapng(stream(true)?)),
        Target::Lines => Output::lines(stream(false)?, args.view.view(context)),
        Target::Count => Output::count(),
    })
}

/// Says on what it listens, as tcpdump does, so that silence has a meaning.
fn announce(context: &Context, points: &[Point], target: Target<'_>) {
    if context.json() {
        return;
    }
    let mut labels: Vec<String> = points.iter().take(NAMED).map(Point::label).collect();
    if points.len() > NAMED {
        labels.push(format!("and {} more", points.len() - NAMED));
    }
    let end = if target == Target::Stream { "" } else { "; Ctrl-C ends it" };
    context.note(&format!("capturing on {}{end}", labels.join(", ")));
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
