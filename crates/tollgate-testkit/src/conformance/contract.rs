//! Rules that hold at one moment: no time passes in these tests, so every store can run them.

use tollgate_core::{
    Amount, Attribute, Check, Cost, Mode, Policy, PriorityClass, Reason, Share, Subject, Unit,
};

use super::{MONTH, check_at, counted_by, policy};
use crate::{Harness, Limiter, Way};

const USER: &[Attribute] = &[Attribute::User];
const MODEL: &[Attribute] = &[Attribute::Model];
const USER_MODEL: &[Attribute] = &[Attribute::User, Attribute::Model];

fn per_user<H: Harness>(
    harness: &H,
    limit: u64,
    with: impl Fn(Policy) -> Policy,
) -> Limiter<'_, H> {
    Limiter::new(harness, vec![with(policy("p", USER, limit, MONTH))])
}

/// R4: no limit, no store, no denial.
pub fn a_check_that_no_limit_meets_is_allowed<H: Harness>() {
    let harness = H::new();
    let limiter = Limiter::new(&harness, vec![policy("p", &[Attribute::Tenant], 0, MONTH)]);
    for decision in [limiter.check(&check_at("alice", 1)), limiter.peek(&check_at("alice", 1))] {
        assert!(decision.allowed() && decision.limits().is_empty());
        assert!(decision.headline().is_none());
    }
}

/// R1, R2 and R17, at one moment.
pub fn a_limit_admits_exactly_its_amount<H: Harness>() {
    for (way, (cost, admitted)) in
        Way::ALL.into_iter().flat_map(|way| [(1, 10), (3, 3)].map(|costs| (way, costs)))
    {
        let harness = H::new();
        let limiter = per_user(&harness, 10, |policy| counted_by(way, policy));
        for index in 0..20 {
            let status = limiter.check_one(&check_at("alice", cost));
            let count = cost * admitted.min(index + 1);
            assert_eq!(status.allowed, index < admitted, "check {index} at {cost}");
            assert_eq!((status.count, status.remaining), (count, 10 - count));
        }
        assert!(limiter.check(&check_at("bob", 1)).allowed(), "a key of its own");
    }
}

/// R4: `limit: 0` bans, whatever the cost.
pub fn a_limit_of_zero_admits_nothing<H: Harness>() {
    for way in Way::ALL {
        let harness = H::new();
        let limiter = per_user(&harness, 0, |policy| counted_by(way, policy));
        for cost in [0, 1, Amount::MAX.get()] {
            let decision = limiter.check(&check_at("alice", cost));
            assert_eq!(decision.reason(), Some(Reason::Banned), "cost {cost}");
            assert_eq!(decision.retry_after_ms(), None);
            assert_eq!(limiter.counts(&check_at("alice", cost)), [0]);
        }
    }
}

/// R1: a cost of 0 is admitted while the usage is below the limit, and charges nothing.
pub fn a_cost_of_zero_needs_room_and_charges_nothing<H: Harness>() {
    for way in Way::ALL {
        let harness = H::new();
        let limiter = per_user(&harness, 2, |policy| counted_by(way, policy));
        for used in 0..=2 {
            for _ in 0..3 {
                let status = limiter.check_one(&check_at("alice", 0));
                assert_eq!((status.allowed, status.count), (used < 2, used));
            }
            limiter.check(&check_at("alice", 1));
        }
    }
}

/// R6: a cost above the limit never fits, and the answer says so.
pub fn a_cost_above_the_limit_never_fits<H: Harness>() {
    for way in Way::ALL {
        let harness = H::new();
        let limiter = per_user(&harness, 5, |policy| counted_by(way, policy));
        for cost in [6, Amount::MAX.get()] {
            let decision = limiter.check(&check_at("alice", cost));
            assert_eq!(decision.reason(), Some(Reason::CostExceedsLimit));
            assert_eq!(decision.retry_after_ms(), None);
        }
        assert_eq!(limiter.check_one(&check_at("alice", 5)).count, 5);
    }
}

