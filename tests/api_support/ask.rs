//! `nsprobe cluster` asked as people do, its documents held against their schema.

use super::{Api, Reply};
use crate::pods_support::Node;
use crate::support;
use serde_json::Value;
use std::process::Output;

/// A node with the server's kubeconfig at `file`.
pub fn node(api: &Api, file: &str) -> Node {
    let node = Node::empty();
    node.put(file, &api.kubeconfig());
    node
}

pub fn run(node: &Node, arguments: &[&str]) -> Output {
    let mut command = node.command(arguments);
    command.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST").output().unwrap()
}

/// With `--kubeconfig`, as JSON.
pub fn ask(node: &Node, more: &[&str]) -> (i32, Value) {
    let file = node.root().join("admin.conf");
    let mut arguments = vec!["-o", "json", "cluster", "--kubeconfig", file.to_str().unwrap()];
    arguments.extend(more);
    document(&run(node, &arguments))
}

pub fn document(output: &Output) -> (i32, Value) {
    let text = support::stdout(output);
    let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let errors = support::schema::errors(&json);
    assert_eq!(errors, [] as [String; 0], "{json:#}");
    (output.status.code().unwrap(), json)
}

pub fn ids(document: &Value) -> Vec<&str> {
    document["findings"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap()).collect()
}

pub fn names(document: &Value) -> Vec<&str> {
    document["pods"].as_array().unwrap().iter().map(|p| p["pod"].as_str().unwrap()).collect()
}

/// Code and message of an error.
pub fn failure(answer: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> (i32, String) {
    let api = Api::serve(answer);
    let (code, error) = ask(&self::node(&api, "admin.conf"), &["--deadline", "2s"]);
    (code, error["message"].as_str().unwrap().to_owned())
}
