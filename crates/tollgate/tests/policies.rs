//! `PolicyLimiter`: decisions with a set of policies that is replaced while checks run.

// Tells clippy that the helpers here are tests too.
#![cfg(test)]

use std::thread;
use std::time::Duration;

use tollgate::{
    Amount, Check, Decision, ManualClock, MemoryStoreOptions, Metrics, Per, Policy, PolicyId,
    PolicyLimiter, PolicySet, Window,
};

fn policies(limits: &[(&str, &str, Option<u64>)]) -> PolicySet {
    let policies = limits.iter().map(|(id, scope, limit)| {
        Policy::new(
            PolicyId::new(id).unwrap(),
            Per::from_scope(scope).unwrap(),
            limit.map(|limit| Amount::new(limit).unwrap()),
            Window::new(Duration::from_mins(1)).unwrap(),
        )
    });
    PolicySet::new(policies.collect()).unwrap()
}

fn limiter(policies: PolicySet) -> PolicyLimiter<ManualClock> {
    let options = MemoryStoreOptions::default();
    PolicyLimiter::with_clock(policies, ManualClock::default(), &options)
}

fn ask(limiter: &PolicyLimiter<ManualClock>) -> Decision {
    limiter.check(&Check::new("alice", "gpt-4"))
}

#[test]
fn all_policies_of_a_check_admit_or_none_is_charged() {
    let limiter = limiter(policies(&[("user", "USER", Some(2)), ("model", "MODEL", Some(1))]));
    assert!(ask(&limiter).allowed());
    let denied = ask(&limiter);
    assert!(!denied.allowed());
    assert_eq!(denied.headline().unwrap().limit.policy_id().as_str(), "model");
    assert!(limiter.check(&Check::new("alice", "other")).allowed(), "R3: 1 of 2 was charged");
    assert_eq!(limiter.metrics(), Metrics { allowed: 2, denied: 1 });
}

#[test]
fn to_peek_changes_nothing() {
    let limiter = limiter(policies(&[("user", "USER", Some(1))]));
    let check = Check::new("alice", "gpt-4");
    assert!(limiter.peek(&check).allowed() && limiter.peek(&check).allowed());
    assert!(ask(&limiter).allowed() && !limiter.peek(&check).allowed());
    assert_eq!(limiter.metrics().total(), 1);
}

/// R8.
#[test]
fn a_policy_that_stays_keeps_its_usage_when_the_set_is_swapped() {
    let limiter = limiter(policies(&[("user", "USER", Some(1))]));
    assert!(ask(&limiter).allowed() && !ask(&limiter).allowed());
    let old = limiter.swap(policies(&[("user", "USER", Some(2))]));
    assert_eq!(old.policies()[0].limit, Amount::new(1));
    assert_eq!(limiter.policies().policies()[0].limit, Amount::new(2));
    assert!(ask(&limiter).allowed() && !ask(&limiter).allowed());
    limiter.swap(policies(&[("user", "USER", None)]));
    let exempt = ask(&limiter);
    assert!(exempt.allowed() && exempt.limits().is_empty());
}

/// P11: each decision uses one version.
#[test]
fn a_check_never_sees_half_of_a_swap() {
    let versions = [
        [("a", "USER", Some(1)), ("b", "MODEL", Some(1))],
        [("c", "USER", Some(2)), ("d", "MODEL", Some(2))],
    ];
    let limiter = limiter(policies(&versions[0]));
    thread::scope(|scope| {
        let checks = scope.spawn(|| {
            for _ in 0..20_000 {
                let decision = ask(&limiter);
                let ids: Vec<_> =
                    decision.limits().iter().map(|l| l.limit.policy_id().as_str()).collect();
                assert!(ids == ["a", "b"] || ids == ["c", "d"], "{ids:?}");
            }
        });
        let mut version = 0;
        while !checks.is_finished() {
            version ^= 1;
            limiter.swap(policies(&versions[version]));
        }
    });
}
