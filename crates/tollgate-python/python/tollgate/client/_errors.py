"""What calls of a client raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._errors import describe

if TYPE_CHECKING:
    from ._decisions import ServerDecision


class ServerUnavailable(Exception):  # noqa: N818 - a state, as in the log of the server
    """The server did not answer in time, or answered 5xx. What was asked may have happened."""


class RequestRefused(ValueError):  # noqa: N818 - as `ServerUnavailable`
    """The server refused the request (4xx): sending it again does not help."""

    status: int
    """The HTTP status."""
    problem: dict[str, Any]
    """The problem document of the answer (RFC 9457), or an empty one."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        """Describe the problem and its fields."""
        self.status = status
        self.problem = problem
        # What answers may be another program, whose fields are of any type.
        detail = problem.get("detail")
        if not isinstance(detail, str) or not detail:
            detail = f"status {status}"
        fields = problem.get("errors")
        errors = [
            f"{one.get('field')} {one.get('problem')}"
            for one in (fields if isinstance(fields, list) else [])
            if isinstance(one, dict)
        ]
        super().__init__(": ".join([detail, "; ".join(errors)] if errors else [detail]))

    def __reduce__(self) -> tuple[type[RequestRefused], tuple[int, dict[str, Any]]]:
        """Say how it is copied: by its status and problem, not by its text."""
        return type(self), (self.status, self.problem)


class ReservationDenied(Exception):  # noqa: N818 - as `RateLimitExceeded`
    """A reservation was denied."""

    decision: ServerDecision
    """Why, and when to come again."""

    def __init__(self, decision: ServerDecision) -> None:
        """Describe `decision`."""
        self.decision = decision
        super().__init__(describe(decision))

    def __reduce__(self) -> tuple[type[ReservationDenied], tuple[ServerDecision]]:
        """Say how it is copied: by its decision, not by its text."""
        return type(self), (self.decision,)
