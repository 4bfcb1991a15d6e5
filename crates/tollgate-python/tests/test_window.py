"""Windows that slide, with a clock that tests move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tollgate import ManualClock, RateLimiter


def test_room_comes_back_when_an_admission_leaves_the_window(clock: ManualClock) -> None:
    limiter = RateLimiter(2, 60, clock=clock)
    assert limiter.allow("alice", "gpt-4")
    clock.advance(30)
    assert limiter.allow("alice", "gpt-4")
    assert not limiter.allow("alice", "gpt-4")
    clock.advance(30)
    assert limiter.allow("alice", "gpt-4")
    assert not limiter.allow("alice", "gpt-4")


def test_there_is_no_edge_at_which_twice_the_limit_passes(clock: ManualClock) -> None:
    limiter = RateLimiter(10, 60, clock=clock)
    clock.set(59.999)
    assert sum(limiter.allow("alice", "gpt-4") for _ in range(20)) == 10
    clock.set(60.001)
    assert not limiter.allow("alice", "gpt-4")


def test_the_wait_is_exact_to_the_millisecond(clock: ManualClock) -> None:
    limiter = RateLimiter(1, 60, clock=clock)
    assert limiter.allow("alice", "gpt-4")
    clock.advance(12.345)
    wait_ms = limiter.check("alice", "gpt-4").retry_after_ms
    assert wait_ms is not None
    clock.advance((wait_ms - 1) / 1000)
    assert not limiter.allow("alice", "gpt-4")
    clock.advance(0.001)
    assert limiter.allow("alice", "gpt-4")


def test_the_count_falls_as_admissions_leave(clock: ManualClock) -> None:
    limiter = RateLimiter(5, 10, clock=clock)
    for _ in range(3):
        limiter.allow("alice", "gpt-4")
        clock.advance(3)
    assert limiter.get_request_count("alice", "gpt-4") == 3
    clock.advance(1.1)
    assert limiter.get_request_count("alice", "gpt-4") == 2
    clock.advance(6)
    assert limiter.get_request_count("alice", "gpt-4") == 0


def test_the_usage_is_gone_after_reset_after(clock: ManualClock) -> None:
    limiter = RateLimiter(5, 10, clock=clock)
    limiter.allow("alice", "gpt-4")
    clock.advance(4)
    reset_after_ms = limiter.check("alice", "gpt-4").reset_after_ms
    assert 9_900 <= reset_after_ms <= 10_001
    clock.advance(reset_after_ms / 1000)
    assert limiter.get_request_count("alice", "gpt-4") == 0


@pytest.mark.parametrize(
    ("window", "seen"),
    [(0.001, 0.001), (0.5, 0.5), (1.5, 1.5), (60, 60), (60.0, 60), (31_622_400, 31_622_400)],
)
def test_windows_are_from_a_millisecond_to_366_days(window: float, seen: float) -> None:
    decision = RateLimiter(1, window).check("alice", "gpt-4")
    assert decision.window_seconds == seen
    assert isinstance(decision.window_seconds, type(seen))


def test_a_clock_that_is_set_back_gives_no_room_back_early(clock: ManualClock) -> None:
    limiter = RateLimiter(1, 60, clock=clock)
    assert limiter.allow("alice", "gpt-4")
    clock.set(1_699_999_000)
    assert not limiter.allow("alice", "gpt-4")
    clock.set(1_700_000_061)
    assert limiter.allow("alice", "gpt-4")


def test_limiters_can_share_a_clock(clock: ManualClock) -> None:
    limiters = [RateLimiter(1, window, clock=clock) for window in (1, 2)]
    assert all(limiter.allow("alice", "gpt-4") for limiter in limiters)
    clock.advance(1)
    assert [limiter.allow("alice", "gpt-4") for limiter in limiters] == [True, False]


def test_a_function_can_be_the_clock() -> None:
    now = [1_000.0]
    limiter = RateLimiter(1, 60, clock=lambda: now[0])
    assert limiter.allow("alice", "gpt-4")
    now[0] += 59.9
    assert not limiter.allow("alice", "gpt-4")
    now[0] += 0.2
    assert limiter.allow("alice", "gpt-4")
    assert limiter.get_request_count("alice", "gpt-4") == 1


def test_an_error_of_the_clock_is_raised_and_charges_nothing() -> None:
    times = iter([1.0, 2.0])
    limiter = RateLimiter(5, 60, clock=lambda: next(times))
    assert limiter.allow("alice", "gpt-4")
    assert limiter.get_request_count("alice", "gpt-4") == 1
    with pytest.raises(StopIteration):
        limiter.allow("alice", "gpt-4")


@pytest.mark.parametrize("now", ["now", None, -1.0, float("nan"), float("inf"), 1e30])
def test_a_clock_must_return_seconds(now: object) -> None:
    limiter = RateLimiter(5, 60, clock=lambda: now)  # type: ignore[arg-type, return-value]
    with pytest.raises((TypeError, ValueError), match=r"the time of clock"):
        limiter.allow("alice", "gpt-4")


def test_a_manual_clock_shows_its_time(clock: ManualClock) -> None:
    clock.advance(1.5)
    assert clock.now() == 1_700_000_001.5
    assert repr(clock) == "ManualClock(1700000001.5)"
    assert ManualClock().now() == 0


@given(
    limit=st.integers(0, 6),
    window_ms=st.integers(1, 50),
    steps=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4)), max_size=60),
)
def test_it_agrees_with_the_definition(
    limit: int, window_ms: int, steps: list[tuple[int, int]]
) -> None:
    """Against the plain model: an admission counts for the window and not a nanosecond longer."""
    clock = ManualClock(1_000)
    limiter = RateLimiter(limit, window_ms / 1000, clock=clock)
    now_ms, admitted = 0, list[tuple[int, int]]()
    for advance_ms, cost in steps:
        now_ms += advance_ms
        clock.set(1_000 + now_ms / 1000)
        # Seconds in a float are a little off, so a case at the very edge is left out.
        if any(at_ms + window_ms == now_ms for at_ms, _ in admitted):
            continue
        used = sum(cost for at_ms, cost in admitted if at_ms + window_ms > now_ms)
        fits = used + max(cost, 1) <= limit
        assert limiter.allow("alice", "gpt-4", cost) == fits
        if fits:
            admitted.append((now_ms, cost))
