//! LiteLLM's keys, teams and users with their limits.

use tollgate_catalog::Position;
use tollgate_catalog::document::{Entry, Node, Value};

use crate::ImportError;
use crate::attributes::exactly;
use crate::fields::{Fields, Unreadable};
use crate::litellm::{MINUTE_SECONDS, RATES, reason};
use crate::rule::{Limit, Rule, Rules, Test};

/// Whose limits they are.
#[derive(Clone, Copy)]
pub(crate) enum Holder {
    Key,
    Team,
    User,
}

/// Fields that describe a record and limit nothing.
const DESCRIPTIONS: [&str; 28] = [
    "key",
    "key_name",
    "key_alias",
    "token",
    "team_alias",
    "user_alias",
    "user_email",
    "user_role",
    "org_id",
    "organization_id",
    "metadata",
    "created_at",
    "updated_at",
    "created_by",
    "updated_by",
    "aliases",
    "config",
    "permissions",
    "admins",
    "members",
    "members_with_roles",
    "tags",
    "spend",
    "model_spend",
    "last_refreshed_at",
    "last_active",
    "blocked",
    "object_permission_id",
];

impl Holder {
    /// The kind of a record without a list that says so.
    pub(crate) fn of_fields(fields: Fields<'_>) -> Self {
        let has = |names: &[&str]| names.iter().any(|name| fields.get(name).is_some());
        if has(&["token", "key", "key_alias", "key_name"]) {
            Self::Key
        } else if has(&["team_id", "team_alias"]) {
            Self::Team
        } else {
            Self::User
        }
    }

    /// Its attribute, the first part of the ids of its policies, and the fields that may identify it.
    fn names(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::Key => ("apiKey", "key", &["key_alias", "token"]),
            Self::Team => ("tenant", "team", &["team_id", "team_alias"]),
            Self::User => ("user", "user", &["user_id"]),
        }
    }
}

/// Adds the limits of `record` to `rules`.
pub(crate) fn add(holder: Holder, record: &Node, rules: &mut Rules) -> Result<(), ImportError> {
    let (attribute, kind, names) = holder.names();
    let fields = Fields::of(record, kind)?;
    let mut id = None;
    for name in names {
        id = id.or(fields.text(name)?);
    }
    let Some(id) = id else {
        let why =
            format!("it has no {}; a key itself does not belong into a policy", names.join(" or "));
        rules.leave_out(record.position, format!("the limits of a {kind}"), why);
        return Ok(());
    };
    let record = Record { attribute, kind, names, id };
    if fields.flag("blocked")? {
        record.add("blocked", &[], None, Limit::Ban, fields.position, rules);
    }
    for entry in fields.iter().filter(|entry| fields.get(&entry.key).is_some()) {
        record.field(entry, fields, rules)?;
    }
    let Some(metadata) = fields.get("metadata") else { return Ok(()) };
    for entry in Fields::of(&metadata.node, "metadata")?.iter() {
        if let Some((_, ending, unit)) = rate(&entry.key, "model_") {
            record.by_model(entry, ending, unit, rules)?;
        }
    }
    Ok(())
}

/// The rate that `field` limits: `rpm_limit`, or with the start `model_` also `model_rpm_limit`.
fn rate(field: &str, start: &str) -> Option<(&'static str, &'static str, Option<&'static str>)> {
    let name = field.strip_prefix(start)?.strip_suffix("_limit")?;
    RATES.into_iter().find(|(rate, ..)| *rate == name)
}

/// A key, a team or a user.
struct Record<'n> {
    attribute: &'static str,
    kind: &'static str,
    /// The fields that may identify it.
    names: &'static [&'static str],
    id: &'n str,
}

