"""The hook in a real proxy of LiteLLM before the mock model: `make test-litellm`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import Redis, mock_model, running
from tollgate import RedisRateLimiter

# Far above the time that the proxy takes to start on a busy machine.
START_SECONDS = 240
KEY = {"authorization": "Bearer sk-of-the-master"}
TOKENS = 20
POLICIES = """
policies:
  - {id: requests, per: [user], limit: 3, windowSeconds: 3600}
  - {id: input, per: [user], unit: input_tokens, limit: 1000, windowSeconds: 3600}
  - {id: output, per: [user], unit: output_tokens, limit: 1000, windowSeconds: 3600}
  - {id: slots, per: [user], unit: concurrency, limit: 2}
"""
HOOK = """
from tollgate import AsyncRedisRateLimiter
from tollgate.litellm import RateLimitHook

def key(user, data):
    name = data.get("user") or data["proxy_server_request"]["headers"].get("x-user")
    return {"user": name, "model": data["model"]}

hook = RateLimitHook(AsyncRedisRateLimiter(URL, policies="policies.yaml", timeout=30), key)
"""


def configuration(models: dict[str, str]) -> str:
    """Return the configuration of the proxy. JSON is YAML."""
    parameters = [
        (name, {"model": "openai/mock", "api_base": f"{address}/v1", "api_key": "none"})
        for name, address in models.items()
    ]
    return json.dumps(
        {
            "model_list": [{"model_name": name, "litellm_params": one} for name, one in parameters],
            "litellm_settings": {"callbacks": "tollgate_hook.hook", "num_retries": 0},
            "router_settings": {"num_retries": 0, "disable_cooldowns": True},
            "general_settings": {"master_key": "sk-of-the-master"},
        }
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "policies.yaml").write_text(POLICIES)
    return folder


@pytest.fixture(scope="session")
def proxy(folder: Path, redis_server: Redis) -> Iterator[httpx.Client]:
    """Return a client of the proxy. Its models are fast, slow and down."""
    (folder / "tollgate_hook.py").write_text(HOOK.replace("URL", repr(redis_server.url)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "litellm"), "--config", "config.yaml"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    # It must not ask the Internet for its prices.
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"}
    log = folder / "proxy.log"
    with (
        mock_model(folder, tokens=TOKENS, pace_ms=0) as fast,
        mock_model(folder, tokens=TOKENS, pace_ms=200) as slow,
    ):
        # Nothing listens at the port 9 (discard) of this machine.
        models = {"fast": fast, "slow": slow, "down": "http://127.0.0.1:9"}
        (folder / "config.yaml").write_text(configuration(models))
        with (
            running(command, log, cwd=folder, env=environment) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=KEY, timeout=60) as client,
        ):
            deadline = time.monotonic() + START_SECONDS
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/health/liveliness").status_code == 200:
                        break
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield client
    print(log.read_text()[-20_000:])


@pytest.fixture(scope="session")
def limiter(folder: Path, redis_server: Redis) -> RedisRateLimiter:
    return RedisRateLimiter(redis_server.url, policies=folder / "policies.yaml", timeout=30)


def used(limiter: RedisRateLimiter, user: str) -> tuple[int, int, int, int]:
    """Return the requests, the tokens in and out, and the slots in use."""
    requests, into, out, slots = limiter.peek(user, cost=0).limits
    return requests.count, into.count, out.count, slots.count


def chat(user: str, **members: Any) -> dict[str, Any]:
    """Return a call that reserves 400 tokens of output."""
    messages = [{"role": "user", "content": "word " * 40}]
    return {"model": "fast", "user": user, "max_tokens": 400, "messages": messages, **members}


def test_an_answer_pays_what_it_used(
    proxy: httpx.Client, limiter: RedisRateLimiter, user: str
) -> None:
    answer = proxy.post("/v1/chat/completions", json=chat(user))
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    assert usage["completion_tokens"] == TOKENS
    assert used(limiter, user) == (1, usage["prompt_tokens"], TOKENS, 0)


def test_a_stream_pays_what_it_used(
    proxy: httpx.Client, limiter: RedisRateLimiter, user: str
) -> None:
    answer = proxy.post("/v1/chat/completions", json=chat(user, stream=True))
    assert answer.status_code == 200, answer.text
    assert answer.text.rstrip().endswith("[DONE]")
    assert '"usage"' not in answer.text
    requests, into, out, slots = used(limiter, user)
    assert (requests, out, slots) == (1, TOKENS, 0)
    assert into > 0


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    "call",
    [
        ("/v1/responses", {"input": "word", "max_output_tokens": 400}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 400}),
    ],
)
def test_other_dialects_pay_what_they_used(
    proxy: httpx.Client,
    limiter: RedisRateLimiter,
    user: str,
    call: tuple[str, dict[str, Any]],
    streams: bool,
) -> None:
    path, members = call
    body = {"model": "fast", "stream": streams, **members}
    answer = proxy.post(path, json=body, headers={"x-user": user})
    assert answer.status_code == 200, answer.text
    requests, _, out, slots = used(limiter, user)
    assert (requests, out, slots) == (1, TOKENS, 0)


def test_a_stream_that_the_client_leaves_pays_what_it_reserved(
    proxy: httpx.Client, limiter: RedisRateLimiter, user: str
) -> None:
    body = chat(user, model="slow", stream=True)
    with proxy.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        assert next(answer.iter_lines()).startswith("data: ")
        assert used(limiter, user)[2:] == (400, 1)
    deadline = time.monotonic() + 60
    while used(limiter, user)[3]:
        assert time.monotonic() < deadline, "the slot is not free"
        time.sleep(0.05)
    assert used(limiter, user)[2] == 400


def test_a_call_that_fails_gives_everything_back(
    proxy: httpx.Client, limiter: RedisRateLimiter, user: str
) -> None:
    for streams in (False, True):
        answer = proxy.post("/v1/chat/completions", json=chat(user, model="down", stream=streams))
        assert answer.status_code >= 500
        assert used(limiter, user) == (0, 0, 0, 0)


def test_a_denied_call_is_a_429_that_says_when_to_retry(
    proxy: httpx.Client, limiter: RedisRateLimiter, user: str
) -> None:
    answers = [proxy.post("/v1/chat/completions", json=chat(user)) for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    denied = answers[3]
    assert 3_000 < int(denied.headers["retry-after"]) <= 3_600
    assert "The limit is used up. Retry after" in denied.json()["error"]["message"]
    assert used(limiter, user)[0] == 3


def test_calls_with_the_same_id_settle_apart(
    proxy: httpx.Client, limiter: RedisRateLimiter, user: str
) -> None:
    def call(model: str) -> int:
        headers = {"x-litellm-call-id": f"the same for {user}"}
        body = chat(user, model=model)
        return proxy.post("/v1/chat/completions", json=body, headers=headers).status_code

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(call, ["slow", "slow"])) == [200, 200]
    requests, _, out, slots = used(limiter, user)
    assert (requests, out, slots) == (2, 2 * TOKENS, 0)
