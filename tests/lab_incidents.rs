//! The incident corpus on real workers with real containerd and CNI: one lab for all of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use std::collections::BTreeMap;
use support::incident::{fill, incidents, judge};
use support::lab::Lab;
use support::{stderr, stdout};

/// Runs lines `set: OPTIONS`, `pod: ARGUMENTS`, `pod-rm: NAME` of scripts/lab, and `1: shell` on a node.
fn play(lab: &Lab, lines: &[String], words: &BTreeMap<String, String>) {
    for line in lines {
        let line = fill(line, words);
        let (where_, what) = line.split_once(": ").unwrap_or_else(|| panic!("no place: {line}"));
        match where_ {
            "set" | "pod" | "pod-rm" | "hang" | "resume" => {
                let arguments: Vec<&str> = std::iter::once(where_).chain(what.split_whitespace()).collect();
                lab.script(&arguments);
            }
            "underlay" | "1" | "2" => {
                lab.script(&["exec", where_, "--", "sh", "-ec", what]);
            }
            other => panic!("no place is called {other}"),
        }
    }
}

#[test]
fn every_incident_is_told_with_the_pods_name_and_its_healthy_twin_is_left_alone() {
    let lab = Lab::up("--pod-mtu 1450");
    let address =
        |node: u8, name: &str, at: usize| lab.pod(node, name)["ips"][at].as_str().unwrap().to_owned();
    let mut wrong = Vec::new();
    let mut played = 0;
    for (name, incident) in incidents().into_iter().filter(|(_, i)| i.base == "lab") {
        for family in &incident.families {
            let at = usize::from(*family == 6);
            let words = BTreeMap::from([
                ("family".to_owned(), family.to_string()),
                ("web".to_owned(), address(1, "web-0", at)),
                ("db".to_owned(), address(2, "db-0", at)),
            ]);
            for sick in [false, true] {
                play(&lab, &incident.setup, &words);
                play(&lab, if sick { &incident.sick } else { &incident.healthy }, &words);
                play(&lab, &incident.traffic, &words);
                let command = fill(&format!("nsprobe {} -o json", incident.command), &words);
                let output = lab.exec(1, &command.split_whitespace().collect::<Vec<_>>());
                match serde_json::from_slice(&output.stdout) {
                    Ok(document) => wrong.extend(
                        judge(output.status.code(), &document, sick.then_some(&incident.expect))
                            .into_iter()
                            .map(|w| format!("{name} (IPv{family}): {w}")),
                    ),
                    Err(e) => wrong.push(format!("{name}: {e}: {}{}", stdout(&output), stderr(&output))),
                }
                play(&lab, &incident.mend, &words);
                played += 1;
            }
        }
    }
    assert!(played >= 12, "{played} twins");
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}
