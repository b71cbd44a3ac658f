//! What somebody refused with a word that is no PTB: who, what, and in which words.

use super::PathFacts;
use super::rules::*;
use crate::facts::{Evidence, Finding, PathNote, PathResult, Verdict, Word};
use std::net::IpAddr;

/// The smallest packet that was refused: how large it was, by whom, and in which word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    pub(super) size: u32,
    from: IpAddr,
    word: Word,
    /// No smaller one was sent.
    pub(super) least: bool,
}

/// That of the sizes that arrive as well, or that of those that do not.
pub(super) fn refusal(path: &PathResult, arrives: bool) -> Option<Refusal> {
    path.notes.iter().find_map(|note| match *note {
        PathNote::Refused { from, word, size, passes, least } if passes == arrives => {
            Some(Refusal { size, from, word, least })
        }
        _ => None,
    })
}

impl Refusal {
    /// What somebody says of packets of any size.
    pub(super) fn of_all(from: IpAddr, word: Word) -> Self {
        Self { size: 0, from, word, least: true }
    }

    /// The same where nothing of any size arrives.
    pub(super) fn said_of_all(self) -> String {
        if self.least {
            return self.said();
        }
        format!("of {} bytes and more {}, smaller ones draw no answer", self.size, self.said())
    }

    /// What becomes of such packets.
    pub(super) fn said(self) -> String {
        format!("are refused by {} ({})", self.from, words(self))
    }
}

/// Who refuses the very size that is one byte too large.
pub(super) fn refused_over(path: &PathResult) -> Option<Refusal> {
    let refused = refusal(path, false).filter(|_| path.verdict == Verdict::BlackHole)?;
    (Some(refused.size) == path.bounds.fails_bytes).then_some(refused)
}

/// What is told beside the verdict.
pub(super) fn check_refusal(facts: &PathFacts, path: &PathResult) -> Vec<Finding> {
    let PathFacts { subject, target, .. } = facts;
    let mut findings = vec![];
    match (refusal(path, false), path.verdict) {
        // Told by the verdict, or a router has said more than that.
        (None, _) | (_, Verdict::Unreachable | Verdict::Narrowed) => {}
        (Some(refused @ Refusal { size, .. }), Verdict::BlackHole) => {
            let mut seen = vec![
                Evidence::new("smallest packet that was refused", size, "bytes", "probes with DF"),
                refused_by(refused),
            ];
            seen.extend(path.bounds.passes_bytes.map(|passes| {
                Evidence::new("largest packet that arrived", passes, "bytes", "probes with DF")
            }));
            let said = format!("packets of {size} bytes and more to {target} {}", refused.said());
            findings.push(REFUSED_BY_SIZE.finding(subject, said, seen, REFUSED_BY_SIZE.fix));
        }
        (Some(refused), _) if path.bounds.passes_bytes.is_none() => findings.push(UNREACHABLE.finding(
            subject,
            match refused.least {
                true => cannot(refused, target),
                false => format!("packets to {target} {}", refused.said_of_all()),
            },
            vec![refused_by(refused)],
            UNREACHABLE.fix,
        )),
        // Smaller ones arrived, and no size was found to be why.
        (Some(refused @ Refusal { size, from, .. }), _) => findings.push(REFUSED_AT_TIMES.finding(
            subject,
            format!("{from} refused a packet of {size} bytes to {target} ({})", words(refused)),
            vec![refused_by(refused)],
            REFUSED_AT_TIMES.fix,
        )),
    }
    if let Some(refused @ Refusal { size, from, .. }) = refusal(path, true) {
        let said = format!(
            "{from} refused a packet of {size} bytes to {target} ({}); others of that size arrive",
            words(refused)
        );
        findings.push(REFUSED_AT_TIMES.finding(
            subject,
            said,
            vec![refused_by(refused)],
            REFUSED_AT_TIMES.fix,
        ));
    }
    findings
}

pub(super) fn cannot(refused: Refusal, target: &str) -> String {
    format!("{} says that {target} cannot be reached: {}", refused.from, words(refused))
}

pub(super) fn refused_by(refused: Refusal) -> Evidence {
    let icmp = format!("ICMP from {}", refused.from);
    let what = "answer to such packets";
    match refused.word {
        Word::Reset => Evidence::text(what, "reset", format!("TCP in the name of {}", refused.from)),
        Word::ParameterProblem | Word::NotReassembled => Evidence::text(what, words(refused), icmp),
        Word::Unreachable(code) => {
            Evidence::text(format!("destination unreachable ({}), code", words(refused)), code, icmp)
        }
    }
}

/// The word, and of a destination unreachable its code: RFC 792, RFC 1122 §3.2.2.1 and RFC 1812 §5.2.7.1; RFC 4443 §3.1.
pub(super) fn words(Refusal { from, word, .. }: Refusal) -> &'static str {
    let code = match word {
        Word::Reset => return "TCP reset",
        Word::ParameterProblem => return "parameter problem",
        Word::NotReassembled => return "time exceeded before its fragments were put together",
        Word::Unreachable(code) => code,
    };
    match (from.is_ipv4(), code) {
        (true, 0) | (false, 0) => "no route to it",
        (true, 1) => "host unreachable",
        (true, 2) => "protocol unreachable",
        (true, 3) | (false, 4) => "port unreachable",
        (true, 6 | 7) => "host or network unknown",
        (true, 9 | 10 | 13) | (false, 1) => "administratively prohibited",
        (false, 2) => "beyond the scope of the source address",
        (false, 3) => "address unreachable",
        (false, 5) => "source address refused by policy",
        (false, 6) => "a route that rejects",
        _ => "for another reason",
    }
}
