"""A proxy for OpenAI's chat completions whose users get 1000 tokens a minute each.

pip install tollgate-limiter fastapi httpx uvicorn
UPSTREAM=http://127.0.0.1:9001/v1/ uvicorn openai_proxy:app
curl http://127.0.0.1:8000/v1/chat/completions -H 'x-user: alice' --json \
    '{"model": "gpt-4", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}'

`tollgate serve --gateway` does the same for more dialects, with a queue and several upstreams.
"""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from tollgate import AsyncLease, AsyncPolicyLimiter, PolicyLimiter, RateLimitExceeded

MAX_OUTPUT_TOKENS = 500

policies = Path(__file__).with_suffix(".yaml")
# AsyncRedisRateLimiter("redis://127.0.0.1:6379", policies=policies) shares them.
limiter = AsyncPolicyLimiter(PolicyLimiter.from_file(policies))
address = os.environ.get("UPSTREAM", "http://127.0.0.1:9001/v1/")
upstream = httpx.AsyncClient(base_url=address, timeout=600)
app = FastAPI()


def refusal(status: int, message: str, fields: dict[str, str] | None = None) -> Response:
    """Answer as OpenAI does."""
    return JSONResponse({"error": {"message": message, "code": status}}, status, fields)


def output_cap(call: dict[str, Any]) -> int:
    """Return how many tokens the answer may have."""
    asked = call.get("max_tokens")
    return min(asked, MAX_OUTPUT_TOKENS) if type(asked) is int and asked > 0 else MAX_OUTPUT_TOKENS


def usage_of(answer: dict[str, Any]) -> dict[str, int]:
    """Return what a model says that it used."""
    return {"tokens": answer["usage"]["total_tokens"]}


@app.post("/v1/chat/completions")
async def complete(request: Request) -> Response:
    """Reserve what the call may use, send it, and settle what it used."""
    # Take the user from your authentication, not from a header.
    user = request.headers.get("x-user", "anonymous")
    try:
        call = await request.json()
        cap = output_cap(call)
        # About four bytes a token; the settlement corrects it.
        cost = {"tokens": len(await request.body()) // 4 + cap}
        lease = await limiter.reserve(user, call["model"], ttl=600, cost=cost)
    except RateLimitExceeded as denied:
        return refusal(429, str(denied), denied.decision.headers())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return refusal(400, f"this is no call: {error}")
    call["max_tokens"] = cap
    if call.get("stream"):
        call["stream_options"] = {"include_usage": True}
    return await send(call, lease)


async def send(call: dict[str, Any], lease: AsyncLease) -> Response:
    """Send a call. If this raises, its lease stays as reserved."""
    wanted = upstream.build_request("POST", "chat/completions", json=call)
    try:
        answer = await upstream.send(wanted, stream=True)
    except httpx.ConnectError:
        await lease.release()
        return refusal(502, "the model cannot be reached")
    kind = answer.headers.get("content-type")
    if answer.is_success and call.get("stream"):
        return StreamingResponse(passed_on(answer, lease), media_type=kind)
    body = await answer.aread()
    if answer.is_success:
        await lease.settle(usage_of(json.loads(body)))
    else:
        await lease.release()
    return Response(body, answer.status_code, media_type=kind)


async def passed_on(answer: httpx.Response, lease: AsyncLease) -> AsyncIterator[str]:
    """Pass a stream on. A stream that breaks, or that the client leaves, stays as reserved."""
    async with lease:
        try:
            async for line in answer.aiter_lines():
                yield line + "\n"
                if '"usage":{' in line.replace(" ", ""):
                    await lease.settle(usage_of(json.loads(line.removeprefix("data:"))))
        finally:
            await answer.aclose()
