//! What was allowed over time, in a bounded number of steps of one length.

use tollgate_core::Timestamp;

use super::report::Pair;

/// The most steps. An even number, so that pairs of steps can be joined.
const MAX_STEPS: usize = 120;
const FIRST_STEP_NS: u64 = 1_000_000_000;

/// The checks of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) checks: u64,
    pub(super) allowed: Pair<u64>,
}

/// Steps from the first check on. When a check is beyond the last step, steps become twice as long.
pub(super) struct Timeline {
    pub(super) start: Option<Timestamp>,
    pub(super) step_ns: u64,
    pub(super) steps: Vec<Step>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { start: None, step_ns: FIRST_STEP_NS, steps: Vec::new() }
    }
}

impl Timeline {
    /// Adds a check at `at`, which is not before the first one.
    pub(super) fn add(&mut self, at: Timestamp, allowed: Pair<u64>) {
        let since_ns = at.ns_since(*self.start.get_or_insert(at));
        let mut number = since_ns / self.step_ns;
        while number >= MAX_STEPS as u64 {
            self.join_pairs();
            number = since_ns / self.step_ns;
        }
        let index = usize::try_from(number).unwrap_or(MAX_STEPS - 1);
        if self.steps.len() <= index {
            self.steps.resize(index + 1, Step::default());
        }
        let step = &mut self.steps[index];
        step.checks += 1;
        step.allowed.old += allowed.old;
        step.allowed.new += allowed.new;
    }

    fn join_pairs(&mut self) {
        self.step_ns = self.step_ns.saturating_mul(2);
        let pairs = self.steps.chunks(2).map(|pair| {
            pair.iter().fold(Step::default(), |sum, step| Step {
                checks: sum.checks + step.checks,
                allowed: Pair {
                    old: sum.allowed.old + step.allowed.old,
                    new: sum.allowed.new + step.allowed.new,
                },
            })
        });
        self.steps = pairs.collect();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the times, every check is in the step of its time, and there are few steps.
        #[test]
        fn every_check_is_in_its_step(gaps in prop::collection::vec((0..200_u64, 0..40_u32), 1..80)) {
            let (mut timeline, mut at_ns, mut all) = (Timeline::default(), 7_u64, Vec::new());
            for (gap, exponent) in gaps {
                at_ns += gap << exponent;
                timeline.add(Timestamp::from_ns(at_ns), Pair { old: 1, new: 0 });
                all.push(at_ns);
            }
            prop_assert!(timeline.steps.len() <= MAX_STEPS);
            let start = all[0];
            for (index, step) in timeline.steps.iter().enumerate() {
                let in_step = |at: &&u64| (**at - start) / timeline.step_ns == index as u64;
                let checks = all.iter().filter(in_step).count() as u64;
                prop_assert_eq!((step.checks, step.allowed), (checks, Pair { old: checks, new: 0 }));
            }
        }
    }
}
