"""Examples that need more than an application's test client; the others are with what they show."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import httpx
import pytest
from servers import mock_model

EXAMPLES = Path(__file__).parents[3] / "examples" / "python"
TOKENS = 20


def example(name: str) -> Any:
    """Load an example anew."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_example_runs_in_a_test() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"fastapi_app", "flask_app", "grpc_server", "openai_proxy", "sidecar"}


def test_the_grpc_server_limits_its_users() -> None:
    server, port = example("grpc_server").make_server("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            complete: Any = channel.unary_unary("/models.Models/Complete")
            health: Any = channel.unary_unary("/health.Health/Complete")
            metadata = [("x-user", "alice")]
            for _ in range(3):
                answer = complete(b"one two", metadata=metadata, timeout=60, wait_for_ready=True)
                assert answer == b"two one"
            with pytest.raises(grpc.RpcError) as denied:
                complete(b"one two", metadata=metadata, timeout=60)
            assert denied.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert complete(b"b", metadata=[("x-user", "bob")], timeout=60) == b"b"
            assert [health(b"b", timeout=60) for _ in range(5)] == [b"b"] * 5
    finally:
        server.stop(None).wait()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mock_model(tmp_path_factory.mktemp("model"), tokens=TOKENS, pace_ms=0) as address:
        yield address


def test_the_proxy_limits_tokens(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM", f"{model}/v1/")
    proxy = example("openai_proxy")

    def used() -> tuple[int, int]:
        tokens, slots = proxy.limiter.limiter.peek("alice", cost=0).limits
        return tokens.count, slots.count

    async def work() -> None:
        transport = httpx.ASGITransport(proxy.app)
        headers = {"x-user": "alice"}

        async def ask(**members: Any) -> httpx.Response:
            messages = [{"role": "user", "content": "one two three"}]
            call = {"model": "mock", "max_tokens": 400, "messages": messages, **members}
            return await client.post("/v1/chat/completions", json=call)

        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", headers=headers
        ) as client:
            whole = await ask()
            assert whole.status_code == 200, whole.text
            usage = whole.json()["usage"]
            assert usage["completion_tokens"] == TOKENS
            total = usage["total_tokens"]
            assert used() == (total, 0)
            streamed = await ask(stream=True)
            assert streamed.status_code == 200, streamed.text
            assert streamed.text.rstrip().endswith("[DONE]")
            (reported,) = re.findall(r'"total_tokens":(\d+)', streamed.text)
            total += int(reported)
            assert used() == (total, 0)
            for bad in ({"model": ""}, {"model": 7}):
                assert (await ask(**bad)).status_code == 400
            assert (await client.post("/v1/chat/completions", content="[]")).status_code == 400
            long = await ask(messages=[{"role": "user", "content": "word " * 800}])
            assert (long.status_code, long.headers.get("retry-after")) == (429, None)
            assert used() == (total, 0)
        await proxy.upstream.aclose()

    asyncio.run(work())


def test_the_proxy_gives_back_what_no_model_used(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing listens at the port 9 (discard) of this machine.
    monkeypatch.setenv("UPSTREAM", "http://127.0.0.1:9/v1/")
    proxy = example("openai_proxy")

    async def work() -> None:
        transport = httpx.ASGITransport(proxy.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            call = {"model": "mock", "messages": []}
            answer = await client.post("/v1/chat/completions", json=call)
            assert answer.status_code == 502
        limits = proxy.limiter.limiter.peek("anonymous", cost=0).limits
        assert [limit.count for limit in limits] == [0, 0]
        await proxy.upstream.aclose()

    asyncio.run(work())
