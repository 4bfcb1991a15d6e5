//! `MultiTierRateLimiter` from the view of its users.

// Tells clippy that the helpers here are tests too.
#![cfg(test)]

use std::time::Duration;

use TierReason::{ModelLimit, UserModelLimit, WithinLimits};
use tollgate::{
    BuildError, ManualClock, MultiTierRateLimiter, MultiTierRateLimiterBuilder, Quota, TierReason,
};

fn builder() -> MultiTierRateLimiterBuilder {
    MultiTierRateLimiter::builder(Quota::per_minute(1), Quota::per_minute(2))
        .tier("premium", Quota::per_minute(2), Quota::per_hour(3))
        .model("gpt-4", "premium")
        .model("gpt-4-turbo", "premium")
}

fn limiter() -> (MultiTierRateLimiter<ManualClock>, ManualClock) {
    let clock = ManualClock::default();
    (builder().build_with_clock(clock.clone()).unwrap(), clock)
}

fn check(
    limiter: &MultiTierRateLimiter<ManualClock>,
    asks: &[(&str, &str)],
    expected: &[TierReason],
) {
    for ((user, model), reason) in asks.iter().zip(expected) {
        let expected = (*reason == WithinLimits, *reason);
        assert_eq!(limiter.allow(user, model), expected, "{user} {model}");
    }
}

#[test]
fn a_model_is_limited_by_its_tier_and_an_unknown_one_by_the_default() {
    let (limiter, _) = limiter();
    check(
        &limiter,
        &[("alice", "gpt-4"), ("alice", "gpt-4"), ("alice", "gpt-4")],
        &[WithinLimits, WithinLimits, UserModelLimit],
    );
    check(&limiter, &[("alice", "other"), ("alice", "other")], &[WithinLimits, UserModelLimit]);
}

#[test]
fn each_model_of_a_tier_is_counted_by_itself() {
    let (limiter, _) = limiter();
    check(
        &limiter,
        &[
            ("alice", "gpt-4"),
            ("bob", "gpt-4"),
            ("carol", "gpt-4"),
            ("dave", "gpt-4"),
            ("dave", "gpt-4-turbo"),
        ],
        &[WithinLimits, WithinLimits, WithinLimits, ModelLimit, WithinLimits],
    );
    assert_eq!(limiter.model_request_count("gpt-4"), 3);
    assert_eq!(limiter.request_count("dave", "gpt-4"), 0, "charged by both or by none (R3)");
}

#[test]
fn where_both_refuse_the_reason_is_what_takes_longer() {
    let (limiter, clock) = limiter();
    check(
        &limiter,
        &[("alice", "gpt-4"), ("alice", "gpt-4"), ("bob", "gpt-4"), ("alice", "gpt-4")],
        &[WithinLimits, WithinLimits, WithinLimits, ModelLimit],
    );
    let decision = limiter.check("alice", "gpt-4");
    assert_eq!(decision.retry_after_ms(), Some(3_600_000));
    assert_eq!(decision.limits().len(), 2);
    clock.advance(Duration::from_mins(1));
    check(&limiter, &[("alice", "gpt-4")], &[ModelLimit]);
    clock.advance(Duration::from_mins(59));
    check(&limiter, &[("alice", "gpt-4")], &[WithinLimits]);
}

#[test]
fn a_reset_forgets_the_user_s_usage_and_leaves_the_model_s() {
    let (limiter, _) = limiter();
    check(&limiter, &[("alice", "gpt-4"), ("alice", "gpt-4")], &[WithinLimits, WithinLimits]);
    limiter.reset_user("alice");
    assert_eq!(limiter.request_count("alice", "gpt-4"), 0);
    assert_eq!(limiter.model_request_count("gpt-4"), 2);
    check(&limiter, &[("alice", "gpt-4"), ("alice", "gpt-4")], &[WithinLimits, ModelLimit]);
    let decision = limiter.check("alice", "gpt-4");
    let ids: Vec<_> = decision.limits().iter().map(|l| l.limit.policy_id().as_str()).collect();
    assert_eq!(ids, ["premium.user_model", "premium.model"]);
}

#[test]
fn a_cost_is_charged_to_both_limits() {
    let (limiter, _) = limiter();
    assert!(limiter.check_cost("alice", "gpt-4", 2).allowed());
    assert!(!limiter.check_cost("bob", "gpt-4", 2).allowed());
    assert_eq!(
        (limiter.request_count("bob", "gpt-4"), limiter.model_request_count("gpt-4")),
        (0, 2)
    );
    let metrics = limiter.reset_metrics();
    assert_eq!((metrics.allowed, metrics.denied, limiter.metrics().total()), (1, 1, 0));
}

#[test]
fn what_cannot_be_built_is_named() {
    let quota = Quota::per_hour(1);
    let cases = [
        (builder().tier("premium", quota, quota), BuildError::DuplicateTier("premium".to_owned())),
        (builder().tier("default", quota, quota), BuildError::DuplicateTier("default".to_owned())),
        (
            builder().model("m", "gold"),
            BuildError::UnknownTier { model: "m".to_owned(), tier: "gold".to_owned() },
        ),
        (builder().tier("big", quota, Quota::per_hour(1 << 53)), BuildError::Limit(1 << 53)),
        (
            MultiTierRateLimiter::builder(Quota::new(1, Duration::ZERO), quota),
            BuildError::Window(Duration::ZERO),
        ),
    ];
    for (builder, expected) in cases {
        assert_eq!(builder.build().unwrap_err(), expected);
    }
}
