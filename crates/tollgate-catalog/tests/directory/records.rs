//! Records are created, read, changed, deleted and listed, and the audit log lists every change.

use std::collections::BTreeSet;

use tollgate_catalog::Directory as _;
use tollgate_catalog::DirectoryError;
use tollgate_catalog::directory::{
    Action, ChangeFilter, Filter, Id, Imported, Kind, PageRequest, Record, Stored, Version,
    user_address,
};
use tollgate_catalog::document::{self, Format};
use tollgate_core::Policy;

use crate::common::{Database, actor, body, json, next, problems};

/// One record of each kind, each after those that it refers to, without and with a change.
const ONE_OF_EACH: [(Kind, &str, &str); 7] = [
    (
        Kind::Tier,
        r#"{"id":"gold","name":"Gold","priority":"premium"}"#,
        r#"{"id":"gold","name":"Gold!","priority":"internal"}"#,
    ),
    (Kind::ModelTier, r#"{"id":"large","name":"large"}"#, r#"{"id":"large","name":"Large"}"#),
    (
        Kind::Model,
        r#"{"id":"gpt-4","name":"gpt-4","modelTier":"large"}"#,
        r#"{"id":"gpt-4","name":"GPT-4","modelTier":"large"}"#,
    ),
    (
        Kind::Tenant,
        r#"{"id":"acme","name":"Acme","tier":"gold"}"#,
        r#"{"id":"acme","name":"Acme"}"#,
    ),
    (
        Kind::User,
        r#"{"id":"alice","name":"Alice","tenantId":"acme"}"#,
        r#"{"id":"alice","name":"Alice","tenantId":"acme","tier":"gold"}"#,
    ),
    (
        Kind::ApiKey,
        r#"{"id":"key","name":"CI","tenantId":"acme","userId":"alice","expiresAt":"2030-01-02T03:04:05.678Z","revoked":false"#,
        r#"{"id":"key","name":"CI","tenantId":"acme","tier":"gold","revoked":true"#,
    ),
    (
        Kind::Policy,
        r#"{"id":"p","scope":"USER","match":{"service":["a","b"],"tier":"gold"},"limit":10,"shares":{"batch":0.5,"internal":1},"windowSeconds":0.5}"#,
        r#"{"id":"p","per":["apiKey","model"],"unit":"tokens","limit":null,"windowSeconds":60,"algorithm":"sliding_window_counter","mode":"shadow","onStoreError":"deny","enabled":false}"#,
    ),
];

/// The body of a record in [`ONE_OF_EACH`], closed.
fn closed(kind: Kind, shown: &str) -> String {
    if kind == Kind::ApiKey { format!("{shown}}}") } else { shown.to_owned() }
}

/// Asserts that `record` is shown as `shown`; an API key also has a prefix that is not known in advance.
#[track_caller]
fn assert_shown(record: &Record, shown: &str) {
    let actual = json(record);
    if let Record::ApiKey(key) = record {
        assert_eq!(actual, format!("{shown},\"prefix\":\"{}\"}}", key.prefix));
    } else {
        assert_eq!(actual, shown);
    }
}

pub(crate) async fn a_new_catalog_holds_the_default_tier_and_the_built_in_policy(
    database: Database,
) {
    let node = database.open().await;
    assert_eq!(
        json(&node.get(Kind::Tier, "default").await.record),
        r#"{"id":"default","name":"default","priority":"standard"}"#
    );
    let page = node.catalog.list(Kind::Policy, &Filter::default(), &PageRequest::default()).await;
    let policies = page.unwrap().items;
    assert!(
        matches!(&policies[..], [Stored { record: Record::Policy(policy), .. }] if policy.is_built_in())
    );
    let in_force = || node.catalog.reader().snapshot().policies().policies().to_vec();
    assert_eq!(in_force(), [Policy::default_policy()]);
    assert_eq!(node.version(), 1);
    // When it is opened again, it is unchanged.
    assert_eq!(database.open().await.version(), 1);

    // P11: another policy does not remove it; deleting it does, and it does not come back.
    let other = r#"{"id":"gpu-pool","scope":"MODEL","limit":5,"windowSeconds":60}"#;
    node.create(Kind::Policy, other).await;
    assert_eq!(in_force().len(), 2);
    // A policy with its id takes its place, once.
    let own = r#"{"id":"default","scope":"USER","limit":7,"windowSeconds":60}"#;
    node.create(Kind::Policy, own).await;
    assert_eq!(in_force().len(), 2);
    let again = node.try_create(Kind::Policy, own).await;
    assert!(matches!(again, Err(DirectoryError::Duplicate { .. })), "{again:?}");
    node.delete(Kind::Policy, "default").await;
    node.delete(Kind::Policy, "gpu-pool").await;
    assert_eq!(in_force(), []);
    assert_eq!(database.open().await.catalog.reader().snapshot().policies().policies(), []);
}

pub(crate) async fn every_kind_is_made_read_changed_and_deleted(database: Database) {
    let node = database.open().await;
    let mut version = Version(1);
    for (kind, first, _) in ONE_OF_EACH {
        let created = node.create(kind, &closed(kind, first)).await;
        version = next(version);
        assert_eq!(created.stored.version, version);
        assert_eq!(created.secret.is_some(), kind == Kind::ApiKey);
        assert_shown(&created.stored.record, first);
        assert_eq!(node.get(kind, created.stored.record.id()).await, created.stored);
    }
    for (kind, first, second) in ONE_OF_EACH {
        let before = id_in(kind, first);
        let stored = node
            .catalog
            .replace(&actor(), kind, &before, None, &body(&closed(kind, second)))
            .await
            .unwrap();
        version = next(version);
        assert_eq!(stored.version, version);
        assert_shown(&stored.record, second);
        assert_eq!(node.get(kind, &before).await, stored);
        // Sending back what was read changes nothing.
        let again = stored.record.to_node();
        let again = node.catalog.replace(&actor(), kind, &before, Some(version), &again).await;
        assert_eq!(again.unwrap(), stored);
    }
    for (kind, first, _) in ONE_OF_EACH.into_iter().rev() {
        let id = id_in(kind, first);
        node.delete(kind, &id).await;
        let missing = node.catalog.get(kind, &id).await;
        assert!(matches!(missing, Err(DirectoryError::NotFound { .. })), "{missing:?}");
        let missing = node.catalog.delete(&actor(), kind, &id, None).await;
        assert!(matches!(missing, Err(DirectoryError::NotFound { .. })), "{missing:?}");
    }
}

/// The id in a body of [`ONE_OF_EACH`].
fn id_in(kind: Kind, shown: &str) -> String {
    let document::Value::Map(entries) = body(&closed(kind, shown)).value else { panic!("no map") };
    let id = entries.into_iter().find(|entry| entry.key == "id").unwrap();
    let document::Value::String(id) = id.node.value else { panic!("no text") };
    id
}

pub(crate) async fn an_id_left_out_is_made_and_any_text_is_an_id(database: Database) {
    let node = database.open().await;
    let made: BTreeSet<_> = [
        node.create(Kind::Tenant, "{}").await.stored.record.id().to_owned(),
        node.create(Kind::Tenant, r#"{"name":"x"}"#).await.stored.record.id().to_owned(),
    ]
    .into();
    assert_eq!(made.len(), 2);
    let scoped = r#"{"scope":"USER","limit":1,"windowSeconds":1}"#;
    assert!(!node.create(Kind::Policy, scoped).await.stored.record.id().is_empty());

    let odd = ["a/b", "../x", "it's", "\"q\"", "a%20b", "用户 𝄞", "{x}:|", "' OR '1'='1", "?$1"];
    for id in odd {
        let quoted = id.replace('"', "\\\"");
        node.create(Kind::Tenant, &format!(r#"{{"id":"{quoted}"}}"#)).await;
        let user = format!(r#"{{"id":"{quoted}","tenantId":"{quoted}"}}"#);
        node.create(Kind::User, &user).await;
        node.patch(Kind::User, id, r#"{"name":"n"}"#).await;
        assert_eq!(node.get(Kind::User, id).await.record.id(), id);
        let filter = Filter { tenant_id: Some(Id::new(id).unwrap()), ..Filter::default() };
        let page = node.catalog.list(Kind::User, &filter, &PageRequest::default()).await.unwrap();
        assert_eq!(page.items.len(), 1, "{id}");
    }
    // A value that is not a valid id belongs to no record, and cannot be given to one.
    for (id, json) in [("", r#"{"id":""}"#), ("a\u{0}", r#"{"id":"a\u0000"}"#)] {
        let missing = node.catalog.get(Kind::Tenant, id).await;
        assert!(matches!(missing, Err(DirectoryError::NotFound { .. })), "{missing:?}");
        assert_eq!(problems(node.try_create(Kind::Tenant, json).await).len(), 1);
    }
}

pub(crate) async fn every_faulty_field_is_told(database: Database) {
    let node = database.open().await;
    let cases: [(Kind, &str, &[&str]); 9] = [
        (
            Kind::Tier,
            r#"{"id":"t","name":5,"priority":"preium","color":"red"}"#,
            &[
                "name: 5 is a number",
                "priority: \"preium\" is not a priority class (did you mean `premium`?)",
                "color: is not a field",
            ],
        ),
        (Kind::Tenant, "[]", &[": is a list"]),
        (Kind::User, "{}", &["tenantId: is missing"]),
        (Kind::Model, r#"{"modelTier":null}"#, &["modelTier: is null"]),
        (
            Kind::User,
            r#"{"tenantId":"nobody","tier":"gold"}"#,
            &["tenantId: there is no tenant \"nobody\"", "tier: there is no tier \"gold\""],
        ),
        (
            Kind::User,
            r#"{"tenantId":"nobody","tier":"","age":5}"#,
            &[
                "tenantId: there is no tenant \"nobody\"",
                "tier: \"\" is empty",
                "age: is not a field",
            ],
        ),
        (
            Kind::ApiKey,
            r#"{"tenantId":"","expiresAt":"tomorrow","revoked":"no","prefix":"tg"}"#,
            &[
                "tenantId: \"\" is empty",
                "expiresAt: \"tomorrow\" is not an accepted time",
                "revoked: \"no\" is a text",
                "prefix: is not a field",
            ],
        ),
        (
            Kind::ApiKey,
            r#"{"tenantId":"a","expiresAt":"2030-01-01T00:00:00.0001Z"}"#,
            &[
                "expiresAt: \"2030-01-01T00:00:00.0001Z\" is not an accepted time",
                "tenantId: there is no tenant \"a\"",
            ],
        ),
        (
            Kind::Policy,
            r#"{"id":"p","scope":"USR","limit":-1}"#,
            &[
                "scope: \"USR\" is not a scope (did you mean `USER`?)",
                "limit: -1 is negative",
                "windowSeconds: is missing",
            ],
        ),
    ];
    for (kind, json, told) in cases {
        let mut actual = problems(node.try_create(kind, json).await);
        let mut told: Vec<_> = told.iter().map(|&text| text.to_owned()).collect();
        actual.sort();
        told.sort();
        assert_eq!(actual, told, "{json}");
    }
    assert_eq!(node.last_change().await, 1, "nothing was written");
}

pub(crate) async fn references_lead_somewhere(database: Database) {
    let node = database.open().await;
    node.create_all(&[
        (Kind::Tenant, r#"{"id":"a"}"#),
        (Kind::Tenant, r#"{"id":"b"}"#),
        (Kind::User, r#"{"id":"u","tenantId":"a"}"#),
    ])
    .await;
    let stranger = node.try_create(Kind::ApiKey, r#"{"tenantId":"b","userId":"u"}"#).await;
    assert_eq!(problems(stranger), ["userId: \"u\" is a user of another tenant"]);
    let refused =
        node.catalog.patch(&actor(), Kind::User, "u", None, &body(r#"{"tier":"x"}"#)).await;
    assert_eq!(problems(refused), ["tier: there is no tier \"x\""]);
    // A user cannot move to another tenant while keys refer to the user's current one.
    node.create(Kind::ApiKey, r#"{"id":"k","tenantId":"a","userId":"u"}"#).await;
    let moved =
        node.catalog.patch(&actor(), Kind::User, "u", None, &body(r#"{"tenantId":"b"}"#)).await;
    assert!(matches!(moved, Err(DirectoryError::InUse { .. })), "{moved:?}");
    node.delete(Kind::ApiKey, "k").await;
    node.patch(Kind::User, "u", r#"{"tenantId":"b"}"#).await;
}

pub(crate) async fn what_is_in_use_is_not_deleted(database: Database) {
    let node = database.open().await;
    for (kind, first, _) in ONE_OF_EACH {
        node.create(kind, &closed(kind, first)).await;
    }
    node.patch(Kind::User, "alice", r#"{"tier":"gold"}"#).await;
    // No record has this tier, but a policy matches it.
    node.create(Kind::Tier, r#"{"id":"silver"}"#).await;
    let for_silver = r#"{"id":"for-silver","scope":"USER","match":{"tier":["gold","silver"]},"limit":1,"windowSeconds":60}"#;
    node.create(Kind::Policy, for_silver).await;
    let over =
        r#"{"id":"over","scope":"USER","overrides":["for-silver"],"limit":1,"windowSeconds":1}"#;
    node.create(Kind::Policy, over).await;
    let before = node.last_change().await;
    let cases = [
        (Kind::Policy, "for-silver", Some((Kind::Policy, "over"))),
        (Kind::Tier, "gold", Some((Kind::Tenant, "acme"))),
        (Kind::Tier, "silver", Some((Kind::Policy, "for-silver"))),
        (Kind::Tier, "default", None),
        (Kind::ModelTier, "large", Some((Kind::Model, "gpt-4"))),
        (Kind::Tenant, "acme", Some((Kind::User, "alice"))),
        (Kind::User, "alice", Some((Kind::ApiKey, "key"))),
    ];
    for (kind, id, user) in cases {
        match node.catalog.delete(&actor(), kind, id, None).await {
            Err(DirectoryError::InUse { by, .. }) => {
                let by = by.as_ref().map(|(kind, id)| (*kind, id.as_str()));
                assert_eq!(by, user, "{kind} {id}");
            }
            other => panic!("{kind} {id}: {other:?}"),
        }
        node.get(kind, id).await;
    }
    assert_eq!(node.last_change().await, before);
}

pub(crate) async fn an_id_is_given_once(database: Database) {
    let node = database.open().await;
    let first = node.create(Kind::Tenant, r#"{"id":"a","name":"first"}"#).await.stored;
    let second = node.try_create(Kind::Tenant, r#"{"id":"a","name":"second"}"#).await;
    assert!(matches!(second, Err(DirectoryError::Duplicate { .. })), "{second:?}");
    assert_eq!(node.get(Kind::Tenant, "a").await, first);
    // Ids are separate for each kind.
    node.create(Kind::User, r#"{"id":"a","tenantId":"a"}"#).await;
}

/// P9: a user is a tenant and an id. Its id alone finds it while no other tenant has such a user.
pub(crate) async fn users_of_two_tenants_may_have_one_id(database: Database) {
    let node = database.open().await;
    node.create_all(&[
        (Kind::Tenant, r#"{"id":"t1"}"#),
        (Kind::Tenant, r#"{"id":"t2"}"#),
        (Kind::Tenant, r#"{"id":"t3"}"#),
        (Kind::User, r#"{"id":"ann","tenantId":"t1","name":"first"}"#),
        (Kind::User, r#"{"id":"bob","tenantId":"t1"}"#),
    ])
    .await;
    assert_eq!(
        json(&node.get(Kind::User, "ann").await.record),
        json(&node.get(Kind::User, &user_address("t1", "ann")).await.record)
    );
    node.create(Kind::User, r#"{"id":"ann","tenantId":"t2","name":"second"}"#).await;
    let again = node.try_create(Kind::User, r#"{"id":"ann","tenantId":"t2"}"#).await;
    assert!(matches!(again, Err(DirectoryError::Duplicate { .. })), "{again:?}");
    let told = "several tenants have a user \"ann\"; accepted: `tenantId` with one of them, such as \"t1\" or \"t2\"";
    let (catalog, actor) = (&node.catalog, actor());
    let ambiguous = [
        catalog.get(Kind::User, "ann").await.map(drop),
        catalog.patch(&actor, Kind::User, "ann", None, &body("{}")).await.map(drop),
        catalog
            .replace(&actor, Kind::User, "ann", None, &body(r#"{"tenantId":"t1"}"#))
            .await
            .map(drop),
        catalog.delete(&actor, Kind::User, "ann", None).await,
    ];
    for result in ambiguous {
        assert_eq!(result.unwrap_err().to_string(), told);
    }
    let nobody = catalog.get(Kind::User, &user_address("t3", "ann")).await;
    assert!(matches!(nobody, Err(DirectoryError::NotFound { .. })), "{nobody:?}");

    // A key belongs to the user of its tenant, and holds that one only.
    node.create(Kind::ApiKey, r#"{"id":"k","tenantId":"t2","userId":"ann"}"#).await;
    let held = catalog.delete(&actor, Kind::User, &user_address("t2", "ann"), None).await;
    assert!(matches!(held, Err(DirectoryError::InUse { .. })), "{held:?}");
    let to = |tenant| body(&format!(r#"{{"tenantId":"{tenant}"}}"#));
    let second = user_address("t2", "ann");
    let moved =
        catalog.patch(&actor, Kind::User, &user_address("t1", "ann"), None, &to("t2")).await;
    assert!(matches!(moved, Err(DirectoryError::Duplicate { .. })), "{moved:?}");
    let moved = catalog.patch(&actor, Kind::User, &second, None, &to("t3")).await;
    assert!(matches!(moved, Err(DirectoryError::InUse { .. })), "{moved:?}");
    node.delete(Kind::ApiKey, "k").await;
    node.patch(Kind::User, &second, r#"{"tenantId":"t3"}"#).await;
    node.create(Kind::User, r#"{"id":"ann","tenantId":"t2"}"#).await;

    // Pages of one give each user once, in order.
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = PageRequest { cursor, items: 1 };
        let page = catalog.list(Kind::User, &Filter::default(), &page).await.unwrap();
        seen.extend(page.items.iter().map(|stored| json(&stored.record)));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(
        seen,
        [
            r#"{"id":"ann","name":"first","tenantId":"t1"}"#,
            r#"{"id":"ann","name":"ann","tenantId":"t2"}"#,
            r#"{"id":"ann","name":"second","tenantId":"t3"}"#,
            r#"{"id":"bob","name":"bob","tenantId":"t1"}"#,
        ]
    );
    // What is exported is imported again without a change.
    let document = catalog.export().await.unwrap();
    let imported = catalog.import(&actor, &document).await.unwrap();
    assert_eq!((imported.created, imported.updated), (0, 0));
    node.delete(Kind::User, &user_address("t1", "ann")).await;
    let imported = catalog.import(&actor, &document).await.unwrap();
    assert_eq!((imported.created, imported.updated), (1, 0));
}

pub(crate) async fn a_stale_version_changes_nothing(database: Database) {
    let node = database.open().await;
    let first = node.create(Kind::Tenant, r#"{"id":"a","name":"1"}"#).await.stored.version;
    let second = node.patch(Kind::Tenant, "a", r#"{"name":"2"}"#).await.version;
    let (catalog, stale) = (&node.catalog, Some(first));
    let results = [
        catalog
            .replace(&actor(), Kind::Tenant, "a", stale, &body(r#"{"name":"3"}"#))
            .await
            .map(drop),
        catalog.patch(&actor(), Kind::Tenant, "a", stale, &body(r#"{"name":"3"}"#)).await.map(drop),
        catalog.delete(&actor(), Kind::Tenant, "a", stale).await,
    ];
    for result in results {
        let Err(DirectoryError::Stale { current, .. }) = result else { panic!("{result:?}") };
        assert_eq!(current, second);
    }
    assert_eq!(node.get(Kind::Tenant, "a").await.version, second);
    // A record that was deleted and created again with the same id is a different one.
    catalog.delete(&actor(), Kind::Tenant, "a", Some(second)).await.unwrap();
    node.create(Kind::Tenant, r#"{"id":"a"}"#).await;
    let result = catalog.delete(&actor(), Kind::Tenant, "a", Some(second)).await;
    assert!(matches!(result, Err(DirectoryError::Stale { .. })), "{result:?}");
}

pub(crate) async fn a_patch_sets_what_it_has_and_null_is_not_left_out(database: Database) {
    let node = database.open().await;
    let policy = r#"{"id":"p","scope":"USER","match":{"tier":"gold"},"limit":10,"windowSeconds":60,"mode":"shadow"}"#;
    node.create(Kind::Policy, policy).await;
    let steps = [
        (
            r#"{"windowSeconds":30}"#,
            r#"{"id":"p","scope":"USER","match":{"tier":"gold"},"limit":10,"windowSeconds":30,"mode":"shadow"}"#,
        ),
        (
            r#"{"limit":null}"#,
            r#"{"id":"p","scope":"USER","match":{"tier":"gold"},"limit":null,"windowSeconds":30,"mode":"shadow"}"#,
        ),
        (
            r#"{"mode":null,"match":null,"limit":0}"#,
            r#"{"id":"p","scope":"USER","limit":0,"windowSeconds":30}"#,
        ),
        (
            r#"{"per":["apiKey","region"]}"#,
            r#"{"id":"p","per":["apiKey","region"],"limit":0,"windowSeconds":30}"#,
        ),
        (r#"{"scope":"IP","id":"p"}"#, r#"{"id":"p","scope":"IP","limit":0,"windowSeconds":30}"#),
        (r#"{"windowSeconds":null}"#, r#"{"id":"p","scope":"IP","limit":0}"#),
        (
            r#"{"limit":null,"exempt":"all","ignoreCase":true,"match":{"model":"gpt-4*","tenant":{"absent":true}}}"#,
            r#"{"id":"p","scope":"IP","match":{"model":"gpt-4*","tenant":{"absent":true}},"ignoreCase":true,"limit":null,"exempt":"all"}"#,
        ),
        (
            r#"{"exempt":null,"ignoreCase":null,"match":{"ip":"10.0.0.0/8"},"limit":0}"#,
            r#"{"id":"p","scope":"IP","match":{"ip":"10.0.0.0/8"},"limit":0}"#,
        ),
    ];
    for (patch, after) in steps {
        assert_eq!(json(&node.patch(Kind::Policy, "p", patch).await.record), after, "{patch}");
    }
    let refused = [
        (r#"{"id":"q"}"#, "id: is not the id of the record to change"),
        (r#"{"limit":5,"windowSeconds":null}"#, "windowSeconds: is missing"),
        (r#"{"overrides":["q"]}"#, "overrides[0]: there is no policy \"q\""),
        (
            r#"{"overrides":["p"]}"#,
            "overrides: policies override one another in a circle: \"p\" → \"p\"",
        ),
        (r#"{"colour":null}"#, "colour: is not a field"),
        (r#"{"limit":1,"limit":2,"windowSeconds":1}"#, "limit: is given twice, first on line 1"),
        ("5", ": 5 is a number"),
    ];
    for (patch, told) in refused {
        let result = node.catalog.patch(&actor(), Kind::Policy, "p", None, &body(patch)).await;
        assert_eq!(problems(result), [told], "{patch}");
    }
    node.create(Kind::Tenant, r#"{"id":"a","name":"A","tier":"default"}"#).await;
    let patched = node.patch(Kind::Tenant, "a", r#"{"tier":null,"name":null}"#).await;
    assert_eq!(json(&patched.record), r#"{"id":"a","name":"a"}"#);
    let key = node.create(Kind::ApiKey, r#"{"id":"k","tenantId":"a"}"#).await.stored;
    let result =
        node.catalog.patch(&actor(), Kind::ApiKey, "k", None, &body(r#"{"prefix":"x"}"#)).await;
    assert_eq!(problems(result), ["prefix: belongs to the key's secret and cannot be changed"]);
    assert_eq!(node.get(Kind::ApiKey, "k").await, key);
}

pub(crate) async fn pages_give_each_record_once_and_filters_choose(database: Database) {
    let node = database.open().await;
    node.create_all(&[(Kind::Tenant, r#"{"id":"a"}"#), (Kind::Tenant, r#"{"id":"b"}"#)]).await;
    for number in 0..25 {
        let (tenant, tier) = (["a", "b"][number % 2], ["", r#","tier":"default""#][number % 5 / 4]);
        let user = format!(r#"{{"id":"u{number:02}","tenantId":"{tenant}"{tier}}}"#);
        node.create(Kind::User, &user).await;
    }
    let ids = async |filter: &Filter, items| {
        let (mut ids, mut page) = (Vec::new(), PageRequest { cursor: None, items });
        loop {
            let found = node.catalog.list(Kind::User, filter, &page).await.unwrap();
            assert!(found.items.len() <= items);
            ids.extend(found.items.iter().map(|stored| stored.record.id().to_owned()));
            page.cursor = found.next_cursor;
            if page.cursor.is_none() {
                return ids;
            }
        }
    };
    let all: Vec<_> = (0..25).map(|number| format!("u{number:02}")).collect();
    for items in [1, 5, 24, 25, 26] {
        assert_eq!(ids(&Filter::default(), items).await, all, "{items} a page");
    }
    let id = |id| Some(Id::new(id).unwrap());
    let of_a = Filter { tenant_id: id("a"), ..Filter::default() };
    assert_eq!(ids(&of_a, 4).await.len(), 13);
    let of_a_default = Filter { tier: id("default"), ..of_a.clone() };
    assert_eq!(ids(&of_a_default, 4).await, ["u04", "u14", "u24"]);
    assert_eq!(ids(&Filter { model_tier: id("x"), ..Filter::default() }, 4).await, [""; 0]);
    assert_eq!(ids(&Filter { tenant_id: id("zz"), ..Filter::default() }, 4).await, [""; 0]);
    let search = |text: &str| Filter { search: Some(text.to_owned()), ..Filter::default() };
    assert_eq!(ids(&search("U1"), 4).await, all[10..20]);
    assert_eq!(ids(&Filter { tenant_id: id("b"), ..search("2") }, 4).await, ["u21", "u23"]);
    // Wildcards of a pattern have no special meaning here.
    for (user, name) in [("x1", "50% off"), ("x2", r"a_b\\c"), ("x3", "Zoë")] {
        let user = format!(r#"{{"id":"{user}","tenantId":"a","name":"{name}"}}"#);
        node.create(Kind::User, &user).await;
    }
    for (text, found) in [("% O", "x1"), ("_B", "x2"), (r"b\c", "x2"), ("zoë", "x3")] {
        assert_eq!(ids(&search(text), 4).await, [found], "{text}");
    }
    assert_eq!(ids(&search("u_1"), 4).await, [""; 0]);
    node.create(Kind::Policy, r#"{"id":"Per-User","scope":"USER","limit":1,"windowSeconds":1}"#)
        .await;
    let page = PageRequest::default();
    let policies = node.catalog.list(Kind::Policy, &search("user"), &page).await.unwrap();
    assert_eq!(policies.items.len(), 1);
}

pub(crate) async fn every_change_is_in_the_audit_log(database: Database) {
    let node = database.open().await;
    node.create(Kind::Tenant, r#"{"id":"a","name":"1"}"#).await;
    node.patch(Kind::Tenant, "a", r#"{"name":"2"}"#).await;
    node.create(Kind::ApiKey, r#"{"id":"a","tenantId":"a"}"#).await;
    node.delete(Kind::ApiKey, "a").await;
    node.delete(Kind::Tenant, "a").await;
    let changes = async |filter: &ChangeFilter, items| {
        let (mut changes, mut page) = (Vec::new(), PageRequest { cursor: None, items });
        loop {
            let found = node.catalog.changes(filter, &page).await.unwrap();
            changes.extend(found.items);
            page.cursor = found.next_cursor;
            if page.cursor.is_none() {
                return changes;
            }
        }
    };
    for items in [1, 2, 100] {
        let all = changes(&ChangeFilter::default(), items).await;
        let shown: Vec<_> =
            all.iter().map(|change| (change.id, change.action, change.kind)).collect();
        let expected = [
            (6, Action::Delete, Kind::Tenant),
            (5, Action::Delete, Kind::ApiKey),
            (4, Action::Create, Kind::ApiKey),
            (3, Action::Update, Kind::Tenant),
            (2, Action::Create, Kind::Tenant),
        ];
        assert_eq!(shown, expected);
        let update = &all[3];
        assert_eq!(update.actor.name(), "tester");
        assert_eq!(update.at, tollgate_core::Timestamp::from_ms(crate::common::NOW_MS));
        assert_eq!(update.before.as_deref(), Some(r#"{"id":"a","name":"1"}"#));
        assert_eq!(update.after.as_deref(), Some(r#"{"id":"a","name":"2"}"#));
        assert_eq!((all[0].after.as_deref(), all[4].before.as_deref()), (None, None));
    }
    let of_tenants = ChangeFilter { kind: Some(Kind::Tenant), ..ChangeFilter::default() };
    assert_eq!(changes(&of_tenants, 2).await.len(), 3);
    let of_nobody = ChangeFilter { actor: Some(Id::new("x").unwrap()), ..ChangeFilter::default() };
    assert_eq!(changes(&of_nobody, 2).await, []);
    let page = PageRequest { cursor: Some("x".to_owned()), items: 1 };
    let result = node.catalog.changes(&ChangeFilter::default(), &page).await;
    assert_eq!(problems(result), ["cursor: is not a cursor of the audit log"]);
}

pub(crate) async fn export_and_import_give_the_same_directory(database: Database) {
    let node = database.open().await;
    for (kind, first, _) in ONE_OF_EACH {
        node.create(kind, &closed(kind, first)).await;
    }
    let exported = node.catalog.export().await.unwrap();
    let unchanged = node.catalog.import(&actor(), &exported).await.unwrap();
    // All except the API key; with the built-in policy, without the default tier.
    assert_eq!(unchanged, Imported { created: 0, updated: 0, unchanged: 8 });
    // Through both formats, into an empty database.
    let yaml = document::to_yaml(&exported);
    let read = document::read(&yaml, Format::Yaml).unwrap().unwrap();
    node.delete(Kind::ApiKey, "key").await;
    for (kind, first, _) in ONE_OF_EACH.into_iter().rev().filter(|(kind, ..)| *kind != Kind::ApiKey)
    {
        let id = id_in(kind, first);
        node.delete(kind, &id).await;
    }
    let imported = node.catalog.import(&actor(), &read).await.unwrap();
    assert_eq!(imported, Imported { created: 6, updated: 0, unchanged: 2 });
    let again = node.catalog.export().await.unwrap();
    assert_eq!(document::to_json(&again), document::to_json(&exported));
    assert_eq!(document::to_yaml(&again), yaml);
}

pub(crate) async fn an_import_is_all_or_nothing(database: Database) {
    let node = database.open().await;
    let wrong = body(
        r#"{"tenants":[{"id":"a"},{"id":"b","tier":"zz"}],"users":[{"id":"u","tenantId":"yy"}]}"#,
    );
    let told = problems(node.catalog.import(&actor(), &wrong).await);
    assert_eq!(
        told,
        [
            "tenants[1].tier: there is no tier \"zz\"",
            "users[0].tenantId: there is no tenant \"yy\""
        ]
    );
    let worse =
        body(r#"{"tenants":[{"id":"a","tier":"zz"}],"users":[{"id":"u","tenantId":"a","x":1}]}"#);
    let told = problems(node.catalog.import(&actor(), &worse).await);
    assert_eq!(told, ["tenants[0].tier: there is no tier \"zz\"", "users[0].x: is not a field"]);
    let missing = node.catalog.get(Kind::Tenant, "a").await;
    assert!(matches!(missing, Err(DirectoryError::NotFound { .. })), "{missing:?}");
    assert_eq!(node.last_change().await, 1);
    let right = body(
        r#"{"tenants":[{"id":"a","name":"A"}],"tiers":[{"id":"default","priority":"batch"}]}"#,
    );
    let imported = node.catalog.import(&actor(), &right).await.unwrap();
    assert_eq!(imported, Imported { created: 1, updated: 1, unchanged: 0 });
}

/// Ten writers increment one number, each based on the version that it read: no update is lost.
pub(crate) async fn concurrent_writers_lose_no_update(database: Database) {
    const WRITERS: usize = 10;
    const EACH: usize = 5;
    let node = std::sync::Arc::new(database.open().await.catalog);
    node.create(&actor(), Kind::Tenant, &body(r#"{"id":"a","name":"0"}"#)).await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let node = std::sync::Arc::clone(&node);
            tokio::spawn(async move {
                let mut done = 0;
                while done < EACH {
                    let stored = node.get(Kind::Tenant, "a").await.unwrap();
                    let Record::Tenant(tenant) = &stored.record else { panic!("no tenant") };
                    let next = tenant.name.parse::<usize>().unwrap() + 1;
                    let patch = body(&format!(r#"{{"name":"{next}"}}"#));
                    match node
                        .patch(&actor(), Kind::Tenant, "a", Some(stored.version), &patch)
                        .await
                    {
                        Ok(_) => done += 1,
                        Err(DirectoryError::Stale { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let stored = node.get(Kind::Tenant, "a").await.unwrap();
    assert_eq!(json(&stored.record), format!(r#"{{"id":"a","name":"{}"}}"#, WRITERS * EACH));
    assert_eq!(stored.version, Version(2 + (WRITERS * EACH) as u64));
}
