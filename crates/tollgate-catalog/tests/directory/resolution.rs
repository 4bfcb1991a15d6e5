//! What the catalog adds to the subject of a check (P15).

use std::time::Duration;

use tollgate_catalog::api_key::KeyHasher;
use tollgate_catalog::directory::{
    ChangeFilter, Id, Kind, PageRequest, PriorityClass, Record, user_address,
};
use tollgate_catalog::{
    Asked, CatalogError, CatalogEvent, DatabaseCatalog, DatabaseOptions, Directory as _, Standing,
};
use tollgate_core::Timestamp;

use crate::common::{DEADLINE, Database, NOW_MS, Node, json};

/// Two tenants, one with a tier; users and keys with and without one.
const RECORDS: [(Kind, &str); 13] = [
    (Kind::Tier, r#"{"id":"free","priority":"batch"}"#),
    (Kind::Tier, r#"{"id":"pro","priority":"premium"}"#),
    (Kind::Tier, r#"{"id":"vip","priority":"internal"}"#),
    (Kind::ModelTier, r#"{"id":"large"}"#),
    (Kind::Model, r#"{"id":"gpt-4","modelTier":"large"}"#),
    (Kind::Tenant, r#"{"id":"acme","tier":"free"}"#),
    (Kind::Tenant, r#"{"id":"bare"}"#),
    (Kind::User, r#"{"id":"plain","tenantId":"acme"}"#),
    (Kind::User, r#"{"id":"paid","tenantId":"acme","tier":"pro"}"#),
    (Kind::User, r#"{"id":"stranger","tenantId":"bare","tier":"vip"}"#),
    (Kind::User, r#"{"id":"modest","tenantId":"acme","tier":"default"}"#),
    (Kind::Tenant, r#"{"id":"plainly","tier":"default"}"#),
    (Kind::User, r#"{"id":"theirs","tenantId":"plainly"}"#),
];

async fn key(node: &Node, json: &str) -> String {
    node.create(Kind::ApiKey, json).await.secret.unwrap().reveal().to_owned()
}

fn user(user: &str) -> Asked<'_> {
    Asked { user: Some(user), ..Asked::default() }
}

fn with_key<'a>(key: &'a str, user: Option<&'a str>) -> Asked<'a> {
    Asked { api_key: Some(key), user, ..Asked::default() }
}

pub(crate) async fn the_tier_is_the_keys_else_the_users_else_the_tenants_else_default(
    database: Database,
) {
    let node = database.open().await;
    node.create_all(&RECORDS).await;
    let of_tenant = key(&node, r#"{"id":"k1","tenantId":"acme"}"#).await;
    let of_user = key(&node, r#"{"id":"k2","tenantId":"acme","userId":"paid"}"#).await;
    let with_tier =
        key(&node, r#"{"id":"k3","tenantId":"acme","userId":"paid","tier":"vip"}"#).await;
    let of_bare = key(&node, r#"{"id":"k4","tenantId":"bare"}"#).await;
    let of_default =
        key(&node, r#"{"id":"k5","tenantId":"acme","userId":"paid","tier":"default"}"#).await;
    let tenant = |tenant| Asked { tenant: Some(tenant), ..Asked::default() };
    // Asked, the tenant of the key or of the user, the tier, its priority.
    let cases = [
        (user("plain"), Some("acme"), "free", PriorityClass::Batch),
        (user("paid"), Some("acme"), "pro", PriorityClass::Premium),
        (user("nobody"), None, "default", PriorityClass::Standard),
        (user(""), None, "default", PriorityClass::Standard),
        (tenant("acme"), None, "free", PriorityClass::Batch),
        (tenant("bare"), None, "default", PriorityClass::Standard),
        (with_key(&of_tenant, None), Some("acme"), "free", PriorityClass::Batch),
        (with_key(&of_tenant, Some("paid")), Some("acme"), "pro", PriorityClass::Premium),
        // The user in the check does not lend the holder of a key a tier of another tenant.
        (with_key(&of_tenant, Some("stranger")), Some("acme"), "free", PriorityClass::Batch),
        (with_key(&of_user, Some("plain")), Some("acme"), "pro", PriorityClass::Premium),
        (with_key(&with_tier, None), Some("acme"), "vip", PriorityClass::Internal),
        (with_key(&of_bare, None), Some("bare"), "default", PriorityClass::Standard),
        (with_key("guess", Some("paid")), Some("acme"), "pro", PriorityClass::Premium),
        // If a record has the tier `default`, that tier applies, whatever the records below have.
        (with_key(&of_default, None), Some("acme"), "default", PriorityClass::Standard),
        (user("modest"), Some("acme"), "default", PriorityClass::Standard),
        (user("theirs"), Some("plainly"), "default", PriorityClass::Standard),
        (with_key(&of_bare, Some("modest")), Some("bare"), "default", PriorityClass::Standard),
    ];
    let unknown_tier = [user("nobody"), user(""), tenant("bare"), with_key(&of_bare, None)];
    let unknown_tier = [&unknown_tier[..], &[with_key(&of_bare, Some("modest"))]].concat();
    // Cold, then warm.
    for _ in 0..2 {
        for (asked, tenant, tier, priority) in &cases {
            let found = node.resolve(*asked).await;
            let named = found.tenant.as_ref().or(found.user_tenant.as_ref());
            assert_eq!(named.map(Id::as_str), *tenant, "{asked:?}");
            let of_key = found.api_key.is_some_and(|key| key.standing == Standing::Active);
            assert_eq!(found.tenant.is_some(), of_key, "{asked:?}: a user names no tenant");
            assert_eq!((found.tier.as_str(), found.priority), (*tier, *priority), "{asked:?}");
            assert!(!found.is_degraded);
            assert_eq!(found.is_tier_known, !unknown_tier.contains(asked), "{asked:?}");
        }
    }
    let own = node.resolve(with_key(&of_user, Some("plain"))).await;
    assert_eq!(own.user.unwrap().as_str(), "paid", "a key's user stands");
    let model = |model| Asked { model: Some(model), ..Asked::default() };
    assert_eq!(node.resolve(model("gpt-4")).await.model_tier.unwrap().as_str(), "large");
    assert_eq!(node.resolve(model("other")).await.model_tier, None);

    // When the call returns, the change applies, also to cached answers, including negative ones.
    node.patch(Kind::User, "plain", r#"{"tier":"vip"}"#).await;
    assert_eq!(node.resolve(user("plain")).await.tier.as_str(), "vip");
    node.patch(Kind::Tenant, "acme", r#"{"tier":"pro"}"#).await;
    assert_eq!(node.resolve(with_key(&of_tenant, None)).await.tier.as_str(), "pro");
    node.create(Kind::User, r#"{"id":"nobody","tenantId":"bare","tier":"free"}"#).await;
    assert_eq!(node.resolve(user("nobody")).await.tier.as_str(), "free");
    node.patch(Kind::Tier, "free", r#"{"priority":"premium"}"#).await;
    assert_eq!(node.resolve(user("nobody")).await.priority, PriorityClass::Premium);
    node.delete(Kind::User, "nobody").await;
    assert_eq!(node.resolve(user("nobody")).await.tier.as_str(), "default");
}

pub(crate) async fn a_key_is_kept_as_a_hash_and_shown_once(database: Database) {
    let node = database.open().await;
    node.create(Kind::Tenant, r#"{"id":"acme"}"#).await;
    let created = node.create(Kind::ApiKey, r#"{"id":"k","tenantId":"acme"}"#).await;
    let secret = created.secret.unwrap().reveal().to_owned();
    let Record::ApiKey(key) = &created.stored.record else { panic!("no key") };
    assert!(secret.starts_with("tg_live_") && secret.starts_with(&key.prefix));
    assert_eq!(key.prefix.len(), 16);
    let random = &secret[key.prefix.len()..];
    // The secret is nowhere in data that can be read back.
    let changes =
        node.catalog.changes(&ChangeFilter::default(), &PageRequest::default()).await.unwrap();
    assert!(!format!("{changes:?}").contains(random));
    assert!(!json(&node.get(Kind::ApiKey, "k").await.record).contains(random));
    assert!(!format!("{:?}", node.catalog.export().await.unwrap()).contains(random));
    if let Some(path) = &database.path {
        drop(node);
        for file in ["", "-wal"] {
            let bytes = std::fs::read(format!("{}{file}", path.display())).unwrap_or_default();
            let holds = bytes.windows(random.len()).any(|window| window == random.as_bytes());
            assert!(!holds, "the file{file} holds the secret");
        }
    }
}

pub(crate) async fn revoked_and_expired_keys_say_so(database: Database) {
    let node = database.open().await;
    node.create(Kind::Tenant, r#"{"id":"acme"}"#).await;
    // 100 ms after the tests begin.
    let ends = r#"{"id":"k","tenantId":"acme","expiresAt":"2023-11-14T22:13:20.100Z"}"#;
    let secret = key(&node, ends).await;
    let standing = async || node.resolve(with_key(&secret, None)).await.api_key.unwrap();
    assert_eq!(standing().await.standing, Standing::Active);
    assert_eq!(standing().await.counted_as.as_str(), "k");
    node.wall_clock.set(Timestamp::from_ms(NOW_MS + 99));
    assert_eq!(standing().await.standing, Standing::Active);
    node.wall_clock.set(Timestamp::from_ms(NOW_MS + 100));
    assert_eq!(standing().await.standing, Standing::Expired);
    node.patch(Kind::ApiKey, "k", r#"{"expiresAt":null}"#).await;
    assert_eq!(standing().await.standing, Standing::Active);
    node.patch(Kind::ApiKey, "k", r#"{"revoked":true}"#).await;
    assert_eq!(standing().await.standing, Standing::Revoked);
    node.delete(Kind::ApiKey, "k").await;
    let unknown = standing().await;
    assert_eq!(unknown.standing, Standing::Unknown);
    // Under its own keyed hash, which is not the key.
    assert_eq!(unknown.counted_as.as_str().len(), 64);
    let other = node.resolve(with_key("guess", None)).await.api_key.unwrap();
    assert_ne!(other.counted_as, unknown.counted_as);
}

/// With another secret no key would be recognized, not even as revoked, so the start fails. Without keys, another
/// secret does no harm.
pub(crate) async fn another_secret_than_before_is_refused(database: Database) {
    let open = async |secret: &[u8]| {
        let hasher = KeyHasher::new(secret);
        let ignore = |_: &CatalogEvent<'_>| {};
        DatabaseCatalog::open(&database.url, hasher, DatabaseOptions::default(), ignore).await
    };
    open(b"a first secret, never used").await.unwrap();
    let node = database.open().await;
    node.create(Kind::Tenant, r#"{"id":"acme"}"#).await;
    let secret = key(&node, r#"{"id":"k","tenantId":"acme"}"#).await;
    let refused = open(b"another secret than that").await.unwrap_err();
    assert!(matches!(refused, CatalogError::OtherApiKeySecret), "{refused}");
    let again = database.open().await;
    let known = again.resolve(with_key(&secret, None)).await.api_key.unwrap();
    assert_eq!(known.standing, Standing::Active);
}

/// P9: a check is about the user of the tenant that it names or that its key belongs to, and about no other.
pub(crate) async fn users_with_one_id_in_two_tenants_are_two(database: Database) {
    let node = database.open().await;
    node.create_all(&[
        (Kind::Tier, r#"{"id":"pro"}"#),
        (Kind::Tier, r#"{"id":"free"}"#),
        (Kind::Tenant, r#"{"id":"t1"}"#),
        (Kind::Tenant, r#"{"id":"t2"}"#),
        (Kind::User, r#"{"id":"ann","tenantId":"t1","tier":"pro"}"#),
    ])
    .await;
    let of = |tenant| Asked { tenant: Some(tenant), user: Some("ann"), ..Asked::default() };
    let facts = async |asked| {
        let found = node.resolve(asked).await;
        let user_tenant = found.user_tenant.map(|tenant| tenant.to_string());
        (found.tier.to_string(), user_tenant, found.is_user_known)
    };
    let expected = |tier: &str, user_tenant: Option<&str>, is_known| {
        (tier.to_owned(), user_tenant.map(str::to_owned), Some(is_known))
    };
    // Twice: cold, then warm.
    for _ in 0..2 {
        assert_eq!(facts(of("t1")).await, expected("pro", None, true));
        assert_eq!(facts(of("t2")).await, expected("default", None, false));
        assert_eq!(facts(of("unknown")).await, expected("default", None, false));
        assert_eq!(facts(user("ann")).await, expected("pro", Some("t1"), true));
    }
    node.create(Kind::User, r#"{"id":"ann","tenantId":"t2","tier":"free"}"#).await;
    for _ in 0..2 {
        assert_eq!(facts(of("t1")).await, expected("pro", None, true));
        assert_eq!(facts(of("t2")).await, expected("free", None, true));
        // Nothing says which of them is meant.
        assert_eq!(facts(user("ann")).await, expected("default", None, false));
    }
    let secret = key(&node, r#"{"id":"k2","tenantId":"t2"}"#).await;
    let with_key = Asked { tenant: Some("t1"), ..with_key(&secret, Some("ann")) };
    let found = node.resolve(with_key).await;
    assert_eq!((found.tenant.unwrap().as_str(), found.tier.as_str()), ("t2", "free"));
    // What is changed applies at once, to the user that it was said of.
    node.patch(Kind::User, &user_address("t2", "ann"), r#"{"tier":null}"#).await;
    assert_eq!(facts(of("t2")).await, expected("default", None, true));
    assert_eq!(facts(of("t1")).await, expected("pro", None, true));
    node.delete(Kind::User, &user_address("t1", "ann")).await;
    assert_eq!(facts(of("t1")).await, expected("default", None, false));
    assert_eq!(facts(user("ann")).await, expected("default", Some("t2"), true));
    node.patch(Kind::User, "ann", r#"{"tenantId":"t1","tier":"free"}"#).await;
    assert_eq!(facts(of("t1")).await, expected("free", None, true));
    assert_eq!(facts(of("t2")).await, expected("default", None, false));
    assert_eq!(facts(user("ann")).await, expected("free", Some("t1"), true));
}

/// If nothing can be known, nothing is looked up; the first tenant changes that at once, on every node.
pub(crate) async fn an_empty_directory_is_not_asked(database: Database) {
    let node = database.open_with(|options| options.poll_every = Duration::from_millis(20)).await;
    let other = database.open().await;
    let resolved = node.resolve(with_key("guess", Some("alice"))).await;
    assert_eq!(resolved.api_key.unwrap().standing, Standing::Unknown);
    assert_eq!((node.catalog.subject_loads(), resolved.is_degraded), (0, false));
    other.create(Kind::Tenant, r#"{"id":"acme"}"#).await;
    other.create(Kind::User, r#"{"id":"alice","tenantId":"acme"}"#).await;
    assert_eq!(other.resolve(user("alice")).await.user_tenant.unwrap().as_str(), "acme");
    let known = async {
        while node.resolve(user("alice")).await.user_tenant.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, known).await.expect("the other node has heard of the user");
}

/// Single flight and negative entries: however many ask at once, only one asks the database.
pub(crate) async fn a_warm_subject_asks_no_database_and_a_cold_one_asks_once(database: Database) {
    let node = database.open().await;
    node.create_all(&RECORDS).await;
    let resolver = node.catalog.resolver();
    let snapshot = node.catalog.reader().snapshot();
    for (name, loads_of_one) in [("plain", 2), ("nobody", 1)] {
        let before = node.catalog.subject_loads();
        let asking: Vec<_> = (0..50)
            .map(|_| {
                let (resolver, snapshot) = (resolver.clone(), snapshot.clone());
                tokio::spawn(async move { resolver.resolve(&snapshot, &user(name)).await })
            })
            .collect();
        for resolution in asking {
            assert!(!resolution.await.unwrap().is_degraded);
        }
        // The user, and the tenant of a known user.
        assert_eq!(node.catalog.subject_loads() - before, loads_of_one, "{name}");
        node.resolve(user(name)).await;
        assert_eq!(node.catalog.subject_loads() - before, loads_of_one, "{name}, warm");
    }
}

pub(crate) async fn uses_are_recorded_in_batches(database: Database) {
    let node = database.open_with(|options| options.uses_per_batch = 2).await;
    node.create(Kind::Tenant, r#"{"id":"acme"}"#).await;
    let mut secrets = Vec::new();
    for number in 0..5 {
        secrets.push(key(&node, &format!(r#"{{"id":"k{number}","tenantId":"acme"}}"#)).await);
    }
    let before = node.last_change().await;
    for secret in &secrets[..4] {
        node.resolve(with_key(secret, None)).await;
    }
    let last_use = async |id: &str| match node.get(Kind::ApiKey, id).await.record {
        Record::ApiKey(key) => key.last_used_at,
        other => panic!("{other:?}"),
    };
    assert_eq!(last_use("k0").await, None, "not on the path of a check");
    node.catalog.record_uses().await.unwrap();
    for number in 0..4 {
        assert_eq!(last_use(&format!("k{number}")).await, Some(Timestamp::from_ms(NOW_MS)));
    }
    assert_eq!(last_use("k4").await, None);
    let version = node.get(Kind::ApiKey, "k0").await.version;
    node.wall_clock.set(Timestamp::from_ms(NOW_MS + 5_000));
    node.resolve(with_key(&secrets[0], None)).await;
    node.catalog.record_uses().await.unwrap();
    assert_eq!(last_use("k0").await, Some(Timestamp::from_ms(NOW_MS + 5_000)));
    assert_eq!(node.get(Kind::ApiKey, "k0").await.version, version, "a use is no change");
    assert_eq!(node.last_change().await, before);
}

/// Civil time is the current time of the system's clock, also if it was set meanwhile: forward, for example by NTP
/// after a start with a slow clock, or back.
pub(crate) async fn dates_follow_a_clock_that_is_set(database: Database) {
    const HOUR_MS: u64 = 3_600_000;
    let node = database.open().await;
    node.create(Kind::Tenant, r#"{"id":"acme"}"#).await;
    // 100 ms after the tests begin.
    let ends = r#"{"id":"k","tenantId":"acme","expiresAt":"2023-11-14T22:13:20.100Z"}"#;
    let secret = key(&node, ends).await;
    // The clock that measures durations stands at the start throughout.
    for (set_to_ms, standing) in [
        (NOW_MS, Standing::Active),
        (NOW_MS + HOUR_MS, Standing::Expired),
        (NOW_MS - HOUR_MS, Standing::Active),
    ] {
        node.wall_clock.set(Timestamp::from_ms(set_to_ms));
        let used = node.resolve(with_key(&secret, None)).await;
        assert_eq!(used.api_key.unwrap().standing, standing, "{set_to_ms}");
        node.catalog.record_uses().await.unwrap();
        let Record::ApiKey(recorded) = node.get(Kind::ApiKey, "k").await.record else {
            panic!("no key")
        };
        let set_to = Timestamp::from_ms(set_to_ms);
        assert_eq!(recorded.last_used_at, Some(set_to), "the last use");
        node.patch(Kind::ApiKey, "k", &format!(r#"{{"name":"{set_to_ms}"}}"#)).await;
        let changes = node.catalog.changes(&ChangeFilter::default(), &PageRequest::default()).await;
        assert_eq!(changes.unwrap().items[0].at, set_to, "the change");
    }
}

/// A malformed row written by another program gives no answer for its subject, and does not affect others.
pub(crate) async fn a_row_that_cannot_be_read_harms_no_other_subject(database: Database) {
    let node = database.open().await;
    node.create_all(&RECORDS).await;
    let control = if database.server.is_some() { "chr(1)" } else { "char(1)" };
    let tier = "INSERT INTO tiers (id, name, priority, version)";
    database.sql(&format!("{tier} VALUES ({control}, 'n', 'batch', 1)")).await;
    database
        .sql(
            "UPDATE users SET tier = (SELECT id FROM tiers WHERE name = 'n' AND priority = 'batch') \
             WHERE id = 'paid'",
        )
        .await;
    let wrong = node.resolve(user("paid")).await;
    assert_eq!((wrong.tier.as_str(), wrong.is_degraded), ("default", true));
    assert!(node.catalog.is_reachable());
    assert_eq!(node.resolve(user("plain")).await.tier.as_str(), "free");
    // A later change of it is followed, and so are the changes after it.
    node.patch(Kind::User, "plain", r#"{"tier":"vip"}"#).await;
    assert_eq!(node.resolve(user("plain")).await.tier.as_str(), "vip");
}

/// Data that was written without the catalog is seen when the cached answer has become old, and no check waits for it.
pub(crate) async fn an_old_answer_is_refreshed_beside_its_use(database: Database) {
    let node = database.open().await;
    node.create_all(&RECORDS).await;
    assert_eq!(node.resolve(user("plain")).await.tier.as_str(), "free");
    database.sql("UPDATE users SET tier = 'vip' WHERE id = 'plain'").await;
    assert_eq!(node.resolve(user("plain")).await.tier.as_str(), "free");
    node.clock.set(Timestamp::from_ms(NOW_MS + 60_000));
    // This one does not wait, but starts the refresh.
    assert_eq!(node.resolve(user("plain")).await.tier.as_str(), "free");
    let refreshed = async {
        while node.resolve(user("plain")).await.tier.as_str() != "vip" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, refreshed).await.expect("refreshed before the deadline");
}
