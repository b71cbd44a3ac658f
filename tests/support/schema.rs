//! The JSON Schemas of the documents, in tests/schemas.

use serde_json::Value;
use std::path::PathBuf;

/// Where the schema of `nsprobe.NAME/v1` is.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schemas").join(format!("{name}.json"))
}

/// Parses a document and fails unless it is valid by the schema it names.
#[track_caller]
pub fn valid(text: &[u8]) -> Value {
    let document: Value = serde_json::from_slice(text)
        .unwrap_or_else(|e| panic!("not one JSON document: {e}\n{}", String::from_utf8_lossy(text)));
    let errors = errors(&document);
    assert!(errors.is_empty(), "{}\n{document:#}", errors.join("\n"));
    document
}

/// What is wrong with a document by the schema it names.
#[track_caller]
pub fn errors(document: &Value) -> Vec<String> {
    let schema = document["schema"].as_str().unwrap_or_else(|| panic!("no schema: {document}"));
    let name = schema
        .strip_prefix("nsprobe.")
        .and_then(|s| s.strip_suffix("/v1"))
        .unwrap_or_else(|| panic!("{schema}"));
    let text = std::fs::read(path(name)).unwrap_or_else(|e| panic!("{}: {e}", path(name).display()));
    let validator = jsonschema::validator_for(&serde_json::from_slice(&text).unwrap()).unwrap();
    validator.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path())).collect()
}
