"""The hook for LiteLLM, called as its proxy calls it. `make test-litellm` has the real proxy."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fastapi import HTTPException
from servers import Redis
from tollgate import (
    AsyncPolicyLimiter,
    AsyncRedisRateLimiter,
    PolicyLimiter,
    RateLimiter,
    RedisRateLimiter,
)

POLICIES = """
policies:
  - {id: requests, per: [user], limit: 3, windowSeconds: 3600}
  - {id: input, per: [user], unit: input_tokens, limit: 1000, windowSeconds: 3600}
  - {id: output, per: [user], unit: output_tokens, limit: 1000, windowSeconds: 3600}
  - {id: slots, per: [user], unit: concurrency, limit: 2}
"""
USER = SimpleNamespace(user_id="alice", api_key="hash", team_id=None)
Usage = tuple[int, int, int, int]


@pytest.fixture(scope="module", autouse=True)
def _stand_in() -> None:
    """Stand for LiteLLM, which has an environment of its own: the hook only needs its class."""
    assert importlib.util.find_spec("litellm") is None
    module = ModuleType("litellm.integrations.custom_logger")
    module.CustomLogger = type("CustomLogger", (), {})  # type: ignore[attr-defined]
    sys.modules.setdefault("litellm", ModuleType("litellm"))
    sys.modules.setdefault("litellm.integrations", ModuleType("litellm.integrations"))
    sys.modules.setdefault(module.__name__, module)


@pytest.fixture
def limiter(tmp_path: Path) -> PolicyLimiter:
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES)
    return PolicyLimiter.from_file(path)


def make(limiter: Any, **options: Any) -> Any:
    from tollgate.litellm import RateLimitHook  # noqa: PLC0415 - after the stand-in

    return RateLimitHook(limiter, **options)


def used(limiter: PolicyLimiter) -> Usage:
    """Return the requests, the tokens in and out, and the slots in use."""
    requests, into, out, slots = limiter.peek("alice", cost=0).limits
    return requests.count, into.count, out.count, slots.count


def call(**members: Any) -> dict[str, Any]:
    """Return a call that reserves 400 tokens of output."""
    return {"model": "gpt-4", "litellm_call_id": "1", "max_tokens": 400, **members}


async def begin(hook: Any, data: dict[str, Any], user: Any = USER) -> Any:
    return await hook.async_pre_call_hook(
        user_api_key_dict=user, cache=None, data=data, call_type="acompletion"
    )


def answer(output: int) -> Any:
    return SimpleNamespace(usage=SimpleNamespace(prompt_tokens=7, completion_tokens=output))


def test_an_answer_settles_its_call(limiter: PolicyLimiter) -> None:
    async def work() -> None:
        hook = make(limiter)
        data = call(messages=[{"role": "user", "content": "word " * 80}])
        assert await begin(hook, data) is data
        requests, into, out, slots = used(limiter)
        assert (requests, out, slots) == (1, 400, 1)
        assert 100 < into < 130
        await hook.async_post_call_success_hook(data, USER, answer(30))
        assert used(limiter) == (1, 7, 30, 0)
        await hook.async_post_call_success_hook(data, USER, answer(500))
        assert used(limiter) == (1, 7, 30, 0)

    asyncio.run(work())


def test_a_limit_on_all_tokens_counts_input_and_output(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(
        "policies: [{id: t, per: [user], unit: tokens, limit: 1000, windowSeconds: 60}]"
    )
    limiter = PolicyLimiter.from_file(path)

    def tokens() -> int:
        return limiter.peek("alice", cost=0).limits[0].count

    async def work() -> None:
        hook = make(limiter)
        data = call(prompt="1234")
        await begin(hook, data)
        assert tokens() == 403
        await hook.async_post_call_success_hook(data, USER, answer(30))
        assert tokens() == 37
        data = call(prompt="1234")
        await begin(hook, data)
        chunks = hook.async_post_call_streaming_iterator_hook(USER, stream(*ANTHROPIC), data)
        assert [one async for one in chunks] == ANTHROPIC
        assert tokens() == 37 + 40

    asyncio.run(work())


def test_an_answer_without_usage_pays_what_it_reserved(limiter: PolicyLimiter) -> None:
    async def work() -> None:
        hook = make(limiter, cost=lambda _: {"output_tokens": 50})
        data = call()
        await begin(hook, data)
        await hook.async_post_call_success_hook(data, USER, SimpleNamespace())
        assert used(limiter) == (1, 0, 50, 0)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("status", "expected"),
    [(None, (0, 0, 0, 0)), (500, (0, 0, 0, 0)), (408, (1, 3, 400, 0)), (499, (1, 3, 400, 0))],
)
def test_a_failed_call_gives_back_what_it_cannot_have_used(
    limiter: PolicyLimiter, status: int | None, expected: Usage
) -> None:
    async def work() -> None:
        hook = make(limiter)
        data = call(prompt="12345")
        await begin(hook, data)
        error = RuntimeError()
        error.status_code = status  # type: ignore[attr-defined]
        for _ in range(2):
            await hook.async_post_call_failure_hook(data, error, USER)
        assert used(limiter) == expected

    asyncio.run(work())


def chunk(text: str | None, usage: Any = None) -> Any:
    return SimpleNamespace(
        choices=[SimpleNamespace(delta=SimpleNamespace(content=text))], usage=usage
    )


async def stream(*chunks: Any, error: Exception | None = None) -> AsyncIterator[Any]:
    for one in chunks:
        yield one
    if error is not None:
        raise error


USAGE = SimpleNamespace(prompt_tokens=7, completion_tokens=30)
SOME = SimpleNamespace(prompt_tokens=7, completion_tokens=4)
WORDS = [chunk("word")] * 5
# Bytes that end within a line, as they come from a connection.
ANTHROPIC = [
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tok',
    b'ens":25,"output_tokens":1}}}\n\n',
    *[b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}\n\n'] * 3,
    'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":15}}\n\n',
]


@pytest.mark.parametrize(
    ("chunks", "read", "error", "expected"),
    [
        pytest.param([*WORDS, chunk(None, USAGE)], 9, None, (1, 7, 30, 0), id="whole"),
        pytest.param(WORDS, 9, None, (1, 1, 2, 0), id="without usage"),
        pytest.param([*WORDS, chunk(None, USAGE)], 3, None, (1, 1, 3, 0), id="left"),
        pytest.param(WORDS[:1], 1, None, (1, 1, 2, 0), id="left early"),
        pytest.param(WORDS, 9, ValueError(), (1, 1, 5, 0), id="broken"),
        pytest.param([chunk(None, USAGE)], 9, ValueError(), (1, 7, 30, 0), id="after usage"),
        pytest.param(
            [{"response": {"usage": {"input_tokens": 3, "output_tokens": 9}}}],
            9,
            None,
            (1, 3, 9, 0),
            id="responses",
        ),
        pytest.param(ANTHROPIC, 99, None, (1, 25, 15, 0), id="anthropic"),
        pytest.param(ANTHROPIC[:-1], 99, ValueError(), (1, 1, 3, 0), id="anthropic broken"),
        pytest.param(ANTHROPIC[:2], 99, None, (1, 25, 2, 0), id="anthropic without an end"),
        pytest.param([b'data: {"usage"\n', "data: [1]\n"], 9, None, (1, 1, 2, 0), id="no JSON"),
        pytest.param([chunk("a", SOME), chunk("b", SOME)], 2, None, (1, 1, 4, 0), id="running"),
    ],
)
def test_the_end_of_a_stream_settles_it(
    limiter: PolicyLimiter, chunks: list[Any], read: int, error: Any, expected: Usage
) -> None:
    async def work() -> None:
        hook = make(limiter)
        data = call(max_tokens=2)
        await begin(hook, data)
        source = stream(*chunks, error=error)
        await hook.async_post_call_success_hook(data, USER, source)
        passed = hook.async_post_call_streaming_iterator_hook(USER, source, data)
        seen = []
        try:
            async for one in passed:
                seen.append(one)
                if len(seen) == read:
                    break
        except ValueError:
            assert error is not None
        await passed.aclose()
        assert seen == chunks[:read]
        assert used(limiter) == expected

    asyncio.run(work())


def test_a_stream_whose_task_is_cancelled_pays_what_it_reserved(limiter: PolicyLimiter) -> None:
    async def work() -> None:
        hook = make(limiter)
        data = call(max_tokens=9)
        await begin(hook, data)

        async def source() -> AsyncIterator[Any]:
            yield WORDS[0]
            await asyncio.Event().wait()

        async def read() -> None:
            async for _ in hook.async_post_call_streaming_iterator_hook(USER, source(), data):
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert used(limiter) == (1, 1, 9, 0)

    asyncio.run(work())


def test_a_denied_call_is_a_429_with_the_fields_of_a_server(limiter: PolicyLimiter) -> None:
    async def work() -> None:
        hook = make(AsyncPolicyLimiter(limiter))
        await begin(hook, call(max_tokens=900))
        with pytest.raises(HTTPException) as denied:
            await begin(hook, call(max_tokens=900))
        assert denied.value.status_code == 429
        assert denied.value.detail.startswith("The limit is used up. Retry after 36")
        assert denied.value.headers is not None
        assert int(denied.value.headers["retry-after"]) in {3_599, 3_600}
        assert used(limiter) == (1, 1, 900, 1)

    asyncio.run(work())


def test_calls_that_choose_the_same_id_settle_apart(limiter: PolicyLimiter) -> None:
    async def work() -> None:
        hook = make(limiter, cost=lambda _: {"output_tokens": 100})
        first, second = call(), call()
        await begin(hook, first)
        await begin(hook, second)
        assert first["litellm_call_id"] != second["litellm_call_id"]
        await hook.async_post_call_success_hook(first, USER, answer(1))
        assert used(limiter) == (2, 7, 101, 1)
        await hook.async_post_call_success_hook(second, USER, answer(300))
        assert used(limiter) == (2, 14, 301, 0)

    asyncio.run(work())


@pytest.mark.parametrize("error", [ValueError(), None])
def test_a_stream_does_not_end_the_call_that_has_its_id(
    limiter: PolicyLimiter, error: Exception | None
) -> None:
    async def work() -> None:
        hook = make(limiter, cost=lambda _: {"output_tokens": 100})
        first, second = call(), call()
        await begin(hook, first)
        source = stream(chunk("a"), chunk(None, USAGE), error=error)
        passed = hook.async_post_call_streaming_iterator_hook(USER, source, first)
        await anext(passed)
        await begin(hook, second)
        assert first["litellm_call_id"] != second["litellm_call_id"]
        try:
            async for _ in passed:
                pass
        except ValueError as failure:
            await hook.async_post_call_failure_hook(first, failure, USER)
        assert used(limiter) == (2, 7, 130, 1)
        await hook.async_post_call_success_hook(second, USER, answer(300))
        assert used(limiter) == (2, 14, 330, 0)
        assert list(hook._leases) == (["1"] if error else [])

    asyncio.run(work())


def test_a_call_that_never_ends_is_forgotten_and_stays_charged(limiter: PolicyLimiter) -> None:
    async def work() -> None:
        hook = make(limiter, ttl=0.1, cost=lambda _: {"output_tokens": 100})
        await begin(hook, call(litellm_call_id="forgotten"))
        at, lease = hook._leases["forgotten"]
        hook._leases["forgotten"] = (at - 1, lease)
        del lease
        await begin(hook, call())
        assert list(hook._leases) == ["1"]
        assert used(limiter)[:3] == (2, 0, 200)

    asyncio.run(work())


def test_calls_without_a_key_pass_unlimited(limiter: PolicyLimiter) -> None:
    async def work() -> None:
        hook = make(limiter, key=lambda user, data: None)  # noqa: ARG005
        data = call()
        assert await begin(hook, data) is None
        await hook.async_post_call_success_hook(data, USER, answer(1))
        await hook.async_post_call_failure_hook(data, RuntimeError(), USER)
        chunks = hook.async_post_call_streaming_iterator_hook(USER, stream(1, 2), data)
        assert [one async for one in chunks] == [1, 2]
        assert used(limiter) == (0, 0, 0, 0)

    asyncio.run(work())


def test_a_call_is_named_by_its_user_its_team_and_its_model() -> None:
    make(RateLimitable())
    from tollgate.litellm import key_of_user  # noqa: PLC0415

    assert key_of_user(USER, {"model": "gpt-4"}) == {"user": "alice", "model": "gpt-4"}
    keyless = SimpleNamespace(user_id=None, api_key="hash", team_id="acme")
    assert key_of_user(keyless, {}) == {"user": "hash", "tenant": "acme"}


class RateLimitable:
    """Has what a limiter with leases has."""

    def reserve(self) -> None: ...


@pytest.mark.parametrize(
    ("data", "output"),
    [
        ({}, 1024),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ({"max_output_tokens": 7, "n": 3}, 21),
        ({"max_tokens": 0, "n": 0}, 0),
        ({"max_tokens": -1, "n": -1}, 1024),
        ({"max_tokens": "9", "n": "9"}, 1024),
        ({"max_tokens": True, "n": True}, 1024),
        ({"max_tokens": 10**5000, "n": 10**5000}, 1024),
        ({"max_tokens": 10**7, "n": 10**7}, 10**7),
        ({"messages": "\ud800", "max_tokens": 1.5}, 1024),
    ],
    ids=lambda _: None,
)
def test_an_estimate_takes_what_clients_send(data: dict[str, Any], output: int) -> None:
    make(RateLimitable())
    from tollgate.litellm import estimate  # noqa: PLC0415

    estimated = estimate(data)
    assert (estimated["requests"], estimated["output_tokens"]) == (1, output)
    assert 1 <= estimated["input_tokens"] <= 10


@pytest.mark.parametrize("model", ["", "a\nb", "m" * 300, ["a"], 7])
def test_a_bad_model_is_the_mistake_of_the_client(limiter: PolicyLimiter, model: Any) -> None:
    async def work() -> None:
        key = {"user": "alice", "model": model}
        with pytest.raises(HTTPException, match=r"400: model .*; accepted"):
            await begin(make(limiter, key=lambda *_: key), call())
        assert used(limiter) == (0, 0, 0, 0)

    asyncio.run(work())


def test_other_limiters_are_refused(redis_server: Redis) -> None:
    with pytest.raises(TypeError, match=r"RateLimiter has no leases; accepted: a PolicyLimiter"):
        make(RateLimiter())
    with pytest.raises(TypeError, match=r"would block the event loop; accepted: AsyncRedis"):
        make(RedisRateLimiter(redis_server.url))


def test_a_hook_checks_its_arguments_when_it_is_made(limiter: PolicyLimiter) -> None:
    wrong: Any
    for wrong in ({"key": 5}, {"cost": None}, {"ttl": "x"}):
        with pytest.raises(TypeError, match=r"(key|cost|ttl) is of the type .*; accepted"):
            make(limiter, **wrong)
    with pytest.raises(ValueError, match=r"ttl is 0 s; accepted: a number of seconds from 0.1"):
        make(limiter, ttl=0)


def test_leases_in_redis_are_settled_too(redis_server: Redis, user: str) -> None:
    async def work() -> None:
        shared = AsyncRedisRateLimiter(redis_server.url, 1, 3600, timeout=30)
        hook = make(shared)
        someone = SimpleNamespace(user_id=user, api_key=None, team_id=None)
        data = call()
        await begin(hook, data, someone)
        with pytest.raises(HTTPException, match="429"):
            await begin(hook, call(), someone)
        await hook.async_post_call_failure_hook(data, RuntimeError(), someone)
        await begin(hook, call(), someone)

    asyncio.run(work())


def test_a_settlement_that_fails_does_not_fail_the_answer(
    limiter: PolicyLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def observe(self, totals: object) -> None: ...

        async def settle(self, usage: object) -> None:
            raise RuntimeError(usage)

    async def work() -> None:
        hook = make(limiter)
        data = call()
        hook._leases["1"] = (0, Broken())
        with caplog.at_level(logging.ERROR, "tollgate"):
            await hook.async_post_call_success_hook(data, USER, answer(1))
        assert "a lease could not be settled" in caplog.text

    asyncio.run(work())
