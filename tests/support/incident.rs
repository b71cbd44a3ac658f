//! The incident corpus: a set-up on real namespaces or workers that goes wrong in one way, and its healthy twin.

use super::{Netns, Running};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// One file of `tests/incidents/`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    /// What somebody on call sees, one sentence.
    pub about: String,
    /// Where it was met: public issues.
    #[serde(default)]
    pub seen: Vec<String>,
    /// A file of `bases/` whose set-up comes first; `lab` is the lab of real workers.
    pub base: String,
    /// 4, 6 or both: it is played once for each.
    #[serde(default = "four")]
    pub families: Vec<u8>,
    /// Lines for both twins, behind those of the base.
    #[serde(default)]
    pub setup: Vec<String>,
    /// Lines that bring the fault.
    pub sick: Vec<String>,
    /// Lines that its twin runs instead.
    #[serde(default)]
    pub healthy: Vec<String>,
    /// Lines for both twins, last: traffic.
    #[serde(default)]
    pub traffic: Vec<String>,
    /// Lines that go on while the program runs, each in a shell of its own; what rises then is lost *now*.
    #[serde(default)]
    pub during: Vec<String>,
    /// Lines that put a lab back as it was.
    #[serde(default)]
    pub mend: Vec<String>,
    /// Kernel modules that not every machine has: it is then played in the VM of `scripts/vm`, and only there.
    #[serde(default)]
    pub needs: Vec<String>,
    /// The fault is brought to the stage on which the healthy twin was played: for sets that take long to build.
    #[serde(default)]
    pub same_stage: bool,
    /// It is played once for each of these sets of words, which may themselves hold words of the base.
    #[serde(default)]
    pub variants: Vec<BTreeMap<String, String>>,
    /// What is run on the node: words behind `nsprobe`.
    pub command: String,
    pub expect: Expect,
    /// Other commands on the same set-up.
    #[serde(default)]
    pub more: Vec<Question>,
}

/// A command and what it must tell.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub command: String,
    pub expect: Expect,
}

impl Incident {
    /// All that is asked of one set-up.
    pub fn questions(&self) -> Vec<Question> {
        let first = Question { command: self.command.clone(), expect: self.expect.clone() };
        std::iter::once(first).chain(self.more.iter().cloned()).collect()
    }

    /// Whether it is for the kernel that this test runs on.
    pub fn is_for_here(&self) -> bool {
        match std::env::var("NSPROBE_TEST_VM").as_deref() {
            Ok("needs") => !self.needs.is_empty(),
            Ok(_) => true,
            Err(_) => self.needs.is_empty(),
        }
    }
}

/// What the sick one must be told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The rule.
    pub id: String,
    pub subject: String,
    /// What the fix contains.
    pub fix: String,
    /// Warnings and worse that come with it, because they follow from it.
    #[serde(default)]
    pub also: Vec<String>,
}

/// A set-up that several incidents share.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// What it is.
    pub about: String,
    /// Namespaces; the program runs in the one that is called `node`.
    pub spaces: Vec<String>,
    pub setup: Vec<String>,
    /// Words for `{WORD}`, by family.
    #[serde(default)]
    pub four: BTreeMap<String, String>,
    #[serde(default)]
    pub six: BTreeMap<String, String>,
}

fn four() -> Vec<u8> {
    vec![4]
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/incidents")
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every incident with its name, in order.
pub fn incidents() -> Vec<(String, Incident)> {
    let mut all: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), read(&path)))
        .collect();
    all.sort_by(|a: &(String, Incident), b| a.0.cmp(&b.0));
    all
}

/// A base by its name.
pub fn base(name: &str) -> Base {
    read(&folder().join("bases").join(format!("{name}.toml")))
}

/// Words in braces, filled in.
pub fn fill(text: &str, words: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (word, value) in words {
        text = text.replace(&format!("{{{word}}}"), value);
    }
    text
}

