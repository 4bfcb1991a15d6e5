"""Decisions and denials that go to another process."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from servers import Redis
from tollgate import (
    Decision,
    LimitStatus,
    ManualClock,
    MultiTierRateLimiter,
    PolicyLimiter,
    RateLimiter,
    RateLimitExceeded,
    RedisRateLimiter,
    StoreError,
    rate_limited,
)
from tollgate._tollgate import restore_decision, restore_limit_status
from tollgate.client import RequestRefused, ReservationDenied, ServerDecision, ServerUnavailable

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

POLICIES = """
tiers:
  - {id: batch, priority: batch}
tenants: [{id: acme}]
users:
  - {tenantId: acme, id: carol, tier: batch}
policies:
  - {id: log, per: [user, model], limit: 5, windowSeconds: 60}
  - {id: "counter ü \\" |", per: [user], limit: 5, windowSeconds: 0.5,
     algorithm: sliding_window_counter, visibility: private}
  - {id: bucket, per: [tenant], limit: 1000, windowSeconds: 86400,
     algorithm: token_bucket, unit: output_tokens, overLimit: charge}
  - {id: day, per: [region, user], limit: 7, calendar: day, timeZone: Europe/Berlin}
  - {id: hour, per: [user], limit: 100, calendar: hour}
  - {id: slots, per: [user], unit: concurrency, limit: 2}
  - {id: shadow, per: [user], limit: 0, windowSeconds: 60, mode: shadow}
  - {id: shared, per: [model], limit: 100, windowSeconds: 60, shares: {batch: 0.5}}
