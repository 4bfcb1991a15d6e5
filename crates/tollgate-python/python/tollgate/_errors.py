"""Exceptions."""

from __future__ import annotations

from typing import Protocol

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
        if len(self.args) != 1 or not isinstance(self.args[0], Decision):
            return super().__str__()
        return describe(self.args[0])


class _Denial(Protocol):
    """What a denial says, of a limiter or of a server."""

    @property
    def reason(self) -> str | None: ...
    @property
    def policy_id(self) -> str | None: ...
    @property
    def retry_after_ms(self) -> int | None: ...


def describe(denial: _Denial) -> str:
    """Return why a check was denied, and when to come again."""
    wait = denial.retry_after_ms
    when = "waiting does not help" if wait is None else f"retry after {wait} ms"
    # An API key that was revoked is denied by no policy.
    by = "" if denial.policy_id is None else f" by the policy {denial.policy_id}"
    return f"{denial.reason}{by}; {when}"
