"""The limiters in memory for async code. They never wait, so they never leave the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ._leases import AsyncLease, AsyncReservation
from ._tollgate import MultiTierRateLimiter, PolicyLimiter, RateLimiter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Unpack

    from ._tollgate import Decision
    from ._types import CheckArguments, Cost, Metrics, SubjectArguments, TierReason


L = TypeVar("L")


def _checked(limiter: object, accepted: type[L]) -> L:
    """Return `limiter` if it is one: a call of anything else might return what is true."""
    if not isinstance(limiter, accepted):
        kind = type(limiter).__name__
        message = f"limiter is of the type {kind}; accepted: a {accepted.__name__}"
        raise TypeError(message)
    return limiter


class AsyncRateLimiter:
    """A `RateLimiter` with `await`. It shares the usage of the limiter that it is given."""

    def __init__(self, limiter: RateLimiter | None = None) -> None:
        """Wrap `limiter`, or a new one with the default limit of 100 requests an hour."""
        self.limiter = RateLimiter() if limiter is None else _checked(limiter, RateLimiter)

    def __repr__(self) -> str:
        """Name the limiter that it wraps."""
        return f"<AsyncRateLimiter of {self.limiter!r}>"

    async def allow(self, user: str, model: str, cost: int = 1) -> bool:
        """See `RateLimiter.allow`."""
        return self.limiter.allow(user, model, cost)

    async def check(self, user: str, model: str, cost: int = 1) -> Decision:
        """See `RateLimiter.check`."""
        return self.limiter.check(user, model, cost)

    async def peek(self, user: str, model: str, cost: int = 1) -> Decision:
        """See `RateLimiter.peek`."""
        return self.limiter.peek(user, model, cost)

    async def get_request_count(self, user: str, model: str) -> int:
        """See `RateLimiter.get_request_count`."""
        return self.limiter.get_request_count(user, model)

    async def reset_user(self, user: str) -> None:
        """See `RateLimiter.reset_user`."""
        self.limiter.reset_user(user)

    def get_metrics(self) -> Metrics:
        """See `RateLimiter.get_metrics`."""
        return self.limiter.get_metrics()

    def reset_metrics(self) -> Metrics:
        """See `RateLimiter.reset_metrics`."""
        return self.limiter.reset_metrics()


class AsyncMultiTierRateLimiter:
    """A `MultiTierRateLimiter` with `await`, which shares the usage of the limiter it is given."""

    def __init__(self, limiter: MultiTierRateLimiter | None = None) -> None:
        """Wrap `limiter`, or a new one with the default limits."""
        if limiter is None:
            limiter = MultiTierRateLimiter()
        self.limiter = _checked(limiter, MultiTierRateLimiter)

    def __repr__(self) -> str:
        """Name the limiter that it wraps."""
        return f"<AsyncMultiTierRateLimiter of {self.limiter!r}>"

    async def allow(self, user: str, model: str) -> tuple[bool, TierReason]:
        """See `MultiTierRateLimiter.allow`."""
        return self.limiter.allow(user, model)

    async def check(self, user: str, model: str, cost: int = 1) -> Decision:
        """See `MultiTierRateLimiter.check`."""
        return self.limiter.check(user, model, cost)

    async def get_request_count(self, user: str, model: str) -> int:
        """See `MultiTierRateLimiter.get_request_count`."""
        return self.limiter.get_request_count(user, model)

    async def get_model_request_count(self, model: str) -> int:
        """See `MultiTierRateLimiter.get_model_request_count`."""
        return self.limiter.get_model_request_count(model)

    async def reset_user(self, user: str) -> None:
        """See `MultiTierRateLimiter.reset_user`."""
        self.limiter.reset_user(user)

    def get_metrics(self) -> Metrics:
        """See `MultiTierRateLimiter.get_metrics`."""
        return self.limiter.get_metrics()

    def reset_metrics(self) -> Metrics:
        """See `MultiTierRateLimiter.reset_metrics`."""
        return self.limiter.reset_metrics()


class AsyncPolicyLimiter:
    """A `PolicyLimiter` with `await`. It shares the usage of the limiter that it is given."""

    def __init__(self, limiter: PolicyLimiter) -> None:
        """Wrap `limiter`."""
        self.limiter = _checked(limiter, PolicyLimiter)

    def __repr__(self) -> str:
        """Name the limiter that it wraps."""
        return f"<AsyncPolicyLimiter of {self.limiter!r}>"

    async def allow(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> bool:
        """See `PolicyLimiter.allow`."""
        return self.limiter.allow(user, model, cost, **others)

    async def check(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> Decision:
        """See `PolicyLimiter.check`."""
        return self.limiter.check(user, model, cost, **others)

    async def peek(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> Decision:
        """See `PolicyLimiter.peek`."""
        return self.limiter.peek(user, model, cost, **others)

    def reserve(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        *,
        ttl: float | None = None,
        **others: Unpack[SubjectArguments],
    ) -> AsyncReservation[AsyncLease]:
        """See `PolicyLimiter.reserve`: `async with limiter.reserve(…) as lease`."""

        async def reserve() -> AsyncLease:
            return AsyncLease(self.limiter.reserve(user, model, cost, ttl=ttl, **others))

        return AsyncReservation(reserve)

    async def reset(
        self, user: str | None = None, model: str | None = None, **others: Unpack[CheckArguments]
    ) -> list[str]:
        """See `PolicyLimiter.reset`."""
        return self.limiter.reset(user, model, **others)

    async def reset_user(
        self, user: str, models: Iterable[str], **others: Unpack[CheckArguments]
    ) -> list[str]:
        """See `PolicyLimiter.reset_user`."""
        return self.limiter.reset_user(user, models, **others)

    def get_metrics(self) -> Metrics:
        """See `PolicyLimiter.get_metrics`."""
        return self.limiter.get_metrics()

    def reset_metrics(self) -> Metrics:
        """See `PolicyLimiter.reset_metrics`."""
        return self.limiter.reset_metrics()
