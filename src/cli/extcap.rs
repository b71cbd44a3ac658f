//! The pods of this node as interfaces of Wireshark: its extcap protocol (extcap(4), doc/extcap.adoc).
//!
//! Wireshark runs every program of its extcap folder with `--extcap-interfaces`, later with the interface that the
//! person has chosen. A SOURCE is the name of an interface. nsprobe answers when it is called `nsprobe-extcap`, or
//! when its first argument begins with `--extcap`.

use super::{Cli, Context, Exit, Failure};
use crate::capture::{self, Place, Settings, Wish};
use crate::netns::NetNs;
use crate::pods::{self, is_live, resolve};
use crate::report::sanitize;
use clap::Parser;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long Wireshark may take to open its end of the pipe.
const PATIENCE: Duration = Duration::from_secs(10);

/// What Wireshark asks for. Long options only; what later versions may add is ignored.
#[derive(Debug, Parser)]
#[command(name = "nsprobe-extcap", disable_version_flag = true)]
struct ExtcapArgs {
    #[arg(long)]
    extcap_interfaces: bool,
    #[arg(long, value_name = "SOURCE")]
    extcap_interface: Option<String>,
    #[arg(long)]
    extcap_dlts: bool,
    #[arg(long)]
    extcap_config: bool,
    #[arg(long, value_name = "FILTER")]
    extcap_capture_filter: Option<String>,
    #[arg(long)]
    capture: bool,
    /// A pipe, or - for standard output.
    #[arg(long, value_name = "PATH|-")]
    fifo: Option<PathBuf>,
    #[arg(long, value_name = "IFACE")]
    interface: Option<String>,
    #[arg(long, value_name = "SNAPLEN")]
    snaplen: Option<String>,
    #[arg(long, value_name = "BUFFER")]
    buffer: Option<String>,
    /// The version of Wireshark, and its wishes on debugging.
    #[arg(long, value_name = "VERSION")]
    extcap_version: Option<String>,
    #[arg(long, value_name = "OPTION")]
    extcap_reload_option: Option<String>,
    #[arg(long, num_args = 0..=1)]
    debug: Option<Option<String>>,
    #[arg(long, value_name = "FILE")]
    debug_file: Option<PathBuf>,
}

/// Whether Wireshark is calling.
pub fn is_extcap(arguments: &[OsString]) -> bool {
    let name = arguments.first().map(Path::new).and_then(Path::file_stem);
    name.is_some_and(|n| n == "nsprobe-extcap")
        || arguments.get(1).and_then(|a| a.to_str()).is_some_and(|a| a.starts_with("--extcap-"))
}

