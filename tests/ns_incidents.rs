//! The incident corpus on real namespaces (tests/incidents): the right rule on the one, nothing on its twin.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use nsprobe::diagnose;
use std::collections::BTreeSet;
use std::sync::Mutex;
use support::incident::{Incident, Stage, incidents, judge};
use support::{stderr, stdout};

/// Plays both twins of an incident for one family; what was wrong.
fn play(incident: &Incident, family: u8) -> Vec<String> {
    let mut wrong = Vec::new();
    for sick in [true, false] {
        let stage = Stage::build(incident, family);
        stage.play(&incident.setup);
        stage.play(if sick { &incident.sick } else { &incident.healthy });
        stage.play(&incident.traffic);
        let _going_on = stage.start(&incident.during);
        let output = stage.nsprobe(&incident.command);
        let Ok(document) = serde_json::from_slice(&output.stdout) else {
            wrong.push(format!("sick {sick}: no document: {}{}", stdout(&output), stderr(&output)));
            continue;
        };
        let mut expect = incident.expect.clone();
        for text in [&mut expect.subject, &mut expect.fix] {
            *text = stage.fill(text);
        }
        wrong.extend(judge(output.status.code(), &document, sick.then_some(&expect)));
    }
    wrong
}

#[test]
fn every_incident_is_told_and_its_healthy_twin_is_left_alone() {
    let only = std::env::var("INCIDENT").ok();
    let all: Vec<_> = incidents()
        .into_iter()
        .filter(|(name, i)| i.base != "lab" && only.as_ref().is_none_or(|o| name.contains(o.as_str())))
        .flat_map(|(name, i)| i.families.clone().into_iter().map(move |f| (name.clone(), f, i.clone())))
        .collect();
    let (next, wrong) = (Mutex::new(all.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((name, family, incident)) = next.lock().unwrap().next() else { break };
                    // A set-up that fails is told with the others.
                    let result = std::panic::catch_unwind(|| play(incident, *family))
                        .unwrap_or_else(|_| vec!["the set-up failed, see above".into()]);
                    let told = result.iter().map(|w| format!("{name} (IPv{family}): {w}"));
                    wrong.lock().unwrap().extend(told);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_corpus_is_large_and_its_rules_exist() {
    let all = incidents();
    assert!(all.len() >= 20, "{} incidents", all.len());
    assert!(all.iter().filter(|(_, i)| i.families.contains(&6)).count() >= 10);
    let rules: BTreeSet<&str> = diagnose::rules().iter().map(|r| r.id).collect();
    for (name, incident) in &all {
        for id in std::iter::once(&incident.expect.id).chain(&incident.expect.also) {
            assert!(rules.contains(id.as_str()), "{name}: {id} is no rule");
        }
        assert!(!incident.sick.is_empty() && !incident.expect.fix.is_empty(), "{name}");
    }
}

#[test]
fn a_report_that_says_too_much_or_too_little_is_noticed() {
    let expect: support::incident::Expect = toml::from_str("id = 'a.b'\nsubject = 'x'\nfix = 'do'").unwrap();
    let document = |id: &str, severity: &str, subject: &str, fix: &str| serde_json::json!({"findings": [{"id": id, "severity": severity, "subject": subject, "fix": fix, "evidence": [1]}]});
    let good = document("a.b", "warning", "x", "do it");
    assert!(judge(Some(1), &good, Some(&expect)).is_empty());
    assert!(judge(Some(0), &document("a.b", "info", "x", "do"), Some(&expect)).is_empty());
    assert!(judge(Some(0), &document("c.d", "info", "x", "do"), None).is_empty());
    for (code, bad, expect) in [
        (Some(1), &good, None),
        (Some(1), &serde_json::json!({"findings": []}), None),
        (Some(0), &good, Some(&expect)),
        (Some(1), &document("a.b", "warning", "y", "do"), Some(&expect)),
        (Some(1), &document("a.b", "warning", "x", "other"), Some(&expect)),
        (Some(1), &document("c.d", "warning", "x", "do"), Some(&expect)),
    ] {
        assert!(!judge(code, bad, expect).is_empty(), "{bad}");
    }
}
