"""Interceptors for servers of gRPC. They need the extra `grpc`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from ._extras import needs
from ._http import Question, decide, decide_async, problem, refuse_async, refuse_blocking

with needs("grpc"):
    import grpc
    import grpc.aio

if TYPE_CHECKING:
    from ._http import AsyncLimiter, Limiter
    from ._tollgate import Decision

    Details = grpc.HandlerCallDetails
    Handler = grpc.RpcMethodHandler[Any, Any]


class RateLimitInterceptor(grpc.ServerInterceptor):
    """Limits the calls of a server: `grpc.server(…, interceptors=[RateLimitInterceptor(…)])`.

    `key` gets the details of a call (`method`, `invocation_metadata`) and returns the arguments of
    the limiter's `check`, or None if the call is not limited; `cost` returns what it costs. Take
    the user from your authentication. A denied call ends with RESOURCE_EXHAUSTED, the problem in
    words, and the fields of a server's answer, such as `retry-after`, as trailing metadata.
    """

    def __init__(
        self,
        limiter: Limiter,
        key: Callable[[Details], Mapping[str, Any] | None],
        cost: Callable[[Details], int | dict[str, int]] | None = None,
    ) -> None:
        """Take the limiter and the functions of the application."""
        refuse_async(limiter)
        self._limiter = limiter
        self._question = Question(key, cost)

    def intercept_service(
        self,
        continuation: Callable[[Details], Handler | None],
        handler_call_details: Details,
    ) -> Handler | None:
        """Decide one call."""
        handler = continuation(handler_call_details)
        arguments = self._question.arguments(handler_call_details)
        if handler is None or arguments is None:
            return handler
        decision = decide(self._limiter, arguments)
        if decision.allowed:
            return handler

        def deny(_: object, context: grpc.ServicerContext) -> None:
            context.set_trailing_metadata(_fields(decision))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, problem(decision)["detail"])

        return _of_the_same_kind(handler, deny)


class AsyncRateLimitInterceptor(grpc.aio.ServerInterceptor):
    """The same for servers of `grpc.aio`."""

    def __init__(
        self,
        limiter: Limiter | AsyncLimiter,
        key: Callable[[Details], Mapping[str, Any] | None],
        cost: Callable[[Details], int | dict[str, int]] | None = None,
    ) -> None:
        """Take the limiter and the functions of the application."""
        refuse_blocking(limiter)
        self._limiter = limiter
        self._question = Question(key, cost)

    async def intercept_service(
        self,
        continuation: Callable[[Details], Awaitable[Handler | None]],
        handler_call_details: Details,
    ) -> Handler | None:
        """Decide one call."""
        handler = await continuation(handler_call_details)
        arguments = self._question.arguments(handler_call_details)
        # A method that does not exist has no handler.
        if not handler or arguments is None:
            return handler
        decision = await decide_async(self._limiter, arguments)
        if decision.allowed:
            return handler

        async def deny(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            context.set_trailing_metadata(_fields(decision))
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, problem(decision)["detail"])

        return _of_the_same_kind(handler, deny)


def _fields(decision: Decision) -> tuple[tuple[str, str], ...]:
    return tuple(decision.headers().items())


def _of_the_same_kind(handler: Handler, deny: Callable[[Any, Any], Any]) -> Handler:
    """Return a handler that denies and streams what `handler` streams."""
    make: Callable[..., Handler]
    if handler.request_streaming:
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
    else:
        make = (
            grpc.unary_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.unary_unary_rpc_method_handler
        )
    return make(deny, handler.request_deserializer, handler.response_serializer)
