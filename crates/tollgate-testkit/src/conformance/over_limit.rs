//! Policies that record the cost of a denied check (R19), because it has happened already.

use tollgate_core::{Amount, Attribute, Limit, Mode, OverLimit, Policy, Reason};

use super::{MONTH, check_at, counted_by, policy};
use crate::{Harness, Limiter, Way};

const USER: &[Attribute] = &[Attribute::User];
const MODEL: &[Attribute] = &[Attribute::Model];

/// The same policy, recording what is denied.
pub(super) fn charging(policy: Policy) -> Policy {
    Policy { over_limit: OverLimit::Charge, ..policy }
}

/// P12: a cost above the limit is denied and recorded; what comes after it is denied, and a peek records nothing.
pub fn a_denied_cost_is_recorded<H: Harness>() {
    for way in Way::ALL {
        let harness = H::new();
        let policy = counted_by(way, policy("tokens", USER, 90_000, MONTH));
        let limiter = Limiter::new(&harness, vec![charging(policy)]);
        let late = check_at("alice", 95_000);
        assert_eq!(limiter.counts(&late), [0], "{way:?}: a peek");
        let denied = limiter.check(&late);
        assert!(!denied.allowed(), "{way:?}");
        assert_eq!(denied.reason(), Some(Reason::CostExceedsLimit), "{way:?}");
        assert_eq!(denied.retry_after_ms(), None, "{way:?}");
        let status = &denied.limits()[0];
        assert_eq!((status.count, status.remaining), (95_000, 0), "{way:?}");
        assert!(status.reset_after_ms > 0, "{way:?}");
        for _ in 0..2 {
            assert!(!limiter.peek(&check_at("alice", 1)).allowed(), "{way:?}");
        }
        let next = limiter.check_one(&check_at("alice", 1));
        assert!(!next.allowed && next.retry_after_ms.is_some_and(|ms| ms > 0), "{way:?}");
        assert!(!limiter.check(&check_at("alice", 0)).allowed(), "{way:?}: a cost of 0");
        // A token bucket may have got back a token.
        let count = limiter.counts(&late)[0];
        assert!((95_000..=95_001).contains(&count), "{way:?}: {count}");
        assert!(limiter.check(&check_at("bob", 90_000)).allowed(), "{way:?}: another key");
        limiter.reset(&late);
        assert!(limiter.check(&check_at("alice", 90_000)).allowed(), "{way:?}");
    }
}

/// R3: whichever limit denies, only those that say so record the cost.
pub fn the_other_limits_of_a_denied_check_record_nothing<H: Harness>() {
    for way in Way::ALL {
        for (user, model) in [(5, 1_000), (1_000, 5)] {
            let harness = H::new();
            let policies =
                [policy("user", USER, user, MONTH), policy("model", MODEL, model, MONTH)];
            let [first, second] = policies.map(|policy| counted_by(way, policy));
            let limiter = Limiter::new(&harness, vec![charging(first), second]);
            let check = check_at("alice", 8);
            let denied = limiter.check(&check);
            assert!(!denied.allowed(), "{way:?}");
            let limits: Vec<_> =
                denied.limits().iter().map(|limit| (limit.allowed, limit.count)).collect();
            assert_eq!(limits, [(user >= 8, 8), (model >= 8, 0)], "{way:?}");
            assert_eq!(limiter.counts(&check), [8, 0], "{way:?}");
            // Cheap enough for both; the first has no room if it denied before.
            let small = limiter.check(&check_at("alice", 3));
            assert_eq!(small.allowed(), user >= 8, "{way:?}");
            let second = if user >= 8 { 3 } else { 0 };
            assert_eq!(limiter.counts(&check), [11, second], "{way:?}");
        }
    }
}

/// R12: a denial that was recorded is remembered as an admission is.
pub fn a_denied_and_recorded_request_id_is_recorded_once<H: Harness>() {
    for way in Way::ALL {
        for limits in [1, 2] {
            let harness = H::new();
            let user = charging(counted_by(way, policy("user", USER, 5, MONTH)));
            let mut policies = vec![user, policy("model", MODEL, 100, MONTH)];
            policies.truncate(limits);
            let limiter = Limiter::new(&harness, policies);
            let check = check_at("alice", 8).with_request_id("first");
            let first = limiter.check(&check);
            assert!(!first.allowed(), "{way:?}");
            for _ in 0..3 {
                assert_eq!(limiter.check(&check), first, "{way:?}");
            }
            assert_eq!(limiter.counts(&check)[0], 8, "{way:?}");
            let second = check_at("alice", 8).with_request_id("second");
            assert!(!limiter.check(&second).allowed(), "{way:?}");
            assert_eq!(limiter.counts(&check)[0], 16, "{way:?}");
            assert_eq!(limiter.counts(&check)[1..], [0][..limits - 1], "{way:?}");
        }
    }
}

/// R9: usage stays an amount, and nothing is recorded in part.
pub fn what_has_no_room_below_the_most_is_not_recorded<H: Harness>() {
    for way in Way::ALL {
        let harness = H::new();
        let policy = charging(counted_by(way, policy("p", USER, 1_000, MONTH)));
        let most = Limit::of(&policy).unwrap().most_recorded().get();
        let limiter = Limiter::new(&harness, vec![policy]);
        for (cost, count) in [(most - 1_000, most - 1_000), (Amount::MAX.get(), most - 1_000)] {
            let denied = limiter.check_one(&check_at("alice", cost));
            assert!(!denied.allowed, "{way:?}");
            let missing = count.abs_diff(denied.count);
            // A token bucket may have got back a token.
            assert!(missing <= 1, "{way:?}: {} instead of {count}", denied.count);
        }
        assert!(!limiter.check(&check_at("alice", 998)).allowed(), "{way:?}");
        let count = limiter.counts(&check_at("alice", 1))[0];
        assert!((most - 4..=most - 2).contains(&count), "{way:?}: {count} of {most}");
    }
}

/// R10: a check that only a shadow limit denies is allowed, and what that limit would have to record is recorded.
pub fn a_shadow_limit_records_what_it_would_deny<H: Harness>() {
    let harness = H::new();
    let shadow = Policy { mode: Mode::Shadow, ..charging(policy("tried", USER, 1, MONTH)) };
    let limiter = Limiter::new(&harness, vec![shadow, policy("model", MODEL, 10, MONTH)]);
    let decision = limiter.check(&check_at("alice", 2));
    assert!(decision.allowed() && !decision.limits()[0].allowed);
    assert_eq!(limiter.counts(&check_at("alice", 1)), [2, 2]);
    assert!(!limiter.check(&check_at("alice", 9)).allowed(), "the other limit is full");
    assert_eq!(limiter.counts(&check_at("alice", 1)), [11, 2]);
}
