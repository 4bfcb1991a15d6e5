//! Precedence (R4) and the headline (R5) against the reference model, on random policies that overlap.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::reference::{Model, ModelDecision, ModelLimit};
use tollgate_core::{Attribute, Counting, Decision, Policy, PolicySet, Timestamp, Window};
use tollgate_testkit::compare::in_model_words;
use tollgate_testkit::generate::{check, policies};

/// What a store would have said, made from what the model says.
fn verdict(limit: &ModelLimit) -> Verdict {
    const NS_PER_MS: u64 = 1_000_000;
    let wait = match limit.retry_after_ms {
        Some(0) => Wait::None,
        Some(ms) => Wait::Ns(ms * NS_PER_MS),
        None => Wait::Never,
    };
    Verdict::new(limit.allowed, limit.count, wait, limit.reset_after_ms * NS_PER_MS)
}

/// The same policy as a log over whole milliseconds, so that no wait is rounded. Concurrency has no window.
#[expect(clippy::unwrap_used, reason = "a second, more or less, is a window")]
fn in_whole_ms(policy: Policy) -> Policy {
    let Some(window) = policy.counting.window() else { return policy };
    let ms = window.as_ns().div_ceil(1_000_000);
    let window = Window::new(Duration::from_millis(ms)).unwrap();
    Policy { counting: Counting::Log { window }, ..policy }
}

fn config() -> ProptestConfig {
    let file = FileFailurePersistence::Direct("proptest-regressions/reference.txt");
    ProptestConfig { failure_persistence: Some(Box::new(file)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// R4: the index finds the policies that walking through all of them finds, in their order.
    #[test]
    fn a_check_meets_the_limits_that_the_model_says(
        policies in policies(1..=8), checks in vec(check(), 1..20),
    ) {
        let (set, model) = (PolicySet::new(policies.clone()).unwrap(), Model::new(policies));
        for owned in &checks {
            let check = owned.as_check();
            let plan = set.plan(&check);
            let met: Vec<_> = plan.iter().map(|charge| charge.limit.policy_id()).collect();
            prop_assert_eq!(met, model.met_by(&check));
            for charge in &plan {
                prop_assert_eq!(charge.cost, charge.limit.cost_of(&check.cost));
                // A user's key ends with its tenant. That IPv6 addresses are grouped shows in what is counted.
                let per = charge.limit.per().attributes();
                let tenant = check.subject.get(&Attribute::Tenant);
                let tenant = tenant.filter(|_| per.first() == Some(&Attribute::User));
                let expected = per.iter().map(|attribute| check.subject.get(attribute).unwrap());
                let expected: Vec<_> = expected.chain(tenant).collect();
                let is_grouped = |text: &str| text.starts_with("2001:");
                let same = charge.key_values().zip(&expected);
                let mut same = same.map(|(value, expected)| is_grouped(expected) || value == *expected);
                prop_assert!(same.all(|same| same), "{expected:?}");
                prop_assert_eq!(charge.key_values().count(), expected.len());
            }
        }
    }

    /// R5, R6, R10: the headline, its reason and its wait, from the same verdicts.
    #[test]
    fn a_decision_has_the_headline_that_the_model_says(
        policies in policies(1..=8), checks in vec((0..1_500_u64, check()), 1..60),
    ) {
        let policies: Vec<_> = policies.into_iter().map(in_whole_ms).collect();
        let set = PolicySet::new(policies.clone()).unwrap();
        let mut model = Model::new(policies);
        let mut now_ms = 1_000_000;
        for (after_ms, owned) in &checks {
            // Most checks come in the same moment, so that waits are equal and ids break ties.
            now_ms += if after_ms % 4 == 0 { *after_ms } else { 0 };
            let check = owned.as_check();
            let expected: ModelDecision = model.check(Timestamp::from_ms(now_ms), &check);
            let verdicts: Vec<_> = expected.limits.iter().map(verdict).collect();
            let decision = Decision::assemble(&set.plan(&check), &verdicts);
            prop_assert_eq!(in_model_words(&decision), expected);
        }
    }
}
