"""Limits as values, for programs that keep them in their configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._types import Quota


@dataclass(frozen=True)
class RateLimitConfig:
    """At most `max_requests` in any `window_seconds`.

    A limiter checks the numbers when it is made: 0 to 2^53 - 1 requests, 0.001 seconds to 366 days.
    """

    max_requests: int = 100
    window_seconds: float = 3600


@dataclass(frozen=True)
class Tier:
    """Two limits for the models of a tier: for each user on a model, and for all its users."""

    per_user_model: Quota
    per_model: Quota
    models: Sequence[str] = ()
