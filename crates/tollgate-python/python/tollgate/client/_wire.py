"""How calls are written and answers are read, for both clients."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .._tollgate import ttl_ms
from ._arguments import Check, batch_of, body_of, check_admin_call, check_admin_token, shown
from ._decisions import ServerDecision
from ._errors import RequestRefused, ReservationDenied, ServerUnavailable
from ._httpx import httpx

OnFailure: TypeAlias = Literal["raise", "allow", "deny"]
"""What a check does if the server cannot be reached or fails."""

_OTHER = "the answer is not that of a Tollgate server; check the address"


@dataclass(frozen=True)
class Call:
    """A request, and whether a 429 is an answer to it."""

    method: str
    path: str
    body: object = None
    is_admin: bool = False
    takes_denials: bool = False
    parameters: Mapping[str, str | int] | None = None


class Calls:
    """What both clients have: how calls are made and answers are read."""

    def __init__(self, on_failure: OnFailure, admin_token: str | None) -> None:
        """Check the arguments."""
        if on_failure not in ("raise", "allow", "deny"):
            message = f"on_failure is {shown(on_failure)}; accepted: 'raise', 'allow' or 'deny'"
            raise ValueError(message)
        check_admin_token(admin_token)
        self._on_failure = on_failure
        self._admin_token = admin_token

    def _arguments(self, call: Call) -> dict[str, Any]:
        """Return the arguments of `httpx.Client.request`."""
        headers = {}
        if call.is_admin:
            if self._admin_token is None:
                message = "calls to /admin need an admin token; give the client admin_token"
                raise ValueError(message)
            headers["authorization"] = f"Bearer {self._admin_token}"
        arguments: dict[str, Any] = {"method": call.method, "url": call.path, "headers": headers}
        if call.body is not None:
            arguments["json"] = call.body
        if call.parameters is not None:
            arguments["params"] = dict(call.parameters)
        return arguments

    @staticmethod
    def _read(call: Call, response: httpx.Response) -> Any:
        """Return the JSON of an answer, or raise what it says."""
        status = response.status_code
        try:
            answer = json.loads(response.content) if response.content else None
        except (ValueError, RecursionError):
            answer = None
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            detail = answer.get("detail") if isinstance(answer, dict) else None
            message = f"the server answered {status}: {detail or response.reason_phrase}"
            raise ServerUnavailable(message)
        is_denial = status == httpx.codes.TOO_MANY_REQUESTS and call.takes_denials
        if status >= httpx.codes.BAD_REQUEST and not (is_denial and isinstance(answer, dict)):
            raise RequestRefused(status, answer if isinstance(answer, dict) else {})
        if status >= httpx.codes.MULTIPLE_CHOICES and not is_denial:
            message = f"the server answered {status}: is the address that of a Tollgate server?"
            raise ServerUnavailable(message)
        return answer

    @staticmethod
    def _decision(answer: Any) -> ServerDecision:
        try:
            return ServerDecision.of(answer)
        except (KeyError, TypeError) as error:
            raise ServerUnavailable(_OTHER) from error

    def _decisions(self, answer: Any, checks: Sequence[Check]) -> list[ServerDecision]:
        decisions = answer.get("decisions") if isinstance(answer, dict) else None
        if not isinstance(decisions, list) or len(decisions) != len(checks):
            raise ServerUnavailable(_OTHER)
        return [self._decision(one) for one in decisions]

    def _without_server(self, error: ServerUnavailable) -> ServerDecision:
        """Decide a check that the server did not decide."""
        if self._on_failure == "raise":
            raise error
        allowed = self._on_failure == "allow"
        reason = None if allowed else "server_unavailable"
        return ServerDecision(allowed=allowed, reason=reason, retry_after_ms=None, degraded=True)


def check_call(path: str, check: Mapping[str, object]) -> Call:
    """Return the call that decides `check`."""
    return Call("POST", f"/rate-limit/{path}", body_of(path, check))


def batch_call(checks: Sequence[Check]) -> Call:
    """Return the call that decides `checks`."""
    return Call("POST", "/rate-limit/check/batch", {"checks": batch_of(checks)})


def reserve_call(check: Mapping[str, object], ttl: float | None) -> Call:
    """Return the call that reserves for `ttl` seconds."""
    body = body_of("reserve", check)
    if ttl is not None:
        body["ttlMs"] = ttl_ms(ttl)
    return Call("POST", "/rate-limit/leases", body, takes_denials=True)


def admin_call(method: str, path: str, body: object, parameters: Mapping[str, str | int]) -> Call:
    """Return the call of `/admin/{path}`."""
    check_admin_call(method, path, body, parameters)
    path = f"/admin/{path.strip('/')}"
    return Call(method, path, body, is_admin=True, parameters=parameters or None)


def reserved(decision: ServerDecision) -> dict[str, Any]:
    """Return the answer to a reservation if it has a lease."""
    if not decision.allowed or "lease" not in decision.answer:
        raise ReservationDenied(decision)
    lease = decision.answer["lease"]
    kinds = {"id": str, "state": str, "reserved": dict}
    if not isinstance(lease, dict) or not all(
        isinstance(lease.get(name), kind) for name, kind in kinds.items()
    ):
        raise ServerUnavailable(_OTHER)
    return decision.answer


def problem_of(error: httpx.RequestError) -> str:
    """Describe why there is no answer."""
    return f"the server did not answer: {str(error) or type(error).__name__}"
