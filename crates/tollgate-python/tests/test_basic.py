"""What a limiter answers, one call after the other."""

from __future__ import annotations

import json

import pytest
import tollgate
from tollgate import Decision, ManualClock, RateLimitConfig, RateLimiter


def test_it_allows_up_to_the_limit_and_denies_the_next() -> None:
    limiter = RateLimiter(max_requests=3, window_seconds=60)
    assert [limiter.allow("alice", "gpt-4") for _ in range(5)] == [True, True, True, False, False]


def test_the_defaults_are_100_requests_an_hour() -> None:
    limiter = RateLimiter()
    decision = limiter.check("alice", "gpt-4")
    assert (decision.limit, decision.window_seconds, decision.remaining) == (100, 3600, 99)


def test_arguments_can_be_positional() -> None:
    limiter = RateLimiter(2, 60)
    assert limiter.check("alice", "gpt-4").limit == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("alice", "gpt-4"), ("bob", "gpt-4")),
        (("alice", "gpt-4"), ("alice", "gpt-3.5")),
        (("a", "bc"), ("ab", "c")),
        (("", "ab"), ("a", "b")),
        (("a:b", "c"), ("a", "b:c")),
        (("alice", "gpt-4"), ("Alice", "gpt-4")),
    ],
)
def test_other_users_and_models_have_usage_of_their_own(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    limiter = RateLimiter(1, 60)
    assert limiter.allow(*first)
    assert limiter.allow(*second)
    assert not limiter.allow(*first)
    assert not limiter.allow(*second)


def test_a_denial_changes_nothing() -> None:
    limiter = RateLimiter(2, 60)
    assert limiter.allow("alice", "gpt-4")
    assert not limiter.allow("alice", "gpt-4", cost=2)
    assert limiter.get_request_count("alice", "gpt-4") == 1
    assert limiter.allow("alice", "gpt-4")


def test_the_count_is_what_was_admitted() -> None:
    limiter = RateLimiter(5, 60)
    assert limiter.get_request_count("alice", "gpt-4") == 0
    for _ in range(8):
        limiter.allow("alice", "gpt-4")
    assert limiter.get_request_count("alice", "gpt-4") == 5
    assert limiter.get_request_count("bob", "gpt-4") == 0


def test_a_cost_is_charged_as_a_whole_or_not_at_all() -> None:
    limiter = RateLimiter(10, 60)
    assert limiter.allow("alice", "gpt-4", cost=7)
    assert not limiter.allow("alice", "gpt-4", 4)
    assert limiter.allow("alice", "gpt-4", 3)
    assert limiter.get_request_count("alice", "gpt-4") == 10


def test_a_peek_charges_nothing() -> None:
    limiter = RateLimiter(1, 60)
    assert limiter.peek("alice", "gpt-4").allowed
    assert limiter.peek("alice", "gpt-4").allowed
    assert limiter.allow("alice", "gpt-4")
    assert not limiter.peek("alice", "gpt-4").allowed


def test_a_reset_clears_all_models_of_one_user() -> None:
    limiter = RateLimiter(1, 60)
    for user, model in [("alice", "a"), ("alice", "b"), ("bob", "a")]:
        assert limiter.allow(user, model)
    limiter.reset_user("alice")
    assert limiter.get_request_count("alice", "a") == 0
    assert limiter.allow("alice", "a")
    assert limiter.allow("alice", "b")
    assert not limiter.allow("bob", "a")
    assert not limiter.allow("alice", "a")


def test_a_decision_has_the_fields_of_the_http_answer() -> None:
    limiter = RateLimiter(2, 60, clock=ManualClock(1000))
    decision = limiter.check("alice", "gpt-4")
    assert decision.to_dict() == {
        "allowed": True,
        "limit": 2,
        "count": 1,
        "remaining": 1,
        "windowSeconds": 60,
        "retryAfterMs": 0,
        "resetAfterMs": decision.reset_after_ms,
        "policyId": "default",
        "scope": "USER_MODEL",
        "unit": "requests",
        "reason": None,
        "degraded": False,
        "limits": [
            {
                "policyId": "default",
                "scope": "USER_MODEL",
                "unit": "requests",
                "algorithm": "sliding_window_log",
                "mode": "enforce",
                "allowed": True,
                "limit": 2,
                "count": 1,
                "remaining": 1,
                "windowSeconds": 60,
                "retryAfterMs": 0,
                "resetAfterMs": decision.reset_after_ms,
            }
        ],
    }
    assert json.loads(json.dumps(decision.to_dict())) == decision.to_dict()


def test_the_attributes_of_a_decision_are_those_of_its_dict() -> None:
    def snake(name: str) -> str:
        return "".join("_" + c.lower() if c.isupper() else c for c in name)

    limiter = RateLimiter(1, 60)
    for decision in (limiter.check("alice", "gpt-4"), limiter.check("alice", "gpt-4")):
        whole = decision.to_dict()
        limits = whole.pop("limits")
        assert {name: getattr(decision, snake(name)) for name in whole} == whole
        (limit,) = decision.limits
        assert limit.to_dict() == limits[0]
        assert {name: getattr(limit, snake(name)) for name in limits[0]} == limits[0]


def test_a_decision_is_true_if_the_check_is_allowed() -> None:
    limiter = RateLimiter(1, 60)
    assert limiter.check("alice", "gpt-4")
    assert not limiter.check("alice", "gpt-4")


def test_decisions_are_equal_if_their_fields_are() -> None:
    limiter = RateLimiter(1, 60, clock=ManualClock())
    assert limiter.peek("alice", "gpt-4") == limiter.peek("alice", "gpt-4")
    assert limiter.peek("alice", "gpt-4") != limiter.check("alice", "gpt-4", cost=2)


def test_a_decision_says_what_it_is_when_it_is_printed() -> None:
    limiter = RateLimiter(1, 60)
    assert repr(limiter.check("alice", "gpt-4")) == '<Decision allowed: 1 of 1 by "default">'
    denied = limiter.check("alice", "gpt-4")
    assert repr(denied) == '<Decision denied: 1 of 1 by "default">'
    assert repr(denied.limits[0]) == '<LimitStatus "default" denies: 1 of 1>'


def test_the_headers_are_those_of_a_server() -> None:
    limiter = RateLimiter(1, 60, clock=ManualClock())
    assert limiter.check("alice", "gpt-4").headers() == {
        "ratelimit-policy": '"default";q=1;w=60',
        "ratelimit": '"default";r=0;t=60',
    }
    assert limiter.check("alice", "gpt-4").headers() == {
        "retry-after": "60",
        "ratelimit-policy": '"default";q=1;w=60',
        "ratelimit": '"default";r=0;t=60',
    }


def test_the_reason_of_a_denial_is_named() -> None:
    limiter = RateLimiter(2, 60)
    assert limiter.check("alice", "gpt-4").reason is None
    assert limiter.check("alice", "gpt-4", cost=2).reason == "limit_exceeded"
    too_much = limiter.check("alice", "gpt-4", cost=3)
    assert (too_much.reason, too_much.retry_after_ms) == ("cost_exceeds_limit", None)
    banned = RateLimiter(0, 60).check("alice", "gpt-4")
    assert (banned.reason, banned.retry_after_ms) == ("banned", None)


def test_a_name_and_a_unit_are_in_answers() -> None:
    limiter = RateLimiter(10, 60, name="tokens-a-minute", unit="output_tokens")
    decision = limiter.check("alice", "gpt-4", cost=4)
    assert (decision.policy_id, decision.unit) == ("tokens-a-minute", "output_tokens")


@pytest.mark.parametrize(
    "algorithm", ["sliding_window_log", "sliding_window_counter", "token_bucket"]
)
def test_every_algorithm_holds_its_limit(algorithm: str, clock: ManualClock) -> None:
    limiter = RateLimiter(5, 60, algorithm=algorithm, clock=clock)
    assert sum(limiter.allow("alice", "gpt-4") for _ in range(20)) == 5
    assert limiter.check("alice", "gpt-4").limits[0].algorithm == algorithm


def test_a_config_is_a_value() -> None:
    config = RateLimitConfig(max_requests=5, window_seconds=1.5)
    assert config == RateLimitConfig(5, 1.5)
    assert len({config, RateLimitConfig(5, 1.5)}) == 1
    assert RateLimitConfig() == RateLimitConfig(100, 3600)


def test_a_limiter_is_made_from_a_config() -> None:
    limiter = RateLimiter.from_config(RateLimitConfig(3, 0.5), name="burst")
    decision = limiter.check("alice", "gpt-4")
    assert (decision.limit, decision.window_seconds, decision.policy_id) == (3, 0.5, "burst")


def test_a_subclass_is_made_from_a_config_too() -> None:
    class Mine(RateLimiter):
        """A limiter of the test's own."""

    assert isinstance(Mine.from_config(RateLimitConfig(1, 60)), Mine)


def test_the_package_exports_what_it_names() -> None:
    assert all(hasattr(tollgate, name) for name in tollgate.__all__)
    assert sorted(tollgate.__all__) == list(tollgate.__all__)
    assert Decision.__module__ == "tollgate"
