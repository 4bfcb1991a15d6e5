//! Finds the rules that match a subject without evaluating those that cannot.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::rule::{Rule, RuleIndex};
use crate::matching::table::{PatternTable, PatternTableBuilder};
use crate::matching::{Precision, folded};
use crate::{Accepted, Attribute, Condition, Pattern, Policy, Subject};

/// The rules of a set, each by one of its conditions.
#[derive(Debug)]
pub(super) struct Index {
    /// The rules without conditions.
    unconditional: Vec<RuleIndex>,
    by_attribute: Vec<ByAttribute>,
}

/// The rules that are found by their condition on one attribute.
#[derive(Debug)]
struct ByAttribute {
    attribute: Attribute,
    by_value: PatternTable<Vec<Entry>>,
    /// Those that ignore case, by folded patterns.
    by_folded_value: PatternTable<Vec<Entry>>,
    present: Vec<Entry>,
    absent: Vec<Entry>,
}

/// A rule that is found by one of its conditions.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rule: RuleIndex,
    /// Which of its conditions that is.
    test: u32,
    /// Whether several of its patterns may match one value, so that it may be found again.
    repeats: bool,
}

/// The rules that match a subject, and how precisely their conditions describe it.
#[derive(Debug, Default)]
pub(super) struct Matching {
    pub(super) found: SmallVec<[Found; 16]>,
    /// Those of all rules whose conditions are not all exact, one after the other.
    precisions: SmallVec<[Precision; 16]>,
}

/// A rule that matches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) rule: RuleIndex,
    /// Where its precisions begin.
    precisions_at: u32,
    /// Whether another rule overrides it.
    pub(super) is_overridden: bool,
}

impl Matching {
    /// The rules, in their order here.
    pub(super) fn rules(&self) -> impl Iterator<Item = RuleIndex> {
        self.found.iter().map(|found| found.rule)
    }

    /// The precisions of `found`, in the order of its conditions; empty if all are exact.
    pub(super) fn precisions(&self, found: Found, rule: &Rule) -> &[Precision] {
        if rule.is_exact {
            return &[];
        }
        let begin = found.precisions_at as usize;
        self.precisions.get(begin..begin + rule.tests.len()).unwrap_or_default()
    }

    /// Raises the precision with which the rule of `entry` was found to `precision`; `false` if it was not found yet.
    fn raise(&mut self, entry: Entry, rule: &Rule, precision: Precision) -> bool {
        let Some(found) = self.found.iter().find(|found| found.rule == entry.rule) else {
            return false;
        };
        if !rule.is_exact
            && let Some(known) =
                self.precisions.get_mut((found.precisions_at + entry.test) as usize)
        {
            *known = precision.max(*known);
        }
        true
    }

    /// Adds `rule` if it matches `subject`. `known` is one of its conditions whose precision is known.
    #[inline]
    fn add(
        &mut self,
        index: RuleIndex,
        rule: &Rule,
        subject: &Subject<'_>,
        known: Option<(u32, Precision)>,
    ) {
        if !rule.counts_per_attributes_of(subject) {
            return;
        }
        let precisions_at = self.precisions.len();
        for (test, number) in rule.tests.iter().zip(0..) {
            let precision = match known {
                Some((known, precision)) if known == number => Some(precision),
                _ => test.precision(subject, rule.ignore_case),
            };
            let Some(precision) = precision else {
                self.precisions.truncate(precisions_at);
                return;
            };
            if !rule.is_exact {
                self.precisions.push(precision);
            }
        }
        let precisions_at = u32::try_from(precisions_at).unwrap_or(u32::MAX);
        self.found.push(Found { rule: index, precisions_at, is_overridden: false });
    }
}

impl Index {
    /// The only rule, if it has no conditions.
    #[inline]
    pub(super) fn only_unconditional(&self) -> Option<RuleIndex> {
        match (self.unconditional.as_slice(), self.by_attribute.as_slice()) {
            ([rule], []) => Some(*rule),
            _ => None,
        }
    }

    /// The rules that match `subject`.
    pub(super) fn matching(&self, rules: &[Rule], subject: &Subject<'_>) -> Matching {
        let mut matching = Matching::default();
        for &index in &self.unconditional {
            matching.add(index, &rules[index as usize], subject, None);
        }
        for by_attribute in &self.by_attribute {
            by_attribute.find(subject, |entry, precision| {
                let rule = &rules[entry.rule as usize];
                if entry.repeats && matching.raise(entry, rule, precision) {
                    return;
                }
                matching.add(entry.rule, rule, subject, Some((entry.test, precision)));
            });
        }
        matching
    }

