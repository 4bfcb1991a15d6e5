//! What Explain says of each policy, beside what the policies do.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tollgate_core::{Consideration, Mode, PolicySet, Precedence};
use tollgate_testkit::generate::{check, policies};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("proptest-regressions/explain.txt"))),
        ..ProptestConfig::default()
    })]

    /// R4: the policies that apply are those whose limits the check meets, and each of the others has a reason that is true.
    #[test]
    fn explain_says_what_becomes_of_each_policy(policies in policies(0..=6), asked in check()) {
        let set = PolicySet::new(policies).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let check = asked.as_check();
        let explained = set.explain(&check);
        let ids = |policies: &[(&tollgate_core::Policy, Consideration)]| {
            policies.iter().map(|(policy, _)| policy.id.clone()).collect::<Vec<_>>()
        };
        let all: Vec<_> = set.policies().iter().map(|policy| policy.id.clone()).collect();
        prop_assert_eq!(ids(&explained), all, "each policy, in their order");
        let by_id: HashMap<_, _> =
            explained.iter().map(|(policy, said)| (&policy.id, (*policy, said))).collect();
        let applies = |said: &Consideration| {
            matches!(said, Consideration::Applies | Consideration::AppliesBeside(_))
        };
        let (applied, _): (Vec<_>, Vec<_>) =
            explained.iter().cloned().partition(|(_, said)| applies(said));
        let met: Vec<_> =
            set.plan(&check).iter().map(|charge| charge.limit.policy_id().clone()).collect();
        prop_assert_eq!(ids(&applied), met, "what applies is what is charged");
        let matches = |said: &Consideration| !matches!(
            said,
            Consideration::Disabled | Consideration::Lacks(_) | Consideration::Differs(_)
        );
        for (policy, said) in &explained {
            prop_assert_eq!(policy.enabled && policy.unmet(&check.subject).is_empty(), matches(said));
            prop_assert_eq!(*said == Consideration::Disabled, !policy.enabled);
            match said {
                Consideration::Lacks(attribute) => {
                    prop_assert!(policy.per.attributes().contains(attribute));
                    prop_assert!(check.subject.get(attribute).is_none());
                }
                Consideration::Differs(attribute) => {
                    let one = policy.conditions.iter().find(|one| one.attribute == *attribute);
                    let one = one.ok_or_else(|| TestCaseError::fail("no such condition"))?;
                    prop_assert_eq!(one.precision(&check.subject, policy.ignore_case), None);
                }
                Consideration::OverriddenBy(id, why) => {
                    let (other, becomes) = by_id[id];
                    prop_assert!(other.mode == Mode::Enforce || policy.mode == Mode::Shadow);
                    prop_assert!(matches(becomes), "{id:?}");
                    let (conditions, others) = (policy.conditions.len(), other.conditions.len());
                    match why {
                        Precedence::Named => prop_assert!(other.overrides.contains(&policy.id)),
                        Precedence::ExemptsAll => prop_assert!(other.exempts_all()),
                        Precedence::MoreConditions => prop_assert!(others > conditions),
                        Precedence::MorePrecise(attribute) => {
                            prop_assert_eq!(others, conditions);
                            let on = |policy: &tollgate_core::Policy| {
                                let all = policy.conditions.iter();
                                all.filter(|one| one.attribute == *attribute)
                                    .find_map(|one| one.precision(&check.subject, policy.ignore_case))
                            };
                            prop_assert!(on(other) > on(policy));
                        }
                    }
                    if matches!(why, Precedence::MoreConditions | Precedence::MorePrecise(_)) {
                        prop_assert!(other.per == policy.per && other.unit == policy.unit);
                    }
                }
                Consideration::AppliesBeside(id) => {
                    let (other, becomes) = by_id[id];
                    prop_assert!(matches(becomes) && policy.limit.is_some());
                    prop_assert!(other.per == policy.per && other.unit == policy.unit);
                    prop_assert!(other.counting.span() != policy.counting.span());
                    prop_assert!(other.conditions.len() >= policy.conditions.len());
                }
                Consideration::Exempts => prop_assert_eq!(policy.limit, None),
                Consideration::Applies => prop_assert!(policy.limit.is_some()),
                Consideration::Disabled => {}
            }
        }
    }
}
