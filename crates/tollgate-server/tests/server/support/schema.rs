//! Holds answers against the OpenAPI document that the server serves.

use std::collections::HashMap;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::client::Answer;

/// The document, written by the same code that a server answers with.
pub(crate) fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT
        .get_or_init(|| serde_json::from_str(&tollgate_server::openapi_json().unwrap()).unwrap())
}

fn validators() -> &'static HashMap<String, Validator> {
    static VALIDATORS: OnceLock<HashMap<String, Validator>> = OnceLock::new();
    VALIDATORS.get_or_init(|| {
        let schemas = document()["components"]["schemas"].as_object().unwrap();
        schemas.keys().map(|name| (name.clone(), validator(name))).collect()
    })
}

/// A validator of the schema called `name`.
fn validator(name: &str) -> Validator {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": format!("#/components/schemas/{name}"),
        "components": document()["components"],
    });
    jsonschema::validator_for(&schema).unwrap()
}

/// Panics if `value` is not what the schema called `name` says.
pub(crate) fn check_schema(name: &str, value: &Value) {
    let errors: Vec<String> =
        validators()[name].iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "not a {name}: {errors:?}\n{value}");
}

/// Whether `value` is what the schema called `name` says.
pub(crate) fn matches_schema(name: &str, value: &Value) -> bool {
    validators()[name].is_valid(value)
}

/// Panics if the document does not tell of this status and media type, or the body is not what it says.
pub(super) fn check_against_document(method: &str, path: &str, answer: &Answer) {
    let operation = &document()["paths"][path][method.to_lowercase()];
    if operation.is_null() {
        // A page, an asset, or a path or method that is not there: then only the problem has a schema.
        if answer.status >= 400 {
            check_schema("Problem", &answer.json());
        }
        return;
    }
    let response = &operation["responses"][answer.status.to_string()];
    assert!(!response.is_null(), "{method} {path} does not document {}", answer.status);
    let declared = answer.header("content-type").unwrap_or_default();
    let content = &response["content"][declared];
    assert!(!content.is_null(), "{method} {path} {} has no {declared}", answer.status);
    let schema = content["schema"]["$ref"].as_str();
    if let Some(name) = schema.and_then(|reference| reference.rsplit('/').next()) {
        check_schema(name, &answer.json());
    }
}