"""


def seen(decision: Decision | LimitStatus) -> dict[str, Any]:
    """Return every attribute, and what its methods return."""
    names = [name for name in dir(decision) if not name.startswith("_")]
    fields = {name: getattr(decision, name) for name in names}
    methods = {name for name, value in fields.items() if callable(value)}
    assert methods == ({"to_dict", "headers"} if isinstance(decision, Decision) else {"to_dict"})
    fields |= {name: fields[name]() for name in methods}
    if isinstance(decision, Decision):
        fields["limits"] = [seen(limit) for limit in decision.limits]
    return {**fields, "repr": repr(decision), "bool": bool(decision)}


def check_that_it_survives(decision: Decision) -> None:
    for protocol in PROTOCOLS:
        again = pickle.loads(pickle.dumps(decision, protocol))
        assert again is not decision
        assert seen(again) == seen(decision)
        assert again == decision
        # What was pickled once can be pickled again.
        assert pickle.loads(pickle.dumps(again, protocol)) == decision
        for limit in decision.limits:
            restored = pickle.loads(pickle.dumps(limit, protocol))
            assert seen(restored) == seen(limit)
            assert restored == limit


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES)
    return path


def every_decision(policies: Path, clock: ManualClock) -> Iterator[Decision]:
    """Yield allowed and denied decisions of limits of every kind."""
    limiter = PolicyLimiter.from_file(policies, clock=clock)
    subjects: list[dict[str, Any]] = [
        {"user": "alice", "model": "gpt-4", "attributes": {"region": "eu"}},
        {"user": "bob", "tenant": "acme", "cost": {"requests": 3, "output_tokens": 900}},
        {"user": "carol", "tenant": "acme", "model": "gpt-4"},
        {"tenant": "acme", "cost": {"output_tokens": 10**6}},
        {"service": "a service that no limit counts"},
    ]
    for _ in range(8):
        for subject in subjects:
            yield limiter.check(**subject)
            yield limiter.peek(**subject)
        clock.advance(0.123_456_789)
    yield RateLimiter(0, 60).check("alice", "gpt-4")
    yield RateLimiter(5, 60).check("alice", "gpt-4", 6)
    for algorithm in ("sliding_window_log", "sliding_window_counter", "token_bucket"):
        for limit in (0, 1, 3):
            counted = RateLimiter(limit, 0.007, algorithm=algorithm, clock=clock, unit="images")
            for _ in range(3):
                yield counted.check("alice", "gpt-4")
                clock.advance(0.000_001)
    tiers = MultiTierRateLimiter((1, 60), (1, 60), clock=clock)
    for _ in range(3):
        # Both limits deny with waits that end in the same millisecond.
        yield tiers.check("alice", "gpt-4")


def test_a_decision_survives_with_every_field(policies: Path, clock: ManualClock) -> None:
    decisions = list(every_decision(policies, clock))
    for decision in decisions:
        check_that_it_survives(decision)
    limits = [limit for decision in decisions for limit in decision.limits]
    # That the cases are those that the names above promise.
    assert {decision.allowed for decision in decisions} == {True, False}
    assert {limit.algorithm for limit in limits} >= {
        "sliding_window_log",
        "sliding_window_counter",
        "token_bucket",
        "calendar",
        "concurrency",
    }
    assert {limit.priority for limit in limits} == {None, "batch"}
    assert {limit.retry_after_ms is None for limit in limits} == {True, False}
    assert {decision.policy_id is None for decision in decisions} == {True, False}


def test_a_decision_without_the_store_survives(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text("policies: [{id: p, per: [user], limit: 4, windowSeconds: 60}]")
    for mode, allowed in (("deny", False), ("allow", True), ("local", True)):
        # Nothing listens there.
        shared = RedisRateLimiter("redis://127.0.0.1:1", policies=path, on_store_error=mode)
        decision = shared.check("alice", "gpt-4")
        assert (decision.degraded, decision.allowed) == (True, allowed)
        check_that_it_survives(decision)


@pytest.mark.parametrize("headline", [0, 1])
@pytest.mark.parametrize("wait_ms", [0, 1, 60_000, 18_446_744_073_710])
def test_the_limit_that_bound_still_binds_if_another_frees_in_the_same_millisecond(
    headline: int, wait_ms: int
) -> None:
    denied = state_of(RateLimiter(1, 60, name="p").check("alice", "gpt-4").limits[0])
    denied |= {"allowed": False, "retry_after_ms": wait_ms, "reset_after_ms": wait_ms}
    limits = [
        {**denied, "policy_id": name, "amount": amount} for name, amount in (("a", 1), ("b", 2))
    ]
    state = {"degraded": False, "headline": headline, "refused": None, "limits": limits}
    if wait_ms == 0 and headline == 1:
        # Neither waits, so the one with the smaller id binds.
        with pytest.raises(ValueError, match="state is that of no decision"):
            restore_decision(1, state)
        return
    decision = restore_decision(1, state)
    assert (decision.policy_id, decision.retry_after_ms) == ("ab"[headline], wait_ms)
    check_that_it_survives(decision)


def test_a_denial_of_an_api_key_survives() -> None:
    refused = restore_decision(
        1, {"degraded": False, "headline": None, "refused": "api_key_revoked", "limits": []}
    )
    assert (refused.allowed, refused.reason, refused.limits) == (False, "api_key_revoked", ())
    assert str(RateLimitExceeded(refused)) == "api_key_revoked; waiting does not help"
    check_that_it_survives(refused)


def deny(limit: int) -> str:
    """Raise what a limiter raises. It runs in another process."""
    counted = RateLimiter(limit, 3600, name="of a worker")

    @rate_limited(counted, lambda: {"user": "alice", "model": "gpt-4"})
    def work() -> str:
        return "done"

    work()
    return work()


def deny_a_lease(policies: str) -> None:
    limiter = PolicyLimiter.from_file(policies)
    limiter.reserve("alice", "gpt-4", cost=6)


def deny_as_a_server_does(decision: ServerDecision) -> None:
    raise ReservationDenied(decision)


def decide(limit: int) -> list[Decision]:
    counted = RateLimiter(limit, 3600)
    return [counted.check("alice", "gpt-4") for _ in range(2)]


def test_denials_and_decisions_come_out_of_a_pool_of_processes(policies: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    answer = {"allowed": False, "limits": [{"policyId": "p"}]}
    of_server = ServerDecision(False, 1, policy_id="p", reason="limit_exceeded", answer=answer)
    with ProcessPoolExecutor(1, spawning) as pool:
        with pytest.raises(
            RateLimitExceeded, match=r"limit_exceeded by the policy of a wor"
        ) as one:
            pool.submit(deny, 1).result()
        assert one.value.decision.limit == 1
        assert 3_599_000 <= (one.value.decision.retry_after_ms or 0) <= 3_600_001
        with pytest.raises(RateLimitExceeded, match=r"cost_exceeds_limit by the policy") as two:
            pool.submit(deny_a_lease, str(policies)).result()
        assert two.value.decision.retry_after_ms is None
        with pytest.raises(ReservationDenied) as three:
            pool.submit(deny_as_a_server_does, of_server).result()
        assert three.value.decision == of_server
        allowed, denied = pool.submit(decide, 1).result()
    assert (allowed.allowed, denied.allowed) == (True, False)
    with (
        multiprocessing.get_context("spawn").Pool(1) as pool_of_old,
        pytest.raises(RateLimitExceeded),
    ):
        pool_of_old.apply(deny, (0,))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_exceptions_survive(protocol: int) -> None:
    decision = RateLimiter(0, 60).check("alice", "gpt-4")
    denied = ServerDecision(allowed=False, reason="banned", retry_after_ms=None)
    errors: list[Exception] = [
        RateLimitExceeded(decision),
        ReservationDenied(denied),
        StoreError("no answer"),
        ServerUnavailable("no answer"),
        RequestRefused(400, {"detail": "wrong", "errors": [{"field": "cost", "problem": "is 0"}]}),
    ]
    for error in errors:
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert getattr(again, "decision", None) == getattr(error, "decision", None)


def test_an_exception_without_a_decision_can_be_shown() -> None:
    assert str(RateLimitExceeded()) == ""
    assert str(RateLimitExceeded("busy")) == "busy"


def state_of(decision: Decision | LimitStatus) -> dict[str, Any]:
    _, (version, state) = decision.__reduce__()
    assert version == 1
    assert isinstance(state, dict)
    return state


@pytest.mark.parametrize(
    ("version", "error"), [(0, ValueError), (2, ValueError), (2**70, ValueError), ("1", TypeError)]
)
def test_a_state_of_another_version_is_refused(version: Any, error: type[Exception]) -> None:
    decision = RateLimiter().check("alice", "gpt-4")
    with pytest.raises(error, match=r"version .*; accepted: "):
        restore_decision(version, state_of(decision))
    with pytest.raises(error, match=r"version .*; accepted: "):
        restore_limit_status(version, state_of(decision.limits[0]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"headline": 1}, ValueError, "state is that of no decision; accepted"),
        ({"headline": None}, ValueError, "state is that of no decision"),
        ({"headline": -1}, ValueError, r"state\.headline is -1"),
        ({"degraded": 1}, TypeError, r"state\.degraded is of the type int; accepted: True or F"),
        ({"refused": "no reason"}, ValueError, r'state\.refused is "no reason"'),
        ({"refused": "banned"}, ValueError, "state is that of no decision"),
        ({"limits": ()}, TypeError, r"state\.limits is of the type tuple; accepted: a list"),
        ({"limits": [3]}, TypeError, r"state\.limits\[0\] is of the type int; accepted: a dict"),
        ({"more": 1}, ValueError, "state has 5 members; accepted: the 4"),
    ],
)
def test_a_damaged_decision_is_refused(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    state = state_of(RateLimiter().check("alice", "gpt-4"))
    with pytest.raises(error, match=message):
        restore_decision(1, {**state, **change})
    for name in change:
        without = {key: value for key, value in state.items() if key != name}
        if len(without) < len(state):
            with pytest.raises(ValueError, match=rf"state\.{name} is missing"):
                restore_decision(1, without)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"policy_id": ""}, ValueError, r'state\.policy_id is ""; accepted: 1 to 256 bytes'),
        ({"policy_id": "\ud800"}, ValueError, r"state\.policy_id has a lone surrogate"),
        ({"per": ["user", "user"]}, ValueError, r"state\.per has one twice"),
        ({"per": ["user", 3]}, TypeError, r"state\.per\[1\] is of the type int"),
        ({"per": [""]}, ValueError, r"state\.per\[0\] is"),
        ({"per": ["a"] * 9}, ValueError, r"state\.per has 9 members; accepted: at most 8"),
        ({"unit": "a b"}, ValueError, r'state\.unit is "a b"; accepted'),
        ({"amount": 2**53}, ValueError, r"state\.amount is 9007199254740992; accepted"),
        ({"amount": True}, TypeError, r"state\.amount is of the type bool"),
        ({"count": -1}, ValueError, r"state\.count is -1"),
        ({"count": 2**64}, ValueError, r"state\.count is 18446744073709551616"),
        (
            {"retry_after_ms": 2**64 - 1},
            ValueError,
            r"state\.retry_after_ms is 18446744073709551615",
        ),
        ({"retry_after_ms": 0.5}, TypeError, r"state\.retry_after_ms is of the type float"),
        ({"algorithm": "none"}, ValueError, r'state\.algorithm is "none", with members that'),
        ({"algorithm": "token_bucket"}, ValueError, r"state\.algorithm is \"token_bucket\", with"),
        ({"window_ns": 0}, ValueError, r"state\.algorithm is"),
        ({"window_ns": None}, ValueError, r"state\.algorithm is"),
        ({"refill": 1}, ValueError, r"state\.algorithm is"),
        ({"calendar": "year"}, ValueError, r"state\.calendar is \"year\"; accepted: `hour`"),
        ({"time_zone": "Mars"}, ValueError, r"state\.time_zone is \"Mars\"; accepted: the name"),
        ({"mode": None}, TypeError, r"state\.mode is of the type NoneType"),
        ({"visibility": "a" * 10**6}, ValueError, r"state\.visibility is .*1000000 bytes"),
        ({"priority": "batch"}, ValueError, "state is that of no decision"),
        ({"share_millionths": 10**6 + 1}, ValueError, "state is that of no decision"),
        ({"period_s": 0}, ValueError, "state is that of no decision"),
        ({"is_without_store": True}, ValueError, "state is that of no decision"),
    ],
)
def test_a_damaged_status_is_refused(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    decision = RateLimiter().check("alice", "gpt-4")
    state = state_of(decision.limits[0])
    with pytest.raises(error, match=message):
        restore_limit_status(1, {**state, **change})
    in_place = message.replace(r"state\.", r"state\.limits\[0\]\.")
    with pytest.raises(error, match=in_place):
        restore_decision(1, {**state_of(decision), "limits": [{**state, **change}]})


def test_no_state_makes_an_impossible_decision_or_a_panic(
    policies: Path, clock: ManualClock
) -> None:
    """A state of parts of others is refused, or is that of a decision that can be used."""
    numbers = random.Random(18)
    decisions = list(every_decision(policies, clock))
    states = [state_of(limit) for decision in decisions for limit in decision.limits]
    pool = {name: [state[name] for state in states] for name in states[0]}
    odd: list[Any] = [None, 0, 1, 2**32, 2**53 - 1, 2**64 - 1, -1, 1.5, "", "user", [], True]
    outcomes = {True: 0, False: 0}
    for _ in range(20_000):
        limit = dict(numbers.choice(states))
        for name in numbers.sample(list(limit), numbers.randint(1, 3)):
            limit[name] = numbers.choice(odd if numbers.random() < 0.3 else pool[name])
        others = numbers.sample(states, numbers.randint(0, 2))
        headline = numbers.choice([None, 0, 1, 2])
        state = {
            "degraded": numbers.random() < 0.5,
            "headline": headline,
            "refused": None,
            "limits": [limit, *others],
        }
        try:
            made = restore_decision(1, state)
        except (TypeError, ValueError):
            outcomes[False] += 1
            continue
        outcomes[True] += 1
        seen(made)
        assert state_of(made) == state
        denies = [one for one in made.limits if one.mode == "enforce" and not one.allowed]
        assert made.allowed == (not denies)
    assert min(outcomes.values()) > 100, outcomes


def test_decisions_that_differ_are_not_equal() -> None:
    first, second = (RateLimiter(limit, 60).check("alice", "gpt-4") for limit in (1, 2))
    assert first != second
    assert first.limits[0] != second.limits[0]
    assert first != "a decision"
    assert copy.copy(first) is first


def test_a_decision_of_redis_survives(redis_server: Redis, user: str) -> None:
    shared = RedisRateLimiter(redis_server.url, 1, 3600, timeout=30.0)
    for _ in range(2):
        check_that_it_survives(shared.check(user, "gpt-4"))