/// Answers Wireshark.
pub fn run_extcap(arguments: Vec<OsString>) -> Exit {
    let args = match ExtcapArgs::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return Exit::Code(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // The options of a plain `nsprobe pods`: all by default.
    let Ok(plain) = Cli::try_parse_from(["nsprobe", "-q", "pods"]) else { return Exit::Code(5) };
    let mut context = Context::new(plain.global);
    let answer = match (&args.extcap_interface, &args.extcap_capture_filter) {
        _ if args.extcap_interfaces => Ok(interfaces(&context)),
        (Some(source), _) if args.extcap_dlts => Ok(datalink(&context, source)),
        (Some(_), _) if args.extcap_config => Ok(CONFIG.to_owned()),
        (Some(source), _) if args.capture => match &args.fifo {
            Some(fifo) => return record(&args, source, fifo, &mut context),
            None => Err(Failure::usage("--capture without --fifo")),
        },
        // Anything that is printed here is what is wrong with the filter.
        (Some(_), Some(filter)) => {
            Ok(capture::check_filter(filter).err().map_or(String::new(), |e| format!("{e}\n")))
        }
        _ => Err(Failure::usage("this is what Wireshark calls to list pods as interfaces").hint(
            "a link to it in Wireshark's extcap folder (Help, About, Folders); nsprobe --help for people",
        )),
    };
    match answer.and_then(|text| Ok(context.out.text(&text)?)) {
        Ok(()) => Exit::Clean,
        Err(failure) => context.fail(&failure),
    }
}

/// What can be set for a capture.
const CONFIG: &str = "\
arg {number=0}{call=--interface}{display=Interface}{tooltip=Of the pod; empty: every one that is up, but lo}{type=string}{required=false}
arg {number=1}{call=--snaplen}{display=Bytes kept of each packet}{type=unsigned}{range=64,262144}{default=262144}
arg {number=2}{call=--buffer}{display=Kernel buffer}{tooltip=64k to 2047M}{type=string}{default=8M}
";

/// The node, every live pod with a network of its own, and named namespaces that are nobody's.
fn interfaces(context: &Context) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("extcap {{version={version}}}{{display=nsprobe}}\n");
    let mut put = |value: &str, display: &str| {
        // A brace would end the field; a name that needs one is left out rather than guessed at.
        if !value.contains(['{', '}', '\n']) {
            text.push_str(&format!("interface {{value={value}}}{{display={display}}}\n"));
        }
    };
    put("host", "nsprobe: this node's uplink");
    // Without the right to ask there is nothing to list; Wireshark shows what there is.
    let pods = pods::list(&context.pods()).map(|list| list.pods).unwrap_or_default();
    for pod in pods.iter().filter(|p| is_live(p) && p.host_network != Some(true)) {
        let name = format!("{}/{}", pod.namespace, pod.name);
        put(&format!("pod:{}", sanitize(&name)), &format!("nsprobe: {}", sanitize(&name)));
    }
    let mut names: Vec<String> = std::fs::read_dir(context.host_path("/run/netns"))
        .map(|entries| entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    names.sort();
    for name in names {
        let netns = NetNs::open(&context.host_path("/run/netns").join(&name));
        if netns.is_ok_and(|n| pods.iter().all(|p| p.netns_inode != Some(n.inode()))) {
            let name = sanitize(&name);
            put(&format!("netns:{name}"), &format!("nsprobe: network namespace {name}"));
        }
    }
    text
}

/// The link type of the first interface that would be captured on; Ethernet where it cannot be asked.
fn datalink(context: &Context, source: &str) -> String {
    let asked = || -> Option<(i32, String)> {
        let source = resolve(&context.pods(), source).ok()?;
        let place = Place { subject: &source.label, netns: &source.netns, host: source.host_network };
        let first = capture::find_interfaces(&place, &[]).ok()?.into_iter().next()?;
        let wish = Wish { label: first.clone(), interface: first, ..Wish::default() };
        let settings = Settings { snaplen_bytes: 64, buffer_bytes: 64 << 10, filter: String::new() };
        let link = pcap::Linktype(capture::open_points(&place, &[wish], &settings).ok()?.first()?.datalink());
        Some((link.0, link.get_name().ok()?))
    };
    let (number, name) = asked().unwrap_or((1, "EN10MB".to_owned()));
    format!("dlt {{number={number}}}{{name={name}}}{{display={name}}}\n")
}

/// Captures into the pipe: `nsprobe capture SOURCE -w FIFO`.
fn record(args: &ExtcapArgs, source: &str, fifo: &Path, context: &mut Context) -> Exit {
    // Held until the end: were ours the only writer's end and closed once, Wireshark would think it is over.
    let held = if fifo.as_os_str() == "-" { Ok(None) } else { wait_for_reader(fifo).map(Some) };
    let _held = match held {
        Ok(held) => held,
        Err(error) => {
            let failure = Failure::stopped(format!("nobody reads {}: {error}", fifo.display()));
            return context.fail(&failure);
        }
    };
    let mut words: Vec<OsString> = ["nsprobe", "-q", "capture", source, "-w"].map(OsString::from).into();
    words.push(fifo.into());
    let options = [("-i", &args.interface), ("-s", &args.snaplen), ("-B", &args.buffer)];
    for (option, value) in options {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            words.extend([option.into(), value.into()]);
        }
    }
    if let Some(filter) = args.extcap_capture_filter.as_ref().filter(|f| !f.trim().is_empty()) {
        words.extend(["--".into(), filter.into()]);
    }
    match Cli::try_parse_from(words) {
        Ok(cli) => super::run(cli),
        Err(error) => {
            let _ = error.print();
            Exit::Code(2)
        }
    }
}

/// Opens the pipe for writing once somebody has opened it for reading.
fn wait_for_reader(fifo: &Path) -> io::Result<File> {
    let until = Instant::now() + PATIENCE;
    loop {
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        match File::options().write(true).custom_flags(flags).open(fifo) {
            Ok(file) if file.metadata()?.file_type().is_fifo() => return Ok(file),
            Ok(_) => return Err(io::Error::other("it is no pipe")),
            Err(error) if error.raw_os_error() != Some(libc::ENXIO) || Instant::now() >= until => {
                return Err(error);
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wireshark_is_known_by_the_programs_name_or_by_the_first_argument() {
        let call = |words: &str| is_extcap(&words.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(call("/usr/lib/wireshark/extcap/nsprobe-extcap --extcap-interfaces"));
        assert!(call("nsprobe --extcap-interfaces --extcap-version=4.0"));
        assert!(call("nsprobe --extcap-interface host --extcap-dlts"));
        assert!(!call("nsprobe capture --extcap-interfaces"));
        assert!(!call("nsprobe"));
    }

    #[test]
    fn what_is_no_pipe_is_not_written_to() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "precious").unwrap();
        assert!(wait_for_reader(file.path()).is_err());
        assert_eq!(std::fs::read(file.path()).unwrap(), b"precious");
    }
}
