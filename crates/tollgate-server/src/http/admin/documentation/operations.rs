//! The calls for the records of one kind: list, create, get, replace, patch, delete.

use serde_json::{Value, json};
use tollgate_catalog::directory::{Kind, PageRequest};
use tollgate_core::subject::MAX_ID_BYTES;

use super::super::super::body::JSON;
use super::super::CATALOG_UNAVAILABLE;
use super::super::bodies::MERGE_PATCH;
use super::super::collection::Collection;
use super::records::{self, Form};
use super::{CATALOG_TAG, header};

const NOT_FOUND: (&str, &str) = ("404", "There is no such record");
const AMBIGUOUS: &str =
    "Several tenants have a user with this id, and the parameter `tenantId` is missing";
const STALE: (&str, &str) = ("412", "The record has changed since the version in `If-Match`");

/// The longest cursor has the tenant and the id of a user, in base64.
const CURSOR_BYTES: usize = (2 * MAX_ID_BYTES + 1).div_ceil(3) * 4;

/// The paths of `collection`, and their operations.
pub(super) fn of(collection: &Collection) -> [(String, Value); 2] {
    let kind = collection.kind;
    let path = format!("/admin/{}", collection.segment);
    let all = json!({"get": list(collection), "post": create(collection)});
    let mut parameters = vec![json!({
        "name": "id", "in": "path", "required": true, "schema": id_schema(),
        "description": format!("The id of {}, percent-encoded", a_record(kind)),
        "example": records::example(kind)["id"]
    })];
    if kind == Kind::User {
        parameters.push(json!({
            "name": "tenantId", "in": "query", "required": false, "schema": id_schema(),
            "description": "The tenant of the user. Required if several tenants have a user with this id",
        }));
    }
    let one = json!({
        "parameters": parameters,
        "get": get(collection),
        "put": replace(collection),
        "patch": patch(collection),
        "delete": delete(collection)
    });
    [(path.clone(), all), (format!("{path}/{{id}}"), one)]
}

/// One record in a sentence: `an API key`.
fn a_record(kind: Kind) -> String {
    format!("{} {}", if kind == Kind::ApiKey { "an" } else { "a" }, kind.words())
}

/// The call that `verb` names, on one record of `kind`.
fn on_one(verb: &str, summary: &str, description: &str, kind: Kind, answers: Value) -> Value {
    let name = kind.words().to_lowercase().replace(' ', "_");
    let summary = format!("{summary} {}", a_record(kind));
    operation(&format!("{verb}_{name}"), &summary, description, answers)
}

fn operation(id: &str, summary: &str, description: &str, mut answers: Value) -> Value {
    answers["503"] = json!({"description": CATALOG_UNAVAILABLE});
    json!({
        "tags": [CATALOG_TAG], "operationId": id, "summary": summary, "description": description,
        "responses": answers
    })
}

/// Refusals, each a status and what it means.
fn refusals<const N: usize>(refusals: [(&str, &str); N]) -> Value {
    let refusals = refusals
        .map(|(status, description)| (status.to_owned(), json!({"description": description})));
    Value::Object(refusals.into_iter().collect())
}

fn list(collection: &Collection) -> Value {
    let query = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "query", "description": description, "required": false, "schema": schema});
    let filter =
        |name: &&str| query(name, &format!("Only records whose own `{name}` is this"), id_schema());
    let mut parameters: Vec<_> = collection.filters.iter().map(filter).collect();
    let search =
        "Only records whose id, name or (for API keys) prefix contains this text; case is ignored";
    // As `Collection::cursor` makes it.
    let cursor = json!({
        "type": "string", "maxLength": collection.segment.len() + 1 + CURSOR_BYTES,
        "pattern": format!("^{}\\.[^\\u0000-\\u001f\\u007f-\\u009f]+$", collection.segment)
    });
    let limit = json!({
        "type": "integer", "minimum": 1, "maximum": PageRequest::MAX_ITEMS,
        "default": PageRequest::DEFAULT_ITEMS
    });
    parameters.extend([
        query("search", search, id_schema()),
        query("cursor", "`nextCursor` of the previous page", cursor),
        query("limit", "The most items in the page", limit),
    ]);
    let words = match collection.kind {
        Kind::Policy => "policies".to_owned(),
        kind => format!("{}s", kind.words()),
    };
    let page = json!({
        "200": {"description": "One page of the list", "content": {JSON: {"schema": Form::Page.reference(collection.kind)}}}
    });
    let id = format!("list_{}", collection.segment.replace('-', "_"));
    let description = "Sorted by id, in pages. `nextCursor` of a page is the `cursor` of the next one; it is null on the \
        last page.";
    let mut call = operation(&id, &format!("List {words}"), description, page);
    call["parameters"] = parameters.into();
    call
}

