use std::sync::Arc;
use std::time::Duration;

use tollgate_catalog::SnapshotReader;
use tollgate_core::{
    Attribute, Cost, ManualClock, Mode, Per, Policy, PolicyId, PolicySet, Subject, Unit, Window,
};
use tollgate_store::MemoryStore;
use tollgate_store::memory::MemoryStoreOptions;

use super::*;

type Service = RateLimitService<MemoryStore<ManualClock>>;

fn policy(id: &str, scope: &str, limit: u64) -> Policy {
    let window = Window::new(Duration::from_mins(1)).unwrap();
    let per = Per::from_scope(scope).unwrap();
    Policy::new(PolicyId::new(id).unwrap(), per, Amount::new(limit), window)
}

fn service(policies: Vec<Policy>) -> Service {
    let store = MemoryStore::with_clock(ManualClock::default(), &MemoryStoreOptions::default());
    let set = PolicySet::exactly(policies).unwrap();
    RateLimitService::new(store, SnapshotReader::fixed(set))
}

fn check(attribute: &'static Attribute, value: &'static str, hits: u64) -> Check<'static> {
    let cost = Cost::one_request().with(Unit::Requests, Amount::new(hits).unwrap());
    Check::of(Subject::empty().with(attribute, value)).at_cost(cost)
}

fn alice(hits: u64) -> Check<'static> {
    check(&Attribute::User, "alice", hits)
}

fn model(hits: u64) -> Check<'static> {
    check(&Attribute::Model, "gpt-4", hits)
}

async fn ask(service: &Service, checks: &[Check<'_>]) -> (bool, Vec<(bool, Vec<u64>)>) {
    let together = service.check_together(checks, Uncovered::Allow).await.unwrap();
    let counts = |part: &Part| part.decision.limits().iter().map(|limit| limit.count).collect();
    let parts = together.parts.iter().map(|part| (part.decision.allowed(), counts(part)));
    (together.allowed, parts.collect())
}

/// R3 over subjects: if one denies, none is charged.
#[tokio::test]
async fn all_are_charged_or_none() {
    let service = service(vec![policy("user", "USER", 3), policy("model", "MODEL", 5)]);
    let both = |user, other| [alice(user), model(other)];
    let allowed = (true, vec![(true, vec![2]), (true, vec![1])]);
    assert_eq!(ask(&service, &both(2, 1)).await, allowed);
    let denied = (false, vec![(false, vec![2]), (true, vec![1])]);
    assert_eq!(ask(&service, &both(2, 1)).await, denied);
    assert_eq!(ask(&service, &both(1, 5)).await, (false, vec![(true, vec![2]), (false, vec![1])]));
    assert_eq!(ask(&service, &both(1, 4)).await, (true, vec![(true, vec![3]), (true, vec![5])]));
    let overall = service.check_together(&both(1, 1), Uncovered::Allow).await.unwrap().decision;
    assert_eq!((overall.allowed(), overall.limits().len()), (false, 2));
}

#[tokio::test]
async fn a_limit_that_two_meet_is_charged_for_both() {
    let service = service(vec![policy("all", "GLOBAL", 5), policy("user", "USER", 9)]);
    let checks = [alice(2), model(1)];
    assert_eq!(ask(&service, &checks).await, (true, vec![(true, vec![3, 2]), (true, vec![3])]));
    let (allowed, parts) = ask(&service, &checks).await;
    assert_eq!((allowed, parts[0].0, parts[1].0), (false, false, false), "3 more do not fit");
    assert!(ask(&service, &[alice(2), model(0)]).await.0);
}

#[tokio::test]
async fn a_cost_of_0_charges_nothing() {
    let service = service(vec![policy("user", "USER", 2), policy("model", "MODEL", 5)]);
    assert_eq!(ask(&service, &[alice(0), model(3)]).await.1, [(true, vec![0]), (true, vec![3])]);
    assert_eq!(ask(&service, &[alice(0), model(0)]).await.1, [(true, vec![0]), (true, vec![3])]);
}

#[tokio::test]
async fn shadow_policies_do_not_deny() {
    let shadow = Policy { mode: Mode::Shadow, ..policy("shadow", "USER", 1) };
    let service = service(vec![shadow, policy("model", "MODEL", 5)]);
    let checks = [alice(2), model(1)];
    assert_eq!(ask(&service, &checks).await, (true, vec![(true, vec![0]), (true, vec![1])]));
}

#[tokio::test]
async fn what_no_policy_covers_is_allowed_or_denied_as_asked() {
    let mut exempt = policy("exempt", "TENANT", 1);
    exempt.limit = None;
    let service = service(vec![policy("user", "USER", 2), exempt]);
    let exempted = check(&Attribute::Tenant, "acme", 1);
    for (checks, covered, uncovered, expected) in [
        (vec![model(1)], vec![false], Uncovered::Allow, true),
        (vec![model(1)], vec![false], Uncovered::Deny, false),
        (vec![exempted.clone()], vec![true], Uncovered::Deny, true),
        (vec![alice(1), model(1)], vec![true, false], Uncovered::Deny, false),
        (vec![alice(1), exempted], vec![true, true], Uncovered::Deny, true),
    ] {
        let together = service.check_together(&checks, uncovered).await.unwrap();
        let is_covered: Vec<_> = together.parts.iter().map(|part| part.is_covered).collect();
        assert_eq!((together.allowed, is_covered), (expected, covered), "{checks:?}");
    }
    assert_eq!(ask(&service, &[alice(0)]).await.1[0].1, [1], "a denial charged nothing");
}

/// Requests of two descriptors from many threads: exactly as many pass as the smaller limit admits, and no other charge is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exactly_the_limit_passes_however_many_ask() {
    let service =
        Arc::new(service(vec![policy("user", "USER", 500), policy("model", "MODEL", 200)]));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let service = Arc::clone(&service);
        tasks.push(tokio::spawn(async move {
            let mut passed = 0;
            for _ in 0..100 {
                passed += u64::from(ask(&service, &[alice(1), model(1)]).await.0);
            }
            passed
        }));
    }
    let mut passed = 0;
    for task in tasks {
        passed += task.await.unwrap();
    }
    assert_eq!(passed, 200);
    let (_, parts) = ask(&service, &[alice(0), model(0)]).await;
    assert_eq!((&parts[0].1[..], &parts[1].1[..]), (&[200][..], &[200][..]));
}
