//! A fifth of all packets to the target is lost on real namespaces: the verdict is right all the same.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails loudly and says how often it was right; clippy sees only #[test] functions as tests"
)]

mod support;
use std::time::Instant;
use support::namespace_path::NamespacePath;
use support::{nsprobe, stderr, stdout};

/// Runs of each path; `NSPROBE_LOSS_RUNS=100` is the long form.
fn runs() -> usize {
    std::env::var("NSPROBE_LOSS_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

/// What a path was said to be: (right, what was said and is wrong, with which confidence).
fn measure(family: u8, hop: &str, verdict: &str, mtu: u64) -> (usize, Vec<(String, f64)>) {
    let text = format!(
        "about = 'loss'\nfamily = {family}\ninterface_mtu = 1500\nloss = 0.2\n\
         hop = [{{ mtu = 1500 }}, {hop}]\nexpect = {{ verdict = '{verdict}', path_mtu = {mtu} }}"
    );
    let path = NamespacePath::build(&toml::from_str(&text).unwrap());
    let (mut right, mut wrong) = (0, Vec::new());
    let begin = Instant::now();
    for _ in 0..runs() {
        let output = nsprobe().args(["mtu", &path.source(), &path.target(), "-o", "json"]).output().unwrap();
        let document: serde_json::Value =
            serde_json::from_str(&stdout(&output)).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
        let said = (document["verdict"].as_str().unwrap(), document["path_mtu_bytes"].as_u64());
        if said == (verdict, Some(mtu)) {
            right += 1;
        } else {
            wrong.push((
                format!("IPv{family} {hop}: {said:?}\n{document:#}"),
                document["confidence"].as_f64().unwrap_or(0.0),
            ));
        }
    }
    println!(
        "IPv{family} {hop}: {right} of {} right, {:?} each",
        runs(),
        begin.elapsed() / u32::try_from(runs()).unwrap()
    );
    (right, wrong)
}

#[test]
fn at_twenty_percent_loss_it_is_right_and_never_wrong_with_confidence() {
    let paths = [
        ("{ mtu = 1500 }", "clear", 1500),
        ("{ mtu = 1450 }", "narrowed", 1450),
        ("{ mtu = 1450, ptb = 'silent' }", "black_hole", 1450),
    ];
    let played: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = [4, 6]
            .into_iter()
            .flat_map(|family| paths.map(|path| (family, path)))
            .map(|(family, (hop, verdict, mtu))| scope.spawn(move || measure(family, hop, verdict, mtu)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let right: usize = played.iter().map(|(right, _)| right).sum();
    let wrong: Vec<_> = played.iter().flat_map(|(_, wrong)| wrong).collect();
    let sure: Vec<_> = wrong.iter().filter(|(_, confidence)| *confidence > 0.999).collect();
    assert!(sure.is_empty(), "wrong with confidence:\n{sure:#?}");
    // 99 of 100 is what it is built for; chance may take one more in so few.
    assert!((played.len() * runs() - right) * 100 <= played.len() * runs() * 2, "{right} right\n{wrong:#?}");
}
