//! The API's documentation is complete and valid, and is served without the network.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Value, json};

use crate::support::{Admin, Fixture, document, matches_schema, validator};

/// Every operation: its path, its method in lower case, and its description.
fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    let paths = document()["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        // `parameters` are those of all methods of the path.
        let operations = item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters");
        operations.map(move |(method, operation)| (&**path, &**method, operation))
    })
}

#[test]
fn the_document_is_valid_openapi_3_1() {
    let schema = include_str!("../data/openapi-3.1-schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(document())
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(document()["openapi"].as_str().unwrap().starts_with("3.1."));
}

#[test]
fn every_operation_documents_its_errors_and_its_references_resolve() {
    let mut ids = HashSet::new();
    for (path, method, operation) in operations() {
        for field in ["summary", "operationId", "tags"] {
            assert!(!operation[field].is_null(), "{method} {path} has no {field}");
        }
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{method} {path} is called {id}, as is another");
        assert!(
            id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{id} is no name in every language"
        );
        let mut statuses = Vec::new();
        if !operation["requestBody"].is_null() {
            statuses.extend(["400", "408", "413", "415", "422", "500"]);
        }
        if path.starts_with("/admin/") {
            assert!(!operation["security"].is_null(), "{method} {path} names no token");
            statuses.extend(["401", "429", "500"]);
            if path.ends_with("{id}") {
                statuses.extend(["404", "503"]);
            }
        }
        for status in statuses {
            let response = &operation["responses"][status];
            assert!(!response.is_null(), "{method} {path} does not document {status}");
        }
    }
    let text = document().to_string();
    for reference in text.split(r##""$ref":"#"##).skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document().pointer(pointer).is_some(), "{pointer} is not there");
    }
}

#[test]
fn every_example_is_what_its_schema_says() {
    let mut checked = 0;
    let schemas = document()["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        for example in schema["examples"].as_array().into_iter().flatten() {
            assert!(matches_schema(name, example), "{name}: {example}");
            checked += 1;
        }
    }
    for (path, method, operation) in operations() {
        let responses = operation["responses"].as_object().unwrap().values();
        let bodies = responses.chain([&operation["requestBody"]]);
        let contents = bodies.filter_map(|body| body["content"].as_object());
        for content in contents.flat_map(|contents| contents.values()) {
            let named = content["examples"].as_object().into_iter().flatten();
            let examples = named.map(|(_, example)| &example["value"]);
            for example in examples.chain(content.get("example")) {
                let schema = validator(&content["schema"]);
                assert!(schema.is_valid(example), "{method} {path}: {example}");
                checked += 1;
            }
            let name = content["schema"]["$ref"].as_str().and_then(|name| name.rsplit('/').next());
            let schema = name.map(|name| &schemas[name]).filter(|_| path.starts_with("/admin/"));
            let has_example = |schema: &Value| schema["examples"].is_array();
            assert!(schema.is_none_or(has_example), "{method} {path}: {name:?} has no example");
        }
    }
    assert!(checked >= 50, "only {checked} examples");
}

