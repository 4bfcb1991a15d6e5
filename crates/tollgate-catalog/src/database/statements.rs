//! All statements, for both databases. A test prepares each of them on both.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::session::Statement;
use crate::directory::{ChangeFilter, Filter, Id, Kind};

/// Takes the turn for a change, until the end of the transaction, and returns the current versions.
pub(super) const TAKE_TURN: &str =
    "UPDATE catalog_state SET version = version RETURNING version, snapshot_version";
pub(super) const SET_VERSIONS: &str =
    "UPDATE catalog_state SET version = $1, snapshot_version = $2";
/// Whether there is anything to look up. Users and API keys belong to tenants, so asking for tenants is enough.
pub(super) const HAS_TENANTS: &str =
    "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM tenants) THEN 1 ELSE 0 END AS BIGINT)";

/// The keyed hash that shows whether the secret has changed, and whether there is an API key.
pub(super) const API_KEY_CHECK: &str = "SELECT api_key_check, \
     CAST(CASE WHEN EXISTS (SELECT 1 FROM api_keys) THEN 1 ELSE 0 END AS BIGINT) FROM catalog_state";
pub(super) const SET_API_KEY_CHECK: &str = "UPDATE catalog_state SET api_key_check = $1";

pub(super) const VERSIONS: &str = "SELECT version, snapshot_version FROM catalog_state";

pub(super) const ADD_CHANGE: &str = "INSERT INTO changes (id, at_ms, actor, action, kind, record_id, cached_as, before, after) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
/// The changes after a version that are relevant to caches.
pub(super) const CHANGED_SINCE: &str =
    "SELECT id, kind, cached_as FROM changes WHERE id > $1 ORDER BY id LIMIT $2";

pub(super) const KEY_BY_HASH: &str =
    "SELECT id, tenant_id, user_id, tier, expires_ms, revoked FROM api_keys WHERE hash = $1";
pub(super) const USER_FACTS: &str =
    "SELECT tenant_id, tier FROM users WHERE id = $1 AND tenant_id = $2";
pub(super) const FACTS_OF_USERS: &str = "SELECT tenant_id, tier FROM users WHERE id = $1 LIMIT 2";
pub(super) const TENANT_FACTS: &str = "SELECT tier FROM tenants WHERE id = $1";
pub(super) const HASH_OF_KEY: &str = "SELECT hash FROM api_keys WHERE id = $1";
pub(super) const RECORD_USE: &str = "UPDATE api_keys SET last_used_ms = $2 \
     WHERE hash = $1 AND (last_used_ms IS NULL OR last_used_ms < $2 OR last_used_ms > $3)";

/// Notifies the other nodes when the transaction is committed. PostgreSQL only.
pub(super) const NOTIFY: &str = "SELECT pg_notify('tollgate_catalog', '')";
/// The channel of [`NOTIFY`].
pub(super) const CHANNEL: &str = "tollgate_catalog";

/// The statements about the records of one kind.
pub(super) struct Table {
    /// `SELECT` of all columns of a record, its version last, without any condition.
    pub(super) select: &'static str,
    /// Inserts a record from its columns; `$1` is the id, the last parameter the version.
    pub(super) insert: &'static str,
    /// Updates it, with the same parameters except those that never change.
    pub(super) update: &'static str,
    pub(super) delete: &'static str,
}

