"""The limiters in memory with `await`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tollgate import (
    AsyncMultiTierRateLimiter,
    AsyncPolicyLimiter,
    AsyncRateLimiter,
    MultiTierRateLimiter,
    PolicyLimiter,
    RateLimiter,
)


def test_it_answers_as_the_limiter_that_it_wraps() -> None:
    async def ask() -> None:
        limiter = AsyncRateLimiter(RateLimiter(2, 60))
        assert await limiter.allow("alice", "gpt-4")
        assert (await limiter.check("alice", "gpt-4")).remaining == 0
        assert not await limiter.allow("alice", "gpt-4")
        assert not (await limiter.peek("alice", "gpt-4")).allowed
        assert await limiter.get_request_count("alice", "gpt-4") == 2
        await limiter.reset_user("alice")
        assert await limiter.allow("alice", "gpt-4", cost=2)
        assert limiter.get_metrics()["total"] == 4
        assert limiter.reset_metrics()["allowed"] == 3

    asyncio.run(ask())


def test_usage_is_shared_with_the_limiter_that_it_wraps() -> None:
    limiter = RateLimiter(1, 60)
    assert limiter.allow("alice", "gpt-4")
    assert not asyncio.run(AsyncRateLimiter(limiter).allow("alice", "gpt-4"))


def test_many_tasks_get_exactly_the_limit() -> None:
    async def ask() -> int:
        limiter = AsyncRateLimiter(RateLimiter(100, 60))
        tasks = [asyncio.create_task(limiter.allow("alice", "gpt-4")) for _ in range(500)]
        return sum(await asyncio.gather(*tasks))

    assert asyncio.run(ask()) == 100


def test_a_check_never_leaves_the_loop() -> None:
    async def ask() -> list[str]:
        limiter, order = AsyncRateLimiter(), list[str]()
        asyncio.get_running_loop().call_soon(order.append, "another")
        for _ in range(10):
            await limiter.check("alice", "gpt-4")
        order.append("checks")
        await asyncio.sleep(0)
        return order

    assert asyncio.run(ask()) == ["checks", "another"]


def test_two_tiers_with_await() -> None:
    async def ask() -> None:
        limiter = AsyncMultiTierRateLimiter(MultiTierRateLimiter((1, 60), (2, 60)))
        assert await limiter.allow("alice", "gpt-4") == (True, "within_limits")
        assert await limiter.allow("alice", "gpt-4") == (False, "user_model_limit")
        assert (await limiter.check("bob", "gpt-4")).allowed
        assert await limiter.get_request_count("bob", "gpt-4") == 1
        assert await limiter.get_model_request_count("gpt-4") == 2
        await limiter.reset_user("alice")
        assert limiter.get_metrics()["denied"] == 1
        assert limiter.reset_metrics()["allowed"] == 2
        assert (await AsyncMultiTierRateLimiter().check("alice", "gpt-4")).allowed

    asyncio.run(ask())


def test_policies_with_await(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text("policies: [{id: p, per: [tenant], limit: 2, windowSeconds: 60}]")

    async def ask() -> None:
        limiter = AsyncPolicyLimiter(PolicyLimiter.from_file(path))
        assert await limiter.allow(tenant="acme")
        assert (await limiter.check(tenant="acme")).count == 2
        assert not (await limiter.peek(tenant="acme")).allowed
        assert await limiter.reset(tenant="acme") == ["p"]
        with pytest.raises(ValueError, match=r"names no subject"):
            await limiter.check()
        assert limiter.get_metrics()["allowed"] == 2
        assert limiter.reset_metrics()["denied"] == 0

    asyncio.run(ask())
