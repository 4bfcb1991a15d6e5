"""Bad input, odd input, and what Python does to objects."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import resource
import weakref
from typing import Any

import pytest
from tollgate import (
    AsyncLease,
    AsyncPolicyLimiter,
    AsyncRateLimiter,
    Decision,
    ManualClock,
    MultiTierRateLimiter,
    PolicyLimiter,
    RateLimitConfig,
    RateLimiter,
    RateLimitExceeded,
    RedisRateLimiter,
    Tier,
)


@pytest.mark.parametrize("limit", [1.0, 2.5, "1", True, [1], (), float("nan"), b"1"])
def test_a_limit_is_an_integer(limit: Any) -> None:
    with pytest.raises(TypeError, match=r"max_requests is of the type .*; accepted: an integer"):
        RateLimiter(limit, 60)


@pytest.mark.parametrize("limit", [-1, 2**53, 2**64, -(2**64)])
def test_a_limit_is_in_range(limit: int) -> None:
    with pytest.raises(
        ValueError, match=r"max_requests is .*; accepted: an integer from 0 to 9007"
    ):
        RateLimiter(limit, 60)


@pytest.mark.parametrize("window", ["60", True, [60], (), b"1"])
def test_a_window_is_a_number(window: Any) -> None:
    with pytest.raises(TypeError, match=r"window_seconds is of the type"):
        RateLimiter(1, window)


@pytest.mark.parametrize(
    "window",
    [0, -1, 0.0001, 31_622_401, float("inf"), float("-inf"), float("nan"), 1e300],
)
def test_a_window_is_in_range(window: float) -> None:
    with pytest.raises(ValueError, match=r"window_seconds is .*; accepted: a number of seconds"):
        RateLimiter(1, window)


def test_an_integer_with_thousands_of_digits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_requests is too large; accepted"):
        RateLimiter(10**5000, 60)
    with pytest.raises(ValueError, match=r"window_seconds is too large; accepted"):
        RateLimiter(1, 10**5000)
    with pytest.raises(ValueError, match=r"cost is too large; accepted"):
        RateLimiter().allow("alice", "gpt-4", 10**5000)


def test_a_limit_that_is_not_given_is_the_default_and_none_is_not() -> None:
    assert RateLimiter().check("alice", "gpt-4").limit == 100
    missing: Any = None
    for arguments in ({"max_requests": missing}, {"window_seconds": missing}):
        with pytest.raises(TypeError, match=r"is of the type NoneType; accepted"):
            RateLimiter(**arguments)
    with pytest.raises(TypeError, match=r"max_requests is of the type NoneType"):
        RateLimiter.from_config(RateLimitConfig(missing))
    for name in ("algorithm", "unit", "name", "max_keys"):
        with pytest.raises(TypeError, match=rf"{name} is of the type NoneType; accepted"):
            RateLimiter(1, 60, **{name: missing})
    for name in ("per_user_model", "per_model", "max_keys"):
        with pytest.raises(TypeError, match=rf"{name} is of the type NoneType; accepted"):
            MultiTierRateLimiter(**{name: missing})
    limiter, tiers = RateLimiter(), MultiTierRateLimiter()
    for call in (limiter.allow, limiter.check, limiter.peek, tiers.check):
        with pytest.raises(TypeError, match=r"cost is of the type NoneType; accepted: an integer"):
            call("alice", "gpt-4", missing)
    assert limiter.get_metrics()["total"] == 0


@pytest.mark.parametrize("config", [(1, 2), None, 3, RateLimiter])
def test_a_config_is_a_config(config: Any) -> None:
    with pytest.raises(TypeError, match=r"config is of the type .*; accepted: a tollgate.RateLimi"):
        RateLimiter.from_config(config)


def test_an_error_of_a_config_is_raised_as_it_is() -> None:
    class Config:
        max_requests = 1

        @property
        def window_seconds(self) -> float:
            raise KeyError("window_seconds")

    config: Any = Config()
    with pytest.raises(KeyError, match="window_seconds"):
        RateLimiter.from_config(config)


def test_a_long_text_is_shortened_in_an_error() -> None:
    for name in ("algorithm", "unit", "name"):
        long: Any = {name: "a" * 10**6}
        with pytest.raises(ValueError, match=rf"{name} (is|has) .*1000000 bytes") as error:
            RateLimiter(1, 60, **long)
        assert len(str(error.value)) < 400


def test_a_denial_can_be_copied() -> None:
    decision = RateLimiter(0, 60).check("alice", "gpt-4")
    copied = copy.copy(RateLimitExceeded(decision))
    assert copied.decision is decision
    assert str(copied) == str(RateLimitExceeded(decision)) != ""
    assert copy.deepcopy(copied).decision is decision
    assert copy.copy(decision.limits[0]) == decision.limits[0]


def test_async_limiters_wrap_only_what_they_name() -> None:
    wrong: Any
    for wrong in (3, AsyncRateLimiter(), MultiTierRateLimiter(), RateLimiter):
        with pytest.raises(TypeError, match=r"limiter is of the type .*; accepted: a RateLimiter"):
            AsyncRateLimiter(wrong)
    for wrong in (None, RateLimiter()):
        with pytest.raises(TypeError, match=r"accepted: a PolicyLimiter"):
            AsyncPolicyLimiter(wrong)


@pytest.mark.parametrize("wrong", [1, None, b"alice", 1.5, ["alice"], object()])
def test_users_and_models_are_text(wrong: Any) -> None:
    limiter = RateLimiter(1, 60)
    for arguments in ((wrong, "gpt-4"), ("alice", wrong)):
        for call in (limiter.allow, limiter.check, limiter.peek, limiter.get_request_count):
            with pytest.raises(TypeError, match=r"^(user|model) is of the type .*; accepted: str$"):
                call(*arguments)
    with pytest.raises(TypeError, match=r"^user is of the type .*; accepted: str$"):
        limiter.reset_user(wrong)
    tiers = MultiTierRateLimiter()
    with pytest.raises(TypeError, match=r"^user is of the type .*; accepted: str$"):
        tiers.allow(wrong, "gpt-4")
    with pytest.raises(TypeError, match=r"^model is of the type .*; accepted: str$"):
        tiers.get_model_request_count(wrong)


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n", "\0", "é", "用户", "👩‍🚀", "a" * 100_000, "'; DROP TABLE users", "{x}:|"],
)
def test_any_text_is_a_user_and_a_model(text: str) -> None:
    limiter = RateLimiter(1, 60)
    assert limiter.allow(text, "gpt-4")
    assert not limiter.allow(text, "gpt-4")
    assert limiter.allow("alice", text)
    assert not limiter.allow("alice", text)


def test_a_lone_surrogate_is_not_text() -> None:
    limiter, tiers, text = RateLimiter(1, 60), MultiTierRateLimiter(), "a\ud800"
    message = r"has a lone surrogate; accepted: a str that UTF-8 can encode"
    for call in (limiter.allow, limiter.peek, limiter.get_request_count, tiers.allow, tiers.check):
        with pytest.raises(ValueError, match=f"^user {message}"):
            call(text, "gpt-4")
        with pytest.raises(ValueError, match=f"^model {message}"):
            call("alice", text)
    for reset in (limiter.reset_user, tiers.reset_user):
        with pytest.raises(ValueError, match=f"^user {message}"):
            reset(text)
    for name in ("algorithm", "unit", "name"):
        with pytest.raises(ValueError, match=rf"^{name} has a lone surrogate; accepted"):
            RateLimiter(1, 60, **{name: text})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^path has a lone surrogate; accepted: the path of"):
        PolicyLimiter.from_file(text)
    with pytest.raises(ValueError, match=r"^client has a lone surrogate"):
        RedisRateLimiter(text)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", ValueError, "path is empty; accepted: the path of a file"),
        ("a\0b", ValueError, "path has a null character; accepted: the path of a file"),
        (3, TypeError, "path is of the type int; accepted: the path of a file"),
        (b"policies.yaml", TypeError, "path is of the type bytes; accepted: the path of a file"),
        (None, TypeError, "path is of the type NoneType; accepted: the path of a file"),
    ],
)
def test_a_path_is_that_of_a_file(path: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        PolicyLimiter.from_file(path)
    if path is not None:
        with pytest.raises(error, match=f"^{message}".replace("path", "policies", 1)):
            RedisRateLimiter("redis://127.0.0.1", policies=path)


@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        (None, TypeError, "is of the type NoneType; accepted: a sequence of the names of models"),
        ("gpt-4", TypeError, "is of the type str; accepted: a sequence of the names of models"),
        (3, TypeError, "is of the type int; accepted: a sequence of the names of models"),
        (["gpt-4", 3], TypeError, r"\[1\] is of the type int; accepted: str"),
        (["\ud800"], ValueError, r"\[0\] has a lone surrogate; accepted"),
    ],
)
def test_the_models_of_a_tier_are_texts(models: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf'tiers\["premium"\].models ?{message}'):
        MultiTierRateLimiter(tiers={"premium": Tier((1, 60), (1, 60), models)})


def test_the_name_of_a_tier_is_an_id() -> None:
    for name in ("a" * 10**6, "a\nb", "\ud800"):
        with pytest.raises(ValueError, match=r"a name in tiers .*; accepted: ") as error:
            MultiTierRateLimiter(tiers={name: Tier((1, 60), (1, 60))})
        assert len(str(error.value)) < 400


@pytest.mark.parametrize("cost", [1.0, "1", True, [], float("nan")])
def test_a_cost_is_an_integer(cost: Any) -> None:
    limiter = RateLimiter(10, 60)
    for call in (limiter.allow, limiter.check, limiter.peek):
        with pytest.raises(TypeError, match=r"cost is of the type"):
            call("alice", "gpt-4", cost)


@pytest.mark.parametrize("cost", [-1, 2**32, 2**64])
def test_a_cost_is_in_range(cost: int) -> None:
    limiter = RateLimiter(10, 60)
    for call in (limiter.allow, limiter.check, limiter.peek):
        with pytest.raises(
            ValueError, match=r"cost is .*; accepted: an integer from 0 to 42949672"
        ):
            call("alice", "gpt-4", cost)
    assert limiter.get_request_count("alice", "gpt-4") == 0


def test_a_cost_of_0_asks_whether_there_is_room() -> None:
    limiter = RateLimiter(1, 60)
    assert limiter.allow("alice", "gpt-4", 0)
    assert limiter.get_request_count("alice", "gpt-4") == 0
    assert limiter.allow("alice", "gpt-4", 1)
    assert not limiter.allow("alice", "gpt-4", 0)


def test_the_greatest_limit_and_cost_work() -> None:
    limiter = RateLimiter(2**53 - 1, 60)
    assert limiter.allow("alice", "gpt-4", 2**32 - 1)
    assert limiter.get_request_count("alice", "gpt-4") == 2**32 - 1


@pytest.mark.parametrize("algorithm", ["", "fixed", "SLIDING_WINDOW_LOG"])
def test_an_unknown_algorithm_is_refused(algorithm: str) -> None:
    with pytest.raises(ValueError, match=r"algorithm is .*; accepted: `sliding_window_log`"):
        RateLimiter(1, 60, algorithm=algorithm)


@pytest.mark.parametrize("unit", ["", "Tokens", "concurrency", "a b"])
def test_an_unknown_unit_is_refused(unit: str) -> None:
    with pytest.raises(ValueError, match=r"unit is .*; accepted: `requests`"):
        RateLimiter(1, 60, unit=unit)


@pytest.mark.parametrize("name", ["", "a" * 257, "a\nb"])
def test_a_name_is_an_id(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name .*; accepted: 1 to 256 bytes"):
        RateLimiter(1, 60, name=name)


@pytest.mark.parametrize(
    ("max_keys", "error"), [(0, ValueError), (-1, ValueError), ("9", TypeError)]
)
def test_the_most_keys_are_checked(max_keys: Any, error: type[Exception]) -> None:
    message = r"max_keys is .*; accepted: an integer from 1 to 4294967295"
    with pytest.raises(error, match=message):
        RateLimiter(1, 60, max_keys=max_keys)
    with pytest.raises(error, match=message):
        MultiTierRateLimiter(max_keys=max_keys)


@pytest.mark.parametrize("clock", [1.0, "time", object(), ManualClock])
def test_a_clock_is_a_clock(clock: Any) -> None:
    with pytest.raises(TypeError, match=r"clock is not a clock; accepted: a ManualClock"):
        RateLimiter(1, 60, clock=clock)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 2**64, 1e30])
def test_a_manual_clock_takes_times(seconds: float, clock: ManualClock) -> None:
    for call in (clock.advance, clock.set, ManualClock):
        with pytest.raises(ValueError, match=r"accepted: a number of seconds"):
            call(seconds)


def test_a_manual_clock_does_not_move_past_its_last_time() -> None:
    clock = ManualClock(18_446_744_000)
    clock.advance(72)
    with pytest.raises(ValueError, match=r"seconds lead past the last time of a clock; accepted"):
        clock.advance(1)
    assert clock.now() == 18_446_744_072


@pytest.mark.parametrize("lease", [None, 3, RateLimiter()])
def test_an_async_lease_wraps_a_lease(lease: Any) -> None:
    with pytest.raises(TypeError, match=r"lease is of the type .*; accepted: a tollgate.Lease"):
        AsyncLease(lease)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"max_request"):
        RateLimiter(max_request=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"modell"):
        RateLimiter().allow("alice", modell="gpt-4")  # type: ignore[call-arg]


@pytest.mark.parametrize("made", [RateLimiter, MultiTierRateLimiter, ManualClock])
def test_limiters_cannot_be_pickled_or_copied(made: type[Any]) -> None:
    with pytest.raises(TypeError, match=r"cannot pickle"):
        pickle.dumps(made())
    with pytest.raises(TypeError, match=r"cannot pickle"):
        copy.copy(made())


def test_decisions_cannot_be_made_changed_or_hashed() -> None:
    decision = RateLimiter().check("alice", "gpt-4")
    with pytest.raises(TypeError):
        Decision()
    with pytest.raises(AttributeError):
        decision.allowed = True  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"unhashable"):
        hash(decision)


def test_limiters_can_be_referenced_weakly() -> None:
    limiter = RateLimiter()
    reference = weakref.ref(limiter)
    assert reference() is limiter
    del limiter
    assert reference() is None


def test_a_cycle_through_a_clock_is_collected() -> None:
    class Holder:
        limiter: RateLimiter

        def now(self) -> float:
            return 1.0

    holder = Holder()
    holder.limiter = RateLimiter(1, 60, clock=holder.now)
    reference = weakref.ref(holder)
    del holder
    gc.collect()
    assert reference() is None


def test_the_most_keys_hold_whatever_users_come() -> None:
    limiter = RateLimiter(5, 3600, max_keys=100)
    for number in range(2_000):
        limiter.allow(f"user {number}", "gpt-4")
    metrics = limiter.get_metrics()
    assert metrics["keys"] <= 100
    assert metrics["evicted"] >= 1_900


def test_a_million_calls_leak_nothing() -> None:
    limiter = RateLimiter(10, 3600)
    wrong: Any = -1

    def calls(count: int) -> None:
        for _ in range(count):
            limiter.allow("alice", "gpt-4")
            limiter.check("alice", "gpt-4").to_dict()
            with contextlib.suppress(ValueError):
                limiter.allow("alice", "gpt-4", wrong)

    calls(20_000)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    calls(333_000)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert grown_kib < 8_192