/// R9: amounts up to 2^53 − 1, alone and in sums.
pub fn the_largest_amounts_do_not_wrap<H: Harness>() {
    let max = Amount::MAX.get();
    for way in Way::ALL {
        let steps = [
            (max - 1, true, max - 1),
            (2, false, max - 1),
            (max, false, max - 1),
            (1, true, max),
            (0, false, max),
            (1, false, max),
            (max, false, max),
        ];
        let harness = H::new();
        let limiter = per_user(&harness, max, |policy| counted_by(way, policy));
        for (cost, allowed, count) in steps {
            let status = limiter.check_one(&check_at("alice", cost));
            assert_eq!((status.allowed, status.count), (allowed, count), "{way:?}: {cost}");
            assert_eq!(status.remaining, max - count);
        }
        let lowered = per_user(&harness, 1, |policy| counted_by(way, policy));
        let status = lowered.check_one(&check_at("alice", 1));
        assert_eq!((status.allowed, status.count, status.remaining), (false, max, 0));
        assert!(status.retry_after_ms.is_some_and(|wait_ms| wait_ms > 0));
    }
}

/// P2: usage is the same before and after 10,000 denials, over all limits, for every reason.
pub fn a_denied_check_changes_nothing<H: Harness>() {
    let harness = H::new();
    let tokens = |policy| Policy { unit: Unit::Tokens, ..policy };
    let shadow = |policy| Policy { mode: Mode::Shadow, ..policy };
    let policies = vec![
        policy("per-user", USER, 3, MONTH),
        counted_by(Way::Counter, policy("per-model", MODEL, 1_000, MONTH)),
        tokens(policy("tokens", USER_MODEL, 100, MONTH)),
        shadow(policy("tried", USER_MODEL, 1_000, MONTH)),
        policy("banned", &[Attribute::Tenant], 0, MONTH),
    ];
    let limiter = Limiter::new(&harness, policies);
    let of = |user, tokens| {
        let tokens = Amount::new(tokens).unwrap();
        Check::new(user, "gpt-4").at_cost(Cost::default().with(Unit::Tokens, tokens))
    };
    for _ in 0..3 {
        assert!(limiter.check(&of("full", 10)).allowed());
    }
    assert!(limiter.check(&of("half", 60)).allowed());
    let banned = Check {
        subject: Subject::new("half", "gpt-4").with(&Attribute::Tenant, "evil"),
        ..of("half", 1)
    };
    let denied = [of("full", 1), of("half", 41), of("half", 101), of("new", 101), banned];
    let all_counts = || denied.iter().map(|check| limiter.counts(check)).collect::<Vec<_>>();
    let before = all_counts();
    for _ in 0..10_000 / denied.len() {
        for check in &denied {
            assert!(!limiter.check(check).allowed());
        }
    }
    assert_eq!(all_counts(), before);
    assert!(limiter.check(&of("half", 40)).allowed(), "what was left is still there");
}

/// A peek returns what a check would return, any number of times.
pub fn a_peek_changes_nothing<H: Harness>() {
    for way in Way::ALL {
        let harness = H::new();
        let limiter = per_user(&harness, 2, |policy| counted_by(way, policy));
        for used in 0..=2 {
            for _ in 0..100 {
                let status = limiter.peek_one(&check_at("alice", 1));
                assert_eq!(
                    (status.allowed, status.count, status.remaining),
                    (used < 2, used, 2 - used)
                );
            }
            assert_eq!(limiter.check(&check_at("alice", 1)).allowed(), used < 2);
        }
    }
}

/// R10 and R3: a shadow limit decides, counts and reports; it neither denies, nor counts checks that are denied.
pub fn a_shadow_limit_denies_nothing_and_charges_what_it_admits<H: Harness>() {
    for way in Way::ALL {
        let harness = H::new();
        let shadow = counted_by(way, policy("tried", USER_MODEL, 2, MONTH));
        let policies =
            vec![Policy { mode: Mode::Shadow, ..shadow }, policy("enforced", USER, 4, MONTH)];
        let limiter = Limiter::new(&harness, policies);
        for (index, counts) in [[1, 1], [2, 2], [2, 3], [2, 4], [2, 4]].into_iter().enumerate() {
            let decision = limiter.check(&check_at("alice", 1));
            assert_eq!(decision.allowed(), index < 4);
            assert_eq!(decision.limits()[0].allowed, index < 2, "the shadow limit says so");
            assert_eq!(
                decision.limits().iter().map(|limit| limit.count).collect::<Vec<_>>(),
                counts
            );
            assert_eq!(decision.headline().unwrap().limit.policy_id().as_str(), "enforced");
        }
    }
}

