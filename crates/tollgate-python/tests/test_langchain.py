"""The rate limiter of LangChain's chat models."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from servers import Redis
from tollgate import (
    AsyncRateLimiter,
    ManualClock,
    RateLimiter,
    RateLimitExceeded,
    RedisRateLimiter,
)
from tollgate.langchain import RateLimiter as ModelLimiter


class Sleeps:
    """Moves a clock in place of sleeping."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.seconds: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.clock.advance(seconds)

    async def async_sleep(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture
def sleeps(clock: ManualClock) -> Sleeps:
    return Sleeps(clock)


def limiter(sleeps: Sleeps, limit: int = 1) -> ModelLimiter:
    counted = RateLimiter(limit, 60, clock=sleeps.clock)
    return ModelLimiter(
        counted,
        "app",
        "gpt-4",
        async_limiter=AsyncRateLimiter(counted),
        sleep=sleeps.sleep,
        async_sleep=sleeps.async_sleep,
    )


def test_a_call_waits_exactly_until_it_is_admitted(sleeps: Sleeps) -> None:
    model_limiter = limiter(sleeps)
    assert model_limiter.acquire()
    sleeps.clock.advance(20)
    assert model_limiter.acquire()
    assert sleeps.seconds == [40]


def test_a_call_that_must_not_wait_is_told(sleeps: Sleeps) -> None:
    model_limiter = limiter(sleeps)
    assert [model_limiter.acquire(blocking=False) for _ in range(2)] == [True, False]
    assert sleeps.seconds == []


def test_a_call_that_is_never_admitted_raises(sleeps: Sleeps) -> None:
    model_limiter = limiter(sleeps, 0)
    with pytest.raises(RateLimitExceeded, match=r"banned by the policy default"):
        model_limiter.acquire()
    with pytest.raises(RateLimitExceeded):
        asyncio.run(model_limiter.aacquire())


def test_an_async_call_waits_too(sleeps: Sleeps) -> None:
    model_limiter = limiter(sleeps)

    async def work() -> None:
        assert await model_limiter.aacquire()
        assert not await model_limiter.aacquire(blocking=False)
        assert await model_limiter.aacquire()

    asyncio.run(work())
    assert sleeps.seconds == [60]


def test_a_chat_model_is_limited(sleeps: Sleeps) -> None:
    model = FakeListChatModel(responses=["word"], rate_limiter=limiter(sleeps))
    assert [model.invoke("Hello").content for _ in range(3)] == ["word"] * 3
    assert asyncio.run(model.ainvoke("Hello")).content == "word"
    assert sleeps.seconds == [60, 60, 60]


def test_a_limiter_that_would_block_the_loop_is_refused(redis_server: Redis) -> None:
    model_limiter = ModelLimiter(RedisRateLimiter(redis_server.url), "app", "gpt-4")
    with pytest.raises(TypeError, match=r"would block the event loop"):
        asyncio.run(model_limiter.aacquire())


def test_what_is_wrong_is_refused_when_it_is_made(redis_server: Redis) -> None:
    limiter, wrong = RateLimiter(), RedisRateLimiter(redis_server.url)
    missing: Any = None
    other: Any
    for other in (missing, 3, AsyncRateLimiter()):
        with pytest.raises(TypeError, match=r"(is of the type .*|needs await); accepted: a lim"):
            ModelLimiter(other, "app", "gpt-4")
    with pytest.raises(TypeError, match=r"would block the event loop"):
        ModelLimiter(limiter, "app", "gpt-4", async_limiter=wrong)
    with pytest.raises(TypeError, match=r"limiter is of the type int"):
        number: Any = 3
        ModelLimiter(limiter, "app", "gpt-4", async_limiter=number)
    with pytest.raises(TypeError, match=r"user is of the type NoneType; accepted: str"):
        ModelLimiter(limiter, missing, "gpt-4")
    with pytest.raises(TypeError, match=r"model is of the type NoneType; accepted: str"):
        ModelLimiter(limiter, "app", missing)
    with pytest.raises(TypeError, match=r"sleep is of the type NoneType; accepted: a function"):
        ModelLimiter(limiter, "app", "gpt-4", sleep=missing)
