"""ASGI, WSGI, FastAPI, Flask and the decorator: the right 429 and the right fields."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import fastapi
import flask
import httpx
import pytest
from servers import Redis
from tollgate import (
    AsyncMultiTierRateLimiter,
    AsyncPolicyLimiter,
    AsyncRateLimiter,
    AsyncRedisRateLimiter,
    ManualClock,
    PolicyLimiter,
    RateLimiter,
    RateLimitExceeded,
    RedisRateLimiter,
    asgi,
    rate_limited,
    wsgi,
)
from tollgate.client import Client
from tollgate.fastapi import RateLimit
from tollgate.flask import RateLimit as FlaskRateLimit
from tollgate.grpc import RateLimitInterceptor
from tollgate.limits import TollgateStorage

EXAMPLES = Path(__file__).parents[3] / "examples" / "python"

ADMITTED = {"ratelimit-policy": '"default";q=1;w=60', "ratelimit": '"default";r=0;t=60'}
DENIED = {**ADMITTED, "retry-after": "60"}
PROBLEM = {
    "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
    "title": "Request cannot be satisfied as assigned quota has been exceeded",
    "status": 429,
    "detail": "The limit is used up. Retry after 60000 ms.",
    "reason": "limit_exceeded",
    "retryAfterMs": 60_000,
    "violated-policies": ["default"],
}


@pytest.fixture
def limiter() -> RateLimiter:
    return RateLimiter(1, 60, clock=ManualClock())


def limits(headers: httpx.Headers | dict[str, str]) -> dict[str, str]:
    """Return the fields about limits."""
    wanted = ("ratelimit", "ratelimit-policy", "retry-after")
    return {name.lower(): value for name, value in headers.items() if name.lower() in wanted}


def ask(app: Any, paths: Iterable[str], user: str = "alice") -> list[httpx.Response]:
    """Send requests to an application of ASGI, one after the other."""

    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.get(path, headers={"x-user": user}) for path in paths]

    return asyncio.run(send())


async def plain_app(scope: asgi.Scope, _: asgi.Receive, send: asgi.Send) -> None:
    """Answer with a field of its own."""
    headers = [(b"x-own", b"1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def key_of_scope(scope: asgi.Scope) -> dict[str, Any] | None:
    if scope["path"] == "/health":
        return None
    return {"user": dict(scope["headers"])[b"x-user"].decode(), "model": scope["path"]}


def test_asgi_answers_429_with_the_fields_of_a_server(limiter: RateLimiter) -> None:
    app = asgi.RateLimitMiddleware(plain_app, limiter, key_of_scope)
    first, second, other, health = ask(app, ["/a", "/a", "/b", "/health"])
    assert (first.status_code, first.text, first.headers["x-own"]) == (200, "/a", "1")
    assert limits(first.headers) == ADMITTED
    assert (second.status_code, second.json()) == (429, PROBLEM)
    assert second.headers["content-type"] == "application/problem+json"
    assert limits(second.headers) == DENIED
    assert other.status_code == 200
    assert (health.status_code, limits(health.headers)) == (200, {})


def test_asgi_takes_a_cost() -> None:
    limiter = RateLimiter(10, 60)
    app = asgi.RateLimitMiddleware(plain_app, limiter, key_of_scope, cost=lambda _: 6)
    assert [one.status_code for one in ask(app, ["/a", "/a"])] == [200, 429]
    assert limiter.get_request_count("alice", "/a") == 6


def test_asgi_says_that_waiting_does_not_help() -> None:
    app = asgi.RateLimitMiddleware(plain_app, RateLimiter(0, 60), key_of_scope)
    (denied,) = ask(app, ["/a"])
    assert denied.json()["detail"] == "No request of this kind is admitted."
    assert "retry-after" not in denied.headers
    app = asgi.RateLimitMiddleware(plain_app, RateLimiter(1, 60), key_of_scope, cost=lambda _: 2)
    (denied,) = ask(app, ["/a"])
    assert denied.json()["detail"].endswith("waiting does not help.")


def test_asgi_awaits_limiters_that_need_it(redis_server: Redis, user: str) -> None:
    shared = AsyncRedisRateLimiter(redis_server.url, 1, 60, timeout=30)
    app = asgi.RateLimitMiddleware(plain_app, shared, key_of_scope)
    assert [one.status_code for one in ask(app, ["/a", "/a"], user)] == [200, 429]
    app = asgi.RateLimitMiddleware(plain_app, AsyncRateLimiter(RateLimiter(1, 60)), key_of_scope)
    assert [one.status_code for one in ask(app, ["/a", "/a"], user)] == [200, 429]


def test_asgi_passes_other_protocols_on(limiter: RateLimiter) -> None:
    seen = []

    async def app(scope: asgi.Scope, _: asgi.Receive, __: asgi.Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    middleware = asgi.RateLimitMiddleware(app, limiter, key_of_scope)
    asyncio.run(middleware({"type": "lifespan"}, nothing, nothing))
    assert seen == ["lifespan"]


def test_a_limiter_that_would_block_the_loop_is_refused(redis_server: Redis) -> None:
    shared = RedisRateLimiter(redis_server.url)

    async def function() -> None: ...

    for use in (
        lambda: asgi.RateLimitMiddleware(plain_app, shared, key_of_scope),
        lambda: RateLimit(shared, lambda _: None),
        lambda: rate_limited(shared, lambda: None)(function),
    ):
        with pytest.raises(TypeError, match=r"would block the event loop; accepted: AsyncRedis"):
            use()


def call_wsgi(app: Any, path: str) -> tuple[str, dict[str, str], bytes]:
    """Send a request to an application of WSGI."""
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        assert exc_info is None
        started.append((status, dict(headers)))

    environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET", "wsgi.input": BytesIO()}
    body = b"".join(app(environ, start_response))
    ((status, headers),) = started
    return status, headers, body


def wsgi_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("x-own", "1")])
    return [environ["PATH_INFO"].encode()]


def test_wsgi_answers_429_with_the_fields_of_a_server(limiter: RateLimiter) -> None:
    def key(environ: dict[str, Any]) -> dict[str, Any] | None:
        path = environ["PATH_INFO"]
        return None if path == "/health" else {"user": "alice", "model": path}

    app = wsgi.RateLimitMiddleware(wsgi_app, limiter, key)
    status, headers, body = call_wsgi(app, "/a")
    assert (status, headers["x-own"], body) == ("200 OK", "1", b"/a")
    assert limits(headers) == ADMITTED
    status, headers, body = call_wsgi(app, "/a")
    assert (status, json.loads(body)) == ("429 Too Many Requests", PROBLEM)
    assert limits(headers) == DENIED
    assert headers["content-length"] == str(len(body))
    assert limits(call_wsgi(app, "/health")[1]) == {}


def test_what_does_not_await_refuses_a_limiter_that_needs_it_when_it_is_made(
    redis_server: Redis, tmp_path: Path
) -> None:
    def key(_: object) -> Any:
        return {"user": "a", "model": "b"}

    path = tmp_path / "policies.yaml"
    path.write_text("policies: [{id: p, per: [user], limit: 1, windowSeconds: 60}]")
    awaited: list[Any] = [
        AsyncRateLimiter(),
        AsyncMultiTierRateLimiter(),
        AsyncPolicyLimiter(PolicyLimiter.from_file(path)),
        AsyncRedisRateLimiter(redis_server.url),
    ]
    for limiter in awaited:
        kind = type(limiter).__name__
        message = rf"{kind} needs await; accepted: a limiter that does not"
        with pytest.raises(TypeError, match=message):
            wsgi.RateLimitMiddleware(wsgi_app, limiter, key)
        with pytest.raises(TypeError, match=message):
            FlaskRateLimit(limiter=limiter, key=key)
        with pytest.raises(TypeError, match=message):
            RateLimitInterceptor(limiter, key)
        with pytest.raises(TypeError, match=message):
            rate_limited(limiter, key)(key)


def test_fastapi_routes_depend_on_it(limiter: RateLimiter) -> None:
    app = fastapi.FastAPI()
    limit = RateLimit(limiter, lambda request: {"user": "alice", "model": request.url.path})
    unlimited = RateLimit(limiter, lambda _: None)

    @app.get("/a")
    async def a(decision: Any = fastapi.Depends(limit)) -> int:  # noqa: B008
        return int(decision.remaining)

    @app.get("/free", dependencies=[fastapi.Depends(unlimited)])
    async def free() -> str:
        return "free"

    first, second, third = ask(app, ["/a", "/a", "/free"])
    assert (first.status_code, first.json(), limits(first.headers)) == (200, 0, ADMITTED)
    assert (second.status_code, second.json()) == (429, {"detail": PROBLEM})
    assert limits(second.headers) == DENIED
    assert (third.status_code, limits(third.headers)) == (200, {})


def test_of_two_limits_of_a_route_the_last_one_is_shown(limiter: RateLimiter) -> None:
    app = fastapi.FastAPI()
    wide = RateLimiter(9, 60, name="wide", clock=ManualClock())
    first = RateLimit(limiter, lambda _: {"user": "alice", "model": "a"})
    last = RateLimit(wide, lambda _: {"user": "alice", "model": "a"})

    @app.get("/a", dependencies=[fastapi.Depends(first), fastapi.Depends(last)])
    async def a() -> str:
        return "a"

    (answer,) = ask(app, ["/a"])
    shown = [(name, value) for name, value in answer.headers.multi_items() if "ratelimit" in name]
    assert shown == [("ratelimit-policy", '"wide";q=9;w=60'), ("ratelimit", '"wide";r=8;t=60')]


def test_fastapi_takes_policies_and_a_cost(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(
        "policies: [{id: t, per: [tenant], unit: tokens, limit: 10, windowSeconds: 60}]"
    )
    limit = RateLimit(
        PolicyLimiter.from_file(path), lambda _: {"tenant": "acme"}, lambda _: {"tokens": 6}
    )
    app = fastapi.FastAPI(dependencies=[fastapi.Depends(limit)])

    @app.get("/a")
    async def a() -> str:
        return "a"

    assert [one.status_code for one in ask(app, ["/a", "/a"])] == [200, 429]


def test_a_key_must_be_the_arguments_of_check(limiter: RateLimiter) -> None:
    app = asgi.RateLimitMiddleware(plain_app, limiter, lambda _: "alice")  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match=r"key returned the type str; accepted: the arguments of"):
        ask(app, ["/a"])


def test_what_is_no_limiter_and_no_function_is_refused_at_once(limiter: RateLimiter) -> None:
    def text() -> Any:
        return "alice"

    def function() -> None: ...

    wrong: Any
    client = type("Own", (Client,), {})("http://127.0.0.1:1")
    for wrong in (None, 3, RateLimiter, client, TollgateStorage()):
        with pytest.raises(TypeError, match=r"limiter is of the type .*; accepted: a limiter"):
            RateLimit(wrong, lambda _: None)
        with pytest.raises(TypeError, match=r"limiter is of the type"):
            FlaskRateLimit(limiter=wrong, key=lambda _: None)
        with pytest.raises(TypeError, match=r"limiter is of the type"):
            rate_limited(wrong, lambda: None)
    missing: Any = None
    number: Any = 3
    for middleware in (asgi.RateLimitMiddleware, wsgi.RateLimitMiddleware):
        with pytest.raises(TypeError, match=r"app is of the type NoneType; accepted: a function"):
            middleware(missing, limiter, lambda _: None)
    with pytest.raises(TypeError, match=r"app is of the type int; accepted: a flask.Flask"):
        FlaskRateLimit(number, limiter=limiter, key=lambda _: None)
    with pytest.raises(TypeError, match=r"key is of the type NoneType; accepted: a function"):
        RateLimit(limiter, missing)
    with pytest.raises(TypeError, match=r"cost is of the type int; accepted: a function"):
        RateLimit(limiter, lambda _: None, number)
    with pytest.raises(TypeError, match=r"key is of the type NoneType; accepted: a function"):
        rate_limited(limiter, missing)
    with pytest.raises(TypeError, match=r"what is decorated is of the type int; accepted: a func"):
        rate_limited(limiter, lambda _: None)(number)
    with pytest.raises(TypeError, match=r"key returned the type str; accepted: the arguments"):
        rate_limited(limiter, text)(function)()
    with pytest.raises(TypeError, match=r"key returned a name of the type int; accepted: the arg"):
        rate_limited(limiter, lambda: {1: "alice"})(function)()  # type: ignore[dict-item]


def test_flask_requests_are_limited(limiter: RateLimiter) -> None:
    app = flask.Flask("test")
    extension = FlaskRateLimit(
        limiter=limiter,
        key=lambda request: (
            {"user": "alice", "model": request.path} if request.path != "/b" else None
        ),
        cost=lambda _: 1,
    )
    extension.init_app(app)

    @app.get("/a")
    def a() -> str:
        return "a"

    @app.get("/b")
    def b() -> str:
        return "b"

    client = app.test_client()
    first, second, third = client.get("/a"), client.get("/a"), client.get("/b")
    assert (first.status_code, limits(dict(first.headers))) == (200, ADMITTED)
    assert (second.status_code, second.get_json(force=True)) == (429, PROBLEM)
    assert limits(dict(second.headers)) == DENIED
    assert (third.status_code, limits(dict(third.headers))) == (200, {})


def test_a_decorated_function_is_limited(limiter: RateLimiter) -> None:
    def key(user: str, words: int) -> dict[str, Any] | None:
        return {"user": user, "model": "gpt-4", "cost": words // 3} if user else None

    @rate_limited(limiter, key=key)
    def answer(user: str, words: int) -> str:
        """Answer."""
        return f"{user}: {words}"

    assert answer("alice", 3) == "alice: 3"
    with pytest.raises(RateLimitExceeded) as error:
        answer("alice", 3)
    assert error.value.decision.retry_after_ms == 60_000
    assert [answer("", 1), answer("", 1)] == [": 1", ": 1"]
    assert (answer.__name__, answer.__doc__) == ("answer", "Answer.")


@pytest.mark.parametrize("wrap", [lambda limiter: limiter, AsyncRateLimiter])
def test_a_decorated_coroutine_is_limited(
    limiter: RateLimiter, wrap: Callable[[RateLimiter], Any]
) -> None:
    @rate_limited(wrap(limiter), key=lambda user: {"user": user, "model": "gpt-4"})
    async def answer(user: str) -> str:
        return user

    async def work() -> None:
        awaitable: Awaitable[str] = answer("alice")
        assert await awaitable == "alice"
        with pytest.raises(RateLimitExceeded):
            await answer("alice")

    asyncio.run(work())


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_with_fastapi_runs() -> None:
    answers = ask(example("fastapi_app").app, ["/models/gpt-4"] * 4)
    assert [one.status_code for one in answers] == [200, 200, 200, 429]


def test_the_example_with_flask_runs() -> None:
    client = example("flask_app").app.test_client()
    answers = [client.get("/models/gpt-4", headers={"x-user": "alice"}) for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert client.get("/health").text == "ok"


@pytest.mark.parametrize("wrap", [AsyncRateLimiter, lambda limiter: limiter])
def test_the_decorator_asks_before_the_first_item_of_an_async_generator(wrap: Any) -> None:
    limiter = RateLimiter(1, 60)
    events: list[object] = []

    @rate_limited(wrap(limiter), key=lambda user: {"user": user, "model": "m"})
    async def stream(user: str) -> AsyncGenerator[str, str]:
        events.append("started")
        try:
            events.append((yield user))
            try:
                yield "second"
            except KeyError:
                yield "caught"
        finally:
            events.append("closed")

    async def run() -> None:
        admitted = stream("alice")
        assert limiter.get_request_count("alice", "m") == 0
        assert await admitted.__anext__() == "alice"
        assert limiter.get_request_count("alice", "m") == 1
        assert await admitted.asend("sent") == "second"
        assert await admitted.athrow(KeyError()) == "caught"
        await admitted.aclose()
        with pytest.raises(RateLimitExceeded):
            await stream("alice").__anext__()
        assert [item async for item in stream("bob")] == ["bob", "second"]

    asyncio.run(run())
    assert events == ["started", "sent", "closed", "started", None, "closed"]


def test_the_decorator_takes_objects_with_an_async_call() -> None:
    class Echo:
        async def __call__(self, user: str) -> str:
            return user

    class Stream:
        async def __call__(self, user: str) -> AsyncGenerator[str, None]:
            yield user

    limiter = AsyncRateLimiter(RateLimiter(1, 60))
    decorate = rate_limited(limiter, key=lambda user: {"user": user, "model": "m"})

    async def run() -> None:
        echo: Any = decorate(Echo())
        assert await echo("alice") == "alice"
        with pytest.raises(RateLimitExceeded):
            await echo("alice")
        stream: Any = decorate(Stream())
        assert [item async for item in stream("bob")] == ["bob"]

    asyncio.run(run())


def test_the_decorator_refuses_a_blocking_limiter_for_an_async_generator() -> None:
    limiter = RedisRateLimiter("redis://127.0.0.1:1")

    async def stream() -> AsyncGenerator[int, None]:
        yield 1

    with pytest.raises(TypeError, match="would block the event loop"):
        rate_limited(limiter, lambda: None)(stream)