pub(super) const fn table(kind: Kind) -> Table {
    match kind {
        Kind::Tier => Table {
            select: "SELECT id, name, priority, version FROM tiers",
            insert: "INSERT INTO tiers (id, name, priority, version) VALUES ($1, $2, $3, $4)",
            update: "UPDATE tiers SET name = $2, priority = $3, version = $4 WHERE id = $1",
            delete: "DELETE FROM tiers WHERE id = $1",
        },
        Kind::ModelTier => Table {
            select: "SELECT id, name, version FROM model_tiers",
            insert: "INSERT INTO model_tiers (id, name, version) VALUES ($1, $2, $3)",
            update: "UPDATE model_tiers SET name = $2, version = $3 WHERE id = $1",
            delete: "DELETE FROM model_tiers WHERE id = $1",
        },
        Kind::Model => Table {
            select: "SELECT id, name, model_tier, version FROM models",
            insert: "INSERT INTO models (id, name, model_tier, version) VALUES ($1, $2, $3, $4)",
            update: "UPDATE models SET name = $2, model_tier = $3, version = $4 WHERE id = $1",
            delete: "DELETE FROM models WHERE id = $1",
        },
        Kind::Tenant => Table {
            select: "SELECT id, name, tier, version FROM tenants",
            insert: "INSERT INTO tenants (id, name, tier, version) VALUES ($1, $2, $3, $4)",
            update: "UPDATE tenants SET name = $2, tier = $3, version = $4 WHERE id = $1",
            delete: "DELETE FROM tenants WHERE id = $1",
        },
        Kind::User => Table {
            select: "SELECT id, tenant_id, name, tier, version FROM users",
            insert: "INSERT INTO users (id, tenant_id, name, tier, version) \
                     VALUES ($1, $2, $3, $4, $5)",
            update: "UPDATE users SET tenant_id = $2, name = $3, tier = $4, version = $5 \
                     WHERE id = $1 AND tenant_id = $6",
            delete: "DELETE FROM users WHERE id = $1 AND tenant_id = $2",
        },
        Kind::ApiKey => Table {
            select: "SELECT id, name, tenant_id, user_id, tier, expires_ms, revoked, prefix, \
                     last_used_ms, version FROM api_keys",
            insert: "INSERT INTO api_keys (id, name, tenant_id, user_id, tier, expires_ms, \
                     revoked, prefix, hash, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            update: "UPDATE api_keys SET name = $2, tenant_id = $3, user_id = $4, tier = $5, \
                     expires_ms = $6, revoked = $7, version = $8 WHERE id = $1",
            delete: "DELETE FROM api_keys WHERE id = $1",
        },
        Kind::Policy => Table {
            select: "SELECT id, document, version FROM policies",
            insert: "INSERT INTO policies (id, document, version) VALUES ($1, $2, $3)",
            update: "UPDATE policies SET document = $2, version = $3 WHERE id = $1",
            delete: "DELETE FROM policies WHERE id = $1",
        },
    }
}

/// The records with an id: at most one, but users of several tenants, of which some are found.
pub(super) fn get(kind: Kind) -> Statement {
    Statement::assembled(format!("{} WHERE id = $1 LIMIT 3", table(kind).select))
}

/// The first ids of the records of `kind`; `$1` is how many.
pub(super) fn first_ids(kind: Kind) -> Statement {
    let table = if kind == Kind::User { "users" } else { "tenants" };
    Statement::assembled(format!("SELECT DISTINCT id FROM {table} ORDER BY id LIMIT $1"))
}

/// One user: `$1` is its id, `$2` its tenant.
pub(super) const USER_OF_TENANT: &str =
    "SELECT id, tenant_id, name, tier, version FROM users WHERE id = $1 AND tenant_id = $2";

/// All records of a kind.
pub(super) fn all(kind: Kind) -> Statement {
    Statement::assembled(format!("{} ORDER BY {}", table(kind).select, order(kind)))
}

/// The columns of the address of a record, which no two records share.
const fn order(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "id, tenant_id",
        _ => "id",
    }
}

