"""Clients of a Tollgate server, over HTTP. They need the extra `client`."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._leases import AsyncReservation
from ._arguments import Check, check_connection, place_of
from ._decisions import ServerDecision
from ._errors import RequestRefused, ReservationDenied, ServerUnavailable
from ._httpx import httpx
from ._leases import AsyncLease, Lease
from ._wire import (
    Call,
    Calls,
    OnFailure,
    admin_call,
    batch_call,
    check_call,
    problem_of,
    reserve_call,
    reserved,
)

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from .._types import Cost, SubjectArguments

__all__ = [
    "AsyncClient",
    "AsyncLease",
    "AsyncReservation",
    "Check",
    "Client",
    "Lease",
    "OnFailure",
    "RequestRefused",
    "ReservationDenied",
    "ServerDecision",
    "ServerUnavailable",
]


class Client(Calls):
    """A client of the server at `base_url`, such as `http://127.0.0.1:8000`. Threads may share it.

    Without an answer within `timeout` seconds, or after a 5xx, `on_failure` decides a check:
    `raise` (`ServerUnavailable`), `allow` or `deny`. A request that the server refuses (4xx)
    always raises `RequestRefused`. `admin_token` is for `admin`. `http` is a client of httpx to
    use instead of a new one; `base_url` and `timeout` are then its own.
    """

    def __init__(
        self,
        base_url: str = "",
        *,
        timeout: float = 1.0,
        on_failure: OnFailure = "raise",
        admin_token: str | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        """Check the arguments. It connects with the first call."""
        super().__init__(on_failure, admin_token)
        check_connection(base_url, timeout, http, httpx.Client)
        self._http = http or httpx.Client(base_url=base_url, timeout=timeout)

    def __repr__(self) -> str:
        """Name the server, without a password."""
        return f"<Client of {place_of(self._http.base_url)}>"

    def _send(self, call: Call) -> Any:
        arguments = self._arguments(call)
        try:
            response = self._http.request(**arguments)
        except httpx.RequestError as error:
            raise ServerUnavailable(problem_of(error)) from error
        return self._read(call, response)

    def _decide(self, path: str, check: Mapping[str, object]) -> ServerDecision:
        try:
            return self._decision(self._send(check_call(path, check)))
        except ServerUnavailable as error:
            return self._without_server(error)

    def check(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> ServerDecision:
        """Decide a check, and charge it if it is allowed."""
        return self._decide("check", {"user": user, "model": model, "cost": cost, **others})

    def peek(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> ServerDecision:
        """Say what a check would be answered now; charges nothing."""
        return self._decide("peek", {"user": user, "model": model, "cost": cost, **others})

    def check_batch(self, checks: Sequence[Check]) -> list[ServerDecision]:
        """Decide up to 1,000 checks, in their order. Each is decided by itself."""
        try:
            answer = self._send(batch_call(checks))
            return self._decisions(answer, checks)
        except ServerUnavailable as error:
            return [self._without_server(error) for _ in checks]

    def reserve(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        *,
        ttl: float | None = None,
        **others: Unpack[SubjectArguments],
    ) -> Lease:
        """Reserve what a request may use, for `ttl` seconds (30 by default).

        A denial raises `ReservationDenied`. Without the server there is no lease, so `on_failure`
        does not apply, and `ServerUnavailable` is raised.
        """
        answer = self._send(
            reserve_call({"user": user, "model": model, "cost": cost, **others}, ttl)
        )
        return Lease(reserved(self._decision(answer)), self._send)

    def admin(self, method: str, path: str, body: object = None, **parameters: str | int) -> Any:
        """Call `/admin/{path}`: `admin("POST", "policies", {…})`, `admin("GET", "users", limit=9)`.

        Returns the JSON of the answer, or None if it has none.
        """
        return self._send(admin_call(method, path, body, parameters))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()


class AsyncClient(Calls):
    """The same client with `await` and `async with`. Each event loop has connections of its own.

    A client of httpx that is given with `http` belongs to one event loop.
    """

    def __init__(
        self,
        base_url: str = "",
        *,
        timeout: float = 1.0,
        on_failure: OnFailure = "raise",
        admin_token: str | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Check the arguments. It connects with the first call."""
        super().__init__(on_failure, admin_token)
        check_connection(base_url, timeout, http, httpx.AsyncClient)
        self._given = http
        self._base_url = base_url
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient]
        self._by_loop = weakref.WeakKeyDictionary()
        self._timeout = timeout
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        """Name the server, without a password."""
        base_url = self._base_url if self._given is None else self._given.base_url
        return f"<AsyncClient of {place_of(httpx.URL(base_url))}>"

    def _http(self) -> httpx.AsyncClient:
        """Return the client of httpx for the running event loop."""
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        http = self._by_loop.get(loop)
        if http is None:
            for other in [one for one in self._by_loop if one.is_closed()]:
                self._by_loop.pop(other, None)
            http = httpx.AsyncClient(base_url=self._base_url, timeout=self._timeout)
            self._by_loop[loop] = http
        return http

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` in a task for which `close` waits."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _send_to_the_end(self, call: Call) -> Any:
        """Send `call`. It goes on if the caller is cancelled."""
        return await asyncio.shield(self._start(self._send(call)))

    async def _reserve(self, call: Call, *, is_named: bool) -> AsyncLease:
        request = self._start(self._send(call))
        try:
            answer = await asyncio.shield(request)
        except asyncio.CancelledError:
            if not is_named:
                self._start(self._give_back(request))
            raise
        return self._lease(answer)

    def _lease(self, answer: Any) -> AsyncLease:
        return AsyncLease(reserved(self._decision(answer)), self._send, self._send_to_the_end)

    async def _give_back(self, request: asyncio.Task[Any]) -> None:
        """Release the lease that nobody waits for any more."""
        try:
            await self._lease(await request).release()
        except (ServerUnavailable, RequestRefused, ReservationDenied):
            return

    async def _send(self, call: Call) -> Any:
        arguments = self._arguments(call)
        try:
            response = await self._http().request(**arguments)
        except httpx.RequestError as error:
            raise ServerUnavailable(problem_of(error)) from error
        return self._read(call, response)

    async def _decide(self, path: str, check: Mapping[str, object]) -> ServerDecision:
        try:
            return self._decision(await self._send(check_call(path, check)))
        except ServerUnavailable as error:
            return self._without_server(error)

    async def check(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> ServerDecision:
        """See `Client.check`."""
        return await self._decide("check", {"user": user, "model": model, "cost": cost, **others})

    async def peek(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> ServerDecision:
        """See `Client.peek`."""
        return await self._decide("peek", {"user": user, "model": model, "cost": cost, **others})

    async def check_batch(self, checks: Sequence[Check]) -> list[ServerDecision]:
        """See `Client.check_batch`."""
        try:
            answer = await self._send(batch_call(checks))
            return self._decisions(answer, checks)
        except ServerUnavailable as error:
            return [self._without_server(error) for _ in checks]

    def reserve(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        *,
        ttl: float | None = None,
        **others: Unpack[SubjectArguments],
    ) -> AsyncReservation[AsyncLease]:
        """See `Client.reserve`: `async with client.reserve(…) as lease`.

        If the task is cancelled meanwhile, the lease is released in the background; not one with a
        `request_id`, because whoever reserves again with it gets the same lease.
        """
        call = reserve_call({"user": user, "model": model, "cost": cost, **others}, ttl)
        is_named = others.get("request_id") is not None

        async def reserve() -> AsyncLease:
            return await self._reserve(call, is_named=is_named)

        return AsyncReservation(reserve)

    async def admin(
        self, method: str, path: str, body: object = None, **parameters: str | int
    ) -> Any:
        """See `Client.admin`."""
        return await self._send(admin_call(method, path, body, parameters))

    async def close(self) -> None:
        """Wait for what cancelled tasks left, `timeout` seconds at most; close the connections."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timeout
        # A task may leave another one.
        while tasks := [task for task in self._tasks if task.get_loop() is loop]:
            _, unfinished = await asyncio.wait(tasks, timeout=max(0, until - loop.time()))
            if unfinished:
                break
        await self._http().aclose()

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.close()
