//! How much answers usually use, learned from those that have ended.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sketches_ddsketch::{Config, DDSketch};
use tollgate_core::Amount;

/// A quantile is off by at most this part of itself.
const RELATIVE_ERROR: f64 = 0.01;
/// The most buckets of a sketch, 8 bytes each: amounts from 1 to 10^11 with that error.
const MAX_BUCKETS: u32 = 1_280;
/// Amounts below this are alike.
const LEAST: f64 = 1.0;
/// With fewer observations than this, nothing has been learned.
const MIN_OBSERVATIONS: usize = 20;

/// What was used by the answers of each model and tenant: a sketch of the amounts for each, of at most 10 kB.
///
/// The first model and tenant that are observed are kept; beyond the bound, others are counted together.
pub struct LearnedUsage {
    sketches: Mutex<HashMap<Answers, DDSketch>>,
    max_sketches: usize,
}

/// Whose answers: the model and the tenant, if they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Answers {
    /// The model.
    pub model: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
}

impl fmt::Debug for LearnedUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LearnedUsage").field("sketches", &self.sketches().len()).finish()
    }
}

impl LearnedUsage {
    /// The usual bound: 1,000 models and tenants, at most 10 MB.
    pub const MAX_SKETCHES: usize = 1_000;

    /// Nothing learned yet; keeps at most `max_sketches` sketches.
    pub fn new(max_sketches: usize) -> Self {
        Self { sketches: Mutex::default(), max_sketches }
    }

    /// An answer to `answers` has used `amount`. O(1), under a lock.
    pub fn observe(&self, answers: &Answers, amount: Amount) {
        let mut sketches = self.sketches();
        let is_new = !sketches.contains_key(answers);
        let answers = if is_new && sketches.len() >= self.max_sketches {
            Answers::default()
        } else {
            answers.clone()
        };
        let sketch = sketches
            .entry(answers)
            .or_insert_with(|| DDSketch::new(Config::new(RELATIVE_ERROR, MAX_BUCKETS, LEAST)));
        #[expect(clippy::cast_precision_loss, reason = "a sketch is less exact than that")]
        sketch.add(amount.get() as f64);
    }

    /// The amount that the part `quantile` (0 to 1) of the answers stayed within, off by at most 1 %; `None` after fewer than 20
    /// answers. O(buckets), under a lock.
    pub fn quantile(&self, answers: &Answers, quantile: f64) -> Option<Amount> {
        let sketches = self.sketches();
        let others = Answers::default();
        let sketch = sketches.get(answers).or_else(|| sketches.get(&others))?;
        if sketch.count() < MIN_OBSERVATIONS {
            return None;
        }
        let value = sketch.quantile(quantile).ok()??;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "amounts are below 2^53, and none is negative"
        )]
        let rounded = value.ceil() as u64;
        Amount::new(rounded.min(Amount::MAX.get()))
    }

    /// A poisoned lock is fine: a sketch is only an estimate.
    fn sketches(&self) -> MutexGuard<'_, HashMap<Answers, DDSketch>> {
        self.sketches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(model: &str) -> Answers {
        Answers { model: Some(model.to_owned()), tenant: None }
    }

    fn amount(amount: u64) -> Amount {
        Amount::new(amount).unwrap()
    }

    #[test]
    fn a_quantile_is_close_and_of_one_model_only() {
        let learned = LearnedUsage::new(10);
        for used in 1..=1_000 {
            learned.observe(&of("a"), amount(used));
            learned.observe(&of("b"), amount(5));
        }
        for (quantile, exact) in [(0.5, 500), (0.95, 950), (1.0, 1_000)] {
            let learned = learned.quantile(&of("a"), quantile).unwrap().get();
            assert!(learned.abs_diff(exact) <= exact / 50 + 1, "{quantile}: {learned}");
        }
        assert!(learned.quantile(&of("b"), 0.95).unwrap().get() <= 6);
    }

    #[test]
    fn nothing_is_learned_from_a_few_answers() {
        let learned = LearnedUsage::new(10);
        for _ in 0..19 {
            learned.observe(&of("a"), amount(7));
        }
        assert_eq!(learned.quantile(&of("a"), 0.5), None);
        learned.observe(&of("a"), Amount::ZERO);
        assert!(learned.quantile(&of("a"), 0.5).is_some());
    }

    #[test]
    fn beyond_the_bound_others_are_counted_together() {
        let learned = LearnedUsage::new(2);
        for number in 0..100 {
            learned.observe(&of(&format!("model-{number}")), amount(100));
        }
        assert_eq!(learned.sketches().len(), 3);
        assert_eq!(learned.quantile(&of("model-0"), 0.5), None, "only one answer");
        let others = learned.quantile(&of("model-99"), 0.5).unwrap().get();
        assert!((99..=102).contains(&others), "{others}");
    }

    #[test]
    fn the_largest_amounts_are_learned_too() {
        let learned = LearnedUsage::new(1);
        for _ in 0..20 {
            learned.observe(&of("a"), Amount::MAX);
        }
        assert!(learned.quantile(&of("a"), 0.5).is_some());
    }
}
