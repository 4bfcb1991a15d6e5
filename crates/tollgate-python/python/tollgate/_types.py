"""The types that signatures name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, Union

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._config import RateLimitConfig
    from ._tollgate import ManualClock

Quota: TypeAlias = Union["RateLimitConfig", tuple[int, float]]
"""A limit and its window: a `RateLimitConfig`, or a pair (max_requests, window_seconds)."""

TierReason: TypeAlias = Literal["within_limits", "user_model_limit", "model_limit"]
"""Why a `MultiTierRateLimiter` allowed or denied."""


class SharedMetrics(TypedDict):
    """What a limiter has counted in this process."""

    allowed: int
    """Checks that were allowed since the limiter was made or its metrics were reset."""
    denied: int
    """Checks that were denied."""
    total: int
    """All checks."""
    deny_rate: float
    """The share of checks that were denied, from 0.0 to 1.0."""


class Metrics(SharedMetrics):
    """What a limiter in memory has counted, and what it holds."""

    keys: int
    """The keys held now: users with a model."""
    evicted: int
    """Keys that were evicted at `max_keys` before they were idle: their usage was forgotten."""


class RateLimiterOptions(TypedDict, total=False):
    """The keyword arguments of `RateLimiter`."""

    algorithm: str
    """`sliding_window_log` (the default), `sliding_window_counter` or `token_bucket`."""
    unit: str
    """The unit of the limit in answers: costs are in this unit."""
    name: str
    """The id of the policy in answers."""
    max_keys: int
    """The most users with a model that are held at a time."""
    clock: ManualClock | Callable[[], float] | None
    """Where the time comes from: by default, the machine's clock."""


class LeaseLimit(TypedDict):
    """What a lease holds in one limit, with the names of a server's answer."""

    policyId: str
    unit: str
    limit: int
    count: int
    """What is used of the limit now, by everybody."""
    charged: int
    """What this lease is charged."""
    debt: int
    """By how much the usage is above the limit."""


class LeaseState(TypedDict):
    """A lease after an update, with the names of a server's answer."""

    state: str
    """`live`, `expired`, `settled` or `released`."""
    proceed: bool
    """Whether the caller may go on: false if what an extension wanted was not admitted."""
    ttlMs: int
    limits: list[LeaseLimit]


Cost: TypeAlias = int | dict[str, int] | None
"""Requests, or amounts by unit, such as {"output_tokens": 400}. One request if it is None."""


class SubjectArguments(TypedDict, total=False):
    """What a check by policies can name besides `user`, `model` and `cost`."""

    tenant: str | None
    api_key: str | None
    service: str | None
    ip: str | None
    """An IPv4 or IPv6 address."""
    attributes: dict[str, str] | None
    """Other attributes, at most 32."""
    request_id: str | None
    """A check that is sent again with the same id is charged once."""


class CheckArguments(SubjectArguments, total=False):
    """What a check by policies can name besides `user` and `model`, as in a request to a server."""

    cost: Cost
