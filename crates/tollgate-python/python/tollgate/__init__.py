"""An exact rate limiter for AI services, in Rust.

    >>> from tollgate import RateLimiter
    >>> limiter = RateLimiter(max_requests=2, window_seconds=60)
    >>> limiter.allow("alice", "gpt-4"), limiter.allow("alice", "gpt-4")
    (True, True)
    >>> limiter.check("alice", "gpt-4").reason
    'limit_exceeded'

Limiters in memory are exact under any number of threads: no interval as long as the window ever
holds more than the limit, and a denial changes nothing. They never wait, so they may be called from
async code; the `Async…` classes are the same limiters with `await`.
"""

from . import _interpreter  # noqa: F401 - raises before anything else in a subinterpreter
from ._aio import AsyncMultiTierRateLimiter, AsyncPolicyLimiter, AsyncRateLimiter
from ._config import RateLimitConfig, Tier
from ._decorator import rate_limited
from ._errors import RateLimitExceeded
from ._leases import AsyncLease, AsyncReservation
from ._redis import AsyncRedisRateLimiter, RedisRateLimiter
from ._tollgate import (
    Decision,
    Lease,
    LimitStatus,
    ManualClock,
    MultiTierRateLimiter,
    PolicyLimiter,
    RateLimiter,
    StoreError,
)
from ._types import (
    CheckArguments,
    Cost,
    LeaseLimit,
    LeaseState,
    Metrics,
    Quota,
    RateLimiterOptions,
    SharedMetrics,
    SubjectArguments,
    TierReason,
)

__all__ = [
    "AsyncLease",
    "AsyncMultiTierRateLimiter",
    "AsyncPolicyLimiter",
    "AsyncRateLimiter",
    "AsyncRedisRateLimiter",
    "AsyncReservation",
    "CheckArguments",
    "Cost",
    "Decision",
    "Lease",
    "LeaseLimit",
    "LeaseState",
    "LimitStatus",
    "ManualClock",
    "Metrics",
    "MultiTierRateLimiter",
    "PolicyLimiter",
    "Quota",
    "RateLimitConfig",
    "RateLimitExceeded",
    "RateLimiter",
    "RateLimiterOptions",
    "RedisRateLimiter",
    "SharedMetrics",
    "StoreError",
    "SubjectArguments",
    "Tier",
    "TierReason",
    "rate_limited",
]
