//! `/admin/leases`: live leases, listed and released by hand.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Admin, HttpAnswer, READ, faulty_fields};

const LEASES: &str = "/admin/leases";

/// A server with a limit of tokens and one of concurrency, per user.
async fn start() -> Admin {
    let admin = Admin::start().await;
    for policy in [
        json!({"id": "tokens", "scope": "USER", "unit": "tokens", "limit": 100, "windowSeconds": 60}),
        json!({"id": "parallel", "scope": "USER", "unit": "concurrency", "limit": 2}),
    ] {
        admin.make("/admin/policies", policy).await;
    }
    admin
}

/// A lease of `user` of `tenant`, a second after the one before; its id.
async fn reserve(admin: &Admin, user: &str, tenant: &str, tokens: u64) -> String {
    admin.fixture.clock.advance(Duration::from_secs(1));
    let body = json!({
        "userId": user, "modelId": "gpt-4", "tenantId": tenant, "cost": {"tokens": tokens},
        "ttlMs": 20_000
    });
    let answer = admin.fixture.post("/rate-limit/leases", &body.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.json()["lease"]["id"].as_str().unwrap().to_owned()
}

/// One field of each element of `list`.
fn all(list: &Value, field: &str) -> Value {
    list.as_array().unwrap().iter().map(|one| one[field].clone()).collect()
}

async fn release(admin: &Admin, id: &str) -> HttpAnswer {
    admin.send("DELETE", &format!("{LEASES}/{id}"), &[], "").await
}

#[tokio::test]
async fn live_leases_are_listed_oldest_first_with_what_was_used() {
    let admin = start().await;
    let first = reserve(&admin, "alice", "acme", 40).await;
    reserve(&admin, "bob", "globex", 10).await;
    let extend = json!({"seq": 1, "observed": {"tokens": 25}}).to_string();
    let extended = admin.fixture.post(&format!("/rate-limit/leases/{first}/extend"), &extend).await;
    assert_eq!(extended.status, 200, "{}", extended.body);
    admin.fixture.clock.advance(Duration::from_millis(3_500));

    let listed = admin.get(LEASES).await.json();
    assert_eq!(listed["complete"], true);
    let slot = json!({"policyId": "parallel", "unit": "concurrency", "reserved": 1, "used": null});
    let tokens = |reserved: u64, used: Option<u64>| json!({"policyId": "tokens", "unit": "tokens", "reserved": reserved, "used": used});
    let alice = json!({
        "id": first, "tenant": "acme", "user": "alice", "model": "gpt-4", "ageMs": 4_500,
        "livesForMs": 16_500, "limits": [slot, tokens(40, Some(25))]
    });
    assert_eq!(listed["items"][0], alice);
    assert_eq!(listed["items"][1]["limits"][1], tokens(10, None));
    assert_eq!(all(&listed["items"], "user"), json!(["alice", "bob"]));
    let group = |policy: &str, unit: &str, tenant: &str, reserved: u64, used: Option<u64>| {
        let oldest = if tenant == "acme" { 4_500 } else { 3_500 };
        json!({
            "policyId": policy, "unit": unit, "tenant": tenant, "leases": 1, "reserved": reserved,
            "used": used, "oldestMs": oldest
        })
    };
    let groups = json!([
        group("parallel", "concurrency", "acme", 1, None),
        group("tokens", "tokens", "acme", 40, Some(25)),
        group("parallel", "concurrency", "globex", 1, None),
        group("tokens", "tokens", "globex", 10, None),
    ]);
    assert_eq!(listed["groups"], groups);

    admin.fixture.clock.advance(Duration::from_millis(16_500));
    let expired = admin.get(LEASES).await.json();
    assert_eq!(expired, json!({"groups": [], "items": [], "complete": true}));
}

#[tokio::test]
async fn the_list_is_narrowed_by_policy_and_tenant_and_bounded() {
    let admin = start().await;
    for (user, tenant) in [("alice", "acme"), ("bob", "globex"), ("carol", "acme")] {
        reserve(&admin, user, tenant, 1).await;
    }
    let cases = [
        ("?tenant=acme", json!(["alice", "carol"]), true),
        ("?policy=tokens&tenant=globex", json!(["bob"]), true),
        ("?policy=none", json!([]), true),
        ("?limit=2", json!(["alice", "bob"]), false),
    ];
    for (query, users, is_complete) in cases {
        let listed = admin.get(&format!("{LEASES}{query}")).await.json();
        assert_eq!(
            (all(&listed["items"], "user"), &listed["complete"]),
            (users, &json!(is_complete))
        );
    }
    let refused = admin.get(&format!("{LEASES}?policy=&limit=1001&tenant=&sort=age")).await;
    assert_eq!(refused.status, 422);
    assert_eq!(faulty_fields(&refused), ["policy", "tenant", "limit", "sort"]);
}

/// Whoever knows the id of a lease can settle it, so a token that may only read gets none.
#[tokio::test]
async fn ids_are_listed_only_for_a_token_that_may_release() {
    let admin = start().await;
    let id = reserve(&admin, "alice", "acme", 1).await;
    let listed = admin.send_as(READ, "GET", LEASES, &[], "").await.json();
    assert_eq!(all(&listed["items"], "id"), json!([null]));
    let refused = admin.send_as(READ, "DELETE", &format!("{LEASES}/{id}"), &[], "").await;
    assert_eq!(refused.status, 403);
    assert_eq!(all(&admin.get(LEASES).await.json()["items"], "id"), json!([id]));
}

#[tokio::test]
async fn a_lease_is_released_by_hand_once() {
    let admin = start().await;
    let (first, second) =
        (reserve(&admin, "alice", "acme", 40).await, reserve(&admin, "alice", "acme", 30).await);
    let released = release(&admin, &first).await;
    assert_eq!(released.status, 200, "{}", released.body);
    let body = released.json();
    assert_eq!(
        (&body["state"], all(&body["limits"], "count")),
        (&json!("released"), json!([1, 30]))
    );
    assert_eq!(all(&admin.get(LEASES).await.json()["items"], "id"), json!([second]));
    let again = release(&admin, &first).await;
    assert_eq!((again.status, &again.json()["repeated"]), (200, &json!(true)));
    let settle = json!({"seq": 1, "usage": {"tokens": 5}}).to_string();
    let settle = async |id: &str| {
        admin.fixture.post(&format!("/rate-limit/leases/{id}/settle"), &settle).await.status
    };
    assert_eq!(settle(&first).await, 409, "its holder can settle it no longer");
    assert_eq!(settle(&second).await, 200);
    assert_eq!(release(&admin, &second).await.status, 409, "it was settled");
    for unknown in ["m00000000", "no%20id", "%FF"] {
        assert_eq!(release(&admin, unknown).await.status, 404, "{unknown}");
    }
    let metrics = admin.fixture.client().await.send("GET", "/metrics", &[], "").await.body;
    assert!(metrics.contains("tollgate_lease_events_total{event=\"released\"} 1"), "{metrics}");
}