/// The document's descriptions of records match the server: each example is created, in the order in which one refers
/// to another, then read, listed, replaced by itself, changed and deleted. The client checks every answer against its
/// schema.
#[tokio::test]
async fn every_example_of_a_record_is_accepted() {
    let admin = Admin::start_new(|_| {}).await;
    let mut created = Vec::new();
    let tiers = [json!({"id": "free"}), json!({"id": "enterprise"})];
    for tier in tiers {
        assert_eq!(admin.ask("POST", "/admin/tiers", &tier).await.status, 201);
    }
    assert_eq!(admin.ask("POST", "/admin/model-tiers", &json!({"id": "small"})).await.status, 201);
    for (segment, name) in RECORDS {
        let example = &document()["components"]["schemas"][format!("New{name}")]["examples"][0];
        let (list, id) = (format!("/admin/{segment}"), example["id"].as_str().unwrap());
        let path = format!("{list}/{id}");
        if segment != "tiers" {
            let made = admin.ask("POST", &list, example).await;
            assert_eq!(made.status, 201, "{example}: {}", made.body);
        }
        let read = admin.ask("GET", &path, &Value::Null).await;
        assert_eq!(read.status, 200, "{path}: {}", read.body);
        let page = admin.ask("GET", &list, &Value::Null).await.json();
        assert!(page["items"].as_array().unwrap().contains(&read.json()), "{page}");
        let replaced = admin.ask("PUT", &path, &read.json()).await;
        assert_eq!((replaced.status, replaced.json()), (200, read.json()), "{path}");
        let change = &document()["components"]["schemas"][format!("{name}Patch")]["examples"][0];
        let patched = admin.ask("PATCH", &path, change).await;
        assert_eq!(patched.status, 200, "{path} {change}: {}", patched.body);
        created.push(path);
    }
    let catalog = admin.send("GET", "/admin/export", &[("accept", "application/json")], "").await;
    assert_eq!(catalog.json()["users"][0]["id"], "alice", "{}", catalog.body);
    let imported = admin.ask("POST", "/admin/import", &catalog.json()).await;
    assert_eq!((&imported.json()["created"], &imported.json()["updated"]), (&json!(0), &json!(0)));
    let judged = admin.ask("POST", "/admin/policies/validate", &catalog.json()).await;
    assert_eq!(judged.json()["valid"], true, "{}", judged.body);
    for path in created.iter().rev() {
        let deleted = admin.ask("DELETE", path, &Value::Null).await;
        assert_eq!(deleted.status, 204, "{path}: {}", deleted.body);
        assert_eq!(admin.ask("GET", path, &Value::Null).await.status, 404);
    }
    let changes = admin.ask("GET", "/admin/audit?limit=1000", &Value::Null).await.json();
    assert_eq!(changes["items"].as_array().unwrap().len(), 3 + 6 + 7 + 7, "{changes}");
}

/// The lists of records, each after those that it refers to, and the schema of a record.
const RECORDS: [(&str, &str); 7] = [
    ("tiers", "Tier"),
    ("model-tiers", "ModelTier"),
    ("models", "Model"),
    ("tenants", "Tenant"),
    ("users", "User"),
    ("api-keys", "ApiKey"),
    ("policies", "Policy"),
];

