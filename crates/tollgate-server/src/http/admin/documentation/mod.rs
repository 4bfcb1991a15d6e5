//! What the OpenAPI document says of the calls below `/admin` beyond the attributes on their handlers.
//!
//! The calls for records are alike for every kind: [`operations`] makes them from the table of lists, [`records`] their
//! schemas from a table of fields. The answers that many calls have in common, such as 401, are added to all here.

mod operations;
mod records;

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::collection::Collection;
use crate::config::Role;

/// The tag of the calls that change and show the catalog.
pub(super) const CATALOG_TAG: &str = "policies and directory";
const SECURITY_SCHEME: &str = "adminToken";

/// Adds the calls for records, and the token that every call below `/admin` requires.
pub(in super::super) fn add_records(document: &mut Value) {
    document["components"]["securitySchemes"][SECURITY_SCHEME] = json!({
        "type": "http", "scheme": "bearer",
        "description": "An admin token that the server was started with (`TOLLGATE_ADMIN_TOKEN`, \
            `TOLLGATE_ADMIN_TOKENS`), or the one printed at its start. A token with the role `read` can only make calls that \
            change nothing."
    });
    let schemas = &mut document["components"]["schemas"];
    for (name, schema) in records::schemas() {
        schemas[name] = schema;
    }
    for (path, item) in Collection::ALL.iter().flat_map(operations::of) {
        document["paths"][path] = item;
    }
}

/// Adds to the operation `method` of an admin path the token, and what the guard answers.
pub(in super::super) fn add_guard(operation: &mut Map<String, Value>, method: &str, path: &str) {
    operation.insert("security".to_owned(), json!([{SECURITY_SCHEME: []}]));
    let Some(Value::Object(answers)) = operation.get_mut("responses") else { return };
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap_or_default();
    if Role::needed(&method, path) == Role::Write {
        answers.insert("403".to_owned(), json!({"description": "The token may only read"}));
    }
    let unauthorized = json!({
        "description": "The token is missing or wrong",
        "headers": header("WWW-Authenticate", "How to authorize: `Bearer`", "string")
    });
    let too_many = json!({
        "description": "Too many wrong tokens came from this address",
        "headers": header("Retry-After", "How long to wait before another attempt, in seconds", "integer")
    });
    answers.insert("401".to_owned(), unauthorized);
    answers.insert("429".to_owned(), too_many);
}

fn header(name: &str, description: &str, kind: &str) -> Value {
    json!({name: {"description": description, "schema": {"type": kind}}})
}