impl Record<'_> {
    /// Adds the limit in `entry`, one of `fields`, or reports it.
    fn field(
        &self,
        entry: &Entry,
        fields: Fields<'_>,
        rules: &mut Rules,
    ) -> Result<(), ImportError> {
        let name = entry.key.as_str();
        if let Some((_, ending, unit)) = rate(name, "") {
            if let Some(limit) = self.limit(fields, name, rules) {
                self.add(ending, &[], unit, minute(limit), entry.node.position, rules);
            }
        } else if let Some((_, ending, unit)) = rate(name, "team_member_") {
            if let Some(limit) = self.limit(fields, name, rules) {
                let id = format!("member-{ending}");
                self.add(&id, &[("user", None)], unit, minute(limit), entry.node.position, rules);
            }
        } else if let Some((_, ending, unit)) = rate(name, "model_") {
            self.by_model(entry, ending, unit, rules)?;
        } else if !DESCRIPTIONS.contains(&name) && !self.names.contains(&name) {
            let why = match name {
                "team_id" => {
                    "whose it is is said in its record in Tollgate's catalog, as `tenantId`"
                }
                "user_id" => "whose it is is said in its record in Tollgate's catalog, as `userId`",
                _ if reason(name).is_some() => reason(name).unwrap_or_default(),
                "models" | "allowed_routes" | "allowed_model_region" | "guardrails" => {
                    "a policy limits how much passes, not what may be asked for"
                }
                "expires" | "duration" | "key_rotation_at" | "auto_rotate" => {
                    "when a key expires is said in its record in Tollgate's catalog"
                }
                _ if name.ends_with("_limit_type") => "a limit always denies what is above it",
                _ => "this import does not know it",
            };
            let list_is_empty = matches!(&entry.node.value, Value::List(items) if items.is_empty());
            let map_is_empty = matches!(&entry.node.value, Value::Map(items) if items.is_empty());
            if !list_is_empty && !map_is_empty {
                rules.leave_out(
                    entry.key_position,
                    format!("{name} of {} {}", self.kind, self.id),
                    why,
                );
            }
        }
        Ok(())
    }

    /// The number in the field `name` of `fields`, if it is given; reported if it is no number.
    fn limit<'f>(&self, fields: Fields<'f>, name: &str, rules: &mut Rules) -> Option<&'f Node> {
        fields.number(name).unwrap_or_else(|Unreadable { position, name, why }| {
            let what = format!("{name} of {} {}", self.kind, self.id);
            rules.leave_out(position, what, format!("{why}, so this limit is left out"));
            None
        })
    }

    /// Adds a limit for each model in `entry`.
    fn by_model(
        &self,
        entry: &Entry,
        ending: &str,
        unit: Option<&'static str>,
        rules: &mut Rules,
    ) -> Result<(), ImportError> {
        if !matches!(entry.node.value, Value::Map(_)) {
            let what = format!("{} of {} {}", entry.key, self.kind, self.id);
            rules.leave_out(entry.node.position, what, "it is no map from models to limits");
            return Ok(());
        }
        let limits = Fields::of(&entry.node, &entry.key)?;
        for model in limits.iter() {
            if let Some(limit) = self.limit(limits, &model.key, rules) {
                let also = [("model", Some(model.key.as_str()))];
                let id = format!("{}/{ending}", model.key);
                self.add(&id, &also, unit, minute(limit), model.node.position, rules);
            }
        }
        Ok(())
    }

    /// Adds one limit, per this record and the attributes `also`, which must have these values.
    fn add(
        &self,
        ending: &str,
        also: &[(&str, Option<&str>)],
        unit: Option<&'static str>,
        limit: Limit,
        position: Option<Position>,
        rules: &mut Rules,
    ) {
        let mut per = vec![self.attribute.to_owned()];
        let mut conditions = vec![(self.attribute.to_owned(), Test::AnyOf(vec![exactly(self.id)]))];
        for (attribute, value) in also {
            per.push((*attribute).to_owned());
            conditions.extend(
                value.map(|value| ((*attribute).to_owned(), Test::AnyOf(vec![exactly(value)]))),
            );
        }
        let id = rules.id(&format!("{}/{}/{ending}", self.kind, self.id));
        let (shadow, overrides) = (false, Vec::new());
        rules.add(Rule { id, per, conditions, unit, limit, shadow, overrides, position });
    }
}

fn minute(limit: &Node) -> Limit {
    Limit::Of { limit: limit.clone(), window_seconds: MINUTE_SECONDS }
}
