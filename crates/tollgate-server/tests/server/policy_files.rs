//! The catalog as a policy file, over `/admin/export` and `/admin/import`.

use serde_json::{Value, json};

use crate::support::{Admin, HttpAnswer};

/// A catalog with values that are hard to write: quotes, characters similar to a line break, `null` for a limit,
/// several values.
fn catalog() -> Value {
    json!({
        "tiers": [{"id": "free", "priority": "batch"}],
        "modelTiers": [{"id": "large"}],
        "models": [{"id": "no", "name": "a \"model\": #1", "modelTier": "large"}],
        "tenants": [{"id": "a/b ü", "tier": "free"}],
        "users": [{"id": "1", "tenantId": "a/b ü"}],
        "policies": [
            {"id": "p", "per": ["user", "region"], "match": {"region": ["eu", "us"]}, "limit": 5,
                "windowSeconds": 0.5, "shares": {"batch": 0.5}},
            {"id": "exempt", "scope": "TENANT", "match": {"tier": "free"}, "limit": null}
        ]
    })
}

async fn export(admin: &Admin, media_type: &str) -> HttpAnswer {
    let exported = admin.send("GET", "/admin/export", &[("accept", media_type)], "").await;
    assert_eq!((exported.status, exported.header("content-type")), (200, Some(media_type)));
    exported
}

async fn import(admin: &Admin, media_type: &str, file: &str) -> HttpAnswer {
    admin.send("POST", "/admin/import", &[("content-type", media_type)], file).await
}

/// An export of one catalog is imported into another, which is then the same.
#[tokio::test]
async fn what_is_exported_can_be_imported_in_the_same_format() {
    let from = Admin::start().await;
    let imported = from.ask("POST", "/admin/import", &catalog()).await;
    assert_eq!(imported.json()["created"], 7, "{}", imported.body);
    for media_type in ["application/yaml", "application/json"] {
        let file = export(&from, media_type).await.body;
        let to = Admin::start().await;
        let imported = import(&to, media_type, &file).await;
        // The tier `default` is in every catalog.
        let counts = json!({"created": 7, "updated": 0, "unchanged": 1});
        assert_eq!((imported.status, imported.json()), (200, counts), "{file}");
        assert_eq!(export(&to, media_type).await.body, file);
    }
}

/// Every format of a policy file can be imported.
#[tokio::test]
async fn a_file_in_each_format_is_imported_and_judged() {
    let yaml = "# A comment\npolicies:\n  - {id: p, scope: USER, limit: 5, windowSeconds: 60}\n";
    let toml = "[[policies]]\nid = \"p\"\nscope = \"USER\"\nlimit = 5\nwindowSeconds = 60\n";
    let json = r#"{"policies":[{"id":"p","scope":"USER","limit":5,"windowSeconds":60}]}"#;
    let files = [
        ("application/yaml", yaml),
        ("Application/YAML; charset=utf-8", yaml),
        ("application/toml", toml),
        ("application/json", json),
    ];
    let mut exported = Vec::new();
    for (media_type, file) in files {
        let admin = Admin::start().await;
        let headers = [("content-type", media_type)];
        let judged = admin.send("POST", "/admin/policies/validate", &headers, file).await;
        assert_eq!(judged.json(), json!({"valid": true, "policies": 1}), "{media_type}");
        let imported = import(&admin, media_type, file).await;
        assert_eq!(imported.json()["created"], 1, "{media_type}: {}", imported.body);
        exported.push(export(&admin, "application/json").await.json());
    }
    assert!(exported.iter().all(|one| *one == exported[0]), "{exported:#?}");
}

/// A problem names the position in the file, and nothing is changed.
#[tokio::test]
async fn problems_of_a_file_have_their_lines() {
    let yaml = "tiers:\n  - {id: free}\npolicies:\n  - id: p\n    scope: USER\n    limit: -3\n";
    let toml = "[[policies]]\nid = \"p\"\nscope = \"USER\"\nlimit = 5\nwindowSeconds = 0\n";
    let cases = [
        ("application/yaml", yaml, 422, json!(["policies[0].limit", 6, 12])),
        ("application/yaml", "policies: [\n  {id: p\n", 400, json!(["body", 2, 3])),
        ("application/toml", toml, 422, json!(["policies[0].windowSeconds", 5, 17])),
        ("application/toml", "a = 1\nb = \n", 400, json!(["body", 2, 5])),
        ("application/json", "{\n \"tiers\": 5}", 422, json!(["tiers", 2, 11])),
        ("application/json", "{\n \"tiers\" 5}", 400, json!(["body", 2, 10])),
        ("application/yaml", "# nothing\n", 400, json!(["body", null, null])),
        ("application/xml", "<policies/>", 415, json!(["Content-Type", null, null])),
    ];
    let admin = Admin::start().await;
    for (media_type, file, status, expected) in cases {
        let refused = import(&admin, media_type, file).await;
        assert_eq!(refused.status, status, "{file}: {}", refused.body);
        let errors = refused.json()["errors"].clone();
        let is_it =
            |error: &Value| json!([error["field"], error["line"], error["column"]]) == expected;
        assert!(errors.as_array().unwrap().iter().any(is_it), "{file}: {errors:#}");
    }
    assert_eq!(admin.get("/admin/policies").await.json()["items"], json!([]));
    assert_eq!(admin.get("/admin/tiers").await.json()["items"].as_array().unwrap().len(), 1);
}
