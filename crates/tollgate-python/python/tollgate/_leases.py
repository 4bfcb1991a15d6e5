"""Leases in async code."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._tollgate import Lease

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from ._tollgate import Decision
    from ._types import LeaseState

L = TypeVar("L", bound=AbstractAsyncContextManager[Any])

_logger = logging.getLogger("tollgate")


def log_failed_settlement(error: Exception) -> None:
    """Log a settlement that failed after its block raised: the block's exception goes on."""
    _logger.warning(
        "a lease was not settled when its block raised: %s; it keeps what it reserved until it "
        "expires",
        error,
    )


class AsyncLease:
    """A `Lease` whose calls are awaited."""

    def __init__(self, lease: Lease) -> None:
        """Wrap `lease`."""
        if not isinstance(lease, Lease):
            kind = type(lease).__name__
            message = f"lease is of the type {kind}; accepted: a tollgate.Lease"
            raise TypeError(message)
        self._lease = lease

    def __repr__(self) -> str:
        """Name the lease that it wraps."""
        return f"<AsyncLease of {self._lease!r}>"

    @property
    def id(self) -> str:
        """Its id, valid wherever the store is used: whoever knows it can settle the lease."""
        return self._lease.id

    @property
    def decision(self) -> Decision:
        """The decision of its reservation."""
        return self._lease.decision

    @property
    def state_at_reservation(self) -> str:
        """`live`, unless the same `request_id` reserved it before and it has ended since."""
        return self._lease.state_at_reservation

    def observe(self, totals: dict[str, int]) -> None:
        """Note what was used so far: totals by unit, such as `{"output_tokens": 120}`.

        See `Lease.observe`.
        """
        self._lease.observe(totals)

    async def extend(
        self, ttl: float | None = None, wanted: dict[str, int] | None = None
    ) -> LeaseState | None:
        """Let it live for `ttl` seconds from now, and ask for `wanted` totals by unit.

        See `Lease.extend` for the answer and the errors.
        """
        return await self._lease.extend_async(ttl, wanted)

    async def settle(self, usage: dict[str, int]) -> LeaseState | None:
        """Settle it with `usage`: all that was used, by unit.

        See `Lease.settle` for the answer and the errors.
        """
        return await self._lease.settle_async(usage)

    async def release(self) -> LeaseState | None:
        """Give everything back, as if the check had not been made.

        See `Lease.release` for the answer and the errors.
        """
        return await self._lease.release_async()

    async def __aenter__(self) -> Self:
        """Return the lease, or raise `RuntimeError` if it has ended."""
        self._lease.__enter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Settle the lease, as a lower bound after an exception."""
        try:
            await self._lease.leave_async(exc_type is not None)
        except Exception as error:
            if exc_type is None:
                raise
            log_failed_settlement(error)


class AsyncReservation(Awaitable[L], Generic[L]):
    """What `reserve` in async code returns: `await` it for the lease, or enter it."""

    def __init__(self, reserve: Callable[[], Coroutine[Any, Any, L]]) -> None:
        """Wrap the call that reserves."""
        self._reserve = reserve
        self._lease: L | None = None
        self._is_entered = False

    def __await__(self) -> Generator[object, None, L]:
        """Reserve."""
        return self._reserve().__await__()

    async def __aenter__(self) -> L:
        """Reserve. Raises `RuntimeError` inside its own block: the first lease would be lost."""
        if self._is_entered:
            message = "the reservation is entered already; accepted: a call of reserve per block"
            raise RuntimeError(message)
        self._is_entered = True
        try:
            self._lease = await self
        except BaseException:
            self._is_entered = False
            raise
        return self._lease

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Settle the lease, as a lower bound after an exception."""
        lease, self._lease, self._is_entered = self._lease, None, False
        if lease is not None:
            await lease.__aexit__(exc_type, exc_value, traceback)
