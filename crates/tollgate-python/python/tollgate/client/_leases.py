"""The leases of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from .._leases import log_failed_settlement
from .._tollgate import check_amounts, ttl_ms
from ._decisions import ServerDecision
from ._wire import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from typing_extensions import Self

    from .._types import LeaseState


class Updates:
    """The updates of a lease: each has a number, so that one that is sent again counts once."""

    def __init__(self, answer: dict[str, Any]) -> None:
        """Take the answer to a reservation."""
        lease = answer["lease"]
        self.id: str = lease["id"]
        """Its id: whoever knows it can settle the lease, at any server over the same store."""
        self.decision = ServerDecision.of(answer)
        """The decision of its reservation."""
        self.state_at_reservation: str = lease["state"]
        """`live`, unless the same `request_id` reserved it before and it has ended since."""
        self.reserved: dict[str, int] = lease["reserved"]
        """What it reserved, by unit."""
        self._observed: dict[str, int] = {}
        self._seq = 0
        self._has_ended = False

    def __repr__(self) -> str:
        """Say whether it is open. Its id is left out: whoever knows it can settle the lease."""
        state = "ended" if self._has_ended else "open"
        return f"<{type(self).__name__} {state}, {self.reserved} reserved>"

    def observe(self, totals: dict[str, int]) -> None:
        """Note what was used so far, for the end of the `with` block and the next extension."""
        check_amounts("totals", totals)
        self._observed.update(totals)

    def _update(self, path: str, **body: object) -> Call:
        self._seq += 1
        body = {name: value for name, value in body.items() if value is not None}
        return Call("POST", f"/rate-limit/leases/{self.id}/{path}", {"seq": self._seq, **body})

    def _extend(self, ttl: float | None, wanted: dict[str, int] | None) -> Call:
        if wanted is not None:
            check_amounts("wanted", wanted)
        observed = self._observed or None
        return self._update("extend", ttlMs=ttl_ms(ttl), wanted=wanted, observed=observed)

    def _settle(self, usage: dict[str, int], *, is_lower_bound: bool) -> Call:
        check_amounts("usage", usage)
        self._has_ended = True
        quality = "lower_bound" if is_lower_bound else None
        return self._update("settle", usage=usage, quality=quality)

    def _release(self) -> Call:
        self._has_ended = True
        return Call("DELETE", f"/rate-limit/leases/{self.id}")

    def _refuse_ended(self) -> None:
        if self._has_ended:
            message = "the lease has been settled or released already"
            raise RuntimeError(message)

    def _leave(self, *, has_raised: bool) -> Call | None:
        """Return the settlement at the end of a `with` block, if nothing ended the lease before."""
        if self._has_ended:
            return None
        return self._settle(dict(self._observed), is_lower_bound=has_raised or not self._observed)


class Lease(Updates):
    """A lease of a server. At the end of its `with` block it is settled with what was observed.

    After an exception, or if nothing was observed, that is a lower bound: nothing is given back.
    """

    def __init__(self, answer: dict[str, Any], send: Callable[[Call], Any]) -> None:
        """Take the answer to a reservation."""
        super().__init__(answer)
        self._send = send

    def extend(self, ttl: float | None = None, wanted: dict[str, int] | None = None) -> LeaseState:
        """Keep it alive for `ttl` seconds, report what was observed, and ask for `wanted` totals.

        If `proceed` is false, what was wanted was not admitted.
        """
        return cast("LeaseState", self._send(self._extend(ttl, wanted)))

    def settle(self, usage: dict[str, int]) -> LeaseState:
        """Replace what was reserved by what was used: totals of the whole request, by unit."""
        return cast("LeaseState", self._send(self._settle(usage, is_lower_bound=False)))

    def release(self) -> LeaseState:
        """Give everything back, as if the request had not been made."""
        return cast("LeaseState", self._send(self._release()))

    def __enter__(self) -> Self:
        """Return the lease, or raise `RuntimeError` if it has ended."""
        self._refuse_ended()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Settle the lease if nothing has ended it."""
        settlement = self._leave(has_raised=exc_type is not None)
        if settlement is None:
            return
        try:
            self._send(settlement)
        except Exception as error:
            self._has_ended = False
            if exc_type is None:
                raise
            log_failed_settlement(error)


class AsyncLease(Updates):
    """The same lease with `await` and `async with`."""

    def __init__(
        self,
        answer: dict[str, Any],
        send: Callable[[Call], Coroutine[Any, Any, Any]],
        send_to_the_end: Callable[[Call], Coroutine[Any, Any, Any]],
    ) -> None:
        """Take the answer to a reservation. The second function goes on if it is cancelled."""
        super().__init__(answer)
        self._send = send
        self._send_to_the_end = send_to_the_end

    async def extend(
        self, ttl: float | None = None, wanted: dict[str, int] | None = None
    ) -> LeaseState:
        """See `Lease.extend`."""
        return cast("LeaseState", await self._send(self._extend(ttl, wanted)))

    async def settle(self, usage: dict[str, int]) -> LeaseState:
        """See `Lease.settle`. It goes on if the caller is cancelled."""
        settlement = self._settle(usage, is_lower_bound=False)
        return cast("LeaseState", await self._send_to_the_end(settlement))

    async def release(self) -> LeaseState:
        """See `Lease.release`. It goes on if the caller is cancelled."""
        return cast("LeaseState", await self._send_to_the_end(self._release()))

    async def __aenter__(self) -> Self:
        """Return the lease, or raise `RuntimeError` if it has ended."""
        self._refuse_ended()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Settle the lease if nothing has ended it."""
        settlement = self._leave(has_raised=exc_type is not None)
        if settlement is None:
            return
        try:
            await self._send_to_the_end(settlement)
        except Exception as error:
            self._has_ended = False
            if exc_type is None:
                raise
            log_failed_settlement(error)
