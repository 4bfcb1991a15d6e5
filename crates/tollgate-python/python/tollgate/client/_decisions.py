"""The decisions of a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import NoneType
from typing import Any

# The types of an answer's fields. A server may add fields.
_TYPES: dict[str, type | tuple[type, ...]] = {
    "allowed": bool,
    "limit": (int, NoneType),
    "count": int,
    "remaining": (int, NoneType),
    "windowSeconds": (int, float, NoneType),
    "retryAfterMs": (int, NoneType),
    "resetAfterMs": (int, NoneType),
    "policyId": (str, NoneType),
    "scope": (str, NoneType),
    "unit": str,
    "reason": (str, NoneType),
    "degraded": bool,
    "limits": list,
}


def _check_types(answer: object) -> None:
    if not isinstance(answer, dict):
        message = f"an answer of the type {type(answer).__name__}"
        raise TypeError(message)
    for name, accepted in _TYPES.items():
        value = answer[name]
        # Only `allowed` and `degraded` are true or false.
        is_bool = isinstance(value, bool)
        if not isinstance(value, accepted) or is_bool != (accepted is bool):
            message = f"{name} is of the type {type(value).__name__}"
            raise TypeError(message)


@dataclass(frozen=True)
class ServerDecision:
    """The answer to a check. It is true if the check was allowed."""

    allowed: bool
    limit: int | None = None
    """The limit that the check comes closest to; None if none applies."""
    count: int = 0
    """What is used of it, with this check."""
    remaining: int | None = None
    window_seconds: float | None = None
    retry_after_ms: int | None = 0
    """After a denial: the shortest wait, in milliseconds; None if waiting does not help."""
    reset_after_ms: int = 0
    policy_id: str | None = None
    scope: str | None = None
    unit: str = "requests"
    reason: str | None = None
    """Why it was denied; `server_unavailable` if the server did not decide it."""
    degraded: bool = False
    """Whether it was decided without the store, or without the server."""
    limits: tuple[dict[str, Any], ...] = ()
    """Every limit that applies, with the names of the server's answer."""
    answer: dict[str, Any] = field(default_factory=dict, repr=False)
    """The whole answer, as the server sent it; empty if the server did not decide."""

    def __bool__(self) -> bool:
        """Return whether the check was allowed."""
        return self.allowed

    @classmethod
    def of(cls, answer: dict[str, Any]) -> ServerDecision:
        """Read the answer of a server. Raises `KeyError` or `TypeError` if it is another one."""
        _check_types(answer)
        return cls(
            allowed=answer["allowed"],
            limit=answer["limit"],
            count=answer["count"],
            remaining=answer["remaining"],
            window_seconds=answer["windowSeconds"],
            retry_after_ms=answer["retryAfterMs"],
            reset_after_ms=answer["resetAfterMs"],
            policy_id=answer["policyId"],
            scope=answer["scope"],
            unit=answer["unit"],
            reason=answer["reason"],
            degraded=answer["degraded"],
            limits=tuple(answer["limits"]),
            answer=answer,
        )
