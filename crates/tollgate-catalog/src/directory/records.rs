//! All records of a document, and the document of records.

use tollgate_core::{
    Accepted, Amount, Attribute, Condition, Counting, Ipv6Prefix, Mode, OnExpire, OverLimit,
    Pattern, Policy, PolicyId, Share, Span, Timestamp, Unit, Visibility, Window, Zone,
};

use super::{ApiKey, Id, Kind, Model, ModelTier, Record, Tenant, Tier, User};
use crate::document::{Entry, Node, Value};
use crate::validate::EXEMPT_FROM_ALL;

/// The records of a document: all kinds that a document may list, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// The tiers.
    pub tiers: Vec<Tier>,
    /// The model tiers.
    pub model_tiers: Vec<ModelTier>,
    /// The models.
    pub models: Vec<Model>,
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// The users.
    pub users: Vec<User>,
    /// The policies.
    pub policies: Vec<Policy>,
}

impl Records {
    /// Adds `record`; an API key is dropped, because documents do not list API keys.
    pub(crate) fn add(&mut self, record: Record) {
        match record {
            Record::Tier(tier) => self.tiers.push(tier),
            Record::ModelTier(model_tier) => self.model_tiers.push(model_tier),
            Record::Model(model) => self.models.push(model),
            Record::Tenant(tenant) => self.tenants.push(tenant),
            Record::User(user) => self.users.push(user),
            Record::Policy(policy) => self.policies.push(policy),
            Record::ApiKey(_) => {}
        }
    }

    /// Every record; each comes after those that it refers to.
    pub fn into_records(self) -> impl Iterator<Item = Record> {
        let tiers = self.tiers.into_iter().map(Record::Tier);
        let model_tiers = self.model_tiers.into_iter().map(Record::ModelTier);
        let models = self.models.into_iter().map(Record::Model);
        let tenants = self.tenants.into_iter().map(Record::Tenant);
        let users = self.users.into_iter().map(Record::User);
        let policies = self.policies.into_iter().map(Record::Policy);
        tiers.chain(model_tiers).chain(models).chain(tenants).chain(users).chain(policies)
    }

    /// The document with these records, in the form that [`validate::records`](crate::validate::records) accepts.
    pub fn into_document(self) -> Node {
        let mut lists: Vec<(Kind, Vec<Node>)> = Vec::new();
        for record in self.into_records() {
            let node = record.to_node();
            match lists.last_mut() {
                Some((kind, items)) if *kind == record.kind() => items.push(node),
                _ => lists.push((record.kind(), vec![node])),
            }
        }
        let list = |(kind, items): (Kind, _)| entry(kind.list_name(), Value::List(items));
        Node::unplaced(Value::Map(lists.into_iter().map(list).collect()))
    }
}

impl Record {
    /// The map of this record, in the form that [`validate::record`](crate::validate::record) accepts. Fields that are
    /// not set are omitted. The map of an API key also has `prefix` and `lastUsedAt`, which only a directory sets.
    pub fn to_node(&self) -> Node {
        let mut fields = Fields::default();
        match self {
            Self::Tier(tier) => {
                fields.named(&tier.id, &tier.name);
                fields.text("priority", tier.priority.name());
            }
            Self::ModelTier(model_tier) => fields.named(&model_tier.id, &model_tier.name),
            Self::Model(model) => {
                fields.named(&model.id, &model.name);
                fields.text("modelTier", model.model_tier.as_str());
            }
            Self::Tenant(tenant) => {
                fields.named(&tenant.id, &tenant.name);
                fields.id("tier", tenant.tier.as_ref());
            }
            Self::User(user) => {
                fields.named(&user.id, &user.name);
                fields.text("tenantId", user.tenant_id.as_str());
                fields.id("tier", user.tier.as_ref());
            }
            Self::ApiKey(api_key) => fields.api_key(api_key),
            Self::Policy(policy) => fields.policy(policy),
        }
        Node::unplaced(Value::Map(fields.0))
    }
}

/// The fields of a map while it is built.
#[derive(Default)]
struct Fields(Vec<Entry>);

impl Fields {
    fn add(&mut self, name: &str, value: Value) {
        self.0.push(entry(name, value));
    }

    fn text(&mut self, name: &str, text: &str) {
        self.add(name, text_value(text));
    }

    fn id(&mut self, name: &str, id: Option<&Id>) {
        if let Some(id) = id {
            self.text(name, id.as_str());
        }
    }

    fn named(&mut self, id: &Id, name: &str) {
        self.text("id", id.as_str());
        self.text("name", name);
    }

    fn moment(&mut self, name: &str, moment: Option<Timestamp>) {
        if let Some(moment) = moment {
            self.text(name, &rfc_3339(moment));
        }
    }

    fn api_key(&mut self, api_key: &ApiKey) {
        self.named(&api_key.id, &api_key.name);
        self.text("tenantId", api_key.tenant_id.as_str());
        self.id("userId", api_key.user_id.as_ref());
        self.id("tier", api_key.tier.as_ref());
        self.moment("expiresAt", api_key.expires_at);
        self.add("revoked", Value::Bool(api_key.revoked));
        self.text("prefix", &api_key.prefix);
        self.moment("lastUsedAt", api_key.last_used_at);
    }

    fn parts_of_limit(&mut self, policy: &Policy) {
        let number = |share: Share| Value::Number(share.to_string());
        if !policy.shares.is_empty() {
            let shares = policy.shares.given();
            let shares = shares.map(|(class, share)| entry(class.name(), number(share)));
            self.add("shares", Value::Map(shares.collect()));
        }
        if let Some(split) = policy.split {
            self.add("split", Value::Map(vec![entry("share", number(split.share()))]));
        }
    }