fn get(&Collection { kind, .. }: &Collection) -> Value {
    let mut answers = refusals([NOT_FOUND]);
    if kind == Kind::User {
        answers["409"] = json!({"description": AMBIGUOUS});
    }
    answers["200"] = record("The record", Form::Answer, kind);
    on_one("get", "Get", "The header `ETag` has the version of the record.", kind, answers)
}

fn create(&Collection { kind, .. }: &Collection) -> Value {
    let mut answers = refusals([
        (
            "400",
            "The body does not match its declared type or is incomplete, or the request has the header `If-Match`",
        ),
        ("409", "A record with this id already exists; for a user, one of the same tenant"),
    ]);
    let (form, description) = match kind {
        Kind::ApiKey => (
            Form::Created,
            "If `id` is left out, the server generates one. Only this answer contains the key itself.",
        ),
        _ => (Form::Answer, "If `id` is left out, the server generates one."),
    };
    answers["201"] = record("The new record", form, kind);
    answers["405"] = read_only();
    let mut call = on_one("create", "Create", description, kind, answers);
    call["requestBody"] = body(Form::New, kind, &[JSON]);
    call
}

fn replace(&Collection { kind, .. }: &Collection) -> Value {
    let description = "Fields that the body leaves out get their defaults. The id stays the same.";
    let mut call = on_one("replace", "Replace", description, kind, changed(kind));
    call["parameters"] = json!([if_match()]);
    call["requestBody"] = body(Form::replacement(kind), kind, &[JSON]);
    call
}

fn patch(&Collection { kind, .. }: &Collection) -> Value {
    let description = match kind {
        Kind::Policy => {
            "Replaces the fields in the body: a JSON Merge Patch (RFC 7396), except that `match` and `shares` are replaced as a \
             whole. `null` resets a field to its default, but `limit: null` exempts."
        }
        _ => {
            "Replaces the fields in the body: a JSON Merge Patch (RFC 7396). `null` resets a field to its default."
        }
    };
    let mut call = on_one("patch", "Change fields of", description, kind, changed(kind));
    call["parameters"] = json!([if_match()]);
    call["requestBody"] = body(Form::Patch, kind, &[JSON, MERGE_PATCH]);
    call
}

/// What a change of a record by a body answers.
fn changed(kind: Kind) -> Value {
    let malformed = "The body does not match its declared type or is incomplete, or `If-Match` is not a list of tags";
    let mut answers = refusals([("400", malformed), NOT_FOUND, STALE]);
    if kind == Kind::User {
        let in_use = "The user has API keys of its tenant, so it cannot move to another tenant, or the other tenant has such a user already";
        answers["409"] = json!({"description": format!("{in_use}; or: {AMBIGUOUS}")});
    }
    answers["200"] = record("The record, as it is now", Form::Answer, kind);
    answers["405"] = read_only();
    answers
}

fn delete(&Collection { kind, .. }: &Collection) -> Value {
    let mut answers = refusals([
        ("400", "`If-Match` is not a list of tags"),
        NOT_FOUND,
        ("409", "Other records refer to it"),
        STALE,
        ("204", "The record was deleted"),
    ]);
    answers["405"] = read_only();
    let description = "A record can be deleted only if no other record refers to it.";
    let mut call = on_one("delete", "Delete", description, kind, answers);
    call["parameters"] = json!([if_match()]);
    call
}

fn read_only() -> Value {
    json!({
        "description": "The catalog is a file; edit the file instead",
        "headers": header("Allow", "The methods that this path accepts", "string")
    })
}

fn record(description: &str, form: Form, kind: Kind) -> Value {
    json!({
        "description": description,
        "headers": {"ETag": {
            "description": "The version of the record, for `If-Match`",
            "schema": {"type": "string", "pattern": "^\"[0-9]+\"$"}
        }},
        "content": {JSON: {"schema": form.reference(kind)}}
    })
}

fn body(form: Form, kind: Kind, types: &[&str]) -> Value {
    let content =
        types.iter().map(|media| ((*media).to_owned(), json!({"schema": form.reference(kind)})));
    json!({"required": true, "content": Value::Object(content.collect())})
}

fn if_match() -> Value {
    json!({
        "name": "If-Match", "in": "header", "required": false, "example": "*",
        "description": "The change is made only if the version of the record (its `ETag`) is one of these. Without this \
         header or with `*`, any version is changed. Weak tags match no version (RFC 9110).",
        "schema": {"type": "string", "pattern": r#"^(\*|"[0-9]{1,19}"(, ?"[0-9]{1,19}")*)$"#}
    })
}

fn id_schema() -> Value {
    json!({"$ref": "#/components/schemas/Id"})
}
