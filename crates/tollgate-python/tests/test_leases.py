"""Leases: reserve, observe, settle, release; in memory and in Redis, sync and async."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from servers import Redis
from tollgate import (
    AsyncPolicyLimiter,
    AsyncRedisRateLimiter,
    ManualClock,
    PolicyLimiter,
    RateLimitExceeded,
    RedisRateLimiter,
    StoreError,
)

POLICIES = """
policies:
  - {id: tokens, per: [user], unit: output_tokens, limit: 1000, windowSeconds: 3600}
  - {id: slots, per: [user], unit: concurrency, limit: 2}
"""
PATIENT = 30.0

Limiter: TypeAlias = PolicyLimiter | RedisRateLimiter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES)
    return path


@pytest.fixture(params=["memory", "redis"])
def limiter(request: pytest.FixtureRequest, path: Path, redis_server: Redis) -> Limiter:
    if request.param == "memory":
        return PolicyLimiter.from_file(path)
    return RedisRateLimiter(redis_server.url, policies=path, timeout=PATIENT)


def used(limiter: Limiter, user: str) -> int:
    """Return the tokens used; a peek has no cost."""
    return limiter.peek(user, cost=0).limits[0].count


def live(limiter: Limiter, user: str) -> int:
    """Return the slots in use."""
    return limiter.peek(user, cost=0).limits[1].count


def test_a_lease_is_settled_with_what_was_used(limiter: Limiter, user: str) -> None:
    with limiter.reserve(user, cost={"output_tokens": 800}) as lease:
        assert (used(limiter, user), live(limiter, user)) == (800, 1)
        assert lease.decision.allowed
        assert lease.state_at_reservation == "live"
        state = lease.settle({"output_tokens": 300})
    assert state is not None
    assert (state["state"], state["limits"][0]["charged"]) == ("settled", 300)
    assert (used(limiter, user), live(limiter, user)) == (300, 0)


def test_what_was_used_above_the_reservation_is_charged(limiter: Limiter, user: str) -> None:
    with limiter.reserve(user, cost={"output_tokens": 900}) as lease:
        state = lease.settle({"output_tokens": 1_200})
    assert state is not None
    assert state["limits"][0]["debt"] == 200
    assert used(limiter, user) == 1_200


def test_leaving_the_block_settles_what_was_observed(limiter: Limiter, user: str) -> None:
    with limiter.reserve(user, cost={"output_tokens": 800}) as lease:
        lease.observe({"output_tokens": 100})
        lease.observe({"output_tokens": 250})
    assert (used(limiter, user), live(limiter, user)) == (250, 0)


def test_leaving_the_block_keeps_what_was_not_observed(limiter: Limiter, user: str) -> None:
    with limiter.reserve(user, cost={"output_tokens": 800}):
        pass
    assert (used(limiter, user), live(limiter, user)) == (800, 0)


@pytest.mark.parametrize(("observed", "charged"), [(None, 800), (250, 800), (950, 950)])
def test_an_exception_settles_as_a_lower_bound(
    limiter: Limiter, user: str, observed: int | None, charged: int
) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        limiter.reserve(user, cost={"output_tokens": 800}) as lease,
    ):
        if observed:
            lease.observe({"output_tokens": observed})
        raise ZeroDivisionError
    assert (used(limiter, user), live(limiter, user)) == (charged, 0)


def test_a_release_gives_everything_back(limiter: Limiter, user: str) -> None:
    with limiter.reserve(user, cost={"output_tokens": 800}) as lease:
        state = lease.release()
    assert state is not None
    assert state["state"] == "released"
    assert (used(limiter, user), live(limiter, user)) == (0, 0)


def test_an_extension_asks_for_more(limiter: Limiter, user: str) -> None:
    with limiter.reserve(user, cost={"output_tokens": 500}, ttl=10) as lease:
        lease.observe({"output_tokens": 450})
        granted = lease.extend(wanted={"output_tokens": 900})
        refused = lease.extend(ttl=20, wanted={"output_tokens": 1_100})
        assert granted is not None
        assert refused is not None
        assert (granted["proceed"], refused["proceed"]) == (True, False)
        assert (granted["ttlMs"], refused["ttlMs"]) == (10_000, 20_000)
        lease.settle({"output_tokens": 600})
    assert used(limiter, user) == 600


def test_a_denied_reservation_raises_its_decision(limiter: Limiter, user: str) -> None:
    with limiter.reserve(user), limiter.reserve(user):
        with pytest.raises(RateLimitExceeded, match=r"limit_exceeded by the policy slots") as error:
            limiter.reserve(user)
        assert error.value.decision.policy_id == "slots"
        assert not error.value.decision.allowed
    with limiter.reserve(user):
        pass
    with pytest.raises(RateLimitExceeded, match=r"waiting does not help"):
        limiter.reserve(user, cost={"output_tokens": 1_001})
    assert live(limiter, user) == 0


def test_an_ended_lease_cannot_be_used(limiter: Limiter, user: str) -> None:
    lease = limiter.reserve(user)
    lease.settle({})
    for call in (lease.release, lease.extend, lambda: lease.settle({})):
        with pytest.raises(RuntimeError, match=r"has been settled or released already"):
            call()


def test_a_lease_without_a_block_settles_when_it_is_gone(path: Path, user: str) -> None:
    limiter = PolicyLimiter.from_file(path)
    lease = limiter.reserve(user, cost={"output_tokens": 100})
    lease.observe({"output_tokens": 120})
    del lease
    gc.collect()
    assert (used(limiter, user), live(limiter, user)) == (120, 0)


def test_a_lease_expires(path: Path, clock: ManualClock) -> None:
    limiter = PolicyLimiter.from_file(path, clock=clock)
    leases = [limiter.reserve("alice", ttl=10) for _ in range(2)]
    clock.advance(10)
    assert live(limiter, "alice") == 0
    with limiter.reserve("alice"):
        assert live(limiter, "alice") == 1
    assert all(lease.settle({}) is not None for lease in leases)


def test_a_request_id_names_a_lease_once(limiter: Limiter, user: str) -> None:
    first = limiter.reserve(user, request_id=f"{user} 1")
    again = limiter.reserve(user, request_id=f"{user} 1")
    assert first.id == again.id
    assert live(limiter, user) == 1
    first.settle({})
    assert limiter.reserve(user, request_id=f"{user} 1").state_at_reservation == "settled"


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda limiter: limiter.reserve("a", ttl=0), ValueError, r"ttl is 0 s; accepted: a numb"),
        (lambda limiter: limiter.reserve("a", ttl=3601), ValueError, r"ttl is 3601 s"),
        (lambda limiter: limiter.reserve("a", ttl="1"), TypeError, r"ttl is of the type str"),
        (lambda limiter: limiter.reserve(), ValueError, r"reserve\(\) names no subject"),
        (lambda limiter: limiter.reserve("a", tll=1), TypeError, r'has no argument "tll"'),
        (lambda limiter: limiter.reserve("a").settle({"x y": 1}), ValueError, r"names no unit"),
        (lambda limiter: limiter.reserve("a").settle(5), TypeError, r"usage"),
        (lambda limiter: limiter.reserve("a").observe({"tokens": -1}), ValueError, r"is -1"),
        (lambda limiter: limiter.reserve("a").extend(0), ValueError, r"ttl is 0 s"),
    ],
)
def test_arguments_are_checked(
    path: Path, call: Callable[[Any], Any], error: type[Exception], text: str
) -> None:
    limiter = PolicyLimiter.from_file(path)
    with pytest.raises(error, match=text):
        call(limiter)
    assert live(limiter, "a") == 0


AsyncLimiter: TypeAlias = AsyncPolicyLimiter | AsyncRedisRateLimiter


@pytest.fixture(params=["memory", "redis"])
def awaited(request: pytest.FixtureRequest, path: Path, redis_server: Redis) -> AsyncLimiter:
    if request.param == "memory":
        return AsyncPolicyLimiter(PolicyLimiter.from_file(path))
    return AsyncRedisRateLimiter(redis_server.url, policies=path, timeout=PATIENT)


async def used_and_live(limiter: AsyncLimiter, user: str) -> tuple[int, int]:
    limits = (await limiter.peek(user, cost=0)).limits
    return limits[0].count, limits[1].count


def test_an_async_block(awaited: AsyncLimiter, user: str) -> None:
    async def work() -> None:
        async with awaited.reserve(user, cost={"output_tokens": 800}) as lease:
            assert await used_and_live(awaited, user) == (800, 1)
            assert lease.id
            assert lease.decision.allowed
            assert lease.state_at_reservation == "live"
            extended = await lease.extend(wanted={"output_tokens": 900})
            assert extended is not None
            assert extended["proceed"]
            lease.observe({"output_tokens": 300})
        assert await used_and_live(awaited, user) == (300, 0)
        with pytest.raises(ZeroDivisionError):
            async with awaited.reserve(user, cost={"output_tokens": 100}) as lease:
                lease.observe({"output_tokens": 10})
                raise ZeroDivisionError
        assert await used_and_live(awaited, user) == (400, 0)

    asyncio.run(work())


def test_an_async_lease_without_a_block(awaited: AsyncLimiter, user: str) -> None:
    async def work() -> None:
        lease = await awaited.reserve(user, cost={"output_tokens": 500})
        settled = await lease.settle({"output_tokens": 5})
        assert settled is not None
        assert settled["limits"][0]["charged"] == 5
        async with await awaited.reserve(user, cost={"output_tokens": 500}) as lease:
            await lease.release()
        assert await used_and_live(awaited, user) == (5, 0)

    asyncio.run(work())


def test_an_async_denial_raises(awaited: AsyncLimiter, user: str) -> None:
    async def work() -> None:
        async with awaited.reserve(user), awaited.reserve(user):
            with pytest.raises(RateLimitExceeded):
                async with awaited.reserve(user):
                    raise AssertionError("it was admitted")

    asyncio.run(work())


def test_a_cancelled_task_gives_its_slot_back(awaited: AsyncLimiter, user: str) -> None:
    async def work() -> None:
        entered = asyncio.Event()

        async def hold() -> None:
            async with awaited.reserve(user):
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(hold())
        await entered.wait()
        assert (await used_and_live(awaited, user))[1] == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await used_and_live(awaited, user))[1] == 0

    asyncio.run(work())


def test_a_store_that_hangs_is_an_error_of_the_settlement(path: Path, tmp_path: Path) -> None:
    hanging = Redis(tmp_path)
    try:
        limiter = RedisRateLimiter(hanging.url, policies=path, timeout=5)
        lease = limiter.reserve("alice", cost={"output_tokens": 5})
        hanging.end()
        with pytest.raises(StoreError):
            lease.settle({"output_tokens": 3})
    finally:
        hanging.end()


def test_a_failed_settlement_does_not_replace_the_exception_of_the_block(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hanging = Redis(tmp_path)
    try:
        limiter = RedisRateLimiter(hanging.url, policies=path, timeout=5)
        with pytest.raises(KeyError), limiter.reserve("alice", cost={"output_tokens": 5}):
            hanging.end()
            raise KeyError
        assert "was not settled when its block raised" in caplog.text
    finally:
        hanging.end()


def test_a_failed_settlement_does_not_replace_the_exception_of_an_async_block(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hanging = Redis(tmp_path)

    async def work() -> None:
        limiter = AsyncRedisRateLimiter(hanging.url, policies=path, timeout=5)
        async with limiter.reserve("alice", cost={"output_tokens": 5}):
            hanging.end()
            raise KeyError

    try:
        with pytest.raises(KeyError):
            asyncio.run(work())
        assert "was not settled when its block raised" in caplog.text
    finally:
        hanging.end()


def test_an_ended_lease_cannot_be_entered(limiter: Limiter, user: str) -> None:
    lease = limiter.reserve(user)
    with lease:
        pass
    with pytest.raises(RuntimeError, match="has been settled or released already"), lease:
        pytest.fail("it was entered")


def test_a_reservation_is_not_entered_in_its_own_block(awaited: AsyncLimiter, user: str) -> None:
    async def work() -> None:
        reservation = awaited.reserve(user)
        async with reservation:
            with pytest.raises(RuntimeError, match="accepted: a call of reserve per block"):
                await reservation.__aenter__()
            assert (await used_and_live(awaited, user))[1] == 1
        assert (await used_and_live(awaited, user))[1] == 0
        # Each block has a lease of its own.
        async with reservation:
            assert (await used_and_live(awaited, user))[1] == 1

    asyncio.run(work())
