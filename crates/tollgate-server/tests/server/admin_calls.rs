//! How the calls below `/admin` are asked: paths, queries and conditions (issue 4, part 4).

use serde_json::{Value, json};

use tollgate_server::Secret;

use crate::support::{Admin, Fixture, WRITE, faulty_fields};

/// A record can be reached under its id, also where that is the name of a call.
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

/// `.` and `..` in a path mean another path, so no call makes a record that only few clients could reach.
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

/// What a kind of record does not have is no filter for it; and all that is wrong with a query is told at once.
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
    assert_eq!(refused["errors"][0]["accepted"], "cursor, limit, modelTier");
}

/// The same of a catalog in a file, which has no history.
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
