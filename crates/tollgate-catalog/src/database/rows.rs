//! Converts rows to records and records to parameters.

use sqlx::Error::Decode;
use tollgate_core::Timestamp;

use super::session::{Argument, Row};
use crate::directory::{
    Action, Actor, ApiKey, Change, Id, Kind, Model, ModelTier, PriorityClass, Record, Stored,
    Tenant, Tier, User, Version,
};
use crate::document::{self, Format};
use crate::validate;

/// The record in a row of [`Table::select`](super::statements::Table).
///
/// It is an error if the row is not in the form that this crate writes: then another program wrote it.
pub(super) fn stored(kind: Kind, row: &Row) -> sqlx::Result<Stored> {
    let (record, version) = match kind {
        Kind::Tier => {
            let priority = PriorityClass::parse(&row.text(2)?);
            let priority = priority.ok_or_else(|| decode("is not a priority class"))?;
            (Record::Tier(Tier { id: id(row, 0)?, name: row.text(1)?, priority }), 3)
        }
        Kind::ModelTier => {
            (Record::ModelTier(ModelTier { id: id(row, 0)?, name: row.text(1)? }), 2)
        }
        Kind::Model => {
            let (id, name, model_tier) = (id(row, 0)?, row.text(1)?, id(row, 2)?);
            (Record::Model(Model { id, name, model_tier }), 3)
        }
        Kind::Tenant => {
            let (id, name, tier) = (id(row, 0)?, row.text(1)?, optional_id(row, 2)?);
            (Record::Tenant(Tenant { id, name, tier }), 3)
        }
        Kind::User => {
            let (id, tenant_id) = (id(row, 0)?, id(row, 1)?);
            let (name, tier) = (row.text(2)?, optional_id(row, 3)?);
            (Record::User(User { id, tenant_id, name, tier }), 4)
        }
        Kind::ApiKey => (Record::ApiKey(api_key(row)?), 9),
        Kind::Policy => {
            // A policy's text is validated each time, like that of a file.
            let node = document::read(&row.text(1)?, Format::Json)
                .map_err(|_| decode("is not a document"))?
                .ok_or_else(|| decode("is empty"))?;
            let policy = validate::policy("", &node).map_err(|problems| Decode(problems.into()))?;
            (Record::Policy(policy), 2)
        }
    };
    Ok(Stored { record, version: Version(unsigned(row, version)?) })
}

fn api_key(row: &Row) -> sqlx::Result<ApiKey> {
    Ok(ApiKey {
        id: id(row, 0)?,
        name: row.text(1)?,
        tenant_id: id(row, 2)?,
        user_id: optional_id(row, 3)?,
        tier: optional_id(row, 4)?,
        expires_at: moment(row, 5)?,
        revoked: row.integer(6)? != 0,
        prefix: row.text(7)?,
        last_used_at: moment(row, 8)?,
    })
}

/// The change in a row of the audit log.
pub(super) fn change(row: &Row) -> sqlx::Result<Change> {
    Ok(Change {
        id: unsigned(row, 0)?,
        at: moment(row, 1)?.unwrap_or_default(),
        actor: Actor::new(&row.text(2)?).map_err(|_| decode("is not a name"))?,
        action: Action::parse(&row.text(3)?).ok_or_else(|| decode("is not an action"))?,
        kind: Kind::parse(&row.text(4)?).ok_or_else(|| decode("is not a kind"))?,
        record_id: id(row, 5)?,
        before: row.optional_text(6)?,
        after: row.optional_text(7)?,
    })
}

/// What an [`insert`](super::statements::Table) needs besides the record.
#[derive(Clone, Copy)]
pub(super) struct Made<'a> {
    /// The hash of an API key's secret.
    pub(super) hash: &'a str,
}

/// The parameters of an insert, with `made`, or of an update, without.
pub(super) fn arguments<'a>(
    record: &'a Record,
    made: Option<Made<'a>>,
    policy_document: &'a str,
    version: Version,
) -> Vec<Argument<'a>> {
    let mut arguments: Vec<Argument<'a>> = vec![record.id().into()];
    match record {
        Record::Tier(tier) => {
            arguments.extend_from_slice(&[tier.name.as_str().into(), tier.priority.name().into()]);
        }
        Record::ModelTier(model_tier) => arguments.push(model_tier.name.as_str().into()),
        Record::Model(model) => {
            arguments
                .extend_from_slice(&[model.name.as_str().into(), model.model_tier.as_str().into()]);
        }
        Record::Tenant(tenant) => {
            arguments.extend_from_slice(&[tenant.name.as_str().into(), text(tenant.tier.as_ref())]);
        }
        Record::User(user) => arguments.extend_from_slice(&[
            user.tenant_id.as_str().into(),
            user.name.as_str().into(),
            text(user.tier.as_ref()),
        ]),
        Record::ApiKey(key) => {
            arguments.extend_from_slice(&[
                key.name.as_str().into(),
                key.tenant_id.as_str().into(),
                text(key.user_id.as_ref()),
                text(key.tier.as_ref()),
                key.expires_at.map(as_ms).into(),
                i64::from(key.revoked).into(),
            ]);
            if let Some(made) = made {
                arguments.extend_from_slice(&[key.prefix.as_str().into(), made.hash.into()]);
            }
        }
        Record::Policy(_) => arguments.push(policy_document.into()),
    }
    arguments.push(signed(version.0).into());
    arguments
}

fn text(id: Option<&Id>) -> Argument<'_> {
    Argument::OptionalText(id.map(Id::as_str))
}

/// Milliseconds since the Unix epoch.
pub(super) fn as_ms(moment: Timestamp) -> i64 {
    signed(moment.as_ns() / 1_000_000)
}

/// `number` in the type of the databases. Versions and times are far below 2^63.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(row: &Row, column: usize) -> sqlx::Result<u64> {
    u64::try_from(row.integer(column)?).map_err(|_| decode("is negative"))
}

pub(super) fn moment(row: &Row, column: usize) -> sqlx::Result<Option<Timestamp>> {
    let ms = row.optional_integer(column)?;
    Ok(ms.map(|ms| Timestamp::from_ms(u64::try_from(ms).unwrap_or(0))))
}

pub(super) fn id(row: &Row, column: usize) -> sqlx::Result<Id> {
    Id::new(&row.text(column)?).map_err(|_| decode("is not an id"))
}

pub(super) fn optional_id(row: &Row, column: usize) -> sqlx::Result<Option<Id>> {
    let text = row.optional_text(column)?;
    text.map(|text| Id::new(&text).map_err(|_| decode("is not an id"))).transpose()
}

pub(super) fn decode(what: &'static str) -> sqlx::Error {
    Decode(what.into())
}
