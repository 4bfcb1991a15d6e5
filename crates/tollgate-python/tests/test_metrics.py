"""What limiters count."""

from __future__ import annotations

from tollgate import Metrics, RateLimiter


def test_a_new_limiter_has_counted_nothing() -> None:
    assert RateLimiter().get_metrics() == {
        "allowed": 0,
        "denied": 0,
        "total": 0,
        "deny_rate": 0.0,
        "keys": 0,
        "evicted": 0,
    }


def test_allowed_and_denied_checks_are_counted() -> None:
    limiter = RateLimiter(3, 60)
    for _ in range(2):
        limiter.allow("alice", "gpt-4")
        limiter.check("alice", "gpt-4")
    metrics = limiter.get_metrics()
    assert (metrics["allowed"], metrics["denied"], metrics["total"]) == (3, 1, 4)
    assert metrics["deny_rate"] == 0.25


def test_peeks_and_counts_are_not_checks() -> None:
    limiter = RateLimiter(1, 60)
    limiter.peek("alice", "gpt-4")
    limiter.get_request_count("alice", "gpt-4")
    assert limiter.get_metrics()["total"] == 0


def test_bad_input_is_not_a_check() -> None:
    limiter = RateLimiter(1, 60)
    for cost in (-1, 2**40):
        try:
            limiter.allow("alice", "gpt-4", cost)
        except ValueError:
            continue
    assert limiter.get_metrics()["total"] == 0


def test_a_reset_returns_what_was_counted() -> None:
    limiter = RateLimiter(1, 60)
    limiter.allow("alice", "gpt-4")
    limiter.allow("alice", "gpt-4")
    before: Metrics = limiter.reset_metrics()
    assert (before["allowed"], before["denied"]) == (1, 1)
    assert limiter.get_metrics()["total"] == 0
    assert limiter.get_request_count("alice", "gpt-4") == 1
    limiter.allow("alice", "gpt-4")
    assert limiter.get_metrics()["denied"] == 1


def test_keys_are_users_with_a_model() -> None:
    limiter = RateLimiter(1, 60)
    for user in ("alice", "bob"):
        for model in ("a", "b", "a"):
            limiter.allow(user, model)
    assert limiter.get_metrics()["keys"] == 4


def test_a_sweep_frees_idle_keys() -> None:
    now = [0.0]
    limiter = RateLimiter(1, 60, clock=lambda: now[0])
    for number in range(100):
        limiter.allow(f"user {number}", "gpt-4")
    now[0] = 1_000.0
    limiter.sweep()
    assert limiter.get_metrics()["keys"] == 0
