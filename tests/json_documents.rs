//! The documents and their JSON Schemas: those in tests/schemas are made from the types, looked at by people,
//! and what the program prints is valid by them.
//!
//! After a wanted change: `NSPROBE_WRITE_SCHEMAS=1 cargo test --test json_documents`, and read the difference.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;

use nsprobe::report::{
    CaptureReport, ClusterDocument, DiagnoseReport, ErrorDocument, IpamDocument, LinksDocument,
    MtuComparison, MtuReport, NodeDocument, NodeEvent, PodsDocument, RulesDocument, SocketsDocument,
    WhyDocument,
};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use support::schema::{self, errors, valid};
use support::{nsprobe, stderr};

/// The schema of the document `nsprobe.NAME/v1` whose body is `T`.
fn generated<T: schemars::JsonSchema>(name: &str) -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    let full = format!("nsprobe.{name}/v1");
    schema["title"] = json!(full);
    let mut properties = json!({"schema": {"const": full}});
    let body = schema["properties"].as_object().unwrap().clone();
    properties.as_object_mut().unwrap().extend(body);
    schema["properties"] = properties;
    schema["required"].as_array_mut().unwrap().insert(0, json!("schema"));
    schema
}

/// Its results are whole documents of `mtu`.
fn comparison() -> Value {
    with_searches(generated::<MtuComparison>("mtu_comparison"), "results")
}

/// So are its paths.
fn diagnosis() -> Value {
    with_searches(generated::<DiagnoseReport>("diagnose"), "paths")
}

/// The items under `key` are whole documents of `mtu`.
fn with_searches(mut schema: Value, key: &str) -> Value {
    let mut one = generated::<MtuReport>("mtu");
    let parts = one.as_object_mut().unwrap().remove("$defs").unwrap();
    let all = schema["$defs"].as_object_mut().unwrap();
    all.extend(parts.as_object().unwrap().clone());
    one.as_object_mut().unwrap().remove("$schema");
    all.insert("MtuDocument".into(), one);
    schema["properties"][key]["items"] = json!({"$ref": "#/$defs/MtuDocument"});
    schema
}

/// Name and schema of every document.
fn documents() -> Vec<(&'static str, Value)> {
    vec![
        ("error", generated::<ErrorDocument>("error")),
        ("rules", generated::<RulesDocument>("rules")),
        ("pods", generated::<PodsDocument>("pods")),
        ("links", generated::<LinksDocument>("links")),
        ("sockets", generated::<SocketsDocument>("sockets")),
        ("mtu", generated::<MtuReport>("mtu")),
        ("mtu_comparison", comparison()),
        ("diagnose", diagnosis()),
        ("ipam", generated::<IpamDocument<'_>>("ipam")),
        ("why", generated::<WhyDocument>("why")),
        ("cluster", generated::<ClusterDocument>("cluster")),
        ("node", generated::<NodeDocument>("node")),
        ("node_event", generated::<NodeEvent>("node_event")),
        ("capture", generated::<CaptureReport>("capture")),
    ]
}

#[test]
fn the_schemas_are_those_of_the_types() {
    for (name, schema) in documents() {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = schema::path(name);
        if std::env::var_os("NSPROBE_WRITE_SCHEMAS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "{} is not what the types say; see the top of this file. Now:\n{text}",
            path.display()
        );
    }
    let files = std::fs::read_dir(schema::path("x").parent().unwrap()).unwrap().count();
    assert_eq!(files, documents().len(), "a schema without a document");
}

#[test]
fn every_object_is_closed_and_every_key_is_required() {
    fn check(schema: &Value, place: &str) {
        if let Some(properties) = schema["properties"].as_object() {
            assert_eq!(schema["additionalProperties"], json!(false), "{place}");
            let mut required: Vec<_> = schema["required"].as_array().unwrap().iter().collect();
            let mut keys: Vec<_> = properties.keys().map(|k| json!(k)).collect();
            required.sort_by_key(|v| v.to_string());
            keys.sort_by_key(Value::to_string);
            assert!(required.into_iter().eq(keys.iter()), "{place}: unknown is null, not left out");
        }
        match schema {
            Value::Object(map) => map.iter().for_each(|(key, value)| check(value, &format!("{place}/{key}"))),
            Value::Array(list) => list.iter().for_each(|value| check(value, place)),
            _ => {}
        }
    }
    documents().iter().for_each(|(name, schema)| check(schema, name));
}

#[test]
fn rules_are_listed_with_all_there_is_to_say() {
    let output = nsprobe().args(["rules", "-o", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let document = valid(&output.stdout);
    let rules = document["rules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["id"] == "runtime.hung"));
    assert!(rules.iter().all(|rule| !rule["fix"].as_str().unwrap().is_empty()), "a rule without a fix");
    assert_eq!(document["findings"], json!([]));
}

#[test]
fn the_pods_of_a_machine_without_a_runtime_are_a_document_too() {
    let root = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/proc", root.path().join("proc")).unwrap();
    let output = nsprobe().args(["pods", "-o", "json", "--host-root"]).arg(root.path()).output().unwrap();
    let document = valid(&output.stdout);
    assert_eq!(document["schema"], "nsprobe.pods/v1");
    assert_eq!(document["source"], "disk");
    assert_eq!(document["degraded"]["reason"], "no_runtime", "{}", stderr(&output));
}

#[test]
fn an_error_is_one_document_with_the_exit_code_in_it() {
    for (arguments, code) in
        [(&["exec", "netns:no-such-namespace", "--", "true"][..], 125), (&["shell", "pid:4194303"][..], 125)]
    {
        let output =
            nsprobe().args(arguments.iter().take(1)).args(["-o", "json"]).args(&arguments[1..]).output();
        let output = output.unwrap();
        let document = valid(&output.stdout);
        assert_eq!(document["schema"], "nsprobe.error/v1");
        assert_eq!(document["code"], code);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert_eq!(document.as_object().unwrap().keys().next().unwrap(), "schema", "it comes first");
    }
}

#[test]
fn a_document_with_something_more_or_less_is_not_valid() {
    let right = json!({"schema": "nsprobe.error/v1", "code": 3, "message": "no pod x", "hint": null});
    assert_eq!(errors(&right), [] as [String; 0]);
    for wrong in [
        json!({"schema": "nsprobe.error/v1", "code": 3, "message": "x"}),
        json!({"schema": "nsprobe.error/v1", "code": "3", "message": "x", "hint": null}),
        json!({"schema": "nsprobe.error/v1", "code": 3, "message": "x", "hint": null, "more": 1}),
    ] {
        assert_ne!(errors(&wrong), [] as [String; 0], "{wrong}");
    }
    let rules = json!({"schema": "nsprobe.rules/v1", "rules": [
        {"id": "a.b", "severity": "grave", "meaning": "m", "fix": "f"}], "findings": []});
    assert_ne!(errors(&rules), [] as [String; 0], "no such severity");
}
