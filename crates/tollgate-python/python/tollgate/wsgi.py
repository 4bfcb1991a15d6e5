"""A middleware for WSGI: Flask, Django, Pyramid and every other server of WSGI."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ._http import Limiter, Question, decide, denial, refuse_async, refuse_no_function

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TypeAlias
    from wsgiref.types import StartResponse, WSGIApplication

    ExcInfo: TypeAlias = (
        tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None
    )


class RateLimitMiddleware:
    """Limits requests before they reach an application.

    `key` gets the environment of a request and returns the arguments of the limiter's `check`, or
    None if the request is not limited; `cost` returns what it costs. Answers are those of
    `tollgate.asgi.RateLimitMiddleware`.
    """

    def __init__(
        self,
        app: WSGIApplication,
        limiter: Limiter,
        key: Callable[[dict[str, Any]], Mapping[str, Any] | None],
        cost: Callable[[dict[str, Any]], int | dict[str, int]] | None = None,
    ) -> None:
        """Wrap `app`."""
        refuse_no_function("app", app)
        refuse_async(limiter)
        self._app = app
        self._limiter = limiter
        self._question = Question(key, cost)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        arguments = self._question.arguments(environ)
        if arguments is None:
            return self._app(environ, start_response)
        decision = decide(self._limiter, arguments)
        if not decision.allowed:
            fields, body = denial(decision)
            start_response("429 Too Many Requests", list(fields.items()))
            return [body]
        fields_of_limits = list(decision.headers().items())

        def start_with_fields(
            status: str, headers: list[tuple[str, str]], exc_info: ExcInfo = None, /
        ) -> Callable[[bytes], object]:
            return start_response(status, [*headers, *fields_of_limits], exc_info)

        return self._app(environ, start_with_fields)
