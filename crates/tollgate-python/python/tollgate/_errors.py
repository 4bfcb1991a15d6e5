"""Exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._tollgate import Decision


class RateLimitExceeded(Exception):  # noqa: N818 - the name that limiters in Python use
    """A check was denied where only an admitted one can go on."""

    decision: Decision
    """Why, and when to come again."""

    def __init__(self, decision: Decision) -> None:
        """Describe `decision`."""
        self.decision = decision
        wait = decision.retry_after_ms
        when = "waiting does not help" if wait is None else f"retry after {wait} ms"
        super().__init__(f"{decision.reason} by the policy {decision.policy_id}; {when}")

    def __reduce__(self) -> tuple[type[RateLimitExceeded], tuple[Decision]]:
        """Say how it is copied: by its decision, not by its text."""
        return type(self), (self.decision,)
