//! If the store keeps no leases, every admin call refuses a policy that needs them.

use serde_json::{Value, json};
use tollgate_core::{Charge, Limit, Subject};
use tollgate_store::{Charged, MemoryStore, Store, StoreError};

use crate::support::{Admin, faulty_fields};

/// A store that keeps no leases.
#[derive(Default)]
struct NoLeases(MemoryStore);

impl Store for NoLeases {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        Store::charge(&self.0, charges, request_id).await
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        Store::peek(&self.0, charges).await
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        Store::reset(&self.0, limit, subject).await
    }
}

fn policies() -> [(Value, &'static str); 2] {
    [
        (json!({"id": "p", "scope": "USER", "unit": "concurrency", "limit": 2}), "unit"),
        (
            json!({"id": "p", "scope": "USER", "limit": 2, "windowSeconds": 60, "onExpire": "refund"}),
            "onExpire",
        ),
    ]
}

#[tokio::test]
async fn no_call_lets_in_a_policy_that_needs_leases() {
    let admin = Admin::start_over(NoLeases::default()).await;
    let valid = json!({"id": "p", "scope": "USER", "limit": 2, "windowSeconds": 60});
    admin.make("/admin/policies", valid.clone()).await;
    for (policy, field) in policies() {
        let mut other = policy.clone();
        other["id"] = json!("q");
        let file = json!({"policies": [valid, other]});
        let in_file = format!("policies[1].{field}");
        let patch = json!({field: policy[field]});
        for (method, path, body, field) in [
            ("POST", "/admin/policies", &other, field),
            ("PUT", "/admin/policies/p", &policy, field),
            ("PATCH", "/admin/policies/p", &patch, field),
            ("POST", "/admin/policies/validate", &policy, field),
            ("POST", "/admin/policies/validate", &file, &in_file),
            ("POST", "/admin/import", &file, &in_file),
        ] {
            let answer = admin.ask(method, path, body).await;
            assert_eq!(answer.status, 422, "{method} {path} {body}: {}", answer.body);
            assert_eq!(faulty_fields(&answer), [field], "{method} {path} {body}");
            assert!(answer.body.contains("the store of this server keeps none"), "{}", answer.body);
        }
    }
    let left = admin.get("/admin/policies/q").await;
    assert_eq!(left.status, 404);
}

/// If the store keeps leases, such policies are accepted.
#[tokio::test]
async fn a_store_with_leases_takes_them() {
    let admin = Admin::start().await;
    for (policy, _) in policies() {
        let answer = admin.ask("POST", "/admin/policies/validate", &policy).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}
