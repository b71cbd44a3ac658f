//! The incident corpus on real namespaces (tests/incidents): the right rule on the one, nothing on its twin.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails loudly and may say what it played; clippy sees only #[test] functions as tests"
)]

mod support;

use nsprobe::diagnose;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use support::incident::{Incident, Question, Stage, incidents, judge};
use support::{stderr, stdout};

/// One performance: an incident, a family, a variant.
struct Play {
    name: String,
    incident: Incident,
    family: u8,
    variant: BTreeMap<String, String>,
}

impl Play {
    /// All that this kernel can build.
    fn all() -> Vec<Self> {
        let only = std::env::var("INCIDENT").ok();
        let mut all = Vec::new();
        for (name, incident) in incidents() {
            if incident.base == "lab" || !incident.is_for_here() {
                continue;
            }
            let variants =
                if incident.variants.is_empty() { vec![BTreeMap::new()] } else { incident.variants.clone() };
            for (&family, variant) in
                incident.families.iter().flat_map(|f| variants.iter().map(move |v| (f, v)))
            {
                let kind = variant.get("kind").map(|k| format!(", {k}")).unwrap_or_default();
                let name = format!("{name} (IPv{family}{kind})");
                if only.as_ref().is_some_and(|o| !o.split(',').any(|part| name.contains(part))) {
                    continue;
                }
                all.push(Self { name, incident: incident.clone(), family, variant: variant.clone() });
            }
        }
        all
    }

    /// Plays both twins; what was wrong.
    fn run(&self) -> Vec<String> {
        let incident = &self.incident;
        let build = || {
            let stage = Stage::build(incident, self.family, &self.variant);
            stage.play(&incident.setup);
            stage
        };
        let mut stage = build();
        let mut wrong = self.ask(&stage, false);
        if !incident.same_stage {
            stage = build();
        }
        wrong.extend(self.ask(&stage, true));
        wrong
    }

    /// Plays one twin on its stage.
    fn ask(&self, stage: &Stage, sick: bool) -> Vec<String> {
        let incident = &self.incident;
        stage.play(if sick { &incident.sick } else { &incident.healthy });
        stage.play(&incident.traffic);
        let _going_on = stage.start(&incident.during);
        let mut wrong = Vec::new();
        for Question { command, mut expect } in incident.questions() {
            let output = stage.nsprobe(&command);
            let Ok(document) = serde_json::from_slice(&output.stdout) else {
                wrong.push(format!("{command}: no document: {}{}", stdout(&output), stderr(&output)));
                continue;
            };
            for text in [&mut expect.subject, &mut expect.fix] {
                *text = stage.fill(text);
            }
            wrong.extend(judge(output.status.code(), &document, sick.then_some(&expect)));
        }
        wrong
    }
}

#[test]
fn every_incident_is_told_and_its_healthy_twin_is_left_alone() {
    let all = Play::all();
    let (next, wrong) = (Mutex::new(all.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(play) = next.lock().unwrap().next() else { break };
                    // A set-up that fails is told with the others.
                    let start = std::time::Instant::now();
                    let result = std::panic::catch_unwind(|| play.run())
                        .unwrap_or_else(|_| vec!["the set-up failed, see above".into()]);
                    println!("{}: {} wrong, {:.1} s", play.name, result.len(), start.elapsed().as_secs_f64());
                    let told = result.iter().map(|w| format!("{}: {w}", play.name));
                    wrong.lock().unwrap().extend(told);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    println!("{} performances of two twins", all.len());
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_corpus_is_large_and_its_rules_exist() {
    let all = incidents();
    assert!(all.len() >= 20, "{} incidents", all.len());
    assert!(all.iter().filter(|(_, i)| i.families.contains(&6)).count() >= 10);
    let rules: BTreeSet<&str> = diagnose::rules().iter().map(|r| r.id).collect();
    for (name, incident) in &all {
        assert!(!incident.sick.is_empty(), "{name}");
        for Question { expect, .. } in incident.questions() {
            for id in std::iter::once(&expect.id).chain(&expect.also) {
                assert!(rules.contains(id.as_str()), "{name}: {id} is no rule");
            }
            assert!(!expect.fix.is_empty(), "{name}");
        }
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
