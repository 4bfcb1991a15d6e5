"""A hook for the proxy of LiteLLM. It needs `litellm[proxy]`.

In a file beside the proxy's configuration, which names it as `callbacks: tollgate_hook.hook`:

    from tollgate import AsyncRedisRateLimiter
    from tollgate.litellm import RateLimitHook

    hook = RateLimitHook(AsyncRedisRateLimiter("redis://127.0.0.1", policies="policies.yaml"))
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from ._aio import AsyncPolicyLimiter
from ._errors import RateLimitExceeded
from ._extras import needs
from ._http import problem, refuse_blocking, refuse_no_function
from ._tollgate import PolicyLimiter, ttl_ms

with needs("litellm"):
    from fastapi import HTTPException
    from litellm.integrations.custom_logger import CustomLogger

if TYPE_CHECKING:
    from ._leases import AsyncLease
    from ._redis import AsyncRedisRateLimiter

__all__ = ["RateLimitHook", "estimate", "key_of_user"]

_LOG = logging.getLogger("tollgate")

# Roughly what a token has in English; a settlement corrects it.
_BYTES_PER_TOKEN = 4
_MAX_TOKENS = 10_000_000
# The longest line of a stream that is read: what reports usage is short.
_MAX_LINE = 1_000_000
_INPUTS = ("messages", "prompt", "input", "instructions", "system", "tools")
_OUTPUT_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
# The model may have answered, but nobody waited for it.
_STATUS_OF_A_WAIT = {408, 499, 504}


def key_of_user(user: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """Name a call by the user of its key, the team as tenant, and the model.

    `user` is LiteLLM's `UserAPIKeyAuth`. A key without a user is a user by itself.
    """
    names = {
        "user": user.user_id or user.api_key,
        "tenant": user.team_id,
        "model": data.get("model"),
    }
    return {name: value for name, value in names.items() if value}


def estimate(data: Mapping[str, Any], default_output_tokens: int = 1024) -> dict[str, int]:
    """Return what a call may use: a request, its input by its length, and its output by its cap.

    A call without a cap reserves `default_output_tokens` for each choice.
    """
    texts = [data[name] for name in _INPUTS if data.get(name)]
    length = len(json.dumps(texts, ensure_ascii=False, default=str).encode(errors="replace"))
    caps = [_amount(data.get(name)) for name in _OUTPUT_CAPS]
    cap = next((cap for cap in caps if cap is not None), default_output_tokens)
    output = min(cap * (_amount(data.get("n")) or 1), _MAX_TOKENS)
    return {"requests": 1, **_tokens(length // _BYTES_PER_TOKEN + 1, output)}


def _tokens(into: int, out: int) -> dict[str, int]:
    return {"input_tokens": into, "output_tokens": out, "tokens": into + out}


def _amount(value: object) -> int | None:
    """Return `value` if it is a number of tokens. It is the client's, so it can be anything."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= _MAX_TOKENS else None


