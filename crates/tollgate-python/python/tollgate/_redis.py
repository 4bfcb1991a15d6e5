"""Limits shared with Tollgate servers and other processes, in Redis or Valkey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from ._leases import AsyncLease, AsyncReservation
from ._tollgate import SharedLimiter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from typing_extensions import Unpack

    from ._tollgate import Decision, Lease
    from ._types import CheckArguments, Cost, SharedMetrics, SubjectArguments

_HOW = "accepted: a URL, which can say everything, such as rediss://USER:PASSWORD@HOST:6379/0"


class _Default:
    """A value that is not given, and so not in the way of `policies`. It is shown as what it is."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


_DEFAULT_REQUESTS: Any = _Default(100)
_DEFAULT_WINDOW: Any = _Default(3600)

# What a client can be told that no URL of Tollgate says.
_NOT_IN_A_URL = ("credential_provider", "ssl_password", "ssl_ca_data", "ssl_ca_path")


def url_of(client: object) -> str:
    """Return the URL of what `client` is connected to: a client of redis-py or valkey-py, or a URL.

    Nothing is sent through the client: Tollgate has its own connection.
    """
    if isinstance(client, str):
        return client
    nodes = getattr(client, "nodes_manager", None)
    if nodes is not None:
        hosts = [(node.host, node.port) for node in nodes.startup_nodes.values()]
        settings = nodes.connection_kwargs
        return _url("-cluster", hosts, "", settings, is_tls=bool(settings.get("ssl")))
    pool = getattr(client, "connection_pool", None)
    settings = getattr(pool, "connection_kwargs", None)
    if pool is None or settings is None:
        kind = type(client).__name__
        message = f"client is of the type {kind}; accepted: a URL, or a client of redis-py"
        raise TypeError(message)
    is_tls = any("SSL" in base.__name__ for base in pool.connection_class.__mro__)
    if hasattr(pool, "sentinel_manager"):
        sentinels = [
            (_settings(one)["host"], _settings(one)["port"])
            for one in pool.sentinel_manager.sentinels
        ]
        of_sentinels = _settings(pool.sentinel_manager.sentinels[0])
        login = {
            f"sentinel_{option}": _text(of_sentinels[setting])
            for option, setting in [("user", "username"), ("password", "password")]
            if of_sentinels.get(setting)
        }
        service = f"/{quote(pool.service_name)}"
        return _url("-sentinel", sentinels, service, settings, is_tls=is_tls, more=login)
    if "path" in settings:
        return _url("+unix", [], quote(settings["path"]), settings, is_tls=False)
    host = (settings.get("host", "localhost"), settings.get("port", 6379))
    return _url("", [host], "", settings, is_tls=is_tls)


def _settings(client: Any) -> dict[str, Any]:
    settings: dict[str, Any] = client.connection_pool.connection_kwargs
    return settings


def _text(login: object) -> str:
    """Return a user or a password as text: redis-py takes bytes too."""
    return login.decode() if isinstance(login, bytes) else str(login)


def _url(
    kind: str,
    hosts: list[tuple[str, int]],
    path: str,
    settings: dict[str, Any],
    *,
    is_tls: bool,
    more: dict[str, str] | None = None,
) -> str:
    for name in _NOT_IN_A_URL:
        if settings.get(name) is not None:
            message = f"client has {name}, which Tollgate cannot take from it; {_HOW}"
            raise ValueError(message)
    login = ""
    if settings.get("password"):
        user = quote(_text(settings.get("username") or ""), safe="")
        login = f"{user}:{quote(_text(settings['password']), safe='')}@"
    places = ",".join(
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts
    )
    options = {
        name: settings[setting]
        for name, setting in [
            ("ca", "ssl_ca_certs"),
            ("cert", "ssl_certfile"),
            ("key", "ssl_keyfile"),
        ]
        if settings.get(setting) is not None
    }
    if settings.get("db"):
        options["db"] = settings["db"]
    options |= more or {}
    scheme = ("rediss" if is_tls else "redis") + kind
    return f"{scheme}://{login}{places}{path}" + (f"?{urlencode(options)}" if options else "")


def _refuse_none(user: object, model: object) -> None:
    """Raise if one is None: other limits would be counted than those that are asked for."""
    for name, value in (("user", user), ("model", model)):
        if value is None:
            message = f"{name} is of the type NoneType; accepted: str"
            raise TypeError(message)


