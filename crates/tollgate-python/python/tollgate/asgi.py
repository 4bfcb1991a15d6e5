"""A middleware for ASGI: Starlette, FastAPI, Litestar, Django and every other server of ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from ._http import (
    AsyncLimiter,
    Limiter,
    Question,
    decide_async,
    denial,
    refuse_blocking,
    refuse_no_function,
)

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class RateLimitMiddleware:
    """Limits HTTP requests before they reach an application.

    `key` gets the scope of a request and returns the arguments of the limiter's `check`, such as
    `{"user": …, "model": …}`, or None if the request is not limited; `cost` returns what it costs.
    Take the user from your authentication, never from a field that a client can set. An admitted
    request's answer gets `RateLimit-Policy` and `RateLimit`; a denied one is answered with 429, the
    same fields, `Retry-After` and a problem document (RFC 9457). The body is not read.
    """

    def __init__(
        self,
        app: Application,
        limiter: Limiter | AsyncLimiter,
        key: Callable[[Scope], Mapping[str, Any] | None],
        cost: Callable[[Scope], int | dict[str, int]] | None = None,
    ) -> None:
        """Wrap `app`."""
        refuse_no_function("app", app)
        refuse_blocking(limiter)
        self._app = app
        self._limiter = limiter
        self._question = Question(key, cost)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        arguments = self._question.arguments(scope) if scope["type"] == "http" else None
        if arguments is None:
            await self._app(scope, receive, send)
            return
        decision = await decide_async(self._limiter, arguments)
        if not decision.allowed:
            fields, body = denial(decision)
            start = {"type": "http.response.start", "status": 429, "headers": _encoded(fields)}
            await send(start)
            await send({"type": "http.response.body", "body": body})
            return
        fields_of_limits = _encoded(decision.headers())

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *fields_of_limits]
            await send(message)

        await self._app(scope, receive, send_with_fields)


def _encoded(fields: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
