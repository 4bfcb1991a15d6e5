"""How fast the limiters are beside `limits`, in one process. Prints; judges nothing.

`scripts/python bench` runs it, with a release build.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import limits
from limits.aio import storage as async_storage
from limits.aio import strategies as async_strategies
from tollgate import AsyncRateLimiter, AsyncRedisRateLimiter, RateLimiter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from servers import Redis

ROUNDS = 5
CALLS = 200_000
# So many that no check is denied, which would be another measurement.
MANY = 1_000_000_000
TASKS = 64
SECONDS = 2.0


def ns_per_call(call: Callable[..., object], *arguments: Any, calls: int = CALLS) -> float:
    """Return the time of a call beyond that of an empty loop: the median of several rounds."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        for _ in range(calls):
            pass
        empty = time.perf_counter_ns()
        for _ in range(calls):
            call(*arguments)
        end = time.perf_counter_ns()
        rounds.append((end - empty - (empty - start)) / calls)
    return statistics.median(rounds)


async def ns_per_await(calls: int = CALLS) -> float:
    """Return the time of `await limiter.check`."""
    limiter, rounds = AsyncRateLimiter(RateLimiter(MANY, 3600)), []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        for _ in range(calls):
            await limiter.check("alice", "gpt-4")
        rounds.append((time.perf_counter_ns() - start) / calls)
    return statistics.median(rounds)


async def checks_per_second(ask: Callable[[str], Awaitable[object]]) -> float:
    """Return the rate of 64 tasks on one loop."""
    end, asked = time.perf_counter() + SECONDS, 0
    await ask("user 0")

    async def ask_often(user: str) -> None:
        nonlocal asked
        while time.perf_counter() < end:
            await ask(user)
            asked += 1

    await asyncio.gather(*(ask_often(f"user {task}") for task in range(TASKS)))
    return asked / SECONDS


async def longest_turn_ms(ask: Callable[[str], Awaitable[object]]) -> float:
    """Return the longest turn of the loop beside 64 tasks, without the longest 0.1 %.

    These are turns in which the machine ran something else.
    """
    working = asyncio.create_task(checks_per_second(ask))
    turns = []
    while not working.done():
        before = time.perf_counter()
        await asyncio.sleep(0)
        turns.append(time.perf_counter() - before)
    turns.sort()
    return turns[len(turns) * 999 // 1_000] * 1_000


async def over_redis(url: str) -> tuple[list[tuple[float, float]], float]:
    """Return the rates of Tollgate and of `limits` in turns, and the longest turn of the loop."""
    shared = AsyncRedisRateLimiter(url, MANY, 3600)
    item = limits.RateLimitItemPerHour(1_000_000)
    window = async_strategies.MovingWindowRateLimiter(
        async_storage.RedisStorage(f"async+{url}", implementation="redispy")
    )

    def mine(user: str) -> Awaitable[bool]:
        return shared.allow(user, "gpt-4")

    def theirs(user: str) -> Awaitable[bool]:
        return window.hit(item, user)

    rates = [
        (await checks_per_second(mine), await checks_per_second(theirs)) for _ in range(ROUNDS)
    ]
    return rates, await longest_turn_ms(mine)


def main() -> None:
    """Measure and print."""
    allow = ns_per_call(RateLimiter(MANY, 3600).allow, "alice", "gpt-4")
    print(f"allow on a hot key, beyond an empty loop:  {allow:8.0f} ns   (goal: at most 150)")
    window = limits.strategies.MovingWindowRateLimiter(limits.storage.MemoryStorage())
    item = limits.RateLimitItemPerSecond(100)
    hit = ns_per_call(window.hit, item, "alice", "gpt-4", calls=5_000)
    print(f"limits, moving window in memory:           {hit:8.0f} ns")
    print(f"  times as fast:                           {hit / allow:8.1f}      (goal: at least 20)")
    awaited = asyncio.run(ns_per_await())
    print(f"await check in memory, with the loop:      {awaited:8.0f} ns   (goal: at most 1000)")
    with tempfile.TemporaryDirectory() as folder:
        redis = Redis(Path(folder))
        try:
            rates, turn_ms = asyncio.run(over_redis(redis.url))
        finally:
            redis.end()
    mine, theirs = (statistics.median(one) for one in zip(*rates, strict=True))
    times = sorted(mine / theirs for mine, theirs in rates)
    print(f"Redis, {TASKS} tasks on one loop:                {mine:8.0f} checks a second")
    print(f"limits, async moving window:               {theirs:8.0f} checks a second")
    print(
        f"  times as fast:                           {statistics.median(times):8.1f}"
        f"      (goal: at least 5; {times[0]:.1f} to {times[-1]:.1f})"
    )
    print(f"  longest turn of the loop, p99.9:         {turn_ms:8.2f} ms   (goal: at most 1)")


if __name__ == "__main__":
    main()
