//! Validates one record of the directory: every field, so that all problems are listed at once.

#![expect(
    clippy::option_option,
    reason = "the outer is `None` after a problem, as everywhere here; the inner if nothing was given"
)]

use std::collections::HashMap;

use tollgate_core::Timestamp;
use tollgate_core::subject::ACCEPTED_IDS;

use super::report::{At, Fields, Report, did_you_mean, shown};
use crate::directory::{
    ApiKey, Id, Kind, Model, ModelTier, PriorityClass, Record, Tenant, Tier, User, user_address,
};
use crate::document::{Entry, Node, Value};
use crate::problem::Position;

const ACCEPTED_MOMENTS: &str = "a moment as in RFC 3339, such as \"2030-12-31T23:59:59Z\", from 1970 to 2554 and with at \
     most milliseconds";

/// The fields of a record, in the order in which messages list them.
fn fields_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Tier => &["id", "name", "priority"],
        Kind::ModelTier => &["id", "name"],
        Kind::Model => &["id", "name", "modelTier"],
        Kind::Tenant => &["id", "name", "tier"],
        Kind::User => &["id", "tenantId", "name", "tier"],
        Kind::ApiKey => &["id", "name", "tenantId", "userId", "tier", "expiresAt", "revoked"],
        // Policies have a separate validator.
        Kind::Policy => &[],
    }
}

/// Validates the records of one list, and remembers their ids.
pub(super) struct RecordValidator<'r> {
    report: &'r mut Report,
    kind: Kind,
    /// The first record with each id: its index and its position.
    ids: HashMap<String, (usize, Option<Position>)>,
}

impl<'r> RecordValidator<'r> {
    pub(super) fn new(kind: Kind, report: &'r mut Report) -> Self {
        Self { report, kind, ids: HashMap::new() }
    }

    /// The record at `at`, number `index` of its list; `None` if anything is wrong with it.
    pub(super) fn record(&mut self, at: &At<'_>, index: usize, node: &Node) -> Option<Record> {
        let Value::Map(entries) = &node.value else {
            let accepted = format!("a map with the fields of a {}", self.kind);
            self.report.mismatch(at, &node.value, accepted);
            return None;
        };
        let fields = self.report.fields(at, entries, fields_of(self.kind));
        // Do not use `?` before every field has been validated.
        let id = self.own_id(at, index, fields);
        let name = self.name(at, fields);
        let required = |validator: &mut Self, field| validator.required(at, fields, field);
        let record = match self.kind {
            Kind::Tier => {
                let priority = self.priority(at, fields);
                let (id, name) = named(id?, name?);
                Record::Tier(Tier { id, name, priority: priority? })
            }
            Kind::ModelTier => {
                let (id, name) = named(id?, name?);
                Record::ModelTier(ModelTier { id, name })
            }
            Kind::Model => {
                let model_tier = required(self, "modelTier");
                let (id, name) = named(id?, name?);
                Record::Model(Model { id, name, model_tier: model_tier? })
            }
            Kind::Tenant => {
                let tier = self.optional(at, fields, "tier");
                let (id, name) = named(id?, name?);
                Record::Tenant(Tenant { id, name, tier: tier? })
            }
            Kind::User => {
                let tenant_id = required(self, "tenantId");
                let tier = self.optional(at, fields, "tier");
                let (id, name) = named(id?, name?);
                Record::User(User { id, tenant_id: tenant_id?, name, tier: tier? })
            }
            Kind::ApiKey => Record::ApiKey(self.api_key(at, fields, id, name)?),
            Kind::Policy => return None,
        };
        Some(record)
    }

    fn api_key(
        &mut self,
        at: &At<'_>,
        fields: Fields<'_>,
        id: Option<Id>,
        name: Option<Option<String>>,
    ) -> Option<ApiKey> {
        let tenant_id = self.required(at, fields, "tenantId");
        let user_id = self.optional(at, fields, "userId");
        let tier = self.optional(at, fields, "tier");
        let expires_at = self.moment(at, fields, "expiresAt");
        let revoked = self.report.flag(at, fields, "revoked", false);
        let (id, name) = named(id?, name?);
        Some(ApiKey {
            id,
            name,
            tenant_id: tenant_id?,
            user_id: user_id?,
            tier: tier?,
            expires_at: expires_at?,
            revoked: revoked?,
            prefix: String::new(),
            last_used_at: None,
        })
    }