/// The server refuses what a schema refuses, and accepts what it allows.
#[tokio::test]
async fn schemas_of_bodies_say_what_the_server_takes() {
    let admin = Admin::start().await;
    let policy = |changes: Value| {
        let mut policy = json!({"id": "p", "scope": "USER", "limit": 1, "windowSeconds": 60});
        policy.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        policy.as_object_mut().unwrap().retain(|_, value| *value != json!("left out"));
        policy
    };
    let cases = [
        ("Policy", policy(json!({})), true),
        ("Policy", policy(json!({"limit": null, "windowSeconds": "left out"})), true),
        ("Policy", policy(json!({"limit": 0, "windowSeconds": "left out"})), true),
        ("Policy", policy(json!({"windowSeconds": "left out"})), false),
        ("Policy", policy(json!({"windowSeconds": "left out", "window": "1h30m"})), true),
        ("Policy", policy(json!({"windowSeconds": "left out", "window": "1.5h"})), false),
        ("Policy", policy(json!({"windowSeconds": "left out", "window": 60})), false),
        ("Policy", policy(json!({"window": "60s"})), false),
        ("Policy", policy(json!({"limit": "left out"})), false),
        ("Policy", policy(json!({"limit": -1})), false),
        ("Policy", policy(json!({"limit": 9_007_199_254_740_992_u64})), false),
        ("Policy", policy(json!({"windowSeconds": 0})), false),
        ("Policy", policy(json!({"windowSeconds": 0.001})), true),
        ("Policy", policy(json!({"windowSeconds": 31_622_401})), false),
        ("Policy", policy(json!({"per": ["user"]})), false),
        ("Policy", policy(json!({"scope": "left out"})), false),
        ("Policy", policy(json!({"scope": "left out", "per": []})), true),
        ("Policy", policy(json!({"scope": "left out", "per": ["user", "user"]})), false),
        ("Policy", policy(json!({"scope": "user"})), false),
        ("Policy", policy(json!({"match": {"region": ["eu", "us"], "tier": "free"}})), true),
        ("Policy", policy(json!({"match": {"region": []}})), false),
        ("Policy", policy(json!({"match": {"region": 5}})), false),
        ("Policy", policy(json!({"match": {"": "eu"}})), false),
        ("Policy", policy(json!({"match": {"model": ["gpt-4*", "*", "a\\*b"]}})), true),
        ("Policy", policy(json!({"match": {"model": "a*b"}})), false),
        ("Policy", policy(json!({"match": {"region": {"absent": true}}})), true),
        ("Policy", policy(json!({"match": {"region": {"absent": false}}})), false),
        ("Policy", policy(json!({"match": {"region": {"absent": true, "present": true}}})), false),
        ("Policy", policy(json!({"ignoreCase": true, "overrides": []})), true),
        ("Policy", policy(json!({"overrides": ["b", "b"]})), false),
        ("Policy", policy(json!({"exempt": "all"})), false),
        ("Policy", policy(json!({"exempt": "all", "limit": null})), true),
        ("Policy", json!({"id": "p", "exempt": "all"}), true),
        ("Policy", json!({"id": "p", "exempt": "some"}), false),
        ("Policy", policy(json!({"unit": "Tokens"})), false),
        ("Policy", policy(json!({"unit": "images"})), true),
        (
            "Policy",
            policy(json!({"mode": "shadow", "enabled": false, "onStoreError": "deny"})),
            true,
        ),
        ("Policy", policy(json!({"mode": null})), false),
        ("Policy", policy(json!({"algorithm": "leaky_bucket"})), false),
        ("Policy", policy(json!({"id": "b", "algorithm": "token_bucket"})), true),
        ("Policy", policy(json!({"id": "c", "algorithm": "token_bucket", "burst": 5})), true),
        ("Policy", policy(json!({"algorithm": "token_bucket", "burst": 0})), false),
        ("Policy", policy(json!({"burst": 5})), false),
        ("Policy", policy(json!({"colour": "red"})), false),
        ("Tier", json!({"id": "t", "priority": null, "name": null}), true),
        ("Tier", json!({"id": "t", "priority": "urgent"}), false),
        ("Tier", json!({"id": ""}), false),
        ("Tier", json!({"id": null}), false),
        ("Tier", json!({"id": "a\u{7f}b"}), false),
        ("Tier", json!({"id": "t".repeat(256)}), true),
        ("Tier", json!({"id": "t".repeat(257)}), false),
        ("Tenant", json!({"id": "t", "tier": null}), true),
        ("Tenant", json!({"id": "t", "tier": 5}), false),
        ("User", json!({"id": "u"}), false),
        ("Model", json!({"id": "m"}), false),
        ("ApiKey", json!({"tenantId": "acme", "expiresAt": "2030-12-31T23:59:59.125Z"}), true),
        ("ApiKey", json!({"tenantId": "acme", "expiresAt": "tomorrow"}), false),
        ("ApiKey", json!({"tenantId": "acme", "revoked": null}), false),
        ("ApiKey", json!({"tenantId": "acme", "prefix": "tg_live_00000000"}), false),
    ];
    assert_eq!(admin.ask("POST", "/admin/tenants", &json!({"id": "acme"})).await.status, 201);
    for (name, body, is_accepted) in cases {
        assert_eq!(matches_schema(&format!("New{name}"), &body), is_accepted, "{name} {body}");
        let segment = RECORDS.iter().find(|(_, known)| *known == name).unwrap().0;
        let answer = admin.ask("POST", &format!("/admin/{segment}"), &body).await;
        let expected = if is_accepted { 201 } else { 422 };
        assert_eq!(answer.status, expected, "{name} {body}: {}", answer.body);
        if let Some(id) = body["id"].as_str().filter(|_| is_accepted) {
            let path = format!("/admin/{segment}/{id}");
            assert_eq!(admin.ask("DELETE", &path, &Value::Null).await.status, 204);
        }
    }
}

