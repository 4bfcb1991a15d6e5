//! Whom a check is about: any attribute is enough (R20), and an address is a network (R21).

use serde_json::{Value, json};
use tollgate_catalog::api_key::KeyHasher;
use tollgate_server::{Secret, TrustedProxies};

use crate::support::{Admin, Fixture};

const CHECK: &str = "/rate-limit/check";

const POLICIES: &str = r"
policies:
  - {id: user, scope: USER, limit: 1, windowSeconds: 60}
  - {id: key, scope: API_KEY, limit: 1, windowSeconds: 60}
  - {id: address, scope: IP, limit: 2, windowSeconds: 60}
  - {id: wide, scope: IP, ipv6Prefix: 48, limit: 4, windowSeconds: 60}
  - {id: region, per: [region], limit: 1, windowSeconds: 60}
";

/// The ids of the limits that `check` meets, and whether it is allowed.
async fn decide(fixture: &Fixture, check: serde_json::Value) -> (bool, Vec<String>) {
    let answer = fixture.post(CHECK, &check.to_string()).await;
    assert_eq!(answer.status, 200, "{check}: {}", answer.body);
    let decision = answer.json();
    let limits = decision["limits"].as_array().unwrap().iter();
    let ids = limits.map(|limit| limit["policyId"].as_str().unwrap().to_owned());
    (decision["allowed"] == true, ids.collect())
}

#[tokio::test]
async fn any_one_attribute_is_a_subject() {
    let fixture = Fixture::start_with_policies(POLICIES).await;
    let subjects = [
        (json!({"apiKey": "sk-1"}), vec!["key"]),
        (json!({"ip": "192.0.2.1"}), vec!["address", "wide"]),
        (json!({"attributes": {"region": "eu"}}), vec!["region"]),
        (json!({"userId": "alice"}), vec!["user"]),
        (json!({"modelId": "gpt-4"}), vec![]),
        (json!({"tenantId": "acme", "userId": null}), vec![]),
    ];
    for (check, met) in subjects {
        let (allowed, ids) = decide(&fixture, check.clone()).await;
        assert!(allowed, "{check}");
        assert_eq!(ids, met, "{check}");
    }
    assert!(!decide(&fixture, json!({"apiKey": "sk-1"})).await.0);
    assert!(decide(&fixture, json!({"apiKey": "sk-2"})).await.0);
}

/// P8: addresses of one /64 share a limit, and those of one /48 where a policy says so.
#[tokio::test]
async fn addresses_of_one_network_share_a_limit() {
    let fixture = Fixture::start_with_policies(POLICIES).await;
    let mut allowed = Vec::new();
    for address in [
        "2001:db8:1:1::1",
        "2001:db8:1:1::2",
        "2001:db8:1:1:8000::",
        "2001:db8:1:2::1",
        "2001:db8:1:3::1",
        "2001:db8:1:4::1",
        "2001:db8:2::",
    ] {
        allowed.push(decide(&fixture, json!({"ip": address})).await.0);
    }
    assert_eq!(allowed, [true, true, false, true, true, false, true]);
    for last in 1..=9 {
        assert!(decide(&fixture, json!({"ip": format!("192.0.2.{last}")})).await.0);
    }
}

/// The same user id in two tenants is two users, whether or not a catalog knows them.
#[tokio::test]
async fn the_same_user_id_in_two_tenants_is_two_users() {
    let fixture = Fixture::start_with_policies(POLICIES).await;
    for tenant in [json!("t1"), json!("t2"), json!(null)] {
        let check = json!({"userId": "alice", "tenantId": tenant});
        assert!(decide(&fixture, check.clone()).await.0, "{check}");
        assert!(!decide(&fixture, check.clone()).await.0, "{check}");
    }
}

