//! Paths, queries and conditions of the calls below `/admin`.

use serde_json::{Value, json};

use tollgate_server::Secret;

use crate::support::{Admin, Fixture, WRITE, faulty_fields};

/// A record can be reached under its id, even if the id is also the name of a call.
#[tokio::test]
async fn a_policy_called_validate_can_be_read_changed_and_deleted() {
    let admin = Admin::start().await;
    let policy = json!({"id": "validate", "scope": "USER", "limit": 5, "windowSeconds": 60});
    let made = admin.make("/admin/policies", policy.clone()).await;
    let path = "/admin/policies/validate";
    assert_eq!(admin.get(path).await.json(), made);
    let patched = admin.ask("PATCH", path, &json!({"limit": 6})).await;
    assert_eq!((patched.status, &patched.json()["limit"]), (200, &json!(6)), "{}", patched.body);
    let replaced = admin.ask("PUT", path, &policy).await;
    assert_eq!((replaced.status, replaced.json()), (200, made));
    assert_eq!(
        admin.ask("POST", path, &policy).await.json()["valid"],
        true,
        "the call is there too"
    );
    assert_eq!(admin.ask("DELETE", path, &Value::Null).await.status, 204);
    assert_eq!(admin.get(path).await.status, 404);
}

/// `.` and `..` in a path mean another path, so no call creates a record with such an id.
#[tokio::test]
async fn an_id_that_no_path_can_hold_is_refused() {
    let admin = Admin::start().await;
    let policy = |id| json!({"id": id, "scope": "USER", "limit": -1, "windowSeconds": 60});
    let cases = [
        ("/admin/tenants", json!({"id": "."}), vec!["id"]),
        ("/admin/tiers", json!({"id": "..", "priority": "urgent"}), vec!["id", "priority"]),
        ("/admin/policies", policy(".."), vec!["id", "limit"]),
        (
            "/admin/import",
            json!({"tiers": [{"id": "a"}, {"id": ".."}], "policies": [policy("p")]}),
            vec!["tiers[1].id", "policies[0].limit"],
        ),
    ];
    for (path, body, fields) in cases {
        let refused = admin.ask("POST", path, &body).await;
        assert_eq!(
            (refused.status, faulty_fields(&refused)),
            (422, fields.iter().map(ToString::to_string).collect())
        );
    }
    for id in ["...", ".a", "a..", "%2e"] {
        admin.make("/admin/tenants", json!({"id": id})).await;
    }
    assert_eq!(admin.get("/admin/tiers").await.json()["items"].as_array().unwrap().len(), 1);
}

/// A filter by something that a kind of record does not have is invalid, and all problems of a query are reported at
/// once.
#[tokio::test]
async fn a_query_that_asks_for_what_is_not_there_is_refused() {
    let admin = Admin::start().await;
    let cases: [(&str, &[&str]); 14] = [
        ("tenants?tenantId=acme", &["tenantId"]),
        ("users?modelTier=x&userId=y", &["modelTier", "userId"]),
        ("api-keys?modelTier=x", &["modelTier"]),
        ("tiers?tier=x", &["tier"]),
        ("policies?tier=x", &["tier"]),
        ("users?limit=0&tier=&colour=red", &["tier", "limit", "colour"]),
        ("users?tier=a&tier=b", &["tier"]),
        ("users?cursor=%ff", &["cursor"]),
        ("users?cursor=alice", &["cursor"]),
        ("users?cursor=users.", &["cursor"]),
        ("users?cursor=tenants.alice", &["cursor"]),
        ("audit?cursor=x&kind=dog", &["cursor", "kind"]),
        ("audit?cursor=99999999999999999999", &["cursor"]),
        ("usage?by=size&limit=x", &["policy", "by", "limit"]),
    ];
    for (path, fields) in cases {
        let refused = admin.get(&format!("/admin/{path}")).await;
        assert_eq!(refused.status, 422, "{path}: {}", refused.body);
        let (mut found, mut expected) = (faulty_fields(&refused), fields.to_vec());
        found.sort();
        expected.sort_unstable();
        assert_eq!(found, expected, "{path}");
    }
    let refused = admin.get("/admin/models?tier=x").await.json();
    assert_eq!(refused["errors"][0]["accepted"], "cursor, limit, search, modelTier");
}

