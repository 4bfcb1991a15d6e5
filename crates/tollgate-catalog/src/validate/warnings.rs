//! Policies and records that are valid and yet do less than they seem to: what is worth a second look.
//!
//! Nothing here is refused, because it may be meant: a check may bring a tier that no catalog declares.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use tollgate_core::{Accepted, Attribute, Condition, Mode, Pattern, Policy, PolicyId, Unit};

use super::report::{did_you_mean, shown};
use crate::directory::{DEFAULT_TIER, Kind, Records};
use crate::document::{Entry, Node, Value};
use crate::problem::{DocumentProblem, Position, Problems};

/// The nearest id is only suggested if there are at most this many.
const MAX_COMPARED_IDS: usize = 100;

/// What about one record is worth a second look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogWarning {
    /// The kind of the record, most often a policy.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// What, where, and what to write instead. Its path starts at the record: `match.tier`.
    pub problem: DocumentProblem,
}

/// The kinds whose ids conditions name by patterns.
const NAMED_BY_PATTERNS: [Kind; 5] =
    [Kind::Tier, Kind::ModelTier, Kind::Model, Kind::Tenant, Kind::User];

/// The ids in the lists of `document` that look like patterns. At most [`Problems::MAX_KEPT`] are found. O(its records).
pub fn ids_like_patterns(document: &Node) -> Vec<CatalogWarning> {
    let ids = NAMED_BY_PATTERNS.into_iter().flat_map(|kind| {
        let entries = items_of(document, kind).iter().filter_map(|item| field(item, "id"));
        entries.filter_map(move |entry| match &entry.node.value {
            Value::String(id) => like_a_pattern(kind, id, entry.node.position),
            _ => None,
        })
    });
    ids.take(Problems::MAX_KEPT).collect()
}

/// The same of the tiers, model tiers and models in `records`, which are from no document.
#[cfg(feature = "database")]
pub(crate) fn stored_ids_like_patterns(records: &Records) -> Vec<CatalogWarning> {
    let tiers = records.tiers.iter().map(|tier| (Kind::Tier, &tier.id));
    let model_tiers = records.model_tiers.iter().map(|tier| (Kind::ModelTier, &tier.id));
    let models = records.models.iter().map(|model| (Kind::Model, &model.id));
    let ids = tiers.chain(model_tiers).chain(models);
    ids.filter_map(|(kind, id)| like_a_pattern(kind, id.as_str(), None))
        .take(Problems::MAX_KEPT)
        .collect()
}

/// That a `*` in the id of a record stands for itself.
fn like_a_pattern(kind: Kind, id: &str, position: Option<Position>) -> Option<CatalogWarning> {
    if !id.contains('*') {
        return None;
    }
    let message = format!(
        "has a `*`, which stands for itself here: only `match` in a policy takes patterns, so this is one {kind} with that id"
    );
    let accepted = format!("the whole id of a {kind}");
    let problem = DocumentProblem { position, path: "id".to_owned(), message, accepted };
    Some(CatalogWarning { kind, id: id.to_owned(), problem })
}

/// The ids that a catalog declares, of the kinds that conditions name.
#[derive(Debug, Default)]
pub struct DeclaredIds {
    ids: HashMap<Kind, BTreeSet<String>>,
    /// The kinds of which only some ids are here: all those that exact conditions name, and some more.
    partial: BTreeSet<Kind>,
    /// Whether an API key is known by its id. In a file it is not: there, a key's text or its hash names it.
    pub knows_api_keys: bool,
}

impl DeclaredIds {
    /// Those of the records in a document.
    pub fn of_records(records: &Records) -> Self {
        let mut declared = Self::default();
        let tiers = records.tiers.iter().map(|tier| (Kind::Tier, tier.id.as_str()));
        let model_tiers =
            records.model_tiers.iter().map(|tier| (Kind::ModelTier, tier.id.as_str()));
        let tenants = records.tenants.iter().map(|tenant| (Kind::Tenant, tenant.id.as_str()));
        let users = records.users.iter().map(|user| (Kind::User, user.id.as_str()));
        for (kind, id) in tiers.chain(model_tiers).chain(tenants).chain(users) {
            declared.add(kind, id);
        }
        declared
    }

