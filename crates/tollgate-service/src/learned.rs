//! How much answers usually use, learned from those that have ended.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sketches_ddsketch::{Config, DDSketch};
use tollgate_core::{Amount, Unit};

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
/// An answer teaches about its model and tenant, about its model, and about all. At the bound, new models and tenants teach only
/// about all.
pub struct LearnedUsage {
    sketches: Mutex<HashMap<Topic, DDSketch>>,
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

impl Answers {
    /// These answers, those of the model, and all: what is known best first.
    fn levels(&self) -> [Self; 3] {
        [self.clone(), Self { model: self.model.clone(), tenant: None }, Self::default()]
    }
}

/// What a sketch is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Topic {
    answers: Answers,
    quantity: Quantity,
}

/// What is learned of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Quantity {
    /// How much of a unit it used.
    Used(Unit),
    /// How many input tokens a thousand bytes of input had.
    TokensPerKilobyte,
}

impl fmt::Debug for LearnedUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LearnedUsage").field("sketches", &self.sketches().len()).finish()
    }
}

impl Default for LearnedUsage {
    fn default() -> Self {
        Self::new(Self::MAX_SKETCHES)
    }
}

impl LearnedUsage {
    /// The usual bound: 1,000 models and tenants, at most 10 MB.
    pub const MAX_SKETCHES: usize = 1_000;
    /// The share of the inputs of which no more tokens are expected than there are.
    const INPUT_QUANTILE: f64 = 0.95;

    /// Nothing learned yet; keeps at most `max_sketches` sketches, and some about all answers.
    pub fn new(max_sketches: usize) -> Self {
        Self { sketches: Mutex::default(), max_sketches }
    }

    /// An answer of `answers` has used `amount` of `unit`. O(1), under a lock.
    pub fn observe(&self, answers: &Answers, unit: &Unit, amount: Amount) {
        self.add(answers, &Quantity::Used(unit.clone()), amount.get());
    }

    /// An input of so many bytes had so many tokens. O(1), under a lock.
    pub fn observe_input(&self, answers: &Answers, bytes: u64, tokens: Amount) {
        if let Some(rate) = tokens.get().saturating_mul(1_000).checked_div(bytes) {
            self.add(answers, &Quantity::TokensPerKilobyte, rate);
        }
    }

    /// The amount of `unit` that the part `quantile` (0 to 1) of the answers stayed within, off by at most 1 %; `None` after
    /// fewer than 20 answers, whoever's. O(buckets), under a lock.
    pub fn quantile(&self, answers: &Answers, unit: &Unit, quantile: f64) -> Option<Amount> {
        self.find(answers, &Quantity::Used(unit.clone()), quantile)
    }

    /// How many tokens an input of so many bytes has at most, most likely; never more than one for two bytes. O(buckets), under a
    /// lock.
    pub fn input_tokens(&self, answers: &Answers, bytes: u64) -> Amount {
        let most = Amount::new(bytes.div_ceil(2)).unwrap_or(Amount::MAX);
        let rate = self.find(answers, &Quantity::TokensPerKilobyte, Self::INPUT_QUANTILE);
        let expected = rate.map(|rate| bytes.saturating_mul(rate.get()).div_ceil(1_000));
        expected.and_then(Amount::new).map_or(most, |expected| expected.min(most))
    }

    fn add(&self, answers: &Answers, quantity: &Quantity, amount: u64) {
        let mut sketches = self.sketches();
        let mut last = None;
        for answers in answers.levels() {
            if last.as_ref() == Some(&answers) {
                continue;
            }
            let topic = Topic { answers: answers.clone(), quantity: quantity.clone() };
            let has_room = sketches.len() < self.max_sketches || answers == Answers::default();
            if has_room || sketches.contains_key(&topic) {
                let sketch = sketches.entry(topic).or_insert_with(|| {
                    DDSketch::new(Config::new(RELATIVE_ERROR, MAX_BUCKETS, LEAST))
                });
                #[expect(clippy::cast_precision_loss, reason = "a sketch is less exact than that")]
                sketch.add(amount as f64);
            }
            last = Some(answers);
        }
    }