/// P17: header fields name public policies only; the wait is that of all of them.
#[tokio::test]
async fn header_fields_name_public_policies_only() {
    let policies = r"
policies:
  - {id: mine, scope: USER, limit: 10, windowSeconds: 60}
  - {id: global-ceiling, scope: GLOBAL, limit: 2, windowSeconds: 60, visibility: private}
";
    let fixture = Fixture::start_with_policies(policies).await;
    let enforce = async || fixture.post("/rate-limit/enforce", r#"{"userId":"alice"}"#).await;
    for _ in 0..2 {
        let answer = enforce().await;
        assert_eq!(answer.header("ratelimit-policy"), Some("\"mine\";q=10;w=60"));
        assert!(answer.header("ratelimit").unwrap().starts_with("\"mine\";r="));
    }
    let denied = enforce().await;
    assert_eq!((denied.status, denied.header("retry-after")), (429, Some("60")));
    assert_eq!(denied.header("ratelimit"), Some("\"mine\";r=8"));
    assert_eq!(denied.json()["policyId"], "global-ceiling");
}

/// P9: the same user id in two tenants, in a catalog; a check spends no limit of a tenant that it does not name.
#[tokio::test]
async fn a_check_spends_no_limit_of_a_tenant_that_it_does_not_name() {
    let admin = Admin::start().await;
    let records = json!({
        "tenants": [{"id": "t1"}, {"id": "t2"}],
        "users": [{"id": "ann", "tenantId": "t1"}],
        "policies": [
            {"id": "of-tenant", "scope": "TENANT", "limit": 2, "windowSeconds": 3600},
            {"id": "of-user", "scope": "USER", "limit": 3, "windowSeconds": 3600},
        ]
    });
    assert_eq!(admin.ask("POST", "/admin/import", &records).await.status, 200);
    let second = json!({"id": "ann", "tenantId": "t2", "name": "another"});
    assert_eq!(admin.ask("POST", "/admin/users", &second).await.status, 201);

    let limits = async |check: serde_json::Value| {
        let answer = admin.fixture.post(CHECK, &check.to_string()).await.json();
        let limits = answer["limits"].as_array().unwrap().iter();
        let limits =
            limits.map(|limit| (limit["policyId"].to_string(), limit["count"].to_string()));
        limits.map(|(policy, count)| format!("{policy} {count}")).collect::<Vec<_>>()
    };
    let of = |tenant| json!({"userId": "ann", "tenantId": tenant});
    assert_eq!(limits(of("t2")).await, ["\"of-tenant\" 1", "\"of-user\" 1"]);
    assert_eq!(limits(of("t1")).await, ["\"of-tenant\" 1", "\"of-user\" 1"]);
    assert_eq!(limits(json!({"userId": "ann"})).await, ["\"of-user\" 1"]);
    let key = admin.make("/admin/api-keys", json!({"tenantId": "t2", "userId": "ann"})).await;
    let with_key = json!({"apiKey": key["key"], "tenantId": "t1", "userId": "bob"});
    assert_eq!(limits(with_key).await, ["\"of-tenant\" 2", "\"of-user\" 2"]);
    assert_eq!(limits(of("t1")).await, ["\"of-tenant\" 2", "\"of-user\" 2"]);

    // Without its tenant, nothing says which of the two is meant.
    let ambiguous = admin.send("GET", "/admin/users/ann", &[], "").await;
    assert_eq!(ambiguous.status, 409);
    assert!(ambiguous.body.contains("tenantId"), "{}", ambiguous.body);
    let found = admin.send("GET", "/admin/users/ann?tenantId=t2", &[], "").await;
    assert_eq!((found.status, &found.json()["name"]), (200, &json!("another")));
    let unknown = admin.send("GET", "/admin/users/ann?tenant=t2", &[], "").await;
    assert_eq!(unknown.status, 422);
    let other_kind = admin.send("GET", "/admin/tenants/t1?tenantId=t2", &[], "").await;
    assert_eq!(other_kind.status, 422);
}

/// R21: behind trusted proxies, a check that gives no address has the one that they report.
#[tokio::test]
async fn trusted_proxies_give_the_address() {
    let policies = "policies: [{id: address, scope: IP, limit: 1, windowSeconds: 60}]";
    let fixture = Fixture::start_with_policies_and(policies, |config| {
        config.trusted_proxies = TrustedProxies::new("127.0.0.0/8, 10.0.0.0/8");
    })
    .await;
    let mut client = fixture.client().await;
    let mut check = async |name: &str, chain: &str, body: &str| {
        let headers = [("content-type", "application/json"), (name, chain)];
        let answer = client.send("POST", CHECK, &headers, body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        (answer.json()["allowed"] == true, answer.json()["limits"].as_array().unwrap().len())
    };
    let chain = "x-forwarded-for";
    assert_eq!(
        check(chain, "1.1.1.1, 203.0.113.1, 10.0.0.9", r#"{"userId":"a"}"#).await,
        (true, 1)
    );
    assert_eq!(check(chain, "2.2.2.2, 203.0.113.1", "{}").await, (false, 1));
    assert_eq!(check("forwarded", "for=203.0.113.1", "{}").await, (false, 1));
    assert_eq!(check("forwarded", "for=203.0.113.2", "{}").await, (true, 1));
    assert_eq!(check(chain, "203.0.113.1", r#"{"ip":"203.0.113.3"}"#).await, (true, 1));
    // The proxy itself.
    assert_eq!(check("accept", "*/*", "{}").await, (true, 1));
    assert_eq!(check(chain, "nonsense", "{}").await, (false, 1));
    let batch = r#"{"checks":[{"userId":"a"},{"ip":"203.0.113.4"}]}"#;
    let headers = [("content-type", "application/json"), (chain, "203.0.113.5")];
    let answer = client.send("POST", "/rate-limit/check/batch", &headers, batch).await.json();
    let allowed =
        |answer: &serde_json::Value, at: usize| answer["decisions"][at]["allowed"] == true;
    assert!(allowed(&answer, 0) && allowed(&answer, 1), "{answer}");
    let again = client.send("POST", "/rate-limit/check/batch", &headers, batch).await.json();
    assert!(!allowed(&again, 0) && !allowed(&again, 1), "{again}");

    // Without the setting, nothing is taken from a header field.
    let fixture = Fixture::start_with_policies(policies).await;
    let headers = [("content-type", "application/json"), (chain, "203.0.113.1")];
    let answer = fixture.client().await.send("POST", CHECK, &headers, r#"{"userId":"a"}"#).await;
    assert_eq!(answer.json()["limits"], json!([]));
}

/// P11: the built-in policy is listed, stays when others are made, and is removed only by deleting it.
#[tokio::test]
async fn the_built_in_policy_is_listed_and_stays() {
    let admin = Admin::start_new(|_| {}).await;
    let listed = admin.get("/admin/policies").await.json()["items"].clone();
    let built_in = json!({
        "id": "default", "scope": "USER_MODEL", "limit": 100, "windowSeconds": 3600, "source": "built-in"
    });
    assert_eq!(listed, json!([built_in]));
    let made = json!({"id": "gpu-pool", "scope": "MODEL", "limit": 1000, "windowSeconds": 60});
    assert_eq!(admin.make("/admin/policies", made).await["source"], json!(null));
    let check = json!({"userId": "alice", "modelId": "gpt-4"});
    let met = decide(&admin.fixture, check.clone()).await;
    assert_eq!(met, (true, vec!["default".to_owned(), "gpu-pool".to_owned()]));
    // What was read can be sent back; once it is changed, it is a policy like any other.
    let same = admin.ask("PUT", "/admin/policies/default", &built_in).await;
    assert_eq!((same.status, &same.json()["source"]), (200, &json!("built-in")));
    for (id, forged) in
        [("default", json!({"source": "file"})), ("gpu-pool", json!({"source": "built-in"}))]
    {
        let path = format!("/admin/policies/{id}");
        assert_eq!(admin.ask("PATCH", &path, &forged).await.status, 422, "{id}");
    }
    let changed = admin.ask("PATCH", "/admin/policies/default", &json!({"limit": 50})).await;
    assert_eq!((changed.status, &changed.json()["source"]), (200, &json!(null)));
    assert_eq!(admin.ask("DELETE", "/admin/policies/default", &json!(null)).await.status, 204);
    assert_eq!(decide(&admin.fixture, check).await, (true, vec!["gpu-pool".to_owned()]));
}

/// P1: in a file, a condition on an API key takes the key's text or its hash, as checks have it.
#[tokio::test]
async fn a_key_is_banned_by_its_text_or_its_hash() {
    let hash = KeyHasher::new(SECRET.as_bytes()).hash("sk-other").to_hex();
    let policies = format!(
        "policies:
  - {{id: base, scope: API_KEY, limit: 100, windowSeconds: 60}}
  - {{id: ban, scope: API_KEY, match: {{apiKey: [sk-leaked, {hash}]}}, limit: 0}}
"
    );
    let fixture = Fixture::start_with_policies_and(&policies, |config| {
        config.api_key_secret = Some(Secret::new(SECRET));
    })
    .await;
    for key in ["sk-leaked", "sk-other"] {
        assert!(!decide(&fixture, json!({"apiKey": key})).await.0, "{key}");
    }
    assert!(decide(&fixture, json!({"apiKey": "sk-good"})).await.0);
}

const SECRET: &str = "the secret of these tests";

/// P1: in a database, checks have the id of a key, so a condition names one that there is.
#[tokio::test]
async fn a_condition_on_an_api_key_names_one_that_there_is() {
    let admin = Admin::start().await;
    let ban =
        |key: &str| json!({"id": "ban", "scope": "API_KEY", "match": {"apiKey": key}, "limit": 0});
    let refused = admin.ask("POST", "/admin/policies", &ban("sk-leaked")).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["errors"][0]["field"], "match.apiKey");
    assert!(!refused.body.contains("sk-leaked"), "{}", refused.body);
    let file = json!({"policies": [ban("sk-leaked")]});
    assert_eq!(admin.ask("POST", "/admin/import", &file).await.status, 422);
    admin.make("/admin/tenants", json!({"id": "acme"})).await;
    let made = admin.make("/admin/api-keys", json!({"id": "leaked", "tenantId": "acme"})).await;
    admin.make("/admin/policies", ban("leaked")).await;
    assert!(!decide(&admin.fixture, json!({"apiKey": made["key"]})).await.0);
    let used = admin.ask("DELETE", "/admin/api-keys/leaked", &json!(null)).await;
    assert_eq!(used.status, 409, "a policy would silently lose what it bans");
}

/// P3: what can hardly match is told wherever the policy is seen, with a suggestion.
#[tokio::test]
async fn a_policy_for_an_unknown_tier_has_a_warning() {
    let admin = Admin::start().await;
    let records = json!({
        "tiers": [{"id": "platinum"}], "tenants": [{"id": "acme"}],
        "users": [{"id": "ann", "tenantId": "acme"}]
    });
    assert_eq!(admin.ask("POST", "/admin/import", &records).await.status, 200);
    let policy = json!({
        "id": "p", "scope": "USER", "match": {"tier": "platnium", "tenant": ["acme", "acne"]},
        "limit": 5, "windowSeconds": 60
    });
    let judged = admin.ask("POST", "/admin/policies/validate", &policy).await.json();
    assert_eq!(judged["warnings"].as_array().unwrap().len(), 1, "{judged}");
    let one = "id: p\nscope: USER\nmatch:\n  tier: platnium\nunit: token\nlimit: 5\nwindow: 1m\n";
    let yaml = [("content-type", "application/yaml")];
    let judged_yaml = admin.send("POST", "/admin/policies/validate", &yaml, one).await.json();
    let places = |judged: &Value| {
        let one = |one: &Value| (one["line"].as_u64(), one["column"].as_u64());
        judged["warnings"].as_array().unwrap().iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(places(&judged_yaml), [(Some(4), Some(9)), (Some(5), Some(7))], "{judged_yaml}");
    assert_eq!(places(&judged)[0].0, Some(1), "{judged}");
    let made = admin.make("/admin/policies", policy.clone()).await;
    let warnings = made["warnings"].as_array().unwrap();
    let fields: Vec<_> = warnings.iter().map(|one| one["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["match.tenant[1]", "match.tier"], "{made}");
    let problem = warnings[1]["problem"].as_str().unwrap();
    assert!(problem.contains("(did you mean `platinum`?)"), "{problem}");
    // What was read can be sent back.
    assert_eq!(admin.ask("PUT", "/admin/policies/p", &made).await.status, 200);
    let mended = json!({"match": {"tier": "platinum"}});
    let mended = admin.ask("PATCH", "/admin/policies/p", &mended).await.json();
    assert_eq!(mended["warnings"], json!(null));

    let file = r"
tiers: [{id: pro}]
policies:
  - {id: day, scope: USER, limit: 20, windowSeconds: 86400}
  - {id: minute, scope: USER, limit: 10, windowSeconds: 60}
  - {id: again, scope: USER, limit: 12, windowSeconds: 60}
  - {id: pro, scope: USER, match: {tier: pr0}, limit: 1000, windowSeconds: 60}
  - {id: key, scope: API_KEY, match: {apiKey: 'sk-*'}, limit: 0}
  - {id: all, scope: USER, limit: 9, windowSeconds: 3600, overrides: [day]}
";
    let judged = admin.send("POST", "/admin/policies/validate", &yaml, file).await.json();
    let found: Vec<_> = judged["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (one["id"].as_str().unwrap(), one["field"].as_str().unwrap(), one["line"].as_u64())
        })
        .collect();
    assert_eq!(
        found,
        [
            ("day", "", Some(4)),
            ("again", "", Some(6)),
            ("pro", "", Some(7)),
            ("pro", "match.tier", Some(7)),
            ("key", "match.apiKey", Some(8)),
        ],
        "{judged:#}"
    );
}

/// Warnings about conditions that always hold, about names that resemble others, and about settings without effect.
#[tokio::test]
async fn policies_that_do_less_than_they_seem_to_are_told() {
    let admin = Admin::start().await;
    let file = r"
tiers: [{id: pro}]
policies:
  - {id: base, scope: USER, limit: 1, windowSeconds: 60}
  - {id: any, scope: USER, limit: 50, windowSeconds: 60, match: {user: {present: true}}}
  - {id: tierless, scope: MODEL, limit: 1, windowSeconds: 60, match: {tier: {absent: true}}}
  - {id: default-tier, scope: MODEL, limit: 2, windowSeconds: 60, match: {tier: default}}
  - {id: column, per: [attributes.region], limit: 1, windowSeconds: 60}
  - {id: usre, per: [usre], limit: 1, windowSeconds: 60}
  - {id: token, scope: TENANT, unit: token, limit: 1, windowSeconds: 60}
  - {id: upper, scope: API_KEY, ignoreCase: true, match: {apiKey: SK}, limit: 0}
  - {id: first, scope: IP, limit: 1, windowSeconds: 60, overrides: [second]}
  - {id: second, scope: IP, limit: 1, windowSeconds: 60}
  - {id: greedy, scope: SERVICE, unit: tokens, limit: 10, windowSeconds: 60, reserve: {tokens: {atMost: 11}, images: {atMost: 99}}}
";
    let yaml = [("content-type", "application/yaml")];
    let judged = admin.send("POST", "/admin/policies/validate", &yaml, file).await.json();
    let found: Vec<_> = judged["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["id"].as_str().unwrap(), one["field"].as_str().unwrap()))
        .collect();
    let expected = [
        ("base", ""),
        ("tierless", "match.tier"),
        ("column", "per"),
        ("usre", "per"),
        ("token", "unit"),
        ("upper", "ignoreCase"),
        ("second", ""),
        ("greedy", "reserve.tokens.atMost"),
    ];
    assert_eq!(found, expected, "{judged:#}");
    let import = json!({"policies": [
        {"id": "p", "scope": "USER", "unit": "token", "limit": 5, "windowSeconds": 60},
        {"id": "q", "scope": "USER", "unit": "tokens", "limit": 5, "windowSeconds": 60}
    ]});
    let imported = admin.ask("POST", "/admin/import", &import).await.json();
    assert_eq!(imported["warnings"].as_array().unwrap().len(), 1, "{imported}");
    assert_eq!(imported["warnings"][0]["id"], "p");
    let models =
        "modelTiers: [{id: big}]\nmodels:\n  - {id: 'gpt-*', modelTier: big}\npolicies: []\n";
    for path in ["/admin/policies/validate", "/admin/import"] {
        let judged = admin.send("POST", path, &yaml, models).await.json();
        let warnings = judged["warnings"].as_array().unwrap();
        let place = (&warnings[0]["kind"], &warnings[0]["id"], &warnings[0]["line"]);
        assert_eq!(place, (&json!("model"), &json!("gpt-*"), &json!(3)), "{path}: {judged}");
        assert_eq!(warnings.len(), 1, "{path}: {judged}");
    }
}