    /// Adds what the lists of `document` give as ids, of whichever form.
    pub(crate) fn add_written(&mut self, document: &Node) {
        for kind in [Kind::Tier, Kind::ModelTier, Kind::Tenant, Kind::User] {
            for id in items_of(document, kind).iter().filter_map(id_of) {
                self.add(kind, id);
            }
        }
    }

    /// Forgets the records of `kind`, so that no condition is compared with them.
    pub(crate) fn forget(&mut self, kind: Kind) {
        self.ids.remove(&kind);
    }

    /// Adds the id of a record of `kind`.
    pub fn add(&mut self, kind: Kind, id: &str) {
        self.ids.entry(kind).or_default().insert(id.to_owned());
    }

    fn is_partial(&self, kind: Kind) -> bool {
        self.partial.contains(&kind)
    }

    /// Notes that the catalog has more records of `kind` than were added, none of which an exact condition names.
    pub fn has_more(&mut self, kind: Kind) {
        self.partial.insert(kind);
    }

    /// The kind of the records that `attribute` names, and their ids; `None` if the catalog declares none of its own.
    fn of(&self, attribute: &Attribute) -> Option<(Kind, &BTreeSet<String>)> {
        let kind = match attribute {
            Attribute::Tier => Kind::Tier,
            Attribute::ModelTier => Kind::ModelTier,
            Attribute::Tenant => Kind::Tenant,
            Attribute::User => Kind::User,
            _ => return None,
        };
        let ids = self.ids.get(&kind)?;
        // The tier `default` is in every catalog.
        ids.iter().any(|id| kind != Kind::Tier || id != DEFAULT_TIER).then_some((kind, ids))
    }
}

/// The maps in a document from which policies were made, by the ids of the policies.
#[derive(Debug, Default)]
pub struct Places<'n> {
    /// Each with its index in the list.
    policies: HashMap<&'n str, (usize, &'n Node)>,
}

impl<'n> Places<'n> {
    /// Those of `document`, a map of lists. Of several policies with one id, the first counts. O(its policies).
    pub fn of_document(document: &'n Node) -> Self {
        let mut places = Self::default();
        for (index, policy) in items_of(document, Kind::Policy).iter().enumerate() {
            places.add(index, policy);
        }
        places
    }

    /// That of `policy`, which is the whole document.
    pub fn of_policy(policy: &'n Node) -> Self {
        let mut places = Self::default();
        places.add(0, policy);
        places
    }

    fn add(&mut self, index: usize, policy: &'n Node) {
        if let Some(id) = id_of(policy) {
            self.policies.entry(id).or_insert((index, policy));
        }
    }

    /// The index of the policy `id` in its list.
    pub(crate) fn index(&self, id: &PolicyId) -> Option<usize> {
        self.policies.get(id.as_str()).map(|(index, _)| *index)
    }

    /// The position of the value to which `steps` lead from the policy `id`, or of the last one on the way that is in the
    /// document.
    fn position(&self, id: &PolicyId, steps: &[Step<'_>]) -> Option<Position> {
        let (_, mut node) = *self.policies.get(id.as_str())?;
        let mut position = node.position;
        for step in steps {
            let next = match step {
                Step::Field(name) => field(node, name).map(|entry| &entry.node),
                Step::Item(index) => item(node, *index),
            };
            let Some(next) = next else { break };
            position = next.position.or(position);
            node = next;
        }
        position
    }
}

/// What is worth a second look in `policies`, with their `places` if they are from a document.
///
/// O(policies with their conditions), and as much for each that exempts from every limit; at most [`Problems::MAX_KEPT`] are
/// found.
pub fn warnings(
    policies: &[Policy],
    declared: &DeclaredIds,
    places: &Places<'_>,
) -> Vec<CatalogWarning> {
    let mut found = Warnings { policies, places, found: Vec::new() };
    for (index, policy) in policies.iter().enumerate() {
        for condition in &policy.conditions {
            found.undeclared(index, policy, condition, declared);
            found.api_keys(index, policy, condition, declared);
            found.tier(index, condition);
            found.resembling(index, &condition.attribute, Step::Field("match"));
        }
        for attribute in policy.per.attributes() {
            found.resembling(index, attribute, Step::Field("per"));
        }
        found.unit(index, policy);
    }
    found.duplicates();
    found.always_overridden();
    found.beside_other_windows();
    found.found.sort_by_key(|warning| warning.problem.position);
    found.found
}

struct Warnings<'d> {
    policies: &'d [Policy],
    places: &'d Places<'d>,
    found: Vec<CatalogWarning>,
}

