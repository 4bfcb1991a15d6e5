"""Clients of a Tollgate server, over HTTP. They need the extra `client`."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, cast

import httpx

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from ._types import CheckArguments, LeaseState

OnFailure: TypeAlias = Literal["raise", "allow", "deny"]
"""What a check does if the server cannot be reached or fails."""

_FIELDS = {
    "user": "userId",
    "model": "modelId",
    "tenant": "tenantId",
    "api_key": "apiKey",
    "service": "service",
    "ip": "ip",
    "attributes": "attributes",
    "cost": "cost",
    "request_id": "requestId",
}
_MILLISECONDS = 1000


class Check(TypedDict, total=False):
    """A check of a batch: the arguments of `Client.check`."""

    user: str | None
    model: str | None
    tenant: str | None
    api_key: str | None
    service: str | None
    ip: str | None
    attributes: dict[str, str] | None
    cost: int | dict[str, int] | None
    request_id: str | None


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
        detail = problem.get("detail") or f"status {status}"
        errors = [f"{one.get('field')} {one.get('problem')}" for one in problem.get("errors", [])]
        super().__init__(": ".join([detail, "; ".join(errors)] if errors else [detail]))


class ReservationDenied(Exception):  # noqa: N818 - as `RateLimitExceeded`
    """A reservation was denied."""

    decision: ServerDecision
    """Why, and when to come again."""

    def __init__(self, decision: ServerDecision) -> None:
        """Describe `decision`."""
        self.decision = decision
        wait = decision.retry_after_ms
        when = "waiting does not help" if wait is None else f"retry after {wait} ms"
        super().__init__(f"{decision.reason} by the policy {decision.policy_id}; {when}")


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
    def _of(cls, answer: dict[str, Any]) -> ServerDecision:
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


@dataclass(frozen=True)
class _Call:
    """A request, and whether a 429 is an answer to it."""

    method: str
    path: str
    body: object = None
    is_admin: bool = False
    takes_denials: bool = False
    parameters: Mapping[str, str | int] | None = None


class _Calls:
    """What both clients have: how calls are made and answers are read."""

    def __init__(self, on_failure: OnFailure, admin_token: str | None) -> None:
        if on_failure not in ("raise", "allow", "deny"):
            message = f"on_failure is {on_failure!r}; accepted: 'raise', 'allow' or 'deny'"
            raise ValueError(message)
        self._on_failure = on_failure
        self._admin_token = admin_token

    def _arguments(self, call: _Call) -> dict[str, Any]:
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
    def _read(call: _Call, response: httpx.Response) -> Any:
        """Return the JSON of an answer, or raise what it says."""
        status = response.status_code
        try:
            answer = json.loads(response.content) if response.content else None
        except ValueError:
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
            return ServerDecision._of(answer)
        except (KeyError, TypeError) as error:
            message = "the answer is not that of a Tollgate server; check the address"
            raise ServerUnavailable(message) from error

    def _without_server(self, error: ServerUnavailable) -> ServerDecision:
        """Decide a check that the server did not decide."""
        if self._on_failure == "raise":
            raise error
        allowed = self._on_failure == "allow"
        reason = None if allowed else "server_unavailable"
        return ServerDecision(allowed=allowed, reason=reason, retry_after_ms=None, degraded=True)


def _check_call(path: str, check: Mapping[str, object]) -> _Call:
    return _Call("POST", f"/rate-limit/{path}", _body(check))


def _batch_call(checks: Sequence[Check]) -> _Call:
    return _Call("POST", "/rate-limit/check/batch", {"checks": [_body(one) for one in checks]})


def _reserve_call(check: Mapping[str, object], ttl: float | None) -> _Call:
    body = _body(check)
    if ttl is not None:
        body["ttlMs"] = round(ttl * _MILLISECONDS)
    return _Call("POST", "/rate-limit/leases", body, takes_denials=True)


def _admin_call(method: str, path: str, body: object, parameters: Mapping[str, str | int]) -> _Call:
    path = f"/admin/{path.strip('/')}"
    return _Call(method, path, body, is_admin=True, parameters=parameters or None)


def _decisions(answer: Any) -> list[Any]:
    decisions = answer.get("decisions") if isinstance(answer, dict) else None
    return decisions if isinstance(decisions, list) else [None]


def _reserved(decision: ServerDecision) -> dict[str, Any]:
    if not decision.allowed or "lease" not in decision.answer:
        raise ReservationDenied(decision)
    return decision.answer


def _address(base_url: str) -> str:
    if not base_url.startswith(("http://", "https://")):
        message = f"base_url is {base_url!r}; accepted: http://HOST[:PORT] or https://HOST[:PORT]"
        raise ValueError(message)
    return base_url


def _problem(error: httpx.TransportError) -> str:
    return f"the server did not answer: {error or type(error).__name__}"


def _body(check: Mapping[str, object]) -> dict[str, Any]:
    unknown = check.keys() - _FIELDS.keys()
    if unknown:
        message = f"{sorted(unknown)} are no arguments of a check; accepted: {', '.join(_FIELDS)}"
        raise TypeError(message)
    body = {_FIELDS[name]: value for name, value in check.items() if value is not None}
    if isinstance(body.get("cost"), int):
        body["cost"] = {"requests": body["cost"]}
    return body


class _Updates:
    """The updates of a lease: each has a number, so that one that is sent again counts once."""

    def __init__(self, answer: dict[str, Any]) -> None:
        lease = answer["lease"]
        self.id: str = lease["id"]
        """Its id: whoever knows it can settle the lease, at any server over the same store."""
        self.decision = ServerDecision._of(answer)
        """The decision of its reservation."""
        self.state_at_reservation: str = lease["state"]
        """`live`, unless the same `request_id` reserved it before and it has ended since."""
        self.reserved: dict[str, int] = lease["reserved"]
        """What it reserved, by unit."""
        self._observed: dict[str, int] = {}
        self._seq = 0
        self._has_ended = False

    def observe(self, totals: dict[str, int]) -> None:
        """Note what was used so far, for the end of the `with` block and the next extension."""
        self._observed.update(totals)

    def _update(self, path: str, **body: object) -> _Call:
        self._seq += 1
        body = {name: value for name, value in body.items() if value is not None}
        return _Call("POST", f"/rate-limit/leases/{self.id}/{path}", {"seq": self._seq, **body})

    def _extend(self, ttl: float | None, wanted: dict[str, int] | None) -> _Call:
        ttl_ms = None if ttl is None else round(ttl * _MILLISECONDS)
        observed = self._observed or None
        return self._update("extend", ttlMs=ttl_ms, wanted=wanted, observed=observed)

    def _settle(self, usage: dict[str, int], *, is_lower_bound: bool) -> _Call:
        self._has_ended = True
        quality = "lower_bound" if is_lower_bound else None
        return self._update("settle", usage=usage, quality=quality)

    def _release(self) -> _Call:
        self._has_ended = True
        return _Call("DELETE", f"/rate-limit/leases/{self.id}")

    def _leave(self, *, has_raised: bool) -> _Call | None:
        """Return the settlement at the end of a `with` block, if nothing ended the lease before."""
        if self._has_ended:
            return None
        return self._settle(dict(self._observed), is_lower_bound=has_raised or not self._observed)


class Lease(_Updates):
    """A lease of a server. At the end of its `with` block it is settled with what was observed.

    After an exception, or if nothing was observed, that is a lower bound: nothing is given back.
    """

    def __init__(self, client: Client, answer: dict[str, Any]) -> None:
        """Take the answer to a reservation."""
        super().__init__(answer)
        self._client = client

    def extend(self, ttl: float | None = None, wanted: dict[str, int] | None = None) -> LeaseState:
        """Keep it alive for `ttl` seconds, report what was observed, and ask for `wanted` totals.

        If `proceed` is false, what was wanted was not admitted.
        """
        return cast("LeaseState", self._client._send(self._extend(ttl, wanted)))

    def settle(self, usage: dict[str, int]) -> LeaseState:
        """Replace what was reserved by what was used: totals of the whole request, by unit."""
        settlement = self._settle(usage, is_lower_bound=False)
        return cast("LeaseState", self._client._send(settlement))

    def release(self) -> LeaseState:
        """Give everything back, as if the request had not been made."""
        return cast("LeaseState", self._client._send(self._release()))

    def __enter__(self) -> Self:
        """Return the lease."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Settle the lease if nothing has ended it."""
        settlement = self._leave(has_raised=exc_type is not None)
        if settlement is not None:
            self._client._send(settlement)