    fn policy(&mut self, policy: &Policy) {
        self.text("id", policy.id.as_str());
        let scope = policy.per.scope();
        if tollgate_core::Per::from_scope(&scope).as_ref() == Some(&policy.per) {
            self.text("scope", &scope);
        } else {
            let per = policy.per.attributes().iter().map(Attribute::name);
            self.add("per", list(per));
        }
        if policy.ipv6_prefix != Ipv6Prefix::default() {
            self.add("ipv6Prefix", Value::Number(policy.ipv6_prefix.bits().to_string()));
        }
        if !policy.conditions.is_empty() {
            let conditions = policy.conditions.iter().map(condition).collect();
            self.add("match", Value::Map(conditions));
        }
        if policy.ignore_case {
            self.add("ignoreCase", Value::Bool(true));
        }
        if policy.unit != Unit::Requests {
            self.text("unit", policy.unit.name());
        }
        if !policy.weights.is_empty() {
            let weights = policy.weights.given();
            let weights =
                weights.map(|(kind, one)| entry(kind.name(), Value::Number(one.to_string())));
            self.add("weights", Value::Map(weights.collect()));
        }
        let number = |amount: Amount| Value::Number(amount.to_string());
        match (policy.counting, policy.limit) {
            (Counting::Bucket { refill, .. }, Some(capacity)) if capacity != Amount::ZERO => {
                self.add("limit", number(refill));
                if capacity != refill {
                    self.add("burst", number(capacity));
                }
            }
            (_, limit) => self.add("limit", limit.map_or(Value::Null, number)),
        }
        if policy.exempts_all() {
            self.text("exempt", EXEMPT_FROM_ALL);
        }
        self.parts_of_limit(policy);
        match (policy.own_window(), policy.counting.calendar()) {
            (None | Some(Span::Concurrency), _) => {}
            (Some(Span::Window(window)), _) => {
                self.add("windowSeconds", Value::Number(seconds(window)));
            }
            (Some(Span::Calendar(calendar)), zone) => {
                self.text("calendar", calendar.name());
                if let Some((_, zone)) = zone.filter(|(_, zone)| *zone != Zone::utc()) {
                    self.text("timeZone", zone.name());
                }
            }
        }
        match policy.counting {
            Counting::Log { .. } | Counting::Calendar { .. } | Counting::Concurrency => {}
            Counting::Counter { .. } | Counting::Bucket { .. } => {
                self.text("algorithm", policy.counting.name());
            }
        }
        if !policy.overrides.is_empty() {
            self.add("overrides", list(policy.overrides.iter().map(PolicyId::as_str)));
        }
        if policy.mode != Mode::default() {
            self.text("mode", policy.mode.name());
        }
        if policy.over_limit != OverLimit::default() {
            self.text("overLimit", policy.over_limit.name());
        }
        if policy.on_expire != OnExpire::default() {
            self.text("onExpire", policy.on_expire.name());
        }
        if !policy.reserve.is_empty() {
            let rules = policy.reserve.iter().map(|(unit, rule)| {
                let number = |number: &dyn std::fmt::Display| Value::Number(number.to_string());
                let fields = vec![
                    entry("quantile", number(&rule.quantile)),
                    entry("atLeast", number(&rule.at_least)),
                    entry("atMost", number(&rule.at_most)),
                ];
                entry(unit.name(), Value::Map(fields))
            });
            self.add("reserve", Value::Map(rules.collect()));
        }
        if policy.visibility != Visibility::default() {
            self.text("visibility", policy.visibility.name());
        }
        if let Some(mode) = policy.on_store_error {
            self.text("onStoreError", mode.name());
        }
        if !policy.enabled {
            self.add("enabled", Value::Bool(false));
        }
    }
}

/// What the admin calls say about where `policy` comes from: `built-in` for [`Policy::default_policy`] as long as nobody has
/// changed it, nothing about any other.
pub fn source(policy: &Policy) -> Option<&'static str> {
    policy.is_built_in().then_some("built-in")
}

fn entry(key: &str, value: Value) -> Entry {
    Entry { key: key.to_owned(), key_position: None, node: Node::unplaced(value) }
}

fn text_value(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> Value {
    Value::List(texts.map(|text| Node::unplaced(text_value(text))).collect())
}

fn condition(condition: &Condition) -> Entry {
    let test = |name| Value::Map(vec![entry(name, Value::Bool(true))]);
    let written = |pattern: &Pattern| Value::String(pattern.to_string());
    let value = match &condition.accepted {
        Accepted::Present => test("present"),
        Accepted::Absent => test("absent"),
        Accepted::AnyOf(patterns) => match &patterns[..] {
            [one] => written(one),
            several => {
                Value::List(several.iter().map(|one| Node::unplaced(written(one))).collect())
            }
        },
    };
    entry(condition.attribute.name(), value)
}

/// The seconds of a window, exact and in plain decimals.
fn seconds(window: Window) -> String {
    let (whole, ns) = (window.as_ns() / 1_000_000_000, window.as_ns() % 1_000_000_000);
    if ns == 0 {
        return whole.to_string();
    }
    format!("{whole}.{ns:09}").trim_end_matches('0').to_owned()
}

/// A time in the format of RFC 3339, in UTC.
fn rfc_3339(moment: Timestamp) -> String {
    // Nanoseconds in 64 bits end in the year 2554, long before jiff's times do.
    jiff::Timestamp::from_nanosecond(i128::from(moment.as_ns())).unwrap_or_default().to_string()
}