impl Warnings<'_> {
    fn add(&mut self, index: usize, fields: &[Step<'_>], message: String, accepted: String) {
        if self.found.len() >= Problems::MAX_KEPT {
            return;
        }
        let id = &self.policies[index].id;
        let position = self.places.position(id, fields);
        let mut path = String::new();
        for step in fields {
            // Writing to a `String` cannot fail.
            _ = match step {
                Step::Field(name) if path.is_empty() => path.write_str(name),
                Step::Field(name) => write!(path, ".{name}"),
                Step::Item(index) => write!(path, "[{index}]"),
            };
        }
        let problem = DocumentProblem { position, path, message, accepted };
        self.found.push(CatalogWarning { kind: Kind::Policy, id: id.as_str().to_owned(), problem });
    }

    /// A condition on a tier, tenant, … that the catalog does not have, although it has others.
    fn undeclared(
        &mut self,
        index: usize,
        policy: &Policy,
        condition: &Condition,
        declared: &DeclaredIds,
    ) {
        let Accepted::AnyOf(patterns) = &condition.accepted else { return };
        let Some((kind, ids)) = declared.of(&condition.attribute) else { return };
        for (number, pattern) in patterns.iter().enumerate() {
            let is_exact = matches!(pattern, Pattern::Exact(_)) && !policy.ignore_case;
            if declared.is_partial(kind) && !is_exact {
                continue;
            }
            if kind == Kind::Tier && pattern.precision(DEFAULT_TIER, policy.ignore_case).is_some() {
                continue;
            }
            let is_declared = match pattern {
                Pattern::Exact(id) if !policy.ignore_case => ids.contains(id.as_str()),
                pattern => ids.iter().any(|id| pattern.precision(id, policy.ignore_case).is_some()),
            };
            if is_declared {
                continue;
            }
            let text = pattern.to_string();
            let near: Vec<_> = match pattern {
                Pattern::Exact(_) if ids.len() <= MAX_COMPARED_IDS => {
                    ids.iter().map(String::as_str).collect()
                }
                _ => Vec::new(),
            };
            let suggestion = did_you_mean(&text, &near);
            let what = match pattern {
                Pattern::Exact(_) => format!("is no {kind} of the catalog{suggestion}"),
                _ => format!("is the beginning of no {kind} of the catalog"),
            };
            let message = format!(
                "{} {what}, so only checks that give it themselves match",
                shown(&Value::String(text))
            );
            let name = condition.attribute.name();
            let item = Step::Item(number);
            let fields = [Step::Field("match"), Step::Field(name), item];
            let fields = if patterns.len() > 1 { &fields[..] } else { &fields[..2] };
            self.add(index, fields, message, format!("the id of one of `{}`", kind.list_name()));
        }
    }

    /// A condition on an API key that no key can meet: in a file, the beginning of a key, which is known by its hash only.
    fn api_keys(
        &mut self,
        index: usize,
        policy: &Policy,
        condition: &Condition,
        declared: &DeclaredIds,
    ) {
        let Accepted::AnyOf(patterns) = &condition.accepted else { return };
        if condition.attribute != Attribute::ApiKey || declared.knows_api_keys {
            return;
        }
        if policy.ignore_case {
            let message = "has no effect on `apiKey`, because a key is known by its hash only";
            let accepted = "the key in the case that it has".to_owned();
            self.add(index, &[Step::Field("ignoreCase")], message.to_owned(), accepted);
        }
        for pattern in patterns.iter().filter(|one| !matches!(one, Pattern::Exact(_))) {
            let text = shown(&Value::String(pattern.to_string()));
            let message =
                format!("{text} matches no API key, because a key is known by its hash only");
            let fields = [Step::Field("match"), Step::Field("apiKey")];
            self.add(index, &fields, message, "a whole API key, or its hash".to_owned());
        }
    }

    /// A condition on whether there is a tier: there always is.
    fn tier(&mut self, index: usize, condition: &Condition) {
        if condition.attribute != Attribute::Tier {
            return;
        }
        let message = match condition.accepted {
            Accepted::Absent => "matches no check: one without a tier of its own has `default`",
            Accepted::Present => "matches every check: one without a tier of its own has `default`",
            Accepted::AnyOf(_) => return,
        };
        let fields = [Step::Field("match"), Step::Field("tier")];
        self.add(index, &fields, message.to_owned(), "tiers by their ids".to_owned());
    }

    /// A custom attribute that was probably meant to be another one.
    fn resembling(&mut self, index: usize, attribute: &Attribute, field: Step<'_>) {
        let Attribute::Custom(name) = attribute else { return };
        let meant = match name.strip_prefix("attributes.") {
            Some(meant) => format!(" (did you mean `{meant}`?)"),
            None => did_you_mean(name, &Attribute::BUILT_IN_NAMES),
        };
        if !meant.is_empty() {
            let message = format!("{name:?} is an attribute of your own{meant}");
            let accepted =
                format!("{}, or attributes that checks give", Attribute::BUILT_IN_NAMES.join(", "));
            self.add(index, &[field], message, accepted);
        }
    }

    /// A unit of the operator's own that was probably meant to be another one.
    fn unit(&mut self, index: usize, policy: &Policy) {
        let known = [
            Unit::Requests,
            Unit::Tokens,
            Unit::InputTokens,
            Unit::OutputTokens,
            Unit::Concurrency,
        ];
        if known.contains(&policy.unit) {
            return;
        }
        let meant = did_you_mean(policy.unit.name(), &known.each_ref().map(Unit::name));
        if !meant.is_empty() {
            let message = format!("{:?} is a unit of your own{meant}", policy.unit.name());
            let accepted = "units that checks name in `cost`".to_owned();
            self.add(index, &[Step::Field("unit")], message, accepted);
        }
    }

    /// A policy that another one overrides whenever it matches.
    fn always_overridden(&mut self) {
        let policies = self.policies;
        // More conditions, each of which holds for whoever the policy counts.
        let always: HashMap<_, _> = policies
            .iter()
            .filter(|policy| {
                policy.enabled
                    && policy.mode == Mode::Enforce
                    && !policy.conditions.is_empty()
                    && policy.conditions.iter().all(|one| always_holds(policy, one))
            })
            .map(|policy| ((&policy.per, &policy.unit, policy.own_window()), &policy.id))
            .collect();
        for (index, policy) in policies.iter().enumerate() {
            let over = always.get(&(&policy.per, &policy.unit, policy.own_window()));
            if let Some(id) = over.filter(|_| policy.enabled && policy.conditions.is_empty()) {
                let id = shown(&Value::String(id.as_str().to_owned()));
                let message = format!(
                    "{id} has conditions that always hold and overrides it, so it has no effect"
                );
                self.add(index, &[], message, "one policy for each limit".to_owned());
            }
        }
        let mut exempting = 0;
        let places: HashMap<_, _> =
            policies.iter().enumerate().map(|(index, policy)| (&policy.id, index)).collect();
        for policy in
            policies.iter().filter(|policy| policy.enabled && policy.mode == Mode::Enforce)
        {
            let id = shown(&Value::String(policy.id.as_str().to_owned()));
            for index in policy.overrides.iter().filter_map(|id| places.get(id).copied()) {
                if policies[index].enabled && matches_whenever(policy, &policies[index]) {
                    let message =
                        format!("{id} overrides it whenever it matches, so it has no effect");
                    self.add(index, &[], message, "a policy that applies to somebody".to_owned());
                }
            }
            if !policy.exempts_all() || exempting == MAX_COMPARED_EXEMPTIONS {
                continue;
            }
            exempting += 1;
            for (index, other) in policies.iter().enumerate() {
                let stands =
                    other.exempts_all() || !other.enabled || other.overrides.contains(&policy.id);
                if !stands && matches_whenever(policy, other) {
                    let message =
                        format!("{id} exempts from it whenever it matches, so it has no effect");
                    self.add(index, &[], message, "a policy that applies to somebody".to_owned());
                }
            }
        }
    }

    /// Two policies that limit the same of the same subjects.
    fn duplicates(&mut self) {
        let policies = self.policies;
        let mut firsts = HashMap::new();
        for (index, policy) in policies.iter().enumerate().filter(|(_, policy)| policy.enabled) {
            if self.found.len() >= Problems::MAX_KEPT {
                return;
            }
            let conditions = sorted(&policy.conditions);
            let counted = (&policy.per, &policy.unit, policy.own_window(), policy.counting.name());
            let same = (counted, conditions, policy.mode, policy.ignore_case, policy.exempts_all());
            match firsts.get(&same) {
                None => _ = firsts.insert(same, &policy.id),
                // One of the two does not apply, which is told elsewhere.
                Some(&first) if overrides(policies, &policy.id, first) => {}
                Some(first) => {
                    let first = shown(&Value::String(first.as_str().to_owned()));
                    let message = format!(
                        "limits the same as {first}, with the same conditions, so both apply and the lower limit decides"
                    );
                    self.add(index, &[], message, "one policy for each limit".to_owned());
                }
            }
        }
    }

    /// A policy that is more specific than others, which apply beside it because they are over other windows.
    fn beside_other_windows(&mut self) {
        let policies = self.policies;
        let is_counted = |policy: &&Policy| {
            policy.enabled && policy.mode == Mode::Enforce && policy.limit.is_some()
        };
        // The windows of the policies that count the same under the same conditions, each with one of them.
        let mut windows: HashMap<_, HashMap<_, &PolicyId>> = HashMap::new();
        for policy in policies.iter().filter(is_counted) {
            let kind = (&policy.per, &policy.unit, sorted(&policy.conditions));
            windows.entry(kind).or_default().entry(policy.own_window()).or_insert(&policy.id);
        }
        for (index, policy) in policies.iter().enumerate().filter(|(_, policy)| is_counted(policy))
        {
            let conditions = sorted(&policy.conditions);
            if policy.own_window().is_none() || conditions.len() > MAX_COMPARED_CONDITIONS {
                continue;
            }
            let mut ids = BTreeSet::new();
            for subset in 0..(1_usize << conditions.len()).saturating_sub(1) {
                let chosen = conditions.iter().enumerate();
                let chosen = chosen.filter(|(place, _)| subset & (1 << place) != 0);
                let chosen: Vec<_> = chosen.map(|(_, condition)| *condition).collect();
                let Some(others) = windows.get(&(&policy.per, &policy.unit, chosen)) else {
                    continue;
                };
                // Only of what it overrides over its own window might one think that it overrides it altogether.
                if !others.contains_key(&policy.own_window()) {
                    continue;
                }
                let beside = others.iter().filter(|(window, id)| {
                    window.is_some()
                        && **window != policy.own_window()
                        && !policy.overrides.contains(id)
                });
                ids.extend(beside.map(|(_, id)| id.as_str()).take(MAX_NAMED));
            }
            if !ids.is_empty() {
                let ids = ids.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", ");
                let message = format!(
                    "overrides only limits over its own window; what it matches also meets {ids}"
                );
                let accepted = format!("that, or `overrides: [{ids}]` to replace it");
                self.add(index, &[], message, accepted);
            }
        }
    }
}

