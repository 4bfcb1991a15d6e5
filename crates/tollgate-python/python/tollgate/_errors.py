"""Exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._tollgate import Decision


class RateLimitExceeded(Exception):  # noqa: N818 - the name that limiters in Python use
    """A check was denied where only an admitted one can go on."""

    # It has no `__init__`, because the compiled part makes it and must not run code in Python.

    @property
    def decision(self) -> Decision:
        """Why, and when to come again."""
        decision: Decision = self.args[0]
        return decision

    def __str__(self) -> str:
        """Describe the decision."""
        decision = self.decision
        wait = decision.retry_after_ms
        when = "waiting does not help" if wait is None else f"retry after {wait} ms"
        return f"{decision.reason} by the policy {decision.policy_id}; {when}"
