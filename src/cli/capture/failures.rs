//! How each kind of failure is told: the thing, the reason, the next step.

use super::Target;
use crate::capture::{CaptureError, FileError, SinkError};
use crate::cli::Failure;
use crate::report::CaptureReport;

pub(super) fn output_failure(error: &SinkError, target: Target<'_>, report: &CaptureReport) -> Failure {
    let place = match target {
        Target::File(path) => path.display().to_string(),
        _ => "standard output".to_owned(),
    };
    match error {
        SinkError::Io { source, lost_packets } => {
            let full = matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG));
            let kept = match target {
                Target::Lines => String::new(),
                _ => format!("; {} packets are in it and readable, {lost_packets} were lost", report.packets),
            };
            let message = format!("cannot write to {place}: {source}{kept}");
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

pub(super) fn file_failure(error: FileError) -> Failure {
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

pub(super) fn capture_failure(error: CaptureError) -> Failure {
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