/// The most policies with `exempt: all` that are compared with all others.
const MAX_COMPARED_EXEMPTIONS: usize = 100;
/// Policies with more conditions are not compared with those that have fewer.
const MAX_COMPARED_CONDITIONS: usize = 4;
/// The most policies that a warning names.
const MAX_NAMED: usize = 3;

fn sorted(conditions: &[Condition]) -> Vec<&Condition> {
    let mut sorted: Vec<_> = conditions.iter().collect();
    sorted.sort_by(|a, b| a.attribute.cmp(&b.attribute));
    sorted
}

/// Whether `condition` holds for every subject that `policy` counts.
fn always_holds(policy: &Policy, condition: &Condition) -> bool {
    let is_any = match &condition.accepted {
        Accepted::Present => true,
        Accepted::Absent => false,
        Accepted::AnyOf(patterns) => {
            patterns.iter().any(|one| matches!(one, Pattern::Prefix(prefix) if prefix.is_empty()))
        }
    };
    is_any && policy.per.attributes().contains(&condition.attribute)
}

/// Whether one of two policies names the other in `overrides`.
fn overrides(policies: &[Policy], one: &PolicyId, other: &PolicyId) -> bool {
    policies.iter().any(|policy| {
        (policy.id == *one && policy.overrides.contains(other))
            || (policy.id == *other && policy.overrides.contains(one))
    })
}

