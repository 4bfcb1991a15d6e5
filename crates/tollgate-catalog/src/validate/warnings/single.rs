//! Warnings about a policy by itself.

use tollgate_core::{Accepted, Attribute, Condition, Pattern, Policy, Unit};

use super::super::report::{did_you_mean, shown};
use super::places::Step;
use super::{DeclaredIds, Warnings};
use crate::directory::{DEFAULT_TIER, Kind};
use crate::document::Value;

/// The nearest id is only suggested if there are at most this many.
const MAX_COMPARED_IDS: usize = 100;

impl Warnings<'_> {
    /// A condition on a tier, tenant, … that the catalog does not have, although it has others.
    pub(super) fn undeclared(
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
    pub(super) fn api_keys(
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
    pub(super) fn tier(&mut self, index: usize, condition: &Condition) {
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
    pub(super) fn resembling(&mut self, index: usize, attribute: &Attribute, field: Step<'_>) {
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

    /// A reservation that may be larger than the limit: it is denied, however long one waits.
    pub(super) fn reserve(&mut self, index: usize, policy: &Policy) {
        let Some(limit) = policy.limit else { return };
        for (unit, rule) in policy.reserve.iter().filter(|(unit, _)| *unit == policy.unit) {
            if rule.at_most > limit {
                let message = format!(
                    "{} is more than the limit of {}, and a lease that reserves more than the limit is always denied",
                    rule.at_most.get(),
                    limit.get()
                );
                let fields =
                    [Step::Field("reserve"), Step::Field(unit.name()), Step::Field("atMost")];
                self.add(index, &fields, message, format!("at most {}", limit.get()));
            }
        }
    }

    /// A unit of the operator's own that was probably meant to be another one.
    pub(super) fn unit(&mut self, index: usize, policy: &Policy) {
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
}
