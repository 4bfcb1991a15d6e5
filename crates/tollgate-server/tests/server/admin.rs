//! `/admin`: the catalog in a database, changed while the server decides by it; and authorization (P11, P15).

use serde_json::{Value, json};
use tollgate_server::Secret;

use crate::support::{Admin, Fixture, READ, WRITE, faulty_fields};

/// P15: every call below `/admin` needs a token. A read token can change nothing and read everything.
#[tokio::test]
async fn every_admin_call_wants_its_token() {
    let admin = Admin::start().await;
    let calls = [
        ("GET", "/admin/users"),
        ("POST", "/admin/users"),
        ("GET", "/admin/users/a"),
        ("PUT", "/admin/users/a"),
        ("PATCH", "/admin/policies/a"),
        ("DELETE", "/admin/api-keys/a"),
        ("POST", "/admin/policies/validate"),
        ("POST", "/admin/explain"),
        ("POST", "/admin/usage/reset"),
        ("GET", "/admin/audit"),
        ("GET", "/admin/session"),
        ("GET", "/admin/usage"),
        ("GET", "/admin/leases"),
        ("DELETE", "/admin/leases/a"),
        ("GET", "/admin/export"),
        ("POST", "/admin/import"),
        ("GET", "/admin/nothing"),
    ];
    for (method, path) in calls {
        let mut client = admin.fixture.client().await;
        let answer = client.send(method, path, &[], "").await;
        assert_eq!(answer.status, 401, "{method} {path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        let token = format!("Bearer {READ}");
        let headers = [("authorization", &*token), ("content-type", "application/json")];
        let answer = admin.fixture.client().await.send(method, path, &headers, "{}").await;
        let only_looks =
            method == "GET" || ["/admin/policies/validate", "/admin/explain"].contains(&path);
        assert_ne!(answer.status, 401, "{method} {path}");
        assert_eq!(answer.status == 403, !only_looks, "{method} {path}: {}", answer.body);
    }
    let guess = async || admin.send_as("a-guess-at-a-token", "GET", "/admin/users", &[], "").await;
    for _ in 0..10 {
        assert_eq!(guess().await.status, 401);
    }
    let answer = guess().await;
    assert_eq!(answer.status, 429, "who guesses is slowed down");
    assert!(answer.header("retry-after").is_some_and(|seconds| seconds != "0"));
    let answer = admin.ask("GET", "/admin/users", &Value::Null).await;
    assert_eq!(answer.status, 200, "a right token is let in at any time");
}

/// Resolution: a key gives tenant, user and tier, a user gives tenant and tier, a model its model tier. A change of a
/// tier applies at once, and usage is kept (R8).
#[tokio::test]
async fn what_the_catalog_knows_decides() {
    let admin = Admin::start().await;
    for tier in ["free", "enterprise"] {
        admin.make("/admin/tiers", json!({"id": tier})).await;
    }
    admin.make("/admin/tenants", json!({"id": "acme", "tier": "free"})).await;
    admin.make("/admin/users", json!({"id": "alice", "tenantId": "acme"})).await;
    admin.make("/admin/model-tiers", json!({"id": "large"})).await;
    admin.make("/admin/models", json!({"id": "gpt-4", "modelTier": "large"})).await;
    for (id, tier, limit) in [("of-free", "free", 2), ("of-enterprise", "enterprise", 5)] {
        let body = json!({"id": id, "scope": "USER", "match": {"tier": tier}, "limit": limit,
            "windowSeconds": 60});
        admin.make("/admin/policies", body).await;
    }
    let large = json!({"id": "large", "scope": "MODEL_TIER", "limit": 100, "windowSeconds": 60});
    admin.make("/admin/policies", large).await;
    let alice = json!({"userId": "alice", "modelId": "gpt-4"});
    for (count, allowed) in [(1, true), (2, true), (2, false)] {
        let decision = admin.check(alice.clone()).await;
        assert_eq!((&decision["allowed"], &decision["count"]), (&json!(allowed), &json!(count)));
        assert_eq!(decision["policyId"], "of-free");
        assert_eq!(decision["limits"].as_array().unwrap().len(), 2, "and that of the model tier");
    }
    let raised = admin.ask("PATCH", "/admin/users/alice", &json!({"tier": "enterprise"})).await;
    assert_eq!(raised.status, 200, "{}", raised.body);
    let decision = admin.check(alice.clone()).await;
    assert_eq!(
        (&decision["allowed"], &decision["policyId"]),
        (&json!(true), &json!("of-enterprise"))
    );

    let explained = admin.ask("POST", "/admin/explain", &alice).await.json();
    assert_eq!(explained["subject"]["tier"], "enterprise");
    let of_free =
        explained["policies"].as_array().unwrap().iter().find(|p| p["policyId"] == "of-free");
    assert_eq!(of_free.unwrap()["why"], "the subject's tier is \"enterprise\"");
    let reset = admin.ask("POST", "/admin/usage/reset", &alice).await;
    assert_eq!(reset.json()["reset"], json!(["large", "of-enterprise"]));
    assert_eq!(admin.check(alice).await["count"], 1);
}

/// A key is shown once, decides the subject, and is denied with the reason once it is revoked.
#[tokio::test]
async fn an_api_key_is_shown_once_and_refused_when_it_is_revoked() {
    let admin = Admin::start().await;
    admin.make("/admin/tenants", json!({"id": "acme"})).await;
    admin.make("/admin/users", json!({"id": "bob", "tenantId": "acme"})).await;
    let made = admin
        .make("/admin/api-keys", json!({"id": "k", "tenantId": "acme", "userId": "bob"}))
        .await;
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with(made["prefix"].as_str().unwrap()), "{made}");
    let read = admin.ask("GET", "/admin/api-keys/k", &Value::Null).await;
    assert!(!read.body.contains(key) && read.json()["key"].is_null(), "{}", read.body);
    let policy = json!({"id": "per-key", "scope": "API_KEY", "limit": 9, "windowSeconds": 60});
    admin.make("/admin/policies", policy).await;
    let check = json!({"userId": "somebody", "modelId": "m", "apiKey": key});
    assert_eq!(admin.check(check.clone()).await["policyId"], "per-key");
    let revoked = admin.ask("PATCH", "/admin/api-keys/k", &json!({"revoked": true})).await;
    assert_eq!(revoked.status, 200, "{}", revoked.body);
    let decision = admin.check(check.clone()).await;
    assert_eq!(
        (&decision["allowed"], &decision["reason"]),
        (&json!(false), &json!("api_key_revoked"))
    );
    let explained = admin.ask("POST", "/admin/explain", &check).await;
    assert!(!explained.body.contains(key), "{}", explained.body);
    assert_eq!(explained.json()["subject"]["apiKey"], "k", "P15: the record, not its secret");
    let reset = admin.ask("POST", "/admin/usage/reset", &check).await;
    assert_eq!(reset.json()["reset"], json!(["per-key"]));
    admin.ask("PATCH", "/admin/api-keys/k", &json!({"revoked": false})).await;
    assert_eq!(admin.check(check).await["count"], 1, "its usage was reset, revoked or not");
    assert_eq!(decision["retryAfterMs"], Value::Null);
    let unknown = json!({"userId": "u", "modelId": "m", "apiKey": "no key of ours"});
    assert_eq!(admin.check(unknown).await["allowed"], true, "it counts under its own hash");
    let metrics = admin.fixture.get("/metrics").await.body;
    assert!(metrics.contains(r#"policy="(none)",reason="api_key_revoked"} 1"#), "{metrics}");
}

/// Every error is a problem with all its fields, and changes nothing.
#[tokio::test]
async fn a_wrong_change_is_refused_whole() {
    let admin = Admin::start().await;
    admin.make("/admin/tiers", json!({"id": "free"})).await;
    admin.make("/admin/tenants", json!({"id": "acme", "tier": "free"})).await;
    let cases: [(&str, &str, Value, u16, &[&str]); 9] = [
        ("POST", "/admin/users", json!({"id": "u", "tenantId": "nobody"}), 422, &["tenantId"]),
        (
            "POST",
            "/admin/users",
            json!({"tenantId": 5, "tier": [], "x": 1}),
            422,
            &["x", "tenantId", "tier"],
        ),
        (
            "POST",
            "/admin/policies",
            json!({"id": "p", "scope": "USER", "limit": -1, "windowSeconds": 0}),
            422,
            &["limit", "windowSeconds"],
        ),
        ("POST", "/admin/tenants", json!({"id": "acme"}), 409, &[]),
        ("POST", "/admin/tenants", json!({"id": ""}), 422, &["id"]),
        ("DELETE", "/admin/tiers/free", Value::Null, 409, &[]),
        ("DELETE", "/admin/tiers/none", Value::Null, 404, &[]),
        ("GET", "/admin/users?limit=0", Value::Null, 422, &["limit"]),
        ("GET", "/admin/users?colour=red", Value::Null, 422, &["colour"]),
    ];
    for (method, path, body, status, fields) in cases {
        let answer = admin.ask(method, path, &body).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.body);
        let mut found = faulty_fields(&answer);
        let mut expected: Vec<_> = fields.iter().map(ToString::to_string).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{method} {path} {body}");
    }
    let read = admin.ask("GET", "/admin/tenants/acme", &Value::Null).await;
    let etag = read.header("etag").unwrap().to_owned();
    let body = json!({"name": "Acme"});
    let changed = admin.ask_if("PATCH", "/admin/tenants/acme", &etag, &body).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(admin.ask_if("PATCH", "/admin/tenants/acme", &etag, &body).await.status, 412);
    assert_eq!(admin.ask_if("PATCH", "/admin/tenants/acme", "7", &body).await.status, 400);
    let log = admin.ask("GET", "/admin/audit?kind=tenant", &Value::Null).await.json();
    let actions: Vec<_> = log["items"].as_array().unwrap().iter().map(|c| &c["action"]).collect();
    assert_eq!(actions, ["update", "create"], "{log}");
}

/// Ids may contain any allowed character; lists come in pages; everything can be exported as a file and imported again.
#[tokio::test]
async fn records_are_listed_in_pages_and_exported() {
    let admin = Admin::start().await;
    admin.make("/admin/tenants", json!({"id": "a/b \"c\" ü"})).await;
    let path = "/admin/tenants/a%2Fb%20%22c%22%20%C3%BC";
    assert_eq!(admin.ask("GET", path, &Value::Null).await.json()["id"], "a/b \"c\" ü");
    for number in 0..5 {
        let body = json!({"id": format!("u{number}"), "tenantId": "a/b \"c\" ü"});
        admin.make("/admin/users", body).await;
    }
    let mut ids = Vec::new();
    let mut path = "/admin/users?limit=2".to_owned();
    loop {
        let page = admin.ask("GET", &path, &Value::Null).await.json();
        let items = page["items"].as_array().unwrap();
        ids.extend(items.iter().map(|user| user["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("/admin/users?limit=2&cursor={cursor}");
    }
    assert_eq!(ids, ["u0", "u1", "u2", "u3", "u4"]);
    let exported = admin.ask("GET", "/admin/export", &Value::Null).await;
    assert_eq!(exported.header("content-type"), Some("application/yaml"));
    assert!(exported.body.contains("u4"), "{}", exported.body);
    let document =
        json!({"tiers": [{"id": "new"}], "policies": [{"id": "p", "scope": "USER", "limit": 0}]});
    let imported = admin.ask("POST", "/admin/import", &document).await;
    assert_eq!(
        imported.json(),
        json!({"created": 2, "updated": 0, "unchanged": 0}),
        "{}",
        imported.body
    );
    assert_eq!(admin.check(json!({"userId": "u", "modelId": "m"})).await["reason"], "banned");
}

/// A policy file can only be changed by editing it.
#[tokio::test]
async fn a_file_can_be_read_and_not_changed() {
    let yaml = "policies: [{id: p, scope: USER, limit: 5, windowSeconds: 60}]";
    let fixture = Fixture::start_with_policies_and(yaml, |config| {
        config.admin_token = Some(Secret::new(WRITE));
    })
    .await;
    let token = format!("Bearer {WRITE}");
    let headers = [("authorization", &*token), ("content-type", "application/json")];
    let listed = fixture.client().await.send("GET", "/admin/policies", &headers, "").await;
    assert_eq!(listed.json()["items"][0]["id"], "p");
    let body = r#"{"id":"q","scope":"USER","limit":1,"windowSeconds":60}"#;
    let refused = fixture.client().await.send("POST", "/admin/policies", &headers, body).await;
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    let document = format!(r#"{{"policies":[{body}]}}"#);
    let refused = fixture.client().await.send("POST", "/admin/import", &headers, &document).await;
    assert_eq!((refused.status, refused.header("allow")), (405, Some("")));
    let judged =
        fixture.client().await.send("POST", "/admin/policies/validate", &headers, body).await;
    assert_eq!(judged.json(), json!({"valid": true, "policies": 1}));
}
