"""Two limits at once, by the model's tier."""

from __future__ import annotations

from typing import Any

import pytest
from tollgate import ManualClock, MultiTierRateLimiter, RateLimitConfig, Tier


@pytest.fixture
def limiter(clock: ManualClock) -> MultiTierRateLimiter:
    return MultiTierRateLimiter(
        per_user_model=(100, 3600),
        per_model=RateLimitConfig(10_000, 3600),
        tiers={"premium": Tier((1, 60), (2, 60), models=["gpt-4", "opus"])},
        clock=clock,
    )


def test_a_tier_has_limits_of_its_own(limiter: MultiTierRateLimiter) -> None:
    assert limiter.allow("alice", "gpt-4") == (True, "within_limits")
    assert limiter.allow("alice", "gpt-4") == (False, "user_model_limit")
    assert limiter.allow("bob", "gpt-4") == (True, "within_limits")
    assert limiter.allow("carol", "gpt-4") == (False, "model_limit")


def test_each_model_of_a_tier_is_counted_by_itself(limiter: MultiTierRateLimiter) -> None:
    assert limiter.allow("alice", "gpt-4")[0]
    assert limiter.allow("alice", "opus")[0]
    assert not limiter.allow("alice", "opus")[0]


def test_other_models_have_the_default_limits(limiter: MultiTierRateLimiter) -> None:
    assert sum(limiter.allow("alice", "small")[0] for _ in range(150)) == 100


def test_a_denial_charges_neither_limit(limiter: MultiTierRateLimiter) -> None:
    assert limiter.allow("alice", "gpt-4")[0]
    for _ in range(5):
        assert not limiter.allow("alice", "gpt-4")[0]
    assert limiter.get_model_request_count("gpt-4") == 1
    assert limiter.get_request_count("alice", "gpt-4") == 1


def test_a_decision_has_both_limits(limiter: MultiTierRateLimiter) -> None:
    decision = limiter.check("alice", "gpt-4")
    assert [(limit.policy_id, limit.scope) for limit in decision.limits] == [
        ("premium.user_model", "USER_MODEL"),
        ("premium.model", "MODEL"),
    ]
    assert decision.policy_id == "premium.user_model"


def test_a_cost_counts_under_both_limits(limiter: MultiTierRateLimiter) -> None:
    assert limiter.check("alice", "small", cost=60).allowed
    assert not limiter.check("alice", "small", cost=60).allowed
    assert limiter.get_model_request_count("small") == 60


def test_a_reset_leaves_the_limit_of_the_model(limiter: MultiTierRateLimiter) -> None:
    assert limiter.allow("alice", "gpt-4")[0]
    limiter.reset_user("alice")
    assert limiter.get_request_count("alice", "gpt-4") == 0
    assert limiter.get_model_request_count("gpt-4") == 1
    assert limiter.allow("alice", "gpt-4")[0]
    limiter.reset_user("alice")
    assert limiter.allow("alice", "gpt-4") == (False, "model_limit")


def test_both_limits_slide(limiter: MultiTierRateLimiter, clock: ManualClock) -> None:
    assert limiter.allow("alice", "gpt-4")[0]
    clock.advance(60)
    assert limiter.allow("alice", "gpt-4")[0]


def test_it_counts_its_checks(limiter: MultiTierRateLimiter) -> None:
    for _ in range(3):
        limiter.allow("alice", "gpt-4")
    metrics = limiter.reset_metrics()
    assert (metrics["allowed"], metrics["denied"], metrics["keys"]) == (1, 2, 2)
    assert limiter.get_metrics()["total"] == 0


def test_the_defaults_are_100_for_a_user_and_10_000_for_a_model() -> None:
    decision = MultiTierRateLimiter().check("alice", "gpt-4")
    assert [limit.limit for limit in decision.limits] == [100, 10_000]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"per_user_model": 5}, TypeError, "per_user_model is of the type int; accepted: a RateL"),
        ({"per_model": (1, 2, 3)}, TypeError, "per_model is of the type tuple"),
        ({"per_model": (-1, 60)}, ValueError, "per_model.max_requests is -1"),
        ({"per_model": (1, 0)}, ValueError, "per_model.window_seconds is 0"),
        ({"tiers": {"a": (1, 60)}}, TypeError, 'tiers."a". is not a Tier'),
        ({"tiers": {1: Tier((1, 60), (1, 60))}}, TypeError, "a name in tiers is of the type int"),
        ({"tiers": {"a": Tier((1, 60), (1, 60), "gpt-4")}}, TypeError, "models is of the type str"),
        ({"tiers": {"a": Tier((1, 60), (1, 60), [4])}}, TypeError, r"models\[0\] is of the t"),  # type: ignore[list-item]
        ({"tiers": {"default": Tier((1, 60), (1, 60))}}, ValueError, "the tier .default. is given"),
        ({"tiers": {"": Tier((1, 60), (1, 60))}}, None, ""),
        (
            {"tiers": {"a": Tier((1, 60), (1, 60), ["m"]), "b": Tier((1, 60), (1, 60), ["m"])}},
            ValueError,
            'names a model that is in "a" already',
        ),
        ({"tiers": []}, TypeError, "tiers"),
    ],
)
def test_arguments_are_checked(
    arguments: dict[str, Any], error: type[Exception] | None, text: str
) -> None:
    if error is None:
        assert MultiTierRateLimiter(**arguments)
        return
    with pytest.raises(error, match=text):
        MultiTierRateLimiter(**arguments)