/// A page of records: `$1` is the last id of the previous page, `$2` the number of records, then the values of `filter`
/// in the order of [`filter_values`], and for users the last tenant of the previous page. `None` if no record of the kind can match the filter.
pub(super) fn list(kind: Kind, filter: &Filter) -> Option<Statement> {
    let select = table(kind).select;
    let mut text = match kind {
        Kind::User => {
            format!("{select} WHERE (id, tenant_id) > ($1, ${})", 3 + filter_values(filter).count())
        }
        _ => format!("{select} WHERE id > $1"),
    };
    let columns = [
        (filter.tenant_id.is_some(), "tenant_id", &[Kind::User, Kind::ApiKey][..]),
        (filter.user_id.is_some(), "user_id", &[Kind::ApiKey]),
        (filter.tier.is_some(), "tier", &[Kind::Tenant, Kind::User, Kind::ApiKey]),
        (filter.model_tier.is_some(), "model_tier", &[Kind::Model]),
    ];
    let asked = columns.into_iter().filter(|(is_asked, ..)| *is_asked);
    for (number, (_, column, kinds)) in (3..).zip(asked) {
        if !kinds.contains(&kind) {
            return None;
        }
        // Writing to a `String` cannot fail.
        _ = write!(text, " AND {column} = ${number}");
    }
    if filter.search.is_some() {
        let number = 3 + filter_ids(filter).count();
        let like = |column| format!(r"lower({column}) LIKE lower(${number}) ESCAPE '\'");
        let columns: &[_] = match kind {
            Kind::Policy => &["id"],
            Kind::ApiKey => &["id", "name", "prefix"],
            _ => &["id", "name"],
        };
        let any: Vec<_> = columns.iter().map(like).collect();
        _ = write!(text, " AND ({})", any.join(" OR "));
    }
    _ = write!(text, " ORDER BY {} LIMIT $2", order(kind));
    Some(Statement::assembled(text))
}

/// The values that are set in `filter`.
pub(super) fn filter_values(filter: &Filter) -> impl Iterator<Item = Cow<'_, str>> {
    let ids = filter_ids(filter).map(|id| Cow::Borrowed(id.as_str()));
    ids.chain(filter.search.as_deref().map(|search| Cow::Owned(containing(search))))
}

fn filter_ids(filter: &Filter) -> impl Iterator<Item = &Id> {
    [&filter.tenant_id, &filter.user_id, &filter.tier, &filter.model_tier].into_iter().flatten()
}

/// The pattern of texts that contain `search`.
fn containing(search: &str) -> String {
    let mut pattern = String::from("%");
    for character in search.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern + "%"
}

/// A page of the audit log: `$1` is the last change of the previous page, `$2` the number, then the values of `filter`:
/// kind, record, actor.
pub(super) fn changes(filter: &ChangeFilter) -> Statement {
    let mut text = "SELECT id, at_ms, actor, action, kind, record_id, before, after FROM changes \
                    WHERE id < $1"
        .to_owned();
    let columns = [
        (filter.kind.is_some(), "kind"),
        (filter.record_id.is_some(), "record_id"),
        (filter.actor.is_some(), "actor"),
    ];
    let asked = columns.into_iter().filter(|(is_asked, _)| *is_asked);
    for (number, (_, column)) in (3..).zip(asked) {
        // Writing to a `String` cannot fail.
        _ = write!(text, " AND {column} = ${number}");
    }
    Statement::assembled(text + " ORDER BY id DESC LIMIT $2")
}

/// One of the records of `from` whose `field` refers to a record.
pub(super) fn referrer(from: Kind, field: &str) -> Option<&'static str> {
    Some(match (from, field) {
        (Kind::Model, "modelTier") => "SELECT id FROM models WHERE model_tier = $1 LIMIT 1",
        (Kind::Tenant, "tier") => "SELECT id FROM tenants WHERE tier = $1 LIMIT 1",
        (Kind::User, "tenantId") => "SELECT id FROM users WHERE tenant_id = $1 LIMIT 1",
        (Kind::User, "tier") => "SELECT id FROM users WHERE tier = $1 LIMIT 1",
        (Kind::ApiKey, "tenantId") => "SELECT id FROM api_keys WHERE tenant_id = $1 LIMIT 1",
        (Kind::ApiKey, "userId") => {
            "SELECT id FROM api_keys WHERE user_id = $1 AND tenant_id = $2 LIMIT 1"
        }
        (Kind::ApiKey, "tier") => "SELECT id FROM api_keys WHERE tier = $1 LIMIT 1",
        _ => return None,
    })
}
