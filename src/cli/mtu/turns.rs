//! Searches that ran at once share the few words of a router: some ask again, one after the other.

use crate::cli::Failure;
use crate::diagnose::path::INCONCLUSIVE;
use crate::facts::{Evidence, Verdict};
use crate::probe::Onlooker;
use crate::probe::search::ANOTHER_WORD;
use crate::report::MtuReport;
use std::time::Duration;

/// Asks again, one after the other, whoever met silence where another was told of that very size at the same time: a router
/// has few words, and another had them. What is told then is taken, and what cannot be asked is made `unknown`; whether there
/// was any such.
///
/// # Errors
/// Those of `again`, which asks the one with that index within a time.
pub(super) fn in_turn<T>(
    found: &mut [T],
    seen: impl Fn(&T) -> (Verdict, Option<u32>),
    left: impl Fn() -> Duration,
    onlooker: Onlooker<'_>,
    again: impl Fn(usize, Duration) -> Result<T, Failure>,
    unknown: impl Fn(&mut T),
) -> Result<bool, Failure> {
    let told: Vec<_> = found.iter().map(&seen).filter(|(verdict, _)| *verdict == Verdict::Narrowed).collect();
    let silent = |one: &T| {
        let (verdict, mtu) = seen(one);
        verdict == Verdict::BlackHole && told.contains(&(Verdict::Narrowed, mtu))
    };
    let (mut any, mut ended) = (false, false);
    for (at, one) in found.iter_mut().enumerate().filter(|(_, one)| silent(one)) {
        any = true;
        ended = ended || left() < ANOTHER_WORD + ANOTHER_WORD / 4 || onlooker.sleep(ANOTHER_WORD)?;
        if ended {
            unknown(one);
            continue;
        }
        let other = again(at, left())?;
        if seen(&other).0 == Verdict::Narrowed {
            *one = other;
        }
    }
    Ok(any)
}

/// Makes of a black hole what is known where its time was up before it could be asked for again.
pub(super) fn not_asked_again(report: &mut MtuReport) {
    let Some(passes) = report.path_mtu_bytes.take() else { return };
    (report.verdict, report.confidence, report.narrowing) = (Verdict::Inconclusive, None, None);
    report.findings = vec![INCONCLUSIVE.finding(
        &report.label,
        format!(
            "no verdict on the path to {}: to another target that was asked at the same time a router says packet too \
             big, and the time was up before this one could be asked again, alone",
            report.target.input
        ),
        vec![Evidence::new("largest packet that arrived", passes, "bytes", "probes with DF")],
        "Ask for this target alone, or for fewer at once.",
    )];
}
