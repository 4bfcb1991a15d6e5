"""A dependency for FastAPI. It needs the extra `fastapi`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ._extras import needs
from ._http import AsyncLimiter, Limiter, Question, decide_async, problem, refuse_blocking
from ._tollgate import Decision

with needs("fastapi"):
    from fastapi import HTTPException, Request, Response


class RateLimit:
    """Limits the requests of the routes that depend on it: `Depends(RateLimit(limiter, key))`.

    `key` gets the request and returns the arguments of the limiter's `check`, such as
    `{"user": …, "model": …}`, or None if the request is not limited; `cost` returns what it costs.
    The dependency's value is the decision, or None. An admitted request's answer gets
    `RateLimit-Policy` and `RateLimit`; a denied one is an `HTTPException` with 429, these fields,
    `Retry-After`, and a problem document as its `detail`.
    """

    def __init__(
        self,
        limiter: Limiter | AsyncLimiter,
        key: Callable[[Request], Mapping[str, Any] | None],
        cost: Callable[[Request], int | dict[str, int]] | None = None,
    ) -> None:
        """Take the limiter and the functions of the application."""
        refuse_blocking(limiter)
        self._limiter = limiter
        self._question = Question(key, cost)

    async def __call__(self, request: Request, response: Response) -> Decision | None:
        """Decide one request."""
        arguments = self._question.arguments(request)
        if arguments is None:
            return None
        decision = await decide_async(self._limiter, arguments)
        fields = decision.headers()
        if not decision.allowed:
            raise HTTPException(429, detail=problem(decision), headers=fields)
        if response.raw_headers:
            response.headers.update(fields)
        else:
            # The usual case, without a search for fields of the same names.
            encoded = ((name.encode(), value.encode()) for name, value in fields.items())
            response.raw_headers.extend(encoded)
        return decision
