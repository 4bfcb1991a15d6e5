//! How much a lease reserves of a unit whose amount its check does not say.

use crate::{Amount, Share, Unit};

/// How much of a unit is reserved for an answer whose amount is not known yet: what most answers used so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReserveRule {
    /// The share of the answers so far that used at most what is reserved.
    pub quantile: Share,
    /// The least that is reserved.
    pub at_least: Amount,
    /// The most that is reserved; also what is reserved as long as too few answers are known.
    pub at_most: Amount,
}

impl ReserveRule {
    /// The quantile of a rule that does not say: 0.95.
    pub const DEFAULT_QUANTILE: Share = Share::NINETEEN_TWENTIETHS;

    /// What is reserved if the share [`ReserveRule::quantile`] of the answers used at most `learned`.
    pub fn amount(&self, learned: Option<Amount>) -> Amount {
        let learned = learned.unwrap_or(self.at_most);
        learned.max(self.at_least).min(self.at_most)
    }
}

/// The rules of a policy, by unit; each unit at most once.
pub type ReserveRules = Vec<(Unit, ReserveRule)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_learned_within_bounds() {
        let amount = |amount| Amount::new(amount).unwrap();
        let rule = ReserveRule {
            quantile: ReserveRule::DEFAULT_QUANTILE,
            at_least: amount(64),
            at_most: amount(4_096),
        };
        let cases = [(None, 4_096), (Some(1), 64), (Some(500), 500), (Some(9_999), 4_096)];
        for (learned, reserved) in cases {
            assert_eq!(rule.amount(learned.map(amount)), amount(reserved));
        }
    }
}
