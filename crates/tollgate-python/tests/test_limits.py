"""The storages for `limits`, by themselves and under its strategies, slowapi and Flask-Limiter."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import fastapi
import flask
import flask_limiter
import httpx
import limits
import limits.aio.strategies
import limits.strategies
import pytest
import slowapi
import slowapi.errors
from hypothesis import given
from hypothesis import strategies as st
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string
from tollgate import ManualClock
from tollgate.limits import AsyncTollgateStorage, TollgateStorage

KEY = "LIMITS:LIMITER/alice/2/1/minute"
STRATEGIES = [
    limits.strategies.FixedWindowRateLimiter,
    limits.strategies.MovingWindowRateLimiter,
    limits.strategies.SlidingWindowCounterRateLimiter,
]
ASYNC_STRATEGIES = [
    limits.aio.strategies.FixedWindowRateLimiter,
    limits.aio.strategies.MovingWindowRateLimiter,
    limits.aio.strategies.SlidingWindowCounterRateLimiter,
]


@pytest.fixture
def storage(clock: ManualClock) -> TollgateStorage:
    return TollgateStorage(clock=clock)


def test_the_schemes_are_registered() -> None:
    assert type(storage_from_string("tollgate://")) is TollgateStorage
    assert type(storage_from_string("async+tollgate://", max_keys=5)) is AsyncTollgateStorage


@pytest.mark.parametrize(
    "uri", ["tollgate://127.0.0.1:6379", "tollgate://?redis=redis://127.0.0.1", "tollgate:///a"]
)
def test_an_address_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError, match=r"accepted: tollgate://, with options"):
        storage_from_string(uri)
    with pytest.raises(ConfigurationError, match=r"accepted: async\+tollgate://"):
        storage_from_string("async+" + uri)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_admits_the_limit(strategy: Any, clock: ManualClock) -> None:
    limiter = strategy(TollgateStorage("tollgate://", clock=clock))
    item = limits.parse("5/minute")
    assert limiter.get_window_stats(item, "alice").remaining == 5
    assert [limiter.hit(item, "alice", cost=2) for _ in range(3)] == [True, True, False]
    assert limiter.hit(item, "bob", cost=5)
    assert not limiter.hit(item, "carol", cost=6)
    clock.advance(120)
    assert limiter.test(item, "alice", cost=5)
    assert limiter.hit(item, "alice", cost=5)
    assert not limiter.test(item, "alice")
    limiter.clear(item, "alice")
    assert limiter.get_window_stats(item, "alice").remaining == 5


@pytest.mark.parametrize("strategy", ASYNC_STRATEGIES)
def test_each_async_strategy_admits_the_limit(strategy: Any, clock: ManualClock) -> None:
    async def work() -> None:
        limiter = strategy(AsyncTollgateStorage(clock=clock))
        item = limits.parse("5/minute")
        assert await limiter.storage.check()
        answers = [await limiter.hit(item, "alice", cost=2) for _ in range(3)]
        assert answers == [True, True, False]
        assert (await limiter.get_window_stats(item, "bob")).remaining == 5
        clock.advance(120)
        assert await limiter.hit(item, "alice", cost=5)
        assert not await limiter.test(item, "alice")
        await limiter.clear(item, "alice")
        assert await limiter.test(item, "alice", cost=5)
        assert await limiter.hit(item, "alice")
        assert await limiter.storage.reset() == 1

    asyncio.run(work())


def test_the_time_is_that_of_time_time(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = limits.strategies.MovingWindowRateLimiter(storage_from_string("tollgate://"))
    item = limits.parse("1/minute")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    assert [limiter.hit(item), limiter.hit(item)] == [True, False]
    assert limiter.get_window_stats(item).reset_time == pytest.approx(now + 60, abs=1e-5)
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert limiter.hit(item)


def test_a_fixed_window_begins_with_its_first_hit(
    storage: TollgateStorage, clock: ManualClock
) -> None:
    assert (storage.get(KEY), storage.get_expiry(KEY)) == (0, clock.now())
    begin = clock.now()
    assert storage.incr(KEY, 60) == 1
    clock.advance(59.5)
    assert storage.incr(KEY, 60, 5) == 6
    assert (storage.get(KEY), storage.get_expiry(KEY)) == (6, begin + 60)
    clock.advance(0.5)
    assert (storage.get(KEY), storage.get_expiry(KEY)) == (0, begin + 60)
    assert storage.incr(KEY, 60) == 1


def test_a_moving_window_has_no_edge(storage: TollgateStorage, clock: ManualClock) -> None:
    assert storage.get_moving_window(KEY, 2, 60) == (clock.now(), 0)
    begin = clock.now()
    assert storage.acquire_entry(KEY, 2, 60)
    clock.advance(59)
    assert storage.acquire_entry(KEY, 2, 60)
    assert storage.get_moving_window(KEY, 2, 60) == (begin, 2)
    clock.advance(1)
    assert storage.get_moving_window(KEY, 2, 60) == (begin + 59, 1)
    assert [storage.acquire_entry(KEY, 2, 60) for _ in range(2)] == [True, False]


def test_a_cost_of_0_is_admitted_and_counts_nothing(storage: TollgateStorage) -> None:
    assert storage.acquire_entry(KEY, 1, 60)
    assert storage.acquire_entry(KEY, 1, 60, 0)
    assert storage.acquire_sliding_window_entry(KEY, 1, 60, 0)
    assert storage.incr(KEY, 60, 0) == 0
    assert storage.get_moving_window(KEY, 1, 60)[1] == 1
    assert storage.get_sliding_window(KEY, 60)[2] == 0


def test_the_windows_of_a_key_count_apart(storage: TollgateStorage) -> None:
    storage.incr(KEY, 60, 7)
    assert storage.acquire_entry(KEY, 5, 60, 3)
    assert storage.acquire_sliding_window_entry(KEY, 5, 60, 2)
    storage.clear_sliding_window(KEY, 60)
    assert storage.get_sliding_window(KEY, 60)[2] == 0
    assert (storage.get(KEY), storage.get_moving_window(KEY, 5, 60)[1]) == (7, 3)
    storage.clear(KEY)
    assert (storage.get(KEY), storage.get_moving_window(KEY, 5, 60)[1]) == (0, 0)


def test_a_reset_clears_everything(storage: TollgateStorage, clock: ManualClock) -> None:
    storage.incr("over", 1)
    clock.advance(1)
    for key in ("a", "b"):
        storage.incr(key, 60)
    assert storage.acquire_entry("a", 1, 60)
    assert storage.reset() == 3
    assert storage.reset() == 0
    assert storage.acquire_entry("a", 1, 60)


def test_the_number_of_keys_is_capped(clock: ManualClock) -> None:
    storage = TollgateStorage(max_keys=3, clock=clock)
    for number in range(10):
        storage.incr(f"key {number}", 60 + number)
        assert storage.acquire_entry(f"key {number}", 1, 60)
        assert storage.acquire_sliding_window_entry(f"key {number}", 1, 60)
    assert [storage.get(f"key {number}") for number in range(10)] == [0] * 7 + [1] * 3
    assert storage.reset() == 9


def test_a_clock_that_steps_back_gives_no_room(
    storage: TollgateStorage, clock: ManualClock
) -> None:
    storage.incr(KEY, 60)
    assert storage.acquire_entry(KEY, 1, 60)
    assert storage.acquire_sliding_window_entry(KEY, 1, 60)
    clock.set(clock.now() - 1_000)
    assert storage.get(KEY) == 1
    assert not storage.acquire_entry(KEY, 1, 60)
    assert not storage.acquire_sliding_window_entry(KEY, 1, 60)


# Steps in 1/64 s, which floats and nanoseconds have without rounding.
STEPS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 5), st.integers(0, 12)), min_size=1, max_size=60
)


@given(STEPS)
def test_a_moving_window_is_the_list_of_its_hits(steps: list[tuple[int, int, int]]) -> None:
    clock = ManualClock(1_000)
    storage = TollgateStorage(clock=clock)
    hits: list[tuple[float, int]] = []
    for ticks, amount, limit in steps:
        clock.advance(ticks / 64)
        now = clock.now()
        hits = [(at, cost) for at, cost in hits if at > now - 4]
        used = sum(cost for _, cost in hits)
        admitted = amount == 0 or used + amount <= limit
        assert storage.acquire_entry(KEY, limit, 4, amount) == admitted
        if admitted and amount:
            hits.append((now, amount))
            used += amount
        assert storage.get_moving_window(KEY, limit, 4) == (hits[0][0] if hits else now, used)


@given(STEPS)
def test_a_sliding_window_counter_is_two_counts(steps: list[tuple[int, int, int]]) -> None:
    clock = ManualClock(1_000)
    storage = TollgateStorage(clock=clock)
    counts: dict[int, int] = {}
    for ticks, amount, limit in steps:
        clock.advance(ticks / 64)
        now = Fraction(clock.now())
        index = now // 4
        left = (index + 1) * 4 - now
        before, current = counts.get(index - 1, 0), counts.get(index, 0)
        admitted = (before * left / 4 + current) // 1 + amount <= limit
        assert storage.acquire_sliding_window_entry(KEY, limit, 4, amount) == admitted
        if admitted:
            current += amount
            counts[index] = current
        shown = (before, float(left) if before else 0, current, float(left) + 4)
        assert storage.get_sliding_window(KEY, 4) == shown


@given(STEPS)
def test_a_fixed_window_is_a_count_with_an_end(steps: list[tuple[int, int, int]]) -> None:
    clock = ManualClock(1_000)
    storage = TollgateStorage(clock=clock)
    count, end = 0, 0.0
    for ticks, amount, _ in steps:
        clock.advance(ticks / 64)
        if clock.now() >= end:
            count, end = 0, clock.now() + 4
        count += amount
        assert storage.incr(KEY, 4, amount) == count
        assert (storage.get(KEY), storage.get_expiry(KEY)) == (count, end)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_16_threads_get_exactly_the_limit(strategy: Any, clock: ManualClock) -> None:
    def now() -> float:
        # Other threads run while this one computes.
        return clock.now() + sum(range(200)) * 0

    limiter = strategy(TollgateStorage(clock=now))
    item = limits.parse("100/hour")
    start = threading.Barrier(16)

    def ask(_: int) -> int:
        start.wait()
        return sum(limiter.hit(item, "alice") for _ in range(50))

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(ask, range(16))) == 100


CALLS: list[Callable[[TollgateStorage, Any], object]] = [
    lambda storage, value: storage.incr(KEY, 60, value),
    lambda storage, value: storage.incr(KEY, value),
    lambda storage, value: storage.acquire_entry(KEY, 5, 60, value),
    lambda storage, value: storage.acquire_entry(KEY, value, 60),
    lambda storage, value: storage.acquire_entry(KEY, 5, value),
    lambda storage, value: storage.get_moving_window(KEY, 5, value),
    lambda storage, value: storage.acquire_sliding_window_entry(KEY, value, 60),
    lambda storage, value: storage.get_sliding_window(KEY, value),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", [-1, 10**30, "1", None, True, [1], float("nan")])
def test_bad_numbers_are_named(
    call: Callable[[TollgateStorage, Any], object], value: Any, storage: TollgateStorage
) -> None:
    with pytest.raises((TypeError, ValueError), match=r"(amount|expiry|limit) is .*; accepted: "):
        call(storage, value)
    assert storage.reset() == 0


def test_a_number_with_many_digits_is_named(storage: TollgateStorage) -> None:
    for call in CALLS:
        with pytest.raises(ValueError, match=r"(amount|expiry|limit) is too large; accepted: "):
            call(storage, 10**5000)


@pytest.mark.parametrize("expiry", [0, 0.0, 366 * 86_400 + 1])
def test_a_window_is_as_long_as_a_limiter_takes(expiry: float, storage: TollgateStorage) -> None:
    for call in CALLS[4], CALLS[5], CALLS[7]:
        with pytest.raises(ValueError, match=r"expiry is .*; accepted: .*366 days"):
            call(storage, expiry)


@pytest.mark.parametrize("key", ["", "a\0b", "é" * 10_000, "a/1", "🧱"])
def test_any_text_is_a_key(key: str, storage: TollgateStorage) -> None:
    assert storage.incr(key, 60) == 1
    assert [storage.acquire_entry(key, 1, 60) for _ in range(2)] == [True, False]
    assert [storage.acquire_sliding_window_entry(key, 1, 60) for _ in range(2)] == [True, False]
    assert storage.acquire_entry(key + "/1", 1, 60)


@pytest.mark.parametrize("key", [b"a", None, 1, "\ud800"])
def test_other_keys_are_refused(key: Any, storage: TollgateStorage) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: storage.incr(key, 60),
        lambda: storage.get(key),
        lambda: storage.get_expiry(key),
        lambda: storage.clear(key),
        lambda: storage.acquire_entry(key, 1, 60),
        lambda: storage.get_moving_window(key, 1, 60),
        lambda: storage.acquire_sliding_window_entry(key, 1, 60),
        lambda: storage.get_sliding_window(key, 60),
        lambda: storage.clear_sliding_window(key, 60),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=r"^key (is of the type|has a lone sur)"):
            call()


def test_errors_are_wrapped_if_wanted() -> None:
    storage = storage_from_string("tollgate://", wrap_exceptions=True)
    with pytest.raises(StorageError):
        storage.incr(KEY, -1)


@pytest.mark.parametrize("kind", [TollgateStorage, AsyncTollgateStorage])
def test_options_are_checked(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"max_keys is 0; accepted"):
        kind(max_keys=0)
    with pytest.raises(TypeError, match=r"clock is not a clock; accepted"):
        kind(clock=1)
    with pytest.raises(TypeError, match=r"unexpected keyword argument"):
        kind(size=1)
    with pytest.raises(TypeError, match=r"cannot pickle"):
        pickle.dumps(kind())


def test_after_a_fork_each_process_counts_by_itself(storage: TollgateStorage) -> None:
    assert storage.acquire_entry(KEY, 2, 60)
    child = os.fork()
    if child == 0:
        answers = [storage.acquire_entry(KEY, 2, 60) for _ in range(2)]
        os._exit(0 if answers == [True, False] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert storage.get_moving_window(KEY, 2, 60)[1] == 1


def test_a_process_may_end_while_daemon_threads_hit() -> None:
    program = """