/// The same for a catalog in a file, which has no audit log.
#[tokio::test]
async fn a_file_refuses_what_is_no_cursor() {
    let yaml = "policies: [{id: p, scope: USER, limit: 5, windowSeconds: 60}]";
    let fixture = Fixture::start_with_policies_and(yaml, |config| {
        config.admin_token = Some(Secret::new(WRITE));
    })
    .await;
    let token = format!("Bearer {WRITE}");
    let headers = [("authorization", &*token)];
    let cases = [
        ("/admin/audit?cursor=x", 422),
        ("/admin/audit?cursor=7", 200),
        ("/admin/policies?cursor=p", 422),
        ("/admin/policies?cursor=policies.p", 200),
    ];
    for (path, status) in cases {
        let answer = fixture.client().await.send("GET", path, &headers, "").await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
}

/// Clients and web servers call YAML by many names.
#[tokio::test]
async fn a_policy_file_in_yaml_is_taken_under_every_usual_media_type() {
    let admin = Admin::start().await;
    let yaml = "x-day: &day {scope: USER, window: 1d}\npolicies: [{<<: *day, id: p, limit: 5}]\n";
    let types = [
        ("application/yaml", 200),
        ("application/x-yaml", 200),
        ("text/yaml", 200),
        ("text/x-yaml", 200),
        ("text/vnd.yaml", 200),
        ("application/vnd.acme+yaml", 200),
        ("Text/X-YAML; charset=utf-8", 200),
        ("application/openapi+YAML;version=3", 200),
        ("+yaml", 415),
        ("yaml", 415),
        ("application/yamlx", 415),
        ("text/plain", 415),
    ];
    for (media_type, status) in types {
        let answer =
            admin.send("POST", "/admin/import", &[("content-type", media_type)], yaml).await;
        assert_eq!(answer.status, status, "{media_type}: {}", answer.body);
    }
    assert_eq!(admin.get("/admin/policies/p").await.json()["windowSeconds"], 86_400);
}

/// Whoever may import must not read the server's environment with it.
#[tokio::test]
async fn an_import_never_sees_the_environment_of_the_server() {
    let admin = Admin::start().await;
    let headers = [("content-type", "application/yaml")];
    let text = "policies: [{id: \"${CARGO_PKG_NAME}$$\", scope: USER, limit: 5, window: 1h}]";
    assert_eq!(admin.send("POST", "/admin/import", &headers, text).await.status, 200);
    let listed = admin.get("/admin/policies").await.json();
    let ids: Vec<_> = listed["items"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert!(ids.contains(&&json!("${CARGO_PKG_NAME}$$")), "{ids:?}");
    let text =
        "policies:\n- {id: q, scope: USER, limit: \"${CARGO_PKG_VERSION_MAJOR}\", window: 1h}";
    for path in ["/admin/import", "/admin/policies/validate"] {
        let refused = admin.send("POST", path, &headers, text).await;
        let error = &refused.json()["errors"][0];
        assert_eq!(
            (refused.status, &error["line"], &error["column"]),
            (422, &json!(2), &json!(31))
        );
        assert!(error["problem"].as_str().unwrap().contains("CARGO_PKG_VERSION_MAJOR"), "{error}");
    }
}

#[tokio::test]
async fn a_patch_sets_the_window_in_either_way() {
    let admin = Admin::start().await;
    admin
        .make("/admin/policies", json!({"id": "p", "scope": "USER", "limit": 1, "window": "1m"}))
        .await;
    let path = "/admin/policies/p";
    let window = |answer: crate::support::HttpAnswer| answer.json()["windowSeconds"].clone();
    assert_eq!(window(admin.get(path).await), 60);
    assert_eq!(window(admin.ask("PATCH", path, &json!({"window": "2h"})).await), 7_200);
    assert_eq!(window(admin.ask("PATCH", path, &json!({"windowSeconds": 5})).await), 5);
    assert_eq!(window(admin.ask("PATCH", path, &json!({"window": null, "limit": 2})).await), 5);
    let both = admin.ask("PATCH", path, &json!({"window": "1h", "windowSeconds": 5})).await;
    assert_eq!(both.status, 422, "{}", both.body);
}

/// RFC 9110, 13.1.1: a list names several versions, tags are compared strongly, `*` matches any; a new record has no
/// version.
#[tokio::test]
async fn a_change_is_made_of_the_versions_that_if_match_names() {
    let admin = Admin::start().await;
    admin.make("/admin/tenants", json!({"id": "a"})).await;
    let path = "/admin/tenants/a";
    let etag = async || admin.get(path).await.header("etag").unwrap().to_owned();
    let first = etag().await;
    let cases = [
        ("NOW", 200),
        (r#""999999", NOW"#, 200),
        ("*", 200),
        ("W/NOW", 412),
        ("FIRST", 412),
        (r#"FIRST, "999999""#, 412),
        (r#""no-tag-of-ours""#, 412),
        ("7", 400),
    ];
    for (number, (condition, status)) in cases.into_iter().enumerate() {
        let condition = condition.replace("NOW", &etag().await).replace("FIRST", &first);
        let body = json!({"name": format!("name {number}")});
        let answer = admin.ask_if("PATCH", path, &condition, &body).await;
        assert_eq!(answer.status, status, "{condition}: {}", answer.body);
        assert_eq!(admin.get(path).await.json()["name"] == body["name"], status == 200);
    }
    assert_eq!(
        admin.ask_if("DELETE", path, &format!("{first}, \"2\""), &Value::Null).await.status,
        412
    );
    assert_eq!(
        admin.ask_if("PUT", "/admin/tenants/b", "\"1\", \"2\"", &json!({})).await.status,
        404
    );
    let refused = admin.ask_if("POST", "/admin/tenants", "*", &json!({"id": "b"})).await;
    assert_eq!((refused.status, faulty_fields(&refused)), (400, vec!["If-Match".to_owned()]));
    assert_eq!(admin.ask_if("DELETE", path, &etag().await, &Value::Null).await.status, 204);
}

/// A patch may be declared with the media type of its standard.
#[tokio::test]
async fn a_patch_may_be_declared_as_a_merge_patch() {
    let admin = Admin::start().await;
    admin.make("/admin/tenants", json!({"id": "a", "name": "A"})).await;
    let path = "/admin/tenants/a";
    let headers = [("content-type", "application/merge-patch+json")];
    let patched = admin.send("PATCH", path, &headers, r#"{"name":null,"tier":"default"}"#).await;
    let expected = json!({"id": "a", "name": "a", "tier": "default"});
    assert_eq!((patched.status, patched.json()), (200, expected));
    assert_eq!(admin.send("PUT", path, &headers, "{}").await.status, 415);
}

/// Parameters that a call does not accept are refused, whatever its method, before anything is done.
#[tokio::test]
async fn a_parameter_of_a_call_that_takes_none_is_refused() {
    let admin = Admin::start_new(|_| {}).await;
    admin.make("/admin/tenants", json!({"id": "a"})).await;
    let check = json!({"userId": "u", "modelId": "m"});
    let calls = [
        ("POST", "/admin/tenants", json!({"id": "b"})),
        ("GET", "/admin/tenants/a", Value::Null),
        ("PUT", "/admin/tenants/a", json!({"name": "B"})),
        ("PATCH", "/admin/tenants/a", json!({"name": "B"})),
        ("DELETE", "/admin/tenants/a", Value::Null),
        ("POST", "/admin/policies/validate", json!({"policies": []})),
        ("POST", "/admin/import", json!({"tiers": [{"id": "t"}]})),
        ("GET", "/admin/export", Value::Null),
        ("POST", "/admin/explain", check.clone()),
        ("POST", "/admin/usage/reset", check),
    ];
    for (method, path, body) in calls {
        let refused = admin.ask(method, &format!("{path}?foo=1&bar=2"), &body).await;
        assert_eq!(refused.status, 422, "{method} {path}: {}", refused.body);
        assert_eq!(faulty_fields(&refused), ["bar", "foo"], "{method} {path}");
    }
    let changes = admin.get("/admin/audit").await.json();
    assert_eq!(changes["items"].as_array().unwrap().len(), 1, "{changes}");
}
