//! What the kubelet writes about a pod's containers. Source: recorded lines of kubelet 1.36, and klog's form
//! `"message" key="value"`.

use crate::facts::{KubeletAct, KubeletWord, PodHistory};

/// Longest line whose words are kept, in characters.
const MOST_WORDS: usize = 300;

/// What a line of the kubelet says of this pod, if anything.
pub fn parse_kubelet(at: Option<i64>, line: &str, history: &PodHistory) -> Option<KubeletWord> {
    let full_name = format!("\"{}\"", history.full_name());
    // A pod that has the same name and came later has another UID.
    let other = value(line, "podUID").is_some_and(|uid| uid != history.uid);
    if !line.contains(&full_name) && !line.contains(&history.uid) || other {
        return None;
    }
    let message = value(line, "containerMessage");
    let act = if message.as_ref().is_some_and(|m| m.contains("probe, will be restarted")) {
        KubeletAct::ProbeKill
    } else if line.contains("back-off ") && line.contains("restarting failed container") {
        KubeletAct::BackOff
    } else if line.contains("Killing container with a grace period") {
        KubeletAct::Kill
    } else if line.to_lowercase().contains("eviction manager: pod is evicted successfully") {
        KubeletAct::Eviction
    } else {
        return None;
    };
    let words = match act {
        KubeletAct::ProbeKill => message.unwrap_or_default(),
        KubeletAct::BackOff => {
            let from = line.split_once("back-off ").map_or("", |(_, rest)| rest);
            format!("back-off {}", from.split(" pod=").next().unwrap_or_default())
        }
        KubeletAct::Kill | KubeletAct::Eviction => {
            let text = line.split_once("] ").map_or(line, |(_, text)| text);
            text.replace('"', "")
        }
    };
    let named = value(line, "containerName").or_else(|| {
        let (_, rest) = line.split_once("restarting failed container=")?;
        Some(rest.split([' ', '"']).next()?.to_owned())
    });
    Some(KubeletWord {
        at,
        act,
        container: named,
        container_id: value(line, "containerID").map(plain_id).or_else(|| {
            let (_, rest) = line.split_once("\"ID\":\"")?;
            Some(plain_id(rest.split('"').next()?.to_owned()))
        }),
        words: words.chars().take(MOST_WORDS).collect(),
    })
}

/// `containerd://<id>` → the id.
fn plain_id(id: String) -> String {
    id.split_once("://").map_or(id.clone(), |(_, id)| id.to_owned())
}

/// The value of `key="…"`, up to the next quotation mark that is not escaped.
fn value(line: &str, key: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!(" {key}=\""))?;
    let mut text = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Some(text),
            '\\' => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    None
}
