//! `--measure`: the path MTU to the peers of connections that hang, by ICMP alone.

use crate::cli::mtu::{Choice, Terms, measure, plan};
use crate::cli::{Context, Failure, Level};
use crate::facts::MeasuredPath;
use crate::netns::NetNs;
use crate::pods::Source;
use crate::probe::{Onlooker, Target};
use crate::report::MtuReport;
use std::net::IpAddr;
use std::time::Duration;

/// Paths that are measured at most; the others stay suspected.
pub(super) const MOST_PATHS: usize = 8;
/// For each of them; all run at once.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// No port is named, so none is connected to.
const TERMS: Terms = Terms {
    min: None,
    max: None,
    timeout: Duration::from_secs(1),
    deadline: DEADLINE,
    max_probes: 300,
    rate: None,
    locate: false,
    port: None,
    method: Choice::Icmp,
};

/// Measures from a source to each remote address, all at once. What cannot be measured is left out and logged.
pub(super) fn measure_paths(
    context: &Context,
    source: &Source,
    host: Option<&NetNs>,
    remotes: &[IpAddr],
    onlooker: Onlooker<'_>,
) -> Vec<MtuReport> {
    let one = |remote: IpAddr| -> Result<MtuReport, Failure> {
        source.netns.enter_for_ever()?;
        let target = Target { address: remote, scope_id: 0 };
        let planned = plan(&TERMS, source, &remote.to_string(), target)?;
        measure(source, host, &planned, 1, onlooker)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            remotes.iter().map(|&remote| (remote, scope.spawn(move || one(remote)))).collect();
        let mut reports = Vec::new();
        for (remote, thread) in threads {
            match thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                Ok(report) => reports.push(report),
                Err(failure) => {
                    context.log(Level::Warn, &format!("{remote} was not measured: {}", failure.message));
                }
            }
        }
        reports
    })
}

/// What the rules on sockets want to know of a search.
pub(super) fn measured(report: &MtuReport) -> MeasuredPath {
    MeasuredPath {
        remote: report.target.address,
        method: report.method,
        verdict: report.verdict,
        path_mtu_bytes: report.path_mtu_bytes,
        passes_bytes: report.bounds.passes_bytes,
        interface: report.source.interface.clone(),
    }
}