class _Shared:
    """What both classes have: the limiter, and what needs no waiting."""

    def __init__(
        self,
        client: object,
        max_requests: int = _DEFAULT_REQUESTS,
        window_seconds: float = _DEFAULT_WINDOW,
        *,
        algorithm: str = "sliding_window_log",
        name: str = "default",
        policies: str | PathLike[str] | None = None,
        catalog: str | None = None,
        api_key_secret: bytes | None = None,
        on_store_error: str = "allow",
        timeout: float | None = None,
    ) -> None:
        """Check the arguments. It connects with the first call in each process, or with `connect`.

        `client` is a URL or a client of redis-py. The limit is `max_requests` (100) in any
        `window_seconds` (3600) for each user and model, under the policy `name`; or the limits are
        those of the file `policies`, or of the database `catalog` of servers, whose changes are
        followed; then no limit may be given. Without an answer of Redis within `timeout` seconds
        (0.1 by default), `on_store_error` decides: `allow`, `deny` or `local`.
        """
        has_limit = not (
            isinstance(max_requests, _Default) and isinstance(window_seconds, _Default)
        )
        has_limit = has_limit or (algorithm, name) != ("sliding_window_log", "default")
        source = "policies" if policies is not None else "catalog"
        if has_limit and (policies is not None or catalog is not None):
            message = f"a limit is given beside {source}, which has the limits; accepted: either"
            raise ValueError(message)
        self._limiter = SharedLimiter(
            url_of(client),
            max_requests.value if isinstance(max_requests, _Default) else max_requests,
            window_seconds.value if isinstance(window_seconds, _Default) else window_seconds,
            algorithm,
            name,
            policies,
            catalog,
            api_key_secret,
            on_store_error,
            timeout,
        )

    def __repr__(self) -> str:
        """Name the limits and the Redis, without its password."""
        return repr(self._limiter).replace("SharedLimiter", type(self).__name__, 1)

    def get_metrics(self) -> SharedMetrics:
        """Return how many checks of this process were allowed and denied."""
        return self._limiter.get_metrics()

    def reset_metrics(self) -> SharedMetrics:
        """Count from 0 again, and return the metrics until now."""
        return self._limiter.reset_metrics()

    @property
    def breaker_state(self) -> str | None:
        """`closed` while Redis decides, `open` or `half_open` while it fails; None at first."""
        return self._limiter.breaker_state()


class RedisRateLimiter(_Shared):
    """Limits shared with Tollgate servers and other processes, in Redis or Valkey.

    It counts exactly as a server over the same Redis with the same policies does. A call waits for
    Redis without Python's lock; for async code there is `AsyncRedisRateLimiter`.
    """

    def connect(self) -> None:
        """Connect and read the policies now. A Redis that does not answer is no error."""
        self._limiter.connect()

    def allow(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> bool:
        """Return whether the check is admitted; if it is, it is charged."""
        return self._limiter.check(user, model, cost, **others).allowed

    def check(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> Decision:
        """Decide the check, and charge it if it is admitted, once if it has a `request_id`."""
        return self._limiter.check(user, model, cost, **others)

    def peek(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> Decision:
        """Return the decision that `check` would make now; charge nothing."""
        return self._limiter.peek(user, model, cost, **others)

    def reserve(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        *,
        ttl: float | None = None,
        **others: Unpack[SubjectArguments],
    ) -> Lease:
        """Decide the check like `check`; a lease holds what it reserved for `ttl` seconds (30).

        Raises `RateLimitExceeded` if it is denied.
        """
        return self._limiter.reserve(user, model, cost, ttl=ttl, **others)

    def reset(
        self, user: str | None = None, model: str | None = None, **others: Unpack[CheckArguments]
    ) -> list[str]:
        """Clear the usage of every limit that the check meets, and return their policies."""
        return self._limiter.reset(user, model, **others)

    def reset_user(
        self, user: str, models: Iterable[str], **others: Unpack[CheckArguments]
    ) -> list[str]:
        """Clear what `user` has used of each of `models`, for all processes; return the policies.

        Redis cannot list the models of a user, so they are named, at most 1,000: of others, usage
        under limits per user and model stays. So does what all users share, such as the limit of a
        model. `others` are those of `check`, such as the user's `tenant`. Raises `StoreError` if
        Redis does not answer; it may be called again.
        """
        return self._limiter.reset_user(user, models, **others)

    def get_request_count(self, user: str, model: str) -> int:
        """Return what is used of the closest limit of `user` on `model`."""
        _refuse_none(user, model)
        return self._limiter.peek(user, model, cost=0).count


class AsyncRedisRateLimiter(_Shared):
    """`RedisRateLimiter` for asyncio: the loop never waits for Redis.

    Checks of many tasks are sent together. A task that is cancelled does not take its check back.
    """

    async def connect(self) -> None:
        """Connect and read the policies now. A Redis that does not answer is no error."""
        await self._limiter.connect_async()

    async def allow(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> bool:
        """See `RedisRateLimiter.allow`."""
        return (await self._limiter.check_async(user, model, cost, **others)).allowed

    async def check(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> Decision:
        """See `RedisRateLimiter.check`."""
        return await self._limiter.check_async(user, model, cost, **others)

    async def peek(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        **others: Unpack[SubjectArguments],
    ) -> Decision:
        """See `RedisRateLimiter.peek`."""
        return await self._limiter.peek_async(user, model, cost, **others)

    def reserve(
        self,
        user: str | None = None,
        model: str | None = None,
        cost: Cost = None,
        *,
        ttl: float | None = None,
        **others: Unpack[SubjectArguments],
    ) -> AsyncReservation[AsyncLease]:
        """See `RedisRateLimiter.reserve`: `async with limiter.reserve(…) as lease`."""

        async def reserve() -> AsyncLease:
            return AsyncLease(
                await self._limiter.reserve_async(user, model, cost, ttl=ttl, **others)
            )

        return AsyncReservation(reserve)

    async def reset(
        self, user: str | None = None, model: str | None = None, **others: Unpack[CheckArguments]
    ) -> list[str]:
        """See `RedisRateLimiter.reset`."""
        return await self._limiter.reset_async(user, model, **others)

    async def reset_user(
        self, user: str, models: Iterable[str], **others: Unpack[CheckArguments]
    ) -> list[str]:
        """See `RedisRateLimiter.reset_user`."""
        return await self._limiter.reset_user_async(user, models, **others)

    async def get_request_count(self, user: str, model: str) -> int:
        """See `RedisRateLimiter.get_request_count`."""
        _refuse_none(user, model)
        return (await self._limiter.peek_async(user, model, cost=0)).count
