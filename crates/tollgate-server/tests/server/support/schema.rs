//! Checks answers against the OpenAPI document that the server serves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::client::HttpAnswer;

/// The document, written by the same code as the server's answer.
pub(crate) fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT
        .get_or_init(|| serde_json::from_str(&tollgate_server::openapi_json().unwrap()).unwrap())
}

/// The validator of the schema called `name`, built when it is first needed: building all of them takes longer than the
/// deadlines of some tests.
fn validator_of(name: &str) -> Arc<Validator> {
    static VALIDATORS: Mutex<BTreeMap<String, Arc<Validator>>> = Mutex::new(BTreeMap::new());
    let mut known = VALIDATORS.lock().unwrap();
    let made = known.entry(name.to_owned()).or_insert_with(|| {
        let reference = format!("#/components/schemas/{name}");
        assert!(document().pointer(&reference[1..]).is_some(), "{name} is no schema");
        Arc::new(validator(&json!({"$ref": reference})))
    });
    Arc::clone(made)
}

/// A validator of `schema`, which is a part of the document.
pub(crate) fn validator(schema: &Value) -> Validator {
    let whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "allOf": [schema],
        "components": document()["components"],
    });
    jsonschema::options().should_validate_formats(true).build(&whole).unwrap()
}

/// Panics if `value` does not match the schema called `name`.
pub(crate) fn check_schema(name: &str, value: &Value) {
    let errors: Vec<String> =
        validator_of(name).iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "not a {name}: {errors:?}\n{value}");
}

/// Whether `value` matches the schema called `name`.
pub(crate) fn matches_schema(name: &str, value: &Value) -> bool {
    validator_of(name).is_valid(value)
}

/// The operation of `method` at the path of `url`, and the path's template.
fn documented(method: &str, url: &str) -> Option<(&'static str, &'static Value)> {
    let path = url.split('?').next().unwrap_or_default();
    let paths = document()["paths"].as_object().unwrap();
    let is_same = |template: &str| {
        let (ours, theirs) = (path.split('/'), template.split('/'));
        let same = |(ours, theirs): (&str, &str)| ours == theirs || theirs.starts_with('{');
        ours.clone().count() == theirs.clone().count() && ours.zip(theirs).all(same)
    };
    // A literal path takes precedence over a template.
    let itself = paths.get_key_value(path);
    let found = itself.into_iter().chain(paths.iter().filter(|(template, _)| is_same(template)));
    let mut operations = found.map(|(path, item)| (&**path, &item[method.to_lowercase()]));
    operations.find(|(_, operation)| !operation.is_null())
}

/// Panics if the document does not have this status, media type or header, or the body does not match it.
pub(super) fn check_against_document(method: &str, url: &str, answer: &HttpAnswer) {
    let Some((path, operation)) = documented(method, url) else {
        // For a page, an asset, or an unknown path or method, only the problem has a schema.
        if answer.status >= 400 {
            check_schema("Problem", &answer.json());
        }
        return;
    };
    let response = &operation["responses"][answer.status.to_string()];
    assert!(!response.is_null(), "{method} {path} does not document {}", answer.status);
    for name in ["etag", "retry-after", "www-authenticate", "allow"] {
        let headers = response["headers"].as_object();
        let is_documented =
            headers.is_some_and(|all| all.keys().any(|key| key.to_lowercase() == name));
        let is_sent = answer.header(name).is_some();
        assert!(is_documented || !is_sent, "{method} {path} {}: {name}", answer.status);
    }
    let declared = answer.header("content-type").unwrap_or_default();
    if response["content"].is_null() {
        assert_eq!((declared, &*answer.body), ("", ""), "{method} {path} {}", answer.status);
        return;
    }
    let content = &response["content"][declared];
    assert!(!content.is_null(), "{method} {path} {} has no {declared}", answer.status);
    let schema = content["schema"]["$ref"].as_str();
    let name = schema.and_then(|reference| reference.rsplit('/').next());
    if let Some(name) = name.filter(|_| declared.ends_with("json")) {
        check_schema(name, &answer.json());
        check_no_unknown_fields(name, &answer.json());
    }
}

/// Panics if `value` has a field that is missing in the schema called `name`. Schemas of answers are open, so that an
/// answer can get a new field without breaking clients; but the document must get it too.
fn check_no_unknown_fields(name: &str, value: &Value) {
    let schema = &document()["components"]["schemas"][name];
    let known: Vec<&String> = properties(schema).collect();
    // Only objects have fields.
    for (field, value) in value.as_object().into_iter().flatten() {
        assert!(known.contains(&field), "{name} has no {field}: {value}");
        let item = schema["properties"][field]["items"]["$ref"].as_str();
        let item = item.and_then(|reference| reference.rsplit('/').next());
        for value in item.and(value.as_array()).into_iter().flatten() {
            check_no_unknown_fields(item.unwrap(), value);
        }
    }
}

/// The properties of `schema`, including those of its `allOf`.
fn properties(schema: &'static Value) -> impl Iterator<Item = &'static String> {
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let parts = parts.map(|part| match part["$ref"].as_str() {
        Some(reference) => document().pointer(&reference[1..]).unwrap(),
        None => part,
    });
    parts
        .chain([schema])
        .flat_map(|part| part["properties"].as_object().into_iter().flatten())
        .map(|(name, _)| name)
}
