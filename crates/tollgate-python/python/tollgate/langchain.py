"""A rate limiter for LangChain's chat models. It needs the extra `langchain`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ._errors import RateLimitExceeded
from ._extras import needs
from ._http import decide, decide_async, refuse_async, refuse_blocking, refuse_no_function

with needs("langchain"):
    from langchain_core.rate_limiters import BaseRateLimiter

if TYPE_CHECKING:
    from ._http import AsyncLimiter, Limiter
    from ._tollgate import Decision


class RateLimiter(BaseRateLimiter):
    """Limits the calls of chat models: `ChatOpenAI(…, rate_limiter=RateLimiter(…))`.

    A model waits until its call is admitted, for as long as the limiter says. `limiter` decides for
    models that are called; `async_limiter` for those that are awaited, and is `limiter` by default.
    """

    def __init__(
        self,
        limiter: Limiter,
        user: str,
        model: str,
        *,
        async_limiter: Limiter | AsyncLimiter | None = None,
        sleep: Callable[[float], None] = time.sleep,
        async_sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take the limiter, and the user and the model that calls are counted under."""
        refuse_async(limiter)
        if async_limiter is not None:
            refuse_blocking(async_limiter)
        for name, value in (("user", user), ("model", model)):
            if not isinstance(value, str):
                message = f"{name} is of the type {type(value).__name__}; accepted: str"
                raise TypeError(message)
        refuse_no_function("sleep", sleep)
        refuse_no_function("async_sleep", async_sleep)
        self._limiter = limiter
        self._async_limiter = limiter if async_limiter is None else async_limiter
        self._arguments = {"user": user, "model": model}
        self._sleep = sleep
        self._async_sleep = async_sleep

    def acquire(self, *, blocking: bool = True) -> bool:
        """Return whether the call may be made; if `blocking`, wait until it may.

        Raises `RateLimitExceeded` if waiting does not help.
        """
        while True:
            decision = decide(self._limiter, self._arguments)
            if decision.allowed or not blocking:
                return decision.allowed
            self._sleep(_wait_seconds(decision))

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Return whether the call may be made; if `blocking`, wait until it may."""
        refuse_blocking(self._async_limiter)
        while True:
            decision = await decide_async(self._async_limiter, self._arguments)
            if decision.allowed or not blocking:
                return decision.allowed
            await self._async_sleep(_wait_seconds(decision))


def _wait_seconds(decision: Decision) -> float:
    if decision.retry_after_ms is None:
        raise RateLimitExceeded(decision)
    return decision.retry_after_ms / 1_000