    /// Indexes each of `rules`, which are those of the enabled ones of `policies`, by the one of its conditions whose
    /// patterns the fewest other rules use.
    pub(super) fn of(rules: &[Rule], policies: &[Policy]) -> Self {
        let enabled: Vec<&Policy> = policies.iter().filter(|policy| policy.enabled).collect();
        let mut askers: HashMap<(&Attribute, &Pattern), usize> = HashMap::new();
        for condition in enabled.iter().flat_map(|policy| &policy.conditions) {
            for pattern in patterns(condition) {
                *askers.entry((&condition.attribute, pattern)).or_default() += 1;
            }
        }
        let crowd = |condition: &Condition| match &condition.accepted {
            // Any value, or none: this narrows a check down the least.
            Accepted::Present | Accepted::Absent => usize::MAX,
            Accepted::AnyOf(patterns) => {
                patterns.iter().map(|pattern| askers[&(&condition.attribute, pattern)]).sum()
            }
        };
        let mut unconditional = Vec::new();
        let mut builders: HashMap<&Attribute, ByAttributeBuilder> = HashMap::new();
        for (policy, (index, rule)) in enabled.into_iter().zip((0..).zip(rules)) {
            let Some(condition) = policy.conditions.iter().min_by_key(|one| crowd(one)) else {
                unconditional.push(index);
                continue;
            };
            let number = rule.tests.iter().position(|test| test.attribute == condition.attribute);
            let test = number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
            let entry = Entry { rule: index, test, repeats: patterns(condition).len() > 1 };
            let builder = builders.entry(&condition.attribute).or_default();
            builder.add(entry, &condition.accepted, policy.ignore_case);
        }
        let built = builders.into_iter().map(|(attribute, builder)| builder.build(attribute));
        Self { unconditional, by_attribute: built.collect() }
    }
}

fn patterns(condition: &Condition) -> &[Pattern] {
    match &condition.accepted {
        Accepted::AnyOf(patterns) => patterns,
        Accepted::Present | Accepted::Absent => &[],
    }
}

impl ByAttribute {
    /// Calls `found` with each rule whose condition holds for `subject`; more than once if several of its patterns match.
    #[inline]
    fn find(&self, subject: &Subject<'_>, mut found: impl FnMut(Entry, Precision)) {
        let mut each = |entries: &[Entry], precision| {
            for entry in entries {
                found(*entry, precision);
            }
        };
        let Some(value) = subject.get(&self.attribute) else {
            return each(&self.absent, Precision::LEAST);
        };
        self.by_value.find(value, |entries, precision| each(entries, precision));
        if !self.by_folded_value.is_empty() {
            let folded = folded(value);
            self.by_folded_value.find(&folded, |entries, precision| each(entries, precision));
        }
        each(&self.present, Precision::LEAST);
    }
}

#[derive(Debug, Default)]
struct ByAttributeBuilder {
    by_value: PatternTableBuilder<Vec<Entry>>,
    by_folded_value: PatternTableBuilder<Vec<Entry>>,
    present: Vec<Entry>,
    absent: Vec<Entry>,
}

impl ByAttributeBuilder {
    fn add(&mut self, entry: Entry, accepted: &Accepted, ignore_case: bool) {
        let table = if ignore_case { &mut self.by_folded_value } else { &mut self.by_value };
        match accepted {
            Accepted::Present => self.present.push(entry),
            Accepted::Absent => self.absent.push(entry),
            Accepted::AnyOf(patterns) => {
                for pattern in patterns {
                    let entries = table.entry(pattern, ignore_case);
                    // A pattern that is given twice adds the rule only once.
                    if entries.last().is_none_or(|last| last.rule != entry.rule) {
                        entries.push(entry);
                    }
                }
            }
        }
    }

    fn build(self, attribute: &Attribute) -> ByAttribute {
        ByAttribute {
            attribute: attribute.clone(),
            by_value: self.by_value.build(),
            by_folded_value: self.by_folded_value.build(),
            present: self.present,
            absent: self.absent,
        }
    }
}
