//! What Explain says of each policy, beside what the policies do.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tollgate_core::{Consideration, Mode, PolicySet};
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
        let applies = |said: &Consideration| *said == Consideration::Applies;
        let (applied, _): (Vec<_>, Vec<_>) =
            explained.iter().cloned().partition(|(_, said)| applies(said));
        let met: Vec<_> =
            set.plan(&check).iter().map(|charge| charge.limit.policy_id().clone()).collect();
        prop_assert_eq!(ids(&applied), met, "what applies is what is charged");
        for (policy, said) in &explained {
            prop_assert_eq!(*said == Consideration::Disabled, !policy.enabled);
            match said {
                Consideration::Lacks(attribute) => {
                    prop_assert!(policy.per.attributes().contains(attribute));
                    prop_assert!(check.subject.get(attribute).is_none());
                }
                Consideration::Differs(attribute) => {
                    let one = policy.conditions.iter().find(|one| one.attribute == *attribute);
                    let accepted = &one.ok_or_else(|| TestCaseError::fail("no such condition"))?.values;
                    let value = check.subject.get(attribute);
                    prop_assert!(value.is_none_or(|value| accepted.iter().all(|one| one != value)));
                }
                Consideration::OverriddenBy(id) => {
                    let (other, becomes) = by_id[id];
                    prop_assert!(other.conditions.len() > policy.conditions.len());
                    prop_assert!(other.per == policy.per && other.unit == policy.unit);
                    prop_assert!(other.mode == Mode::Enforce || policy.mode == Mode::Shadow);
                    let holds = !matches!(
                        becomes,
                        Consideration::Disabled | Consideration::Lacks(_) | Consideration::Differs(_)
                    );
                    prop_assert!(holds, "{id:?}");
                }
                Consideration::Exempts => prop_assert_eq!(policy.limit, None),
                Consideration::Applies => prop_assert!(policy.limit.is_some()),
                Consideration::Disabled => {}
            }
        }
    }
}
