"""An extension for Flask. It needs the extra `flask`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ._extras import needs
from ._http import Limiter, Question, decide, denial, refuse_async

with needs("flask"):
    from flask import Flask, Request, Response, g, request


class RateLimit:
    """Limits an application: `RateLimit(app, limiter=…, key=…)`, or `init_app` later.

    `key` gets the request and returns the arguments of the limiter's `check`, such as
    `{"user": …, "model": …}`, or None if the request is not limited; `cost` returns what it costs.
    Answers are those of `tollgate.asgi.RateLimitMiddleware`.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        limiter: Limiter,
        key: Callable[[Request], Mapping[str, Any] | None],
        cost: Callable[[Request], int | dict[str, int]] | None = None,
    ) -> None:
        """Take the limiter and the functions of the application."""
        refuse_async(limiter)
        self._limiter = limiter
        self._question = Question(key, cost)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Limit the requests of `app`."""
        if not callable(getattr(app, "before_request", None)):
            message = f"app is of the type {type(app).__name__}; accepted: a flask.Flask"
            raise TypeError(message)
        app.before_request(self._before)
        app.after_request(self._after)

    def _before(self) -> Response | None:
        g.pop("tollgate_headers", None)
        arguments = self._question.arguments(request)
        if arguments is None:
            return None
        decision = decide(self._limiter, arguments)
        if decision.allowed:
            g.tollgate_headers = decision.headers()
            return None
        fields, body = denial(decision)
        return Response(body, 429, fields)

    def _after(self, response: Response) -> Response:
        for name, value in g.get("tollgate_headers", {}).items():
            response.headers[name] = value
        return response