#[tokio::test]
async fn every_documented_path_is_served_and_the_document_is_the_servers() {
    let fixture = Fixture::start().await;
    let served = fixture.get("/openapi.json").await;
    assert_eq!((served.status, served.header("content-type")), (200, Some("application/json")));
    assert_eq!(&served.json(), document());
    for (path, method, _) in operations() {
        let answer = fixture.client().await.send(&method.to_uppercase(), path, &[], "{}").await;
        // A call for a lease is there, although the lease is not.
        let is_there = answer.body.contains("urn:tollgate:problem:unknown-lease");
        assert!(
            is_there || ![404, 405].contains(&answer.status),
            "{method} {path}: {}",
            answer.status
        );
    }
}

/// The paths in the document are served with the methods that it lists, and no others.
#[tokio::test]
async fn the_document_lists_every_method_of_a_path() {
    let admin = Admin::start().await;
    for path in operations().map(|(path, ..)| path).collect::<BTreeSet<_>>() {
        let answer = admin.ask("TRACE", path, &Value::Null).await;
        if path == "/rate-limit/auth" {
            assert_eq!(answer.status, 400, "it takes every method, and wants headers");
            continue;
        }
        assert_eq!(answer.status, 405, "{path}");
        let served = answer.header("allow").unwrap().split(',').filter(|method| *method != "HEAD");
        let served: BTreeSet<String> = served.map(|method| method.trim().to_lowercase()).collect();
        let listed = operations().filter(|(other, ..)| *other == path);
        let mut listed: BTreeSet<_> = listed.map(|(_, method, _)| method.to_owned()).collect();
        if path == "/admin/policies/validate" {
            // A policy may have this name.
            listed.extend(["get", "put", "patch", "delete"].map(str::to_owned));
        }
        assert_eq!(served, listed, "{path}");
    }
}

#[tokio::test]
async fn the_pages_and_all_that_they_load_come_from_the_server() {
    let fixture = Fixture::start().await;
    for page in ["/docs", "/redoc"] {
        let answer = fixture.get(page).await;
        assert_eq!(answer.status, 200);
        assert!(answer.header("content-type").unwrap().starts_with("text/html"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        let loaded: Vec<&str> = ["src=\"", "href=\"", "spec-url=\""]
            .iter()
            .flat_map(|attribute| answer.body.split(attribute).skip(1))
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert!(loaded.len() >= 2, "{page} loads {loaded:?}");
        for url in loaded {
            assert!(!url.contains("//") && !url.starts_with('/'), "{page} loads {url}");
            let asset = fixture.get(&format!("/{url}")).await;
            assert_eq!(asset.status, 200, "{url}");
            assert!(asset.body.len() > 100, "{url}");
        }
    }
}

/// The console's types are generated from this copy of the document.
#[test]
fn the_console_knows_this_document() {
    let copy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../console/openapi.json");
    let known: Value = serde_json::from_str(&std::fs::read_to_string(copy).unwrap()).unwrap();
    assert!(known == *document(), "console/openapi.json is old; run `make api`");
}

#[tokio::test]
async fn a_slash_at_the_end_leads_to_the_page() {
    let fixture = Fixture::start().await;
    for (path, location) in [("/docs/", "../docs"), ("/redoc/", "../redoc")] {
        let answer = fixture.get(path).await;
        assert_eq!((answer.status, answer.header("location")), (308, Some(location)));
    }
}

#[tokio::test]
async fn what_can_be_got_can_be_asked_for_without_its_body() {
    let fixture = Fixture::start().await;
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/redoc"] {
        let answer = fixture.client().await.send("HEAD", path, &[], "").await;
        assert_eq!((answer.status, &*answer.body), (200, ""), "{path}");
    }
}