class AsyncLease(_Updates):
    """The same lease with `await` and `async with`."""

    def __init__(self, client: AsyncClient, answer: dict[str, Any]) -> None:
        """Take the answer to a reservation."""
        super().__init__(answer)
        self._client = client

    async def extend(
        self, ttl: float | None = None, wanted: dict[str, int] | None = None
    ) -> LeaseState:
        """See `Lease.extend`."""
        return cast("LeaseState", await self._client._send(self._extend(ttl, wanted)))

    async def settle(self, usage: dict[str, int]) -> LeaseState:
        """See `Lease.settle`."""
        settlement = self._settle(usage, is_lower_bound=False)
        return cast("LeaseState", await self._client._send(settlement))

    async def release(self) -> LeaseState:
        """See `Lease.release`."""
        return cast("LeaseState", await self._client._send(self._release()))

    async def __aenter__(self) -> Self:
        """Return the lease."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Settle the lease if nothing has ended it."""
        settlement = self._leave(has_raised=exc_type is not None)
        if settlement is not None:
            await self._client._finish(self._client._send(settlement))


class AsyncReservation(Awaitable[AsyncLease]):
    """What `AsyncClient.reserve` returns: `await` it for the lease, or enter it."""

    def __init__(self, reserve: Callable[[], Coroutine[Any, Any, AsyncLease]]) -> None:
        """Wrap the call that reserves."""
        self._reserve = reserve
        self._lease: AsyncLease | None = None

    def __await__(self) -> Generator[object, None, AsyncLease]:
        """Reserve."""
        return self._reserve().__await__()

    async def __aenter__(self) -> AsyncLease:
        """Reserve."""
        self._lease = await self
        return self._lease

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Settle the lease if nothing has ended it."""
        if self._lease is not None:
            await self._lease.__aexit__(exc_type, exc_value, traceback)


class Client(_Calls):
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
        self._http = http or httpx.Client(base_url=_address(base_url), timeout=timeout)

    def _send(self, call: _Call) -> Any:
        arguments = self._arguments(call)
        try:
            response = self._http.request(**arguments)
        except httpx.TransportError as error:
            raise ServerUnavailable(_problem(error)) from error
        return self._read(call, response)

    def _decide(self, path: str, check: Mapping[str, object]) -> ServerDecision:
        try:
            return self._decision(self._send(_check_call(path, check)))
        except ServerUnavailable as error:
            return self._without_server(error)

    def check(
        self, user: str | None = None, model: str | None = None, **others: Unpack[CheckArguments]
    ) -> ServerDecision:
        """Decide a check, and charge it if it is allowed."""
        return self._decide("check", {"user": user, "model": model, **others})

    def peek(
        self, user: str | None = None, model: str | None = None, **others: Unpack[CheckArguments]
    ) -> ServerDecision:
        """Say what a check would be answered now; charges nothing."""
        return self._decide("peek", {"user": user, "model": model, **others})

    def check_batch(self, checks: Sequence[Check]) -> list[ServerDecision]:
        """Decide up to 1,000 checks, in their order. Each is decided by itself."""
        try:
            answer = self._send(_batch_call(checks))
            return [self._decision(one) for one in _decisions(answer)]
        except ServerUnavailable as error:
            return [self._without_server(error) for _ in checks]

    def reserve(
        self,
        user: str | None = None,
        model: str | None = None,
        *,
        ttl: float | None = None,
        **others: Unpack[CheckArguments],
    ) -> Lease:
        """Reserve what a request may use, for `ttl` seconds (30 by default).

        A denial raises `ReservationDenied`. Without the server there is no lease, so `on_failure`
        does not apply, and `ServerUnavailable` is raised.
        """
        answer = self._send(_reserve_call({"user": user, "model": model, **others}, ttl))
        return Lease(self, _reserved(self._decision(answer)))

    def admin(self, method: str, path: str, body: object = None, **parameters: str | int) -> Any:
        """Call `/admin/{path}`: `admin("POST", "policies", {…})`, `admin("GET", "users", limit=9)`.

        Returns the JSON of the answer, or None if it has none.
        """
        return self._send(_admin_call(method, path, body, parameters))

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


class AsyncClient(_Calls):
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
        self._given = http
        self._base_url = base_url if http else _address(base_url)
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient]
        self._by_loop = weakref.WeakKeyDictionary()
        self._timeout = timeout
        self._tasks: set[asyncio.Task[Any]] = set()

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

    async def _finish(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Wait for `work`, which goes on if the caller is cancelled."""
        return await asyncio.shield(self._start(work))

    async def _reserve(self, call: _Call, *, is_named: bool) -> AsyncLease:
        request = self._start(self._send(call))
        try:
            answer = await asyncio.shield(request)
        except asyncio.CancelledError:
            if not is_named:
                self._start(self._give_back(request))
            raise
        return AsyncLease(self, _reserved(self._decision(answer)))

    async def _give_back(self, request: asyncio.Task[Any]) -> None:
        """Release the lease that nobody waits for any more."""
        try:
            lease = AsyncLease(self, _reserved(self._decision(await request)))
            await lease.release()
        except (ServerUnavailable, RequestRefused, ReservationDenied):
            return

    async def _send(self, call: _Call) -> Any:
        arguments = self._arguments(call)
        try:
            response = await self._http().request(**arguments)
        except httpx.TransportError as error:
            raise ServerUnavailable(_problem(error)) from error
        return self._read(call, response)

    async def _decide(self, path: str, check: Mapping[str, object]) -> ServerDecision:
        try:
            return self._decision(await self._send(_check_call(path, check)))
        except ServerUnavailable as error:
            return self._without_server(error)

    async def check(
        self, user: str | None = None, model: str | None = None, **others: Unpack[CheckArguments]
    ) -> ServerDecision:
        """See `Client.check`."""
        return await self._decide("check", {"user": user, "model": model, **others})

    async def peek(
        self, user: str | None = None, model: str | None = None, **others: Unpack[CheckArguments]
    ) -> ServerDecision:
        """See `Client.peek`."""
        return await self._decide("peek", {"user": user, "model": model, **others})

    async def check_batch(self, checks: Sequence[Check]) -> list[ServerDecision]:
        """See `Client.check_batch`."""
        try:
            answer = await self._send(_batch_call(checks))
            return [self._decision(one) for one in _decisions(answer)]
        except ServerUnavailable as error:
            return [self._without_server(error) for _ in checks]

    def reserve(
        self,
        user: str | None = None,
        model: str | None = None,
        *,
        ttl: float | None = None,
        **others: Unpack[CheckArguments],
    ) -> AsyncReservation:
        """See `Client.reserve`: `async with client.reserve(…) as lease`.

        If the task is cancelled meanwhile, the lease is released in the background; not one with a
        `request_id`, because whoever reserves again with it gets the same lease.
        """

        async def reserve() -> AsyncLease:
            check = {"user": user, "model": model, **others}
            is_named = others.get("request_id") is not None
            return await self._reserve(_reserve_call(check, ttl), is_named=is_named)

        return AsyncReservation(reserve)

    async def admin(
        self, method: str, path: str, body: object = None, **parameters: str | int
    ) -> Any:
        """See `Client.admin`."""
        return await self._send(_admin_call(method, path, body, parameters))

    async def close(self) -> None:
        """Wait for what cancelled tasks left, `timeout` seconds at most; close the connections."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is loop]
        if tasks:
            await asyncio.wait(tasks, timeout=self._timeout)
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
