//! One enabled policy, compiled.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::matching::table::{PatternTable, PatternTableBuilder};
use crate::matching::{Precision, folded};
use crate::{
    Accepted, Attribute, Limit, Mode, Pattern, Per, Policy, PolicyId, PriorityClass, Span, Subject,
};

/// The number of a rule among the rules of a set, which are in the order of the policies.
pub(super) type RuleIndex = u32;

/// An enabled policy, compiled.
#[derive(Debug)]
pub(super) struct Rule {
    /// The limit of each priority class; all are the same if there are no shares. `None` exempts.
    pub(super) limits: Option<[Arc<Limit>; PriorityClass::ALL.len()]>,
    per: Per,
    /// The conditions, in the order of their attributes.
    pub(super) tests: Box<[Test]>,
    pub(super) ignore_case: bool,
    /// Whether all its conditions ask for exact values.
    pub(super) is_exact: bool,
    pub(super) mode: Mode,
    /// Rules of one group have the same `per` and `unit`.
    pub(super) group: u32,
    /// Rules of one shape have conditions on the same attributes.
    pub(super) shape: u32,
    /// The window of the limits that it overrides; `None` for every window.
    pub(super) window: Option<Span>,
    /// The rules that it names, in ascending order.
    pub(super) overrides: Box<[RuleIndex]>,
    pub(super) exempts_all: bool,
}

/// A condition, compiled.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) attribute: Attribute,
    accepted: Compiled,
}

#[derive(Debug)]
enum Compiled {
    Present,
    Absent,
    /// The usual case: no table for one value.
    One(Box<str>),
    AnyOf(PatternTable<()>),
}

impl Rule {
    /// Whether `subject` has every attribute that it counts per.
    #[inline]
    pub(super) fn counts_per_attributes_of(&self, subject: &Subject<'_>) -> bool {
        self.per.attributes().iter().all(|attribute| subject.get(attribute).is_some())
    }
}

impl Test {
    /// How precisely it describes `subject`; `None` if it does not hold.
    #[inline]
    pub(super) fn precision(&self, subject: &Subject<'_>, ignore_case: bool) -> Option<Precision> {
        let value = subject.get(&self.attribute);
        match &self.accepted {
            Compiled::Present => value.map(|_| Precision::LEAST),
            Compiled::Absent => value.is_none().then_some(Precision::LEAST),
            Compiled::One(accepted) => {
                let value = value?;
                let holds =
                    if ignore_case { folded(value) == **accepted } else { value == &**accepted };
                holds.then_some(Precision::EXACT)
            }
            Compiled::AnyOf(table) if ignore_case => table.precision(&folded(value?)),
            Compiled::AnyOf(table) => table.precision(value?),
        }
    }

    fn of(attribute: &Attribute, accepted: &Accepted, ignore_case: bool) -> Self {
        let accepted = match accepted {
            Accepted::Present => Compiled::Present,
            Accepted::Absent => Compiled::Absent,
            Accepted::AnyOf(patterns) => match &patterns[..] {
                [Pattern::Exact(value)] if ignore_case => Compiled::One(folded(value).into()),
                [Pattern::Exact(value)] => Compiled::One(value.as_str().into()),
                patterns => {
                    let mut table = PatternTableBuilder::default();
                    for pattern in patterns {
                        *table.entry(pattern, ignore_case) = ();
                    }
                    Compiled::AnyOf(table.build())
                }
            },
        };
        Self { attribute: attribute.clone(), accepted }
    }
}

/// The rules of the enabled ones of `policies`, in their order.
pub(super) fn compile(policies: &[Policy]) -> Vec<Rule> {
    let enabled: Vec<&Policy> = policies.iter().filter(|policy| policy.enabled).collect();
    let indices: HashMap<&PolicyId, RuleIndex> =
        enabled.iter().map(|policy| &policy.id).zip(0..).collect();
    let (mut groups, mut shapes) = (HashMap::new(), HashMap::new());
    enabled
        .iter()
        .map(|policy| {
            let mut conditions: Vec<_> = policy.conditions.iter().collect();
            conditions.sort_by(|a, b| a.attribute.cmp(&b.attribute));
            let tests = conditions.iter().map(|condition| {
                Test::of(&condition.attribute, &condition.accepted, policy.ignore_case)
            });
            let shape: Vec<_> = conditions.iter().map(|one| &one.attribute).collect();
            // A policy that is named but disabled has no rule.
            let named = policy.overrides.iter().filter_map(|id| indices.get(id).copied());
            let mut overrides: Vec<RuleIndex> = named.collect();
            overrides.sort_unstable();
            let is_exact = conditions.iter().all(|one| asks_for_exact_values(&one.accepted));
            Rule {
                limits: Limit::of_classes(policy),
                per: policy.per.clone(),
                tests: tests.collect(),
                ignore_case: policy.ignore_case,
                is_exact,
                mode: policy.mode,
                group: number_of(&mut groups, (&policy.per, &policy.unit)),
                shape: number_of(&mut shapes, shape),
                window: policy.own_window(),
                overrides: overrides.into(),
                exempts_all: policy.exempts_all(),
            }
        })
        .collect()
}

/// The number of `key`: the same for equal keys.
fn number_of<K: Eq + Hash>(numbers: &mut HashMap<K, u32>, key: K) -> u32 {
    let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    *numbers.entry(key).or_insert(next)
}

fn asks_for_exact_values(accepted: &Accepted) -> bool {
    match accepted {
        Accepted::AnyOf(patterns) => {
            patterns.iter().all(|pattern| matches!(pattern, Pattern::Exact(_)))
        }
        Accepted::Present | Accepted::Absent => false,
    }
}