/// Compares a report with what was expected of the sick twin (`Some`) or the healthy one; what is wrong.
pub fn judge(code: Option<i32>, document: &serde_json::Value, expect: Option<&Expect>) -> Vec<String> {
    let mut wrong = Vec::new();
    let empty = Vec::new();
    let findings = document["findings"].as_array().unwrap_or(&empty);
    let loud: Vec<&str> = findings
        .iter()
        .filter(|f| f["severity"] != "info")
        .map(|f| f["id"].as_str().unwrap_or_default())
        .collect();
    match expect {
        None => {
            if !loud.is_empty() || code != Some(0) {
                wrong.push(format!("the healthy twin: exit {code:?}, {loud:?}"));
            }
        }
        Some(expect) => {
            match findings.iter().find(|f| f["id"] == *expect.id && f["subject"] == *expect.subject) {
                None => wrong.push(format!("no {} on {}; loud: {loud:?}", expect.id, expect.subject)),
                Some(finding) => {
                    let fix = finding["fix"].as_str().unwrap_or_default();
                    if !fix.contains(&expect.fix) {
                        wrong.push(format!("its fix lacks {:?}: {fix}", expect.fix));
                    }
                    if finding["evidence"].as_array().is_none_or(Vec::is_empty) {
                        wrong.push("no evidence".into());
                    }
                }
            }
            let known = |id: &str| id == expect.id || expect.also.iter().any(|a| a == id);
            wrong.extend(loud.iter().filter(|id| !known(id)).map(|id| format!("beside it {id}")));
            let expected = i32::from(!loud.is_empty());
            if code != Some(expected) {
                wrong.push(format!("exit {code:?} instead of {expected}"));
            }
        }
    }
    if !wrong.is_empty() {
        wrong.push(format!("{document:#}"));
    }
    wrong
}

/// The namespaces of one twin; gone when dropped.
pub struct Stage {
    spaces: BTreeMap<String, Netns>,
    words: BTreeMap<String, String>,
}

impl Stage {
    /// Builds the base of an incident for one family and one of its variants.
    pub fn build(incident: &Incident, family: u8, variant: &BTreeMap<String, String>) -> Self {
        let base = base(&incident.base);
        let spaces: BTreeMap<String, Netns> =
            base.spaces.iter().map(|name| (name.clone(), Netns::new())).collect();
        let mut words = if family == 6 { base.six } else { base.four };
        words.insert("family".into(), family.to_string());
        for (name, netns) in &spaces {
            words.insert(format!("@{name}"), netns.name().to_owned());
        }
        let more: BTreeMap<_, _> = variant.iter().map(|(w, text)| (w.clone(), fill(text, &words))).collect();
        words.extend(more);
        let stage = Self { spaces, words };
        stage.play(&base.setup);
        stage
    }

    /// The text with this stage's words.
    pub fn fill(&self, text: &str) -> String {
        fill(text, &self.words)
    }

    /// Runs lines `SPACE: shell`, those of one namespace that follow each other in one shell.
    #[track_caller]
    pub fn play(&self, lines: &[String]) {
        let mut scripts: Vec<(String, String)> = Vec::new();
        for line in lines {
            let line = self.fill(line);
            let (space, command) = line.split_once(": ").unwrap_or_else(|| panic!("no namespace: {line}"));
            match scripts.last_mut().filter(|(last, _)| last == space) {
                Some((_, script)) => script.push_str(&format!("\n{command}")),
                None => scripts.push((space.to_owned(), command.to_owned())),
            }
        }
        for (space, script) in scripts {
            let netns = self.spaces.get(&space).unwrap_or_else(|| panic!("no namespace is called {space}"));
            super::run("ip", &["netns", "exec", netns.name(), "sh", "-ec", &script]);
        }
    }

    /// Starts lines that go on until what is returned is dropped, and gives them a moment.
    #[must_use]
    pub fn start(&self, lines: &[String]) -> Vec<Running> {
        let spawn = |line: &String| {
            let line = self.fill(line);
            let (space, command) = line.split_once(": ").unwrap_or_else(|| panic!("no namespace: {line}"));
            let netns = self.spaces[space].name();
            let mut child = Command::new("ip");
            child.args(["netns", "exec", netns, "sh", "-c", &format!("exec {command}")]);
            Running(child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        };
        let running: Vec<Running> = lines.iter().map(spawn).collect();
        if !running.is_empty() {
            std::thread::sleep(Duration::from_millis(1500));
        }
        running
    }

    /// Runs the program in `node` as the first process of a PID namespace, so that `host` is this namespace.
    pub fn nsprobe(&self, command: &str) -> Output {
        let node = self.spaces["node"].name();
        let mut words: Vec<String> =
            ["netns", "exec", node, "unshare", "--pid", "--fork", "--mount-proc"].map(Into::into).into();
        words.push(super::PROGRAM.into());
        words.extend(self.fill(command).split_whitespace().map(Into::into));
        words.extend(["-o", "json"].map(Into::into));
        Command::new("ip").args(words).env_remove("NSPROBE_LOG").output().unwrap()
    }
}