import threading, limits, tollgate.limits
strategy = limits.strategies.MovingWindowRateLimiter(
    limits.storage.storage_from_string("tollgate://"))
item = limits.parse("10/minute")
busy = threading.Barrier(9)
def work():
    for _ in range(2000):
        strategy.hit(item, "alice")
    busy.wait()
    while True:
        strategy.hit(item, "alice")
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
busy.wait()
for _ in range(20000):
    strategy.hit(item, "bob")
"""
    for _ in range(3):
        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, timeout=60, check=False
        )
        assert (run.returncode, run.stderr) == (0, b"")


def test_slowapi_denies_with_429() -> None:
    limiter = slowapi.Limiter(
        key_func=lambda request: request.headers["x-user"],
        storage_uri="tollgate://",
        strategy="moving-window",
        headers_enabled=True,
    )
    app = fastapi.FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(
        slowapi.errors.RateLimitExceeded,
        slowapi._rate_limit_exceeded_handler,  # type: ignore[arg-type]
    )

    @app.get("/models")
    @limiter.limit("2/minute")
    async def models(request: fastapi.Request) -> fastapi.Response:
        return fastapi.Response(request.headers["x-user"])

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            users = ["alice", "alice", "alice", "bob"]
            return [await client.get("/models", headers={"x-user": user}) for user in users]

    answers = asyncio.run(ask())
    assert [one.status_code for one in answers] == [200, 200, 429, 200]
    assert [one.headers["x-ratelimit-remaining"] for one in answers] == ["1", "0", "0", "1"]
    assert 0 < int(answers[2].headers["retry-after"]) <= 60


@pytest.mark.parametrize("strategy", ["fixed-window", "moving-window", "sliding-window-counter"])
def test_flask_limiter_denies_with_429(strategy: str) -> None:
    app = flask.Flask("test")
    limiter = flask_limiter.Limiter(
        lambda: flask.request.headers["x-user"],
        app=app,
        storage_uri="tollgate://",
        storage_options={"max_keys": 1_000},
        strategy=strategy,
        headers_enabled=True,
    )

    @app.get("/models")
    @limiter.limit("2/hour")
    def models() -> str:
        return "gpt-4"

    client = app.test_client()
    users = ["alice", "alice", "alice", "bob"]
    answers = [client.get("/models", headers={"x-user": user}) for user in users]
    assert [one.status_code for one in answers] == [200, 200, 429, 200]
    assert [one.headers["X-RateLimit-Remaining"] for one in answers] == ["1", "0", "0", "1"]
    assert isinstance(limiter.storage, TollgateStorage)
    limiter.reset()
    assert client.get("/models", headers={"x-user": "alice"}).status_code == 200
