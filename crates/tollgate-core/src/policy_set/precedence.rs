//! Which of the policies that match override others (R4).
//!
//! Three steps, each over what the one before left: policies that others name in `overrides` are dropped; a policy that
//! exempts from everything drops all others; of policies that limit the same, the less specific ones are dropped. No step
//! drops everything: names form no circle, an exemption stays, and one policy is never more specific than itself.

use std::cmp::Reverse;

use super::PolicySet;
use super::index::{Found, Matching};
use super::rule::Rule;
use crate::matching::Precision;
use crate::{Mode, Span};

impl PolicySet {
    /// Drops what is overridden from `matching`, and puts the rest in the order of the policies.
    pub(super) fn retain_applying(&self, matching: &mut Matching) {
        if self.has_overrides {
            self.drop_named(matching);
        }
        if self.has_exemptions_from_all {
            self.drop_exempted(matching);
        }
        self.drop_less_specific(matching);
        matching.found.sort_unstable_by_key(|found| found.rule);
    }

    fn rule(&self, found: Found) -> &Rule {
        &self.rules[found.rule as usize]
    }

    fn drop_named(&self, matching: &mut Matching) {
        let all = matching.found.clone();
        matching.found.retain(|found| {
            let mut overriding = all.iter().map(|other| self.rule(*other));
            !overriding.any(|other| {
                other.overrides.binary_search(&found.rule).is_ok()
                    && may_override(other.mode, self.rule(*found).mode)
            })
        });
    }

    fn drop_exempted(&self, matching: &mut Matching) {
        let exempting = matching.found.iter().map(|found| self.rule(*found));
        let exempting = exempting.filter(|rule| rule.exempts_all);
        // An enforced exemption drops more than one in shadow mode.
        let Some(mode) = exempting.map(|rule| rule.mode).min_by_key(|mode| *mode == Mode::Shadow)
        else {
            return;
        };
        matching.found.retain(|found| {
            let rule = self.rule(*found);
            rule.exempts_all || !may_override(mode, rule.mode)
        });
    }

    fn drop_less_specific(&self, matching: &mut Matching) {
        matching.found.sort_unstable_by_key(|found| {
            let rule = self.rule(*found);
            (rule.group, Reverse(rule.tests.len()))
        });
        let mut group_begin = 0;
        for place in 0..matching.found.len() {
            let rule = self.rule(matching.found[place]);
            if self.rule(matching.found[group_begin]).group != rule.group {
                group_begin = place;
            }
            let is_overridden = self.is_less_specific(matching, place, group_begin);
            matching.found[place].is_overridden = is_overridden;
        }
        matching.found.retain(|found| !found.is_overridden);
    }

    /// Whether another rule of the group that begins at `group_begin` is more specific than that at `place`.
    fn is_less_specific(&self, matching: &Matching, place: usize, group_begin: usize) -> bool {
        let found = matching.found[place];
        let rule = self.rule(found);
        for other_found in &matching.found[group_begin..] {
            let other = self.rule(*other_found);
            if other.group != rule.group || other.tests.len() < rule.tests.len() {
                return false;
            }
            let has_more = other.tests.len() > rule.tests.len();
            if !has_more && rule.is_exact {
                // Nothing with as many conditions is more precise.
                return false;
            }
            if may_override(other.mode, rule.mode)
                && windows_meet(other.window, rule.window)
                && !(other.exempts_all || rule.exempts_all)
                && (has_more
                    || other.shape == rule.shape
                        && is_more_precise(
                            matching.precisions(*other_found, other),
                            matching.precisions(found, rule),
                        ))
            {
                return true;
            }
        }
        false
    }
}

/// Whether a policy of `mode` may override one of `other`: a trial changes nothing that is enforced (decision 0001).
pub(super) fn may_override(mode: Mode, other: Mode) -> bool {
    mode == Mode::Enforce || other == Mode::Shadow
}

/// Whether two limits are over the same window, of which `None` is any.
pub(super) fn windows_meet(window: Option<Span>, other: Option<Span>) -> bool {
    match (window, other) {
        (Some(window), Some(other)) => window == other,
        _ => true,
    }
}

/// Whether `precisions`, empty for exact ones, are nowhere less than `others` of the same attributes, and somewhere more.
fn is_more_precise(precisions: &[Precision], others: &[Precision]) -> bool {
    if precisions.is_empty() {
        return others.iter().any(|other| *other < Precision::EXACT);
    }
    let mut pairs = precisions.iter().zip(others);
    pairs.clone().all(|(one, other)| one >= other) && pairs.any(|(one, other)| one > other)
}
