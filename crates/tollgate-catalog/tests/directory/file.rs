//! A policy file as a directory: it can be read but not changed.

use std::sync::Arc;

use tollgate_catalog::api_key::KeyHasher;
use tollgate_catalog::directory::{Filter, Id, Kind, PageRequest, PriorityClass};
use tollgate_catalog::document::{self, Format};
use tollgate_catalog::validate::{self, Scope};
use tollgate_catalog::{
    Asked, CatalogEvent, Directory as _, DirectoryError, FileCatalog, Resolver, SnapshotDirectory,
    Standing, WatchOptions,
};
use tollgate_core::ManualClock;

use crate::common::{actor, body, json};

const FILE: &str = "
tiers:
  - {id: gold, priority: premium}
  - {id: free, name: Free of charge, priority: batch}
modelTiers:
  - id: large
models:
  - {id: gpt-4, modelTier: large}
tenants:
  - {id: acme, tier: free}
users:
  - {id: bob, tenantId: acme}
  - {id: alice, tenantId: acme, tier: gold}
policies:
  - {id: z, scope: USER, match: {tier: gold}, limit: null}
  - {id: a, scope: USER, limit: 5, windowSeconds: 60}
";

fn catalog() -> (tempfile::TempDir, FileCatalog) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policies.yaml");
    std::fs::write(&path, FILE).unwrap();
    let observer = |_: &CatalogEvent<'_>| {};
    let catalog = FileCatalog::open(&path, WatchOptions::default(), observer).unwrap();
    (folder, catalog)
}

#[tokio::test]
async fn a_file_is_listed_read_and_exported() {
    let (_folder, catalog) = catalog();
    let catalog = SnapshotDirectory::from(catalog.reader());
    let page = PageRequest { cursor: None, items: 1 };
    let first = catalog.list(Kind::User, &Filter::default(), &page).await.unwrap();
    assert_eq!(
        json(&first.items[0].record),
        r#"{"id":"alice","name":"alice","tenantId":"acme","tier":"gold"}"#
    );
    let page = PageRequest { cursor: first.next_cursor, items: 1 };
    let second = catalog.list(Kind::User, &Filter::default(), &page).await.unwrap();
    assert_eq!((second.items[0].record.id(), second.next_cursor), ("bob", None));
    let gold = Filter { tier: Some(Id::new("gold").unwrap()), ..Filter::default() };
    let gold = catalog.list(Kind::User, &gold, &PageRequest::default()).await.unwrap();
    assert_eq!(gold.items.len(), 1);
    let charge = Filter { search: Some("OF CHARGE".to_owned()), ..Filter::default() };
    let charge = catalog.list(Kind::Tier, &charge, &PageRequest::default()).await.unwrap();
    assert_eq!(charge.items[0].record.id(), "free");
    let free = catalog.get(Kind::Tier, "free").await.unwrap();
    assert_eq!(json(&free.record), r#"{"id":"free","name":"Free of charge","priority":"batch"}"#);
    let missing = catalog.get(Kind::Policy, "b").await;
    assert!(matches!(missing, Err(DirectoryError::NotFound { .. })), "{missing:?}");

    let yaml = document::to_yaml(&catalog.export().await.unwrap());
    let again = document::read(&yaml, Format::Yaml).unwrap();
    let again = validate::records("again", again.as_ref(), Scope::Document).unwrap();
    let written = document::read(FILE, Format::Yaml).unwrap();
    let mut written = validate::records("file", written.as_ref(), Scope::Document).unwrap();
    // Only policies have an order.
    written.tiers.sort_by(|one, other| one.id.cmp(&other.id));
    written.users.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(again, written, "{yaml}");
}

#[tokio::test]
async fn a_file_is_not_changed() {
    let (_folder, catalog) = catalog();
    let catalog = SnapshotDirectory::from(catalog.reader());
    let (actor, body) = (actor(), body("{}"));
    let results = [
        catalog.create(&actor, Kind::Tenant, &body).await.map(drop),
        catalog.replace(&actor, Kind::Tenant, "acme", None, &body).await.map(drop),
        catalog.patch(&actor, Kind::Tenant, "acme", None, &body).await.map(drop),
        catalog.delete(&actor, Kind::Tenant, "acme", None).await,
        catalog.import(&actor, &body).await.map(drop),
    ];
    for result in results {
        assert!(matches!(result, Err(DirectoryError::ReadOnly)), "{result:?}");
    }
    assert!(!catalog.is_writable());
}

#[tokio::test]
async fn a_file_resolves_users_tenants_and_models() {
    let (_folder, catalog) = catalog();
    let snapshot = catalog.reader().snapshot();
    let clock = Arc::new(ManualClock::default());
    let resolver = Resolver::of_snapshot(KeyHasher::new(b"key"), clock);
    let asked = Asked { user: Some("alice"), model: Some("gpt-4"), ..Asked::default() };
    let alice = resolver.resolve(&snapshot, &asked).await;
    assert_eq!((alice.tier.as_str(), alice.priority), ("gold", PriorityClass::Premium));
    // It has the tier of its tenant, but meets no limit of a tenant that the check does not name.
    assert_eq!((alice.tenant, alice.user_tenant.unwrap().as_str()), (None, "acme"));
    assert_eq!(alice.model_tier.unwrap().as_str(), "large");
    let asked = Asked { user: Some("bob"), api_key: Some("tg_live_x"), ..Asked::default() };
    let bob = resolver.resolve(&snapshot, &asked).await;
    assert_eq!(bob.tier.as_str(), "free");
    assert_eq!(bob.api_key.unwrap().standing, Standing::Unknown);
}

/// Every problem with its position, as for policies. References must lead to a record in the file.
#[test]
fn lists_of_a_file_are_judged_like_its_policies() {
    let text = "tiers:
  - {id: gold, priority: preium}
  - {id: gold}
tenants:
  - {id: acme, tier: goold}
  - {id: 5}
  - free
users:
  - {id: u, tenantId: acm, tier: default, email: x}
models:
  - {id: m}
";
    let document = document::read(text, Format::Yaml).unwrap();
    let problems = validate::records("p.yaml", document.as_ref(), Scope::Document).unwrap_err();
    let shown = problems.to_string();
    let starts = [
        "p.yaml:2:26: tiers[0].priority: \"preium\" is not a priority class (did you mean `premium`?); accepted: `internal`",
        "p.yaml:3:10: tiers[1].id: \"gold\" is the id of tiers[0], on line 2; accepted: a different id for each tier",
        "p.yaml:5:22: tenants[0].tier: there is no tier \"goold\" (did you mean `gold`?); accepted: the id of one of `tiers`",
        "p.yaml:6:10: tenants[1].id: 5 is a number; accepted: 1 to 256 bytes",
        "p.yaml:7:5: tenants[2]: \"free\" is a text; accepted: a map with the fields of a tenant",
        "p.yaml:9:23: users[0].tenantId: there is no tenant \"acm\" (did you mean `acme`?); accepted: the id of one of `tenants`",
        "p.yaml:9:43: users[0].email: is not a field; accepted: `id`, `tenantId`, `name`, `tier`",
        "p.yaml:11:5: models[0].modelTier: is missing; accepted: 1 to 256 bytes",
    ];
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), starts.len(), "{shown}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}\n{start}");
    }
}
