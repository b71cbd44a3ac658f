//! Words for exit codes, signals, sizes and times.

use super::cause::signal;
use crate::facts::Cause;

/// An exit code in words: `137, SIGKILL`, `3`, `127, command not found`.
pub fn exit_words(exit_code: Option<i32>) -> String {
    let Some(code) = exit_code else { return "exit code not known".into() };
    match (signal(exit_code), code) {
        (Some(number), _) => match signal_name(number) {
            Some((name, _)) => format!("exit {code} = {name}"),
            None => format!("exit {code} = signal {number}"),
        },
        (None, 126) => "exit 126 = not executable".into(),
        (None, 127) => "exit 127 = command not found".into(),
        (None, 255) => "exit 255".into(),
        (None, code) => format!("exit {code}"),
    }
}

/// Name of a signal, and what it says of a process that it ended.
pub(super) fn signal_name(number: i32) -> Option<(&'static str, &'static str)> {
    Some(match number {
        1 => ("SIGHUP", "its terminal or parent went away"),
        2 => ("SIGINT", "it was interrupted"),
        3 => ("SIGQUIT", "it was told to quit and dump"),
        4 => ("SIGILL", "it ran an instruction that this processor does not have"),
        5 => ("SIGTRAP", "it hit a breakpoint or trap"),
        6 => ("SIGABRT", "it gave up by itself: an assertion, a failed allocation, a panic that aborts"),
        7 => ("SIGBUS", "it touched a mapped file beyond its end, or a full /dev/shm"),
        8 => ("SIGFPE", "it divided by zero"),
        9 => ("SIGKILL", "it was killed and could not object"),
        10 => ("SIGUSR1", "a signal of its own that it did not handle"),
        11 => ("SIGSEGV", "it touched memory that is not its own"),
        12 => ("SIGUSR2", "a signal of its own that it did not handle"),
        13 => ("SIGPIPE", "it wrote to a pipe or connection that nobody reads"),
        14 => ("SIGALRM", "a timer of its own ran out"),
        15 => ("SIGTERM", "it was asked to end"),
        24 => ("SIGXCPU", "it used up its CPU time limit"),
        25 => ("SIGXFSZ", "it reached a file size limit"),
        31 => ("SIGSYS", "it made a system call that seccomp forbids"),
        _ => return None,
    })
}

/// A cause in a few words.
pub fn cause_words(cause: Cause) -> &'static str {
    match cause {
        Cause::OomLimit => "OOM-killed at its memory limit",
        Cause::OomChild => "a child was OOM-killed",
        Cause::OomNode => "OOM-killed, node out of memory",
        Cause::Crash => "crashed",
        Cause::Signal => "ended by a signal",
        Cause::StartError => "could not be started",
        Cause::Completed => "completed",
        Cause::Evicted => "evicted",
        Cause::Running => "running",
        Cause::Unknown => "unknown",
    }
}

/// Bytes as people read them: `24 MiB`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let (mut scaled, mut at) = (bytes, 0);
    while scaled >> 10 >= 1024 && at + 1 < UNITS.len() {
        (scaled, at) = (scaled >> 10, at + 1);
    }
    let unit = UNITS.get(at).copied().unwrap_or_default();
    let (whole, tenth) = (scaled >> 10, (scaled & 1023) * 10 / 1024);
    if tenth == 0 || whole >= 100 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") }
}

/// A time span in nanoseconds as people read it: `40 ms`, `3.2 s`, `12 min`, `5 h`, `3 d`.
pub fn span(ns: i64) -> String {
    let ms = ns.max(0) / 1_000_000;
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..10_000 => format!("{}.{} s", ms / 1000, ms / 100 % 10),
        10_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}
