"""What the frameworks have in common: what is asked about a request, and the answer 429."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from ._tollgate import Decision

# The problem type that draft-ietf-httpapi-ratelimit-headers registers.
_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"

# Where classes are that have `check` too: the clients of a server, and the storages of `limits`.
_NO_LIMITERS = ("tollgate.client", "tollgate.limits")

CONTENT_TYPE = "application/problem+json"


class Limiter(Protocol):
    """A limiter of this package that does not need `await`."""

    @property
    def check(self) -> Callable[..., Decision]:
        """Decide and charge."""


class AsyncLimiter(Protocol):
    """A limiter of this package that needs `await`."""

    @property
    def check(self) -> Callable[..., Awaitable[Decision]]:
        """Decide and charge."""


R = TypeVar("R")


class Question(Generic[R]):
    """What a limiter is asked about a request: who it is from, and what it costs."""

    def __init__(
        self,
        key: Callable[[R], Mapping[str, Any] | None],
        cost: Callable[[R], int | dict[str, int]] | None = None,
    ) -> None:
        """Take the functions of the application."""
        refuse_no_function("key", key)
        if cost is not None:
            refuse_no_function("cost", cost)
        self._key = key
        self._cost = cost

    def arguments(self, request: R) -> dict[str, Any] | None:
        """Return the arguments of `check`, or None if the request is not limited."""
        arguments = arguments_of(self._key(request))
        if arguments is None:
            return None
        if self._cost is not None:
            arguments["cost"] = self._cost(request)
        return arguments


def refuse_no_function(name: str, function: object) -> None:
    """Raise if what is given as `name` cannot be called."""
    if not callable(function):
        kind = type(function).__name__
        message = f"{name} is of the type {kind}; accepted: a function"
        raise TypeError(message)


def arguments_of(key: object) -> dict[str, Any] | None:
    """Return what a function `key` has returned, or raise if it is not what it should be."""
    if key is None:
        return None
    if not isinstance(key, Mapping):
        kind = type(key).__name__
        message = f"key returned the type {kind}; accepted: the arguments of check, or None"
        raise TypeError(message)
    arguments = dict(key)
    for name in arguments:
        if not isinstance(name, str):
            kind = type(name).__name__
            message = f"key returned a name of the type {kind}; accepted: the arguments of check"
            raise TypeError(message)
    return arguments


def decide(limiter: Limiter, arguments: Mapping[str, Any]) -> Decision:
    """Ask a limiter that does not need `await`."""
    decision: object = limiter.check(**arguments)
    if inspect.iscoroutine(decision):
        decision.close()
        message = f"{type(limiter).__name__} needs await; accepted: a limiter that does not"
        raise TypeError(message)
    return decision  # type: ignore[return-value]


async def decide_async(limiter: Limiter | AsyncLimiter, arguments: Mapping[str, Any]) -> Decision:
    """Ask a limiter of either kind."""
    decision = limiter.check(**arguments)
    # Asked first: `isawaitable` takes longer than a check in memory.
    if isinstance(decision, Decision):
        return decision
    return await decision if inspect.isawaitable(decision) else decision


def refuse_others(limiter: object) -> None:
    """Raise if `limiter` is no limiter, or a client of a server: its decisions have no fields."""
    calls = (getattr(limiter, name, None) for name in ("check", "reserve"))
    is_other = any(base.__module__.startswith(_NO_LIMITERS) for base in type(limiter).__mro__)
    if isinstance(limiter, type) or is_other or not any(callable(call) for call in calls):
        kind = type(limiter).__name__
        message = f"limiter is of the type {kind}; accepted: a limiter of this package"
        raise TypeError(message)


def refuse_async(limiter: object) -> None:
    """Raise if `limiter` is no limiter, or needs `await`."""
    refuse_others(limiter)
    if inspect.iscoroutinefunction(getattr(limiter, "check", None)):
        message = f"{type(limiter).__name__} needs await; accepted: a limiter that does not"
        raise TypeError(message)


def refuse_blocking(limiter: object) -> None:
    """Raise if `limiter` is no limiter, or would block an event loop."""
    refuse_others(limiter)
    from ._redis import RedisRateLimiter  # noqa: PLC0415 - it imports nothing of the frameworks

    if isinstance(limiter, RedisRateLimiter):
        message = "RedisRateLimiter would block the event loop; accepted: AsyncRedisRateLimiter"
        raise TypeError(message)


def problem(decision: Decision) -> dict[str, Any]:
    """Return the problem document (RFC 9457) of a denial: it names policies, never a user."""
    wait_ms = decision.retry_after_ms
    if wait_ms is not None:
        detail = f"The limit is used up. Retry after {wait_ms} ms."
    elif decision.reason == "banned":
        detail = "No request of this kind is admitted."
    else:
        detail = "The request costs more than the limit itself: waiting does not help."
    return {
        "type": _TYPE,
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": 429,
        "detail": detail,
        "reason": decision.reason,
        "retryAfterMs": wait_ms,
        "violated-policies": [
            limit.policy_id
            for limit in decision.limits
            if not limit.allowed and limit.mode == "enforce"
        ],
    }


def denial(decision: Decision) -> tuple[dict[str, str], bytes]:
    """Return the header fields and the body of the answer 429."""
    body = json.dumps(problem(decision)).encode()
    fields = {"content-type": CONTENT_TYPE, "content-length": str(len(body))}
    return {**fields, **decision.headers()}, body