/// A reset gives one key its whole limit back, and no other.
pub fn a_reset_forgets_one_key<H: Harness>() {
    for way in Way::ALL {
        let harness = H::new();
        let limiter = per_user(&harness, 1, |policy| counted_by(way, policy));
        for user in ["alice", "bob"] {
            assert!(limiter.check(&check_at(user, 1)).allowed());
        }
        limiter.reset(&check_at("alice", 1));
        limiter.reset(&check_at("nobody", 1));
        assert_eq!(limiter.counts(&check_at("alice", 1)), [0]);
        assert_eq!(limiter.counts(&check_at("bob", 1)), [1]);
        assert!(limiter.check(&check_at("alice", 1)).allowed());
    }
}

/// R8: a change of a policy's limit keeps its usage.
pub fn a_changed_limit_keeps_its_usage<H: Harness>() {
    for way in Way::ALL {
        let harness = H::new();
        // Limits, one after the other, and (allowed, count, remaining) of the next check.
        let steps = [
            (3, (true, 1, 2)),
            (3, (true, 2, 1)),
            (10, (true, 3, 7)),
            (4, (true, 4, 0)),
            (2, (false, 4, 0)),
            (0, (false, 4, 0)),
            (4, (false, 4, 0)),
            (Amount::MAX.get(), (true, 5, Amount::MAX.get() - 5)),
        ];
        for (limit, expected) in steps {
            let limiter = per_user(&harness, limit, |policy| counted_by(way, policy));
            let status = limiter.check_one(&check_at("alice", 1));
            assert_eq!((status.allowed, status.count, status.remaining), expected, "limit {limit}");
        }
    }
}

/// Decision 0009: all classes share one usage, and each is admitted only while the usage is below its own share of the
/// limit. So the less important ones are denied first, and the rest is kept for the others.
pub fn priority_classes_share_one_usage_and_keep_their_room<H: Harness>() {
    for way in Way::ALL {
        let harness = H::new();
        let mut shared = counted_by(way, policy("p", &[], 10, MONTH));
        shared.shares.set(PriorityClass::Batch, Share::of_millionths(450_000).unwrap());
        shared.shares.set(PriorityClass::Premium, Share::of_millionths(800_000).unwrap());
        let limiter = Limiter::new(&harness, vec![shared]);
        // `batch` may use 4.5 of 10, rounded up; `standard` has the share of `premium`.
        let courses = [
            (PriorityClass::Batch, 5, 5),
            (PriorityClass::Standard, 2, 7),
            (PriorityClass::Batch, 0, 7),
            (PriorityClass::Premium, 1, 8),
            (PriorityClass::Standard, 0, 8),
            (PriorityClass::Internal, 2, 10),
        ];
        for (class, admitted, usage) in courses {
            let check = check_at("alice", 1).with_priority(class);
            let asked =
                if class == PriorityClass::Standard && admitted > 0 { admitted } else { 20 };
            let allowed = (0..asked).filter(|_| limiter.check(&check).allowed()).count();
            assert_eq!(allowed, admitted, "{class:?}");
            assert_eq!(limiter.counts(&check), [usage], "{class:?}");
        }
        let batch = limiter.check(&check_at("alice", 1).with_priority(PriorityClass::Batch));
        assert_eq!(batch.reason(), Some(Reason::LimitExceeded));
        let never = limiter.check(&check_at("alice", 6).with_priority(PriorityClass::Batch));
        assert_eq!(never.reason(), Some(Reason::CostExceedsLimit), "the part is the limit");
    }
}
