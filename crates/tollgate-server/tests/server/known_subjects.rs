//! The catalog's data about a subject overrides what a check says.

use serde_json::{Value, json};

use crate::support::{Admin, Fixture};

/// A limit for everybody, a larger one for gold, and one that only the priority class of gold may use completely.
const POLICIES: &str = "
policies:
  - {id: base, scope: USER, limit: 5, windowSeconds: 60}
  - {id: rich, scope: USER, limit: 1000, windowSeconds: 60, match: {tier: gold}}
  - {id: large, scope: MODEL, limit: 7, windowSeconds: 60, match: {modelTier: large}}
  - {id: pool, scope: GLOBAL, limit: 2000, windowSeconds: 60, shares: {standard: 0.5}}
";
const RECORDS: &str = "
tiers: [{id: gold, priority: premium}]
modelTiers: [{id: default}, {id: large}]
models: [{id: small, modelTier: default}]
tenants:
  - {id: plain, tier: default}
  - {id: golden, tier: gold}
  - {id: silent}
users:
  - {id: by-tenant, tenantId: plain}
  - {id: by-user, tenantId: golden, tier: default}
  - {id: untold, tenantId: silent}
";

/// The limits that `body` meets, by policy, in each call that shows them.
async fn limits(fixture: &Fixture, body: &Value) -> Vec<(String, u64)> {
    let limits_of = |decision: &Value| -> Vec<(String, u64)> {
        let limits = decision["limits"].as_array().unwrap().iter();
        let one = |one: &Value| {
            (one["policyId"].as_str().unwrap().to_owned(), one["limit"].as_u64().unwrap())
        };
        let mut all: Vec<_> = limits.map(one).collect();
        all.sort();
        all
    };
    let text = body.to_string();
    let checked = limits_of(&fixture.post("/rate-limit/check", &text).await.json());
    for call in ["/rate-limit/enforce", "/rate-limit/peek"] {
        assert_eq!(limits_of(&fixture.post(call, &text).await.json()), checked, "{call} {body}");
    }
    let batch = json!({"checks": [body]}).to_string();
    let batch = fixture.post("/rate-limit/check/batch", &batch).await.json();
    assert_eq!(limits_of(&batch["decisions"][0]), checked, "batch {body}");
    checked
}

fn named(limits: &[(&str, u64)]) -> Vec<(String, u64)> {
    limits.iter().map(|(policy, limit)| ((*policy).to_owned(), *limit)).collect()
}

/// Users with the known tier `default`, and what a caller may send for them.
async fn check_known_users(fixture: &Fixture) {
    let plain = named(&[("base", 5), ("pool", 1000)]);
    for user in ["by-tenant", "by-user"] {
        for given in [json!({"tier": "gold"}), json!({"tier": "default"}), json!({})] {
            let body = json!({"userId": user, "modelId": "other", "attributes": given});
            assert_eq!(limits(fixture, &body).await, plain, "{body}");
        }
    }
    // The tenant that a check names has no such user, so it is another user, and has the tier of that tenant.
    let golden = json!({"userId": "by-tenant", "modelId": "other", "tenantId": "golden"});
    assert_eq!(limits(fixture, &golden).await, named(&[("pool", 2000), ("rich", 1000)]));
    let known_model =
        json!({"userId": "by-user", "modelId": "small", "attributes": {"modelTier": "large"}});
    assert_eq!(limits(fixture, &known_model).await, plain, "the tier of a model stands");
    // If the catalog has no tier, the caller's is used.
    let rich = named(&[("pool", 2000), ("rich", 1000)]);
    for user in ["untold", "stranger"] {
        let body = json!({"userId": user, "modelId": "m", "attributes": {"tier": "gold"}});
        assert_eq!(limits(fixture, &body).await, rich, "{body}");
    }
}

#[tokio::test]
async fn the_tier_default_in_a_file_stands() {
    let fixture = Fixture::start_with_policies(&format!("{RECORDS}{POLICIES}")).await;
    check_known_users(&fixture).await;
}

#[tokio::test]
async fn the_tier_default_in_a_database_stands() {
    let admin = Admin::start().await;
    let yaml = [("content-type", "application/yaml")];
    let file = format!("{RECORDS}{POLICIES}");
    let imported = admin.send("POST", "/admin/import", &yaml, &file).await;
    assert_eq!(imported.status, 200, "{}", imported.body);
    check_known_users(&admin.fixture).await;
    let key = json!({"tenantId": "golden", "userId": "by-user", "tier": "default"});
    let key = admin.make("/admin/api-keys", key).await["key"].as_str().unwrap().to_owned();
    let body =
        json!({"apiKey": key, "userId": "x", "modelId": "m", "attributes": {"tier": "gold"}});
    assert_eq!(limits(&admin.fixture, &body).await, named(&[("base", 5), ("pool", 1000)]));
    let explained = admin.ask("POST", "/admin/explain", &body).await.json();
    let subject = &explained["subject"];
    assert_eq!((&subject["tier"], &subject["tenant"]), (&json!("default"), &json!("golden")));
    assert_eq!(explained["priority"], "standard");
}

/// Explain says whether the catalog has the user and the tenant, and where the tier comes from.
#[tokio::test]
async fn explain_tells_who_is_known_and_where_the_tier_is_from() {
    let admin = Admin::start().await;
    let records = json!({
        "tiers": [{"id": "gold"}, {"id": "pro"}], "tenants": [{"id": "acme", "tier": "pro"}, {"id": "bare"}],
        "users": [{"id": "alice", "tenantId": "acme"}, {"id": "bob", "tenantId": "bare"}]
    });
    assert_eq!(admin.ask("POST", "/admin/import", &records).await.status, 200);
    let key = admin.make("/admin/api-keys", json!({"tenantId": "acme", "tier": "gold"})).await;
    let key = key["key"].as_str().unwrap();
    let cases = [
        (json!({"userId": "alice"}), json!([true, null, "catalog"])),
        (json!({"userId": "alice", "tenantId": "acme"}), json!([true, true, "catalog"])),
        (json!({"userId": "alice", "tenantId": "bare"}), json!([false, true, "default"])),
        (json!({"userId": "bob"}), json!([true, null, "default"])),
        (json!({"userId": "nobody"}), json!([false, null, "default"])),
        (json!({"userId": "nobody", "tenantId": "acme"}), json!([false, true, "catalog"])),
        (json!({"userId": "nobody", "tenantId": "none"}), json!([false, false, "default"])),
        (
            json!({"userId": "nobody", "attributes": {"tier": "gold"}}),
            json!([false, null, "check"]),
        ),
        // The key determines both its tenant and its tier, so the user is not looked up.
        (json!({"userId": "nobody", "apiKey": key}), json!([null, true, "catalog"])),
    ];
    for (mut check, expected) in cases {
        check["modelId"] = json!("m");
        let explained = admin.ask("POST", "/admin/explain", &check).await.json();
        let said =
            json!([explained["userKnown"], explained["tenantKnown"], explained["tierSource"]]);
        assert_eq!(said, expected, "{check}");
    }
}
