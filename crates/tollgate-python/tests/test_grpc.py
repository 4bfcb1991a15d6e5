"""Interceptors of gRPC, with real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest
from servers import Redis
from tollgate import AsyncRateLimiter, ManualClock, RateLimiter, RedisRateLimiter
from tollgate.grpc import AsyncRateLimitInterceptor, RateLimitInterceptor

KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


def key(details: grpc.HandlerCallDetails) -> dict[str, Any] | None:
    user = dict(details.invocation_metadata).get("x-user")
    return {"user": str(user), "model": details.method} if user else None


def check_denial(error: Any) -> None:
    """Check the end of a denied call."""
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "The limit is used up. Retry after 60000 ms."
    fields = dict(error.trailing_metadata())
    assert fields["retry-after"] == "60"
    assert fields["ratelimit"] == '"default";r=0;t=60'


def echo(request: Any, _: Any) -> Any:
    return request if isinstance(request, bytes) else b"".join(request)


def echo_in_parts(request: Any, _: Any) -> Iterator[bytes]:
    yield from [request] if isinstance(request, bytes) else request


def handlers(one: Any, parts: Any) -> grpc.GenericRpcHandler:
    made = {
        kind: getattr(grpc, f"{kind}_rpc_method_handler")(parts if kind[-6:] == "stream" else one)
        for kind in KINDS
    }
    return grpc.method_handlers_generic_handler("test.Echo", made)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_is_limited(kind: str) -> None:
    limiter = RateLimiter(1, 60, clock=ManualClock())
    server = grpc.server(
        ThreadPoolExecutor(2), interceptors=[RateLimitInterceptor(limiter, key, lambda _: 1)]
    )
    server.add_generic_rpc_handlers([handlers(echo, echo_in_parts)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = getattr(channel, kind)(f"/test.Echo/{kind}")

            def ask(*metadata: tuple[str, str]) -> bytes:
                request = iter([b"a", b"b"]) if kind.startswith("stream") else b"ab"
                answer = call(request, metadata=metadata)
                return answer if isinstance(answer, bytes) else b"".join(answer)

            assert ask(("x-user", "alice")) == b"ab"
            with pytest.raises(grpc.RpcError) as denied:
                ask(("x-user", "alice"))
            check_denial(denied.value)
            assert ask(("x-user", "bob")) == b"ab"
            assert [ask(), ask()] == [b"ab", b"ab"]
            unknown: Any = channel.unary_unary("/test.Echo/unknown")
            with pytest.raises(grpc.RpcError) as error:
                unknown(b"", metadata=[("x-user", "alice")])
            assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_of_an_async_server_is_limited(kind: str) -> None:
    limiter = AsyncRateLimiter(RateLimiter(1, 60, clock=ManualClock()))

    async def one(request: Any, _: Any) -> bytes:
        return request if isinstance(request, bytes) else b"".join([part async for part in request])

    async def in_parts(request: Any, context: Any) -> None:
        await context.write(await one(request, context))

    async def work() -> None:
        server = grpc.aio.server(interceptors=[AsyncRateLimitInterceptor(limiter, key)])
        server.add_generic_rpc_handlers([handlers(one, in_parts)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = getattr(channel, kind)(f"/test.Echo/{kind}")

                async def ask(request: Any, *metadata: tuple[str, str]) -> bytes:
                    answer = call(request, metadata=metadata)
                    if kind.endswith("stream"):
                        return b"".join([part async for part in answer])
                    return bytes(await answer)

                async def nothing() -> AsyncIterator[bytes]:
                    await asyncio.Event().wait()
                    yield b""

                def parts() -> Any:
                    return iter([b"a", b"b"]) if kind.startswith("stream") else b"ab"

                assert await ask(parts(), ("x-user", "alice")) == b"ab"
                with pytest.raises(grpc.aio.AioRpcError) as denied:
                    # A client of grpc.aio that still sends when the call ends reports INTERNAL.
                    request = nothing() if kind.startswith("stream") else b"ab"
                    await ask(request, ("x-user", "alice"))
                check_denial(denied.value)
                assert await ask(parts()) == b"ab"
        finally:
            await server.stop(None)

    asyncio.run(work())


def test_a_limiter_that_would_block_the_loop_is_refused(redis_server: Redis) -> None:
    with pytest.raises(TypeError, match=r"would block the event loop"):
        AsyncRateLimitInterceptor(RedisRateLimiter(redis_server.url), key)