class RateLimitHook(CustomLogger):  # type: ignore[misc] # LiteLLM need not be installed for checks
    """Limits the calls of a LiteLLM proxy.

    Each call reserves a lease before it is sent. An answer settles it with the usage that it
    reports, at the end of a stream too; a stream that ends early, or reports none, pays what it
    reserved, or what was seen of it if that is more. A call that fails gives everything back, but a
    call that timed out or that the client left pays what it reserved. A denied call is answered
    with 429 and the fields of a server's answer, such as `retry-after`.

    :param limiter: a `PolicyLimiter`, an `AsyncPolicyLimiter` or an `AsyncRedisRateLimiter`
    :param key: gets LiteLLM's `UserAPIKeyAuth` and the call; returns the arguments of `reserve`, or
        None if the call is not limited
    :param cost: gets the call; returns what it may use, by unit
    :param ttl: the seconds that a call may take, up to 3600: then its slots are free
    """

    def __init__(
        self,
        limiter: PolicyLimiter | AsyncPolicyLimiter | AsyncRedisRateLimiter,
        key: Callable[[Any, Mapping[str, Any]], Mapping[str, Any] | None] = key_of_user,
        cost: Callable[[Mapping[str, Any]], dict[str, int]] = estimate,
        *,
        ttl: float = 600,
    ) -> None:
        """Take the limiter and the functions of the application."""
        super().__init__()
        refuse_blocking(limiter)
        if isinstance(limiter, PolicyLimiter):
            limiter = AsyncPolicyLimiter(limiter)
        if not hasattr(limiter, "reserve"):
            kind = type(limiter).__name__
            message = f"{kind} has no leases; accepted: a PolicyLimiter or an AsyncRedisRateLimiter"
            raise TypeError(message)
        refuse_no_function("key", key)
        refuse_no_function("cost", cost)
        # Raises if it is not accepted: a call of the proxy would tell its client.
        ttl_ms(ttl)
        self._limiter = limiter
        self._key = key
        self._cost = cost
        self._ttl = ttl
        # By the id of the call, the oldest first, with the time at which they expire. None for a
        # stream that has its lease: LiteLLM also reports its failure, under the same id.
        self._leases: dict[str, tuple[float, AsyncLease | None]] = {}

    async def async_pre_call_hook(
        self,
        user_api_key_dict: Any,
        cache: Any,  # noqa: ARG002 - LiteLLM calls by name
        data: dict[str, Any],
        call_type: str,  # noqa: ARG002
    ) -> dict[str, Any] | None:
        """Reserve what the call may use."""
        arguments = self._key(user_api_key_dict, data)
        if arguments is None:
            return None
        arguments = {"cost": self._cost(data), **arguments}
        try:
            lease = await self._limiter.reserve(ttl=self._ttl, **arguments)
        except RateLimitExceeded as denied:
            decision = denied.decision
            detail = problem(decision)["detail"]
            raise HTTPException(429, detail=detail, headers=decision.headers()) from None
        except (TypeError, ValueError) as error:
            # The client names the model.
            raise HTTPException(400, detail=str(error)) from None
        self._keep(data, lease)
        return data

    async def async_post_call_success_hook(
        self,
        data: Mapping[str, Any],
        user_api_key_dict: Any,  # noqa: ARG002
        response: Any,
    ) -> None:
        """Settle a call whose answer is whole."""
        if hasattr(response, "__aiter__"):
            return
        lease = self._take(data)
        if lease is not None:
            meter = _Meter()
            meter.read(response)
            await _settle(lease, meter.usage)

    async def async_post_call_streaming_iterator_hook(
        self,
        user_api_key_dict: Any,  # noqa: ARG002
        response: AsyncIterator[Any],
        request_data: Mapping[str, Any],
    ) -> AsyncIterator[Any]:
        """Pass a stream on, and settle its call when it ends, however it does."""
        lease = self._take(request_data, is_stream=True)
        meter = _Meter()
        is_whole = False
        try:
            async for chunk in response:
                meter.read(chunk)
                yield chunk
            is_whole = True
            self._leases.pop(_call_id(request_data), None)
        finally:
            if lease is not None:
                if is_whole or meter.is_final:
                    await _settle(lease, meter.usage)
                else:
                    least = meter.least_output()
                    lease.observe({"output_tokens": least, "tokens": least})
                    await _settle_lower_bound(lease)

    async def async_post_call_failure_hook(
        self,
        request_data: Mapping[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,  # noqa: ARG002
        traceback_str: str | None = None,  # noqa: ARG002
    ) -> None:
        """Give back what a failed call reserved, unless the model may have answered it."""
        lease = self._take(request_data)
        if lease is None:
            return
        if getattr(original_exception, "status_code", None) in _STATUS_OF_A_WAIT:
            await _settle_lower_bound(lease)
        else:
            await _end(lease.release())

    def _keep(self, data: dict[str, Any], lease: AsyncLease) -> None:
        now = time.monotonic()
        while self._leases:
            oldest, (expires, _) = next(iter(self._leases.items()))
            if expires > now:
                break
            # Nobody has ended it: it stays charged as reserved.
            del self._leases[oldest]
        call = data.get("litellm_call_id")
        # A client may choose it, and so use that of another call.
        if not isinstance(call, str) or call in self._leases:
            call = data["litellm_call_id"] = str(uuid.uuid4())
        self._leases[call] = (now + self._ttl, lease)

    def _take(self, data: Mapping[str, Any], *, is_stream: bool = False) -> AsyncLease | None:
        call = _call_id(data)
        expires, lease = self._leases.get(call, (0.0, None))
        if lease is not None and is_stream:
            self._leases[call] = (expires, None)
        elif lease is not None:
            del self._leases[call]
        return lease


def _call_id(data: Mapping[str, Any]) -> str:
    return str(data.get("litellm_call_id"))


class _Meter:
    """What a stream has shown so far: chunks, events, or bytes of server-sent events."""

    def __init__(self) -> None:
        self.usage: dict[str, int] = {}
        # Whether the last chunk was the report that ends a stream.
        self.is_final = False
        self._texts = 0
        self._line = ""

    def read(self, chunk: Any) -> None:
        if isinstance(chunk, bytes):
            chunk = chunk.decode(errors="replace")
        if not isinstance(chunk, str):
            self._read_event(chunk)
            return
        *lines, rest = (self._line + chunk).split("\n")
        self._line = rest[:_MAX_LINE]
        for line in lines:
            if line.startswith("data:"):
                self._read_data(line.removeprefix("data:"))

    def least_output(self) -> int:
        """Return what was produced at least: each text has a token, or more."""
        return max(self._texts, self.usage.get("output_tokens", 0))

    def _read_data(self, data: str) -> None:
        if '"usage"' in data:
            with contextlib.suppress(ValueError):
                self._read_event(json.loads(data))
        elif '"text' in data:
            self._texts += 1
            self.is_final = False

    def _read_event(self, event: Any) -> None:
        # The first event of Anthropic's streams.
        first = _usage(_member(event, "message"))
        usage = _usage(event)
        self.usage.update({unit: first[unit] for unit in first if unit == "input_tokens"})
        self.usage.update(usage)
        if {"input_tokens", "output_tokens"} <= self.usage.keys():
            self.usage = _tokens(self.usage["input_tokens"], self.usage["output_tokens"])
        has_text = _has_text(event)
        self._texts += has_text
        self.is_final = usage.get("output_tokens", 0) > 0 and not has_text


def _usage(answer: Any) -> dict[str, int]:
    """Return the tokens that an answer, a chunk or an event of the Responses API reports."""
    reported = _member(answer, "usage") or _member(_member(answer, "response"), "usage")
    names = {
        "input_tokens": ("prompt_tokens", "input_tokens"),
        "output_tokens": ("completion_tokens", "output_tokens"),
    }
    usage = {}
    for unit, members in names.items():
        amounts = [_amount(_member(reported, member)) for member in members]
        amount = next((amount for amount in amounts if amount is not None), None)
        if amount is not None:
            usage[unit] = amount
    return usage


def _has_text(chunk: Any) -> bool:
    choices = _member(chunk, "choices") or ()
    return any(_member(_member(choice, "delta"), "content") for choice in choices)


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


async def _settle(lease: AsyncLease, usage: dict[str, int]) -> None:
    """Charge `usage`; what it does not name stays as reserved."""
    await _end(lease.settle(usage))


async def _settle_lower_bound(lease: AsyncLease) -> None:
    error = ConnectionAbortedError()
    await _end(lease.__aexit__(ConnectionAbortedError, error, None))


async def _end(update: Any) -> None:
    """Await an update of a lease. If it fails, the call is answered and stays as reserved."""
    try:
        await update
    except Exception:
        _LOG.exception("a lease could not be settled: its call stays charged as reserved")