/// Whether `policy` matches every subject that `other` matches, as far as equal conditions tell.
fn matches_whenever(policy: &Policy, other: &Policy) -> bool {
    let counted = other.per.attributes();
    policy.per.attributes().iter().all(|attribute| counted.contains(attribute))
        && policy.ignore_case == other.ignore_case
        && policy.conditions.iter().all(|condition| other.conditions.contains(condition))
}

/// One step from a policy to one of its values.
#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

/// The items of the list of `kind` in `document`.
fn items_of(document: &Node, kind: Kind) -> &[Node] {
    match field(document, kind.list_name()).map(|list| &list.node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

/// The id that `record` has, if it is a text.
fn id_of(record: &Node) -> Option<&str> {
    match &field(record, "id")?.node.value {
        Value::String(id) => Some(id),
        _ => None,
    }
}

fn item(node: &Node, index: usize) -> Option<&Node> {
    match &node.value {
        Value::List(items) => items.get(index),
        _ => None,
    }
}

fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Entry> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key == name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Format;
    use crate::policy_file;

    /// The ids of the policies among `items`, written as in YAML, about which there is a warning that contains `says`.
    fn warned(items: &[String], says: &str) -> Vec<String> {
        let text = format!("policies:\n{}", items.concat());
        let policies = policy_file::parse("p", &text, Format::Yaml).unwrap();
        let warnings = warnings(&policies, &DeclaredIds::default(), &Places::default());
        let of_it = warnings.into_iter().filter(|one| one.problem.message.contains(says));
        of_it.map(|one| one.id).collect()
    }

    #[test]
    fn exemptions_are_compared_with_all_policies_up_to_a_bound() {
        let numbers = 0..=MAX_COMPARED_EXEMPTIONS;
        let items: Vec<_> = numbers
            .flat_map(|number| {
                [
                    format!("  - {{id: e{number}, exempt: all, match: {{team: t{number}}}}}\n"),
                    format!("  - {{id: p{number}, per: [user], match: {{team: t{number}}}, limit: 1, window: 1m}}\n"),
                ]
            })
            .collect();
        let expected: Vec<_> =
            (0..MAX_COMPARED_EXEMPTIONS).map(|number| format!("p{number}")).collect();
        assert_eq!(warned(&items, "exempts from it whenever it matches"), expected);
    }

    #[test]
    fn policies_with_few_conditions_are_compared_with_those_that_have_fewer() {
        for (count, is_compared) in
            [(1, true), (MAX_COMPARED_CONDITIONS, true), (MAX_COMPARED_CONDITIONS + 1, false)]
        {
            let conditions: Vec<_> = (0..count).map(|number| format!("a{number}: x")).collect();
            let items = [
                "  - {id: day, scope: USER, limit: 9, window: 1d}\n".to_owned(),
                "  - {id: minute, scope: USER, limit: 5, window: 1m}\n".to_owned(),
                format!(
                    "  - {{id: special, scope: USER, limit: 7, window: 1m, match: {{{}}}}}\n",
                    conditions.join(", ")
                ),
            ];
            let found = warned(&items, "what it matches also meets day");
            assert_eq!(found.contains(&"special".to_owned()), is_compared, "{count}: {found:?}");
        }
    }
}