    fn find(&self, answers: &Answers, quantity: &Quantity, quantile: f64) -> Option<Amount> {
        let sketches = self.sketches();
        let sketch = answers.levels().into_iter().find_map(|answers| {
            let sketch = sketches.get(&Topic { answers, quantity: quantity.clone() })?;
            (sketch.count() >= MIN_OBSERVATIONS).then_some(sketch)
        })?;
        // The sketch estimates from below and above; rounded up, so that those answers do stay below.
        let value = sketch.quantile(quantile).ok()?? / (1.0 - RELATIVE_ERROR);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "amounts are below 2^53, and none is negative"
        )]
        let rounded = value.ceil() as u64;
        Amount::new(rounded.min(Amount::MAX.get()))
    }

    /// A poisoned lock is fine: a sketch is only an estimate.
    fn sketches(&self) -> MutexGuard<'_, HashMap<Topic, DDSketch>> {
        self.sketches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Unit = Unit::OutputTokens;

    fn of(model: &str) -> Answers {
        Answers { model: Some(model.to_owned()), tenant: None }
    }

    fn of_tenant(model: &str, tenant: &str) -> Answers {
        Answers { tenant: Some(tenant.to_owned()), ..of(model) }
    }

    fn amount(amount: u64) -> Amount {
        Amount::new(amount).unwrap()
    }

    fn is_about(learned: Option<Amount>, exact: u64) -> bool {
        learned.is_some_and(|learned| learned.get().abs_diff(exact) <= exact / 50 + 1)
    }

    #[test]
    fn a_quantile_is_close_and_of_one_model_and_tenant() {
        let learned = LearnedUsage::new(10);
        for used in 1..=1_000 {
            learned.observe(&of_tenant("a", "x"), &UNIT, amount(used));
            learned.observe(&of_tenant("a", "y"), &UNIT, amount(2_000));
            learned.observe(&of("b"), &UNIT, amount(5));
        }
        for (quantile, exact) in [(0.5, 500), (0.95, 950), (1.0, 1_000)] {
            let learned = learned.quantile(&of_tenant("a", "x"), &UNIT, quantile);
            assert!(is_about(learned, exact), "{quantile}: {learned:?}");
        }
        assert!(is_about(learned.quantile(&of("b"), &UNIT, 0.95), 5));
        // A tenant that is not known is like the others of the model, and a model like all.
        assert!(is_about(learned.quantile(&of_tenant("a", "z"), &UNIT, 0.95), 2_000));
        assert!(is_about(learned.quantile(&of("c"), &UNIT, 0.1), 5));
        assert_eq!(learned.quantile(&of("a"), &Unit::Tokens, 0.5), None, "another unit");
    }

    #[test]
    fn nothing_is_learned_from_a_few_answers() {
        let learned = LearnedUsage::new(10);
        for _ in 0..19 {
            learned.observe(&of("a"), &UNIT, amount(7));
        }
        assert_eq!(learned.quantile(&of("a"), &UNIT, 0.5), None);
        learned.observe(&of("b"), &UNIT, Amount::ZERO);
        assert!(learned.quantile(&of("a"), &UNIT, 0.5).is_some(), "20 answers of all");
    }

    #[test]
    fn beyond_the_bound_others_teach_about_all() {
        let learned = LearnedUsage::new(2);
        for number in 0..100 {
            learned.observe(&of(&format!("model-{number}")), &UNIT, amount(100));
        }
        assert!(learned.sketches().len() <= 3);
        assert!(is_about(learned.quantile(&of("model-99"), &UNIT, 0.5), 100));
    }

    #[test]
    fn the_tokens_of_an_input_are_learned_from_its_bytes() {
        let learned = LearnedUsage::new(10);
        assert_eq!(learned.input_tokens(&of("a"), 1_001), amount(501), "not known yet");
        assert_eq!(learned.input_tokens(&of("a"), 0), Amount::ZERO);
        assert_eq!(learned.input_tokens(&of("a"), u64::MAX), Amount::MAX);
        learned.observe_input(&of("a"), 0, amount(5));
        for _ in 0..20 {
            learned.observe_input(&of("a"), 4_000, amount(1_000));
            learned.observe_input(&of("b"), 10, amount(1_000));
        }
        assert!(is_about(Some(learned.input_tokens(&of("a"), 40_000)), 10_000));
        assert_eq!(learned.input_tokens(&of("b"), 10), amount(5), "at most one for two bytes");
    }

    #[test]
    fn the_largest_amounts_are_learned_too() {
        let learned = LearnedUsage::new(1);
        for _ in 0..20 {
            learned.observe(&of("a"), &UNIT, Amount::MAX);
        }
        assert!(learned.quantile(&of("a"), &UNIT, 0.5).is_some());
    }
}