    fn own_id(&mut self, at: &At<'_>, index: usize, fields: Fields<'_>) -> Option<Id> {
        let id = self.required(at, fields, "id")?;
        let entry = fields.get("id")?;
        let tenant = fields.given("tenantId").filter(|_| self.kind == Kind::User);
        let address = match tenant.map(|entry| &entry.node.value) {
            Some(Value::String(tenant)) => user_address(tenant, id.as_str()),
            _ => id.to_string(),
        };
        if let Some((first, position)) = self.ids.get(&address) {
            let on_line = position.map(|at| format!(", on line {}", at.line)).unwrap_or_default();
            let (list, shown) = (self.kind.list_name(), shown(&entry.node.value));
            let message = format!("{shown} is the id of {list}[{first}]{on_line}");
            let of = if self.kind == Kind::User { " of a tenant" } else { "" };
            let accepted = format!("a different id for each {}{of}", self.kind);
            self.report.problem(&at.field(entry), message, accepted);
            return None;
        }
        self.ids.insert(address, (index, entry.node.position));
        Some(id)
    }

    /// The required id in `field`.
    fn required(&mut self, at: &At<'_>, fields: Fields<'_>, field: &str) -> Option<Id> {
        let Some(entry) = fields.get(field) else {
            self.report.problem(&at.missing(field), "is missing", ACCEPTED_IDS);
            return None;
        };
        self.id(at, entry)
    }

    /// The id in `field`; `Some(None)` if it is omitted or null.
    fn optional(&mut self, at: &At<'_>, fields: Fields<'_>, field: &str) -> Option<Option<Id>> {
        match fields.given(field) {
            Some(entry) => self.id(at, entry).map(Some),
            None => Some(None),
        }
    }

    fn id(&mut self, at: &At<'_>, entry: &Entry) -> Option<Id> {
        let at = at.field(entry);
        let text = self.report.text(&at, &entry.node.value, ACCEPTED_IDS)?;
        let id = Id::new(text);
        if let Err(problem) = &id {
            let message = format!("{} {problem}", shown(&entry.node.value));
            self.report.problem(&at, message, ACCEPTED_IDS);
        }
        id.ok()
    }

    /// The name; its length is bounded like that of an id.
    fn name(&mut self, at: &At<'_>, fields: Fields<'_>) -> Option<Option<String>> {
        let name = self.optional(at, fields, "name")?;
        Some(name.map(|name| name.as_str().to_owned()))
    }

    fn priority(&mut self, at: &At<'_>, fields: Fields<'_>) -> Option<PriorityClass> {
        let accepted = PriorityClass::ACCEPTED;
        let Some(entry) = fields.given("priority") else { return Some(PriorityClass::default()) };
        let at = at.field(entry);
        let name = self.report.text(&at, &entry.node.value, accepted)?;
        let priority = PriorityClass::parse(name);
        if priority.is_none() {
            let near = did_you_mean(name, &PriorityClass::ALL.map(PriorityClass::name));
            let message = format!("{} is not a priority class{near}", shown(&entry.node.value));
            self.report.problem(&at, message, accepted);
        }
        priority
    }

    fn moment(
        &mut self,
        at: &At<'_>,
        fields: Fields<'_>,
        field: &str,
    ) -> Option<Option<Timestamp>> {
        let Some(entry) = fields.given(field) else { return Some(None) };
        let at = at.field(entry);
        let text = self.report.text(&at, &entry.node.value, ACCEPTED_MOMENTS)?;
        let moment = moment(text);
        if moment.is_none() {
            let message = format!("{} is not an accepted time", shown(&entry.node.value));
            self.report.problem(&at, message, ACCEPTED_MOMENTS);
        }
        moment.map(Some)
    }
}

/// The id, and the name, which defaults to the id.
fn named(id: Id, name: Option<String>) -> (Id, String) {
    let name = name.unwrap_or_else(|| id.as_str().to_owned());
    (id, name)
}

/// The time in `text`, if it can be stored exactly.
fn moment(text: &str) -> Option<Timestamp> {
    let parsed: jiff::Timestamp = text.parse().ok()?;
    let ns = u64::try_from(parsed.as_nanosecond()).ok()?;
    (ns % 1_000_000 == 0).then(|| Timestamp::from_ns(ns))
}
