//! Builds the path of one scenario out of network namespaces and holds it until standard input ends, for
//! scripts/bench: lab-path FILE. Never shipped.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a tool of the benches: it fails loudly, and speaks to a script"
)]

#[path = "../support/mod.rs"]
mod support;

use std::io::Read;
use support::namespace_path::{NamespacePath, not_for_namespaces};

fn main() {
    let file = std::env::args().nth(1).unwrap_or_else(|| panic!("usage: lab-path FILE"));
    let name = std::path::Path::new(&file).file_stem().unwrap().to_string_lossy().into_owned();
    let scenario =
        toml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap_or_else(|e| panic!("{file}: {e}"));
    if let Some(why) = not_for_namespaces(&scenario) {
        println!("{}", serde_json::json!({ "name": name, "skip": why }));
        return;
    }
    let path = NamespacePath::build(&scenario);
    let about = serde_json::json!({
        "name": name, "nodes": path.names(), "netns": path.source_namespace().name(),
        "router": path.router(1).name(),
        "target": path.target(), "family": scenario.family, "interface_mtu": scenario.interface_mtu,
        "verdict": scenario.expect.verdict, "path_mtu": scenario.expect.path_mtu,
    });
    println!("{about}");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
